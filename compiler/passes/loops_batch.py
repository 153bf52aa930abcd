"""Products that do not depend on the state of a scan are computed for all steps at once, before it.

    scan(tanh(x_t @ w + h @ u))     becomes     p = xs @ w; scan(tanh(p_t + h @ u))

A product of one large matrix reads `w` once, and runs at the speed of its shape. Moved are products
of slices and captures, stacked results that have nothing to do with the state, and what either is
computed from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

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
    if not worthy and not whole:
        return False
    goals = [v for n in worthy for v in n.outputs] + [s.value for s in whole]
    env = computed(loop, free, goals)
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
    slices = {x.param for x in loop.scanned}
    same = {c.param for c in loop.captures}
    found = []
    for node in loop.nodes:
        if has_effect(node) or node.op.raises:
            continue
        if same.issuperset(node.inputs):
            same.update(node.outputs)
        elif can_batch(node) and (slices | same).issuperset(node.inputs):
            slices.update(node.outputs)
            found.append(node)
    return found


def can_batch(node: Node) -> bool:
    """Is a node for all steps one node?"""
    if isinstance(node.op, Control):
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
    """Is there memory for these values of each step?"""
    scanned = sum(nominal_bytes(x.value.type) for x in loop.scanned)
    steps = loop.length if isinstance(loop.length, int) else NOMINAL
    each = sum(nominal_bytes(v.type) for v in values)
    return each * steps <= max(MOST_BYTES, 4 * scanned)


def computed(loop: Loop, free: list[Node], goals: list[Value]) -> dict[Value, Value]:
    """What is in front of the scan the stack of each of the `goals`, and of what they need."""
    wanted = set(goals)
    chosen = set[Node]()
    for node in reversed(loop.nodes):
        if not wanted.isdisjoint(node.outputs):
            chosen.add(node)
            wanted.update(node.inputs)
    stacks = {x.param: x.value for x in loop.scanned}
    same = {c.param: c.value for c in loop.captures}
    lanes = set(free)
    with loop.outside(before=True):
        for node in loop.nodes:
            if node in chosen:
                marks = tuple(x in stacks for x in node.inputs)
                xs = tuple(stacks[x] if m else same[x] for x, m in zip(node.inputs, marks))
                with at(node.where):
                    outs, _ = batch_op(node.op, xs, marks, loop.length, node.attrs)
                (stacks if node in lanes else same).update(zip(node.outputs, outs, strict=True))
    return stacks
