"""Every primitive against NumPy, bit for bit, and against its own Python text."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_scalar import FunctionText, VectorEmitter, llvm_literal
from graphgrad.compiler.codegen.python_scalar import (
    PYTHON_RUNTIME,
    python_expression,
    python_literal,
)
from graphgrad.compiler.dtypes import DType, bool_, float32, float64, int32, uint32, uint64
from graphgrad.compiler.scalar.expansions import EXPANSIONS
from graphgrad.compiler.scalar.primitives import PRIMITIVES, result_dtype
from tests.compiler.scalar_jit import Compiled

REAL = [d for d in dtypes.ALL if not d.is_complex]
INTEGERS = [d for d in REAL if d.is_integer]
FLOATS = [float32, float64]


def edges(dtype: DType) -> Any:
    """Values of `dtype` where something may go wrong."""
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_integer:
        small = [0, 1, 2, 3, 5, 7, 8, 31, 63, 100]
        big = [dtype.max, dtype.max - 1, dtype.min, dtype.min + 1, dtype.max // 3]
        low = [-1, -2, -3, -7] if dtype.kind == "i" else []
        return np.array([*small, *big, *low], dtype.dtype)
    numbers = [0.0, 0.5, 1, 1.5, 2.5, 3, 1e-3, 127.5, 128, 255.9, 256, 32767.5, 65535, 65536, 1e5]
    numbers += [2.0**31, 2.0**32, 2.0**63, 2.0**64, 1e30, 1e-30, 1e-45, np.inf, np.nan]
    with np.errstate(all="ignore"):
        positive = np.array(numbers).astype(dtype.dtype)
        return np.concatenate([positive, -positive])


def operands_of(fn: str, *kinds: DType) -> list[Any]:
    """Arrays of all combinations of edge values, and of some random ones."""
    rng = np.random.default_rng(7)
    columns = [a.ravel() for a in np.meshgrid(*(edges(d) for d in kinds), indexing="ij")]
    out = []
    for column, d in zip(columns, kinds, strict=True):
        if d.is_bool or (d.bits < 32 and d.is_floating):
            more = rng.choice(edges(d), 300)
        elif d.is_floating:
            more = (rng.normal(size=300) * 100).astype(d.dtype)
        else:
            more = rng.integers(d.min, d.max, 300, d.dtype.type, endpoint=True)
        out.append(np.concatenate([column, more]))
    return out


def assert_same_bits(got: Any, expected: Any) -> None:
    """Equal bit for bit, except that any NaN equals any other."""
    assert got.dtype == expected.dtype
    got, expected = np.atleast_1d(got), np.atleast_1d(expected)
    same = (got == expected) & (np.signbit(got) == np.signbit(expected))
    same |= (got != got) & (expected != expected)
    k = int(np.argmin(same))
    assert same.all(), f"{got[k]} for {expected[k]} at {k}"


def shift_left(x: Any, y: Any) -> Any:
    bits = x.dtype.itemsize * 8
    inside = (y >= 0) & (y < bits)
    return np.where(inside, x << np.where(inside, y, 0), 0).astype(x.dtype)


def shift_right(x: Any, y: Any, fill: str) -> Any:
    kind = np.dtype(f"{fill}{x.dtype.itemsize}")
    bits = x.dtype.itemsize * 8
    inside = (y >= 0) & (y < bits)
    y = np.where(inside, y, bits - 1).astype(kind)
    shifted = x.view(kind) >> y
    return (shifted if fill == "i" else np.where(inside, shifted, 0)).astype(kind).view(x.dtype)


BINARY: dict[str, tuple[Callable[..., Any], list[DType]]] = {
    "add": (operator.add, INTEGERS + FLOATS),
    "sub": (operator.sub, INTEGERS + FLOATS),
    "mul": (operator.mul, INTEGERS + FLOATS),
    "div": (operator.truediv, FLOATS),
    "copysign": (np.copysign, FLOATS),
    "frem": (np.fmod, FLOATS),
    "eq": (operator.eq, [bool_, *INTEGERS, *FLOATS]),
    "ne": (operator.ne, [bool_, *INTEGERS, *FLOATS]),
    "lt": (operator.lt, INTEGERS + FLOATS),
    "le": (operator.le, INTEGERS + FLOATS),
    "gt": (operator.gt, INTEGERS + FLOATS),
    "ge": (operator.ge, INTEGERS + FLOATS),
    "and_": (operator.and_, [bool_, *INTEGERS]),
    "or_": (operator.or_, [bool_, *INTEGERS]),
    "xor": (operator.xor, [bool_, *INTEGERS]),
    "shl": (shift_left, INTEGERS),
    "lshr": (lambda x, y: shift_right(x, y, "u"), INTEGERS),
    "ashr": (lambda x, y: shift_right(x, y, "i"), INTEGERS),
    "irem": (np.fmod, INTEGERS),
    "floordiv": (np.floor_divide, INTEGERS + FLOATS),
    "mod": (np.mod, INTEGERS + FLOATS),
    "fmod": (np.fmod, INTEGERS + FLOATS),
    "minimum": (np.minimum, INTEGERS + FLOATS),
    "maximum": (np.maximum, INTEGERS + FLOATS),
}
UNARY: dict[str, tuple[Callable[..., Any], list[DType]]] = {
    "neg": (np.negative, INTEGERS + FLOATS),
    "abs": (np.abs, INTEGERS + FLOATS),
    "sqrt": (np.sqrt, FLOATS),
    "floor": (np.floor, FLOATS),
    "ceil": (np.ceil, FLOATS),
    "trunc": (np.trunc, FLOATS),
    "rint": (np.rint, FLOATS),
    "not_": (np.invert, [bool_, *INTEGERS]),
    "sign": (np.sign, INTEGERS + FLOATS),
    "square": (np.square, INTEGERS + FLOATS),
    "reciprocal": (lambda x: 1 / x, FLOATS),
    "isnan": (np.isnan, FLOATS),
    "isinf": (np.isinf, FLOATS),
    "isfinite": (np.isfinite, FLOATS),
    "signbit": (np.signbit, FLOATS),
    "relu": (lambda x: np.where(x < 0, x.dtype.type(0), x), INTEGERS + FLOATS),
}
CASES = [(fn, d) for table in (UNARY, BINARY) for fn, (_, ds) in table.items() for d in ds]


def result_of(fn: str, kinds: tuple[DType, ...]) -> DType:
    if fn in EXPANSIONS:
        return EXPANSIONS[fn].result_dtype(kinds[0])
    return result_dtype(fn, kinds)


@pytest.mark.parametrize(("fn", "dtype"), CASES, ids=lambda v: getattr(v, "name", v))
def test_every_operation_has_the_bits_of_numpy(fn: str, dtype: DType) -> None:
    reference = (UNARY | BINARY)[fn][0]
    kinds = (dtype,) * (1 if fn in UNARY else 2)
    arrays = operands_of(fn, *kinds)
    if fn in ("floordiv", "mod") and dtype.is_integer:  # these fail on 0
        arrays = [a[arrays[1] != 0] for a in arrays]
    with np.errstate(all="ignore"):
        expected = reference(*arrays)
    if fn in ("minimum", "maximum"):  # of two zeros, either
        expected = expected + dtype.dtype.type(0)
    compiled = Compiled(lambda s, *a: getattr(s, fn)(*a), kinds, result_of(fn, kinds))
    got = compiled(*arrays)
    if fn in ("minimum", "maximum"):
        got = got + dtype.dtype.type(0)
    assert_same_bits(got, expected.astype(got.dtype))


@pytest.mark.parametrize(("fn", "dtype"), CASES, ids=lambda v: getattr(v, "name", v))
def test_the_python_text_computes_the_same_bits(fn: str, dtype: DType) -> None:
    kinds = (dtype,) * (1 if fn in UNARY else 2)
    result = result_of(fn, kinds)
    text = python_expression(fn, ["x", "y"][: len(kinds)], result)
    arrays = [a[::7] for a in operands_of(fn, *kinds)]
    if fn in ("floordiv", "mod") and dtype.is_integer:
        keep = arrays[1] != 0
        arrays = [a[keep] for a in arrays]
        with pytest.raises(ZeroDivisionError):
            eval(text, PYTHON_RUNTIME | {"x": dtype.dtype.type(1), "y": dtype.dtype.type(0)})
    with np.errstate(all="ignore"):
        values = [
            eval(text, PYTHON_RUNTIME | dict(zip("xy", a, strict=False)))
            for a in zip(*arrays, strict=True)
        ]
    assert all(isinstance(v, np.generic | bool) for v in values)
    assert {np.asarray(v).dtype for v in values} == {result.dtype}
    got = Compiled(lambda s, *a: getattr(s, fn)(*a), kinds, result)(*arrays)
    assert_same_bits(got, np.array(values, result.dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_fma_rounds_once(dtype: DType) -> None:
    rng = np.random.default_rng(3)
    x, y = (rng.normal(size=400).astype(dtype.dtype) for _ in range(2))
    z = np.where(rng.random(400) < 0.5, -(x * y), rng.normal(size=400)).astype(dtype.dtype)
    with np.errstate(all="ignore"):
        special = np.array(list(itertools.product(edges(dtype)[::3], repeat=3)), dtype.dtype).T
        x, y, z = (np.concatenate(pair) for pair in zip((x, y, z), special, strict=True))
        expected = [PYTHON_RUNTIME["fma"](*a) for a in zip(x, y, z, strict=True)]
    got = Compiled(lambda s, *a: s.fma(*a), (dtype,) * 3, dtype)(x, y, z)
    assert_same_bits(got, np.array(expected, dtype.dtype))


def test_quotients_toward_zero_and_their_edges() -> None:
    for dtype in INTEGERS:
        x, y = operands_of("idiv", dtype, dtype)
        with np.errstate(all="ignore"):
            expected = np.where(y == 0, 0, (x - np.fmod(x, y)) // y).astype(dtype.dtype)
        got = Compiled(lambda s, a, b: s.idiv(a, b), (dtype, dtype), dtype)
        assert_same_bits(got(x, y), expected)
        python = [PYTHON_RUNTIME["idiv"](a, b) for a, b in zip(x, y, strict=True)]
        assert_same_bits(np.array(python, dtype.dtype), expected)


def converted(x: Any, dtype: DType) -> Any:
    """NumPy's conversion, but floats to integers saturate and NaN gives 0."""
    with np.errstate(all="ignore"):
        if dtype.is_bool:
            return x != 0
        if dtype.is_integer and x.dtype.kind not in "iub":
            whole = [saturated(float(v), dtype) for v in x]
            return np.array(whole, dtype.dtype)
        return x.astype(dtype.dtype)


