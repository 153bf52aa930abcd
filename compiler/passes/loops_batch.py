"""Products that do not depend on the state of a scan are computed for all steps at once, before it.

    scan(tanh(x_t @ w + h @ u))     becomes     p = xs @ w; scan(tanh(p_t + h @ u))

A product of one large matrix reads `w` once, and runs at the speed of its shape. Moved are products
of slices and captures, stacked results that have nothing to do with the state, and what either is
computed from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from graphgrad.compiler.families import Control, Elementwise, Reduce
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.passes.dce import has_effect
from graphgrad.compiler.passes.loops import Loop, over_loops
from graphgrad.compiler.transform.autodiff import at
from graphgrad.compiler.transform.batching import batch_op
from graphgrad.compiler.transform.residuals import NOMINAL, nominal_bytes

# What a product for all steps may take, where the scan itself reads less: memory is touched twice.
MOST_BYTES = 64 << 20


def batch_out(graph: Graph) -> Graph:
    """Scans of `graph` without what can be computed for all steps at once."""
    return over_loops(graph, batched)


def batched(loop: Loop) -> bool:
    """Move what is worth it in front of a scan."""
    if not loop.is_scan:
        return False
    free = independent(loop)
    ready = {v for n in free for v in n.outputs} | {x.param for x in loop.scanned}
    worthy = [n for n in free if merges(n, ready) and fits(loop, [n.out])]
    whole = [s for s in loop.stacked if s.value in ready and loop.flags is None]
    whole = [] if loop.attrs.get("room") == 0 else whole
    if not worthy and not whole:
        return False
    goals = [v for n in worthy for v in n.outputs] + [s.value for s in whole]
    env = for_all_steps(loop, goals, {x.param: x.value for x in loop.scanned}, before=True)
    for s in whole:
        loop.stacked.remove(s)
        loop.replaced[s.result] = env[s.value]
    moved = {v for n in worthy for v in n.outputs}
    read = {x for n in loop.nodes if n not in set(worthy) for x in n.inputs}
    read.update(c.next for c in loop.carried)
    read.update(s.value for s in loop.stacked)
    loop.rename({v: loop.scan(env[v]) for v in moved if v in read})
    return True


def independent(loop: Loop) -> list[Node]:
    """The nodes of the body that are computed from slices, and from captures, alone; each from a
    slice at least."""
    same = unchanging(loop)
    slices = {x.param for x in loop.scanned}
    found = []
    for node in loop.nodes:
        if same.issuperset(node.outputs) or not can_batch(node):
            continue
        if (slices | same).issuperset(node.inputs):
            slices.update(node.outputs)
            found.append(node)
    return found


def unchanging(loop: Loop) -> set[Value]:
    """The values of the body that are the same in every step, and may be computed outside."""
    same = {c.param for c in loop.captures}
    for node in loop.nodes:
        if same.issuperset(node.inputs) and not (has_effect(node) or node.op.raises):
            same.update(node.outputs)
    return same


def can_batch(node: Node) -> bool:
    """Is a node for all steps one node, that may run outside of them?"""
    if isinstance(node.op, Control) or has_effect(node) or node.op.raises:
        return False
    return node.op.batch is not None or isinstance(node.op, Elementwise | Reduce)


def merges(node: Node, ready: Collection[Value]) -> bool:
    """Is a product that is wanted for each of the `ready` values one larger product?"""
    if node.op.name != "matmul":
        return False
    a, b = node.inputs
    if a.type.ndim != 2 or b.type.ndim != 2:
        return False
    if a in ready:
        return b not in ready and not node.attrs["transpose_a"]
    return b in ready and node.out.type.shape[1] == 1


def fits(loop: Loop, values: Sequence[Value]) -> bool:
    """Is there memory for these values of each step? It is taken, where it is bounded."""
    room = loop.attrs.get("room")
    if room is not None:
        needed = sum(nominal_bytes(v.type) for v in values) * steps_of(loop)
        loop.attrs = {**loop.attrs, "room": max(0, room - needed) if needed <= room else room}
        return bool(needed <= room)
    scanned = sum(nominal_bytes(x.value.type) for x in loop.scanned)
    each = sum(nominal_bytes(v.type) for v in values)
    return each * steps_of(loop) <= max(MOST_BYTES, 4 * scanned)


def steps_of(loop: Loop) -> int:
    """The number of steps, or what stands for it."""
    return loop.length if isinstance(loop.length, int) else NOMINAL


def for_all_steps(
    loop: Loop, goals: Collection[Value], given: Mapping[Value, Value], before: bool
) -> dict[Value, Value]:
    """The stacks of values of the body, computed outside from the stacks `given` for some."""
    wanted, chosen = set(goals) - given.keys(), set[Node]()
    for node in reversed(loop.nodes):
        if not wanted.isdisjoint(node.outputs):
            chosen.add(node)
            wanted.update(x for x in node.inputs if x not in given)
    stacks, same = dict(given), {c.param: c.value for c in loop.captures}
    with loop.outside(before):
        for node in loop.nodes:
            if node in chosen:
                marks = tuple(x in stacks for x in node.inputs)
                xs = tuple(
                    stacks[x] if m else same[x] for x, m in zip(node.inputs, marks, strict=True)
                )
                with at(node.where):
                    outs, _ = batch_op(node.op, xs, marks, loop.length, node.attrs)
                (stacks if any(marks) else same).update(zip(node.outputs, outs, strict=True))
    return stacks
