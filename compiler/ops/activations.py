"""Activations that are one formula an element. Derivatives at kinks are TensorFlow's choice, and
stand in the docstrings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler.families import Elementwise, Mask
from graphgrad.compiler.op import Attrs, Samples, ops
from graphgrad.compiler.ops import special
from graphgrad.compiler.ops.special import Array, in_float32, in_float64

FLOATS = ("float32", "float64", "bfloat16", "float16")
# Klambauer and others, "Self-normalizing neural networks", 2017: mean 0 and variance 1 are kept.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848, 1.0507009873554804935

Bound = tuple[tuple[Any, ...], Attrs]


def _bind_alpha(default: float) -> Callable[..., Bound]:
    def bind(features: Any, alpha: float = default, name: str | None = None) -> Bound:
        return (features,), {"alpha": float(alpha)}

    return bind


def _within(x: Any, low: float, high: float) -> Mask:
    return Mask((x > low) & (x < high))


def _exponential(x: Array, alpha: float = 1.0, scale: float = 1.0) -> Array:
    """scale x, but scale alpha (exp(x) - 1) below 0."""
    below = (scale * alpha) * np.expm1(np.minimum(x, 0))
    return np.where(x < 0, below, scale * x)


def _exponential_slope(x: Any, alpha: float, scale: float = 1.0) -> Any:
    """No exponential of what is positive: it might overflow, and 0 times that is NaN."""
    return ops["where"](x < 0, (scale * alpha) * ops["exp"](ops["minimum"](x, 0)), scale)


elu = Elementwise(
    name="elu",
    public=("nn.elu",),
    inputs="float",
    bind=_bind_alpha(1.0),
    ref=in_float64(_exponential),
    scalar=lambda s, x, alpha: s.select(s.lt(x, 0.0), s.mul(s.expm1(x), alpha), x),
    partials=(lambda z, x, alpha: _exponential_slope(x, alpha),),
    samples=Samples(
        dtypes=FLOATS, attrs=({}, {"alpha": 0.5}), oracle=lambda x, alpha=1.0: np.where(
            x < 0, alpha * np.expm1(np.minimum(x, 0)), x
        ), ulp=3.0,
    ),
    doc="""x, but alpha (exp(x) - 1) below 0. The derivative at 0 is 1.

    Source: Clevert, Unterthiner and Hochreiter, 2016.

    >>> import graphgrad as gg
    >>> gg.nn.elu([-1.0, 0.0, 2.0]).numpy().round(3)
    array([-0.632,  0.   ,  2.   ], dtype=float32)
    """,
)  # fmt: skip
selu = Elementwise(
    name="selu",
    public=("nn.selu",),
    inputs="float",
    parameter="features",
    ref=in_float64(lambda x: _exponential(x, SELU_ALPHA, SELU_SCALE)),
    scalar=lambda s, x: s.select(
        s.lt(x, 0.0), s.mul(s.expm1(x), SELU_ALPHA * SELU_SCALE), s.mul(x, SELU_SCALE)
    ),
    partials=(lambda z, x: _exponential_slope(x, SELU_ALPHA, SELU_SCALE),),
    samples=Samples(
        dtypes=FLOATS,
        oracle=lambda x: SELU_SCALE * np.where(x < 0, SELU_ALPHA * np.expm1(np.minimum(x, 0)), x),
        ulp=3.0,
    ),
    doc="""1.0507 x, but 1.0507 * 1.6733 (exp(x) - 1) below 0. The derivative at 0 is 1.0507.

    Source: Klambauer, Unterthiner, Mayr and Hochreiter, 2017.

    >>> import graphgrad as gg
    >>> gg.nn.selu([-1.0, 0.0, 1.0]).numpy().round(3)
    array([-1.111,  0.   ,  1.051], dtype=float32)
    """,
)
leaky_relu = Elementwise(
    name="leaky_relu",
    public="",
    inputs="float",
    bind=_bind_alpha(0.2),
    ref=in_float32(lambda x, alpha: np.where(x > 0, x, x * x.dtype.type(alpha))),
    scalar=lambda s, x, alpha: s.select(s.gt(x, 0.0), x, s.mul(x, alpha)),
    partials=(
        lambda z, x, alpha: ops["where"](
            (z if alpha >= 0 else x) > 0, x.dtype.dtype.type(1), alpha
        ),
    ),
    samples=Samples(
        dtypes=FLOATS,
        attrs=({}, {"alpha": 0.5}, {"alpha": -0.5}),
        oracle=lambda x, alpha=0.2: np.maximum(x, 0) + alpha * np.minimum(x, 0),
        ulp=1.0,
    ),
    doc="x, but alpha x at 0 and below; the derivative at 0 is alpha.",
)
relu6 = Elementwise(
    name="relu6",
    public=("nn.relu6",),
    inputs="number",
    parameter="features",
    ref=in_float32(lambda x: np.minimum(np.maximum(x, x.dtype.type(0)), x.dtype.type(6))),
    scalar=lambda s, x: s.minimum(s.relu(x), 6),
    partials=(lambda z, x: _within(z, 0, 6),),
    samples=Samples(
        domain=(-3.0, 9.0),
        dtypes=(*FLOATS, "int32", "uint8"),
        edges=(0.0, 6.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40),
        oracle=lambda x: np.where(x > 6, 6, np.where(x < 0, 0, x)),
        ulp=0.0,
    ),
    doc="""min(max(x, 0), 6), element by element; the derivatives at 0 and 6 are 0.

    >>> import graphgrad as gg
    >>> gg.nn.relu6([-1.0, 8.0]).numpy()
    array([0., 6.], dtype=float32)
    """,
)


def _softsign(s: Any, x: Any) -> Any:
    a = s.abs(x)
    quotient = s.div(x, s.add(a, 1.0))
    return s.select(s.eq(a, float("inf")), s.copysign(1.0, x), quotient)


softsign = Elementwise(
    name="softsign",
    public=("nn.softsign", "math.softsign"),
    inputs="float",
    parameter="features",
    ref=in_float32(lambda x: np.where(np.isinf(x), np.sign(x), x / (np.abs(x) + 1))),
    scalar=_softsign,
    partials=(lambda z, x: ops["square"](ops["reciprocal"](ops["abs"](x) + 1)),),
    samples=Samples(
        dtypes=FLOATS,
        oracle=lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.sqrt(x * x))),
        ulp=1.5,
    ),
    doc="""x / (1 + |x|), element by element; 1 and -1 at the infinities.

    >>> import graphgrad as gg
    >>> gg.nn.softsign([-1.0, 0.0, 3.0]).numpy()
    array([-0.5 ,  0.  ,  0.75], dtype=float32)
    """,
)
log_sigmoid = Elementwise(
    name="log_sigmoid",
    public=("math.log_sigmoid", "nn.log_sigmoid"),
    inputs="float",
    ref=in_float64(lambda x: -special.softplus(-x)),
    scalar=lambda s, x: s.neg(s.softplus(s.neg(x))),
    partials=(lambda z, x: ops["sigmoid"](-x),),
    samples=Samples(dtypes=FLOATS, oracle=lambda x: -np.logaddexp(-x, 0 * np.isnan(x)), ulp=2.0),
    doc="""log(sigmoid(x)) for each element, with all digits also where x is large.

    >>> import graphgrad as gg
    >>> gg.math.log_sigmoid([-4.0, 0.0]).numpy().round(3)
    array([-4.018, -0.693], dtype=float32)
    """,
)


def _gate(x: Array) -> Array:
    return np.asarray(np.minimum(np.maximum(x + 3, 0), 6))


def _scalar_gate(s: Any, x: Any) -> Any:
    return s.minimum(s.relu(s.add(x, 3.0)), 6.0)


def _hard_silu_slope(x: Any) -> Any:
    """(2x + 3) / 6 between the kinks; 0 and 1 beyond and at them."""
    middle = ops["where"]((x > -3) & (x < 3), x, 0) * (1 / 3) + 0.5
    return ops["where"](x <= -3, 0, ops["where"](x >= 3, 1, middle)).cast(x.dtype)


hard_sigmoid = Elementwise(
    name="hard_sigmoid",
    public=("nn.hard_sigmoid",),
    inputs="float",
    ref=in_float64(lambda x: _gate(x) / 6),
    scalar=lambda s, x: s.div(_scalar_gate(s, x), 6.0),
    partials=(lambda z, x: ops["where"]((x > -3) & (x < 3), x.dtype.dtype.type(1 / 6), 0),),
    samples=Samples(
        domain=(-5.0, 5.0), dtypes=FLOATS, edges=(0.0, 3.0, -3.0, 1.0, np.inf, -np.inf, np.nan),
        oracle=lambda x: np.where(x > 3, 1, np.where(x < -3, 0, (x + 3) / 6)), ulp=2.0,
    ),
    doc="""min(max(x + 3, 0), 6) / 6, element by element; the derivatives at -3 and 3 are 0.

    >>> import graphgrad as gg
    >>> gg.nn.hard_sigmoid([-4.0, 0.0, 1.5]).numpy()
    array([0.  , 0.5 , 0.75], dtype=float32)
    """,
)  # fmt: skip
hard_silu = Elementwise(
    name="hard_silu",
    public=("nn.hard_silu", "nn.hard_swish"),
    inputs="float",
    ref=in_float64(lambda x: np.where(x <= -3, 0, x * (_gate(x) / 6))),
    scalar=lambda s, x: s.select(s.le(x, -3.0), 0.0, s.mul(x, s.div(_scalar_gate(s, x), 6.0))),
    partials=(lambda z, x: _hard_silu_slope(x),),
    samples=Samples(
        domain=(-5.0, 5.0), dtypes=FLOATS, edges=(0.0, 3.0, -3.0, 1.0, np.inf, -np.inf, np.nan),
        oracle=lambda x: np.where(x > 3, x, np.where(x <= -3, 0, x * (x + 3) / 6)), ulp=3.0,
    ),
    doc="""x hard_sigmoid(x), element by element; the derivative is 0 at -3 and 1 at 3.

    Source: Howard and others, "Searching for MobileNetV3", 2019.

    >>> import graphgrad as gg
    >>> gg.nn.hard_silu([-4.0, 0.0, 4.0]).numpy()
    array([0., 0., 4.], dtype=float32)
    """,
)  # fmt: skip
hard_tanh = Elementwise(
    name="hard_tanh",
    public=("nn.hard_tanh",),
    inputs="float",
    ref=in_float32(lambda x: np.minimum(np.maximum(x, x.dtype.type(-1)), x.dtype.type(1))),
    scalar=lambda s, x: s.minimum(s.maximum(x, -1), 1),
    partials=(lambda z, x: Mask((x < -1) | (x > 1), negate=True),),
    samples=Samples(
        dtypes=FLOATS, edges=(0.0, 1.0, -1.0, 2.0, np.inf, -np.inf, np.nan, 1e-40),
        oracle=lambda x: np.where(x > 1, 1, np.where(x < -1, -1, x)), ulp=0.0,
    ),
    doc="""min(max(x, -1), 1), element by element; the derivatives at -1 and 1 are 1.

    >>> import graphgrad as gg
    >>> gg.nn.hard_tanh([-4.0, 0.5, 4.0]).numpy()
    array([-1. ,  0.5,  1. ], dtype=float32)
    """,
)  # fmt: skip
