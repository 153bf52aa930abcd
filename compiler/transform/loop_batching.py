"""Batching of loops: lanes run in lockstep, and those that are done keep their state.

Stacked values have their steps first; as outputs of a batched op they have their lanes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad.compiler.dims import Dim, Extent
from graphgrad.compiler.dtypes import bool_
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.batching import batch_graph, select_lanes, stretch
from graphgrad.compiler.transform.sizes import runtime_size
from graphgrad.compiler.transform.subgraphs import apply, build, place
from graphgrad.compiler.types import tensor_type

Mask = tuple[bool, ...]
Batched = tuple[tuple[Any, ...], Mask]  # outputs, and which of them are batched


def swap(x: Any) -> Any:
    """Lanes first instead of steps first, or the other way round."""
    return x.transpose((1, 0, *range(2, x.ndim)))


def stretched(
    xs: Sequence[Any], batched: Sequence[bool], wanted: Sequence[bool], size: Extent
) -> list[Any]:
    """The values, with the extra axis where it is wanted."""
    return [
        x if b or not w else stretch(x, size) for x, b, w in zip(xs, batched, wanted, strict=True)
    ]


def batched_state(body: Graph, batched: Mask, carried: int, size: Extent) -> Mask:
    """Which parameters of the body are batched, the state also where it becomes so in some step."""
    while True:
        after = batch_graph(body, batched, size)[1][:carried]
        now = tuple(a or b for a, b in zip(batched, after)) + batched[carried:]
        if now == batched:
            return batched
        batched = now


def batch_while(
    xs: tuple[Any, ...], batched: Mask, size: Extent, *, cond_graph: Graph, body_graph: Graph,
    carried: int, maximum_iterations: int | None, trips: Dim | None,
) -> Batched:  # fmt: skip
    """Until every lane is done; a lane whose condition fails keeps its state from then on."""
    n, extra = carried, len(body_graph.outputs) - carried
    marks = batched_state(body_graph, batched, n, size)
    apart = batch_graph(cond_graph, marks, size)[1][0]
    if apart:
        marks = (True,) * n + marks[n:]
    body = batch_graph(body_graph, marks, size, marks[:n] + (True,) * extra)[0]
    condition = batch_graph(cond_graph, marks, size)[0]
    if apart:
        body = _stop_lanes(condition, body, n, trips is not None)
        condition = _any_lane(condition)
    outs = apply(
        ops["while_loop"],
        [*stretched(xs[:n], batched[:n], marks[:n], size), *xs[n:]],
        cond_graph=condition, body_graph=body, carried=n, maximum_iterations=maximum_iterations,
        trips=trips and runtime_size("trips"),
    )  # fmt: skip
    if trips is None:
        return outs, marks[:n]
    flags = swap(outs[n + extra]) if apart else outs[-1]
    return (*outs[:n], *map(swap, outs[n : n + extra]), flags), (
        *marks[:n],
        *(True,) * extra,
        apart,
    )


def _stop_lanes(condition: Graph, body: Graph, carried: int, flags: bool) -> Graph:
    """`body` with the state kept in lanes whose condition fails; also stacks which lanes ran."""

    def make(builder: Any, *values: Any) -> list[Any]:
        (running,) = place(builder, condition, values)
        outs = place(builder, body, values)
        state = [select_lanes(running, new, old) for new, old in zip(outs[:carried], values)]
        return [*state, *outs[carried:], *([running] if flags else [])]

    return build(body.name, body.types, make)


def _any_lane(condition: Graph) -> Graph:
    """Does the condition hold in any lane?"""
    return build(
        condition.name,
        condition.types,
        lambda b, *xs: [ops["any"](place(b, condition, xs)[0], (0,))],
    )


def batch_scan(
    xs: tuple[Any, ...], batched: Mask, size: Extent, *, body_graph: Graph, carried: int,
    scanned: int, length: Extent, reverse: bool, masked: bool,
) -> Batched:  # fmt: skip
    """Lanes in lockstep; flags that differ between lanes become part of the body."""
    n, extra, split = carried, len(body_graph.outputs) - carried, carried + masked
    apart = masked and batched[n]
    steps = [swap(x) if b else x for x, b in zip(xs[n : split + scanned], batched[n:])]
    marks = batched_state(body_graph, batched[:n] + batched[split:], n, size)
    if apart:
        marks = (True,) * n + marks[n:]
    body = batch_graph(body_graph, marks, size, marks[:n] + (True,) * extra)[0]
    if apart:
        body = _skip_lanes(body, n, size)
    outs = apply(
        ops["scan"],
        [*stretched(xs[:n], batched[:n], marks[:n], size), *steps, *xs[split + scanned :]],
        body_graph=body, carried=n, scanned=scanned + apart, length=length, reverse=reverse,
        masked=masked and not apart,
    )  # fmt: skip
    return (*outs[:n], *map(swap, outs[n:])), (*marks[:n], *(True,) * extra)


def _skip_lanes(body: Graph, carried: int, size: Extent) -> Graph:
    """`body` with a slice of flags before the others: lanes whose flag is false keep their
    state."""
    types = [*body.types[:carried], tensor_type((size,), bool_), *body.types[carried:]]

    def make(builder: Any, *values: Any) -> list[Any]:
        running = values[carried]
        outs = place(builder, body, [*values[:carried], *values[carried + 1 :]])
        state = [select_lanes(running, new, old) for new, old in zip(outs[:carried], values)]
        return [*state, *(select_lanes(running, y, y.dtype.dtype.type(0)) for y in outs[carried:])]

    return build(body.name, types, make)
