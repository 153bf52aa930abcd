"""graphgrad's own objects with options that traces rely on: optimizers, schedules and the like."""

from __future__ import annotations

import inspect
from typing import Any

from graphgrad.compiler.arith import Arith
from graphgrad.snapshots import Snapshot, snapshot


class Configured:
    """Numbers the values that an object's options have had together.

    Guards compare one number, `_configuration`. It is the same again when all options are, so that
    an option that goes back and forth finds the traces made before. Nothing is counted before a
    trace relies on the object.
    """

    _configuration = -1

    def _configure(self) -> None:
        """Find the number of the options as they are now."""
        own = vars(self)
        now = {name: _by_identity(own[name]) for name in options_of(type(self)) if name in own}
        known: list[Snapshot] = vars(self).setdefault("_configurations", [])
        number = next((i for i, then in enumerate(known) if then.same(now)), len(known))
        if number == len(known):
            known.append(snapshot(now))
        vars(self)["_configuration"] = number

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if self._configuration >= 0 and name in options_of(type(self)):
            self._configure()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: it counts by itself."""
        fresh = ("_configurations", "_configuration")
        return {k: v for k, v in vars(self).items() if k not in fresh}


def options_of(kind: type[Configured]) -> tuple[str, ...]:
    """The attributes that traces rely on: what the constructors of a class and its bases take, but
    for properties; and those that `_further_options` names."""
    if kind not in _options_of:
        _options_of[kind] = _find_options(kind)
    return _options_of[kind]


_options_of: dict[Any, tuple[str, ...]] = {}
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _find_options(kind: Any) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for base in kind.__mro__:
        constructor = vars(base).get("__init__")
        if inspect.isfunction(constructor):
            taken = list(inspect.signature(constructor).parameters.values())[1:]
            names |= {p.name: None for p in taken if p.kind not in _REST}
        names |= dict.fromkeys(vars(base).get("_further_options", ()))
    return tuple(n for n in names if not isinstance(getattr(kind, n, None), property))


def _by_identity(x: Any) -> Any:
    """A tensor with its id: a snapshot takes another one of its type for the same."""
    return (id(x), x) if isinstance(x, Arith) else x
