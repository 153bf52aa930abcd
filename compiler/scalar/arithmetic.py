"""Minimum, maximum, division and other small functions, over the primitives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphgrad.compiler import dtypes
from graphgrad.compiler.scalar.formats import F32, F64

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

DIVIDE_BY_ZERO = "divide_by_zero"  # the failure of integer floordiv and mod


def minimum(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """The lesser, NaN if either is NaN; y at a tie (of zeros)."""
    return _unless_nan(s, x, s.select(s.lt(x, y), x, y))


def maximum(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """The greater, NaN if either is NaN; y at a tie (of zeros)."""
    return _unless_nan(s, x, s.select(s.gt(x, y), x, y))


def _unless_nan(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """`y`, or NaN where `x` is NaN. With the constant in place of `x`, comparing and selecting stay
    the one instruction that they are on many processors."""
    return s.select(s.ne(x, x), math.nan, y) if s.dtype(x).is_floating else y


def relu(s: ScalarBuilder, x: Value) -> Value:
    """`max(x, 0)`; NaN stays NaN."""
    return s.select(s.lt(x, 0), 0, x)


def sign(s: ScalarBuilder, x: Value) -> Value:
    """-1, 0 or 1; NaN stays NaN, and zero of either sign gives +0 as in NumPy."""
    dtype = s.dtype(x)
    if dtype.kind == "u":
        return s.select(s.eq(x, 0), s.const(0, dtype), 1)
    one = s.const(1, dtype)
    y = s.select(s.gt(x, 0), one, s.select(s.lt(x, 0), s.const(-1, dtype), 0))
    return s.select(s.ne(x, x), x, y) if dtype.is_floating else y


def square(s: ScalarBuilder, x: Value) -> Value:
    """`x * x`."""
    return s.mul(x, x)


def reciprocal(s: ScalarBuilder, x: Value) -> Value:
    """`1 / x`."""
    return s.div(1.0, x)


def cotangent_product(s: ScalarBuilder, g: Value, p: Value) -> Value:
    """`g * p`, and 0 where that is NaN for a `g` of 0. What waits for the product need not wait for
    the question, where a branch can answer it."""
    z = s.mul(g, p)
    if s.is_serial:
        return s.rare(s.isnan(z), "zero_if_zero", (z, g), z)
    return s.select(s.and_(s.eq(g, 0), s.isnan(z)), 0, z)


def zero_if_zero(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """`x`, but 0 where y is 0."""
    return s.select(s.eq(y, 0), 0, x)


def isnan(s: ScalarBuilder, x: Value) -> Value:
    """Whether x is NaN."""
    return s.ne(x, x)


def isinf(s: ScalarBuilder, x: Value) -> Value:
    """Whether x is plus or minus infinity."""
    return s.eq(s.abs(x), float("inf"))


def isfinite(s: ScalarBuilder, x: Value) -> Value:
    """Whether x is neither infinite nor NaN."""
    return s.lt(s.abs(x), float("inf"))


def signbit(s: ScalarBuilder, x: Value) -> Value:
    """Whether the sign bit is set, also on -0 and NaN."""
    dtype = s.dtype(x)
    if dtype.is_floating:
        x = s.bitcast(x, {32: dtypes.int32, 64: dtypes.int64, 16: dtypes.int16}[dtype.bits])
    return s.lt(x, 0)


def fmod(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """C's fmod: exact, with the sign of x; integers: `irem`.

    Where the quotient is below 2**(mantissa - 2), `x - trunc(x / y) y` by one fma is exact up to
    one multiple of y too many; elsewhere the slow primitive.
    """
    dtype = s.dtype(x)
    if dtype.is_integer:
        return s.irem(x, y)
    f = F32 if dtype is dtypes.float32 else F64
    a, b = s.abs(x), s.abs(y)
    q = s.trunc(s.div(a, b))
    r = s.fma(s.neg(q), b, a)
    r = s.select(s.lt(r, 0.0), s.add(r, b), r)  # the quotient was rounded up to an integer
    ordinary = s.and_(
        s.lt(q, 2.0 ** (f.mantissa - 2)), s.and_(s.ge(b, f.tiny), s.lt(b, float("inf")))
    )
    return s.rare(s.not_(ordinary), "fmod_exact", (x, y), s.copysign(r, x))


def fmod_exact(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """C's fmod for every operand."""
    return s.frem(x, y)


def mod(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """Remainder with the sign of the divisor, as Python and NumPy; integers fail on divisor 0."""
    if s.dtype(x).is_integer:
        s.require(s.ne(y, 0), DIVIDE_BY_ZERO, x, y)
        r = s.irem(x, y)
        if s.dtype(x).kind == "u":
            return r
        wrong = s.and_(s.ne(r, 0), s.lt(s.xor(r, y), 0))
        return s.select(wrong, s.add(r, y), r)
    return _float_mod(s, x, y)


def _float_mod(s: ScalarBuilder, x: Value, y: Value) -> Value:
    r = s.fmod(x, y)
    wrong = s.ne(s.lt(r, 0.0), s.lt(y, 0.0))
    moved = s.select(wrong, s.add(r, y), r)
    return s.select(s.eq(r, 0.0), s.copysign(0.0, y), moved)


def floordiv(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """Quotient rounded down, as Python and NumPy; integers fail on divisor 0.

    Floats as NumPy's npy_divmod: `(x - mod) / y`, which is near an integer, rounded to it.
    """
    if s.dtype(x).is_integer:
        s.require(s.ne(y, 0), DIVIDE_BY_ZERO, x, y)
        q = s.idiv(x, y)
        if s.dtype(x).kind == "u":
            return q
        r = s.sub(x, s.mul(q, y))
        wrong = s.and_(s.ne(r, 0), s.lt(s.xor(r, y), 0))
        return s.select(wrong, s.sub(q, 1), q)
    quotient = s.div(x, y)
    r = s.fmod(x, y)
    wrong = s.and_(s.ne(r, 0.0), s.ne(s.lt(r, 0.0), s.lt(y, 0.0)))
    q = s.div(s.sub(x, r), y)
    q = s.select(wrong, s.sub(q, 1.0), q)
    low = s.floor(q)
    near = s.select(s.gt(s.sub(q, low), 0.5), s.add(low, 1.0), low)
    near = s.select(s.eq(q, 0.0), s.copysign(0.0, quotient), near)
    return s.select(s.eq(y, 0.0), quotient, near)
