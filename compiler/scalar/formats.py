"""What the expansions need to know about the two floating formats they compute in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value


@dataclass(frozen=True, slots=True)
class Format:
    """An IEEE binary format: its dtypes and the constants that range reductions use."""

    float_: DType
    int_: DType
    mantissa: int  # stored bits
    bias: int
    magic: float  # 1.5 * 2**mantissa: adding it rounds to an integer kept in the low bits
    magic_bits: int
    tiny: float  # least normal number
    ln2: tuple[float, float]  # ln 2 as an unevaluated sum; log2(e) follows
    log2e: float
    exp_range: tuple[float, float]  # outside, exp is 0 or overflows
    sqrt_half_bits: int


F32 = Format(
    float_=dtypes.float32,
    int_=dtypes.int32,
    mantissa=23,
    bias=127,
    magic=12582912.0,
    magic_bits=0x4B400000,
    tiny=2.0**-126,
    ln2=(0.6931471824645996, -1.9046542121259336e-09),
    log2e=1.4426950216293335,
    exp_range=(-104.0, 89.0),
    sqrt_half_bits=0x3F3504F3,
)
F64 = Format(
    float_=dtypes.float64,
    int_=dtypes.int64,
    mantissa=52,
    bias=1023,
    magic=6755399441055744.0,
    magic_bits=0x4338000000000000,
    tiny=2.0**-1022,
    ln2=(0.6931471805599453, 2.3190468138462996e-17),
    log2e=1.4426950408889634,
    exp_range=(-746.0, 710.0),
    sqrt_half_bits=0x3FE6A09E667F3BCD,
)


def format_of(s: ScalarBuilder, x: Value) -> Format:
    """The format in which a function of `x` is computed; TypeError for other dtypes."""
    dtype = s.dtype(x)
    if dtype is dtypes.float32:
        return F32
    if dtype is dtypes.float64:
        return F64
    raise TypeError(f"this function computes in float32 or float64; convert {dtype.name} first")


def polynomial(s: ScalarBuilder, x: Value, coefficients: Sequence[Any]) -> Value:
    """`sum(c[k] * x**k)` by Horner's rule with fma: fewest instructions, least error.

    The far part of a long one, which matters less, is `low + x**m high`: processors compute the
    two at the same time. Where nothing else is there to be done at the same time, `s.is_serial`,
    all of it is computed by halves.
    """
    if s.is_serial:
        return _by_halves(s, x, coefficients)
    if len(coefficients) < 12:
        return _horner(s, x, s.const(coefficients[-1], s.dtype(x)), coefficients[:-1])
    near, far = coefficients[:3], coefficients[3:]
    m, power = 1, x
    while 4 * m <= len(far):
        m, power = 2 * m, s.mul(power, power)
    low, high = polynomial(s, x, far[:m]), polynomial(s, x, far[m:])
    return _horner(s, x, s.fma(power, high, low), near)


def _by_halves(s: ScalarBuilder, x: Value, coefficients: Sequence[Any]) -> Value:
    """Estrin's rule: pairs of neighbours, pairs of those, and so on."""
    parts = [s.const(c, s.dtype(x)) for c in coefficients]
    while len(parts) > 1:
        pairs = [s.fma(b, x, a) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
        x = s.mul(x, x)
    return parts[0]


def _horner(s: ScalarBuilder, x: Value, y: Value, coefficients: Sequence[Any]) -> Value:
    for c in reversed(coefficients):
        y = s.fma(y, x, c)
    return y


def clamp(s: ScalarBuilder, x: Value, low: float | None, high: float | None) -> Value:
    """`x` held within [low, high]; NaN stays NaN."""
    if low is not None:
        x = s.select(s.lt(x, low), low, x)
    if high is not None:
        x = s.select(s.gt(x, high), high, x)
    return x


def round_by_magic(s: ScalarBuilder, f: Format, x: Value, scale: float) -> tuple[Value, Value]:
    """`n = rint(x * scale)`, |n| < 2**22 (2**51): (magic + n, whose low bits are n; n itself)."""
    shifted = s.fma(x, scale, f.magic)
    return shifted, s.sub(shifted, f.magic)


def power_of_two(s: ScalarBuilder, f: Format, shifted: Value, offset: int = 0) -> Value:
    """`2**(n + offset)` for n in the low bits of `shifted`; the result must be normal."""
    bits = s.shl(s.bitcast(shifted, f.int_), f.mantissa)
    return s.bitcast(s.add(bits, (f.bias + offset) << f.mantissa), f.float_)


def small_to_float(s: ScalarBuilder, f: Format, n: Value) -> Value:
    """An integer |n| < 2**22 (2**51) as a float: cheaper than `convert` where int64 is wide."""
    return s.sub(s.bitcast(s.add(n, f.magic_bits), f.float_), f.magic)
