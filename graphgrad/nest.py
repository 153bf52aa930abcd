"""Nested structures: lists, tuples, dicts, named tuples, dataclasses; leaves in a fixed order.

Dictionaries are walked in the order of their sorted keys (insertion order where keys do not
compare), as TensorFlow does; everything else is a leaf. So are a `TensorShape`, and a dataclass
that can be called: it is a model or an op rather than a record of its fields. A copy with other
leaves is made without calling the class: its checks are for values, and the leaves may be
specifications.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError
from graphgrad.tensor import TensorShape


def _keys(d: dict[Any, Any]) -> list[Any]:
    try:
        return sorted(d)
    except TypeError:
        return list(d)


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
    """A dictionary of the type of `x` with other items."""
    if isinstance(x, defaultdict):
        return type(x)(x.default_factory, items)
    return type(x)(items)


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


def pack(structure: Any, leaves: Any) -> Any:
    """`leaves` in the form of `structure`.

    >>> pack({"b": [0, 0], "a": (0,)}, [3, 1, 2])
    {'b': [1, 2], 'a': (3,)}
    """
    return _pack(structure, iter(leaves))


def _pack(x: Any, leaves: Iterator[Any]) -> Any:
    if not is_nest(x):
        return next(leaves)
    if isinstance(x, dict):
        found = {k: _pack(x[k], leaves) for k in _keys(x)}
        ordered = {k: found[k] for k in x}
        return ordered if type(x) is dict else like_dict(x, ordered)
    if hasattr(x, "_fields"):
        return type(x)._make(_pack(getattr(x, f), leaves) for f in x._fields)
    if isinstance(x, list | tuple):
        parts = [_pack(v, leaves) for v in x]
        return parts if type(x) is list else type(x)(parts)
    return with_fields(x, {name: _pack(getattr(x, name), leaves) for name in fields(x)})


def map_structure(f: Callable[..., Any], *structures: Any) -> Any:
    """`f` of the leaves at each place, in the form of the first structure."""
    first = structures[0]
    for other in structures[1:]:
        assert_same(first, other)
    return pack(first, [f(*leaves) for leaves in zip(*map(flatten, structures))])


def layout(x: Any) -> Any:
    """What is the same for structures of the same form: hashable, leaves are `None`."""
    if not is_nest(x):
        return None
    if isinstance(x, dict):
        return (type(x), tuple((k, layout(x[k])) for k in _keys(x)))
    return (type(x), tuple(layout(part) for _, part in children(x)))


def assert_same(a: Any, b: Any, what: str = "the structures", path: str = "") -> None:
    """ArgumentError that names the first place where two structures differ."""
    here = path or "the top"
    if is_nest(a) != is_nest(b) or (is_nest(a) and type(a) is not type(b)):
        raise ArgumentError(
            f"{what} differ at {here}: {type(a).__name__} against {type(b).__name__}"
        )
    if not is_nest(a):
        return
    parts_a, parts_b = children(a), children(b)
    if [k for k, _ in parts_a] != [k for k, _ in parts_b]:
        names = [", ".join(k for k, _ in parts) for parts in (parts_a, parts_b)]
        raise ArgumentError(f"{what} differ at {here}: it has {names[0]} against {names[1]}")
    for (step, left), (_, right) in zip(parts_a, parts_b):
        assert_same(left, right, what, path + step)
