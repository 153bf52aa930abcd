"""Loops that stack for as long as they run: compiled loops of known capacity, one after the other.

The memory of a Program is planned before it runs. A loop whose trips nobody knows is therefore run
by one with room for some steps, again and again, each time with as much room as all before it had,
until it ends before its room does. The count of the last run is the first guess of the next one:
then there is one chunk, and the stacks are views of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import DimScope, is_runtime_size
from graphgrad.compiler.interpret import Array, run_graph
from graphgrad.compiler.ir import Graph, Node
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.subgraphs import build
from graphgrad.compiler.types import element_count, tensor_type

FIRST = 64  # steps of the first chunk of a loop that has not run yet
CHUNK_BYTES = 1 << 26  # of the stacks of a chunk, beyond which it grows no further


def in_chunks(node: Node) -> bool:
    """Does a node stack for as long as it runs, values whose sizes stay the same?"""
    attrs = node.attrs
    stacks = node.op.name == "while_loop" and is_runtime_size(attrs["trips"] or 0)
    return stacks and not (attrs["varying"] or attrs["padded"])


def chunk_graph(cond_graph: Graph, body_graph: Graph, carried: int) -> Graph:
    """(state, captures, room) -> (state, stacks, flags): at most as many steps as room is long."""
    key = ("chunk", id(cond_graph))
    if key not in body_graph.memo:
        types = body_graph.types
        room = DimScope().symbol("room", len(types), 0, FIRST)

        def make(builder: object, *values: object) -> tuple[object, ...]:
            outs: tuple[object, ...] = ops["while_loop"](
                *values[:-1], cond_graph=cond_graph, body_graph=body_graph, carried=carried,
                maximum_iterations=None, trips=room, varying=(), padded=(),
            )  # fmt: skip
            return outs

        graph = build(body_graph.name, [*types, tensor_type((room,), dtypes.bool_)], make)
        body_graph.memo[key] = cond_graph, graph  # the first so that its identity stays its own
    return body_graph.memo[key][1]  # type: ignore[no-any-return]


def run_in_chunks(
    arrays: Sequence[Array], cond_graph: Graph, body_graph: Graph, carried: int,
    maximum_iterations: int | None,
) -> tuple[Array, ...]:  # fmt: skip
    """The results of the loop: state, stacks and flags."""
    graph = chunk_graph(cond_graph, body_graph, carried)
    state, captures = list(arrays[:carried]), arrays[carried:]
    chunks: list[list[Array]] = []
    room, done = body_graph.memo.get("steps", FIRST - 1) + 1, 0
    while True:
        if maximum_iterations is not None:
            room = min(room, maximum_iterations - done)
        results = run_graph(graph, (*state, *captures, np.empty(room, np.bool_)))
        state, rows = list(results[:carried]), list(results[carried:])
        steps = int(np.count_nonzero(rows[-1]))
        done += steps
        chunks.append([x[:steps] for x in rows])
        if steps < room or done == maximum_iterations:
            break
        row_bytes = sum(element_count(x.shape[1:]) * x.itemsize for x in rows)
        room = min(max(done, FIRST), max(CHUNK_BYTES // row_bytes, FIRST))
    body_graph.memo["steps"] = done
    if len(chunks) == 1:
        return (*state, *chunks[0])
    return (*state, *(np.concatenate(parts) for parts in zip(*chunks, strict=True)))
