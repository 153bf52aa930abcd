"""What of a loop or a branch nobody reads goes, and what does not change is no state.

    state, unread = scan(init, xs, a, b, c)     becomes     state = scan(init, xs, a)

where the body reads `a` and `b` alone, and `b` is `a`. A part of the state that the body returns as
it is becomes a capture; a constant is known inside, and so is what is the same in each slice.
"""

from __future__ import annotations

from graphgrad.compiler.dims import Dim, Symbol, symbols_of
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.op import ops
from graphgrad.compiler.passes.dce import dce, has_effect
from graphgrad.compiler.passes.loops import Capture, Loop, over_loops, renamed
from graphgrad.compiler.transform.sizes import outer_sizes, runtime_symbols, size_makers, symbols_in
from graphgrad.compiler.transform.subgraphs import used_params


def drop_unused(graph: Graph) -> Graph:
    """Loops and branches of `graph` without what nobody reads."""
    return over_branches(over_loops(graph, trim, any_sizes=True))


def trim(loop: Loop) -> bool:
    """Leave out what is not read, and what is given twice."""
    changed = constants_inside(loop) | slices_alike(loop) | not_changing(loop) | merged(loop)
    return unread(loop) or changed


def not_changing(loop: Loop) -> bool:
    """State that the body returns as it is becomes a capture."""
    same = [c for c in loop.carried if c.next is c.param and c.init.type == c.param.type]
    for c in same:
        loop.carried.remove(c)
        loop.captures.append(Capture(c.param, c.init, c.test))
        loop.replaced[c.result] = c.init
    return bool(same)


def constants_inside(loop: Loop) -> bool:
    """Small constants are made in the body and in the condition instead of captured."""
    found = [
        (c, made) for c in loop.captures if (made := constant_nodes(loop, c.value)) is not None
    ]
    for c, made in found:
        loop.captures.remove(c)
        loop.nodes[:0], new = copied(made)
        loop.rename({c.param: new})
        if c.test is not None and loop.condition is not None:
            g = loop.condition
            nodes, new = copied(made)
            loop.condition = Graph(g.params, (*nodes, *g.nodes), g.outputs, g.name)
            loop.rename_tests({c.test: new})
    return bool(found)


def constant_nodes(loop: Loop, v: Value) -> list[Node] | None:
    """The nodes that make a small constant, or the broadcast of one."""
    node = loop.producer(v)
    if node is not None and node.op.name == "constant":
        return [node]
    if node is not None and node.op.name == "broadcast_to" and v.type.static:
        inner = constant_nodes(loop, node.inputs[0])
        return [*inner, node] if inner is not None else None
    return None


def copied(nodes: list[Node]) -> tuple[list[Node], Value]:
    """The same nodes with values of their own, and the last of these."""
    env: dict[Value, Value] = {}
    found = []
    for node in nodes:
        out = env[node.out] = Value(node.out.type, None, node.where)
        inputs = tuple(env[x] for x in node.inputs)
        found.append(Node(node.op, inputs, node.attrs, (out,), node.where))
    return found, found[-1].out


def slices_alike(loop: Loop) -> bool:
    """A scanned input that was stretched along its first axis is captured, and stretched inside."""
    changed = False
    for x in list(loop.scanned):
        node = loop.producer(x.value)
        if node is None or node.op.name != "broadcast_to" or not x.param.type.static:
            continue
        small = node.inputs[0]
        if small.type.ndim == x.value.type.ndim:  # a first axis of size 1
            if small.type.shape[0] != 1:
                continue
            with loop.outside(before=True):
                small = ops["reshape"](small, small.type.shape[1:])
        loop.scanned.remove(x)
        entry = Value(x.param.type, None, node.where)
        inputs, attrs = (loop.capture(small),), {"shape": x.param.type.shape}
        loop.nodes.insert(0, Node(node.op, inputs, attrs, (entry,), node.where))
        loop.rename({x.param: entry})
        changed = True
    return changed


def merged(loop: Loop) -> bool:
    """Equal inputs are one."""
    slices = {x.value: x for x in reversed(loop.scanned)}
    captures = {c.value: c for c in reversed(loop.captures)}
    doubled = [x for x in loop.scanned if slices[x.value] is not x]
    again = [c for c in loop.captures if captures[c.value] is not c]
    loop.scanned = [*slices.values()][::-1]
    loop.captures = [*captures.values()][::-1]
    loop.rename({x.param: slices[x.value].param for x in doubled})
    loop.rename({c.param: captures[c.value].param for c in again})
    tests = [(c.test, captures[c.value].test) for c in again]
    loop.rename_tests({a: b for a, b in tests if a is not None and b is not None})
    return bool(doubled or again)


