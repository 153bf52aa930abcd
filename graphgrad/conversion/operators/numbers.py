"""Python numbers and tensors as values of one state: which become tensors, and of which dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Dim
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import weak_dtype
from graphgrad.compiler.ir import PYTHON_NUMBERS, Value
from graphgrad.compiler.op import state
from graphgrad.compiler.types import Shape
from graphgrad.tensor import DTYPES


def is_symbolic(x: Any) -> bool:
    """Is `x` known only when the function runs: a value of a trace, or of a variable in one?"""
    if isinstance(x, Value):
        return True
    return state.builder is not None and hasattr(x, "__graphgrad_value__")


def is_weak(x: Any) -> bool:
    """Does `x` adopt the dtype of what it meets: a Python number, or a size?"""
    return type(x) in PYTHON_NUMBERS or isinstance(x, Dim)


def is_numeric(x: Any) -> bool:
    """Can `x` become a tensor of a state?"""
    if isinstance(x, np.ndarray | np.generic):
        return x.dtype in DTYPES
    return isinstance(x, Arith) or is_weak(x)


def dtype_of(x: Any) -> DType:
    """The dtype of a numeric value, the one it has by itself where it is weak."""
    return x.dtype if isinstance(x, Arith) else weak_dtype(x)


def shape_of(x: Any) -> Shape:
    """The shape of a numeric value."""
    return () if is_weak(x) else tuple(x.type.shape if isinstance(x, Arith) else x.shape)


def adopts(x: Any, dtype: DType) -> bool:
    """May the weak number `x` stand for a value of `dtype`: is it of that kind, or a lower one?"""
    return _RANK[_kind(weak_dtype(x))] <= _RANK[_kind(dtype)] and (
        dtype.is_bool is weak_dtype(x).is_bool
    )


_RANK = {"bool": 0, "integer": 1, "float": 2, "complex": 3}


def _kind(dtype: DType) -> str:
    if dtype.is_complex:
        return "complex"
    if dtype.is_bool:
        return "bool"
    return "integer" if dtype.is_integer else "float"


def same_kind(value: DType, target: DType) -> bool:
    """Does a cast to `target` keep what kind of number it is?"""
    return _RANK[_kind(value)] <= _RANK[_kind(target)]


def same_number(a: Any, b: Any) -> bool:
    """Are these Python numbers, or sizes, one and the same, to the sign of zero?"""
    return type(a) is type(b) and is_weak(a) and (a is b or (a == b and repr(a) == repr(b)))


def same_object(a: Any, b: Any) -> bool:
    """Do these values, no tensors, mean the same to Python?"""
    if a is b:
        return True
    plain = isinstance(a, str | bytes | DType | slice | range | type(Ellipsis) | np.dtype)
    return type(a) is type(b) and plain and bool(a == b)
