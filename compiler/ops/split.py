"""Complex arithmetic in real ops: how the parts of a result follow from those of the operands.

A complex operand is a pair (real, imaginary), a real one a value. What NumPy computes is followed:
products as written out, so that infinities may give NaN; quotients by Smith's method (R. L. Smith,
Communications of the ACM 5, 1962), which does not overflow where the result does not.
"""

from __future__ import annotations

import math
from typing import Any

from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.op import current_kind, ops

Pair = tuple[Any, Any]
LARGEST_POWER = 100  # integer exponents below it are products, as in NumPy


def where(condition: Any, x: Any, y: Any) -> Any:
    return ops["where"](condition, x, y)


def add(x: Pair, y: Pair) -> Pair:
    return x[0] + y[0], x[1] + y[1]


def sub(x: Pair, y: Pair) -> Pair:
    return x[0] - y[0], x[1] - y[1]


def neg(x: Pair) -> Pair:
    return -x[0], -x[1]


def mul(x: Pair, y: Pair) -> Pair:
    (a, b), (c, d) = x, y
    return a * c - b * d, a * d + b * c


def square(x: Pair) -> Pair:
    a, b = x
    return a * a - b * b, a * b + b * a


def div(x: Pair, y: Pair) -> Pair:
    """With c the larger part of the divisor: (a + b d/c) / (c + d d/c)."""
    (a, b), (c, d) = x, y
    swap = ops["abs"](c) < ops["abs"](d)
    large, small = where(swap, d, c), where(swap, c, d)
    first, second = where(swap, b, a), where(swap, a, b)
    ratio = small / large
    scale = 1 / (large + small * ratio)
    cross = second - first * ratio
    real, imag = (first + second * ratio) * scale, where(swap, -cross, cross) * scale
    size, zero = ops["abs"](large), large == 0
    return where(zero, a / size, real), where(zero, b / size, imag)


def reciprocal(x: Pair) -> Pair:
    one, zero = (current_kind().lift(n, x[0].dtype).broadcast_to(x[0].shape) for n in (1, 0))
    return div((one, zero), x)


def is_equal(x: Pair, y: Pair) -> Any:
    return (x[0] == y[0]) & (x[1] == y[1])


def not_equal(x: Pair, y: Pair) -> Any:
    return (x[0] != y[0]) | (x[1] != y[1])


def either(name: str) -> Any:
    """Whether the op `name` says so of one part at least."""
    return lambda x: ops[name](x[0]) | ops[name](x[1])


def is_finite(x: Pair) -> Any:
    return ops["isfinite"](x[0]) & ops["isfinite"](x[1])


def select(condition: Any, x: Pair, y: Pair) -> Pair:
    return where(condition, x[0], y[0]), where(condition, x[1], y[1])


def cotangent_product(g: Pair, p: Pair) -> Pair:
    """g conj(p), where each part of g that is 0 contributes 0."""
    product = ops["cotangent_product"]
    (a, b), (c, d) = g, p
    return product(a, c) + product(b, d), product(b, c) - product(a, d)


def cast(x: Any, dtype: DType) -> Any:
    """Real types take the real part; true is what is not 0."""
    if not isinstance(x, tuple):
        real = x.cast(dtype.real_dtype)
        return real, current_kind().lift(0, real.dtype).broadcast_to(real.shape)
    if dtype.is_bool:
        return (x[0] != 0) | (x[1] != 0)
    if not dtype.is_complex:
        return x[0].cast(dtype)
    return x[0].cast(dtype.real_dtype), x[1].cast(dtype.real_dtype)


# -- functions


def exp(x: Pair) -> Pair:
    """In two factors exp(a/2), so that it overflows only where the result does; real where b is 0,
    also for an infinite a."""
    a, b = x
    half = ops["exp"](a * 0.5)
    real, imag = half * ops["cos"](b) * half, where(b == 0, b, half * ops["sin"](b) * half)
    nothing = a == -math.inf
    return where(nothing, 0, real), where(nothing, 0, imag)


def log(x: Pair) -> Pair:
    """log |x| as log1p(|x|**2 - 1) / 2 near 1, where |x| itself has lost digits."""
    a, b = x
    p, q = ops["abs"](a), ops["abs"](b)
    large, small = ops["maximum"](p, q), ops["minimum"](p, q)
    size = ops["hypot"](a, b)
    near = (size > 0.5) & (size < 2)
    excess = where(near, (large - 1) * (large + 1) + small * small, 0)
    real = where(near, 0.5 * ops["log1p"](excess), ops["log"](size))
    return real, ops["atan2"](b, a)


def expm1(x: Pair) -> Pair:
    """exp(a) cos b - 1 as expm1(a) cos b - 2 sin(b/2)**2."""
    a, b = x
    half = ops["sin"](b * 0.5)
    real = ops["expm1"](a) * ops["cos"](b) - 2 * half * half
    return real, where(b == 0, b, ops["exp"](a) * ops["sin"](b))


