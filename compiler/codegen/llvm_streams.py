"""Arrays that pass through the caches once: read ahead of their use, and written around them.

A kernel that touches more than the caches hold is bound by what one core can have under way
between memory and cache. Two hints let it have more: where it reads an array, it asks for what
comes some way further on, and what it writes and does not read again goes to memory without being
read from there first. Small kernels would lose by both, so they have neither. Where sizes are not
known, the kernel asks at its start.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.kernels.loops import Access, LoopNest, Reduction
from graphgrad.compiler.scalar.expansions import ULP

FETCHED_BYTES = 4 << 20  # more than this does not stay in a second-level cache
WRITTEN_BYTES = 32 << 20  # more than this does not stay in the third, so nobody finds it there
AHEAD_BYTES = 16 << 10  # a part of the first-level cache, which the streams share
BLOCK_BYTES = 64 << 10  # rows of more that are read together: each is a stream of its own
LINE = 64  # bytes of a cache line; stores around the caches write whole lines


@dataclass(frozen=True, slots=True)
class Term:
    """A part of the bytes that a nest touches: `itemsize` times the product of `extents`."""

    itemsize: int
    extents: tuple[Extent, ...]


def traffic(nest: LoopNest) -> list[Term]:
    """What a nest touches, an array a term; scratch stays in cache."""
    moved: dict[int, set[int]] = {}
    for stmt in nest.statements():
        access = access_of(stmt.attr)
        if access is not None:
            strides = enumerate(access.at.strides)
            dims = {d for d, s in strides if s != 0 or access.bounds is not None}
            moved.setdefault(access.array, set()).update(dims)
    return [
        Term(nest.arrays[i].dtype.itemsize, tuple(nest.dims[d] for d in sorted(dims)))
        for i, dims in moved.items()
        if nest.arrays[i].role != "scratch"
    ]


def access_of(attr: object) -> Access | None:
    """The access of a statement, by its attribute."""
    found = attr.row if isinstance(attr, Reduction) else attr
    return found if isinstance(found, Access) else None


def known_bytes(terms: list[Term]) -> int | None:
    """The sum of terms, None where a size is unknown."""
    total = 0
    for term in terms:
        part = term.itemsize
        for n in term.extents:
            if not isinstance(n, int):
                return None
            part *= n
        total += part
    return total


def fetched(nest: LoopNest) -> set[int]:
    """The loads that also ask for what comes further on, along rows that lie together.

    Of rows that are swept several times, the second load: the first sweep waits for what earlier
    ones asked for, the second computes while memory is at work. None in a single sweep that also
    stores its elements: there the processor's own prefetching keeps up with what memory takes.
    """
    sweeps = [phase for phase in nest.phases if phase.kind == "sweep"]
    if len(sweeps) < 2 and any(s.fn == "store" for phase in sweeps for s in phase.stmts):
        return set()
    loads: dict[Access, list[int]] = {}
    for stmt in nest.statements():
        access = stmt.attr
        if stmt.fn == "load" and nest.arrays[access.array].role == "in":
            strides = access.at.strides
            whole = len(strides) == 1 or any(s != 0 for s in strides[:-1])
            if nest.inner and strides[-1] == 1 and whole:
                loads.setdefault(access, []).append(stmt.id)
    return {found[:2][-1] for found in loads.values()}


def written(nest: LoopNest, width: int) -> set[int]:
    """The arrays that are written in vectors of whole lines and not read again by the nest.

    None where each element takes a function like exp: there caches even out what is written while
    the processor computes.
    """
    sweeps = (s for phase in nest.phases if phase.kind == "sweep" for s in phase.stmts)
    if any(s.fn in ULP for s in sweeps):
        return set()
    stored: set[int] = set()
    others: set[int] = set()
    for stmt in nest.statements():
        access = access_of(stmt.attr)
        if access is None:
            continue
        array = nest.arrays[access.array]
        whole = (
            stmt.fn == "store"
            and array.role == "out"
            and array.dtype.itemsize * width % LINE == 0
            and _in_vectors(nest, access, width)
        )
        (stored if whole else others).add(access.array)
    return stored - others


def _in_vectors(nest: LoopNest, access: Access, width: int) -> bool:
    """Does each row begin a whole number of vectors after the first?"""
    starts = (access.at.offset, *access.at.strides[:-1])
    rows = all(isinstance(s, int) and s % width == 0 for s in starts)
    return nest.inner > 0 and access.at.strides[-1] == 1 and rows
