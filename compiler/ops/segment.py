"""Sums and other folds over segments: the rows that have the same number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Extent, at_least, shown
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.families import Composite, Elementwise, Library
from graphgrad.compiler.op import Attrs, Op, Samples, current_kind, located, ops
from graphgrad.compiler.ops.index import check_integer
from graphgrad.compiler.ops.indexing import index
from graphgrad.compiler.ops.runtime_sizes import size_in
from graphgrad.compiler.ops.special import Array, carried
from graphgrad.compiler.types import TensorType, element_count, same_shape, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]
FLOATS = ("float32", "float64", "bfloat16")
INEXACT = (*FLOATS, "complex64")
DTYPES = (*INEXACT, "int32")
REALS = (*FLOATS, "int32")


def _bind(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Bound:
    n = size_in(num_segments) if isinstance(num_segments, Arith) else num_segments
    return (data, segment_ids), {"num_segments": n if not isinstance(n, np.generic) else int(n)}


def _typer(op: str, floating: bool) -> Callable[..., TensorType]:
    def infer(x: TensorType, ids: TensorType, num_segments: Extent) -> TensorType:
        check_integer(ids, op, "segment ids")
        if x.dtype.is_bool or (floating and not x.dtype.is_inexact):
            raise DTypeError(f"{op}: takes {'floats' if floating else 'numbers'}, got {x}")
        if not same_shape(x.shape[: ids.ndim], ids.shape):
            raise ShapeError(f"{op}: the segment ids {ids} do not fit the first axes of {x}")
        if not at_least(num_segments, 0):
            raise ArgumentError(f"{op}: num_segments is not negative, got {shown(num_segments)}")
        return tensor_type((num_segments, *x.shape[ids.ndim :]), x.dtype)

    return infer


def _flat(x: Any, ids: Any, num_segments: Extent, op: str, neutral: Any) -> tuple[Any, Any]:
    """Rows and their segments; rows of a negative segment count as `neutral` ones of segment 0."""
    count = element_count(ids.shape)
    rows = x.reshape((count, *x.shape[ids.ndim :]))
    ids = ids.reshape((count,)).cast(dtypes.int64)
    dropped = ids < 0
    column = dropped.reshape((count, *(1,) * (rows.ndim - 1)))
    rows = ops["where"](column, rows.dtype.dtype.type(neutral), rows)
    checked = ops["check_index"](ops["where"](dropped, 0, ids), num_segments, 0, op)
    return rows, checked


def _count(ids: Any, num_segments: Extent, rank: int) -> Any:
    """How many rows each segment has, at least 1, to divide rows of `rank` axes by."""
    flat = ids.reshape((ids.type.size,)).cast(dtypes.int64)
    one = (flat >= 0).cast(dtypes.int64)
    total = ops["scatter_add"](one, ops["where"](flat < 0, 0, flat), shape=(num_segments,))
    return ops["maximum"](total, 1).reshape((num_segments, *(1,) * (rank - ids.ndim)))


def _sum_parts(x: Any, ids: Any, num_segments: Extent, op: str = "unsorted_segment_sum") -> Any:
    shape = (num_segments, *x.shape[ids.ndim :])
    if _is_empty(num_segments):
        return current_kind().lift(0, x.dtype).cast(x.dtype).broadcast_to(shape)
    rows, flat = _flat(x, ids, num_segments, op, 0)
    return ops["scatter_add"](rows, flat, shape=shape)


def _is_empty(n: Extent) -> bool:
    return isinstance(n, int) and n == 0


def _mean_parts(x: Any, ids: Any, num_segments: Extent) -> Any:
    wide = carried(x)
    total = _sum_parts(wide, ids, num_segments, "unsorted_segment_mean")
    if _is_empty(num_segments):
        return total.cast(x.dtype)
    return (total / _count(ids, num_segments, x.ndim).cast(wide.dtype)).cast(x.dtype)


def _sqrt_n_parts(x: Any, ids: Any, num_segments: Extent) -> Any:
    wide = carried(x)
    total = _sum_parts(wide, ids, num_segments, "unsorted_segment_sqrt_n")
    if _is_empty(num_segments):
        return total.cast(x.dtype)
    root = ops["sqrt"](_count(ids, num_segments, x.ndim).cast(dtypes.float64))
    return (total / root.cast(wide.dtype)).cast(x.dtype)


def _limit(dtype: Any, mode: str) -> Any:
    """What the greatest (least) of nothing is: the least (greatest) finite value."""
    return dtype.min if mode == "max" else dtype.max


def _extreme_parts(mode: str) -> Callable[..., Any]:
    def parts(x: Any, ids: Any, num_segments: Extent) -> Any:
        bound = current_kind().lift(x.dtype.dtype.type(_limit(x.dtype, mode)))
        base = bound.broadcast_to((num_segments, *x.shape[ids.ndim :]))
        if _is_empty(num_segments):
            return base
        rows, flat = _flat(x, ids, num_segments, f"unsorted_segment_{mode}", _limit(x.dtype, mode))
        return ops["scatter"](base, rows, flat, mode)

    return parts


def _prod_parts(x: Any, ids: Any, num_segments: Extent) -> Any:
    """A running product over the rows in the order of their segments, which begins anew with each;
    the last one of a segment is its product. So there is no division, and zeros do no harm."""
    wide = carried(x)
    one = current_kind().lift(1, wide.dtype).cast(wide.dtype)
    shape = (num_segments, *x.shape[ids.ndim :])
    n = element_count(ids.shape)
    if _is_empty(num_segments) or _is_empty(n):
        return one.broadcast_to(shape).cast(x.dtype)
    rows, flat = _flat(wide, ids, num_segments, "unsorted_segment_prod", 1)
    order = ops["stable_order"](flat)
    rows, flat = ops["gather"](rows, order), ops["gather"](flat, order)
    shifted = ops["concat"]([flat.reshape((n,)), current_kind().lift([-1], dtypes.int64)], 0)
    before = ops["concat"]([current_kind().lift([-1], dtypes.int64), flat], 0)
    first = _column(index(before, np.s_[:-1]) != flat, rows)
    last = index(shifted, np.s_[1:]) != flat
    running = ops["linear_recurrence"](
        ops["where"](first, 0, rows), ops["where"](first, rows, 0), axis=0
    )
    ends = ops["where"](_column(last, rows), running, 0)
    total = ops["scatter_add"](ends, flat, shape=shape)
    some = ops["scatter_add"](last.cast(dtypes.int32), flat, shape=(num_segments,))
    return ops["where"](_column(some > 0, total), total, one).cast(x.dtype)


def _column(flags: Any, rows: Any) -> Any:
    return flags.reshape((*flags.shape, *(1,) * (rows.ndim - 1)))


stable_order = Library(
    name="stable_order",
    public="",
    bind=lambda x: ((x,), {}),
    type=lambda x: tensor_type(x.shape, dtypes.int64),
    ref=lambda x: np.argsort(x, -1, kind="stable"),
    nondifferentiable=True,
    batch=lambda xs, batched, size: (ops["stable_order"](xs[0]),),
    samples=Samples(
        cases=lambda rng, dtype: [
            ((rng.integers(0, 3, shape).astype(dtype),), {}) for shape in ((6,), (2, 5), (0,))
        ],
        dtypes=("int64", "int32"),
        oracle=lambda x: np.array(
            [sorted(range(x.shape[-1]), key=row.__getitem__) for row in x.reshape(-1, x.shape[-1])]
            if x.size
            else []
        ).reshape(x.shape),
    ),
    doc="The places of the elements of the last axis in ascending order, equal ones as they come.",
)


def _ref(mode: str, op: str) -> Callable[..., Array]:
    def ref(x: Array, ids: Array, num_segments: int) -> Array:
        flat = ids.reshape(-1)
        rows = x.reshape((flat.size, *x.shape[ids.ndim :]))
        if (flat < 0).any():
            rows, flat = rows[flat >= 0], flat[flat >= 0]
        ops["check_index"].ref(flat, num_segments, 0, op)
        wide = rows.astype(np.float32) if rows.dtype.itemsize == 2 else rows
        shape = (num_segments, *rows.shape[1:])
        if mode in ("max", "min"):
            z = np.full(shape, _limit(dtypes.as_dtype(x.dtype), mode), wide.dtype)
            (np.maximum if mode == "max" else np.minimum).at(z, flat, wide)
        elif mode == "prod":
            z = np.ones(shape, wide.dtype)
            np.multiply.at(z, flat, wide)
        else:
            z = ops["scatter_add"].ref(wide, flat, shape=shape, axis=0, batch_dims=0)
            count = np.maximum(np.bincount(flat, minlength=num_segments), 1).astype(wide.dtype)
            count = count.reshape((-1, *(1,) * (z.ndim - 1)))
            if mode != "sum":
                z = z / (count if mode == "mean" else np.sqrt(count))
        return np.asarray(z).astype(x.dtype, copy=False)

    return ref


SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...], int], ...] = (
    ((6,), (6,), 4), ((5, 2), (5,), 3), ((2, 3), (2, 3), 3), ((0, 2), (0,), 2),
)  # fmt: skip


def _cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, picked, n in SHAPES:
        ids = rng.integers(-1, n, picked)
        x = (rng.permutation(int(np.prod(shape))) - 2).reshape(shape).astype(dtype)
        yield (x, ids), {"num_segments": n}


def _oracle(mode: str) -> Callable[..., Array]:
    def oracle(x: Array, ids: Array, num_segments: int) -> Array:
        rest = x.shape[ids.ndim :]
        rows, flat = x.reshape((ids.size, *rest)), ids.reshape(-1)
        info = np.iinfo(x.dtype) if x.dtype.kind == "i" else None
        z = np.empty((num_segments, *rest), x.dtype)
        for k in range(num_segments):
            own = rows[flat == k]
            if mode in ("max", "min"):
                if not len(own):
                    z[k] = (
                        np.nan if info is None else getattr(info, "min" if mode == "max" else "max")
                    )
                else:
                    z[k] = own.max(0) if mode == "max" else own.min(0)
            elif mode == "prod":
                z[k] = own.prod(0)
            else:
                power = {"sum": 0.0, "mean": 1.0, "sqrt_n": 0.5}[mode]
                z[k] = own.sum(0) / x.dtype.type(max(len(own), 1) ** power)
        return z

    return oracle


def _full_cases(rng: np.random.Generator, dtype: Any) -> Any:
    """Without empty segments: what the greatest of nothing is depends on the dtype."""
    for (x, ids), attrs in _cases(rng, dtype):
        if ids.size:
            n = attrs["num_segments"]
            ids.reshape(-1)[:n] = np.arange(n)
            yield (x, ids), attrs


def _unsorted(mode: str, what: str, result: str, parts: Callable[..., Any], floating: bool) -> Op:
    name = f"unsorted_segment_{mode}"
    extreme = mode in ("max", "min")
    return Composite(
        name=name,
        public=(f"math.{name}",),
        takes_complex=not extreme,
        bind=_bind,
        type=_typer(name, floating),
        ref=_ref(mode, name),
        decompose=parts,
        raises=True,
        samples=Samples(
            cases=_full_cases if extreme else _cases,
            dtypes=REALS if extreme else INEXACT if floating else DTYPES,
            oracle=_oracle(mode),
            ulp=0.0 if extreme else 2.0,
            errors=(
                (lambda op: op(np.zeros(3), np.array([0, 1, 7]), 4),
                 f"{name}: index 7 is out of range for axis 0 with size 4"),
                (lambda op: op(np.zeros(3), np.array([0, 1]), 4),
                 f"{name}: the segment ids i64[2] do not fit the first axes of f64[3]"),
                (lambda op: op(np.zeros(3, bool), np.array([0, 1, 1]), 4), f"{name}: takes "),
            ),
        ),
        doc=f"""{what} of the rows of each of `num_segments` segments.

    `segment_ids` has the shape of the first axes of `data`; rows of a negative segment are left
    out.

    >>> import graphgrad as gg
    >>> gg.math.{name}([1.0, 2.0, 4.0], [1, 0, 1], 2).numpy()
    array({result}, dtype=float32)
    """,
    )  # fmt: skip


unsorted_segment_sum = _unsorted("sum", "The sum", "[2., 5.]", _sum_parts, False)
unsorted_segment_mean = _unsorted("mean", "The mean (0 of none)", "[2. , 2.5]", _mean_parts, True)
unsorted_segment_sqrt_n = _unsorted(
    "sqrt_n", "The sum, divided by the root of the number,", "[2.      , 3.535534]",
    _sqrt_n_parts, True,
)  # fmt: skip
unsorted_segment_max = _unsorted(
    "max",
    "The greatest (of none: the least finite value)",
    "[2., 4.]",
    _extreme_parts("max"),
    False,
)
unsorted_segment_min = _unsorted(
    "min",
    "The least (of none: the greatest finite value)",
    "[2., 1.]",
    _extreme_parts("min"),
    False,
)
unsorted_segment_prod = _unsorted("prod", "The product", "[2., 4.]", _prod_parts, False)

# -- sorted segments: as many as the last number says


def _check_ascending(x: Array, before: Array) -> Array:
    wrong = x < before
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise check_ascending.failure("order", {}, x[place], before[place], place)
    return x


def _check_ascending_scalar(s: Any, x: Any, before: Any) -> Any:
    wide, least = s.convert(x, dtypes.int64), s.convert(before, dtypes.int64)
    s.require(s.ge(wide, least), "order", wide, least)
    return x


check_ascending = Elementwise(
    name="check_ascending",
    public="",
    arity=2,
    ref=_check_ascending,
    scalar=_check_ascending_scalar,
    nondifferentiable=True,
    failures={"order": (ArgumentError, "segment ids are sorted, got {a} after {b}")},
    samples=Samples(
        cases=lambda rng, dtype: [((np.full(5, 3).astype(dtype), np.ones(5).astype(dtype)), {})],
        dtypes=("int32", "int64"),
        oracle=lambda x, before: x,
        errors=((lambda op: op(np.array([1, 2]), np.array([0, 3])), "are sorted, got 2 after 3"),),
    ),
    doc="x, after a check that no element is less than that of `before`.",
)


def _sorted_segments(mode: str, what: str, result: str) -> Callable[..., Any]:
    name = f"segment_{mode}"

    def fold(data: Any, segment_ids: Any, name: str | None = None) -> Any:
        x, ids = current_kind().lift(data), current_kind().lift(segment_ids)
        check_integer(ids.type, f"segment_{mode}", "segment ids")
        if ids.ndim != 1:
            raise ShapeError(f"segment_{mode}: segment ids are a vector, got {ids.type}")
        n = ids.shape[0]
        if _is_empty(n):
            return ops[f"unsorted_segment_{mode}"](x, ids, 0)
        if n != 1:
            first, later = index(ids, np.s_[:1]), index(ids, np.s_[1:])
            later = ops["check_ascending"](later, index(ids, np.s_[:-1]))
            ids = ops["concat"]([first, later], 0)
        count = size_in(index(ids, -1) + 1)
        z = ops[f"unsorted_segment_{mode}"](x, ids, count)
        if mode not in ("max", "min"):
            return z
        some = ops["scatter_add"](ops["iota"](n, dtypes.int32) * 0 + 1, ids, shape=(count,))
        return ops["where"](_column(some > 0, z), z, 0)

    fold.__name__ = fold.__qualname__ = name
    fold.__doc__ = f"""{what} of the rows of each segment; `segment_ids` is sorted.

    There are as many segments as the last number says; those without rows give
    {1 if mode == "prod" else 0}. In a function their number is known at run time only:
    `unsorted_{name}` takes it as an argument.

    >>> import graphgrad as gg
    >>> gg.math.{name}([1.0, 2.0, 4.0], [0, 0, 1]).numpy()
    array({result}, dtype=float32)
    """
    return located(fold)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "math.segment_max": _sorted_segments("max", "The greatest", "[2., 4.]"),
    "math.segment_mean": _sorted_segments("mean", "The mean", "[1.5, 4. ]"),
    "math.segment_min": _sorted_segments("min", "The least", "[1., 4.]"),
    "math.segment_prod": _sorted_segments("prod", "The product", "[2., 4.]"),
    "math.segment_sum": _sorted_segments("sum", "The sum", "[3., 4.]"),
}
