"""gg.custom_gradient, stop_gradient and grad_pass_through."""

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.modes import called, in_every_mode


@in_every_mode
@called
def test_structures_and_keywords(mode, wrap):
    @gg.custom_gradient
    def f(p, factor, *, scale):
        def back(dy, dz):
            return {"a": dy * scale, "b": [dz, None]}, 7.0 * dy

        return {"y": p["a"] * factor, "z": p["b"][0] * scale}, back

    inner = wrap(lambda p, factor: f(p, factor, scale=3.0))

    def run(a, b, c, factor):
        p = {"a": a, "b": [b, c]}
        with gg.GradientTape() as tape:
            tape.watch([p, factor])
            found = inner(p, factor)
            total = found["y"] + 10.0 * found["z"]
        return tape.gradient(total, (p, factor), unconnected_gradients="zero")

    p, factor = mode(run)(*(gg.constant(v) for v in (2.0, 3.0, 5.0, 7.0)))
    assert [float(g) for g in (p["a"], *p["b"], factor)] == [3, 10, 0, 7]


@in_every_mode
def test_arguments_that_are_no_tensors(mode):
    @gg.custom_gradient
    def f(x, how, training, rest):
        assert (how, training, rest) == ("fast", True, None)
        return x * 2.0, lambda g: (g * 5.0, None, None, None)

    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x, "fast", True, None)
        return tape.gradient(y, x)

    assert float(mode(run)(gg.constant(1.0))) == 5


@in_every_mode
@called
def test_second_order_goes_through_grad_fn_and_its_variables(mode, wrap):
    w = gg.Variable(2.0)

    @gg.custom_gradient
    def f(x):
        def back(dy, variables=None):
            assert [v is w for v in variables] == [True]
            return dy * w * w, [dy * x * 3.0]

        return x * w, back

    g = wrap(f)

    def run(x):
        with gg.GradientTape() as outer:
            outer.watch(x)
            with gg.GradientTape() as inner:
                inner.watch(x)
                y = g(x)
            dx, dw = inner.gradient(y, [x, w])
            total = dx * dw
        return dx, dw, *outer.gradient(total, [x, w])

    # total = w**2 * 3 x
    found = mode(run)(gg.constant(5.0))
    assert [float(g) for g in found] == [4, 15, 12, 60]


@in_every_mode
@called
def test_forward_mode_transposes_grad_fn(mode, wrap):
    @gg.custom_gradient
    def f(x, y):
        return (x * y, gg.sin(x)), lambda a, b: (3.0 * a * y + b, a * x)

    g = wrap(f)

    def run(x, y):
        return gg.jvp(g, (x, y), (1.0, 10.0))[1]

    a, b = mode(run)(gg.constant(2.0), gg.constant(5.0))
    assert (float(a), float(b)) == (3 * 5 + 20, 1)
    square = wrap(gg.custom_gradient(lambda x: (x * x, lambda g: g * 3.0 * x)))
    product = mode(lambda x: gg.hvp(lambda x: gg.reduce_sum(square(x)), x, gg.ones(2)))
    np.testing.assert_array_equal(product(gg.constant([1.0, 2.0])), [3, 3])


@in_every_mode
def test_what_it_assigns_takes_effect_once(mode):
    count = gg.Variable(0.0, trainable=False)

    @gg.custom_gradient
    def f(x):
        count.assign_add(1.0)
        return x * count, lambda g: g * 10.0 * count

    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x) + f(x)
        return y, tape.gradient(y, x)

    count.assign(0.0)
    y, g = mode(run)(gg.constant(1.0))
    assert (float(y), float(count)) == (3, 2)
    assert float(g) in (30, 40)  # grad_fn reads the variable when it runs


@in_every_mode
def test_gradients_that_do_not_fit(mode):
    w = gg.Variable(2.0, name="w")

    def gradient(f, x):
        f = gg.custom_gradient(f)

        def run(x):
            with gg.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            return tape.gradient(y, x)

        return mode(run)(gg.constant(x))

    for f, error, text in (
        (lambda x: (x, lambda g: (g, g)), ValueError, "to return 1 gradients, but returned 2 inst"),
        (lambda x: (x, lambda g: gg.ones(3)), ValueError, r"gives f32\[3\] for argument 0, whi"),
        (lambda x: (x, lambda g: gg.ones((1, 2))), ValueError, r"f32\[1, 2\] .* is f32\[2\]"),
        (lambda x: x, ValueError, r"the function is to return \(result, grad_fn\)"),
        (lambda x: (x * w, lambda g: g), TypeError, "must accept a 'variables' keyword argument"),
        (
            lambda x: (x * w, lambda g, variables: (g, [])), ValueError,
            r"Must return gradient for each variable .* reads \['w:0'\], and its grad_fn gave 0",
        ),
        (lambda x: (x * w, lambda g, variables: g), ValueError, "list of gradients of the variab"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            gradient(f, [1.0, 2.0])
    assert list(gradient(lambda x: (x, lambda g: 3.0), [1.0, 2.0])) == [3, 3]
    assert list(gradient(lambda x: (x, lambda g: None), [1.0, 2.0])) == [0, 0]


@in_every_mode
def test_grad_pass_through(mode):
    w = gg.Variable(2.0)

    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.grad_pass_through(lambda x: gg.floor(x) * w)(x) * 3.0
        return y, tape.gradient(y, [x, w])

    y, (dx, dw) = mode(run)(gg.constant(1.6))
    assert (float(y), float(dx), float(dw)) == (6, 3, 0)


@in_every_mode
def test_stop_gradient_in_every_order(mode):
    def run(x):
        with gg.GradientTape() as outer:
            outer.watch(x)
            with gg.GradientTape() as inner:
                inner.watch(x)
                y = x * x * gg.stop_gradient(x)
            first = inner.gradient(y, x)
        return first, outer.gradient(first, x), gg.jvp(gg.stop_gradient, (x,), (1.0,))[1]

    first, second, tangent = mode(run)(gg.constant(3.0))
    assert (float(first), float(second), float(tangent)) == (18, 6, 0)
