"""Batching of loops: lanes run in lockstep, and those that are done keep their state.

Stacked values have their steps first; as outputs of a batched op they have their lanes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad.compiler.dims import Dim, Extent
from graphgrad.compiler.dtypes import bool_
from graphgrad.compiler.errors import TraceError
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.while_loop import Axes, room_of
from graphgrad.compiler.transform.autodiff import zeros_like
from graphgrad.compiler.transform.batching import (
    batch_graph,
    select_lanes,
    stretch,
)
from graphgrad.compiler.transform.subgraphs import apply, build, must_be_chosen, place
from graphgrad.compiler.types import tensor_type

Mask = tuple[bool, ...]
Batched = tuple[tuple[Any, ...], Mask]  # outputs, and which of them are batched


def swap(x: Any) -> Any:
    """Lanes first instead of steps first, or the other way round."""
    return x.transpose((1, 0, *range(2, x.ndim)))


def lanes_first(stacks: Sequence[Any], batched: Sequence[bool]) -> list[Any]:
    """Stacks as outputs of a batched op; those of what is no example's own have steps alone."""
    return [swap(x) if b else x for x, b in zip(stacks, batched, strict=True)]


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
    carried: int, maximum_iterations: int | None, trips: Dim | None, varying: Axes = (),
    padded: Axes = (), lists: bool = False,
) -> Batched:  # fmt: skip
    """Until every lane is done; a lane whose condition fails keeps its state from then on."""
    n, extra = carried, len(body_graph.outputs) - carried
    marks = batched_state(body_graph, batched, n, size)
    apart = batch_graph(cond_graph, marks, size)[1][0]
    if apart:
        if varying or lists:
            raise own_ends("while_loop")
        marks = (True,) * n + marks[n:]
    wanted = marks[:n] + (apart,) * extra
    condition = batch_graph(cond_graph, marks, size)[0]
    if apart and must_be_chosen(body_graph):
        body, ends = batch_graph(_guarded(cond_graph, body_graph, n, trips is not None), marks,
                                 size, wanted + (True,) * (trips is not None))  # fmt: skip
    else:
        body, ends = batch_graph(body_graph, marks, size, wanted)
        if apart:
            body = _stop_lanes(condition, body, n, trips is not None)
    if apart:
        condition = _any_lane(condition)
    outs = apply(
        ops["while_loop"],
        [*stretched(xs[:n], batched[:n], marks[:n], size), *xs[n:]],
        cond_graph=condition, body_graph=body, carried=n, maximum_iterations=maximum_iterations,
        trips=trips, lists=lists,
        varying=tuple((k, axis + marks[k], end) for k, axis, end in varying),
        padded=tuple((k, axis + ends[n + k], end) for k, axis, end in padded),
    )  # fmt: skip
    if trips is None:
        return outs, marks[:n]
    flags = swap(outs[n + extra]) if apart else outs[-1]
    stacks = lanes_first(outs[n : n + extra], ends[n : n + extra])
    return (*outs[:n], *stacks, flags), (*marks[:n], *ends[n : n + extra], apart)


def own_ends(op: str) -> TraceError:
    """The error for lanes that would grow to sizes of their own."""
    return TraceError(
        f"vmap: {op}: a loop variable changes its size, and how often differs from example to "
        "example; use a buffer of fixed size, and count what is in it"
    )


def _guarded(condition: Graph, body: Graph, carried: int, flags: bool) -> Graph:
    """One lane of a loop whose body must not run when the lane is done: the state is kept and zeros
    are stacked; also stacks whether it ran."""

    def make(builder: Any, *values: Any) -> list[Any]:
        (running,) = place(builder, condition, values)
        outs = ops["cond"](
            running, *values, true_graph=body, false_graph=_idle(body, carried), widened=()
        )
        return [*outs, *([running] if flags else [])]

    return build(body.name, body.types, make)