def log1p(x: Pair) -> Pair:
    """log |1 + x| as log1p(|1 + x|**2 - 1) / 2 where x is small."""
    a, b = x
    small = (ops["abs"](a) < 0.5) & (ops["abs"](b) < 0.5)
    excess = where(small, a * (a + 2) + b * b, 0)
    real, imag = log((1 + a, b))
    return where(small, 0.5 * ops["log1p"](excess), real), imag


def sqrt(x: Pair) -> Pair:
    """The root with a real part of at least 0; its imaginary part has the sign of that of x."""
    a, b = x
    root = ops["sqrt"](0.5 * ops["hypot"](a, b) + 0.5 * ops["abs"](a))
    other = where(root == 0, b, 0.5 * b / root)
    forward = a >= 0
    below = (b < 0) | (1 / b < 0)  # also for -0
    real = where(forward, root, ops["abs"](other))
    imag = where(forward, other, where(below, -root, root))
    endless = ops["abs"](b) == math.inf
    return where(endless, math.inf, real), where(endless, b, imag)


def rsqrt(x: Pair) -> Pair:
    return reciprocal(sqrt(x))


def sin(x: Pair) -> Pair:
    a, b = x
    return ops["sin"](a) * ops["cosh"](b), ops["cos"](a) * ops["sinh"](b)


def cos(x: Pair) -> Pair:
    a, b = x
    return ops["cos"](a) * ops["cosh"](b), -(ops["sin"](a) * ops["sinh"](b))


def sinh(x: Pair) -> Pair:
    a, b = x
    return ops["sinh"](a) * ops["cos"](b), ops["cosh"](a) * ops["sin"](b)


def cosh(x: Pair) -> Pair:
    a, b = x
    return ops["cosh"](a) * ops["cos"](b), ops["sinh"](a) * ops["sin"](b)


def tanh(x: Pair) -> Pair:
    """After W. Kahan, Branch cuts for complex elementary functions (1987): with t = tan b, by
    sinh a and t alone; where cosh(a)**2 would overflow, by its leading terms."""
    a, b = x
    far = ops["abs"](a) > 15
    near = where(far, 0, a)
    t, s = ops["tan"](b), ops["sinh"](near)
    slope = 1 + t * t
    below = 1 + slope * s * s
    real = slope * ops["sqrt"](1 + s * s) * s / below
    tail = 4 * ops["sin"](b) * ops["cos"](b) * ops["exp"](-2 * ops["abs"](a))
    return where(far, ops["sign"](a), real), where(far, tail, t / below)


def tan(x: Pair) -> Pair:
    """-i tanh(i x)."""
    real, imag = tanh((-x[1], x[0]))
    return imag, -real


def sigmoid(x: Pair) -> Pair:
    """1 / (1 + exp(-x)), or exp(x) / (1 + exp(x)) on the left: no exponential overflows."""
    a, b = x
    left = a < 0
    c, d = exp((-ops["abs"](a), where(left, b, -b)))
    above = where(left, c, 1), where(left, d, 0)
    return div(above, (1 + c, d))


def pow(x: Pair, y: Pair) -> Pair:
    """exp(y log x); 0 ** y is 1, 0 or NaN as y is 0, right of it or not. Products for an integer
    exponent that is known."""
    n = known_number(y)
    if n is not None and n.imag == 0 and n.real == int(n.real) and abs(n.real) < LARGEST_POWER:
        return integer_power(x, int(n.real))
    zero = (x[0] == 0) & (x[1] == 0)
    safe = where(zero, 1, x[0]), where(zero, 0, x[1])
    real, imag = exp(mul(y, log(safe)))
    nothing, right = (y[0] == 0) & (y[1] == 0), y[0] > 0
    at_zero = where(nothing, 1, where(right, 0.0, math.nan))
    return where(zero, at_zero, real), where(zero, where(right | nothing, 0.0, math.nan), imag)


def integer_power(x: Pair, n: int) -> Pair:
    """By repeated squaring."""
    if n < 0:
        return reciprocal(integer_power(x, -n))
    result: Pair | None = None
    while n:
        if n & 1:
            result = x if result is None else mul(result, x)
        n >>= 1
        x = square(x) if n else x
    if result is not None:
        return result
    one, zero = (current_kind().lift(k, x[0].dtype).broadcast_to(x[0].shape) for k in (1, 0))
    return one, zero


def known_number(x: Pair) -> complex | None:
    """The number that both parts of `x` stretch, if the trace in progress knows it."""
    real, imag = map(_known, x)
    return None if real is None or imag is None else complex(real, imag)


def _known(x: Any) -> float | None:
    producer = getattr(current_kind(), "producer", None)  # of a pass over graphs
    if producer is None:
        return None
    node = producer(x)
    while node is not None and node.op.name in ("broadcast_to", "reshape"):
        node = producer(node.inputs[0])
    if node is None or node.op.name != "constant" or node.attrs["value"].array.ndim:
        return None
    found = float(node.attrs["value"].array)
    return found if math.isfinite(found) else None
