"""The gamma function's logarithm and its derivatives, and the inverses of erf and of the normal
distribution function. References run the same formulas on arrays; mpmath is their oracle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Samples, ops
from graphgrad.compiler.ops.special import in_float64

FLOATS = ("float32", "float64", "bfloat16", "float16")
INF, NAN = float("inf"), float("nan")
HALF_ROOT_PI, ROOT_TWO_PI = 0.5 * math.sqrt(math.pi), math.sqrt(2 * math.pi)


def _by_expansion(name: str) -> Any:
    """The expansion that kernels have, on arrays."""

    def ref(*xs: Any) -> Any:
        from graphgrad.compiler.scalar.arrays import on_arrays  # of use to few: not at start
        from graphgrad.compiler.scalar.expansions import EXPANSIONS

        return on_arrays(EXPANSIONS[name].build)(*xs)

    return ref


lgamma = Elementwise(
    name="lgamma",
    public=("math.lgamma",),
    inputs="float",
    ref=in_float64(_by_expansion("lgamma")),
    scalar=lambda s, x: s.lgamma(x),
    partials=(lambda z, x: ops["digamma"](x),),
    samples=Samples(
        domain=(0.1, 30.0),
        dtypes=FLOATS,
        edges=(0.0, -0.0, 1.0, 2.0, -1.0, -0.5, -3.75, 1e-30, 1.001, 1.999, 8.0, 900.0, INF, NAN),
        oracle="lgamma",
        ulp=4.0,
    ),
    doc="""log(|gamma(x)|) for each element; inf at 0, -1, -2, ...

    Near its zeros below 0 it keeps its absolute, not its relative precision.

    >>> import graphgrad as gg
    >>> gg.math.lgamma([1.0, 5.0, 0.5]).numpy().round(3)
    array([0.   , 3.178, 0.572], dtype=float32)
    """,
)
digamma = Elementwise(
    name="digamma",
    public=("math.digamma",),
    inputs="float",
    ref=in_float64(_by_expansion("digamma")),
    scalar=lambda s, x: s.digamma(x),
    partials=(lambda z, x: ops["trigamma"](x),),
    samples=Samples(
        domain=(0.1, 30.0),
        dtypes=FLOATS,
        edges=(1.0, 2.0, -0.5, -3.75, 1e-3, 1.46, 1.4616321, 8.0, 900.0, INF, NAN),
        oracle="digamma",
        ulp=4.0,
    ),
    doc="""The derivative of log(gamma(x)) for each element; NaN at 0, -1, -2, ...

    Near its zeros below 0 it keeps its absolute, not its relative precision.

    >>> import graphgrad as gg
    >>> gg.math.digamma([1.0, 2.0]).numpy().round(3)
    array([-0.577,  0.423], dtype=float32)
    """,
)
trigamma = Elementwise(
    name="trigamma",
    public="",
    inputs="float",
    ref=in_float64(_by_expansion("trigamma")),
    scalar=lambda s, x: s.trigamma(x),
    partials=(lambda z, x: ops["polygamma"](2, x),),
    samples=Samples(
        domain=(0.1, 30.0),
        dtypes=FLOATS,
        edges=(1.0, 2.0, -0.5, -3.75, 1e-3, 8.0, 900.0, INF, NAN),
        oracle="trigamma",
        ulp=5.0,
    ),
    doc="The derivative of digamma; inf at 0, -1, -2, ...",
)
zeta = Elementwise(
    name="zeta",
    public=("math.zeta",),
    arity=2,
    inputs="float",
    bind=lambda x, q, name=None: ((x, q), {}),
    ref=in_float64(_by_expansion("zeta")),
    scalar=lambda s, x, q: s.zeta(x, q),
    partials=(None, lambda z, x, q: -x * ops["zeta"](x + 1, q)),
    samples=Samples(
        cases=lambda rng, dtype: _exponents(rng, dtype),
        dtypes=("float32", "float64"),
        oracle="zeta",
        ulp=8.0,
    ),
    doc="""Hurwitz's zeta function: the sum of (q + i) ** -x over i = 0, 1, ... for x > 1, q > 0.

    There is no derivative by x. At x = 1 and at q = 0, -1, ... it is inf; for x < 1 and other q
    below 0, NaN.

    >>> import graphgrad as gg
    >>> gg.math.zeta(2.0, [1.0, 2.0]).numpy().round(3)
    array([1.645, 0.645], dtype=float32)
    """,
)
polygamma = Elementwise(
    name="polygamma",
    public=("math.polygamma",),
    arity=2,
    inputs="float",
    bind=lambda a, x, name=None: ((a, x), {}),
    ref=in_float64(_by_expansion("polygamma")),
    scalar=lambda s, a, x: s.polygamma(a, x),
    partials=(None, lambda z, a, x: ops["polygamma"](a + 1, x)),
    samples=Samples(
        cases=lambda rng, dtype: _orders(rng, dtype),
        dtypes=("float32", "float64"),
        oracle="polygamma",
        ulp=8.0,
    ),
    doc="""The `a`-th derivative of digamma at x, element by element, for a = 0, 1, 2, ...

    There is no derivative by a. NaN where a is not such a number, and from a = 2 on for x < 0;
    infinite from a = 171 on, where a! is.

    >>> import graphgrad as gg
    >>> gg.math.polygamma([0.0, 1.0, 2.0], 1.0).numpy().round(3)
    array([-0.577,  1.645, -2.404], dtype=float32)
    """,
)


def _orders(rng: Any, dtype: Any) -> Any:
    """Orders are integers here, since there is no derivative by them."""
    for a, x in (((5,), (5,)), ((3, 1), (4,)), ((), ())):
        yield (rng.integers(0, 6, a, np.int32), rng.uniform(0.3, 12, x).astype(dtype)), {}
    a, x = np.meshgrid(np.array([0, 1, 2, 7, 30], dtype), np.array([0.5, 1, 25], dtype))
    yield (np.append(a, NAN).astype(dtype), np.append(x, 1).astype(dtype)), {}


def _exponents(rng: Any, dtype: Any) -> Any:
    for x, q in (((5,), (5,)), ((3, 1), (4,)), ((), ())):
        yield (rng.integers(2, 6, x, np.int32), rng.uniform(0.3, 9, q).astype(dtype)), {}
    x, q = np.meshgrid(np.array([1.25, 1.5, 7, 20], dtype), np.array([0.5, 1, 3, 25, 1e4], dtype))
    yield (np.append(x, [1, NAN]).astype(dtype), np.append(q, [2, 2]).astype(dtype)), {}


ndtri = Elementwise(
    name="ndtri",
    public=("math.ndtri",),
    inputs="float",
    ref=in_float64(_by_expansion("ndtri")),
    scalar=lambda s, x: s.ndtri(x),
    partials=(lambda z, x: ROOT_TWO_PI * ops["exp"](0.5 * ops["square"](z)),),
    samples=Samples(
        domain=(0.02, 0.98),
        dtypes=FLOATS,
        edges=(0.0, 1.0, 0.5, 1e-5, 1e-12, 1e-30, 0.075, 0.925, 0.999, -0.5, 2.0, INF, NAN),
        oracle="ndtri",
        ulp=4.0,
    ),
    doc="""The x with P(N <= x) = p for a standard normal N; -inf at 0, inf at 1, NaN beyond.

    >>> import graphgrad as gg
    >>> gg.math.ndtri([0.5, 0.975]).numpy().round(3)
    array([0.  , 1.96], dtype=float32)
    """,
)
erfinv = Elementwise(
    name="erfinv",
    public=("math.erfinv",),
    inputs="float",
    ref=in_float64(_by_expansion("erfinv")),
    scalar=lambda s, x: s.erfinv(x),
    partials=(lambda z, x: HALF_ROOT_PI * ops["exp"](ops["square"](z)),),
    samples=Samples(
        domain=(-0.98, 0.98),
        dtypes=FLOATS,
        edges=(0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 0.85, -0.999, 2.0, -2.0, INF, NAN),
        oracle="erfinv",
        ulp=4.0,
    ),
    doc="""The y with erf(y) = x for each element; -inf and inf at -1 and 1, NaN beyond.

    >>> import graphgrad as gg
    >>> gg.math.erfinv([0.0, 0.5]).numpy().round(3)
    array([0.   , 0.477], dtype=float32)
    """,
)


def erfcinv(x: Any, name: str | None = None) -> Any:
    """The y with erfc(y) = x for each element; inf at 0, -inf at 2, NaN beyond.

    >>> import graphgrad as gg
    >>> gg.math.erfcinv([1.0, 0.5]).numpy().round(3)
    array([0.   , 0.477], dtype=float32)
    """
    return 0.0 - ops["ndtri"](ops["mul"](x, 0.5)) * math.sqrt(0.5)
