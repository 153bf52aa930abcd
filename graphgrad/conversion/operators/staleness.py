"""Tensors that an assignment to a part of them has replaced.

`x[i] = v` makes a new tensor for the name `x`. Other names of the old one would show the change in
Python; here they cannot, so reading the old one is an error from then on. What was read before
stays right, and derivatives read it as they need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graphgrad.compiler.ir import Builder, Stale
from graphgrad.compiler.op import state
from graphgrad.compiler.source import here

Marks = dict[int, Stale]


def marks() -> Marks:
    """The stale tensors of the trace in progress, by identity."""
    return state.builder.stale if isinstance(state.builder, Builder) else {}


def mark(x: Any, name: str) -> None:
    """`x` has been replaced under `name`, by the user's present line."""
    marks()[id(x)] = Stale(x, name, here())


@contextmanager
def fresh(start: Marks) -> Iterator[Marks]:
    """Tensors are stale as `start` says meanwhile; gives the marks that are there then."""
    found = marks()
    saved, start = dict(found), dict(start)
    found.clear()
    found.update(start)
    try:
        yield found
    finally:
        found.clear()
        found.update(saved)
