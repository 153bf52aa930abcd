"""The named functions against mpmath and float64, over their whole domains."""

from __future__ import annotations

import platform
from typing import Any

import mpmath
import numpy as np
import pytest

import graphgrad.compiler.ops  # noqa: F401 -- fills the registry
from benchmarks.elementary import (
    ELEMENTARY,
    NEAR_MULTIPLES,
    edges,
    generator,
    points,
    truth,
    ulp_errors,
    worst,
)
from graphgrad.compiler.codegen.python_scalar import PYTHON_RUNTIME
from graphgrad.compiler.dtypes import DType, as_dtype, float32, float64
from graphgrad.compiler.op import ops
from graphgrad.compiler.scalar import (
    error_function,
    exponential,
    hyperbolic,
    inverse_trigonometric,
    trigonometric,
)
from graphgrad.compiler.scalar.expansions import EXPANSIONS, ULP
from tests.compiler.scalar_jit import Compiled

ODD = ["tanh", "erf", "sin", "tan", "asin", "atan", "sinh", "asinh", "atanh"]
FLOATS = pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.short)


def compiled(name: str, dtype: DType, **how: Any) -> Compiled:
    expansion = EXPANSIONS[name]
    operands = (dtype,) * expansion.arity
    return Compiled(
        lambda s, *args: s.named(name, args), operands, expansion.result_dtype(dtype), **how
    )


def error(name: str, operands: tuple[Any, ...], **how: Any) -> tuple[float, Any]:
    """The greatest error in ULP, and where; special values are NumPy's."""
    f = compiled(name, as_dtype(operands[0].dtype), **how)
    return worst(f(*operands), truth(name, operands), operands)


@pytest.mark.parametrize("name", ELEMENTARY)
@FLOATS
def test_functions_stay_within_their_ulp(name: str, dtype: DType) -> None:
    count = 60_000 if dtype is float32 else 400
    ulp, where = error(name, points(name, dtype.dtype, count))
    assert ulp <= ULP[name][dtype.name], f"{ulp:.3f} ULP at {where!r}"


@pytest.mark.parametrize("name", ELEMENTARY)
@FLOATS
def test_eager_functions_stay_within_their_ulp(name: str, dtype: DType) -> None:
    op = ops[name]
    assert op.samples is not None
    operands = points(name, dtype.dtype, 20_000 if dtype is float32 else 100)
    if dtype is float64 and name in ("sin", "cos", "tan"):  # C's own may err by 8 ULP beyond
        operands = (operands[0][np.abs(operands[0]) < 1e15],)
    with np.errstate(all="ignore"):
        got = op.ref(*operands)
    assert got.dtype == dtype.dtype
    ulp, where = worst(got, truth(name, operands), operands)
    assert ulp <= op.samples.ulp, f"{ulp:.3f} ULP at {where!r}"


def test_the_table_has_every_function_and_no_more_than_two_ulp() -> None:
    assert ULP.keys() == ELEMENTARY.keys()
    assert all(ulp <= 2 for bounds in ULP.values() for ulp in bounds.values())


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_arguments_near_multiples_of_half_pi_are_reduced_exactly(name: str) -> None:
    rng = generator(name, "huge")
    with mpmath.workprec(1200):
        multiples = [
            float(mpmath.mpf(int(k)) * 2 ** int(e) * mpmath.pi / 2)
            for k, e in zip(rng.integers(1, 2**52, 300), rng.integers(0, 900, 300), strict=True)
        ]
    near = np.array([*multiples, *np.negative(multiples), *NEAR_MULTIPLES])
    assert error(name, (near,))[0] <= ULP[name]["float64"]
    singles = rng.integers(0x48000000, 0x7F800000, 50_000, dtype=np.uint32).view(np.float32)
    assert error(name, (singles,))[0] <= ULP[name]["float32"]
    with np.errstate(invalid="ignore"):
        always = compiled(name, float64, branches=False)(near)
    np.testing.assert_array_equal(always, compiled(name, float64)(near))


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "fmod"])
@FLOATS
def test_a_rare_lane_disturbs_no_other(name: str, dtype: DType) -> None:
    """The helper keeps registers that the loop holds constants in: its neighbours must be right."""
    arity = EXPANSIONS[name].arity
    plain = generator(name).normal(size=256).astype(dtype.dtype)
    mixed = plain.copy()
    mixed[::5] = 1e30
    others = np.arange(256) % 5 != 0
    second = (np.ones_like(plain),) * (arity - 1)
    f = compiled(name, dtype)
    np.testing.assert_array_equal(f(mixed, *second)[others], f(plain, *second)[others])


