"""`x[key]`, by slices, gathers and reshapes."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Dim, Extent, at_least, shown
from graphgrad.compiler.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from graphgrad.compiler.op import current_kind, located, ops, reapply, state
from graphgrad.compiler.ops.shapes import known, known_or_none
from graphgrad.compiler.types import element_count, same_shape, show_shape


class _Plan:
    """What a key asks of each axis of x, in order."""

    def __init__(self) -> None:
        self.starts: list[Any] = []
        self.sizes: list[Any] = []
        self.steps: list[int] = []
        self.shape: list[Any] = []  # after dropping and adding axes
        self.scalars: dict[int, Any] = {}  # axis -> 0-d index tensor
        self.arrays: list[tuple[int, Any]] = []  # (axis of `shape`, index tensor)
        self.places: list[int] = []  # of ints and index tensors in the key

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
    """`x[key]` for ints, slices, Ellipsis, None, integer tensors and bool masks, by NumPy's rules.

    IndexOutOfRange for an index outside of its axis. Slices clip as in Python.
    """
    x, keys = _expanded(x, key)
    plan = _plan(x, keys)
    z = x
    if _narrows(x, plan):
        block = {"starts": plan.starts, "sizes": plan.sizes, "steps": plan.steps}
        (z,) = reapply(ops["slice"], (x,), {k: tuple(v) for k, v in block.items()})
    if plan.scalars:
        starts = tuple(plan.scalars.get(a, 0) for a in range(x.ndim))
        sizes = tuple(1 if a in plan.scalars else n for a, n in enumerate(z.shape))
        z = ops["dynamic_slice"](z, starts, sizes)
    z = z.reshape(tuple(plan.shape))
    return _gathered(z, plan) if plan.arrays else z


def _gathered(z: Any, plan: _Plan) -> Any:
    """Picked along the axes that have index tensors, which broadcast.

    Their axes stand in the place of the first one, or in front where the key has them apart.
    """
    axes = [a for a, _ in plan.arrays]
    first, rest = axes[0], [a for a in range(z.ndim) if a not in axes]
    if len(axes) == 1:
        indices = plan.arrays[0][1]
        z = ops["gather"](z, indices, axis=first)
    else:
        indices = None
        for a, i in plan.arrays:  # places in the axes laid out flat
            checked = ops["check_index"](i.cast(dtypes.int64), z.shape[a], a, "index")
            indices = checked if indices is None else indices * z.shape[a] + checked
        sizes = element_count(z.shape[a] for a in axes)
        z = z.transpose([*rest[:first], *axes, *rest[first:]])
        z = z.reshape((*z.shape[:first], sizes, *z.shape[first + len(axes) :]))
        z = ops["gather"](z, indices, axis=first)
    if plan.scattered:
        picked = range(first, first + indices.ndim)
        z = z.transpose([*picked, *(i for i in range(z.ndim) if i not in picked)])
    return z


def _narrows(x: Any, plan: _Plan) -> bool:
    whole = tuple(plan.sizes) == x.shape and all(isinstance(s, int) and s == 0 for s in plan.starts)
    return not whole or any(step != 1 for step in plan.steps)


def _plan(x: Any, keys: list[Any]) -> _Plan:
    plan, axis = _Plan(), 0
    for i, k in enumerate(keys):
        if k is not None and not isinstance(k, slice):
            plan.places.append(i)
        if k is None:
            plan.shape.append(1)
            continue
        n = x.shape[axis]
        if state.builder is None and isinstance(k, Arith) and k.ndim == 0:
            k = known(k)
        if isinstance(k, slice):
            start, size, step = slice_range(k, n)
            plan.take(start, size, step)
            plan.shape.append(size)
        elif isinstance(k, int | np.integer | Dim):
            plan.take(_place(k, n, axis), 1, 1)
        else:
            _tensor_index(plan, k, n, axis)
        axis += 1
    return plan


def _expanded(x: Any, key: Any) -> tuple[Any, list[Any]]:
    """The key as a list with one entry an axis (and None for new axes): arrays as integer tensors,
    masks as the index vectors of the places where they hold.

    The axes of a mask that is the only array are laid out flat, for one vector.
    """
    keys = [_entry(k) for k in (key if isinstance(key, tuple) else (key,))]
    given = sum(_width(k) for k in keys)
    if given > x.ndim:
        raise IndexOutOfRange(f"index: {given} indices for the {x.ndim} axes of {x.type}")
    dots = [i for i, k in enumerate(keys) if k is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("index: more than one ... in the key")
    at = dots[0] if dots else len(keys)
    keys = [*keys[:at], *[np.s_[:]] * (x.ndim - given), *keys[at + 1 :]]
    if any(map(is_computed, keys)):
        x, keys = _cut(x, keys)
    if not any(map(_is_mask, keys)):
        return x, keys
    alone = sum(isinstance(k, Arith) and k.ndim > 0 for k in keys) == 1
    found: list[Any] = []
    axis = 0
    for k in keys:
        if not _is_mask(k):
            found.append(k)
            axis += _width(k)
            continue
        _check_mask(x, k, axis)
        if alone:
            shape = (*x.shape[:axis], k.type.size, *x.shape[axis + k.ndim :])
            tuples = ops["nonzero"](k.reshape((k.type.size,)))
            x = x.reshape(shape)
            found.append(tuples.reshape((tuples.shape[0],)))
            axis += 1
        else:
            found += _mask_vectors(k)
            axis += k.ndim
    return x, found


def _entry(k: Any) -> Any:
    """One entry of a key; what holds indices as a tensor."""
    if k is None or k is Ellipsis or isinstance(k, slice | Dim | np.integer):
        return k
    if isinstance(k, int) and not isinstance(k, bool):
        return k
    if not isinstance(k, Arith | np.ndarray | list) and not hasattr(k, "__graphgrad_value__"):
        raise ArgumentError(
            f"index: a key holds ints, slices, ..., None, integer tensors and bool masks, not {k!r}"
        )
    value = current_kind().lift(k if not isinstance(k, list) or k else np.zeros(0, np.int32))
    if not value.dtype.is_integer and not (value.dtype.is_bool and value.ndim):
        raise DTypeError(f"index: an index tensor holds integers, got {value.type}")
    return value


def _width(k: Any) -> int:
    """How many axes an entry stands for."""
    if k is None or k is Ellipsis:
        return 0
    return k.ndim if _is_mask(k) else 1


def _is_mask(k: Any) -> bool:
    return isinstance(k, Arith) and k.dtype.is_bool


def _check_mask(x: Any, mask: Any, axis: int) -> None:
    covered = x.shape[axis : axis + mask.ndim]
    if not same_shape(covered, mask.shape):
        raise ShapeError(
            f"index: the mask {mask.type} does not fit {show_shape(covered)}, the axes of {x.type} "
            f"from {axis} on"
        )


def _mask_vectors(mask: Any) -> list[Any]:
    """The indices, one vector an axis, of the places where a mask holds."""
    tuples = ops["nonzero"](mask)
    found = tuples.shape[0]
    return [ops["slice"](tuples, (0, k), (found, 1)).reshape((found,)) for k in range(mask.ndim)]


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
    indices = _from_the_front(k.cast(dtypes.int64) if k.dtype.bits < 32 else k, n)
    plan.take(0, n, 1)
    if indices.ndim == 0:
        plan.scalars[axis] = indices
    else:
        plan.arrays.append((len(plan.shape), indices))
        plan.shape.append(n)


def _from_the_front(indices: Any, n: Extent) -> Any:
    """Negative indices count from the back, as in NumPy; those out of range stay as they are."""
    if indices.dtype.kind == "u":
        return indices
    array = getattr(indices, "array", None)
    if array is None:
        below = (indices < 0) & (indices >= -n)
        return ops["where"](below, indices + n, indices)
    if not array.size or array.min() >= 0:  # outside of traces the values are at hand
        return indices
    return current_kind().lift(np.where((array < 0) & (array >= -n), array + n, array))


def is_computed(k: Any) -> bool:
    """Is it a slice whose bounds only the run knows?"""
    return (
        isinstance(k, slice)
        and state.builder is not None
        and any(known_or_none(bound) is None for bound in (k.start, k.stop) if bound is not None)
    )


def _cut(x: Any, keys: list[Any]) -> tuple[Any, list[Any]]:
    """`x` with its computed slices taken, and the rest of the key."""
    rest, axis = list(keys), 0
    for i, k in enumerate(keys):
        if is_computed(k):
            x = ops["gather"](x, _computed_places(k, x.shape[axis]), axis=axis)
            rest[i] = np.s_[:]
        axis += _width(k)
    return x, rest


def _computed_places(k: slice, n: Extent) -> Any:
    """The places that a slice picks of `n`, clipped as Python clips; their number is a run-time
    size."""
    step = 1 if k.step is None else known_or_none(k.step)
    if not step:
        raise ArgumentError("index: the step of a slice is a number other than 0")
    low: Extent = 0 if step > 0 else -1

    def clipped(bound: Any, default: Extent) -> Any:
        if bound is None:
            return current_kind().lift(default, dtypes.int64)
        i = current_kind().lift(bound)
        if i.ndim or not i.dtype.is_integer:
            raise DTypeError(f"index: the bounds of a slice are 0-d integers, got {i.type}")
        i = i.cast(dtypes.int64)
        i = ops["where"](i < 0, i + n, i)
        return ops["minimum"](ops["maximum"](i, low), n + low)

    ends = (0, n) if step > 0 else (n - 1, -1)
    start, stop = clipped(k.start, ends[0]), clipped(k.stop, ends[1])
    count = ops["maximum"](-ops["floordiv"](start - stop, step), 0)
    return ops["places"](count) * step + start


def slice_range(k: Any, n: Extent) -> tuple[Extent, Extent, int]:
    """Start, size and step of a Python slice over an axis of size `n`, clipped as Python clips."""
    if any(isinstance(bound, Arith) for bound in (k.start, k.stop, k.step)):
        k = slice(*(_bound(bound) for bound in (k.start, k.stop, k.step)))
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


def _bound(bound: Any) -> Any:
    found = known_or_none(bound)
    if found is None and bound is not None:
        raise ArgumentError(
            "index: while a function is traced, the bounds of this slice are numbers, since they "
            "decide a shape; gg.slice takes a start that is a tensor"
        )
    return found


def _clip(bound: Any, n: Extent, low: Extent, high: Extent, default: Extent) -> Extent:
    if bound is None:
        return default
    place = bound if isinstance(bound, Dim) else operator.index(bound)
    if not at_least(place, 0):
        place = place + n
    if not at_least(place, low):
        return low
    return place if at_least(high, place) else high


@located
def strided_slice(
    input_: Any, begin: Any, end: Any, strides: Any = None, begin_mask: int = 0, end_mask: int = 0,
    ellipsis_mask: int = 0, new_axis_mask: int = 0, shrink_axis_mask: int = 0, var: Any = None,
    name: str | None = None,
) -> Any:  # fmt: skip
    """`input_[begin:end:strides]`, an entry an axis, in TensorFlow's form.

    Bit i of a mask changes entry i: begin_mask and end_mask leave out the bound, ellipsis_mask
    makes it `...`, new_axis_mask a new axis, and shrink_axis_mask the one index begin[i].

    >>> import graphgrad as gg
    >>> gg.strided_slice([1, 2, 3, 4], [3], [0], [-2]).numpy()
    array([4, 2], dtype=int32)
    """
    first, last = _entries(begin), _entries(end)
    steps = [1] * len(first) if strides is None else _entries(strides)
    if not len(first) == len(last) == len(steps):
        raise ShapeError(
            f"strided_slice: {len(first)} begins, {len(last)} ends and {len(steps)} strides"
        )
    key: list[Any] = []
    for i, (a, b, step) in enumerate(zip(first, last, steps, strict=True)):
        if ellipsis_mask >> i & 1:
            key.append(Ellipsis)
        elif new_axis_mask >> i & 1:
            key.append(None)
        elif shrink_axis_mask >> i & 1:
            key.append(a)
        else:
            low, high = (None if begin_mask >> i & 1 else a), (None if end_mask >> i & 1 else b)
            key.append(slice(low, high, step))
    return index(current_kind().lift(input_), tuple(key))


def _entries(x: Any) -> list[Any]:
    """The elements of a vector: numbers where they are known."""
    found = known_or_none(x)
    if found is not None:
        return list(found)
    v = current_kind().lift(x)
    return [index(v, i) for i in range(v.shape[0])]
