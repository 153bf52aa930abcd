"""The elementary functions: where to test them, what is true there, and how to measure an error.

The truth for float32 is the float64 of NumPy or C, and for float64 mpmath; special values are those
of NumPy or C in both.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

Array = Any


@dataclass(frozen=True)
class Elementary:
    """A function: in NumPy (float64 and wider), in mpmath, and the interval of most points."""

    wide: Callable[..., Array]
    exact: Callable[..., Any]
    interval: tuple[float, float] = (-10.0, 10.0)
    arity: int = 1


def _bounded(function: Callable[[Any], Any], bound: float = 2000.0) -> Callable[[Any], Any]:
    """`function`, flat beyond a bound where float64 has only 0, infinity or a constant.

    mpmath takes long over exp(1e300).
    """
    return lambda x: function(min(max(x, -bound), bound))


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


ELEMENTARY: dict[str, Elementary] = {
    "exp": Elementary(np.exp, _bounded(mpmath.exp), (-750, 720)),
    "exp2": Elementary(np.exp2, _bounded(lambda x: mpmath.mpf(2) ** x), (-1080, 1030)),
    "expm1": Elementary(np.expm1, _bounded(mpmath.expm1), (-45, 720)),
    "log": Elementary(np.log, mpmath.log, (0.1, 10)),
    "log2": Elementary(np.log2, lambda x: mpmath.log(x) / mpmath.log(2), (0.1, 10)),
    "log10": Elementary(np.log10, mpmath.log10, (0.1, 10)),
    "log1p": Elementary(np.log1p, mpmath.log1p, (-1, 3)),
    "tanh": Elementary(np.tanh, _bounded(mpmath.tanh), (-22, 22)),
    "sigmoid": Elementary(_sigmoid, _bounded(lambda x: 1 / (1 + mpmath.exp(-x))), (-750, 40)),
    "softplus": Elementary(
        _softplus, lambda x: max(x, 0) + mpmath.log1p(_bounded(mpmath.exp)(-abs(x))), (-750, 40)
    ),
    "erf": Elementary(np.vectorize(math.erf, otypes="d"), _bounded(mpmath.erf, 40), (-6.5, 6.5)),
    "erfc": Elementary(np.vectorize(math.erfc, otypes="d"), _bounded(mpmath.erfc, 40), (-6.5, 28)),
    "sin": Elementary(np.sin, mpmath.sin, (-1e4, 1e4)),
    "cos": Elementary(np.cos, mpmath.cos, (-1e4, 1e4)),
    "tan": Elementary(np.tan, mpmath.tan, (-1e4, 1e4)),
    "asin": Elementary(np.arcsin, mpmath.asin, (-1, 1)),
    "acos": Elementary(np.arccos, mpmath.acos, (-1, 1)),
    "atan": Elementary(np.arctan, mpmath.atan),
    "sinh": Elementary(np.sinh, _bounded(mpmath.sinh), (-712, 712)),
    "cosh": Elementary(np.cosh, _bounded(mpmath.cosh), (-712, 712)),
    "asinh": Elementary(np.arcsinh, mpmath.asinh),
    "acosh": Elementary(np.arccosh, mpmath.acosh, (1, 10)),
    "atanh": Elementary(np.arctanh, mpmath.atanh, (-1, 1)),
    "pow": Elementary(np.power, mpmath.power, arity=2),
    "atan2": Elementary(np.arctan2, mpmath.atan2, arity=2),
    "hypot": Elementary(np.hypot, mpmath.hypot, arity=2),
}
EDGES = np.array(
    [0.0, 5e-324, 1e-310, 2.2250738585072014e-308, 1e-45, 1e-40, 1.1754943508222875e-38, 1e-30]
    + [2.0**-54, 2.0**-27, 2.0**-24, 2.0**-12, 1e-4, 0.5, 0.6931471805599453, 0.75, 0.921875]
    + [np.sqrt(0.5), np.sqrt(2) - 1, 2 - np.sqrt(2), 1.0, np.sqrt(2), 1.5, 2.0, 1000.0]
    + [np.pi / 4, np.pi / 2, np.pi, 20.0, 88.7, 88.73, 89.41, 89.42, 103.9, 104.1, 709.7, 709.8]
    + [710.47, 710.48, 745.1, 746.0, 8192.0, 2.0**28, 131071.9, 131072.0, 2.0**40 - 1, 2.0**40]
    + [1e19, 1e22, 1e38, 3.4e38, 1e154, 1e300, 1.7e308, np.inf, np.nan]
)
# float64 numbers near multiples of pi/2, 6381956970095103 * 2.0**797 the nearest of all
# (Muller, Elementary Functions)
NEAR_MULTIPLES = np.array(
    [6381956970095103 * 2.0**797, 3386417804515981120643892082331253 * 2.0**3]
)


def generator(*key: object) -> np.random.Generator:
    """Random numbers that are the same for the same key."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def points(name: str, dtype: Any, count: int) -> tuple[Array, ...]:
    """Operands in `dtype`: bit patterns (strided over all of them), interesting places, edges.

    Of each kind there are `count`.
    """
    f, dtype = ELEMENTARY[name], np.dtype(dtype)
    rng = generator(name, dtype.name)
    if f.arity == 2:
        return _pairs(name, dtype, count, rng)
    low, high = f.interval
    if dtype.itemsize == 4:
        low, high = max(low, -110), min(high, 95)
    near = rng.uniform(low, high, count)
    small = np.ldexp(rng.uniform(-2, 2, count), rng.integers(-60, 4, count))
    about_one = rng.choice([1.0, -1.0], count) + np.ldexp(
        rng.uniform(-1, 1, count), rng.integers(-52, 0, count)
    )
    with np.errstate(all="ignore"):
        found = [near, near / 100, small, about_one, NEAR_MULTIPLES, -NEAR_MULTIPLES]
        found = [x.astype(dtype) for x in found]
    return (np.concatenate([_patterns(dtype, count, rng), *found, edges(dtype)]),)


