"""gg.dtypes: the element types, and casts between them."""

from graphgrad.compiler.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from graphgrad.compiler.dtypes import bool_ as bool
from graphgrad.public import exported

double, half = float64, float16
cast, saturate_cast = (exported("")[name] for name in ("cast", "saturate_cast"))

__all__ = [
    "DType",
    "as_dtype",
    "bfloat16",
    "bool",
    "cast",
    "double",
    "float16",
    "float32",
    "float64",
    "half",
    "int8",
    "int16",
    "int32",
    "int64",
    "saturate_cast",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
