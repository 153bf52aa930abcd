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

from collections.abc import Callable, Sequence

import numpy as np

from graphgrad.compiler.codegen.llvm_columns import Columns, Memory, vectors_of
from graphgrad.compiler.codegen.llvm_pixels import (
    VECTOR_BYTES,
    ChannelLanes,
    Lanes,
    PixelLanes,
    pixels_together,
)
from graphgrad.compiler.codegen.llvm_scalar import FunctionText, ModuleParts, llvm_type
from graphgrad.compiler.codegen.llvm_windows import UNROLLED, Taps, WindowLoops, written_out
from graphgrad.compiler.kernels.pools import Pool
from graphgrad.compiler.types import element_count

POINTERS = {
    "max_pool": ("x", "z"),
    "mean_pool": ("x", "z"),
    "max_pool_tangent": ("t", "x", "z"),
    "max_pool_gradient": ("g", "x", "dx"),
    "mean_pool_gradient": ("g", "dx"),
}
NAN = "0x7FF8000000000000"
FETCHED_BYTES = 8 << 20  # of more than this, the next rows are asked for while a row is at work
# Vectors of a window at a time: forward they hide each other's latency, backward the elements of a
# window stay in registers.
TOGETHER, TOGETHER_BACKWARD = 4, 2


def flags(type_: str) -> str:
    """The type of a comparison of vectors."""
    return f"{type_.split(' x ')[0]} x i1>"


