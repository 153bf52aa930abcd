"""erf and erfc, over the primitives; polynomials are own minimax fits (Remez, 60 digits)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphgrad.compiler.scalar.exponential import expm1_reduced, expm1_tail, reduce_exp
from graphgrad.compiler.scalar.formats import (
    F32,
    F64,
    clamp,
    format_of,
    polynomial,
    power_of_two,
    round_by_magic,
)

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

_SPLIT = 0.921875
# erf(x)/x - 1 in x**2 on |x| <= 0.925
_ERF = {
    F32: (
        0.1283791666738374490161, -0.3761263400545594371554, 0.112836987361363450941,
        -0.0268595391693653181406, 0.005201304807103972295491, -0.0008145077646135669792705,
        8.377588766039488020912e-05,
    ),
    F64: (
        0.1283791670955125727284, -0.3761263890318371295147, 0.1128379167095291288105,
        -0.02686617064464576795609, 0.005223977619936664504232, -0.0008548326654753802947073,
        0.0001205531730672093936628, -1.492521064030010110206e-05, 1.645385357583161349129e-06,
        -1.626261949629686901299e-07, 1.397757061903444887339e-08, -8.324737685263627149654e-10,
    ),
}  # fmt: skip
# -log(erfc(a)) on 0.92 <= a <= 4 (6), weighted by erfc(a)
_LOG_ERFC = {
    F32: (
        0.0002070367758432822696893, 1.127627255274867338313, 0.6372660521207887581813,
        0.1038560564329861580715, -0.02218959401973354567341, 0.00303363844807149515726,
        -0.0001949403548151024804002,
    ),
    F64: (
        8.764304235219163496927e-08, 1.128378242506002995368, 0.6366242637650607478008,
        0.1027593521925194936171, -0.01910218680198242973234, -0.0002453455107045766155574,
        0.001729789134731636858495, -0.0006070463697809418289658, 2.13400130359344150443e-05,
        8.323629247951256280907e-05, -5.066800959800577100709e-05, 1.847576873652864218394e-05,
        -4.867336773465928516394e-06, 9.665940054644107757723e-07, -1.447030603843633044003e-07,
        1.591582170798978375178e-08, -1.216830674403242206158e-09, 5.782914712114609389779e-11,
        -1.286796966395067341129e-12,
    ),
}  # fmt: skip
# (1 + 2a) erfc(a) exp(a**2) - 1 in u = (a - k)/(a + k), 0 <= a <= top; erfc(top) rounds to 0
# (k, top); k makes P(0), the value at a = k, nearly a number of the format
_ERFCX_SHAPE = {F32: (2347 / 1024, 10.1), F64: (4.0, 27.4)}
_ERFCX = {
    F32: (
        0.26994952457481445541, -0.11262210629276374711, -0.12517618204515788323,
        0.16447545979737707941, -0.087096436154056268718, 0.015008001286784521401,
        0.0073034344918927146099, -0.0030836445917585859651, -0.00095263786802804021176,
        0.000423471238037173048, 0.00017347991662338197464,
    ),
    F64: (
        0.2329951186255525089, -0.13962111684056286189, 0.015379652102620087329,
        0.068097054254733998734, -0.10103906603632044231, 0.093732834996901063742,
        -0.066330365812112028498, 0.03716751556087409137, -0.016197734053837411332,
        0.005031969769528960667, -0.00075777336757390541581, -0.00019925557653041298867,
        0.00015062231608581026619, -0.000024402953329292982433, -0.00001122488813903913268,
        5.7174715108654229658e-06, 3.0137312890290606902e-07, -8.3469230756620821773e-07,
        6.2814074503680091646e-08, 1.1507420093954591311e-07, -7.8317302310058691522e-09,
        -1.3611500518668432015e-08, -1.7882294778733947706e-09,
    ),
}  # fmt: skip


def erf(s: ScalarBuilder, x: Value) -> Value:
    """`x + x P(x**2)` for |x| < 0.92, else `1 - exp(-G(|x|))`; one polynomial each, no division."""
    f = format_of(s, x)
    a = clamp(s, s.abs(x), None, 4.0 if f is F32 else 6.0)
    small = s.fma(x, polynomial(s, s.mul(x, x), _ERF[f]), x)
    shifted, r = reduce_exp(s, f, s.neg(polynomial(s, a, _LOG_ERFC[f])))
    scale = power_of_two(s, f, shifted)
    big = s.fma(s.neg(scale), expm1_reduced(s, f, r), s.sub(1.0, scale))
    return s.select(s.lt(a, _SPLIT), small, s.copysign(big, x))


def erfc(s: ScalarBuilder, x: Value) -> Value:
    """`exp(-a**2) (1 + P(u)) / (1 + 2a)`, a = |x|, u = (a - k)/(a + k); 2 less that for x < 0.

    After N. Juffa's erfcx: both quotients, from one division, are corrected by their residuals,
    and so is the rounding of a**2; q exp(r) is taken as q + q (exp(r) - 1). For |x| < 3/4 the
    error of u is too much, and erf's polynomial serves.
    """
    f = format_of(s, x)
    k, top = _ERFCX_SHAPE[f]
    a = clamp(s, s.abs(x), None, top)
    sum_, slope = s.add(a, k), s.fma(a, 2.0, 1.0)
    both = s.div(1.0, s.mul(sum_, slope))
    inverse = s.mul(both, slope)
    u = s.mul(s.sub(a, k), inverse)
    u = s.fma(s.fma(a, s.neg(u), s.fma(s.add(u, 1.0), -k, a)), inverse, u)
    first, *higher = _ERFCX[f]
    rise = polynomial(s, u, higher)
    p = s.fma(u, rise, first)
    p_low = s.fma(u, rise, s.sub(first, p))
    inverse = s.mul(both, sum_)
    q = s.fma(p, inverse, inverse)
    rest = s.fma(s.fma(q, s.neg(a), 0.5), 2.0, s.sub(p, q))  # 1 + p - q (1 + 2a)
    q_low = s.mul(s.add(rest, p_low), inverse)
    squared = s.mul(a, a)
    shifted, n = round_by_magic(s, f, squared, -f.log2e)
    near = s.fma(n, -f.ln2[0], s.neg(squared))
    low = s.fma(n, -f.ln2[1], s.fma(s.neg(a), a, squared))
    r = s.add(near, low)
    tail = expm1_tail(s, f, r, s.add(s.sub(near, r), low))
    y = s.add(s.fma(q, r, s.fma(q, tail, q_low)), q)
    y = s.mul(s.mul(y, power_of_two(s, f, shifted, 64)), 2.0**-64)  # may be subnormal
    y = s.select(s.lt(x, 0.0), s.sub(2.0, y), y)
    near_zero = s.fma(s.neg(x), polynomial(s, s.mul(x, x), _ERF[f]), s.sub(1.0, x))
    return s.select(s.lt(s.abs(x), 0.75), near_zero, y)
