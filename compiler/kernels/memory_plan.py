"""Where temporaries lie in the arena: lifetimes to offsets."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from heapq import heappop, heappush

from graphgrad.runtime.program import Size

ALIGNMENT = 64
# So many temporaries are packed with care, which takes time with the square of their number.
EXHAUSTIVE = 500


def aligned(count: int) -> int:
    """Bytes in whole cache lines."""
    return -(-count // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A temporary: its bytes, and the first and last step that touch it."""

    bytes: Size
    first: int
    last: int


def plan(lifetimes: list[Lifetime]) -> tuple[list[Size], Size]:
    """The byte offset of each temporary, and the bytes of the arena.

    Known sizes share space when their lifetimes do not overlap. Unknown sizes follow, one after
    another; those with the same expression share when their lifetimes allow it.

    >>> plan([Lifetime(64, 0, 1), Lifetime(100, 1, 2), Lifetime(64, 2, 3)])
    ([128, 0, 128], 192)
    """
    offsets: list[Size] = [0] * len(lifetimes)
    known = [i for i, t in enumerate(lifetimes) if isinstance(t.bytes, int)]
    place = _largest_first if len(known) <= EXHAUSTIVE else _in_order
    total = place(lifetimes, known, offsets)
    return offsets, _place_unknown(lifetimes, offsets, total)


def _largest_first(lifetimes: list[Lifetime], known: list[int], offsets: list[Size]) -> int:
    """Each at the lowest offset that is free for its whole life; the bytes of all."""
    placed: list[int] = []
    total = 0
    for i in sorted(known, key=lambda i: -_bytes(lifetimes[i])):
        need = _bytes(lifetimes[i])
        busy = sorted(
            (_known(offsets[j]), _known(offsets[j]) + _bytes(lifetimes[j]))
            for j in placed
            if overlap(lifetimes[i], lifetimes[j])
        )
        at = 0
        for start, end in busy:
            if at + need <= start:
                break
            at = max(at, end)
        offsets[i] = at
        placed.append(i)
        total = max(total, at + need)
    return total


def _in_order(lifetimes: list[Lifetime], known: list[int], offsets: list[Size]) -> int:
    """As an allocator would, step by step: each in the smallest hole that it fits; the bytes of
    all."""
    holes = _Holes()
    living: list[tuple[int, int]] = []  # (last step, number), a heap
    total = 0
    for i in sorted(known, key=lambda i: lifetimes[i].first):
        while living and living[0][0] < lifetimes[i].first:
            _, gone = heappop(living)
            holes.free(_known(offsets[gone]), _bytes(lifetimes[gone]))
        need = _bytes(lifetimes[i])
        at = holes.take(need)
        if at is None:
            at = holes.take_end(total)
            total = at + need
        offsets[i] = at
        heappush(living, (lifetimes[i].last, i))
    return total


class _Holes:
    """The free parts of the arena, neighbours joined."""

    def __init__(self) -> None:
        self.by_size: list[tuple[int, int]] = []  # (bytes, start), sorted
        self.bytes_at: dict[int, int] = {}  # by start
        self.start_of: dict[int, int] = {}  # by end

    def put(self, start: int, size: int) -> None:
        insort(self.by_size, (size, start))
        self.bytes_at[start] = size
        self.start_of[start + size] = start

    def remove(self, start: int) -> int:
        """Its size."""
        size = self.bytes_at.pop(start)
        del self.start_of[start + size]
        del self.by_size[bisect_left(self.by_size, (size, start))]
        return size

    def free(self, start: int, size: int) -> None:
        """Make a part free again."""
        if not size:
            return
        if start + size in self.bytes_at:
            size += self.remove(start + size)
        if start in self.start_of:
            before = self.start_of[start]
            size += self.remove(before)
            start = before
        self.put(start, size)

    def take(self, need: int) -> int | None:
        """The start of the smallest hole of at least `need` bytes, the rest of which stays."""
        i = bisect_left(self.by_size, (need, 0))
        if i == len(self.by_size):
            return None
        start = self.by_size[i][1]
        size = self.remove(start)
        if size > need:
            self.put(start + need, size - need)
        return start

    def take_end(self, end: int) -> int:
        """Where the free part before `end` starts, which is taken; `end` if there is none."""
        if end not in self.start_of:
            return end
        start = self.start_of[end]
        self.remove(start)
        return start


def _place_unknown(lifetimes: list[Lifetime], offsets: list[Size], total: Size) -> Size:
    """Each expression gets an array of places; the bytes of all, with `total` before them."""
    unknown = [i for i, t in enumerate(lifetimes) if not isinstance(t.bytes, int)]
    arrays: dict[Size, list[int]] = {}
    for i in sorted(unknown, key=lambda i: lifetimes[i].first):
        arrays.setdefault(lifetimes[i].bytes, []).append(i)
    for bytes_, members in arrays.items():
        place: Size = ("up", bytes_, ALIGNMENT)
        living: list[tuple[int, int]] = []  # (last step, place), a heap
        count = 0
        for i in members:
            if living and living[0][0] < lifetimes[i].first:
                k = heappop(living)[1]
            else:
                k, count = count, count + 1
            offsets[i] = _plus(total, _times(place, k))
            heappush(living, (lifetimes[i].last, k))
        total = _plus(total, _times(place, count))
    return total


def _plus(a: Size, b: Size) -> Size:
    return a if b == 0 else b if a == 0 else ("+", a, b)


def _times(a: Size, n: int) -> Size:
    return ("*", a, n) if n > 1 else a if n else 0


def overlap(a: Lifetime, b: Lifetime) -> bool:
    return a.first <= b.last and b.first <= a.last


def _known(size: Size) -> int:
    assert isinstance(size, int)
    return size


def _bytes(t: Lifetime) -> int:
    """What a temporary of known size takes."""
    return aligned(_known(t.bytes))
