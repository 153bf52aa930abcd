"""Index tuples: gather_nd, scatter_nd, tensor_scatter_nd_*.

An index tuple is the place of a row in the first axes laid out flat; so all of these are gathers
and scatters along one axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.families import Composite
from graphgrad.compiler.op import Attrs, Op, Samples, current_kind, ops
from graphgrad.compiler.ops.index import check_integer
from graphgrad.compiler.ops.indexing import index
from graphgrad.compiler.ops.shapes import as_shape
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import (
    Shape,
    TensorType,
    element_count,
    same_shape,
    show_shape,
    tensor_type,
)

Bound = tuple[tuple[Any, ...], Attrs]
DTYPES = ("float32", "float64", "bfloat16", "int64", "complex64")
REALS = DTYPES[:-1]


def flat_places(indices: Any, sizes: Sequence[Extent], op: str, axis: int = 0) -> Any:
    """The place of each index tuple (the last axis of `indices`) among `sizes` laid out flat."""
    total = None
    for k, n in enumerate(sizes):
        part = ops["check_index"](index(indices, (..., k)).cast(dtypes.int64), n, axis + k, op)
        total = part if total is None else total * n + part
    if total is None:  # the empty tuple
        return current_kind().lift(0, dtypes.int64).broadcast_to(indices.shape[:-1])
    return total


def _depth(indices: TensorType, axes: Shape, op: str) -> int:
    """The number of indices in a tuple."""
    check_integer(indices, op, "indices")
    depth = indices.shape[-1] if indices.shape else None
    if not isinstance(depth, int) or depth > len(axes):
        raise ShapeError(
            f"{op}: the last axis of the indices {indices} counts at most {len(axes)} axes of "
            f"{show_shape(axes)}"
        )
    return depth


def _grid(indices: Array, batch_dims: int) -> tuple[Array, ...]:
    """NumPy's key for index tuples after batch axes."""
    lead = np.ogrid[tuple(np.s_[:n] for n in indices.shape[:batch_dims])]
    extra = (1,) * (indices.ndim - 1 - batch_dims)
    return (*(g.reshape((*g.shape, *extra)) for g in lead), *np.moveaxis(indices, -1, 0))


def _check_tuples(indices: Array, sizes: Sequence[int], op: str, axis: int = 0) -> None:
    for k, n in enumerate(sizes):
        ops["check_index"].ref(indices[..., k], n, axis + k, op)


# -- gather_nd


def _bind_gather_nd(
    params: Any, indices: Any, batch_dims: int = 0, name: str | None = None,
    bad_indices_policy: str = "",
) -> Bound:  # fmt: skip
    if bad_indices_policy not in ("", "DEFAULT", "ERROR"):
        raise ArgumentError(
            f"gather_nd: an index out of range is an error, no policy {bad_indices_policy!r}"
        )
    return (params, indices), {"batch_dims": int(batch_dims)}


def _gather_nd_type(x: TensorType, indices: TensorType, batch_dims: int) -> TensorType:
    b = batch_dims
    if not 0 <= b < max(indices.ndim, 1) or not same_shape(x.shape[:b], indices.shape[:b]):
        raise ShapeError(f"gather_nd: {x} and indices {indices} have no {b} axes in common")
    depth = _depth(indices, x.shape[b:], "gather_nd")
    return tensor_type((*indices.shape[:-1], *x.shape[b + depth :]), x.dtype)


def _gather_nd(x: Array, indices: Array, batch_dims: int) -> Array:
    depth = indices.shape[-1]
    _check_tuples(indices, x.shape[batch_dims : batch_dims + depth], "gather_nd", batch_dims)
    if depth + batch_dims == 0:
        return np.array(np.broadcast_to(x, (*indices.shape[:-1], *x.shape)))
    return np.asarray(x[_grid(indices, batch_dims)])


