"""Small functions of vectors and matrices, made of products, views and sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.compiler.dims import same_size
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.einsum import diagonal
from graphgrad.compiler.ops.join import together
from graphgrad.compiler.ops.special import carried
from graphgrad.compiler.types import broadcast_shapes


def matrices(x: Any, op: str) -> Any:
    """`x` as a tensor with at least two axes."""
    value = current_kind().lift(x)
    if value.ndim < 2:
        raise ShapeError(f"{op}: takes matrices and stacks of them, got {value.type}")
    return value


def transposed(x: Any) -> Any:
    """The matrices in the last two axes, transposed."""
    return x.transpose([*range(x.ndim - 2), x.ndim - 1, x.ndim - 2])


@located
def matvec(
    a: Any, b: Any, transpose_a: bool = False, adjoint_a: bool = False, a_is_sparse: bool = False,
    b_is_sparse: bool = False, name: str | None = None,
) -> Any:  # fmt: skip
    """The products of matrices `a` with vectors in the last axis of `b`; further axes broadcast.

    >>> import graphgrad as gg
    >>> gg.linalg.matvec([[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0]).numpy()
    array([21., 43.], dtype=float32)
    """
    if transpose_a and adjoint_a:
        raise ArgumentError("matvec: transpose_a and adjoint_a exclude each other")
    x, y = together((a, b), "matvec")
    matrices(x, "matvec")
    if y.ndim < 1:
        raise ShapeError(f"matvec: b is vectors, got {y.type}")
    inner = x.type.shape[-2 if transpose_a or adjoint_a else -1]
    if not same_size(inner, y.type.shape[-1]):
        raise ShapeError(
            f"matvec: inner sizes differ, {inner} (a is {x.type}) and {y.type.shape[-1]} "
            f"(b is {y.type})"
        )
    z = ops["matmul"](x, y.reshape((*y.shape, 1)), transpose_a=transpose_a, adjoint_a=adjoint_a)
    return z.reshape(z.shape[:-1])


@located
def trace(x: Any, name: str | None = None) -> Any:
    """The sums of the diagonals of the matrices in the last two axes, square or not.

    >>> import graphgrad as gg
    >>> gg.linalg.trace([[1.0, 2.0], [3.0, 4.0]]).numpy()
    np.float32(5.0)
    """
    value = matrices(x, "trace")
    *kept, rows, columns = value.shape
    if isinstance(rows, int) and isinstance(columns, int) and rows != columns:
        n = min(rows, columns)
        value = ops["slice"](value, (0,) * value.ndim, (*kept, n, n))
    return carried(diagonal(value)).sum((value.ndim - 2,)).cast(value.dtype)


@located
def cross(a: Any, b: Any, name: str | None = None) -> Any:
    """The cross products of vectors of three elements in the last axis; further axes broadcast.

    >>> import graphgrad as gg
    >>> gg.linalg.cross([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]).numpy()
    array([0., 0., 1.], dtype=float32)
    """
    x, y = together((a, b), "cross")
    for v in (x, y):
        if v.ndim < 1 or not same_size(v.shape[-1], 3):
            raise ShapeError(f"cross: the last axis has three elements, got {x.type} and {y.type}")
    shape = broadcast_shapes([x.shape, y.shape], "cross")
    u, v = (ops["split"](t.broadcast_to(shape), 3, -1) for t in (x, y))
    parts = [u[i] * v[j] - u[j] * v[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return ops["concat"](parts, -1)


@located
def outer(a: Any, b: Any, name: str | None = None) -> Any:
    """The products of each element of `a` with each of `b`, which are taken as vectors.

    >>> import graphgrad as gg
    >>> gg.linalg.outer([1.0, 2.0], [3.0, 4.0]).numpy()
    array([[3., 4.],
           [6., 8.]], dtype=float32)
    """
    x, y = together((a, b), "outer")
    return x.reshape((x.type.size, 1)) * y.reshape((1, y.type.size))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "linalg.cross": cross,
    "linalg.matvec": matvec,
    "linalg.outer": outer,
    "linalg.trace": trace,
}
