"""What pooling computes for some lanes of windows: maxima, means and their derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphgrad.compiler.codegen.llvm_columns import Memory
from graphgrad.compiler.codegen.llvm_pixels import VECTOR_BYTES, Lanes
from graphgrad.compiler.codegen.llvm_windows import Taps, WindowLoops, written_out
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.pools import Pool
from graphgrad.compiler.types import element_count

NAN = "0x7FF8000000000000"
FETCHED_BYTES = 8 << 20  # of more than this, the next rows are asked for while a row is at work


def flags(type_: str) -> str:
    """The type of a comparison of vectors."""
    return f"{type_.split(' x ')[0]} x i1>"


class PoolArithmetic(WindowLoops):
    """Emits the arithmetic of one pooling operation; `windows` is the array that has one element a
    window, `arrays` are the others."""

    pool: Pool
    dtype: DType
    memory: Memory
    windows: str
    arrays: Sequence[str]

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