def _gather_nd_parts(x: Any, indices: Any, batch_dims: int) -> Any:
    b, depth = batch_dims, indices.shape[-1]
    sizes = x.shape[b : b + depth]
    flat = x.reshape((*x.shape[:b], element_count(sizes), *x.shape[b + depth :]))
    return ops["gather"](flat, flat_places(indices, sizes, "gather_nd", b), axis=b, batch_dims=b)


# Shapes of what is indexed and of indices, and batch_dims.
TUPLES: tuple[tuple[tuple[int, ...], tuple[int, ...], int], ...] = (
    ((4,), (3, 1), 0), ((3, 4), (2, 2), 0), ((3, 4), (2, 2, 1), 0), ((2, 3, 2), (2, 2, 1), 1),
    ((3,), (2, 0), 0), ((3, 2), (0, 1), 0), ((2, 3), (2,), 0),
)  # fmt: skip


def _tuples(rng: np.random.Generator, sizes: Sequence[int], shape: Sequence[int]) -> Array:
    """Random index tuples of the given shape, of which every element fits every axis."""
    return rng.integers(0, min(sizes[: shape[-1]], default=1), shape, dtype=np.int32)


def _gather_nd_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, picked, batch_dims in TUPLES:
        x = rng.uniform(-9, 9, shape).astype(dtype)
        yield (x, _tuples(rng, shape[batch_dims:], picked)), {"batch_dims": batch_dims}


def _gather_nd_oracle(x: Array, indices: Array, batch_dims: int) -> Array:
    if batch_dims:
        rows = zip(x, indices, strict=True)
        return np.stack([_gather_nd_oracle(a, i, batch_dims - 1) for a, i in rows])
    z = np.empty((*indices.shape[:-1], *x.shape[indices.shape[-1] :]), x.dtype)
    for place in np.ndindex(*indices.shape[:-1]):
        z[place] = x[tuple(indices[place].tolist())]
    return z


gather_nd = Composite(
    name="gather_nd",
    takes_complex=True,
    bind=_bind_gather_nd,
    type=_gather_nd_type,
    ref=_gather_nd,
    decompose=_gather_nd_parts,
    raises=True,
    samples=Samples(
        cases=_gather_nd_cases,
        dtypes=DTYPES,
        oracle=_gather_nd_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros((2, 3)), np.array([[1, 3]])),
             "gather_nd: index 3 is out of range for axis 1 with size 3"),
            (lambda op: op(np.zeros((2, 3)), np.array([[0, 1, 2]])),
             "the last axis of the indices i64[1, 3] counts at most 2 axes of [2, 3]"),
            (lambda op: op(np.zeros(3), np.array([[0.0]])), "gather_nd: indices are integers"),
        ),
    ),
    doc="""The elements, or slices, of `params` at the index tuples in the last axis of `indices`.

    The first `batch_dims` axes are common to both. An index out of range, also a negative one,
    raises IndexOutOfRange.

    >>> import graphgrad as gg
    >>> gg.gather_nd([[1, 2], [3, 4]], [[0, 1], [1, 0]]).numpy()
    array([2, 3], dtype=int32)
    """,
)  # fmt: skip

# -- scatter_nd


def _bind_scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Bound:
    return (indices, updates), {"shape": as_shape(shape)}


def _check_updates(indices: TensorType, updates: TensorType, shape: Shape, op: str) -> None:
    depth = _depth(indices, shape, op)
    wanted = (*indices.shape[:-1], *shape[depth:])
    if not same_shape(updates.shape, wanted):
        raise ShapeError(
            f"{op}: updates {updates} should have the shape {show_shape(wanted)}, by the indices "
            f"{indices} into {show_shape(shape)}"
        )


def _scatter_nd_type(indices: TensorType, updates: TensorType, shape: Shape) -> TensorType:
    _check_updates(indices, updates, shape, "scatter_nd")
    return tensor_type(shape, updates.dtype)


