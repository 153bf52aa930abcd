"""Elements picked and placed by index: gather, scatter_add, iota, one_hot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from graphgrad.compiler.families import Composite, Generator, Indexed, join_dtypes
from graphgrad.compiler.op import Attrs, Samples, current_kind, located, ops
from graphgrad.compiler.ops.range_checks import OUT_OF_RANGE, check_range
from graphgrad.compiler.ops.shapes import as_shape, known_or_none
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import (
    Shape,
    TensorType,
    normalize_axis,
    same_shape,
    show_shape,
    tensor_type,
)

Bound = tuple[tuple[Any, ...], Attrs]
DTYPES = ("float32", "float64", "bfloat16", "int64", "complex64")


def check_integer(t: TensorType, op: str, what: str) -> None:
    """Raise unless `t` is an integer type."""
    if not t.dtype.is_integer:
        raise DTypeError(f"{op}: {what} are integers, got {t}")


# -- gather


def _bind_gather(
    params: Any, indices: Any, validate_indices: Any = None, axis: int | None = None,
    batch_dims: int = 0, name: str | None = None,
) -> Bound:  # fmt: skip
    """TensorFlow's arguments; a negative axis or batch_dims counts from the back."""
    kind = current_kind()
    x, i = kind.lift(params), kind.lift(indices)
    batch = batch_dims if batch_dims >= 0 else batch_dims + i.ndim
    place = batch if axis is None else normalize_axis(int(axis), x.ndim, "gather")
    return (x, i), {"axis": place, "batch_dims": batch}


def _gather_type(x: TensorType, indices: TensorType, axis: int, batch_dims: int) -> TensorType:
    check_integer(indices, "gather", "indices")
    if axis >= x.ndim:
        raise ShapeError(f"gather: {x} has no axis {axis}")
    fits = 0 <= batch_dims <= min(axis, indices.ndim)
    if not fits or not same_shape(x.shape[:batch_dims], indices.shape[:batch_dims]):
        raise ShapeError(f"gather: {x} and indices {indices} have no {batch_dims} axes in common")
    rest = indices.shape[batch_dims:]
    return tensor_type((*x.shape[:axis], *rest, *x.shape[axis + 1 :]), x.dtype)


def _batch_grid(indices: Array, batch_dims: int) -> tuple[Array, ...]:
    """Index arrays of the batch axes, that broadcast against `indices`."""
    grids = np.ogrid[tuple(np.s_[:n] for n in indices.shape[:batch_dims])]
    extra = (1,) * (indices.ndim - batch_dims)
    return tuple(g.reshape((*g.shape, *extra)) for g in grids)


def _gather(x: Array, indices: Array, axis: int, batch_dims: int) -> Array:
    check_range(gather, "index", indices, x.shape[axis], {"axis": axis})
    if not batch_dims:
        return np.take(x, indices, axis)
    moved = np.moveaxis(x, axis, batch_dims)
    picked = moved[(*_batch_grid(indices, batch_dims), indices)]
    extra = range(batch_dims, indices.ndim)
    return np.moveaxis(picked, tuple(extra), tuple(i + axis - batch_dims for i in extra))


def _lanes(x: Any, is_batched: bool, size: Extent) -> Any:
    return x if is_batched else x.broadcast_to((size, *x.shape))


def _gather_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, axis: int, batch_dims: int
) -> tuple[Any, ...]:
    x, indices = xs
    if batch_dims == 0 and not batched[1]:
        return (ops["gather"](x, indices, axis=axis + 1),)
    if batch_dims == 0 and not batched[0]:
        z = ops["gather"](x, indices, axis=axis)  # the lanes lie at `axis`
        return (z.transpose([axis, *(i for i in range(z.ndim) if i != axis)]),)
    x, indices = (_lanes(v, b, size) for v, b in zip(xs, batched, strict=True))
    return (ops["gather"](x, indices, axis=axis + 1, batch_dims=batch_dims + 1),)


GATHERS: tuple[tuple[tuple[int, ...], tuple[int, ...], int, int], ...] = (
    ((5,), (3,), 0, 0), ((5,), (), 0, 0), ((4, 3), (2, 2), 0, 0), ((2, 4, 3), (5,), 1, 0),
    ((2, 4), (2, 3), 1, 1), ((2, 3, 4), (2, 2), 2, 1), ((2, 3, 4), (2, 3, 2), 2, 2),
    ((3,), (0,), 0, 0),
)  # fmt: skip


def _gather_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, picked, axis, batch_dims in GATHERS:
        indices = rng.integers(0, shape[axis], picked, dtype=np.int32)
        x = rng.uniform(-9, 9, shape).astype(dtype)
        yield (x, indices), {"axis": axis, "batch_dims": batch_dims}


