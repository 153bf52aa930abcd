"""Limits, counted loops, associative scans, vmap through control flow, effects, threads."""

import threading

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.modes import in_every_mode


@in_every_mode
@pytest.mark.parametrize("limit", [0, 3])
def test_a_limit_may_be_a_tensor(mode, limit):
    def f(x, most):
        y = x * np.arange(3.0)  # the condition would read beyond the end
        return gg.while_loop(
            lambda i, s: y[i] >= 0, lambda i, s: (i + 1, s + y[i] * s), (0, x),
            maximum_iterations=most,
        )  # fmt: skip

    for most in (limit, gg.constant(limit)):
        i, s = mode(f)(gg.constant(2.0), most)
        assert (int(i), float(s)) == (limit, [2.0, 2 * 1 * 3 * 5][limit > 0])
    g = mode(gg.grad(lambda x, most: f(x, most)[1]))(gg.constant(2.0), gg.constant(limit))
    assert float(g) == [1.0, 15 + 2 * (1 * 5 + 3 * 2)][limit > 0]


@in_every_mode
def test_branches_may_return_none(mode):
    f = mode(lambda x: gg.cond(x > 0, lambda: (x, None), lambda: (-x, None)))
    assert [(float(y), none) for y, none in map(f, gg.constant([2.0, -3.0]))] == [
        (2, None),
        (3, None),
    ]
    assert mode(lambda x: gg.cond(x > 0, lambda: None, lambda: None))(gg.constant(1.0)) is None


def test_none_in_one_branch_only():
    f = gg.function(lambda x: gg.cond(x > 0, lambda: (x, None), lambda: (x, x)))
    with pytest.raises(gg.errors.ArgumentError, match=r"differ at \[1\]: one of them is None"):
        f(gg.constant(1.0))


@in_every_mode
def test_fori_loop(mode):
    def f(x, n):
        return gg.fori_loop(1, n, lambda i, p: {"y": p["y"] * x + gg.cast(i, x.dtype)}, {"y": x})[
            "y"
        ]

    for n in (4, 1, 0):
        wanted, slope = 3.0, 1.0
        for i in range(1, n):
            wanted, slope = wanted * 3 + i, slope * 3 + wanted
        for end in (n, gg.constant(n)):
            assert float(mode(f)(gg.constant(3.0), end)) == wanted
            assert float(mode(gg.grad(lambda x, n: f(x, n)))(gg.constant(3.0), end)) == slope
    with pytest.raises(gg.errors.ArgumentError, match="a bound is one integer, got f32"):
        gg.fori_loop(0, 1.5, lambda i, x: x, 0)


@in_every_mode
def test_loops_over_no_elements(mode):
    none = gg.zeros([0, 3])
    assert mode(lambda x: gg.map_fn(lambda r: gg.cast(r[:2], gg.float64), x))(none).shape == (0, 2)
    assert mode(lambda x: gg.scan(lambda a, r: a + r[0], x, 1.0))(none).shape == (0,)
    assert float(mode(lambda x: gg.foldl(lambda a, r: a + r[0], x, 1.0))(none)) == 1


def test_the_signature_of_map_fn_is_checked():
    x = gg.ones([2, 3])
    spec = {"a": gg.TensorSpec([3], gg.float32)}
    assert gg.map_fn(lambda r: {"a": r}, x, fn_output_signature=spec)["a"].shape == (2, 3)
    with pytest.raises(gg.errors.DTypeError, match=r"gives f32\[3\], declared is int32"):
        gg.map_fn(lambda r: r, x, fn_output_signature=gg.int32)
    with pytest.raises(gg.errors.ShapeError, match=r"declared is the shape \(4,\)"):
        gg.map_fn(lambda r: r, x, fn_output_signature=gg.TensorSpec([4], gg.float32))


def derivatives(loss, x):
    first = gg.grad(loss)
    return (
        first(x),
        gg.grad(lambda x: gg.reduce_sum(first(x)))(x),
        gg.jvp(loss, (x,), (gg.cos(x),))[1],
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_associative_scan(n, reverse):
    rng = np.random.default_rng(n)
    parts = rng.normal(size=(n, 2, 2))
    order = parts[::-1] if reverse else parts
    wanted = [order[0]]
    for p in order[1:]:
        wanted.append(wanted[-1] @ p)
    scan = lambda x: gg.associative_scan(gg.matmul, x, reverse=reverse)  # noqa: E731
    spec = gg.TensorSpec([None, 2, 2], gg.float64)
    modes = [scan, gg.function(scan), gg.function(scan, input_signature=[spec])]
    slopes = []
    for f in modes:
        np.testing.assert_allclose(f(gg.constant(parts)), wanted[::-1] if reverse else wanted)
        slopes.append(derivatives(lambda x, f=f: gg.reduce_sum(gg.sin(f(x))), gg.constant(parts)))
    for found in slopes[1:]:
        for a, b in zip(found, slopes[0]):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    many = rng.normal(size=(3, n, 2, 2))
    along = gg.associative_scan(gg.matmul, gg.constant(many), reverse=reverse, axis=1)
    np.testing.assert_allclose(gg.vmap(scan)(gg.constant(many)), along)


def test_associative_scan_says_what_is_wrong():
    with pytest.raises(gg.errors.ShapeError, match="the sizes along axis 0 differ"):
        gg.associative_scan(lambda a, b: a, (gg.ones(2), gg.ones(3)))
    with pytest.raises(gg.errors.ShapeError, match="it is to return what it takes"):
        gg.associative_scan(lambda a, b: a[:0], gg.ones(2))


def until(x, n):
    """Reads beyond the end, were a step made too many."""
    start = (0, gg.constant(0.0, gg.float64))
    return gg.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, s + x[i] * x[i]), start)[1]


