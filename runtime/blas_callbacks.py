"""CBLAS's routines as C functions on top of `np.matmul`, for where no library serves."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

ROW_MAJOR, COLUMN_MAJOR = 101, 102
NO_TRANSPOSE, TRANSPOSE, CONJUGATE_TRANSPOSE = 111, 112, 113

_SCALAR = {"s": (ctypes.c_float, np.float32), "d": (ctypes.c_double, np.float64)}


def callback(routine: str) -> int:
    """The address of a C function that does what the CBLAS routine of that name does: gemm, gemv or
    dot, with s or d before it."""
    make = {"gemm": _gemm, "gemv": _gemv, "dot": _dot}[routine[1:]]
    function = make(*_SCALAR[routine[0]])
    # For good: who calls it holds the address alone.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(function))
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _matrix(
    scalar: Any, dtype: Any, pointer: int, rows: int, columns: int, stride: int, by_rows: bool
) -> Any:
    """The matrix at `pointer`, whose rows (or columns) begin `stride` elements apart."""
    lines, length = (rows, columns) if by_rows else (columns, rows)
    count = (lines - 1) * stride + length if lines and length else 0
    data = (scalar * count).from_address(pointer) if count else (scalar * 0)()
    flat = np.frombuffer(data, dtype) if count else np.empty(0, dtype)
    steps = (stride * flat.itemsize, flat.itemsize)
    lined = np.lib.stride_tricks.as_strided(flat, (lines, length), steps)
    return lined if by_rows else lined.T


def _update(out: Any, product: Any, alpha: float, beta: float) -> None:
    """out = alpha product + beta out."""
    dtype = out.dtype.type
    if alpha != 1:
        product *= dtype(alpha)
    if beta != 0:  # BLAS does not read `out` when beta is 0: it may hold NaN
        product += dtype(beta) * out
    out[...] = product


def _gemm(scalar: Any, dtype: Any) -> Any:
    """CBLAS's gemm with 64-bit integers, C = alpha op(A) op(B) + beta C, as a C function."""

    def gemm(
        order: int, trans_a: int, trans_b: int, m: int, n: int, k: int, alpha: float, a: int,
        lda: int, b: int, ldb: int, beta: float, c: int, ldc: int,
    ) -> None:  # fmt: skip
        rows = order == ROW_MAJOR
        plain_a, plain_b = trans_a == NO_TRANSPOSE, trans_b == NO_TRANSPOSE
        x = _matrix(scalar, dtype, a, *((m, k) if plain_a else (k, m)), lda, rows)
        y = _matrix(scalar, dtype, b, *((k, n) if plain_b else (n, k)), ldb, rows)
        z = _matrix(scalar, dtype, c, m, n, ldc, rows)
        _update(z, np.matmul(x if plain_a else x.T, y if plain_b else y.T), alpha, beta)

    flag, size, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
    matrices = (scalar, pointer, size, pointer, size, scalar, pointer, size)
    return ctypes.CFUNCTYPE(None, flag, flag, flag, size, size, size, *matrices)(gemm)


def _gemv(scalar: Any, dtype: Any) -> Any:
    """CBLAS's gemv with 64-bit integers, y = alpha op(A) x + beta y, as a C function.

    Steps from one element of a vector to the next are positive here: compiled code asks for 1.
    """

    def gemv(
        order: int, trans: int, m: int, n: int, alpha: float, a: int, lda: int, x: int, incx: int,
        beta: float, y: int, incy: int,
    ) -> None:  # fmt: skip
        matrix = _matrix(scalar, dtype, a, m, n, lda, order == ROW_MAJOR)
        matrix = matrix if trans == NO_TRANSPOSE else matrix.T
        rows, columns = matrix.shape
        given = _matrix(scalar, dtype, x, columns, 1, incx, True)[:, 0]
        out = _matrix(scalar, dtype, y, rows, 1, incy, True)[:, 0]
        _update(out, np.matmul(matrix, given), alpha, beta)

    flag, size, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
    vectors = (scalar, pointer, size, pointer, size, scalar, pointer, size)
    return ctypes.CFUNCTYPE(None, flag, flag, size, size, *vectors)(gemv)


def _dot(scalar: Any, dtype: Any) -> Any:
    """CBLAS's dot with 64-bit integers, as a C function. Steps are positive, as for `_gemv`."""

    def dot(n: int, x: int, incx: int, y: int, incy: int) -> float:
        a, b = (
            _matrix(scalar, dtype, v, n, 1, inc, True)[:, 0] for v, inc in ((x, incx), (y, incy))
        )
        return float(np.dot(a, b))

    size, pointer = ctypes.c_int64, ctypes.c_void_p
    return ctypes.CFUNCTYPE(scalar, size, pointer, size, pointer, size)(dot)