def _gather_oracle(x: Array, indices: Array, axis: int, batch_dims: int) -> Array:
    if batch_dims:
        rows = zip(x, indices, strict=True)
        return np.stack([_gather_oracle(a, i, axis - 1, batch_dims - 1) for a, i in rows])
    parts = [x[(np.s_[:],) * axis + (int(i),)] for i in indices.ravel()]
    if not parts:
        return np.zeros((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
    joined = np.stack(parts, axis)
    return joined.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


gather = Indexed(
    name="gather",
    lowering="gather",
    bind=_bind_gather,
    type=_gather_type,
    ref=_gather,
    vjp=lambda g, z, x, i, needs, axis, batch_dims: (
        ops["scatter_add"](g, i, shape=x.shape, axis=axis, batch_dims=batch_dims),
        None,
    ),
    jvp=lambda ts, z, x, i, axis, batch_dims: (
        None if ts[0] is None else ops["gather"](ts[0], i, axis=axis, batch_dims=batch_dims)
    ),
    batch=_gather_batch,
    failures={"index": (IndexOutOfRange, f"gather: {OUT_OF_RANGE}")},
    samples=Samples(
        cases=_gather_cases,
        dtypes=DTYPES,
        oracle=_gather_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros(5, np.float32), np.array([1, 7])),
             "gather: index 7 is out of range for axis 0 with size 5"),
            (lambda op: op(np.zeros(5, np.float32), np.array([-1])), "index -1 is out of range"),
            (lambda op: op(np.zeros(5), np.array([1.0])), "indices are integers, got f64[1]"),
        ),
    ),
    doc="""The elements of `params` at `indices` along `axis`, which the axes of `indices` replace.

    The first `batch_dims` axes are common to both. An index out of range, also a negative one,
    raises IndexOutOfRange.

    >>> import graphgrad as gg
    >>> gg.gather([10, 20, 30], [2, 0]).numpy()
    array([30, 10], dtype=int32)
    """,
)  # fmt: skip

# -- scatter_add: the adjoint of gather


def _scatter_type(
    updates: TensorType, indices: TensorType, shape: Shape, axis: int, batch_dims: int
) -> TensorType:
    check_integer(indices, "scatter_add", "indices")
    wanted = (*shape[:axis], *indices.shape[batch_dims:], *shape[axis + 1 :])
    if not same_shape(updates.shape, wanted):
        raise ShapeError(
            f"scatter_add: updates {updates} should have the shape {show_shape(wanted)}"
        )
    return tensor_type(shape, updates.dtype)


def _scatter_add(
    updates: Array, indices: Array, shape: tuple[int, ...], axis: int, batch_dims: int
) -> Array:
    """Rows are sorted by index and summed in runs: much faster than np.add.at."""
    size = shape[axis]
    check_range(scatter_add, "index", indices, size, {"axis": axis})
    extra = range(batch_dims, indices.ndim)
    rows = np.moveaxis(updates, tuple(i + axis - batch_dims for i in extra), tuple(extra))
    kept = (*shape[:batch_dims], size, *shape[batch_dims:axis], *shape[axis + 1 :])
    width = math.prod(kept[batch_dims + 1 :])
    lanes = np.arange(math.prod(shape[:batch_dims])).reshape(
        (*shape[:batch_dims], *(1,) * len(extra))
    )
    flat = (lanes * size + indices).ravel()
    out = np.zeros((math.prod(kept[: batch_dims + 1]), width), updates.dtype)
    if flat.size and width:
        order = np.argsort(flat, kind="stable")
        ranked = flat[order]
        starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        terms = rows.reshape((flat.size, width))[order]
        short = terms.dtype.itemsize == 2 and terms.dtype.kind in "fV"
        wide = np.float32 if short else terms.dtype.type
        out[ranked[starts]] = np.add.reduceat(terms, starts, axis=0, dtype=wide) + wide(0)
    return np.moveaxis(out.reshape(kept), batch_dims, axis)


def _scatter_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, shape: Shape, axis: int,
    batch_dims: int,
) -> tuple[Any, ...]:  # fmt: skip
    updates, indices = (_lanes(v, b, size) for v, b in zip(xs, batched, strict=True))
    shape = (size, *shape)
    return (
        ops["scatter_add"](updates, indices, shape=shape, axis=axis + 1, batch_dims=batch_dims + 1),
    )


def _scatter_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, picked, axis, batch_dims in GATHERS:
        indices = rng.integers(0, shape[axis], picked, dtype=np.int64)
        rows = (*shape[:axis], *picked[batch_dims:], *shape[axis + 1 :])
        updates = rng.integers(-9, 9, rows).astype(dtype)
        yield (updates, indices), {"shape": shape, "axis": axis, "batch_dims": batch_dims}


