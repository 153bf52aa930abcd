"""`associative_scan`: the prefixes of a sequence by an associative function, in log depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphgrad import nest
from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import same_size
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.ops.join import stack
from graphgrad.compiler.ops.view import reverse as reversed_along
from graphgrad.compiler.source import here
from graphgrad.compiler.types import same_shape
from graphgrad.control import while_loop


def associative_scan(
    fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0,
    name: str | None = None,
) -> Any:  # fmt: skip
    """The prefixes of `elems` along `axis`: a, fn(a, b), fn(fn(a, b), c), ... for an associative
    `fn`, with `reverse` those from the end.

    `elems` may be a structure of tensors of one size along `axis`, and so is the result, of the
    same types. `fn` takes and gives such structures: it combines many pairs at once, entry by entry
    along `axis`. About 2 log2(n) calls of it stand one behind another, of 2 n entries in all (R. E.
    Ladner, M. J. Fischer: Parallel prefix computation, 1980); for a size that the trace leaves open
    log2(n) calls of n entries each (W. D. Hillis, G. L. Steele: Data parallel algorithms, 1986).

    >>> import graphgrad as gg
    >>> gg.associative_scan(gg.add, gg.constant([1, 2, 3, 4])).numpy()
    array([ 1,  3,  6, 10], dtype=int32)
    >>> def both(a, b):  # x -> u x + v, one after the other
    ...     return {"u": a["u"] * b["u"], "v": b["u"] * a["v"] + b["v"]}
    >>> gg.associative_scan(both, {"u": gg.ones(3) * 2, "v": gg.ones(3)})["v"].numpy()
    array([1., 3., 7.], dtype=float32)
    """
    xs = nest.map_structure(current_kind().lift, elems)
    flat = nest.flatten(xs)
    if not flat:
        raise ArgumentError("associative_scan: there are no tensors", here())
    for x in flat:
        if not -x.ndim <= axis < x.ndim:
            raise ShapeError(f"associative_scan: there is no axis {axis} in {x.type}", here())
    axes = [axis % x.ndim for x in flat]
    sizes = [x.type.shape[a] for x, a in zip(flat, axes)]
    if not all(same_size(n, sizes[0]) for n in sizes):
        raise ShapeError(f"associative_scan: the sizes along axis {axis} differ: {sizes}", here())
    if reverse:
        flat = [reversed_along(x, [a]) for x, a in zip(flat, axes)]

    def combine(left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
        found = fn(nest.pack(xs, left), nest.pack(xs, right))
        nest.assert_same(xs, found, "associative_scan: the elements and what its function returns")
        results = nest.flatten(nest.map_structure(current_kind().lift, found))
        for x, y in zip(left, results):
            if x.dtype is not y.dtype or not same_shape(x.type.shape, y.type.shape):
                raise ShapeError(
                    f"associative_scan: the function makes {y.type} of two {x.type}; it is to "
                    "return what it takes", here()
                )  # fmt: skip
        return results

    rising = _tree if isinstance(sizes[0], int) else _doubling
    found = rising(combine, flat, axes, sizes[0])
    if reverse:
        found = [reversed_along(y, [a]) for y, a in zip(found, axes)]
    return nest.pack(xs, found)


def _part(x: Any, axis: int, key: slice) -> Any:
    return x[(slice(None),) * axis + (key,)]


def _parts(xs: Sequence[Any], axes: Sequence[int], key: slice) -> list[Any]:
    return [_part(x, a, key) for x, a in zip(xs, axes)]


def _tree(
    combine: Callable[..., list[Any]], xs: list[Any], axes: Sequence[int], n: int
) -> list[Any]:
    """Prefixes of the pairs, which are every second result; the others need one step more."""
    if n < 2:
        return xs
    pairs = n // 2
    left = _parts(xs, axes, slice(0, 2 * pairs, 2))
    right = _parts(xs, axes, slice(1, 2 * pairs, 2))
    odd = _tree(combine, combine(left, right), axes, pairs)
    first = _parts(xs, axes, slice(0, 1))
    if n > 2:
        before = _parts(odd, axes, slice(0, (n - 1) // 2))
        rest = combine(before, _parts(xs, axes, slice(2, None, 2)))
        even = [ops["concat"]([f, r], a) for f, r, a in zip(first, rest, axes)]
    else:
        even = first
    return [_woven(e, o, a, n) for e, o, a in zip(even, odd, axes)]


def _woven(even: Any, odd: Any, axis: int, n: int) -> Any:
    """The entries of the two by turns."""
    pairs = n // 2
    shape = even.type.shape
    both = stack([_part(even, axis, slice(0, pairs)), odd], axis + 1)
    joined = both.reshape((*shape[:axis], 2 * pairs, *shape[axis + 1 :]))
    if n % 2 == 0:
        return joined
    return ops["concat"]([joined, _part(even, axis, slice(pairs, None))], axis)


def _doubling(
    combine: Callable[..., list[Any]], xs: list[Any], axes: Sequence[int], n: Any
) -> list[Any]:
    """Each entry with what stands 1, 2, 4, ... before it, as long as there is something."""
    place = ops["iota"](n, dtypes.int64)

    def step(distance: Any, *ys: Any) -> list[Any]:
        has = place >= distance
        source = ops["maximum"](place - distance, 0)
        before = [ops["gather"](y, source, a) for y, a in zip(ys, axes)]
        joined = combine(before, ys)
        after = [ops["where"](_along(has, y, a), z, y) for y, z, a in zip(ys, joined, axes)]
        return [distance * 2, *after]

    start = current_kind().lift(1).cast(dtypes.int64)
    count = current_kind().lift(n).cast(dtypes.int64)
    return list(while_loop(lambda d, *ys: d < count, step, [start, *xs])[1:])


def _along(mask: Any, x: Any, axis: int) -> Any:
    """The vector `mask` along `axis` of `x`."""
    return mask.reshape((*(1,) * axis, mask.type.shape[0], *(1,) * (x.ndim - axis - 1)))
