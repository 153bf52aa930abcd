"""Sums, extrema and recurrences that run along an axis: what has no loop nest, since each element
needs the one before."""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler.dims import Extent, to_size
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.ir import Node
from graphgrad.compiler.kernels.division import chunks, times
from graphgrad.compiler.kernels.loops import Division
from graphgrad.compiler.types import element_count

FOLDS = {
    "cumsum": "add", "linear_recurrence": "recurrence", "running_cummax": "max",
    "running_cummin": "min", "running_logsumexp": "logaddexp",
}  # fmt: skip
# Picoseconds of an element, which waits for the one before.
ELEMENT = {"logaddexp": 20_000}
WAIT = 1_200


@dataclass(frozen=True, slots=True)
class Running:
    """Arrays [outer, size, inner], folded along the middle axis: z[o, i, w] of z[o, i - 1, w] and
    x[o, i, w], from the end if `reverse`; if `exclusive`, of x[o, i - 1, w], and the first is 0."""

    fold: str  # of FOLDS
    dtype: DType
    outer: Extent
    size: Extent
    inner: Extent
    reverse: bool
    exclusive: bool

    @property
    def in_rows(self) -> bool:
        """Do the elements of a fold lie one behind the other?"""
        return isinstance(self.inner, int) and self.inner == 1

    @property
    def division(self) -> Division | None:
        """What threads can share."""
        elements = times(to_size(self.size), to_size(self.inner))
        return chunks("rows", to_size(self.outer), times(elements, ELEMENT.get(self.fold, WAIT)))


def running_of(node: Node) -> Running | None:
    """The running fold that a node computes; None where it is none, or a host step."""
    if node.op.name not in FOLDS:
        return None
    t, fold, attrs = node.out.type, FOLDS[node.op.name], node.attrs
    native = t.dtype.name in ("float32", "float64") or t.dtype.is_integer
    if not native:  # 16-bit floats are carried in float32
        return None
    axis: int = attrs["axis"]
    return Running(
        fold, t.dtype, element_count(t.shape[:axis]), t.shape[axis],
        element_count(t.shape[axis + 1 :]), attrs["reverse"], attrs.get("exclusive", False),
    )  # fmt: skip
