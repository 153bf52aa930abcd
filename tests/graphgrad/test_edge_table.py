"""Gradients at edges, where formulas give NaN or choose a side: every row of the table in every
mode, to second order."""

import weakref

import numpy as np
import pytest

import graphgrad as gg
from graphgrad import hot_tapes

INF = np.inf


def std(x):
    return gg.sqrt(gg.reduce_mean(gg.square(x - gg.reduce_mean(x))))


ROWS = {  # what is summed, where, its gradient, and the gradient of the sum of that
    "sqrt on the other branch": (lambda x: gg.where(x > 0, gg.sqrt(x), 0.0), 0.0, 0, 0),
    "log on the other branch": (lambda x: gg.where(x > 0, gg.math.log(x), 0.0), 0.0, 0, 0),
    "1/x on the other branch": (lambda x: gg.where(x > 0, 1 / x, 0.0), 0.0, 0, 0),
    "x**.5 on the other branch": (lambda x: gg.where(x > 0, x**0.5, 0.0), 0.0, 0, 0),
    "x log x on the other branch": (lambda x: gg.where(x > 0, x * gg.math.log(x), 0.0), 0.0, 0, 0),
    "exp on the other branch": (lambda x: gg.where(x < 50, gg.exp(x), 1.0) * x, 1000.0, 1, 0),
    "asin on the other branch": (lambda x: gg.where(x < 1, gg.asin(x), 0.0), 1.0, 0, 0),
    "atanh on the other branch": (lambda x: gg.where(x < 1, gg.atanh(x), 0.0), 1.0, 0, 0),
    "acosh on the other branch": (lambda x: gg.where(x > 1, gg.acosh(x), 0.0), 1.0, 0, 0),
    "log2 on the other branch": (lambda x: gg.where(x > 0, gg.math.log2(x), 0.0), 0.0, 0, 0),
    "log1p on the other branch": (lambda x: gg.where(x > -1, gg.math.log1p(x), 0.0), -1.0, 0, 0),
    "lgamma on the other branch": (lambda x: gg.where(x > 0, gg.math.lgamma(x), 0.0), 0.0, 0, 0),
    "digamma on the other branch": (lambda x: gg.where(x > 0, gg.math.digamma(x), 0.0), -1.0, 0, 0),
    "erfinv on the other branch": (lambda x: gg.where(x < 1, gg.math.erfinv(x), 0.0), 1.0, 0, 0),
    "ndtri on the other branch": (lambda x: gg.where(x > 0, gg.math.ndtri(x), 0.0), 0.0, 0, 0),
    "1/0 on the other branch of two": (
        lambda x: gg.where(x > 0, gg.where(x > 1, gg.math.log(x - 1), 1 / x), x), 0.0, 1, 0
    ),
    "rsqrt on the other branch": (lambda x: gg.where(x > 0, gg.math.rsqrt(x), 0.0), 0.0, 0, 0),
    "log(1 + exp(x))": (lambda x: gg.math.log(1 + gg.exp(x)), 1000.0, 1, 0),
    "log1p(exp(x))": (lambda x: gg.math.log1p(gg.exp(x)), 1000.0, 1, 0),
    "log(sum(exp(x)))": (
        lambda x: gg.math.log(gg.reduce_sum(gg.exp(x))), [1000.0, 1000.0], [0.5, 0.5], [0, 0]
    ),
    "softplus": (gg.math.softplus, 1000.0, 1, 0),
    "softplus far below": (gg.math.softplus, -1000.0, 0, 0),
    "cumprod with a zero": (gg.math.cumprod, [0.0, 2.0, 3.0], [9, 0, 0], [6, 4, 2]),
    "cumprod with two zeros": (gg.math.cumprod, [0.0, 0.0, 3.0], [1, 0, 0], [4, 4, 0]),
    "prod with a zero": (gg.reduce_prod, [0.0, 2.0, 3.0], [6, 0, 0], [5, 3, 2]),
    "prod with two zeros": (gg.reduce_prod, [0.0, 0.0, 3.0], [0, 0, 0], [3, 3, 0]),
    "max of equals": (gg.reduce_max, [2.0, 2.0, 1.0], [0.5, 0.5, 0], [0, 0, 0]),
    "min of equals": (gg.reduce_min, [1.0, 1.0, 2.0], [0.5, 0.5, 0], [0, 0, 0]),
    "x**0": (lambda x: x**0, 0.0, 0, 0),
    "x**0.0": (lambda x: x**0.0, 0.0, 0, 0),
    "x**1": (lambda x: x**1, 0.0, 1, 0),
    "x**2": (lambda x: x**2, 0.0, 0, 2),
    "abs": (gg.abs, 0.0, 0, 0),
    "relu": (gg.nn.relu, 0.0, 0, 0),
    "maximum at a tie": (lambda x: gg.maximum(x, 0.0), 0.0, 1, 0),
    "maximum at a tie, right": (lambda x: gg.maximum(0.0, x), 0.0, 0, 0),
    "minimum at a tie": (lambda x: gg.minimum(x, 1.0), 1.0, 1, 0),
    "clip at its lower bound": (lambda x: gg.minimum(gg.maximum(x, 0.0), 1.0), 0.0, 1, 0),
    "clip at its upper bound": (lambda x: gg.minimum(gg.maximum(x, 0.0), 1.0), 1.0, 1, 0),
    "logsumexp of -inf": (gg.reduce_logsumexp, [-INF, -INF], [0, 0], [0, 0]),
    "logsumexp of large": (gg.reduce_logsumexp, [1e7, 1e7], [0.5, 0.5], [0, 0]),
    "softmax of huge": (lambda x: gg.nn.softmax(x)[0], [1e4, -1e4], [0, 0], [0, 0]),
    "log_softmax of huge": (lambda x: gg.nn.log_softmax(x)[1], [1e4, -1e4], [-1, 1], [0, 0]),
    "norm at 0": (lambda x: gg.sqrt(gg.reduce_sum(x * x)), [0.0, 0.0], [0, 0], [0, 0]),
    "norm by square": (lambda x: gg.reduce_sum(gg.square(x)) ** 0.5, [0.0, 0.0], [0, 0], [0, 0]),
    "hypot at 0": (lambda x: gg.math.hypot(x, x), 0.0, 0, 0),
    "gg.norm at 0": (gg.norm, [0.0, 0.0], [0, 0], [0, 0]),
    "norm of rows at 0": (
        lambda x: gg.linalg.norm(x, axis=1), [[0.0, 0.0], [0.0, 4.0]], [[0, 0], [0, 1]], None
    ),
    "euclidean norm at 0": (gg.math.reduce_euclidean_norm, [0.0, 0.0], [0, 0], [0, 0]),
    "reduce_std of equals": (gg.math.reduce_std, [2.0, 2.0], [0, 0], [0, 0]),
    "reduce_variance of equals": (gg.math.reduce_variance, [2.0, 2.0], [0, 0], [0, 0]),
    "std of equals": (std, [2.0, 2.0], [0, 0], [0, 0]),
    "atan2 at 0": (lambda x: gg.atan2(x, x), 0.0, 0, 0),
    "acos at 1": (gg.acos, 1.0, -INF, None),
    "asin at 1": (gg.asin, 1.0, INF, None),
    "sqrt at 0": (gg.sqrt, 0.0, INF, -INF),
    "xlogy at 0": (lambda x: gg.math.xlogy(x, x), 0.0, 0, 0),
    "xlogy, the logarithm at 0": (lambda x: gg.math.xlogy(0.0, x), 0.0, 0, 0),
    "xlog1py at 0": (lambda x: gg.math.xlog1py(x, x - 1), 0.0, 0, 0),
    "xdivy at 0": (lambda x: gg.math.xdivy(x, x), 0.0, 0, 0),
    "divide_no_nan at 0": (lambda x: gg.math.divide_no_nan(1.0, x), 0.0, 0, 0),
    "multiply_no_nan at 0": (lambda x: gg.math.multiply_no_nan(INF, x), 0.0, INF, 0),
    "squared_difference at a tie": (lambda x: gg.math.squared_difference(x, 2.0), 2.0, 0, 2),
    "clip_by_value at its bounds": (
        lambda x: gg.clip_by_value(x, 0.0, 1.0), [0.0, 1.0, 2.0], [1, 1, 0], [0, 0, 0]
    ),
    "relu6 at its kinks": (gg.nn.relu6, [0.0, 6.0, 3.0], [0, 0, 1], [0, 0, 0]),
    "elu": (gg.nn.elu, [0.0, -1000.0, 1000.0], [1, 0, 1], [0, 0, 0]),
    "leaky_relu": (lambda x: gg.nn.leaky_relu(x, 0.5), [0.0, -INF, INF], [0.5, 0.5, 1], [0, 0, 0]),
    "hard_sigmoid at its kinks": (gg.nn.hard_sigmoid, [-3.0, 3.0], [0, 0], [0, 0]),
    "hard_silu at its kinks": (gg.nn.hard_silu, [-3.0, 3.0, -INF], [0, 1, 0], [0, 0, 0]),
    "hard_tanh at its kinks": (gg.nn.hard_tanh, [-1.0, 1.0, 2.0], [1, 1, 0], [0, 0, 0]),
    "softsign at 0 and far": (gg.nn.softsign, [0.0, INF, -INF], [1, 0, 0], [0, 0, 0]),
    "log_sigmoid far": (gg.math.log_sigmoid, [1000.0, -1000.0], [0, 1], [0, 0]),
    "gelu far": (gg.nn.gelu, [1e30, -1e30], [1, 0], [0, 0]),
    "gelu by tanh far": (
        lambda x: gg.nn.gelu(x, approximate=True), [1e15, -1e15, 200.0], [1, 0, 1], [0, 0, 0]
    ),
    "silu far": (gg.nn.silu, [1e30, -1e30, 0.0], [1, 0, 0.5], [0, 0, 0.5]),
    "mish far": (gg.nn.mish, [1e30, -1e30], [1, 0], [0, 0]),
    "sigmoid cross-entropy": (
        lambda x: gg.nn.sigmoid_cross_entropy_with_logits(gg.ones_like(x), x),
        [0.0, 1000.0, -1000.0], [-0.5, 0, -1], [0.25, 0, 0],
    ),
    "huber at its kink": (lambda x: gg.losses.huber([0.0], x), [1.0], [1], [1]),
    "mean absolute error of equals": (lambda x: gg.losses.mae([1.0], x), [1.0], [0], [0]),
    "cosine_similarity of 0": (
        lambda x: gg.losses.cosine_similarity([0.0, 0.0], x), [0.0, 0.0], [0, 0], [0, 0]
    ),
    "sigmoid of huge": (gg.sigmoid, [1e4, -1e4], [0, 0], [0, 0]),
}  # fmt: skip


