"""What ops that hold sub-graphs share: type checks, and how derived sub-graphs are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.ir import Builder, Graph, Value
from graphgrad.compiler.op import Op
from graphgrad.compiler.transform.autodiff import copy_nodes
from graphgrad.compiler.transform.sizes import bind_sizes, type_at
from graphgrad.compiler.types import TensorType, same_shape


def output_types(name: str, graph: Graph, types: Sequence[TensorType]) -> tuple[TensorType, ...]:
    """The output types of a sub-graph for inputs of `types`; raises where they do not fit it."""
    if len(types) != len(graph.params):
        raise ArgumentError(
            f"{name}: `{graph.name}` takes {len(graph.params)} inputs, got {len(types)}"
        )
    if tuple(types) == graph.types:
        return graph.output_types
    sizes = bind_sizes(graph.types, [t.shape for t in types])
    for i, (got, declared) in enumerate(zip(types, graph.types, strict=True)):
        wanted = type_at(declared, sizes)
        if got.dtype is not wanted.dtype:
            raise DTypeError(f"{name}: input {i} of `{graph.name}` is {wanted}, got {got}")
        if not same_shape(got.shape, wanted.shape):
            raise ShapeError(f"{name}: input {i} of `{graph.name}` is {wanted}, got {got}")
    return tuple(type_at(t, sizes) for t in graph.output_types)


def scattered(has: Sequence[bool], values: Iterable[Any]) -> tuple[Any, ...]:
    """The values at the places that `has` marks, and None elsewhere."""
    remaining = iter(values)
    return tuple(next(remaining) if h else None for h in has)


def present(values: Iterable[Any]) -> list[Any]:
    """Those that are not None."""
    return [v for v in values if v is not None]


def given(values: Iterable[Any]) -> tuple[bool, ...]:
    """Which are not None."""
    return tuple(v is not None for v in values)


def floating(values: Iterable[Any]) -> tuple[bool, ...]:
    """Which are floating."""
    return tuple(v.dtype.is_inexact for v in values)


def select(values: Sequence[Any], mask: Sequence[bool]) -> list[Any]:
    """Those that the mask marks."""
    return [v for v, m in zip(values, mask, strict=True) if m]


def build(name: str, types: Sequence[TensorType], make: Callable[..., Iterable[Any]]) -> Graph:
    """The graph of `make(builder, *params)`, which may `place` other graphs."""
    builder = Builder(name)
    with builder.tracing():
        params = [builder.param(t) for t in types]
        return builder.finish([builder.lift(v) for v in make(builder, *params)])


def place(builder: Builder, graph: Graph, inputs: Sequence[Any]) -> list[Value]:
    """Copy `graph` into the trace; inputs may be None for parameters that it does not read."""
    env = {p: x for p, x in zip(graph.params, inputs, strict=True) if x is not None}
    copies = copy_nodes(graph, builder, env)
    return [copies[v] for v in graph.outputs]


def used_params(graph: Graph) -> list[bool]:
    """Which parameters the graph reads."""
    read = set(graph.outputs).union(*(node.inputs for node in graph.nodes))
    return [p in read for p in graph.params]


def reached(graph: Graph, marked: Sequence[bool]) -> tuple[bool, ...]:
    """Which floating outputs depend, through floating values, on the parameters that `marked`
    marks."""
    active = {p for p, m in zip(graph.params, marked, strict=True) if m and p.dtype.is_inexact}
    for node in graph.nodes:
        if not node.op.nondifferentiable and any(x in active for x in node.inputs):
            active.update(v for v in node.outputs if v.dtype.is_inexact)
    return tuple(v in active for v in graph.outputs)


def must_be_chosen(graph: Graph) -> bool:
    """Is it visible whether `graph` runs: does it, or a graph in it, have effects or may it fail?
    A loop may also never end."""
    if "must be chosen" not in graph.memo:
        graph.memo["must be chosen"] = any(
            n.op.effect
            or n.op.raises
            or n.op.name == "while_loop"
            or any(isinstance(a, Graph) and must_be_chosen(a) for a in n.attrs.values())
            for n in graph.nodes
        )
    return bool(graph.memo["must be chosen"])


def apply(op: Op, inputs: Sequence[Any], **attrs: Any) -> tuple[Any, ...]:
    """Apply a multi-output op."""
    return tuple(op(*inputs, **attrs))
