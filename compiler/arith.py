"""The operators and methods that every kind of value shares: each one looks its op up by name.

Derivative rules use only these, so no op file imports another, although broadcast and sum are each
other's adjoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphgrad.compiler.dtypes import DType, bool_, int64
from graphgrad.compiler.errors import DTypeError
from graphgrad.compiler.op import ops
from graphgrad.compiler.types import Shape, TensorType


class Arith:
    """Operators of eager tensors, symbolic values and rewrite patterns."""

    __slots__ = ()
    __array_priority__ = 100  # NumPy arrays on the left leave the operator to us
    __hash__ = None  # type: ignore[assignment]  # `==` is elementwise
    type: TensorType

    @property
    def shape(self) -> Any:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __add__(self, other: Any) -> Any:
        return ops["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return ops["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return ops["sub"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return ops["sub"](other, self)

    def __mul__(self, other: Any) -> Any:
        return ops["mul"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return ops["mul"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return ops["div"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return ops["div"](other, self)

    def __floordiv__(self, other: Any) -> Any:
        return ops["floordiv"](self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return ops["floordiv"](other, self)

    def __mod__(self, other: Any) -> Any:
        return ops["mod"](self, other)

    def __rmod__(self, other: Any) -> Any:
        return ops["mod"](other, self)

    def __pow__(self, other: Any) -> Any:
        return ops["pow"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return ops["pow"](other, self)

    def __matmul__(self, other: Any) -> Any:
        return ops["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return ops["matmul"](other, self)

    def __neg__(self) -> Any:
        return ops["neg"](self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return ops["abs"](self)

    def __invert__(self) -> Any:
        return ops["logical_not" if _all_bool(self) else "invert"](self)

    def __and__(self, other: Any) -> Any:
        return ops["logical_and" if _all_bool(self, other) else "bitwise_and"](self, other)

    def __rand__(self, other: Any) -> Any:
        return ops["logical_and" if _all_bool(self, other) else "bitwise_and"](other, self)

    def __or__(self, other: Any) -> Any:
        return ops["logical_or" if _all_bool(self, other) else "bitwise_or"](self, other)

    def __ror__(self, other: Any) -> Any:
        return ops["logical_or" if _all_bool(self, other) else "bitwise_or"](other, self)

    def __xor__(self, other: Any) -> Any:
        return ops["logical_xor" if _all_bool(self, other) else "bitwise_xor"](self, other)

    def __rxor__(self, other: Any) -> Any:
        return ops["logical_xor" if _all_bool(self, other) else "bitwise_xor"](other, self)

    def __lshift__(self, other: Any) -> Any:
        return ops["left_shift"](self, other)

    def __rlshift__(self, other: Any) -> Any:
        return ops["left_shift"](other, self)

    def __rshift__(self, other: Any) -> Any:
        return ops["right_shift"](self, other)

    def __rrshift__(self, other: Any) -> Any:
        return ops["right_shift"](other, self)

    def __divmod__(self, other: Any) -> Any:
        return ops["floordiv"](self, other), ops["mod"](self, other)

    def __rdivmod__(self, other: Any) -> Any:
        return ops["floordiv"](other, self), ops["mod"](other, self)

    # Python's functions of numbers give integers: int64, for every element.

    def __round__(self, ndigits: int | None = None) -> Any:
        if ndigits is None:
            return ops["round"](self).cast(int64)
        if self.dtype.is_integer and ndigits >= 0:
            return self
        scale = 10.0 ** abs(ndigits)
        if ndigits < 0:
            return (ops["round"](self / scale) * scale).cast(self.dtype)
        return ops["round"](self * scale) / scale

    def __floor__(self) -> Any:
        return self._integer("floor")

    def __ceil__(self) -> Any:
        return self._integer("ceil")

    def __trunc__(self) -> Any:
        return self._integer("trunc")

    def _integer(self, rounding: str) -> Any:
        return (ops[rounding](self) if self.dtype.is_floating else self).cast(int64)

    def __eq__(self, other: Any) -> Any:
        return ops["equal"](self, other)

    def __ne__(self, other: Any) -> Any:
        return ops["not_equal"](self, other)

    def __lt__(self, other: Any) -> Any:
        return ops["less"](self, other)

    def __le__(self, other: Any) -> Any:
        return ops["less_equal"](self, other)

    def __gt__(self, other: Any) -> Any:
        return ops["greater"](self, other)

    def __ge__(self, other: Any) -> Any:
        return ops["greater_equal"](self, other)

    def cotangent_product(self, p: Any) -> Any:
        """This cotangent times a partial derivative; 0 where it is 0, whatever `p` is."""
        return ops["cotangent_product"](self, p)

    def cast(self, dtype: DType) -> Any:
        """The elements as `dtype`. Complex numbers become real only where `gg.cast` says so."""
        own = self.dtype
        if own is dtype:
            return self
        if own.is_complex and not dtype.is_complex:
            raise DTypeError(
                f"Cannot take {self.type} as {dtype.name}, which has no imaginary part; take "
                "gg.math.real, gg.math.imag or gg.abs of it first"
            )
        return ops["cast"](self, dtype=dtype)

    def reshape(self, shape: Shape) -> Any:
        """The elements in row-major order as `shape`."""
        return self if self.shape == tuple(shape) else ops["reshape"](self, shape)

    def broadcast_to(self, shape: Shape) -> Any:
        """Stretched to `shape`."""
        return self if self.shape == tuple(shape) else ops["broadcast_to"](self, shape)

    def transpose(self, perm: Sequence[int]) -> Any:
        """The axes in the order `perm`."""
        return self if list(perm) == list(range(len(perm))) else ops["transpose"](self, perm)

    def sum(self, axes: Sequence[int], keepdims: bool = False) -> Any:
        """The sum over `axes`."""
        return ops["sum"](self, tuple(axes), keepdims) if len(axes) else self

    def sum_to(self, shape: Shape) -> Any:
        """Summed over the axes that broadcasting from `shape` stretched."""
        if self.shape == tuple(shape):
            return self
        lead = self.ndim - len(shape)
        axes = tuple(range(lead)) + tuple(
            i + lead
            for i, n in enumerate(shape)
            if isinstance(n, int) and n == 1 and self.shape[i + lead] != 1
        )
        return ops["sum"](self, axes, True).reshape(shape)


def holds_tensor(x: Sequence[Any]) -> bool:
    """Is there a tensor among the elements, at any depth?"""
    return any(isinstance(v, Arith) or (isinstance(v, list | tuple) and holds_tensor(v)) for v in x)


def _all_bool(*operands: Any) -> bool:
    """Do `&`, `|`, `^` and `~` mean logic: are all operands bool? (Patterns have no dtype: the
    rules written with these operators are rules of logic.)"""
    for x in operands:
        dtype = getattr(x, "dtype", None)
        if dtype is bool_:
            continue
        if dtype is None and not isinstance(x, Arith):
            nested = isinstance(x, list | tuple) and holds_tensor(x)
            dtype = None if nested else np.asarray(x).dtype
        if dtype is not None and dtype != "bool":
            return False
    return True
