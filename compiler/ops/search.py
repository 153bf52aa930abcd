"""Places by value: searchsorted, and what undoes a permutation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.families import Elementwise, Library
from graphgrad.compiler.op import Attrs, Samples, current_kind, located, ops
from graphgrad.compiler.ops.index import check_integer
from graphgrad.compiler.ops.join import together
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import TensorType, same_shape, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]


def _bind(
    sorted_sequence: Any, values: Any, side: str = "left", out_type: Any = dtypes.int32,
    name: str | None = None,
) -> Bound:  # fmt: skip
    if side not in ("left", "right"):
        raise ArgumentError(f"searchsorted: side is 'left' or 'right', not {side!r}")
    xs = together((sorted_sequence, values), "searchsorted")
    return xs, {"side": side, "out_type": dtypes.as_dtype(out_type)}


def _type(rows: TensorType, values: TensorType, side: str, out_type: DType) -> TensorType:
    if (
        not rows.ndim
        or rows.ndim != values.ndim
        or not same_shape(rows.shape[:-1], values.shape[:-1])
    ):
        raise ShapeError(
            f"searchsorted: the sequences {rows} and values {values} differ before the last axis"
        )
    return tensor_type(values.shape, out_type)


def _searchsorted(rows: Array, values: Array, side: Any, out_type: DType) -> Array:
    if rows.dtype.kind == "V":  # bfloat16
        rows, values = rows.astype(np.float32), values.astype(np.float32)
    if rows.ndim == 1:
        return np.searchsorted(rows, values, side).astype(out_type.dtype)
    z = np.empty(values.shape, out_type.dtype)
    for place in np.ndindex(*rows.shape[:-1]):
        z[place] = np.searchsorted(rows[place], values[place], side)
    return z


def _batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, side: str, out_type: DType
) -> tuple[Any, ...]:
    rows, values = xs
    if batched == (False, True) and rows.ndim == 1:  # one search for all
        flat = ops["searchsorted"](rows, values.reshape((values.type.size,)), side, out_type)
        return (flat.reshape(values.shape),)
    full = [x if b else x.broadcast_to((size, *x.shape)) for x, b in zip(xs, batched, strict=True)]
    return (ops["searchsorted"](*full, side, out_type),)


def _cases(rng: np.random.Generator, dtype: Any) -> Any:
    for lead, n, m in (((), 5, 4), ((2,), 4, 3), ((), 0, 2), ((2, 2), 3, 1)):
        rows = np.sort(rng.integers(0, 6, (*lead, n)), -1).astype(dtype)
        values = rng.integers(-1, 7, (*lead, m)).astype(dtype)
        for side in ("left", "right"):
            yield (rows, values), {"side": side}


def _oracle(rows: Array, values: Array, side: str) -> Array:
    """How many elements come before."""
    left, right = rows[..., None, :], values[..., None]
    return np.asarray((left < right if side == "left" else left <= right).sum(-1))


searchsorted = Library(
    name="searchsorted",
    bind=_bind,
    type=_type,
    ref=_searchsorted,
    nondifferentiable=True,
    batch=_batch,
    samples=Samples(
        cases=_cases,
        dtypes=("float32", "float64", "bfloat16", "int32"),
        oracle=_oracle,
        errors=(
            (lambda op: op(np.zeros((2, 3)), np.zeros((3, 3))),
             "searchsorted: the sequences f64[2, 3] and values f64[3, 3] differ before the last"),
            (lambda op: op(np.zeros(3), np.zeros(3), "middle"), "side is 'left' or 'right'"),
        ),
    ),
    doc="""Where each value goes in a sorted sequence to keep it sorted: before equal elements
    (side left) or behind them (right).

    Axes before the last are common to both: a sequence each.

    >>> import graphgrad as gg
    >>> gg.searchsorted([1, 3, 5], [3, 9]).numpy()
    array([1, 3], dtype=int32)
    """,
)  # fmt: skip


def _check_taken(x: Array) -> Array:
    if (x < 0).any():
        place = int(np.flatnonzero(x < 0)[0])
        raise check_taken.failure("missing", {}, x[place], place, place)
    return x


def _check_taken_scalar(s: Any, x: Any) -> Any:
    wide = s.convert(x, dtypes.int64)
    s.require(s.ge(wide, 0), "missing", wide, wide)
    return x


check_taken = Elementwise(
    name="check_taken",
    public="",
    ref=_check_taken,
    scalar=_check_taken_scalar,
    nondifferentiable=True,
    failures={
        "missing": (
            ArgumentError,
            "invert_permutation: no element is {index}, so another comes twice",
        )
    },
    samples=Samples(
        cases=lambda rng, dtype: [((np.arange(5).astype(dtype),), {})],
        dtypes=("int32", "int64"),
        oracle=lambda x: x,
        errors=((lambda op: op(np.array([1, -1])), "no element is 1, so another comes twice"),),
    ),
    doc="Places, after a check that each has been taken, so that none is negative.",
)


@located
def invert_permutation(x: Any, name: str | None = None) -> Any:
    """The permutation y with y[x[i]] = i.

    IndexOutOfRange for a place that is not there, ArgumentError for one that comes twice.

    >>> import graphgrad as gg
    >>> gg.math.invert_permutation([2, 0, 1]).numpy()
    array([1, 2, 0], dtype=int32)
    """
    v = current_kind().lift(x)
    check_integer(v.type, "invert_permutation", "places")
    if v.ndim != 1:
        raise ShapeError(f"invert_permutation: takes a vector, got {v.type}")
    n = v.shape[0]
    checked = ops["check_index"](v, n, 0, "invert_permutation")
    none = current_kind().lift(-1, v.dtype).cast(v.dtype).broadcast_to((n,))
    places = ops["scatter"](none, ops["iota"](n, v.dtype), checked, mode="update")
    return ops["check_taken"](places)


FUNCTIONS: dict[str, Callable[..., Any]] = {"math.invert_permutation": invert_permutation}
