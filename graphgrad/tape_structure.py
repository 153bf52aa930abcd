"""The structure of a backward walk: all that decides its course, as a key, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.ir import Literal

Targets = Sequence[tuple[Any, Any]]  # with their cotangents, None for ones
Groups = Sequence[Sequence[Any]]  # for each source the values whose gradients are summed

_EXACT = frozenset({int, bool, str, type(None), DType, Literal})  # equal only if they mean the same


class Unknown(Exception):
    """A structure that cannot be described."""


def describe(
    records: Sequence[Any], targets: Targets, groups: Groups, others: Sequence[Any]
) -> tuple[Any, ...]:
    """The key of a walk: walks with equal keys do the same, to other values.

    Values are numbered in the order of their appearance. Their types are in the key where no record
    made them; those of outputs follow. `others` are values at which derivatives may be asked for,
    though they are not now. Raises Unknown if an attribute has no exact key, if a target was not
    recorded, or if an output was an input before.
    """
    numbers: dict[int, Any] = {}  # by identity: the tape keeps the values alive
    key: list[Any] = []

    def add(x: Any) -> None:
        """The number of a known value; the type of a new one."""
        known = numbers.get(id(x))
        if known is None:
            numbers[id(x)] = len(numbers)
            array = x.array
            known = array.shape, array.dtype, stretched(array) if 0 in array.strides else None
        key.append(known)

    for r in records:
        key.append(r.op)
        for x in r.inputs:
            add(x)
        key.append(attributes_key(r.attrs))
        for y in r.outputs:
            if id(y) in numbers:
                raise Unknown("an output was known before")
            numbers[id(y)] = len(numbers)
    for t, g in targets:
        if id(t) not in numbers:
            raise Unknown("a target was not recorded")
        add(t)
        if g is None:
            key.append(None)
        else:
            add(g)
    key.append(None)
    key.extend(tuple([numbers.get(id(x)) for x in group]) for group in (*groups, others))
    return tuple(key)


def stretched(array: Any) -> tuple[bool, ...]:
    """The axes along which one element serves all places."""
    return tuple([stride == 0 and n > 1 for stride, n in zip(array.strides, array.shape)])


def attributes_key(attrs: dict[str, Any]) -> tuple[Any, ...]:
    """Attributes such that equal keys mean the same: 1, 1.0 and True differ, and 0.0 and -0.0."""
    return tuple([(name, exact(value)) for name, value in attrs.items()])


def exact(value: Any) -> Any:
    """A key for one attribute."""
    kind = type(value)
    if kind in _EXACT:
        return kind, value
    if kind is tuple or kind is list:
        return kind, *map(exact, value)
    if kind is float:
        return kind, value.hex()
    if kind is slice:
        return kind, exact((value.start, value.stop, value.step))
    raise Unknown(f"an attribute is of type {kind.__name__}")
