"""Sorting along an axis.

NaN is greater than everything else, and equal elements keep their order. NumPy has neither of this
for descending order, and its stable sort is slow: up to 32 bits, each element is packed with its
place into one integer, and these are sorted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.families import Library
from graphgrad.compiler.op import Attrs, Samples, current_kind, ops
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import TensorType, normalize_axis, same_shape, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]
DTYPES = ("float32", "float64", "bfloat16", "float16", "int32", "int64", "uint8", "bool")


def _bind(
    values: Any, axis: int = -1, direction: str = "ASCENDING", name: str | None = None
) -> Bound:
    x = current_kind().lift(values)
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ArgumentError(f"sort: direction is 'ASCENDING' or 'DESCENDING', not {direction!r}")
    place = normalize_axis(int(axis), x.ndim, "sort")
    return (x,), {"axis": place, "descending": direction == "DESCENDING"}


def _bind_order(
    values: Any, axis: int = -1, direction: str = "ASCENDING", stable: bool = False,
    name: str | None = None,
) -> Bound:  # fmt: skip
    return _bind(values, axis, direction)


def comparable(x: Array) -> Array:
    """bfloat16 as float32: NumPy's comparisons of it do not know NaN."""
    return x.astype(np.float32) if x.dtype.kind == "V" else x


PACKED = 1024  # elements from which packing pays


def _packed(x: Array, descending: bool) -> Array:
    """Integers in the order of the elements of the last axis, with the place in the low half."""
    if x.dtype.kind in "fV":
        single = x.astype(np.float32)
        single += np.float32(0)  # -0.0 is 0.0
        single[np.isnan(single)] = np.nan
        keys: Array = single.view(np.int32)
        keys ^= (keys >> 31) & 0x7FFFFFFF
    else:
        keys = x.astype(np.int64) - (2**31 if x.dtype == np.uint32 else 0)
    if descending:
        np.invert(keys, out=keys)
    return _beside(keys.astype(np.int64), np.arange(x.shape[-1]))


def _beside(keys: Array, places: Array) -> Array:
    """In the memory of the keys, which become the high halves."""
    keys <<= 32
    keys |= places
    return keys


def ranking(x: Array, descending: bool) -> Array:
    """The places of the elements of the last axis in their order."""
    if x.dtype.itemsize <= 4 and x.size >= PACKED:
        keys = _packed(x, descending)
        keys.sort(-1)
        return keys.astype(np.int32)  # the low halves
    x = comparable(x)
    if x.size >= PACKED:
        return _by_runs(x, descending)
    if descending:
        order = np.argsort(x[..., ::-1], -1, kind="stable")[..., ::-1]
        return np.asarray(x.shape[-1] - 1 - order)
    return np.argsort(x, -1, kind="stable")


def _by_runs(x: Array, descending: bool) -> Array:
    """A fast order, in which runs of equal elements are then ordered by place."""
    order = np.argsort(x, -1)
    if descending:
        order = order[..., ::-1]
    ranked = np.take_along_axis(x, order, -1)
    after, before = ranked[..., 1:], ranked[..., :-1]
    differ = (after != before) & ~(np.isnan(after) & np.isnan(before))
    if differ.all():
        return order
    runs = np.zeros(x.shape, np.int64)
    np.cumsum(differ, -1, out=runs[..., 1:])
    keys = _beside(runs, order)
    keys.sort(-1)
    return keys.astype(np.int32)


def _order(x: Array, axis: int, descending: bool) -> Array:
    order = ranking(np.moveaxis(x, axis, -1), descending)
    return np.moveaxis(order, -1, axis).astype(np.int32)


def _sorted(x: Array, axis: int, descending: bool) -> Array:
    z = np.sort(comparable(x), axis).astype(x.dtype, copy=False)
    return np.ascontiguousarray(np.flip(z, axis)) if descending else z


# -- put_along: the adjoint of picking elements of a row by different places


def _last(x: Any, axis: int) -> Any:
    """`x` with `axis` as the last axis."""
    return x.transpose([*(i for i in range(x.ndim) if i != axis), axis])


def _back(x: Any, axis: int) -> Any:
    """`x` with its last axis at `axis`."""
    order = list(range(x.ndim - 1))
    order.insert(axis, x.ndim - 1)
    return x.transpose(order)


def along(x: Any, places: Any, axis: int) -> Any:
    """The elements of each row of `x` along `axis` at its row of `places`."""
    rows = ops["gather"](_last(x, axis), _last(places, axis), batch_dims=x.ndim - 1)
    return _back(rows, axis)


def _put(x: Array, places: Array, axis: int, size: int) -> Array:
    z = np.zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
    np.put_along_axis(z, places.astype(np.intp), x, axis)
    return z


def _put_type(x: TensorType, places: TensorType, axis: int, size: Extent) -> TensorType:
    if not same_shape(x.shape, places.shape):
        raise ShapeError(f"put_along: {x} should have the shape of the places {places}")
    return tensor_type((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)


def _put_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], lanes: Extent, axis: int, size: Extent
) -> tuple[Any, ...]:
    full = [x if b else x.broadcast_to((lanes, *x.shape)) for x, b in zip(xs, batched, strict=True)]
    return (ops["put_along"](*full, axis=axis + 1, size=size),)


def _put_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, axis, size in (((4,), 0, 4), ((2, 3), 1, 5), ((2, 3), 0, 2), ((2, 0), 1, 2)):
        rows = rng.permuted(np.indices((*shape[:axis], size, *shape[axis + 1 :]))[axis], axis=axis)
        places = np.take(rows, range(shape[axis]), axis)
        yield (rng.integers(-9, 9, shape).astype(dtype), places), {"axis": axis, "size": size}


