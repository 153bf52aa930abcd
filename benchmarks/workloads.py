"""What is measured: inputs, the program in the frameworks' vocabulary, and the same in NumPy.

The NumPy program is the reference, in float64, for every framework's result; in float32 it is
NumPy's own row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """One row. `build(F, t)` gives (function, arguments) from a vocabulary and its tensors."""

    name: str
    title: str
    inputs: Callable[[np.random.Generator], Arrays]
    build: Callable[[Any, Any], tuple[Callable[..., Any], tuple[Any, ...]]]
    reference: Callable[..., list[Any]]
    eager: bool = False  # nothing is compiled
    traffic: int = 0  # bytes that must be read and written at least
    flops: int = 0  # arithmetic of its matrix products


WORKLOADS: dict[str, Workload] = {}


def workload(
    title: str, inputs: Callable[..., Arrays], reference: Callable[..., list[Any]], **facts: Any
) -> Callable[..., Any]:
    """Make a row of a `build` function; its name is the row's."""

    def add(build: Callable[..., Any]) -> Callable[..., Any]:
        name = build.__name__
        WORKLOADS[name] = Workload(name, title, inputs, build, reference, **facts)
        return build

    return add


def normal(r: np.random.Generator, *shape: int, scale: float = 1.0) -> Any:
    return r.standard_normal(shape, dtype=np.float32) * np.float32(scale)


# Ten elements: what a call costs when the arithmetic is free.


def ten(r: np.random.Generator) -> Arrays:
    return {"x": normal(r, 10), "y": normal(r, 10)}


@workload("eager x + y, 10 elements", ten, lambda x, y: [x + y], eager=True)
def eager_add(F, t):
    return (lambda x, y: x + y), (t["x"], t["y"])


def _eager_gradient_reference(x, y):
    return [2 * x + np.cos(x)]


@workload("eager gradient of sum(x*x + sin x), 10", ten, _eager_gradient_reference, eager=True)
def eager_gradient(F, t):
    return F.eager_gradient(lambda x: F.sum(x * x + F.sin(x))), (t["x"],)


@workload("compiled x*2 + 1, 10 elements", ten, lambda x, y: [x * 2 + 1])
def call(F, t):
    return F.compiled(lambda x: x * 2 + 1), (t["x"],)


# Elementwise

LONG = 10_000_000


def long_vector(r: np.random.Generator) -> Arrays:
    return {"x": normal(r, LONG)}


def chain(F, x):
    return F.tanh(x) * F.sigmoid(x) + F.exp(-x * x) * 0.5


def _chain_parts(x):
    return np.tanh(x), 1 / (1 + np.exp(-x)), np.exp(-x * x)


def _chain_reference(x):
    t, s, e = _chain_parts(x)
    return [t * s + e * 0.5]


def _chain_gradient_reference(x):
    t, s, e = _chain_parts(x)
    return [np.sum(t * s + e * 0.5), (1 - t * t) * s + t * s * (1 - s) - x * e]


@workload(
    "tanh(x)*sigmoid(x) + exp(-x*x)*0.5, 10M", long_vector, _chain_reference, traffic=8 * LONG
)
def chain_forward(F, t):
    return F.compiled(lambda x: chain(F, x)), (t["x"],)


@workload(
    "the same, value and gradient of its sum", long_vector, _chain_gradient_reference,
    traffic=8 * LONG,
)  # fmt: skip
def chain_gradient(F, t):
    return F.value_and_gradients(lambda x: F.sum(chain(F, x))), (t["x"],)


WIDE = (4096, 1024)


def _gelu_inputs(r):
    return {"x": normal(r, *WIDE), "g": normal(r, *WIDE)}


def _gelu_reference(x, g):
    c = 0.7978845608028654
    t = np.tanh(c * (x + 0.044715 * x * x * x))
    slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)
    return [0.5 * x * (1 + t), g * slope]


