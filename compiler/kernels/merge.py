"""Dims of a nest that run as one: fewer loops, longer vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphgrad.compiler.kernels.loops import Access, Affine, LoopNest, Phase, Reduction, Stmt


def affines(nest: LoopNest) -> list[Affine]:
    """All index expressions of a nest."""
    found: dict[Affine, None] = {}
    for s in nest.statements():
        if isinstance(s.attr, Access):
            found[s.attr.at] = None
        elif isinstance(s.attr, Affine):
            found[s.attr] = None
        elif isinstance(s.attr, Reduction) and s.attr.row is not None:
            found[s.attr.row.at] = None
    return list(found)


def mergeable(nest: LoopNest, d: int) -> bool:
    """Can dims d and d+1 run as one?"""
    return all(a.strides[d] == a.strides[d + 1] * nest.dims[d + 1] for a in affines(nest))


def trailing_run(nest: LoopNest) -> int:
    """How many inner dims, from the last, merge into one."""
    count = 1
    while count < nest.inner and mergeable(nest, len(nest.dims) - 1 - count):
        count += 1
    return count


def merge_dims(nest: LoopNest) -> LoopNest:
    """Merge neighbours of one role wherever all accesses allow it."""
    for d in range(len(nest.dims) - 2, -1, -1):
        bounds = (nest.parallel, nest.parallel + nest.folded)
        if d + 1 not in bounds and mergeable(nest, d):
            nest = drop_dim(nest, d)
    return nest


def drop_dim(nest: LoopNest, d: int) -> LoopNest:
    """Dims d and d+1 as one."""

    def affine(a: Affine) -> Affine:
        return Affine(a.offset, a.strides[:d] + a.strides[d + 1 :])

    dims = (*nest.dims[:d], nest.dims[d] * nest.dims[d + 1], *nest.dims[d + 2 :])
    in_parallel, in_folded = d < nest.parallel, nest.parallel <= d < nest.parallel + nest.folded
    merged = replace(
        nest, dims=dims, parallel=nest.parallel - in_parallel, folded=nest.folded - in_folded
    )  # fmt: skip
    return with_affines(merged, affine)


def with_affines(nest: LoopNest, change: Callable[[Affine], Affine]) -> LoopNest:
    """`nest` with every index expression changed."""

    def access(a: Access) -> Access:
        return replace(a, at=change(a.at))

    def statement(s: Stmt) -> Stmt:
        if isinstance(s.attr, Access):
            return replace(s, attr=access(s.attr))
        if isinstance(s.attr, Affine):
            return replace(s, attr=change(s.attr))
        if isinstance(s.attr, Reduction) and s.attr.row is not None:
            return replace(s, attr=replace(s.attr, row=access(s.attr.row)))
        return s

    def phases(ps: tuple[Phase, ...]) -> tuple[Phase, ...]:
        return tuple(Phase(p.kind, tuple(map(statement, p.stmts))) for p in ps)

    return replace(nest, main=phases(nest.main), tail=phases(nest.tail))
