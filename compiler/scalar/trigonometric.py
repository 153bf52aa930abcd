"""sin, cos and tan, over the primitives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphgrad.compiler import dtypes
from graphgrad.compiler.scalar.formats import (
    F32,
    F64,
    Format,
    format_of,
    polynomial,
    round_by_magic,
)

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

_TWO_OVER_PI = 0.63661977236758134308
# pi/2 as an unevaluated sum of three numbers of the format
_HALF_PI = {
    F32: (1.57079637050628662109375, -4.371138828673793e-08, -1.7151245100058819e-15),
    F64: (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
# from here on, those three parts are too short and the reduction is done in integers
_LIMIT = {F32: 2.0**17, F64: 2.0**40}
# (sin(r)/r - 1)/r**2 and (cos(r) - 1 + r**2/2)/r**4 in z = r**2, |r| <= 1.002 pi/4
_SIN = {
    F32: (-0.1666665480753595035159, 0.008332169167760503003604, -0.0001951603789849758051066),
    F64: (
        -0.1666666666666663123962, 0.008333333333322205751288, -0.0001984126982963313922092,
        2.755731362874095493266e-06, -2.505074785182475093119e-08, 1.589618071712857207901e-10,
    ),
}  # fmt: skip
_COS = {
    F32: (0.04166664662793741441236, -0.001388735535596961677908, 2.443700738735113321817e-05),
    F64: (
        0.04166666666666659794462, -0.001388888888887384377096, 2.480158728929872840502e-05,
        -2.755731429707036882034e-07, 2.087571547457757850513e-09, -1.135923006459512216981e-11,
    ),
}  # fmt: skip
# (tan(r)/r - 1)/r**2 in z = r**2, |r| <= 1.004 pi/4
_TAN = {
    F32: (
        0.3333314657195024968958, 0.1333907169596471510439, 0.0533883053719545540942,
        0.02451352695611582264747, 0.00298409155373988617938, 0.009466942252237152153476,
    ),
    F64: (
        0.3333333333333270313943, 0.1333333333342486236851, 0.05396825392178927640703,
        0.02186948972557912991118, 0.008863217527072745912658, 0.003592303805465130539634,
        0.001454668749034956625266, 0.0005954392212146517831134, 0.0002212777193103246550906,
        0.0001387926993264112207447, -2.957865264329044407484e-05, 9.238411492321321770971e-05,
        -4.645820846404060236289e-05, 2.124341833999456635921e-05,
    ),
}  # fmt: skip
# the bits of 2/pi after 64 zeros
_TWO_OVER_PI_WORDS = (
    0x0000000000000000, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041,
    0xFE5163ABDEBBC561, 0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E,
    0xE88235F52EBB4484, 0xE99C7026B45F7E41, 0x3991D639835339F4, 0x9C845F8BBDF9283B,
    0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D,
    0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB,
)  # fmt: skip
_LOW = 0xFFFFFFFF


def sin(s: ScalarBuilder, x: Value) -> Value:
    """`+-sin(r)` or `+-cos(r)` for x = r + q pi/2, after Cody and Waite.

    From `_LIMIT` on in a rare path with the bits of 2/pi, after Payne and Hanek.
    """
    return _sin_cos(s, x, 0, "sin_huge")


def cos(s: ScalarBuilder, x: Value) -> Value:
    """As sin, one quadrant on."""
    return _sin_cos(s, x, 1, "cos_huge")


def tan(s: ScalarBuilder, x: Value) -> Value:
    """`tan(r)` or `-1/tan(r)` for x = r + q pi/2, reduced as for sin.

    The rounding error of r is kept, since tan can double it.
    """
    f = format_of(s, x)
    shifted, n = round_by_magic(s, f, x, _TWO_OVER_PI)
    p1, p2, p3 = _HALF_PI[f]
    above = s.fma(n, -p1, x)
    step = s.mul(n, p2)
    r = s.sub(above, step)
    low = s.sub(s.sub(s.sub(above, r), step), s.fma(n, p2, s.neg(step)))
    low = s.fma(n, -p3, low)
    y = _tan_by_quadrant(s, f, r, low, s.bitcast(shifted, f.int_))
    y = s.select(s.eq(x, 0.0), x, y)  # -0
    return s.rare(s.ge(s.abs(x), _LIMIT[f]), "tan_huge", (x,), y)


def sin_huge(s: ScalarBuilder, x: Value) -> Value:
    """sin x for any |x| >= 1 by 192 bits of 2/pi; slow. NaN at infinity."""
    return _huge(s, x, 0)


def cos_huge(s: ScalarBuilder, x: Value) -> Value:
    """cos x for any |x| >= 1, as `sin_huge`."""
    return _huge(s, x, 1)


def tan_huge(s: ScalarBuilder, x: Value) -> Value:
    """tan x for any |x| >= 1, as `sin_huge`."""
    dtype = s.dtype(x)
    wide = s.convert(x, dtypes.float64)
    r, low, q = _reduce_huge(s, wide)
    y = _tan_by_quadrant(s, F64, r, low, q)
    y = s.select(s.lt(wide, 0.0), s.neg(y), y)
    return s.convert(s.select(s.lt(s.abs(wide), math.inf), y, math.nan), dtype)


def _sin_cos(s: ScalarBuilder, x: Value, quadrant: int, huge: str) -> Value:
    f = format_of(s, x)
    shifted, n = round_by_magic(s, f, x, _TWO_OVER_PI)
    r = x
    for part in _HALF_PI[f]:  # the first step is exact, the second is where r is small
        r = s.fma(n, -part, r)
    q = s.bitcast(shifted, f.int_)
    y = _by_quadrant(s, f, r, s.add(q, quadrant) if quadrant else q)
    if quadrant == 0:
        y = s.select(s.eq(x, 0.0), x, y)  # -0
    return s.rare(s.ge(s.abs(x), _LIMIT[f]), huge, (x,), y)


def is_near_zero(s: ScalarBuilder, x: Value) -> Value:
    """Is |x| <= pi/4?"""
    return s.le(s.abs(x), math.pi / 4)


def sin_near_zero(s: ScalarBuilder, x: Value) -> Value:
    """sin x for |x| <= pi/4, to the bit what `sin` gives."""
    y, _ = _both(s, format_of(s, x), x)
    return s.select(s.eq(x, 0.0), x, y)  # -0


def cos_near_zero(s: ScalarBuilder, x: Value) -> Value:
    """cos x for |x| <= pi/4, to the bit what `cos` gives."""
    return _both(s, format_of(s, x), x)[1]


def _both(s: ScalarBuilder, f: Format, r: Value) -> tuple[Value, Value]:
    """(sin r, cos r) for |r| <= pi/4."""
    z = s.mul(r, r)
    sine = s.fma(s.mul(r, z), polynomial(s, z, _SIN[f]), r)
    cosine = s.fma(s.mul(z, z), polynomial(s, z, _COS[f]), s.fma(z, -0.5, 1.0))
    return sine, cosine


def _by_quadrant(s: ScalarBuilder, f: Format, r: Value, q: Value) -> Value:
    """`sin(r + q pi/2)` for |r| <= pi/4."""
    sine, cosine = _both(s, f, r)
    y = s.select(s.eq(s.and_(q, 1), 0), sine, cosine)
    sign = s.shl(s.and_(q, 2), f.float_.bits - 2)
    return s.bitcast(s.xor(s.bitcast(y, f.int_), sign), f.float_)


def _tan_by_quadrant(s: ScalarBuilder, f: Format, r: Value, low: Value, q: Value) -> Value:
    """`tan(r + low + q pi/2)` for |r| <= pi/4: t = tan r in two parts, or -1/t by Newton's step."""
    z = s.mul(r, r)
    low = s.fma(s.mul(low, z), 1.6, low)  # times nearly 1 + tan(r)**2
    tail = s.fma(s.mul(r, z), polynomial(s, z, _TAN[f]), low)
    t = s.add(r, tail)
    low = s.add(s.sub(r, t), tail)
    inverse = s.div(-1.0, t)
    rest = s.fma(inverse, low, s.fma(inverse, t, 1.0))
    return s.select(s.eq(s.and_(q, 1), 0), t, s.fma(inverse, rest, inverse))