def _idle(body: Graph, carried: int) -> Graph:
    """A step that is not made: the state as it is, and zeros for what `body` stacks."""
    extra = [t for t in body.output_types[carried:]]
    return build(
        "no step", body.types, lambda b, *xs: [*xs[:carried], *(zeros_like(t) for t in extra)]
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
    scanned: int, length: Extent, reverse: bool, masked: bool, varying: Axes = (),
    padded: Axes = (), room: int | None = None,
) -> Batched:  # fmt: skip
    """Lanes in lockstep; flags that differ between lanes become part of the body."""
    n, extra, split = carried, len(body_graph.outputs) - carried, carried + masked
    apart = masked and batched[n]
    if apart and varying:
        raise own_ends("scan")
    steps = [swap(x) if b else x for x, b in zip(xs[n : split + scanned], batched[n:])]
    inputs = batched[:n] + batched[split:]
    marks = batched_state(body_graph, inputs, n, size)
    if apart:
        marks = (True,) * n + marks[n:]
    wanted = marks[:n] + (apart,) * extra
    if apart and must_be_chosen(body_graph):
        flagged = (*marks[:n], True, *marks[n:])
        body, ends = batch_graph(_flagged(body_graph, n), flagged, size, wanted)
    else:
        body, ends = batch_graph(body_graph, marks, size, wanted)
        if apart:
            body = _skip_lanes(body, n, size)
    outs = apply(
        ops["scan"],
        [*stretched(xs[:n], batched[:n], marks[:n], size), *steps, *xs[split + scanned :]],
        body_graph=body, carried=n, scanned=scanned + apart, length=length, reverse=reverse,
        masked=masked and not apart, **room_of(room),
        varying=tuple((k, axis + marks[k], end) for k, axis, end in varying),
        padded=tuple((k, axis + ends[n + k], end) for k, axis, end in padded),
    )  # fmt: skip
    return (*outs[:n], *lanes_first(outs[n:], ends[n:])), (*marks[:n], *ends[n:])


def _flagged(body: Graph, carried: int) -> Graph:
    """One lane of `body` with a flag before the slices: where it is false, no step is made."""
    types = [*body.types[:carried], tensor_type((), bool_), *body.types[carried:]]

    def make(builder: Any, *values: Any) -> list[Any]:
        inputs = [*values[:carried], *values[carried + 1 :]]
        idle = _idle(body, carried)
        return list(
            ops["cond"](values[carried], *inputs, true_graph=body, false_graph=idle, widened=())
        )

    return build(body.name, types, make)


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


def batch_checkpointed(
    xs: tuple[Any, ...], batched: Mask, size: Extent, *, cond_graph: Graph | None,
    body_graph: Graph, carried: int, scanned: int, length: Extent | None, reverse: bool,
    **attrs: Any,
) -> Batched:  # fmt: skip
    """Until every lane is done; checkpoints are of all lanes at once."""
    n, extra = carried, len(body_graph.outputs) - carried
    marks = batched_state(body_graph, batched, n, size)
    condition = None
    if cond_graph is not None:
        apart = batch_graph(cond_graph, marks, size)[1][0]
        marks = (True,) * n + marks[n:] if apart else marks
        condition = batch_graph(cond_graph, marks, size)[0]
    wanted = marks[:n] + (True,) * extra
    if cond_graph is not None and apart and must_be_chosen(body_graph):
        body = batch_graph(_guarded(cond_graph, body_graph, n, False), marks, size, wanted)[0]
    else:
        body = batch_graph(body_graph, marks, size, wanted)[0]
        if condition is not None and apart:
            body = _stop_lanes(condition, body, n, False)
    if condition is not None and apart:
        condition = _any_lane(condition)
    split = n + scanned
    steps = [swap(x) if b else x for x, b in zip(xs[n:split], batched[n:split], strict=True)]
    outs = apply(
        ops["checkpointed"],
        [*stretched(xs[:n], batched[:n], marks[:n], size), *steps, *xs[split:]],
        cond_graph=condition, body_graph=body, carried=n, scanned=scanned, length=length,
        reverse=reverse, **attrs,
    )  # fmt: skip
    end = n + extra
    kept = [swap(y) if b else y for y, b in zip(outs[end : end + n], marks[:n], strict=True)]
    found = (*outs[:n], *map(swap, outs[n:end]), *kept, *outs[end + n :])
    return found, (*marks[:n], *(True,) * extra, *marks[:n], *(False,) * 3)
