"""What a scan only gathers is computed from all steps at once, behind it.

    dw, d = scan(dw + x_t.T @ g(d), ...)     becomes     gs = scan(g(d)); dw = xs.T @ gs

A sum over the steps of products x_t.T @ y_t is one product of the stacks, so the steps store their
factors, which is less than to read and write the sum. Sums of what is stacked anyway follow: those
of biases. Likewise a stacked result that the state does not depend on is computed from the stacks
of what it depends on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from graphgrad.compiler.families import View, add_all
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.op import ops, reapply
from graphgrad.compiler.passes.loops import Carried, Loop, over_loops
from graphgrad.compiler.passes.loops_batch import (
    can_batch,
    fits,
    for_all_steps,
    merges,
    unchanging,
)
from graphgrad.compiler.passes.loops_indexed import is_row
from graphgrad.compiler.passes.loops_unused import needed
from graphgrad.compiler.transform.autodiff import at
from graphgrad.compiler.transform.residuals import nominal_bytes

# Bytes that may be stored for each that a step reads and writes no longer.
WORTH = 4


def defer(graph: Graph) -> Graph:
    """Scans of `graph` without what can be computed from all steps at once behind them."""
    return over_loops(over_loops(graph, deferred), postponed)


def deferred(loop: Loop) -> bool:
    """Move sums over the steps behind a scan."""
    if not loop.is_scan or loop.flags is not None:
        return False
    changed = False
    sums = [found for c in loop.carried if (found := summed(loop, c)) is not None]
    for total in sums:  # products first: what they stack makes other sums free
        changed |= move_terms(loop, total, product=True)
    for total in sums:
        changed |= move_terms(loop, total, product=False)
    for total in sums:
        if total.moved:
            finish(loop, total)
    return changed


@dataclass(eq=False)
class Sum:
    """A part of the state that only adds up: its terms in the body, and those moved behind."""

    part: Carried
    terms: list[Value]
    moved: list[Value] = field(default_factory=list)  # sums over all steps


def summed(loop: Loop, part: Carried) -> Sum | None:
    """The terms of a part of the state to which each step adds, and which nothing else reads."""
    makers = {v: node for node in loop.nodes for v in node.outputs}
    reads = Counter(x for node in loop.nodes for x in node.inputs)
    reads.update(c.next for c in loop.carried)
    reads.update(s.value for s in loop.stacked)
    node = makers.get(part.next)
    if node is None or node.op.name != "add" or reads[part.param] != 1 or reads[part.next] != 1:
        return None
    terms, open_terms, found = [], list(node.inputs), False
    while open_terms:
        v = open_terms.pop()
        maker = makers.get(v)
        if v is part.param:
            found = True
        elif maker is not None and maker.op.name == "add" and reads[v] == 1:
            open_terms += maker.inputs
        else:
            terms.append(v)
    return Sum(part, terms) if found else None


def move_terms(loop: Loop, total: Sum, product: bool) -> bool:
    """Move those terms of a sum that are products, or those that are stacked, behind the scan."""
    makers = {v: node for node in loop.nodes for v in node.outputs}
    kept = []
    for v in total.terms:
        views, inner = [], v
        while inner in makers and isinstance(makers[inner].op, View):
            views.append(makers[inner])
            inner = makers[inner].inputs[0]
        node = makers.get(inner)
        result = None
        if all(view.op.name in ("reshape", "transpose") for view in views):
            if not product:
                result = sum_of_stack(loop, inner, node)
            elif node is not None:
                result = product_of_stacks(loop, node)
                result = result if result is not None else scatter_of_stacks(loop, node)
        if result is None:
            kept.append(v)
            continue
        with loop.outside(before=False):
            for view in reversed(views):
                (result,) = reapply(view.op, (result,), view.attrs)
        total.moved.append(result)
    changed = len(kept) < len(total.terms)
    total.terms = kept
    return changed


def stack_at_hand(loop: Loop, v: Value) -> Value | None:
    """What has the values of `v` in each step already."""
    found = next((x.value for x in loop.scanned if x.param is v), None)
    return next((s.result for s in loop.stacked if s.value is v), found)


def stack_of(loop: Loop, v: Value) -> Value:
    """The values of `v` in each step, stacked if they were not."""
    found = stack_at_hand(loop, v)
    return found if found is not None else loop.stack(v)


def product_of_stacks(loop: Loop, node: Node) -> Value | None:
    """The sum over the steps of a product, as one product; None where that needs transposes, or
    more memory than it is worth."""
    if node.op.name != "matmul" or any(x.type.ndim != 2 for x in node.inputs):
        return None
    (a, b), (left, right) = node.inputs, (node.attrs["transpose_a"], not node.attrs["transpose_b"])
    inner = a.type.shape[0 if left else 1]
    if not (left and right) and not (isinstance(inner, int) and inner == 1):
        return None
    if not unchanging(loop).isdisjoint((a, b)):
        return None
    missing = [v for v in dict.fromkeys((a, b)) if stack_at_hand(loop, v) is None]
    if sum(nominal_bytes(v.type) for v in missing) > WORTH * nominal_bytes(node.out.type):
        return None
    if not fits(loop, missing):
        return None
    stacks = [stack_of(loop, v) for v in (a, b)]
    rows, columns = node.out.type.shape
    with loop.outside(before=False), at(node.where):
        tall = [
            ops["reshape"](s, (loop.length * inner, n))
            for s, n in zip(stacks, (rows, columns), strict=True)
        ]
        result: Value = ops["matmul"](*tall, True, False)
    return result


def scatter_of_stacks(loop: Loop, node: Node) -> Value | None:
    """The sum over the steps of what is zeros but for some entries along the first axis."""
    if node.op.name == "scatter_add":
        updates, places = node.inputs
        if node.attrs["axis"] != 0 or node.attrs["batch_dims"] != 0:
            return None
    elif node.op.name == "update_slice":
        onto, updates, *rest = node.inputs
        if len(rest) != 1 or not is_row(onto.type, updates.type.shape, node.attrs):
            return None
        if not is_zero({v: n for n in loop.nodes for v in n.outputs}, onto):
            return None
        (places,) = rest
    else:
        return None
    missing = [v for v in (places, updates) if stack_at_hand(loop, v) is None]
    if "room" in loop.attrs and not fits(loop, missing):
        return None
    shape = node.out.type.shape
    with loop.outside(before=False), at(node.where):
        at_steps = stack_of(loop, places)
        rows = ops["reshape"](stack_of(loop, updates), (*at_steps.type.shape, *shape[1:]))
        attrs = {"shape": shape, "axis": 0, "batch_dims": 0}
        return reapply(ops["scatter_add"], (rows, at_steps), attrs)[0]  # type: ignore[no-any-return]


def sum_of_stack(loop: Loop, v: Value, node: Node | None) -> Value | None:
    """The sum over the steps of what is stacked anyway, or of its sum along axes."""
    axes: tuple[int, ...] = ()
    shape = v.type.shape
    if node is not None and node.op.name == "sum":
        axes, v = node.attrs["axes"], node.inputs[0]
    stack = stack_at_hand(loop, v)
    if stack is None:
        return None
    with loop.outside(before=False), at(loop.node.where):
        every = (0, *(axis + 1 for axis in axes))
        (total,) = reapply(ops["sum"], (stack,), {"axes": every, "keepdims": False})
        result: Value = ops["reshape"](total, shape)
    return result


def finish(loop: Loop, total: Sum) -> None:
    """Add the terms that were moved to the result; the state keeps adding the others."""
    part = total.part
    result, moved = part.result, total.moved
    if total.terms:
        part.result = Value(result.type, None, result.where)
        part.next = inner_sum(loop, part, total.terms)
        moved = [part.result, *moved]
    else:
        loop.carried.remove(part)
        moved = moved if is_zero(loop.graph.producers, part.init) else [part.init, *moved]
    with loop.outside(before=False):
        loop.replaced[result] = add_all(moved)


def is_zero(producers: Mapping[Value, Node], v: Value) -> bool:
    """Is a value zeros, to which adding a sum, which is never -0, changes nothing?"""
    node = producers.get(v)
    while node is not None and node.op.name == "broadcast_to":
        node = producers.get(node.inputs[0])
    if node is None or node.op.name != "constant":
        return False
    return not any(node.attrs["value"].array.tobytes())


def inner_sum(loop: Loop, part: Carried, terms: list[Value]) -> Value:
    """The state plus the terms, in the body."""
    value = part.param
    for term in terms:
        out = Value(value.type, None, part.next.where)
        loop.nodes.append(Node(ops["add"], (value, term), {}, (out,), part.next.where))
        value = out
    return value


def postponed(loop: Loop) -> bool:
    """Compute stacked results that the state does not depend on from other stacks, if that makes
    one product of many, or less to be stacked."""
    if not loop.is_scan or loop.flags is not None:
        return False
    same = unchanging(loop)
    stay = [n for n in loop.nodes if not can_batch(n) and not same.issuperset(n.outputs)]
    roots = [c.next for c in loop.carried] + [v for n in stay for v in n.outputs]
    early = needed(loop.nodes, roots) | same
    late = [n for n in loop.nodes if early.isdisjoint(n.outputs)]
    made = {v for n in late for v in n.outputs}
    goals = [s for s in loop.stacked if s.value in made]
    if not goals or loop.attrs.get("room") == 0:
        return False
    read = needed(late, [s.value for s in goals])
    frontier = [v for v in read if v not in made and v not in same]
    missing = [v for v in frontier if stack_at_hand(loop, v) is None]
    more = sum(nominal_bytes(v.type) for v in missing)
    less = sum(nominal_bytes(s.value.type) for s in goals)
    products = any(merges(n, set(n.inputs) - same) for n in late)
    if more >= less and not (products and more <= WORTH * less and fits(loop, missing)):
        return False
    given = {v: stack_of(loop, v) for v in frontier}
    env = for_all_steps(loop, [s.value for s in goals], given, before=False)
    for s in goals:
        loop.stacked.remove(s)
        loop.replaced[s.result] = env[s.value]
    return True
