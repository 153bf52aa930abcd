"""Complex values as pairs of real ones, so that kernels know real numbers only.

Memory holds complex numbers as NumPy does, real and imaginary parts in turn: `view_as_real` and
`view_as_complex` lie between such an array and its parts. What has no form in parts (a matrix
product, a condition) keeps its complex operands and runs as a host step.

A value is split when a node asks for its parts, and put together when one asks for the whole; what
only moves data takes the form that is asked for.
"""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Elementwise, View
from graphgrad.compiler.ir import Builder, Graph, Literal, Node, Value
from graphgrad.compiler.op import Application, Op, ops, reapply, state
from graphgrad.compiler.passes.patterns import Facts, node_rule
from graphgrad.compiler.passes.rewrite import RuleSet
from graphgrad.compiler.source import Where
from graphgrad.compiler.types import TensorType


def split_complex(graph: Graph) -> Graph:
    """`graph` with what it computes of complex numbers done on their parts.

    Parameters and outputs keep their types. A graph without such work is returned as it is.
    """
    if not any(splits(n) for n in graph.nodes):
        return graph
    builder = Splicing(graph.name, scope=DimScope())
    with builder.tracing():
        splitter = Splitter(graph, builder)
        for node in graph.nodes:
            state.where, saved = node.where, state.where
            try:
                splitter.visit(node)
            finally:
                state.where = saved
        outputs = [splitter.output(v) for v in graph.outputs]
    return Graph(graph.params, tuple(builder.nodes), tuple(outputs), graph.name)


def has_parts(op: Op) -> bool:
    """Has `op` a form on the parts of complex values?"""
    return op.by_component or (isinstance(op, Elementwise) and op.split is not None)


def splits(node: Node) -> bool:
    """Does `node` compute with complex numbers in a way that kernels know on parts?"""
    return has_parts(node.op) and node.is_complex


class Splicing(Builder):
    """Builds a graph in which values of another go on."""

    def value(self, type: TensorType, where: Where | None = None) -> Value:
        return Value(type, None, where)

    def lift(self, x: object, dtype: DType | None = None) -> Value:
        return x if isinstance(x, Value) else super().lift(x, dtype)


class Splitter:
    """The graph being built, and what each value of the old one has become in it."""

    def __init__(self, graph: Graph, builder: Builder) -> None:
        self.producers = graph.producers
        self.builder = builder
        self.wholes: dict[Value, Value] = {p: p for p in graph.params}
        self.pairs: dict[Value, tuple[Value, Value]] = {}

    def visit(self, node: Node) -> None:
        """Real results now; complex ones of nodes that split when somebody asks."""
        if not splits(node):
            inputs = tuple(map(self.whole, node.inputs))
            if node.op.name != "constant" or not node.out.type.dtype.is_complex:
                self.builder.nodes.append(
                    Node(node.op, inputs, node.attrs, node.outputs, node.where)
                )
                self.wholes.update(zip(node.outputs, node.outputs, strict=True))
        elif not node.out.type.dtype.is_complex:
            self.wholes[node.out] = self.on_parts(node)

    def on_parts(self, node: Node) -> Any:
        """The result of a node by the parts of its complex operands."""
        state.where, saved = node.where, state.where
        try:
            xs = [self.parts(x) if x.type.dtype.is_complex else self.whole(x) for x in node.inputs]
            if isinstance(node.op, Elementwise):
                assert node.op.split is not None
                return node.op.split(*xs, **node.attrs)
            real, imag = (
                reapply(node.op, [x[k] if isinstance(x, tuple) else x for x in xs], node.attrs)[0]
                for k in (0, 1)
            )
            return real, imag
        finally:
            state.where = saved

    def parts(self, value: Value) -> tuple[Value, Value]:
        """The real and the imaginary part of a complex value of the old graph."""
        found = self.pairs.get(value)
        if found is None:
            found = self.pairs[value] = self.find_parts(value)
        return found

    def find_parts(self, value: Value) -> tuple[Value, Value]:
        node = self.producers.get(value)
        if node is not None and node.op.name == "constant":
            array = node.attrs["value"].array
            return self.builder.literal(array.real.copy()), self.builder.literal(array.imag.copy())
        if node is not None and splits(node):
            real, imag = self.on_parts(node)
            return self.builder.lift(real), self.builder.lift(imag)
        both = ops["view_as_real"](self.whole(value))
        last, shape = both.ndim - 1, value.type.shape

        def part(k: int) -> Value:
            starts = tuple(k if i == last else 0 for i in range(both.ndim))
            taken: Value = ops["slice"](both, starts, (*shape, 1)).reshape(shape)
            return taken

        return part(0), part(1)

    def whole(self, value: Value) -> Value:
        """A value of the old graph in one array."""
        found = self.wholes.get(value)
        if found is None:
            found = self.wholes[value] = self.find_whole(value)
        return found

    def find_whole(self, value: Value) -> Value:
        node = self.producers[value]
        if node.op.name == "constant":
            return self.builder.append(node.op, (), {"value": Literal(node.attrs["value"].array)})[
                0
            ]
        if self.lies_whole(value):
            return reapply(node.op, tuple(map(self.whole, node.inputs)), node.attrs)[0]  # type: ignore[no-any-return]
        return self.joined(value)

    def lies_whole(self, value: Value) -> bool:
        """Is it made by views of something that has memory as a whole?"""
        node = self.producers.get(value)
        while node is not None and isinstance(node.op, View):
            value = node.inputs[0]
            node = self.producers.get(value)
        return node is None or not splits(node)

    def joined(self, value: Value) -> Value:
        """The parts in one array, in turn."""
        columns = [x.reshape((*x.type.shape, 1)) for x in self.parts(value)]
        together: Value = ops["view_as_complex"](ops["concat"](columns, value.type.ndim))
        return together

    def output(self, value: Value) -> Value:
        """What the graph returns: put together by kernels where it is not in memory already."""
        node = self.producers.get(value)
        if not value.type.dtype.is_complex or node is None or not isinstance(node.op, View):
            return self.whole(value)
        return self.joined(value)


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
