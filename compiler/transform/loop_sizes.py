"""Sizes that differ from step to step of a loop: which there are, and how a reverse step knows
them.

The body of a loop names them by run-time sizes of its own. What it stacks is padded to the largest,
so a reverse step cuts what it reads to size again. It solves the size of a cotangent for those of
its step, n + 1 for n; what no cotangent tells is stacked as well, one integer a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import RUNTIME, Dim, Extent, Symbol, divide, symbols_of
from graphgrad.compiler.families import Control, Library
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.while_loop import Axes
from graphgrad.compiler.transform.sizes import at_sizes, runtime_size, runtime_symbols
from graphgrad.compiler.types import TensorType, tensor_type


def found_by(node: Node) -> set[Symbol]:
    """The run-time sizes that a node finds out."""
    if isinstance(node.op, Control):
        names: tuple[str, ...] = ("trips", "varying", "padded", "widened")
    else:
        names = ("size",) if isinstance(node.op, Library) else ()
    return set().union(*(_in(node.attrs.get(name)) for name in names))


def _in(x: Any) -> set[Symbol]:
    return set().union(*map(_in, x)) if isinstance(x, tuple) else runtime_symbols(x)


def step_sizes(body: Graph, varying: Axes) -> set[Symbol]:
    """The sizes that may differ from step to step."""
    told = [runtime_symbols((body.params[k].type.shape[axis],)) for k, axis, _ in varying]
    return set().union(*told, *map(found_by, body.nodes))


def padded_axes(body: Graph, carried: int, varying: Axes) -> Axes:
    """The axes of stacked values whose size may differ from step to step, with new sizes."""
    own = step_sizes(body, varying)
    if not own:
        return ()
    return tuple(
        (i, axis, runtime_size("longest"))
        for i, v in enumerate(body.outputs[carried:])
        for axis, n in enumerate(v.type.shape)
        if isinstance(n, Dim) and not own.isdisjoint(symbols_of(n))
    )


def moved_axes(axes: Axes, marks: Sequence[bool]) -> Axes:
    """The axes of values that are followed by tangents of those that `marks` marks."""
    places, count = {}, len(marks)
    for k, marked in enumerate(marks):
        if marked:
            places[k] = count
            count += 1
    return axes + tuple((places[k], axis, n) for k, axis, n in axes if k in places)


def mentioned(graph: Graph, values: Iterable[Value]) -> set[Symbol]:
    """The run-time sizes that `graph` needs to be told: those of `values`, and those in its nodes
    that none of them finds out."""
    found = set[Symbol]()
    for node in graph.nodes:
        found.update(*(runtime_symbols(v.type) for v in node.outputs))
        found.update(*(_in(a) for a in node.attrs.values()))
    found -= set().union(*map(found_by, graph.nodes))
    return found.union(*(runtime_symbols(v.type) for v in values))


def solved(declared: Sequence[TensorType], actual: Sequence[TensorType]) -> dict[Symbol, Extent]:
    """The run-time sizes that `declared` types mention linearly, from types that stand for them."""
    found: dict[Symbol, Extent] = {}
    for d, a in zip(declared, actual, strict=True):
        for n, size in zip(d.shape, a.shape, strict=True):
            if not isinstance(n, Dim):
                continue
            (term, *rest) = n.terms
            constant = rest[0][1] if rest else 0
            linear = len(term[0]) == 1 and isinstance(term[0][0], Symbol)
            if linear and len(rest) <= 1 and (not rest or not rest[0][0]):
                symbol = term[0][0]
                assert isinstance(symbol, Symbol)
                if symbol.argument == RUNTIME:
                    found.setdefault(symbol, divide(size - constant, term[1]))
    return found


def stacked_size(body: Graph, carried: int, size: Symbol) -> Value | None:
    """The stacked output that holds a size, if there is one."""
    for v in body.outputs[carried:]:
        node = body.producers.get(v)
        if node is not None and node.op.name == "size" and node.attrs["size"] == _dim(size):
            return v
    return None


def with_sizes(body: Graph, sizes: Iterable[Symbol]) -> Graph:
    """`body` that also stacks the sizes."""
    nodes = [
        Node(
            ops["size"],
            (),
            {"size": _dim(s), "dtype": dtypes.int64},
            (Value(tensor_type((), dtypes.int64), None),),
        )
        for s in sizes
    ]
    outputs = (*body.outputs, *(n.out for n in nodes))
    return Graph(body.params, (*body.nodes, *nodes), outputs, body.name)


def _dim(s: Symbol) -> Dim:
    return Dim((((s,), 1),))


def cut_to(x: Any, t: TensorType, sizes: dict[Symbol, Extent]) -> Any:
    """What was stacked of a value of type `t`, without the padding."""
    shape = at_sizes(t.shape, sizes)
    if x.type.shape == shape:
        return x
    return ops["slice"](x, (0,) * len(shape), shape)