def unread(loop: Loop) -> bool:
    """Leave out results that nobody reads, and the state and the inputs that only they need."""
    tests = set() if loop.condition is None else set(read_in(loop.condition))
    stacked = [s for s in loop.stacked if loop.is_read(s.result)]
    alive = [c for c in loop.carried if loop.is_read(c.result) or c.test in tests]
    while True:
        roots = [*(c.next for c in alive), *(s.value for s in stacked)]
        read = needed(loop.nodes, roots)
        more = [c for c in loop.carried if c in alive or c.param in read]
        if len(more) == len(alive):
            break
        alive = more
    before = len(loop.carried), len(loop.stacked), len(loop.scanned), len(loop.captures)
    loop.carried, loop.stacked = more, stacked
    loop.scanned = [x for x in loop.scanned if x.param in read]
    loop.captures = [c for c in loop.captures if c.param in read or c.test in tests]
    after = len(loop.carried), len(loop.stacked), len(loop.scanned), len(loop.captures)
    return needs_no_count(loop) or before != after


def needs_no_count(loop: Loop) -> bool:
    """A while_loop whose number of steps nobody asks for stacks no flags."""
    trips = loop.attrs.get("trips")
    if not isinstance(trips, Dim) or loop.stacked or loop.is_read(loop.node.outputs[-1]):
        return False
    maker = loop.graph.producers[loop.node.outputs[-1]]
    others = (node for node in loop.graph.nodes if node is not maker)
    returned = (runtime_symbols(v.type) for v in loop.graph.outputs)
    mentioned = set[Symbol]().union(*map(symbols_in, others), *returned)
    if not mentioned.isdisjoint(symbols_of(trips)):
        return False
    loop.attrs["trips"] = None
    return True


def needed(nodes: list[Node], roots: list[Value]) -> set[Value]:
    """All that `roots` and effects are computed from."""
    found = set(roots)
    makers = size_makers(Graph((), tuple(nodes), ()))
    for node in reversed(nodes):
        if has_effect(node) or not found.isdisjoint(node.outputs):
            found.update(node.inputs)
            if makers:
                found.update(makers[s] for s in symbols_in(node) if s in makers)
    return found


def read_in(graph: Graph) -> list[Value]:
    """The parameters that a graph reads."""
    return [p for p, used in zip(graph.params, used_params(dce(graph)), strict=True) if used]


def over_branches(graph: Graph) -> Graph:
    """Conditions without the results and inputs that nobody reads."""
    nodes: list[Node] = []
    replaced: dict[Value, Value] = {}
    for old in graph.nodes:
        (node,) = renamed([old], replaced)
        if node.op.name == "cond" and not node.attrs.get("widened"):
            node = branch_without_unused(graph, node, replaced)
        nodes.append(node)
    if all(a is b for a, b in zip(nodes, graph.nodes, strict=True)) and not replaced:
        return graph
    outputs = tuple(replaced.get(v, v) for v in graph.outputs)
    return Graph(graph.params, tuple(nodes), outputs, graph.name)


def branch_without_unused(graph: Graph, node: Node, replaced: dict[Value, Value]) -> Node:
    """One condition. A result that is the same input in either branch is that input."""
    branches = [node.attrs["true_graph"], node.attrs["false_graph"]]
    places = [{p: i for i, p in enumerate(g.params)} for g in branches]
    kept = []
    for k, v in enumerate(node.outputs):
        a, b = (at.get(g.outputs[k]) for g, at in zip(branches, places, strict=True))
        if a is not None and a == b and node.inputs[1 + a].type == v.type:
            replaced[v] = node.inputs[1 + a]
        elif v in graph.uses or any(v is o for o in graph.outputs):
            kept.append(k)
    cut = [
        dce(Graph(g.params, g.nodes, tuple(g.outputs[k] for k in kept), g.name)) for g in branches
    ]
    masks = [used_params(g) for g in cut]
    used = [a or b for a, b in zip(*masks, strict=True)]
    if len(kept) == len(node.outputs) and all(used):
        return node
    new = [
        Graph(
            tuple(p for p, u in zip(g.params, used, strict=True) if u), g.nodes, g.outputs, g.name
        )
        for g in cut
    ]
    if not all(outer_sizes(b) <= outer_sizes(a) for a, b in zip(branches, new, strict=True)):
        for v in node.outputs:
            replaced.pop(v, None)
        return node
    xs = [x for x, u in zip(node.inputs[1:], used, strict=True) if u]
    attrs = {**node.attrs, "true_graph": new[0], "false_graph": new[1]}
    outputs = tuple(node.outputs[k] for k in kept)
    return Node(node.op, (node.inputs[0], *xs), attrs, outputs, node.where)
