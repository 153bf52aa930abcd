"""Pooling as one LLVM function: windows' maxima and means, and their derivatives.

    define internal i32 @k_max_pool_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the pointers of the inputs and of the output, then sizes. Forward, lo..hi are rows of
windows:

    for each window o of the row:  z[o] = max over its elements x[o, k]

Backward, they are slices of the result along its first axis, and every window that reaches into
them gives its share, those of a slice in one order whoever computes it:

    for each window o:
        m = max of x[o, k];  share = g[o] / (how many x[o, k] equal m)
        for each element of a slice lo..hi:  dx[o, k] += share if x[o, k] == m else 0
"""

from __future__ import annotations

from collections.abc import Sequence

from graphgrad.compiler.codegen.llvm_columns import Columns, Memory, vectors_of
from graphgrad.compiler.codegen.llvm_pixels import (
    VECTOR_BYTES,
    ChannelLanes,
    PixelLanes,
    pixels_together,
)
from graphgrad.compiler.codegen.llvm_pool_arithmetic import PoolArithmetic
from graphgrad.compiler.codegen.llvm_scalar import FunctionText, ModuleParts, llvm_type
from graphgrad.compiler.codegen.llvm_windows import UNROLLED, Taps
from graphgrad.compiler.kernels.pools import Pool

POINTERS = {
    "max_pool": ("x", "z"),
    "mean_pool": ("x", "z"),
    "max_pool_tangent": ("t", "x", "z"),
    "max_pool_gradient": ("g", "x", "dx"),
    "mean_pool_gradient": ("g", "dx"),
}
# Vectors of a window at a time: forward they hide each other's latency, backward the elements of a
# window stay in registers.
TOGETHER, TOGETHER_BACKWARD = 4, 2


