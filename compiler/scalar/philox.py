"""Counter-based random bits: Philox4x32-10 and the uniforms made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphgrad.compiler import dtypes

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def philox(s: ScalarBuilder, key: Value, counter: Value, high: Value, word: int) -> Value:
    """Word `word` of Philox4x32-10 (Salmon et al., SC 2011) at (counter, high) under `key`.

    All in uint64 lanes that hold 32-bit words, so that one multiplication gives both halves.
    """
    c = [s.and_(counter, _LOW), s.lshr(counter, 32), s.and_(high, _LOW), s.lshr(high, 32)]
    keys = [s.and_(key, _LOW), s.lshr(key, 32)]
    for turn in range(10):
        if turn:
            keys = [s.and_(s.add(k, step), _LOW) for k, step in zip(keys, _KEY_STEPS, strict=True)]
        p0, p1 = s.mul(c[0], _MULTIPLIERS[0]), s.mul(c[2], _MULTIPLIERS[1])
        c = [
            s.xor(s.xor(s.lshr(p1, 32), c[1]), keys[0]), s.and_(p1, _LOW),
            s.xor(s.xor(s.lshr(p0, 32), c[3]), keys[1]), s.and_(p0, _LOW),
        ]  # fmt: skip
    return s.convert(c[word], dtypes.uint32)


def uniform01_f32(s: ScalarBuilder, bits: Value) -> Value:
    """`(bits >> 8) * 2**-24`."""
    high = s.bitcast(s.lshr(bits, 8), dtypes.int32)  # signed converts in one instruction
    return s.mul(s.convert(high, dtypes.float32), 2.0**-24)


def uniform01_f64(s: ScalarBuilder, high: Value, low: Value) -> Value:
    """`((high >> 5) * 2**26 + (low >> 6)) * 2**-53`, as NumPy's and Python's generators."""
    a = s.convert(s.bitcast(s.lshr(high, 5), dtypes.int32), dtypes.float64)
    b = s.convert(s.bitcast(s.lshr(low, 6), dtypes.int32), dtypes.float64)
    return s.mul(s.fma(a, 2.0**26, b), 2.0**-53)
