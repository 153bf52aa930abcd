"""The bits of integers, element by element. On bools `and`, `or`, `xor` and `invert` are logic."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Samples
from graphgrad.compiler.ops.special import Array

INTEGERS = ("int32", "uint8", "int64", "int8", "uint64")
BITS = (*INTEGERS, "bool")
NO_FLOATS = ((lambda op: op(*[1.5] * op.arity), "takes integers, got 1.5"),)


def _by_python(fn: Any) -> Any:
    """A function of Python's integers for each pair of elements, cut to their width."""

    def oracle(*xs: Array) -> Array:
        pairs = np.broadcast(*xs) if len(xs) > 1 else [(x,) for x in xs[0].ravel()]
        dtype = xs[0].dtype
        if dtype.kind == "b":
            return np.array([fn(*map(int, p)) & 1 for p in pairs], bool).reshape(
                np.broadcast_shapes(*[x.shape for x in xs])
            )
        bits = 8 * dtype.itemsize
        found = [fn(*map(int, p)) % (1 << bits) for p in pairs]
        words = np.array(found, np.dtype(f"u{dtype.itemsize}")).view(dtype)
        return np.asarray(words.reshape(np.broadcast_shapes(*[x.shape for x in xs])))

    return oracle


bitwise_and = Elementwise(
    name="bitwise_and",
    public=("bitwise.bitwise_and",),
    arity=2,
    inputs="bits",
    ref=np.bitwise_and,
    scalar=lambda s, x, y: s.and_(x, y),
    nondifferentiable=True,
    samples=Samples(dtypes=BITS, oracle=_by_python(lambda a, b: a & b), errors=NO_FLOATS),
    doc="""The bits that are set in both x and y, element by element.

    >>> import graphgrad as gg
    >>> gg.bitwise.bitwise_and([12, 5], 6).numpy()
    array([4, 4], dtype=int32)
    """,
)
bitwise_or = Elementwise(
    name="bitwise_or",
    public=("bitwise.bitwise_or",),
    arity=2,
    inputs="bits",
    ref=np.bitwise_or,
    scalar=lambda s, x, y: s.or_(x, y),
    nondifferentiable=True,
    samples=Samples(dtypes=BITS, oracle=_by_python(lambda a, b: a | b), errors=NO_FLOATS),
    doc="""The bits that are set in x or y, element by element.

    >>> import graphgrad as gg
    >>> gg.bitwise.bitwise_or([12, 5], 6).numpy()
    array([14,  7], dtype=int32)
    """,
)
bitwise_xor = Elementwise(
    name="bitwise_xor",
    public=("bitwise.bitwise_xor",),
    arity=2,
    inputs="bits",
    ref=np.bitwise_xor,
    scalar=lambda s, x, y: s.xor(x, y),
    nondifferentiable=True,
    samples=Samples(dtypes=BITS, oracle=_by_python(lambda a, b: a ^ b), errors=NO_FLOATS),
    doc="""The bits that are set in exactly one of x and y, element by element.

    >>> import graphgrad as gg
    >>> gg.bitwise.bitwise_xor([12, 5], 6).numpy()
    array([10,  3], dtype=int32)
    """,
)
invert = Elementwise(
    name="invert",
    public=("bitwise.invert",),
    inputs="bits",
    ref=np.invert,
    scalar=lambda s, x: s.not_(x),
    nondifferentiable=True,
    samples=Samples(dtypes=BITS, oracle=_by_python(lambda a: ~a), errors=NO_FLOATS),
    doc="""Each element with all its bits turned over.

    >>> import graphgrad as gg
    >>> gg.bitwise.invert([0, 5]).numpy()
    array([-1, -6], dtype=int32)
    """,
)


def _left(a: int, b: int) -> int:
    return a << b if 0 <= b < 64 else 0


def _right(a: int, b: int) -> int:
    return a >> b if b >= 0 else (-1 if a < 0 else 0)


def _shift_cases(rng: np.random.Generator, dtype: Any) -> Any:
    """Counts within the width, at it, beyond it, and below 0."""
    kind = np.dtype(dtype)
    bits, limits = 8 * kind.itemsize, np.iinfo(kind)
    counts = [0, 1, 3, bits - 1, bits, bits + 1, min(100, limits.max), limits.max]
    counts += [-1, limits.min] if kind.kind == "i" else []
    values = [0, 1, 5, limits.max, limits.min, limits.max // 3] + [-1, -6] * (kind.kind == "i")
    x, y = np.meshgrid(np.array(values, dtype), np.array(counts, dtype))
    yield (x, y), {}
    yield (np.array(values, dtype), np.array(2, dtype)), {}


left_shift = Elementwise(
    name="left_shift",
    public=("bitwise.left_shift",),
    arity=2,
    inputs="integer",
    ref=np.left_shift,
    scalar=lambda s, x, y: s.shl(x, y),
    nondifferentiable=True,
    samples=Samples(
        dtypes=INTEGERS, cases=_shift_cases, oracle=_by_python(_left), errors=NO_FLOATS
    ),
    doc="""x << y, element by element: 0 where y is negative, or at least the width of x.

    >>> import graphgrad as gg
    >>> gg.bitwise.left_shift([1, 3, 1], [4, 1, 32]).numpy()
    array([16,  6,  0], dtype=int32)
    """,
)
right_shift = Elementwise(
    name="right_shift",
    public=("bitwise.right_shift",),
    arity=2,
    inputs="integer",
    ref=np.right_shift,
    scalar=lambda s, x, y: s.ashr(x, y) if s.dtype(x).kind == "i" else s.lshr(x, y),
    nondifferentiable=True,
    samples=Samples(
        dtypes=INTEGERS, cases=_shift_cases, oracle=_by_python(_right), errors=NO_FLOATS
    ),
    doc="""x >> y, element by element, filling with the sign of x.

    Where y is negative, or at least the width of x, all bits are the sign: 0, or -1 below 0.

    >>> import graphgrad as gg
    >>> gg.bitwise.right_shift([16, -8, -1], [2, 1, 40]).numpy()
    array([ 4, -4, -1], dtype=int32)
    """,
)
