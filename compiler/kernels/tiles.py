"""Nests that read or write arrays across their memory: which are turned, tile by tile.

`x + transpose(y)` runs along the rows of `x` and of its result, and down the columns of `y`. A
vector of such a column comes from as many cache lines, which are the same set of the cache where
rows are a power of two apart. A tile of some rows and columns touches each of its lines once.
"""

from __future__ import annotations

from dataclasses import replace

from graphgrad.compiler.kernels.loops import Access, Affine, LoopNest, Stmt
from graphgrad.compiler.kernels.merge import with_affines

# Rows that lie no further apart are read whole, and elements picked from them.
CLOSE = 4


def is_elementwise(nest: LoopNest) -> bool:
    """Is a nest rows of independent elements, in any order? Not where elements are checked, since
    the first bad one is to be reported."""
    stmts = nest.statements()
    return (
        nest.parallel > 0
        and nest.folded == 0
        and nest.inner == 1
        and not nest.tail
        and [p.kind for p in nest.main][-1:] == ["sweep"]
        and len(nest.main) <= 2
        and not any(s.fn in ("reduce", "require") or s.failures for s in stmts)
    )


def crosswise(nest: LoopNest, dim: int | None = None) -> list[Stmt]:
    """The loads and stores with neighbours along the parallel dim `dim` (the last) instead of the
    inner one."""
    if not is_elementwise(nest):
        return []
    d = nest.parallel - 1 if dim is None else dim
    return [
        s
        for s in nest.main[-1].stmts
        if isinstance(s.attr, Access)
        and s.fn != "load_in"
        and s.attr.bounds is None
        and nest.arrays[s.attr.array].role != "scratch"
        and _is(s.attr.at.strides[d], 1)
        and not _is(s.attr.at.strides[-1], *range(-CLOSE, CLOSE + 1))
    ]


def _is(stride: object, *numbers: int) -> bool:
    return isinstance(stride, int) and stride in numbers


def in_tiles(nest: LoopNest) -> LoopNest:
    """`nest` with the parallel dim last along which most of what it reads across has neighbours."""
    counts = [len(crosswise(nest, d)) for d in range(nest.parallel)]
    last = nest.parallel - 1
    if not any(counts) or counts[last] == max(counts):
        return nest
    best = counts.index(max(counts))
    order = [d for d in range(nest.parallel) if d != best] + [best, nest.parallel]

    def permuted(a: Affine) -> Affine:
        return Affine(a.offset, tuple(a.strides[d] for d in order))

    return with_affines(replace(nest, dims=tuple(nest.dims[d] for d in order)), permuted)
