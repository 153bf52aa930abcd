"""The IR: immutable typed nodes in SSA order, and the builder that traces append to.

A Graph is pure: variables are extra inputs and outputs. Sub-graphs (of `call`, `cond`,
`while_loop`) are attributes. Values of an outer trace that an inner one uses become parameters of
the inner graph (its `captures`), so that a graph never refers to anything outside itself.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith, holds_tensor
from graphgrad.compiler.dims import Dim, DimScope
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, DTypeError, LeakedTensorError, TraceError
from graphgrad.compiler.families import numbers, unsupported, weak_dtype
from graphgrad.compiler.op import Attrs, Op, ops, record, state
from graphgrad.compiler.printer import canonical_text, graph_text
from graphgrad.compiler.source import Where, here
from graphgrad.compiler.types import TensorType, tensor_type


class Value(Arith):
    """A symbolic tensor: a parameter of a graph or an output of one of its nodes."""

    __slots__ = ("type", "builder", "where", "__weakref__")

    def __init__(
        self, type: TensorType, builder: Builder | None, where: Where | None = None
    ) -> None:
        self.type = type
        self.builder = builder  # the trace it belongs to; None in finished graphs made by passes
        self.where = where

    __hash__ = object.__hash__  # type: ignore[assignment]  # by identity


class Literal:
    """A small constant array, hashable by its contents, with NaN payloads and the sign of zero."""

    __slots__ = ("array", "_key")

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self._key = (array.dtype, array.shape, array.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def is_scalar(self) -> bool:
        return self.array.ndim == 0

    def __repr__(self) -> str:
        if self.array.ndim == 0:
            return repr(self.array.item())
        return f"[{', '.join(repr(v) for v in self.array.ravel().tolist())}]"


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One application of an op. `where` is the user's line, no part of what the graph means."""

    op: Op
    inputs: tuple[Value, ...]
    attrs: Attrs
    outputs: tuple[Value, ...]
    where: Where | None = None

    @property
    def out(self) -> Value:
        return self.outputs[0]

    @property
    def is_complex(self) -> bool:
        """Does it read or make complex numbers?"""
        return any([v.type.dtype.is_complex for v in (*self.inputs, *self.outputs)])

    @property
    def derivative(self) -> Where | None:
        """The place of what differentiation makes of this node."""
        return self.where.differentiated() if self.where is not None else None


