"""What errors call the parts of a converted function's state."""

from __future__ import annotations

import keyword
from types import CodeType
from typing import Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.source import Where
from graphgrad.compiler.types import show_shape

_OWN = {"return": "the value that is returned", "break": "the flag of the break",
        "continue": "the flag of the continue", "if": "the value of the conditional expression",
        "and": "the value of `and`", "or": "the value of `or`"}  # fmt: skip


def is_own(name: str) -> bool:
    """Is it a name that conversion made up? Those are keywords, which no user can take."""
    return keyword.iskeyword(name)


def label(name: str, path: str = "") -> str:
    """`'y'`, or `'y["w"][0]'` for a part of a structure."""
    if is_own(name):
        own = _OWN.get(name, f"the flag of the {name}")
        return f"part {path} of {own}" if path else own
    return f"'{name}{path}'"


def described(x: Any) -> str:
    """What a value is, in the words of an error."""
    if isinstance(x, Arith):
        return f"a tensor {x.type}"
    if isinstance(x, np.ndarray | np.generic):
        return f"a NumPy array of dtype {x.dtype} and shape {show_shape(x.shape)}"
    if x is None or isinstance(x, str | bool | int | float | complex):
        return f"{x!r}"
    if nest.is_nest(x):
        count = len(nest.children(x))
        return f"a {type(x).__name__} of {count} part{'s' * (count != 1)}"
    named = getattr(x, "__name__", None)
    return f"{named}" if isinstance(named, str) else f"a {type(x).__name__}"


def origin(x: Any, line: Where | None = None) -> str:
    """Where a value was made: its own line, or else the one given; "" if unknown."""
    where = getattr(x, "where", None)
    found = where if isinstance(where, Where) else line
    return found.describe() if found is not None else ""


def place_of(function: Any, line: int | None) -> Where | None:
    """A line of the file that `function` was written in; the line it begins at, if none is told."""
    code: CodeType | None = getattr(function, "__code__", None)
    return None if code is None else Where(code.co_filename, line or code.co_firstlineno)
