"""The filter gradient of a convolution as LLVM functions.

    define internal i32 @k_conv_filter_gradient_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)
    define internal i32 @k_conv_filter_gradient_3f9a1c_sum(ptr %status, i64 %lo, i64 %hi, ptr %args)

The items of the first are parts of the result by splits of the places (`kernels/filter_tiles.py`).
Each runs over the blocks of its split:

    for depth, row of taps of the part:
        rows = where x and g begin, for each row of the block that these taps reach in x
        for panel of the part:
            for tap of the row, tile of channels:
                sums[tap, tile, panel] += the products over the block          (`llvm_filter_tile`)

so that the panel's channels of the block stay in the first-level cache. Borders are ranges of rows
and columns; where taps are merged, the block is copied with zeros around it instead. The second
function adds the partial results of the splits in order, and transposes swapped ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_convolution_kernel import Buffer, Launch
from graphgrad.compiler.codegen.llvm_filter_sums import PartialSums
from graphgrad.compiler.codegen.llvm_filter_tile import ENTRY_BYTES, POINTER_BYTES, FilterTile
from graphgrad.compiler.codegen.llvm_numbers import is_number
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts, llvm_type
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.division import chunks, quotient, times
from graphgrad.compiler.kernels.filter_tiles import cut, filter_tiles
from graphgrad.runtime.program import STATUS_THREAD


class FilterGradient(PartialSums):
    """Emits the functions of one filter gradient."""

    pointers = ("x", "g", "w", "partial", "copies")

    # Of the item at work, as operands: its panels and rows of taps, each from and to, where its
    # sums are; and the rows and columns of the output in the block at work.
    panels: tuple[str, str]
    tap_rows: tuple[str, str]
    sums: str
    block_rows: tuple[str, str]
    block_columns: tuple[str, str]

    @classmethod
    def takes(cls, conv: Convolution) -> bool:
        is_real = conv.dtype in (dtypes.float32, dtypes.float64)
        return conv.kind == "conv_filter_gradient" and is_real

    def __init__(self, conv: Convolution, registers: Registers) -> None:
        super().__init__(conv, registers)
        self.t = filter_tiles(conv, registers)
        self.conv = self.t.conv
        self.element = llvm_type(conv.dtype)
        self.bytes = conv.dtype.itemsize
        self.written: list[str] = []
        self.tiles: dict[tuple[tuple[int, ...], int, int], str] = {}

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        t = self.t
        partial = times(t.splits, t.elements * self.bytes) if t.is_partial else 0
        return Buffer(partial), Buffer(t.copied_bytes, each_thread=True)

    @property
    def launches(self) -> tuple[Launch, ...]:
        t, conv = self.t, self.conv
        places = to_size(math.prod(conv.places) * conv.images)
        items = times(t.splits, t.parts)
        time = quotient(times(places, t.time), items)
        first = Launch("", items, chunks("rows", items, time))
        if not t.is_partial:
            return (first,)
        return first, self.sum_launch

    def emit(self, parts: ModuleParts) -> str:
        self.parts = parts
        texts = [self.function("", self.items)]
        if self.t.is_partial:
            texts.append(self.sum_function())
        return "\n\n".join([*self.written, *texts])

    # -- items

    def items(self) -> None:
        t, conv = self.t, self.conv
        self.text.line(f"%rows = alloca [{t.places * ENTRY_BYTES} x i8], align 64")
        self.measure()
        blocks = self.mul(self.blocks_down, self.cuts)
        splits = self.splits()
        panels = t.panels * conv.groups

        def item(index: str, _: list[str]) -> list[str]:
            split, part = self.parted(index, str(t.parts))
            panel_part, row = self.parted(part, str(t.row_parts))
            first = self.div(self.mul(split, blocks), splits)
            past = self.div(self.mul(self.add(split, 1), blocks), splits)
            self.sums = "%w"
            if t.is_partial:
                self.sums = self.at("%partial", self.mul(split, t.elements * self.bytes))
            begin = self.mul(panel_part, t.per_part)
            self.panels = begin, self.min(self.add(begin, t.per_part), str(panels))
            rows = self.add(row, 1) if t.by_row else str(conv.taps[0] * conv.taps[1])
            self.tap_rows = row, rows
            self.clear()
            self.loop(first, past, 1, [], self.in_block)
            return []

        self.loop("%lo", "%hi", 1, [], item)

    def measure(self) -> None:
        """How the places fall into blocks: of whole rows, or of a piece of one."""
        t, conv = self.t, self.conv
        images, *places = (self.size(n) for n in (conv.images, *conv.places))
        self.depth, self.height, self.width = places
        self.x_sizes = [self.size(n) for n in conv.sizes]
        self.row_count = self.mul(self.mul(images, self.depth), self.height)
        self.cuts = self.up(self.width, t.columns)
        self.columns = self.up(self.width, self.cuts)
        rows = self.div(str(t.places), self.columns)
        self.pitch = self.mul(self.x_sizes[2], conv.inputs * self.bytes)
        if t.is_copied:
            apart = self.mul(self.sub(self.columns, "1"), conv.strides[2])
            self.pitch = self.mul(self.add(apart, t.span[1]), conv.inputs * self.bytes)
            room = self.mul(self.pitch, t.copied_rows)
            rows = self.min(rows, self.div(str(t.copied_bytes), room))
        is_cut = self.text.assign(f"icmp sgt i64 {self.cuts}, 1")
        rows = self.text.assign(f"select i1 {is_cut}, i64 1, i64 {rows}")
        self.rows = self.up(self.row_count, self.up(self.row_count, rows))
        self.blocks_down = self.up(self.row_count, self.rows)

    def splits(self) -> str:
        """`FilterTiles.splits`."""
        t, conv = self.t, self.conv
        if isinstance(t.splits, int):
            return self.size(t.splits)
        places = self.size(conv.images)
        for extent in conv.places:
            places = self.mul(places, self.size(extent))
        wanted = self.max(self.div(places, t.split_places), "1")
        return self.min(wanted, str(t.most_splits))

    def up(self, a: str, b: str | int) -> str:
        """a / b, rounded up; a is not negative."""
        return a if str(b) == "1" else self.div(self.add(a, self.sub(str(b), "1")), b)

    def clear(self) -> None:
        """Set the sums of a part to zero."""
        t, conv = self.t, self.conv
        taps = conv.taps[2]
        first, past = (self.mul(row, taps) for row in self.tap_rows)
        if t.parts == t.row_parts:
            tap = t.inputs * conv.outputs * self.bytes
            self.fill(self.at(self.sums, self.mul(first, tap)),
                      self.mul(self.sub(past, first), tap))  # fmt: skip
            return

        def panel(index: str) -> None:
            inside = self.parted(index, str(t.panels))[1]
            is_last = self.text.assign(f"icmp eq i64 {inside}, {t.panels - 1}")
            length = self.text.assign(
                f"select i1 {is_last}, i64 {t.last * self.bytes}, i64 {t.panel * self.bytes}"
            )

            def tap(number: str) -> None:
                corner = self.corner(number, index)
                self.over("0", str(t.tall), lambda r: row(corner, r))

            def row(corner: str, r: str) -> None:
                self.fill(self.at(corner, self.mul(r, self.sums_row)), length)

            self.over(first, past, tap)

        self.over(*self.panels, panel)

    def corner(self, tap: str, panel: str) -> str:
        """Where the sums of a tap and a panel begin."""
        t, conv = self.t, self.conv
        group, inside = self.parted(panel, str(t.panels))
        at = self.mul(inside, t.panel)
        if t.swapped:
            row = self.add(self.mul(tap, conv.outputs), self.mul(group, t.outputs))
            at = self.add(at, self.mul(row, t.inputs))
        else:
            at = self.add(at, self.mul(group, t.outputs))
            at = self.add(at, self.mul(tap, t.inputs * conv.outputs))
        return self.at(self.sums, self.mul(at, self.bytes))

    @property
    def sums_row(self) -> int:
        """Bytes from one row of sums to the next."""
        return (self.t.inputs if self.t.swapped else self.conv.outputs) * self.bytes

    def fill(self, pointer: str, count: str) -> None:
        self.parts.declares.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        self.text.line(f"call void @llvm.memset.p0.i64(ptr {pointer}, i8 0, i64 {count}, i1 false)")

    # -- blocks

    def in_block(self, block: str, _: list[str]) -> list[str]:
        down, piece = self.parted(block, self.cuts)
        first, left = self.mul(down, self.rows), self.mul(piece, self.columns)
        self.block_rows = first, self.min(self.add(first, self.rows), self.row_count)
        self.block_columns = left, self.min(self.add(left, self.columns), self.width)
        if not self.t.merged:
            self.over(*self.tap_rows, self.single_taps)
        elif self.t.by_row:
            self.over(*self.tap_rows, self.merged_row)
        else:
            self.over("0", str(self.conv.taps[0]), self.merged_taps)
        return []

    def over(self, first: str, past: str, body: Callable[[str], None], step: int = 1) -> None:
        """A loop, or `body` alone where that runs once."""

        def round_(index: str, _: list[str]) -> list[str]:
            body(index)
            return []

        if is_number(first) and is_number(past) and int(past) - int(first) == step:
            body(first)
        else:
            self.loop(first, past, step, [], round_)

    def parted_taps(self, row: str) -> tuple[str, str]:
        """Depth and height of a row of taps."""
        return self.parted(row, str(self.conv.taps[1]))

    def decoded(self, row: str) -> tuple[str, str, str]:
        """Image, depth and height of a row of the output."""
        rest, height = self.parted(row, self.height)
        return *self.parted(rest, self.depth), height

    def source(self, place: str, axis: int, tap: str) -> str:
        """Where a tap reads along an axis of x."""
        conv = self.conv
        at = self.add(self.mul(place, conv.strides[axis]), self.mul(tap, conv.dilations[axis]))
        return self.sub(at, str(conv.lows[axis]))

    def x_row(self, image: str, depth: str, height: str) -> str:
        """Where a row of x begins."""
        d, h, w = self.x_sizes
        row = self.add(self.mul(self.add(self.mul(image, d), depth), h), height)
        return self.at("%x", self.mul(self.mul(row, w), self.conv.inputs * self.bytes))

    def enter(self, count: str, x: str, row: str) -> None:
        """Write an entry of the table of rows."""
        entry = self.at("%rows", self.mul(count, ENTRY_BYTES))
        g = self.at("%g", self.mul(self.mul(row, self.width), self.conv.outputs * self.bytes))
        self.text.line(f"store ptr {x}, ptr {entry}")
        self.text.line(f"store ptr {g}, ptr {self.at(entry, str(POINTER_BYTES))}")

    def table(self, depth_tap: str, row_tap: str) -> str:
        """Enter the rows of the block that a row of taps reaches; how many there are."""

        def entry(row: str, counts: list[str]) -> list[str]:
            image, depth, height = self.decoded(row)
            depth, height = self.source(depth, 0, depth_tap), self.source(height, 1, row_tap)
            self.enter(counts[0], self.x_row(image, depth, height), row)
            one = "1"
            for at, axis in ((depth, 0), (height, 1)):
                if not self.t.is_inside(axis):
                    exists = self.text.assign(f"icmp ult i64 {at}, {self.x_sizes[axis]}")
                    one = self.text.assign(f"select i1 {exists}, i64 {one}, i64 0")
            return [self.add(counts[0], one)]

        return self.loop(*self.block_rows, 1, [("i64", "0")], entry)[0]

    def single_taps(self, row: str) -> None:
        """A row of taps, each for itself."""
        conv = self.conv
        count = self.table(*self.parted_taps(row))

        def tap(panel: str, number: str) -> None:
            first, past = self.reached(number)
            columns = self.sub(past, first)
            some = self.text.assign(f"icmp sgt i64 {columns}, 0")
            at = self.mul(self.source(first, 2, number), conv.inputs * self.bytes)
            tap_number = self.add(self.mul(row, conv.taps[2]), number)
            self.when(some, lambda: self.tiles_of(panel, tap_number, (count, columns), first, at))

        def panel(index: str) -> None:
            self.over("0", str(conv.taps[2]), lambda number: tap(index, number))

        self.over(*self.panels, panel)

    def reached(self, tap: str) -> tuple[str, str]:
        """The columns of the block for which a tap reads within x."""
        conv = self.conv
        left, right = self.block_columns
        if self.t.is_inside(2):
            return left, right
        # 0 <= o s + moved < size
        moved = self.source("0", 2, tap)
        first = self.up(self.max(self.sub("0", moved), "0"), conv.strides[2])
        past = self.up(self.max(self.sub(self.x_sizes[2], moved), "0"), conv.strides[2])
        return self.max(left, first), self.min(right, past)

    def merged_row(self, row: str) -> None:
        """One row of taps, all in a tile."""
        self.merged_taps(*self.parted_taps(row))

    def merged_taps(self, depth_tap: str, row_tap: str | None = None) -> None:
        """The rows of taps at a depth, or one of them, with several taps in a tile."""
        t, conv = self.t, self.conv
        left, right = self.block_columns
        at = "0"
        if t.is_copied:
            count = self.copied(depth_tap)
        else:
            count = self.table(depth_tap, "0")
            at = self.mul(self.source(left, 2, "0"), conv.inputs * self.bytes)
        apart = self.mul(self.pitch, conv.dilations[1])
        extent = count, self.sub(right, left)

        def several(panel: str, row: str, taps: int) -> None:
            number = self.add(self.mul(depth_tap, conv.taps[1]), row)
            start = self.add(at, self.mul(row, apart))
            number = self.mul(number, conv.taps[2])
            self.tiles_of(panel, number, extent, left, start, taps, apart)

        def panel(index: str) -> None:
            if row_tap is not None:
                several(index, row_tap, 1)
                return
            start = 0
            for taps, end in runs(cut(conv.taps[1], t.merged)):

                def rows(row: str, taps: int = taps) -> None:
                    several(index, row, taps)

                self.over(str(start), str(end), rows, taps)
                start = end

        self.over(*self.panels, panel)

    def copied(self, depth_tap: str) -> str:
        """Copy the rows of x that a block reads, with zeros around them, and enter them."""
        t, conv = self.t, self.conv
        pixel = conv.inputs * self.bytes
        thread = self.at("%status", str(STATUS_THREAD * 8))
        thread = self.text.assign(f"load i64, ptr {thread}")
        copies = self.at("%copies", self.mul(thread, t.copied_bytes))
        first = self.source(self.block_columns[0], 2, "0")
        across = self.div(self.pitch, pixel)
        begin = self.min(self.max(self.sub("0", first), "0"), across)
        past = self.max(self.min(self.sub(self.x_sizes[2], first), across), begin)
        start, length = self.mul(self.add(first, begin), pixel), self.sub(past, begin)
        length, before = self.mul(length, pixel), self.mul(begin, pixel)
        behind, rest = self.mul(past, pixel), self.mul(self.sub(across, past), pixel)
        self.parts.declares.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")

        def copy(to: str, source: str) -> None:
            self.fill(to, before)
            self.text.line(
                f"call void @llvm.memcpy.p0.p0.i64(ptr {self.at(to, before)}, "
                f"ptr {self.at(source, start)}, i64 {length}, i1 false)"
            )
            self.fill(self.at(to, behind), rest)

        def entry(row: str, carried: list[str]) -> list[str]:
            """Rows of x that were copied for the row before are kept."""
            count, place = carried
            image, depth, height = self.decoded(row)
            depth, top = self.source(depth, 0, depth_tap), self.source(height, 1, "0")
            is_later = self.text.assign(f"icmp ne i64 {row}, {self.block_rows[0]}")
            is_lower = self.text.assign(f"icmp ne i64 {height}, 0")
            follows = self.text.assign(f"and i1 {is_later}, {is_lower}")
            span, stride = t.span[0], conv.strides[1]
            step = self.text.assign(f"select i1 {follows}, i64 {stride}, i64 {t.copied_rows}")
            step = self.text.assign(f"select i1 {is_later}, i64 {step}, i64 0")
            place = self.add(place, step)
            kept = self.text.assign(f"select i1 {follows}, i64 {max(span - stride, 0)}, i64 0")
            line = self.at(copies, self.mul(place, self.pitch))

            def one(j: str, _: list[str]) -> list[str]:
                at, to = self.add(top, j), self.at(line, self.mul(j, self.pitch))
                exists = "true"
                for i, axis in ((depth, 0), (at, 1)):
                    inside = self.text.assign(f"icmp ult i64 {i}, {self.x_sizes[axis]}")
                    exists = self.text.assign(f"and i1 {exists}, {inside}")
                self.when(exists, lambda: copy(to, self.x_row(image, depth, at)))
                missing = self.text.assign(f"xor i1 {exists}, true")
                self.when(missing, lambda: self.fill(to, self.pitch))
                return []

            self.loop(kept, str(span), 1, [], one)
            self.enter(count, line, row)
            return [self.add(count, 1), place]

        return self.loop(*self.block_rows, 1, [("i64", "0"), ("i64", "0")], entry)[0]

    # -- tiles

    def tiles_of(
        self, panel: str, tap: str, extent: tuple[str, str], first: str, at: str, taps: int = 1,
        apart: str = "0",
    ) -> None:  # fmt: skip
        """The tiles of a panel and of one run of (tap, channel), from tap number `tap` on: over
        (rows, columns) places, from column `first` of g and byte `at` of a row of x on."""
        t, conv = self.t, self.conv
        group, inside = self.parted(panel, str(t.panels))
        x = self.add(at, self.mul(group, t.inputs * self.bytes))
        g = self.mul(self.add(self.mul(first, conv.outputs), self.mul(group, t.outputs)),
                     self.bytes)  # fmt: skip
        moved = self.mul(inside, t.panel * self.bytes)
        starts = (g, self.add(x, moved)) if t.swapped else (x, self.add(g, moved))
        corner = self.corner(tap, panel)

        def calls(channels: int) -> None:
            vectors = -(-channels // t.lanes)
            pieces = [t.run] if taps > 1 else cut(t.run, t.most[vectors])
            self.calls(pieces, channels, taps, (*extent, *starts, apart, corner))

        if t.last == t.panel or t.panels == 1:
            calls(t.last)
            return
        is_last = self.text.assign(f"icmp eq i64 {inside}, {t.panels - 1}")
        self.when(is_last, lambda: calls(t.last))
        is_whole = self.text.assign(f"xor i1 {is_last}, true")
        self.when(is_whole, lambda: calls(t.panel))

    def calls(self, pieces: Sequence[int], channels: int, taps: int, where: Sequence[str]) -> None:
        """The tiles of a run, cut into pieces."""
        rows, columns, a, b, apart, corner = where
        offsets = [self.offset(f) for f in range(self.t.run)]

        def call(name: str, at: str, row: str) -> None:
            sums = self.at(corner, self.mul(row, self.sums_row))
            self.text.line(
                f"call void @{name}(i64 {rows}, i64 {columns}, i64 {self.add(a, at)}, i64 {b}, "
                f"i64 {apart}, ptr {sums}, ptr %rows)"
            )

        start = 0
        if offsets == list(range(self.t.run)):
            for size, end in runs(pieces):
                name = self.tile(offsets[:size], taps, channels)

                def one(f: str, name: str = name) -> None:
                    call(name, self.mul(f, self.bytes), f)

                self.over(str(start), str(end), one, size)
                start = end
            return
        for size in pieces:
            first = offsets[start]
            name = self.tile([o - first for o in offsets[start : start + size]], taps, channels)
            call(name, str(first * self.bytes), str(start))
            start += size

    def offset(self, f: int) -> int:
        """Where element f of a run lies, from the first on."""
        tap, channel = divmod(f, self.t.tall)
        return tap * self.conv.dilations[2] * self.conv.inputs + channel

    def tile(self, offsets: Sequence[int], taps: int, channels: int) -> str:
        """The function of a tile, written when it is first asked for."""
        key = tuple(offsets), taps, channels
        if key not in self.tiles:
            name = self.tiles[key] = f"KERNEL_tile{len(self.tiles)}"
            self.written.append(FilterTile(self.t, offsets, taps, channels, self.parts).emit(name))
        return self.tiles[key]


def runs(pieces: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of equal pieces, each with where it ends.

    >>> runs([13, 13, 12])
    [(13, 26), (12, 38)]
    """
    found: list[tuple[int, int]] = []
    end = 0
    for size in pieces:
        end += size
        if found and found[-1][0] == size:
            found.pop()
        found.append((size, end))
    return found
