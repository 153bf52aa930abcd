"""NumPy's functions of sorting and linear algebra, for tensors: by NumPy's names and arguments.

`numpy_protocol` finds them under their module and name.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from graphgrad.compiler import ops as all_ops
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.families import conjugate
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.ops import einsum as products
from graphgrad.compiler.ops import factors, matrices, norms, solve, spectral
from graphgrad.numpy_shapes import ravel


def sort(a: Any, axis: int | None = -1, kind: Any = None, *, stable: Any = None) -> Any:
    return ops["sort"](ravel(a)) if axis is None else ops["sort"](a, axis)


def argsort(a: Any, axis: int | None = -1, kind: Any = None, *, stable: Any = None) -> Any:
    return ops["argsort"](ravel(a)) if axis is None else ops["argsort"](a, axis)


def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return ops["count_nonzero"](a, axis, keepdims)


def einsum(*operands: Any, optimize: Any = False) -> Any:
    """Also with lists of numbers in place of letters: einsum(x, [0, 1], y, [1, 2], [0, 2])."""
    if isinstance(operands[0], str):
        return products.einsum(operands[0], *operands[1:])
    pairs = len(operands) // 2
    terms = ",".join(map(_letters, operands[1 : 2 * pairs : 2]))
    arrow = "->" + _letters(operands[-1]) if len(operands) % 2 else ""
    return products.einsum(terms + arrow, *operands[: 2 * pairs : 2])


# einsum's axis labels 0..51, as in NumPy
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _letters(labels: Any) -> str:
    return "".join("..." if c is Ellipsis else _LETTERS[c] for c in labels)


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    return products.tensordot(a, b, axes)


def inner(a: Any, b: Any) -> Any:
    """Over the last axis of both."""
    x, y = all_ops.join.together((a, b), "inner")
    if not x.ndim or not y.ndim:
        return x * y
    return products.tensordot(x, y, [[-1], [-1]])


def vdot(a: Any, b: Any) -> Any:
    x, y = all_ops.join.together((a, b), "vdot")
    return ops["matmul"](conjugate(ravel(x)), ravel(y))


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    if offset:
        raise ArgumentError(f"np.trace: the offset of a tensor is 0, not {offset}")
    x = current_kind().lift(a)
    ends = [axis1 % x.ndim, axis2 % x.ndim]
    return matrices.trace(x.transpose([*(i for i in range(x.ndim) if i not in ends), *ends]))


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    value = current_kind().lift(x)
    if axis is None and ord is not None:
        if value.ndim > 2:
            raise ArgumentError(f"np.linalg.norm: ord of {value.type} needs an axis, or two")
        axis = tuple(range(value.ndim)) if value.ndim == 2 else 0
    return norms.norm(value, "euclidean" if ord is None else ord, axis, keepdims)


# The classes of NumPy's results, which have names for their parts.
_ONE = np.eye(1)
QRResult, SVDResult, EighResult, SlogdetResult = (
    cast(Any, type(f(_ONE)))
    for f in (np.linalg.qr, np.linalg.svd, np.linalg.eigh, np.linalg.slogdet)
)


def qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "complete", "r"):
        raise ArgumentError(f"np.linalg.qr: mode is 'reduced', 'complete' or 'r', not {mode!r}")
    found = QRResult(*factors.qr(a, mode == "complete"))
    return found.R if mode == "r" else found


def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    if not compute_uv:
        return ops["singular_values"](a)
    s, u, v = spectral.svd(a, full_matrices)
    return SVDResult(u, s, matrices.transposed(v))


def eigh(a: Any, UPLO: str = "L") -> Any:
    return EighResult(*spectral.eigh(_lower(a, UPLO)))


def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return ops["eigvalsh"](_lower(a, UPLO))


def _lower(a: Any, triangle: str) -> Any:
    x = current_kind().lift(a)
    return x if triangle.upper() == "L" else matrices.transposed(x)


def slogdet(a: Any) -> Any:
    return SlogdetResult(*ops["slogdet"](a))


def cholesky(a: Any, *, upper: bool = False) -> Any:
    if not upper:
        return ops["cholesky"](a)
    return matrices.transposed(ops["cholesky"](_lower(a, "U")))


def pinv(a: Any, rcond: Any = None) -> Any:
    return ops["pinv"](a, 1e-15 if rcond is None else rcond)


def matrix_rank(A: Any, tol: Any = None) -> Any:
    return all_ops.matrix_functions.matrix_rank(A, tol)


FUNCTIONS: dict[str, Any] = {
    "sort": sort, "argsort": argsort, "count_nonzero": count_nonzero, "einsum": einsum,
    "tensordot": tensordot, "inner": inner, "vdot": vdot, "trace": trace, "outer": matrices.outer,
    "cross": matrices.cross,
    "linalg.norm": norm, "linalg.qr": qr, "linalg.svd": svd, "linalg.eigh": eigh,
    "linalg.eigvalsh": eigvalsh, "linalg.slogdet": slogdet, "linalg.cholesky": cholesky,
    "linalg.pinv": pinv, "linalg.matrix_rank": matrix_rank, "linalg.inv": ops["inv"],
    "linalg.det": ops["det"], "linalg.solve": solve.solve,
    "linalg.svdvals": ops["singular_values"], "linalg.trace": matrices.trace,
    "linalg.diagonal": products.diagonal, "linalg.outer": matrices.outer,
    "linalg.cross": matrices.cross, "linalg.matrix_transpose": matrices.transposed,
    "linalg.matmul": ops["matmul"],
}  # fmt: skip
