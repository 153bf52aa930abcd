"""What users see when something is wrong: each class is also the built-in one they expect."""

from __future__ import annotations

from typing import Any


class GraphgradError(Exception):
    """Base of all errors of graphgrad. `where` is the user's line, shown below the message."""

    def __init__(self, message: str, where: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.message]
        if self.where is not None:
            lines.append(f"  in {self.where.describe()}")
        lines.extend(f"  {note}" for note in self.notes)
        return "\n".join(lines)

    def at(self, where: Any, *notes: str) -> GraphgradError:
        """This error with the user's line, unless it has one already."""
        if self.where is None:
            self.where = where
        self.notes += tuple(n for n in notes if n not in self.notes)
        return self


class InvalidArgumentError(GraphgradError):
    """Values or shapes that an operation cannot take (TensorFlow's name for all of these)."""


class ShapeError(InvalidArgumentError, ValueError):
    """Shapes that an operation cannot take."""


class DTypeError(GraphgradError, TypeError):
    """Element types that an operation cannot take."""


class ArgumentError(InvalidArgumentError, ValueError):
    """An argument with a wrong value."""


class IndexOutOfRange(InvalidArgumentError, IndexError):
    """An index outside the axis, found when a kernel ran."""


class DivisionByZero(InvalidArgumentError, ZeroDivisionError):
    """An integer division by zero."""


class AssertionFailed(InvalidArgumentError, AssertionError, ValueError):
    """What a function of gg.debugging was to make sure does not hold."""


class NotFinite(InvalidArgumentError, ArithmeticError):
    """An infinite element or a NaN where gg.debugging.check_numerics was to find none."""


class ResourceExhaustedError(GraphgradError, MemoryError):
    """No memory for what a loop stacks for its derivative (the name is TensorFlow's)."""


class TraceError(GraphgradError, RuntimeError):
    """Something that cannot be done while a function is traced."""


class NoValueError(TraceError, TypeError):
    """The value of a symbolic tensor was asked for while its function is traced."""


class DonatedTensorError(GraphgradError, RuntimeError):
    """A tensor used after its memory was given to a call."""


class UndefinedNameError(TraceError, UnboundLocalError, ValueError):
    """A name is read that has no value on some way through the function."""


class LeakedTensorError(TraceError, TypeError):
    """A symbolic tensor used after its trace has ended."""


class InvalidGraph(GraphgradError, AssertionError):
    """The verifier found a graph that no pass may produce: a defect of graphgrad."""
