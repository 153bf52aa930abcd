"""The rows of x and of g that a block of a convolution's filter gradient reads.

A block is some whole rows of the output, or a piece of one. A table holds, for each of its rows
that a row of taps reaches in x, where x and g begin: in the arrays, or in copies of this thread.
Copied rows of x have zeros around them; floats of 16 bits are converted, of x and of g.
"""

from __future__ import annotations

from collections.abc import Callable

from graphgrad.compiler.codegen.llvm_filter_sums import PartialSums
from graphgrad.compiler.codegen.llvm_filter_tile import ENTRY_BYTES, POINTER_BYTES
from graphgrad.compiler.codegen.llvm_numbers import is_number
from graphgrad.compiler.codegen.llvm_scalar import ATTRIBUTES, FunctionText, Lanes, VectorEmitter
from graphgrad.runtime.program import STATUS_THREAD


class BlockRows(PartialSums):
    """Emits what finds and copies the rows of blocks."""

    # Sizes as operands: of the output, of x, rows of the output, pieces of a row, rows and columns
    # of a block, blocks of rows, and bytes of a row of what tiles read of x.
    depth: str
    height: str
    width: str
    x_sizes: list[str]
    row_count: str
    cuts: str
    rows: str
    columns: str
    blocks_down: str
    pitch: str
    # Rows and columns of the output in the block at work, each from and to; the thread's copies.
    block_rows: tuple[str, str]
    block_columns: tuple[str, str]
    copies: str

    def measure(self) -> None:
        """How the places fall into blocks: of whole rows, or of a piece of one."""
        t, conv = self.t, self.conv
        images, *places = (self.size(n) for n in (conv.images, *conv.places))
        self.depth, self.height, self.width = places
        self.x_sizes = [self.size(n) for n in conv.sizes]
        self.row_count = self.mul(self.mul(images, self.depth), self.height)
        # Where there are no places, one block of none.
        self.cuts = self.max(self.up(self.width, t.columns), "1")
        self.columns = self.max(self.up(self.width, self.cuts), "1")
        rows = self.div(str(t.places), self.columns)
        self.pitch = self.mul(self.x_sizes[2], conv.inputs * self.bytes)
        if t.is_copied:
            apart = self.mul(self.sub(self.columns, "1"), conv.strides[2])
            self.pitch = self.mul(self.add(apart, t.span[1]), conv.inputs * self.bytes)
            room = self.mul(self.pitch, t.copied_rows)
            rows = self.min(rows, self.div(str(t.copy_limit), room))
        is_cut = self.text.assign(f"icmp sgt i64 {self.cuts}, 1")
        rows = self.text.assign(f"select i1 {is_cut}, i64 1, i64 {rows}")
        self.blocks_down = self.max(self.up(self.row_count, rows), "1")
        self.rows = self.max(self.up(self.row_count, self.blocks_down), "1")
        self.blocks_down = self.up(self.row_count, self.rows)

    def up(self, a: str, b: str | int) -> str:
        """a / b, rounded up; a is not negative."""
        return a if str(b) == "1" else self.div(self.add(a, self.sub(str(b), "1")), b)

    def over(self, first: str, past: str, body: Callable[[str], None], step: int = 1) -> None:
        """A loop, or `body` alone where that runs once."""

        def round_(index: str, _: list[str]) -> list[str]:
            body(index)
            return []

        if is_number(first) and is_number(past) and int(past) - int(first) == step:
            body(first)
        else:
            self.loop(first, past, step, [], round_)

    def fill(self, pointer: str, count: str) -> None:
        self.parts.declares.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        self.text.line(f"call void @llvm.memset.p0.i64(ptr {pointer}, i8 0, i64 {count}, i1 false)")

    # -- rows of the arrays

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
        return self.at("%x", self.mul(self.mul(row, w), self.conv.inputs * self.given))

    def enter(self, count: str, x: str, row: str) -> None:
        """Write an entry of the table of rows."""
        entry = self.at("%rows", self.mul(count, ENTRY_BYTES))
        place = self.conv.outputs * self.bytes
        if self.t.converts:
            g = self.at(self.converted(row), self.mul(self.sub("0", self.block_columns[0]), place))
        else:
            g = self.at("%g", self.mul(self.mul(row, self.width), place))
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

    # -- copies

    def find_copies(self) -> None:
        """Where this thread copies to."""
        if self.t.is_copied:
            place = self.at("%status", str(STATUS_THREAD * 8))
            thread = self.text.assign(f"load i64, ptr {place}")
            each = self.t.copied_bytes + self.t.converted_bytes
            self.copies = self.at("%copies", self.mul(thread, self.size(each)))

    def copy_function(self) -> str:
        """`void @KERNEL_copy(ptr %to, ptr %from, i64 %count)` of elements, which converts them."""
        t, given = self.t, self.conv.dtype
        self.text, self.block = FunctionText(self.parts), "entry"

        def some(i: str, width: int) -> list[str]:
            e = VectorEmitter(self.text, width)
            place, to = self.at("%from", self.mul(i, self.given)), self.mul(i, self.bytes)
            x = self.text.assign(f"load {e.type(given)}, ptr {place}, align {self.given}")
            made = e.typed(e.convert(Lanes(x, given), t.dtype))
            self.text.line(f"store {made}, ptr {self.at('%to', to)}, align {self.bytes}")
            return []

        whole = self.text.assign(f"and i64 %count, {-t.lanes}")
        self.loop("0", whole, t.lanes, [], lambda i, _: some(i, t.lanes))
        self.loop(whole, "%count", 1, [], lambda i, _: some(i, 1))
        head = f"define internal void @KERNEL_copy(ptr %to, ptr %from, i64 %count) {ATTRIBUTES} {{"
        return "\n".join([head, "entry:", *self.text.lines, "  ret void", "}"])

    def copy(self, to: str, source: str, count: str) -> None:
        self.text.line(f"call void @KERNEL_copy(ptr {to}, ptr {source}, i64 {count})")

    def converted(self, row: str) -> str:
        """Where the copy of a row of g is."""
        at = self.mul(self.sub(row, self.block_rows[0]), self.columns)
        at = self.mul(at, self.conv.outputs * self.bytes)
        return self.at(self.copies, self.add(at, self.size(self.t.copied_bytes)))

    def convert(self, row: str) -> None:
        """Copy a row of g in the block."""
        left, right = self.block_columns
        place = self.add(self.mul(row, self.width), left)
        source = self.at("%g", self.mul(place, self.conv.outputs * self.given))
        count = self.mul(self.sub(right, left), self.conv.outputs)
        self.copy(self.converted(row), source, count)

    def copied(self, depth_tap: str, row_tap: str | None = None) -> str:
        """Copy the rows of x that a block reads for all rows of taps, or for one, with zeros around
        them, and enter them; how many there are."""
        t, conv = self.t, self.conv
        inputs = conv.inputs
        pixel = inputs * self.bytes
        first = self.source(self.block_columns[0], 2, "0")
        across = self.div(self.pitch, pixel)
        begin = self.min(self.max(self.sub("0", first), "0"), across)
        past = self.max(self.min(self.sub(self.x_sizes[2], first), across), begin)
        before, behind = self.mul(begin, pixel), self.mul(past, pixel)
        rest = self.sub(self.pitch, behind)
        start = self.mul(self.add(first, begin), inputs * self.given)
        count = self.mul(self.sub(past, begin), inputs)
        span = t.span[0] if row_tap is None else 1
        stride = conv.strides[1]
        kept = max(span - stride, 0) if row_tap is None else 0

        def entry(row: str, carried: list[str]) -> list[str]:
            """Rows of x that were copied for the row before are kept."""
            entries, place = carried
            image, depth, height = self.decoded(row)
            depth, top = self.source(depth, 0, depth_tap), self.source(height, 1, row_tap or "0")
            is_later = self.text.assign(f"icmp ne i64 {row}, {self.block_rows[0]}")
            is_lower = self.text.assign(f"icmp ne i64 {height}, 0")
            follows = self.text.assign(f"and i1 {is_later}, {is_lower}")
            step = str(t.copied_rows)
            if kept:
                step = self.text.assign(f"select i1 {follows}, i64 {stride}, i64 {step}")
            step = self.text.assign(f"select i1 {is_later}, i64 {step}, i64 0")
            place = self.add(place, step)
            line = self.at(self.copies, self.mul(place, self.pitch))

            def one(j: str) -> None:
                at, to = self.add(top, j), self.at(line, self.mul(j, self.pitch))
                exists = "true"
                for i, axis in ((depth, 0), (at, 1)):
                    inside = self.text.assign(f"icmp ult i64 {i}, {self.x_sizes[axis]}")
                    exists = self.text.assign(f"and i1 {exists}, {inside}")

                def whole() -> None:
                    self.fill(to, before)
                    source = self.at(self.x_row(image, depth, at), start)
                    self.copy(self.at(to, before), source, count)
                    self.fill(self.at(to, behind), rest)

                self.when(exists, whole)
                missing = self.text.assign(f"xor i1 {exists}, true")
                self.when(missing, lambda: self.fill(to, self.pitch))

            known = self.text.assign(f"select i1 {follows}, i64 {kept}, i64 0") if kept else "0"
            self.over(known, str(span), one)
            self.enter(entries, line, row)
            return [self.add(entries, 1), place]

        return self.loop(*self.block_rows, 1, [("i64", "0"), ("i64", "0")], entry)[0]
