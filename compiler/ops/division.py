"""Division toward zero, and products and quotients that are 0 where a factor is, whatever the
other: safe at the ends of their domain, in value and derivative."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler.errors import DivisionByZero
from graphgrad.compiler.families import Elementwise, add_all
from graphgrad.compiler.op import Samples, ops
from graphgrad.compiler.ops.elementwise import check_divisor
from graphgrad.compiler.ops.special import Array, in_float32, in_float64

FLOATS = ("float32", "float64", "bfloat16", "float16")
EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, 1e-40)


def _truncatediv(x: Array, y: Array) -> Array:
    check_divisor(truncatediv, x, y)
    if x.dtype.kind not in "iu":
        return np.asarray(np.trunc(x / y))
    q = np.floor_divide(x, y)
    rounded = ((x < 0) != (y < 0)) & (x - q * y != 0)
    return np.asarray(q + rounded.astype(q.dtype))


def _truncatemod(x: Array, y: Array) -> Array:
    check_divisor(truncatemod, x, y)
    return np.asarray(np.fmod(x, y))


def _scalar_truncatediv(s: Any, x: Any, y: Any) -> Any:
    if s.dtype(x).is_floating:
        return s.trunc(s.div(x, y))
    s.require(s.ne(y, 0), "divide_by_zero", x, y)
    return s.idiv(x, y)


def _scalar_truncatemod(s: Any, x: Any, y: Any) -> Any:
    if s.dtype(x).is_integer:
        s.require(s.ne(y, 0), "divide_by_zero", x, y)
    return s.fmod(x, y)


def _division_by_zero(op: Any) -> Any:
    return op(np.array([6, 7]), np.array([2, 0]))


def _integer_quotient(x: Array, y: Array) -> Array:
    """Python's integers, wrapped."""
    pairs = np.broadcast(x, y)
    found = [abs(int(a)) // abs(int(b)) * (1 if (a < 0) == (b < 0) else -1) for a, b in pairs]
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    words = np.array([v % (1 << 8 * x.dtype.itemsize) for v in found], unsigned)
    return np.asarray(words.view(x.dtype).reshape(pairs.shape))


truncatediv = Elementwise(
    name="truncatediv",
    public=("truncatediv", "math.truncatediv"),
    arity=2,
    inputs="number",
    ref=in_float32(_truncatediv),
    scalar=_scalar_truncatediv,
    nondifferentiable=True,
    failures={
        "divide_by_zero": (DivisionByZero, "truncatediv: integer division by zero ({a} / {b})")
    },
    samples=Samples(
        domain=((-9.0, 9.0), (0.5, 4.0)),
        dtypes=("float32", "float64", "bfloat16", "int32", "int64", "int8", "uint8"),
        edges=(0.0, -0.0, 1.0, -7.5),
        oracle=lambda x, y: np.trunc(x / y) if x.dtype.kind == "f" else _integer_quotient(x, y),
        ulp=0.5,
        errors=((_division_by_zero, "truncatediv: integer division by zero (7 / 0)"),),
    ),
    doc="""x / y without its fraction, element by element, in the dtype of x and y.

    Integer division by zero raises DivisionByZero. There is no derivative.

    >>> import graphgrad as gg
    >>> gg.truncatediv([7, -7], 2).numpy()
    array([ 3, -3], dtype=int32)
    """,
)
truncatemod = Elementwise(
    name="truncatemod",
    public=("truncatemod", "math.truncatemod"),
    arity=2,
    inputs="number",
    ref=in_float32(_truncatemod),
    scalar=_scalar_truncatemod,
    partials=(lambda z, x, y: 1, lambda z, x, y: -ops["truncatediv"](x, y)),
    failures={
        "divide_by_zero": (DivisionByZero, "truncatemod: integer division by zero ({a} % {b})")
    },
    samples=Samples(
        domain=((1.6, 2.4), (1.1, 1.5)),
        dtypes=("float32", "float64", "bfloat16", "int32", "int64", "int8", "uint8"),
        edges=(1.0, -7.5, 0.25),
        oracle=lambda x, y: (
            x - np.trunc(x / y) * y if x.dtype.kind == "f" else x - _integer_quotient(x, y) * y
        ),
        ulp=2.0,
        errors=((_division_by_zero, "truncatemod: integer division by zero (7 % 0)"),),
    ),
    doc="""x - truncatediv(x, y) * y, element by element: the remainder has the sign of x.

    Integer division by zero raises DivisionByZero.

    >>> import graphgrad as gg
    >>> gg.truncatemod([7, -7], 4).numpy()
    array([ 3, -3], dtype=int32)
    """,
)


def _unless_zero(condition: Array, value: Array) -> Array:
    """`value`, but 0 where the condition holds."""
    return np.where(condition, value.dtype.type(0), value)


def _nonzero(x: Any) -> Any:
    """1 where x is not 0, else 0: the factor whose derivative is taken."""
    return (x != 0).cast(x.dtype)


divide_no_nan = Elementwise(
    name="divide_no_nan",
    public=("math.divide_no_nan",),
    arity=2,
    inputs="divide",
    ref=in_float32(lambda x, y: _unless_zero(y == 0, x / y)),
    scalar=lambda s, x, y: s.select(s.eq(y, 0.0), 0.0, s.div(x, y)),
    partials=(
        lambda z, x, y: ops["divide_no_nan"](1, y),
        lambda z, x, y: -ops["divide_no_nan"](z, y),
    ),
    samples=Samples(
        domain=((-3.0, 3.0), (0.5, 3.0)),
        dtypes=FLOATS,
        edges=EDGES,
        oracle=lambda x, y: np.where(y == 0, 0, x / np.where(y == 0, 1, y)),
        ulp=0.5,
    ),
    doc="""x / y, but 0 where y is 0; there its derivatives are 0 too. Integers give float64.

    >>> import graphgrad as gg
    >>> gg.math.divide_no_nan([3.0, 3.0], [2.0, 0.0]).numpy()
    array([1.5, 0. ], dtype=float32)
    """,
)
multiply_no_nan = Elementwise(
    name="multiply_no_nan",
    public=("math.multiply_no_nan",),
    arity=2,
    inputs="float",
    ref=in_float32(lambda x, y: _unless_zero(y == 0, x * y)),
    scalar=lambda s, x, y: s.select(s.eq(y, 0.0), 0.0, s.mul(x, y)),
    vjp=lambda g, z, x, y, needs: (
        ops["multiply_no_nan"](g, y) if needs[0] else None,
        ops["multiply_no_nan"](x, g) if needs[1] else None,
    ),
    jvp=lambda ts, z, x, y: add_all(
        [
            None if ts[0] is None else ops["multiply_no_nan"](ts[0], y),
            None if ts[1] is None else ops["multiply_no_nan"](x, ts[1]),
        ]
    ),
    samples=Samples(
        dtypes=FLOATS,
        edges=EDGES,
        oracle=lambda x, y: np.where(y == 0, 0, np.where(y == 0, 1, x) * y),
        ulp=0.5,
    ),
    doc="""x * y, but 0 where y is 0, also where x is infinite or NaN.

    >>> import graphgrad as gg
    >>> gg.math.multiply_no_nan([3.0, float("inf")], [2.0, 0.0]).numpy()
    array([6., 0.], dtype=float32)
    """,
)
xdivy = Elementwise(
    name="xdivy",
    public=("math.xdivy",),
    arity=2,
    inputs="float",
    ref=in_float32(lambda x, y: _unless_zero(x == 0, x / y)),
    scalar=lambda s, x, y: s.select(s.eq(x, 0.0), 0.0, s.div(x, y)),
    partials=(
        lambda z, x, y: ops["xdivy"](_nonzero(x), y),
        lambda z, x, y: -ops["xdivy"](z, y),
    ),
    samples=Samples(
        domain=((-3.0, 3.0), (0.5, 3.0)),
        dtypes=FLOATS,
        edges=EDGES,
        oracle=lambda x, y: np.where(x == 0, 0, x / np.where(x == 0, 1, y)),
        ulp=0.5,
    ),
    doc="""x / y, but 0 where x is 0, whatever y; there its derivatives are 0 too.

    >>> import graphgrad as gg
    >>> gg.math.xdivy([3.0, 0.0], [2.0, 0.0]).numpy()
    array([1.5, 0. ], dtype=float32)
    """,
)
xlogy = Elementwise(
    name="xlogy",
    public=("math.xlogy",),
    arity=2,
    inputs="float",
    ref=in_float64(lambda x, y: _unless_zero(x == 0, x * np.log(y))),
    scalar=lambda s, x, y: s.select(s.eq(x, 0.0), 0.0, s.mul(x, s.log(y))),
    partials=(
        lambda z, x, y: ops["xlogy"](_nonzero(x), y),
        lambda z, x, y: ops["xdivy"](x, y),
    ),
    samples=Samples(
        domain=((-3.0, 3.0), (0.5, 3.0)),
        dtypes=FLOATS,
        edges=EDGES,
        oracle=lambda x, y: np.where(x == 0, 0, x * np.log(np.where(x == 0, 1, y))),
        ulp=2.0,
    ),
    doc="""x log(y), but 0 where x is 0, whatever y; there its derivatives are 0 too.

    >>> import graphgrad as gg
    >>> gg.math.xlogy([2.0, 0.0], [1.0, 0.0]).numpy()
    array([0., 0.], dtype=float32)
    """,
)
xlog1py = Elementwise(
    name="xlog1py",
    public=("math.xlog1py",),
    arity=2,
    inputs="float",
    ref=in_float64(lambda x, y: _unless_zero(x == 0, x * np.log1p(y))),
    scalar=lambda s, x, y: s.select(s.eq(x, 0.0), 0.0, s.mul(x, s.log1p(y))),
    partials=(
        lambda z, x, y: ops["xlog1py"](_nonzero(x), y),
        lambda z, x, y: ops["xdivy"](x, y + 1),
    ),
    samples=Samples(
        domain=((-3.0, 3.0), (-0.5, 3.0)),
        dtypes=FLOATS,
        edges=EDGES,
        oracle=lambda x, y: np.where(x == 0, 0, x * np.log1p(np.where(x == 0, 1, y))),
        ulp=3.0,
    ),
    doc="""x log(1 + y), but 0 where x is 0, whatever y; there its derivatives are 0 too.

    >>> import graphgrad as gg
    >>> gg.math.xlog1py([2.0, 0.0], [0.0, -1.0]).numpy()
    array([0., 0.], dtype=float32)
    """,
)
squared_difference = Elementwise(
    name="squared_difference",
    public=("math.squared_difference",),
    arity=2,
    inputs="number",
    ref=in_float32(lambda x, y: np.square(x - y)),
    scalar=lambda s, x, y: s.square(s.sub(x, y)),
    partials=(lambda z, x, y: 2 * (x - y), lambda z, x, y: 2 * (y - x)),
    samples=Samples(dtypes=(*FLOATS, "int32", "uint8"), oracle=lambda x, y: (x - y) ** 2, ulp=2.0),
    doc="""(x - y) ** 2, element by element. Integers wrap.

    >>> import graphgrad as gg
    >>> gg.math.squared_difference([1.0, 5.0], 3.0).numpy()
    array([4., 4.], dtype=float32)
    """,
)
