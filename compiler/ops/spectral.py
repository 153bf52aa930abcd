"""Eigenvalues of symmetric matrices, and singular values of all.

The derivatives are Giles's ("Collected matrix derivative results", 2008). Quotients by differences
of values that are equal count as 0: vectors of equal values may be any of a space, and what does
not depend on the choice has these derivatives. Matrices with NaN or inf give NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphgrad.compiler.dims import smaller
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.families import Library, add_all
from graphgrad.compiler.op import Samples, located, ops
from graphgrad.compiler.ops.einsum import diagonal
from graphgrad.compiler.ops.factors import general_cases, symmetric
from graphgrad.compiler.ops.matrices import transposed
from graphgrad.compiler.ops.moments import over
from graphgrad.compiler.ops.solve import (
    by_lapack,
    check_matrices,
    product,
    stack_batch,
)
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import TensorType, tensor_type


def _or_nan(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, but NaN for matrices that LAPACK does not get through with, which hold NaN or inf."""

    def ref(x: Array, **attrs: Any) -> Any:
        try:
            return fn(x, **attrs)
        except np.linalg.LinAlgError:
            bad = np.asarray(~np.isfinite(x).all((-2, -1)))
            if not bad.any():
                raise
            found = fn(np.where(bad[..., None, None], x.dtype.type(0), x), **attrs)
            parts = found if isinstance(found, tuple) else (found,)
            nan = x.dtype.type(np.nan)
            marks = [bad.reshape((*bad.shape, *(1,) * (z.ndim - bad.ndim))) for z in parts]
            lost = tuple(np.where(m, nan, z) for m, z in zip(marks, parts, strict=True))
            return lost if isinstance(found, tuple) else lost[0]

    return by_lapack(ref)


def _rows(x: Any) -> Any:
    """Values [..., k] as a row of each matrix."""
    return x.reshape((*x.shape[:-1], 1, x.shape[-1]))


def _columns(x: Any) -> Any:
    return x.reshape((*x.shape, 1))


def _gaps(values: Any) -> Any:
    """1 / (values[j] - values[i]), 0 where they are equal."""
    return over(1, _rows(values) - _columns(values))


# -- eigh


def _eigh_type(x: TensorType) -> tuple[TensorType, TensorType]:
    check_matrices(x, "eigh")
    return tensor_type(x.shape[:-1], x.dtype), x


def _eigh_vjp(
    g: tuple[Any, ...], z: tuple[Any, ...], x: Any, needs: tuple[bool, ...]
) -> tuple[Any, ...]:
    (ge, gv), (e, v) = g, z
    values = None if ge is None else product(v * _rows(ge), v, False, True)
    vectors = None
    if gv is not None:
        inner = _gaps(e) * product(v, gv, True)
        vectors = product(product(v, inner), v, False, True)
    return (symmetric(add_all([values, vectors])),)


def _eigh_jvp(ts: tuple[Any, ...], z: tuple[Any, ...], x: Any) -> tuple[Any, ...]:
    e, v = z
    inner = product(product(v, symmetric(ts[0]), True), v)
    return diagonal(inner), product(v, _gaps(e) * inner)


def _mirrored(x: Any) -> tuple[Any]:
    return (symmetric(x),)


def _mirror(x: Array) -> Array:
    return np.asarray((x + x.swapaxes(-1, -2)) / 2).astype(np.float64)


def _eigh_oracle(x: Array) -> tuple[Array, Array]:
    """Values and vectors of the symmetric matrix by its singular value decomposition, moved to be
    positive definite; with the signs of LAPACK's."""
    a = _mirror(x)
    u = np.linalg.svd(a + 10 * np.eye(a.shape[-1]))[0][..., ::-1]
    signs = np.sign((u * np.linalg.eigh(a)[1]).sum(-2, keepdims=True))
    return np.sort(((a @ u) * u).sum(-2), -1), u * signs


eigen = Library(
    name="eigh",
    public="",
    multi=True,
    bind=lambda tensor, name=None: ((tensor,), {}),
    type=_eigh_type,
    ref=_or_nan(lambda x: tuple(np.linalg.eigh(x))),
    vjp=_eigh_vjp,
    jvp=_eigh_jvp,
    batch=stack_batch("eigh"),
    samples=Samples(
        cases=general_cases,
        dtypes=("float64",),
        oracle=_eigh_oracle,
        through=_mirrored,
        ulp=64.0,
        errors=((lambda op: op(np.ones((2, 3))), "eigh: takes square matrices, got f64[2, 3]"),),
    ),
    doc="The eigenvalues and eigenvectors of symmetric matrices.",
)


