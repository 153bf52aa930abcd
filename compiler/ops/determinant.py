"""Determinants, also as sign and logarithm; derivatives by cofactors or the inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphgrad.compiler.families import Library
from graphgrad.compiler.op import Samples, located, ops
from graphgrad.compiler.ops.matrices import transposed
from graphgrad.compiler.ops.solve import (
    FLOATS,
    by_lapack,
    check_matrices,
    each,
    eliminated,
    matrix_cases,
    product,
    square_type,
    stack_batch,
)
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import TensorType, tensor_type


def _cofactors(x: Array) -> Array:
    """det(x) inv(x)^T also where x is singular: with x = u s v, the products of all other s."""
    u, s, v = np.linalg.svd(x)
    ones = np.ones_like(s[..., :1])
    before = np.cumprod(np.concatenate([ones, s[..., :-1]], -1), -1)[..., : s.shape[-1]]
    after = np.cumprod(np.concatenate([ones, s[..., :0:-1]], -1), -1)[..., : s.shape[-1]]
    sign = np.sign(np.linalg.det(u) * np.linalg.det(v))[..., None, None]
    others = before * after[..., ::-1]
    return np.asarray(sign * ((u * others[..., None, :]) @ v))


def _inner(x: Any, y: Any) -> Any:
    """The sum of the products of the elements of each matrix, as [..., 1, 1]."""
    return ops["sum"](x * y, (x.ndim - 2, x.ndim - 1), True)


def _cofactors_vjp(g: Any, z: Any, x: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
    inverse = transposed(ops["inv"](x))
    return (inverse * _inner(g, z) - product(product(inverse, g, False, True), z),)


def _cofactors_jvp(ts: tuple[Any, ...], z: Any, x: Any) -> Any:
    inverse = transposed(ops["inv"](x))
    return z * _inner(inverse, ts[0]) - product(product(z, ts[0], False, True), inverse)


def _cofactors_oracle(x: Array) -> Array:
    def one(m: Array) -> Array:
        n = len(m)
        z = np.zeros((n, n), np.longdouble)
        for i, j in np.ndindex(n, n):
            minor = np.delete(np.delete(m, i, 0), j, 1)
            z[i, j] = (-1) ** (i + j) * eliminated(minor, np.zeros((n - 1, 0)))[1]
        return z

    return each(one, x)


cofactors = Library(
    name="cofactors",
    public="",
    bind=lambda x: ((x,), {}),
    type=square_type("det"),
    ref=by_lapack(_cofactors),
    vjp=_cofactors_vjp,
    jvp=_cofactors_jvp,
    batch=stack_batch("cofactors"),
    samples=Samples(cases=matrix_cases, dtypes=FLOATS, oracle=_cofactors_oracle, ulp=64.0),
    doc="The derivative of the determinants by their elements: det(x) inv(x)^T, and also right for "
    "singular matrices.",
)


def _stack_type(op: str) -> Callable[..., TensorType]:
    def infer(x: TensorType) -> TensorType:
        check_matrices(x, op)
        return tensor_type(x.shape[:-2], x.dtype)

    return infer


def _spread(g: Any) -> Any:
    """A number a matrix as [..., 1, 1]."""
    return g.reshape((*g.shape, 1, 1))


det = Library(
    name="det",
    public="linalg.det",
    bind=lambda input, name=None: ((input,), {}),
    type=_stack_type("det"),
    ref=by_lapack(np.linalg.det),
    vjp=lambda g, z, x, needs: (_spread(g) * ops["cofactors"](x),),
    jvp=lambda ts, z, x: ops["sum"](ts[0] * ops["cofactors"](x), (x.ndim - 2, x.ndim - 1)),
    batch=stack_batch("det"),
    samples=Samples(
        cases=matrix_cases,
        dtypes=FLOATS,
        oracle=lambda x: each(lambda m: eliminated(m, np.zeros((len(m), 0)))[1], x),
        ulp=64.0,
        errors=(
            (lambda op: op(np.ones((2, 3))), "det: takes square matrices, got f64[2, 3]"),
        ),
    ),
    doc="""The determinants of the matrices in the last two axes.

    First derivatives are right also where a matrix is singular; second ones need its inverse.

    >>> import graphgrad as gg
    >>> gg.linalg.det([[2.0, 0.0], [0.0, 4.0]]).numpy()
    np.float32(8.0)
    """,
)  # fmt: skip


def _slogdet_type(x: TensorType) -> tuple[TensorType, TensorType]:
    found = _stack_type("slogdet")(x)
    return found, found


def _slogdet_oracle(x: Array) -> tuple[Array, Array]:
    z = each(lambda m: eliminated(m, np.zeros((len(m), 0)))[1], x)
    return np.sign(z), np.log(np.abs(z))


sign_and_log = Library(
    name="slogdet",
    public="",
    multi=True,
    bind=lambda input, name=None: ((input,), {}),
    type=_slogdet_type,
    ref=by_lapack(lambda x: tuple(np.linalg.slogdet(x))),
    vjp=lambda g, z, x, needs: (
        None if g[1] is None else _spread(g[1]) * transposed(ops["inv"](x)),
    ),
    jvp=lambda ts, z, x: (
        None,
        ops["sum"](ts[0] * transposed(ops["inv"](x)), (x.ndim - 2, x.ndim - 1)),
    ),
    batch=stack_batch("slogdet"),
    samples=Samples(cases=matrix_cases, dtypes=FLOATS, oracle=_slogdet_oracle, ulp=64.0),
    doc="The signs of determinants, and the logarithms of their absolute values.",
)


class SignAndLog(NamedTuple):
    """The sign of a determinant, and the logarithm of its absolute value."""

    sign: Any
    log_abs_determinant: Any


@located
def slogdet(input: Any, name: str | None = None) -> SignAndLog:
    """The signs of the determinants of matrices, and the logarithms of their absolute values.

    Of a singular matrix they are 0 and -inf, and the derivative raises ArgumentError.

    >>> import graphgrad as gg
    >>> sign, log = gg.linalg.slogdet([[0.0, 1.0], [1.0, 0.0]])
    >>> sign.numpy(), log.numpy()
    (np.float32(-1.0), np.float32(0.0))
    """
    return SignAndLog(*ops["slogdet"](input))


FUNCTIONS: dict[str, Callable[..., Any]] = {"linalg.slogdet": slogdet}
