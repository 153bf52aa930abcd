"""The gradient of a depthwise convolution by its filter as LLVM functions.

    define internal i32 @k_conv_3f9a1c_parts(ptr %status, i64 %lo, i64 %hi, ptr %args)
    define internal i32 @k_conv_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

The first sums over blocks of rows of g, part[k] += x[o s + k d - lo] g[o], each row by itself; the
second adds the parts, dw[k] = part 0 [k] + part 1 [k] + ... The blocks follow from the number of
rows, and so the order of the sums, whatever the number of threads.
"""

from __future__ import annotations

import math

from graphgrad.compiler.codegen.llvm_columns import Memory
from graphgrad.compiler.codegen.llvm_convolution_kernel import Buffer, Launch
from graphgrad.compiler.codegen.llvm_depthwise_kernel import DepthwiseKernel
from graphgrad.compiler.codegen.llvm_pixels import WideLanes
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.codegen.llvm_windows import UNROLLED
from graphgrad.compiler.dims import Extent, to_size
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.division import chunks, quotient, times
from graphgrad.compiler.kernels.epilogues import Epilogue

BLOCKS = 64  # more let more threads work, and take more memory


class DepthwiseFilterGradient(DepthwiseKernel):
    """Emits the functions of one gradient by the filter."""

    kinds = ("conv_filter_gradient",)

    def __init__(
        self, conv: Convolution, registers: Registers, epilogue: Epilogue | None = None
    ) -> None:
        super().__init__(conv, registers, epilogue)
        self.pointers = ("a", "b", "z", "parts")

    @property
    def filter_size(self) -> int:
        return math.prod(self.conv.taps) * self.conv.outputs

    @property
    def rows(self) -> Extent:
        """Rows of g."""
        return self.conv.images * self.axes[0].count * self.axes[1].count

    @property
    def blocks(self) -> int:
        """How many partial sums there are."""
        rows = self.rows
        return min(rows, BLOCKS) if isinstance(rows, int) else BLOCKS

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return (Buffer(self.blocks * self.filter_size * self.conv.dtype.itemsize),)

    @property
    def launches(self) -> tuple[Launch, ...]:
        whole = times(to_size(self.rows * self.axes[2].count), self.place_time)
        block = quotient(whole, self.blocks)
        parts = Launch("_parts", self.blocks, chunks("blocks", self.blocks, block))
        return parts, Launch("", 1, None)

    def emit(self, parts: ModuleParts) -> str:
        self.parts = parts
        first = self.function("_parts", self.partial_sums)
        return "\n".join([first, self.function("", self.combine)])

    def partial_sums(self) -> None:
        """The sums of the blocks lo..hi, each over its rows of windows."""
        rows = self.size(self.rows)

        def block(index: str, _: list[str]) -> list[str]:
            part = self.after("%parts", self.mul(index, self.filter_size))
            memory = Memory(self.text, self.parts, self.conv.dtype)
            self.set_zero(memory, part, "0", str(self.filter_size), self.width)
            begin = self.div(self.mul(index, rows), self.blocks)
            end = self.div(self.mul(self.add(index, 1), rows), self.blocks)

            def row(i: str, _: list[str]) -> list[str]:
                self.row_products(part, i)
                return []

            self.loop(begin, end, 1, [], row)
            return []

        self.loop("%lo", "%hi", 1, [], block)

    def row_products(self, part: str, index: str) -> None:
        """part += the products of a row of g with what its windows see."""
        outer, middle, last = self.axes
        rest, b = self.parted(index, self.size(middle.count))
        image, a = self.parted(rest, self.size(outer.count))
        first, second = self.taps(outer, a), self.taps(middle, b)
        lo, hi = self.inner(last, [])
        count = self.size(last.count)
        line = self.line([image, first.base, second.base])
        at = self.mul(index, count)

        def group(lanes: WideLanes, wide: str, narrow: str) -> None:
            def along(i: str, j: str) -> None:
                self.tap_products(lanes, part, (i, j), (line, narrow), (at, wide), lo, hi)

            def outer_taps(i: str, _: list[str]) -> list[str]:
                def inner_taps(j: str, _: list[str]) -> list[str]:
                    along(i, j)
                    return []

                self.loop(second.lo, second.hi, 1, [], inner_taps)
                return []

            self.loop(first.lo, first.hi, 1, [], outer_taps)

        self.groups(group)

    def tap_products(
        self, lanes: WideLanes, part: str, tap: tuple[str, str], source: tuple[str, str],
        given: tuple[str, str], lo: str, hi: str,
    ) -> None:  # fmt: skip
        """The products for the taps (*tap, any) of the filter, of windows along a row."""
        conv, last = self.conv, self.axes[2]
        k, wide = last.window, given[1]
        offset, number = self.tap([*tap, "0"])
        start = self.add(self.mul(source[0], conv.inputs), self.add(offset, source[1]))
        sums = self.after(part, self.add(self.mul(number, conv.outputs), wide))
        gs = self.after("%b", self.add(self.mul(given[0], conv.outputs), wide))

        def factors(w: str) -> tuple[str, list[str]]:
            base = self.add(self.mul(w, last.stride), -last.low)
            place = self.add(start, self.mul(base, conv.inputs))
            x = self.after("%a", place)
            return x, lanes.load_wide(self.after(gs, self.mul(w, conv.outputs)))

        def at_tap(x: str, tap: str) -> list[str]:
            return lanes.load_narrow(self.after(x, self.mul(tap, last.dilation * conv.inputs)))

        def border(w: str, _: list[str]) -> list[str]:
            x, g = factors(w)
            inside = self.taps(last, w)

            def one(tap: str, _: list[str]) -> list[str]:
                place = self.after(sums, self.mul(tap, conv.outputs))
                before = lanes.load_wide(place)
                ends = self.multiply_adds(lanes, at_tap(x, tap), g, before)
                lanes.memory.put(place, lanes.wide_results(ends))
                return []

            self.loop(inside.lo, inside.hi, 1, [], one)
            return []

        if last.padded:
            self.loop("0", lo, 1, [], border)
            self.loop(hi, self.size(last.count), 1, [], border)
        for some in (range(k)[i : i + UNROLLED] for i in range(0, k, UNROLLED)):

            def step(w: str, values: list[str], some: range = some) -> list[str]:
                x, g = factors(w)
                n, ends = len(g), []
                for i, t in enumerate(some):
                    row = values[i * n : (i + 1) * n]
                    ends += self.multiply_adds(lanes, at_tap(x, str(t)), g, row)
                return ends

            zeros = [(t, "zeroinitializer") for t in lanes.types] * len(some)
            totals = self.loop(lo, hi, 1, zeros, step)
            n = len(lanes.types)
            for i, t in enumerate(some):
                place = self.after(sums, self.mul(str(t), conv.outputs))
                before = lanes.load_wide(place)
                both = [
                    self.text.assign(f"fadd {type_} {x}, {y}")
                    for type_, x, y in zip(
                        lanes.types, before, totals[i * n : (i + 1) * n], strict=True
                    )
                ]
                lanes.memory.put(place, lanes.wide_results(both))

    def combine(self) -> None:
        """The sum of all parts."""
        memory = Memory(self.text, self.parts, self.conv.dtype)
        whole = self.filter_size // self.width * self.width
        for lo, hi, count in ((0, whole, self.width), (whole, self.filter_size, 1)):

            def some(i: str, _: list[str], count: int = count) -> list[str]:
                type_ = memory.type(count)

                def add(block: str, values: list[str]) -> list[str]:
                    place = self.after("%parts", self.add(self.mul(block, self.filter_size), i))
                    part = memory.load(place, count, None)
                    return [self.text.assign(f"fadd {type_} {values[0]}, {part}")]

                zero = [(type_, "zeroinitializer")]
                (total,) = self.loop("0", str(self.blocks), 1, zero, add)
                memory.store(self.after("%z", i), total, count, None)
                return []

            self.loop(str(lo), str(hi), count, [], some)
