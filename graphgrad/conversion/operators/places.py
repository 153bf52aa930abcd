"""Attributes that a branch or a loop's body sets: state that lives in objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from graphgrad.conversion.operators.undefined import Maybe, Undefined, read


class Places:
    """The attributes `found`, (object, name, label) each, as further parts of a state."""

    def __init__(self, found: Sequence[tuple[Any, str, str]]) -> None:
        self.found = list({(id(x), name): (x, name, text) for x, name, text in found}.values())
        self.labels = tuple(text for _, _, text in self.found)

    def values(self) -> tuple[Any, ...]:
        """What they are now."""
        return tuple(getattr(x, name, Undefined(text)) for x, name, text in self.found)

    def put(self, values: Sequence[Any]) -> None:
        """Set them."""
        for (x, name, text), value in zip(self.found, values, strict=True):
            if isinstance(value, Maybe):
                value = read(value, text)
            if isinstance(value, Undefined):
                with suppress(AttributeError):
                    delattr(x, name)
            elif getattr(x, name, None) is not value:
                setattr(x, name, value)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` of a state, for the state with these at its end: set before, read after."""
        count = len(self.found)

        def run(*args: Any) -> tuple[Any, ...]:
            before = self.values()
            self.put(args[len(args) - count :])
            try:
                return (*function(*args[: len(args) - count]), *self.values())
            finally:
                self.put(before)

        return run

    def within(self, test: Callable[..., Any]) -> Callable[..., Any]:
        """`test` of a state, for the state with these at its end."""
        run = self.around(lambda *state: (test(*state),))
        return lambda *args: run(*args)[0]

    def settle(self, results: tuple[Any, ...]) -> tuple[Any, ...]:
        """The rest of a state, after these have been set to their part of it."""
        count = len(results) - len(self.found)
        self.put(results[count:])
        return results[:count]
