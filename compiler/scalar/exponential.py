"""exp, exp2 and expm1, over the primitives.

The reduction is Cody and Waite's with fma; polynomials are own minimax fits (Remez, 50 digits).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphgrad.compiler.scalar.formats import (
    F32,
    F64,
    Format,
    clamp,
    format_of,
    polynomial,
    power_of_two,
    round_by_magic,
)

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

# (exp(r) - 1 - r) / r**2 on |r| <= 1.003 * ln(2) / 2
_EXP = {
    F32: (
        0.5000000098967042866594, 0.166665171179449997014, 0.04166619506228645530563,
        0.008369096524945076034059, 0.001395114889549988860671,
    ),
    F64: (
        0.5000000000000013110978, 0.1666666666666670023317, 0.0416666666665119000636,
        0.008333333333306493469161, 0.00138888889480299018296, 0.0001984126991890558989005,
        2.480148881110624241614e-05, 2.755721494149733921929e-06, 2.763170941220900144132e-07,
        2.511829296560164173588e-08,
    ),
}  # fmt: skip
# (2**r - 1) / r on |r| <= 1/2
EXP2 = {
    F32: (
        0.6931472062432914551234, 0.240226513494268822489, 0.05550327792621387250035,
        0.009618003554049420403776, 0.001340027006150191436198, 0.000154763784063501041177,
    ),
    F64: (
        0.6931471805599453083677, 0.2402265069591007120549, 0.05550410866482169828203,
        0.009618129107628495184986, 0.001333355814639047867027, 0.0001540353039334109940863,
        1.525273385619487510157e-05, 1.321548683305972565284e-06, 1.017805122825945258744e-07,
        7.054888248995267264146e-09, 4.456670618527971780071e-10, 2.574181201108930013389e-11,
    ),
}  # fmt: skip


def ldexp(s: ScalarBuilder, x: Value, n: Value) -> Value:
    """`x * 2**n` in two exact steps and one rounding: n/2 first, so that neither step overflows."""
    f = format_of(s, x)
    half = s.ashr(n, 1)
    for part in (half, s.sub(n, half)):
        x = s.mul(x, s.bitcast(s.shl(s.add(part, f.bias), f.mantissa), f.float_))
    return x


def reduce_exp(s: ScalarBuilder, f: Format, x: Value) -> tuple[Value, Value]:
    """`x = n ln2 + r` with |r| <= ln2 / 2: (magic + n, r); |x| must be within `exp_range`."""
    shifted, n = round_by_magic(s, f, x, f.log2e)
    r = s.fma(n, -f.ln2[0], x)
    return shifted, s.fma(n, -f.ln2[1], r)


def expm1_reduced(s: ScalarBuilder, f: Format, r: Value) -> Value:
    """`exp(r) - 1 = r + r**2 P(r)` on the reduced range."""
    return s.fma(s.mul(r, r), polynomial(s, r, _EXP[f]), r)


def expm1_tail(s: ScalarBuilder, f: Format, r: Value, low: Value) -> Value:
    """`exp(r + low) - 1 - r = r**2 P(r) + low` on the reduced range."""
    return s.fma(s.mul(r, r), polynomial(s, r, _EXP[f]), low)


def exp(s: ScalarBuilder, x: Value) -> Value:
    """`2**n exp(r)`, r = x - n ln2."""
    f = format_of(s, x)
    shifted, r = reduce_exp(s, f, clamp(s, x, *f.exp_range))
    n = s.sub(s.bitcast(shifted, f.int_), f.magic_bits)
    return s.ldexp(s.add(expm1_reduced(s, f, r), 1.0), n)


def is_moderate(s: ScalarBuilder, x: Value) -> Value:
    """Is exp x normal, and 2**n as well?"""
    return s.le(s.abs(x), 80.0 if format_of(s, x) is F32 else 700.0)


def exp_of_moderate(s: ScalarBuilder, x: Value) -> Value:
    """exp x where that `is_moderate`, to the bit what `exp` gives."""
    f = format_of(s, x)
    shifted, r = reduce_exp(s, f, x)
    return s.mul(s.add(expm1_reduced(s, f, r), 1.0), power_of_two(s, f, shifted))


def exp_of_negative(s: ScalarBuilder, x: Value) -> Value:
    """exp x for x <= 0: the power of two in one step, since it cannot overflow."""
    f = format_of(s, x)
    shifted, r = reduce_exp(s, f, clamp(s, x, f.exp_range[0], None))
    y = s.mul(s.add(expm1_reduced(s, f, r), 1.0), power_of_two(s, f, shifted, 64))
    return s.mul(y, 2.0**-64)


def exp2(s: ScalarBuilder, x: Value) -> Value:
    """`2**n 2**r`, r = x - n exactly."""
    f = format_of(s, x)
    x = clamp(s, x, f.exp_range[0] * 1.5, f.exp_range[1] * 1.5)
    shifted = s.add(x, f.magic)
    r = s.sub(x, s.sub(shifted, f.magic))
    n = s.sub(s.bitcast(shifted, f.int_), f.magic_bits)
    return s.ldexp(s.fma(r, polynomial(s, r, EXP2[f]), 1.0), n)


def expm1(s: ScalarBuilder, x: Value) -> Value:
    """`2 (2**(n-1) (exp(r) - 1) + (2**(n-1) - 1/2))`: halved so that n may be the top exponent.

    float64 keeps the rounding error of r, which the half-cancelled sum would show.
    """
    f = format_of(s, x)
    low = -20.0 if f is F32 else -40.0  # exp(low) < ulp(1) / 4
    bounded = clamp(s, x, low, f.exp_range[1])
    shifted, n = round_by_magic(s, f, bounded, f.log2e)
    near = s.fma(n, -f.ln2[0], bounded)
    r = s.fma(n, -f.ln2[1], near)
    if f is F32:
        p = expm1_reduced(s, f, r)
    else:
        lost = s.fma(n, -f.ln2[1], s.sub(near, r))
        p = s.add(expm1_tail(s, f, r, lost), r)
    scale = power_of_two(s, f, shifted, -1)
    y = s.fma(scale, p, s.sub(scale, 0.5))
    return s.select(s.lt(s.abs(x), 2.0 ** (-f.mantissa - 2)), x, s.add(y, y))
