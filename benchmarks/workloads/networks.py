"""A matrix product, and a network made of them."""

from itertools import pairwise

import numpy as np

from benchmarks.workloads.record import PRODUCT, normal, workload
from benchmarks.workloads.reductions import cross_entropy_with_gradient

SIDE = 1024


def _squares(r):
    return {"x": normal(r, SIDE, SIDE), "y": normal(r, SIDE, SIDE)}


@workload("matrix product, 1024 x 1024 x 1024", _squares, lambda x, y: [x @ y],
          bound=PRODUCT, cores=True, flops=2 * SIDE**3)  # fmt: skip
def matmul(F, t):
    return F.compiled(lambda x, y: x @ y), (t["x"], t["y"])


SIZES = (784, 256, 128, 10)
PARAMETERS = ("w0", "b0", "w1", "b1", "w2", "b2")
RATE = 0.05


def _flops(batch):
    """Three products a layer, but none for the gradient of the images."""
    products = sum(a * b for a, b in pairwise(SIZES))
    return 2 * batch * (3 * products - SIZES[0] * SIZES[1])


def _inputs(batch):
    def inputs(r):
        d = {
            "x": r.random((batch, SIZES[0]), dtype=np.float32),
            "y": r.integers(0, SIZES[-1], batch).astype(np.int32),
        }
        for i, (a, b) in enumerate(pairwise(SIZES)):
            d[f"w{i}"] = normal(r, a, b, scale=(2 / a) ** 0.5)
            d[f"b{i}"] = normal(r, b, scale=0.01)
        return d

    return inputs


def _gradients_reference(x, y, **p):
    layers = range(len(SIZES) - 1)
    h = [x]
    for i in layers:
        z = h[-1] @ p[f"w{i}"] + p[f"b{i}"]
        h.append(z if i == layers[-1] else np.maximum(z, 0))
    loss, dz = cross_entropy_with_gradient(h[-1], y)
    gradients = []
    for i in reversed(layers):
        gradients = [h[i].T @ dz, dz.sum(0), *gradients]
        if i:
            dz = (dz @ p[f"w{i}"].T) * (h[i] > 0)
    return [loss, *gradients]


def _step_reference(x, y, **p):
    loss, *gradients = _gradients_reference(x, y, **p)
    return [loss, *(p[k] - RATE * g for k, g in zip(PARAMETERS, gradients))]


def _loss(F):
    def loss(p, x, y):
        h = F.relu(x @ p[0] + p[1])
        h = F.relu(h @ p[2] + p[3])
        return F.cross_entropy(h @ p[4] + p[5], y)

    return loss


@workload("MLP 784-256-128-10, batch 64, value and gradients", _inputs(64), _gradients_reference,
          bound=PRODUCT, flops=_flops(64))  # fmt: skip
def mlp_vg(F, t):
    return F.value_and_gradients(_loss(F)), ([t[k] for k in PARAMETERS], t["x"], t["y"])


def _step(F, t):
    return F.training_step(_loss(F), [t[k] for k in PARAMETERS], RATE), (t["x"], t["y"])


@workload("MLP, a step of gradient descent, batch 512", _inputs(512), _step_reference,
          bound=PRODUCT, trains=True, cores=True, flops=_flops(512))  # fmt: skip
def mlp_step_512(F, t):
    return _step(F, t)


@workload("MLP, a step of gradient descent, batch 32", _inputs(32), _step_reference,
          bound=PRODUCT, trains=True, flops=_flops(32))  # fmt: skip
def mlp_step_32(F, t):
    return _step(F, t)
