"""Exponentials, logarithms, error functions and powers: a new op needs no more than a record."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Samples, ops
from graphgrad.compiler.ops import special, split
from graphgrad.compiler.ops.special import Array, in_float32, in_float64

FLOATS = ("float32", "float64", "bfloat16", "float16")
COMPLEX = ("complex64", "complex128")
LN2, LN10 = math.log(2), math.log(10)
TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

exp = Elementwise(
    name="exp",
    public=("exp", "math.exp"),
    inputs="float",
    ref=in_float64(np.exp),
    scalar=lambda s, x: s.exp(x),
    split=split.exp,
    partials=(lambda z, x: z,),
    samples=Samples(dtypes=(*FLOATS, *COMPLEX), oracle="exp", ulp=2.0),
    doc="""e to the power of each element.

    >>> import graphgrad as gg
    >>> gg.exp([0.0, 1.0]).numpy().round(3)
    array([1.   , 2.718], dtype=float32)
    """,
)
exp2 = Elementwise(
    name="exp2",
    public=("math.exp2",),
    inputs="float",
    ref=in_float64(np.exp2),
    scalar=lambda s, x: s.exp2(x),
    partials=(lambda z, x: z * LN2,),
    samples=Samples(dtypes=FLOATS, oracle=lambda x: np.exp2(x), ulp=2.0),
    doc="""2 to the power of each element.

    >>> import graphgrad as gg
    >>> gg.math.exp2([0.0, -1.0, 10.0]).numpy()
    array([1.000e+00, 5.000e-01, 1.024e+03], dtype=float32)
    """,
)
expm1 = Elementwise(
    name="expm1",
    public=("math.expm1",),
    inputs="float",
    ref=in_float64(np.expm1),
    scalar=lambda s, x: s.expm1(x),
    split=split.expm1,
    partials=(lambda z, x: ops["exp"](x),),  # z + 1 loses all digits where x is far below 0
    samples=Samples(dtypes=(*FLOATS, *COMPLEX), oracle="expm1", ulp=2.0),
    doc="""exp(x) - 1 for each element, with all digits where x is small.

    >>> import graphgrad as gg
    >>> gg.math.expm1([0.0, 1e-10]).numpy()
    array([0.e+00, 1.e-10], dtype=float32)
    """,
)
log = Elementwise(
    name="log",
    public=("math.log",),
    inputs="float",
    ref=in_float64(np.log),
    scalar=lambda s, x: s.log(x),
    split=split.log,
    partials=(lambda z, x: 1 / x,),
    samples=Samples(domain=(0.1, 9.0), dtypes=(*FLOATS, *COMPLEX), oracle="log", ulp=2.0),
    doc="""The natural logarithm of each element: -inf at 0, NaN below.

    >>> import graphgrad as gg
    >>> gg.math.log([1.0, 0.0]).numpy()
    array([  0., -inf], dtype=float32)
    """,
)
log2 = Elementwise(
    name="log2",
    public=("math.log2",),
    inputs="float",
    ref=in_float64(np.log2),
    scalar=lambda s, x: s.log2(x),
    partials=(lambda z, x: (1 / LN2) / x,),
    samples=Samples(domain=(0.1, 9.0), dtypes=FLOATS, oracle=lambda x: np.log2(x), ulp=2.0),
    doc="""The logarithm to base 2 of each element, exact at powers of 2: -inf at 0, NaN below.

    >>> import graphgrad as gg
    >>> gg.math.log2([1.0, 8.0, 0.0]).numpy()
    array([  0.,   3., -inf], dtype=float32)
    """,
)
log10 = Elementwise(
    name="log10",
    public=("math.log10",),
    inputs="float",
    ref=in_float64(np.log10),
    scalar=lambda s, x: s.log10(x),
    partials=(lambda z, x: (1 / LN10) / x,),
    samples=Samples(domain=(0.1, 9.0), dtypes=FLOATS, oracle="log10", ulp=2.0),
    doc="""The logarithm to base 10 of each element, exact at powers of 10: -inf at 0, NaN below.

    >>> import graphgrad as gg
    >>> gg.math.log10([1.0, 1000.0, 0.0]).numpy()
    array([  0.,   3., -inf], dtype=float32)
    """,
)
log1p = Elementwise(
    name="log1p",
    public=("math.log1p",),
    inputs="float",
    ref=special.log1p,
    scalar=lambda s, x: s.log1p(x),
    split=split.log1p,
    partials=(lambda z, x: 1 / (1 + x),),
    samples=Samples(domain=(-0.8, 9.0), dtypes=(*FLOATS, *COMPLEX), oracle="log1p", ulp=2.0),
    doc="""log(1 + x) for each element, with all digits where x is small.

    >>> import graphgrad as gg
    >>> gg.math.log1p([0.0, 1e-10]).numpy()
    array([0.e+00, 1.e-10], dtype=float32)
    """,
)
tanh = Elementwise(
    name="tanh",
    public=("tanh", "math.tanh", "nn.tanh"),
    inputs="float",
    ref=np.tanh,
    scalar=lambda s, x: s.tanh(x),
    split=split.tanh,
    partials=(lambda z, x: 1 - z * z,),
    samples=Samples(dtypes=(*FLOATS, *COMPLEX), oracle="tanh", ulp=2.0),
    doc="""The hyperbolic tangent of each element.

    >>> import graphgrad as gg
    >>> gg.tanh([0.0, 1.0]).numpy().round(3)
    array([0.   , 0.762], dtype=float32)
    """,
)
sigmoid = Elementwise(
    name="sigmoid",
    public=("sigmoid", "math.sigmoid", "nn.sigmoid"),
    inputs="float",
    ref=in_float64(special.sigmoid),
    scalar=lambda s, x: s.sigmoid(x),
    split=split.sigmoid,
    partials=(lambda z, x: z * (1 - z),),
    samples=Samples(
        dtypes=(*FLOATS, *COMPLEX),
        oracle=lambda x: (
            np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x)))
            if x.dtype.kind == "f"
            else 1 / (1 + np.exp(-x))
        ),
        ulp=2.0,
    ),
    doc="""1 / (1 + exp(-x)) for each element; never overflows.

    >>> import graphgrad as gg
    >>> gg.sigmoid([0.0, -1000.0]).numpy()
    array([0.5, 0. ], dtype=float32)
    """,
)
softplus = Elementwise(
    name="softplus",
    public=("math.softplus", "nn.softplus"),
    parameter="features",
    inputs="float",
    ref=in_float64(special.softplus),
    scalar=lambda s, x: s.softplus(x),
    partials=(lambda z, x: ops["sigmoid"](x),),
    samples=Samples(dtypes=FLOATS, oracle=lambda x: np.logaddexp(x, 0 * np.isnan(x)), ulp=2.0),
    doc="""log(1 + exp(x)) for each element; never overflows.

    >>> import graphgrad as gg
    >>> gg.nn.softplus([0.0, 1000.0]).numpy().round(3)
    array([6.93e-01, 1.00e+03], dtype=float32)
    """,
)
erf = Elementwise(
    name="erf",
    public=("math.erf",),
    inputs="float",
    ref=in_float64(special.erf),
    scalar=lambda s, x: s.erf(x),
    partials=(lambda z, x: TWO_OVER_ROOT_PI * ops["exp"](-x * x),),
    samples=Samples(dtypes=FLOATS, oracle="erf", ulp=2.0),
    doc="""The error function of each element.

    >>> import graphgrad as gg
    >>> gg.math.erf([0.0, 1.0]).numpy().round(3)
    array([0.   , 0.843], dtype=float32)
    """,
)
erfc = Elementwise(
    name="erfc",
    public=("math.erfc",),
    inputs="float",
    ref=in_float64(special.erfc),
    scalar=lambda s, x: s.erfc(x),
    partials=(lambda z, x: -TWO_OVER_ROOT_PI * ops["exp"](-x * x),),
    samples=Samples(dtypes=FLOATS, oracle="erfc", ulp=2.0),
    doc="""1 - erf(x) for each element, with all digits where x is large.

    >>> import graphgrad as gg
    >>> gg.math.erfc([0.0, 1.0]).numpy().round(3)
    array([1.   , 0.157], dtype=float32)
    """,
)


# -- pow


def _power(x: Array, y: Array) -> Array:
    if y.dtype.kind == "i" and (y < 0).any():
        x, y = np.broadcast_arrays(x, y)
        place = int(np.flatnonzero(y < 0)[0])
        raise pow.failure("negative_exponent", {}, x.flat[place], y.flat[place], place)
    z = np.asarray(np.power(x, y))
    if y.dtype.kind == "f" and y.size and y.flat[0] == 0.5:  # NumPy takes sqrt where all are 0.5
        z = np.where((y == 0.5) & np.isneginf(x), z.dtype.type(np.inf), z)
        z = np.where((y == 0.5) & (z == 0), z.dtype.type(0), z)
    return z


def _power_oracle(x: Array, y: Array) -> Array:
    """Integers by modular powers in Python's arithmetic, wrapped."""
    if x.dtype.kind in "fc":
        return np.asarray(np.power(x, y))
    bits = 8 * x.dtype.itemsize
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    pairs = np.broadcast(x, y)
    flat = [builtins.pow(int(a), int(b), 1 << bits) for a, b in pairs]
    return np.array(flat, unsigned).view(x.dtype).reshape(pairs.shape)


