"""Programs that the tests of fusion, lowering and code generation share. Golden files quote lines
of this file: add at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.ir import trace
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.autodiff import gradient_graph


def value_and_gradients(loss: Any, wrt: Sequence[int]) -> Any:
    """A function of the loss and its gradients with respect to the parameters `wrt`."""

    def both(*xs: Any) -> list[Any]:
        graph, _ = trace(lambda *inner: [loss(*inner)], [x.type for x in xs])
        wanted = tuple(i in wrt for i in range(len(xs)))
        y = ops["call"](*xs, graph=graph)[0]
        seed = ops["broadcast_to"](y.dtype.dtype.type(1), y.shape)
        reverse = gradient_graph(graph, (True,), wanted)
        return [y, *ops["call"](*xs, y, seed, graph=reverse)]

    return both


def broadcasting(x: Any, b: Any) -> Any:
    return ops["tanh"](x * 2.0 + b) * x


def row_sums(x: Any) -> Any:
    return ops["square"](x).sum((1,))


def softmax(x: Any) -> Any:
    e = ops["exp"](x - ops["max"](x, 1, keepdims=True))
    return e / e.sum((1,), True)


def cross_entropy(z: Any, labels: Any) -> Any:  # labels: [n, 1]
    top = ops["max"](z, 1, keepdims=True)
    lse = ops["log"](ops["exp"](z - top).sum((1,), True)) + top
    chosen = ops["where"](ops["equal"](ops["iota"](z.shape[1]), labels), z, 0.0)
    return (lse - chosen.sum((1,), True)).sum((0, 1)) / 64.0


def layer_norm(x: Any, gamma: Any, beta: Any) -> Any:
    n = x.shape[-1]
    d = x - x.sum((1,), True) * (1.0 / n)
    variance = ops["square"](d).sum((1,), True) * (1.0 / n)
    return d * ops["rsqrt"](variance + 1e-5) * gamma + beta


def layer_norm_loss(x: Any, gamma: Any, beta: Any, w: Any) -> Any:
    return (layer_norm(x, gamma, beta) * w).sum((0, 1))


def chain(x: Any) -> Any:
    return (ops["tanh"](x) * ops["sigmoid"](x) + ops["exp"](-x * x) * 0.5).sum((0,))


def column_sums(x: Any, b: Any) -> Any:
    h = ops["relu"](x + b)
    return [h, ops["sqrt"](h.sum((0,)) + 1.0) * 0.5]


def half(x: Any, y: Any) -> Any:
    h = x.cast(dtypes.bfloat16) * 1.5 + y
    return h.sum((1,))


def checked(x: Any, y: Any) -> Any:
    return ops["floordiv"](x, y) + ops["mod"](x, y)
