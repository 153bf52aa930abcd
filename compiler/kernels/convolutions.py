"""Convolutions: what their kernels compute."""

from __future__ import annotations

import math
from dataclasses import dataclass

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Library
from graphgrad.compiler.ir import Node

KINDS = ("conv", "conv_input_gradient", "conv_filter_gradient")
RANK = 3  # spatial axes; those that are missing have one place


@dataclass(frozen=True, slots=True)
class Registers:
    """The vector registers of a processor."""

    bytes: int
    count: int

    @staticmethod
    def of(features: str) -> Registers:
        """Those of a target with the given features."""
        known = features.split(",")
        if "+avx512f" in known:
            return Registers(64, 32)
        if "+avx" in known:
            return Registers(32, 16)
        return Registers(16, 16 if "+sse2" in known else 32)


@dataclass(frozen=True, slots=True)
class Convolution:
    """One of the three ops over x [images, *sizes, inputs], w [*taps, inputs // groups, outputs]
    and y [images, *places, outputs], with three spatial axes."""

    kind: str
    dtype: DType
    images: Extent
    sizes: tuple[Extent, ...]
    places: tuple[Extent, ...]
    taps: tuple[int, ...]
    inputs: int
    outputs: int
    groups: int
    strides: tuple[int, ...]
    lows: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def flops(self) -> Extent:
        """Multiplications and additions, those with padding counted."""
        macs = math.prod(self.taps) * (self.inputs // self.groups) * self.outputs
        return 2 * macs * math.prod(self.places) * self.images

    @property
    def is_product(self) -> bool:
        """Is each place of the output a product of one place of the input?"""
        return (
            set(self.taps) == set(self.strides) == {1}
            and not any(self.lows)
            and self.sizes == self.places
        )


def convolution_of(node: Node) -> Convolution | None:
    """The convolution that a node computes, of floats and with channels and taps that are known
    and some of each; or None."""
    if not isinstance(node.op, Library) or node.op.routine not in KINDS:
        return None
    kind, attrs = node.op.routine, node.attrs
    a, b, out = node.inputs[0].type, node.inputs[1].type, node.out.type
    if not out.dtype.is_floating:
        return None
    x, w, y = {
        "conv": (a, b, out), "conv_input_gradient": (out, b, a), "conv_filter_gradient": (a, out, b)
    }[kind]  # fmt: skip
    inputs, outputs = x.shape[-1], y.shape[-1]
    taps = w.shape[:-2]
    if not isinstance(inputs, int) or not isinstance(outputs, int):
        return None
    if not inputs or not outputs or not all(isinstance(k, int) and k > 0 for k in taps):
        return None
    if any(n == 0 for n in (x.shape[0], *x.shape[1:-1], *y.shape[1:-1])):
        return None  # nothing, or zeros
    one = (1,) * (RANK - len(taps))
    return Convolution(
        kind, out.dtype, x.shape[0], (*one, *x.shape[1:-1]), (*one, *y.shape[1:-1]),
        (*one, *(k for k in taps if isinstance(k, int))), inputs, outputs, attrs["groups"],
        (*one, *attrs["strides"]), (*(0 for _ in one), *(lo for lo, _ in attrs["padding"])),
        (*one, *attrs["dilations"]),
    )  # fmt: skip