class Eigh(NamedTuple):
    """Eigenvalues, and eigenvectors as columns."""

    e: Any
    v: Any


@located
def eigh(tensor: Any, name: str | None = None) -> Eigh:
    """The eigenvalues e [..., n] of symmetric matrices in rising order, and eigenvectors v, one a
    column.

    Only the lower triangle is read; the gradient is symmetric. Derivatives of vectors whose values
    are equal hold for what does not depend on their choice.

    >>> import graphgrad as gg
    >>> e, v = gg.linalg.eigh([[2.0, 1.0], [1.0, 2.0]])
    >>> e.numpy().round(4)
    array([1., 3.], dtype=float32)
    """
    return Eigh(*ops["eigh"](tensor))


def _values_vjp(g: Any, z: Any, x: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
    v = ops["eigh"](x)[1]
    return (product(v * _rows(g), v, False, True),)


def _values_jvp(ts: tuple[Any, ...], z: Any, x: Any) -> Any:
    v = ops["eigh"](x)[1]
    return diagonal(product(product(v, symmetric(ts[0]), True), v))


eigvalsh = Library(
    name="eigvalsh",
    public="linalg.eigvalsh",
    bind=lambda tensor, name=None: ((tensor,), {}),
    type=lambda x: _eigh_type(x)[0],
    ref=_or_nan(np.linalg.eigvalsh),
    vjp=_values_vjp,
    jvp=_values_jvp,
    batch=stack_batch("eigvalsh"),
    samples=Samples(
        cases=general_cases,
        dtypes=("float64", "float32"),
        oracle=lambda x: _eigh_oracle(x)[0],
        through=_mirrored,
        ulp=64.0,
    ),
    doc="""The eigenvalues of symmetric matrices in rising order; only the lower triangle is read.

    >>> import graphgrad as gg
    >>> gg.linalg.eigvalsh([[2.0, 1.0], [1.0, 2.0]]).numpy().round(4)
    array([1., 3.], dtype=float32)
    """,
)

# -- svd: x = u diag(s) v^T


def _svd_type(x: TensorType, full: bool) -> tuple[TensorType, ...]:
    check_matrices(x, "svd", square=False)
    *stack, m, n = x.shape
    k = smaller(m, n)
    shapes = ((k,), (m, m if full else k), (n, n if full else k))
    return tuple(tensor_type((*stack, *s), x.dtype) for s in shapes)


def _svd(x: Array, full: bool) -> tuple[Array, ...]:
    u, s, v = np.linalg.svd(x, full_matrices=full)
    return s, u, np.ascontiguousarray(v.swapaxes(-1, -2))


def _check_thin(x: Any, full: bool) -> None:
    if full and x.shape[-2] != x.shape[-1]:
        raise ArgumentError(
            f"svd: the full u and v of {x.type} have no derivative, since their last columns may "
            "be any orthogonal ones; take full_matrices=False"
        )


def _outside(x: Any, q: Any) -> Any:
    """x less its part in the space of the columns of q; None where that is all of it."""
    rows, columns = q.shape[-2:]
    if isinstance(rows, int) and rows == columns:
        return None
    return x - product(q, product(q, x, True))


def _svd_vjp(
    g: tuple[Any, ...], z: tuple[Any, ...], x: Any, needs: tuple[bool, ...], full: bool
) -> tuple[Any, ...]:
    _check_thin(x, full)
    (gs, gu, gv), (s, u, v) = g, z
    inner, outer = [], []
    if gs is not None:
        inner.append(ops["where"](_on_diagonal(s), _rows(gs), 0))
    gaps, inverse = _gaps(s * s), over(1, s)
    if gu is not None:
        turn = gaps * product(u, gu, True)
        inner.append((turn + transposed(turn)) * _rows(s))
        rest = _outside(gu, u)
        outer.append(None if rest is None else product(rest * _rows(inverse), v, False, True))
    if gv is not None:
        turn = gaps * product(v, gv, True)
        inner.append((turn + transposed(turn)) * _columns(s))
        rest = _outside(gv, v)
        outer.append(None if rest is None else product(u * _rows(inverse), rest, False, True))
    return (add_all([product(product(u, add_all(inner)), v, False, True), *outer]),)


def _on_diagonal(s: Any) -> Any:
    """Which elements of [k, k] are on the diagonal."""
    places = ops["iota"](s.shape[-1])
    return _rows(places) == _columns(places)


def _svd_jvp(ts: tuple[Any, ...], z: tuple[Any, ...], x: Any, full: bool) -> tuple[Any, ...]:
    _check_thin(x, full)
    s, u, v = z
    across, along = product(ts[0], v), product(ts[0], u, True)
    inner = product(u, across, True)
    gaps, inverse = _gaps(s * s), _rows(over(1, s))
    left, right = inner * _rows(s), inner * _columns(s)
    tu = product(u, gaps * (left + transposed(left)))
    tv = product(v, gaps * (right + transposed(right)))
    beyond = _outside(across, u), _outside(along, v)
    tu, tv = (
        add_all([t, None if rest is None else rest * inverse])
        for t, rest in zip((tu, tv), beyond, strict=True)
    )
    return diagonal(inner), tu, tv


def _svd_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((1, 1), (3, 3), (4, 2), (2, 4), (2, 3, 2), (2, 2, 3)):
        yield (rng.uniform(-1, 1, shape).astype(dtype),), {}
    yield (rng.uniform(-1, 1, (3, 3)).astype(dtype),), {"full_matrices": True}


def _svd_oracle(x: Array, full_matrices: bool = False) -> tuple[Array, Array, Array]:
    """By the eigenvectors of x x^T or x^T x, with the signs of LAPACK's u."""
    a = x.astype(np.float64)
    m, n = a.shape[-2:]
    near = np.linalg.svd(a, full_matrices=False)[0]
    if m <= n:
        u = np.linalg.eigh(a @ a.swapaxes(-1, -2))[1][..., ::-1]
        u = u * np.sign((u * near).sum(-2, keepdims=True))
        v = a.swapaxes(-1, -2) @ u
        s = np.sqrt((v * v).sum(-2))
        return s, u, v / s[..., None, :]
    v = np.linalg.eigh(a.swapaxes(-1, -2) @ a)[1][..., ::-1]
    u = a @ v
    s = np.sqrt((u * u).sum(-2))
    u = u / s[..., None, :]
    signs = np.sign((u * near).sum(-2, keepdims=True))
    return s, u * signs, v * signs


def _bind_svd(tensor: Any, full_matrices: bool = False, name: str | None = None) -> Any:
    return (tensor,), {"full": bool(full_matrices)}


singular = Library(
    name="svd",
    public="",
    multi=True,
    bind=_bind_svd,
    type=_svd_type,
    ref=_or_nan(_svd),
    vjp=_svd_vjp,
    jvp=_svd_jvp,
    batch=stack_batch("svd"),
    samples=Samples(cases=_svd_cases, dtypes=("float64",), oracle=_svd_oracle, ulp=1024.0),
    doc="Singular values and vectors of matrices.",
)


def _singular_vjp(g: Any, z: Any, x: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
    _, u, v = ops["svd"](x)
    return (product(u * _rows(g), v, False, True),)


def _singular_jvp(ts: tuple[Any, ...], z: Any, x: Any) -> Any:
    _, u, v = ops["svd"](x)
    return ops["sum"](u * product(ts[0], v), (x.ndim - 2,))


singular_values = Library(
    name="singular_values",
    public="",
    bind=lambda tensor: ((tensor,), {}),
    type=lambda x: _svd_type(x, False)[0],
    ref=_or_nan(lambda x: np.linalg.svd(x, compute_uv=False)),
    vjp=_singular_vjp,
    jvp=_singular_jvp,
    batch=stack_batch("singular_values"),
    samples=Samples(
        cases=lambda rng, dtype: ((xs, {}) for xs, _ in _svd_cases(rng, dtype)),
        dtypes=("float64", "float32"),
        oracle=lambda x: _svd_oracle(x)[0],
        ulp=1024.0,
    ),
    doc="The singular values of matrices in falling order.",
)


class SVD(NamedTuple):
    """Singular values, and left and right singular vectors as columns."""

    s: Any
    u: Any
    v: Any


@located
def svd(
    tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None
) -> Any:
    """s, u and v with `tensor` = u diag(s) v^T: s falls, and the columns of u and v are
    orthonormal. Without `compute_uv`, s alone.

    Of [..., m, n] they are [..., k], [..., m, k] and [..., n, k] with k = min(m, n); with
    `full_matrices` u and v are square, and have no derivative where m and n differ. Derivatives of
    vectors whose values are equal hold for what does not depend on their choice.

    >>> import graphgrad as gg
    >>> s, u, v = gg.linalg.svd([[0.0, 2.0], [1.0, 0.0]])
    >>> s.numpy()
    array([2., 1.], dtype=float32)
    """
    if not compute_uv:
        return ops["singular_values"](tensor)
    return SVD(*ops["svd"](tensor, full_matrices))


FUNCTIONS: dict[str, Callable[..., Any]] = {"linalg.eigh": eigh, "linalg.svd": svd}