def saturated(value: float, dtype: DType) -> int:
    if np.isnan(value):
        return 0
    if np.isinf(value):
        return int(dtype.max if value > 0 else dtype.min)
    return int(min(max(int(value), dtype.min), dtype.max))


PAIRS = [(a, b) for a, b in itertools.product(REAL, REAL) if a is not b]


@pytest.mark.parametrize(("source", "dtype"), PAIRS, ids=lambda d: d.short)
def test_conversions_are_defined_and_those_of_numpy(source: DType, dtype: DType) -> None:
    (x,) = operands_of("convert", source)
    if source.is_floating:
        rng = np.random.default_rng(11)
        bits = rng.integers(0, 1 << source.bits, 3000, np.uint64).astype(f"u{source.itemsize}")
        x = np.concatenate([x, bits.view(source.dtype)])
    if source is float64 and dtype.bits == 16:  # ties, and what double rounding would spoil
        ties = 1 + 2.0**-11 * np.arange(64)
        x = np.concatenate([x, ties, ties + 2.0**-40, ties - 2.0**-40, ties * 2.0**-24])
    expected = converted(x, dtype)
    for width in (None, 1):
        kernel = Compiled(lambda s, a: s.convert(a, dtype), (source,), dtype, width)
        assert_same_bits(kernel(x), expected)
    text = python_expression("convert", ["x"], dtype)
    values = [eval(text, PYTHON_RUNTIME | {"x": v}) for v in x[:60]]
    assert_same_bits(np.array(values, dtype.dtype), expected[:60])


