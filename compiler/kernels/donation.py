"""Donation: which results of a kernel may be written over an array that it reads."""

from __future__ import annotations

from graphgrad.compiler.kernels.index_maps import row_major
from graphgrad.compiler.kernels.loops import Access, LoopNest


def in_place_pairs(nest: LoopNest) -> list[tuple[int, int]]:
    """(out array, in array) pairs: each element is read only right before it is written."""
    reads: dict[int, list[tuple[int, int, Access | None]]] = {}  # (phase, position, access)
    writes: dict[int, list[tuple[int, int, Access | None]]] = {}
    for p, part in enumerate(nest.phases):
        for k, s in enumerate(part.stmts):
            if isinstance(s.attr, Access):
                table = writes if s.fn == "store" else reads
                access = s.attr if s.fn in ("load", "store") else None
                table.setdefault(s.attr.array, []).append((p, k, access))
    pairs = []
    covers_all = row_major(nest.dims)
    for out, wrote in writes.items():
        if len(wrote) != 1 or nest.arrays[out].role != "out":
            continue
        ((phase, position, access),) = wrote
        if access is None or access.at.offset != 0 or access.at.strides != covers_all:
            continue
        for source, read in reads.items():
            safe = all(
                p == phase and k < position and r is not None and r.at == access.at
                for p, k, r in read
            )
            if safe and nest.arrays[source].role == "in":
                pairs.append((out, source))
    return pairs


def matched(fitting: dict[int, list[int]], own: dict[int, int]) -> dict[int, int]:
    """An input for each output that one fits: its `own` where that does, else one that is left.

    >>> matched({0: [7, 8], 1: [7, 8], 2: [8]}, {7: 1})
    {7: 1, 8: 2}
    """
    source_of = {out: i for out, i in own.items() if out in fitting.get(i, ())}
    for source in sorted(fitting.keys() - source_of.values(), reverse=True):
        out = next((out for out in fitting[source] if out not in source_of), None)
        if out is not None:
            source_of[out] = source
    return source_of
