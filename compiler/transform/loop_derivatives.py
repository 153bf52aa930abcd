"""Derivatives of loops: the reverse of either loop is a scan over stacks, in the other direction.

One step of a loop maps (state, slices, captures) to (next state, stacked values). Its reverse maps
the cotangent of the next state, and the slices of the stacked cotangents, to the cotangent of the
state, to slices of cotangents of the scanned inputs, and to what the step adds to the cotangents of
the captures, which are part of the state of the reverse loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from graphgrad.compiler.dims import Dim, Extent, Symbol
from graphgrad.compiler.ir import Graph, Value
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.renamed import as_type
from graphgrad.compiler.ops.runtime_sizes import size_in
from graphgrad.compiler.ops.while_loop import Axes, resized, room_of
from graphgrad.compiler.transform.autodiff import forward, live, reverse, zeros_like
from graphgrad.compiler.transform.loop_partials import with_partials
from graphgrad.compiler.transform.loop_sizes import (
    cut_to,
    mentioned,
    moved_axes,
    padded_axes,
    solved,
    stacked_size,
    step_sizes,
    with_sizes,
)
from graphgrad.compiler.transform.residuals import with_residuals
from graphgrad.compiler.transform.sizes import runtime_size, specialise, type_at
from graphgrad.compiler.transform.subgraphs import (
    apply,
    build,
    floating,
    given,
    place,
    present,
    reached,
    scattered,
    select,
    used_params,
)  # fmt: skip
from graphgrad.compiler.types import TensorType, tensor_type

Mask = tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Loop:
    """One application of a loop: the body, its inputs in three groups, and what is not in a while.

    `xs` are the scanned inputs without the flags.
    """

    body: Graph
    state: tuple[Any, ...]
    xs: tuple[Any, ...]
    captures: tuple[Any, ...]
    length: Extent
    reverse: bool
    flags: Any
    varying: Axes
    room: int | None = None

    @property
    def carried(self) -> int:
        return len(self.state)

    def groups(
        self, values: Sequence[Any]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
        """Values or marks, one a parameter of the body, as (state, slices, captures)."""
        n, m = self.carried, self.carried + len(self.xs)
        return tuple(values[:n]), tuple(values[n:m]), tuple(values[m:])

    def active(self, needs: Sequence[bool]) -> Mask:
        """Which parameters of the body depend on the inputs that `needs` marks, in any step."""
        return active_params(self.body, self.carried, needs)


def active_params(body: Graph, carried: int, needs: Sequence[bool]) -> Mask:
    """`needs`, and the state that depends on what it marks, in any step."""
    marked = [n and p.dtype.is_inexact for n, p in zip(needs, body.params, strict=True)]
    while True:
        after = reached(body, marked)
        now = [a or b for a, b in zip(marked, after[:carried])] + marked[carried:]
        if now == marked:
            return tuple(marked)
        marked = now


def active_results(body: Graph, carried: int, active: Mask) -> Mask:
    """Which results of the loop depend on the parameters that `active` marks: after no step at all,
    the state is what it was before."""
    return tuple(
        a or (i < carried and active[i]) for i, a in enumerate(reached(body, active))
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Step:
    """The reverse of one step: its graph, which cotangents it is given, and which it gives."""

    graph: Graph
    given: Mask  # one an output of the body
    has: Mask  # one a parameter of the body

    def reads(self) -> tuple[list[bool], list[bool]]:
        """Which parameters and which outputs of the body it reads."""
        used, n = used_params(self.graph), len(self.has)
        return used[:n], used[n : n + len(self.given)]


def reverse_step(body: Graph, carried: int, seeds: Sequence[bool], wanted: Mask) -> Step:
    """The reverse of one step, for cotangents of what `seeds` marks: then also of the state that
    gets one on the way."""
    marked = list(seeds)
    while True:
        graph, has = reverse(body, tuple(marked), wanted)
        now = [a or b for a, b in zip(marked, has[:carried])] + marked[carried:]
        if now == marked:
            return Step(graph, tuple(marked), has)
        marked = now


def missing_stacks(body: Graph, carried: int, step: Step) -> list[Value]:
    """The values of each step that its reverse reads and that the body does not stack."""
    params, outputs = step.reads()
    stacked = set(body.outputs[carried:])
    read = [p for p, used in zip(body.params[:carried], params) if used]
    read += [v for v, used in zip(body.outputs[:carried], outputs) if used]
    return [v for v in dict.fromkeys(read) if v not in stacked]


def sizes_to_tell(body: Graph, carried: int, step: Step, varying: Axes) -> list[Symbol]:
    """The sizes of a step that its reverse mentions, and that no cotangent of the state tells."""
    own = step_sizes(body, varying)
    if not own:
        return []
    params, outputs = step.reads()
    values = [v for v, used in zip(body.params, params) if used]
    values += [v for v, used in zip(body.outputs, outputs) if used]
    values += select(body.params[:carried], step.given[:carried])
    values += select(body.outputs, step.given)
    told = [v.type for v in select(body.outputs[:carried], step.given[:carried])]
    needed = (mentioned(step.graph, values) & own) - solved(told, told).keys()
    return sorted(needed, key=lambda s: (s.name, s.order))


def augmented_body(body: Graph, carried: int, active: Mask, varying: Axes = ()) -> Graph:
    """`body` that also stacks what its reverse reads."""
    inner = with_residuals(body, active, carried)
    count = len(body.outputs)
    seeds = [a and i < count for i, a in enumerate(active_results(inner, carried, active))]
    step = reverse_step(inner, carried, seeds, active)
    richer = with_partials(inner, step.graph)
    if richer is not inner:
        inner = richer
        seeds += [False] * (len(inner.outputs) - len(seeds))
        step = reverse_step(inner, carried, seeds, active)
    missing = missing_stacks(inner, carried, step)
    found = Graph(inner.params, inner.nodes, (*inner.outputs, *missing), inner.name)
    untold = sizes_to_tell(inner, carried, step, varying)
    untold = [s for s in untold if stacked_size(found, carried, s) is None]
    return with_sizes(found, untold) if untold else found


def is_complete(body: Graph, carried: int, step: Step, varying: Axes) -> bool:
    """Does the body stack all that its reverse reads?"""
    untold = sizes_to_tell(body, carried, step, varying)
    return not missing_stacks(body, carried, step) and all(
        stacked_size(body, carried, s) is not None for s in untold
    )


def reverse_loop(
    loop: Loop, gs: tuple[Any, ...], stacks: tuple[Any, ...], wanted: Mask, step: Step
) -> tuple[Any, ...]:
    """The cotangents of (state, scanned inputs, captures), None where there is none.

    `gs` are those of the outputs, of which `stacks` are the values of the stacked ones.
    """
    n = loop.carried
    sources = dict(zip(loop.body.outputs[n:], stacks, strict=True))
    params, outputs = step.reads()
    slices = {p: sources[p] for p in select(loop.body.params[:n], params[:n])}
    slices |= {p: x for p, x, used in zip(loop.body.params[n:], loop.xs, params[n:]) if used}
    slices |= {v: sources[v] for v in select(loop.body.outputs, outputs)}
    untold = {
        s: stacked_size(loop.body, n, s) for s in sizes_to_tell(loop.body, n, step, loop.varying)
    }
    slices |= {v: sources[v] for v in present(untold.values())}
    incoming = select(gs[n:], step.given[n:])
    _, has_xs, has_captures = loop.groups(step.has)
    ends = resized([x.type for x in loop.state], loop.varying)
    state = [
        zeros_like(t) if g is None else g for t, g in select(list(zip(ends, gs)), step.given[:n])
    ]
    state += [zeros_like(x.type) for x in select(loop.captures, has_captures)]
    scanned = [*slices.values(), *incoming]
    places = scattered(step.given[:n], range(n))
    varying = tuple(
        (places[k], axis, loop.state[k].type.shape[axis])
        for k, axis, _ in loop.varying
        if places[k] is not None
    )
    entries = [tensor_type(x.type.shape[1:], x.dtype) for x in scanned]
    body = _reverse_body(loop, step, list(slices), entries, len(state), sum(has_captures), untold)
    results = apply(
        ops["scan"],
        [*state, *present([loop.flags]), *scanned, *loop.captures],
        body_graph=body,
        carried=len(state),
        scanned=len(scanned),
        length=loop.length,
        reverse=not loop.reverse,
        masked=loop.flags is not None,
        varying=varying,
        padded=padded_axes(body, len(state), varying),
        **room_of(loop.room),
    )
    count = sum(step.given[:n])
    first = scattered(step.given[:n], results[:count])
    return (
        *(g if w else None for g, w in zip(first, wanted[:n], strict=True)),
        *scattered(has_xs, results[len(state) :]),
        *scattered(has_captures, results[count : len(state)]),
    )


def _reverse_body(
    loop: Loop, step: Step, read: list[Value], entries: Sequence[TensorType], carried: int,
    sums: int, untold: Mapping[Symbol, Value | None],
) -> Graph:  # fmt: skip
    """(cotangents, sums, slices read, slices of cotangents, captures) -> the same of the step
    before. `entries` are the types of the slices, and `untold` sizes are among what is read."""
    n, body = loop.carried, loop.body
    cotangents = select(body.outputs[:n], step.given[:n])
    places = [i for i, g in enumerate(step.given[:n]) if g]
    inside = tuple(
        (places.index(k), axis, runtime_size(f"m{i}"))
        for i, (k, axis, _) in enumerate(loop.varying)
        if k in places
    )
    has_captures = loop.groups(step.has)[2]
    captures = body.params[n + len(loop.xs) :]
    incoming = select(body.outputs[n:], step.given[n:])
    types = list(resized([v.type for v in cotangents], inside))
    types += [v.type for v in select(captures, has_captures)]
    types += [*entries, *(v.type for v in captures)]

    def make(builder: Any, *values: Any) -> list[Any]:
        state, rest = values[:carried], values[carried:]
        known = dict(zip(read, rest[: len(read)], strict=True))
        sizes = solved([v.type for v in cotangents], [x.type for x in state[: len(cotangents)]])
        own = step_sizes(body, loop.varying)
        sizes = {s: size for s, size in sizes.items() if s in own}
        sizes |= {s: size_in(known[v]) for s, v in untold.items() if v is not None}
        known = {v: cut_to(x, v.type, sizes) for v, x in known.items()}
        known |= dict(zip(captures, rest[len(read) + len(incoming) :], strict=True))
        given = rest[len(read) : len(read) + len(incoming)]
        seeds = [
            as_type(x, type_at(v.type, sizes)) for x, v in zip(state[: carried - sums], cotangents)
        ]
        seeds += [cut_to(g, v.type, sizes) for g, v in zip(given, incoming, strict=True)]
        forward_values = [known.get(v) for v in (*body.params, *body.outputs)]
        graph = specialise(step.graph, sizes)
        results = scattered(step.has, place(builder, graph, [*forward_values, *seeds]))
        found, slices, added = loop.groups(results)
        before = [
            zeros_like(type_at(v.type, sizes)) if g is None else g
            for v, g in zip(body.params, found)
        ]
        return [
            *select(before, step.given[:n]),
            *(s + g for s, g in zip(state[carried - sums :], present(added), strict=True)),
            *present(slices),
        ]

    return build(f"reverse of {body.name}", types, make)


def vjp_while(
    gs: tuple[Any, ...], outs: tuple[Any, ...], *inputs: Any, needs: Mask, body_graph: Graph,
    carried: int, trips: Dim | None, varying: Axes = (), padded: Axes = (), **attrs: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """A reverse scan; where the loop did not stack what it reads, the loop runs again first."""
    active = active_params(body_graph, carried, needs)
    after = active_results(body_graph, carried, active)
    gs = tuple(g if a else None for g, a in zip(gs, after))  # the flags have none
    step = reverse_step(body_graph, carried, given(gs), active)
    if not any(step.given):
        return (None,) * len(inputs)
    if trips is None or not is_complete(body_graph, carried, step, varying):
        body_graph = augmented_body(body_graph, carried, active, varying)
        trips = runtime_size("trips")
        outs = apply(
            ops["while_loop"], inputs, body_graph=body_graph, carried=carried, trips=trips,
            varying=varying, padded=padded_axes(body_graph, carried, varying), **attrs,
        )  # fmt: skip
        gs += (None,) * (len(body_graph.outputs) - len(gs))
        step = reverse_step(body_graph, carried, given(gs), active)
    loop = Loop(body_graph, inputs[:carried], (), inputs[carried:], trips, False, outs[-1], varying)
    grads = reverse_loop(loop, gs, outs[carried:-1], active, step)
    return tuple(g if need else None for g, need in zip(grads, needs, strict=True))


def augment_while(
    xs: tuple[Any, ...], active: Mask, *, body_graph: Graph, carried: int, trips: Dim | None,
    varying: Axes = (), padded: Axes = (), **attrs: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """The loop with what its reverse reads stacked."""
    marked = active_params(body_graph, carried, active)
    body = augmented_body(body_graph, carried, marked, varying)
    size = trips if trips is not None else runtime_size("trips")
    outs = apply(
        ops["while_loop"], xs, body_graph=body, carried=carried, trips=size, varying=varying,
        padded=more_padded(body, carried, varying, padded, len(body_graph.outputs)), **attrs,
    )  # fmt: skip
    count = len(body_graph.outputs)
    return outs if trips is None else (*outs[:count], outs[-1], *outs[count:-1])


def more_padded(body: Graph, carried: int, varying: Axes, padded: Axes, count: int) -> Axes:
    """`padded`, and the padded axes of the outputs of `body` after the first `count`."""
    more = padded_axes(body, carried, varying)
    return padded + tuple((k, axis, n) for k, axis, n in more if k + carried >= count)


def _split_scan(inputs: tuple[Any, ...], body: Graph, carried: int, scanned: int, length: Extent,
                reverse: bool, masked: bool, varying: Axes,
                room: int | None = None) -> Loop:  # fmt: skip
    split = carried + masked
    return Loop(
        body, inputs[:carried], inputs[split : split + scanned], inputs[split + scanned :], length,
        reverse, inputs[carried] if masked else None, varying, room,
    )  # fmt: skip


def without_flags(marks: Sequence[Any], carried: int, masked: bool) -> tuple[Any, ...]:
    """One a parameter of the body, from one an input of the scan."""
    return (*marks[:carried], *marks[carried + masked :])


def with_flags(values: Sequence[Any], carried: int, masked: bool) -> tuple[Any, ...]:
    """One an input of the scan (None for the flags), from one a parameter of the body."""
    return (*values[:carried], *((None,) if masked else ()), *values[carried:])


def vjp_scan(
    gs: tuple[Any, ...], outs: tuple[Any, ...], *inputs: Any, needs: Mask, body_graph: Graph,
    carried: int, scanned: int, length: Extent, reverse: bool, masked: bool, varying: Axes = (),
    padded: Axes = (), room: int | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """A scan in the other direction; where this one did not stack what it reads, it runs again
    first."""
    settings: dict[str, Any] = {
        "length": length, "reverse": reverse, "masked": masked, "varying": varying,
        **room_of(room),
    }  # fmt: skip
    asked = without_flags(needs, carried, masked)
    active = active_params(body_graph, carried, asked)
    after = active_results(body_graph, carried, active)
    gs = tuple(g if a else None for g, a in zip(gs, after, strict=True))
    step = reverse_step(body_graph, carried, given(gs), active)
    if not any(step.given):
        return (None,) * len(inputs)
    if not is_complete(body_graph, carried, step, varying):
        body_graph = augmented_body(body_graph, carried, active, varying)
        outs = apply(
            ops["scan"], inputs, body_graph=body_graph, carried=carried, scanned=scanned,
            padded=padded_axes(body_graph, carried, varying), **settings,
        )  # fmt: skip
        gs += (None,) * (len(outs) - len(gs))
        step = reverse_step(body_graph, carried, given(gs), active)
    loop = _split_scan(inputs, body_graph, carried, scanned, **settings)
    grads = reverse_loop(loop, gs, outs[carried:], active, step)
    kept = [g if need else None for g, need in zip(grads, asked, strict=True)]
    return with_flags(kept, carried, masked)


def augment_scan(
    xs: tuple[Any, ...], active: Mask, *, body_graph: Graph, carried: int, masked: bool,
    varying: Axes = (), padded: Axes = (), **attrs: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """The scan with what its reverse reads stacked."""
    marked = active_params(body_graph, carried, without_flags(active, carried, masked))
    body = augmented_body(body_graph, carried, marked, varying)
    return apply(
        ops["scan"], xs, body_graph=body, carried=carried, masked=masked, varying=varying,
        padded=more_padded(body, carried, varying, padded, len(body_graph.outputs)), **attrs,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class TangentBody:
    """A body that carries tangents beside its state: which parameters and outputs have one."""

    graph: Graph
    params: Mask
    outputs: Mask


def tangent_body(body: Graph, carried: int, scanned: int, seeds: Sequence[bool]) -> TangentBody:
    """(state, tangents, slices, tangents, captures, tangents) -> (state, tangents, stacked,
    tangents)."""
    marked = list(seeds)
    while True:
        graph, has = forward(body, tuple(marked))
        now = [a or b for a, b in zip(marked, has[:carried])] + marked[carried:]
        if now == marked:
            break
        marked = now
    full = forward(body, tuple(marked), fill=True)[0]
    all_tangents = scattered(floating(body.outputs), full.outputs[len(body.outputs) :])
    keep = (*marked[:carried], *has[carried:])
    params = list(zip(full.params, scattered(marked, full.params[len(body.params) :])))
    outputs = list(
        zip(full.outputs, [t if k else None for t, k in zip(all_tangents, keep, strict=True)])
    )
    ends = (0, carried, carried + scanned, len(params))
    ordered = [
        v
        for a, b in pairwise(ends)
        for v in ([p for p, _ in params[a:b]] + present(t for _, t in params[a:b]))
    ]
    results = [
        v
        for part in (outputs[:carried], outputs[carried:])
        for v in ([y for y, _ in part] + present(t for _, t in part))
    ]
    graph = live(Graph(tuple(ordered), full.nodes, tuple(results), full.name))
    return TangentBody(graph, tuple(marked), keep)


def _pushed(pushed: TangentBody, carried: int, results: Sequence[Any]) -> tuple[Any, ...]:
    """The tangents among the results of a loop over a tangent body, one (or None) an output."""
    count = sum(pushed.outputs[:carried])
    state = scattered(pushed.outputs[:carried], results[carried : carried + count])
    rest = results[carried + count + len(pushed.outputs) - carried :]
    return (*state, *scattered(pushed.outputs[carried:], rest))


def _with_tangents(values: Sequence[Any], ts: Sequence[Any], marks: Sequence[bool]) -> list[Any]:
    """The values, then the tangents of those marked, zero where None."""
    filled = [
        zeros_like(x.type) if t is None else t
        for x, t, m in zip(values, ts, marks, strict=True)
        if m
    ]
    return [*values, *filled]


def jvp_while(
    ts: tuple[Any, ...], outs: tuple[Any, ...], *inputs: Any, cond_graph: Graph, body_graph: Graph,
    carried: int, varying: Axes = (), padded: Axes = (), **attrs: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """A loop that carries the tangents beside the state."""
    pushed = tangent_body(body_graph, carried, 0, given(ts))
    n, marks = carried, pushed.params
    state = _with_tangents(inputs[:n], ts[:n], marks[:n])
    captures = _with_tangents(inputs[n:], ts[n:], marks[n:])
    results = apply(
        ops["while_loop"],
        [*state, *captures],
        cond_graph=widened(
            cond_graph, pushed.graph, [*range(n), *range(len(state), len(state) + len(inputs) - n)]
        ),
        body_graph=pushed.graph,
        carried=len(state),
        varying=moved_axes(varying, pushed.params[:n]),
        padded=moved_axes(padded, pushed.outputs[n:]),
        **attrs,
    )
    tangents = _pushed(pushed, n, results)
    return tangents if attrs["trips"] is None else (*tangents, None)


def widened(graph: Graph, like: Graph, places: Sequence[int]) -> Graph:
    """`graph` with the parameters of `like`, of which it reads those at `places`."""
    params = [Value(p.type, None, p.where) for p in like.params]
    for p, i in zip(graph.params, places, strict=True):
        params[i] = p
    return Graph(tuple(params), graph.nodes, graph.outputs, graph.name)


def jvp_scan(
    ts: tuple[Any, ...], outs: tuple[Any, ...], *inputs: Any, body_graph: Graph, carried: int,
    scanned: int, length: Extent, reverse: bool, masked: bool, varying: Axes = (),
    padded: Axes = (), room: int | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """A scan that carries the tangents beside the state."""
    loop = _split_scan(inputs, body_graph, carried, scanned, length, reverse, masked, varying, room)
    seeds = without_flags(ts, carried, masked)
    pushed = tangent_body(body_graph, carried, scanned, given(seeds))
    state, xs, captures = (
        _with_tangents(*group)
        for group in zip(
            (loop.state, loop.xs, loop.captures),
            loop.groups(seeds),
            loop.groups(pushed.params),
            strict=True,
        )
    )
    results = apply(
        ops["scan"],
        [*state, *present([loop.flags]), *xs, *captures],
        body_graph=pushed.graph,
        carried=len(state),
        scanned=len(xs),
        length=length,
        reverse=reverse,
        masked=masked,
        varying=moved_axes(varying, pushed.params[:carried]),
        padded=moved_axes(padded, pushed.outputs[carried:]),
        **room_of(room),
    )
    return _pushed(pushed, carried, results)
