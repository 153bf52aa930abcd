"""Scalar operations as readable Python text, and the functions that text calls.

`python_expression` writes one operation; with `PYTHON_RUNTIME` as globals (and the user's own
names), such text runs in plain Python on NumPy scalars: an oracle for the LLVM emitter. Run it
under `np.errstate(all="ignore")`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.scalar import gamma, normal_quantile
from graphgrad.compiler.scalar.arrays import on_arrays

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "and_": "&", "or_": "|", "xor": "^",
    "shl": "<<", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip


def python_literal(value: float, dtype: DType) -> str:
    """A typed literal, so that nothing is promoted to float64 on the way.

    >>> python_literal(0.1, dtypes.float32), python_literal(3, dtypes.int64)
    ('np.float32(0.1)', 'np.int64(3)')
    """
    if dtype.is_bool:
        return str(bool(value))
    prefix = "" if dtype is dtypes.bfloat16 else "np."
    if dtype.is_integer:
        return f"np.{dtype.name}({int(value)})"
    if not math.isfinite(value):
        sign = "-" if value < 0 else ""
        return f"{prefix}{dtype.name}({sign}np.{'nan' if value != value else 'inf'})"
    with np.errstate(over="ignore"):
        rounded = dtype.dtype.type(value)
    if not np.isfinite(rounded):
        return python_literal(float(rounded), dtype)
    text = str(rounded)
    if not set(text) & set(".e"):  # as bfloat16 prints 3
        text += ".0"
    exact = dtype.dtype.type(float(text)) == rounded
    return f"{prefix}{dtype.name}({text if exact else repr(float(rounded))})"


def python_expression(fn: str, args: list[str], dtype: DType, attr: Any = None) -> str:
    """The Python text of one primitive or named function; `dtype` is that of the result.

    >>> python_expression("mul", ["x", "y + z"], dtypes.float32)
    'x * (y + z)'
    >>> python_expression("select", ["c", "x", "y"], dtypes.float32)
    'x if c else y'
    """
    if fn == "const":
        return python_literal(attr, dtype)
    if fn == "index":
        return f"np.int64(i{attr})"
    if fn in _INFIX:
        return f"{_atom(args[0])} {_INFIX[fn]} {_atom(args[1])}"
    if fn == "select":
        return f"{_atom(args[1])} if {_atom(args[0])} else {_atom(args[2])}"
    if fn == "neg":
        return f"-{_atom(args[0])}"
    if fn == "not_":
        return f"{'not ' if dtype.is_bool else '~'}{_atom(args[0])}"
    if (fn == "lshr" and dtype.kind == "u") or (fn == "ashr" and dtype.kind == "i"):
        return f"{_atom(args[0])} >> {_atom(args[1])}"
    if fn == "bitcast":
        name = dtype.name if dtype is dtypes.bfloat16 else f"np.{dtype.name}"
        return f"{_atom(args[0])}.view({name})"
    if fn == "convert":
        return f"to_{dtype.name}({args[0]})"
    if fn == "lookup":
        return f"np.{dtype.name}({tuple(attr)}[{args[0]}])"
    if fn == "require":
        return f"require({', '.join([args[0], repr(attr), *args[1:]])})"
    last = [] if attr is None else [repr(attr)]
    return f"{fn}({', '.join([*args, *last])})"


def _atom(text: str) -> str:
    """`text`, in parentheses unless it is a name, a number or one call."""
    depth = 0
    for k, c in enumerate(text):
        if c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth == 0 and k < len(text) - 1 and text[k + 1] != ".":
                return f"({text})"
        elif depth == 0 and not (c.isalnum() or c in "_."):
            return f"({text})"
    return text


def _wrap(value: int, like: type) -> Any:
    """An integer reduced modulo 2**bits to the type of a NumPy integer."""
    bits = np.dtype(like).itemsize * 8
    value &= (1 << bits) - 1
    if np.dtype(like).kind == "i" and value >> (bits - 1):
        value -= 1 << bits
    return like(value)


def _by_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of float64 as one of any float, rounded to the type of its first argument."""

    def rounded(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return type(args[0])(function(*(np.float64(a) for a in args)))

    return rounded


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function without its warnings."""

    def silent(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args)

    return silent


def _sigmoid(x: Any) -> Any:
    e = np.exp(-abs(x))
    return (e if x < 0 else np.float64(1)) / (1 + e)


def _softplus(x: Any) -> Any:
    return (np.float64(0) if x < 0 else x) + np.log1p(np.exp(-abs(x)))


def _cotangent_product(g: Any, p: Any) -> Any:
    z = g * p
    return type(z)(0) if g == 0 and z != z else z


def _fma(x: Any, y: Any, z: Any) -> Any:
    """`x * y + z` with one rounding, through exact rational arithmetic."""
    with np.errstate(all="ignore"):
        plain = x * y + z
    if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z)):
        return z if np.isfinite(x) and np.isfinite(y) else plain
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    return plain if exact == 0 else _round_fraction(exact, type(x))


def _round_fraction(exact: Fraction, kind: type) -> Any:
    """The nearest float64; or float32, through a float64 rounded to odd."""
    sign = -1.0 if exact < 0 else 1.0
    try:
        near = np.float64(abs(float(exact)))
    except OverflowError:
        near = np.float64(math.inf)
    if kind is np.float32 and np.isfinite(near) and Fraction(float(near)) != abs(exact):
        if Fraction(float(near)) > abs(exact):
            near = np.nextafter(near, np.float64(0))
        near = (near.view(np.int64) | 1).view(np.float64)
    with np.errstate(all="ignore"):
        return kind(math.copysign(near, sign))


def _idiv(x: Any, y: Any) -> Any:
    if y == 0:
        return type(x)(0)
    a, b = int(x), int(y)
    quotient = abs(a) // abs(b)
    return _wrap(quotient if (a < 0) == (b < 0) else -quotient, type(x))


def _irem(x: Any, y: Any) -> Any:
    return type(x)(0) if y == 0 else _wrap(int(x) - int(_idiv(x, y)) * int(y), type(x))


def _require(cond: Any, failure: str, a: Any, b: Any) -> None:
    if not cond:
        raise ArithmeticError(f"{failure}: {a}, {b}")


def _lshr(x: Any, y: Any) -> Any:
    bits = type(x)(0).itemsize * 8
    return _wrap((int(x) & ((1 << bits) - 1)) >> int(y), type(x)) if 0 <= y < bits else type(x)(0)


def _ashr(x: Any, y: Any) -> Any:
    bits = type(x)(0).itemsize * 8
    value = int(x) - (1 << bits) if int(x) >> (bits - 1) else int(x)
    return _wrap(value >> (int(y) if 0 <= y < bits else bits - 1), type(x))


def _divide_integers(choose: Callable[[int, int], int]) -> Callable[[Any, Any], Any]:
    def divide(x: Any, y: Any) -> Any:
        if y == 0:
            raise ZeroDivisionError(f"{x} by zero")
        return _wrap(choose(int(x), int(y)), type(x))

    return divide


def _by_kind(integers: Callable[..., Any], floats: Callable[..., Any]) -> Callable[..., Any]:
    quiet = _quiet(floats)
    return lambda x, y: (integers if isinstance(x, np.integer) else quiet)(x, y)


def _converter(dtype: DType) -> Callable[[Any], Any]:
    """The conversion to `dtype`: floats to integers truncate and saturate, NaN gives 0."""

    def convert(x: Any) -> Any:
        array = np.asarray(x)
        if dtype.is_integer and (array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16):
            value = float(x)
            bounded = 0.0 if value != value else min(max(value, -(2.0**70)), 2.0**70)
            return dtype.dtype.type(min(max(int(bounded), dtype.min), dtype.max))
        with np.errstate(all="ignore"):
            return array.astype(dtype.dtype)[()]

    return convert


def _philox(key: Any, counter: Any, high: Any, word: int) -> Any:
    low32 = 0xFFFFFFFF
    c = [int(counter) & low32, int(counter) >> 32, int(high) & low32, int(high) >> 32]
    k = [int(key) & low32, int(key) >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q & low32, p >> 32 ^ c[3] ^ k[1], p & low32]
        k = [(k[0] + 0x9E3779B9) & low32, (k[1] + 0xBB67AE85) & low32]
    return np.uint32(c[word])


PYTHON_RUNTIME: dict[str, Any] = {
    "np": np,
    "bfloat16": ml_dtypes.bfloat16,
    "abs": _quiet(np.abs),
    "sqrt": _quiet(np.sqrt),
    "fma": _fma,
    "floor": _quiet(np.floor),
    "ceil": _quiet(np.ceil),
    "trunc": _quiet(np.trunc),
    "rint": _quiet(np.rint),
    "copysign": np.copysign,
    "idiv": _idiv,
    "irem": _irem,
    "frem": _quiet(np.fmod),
    "lshr": _lshr,
    "ashr": _ashr,
    "require": _require,
    **{f"to_{d.name}": _converter(d) for d in dtypes.ALL},
    "exp": _by_float64(np.exp),
    "exp2": _by_float64(np.exp2),
    "expm1": _by_float64(np.expm1),
    "log": _by_float64(np.log),
    "log2": _by_float64(np.log2),
    "log10": _by_float64(np.log10),
    "log1p": _by_float64(np.log1p),
    "tanh": _by_float64(np.tanh),
    "sigmoid": _by_float64(_sigmoid),
    "softplus": _by_float64(_softplus),
    "erf": _by_float64(math.erf),
    "erfc": _by_float64(math.erfc),
    "sin": _by_float64(np.sin),
    "cos": _by_float64(np.cos),
    "tan": _by_float64(np.tan),
    "sinh": _by_float64(np.sinh),
    "cosh": _by_float64(np.cosh),
    "asin": _by_float64(np.arcsin),
    "acos": _by_float64(np.arccos),
    "atan": _by_float64(np.arctan),
    "asinh": _by_float64(np.arcsinh),
    "acosh": _by_float64(np.arccosh),
    "atanh": _by_float64(np.arctanh),
    "atan2": _by_float64(np.arctan2),
    "hypot": _by_float64(np.hypot),
    "sin_huge": _by_float64(np.sin),
    "cos_huge": _by_float64(np.cos),
    "tan_huge": _by_float64(np.tan),
    "pow": _by_float64(np.power),
    "lgamma": _by_float64(on_arrays(gamma.lgamma)),
    "digamma": _by_float64(on_arrays(gamma.digamma)),
    "trigamma": _by_float64(on_arrays(gamma.trigamma)),
    "zeta": _by_float64(on_arrays(gamma.zeta)),
    "polygamma": _by_float64(on_arrays(gamma.polygamma)),
    "ndtri": _by_float64(on_arrays(normal_quantile.ndtri)),
    "erfinv": _by_float64(on_arrays(normal_quantile.erfinv)),
    "ldexp": _quiet(lambda x, n: np.ldexp(x, int(n))),
    "minimum": lambda x, y: x if x < y or x != x else y,
    "maximum": lambda x, y: x if x > y or x != x else y,
    "fmod": _by_kind(_irem, np.fmod),
    "fmod_exact": _quiet(np.fmod),
    "floordiv": _by_kind(_divide_integers(lambda a, b: a // b), np.floor_divide),
    "mod": _by_kind(_divide_integers(lambda a, b: a % b), np.mod),
    "relu": lambda x: type(x)(0) if x < 0 else x,
    "sign": np.sign,
    "square": _quiet(lambda x: x * x),
    "reciprocal": _quiet(lambda x: type(x)(1) / x),
    "cotangent_product": _quiet(_cotangent_product),
    "zero_if_zero": lambda x, y: type(x)(0) if y == 0 else x,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "signbit": np.signbit,
    "philox": _philox,
    "uniform01_f32": lambda bits: np.float32(int(bits) >> 8) * np.float32(2.0**-24),
    "uniform01_f64": lambda a, b: np.float64(((int(a) >> 5) << 26) + (int(b) >> 6)) * 2.0**-53,
}
