"""`x[key]`, by slices, gathers and reshapes."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Dim, Extent, at_least, shown
from graphgrad.compiler.errors import ArgumentError, DTypeError, IndexOutOfRange
from graphgrad.compiler.op import current_kind, located, ops, reapply, state
from graphgrad.compiler.ops.shapes import known


@dataclass
class _Plan:
    """What a key asks of each axis of x, in order."""

    starts: list[Any] = field(default_factory=list)
    sizes: list[Any] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    shape: list[Any] = field(default_factory=list)  # after dropping and adding axes
    scalars: dict[int, Any] = field(default_factory=dict)  # axis -> 0-d index tensor
    gather: tuple[int, Any] | None = None  # (axis of `shape`, index tensor)
    places: list[int] = field(default_factory=list)  # of ints and index tensors in the key

    @property
    def scattered(self) -> bool:
        """Are ints and index tensors apart? Then NumPy puts the gathered axes first."""
        return self.places[-1] - self.places[0] >= len(self.places)

    def take(self, start: Extent, size: Extent, step: int) -> None:
        self.starts.append(start)
        self.sizes.append(size)
        self.steps.append(step)


@located
def index(x: Any, key: Any) -> Any:
    """`x[key]` for ints, slices, Ellipsis, None, 0-d integer tensors and one integer tensor.

    IndexOutOfRange for an int outside of its axis. Slices clip as in Python.
    """
    plan = _plan(x, key)
    z = x
    if _narrows(x, plan):
        block = {"starts": plan.starts, "sizes": plan.sizes, "steps": plan.steps}
        (z,) = reapply(ops["slice"], (x,), {k: tuple(v) for k, v in block.items()})
    if plan.scalars:
        starts = tuple(plan.scalars.get(a, 0) for a in range(x.ndim))
        sizes = tuple(1 if a in plan.scalars else n for a, n in enumerate(z.shape))
        z = ops["dynamic_slice"](z, starts, sizes)
    z = z.reshape(tuple(plan.shape))
    if plan.gather is not None:
        axis, indices = plan.gather
        z = ops["gather"](z, indices, axis=axis)
        if plan.scattered:
            gathered = range(axis, axis + indices.ndim)
            z = z.transpose([*gathered, *(i for i in range(z.ndim) if i not in gathered)])
    return z


def _narrows(x: Any, plan: _Plan) -> bool:
    whole = tuple(plan.sizes) == x.shape and all(isinstance(s, int) and s == 0 for s in plan.starts)
    return not whole or any(step != 1 for step in plan.steps)


def _plan(x: Any, key: Any) -> _Plan:
    plan, axis = _Plan(), 0
    for i, k in enumerate(_expanded(x, key)):
        if k is not None and not isinstance(k, slice):
            plan.places.append(i)
        if k is None:
            plan.shape.append(1)
            continue
        n = x.shape[axis]
        if state.builder is None and isinstance(k, Arith) and k.ndim == 0 and k.dtype.is_integer:
            k = known(k)
        if isinstance(k, slice):
            start, size, step = slice_range(k, n)
            plan.take(start, size, step)
            plan.shape.append(size)
        elif isinstance(k, int | np.integer | Dim) and not isinstance(k, bool):
            plan.take(_place(k, n, axis), 1, 1)
        else:
            _tensor_index(plan, k, n, axis)
        axis += 1
    return plan


def _expanded(x: Any, key: Any) -> list[Any]:
    """The key as a list with one entry an axis (and None for new axes)."""
    keys = list(key) if isinstance(key, tuple) else [key]
    given = sum(k is not None and k is not Ellipsis for k in keys)
    if given > x.ndim:
        raise IndexOutOfRange(f"index: {given} indices for the {x.ndim} axes of {x.type}")
    dots = [i for i, k in enumerate(keys) if k is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("index: more than one ... in the key")
    at = dots[0] if dots else len(keys)
    return [*keys[:at], *[np.s_[:]] * (x.ndim - given), *keys[at + 1 :]]


def _place(k: Any, n: Extent, axis: int) -> Extent:
    """An int index from the front."""
    k = k if isinstance(k, Dim) else int(k)
    negative = not at_least(k, 0)
    place = k + n if negative else k
    if not at_least(place, 0) or not at_least(n, place + 1):
        raise IndexOutOfRange(f"index: {k} is out of range for axis {axis} with size {shown(n)}")
    return place  # type: ignore[no-any-return]


def _tensor_index(plan: _Plan, k: Any, n: Extent, axis: int) -> None:
    """A 0-d integer tensor drops its axis; one of more dimensions is gathered."""
    if not isinstance(k, Arith | np.ndarray | list | bool) and not hasattr(
        k, "__graphgrad_value__"
    ):
        raise ArgumentError(
            f"index: a key holds ints, slices, ..., None and integer tensors, not {k!r}"
        )
    indices = current_kind().lift(k)
    if not indices.dtype.is_integer:
        raise DTypeError(
            f"index: an index tensor holds integers, got {indices.type}; a bool mask makes "
            "a shape that depends on values: use gg.where"
        )
    indices = ops["where"](indices < 0, indices + n, indices)  # as NumPy, from the back
    plan.take(0, n, 1)
    if indices.ndim == 0:
        plan.scalars[axis] = indices
    elif plan.gather is None:
        plan.gather = (len(plan.shape), indices)
        plan.shape.append(n)
    else:
        raise ArgumentError(
            "index: at most one index tensor a key; gather along one axis after the other"
        )


def slice_range(k: Any, n: Extent) -> tuple[Extent, Extent, int]:
    """Start, size and step of a Python slice over an axis of size `n`, clipped as Python clips."""
    for bound in (k.start, k.stop, k.step):
        if isinstance(bound, Arith) and state.builder is not None:
            raise ArgumentError(
                "index: while a function is traced, the bounds of a slice are numbers, since they "
                "decide a shape; "
                "gg.slice takes a start that is a tensor"
            )
    step = 1 if k.step is None else operator.index(k.step)
    if step == 0:
        raise ArgumentError("index: a slice with step 0")
    low: Extent = 0 if step > 0 else -1
    high = n + low
    start = _clip(k.start, n, low, high, low if step > 0 else high)
    stop = _clip(k.stop, n, low, high, high if step > 0 else low)
    span = stop - start if step > 0 else start - stop
    width = abs(step)
    size = span if width == 1 else (span + (width - 1)) // width
    if isinstance(size, int):
        size = max(size, 0)
    elif not at_least(span, 0):
        size = 0
    if isinstance(size, int) and size == 0:
        return 0, 0, 1
    return start, size, step


def _clip(bound: Any, n: Extent, low: Extent, high: Extent, default: Extent) -> Extent:
    if bound is None:
        return default
    place = bound if isinstance(bound, Dim) else operator.index(bound)
    if not at_least(place, 0):
        place = place + n
    if not at_least(place, low):
        return low
    return place if at_least(high, place) else high
