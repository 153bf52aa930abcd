"""Calls of Python functions from within a graph: what printing, assertions and `py_function` are.

A callback is a call of Python, in program order among the effects of its graph, and is neither
merged, repeated nor dropped. An assertion is one that native code makes only to have it raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from typing import Any

import numpy as np

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType, as_dtype
from graphgrad.compiler.errors import ShapeError
from graphgrad.compiler.interpret import flushing
from graphgrad.compiler.op import Op, ops, zeros_like
from graphgrad.compiler.types import Shape, TensorType, show_shape, tensor_type

Array = np.ndarray[Any, Any]
_numbers = count()


class Callback:
    """A Python function over arrays as an attribute of a node; equal to itself alone.

    `pullback(n)`, if given, is the callback that returns the cotangents of the floating ones of `n`
    inputs, for these inputs and the cotangents of the floating outputs.

    One that is `guarded` returns nothing, and does nothing where its first input, a bool, holds;
    else it raises.
    """

    __slots__ = ("function", "guarded", "name", "number", "pullback")

    def __init__(
        self,
        function: Callable[..., Sequence[Any]],
        name: str,
        pullback: Callable[[int], Callback] | None = None,
        guarded: bool = False,
    ) -> None:
        self.function = function
        self.name = name
        self.pullback = pullback
        self.guarded = guarded
        self.number = next(_numbers)  # in the text of graphs, where an id may come again

    def __repr__(self) -> str:
        return f"<{self.name} #{self.number}>"


def _types(
    *types: TensorType, function: Callback, shapes: tuple[Shape, ...], dtypes: tuple[DType, ...]
) -> tuple[TensorType, ...]:
    return tuple(tensor_type(s, d) for s, d in zip(shapes, dtypes, strict=True))


def _run(
    *arrays: Array, function: Callback, shapes: tuple[Shape, ...], dtypes: tuple[DType, ...]
) -> list[Array]:
    with flushing(False):  # what it calls runs as it does elsewhere
        found = function.function(*arrays)
    if len(found) != len(shapes):
        raise ShapeError(f"{function.name} returned {len(found)} values, not {len(shapes)}")
    results = []
    for k, (value, shape, dtype) in enumerate(zip(found, shapes, dtypes, strict=True)):
        array = np.asarray(value)
        fits = array.ndim == len(shape) and all(
            n == m for n, m in zip(array.shape, shape, strict=True) if isinstance(m, int)
        )
        if not fits:
            raise ShapeError(
                f"{function.name} returned an array of shape {show_shape(array.shape)} as result "
                f"{k}, which was declared as {show_shape(shape)}; declare results by "
                "Tout=gg.TensorSpec(shape, dtype), None for sizes that vary"
            )
        results.append(array.astype(dtype.dtype, copy=False))
    return results


def _vjp(
    gs: tuple[Any, ...], outs: tuple[Any, ...], *xs: Any, needs: tuple[bool, ...],
    function: Callback, **attrs: Any,
) -> tuple[Any, ...]:  # fmt: skip
    if function.pullback is None:
        return (None,) * len(xs)
    floating = [y for y in outs if y.dtype.is_inexact]
    given = dict(zip(map(id, outs), gs, strict=True))
    seeds = [zeros_like(y) if given[id(y)] is None else given[id(y)] for y in floating]
    wanted = [x for x in xs if x.dtype.is_inexact]
    found = iter(
        callback(
            *xs, *seeds, function=function.pullback(len(xs)),
            shapes=tuple(x.type.shape for x in wanted), dtypes=tuple(x.dtype for x in wanted),
        )
    )  # fmt: skip
    return tuple(next(found) if x.dtype.is_inexact else None for x in xs)


def _batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent,
    function: Callback, shapes: tuple[Shape, ...], dtypes: tuple[DType, ...],
) -> Any:  # fmt: skip
    """Example after example, in order, in one step. What may get a cotangent has one of each."""
    if function.guarded and batched[0]:
        each = over_examples(function, batched, lambda *arrays: ())
        whole = Callback(lambda _, *arrays: each.function(*arrays), function.name, guarded=True)
        return callback(ops["all"](xs[0]), *xs, function=whole, shapes=(), dtypes=())
    if function.pullback is not None:
        xs = tuple(
            x if b or not x.dtype.is_inexact else x.broadcast_to((size, *x.shape))
            for x, b in zip(xs, batched, strict=True)
        )
        batched = tuple(b or x.dtype.is_inexact for x, b in zip(xs, batched, strict=True))

    def none(*arrays: Array) -> list[Array]:
        known = [(0, *(n if isinstance(n, int) else 0 for n in s)) for s in shapes]
        return [np.empty(s, d.dtype) for s, d in zip(known, dtypes, strict=True)]

    return callback(
        *xs, function=over_examples(function, batched, none),
        shapes=tuple((size, *s) for s in shapes), dtypes=dtypes,
    )  # fmt: skip


def over_examples(
    function: Callback, batched: tuple[bool, ...], none: Callable[..., Sequence[Array]]
) -> Callback:
    """The callback that calls `function` for each example of the inputs that `batched` marks, and
    of any further ones; what `none` returns, where there are no examples."""

    def loop(*arrays: Array) -> Sequence[Array]:
        marks = (*batched, *(True,) * (len(arrays) - len(batched)))
        marked = [*zip(arrays, marks, strict=True)]
        size = next(len(a) for a, b in marked if b)
        rows = [function.function(*(a[i] if b else a for a, b in marked)) for i in range(size)]
        return [np.stack(column) for column in zip(*rows, strict=True)] if rows else none(*arrays)

    if function.pullback is None:
        return Callback(loop, function.name)
    single = function.pullback

    @cache
    def pullback(count: int) -> Callback:
        """Of each example: the cotangents that follow the inputs are batched."""

        def unmoved(*arrays: Array) -> list[Array]:
            return [np.empty_like(a) for a in arrays[:count] if as_dtype(a.dtype).is_inexact]

        return over_examples(single(count), batched, unmoved)

    return Callback(loop, function.name, pullback)


callback = Op(
    name="callback",
    public="",
    multi=True,
    effect=True,
    type=_types,
    ref=_run,
    vjp=_vjp,
    batch=_batch,
    samples=None,
    doc="What a Python function returns for the values, which it is given as arrays.",
)
