"""Nested structures: lists, tuples, dicts, named tuples, dataclasses; leaves in a fixed order.

Dictionaries are walked in the order of their sorted keys (insertion order where keys do not
compare), as TensorFlow does; everything else is a leaf, None included. So are a `TensorShape`, and
a dataclass that can be called: it is a model or an op rather than a record of its fields. A copy
with other leaves is made without calling the class: its checks are for values, and the leaves may
be specifications.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.source import here
from graphgrad.tensor import TensorShape


def _keys(d: dict[Any, Any]) -> list[Any]:
    try:
        return sorted(d)
    except TypeError:
        return list(d)


def ordered_items(d: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """The items of a dictionary in the order in which its leaves come."""
    return [(k, d[k]) for k in _keys(d)]


def is_nest(x: object) -> bool:
    """Is `x` a structure rather than a leaf?"""
    if isinstance(x, Arith | TensorShape):
        return False
    return isinstance(x, list | tuple | dict) or (
        dataclasses.is_dataclass(x) and not isinstance(x, type) and not callable(x)
    )


def children(x: Any) -> list[tuple[str, Any]]:
    """The parts of a structure, with how to reach each one from it."""
    if isinstance(x, dict):
        return [(f"[{k!r}]", x[k]) for k in _keys(x)]
    if hasattr(x, "_fields"):
        return [(f".{f}", getattr(x, f)) for f in x._fields]
    if isinstance(x, list | tuple):
        return [(f"[{i}]", v) for i, v in enumerate(x)]
    return [(f".{name}", getattr(x, name)) for name in fields(x)]


def fields(x: Any) -> list[str]:
    """The fields of a dataclass that have values."""
    return [f.name for f in dataclasses.fields(x) if hasattr(x, f.name)]


def with_fields(x: Any, values: dict[str, Any]) -> Any:
    """A copy of the dataclass `x` with these values, frozen or not."""
    new = copy.copy(x)
    for name, value in values.items():
        object.__setattr__(new, name, value)
    return new


def like_dict(x: dict[Any, Any], items: dict[Any, Any]) -> Any:
    """A dictionary of the class of `x`, with what that keeps beside the items, and these."""
    same = copy.copy(x)
    same.clear()
    same.update(items)
    return same


def flatten(x: Any) -> list[Any]:
    """The leaves of `x`.

    >>> flatten({"b": [1, 2], "a": (3,)})
    [3, 1, 2]
    """
    if isinstance(x, Arith):
        return [x]
    kind = type(x)
    if kind is list or kind is tuple:
        if not any(map(is_nest, x)):
            return list(x)
    elif not is_nest(x):
        return [x]
    return [leaf for _, part in children(x) for leaf in flatten(part)]


def flatten_with_path(x: Any, path: str = "") -> list[tuple[str, Any]]:
    """The leaves with their paths: `[('["w"][0]', ...)]`."""
    if not is_nest(x):
        return [(path, x)]
    return [leaf for step, part in children(x) for leaf in flatten_with_path(part, path + step)]


def flatten_up_to(
    shallow: Any, deep: Any, what: str = "the structures", path: str = "", check_types: bool = True
) -> list[tuple[str, Any, Any]]:
    """The leaves of `shallow` with paths and the parts of `deep` there: a list may be one tensor.

    ArgumentError that names the first place where `deep` has another form.
    """
    if not is_nest(shallow):
        return [(path, shallow, deep)]
    left, right = children(shallow), children(deep) if is_nest(deep) else []
    other = check_types and type(shallow) is not type(deep)
    if other or [k for k, _ in left] != [k for k, _ in right]:
        assert_same(shallow, deep, what, path, check_types)
    return [
        leaf
        for (k, s), (_, x) in zip(left, right)
        for leaf in flatten_up_to(s, x, what, path + k, check_types)
    ]


def pack(structure: Any, leaves: Any) -> Any:
    """`leaves` in the form of `structure`.

    >>> pack({"b": [0, 0], "a": (0,)}, [3, 1, 2])
    {'b': [1, 2], 'a': (3,)}
    """
    return _pack(structure, iter(leaves))


def _pack(x: Any, leaves: Iterator[Any]) -> Any:
    return with_parts(x, lambda part: _pack(part, leaves)) if is_nest(x) else next(leaves)


def with_parts(x: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of the structure `x` with `change(part)` for each of its parts, in their order."""
    if isinstance(x, dict):
        found = {k: change(x[k]) for k in _keys(x)}
        ordered = {k: found[k] for k in x}
        return ordered if type(x) is dict else like_dict(x, ordered)
    if hasattr(x, "_fields"):
        return type(x)._make(change(getattr(x, f)) for f in x._fields)
    if isinstance(x, list | tuple):
        parts = [change(v) for v in x]
        return parts if type(x) is list else type(x)(parts)
    return with_fields(x, {name: change(getattr(x, name)) for name in fields(x)})


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """The leaves `flat_sequence` in the form of `structure`; ArgumentError unless it has as many.

    >>> pack_sequence_as({"b": [0, 0], "a": (0,)}, [3, 1, 2])
    {'b': [1, 2], 'a': (3,)}
    """
    count, given = len(flatten(structure)), list(flat_sequence)
    if len(given) != count:
        raise ArgumentError(
            f"Could not pack sequence. Structure had {count} atoms, but flat_sequence had "
            f"{len(given)} items.  Structure: {structure}, flat_sequence: {given}.", here()
        )  # fmt: skip
    return pack(structure, given)


