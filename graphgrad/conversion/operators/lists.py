"""Lists that grow in loops: Python's own outside loops of the graph, values that grow within."""

from __future__ import annotations

from typing import Any

from graphgrad.arrays import Growable
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.source import here
from graphgrad.conversion.operators.names import label
from graphgrad.conversion.operators.numbers import is_symbolic


def append(xs: Any, value: Any, name: str) -> Any:
    """What `name` is after `name.append(value)`, where it was `xs`."""
    if isinstance(xs, Growable):
        try:
            return xs.append(value)
        except GraphgradError as error:
            raise error.at(
                here(),
                f"{label(name)} changes its length in a loop over tensors, so it has to be a list "
                "of tensors of one type",
            ) from None
    xs.append(value)
    return xs


def pop(xs: Any, index: Any, name: str) -> tuple[Any, Any]:
    """What `name` is after `name.pop(index)`, and the item that was taken."""
    if isinstance(xs, list) and is_symbolic(index):
        xs = Growable.of(xs)
    if isinstance(xs, Growable):
        return xs.pop(index)
    return xs, xs.pop(index)
