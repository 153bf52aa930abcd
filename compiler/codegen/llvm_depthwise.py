"""Depthwise convolution as LLVM functions: each input channel has filters of its own.

    define internal i32 @k_conv_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

Lanes are output channels, `multiplier` of which read one input channel. What moves along the
images differs from kind to kind:

    conv                  rows of y:   y[o] = sum over taps k of x[o s + k d - lo] w[k]
    conv_input_gradient   rows of dx:  dx[i] = sum over those k of g[(i + lo - k d) / s] w[k]
                          for which the division is exact: which ones, i modulo s tells
    conv_filter_gradient  blocks of rows of g:  part[k] += x[o s + k d - lo] g[o]
                          then dw[k] = the sum of the parts, in order

Sums go over taps, and over windows, in one order however threads cut the range.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from graphgrad.compiler.kernels.epilogues import Epilogue
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


@dataclass(frozen=True, slots=True)
class Phase:
    """Places step * j + first of a result along one axis, and the windows that they sum: the taps
    of the filter are tap, tap + apart, ... if `apart` is positive, else backwards from `tap`."""

    axis: Axis
    step: int = 1
    first: int = 0
    tap: int = 0
    apart: int = 1


def phases(axis: Axis) -> list[Phase]:
    """The gradient of the input along an axis: place i reads places (i + lo - k d) / s of g for the
    taps k for which the division is exact."""
    found, s, d = [], axis.stride, axis.dilation
    together = math.gcd(s, d)
    for first in range(s):
        taps = [k for k in range(axis.window) if (first + axis.low - k * d) % s == 0]
        reach = max(len(taps) - 1, 0) * (d // together)
        start = (first + axis.low - taps[0] * d) // s if taps else 0
        count = (axis.size - first + s - 1) // s
        windows = _axis(axis.count, count, len(taps), 1, reach - start, d // together)
        last = taps[-1] if taps else 0
        found.append(Phase(windows, s, first, last, -(s // together)))
    return found


class DepthwiseConvolution(ConvolutionKernel, WindowLoops):
    """Emits the functions of one depthwise convolution."""

    @classmethod
    def takes(cls, conv: Convolution) -> bool:
        fits = conv.groups == conv.inputs > 1 and conv.outputs <= MOST * conv.inputs
        return fits and conv.dtype in (dtypes.float32, dtypes.float64)

    def __init__(
        self, conv: Convolution, registers: Registers, epilogue: Epilogue | None = None
    ) -> None:
        super().__init__(conv, registers, epilogue)
        self.is_summed = conv.kind == "conv_filter_gradient"
        self.pointers = ("a", "b", "z", "parts") if self.is_summed else ("a", "b", "z")
        self.element = llvm_type(conv.dtype)
        self.multiplier = conv.outputs // conv.inputs
        self.lanes = max(registers.bytes // conv.dtype.itemsize, MOST)
        self.axes, self.channels = axes_of(conv), conv.inputs
        self.is_reversed = conv.kind == "conv_input_gradient"
        self.phases = [[Phase(a)] for a in self.axes]
        if self.is_reversed:
            self.phases, self.channels = [phases(a) for a in self.axes], conv.outputs
        self.targets = [a.size if self.is_reversed else a.count for a in self.axes]

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        if not self.is_summed:
            return ()
        return (Buffer(self.blocks * self.filter_size * self.conv.dtype.itemsize),)

    @property
    def filter_size(self) -> int:
        return math.prod(self.conv.taps) * self.conv.outputs

    @property
    def rows(self) -> Extent:
        """Rows of the result; of the output, where that is the filter's gradient."""
        return self.conv.images * self.targets[0] * self.targets[1]

    @property
    def blocks(self) -> int:
        """How many partial sums there are of a filter's gradient."""
        rows = self.rows
        return min(rows, BLOCKS) if isinstance(rows, int) else BLOCKS

    @property
    def launches(self) -> tuple[Launch, ...]:
        conv = self.conv
        if self.is_summed:
            blocks = Division("blocks", self.blocks, 1, 1) if self.blocks > 1 else None
            return Launch("_parts", self.blocks, blocks), Launch("", 1, None)
        macs = math.prod(conv.taps) * conv.outputs
        mac = MAC * conv.dtype.itemsize // 4
        row = times(to_size(self.targets[2]), macs * mac)
        count = to_size(self.rows)
        return (Launch("", count, chunks("rows", count, row)),)

    def emit(self, parts: ModuleParts) -> str:
        self.parts = parts
        if self.is_summed:
            first = self.function("_parts", self.partial_sums)
            return "\n".join([first, self.function("", self.combine)])
        return self.function("", self.row_sums)

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
        """The rows lo..hi of the result."""

        def one(index: str, _: list[str]) -> list[str]:
            rest, b = self.parted(index, self.size(self.targets[1]))
            image, a = self.parted(rest, self.size(self.targets[0]))
            for outer, middle in itertools.product(*self.phases[:2]):
                self.when_in((outer, middle), (a, b), lambda *place: self.row(index, image, *place))
            return []

        self.loop("%lo", "%hi", 1, [], one)

    def when_in(
        self, pair: tuple[Phase, Phase], index: tuple[str, str],
        body: Callable[[tuple[Phase, Phase], list[str]], None],
    ) -> None:  # fmt: skip
        """`body` where the row `index` belongs to the phases."""
        places, inside = [], None
        for phase, i in zip(pair, index, strict=True):
            if phase.step == 1:
                places.append(i)
                continue
            over, rest = self.parted(i, str(phase.step))
            places.append(over)
            here = self.text.assign(f"icmp eq i64 {rest}, {phase.first}")
            inside = here if inside is None else self.text.assign(f"and i1 {inside}, {here}")
        if inside is None:
            body(pair, places)
        else:
            self.when(inside, lambda: body(pair, places))

    def row(self, index: str, image: str, pair: tuple[Phase, Phase], place: list[str]) -> None:
        """Row `index` of the result, at `place` among those of its phases: the places of all phases
        along the last axis go on together, so that the row is written in order."""
        first = self.use(*pair, self.phases[2][0])
        outer = [self.taps(p.axis, i) for p, i in zip(pair, place, strict=True)]
        line = self.line([image, *(t.base for t in outer)])
        target = self.mul(index, self.size(self.targets[2]))

        def some(w: str, pixels: int, phase: Phase, outer: list[Taps], bounded: bool) -> None:
            last = self.use(*pair, phase)
            at = self.add(self.add(target, phase.first), self.mul(w, phase.step))
            taps = self.taps(last, w) if bounded else self.whole(w)
            self.window(line, at, [*outer, taps], pixels)

        def border(phase: Phase) -> Callable[[str, list[str]], list[str]]:
            def body(w: str, _: list[str]) -> list[str]:
                some(w, 1, phase, outer, bounded=True)
                return []

            return body

        def inside(taps: list[Taps], together: list[int]) -> None:
            start = lo
            for pixels in together:

                def body(w: str, _: list[str], pixels: int = pixels) -> list[str]:
                    for phase in self.phases[2]:
                        some(w, pixels, phase, taps, bounded=False)
                    return []

                end = self.add(start, self.mul(self.div(self.sub(hi, start), pixels), pixels))
                self.loop(start, end, pixels, [], body)
                start = end

        lo, hi = self.inner(first, [])
        for phase in self.phases[2][1:]:
            start, end = self.inner(phase.axis, [])
            lo, hi = self.max(lo, start), self.min(hi, end)
        lo = self.min(lo, self.size(self.phases[2][-1].axis.count))  # the least
        hi = self.max(lo, hi)
        is_bordered = any(p.axis.padded for p in self.phases[2]) or len(self.phases[2]) > 1
        for phase in self.phases[2] if is_bordered else ():
            self.loop("0", lo, 1, [], border(phase))
        conditions = [self.is_whole(p.axis, t) for p, t in zip(pair, outer, strict=True)]
        open_ = [c for c in conditions if c is not None]
        whole = [Taps(t.base, "0", str(p.axis.window)) for p, t in zip(pair, outer, strict=True)]
        if open_:  # rows at the border are few: their loops have bounds
            both = self.text.assign(f"and i1 {open_[0]}, {open_[-1]}")
            self.when(both, lambda: inside(whole, self.together))
            other = self.text.assign(f"xor i1 {both}, true")
            self.when(other, lambda: inside(outer, self.together[1:]))
        else:
            inside(whole, self.together)
        for phase in self.phases[2] if is_bordered else ():
            self.loop(hi, self.size(phase.axis.count), 1, [], border(phase))

    def use(self, *phases: Phase) -> Axis:
        """Set to work at one phase along each axis; the last axis."""
        a, b, c = phases
        self.at_work, self.axes = (a, b, c), (a.axis, b.axis, c.axis)
        return c.axis

    @property
    def together(self) -> list[int]:
        """How many windows are summed at once: first many, then what is left."""
        if self.packed > 1:
            return [PIXELS * self.packed, self.packed, 1]
        return [PIXELS, 1]

    @property
    def packed(self) -> int:
        """How many windows share a vector."""
        if self.multiplier > 1:
            return 1
        stride = max(self.conv.strides[2], 1)
        found = pixels_together(self.conv.inputs, stride, self.lanes)
        return min(found, self.lanes // self.conv.inputs)

    def line(self, index: Sequence[str]) -> str:
        """The place of (image, first axis, second axis), and 0 along the last."""
        sizes = [self.size(x.size) for x in self.axes]
        return self.mul(self.offset(index, ["", *sizes[:2]]), sizes[2])

    def whole(self, w: str) -> Taps:
        """All elements of a window along the last axis."""
        axis = self.axes[2]
        base = self.add(self.mul(w, axis.stride), -axis.low)
        return Taps(base, "0", str(axis.window))

    def window(self, line: str, at: str, taps: Sequence[Taps], pixels: int) -> None:
        """The windows from place `at` on: as many as `pixels`."""
        conv, memory = self.conv, Memory(self.text, self.parts, self.conv.dtype)
        first = self.add(line, taps[2].base)
        read, written = conv.inputs, conv.outputs
        steps = self.axes[2].stride * conv.inputs, conv.outputs
        if self.is_reversed:
            read, written = written, read
            steps = self.at_work[2].step * conv.inputs, conv.outputs

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
            (lanes.put_narrow if self.is_reversed else lanes.put_wide)(place, values)

        packed = self.packed
        if pixels >= packed > 1:
            stride = steps[0] // conv.inputs
            lanes = TiledLanes(memory, conv.inputs, stride, packed, self.lanes)
            if pixels > packed:
                several = SeveralPixels(lanes, pixels // packed, *(n * packed for n in steps))
                sums(several, "0", "0")
            else:
                sums(lanes, "0", "0")
            return

        def group(lanes: WideLanes, wide: str, narrow: str) -> None:
            sums(lanes if pixels == 1 else SeveralPixels(lanes, pixels, *steps), wide, narrow)

        self.groups(group)

    def tap(self, index: Sequence[str]) -> tuple[str, str]:
        offset, number = super().tap(index)
        if self.is_reversed:
            taps = [
                self.add(self.mul(i, p.apart), p.tap)
                for i, p in zip(index, self.at_work, strict=True)
            ]
            number = self.offset(taps, [str(k) for k in self.conv.taps])
        return offset, number

    def multiply_add(self, type_: str, x: str, y: str, z: str) -> str:
        """x y + z, rounded once where the processor can do that in one instruction."""
        lanes = type_[1:].split(" x ")[0]
        name = f"@llvm.fmuladd.v{lanes}f{8 * self.conv.dtype.itemsize}"
        self.parts.declares.add(f"declare {type_} {name}({type_}, {type_}, {type_})")
        return self.text.assign(f"call {type_} {name}({type_} {x}, {type_} {y}, {type_} {z})")

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
