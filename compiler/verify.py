"""What a valid graph is, on one page. Runs between passes when checks are on."""

from __future__ import annotations

from graphgrad.compiler.errors import InvalidGraph
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.op import ops


def verify(graph: Graph, after: str = "") -> Graph:
    """Raise InvalidGraph unless `graph` is valid; returns it.

    - every op is registered, and gives the types that the node's outputs claim;
    - every value is defined once, before its uses, and belongs to this graph alone;
    - attributes are hashable; sub-graphs are valid.
    """
    defined: set[Value] = set()

    def define(v: Value, by: str) -> None:
        if v in defined:
            fail(graph, after, f"{by} defines a value twice")
        defined.add(v)

    for p in graph.params:
        define(p, "a parameter")
    for i, node in enumerate(graph.nodes):
        label = f"node {i} ({node.op.name})"
        if ops.get(node.op.name) is not node.op:
            fail(graph, after, f"{label}: the op is not registered")
        for x in node.inputs:
            if x not in defined:
                fail(graph, after, f"{label} reads a value that is not defined before it")
        check_types(graph, after, label, node)
        for key, value in node.attrs.items():
            try:
                hash(value)
            except TypeError:
                fail(graph, after, f"{label}: attribute {key} is not hashable")
            if isinstance(value, Graph):
                verify(value, f"{after} (in {key} of {label})")
        for v in node.outputs:
            define(v, label)
    for v in graph.outputs:
        if v not in defined:
            fail(graph, after, "an output is not defined")
    return graph


def check_types(graph: Graph, after: str, label: str, node: Node) -> None:
    """The op's type rule gives what the outputs claim."""
    found = node.op.infer(tuple(x.type for x in node.inputs), node.attrs)
    claimed = tuple(v.type for v in node.outputs)
    if found != claimed:
        fail(
            graph,
            after,
            f"{label}: outputs {list(map(str, claimed))}, the op gives {list(map(str, found))}",
        )


def fail(graph: Graph, after: str, message: str) -> None:
    stage = f" after {after}" if after else ""
    raise InvalidGraph(f"invalid graph{stage}: {message}\n{graph}")
