"""Unknown sizes given values: how a graph with symbolic dimensions meets arguments of known shapes.

A symbol whose `argument` is negative is a *run-time size*: the number of trips of a loop, known
only once the loop has run. No argument binds it, so `specialise` leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphgrad.compiler.dims import Dim, DimScope, Extent, Symbol, substitute, symbols_of
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.types import Shape, TensorType, tensor_type

RUNTIME = -1


def runtime_size(name: str, where: Callable[[], Any] = lambda: None) -> Dim:
    """A new size known only at run time. It has a scope of its own: no call can be guarded by it,
    and what the trace assumes of it is checked by the run."""
    return DimScope(where=where).symbol(name, RUNTIME, 0)


def is_runtime(t: TensorType) -> bool:
    """Does the shape depend on a size that is known only at run time?"""
    return any(isinstance(n, Dim) and any(s.argument < 0 for s in symbols_of(n)) for n in t.shape)


def bind_sizes(
    types: Sequence[TensorType], shapes: Sequence[Sequence[Extent]]
) -> dict[Symbol, Extent]:
    """The symbols of `types`, from the shapes that stand for them; not those that stay as they
    are."""
    found: dict[Symbol, Extent] = {}
    for t, shape in zip(types, shapes, strict=True):
        for n, actual in zip(t.shape, shape, strict=False):
            if isinstance(n, Dim) and n != actual and len(n.terms) == 1:
                ((monomial, coefficient),) = n.terms
                if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
                    found.setdefault(monomial[0], actual)
    return found


def at_sizes(shape: Shape, sizes: Mapping[Symbol, Extent]) -> Shape:
    """`shape` with the known symbols replaced."""
    return tuple(substitute(n, sizes) if isinstance(n, Dim) else n for n in shape)


def type_at(t: TensorType, sizes: Mapping[Symbol, Extent]) -> TensorType:
    """`t` with the known symbols replaced."""
    return t if t.static or not sizes else tensor_type(at_sizes(t.shape, sizes), t.dtype)


def specialise(graph: Graph, sizes: Mapping[Symbol, Extent]) -> Graph:
    """`graph` with the known symbols replaced in types, attributes and sub-graphs."""
    if not sizes or not is_symbolic(graph):
        return graph
    key = ("sizes", *((s, n) for s, n in sizes.items()))
    if key not in graph.memo:
        graph.memo[key] = _specialise(graph, sizes)
    return graph.memo[key]  # type: ignore[no-any-return]


def _specialise(graph: Graph, sizes: Mapping[Symbol, Extent]) -> Graph:
    env: dict[Value, Value] = {}

    def renew(v: Value) -> Value:
        env[v] = type(v)(type_at(v.type, sizes), None, v.where)
        return env[v]

    params = tuple(map(renew, graph.params))
    nodes = tuple(
        Node(
            n.op,
            tuple(env[x] for x in n.inputs),
            attrs_at(n.attrs, sizes),
            tuple(map(renew, n.outputs)),
            n.where,
        )
        for n in graph.nodes
    )
    return Graph(params, nodes, tuple(env[v] for v in graph.outputs), graph.name)


def attrs_at(attrs: Mapping[str, Any], sizes: Mapping[Symbol, Extent]) -> dict[str, Any]:
    """Attributes with the known symbols replaced."""
    return {key: attribute_at(value, sizes) for key, value in attrs.items()}


def attribute_at(value: Any, sizes: Mapping[Symbol, Extent]) -> Any:
    """One attribute with the known symbols replaced."""
    if isinstance(value, Dim):
        return substitute(value, sizes)
    if isinstance(value, tuple):
        return tuple(attribute_at(v, sizes) for v in value)
    return specialise(value, sizes) if isinstance(value, Graph) else value


def is_symbolic(graph: Graph) -> bool:
    """Is any size of the graph, its attributes or its sub-graphs unknown?"""
    if "symbolic" not in graph.memo:
        types = [v.type for v in graph.params] + [v.type for n in graph.nodes for v in n.outputs]
        graph.memo["symbolic"] = any(not t.static for t in types) or any(
            _mentions_size(value) for n in graph.nodes for value in n.attrs.values()
        )
    return bool(graph.memo["symbolic"])


def _mentions_size(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_mentions_size, value))
    return isinstance(value, Dim) or (isinstance(value, Graph) and is_symbolic(value))
