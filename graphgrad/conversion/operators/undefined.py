"""Names without a value: Python's unbound locals, in functions whose state is passed on."""

from __future__ import annotations

from typing import Any

from graphgrad.callbacks import insert_assertion
from graphgrad.compiler.errors import UndefinedNameError
from graphgrad.compiler.op import state
from graphgrad.compiler.source import here
from graphgrad.conversion.operators.names import label
from graphgrad.tensor import Array


class Undefined:
    """The value of a name that has none yet; `reason` says why, where Python's words would not."""

    __slots__ = ("name", "reason")

    def __init__(self, name: str, reason: str | None = None) -> None:
        self.name = name
        self.reason = reason

    def error(self) -> UndefinedNameError:
        """What reading it raises."""
        reason = self.reason or (
            f"cannot access local variable {self.name!r} where it is not associated with a value"
        )
        return UndefinedNameError(reason, here())

    def __repr__(self) -> str:
        return f"<no value of {self.name!r}>"


class Maybe:
    """The value of a name that has one only where the bool tensor `defined` holds.

    One that a single condition left so is `refused`: reading it is an error at once, as the other
    branch is known to give it no value.
    """

    __slots__ = ("value", "defined", "reason", "refused")

    def __init__(self, value: Any, defined: Any, reason: str, refused: bool = False) -> None:
        self.value = value
        self.defined = defined
        self.reason = reason
        self.refused = refused

    def __repr__(self) -> str:
        return f"<perhaps {self.value!r}>"


def read(value: Any, name: str) -> Any:
    """The value of a name that may have none: UndefinedNameError then, as soon as it is known."""
    if isinstance(value, Undefined):
        raise value.error()
    if not isinstance(value, Maybe):
        return value
    reason, line = value.reason, here()
    if value.refused:
        raise UndefinedNameError(reason, line)

    def check(defined: Array) -> tuple[()]:
        if not defined.all():
            raise UndefinedNameError(reason, line)
        return ()

    if state.builder is None:
        check(value.defined)
    else:
        insert_assertion(check, f"value of {label(name)}", value.defined, [])
    return value.value


def unwrap(value: Any) -> Any:
    """The value of a name that is known to have one where it counts; None stands for none."""
    if isinstance(value, Maybe):
        return value.value
    return None if isinstance(value, Undefined) else value
