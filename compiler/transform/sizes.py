"""Unknown sizes given values: how a graph with symbolic dimensions meets arguments of known shapes.

A symbol whose `argument` is negative is a *run-time size*: the number of trips of a loop, or of the
elements that a mask picks, known only once the op has run. No argument binds it, so `specialise`
leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphgrad.compiler.dims import (
    RUNTIME,
    Dim,
    DimScope,
    Extent,
    Guard,
    Symbol,
    is_runtime_size,
    substitute,
    symbols_of,
)
from graphgrad.compiler.errors import ShapeError
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.types import Shape, TensorType, tensor_type


def runtime_size(name: str, where: Callable[[], Any] = lambda: None) -> Dim:
    """A new size known only at run time. It has a scope of its own: no call can be guarded by it,
    and what the trace assumes of it is checked by the run."""
    return DimScope(where=where).symbol(name, RUNTIME, 0)


def is_runtime(t: TensorType) -> bool:
    """Does the shape depend on a size that is known only at run time?"""
    return any(map(is_runtime_size, t.shape))


def bind_sizes(
    types: Sequence[TensorType], shapes: Sequence[Sequence[Extent]]
) -> dict[Symbol, Extent]:
    """The symbols of `types`, from the shapes that stand for them; not those that stay as they
    are."""
    found: dict[Symbol, Extent] = {}
    for t, shape in zip(types, shapes, strict=True):
        for n, actual in zip(t.shape, shape, strict=False):
            symbol = _told(n)
            if symbol is not None and n != actual:
                found.setdefault(symbol, actual)
    return found


def _told(n: Extent) -> Symbol | None:
    """The symbol that `n` is by itself, so that its value tells that of the symbol."""
    if isinstance(n, Dim) and len(n.terms) == 1:
        ((monomial, coefficient),) = n.terms
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0]
    return None


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
            mentions_size(value) for n in graph.nodes for value in n.attrs.values()
        )
    return bool(graph.memo["symbolic"])


def own_sizes(graph: Graph) -> Graph:
    """A sub-graph with its unknown sizes as those of its own arguments, to be run by itself.

    A trace names sizes after its arguments, and a sub-graph has others, in another order. Run-time
    sizes become sizes of its arguments as well where these tell them all, and the user's code asked
    nothing about them that each run has to check.
    """
    if not is_symbolic(graph):
        return graph
    if "own sizes" not in graph.memo:
        told = _told_runtime_sizes(graph)
        named = specialise(graph, told) if told else graph
        graph.memo["own sizes"] = specialise(named, _moved(named))
    return graph.memo["own sizes"]  # type: ignore[no-any-return]


def _told_runtime_sizes(graph: Graph) -> dict[Symbol, Extent]:
    """New symbols for the run-time sizes of a graph, as sizes of its arguments; none if a node
    finds one out, or the run has to check something of them."""
    found = set[Symbol]()
    for x in (v.type for v in (*graph.params, *graph.producers)):
        found |= runtime_symbols(x)
    scope, new = DimScope(), dict[Symbol, Extent]()
    for argument, t in enumerate(graph.types):
        for axis, n in enumerate(t.shape):
            s = _told(n)
            if s is not None and s.argument == RUNTIME and s not in new:
                new[s] = scope.symbol(s.name, argument, axis)
    checked = any(g.where is not None for s in new for g in s.scope.guards.values())
    return new if found <= new.keys() and not checked else {}


def _moved(graph: Graph) -> dict[Symbol, Extent]:
    """New symbols for the sizes of arguments, where some are those of other arguments."""
    places: dict[Symbol, list[tuple[int, int]]] = {}
    for argument, t in enumerate(graph.types):
        for axis, n in enumerate(t.shape):
            s = _told(n)
            if s is not None and s.argument != RUNTIME:
                places.setdefault(s, []).append((argument, axis))
    if all((s.argument, s.axis) in at for s, at in places.items()):
        return {}
    scope = DimScope()
    new: dict[Symbol, Extent] = {
        s: scope.symbol(s.name, *at[0], s.scope.hints.get(s)) for s, at in places.items()
    }
    old: dict[Symbol, Extent] = {
        copy: Dim((((s,), 1),)) for copy, s in zip(scope.symbols, new, strict=True)
    }
    for outer in {s.scope: None for s in places}:
        for g in outer.guards.values():
            if symbols_of(g.expression) <= new.keys():
                expression = substitute(g.expression, new)
                assert isinstance(expression, Dim)
                scope.guards[g.question, expression] = replace(g, expression=expression)
    scope.asked = lambda guard: guard.answer_outside(old)
    return new


def untold_sizes(x: Any) -> set[Symbol]:
    """The sizes of arguments that a type or an attribute mentions; of those in a sub-graph, the
    ones that its own arguments do not tell."""
    if isinstance(x, TensorType):
        return set() if x.static else untold_sizes(x.shape)
    if isinstance(x, tuple):
        return set().union(*map(untold_sizes, x))
    if isinstance(x, Graph):
        if "untold" not in x.memo:
            x.memo["untold"] = _untold_in(x) if is_symbolic(x) else set()
        return x.memo["untold"]  # type: ignore[no-any-return]
    return {s for s in symbols_of(x) if s.argument != RUNTIME} if isinstance(x, Dim) else set()


def _untold_in(graph: Graph) -> set[Symbol]:
    values = (*graph.params, *(v for node in graph.nodes for v in node.outputs))
    found = set[Symbol]().union(*(untold_sizes(v.type) for v in values))
    found.update(*(untold_sizes(a) for node in graph.nodes for a in node.attrs.values()))
    return found - {s for t in graph.types for s in map(_told, t.shape) if s is not None}


def mentions_size(value: Any) -> bool:
    """Does an attribute depend on an unknown size?"""
    if isinstance(value, tuple):
        return any(map(mentions_size, value))
    return isinstance(value, Dim) or (isinstance(value, Graph) and is_symbolic(value))


def runtime_symbols(x: Any) -> set[Symbol]:
    """The run-time sizes that a type or an attribute mentions, sub-graphs apart."""
    if isinstance(x, TensorType):
        return set() if x.static else runtime_symbols(x.shape)
    if isinstance(x, tuple):
        return set().union(*map(runtime_symbols, x))
    return {s for s in symbols_of(x) if s.argument == RUNTIME} if isinstance(x, Dim) else set()


def outer_sizes(graph: Graph) -> set[Symbol]:
    """The sizes that `graph` and its sub-graphs mention and that its arguments do not tell."""
    if "outer sizes" not in graph.memo:
        found = set[Symbol]()
        if is_symbolic(graph):
            values = (*graph.params, *(v for node in graph.nodes for v in node.outputs))
            for x in (
                *(v.type for v in values),
                *(a for n in graph.nodes for a in n.attrs.values()),
            ):
                found |= _sizes_in(x)
            found -= {s for t in graph.types for s in map(_told, t.shape) if s is not None}
        graph.memo["outer sizes"] = found
    return graph.memo["outer sizes"]  # type: ignore[no-any-return]


def _sizes_in(x: Any) -> set[Symbol]:
    """All sizes that a type or an attribute mentions, in sub-graphs those from outside."""
    if isinstance(x, TensorType):
        return set() if x.static else _sizes_in(x.shape)
    if isinstance(x, tuple):
        return set().union(*map(_sizes_in, x))
    if isinstance(x, Graph):
        return outer_sizes(x)
    return symbols_of(x) if isinstance(x, Dim) else set()


def symbols_in(node: Node) -> set[Symbol]:
    """The run-time sizes that a node mentions."""
    found = [runtime_symbols(v.type) for v in (*node.inputs, *node.outputs)]
    return set().union(*found, *map(runtime_symbols, node.attrs.values()))


def size_makers(graph: Graph) -> dict[Symbol, Value]:
    """The value whose shape tells each run-time size that a node of `graph` finds out.

    What mentions the size needs it, although it does not read it.
    """
    found: dict[Symbol, Value] = {}
    for node in graph.nodes:
        for v in node.outputs:
            if not v.type.static and is_runtime(v.type):
                for s in runtime_symbols(v.type):
                    found.setdefault(s, v)
    return found


class RuntimeSizes:
    """The sizes of one run: those of the arguments, and more as the run finds them out."""

    def __init__(self, graph: Graph, shapes: Sequence[Sequence[int]]) -> None:
        known = bind_sizes(graph.types, shapes)
        self.sizes = {s: n for s, n in known.items() if s.argument != RUNTIME}
        self.learn(graph.params, shapes)

    def apply(self, node: Node) -> Node:
        """`node` with the known sizes in its attributes."""
        if not self.sizes:
            return node
        attrs = {  # a sub-graph whose arguments tell its sizes is the same for all of them
            key: value
            if isinstance(value, Graph) and self._knows(value)
            else attribute_at(value, self.sizes)
            for key, value in node.attrs.items()
        }
        return Node(node.op, node.inputs, attrs, node.outputs, node.where)

    def _knows(self, graph: Graph) -> bool:
        """Does `graph` mention none of the sizes, but for those that its own arguments tell?"""
        return self.sizes.keys().isdisjoint(outer_sizes(graph))

    def after(self, node: Node, shapes: Sequence[Sequence[int]]) -> None:
        """Note what the results of `node` tell."""
        self.learn(node.outputs, shapes)

    def learn(self, values: Sequence[Value], shapes: Sequence[Sequence[int]]) -> None:
        """Bind the symbols of the values' types, and check what the trace assumed of them."""
        types = [v.type for v in values]
        new = {
            s: n
            for s, n in bind_sizes(types, shapes).items()
            if s.argument == RUNTIME and s not in self.sizes
        }
        self.sizes.update(new)
        if new:
            scopes = {s.scope: None for s in self.sizes if s.argument == RUNTIME}
            for scope in scopes:
                for guard in scope.guards.values():
                    needed = symbols_of(guard.expression)
                    asked = guard.where is not None  # of the user's sizes, not those of a loop
                    if asked and needed <= self.sizes.keys() and not needed.isdisjoint(new):
                        self._check(guard, needed)

    def _check(self, guard: Guard, needed: set[Symbol]) -> None:
        known = {s: n for s, n in self.sizes.items() if isinstance(n, int)}
        if not guard.holds(known):
            raise ShapeError(
                f"sizes that values decide do not fit: what was traced needs {guard}, with "
                + ", ".join(f"{s} = {known[s]}" for s in sorted(needed, key=str)),
                guard.where,
            )
