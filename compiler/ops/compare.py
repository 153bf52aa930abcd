"""Comparisons, logic and choice, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.families import Elementwise, Mask
from graphgrad.compiler.op import Attrs, Op, Samples
from graphgrad.compiler.ops import split

DTYPES = ("float32", "float64", "bfloat16", "int32", "uint8", "bool")
FLOATS = ("float32", "float64", "bfloat16", "float16")


COMPLEX = ("complex64", "complex128")
NO_ORDER = "they have no order: compare gg.abs(x), or real parts"


def _complex_order(op: Any) -> Any:
    return op(np.zeros(2, np.complex64), 1.0)


def _sampled(oracle: Any, *more: str) -> Samples:
    errors = () if more else ((_complex_order, "takes no complex numbers, got c64[2] and 1.0"),)
    return Samples(dtypes=(*DTYPES, *more), oracle=oracle, ulp=0.0, errors=errors)


equal = Elementwise(
    name="equal",
    public=("equal", "math.equal"),
    arity=2,
    output=dtypes.bool_,
    ref=np.equal,
    scalar=lambda s, x, y: s.eq(x, y),
    split=split.is_equal,
    nondifferentiable=True,
    samples=_sampled(lambda x, y: (x <= y) & (x >= y), *COMPLEX),
    doc="""x == y, element by element; false where either is NaN.

    >>> import graphgrad as gg
    >>> gg.equal([1, 2], 2).numpy()
    array([False,  True])
    """,
)
not_equal = Elementwise(
    name="not_equal",
    public=("not_equal", "math.not_equal"),
    arity=2,
    output=dtypes.bool_,
    ref=np.not_equal,
    scalar=lambda s, x, y: s.ne(x, y),
    split=split.not_equal,
    nondifferentiable=True,
    samples=_sampled(lambda x, y: ~((x <= y) & (x >= y)), *COMPLEX),
    doc="""x != y, element by element; true where either is NaN.

    >>> import graphgrad as gg
    >>> gg.not_equal([1, 2], 2).numpy()
    array([ True, False])
    """,
)
less = Elementwise(
    name="less",
    public=("less", "math.less"),
    arity=2,
    output=dtypes.bool_,
    ref=np.less,
    scalar=lambda s, x, y: s.lt(x, y),
    instead_of_complex=NO_ORDER,
    nondifferentiable=True,
    samples=_sampled(lambda x, y: y > x),
    doc="""x < y, element by element; false where either is NaN.

    >>> import graphgrad as gg
    >>> gg.less([1, 2], 2).numpy()
    array([ True, False])
    """,
)
less_equal = Elementwise(
    name="less_equal",
    public=("less_equal", "math.less_equal"),
    arity=2,
    output=dtypes.bool_,
    ref=np.less_equal,
    scalar=lambda s, x, y: s.le(x, y),
    instead_of_complex=NO_ORDER,
    nondifferentiable=True,
    samples=_sampled(lambda x, y: y >= x),
    doc="""x <= y, element by element; false where either is NaN.

    >>> import graphgrad as gg
    >>> gg.less_equal([1, 3], 2).numpy()
    array([ True, False])
    """,
)
greater = Elementwise(
    name="greater",
    public=("greater", "math.greater"),
    arity=2,
    output=dtypes.bool_,
    ref=np.greater,
    scalar=lambda s, x, y: s.gt(x, y),
    instead_of_complex=NO_ORDER,
    nondifferentiable=True,
    samples=_sampled(lambda x, y: y < x),
    doc="""x > y, element by element; false where either is NaN.

    >>> import graphgrad as gg
    >>> gg.greater([1, 3], 2).numpy()
    array([False,  True])
    """,
)
greater_equal = Elementwise(
    name="greater_equal",
    public=("greater_equal", "math.greater_equal"),
    arity=2,
    output=dtypes.bool_,
    ref=np.greater_equal,
    scalar=lambda s, x, y: s.ge(x, y),
    instead_of_complex=NO_ORDER,
    nondifferentiable=True,
    samples=_sampled(lambda x, y: y <= x),
    doc="""x >= y, element by element; false where either is NaN.

    >>> import graphgrad as gg
    >>> gg.greater_equal([1, 2], 2).numpy()
    array([False,  True])
    """,
)

BOOL_ONLY = ((lambda op: op(*[1.5] * op.arity), "takes bool tensors, got 1.5"),)

logical_and = Elementwise(
    name="logical_and",
    public=("logical_and", "math.logical_and"),
    arity=2,
    inputs="bool",
    ref=np.logical_and,
    scalar=lambda s, x, y: s.and_(x, y),
    nondifferentiable=True,
    samples=Samples(dtypes=("bool",), oracle=lambda x, y: x * y, errors=BOOL_ONLY),
    doc="""x and y, element by element; both are bool.

    >>> import graphgrad as gg
    >>> gg.logical_and([True, False], True).numpy()
    array([ True, False])
    """,
)
logical_or = Elementwise(
    name="logical_or",
    public=("logical_or", "math.logical_or"),
    arity=2,
    inputs="bool",
    ref=np.logical_or,
    scalar=lambda s, x, y: s.or_(x, y),
    nondifferentiable=True,
    samples=Samples(dtypes=("bool",), oracle=lambda x, y: x | y, errors=BOOL_ONLY),
    doc="""x or y, element by element; both are bool.

    >>> import graphgrad as gg
    >>> gg.logical_or([True, False], False).numpy()
    array([ True, False])
    """,
)
logical_xor = Elementwise(
    name="logical_xor",
    public=("math.logical_xor",),
    arity=2,
    inputs="bool",
    ref=np.logical_xor,
    scalar=lambda s, x, y: s.xor(x, y),
    nondifferentiable=True,
    samples=Samples(dtypes=("bool",), oracle=lambda x, y: x != y, errors=BOOL_ONLY),
    doc="""Whether exactly one of x and y is true, element by element; both are bool.

    >>> import graphgrad as gg
    >>> gg.math.logical_xor([True, False], True).numpy()
    array([False,  True])
    """,
)
logical_not = Elementwise(
    name="logical_not",
    public=("logical_not", "math.logical_not"),
    inputs="bool",
    ref=np.logical_not,
    scalar=lambda s, x: s.not_(x),
    nondifferentiable=True,
    samples=Samples(dtypes=("bool",), oracle=lambda x: x == 0, errors=BOOL_ONLY),
    doc="""not x, element by element; x is bool.

    >>> import graphgrad as gg
    >>> gg.logical_not([True, False]).numpy()
    array([False,  True])
    """,
)
isnan = Elementwise(
    name="isnan",
    public=("math.is_nan",),
    inputs="float",
    output=dtypes.bool_,
    ref=np.isnan,
    scalar=lambda s, x: s.isnan(x),
    split=split.either("isnan"),
    nondifferentiable=True,
    samples=Samples(
        dtypes=(*FLOATS, *COMPLEX),
        oracle=lambda x: ~((x.real <= 0) | (x.real > 0)) | ~((x.imag <= 0) | (x.imag > 0)),
    ),
    doc="""Which elements are NaN.

    >>> import graphgrad as gg
    >>> gg.math.is_nan([1.0, float("nan")]).numpy()
    array([False,  True])
    """,
)
isinf = Elementwise(
    name="isinf",
    public=("math.is_inf",),
    inputs="float",
    output=dtypes.bool_,
    ref=np.isinf,
    scalar=lambda s, x: s.isinf(x),
    split=split.either("isinf"),
    nondifferentiable=True,
    samples=Samples(
        dtypes=(*FLOATS, *COMPLEX),
        oracle=lambda x: (np.abs(x.real) == np.inf) | (np.abs(x.imag) == np.inf),
    ),
    doc="""Which elements are infinite.

    >>> import graphgrad as gg
    >>> gg.math.is_inf([1.0, float("-inf")]).numpy()
    array([False,  True])
    """,
)
isfinite = Elementwise(
    name="isfinite",
    public=("math.is_finite",),
    inputs="float",
    output=dtypes.bool_,
    ref=np.isfinite,
    scalar=lambda s, x: s.isfinite(x),
    split=split.is_finite,
    nondifferentiable=True,
    samples=Samples(dtypes=(*FLOATS, *COMPLEX), oracle=lambda x: np.abs(x) < np.inf),
    doc="""Which elements are neither infinite nor NaN.

    >>> import graphgrad as gg
    >>> gg.math.is_finite([1.0, float("nan")]).numpy()
    array([ True, False])
    """,
)


def _bind_where(
    condition: Any, x: Any = None, y: Any = None, name: str | None = None
) -> tuple[tuple[Any, ...], Attrs]:
    if x is None or y is None:
        raise ArgumentError("where: give both x and y, or neither for the places that are true")
    return (condition, x, y), {}


def _where_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for c, x, y in (((3,), (3,), (3,)), ((2, 1), (3,), ()), ((), (2,), (2,)), ((0,), (0,), (1,))):
        arrays = [(rng.uniform(-9, 9, s)).astype(dtype) for s in (x, y)]
        yield (rng.random(c) < 0.5, *arrays), {}
    edge = np.array([np.inf, -np.inf, np.nan, -0.0]).astype(dtype)
    yield (np.array([True, False, True, False]), edge, edge[::-1].copy()), {}


def _one_branch(op: Op) -> Any:
    return op(np.array([True]), 1.0)


where = Elementwise(
    name="where",
    public="",  # gg.where also takes a condition alone
    arity=3,
    inputs="select",
    bind=_bind_where,
    ref=np.where,
    scalar=lambda s, c, x, y: s.select(c, x, y),
    split=split.select,
    partials=(None, lambda z, c, x, y: Mask(c), lambda z, c, x, y: Mask(c, negate=True)),
    samples=Samples(
        cases=_where_cases,
        dtypes=("float32", "float64", "bfloat16", "int32", *COMPLEX),
        oracle=lambda c, x, y: np.choose(c.astype(int), np.broadcast_arrays(y, x)),
        ulp=0.0,
        errors=((_one_branch, "where: give both x and y"),),
    ),
    doc="""x where the bool `condition` holds, else y, element by element; the three broadcast.

    The branch not taken contributes exactly 0 to a derivative, whatever its value.
    """,
)
