"""graphgrad's words."""

import numpy as np

import graphgrad as gg

tensor = gg.constant
compiled = gg.function
exp, sin, tanh, sigmoid = gg.exp, gg.sin, gg.tanh, gg.sigmoid
relu, rsqrt, square = gg.nn.relu, gg.math.rsqrt, gg.square


def arrays(result):
    if isinstance(result, tuple | list):
        return [a for part in result for a in arrays(part)]
    return [np.asarray(result.numpy())]


def wait(result):
    return result


def value_and_gradients(f):
    def both(parameters, *rest):
        with gg.GradientTape() as tape:
            tape.watch(parameters)
            value = f(parameters, *rest)
        return value, tape.gradient(value, parameters)

    return gg.function(both)


def value_and_vjp(f):
    def both(g, *xs):
        with gg.GradientTape() as tape:
            tape.watch(xs)
            y = f(*xs)
        return y, tape.gradient(y, xs, output_gradients=g)

    return gg.function(both)


def eager_gradient(f):
    def gradient(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return gradient


def gelu(x):
    return gg.nn.gelu(x, approximate=True)


def log_sum_exp(x):
    return gg.reduce_logsumexp(x, axis=-1)


def sum(x, axis=None):
    return gg.reduce_sum(x, axis)


def mean(x, axis=None, keepdims=False):
    return gg.reduce_mean(x, axis, keepdims)


def cross_entropy(logits, labels):
    losses = gg.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return gg.reduce_mean(losses)
