"""A kernel over a part of its range that stays in the first-level cache: its arithmetic alone.

The nest keeps its arrays, strides and statements, so the code is the same; only it ends early.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphgrad.compiler.dims import Symbol, evaluate
from graphgrad.compiler.kernels.loops import Access, LoopNest, Reduction

CACHE_BYTES = 24 << 10  # half to three quarters of a first-level cache
# Rows and elements of a row that remain, so that loops run as they do in the whole: multiples of
# every block of rows and of every number of vectors in flight.
LEAST_ROWS = 4
LEAST_ELEMENTS = 1024


def shrunk(nest: LoopNest, sizes: Mapping[Symbol, int], limit: int = CACHE_BYTES) -> LoopNest:
    """`nest` with its dims cut, outermost first, until what it touches fits into `limit` bytes."""
    dims = [evaluate(n, sizes) for n in nest.dims]
    for d in range(len(dims)):
        least = LEAST_ELEMENTS if d == len(dims) - 1 else LEAST_ROWS
        while dims[d] > least and footprint(nest, dims) > limit:
            half = dims[d] // 2
            dims[d] = max(least, half - half % least)
    return replace(nest, dims=tuple(dims))


def footprint(nest: LoopNest, dims: Sequence[int]) -> int:
    """The bytes that a nest over `dims` touches, at most."""
    elements: dict[int, int] = {}
    for stmt in nest.statements():
        access = stmt.attr.row if isinstance(stmt.attr, Reduction) else stmt.attr
        if isinstance(access, Access):
            moved = [n for n, s in zip(dims, access.at.strides, strict=True) if s != 0]
            count = math.prod(moved if access.bounds is None else dims)
            elements[access.array] = max(elements.get(access.array, 0), count)
    return sum(n * nest.arrays[i].dtype.itemsize for i, n in elements.items())


def iterations(nest: LoopNest, sizes: Mapping[Symbol, int]) -> int:
    """How often the innermost statements of a nest run."""
    return math.prod(evaluate(n, sizes) for n in nest.dims)
