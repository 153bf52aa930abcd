"""What kernels over sliding windows share: addresses, the elements of a window, borders.

A kernel runs over rows of windows. Along the last axis a row has windows that reach beyond the
array at both ends, and between them those that do not: these need no bounds, and where a window has
few elements no loops over them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphgrad.compiler.codegen.llvm_columns import Memory
from graphgrad.compiler.codegen.llvm_numbers import Numbers
from graphgrad.compiler.kernels.windows import Axis

# Windows of up to so many elements are written out.
UNROLLED = 9


@dataclass(frozen=True, slots=True)
class Taps:
    """Which elements of a window lie in the array along one axis, and where its first one would:
    operands, or numbers where they are known."""

    base: str
    lo: str
    hi: str

    @property
    def known(self) -> range | None:
        return range(int(self.lo), int(self.hi)) if (self.lo + self.hi).isdigit() else None


def written_out(taps: Sequence[Taps]) -> list[range] | None:
    """The elements of a window that are written out, axis by axis; None where loops run over
    them."""
    ranges = [t.known for t in taps]
    known = [r for r in ranges if r is not None]
    few = len(known) == len(ranges) and math.prod(map(len, known)) <= UNROLLED
    return known if few else None


Body = Callable[[str, str, list[str]], list[str]]


class WindowLoops(Numbers):
    """Writes functions over sliding windows.

    Offsets count elements. `axes` are those of the larger array, whose rows are `channels` wide
    a place.
    """

    axes: tuple[Axis, Axis, Axis]
    channels: int

    # -- addresses

    def steps(self, distance: str, step: int) -> str:
        """How many of 0, step, 2 step, ... are less than `distance`."""
        return self.div(self.add(self.max(distance, "0"), step - 1), step)

    def offset(self, index: Sequence[str], sizes: Sequence[str]) -> str:
        """The row-major offset of an index; the first size does not matter."""
        total = index[0]
        for i, n in zip(index[1:], sizes[1:], strict=True):
            total = self.add(self.mul(total, n), i)
        return total

    def set_zero(self, memory: Memory, corner: str, start: str, end: str, lanes: int) -> None:
        """Zeros from element `start` of `corner` to element `end`."""
        whole = self.text.assign(f"and i64 {self.sub(end, start)}, {-lanes}")
        whole = self.add(start, whole)
        for first, last, count in ((start, whole, lanes), (whole, end, 1)):

            def zero(i: str, _: list[str], count: int = count) -> list[str]:
                memory.store(self.after(corner, i), "zeroinitializer", count, None)
                return []

            self.loop(first, last, count, [], zero)

    # -- windows

    def taps(self, axis: Axis, place: str) -> Taps:
        """The elements of window `place` along an axis."""
        base = self.mul(place, str(axis.stride))
        base = self.add(base, -axis.low)
        if not axis.padded:
            return Taps(base, "0", str(axis.window))
        return self.cut(axis, base, "0", self.size(axis.size))

    def whole(self, w: str) -> Taps:
        """All elements of a window along the last axis."""
        axis = self.axes[2]
        base = self.add(self.mul(w, axis.stride), -axis.low)
        return Taps(base, "0", str(axis.window))

    def cut(self, axis: Axis, base: str, lo: str, hi: str) -> Taps:
        """The elements of a window from `base` on that lie in lo .. hi."""
        first = self.steps(self.sub(lo, base), axis.dilation)
        last = self.min(self.steps(self.sub(hi, base), axis.dilation), str(axis.window))
        return Taps(base, first, last)

    def is_whole(self, axis: Axis, taps: Taps) -> str | None:
        """Has the window all its elements? None: always."""
        if taps.known is not None:
            return None if taps.known == range(axis.window) else "false"
        a = self.text.assign(f"icmp eq i64 {taps.lo}, 0")
        b = self.text.assign(f"icmp eq i64 {taps.hi}, {axis.window}")
        return self.text.assign(f"and i1 {a}, {b}")

    def inner(self, axis: Axis, whole: Sequence[str | None]) -> tuple[str, str]:
        """From where to where the windows of a row lie in the array, if all of `whole` hold; else
        none does."""
        count = self.size(axis.count)
        lo, hi = "0", count
        if axis.padded:
            lo = self.min(str(max(-(-axis.low // axis.stride), 0)), count)
            reach = axis.low - (axis.window - 1) * axis.dilation
            end = self.steps(self.add(self.size(axis.size), str(reach)), axis.stride)
            hi = self.max(lo, self.min(end, count))
        for condition in whole:
            if condition is not None:
                lo, hi = (
                    self.text.assign(f"select i1 {condition}, i64 {x}, i64 {count}")
                    for x in (lo, hi)
                )
        return lo, hi

    def each_tap(
        self, taps: Sequence[Taps], carried: list[tuple[str, str]], body: Body,
        backwards: bool = False,
    ) -> list[str]:  # fmt: skip
        """`body(offset, number, carried)` for each element of a window, in order: its offset from
        the first one, and its number among all. If `backwards`, the last axis runs from its end,
        where the elements are written out."""
        ranges = written_out(taps)
        if ranges is not None:
            values = [start for _, start in carried]
            if backwards:
                ranges[-1] = ranges[-1][::-1]
            for k in itertools.product(*ranges):
                values = body(*self.tap([str(i) for i in k]), values)
            return values

        def nest(depth: int, index: list[str], values: list[str]) -> list[str]:
            if depth == len(taps):
                return body(*self.tap(index), values)
            pairs = [(type_, v) for (type_, _), v in zip(carried, values, strict=True)]
            t = taps[depth]
            if t.known is not None and len(t.known) == 1:
                return nest(depth + 1, [*index, t.lo], values)
            if depth == len(taps) - 1 and t.known is not None and len(t.known) <= UNROLLED:
                for i in t.known[::-1] if backwards else t.known:
                    values = nest(depth + 1, [*index, str(i)], values)
                return values
            return self.loop(
                t.lo, t.hi, 1, pairs, lambda i, inner: nest(depth + 1, [*index, i], inner)
            )

        return nest(0, [], [start for _, start in carried])

    def tap(self, index: Sequence[str]) -> tuple[str, str]:
        """The offset of an element from the first of its window, and its number."""
        steps = [self.mul(i, str(a.dilation)) for i, a in zip(index, self.axes, strict=True)]
        offset = self.offset(steps, [self.size(a.size) for a in self.axes])
        number = self.offset(index, [str(a.window) for a in self.axes])
        return self.mul(offset, str(self.channels)), number
