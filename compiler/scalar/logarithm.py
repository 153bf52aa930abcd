"""log and its relatives, over the primitives; polynomials are own fits (Remez, 50 digits)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphgrad.compiler.scalar.formats import (
    F32,
    F64,
    Format,
    format_of,
    polynomial,
    small_to_float,
)

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

# log2(e) in two parts
_LOG2E = {
    F32: (1.4426950216293335, 1.925963033500011e-08),
    F64: (1.4426950408889634, 2.0355273740931033e-17),
}
# log10(e) and log10(2) in two parts each
_LOG10E = {
    F32: (0.4342944920063019, -1.0103049952192578e-08),
    F64: (0.4342944819032518, 1.098319650216765e-17),
}
_LOG10_2 = {
    F32: (0.3010300099849701, -1.432098883924482e-08),
    F64: (0.3010299956639812, -2.8037281277851704e-18),
}
# (log(1 + f) - f + f**2 / 2) / f**3 on sqrt(1/2) - 1 <= f <= sqrt(2) - 1
_LOG32 = (
    0.3333331671628368585383, -0.2500081057208141560296, 0.200022869310406249231,
    -0.166245492786079652554, 0.1418117962094208453083, -0.1312878807175496077981,
    0.1288172259181374597413, -0.07859602995664405058373,
)  # fmt: skip
# (log((1 + q) / (1 - q)) / q - 2) / q**2 in z = q**2, for q = f / (2 + f) of the same f
_LOG64 = (
    0.6666666666666734878105, 0.3999999999941114215042, 0.2857142874325957505081,
    0.2222219847569130226317, 0.1818356978028188692221, 0.1531390170173742051393,
    0.147975272022296691009,
)  # fmt: skip


def reduce_log(s: ScalarBuilder, f: Format, x: Value) -> tuple[Value, Value]:
    """`x = 2**e m` with m in [sqrt(1/2), sqrt(2)): (e as an integer, m); x must be normal."""
    bits = s.bitcast(x, f.int_)
    above = s.sub(bits, f.sqrt_half_bits)
    e = s.ashr(above, f.mantissa)
    m = s.sub(bits, s.and_(above, -(1 << f.mantissa)))
    return e, s.bitcast(m, f.float_)


def split(s: ScalarBuilder, f: Format, x: Value) -> tuple[Value, Value]:
    """As `reduce_log`, but for subnormal x too, and with e as a float."""
    k = f.mantissa + 1
    small = s.lt(x, f.tiny)
    e, m = reduce_log(s, f, s.select(small, s.mul(x, 2.0**k), x))
    shifted = s.bitcast(s.add(e, f.magic_bits), f.float_)
    return s.sub(shifted, s.select(small, s.const(f.magic + k, f.float_), f.magic)), m


def log_of_parts(s: ScalarBuilder, f: Format, e: Value | None, m: Value) -> Value:
    """`log(m) + e ln2` for m in [sqrt(1/2), sqrt(2)), e an integer in a float."""
    return log_reduced(s, f, s.sub(m, 1.0), e, above=s.add(m, 1.0))


def log_reduced(
    s: ScalarBuilder, f: Format, m1: Value, e: Value | None, small: Value | None = None,
    above: Value | None = None,
) -> Value:  # fmt: skip
    """`log(1 + m1) + e ln2 + small` for 1 + m1 in [sqrt(1/2), sqrt(2)), e an integer in a float;
    `above` is 2 + m1, if somebody has it.

    float32: `m1 - m1**2 / 2 + m1**3 P(m1)`. float64, after FreeBSD's e_log.c: with
    q = m1 / (2 + m1), `m1 - (h - q (h + R(q**2)))`, h = m1**2 / 2.
    """
    low = small
    if e is not None:
        low = s.mul(e, f.ln2[1]) if small is None else s.fma(e, f.ln2[1], small)
    if f is F32:
        m2 = s.mul(m1, m1)
        m3, p = s.mul(m2, m1), polynomial(s, m1, _LOG32)
        y = s.mul(m3, p) if low is None else s.fma(m3, p, low)
        y = s.add(m1, s.fma(m2, -0.5, y))
    else:
        q = s.div(m1, s.add(m1, 2.0) if above is None else above)
        z = s.mul(q, q)
        h = s.mul(s.mul(m1, m1), 0.5)
        p = s.fma(z, polynomial(s, z, _LOG64), h)
        y = s.mul(q, p) if low is None else s.fma(q, p, low)
        y = s.sub(m1, s.sub(h, y))
    return y if e is None else s.fma(e, f.ln2[0], y)


def log(s: ScalarBuilder, x: Value) -> Value:
    """`e ln2 + log(m)`, x = 2**e m."""
    f = format_of(s, x)
    e, m = split(s, f, x)
    y = log_of_parts(s, f, e, m)
    return _log_specials(s, x, y, 0.0)


def is_normal(s: ScalarBuilder, x: Value) -> Value:
    """Is x positive, normal and finite?"""
    return s.and_(s.ge(x, format_of(s, x).tiny), s.lt(x, math.inf))


def log_of_normal(s: ScalarBuilder, x: Value) -> Value:
    """log x of an x that `is_normal`, to the bit what `log` gives."""
    f = format_of(s, x)
    e, m = reduce_log(s, f, x)
    return log_of_parts(s, f, small_to_float(s, f, e), m)


def log2(s: ScalarBuilder, x: Value) -> Value:
    """`e + log(m) log2(e)`, x = 2**e m; exact at powers of two."""
    f = format_of(s, x)
    e, m = split(s, f, x)
    y = log_of_parts(s, f, None, m)
    y = s.fma(y, _LOG2E[f][0], s.fma(y, _LOG2E[f][1], e))
    return _log_specials(s, x, y, 0.0)


def log10(s: ScalarBuilder, x: Value) -> Value:
    """`e log10(2) + log(m) log10(e)`, x = 2**e m; exact at powers of ten."""
    f = format_of(s, x)
    e, m = split(s, f, x)
    y = log_of_parts(s, f, None, m)
    low = s.fma(y, _LOG10E[f][1], s.mul(e, _LOG10_2[f][1]))
    y = s.fma(e, _LOG10_2[f][0], s.fma(y, _LOG10E[f][0], low))
    return _log_specials(s, x, y, 0.0)


def _log_specials(s: ScalarBuilder, x: Value, y: Value, pole: float) -> Value:
    """`y`, with -inf at the pole, NaN below, and x itself where it is inf or NaN."""
    y = s.select(s.lt(x, math.inf), y, x)
    return s.select(
        s.le(x, pole), s.select(s.eq(x, pole), s.const(-math.inf, s.dtype(x)), math.nan), y
    )


def log1p(s: ScalarBuilder, x: Value) -> Value:
    """`e ln2 + log(1 + m1)` where 1 + x = 2**e (1 + m1): m1 = x 2**-e + (2**-e - 1), one rounding.

    e is taken from the rounded 1 + x, and 2**-e - 1 is exact (or irrelevant), so that no digit
    of a small x is lost.
    """
    f = format_of(s, x)
    e, m = reduce_log(s, f, s.add(x, 1.0))
    m1, _ = _log1p_mantissa(s, f, x, e, m)
    y = log_reduced(s, f, m1, small_to_float(s, f, e))
    y = s.select(s.eq(x, 0.0), x, y)
    return _log_specials(s, x, y, -1.0)


def log1p_of_unit(s: ScalarBuilder, x: Value) -> Value:
    """log(1 + x) for 0 <= x <= 1: e is 0 or 1, and there are no special values."""
    f = format_of(s, x)
    upper = s.ge(x, math.sqrt(2) - 1)
    m1 = s.select(upper, s.fma(x, 0.5, -0.5), x)
    return log_reduced(s, f, m1, s.select(upper, s.const(1.0, f.float_), 0.0))


def log1p_in_two_parts(s: ScalarBuilder, f: Format, x: Value, low: Value, doubled: Value) -> Value:
    """`log(1 + x + low) + doubled ln2` for x >= 0 and low within a few last places of x."""
    e, m = reduce_log(s, f, s.add(x, 1.0))
    m1, down = _log1p_mantissa(s, f, x, e, m)
    rest = s.mul(s.mul(low, down), s.fma(m1, s.sub(m1, 1.0), 1.0))  # low / (1 + x), nearly
    return log_reduced(s, f, m1, s.add(small_to_float(s, f, e), doubled), rest)


def _log1p_mantissa(
    s: ScalarBuilder, f: Format, x: Value, e: Value, m: Value
) -> tuple[Value, Value]:
    """`(1 + x) 2**-e - 1`, and 2**-e; m stands for the former where the latter may underflow."""
    down = s.bitcast(s.shl(s.sub(f.bias, e), f.mantissa), f.float_)
    m1 = s.fma(x, down, s.sub(down, 1.0))
    return s.select(s.gt(x, 2.0 ** (2 * f.mantissa)), s.sub(m, 1.0), m1), down
