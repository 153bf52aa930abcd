"""Folds of short rows, several of which run as one.

The sums of the columns of f32[100000, 2] would use 2 of 16 lanes. Rows that lie one behind the
other are a row of 64 elements for every 32 of them, which is folded as it is; at the end its
32 parts are combined, like the results of blocks. What belongs to a column, as the maximum in the
second part of a log-sum-exp does, is repeated for each part.
"""

from __future__ import annotations

import math
from dataclasses import replace

from graphgrad.compiler.kernels.loops import Access, Affine, LoopNest, Reduction, Stmt, lane_count
from graphgrad.compiler.kernels.merge import with_affines

# Vectors of a wide row, at least.
VECTORS = 4


def rows_in_one(nest: LoopNest) -> int:
    """How many rows of a fold run as one: whole vectors of them; 1 where they do not."""
    if nest.parallel or nest.folded != 1 or nest.inner != 1:
        return 1
    width, n = lane_count(nest), nest.dims[-1]
    if not isinstance(n, int) or not 1 < n < 2 * width:
        return 1
    if [p.kind for p in nest.main] not in (["sweep"], ["row", "sweep"]):
        return 1
    if not all(_fits(nest, s, p.kind == "row") for p in nest.main for s in p.stmts):
        return 1
    count = width // math.gcd(n, width)
    while count * n < VECTORS * width:
        count *= 2
    return count


def _fits(nest: LoopNest, s: Stmt, in_row: bool) -> bool:
    if s.failures or s.fn in ("load_at", "load_in", "require"):
        return False
    if isinstance(s.attr, Reduction):
        return s.attr.kind != "row" and not in_row
    at = s.attr.at if isinstance(s.attr, Access) else s.attr
    if not isinstance(at, Affine):
        return True
    if in_row:
        return at.strides[0] == 0
    return is_repeated(at, s.fn) or at.strides[0] == at.strides[1] * nest.dims[1]


def is_repeated(at: Affine, fn: str) -> bool:
    """Does a load read the same in each row?"""
    return fn == "load" and at.strides[0] == 0


def wide(nest: LoopNest, count: int) -> LoopNest:
    """`nest` with `count` rows in one, the last of which may be a part."""
    rows, n = nest.dims
    assert isinstance(n, int)

    def change(a: Affine) -> Affine:
        step = a.strides[1]
        return a if a.strides[0] == 0 else Affine(a.offset, (step * (count * n), step))

    return with_affines(replace(nest, dims=(rows, count * n)), change)
