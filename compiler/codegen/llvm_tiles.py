"""Tiles: nests that read or write arrays across their memory (`kernels/tiles.py`).

A tile is as many rows as a vector has lanes, and `VECTORS` vectors of each. What is read across it
is loaded along its own memory, turned in registers and left in a scratch tile, from which the rows
read neighbours. What is written across goes the same way back.
"""

from __future__ import annotations

from collections.abc import Callable

from graphgrad.compiler.codegen import llvm_streams as streams
from graphgrad.compiler.codegen.llvm_loops import Loops
from graphgrad.compiler.codegen.llvm_rows import RowsEmitter
from graphgrad.compiler.codegen.llvm_scalar import (
    ATTRIBUTES,
    FunctionText,
    Lanes,
    ModuleParts,
    VectorEmitter,
)
from graphgrad.compiler.codegen.llvm_vectors import Mask, memory_type
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.loops import Access, LoopNest
from graphgrad.compiler.kernels.tiles import crosswise

# Vectors of a row in a tile.
VECTORS = 4
# Columns that are a multiple of this apart share few sets of a cache.
SHARING_BYTES = 512


class TileEmitter(RowsEmitter):
    """Emits the function of one nest in tiles."""

    def __init__(self, nest: LoopNest, name: str, parts: ModuleParts) -> None:
        super().__init__(nest, name, parts)
        self.columns = VECTORS * self.width  # of a tile
        found = crosswise(nest)
        self.loaded = {s.attr: s.dtype for s in found if s.fn == "load"}
        self.stored = {s.attr: s.dtype for s in found if s.fn == "store"}
        self.tiles: dict[tuple[str, Access], str] = {}
        self.row_at, self.first = "0", "0"  # where a row is in a tile, and the tile's first column

    def parallel_loop(self) -> None:
        for kind, found in (("load", self.loaded), ("store", self.stored)):
            for access, dtype in found.items():
                tile = "%" + self.text.name("tile")
                size = f"[{self.width * self.columns} x {memory_type(dtype)}]"
                self.allocas.append(f"{tile} = alloca {size}, align 64")
                self.tiles[kind, access] = tile
        super().parallel_loop()

    def rows_of(self, begin: str, end: str) -> None:
        columns = self.extent(len(self.nest.dims) - 1)

        def down(start: str, _: list[str]) -> list[str]:
            past = self.minmax("smin", self.arith("add", start, str(self.width)), end)
            row = self.minmax("smax", start, begin)
            rows = self.arith("sub", past, row)

            def across(column: str, _: list[str]) -> list[str]:
                count = self.minmax("smin", self.arith("sub", columns, column), str(self.columns))
                self.tile(row, rows, column, count)
                return []

            self.loop("0", columns, self.columns, [], across)
            return []

        self.loop(self.arith("sub", begin, self.rows_before(begin)), end, self.width, [], down)

    def rows_before(self, row: str) -> str:
        """How many rows before `row` the first of the turned arrays begins a cache line.

        Tiles begin there where columns share sets of the cache: of a line that belongs to two
        tiles, the second would find nothing left.
        """
        access, dtype = next(iter((self.loaded | self.stored).items()))
        size = dtype.itemsize
        self.dim_values[self.dim] = row
        place = self.pointer(access.array, self.offset(access.at, self.outer_dims()))
        address = self.text.assign(f"ptrtoint ptr {place} to i64")
        rest = self.arith("and", address, str(streams.LINE - 1))
        before = self.text.assign(f"lshr i64 {rest}, {size.bit_length() - 1}")
        pitch = self.arith("mul", self.stride(access.at), str(size))
        apart = self.arith("and", pitch, str(SHARING_BYTES - 1))
        sharing = self.text.assign(f"icmp eq i64 {apart}, 0")
        before = self.arith("and", before, str(self.width - 1))
        return self.text.assign(f"select i1 {sharing}, i64 {before}, i64 0")

    def tile(self, row: str, rows: str, column: str, count: str) -> None:
        """One tile: turn what is read, compute its rows, turn what is written."""
        self.dim_values[self.dim], self.first = row, column
        for access, dtype in self.loaded.items():
            self.turn("load", access, dtype, rows, count)
        stop = self.arith("add", column, count)

        def inside(index: str, _: list[str]) -> list[str]:
            self.dim_values[self.dim] = self.arith("add", row, index)
            self.row_at = self.arith("mul", index, str(self.columns))
            self.rows = {}
            self.phases(self.nest.main, column, stop)
            return []

        self.loop("0", rows, 1, [], inside)
        self.dim_values[self.dim] = row
        for access, dtype in self.stored.items():
            self.turn("store", access, dtype, rows, count)

    def turn(self, kind: str, access: Access, dtype: DType, rows: str, count: str) -> None:
        """Move a tile to scratch, or from it."""
        name = turning_function(self.parts, kind, dtype.itemsize * 8, self.width)
        stride = self.stride(access.at)
        base = self.offset(access.at, self.outer_dims())
        at = self.arith("add", base, self.arith("mul", self.first, stride))
        outside, tile = self.pointer(access.array, at), self.tiles[kind, access]
        self.text.line(
            f"call void @{name}(ptr {outside}, i64 {stride}, ptr {tile}, i64 {rows}, i64 {count})"
        )

    def in_tile(self, kind: str, access: Access, dtype: DType, index: str) -> str:
        """Where the element of the row at work lies in a scratch tile."""
        at = self.arith("add", self.row_at, self.arith("sub", index, self.first))
        element = memory_type(dtype)
        tile = self.tiles[kind, access]
        return self.text.assign(f"getelementptr {element}, ptr {tile}, i64 {at}")

    def load(self, e: VectorEmitter, access: Access, dtype: DType, index: str, mask: Mask) -> Lanes:
        if access in self.loaded and e.width > 1:
            return self.load_vector(e, self.in_tile("load", access, dtype, index), dtype, mask)
        return super().load(e, access, dtype, index, mask)

    def store(self, e: VectorEmitter, access: Access, x: Lanes, index: str, mask: Mask) -> None:
        if access in self.stored and e.width > 1:
            value = f"<{e.width} x {memory_type(x.dtype)}> {self.to_memory(x, e.width)}"
            pointer = self.in_tile("store", access, x.dtype, index)
            self.text.line(f"store {value}, ptr {pointer}, align {x.dtype.itemsize}")
            return
        super().store(e, access, x, index, mask)


