"""What derivatives are at edges: of the sum of a function, first and second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import Op, ops
from graphgrad.compiler.ops.indexing import index
from graphgrad.compiler.ops.norms import clip_by_norm, norm
from graphgrad.compiler.passes.stability import stabilised
from graphgrad.compiler.transform.autodiff import gradient_graph
from tests.compiler.differences import graph_of


def total(fn: Callable[[Any], Any], v: Any) -> Any:
    """The sum of fn(v)."""
    y = fn(v)
    return y.sum(tuple(range(y.ndim)))


def edge_graphs(fn: Callable[[Any], Any], array: Any) -> tuple[Graph, Graph]:
    """The graph of the gradient of the sum of fn, and of the gradient of the sum of that."""
    graph = stabilised(graph_of(lambda v: total(fn, v), [array]))  # as a forward run is compiled
    first = graph_of(lambda v: gradient_of(graph, v), [array])
    return first, graph_of(lambda v: gradient_of(first, v), [array])


def gradient_of(graph: Any, v: Any) -> Any:
    """The gradient of the sum of a graph's output, in the trace in progress."""
    call = ops["call"]
    (y,) = call(v, graph=graph)
    reverse = gradient_graph(graph, (True,), (True,))
    one = np.ones(y.shape)
    return call(v, y, ops["broadcast_to"](np.float64(1), one.shape), graph=reverse)[0]


def op(name: str) -> Op:
    return ops[name]


def guarded(fn: Callable[[Any], Any], other: float = 0.0) -> Callable[[Any], Any]:
    return lambda x: op("where")(x > 0, fn(x), other)


