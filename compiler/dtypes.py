"""Element types: a small closed set, each one object, comparable with NumPy's dtypes and names."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np


class DType:
    """The type of one element. There is one object per type, so `is` is equality.

    >>> from graphgrad.compiler.dtypes import float32
    >>> float32 == np.float32, float32 == "float32", np.zeros(2, float32).dtype
    (True, True, dtype('float32'))
    """

    __slots__ = ("name", "short", "kind", "bits", "dtype")

    def __init__(self, name: str, short: str, kind: str, bits: int, dtype: np.dtype[Any]) -> None:
        self.name = name
        self.short = short  # as the IR prints it: f32, bf16, i64, b1
        self.kind = kind  # "b" bool, "i" signed, "u" unsigned, "f" floating, "c" complex
        self.bits = bits
        self.dtype = dtype  # NumPy reads this attribute: np.zeros(3, float32) works

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def size(self) -> int:
        """Bytes of one element (TensorFlow's name for `itemsize`)."""
        return self.itemsize

    @property
    def as_numpy_dtype(self) -> type:
        return self.dtype.type

    @property
    def is_floating(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def is_bool(self) -> bool:
        return self.kind == "b"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def is_inexact(self) -> bool:
        """Floating or complex: what derivatives are taken of."""
        return self.kind in "fc"

    @property
    def real_dtype(self) -> DType:
        """The type of the real part: float32 of complex64; of a real type, itself."""
        return (float32 if self.bits == 64 else float64) if self.is_complex else self

    @property
    def min(self) -> Any:
        """The least finite value."""
        return False if self.is_bool else self._ordered().min

    @property
    def max(self) -> Any:
        """The greatest finite value."""
        return True if self.is_bool else self._ordered().max

    @property
    def eps(self) -> float:
        """The gap between 1 and the next floating value."""
        return float(self._info().eps)

    def _ordered(self) -> Any:
        if self.is_complex:
            raise TypeError(f"{self.name} has no order, so no least and no greatest value")
        return self._info()

    def _info(self) -> Any:
        info = ml_dtypes.finfo if self.is_inexact else np.iinfo
        return info(self.dtype)  # type: ignore[no-untyped-call, unused-ignore]

    def __eq__(self, other: object) -> bool:
        return self is other or as_dtype_or_none(other) is self

    def __hash__(self) -> int:
        return hash(self.dtype)  # equal to NumPy's dtype, so hashed as it

    def __repr__(self) -> str:
        return f"gg.{self.name}"

    def __str__(self) -> str:
        return f"<dtype: '{self.name}'>"

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


bool_ = DType("bool", "b1", "b", 1, np.dtype(np.bool_))
int8 = DType("int8", "i8", "i", 8, np.dtype(np.int8))
int16 = DType("int16", "i16", "i", 16, np.dtype(np.int16))
int32 = DType("int32", "i32", "i", 32, np.dtype(np.int32))
int64 = DType("int64", "i64", "i", 64, np.dtype(np.int64))
uint8 = DType("uint8", "u8", "u", 8, np.dtype(np.uint8))
uint16 = DType("uint16", "u16", "u", 16, np.dtype(np.uint16))
uint32 = DType("uint32", "u32", "u", 32, np.dtype(np.uint32))
uint64 = DType("uint64", "u64", "u", 64, np.dtype(np.uint64))
float16 = DType("float16", "f16", "f", 16, np.dtype(np.float16))
bfloat16 = DType("bfloat16", "bf16", "f", 16, np.dtype(ml_dtypes.bfloat16))
float32 = DType("float32", "f32", "f", 32, np.dtype(np.float32))
float64 = DType("float64", "f64", "f", 64, np.dtype(np.float64))
complex64 = DType("complex64", "c64", "c", 64, np.dtype(np.complex64))
complex128 = DType("complex128", "c128", "c", 128, np.dtype(np.complex128))

ALL = (
    bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
    float16, bfloat16, float32, float64, complex64, complex128,
)  # fmt: skip

_BY_NUMPY = {d.dtype: d for d in ALL}
_BY_NAME = {d.name: d for d in ALL} | {d.short: d for d in ALL} | {"float": float32, "int": int32}
_BY_PYTHON: dict[Any, DType] = {bool: bool_, int: int32, float: float32, complex: complex128}
KIND_RANK = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}  # the kind of a result is the highest


def as_dtype_or_none(spec: object) -> DType | None:
    """The DType that `spec` names (DType, NumPy dtype or type, name, Python type), or None."""
    if isinstance(spec, DType):
        return spec
    if isinstance(spec, str):
        return _BY_NAME.get(spec)
    if isinstance(spec, type) and spec in _BY_PYTHON:
        return _BY_PYTHON[spec]
    if isinstance(spec, np.dtype) or (isinstance(spec, type) and issubclass(spec, np.generic)):
        return _BY_NUMPY.get(np.dtype(spec))
    return None


def as_dtype(spec: object) -> DType:
    """The DType that `spec` names; TypeError when there is none.

    >>> as_dtype("bfloat16"), as_dtype(np.int64), as_dtype(float)
    (gg.bfloat16, gg.int64, gg.float32)
    """
    found = as_dtype_or_none(spec)
    if found is None:
        names = ", ".join(d.name for d in ALL)
        raise TypeError(f"no dtype for {spec!r}; graphgrad has {names}")
    return found


# Promotion between tensors: within a kind the array API lattice; an int with a float gives the
# float; bool gives the other; a complex type is wide enough for the float that it meets. Where the
# lattice has no join, NumPy's answer (i64 with u64 -> f64) or the wider of two 16-bit floats (f16
# with bf16 -> f32).
def promote(a: DType, b: DType) -> DType:
    """The dtype of an operation between tensors of dtypes `a` and `b`.

    >>> promote(int64, float32), promote(bool_, int32), promote(float16, bfloat16)
    (gg.float32, gg.int32, gg.float32)
    >>> promote(complex64, float32), promote(complex64, float64), promote(int64, complex64)
    (gg.complex64, gg.complex128, gg.complex64)
    """
    if a is b:
        return a
    if a.is_complex or b.is_complex:
        return complex128 if float64 in (a.real_dtype, b.real_dtype) else complex64
    if KIND_RANK[a.kind] != KIND_RANK[b.kind]:
        return a if KIND_RANK[a.kind] > KIND_RANK[b.kind] else b
    if a.kind == "f" and a.bits == b.bits:
        return float32
    return (
        _BY_NUMPY[np.promote_types(a.dtype, b.dtype)]
        if a.kind != "f"
        else (a if a.bits > b.bits else b)
    )