@dataclass(frozen=True, eq=False)
class Graph:
    """Parameters, nodes in an order that defines before use, and outputs."""

    params: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    name: str = "graph"
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)  # derived graphs and programs

    @cached_property
    def producers(self) -> dict[Value, Node]:
        """The node that makes each value."""
        return {v: node for node in self.nodes for v in node.outputs}

    @cached_property
    def uses(self) -> dict[Value, list[Node]]:
        """The nodes that read each value (an output of the graph is not counted)."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for v in dict.fromkeys(node.inputs):
                found.setdefault(v, []).append(node)
        return found

    @property
    def types(self) -> tuple[TensorType, ...]:
        return tuple(p.type for p in self.params)

    @property
    def output_types(self) -> tuple[TensorType, ...]:
        return tuple(v.type for v in self.outputs)

    @cached_property
    def fingerprint(self) -> str:
        """The canonical text: equal for graphs that mean the same, wherever their source lies."""
        return canonical_text(self)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Graph) and self.fingerprint == other.fingerprint)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __str__(self) -> str:
        return graph_text(self)


@dataclass(frozen=True, slots=True)
class Stale:
    """A tensor that an assignment to a part of it replaced, the name, and the line that did it."""

    value: Any
    name: str
    where: Where | None

    def error(self) -> TraceError:
        """The error for reading it."""
        line = f" in {self.where.describe()}" if self.where is not None else ""
        return TraceError(
            f"this tensor {self.value.type} was replaced by an assignment to a part of "
            f"{self.name!r}{line}: tensors do not change, so what is read here would be the value "
            f"before it. Read {self.name!r}, take a copy before the assignment (gg.identity), or "
            "return the new tensor from the function that makes it",
            state.where or here(),
        )


# Arrays up to this many elements are written into the graph; larger ones are captured as inputs.
LITERAL_ELEMENTS = 16


class Builder:
    """A trace in progress: the symbolic kind of value."""

    def __init__(
        self,
        name: str = "graph",
        parent: Builder | None = None,
        scope: DimScope | None = None,
        value_class: Callable[..., Value] = Value,
    ) -> None:
        self.name = name
        self.parent = parent
        self.scope: DimScope = scope or (
            parent.scope if parent is not None else DimScope(where=lambda: state.where or here())
        )
        self.value_class: Callable[..., Value] = (
            value_class if parent is None else parent.value_class
        )
        self.params: list[Value] = []
        self.nodes: list[Node] = []
        self.captures: dict[int, tuple[Any, Value]] = {}  # by identity of the outer tensor
        self._literals: dict[Any, Value] = {}
        self.stale: dict[int, Stale] = {} if parent is None else parent.stale  # by identity
        self.open = True

    def value(self, type: TensorType, where: Where | None = None) -> Value:
        return self.value_class(type, self, where)

    def param(self, type: TensorType, where: Where | None = None) -> Value:
        """A new parameter."""
        self.params.append(self.value(type, where))
        return self.params[-1]

    def call(self, op: Op, args: tuple[Any, ...], attrs: Attrs) -> Any:
        inputs, attrs = op.prepare(self, args, attrs)
        outputs = self.apply(op, inputs, attrs)
        return outputs if op.multi else outputs[0]

    def apply(self, op: Op, inputs: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
        outputs = self.append(op, inputs, attrs)
        if state.recorders:
            record(op, inputs, attrs, outputs)
        return outputs

    def append(self, op: Op, inputs: tuple[Value, ...], attrs: Attrs) -> tuple[Value, ...]:
        """Add a node without telling the tapes."""
        where = state.where or here()
        types = op.infer(tuple(x.type for x in inputs), attrs)
        outputs = tuple(self.value(t, where) for t in types)
        self.nodes.append(Node(op, inputs, attrs, outputs, where))
        return outputs

    def lift(self, x: object, dtype: DType | None = None) -> Value:
        """`x` as a value of this trace: outer tensors are captured, small arrays are constants."""
        if self.stale and id(x) in self.stale and not (state.where and state.where.derivative):
            raise self.stale[id(x)].error()
        if isinstance(x, Value):
            if x.builder is self:
                return x
            outer = self.parent
            while outer is not None and outer is not x.builder:
                outer = outer.parent
            if outer is None or not outer.open:
                raise leaked(x)
            return self.capture(x, x.type)
        if hasattr(x, "__graphgrad_value__"):  # a variable: its value in this trace
            return self.lift(x.__graphgrad_value__(), dtype)
        if isinstance(x, Arith):
            return self.capture(x, x.type)
        if isinstance(x, Dim):
            wanted = dtype or dtypes.int32
            size: Value = self.append(ops["size"], (), {"size": x, "dtype": wanted.real_dtype})[0]
            return size.cast(wanted)  # type: ignore[no-any-return]
        if isinstance(x, list | tuple) and holds_tensor(x):
            parts = [self.lift(v, dtype) for v in x]
            stacked: Value = ops["concat"]([v.reshape((1, *v.shape)) for v in parts], 0)
            return stacked
        array = to_array(x, dtype)
        if array.size > LITERAL_ELEMENTS:
            return self.capture(array, tensor_type(array.shape, dtypes.as_dtype(array.dtype)))
        return self.literal(array.copy() if array is x else array)

    def literal(self, array: np.ndarray[Any, Any]) -> Value:
        """A constant node (one a value and trace)."""
        literal = Literal(array)
        if literal not in self._literals:
            self._literals[literal] = self.append(ops["constant"], (), {"value": literal})[0]
        return self._literals[literal]

    def capture(self, x: Any, type: TensorType) -> Value:
        """The parameter that stands for the outer tensor `x`."""
        found = self.captures.get(id(x))
        if found is None:
            found = self.captures[id(x)] = (x, self.value(type, state.where or here()))
        return found[1]

    @contextmanager
    def tracing(self) -> Any:
        """Make this the trace in progress of the thread; outer tapes do not see its nodes."""
        saved = state.builder, state.recorders
        state.builder, state.recorders = self, ()
        try:
            yield self
        finally:
            state.builder, state.recorders = saved
            self.open = False

    def finish(self, outputs: Iterable[Any]) -> Graph:
        """The graph; its captures follow the parameters, in `captured` order."""
        outs = tuple(outputs)
        params = (*self.params, *(v for _, v in self.captures.values()))
        return Graph(params, tuple(self.nodes), outs, self.name)

    @property
    def captured(self) -> list[Any]:
        """The outer tensors, in the order of their parameters."""
        return [x for x, _ in self.captures.values()]


def leaked(x: Value) -> LeakedTensorError:
    """The error for a symbolic tensor that is used outside its trace."""
    made = (
        f" It was made in {x.where.describe()}." if x.where is not None else " It is an argument."
    )
    name = x.builder.name if x.builder is not None else "?"
    return LeakedTensorError(
        f"a symbolic tensor {x.type} of the function `{name}` is used outside of its trace.{made} "
        "Return it from the function, or keep it in a gg.Variable.",
        state.where or here(),
    )


PYTHON_NUMBERS = (float, int, bool, complex)


def to_array(x: object, dtype: DType | None = None) -> np.ndarray[Any, Any]:
    """A Python number, NumPy operand or nested sequence as an array; floats are float32.

    An integer out of the range of `dtype` is an error, and so is a Python float for an integer
    dtype. NumPy's floats are cast.
    """
    target = weak_dtype(x) if dtype is None else dtype
    plain = type(x) in PYTHON_NUMBERS and (type(x) is not complex or target.is_complex)
    if plain and target.bits > 16 and (type(x) is int or not target.is_integer):
        try:
            return np.asarray(x, dtype=target.dtype)
        except OverflowError:
            raise _out_of_range(x, target) from None
    array = numbers(x)
    own = dtypes.as_dtype_or_none(array.dtype)
    if own is target:
        return array
    if own is None:
        raise unsupported(x)
    if own.is_integer and target.is_integer:
        exact = array.astype(target.dtype)
        wrong = exact != array
        if wrong.any():
            raise _out_of_range(array[wrong][0], target)
        return exact
    if own.is_floating and target.is_integer:
        if array.size and not isinstance(x, np.ndarray | np.generic):
            raise DTypeError(
                f"Cannot convert {reprlib.repr(x)} to a tensor of dtype {target.name}; gg.cast "
                "does, and rounds toward 0"
            )
        return np.asarray(ops["cast"].ref(array, target))
    if own.is_complex and not target.is_complex:
        raise DTypeError(
            f"Cannot convert {reprlib.repr(x)} to a tensor of dtype {target.name}, which has no "
            "imaginary part; take gg.math.real, gg.math.imag or gg.abs of it first"
        )
    with np.errstate(over="ignore"):
        return array.astype(target.dtype)


def _out_of_range(x: object, dtype: DType) -> ArgumentError:
    return ArgumentError(
        f"{x} is out of range for {dtype.name}, which holds {dtype.min} to {dtype.max}"
    )


def trace(
    fn: Callable[..., Any], types: Sequence[TensorType], name: str = "graph", **options: Any
) -> tuple[Graph, list[Any]]:
    """The graph of `fn(*values)`, which returns values, and the outer tensors it captured."""
    builder = Builder(
        name, parent=state.builder if isinstance(state.builder, Builder) else None, **options
    )
    with builder.tracing():
        params = [builder.param(t) for t in types]
        outputs = [builder.lift(v) for v in fn(*params)]
    return builder.finish(outputs), builder.captured


def replay(
    graph: Graph, inputs: Sequence[Any], run: Callable[[Node, tuple[Any, ...]], tuple[Any, ...]]
) -> tuple[tuple[Any, ...], dict[Value, Any]]:
    """Walk the nodes with `run(node, inputs) -> outputs`.

    Returns the outputs and what every value became.
    """
    env: dict[Value, Any] = dict(zip(graph.params, inputs, strict=True))
    for node in graph.nodes:
        env.update(zip(node.outputs, run(node, tuple(env[x] for x in node.inputs)), strict=True))
    return tuple(env[v] for v in graph.outputs), env