def _put_oracle(x: Array, places: Array, axis: int, size: int) -> Array:
    z = np.zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
    for at in np.ndindex(*x.shape):
        z[(*at[:axis], places[at], *at[axis + 1 :])] += x[at]
    return z


put_along = Library(
    name="put_along",
    public="",
    bind=lambda x, places, axis, size: ((x, places), {"axis": axis, "size": size}),
    type=_put_type,
    ref=_put,
    vjp=lambda g, z, x, places, needs, axis, size: (along(g, places, axis), None),
    jvp=lambda ts, z, x, places, axis, size: (
        None if ts[0] is None else ops["put_along"](ts[0], places, axis=axis, size=size)
    ),
    batch=_put_batch,
    samples=Samples(
        cases=_put_cases,
        dtypes=("float32", "float64", "bfloat16", "int32"),
        oracle=_put_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros(2), np.zeros(3, int), axis=0, size=4),
             "put_along: f64[2] should have the shape of the places i64[3]"),
        ),
    ),
    doc="Zeros with the elements of x at `places` along `axis`, which differ within each row: the "
    "adjoint of picking the elements of each row by places of its own.",
)  # fmt: skip

# -- sort and argsort


def _cases(rng: np.random.Generator, dtype: Any) -> Any:
    kind = np.dtype(dtype).kind
    for i, (shape, axis) in enumerate(
        (((5,), -1), ((3, 4), 0), ((2, 3, 2), 1), ((1,), 0), ((0, 2), 0), ((2, 600), 1))
    ):
        x = rng.permuted(
            rng.uniform(-9, 9, shape) if kind in "fV" else np.indices(shape).sum(0) % 7
        )
        for direction in ("ASCENDING", "DESCENDING") if i < 5 else ("ASCENDING",):
            yield (np.asarray(x).astype(dtype),), {"axis": axis, "direction": direction}
    if kind in "fV":
        edges = np.array([[np.nan, 1, np.inf, 1, -np.inf], [3, np.nan, 2, np.nan, 2]])
        many = np.where(rng.random((2, 600)) < 0.1, np.nan, rng.integers(-9, 9, (2, 600)))
        for direction in ("ASCENDING", "DESCENDING"):
            yield (edges.astype(dtype),), {"axis": 1, "direction": direction}
            yield (many.astype(dtype),), {"axis": 1, "direction": direction}


def _by_python(row: Any, direction: str) -> list[int]:
    """The places in order, equal elements first come first; NaN is greatest."""
    values = list(row)
    return sorted(
        range(len(values)),
        key=lambda i: (values[i] != values[i], 0 if values[i] != values[i] else values[i]),
        reverse=direction == "DESCENDING",
    )


def order_oracle(x: Array, axis: int, direction: str) -> Array:
    if not x.size:
        return np.zeros(x.shape, np.int32)
    return np.apply_along_axis(lambda row: np.array(_by_python(row, direction)), axis, x)


def _sort_oracle(x: Array, axis: int, direction: str) -> Array:
    return np.take_along_axis(x, order_oracle(x, axis, direction), axis)


def _type(x: TensorType, axis: int, descending: bool) -> TensorType:
    return x


ERRORS = (
    (lambda op: op(np.zeros(3), direction="UP"), "'ASCENDING' or 'DESCENDING', not 'UP'"),
    (lambda op: op(np.zeros(3), axis=1), "sort: axis 1 is out of range for 1 dimensions"),
)

argsort = Library(
    name="argsort",
    bind=_bind_order,
    type=lambda x, axis, descending: tensor_type(x.shape, dtypes.int32),
    ref=_order,
    nondifferentiable=True,
    batch=lambda xs, batched, lanes, axis, descending: (
        ops["argsort"](xs[0], axis + 1, "DESCENDING" if descending else "ASCENDING"),
    ),
    samples=Samples(cases=_cases, dtypes=DTYPES, oracle=order_oracle, errors=ERRORS),
    doc="""The places of the elements along `axis` in their order, as int32.

    `direction` is 'ASCENDING' or 'DESCENDING'. NaN is greater than everything else, and equal
    elements keep their order, whatever `stable` is.

    >>> import graphgrad as gg
    >>> gg.argsort([3.0, 1.0, 2.0]).numpy()
    array([1, 2, 0], dtype=int32)
    """,
)


def _direction(descending: bool) -> str:
    return "DESCENDING" if descending else "ASCENDING"


def _order_of(x: Any, axis: int, descending: bool) -> Any:
    return ops["argsort"](x, axis, _direction(descending))


sort = Library(
    name="sort",
    bind=_bind,
    type=_type,
    ref=_sorted,
    vjp=lambda g, z, x, needs, axis, descending: (
        ops["put_along"](g, _order_of(x, axis, descending), axis=axis, size=x.shape[axis]),
    ),
    jvp=lambda ts, z, x, axis, descending: along(ts[0], _order_of(x, axis, descending), axis),
    batch=lambda xs, batched, lanes, axis, descending: (
        ops["sort"](xs[0], axis + 1, _direction(descending)),
    ),
    samples=Samples(cases=_cases, dtypes=DTYPES, oracle=_sort_oracle, ulp=0.0, errors=ERRORS),
    doc="""The elements along `axis` in order; `direction` is 'ASCENDING' or 'DESCENDING'.

    NaN is greater than everything else: last in ascending order, as in NumPy, and first in
    descending order.

    >>> import graphgrad as gg
    >>> gg.sort([3.0, 1.0, 2.0]).numpy()
    array([1., 2., 3.], dtype=float32)
    """,
)
