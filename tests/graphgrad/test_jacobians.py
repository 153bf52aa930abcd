"""Jacobians and Hessians, by tapes and as functions."""

import collections

import numpy as np
import pytest

import graphgrad as gg
from graphgrad import batching, tape_jacobians
from tests.graphgrad.modes import called, in_every_mode

RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 3))


def curved(x):
    return gg.tanh(gg.reshape(gg.reshape(x, (1, -1)) @ W, (-1,))) * x


def curved_jacobian(x):
    u = x @ W
    return np.diag(np.tanh(u)) + (x / np.cosh(u) ** 2)[:, None] * W.T


def loop(f, x, shape):
    """The Jacobian, one gradient a row."""
    rows = []
    for i in range(int(np.prod(shape))):
        seed = np.zeros(shape, x.numpy().dtype)
        seed.flat[i] = 1
        rows.append(gg.vjp(f, x)[1](gg.constant(seed))[0].numpy())
    return np.stack(rows).reshape(*shape, *x.shape)


@in_every_mode
@called
def test_tape_jacobian(mode, wrap):
    f = wrap(curved)

    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.jacobian(y, x)

    g = mode(run)
    for x in RNG.standard_normal((6, 3)):  # walked, kept, compiled
        np.testing.assert_allclose(g(gg.constant(x)), curved_jacobian(x), rtol=1e-6)


@in_every_mode
def test_hessian_by_nested_tapes(mode):
    v = gg.Variable([1.0, 2.0])

    def run(x):
        with gg.GradientTape() as outer:
            outer.watch(x)
            with gg.GradientTape() as inner:
                inner.watch(x)
                y = gg.reduce_sum(x**3 * v) * x[0]
            gradient = inner.gradient(y, x)
        return outer.jacobian(gradient, {"x": x, "v": [v]})

    g = mode(run)
    for a, b in RNG.standard_normal((6, 2)).astype(np.float32):
        found = g(gg.constant([a, b]))
        hessian = [[12 * a**2, 6 * b**2], [6 * b**2, 12 * a * b]]
        np.testing.assert_allclose(found["x"], hessian, rtol=1e-4, atol=1e-5)
        mixed = [[4 * a**3, b**3], [0, 3 * a * b**2]]
        np.testing.assert_allclose(found["v"][0], mixed, rtol=1e-4, atol=1e-5)


@in_every_mode
def test_tape_batch_jacobian(mode):
    def run(x):
        with gg.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = gg.tanh(x @ gg.constant(W)) * x
            z = gg.reduce_sum(x * x, 1)
        return tape.batch_jacobian(y, x), tape.batch_jacobian(z, x), tape.batch_jacobian(
            gg.ones((4, 2)), x, "zero"
        )  # fmt: skip

    g = mode(run)
    for _ in range(3):
        x = RNG.standard_normal((4, 3))
        wide, flat, zero = g(gg.constant(x))
        np.testing.assert_allclose(wide, [curved_jacobian(row) for row in x], rtol=1e-6)
        np.testing.assert_allclose(flat, 2 * x)
        np.testing.assert_array_equal(zero, np.zeros((4, 2, 3)))


def test_unconnected_sources_and_none():
    x, y = gg.constant([1.0, 2.0]), gg.constant([3.0])
    with gg.GradientTape(persistent=True) as tape:
        tape.watch([x, y])
        z = x * x
    found = tape.jacobian(z, {"x": x, "y": y, "n": None})
    assert found["y"] is None
    assert found["n"] is None
    assert tape.jacobian(z, [y], unconnected_gradients="zero")[0].shape == (2, 1)
    assert tape.jacobian(gg.constant([1.0]), x) is None
    np.testing.assert_array_equal(tape.jacobian(x, x), np.eye(2))
    assert tape.jacobian(gg.zeros((0, 2)), x, "zero").shape == (0, 2, 2)


