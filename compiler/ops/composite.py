"""Softmax and the losses made of it, written so that forward and backward fuse row by row.

Rules and decompositions use the same parts (max, exp(x - max), sum), so that common-subexpression
elimination leaves one of each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import DTypeError, ShapeError
from graphgrad.compiler.families import Composite, join_dtypes
from graphgrad.compiler.op import Attrs, Samples, current_kind, ops
from graphgrad.compiler.ops.special import Array, carried, floating, in_float32
from graphgrad.compiler.types import TensorType, normalize_axis, same_shape, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]
FLOATS = ("float32", "float64", "bfloat16")


def _bind(logits: Any, axis: int | None = -1, name: str | None = None) -> Bound:
    x = floating(logits, "softmax")
    return (x,), {"axis": normalize_axis(-1 if axis is None else int(axis), x.ndim, "softmax")}


def _shifted(x: Any, axis: int) -> Any:
    """x minus its maximum along `axis`: what may be exponentiated."""
    return x - ops["max"](x, (axis,), True)


def _sum(x: Any, axis: int) -> Any:
    return ops["sum"](x, (axis,), True)


def _softmax_parts(x: Any, axis: int) -> Any:
    e = ops["exp"](_shifted(carried(x), axis))
    return (e / _sum(e, axis)).cast(x.dtype)


def _log_softmax_parts(x: Any, axis: int) -> Any:
    shifted = _shifted(carried(x), axis)
    return (shifted - ops["log"](_sum(ops["exp"](shifted), axis))).cast(x.dtype)


_greatest, _total = np.maximum.reduce, np.add.reduce  # np.max and np.sum take twice as long


def _softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - _greatest(x, axis, keepdims=True, initial=-np.inf))
    return np.asarray(e / _total(e, axis, keepdims=True))


def _log_softmax(x: Array, axis: int) -> Array:
    shifted = x - _greatest(x, axis, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(_total(np.exp(shifted), axis, keepdims=True)))


def _softmax_product(t: Any, z: Any, axis: int) -> Any:
    """The (symmetric) Jacobian of softmax times t: z (t - sum(t z)); 0 for rows without t."""
    product = ops["cotangent_product"]
    tz = product(t, z)
    return tz - product(_sum(tz, axis).broadcast_to(z.shape), z)


def _rows(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, axis in (
        ((4,), 0),
        ((2, 5), -1),
        ((3, 4), 0),
        ((2, 3, 4), 1),
        ((2, 1), 1),
        ((0, 3), 1),
    ):
        yield (rng.uniform(-3, 3, shape).astype(dtype),), {"axis": axis}
    edges = np.array([[1e4, 1e4 - 2, -1e4], [-np.inf, 0.0, 1.0], [-30000.0, 0.0, 0.0]])
    yield (edges.astype(dtype),), {"axis": 1}


def _softmax_oracle(x: Array, axis: int) -> Array:
    """1 / sum over j of exp(x[j] - x[i])."""
    rows = np.moveaxis(x, axis, -1)
    gaps = rows[..., None, :] - rows[..., :, None]
    share = np.where(rows == -np.inf, 0, 1 / np.exp(gaps).sum(-1))
    return np.moveaxis(share, -1, axis)


def _log_softmax_oracle(x: Array, axis: int) -> Array:
    return x - np.logaddexp.reduce(x, axis, keepdims=True, initial=-np.inf)


softmax = Composite(
    name="softmax",
    public=("nn.softmax", "math.softmax"),
    bind=_bind,
    type=lambda x, axis: x,
    ref=in_float32(_softmax),
    decompose=_softmax_parts,
    vjp=lambda g, z, x, needs, axis: (_softmax_product(g, z, axis),),
    jvp=lambda ts, z, x, axis: _softmax_product(ts[0], z, axis),
    samples=Samples(cases=_rows, dtypes=FLOATS, oracle=_softmax_oracle, ulp=8.0),
    doc="""exp(x) / sum(exp(x)) along `axis`; never overflows.

    >>> import graphgrad as gg
    >>> gg.nn.softmax([0.0, 0.0, 1000.0]).numpy()
    array([0., 0., 1.], dtype=float32)
    """,
)
log_softmax = Composite(
    name="log_softmax",
    public=("nn.log_softmax", "math.log_softmax"),
    bind=_bind,
    type=lambda x, axis: x,
    ref=in_float32(_log_softmax),
    decompose=_log_softmax_parts,
    vjp=lambda g, z, x, needs, axis: (
        g - ops["cotangent_product"](_sum(g, axis).broadcast_to(z.shape), ops["exp"](z)),
    ),
    jvp=lambda ts, z, x, axis: ts[0] - _sum(ops["cotangent_product"](ts[0], ops["exp"](z)), axis),
    samples=Samples(cases=_rows, dtypes=FLOATS, oracle=_log_softmax_oracle, ulp=8.0),
    doc="""log(softmax(x)) along `axis`, with all digits where the softmax is small.

    >>> import graphgrad as gg
    >>> gg.nn.log_softmax([0.0, 1000.0]).numpy()
    array([-1000.,     0.], dtype=float32)
    """,
)

# -- cross-entropies: one loss for each row of the last axis


def _bind_sparse(logits: Any, labels: Any, name: str | None = None) -> Bound:
    kind = current_kind()
    x, y = kind.lift(logits), kind.lift(labels)
    if not x.dtype.is_floating:
        x = x.cast(dtypes.float32)
    return (x, y), {}


def _sparse_type(x: TensorType, labels: TensorType) -> TensorType:
    if not labels.dtype.is_integer:
        raise DTypeError(f"sparse_softmax_cross_entropy: labels are integers, got {labels}")
    if x.ndim < 1 or not same_shape(x.shape[:-1], labels.shape):
        raise ShapeError(
            f"sparse_softmax_cross_entropy: labels {labels} should have the shape of logits {x} "
            "without the last axis"
        )
    return tensor_type(labels.shape, x.dtype)


def _sparse(x: Array, labels: Array) -> Array:
    classes = x.shape[-1]
    ops["check_label"].ref(labels, classes)
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    rows = _log_softmax(wide, -1).reshape(labels.size, classes)
    picked = rows[np.arange(labels.size), labels.reshape(-1).astype(np.intp)]
    return np.asarray(-picked.reshape(labels.shape)).astype(x.dtype, copy=False)


def _hit(x: Any, labels: Any) -> Any:
    """Which element of each row is its label's."""
    wide = dtypes.int32 if labels.dtype.bits < 32 or labels.dtype is dtypes.int32 else dtypes.int64
    checked = ops["check_label"](labels, x.shape[-1]).cast(wide)
    places = ops["iota"](x.shape[-1], wide)
    return checked.reshape((*labels.shape, 1)) == places.reshape((*(1,) * labels.ndim, x.shape[-1]))


