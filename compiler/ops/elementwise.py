"""Elementwise arithmetic: adding an op to this file is all that a new one needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler.errors import DivisionByZero
from graphgrad.compiler.families import Elementwise, Mask, add_all, conjugate
from graphgrad.compiler.op import Samples, ops
from graphgrad.compiler.ops import split
from graphgrad.compiler.ops.special import Array, in_float32
from graphgrad.compiler.types import tensor_type

ANY_NUMBER = ("float32", "float64", "bfloat16", "float16", "int32", "int64", "uint8")
FLOATS = ("float32", "float64", "bfloat16", "float16")
COMPLEX = ("complex64", "complex128")
NUMBERS = (*ANY_NUMBER, *COMPLEX)


def _bool_error(op: Any) -> Any:
    return op(*[True] * op.arity)


NUMBERS_ONLY = ((_bool_error, "takes numbers, got True"),)

add = Elementwise(
    name="add",
    public=("add", "math.add"),
    arity=2,
    inputs="number",
    ref=np.add,
    scalar=lambda s, x, y: s.add(x, y),
    split=split.add,
    partials=(lambda z, x, y: 1, lambda z, x, y: 1),
    samples=Samples(dtypes=NUMBERS, oracle=lambda x, y: x - (-y), ulp=0.5, errors=NUMBERS_ONLY),
    doc="""x + y, element by element; shapes broadcast and dtypes promote. Integers wrap.

    >>> import graphgrad as gg
    >>> gg.add([1, 2], 3).numpy()
    array([4, 5], dtype=int32)
    """,
)
sub = Elementwise(
    name="sub",
    public=("subtract", "math.subtract"),
    arity=2,
    inputs="number",
    ref=np.subtract,
    scalar=lambda s, x, y: s.sub(x, y),
    split=split.sub,
    partials=(lambda z, x, y: 1, lambda z, x, y: -1),
    samples=Samples(dtypes=NUMBERS, oracle=lambda x, y: x + (-y), ulp=0.5, errors=NUMBERS_ONLY),
    doc="""x - y, element by element; shapes broadcast and dtypes promote. Integers wrap.

    >>> import graphgrad as gg
    >>> gg.subtract([1, 2], 3).numpy()
    array([-2, -1], dtype=int32)
    """,
)
mul = Elementwise(
    name="mul",
    public=("multiply", "math.multiply"),
    arity=2,
    inputs="number",
    ref=np.multiply,
    scalar=lambda s, x, y: s.mul(x, y),
    split=split.mul,
    partials=(lambda z, x, y: y, lambda z, x, y: x),
    samples=Samples(dtypes=NUMBERS, oracle=lambda x, y: y * x, ulp=0.5, errors=NUMBERS_ONLY),
    doc="""x * y, element by element; shapes broadcast and dtypes promote. Integers wrap.

    >>> import graphgrad as gg
    >>> gg.multiply([1, 2], 3).numpy()
    array([3, 6], dtype=int32)
    """,
)
div = Elementwise(
    name="div",
    public=("divide", "truediv", "math.divide", "math.truediv"),
    arity=2,
    inputs="divide",
    ref=np.true_divide,
    scalar=lambda s, x, y: s.div(x, y),
    split=split.div,
    partials=(lambda z, x, y: 1 / y, lambda z, x, y: -z / y),
    samples=Samples(
        domain=((-3.0, 3.0), (0.5, 3.0)),
        dtypes=(*FLOATS, *COMPLEX),
        oracle=lambda x, y: x * (1 / y) if x.dtype.kind in "iu" else x / y,
        ulp=0.5,
    ),
    doc="""x / y, element by element: integers give float64, and x / 0 is inf or NaN.

    >>> import graphgrad as gg
    >>> gg.divide([1, 2], 4).numpy()
    array([0.25, 0.5 ])
    """,
)


def check_divisor(op: Elementwise, x: Array, y: Array) -> None:
    """Raise for the first integer division by zero."""
    if y.dtype.kind in "iu" and not y.all():
        x, y = np.broadcast_arrays(x, y)
        place = int(np.flatnonzero(y == 0)[0]) if x.size else -1
        if place >= 0:
            raise op.failure("divide_by_zero", {}, x.flat[place], 0, place)


def _floordiv(x: Array, y: Array) -> Array:
    check_divisor(floordiv, x, y)
    return np.asarray(np.floor_divide(x, y))


def _mod(x: Array, y: Array) -> Array:
    check_divisor(mod, x, y)
    return np.asarray(np.remainder(x, y))


def _division_by_zero(op: Any) -> Any:
    return op(np.array([6, 7]), np.array([2, 0]))


floordiv = Elementwise(
    name="floordiv",
    public=("math.floordiv",),
    arity=2,
    inputs="number",
    ref=in_float32(_floordiv),
    scalar=lambda s, x, y: s.floordiv(x, y),
    nondifferentiable=True,
    failures={
        "divide_by_zero": (DivisionByZero, "floordiv: integer division by zero ({a} // {b})")
    },
    samples=Samples(
        domain=((-9.0, 9.0), (0.5, 4.0)),
        dtypes=("float32", "float64", "bfloat16", "int32", "int64", "uint8"),
        edges=(0.0, -0.0, 1.0, -7.5),
        oracle=lambda x, y: np.floor(x / y) if x.dtype.kind == "f" else (x - (x % y)) // y,
        ulp=0.5,
        errors=(*NUMBERS_ONLY, (_division_by_zero, "floordiv: integer division by zero (7 // 0)")),
    ),
    doc="""The floor of x / y, element by element, in the dtype of x and y.

    Integer division by zero raises DivisionByZero. There is no derivative.

    >>> import graphgrad as gg
    >>> gg.math.floordiv([7, -7], 2).numpy()
    array([ 3, -4], dtype=int32)
    """,
)
mod = Elementwise(
    name="mod",
    public=("math.floormod", "math.mod", "floormod"),
    arity=2,
    inputs="number",
    ref=in_float32(_mod),
    scalar=lambda s, x, y: s.mod(x, y),
    partials=(lambda z, x, y: 1, lambda z, x, y: -ops["floordiv"](x, y)),
    failures={"divide_by_zero": (DivisionByZero, "mod: integer division by zero ({a} % {b})")},
    samples=Samples(
        domain=((0.6, 1.4), (1.5, 1.9)),
        dtypes=("float32", "float64", "bfloat16", "int32", "int64", "uint8"),
        edges=(1.0, -7.5, 0.25),
        oracle=lambda x, y: x - np.floor(x / y) * y if x.dtype.kind == "f" else x - (x // y) * y,
        ulp=2.0,
        errors=(*NUMBERS_ONLY, (_division_by_zero, "mod: integer division by zero (7 % 0)")),
    ),
    doc="""x - floor(x / y) * y, element by element: the remainder has the sign of y.

    Integer division by zero raises DivisionByZero.

    >>> import graphgrad as gg
    >>> gg.math.floormod([7, -7], 4).numpy()
    array([3, 1], dtype=int32)
    """,
)
neg = Elementwise(
    name="neg",
    public=("negative", "math.negative"),
    inputs="number",
    ref=np.negative,
    scalar=lambda s, x: s.neg(x),
    split=split.neg,
    partials=(lambda z, x: -1,),
    samples=Samples(
        dtypes=NUMBERS,
        oracle=lambda x: 0 - x if x.dtype.kind in "iu" else x * -1,
        ulp=0.0,
        errors=NUMBERS_ONLY,
    ),
    doc="""-x, element by element.

    >>> import graphgrad as gg
    >>> gg.negative([1, -2]).numpy()
    array([-1,  2], dtype=int32)
    """,
)


def _slope_of_abs(z: Any, x: Any) -> Any:
    """The sign of a real x, conj(x) / |x| of a complex one; 0 at 0."""
    if not x.dtype.is_complex:
        return ops["sign"](x)
    return conjugate(x) / ops["where"](z == 0, 1, z)


abs = Elementwise(
    name="abs",
    public=("abs", "math.abs"),
    inputs="number",
    ref=np.absolute,
    scalar=lambda s, x: s.abs(x),
    split=lambda x: ops["hypot"](*x),
    type=lambda x: tensor_type(x.shape, x.dtype.real_dtype),
    partials=(_slope_of_abs,),
    samples=Samples(
        dtypes=NUMBERS,
        oracle=lambda x: (
            np.where(np.signbit(x), -x, x)
            if x.dtype.kind == "f"
            else np.sqrt(np.real(x * np.conj(x)))
            if x.dtype.kind == "c"
            else np.where(x < 0, -x, x)
        ),
        ulp=0.0,
        errors=NUMBERS_ONLY,
    ),
    doc="""The absolute value of each element, real also of complex ones; the derivative at 0 is 0.

    >>> import graphgrad as gg
    >>> gg.abs([-1.5, 2.0]).numpy(), gg.abs(3 + 4j).numpy()
    (array([1.5, 2. ], dtype=float32), np.float64(5.0))
    """,
)
sign = Elementwise(
    name="sign",
    public=("sign", "math.sign"),
    inputs="number",
    ref=in_float32(np.sign),  # bfloat16's own keeps -0
    scalar=lambda s, x: s.sign(x),
    nondifferentiable=True,
    samples=Samples(
        dtypes=ANY_NUMBER,
        oracle=lambda x: np.where(np.isnan(x), x, 1.0 * (x > 0) - (x < 0)),
        ulp=0.0,
        errors=NUMBERS_ONLY,
    ),
    doc="""-1, 0 or 1 by the sign of each element; NaN stays NaN.

    >>> import graphgrad as gg
    >>> gg.sign([-3.0, 0.0, 2.0]).numpy()
    array([-1.,  0.,  1.], dtype=float32)
    """,
)
square = Elementwise(
    name="square",
    public=("square", "math.square"),
    inputs="number",
    ref=np.square,
    scalar=lambda s, x: s.square(x),
    split=split.square,
    partials=(lambda z, x: x + x,),
    samples=Samples(dtypes=NUMBERS, oracle=lambda x: x * x, ulp=0.5, errors=NUMBERS_ONLY),
    doc="""x * x, element by element.

    >>> import graphgrad as gg
    >>> gg.square([1.5, -2.0]).numpy()
    array([2.25, 4.  ], dtype=float32)
    """,
)
sqrt = Elementwise(
    name="sqrt",
    public=("sqrt", "math.sqrt"),
    inputs="float",
    ref=np.sqrt,
    scalar=lambda s, x: s.sqrt(x),
    split=split.sqrt,
    partials=(lambda z, x: 0.5 / z,),
    samples=Samples(domain=(0.1, 9.0), dtypes=(*FLOATS, *COMPLEX), oracle="sqrt", ulp=0.5),
    doc="""The square root of each element; NaN below 0, and the derivative at 0 is inf.

    >>> import graphgrad as gg
    >>> gg.sqrt([4.0, 2.25]).numpy()
    array([2. , 1.5], dtype=float32)
    """,
)
rsqrt = Elementwise(
    name="rsqrt",
    public=("math.rsqrt",),
    inputs="float",
    ref=in_float32(lambda x: x.dtype.type(1) / np.sqrt(x)),
    scalar=lambda s, x: s.div(1.0, s.sqrt(x)),
    split=split.rsqrt,
    partials=(lambda z, x: -0.5 * z * z * z,),
    samples=Samples(
        domain=(0.2, 9.0), dtypes=(*FLOATS, *COMPLEX), oracle=lambda x: 1 / np.sqrt(x), ulp=1.0
    ),
    doc="""1 / sqrt(x), element by element.

    >>> import graphgrad as gg
    >>> gg.math.rsqrt([4.0, 0.25]).numpy()
    array([0.5, 2. ], dtype=float32)
    """,
)
reciprocal = Elementwise(
    name="reciprocal",
    public=("math.reciprocal",),
    inputs="float",
    ref=lambda x: x.dtype.type(1) / x,
    scalar=lambda s, x: s.reciprocal(x),
    split=split.reciprocal,
    partials=(lambda z, x: -z * z,),
    samples=Samples(domain=(0.3, 4.0), dtypes=(*FLOATS, *COMPLEX), oracle=lambda x: x**-1, ulp=0.5),
    doc="""1 / x, element by element.

    >>> import graphgrad as gg
    >>> gg.math.reciprocal([4.0, -0.5]).numpy()
    array([ 0.25, -2.  ], dtype=float32)
    """,
)
floor = Elementwise(
    name="floor",
    public=("floor", "math.floor"),
    inputs="float",
    ref=np.floor,
    scalar=lambda s, x: s.floor(x),
    nondifferentiable=True,
    samples=Samples(
        dtypes=FLOATS,
        edges=(0.0, -0.0, 2.0, -2.0, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e-40, 2.0**23, -88.8),
        oracle=lambda x: -np.ceil(-x),
        ulp=0.0,
    ),
    doc="""The greatest integer not above each element, as a float. There is no derivative.

    >>> import graphgrad as gg
    >>> gg.floor([1.5, -1.5]).numpy()
    array([ 1., -2.], dtype=float32)
    """,
)
maximum = Elementwise(
    name="maximum",
    public=("maximum", "math.maximum"),
    arity=2,
    inputs="number",
    ref=in_float32(np.maximum),  # float16's own takes the other of 0 and -0
    scalar=lambda s, x, y: s.maximum(x, y),
    partials=(lambda z, x, y: Mask(x >= y), lambda z, x, y: Mask(x >= y, negate=True)),
    samples=Samples(
        dtypes=ANY_NUMBER,
        oracle=lambda x, y: np.where(np.isnan(x), x, np.where(np.isnan(y) | (y >= x), y, x)),
        ulp=0.0,
        errors=NUMBERS_ONLY,
    ),
    doc="""The greater of x and y, element by element; NaN if either is NaN.

    Where x == y the derivative goes to x.

    >>> import graphgrad as gg
    >>> gg.maximum([1.0, 5.0], 3.0).numpy()
    array([3., 5.], dtype=float32)
    """,
)
minimum = Elementwise(
    name="minimum",
    public=("minimum", "math.minimum"),
    arity=2,
    inputs="number",
    ref=in_float32(np.minimum),
    scalar=lambda s, x, y: s.minimum(x, y),
    partials=(lambda z, x, y: Mask(x <= y), lambda z, x, y: Mask(x <= y, negate=True)),
    samples=Samples(
        dtypes=ANY_NUMBER,
        oracle=lambda x, y: np.where(np.isnan(x), x, np.where(np.isnan(y) | (y <= x), y, x)),
        ulp=0.0,
        errors=NUMBERS_ONLY,
    ),
    doc="""The lesser of x and y, element by element; NaN if either is NaN.

    Where x == y the derivative goes to x.

    >>> import graphgrad as gg
    >>> gg.minimum([1.0, 5.0], 3.0).numpy()
    array([1., 3.], dtype=float32)
    """,
)
relu = Elementwise(
    name="relu",
    public=("nn.relu",),
    parameter="features",
    inputs="number",
    ref=in_float32(lambda x: np.maximum(x, x.dtype.type(0))),
    scalar=lambda s, x: s.maximum(x, s.const(0, s.dtype(x))),
    partials=(lambda z, x: Mask(z > 0),),  # z is what the next layer keeps too
    samples=Samples(
        dtypes=ANY_NUMBER,
        oracle=lambda x: (x + np.abs(x)) / 2 if x.dtype.kind == "f" else np.where(x > 0, x, 0),
        edges=(0.0, -0.0, 1.0, -1.0, np.inf, np.nan, 1e-40, 88.8, -104.0),
        ulp=0.0,
        errors=NUMBERS_ONLY,
    ),
    doc="""max(x, 0), element by element; the derivative at 0 is 0.

    >>> import graphgrad as gg
    >>> gg.nn.relu([-1.0, 2.0]).numpy()
    array([0., 2.], dtype=float32)
    """,
)


identity = Elementwise(
    name="identity",
    inputs="any",
    ref=lambda x: x,
    scalar=lambda s, x: x,
    split=lambda x: x,
    parameter="input",
    partials=(lambda z, x: 1,),
    samples=Samples(dtypes=(*NUMBERS, "bool"), oracle=lambda x: x, ulp=0.0),
    doc="""x itself.

    >>> import graphgrad as gg
    >>> gg.identity([1.0, 2.0]).numpy()
    array([1., 2.], dtype=float32)
    """,
)
stop_gradient = Elementwise(
    name="stop_gradient",
    inputs="any",
    ref=lambda x: x,
    scalar=lambda s, x: x,
    split=lambda x: tuple(ops["stop_gradient"](v) for v in x),
    parameter="input",
    nondifferentiable=True,
    samples=Samples(dtypes=(*NUMBERS, "bool"), oracle=lambda x: x, ulp=0.0),
    doc="""x itself, as a constant to differentiation.

    >>> import graphgrad as gg
    >>> gg.stop_gradient([1.0, 2.0]).numpy()
    array([1., 2.], dtype=float32)
    """,
)


_multiply = np.multiply


def _cotangent_product(g: Array, p: Array) -> Array:
    z: Array = _multiply(g, p if p.dtype.kind != "c" else np.conjugate(p))
    if z.dtype.char in "fd":
        # NaN exactly if an element is, and found faster than by looking at each.
        squares = z.dot(z) if z.ndim == 1 else np.vdot(z, z)
        if squares == squares:
            return z
    lost = np.isnan(z)
    if lost.any():
        if z.dtype.kind == "c":  # part by part: what multiplies a 0 does not count
            (a, b), (c, d) = (g.real, g.imag), (p.real, p.imag)
            part = _cotangent_product
            z = np.empty_like(z)
            z.real, z.imag = part(a, c) + part(b, d), part(b, c) - part(a, d)
            return z
        z = np.where(lost & (g == 0), z.dtype.type(0), z)
    return np.asarray(z)


cotangent_product = Elementwise(
    name="cotangent_product",
    public="",
    arity=2,
    ref=_cotangent_product,
    scalar=lambda s, g, p: s.named("cotangent_product", (g, p)),
    split=split.cotangent_product,
    vjp=lambda ct, z, g, p, needs: (
        ops["cotangent_product"](ct, conjugate(p)) if needs[0] else None,
        ops["cotangent_product"](g, ct) if needs[1] else None,
    ),
    jvp=lambda ts, z, g, p: add_all(
        [
            None if ts[0] is None else ops["cotangent_product"](ts[0], p),
            None if ts[1] is None else ops["cotangent_product"](g, ts[1]),
        ]
    ),
    samples=Samples(
        dtypes=("float32", "float64", "bfloat16", *COMPLEX),
        oracle=lambda g, p: np.where((g == 0) & ~np.isfinite(p), 0, g * np.conj(p)),
        ulp=0.5,
    ),
    doc="g * conj(p), but 0 where g is 0 and p infinite or NaN: how a cotangent passes a partial "
    "derivative that does not exist on a branch that was not taken. With a finite p it is "
    "g * conj(p).",
)
