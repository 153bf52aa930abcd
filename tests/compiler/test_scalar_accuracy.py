"""The named functions against mpmath and float64, over their whole domains."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

from graphgrad.compiler.codegen.python_scalar import PYTHON_RUNTIME
from graphgrad.compiler.dtypes import DType, float32, float64
from graphgrad.compiler.scalar import error_function, exponential
from graphgrad.compiler.scalar.expansions import EXPANSIONS, ULP
from tests.compiler.scalar_jit import Compiled, ulp_errors


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


# the truth for float32 (in float64) and for float64 (in mpmath), and where most points lie
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[float, float]]] = {
    "exp": (np.exp, mpmath.exp, (-750, 720)),
    "exp2": (np.exp2, lambda x: mpmath.mpf(2) ** x, (-1080, 1030)),
    "expm1": (np.expm1, mpmath.expm1, (-45, 720)),
    "log": (np.log, mpmath.log, (0.1, 10)),
    "log2": (np.log2, lambda x: mpmath.log(x) / mpmath.log(2), (0.1, 10)),
    "log1p": (np.log1p, mpmath.log1p, (-1, 3)),
    "tanh": (np.tanh, mpmath.tanh, (-22, 22)),
    "sigmoid": (_sigmoid, lambda x: 1 / (1 + mpmath.exp(-x)), (-750, 40)),
    "softplus": (_softplus, lambda x: mpmath.log1p(mpmath.exp(x)), (-750, 40)),
    "erf": (scipy.special.erf, mpmath.erf, (-6.5, 6.5)),
    "erfc": (scipy.special.erfc, lambda x: mpmath.erfc(min(x, 40)), (-6.5, 28)),
    "sin": (np.sin, mpmath.sin, (-1e4, 1e4)),
    "cos": (np.cos, mpmath.cos, (-1e4, 1e4)),
}
EDGES = np.array(
    [0.0, 5e-324, 1e-310, 2.2250738585072014e-308, 1e-45, 1e-40, 1.1754943508222875e-38, 1e-30]
    + [2.0**-54, 2.0**-24, 1e-4, 0.5, 0.6931471805599453, 0.9218749, 0.921875, 1.0, 1.5, 2.0]
    + [np.pi / 4, np.pi / 2, np.pi, 20.0, 88.7, 88.73, 103.9, 104.1, 709.7, 709.8, 745.1, 746.0]
    + [131071.9, 131072.0, 2.0**40 - 1, 2.0**40, 1e22, 1e38, 3.4e38, 1e300, 1.7e308, np.inf, np.nan]
)
EDGES = np.concatenate([EDGES, -EDGES, np.nextafter(EDGES, 0), np.nextafter(EDGES, 9)])


def compiled(name: str, dtype: DType, **how: Any) -> Compiled:
    expansion = EXPANSIONS[name]
    operands = (dtype,) * expansion.arity
    return Compiled(
        lambda s, *args: s.named(name, args), operands, expansion.result_dtype(dtype), **how
    )


def generator(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def float32_points(name: str) -> Any:
    """Bit patterns from all of float32, and more where the function is interesting."""
    rng = generator(name)
    patterns = rng.integers(0, 2**32, 60_000, dtype=np.uint32).view(np.float32)
    low, high = FUNCTIONS[name][2]
    near = rng.uniform(max(low, -110), min(high, 95), 60_000).astype(np.float32)
    with np.errstate(all="ignore"):
        return np.concatenate([patterns, near, near / 100, EDGES.astype(np.float32)])


def float64_points(name: str, count: int) -> Any:
    rng = generator(name)
    patterns = rng.integers(0, 2**64, count, dtype=np.uint64).view(np.float64)
    low, high = FUNCTIONS[name][2]
    near = rng.uniform(low, high, count)
    small = np.ldexp(rng.uniform(1, 2, count), rng.integers(-60, 4, count))
    return np.concatenate([patterns, near, small, -small, EDGES])


def mpmath_truth(function: Callable[..., Any], points: Any, *more: Any) -> Any:
    """The truth rounded to long double: 11 bits more than float64."""
    return np.array(
        [_long_double(function, *map(float, p)) for p in zip(points, *more, strict=True)]
    )


def _long_double(function: Callable[..., Any], *args: float) -> Any:
    exponent = max((np.frexp(a)[1] for a in args if np.isfinite(a)), default=0)
    with mpmath.workprec(160 + max(0, int(exponent))):
        try:
            y = function(*map(mpmath.mpf, args))
        except (ValueError, ZeroDivisionError):
            return np.longdouble(np.nan)
        if isinstance(y, mpmath.mpc) or not mpmath.isfinite(y):
            return np.longdouble(np.nan)
        high = float(y)
        if not np.isfinite(high) or abs(high) < 1e-290:
            return np.longdouble(high) if abs(high) > 1 else _scaled(y)
        return np.longdouble(high) + np.longdouble(float(y - high))


def _scaled(y: Any) -> Any:
    """A small number as long double: its parts would be subnormal in float64."""
    big = y * mpmath.mpf(2) ** 400
    high = float(big)
    return np.ldexp(np.longdouble(high) + np.longdouble(float(big - high)), -400)


def worst(name: str, dtype: DType, points: Any, **how: Any) -> tuple[float, float]:
    """(ULP, where) of the worst point; special values as NumPy has them."""
    with np.errstate(all="ignore"):
        if dtype is float32:
            truth = FUNCTIONS[name][0](points.astype(np.float64)).astype(np.longdouble)
        else:
            truth = FUNCTIONS[name][0](points).astype(np.longdouble)  # signs, inf and NaN
            finite = np.isfinite(points) & np.isfinite(truth)
            exact = mpmath_truth(FUNCTIONS[name][1], points[finite])
            truth[finite] = np.where(np.isnan(exact) | (exact == 0), truth[finite], exact)
    errors = ulp_errors(compiled(name, dtype, **how)(points), truth)
    k = int(np.argmax(errors))
    return float(errors[k]), float(points[k])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_functions_stay_within_their_ulp(name: str) -> None:
    ulp, where = worst(name, float32, float32_points(name))
    assert ulp <= ULP[name]["float32"], f"{ulp:.3f} ULP at {where!r}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_functions_stay_within_their_ulp(name: str) -> None:
    ulp, where = worst(name, float64, float64_points(name, 500))
    assert ulp <= ULP[name]["float64"], f"{ulp:.3f} ULP at {where!r}"


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_huge_arguments_near_multiples_of_half_pi_are_reduced_exactly(name: str) -> None:
    rng = generator(name, "huge")
    with mpmath.workprec(1200):
        multiples = [
            float(mpmath.mpf(int(k)) * 2 ** int(e) * mpmath.pi / 2)
            for k, e in zip(rng.integers(1, 2**52, 300), rng.integers(0, 900, 300), strict=True)
        ]
    # the float64 nearest to a multiple of pi/2 (Muller, Elementary Functions) among them
    points = np.array([*multiples, *np.negative(multiples), 6381956970095103 * 2.0**797])
    assert worst(name, float64, points)[0] <= ULP[name]["float64"]
    singles = rng.integers(0x48000000, 0x7F800000, 50_000, dtype=np.uint32).view(np.float32)
    assert worst(name, float32, singles)[0] <= ULP[name]["float32"]
    with np.errstate(invalid="ignore"):
        always = compiled(name, float64, branches=False)(points)
    np.testing.assert_array_equal(always, compiled(name, float64)(points))


@pytest.mark.parametrize("name", ["sin", "cos", "fmod"])
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.short)
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


def test_pow_float32() -> None:
    rng = generator("pow")
    n = 60_000
    x = [rng.integers(0, 2**32, n, dtype=np.uint32).view(np.float32), rng.normal(size=n) * 4]
    y = [rng.integers(0, 2**32, n, dtype=np.uint32).view(np.float32), rng.integers(-40, 40, n)]
    x += [np.exp(rng.normal(size=n)), 1 + rng.normal(size=n) * 1e-3]
    y += [rng.normal(size=n) * 40, rng.normal(size=n) * 4e4]
    with np.errstate(all="ignore"):
        edges = np.meshgrid(POW_EDGES.astype(np.float32), POW_EDGES.astype(np.float32))
        left = np.concatenate([*x, edges[0].ravel()]).astype(np.float32)
        right = np.concatenate([*y, edges[1].ravel()]).astype(np.float32)
        truth = np.power(left.astype(np.float64), right.astype(np.float64)).astype(np.longdouble)
    assert ulp_errors(compiled("pow", float32)(left, right), truth).max() <= ULP["pow"]["float32"]


def test_pow_float64() -> None:
    rng = generator("pow")
    n = 1500
    x = np.concatenate(
        [np.exp(rng.normal(size=n) * 2), 1 + rng.normal(size=n) * 1e-3]
        + [np.exp(rng.uniform(-740, 700, n)), 1 + rng.normal(size=n) * 1e-9]
    )
    y = rng.normal(size=4 * n) * np.repeat([200, 2e5, 1, 2e11], n)
    truth = mpmath_truth(mpmath.power, x, y)
    with np.errstate(all="ignore"):
        special = np.power(x, y)
    truth = np.where(np.isfinite(special) & (special != 0), truth, special)
    assert ulp_errors(compiled("pow", float64)(x, y), truth).max() <= ULP["pow"]["float64"]


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
        ("cos", [(0.0, 1), (-0.0, 1)]),
        ("sigmoid", [(0.0, 0.5), (np.inf, 1), (-np.inf, 0.0)]),
        ("tanh", [(np.inf, 1), (-np.inf, -1), (-0.0, -0.0), (30.0, 1)]),
        ("erfc", [(0.0, 1), (np.inf, 0.0), (-np.inf, 2)]),
        ("softplus", [(np.inf, np.inf), (-np.inf, 0.0)]),
    ],
)
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.short)
def test_exact_values(name: str, points: list[tuple[float, float]], dtype: DType) -> None:
    got = compiled(name, dtype)([x for x, _ in points])
    expected = np.array([y for _, y in points], dtype.dtype)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


@pytest.mark.parametrize("name", [*FUNCTIONS, "pow", "floordiv"])
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.short)
def test_results_do_not_depend_on_the_width(name: str, dtype: DType) -> None:
    rng = generator(name, "width")
    with np.errstate(all="ignore"):
        edges = EDGES.astype(dtype.dtype)
    x = np.concatenate([rng.normal(size=1000).astype(dtype.dtype) * 5, edges])
    args = (x, rng.permutation(x))[: EXPANSIONS[name].arity]
    expected = compiled(name, dtype)(*args)
    for width in (1, 4):
        np.testing.assert_array_equal(compiled(name, dtype, width=width)(*args), expected)


@pytest.mark.parametrize("name", [*FUNCTIONS, "pow"])
@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.short)
def test_the_python_runtime_agrees(name: str, dtype: DType) -> None:
    rng = generator(name, "python")
    with np.errstate(all="ignore"):
        edges = EDGES.astype(dtype.dtype)
    x = np.concatenate([rng.normal(size=200).astype(dtype.dtype) * 5, edges])
    args = (x, rng.permutation(x))[: EXPANSIONS[name].arity]
    expected = [PYTHON_RUNTIME[name](*a) for a in zip(*args, strict=True)]
    assert {type(e) for e in expected} == {dtype.dtype.type}
    errors = ulp_errors(compiled(name, dtype)(*args), np.array(expected, np.longdouble))
    assert errors.max() <= ULP[name][dtype.name] + 4  # NumPy's own error: 4 at most


@pytest.mark.parametrize("dtype", [float32, float64], ids=lambda d: d.short)
def test_a_wrong_coefficient_is_seen(dtype: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, table, name in [
        (exponential, "_EXP", "exp"),
        (error_function, "_LOG_ERFC", "erf"),
    ]:
        right = getattr(module, table)
        nearly = {f: (c[0], c[1] * (1 + 2.0**-15), *c[2:]) for f, c in right.items()}
        if dtype is float64:
            nearly = {f: (c[0], c[1] * (1 + 2.0**-44), *c[2:]) for f, c in right.items()}
        points = float32_points(name) if dtype is float32 else float64_points(name, 100)
        with monkeypatch.context() as patch:
            patch.setattr(module, table, nearly)
            assert worst(name, dtype, points)[0] > ULP[name][dtype.name]


def test_wrong_special_values_are_seen() -> None:
    truth = np.array([np.nan, np.inf, -0.0, 1.0, 0.0], np.longdouble)
    for k, wrong in enumerate([1.0, np.nan, 0.0, np.inf, -0.0]):
        got = truth.astype(np.float32)
        assert ulp_errors(got, truth).max() == 0
        got[k] = wrong
        assert ulp_errors(got, truth).max() > 1e6
