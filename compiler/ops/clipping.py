"""Bounds: clipping, conversion that saturates, and the next number of a format."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import DTypeError
from graphgrad.compiler.families import Elementwise, Mask, join_dtypes
from graphgrad.compiler.op import Attrs, Samples, current_kind, located, ops
from graphgrad.compiler.ops.special import in_float32
from graphgrad.compiler.types import TensorType, broadcast_shapes, tensor_type

FLOATS = ("float32", "float64", "bfloat16", "float16")


def _bind_clip(
    t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None
) -> tuple[tuple[Any, ...], Attrs]:
    given = tuple(v for v in (t, clip_value_min, clip_value_max) if v is not None)
    if clip_value_min is None or clip_value_max is None:  # no bound: as NumPy's clip
        dtype = join_dtypes(given)
        low, high = (-np.inf, np.inf) if dtype.is_floating else (dtype.min, dtype.max)
        low, high = dtype.dtype.type(low), dtype.dtype.type(high)
        clip_value_min = low if clip_value_min is None else clip_value_min
        clip_value_max = high if clip_value_max is None else clip_value_max
    return (t, clip_value_min, clip_value_max), {}


def _outside(z: Any, t: Any, low: Any, high: Any) -> Mask:
    return Mask((t < low) | (t > high), negate=True)


def _clip_cases(rng: np.random.Generator, dtype: Any) -> Any:
    kind = np.dtype(dtype)
    least = 0 if kind.kind == "u" else -9
    for t, low, high in (((5,), (), ()), ((2, 3), (3,), ()), ((2, 1), (1, 4), (4,)), ((), (), ())):
        yield (
            (
                rng.uniform(least, 9, t).astype(dtype),
                rng.uniform(least, 2, low).astype(dtype),
                rng.uniform(3, 6, high).astype(dtype),
            ),
            {},
        )
    if kind.kind not in "iu":
        edge = np.array([np.inf, -np.inf, np.nan, -0.0, 1.0, 2.0, 1.5]).astype(dtype)
        yield (edge, np.array(1, dtype), np.array(2, dtype)), {}


clip_by_value = Elementwise(
    name="clip_by_value",
    public=("clip_by_value",),
    arity=3,
    inputs="number",
    bind=_bind_clip,
    ref=in_float32(lambda t, low, high: np.minimum(np.maximum(t, low), high)),
    scalar=lambda s, t, low, high: s.minimum(s.maximum(t, low), high),
    partials=(
        _outside,
        lambda z, t, low, high: Mask(t < low),
        lambda z, t, low, high: Mask(t > high),
    ),
    samples=Samples(
        cases=_clip_cases,
        dtypes=(*FLOATS, "int32", "int64", "uint8"),
        oracle=lambda t, low, high: np.where(t < low, low, np.where(t > high, high, t)),
        ulp=0.0,
        errors=((lambda op: op(True, False, True), "clip_by_value: takes numbers, got True"),),
    ),
    doc="""min(max(t, clip_value_min), clip_value_max), element by element; the three broadcast.

    A bound that is None does not bound. The derivative at the bounds is 1.

    >>> import graphgrad as gg
    >>> gg.clip_by_value([-1.0, 0.5, 3.0], 0.0, 1.0).numpy()
    array([0. , 0.5, 1. ], dtype=float32)
    """,
)


@located
def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Any:
    """The elements as `dtype`; those beyond its finite range become its nearest finite value.

    NaN stays NaN in floats, and becomes 0 in integers.

    >>> import graphgrad as gg
    >>> gg.saturate_cast([300, -5, 7], gg.uint8).numpy()
    array([255,   0,   7], dtype=uint8)
    """
    x, target = current_kind().lift(value), dtypes.as_dtype(dtype)
    own = x.dtype
    if own.is_bool or target.is_bool or own is target or (own.is_floating and target.is_integer):
        return x.cast(target)  # a cast of floats to integers saturates by itself
    number = int if own.is_integer else float
    low, high = max(number(target.min), number(own.min)), min(number(target.max), number(own.max))
    kind = own.dtype.type
    return ops["clip_by_value"](x, kind(low), kind(high)).cast(target)


def _nextafter_type(x: TensorType, y: TensorType) -> TensorType:
    if x.dtype.bits < 32:
        raise DTypeError(f"nextafter: takes float32 and float64, got {x}")
    return tensor_type(broadcast_shapes([x.shape, y.shape], "nextafter"), x.dtype)


def _nextafter(s: Any, x: Any, y: Any) -> Any:
    """Numbers of one sign are ordered as the integers of their bits."""
    dtype = s.dtype(x)
    word = dtypes.int32 if dtype.bits == 32 else dtypes.int64
    bits = s.bitcast(x, word)
    away = s.eq(s.gt(y, x), s.gt(x, 0.0))
    moved = s.bitcast(s.add(bits, s.select(away, s.const(1, word), -1)), dtype)
    least = s.bitcast(s.const(1, word), dtype)
    moved = s.select(s.eq(x, 0.0), s.copysign(least, y), moved)
    moved = s.select(s.eq(x, y), y, moved)
    return s.select(s.or_(s.ne(x, x), s.ne(y, y)), s.add(x, y), moved)


def _nextafter_cases(rng: np.random.Generator, dtype: Any) -> Any:
    values = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3e38, 2.5]
    x, y = np.meshgrid(np.array(values, dtype), np.array(values, dtype))
    yield (x, y), {}
    yield (rng.uniform(-3, 3, (4,)).astype(dtype), np.array(9, dtype)), {}


nextafter = Elementwise(
    name="nextafter",
    public=("math.nextafter",),
    arity=2,
    inputs="float",
    bind=lambda x1, x2, name=None: ((x1, x2), {}),
    type=_nextafter_type,
    ref=np.nextafter,
    scalar=_nextafter,
    partials=(lambda z, x, y: 1, None),
    samples=Samples(
        cases=_nextafter_cases,
        dtypes=("float64",),
        oracle=np.vectorize(lambda x, y: math.nextafter(x, y), otypes=[np.float64]),
        ulp=0.0,
        errors=(
            (lambda op: op(np.float16(1), np.float16(2)), "takes float32 and float64, got f16[]"),
        ),
    ),
    doc="""The next number after x1 toward x2 in their format, element by element; x2 where equal.

    The derivative by x1 is 1, and there is none by x2.

    >>> import graphgrad as gg
    >>> (gg.math.nextafter([1.0, -0.0], [2.0, 0.0]) - [1.0, 0.0]).numpy()
    array([1.1920929e-07, 0.0000000e+00], dtype=float32)
    """,
)