def _rows(indices: Any, x: Any, shape: Shape, op: str) -> tuple[Any, Any, Shape]:
    """The places and updates in one row each, and the shape with the indexed axes laid flat."""
    depth = indices.shape[-1]
    rest = shape[depth:]
    count = element_count(indices.shape[:-1])
    places = flat_places(indices, shape[:depth], op).reshape((count,))
    return places, x.reshape((count, *rest)), (element_count(shape[:depth]), *rest)


def _scatter_nd_parts(indices: Any, updates: Any, shape: Shape) -> Any:
    places, rows, flat = _rows(indices, updates, shape, "scatter_nd")
    return ops["scatter_add"](rows, places, shape=flat).reshape(shape)


def _flat_tuples(indices: Array, sizes: Sequence[int]) -> Array:
    """The NumPy form of `flat_places`."""
    flat = np.zeros(indices.shape[:-1], np.int64)
    for k, n in enumerate(sizes):
        flat = flat * n + indices[..., k]
    return flat


def _scatter_nd(indices: Array, updates: Array, shape: tuple[int, ...]) -> Array:
    depth = indices.shape[-1]
    _check_tuples(indices, shape[:depth], "scatter_nd")
    places = _flat_tuples(indices, shape[:depth]).reshape(-1)
    flat = (math.prod(shape[:depth]), *shape[depth:])
    rows = updates.reshape((places.size, *shape[depth:]))
    added = ops["scatter_add"].ref(rows, places, shape=flat, axis=0, batch_dims=0)
    return np.asarray(added).reshape(shape)


def _scatter_nd_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, picked, batch_dims in TUPLES:
        if batch_dims == 0:
            updates = rng.integers(-9, 9, (*picked[:-1], *shape[picked[-1] :])).astype(dtype)
            yield (_tuples(rng, shape, picked), updates), {"shape": shape}


def _scatter_nd_oracle(indices: Array, updates: Array, shape: tuple[int, ...]) -> Array:
    z = np.zeros(shape, updates.dtype)
    for place in np.ndindex(*indices.shape[:-1]):
        z[tuple(indices[place].tolist())] += updates[place]
    return z


scatter_nd = Composite(
    name="scatter_nd",
    takes_complex=True,
    bind=_bind_scatter_nd,
    type=_scatter_nd_type,
    ref=_scatter_nd,
    decompose=_scatter_nd_parts,
    raises=True,
    samples=Samples(
        cases=_scatter_nd_cases,
        dtypes=DTYPES,
        oracle=_scatter_nd_oracle,
        ulp=1.0,
        errors=(
            (lambda op: op(np.array([[1], [4]]), np.ones(2), (4,)),
             "scatter_nd: index 4 is out of range for axis 0 with size 4"),
            (lambda op: op(np.array([[1], [4]]), np.ones(3), (4,)),
             "updates f64[3] should have the shape [2], by the indices i64[2, 1] into [4]"),
        ),
    ),
    doc="""Zeros of `shape` with `updates` added at the index tuples in the last axis of `indices`.

    What several tuples name is summed. An index out of range raises IndexOutOfRange.

    >>> import graphgrad as gg
    >>> gg.scatter_nd([[1], [1], [3]], [1, 2, 3], [4]).numpy()
    array([0, 3, 0, 3], dtype=int32)
    """,
)  # fmt: skip

# -- tensor_scatter_nd_*