def test_select_and_bitcast() -> None:
    rng = np.random.default_rng(5)
    for dtype in REAL:
        x, y = (rng.choice(edges(dtype), 200) for _ in range(2))
        c = rng.random(200) < 0.5
        got = Compiled(lambda s, c, a, b: s.select(c, a, b), (bool_, dtype, dtype), dtype)(c, x, y)
        assert_same_bits(got, np.where(c, x, y).astype(dtype.dtype))
        for other in REAL:
            if other.bits == dtype.bits and not other.is_bool and other is not dtype:
                kernel = Compiled(lambda s, a, other=other: s.bitcast(a, other), (dtype,), other)
                assert kernel(x).tobytes() == x.tobytes()


def test_lookup_reads_a_constant_table() -> None:
    table = (3, 1 << 63, 7, 9)
    index = np.array([0, 3, 2, 1, 1], np.uint64)
    for width in (1, 8):
        kernel = Compiled(lambda s, i: s.lookup(i, table, uint64), (uint64,), uint64, width)
        assert kernel(index).tolist() == [table[i] for i in index]


def test_philox_gives_the_known_answers() -> None:
    """The vectors of Random123's kat_vectors, philox4x32 10."""
    ones = (1 << 64) - 1
    known = {
        (0, 0, 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        (ones, ones, ones): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        (0x299F31D0A4093822, 0x85A308D3243F6A88, 0x0370734413198A2E): (
            0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1,
        ),
    }  # fmt: skip
    columns = [np.array(c, np.uint64) for c in zip(*known, strict=True)]
    for word in range(4):
        kernel = Compiled(lambda s, *a, word=word: s.philox(*a)[word], (uint64,) * 3, uint32)
        expected = [words[word] for words in known.values()]
        assert kernel(*columns).tolist() == expected
        python = [PYTHON_RUNTIME["philox"](*a, word) for a in zip(*columns, strict=True)]
        assert python == expected


def test_uniforms_are_in_the_unit_interval_with_all_their_bits() -> None:
    bits = np.array([0, 255, 256, 1 << 31, 0xFFFFFFFF, 0x12345678], np.uint32)
    got = Compiled(lambda s, b: s.uniform01_f32(b), (uint32,), float32)(bits)
    assert got.tolist() == [float(b >> 8) / 2**24 for b in bits.tolist()]
    low = bits[::-1].copy()
    got = Compiled(lambda s, a, b: s.uniform01_f64(a, b), (uint32, uint32), float64)(bits, low)
    pairs = list(zip(bits.tolist(), low.tolist(), strict=True))
    assert got.tolist() == [(((a >> 5) << 26) + (b >> 6)) / 2**53 for a, b in pairs]
    python = [PYTHON_RUNTIME["uniform01_f64"](*p) for p in zip(bits, low, strict=True)]
    assert got.tolist() == python


def test_literals_are_typed_and_exact() -> None:
    assert llvm_literal(0.1, float32) == "0x3FB99999A0000000"
    assert llvm_literal(1.0, dtypes.float16) == "0xH3C00"
    assert llvm_literal(1.0, dtypes.bfloat16) == str(0x3F80)
    assert python_literal(0.1, float32) == "np.float32(0.1)"
    assert python_literal(float("-inf"), float64) == "np.float64(-np.inf)"
    assert python_literal(3, dtypes.bfloat16) == "bfloat16(3.0)"
    for dtype in REAL:
        for value in edges(dtype).tolist():
            read = eval(python_literal(value, dtype), dict(PYTHON_RUNTIME))
            assert_same_bits(np.asarray(read), np.array(value, dtype.dtype))
            kernel = Compiled(lambda s, x, v=value: s.const(v, s.dtype(x)), (dtype,), dtype)
            assert_same_bits(kernel(edges(dtype)[:1]), np.array([value], dtype.dtype))


def test_the_text_nests_with_parentheses() -> None:
    total = python_expression("add", ["x", "exp(y)"], float32)
    assert python_expression("mul", [total, "z"], float32) == "(x + exp(y)) * z"
    assert python_expression("neg", ["f(x) * g(y)"], float32) == "-(f(x) * g(y))"
    assert python_expression("neg", ["f(x)[0]"], float32) == "-(f(x)[0])"
    assert python_expression("not_", ["a < b"], bool_) == "not (a < b)"
    assert python_expression("sub", ["-x", "y"], float32) == "(-x) - y"


def test_wrong_operands_are_refused() -> None:
    s = VectorEmitter(FunctionText(), 16)
    x, i, h = (s.value("%x", d) for d in (float32, int32, dtypes.float16))
    with pytest.raises(TypeError, match="add: dtypes differ: float32, int32"):
        s.add(x, i)
    with pytest.raises(TypeError, match="convert to float32 first"):
        s.mul(h, h)
    with pytest.raises(TypeError, match="the condition must be bool, not float32"):
        s.select(x, x, x)
    with pytest.raises(TypeError, match="and_ is not defined on float32"):
        s.and_(x, x)
    with pytest.raises(TypeError, match="use const"):
        s.add(1, 2)
    with pytest.raises(OverflowError, match="300 does not fit int8"):
        s.const(300, dtypes.int8)
    with pytest.raises(NotImplementedError, match="kernel emitter"):
        s.index(0)


def test_equal_instructions_are_emitted_once() -> None:
    text = FunctionText()
    s = VectorEmitter(text, 16)
    x = s.value("%x", float32)
    y = s.exp(x)
    count = len(text.lines)
    assert s.exp(x) == y
    assert len(text.lines) == count
    assert not any("fast" in line or "contract" in line for line in text.lines)


def test_the_table_of_primitives_is_complete() -> None:
    methods = {fn.removeprefix("_") for fn in dir(VectorEmitter)}
    for fn, rule in PRIMITIVES.items():
        assert fn in methods, fn
        assert rule.cost >= 0
