"""Constants, sizes and casts: what lifting and promotion insert."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.families import Elementwise, Generator
from graphgrad.compiler.op import Op, Samples, ops
from graphgrad.compiler.ops import split
from graphgrad.compiler.types import tensor_type

Array = np.ndarray[Any, Any]
COMPLEX = ("complex64", "complex128")

constant = Op(
    name="constant",
    public="",
    type=lambda value: tensor_type(value.array.shape, dtypes.as_dtype(value.array.dtype)),
    ref=lambda value: value.array,
    nondifferentiable=True,
    samples=None,
    doc="A small array written into the graph.",
)
size = Generator(
    name="size",
    public="",
    type=lambda size, dtype: tensor_type((), dtype),
    ref=lambda size, dtype: dtype.dtype.type(size),
    scalar=lambda s, index, size, dtype: s.convert(s.size(size), dtype),
    nondifferentiable=True,
    samples=None,
    doc="A size that is unknown while tracing, as a 0-d tensor.",
)


def _cast(x: Array, dtype: dtypes.DType) -> Array:
    """astype, but defined for every float: to integers it saturates, and NaN gives 0. A complex
    number gives its real part."""
    if x.dtype.kind == "c" and not dtype.is_complex and not dtype.is_bool:
        x = x.real
    if x.dtype.kind not in "fV" or not dtype.is_integer:  # "V": bfloat16
        return np.asarray(x).astype(dtype.dtype)
    wide = np.trunc(np.asarray(x, dtype=np.float64))
    inside = (wide >= float(dtype.min)) & (wide < 2.0 ** (dtype.bits - (dtype.kind == "i")))
    y = np.where(inside, wide, 0.0).astype(dtype.dtype)
    if inside.all():
        return y
    bound = np.where(wide > 0, dtype.dtype.type(dtype.max), dtype.dtype.type(dtype.min))
    return np.where(inside | np.isnan(wide), y, bound)


def _cast_cases(rng: np.random.Generator, dtype: Any) -> Any:
    x = (rng.uniform(-300, 300, (2, 5))).astype(dtype)
    huge = np.array([3e9, -3e9, 1e19, -1e19, 0.5, -0.0, 1.0, 70000.0, 256.0]).astype(np.float64)
    if np.dtype(dtype).kind == "c":
        x = x + np.asarray(1j * rng.uniform(-300, 300, (2, 5))).astype(dtype)
    for target in (
        "float64", "float32", "bfloat16", "int32", "uint8", "int64", "bool", "complex64",
        "complex128",
    ):  # fmt: skip
        yield (x,), {"dtype": dtypes.as_dtype(target)}
        if np.dtype(dtype).kind in "fV":
            edges = np.array([*huge, np.inf, -np.inf, np.nan]).astype(dtype)
            yield (edges,), {"dtype": dtypes.as_dtype(target)}


def _cast_oracle(x: Array, dtype: dtypes.DType) -> Array:
    """In Python numbers, one by one."""
    if x.dtype.kind == "c" and not dtype.is_complex and not dtype.is_bool:
        x = x.real
    if not dtype.is_integer or x.dtype.kind != "f":
        return x.astype(bool) if dtype.is_bool else x
    low, high = int(dtype.min), int(dtype.max)
    values = [0 if v != v else high if v > high else low if v < low else int(v) for v in x.ravel()]
    return np.array(values, dtype=dtype.dtype).reshape(x.shape)


cast = Elementwise(
    name="cast",
    inputs="any",
    output=lambda dtype: dtype,
    bind=lambda x, dtype, name=None: ((x,), {"dtype": dtypes.as_dtype(dtype)}),
    ref=_cast,
    scalar=lambda s, x, dtype: s.convert(x, dtype),
    split=split.cast,
    vjp=lambda g, z, x, needs, dtype: (
        ops["cast"](g, x.dtype) if dtype.is_inexact and x.dtype.is_inexact else None,
    ),
    jvp=lambda ts, z, x, dtype: ops["cast"](ts[0], dtype) if dtype.is_inexact else None,
    samples=Samples(
        cases=_cast_cases,
        dtypes=("float32", "float64", "bfloat16", "int32", "int64", "uint8", *COMPLEX),
        oracle=_cast_oracle,
        ulp=0.5,
    ),
    doc="""The elements converted to `dtype`.

    Floats are truncated toward zero to integers; what does not fit becomes the nearest integer that
    does, and NaN becomes 0. To bool, everything but zero is true. Of complex numbers real types
    take the real part.

    >>> import graphgrad as gg
    >>> gg.cast([1.7, -1.7, 3e9], gg.int32).numpy()
    array([         1,         -1, 2147483647], dtype=int32)
    """,
)
