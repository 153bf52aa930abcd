"""Python functions that native code calls: the host steps within loops and branches.

Native code passes addresses; arrays over them are what the function gets, and its results are
copied to where native code will read them. An exception ends the run, and is raised as it is. Who
catches one may keep the arrays: small ones are copies, since they may lie on the stack, and others
hold on to their memory.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphgrad.runtime.frames import Frame, Placed, Plan
from graphgrad.runtime.memory import Array
from graphgrad.runtime.program import Program

SMALL = 1024  # bytes, of arrays that are copied: loops of few numbers have them on the stack

# Python's lock is taken for the length of each call.
_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)


class Flight:
    """A run under way: its plan, what keeps its memory, and the exception that ends it."""

    __slots__ = ("error", "keep", "plan")

    def __init__(self, plan: Plan, keep: Any) -> None:
        self.plan = plan
        self.keep = keep
        self.error: BaseException | None = None


class PythonCalls:
    """The C function by which the code of one Program calls Python."""

    def __init__(self, program: Program) -> None:
        self._flights: dict[int, Flight] = {}  # by the address of the run's table
        functions = [program.callables[c.function] for c in program.python_calls]
        copied = sys.maxsize if program.records else SMALL  # what grows moves
        self._function = _SIGNATURE(caller(self._flights, functions, copied))
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value or 0

    @contextmanager
    def flight(self, frame: Frame, plan: Plan, keep: Any) -> Iterator[Flight]:
        """While a run with `frame` is under way."""
        table = ctypes.addressof(frame.table)
        self._flights[table] = flight = Flight(plan, (frame.arena, keep))
        try:
            with np.errstate(all="ignore"):  # of the thread that calls, so of its calls of Python
                yield flight
        finally:
            del self._flights[table]


def caller(
    flights: dict[int, Flight], functions: Sequence[Callable[..., Sequence[Array]]], copied: int
) -> Callable[[int, int, int], None]:
    """What the C function does: see `program.PYTHON`. Inputs of up to `copied` bytes are copies."""

    def call(table: int, number: int, words: int) -> None:
        flight = flights.get(table)
        if flight is None:  # a run without Python: it is made again
            return
        try:
            inputs, outputs, sizes, record_type = flight.plan.python_calls[number]
            record, keep = record_type.from_address(words), flight.keep
            given = [read(x, record[k], keep, copied) for k, x in enumerate(inputs, 1)]
            found = functions[number](*given, *sizes)
            if len(found) != len(outputs):
                raise ValueError(f"{len(found)} results for {len(outputs)} arrays")
            for k, (placed, result) in enumerate(zip(outputs, found), 1 + len(inputs)):
                array = np.asarray(result)
                if array.shape != placed.shape:
                    raise ValueError(f"a result has shape {array.shape}, not {placed.shape}")
                view(placed, record[k], keep)[...] = array
            record[0] = 1
        except BaseException as e:  # also what ends a process: it leaves the native code first
            flight.error = e

    return call


def read(placed: Placed, address: int, keep: Any, copied: int) -> Array:
    """The array at an address, as one that cannot be written."""
    if placed.nbytes > copied or placed.buffer is None:
        array = view(placed, address, keep)
        array.setflags(write=False)
        return array
    return np.ndarray(placed.shape, placed.dtype, ctypes.string_at(address, placed.nbytes))


def view(placed: Placed, address: int, keep: Any) -> Array:
    """The array at an address, which holds on to what keeps its memory."""
    if placed.buffer is None:
        return np.empty(placed.shape, placed.dtype)
    buffer = placed.buffer.from_address(address)
    buffer.keep = keep
    return np.ndarray(placed.shape, placed.dtype, buffer)
