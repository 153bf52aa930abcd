"""NumPy's functions on shapes and indices, for tensors: by NumPy's names and arguments.

`numpy_protocol` finds them under "numpy." and their names.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ShapeError
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.ops import diagonals, join, padding, runtime_sizes, view
from graphgrad.compiler.ops.indexing import index
from graphgrad.compiler.types import broadcast_shapes, normalize_axes, normalize_axis


def _lift(x: Any) -> Any:
    return current_kind().lift(x)


def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    x = _lift(a)
    perm = list(range(x.ndim))
    i, j = (normalize_axis(k, x.ndim, "swapaxes") for k in (axis1, axis2))
    perm[i], perm[j] = j, i
    return x.transpose(perm)


def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    x = _lift(a)
    pairs = [
        [normalize_axis(k, x.ndim, "moveaxis") for k in np.atleast_1d(axes).tolist()]
        for axes in (source, destination)
    ]
    if len(set(pairs[0])) != len(pairs[1]) or len(set(pairs[1])) != len(pairs[0]):
        raise ShapeError(f"moveaxis: {source} cannot go to {destination}")
    perm = [k for k in range(x.ndim) if k not in pairs[0]]
    for to, axis in sorted(zip(pairs[1], pairs[0])):
        perm.insert(to, axis)
    return x.transpose(perm)


def ravel(a: Any) -> Any:
    x = _lift(a)
    return x.reshape((x.type.size,))


def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    if axis is None:
        return padding.roll(ravel(a), shift, 0).reshape(_lift(a).shape)
    if isinstance(shift, int) and not isinstance(axis, int):
        shift = [shift] * len(axis)
    return padding.roll(a, shift, axis)


def repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    return padding.repeat(a, repeats, axis)


def tile(A: Any, reps: Any) -> Any:
    """Without the axes that one of the two lacks being an error."""
    x, counts = _lift(A), tuple(np.atleast_1d(reps).tolist())
    x = x.reshape((*(1,) * (len(counts) - x.ndim), *x.shape))
    return padding.tile(x, (*(1,) * (x.ndim - len(counts)), *counts))


def pad(array: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    x = _lift(array)
    pairs = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    return padding.pad(x, pairs, mode, constant_values)


def diag(v: Any, k: int = 0) -> Any:
    return diagonals.diag(v, k=k) if _lift(v).ndim == 1 else diagonals.diag_part(v, k=k)


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return diagonals.diag_part(moveaxis(a, (axis1, axis2), (-2, -1)), k=offset)


def _triangle(m: Any, k: int, upper: bool) -> Any:
    x = _lift(m)
    down, across = (ops["iota"](n, dtypes.int64) for n in x.shape[-2:])
    ahead = across.reshape((1, x.shape[-1])) - down.reshape((x.shape[-2], 1))
    return ops["where"](ahead >= k if upper else ahead <= k, x, x.dtype.dtype.type(0))


def tril(m: Any, k: int = 0) -> Any:
    return _triangle(m, k, False)


def triu(m: Any, k: int = 0) -> Any:
    return _triangle(m, k, True)


def take(a: Any, indices: Any, axis: int | None = None) -> Any:
    """Negative indices count from the back."""
    x = ravel(a) if axis is None else _lift(a)
    place = normalize_axis(axis or 0, x.ndim, "take")
    return index(x, (*[np.s_[:]] * place, _lift(indices)))


def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    x, i = (_lift(arr), _lift(indices)) if axis is not None else (ravel(arr), ravel(indices))
    place = normalize_axis(axis or 0, x.ndim, "take_along_axis")
    if x.ndim != i.ndim:
        raise ShapeError(f"take_along_axis: {x.type} and indices {i.type} differ in axes")
    n = x.shape[place]
    lead = broadcast_shapes([(*v.shape[:place], 1, *v.shape[place + 1 :]) for v in (x, i)])
    x, i = (
        moveaxis(v.broadcast_to((*lead[:place], v.shape[place], *lead[place + 1 :])), place, -1)
        for v in (x, i)
    )
    i = i.cast(dtypes.int64)
    picked = ops["gather"](x, ops["where"](i < 0, i + n, i), axis=x.ndim - 1, batch_dims=x.ndim - 1)
    return moveaxis(picked, -1, place)


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    x = _lift(ary)
    if isinstance(indices_or_sections, int):
        return list(ops["split"](x, indices_or_sections, axis))
    n = x.shape[normalize_axis(axis, x.ndim, "split")]
    cuts = [0, *np.asarray(indices_or_sections).tolist(), n]
    lead = [np.s_[:]] * normalize_axis(axis, x.ndim, "split")
    return [index(x, (*lead, np.s_[a:b])) for a, b in itertools.pairwise(cuts)]


def atleast_1d(*arys: Any) -> Any:
    found = [x.reshape((1,)) if x.ndim == 0 else x for x in map(_lift, arys)]
    return found[0] if len(found) == 1 else tuple(found)


def atleast_2d(*arys: Any) -> Any:
    found = [x.reshape((*(1,) * (2 - x.ndim), *x.shape)) for x in map(_lift, arys)]
    return found[0] if len(found) == 1 else tuple(found)


def hstack(tup: Sequence[Any]) -> Any:
    xs = [atleast_1d(x) for x in tup]
    return ops["concat"](xs, 0 if xs[0].ndim == 1 else 1)


def vstack(tup: Sequence[Any]) -> Any:
    return ops["concat"]([atleast_2d(x) for x in tup], 0)


def column_stack(tup: Sequence[Any]) -> Any:
    xs = [_lift(x) for x in tup]
    return ops["concat"]([x if x.ndim > 1 else x.reshape((x.type.size, 1)) for x in xs], 1)


def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    if axis is None:
        return ops["concat"]([ravel(arr), ravel(values)], 0)
    return ops["concat"]([arr, values], axis)


def argwhere(a: Any) -> Any:
    return ops["nonzero"](a)


def nonzero(a: Any) -> tuple[Any, ...]:
    found = ops["nonzero"](a)
    return tuple(join.unstack(found, axis=1))


def flatnonzero(a: Any) -> Any:
    return index(ops["nonzero"](ravel(a)), np.s_[:, 0])


def compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    x = ravel(a) if axis is None else _lift(a)
    return runtime_sizes.boolean_mask(x, condition, axis or 0)


def searchsorted(a: Any, v: Any, side: str = "left") -> Any:
    values = _lift(v)
    found = ops["searchsorted"](a, values.reshape((values.type.size,)), side, dtypes.int64)
    return found.reshape(values.shape)


def meshgrid(*xi: Any, indexing: str = "xy") -> tuple[Any, ...]:
    return tuple(padding.meshgrid(*xi, indexing=indexing))


def broadcast_arrays(*args: Any) -> tuple[Any, ...]:
    xs = [_lift(x) for x in args]
    shape = broadcast_shapes([x.shape for x in xs])
    return tuple(x.broadcast_to(shape) for x in xs)


def expand_dims(a: Any, axis: Any) -> Any:
    x = _lift(a)
    axes = [axis] if isinstance(axis, int) else list(axis)
    places = normalize_axes(axes, x.ndim + len(axes), "expand_dims")
    sizes = iter(x.shape)
    rank = x.ndim + len(axes)
    return x.reshape(tuple(1 if i in places else next(sizes) for i in range(rank)))


def rot90(m: Any, k: int = 1, axes: Sequence[int] = (0, 1)) -> Any:
    x = _lift(m)
    a, b = (normalize_axis(i, x.ndim, "rot90") for i in axes)
    if k % 4 == 2:
        return view.reverse(x, (a, b))
    if k % 4 == 1:
        return swapaxes(view.reverse(x, b), a, b)
    return view.reverse(swapaxes(x, a, b), b) if k % 4 else x


def fliplr(m: Any) -> Any:
    return view.reverse(m, 1)


def flipud(m: Any) -> Any:
    return view.reverse(m, 0)


def full_like(a: Any, fill_value: Any) -> Any:
    x = _lift(a)
    value = _lift(fill_value) if isinstance(fill_value, Arith) else fill_value
    filled = current_kind().lift(value, x.dtype).cast(x.dtype)
    return filled.broadcast_to(x.shape)


_functions = (
    append, argwhere, atleast_1d, atleast_2d, broadcast_arrays, column_stack, compress, diag,
    diagonal, expand_dims, flatnonzero, fliplr, flipud, full_like, hstack, meshgrid, moveaxis,
    nonzero, pad, ravel, repeat, roll, rot90, searchsorted, split, swapaxes, take, take_along_axis,
    tile, tril, triu, vstack,
)  # fmt: skip
FUNCTIONS = {f.__name__: f for f in _functions}
