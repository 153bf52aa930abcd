"""Loops whose state changes its size: values and derivatives against the same loop run eagerly."""

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.arrays import Growable

X = np.array([0.5, 1.2, 0.9, 0.4])


def repeated(x, n, body, *start, **options):
    return gg.while_loop(
        lambda i, *state: i < n, lambda i, *state: (i + 1, *body(i, *state)), (0, *start), **options
    )[1:]


def vector(x, n, body):
    return repeated(x, n, lambda i, y: [body(y)], x, shape_invariants=(None, [None]))[0]


def appended_and_read(x, n):
    def body(i, xs, s):
        xs = xs.appended(x * s)
        return xs, s + xs[-1][0] * xs[i // 2][1]

    xs, s = repeated(x, n, body, Growable.of([x]), gg.constant(1.0, gg.float64))
    return xs.stack() * s


def appended_sometimes(x, n):
    def body(i, xs, s):
        return gg.cond(i % 2 == 0, lambda: xs.appended(x * s), lambda: xs), s * x[0]

    xs, s = repeated(x, n, body, Growable.of([x]), gg.constant(1.0, gg.float64))
    return xs.concat() * s


def popped(x, n):
    def body(i, xs, s):
        xs, y = xs.popped()
        xs, z = xs.appended(y * s).appended(gg.sin(y)).popped(0)
        return xs.set(0, z * y), gg.reduce_sum(y * z)

    return repeated(x, n, body, Growable.of([x, x * x]), gg.constant(1.0, gg.float64))[0].stack()


def pairs(x, n):
    """An empty list of structures, whose types the body tells."""
    xs = repeated(x, n, lambda i, xs, y: (xs.appended({"a": y, "b": y[0] * i}), gg.sin(y)),
                  Growable.of([]), x)[0]  # fmt: skip
    found = xs.stack()
    return gg.concat([gg.reshape(found["a"], [-1]), found["b"], x], 0)


def history(x, n):
    """Every step reads all that came before."""
    body = lambda i, xs: [xs.appended(gg.reduce_sum(gg.sin(xs.stack()), 0))]  # noqa: E731
    return repeated(x, n, body, Growable.of([x]))[0].stack()


def written(x, n):
    def body(i, a):
        before = a.read(gg.maximum(i - 1, 0))[0]
        return [a.write(i, x * gg.cast(i, gg.float64) * before + gg.sin(x))]

    array = gg.TensorArray(gg.float64, size=4, element_shape=[4])
    return repeated(x, n, body, array.write(0, x))[0].stack()


def written_beyond(x, n):
    array = gg.TensorArray(gg.float64, size=0, dynamic_size=True)
    body = lambda i, a: [a.write(2 * i, x * gg.cast(i, gg.float64))]  # noqa: E731
    return gg.concat([repeated(x, n, body, array)[0].concat(), x], 0)


def nested(x, n):
    """A list that grows in a loop within a loop."""

    def body(i, xs):
        return repeated(x, i, lambda j, ys: [ys.appended(gg.sin(ys[-1]) * x)], xs)

    return repeated(x, n, body, Growable.of([x]))[0].stack()


def over_elements(x, n):
    """A list that grows while a scan goes over slices, whose length is a run-time size."""
    rows = gg.repeat(x[None], gg.reshape(n, [1]), 0)
    from graphgrad.control import scan_loop

    (xs, _), _ = scan_loop(
        lambda state, r: ((state[0].appended(r * state[1]), gg.sin(state[1] * r)), ()),
        (Growable.of([x]), x), rows, reverse=True,
    )  # fmt: skip
    return xs.stack()


GROWING = {
    "concat": lambda x, n: vector(x, n, lambda y: gg.concat([y, y[-1:] * x[:1]], 0)),
    "doubled": lambda x, n: vector(x, n, lambda y: gg.concat([y, gg.sin(y)], 0)),
    "shorter": lambda x, n: vector(x, n, lambda y: gg.sin(y[1:]) * y[0]),
    "masked": lambda x, n: vector(x, n, lambda y: gg.boolean_mask(gg.sin(y) * 2, y > 0.45)),
    "appended and read": appended_and_read,
    "appended sometimes": appended_sometimes,
    "popped": popped,
    "pairs": pairs,
    "history": history,
    "written": written,
    "written beyond": written_beyond,
    "nested": nested,
    "over elements": over_elements,
}


def derivatives(f):
    """The value, the gradient, a product with the Hessian, and a directional derivative."""

    def loss(x, n):
        y = gg.reshape(f(x, n), [-1])
        weights = gg.cos(gg.cast(gg.range(gg.size(y)), gg.float64))
        return gg.reduce_sum(gg.sin(y) * weights)

    gradient = gg.grad(loss)
    slope = gg.grad(lambda x, n: gg.reduce_sum(gradient(x, n) * np.array([1.0, 2, 3, 4])))
    ahead = lambda x, n: gg.jvp(lambda x: loss(x, n), (x,), (gg.cos(x),))[1]  # noqa: E731
    return {"value": loss, "gradient": gradient, "second": slope, "forward": ahead}, gg.grad, loss


@pytest.mark.parametrize("name", GROWING)
def test_derivatives_are_those_of_the_python_loop(name):
    found, grad, loss = derivatives(GROWING[name])
    compiled = {what: gg.function(f) for what, f in found.items()}
    around = grad(gg.function(loss))  # a tape around the call
    x = gg.constant(X)
    for trips in (0, 1, 3):
        n = gg.constant(trips)
        for what, f in found.items():
            close = {"rtol": 1e-10, "atol": 1e-12, "err_msg": f"{what} of {trips} trips"}
            np.testing.assert_allclose(compiled[what](x, n), f(x, n), **close)
        np.testing.assert_allclose(around(x, n), found["gradient"](x, n), rtol=1e-10, atol=1e-12)
    for f in compiled.values():
        assert f.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("name", ["concat", "history", "popped", "written"])
def test_the_gradient_is_that_of_differences(name):
    _, grad, loss = derivatives(GROWING[name])
    f, n = gg.function(loss), gg.constant(3)
    numeric = [(f(X + d, n) - f(X - d, n)).numpy() / 2e-6 for d in np.eye(4) * 1e-6]
    np.testing.assert_allclose(gg.function(grad(loss))(X, n), numeric, rtol=1e-7)


@pytest.mark.parametrize("name", [k for k in GROWING if k not in ("masked", "over elements")])
def test_many_at_once_are_a_python_loop(name):
    many, n = np.stack([X, X[::-1], X * 1.1]), gg.constant(2)
    f = GROWING[name]
    loop = np.stack([f(gg.constant(x), n).numpy() for x in many])
    np.testing.assert_allclose(gg.function(gg.vmap(lambda x: f(x, n)))(many), loop, rtol=1e-12)


def test_examples_that_grow_to_different_sizes_are_refused():
    f = gg.vmap(lambda x, n: GROWING["concat"](x, n))
    with pytest.raises(gg.errors.TraceError, match="a loop variable changes its size"):
        f(gg.zeros([2, 4], gg.float64), gg.constant([1, 2]))


def residuals(f):
    """The types of what the loop of a gradient stacks."""
    g = gg.function(lambda x: gg.grad(lambda x: gg.reduce_sum(f(x, gg.constant(5))))(x))
    graph = g.get_concrete_function(gg.constant(X)).graph
    (node,) = [n for n in graph.nodes if n.op.name == "while_loop"]
    return [v.type for v in node.outputs[node.attrs["carried"] :]], node.attrs


def test_a_list_leaves_no_history():
    """The reverse of reads and writes keeps indices and the elements that were read."""
    stacks, _ = residuals(appended_and_read)
    assert all(t.ndim == 1 for t in stacks), stacks


def test_what_is_only_appended_is_not_carried():
    _, attrs = residuals(
        lambda x, n: repeated(
            x, n, lambda i, xs, y: (xs.appended(y), gg.sin(y)), Growable.of([]), x
        )[0].stack()
    )
    assert (attrs["varying"], attrs["carried"]) == ((), 2)


def test_what_a_trace_assumes_of_sizes_is_checked_in_each_step():
    f = gg.function(lambda x: vector(x, 2, lambda y: gg.concat([y, y], 0) + x))
    with pytest.raises(gg.errors.ShapeError, match="what was traced needs"):
        f(gg.zeros(4))


def test_shape_invariants_are_held_to():
    def run(body, invariant):
        loop = lambda x: gg.while_loop(lambda y: False, body, [x], [invariant])  # noqa: E731
        return gg.function(loop)(gg.zeros([2, 3]))[0].shape

    assert run(lambda y: gg.concat([y, y], 0), gg.TensorSpec([None, 3])) == (2, 3)
    assert run(lambda y: y, None) == (2, 3)
    with pytest.raises(gg.errors.ShapeError, match="which is not of the shape"):
        run(lambda y: y, [None, 4])
    with pytest.raises(gg.errors.ShapeError, match="must stay the same") as e:
        run(lambda y: gg.concat([y, y], 1), gg.TensorShape([None, 3]))
    assert "it leaves from test_growing_loops.py" in str(e.value)


def test_sizes_that_differ_between_branches():
    specs = [gg.TensorSpec([None]), gg.TensorSpec([None])]

    @gg.function(input_signature=specs)
    def f(x, y):
        z = gg.cond(x[0] > 0, lambda: x * 2.0, lambda: gg.concat([x, y], 0))
        return z, gg.grad(lambda x: gg.reduce_sum(gg.cond(x[0] > 0, lambda: x**2, lambda: y)))(x)

    for x, y in (([1.0, 2], [3.0]), ([-1.0], [3.0, 4]), ([-1.0], [5.0])):
        z, g = f(gg.constant(x), gg.constant(y))
        assert z.numpy().tolist() == ([2 * v for v in x] if x[0] > 0 else [*x, *y])
        assert g.numpy().tolist() == ([2 * v for v in x] if x[0] > 0 else [0] * len(x))
    assert f.experimental_get_tracing_count() == 1
