"""Run a graph node by node with each op's NumPy reference: the oracle of every compiler test.

Also how an op that holds sub-graphs runs them (`run_graph`): by whatever `set_graph_runner` was
given, and node by node while an interpretation is in progress, so that it stays one all through.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.ir import Graph, Node, Value, replay
from graphgrad.compiler.transform.sizes import RuntimeSizes, bind_sizes, is_symbolic, specialise

Array = np.ndarray[Any, Any]
Runner = Callable[[Graph, Sequence[Array]], Sequence[Array]]


class _Local(threading.local):
    interpreting = False
    flushing = False


class _Hook:
    runner: Runner | None = None


_local = _Local()


def set_graph_runner(runner: Runner | None) -> Runner | None:
    """How ops run their sub-graphs on arrays: `runner(graph, arrays) -> arrays`. None:
    interpret. The runner so far."""
    before, _Hook.runner = _Hook.runner, runner
    return before


@contextmanager
def flushing(on: bool) -> Iterator[None]:
    """Graphs that ops run meanwhile take subnormal numbers for zero, or do not."""
    before, _local.flushing = _local.flushing, on
    try:
        yield
    finally:
        _local.flushing = before


def flushed(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run`, with graphs that ops run taking subnormal numbers for zero."""

    def within(*args: Any) -> Any:
        with flushing(True):
            return run(*args)

    return within


def flushes() -> bool:
    """Do graphs that ops run take subnormal numbers for zero?"""
    return _local.flushing


def run_graph(graph: Graph, arrays: Sequence[Array]) -> Sequence[Array]:
    """Run a sub-graph on arrays, as an op's `ref` does."""
    if _Hook.runner is None or _local.interpreting:
        return interpret(graph, arrays)
    return _Hook.runner(graph, arrays)


def interpret(graph: Graph, arrays: Sequence[Any]) -> list[Array]:
    """The outputs of `graph` for arrays of its parameters' types. Errors name the user's line."""
    return _interpret(graph, arrays)[0]


def interpret_all(graph: Graph, arrays: Sequence[Any]) -> dict[Value, Array]:
    """What every value of the graph becomes."""
    return _interpret(graph, arrays)[1]


def _interpret(graph: Graph, arrays: Sequence[Any]) -> tuple[list[Array], dict[Value, Array]]:
    given = [np.asarray(a) for a in arrays]
    shapes = [a.shape for a in given]
    if is_symbolic(graph):
        RuntimeSizes(graph, shapes)  # checks what was assumed of them
    known = specialise(graph, bind_sizes(graph.types, shapes))
    saved, _local.interpreting = _local.interpreting, True
    try:
        outputs, env = replay(known, given, _stepper(known, shapes))
    finally:
        _local.interpreting = saved
    if known is not graph:
        originals = [*graph.params, *(v for n in graph.nodes for v in n.outputs)]
        copies = [*known.params, *(v for n in known.nodes for v in n.outputs)]
        env = {v: env[w] for v, w in zip(originals, copies, strict=True)}
    return list(outputs), env


def _stepper(graph: Graph, shapes: Sequence[Sequence[int]]) -> Callable[..., tuple[Array, ...]]:
    """`run_node`, with the sizes that the run finds out."""
    if not is_symbolic(graph):
        return run_node
    sizes = RuntimeSizes(graph, shapes)

    def run(node: Node, arrays: tuple[Any, ...]) -> tuple[Array, ...]:
        found = run_node(sizes.apply(node), arrays)
        sizes.after(node, [a.shape for a in found])
        return found

    return run


def run_node(node: Node, arrays: tuple[Any, ...]) -> tuple[Array, ...]:
    """One node on arrays; results have exactly the declared dtypes."""
    try:
        with np.errstate(all="ignore"):
            results = node.op.evaluate(arrays, node.attrs)
    except GraphgradError as e:
        raise e.at(node.where) from None
    return tuple(
        np.asarray(r, dtype=v.type.dtype.dtype) for r, v in zip(results, node.outputs, strict=True)
    )