INF = np.inf
EDGES: list[tuple[str, Callable[[Any], Any], Any, Any, Any]] = [
    ("where(x>0, sqrt x, 0)", guarded(lambda x: op("sqrt")(x)), [0.0], [0], [0]),
    ("where(x>0, rsqrt x, 0)", guarded(lambda x: op("rsqrt")(x)), [0.0], [0], [0]),
    ("where(x>0, log x, 0)", guarded(lambda x: op("log")(x)), [0.0, -1.0], [0, 0], [0, 0]),
    ("where(x>0, 1/x, 0)", guarded(lambda x: 1 / x), [0.0], [0], [0]),
    ("where(x>0, x**.5, 0)", guarded(lambda x: x**0.5), [0.0, -2.0], [0, 0], [0, 0]),
    ("where(x>0, x log x, 0)", guarded(lambda x: x * op("log")(x)), [0.0], [0], [0]),
    (
        "where(x<50, exp x, 1) x",
        lambda x: op("where")(x < 50, op("exp")(x), 1) * x,
        [1000.0],
        [1],
        [0],
    ),
    (
        "where(x<50, expm1 x, x)",
        lambda x: op("where")(x < 50, op("expm1")(x), x),
        [1000.0],
        [1],
        [0],
    ),
    ("log(1+exp x)", lambda x: op("log")(1 + op("exp")(x)), [100.0, 1000.0], [1, 1], [0, 0]),
    ("softplus", lambda x: op("softplus")(x), [100.0, 1000.0, -1000.0], [1, 1, 0], [0, 0, 0]),
    ("sigmoid", lambda x: op("sigmoid")(x), [1000.0, -1000.0], [0, 0], [0, 0]),
    ("tanh", lambda x: op("tanh")(x), [1000.0, -1000.0, INF], [0, 0, 0], [0, 0, 0]),
    ("asinh", lambda x: op("asinh")(x), [0.0, 1e200, -INF], [1, 1e-200, 0], [0, 0, 0]),
    ("acosh", lambda x: op("acosh")(x), [1e200, INF], [1e-200, 0], [0, 0]),
    ("atan", lambda x: op("atan")(x), [0.0, 1e200, INF], [1, 0, 0], [0, 0, 0]),
    (
        "where(|x|<1, asin x, 0)",
        lambda x: op("where")(op("abs")(x) < 1, op("asin")(x), 0),
        [0.0, 1.0, 2.0],
        [1, 0, 0],
        [0, 0, 0],
    ),
    (
        "where(|x|<1, atanh x, 0)",
        lambda x: op("where")(op("abs")(x) < 1, op("atanh")(x), 0),
        [0.0, 1.0, -2.0],
        [1, 0, 0],
        [0, 0, 0],
    ),
    ("hypot(x, 0)", lambda x: op("hypot")(x, 0.0), [0.0, 3.0, -1e200], [0, 1, -1], [0, 0, 0]),
    ("atan2(x, 1)", lambda x: op("atan2")(x, 1.0), [0.0, INF], [1, 0], [0, 0]),
    ("atan2(0, x)", lambda x: op("atan2")(0.0, x), [0.0, 2.0], [0, 0], [0, 0]),
    ("cumprod", lambda x: op("cumprod")(x), [0.0, 2.0, 3.0], [9, 0, 0], [6, 4, 2]),
    ("prod", lambda x: op("prod")(x), [0.0, 2.0, 3.0], [6, 0, 0], [5, 3, 2]),
    ("prod, two zeros", lambda x: op("prod")(x), [0.0, 0.0, 3.0], [0, 0, 0], [3, 3, 0]),
    ("cumsum", lambda x: op("cumsum")(x), [0.0, INF, 3.0], [3, 2, 1], [0, 0, 0]),
    ("max, two equal", lambda x: op("max")(x), [1.0, 1.0, 0.0], [0.5, 0.5, 0], [0, 0, 0]),
    ("min, all equal", lambda x: op("min")(x), [2.0, 2.0, 2.0, 2.0], [0.25] * 4, [0] * 4),
    ("max, infinities", lambda x: op("max")(x), [INF, -INF], [1, 0], [0, 0]),
    ("std, all equal", lambda x: op("std")(x), [0.1, 0.1, 0.1], [0] * 3, [0] * 3),
    ("std of one", lambda x: op("std")(x), [3.0], [0], [0]),
    ("variance, all equal", lambda x: op("variance")(x), [0.1, 0.1, 0.1], [0] * 3, [0] * 3),
    ("variance", lambda x: op("variance")(x), [1e8, 1e8 + 2], [-1, 1], [0, 0]),
    ("norm at 0", lambda x: op("euclidean_norm")(x), [0.0, 0.0], [0, 0], [0, 0]),
    ("norm", lambda x: op("euclidean_norm")(x), [3.0, 4.0], [0.6, 0.8], [0.032, -0.024]),
    ("3-norm at 0", lambda x: norm(x, 3), [0.0, 0.0], [0, 0], [0, 0]),
    ("half-norm at 0", lambda x: norm(x, 0.5), [0.0, 0.0], [0, 0], [0, 0]),
    ("clip_by_norm at 0", lambda x: clip_by_norm(x, 1.0), [0.0, 0.0], [1, 1], [0, 0]),
    ("cummax, equal ones", lambda x: op("cummax")(x), [1.0, 1.0, 0.0], [2, 1, 0], [0, 0, 0]),
    ("cummin with NaN", lambda x: op("cummin")(x), [1.0, np.nan, 0.0], [1, 0, 0], [0, 0, 0]),
    (
        "cumulative_logsumexp",
        lambda x: op("cumulative_logsumexp")(x),
        [-INF, -INF, 1000.0],
        [0, 0, 1],
        [0, 0, 0],
    ),
    ("sort of equals", lambda x: op("sort")(x) * [1.0, 2.0, 3.0], [1.0, 0, 1], [2, 1, 3], [0] * 3),
    ("top_k", lambda x: op("top_k")(x, 2)[0], [1.0, np.nan, 1.0], [1, 1, 0], [0, 0, 0]),
    ("x**0", lambda x: x**0, [0.0, 2.0], [0, 0], [0, 0]),
    ("x**0.0", lambda x: x**0.0, [0.0], [0], [0]),
    ("x**1", lambda x: x**1.0, [0.0], [1], [0]),
    ("x**2", lambda x: x**2.0, [0.0, -3.0], [0, -6], [2, 2]),
    ("x**3", lambda x: x**3.0, [0.0, -2.0], [0, 12], [0, -12]),
    ("0**x", lambda x: 0.0**x, [2.0, 0.0], [0, 0], [0, 0]),
    ("abs", lambda x: op("abs")(x), [0.0, -0.0, -INF], [0, 0, -1], [0, 0, 0]),
    ("relu", lambda x: op("relu")(x), [0.0, -0.0, INF], [0, 0, 1], [0, 0, 0]),
    ("maximum(x, 0)", lambda x: op("maximum")(x, 0), [0.0], [1], [0]),
    ("maximum(0, x)", lambda x: op("maximum")(0, x), [0.0], [0], [0]),
    ("minimum(x, 0)", lambda x: op("minimum")(x, 0), [0.0], [1], [0]),
    (
        "clip(0, 1)",
        lambda x: op("minimum")(op("maximum")(x, 0), 1),
        [0.0, 1.0, 2.0],
        [1, 1, 0],
        [0] * 3,
    ),
    ("logsumexp(-inf, -inf)", lambda x: op("logsumexp")(x), [-INF, -INF], [0, 0], [0, 0]),
    ("logsumexp(1000, 1000)", lambda x: op("logsumexp")(x), [1000.0, 1000.0], [0.5, 0.5], [0, 0]),
    ("logsumexp(-inf, 0)", lambda x: op("logsumexp")(x), [-INF, 0.0], [0, 1], [0, 0]),
    (
        "log(sum(exp))",
        lambda x: op("log")(op("exp")(x).sum((0,))),
        [1000.0, 1000.0],
        [0.5, 0.5],
        [0, 0],
    ),
    ("softmax at -inf", lambda x: op("softmax")(x) * [1.0, 0.0], [-INF, 0.0], [0, 0], [0, 0]),
    (
        "masked softmax row",
        lambda x: op("where")([False, False], op("softmax")(x), 0),
        [-INF, -INF],
        [0, 0],
        [0, 0],
    ),
    ("log_softmax", lambda x: index(op("log_softmax")(x), 0), [1e4, 0.0], [0, 0], [0, 0]),
    (
        "sparse cross-entropy",
        lambda x: op("sparse_softmax_cross_entropy")(x, np.array(1)),
        [1e4, 0.0, -INF],
        [1, -1, 0],
        [0, 0, 0],
    ),
    (
        "dense cross-entropy",
        lambda x: op("softmax_cross_entropy")(x, [0.0, 1.0, 0.0]),
        [-INF, 5.0, -1e4],
        [0, 0, 0],
        [0, 0, 0],
    ),
    ("sum of none", lambda x: op("sum")(x), np.zeros(0), np.zeros(0), np.zeros(0)),
    ("sqrt", lambda x: op("sqrt")(x), [0.0], [INF], [-INF]),
]
