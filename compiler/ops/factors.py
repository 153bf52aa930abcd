"""Cholesky's and the QR factorisation of matrices.

The derivatives are those of Murray, "Differentiation of the Cholesky decomposition" (2016), and of
Walter and Lehmann, "Algorithmic differentiation of linear algebra functions" (2010).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphgrad.compiler.dims import Extent, at_least, smaller
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.families import Library, add_all
from graphgrad.compiler.op import Samples, located, ops, zeros_like
from graphgrad.compiler.ops.einsum import diagonal
from graphgrad.compiler.ops.matrices import matrices, transposed
from graphgrad.compiler.ops.solve import (
    by_lapack,
    check_matrices,
    each,
    first_failing,
    in_triangle,
    product,
    square_type,
    stack_batch,
)
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import TensorType, tensor_type

# -- cholesky


def _cholesky(x: Array) -> Array:
    try:
        return np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        which = first_failing(np.linalg.cholesky, x)
        raise cholesky.failure("indefinite", {}, which) from None


def symmetric(x: Any) -> Any:
    """The symmetric part of matrices."""
    return (x + transposed(x)) * 0.5


def _lower_half(x: Any) -> Any:
    """The lower triangle, its diagonal halved."""
    return (in_triangle(x) + in_triangle(x, strictly=True)) * 0.5


def _cholesky_vjp(g: Any, z: Any, x: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
    """Symmetric, as the matrix is: L^-T P L^-1 for P the lower half of L^T g."""
    solve = ops["triangular_solve"]
    half = solve(z, _lower_half(product(z, in_triangle(g), True)), True, True)
    return (symmetric(solve(z, transposed(half), True, True)),)


def _cholesky_jvp(ts: tuple[Any, ...], z: Any, x: Any) -> Any:
    solve = ops["triangular_solve"]
    half = solve(z, symmetric(ts[0]), True, False)
    return product(z, _lower_half(transposed(solve(z, transposed(half), True, False))))


def _positive(x: Any) -> tuple[Any]:
    """x x^T + 1: what is positive definite."""
    return (product(x, x, False, True) + np.eye(x.shape[-1]).astype(x.dtype.dtype),)


def general_cases(rng: np.random.Generator, dtype: Any) -> Any:
    """Square matrices and stacks of them."""
    for shape in ((1, 1), (3, 3), (2, 3, 3), (2, 1, 2, 2)):
        yield (rng.uniform(-1, 1, shape).astype(dtype),), {}


def _cholesky_oracle(x: Array) -> Array:
    def one(m: Array) -> Array:
        a = m @ m.T + np.eye(len(m))
        z = np.zeros_like(a)
        for i in range(len(a)):
            for j in range(i + 1):
                rest = a[i, j] - z[i, :j] @ z[j, :j]
                z[i, j] = np.sqrt(rest) if i == j else rest / z[j, j]
        return z

    return each(one, x)


cholesky = Library(
    name="cholesky",
    public="linalg.cholesky",
    bind=lambda input, name=None: ((input,), {}),
    type=square_type("cholesky"),
    ref=by_lapack(_cholesky),
    vjp=_cholesky_vjp,
    jvp=_cholesky_jvp,
    batch=stack_batch("cholesky"),
    failures={"indefinite": (ArgumentError, "cholesky: {a} is not positive definite")},
    samples=Samples(
        cases=general_cases,
        dtypes=("float64", "float32"),
        oracle=_cholesky_oracle,
        through=_positive,
        ulp=32.0,
        errors=(
            (lambda op: op(-np.eye(2)), "cholesky: the matrix is not positive definite"),
            (lambda op: op(np.stack([np.eye(2), np.zeros((2, 2))])), "cholesky: matrix 1 is not"),
            (lambda op: op(np.ones((2, 3))), "cholesky: takes square matrices, got f64[2, 3]"),
        ),
    ),
    doc="""The lower triangular L with L L^T = x, for each matrix of a stack.

    Only the lower triangle of `input` is read, which is taken to be symmetric: the gradient is. A
    matrix that is not positive definite raises ArgumentError.

    >>> import graphgrad as gg
    >>> gg.linalg.cholesky([[4.0, 2.0], [2.0, 5.0]]).numpy()
    array([[2., 0.],
           [1., 2.]], dtype=float32)
    """,
)


@located
def logdet(matrix: Any, name: str | None = None) -> Any:
    """The logarithms of the determinants of positive definite matrices.

    >>> import graphgrad as gg
    >>> gg.linalg.logdet([[4.0, 2.0], [2.0, 5.0]]).numpy().round(4)
    np.float32(2.7726)
    """
    logs = ops["log"](diagonal(ops["cholesky"](matrices(matrix, "logdet"))))
    return 2 * logs.sum((logs.ndim - 1,))


# -- qr


def _qr_type(x: TensorType, full: bool) -> tuple[TensorType, TensorType]:
    check_matrices(x, "qr", square=False)
    *stack, rows, columns = x.shape
    k = rows if full else smaller(rows, columns)
    return tensor_type((*stack, rows, k), x.dtype), tensor_type((*stack, k, columns), x.dtype)


def _columns(x: Any, start: Extent, stop: Extent) -> Any:
    begin = (*(0 for _ in x.shape[:-1]), start)
    return ops["slice"](x, begin, (*x.shape[:-1], stop - start))


def _from_right(x: Any, r: Any, transpose: bool) -> Any:
    """x r^-1, or x r^-T."""
    return transposed(ops["triangular_solve"](r, transposed(x), False, not transpose))


def _split(x: Any, full: bool) -> Any:
    """The size of the square left part of wide matrices, None for others."""
    rows, columns = x.shape[-2:]
    if at_least(rows, columns):
        if full and rows != columns:
            raise ArgumentError(
                f"qr: the full q of {x.type} has no derivative, since its last columns may be any "
                "orthogonal ones; take full_matrices=False"
            )
        return None
    return rows


def _qr_vjp(
    g: tuple[Any, ...], z: tuple[Any, ...], x: Any, needs: tuple[bool, ...], full: bool
) -> tuple[Any, ...]:
    (gq, gr), (q, r) = g, z
    m = _split(x, full)
    if m is None:
        return (_tall_vjp(gq, gr, q, r),)
    n = x.shape[-1]
    if gr is None:
        left, rest = _tall_vjp(gq, None, q, _columns(r, 0, m)), zeros_like(_columns(x, m, n))
    else:
        others = _columns(gr, m, n)
        gq = add_all([gq, product(_columns(x, m, n), others, False, True)])
        left = _tall_vjp(gq, _columns(gr, 0, m), q, _columns(r, 0, m))
        rest = product(q, others)
    return (ops["concat"]([left, rest], -1),)


def _tall_vjp(gq: Any, gr: Any, q: Any, r: Any) -> Any:
    parts = [
        None if gr is None else product(r, in_triangle(gr, lower=False), False, True),
        None if gq is None else -product(gq, q, True),
    ]
    m = add_all(parts)
    mirrored = in_triangle(m) + transposed(in_triangle(m, strictly=True))
    return _from_right(add_all([gq, product(q, mirrored)]), r, transpose=True)


def _qr_jvp(ts: tuple[Any, ...], z: tuple[Any, ...], x: Any, full: bool) -> tuple[Any, ...]:
    q, r = z
    m = _split(x, full)
    if m is None:
        return _tall_jvp(ts[0], q, r)
    n = x.shape[-1]
    tq, tr = _tall_jvp(_columns(ts[0], 0, m), q, _columns(r, 0, m))
    rest = product(tq, _columns(x, m, n), True) + product(q, _columns(ts[0], m, n), True)
    return tq, ops["concat"]([tr, rest], -1)


def _tall_jvp(t: Any, q: Any, r: Any) -> tuple[Any, Any]:
    c = _from_right(t, r, transpose=False)
    w = product(q, c, True)
    low = in_triangle(w, strictly=True)
    turn = low - transposed(low)
    return product(q, turn - w) + c, product(w - turn, r)


def _qr_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((1, 1), (3, 3), (4, 2), (2, 4), (2, 3, 2), (2, 2, 3)):
        yield (rng.uniform(-1, 1, shape).astype(dtype),), {"full_matrices": shape == (2, 4)}


def _qr_oracle(x: Array, full_matrices: bool) -> tuple[Array, Array]:
    """Gram and Schmidt's, twice, with the signs of Householder's reflections."""
    k = min(x.shape[-2:])

    def one(m: Array) -> Array:
        columns: list[Array] = []
        flips = _householder_signs(m)
        for j in range(k):
            v = m[:, j].copy()
            for _ in range(2):
                for c in columns:
                    v = v - c * (c @ v)
            columns.append(flips[j] * v / np.sqrt(v @ v))
        return np.stack(columns, 1)

    q = each(one, x)
    return q, np.swapaxes(q, -1, -2) @ x


def _householder_signs(m: Array) -> list[float]:
    """The signs of the diagonal of r, as reflections give them."""
    signs, a = [], m.copy()
    rows, columns = m.shape
    for j in range(min(rows, columns)):
        if j == rows - 1:  # nothing to reflect
            signs.append(float(np.sign(a[j, j])))
            break
        v = a[j:, j].copy()
        beta = -np.sign(v[0]) * np.sqrt(v @ v)
        signs.append(float(np.sign(beta)))
        v[0] -= beta
        a[j:] = a[j:] - np.outer(v, v @ a[j:]) * (2 / (v @ v))
    return signs


orthogonal = Library(
    name="qr",
    public="",
    multi=True,
    bind=lambda input, full_matrices=False, name=None: ((input,), {"full": bool(full_matrices)}),
    type=_qr_type,
    ref=by_lapack(lambda x, full: tuple(np.linalg.qr(x, "complete" if full else "reduced"))),
    vjp=_qr_vjp,
    jvp=_qr_jvp,
    batch=stack_batch("qr"),
    samples=Samples(cases=_qr_cases, dtypes=("float64",), oracle=_qr_oracle, ulp=64.0),
    doc="Matrices as products of matrices with orthonormal columns and upper triangular ones.",
)


class QR(NamedTuple):
    """A matrix as q r."""

    q: Any
    r: Any


@located
def qr(input: Any, full_matrices: bool = False, name: str | None = None) -> QR:
    """q and r with q r = `input`: the columns of q are orthonormal, and r is upper triangular.

    Of [..., m, n] they are [..., m, k] and [..., k, n] with k = min(m, n), or with `full_matrices`
    k = m. The derivative needs independent columns (the first k), and of the full q there is none
    where m > n.

    >>> import graphgrad as gg
    >>> q, r = gg.linalg.qr([[3.0, 1.0], [4.0, 1.0]])
    >>> (q @ r).numpy().round(4)
    array([[3., 1.],
           [4., 1.]], dtype=float32)
    """
    return QR(*ops["qr"](input, full_matrices))


FUNCTIONS: dict[str, Callable[..., Any]] = {"linalg.logdet": logdet, "linalg.qr": qr}
