"""Loops taken apart, as the passes on loops change them, and put together again.

A `scan` or `while_loop` node holds its values in three places: outside (the inputs and results), in
the body, and in the condition. `Loop` keeps together what belongs together: the initial value of a
part of the state, the parameter that stands for it, the next value and the result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from graphgrad.compiler.dims import DimScope, Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.ir import Builder, Graph, Node, Value
from graphgrad.compiler.op import Attrs, Op, ops, state
from graphgrad.compiler.passes.dce import dce
from graphgrad.compiler.passes.rewrite import building
from graphgrad.compiler.source import Where
from graphgrad.compiler.transform.sizes import bind_sizes, outer_sizes, size_makers, specialise
from graphgrad.compiler.types import TensorType, tensor_type


@dataclass(eq=False)
class Carried:
    """A part of the state. `test` is the parameter of the condition that stands for it."""

    param: Value
    init: Value
    next: Value
    result: Value
    test: Value | None


@dataclass(eq=False)
class Scanned:
    """An input that is read one slice a step."""

    param: Value
    value: Value


@dataclass(eq=False)
class Capture:
    """An input that is the same in every step."""

    param: Value
    value: Value
    test: Value | None


@dataclass(eq=False)
class Stacked:
    """A value of the body of which the result has one entry a step."""

    value: Value
    result: Value


@dataclass(frozen=True, slots=True)
class Moved:
    """What a pass put before or behind a loop, for reports: operations with the user's lines, and
    the values of which the loop reads or stacks one entry a step."""

    loop: Where | None
    body: str  # the name of its graph: of a loop and its derivatives, each has another
    before: bool
    nodes: tuple[tuple[str, Where | None], ...]
    stacks: tuple[TensorType, ...] = ()


class _Local(threading.local):
    notes: list[Moved] | None = None


_local = _Local()


@contextmanager
def noting(notes: list[Moved]) -> Iterator[None]:
    """Let `over_loops` add to `notes` what loops are changed meanwhile."""
    before, _local.notes = _local.notes, notes
    try:
        yield
    finally:
        _local.notes = before


class Outside(Builder):
    """Builds the nodes that a pass puts before or behind a loop."""

    def __init__(self) -> None:
        super().__init__("loop", scope=DimScope())

    def lift(self, x: object, dtype: DType | None = None) -> Value:
        return x if isinstance(x, Value) else super().lift(x, dtype)

    def append(self, op: Op, inputs: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Value, ...]:
        types = op.infer(tuple(x.type for x in inputs), attrs)
        outputs = tuple(Value(t, None, state.where) for t in types)
        self.nodes.append(Node(op, inputs, attrs, outputs, state.where))
        return outputs


@dataclass(eq=False)
class Loop:
    """One loop of `graph`; passes change it in place.

    `before` and `after` are nodes that come to stand around it, `replaced` are values of the graph
    in whose place others stand.
    """

    graph: Graph
    node: Node
    nodes: list[Node]  # of the body
    carried: list[Carried]
    scanned: list[Scanned]
    captures: list[Capture]
    stacked: list[Stacked]
    flags: Value | None  # of a masked scan
    condition: Graph | None  # of a while_loop
    attrs: Attrs
    before: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)
    replaced: dict[Value, Value] = field(default_factory=dict)

    @property
    def is_scan(self) -> bool:
        return self.condition is None

    @property
    def length(self) -> Extent:
        """The number of steps of a scan."""
        length: Extent = self.attrs["length"]
        return length

    @property
    def runs(self) -> bool:
        """Is at least one step made, for sure?"""
        return (
            self.is_scan
            and self.flags is None
            and isinstance(self.length, int)
            and (self.length > 0)
        )

    def is_read(self, v: Value) -> bool:
        """Is a result of the loop read by a node, or returned?"""
        return v in self.graph.uses or any(v is o for o in self.graph.outputs)

    def producer(self, v: Value) -> Node | None:
        """The node of the graph that makes a value from outside."""
        return self.graph.producers.get(v)

    def rename(self, replaced: Mapping[Value, Value]) -> None:
        """Put other values in the place of some in the body."""
        self.nodes = renamed(self.nodes, replaced)
        for part in self.carried:
            part.next = replaced.get(part.next, part.next)
        for out in self.stacked:
            out.value = replaced.get(out.value, out.value)

    def rename_tests(self, replaced: Mapping[Value, Value]) -> None:
        """Put other values in the place of some in the condition."""
        g = self.condition
        if g is not None and replaced:
            outputs = tuple(replaced.get(v, v) for v in g.outputs)
            self.condition = Graph(g.params, tuple(renamed(g.nodes, replaced)), outputs, g.name)

    def capture(self, value: Value) -> Value:
        """The parameter of the body that stands for a value from outside."""
        for c in self.captures:
            if c.value is value:
                return c.param
        test = Value(value.type, None, value.where) if self.condition is not None else None
        self.captures.append(Capture(Value(value.type, None, value.where), value, test))
        return self.captures[-1].param

    def scan(self, value: Value) -> Value:
        """The parameter of the body that stands for the slices of a value from outside."""
        for x in self.scanned:
            if x.value is value:
                return x.param
        t = value.type
        entry = Value(tensor_type(t.shape[1:], t.dtype), None, value.where)
        self.scanned.append(Scanned(entry, value))
        return self.scanned[-1].param

    def stack(self, v: Value) -> Value:
        """The result that has the values of `v` in each step."""
        for out in self.stacked:
            if out.value is v:
                return out.result
        t = v.type
        result = Value(tensor_type((self.length, *t.shape), t.dtype), None, v.where)
        self.stacked.append(Stacked(v, result))
        return result

    @contextmanager
    def outside(self, before: bool) -> Iterator[Outside]:
        """Ops append to what stands before or behind the loop meanwhile."""
        builder = Outside()
        with building(builder):
            state.where = self.node.where
            yield builder
        (self.before if before else self.after).extend(builder.nodes)

    def body(self) -> Graph:
        params = [c.param for c in self.carried]
        params += [x.param for x in self.scanned] + [c.param for c in self.captures]
        outputs = (*(c.next for c in self.carried), *(s.value for s in self.stacked))
        name: str = self.node.attrs["body_graph"].name
        return Graph(tuple(params), tuple(self.nodes), outputs, name)

    def together(self) -> Node:
        """The node of what has become of the loop."""
        inputs = [c.init for c in self.carried]
        inputs += [self.flags] if self.flags is not None else []
        inputs += [x.value for x in self.scanned] + [c.value for c in self.captures]
        outputs = [*(c.result for c in self.carried), *(s.result for s in self.stacked)]
        attrs = {**self.attrs, "body_graph": dce(self.body())}
        attrs["carried"] = len(self.carried)
        if self.condition is None:
            attrs["scanned"] = len(self.scanned)
            attrs["masked"] = self.flags is not None
        else:
            g = self.condition
            tests = [c.test for c in self.carried] + [c.test for c in self.captures]
            params = tuple(v for v in tests if v is not None)
            attrs["cond_graph"] = Graph(params, g.nodes, g.outputs, g.name)
            if attrs["trips"] is not None:
                outputs.append(self.node.outputs[-1])
        op = ops["scan" if self.is_scan else "while_loop"]
        return Node(op, tuple(inputs), attrs, tuple(outputs), self.node.where)


def renamed(nodes: Iterable[Node], replaced: Mapping[Value, Value]) -> list[Node]:
    """The nodes with other values in the place of some inputs."""
    found = []
    for node in nodes:
        if not replaced.keys().isdisjoint(node.inputs):
            inputs = tuple(replaced.get(x, x) for x in node.inputs)
            node = Node(node.op, inputs, node.attrs, node.outputs, node.where)
        found.append(node)
    return found


def taken_apart(graph: Graph, node: Node, any_sizes: bool = False) -> Loop | None:
    """A loop of `graph`, if it is one whose sizes stay the same from step to step: those of the
    state, and all in its body but for `any_sizes`."""
    attrs = node.attrs
    if node.op.name not in ("scan", "while_loop") or attrs.get("varying") or attrs.get("padded"):
        return None
    n, is_scan = attrs["carried"], node.op.name == "scan"
    masked = is_scan and attrs["masked"]
    values = [*node.inputs[:n], *node.inputs[n + masked :]]
    first = n + (attrs["scanned"] if is_scan else 0)  # of the captures
    shapes = [x.type.shape[1:] if n <= i < first else x.type.shape for i, x in enumerate(values)]
    body = specialise(attrs["body_graph"], bind_sizes(attrs["body_graph"].types, shapes))
    if size_makers(body) and not any_sizes:
        return None
    condition, tests = None, list[Value | None]([None] * len(values))
    if not is_scan:
        condition = attrs["cond_graph"]
        condition = specialise(condition, bind_sizes(condition.types, shapes))
        tests = list(condition.params)
    stacked = zip(body.outputs[n:], node.outputs[n:], strict=False)  # flags may follow
    return Loop(
        graph,
        node,
        list(body.nodes),
        [
            Carried(*parts)
            for parts in zip(
                body.params[:n],
                values[:n],
                body.outputs[:n],
                node.outputs[:n],
                tests[:n],
                strict=True,
            )
        ],
        [Scanned(p, x) for p, x in zip(body.params[n:first], values[n:first], strict=True)],
        [
            Capture(*parts)
            for parts in zip(body.params[first:], values[first:], tests[first:], strict=True)
        ],
        [Stacked(*parts) for parts in stacked],
        node.inputs[n] if masked else None,
        condition,
        dict(attrs),
    )


def over_loops(graph: Graph, change: Callable[[Loop], bool], any_sizes: bool = False) -> Graph:
    """`graph` with its loops changed. `change` says whether it did anything."""
    if not any(node.op.name in ("scan", "while_loop") for node in graph.nodes):
        return graph
    nodes: list[Node] = []
    replaced: dict[Value, Value] = {}
    changed = False
    for old in graph.nodes:
        (node,) = renamed([old], replaced)
        loop = taken_apart(graph, node, any_sizes)
        if loop is not None and change(loop):
            new = loop.together()
            if tells_sizes(new, node):
                note(loop, node, new)
                nodes += [*loop.before, new, *loop.after]
                replaced.update(loop.replaced)
                changed = True
                continue
        nodes.append(node)
    if not changed:
        return graph
    outputs = tuple(replaced.get(v, v) for v in graph.outputs)
    return Graph(graph.params, tuple(nodes), outputs, graph.name)


def note(loop: Loop, old: Node, new: Node) -> None:
    """Note what was moved out of a loop, if somebody asks."""
    if _local.notes is None:
        return
    read = {x for node in loop.after for x in node.inputs}
    known = {*old.inputs, *old.outputs}
    entering = [x.type for x in new.inputs if x not in known]
    leaving = [v.type for v in new.outputs if v in read and v not in known]
    for before, nodes, stacks in ((True, loop.before, entering), (False, loop.after, leaving)):
        if nodes:
            places = tuple((n.op.name, n.where) for n in nodes)
            body = old.attrs["body_graph"].name
            _local.notes.append(Moved(old.where, body, before, places, tuple(stacks)))


def tells_sizes(new: Node, old: Node) -> bool:
    """Do the arguments of the sub-graphs tell all the sizes that those of the old ones told?"""
    for key, graph in new.attrs.items():
        if isinstance(graph, Graph) and not outer_sizes(graph) <= outer_sizes(old.attrs[key]):
            return False
    return True