def test_wrong_targets():
    x = gg.constant([1.0, 2.0])
    with gg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y, z = gg.reduce_sum(x), x * x
    with pytest.raises(TypeError, match=r"jacobian: the target is to be one tensor, got a list"):
        tape.jacobian([y], x)
    with pytest.raises(ValueError, match="batch_jacobian: the target is one number"):
        tape.batch_jacobian(y, x)
    with pytest.raises(ValueError, match="batch_jacobian: the source is one number"):
        tape.batch_jacobian(x, y)
    with pytest.raises(ValueError, match="parallel_iterations is to be at least 1, got 0"):
        tape.jacobian(z, x, parallel_iterations=0)


def test_a_structure_is_traced_once(monkeypatch):
    traced = []
    original = batching.Builder.tracing
    monkeypatch.setattr(
        batching.Builder, "tracing", lambda self: (traced.append(self.name), original(self))[1]
    )
    x = gg.constant(RNG.standard_normal(3))
    counts = []
    for _ in range(7):
        del traced[:]
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.sin(x) * gg.exp(x) + gg.cos(x)
        tape.jacobian(y, x)
        counts.append(len(traced))
    assert counts[:2] == [2, 2]  # the walk and its batch, the second time to be kept
    assert counts[2:] == [0] * 5


def test_a_kept_structure_minds_what_differs():
    """The same operations, on other values: sources, shapes, dtypes, constants, attributes."""
    x, y = gg.constant([1.0, 2.0]), gg.constant([3.0, 5.0])

    def jacobian(target, source, *watched):
        with gg.GradientTape() as tape:
            tape.watch(list(watched))
            z = target()
        return tape.jacobian(z, source)

    a, b = gg.constant([1.0, 2.0, 3.0]), gg.constant([1.0, 2.0], gg.float64)
    m = gg.constant(np.arange(4.0).reshape(2, 2))
    for _ in range(6):
        np.testing.assert_array_equal(jacobian(lambda: x * y, x, x, y), np.diag([3, 5]))
        np.testing.assert_array_equal(jacobian(lambda: x * y, y, x, y), np.diag([1, 2]))
        np.testing.assert_array_equal(jacobian(lambda: x * x, x, x), np.diag([2, 4]))
        np.testing.assert_array_equal(jacobian(lambda: a * a, a, a), np.diag([2, 4, 6]))
        assert jacobian(lambda: b * b, b, b).dtype == gg.float64
        first = jacobian(lambda: gg.reduce_sum(m, 0), m, m)
        second = jacobian(lambda: gg.reduce_sum(m, 1), m, m)
        assert not np.array_equal(first, second)


def test_blocks_of_rows_give_the_same():
    x = gg.constant(RNG.standard_normal(5))
    f = gg.function(lambda x: chunked(x, 2))

    def chunked(x, count):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.sin(x) * x[0]
        return tape.jacobian(y, x, parallel_iterations=count)

    whole = chunked(x, None)
    for count in (1, 2, 5, 100):
        np.testing.assert_array_equal(chunked(x, count), whole)
    np.testing.assert_allclose(f(x), whole)
    for transform in (gg.jacrev, gg.jacfwd):
        found = transform(lambda x: gg.sin(x) * x[0], chunk_size=2)(x)
        np.testing.assert_allclose(found, whole, rtol=1e-12)


P = collections.namedtuple("P", "a b")


def model(p):
    u = gg.tanh(p.a) * p.b[0]
    return {"u": u, "rest": (gg.reduce_sum(u), None)}


@in_every_mode
@pytest.mark.parametrize("transform", [gg.jacrev, gg.jacfwd])
def test_structures_of_jacobians(mode, transform):
    a, b = RNG.standard_normal(3), 2.0

    def run(a, b):
        return transform(model)(P(a, [b, None]))

    found = mode(run)(gg.constant(a), gg.constant(b, gg.float64))
    slope = np.diag(b / np.cosh(a) ** 2)
    np.testing.assert_allclose(found["u"].a, slope)
    np.testing.assert_allclose(found["u"].b[0], np.tanh(a))
    np.testing.assert_allclose(found["rest"][0].a, slope.sum(0))
    np.testing.assert_allclose(found["rest"][0].b[0], np.tanh(a).sum())
    assert found["u"].b[1] is None
    assert found["rest"][1] is None


