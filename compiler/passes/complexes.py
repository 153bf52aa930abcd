"""Complex values as pairs of real ones, so that kernels know real numbers only.

Memory holds complex numbers as NumPy does, real and imaginary parts in turn: `view_as_real` and
`view_as_complex` lie between such an array and its parts. What has no form in parts (a cumulative
product, a condition) keeps its complex operands and runs as a host step.

A value is put together where a node asks for the whole; views of known sizes have both forms, and
the one that is not asked for is dead code.
"""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Elementwise, Library, View
from graphgrad.compiler.ir import Builder, Graph, Node, Value
from graphgrad.compiler.op import Application, Attrs, Op, ops, reapply
from graphgrad.compiler.passes.patterns import Facts, node_rule
from graphgrad.compiler.passes.rewrite import RuleSet
from graphgrad.compiler.source import Where
from graphgrad.compiler.transform.autodiff import at
from graphgrad.compiler.types import TensorType


def split_complex(graph: Graph) -> Graph:
    """`graph` with what it computes of complex numbers done on their parts.

    Parameters and outputs keep their types. A graph without such work is returned as it is.
    """
    if not any(splits(n) for n in graph.nodes):
        return graph
    builder = Splicing(graph.name)
    with builder.tracing():
        splitter = Splitter(graph, builder)
        for node in graph.nodes:
            with at(node.where):
                splitter.visit(node)
        outputs = [splitter.output(v) for v in graph.outputs]
    return Graph(graph.params, tuple(builder.nodes), tuple(outputs), graph.name)


def has_parts(op: Op) -> bool:
    """Has `op` a form on the parts of complex values?"""
    return op.by_component or (isinstance(op, Elementwise | Library) and op.split is not None)


def splits(node: Node) -> bool:
    """Does `node` compute with complex numbers in a way that kernels know on parts?"""
    return has_parts(node.op) and node.is_complex


class Splicing(Builder):
    """Builds a graph in which values of another go on."""

    def __init__(self, name: str) -> None:
        super().__init__(name, scope=DimScope())
        self.made: dict[Value, Node] = {}

    def value(self, type: TensorType, where: Where | None = None) -> Value:
        return Value(type, None, where)

    def lift(self, x: object, dtype: DType | None = None) -> Value:
        return x if isinstance(x, Value) else super().lift(x, dtype)

    def append(self, op: Op, inputs: tuple[Value, ...], attrs: Attrs) -> tuple[Value, ...]:
        outputs = super().append(op, inputs, attrs)
        self.made.update(dict.fromkeys(outputs, self.nodes[-1]))
        return outputs

    def producer(self, value: Value) -> Node | None:
        return self.made.get(value)