def taped(f):
    def derivative(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x, unconnected_gradients="zero")

    return derivative


def pushed(f):
    """The gradient of the sum of f, one direction after the other, forwards."""

    def derivative(x):
        units = np.eye(x.shape.num_elements()).reshape((-1, *x.shape))

        def total(x):
            return gg.reduce_sum(f(x))

        slopes = [gg.jvp(total, (x,), (gg.constant(t, x.dtype),))[1] for t in units]
        return gg.reshape(gg.stack(slopes), x.shape)

    return derivative


def forward_over(derivative):
    """A symmetric second derivative times ones, forwards over a gradient."""
    return lambda x: gg.jvp(derivative, (x,), (gg.ones_like(x),))[1]


def hot(derivative):
    """The third walk of the same structure, which runs compiled."""

    def last(x):
        derivative(x), derivative(x)
        return derivative(x)

    return last


def interpreted(f):
    return gg.function(f, jit_compile=False)


MODES = {
    "eager tape": lambda f: (taped(f), taped(taped(f))),
    "tape in function": lambda f: (gg.function(taped(f)), gg.function(taped(taped(f)))),
    "interpreted": lambda f: (
        gg.function(taped(f), jit_compile=False), gg.function(taped(taped(f)), jit_compile=False)
    ),
    "tape over function": lambda f: (taped(gg.function(f)), taped(taped(gg.function(f)))),
    "tape over tape in function": lambda f: (
        gg.function(taped(gg.function(f))), taped(gg.function(taped(f)))
    ),
    "tape over interpreted": lambda f: (taped(interpreted(f)), taped(taped(interpreted(f)))),
    "hot tape": lambda f: (hot(taped(f)), hot(taped(taped(f)))),
    "jvp": lambda f: (pushed(f), forward_over(taped(f))),
    "jvp in function": lambda f: (gg.function(pushed(f)), gg.function(forward_over(taped(f)))),
    "jvp over function": lambda f: (pushed(gg.function(f)), forward_over(taped(gg.function(f)))),
    "vmap": lambda f: (batched(taped(f)), batched(taped(taped(f)))),
    "grad": lambda f: (total_grad(f), total_grad(total_grad(f))),
    "grad in function": lambda f: (
        gg.function(total_grad(f)), gg.function(total_grad(total_grad(gg.function(f))))
    ),
    "jvp over jvp": lambda f: (pushed(f), pushed(pushed(f))),
}  # fmt: skip


