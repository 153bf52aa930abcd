"""Dead-code elimination."""

from __future__ import annotations

from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.transform.sizes import size_makers, symbols_in


def dce(graph: Graph) -> Graph:
    """Drop nodes that no output needs, effects excepted.

    A pure op that might raise (an integer division, a gather) goes too when nothing needs its
    result: the error would be about a value that nobody sees.
    """
    needed: set[Value] = set(graph.outputs)
    makers = size_makers(graph)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if has_effect(node) or not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
            if makers:
                needed.update(makers[s] for s in symbols_in(node) if s in makers)
            kept.append(node)
    if len(kept) == len(graph.nodes):
        return graph
    return Graph(graph.params, tuple(reversed(kept)), graph.outputs, graph.name)


def has_effect(node: Node) -> bool:
    """Is the node an effect, or does it hold a sub-graph with one?"""
    if not isinstance(node.op, Control):
        return node.op.effect
    return node.op.effect or any(
        isinstance(a, Graph) and any(map(has_effect, a.nodes)) for a in node.attrs.values()
    )
