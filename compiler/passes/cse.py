"""Common subexpressions: nodes that compute the same become one."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.passes.dce import has_effect
from graphgrad.compiler.passes.patterns import COMMUTATIVE
from graphgrad.compiler.passes.rewrite import attrs_key


def cse(graph: Graph) -> Graph:
    """Merge nodes of equal op, inputs and attributes; effects are never merged.

    The first one stays, with its line. Operands of commutative ops may be in either order.
    """
    first: dict[Any, Node] = {}
    replaced: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if replaced and not replaced.keys().isdisjoint(node.inputs):
            inputs = tuple(replaced.get(x, x) for x in node.inputs)
            node = Node(node.op, inputs, node.attrs, node.outputs, node.where)
        if not has_effect(node):
            found = first.setdefault(node_key(node), node)
            if found is not node:
                replaced.update(zip(node.outputs, found.outputs, strict=True))
                continue
        nodes.append(node)
    if not replaced:
        return graph
    outputs = tuple(replaced.get(v, v) for v in graph.outputs)
    return Graph(graph.params, tuple(nodes), outputs, graph.name)


def node_key(node: Node) -> Any:
    """Equal for nodes that compute the same."""
    inputs = tuple(map(id, node.inputs))
    if node.op.name in COMMUTATIVE:
        inputs = tuple(sorted(inputs))
    return node.op, inputs, attrs_key(node.attrs)
