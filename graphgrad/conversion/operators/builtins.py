"""Python's builtin functions, for tensors whose values are not known while a function is traced.

With anything else they are Python's own.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterable
from typing import Any

from graphgrad import nest, printing
from graphgrad.arrays import Growable
from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Dim
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.source import here
from graphgrad.conversion.operators.conditions import truth
from graphgrad.conversion.operators.numbers import is_symbolic
from graphgrad.conversion.operators.sources import (
    Range,
    Slices,
    Source,
    Zip,
    is_open,
    is_source,
    source,
)

REPLACED: dict[Any, Callable[..., Any]] = {}


def _replaces(function: Any) -> Callable[[Any], Any]:
    def add(replacement: Any) -> Any:
        REPLACED[function] = replacement
        return replacement

    return add


@_replaces(range)
def _range(*limits: Any) -> Any:
    return Range(*limits) if any(map(is_open, limits)) else range(*limits)


@_replaces(len)
def _len(x: Any) -> Any:
    if isinstance(x, Growable):
        return x.length()
    if isinstance(x, Source):
        n = x.length
    elif isinstance(x, Arith) and is_symbolic(x) and x.ndim:
        n = x.type.shape[0]
    else:
        return len(x)
    return current_kind().lift(n) if isinstance(n, Dim) else n


@_replaces(int)
def _int(*args: Any, **kwargs: Any) -> Any:
    if len(args) != 1 or not is_symbolic(args[0]):
        return int(*args, **kwargs)
    x = _one(args[0], "int")
    return x if x.dtype.is_integer else ops["cast"](x, dtypes.int32)


@_replaces(float)
def _float(*args: Any) -> Any:
    if len(args) != 1 or not is_symbolic(args[0]):
        return float(*args)
    x = _one(args[0], "float")
    return x if x.dtype.is_floating else x.cast(dtypes.float32)


@_replaces(bool)
def _bool(*args: Any) -> Any:
    return truth(args[0], "bool()") if len(args) == 1 else bool(*args)


def _one(x: Any, what: str) -> Any:
    value = current_kind().lift(x)
    if value.type.size != 1:
        raise ArgumentError(f"{what}() takes one value, and this is a tensor {value.type}; use "
                            "gg.cast for the elements of a tensor", here())  # fmt: skip
    return value.reshape(())


def _extremum(name: str, python: Any, op: str, reduction: str) -> Any:
    def extremum(*args: Any, **kwargs: Any) -> Any:
        if kwargs or not args:
            return python(*args, **kwargs)
        if len(args) == 1:
            if is_symbolic(args[0]):
                x = current_kind().lift(args[0])
                if x.ndim != 1:
                    raise ArgumentError(
                        f"{name}() of a tensor takes one axis, and this is {x.type}; use "
                        f"gg.reduce_{name}", here()
                    )  # fmt: skip
                return ops[reduction](x, 0)
            args = tuple(args[0])
        if not any(map(is_symbolic, args)):
            return python(args)
        found = args[0]
        for x in args[1:]:
            found = ops[op](found, x)
        return found

    return extremum


REPLACED[max] = _extremum("max", max, "maximum", "max")
REPLACED[min] = _extremum("min", min, "minimum", "min")


@_replaces(sum)
def _sum(iterable: Any, /, start: Any = 0) -> Any:
    if not (isinstance(iterable, Arith) and is_symbolic(iterable) and iterable.ndim):
        return sum(iterable, start)
    total = current_kind().lift(iterable).sum((0,))
    return total if isinstance(start, int) and start == 0 else total + start


def _quantifier(python: Any, op: str, reduction: str, ends: bool) -> Any:
    def quantifier(iterable: Iterable[Any], /) -> Any:
        if isinstance(iterable, Arith) and is_symbolic(iterable):
            x = current_kind().lift(iterable)
            if x.ndim != 1:
                return python(iter(x))
            return ops[reduction](x if x.dtype.is_bool else x != 0, 0)
        found: Any = not ends
        for x in iterable:
            holds = truth(x, f"{python.__name__}()")
            if not isinstance(holds, Arith):
                if holds is ends:
                    return ends
            else:
                found = holds if not isinstance(found, Arith) else ops[op](found, holds)
        return found

    return quantifier


REPLACED[any] = _quantifier(any, "logical_or", "any", True)
REPLACED[all] = _quantifier(all, "logical_and", "all", False)


@_replaces(print)
def _print(
    *values: Any, sep: Any = " ", end: Any = "\n", file: Any = None, flush: Any = False
) -> None:
    if not any(is_symbolic(x) for v in values for x in nest.flatten(v)):
        builtins.print(*values, sep=sep, end=end, file=file, flush=flush)
        return
    stream = sys.stdout if file is None else file
    printing.print(
        *values, output_stream=stream, sep=" " if sep is None else sep,
        end="\n" if end is None else end, summarize=-1,
    )  # fmt: skip


@_replaces(enumerate)
def _enumerate(iterable: Any, start: Any = 0) -> Any:
    if not is_source(iterable):
        return enumerate(iterable, start)
    items = source(iterable)
    return Zip([Range(start, start + items.length, 1), items])


@_replaces(zip)
def _zip(*iterables: Any, strict: bool = False) -> Any:
    parts = [x for x in iterables if is_source(x)]
    if len(parts) == len(iterables) and parts:
        return Zip([source(x) for x in iterables], strict)
    return zip(*iterables, strict=strict)


@_replaces(reversed)
def _reversed(sequence: Any) -> Any:
    if isinstance(sequence, Range):
        return sequence.reverse()
    return Slices(sequence).reverse() if is_source(sequence) else reversed(sequence)


@_replaces(sorted)
def _sorted(iterable: Any, /, *, key: Any = None, reverse: Any = False) -> Any:
    if not is_source(iterable) or isinstance(iterable, Source) or key is not None:
        return sorted(iterable, key=key, reverse=reverse)
    direction = "DESCENDING" if reverse else "ASCENDING"
    return ops["sort"](iterable, axis=0, direction=direction)
