"""The greatest elements of rows, and whether one is among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Extent, at_least, shown
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.families import Composite, Library
from graphgrad.compiler.op import Attrs, Samples, current_kind, located, ops
from graphgrad.compiler.ops.index import check_integer, places_along
from graphgrad.compiler.ops.shapes import known
from graphgrad.compiler.ops.sorting import DTYPES, PACKED, along, comparable, order_oracle, ranking
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import TensorType, same_shape, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]


def _bind_top(
    input: Any, k: Any = 1, sorted: bool = True, index_type: Any = dtypes.int32,
    name: str | None = None,
) -> Bound:  # fmt: skip
    count = known(k) if isinstance(k, Arith) else k
    return (current_kind().lift(input),), {"k": count, "index_type": dtypes.as_dtype(index_type)}


def _top_type(x: TensorType, k: Extent, index_type: DType) -> tuple[TensorType, TensorType]:
    if x.ndim == 0:
        raise ShapeError(f"top_k: takes tensors of one axis or more, got {x}")
    if not at_least(x.shape[-1], k) or not at_least(k, 0):
        raise ArgumentError(
            f"top_k: k is {shown(k)}, and the last axis of {x} has {shown(x.shape[-1])} elements"
        )
    if not index_type.is_integer:
        raise DTypeError(f"top_k: index_type is an integer type, not {index_type.name}")
    shape = (*x.shape[:-1], k)
    return tensor_type(shape, x.dtype), tensor_type(shape, index_type)


def _top(x: Array, k: int, index_type: DType) -> tuple[Array, Array]:
    places = None
    if 0 < k < x.shape[-1] and x.size >= PACKED:
        places = _by_threshold(comparable(x), k)
    if places is None:
        places = ranking(x, True)[..., :k]
    return np.take_along_axis(x, places, -1), places.astype(index_type.dtype)


def _by_threshold(x: Array, k: int) -> Array | None:
    """All that are not less than the k-th greatest of their row, in order; None where these are
    more (or fewer, with NaN) than k."""
    n = x.shape[-1]
    rows = x.reshape((-1, n))
    least = np.partition(rows, n - k)[:, n - k, None]
    flat = np.flatnonzero(rows >= least)
    if flat.size != len(rows) * k:
        return None
    places = flat.reshape((-1, k)) - np.arange(len(rows))[:, None] * n
    if ((places < 0) | (places >= n)).any():
        return None
    order = ranking(np.take_along_axis(rows, places, -1), True)
    return np.take_along_axis(places, order, -1).reshape((*x.shape[:-1], k))


def _top_cases(rng: np.random.Generator, dtype: Any) -> Any:
    kind = np.dtype(dtype).kind
    for shape, k in (((5,), 2), ((3, 4), 4), ((2, 2, 3), 1), ((2, 3), 0), ((2, 600), 3)):
        x = rng.permuted(
            rng.uniform(-9, 9, shape) if kind in "fV" else np.indices(shape).sum(0) % 7
        )
        yield (np.asarray(x).astype(dtype),), {"k": k}
    if kind in "fV":
        edges = np.array([[np.nan, 1, np.inf, 1, -np.inf], [3, np.nan, 2, np.nan, 2]])
        yield (edges.astype(dtype),), {"k": 3, "index_type": dtypes.int64}
        yield (np.tile(edges, (1, 200)).astype(dtype),), {"k": 450}


def _top_oracle(x: Array, k: int, index_type: Any = None) -> tuple[Array, Array]:
    places = order_oracle(x, x.ndim - 1, "DESCENDING")[..., :k]
    return np.take_along_axis(x, places, -1), places


largest = Library(
    name="top_k",
    public="",
    multi=True,
    bind=_bind_top,
    type=_top_type,
    ref=_top,
    vjp=lambda g, z, x, needs, k, index_type: (
        ops["put_along"](g[0], z[1], axis=x.ndim - 1, size=x.shape[-1]),
    ),
    jvp=lambda ts, z, x, k, index_type: (along(ts[0], z[1], x.ndim - 1), None),
    batch=lambda xs, batched, lanes, k, index_type: ops["top_k"](xs[0], k, index_type=index_type),
    samples=Samples(
        cases=_top_cases,
        dtypes=DTYPES,
        oracle=_top_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros((2, 5)), 6),
             "top_k: k is 6, and the last axis of f64[2, 5] has 5 elements"),
            (lambda op: op(np.zeros(()), 1), "tensors of one axis or more, got f64[]"),
        ),
    ),
    doc="The k greatest elements of each row of the last axis, and their places.",
)  # fmt: skip


class TopK(NamedTuple):
    """The greatest elements of each row, and their places."""

    values: Any
    indices: Any


@located
def top_k(
    input: Any, k: Any = 1, sorted: bool = True, index_type: Any = dtypes.int32,
    name: str | None = None,
) -> TopK:  # fmt: skip
    """The `k` greatest elements of each row of the last axis, the greatest first, and their places.

    Among equal elements the first comes first, and NaN is greatest. The order is this also without
    `sorted`.

    >>> import graphgrad as gg
    >>> values, indices = gg.math.top_k([1.0, 4.0, 2.0, 4.0], k=2)
    >>> values.numpy(), indices.numpy()
    (array([4., 4.], dtype=float32), array([1, 3], dtype=int32))
    """
    return TopK(*ops["top_k"](input, k, sorted, index_type))


# -- in_top_k


def _bind_in_top(targets: Any, predictions: Any, k: Any, name: str | None = None) -> Bound:
    kind = current_kind()
    count = known(k) if isinstance(k, Arith) else k
    return (kind.lift(targets), kind.lift(predictions)), {"k": int(count)}


def _in_top_type(targets: TensorType, predictions: TensorType, k: int) -> TensorType:
    check_integer(targets, "in_top_k", "targets")
    if not predictions.dtype.is_floating:
        raise DTypeError(f"in_top_k: predictions are floats, got {predictions}")
    if predictions.ndim != 2 or not same_shape(targets.shape, predictions.shape[:1]):
        raise ShapeError(
            f"in_top_k: takes predictions [rows, classes] and one target a row, got {predictions} "
            f"and {targets}"
        )
    return tensor_type(targets.shape, dtypes.bool_)


def _in_top(targets: Array, predictions: Array, k: int) -> Array:
    rows, classes = predictions.shape
    inside = (targets >= 0) & (targets < classes)
    if not classes:
        return np.zeros(rows, np.bool_)
    own = predictions[np.arange(rows), np.where(inside, targets, 0)]
    above = (predictions > own[:, None]).sum(1)
    return np.asarray(inside & np.isfinite(predictions).all(1) & (above < k))


def _in_top_parts(targets: Any, predictions: Any, k: int) -> Any:
    wide = dtypes.int32 if targets.dtype.bits < 32 else targets.dtype
    hit = targets.cast(wide).reshape((*targets.shape, 1)) == places_along(
        predictions.shape[1], 1, 2, wide
    )
    own = ops["sum"](ops["where"](hit, predictions, 0), (1,), True)
    above = ops["sum"]((predictions > own).cast(dtypes.int32), (1,))
    sure = ops["all"](ops["isfinite"](predictions), (1,)) & ops["any"](hit, (1,))
    return sure & (above < k)


def _in_top_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for k in (1, 2, 9):
        targets = rng.integers(-1, 6, 6, dtype=np.int32)
        yield (targets, rng.integers(0, 4, (6, 5)).astype(dtype)), {"k": k}
    edges = np.array([[np.nan, 2, 1], [0, np.inf, 1], [5, 5, 5], [1, -np.inf, 0]]).astype(dtype)
    yield (np.array([1, 1, 2, 0]), edges), {"k": 2}


def _in_top_oracle(targets: Array, predictions: Array, k: int) -> Array:
    found = []
    for t, row in zip(targets, predictions, strict=True):
        good = 0 <= t < len(row) and all(np.isfinite(row))
        found.append(good and sum(v > row[t] for v in row) < k)
    return np.array(found)


in_top_k = Composite(
    name="in_top_k",
    public=("math.in_top_k", "nn.in_top_k"),
    bind=_bind_in_top,
    type=_in_top_type,
    ref=_in_top,
    decompose=_in_top_parts,
    nondifferentiable=True,
    samples=Samples(
        cases=_in_top_cases,
        dtypes=("float32", "float64", "bfloat16"),
        oracle=_in_top_oracle,
        errors=(
            (lambda op: op(np.array([1, 2]), np.zeros((3, 2)), 1),
             "one target a row, got f64[3, 2] and i64[2]"),
        ),
    ),
    doc="""Whether fewer than `k` predictions of its row are greater than that of each target.

    False for a target out of range, and where a prediction of the row is not finite.

    >>> import graphgrad as gg
    >>> gg.math.in_top_k([1, 2], [[0.1, 0.5, 0.4], [0.6, 0.3, 0.1]], k=2).numpy()
    array([ True, False])
    """,
)  # fmt: skip

FUNCTIONS: dict[str, Callable[..., Any]] = {"math.top_k": top_k, "nn.top_k": top_k}
