"""Depthwise convolution as LLVM functions: each input channel has filters of its own.

    define internal i32 @k_conv_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

Lanes are output channels, `multiplier` of which read one input channel. What moves along the
images differs from kind to kind:

    conv                  rows of y:  y[o] = sum over taps k of x[o s + k d - lo] w[k]
    conv_input_gradient   stride 1, rows of dx:  the same of g with the taps in reverse
                          else slices of dx:  dx[o s + k d - lo] += g[o] w[k], windows in order
    conv_filter_gradient  blocks of rows of g:  part[k] += x[o s + k d - lo] g[o]
                          then dw[k] = the sum of the parts, in order

Sums go over taps, and over windows, in one order however threads cut the range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_convolution_kernel import Buffer, ConvolutionKernel, Launch
from graphgrad.compiler.codegen.llvm_pixels import (
    FilterLanes,
    Memory,
    SeveralPixels,
    TiledLanes,
    WideLanes,
    pixels_together,
)
from graphgrad.compiler.codegen.llvm_products import Columns
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts, llvm_type
from graphgrad.compiler.codegen.llvm_windows import UNROLLED, Taps, WindowLoops
from graphgrad.compiler.dims import Extent, to_size
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.division import chunks, times
from graphgrad.compiler.kernels.loops import Division
from graphgrad.compiler.kernels.windows import Axis

# Vectors of channels at a time, and windows that share a load of the filter.
TOGETHER, PIXELS = 2, 4
MOST = 8  # output channels of an input channel: a vector holds them
# Partial sums of a filter's gradient: more let more threads work, and take more memory.
BLOCKS = 64
# Picoseconds of a multiplication and addition of four bytes.
MAC = 12


def axes_of(conv: Convolution) -> tuple[Axis, Axis, Axis]:
    """The axes of the input, with the windows that the output's places are."""
    a, b, c = (
        _axis(*each)
        for each in zip(
            conv.sizes, conv.places, conv.taps, conv.strides, conv.lows, conv.dilations, strict=True
        )
    )
    return a, b, c


def _axis(size: Extent, count: Extent, k: int, stride: int, low: int, dilation: int) -> Axis:
    beyond = (count - 1) * stride + (k - 1) * dilation + 1 - low - size
    high = max(beyond, 0) if isinstance(beyond, int) else k - 1
    return Axis(size, count, k, stride, low, high, dilation)


def reversed_axis(axis: Axis) -> Axis:
    """The windows of stride 1 over the gradient of the output whose sums are the gradient of the
    input, with the taps in reverse."""
    reach = (axis.window - 1) * axis.dilation
    return _axis(axis.count, axis.size, axis.window, 1, reach - axis.low, axis.dilation)


