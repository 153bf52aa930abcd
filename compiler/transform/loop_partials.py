"""Partial derivatives that a loop of few numbers stacks for its reverse.

What the reverse of a step computes from values of the step alone (cos x, for the reverse of sin x)
can be computed in the step as well. Where values are single numbers, a function costs more than
storing and loading its result, and the step often waits while the processor could compute it. Then
the reverse is left with sums and products.
"""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.passes.cse import cse, node_key
from graphgrad.compiler.transform.dear import are_few_and_dear


def with_partials(body: Graph, reverse: Graph) -> Graph:
    """`body` with further outputs: the dear values that its `reverse`, whose parameters begin with
    the parameters and the outputs of `body`, computes from those of the step alone."""
    chosen = dear_values(reverse, len(body.params) + len(body.outputs))
    if not chosen:
        return body
    body = cse(body)  # so that what is found below is what later values are computed from
    env = dict(zip(reverse.params, (*body.params, *body.outputs), strict=False))
    known: dict[Any, Node] = {node_key(n): n for n in body.nodes}
    nodes = list(body.nodes)
    needed = needed_for(reverse, chosen)
    for n in reverse.nodes:
        if n not in needed:
            continue
        outs = tuple(Value(v.type, None, v.where) for v in n.outputs)
        copy = Node(n.op, tuple(env[x] for x in n.inputs), n.attrs, outs, n.where)
        found = known.setdefault(node_key(copy), copy)
        if found is copy:
            nodes.append(copy)
        env.update(zip(n.outputs, found.outputs, strict=True))
    there = set(body.outputs)
    more = [v for v in dict.fromkeys(env[v] for v in chosen) if v not in there]
    return Graph(body.params, tuple(nodes), (*body.outputs, *more), body.name)


def dear_values(reverse: Graph, count: int) -> list[Value]:
    """The dear values made of the first `count` parameters alone that others are made of."""
    own = set(reverse.params[:count])
    for n in reverse.nodes:
        if own.issuperset(n.inputs):
            own.update(n.outputs)
    todo = [x for n in reverse.nodes if not own.issuperset(n.inputs) for x in n.inputs if x in own]
    todo += [v for v in reverse.outputs if v in own]
    found, seen = dict[Value, None](), set[Value]()
    while todo:
        v = todo.pop()
        node = reverse.producers.get(v)
        if node is None or v in seen:
            continue
        seen.add(v)
        if are_few_and_dear(node):
            found[v] = None
        else:
            todo.extend(node.inputs)
    return list(found)


def needed_for(graph: Graph, values: list[Value]) -> set[Node]:
    """The nodes that compute `values`."""
    needed, wanted = set[Node](), set(values)
    for n in reversed(graph.nodes):
        if not wanted.isdisjoint(n.outputs):
            needed.add(n)
            wanted.update(n.inputs)
    return needed
