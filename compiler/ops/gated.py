"""Activations x p(x) with a smooth gate p. They are made of parts, so that in a kernel the gate is
computed once for the value and the derivative, which name the same expressions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler.families import Composite
from graphgrad.compiler.op import Attrs, Samples, ops
from graphgrad.compiler.ops import special
from graphgrad.compiler.ops.special import Array, carried, floating, in_float64

FLOATS = ("float32", "float64", "bfloat16", "float16")
ROOT_HALF, ROOT_TWO_OVER_PI = math.sqrt(0.5), math.sqrt(2 / math.pi)
CUBIC = 0.044715  # of the approximation of Hendrycks and Gimpel


def _activation(
    name: str, parts: Callable[..., Any], slope: Callable[..., Any], bind: Any, **fields: Any
) -> Composite:
    """An op y = f(x) with f(x) in `parts` and f'(x) in `slope`, 16-bit floats in float32."""

    def rule(t: Any, x: Any, attrs: Attrs) -> Any:
        return ops["cotangent_product"](t, slope(carried(x), **attrs).cast(x.dtype))

    return Composite(
        name=name,
        bind=bind,
        type=lambda x, **attrs: x,
        decompose=lambda x, **attrs: parts(carried(x), **attrs).cast(x.dtype),
        vjp=lambda g, z, x, needs, **attrs: (rule(g, x, attrs),),
        jvp=lambda ts, z, x, **attrs: rule(ts[0], x, attrs),
        **fields,
    )


def _cases(*attrs: Attrs) -> Callable[..., Any]:
    def cases(rng: np.random.Generator, dtype: Any) -> Any:
        edges = np.array([0.0, -0.0, 1.0, -1.0, 1e-30, -12.0, 30.0, -100.0, 1e30, np.nan])
        with np.errstate(over="ignore"):
            edges = edges.astype(dtype)
        for own in attrs:
            for shape in ((), (5,), (2, 3), (0, 2)):
                yield (rng.uniform(-3, 3, shape).astype(dtype),), own
            yield (edges[np.isfinite(edges) | np.isnan(edges)],), own

    return cases


def _bind_gelu(
    features: Any, approximate: bool = False, name: str | None = None
) -> tuple[tuple[Any, ...], Attrs]:
    return (floating(features, "gelu"),), {"approximate": bool(approximate)}


def _binder(op: str) -> Callable[..., tuple[tuple[Any, ...], Attrs]]:
    def bind(features: Any, name: str | None = None) -> tuple[tuple[Any, ...], Attrs]:
        return (floating(features, op),), {}

    return bind


def _inner(x: Any) -> Any:
    return (x + CUBIC * (x * x * x)) * ROOT_TWO_OVER_PI


def _gelu_parts(x: Any, approximate: bool) -> Any:
    gate = ops["tanh"](_inner(x)) if approximate else ops["erf"](x * ROOT_HALF)
    return 0.5 * x * (1.0 + gate)


def _gelu_slope(x: Any, approximate: bool) -> Any:
    """P(x) + x P'(x). Beyond 30 the approximation's P' is 0, and the factors beside it are those
    at 30, since they may overflow."""
    if approximate:
        y = ops["clip_by_value"](x, -30.0, 30.0)
        gate = ops["tanh"](_inner(x))
        inner_slope = ROOT_TWO_OVER_PI * (1.0 + (3 * CUBIC) * (y * y))
        return 0.5 * (1.0 + gate) + 0.5 * (1.0 - gate * gate) * (y * inner_slope)
    u = x * ROOT_HALF
    density = (0.5 * ROOT_TWO_OVER_PI) * ops["exp"](-(u * u))
    return 0.5 * (1.0 + ops["erf"](u)) + x * density


def _gelu(x: Array, approximate: bool) -> Array:
    if approximate:
        gate = np.tanh(ROOT_TWO_OVER_PI * (x + CUBIC * (x * x * x)))
    else:
        gate = special.erf(x * ROOT_HALF)
    return np.asarray(0.5 * x * (1.0 + gate))


def _gelu_oracle(x: Array, approximate: bool = False) -> Array:
    """x erfc(-x / sqrt 2) / 2, or x / (1 + exp(-2 y)) with the approximation's y."""
    if approximate:
        return np.asarray(x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * x * (1 + CUBIC * x * x))))
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    return np.asarray(x * erfc(-x * ROOT_HALF) / 2)


gelu = _activation(
    "gelu", _gelu_parts, _gelu_slope, _bind_gelu,
    public=("nn.gelu",),
    ref=in_float64(_gelu),
    samples=Samples(
        cases=_cases({}, {"approximate": True}), dtypes=FLOATS, oracle=_gelu_oracle, ulp=4.0
    ),
    doc="""x P(N <= x) for a standard normal N; `approximate` takes tanh in place of erf.

    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.

    >>> import graphgrad as gg
    >>> gg.nn.gelu([-1.0, 0.0, 1.0]).numpy().round(3)
    array([-0.159,  0.   ,  0.841], dtype=float32)
    """,
)  # fmt: skip


def _silu_slope(x: Any) -> Any:
    gate = ops["sigmoid"](x)
    return gate * (1.0 + x * (1.0 - gate))


silu = _activation(
    "silu", lambda x: x * ops["sigmoid"](x), _silu_slope, _binder("silu"),
    public="",
    ref=in_float64(lambda x: x * special.sigmoid(x)),
    samples=Samples(cases=_cases({}), dtypes=FLOATS, oracle=lambda x: x / (1 + np.exp(-x))),
    doc="x sigmoid(x), element by element.",
)  # fmt: skip


def _mish_slope(x: Any) -> Any:
    gate = ops["tanh"](ops["softplus"](x))
    return gate + (1.0 - gate * gate) * x * ops["sigmoid"](x)


mish = _activation(
    "mish", lambda x: x * ops["tanh"](ops["softplus"](x)), _mish_slope, _binder("mish"),
    public=("nn.mish",),
    ref=in_float64(lambda x: x * np.tanh(special.softplus(x))),
    samples=Samples(
        cases=_cases({}), dtypes=FLOATS, oracle=lambda x: x * np.tanh(np.logaddexp(x, 0 * x))
    ),
    doc="""x tanh(softplus(x)), element by element.

    Source: Misra, "Mish: a self regularized non-monotonic activation function", 2019.

    >>> import graphgrad as gg
    >>> gg.nn.mish([-1.0, 0.0, 1.0]).numpy().round(3)
    array([-0.303,  0.   ,  0.865], dtype=float32)
    """,
)  # fmt: skip
