"""asin, acos, atan and atan2, over the primitives; polynomials are own minimax fits (Remez)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphgrad.compiler.scalar.formats import F32, F64, Format, format_of, polynomial

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

_HALF_PI = {
    F32: (1.57079637050628662109375, -4.371139000186243e-08),
    F64: (1.5707963267948966, 6.123233995736766e-17),
}
# (asin(t)/t - 1)/t**2 in z = t**2, t <= 1/2
_ASIN = {
    F32: (
        0.1666675247997157466079, 0.07495297659454021356148, 0.04547037633519064469642,
        0.0241795069507478199993, 0.04216632900295330251989,
    ),
    F64: (
        0.1666666666666541041035, 0.07500000000336700092749, 0.04464285682856184367568,
        0.03038195912802838554664, 0.02237175825292845816813, 0.01735970185360377179547,
        0.0138852629588110716709, 0.01216903869055239203173, 0.006528692191057342985922,
        0.01952638513209535018959, -0.01622142683564530700571, 0.03191041513219731151354,
    ),
}  # fmt: skip
# (atan(q)/q - 1)/q**2 in z = q**2, q <= 1
_ATAN = {
    F32: (
        -0.333332990853948823296, 0.1999854809698396222027, -0.1426423969654066698239,
        0.1095217663658587415734, -0.08403428017303289873362, 0.05795728422234511748766,
        -0.03117760271758697222353, 0.01091450588166211834054, -0.001793605352690997332078,
    ),
    F64: (
        -0.333333333333318575958, 0.199999999997549132685, -0.1428571427133122778056,
        0.1111111067868467842855, -0.09090901234694954308259, 0.07692212925656018417248,
        -0.06665860340939388077582, 0.05877307709812876736988, -0.05239232936937027346756,
        0.04673949844358625200133, -0.04092639557172197617517, 0.0340678457802988191505,
        -0.02582685646741445936849, 0.01697810785351677205484, -0.009184621163796101706338,
        0.00385601228767850980885, -0.001164086823683371753231, 0.0002230260468032112651395,
        -2.025895455968526279135e-05,
    ),
}  # fmt: skip


def asin(s: ScalarBuilder, x: Value) -> Value:
    """`t + t z P(z)`, t = |x|; from 1/2 on, pi/2 less twice that for t = sqrt((1 - |x|)/2)."""
    f = format_of(s, x)
    big, t, rest = _asin_parts(s, f, x)
    near, low = _HALF_PI[f]
    y = s.select(big, s.sub(near, s.fma(2.0, t, s.fma(2.0, rest, -low))), s.add(t, rest))
    return s.copysign(y, x)


def acos(s: ScalarBuilder, x: Value) -> Value:
    """pi/2 - asin x; but 2 asin(t) from 1/2 on, and pi less that below -1/2, t as for asin."""
    f = format_of(s, x)
    big, t, rest = _asin_parts(s, f, x)
    near, low = _HALF_PI[f]
    negative = s.lt(x, 0.0)
    base = s.select(big, s.select(negative, s.const(2 * near, f.float_), 0.0), near)
    base_low = s.select(big, s.select(negative, s.const(2 * low, f.float_), 0.0), low)
    sign = s.copysign(1.0, x)
    scale = s.select(big, s.add(sign, sign), s.neg(sign))
    return s.add(base, s.fma(scale, t, s.fma(scale, rest, base_low)))


def _asin_parts(s: ScalarBuilder, f: Format, x: Value) -> tuple[Value, Value, Value]:
    """Whether |x| is above 1/2, t and asin(t) - t; NaN where |x| > 1."""
    a = s.abs(x)
    big = s.gt(a, 0.5)
    z = s.select(big, s.fma(a, -0.5, 0.5), s.mul(a, a))
    t = s.select(big, s.sqrt(z), a)
    return big, t, s.mul(s.mul(t, z), polynomial(s, z, _ASIN[f]))


def atan(s: ScalarBuilder, x: Value) -> Value:
    """`q + q**3 P(q**2)` for q = |x|, or pi/2 less that for q = 1/|x|."""
    f = format_of(s, x)
    a = s.abs(x)
    big = s.gt(a, 1.0)
    q = s.select(big, s.div(1.0, a), a)
    return s.copysign(_atan_of_unit(s, f, q, big), x)


def _atan_of_unit(s: ScalarBuilder, f: Format, q: Value, from_half_pi: Value) -> Value:
    """atan q for 0 <= q <= 1, or pi/2 - atan q."""
    z = s.mul(q, q)
    rest = s.mul(s.mul(q, z), polynomial(s, z, _ATAN[f]))
    near, low = _HALF_PI[f]
    base = s.select(from_half_pi, s.const(near, f.float_), q)
    rest = s.select(from_half_pi, s.sub(s.sub(low, rest), q), rest)
    return s.add(base, rest)


def atan2(s: ScalarBuilder, y: Value, x: Value) -> Value:
    """atan of the lesser of |x| and |y| over the greater, put into its eighth of the circle."""
    f = format_of(s, x)
    a, b = s.abs(x), s.abs(y)
    steep = s.gt(b, a)
    top, bottom = s.select(steep, a, b), s.select(steep, b, a)
    q = s.div(top, bottom)
    q = s.select(s.eq(top, bottom), 1.0, q)  # inf / inf
    q = s.select(s.eq(bottom, 0.0), 0.0, q)  # 0 / 0
    angle = _atan_of_unit(s, f, q, steep)
    near, low = _HALF_PI[f]
    left = s.signbit(x)
    angle = s.select(left, s.sub(2 * near, s.sub(angle, 2 * low)), angle)
    nan = s.or_(s.isnan(x), s.isnan(y))
    return s.select(nan, math.nan, s.copysign(angle, y))