def _bind_onto(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Bound:
    kind = current_kind()
    x, i = kind.lift(tensor), kind.lift(indices)
    u = kind.lift(updates, None if isinstance(updates, Arith) else x.dtype).cast(x.dtype)
    if u.ndim == 0 and i.ndim and isinstance(i.shape[-1], int):
        u = u.broadcast_to((*i.shape[:-1], *x.shape[i.shape[-1] :]))
    return (x, i, u), {}


def _parts_onto(mode: str, op: str) -> Callable[..., Any]:
    def parts(x: Any, indices: Any, updates: Any) -> Any:
        places, rows, flat = _rows(indices, updates, x.shape, op)
        if mode in ("add", "sub"):
            added = ops["scatter_add"](rows, places, shape=flat).reshape(x.shape)
            return x + added if mode == "add" else x - added
        return ops["scatter"](x.reshape(flat), rows, places, mode).reshape(x.shape)

    return parts


def _ref_onto(mode: str, op: str) -> Callable[..., Array]:
    def ref(x: Array, indices: Array, updates: Array) -> Array:
        depth = indices.shape[-1]
        _check_tuples(indices, x.shape[:depth], op)
        if mode in ("add", "sub"):
            added = _scatter_nd(indices, updates, x.shape)
            return np.asarray(x + added if mode == "add" else x - added)
        places = _flat_tuples(indices, x.shape[:depth]).reshape(-1)
        flat = x.reshape((math.prod(x.shape[:depth]), *x.shape[depth:]))
        rows = updates.reshape((places.size, *x.shape[depth:]))
        return np.reshape(ops["scatter"].ref(flat, rows, places, mode, 0), x.shape)

    return ref


def _onto_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, picked, batch_dims in TUPLES:
        if batch_dims == 0:
            updates = (*picked[:-1], *shape[picked[-1] :])
            values = rng.permutation(math.prod(shape) + math.prod(updates)).astype(dtype)
            x, u = values[: math.prod(shape)], values[math.prod(shape) :]
            yield (x.reshape(shape), _tuples(rng, shape, picked), u.reshape(updates)), {}


_STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda z, u: u,
    "add": lambda z, u: z + u,
    "sub": lambda z, u: z - u,
    "max": np.maximum,
    "min": np.minimum,
}


def _oracle_onto(mode: str) -> Callable[..., Array]:
    def oracle(x: Array, indices: Array, updates: Array) -> Array:
        z = x.copy()
        for place in np.ndindex(*indices.shape[:-1]):
            at = tuple(indices[place].tolist())
            z[at] = _STEPS[mode](z[at], updates[place])
        return z

    return oracle


def _tensor_scatter(mode: str, what: str, result: str) -> Op:
    name = f"tensor_scatter_nd_{mode}"

    def infer(x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        _check_updates(indices, updates, x.shape, name)
        return x

    ordered = mode in ("max", "min")
    return Composite(
        name=name,
        takes_complex=not ordered,
        bind=_bind_onto,
        type=infer,
        ref=_ref_onto(mode, name),
        decompose=_parts_onto(mode, name),
        raises=True,
        samples=Samples(
            cases=_onto_cases,
            dtypes=REALS if ordered else DTYPES if mode != "sub" else ("float64",),
            oracle=_oracle_onto(mode),
            ulp=2.0 if mode in ("add", "sub") else 0.0,
            errors=(
                (lambda op: op(np.zeros(4), np.array([[1], [-1]]), np.ones(2)),
                 f"{name}: index -1 is out of range for axis 0 with size 4"),
                (lambda op: op(np.zeros(4), np.array([[1], [2]]), np.ones(3)),
                 f"{name}: updates f64[3] should have the shape [2]"),
            ),
        ),
        doc=f"""`tensor` with {what} at the index tuples in the last axis of `indices`.

    An index out of range raises IndexOutOfRange.

    >>> import graphgrad as gg
    >>> gg.{name}([5, 5, 5], [[0], [2], [2]], [1, 7, 9]).numpy()
    array({result}, dtype=int32)
    """,
    )  # fmt: skip


tensor_scatter_nd_update = _tensor_scatter(
    "update", "`updates` put (the last one, where several name a place)", "[1, 5, 9]"
)
tensor_scatter_nd_add = _tensor_scatter("add", "all `updates` added", "[ 6,  5, 21]")
tensor_scatter_nd_sub = _tensor_scatter("sub", "all `updates` subtracted", "[  4,   5, -11]")
tensor_scatter_nd_max = _tensor_scatter(
    "max", "the greatest of `updates` and of itself", "[5, 5, 9]"
)
tensor_scatter_nd_min = _tensor_scatter("min", "the least of `updates` and of itself", "[1, 5, 5]")
