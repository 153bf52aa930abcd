"""Convolutions and their gradients by the input as LLVM functions.

    define internal i32 @k_conv_3f9a1c_panels(ptr %status, i64 %lo, i64 %hi, ptr %args)
    define internal i32 @k_conv_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the pointers of what is read, the filter and the result, of memory for the filter in
panels and, a part for each thread, for copies of blocks, of what an epilogue reads and writes; then
sizes. The first function brings the filter into the order in which tiles read it
(`llvm_convolution_panels`). The second computes blocks of targets (`kernels.convolution_tiles`):

    for n, d, block of rows, block of columns:
        copy what the block reads, with its padding                  where there is padding
        for group, panel, phase, tile of the block:
            for kd, kh, kw, i:
                sums[r, c, :] += x[h(r) + kh, w(c) + kw, i] * panel[kd, kh, kw, i, :]

A tile's sums stay in registers (`llvm_convolution_tile`): an element of x is read for all channels
of the panel, a vector of the filter for all places of the tile. Sums go over taps and channels in
order, by fused multiply-adds where the processor has them. Floats of 16 bits are converted as they
are copied, summed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_convolution_kernel import Buffer, Launch
from graphgrad.compiler.codegen.llvm_convolution_panels import PanelEmitter
from graphgrad.compiler.codegen.llvm_convolution_tile import (
    LINE,
    ROW,
    SLICE,
    STEPS,
    TAPS,
    TOLD,
)
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.kernels.convolution_tiles import tiling
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.division import MAC, chunks, quotient, times, total
from graphgrad.compiler.kernels.epilogues import CHANNEL, SAME, Epilogue
from graphgrad.compiler.kernels.memory_plan import aligned
from graphgrad.runtime.program import STATUS_THREAD

# Picoseconds of an element of the filter on its way to a panel, as it lies or turned.
PACK, TURN = 100, 1000


class TiledConvolution(PanelEmitter):
    """Emits the functions of one forward pass or input gradient."""

    @classmethod
    def takes(cls, conv: Convolution) -> bool:
        return conv.kind != "conv_filter_gradient"

    def __init__(
        self, conv: Convolution, registers: Registers, epilogue: Epilogue | None = None
    ) -> None:
        super().__init__(conv, registers, epilogue)
        self.prepare(tiling(conv, registers))
        t = self.t
        self.conv = t.conv
        others = epilogue.others if epilogue is not None else ()
        self.extra = [f"e{k}" for k in range(len(others))]
        self.pointers = ("x", "w", "y", "panels", "copies", *self.extra)
        self.columns = [t.columns] if t.is_closed else sorted({t.columns, 1}, reverse=True)

    def accepts(self, epilogue: Epilogue) -> bool:
        t = self.t
        if CHANNEL in epilogue.walks and not t.keeps_channels:
            return False
        # Another array of the result's shape is read a panel at a time: of several panels, that is
        # in so short pieces that a kernel of its own is faster.
        others = {s.attr for s in epilogue.stmts if s.fn == "load"} - {epilogue.result}
        return t.panels * t.conv.groups == 1 or all(epilogue.walks[k] != SAME for k in others)

    @property
    def copy_bytes(self) -> int:
        """The memory of one thread's copies: whole cache lines."""
        return aligned(self.t.copied_elements * self.bytes)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return Buffer(self.t.panel_elements * self.bytes), Buffer(self.copy_bytes, True)

    @property
    def launches(self) -> tuple[Launch, ...]:
        t, c = self.t, self.conv
        rows = c.groups * t.panels * self.taps
        one = t.reduced * t.width * t.lanes * (PACK if c.kind == "conv" else TURN)
        counts = [quotient(total(to_size(a.target), a.spread - 1), a.spread) for a in t.axes]
        items = times(to_size(c.images), counts[0])
        for count, block in zip(counts[1:], t.block, strict=True):
            items = times(items, quotient(total(count, block - 1), block))
        macs = t.block[0] * t.block[1] * self.taps * t.reduced * t.vectors * t.lanes * c.groups
        time = macs // t.run * MAC["dgemm" if self.dtype is dtypes.float64 else "sgemm"]
        return (
            Launch("_panels", rows, chunks("rows", rows, one)),
            Launch("", items, chunks("rows", items, time)),
        )

    def emit(self, parts: ModuleParts) -> str:
        t, self.parts = self.t, parts
        functions = [self.tables(), self.moves()]
        widths = [(t.width, False)] if t.panels > 1 else []
        for width, is_last in [*widths, (t.last, True)]:
            functions += [self.tile(width, is_last, columns) for columns in self.columns]
        fill = self.fill_panels if t.run == 1 else self.fill_runs
        functions += [self.function("_panels", fill), self.function("", self.blocks)]
        return "\n".join(functions)

    # -- blocks

    def blocks(self) -> None:
        """Items are blocks, of all images."""
        t = self.t
        _, h, w = t.axes
        target = [self.size(a.target) for a in t.axes]
        counts = [self.div(self.add(n, a.spread - 1), a.spread) for n, a in zip(target, t.axes)]
        along = [
            counts[0],
            *(self.div(self.add(n, b - 1), b) for n, b in zip(counts[1:], t.block, strict=True)),
        ]
        self.text.line(f"%told = alloca [{TOLD + 1 + len(self.extra)} x i64], align 64")
        self.start_tile()
        copies = "0"
        if t.is_copied:
            at = self.text.assign(f"getelementptr i64, ptr %status, i64 {STATUS_THREAD}")
            thread = self.text.assign(f"load i64, ptr {at}")
            copies = self.at("%copies", self.mul(thread, self.copy_bytes))

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

    def told(self, word: int, value: str, type_: str = "i64") -> None:
        at = self.text.assign(f"getelementptr i64, ptr %told, i64 {word}")
        self.text.line(f"store {type_} {value}, ptr {at}")

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
        self.line = self.mul(self.size(w.target), self.target_elements)
        self.told(LINE, self.mul(self.line, h.spread))
        for k, name in enumerate(("y", *self.extra)):
            self.told(TOLD + k, f"%{name}", "ptr")

    def block_start(self, n: str, jd: str, ranges: Sequence[tuple[str, str]], copies: str) -> str:
        """Where the first targets j of a block read; of a copy, once it is made."""
        t = self.t
        firsts = [
            self.add(self.mul(j, a.step), a.low)
            for j, a in zip((jd, ranges[0][0], ranges[1][0]), t.axes, strict=True)
        ]
        sources = [self.size(a.source) for a in t.axes]
        image = self.mul(self.mul(n, sources[0]), self.mul(sources[1], sources[2]))
        given = t.reduced * t.conv.groups * self.given.itemsize  # from place to place
        image = self.mul(image, given)
        source_row = self.mul(sources[2], given)
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
                offset = self.add(offset, self.mul(self.add(firsts[2], left), given))
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
            channel = self.mul(g, t.made)

            def over_panels(p: str, is_last: bool) -> None:
                start = self.at(w, self.mul(p, panel))
                first = self.add(channel, self.mul(p, t.width * t.lanes))
                self.over_phases(n, jd, ranges, x, start, first, is_last, sizes)

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
        self, n: str, jd: str, ranges: Sequence[tuple[str, str]], x: str, w: str, channel: str,
        is_last: bool, sizes: Sequence[str],
    ) -> None:  # fmt: skip
        """The tiles of a block for one panel: `channel` is its first one."""
        t = self.t
        width = (t.last if is_last else t.width) * self.vector_bytes

        def one(row: Sequence[str]) -> None:
            before, *own = row
            starts, taps, firsts = own[::3], own[1::3], own[2::3]
            for word, count in zip(TAPS, taps):
                self.told(word, count)
            line = self.mul(taps[2], t.reduced * width)  # of the panel
            self.told(SLICE, self.mul(taps[1], line))
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
            out = self.add(self.add(to, self.mul(starts[2], self.target_elements)), channel)
            down = self.add(firsts[1], t.axes[1].low), taps[1], line

            def all_rows() -> None:
                self.over_rows(ranges, ends, down, (from_, panel, out, channel), is_last)

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
        at: tuple[str, str, str, str], is_last: bool,
    ) -> None:  # fmt: skip
        """The tiles of a phase. `down` are where row 0 reads, how many taps it has and the bytes of
        a panel from one to the next; `at` are where the first target of the block reads, the panel,
        the element that target 0 becomes, and the channel."""
        t = self.t
        _, h, axis = t.axes
        (first_row, _), (first, _) = ranges
        x, w, y, channel = at
        name = f"@KERNEL_{'last' if is_last else 'tile'}"

        def rows(j: str, _: list[str]) -> list[str]:
            if t.rows > 1:
                j = self.min(j, self.sub(ends[0], str(t.rows)))
            at = self.mul(self.sub(j, first_row), h.step)
            source = self.at(x, self.mul(at, self.row))
            panel = w
            if t.skips_rows:
                skipped, count = self.taps_inside(j, down)
                self.told(TAPS[1], count)
                source = self.at(source, self.mul(self.mul(skipped, h.apart), self.row))
                panel = self.at(w, self.mul(skipped, down[2]))
            line = self.add(y, self.mul(self.mul(j, h.spread), self.line))

            def tile(i: str, columns: int) -> list[str]:
                if t.is_closed:
                    i = self.min(i, self.sub(ends[1], str(columns * t.run)))
                at = self.mul(self.sub(i, first), axis.step * self.place_bytes)
                to = self.add(line, self.mul(i, axis.spread * self.target_elements))
                self.text.line(
                    f"call void {name}{columns}(ptr {self.at(source, at)}, ptr {panel}, i64 {to}, "
                    f"i64 {channel}, ptr %told)"
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
