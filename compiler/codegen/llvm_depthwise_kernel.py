"""What the kernels of depthwise convolution share: each input channel has filters of its own.

Lanes are output channels, `multiplier` of which read one input channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_columns import Columns, Memory
from graphgrad.compiler.codegen.llvm_convolution_kernel import ConvolutionKernel
from graphgrad.compiler.codegen.llvm_pixels import FilterLanes, WideLanes
from graphgrad.compiler.codegen.llvm_scalar import llvm_type
from graphgrad.compiler.codegen.llvm_windows import WindowLoops
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.epilogues import Epilogue
from graphgrad.compiler.kernels.windows import Axis

MAC = 12  # picoseconds of a multiplication and addition of four bytes
TOGETHER = 2  # vectors of channels at a time
MOST = 8  # output channels of an input channel: a vector holds them


def axes_of(conv: Convolution) -> tuple[Axis, Axis, Axis]:
    """The axes of the input, with the windows that the output's places are."""
    a, b, c = (
        axis_of(*each)
        for each in zip(
            conv.sizes, conv.places, conv.taps, conv.strides, conv.lows, conv.dilations, strict=True
        )
    )
    return a, b, c


def axis_of(size: Extent, count: Extent, k: int, stride: int, low: int, dilation: int) -> Axis:
    beyond = (count - 1) * stride + (k - 1) * dilation + 1 - low - size
    high = max(beyond, 0) if isinstance(beyond, int) else 1  # there may be some
    return Axis(size, count, k, stride, low, high, dilation)


class DepthwiseKernel(ConvolutionKernel, WindowLoops):
    """Emits the functions of one depthwise convolution."""

    kinds: ClassVar[tuple[str, ...]]

    @classmethod
    def takes(cls, conv: Convolution) -> bool:
        fits = conv.groups == conv.inputs > 1 and conv.outputs <= MOST * conv.inputs
        return conv.kind in cls.kinds and fits and conv.dtype in (dtypes.float32, dtypes.float64)

    def __init__(
        self, conv: Convolution, registers: Registers, epilogue: Epilogue | None = None
    ) -> None:
        super().__init__(conv, registers, epilogue)
        self.pointers = ("a", "b", "z")
        self.element = llvm_type(conv.dtype)
        self.multiplier = conv.outputs // conv.inputs
        self.width = max(registers.bytes // conv.dtype.itemsize, MOST)
        self.axes, self.channels = axes_of(conv), conv.inputs

    @property
    def place_time(self) -> int:
        """Picoseconds of what one place of the output takes part in."""
        mac = MAC * self.conv.dtype.itemsize // 4
        return math.prod(self.conv.taps) * self.conv.outputs * mac

    def groups(self, body: Callable[[WideLanes, str, str], None]) -> None:
        """`body(lanes, wide, narrow)` for the channels, some vectors at a time, which begin at the
        output channel `wide` and the input channel `narrow`."""
        m, outputs = self.multiplier, self.conv.outputs
        memory = Memory(self.text, self.parts, self.conv.dtype)
        used = self.width // m * m  # lanes of a vector that whole input channels fill
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

    def line(self, index: Sequence[str]) -> str:
        """The place of (image, first axis, second axis), and 0 along the last."""
        sizes = [self.size(x.size) for x in self.axes]
        return self.mul(self.offset(index, ["", *sizes[:2]]), sizes[2])

    def multiply_adds(
        self, lanes: FilterLanes, xs: Sequence[str], ys: Sequence[str], zs: Sequence[str]
    ) -> list[str]:
        memory = Memory(self.text, self.parts, self.conv.dtype)
        return [
            memory.multiply_add(x, y, z, int(t[1:].split(" x ")[0]))
            for t, x, y, z in zip(lanes.types, xs, ys, zs, strict=True)
        ]
