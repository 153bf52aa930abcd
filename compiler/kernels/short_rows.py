"""Nests of rows that are shorter than vectors, in which several rows are worked on together.

A row of 2 elements would use 2 of 16 lanes. Where no row knows of another, the code for each
element of a row is written out, which limits how much of it there may be.
"""

from __future__ import annotations

from graphgrad.compiler.kernels.loops import Access, LoopNest, cost, lane_count
from graphgrad.compiler.kernels.tiles import is_elementwise

# Instructions, at most, of a kernel whose vectors span rows, and of one with a row in each lane.
NARROW_COST = 400.0
ROW_LANES_COST = 450.0


def is_narrow(nest: LoopNest) -> bool:
    """Are rows so short that a vector spans several of them? Only where each of the kernel's
    vectors is written out: there are as many as a row has elements."""
    if not is_elementwise(nest) or any(s.fn in ("load_at", "load_in") for s in nest.statements()):
        return False
    n = nest.dims[-1]
    if not isinstance(n, int) or not 1 < n <= lane_count(nest) // 2:
        return False
    return n * sum(max(1.0, cost(s.fn)) for s in nest.statements()) <= NARROW_COST


def has_rows_in_lanes(nest: LoopNest) -> bool:
    """Are rows reduced that are so short that each lane of a vector has one? Not where elements
    are checked, as above."""
    if not nest.parallel or nest.folded or nest.inner != 1 or nest.tail:
        return False
    n, stmts = nest.dims[-1], nest.statements()
    if not isinstance(n, int) or not 1 < n <= lane_count(nest) // 2:
        return False
    if any(s.fn in ("load_at", "load_in", "require") or s.failures for s in stmts):
        return False
    rows, sweeps = (
        sum(max(1.0, cost(s.fn)) for p in nest.main if p.kind == kind for s in p.stmts)
        for kind in ("row", "sweep")
    )
    moved = {a.at for s in stmts if isinstance(a := s.attr, Access) and a.at.strides[-1] != 0}
    turned = n * n * len(moved)  # columns become rows, or rows columns
    return any(s.fn == "reduce" for s in stmts) and rows + n * sweeps + turned <= ROW_LANES_COST
