"""Equal kernels over different arrays as one launch: the updates of many parameters are its case.

Kernels of one sweep over one dim that do the same, wherever their arrays lie and however long they
are, become one batch, unless one needs another. The text of a batch is that of its kernel for an
unknown length; a row of a table says which arrays and sizes it has, and threads share all rows
together. Many small kernels leave threads idle, each of them alone being too little to share, and
each adds its call to the text that LLVM compiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from graphgrad.compiler.codegen.llvm_streams import WRITTEN_BYTES, known_bytes, traffic
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.kernels.division import LANES, chunks, combined, element_time, total, up
from graphgrad.compiler.kernels.fusion import Fusion, Step
from graphgrad.compiler.kernels.loops import Access, Division, LoopNest, is_flat
from graphgrad.compiler.kernels.reach import Reach
from graphgrad.runtime.program import Size

# Fewer kernels stay apart: running one by the table, and compiling it for any length, costs as much
# as it saves.
LEAST_KERNELS = 4
# A kernel is tried with so many batches of its kind.
TRIED = 4
# The length that a batch's kernel does not know: it stands for that of each row.
LENGTH = DimScope().symbol("n", -2, 0)
_LENGTH_SIZE: Size = ("dim", -2, 0)


def general(nest: LoopNest) -> LoopNest | None:
    """`nest` for any length, if it may be part of a batch.

    Lengths are to be known, and small enough that nothing is written around the caches.
    """
    touched = known_bytes(traffic(nest))
    if not is_flat(nest) or touched is None or touched > WRITTEN_BYTES:
        return None
    for s in nest.statements():
        if s.failures or s.fn == "size":
            return None
        if isinstance(s.attr, Access):
            numbers = (s.attr.at.offset, *s.attr.at.strides)
            if s.attr.bounds is not None or not all(isinstance(n, int) for n in numbers):
                return None
        elif s.fn == "index" and not all(
            isinstance(n, int) for n in (s.attr.offset, *s.attr.strides)
        ):
            return None
    return replace(nest, dims=(LENGTH,), division=None, cached=True)


def at_length(size: Size, length: Size) -> Size:
    """A size of the batch's kernel for a row of `length` elements."""
    if isinstance(size, int):
        return size
    if size == _LENGTH_SIZE:
        return length
    kind, a, b = size
    if kind in ("dim", "threads"):
        return size
    return combined(kind, at_length(a, length), at_length(b, length))


def division_of_rows(nest: LoopNest, lengths: Sequence[Size]) -> tuple[Size, Division | None]:
    """The items of a batch, its rows one behind the other, and how threads share them.

    Each row takes a multiple of `LANES`, so that pieces begin at whole vectors.
    """
    items: Size = 0
    for n in lengths:
        items = total(items, up(n, LANES))
    return items, chunks("rows", items, element_time(nest, nest.main), LANES)


def in_batches(
    fusion: Fusion, steps: Sequence[Step], nests: Sequence[LoopNest | None]
) -> list[list[int]]:
    """The steps by number, in an order in which each comes after what it needs; those of one batch
    together. Batches run as late as they can, other steps in the order they have."""
    units: list[Any] = [s.group if s.group is not None else s.node for s in steps]
    numbers = [fusion.numbers[u] for u in units]
    place = {u: k for k, u in enumerate(units)}
    needs = [[place[u] for u in fusion.needs(unit)] for unit in units]
    last = -1
    for k, (step, nest) in enumerate(zip(steps, nests, strict=True)):
        fails = nest is not None and any(s.failures for s in nest.statements())
        if step.group is None or fails:  # effects and errors keep their order
            if last >= 0:
                needs[k].append(last)
                fusion.reach.read(numbers[k], [numbers[last]])
            last = k
    batch_of = [[k] for k in range(len(steps))]
    for alike in _alike(nests):
        for batch in _independent(fusion.reach, numbers, alike):
            for k in batch:
                batch_of[k] = batch
    return list(_ordered(batch_of, needs))


def _alike(nests: Sequence[LoopNest | None]) -> list[list[int]]:
    """The nests, by number, that do the same, each over a length of its own."""
    found: dict[Any, list[int]] = {}
    for k, nest in enumerate(nests):
        like = general(nest) if nest is not None else None
        if like is not None:
            found.setdefault(like.key(), []).append(k)
    return [alike for alike in found.values() if len(alike) >= LEAST_KERNELS]


def _independent(reach: Reach, numbers: list[int], alike: list[int]) -> list[list[int]]:
    """Batches of kernels that are alike, of which none needs another, through others included:
    each has become one unit of `reach`."""
    batches: list[list[int]] = []
    for k in alike:
        for batch in batches[-TRIED:]:
            a, b = numbers[batch[0]], numbers[k]
            if not reach.needs(a, b) and not reach.needs(b, a):
                reach.merge(a, b)
                batch.append(k)
                break
        else:
            batches.append([k])
    return [batch for batch in batches if len(batch) >= LEAST_KERNELS]


def _ordered(batch_of: list[list[int]], needs: list[list[int]]) -> Iterator[list[int]]:
    """Each batch once, after those that its steps need; single steps in their order."""
    done: set[int] = set()  # by the number of the first step
    single = [k for k, batch in enumerate(batch_of) if len(batch) == 1]
    for k in (*single, *range(len(batch_of))):
        stack = [] if batch_of[k][0] in done else [_visit(batch_of[k], needs)]
        done.add(batch_of[k][0])
        while stack:
            batch, rest = stack[-1]
            for need in rest:
                other = batch_of[need]
                if other[0] not in done:
                    done.add(other[0])
                    stack.append(_visit(other, needs))
                    break
            else:
                stack.pop()
                yield batch


def _visit(batch: list[int], needs: list[list[int]]) -> tuple[list[int], Iterator[int]]:
    return batch, (need for k in batch for need in needs[k])
