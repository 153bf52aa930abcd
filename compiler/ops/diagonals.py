"""Diagonals and triangles of matrices: a diagonal is a slice of the matrix laid out flat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Extent, at_least, same_size, shown, smaller
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.index import places_along
from graphgrad.compiler.ops.indexing import index
from graphgrad.compiler.ops.padding import pad
from graphgrad.compiler.ops.shapes import known
from graphgrad.compiler.types import same_shape, show_shape

ALIGNMENTS = ("RIGHT_LEFT", "LEFT_RIGHT", "LEFT_LEFT", "RIGHT_RIGHT")


def _length(rows: Extent, columns: Extent, k: int) -> Extent:
    """The length of diagonal k; those above the main one are positive."""
    return smaller(rows + min(k, 0), columns - max(k, 0))


def _band(k: Any) -> tuple[int, int]:
    """The lowest and highest of the diagonals."""
    k = known(k) if isinstance(k, Arith) else k
    low, high = (k, k) if isinstance(k, int | np.integer) else (k[0], k[-1])
    if low > high:
        raise ArgumentError(f"the diagonals k={k} go from the lower to the upper")
    return int(low), int(high)


def _check_band(low: int, high: int, rows: Extent, columns: Extent, op: str) -> None:
    inside = at_least(rows, 1 - low) if low < 0 else at_least(columns, low + 1)
    inside = inside and (at_least(columns, high + 1) if high > 0 else at_least(rows, 1 - high))
    if not inside and not any(isinstance(n, int) and n == 0 for n in (rows, columns)):
        raise ArgumentError(
            f"{op}: a matrix of {show_shape((rows, columns))} has no diagonals {low} to {high}"
        )


def _offset(k: int, length: Extent, longest: Extent, align: str) -> Extent:
    """Where the elements of diagonal k begin among `longest` places."""
    if align not in ALIGNMENTS:
        raise ArgumentError(f"align is one of {', '.join(ALIGNMENTS)}, not {align!r}")
    above, below = align.split("_")
    return longest - length if (above if k >= 0 else below) == "RIGHT" else 0


def _flat_block(columns: Extent, k: int, lead: int) -> tuple[Any, Any]:
    """The starts and steps of diagonal k in a matrix laid out flat, after `lead` batch axes."""
    start = k if k >= 0 else -k * columns
    return (*(0,) * lead, start), (*(1,) * lead, columns + 1)


def _picked(x: Any, k: int) -> Any:
    """Diagonal k of matrices."""
    *batch, rows, columns = x.shape
    starts, steps = _flat_block(columns, k, len(batch))
    flat = x.reshape((*batch, rows * columns))
    n = _length(rows, columns, k)
    if isinstance(columns, int):
        return ops["slice"](flat, starts, (*batch, n), steps)
    places = ops["iota"](n, dtypes.int64) * (columns + 1) + starts[-1]  # an open step
    return ops["gather"](flat, places, axis=len(batch))


def _placed(x: Any, diagonal: Any, k: int) -> Any:
    """Matrices with diagonal k replaced."""
    *batch, rows, columns = x.shape
    n = _length(rows, columns, k)
    if isinstance(n, int) and n == 0:
        return x
    if isinstance(columns, int):
        starts, steps = _flat_block(columns, k, len(batch))
        flat = x.reshape((*batch, rows * columns))
        return ops["update_slice"](flat, diagonal, starts, steps).reshape(x.shape)
    on = _distance(rows, columns) == k  # an open step: spread over the rows
    pairs = (*((0, 0) for _ in batch), (max(-k, 0), rows - n - max(-k, 0)))
    column = pad(diagonal, pairs).reshape((*batch, rows, 1))
    return ops["where"](on, column, x)


def _distance(rows: Extent, columns: Extent) -> Any:
    """column - row of each element."""
    across, down = (places_along(n, a, 2, dtypes.int64) for n, a in ((columns, 1), (rows, 0)))
    return across - down


def _rows_of(diagonal: Any, low: int, high: int, op: str) -> list[Any]:
    """The rows that hold diagonals high, ..., low."""
    if low == high:
        return [diagonal]
    count = diagonal.shape[-2] if diagonal.ndim > 1 else 0
    if not same_size(count, high - low + 1):
        raise ShapeError(f"{op}: {high - low + 1} diagonals need as many rows, got {diagonal.type}")
    return [index(diagonal, (..., i, np.s_[:])) for i in range(high - low + 1)]


def _filled(x: Any, diagonal: Any, low: int, high: int, align: str, op: str) -> Any:
    """Matrices with the diagonals low to high replaced by the rows of `diagonal`."""
    rows, columns = x.shape[-2:]
    _check_band(low, high, rows, columns, op)
    longest = smaller(rows + min(high, 0), columns - max(low, 0))
    if not same_shape(diagonal.shape[:-1], (*x.shape[:-2], *([high - low + 1] * (low != high)))):
        raise ShapeError(f"{op}: the diagonals {diagonal.type} do not fit {x.type}")
    if not same_size(diagonal.shape[-1], longest):
        raise ShapeError(
            f"{op}: the longest diagonal of {x.type} has {shown(longest)} elements, got "
            f"{diagonal.type}"
        )
    for i, row in enumerate(_rows_of(diagonal, low, high, op)):
        k = high - i
        n = _length(rows, columns, k)
        start = _offset(k, n, longest, align)
        x = _placed(x, index(row, (..., np.s_[start : start + n])), k)
    return x


@located
def diag(
    diagonal: Any, name: str = "diag", k: Any = 0, num_rows: int = -1, num_cols: int = -1,
    padding_value: Any = 0, align: str = "RIGHT_LEFT",
) -> Any:  # fmt: skip
    """Matrices with `diagonal` on diagonal `k`, and `padding_value` elsewhere.

    `k` may be a pair (lowest, highest): then the axis before the last holds the diagonals, the
    highest first, and `align` says on which side the shorter ones above and below are. Without
    `num_rows` and `num_cols` the matrices are square and as small as possible.

    >>> import graphgrad as gg
    >>> gg.linalg.diag([1, 2], k=1).numpy()
    array([[0, 1, 0],
           [0, 0, 2],
           [0, 0, 0]], dtype=int32)
    """
    x = current_kind().lift(diagonal)
    low, high = _band(k)
    if x.ndim < 1 + (low != high):
        raise ShapeError(f"linalg.diag: {x.type} holds no diagonals {low} to {high}")
    n = x.shape[-1]
    rows, columns = n - min(high, 0), n + max(low, 0)
    if num_rows == -1 and num_cols == -1:
        rows = columns = rows if at_least(rows, columns) else columns
    rows = rows if num_rows == -1 else num_rows
    columns = columns if num_cols == -1 else num_cols
    batch = x.shape[: x.ndim - 1 - (low != high)]
    empty = current_kind().lift(padding_value, x.dtype).cast(x.dtype)
    base = empty.reshape(()).broadcast_to((*batch, rows, columns))
    return _filled(base, x, low, high, align, "linalg.diag")


@located
def diag_part(
    input: Any, name: str = "diag_part", k: Any = 0, padding_value: Any = 0,
    align: str = "RIGHT_LEFT",
) -> Any:  # fmt: skip
    """Diagonal `k` of matrices, or the diagonals from k[0] to k[1] as rows, the highest first.

    The shorter ones are filled up with `padding_value`, on the side that `align` says for those
    above and below the main one.

    >>> import graphgrad as gg
    >>> gg.linalg.diag_part([[1, 2], [3, 4]]).numpy()
    array([1, 4], dtype=int32)
    """
    x = current_kind().lift(input)
    if x.ndim < 2:
        raise ShapeError(f"linalg.diag_part: takes matrices, got {x.type}")
    low, high = _band(k)
    rows, columns = x.shape[-2:]
    _check_band(low, high, rows, columns, "linalg.diag_part")
    if low == high:
        return _picked(x, low)
    longest = smaller(rows + min(high, 0), columns - max(low, 0))
    found = []
    for d in range(high, low - 1, -1):
        n = _length(rows, columns, d)
        start = _offset(d, n, longest, align)
        pairs = (*((0, 0),) * (x.ndim - 2), (start, longest - n - start))
        found.append(pad(_picked(x, d), pairs, constant_values=padding_value))
    shape = (*x.shape[:-2], 1, longest)
    return ops["concat"]([row.reshape(shape) for row in found], x.ndim - 2)


@located
def set_diag(
    input: Any, diagonal: Any, name: str = "set_diag", k: Any = 0, align: str = "RIGHT_LEFT"
) -> Any:
    """Matrices with diagonal `k`, or the diagonals from k[0] to k[1], replaced.

    >>> import graphgrad as gg
    >>> gg.linalg.set_diag([[1, 2], [3, 4]], [0, 0]).numpy()
    array([[0, 2],
           [3, 0]], dtype=int32)
    """
    kind = current_kind()
    x = kind.lift(input)
    if x.ndim < 2:
        raise ShapeError(f"linalg.set_diag: takes matrices, got {x.type}")
    d = kind.lift(diagonal, None if isinstance(diagonal, Arith) else x.dtype).cast(x.dtype)
    return _filled(x, d, *_band(k), align, "linalg.set_diag")


@located
def tensor_diag(diagonal: Any, name: str | None = None) -> Any:
    """`diagonal` of shape s on the diagonal of zeros of shape s + s.

    >>> import graphgrad as gg
    >>> gg.linalg.tensor_diag([1, 2]).numpy()
    array([[1, 0],
           [0, 2]], dtype=int32)
    """
    x = current_kind().lift(diagonal)
    return diag(x.reshape((x.type.size,))).reshape((*x.shape, *x.shape))


@located
def tensor_diag_part(input: Any, name: str | None = None) -> Any:
    """The diagonal, of shape s, of a tensor of shape s + s.

    >>> import graphgrad as gg
    >>> gg.linalg.tensor_diag_part([[1, 2], [3, 4]]).numpy()
    array([1, 4], dtype=int32)
    """
    x = current_kind().lift(input)
    half = x.shape[: x.ndim // 2]
    if x.ndim == 0 or x.ndim % 2 or not same_shape(half, x.shape[x.ndim // 2 :]):
        raise ShapeError(f"linalg.tensor_diag_part: the halves of the shape of {x.type} differ")
    count: Extent = 1
    for n in half:
        count = count * n
    return _picked(x.reshape((count, count)), 0).reshape(half)


@located
def band_part(input: Any, num_lower: Any, num_upper: Any, name: str | None = None) -> Any:
    """Matrices with 0 outside of the main diagonal, the `num_lower` below and `num_upper` above it.

    A negative number keeps the whole triangle.

    >>> import graphgrad as gg
    >>> gg.linalg.band_part([[1, 2], [3, 4]], 0, -1).numpy()
    array([[1, 2],
           [0, 4]], dtype=int32)
    """
    x = current_kind().lift(input)
    if x.ndim < 2:
        raise ShapeError(f"linalg.band_part: takes matrices, got {x.type}")
    distance = _distance(*x.shape[-2:])
    inside = None
    for bound, ahead in ((num_lower, -distance), (num_upper, distance)):
        if isinstance(bound, int | np.integer):
            if bound < 0:
                continue
            kept = ahead <= int(bound)
        else:
            limit = current_kind().lift(bound).cast(dtypes.int64)
            kept = (ahead <= limit) | (limit < 0)
        inside = kept if inside is None else inside & kept
    return x if inside is None else ops["where"](inside, x, x.dtype.dtype.type(0))


@located
def matrix_transpose(a: Any, name: str = "matrix_transpose", conjugate: bool = False) -> Any:
    """The last two axes exchanged.

    >>> import graphgrad as gg
    >>> gg.linalg.matrix_transpose([[1, 2], [3, 4]]).numpy()
    array([[1, 3],
           [2, 4]], dtype=int32)
    """
    x = current_kind().lift(a)
    if x.ndim < 2:
        raise ShapeError(f"linalg.matrix_transpose: takes matrices, got {x.type}")
    n = x.ndim
    return ops["transpose"](x, (*range(n - 2), n - 1, n - 2), conjugate)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "linalg.band_part": band_part,
    "linalg.diag": diag,
    "linalg.diag_part": diag_part,
    "linalg.matrix_transpose": matrix_transpose,
    "linalg.set_diag": set_diag,
    "linalg.tensor_diag": tensor_diag,
    "linalg.tensor_diag_part": tensor_diag_part,
}
