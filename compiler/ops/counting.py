"""Counting elements by their values: zeros, integers, bins, pairs of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from graphgrad.compiler.families import Composite, Elementwise, Library
from graphgrad.compiler.op import Attrs, Samples, current_kind, located, ops
from graphgrad.compiler.ops.index import check_integer, extent
from graphgrad.compiler.ops.reduce import reduce_samples
from graphgrad.compiler.ops.runtime_sizes import size_in
from graphgrad.compiler.ops.shapes import known
from graphgrad.compiler.ops.special import Array, in_float32
from graphgrad.compiler.types import (
    TensorType,
    element_count,
    normalize_axes,
    normalize_axis,
    reduced_shape,
    same_shape,
    tensor_type,
)

Bound = tuple[tuple[Any, ...], Attrs]

# -- zeros


def _bind_nonzero(
    input: Any, axis: Any = None, keepdims: bool | None = None, dtype: Any = dtypes.int64,
    name: str | None = None,
) -> Bound:  # fmt: skip
    x = current_kind().lift(input)
    axes = normalize_axes(axis, x.ndim, "count_nonzero")
    return (x,), {"axes": axes, "keepdims": bool(keepdims), "dtype": dtypes.as_dtype(dtype)}


def _nonzero(x: Any) -> Any:
    return x if x.dtype.is_bool else x != 0


def _nonzero_oracle(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    axes = normalize_axes(axis, x.ndim, "test")
    ones = np.vectorize(lambda v: 0 if v == 0 else 1, otypes=[int])(x)
    return ones.sum(axis=axes, keepdims=keepdims)


count_nonzero = Composite(
    name="count_nonzero",
    public="math.count_nonzero",
    bind=_bind_nonzero,
    type=lambda x, axes, keepdims, dtype: tensor_type(
        reduced_shape(x.shape, axes, keepdims), dtype
    ),
    ref=lambda x, axes, keepdims, dtype: np.sum(
        x != 0, axis=axes, keepdims=keepdims, dtype=np.int64
    ).astype(dtype.dtype),
    decompose=lambda x, axes, keepdims, dtype: ops["sum"](
        _nonzero(x).cast(dtypes.int64), axes, keepdims
    ).cast(dtype),
    nondifferentiable=True,
    samples=reduce_samples(_nonzero_oracle, ("float32", "bfloat16", "int32", "bool")),
    doc="""How many elements over `axis` (an axis, several, or None for all) are not 0; NaN is not.

    >>> import graphgrad as gg
    >>> gg.math.count_nonzero([[0.0, 2.0], [3.0, 4.0]], axis=1).numpy()
    array([1, 2])
    """,
)


# -- check_class: integers that name one of so many


def _check_class(x: Array, size: int, what: str) -> Array:
    outside = (x < 0) | (x >= size)
    if outside.any():
        place = int(np.flatnonzero(outside)[0])
        raise check_class.failure("class", {"what": what}, x.flat[place], size, place)
    return x


def _check_class_scalar(s: Any, x: Any, size: Extent, what: str) -> Any:
    wide, limit = s.convert(x, dtypes.int64), extent(s, size)
    s.require(s.and_(s.ge(wide, 0), s.lt(wide, limit)), "class", wide, limit)
    return x


check_class = Elementwise(
    name="check_class",
    public="",
    inputs="any",
    bind=lambda x, size, what: ((x,), {"size": size, "what": what}),
    ref=_check_class,
    scalar=_check_class_scalar,
    nondifferentiable=True,
    failures={"class": (IndexOutOfRange, "{what} {a} is out of range for {b} classes")},
    samples=Samples(
        cases=lambda rng, dtype: [
            ((rng.integers(0, 9, (2, 3)).astype(dtype),), {"size": 9, "what": "test: class"})
        ],
        dtypes=("int32", "int64", "uint8"),
        oracle=lambda x, size, what: x,
        errors=(
            (lambda op: op(np.array([1, 9]), 9, "test: class"),
             "test: class 9 is out of range for 9 classes"),
        ),
    ),
    doc="The elements, after a check that each is one of `size` classes.",
)  # fmt: skip

# -- bincount: rows of integers into rows of counts, or of sums of weights


def _counts_type(arr: TensorType, *weights: TensorType, size: Extent, dtype: DType) -> TensorType:
    check_integer(arr, "bincount", "the elements")
    for w in weights:
        if not same_shape(w.shape, arr.shape):
            raise ShapeError(f"bincount: weights {w} should have the shape of {arr}")
    return tensor_type((arr.shape[0], size), weights[0].dtype if weights else dtype)


def _counts(arr: Array, *weights: Array, size: int, dtype: DType) -> Array:
    if arr.size and arr.min() < 0:
        place = int(np.flatnonzero(arr < 0)[0])
        raise counts.failure("negative", {}, arr.flat[place], size, place)
    flat, given, bins = arr.ravel(), [w.ravel() for w in weights], arr.shape[0] * size
    if arr.shape[0] > 1:
        flat = (arr + np.arange(arr.shape[0])[:, None] * size).ravel()
    if arr.size and arr.max() >= size:
        inside = arr.ravel() < size
        flat, given = flat[inside], [w[inside] for w in given]
    if not given:
        found = np.bincount(flat, minlength=bins)
    elif given[0].dtype.kind == "f":  # summed in float64
        found = np.bincount(flat, given[0], minlength=bins)
    else:
        found = np.zeros(bins, given[0].dtype)
        np.add.at(found, flat, given[0])
    kind = weights[0].dtype if weights else dtype.dtype
    return found.reshape(arr.shape[0], size).astype(kind, copy=False)


def _weights_of(g: Any, arr: Any, size: Extent) -> Any:
    """The element of `g` that each weight was added to, 0 for those left out."""
    inside = arr < size
    picked = ops["gather"](g, ops["where"](inside, arr, 0), batch_dims=1)
    return ops["where"](inside, picked, 0)


def _counts_vjp(
    g: Any, z: Any, arr: Any, *weights: Any, needs: tuple[bool, ...], size: Extent, dtype: DType
) -> tuple[Any, ...]:
    if not weights:
        return (None,)
    if isinstance(size, int) and size == 0:
        return None, None
    return None, _weights_of(g, arr, size)


def _counts_jvp(
    ts: tuple[Any, ...], z: Any, arr: Any, *weights: Any, size: Extent, dtype: DType
) -> Any:
    if not weights or ts[1] is None:
        return None
    return ops["bincount"](arr, ts[1], size=size, dtype=dtype)


def _counts_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], lanes: Extent, size: Extent, dtype: DType
) -> tuple[Any, ...]:
    full = [x if b else x.broadcast_to((lanes, *x.shape)) for x, b in zip(xs, batched, strict=True)]
    rows, n = full[0].shape[1:]
    flat = [x.reshape((lanes * rows, n)) for x in full]
    return (ops["bincount"](*flat, size=size, dtype=dtype).reshape((lanes, rows, size)),)


def _counts_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, size in (((2, 7), 5), ((1, 4), 9), ((1, 0), 3), ((3, 2), 2)):
        arr = rng.integers(0, 5, shape, dtype=np.int32)  # some beyond the size
        yield (arr,), {"size": size, "dtype": dtypes.int64}
        weights = rng.integers(-9, 9, shape).astype(dtype)
        yield (arr, weights), {"size": size, "dtype": dtypes.int64}


def _counts_oracle(arr: Array, *weights: Array, size: int, dtype: DType) -> Array:
    found = np.zeros((arr.shape[0], size), weights[0].dtype if weights else np.int64)
    for place in np.ndindex(*arr.shape):
        if arr[place] < size:
            found[place[0], arr[place]] += weights[0][place] if weights else 1
    return found


counts = Library(
    name="bincount",
    public="",
    bind=lambda arr, *weights, size, dtype: (
        (arr, *weights),
        {"size": size, "dtype": dtypes.as_dtype(dtype)},
    ),
    type=_counts_type,
    ref=in_float32(_counts),
    vjp=_counts_vjp,
    jvp=_counts_jvp,
    batch=_counts_batch,
    failures={"negative": (IndexOutOfRange, "bincount: {a} is negative")},
    samples=Samples(
        cases=_counts_cases,
        dtypes=("float32", "float64", "bfloat16", "int32"),
        oracle=_counts_oracle,
        errors=(
            (lambda op: op(np.array([[1, -1]]), size=3, dtype=dtypes.int32),
             "bincount: -1 is negative"),
            (lambda op: op(np.array([[1, 1]]), np.ones((1, 3)), size=3, dtype=dtypes.int32),
             "weights f64[1, 3] should have the shape of i64[1, 2]"),
            (lambda op: op(np.array([[1.0]]), size=3, dtype=dtypes.int32),
             "bincount: the elements are integers, got f64[1, 1]"),
        ),
    ),
    doc="How often each integer below `size` stands in each row, or the sums of their weights.",
)  # fmt: skip


def _greatest(x: Any) -> Any:
    """The greatest element, or -1 where there is none or all are negative."""
    if x.type.size == 0:
        return current_kind().lift(-1)
    return ops["maximum"](ops["max"](x), -1).cast(dtypes.int64)


def _length(x: Any, minlength: Any, maxlength: Any) -> Extent:
    least, most = (known(v) if isinstance(v, Arith) else v for v in (minlength, maxlength))
    if least is not None and least == most:
        return least  # type: ignore[no-any-return]
    n = _greatest(x) + 1
    if least is not None:
        n = ops["maximum"](n, least)
    return size_in(n if most is None else ops["minimum"](n, most))


@located
def bincount(
    arr: Any, weights: Any = None, minlength: Any = None, maxlength: Any = None,
    dtype: Any = dtypes.int32, name: str | None = None, axis: int | None = None,
    binary_output: bool = False,
) -> Any:  # fmt: skip
    """How often each integer 0, 1, ... occurs, or the sums of the `weights` at its places.

    The result goes up to the greatest element, but has at least `minlength` and at most `maxlength`
    entries; integers beyond are left out. In a function its size is known at run time only, unless
    both are given and are equal. Axes before `axis` are kept, the others counted together; None
    counts all. `binary_output` gives 1 for what occurs. A negative element raises IndexOutOfRange.

    >>> import graphgrad as gg
    >>> gg.math.bincount([1, 1, 3]).numpy()
    array([0, 2, 0, 1], dtype=int32)
    >>> gg.math.bincount([1, 1, 3], weights=[0.5, 1.0, 2.0]).numpy()
    array([0. , 1.5, 0. , 2. ], dtype=float32)
    """
    x = current_kind().lift(arr)
    check_integer(x.type, "bincount", "the elements")
    lead = 0 if axis is None else normalize_axis(int(axis), x.ndim, "bincount")
    kept = x.shape[:lead]
    flat = (element_count(kept), element_count(x.shape[lead:]))
    size = _length(x, minlength, maxlength)
    given = [x.reshape(flat)]
    if weights is not None:
        if binary_output:
            raise ArgumentError("bincount: weights and binary_output exclude each other")
        w = current_kind().lift(weights)
        if not same_shape(w.shape, x.shape):
            raise ShapeError(f"bincount: weights {w.type} should have the shape of {x.type}")
        given.append(w.reshape(flat))
    z = ops["bincount"](*given, size=size, dtype=dtypes.as_dtype(dtype))
    if binary_output:
        z = ops["minimum"](z, 1)
    return z.reshape((*kept, size))


# -- histograms


def _bins(values: Any, value_range: Any, nbins: int, op: str) -> tuple[Any, Any]:
    """The values as floats, and the bin of each: those beyond the range are in the outer ones."""
    kind = current_kind()
    x = kind.lift(values)
    if x.dtype.is_bool:
        raise DTypeError(f"{op}: takes numbers, got {x.type}; cast first")
    if nbins < 1:
        raise ArgumentError(f"{op}: nbins is {nbins}, and at least one bin is needed")
    x = x if x.dtype.is_floating else x.cast(dtypes.float64)
    ends = kind.lift(value_range, x.dtype).cast(x.dtype)
    if not same_shape(ends.shape, (2,)):
        raise ShapeError(f"{op}: value_range is [low, high], got {ends.type}")
    if isinstance(value_range, list | tuple) and not any(isinstance(v, Arith) for v in value_range):
        low, high = value_range
        if not low < high:
            raise ArgumentError(
                f"{op}: value_range is [low, high] with low < high, got {[low, high]}"
            )
    low, high = (ops["slice"](ends, (i,), (1,)).reshape(()) for i in (0, 1))
    place = ops["floor"]((x - low) / (high - low) * nbins)
    inside = ops["minimum"](ops["maximum"](place, 0), nbins - 1)
    return x, inside.cast(dtypes.int32)


@located
def histogram_fixed_width_bins(
    values: Any, value_range: Any, nbins: int = 100, dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Any:  # fmt: skip
    """Which of `nbins` equal parts of `value_range` each value lies in; those below are in the
    first, those above in the last.

    >>> import graphgrad as gg
    >>> gg.histogram_fixed_width_bins([-1.0, 0.0, 1.5, 2.0, 5.0, 15.0], [0.0, 5.0], 5).numpy()
    array([0, 0, 1, 2, 4, 4], dtype=int32)
    """
    _, found = _bins(values, value_range, nbins, "histogram_fixed_width_bins")
    return found.cast(dtypes.as_dtype(dtype))


@located
def histogram_fixed_width(
    values: Any, value_range: Any, nbins: int = 100, dtype: Any = dtypes.int32,
    name: str | None = None,
) -> Any:  # fmt: skip
    """How many values lie in each of `nbins` equal parts of `value_range`; those below count for
    the first, those above for the last, and NaN for none.

    >>> import graphgrad as gg
    >>> gg.histogram_fixed_width([-1.0, 0.0, 1.5, 2.0, 5.0, 15.0], [0.0, 5.0], nbins=5).numpy()
    array([2, 1, 1, 0, 2], dtype=int32)
    """
    x, found = _bins(values, value_range, nbins, "histogram_fixed_width")
    found = ops["where"](ops["isnan"](x), nbins, found).reshape((1, x.type.size))
    return ops["bincount"](found, size=nbins, dtype=dtypes.as_dtype(dtype)).reshape((nbins,))


@located
def confusion_matrix(
    labels: Any, predictions: Any, num_classes: Any = None, weights: Any = None,
    dtype: Any = dtypes.int32, name: str | None = None,
) -> Any:  # fmt: skip
    """How often each label (row) was predicted as each class (column), or the sums of `weights`.

    Without `num_classes` there are as many as the greatest class needs; in a function their number
    is then known at run time only. A class out of range raises IndexOutOfRange.

    >>> import graphgrad as gg
    >>> gg.math.confusion_matrix([0, 1, 1], [0, 1, 0]).numpy()
    array([[1, 0],
           [1, 1]], dtype=int32)
    """
    kind = current_kind()
    rows, columns = kind.lift(labels), kind.lift(predictions)
    for x, what in ((rows, "labels"), (columns, "predictions")):
        check_integer(x.type, "confusion_matrix", what)
    if not same_shape(rows.shape, columns.shape):
        raise ShapeError(
            f"confusion_matrix: labels {rows.type} and predictions {columns.type} have different "
            "shapes"
        )
    if num_classes is None:
        n = size_in(ops["maximum"](_greatest(rows), _greatest(columns)) + 1)
    else:
        n = known(num_classes) if isinstance(num_classes, Arith) else num_classes
    row, column = (
        ops["check_class"](x.cast(dtypes.int64), n, f"confusion_matrix: {what}")
        for x, what in ((rows, "label"), (columns, "prediction"))
    )
    dtype = dtypes.as_dtype(dtype)
    given = [(row * n + column).reshape((1, rows.type.size))]
    if weights is not None:
        w = kind.lift(weights).cast(dtype)
        given.append(w.broadcast_to(rows.shape).reshape(given[0].shape))
    return ops["bincount"](*given, size=n * n, dtype=dtype).reshape((n, n))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "math.bincount": bincount,
    "math.confusion_matrix": confusion_matrix,
    "histogram_fixed_width": histogram_fixed_width,
    "histogram_fixed_width_bins": histogram_fixed_width_bins,
}