@in_every_mode
def test_hessian(mode):
    def f(p, scale):
        return gg.reduce_sum(p["x"] ** 3) * p["y"] * scale

    p = {"x": gg.constant([1.0, 2.0]), "y": gg.constant(3.0)}
    found = mode(lambda p: gg.hessian(f, argnums=0)(p, scale=2.0))(p)
    np.testing.assert_allclose(found["x"]["x"], np.diag([36, 72]))
    np.testing.assert_allclose(found["x"]["y"], [6, 24])
    np.testing.assert_allclose(found["y"]["x"], [6, 24])
    np.testing.assert_allclose(found["y"]["y"], 0)


@in_every_mode
def test_hessian_of_mixed_dtypes(mode):
    def f(p):
        return gg.reduce_sum(gg.cast(p["a"], gg.float64) * p["b"] ** 2)

    p = {"a": gg.constant([1.0, 2.0]), "b": gg.constant(3.0, gg.float64)}
    found = mode(gg.hessian(f))(p)
    np.testing.assert_allclose(found["a"]["b"], [6, 6])
    assert [found[i][j].dtype for i, j in ("aa", "ab", "ba", "bb")] == [
        gg.float32, gg.float32, gg.float64, gg.float64
    ]  # fmt: skip


def test_hessian_of_several_results_and_arguments():
    found = gg.hessian(lambda x, y: gg.stack([x * x * y, y**3]), argnums=(0, 1))(2.0, 3.0)
    np.testing.assert_allclose(
        [[g for g in row] for row in found], [[[6, 0], [4, 0]], [[4, 0], [0, 18]]]
    )


def test_composed():
    x = gg.constant(RNG.standard_normal((4, 3)))
    per_example = gg.vmap(gg.jacrev(curved))(x)
    np.testing.assert_allclose(per_example, [curved_jacobian(r) for r in x.numpy()], rtol=1e-6)
    per_example = gg.vmap(gg.hessian(lambda r: gg.reduce_sum(r**3)))(x)
    np.testing.assert_allclose(per_example, [np.diag(6 * r) for r in x.numpy()])
    for transform in (gg.jacrev, gg.jacfwd):
        slopes = transform(lambda v: v**3)
        total = gg.grad(lambda r, slopes=slopes: gg.reduce_sum(slopes(r)))(x[0])
        np.testing.assert_allclose(total, 6 * x.numpy()[0])
    f = gg.function(lambda r: gg.sin(r) * r[0])
    np.testing.assert_allclose(gg.jacfwd(f)(x[0]), loop(f, x[0], (3,)))
    np.testing.assert_allclose(gg.jacrev(f)(x[0]), loop(f, x[0], (3,)))


def test_has_aux_and_errors():
    for transform in (gg.jacrev, gg.jacfwd):
        jacobian, aux = transform(lambda x: (x * x, "more"), has_aux=True)(1.0)
        assert (float(jacobian), aux) == (2, "more")
        with pytest.raises(TypeError, match=r"the result holds i32\[\], and only floats"):
            transform(lambda x: gg.cast(x, gg.int32))(1.0)
        with pytest.raises(TypeError, match="argument 0 is int32, and only floats and comp"):
            transform(lambda x: x)(1)
        with pytest.raises(ValueError, match="argument 2 is asked for, the call has 1"):
            transform(lambda x: x, argnums=2)(1.0)
    with pytest.raises(ValueError, match="chunk_size is to be at least 1, got -1"):
        gg.jacfwd(lambda x: x, chunk_size=-1)(gg.ones(3))


