"""Rows taken apart by number and put together by place, and masks of the places below lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.index import check_integer
from graphgrad.compiler.ops.runtime_sizes import masked, size_in
from graphgrad.compiler.ops.shapes import known_or_none
from graphgrad.compiler.types import same_shape, show_shape


@located
def dynamic_partition(
    data: Any, partitions: Any, num_partitions: int, name: str | None = None
) -> list[Any]:
    """The rows of `data` in `num_partitions` tensors: row i goes to number partitions[i].

    >>> import graphgrad as gg
    >>> [x.numpy().tolist() for x in gg.dynamic_partition([1, 2, 3], [1, 0, 1], 2)]
    [[2], [1, 3]]
    """
    kind = current_kind()
    x, parts = kind.lift(data), kind.lift(partitions)
    check_integer(parts.type, "dynamic_partition", "partitions")
    if not same_shape(x.shape[: parts.ndim], parts.shape):
        raise ShapeError(
            f"dynamic_partition: the partitions {parts.type} do not fit the first axes of {x.type}"
        )
    parts = ops["check_index"](parts, int(num_partitions), 0, "dynamic_partition")
    if parts.ndim == 0:
        x, parts = x.reshape((1, *x.shape)), parts.reshape((1,))
    return [masked(x, parts == i, 0, "dynamic_partition") for i in range(int(num_partitions))]


@located
def dynamic_stitch(indices: Any, data: Any, name: str | None = None) -> Any:
    """Rows of several tensors in one: row j of data[i] goes to place indices[i][j].

    Where a place is named twice the last row stays; places that none names are 0.

    >>> import graphgrad as gg
    >>> gg.dynamic_stitch([[1], [0, 2]], [[2], [1, 3]]).numpy()
    array([1, 2, 3], dtype=int32)
    """
    kind = current_kind()
    index, values = [kind.lift(i) for i in indices], [kind.lift(v) for v in data]
    if len(index) != len(values) or not index:
        raise ArgumentError(f"dynamic_stitch: {len(index)} indices for {len(values)} tensors")
    rest = values[0].shape[index[0].ndim :]
    for i, v in zip(index, values, strict=True):
        check_integer(i.type, "dynamic_stitch", "indices")
        if not same_shape(v.shape, (*i.shape, *rest)):
            raise ShapeError(
                f"dynamic_stitch: {v.type} does not fit the indices {i.type} and rows of "
                f"{show_shape(rest)}"
            )
    flat = ops["concat"]([i.reshape((i.type.size,)) for i in index], 0)
    rows = ops["concat"]([v.reshape((i.type.size, *rest)) for i, v in zip(index, values)], 0)
    known_max = known_or_none(flat)
    count = (
        size_in(ops["maximum"](ops["max"](flat), -1) + 1 if flat.type.size != 0 else 0)
        if known_max is None
        else max(np.asarray(known_max).reshape(-1).tolist(), default=-1) + 1
    )
    zero = kind.lift(0, rows.dtype).cast(rows.dtype).broadcast_to((count, *rest))
    return ops["scatter"](zero, rows, flat, mode="update")


@located
def sequence_mask(
    lengths: Any, maxlen: Any = None, dtype: Any = dtypes.bool_, name: str | None = None
) -> Any:
    """For each length, which of the places 0, 1, ... below `maxlen` come before it.

    `maxlen` is the greatest length unless given.

    >>> import graphgrad as gg
    >>> gg.sequence_mask([1, 3], 3, gg.int32).numpy()
    array([[1, 0, 0],
           [1, 1, 1]], dtype=int32)
    """
    kind = current_kind()
    n = kind.lift(lengths)
    check_integer(n.type, "sequence_mask", "lengths")
    n = n.cast(dtypes.int64)
    limit = ops["max"](n) if maxlen is None else kind.lift(maxlen)
    found = known_or_none(limit if maxlen is None else maxlen)
    row = (
        ops["places"](ops["maximum"](limit, 0))
        if found is None
        else ops["iota"](max(found, 0), dtypes.int64)
    )
    row = row.reshape((*(1,) * n.ndim, row.shape[0]))
    return (row < n.reshape((*n.shape, 1))).cast(dtypes.as_dtype(dtype))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "dynamic_partition": dynamic_partition,
    "dynamic_stitch": dynamic_stitch,
    "sequence_mask": sequence_mask,
}
