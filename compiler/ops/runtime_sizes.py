"""Results whose size depends on values: `where(condition)`, boolean_mask, unique, and repeats.

Outside of traces the size is at hand. In a trace it is a *run-time size* (`transform/sizes.py`), a
symbol of its own: the attribute `size` of the op that finds it out. What follows may use it in
shapes; the run checks what the trace assumed of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Dim, Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError, TraceError
from graphgrad.compiler.families import Library
from graphgrad.compiler.op import Attrs, Samples, current_kind, located, ops, state
from graphgrad.compiler.ops.index import check_integer
from graphgrad.compiler.ops.shapes import known_or_none
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.sizes import runtime_size
from graphgrad.compiler.types import TensorType, normalize_axis, same_shape, show_shape, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]


def _size_of(name: str, x: Any, count: Callable[[Array], Any]) -> Extent:
    """A size that `count` finds in the value of `x`, where it has one."""
    array = getattr(x, "array", None)
    if array is not None:
        return int(count(array))
    number = sum(isinstance(n.attrs.get("size"), Dim) for n in x.builder.nodes)
    return runtime_size(f"{name}{number}", lambda: state.where or here())


def _no_batch(what: str) -> Any:
    def batch(*args: Any, **attrs: Any) -> Any:
        raise TraceError(
            f"vmap: {what} has as many results as its values decide, which differs from example to "
            "example; keep the size and mark what counts: gg.where(mask, x, 0)"
        )

    return batch


# -- the places where a mask holds


def _bind_nonzero(condition: Any) -> Bound:
    x = current_kind().lift(condition)
    return (x,), {"size": _size_of("found", x, np.count_nonzero)}


def _nonzero_cases(rng: np.random.Generator, dtype: Any) -> Any:
    """In traces, where oracles see the attributes that users give."""
    for shape in ((5,), (2, 3), (), (0, 2)):
        yield (rng.random(shape) < 0.6,), {}


nonzero = Library(
    name="nonzero",
    public="",
    takes_complex=True,
    bind=_bind_nonzero,
    type=lambda x, size: tensor_type((size, x.ndim), dtypes.int64),
    ref=lambda x, size: np.argwhere(x),
    nondifferentiable=True,
    batch=_no_batch("gg.where with one argument (and with it boolean_mask, and a mask in a key)"),
    samples=Samples(
        cases=_nonzero_cases,
        dtypes=("bool",),
        oracle=lambda x: [p for p in np.ndindex(*x.shape) if x[p]] or np.zeros((0, x.ndim)),
    ),
    doc="The index tuples of the elements that are not 0, in row-major order: int64[found, axes].",
)


def flat_places(mask: Any) -> Any:
    """Where a mask holds, as places in its row-major order."""
    return ops["nonzero"](mask.reshape((mask.type.size,))).reshape((-1,))


@located
def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Any:
    """x where the bool `condition` holds, else y, element by element; the three broadcast.

    The branch not taken contributes exactly 0 to a derivative, whatever its value. A condition
    alone gives the places where it holds (is not 0), an index tuple a row; in a function their
    number is known at run time only.

    >>> import graphgrad as gg
    >>> gg.where([True, False], 1.0, [2.0, 3.0]).numpy()
    array([1., 3.], dtype=float32)
    >>> gg.where([True, False, True]).numpy()
    array([[0],
           [2]])
    """
    if x is None and y is None:
        return ops["nonzero"](condition)
    return ops["where"](condition, x, y)


@located
def boolean_mask(
    tensor: Any, mask: Any, axis: int | None = None, name: str = "boolean_mask"
) -> Any:
    """The elements of `tensor` where `mask` holds, whose axes are those from `axis` on (0).

    In a function their number is known at run time only; the result may be computed with, and
    `gg.where(mask, tensor, 0)` is the form of fixed size.

    >>> import graphgrad as gg
    >>> gg.boolean_mask([1, 2, 3], [True, False, True]).numpy()
    array([1, 3], dtype=int32)
    """
    kind = current_kind()
    x, m = kind.lift(tensor), kind.lift(mask)
    first = 0 if axis is None else normalize_axis(int(axis), x.ndim, "boolean_mask")
    return masked(x, m, first, "boolean_mask")


def masked(x: Any, mask: Any, first: int, op: str) -> Any:
    """What `mask` picks of the axes of `x` from `first` on."""
    if not mask.dtype.is_bool:
        raise DTypeError(f"{op}: a mask is bool, got {mask.type}")
    covered = x.shape[first : first + mask.ndim]
    if mask.ndim == 0 or not same_shape(covered, mask.shape):
        raise ShapeError(
            f"{op}: the mask {mask.type} does not fit {show_shape(covered)}, the axes of {x.type} "
            f"from {first} on"
        )
    rest = x.shape[first + mask.ndim :]
    flat = x.reshape((*x.shape[:first], mask.type.size, *rest))
    return ops["gather"](flat, flat_places(mask), axis=first)


# -- unique values


def _bind_unique(x: Any, out_idx: Any = dtypes.int32) -> Bound:
    v = current_kind().lift(x)
    if v.ndim != 1:
        raise ShapeError(f"unique: takes a vector, got {v.type}; flatten it first")
    size = _size_of("unique", v, lambda a: len(_unique(a, 0, dtypes.int32)[0]))
    return (v,), {"size": size, "out_idx": dtypes.as_dtype(out_idx)}


def _unique(x: Array, size: Any, out_idx: DType) -> tuple[Array, Array, Array]:
    """In the order in which they come first."""
    keys = x.astype(np.float32) if x.dtype.kind == "V" else x
    _, first, inverse, counts = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    dtype = out_idx.dtype
    return x[first[order]], rank[inverse].astype(dtype), counts[order].astype(dtype)


def _unique_type(x: TensorType, size: Extent, out_idx: DType) -> tuple[TensorType, ...]:
    return (
        tensor_type((size,), x.dtype),
        tensor_type(x.shape, out_idx),
        tensor_type((size,), out_idx),
    )


def _unique_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for n in (6, 1, 0):
        yield (rng.integers(0, 4, n).astype(dtype),), {}


def _unique_oracle(x: Array) -> Any:
    seen = list(dict.fromkeys(x.tolist()))
    index = np.array([seen.index(v) for v in x.tolist()], np.int32)
    return np.array(seen, x.dtype), index, np.array([x.tolist().count(v) for v in seen], np.int32)


counted = Library(
    name="unique_with_counts",
    public="",
    multi=True,
    bind=_bind_unique,
    type=_unique_type,
    ref=_unique,
    nondifferentiable=True,
    batch=_no_batch("gg.unique"),
    samples=Samples(
        cases=_unique_cases,
        dtypes=("int32", "int64", "float32"),
        oracle=_unique_oracle,
        errors=((lambda op: op(np.zeros((2, 2))), "unique: takes a vector, got f64[2, 2]"),),
    ),
    doc="The values of a vector once each, in the order in which they come first; for each element "
    "the index of its value; and how often each value comes.",
)


class Unique(NamedTuple):
    """What `unique` gives."""

    y: Any
    idx: Any


class UniqueWithCounts(NamedTuple):
    """What `unique_with_counts` gives."""

    y: Any
    idx: Any
    count: Any


@located
def unique(x: Any, out_idx: Any = dtypes.int32, name: str | None = None) -> Unique:
    """The values of a vector once each, in the order in which they come first, and for each element
    the index of its value.

    >>> import graphgrad as gg
    >>> y, index = gg.unique([7, 5, 7])
    >>> y.numpy(), index.numpy()
    (array([7, 5], dtype=int32), array([0, 1, 0], dtype=int32))
    """
    return Unique(*ops["unique_with_counts"](x, out_idx)[:2])


@located
def unique_with_counts(
    x: Any, out_idx: Any = dtypes.int32, name: str | None = None
) -> UniqueWithCounts:
    """`unique`, and how often each value comes.

    >>> import graphgrad as gg
    >>> y, index, count = gg.unique_with_counts([7, 5, 7])
    >>> y.numpy(), count.numpy()
    (array([7, 5], dtype=int32), array([2, 1], dtype=int32))
    """
    return UniqueWithCounts(*ops["unique_with_counts"](x, out_idx))


# -- sizes that tensors hold


def _bind_places(count: Any) -> Bound:
    x = current_kind().lift(count)
    return (x,), {"size": _size_of("size", x, lambda a: max(a.max(initial=0), 0))}


def _places_type(count: TensorType, size: Extent) -> TensorType:
    check_integer(count, "a size", "sizes")
    if count.ndim:
        raise ShapeError(f"a size is one integer, got {count}")
    return tensor_type((size,), dtypes.int64)


def _places(count: Array, size: Any) -> Array:
    if count < 0:
        raise places.failure("negative", {}, int(count), 0, 0)
    return np.arange(int(count), dtype=np.int64)


places = Library(
    name="places",
    public="",
    bind=_bind_places,
    type=_places_type,
    ref=_places,
    nondifferentiable=True,
    batch=_no_batch("a size that a tensor holds"),
    failures={"negative": (ShapeError, "a size is not negative, got {a}")},
    samples=Samples(
        cases=lambda rng, dtype: [((np.asarray(n).astype(dtype),), {}) for n in (3, 0)],
        dtypes=("int32", "int64"),
        oracle=lambda count: np.array(list(range(int(count))), np.int64),
        errors=(
            (lambda op: op(np.zeros(2, int)), "a size is one integer, got i64[2]"),
            (lambda op: op(np.int64(-2)), "a size is not negative, got -2"),
        ),
    ),
    doc="0, 1, ... below a number that a tensor holds.",
)


def size_in(x: Any) -> Extent:
    """The number that a 0-d integer tensor holds, as a size."""
    found = known_or_none(x)
    return ops["places"](x).shape[0] if found is None else found  # type: ignore[no-any-return]


def _bind_repeated(repeats: Any) -> Bound:
    x = current_kind().lift(repeats)
    return (x,), {"size": _size_of("repeated", x, lambda a: max(a.sum(), 0))}


def _repeated_type(repeats: TensorType, size: Extent) -> TensorType:
    check_integer(repeats, "repeat", "repeats")
    if repeats.ndim != 1:
        raise ShapeError(f"repeat: repeats are a number or a vector, got {repeats}")
    return tensor_type((size,), dtypes.int64)


def _repeated(repeats: Array, size: Any) -> Array:
    if (repeats < 0).any():
        place = int(np.flatnonzero(repeats < 0)[0])
        raise repeated_places.failure("negative", {}, repeats[place], 0, place)
    return np.repeat(np.arange(len(repeats), dtype=np.int64), repeats.astype(np.int64))


repeated_places = Library(
    name="repeated_places",
    public="",
    bind=_bind_repeated,
    type=_repeated_type,
    ref=_repeated,
    nondifferentiable=True,
    batch=_no_batch("gg.repeat with repeats that are batched"),
    failures={"negative": (ArgumentError, "repeat: repeats are not negative, got {a}")},
    samples=Samples(
        cases=lambda rng, dtype: [((rng.integers(0, 4, n).astype(dtype),), {}) for n in (4, 0)],
        dtypes=("int32", "int64"),
        oracle=lambda repeats: np.array([i for i, n in enumerate(repeats) for _ in range(n)], int),
        errors=(
            (lambda op: op(np.array([1, -2])), "repeat: repeats are not negative, got -2"),
            (lambda op: op(np.ones((2, 2), int)), "repeats are a number or a vector, got i64[2"),
        ),
    ),
    doc="Each place of a vector as often as its element says.",
)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "boolean_mask": boolean_mask,
    "unique": unique,
    "unique_with_counts": unique_with_counts,
    "where": where,
}
