"""One tile of a convolution's filter gradient as an LLVM function.

    define internal void @k_conv_filter_gradient_3f9a1c_tile0(
        i64 %count, i64 %columns, i64 %a, i64 %b, i64 %apart, ptr %sums, ptr %rows,
        ptr %next, i64 %pitch)

adds to `sums` the products of `tall` channels with a panel of `wide` ones, over `columns` places
of each of `count` rows. The table `rows` says where x and g begin; `a` and `b` are the bytes from
there to the channels at work, and `apart` those from one row of taps to the next:

    for x, g in rows[:count]:
        for place in range(columns):
            total[r, :] += x[place, r] * g[place, :]
    sums += total

`%next` is in the next block, `%pitch` bytes from place to place: if that comes from memory, each
call asks for some bytes of all places.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphgrad.compiler.codegen.llvm_numbers import Numbers
from graphgrad.compiler.codegen.llvm_products import Columns, vectors_of
from graphgrad.compiler.codegen.llvm_scalar import (
    ATTRIBUTES,
    FunctionText,
    ModuleParts,
    llvm_type,
)
from graphgrad.compiler.codegen.llvm_vectors import suffix
from graphgrad.compiler.kernels.filter_tiles import FilterTiles

POINTER_BYTES = 8
ENTRY_BYTES = 2 * POINTER_BYTES  # of the table: where x and g begin
LINE_BYTES = 64


class FilterTile(Numbers):
    """Emits the function of a tile: its rows are `offsets` elements from the first, for each of
    `taps` rows of the filter; its panel has `channels`."""

    def __init__(
        self, tiles: FilterTiles, offsets: Sequence[int], taps: int, channels: int,
        parts: ModuleParts,
    ) -> None:  # fmt: skip
        self.parts, self.text, self.block = parts, FunctionText(parts), "entry"
        self.dtype = tiles.dtype
        self.element, self.bytes = llvm_type(self.dtype), self.dtype.itemsize
        self.vectors = vectors_of(channels, tiles.lanes)
        self.offsets, self.taps = offsets, taps
        self.tiles = tiles

    def emit(self, name: str) -> str:
        rows = len(self.offsets) * self.taps
        types = [f"<{v.lanes} x {self.element}>" for v in self.vectors] * rows
        zeros = [(t, "zeroinitializer") for t in types]
        totals = self.loop("0", "%count", 1, zeros, self.row)
        line = "%sums"
        for r in range(rows):
            for i, v in enumerate(self.vectors):
                total = totals[r * len(self.vectors) + i]
                type_ = f"<{v.lanes} x {self.element}>"
                sum_ = self.text.assign(f"fadd {type_} {self.load(line, v)}, {total}")
                self.store(line, v, sum_)
            line = self.at(line, str(self.pitch))
        self.text.line("ret void")
        return "\n".join([
            f"define internal void @{name}(i64 %count, i64 %columns, i64 %a, i64 %b, i64 %apart, "
            f"ptr %sums, ptr %rows, ptr %next, i64 %pitch) noinline {ATTRIBUTES} {{",
            "entry:", *self.text.lines, "}",
        ])  # fmt: skip

    @property
    def pitch(self) -> int:
        """Bytes from one row of sums to the next."""
        tiles = self.tiles
        return (tiles.inputs if tiles.swapped else tiles.conv.outputs) * self.bytes

    def row(self, index: str, totals: list[str]) -> list[str]:
        """The places of one row of the table."""
        conv = self.tiles.conv
        entry = self.at("%rows", self.mul(index, ENTRY_BYTES))
        x = self.text.assign(f"load ptr, ptr {entry}")
        g = self.text.assign(f"load ptr, ptr {self.at(entry, str(POINTER_BYTES))}")
        steps = [conv.strides[2] * conv.inputs * self.bytes, conv.outputs * self.bytes]
        if self.tiles.swapped:
            x, g = g, x
            steps.reverse()
        starts = [self.at(x, "%a")]
        for _ in range(1, self.taps):
            starts.append(self.at(starts[-1], "%apart"))
        pointers = [("ptr", p) for p in (*starts, self.at(g, "%b"))]
        if self.tiles.asks_ahead:
            pointers.append(("ptr", "%next"))
        n = len(starts)

        def place(_: str, carried: list[str]) -> list[str]:
            tall, wide, sums = carried[:n], carried[n], carried[len(pointers) :]
            right = [self.load(wide, v) for v in self.vectors]
            ends = [str(self.at(a, str(steps[0]))) for a in tall]
            ends.append(self.at(wide, str(steps[1])))
            if self.tiles.asks_ahead:
                ends.append(self.ask(carried[n + 1]))
            terms = iter(sums)
            for a in tall:
                for offset in self.offsets:
                    pointer = self.at(a, str(offset * self.bytes))
                    x = self.text.assign(f"load {self.element}, ptr {pointer}, align {self.bytes}")
                    for v, y in zip(self.vectors, right, strict=True):
                        ends.append(self.multiply_add(x, y, next(terms), v))
            return ends

        types = [f"<{v.lanes} x {self.element}>" for v in self.vectors]
        types *= len(self.offsets) * self.taps
        carried = [*pointers, *zip(types, totals, strict=True)]
        return self.loop("0", "%columns", 1, carried, place)[len(pointers) :]

    def ask(self, at: str) -> str:
        """Ask for as many bytes as the tile has rows; where the next place's are."""
        self.parts.declares.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for start in range(0, len(self.offsets) * self.bytes, LINE_BYTES):
            line = self.at(at, str(start))
            self.text.line(f"call void @llvm.prefetch.p0(ptr {line}, i32 0, i32 2, i32 1)")
        return self.at(at, "%pitch")

    # -- vectors

    def load(self, row: str, v: Columns) -> str:
        type_, pointer = f"<{v.lanes} x {self.element}>", self.at(row, str(v.start * self.bytes))
        if v.count == v.lanes:
            return self.text.assign(f"load {type_}, ptr {pointer}, align {self.bytes}")
        name = f"@llvm.masked.load.v{v.lanes}{suffix(self.dtype)}.p0"
        self.parts.declares.add(f"declare {type_} {name}(ptr, i32, <{v.lanes} x i1>, {type_})")
        return self.text.assign(
            f"call {type_} {name}(ptr {pointer}, i32 {self.bytes}, {inside(v)}, "
            f"{type_} zeroinitializer)"
        )

    def store(self, row: str, v: Columns, value: str) -> None:
        type_, pointer = f"<{v.lanes} x {self.element}>", self.at(row, str(v.start * self.bytes))
        if v.count == v.lanes:
            self.text.line(f"store {type_} {value}, ptr {pointer}, align {self.bytes}")
            return
        name = f"@llvm.masked.store.v{v.lanes}{suffix(self.dtype)}.p0"
        self.parts.declares.add(f"declare void {name}({type_}, ptr, i32, <{v.lanes} x i1>)")
        self.text.line(
            f"call void {name}({type_} {value}, ptr {pointer}, i32 {self.bytes}, {inside(v)})"
        )

    def multiply_add(self, x: str, y: str, z: str, v: Columns) -> str:
        """x y + z of a scalar x, rounded once where the processor can do that."""
        type_ = f"<{v.lanes} x {self.element}>"
        one = self.text.assign(f"insertelement {type_} poison, {self.element} {x}, i64 0")
        if v.lanes > 1:
            first = f"<{v.lanes} x i32> zeroinitializer"
            one = self.text.assign(f"shufflevector {type_} {one}, {type_} poison, {first}")
        name = f"@llvm.fmuladd.v{v.lanes}{suffix(self.dtype)}"
        self.parts.declares.add(f"declare {type_} {name}({type_}, {type_}, {type_})")
        return self.text.assign(f"call {type_} {name}({type_} {one}, {type_} {y}, {type_} {z})")


def inside(v: Columns) -> str:
    """Which lanes of a vector are there, as a mask."""
    lanes = ", ".join(f"i1 {'true' if i < v.count else 'false'}" for i in range(v.lanes))
    return f"<{v.lanes} x i1> <{lanes}>"