class Splitter:
    """The graph being built, and what each value of the old one has become in it."""

    def __init__(self, graph: Graph, builder: Builder) -> None:
        self.producers = graph.producers
        self.builder = builder
        self.wholes: dict[Value, Value] = {p: p for p in graph.params}  # real values among them
        self.pairs: dict[Value, tuple[Value, Value]] = {}

    def visit(self, node: Node) -> None:
        """A node of the old graph; what nobody asks for in the end is dead code."""
        if not splits(node):
            self.copy(node)
            return
        if isinstance(node.op, View) and node.out.type.static and node.inputs[0] in self.wholes:
            self.wholes[node.out] = self.applied(node, [self.wholes[node.inputs[0]]])
        xs = [self.parts(x) if x.type.dtype.is_complex else self.wholes[x] for x in node.inputs]
        if not node.out.type.dtype.is_complex:
            self.wholes[node.out] = self.on_parts(node, xs)
        else:
            real, imag = self.on_parts(node, xs)
            self.pairs[node.out] = self.builder.lift(real), self.builder.lift(imag)

    def copy(self, node: Node) -> None:
        """A node as it is, on whole values."""
        inputs = tuple(map(self.whole, node.inputs))
        self.builder.nodes.append(Node(node.op, inputs, node.attrs, node.outputs, node.where))
        self.wholes.update(zip(node.outputs, node.outputs, strict=True))
        if node.op.name == "constant" and node.is_complex:
            array = node.attrs["value"].array
            real, imag = (self.builder.literal(x.copy()) for x in (array.real, array.imag))
            self.pairs[node.out] = real, imag

    def on_parts(self, node: Node, xs: list[Any]) -> Any:
        """The result of a node by the parts of its complex operands."""
        if isinstance(node.op, Elementwise | Library) and node.op.split is not None:
            return node.op.split(*xs, **node.attrs)
        return [
            self.applied(node, [x[k] if isinstance(x, tuple) else x for x in xs]) for k in (0, 1)
        ]

    def applied(self, node: Node, xs: list[Value]) -> Value:
        """The op of `node` on other values."""
        (value,) = reapply(node.op, xs, node.attrs)
        return self.builder.lift(value)

    def parts(self, value: Value) -> tuple[Value, Value]:
        """The real and the imaginary part of a complex value of the old graph."""
        if value not in self.pairs:
            both = self.builder.lift(ops["view_as_real"](self.wholes[value]))
            last, shape = both.type.ndim - 1, value.type.shape

            def part(k: int) -> Value:
                starts = tuple(k if i == last else 0 for i in range(last + 1))
                taken: Value = ops["slice"](both, starts, (*shape, 1)).reshape(shape)
                return taken

            self.pairs[value] = part(0), part(1)
        return self.pairs[value]

    def whole(self, value: Value) -> Value:
        """A value of the old graph in one array."""
        if value not in self.wholes:
            self.wholes[value] = self.joined(value)
        return self.wholes[value]

    def joined(self, value: Value) -> Value:
        """The parts in one array, in turn."""
        with at(self.producers[value].where):
            columns = [x.reshape((*x.type.shape, 1)) for x in self.parts(value)]
            together: Value = ops["view_as_complex"](ops["concat"](columns, value.type.ndim))
            return together

    def output(self, value: Value) -> Value:
        """What the graph returns: put together by kernels where it is not in memory already."""
        node = self.producers.get(value)
        if node is not None and isinstance(node.op, View) and node.is_complex:
            return self.joined(value)
        return self.whole(value)


def over_parts(graph: Graph) -> Graph:
    """`graph` as kernels see its memory: a complex parameter whose parts are read is an array of
    them, and so is a complex output that is put together only to be returned.

    Nodes that read such a parameter as a whole go on reading the value that it was.
    """
    params = dict(zip(graph.params, graph.params, strict=True))
    outputs = dict(zip(graph.outputs, graph.outputs, strict=True))
    gone: set[Node] = set()
    for node in graph.nodes:
        if node.op.name == "view_as_real" and params.get(node.inputs[0]) is node.inputs[0]:
            if node.out not in outputs:
                params[node.inputs[0]] = node.out
                gone.add(node)
        elif node.op.name == "view_as_complex" and node.out in outputs:
            both = node.inputs[0]
            made = graph.producers.get(both)
            alone = (
                len(graph.uses[both]) == 1 and both not in outputs and node.out not in graph.uses
            )
            if made is not None and made.op.name == "concat" and alone:
                outputs[node.out] = both
                gone.add(node)
    if not gone:
        return graph
    nodes = tuple(n for n in graph.nodes if n not in gone)
    return Graph(
        tuple(params.values()), nodes, tuple(outputs[v] for v in graph.outputs), graph.name
    )


def together_again(root: Application, facts: Facts) -> Value | None:
    """Both parts of a complex value, put together: that value."""
    joined = facts.producer(root.inputs[0])
    if joined is None or joined.op.name != "concat" or len(joined.inputs) != 2:
        return None
    taken = [facts.producer(x) for x in joined.inputs]
    last = joined.outputs[0].type.ndim - 1
    for k, part in enumerate(taken):
        if part is None or part.op.name != "slice" or part.inputs[0] is not taken[0].inputs[0]:  # type: ignore[union-attr]
            return None
        if part.attrs["starts"] != tuple(k if i == last else 0 for i in range(last + 1)):
            return None
        if part.outputs[0].type != joined.inputs[0].type or set(part.attrs["steps"]) != {1}:
            return None
    both = facts.producer(taken[0].inputs[0])  # type: ignore[union-attr]
    if both is None or both.op.name != "view_as_real":
        return None
    whole: Value = both.inputs[0]
    return whole if whole.type == root.outputs[0].type else None


RULES = RuleSet((node_rule("parts together again", ("view_as_complex",), together_again),))