def _scatter_oracle(
    updates: Array, indices: Array, shape: tuple[int, ...], axis: int, batch_dims: int
) -> Array:
    if batch_dims:
        rows = zip(updates, indices, strict=True)
        return np.stack(
            [_scatter_oracle(u, i, shape[1:], axis - 1, batch_dims - 1) for u, i in rows]
        )
    out = np.zeros(shape, updates.dtype)
    for place in np.ndindex(*indices.shape):
        key: Any = (np.s_[:],) * axis
        out[(*key, int(indices[place]))] += updates[(*key, *place)]
    return out


def _bind_scatter(
    updates: Any, indices: Any, shape: Shape, axis: int = 0, batch_dims: int = 0
) -> Bound:
    return (updates, indices), {"shape": tuple(shape), "axis": axis, "batch_dims": batch_dims}


scatter_add = Indexed(
    name="scatter_add",
    public="",
    lowering="scatter_add",
    bind=_bind_scatter,
    type=_scatter_type,
    ref=_scatter_add,
    vjp=lambda g, z, u, i, needs, shape, axis, batch_dims: (
        ops["gather"](g, i, axis=axis, batch_dims=batch_dims),
        None,
    ),
    jvp=lambda ts, z, u, i, shape, axis, batch_dims: (
        None
        if ts[0] is None
        else ops["scatter_add"](ts[0], i, shape=shape, axis=axis, batch_dims=batch_dims)
    ),
    batch=_scatter_batch,
    failures={"index": (IndexOutOfRange, f"scatter_add: {OUT_OF_RANGE}")},
    samples=Samples(
        cases=_scatter_cases,
        dtypes=DTYPES,
        oracle=_scatter_oracle,
        ulp=1.0,
        errors=(
            (lambda op: op(np.ones(2, np.float32), np.array([0, 9]), (5,)),
             "scatter_add: index 9 is out of range for axis 0 with size 5"),
            (lambda op: op(np.ones(3, np.float32), np.array([0, 1]), (5,)),
             "updates f32[3] should have the shape [2]"),
        ),
    ),
    doc="Zeros of `shape` with `updates` added at `indices` along `axis`: the adjoint of gather.",
)  # fmt: skip

# -- iota, range, one_hot


def _iota_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for n in (0, 1, 7, 100):
        yield (), {"size": n, "dtype": dtypes.as_dtype(np.dtype(dtype))}


iota = Generator(
    name="iota",
    public="",
    bind=lambda size, dtype=dtypes.int32: ((), {"size": size, "dtype": dtypes.as_dtype(dtype)}),
    type=lambda size, dtype: tensor_type((size,), dtype),
    ref=lambda size, dtype: np.arange(size).astype(dtype.dtype),
    scalar=lambda s, index, size, dtype: s.convert(index, dtype),
    nondifferentiable=True,
    samples=Samples(
        cases=_iota_cases,
        dtypes=("int32", "int64", "float32", "float64", "bfloat16"),
        oracle=lambda size, dtype: np.cumsum(np.ones(size)) - 1,
        ulp=0.0,
    ),
    doc="0, 1, ... below `size`.",
)


