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
and columns; where taps are merged, the block is copied with zeros around it instead. Floats of 16
bits are converted as they are copied, summed in float32 and rounded once. The second function adds
the partial results of the splits in order (`llvm_filter_sums`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from graphgrad.compiler.codegen.llvm_convolution_kernel import Buffer, Launch
from graphgrad.compiler.codegen.llvm_filter_rows import BlockRows
from graphgrad.compiler.codegen.llvm_filter_tile import ENTRY_BYTES, FilterTile
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.division import chunks, quotient, times
from graphgrad.compiler.kernels.filter_tiles import cut, filter_tiles


class FilterGradient(BlockRows):
    """Emits the functions of one filter gradient."""

    pointers = ("x", "g", "w", "partial", "copies")

    # Of the item at work, as operands: its panels and rows of taps, each from and to, and its sums.
    panels: tuple[str, str]
    tap_rows: tuple[str, str]
    sums: str

    @classmethod
    def takes(cls, conv: Convolution) -> bool:
        return conv.kind == "conv_filter_gradient"

    def __init__(self, conv: Convolution, registers: Registers) -> None:
        super().__init__(conv, registers)
        self.t = filter_tiles(conv, registers)
        self.conv = self.t.conv
        self.bytes = self.t.dtype.itemsize
        self.given = conv.dtype.itemsize
        self.written: list[str] = []
        self.tiles: dict[tuple[tuple[int, ...], int, int], str] = {}

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        t = self.t
        partial = times(t.splits, t.elements * self.bytes) if t.is_partial else 0
        return Buffer(partial), Buffer(t.copied_bytes + t.converted_bytes, each_thread=True)

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
        texts = [self.copy_function()] if self.t.is_copied else []
        texts.append(self.function("", self.items))
        if self.t.is_partial:
            texts.append(self.sum_function())
        return "\n\n".join([*self.written, *texts])

    # -- items

    def items(self) -> None:
        t, conv = self.t, self.conv
        self.text.line(f"%rows = alloca [{t.places * ENTRY_BYTES} x i8], align 64")
        self.measure()
        self.find_copies()
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

    # -- blocks

    def in_block(self, block: str, _: list[str]) -> list[str]:
        down, piece = self.parted(block, self.cuts)
        first, left = self.mul(down, self.rows), self.mul(piece, self.columns)
        self.block_rows = first, self.min(self.add(first, self.rows), self.row_count)
        self.block_columns = left, self.min(self.add(left, self.columns), self.width)
        if self.t.converts:
            self.over(*self.block_rows, self.convert)
        if not self.t.merged:
            self.over(*self.tap_rows, self.single_taps)
        elif self.t.by_row:
            self.over(*self.tap_rows, self.merged_row)
        else:
            self.over("0", str(self.conv.taps[0]), self.merged_taps)
        return []

    def parted_taps(self, row: str) -> tuple[str, str]:
        """Depth and height of a row of taps."""
        return self.parted(row, str(self.conv.taps[1]))

    def single_taps(self, row: str) -> None:
        """A row of taps, each for itself."""
        conv = self.conv
        taps = self.parted_taps(row)
        count = self.copied(*taps) if self.t.is_copied else self.table(*taps)

        def tap(panel: str, number: str) -> None:
            first, past = self.reached(number)
            columns = self.sub(past, first)
            some = self.text.assign(f"icmp sgt i64 {columns}, 0")
            at = self.source(first, 2, number)
            if self.t.is_copied:
                at = self.sub(at, self.source(first, 2, "0"))
            at = self.mul(at, conv.inputs * self.bytes)
            tap_number = self.add(self.mul(row, conv.taps[2]), number)
            self.when(some, lambda: self.tiles_of(panel, tap_number, (count, columns), first, at))

        def panel(index: str) -> None:
            self.over("0", str(conv.taps[2]), lambda number: tap(index, number))

        self.over(*self.panels, panel)

    def reached(self, tap: str) -> tuple[str, str]:
        """The columns of the block for which a tap reads within x."""
        conv = self.conv
        left, right = self.block_columns
        if self.t.is_copied or self.t.is_inside(2):
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
        tall, wide = (g, x) if t.swapped else (x, g)
        starts = tall, self.add(wide, self.mul(inside, t.panel * self.bytes))
        corner = self.corner(tap, panel)

        def ahead(at: str) -> tuple[str, str]:
            if not t.asks_ahead:
                return "null", "0"
            before = self.mul(self.sub(panel, self.panels[0]), t.tall * self.bytes)
            return self.ahead(self.add(before, at), extent[1], (tall, wide))

        def calls(channels: int) -> None:
            vectors = -(-channels // t.lanes)
            pieces = [t.run] if taps > 1 else cut(t.run, t.most[vectors])
            self.calls(pieces, channels, taps, (*extent, *starts, apart, corner), ahead)

        if t.last == t.panel or t.panels == 1:
            calls(t.last)
            return
        is_last = self.text.assign(f"icmp eq i64 {inside}, {t.panels - 1}")
        self.when(is_last, lambda: calls(t.last))
        is_whole = self.text.assign(f"xor i1 {is_last}, true")
        self.when(is_whole, lambda: calls(t.panel))

    def ahead(self, at: str, columns: str, starts: tuple[str, str]) -> tuple[str, str]:
        """What a tile asks for of the next block's first place, and the bytes from place to place.

        Panel by panel, tiles ask for what they read of tall channels, the second time for as many
        bytes of the wide ones, and so on; for what is at hand when both are asked for. So requests
        are spread over the time of a block.
        """
        sides = [("%x", self.conv.inputs), ("%g", self.conv.outputs)]
        found, pitch, before = f"%{'x' if self.t.swapped else 'g'}", "0", "0"
        for (array, channels), start in zip(sides[:: -1 if self.t.swapped else 1], starts):
            line = channels * self.bytes
            is_there = self.text.assign(f"icmp ult i64 {self.sub(at, before)}, {line}")
            first = self.add(start, self.mul(columns, line))
            first = self.at(array, self.add(first, self.sub(at, before)))
            found = self.text.assign(f"select i1 {is_there}, ptr {first}, ptr {found}")
            pitch = self.text.assign(f"select i1 {is_there}, i64 {line}, i64 {pitch}")
            before = str(line)
        return found, pitch

    def calls(
        self, pieces: Sequence[int], channels: int, taps: int, where: Sequence[str],
        ahead: Callable[[str], tuple[str, str]],
    ) -> None:  # fmt: skip
        """The tiles of a run, cut into pieces."""
        rows, columns, a, b, apart, corner = where
        offsets = [self.offset(f) for f in range(self.t.run)]

        def call(name: str, at: str, row: str) -> None:
            sums = self.at(corner, self.mul(row, self.sums_row))
            next_, pitch = ahead(at)
            self.text.line(
                f"call void @{name}(i64 {rows}, i64 {columns}, i64 {self.add(a, at)}, i64 {b}, "
                f"i64 {apart}, ptr {sums}, ptr %rows, ptr {next_}, i64 {pitch})"
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
