"""Convolutions and their gradients by the input as LLVM functions.

    define internal i32 @k_conv_3f9a1c_panels(ptr %status, i64 %lo, i64 %hi, ptr %args)
    define internal i32 @k_conv_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the pointers of what is read, the filter and the result, of memory for the filter in
panels and, a part for each thread, for copies of blocks; then sizes. The first function brings the
filter into the order in which tiles read it: of each panel of output channels, tap by tap and
channel by channel, whole vectors. The second computes blocks of targets (`kernels.convolutions`):

    for n, d, block of rows, block of columns:
        copy what the block reads, with its padding                  where there is padding
        for group, panel, phase, tile of the block:
            for kd, kh, kw, i:
                sums[r, c, :] += x[h(r) + kh, w(c) + kw, i] * panel[kd, kh, kw, i, :]

A tile's sums stay in registers: an element of x is read for all channels of the panel, a vector of
the filter for all places of the tile. Sums go over taps and channels in order, by fused
multiply-adds where the processor has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_convolution_kernel import Buffer, ConvolutionKernel, Launch
from graphgrad.compiler.codegen.llvm_scalar import ATTRIBUTES, FunctionText, ModuleParts, llvm_type
from graphgrad.compiler.codegen.llvm_vectors import suffix
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.kernels.convolution_tiles import Axis, Tiling, tiling
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.division import MAC, chunks, quotient, times, total
from graphgrad.runtime.program import STATUS_THREAD

# What a tile is told: taps along each axis, and in bytes the steps from tap to tap, from row to row
# of the tile, and of the result.
TAPS, STEPS, ROW, LINE = range(3), (3, 4), 5, 6
WORDS = 7
# Picoseconds of an element of the filter on its way to a panel, as it lies or turned.
PACK, TURN = 100, 1000


class TiledConvolution(ConvolutionKernel):
    """Emits the functions of one forward pass or input gradient."""

    pointers = ("x", "w", "y", "panels", "copies")

    @classmethod
    def takes(cls, conv: Convolution) -> bool:
        return conv.kind != "conv_filter_gradient" and conv.dtype in (
            dtypes.float32,
            dtypes.float64,
        )

    def __init__(self, conv: Convolution, registers: Registers) -> None:
        super().__init__(conv, registers)
        self.t = t = tiling(conv, registers)
        self.element = llvm_type(t.conv.dtype)
        self.bytes = t.conv.dtype.itemsize
        self.vector = f"<{t.lanes} x {self.element}>"
        self.vector_bytes = t.lanes * self.bytes
        self.taps = math.prod(t.taps)
        self.columns = [t.columns] if t.is_closed else sorted({t.columns, 1}, reverse=True)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        t = self.t
        panels = t.panel_elements * self.bytes
        return Buffer(panels), Buffer(copy_bytes(t), each_thread=True)

    @property
    def launches(self) -> tuple[Launch, ...]:
        t, c = self.t, self.conv
        width = t.width * t.lanes
        rows = c.groups * t.panels * self.taps
        one = t.reduced * width * (PACK if c.kind == "conv" else TURN)
        packing = Launch("_panels", rows, chunks("rows", rows, one))
        counts = [quotient(total(to_size(a.target), a.spread - 1), a.spread) for a in t.axes]
        items = times(to_size(c.images), counts[0])
        for count, block in zip(counts[1:], t.block, strict=True):
            items = times(items, quotient(total(count, block - 1), block))
        lanes = t.vectors * t.lanes * c.groups
        macs = t.block[0] * t.block[1] * self.taps * t.reduced * lanes
        time = macs * MAC["sgemm" if self.bytes == 4 else "dgemm"]
        return packing, Launch("", items, chunks("rows", items, time))

    def emit(self, parts: ModuleParts) -> str:
        t, self.parts = self.t, parts
        functions = [self.tables(), self.moves()]
        widths = [(t.width, False)] if t.panels > 1 else []
        for width, is_last in [*widths, (t.last, True)]:
            functions += [self.tile(width, is_last, columns) for columns in self.columns]
        pack = self.pack_runs if t.run > 1 else self.pack
        functions += [self.function("_panels", pack), self.function("", self.blocks)]
        return "\n".join(functions)

    # -- the filter in panels

    def tables(self) -> str:
        """The taps in the order of panels, and what the phases are."""
        _, kh, kw = self.t.conv.taps
        order: list[int] = []
        rows: list[list[int]] = []
        d, h, w = self.t.axes
        for pd in d.phases:
            for ph in h.phases:
                for pw in w.phases:
                    row = [len(order) * self.t.taps[2] // self.t.conv.taps[2]]
                    for axis, p in ((d, pd), (h, ph), (w, pw)):
                        row += [p.start, len(p.taps), p.first - axis.low if p.taps else 0]
                    row[-2] += self.t.taps[2] - self.t.conv.taps[2]
                    rows.append(row)
                    order += [(a * kh + b) * kw + c for a in pd.taps for b in ph.taps
                              for c in pw.taps]  # fmt: skip
        self.phases = rows
        words = [f"i64 {x}" for row in rows for x in row]
        return "\n".join([
            f"@KERNEL_order = private constant [{max(1, len(order))} x i32] "
            f"[{', '.join(f'i32 {k}' for k in order) or 'i32 0'}]",
            f"@KERNEL_phases = private constant [{len(words)} x i64] [{', '.join(words)}]",
        ])  # fmt: skip

    def pack_runs(self) -> None:
        """Items are taps of the one panel: for each target of a run its own tap, or zeros."""
        t, c = self.t, self.t.conv
        width = t.width * t.lanes
        step = t.axes[2].step
        down, across = (c.outputs, 1) if c.kind == "conv" else (1, c.outputs)

        def one(item: str, _: list[str]) -> list[str]:
            before, tap = self.parted(item, str(t.taps[2]))
            to = self.at("%panels", self.mul(item, t.reduced * width * self.bytes))
            self.text.line(f"call void @KERNEL_zero(ptr {to}, i64 {t.reduced * width})")

            def target(q: str, _: list[str]) -> list[str]:
                own = self.sub(tap, self.mul(q, step))
                inside = self.text.assign(f"icmp ult i64 {own}, {c.taps[2]}")
                self.when(inside, lambda: self.rows_of(
                    self.add(self.mul(before, c.taps[2]), own),
                    self.at(to, self.mul(q, t.made * self.bytes)), width, down, across,
                ))  # fmt: skip
                return []

            self.loop("0", str(t.run), 1, [], target)
            return []

        self.loop("%lo", "%hi", 1, [], one)

    def rows_of(self, tap: str, to: str, width: int, down: int, across: int) -> None:
        """The channels of a tap, in rows of `width` elements."""
        t, c = self.t, self.t.conv
        source = self.at("%w", self.mul(self.tap(tap), c.inputs * c.outputs * self.bytes))

        def row(i: str, _: list[str]) -> list[str]:
            line = self.at(to, self.mul(i, width * self.bytes))
            start = self.at(source, self.mul(i, down * self.bytes))
            self.loop("0", str(t.made), 1, [], lambda j, _: self.move(line, start, j, across))
            return []

        self.loop("0", str(t.reduced), 1, [], row)

    def tap(self, position: str) -> str:
        """The tap of the filter at a position of a panel."""
        at = self.text.assign(f"getelementptr i32, ptr @KERNEL_order, i64 {position}")
        found = self.text.assign(f"load i32, ptr {at}")
        return self.text.assign(f"zext i32 {found} to i64")

    def pack(self) -> None:
        """Items are taps of panels of groups."""
        t, c = self.t, self.t.conv
        whole, last = t.width * t.lanes, t.last * t.lanes
        group = self.taps * t.reduced * t.vectors * t.lanes
        is_forward = c.kind == "conv"
        # from channel to channel in the filter, of those that are summed and those that are made
        down, across = (c.outputs, 1) if is_forward else (1, c.outputs)
        apart = t.made if is_forward else t.reduced  # from group to group

        def one(item: str, _: list[str]) -> list[str]:
            rest, tap = self.parted(item, str(self.taps))
            g, p = self.parted(rest, str(t.panels))
            k = self.tap(tap)
            is_last = self.text.assign(f"icmp eq i64 {p}, {t.panels - 1}")
            width = self.text.assign(f"select i1 {is_last}, i64 {last}, i64 {whole}")
            first = self.mul(p, whole)
            source = self.mul(k, c.inputs // c.groups * c.outputs)
            source = self.add(self.add(source, self.mul(g, apart)), self.mul(first, across))
            to = self.add(self.mul(g, group), self.mul(first, self.taps * t.reduced))
            to = self.add(to, self.mul(self.mul(tap, t.reduced), width))
            source = self.at("%w", self.mul(source, self.bytes))
            to = self.at("%panels", self.mul(to, self.bytes))
            there = self.min(width, self.sub(str(t.made), first))

            def row(i: str, _: list[str]) -> list[str]:
                line = self.at(to, self.mul(self.mul(i, width), self.bytes))
                start = self.at(source, self.mul(i, down * self.bytes))
                if is_forward:
                    self.text.line(f"call void @KERNEL_copy(ptr {line}, ptr {start}, i64 {there})")
                else:
                    self.loop("0", there, 1, [], lambda j, _: self.move(line, start, j, across))
                rest = self.at(line, self.mul(there, self.bytes))
                count = self.sub(width, there)
                self.text.line(f"call void @KERNEL_zero(ptr {rest}, i64 {count})")
                return []

            self.loop("0", str(t.reduced), 1, [], row)
            return []

        self.loop("%lo", "%hi", 1, [], one)

    def move(self, to: str, source: str, j: str, across: int) -> list[str]:
        """One element, of those that are `across` apart."""
        place = self.at(source, self.mul(j, across * self.bytes))
        x = self.text.assign(f"load {self.element}, ptr {place}, align {self.bytes}")
        end = self.at(to, self.mul(j, self.bytes))
        self.text.line(f"store {self.element} {x}, ptr {end}, align {self.bytes}")
        return []

    def moves(self) -> str:
        """Functions that copy elements, and that write zeros."""
        texts = []
        for name, source in (("copy", ", ptr %x"), ("zero", "")):
            self.text, self.block = FunctionText(self.parts), "entry"

            def one(i: str, type_: str, source: str = source) -> list[str]:
                value = "zeroinitializer" if type_ == self.vector else "0.0"
                offset = self.mul(i, self.bytes)
                if source:
                    place = self.at("%x", offset)
                    value = self.text.assign(f"load {type_}, ptr {place}, align {self.bytes}")
                self.text.line(
                    f"store {type_} {value}, ptr {self.at('%y', offset)}, align {self.bytes}"
                )
                return []

            whole = self.text.assign(f"and i64 %n, {-self.t.lanes}")
            self.loop("0", whole, self.t.lanes, [], lambda i, _: one(i, self.vector))
            self.loop(whole, "%n", 1, [], lambda i, _: one(i, self.element))
            head = f"define internal void @KERNEL_{name}(ptr %y{source}, i64 %n) {ATTRIBUTES} {{"
            texts.append("\n".join([head, "entry:", *self.text.lines, "  ret void", "}"]))
        return "\n".join(texts)

    # -- blocks

    def blocks(self) -> None:
        t = self.t
        _, h, w = t.axes
        target = [self.size(a.target) for a in t.axes]
        counts = [self.div(self.add(n, a.spread - 1), a.spread) for n, a in zip(target, t.axes)]
        along = [
            counts[0],
            *(self.div(self.add(n, b - 1), b) for n, b in zip(counts[1:], t.block, strict=True)),
        ]
        self.text.line(f"%told = alloca [{WORDS} x i64], align 64")
        self.start_tile()
        copies = "0"
        if t.is_copied:
            at = self.text.assign(f"getelementptr i64, ptr %status, i64 {STATUS_THREAD}")
            thread = self.text.assign(f"load i64, ptr {at}")
            copies = self.at("%copies", self.mul(thread, copy_bytes(t)))

        def one(item: str, _: list[str]) -> list[str]:
            rest, bw = self.parted(item, along[2])
            rest, bh = self.parted(rest, along[1])
            n, jd = self.parted(rest, along[0])
            ranges = []
            for b, axis, count, size, tile in (
                (bh, h, counts[1], t.block[0], t.rows),
                (bw, w, counts[2], t.block[1], t.columns * t.run),
            ):  # fmt: skip
                start = self.mul(b, size)
                known = axis.counts()
                end = self.min(self.add(start, size), count)
                if t.is_closed and known is not None:  # the last may have less than a tile
                    start = self.min(start, str(known[1] - tile))
                ranges.append((start, end))
            base = self.block_start(n, jd, ranges, copies)
            self.block_of(n, jd, ranges, base)
            return []

        self.loop("%lo", "%hi", 1, [], one)

    def told(self, word: int, value: str) -> None:
        at = self.text.assign(f"getelementptr i64, ptr %told, i64 {word}")
        self.text.line(f"store i64 {value}, ptr {at}")

    @property
    def place_bytes(self) -> int:
        """From place to place of what is read."""
        return self.t.reduced * self.t.conv.groups * self.bytes

    @property
    def target_bytes(self) -> int:
        return self.t.made * self.t.conv.groups * self.bytes

    def lines(self) -> tuple[str, str]:
        """Bytes from row to row and from slice to slice of what tiles read."""
        if self.t.is_copied:
            _, rows, columns = self.t.copied
            row = str(columns * self.place_bytes)
            return row, self.mul(row, rows)
        _, h, w = (self.size(a.source) for a in self.t.axes)
        row = self.mul(w, self.place_bytes)
        return row, self.mul(row, h)

    def start_tile(self) -> None:
        """What is the same for all tiles."""
        d, h, w = self.t.axes
        self.row, self.slice = self.lines()
        self.told(STEPS[0], self.mul(self.slice, d.apart))
        self.told(STEPS[1], self.mul(self.row, h.apart))
        self.told(ROW, self.mul(self.row, h.step))
        self.line = self.mul(self.size(w.target), self.target_bytes)
        self.told(LINE, self.mul(self.line, h.spread))

    def block_start(self, n: str, jd: str, ranges: Sequence[tuple[str, str]], copies: str) -> str:
        """Where the first targets j of a block read; of a copy, once it is made."""
        t = self.t
        firsts = [
            self.add(self.mul(j, a.step), a.low)
            for j, a in zip((jd, ranges[0][0], ranges[1][0]), t.axes, strict=True)
        ]
        sources = [self.size(a.source) for a in t.axes]
        image = self.mul(self.mul(n, sources[0]), self.mul(sources[1], sources[2]))
        image = self.mul(image, self.place_bytes)
        source_row = self.mul(sources[2], self.place_bytes)
        if not t.is_copied:
            at = self.add(image, self.mul(firsts[0], self.slice))
            at = self.add(at, self.mul(firsts[1], self.row))
            return self.at("%x", self.add(at, self.mul(firsts[2], self.place_bytes)))
        rows, columns = (
            self.add(self.mul(self.sub(self.sub(end, start), "1"), a.step), a.high - a.low + 1)
            for (start, end), a in zip(ranges, t.axes[1:], strict=True)
        )
        left = self.min(self.max(self.sub("0", firsts[2]), "0"), columns)
        end = self.max(self.min(self.sub(sources[2], firsts[2]), columns), left)
        here, rest = self.sub(end, left), self.sub(columns, end)
        elements = t.reduced * t.conv.groups

        def slice_(i: str, _: list[str]) -> list[str]:
            d = self.add(firsts[0], i)

            def row(j: str, _: list[str]) -> list[str]:
                h = self.add(firsts[1], j)
                to = self.at(copies, self.add(self.mul(i, self.slice), self.mul(j, self.row)))
                inside = [
                    self.text.assign(f"icmp ult i64 {a}, {b}")
                    for a, b in ((d, sources[0]), (h, sources[1]))
                ]
                both = self.text.assign(f"and i1 {inside[0]}, {inside[1]}")
                # outside all of it is padding
                before, there, after = (
                    self.text.assign(f"select i1 {both}, i64 {a}, i64 {b}")
                    for a, b in ((left, columns), (here, "0"), (rest, "0"))
                )
                line = self.add(self.mul(d, sources[1]), h)
                offset = self.add(image, self.mul(line, source_row))
                offset = self.add(offset, self.mul(self.add(firsts[2], left), self.place_bytes))
                middle = self.at(to, self.mul(before, self.place_bytes))
                last = self.at(middle, self.mul(there, self.place_bytes))
                before, there, after = (self.mul(k, elements) for k in (before, there, after))
                self.text.line(f"call void @KERNEL_zero(ptr {to}, i64 {before})")
                source = self.at("%x", offset)
                self.text.line(f"call void @KERNEL_copy(ptr {middle}, ptr {source}, i64 {there})")
                self.text.line(f"call void @KERNEL_zero(ptr {last}, i64 {after})")
                return []

            self.loop("0", rows, 1, [], row)
            return []

        self.loop("0", str(t.copied[0]), 1, [], slice_)
        return copies

    def block_of(self, n: str, jd: str, ranges: Sequence[tuple[str, str]], base: str) -> None:
        """All tiles of a block, panel by panel."""
        t = self.t
        sizes = [self.size(a.target) for a in t.axes]
        panel = self.taps * t.reduced * t.width * t.lanes * self.bytes
        group = self.taps * t.reduced * t.vectors * t.lanes * self.bytes

        def over_groups(g: str, _: list[str]) -> list[str]:
            w = self.at("%panels", self.mul(g, group))
            x = self.at(base, self.mul(g, t.reduced * self.bytes))
            y = self.at("%y", self.mul(g, t.made * self.bytes))

            def over_panels(p: str, is_last: bool) -> None:
                start = self.at(w, self.mul(p, panel))
                out = self.at(y, self.mul(p, t.width * self.vector_bytes))
                self.over_phases(n, jd, ranges, x, start, out, is_last, sizes)

            if t.panels > 1:

                def whole(p: str, _: list[str]) -> list[str]:
                    over_panels(p, False)
                    return []

                self.loop("0", str(t.panels - 1), 1, [], whole)
            over_panels(str(t.panels - 1), True)
            return []

        if t.conv.groups == 1:
            over_groups("0", [])
        else:
            self.loop("0", str(t.conv.groups), 1, [], over_groups)

    def over_phases(
        self, n: str, jd: str, ranges: Sequence[tuple[str, str]], x: str, w: str, y: str,
        is_last: bool, sizes: Sequence[str],
    ) -> None:  # fmt: skip
        t = self.t
        width = (t.last if is_last else t.width) * self.vector_bytes

        def one(row: Sequence[str]) -> None:
            before, *own = row
            starts, taps, firsts = own[::3], own[1::3], own[2::3]
            for word, count in zip(TAPS, taps):
                self.told(word, count)
            d = self.add(self.mul(jd, t.axes[0].spread), starts[0])
            source = self.add(self.mul(firsts[0], self.slice), self.mul(firsts[1], self.row))
            source = self.add(source, self.mul(firsts[2], self.place_bytes))
            from_ = self.at(x, source)
            panel = self.at(w, self.mul(self.mul(before, t.reduced), width))
            ends = []
            for (_, end), a, size, start in zip(ranges, t.axes[1:], sizes[1:], starts[1:]):
                count = self.sub(self.add(size, a.spread - 1), start)
                ends.append(self.min(end, self.div(self.max(count, "0"), a.spread)))
            slice_ = self.add(self.mul(n, sizes[0]), d)
            to = self.mul(self.add(self.mul(slice_, sizes[1]), starts[1]), self.line)
            out = self.at(y, self.add(to, self.mul(starts[2], self.target_bytes)))
            down = self.add(firsts[1], t.axes[1].low), taps[1], self.mul(taps[2], t.reduced * width)

            def all_rows() -> None:
                self.over_rows(ranges, ends, down, (from_, panel, out), is_last)

            if t.axes[0].spread == 1:
                all_rows()
            else:
                self.when(self.text.assign(f"icmp slt i64 {d}, {sizes[0]}"), all_rows)

        if len(self.phases) == 1:
            one([str(k) for k in self.phases[0]])
            return

        def of_table(k: str, _: list[str]) -> list[str]:
            words = len(self.phases[0])
            row = self.text.assign(f"getelementptr [{words} x i64], ptr @KERNEL_phases, i64 {k}")
            found = []
            for i in range(words):
                at = self.text.assign(f"getelementptr i64, ptr {row}, i64 {i}")
                found.append(self.text.assign(f"load i64, ptr {at}"))
            one(found)
            return []

        self.loop("0", str(len(self.phases)), 1, [], of_table)

    def over_rows(
        self, ranges: Sequence[tuple[str, str]], ends: Sequence[str], down: tuple[str, str, str],
        at: tuple[str, str, str], is_last: bool,
    ) -> None:  # fmt: skip
        """The tiles of a phase. `down` are where row 0 reads, how many taps it has and the bytes of
        a panel from one to the next; `at` are where the first tile reads, the panel and result."""
        t = self.t
        _, h, axis = t.axes
        (first_row, _), (first, _) = ranges
        x, w, y = at
        name = f"@KERNEL_{'last' if is_last else 'tile'}"

        def rows(j: str, _: list[str]) -> list[str]:
            if t.rows > 1:
                j = self.min(j, self.sub(ends[0], str(t.rows)))
            at = self.mul(self.sub(j, first_row), h.step)
            source = self.at(x, self.mul(at, self.row))
            panel = w
            if not h.is_inside and t.conv.taps[1] > 1:
                skipped, count = self.taps_inside(j, down)
                self.told(TAPS[1], count)
                source = self.at(source, self.mul(self.mul(skipped, h.apart), self.row))
                panel = self.at(w, self.mul(skipped, down[2]))
            line = self.at(y, self.mul(self.mul(j, h.spread), self.line))

            def tile(i: str, columns: int) -> list[str]:
                if t.is_closed:
                    i = self.min(i, self.sub(ends[1], str(columns * t.run)))
                at = self.mul(self.sub(i, first), axis.step * self.place_bytes)
                to = self.mul(i, axis.spread * self.target_bytes)
                self.text.line(
                    f"call void {name}{columns}(ptr {self.at(source, at)}, ptr {panel}, "
                    f"ptr {self.at(line, to)}, ptr %told)"
                )
                return []

            if t.is_closed:
                step = t.columns * t.run
                self.loop(first, ends[1], step, [], lambda i, _: tile(i, t.columns))
                return []
            begin = first
            for columns in self.columns:
                end = ends[1]
                if columns > 1:
                    count = self.max(self.sub(end, begin), "0")
                    end = self.add(begin, self.mul(self.div(count, columns), columns))
                self.loop(begin, end, columns, [], lambda i, _: tile(i, columns))  # noqa: B023
                begin = end
            return []

        self.loop(first_row, ends[0], t.rows, [], rows)

    def taps_inside(self, j: str, down: tuple[str, str, str]) -> tuple[str, str]:
        """Of the taps of tile row j that do not read padding alone the first, and how many."""
        h = self.t.axes[1]
        first, taps, _ = down
        top = self.add(self.mul(j, h.step), first)
        bottom = self.add(top, (self.t.rows - 1) * h.step)
        above = self.max(self.sub("0", bottom), "0")
        skipped = self.div(self.add(above, h.apart - 1), h.apart)
        below = self.max(self.sub(self.size(h.source), top), "0")
        end = self.min(self.div(self.add(below, h.apart - 1), h.apart), taps)
        return skipped, self.max(self.sub(end, skipped), "0")

    # -- tiles

    def tile(self, width: int, is_last: bool, columns: int) -> str:
        """The function of a tile: `width` vectors for each place."""
        t = self.t
        self.text, self.block = FunctionText(self.parts), "entry"
        name = f"@KERNEL_{'last' if is_last else 'tile'}{columns}"
        words = []
        for i in range(WORDS):
            at = self.text.assign(f"getelementptr i64, ptr %told, i64 {i}")
            words.append(self.text.assign(f"load i64, ptr {at}"))
        axis: Axis = t.axes[2]
        places = [(r, c) for r in range(t.rows) for c in range(columns)]
        runs = axis.apart == 1 and t.conv.groups == 1  # taps of a row and channels are one run
        step = width * self.vector_bytes

        def add(x: Sequence[str], w: str, i: str, sums: list[str]) -> list[str]:
            filters = [
                self.text.assign(
                    f"load {self.vector}, ptr {self.at(w, str(v * self.vector_bytes))}, "
                    f"align {self.vector_bytes}"
                )
                for v in range(width)
            ]
            ends = []
            rows = [self.at(p, self.mul(i, self.bytes)) for p in x]
            for (r, c), k in zip(places, range(0, len(sums), width), strict=True):
                at = self.at(rows[r], str(c * t.run * axis.step * self.place_bytes))
                one = self.text.assign(f"load {self.element}, ptr {at}, align {self.bytes}")
                all_ = self.splat(one)
                for f, s in zip(filters, sums[k : k + width], strict=True):
                    ends.append(self.multiply_add(all_, f, s))
            return ends

        def channels(x: str, w: str, count: str, sums: list[str]) -> list[str]:
            rows = [self.at(x, self.mul(words[ROW], r)) for r in range(t.rows)]
            carried = [("ptr", w), *((self.vector, s) for s in sums)]

            def one(i: str, now: list[str]) -> list[str]:
                at, *own = now
                ends = add(rows, at, i, own)
                return [self.at(at, str(step)), *ends]

            return self.loop("0", count, 1, carried, one)

        def over(axis_: int, x: str, now: list[str]) -> list[str]:
            """The taps of an axis and of those after it; `now` are the filter and the sums."""
            w, *sums = now
            if axis_ == 2 and runs:
                return channels(x, w, self.mul(words[TAPS[2]], t.reduced), sums)
            if axis_ == 3:
                return channels(x, w, str(t.reduced), sums)
            count = words[TAPS[axis_]]
            apart = (words[STEPS[0]], words[STEPS[1]], str(axis.apart * self.place_bytes))[axis_]
            if t.conv.taps[axis_] == 1 and len(t.axes[axis_].phases) == 1:
                return over(axis_ + 1, x, now)
            carried = [("ptr", x), ("ptr", w), *((self.vector, s) for s in sums)]

            def one(_: str, c: list[str]) -> list[str]:
                ends = over(axis_ + 1, c[0], c[1:])
                return [self.at(c[0], apart), *ends]

            return self.loop("0", count, 1, carried, one)[1:]

        sums = over(0, "%x", ["%w", *["zeroinitializer"] * (len(places) * width)])[1:]
        self.store(places, sums, width, words[LINE], is_last)
        head = f"define internal void {name}(ptr %x, ptr %w, ptr %y, ptr %told) {ATTRIBUTES} {{"
        return "\n".join([head, "entry:", *self.text.lines, "  ret void", "}"])

    def store(
        self, places: Sequence[tuple[int, int]], sums: Sequence[str], width: int, line: str,
        is_last: bool,
    ) -> None:  # fmt: skip
        t = self.t
        rows = [self.at("%y", self.mul(line, r)) for r in range(t.rows)]
        before = (t.panels - 1) * t.width * t.lanes
        there = t.made * t.run - before if is_last else width * t.lanes
        across = t.run * t.axes[2].spread * self.target_bytes
        for (r, c), k in zip(places, range(0, len(sums), width), strict=True):
            for v in range(width):
                at = self.at(rows[r], str(c * across + v * self.vector_bytes))
                self.store_lanes(at, sums[k + v], min(t.lanes, there - v * t.lanes))

    def store_lanes(self, at: str, value: str, count: int) -> None:
        lanes = self.t.lanes
        if count == lanes:
            self.text.line(f"store {self.vector} {value}, ptr {at}, align {self.bytes}")
            return
        name = f"@llvm.masked.store.v{lanes}{suffix(self.t.conv.dtype)}.p0"
        self.parts.declares.add(f"declare void {name}({self.vector}, ptr, i32, <{lanes} x i1>)")
        bits = ", ".join(f"i1 {'true' if i < count else 'false'}" for i in range(lanes))
        self.text.line(
            f"call void {name}({self.vector} {value}, ptr {at}, i32 {self.bytes}, "
            f"<{lanes} x i1> <{bits}>)"
        )

    def splat(self, x: str) -> str:
        one = self.text.assign(f"insertelement {self.vector} poison, {self.element} {x}, i64 0")
        return self.text.assign(
            f"shufflevector {self.vector} {one}, {self.vector} poison, "
            f"<{self.t.lanes} x i32> zeroinitializer"
        )

    def multiply_add(self, x: str, y: str, z: str) -> str:
        name = f"@llvm.fmuladd.v{self.t.lanes}{suffix(self.t.conv.dtype)}"
        self.parts.declares.add(
            f"declare {self.vector} {name}({self.vector}, {self.vector}, {self.vector})"
        )
        v = self.vector
        return self.text.assign(f"call {v} {name}({v} {x}, {v} {y}, {v} {z})")


def copy_bytes(t: Tiling) -> int:
    """The memory of one thread's copies: whole cache lines."""
    return -(-t.copied_elements * t.conv.dtype.itemsize // 64) * 64