class DepthwiseConvolution(ConvolutionKernel, WindowLoops):
    """Emits the functions of one depthwise convolution."""

    pointers = ("a", "b", "z", "parts")

    @classmethod
    def takes(cls, conv: Convolution) -> bool:
        fits = conv.groups == conv.inputs > 1 and conv.outputs <= MOST * conv.inputs
        return fits and conv.dtype in (dtypes.float32, dtypes.float64)

    def __init__(self, conv: Convolution, registers: Registers) -> None:
        super().__init__(conv, registers)
        self.element = llvm_type(conv.dtype)
        self.multiplier = conv.outputs // conv.inputs
        self.lanes = max(registers.bytes // conv.dtype.itemsize, MOST)
        self.axes, self.channels = axes_of(conv), conv.inputs
        self.is_reversed = conv.kind == "conv_input_gradient" and set(conv.strides) == {1}
        if self.is_reversed:
            a, b, c = map(reversed_axis, self.axes)
            self.axes, self.channels = (a, b, c), conv.outputs
        self.is_sum = conv.kind == "conv" or self.is_reversed

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        if self.conv.kind != "conv_filter_gradient":
            return (Buffer(0),)
        return (Buffer(self.blocks * self.filter_size * self.conv.dtype.itemsize),)

    @property
    def filter_size(self) -> int:
        return math.prod(self.conv.taps) * self.conv.outputs

    @property
    def rows(self) -> Extent:
        """Rows of windows."""
        return self.conv.images * self.axes[0].count * self.axes[1].count

    @property
    def blocks(self) -> int:
        """How many partial sums there are of a filter's gradient."""
        rows = self.rows
        return min(rows, BLOCKS) if isinstance(rows, int) else BLOCKS

    @property
    def launches(self) -> tuple[Launch, ...]:
        conv, (outer, middle, last) = self.conv, self.axes
        mac = MAC * conv.dtype.itemsize // 4
        row = times(to_size(last.count), math.prod(conv.taps) * conv.outputs * mac)
        if conv.kind == "conv_filter_gradient":
            blocks = Division("blocks", self.blocks, 1, 1)
            return (
                Launch("_parts", self.blocks, blocks if self.blocks > 1 else None),
                Launch("", 1, None),
            )
        if self.is_sum:
            count = to_size(self.rows)
        else:
            count = to_size(conv.images * outer.size)
            row = times(row, to_size(middle.count))
        return (Launch("", count, chunks("rows", count, row)),)

    def emit(self, parts: ModuleParts) -> str:
        self.parts = parts
        if self.conv.kind == "conv_filter_gradient":
            first = self.function("_parts", self.partial_sums)
            return "\n".join([first, self.function("", self.combine)])
        return self.function("", self.row_sums if self.is_sum else self.slices)

    # -- lanes

    def groups(self, body: Callable[[WideLanes, str, str], None]) -> None:
        """`body(lanes, wide, narrow)` for the channels, some vectors at a time, which begin at the
        output channel `wide` and the input channel `narrow`."""
        m, outputs = self.multiplier, self.conv.outputs
        memory = Memory(self.text, self.parts, self.conv.dtype)
        used = self.lanes // m * m  # lanes of a vector that whole input channels fill
        step = used * TOGETHER
        whole = outputs // step * step

        def lanes(count: int) -> WideLanes:
            columns = []
            for start in range(0, count, used):
                n = min(used, count - start)
                columns.append(Columns(start, 1 << (n - 1).bit_length(), n))
            return WideLanes(memory, columns, m)

        if whole == step:
            body(lanes(step), "0", "0")
        elif whole:

            def group(i: str, _: list[str]) -> list[str]:
                body(lanes(step), self.mul(i, step), self.mul(i, step // m))
                return []

            self.loop("0", str(whole // step), 1, [], group)
        if whole < outputs:
            body(lanes(outputs - whole), str(whole), str(whole // m))

    # -- sums over the taps of a window

    def row_sums(self) -> None:
        """Rows of windows lo..hi."""
        outer, middle, last = self.axes

        def one(index: str, _: list[str]) -> list[str]:
            rest, b = self.parted(index, self.size(middle.count))
            image, a = self.parted(rest, self.size(outer.count))
            first, second = self.taps(outer, a), self.taps(middle, b)
            whole = [self.is_whole(outer, first), self.is_whole(middle, second)]
            lo, hi = self.inner(last, whole)
            count = self.size(last.count)
            line = self.line([image, first.base, second.base])
            target = self.mul(index, count)

            def window(w: str, taps: list[Taps], pixels: int) -> None:
                self.window(line, self.add(target, w), taps, pixels)

            def border(w: str, _: list[str]) -> list[str]:
                window(w, [first, second, self.taps(last, w)], 1)
                return []

            def inner(w: str, pixels: int) -> list[str]:
                window(w, self.full(w), pixels)
                return []

            is_bordered = last.padded or any(c is not None for c in whole)
            if is_bordered:
                self.loop("0", lo, 1, [], border)
            together = self.together
            several = self.add(lo, self.mul(self.div(self.sub(hi, lo), together), together))
            self.loop(lo, several, together, [], lambda w, _: inner(w, together))
            self.loop(several, hi, 1, [], lambda w, _: inner(w, 1))
            if is_bordered:
                self.loop(hi, count, 1, [], border)
            return []

        self.loop("%lo", "%hi", 1, [], one)

    @property
    def together(self) -> int:
        """How many windows are summed at once."""
        packed = self.packed
        return packed if packed > 1 else PIXELS

    @property
    def packed(self) -> int:
        """How many windows share a vector."""
        if self.multiplier > 1 or not self.is_sum:
            return 1
        found = pixels_together(self.conv.inputs, self.axes[2].stride, self.lanes)
        return min(found, self.lanes // self.conv.inputs)

    def line(self, index: Sequence[str]) -> str:
        """The place of (image, first axis, second axis), and 0 along the last."""
        sizes = [self.size(x.size) for x in self.axes]
        return self.mul(self.offset(index, ["", *sizes[:2]]), sizes[2])

    def full(self, w: str) -> list[Taps]:
        """All elements of a window that lies in the array."""
        axis = self.axes[2]
        base = self.add(self.mul(w, axis.stride), -axis.low)
        return [*(Taps("", "0", str(a.window)) for a in self.axes[:2]),
                Taps(base, "0", str(axis.window))]  # fmt: skip

    def window(self, line: str, at: str, taps: Sequence[Taps], pixels: int) -> None:
        """The windows from place `at` on: as many as `pixels`."""
        conv, stride = self.conv, self.axes[2].stride
        first = self.add(line, taps[2].base)
        read, written = conv.inputs, conv.outputs
        if self.is_reversed:
            read, written = written, read

        def sums(lanes: FilterLanes, wide: str, narrow: str) -> None:
            source, target = (wide, narrow) if self.is_reversed else (narrow, wide)
            corner = self.after("%a", self.add(self.mul(first, read), source))
            filter_ = self.after("%b", wide)

            def add(offset: str, number: str, values: list[str]) -> list[str]:
                w = lanes.load_filter(self.after(filter_, self.mul(number, conv.outputs)))
                place = self.after(corner, offset)
                xs = lanes.load_wide(place) if self.is_reversed else lanes.load_narrow(place)
                return [
                    self.multiply_add(t, x, y, z)
                    for t, x, y, z in zip(lanes.types, xs, w, values, strict=True)
                ]

            zeros = [(t, "zeroinitializer") for t in lanes.types]
            values = self.each_tap(taps, zeros, add)
            place = self.after("%z", self.add(self.mul(at, written), target))
            if self.is_reversed:
                lanes.put_narrow(place, values, add=False)
            else:
                lanes.put_wide(place, values)

        if pixels > 1 and self.packed > 1:
            memory = Memory(self.text, self.parts, conv.dtype)
            sums(TiledLanes(memory, conv.inputs, stride, pixels, self.lanes), "0", "0")
            return

        def group(lanes: WideLanes, wide: str, narrow: str) -> None:
            if pixels == 1:
                sums(lanes, wide, narrow)
                return
            steps = (stride * conv.inputs, conv.outputs)
            if self.is_reversed:
                steps = (conv.inputs, stride * conv.outputs)
            sums(SeveralPixels(lanes, pixels, *steps), wide, narrow)

        self.groups(group)

    def tap(self, index: Sequence[str]) -> tuple[str, str]:
        offset, number = super().tap(index)
        if self.is_reversed:
            number = self.sub(str(math.prod(self.conv.taps) - 1), number)
        return offset, number

    def multiply_add(self, type_: str, x: str, y: str, z: str) -> str:
        """x y + z, rounded once where the processor can do that in one instruction."""
        lanes = type_[1:].split(" x ")[0]
        name = f"@llvm.fmuladd.v{lanes}f{8 * self.conv.dtype.itemsize}"
        self.parts.declares.add(f"declare {type_} {name}({type_}, {type_}, {type_})")
        return self.text.assign(f"call {type_} {name}({type_} {x}, {type_} {y}, {type_} {z})")

    # -- the gradient of the input where windows are strides apart

    def slices(self) -> None:
        """Slices lo..hi of dx along the first axis: each window gives to those that it reaches."""
        outer, middle, _ = self.axes
        size = self.size(outer.size)
        stop = self.div(self.add(self.add("%hi", size), -1), size)
        slice_ = self.mul(self.mul(self.size(middle.size), self.size(self.axes[2].size)),
                          self.channels)  # fmt: skip
        spread = (outer.window - 1) * outer.dilation

        def image(n: str, _: list[str]) -> list[str]:
            start = self.mul(n, size)
            lo = self.max(self.sub("%lo", start), "0")
            hi = self.min(self.sub("%hi", start), size)
            begin = self.steps(self.add(lo, outer.low - spread), outer.stride)
            end = self.min(self.steps(self.add(hi, outer.low), outer.stride),
                           self.size(outer.count))  # fmt: skip
            corner = self.after("%z", self.mul(start, slice_))

            def windows(a: str, cleared: list[str]) -> list[str]:
                base = self.add(self.mul(a, outer.stride), -outer.low)
                reached = self.max(cleared[0], self.min(self.add(base, spread + 1), hi))
                self.clear(corner, self.mul(cleared[0], slice_), self.mul(reached, slice_))
                own = self.cut(outer, base, lo, hi)

                def row(b: str, _: list[str]) -> list[str]:
                    self.give(n, a, b, own)
                    return []

                self.loop("0", self.size(middle.count), 1, [], row)
                return [reached]

            (cleared,) = self.loop(begin, end, 1, [("i64", lo)], windows)
            self.clear(corner, self.mul(cleared, slice_), self.mul(hi, slice_))
            return []

        self.loop(self.div("%lo", size), stop, 1, [], image)

    def clear(self, corner: str, start: str, end: str) -> None:
        """Zeros from one element to another."""
        memory = Memory(self.text, self.parts, self.conv.dtype)
        whole = self.text.assign(f"and i64 {self.sub(end, start)}, {-self.lanes}")
        whole = self.add(start, whole)
        for first, last, count in ((start, whole, self.lanes), (whole, end, 1)):

            def zero(i: str, _: list[str], count: int = count) -> list[str]:
                memory.store(self.after(corner, i), "zeroinitializer", count, None)
                return []

            self.loop(first, last, count, [], zero)

    def give(self, image: str, a: str, b: str, own: Taps) -> None:
        """What the windows of a row give to the elements `own` along the first axis."""
        outer, middle, last = self.axes
        second = self.taps(middle, b)
        line = self.line([image, own.base, second.base])
        count = self.size(last.count)
        places = self.offset([image, a, b], ["", *(self.size(x.count) for x in self.axes[:2])])
        at = self.mul(places, count)
        lo, hi = self.inner(last, [self.is_whole(outer, own), self.is_whole(middle, second)])

        def window(w: str, taps: Sequence[Taps]) -> list[str]:
            first = self.add(line, taps[2].base)
            self.groups(lambda *group: self.give_channels(first, self.add(at, w), taps, *group))
            return []

        def border(w: str, _: list[str]) -> list[str]:
            return window(w, [own, second, self.taps(last, w)])

        self.loop("0", lo, 1, [], border)
        self.loop(lo, hi, 1, [], lambda w, _: window(w, self.full(w)))
        self.loop(hi, count, 1, [], border)

    def give_channels(
        self, first: str, at: str, taps: Sequence[Taps], lanes: WideLanes, wide: str, narrow: str
    ) -> None:
        conv = self.conv
        g = lanes.load_wide(self.after("%a", self.add(self.mul(at, conv.outputs), wide)))
        corner = self.after("%z", self.add(self.mul(first, conv.inputs), narrow))
        filter_ = self.after("%b", wide)

        def give(offset: str, number: str, _: list[str]) -> list[str]:
            w = lanes.load_filter(self.after(filter_, self.mul(number, conv.outputs)))
            terms = [
                self.text.assign(f"fmul {t} {x}, {y}")
                for t, x, y in zip(lanes.types, g, w, strict=True)
            ]
            lanes.put_narrow(self.after(corner, offset), terms, add=True)
            return []

        self.each_tap(taps, [], give)

    # -- the gradient of the filter

    def partial_sums(self) -> None:
        """The sums of the blocks lo..hi, each over its rows of windows."""
        rows = self.size(self.rows)

        def block(index: str, _: list[str]) -> list[str]:
            part = self.after("%parts", self.mul(index, self.filter_size))
            self.clear(part, "0", str(self.filter_size))
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
            x = self.after("%a", self.add(start, self.mul(base, conv.inputs)))
            return x, lanes.load_wide(self.after(gs, self.mul(w, conv.outputs)))

        def at_tap(x: str, tap: str) -> list[str]:
            return lanes.load_narrow(self.after(x, self.mul(tap, last.dilation * conv.inputs)))

        def border(w: str, _: list[str]) -> list[str]:
            x, g = factors(w)
            inside = self.taps(last, w)

            def one(tap: str, _: list[str]) -> list[str]:
                place = self.after(sums, self.mul(tap, conv.outputs))
                before = lanes.load_wide(place)
                lanes.put_wide(place, self.multiply_adds(lanes, at_tap(x, tap), g, before))
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
                lanes.put_wide(place, both)

    def multiply_adds(
        self, lanes: WideLanes, xs: Sequence[str], ys: Sequence[str], zs: Sequence[str]
    ) -> list[str]:
        return [
            self.multiply_add(t, x, y, z)
            for t, x, y, z in zip(lanes.types, xs, ys, zs, strict=True)
        ]

    def combine(self) -> None:
        """The sum of all parts."""
        memory = Memory(self.text, self.parts, self.conv.dtype)
        whole = self.filter_size // self.lanes * self.lanes
        for lo, hi, count in ((0, whole, self.lanes), (whole, self.filter_size, 1)):

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
