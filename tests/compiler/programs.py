"""Small programs over float64 arrays that transformations are tested on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphgrad.compiler.ops  # noqa: F401 -- fills the registry
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.controlflow import cond_values, while_values
from tests.compiler.differences import graph_of

Program = tuple[Callable[..., Any], list[Any]]
_rng = np.random.default_rng(7)


def array(*shape: int) -> Any:
    return _rng.uniform(0.3, 1.2, shape)


def mixed(x: Any, y: Any) -> Any:
    z = ops["sin"](x * y) * ops["exp"](x) + x / (1.0 + y * y)
    return [z.sum((0,)), ops["tanh"](z) - y]


def network(x: Any, w1: Any, b1: Any, w2: Any) -> Any:
    h = ops["tanh"](x @ w1 + b1)
    logits = h @ w2
    return ops["logsumexp"](logits, -1).sum((0,)) - (ops["softmax"](logits) * w2.sum((0,))).sum(
        (0, 1)
    )


def softmax_twice(x: Any) -> Any:
    return ops["softmax"](ops["softmax"](x) * 3.0) * x


def pieces(x: Any, y: Any) -> Any:
    both = ops["concat"]([x, y * x], 0)
    part = ops["slice"](both, (1, 0), (4, 3), (1, 1))
    return ops["max"](part * part, 1), part.transpose((1, 0))


def integers(x: Any, i: Any) -> Any:
    return [ops["gather"](x, i) * x.sum((0,)), i + 1, x * i.cast(x.dtype)]


def inner_call(x: Any, y: Any) -> Any:
    inner = graph_of(mixed, [np.zeros(3), np.zeros(3)], "mixed")

    def middle(a: Any, b: Any) -> Any:
        total, rest = ops["call"](a, b, graph=inner)
        return [rest * total, a]

    outer = graph_of(middle, [np.zeros(3), np.zeros(3)], "middle")
    one, two = ops["call"](x * y, y, graph=outer)
    return one + two * x


def branch(x: Any, y: Any) -> Any:
    total = x.sum((0,))
    first, second = cond_values(
        total > 2.0, lambda: [ops["sin"](x) * y, total * y], lambda: [x * x * x, y * 2.0]
    )
    return first * second


def loop(x: Any, w: Any) -> Any:
    _, h, total = while_values(
        lambda i, h, total: i < 4,
        lambda i, h, total: [i + 1, ops["sin"](h * w) + x, total + h * h.sum((0,))],
        [0, x, w],
    )
    return h * total


def loop_until(x: Any, w: Any) -> Any:
    """The number of trips depends on the values."""
    h, _ = while_values(
        lambda h, n: (h.sum((0,)) < 20.0) & (n < 50.0),
        lambda h, n: [h * (1.0 + w) + ops["tanh"](h @ ops["broadcast_to"](w, (3,))), n + 1.0],
        [x, ops["sum"](x * 0.0)],
    )
    return h * x


def no_trips(x: Any, w: Any) -> Any:
    h, _ = while_values(lambda h, n: n < 0, lambda h, n: [ops["exp"](h) * w, n + 1], [x, 0])
    return h * w


def nested_loops(x: Any, w: Any) -> Any:
    def inner(h: Any, n: Any) -> Any:
        return while_values(
            lambda k, a: k < n, lambda k, a: [k + 1, ops["sin"](a * w) + x], [n * 0, h]
        )[1]

    def body(n: Any, h: Any) -> list[Any]:
        again = cond_values(h.sum((0,)) > 1.5, lambda: [inner(h, n) * h], lambda: [h + w])
        return [n + 1, again[0]]

    return while_values(lambda n, h: n < 4, body, [0, x], maximum_iterations=3)[1]


def branch_of_loops(x: Any, w: Any) -> Any:
    return cond_values(w.sum((0,)) > 0.0, lambda: [loop(x, w) * w], lambda: [loop_until(x, w)])[0]


PROGRAMS: dict[str, Program] = {
    "mixed": (mixed, [array(3), array(3)]),
    "network": (network, [array(4, 3), array(3, 5), array(5), array(5, 2)]),
    "softmax twice": (softmax_twice, [array(2, 4)]),
    "pieces": (pieces, [array(3, 3), array(3, 3)]),
    "integers": (integers, [array(4), np.array([1, 3, 1, 0])]),
    "inner call": (inner_call, [array(3), array(3)]),
    "true branch": (branch, [array(3) + 0.5, array(3)]),
    "false branch": (branch, [array(3) * 0.3, array(3)]),
    "loop": (loop, [array(3), array(3)]),
    "loop until": (loop_until, [array(3), array(3)]),
    "no trips": (no_trips, [array(3), array(3)]),
    "nested loops": (nested_loops, [array(3), array(3)]),
    "branch of loops": (branch_of_loops, [array(3), array(3)]),
}


def program(name: str) -> tuple[Graph, list[Any]]:
    """A program as a graph, and arrays to run it on."""
    fn, arrays = PROGRAMS[name]
    return graph_of(fn, arrays, name), arrays
