"""Graphs with sizes known only at run time: steps run one by one, and what lies between is
compiled.

A Program plans its memory from the shapes of its inputs, so a value of run-time size (what a loop
stacks for its reverse) cannot be in one. Such a graph is cut into levels: nodes that read or make
such values run by their `ref`, and each stretch of other nodes becomes a `call` of a graph that is
compiled like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphgrad.compiler.interpret import Array, run_node
from graphgrad.compiler.ir import Graph, Node, Value, replay
from graphgrad.compiler.op import ops
from graphgrad.compiler.passes.dce import has_effect
from graphgrad.compiler.transform.sizes import (
    attrs_at,
    bind_sizes,
    is_runtime,
    is_symbolic,
    specialise,
)


def has_runtime_sizes(graph: Graph) -> bool:
    """Does a value of `graph` have a size known only at run time?"""
    return any(is_runtime(v.type) for node in graph.nodes for v in node.outputs)


def run_in_segments(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """The outputs of a graph that `segmented` made; sub-graphs run as `set_graph_runner` says."""
    sizes = bind_sizes(graph.types, [a.shape for a in arrays])

    def run(node: Node, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        if sizes and not (node.op.name == "call" and is_closed(node.attrs["graph"])):
            attrs = attrs_at(node.attrs, sizes)
            node = Node(node.op, node.inputs, attrs, node.outputs, node.where)
        return run_node(node, xs)

    return list(replay(graph, arrays, run)[0])


def is_closed(graph: Graph) -> bool:
    """Do the shapes of its inputs tell all unknown sizes of `graph`?"""
    if "closed" not in graph.memo:
        known = bind_sizes(graph.types, [(2,) * t.ndim for t in graph.types])
        graph.memo["closed"] = not is_symbolic(specialise(graph, known))
    return bool(graph.memo["closed"])


def segmented(graph: Graph) -> Graph:
    """`graph` with each stretch of nodes that know their sizes in one `call`."""
    levels = levels_of(graph)
    nodes: list[Node] = []
    for level in sorted(set(levels.values())):
        members = [n for n in graph.nodes if levels[id(n)] == level]
        if level % 2:
            nodes.extend(members)
        else:
            nodes.extend(outlined(graph, members))
    return Graph(graph.params, tuple(nodes), graph.outputs, graph.name)


def levels_of(graph: Graph) -> dict[int, int]:
    """A level for each node, by identity, not below those it reads: odd where sizes are unknown.
    No effect is below one that comes before it."""
    of_value = dict.fromkeys(graph.params, 0)
    found: dict[int, int] = {}
    last_effect = 0
    for node in graph.nodes:
        unknown = any(is_runtime(v.type) for v in (*node.inputs, *node.outputs))
        level = max((of_value[x] for x in node.inputs), default=0)
        if has_effect(node):
            level = max(level, last_effect)
        found[id(node)] = level if level % 2 == unknown else level + 1
        if has_effect(node):
            last_effect = found[id(node)]
        of_value.update(dict.fromkeys(node.outputs, found[id(node)]))
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
    if len(rest) < 2 or not inputs:
        return kept + rest
    outputs = [
        v for v in own if v in ends or any(id(n) not in inside for n in graph.uses.get(v, ()))
    ]
    env = {x: Value(x.type, None, x.where) for x in (*reads, *own)}
    body = [*(constants[x] for x in reads if x in constants), *rest]
    nodes = tuple(
        Node(
            n.op,
            tuple(env[x] for x in n.inputs),
            n.attrs,
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
