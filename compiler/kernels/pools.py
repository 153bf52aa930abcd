"""Pooling as kernels of their own: what the emitter must know of a pooling operation."""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Library
from graphgrad.compiler.ir import Node
from graphgrad.compiler.kernels.windows import Axis, axes_of
from graphgrad.compiler.types import TensorType, element_count

FORWARD = ("max_pool", "max_pool_tangent", "mean_pool")
BACKWARD = ("max_pool_gradient", "mean_pool_gradient")


@dataclass(frozen=True, slots=True)
class Pool:
    """One pooling operation over arrays (images, depth, height, width, channels)."""

    routine: str
    dtype: DType
    images: Extent
    axes: tuple[Axis, Axis, Axis]
    channels: int

    @property
    def backward(self) -> bool:
        """Does it run from the windows to the elements?"""
        return self.routine in BACKWARD

    @property
    def parts(self) -> Extent:
        """What threads can share: rows of windows, or slices of the array along its first axis."""
        if self.backward:
            return self.images * self.axes[0].size
        return self.images * self.axes[0].count * self.axes[1].count

    @property
    def windows(self) -> Extent:
        """How many windows a part has, channels counted."""
        _, b, c = self.axes
        rows = b.count * c.count if self.backward else c.count
        return rows * self.channels

    @property
    def flops(self) -> Extent:
        """An operation for each element of each window and each step of the kernel."""
        steps = {"max_pool_tangent": 4, "max_pool_gradient": 5}.get(self.routine, 1)
        count = element_count(a.count for a in self.axes)
        return steps * self.taps * self.images * self.channels * count

    @property
    def taps(self) -> int:
        """How many elements a window has."""
        a, b, c = self.axes
        return a.window * b.window * c.window


def pool_of(node: Node) -> Pool | None:
    """The pooling that a kernel computes, or None where the node is none, or a host step."""
    op = node.op
    if not isinstance(op, Library) or op.routine not in (*FORWARD, *BACKWARD):
        return None
    backward = op.routine in BACKWARD
    big: TensorType = node.out.type if backward else node.inputs[0].type
    small: TensorType = node.inputs[0].type if backward else node.out.type
    dtype, channels = big.dtype, big.shape[-1]
    fits = dtype.name in ("float32", "float64") or (op.routine == "max_pool" and dtype.is_integer)
    if not fits or not isinstance(channels, int) or channels == 0:
        return None
    attrs = node.attrs
    axes = axes_of(
        big.shape[1:-1], small.shape[1:-1], attrs["window"], attrs["strides"], attrs["padding"],
        attrs["dilations"],
    )  # fmt: skip
    return Pool(op.routine, dtype, big.shape[0], axes, channels)
