"""The logarithm of the gamma function and its derivatives, and the Hurwitz zeta function, over the
primitives. Polynomials are own fits at Chebyshev points (50 digits)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from graphgrad.compiler import dtypes
from graphgrad.compiler.scalar.formats import F32, F64, clamp, format_of, polynomial

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

# lgamma(2 + t) / t on |t| <= 1/2
_NEAR_TWO = {
    F32: (
        0.422784335, 0.322467033469, -0.0673522814721, 0.0205807994715, -0.00738617415563,
        0.00289079532156, -0.0011858600345, 0.000506517142952, -0.000253817095673,
        0.000113472819946,
    ),
    F64: (
        0.4227843350984671356013, 0.3224670334241132200395, -0.06735230105319563865287,
        0.02058080842778337975533, -0.007385551028935544700021, 0.002890510330865900927688,
        -0.001192753900998308694434, 0.0005096695196526672779748, -0.0002231549774629272317,
        0.00009945761692157133131829, -0.0000449237275642476525886,
        0.00002050601970174761859779, -0.000009456288515101719173719,
        0.000004382854538384666771613, -0.000001974310688842106744355,
        9.242852225162276741901e-7, -5.811277768921246197665e-7, 2.747539005190966392054e-7,
    ),
}  # fmt: skip
# x (lgamma(x) - (x - 1/2) log(x) + x - log(2 pi) / 2) in 1 / x**2, x >= 8
_STIRLING = {
    F32: (
        0.0833333332646, -0.0027776985452, 0.000780034718983,
    ),
    F64: (
        0.08333333333333333272966, -0.002777777777773988157805, 0.0007936507897524058237533,
        -0.0005952365845057048616421, 0.0008414700852503139874652,
        -0.001890382993887677126307, 0.005065905360155387059514,
    ),
}  # fmt: skip
# digamma(3/2 + u) / (3/2 + u - root) on |u| <= 1/2
_NEAR_ROOT = {
    F32: (
        0.951055896233, -0.423627434739, 0.240538452992, -0.148402237521, 0.0951162217934,
        -0.0620070688613, 0.0393694193394, -0.0260488822271, 0.0239090714386,
        -0.0159063175616,
    ),
    F64: (
        0.9510558760318328928322, -0.423627421281460504976, 0.2405424842407742185581,
        -0.1484049230539088572083, 0.09498872445494121325346, -0.06192213327306453168951,
        0.04076083381242073601665, -0.02697579675613824879497, 0.0179072524394511993971,
        -0.01190821800156864475064, 0.007926944646403796037391, -0.00527996487325740420823,
        0.003519006401502276047254, -0.002345267632540769041034, 0.001556631747448683927693,
        -0.001037637409841860466961, 0.0007233266279287554155638,
        -0.0004821990530566788875497, 0.0002272331660987375880726,
        -0.0001514858683677336590162, 0.0002596848212643074655517,
        -0.0001731226180272739325847,
    ),
}  # fmt: skip
# x**2 (log(x) - 1 / (2 x) - digamma(x)) in 1 / x**2, x >= 8
_DIGAMMA_FAR = {
    F32: (
        0.0833333328568, -0.00833278354064, 0.00387358826212,
    ),
    F64: (
        0.08333333333333333312977, -0.008333333333331664172012, 0.003968253965999700647024,
        -0.004166665501516724559076, 0.007575459920369174869899, -0.02105106090804764112693,
        0.08002337465397328375742, -0.299425370626662050441,
    ),
}  # fmt: skip
# x**3 (trigamma(x) - 1 / x - 1 / (2 x**2)) in 1 / x**2, x >= 8
_TRIGAMMA_FAR = {
    F32: (
        0.166666662893, -0.0333289778001, 0.0230579324554,
    ),
    F64: (
        0.1666666666666666631821, -0.03333333333330475771098, 0.02380952377091136461349,
        -0.03333331335581845804735, 0.07575246348177584739923, -0.2523946862734585672597,
        1.109360196559651705418, -4.575304142112718185574,
    ),
}  # fmt: skip
_ROOT = {  # of digamma, as an unevaluated sum
    F32: (1.4616321325302124, 1.2438149938918909542e-08),
    F64: (1.4616321449683622, 9.5499954299656977152e-17),
}
_FAR = 8.0  # from here on the asymptotic series serve
_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
INF, NAN = float("inf"), float("nan")


def _steps(s: ScalarBuilder, x: Value, k: Value) -> list[tuple[Value, Value]]:
    """For j = 1 ... 6: whether j <= k, and x - j, which is exact for x < 8."""
    return [(s.ge(k, float(j)), s.sub(x, float(j))) for j in range(1, 7)]


def lgamma(s: ScalarBuilder, x: Value) -> Value:
    """log(|gamma(x)|) from a = |x|.

    Below 8 it is lgamma(2 + t) + log((a - 1) ... (a - k)) with |t| <= 1/2, or less log(a) or
    log(a (a + 1)) for a < 3/2: at the zeros a = 1 and a = 2 both terms vanish, and digits are kept.
    From 8 on Stirling's series. Then lgamma(-a) = log(pi / (a |sin(pi a)|)) - lgamma(a).
    """
    f = format_of(s, x)
    a = s.abs(x)
    tiny, low, far = s.lt(a, 0.5), s.lt(a, 1.5), s.ge(a, _FAR)
    k = s.floor(s.sub(a, 1.5))
    t = s.select(tiny, a, s.select(low, s.sub(a, 1.0), s.sub(s.sub(a, k), 2.0)))
    product = s.const(1.0, f.float_)
    for used, factor in _steps(s, a, k):
        product = s.select(used, s.mul(product, factor), product)
    product = s.select(tiny, s.mul(a, s.add(a, 1.0)), s.select(low, a, product))
    logarithm = s.log(s.select(far, a, product))
    near = s.add(s.mul(t, polynomial(s, t, _NEAR_TWO[f])), s.select(
        low, s.neg(logarithm), logarithm
    ))  # fmt: skip
    r = s.div(1.0, a)
    series = s.fma(r, polynomial(s, s.mul(r, r), _STIRLING[f]), _HALF_LOG_TWO_PI - 0.5)
    stirling = s.add(s.mul(s.sub(a, 0.5), s.sub(logarithm, 1.0)), series)
    y = s.select(far, stirling, near)
    reflected = s.sub(s.log(s.div(math.pi, s.mul(a, _sin_pi(s, a)))), y)
    y = s.select(s.and_(s.lt(x, 0.0), s.gt(a, 2.0**-40)), reflected, y)
    return s.select(s.eq(a, INF), a, y)


def _sin_pi(s: ScalarBuilder, x: Value) -> Value:
    """|sin(pi x)|: the distance to the nearest integer is exact."""
    return s.sin(s.mul(s.abs(s.sub(x, s.rint(x))), math.pi))


def digamma(s: ScalarBuilder, x: Value) -> Value:
    """The derivative of lgamma.

    Below 8 it is digamma(y) + 1 / y + ... + 1 / (x - 1) with y in [1, 2), the sum as one fraction,
    and digamma(y) = (y - root) P(y). From 8 on the asymptotic series. Then
    digamma(-a) = digamma(1 + a) + pi / tan(pi a); NaN at 0, -1, ..., where it has poles.
    """
    f = format_of(s, x)
    below = s.lt(x, 0.0)
    m = s.select(below, s.sub(1.0, x), x)
    low = s.lt(m, 1.0)
    k = s.floor(s.sub(m, 1.0))
    y = s.select(low, s.add(m, 1.0), s.sub(m, k))
    top, bottom = s.const(0.0, f.float_), s.const(1.0, f.float_)
    for used, d in _steps(s, m, k):
        top = s.select(used, s.fma(top, d, bottom), top)
        bottom = s.select(used, s.mul(bottom, d), bottom)
    quotient = s.div(s.select(low, -1.0, top), s.select(low, m, bottom))
    high, rest = _ROOT[f]
    distance = s.sub(s.sub(y, high), rest)
    near = s.fma(distance, polynomial(s, s.sub(y, 1.5), _NEAR_ROOT[f]), quotient)
    r = s.div(1.0, m)
    series = s.mul(r, s.fma(r, polynomial(s, s.mul(r, r), _DIGAMMA_FAR[f]), 0.5))
    z = s.select(s.ge(m, _FAR), s.sub(s.log(m), series), near)
    place = s.sub(x, s.rint(x))
    cosine = s.sin(s.mul(s.sub(0.5, s.abs(place)), math.pi))
    cotangent = s.copysign(s.div(cosine, _sin_pi(s, x)), place)
    z = s.select(below, s.sub(z, s.mul(cotangent, math.pi)), z)
    pole = s.and_(s.le(x, 0.0), s.eq(place, 0.0))
    return s.select(pole, NAN, z)


def trigamma(s: ScalarBuilder, x: Value) -> Value:
    """The derivative of digamma: below 8 the sum of 1 / (x + i)**2 over i < 8, as one fraction, and
    the asymptotic series at x + 8; then trigamma(-a) = (pi / sin(pi a))**2 - trigamma(1 + a)."""
    f = format_of(s, x)
    below = s.lt(x, 0.0)
    m = s.select(below, s.sub(1.0, x), x)
    near = s.lt(m, _FAR)
    top, bottom = s.const(0.0, f.float_), s.const(1.0, f.float_)
    for i in range(8):
        d = s.add(m, float(i))
        d = s.mul(d, d)
        top = s.fma(top, d, bottom)
        bottom = s.mul(bottom, d)
    r = s.div(1.0, s.select(near, s.add(m, _FAR), m))
    series = s.fma(r, s.fma(r, polynomial(s, s.mul(r, r), _TRIGAMMA_FAR[f]), 0.5), 1.0)
    z = s.fma(r, series, s.select(near, s.div(top, bottom), 0.0))
    slope = s.div(math.pi, _sin_pi(s, x))
    return s.select(below, s.sub(s.mul(slope, slope), z), z)


# The Bernoulli numbers B(2), B(4), ... B(24), as quotients.
_BERNOULLI = (
    (1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510), (43867, 798),
    (-174611, 330), (854513, 138), (-236364091, 2730),
)  # fmt: skip
_EULER_MACLAURIN = [a / (b * math.factorial(2 * k)) for k, (a, b) in enumerate(_BERNOULLI, start=1)]
_TERMS = 10


def zeta(s: ScalarBuilder, x: Value, q: Value) -> Value:
    """The sum of (q + i)**-x over i = 0, 1, ..., for x > 1 and q > 0: ten terms, and the rest by
    Euler and Maclaurin's formula. Inf at x = 1 and the poles q = 0, -1, ...; NaN elsewhere.

    In float64 throughout: powers leave the range of float32 where the sum does not.
    """
    if s.dtype(x) is dtypes.float32:
        return _in_float64(s, zeta, x, q)
    minus = s.neg(x)
    total = s.pow(q, minus)
    for i in range(1, _TERMS):
        total = s.add(total, s.pow(s.add(q, float(i)), minus))
    b = s.add(q, float(_TERMS))
    power = s.pow(b, minus)
    rest = s.mul(power, s.add(s.div(b, s.sub(x, 1.0)), 0.5))
    r = s.div(1.0, b)
    term = s.mul(s.mul(power, x), r)
    for k, c in enumerate(_EULER_MACLAURIN):
        if k:
            ratio = s.mul(s.mul(s.add(x, 2.0 * k - 1), r), s.mul(s.add(x, 2.0 * k), r))
            term = s.mul(term, ratio)
        rest = s.fma(term, c, rest)
    z = s.add(total, s.select(s.eq(power, 0.0), 0.0, rest))
    z = s.select(s.le(q, 0.0), s.select(s.eq(q, s.floor(q)), s.const(INF, s.dtype(q)), NAN), z)
    z = s.select(s.eq(x, 1.0), INF, s.select(s.lt(x, 1.0), NAN, z))
    return s.select(s.or_(s.ne(x, x), s.ne(q, q)), NAN, z)


def _in_float64(s: ScalarBuilder, fn: Callable[..., Value], *xs: Value) -> Value:
    """A function of float32 values, computed in float64 and rounded once."""
    return s.convert(fn(s, *(s.convert(x, dtypes.float64) for x in xs)), dtypes.float32)


_FACTORIALS = (*(float(math.factorial(n)) for n in range(171)), INF)


def polygamma(s: ScalarBuilder, a: Value, x: Value) -> Value:
    """The a-th derivative of digamma: (-1)**(a + 1) a! zeta(a + 1, x) for a = 2, 3, ...; NaN where
    a is no such number, and for x < 0 from a = 2 on."""
    if s.dtype(x) is dtypes.float32:
        return _in_float64(s, polygamma, a, x)
    order = s.select(s.ge(a, 0.0), a, 0.0)
    place = s.convert(clamp(s, order, None, len(_FACTORIALS) - 1.0), dtypes.int64)
    factorial = s.lookup(place, _FACTORIALS, dtypes.float64)
    size = s.mul(factorial, zeta(s, s.add(order, 1.0), x))
    half = s.mul(order, 0.5)
    y = s.select(s.eq(half, s.floor(half)), s.neg(size), size)
    y = s.select(s.eq(a, 1.0), trigamma(s, x), s.select(s.eq(a, 0.0), digamma(s, x), y))
    return s.select(s.and_(s.ge(a, 0.0), s.eq(a, s.floor(a))), y, NAN)
