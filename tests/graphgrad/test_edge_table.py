"""Gradients at edges: the table B.4 of the features, every row in every mode, to second order."""

import numpy as np
import pytest

import graphgrad as gg

INF = np.inf
ROWS = {  # what is summed, where, its gradient, and the gradient of the sum of that
    "sqrt on the other branch": (lambda x: gg.where(x > 0, gg.sqrt(x), 0.0), 0.0, 0, 0),
    "log on the other branch": (lambda x: gg.where(x > 0, gg.math.log(x), 0.0), 0.0, 0, 0),
    "1/x on the other branch": (lambda x: gg.where(x > 0, 1 / x, 0.0), 0.0, 0, 0),
    "x**.5 on the other branch": (lambda x: gg.where(x > 0, x**0.5, 0.0), 0.0, 0, 0),
    "x log x on the other branch": (lambda x: gg.where(x > 0, x * gg.math.log(x), 0.0), 0.0, 0, 0),
    "exp on the other branch": (lambda x: gg.where(x < 50, gg.exp(x), 1.0) * x, 1000.0, 1, 0),
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
    "sigmoid of huge": (gg.sigmoid, [1e4, -1e4], [0, 0], [0, 0]),
}  # fmt: skip


def taped(f):
    def derivative(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x, unconnected_gradients="zero")

    return derivative


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
    "grad": lambda f: (total_grad(f), total_grad(total_grad(f))),
    "grad in function": lambda f: (
        gg.function(total_grad(f)), gg.function(total_grad(total_grad(gg.function(f))))
    ),
    "forward": lambda f: (slopes(f), slopes(slopes(f))),
    "forward over reverse in function": lambda f: (
        gg.function(slopes(f)), gg.function(slopes(taped(f)))
    ),
}  # fmt: skip


def slopes(f):
    """The sum over the results of the derivatives by each element, in forward mode."""

    def derivative(x):
        rows = gg.eye(x.type.size, dtype=x.dtype).reshape((x.type.size, *x.shape))
        found = [gg.reduce_sum(gg.jvp(f, (x,), (row,))[1]) for row in gg.unstack(rows)]
        return gg.stack(found).reshape(x.shape)

    return derivative


def total_grad(f):
    return gg.grad(lambda x: gg.reduce_sum(f(x)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", ROWS)
def test_row(row, mode, dtype):
    f, at, first, second = ROWS[row]
    x = gg.constant(at, dtype)
    for derivative, expected in zip(MODES[mode](f), (first, second)):
        found = derivative(x)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.asarray(expected, dtype))
