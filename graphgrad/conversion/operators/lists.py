"""Lists that grow in loops: Python's own outside loops of the graph, values that grow within."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.arrays import Growable
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.source import here
from graphgrad.conversion.operators.names import label
from graphgrad.conversion.operators.numbers import is_symbolic


def append(xs: Any, value: Any, name: str) -> Any:
    """What `name` is after `name.append(value)`, where it was `xs`."""
    if isinstance(xs, Growable):
        return _changed(lambda: xs.appended(value), name)
    xs.append(value)
    return xs


def extend(xs: Any, values: Any, name: str) -> Any:
    """What `name` is after `name.extend(values)`, where it was `xs`."""
    if isinstance(xs, list) and isinstance(values, Growable):
        xs = Growable.of(xs)
    if isinstance(xs, Growable):
        given = values if isinstance(values, Growable) else list(values)
        return _changed(lambda: xs.extended(given), name)
    xs.extend(values)
    return xs


def insert(xs: Any, index: Any, value: Any, name: str) -> Any:
    """What `name` is after `name.insert(index, value)`, where it was `xs`."""
    if isinstance(xs, list) and is_symbolic(index):
        xs = Growable.of(xs)
    if isinstance(xs, Growable):
        return _changed(lambda: xs.inserted(index, value), name)
    xs.insert(index, value)
    return xs


def pop(xs: Any, index: Any, name: str) -> tuple[Any, Any]:
    """What `name` is after `name.pop(index)`, and the item that was taken."""
    if isinstance(xs, list) and is_symbolic(index):
        xs = Growable.of(xs)
    if isinstance(xs, Growable):
        return xs.popped(index)
    return xs, xs.pop(index)


def _changed(change: Callable[[], Growable], name: str) -> Growable:
    """What `change` gives; its errors name the list."""
    try:
        return change()
    except GraphgradError as error:
        raise error.at(
            here(),
            f"{label(name)} changes its length in a loop over tensors, so it has to be a list "
            "of tensors of one type",
        ) from None