def _huge(s: ScalarBuilder, x: Value, quadrant: int) -> Value:
    dtype = s.dtype(x)
    wide = s.convert(x, dtypes.float64)
    r, _, q = _reduce_huge(s, wide)
    negative = s.lt(wide, 0.0)
    r, q = s.select(negative, s.neg(r), r), s.select(negative, s.neg(q), q)
    y = _by_quadrant(s, F64, r, s.add(q, quadrant))
    y = s.select(s.lt(s.abs(wide), math.inf), y, math.nan)
    return s.convert(y, dtype)


def _reduce_huge(s: ScalarBuilder, x: Value) -> tuple[Value, Value, Value]:
    """`|x| = r + low + q pi/2` in float64 for |x| >= 1: (r, low, q).

    With |x| = m 2**k, bits of 2/pi of weight 2**(2-k) and more only add multiples of four
    quadrants. The 192 bits below, times m modulo 2**192, are the quadrant and a fraction with
    error 2**-71; no float64 comes closer to a multiple of pi/2 than 2**-61.
    """
    bits = s.bitcast(s.abs(x), dtypes.uint64)
    m = s.or_(s.and_(bits, (1 << 52) - 1), 1 << 52)
    start = s.sub(s.lshr(bits, 52), 1075 - 62)  # of the window, in bits of the table
    a, b, c = _window(s, start)
    middle = s.mul(m, b)
    low = s.add(middle, _multiply_high(s, m, c))
    carry = s.select(s.lt(low, middle), s.const(1, dtypes.uint64), 0)
    high = s.add(s.add(s.mul(m, a), _multiply_high(s, m, b)), carry)
    # two bits of quadrant, then the fraction, taken as signed so that it is within 1/2
    top = s.bitcast(s.or_(s.shl(high, 2), s.lshr(low, 62)), dtypes.int64)
    q = s.bitcast(s.add(s.lshr(high, 62), s.and_(s.lshr(high, 61), 1)), dtypes.int64)
    big = s.convert(top, dtypes.float64)
    rest = s.convert(s.sub(top, s.convert(big, dtypes.int64)), dtypes.float64)
    below = s.convert(s.lshr(s.shl(low, 2), 11), dtypes.float64)  # 53 bits: exact
    rest = s.fma(below, 2.0**-53, rest)
    fraction = s.add(big, rest)
    rest = s.mul(s.add(s.sub(big, fraction), rest), 2.0**-64)
    fraction = s.mul(fraction, 2.0**-64)
    p1, p2, _ = _HALF_PI[F64]
    below = s.fma(fraction, p2, s.mul(rest, p1))
    r = s.fma(fraction, p1, below)
    return r, s.add(s.fma(fraction, p1, s.neg(r)), below), q


def _window(s: ScalarBuilder, start: Value) -> tuple[Value, Value, Value]:
    """Three words of the table from bit `start` on."""
    position = s.lshr(start, 6)
    position = s.select(s.lt(position, 16), position, 16)
    words = [s.lookup(s.add(position, i), _TWO_OVER_PI_WORDS, dtypes.uint64) for i in range(4)]
    bit = s.and_(start, 63)
    back = s.sub(64, bit)  # a shift by 64 gives 0
    a, b, c = (s.or_(s.shl(words[i], bit), s.lshr(words[i + 1], back)) for i in range(3))
    return a, b, c


def _multiply_high(s: ScalarBuilder, x: Value, y: Value) -> Value:
    """The high word of the 128-bit product of x < 2**53 and y."""
    x0, x1 = s.and_(x, _LOW), s.lshr(x, 32)
    y0, y1 = s.and_(y, _LOW), s.lshr(y, 32)
    cross = s.mul(x0, y1)
    middle = s.add(s.add(s.lshr(s.mul(x0, y0), 32), s.and_(cross, _LOW)), s.mul(x1, y0))
    return s.add(s.add(s.mul(x1, y1), s.lshr(cross, 32)), s.lshr(middle, 32))
