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
from dataclasses import dataclass, replace

from graphgrad.compiler.codegen.llvm_columns import Memory, Result
from graphgrad.compiler.codegen.llvm_convolution_kernel import Buffer, Launch
from graphgrad.compiler.codegen.llvm_depthwise_kernel import DepthwiseKernel, axis_of
from graphgrad.compiler.codegen.llvm_epilogue import EpilogueEmitter, Piece
from graphgrad.compiler.codegen.llvm_numbers import load_pointers
from graphgrad.compiler.codegen.llvm_pixels import (
    FilterLanes,
    SeveralPixels,
    TiledLanes,
    WideLanes,
    pixels_together,
)
from graphgrad.compiler.codegen.llvm_scalar import (
    ATTRIBUTES,
    FunctionText,
    Lanes,
    ModuleParts,
    VectorEmitter,
    llvm_type,
)
from graphgrad.compiler.codegen.llvm_windows import Taps
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.division import chunks, times
from graphgrad.compiler.kernels.epilogues import Epilogue
from graphgrad.compiler.kernels.loops import Stmt
from graphgrad.compiler.kernels.windows import Axis

PIXELS = 4  # windows that share a load of the filter
# Instructions that an epilogue may have to be written out wherever there are results; else it is a
# function.
INLINE = 30


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


class DepthwiseConvolution(DepthwiseKernel, EpilogueEmitter):
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
        self.given = self.dtype = conv.dtype
        others = epilogue.others if epilogue is not None else ()
        self.pointers = ("a", "b", "z", *(f"e{k}" for k in range(len(others))))
        self.written: dict[Piece, str] = {}
        self.targets = [a.size if self.is_reversed else a.count for a in self.axes]

    def accepts(self, epilogue: Epilogue) -> bool:
        # Results that share a vector and lie apart are stored lane by lane.
        return not self.is_reversed or self.packed <= 1 or self.conv.strides[2] == 1

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return ()

    @property
    def launches(self) -> tuple[Launch, ...]:
        row = times(to_size(self.targets[2]), self.place_time)
        count = to_size(self.conv.images * self.targets[0] * self.targets[1])
        return (Launch("", count, chunks("rows", count, row)),)

    def emit(self, parts: ModuleParts) -> str:
        self.parts, self.written = parts, {}
        rows = self.function("", self.row_sums)
        return "\n".join([*self.written.values(), rows])

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
        found = pixels_together(self.conv.inputs, stride, self.width)
        return min(found, self.width // self.conv.inputs)

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
            results = lanes.narrow_results if self.is_reversed else lanes.wide_results
            self.finish(self.add(self.mul(at, written), target), target, results(values))

        packed = self.packed
        if pixels >= packed > 1:
            stride = steps[0] // conv.inputs
            lanes = TiledLanes(memory, conv.inputs, stride, packed, self.width)
            if pixels > packed:
                several = SeveralPixels(lanes, pixels // packed, *(n * packed for n in steps))
                sums(several, "0", "0")
            else:
                sums(lanes, "0", "0")
            return

        def group(lanes: WideLanes, wide: str, narrow: str) -> None:
            sums(lanes if pixels == 1 else SeveralPixels(lanes, pixels, *steps), wide, narrow)

        self.groups(group)

    # -- results

    def finish(self, first: str, channel: str, results: Sequence[Result]) -> None:
        """Store results, or what the epilogue makes of them, from element `first` on, which is of
        this channel."""
        if self.epilogue is None:
            memory = Memory(self.text, self.parts, self.conv.dtype)
            memory.put(self.after("%z", first), results)
            return
        known: dict[Piece, dict[int, Lanes]] = {}
        for r in results:
            if len(r.inside) == 1:  # with another lane it is computed as vectors are
                wide = self.shuffle(self.element, 1, r.value, "poison", (0, 0))
                r = replace(r, value=wide, inside=(True, False))
            piece = Piece(r.channel, len(r.inside), sum(r.inside))
            if self.work > INLINE:
                name = self.result_function(replace(piece, first=0))
                self.text.line(
                    f"call void {name}(<{piece.lanes} x {self.element}> {r.value}, "
                    f"i64 {self.add(first, r.offset)}, i64 {self.add(channel, r.channel)}, "
                    "ptr %args)"
                )
                continue
            self.channel = channel
            if piece not in known:
                known[piece] = self.shared_values(piece)
            self.result(self.add(first, r.offset - r.channel), piece, r.value, known[piece])

    def result_function(self, piece: Piece) -> str:
        """A function of a vector of results, the element and the channel that it begins with."""
        name = f"@KERNEL_result_{piece.lanes}_{piece.inside}"
        if piece not in self.written:
            before = self.text, self.block
            self.text, self.block, self.channel = FunctionText(self.parts), "entry", "%channel"
            self.result("%at", piece, "%sums", self.shared_values(piece))
            head = (
                f"define internal void {name}(<{piece.lanes} x {self.element}> %sums, i64 %at, "
                f"i64 %channel, ptr %args) noinline {ATTRIBUTES} {{"
            )
            loads = load_pointers(self.pointers)
            lines = [head, "entry:", *loads, *self.text.lines, "  ret void", "}"]
            self.written[piece] = "\n".join(lines)
            self.text, self.block = before
        return name

    def pointer(self, number: int) -> str:
        return f"%{self.pointers[2 + number]}"

    def channel_values(self, s: Stmt, piece: Piece) -> Lanes:
        """A value a channel; of several places in a vector, those of one after the other."""
        base, e = self.base(s.attr), VectorEmitter(self.text, piece.lanes)
        made = self.conv.inputs if self.is_reversed else self.conv.outputs
        if piece.inside <= made:
            at = self.element_at(base, self.add(self.channel, piece.first), s.dtype)
            return self.load_lanes(e, at, s.dtype, piece.inside)
        once = self.load_lanes(e, base, s.dtype, made).text
        picked = [k % made for k in range(piece.lanes)]
        repeated = self.shuffle(llvm_type(s.dtype), piece.lanes, once, "poison", picked)
        return Lanes(repeated, s.dtype)

    # -- taps

    def tap(self, index: Sequence[str]) -> tuple[str, str]:
        offset, number = super().tap(index)
        if self.is_reversed:
            taps = [
                self.add(self.mul(i, p.apart), p.tap)
                for i, p in zip(index, self.at_work, strict=True)
            ]
            number = self.offset(taps, [str(k) for k in self.conv.taps])
        return offset, number