class PoolEmitter(PoolArithmetic):
    """Emits the function of one pooling operation."""

    def __init__(self, pool: Pool, name: str, parts: ModuleParts) -> None:
        self.pool = pool
        self.axes, self.channels, self.dtype = pool.axes, pool.channels, pool.dtype
        self.name, self.parts = name, parts
        self.text, self.block = FunctionText(parts), "entry"
        self.pointers = POINTERS[pool.routine]
        self.sizes = {}
        self.element = llvm_type(self.dtype)
        self.memory = Memory(self.text, parts, pool.dtype)
        self.windows = "g" if pool.backward else "z"
        self.arrays = [p for p in self.pointers if p != self.windows]

    def emit(self) -> str:
        """The text of the function."""
        (self.slices if self.pool.backward else self.rows)()
        return self.launched(self.name, self.pointers)

    # -- the parts

    def rows(self) -> None:
        """Forward: the rows of windows lo..hi."""
        outer, middle, _ = self.axes

        def one(index: str, _: list[str]) -> list[str]:
            rest, b = self.parted(index, self.size(middle.count))
            image, a = self.parted(rest, self.size(outer.count))
            self.row(image, a, b, self.taps(outer, a))
            return []

        self.loop("%lo", "%hi", 1, [], one)

    def slices(self) -> None:
        """Backward: the slices lo..hi of the images."""
        outer, middle, _ = self.axes
        size = self.size(outer.size)
        first = self.text.assign(f"sdiv i64 %lo, {self.max(size, '1')}")
        last = self.text.assign(f"add i64 {self.add('%hi', size)}, -1")
        last = self.text.assign(f"sdiv i64 {last}, {self.max(size, '1')}")
        place = [self.size(a.size) for a in self.axes]
        slice_ = self.mul(self.mul(place[1], place[2]), str(self.channels))
        covered = all(a.covered for a in self.axes)
        spread = (outer.window - 1) * outer.dilation

        def image(n: str, _: list[str]) -> list[str]:
            start = self.mul(n, size)
            lo = self.max(self.sub("%lo", start), "0")
            hi = self.min(self.sub("%hi", start), size)
            begin = self.steps(self.add(lo, str(outer.low - spread)), outer.stride)
            end = self.steps(self.add(hi, str(outer.low)), outer.stride)
            end = self.min(end, self.size(outer.count))
            corner = self.after("%dx", self.mul(start, slice_))

            def windows(a: str, cleared: list[str]) -> list[str]:
                taps = self.taps(outer, a)
                own = self.cut(outer, taps.base, lo, hi)
                reached = cleared
                if not covered:
                    stop = self.add(taps.base, str(spread + 1))
                    reached = [self.max(cleared[0], self.min(stop, hi))]
                    self.clear(corner, cleared[0], reached[0], slice_)

                def row(b: str, _: list[str]) -> list[str]:
                    self.row(n, a, b, taps, own)
                    return []

                self.loop("0", self.size(middle.count), 1, [], row)
                return reached

            if covered:
                self.loop(begin, end, 1, [], windows)
            else:
                (cleared,) = self.loop(begin, end, 1, [("i64", lo)], windows)
                self.clear(corner, cleared, hi, slice_)
            return []

        self.loop(first, last, 1, [], image)

    def clear(self, corner: str, lo: str, hi: str, slice_: str) -> None:
        """Zeros into slices of an image."""
        lanes = VECTOR_BYTES // self.dtype.itemsize
        self.set_zero(self.memory, corner, self.mul(lo, slice_), self.mul(hi, slice_), lanes)

    # -- a row of windows

    def row(self, image: str, a: str, b: str, outer: Taps, own: Taps | None = None) -> None:
        """The windows of a row; `own` are the elements along the first axis that are written."""
        middle, last = self.axes[1:]
        inside = self.taps(middle, b)
        whole = [self.is_whole(self.axes[0], outer), self.is_whole(middle, inside)]
        if own is not None:
            whole.append(self.is_whole(self.axes[0], own))
        lo, hi = self.inner(last, whole)
        count = self.size(last.count)
        line = self.offset(
            [image, outer.base, inside.base], ["", *(self.size(x.size) for x in self.axes[:2])]
        )
        windows = self.offset([image, a, b], ["", *(self.size(x.count) for x in self.axes[:2])])
        windows = self.mul(windows, count)
        line = self.mul(line, self.size(last.size))

        def border(w: str, _: list[str]) -> list[str]:
            taps = [outer, inside, self.taps(last, w)]
            self.window(line, windows, w, taps, own)
            return []

        def inner(w: str, _: list[str]) -> list[str]:
            self.window(line, windows, w, self.full(w), None)
            return []

        is_bordered = last.padded or any(c is not None for c in whole)
        if is_bordered:
            self.loop("0", lo, 1, [], border)
        together = pixels_together(self.channels, last.stride, VECTOR_BYTES // self.dtype.itemsize)
        if self.pool.backward and self.adds and last.window > UNROLLED:
            together = 1  # for the order of sums
        if together == 1:
            self.loop(lo, hi, 1, [], inner)
        else:
            self.packed(line, windows, lo, hi, together)
        if is_bordered:
            self.loop(hi, count, 1, [], border)

    def full(self, w: str) -> list[Taps]:
        """All elements of a window that lies in the array."""
        return [*(Taps("", "0", str(a.window)) for a in self.axes[:2]), self.whole(w)]

    def packed(self, line: str, windows: str, lo: str, hi: str, together: int) -> None:
        """Several windows a vector."""
        whole = self.text.assign(f"udiv i64 {self.sub(hi, lo)}, {together}")
        whole = self.add(lo, self.mul(whole, str(together)))
        stride = self.axes[2].stride

        def several(w: str, limit: str | None = None) -> list[str]:
            taps = self.full(w)
            lanes = PixelLanes(
                self.memory, self.channels, stride, together,
                VECTOR_BYTES // self.dtype.itemsize, limit,
            )  # fmt: skip
            self.lanes(lanes, *self.starts(line, windows, w, taps), taps, taps)
            return []

        self.loop(lo, whole, together, [], lambda w, _: several(w))
        self.loop(whole, hi, together, [], lambda w, _: several(w, self.sub(hi, w)))

    def starts(self, line: str, windows: str, w: str, taps: Sequence[Taps]) -> tuple[str, str]:
        """The offsets of a window's first element, and of what there is one of a window."""
        channels = str(self.channels)
        return (
            self.mul(self.add(line, taps[2].base), channels),
            self.mul(self.add(windows, w), channels),
        )

    def window(
        self, line: str, windows: str, w: str, taps: Sequence[Taps], own: Taps | None
    ) -> None:
        """One window, its channels some vectors at a time."""
        first, at = self.starts(line, windows, w, taps)
        written = [own or taps[0], *taps[1:]]
        lanes = VECTOR_BYTES // self.dtype.itemsize
        together = TOGETHER_BACKWARD if self.pool.backward else TOGETHER
        columns = vectors_of(self.channels, lanes)
        groups = self.channels // (lanes * together)
        repeated = groups * together if groups > 1 else 0
        if repeated:

            def group(c: str, _: list[str]) -> list[str]:
                some = ChannelLanes(self.memory, columns[:together])
                self.lanes(some, self.add(first, c), self.add(at, c), taps, written)
                return []

            self.loop("0", str(repeated * lanes), together * lanes, [], group)
        for k in range(repeated, len(columns), together):
            start = columns[k].start
            rest = [Columns(v.start - start, v.lanes, v.count) for v in columns[k : k + together]]
            self.lanes(
                ChannelLanes(self.memory, rest), self.add(first, str(start)),
                self.add(at, str(start)), taps, written,
            )  # fmt: skip
