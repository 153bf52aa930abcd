"""Lists, dictionaries and dataclasses in the state: each branch or trip changes a copy of its own.

Where the changed copies agree in form, what they hold is written back into the original, so that
other names of it see the change, as they do in Python.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from graphgrad import nest
from graphgrad.arrays import RowArray
from graphgrad.compiler.arith import Arith


def is_container(x: Any) -> bool:
    """Is it a structure that Python can change in place, or one that may hold such?"""
    return not isinstance(x, Arith | RowArray) and nest.is_nest(x)


def is_array(x: Any) -> bool:
    """Is it a TensorArray or a list that grows, whose length may differ where its form does not?"""
    return isinstance(x, RowArray)


def copied(x: Any, memo: dict[int, Any]) -> Any:
    """`x` with copies of all structures in it; one that stands in two places is copied once."""
    if not is_container(x):
        return x
    if id(x) not in memo:
        parts = [copied(part, memo) for _, part in nest.children(x)]
        memo[id(x)] = rebuilt(x, parts), x  # held, so that its id stays its own
    return memo[id(x)][0]


def rebuilt(form: Any, parts: list[Any]) -> Any:
    """A structure of the form of `form` with these children."""
    if isinstance(form, dict):
        found = dict(zip((k for k, _ in nest.ordered_items(form)), parts))
        return nest.like_dict(form, {k: found[k] for k in form})
    if hasattr(form, "_fields"):
        return type(form)._make(parts)
    if isinstance(form, list | tuple):
        return type(form)(parts)
    return nest.with_fields(form, dict(zip(nest.fields(form), parts)))


def written_back(original: Any, joined: Any) -> Any:
    """`original` with the contents of `joined`; `joined` itself where it cannot be changed."""
    if type(original) is not type(joined):
        return joined
    before, after = nest.children(original), nest.children(joined)
    if len(before) == len(after) and all(
        k == m and a is b for (k, a), (m, b) in zip(before, after)
    ):
        return original
    if isinstance(original, list):
        original[:] = joined
    elif isinstance(original, dict):
        original.clear()
        original.update(joined)
    elif dataclasses.is_dataclass(original) and not _is_frozen(original):
        for name in nest.fields(joined):
            setattr(original, name, getattr(joined, name))
    else:
        return joined
    return original


def _is_frozen(x: Any) -> bool:
    return bool(x.__dataclass_params__.frozen)
