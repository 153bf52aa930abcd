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

from graphgrad.compiler.codegen.llvm_columns import Columns, Memory, vectors_of
from graphgrad.compiler.codegen.llvm_numbers import Numbers
from graphgrad.compiler.codegen.llvm_scalar import (
    ATTRIBUTES,
    FunctionText,
    ModuleParts,
    llvm_type,
)
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
        self.memory = Memory(self.text, parts, self.dtype)
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
                pointer = self.at(line, str(v.start * self.bytes))
                self.memory.store(pointer, sum_, v.lanes, v.mask)
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
                        everywhere = self.memory.splat(x, v.lanes)
                        ends.append(self.memory.multiply_add(everywhere, y, next(terms), v.lanes))
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

    def load(self, row: str, v: Columns) -> str:
        return self.memory.load(self.at(row, str(v.start * self.bytes)), v.lanes, v.mask)
