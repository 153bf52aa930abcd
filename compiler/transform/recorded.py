"""The reverse of what a tape recorded, as a graph over the values that the tape holds.

The walk backwards is traced once, over symbols that stand for the recorded values, so that the
graph computes what the walk over the values themselves would. Its parameters are the recorded
values that it reads; views among them are made again from what they look at, since a compiled view
costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from graphgrad.compiler.families import Control, View, add_all
from graphgrad.compiler.ir import Builder, Graph, Node, Value
from graphgrad.compiler.op import Application, current_kind, ops
from graphgrad.compiler.passes.records import Constant, stabilise
from graphgrad.compiler.transform.autodiff import at, backprop, live
from graphgrad.compiler.types import Shape, TensorType, tensor_type


class Unsupported(Exception):
    """These records cannot be traced again; the text says why."""


class RecordedReverse(NamedTuple):
    """A graph of the reverse of some records, and what it means to the tape.

    `reads` are the values that go to its parameters. `places` is, for each group of sources, the
    output that holds its gradient, or None. `answers` pairs the values that stability rules asked
    about with what they were told: for other answers the graph would be another.
    """

    graph: Graph
    reads: tuple[Any, ...]
    places: tuple[int | None, ...]
    answers: tuple[tuple[Any, Any], ...]


def reverse_records(
    records: Sequence[Application],
    targets: Sequence[tuple[Any, Any]],
    sources: Sequence[Sequence[Any]],
    ends: Sequence[Any],
    extent: Callable[[Any], Shape],
    constant: Constant,
) -> RecordedReverse:
    """Trace the walk from `targets`, pairs of a value and its cotangent (None: ones), to `sources`,
    groups of values whose gradients are summed.

    Stability rules stop at `ends`, and ask `constant` about values that no record made.
    `extent(value)` is the shape in which a value goes to its parameter: its own, or one that
    stretches to it. Raises Unsupported for records that cannot be traced again.
    """
    builder = Builder("gradient of a tape")
    answers: dict[int, tuple[Any, Any]] = {}
    with builder.tracing():
        symbols = _Symbols(builder, extent)

        def answer(symbol: Any) -> Any:
            value = symbols.meant.get(id(symbol))
            if value is None:
                return None
            if id(value) not in answers:
                answers[id(value)] = value, constant(value)
            return answers[id(value)][1]

        applications = stabilise(
            [symbols.application(r) for r in records], Node, map(symbols.of, ends), answer
        )
        seeds = [(symbols.of(t), _ones(t.type) if g is None else symbols.of(g)) for t, g in targets]
        found = iter(
            backprop(applications, seeds, [symbols.of(x) for group in sources for x in group])
        )
        gradients = [add_all([next(found) for _ in group]) for group in sources]
    outputs = {id(g): g for g in gradients if g is not None}
    if not outputs:
        raise Unsupported("no source has a path to a target")
    if builder.captures:
        raise Unsupported("a derivative reads an array that is no recorded value")
    graph = live(builder.finish(outputs.values()))
    used = {x for n in graph.nodes for x in n.inputs}.union(graph.outputs)
    reads = {p: value for p, value in symbols.params.items() if p in used}
    order = list(outputs)
    return RecordedReverse(
        Graph(tuple(reads), graph.nodes, graph.outputs, graph.name),
        tuple(reads.values()),
        tuple(None if g is None else order.index(id(g)) for g in gradients),
        tuple(answers.values()),
    )


class _Symbols:
    """What stands for each recorded value."""

    def __init__(self, builder: Builder, extent: Callable[[Any], Shape]) -> None:
        self.builder = builder
        self.extent = extent
        self.params: dict[Value, Any] = {}  # the value that each parameter reads
        self.meant: dict[int, Any] = {}  # the values that no record made, by id of their symbol
        self._by_value: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        """The symbol of `value`, a parameter if no record made it."""
        symbol = self._by_value.get(id(value))
        if symbol is None:
            param = self._param(value, self.extent(value))
            symbol = self._by_value[id(value)] = param.broadcast_to(value.type.shape)
            self.meant[id(symbol)] = value
        return symbol

    def _param(self, value: Any, shape: Shape) -> Value:
        param = self.builder.param(tensor_type(shape, value.type.dtype))
        self.params[param] = value
        return param

    def application(self, record: Application) -> Node:
        """The record over symbols. What a view gives is traced, anything else is a parameter."""
        op = record.op
        if ops.get(op.name) is not op:
            raise Unsupported(f"`{op.name}` is a Python function")
        if isinstance(op, Control) or op.effect:
            raise Unsupported(f"`{op.name}` holds a graph or has an effect")
        inputs = tuple(map(self.of, record.inputs))
        where = record.where
        with at(where):
            types = op.infer(tuple(x.type for x in inputs), record.attrs)
            if types != tuple(y.type for y in record.outputs):
                raise Unsupported(f"`{op.name}` gave other types than its rule says")
            if isinstance(op, View):
                outputs = self.builder.append(op, inputs, record.attrs)
            else:
                outputs = tuple(self._param(y, y.type.shape) for y in record.outputs)
        for value, symbol in zip(record.outputs, outputs, strict=True):
            self._by_value[id(value)] = symbol
        return Node(op, inputs, record.attrs, outputs, where)


def _ones(t: TensorType) -> Any:
    return current_kind().lift(1, t.dtype).broadcast_to(t.shape)