class PoolEmitter(WindowLoops):
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

    # -- the arithmetic of some lanes

    def lanes(
        self, lanes: Lanes, first: str, at: str, taps: Sequence[Taps], written: Sequence[Taps]
    ) -> None:
        """The windows whose first element is at `first`, and that are at `at` among windows."""
        self.corners = {p: self.after(f"%{p}", first) for p in self.arrays}
        place = self.after(f"%{self.windows}", at)
        kinds: dict[str, Callable[..., None]] = {
            "max_pool": self.maximum,
            "mean_pool": self.mean,
            "max_pool_tangent": self.tangent,
            "max_pool_gradient": self.max_gradient,
            "mean_pool_gradient": self.mean_gradient,
        }
        kinds[self.pool.routine](lanes, place, taps, written)

    def maximum(self, lanes: Lanes, z: str, taps: Sequence[Taps], _: object) -> None:
        lanes.put_flat(z, self.maxima(lanes, taps, {}))

    def mean(self, lanes: Lanes, z: str, taps: Sequence[Taps], _: object) -> None:
        def add(offset: str, number: str, sums: list[str]) -> list[str]:
            self.ahead(lanes, offset, number)
            return self.each(lanes, "fadd", sums, lanes.load(self.after(self.corners["x"], offset)))

        zeros = [(t, "zeroinitializer") for t in lanes.types]
        sums = self.each_tap(taps, zeros, add)
        lanes.put_flat(z, self.each(lanes, "fdiv", sums, self.seen(lanes, taps)))

    def tangent(self, lanes: Lanes, z: str, taps: Sequence[Taps], _: object) -> None:
        loaded: dict[str, list[str]] = {}
        maxima = self.maxima(lanes, taps, loaded)

        def add(offset: str, number: str, values: list[str]) -> list[str]:
            hits = self.hits(lanes, offset, number, maxima, loaded)
            ts = lanes.load(self.after(self.corners["t"], offset))
            half = len(maxima)
            sums = self.each(lanes, "fadd", values[:half], self.where(lanes, hits, ts))
            ones = [self.splat(t, "1.0") for t in lanes.types]
            counts = self.each(lanes, "fadd", values[half:], self.where(lanes, hits, ones))
            return [*sums, *counts]

        zeros = [(t, "zeroinitializer") for t in lanes.types]
        found = self.each_tap(taps, [*zeros, *zeros], add)
        sums, counts = found[: len(maxima)], found[len(maxima) :]
        lanes.put_flat(z, self.each(lanes, "fdiv", sums, self.some(lanes, counts)))

    def max_gradient(
        self, lanes: Lanes, g: str, taps: Sequence[Taps], written: Sequence[Taps]
    ) -> None:
        loaded: dict[str, list[str]] = {}
        maxima = self.maxima(lanes, taps, loaded)

        def count(offset: str, number: str, counts: list[str]) -> list[str]:
            hits = self.hits(lanes, offset, number, maxima, loaded)
            ones = [self.splat(t, "1.0") for t in lanes.types]
            return self.each(lanes, "fadd", counts, self.where(lanes, hits, ones))

        zeros = [(t, "zeroinitializer") for t in lanes.types]
        counts = self.some(lanes, self.each_tap(taps, zeros, count))
        shares = self.each(lanes, "fdiv", lanes.load_flat(g), counts)

        def give(offset: str, number: str, _: list[str]) -> list[str]:
            hits = self.hits(lanes, offset, number, maxima, loaded)
            place = self.after(self.corners["dx"], offset)
            lanes.put(place, self.where(lanes, hits, shares), self.adds)
            return []

        self.each_tap(written, [], give, backwards=True)

    def mean_gradient(
        self, lanes: Lanes, g: str, taps: Sequence[Taps], written: Sequence[Taps]
    ) -> None:
        shares = self.each(lanes, "fdiv", lanes.load_flat(g), self.seen(lanes, taps))

        def give(offset: str, _: str, __: list[str]) -> list[str]:
            lanes.put(self.after(self.corners["dx"], offset), shares, self.adds)
            return []

        self.each_tap(written, [], give, backwards=True)

    @property
    def adds(self) -> bool:
        """May several windows give to an element?"""
        return not all(a.disjoint for a in self.axes)

    def maxima(self, lanes: Lanes, taps: Sequence[Taps], loaded: dict[str, list[str]]) -> list[str]:
        """The maxima of windows, NaN if an element is; elements that stay in registers come into
        `loaded`, by number."""
        types, count = lanes.types, len(lanes.types)
        floats, in_loops = self.dtype.is_floating, written_out(taps) is None

        def take(offset: str, number: str, carried: list[str]) -> list[str]:
            self.ahead(lanes, offset, number)
            xs = lanes.load(self.after(self.corners["x"], offset))
            if not in_loops:
                loaded[number] = xs
            above = self.each(lanes, self.above, carried[:count], xs)
            best = self.pick(types, above, carried[:count], xs)
            if in_loops and floats:
                nans = self.each(lanes, "fcmp uno", xs, xs)
                best += self.union(types, carried[count:], nans)
            return best

        start = [(t, self.splat(t, self.lowest())) for t in types]
        if in_loops and floats:
            start += [(flags(t), "zeroinitializer") for t in types]
        best = self.each_tap(taps, start, take)
        if not floats:
            return best
        nans = best[count:]
        if not in_loops:  # one comparison tells of two elements
            all_ = list(loaded.values())
            for xs, ys in zip(all_[::2], [*all_[1::2], all_[-1]], strict=False):
                found = self.each(lanes, "fcmp uno", xs, ys)
                nans = self.union(types, nans, found) if nans else found
        return self.pick(types, nans, [self.splat(t, NAN) for t in types], best[:count])

    @property
    def above(self) -> str:
        """The comparison of what is larger."""
        if self.dtype.is_floating:
            return "fcmp ogt"
        return "icmp sgt" if self.dtype.kind == "i" else "icmp ugt"

    def union(self, types: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[str]:
        return [
            self.text.assign(f"or {flags(t)} {x}, {y}") for t, x, y in zip(types, a, b, strict=True)
        ]

    def pick(
        self, types: Sequence[str], conditions: Sequence[str], xs: Sequence[str], ys: Sequence[str]
    ) -> list[str]:
        """x where the condition holds, else y."""
        return [
            self.text.assign(f"select {flags(t)} {c}, {t} {x}, {t} {y}")
            for t, c, x, y in zip(types, conditions, xs, ys, strict=True)
        ]

    def ahead(self, lanes: Lanes, offset: str, number: str) -> None:
        """Ask for what the next row of windows reads and this one does not, if x is large."""
        outer, middle, last = self.axes
        if not number.isdigit() or not self.is_large:
            return
        k = int(number)
        newest = last.window - last.stride, outer.window - outer.stride
        if k % last.window < newest[0] or k // (last.window * middle.window) < newest[1]:
            return
        rows = self.mul(self.size(middle.size), self.size(last.size))
        step = self.mul(rows, str(outer.stride * self.channels))
        here = self.after(self.corners["x"], self.add(offset, step))
        self.parts.declares.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for i in range(len(lanes.types)):
            line = self.after(here, str(i * VECTOR_BYTES // self.dtype.itemsize))
            self.text.line(f"call void @llvm.prefetch.p0(ptr {line}, i32 0, i32 3, i32 1)")

    @property
    def is_large(self) -> bool:
        """Does the array not stay in a cache, as far as is known?"""
        sizes = self.pool.images, *(a.size for a in self.axes)
        count = element_count(n for n in sizes if isinstance(n, int)) * self.channels
        known = all(isinstance(n, int) for n in sizes)
        return not known or count * self.dtype.itemsize > FETCHED_BYTES

    def lowest(self) -> str:
        if not self.dtype.is_floating:
            return str(np.iinfo(self.dtype.dtype).min)
        return "0xFFF0000000000000"

    def hits(
        self, lanes: Lanes, offset: str, number: str, maxima: list[str],
        loaded: dict[str, list[str]],
    ) -> list[str]:  # fmt: skip
        """Which elements equal the maximum of their window."""
        xs = loaded.get(number) or lanes.load(self.after(self.corners["x"], offset))
        return self.each(lanes, "fcmp oeq", xs, maxima)

    def where(self, lanes: Lanes, hits: list[str], values: Sequence[str]) -> list[str]:
        zeros = ["zeroinitializer"] * len(values)
        return self.pick(lanes.types, hits, values, zeros)

    def some(self, lanes: Lanes, counts: list[str]) -> list[str]:
        """Counts, but 1 where none was found: beside a NaN."""
        ones = [self.splat(t, "1.0") for t in lanes.types]
        none = self.each(lanes, "fcmp olt", counts, ones)
        return self.pick(lanes.types, none, ones, counts)

    def seen(self, lanes: Lanes, taps: Sequence[Taps]) -> list[str]:
        """How many elements a window has in the array; 1 if none."""
        known = [t.known for t in taps]
        ranges = [len(r) for r in known if r is not None]
        if len(ranges) == len(known):
            count = f"{float(np.prod(ranges))!r}"
        else:
            total = "1"
            for t in taps:
                total = self.mul(total, self.max(self.sub(t.hi, t.lo), "0"))
            total = self.max(total, "1")
            count = self.text.assign(f"sitofp i64 {total} to {self.element}")
        return [self.splat(t, count) for t in lanes.types]

    def each(self, lanes: Lanes, what: str, xs: Sequence[str], ys: Sequence[str]) -> list[str]:
        return [
            self.text.assign(f"{what} {t} {x}, {y}")
            for t, x, y in zip(lanes.types, xs, ys, strict=True)
        ]

    def splat(self, type_: str, x: str) -> str:
        """A vector of one number."""
        lanes = int(type_[1:].split(" x ")[0])
        if not x.startswith("%"):
            return "<" + ", ".join([f"{self.element} {x}"] * lanes) + ">"
        return self.memory.splat(x, lanes)
