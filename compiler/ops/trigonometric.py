"""Trigonometric and hyperbolic functions, their inverses, the angle and length of a point."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Samples, ops
from graphgrad.compiler.ops import split
from graphgrad.compiler.ops.special import in_float32, in_float64

FLOATS = ("float32", "float64", "bfloat16", "float16")
COMPLEX = ("complex64", "complex128")

sin = Elementwise(
    name="sin",
    public=("sin", "math.sin"),
    inputs="float",
    ref=np.sin,
    scalar=lambda s, x: s.sin(x),
    split=split.sin,
    partials=(lambda z, x: ops["cos"](x),),
    samples=Samples(dtypes=(*FLOATS, *COMPLEX), oracle="sin", ulp=2.0),
    doc="""The sine of each element, in radians.

    >>> import graphgrad as gg
    >>> gg.sin([0.0, 1.0]).numpy().round(3)
    array([0.   , 0.841], dtype=float32)
    """,
)
cos = Elementwise(
    name="cos",
    public=("cos", "math.cos"),
    inputs="float",
    ref=np.cos,
    scalar=lambda s, x: s.cos(x),
    split=split.cos,
    partials=(lambda z, x: -ops["sin"](x),),
    samples=Samples(dtypes=(*FLOATS, *COMPLEX), oracle="cos", ulp=2.0),
    doc="""The cosine of each element, in radians.

    >>> import graphgrad as gg
    >>> gg.cos([0.0, 1.0]).numpy().round(3)
    array([1.  , 0.54], dtype=float32)
    """,
)
tan = Elementwise(
    name="tan",
    public=("tan", "math.tan"),
    inputs="float",
    ref=in_float64(np.tan),
    scalar=lambda s, x: s.tan(x),
    split=split.tan,
    partials=(lambda z, x: 1 + z * z,),
    samples=Samples(domain=(-1.2, 1.2), dtypes=(*FLOATS, *COMPLEX), oracle="tan", ulp=2.0),
    doc="""The tangent of each element, in radians.

    >>> import graphgrad as gg
    >>> gg.tan([0.0, 1.0]).numpy().round(3)
    array([0.   , 1.557], dtype=float32)
    """,
)
asin = Elementwise(
    name="asin",
    public=("asin", "math.asin"),
    inputs="float",
    ref=in_float64(np.arcsin),
    scalar=lambda s, x: s.asin(x),
    partials=(lambda z, x: ops["rsqrt"]((1 - x) * (1 + x)),),
    samples=Samples(domain=(-0.8, 0.8), dtypes=FLOATS, oracle="asin", ulp=2.0),
    doc="""The arc sine of each element, in [-pi/2, pi/2]; NaN where |x| > 1.

    >>> import graphgrad as gg
    >>> gg.asin([0.0, 1.0]).numpy().round(3)
    array([0.   , 1.571], dtype=float32)
    """,
)
acos = Elementwise(
    name="acos",
    public=("acos", "math.acos"),
    inputs="float",
    ref=in_float64(np.arccos),
    scalar=lambda s, x: s.acos(x),
    partials=(lambda z, x: -ops["rsqrt"]((1 - x) * (1 + x)),),
    samples=Samples(domain=(-0.8, 0.8), dtypes=FLOATS, oracle="acos", ulp=2.0),
    doc="""The arc cosine of each element, in [0, pi]; NaN where |x| > 1.

    >>> import graphgrad as gg
    >>> gg.acos([1.0, 0.0]).numpy().round(3)
    array([0.   , 1.571], dtype=float32)
    """,
)
atan = Elementwise(
    name="atan",
    public=("atan", "math.atan"),
    inputs="float",
    ref=in_float64(np.arctan),
    scalar=lambda s, x: s.atan(x),
    partials=(lambda z, x: 1 / (1 + x * x),),
    samples=Samples(dtypes=FLOATS, oracle="atan", ulp=2.0),
    doc="""The arc tangent of each element, in [-pi/2, pi/2].

    >>> import graphgrad as gg
    >>> gg.atan([0.0, 1.0]).numpy().round(3)
    array([0.   , 0.785], dtype=float32)
    """,
)
sinh = Elementwise(
    name="sinh",
    public=("sinh", "math.sinh"),
    inputs="float",
    ref=np.sinh,
    scalar=lambda s, x: s.sinh(x),
    split=split.sinh,
    partials=(lambda z, x: ops["cosh"](x),),
    samples=Samples(dtypes=(*FLOATS, *COMPLEX), oracle="sinh", ulp=2.0),
    doc="""The hyperbolic sine of each element, (exp(x) - exp(-x)) / 2.

    >>> import graphgrad as gg
    >>> gg.sinh([0.0, 1.0]).numpy().round(3)
    array([0.   , 1.175], dtype=float32)
    """,
)
cosh = Elementwise(
    name="cosh",
    public=("cosh", "math.cosh"),
    inputs="float",
    ref=in_float64(np.cosh),
    scalar=lambda s, x: s.cosh(x),
    split=split.cosh,
    partials=(lambda z, x: ops["sinh"](x),),
    samples=Samples(dtypes=(*FLOATS, *COMPLEX), oracle="cosh", ulp=2.0),
    doc="""The hyperbolic cosine of each element, (exp(x) + exp(-x)) / 2.

    >>> import graphgrad as gg
    >>> gg.cosh([0.0, 1.0]).numpy().round(3)
    array([1.   , 1.543], dtype=float32)
    """,
)
asinh = Elementwise(
    name="asinh",
    public=("asinh", "math.asinh"),
    inputs="float",
    ref=np.arcsinh,
    scalar=lambda s, x: s.asinh(x),
    partials=(lambda z, x: 1 / ops["hypot"](x, 1),),
    samples=Samples(dtypes=FLOATS, oracle="asinh", ulp=2.0),
    doc="""The inverse hyperbolic sine of each element, log(x + sqrt(x**2 + 1)).

    >>> import graphgrad as gg
    >>> gg.asinh([0.0, 1.0]).numpy().round(3)
    array([0.   , 0.881], dtype=float32)
    """,
)
acosh = Elementwise(
    name="acosh",
    public=("acosh", "math.acosh"),
    inputs="float",
    ref=np.arccosh,
    scalar=lambda s, x: s.acosh(x),
    partials=(lambda z, x: 1 / (ops["sqrt"](x - 1) * ops["sqrt"](x + 1)),),
    samples=Samples(domain=(1.2, 5.0), dtypes=FLOATS, oracle="acosh", ulp=2.0),
    doc="""The inverse hyperbolic cosine of each element, log(x + sqrt(x**2 - 1)); NaN where x < 1.

    >>> import graphgrad as gg
    >>> gg.acosh([1.0, 2.0]).numpy().round(3)
    array([0.   , 1.317], dtype=float32)
    """,
)
atanh = Elementwise(
    name="atanh",
    public=("atanh", "math.atanh"),
    inputs="float",
    ref=np.arctanh,
    scalar=lambda s, x: s.atanh(x),
    partials=(lambda z, x: 1 / ((1 - x) * (1 + x)),),
    samples=Samples(domain=(-0.8, 0.8), dtypes=FLOATS, oracle="atanh", ulp=2.0),
    doc="""The inverse hyperbolic tangent of each element, log((1 + x) / (1 - x)) / 2; NaN beyond 1.

    >>> import graphgrad as gg
    >>> gg.atanh([0.0, 0.5]).numpy().round(3)
    array([0.   , 0.549], dtype=float32)
    """,
)


# -- of two arguments


def _over_length(x: Any, length: Any) -> Any:
    """x / length, and 0 at the origin."""
    origin = length == 0
    return ops["where"](origin, 0, x / ops["where"](origin, 1, length))


def _atan2_partial(x: Any, y: Any) -> Any:
    """x / (x**2 + y**2) without overflow; 0 at the origin."""
    length = ops["hypot"](x, y)
    return _over_length(_over_length(x, length), length)


atan2 = Elementwise(
    name="atan2",
    public=("atan2", "math.atan2"),
    arity=2,
    inputs="float",
    bind=lambda y, x, name=None: ((y, x), {}),
    ref=in_float64(np.arctan2),
    scalar=lambda s, y, x: s.atan2(y, x),
    partials=(
        lambda z, y, x: _atan2_partial(x, y),
        lambda z, y, x: -_atan2_partial(y, x),
    ),
    samples=Samples(
        domain=((0.5, 3.0), (-3.0, 3.0)),
        dtypes=FLOATS,
        edges=(0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, 3e38, -104.0),
        oracle=lambda y, x: np.arctan2(y, x),
        ulp=2.0,
    ),
    doc="""The angle of each point (x, y), in [-pi, pi]; its derivatives at (0, 0) are 0.

    >>> import graphgrad as gg
    >>> gg.atan2([1.0, 1.0, 0.0], [1.0, -1.0, -1.0]).numpy().round(3)
    array([0.785, 2.356, 3.142], dtype=float32)
    """,
)
hypot = Elementwise(
    name="hypot",
    public=("math.hypot",),
    arity=2,
    inputs="float",
    ref=in_float32(np.hypot),
    scalar=lambda s, x, y: s.hypot(x, y),
    partials=(lambda z, x, y: _over_length(x, z), lambda z, x, y: _over_length(y, z)),
    samples=Samples(
        dtypes=FLOATS,
        edges=(0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, 2e38, -104.0),
        oracle=lambda x, y: np.hypot(x, y),
        ulp=2.0,
    ),
    doc="""sqrt(x**2 + y**2) without overflow, element by element; its derivatives at (0, 0) are 0.

    >>> import graphgrad as gg
    >>> gg.math.hypot([3.0, 3e30], [4.0, 4e30]).numpy()
    array([5.e+00, 5.e+30], dtype=float32)
    """,
)