POW_EDGES = np.array(
    [0.0, 1, 2, 0.5, 3, 1.5, 7, np.inf, np.nan, 1e300, 5e-324, 1e-300, 1e-40]
    + [2.0**53 + 2, 2.0**53 - 1, 1 + 2.0**-52, 1 - 2.0**-53, 1 + 2.0**-23, 1 - 2.0**-24]
)
POW_EDGES = np.concatenate([POW_EDGES, -POW_EDGES])


def test_pow_has_the_special_values_of_numpy() -> None:
    x, y = (a.ravel() for a in np.meshgrid(POW_EDGES, POW_EDGES))
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    got = compiled("pow", float64)(x, y)
    np.testing.assert_array_max_ulp(got[np.isfinite(expected)], expected[np.isfinite(expected)], 2)
    np.testing.assert_array_equal(got[~np.isfinite(expected)], expected[~np.isfinite(expected)])
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("exp", [(0.0, 1), (-0.0, 1), (np.inf, np.inf), (-np.inf, 0.0)]),
        ("exp2", [(0.0, 1), (-0.0, 1), (10.0, 1024), (-3.0, 0.125)]),
        ("log2", [(1.0, 0.0), (1024.0, 10), (2.0**-140, -140), (2.0**100, 100)]),
        ("log10", [(10.0**k, k) for k in range(11)]),
        ("tan", [(0.0, 0.0), (-0.0, -0.0)]),
        ("asin", [(1.0, np.pi / 2), (-1.0, -np.pi / 2), (-0.0, -0.0)]),
        ("acos", [(1.0, 0.0), (-1.0, np.pi), (0.0, np.pi / 2)]),
        ("atan", [(np.inf, np.pi / 2), (-np.inf, -np.pi / 2), (-0.0, -0.0)]),
        ("sinh", [(np.inf, np.inf), (-np.inf, -np.inf), (-0.0, -0.0), (5e-324, 5e-324)]),
        ("cosh", [(np.inf, np.inf), (-np.inf, np.inf), (0.0, 1)]),
        ("asinh", [(np.inf, np.inf), (-np.inf, -np.inf), (-0.0, -0.0)]),
        ("acosh", [(1.0, 0.0), (np.inf, np.inf)]),
        ("atanh", [(1.0, np.inf), (-1.0, -np.inf), (-0.0, -0.0)]),
        ("cos", [(0.0, 1), (-0.0, 1)]),
        ("sigmoid", [(0.0, 0.5), (np.inf, 1), (-np.inf, 0.0)]),
        ("tanh", [(np.inf, 1), (-np.inf, -1), (-0.0, -0.0), (30.0, 1)]),
        ("erfc", [(0.0, 1), (np.inf, 0.0), (-np.inf, 2)]),
        ("softplus", [(np.inf, np.inf), (-np.inf, 0.0)]),
    ],
)
@FLOATS
def test_exact_values(name: str, points: list[tuple[float, float]], dtype: DType) -> None:
    got = compiled(name, dtype)([x for x, _ in points])
    expected = np.array([y for _, y in points], dtype.dtype)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


def test_powers_of_ten_have_exact_logarithms() -> None:
    powers = np.array([10.0**k for k in range(23)])
    np.testing.assert_array_equal(compiled("log10", float64)(powers), np.arange(23))