def batched(derivative):
    """The second of three lanes."""
    return lambda x: gg.vmap(derivative)(gg.stack([x + 1, x, x - 1]))[1]


def total_grad(f):
    return gg.grad(lambda x: gg.reduce_sum(f(x)))


@pytest.fixture(autouse=True)
def _hot_at_once(monkeypatch):
    """Walks are compiled as soon as they come again."""
    monkeypatch.setattr(hot_tapes, "_known", hot_tapes._Known())
    monkeypatch.setattr(hot_tapes, "_shared", weakref.WeakValueDictionary())
    for name, value in (("COMPILE", 0), ("COMPILE_RECORD", 0), ("LEAST", 1)):
        monkeypatch.setattr(hot_tapes, name, value)


def check(row, mode, dtype):
    f, at, first, second = ROWS[row]
    x = gg.constant(at, dtype)
    for order, derivative, expected in zip((1, 2), MODES[mode](f), (first, second)):
        if expected is None:  # undefined
            continue
        found = derivative(x)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.asarray(expected, dtype), f"order {order}")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", ROWS)
def test_row(row, mode):
    check(row, mode, "float32")


@pytest.mark.parametrize("mode", ["eager tape", "tape in function", "tape over function"])
@pytest.mark.parametrize("row", ROWS)
def test_row_in_double(row, mode):
    check(row, mode, "float64")


def test_hot_tapes_are_compiled():
    x = gg.constant(0.0)
    for _ in range(3):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.where(x > 0, gg.sqrt(x), 0.0)
        tape.gradient(y, x)
    assert tape.report().startswith("compiled"), tape.report()


def test_the_table_sees_a_wrong_value(monkeypatch):
    monkeypatch.setitem(ROWS, "wrong", (gg.abs, 0.0, 1, 0))
    with pytest.raises(AssertionError):
        check("wrong", "eager tape", "float32")
