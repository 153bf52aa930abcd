"""Scalar functions on NumPy arrays: a builder whose values are arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.scalar.builder import ScalarBuilder

_PRIMITIVES: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "fma": lambda x, y, z: x * y + z,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint,
    "copysign": np.copysign, "select": np.where,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal,
    "and_": np.bitwise_and, "or_": np.bitwise_or, "xor": np.bitwise_xor, "not_": np.invert,
}  # fmt: skip
_NAMED: dict[str, Callable[..., Any]] = {
    "exp": np.exp, "log": np.log, "sin": np.sin, "tan": np.tan, "pow": np.power,
}  # fmt: skip


class ArrayBuilder(ScalarBuilder):
    """Computes at once on arrays of float32 or float64, elementary functions by NumPy's.

    It rounds the product within an fma, and converts as NumPy does: it serves formulas that need
    neither exact remainders nor conversions that saturate.
    """

    def primitive(self, fn: str, args: tuple[Any, ...], dtype: DType, attr: Any = None) -> Any:
        if fn == "const":
            return dtype.dtype.type(attr)
        if fn == "lookup":
            return np.array(attr, dtype.dtype)[args[0]]
        if fn == "convert":
            return np.asarray(args[0]).astype(dtype.dtype)
        return _PRIMITIVES[fn](*args)

    def dtype(self, x: Any) -> DType:
        return dtypes.as_dtype(x.dtype)

    def named(self, fn: str, args: tuple[Any, ...], attr: Any = None) -> Any:
        found = _NAMED.get(fn)
        return super().named(fn, args, attr) if found is None else found(*args)


def on_arrays(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn(s, *xs)` as a function of arrays."""
    builder = ArrayBuilder()

    def apply(*xs: Any) -> Any:
        return np.asarray(fn(builder, *xs))

    return apply
