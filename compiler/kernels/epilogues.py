"""What follows a convolution element by element, computed before its result is stored.

The kernel that reads a convolution's result first becomes its epilogue if it is a sweep over the
same elements in the same order: biases, scales, activations, residuals, casts. What it reads are
arrays of the result's shape, one value a channel, or one for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.ir import Value
from graphgrad.compiler.kernels.loops import Access, Array, LoopNest, Stmt
from graphgrad.compiler.types import element_count

SAME, CHANNEL, SCALAR = "same", "channel", "scalar"
# An epilogue with more statements is a kernel of its own: what it costs is its arithmetic.
MOST_STATEMENTS = 64


@dataclass(frozen=True, slots=True)
class Epilogue:
    """Statements for one element: `walks[k]` says how array k is read, `result` is the array that
    the convolution's result stands for, and `keeps` whether that is stored as well."""

    stmts: tuple[Stmt, ...]
    arrays: tuple[Array, ...]
    walks: tuple[str, ...]
    result: int
    keeps: bool
    title: str

    def __str__(self) -> str:
        return self.title

    @property
    def others(self) -> tuple[int, ...]:
        """The arrays that come as arguments."""
        return tuple(k for k in range(len(self.arrays)) if k != self.result)


def epilogue_of(
    nest: LoopNest, values: Sequence[Value | None], result: Value, keeps: bool
) -> Epilogue | None:
    """The epilogue that the kernel of `nest` can be to the convolution that makes `result`; None
    where it is something else."""
    stmts = nest.statements()
    if nest.folded or nest.tail or len(stmts) > MOST_STATEMENTS:
        return None
    at = [k for k, v in enumerate(values) if v is result]
    if len(at) != 1:
        return None
    if element_count(nest.dims) != element_count(result.type.shape):
        return None
    channels = result.type.shape[-1]
    walks: dict[int, str] = {}
    for s in stmts:
        if s.failures or s.fn in (
            "load_at",
            "load_in",
            "index",
            "size",
            "reduce",
            "require",
            "lookup",
        ):
            return None
        if s.fn not in ("load", "store"):
            continue
        walk = walk_of(s.attr, nest.dims, channels)
        array = s.attr.array
        if walk is None or walks.setdefault(array, walk) != walk:
            return None
        if nest.arrays[array].role not in ("in", "out") or (s.fn == "store" and walk != SAME):
            return None
        if s.fn == "load" and nest.arrays[array].role == "out":
            return None
    if walks.keys() != set(range(len(values))) or walks[at[0]] != SAME:
        return None
    plain = tuple(replace(s.key(), attr=number(s)) for s in stmts)
    arrays = tuple(replace(a, label="") for a in nest.arrays)
    return Epilogue(
        plain, arrays, tuple(walks[k] for k in range(len(values))), at[0], keeps, nest.title
    )


def number(s: Stmt) -> object:
    """The attribute of a statement; of a load or a store the array's number."""
    return s.attr.array if s.fn in ("load", "store") else s.attr


def walk_of(access: Access, dims: Sequence[Extent], channels: Extent) -> str | None:
    """How an access goes through the elements in their order."""
    if access.bounds is not None or access.at.offset != 0:
        return None
    moving = [(n, s) for n, s in zip(dims, access.at.strides, strict=True) if n != 1]
    strides = [s for _, s in moving]
    if all(s == 0 for s in strides):
        return SCALAR
    for first in range(len(moving)):
        inside = [n for n, _ in moving[first:]]
        expected = [math.prod(inside[k + 1 :]) for k in range(len(inside))]
        if strides == [*[0] * first, *expected]:
            if first == 0:
                return SAME
            return CHANNEL if math.prod(inside) == channels else None
    return None