def edges(dtype: Any) -> Array:
    """`EDGES` of both signs, each with its three neighbours on both sides."""
    dtype = np.dtype(dtype)
    with np.errstate(over="ignore"):
        bits = np.abs(EDGES).astype(dtype).view(f"i{dtype.itemsize}")
    bits = np.maximum(bits[:, None] + np.arange(-3, 4), 0).astype(bits.dtype)
    values = np.unique(bits.view(dtype))
    values[np.isnan(values)] = np.nan  # a quiet one
    return np.concatenate([values, -values])


def _patterns(dtype: Any, count: int, rng: np.random.Generator) -> Array:
    """Bit patterns in equal steps from a random one: every exponent, both signs."""
    bits = 8 * dtype.itemsize
    step = np.uint64((1 << bits) // count | 1)
    patterns = rng.integers(0, 2**32, dtype=np.uint64) + step * np.arange(count, dtype=np.uint64)
    return patterns.astype(f"u{bits // 8}").view(dtype)


def _pairs(name: str, dtype: Any, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    x = [rng.permutation(_patterns(dtype, count, rng)), 4 * rng.normal(size=count)]
    y = [rng.permutation(_patterns(dtype, count, rng)), 4 * rng.normal(size=count)]
    if name == "pow":
        wide = 1 if dtype.itemsize == 4 else 7
        x += [np.exp(rng.normal(size=count)), 1 + 1e-3 * rng.normal(size=count)]
        y += [40 * wide * rng.normal(size=count), 4e4 * wide * rng.normal(size=count)]
        x.append(4 * rng.normal(size=count))
        y.append(rng.integers(-40, 40, count))
    else:
        x += [np.exp(20 * rng.normal(size=count)), 1 + 1e-3 * rng.normal(size=count)]
        y += [x[-2] * np.exp(5 * rng.normal(size=count)), 1 + 1e-3 * rng.normal(size=count)]
    some = np.concatenate([EDGES[:2], EDGES[2::4], [-1.0, -2.0, -3.0, -0.5, -np.inf, -0.0, 3.0]])
    grid = np.meshgrid(some, some)
    with np.errstate(all="ignore"):
        a, b = (np.concatenate([*v, e.ravel()]).astype(dtype) for v, e in zip((x, y), grid))
    return a, b


def truth(name: str, operands: tuple[Array, ...]) -> Array:
    """The values as long doubles, exact to a small part of the last place in the dtype."""
    f = ELEMENTARY[name]
    with np.errstate(all="ignore"):
        values = np.asarray(f.wide(*(x.astype(np.float64) for x in operands)), np.longdouble)
    if operands[0].dtype == np.float32:
        return values
    regular = np.isfinite(values) & (values != 0)
    for x in operands:
        regular &= np.isfinite(x) & ((x != 0) | (f.arity == 1))  # mpmath has no -0
    values[regular] = [
        exact_value(f.exact, *map(float, xs)) for xs in zip(*(x[regular] for x in operands))
    ]
    return values


def exact_value(function: Callable[..., Any], *args: float) -> Any:
    """An mpmath function rounded to long double: 11 bits more than float64."""
    exponent = max(int(np.frexp(a)[1]) for a in args)
    with mpmath.workprec(160 + max(0, exponent)):
        # its parts would be subnormal in float64 where it is small
        big = function(*map(mpmath.mpf, args)) * mpmath.mpf(2) ** 400
        scale = -400
        if abs(big) > mpmath.mpf(2) ** 900:
            big, scale = big / mpmath.mpf(2) ** 800, 400
        high = float(big)
        return np.ldexp(np.longdouble(high) + np.longdouble(float(big - high)), scale)


def ulp_errors(got: Array, true: Array) -> Array:
    """|got - true| in units of the spacing at the truth, which is exact or nearly so.

    2**60 where NaN, an infinity or the sign of a zero is wrong.
    """
    with np.errstate(all="ignore"):
        rounded = true.astype(got.dtype)
        spacing = np.spacing(np.abs(rounded)).astype(np.longdouble)
        errors = np.abs(got.astype(np.longdouble) - true) / spacing
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    errors[same & ~np.isfinite(rounded)] = 0
    errors[~same & ~(np.isfinite(rounded) & np.isfinite(got))] = 2.0**60
    errors[(np.signbit(got) != np.signbit(true)) & ~np.isnan(true)] = 2.0**60
    return errors


def worst(got: Array, true: Array, operands: tuple[Array, ...]) -> tuple[float, tuple[float, ...]]:
    """The greatest error in units in the last place, and where."""
    errors = ulp_errors(got, true)
    k = int(np.argmax(errors))
    return float(errors[k]), tuple(float(x[k]) for x in operands)