def _integer_power(s: Any, x: Any, y: Any) -> Any:
    """By squaring, over every bit of the exponent: what overflows wraps, as in NumPy."""
    dtype = s.dtype(x)
    if dtype.kind == "i":
        s.require(s.ge(y, 0), "negative_exponent", x, y)
    result, base = s.const(1, dtype), x
    for bit in range(dtype.bits):
        odd = s.ne(s.and_(s.lshr(y, bit), 1), 0)
        result = s.select(odd, s.mul(result, base), result)
        base = s.mul(base, base)
    return result


def _power_by_base(z: Any, x: Any, y: Any) -> Any:
    """y x**(y - 1), but 0 at y == 0, where x**-1 may be infinite."""
    flat = y == 0
    return ops["where"](flat, 0, y * x ** ops["where"](flat, 0, y - 1))


def _power_by_exponent(z: Any, x: Any, y: Any) -> Any:
    """z log(x), but 0 where x is not positive (or, complex, not 0)."""
    positive = x != 0 if x.dtype.is_complex else x > 0
    return ops["where"](positive, z * ops["log"](ops["where"](positive, x, 1)), 0)


pow = Elementwise(
    name="pow",
    public=("pow", "math.pow"),
    arity=2,
    inputs="number",
    ref=in_float32(_power),
    scalar=lambda s, x, y: s.pow(x, y) if s.dtype(x).is_floating else _integer_power(s, x, y),
    split=split.pow,
    partials=(_power_by_base, _power_by_exponent),
    failures={
        "negative_exponent": (
            ArgumentError,
            "pow: an integer to a negative integer power ({a} ** {b}); cast to float first",
        )
    },
    samples=Samples(
        domain=((0.3, 3.0), (-2.0, 2.5)),
        dtypes=("float32", "float64", "bfloat16", "int32", "uint8", *COMPLEX),
        edges=(0.0, 1.0, -1.0, 2.0, 0.5, -0.5, np.inf, -np.inf, np.nan),
        oracle=_power_oracle,
        ulp=2.0,
        errors=(
            (lambda op: op(True, True), "pow: takes numbers, got True and True"),
            (
                lambda op: op(np.array([2, 3]), np.array([1, -1])),
                "negative integer power (3 ** -1)",
            ),
        ),
    ),
    doc="""x ** y, element by element; 0 ** 0 is 1.

    The derivative of x ** 0 is 0, also at x == 0, and the one by y is 0 where x <= 0. An integer to
    a negative integer power raises ArgumentError. Of complex powers it is the principal value.

    >>> import graphgrad as gg
    >>> gg.pow([2.0, 3.0], 2.0).numpy()
    array([4., 9.], dtype=float32)
    """,
)
