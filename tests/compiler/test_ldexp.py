"""Multiplying by a power of two: with AVX-512 one instruction, with the bits of the general way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.runtime import engine
from tests.compiler.scalar_jit import Compiled

FORMATS = {dtypes.float32: (dtypes.int32, 254), dtypes.float64: (dtypes.int64, 2046)}
SPECIAL = (0.0, -0.0, 1.0, -1.0, 1.5, np.inf, -np.inf, np.nan)

has_instruction = pytest.mark.skipif(
    "+avx512f" not in engine.host_target().features.split(","), reason="needs AVX-512"
)


def ldexp(s: Any, x: Any, n: Any) -> Any:
    return s.ldexp(x, n)


def operands(dtype: DType) -> tuple[Any, Any]:
    """Every exponent with numbers of every size, halfway cases and special values among them."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype.dtype)
    integer, reach = FORMATS[dtype]
    bits = rng.integers(0, 2 ** (dtype.bits - 1), 64).astype(f"u{dtype.itemsize}")
    halves = 1.0 + np.arange(1, 40, 2) * float(info.eps)
    edges = [info.tiny, info.smallest_subnormal, info.max, info.tiny * 1.5]
    n = np.arange(-reach, reach + 1)
    with np.errstate(all="ignore"):
        x = np.concatenate([bits.view(dtype.dtype), halves, -halves, SPECIAL, edges])
        pairs = np.meshgrid(x.astype(dtype.dtype), n.astype(integer.dtype))
    return tuple(np.ascontiguousarray(p.ravel()) for p in pairs)  # type: ignore[return-value]


@has_instruction
@pytest.mark.parametrize("registers", [1, 2, 4])
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_the_instruction_gives_the_bits_of_the_general_way(dtype: DType, registers: int) -> None:
    kinds, width = (dtype, FORMATS[dtype][0]), 512 // dtype.bits * registers
    fast = Compiled(ldexp, kinds, dtype, width, mask_registers=True)
    general = Compiled(ldexp, kinds, dtype, width)
    assert "scalef" in fast.text
    assert "scalef" not in general.text
    x, n = operands(dtype)
    found, expected = fast(x, n), general(x, n)
    usual = (np.abs(x) >= 0.25) & (np.abs(x) <= 4.0) | (x == 0)  # of all callers
    assert np.array_equal(found[usual].view(np.uint8), expected[usual].view(np.uint8))
    with np.errstate(all="ignore"):
        exact = np.ldexp(x, n)
    number = x == x
    assert np.array_equal(found[number].view(np.uint8), exact[number].view(np.uint8))
    assert np.isnan(found[~number]).all()


@pytest.mark.parametrize(("dtype", "width"), [(dtypes.float32, 8), (dtypes.float64, 1)], ids=str)
def test_parts_of_a_register_take_the_general_way(dtype: DType, width: int) -> None:
    kinds = (dtype, FORMATS[dtype][0])
    general = Compiled(ldexp, kinds, dtype, width)
    assert Compiled(ldexp, kinds, dtype, width, mask_registers=True).text == general.text
