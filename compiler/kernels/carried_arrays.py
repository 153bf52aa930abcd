"""Arrays that the steps of a scalar loop change where they lie: which, and in what order.

A *held* value lies in memory; views, parts and updates of it may lie in the same. Memory of which
there is a new value, `x[i] = v`, has no old one any more: so whatever reads the old value comes
before the update. Where that cannot be, the update goes to a copy.

The memory that may change is that of state, and that of copies; a *whole* value is all of it, in
row-major order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from graphgrad.compiler.families import Indexed, View
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.passes.dce import has_effect
from graphgrad.compiler.passes.reorder import Cycle, sorted_by
from graphgrad.compiler.types import TensorType, element_count

LANES = 16
LOOPS = ("scan", "while_loop")
OPEN_SIZES = ("varying", "padded", "widened")  # of control nodes: sizes that only the run knows
UPDATES = ("update_slice", "scatter")


class NoOrder(Exception):
    """An old value is read after its memory has a new one, in any order."""


@dataclass(eq=False)
class Course:
    """How a graph runs: its nodes in order, and in whose memory each held value lies."""

    nodes: list[Node] = field(default_factory=list)
    memory: dict[Value, Value] = field(default_factory=dict)
    version: dict[Value, Value] = field(default_factory=dict)  # since which value it is as it is
    whole: set[Value] = field(default_factory=set)
    owned: set[Value] = field(default_factory=set)  # memory that may change
    changed: set[Value] = field(default_factory=set)  # memory that does
    ended: set[Value] = field(default_factory=set)  # versions over which a new one is written
    copied: set[Value] = field(default_factory=set)  # outputs that begin as a copy of an input

    def own(self, values: Sequence[Value]) -> frozenset[int]:
        """Which of some values are whole, in memory that may change."""
        found = enumerate(values)
        return frozenset(i for i, v in found if v in self.whole and self.memory[v] in self.owned)


def is_small(t: TensorType) -> bool:
    """Is a value kept as scalars?"""
    count = element_count(t.shape)
    return isinstance(count, int) and count <= LANES


def course(graph: Graph, owned: frozenset[int]) -> Course:
    """How `graph` runs where the memory of the parameters `owned` may change.

    Raises NoOrder where there is no way to.
    """
    key = ("course", owned)
    if key not in graph.memo:
        try:
            graph.memo[key] = _follow(graph, owned)
        except NoOrder:
            graph.memo[key] = None
    if graph.memo[key] is None:
        raise NoOrder
    return graph.memo[key]  # type: ignore[no-any-return]


def _follow(graph: Graph, owned: frozenset[int]) -> Course:
    found = Course()
    for i, p in enumerate(graph.params):
        if not is_small(p.type):
            found.memory[p] = found.version[p] = p
            if i in owned:
                found.owned.add(p)
                found.whole.add(p)
    updates: dict[Node, list[Value]] = {}  # the versions that end with a node
    for node in graph.nodes:
        ended = _visit(node, found)
        if ended:
            updates[node] = ended
    if any(found.version.get(v) in found.ended for v in graph.outputs):
        raise NoOrder
    found.nodes = in_order(graph.nodes, found, updates)
    return found


def _visit(node: Node, found: Course) -> list[Value]:
    """Where the outputs of a node lie; the versions that it ends."""
    op = node.op
    if any(node.attrs.get(k) for k in OPEN_SIZES):
        raise NoOrder
    if op.name in LOOPS:
        return _loop(node, found)
    if op.name == "cond":
        return _branches(node, found)
    held = [v for v in node.outputs if not is_small(v.type)]
    if len(held) != 1:
        for v in held:
            _make(found, v)
        return []
    (out,) = held
    x = node.inputs[0] if node.inputs else None
    if isinstance(op, Indexed) and op.lowering in UPDATES:
        assert x is not None
        return _changed(node, found, x, out)
    if x is not None and x in found.memory and isinstance(op, View | Indexed):
        found.memory[out], found.version[out] = found.memory[x], found.version[x]
        if op.name == "reshape" and x in found.whole:
            found.whole.add(out)
        return []
    _make(found, out)
    found.owned.discard(out)  # constants, and arrays that are not made before they are copied
    return []


def _make(found: Course, out: Value) -> None:
    """Memory of its own."""
    found.memory[out] = found.version[out] = out
    found.owned.add(out)
    found.whole.add(out)


def _changed(node: Node, found: Course, x: Value, out: Value) -> list[Value]:
    """`out` is a new value of x: in its memory, or in a copy of it."""
    memory, version = found.memory[x], found.version[x]
    again = version in found.ended or sum(found.version.get(v) is version for v in node.inputs) > 1
    if memory not in found.owned or x not in found.whole or again:
        _make(found, out)
        found.copied.add(out)
        return []
    found.ended.add(version)
    found.memory[out], found.version[out] = memory, out
    found.whole.add(out)
    found.changed.add(memory)
    return [version]


def _loop(node: Node, found: Course) -> list[Value]:
    """State that is held changes where it lies; what is stacked is memory of its own."""
    carried: int = node.attrs["carried"]
    ended: list[Value] = []
    for x, out in zip(node.inputs[:carried], node.outputs, strict=False):
        if not is_small(out.type):
            ended += _changed(node, found, x, out)
    for out in node.outputs[carried:]:
        if not is_small(out.type):
            _make(found, out)
    return ended


def _branches(node: Node, found: Course) -> list[Value]:
    """Both branches leave an array where the same input of theirs lies."""
    inputs = node.inputs[1:]
    own = found.own(inputs)
    graphs = node.attrs["true_graph"], node.attrs["false_graph"]
    courses = [course(g, own) for g in graphs]
    changed = {
        i for g, c in zip(graphs, courses, strict=True)
        for i, p in enumerate(g.params) if p in c.changed
    }  # fmt: skip
    ended: list[Value] = []
    ends: set[int] = set()
    for k, out in enumerate(node.outputs):
        if is_small(out.type):
            continue
        places = {number_of(g, c, k) for g, c in zip(graphs, courses, strict=True)}
        place = places.pop()
        if places or place < 0 or place in ends or inputs[place] not in found.memory:
            raise NoOrder
        x = inputs[place]
        ends.add(place)
        found.memory[out] = found.memory[x]
        if x in found.whole:
            found.whole.add(out)
        if place in changed:
            if found.version[x] in found.ended:
                raise NoOrder
            found.version[out] = out
            found.changed.add(found.memory[x])
            ended.append(found.version[x])
        else:
            found.version[out] = found.version[x]
    if not changed <= ends:
        raise NoOrder
    found.ended.update(ended)
    return ended


def number_of(graph: Graph, found: Course, k: int) -> int:
    """The parameter where output `k` of a graph lies, whole; -1 for other memory, or none."""
    v = graph.outputs[k]
    memory = found.memory.get(v)
    if v is not memory and v not in found.whole:
        return -1
    return next((i for i, p in enumerate(graph.params) if p is memory), -1)


def in_order(
    nodes: Sequence[Node], found: Course, updates: dict[Node, list[Value]]
) -> list[Node]:  # fmt: skip
    """The nodes, each update behind what reads the old value; else as they are. Effects, and what
    may raise between them, keep their order."""
    if not updates:
        return list(nodes)
    readers: dict[Value, list[Node]] = {}
    for node in nodes:
        for x in node.inputs:
            if x in found.version:
                readers.setdefault(found.version[x], []).append(node)
    makers = {v: node for node in nodes for v in node.outputs}
    before = {node: {makers[x] for x in node.inputs if x in makers} for node in nodes}
    effect, raising = None, list[Node]()
    for node in nodes:
        acts = has_effect(node)
        if (acts or node.op.raises) and effect is not None:
            before[node].add(effect)
        if acts:
            before[node].update(raising)
            effect, raising = node, []
        elif node.op.raises:
            raising.append(node)
    for node, ended in updates.items():
        for version in ended:
            before[node].update(r for r in readers[version] if r is not node)
    if any(map(has_effect, nodes)):
        told = [node for node in nodes if has_effect(node) or node.op.raises]
        for earlier, later in pairwise(told):
            before[later].add(earlier)
    try:
        return sorted_by(nodes, before)
    except Cycle:
        raise NoOrder from None


def moved_state(body: Graph, found: Course, carried: int) -> list[int]:
    """The state whose next value lies elsewhere, and is copied at the end of a step.

    Raises NoOrder where one such copy would overwrite what another one reads.
    """
    moved = [
        i for i, (p, v) in enumerate(zip(body.params[:carried], body.outputs, strict=False))
        if not is_small(p.type) and (found.memory[v] is not p or v not in found.whole)
    ]  # fmt: skip
    targets = {body.params[i] for i in moved}
    if any(found.memory[body.outputs[i]] in targets for i in moved):
        raise NoOrder
    return moved


def held_state(body: Graph, carried: int) -> frozenset[int]:
    """Which part of the state of a loop is held."""
    return frozenset(i for i, p in enumerate(body.params[:carried]) if not is_small(p.type))
