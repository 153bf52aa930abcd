"""Sizes of a Program as expressions over the shapes of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# An int, or ("dim", input, axis) | ("+" | "*" | "//" | "max", size, size) | ("up", size, multiple),
# or THREADS, or UNKNOWN, or ("found", record, 0): the count of its rows, when the run knows it.
Size = int | tuple[Any, ...]

# How many threads a call may use.
THREADS: Size = ("threads", 0, 0)

# A size of a host step's result that only the step finds out.
UNKNOWN: Size = ("unknown", 0, 0)


MANY = 1 << 20  # stands for a number that only the run finds out


def evaluate(
    size: Size, shapes: Sequence[Sequence[int]], threads: int = 1, found: Sequence[int] = ()
) -> int:
    """The value of `size` when the inputs have `shapes` and a call may use `threads` threads; -1
    for UNKNOWN. `found` are the counts of the records, MANY where they are not known yet.

    >>> evaluate(("*", ("dim", 0, 1), 4), [(2, 3)]), evaluate(("up", 65, 64), [])
    (12, 128)
    """
    if isinstance(size, int):
        return size
    kind, a, b = size
    if kind == "dim":
        return shapes[a][b]
    if kind == "threads":
        return threads
    if kind == "unknown":
        return -1
    if kind == "found":
        return found[a] if found else MANY
    x, y = evaluate(a, shapes, threads, found), evaluate(b, shapes, threads, found)
    if kind == "+":
        return x + y
    if kind == "*":
        return x * y
    if kind == "//":
        return x // y
    if kind == "max":
        return max(x, y)
    if kind == "up":
        return -(-x // y) * y
    raise ValueError(f"unknown size expression {size!r}")
