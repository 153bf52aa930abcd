"""Elements placed by index along one axis: the last, the greatest or the least of each place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import DTypeError, IndexOutOfRange, ShapeError
from graphgrad.compiler.families import Indexed
from graphgrad.compiler.op import Attrs, Samples, current_kind, ops, zeros_like
from graphgrad.compiler.ops.index import check_integer
from graphgrad.compiler.ops.range_checks import check_range
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import (
    TensorType,
    element_count,
    same_shape,
    show_shape,
)

Bound = tuple[tuple[Any, ...], Attrs]
DTYPES = ("float32", "float64", "bfloat16", "int64")

# -- scatter: along the axis after the batch axes, the last update of a place counts, or the
# greatest or least of them and of what was there


def _bind_scatter(x: Any, updates: Any, indices: Any, mode: str, batch_dims: int = 0) -> Bound:
    return (x, updates, indices), {"mode": mode, "batch_dims": batch_dims}


def _scatter_type(
    x: TensorType, updates: TensorType, indices: TensorType, mode: str, batch_dims: int
) -> TensorType:
    check_integer(indices, "scatter", "indices")
    if mode != "update" and x.dtype.is_complex:
        raise DTypeError(f"scatter: complex numbers have no order, got {x}")
    wanted = (*indices.shape, *x.shape[batch_dims + 1 :])
    fits = same_shape(x.shape[:batch_dims], indices.shape[:batch_dims])
    if not fits or updates.dtype is not x.dtype or not same_shape(updates.shape, wanted):
        raise ShapeError(
            f"scatter: updates {updates} should be {x.dtype.short}{show_shape(wanted)}"
        )
    return x


def _scatter(x: Array, updates: Array, indices: Array, mode: str, batch_dims: int) -> Array:
    size = x.shape[batch_dims]
    check_range(scatter, "index", indices, size, {"batch_dims": batch_dims})
    lanes = math.prod(x.shape[:batch_dims])
    rest = x.shape[batch_dims + 1 :]
    z = np.array(x.reshape((lanes * size, *rest)))
    first = np.arange(lanes).reshape((*x.shape[:batch_dims], *(1,) * (indices.ndim - batch_dims)))
    flat = (first * size + indices).ravel()
    rows = updates.reshape((flat.size, *rest))
    if mode == "update":
        z[flat] = rows  # in order, so that the last one stays
    elif z.dtype.kind == "V":  # bfloat16
        wide = z.astype(np.float32)
        _FOLDS[mode].at(wide, flat, rows.astype(np.float32))
        z = wide.astype(z.dtype)
    else:
        _FOLDS[mode].at(z, flat, rows)
    return z.reshape(x.shape)


_FOLDS = {"max": np.maximum, "min": np.minimum}


def _picked(x: Any, indices: Any, batch_dims: int) -> Any:
    return ops["gather"](x, indices, axis=batch_dims, batch_dims=batch_dims)


def _over(x: Any, rank: int) -> Any:
    """Axes of size 1 at the end."""
    return x.reshape((*x.shape, *(1,) * (rank - x.ndim)))


def _last(x: Any, updates: Any, indices: Any, batch_dims: int) -> Any:
    """Which updates are the last of their place."""
    own = indices.shape[batch_dims:]
    order = ops["iota"](element_count(own), dtypes.int64)
    order = order.reshape(own).broadcast_to(indices.shape)
    zero = current_kind().lift(0, dtypes.int64).broadcast_to(x.shape[: batch_dims + 1])
    latest = ops["scatter"](zero, order, indices, "update", batch_dims)
    return _over(_picked(latest, indices, batch_dims) == order, updates.ndim)


def _shares(z: Any, x: Any, updates: Any, indices: Any, batch_dims: int) -> tuple[Any, Any, Any]:
    """Which of x and of the updates are the extreme of their place, and how many share it."""
    here, there = x == z, updates == _picked(z, indices, batch_dims)
    total = _added(there.cast(x.dtype), indices, x, batch_dims) + here.cast(x.dtype)
    return here, there, total


def _added(updates: Any, indices: Any, x: Any, batch_dims: int) -> Any:
    return ops["scatter_add"](updates, indices, x.shape, batch_dims, batch_dims)


def _scatter_vjp(
    g: Any, z: Any, x: Any, updates: Any, indices: Any, needs: tuple[bool, ...], mode: str,
    batch_dims: int,
) -> tuple[Any, ...]:  # fmt: skip
    gx = gu = None
    if mode == "update":
        if needs[0]:
            gx = ops["scatter"](g, zeros_like(updates), indices, "update", batch_dims)
        if needs[1]:
            last = _last(x, updates, indices, batch_dims)
            gu = ops["where"](last, _picked(g, indices, batch_dims), 0)
        return gx, gu, None
    here, there, total = _shares(z, x, updates, indices, batch_dims)
    share = g / ops["where"](total == 0, 1, total)  # none is equal to NaN
    if needs[0]:
        gx = ops["where"](here, share, 0)
    if needs[1]:
        gu = ops["where"](there, _picked(share, indices, batch_dims), 0)
    return gx, gu, None


def _scatter_jvp(
    ts: tuple[Any, ...], z: Any, x: Any, updates: Any, indices: Any, mode: str, batch_dims: int
) -> Any:
    tx = zeros_like(x) if ts[0] is None else ts[0]
    tu = zeros_like(updates) if ts[1] is None else ts[1]
    if mode == "update":
        return ops["scatter"](tx, tu, indices, "update", batch_dims)
    here, there, total = _shares(z, x, updates, indices, batch_dims)
    moved = ops["where"](here, tx, 0)
    moved = moved + _added(ops["where"](there, tu, 0), indices, x, batch_dims)
    return moved / ops["where"](total == 0, 1, total)


def _scatter_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, mode: str, batch_dims: int
) -> tuple[Any, ...]:
    full = [v if b else v.broadcast_to((size, *v.shape)) for v, b in zip(xs, batched, strict=True)]
    return (ops["scatter"](*full, mode, batch_dims + 1),)


def _scatter_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for mode in ("update", "max", "min"):
        for shape, picked, batch_dims in (
            ((4,), (3,), 0), ((3, 2), (2, 2), 0), ((2, 3), (2, 5), 1), ((2, 2, 2), (2,), 1),
            ((3,), (0,), 0),
        ):  # fmt: skip
            indices = rng.integers(0, shape[batch_dims], picked, dtype=np.int32)
            updates = (*picked, *shape[batch_dims + 1 :])
            count = math.prod(shape) + math.prod(updates)
            values = rng.permutation(count).astype(dtype)  # without ties
            x, u = values[: math.prod(shape)], values[math.prod(shape) :]
            attrs = {"mode": mode, "batch_dims": batch_dims}
            yield (x.reshape(shape), u.reshape(updates), indices), attrs


def _scatter_oracle(x: Array, updates: Array, indices: Array, mode: str, batch_dims: int) -> Array:
    z = x.copy()
    for place in np.ndindex(*indices.shape):
        at = (*place[:batch_dims], int(indices[place]))
        u = updates[place]
        z[at] = u if mode == "update" else np.where((u > z[at]) == (mode == "max"), u, z[at])
    return z


scatter = Indexed(
    name="scatter",
    public="",
    lowering="scatter",
    bind=_bind_scatter,
    type=_scatter_type,
    ref=_scatter,
    vjp=_scatter_vjp,
    jvp=_scatter_jvp,
    batch=_scatter_batch,
    failures={
        "index": (
            IndexOutOfRange,
            "scatter: index {a} is out of range for axis {batch_dims} with size {b}",
        )
    },
    samples=Samples(
        cases=_scatter_cases,
        dtypes=DTYPES,
        oracle=_scatter_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros(3), np.ones(2), np.array([0, 3]), "update"),
             "scatter: index 3 is out of range for axis 0 with size 3"),
            (lambda op: op(np.zeros(3), np.ones(3), np.array([0, 1]), "update"),
             "scatter: updates f64[3] should be f64[2]"),
        ),
    ),
    doc="x with `updates` at `indices` along the axis after the batch axes: the last one of a "
    "place (mode update), or the greatest (max) or least (min) of them and of x.",
)  # fmt: skip