def test_hvp():
    x, v = gg.constant([1.0, 2.0]), gg.constant([1.0, 10.0])
    f = lambda x: gg.reduce_sum(x**3)  # noqa: E731
    np.testing.assert_allclose(gg.hvp(f, x, v), [6, 120])
    np.testing.assert_allclose(gg.function(lambda x, v: gg.hvp(f, x, v))(x, v), [6, 120])
    np.testing.assert_allclose(gg.hvp(gg.function(f), x, v), [6, 120])
    dx, dy = gg.hvp(lambda x, y: gg.reduce_sum(x * x) * y, (x, 3.0), (v, 0.0))
    np.testing.assert_allclose(dx, [6, 60])
    np.testing.assert_allclose(dy, 2 + 40)
    np.testing.assert_allclose(gg.hvp(lambda p: f(p["x"]), {"x": x}, {"x": v})["x"], [6, 120])


@in_every_mode
def test_linearize(mode):
    def run(x, v, w):
        calls = []
        y, push = gg.linearize(lambda x: (calls.append(1), gg.sin(x) * x)[1], x)
        return y, push(v), push(w), len(calls)

    x, v, w = RNG.standard_normal((3, 4))
    y, first, second, calls = mode(run)(*map(gg.constant, (x, v, w)))
    slope = np.cos(x) * x + np.sin(x)
    np.testing.assert_allclose(y, np.sin(x) * x)
    np.testing.assert_allclose([first, second], [slope * v, slope * w])
    assert calls == 1


@in_every_mode
def test_linear_transpose(mode):
    def run(x, g):
        return gg.linear_transpose(
            lambda p: {"y": gg.cumsum(p["x"]) * 2, "z": p["x"][0]}, {"x": x}
        )({"y": g, "z": 100.0})[0]["x"]

    np.testing.assert_allclose(
        mode(run)(gg.constant([5.0, 7.0]), gg.constant([1.0, 10.0])), [122, 20]
    )


def test_linear_transpose_of_what_is_not_linear():
    with pytest.raises(ValueError, match="not linear: its derivative depends on the argument"):
        gg.linear_transpose(lambda x: x * x, gg.ones(2))
    with pytest.raises(ValueError, match=r"not linear: f\(0\) is not 0"):
        gg.linear_transpose(lambda x: x + 1, gg.ones(2))


def test_forget_what_is_too_much(monkeypatch):
    monkeypatch.setattr(tape_jacobians, "_known", tape_jacobians._Known())
    monkeypatch.setattr(tape_jacobians, "FAMILIES", 2)
    monkeypatch.setattr(tape_jacobians, "VARIANTS", 1)
    for ops in (gg.sin, gg.cos, gg.exp, gg.tanh) * 3:
        for n in (2, 3):
            x = gg.ones(n)
            with gg.GradientTape() as tape:
                tape.watch(x)
                y = ops(ops(x))
            assert tape.jacobian(y, x).shape == (n, n)
    assert len(tape_jacobians._known.families) <= 2


COMPOSITES = {
    "segments": lambda x: gg.math.unsorted_segment_sum(x * x, [0, 2, 2, 1, 0], 3),
    "ascending segments": lambda x: gg.math.segment_max(x * x, [0, 0, 1, 1, 2]),
    "products": lambda x: gg.math.cumprod(x),
    "scatters": lambda x: gg.scatter_nd([[1], [1], [2], [0], [3]], x * x, [4]),
}


@pytest.mark.parametrize("f", COMPOSITES.values(), ids=COMPOSITES)
def test_jacobians_of_composites(f):
    """Their parts are made in the trace of one row, from values that lie outside of it."""
    x = gg.constant(np.arange(1.0, 6.0))
    with gg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = f(x)
    expected = np.array(
        [tape.gradient(y, x, gg.constant(row)).numpy() for row in np.eye(y.shape[0])]
    )
    assert np.abs(expected).max() > 0
    for found in (tape.jacobian(y, x), gg.jacfwd(f)(x), gg.jacrev(f)(x),
                  gg.jacrev(gg.function(f))(x)):  # fmt: skip
        np.testing.assert_allclose(found, expected)
