"""Python values as they were when a function was traced, and whether they are still so.

Numbers and strings count by type and value, containers by type and contents, small NumPy arrays by
contents, tensors by dtype and shape (they are read anew), variables and other objects by identity.
Objects are referred to weakly: a trace must not keep alive what it was made for.
"""

from __future__ import annotations

import struct
import types
import weakref
from collections import UserList, deque
from collections.abc import Callable, Mapping
from operator import call, is_
from typing import Any

import numpy as np

from graphgrad.compiler.arith import Arith

SCALARS = (bool, int, float, complex, str, bytes, type(None), np.generic)
CONTAINERS = (list, tuple, deque, UserList, set, frozenset, Mapping)
SMALL = 64  # elements: up to here the contents of a NumPy array are compared
MANY = 1000  # elements: beyond, of a container only identity and length are compared


class Snapshot:
    """A value as it was. `value` is the value itself where that is held: numbers and tensors."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def same(self, x: Any) -> bool:
        """Is `x` what the value was?"""
        return x is self.value

    @property
    def source(self) -> tuple[str, Any]:
        """A quick test in generated code, of `x` with the object `k`, which is mostly enough."""
        return "x is k", self.value


class Scalar(Snapshot):
    __slots__ = ()

    def same(self, x: Any) -> bool:
        return x is self.value or same_scalar(x, self.value)


class Tensor(Snapshot):
    """A tensor, which may be another one of its type later; a variable is itself."""

    __slots__ = ()

    def same(self, x: Any) -> bool:
        old = self.value
        if x is old or hasattr(old, "assign") or hasattr(x, "assign") or not isinstance(x, Arith):
            return x is old
        return bool(x.type == old.type)


class Contents(Snapshot):
    """Something that can change in its place: every look compares what it holds."""

    __slots__ = ()

    @property
    def source(self) -> tuple[str, Any]:
        return "same(x)", None


class Array(Contents):
    __slots__ = ("contents",)

    def __init__(self, value: np.ndarray[Any, Any]) -> None:
        self.value = value
        self.contents = _contents(value)

    def same(self, x: Any) -> bool:
        return x is self.value and _contents(x) == self.contents


class Reference(Snapshot):
    """An object by identity, held weakly."""

    __slots__ = ("reference",)

    def __init__(self, reference: Callable[[], Any]) -> None:
        self.value = None
        self.reference = reference

    def same(self, x: Any) -> bool:
        return x is self.reference()

    @property
    def source(self) -> tuple[str, Any]:
        return "x is k()", self.reference


class Function(Reference):
    """A function by identity; another one of the same code and nothing else will do."""

    __slots__ = ("code",)

    def __init__(self, x: types.FunctionType) -> None:
        super().__init__(weakref.ref(x))
        plain = not x.__closure__ and not x.__defaults__ and not x.__kwdefaults__
        self.code = x.__code__ if plain else None

    def same(self, x: Any) -> bool:
        if x is self.reference():
            return True
        return (
            isinstance(x, types.FunctionType)
            and x.__code__ is self.code
            and not (x.__defaults__ or x.__kwdefaults__)
        )


class Items(Contents):
    """The elements of a list, tuple, deque or mapping, in order."""

    __slots__ = ("kind", "keys", "parts", "references")

    def __init__(self, x: Any, outer: tuple[int, ...] = ()) -> None:
        self.value = None
        self.kind = type(x)
        inside = (*outer, id(x))
        self.keys = tuple(map(snapshot, x)) if isinstance(x, Mapping) else None
        self.parts = tuple(snapshot(v, inside) for v in _values(x))
        weak = [p.reference for p in self.parts if isinstance(p, Reference)]
        self.references = weak if len(weak) == len(self.parts) else None

    def same(self, x: Any) -> bool:
        if type(x) is not self.kind or len(x) != len(self.parts):
            return False
        if self.keys is not None and not all(k.same(v) for k, v in zip(self.keys, x)):
            return False
        values = _values(x)
        if self.references is not None and all(map(is_, values, map(call, self.references))):
            return True
        return all(p.same(v) for p, v in zip(self.parts, values))


class Elements(Contents):
    """The elements of a set."""

    __slots__ = ("kind", "elements")

    def __init__(self, x: Any) -> None:
        self.value = None
        self.kind = type(x)
        self.elements = {(type(v), v) for v in x}

    def same(self, x: Any) -> bool:
        return type(x) is self.kind and {(type(v), v) for v in x} == self.elements


class Large(Contents):
    """A container of many elements, or within itself, by identity and length."""

    __slots__ = ("length",)

    def __init__(self, x: Any) -> None:
        self.value = x
        self.length = len(x)

    def same(self, x: Any) -> bool:
        return x is self.value and len(x) == self.length


def snapshot(x: Any, outer: tuple[int, ...] = ()) -> Snapshot:
    """`x` as it is now; `outer` are the containers that it lies in, by id."""
    if isinstance(x, SCALARS):
        return Scalar(x)
    if isinstance(x, Arith):
        return Tensor(x)
    if isinstance(x, np.ndarray):
        return Array(x)
    if isinstance(x, CONTAINERS):
        if len(x) > MANY or id(x) in outer:
            return Large(x)
        return Elements(x) if isinstance(x, set | frozenset) else Items(x, outer)
    if isinstance(x, types.FunctionType):
        return Function(x)
    try:
        return Reference(weakref.ref(x))
    except TypeError:
        return Snapshot(x)


def same_scalar(a: Any, b: Any) -> bool:
    """Equal by type and value: NaN equals itself, and 0.0 is not -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, np.generic):
        return a.tobytes() == b.tobytes()
    return bool(a == b)


def _values(x: Any) -> Any:
    return x.values() if isinstance(x, Mapping) else x


def _contents(x: np.ndarray[Any, Any]) -> Any:
    return (x.shape, x.dtype, x.tobytes() if x.size <= SMALL else None)
