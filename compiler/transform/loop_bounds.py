"""Loops as they are traced where memory is bounded: whole, or divided to fit their share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Builder, Graph, Node, Value, replay
from graphgrad.compiler.op import ops, state
from graphgrad.compiler.passes.loops_counted import count_steps
from graphgrad.compiler.source import Where, here
from graphgrad.compiler.transform.autodiff import at
from graphgrad.compiler.transform.loop_memory import Budget, Schedule, budget_at_work
from graphgrad.compiler.transform.loop_ranges import counting
from graphgrad.compiler.transform.loop_segments import (
    INNER,
    Nest,
    as_checkpointed,
    as_segments,
    bytes_kept,
    is_divisible,
    is_open,
    nest,
    ways_to_run,
    with_levels,
)
from graphgrad.compiler.transform.subgraphs import floating


def bounded(
    budget: Budget, builder: Builder, name: str, inputs: Sequence[Value], attrs: dict[str, Any]
) -> list[Any]:
    """The outputs of a loop that keeps no more than its share for its reverse."""
    within = unbounded_within(attrs["body_graph"])
    if within is not None:
        raise refused(budget, within.attrs, within.where)
    if name == "while_loop":
        found = counted(builder, inputs, attrs)
        if found is not None:
            name, (inputs, attrs) = "scan", found
    outputs = len(attrs["body_graph"].outputs)
    if name == "scan" and not (attrs["varying"] or attrs["padded"] or fits_whole(budget, attrs)):
        fewer = counting(builder, inputs, attrs)
        if fewer is not None:
            count = attrs["carried"]
            inputs, attrs, is_while = fewer
            outs = bounded(budget, builder, "while_loop" if is_while else name, inputs, attrs)
            more = attrs["carried"] - count
            return [*outs[:count], *outs[count + more : outputs + more]]
    if name == "scan" and isinstance(attrs["length"], int) and not attrs["varying"]:
        return divided(budget, builder, inputs, attrs)
    if attrs.get("trips") is None and not (attrs["varying"] or attrs["padded"]):
        return checkpointed(budget, builder, name, inputs, attrs)
    return unbounded(budget, name, inputs, attrs)


def fits_whole(budget: Budget, attrs: dict[str, Any]) -> bool:
    """Is a scan of a known number of steps within its share as it is?"""
    if not isinstance(attrs["length"], int):
        return False
    body, carried = attrs["body_graph"], attrs["carried"]
    way = nest(body, carried, attrs["scanned"], attrs["length"], 0)
    return way.peak <= budget.share()


def unbounded(
    budget: Budget, name: str, inputs: Sequence[Value], attrs: dict[str, Any]
) -> list[Any]:
    """The outputs of a loop that cannot be divided; an error if it keeps anything."""
    if keeps_unbounded(attrs):
        raise refused(budget, attrs, state.where or here())
    return whole(name, inputs, attrs)


def keeps_unbounded(attrs: Mapping[str, Any]) -> bool:
    """Does a loop that cannot be divided keep anything for its reverse?"""
    body, carried = attrs["body_graph"], attrs["carried"]
    if attrs["varying"]:
        return any(t.dtype.is_inexact for t in body.types[:carried])
    return bytes_kept(body, carried, attrs.get("scanned", 0)) > 0


def unbounded_within(graph: Graph) -> Node | None:
    """A loop in `graph` that keeps as much as it comes to."""
    for node in graph.nodes:
        a, derived = node.attrs, node.where is not None and node.where.derivative
        open_ended = a.get("varying") or (a.get("lists") and a.get("trips") is not None)
        if node.op.name in LOOPS and open_ended and not derived and keeps_unbounded(a):
            return node
        graphs = [g for g in a.values() if isinstance(g, Graph)]
        found = next(filter(None, map(unbounded_within, graphs)), None)
        if found is not None:
            return found
    return None


def refused(budget: Budget, attrs: Mapping[str, Any], where: Where | None) -> ArgumentError:
    """The error for a loop that cannot be divided."""
    what = "changes the size of what it carries" if attrs["varying"] else "collects a list"
    return ArgumentError(
        f"{budget.name}: loop_memory cannot bound a loop that {what} in an unknown number of "
        "steps; write into a tensor of fixed size, or leave out loop_memory",
        where,
    )


def whole(name: str, inputs: Sequence[Value], attrs: dict[str, Any]) -> list[Any]:
    """The outputs of a loop as it is; under a tape, of one that stacks what its reverse reads."""
    op = ops[name]
    if state.recorders and isinstance(op, Control) and op.augment is not None:
        return list(op.augment(tuple(inputs), floating(inputs), **attrs))
    return list(op(*inputs, **attrs))


def divided(
    budget: Budget, builder: Builder, inputs: Sequence[Value], attrs: dict[str, Any]
) -> list[Any]:
    """The outputs of a scan of a known number of steps."""
    body, carried, scanned = attrs["body_graph"], attrs["carried"], attrs["scanned"]
    where = state.where or here()
    ways = ways_to_run(body, carried, scanned, attrs["length"])
    share, chosen = budget.ask(where, [w.peak for w in ways])
    way = ways[chosen]
    room = max(0, min(share - way.peak, way.beside * way.lengths[-1]))
    if len(way.lengths) == 1 and way.body is body:
        tight = share - way.peak < way.beside * way.lengths[0]
        return whole("scan", inputs, {**attrs, "room": room} if tight else attrs)
    budget.schedules.append(
        Schedule(
            where, way.lengths[0], share, way.each, way.state, way.lengths[1:], way.peak
        )
    )  # fmt: skip
    graph = as_segments([x.type for x in inputs], way, scanned, attrs["reverse"], room)
    if len(way.lengths) == 1:
        return whole("scan", inputs, {**attrs, "body_graph": way.body, "room": room})
    return list(applied(builder, graph, inputs))


LOOPS = ("scan", "while_loop")
MOST_SLOTS = 4096  # more make short loops slow: they are cleared
FEW_SLOTS = 16  # with fewer, steps run again and again
STATES = 16  # that the loops of the forward and the reverse run have at hand, about
MOST_ROWS = 128  # steps that are kept whole at a time; more gain nothing


def checkpointed(
    budget: Budget, builder: Builder, name: str, inputs: Sequence[Value], attrs: dict[str, Any]
) -> list[Any]:
    """The outputs of a loop whose number of steps only the run knows."""
    body = attrs["body_graph"]
    node = Node(ops[name], tuple(inputs), attrs, ())
    plans = [with_levels(node, levels) for levels in range(len(INNER))]
    if not plans[0].each:
        return whole(name, inputs, attrs)
    if plans[0].body is body:
        del plans[1:]  # there is no loop within
    ways: list[tuple[int, int, int, Nest]] = []
    for plan in plans:
        ways += [w for w in open_ways(plan) if not ways or w[0] < ways[-1][0]]
    where = state.where or here()
    share, chosen = budget.ask(where, [peak for peak, *_ in ways])
    peak, slots, rows, plan = ways[chosen]
    budget.schedules.append(
        Schedule(where, None, share, plan.each, plan.state, (rows,), peak, slots)
    )  # fmt: skip
    graph = as_checkpointed([x.type for x in inputs], node, plan.body, slots, rows)
    return list(applied(builder, graph, inputs))


def open_ways(plain: Nest) -> list[tuple[int, int, int, Nest]]:
    """(bytes, slots, rows, what runs) for loops of unknown length, from the most that is of use to
    the least."""
    ways, slots, rows = [], MOST_SLOTS, MOST_ROWS
    while True:
        kept = slots * (2 * plain.state + 8), rows * plain.each
        around = plain.level + STATES * plain.at_hand + plain.inner
        ways.append((sum(kept) + around, slots, rows, plain))
        if slots == 2 and rows == 1:
            return ways
        if rows == 1 or (kept[0] > kept[1] and slots > FEW_SLOTS):
            slots = max(2, slots * 3 // 4 // 2 * 2)
        else:
            rows = max(1, rows * 3 // 4)


def called(graph: Graph, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of the graph of a function that a bounded one calls: its loops count as loops of
    the caller."""
    builder, budget = state.builder, budget_at_work()
    assert isinstance(builder, Builder)
    assert budget is not None

    def run(node: Node, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        if is_divisible(node) or is_open(node):
            with at(node.where):
                return tuple(bounded(budget, builder, node.op.name, xs, dict(node.attrs)))
        if node.op.name == "call":
            return tuple(called(node.attrs["graph"], xs))
        return builder.apply(node.op, xs, node.attrs)

    return list(replay(graph, [builder.lift(x) for x in inputs], run)[0])


def applied(builder: Builder, graph: Graph, inputs: Sequence[Value]) -> tuple[Any, ...]:
    """The outputs of `graph`, whose nodes become nodes of the trace, that tapes see."""

    def run(node: Node, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        if node.op.name in ("scan", "while_loop"):
            return tuple(whole(node.op.name, xs, dict(node.attrs))[: len(node.outputs)])
        return builder.apply(node.op, xs, node.attrs)

    return replay(graph, inputs, run)[0]


def counted(
    builder: Builder, inputs: Sequence[Value], attrs: dict[str, Any]
) -> tuple[tuple[Value, ...], dict[str, Any]] | None:
    """The inputs and attributes of a scan in the place of a while_loop, if its steps can be
    counted."""
    if attrs["varying"] or attrs["trips"] is not None:
        return None
    makers = {v: n for n in builder.nodes for v in n.outputs}
    constants = {x: makers[x] for x in inputs if x in makers and makers[x].op.name == "constant"}
    params = [x for x in dict.fromkeys(inputs) if x not in constants]
    outs = tuple(Value(x.type, None) for x in inputs[: attrs["carried"]])
    node = Node(ops["while_loop"], tuple(inputs), attrs, outs, state.where or here())
    graph = Graph(tuple(params), (*dict.fromkeys(constants.values()), node), outs)
    found = count_steps(graph).nodes[-1]
    return (found.inputs, dict(found.attrs)) if found.op.name == "scan" else None
