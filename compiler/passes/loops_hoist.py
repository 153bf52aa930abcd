"""What is the same in every step of a loop is computed once, before it.

    scan(h * exp(w) + x)     becomes     e = exp(w); scan(h * e + x)

What would only move memory stays: a broadcast, a view, random bits, a cheap operation that makes
more bytes than it reads. What may fail moves only out of a loop that surely runs a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphgrad.compiler.families import Elementwise, Generator, View
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.passes.dce import has_effect
from graphgrad.compiler.passes.loops import Loop, over_loops
from graphgrad.compiler.transform.dear import DEAR_ELEMENT
from graphgrad.compiler.transform.residuals import nominal_bytes
from graphgrad.compiler.transform.subgraphs import must_be_chosen


def hoist(graph: Graph) -> Graph:
    """Loops of `graph` without what is the same in every step."""
    return over_loops(graph, hoisted)


def hoisted(loop: Loop) -> bool:
    """Move what is worth it out of the body and out of the condition."""
    outside = {c.param: c.value for c in loop.captures}
    roots = [*(c.next for c in loop.carried), *(s.value for s in loop.stacked)]
    moved = moved_out(loop, loop.nodes, outside, roots)
    loop.rename({v: loop.capture(x) for v, x in moved.items()})
    if loop.condition is None:
        return bool(moved)
    g = loop.condition
    outside = {c.test: c.value for c in loop.captures if c.test is not None}
    tested = moved_out(loop, g.nodes, outside, g.outputs)
    tests = {}
    for v, x in tested.items():
        param = loop.capture(x)
        tests[v] = next(c.test for c in loop.captures if c.param is param)
    loop.rename_tests({v: test for v, test in tests.items() if test is not None})
    return bool(moved or tested)


def moved_out(
    loop: Loop, nodes: Sequence[Node], outside: Mapping[Value, Value], roots: Iterable[Value]
) -> dict[Value, Value]:
    """For each value that is now computed before the loop, and that the rest of `nodes` or `roots`
    read: what it is there. `outside` has the parameters that are the same in every step."""
    same, worthy, sources = set(outside), set[Node](), dict[Value, int]()
    invariant = []
    for node in nodes:
        if may_move(loop, node) and same.issuperset(node.inputs):
            same.update(node.outputs)
            invariant.append(node)
            if is_worth_it(node, sources):
                worthy.add(node)
    chosen, wanted = set[Node](), set[Value]()
    for node in reversed(invariant):
        if node in worthy or not wanted.isdisjoint(node.outputs):
            chosen.add(node)
            wanted.update(node.inputs)
    if not chosen:
        return {}
    env = dict(outside)
    for node in invariant:
        if node in chosen:
            inputs = tuple(env[x] for x in node.inputs)
            outputs = tuple(Value(v.type, None, v.where) for v in node.outputs)
            loop.before.append(Node(node.op, inputs, node.attrs, outputs, node.where))
            env.update(zip(node.outputs, outputs, strict=True))
    read = {x for node in nodes if node not in chosen for x in node.inputs}.union(roots)
    return {v: env[v] for n in invariant if n in worthy for v in n.outputs if v in read}


def may_move(loop: Loop, node: Node) -> bool:
    """May a node run once before the loop instead of in each step?"""
    if has_effect(node) or (node.op.raises and not loop.runs):
        return False
    graphs = [a for a in node.attrs.values() if isinstance(a, Graph)]
    return loop.runs or not (node.op.name == "while_loop" or any(map(must_be_chosen, graphs)))


def is_worth_it(node: Node, sources: dict[Value, int]) -> bool:
    """Does reading the results of a node cost less than computing them again? `sources` notes how
    many bytes lie behind the views seen so far."""
    if isinstance(node.op, View):
        sources[node.out] = min(sources.get(x, nominal_bytes(x.type)) for x in node.inputs)
        return False
    if not node.inputs or isinstance(node.op, Generator):
        sources.update((v, 0) for v in node.outputs)
        return False
    if isinstance(node.op, Elementwise):
        # Imported here for the reason that `residuals` gives.
        from graphgrad.compiler.scalar.costs import element_cost

        reads = sum(sources.get(x, nominal_bytes(x.type)) for x in node.inputs)
        return nominal_bytes(node.out.type) <= reads or element_cost(node) > DEAR_ELEMENT
    return True
