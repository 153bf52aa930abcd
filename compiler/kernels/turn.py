"""Which axis of a reducing nest runs innermost: the one along which its arrays have neighbours.

A reduction of a transposed array, `reduce_sum(exp(transpose(x)), 1)`, would read each element from
another cache line. Turned, it adds rows of the array itself into a row of sums.
"""

from __future__ import annotations

from graphgrad.compiler.kernels.fusion import validate
from graphgrad.compiler.kernels.groups import Group, Partition, Refusal
from graphgrad.compiler.kernels.loops import Access, LoopNest

# A vector's worth: shorter rows leave lanes empty, which costs more than distant elements.
SHORTEST = 16


def turn(group: Group, nest: LoopNest) -> bool:
    """Change the partition of `group`, lowered to `nest`, if that makes it read neighbours."""
    before = group.partition
    turned = partition_by_strides(group, nest)
    if turned is None:
        return False
    try:
        group.partition = turned
        validate(group)
    except Refusal:  # something needs the reduction before the next element
        group.partition = before
        validate(group)
        return False
    return True


def partition_by_strides(group: Group, nest: LoopNest) -> Partition | None:
    """Fold the inner axes, over which `group` reduces, and run along a parallel axis instead; None
    where that would not bring more accesses together."""
    roles = group.partition
    reduces = any(m.over & set(roles.inner) for m in group.reductions)
    if not reduces or not roles.parallel or roles.folded:
        return None
    together = neighbours(nest)
    best = max(range(nest.parallel), key=together.__getitem__)
    axis = roles.parallel[best]
    extent = group.shape[axis]
    if together[best] <= together[-1] or (isinstance(extent, int) and extent < SHORTEST):
        return None
    return Partition(tuple(a for a in roles.parallel if a != axis), roles.inner, (axis,))


def neighbours(nest: LoopNest) -> list[int]:
    """For each dim, how many accesses to arrays in the sweeps have stride 1 along it."""
    accesses = [
        s.attr
        for phase in nest.phases
        if phase.kind == "sweep"
        for s in phase.stmts
        if isinstance(s.attr, Access) and nest.arrays[s.attr.array].role != "scratch"
    ]
    return [
        sum(isinstance(n := a.at.strides[d], int) and n == 1 for a in accesses)
        for d in range(len(nest.dims))
    ]