@pytest.mark.parametrize("name", [*ODD, "cos", "cosh"])
@FLOATS
def test_odd_and_even_functions_are_exactly_so(name: str, dtype: DType) -> None:
    (x,) = points(name, dtype.dtype, 3000)
    f = compiled(name, dtype)
    np.testing.assert_array_equal(f(-x), -f(x) if name in ODD else f(x))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("tanh", -1, 1), ("erf", -1, 1), ("sin", -1, 1), ("cos", -1, 1), ("sigmoid", 0, 1)]
    + [("erfc", 0, 2), ("asin", -np.pi / 2, np.pi / 2), ("acos", 0, np.pi)]
    + [("atan", -np.pi / 2, np.pi / 2), ("cosh", 1, np.inf), ("exp", 0, np.inf)],
)
@FLOATS
def test_values_stay_in_their_range(name: str, low: float, high: float, dtype: DType) -> None:
    (x,) = points(name, dtype.dtype, 20_000)
    y = compiled(name, dtype)(x)
    y = y[~np.isnan(y)]
    assert y.min() >= dtype.dtype.type(low)
    assert y.max() <= dtype.dtype.type(high)


@pytest.mark.parametrize("name", [*ELEMENTARY, "floordiv"])
@FLOATS
def test_results_do_not_depend_on_the_width(name: str, dtype: DType) -> None:
    rng = generator(name, "width")
    x = np.concatenate([rng.normal(size=1000).astype(dtype.dtype) * 5, edges(dtype.dtype)])
    args = (x, rng.permutation(x))[: EXPANSIONS[name].arity]
    expected = compiled(name, dtype)(*args)
    for width in (1, 4):
        np.testing.assert_array_equal(compiled(name, dtype, width=width)(*args), expected)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86 processors")
@pytest.mark.parametrize("name", ELEMENTARY)
@FLOATS
def test_results_do_not_depend_on_the_processor(name: str, dtype: DType) -> None:
    operands = points(name, dtype.dtype, 500)
    here = compiled(name, dtype)(*operands)
    without_fma = compiled(name, dtype, cpu="x86-64-v2")(*operands)
    np.testing.assert_array_equal(without_fma, here)


@pytest.mark.parametrize("name", ELEMENTARY)
@FLOATS
def test_the_python_runtime_agrees(name: str, dtype: DType) -> None:
    rng = generator(name, "python")
    x = np.concatenate([rng.normal(size=200).astype(dtype.dtype) * 5, edges(dtype.dtype)[::7]])
    args = (x, rng.permutation(x))[: EXPANSIONS[name].arity]
    expected = [PYTHON_RUNTIME[name](*a) for a in zip(*args, strict=True)]
    assert {type(e) for e in expected} == {dtype.dtype.type}
    errors = ulp_errors(compiled(name, dtype)(*args), np.array(expected, np.longdouble))
    assert errors.max() <= ULP[name][dtype.name] + 4  # NumPy's own error: 4 at most


@FLOATS
def test_a_wrong_coefficient_is_seen(dtype: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, table, name in [
        (exponential, "_EXP", "exp"),
        (error_function, "_LOG_ERFC", "erf"),
        (trigonometric, "_TAN", "tan"),
        (inverse_trigonometric, "_ATAN", "atan"),
        (hyperbolic, "_SINH", "sinh"),
        (hyperbolic, "_ATANH", "atanh"),
    ]:
        right = getattr(module, table)
        off = 1 + (2.0**-15 if dtype is float32 else 2.0**-44)
        nearly = {f: tuple(c * off for c in coefficients) for f, coefficients in right.items()}
        operands = points(name, dtype.dtype, 60_000 if dtype is float32 else 100)
        with monkeypatch.context() as patch:
            patch.setattr(module, table, nearly)
            assert error(name, operands)[0] > ULP[name][dtype.name]


def test_wrong_special_values_are_seen() -> None:
    truth = np.array([np.nan, np.inf, -0.0, 1.0, 0.0], np.longdouble)
    for k, wrong in enumerate([1.0, np.nan, 0.0, np.inf, -0.0]):
        got = truth.astype(np.float32)
        assert ulp_errors(got, truth).max() == 0
        got[k] = wrong
        assert ulp_errors(got, truth).max() > 1e6