def _sparse_parts(x: Any, labels: Any) -> Any:
    last = x.ndim - 1
    shifted = _shifted(carried(x), last)
    total = ops["log"](_sum(ops["exp"](shifted), last))
    picked = _sum(ops["where"](_hit(x, labels), shifted, 0), last)
    return (total - picked).reshape(labels.shape).cast(x.dtype)


def _sparse_slope(x: Any, labels: Any) -> Any:
    """The derivative of each row's loss by its logits: softmax - one_hot."""
    return ops["softmax"](x, x.ndim - 1) - _hit(x, labels).cast(x.dtype)


def _sparse_vjp(g: Any, z: Any, x: Any, labels: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
    column = g.reshape((*labels.shape, 1)).broadcast_to(x.shape)
    return ops["cotangent_product"](column, _sparse_slope(x, labels)), None


def _sparse_jvp(ts: tuple[Any, ...], z: Any, x: Any, labels: Any) -> Any:
    if ts[0] is None:
        return None
    product = ops["cotangent_product"](ts[0], _sparse_slope(x, labels))
    return ops["sum"](product, (x.ndim - 1,), False)


def _sparse_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, kind in (
        ((4, 5), np.int32),
        ((3,), np.int64),
        ((2, 3, 4), np.uint8),
        ((0, 3), np.int32),
    ):
        labels = rng.integers(0, shape[-1], shape[:-1], dtype=kind)
        yield (rng.uniform(-3, 3, shape).astype(dtype), labels), {}
    edges = np.array([[1e4, 0.0, -1e4], [-np.inf, 0.0, 1.0]]).astype(dtype)
    yield (edges, np.array([2, 1])), {}


def _sparse_oracle(x: Array, labels: Array) -> Array:
    """log(sum of exp(x[j] - x[label]))."""
    picked = np.take_along_axis(x, labels[..., None].astype(np.int64), -1)
    return np.asarray(np.logaddexp.reduce(x - picked, -1, initial=-np.inf))


sparse_softmax_cross_entropy = Composite(
    name="sparse_softmax_cross_entropy",
    public="",
    bind=_bind_sparse,
    type=_sparse_type,
    ref=_sparse,
    decompose=_sparse_parts,
    vjp=_sparse_vjp,
    jvp=_sparse_jvp,
    raises=True,
    samples=Samples(
        cases=_sparse_cases,
        dtypes=FLOATS,
        oracle=_sparse_oracle,
        ulp=8.0,
        errors=(
            (lambda op: op(np.zeros((2, 3), np.float32), np.array([0, 3])),
             "label 3 is out of range for 3 classes"),
            (lambda op: op(np.zeros((2, 3), np.float32), np.array([0, 1, 2])),
             "labels i64[3] should have the shape of logits f32[2, 3] without the last axis"),
        ),
    ),
    doc="-log(softmax(logits)[label]) for each row of the last axis, with integer labels; a label "
    "out of range raises IndexOutOfRange.",
)  # fmt: skip


def _bind_dense(logits: Any, labels: Any, axis: int = -1, name: str | None = None) -> Bound:
    kind = current_kind()
    dtype = join_dtypes((logits, labels))
    dtype = dtype if dtype.is_floating else dtypes.float32
    x, y = (kind.lift(v, dtype).cast(dtype) for v in (logits, labels))
    return (x, y), {"axis": normalize_axis(int(axis), x.ndim, "softmax_cross_entropy")}


def _dense_type(x: TensorType, labels: TensorType, axis: int) -> TensorType:
    if not same_shape(x.shape, labels.shape):
        raise ShapeError(
            f"softmax_cross_entropy: labels {labels} should have the shape of logits {x}"
        )
    return tensor_type(x.shape[:axis] + x.shape[axis + 1 :], x.dtype)


def _dense(x: Array, labels: Array, axis: int) -> Array:
    rows = _log_softmax(x, axis)
    return np.asarray(-np.sum(np.where(labels == 0, x.dtype.type(0), labels * rows), axis))


def _dense_parts(x: Any, labels: Any, axis: int) -> Any:
    """A label of 0 contributes 0, also where the logit is -inf."""
    rows = ops["log_softmax"](carried(x), axis)
    terms = ops["cotangent_product"](carried(labels), rows)
    return (-ops["sum"](terms, (axis,), False)).cast(x.dtype)


def _dense_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, axis in (((4, 5), -1), ((3,), 0), ((2, 3, 4), 1)):
        labels = rng.uniform(0, 1, shape)
        yield tuple(v.astype(dtype) for v in (rng.uniform(-3, 3, shape), labels)), {"axis": axis}
    edges = np.array([[-np.inf, 0.0, 1.0]]).astype(dtype)
    yield (edges, np.array([[0.0, 1.0, 0.0]]).astype(dtype)), {"axis": 1}


def _dense_oracle(x: Array, labels: Array, axis: int) -> Array:
    total = np.logaddexp.reduce(x, axis, keepdims=True, initial=-np.inf)
    terms = np.where(labels == 0, 0, labels * (total - np.where(labels == 0, 0, x)))
    return np.asarray(terms.sum(axis))


softmax_cross_entropy = Composite(
    name="softmax_cross_entropy",
    public="",
    bind=_bind_dense,
    type=_dense_type,
    ref=in_float32(_dense),
    decompose=_dense_parts,
    samples=Samples(
        cases=_dense_cases,
        dtypes=FLOATS,
        oracle=_dense_oracle,
        ulp=16.0,
        errors=(
            (lambda op: op(np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float32)),
             "labels f32[2, 2] should have the shape of logits f32[2, 3]"),
        ),
    ),
    doc="-sum(labels log(softmax(logits))) along `axis`; the labels are a distribution.",
)  # fmt: skip
