"""Depthwise convolution and its gradient by the input as LLVM functions.

    define internal i32 @k_conv_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

lo..hi are rows of the result:

    conv                  y[o] = sum over taps k of x[o s + k d - lo] w[k]
    conv_input_gradient   dx[i] = sum over those k of g[(i + lo - k d) / s] w[k] for which the
                          division is exact: which ones, i modulo s tells

Sums go over taps in one order however threads cut the range.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphgrad.compiler.codegen.llvm_columns import Memory
from graphgrad.compiler.codegen.llvm_convolution_kernel import Buffer, Launch
from graphgrad.compiler.codegen.llvm_depthwise_kernel import DepthwiseKernel, axis_of
from graphgrad.compiler.codegen.llvm_pixels import (
    FilterLanes,
    SeveralPixels,
    TiledLanes,
    WideLanes,
    pixels_together,
)
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.codegen.llvm_windows import Taps
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.division import chunks, times
from graphgrad.compiler.kernels.epilogues import Epilogue
from graphgrad.compiler.kernels.windows import Axis

PIXELS = 4  # windows that share a load of the filter


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
        windows = axis_of(axis.count, count, len(taps), 1, reach - start, d // together)
        last = taps[-1] if taps else 0
        found.append(Phase(windows, s, first, last, -(s // together)))
    return found


class DepthwiseConvolution(DepthwiseKernel):
    """Emits the function of a forward pass or an input gradient."""

    kinds = ("conv", "conv_input_gradient")

    def __init__(
        self, conv: Convolution, registers: Registers, epilogue: Epilogue | None = None
    ) -> None:
        super().__init__(conv, registers, epilogue)
        self.is_reversed = conv.kind == "conv_input_gradient"
        self.phases = [[Phase(a)] for a in self.axes]
        if self.is_reversed:
            self.phases, self.channels = [phases(a) for a in self.axes], conv.outputs
        self.targets = [a.size if self.is_reversed else a.count for a in self.axes]

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return ()

    @property
    def launches(self) -> tuple[Launch, ...]:
        row = times(to_size(self.targets[2]), self.place_time)
        count = to_size(self.conv.images * self.targets[0] * self.targets[1])
        return (Launch("", count, chunks("rows", count, row)),)

    def emit(self, parts: ModuleParts) -> str:
        self.parts = parts
        return self.function("", self.row_sums)

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
                return self.multiply_adds(lanes, xs, w, values)

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
