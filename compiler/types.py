"""Tensor types, and the arithmetic of shapes that type rules share."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphgrad.compiler.dims import Dim, Extent, is_size, same_size, shown
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, ShapeError

Shape = tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """A shape and an element type; `f32[2, n]` in print."""

    shape: Shape
    dtype: DType

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Extent:
        return element_count(self.shape)

    @property
    def static(self) -> bool:
        """Are all sizes known while tracing?"""
        return all(isinstance(n, int) for n in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.short}[{', '.join(map(str, self.shape))}]"


@lru_cache(maxsize=4096)
def tensor_type(shape: Shape, dtype: DType) -> TensorType:
    """The TensorType of `shape` and `dtype`, shared between equal ones."""
    return TensorType(shape, dtype)


def element_count(shape: Iterable[Extent]) -> Extent:
    """The number of elements of `shape`."""
    total: Extent = 1
    for n in shape:
        total = total * n
    return total


def same_shape(a: Shape, b: Shape) -> bool:
    """Are the shapes equal (unknown sizes under a guard)?"""
    return a == b or (len(a) == len(b) and all(map(same_size, a, b)))


def broadcast_shapes(shapes: Sequence[Shape], op: str = "broadcast") -> Shape:
    """The common shape by NumPy's rule: axes align from the right, and size 1 stretches.

    >>> broadcast_shapes([(2, 1), (3,)])
    (2, 3)
    """
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    rank = max(map(len, shapes))
    out: list[Extent] = []
    for axis in range(-rank, 0):
        size: Extent = 1
        for shape in shapes:
            n = shape[axis] if -axis <= len(shape) else 1
            if n == size or (isinstance(n, int) and n == 1):
                continue
            if isinstance(size, int) and size == 1:  # nothing to ask, whatever n is
                size = n
            elif is_size(n, 1):
                continue
            elif is_size(size, 1):
                size = n
            elif not same_size(n, size):
                raise ShapeError(
                    f"{op}: shapes {' and '.join(map(show_shape, shapes))} do not broadcast: "
                    f"sizes {shown(size)} and {shown(n)} at axis {axis}"
                )
            elif isinstance(size, Dim) and isinstance(n, int):
                size = n
        out.append(size)
    return tuple(out)


def show_shape(shape: Shape) -> str:
    """`[2, n=3]`, where n is a size of the call being traced."""
    return f"[{', '.join(map(shown, shape))}]"


def normalize_axis(axis: int, rank: int, op: str) -> int:
    """`axis` counted from the front; negative axes count from the back."""
    if not -rank <= axis < rank:
        raise ArgumentError(f"{op}: axis {axis} is out of range for {rank} dimensions")
    return axis % rank


def normalize_axes(axis: int | Iterable[int] | None, rank: int, op: str) -> tuple[int, ...]:
    """Sorted axes counted from the front; None means all."""
    if axis is None:
        return tuple(range(rank))
    if isinstance(axis, Iterable) and getattr(axis, "ndim", None) != 0:  # not a 0-d array or tensor
        axes = [normalize_axis(_axis(a, op), rank, op) for a in axis]
        if len(set(axes)) != len(axes):
            raise ArgumentError(f"{op}: an axis is named twice in {tuple(axes)}")
        return tuple(sorted(axes))
    return (normalize_axis(_axis(axis, op), rank, op),)


def _axis(axis: Any, op: str) -> int:
    try:
        return operator.index(axis)
    except TypeError:
        raise ArgumentError(f"{op}: an axis is an integer, got {axis!r}") from None


def reduced_shape(shape: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """The shape after reducing `axes`.

    >>> reduced_shape((2, 3, 4), (1,), False), reduced_shape((2, 3, 4), (1,), True)
    ((2, 4), (2, 1, 4))
    """
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)
