"""Reductions along an axis, and what is made of them."""

import numpy as np

from benchmarks.workloads.record import SUM, Arrays, normal, workload

TALL = (8192, 1024)
ONE_READ = 4 * TALL[0] * TALL[1]


def tall(r: np.random.Generator) -> Arrays:
    return {"x": normal(r, *TALL)}


@workload("sum over axis 0, 8192 x 1024", tall, lambda x: [x.sum(0)], bound=SUM, traffic=ONE_READ)
def sum_axis0(F, t):
    return F.compiled(lambda x: F.sum(x, 0)), (t["x"],)


@workload("sum over axis 1, 8192 x 1024", tall, lambda x: [x.sum(1)], bound=SUM, traffic=ONE_READ)
def sum_axis1(F, t):
    return F.compiled(lambda x: F.sum(x, 1)), (t["x"],)


def _log_sum_exp_reference(x):
    top = x.max(1, keepdims=True)
    return [np.log(np.exp(x - top).sum(1)) + top[:, 0]]


@workload("log-sum-exp over axis 1, 8192 x 1024", tall, _log_sum_exp_reference, traffic=ONE_READ)
def logsumexp_axis1(F, t):
    return F.compiled(lambda x: F.log_sum_exp(x)), (t["x"],)


CLASSES = (8192, 1000)


def cross_entropy_with_gradient(z, y):
    """The mean over the rows, and its gradient."""
    z = z - z.max(1, keepdims=True)
    e = np.exp(z)
    s = e.sum(1, keepdims=True)
    rows = np.arange(len(y))
    loss = np.mean(np.log(s[:, 0]) - z[rows, y])
    g = e / s
    g[rows, y] -= 1
    return loss, g / len(y)


def _classes_inputs(r):
    return {
        "x": normal(r, *CLASSES),
        "y": r.integers(0, CLASSES[1], CLASSES[0]).astype(np.int32),
    }


@workload("softmax cross-entropy, value and gradient, 8192 x 1000", _classes_inputs,
          lambda x, y: list(cross_entropy_with_gradient(x, y)),
          cores=True, traffic=8 * CLASSES[0] * CLASSES[1])  # fmt: skip
def softmax_xent(F, t):
    return F.value_and_gradients(lambda x, y: F.cross_entropy(x, y)), (t["x"], t["y"])


EPSILON = 1e-5


def _norm_inputs(r):
    return {
        "x": normal(r, *TALL),
        "g": normal(r, *TALL),
        "gamma": 1 + normal(r, TALL[1], scale=0.1),
        "beta": normal(r, TALL[1], scale=0.1),
    }


def _norm_reference(x, g, gamma, beta):
    mean = x.mean(1, keepdims=True)
    r = 1 / np.sqrt(((x - mean) ** 2).mean(1, keepdims=True) + EPSILON)
    h = (x - mean) * r
    q = g * gamma
    dx = r * (q - q.mean(1, keepdims=True) - h * (q * h).mean(1, keepdims=True))
    return [h * gamma + beta, dx, (g * h).sum(0), g.sum(0)]


@workload("layer norm, value and vjp, 8192 x 1024", _norm_inputs, _norm_reference,
          traffic=4 * ONE_READ)  # fmt: skip
def layernorm_vjp(F, t):
    def f(x, gamma, beta):
        mean = F.mean(x, 1, keepdims=True)
        variance = F.mean(F.square(x - mean), 1, keepdims=True)
        return (x - mean) * F.rsqrt(variance + EPSILON) * gamma + beta

    return F.value_and_vjp(f), (t["g"], t["x"], t["gamma"], t["beta"])
