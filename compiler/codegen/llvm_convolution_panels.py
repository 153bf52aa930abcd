"""The filter of a convolution in panels: the order in which tiles read it.

A panel holds, of some output channels, the taps one after the other and of each the channels that
are summed: rows of whole vectors, with zeros beyond the channels that there are. The taps of the
phases of a gradient by the input (`kernels.convolution_tiles`) lie phase by phase.
"""

from __future__ import annotations

import itertools
import math

from graphgrad.compiler.codegen.llvm_convolution_tile import TileEmitter
from graphgrad.compiler.codegen.llvm_scalar import ATTRIBUTES, FunctionText, Lanes, VectorEmitter
from graphgrad.compiler.codegen.llvm_tiles import Turning
from graphgrad.compiler.codegen.llvm_vectors import Mask, memory_type


class PanelEmitter(TileEmitter):
    """Emits what fills the panels, and the functions that move elements."""

    @property
    def taps(self) -> int:
        """Of the filter in panels."""
        return math.prod(self.t.taps)

    @property
    def strides(self) -> tuple[int, int]:
        """From channel to channel in the filter, of those that are summed and of those made."""
        c = self.conv
        return (c.outputs, 1) if c.kind == "conv" else (1, c.outputs)

    def tables(self) -> str:
        """The taps in the order of panels, and what the phases are: where their taps begin, and for
        each axis the first target, the taps, and the first place that is read."""
        t = self.t
        _, kh, kw = self.conv.taps
        order: list[int] = []
        self.phases: list[list[int]] = []
        for phases in itertools.product(*(a.phases for a in t.axes)):
            row = [len(order) * t.taps[2] // kw]
            for axis, p in zip(t.axes, phases, strict=True):
                row += [p.start, len(p.taps), p.first - axis.low if p.taps else 0]
            row[-2] += t.taps[2] - kw
            self.phases.append(row)
            order += [
                (a * kh + b) * kw + c for a, b, c in itertools.product(*(p.taps for p in phases))
            ]
        order += [0] * (math.prod(self.conv.taps) - len(order))  # those that no target has
        words = [f"i64 {x}" for row in self.phases for x in row]
        return "\n".join([
            f"@KERNEL_order = private constant [{len(order)} x i32] "
            f"[{', '.join(f'i32 {k}' for k in order)}]",
            f"@KERNEL_phases = private constant [{len(words)} x i64] [{', '.join(words)}]",
        ])  # fmt: skip

    def tap(self, position: str) -> str:
        """The tap of the filter at a position of a panel."""
        at = self.text.assign(f"getelementptr i32, ptr @KERNEL_order, i64 {position}")
        found = self.text.assign(f"load i32, ptr {at}")
        return self.text.assign(f"zext i32 {found} to i64")

    def fill_panels(self) -> None:
        """Items are taps of panels of groups."""
        t, c = self.t, self.conv
        whole, last = t.width * t.lanes, t.last * t.lanes
        group = self.taps * t.reduced * t.vectors * t.lanes
        across = self.strides[1]
        apart = t.made if c.kind == "conv" else t.reduced  # from group to group

        def one(item: str, _: list[str]) -> list[str]:
            rest, tap = self.parted(item, str(self.taps))
            g, p = self.parted(rest, str(t.panels))
            is_last = self.text.assign(f"icmp eq i64 {p}, {t.panels - 1}")
            width = self.text.assign(f"select i1 {is_last}, i64 {last}, i64 {whole}")
            first = self.mul(p, whole)
            source = self.mul(self.tap(tap), c.inputs // c.groups * c.outputs)
            source = self.add(self.add(source, self.mul(g, apart)), self.mul(first, across))
            to = self.add(self.mul(g, group), self.mul(first, self.taps * t.reduced))
            to = self.add(to, self.mul(self.mul(tap, t.reduced), width))
            there = self.min(width, self.sub(str(t.made), first))
            start = self.at("%w", self.mul(source, self.given.itemsize))
            self.fill_rows(start, self.at("%panels", self.mul(to, self.bytes)), width, there)
            return []

        self.loop("%lo", "%hi", 1, [], one)

    def fill_runs(self) -> None:
        """Items are taps of the one panel: for each target of a run its own tap, or zeros."""
        t, c = self.t, self.conv
        width = t.width * t.lanes

        def one(item: str, _: list[str]) -> list[str]:
            before, tap = self.parted(item, str(t.taps[2]))
            to = self.at("%panels", self.mul(item, t.reduced * width * self.bytes))
            self.text.line(f"call void @KERNEL_zero(ptr {to}, i64 {t.reduced * width})")

            def target(q: str, _: list[str]) -> list[str]:
                own = self.sub(tap, self.mul(q, t.axes[2].step))

                def fill() -> None:
                    k = self.tap(self.add(self.mul(before, c.taps[2]), own))
                    source = self.mul(k, c.inputs * c.outputs * self.given.itemsize)
                    place = self.at(to, self.mul(q, t.made * self.bytes))
                    self.fill_rows(self.at("%w", source), place, str(width), str(t.made), False)

                self.when(self.text.assign(f"icmp ult i64 {own}, {c.taps[2]}"), fill)
                return []

            self.loop("0", str(t.run), 1, [], target)
            return []

        self.loop("%lo", "%hi", 1, [], one)

    def fill_rows(self, source: str, to: str, width: str, there: str, zeros: bool = True) -> None:
        """The summed channels of a tap, in rows of `width` elements, of which some are there."""
        t = self.t
        down, across = (k * self.given.itemsize for k in self.strides)
        copied = across == self.given.itemsize
        squares = "0"  # channels that are turned a square at a time
        if not copied and zeros and t.reduced >= t.lanes:
            squares = self.mul(self.div(there, t.lanes), t.lanes)
            self.fill_squares(source, to, width, squares)

        def row(i: str, _: list[str]) -> list[str]:
            line = self.at(to, self.mul(self.mul(i, width), self.bytes))
            start = self.at(source, self.mul(i, down))
            if copied:
                self.text.line(f"call void @KERNEL_copy(ptr {line}, ptr {start}, i64 {there})")
            else:
                inside = self.text.assign(f"icmp slt i64 {i}, {t.reduced // t.lanes * t.lanes}")
                first = self.text.assign(f"select i1 {inside}, i64 {squares}, i64 0")
                self.loop(first, there, 1, [], lambda j, _: self.move(line, start, j, across, 1))
            if zeros:
                rest = self.at(line, self.mul(there, self.bytes))
                count = self.sub(width, there)
                self.text.line(f"call void @KERNEL_zero(ptr {rest}, i64 {count})")
            return []

        self.loop("0", str(t.reduced), 1, [], row)

    def fill_squares(self, source: str, to: str, width: str, count: str) -> None:
        """The first `count` channels that are made, and of those that are summed whole squares."""
        lanes, e = self.t.lanes, VectorEmitter(self.text, self.t.lanes)
        bits = 8 * self.bytes
        turning = Turning(self.parts, bits, lanes)
        turning.text = self.text

        def across(j: str, _: list[str]) -> list[str]:
            column = self.at(source, self.mul(j, self.strides[1] * self.given.itemsize))
            end = self.at(to, self.mul(j, self.bytes))

            def square(i: str, _: list[str]) -> list[str]:
                corner = self.at(column, self.mul(i, self.given.itemsize))
                rows = []
                for k in range(lanes):
                    at = self.at(corner, str(k * self.strides[1] * self.given.itemsize))
                    x = e.convert(self.load_vector(e, at, self.given, Mask()), self.dtype)
                    rows.append(self.text.assign(f"bitcast {e.typed(x)} to <{lanes} x i{bits}>"))
                place = self.at(end, self.mul(self.mul(i, width), self.bytes))
                turning.store_vectors(turning.turned(rows), place, width)
                return []

            self.loop("0", str(self.t.reduced // lanes * lanes), lanes, [], square)
            return []

        self.loop("0", count, lanes, [], across)

    def move(self, to: str, source: str, j: str, across: int, lanes: int) -> list[str]:
        """Element j of those that are `across` bytes apart, or a vector from there on."""
        e = VectorEmitter(self.text, lanes)
        place = self.at(source, self.mul(j, across))
        if lanes > 1:
            x = self.load_vector(e, place, self.given, Mask())
        else:
            type_ = memory_type(self.given)
            one = self.text.assign(f"load {type_}, ptr {place}, align {self.given.itemsize}")
            x = Lanes(one, self.given)
        made = e.convert(x, self.dtype)
        end = self.at(to, self.mul(j, self.bytes))
        self.text.line(f"store {e.typed(made)}, ptr {end}, align {self.bytes}")
        return []

    def moves(self) -> str:
        """Functions that copy neighbouring elements, and that write zeros."""
        given, lanes = self.given.itemsize, self.t.lanes

        def zero(i: str, type_: str) -> list[str]:
            place = self.at("%y", self.mul(i, self.bytes))
            self.text.line(f"store {type_} zeroinitializer, ptr {place}, align {self.bytes}")
            return []

        def function(name: str, given: str, some: object, one: object) -> str:
            self.text, self.block = FunctionText(self.parts), "entry"
            whole = self.text.assign(f"and i64 %n, {-lanes}")
            self.loop("0", whole, lanes, [], some)  # type: ignore[arg-type]
            self.loop(whole, "%n", 1, [], one)  # type: ignore[arg-type]
            head = f"define internal void @KERNEL_{name}(ptr %y{given}, i64 %n) {ATTRIBUTES} {{"
            return "\n".join([head, "entry:", *self.text.lines, "  ret void", "}"])

        copy = function(
            "copy", ", ptr %x",
            lambda i, _: self.move("%y", "%x", i, given, lanes),
            lambda i, _: self.move("%y", "%x", i, given, 1),
        )  # fmt: skip
        zeros = function(
            "zero", "", lambda i, _: zero(i, self.vector), lambda i, _: zero(i, self.element)
        )
        return f"{copy}\n{zeros}"
