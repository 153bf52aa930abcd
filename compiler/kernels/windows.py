"""Windows along the axes of an array, as kernels see them: always three axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphgrad.compiler.dims import Extent


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis: element k of window o is element o * stride + k * dilation - low of it."""

    size: Extent
    count: Extent  # of windows
    window: int = 1
    stride: int = 1
    low: int = 0
    high: int = 0
    dilation: int = 1

    @property
    def padded(self) -> bool:
        """May a window reach beyond the array?"""
        return self.low > 0 or self.high > 0

    @property
    def disjoint(self) -> bool:
        """Does each element lie in one window at most?"""
        return (self.window - 1) * self.dilation < self.stride

    @property
    def covered(self) -> bool:
        """Does each element lie in one window, for certain?"""
        whole = self.size - self.count * self.stride
        steps = self.window == self.stride and (self.dilation == 1 or self.window == 1)
        return steps and not self.padded and isinstance(whole, int) and whole == 0


def axes_of(
    sizes: Sequence[Extent], counts: Sequence[Extent], window: Sequence[int],
    strides: Sequence[int], padding: Sequence[tuple[int, int]], dilations: Sequence[int],
) -> tuple[Axis, Axis, Axis]:  # fmt: skip
    """The axes of 1 to 3 spatial ones; of those that are missing, an array has one element.

    The first axis is the one that threads share: of two, rows are the first and columns the last.
    """
    found = [
        Axis(n, m, k, s, low, high, d)
        for n, m, k, s, (low, high), d in zip(
            sizes, counts, window, strides, padding, dilations, strict=True
        )
    ]
    one = Axis(1, 1)
    if len(found) == 1:
        return one, one, found[0]
    if len(found) == 2:
        return found[0], one, found[1]
    a, b, c = found
    return a, b, c
