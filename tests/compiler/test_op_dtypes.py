"""Every elementwise op on every dtype of numbers: compiled is what eager is, at the ends of the
range too. Integers wrap, casts saturate, shifts are defined for every count."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import DTypeError
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Op, ops
from tests.compiler.compiling import compile_full, run_compiled
from tests.compiler.differences import graph_of
from tests.compiler.numpy_kind import eagerly
from tests.compiler.op_cases import sampled_ops

REAL = [d for d in dtypes.ALL if not d.is_complex]  # complex numbers have tests of their own
NUMBERS = [d for d in REAL if not d.is_bool]
# What users call, but for casts, which are below, and what stands for it in graphs.
BEHIND = ("cotangent_product", "leaky_relu", "sigmoid_cross_entropy", "trigamma")
OPS = [
    op
    for op in sampled_ops()
    if isinstance(op, Elementwise)
    and (op.public_names or op.name in BEHIND)
    and op.name not in ("cast", "check_numerics")
]
LARGE = ("polygamma", "zeta")  # long kernels, which are of float64 for every dtype


def values(dtype: DType, rng: np.random.Generator, count: int) -> Any:
    """Zero, small numbers, the ends of the range, and random ones in between."""
    kind = dtype.dtype
    if dtype.is_integer:
        low, high = int(dtype.min), int(dtype.max)
        own = [0, 1, 2, 3, 7, high, high - 1, low, low + 1, high // 2]
        own += [-1, -2, -7] if low < 0 else []
        words = rng.bytes(count * kind.itemsize)
        return np.concatenate([np.array(own, kind), np.frombuffer(words, kind)])
    info: Any = dtype._info()
    own = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, np.inf, -np.inf, np.nan, float(info.max), 1e-7]
    return np.concatenate([np.array(own), rng.uniform(-9, 9, count)]).astype(kind)


def operands(op: Elementwise, dtype: DType) -> list[Any]:
    """All pairs of values, without divisors 0 and negative exponents of integers."""
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {dtype.name}".encode()))
    with np.errstate(all="ignore"):
        one = values(dtype, rng, 5)
    if op.inputs == "select":
        return [rng.random(one.size) < 0.5, one, one[::-1].copy()]
    grid = np.array(list(itertools.product(one, repeat=min(op.arity, 2)))).astype(dtype.dtype)
    if op.failures and dtype.is_integer:
        grid = grid[grid[:, -1] > 0]
    columns = [np.ascontiguousarray(grid[:, i]) for i in range(grid.shape[1])]
    return [*columns, columns[0][::-1].copy()] if op.arity == 3 else columns


def accepted(op: Op, arrays: list[Any]) -> Any:
    """The eager result; None where the op refuses the dtype."""
    with eagerly() as kind, np.errstate(all="ignore"):
        try:
            return op(*map(kind.lift, arrays)).array
        except DTypeError:
            return None


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda d: d.name)
def test_compiled_is_eager(dtype: DType) -> None:
    given, wanted, chosen = [], [], []
    for op in OPS:
        if op.name in LARGE and dtype not in (dtypes.float64, dtypes.int32):
            continue
        arrays = operands(op, dtype)
        result = accepted(op, arrays)
        if result is not None:
            chosen.append((op, len(arrays)))
            given.extend(arrays)
            wanted.append(result)
    assert len(chosen) > 50

    def outputs(*xs: Any) -> list[Any]:
        rest = iter(xs)
        return [op(*itertools.islice(rest, count)) for op, count in chosen]

    graph = graph_of(outputs, given)
    places = iter(given)
    for (op, count), got, w in zip(
        chosen, run_compiled(compile_full(graph), given), wanted, strict=True
    ):
        own = list(itertools.islice(places, count))
        check(op, dtype, own, got, w)


def check(op: Op, dtype: DType, inputs: list[Any], got: Any, wanted: Any) -> None:
    """Integers and bools to the bit, floats to the sum of both errors that the op may have."""
    label = f"{op.name} on {dtype.name}"
    assert got.dtype == wanted.dtype, label
    if got.dtype.kind in "iub":
        np.testing.assert_array_equal(got, wanted, label)
        return
    if got.dtype.kind == "c":
        got, wanted = (np.ascontiguousarray(v).view(v.real.dtype) for v in (got, wanted))
        inputs = [np.repeat(x, 2) for x in inputs]
    kind = dtypes.as_dtype(got.dtype)
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(b)
    np.testing.assert_array_equal(a[~finite], b[~finite], label)
    ulp = op.samples.ulp if op.samples is not None else 0.0
    bound = (2 * ulp + 1) * np.maximum(kind.eps * np.abs(b), float(kind._info().smallest_subnormal))
    with np.errstate(invalid="ignore"):
        wrong = finite & ~(np.abs(a - b) <= bound)
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise AssertionError(f"{label} at {[x[i] for x in inputs]}: {got[i]}, eager {wanted[i]}")


@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_casts_are_defined_and_equal(dtype: DType) -> None:
    rng = np.random.default_rng(2)
    with np.errstate(all="ignore"):
        x = np.array([False, True]) if dtype.is_bool else values(dtype, rng, 20)

    def outputs(v: Any) -> list[Any]:
        return [ops["cast"](v, dtype=d) for d in REAL]

    with eagerly() as kind, np.errstate(all="ignore"):
        wanted = [v.array for v in outputs(kind.lift(x))]
    for got, w, target in zip(
        run_compiled(compile_full(graph_of(outputs, [x])), [x]), wanted, REAL, strict=True
    ):
        assert got.dtype == w.dtype
        if target.is_floating:  # NumPy's NaN of bfloat16 is not equal to itself
            got, w = got.astype(np.float64), w.astype(np.float64)
        np.testing.assert_array_equal(got, w, f"{dtype.name} to {target.name}")
        if dtype.is_floating and target.is_integer:
            assert saturated(x, target) == [int(v) for v in got]


def saturated(x: Any, target: DType) -> list[int]:
    """Truncated, saturated, NaN as 0: in Python's numbers."""
    low, high = int(target.min), int(target.max)
    found = []
    for v in map(float, x):
        bounded = 0.0 if v != v else min(max(v, -(2.0**70)), 2.0**70)
        found.append(min(max(int(bounded), low), high))
    return found
