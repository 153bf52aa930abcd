"""Dtypes that a loop guessed for Python numbers, where a branch or a loop within finds others.

`best = 0.0` before a loop is carried as a float32 until something of another dtype takes its place.
That may come to light far within: then the number is found from which the value came, and the loop
that carries it is traced again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.ir import Value
from graphgrad.conversion.operators.numbers import dtype_of, is_weak


class Loop(Protocol):
    """A loop that is being traced."""

    def origin(self, param: Value) -> Any:
        """What the carried tensor `param` of this trip was before the loop, or None."""

    def may_adopt(self, param: Value, dtype: DType) -> bool:
        """Can the number that is carried as `param` get `dtype` in another trace?"""

    def adopt(self, param: Value, dtype: DType) -> None:
        """Guess `dtype` for it from now on."""


class GuessAgain(BaseException):
    """The body contradicts what was guessed about the state of `loop`; that has been corrected.

    No `except Exception` of the user's is to keep it from the loop.
    """

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.loop = loop


class _Open(threading.local):
    loops: tuple[Loop, ...] = ()  # from the outermost


_open = _Open()


@contextmanager
def opened(loop: Loop) -> Iterator[None]:
    """`loop` is being traced meanwhile."""
    before = _open.loops
    _open.loops = (*before, loop)
    try:
        yield
    finally:
        _open.loops = before


def agree(a: Any, b: Any) -> None:
    """Raise GuessAgain if only a guess of a loop makes the dtypes of two values differ."""
    for x, other in ((a, b), (b, a)):
        dtype = dtype_of(other)
        numbers = _numbers(x) if isinstance(x, Value) else None
        if numbers and all(loop.may_adopt(param, dtype) for loop, param in numbers):
            for loop, param in numbers:
                loop.adopt(param, dtype)
            raise GuessAgain(min((loop for loop, _ in numbers), key=_open.loops.index))


def _numbers(x: Value) -> list[tuple[Loop, Value]] | None:
    """The carried Python numbers from which alone `x` has its dtype; None if others are there."""
    for loop in _open.loops:
        origin = loop.origin(x)
        if origin is not None:
            if isinstance(origin, Value):
                return _numbers(origin)
            return [(loop, x)] if is_weak(origin) else None
    builder = x.builder
    if builder is None:
        return None
    for outer, inner in builder.captures.values():
        if inner is x:
            return _numbers(outer) if isinstance(outer, Value) else None
    for node in reversed(builder.nodes):
        if any(y is x for y in node.outputs):
            if node.op.name == "constant":
                return []
            found = [_numbers(y) for y in node.inputs if y.dtype is x.dtype]
            if not found or any(numbers is None for numbers in found):
                return None
            return [number for numbers in found for number in numbers or ()]
    return None
