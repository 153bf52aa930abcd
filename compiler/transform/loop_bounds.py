"""Loops as they are traced where memory is bounded: whole, or divided to fit their share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Builder, Graph, Node, Value, replay
from graphgrad.compiler.op import ops, state
from graphgrad.compiler.passes.loops_counted import count_steps
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.loop_memory import Budget, Schedule
from graphgrad.compiler.transform.loop_segments import Nest, as_segments, ways_to_run
from graphgrad.compiler.transform.subgraphs import floating


def bounded(
    budget: Budget, builder: Builder, name: str, inputs: Sequence[Value], attrs: dict[str, Any]
) -> list[Any]:
    """The outputs of a loop that keeps no more than its share for its reverse."""
    if name == "while_loop":
        found = counted(builder, inputs, attrs)
        if found is not None:
            name, (inputs, attrs) = "scan", found
    if name == "scan" and isinstance(attrs["length"], int) and not attrs["varying"]:
        return divided(budget, builder, inputs, attrs)
    if attrs.get("trips") is None and not (attrs["varying"] or attrs["padded"]):
        return checkpointed(budget, name, inputs, attrs)
    return whole(name, inputs, attrs)


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
    ways = ways_to_run(body, carried, attrs["length"])
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


MOST_SLOTS = 4096  # more make short loops slow: they are cleared
MOST_ROWS = 128  # steps that are kept whole at a time; more gain nothing


def checkpointed(
    budget: Budget, name: str, inputs: Sequence[Value], attrs: dict[str, Any]
) -> list[Any]:
    """The outputs of a loop whose number of steps only the run knows."""
    body, carried = attrs["body_graph"], attrs["carried"]
    plain = Nest(body, carried, (MOST_ROWS,))
    if not plain.each:
        return whole(name, inputs, attrs)
    where = state.where or here()
    ways = open_ways(plain)
    share, chosen = budget.ask(where, [peak for peak, *_ in ways])
    peak, slots, rows = ways[chosen]
    budget.schedules.append(
        Schedule(where, None, share, plain.each, plain.state, (rows,), peak, slots)
    )  # fmt: skip
    outs = ops["checkpointed"](
        *inputs, body_graph=body, carried=carried, cond_graph=attrs.get("cond_graph"),
        scanned=attrs.get("scanned", 0), length=attrs.get("length"),
        reverse=attrs.get("reverse", False),
        maximum_iterations=attrs.get("maximum_iterations"), slots=slots, rows=rows,
    )  # fmt: skip
    return list(outs[: len(body.outputs)])


def open_ways(plain: Nest) -> list[tuple[int, int, int]]:
    """(bytes, slots, rows) for loops of unknown length, from the most that is of use to the
    least."""
    ways, slots, rows = [], MOST_SLOTS, MOST_ROWS
    while True:
        kept = slots * (2 * plain.state + 8), rows * plain.each
        ways.append((sum(kept) + plain.level, slots, rows))
        if slots == 2 and rows == 1:
            return ways
        if rows == 1 or (kept[0] > kept[1] and slots > 2):
            slots = max(2, slots * 3 // 4 // 2 * 2)
        else:
            rows = max(1, rows * 3 // 4)


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
