"""Sorts and searches of few elements: each is compared with all others, in vectors.

The rank of an element is how many come before it. The element at place r is then the one of rank r.
Both are folds over comparisons, without a branch and without a host step, and for a row of 64
elements faster than any sort; their time grows with the square.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.op import Application, ops
from graphgrad.compiler.ops.index import places_along
from graphgrad.compiler.passes.patterns import node_rule

MOST_COMPARISONS = 1 << 16  # of a sort or a search
FEW = 8  # of the greatest elements are found one after the other


def is_few(*sizes: Any) -> bool:
    """Are so many comparisons worth it?"""
    return all(isinstance(n, int) for n in sizes) and 0 < math.prod(sizes) <= MOST_COMPARISONS


def beside(x: Any) -> tuple[Any, Any]:
    """The rows of `x` as columns and as rows of squares, each element beside each other one."""
    *lead, n = x.shape
    return (x.reshape((*lead, n, 1)), x.reshape((*lead, 1, n)))


def comes_before(a: Any, b: Any) -> Any:
    """a < b, where NaN is greater than everything else."""
    if a.dtype.is_bool:
        a, b = a.cast(dtypes.uint8), b.cast(dtypes.uint8)
    if not a.dtype.is_floating:
        return a < b
    both = ops["logical_and"](ops["isnan"](b), ops["logical_not"](ops["isnan"](a)))
    return ops["logical_or"](a < b, both)


def count(flags: Any) -> Any:
    """How many hold, of the last axis."""
    return ops["sum"](flags.cast(dtypes.int32), (flags.ndim - 1,))


def ranks(x: Any, descending: bool) -> Any:
    """The place of each element of a row in order: equal elements keep theirs."""
    own, other = beside(x)
    n, rank = x.shape[-1], x.ndim + 1
    i, j = (places_along(n, axis, rank, dtypes.int32) for axis in (rank - 2, rank - 1))
    before, after = comes_before(other, own), comes_before(own, other)
    if descending:
        before, after = after, before
    # Neither before nor after: equal.
    tied = ops["logical_and"](ops["logical_not"](after), j < i)
    return count(ops["logical_or"](before, tied))


def at_ranks(x: Any, places: Any, k: int) -> Any:
    """The elements of ranks 0, 1, ... k - 1 of each row."""
    *lead, n = x.shape
    wanted = places_along(k, x.ndim - 1, x.ndim + 1, dtypes.int32)
    hit = places.reshape((*lead, 1, n)) == wanted
    dtype = x.dtype
    row = (x.cast(dtypes.uint8) if dtype.is_bool else x).reshape((*lead, 1, n))
    chosen = ops["where"](hit, row, row.dtype.dtype.type(lowest(row.dtype)))
    return ops["max"](chosen, (x.ndim,)).cast(dtype)  # one of each row is chosen


def lowest(dtype: DType) -> Any:
    return -np.inf if dtype.is_floating else np.iinfo(dtype.dtype).min


def numbers(x: Any, dtype: DType) -> Any:
    """The places of the elements of each row."""
    return places_along(x.shape[-1], x.ndim - 1, x.ndim, dtype).broadcast_to(x.shape)


def with_last(x: Any, axis: int) -> Any:
    return x.transpose([*(i for i in range(x.ndim) if i != axis), axis])


def back(x: Any, axis: int) -> Any:
    order = list(range(x.ndim - 1))
    order.insert(axis, x.ndim - 1)
    return x.transpose(order)


def small_sort(root: Application) -> Any:
    """sort and argsort."""
    (x,), axis = root.inputs, root.attrs["axis"]
    n = x.type.shape[axis]
    if not is_few(*x.type.shape, n):
        return None
    rows = with_last(x, axis)
    places = ranks(rows, root.attrs["descending"])
    values = rows if root.op.name == "sort" else numbers(rows, dtypes.int32)
    return back(at_ranks(values, places, n), axis)


def small_order(root: Application) -> Any:
    """stable_order."""
    (x,) = root.inputs
    if not is_few(*x.type.shape, x.type.shape[-1]):
        return None
    return at_ranks(numbers(x, dtypes.int64), ranks(x, False), x.shape[-1])


def small_top(root: Application) -> Any:
    """top_k: one after the other where they are few, else by ranks."""
    (x,), k = root.inputs, root.attrs["k"]
    if not isinstance(k, int) or k == 0:
        return None
    n = x.type.shape[-1]
    if is_few(*x.type.shape, k) and k <= FEW and 4 * k < n:
        order = one_by_one(x, k)
    elif is_few(*x.type.shape, n):
        order = at_ranks(numbers(x, dtypes.int32), ranks(x, True), k)
    else:
        return None
    values = ops["gather"](x, order, axis=x.ndim - 1, batch_dims=x.ndim - 1)
    return values, order.cast(root.attrs["index_type"])


def one_by_one(x: Any, k: int) -> Any:
    """The places of the k greatest elements of each row."""
    row = x.cast(dtypes.uint8) if x.dtype.is_bool else x
    j, last = numbers(x, dtypes.int32), (x.ndim - 1,)
    least = row.dtype.dtype.type(lowest(row.dtype))
    left, found = None, []
    for _ in range(k):
        rest = row if left is None else ops["where"](left, row, least)
        greatest = ops["max"](rest, last, True)
        hit = ops["logical_not"](comes_before(row, greatest))  # or taken before
        hit = hit if left is None else ops["logical_and"](left, hit)
        place = ops["min"](ops["where"](hit, j, np.int32(x.shape[-1] - 1)), last, True)
        found.append(place)
        tied = ops["logical_and"](ops["logical_not"](comes_before(greatest, row)), j > place)
        left = ops["logical_or"](comes_before(row, greatest), tied)
    return ops["concat"](found, x.ndim - 1)


def small_search(root: Application) -> Any:
    """searchsorted: of a value, how many of the sequence come before it."""
    sequence, values = root.inputs
    if not is_few(*values.type.shape, sequence.type.shape[-1]):
        return None
    one, other = values.reshape((*values.shape, 1)), beside(sequence)[1]
    if root.attrs["side"] == "left":
        hit = comes_before(other, one)
    else:
        hit = ops["logical_not"](comes_before(one, other))
    return count(hit).cast(root.attrs["out_type"])


def put_by_scatter(root: Application) -> Any:
    """put_along: the places of a row differ."""
    (x, places), axis, size = root.inputs, root.attrs["axis"], root.attrs["size"]
    rows = with_last(x, axis)
    zeros = ops["broadcast_to"](x.dtype.dtype.type(0), (*rows.shape[:-1], size))
    found = ops["scatter"](zeros, rows, with_last(places, axis), "update", x.ndim - 1)
    return back(found, axis)


RULES = (
    node_rule("sort of few elements", ("sort", "argsort"), small_sort),
    node_rule("order of few elements", ("stable_order",), small_order),
    node_rule("greatest of few elements", ("top_k",), small_top),
    node_rule("search among few elements", ("searchsorted",), small_search),
    node_rule("elements at their places", ("put_along",), put_by_scatter),
)