def map_structure(func: Callable[..., Any], *structure: Any, check_types: bool = True) -> Any:
    """`func` of the leaves at each place, in the form of the first structure.

    >>> map_structure(lambda a, b: a + b, {"a": [1, 2]}, {"a": [10, 20]})
    {'a': [11, 22]}
    """
    if not callable(func):
        raise DTypeError(f"func must be callable, got: {func}", here())
    if not structure:
        raise ArgumentError("Must provide at least one structure", here())
    first = structure[0]
    for other in structure[1:]:
        assert_same_structure(first, other, check_types)
    return pack(first, [func(*leaves) for leaves in zip(*map(flatten, structure))])


def is_nested(structure: object) -> bool:
    """Is it a structure rather than a leaf?

    >>> is_nested([1]), is_nested(1)
    (True, False)
    """
    return is_nest(structure)


def layout(x: Any) -> Any:
    """What is the same for structures of the same form: hashable, leaves are `None`."""
    if not is_nest(x):
        return None
    if isinstance(x, dict):
        return (type(x), tuple((k, layout(x[k])) for k in _keys(x)))
    own = x.static_key() if hasattr(x, "static_key") else None
    return (type(x), own, tuple(layout(part) for _, part in children(x)))


def assert_same_structure(nest1: Any, nest2: Any, check_types: bool = True) -> None:
    """ArgumentError that names the first place where two structures differ.

    Without `check_types` a list may stand for a tuple, and a dict for one of another class.

    >>> assert_same_structure({"a": [1, 2]}, {"a": ["x", None]})
    """
    try:
        assert_same(nest1, nest2, "the structures", check_types=check_types)
    except ArgumentError as e:
        raise e.at(here()) from None


def assert_same(
    a: Any, b: Any, what: str = "the structures", path: str = "", check_types: bool = True
) -> None:
    """ArgumentError that names the first place where two structures differ."""
    place = path or "the top"
    kinds = is_nest(a), is_nest(b)
    if kinds[0] != kinds[1] or (kinds[0] and check_types and type(a) is not type(b)):
        raise ArgumentError(
            f"{what} differ at {place}: {type(a).__name__} against {type(b).__name__}"
        )
    if not kinds[0]:
        return
    parts_a, parts_b = children(a), children(b)
    if [k for k, _ in parts_a] != [k for k, _ in parts_b]:
        names = [", ".join(k for k, _ in parts) or "nothing" for parts in (parts_a, parts_b)]
        raise ArgumentError(f"{what} differ at {place}: it has {names[0]} against {names[1]}")
    for (step, left), (_, right) in zip(parts_a, parts_b):
        assert_same(left, right, what, path + step, check_types)
