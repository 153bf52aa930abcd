"""Frozen records whose methods are shared by all of their classes."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError
from typing import Any, ClassVar, NoReturn, dataclass_transform

_REQUIRED: Any = object()


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False)
class Frozen:
    """What `@dataclass(frozen=True, eq=False, kw_only=True)` gives, by inheritance.

    A dataclass compiles the methods of each class when it is defined. For families of ops, which
    inherit a score of fields, that takes a tenth of the time of `import graphgrad`. Every annotated
    name of a subclass is a field; instances share a default.

    >>> class Point(Frozen):
    ...     x: int
    ...     y: int = 0
    >>> Point(x=3).y
    0
    """

    _fields: ClassVar[dict[str, Any]] = {}  # name -> default, or _REQUIRED
    _required: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = inspect.get_annotations(cls)
        cls._fields = cls._fields | {n: cls.__dict__.get(n, _REQUIRED) for n in own}
        cls._required = tuple(n for n, default in cls._fields.items() if default is _REQUIRED)

    def __init__(self, **given: Any) -> None:
        unknown = [name for name in given if name not in self._fields]
        missing = [name for name in self._required if name not in given]
        if unknown or missing:
            raise TypeError(f"{type(self).__name__}: unknown fields {unknown}, missing {missing}")
        vars(self).update(self._fields | given)
        self.__post_init__()

    def __post_init__(self) -> None:
        """What a class does when its fields are set."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")
