"""Graphs with sizes known only at run time: steps run one by one, and what lies between is
compiled.

A Program plans its memory from the shapes of its inputs, so a value of run-time size cannot be made
in one, but for what native loops find out (`Assembly.is_all_native`). Another graph is cut into
levels: what finds a size out (a mask that picks elements) runs by its `ref`, and each stretch of
other nodes becomes a `call` of a graph that is compiled like any other. There the run-time sizes
are sizes of its arguments. Loops that find their sizes out natively are calls as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphgrad.compiler.dims import DimScope, Extent, Symbol
from graphgrad.compiler.families import Control
from graphgrad.compiler.interpret import Array, run_node
from graphgrad.compiler.ir import Graph, Node, Value, replay
from graphgrad.compiler.op import ops
from graphgrad.compiler.passes.dce import has_effect
from graphgrad.compiler.transform.sizes import (
    RuntimeSizes,
    attrs_at,
    bind_sizes,
    is_runtime,
    is_symbolic,
    runtime_symbols,
    specialise,
    symbols_in,
    type_at,
)
from graphgrad.compiler.types import tensor_type


def has_runtime_sizes(graph: Graph) -> bool:
    """Has a value of `graph` a size known only at run time?"""
    values = (*graph.params, *(v for node in graph.nodes for v in node.outputs))
    return any(is_runtime(v.type) for v in values)


def run_in_segments(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """The outputs of a graph that `segmented` made; sub-graphs run as `set_graph_runner` says."""
    sizes = RuntimeSizes(graph, [a.shape for a in arrays])

    def run(node: Node, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        if not (node.op.name == "call" and is_closed(node.attrs["graph"])):
            node = sizes.apply(node)
        found = run_node(node, xs)
        sizes.after(node, [a.shape for a in found])
        return found

    return list(replay(graph, arrays, run)[0])


def is_closed(graph: Graph) -> bool:
    """Do the shapes of its inputs tell all unknown sizes of `graph`?"""
    if "closed" not in graph.memo:
        known = bind_sizes(graph.types, [(2,) * t.ndim for t in graph.types])
        graph.memo["closed"] = not is_symbolic(specialise(graph, known))
    return bool(graph.memo["closed"])


def segmented(graph: Graph, is_native: Callable[[Graph], bool] = lambda graph: False) -> Graph:
    """`graph` with each stretch of nodes that know their sizes in one `call`, and each loop of
    which a graph alone `is_native`."""
    levels = levels_of(graph)
    nodes: list[Node] = []
    for level in sorted(set(levels.values())):
        members = [n for n in graph.nodes if levels[id(n)] == level]
        if level % 2:
            nodes.extend(loop_apart(graph, n, is_native) for n in members)
        else:
            nodes.extend(outlined(graph, members))
    return Graph(graph.params, tuple(nodes), graph.outputs, graph.name)


def loop_apart(graph: Graph, node: Node, is_native: Callable[[Graph], bool]) -> Node:
    """A call of the loop `node`, if it is one that is native by itself; else the node."""
    if node.op.name != "while_loop":
        return node
    call = [*outlined(graph, [node])][-1]
    return call if call.op.name == "call" and is_native(call.attrs["graph"]) else node


def levels_of(graph: Graph) -> dict[int, int]:
    """A level for each node, by identity, not below those it reads, nor below those that find out
    the sizes it mentions: odd where it runs by its `ref`. No effect is below one that comes before
    it."""
    of_value = dict.fromkeys(graph.params, 0)
    of_size: dict[Symbol, int] = dict.fromkeys(
        set().union(*(runtime_symbols(p.type) for p in graph.params)), 0
    )
    found: dict[int, int] = {}
    last_effect = 0
    for node in graph.nodes:
        sizes = symbols_in(node)
        new = sizes - of_size.keys()
        apart = bool(new)
        level = max([0, *(of_value[x] for x in node.inputs), *(of_size[s] for s in sizes - new)])
        if has_effect(node):
            level = max(level, last_effect)
        found[id(node)] = level = level if level % 2 == apart else level + 1
        if has_effect(node):
            last_effect = level
        of_value.update(dict.fromkeys(node.outputs, level))
        of_size.update(dict.fromkeys(new, level))
    return found


def outlined(graph: Graph, members: Sequence[Node]) -> Iterable[Node]:
    """Constants as they are, and one call of all other members; constants are also copied into
    it."""
    constants = {n.out: n for n in graph.nodes if n.op.name == "constant"}
    kept = [n for n in members if n.op.name == "constant"]
    rest = [n for n in members if n.op.name != "constant"]
    inside, ends = {id(n) for n in rest}, set(graph.outputs)
    own = dict.fromkeys(v for n in rest for v in n.outputs)
    reads = dict.fromkeys(x for n in rest for x in n.inputs if x not in own)
    inputs = tuple(x for x in reads if x not in constants)
    worthwhile = len(rest) > 1 or any(isinstance(n.op, Control) for n in rest)
    if not worthwhile or not inputs:
        return kept + rest
    outputs = [
        v for v in own if v in ends or any(id(n) not in inside for n in graph.uses.get(v, ()))
    ]
    mentioned = set().union(*(symbols_in(n) for n in graph.nodes if id(n) not in inside))
    told = set().union(*(runtime_symbols(v.type) for v in (*inputs, *outputs)))
    for v in reversed(own):  # the flags of a loop, rather than its stacks
        if not (runtime_symbols(v.type) & mentioned) <= told:
            outputs.append(v)
            told |= runtime_symbols(v.type)
    sizes = sizes_of_arguments(inputs)
    known = set(sizes).union(*(runtime_symbols(n.attrs.get("trips")) for n in rest))
    if any(not symbols_in(n) <= known for n in rest):  # none of the inputs tells them
        return kept + rest
    env = {x: Value(type_at(x.type, sizes), None, x.where) for x in (*reads, *own)}
    body = [*(constants[x] for x in reads if x in constants), *rest]
    nodes = tuple(
        Node(
            n.op,
            tuple(env[x] for x in n.inputs),
            attrs_at(n.attrs, sizes),
            tuple(env[v] for v in n.outputs),
            n.where,
        )
        for n in body
    )
    inner = Graph(
        tuple(env[x] for x in inputs),
        nodes,
        tuple(env[v] for v in outputs),
        f"part of {graph.name}",
    )
    return [*kept, Node(ops["call"], inputs, {"graph": inner}, tuple(outputs), rest[0].where)]


def sizes_of_arguments(inputs: Sequence[Value]) -> dict[Symbol, Extent]:
    """New symbols for the sizes that the shapes of `inputs` tell, as sizes of these arguments."""
    scope, found = DimScope(), dict[Symbol, Extent]()
    for argument, x in enumerate(inputs):
        for axis, n in enumerate(x.type.shape):
            for symbol in bind_sizes([tensor_type((n,), x.type.dtype)], [(-1,)]):
                if symbol not in found:
                    found[symbol] = scope.symbol(f"n{len(found)}", argument, axis)
    return found
