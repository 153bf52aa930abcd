"""The hyperbolic functions, their inverses and the logistic pair, over the primitives.

All odd functions are computed for |x| and take the sign of x, so that they are exactly odd.
Polynomials are own minimax fits (Remez, 60 digits).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphgrad.compiler.scalar.exponential import (
    exp_of_negative,
    expm1_reduced,
    expm1_tail,
)
from graphgrad.compiler.scalar.formats import (
    F32,
    F64,
    Format,
    clamp,
    format_of,
    polynomial,
    power_of_two,
    round_by_magic,
    small_to_float,
)
from graphgrad.compiler.scalar.logarithm import log1p_in_two_parts, log1p_of_unit, reduce_log

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

# (sinh(r)/r - 1)/r**2 and (cosh(r) - 1)/r**2 in z = r**2, |r| <= 1.003 ln(2)/2
_SINH = {
    F32: (0.1666654204152824287055, 0.008366728380604648170296),
    F64: (
        0.1666666666666667681798, 0.008333333333321397909117, 0.0001984126988680560585674,
        2.755724344383772853145e-06, 2.510932980183427842946e-08,
    ),
}  # fmt: skip
_COSH = {
    F32: (0.5000000080493132691451, 0.0416662625013659254934, 0.001394655887894144820599),
    F64: (
        0.5000000000000013291485, 0.04166666666651072258274, 0.001388888894828674796172,
        2.480148858129174327621e-05, 2.763178205228944056873e-07,
    ),
}  # fmt: skip
# (atanh(q)/q - 1)/q**2 in z = q**2, |q| <= 1.001/3
_ATANH = {
    F32: (
        0.3333320711644845092907, 0.2001083141360155599606, 0.139996623242060416281,
        0.1401267931763407584552,
    ),
    F64: (
        0.333333333333331510268, 0.2000000000007909034973, 0.1428571427385190440604,
        0.1111111199041403249682, 0.09090871738320953832507, 0.07693285302578264058431,
        0.06650409731142682758682, 0.06053704239778877764885, 0.04166949717017922880827,
        0.08515408316474046802596,
    ),
}  # fmt: skip


def tanh(s: ScalarBuilder, x: Value) -> Value:
    """`q = h / (1 + h)`, h = (exp(2 |x|) - 1)/2, and the same as `h - h q` where h is below 1/2.

    The rounding of 1 + h, which can be the whole last place of a small q, is scaled by h there.
    """
    f = format_of(s, x)
    a = clamp(s, s.abs(x), None, 9.5 if f is F32 else 20.0)  # beyond, tanh rounds to 1
    shifted, n = round_by_magic(s, f, a, 2 * f.log2e)
    r = s.fma(n, -f.ln2[0], s.add(a, a))
    half = power_of_two(s, f, shifted, -1)
    if f is F32:  # where the second part of ln2 is 2**-29
        p = expm1_reduced(s, f, r)
    else:
        p = s.add(expm1_tail(s, f, r, s.mul(n, -f.ln2[1])), r)
    h = s.fma(half, p, s.sub(half, 0.5))
    q = s.div(h, s.add(h, 1.0))
    y = s.select(s.lt(h, 0.5), s.fma(s.neg(h), q, h), q)
    return s.copysign(y, x)


def sigmoid(s: ScalarBuilder, x: Value) -> Value:
    """With e = exp(-|x|) and q = e / (1 + e): `1 - q` for x >= 0, and q as `e - e q` else."""
    e = exp_of_negative(s, s.neg(s.abs(x)))
    q = s.div(e, s.add(e, 1.0))
    top = s.select(s.lt(x, 0.0), e, 1.0)
    return s.fma(s.neg(top), q, top)


def softplus(s: ScalarBuilder, x: Value) -> Value:
    """`log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))`."""
    top = s.select(s.lt(x, 0.0), 0.0, x)
    return s.add(top, log1p_of_unit(s, exp_of_negative(s, s.neg(s.abs(x)))))


def sinh(s: ScalarBuilder, x: Value) -> Value:
    """`(2**n - 2**-n)/2 cosh(r) + (2**n + 2**-n)/2 sinh(r)` for |x| = n ln2 + r."""
    f = format_of(s, x)
    r, low, up, down, even, odd = _hyperbolic_parts(s, f, x)
    sum_, difference = s.add(up, down), s.sub(up, down)
    y = s.fma(difference, even, s.mul(sum_, s.fma(r, odd, low)))
    y = s.mul(s.add(s.fma(sum_, r, y), difference), 4.0)
    y = s.select(s.lt(s.abs(x), 2.0 ** (-f.mantissa // 2)), x, y)  # y / 4 may be subnormal
    return s.copysign(y, x)


def cosh(s: ScalarBuilder, x: Value) -> Value:
    """`(2**n + 2**-n)/2 cosh(r) + (2**n - 2**-n)/2 sinh(r)` for |x| = n ln2 + r."""
    f = format_of(s, x)
    r, low, up, down, even, odd = _hyperbolic_parts(s, f, x)
    difference = s.sub(up, down)
    y = s.fma(s.add(up, down), even, s.fma(difference, s.fma(r, odd, low), down))
    y = s.add(s.fma(difference, r, y), up)
    return s.mul(y, 4.0)


def _hyperbolic_parts(s: ScalarBuilder, f: Format, x: Value) -> tuple[Value, ...]:
    """r and its rounding error; `2**(n-3)` and `2**(-n-3)`; `cosh(r) - 1` and `sinh(r)/r - 1`.

    An eighth of the powers, so that the greatest finite result has no infinite part.
    """
    a = clamp(s, s.abs(x), None, f.exp_range[1] + 1.0)
    shifted, n = round_by_magic(s, f, a, f.log2e)
    near = s.fma(n, -f.ln2[0], a)
    r = s.fma(n, -f.ln2[1], near)
    low = s.fma(n, -f.ln2[1], s.sub(near, r))
    exponent = s.shl(s.bitcast(shifted, f.int_), f.mantissa)
    up = s.bitcast(s.add(exponent, (f.bias - 3) << f.mantissa), f.float_)
    down = s.sub((f.bias - 3) << f.mantissa, exponent)
    down = s.bitcast(s.select(s.lt(down, 0), 0, down), f.float_)  # 2**(-n-3), or 0
    z = s.mul(r, r)
    even, odd = s.mul(z, polynomial(s, z, _COSH[f])), s.mul(z, polynomial(s, z, _SINH[f]))
    return r, low, up, down, even, odd


def asinh(s: ScalarBuilder, x: Value) -> Value:
    """`log1p(a + a**2 / (1 + sqrt(1 + a**2)))`, a = |x|, its argument in two parts."""
    f = format_of(s, x)
    a = s.abs(x)
    p = s.mul(a, a)
    rest = s.div(p, s.add(s.sqrt(s.add(p, 1.0)), 1.0))
    w = s.add(a, rest)
    y = _log1p_or_log_of_double(s, f, a, w, s.sub(rest, s.sub(w, a)))
    return s.copysign(y, x)


def acosh(s: ScalarBuilder, x: Value) -> Value:
    """`log1p(u + sqrt(2u + u**2))`, u = x - 1, its argument in two parts."""
    f = format_of(s, x)
    u = s.sub(x, 1.0)  # exact
    t = s.fma(u, u, s.add(u, u))
    root = s.sqrt(t)
    lost = s.div(s.fma(s.neg(root), root, t), s.fma(root, 2.0, f.tiny))  # of the root: 0 for 0
    w = s.add(root, u)
    y = _log1p_or_log_of_double(s, f, x, w, s.add(s.sub(u, s.sub(w, root)), lost))
    return s.select(s.lt(x, 1.0), math.nan, y)


def _log1p_or_log_of_double(s: ScalarBuilder, f: Format, x: Value, w: Value, low: Value) -> Value:
    """`log(1 + w + low)`, but log(2x) where x is so large that w = x**2 loses or overflows."""
    large = s.gt(x, 2.0 ** (f.mantissa // 2 + 2))
    w, low = s.select(large, s.fma(x, 0.5, -1.0), w), s.select(large, 0.0, low)
    y = log1p_in_two_parts(s, f, w, low, s.select(large, s.const(2.0, f.float_), 0.0))
    return s.select(s.lt(x, math.inf), y, x)


def atanh(s: ScalarBuilder, x: Value) -> Value:
    """`e ln2 / 2 + atanh(q)`, q = ((1+a) - 2**e (1-a)) / ((1+a) + 2**e (1-a)), a = |x|.

    e makes (1 + a)/(1 - a) nearly 2**e, so that |q| <= 1/3; for small a it is 0 and q is a.
    """
    f = format_of(s, x)
    a = s.abs(x)
    e1, _ = reduce_log(s, f, s.add(a, 1.0))
    c = s.sub(1.0, a)
    e2, _ = reduce_log(s, f, c)
    e = s.sub(e1, e2)
    power = s.bitcast(s.shl(s.add(e, f.bias), f.mantissa), f.float_)
    below, above = s.sub(1.0, power), s.add(power, 1.0)
    # where c is exact, 1 + a is taken as 2 - c: above and below may be rounded there
    upper = s.ge(a, 0.5)
    t = s.select(upper, s.neg(c), a)
    top = s.fma(t, above, s.select(upper, 2.0, below))
    bottom = s.fma(t, below, s.select(upper, 2.0, above))
    q = s.div(top, bottom)
    z = s.mul(q, q)
    n = small_to_float(s, f, e)
    y = s.fma(s.mul(q, z), polynomial(s, z, _ATANH[f]), s.mul(n, 0.5 * f.ln2[1]))
    y = s.fma(n, 0.5 * f.ln2[0], s.add(q, y))
    y = s.select(s.lt(a, 1.0), y, s.select(s.eq(a, 1.0), s.const(math.inf, f.float_), math.nan))
    return s.copysign(y, x)