def turning_function(parts: ModuleParts, kind: str, bits: int, width: int) -> str:
    """The name of the function that turns tiles of elements of `bits` bits, part of the module."""
    name = f"{kind}_across_{bits}_{width}"
    if name not in parts.functions:
        parts.functions[name] = Turning(parts, bits, width).function(name, kind)
    return name


class Turning(Loops):
    """Writes the functions that turn tiles.

        void @load_across(ptr %outside, i64 %pitch, ptr %tile, i64 %rows, i64 %columns)

    sets tile[i, j] = outside[j * pitch + i]; @store_across sets outside from the tile.
    """

    def __init__(self, parts: ModuleParts, bits: int, width: int) -> None:
        self.parts, self.bits, self.width = parts, bits, width
        self.text = FunctionText(parts)
        self.block = "entry"
        self.element, self.vector = f"i{bits}", f"<{width} x i{bits}>"
        self.align = f"align {bits // 8}"

    def function(self, name: str, kind: str) -> str:
        w = self.width
        lanes = ", ".join(f"i64 {k}" for k in range(w))
        arguments = "ptr %outside, i64 %pitch, ptr %tile, i64 %rows, i64 %columns"
        head = f"define internal void @{name}({arguments}) noinline {ATTRIBUTES} {{"
        self.text.line(f"%part = alloca [{w * w} x {self.element}], align 64")
        self.text.line(f"%one = insertelement <{w} x i64> poison, i64 %rows, i64 0")
        first = f"<{w} x i32> zeroinitializer"
        self.text.line(f"%all = shufflevector <{w} x i64> %one, <{w} x i64> poison, {first}")
        self.text.line(f"%mask = icmp slt <{w} x i64> <{lanes}>, %all")
        self.text.line(f"%tall = icmp sge i64 %rows, {w}")

        def block(column: str, _: list[str]) -> list[str]:
            at = self.text.assign(f"mul i64 {column}, %pitch")
            outside = self.at("%outside", at)
            tile = self.at("%tile", column)
            left = self.text.assign(f"sub i64 %columns, {column}")
            broad = self.text.assign(f"icmp sge i64 {left}, {w}")
            whole = self.text.assign(f"and i1 {broad}, %tall")
            if kind == "load":
                self.load_block(outside, tile, whole, left)
            else:
                self.store_block(outside, tile, whole, left)
            return []

        self.loop("0", "%columns", w, [], block)
        self.text.line("ret void")
        return "\n".join([head, "entry:", *self.text.lines, "}"])

    def load_block(self, outside: str, tile: str, whole: str, left: str) -> None:
        """Columns of an array become rows of a tile; by way of %part where there are fewer."""
        direct, copied, turned = (self.text.name(s) for s in ("direct", "copied", "turned"))
        self.text.line(f"br i1 {whole}, label %{direct}, label %{copied}")
        self.label(copied)
        self.columns_of_part(left, lambda k: self.copy_masked(outside, k, load=True))
        end = self.block
        self.text.line(f"br label %{turned}")
        self.label(direct)
        self.text.line(f"br label %{turned}")
        self.label(turned)
        where = self.text.assign(f"phi ptr [ {outside}, %{direct} ], [ %part, %{end} ]")
        pitch = self.text.assign(f"phi i64 [ %pitch, %{direct} ], [ {self.width}, %{end} ]")
        rows = self.turned(self.load_vectors(where, pitch))
        self.store_vectors(rows, tile, str(VECTORS * self.width))

    def store_block(self, outside: str, tile: str, whole: str, left: str) -> None:
        columns = self.turned(self.load_vectors(tile, str(VECTORS * self.width)))
        direct, copied, after = (self.text.name(s) for s in ("direct", "copied", "after"))
        self.text.line(f"br i1 {whole}, label %{direct}, label %{copied}")
        self.label(copied)
        self.store_vectors(columns, "%part", str(self.width))
        self.columns_of_part(left, lambda k: self.copy_masked(outside, k, load=False))
        self.text.line(f"br label %{after}")
        self.label(direct)
        self.store_vectors(columns, outside, "%pitch")
        self.text.line(f"br label %{after}")
        self.label(after)

    # -- vectors

    def at(self, pointer: str, elements: str) -> str:
        return self.text.assign(f"getelementptr {self.element}, ptr {pointer}, i64 {elements}")

    def load_vectors(self, pointer: str, pitch: str) -> list[str]:
        """As many vectors as they have lanes, `pitch` elements apart."""
        vectors = []
        for k in range(self.width):
            if k:
                pointer = self.at(pointer, pitch)
            vectors.append(self.text.assign(f"load {self.vector}, ptr {pointer}, {self.align}"))
        return vectors

    def store_vectors(self, vectors: list[str], pointer: str, pitch: str) -> None:
        for k, x in enumerate(vectors):
            if k:
                pointer = self.at(pointer, pitch)
            self.text.line(f"store {self.vector} {x}, ptr {pointer}, {self.align}")

    def columns_of_part(self, left: str, copy: Callable[[str], None]) -> None:
        """A loop over the columns of a block that is not whole."""
        self.parts.declares.add("declare i64 @llvm.smin.i64(i64, i64)")
        count = self.text.assign(f"call i64 @llvm.smin.i64(i64 {left}, i64 {self.width})")

        def inside(index: str, _: list[str]) -> list[str]:
            copy(index)
            return []

        self.loop("0", count, 1, [], inside)

    def copy_masked(self, outside: str, index: str, load: bool) -> None:
        """One column of an array, as far as there are rows, to or from a row of %part."""
        column = self.at(outside, self.text.assign(f"mul i64 {index}, %pitch"))
        part = self.at("%part", self.text.assign(f"mul i64 {index}, {self.width}"))
        w, kind = self.width, f"v{self.width}i{self.bits}.p0"
        mask, align = f"<{w} x i1>", self.bits // 8
        if load:
            function = f"@llvm.masked.load.{kind}"
            self.parts.declares.add(
                f"declare {self.vector} {function}(ptr, i32, {mask}, {self.vector})"
            )
            x = self.text.assign(
                f"call {self.vector} {function}(ptr {column}, i32 {align}, {mask} %mask, "
                f"{self.vector} zeroinitializer)"
            )
            self.text.line(f"store {self.vector} {x}, ptr {part}, {self.align}")
            return
        function = f"@llvm.masked.store.{kind}"
        self.parts.declares.add(f"declare void {function}({self.vector}, ptr, i32, {mask})")
        x = self.text.assign(f"load {self.vector}, ptr {part}, {self.align}")
        where = f"ptr {column}, i32 {align}, {mask} %mask"
        self.text.line(f"call void {function}({self.vector} {x}, {where})")

    def turned(self, rows: list[str]) -> list[str]:
        """The columns of a square of vectors, in stages of pairs.

        In a stage, bit `b` of a vector's number changes places with a bit of its lanes'. Within
        128 bits, where processors have instructions that interleave, lanes move up by a bit in
        each stage, so that the low bits of the number come out in reverse.
        """
        chunk = min(128 // self.bits, self.width)
        b = 1
        while b < self.width:
            low, high = (interleaved if b < chunk else exchanged)(b, chunk, self.width)
            for k in range(self.width):
                if not k & b:
                    pair = f"{self.vector} {rows[k]}, {self.vector} {rows[k + b]}"
                    rows[k], rows[k + b] = self.shuffled(pair, low), self.shuffled(pair, high)
            b *= 2
        bits = chunk.bit_length() - 1
        return [rows[k - k % chunk + reverse(k % chunk, bits)] for k in range(self.width)]

    def shuffled(self, pair: str, lanes: list[int]) -> str:
        text = ", ".join(f"i32 {k}" for k in lanes)
        return self.text.assign(f"shufflevector {pair}, <{self.width} x i32> <{text}>")


Masks = tuple[list[int], list[int]]


def interleaved(b: int, chunk: int, width: int) -> Masks:
    """Runs of `b` lanes of two vectors in turn: those of the lower, and of the upper half of each
    chunk.

    >>> interleaved(1, 4, 4)
    ([0, 4, 1, 5], [2, 6, 3, 7])
    """
    low = []
    for k in range(width):
        start, t = k - k % chunk, k % chunk
        low.append(start + t // (2 * b) * b + t % b + (width if t & b else 0))
    return low, [k + chunk // 2 for k in low]


def exchanged(b: int, chunk: int, width: int) -> Masks:
    """Runs of `b` lanes: the second of the first vector for the first of the second one.

    >>> exchanged(2, 2, 4)
    ([0, 1, 4, 5], [2, 3, 6, 7])
    """
    low = [k - b + width if k & b else k for k in range(width)]
    return low, [k + b for k in low]


def reverse(number: int, bits: int) -> int:
    """The lowest `bits` bits in reverse.

    >>> reverse(0b011, 3) == 0b110
    True
    """
    return sum((number >> k & 1) << (bits - 1 - k) for k in range(bits))
