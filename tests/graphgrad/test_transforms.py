"""grad, value_and_grad, vjp, jvp and vmap; check_grads finds planted errors."""

import numpy as np
import pytest

import graphgrad as gg

MODES = pytest.mark.parametrize("compiled", [False, True])


def mode(f, compiled):
    return gg.function(f) if compiled else f


@MODES
def test_grad(compiled):
    f = mode(gg.grad(lambda x: x**3), compiled)
    assert float(f(gg.constant(2.0))) == 12
    f = mode(gg.grad(gg.grad(lambda x: x**3)), compiled)
    assert float(f(gg.constant(2.0))) == 12


def test_argnums_aux_and_structures():
    value, (dx, dp) = gg.value_and_grad(lambda x, p: x * p["a"], argnums=(0, 1))(
        2.0, {"a": 5.0, "b": 1.0}
    )
    assert [float(v) for v in (value, dx, dp["a"], dp["b"])] == [10, 5, 2, 0]
    gradient, aux = gg.grad(lambda x: (x * x, "more"), has_aux=True)(3.0)
    assert (float(gradient), aux) == (6, "more")
    x = gg.constant(2.0)
    assert [float(g) for g in gg.grad(lambda a, b: a * a * b, argnums=(0, 1))(x, x)] == [8, 4]
    v = gg.Variable(3.0)
    assert float(gg.grad(lambda v: v * v)(v)) == 6
    with pytest.raises(ValueError, match=r"one number, it gave shape \(2,\)"):
        gg.grad(lambda x: x)([1.0, 2.0])
    with pytest.raises(ValueError, match="argument 3 is asked for"):
        gg.grad(lambda x: x, argnums=3)(1.0)


@MODES
def test_vjp_and_jvp(compiled):
    x, v = gg.constant([1.0, 2.0]), gg.constant([1.0, 10.0])

    def reverse(x, v):
        _, back = gg.vjp(lambda x: gg.sin(x) * x, x)
        return back(v)[0]

    def forward(x, v):
        return gg.jvp(lambda x: gg.sin(x) * x, (x,), (v,))[1]

    expected = (np.cos(x.numpy()) * x.numpy() + np.sin(x.numpy())) * v.numpy()
    np.testing.assert_allclose(mode(reverse, compiled)(x, v), expected, rtol=1e-5)
    np.testing.assert_allclose(mode(forward, compiled)(x, v), expected, rtol=1e-5)


def test_forward_over_reverse():
    def hvp(f, x, v):
        return gg.jvp(gg.grad(f), (x,), (v,))[1]

    x = gg.constant([1.0, 2.0])
    np.testing.assert_allclose(
        hvp(lambda x: gg.reduce_sum(x**3), x, gg.ones(2)), [6, 12], rtol=1e-6
    )


@MODES
def test_vmap_equals_a_loop(compiled):
    a = np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32)
    b = np.arange(6, dtype=np.float32).reshape(2, 3)

    def f(x, y):
        return gg.reduce_sum(gg.exp(x) @ y), gg.nn.softmax(x)

    got = mode(lambda a, b: gg.vmap(f, in_axes=(0, None))(a, b), compiled)(a, b)
    for i in range(4):
        total, soft = f(gg.constant(a[i]), gg.constant(b))
        np.testing.assert_allclose(got[0][i], total, rtol=1e-5)
        np.testing.assert_allclose(got[1][i], soft, rtol=1e-5)


def test_vmap_axes():
    x = gg.constant(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(gg.vmap(lambda r: r * 2, in_axes=1, out_axes=1)(x), x.numpy() * 2)
    np.testing.assert_array_equal(gg.vmap(gg.reduce_sum, in_axes=1)(x), x.numpy().sum(0))
    np.testing.assert_array_equal(gg.vmap(gg.vmap(lambda v: v + 1))(x), x.numpy() + 1)
    with pytest.raises(ValueError, match="not equal"):
        gg.vmap(lambda a, b: a)(gg.zeros(2), gg.zeros(3))
    with pytest.raises(ValueError, match="no argument has a batch axis"):
        gg.vmap(lambda a: a, in_axes=None)(gg.zeros(2))


def test_vmap_of_grad_and_grad_of_vmap():
    x = gg.constant([1.0, 2.0, 3.0])
    np.testing.assert_allclose(gg.vmap(gg.grad(lambda x: x**2))(x), [2, 4, 6])
    np.testing.assert_allclose(
        gg.grad(lambda x: gg.reduce_sum(gg.vmap(lambda v: v**2)(x)))(x), [2, 4, 6]
    )
    v = gg.Variable(2.0)
    with gg.GradientTape() as tape:
        y = gg.vmap(lambda a: a * v)(x)
    assert float(tape.gradient(y, v)) == 6


def test_check_grads_accepts_and_refuses():
    gg.testing.check_grads(lambda x, y: gg.reduce_sum(gg.sin(x) * y), [0.3, 0.5], [1.0, 2.0])

    @gg.custom_gradient
    def wrong(x):
        return x * x, lambda g: g * 2.1 * x

    with pytest.raises(AssertionError, match="reverse mode, order 1"):
        gg.testing.check_grads(wrong, 0.7, modes=("reverse",))


def test_integers_have_no_gradient():
    with pytest.raises(TypeError, match="grad: argument 0 is int32, and only floats and comple"):
        gg.grad(lambda x: x**3)(2)
    with pytest.raises(TypeError, match=r"grad: argument 0\[.n.\] is int32"):
        gg.grad(lambda p: p["a"])({"a": 1.0, "n": 3})
    with pytest.raises(TypeError, match="grad: the result is int32"):
        gg.grad(lambda x: gg.cast(x, gg.int32))(1.0)


def test_vmap_axes_in_structures():
    x, y = gg.constant([1.0, 2.0, 3.0]), gg.constant(3.0)
    z = gg.vmap(lambda d: {"s": d["a"] + d["b"]}, in_axes=({"a": 0, "b": None},))({"a": x, "b": y})
    np.testing.assert_array_equal(z["s"], [4, 5, 6])
    m = gg.ones((2, 3))
    first, (second, third) = gg.vmap(lambda r: (r, (r, r)), out_axes=(0, (1, -1)))(m)
    assert (first.shape, second.shape, third.shape) == ((2, 3), (3, 2), (3, 2))
    with pytest.raises(ValueError, match=r"in_axes .* fits no structure with the parts"):
        gg.vmap(lambda d: d["a"], in_axes=({"a": 0},))({"a": x, "b": y})
    with pytest.raises(ValueError, match="there is no axis 5 in the result"):
        gg.vmap(lambda r: r, out_axes=5)(m)


def test_random_draws_in_vmap_say_what_to_do():
    with pytest.raises(RuntimeError, match=r"draw outside, or use gg\.random\.stateless_normal"):
        gg.vmap(lambda x: x + gg.random.normal(()))(gg.ones(3))
    seeds = gg.constant([[1, 2], [3, 4]])
    drawn = gg.vmap(lambda s: gg.random.stateless_normal((2,), seed=s))(seeds)
    np.testing.assert_array_equal(drawn[1], gg.random.stateless_normal((2,), seed=[3, 4]))