def divided(x, n):
    """Divides by zero in the branch that is not taken."""
    return gg.cond(n > 0, lambda: x * gg.cast(12 // n, gg.float64), lambda: x + 1.0)


def repeated(x, n):
    """Would never end for examples that do not take the branch."""
    loop = lambda: gg.while_loop(lambda i, y: i != n, lambda i, y: (i + 1, gg.sin(y)), (0, x))[1]  # noqa: E731
    return gg.cond(n >= 0, loop, lambda: x * x)


@pytest.mark.parametrize("f", [until, divided, repeated])
def test_what_an_example_does_not_take_does_not_happen(f):
    x = gg.constant(np.arange(12.0).reshape(3, 4) + 1)
    n = gg.constant([4, 2, -1] if f is repeated else [4, 2, 0])
    wanted = np.stack([f(a, b).numpy() for a, b in zip(x, n)])
    loss = lambda x: gg.reduce_sum(gg.sin(gg.vmap(f)(x, n)))  # noqa: E731
    one = gg.grad(lambda x, n: gg.reduce_sum(gg.sin(f(x, n))))
    slopes = np.stack([one(a, b).numpy() for a, b in zip(x, n)])
    for wrap in (lambda g: g, gg.function):
        np.testing.assert_allclose(wrap(gg.vmap(f))(x, n), wanted)
        np.testing.assert_allclose(wrap(gg.grad(loss))(x), slopes)
        np.testing.assert_allclose(wrap(gg.vmap(one))(x, n), slopes)


@in_every_mode
def test_effects_happen_once_and_in_order(mode, capfd):
    v = gg.Variable(2.0)

    def f(n):
        def body(i, y):
            gg.print("step", i)
            v.assign_add(1.0)
            return i + 1, gg.cond(i > 0, lambda: (gg.print("in"), y * v)[1], lambda: y)

        with gg.GradientTape() as tape:
            y = gg.while_loop(lambda i, y: i < n, body, [gg.constant(0), 1.0])[1]
        return y, tape.gradient(y, v)

    y, g = mode(f)(gg.constant(2))
    assert capfd.readouterr().err == "step 0\nstep 1\nin\n"
    assert [float(y), float(g), float(v)] == [4, 1, 4]


def test_examples_print_only_where_they_take_the_branch(capfd):
    f = lambda x: gg.cond(x > 1, lambda: (gg.print("taken", x), x)[1], lambda: -x)  # noqa: E731
    assert gg.vmap(f)(gg.constant([2.0, 1.0, 3.0])).numpy().tolist() == [2, -1, 3]
    assert capfd.readouterr().err == "taken 2\ntaken 3\n"


def test_many_threads_differentiate_one_function():
    f = gg.function(lambda x, n: gg.while_loop(
        lambda i, y: i < n, lambda i, y: (i + 1, gg.concat([y, gg.sin(y[-1:]) * x], 0)),
        (0, gg.reshape(x, [1])), shape_invariants=(None, [None]),
    )[1])  # fmt: skip
    inside = gg.function(gg.grad(lambda x, n: gg.reduce_sum(f(x, n))))

    def outside(x, n):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.reduce_sum(f(x, n))
        return tape.gradient(y, x)

    jobs = [(gg.constant(0.1 * k), gg.constant(k % 4)) for k in range(12)]
    wanted = [float(gg.grad(lambda x, n: gg.reduce_sum(f.python_function(x, n)))(*j)) for j in jobs]
    found: list = [None] * 2 * len(jobs)

    def work(k):
        found[k] = float((inside, outside)[k % 2](*jobs[k // 2]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(found))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    np.testing.assert_allclose(found, np.repeat(wanted, 2), rtol=1e-6)


def blocks(x, n):
    s = x[0] * 0.0
    for k in range(n):
        s = s * 0.5 + gg.reduce_sum(x[k : k + 1]) * x[0]
    return s


def test_indices_that_examples_share_are_stacked_once():
    """Else each example would gather rows of its own, and could not cut a block of a known size."""
    many, n = gg.constant(np.arange(6.0).reshape(2, 3)), gg.constant(2)
    wanted = np.stack([gg.function(gg.grad(blocks))(x, n).numpy() for x in many])
    f = gg.function(gg.vmap(gg.grad(blocks), in_axes=(0, None)))
    np.testing.assert_array_equal(f(many, n), wanted)
    np.testing.assert_array_equal(wanted[0], [1.0, 0.0, 0.0])


def test_functions_of_functions_have_no_state_of_theirs():
    scale = [2.0]
    inner = gg.function(lambda x: x * x * scale[0])
    slope = gg.function(gg.grad(inner))
    assert float(slope(gg.constant(3.0))) == 12
    scale[0] = 3.0
    assert float(slope(gg.constant(3.0))) == 18
    assert slope.experimental_get_tracing_count() == 2
    assert not hasattr(gg.grad(inner), "_python_function")
