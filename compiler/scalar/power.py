"""pow and hypot, over the primitives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphgrad.compiler import dtypes
from graphgrad.compiler.scalar.exponential import EXP2
from graphgrad.compiler.scalar.formats import F32, F64, clamp, format_of, polynomial
from graphgrad.compiler.scalar.logarithm import split

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

# log2((1 + q)/(1 - q))/q in q**2 for q = (m - 1)/(m + 1), m in [sqrt(1/2), sqrt(2)): to 2**-36
_LOG2_SHORT = (
    2.885390081790196914057, 0.9617966732058476189644, 0.5770836107591071448199,
    0.4116711694974564888649, 0.3407589062040573891592,
)  # fmt: skip
# the same logarithm, c1 + c3 q**2 + q**4 P(q**2) to 2**-72: c1 and c3 in two parts each, P
_C1 = (2.8853900817779268, 4.0710547481862066e-17)
_C3 = (0.9617966939259756, 5.0577616648125907e-17)
_LOG2_LONG = (
    0.5770780163555850358359, 0.4121985831113725544869, 0.3205988979073510197185,
    0.262308199231359624385, 0.2219522358991878192677, 0.1924025112031491580802,
    0.1684295626468991572105, 0.1729854690832906370679,
)  # fmt: skip


def pow_(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """`2**(y log2 |x|)` with IEEE 754's signs and special cases.

    float32 computes in float64; float64 carries the logarithm and the product in two parts.
    """
    a = s.abs(x)
    # 1**y and x**0 are 1 for every y and x, NaN included
    base, exponent = s.select(s.eq(y, 0.0), 1.0, a), s.select(s.eq(a, 1.0), 0.0, y)
    power = (_pow_by_float64 if format_of(s, x) is F32 else _pow_in_two_parts)(s, base, exponent)
    return _with_sign(s, x, y, power)


def _pow_by_float64(s: ScalarBuilder, a: Value, y: Value) -> Value:
    """The exponent and mantissa of a are taken apart in float32, the rest is in float64."""
    exponent, m = split(s, F32, a)
    exponent = _log2_specials(s, a, exponent)
    near = s.convert(s.div(1.0, s.add(m, 1.0)), dtypes.float64)
    wide = s.convert(m, dtypes.float64)
    inverse = s.fma(s.fma(s.neg(s.add(wide, 1.0)), near, 1.0), near, near)  # one step of Newton
    q = s.mul(s.sub(wide, 1.0), inverse)
    series = polynomial(s, s.mul(q, q), _LOG2_SHORT)
    log2 = s.fma(q, series, s.convert(exponent, dtypes.float64))
    product = clamp(s, s.mul(s.convert(y, dtypes.float64), log2), -200.0, 200.0)
    shifted = s.add(product, F64.magic)
    r = s.sub(product, s.sub(shifted, F64.magic))
    p = s.fma(r, polynomial(s, r, EXP2[F32]), 1.0)
    bits = s.add(s.bitcast(p, dtypes.int64), s.shl(s.bitcast(shifted, dtypes.int64), 52))
    return s.convert(s.bitcast(bits, dtypes.float64), dtypes.float32)


def _log2_specials(s: ScalarBuilder, a: Value, log2: Value) -> Value:
    """The logarithm of |x| (or its integer part) with its values at 0, infinity and NaN."""
    log2 = s.select(s.lt(a, math.inf), log2, a)
    return s.select(s.eq(a, 0.0), -math.inf, log2)


def _pow_in_two_parts(s: ScalarBuilder, a: Value, y: Value) -> Value:
    high, low = _log2_in_two_parts(s, a)
    high = _log2_specials(s, a, high)
    product = s.mul(y, high)
    tail = s.fma(y, low, s.fma(y, high, s.neg(product)))
    bounded = clamp(s, product, -1100.0, 1100.0)
    tail = s.select(s.eq(bounded, product), tail, 0.0)
    shifted = s.add(bounded, F64.magic)
    r = s.add(s.sub(bounded, s.sub(shifted, F64.magic)), tail)
    p = s.fma(r, polynomial(s, r, EXP2[F64]), 1.0)
    n = s.sub(s.bitcast(shifted, dtypes.int64), F64.magic_bits)
    y = s.ldexp(p, n)
    return s.select(s.ne(product, product), product, y)


def _log2_in_two_parts(s: ScalarBuilder, a: Value) -> tuple[Value, Value]:
    """log2(a) as high + low, to about 2**-66 of itself.

    q = (m - 1)/(m + 1) and the first two terms of the series in two parts each.
    """
    exponent, m = split(s, F64, a)
    top, bottom = s.sub(m, 1.0), s.add(m, 1.0)
    lost = s.sub(m, s.sub(bottom, 1.0))
    inverse = s.div(1.0, bottom)
    q = s.mul(top, inverse)
    q_low = s.mul(s.fma(s.neg(q), lost, s.fma(s.neg(q), bottom, top)), inverse)
    z = s.mul(q, q)
    z_low = s.fma(s.add(q, q), q_low, s.fma(q, q, s.neg(z)))
    tail = s.mul(z, polynomial(s, z, _LOG2_LONG))
    u = s.add(tail, _C3[0])
    u_low = s.add(s.add(s.sub(_C3[0], u), tail), _C3[1])
    v = s.mul(z, u)
    v_low = s.fma(z, u_low, s.fma(z_low, u, s.fma(z, u, s.neg(v))))
    w = s.add(v, _C1[0])
    w_low = s.add(s.add(s.sub(_C1[0], w), v), s.add(v_low, _C1[1]))
    y = s.mul(q, w)
    y_low = s.fma(q, w_low, s.fma(q_low, w, s.fma(q, w, s.neg(y))))
    high = s.add(exponent, y)
    return high, s.add(s.add(s.sub(exponent, high), y), y_low)


def _with_sign(s: ScalarBuilder, x: Value, y: Value, power: Value) -> Value:
    """x**y from `|x|**y`: odd powers of negatives, and NaN for a root of a finite one."""
    half = s.mul(y, 0.5)
    integer = s.eq(s.trunc(y), y)
    odd = s.and_(integer, s.ne(s.trunc(half), half))
    power = s.select(s.and_(odd, s.signbit(x)), s.neg(power), power)
    no_root = s.and_(s.not_(integer), s.and_(s.lt(x, 0.0), s.gt(x, -math.inf)))
    return s.select(no_root, math.nan, power)


def hypot(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """`sqrt(x**2 + y**2)`, scaled by a power of two where a square would overflow or underflow.

    Infinite if either is, even beside NaN.
    """
    f = format_of(s, x)
    half = f.bias // 2
    a, b = s.abs(x), s.abs(y)
    swap = s.lt(a, b)
    a, b = s.select(swap, b, a), s.select(swap, a, b)
    huge, small = s.gt(a, 2.0 ** (half - 1)), s.lt(a, 2.0 ** (f.mantissa + 2 - half))
    up, down = 2.0 ** (half + f.mantissa), 2.0 ** (-half - f.mantissa)
    one = s.const(1.0, f.float_)
    scale = s.select(huge, down, s.select(small, up, one))
    back = s.select(huge, up, s.select(small, down, one))
    a, b = s.mul(a, scale), s.mul(b, scale)
    z = s.mul(s.sqrt(s.fma(a, a, s.mul(b, b))), back)
    infinite = s.or_(s.isinf(x), s.isinf(y))
    return s.select(infinite, math.inf, z)
