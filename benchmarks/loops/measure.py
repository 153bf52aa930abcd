"""One program in this process: right or wrong, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.loops.program import TOLERANCE, Program, difference


@dataclass
class Row:
    """What was found of a program. Times are seconds, zero if they were not measured."""

    name: str
    title: str
    trips: int = 0
    error: float = 0.0  # of the worst result
    ours: float = 0.0
    numba: float = 0.0
    jax: float = 0.0
    first: float = 0.0  # our first call, nothing cached
    numba_first: float = 0.0
    native: bool = False  # no step of the program is a call of NumPy
    problem: str = ""


def seconds_of(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def check(program: Program, size: int, by_hand: Callable[..., Any]) -> float:
    """The largest relative difference of our results from those of `by_hand`."""
    inputs = program.arguments(size)
    expected = by_hand(*inputs)
    got = program.flat(program.compiled()(*inputs))
    return difference(got, expected if program.argnums else [expected])


def measure(name: str, program: Program, size: int, seconds: float) -> Row:
    """Time both, in turns; a call is measured once at least."""
    row = Row(name, program.title, program.trips(size))
    inputs = program.arguments(size)
    compiled = program.compiled()
    results: list[Any] = []
    row.numba_first = seconds_of(lambda: results.append(program.by_hand(*inputs)))
    row.first = seconds_of(lambda: results.append(compiled(*inputs)))
    expected, got = results
    row.error = difference(program.flat(got), expected if program.argnums else [expected])
    if not row.error <= TOLERANCE:
        row.problem = f"differs by {row.error:.1e}"
    row.native = not any(line.startswith("host ") for line in compiled.report().splitlines())
    ours, numbas = [], []
    end = time.perf_counter() + seconds
    while not ours or time.perf_counter() < end:
        numbas.append(seconds_of(lambda: program.by_hand(*inputs)))
        ours.append(seconds_of(lambda: compiled(*inputs)))
    row.ours, row.numba = min(ours), min(numbas)
    return row