@workload(
    "gelu, value and vjp, 4096 x 1024", _gelu_inputs, _gelu_reference,
    traffic=16 * WIDE[0] * WIDE[1],
)  # fmt: skip
def gelu(F, t):
    return F.value_and_vjp(lambda x: F.gelu(x)), (t["g"], t["x"])


# Reductions and normalisation

TALL = (8192, 1024)
ONE_READ = 4 * TALL[0] * TALL[1]


def tall(r: np.random.Generator) -> Arrays:
    return {"x": normal(r, *TALL)}


@workload("sum over axis 0, 8192 x 1024", tall, lambda x: [x.sum(0)], traffic=ONE_READ)
def sum_rows(F, t):
    return F.compiled(lambda x: F.sum(x, 0)), (t["x"],)


@workload("sum over axis 1, 8192 x 1024", tall, lambda x: [x.sum(1)], traffic=ONE_READ)
def sum_columns(F, t):
    return F.compiled(lambda x: F.sum(x, 1)), (t["x"],)


def _log_sum_exp_reference(x):
    top = x.max(1, keepdims=True)
    return [np.log(np.exp(x - top).sum(1)) + top[:, 0]]


@workload("log-sum-exp over axis 1, 8192 x 1024", tall, _log_sum_exp_reference, traffic=ONE_READ)
def log_sum_exp(F, t):
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


@workload(
    "softmax cross-entropy, value and gradient, 8192 x 1000",
    _classes_inputs,
    lambda x, y: list(cross_entropy_with_gradient(x, y)),
    traffic=8 * CLASSES[0] * CLASSES[1],
)
def cross_entropy(F, t):
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


@workload(
    "layer norm, value and vjp, 8192 x 1024", _norm_inputs, _norm_reference, traffic=4 * ONE_READ
)
def layer_norm(F, t):
    def f(x, gamma, beta):
        mean = F.mean(x, 1, keepdims=True)
        variance = F.mean(F.square(x - mean), 1, keepdims=True)
        return (x - mean) * F.rsqrt(variance + EPSILON) * gamma + beta

    return F.value_and_vjp(f), (t["g"], t["x"], t["gamma"], t["beta"])


# A network

SIZES = (784, 256, 128, 10)
BATCH = 64


def _network_inputs(r):
    d = {
        "x": r.random((BATCH, 784), dtype=np.float32),
        "y": r.integers(0, 10, BATCH).astype(np.int32),
    }
    for i, (a, b) in enumerate(pairwise(SIZES)):
        d[f"w{i}"] = normal(r, a, b, scale=(2 / a) ** 0.5)
        d[f"b{i}"] = normal(r, b, scale=0.01)
    return d


def _network_reference(x, y, **p):
    layers = range(len(SIZES) - 1)
    h = [x]
    for i in layers:
        z = h[-1] @ p[f"w{i}"] + p[f"b{i}"]
        h.append(z if i == layers[-1] else np.maximum(z, 0))
    loss, dz = cross_entropy_with_gradient(h[-1], y)
    gradients = []
    for i in reversed(layers):
        gradients = [h[i].T @ dz, dz.sum(0), *gradients]
        dz = (dz @ p[f"w{i}"].T) * (h[i] > 0)
    return [loss, *gradients]


PRODUCTS = sum(a * b for a, b in pairwise(SIZES))


@workload(
    "MLP 784-256-128-10, batch 64, value and gradients",
    _network_inputs,
    _network_reference,
    flops=2 * BATCH * (3 * PRODUCTS - SIZES[0] * SIZES[1]),  # none for the gradient of the images
)
def network(F, t):
    def loss(p, x, y):
        h = F.relu(x @ p[0] + p[1])
        h = F.relu(h @ p[2] + p[3])
        return F.cross_entropy(h @ p[4] + p[5], y)

    parameters = [t[k] for k in ("w0", "b0", "w1", "b1", "w2", "b2")]
    return F.value_and_gradients(loss), (parameters, t["x"], t["y"])