@located
def range_(
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str | None = None
) -> Any:
    """start, start + delta, ... below `limit`; `range(limit)` starts at 0.

    The ends are numbers or 0-d tensors. Where they are computed in a function, the size of the
    result is known at run time only.

    >>> import graphgrad as gg
    >>> gg.range(3, 9, 2).numpy()
    array([3, 5, 7], dtype=int32)
    """
    if limit is None:
        start, limit = 0, start
    given = (start, limit, delta)
    if dtype is None:
        dtype = next((v.dtype for v in given if isinstance(v, Arith)), None)
    ends = tuple(map(known_or_none, given))
    if any(v is None for v in ends):
        first, last, step = map(current_kind().lift, given)
        return _computed_range(first, last, step, dtype)
    start, limit, delta = ends
    if any(getattr(v, "ndim", 0) for v in ends) or delta == 0:
        raise ArgumentError(f"range: start, limit and a delta other than 0 are numbers, got {ends}")
    floating = any(isinstance(v, float | np.floating) for v in ends)
    found = (
        dtypes.as_dtype(dtype)
        if dtype is not None
        else dtypes.float32
        if floating
        else dtypes.int32
    )
    if floating:
        count: Extent = max(0, math.ceil((limit - start) / delta))
    else:
        count = -((start - limit) // delta)
        count = max(0, count) if isinstance(count, int) else count
    places = ops["iota"](count, found)
    scaled = places if delta == 1 else places * delta
    return scaled if isinstance(start, int) and start == 0 else scaled + start


def _computed_range(start: Any, limit: Any, delta: Any, dtype: Any) -> Any:
    """The range between 0-d tensors."""
    floating = any(v.dtype.is_floating for v in (start, limit, delta))
    if floating:
        count = ops["cast"](-ops["floor"]((start - limit) / delta), dtypes.int64)
    else:
        start, limit, delta = (v.cast(dtypes.int64) for v in (start, limit, delta))
        count = -ops["floordiv"](start - limit, delta)
    found = dtypes.as_dtype(dtype)
    count = ops["maximum"](count, 0)
    return (ops["places"](count) * delta + start).cast(found)


def _bind_one_hot(
    indices: Any, depth: Any, on_value: Any = None, off_value: Any = None, axis: int | None = None,
    dtype: Any = None, name: str | None = None,
) -> Bound:  # fmt: skip
    i = current_kind().lift(indices)
    depth = as_shape(depth)[0] if isinstance(depth, Arith) else depth
    place = normalize_axis(-1 if axis is None else int(axis), i.ndim + 1, "one_hot")
    given = [v for v in (on_value, off_value) if v is not None]
    if dtype is not None or not given:
        found = dtypes.as_dtype(dtype or dtypes.float32)
    else:
        found = join_dtypes(tuple(given))
    on, off = 1 if on_value is None else on_value, 0 if off_value is None else off_value
    return (i,), {"depth": depth, "on": on, "off": off, "axis": place, "dtype": found}


def _one_hot_type(
    indices: TensorType, depth: Extent, on: Any, off: Any, axis: int, dtype: DType
) -> TensorType:
    check_integer(indices, "one_hot", "indices")
    return tensor_type((*indices.shape[:axis], depth, *indices.shape[axis:]), dtype)


def _one_hot(indices: Array, depth: int, on: Any, off: Any, axis: int, dtype: DType) -> Array:
    places = np.arange(depth).reshape([-1 if i == axis else 1 for i in range(indices.ndim + 1)])
    hit = np.expand_dims(indices, axis) == places
    return np.asarray(np.where(hit, dtype.dtype.type(on), dtype.dtype.type(off)))


def places_along(n: Extent, axis: int, rank: int, dtype: DType) -> Any:
    """0, 1, ... below n along `axis` of `rank` axes, the others of size 1."""
    return ops["iota"](n, dtype).reshape(tuple(n if i == axis else 1 for i in range(rank)))


def _one_hot_parts(i: Any, depth: Extent, on: Any, off: Any, axis: int, dtype: DType) -> Any:
    wide = dtypes.int32 if i.dtype.bits < 32 or i.dtype is dtypes.int32 else dtypes.int64
    column = i.cast(wide).reshape((*i.shape[:axis], 1, *i.shape[axis:]))
    hit = column == places_along(depth, axis, i.ndim + 1, wide)
    cast = dtype.dtype.type
    return ops["where"](hit, cast(on), cast(off))


def _one_hot_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, axis in (((5,), None), ((2, 3), 0), ((), -1), ((0,), 0)):
        indices = rng.integers(0, 6, shape).astype(dtype)  # some beyond the depth
        yield (indices,), {"depth": 4, "axis": axis}
    x = np.array([0, 1]).astype(dtype)
    yield (x,), {"depth": 2, "on_value": 5.0, "off_value": -1.0, "dtype": "float64"}


def _one_hot_oracle(
    i: Array, depth: int, axis: int | None = None, on_value: float = 1, off_value: float = 0,
    dtype: Any = None,
) -> Array:  # fmt: skip
    table = np.full((256, depth), off_value, np.float64)
    table[np.arange(depth), np.arange(depth)] = on_value
    return np.asarray(np.moveaxis(table[i], -1, -1 if axis is None else axis))


one_hot = Composite(
    name="one_hot",
    bind=_bind_one_hot,
    type=_one_hot_type,
    ref=_one_hot,
    decompose=_one_hot_parts,
    nondifferentiable=True,
    samples=Samples(
        cases=_one_hot_cases,
        dtypes=("int32", "int64", "uint8"),
        oracle=_one_hot_oracle,
        errors=((lambda op: op(np.array([1.0]), 3), "one_hot: indices are integers, got f64[1]"),),
    ),
    doc="""`on_value` at the place of each index along a new axis of size `depth`, else `off_value`.

    An index out of range gives `off_value` everywhere, as in TensorFlow.

    >>> import graphgrad as gg
    >>> gg.one_hot([2, 0], 3).numpy()
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """,
)
