"""What a loop of the graph runs over: ranges and tensors whose length a trace need not know.

Python's `range`, `zip`, `enumerate` and `reversed` give these where they meet tensors. Each has a
`length` (an int, a size of the trace, or a tensor), and gives its item at an index. Those whose
length is a size also give tensors to be scanned slice by slice, so that derivatives add up slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphgrad import nest
from graphgrad.arrays import Growable
from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Dim
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.ops.view import reverse
from graphgrad.compiler.source import here
from graphgrad.compiler.types import same_shape

Scanned = tuple[list[Any], Callable[[Sequence[Any]], Any]]


class Source:
    """Something that a loop of the graph can run over."""

    length: Any

    def item(self, k: Any) -> Any:
        """The item at the index `k`, a tensor."""
        raise NotImplementedError

    def scanned(self) -> Scanned:
        """Tensors, and what makes an item of a slice of each; `length` is an int or a size."""
        raise NotImplementedError

    def __iter__(self) -> Any:
        raise ArgumentError(
            f"{self!r} has as many items as a tensor says, which Python cannot count while a "
            "function is traced: loop over it with `for` in the function itself", here()
        )  # fmt: skip

    def __len__(self) -> int:
        if isinstance(self.length, int):
            return self.length
        iter(self)
        return 0

    def __repr__(self) -> str:
        return f"a {type(self).__name__.lower()} over a tensor"


class Range(Source):
    """`range(start, stop, step)` of which one is a tensor or a size."""

    def __init__(self, *limits: Any) -> None:
        start, stop, step = _limits(limits)
        self.limits = start, stop, step
        if any(isinstance(x, Arith) for x in self.limits):
            lift = current_kind().lift
            begin, end, by = (x if isinstance(x, Arith) else lift(x) for x in self.limits)
            for x in (begin, end, by):
                if not x.dtype.is_integer or x.ndim:
                    raise DTypeError(f"range: takes 0-d integers, got a tensor {x.type}", here())
            self.length = ops["maximum"](-((begin - end) // by), 0)
        elif isinstance(step, int) and step > 0:
            self.length = -((start - stop) // step)
        else:
            self.length = (start - stop + (-step) - 1) // -step

    def item(self, k: Any) -> Any:
        start, _, step = self.limits
        return start + k * step

    def scanned(self) -> Scanned:
        return [ops["iota"](self.length, dtypes.int32)], lambda xs: self.item(xs[0])

    def reverse(self) -> Source:
        start, _, step = self.limits
        last = start + (self.length - 1) * step
        return Range(last, last - self.length * step, -step)


class Slices(Source):
    """A tensor, along its first axis."""

    def __init__(self, x: Any) -> None:
        self.x = current_kind().lift(x)
        if not self.x.ndim:
            raise DTypeError("Cannot iterate over a scalar tensor.", here())
        self.length = self.x.type.shape[0]

    def item(self, k: Any) -> Any:
        return self.x[k]

    def scanned(self) -> Scanned:
        return [self.x], lambda xs: xs[0]

    def reverse(self) -> Source:
        return Slices(reverse(self.x, (0,)))


class Items(Source):
    """A list that grows."""

    def __init__(self, xs: Growable) -> None:
        self.xs = xs
        self.length = nest.flatten(xs.rows)[0].type.shape[0] if xs.typed else 0

    def item(self, k: Any) -> Any:
        return self.xs[k]

    def scanned(self) -> Scanned:
        rows = self.xs.stack()
        return nest.flatten(rows), lambda xs: nest.pack(rows, xs)


class Zip(Source):
    """`zip` of several sources, as long as the shortest."""

    def __init__(self, parts: Sequence[Source], strict: bool = False) -> None:
        self.parts = parts
        lengths = [p.length for p in parts]
        first = lengths[0]
        if all(not isinstance(n, Arith) for n in lengths):
            if all(same_shape((n,), (first,)) for n in lengths):
                self.length = first
                return
            if strict:
                raise ArgumentError(f"zip: the lengths differ: {lengths}", here())
            if all(isinstance(n, int) for n in lengths):
                self.length = min(lengths)
                self.parts = [_Cut(p, self.length) for p in parts]
                return
        lift = current_kind().lift
        total = lift(first)
        for n in lengths[1:]:
            total = ops["minimum"](total, lift(n))
        self.length = total

    def item(self, k: Any) -> Any:
        return tuple(p.item(k) for p in self.parts)

    def scanned(self) -> Scanned:
        found = [p.scanned() for p in self.parts]

        def item(xs: Sequence[Any]) -> Any:
            rest, items = list(xs), []
            for elems, make in found:
                items.append(make(rest[: len(elems)]))
                rest = rest[len(elems) :]
            return tuple(items)

        return [x for elems, _ in found for x in elems], item


class _Cut(Source):
    """The first `length` items of another source."""

    def __init__(self, source: Source, length: int) -> None:
        self.source, self.length = source, length

    def item(self, k: Any) -> Any:
        return self.source.item(k)

    def scanned(self) -> Scanned:
        elems, item = self.source.scanned()
        return [x[: self.length] for x in elems], item


def _limits(limits: Sequence[Any]) -> tuple[Any, Any, Any]:
    if not 1 <= len(limits) <= 3:
        raise TypeError(f"range expected 1 to 3 arguments, got {len(limits)}")
    values = [x.value() if hasattr(x, "__graphgrad_value__") else x for x in limits]
    start, stop, step = (0, *values, 1) if len(values) == 1 else (*values, 1)[:3]
    if isinstance(step, int) and step == 0:
        raise ValueError("range() arg 3 must not be zero")
    return start, stop, step


def is_source(x: Any) -> bool:
    """Does a `for` over `x` become a loop of the graph: while tracing, is it a tensor or made of
    one?"""
    return isinstance(x, Source) or (state.builder is not None and isinstance(x, Arith | Growable))


def source(x: Any) -> Source:
    """A tensor as a source."""
    if isinstance(x, Growable):
        return Items(x)
    return x if isinstance(x, Source) else Slices(x)


def is_open(x: Any) -> bool:
    """Does `range` of it need a loop of the graph?"""
    return isinstance(x, Dim) or (state.builder is not None and isinstance(x, Arith))
