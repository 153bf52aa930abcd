"""Pseudo-inverses, least squares, ranks, and the exponential of matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler.dims import at_least
from graphgrad.compiler.dtypes import int32
from graphgrad.compiler.families import Library
from graphgrad.compiler.op import Attrs, Samples, located, ops, zeros_like
from graphgrad.compiler.ops.matrices import matrices, transposed
from graphgrad.compiler.ops.solve import (
    FLOATS,
    by_lapack,
    check_matrices,
    cholesky_solve,
    each,
    eliminated,
    product,
    square_type,
    stack_batch,
)
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import TensorType, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]

# -- pinv: derivatives of constant rank (Golub and Pereyra, 1973)


def _bind_pinv(
    a: Any, rcond: float | None = None, validate_args: bool = False, name: str | None = None
) -> Bound:
    return (a,), {"rcond": None if rcond is None else float(rcond)}


def _pinv_type(x: TensorType, rcond: float | None) -> TensorType:
    check_matrices(x, "pinv", square=False)
    return tensor_type((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)


def _pinv(x: Array, rcond: float | None) -> Array:
    limit = 10 * max(x.shape[-2:]) * np.finfo(x.dtype).eps if rcond is None else rcond
    return np.linalg.pinv(x, rcond=limit)


def _pinv_vjp(
    g: Any, z: Any, x: Any, needs: tuple[bool, ...], rcond: float | None
) -> tuple[Any, ...]:
    """-z^T g z^T + (1 - x z) g^T z z^T + z^T z g^T (1 - z x)."""
    gt = transposed(g)
    zg = product(z, gt)
    inner = product(product(z, g, True), z, False, True)
    left = product(product(gt - product(x, zg), z), z, False, True)
    right = product(z, zg, True)
    return (left - inner + right - product(product(right, z), x),)


def _pinv_jvp(ts: tuple[Any, ...], z: Any, x: Any, rcond: float | None) -> Any:
    """-z t z + z z^T t^T (1 - x z) + (1 - z x) t^T z^T z."""
    t, tt = ts[0], transposed(ts[0])
    left = product(z, product(z, tt - product(product(tt, x), z), True))
    right = product(product(tt - product(z, product(x, tt)), z, False, True), z)
    return left - product(product(z, t), z) + right


def _pinv_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((1, 1), (3, 3), (4, 2), (2, 4), (2, 3, 2)):
        x = rng.uniform(-1, 1, shape) + np.eye(*shape[-2:])
        yield (x.astype(dtype),), {"rcond": 1e-6 if shape == (4, 2) else None}


def _pinv_oracle(x: Array, rcond: float | None) -> Array:
    """(x^T x)^-1 x^T, or x^T (x x^T)^-1 for wide matrices."""

    def one(m: Array) -> Array:
        if m.shape[0] >= m.shape[1]:
            return eliminated(m.T @ m, m.T)[0]
        return eliminated(m @ m.T, m)[0].T

    return each(one, x)


pinv = Library(
    name="pinv",
    public="linalg.pinv",
    bind=_bind_pinv,
    type=_pinv_type,
    ref=by_lapack(_pinv),
    vjp=_pinv_vjp,
    jvp=_pinv_jvp,
    batch=stack_batch("pinv"),
    samples=Samples(cases=_pinv_cases, dtypes=FLOATS, oracle=_pinv_oracle, ulp=1024.0),
    doc="""The pseudo-inverses of matrices [..., m, n], as [..., n, m].

    Singular values below `rcond` times the greatest count as 0; by default it is 10 max(m, n) times
    the gap between 1 and the next number. Derivatives hold while the rank does not change.

    >>> import graphgrad as gg
    >>> gg.linalg.pinv([[2.0, 0.0], [0.0, 0.0]]).numpy()
    array([[0.5, 0. ],
           [0. , 0. ]], dtype=float32)
    """,
)


@located
def matrix_rank(
    a: Any, tol: Any = None, validate_args: bool = False, name: str | None = None
) -> Any:
    """How many singular values of each matrix are above `tol`, as int32.

    By default that is max(m, n) times the greatest times the gap between 1 and the next number.

    >>> import graphgrad as gg
    >>> gg.linalg.matrix_rank([[1.0, 1.0], [1.0, 1.0]]).numpy()
    np.int32(1)
    """
    x = matrices(a, "matrix_rank")
    s = ops["singular_values"](x)
    last = (s.ndim - 1,)
    if tol is None:
        m, n = x.shape[-2:]
        tol = ops["max"](s, last, True) * (ops["maximum"](m, n).cast(s.dtype) * s.dtype.eps)
    return ops["sum"]((s > tol).cast(int32), last)


@located
def lstsq(
    matrix: Any, rhs: Any, l2_regularizer: Any = 0.0, fast: bool = True, name: str | None = None
) -> Any:
    """The x that makes |`matrix` x - `rhs`|**2 + `l2_regularizer` |x|**2 least, a column for each
    of `rhs`; the shortest of several.

    By Cholesky's factor of the normal equations, which needs full rank and squares the condition of
    the matrix. With `fast=False` by the pseudo-inverse, for any rank, without regularizer.

    >>> import graphgrad as gg
    >>> gg.linalg.lstsq([[1.0], [1.0]], [[1.0], [3.0]]).numpy().round(4)
    array([[2.]], dtype=float32)
    """
    a, b = matrices(matrix, "lstsq"), matrices(rhs, "lstsq")
    if not fast:
        return product(ops["pinv"](a), b)
    rows, columns = a.shape[-2:]
    tall = at_least(rows, columns)
    square = product(a, a, tall, not tall)
    n = columns if tall else rows
    places = ops["iota"](n)
    one = (places.reshape((n, 1)) == places.reshape((1, n))).cast(a.dtype)
    factor = ops["cholesky"](square + one * l2_regularizer)
    if tall:
        return cholesky_solve(factor, product(a, b, True))
    return product(a, cholesky_solve(factor, b), True)


# -- expm: scaling, a Pade approximant of degree 13, squaring (Higham, 2005)

_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0,
    129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0,
    960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
_RADIUS = 5.371920351148152  # the 1-norm up to which the approximant is exact to double precision


def _expm(x: Array) -> Array:
    """In double precision for every dtype."""
    if not x.size:
        return x
    a = x.astype(np.float64)
    size = np.abs(a).sum(-2).max(-1)
    finite = np.isfinite(size) & (size > 0)
    halvings = np.ceil(np.log2(np.where(finite, size, 1) / _RADIUS)).clip(0).astype(int)
    a = a / (2.0**halvings)[..., None, None]
    z = _approximant(a)
    for i in range(int(halvings.max())):
        z = np.where((halvings > i)[..., None, None], z @ z, z)
    return z.astype(x.dtype)


def _approximant(a: Array) -> Array:
    b, one = _PADE, np.eye(a.shape[-1])
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a2 @ a4
    odd = a6 @ (b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2
    even = a6 @ (b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2
    u, v = a @ (odd + b[1] * one), even + b[0] * one
    return np.asarray(np.linalg.solve(v - u, v + u))


def _direction(x: Any, t: Any) -> Any:
    """The derivative of expm at x along t: the upper right block of expm([[x, t], [0, x]])
    (Higham, "Functions of matrices", 2008, theorem 3.6)."""
    n = x.shape[-1]
    upper = ops["concat"]([x, t], -1)
    lower = ops["concat"]([zeros_like(x), x], -1)
    z = ops["expm"](ops["concat"]([upper, lower], -2))
    stack = x.shape[:-2]
    return ops["slice"](z, (*(0 for _ in stack), 0, n), (*stack, n, n))


def _expm_oracle(x: Array) -> Array:
    """The power series of x / 64, squared six times."""

    def one(m: Array) -> Array:
        small: Array = m / 64
        term: Array = np.eye(len(m), dtype=np.longdouble)
        total = term
        for k in range(1, 30):
            term = term @ small / k
            total = total + term
        for _ in range(6):
            total = total @ total
        return total

    return each(one, x)


def _expm_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, scale in (((1, 1), 1), ((3, 3), 1), ((2, 3, 3), 1), ((2, 2), 9), ((0, 2, 2), 1)):
        scales = np.array([0.01, scale])[: shape[0], None, None] if len(shape) == 3 else scale
        yield ((rng.uniform(-1, 1, shape) * scales).astype(dtype),), {}


expm = Library(
    name="expm",
    public="linalg.expm",
    bind=lambda input, name=None: ((input,), {}),
    type=square_type("expm"),
    ref=_expm,
    vjp=lambda g, z, x, needs: (_direction(transposed(x), g),),
    jvp=lambda ts, z, x: _direction(x, ts[0]),
    batch=stack_batch("expm"),
    samples=Samples(cases=_expm_cases, dtypes=FLOATS, oracle=_expm_oracle, ulp=64.0),
    doc="""The exponentials of square matrices: the sums of x**k / k!.

    >>> import graphgrad as gg
    >>> gg.linalg.expm([[0.0, 1.0], [0.0, 0.0]]).numpy()
    array([[1., 1.],
           [0., 1.]], dtype=float32)
    """,
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "linalg.lstsq": lstsq,
    "linalg.matrix_rank": matrix_rank,
}
