"""Assigning to part of a tensor: a new tensor, since tensors do not change."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Dim
from graphgrad.compiler.dtypes import int64
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.ops.indexing import index, is_computed, slice_range
from graphgrad.compiler.ops.view import reverse
from graphgrad.compiler.source import here
from graphgrad.compiler.types import same_shape
from graphgrad.public import publish


@publish("__setitem__")
def updated(x: Any, key: Any, value: Any) -> Any:
    """`x` with `x[key]` replaced by `value`, which is broadcast; differentiable in both.

    The key is any that `x[key]` takes. Where index tensors name an element twice, the last value
    stays.
    """
    kind = current_kind()
    x = kind.lift(x)
    value = kind.lift(value, None if isinstance(value, Arith) else x.dtype).cast(x.dtype)
    keys = key if isinstance(key, tuple) else (key,)
    if any(map(_is_array, keys)):
        return _scattered(x, key, value)
    value = value.broadcast_to(x[key].type.shape)
    starts: list[Any] = []
    sizes: list[Any] = []
    steps: list[int] = []
    flipped: list[int] = []
    for axis, k in enumerate(_one_an_axis(x, key)):
        n = x.type.shape[axis]
        start, size, step = _range(kind, k, n)
        if step < 0:
            flipped.append(axis)
            start, step = start + (size - 1) * step, -step
        starts.append(start)
        sizes.append(size)
        steps.append(step)
    if any(isinstance(n, int) and n == 0 for n in sizes):
        return x
    block = value.reshape(tuple(sizes))
    if flipped:
        block = reverse(block, flipped)
    return ops["update_slice"](x, block, starts, steps)


def _is_array(k: Any) -> bool:
    """Is it an index tensor with axes, a mask, or a slice that only the run knows?"""
    if isinstance(k, slice):
        return is_computed(k)
    return np.ndim(k) > 0 if isinstance(k, np.ndarray | list) else getattr(k, "ndim", 0) > 0


def _scattered(x: Any, key: Any, value: Any) -> Any:
    """Values put at the places that the key picks; by a mask alone, a choice for each element."""
    if not isinstance(key, tuple | slice):
        mask = current_kind().lift(key)
        rest = x.type.shape[mask.ndim :]
        if mask.dtype.is_bool and value.ndim <= len(rest):
            if not same_shape(x.type.shape[: mask.ndim], mask.type.shape):
                x[key]  # the error that says what is wrong
            mask = mask.reshape((*mask.type.shape, *(1,) * len(rest)))
            return ops["where"](mask, value, x)
    count = x.type.size
    places = ops["iota"](count, int64).reshape(x.type.shape)
    places = index(places, key)
    rows = value.broadcast_to(places.type.shape).reshape((places.type.size,))
    flat = x.reshape((count,))
    z = ops["scatter"](flat, rows, places.reshape((places.type.size,)), mode="update")
    return z.reshape(x.type.shape)


def _one_an_axis(x: Any, key: Any) -> list[Any]:
    keys = [k for k in (key if isinstance(key, tuple) else (key,)) if k is not None]
    missing = [slice(None)] * (x.ndim - sum(k is not Ellipsis for k in keys))
    for i, k in enumerate(keys):
        if k is Ellipsis:
            return keys[:i] + missing + keys[i + 1 :]
    return keys + missing


def _range(kind: Any, k: Any, n: Any) -> tuple[Any, Any, int]:
    """Start, size and step of one entry of the key."""
    if isinstance(k, slice):
        return slice_range(k, n)
    if isinstance(k, int | np.integer | Dim) and not isinstance(k, bool):
        return (k if isinstance(k, Dim) else int(k) if k >= 0 else int(k) + n), 1, 1
    index = kind.lift(k)
    if index.ndim or not index.dtype.is_integer:
        raise ArgumentError(
            f"assigning to a part: a key holds ints, slices, ..., None and 0-d integer "
            f"tensors, not {index.type}", here()
        )  # fmt: skip
    return ops["where"](index < 0, index + n, index), 1, 1
