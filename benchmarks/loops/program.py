"""What a program of this folder is, and how its results are compared."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TOLERANCE = 1e-9  # of a gradient, relative to its largest element

# What by-hand code asks of Numba: division without Python's exception, which would keep loops from
# vectors, sums in any order, and fused multiply-adds.
FAST: dict[str, Any] = {"error_model": "numpy", "fastmath": {"reassoc", "contract"}}

DIFFERENTIATED = ("newton", "pendulum", "kalman", "viterbi", "edit_distance", "power", "gru",
                  "heat")  # fmt: skip
SCALAR = ("collatz", "mandelbrot", "bisection")
PROGRAMS = (*DIFFERENTIATED, *SCALAR)


@dataclass(frozen=True)
class Program:
    """A loop as a user writes it, and what it is measured against.

    `run(*inputs)` is plain Python; with `argnums` it returns a scalar, which is differentiated in
    these arguments, and `by_hand(*inputs)` is a Numba function that returns the value and the
    gradients. Without, `by_hand` is `run` itself, compiled by Numba. `inputs(size, rng)` makes the
    arguments, NumPy arrays; `trips(size)` says how often the innermost loop runs.
    """

    title: str
    run: Callable[..., Any]
    by_hand: Callable[..., Any]
    inputs: Callable[[int, np.random.Generator], tuple[Any, ...]]
    trips: Callable[[int], int]
    size: int  # that is measured
    tiny: int  # that is only checked
    argnums: tuple[int, ...] = ()

    def arguments(self, size: int) -> tuple[Any, ...]:
        return self.inputs(size, np.random.default_rng(7))

    def compiled(self) -> Callable[..., Any]:
        """What is measured of graphgrad: the function, or its value and gradients."""
        import graphgrad as gg

        if not self.argnums:
            return gg.function(self.run)
        return gg.function(gg.value_and_grad(self.run, argnums=self.argnums))

    def flat(self, result: Any) -> list[Any]:
        """NumPy arrays of what `compiled` returns: the value, then the gradients."""
        if not self.argnums:
            return [np.asarray(result)]
        value, gradients = result
        return [np.asarray(value), *(np.asarray(g) for g in gradients)]


def program(name: str) -> Program:
    """The program of that name; its module is imported here."""
    module = importlib.import_module(f"benchmarks.loops.{'scalars' if name in SCALAR else name}")
    return getattr(module, name.upper()) if name in SCALAR else module.PROGRAM


def difference(got: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest error of any result, relative to the largest element of that result."""
    if [np.shape(x) for x in got] != [np.shape(x) for x in expected]:
        raise ValueError(f"shapes {[*map(np.shape, got)]}, expected {[*map(np.shape, expected)]}")
    errors = (
        np.max(np.abs(x - y), initial=0.0) / np.max(np.abs(y), initial=np.finfo(float).tiny)
        for x, y in zip(got, map(np.asarray, expected))
    )
    return float(max(errors))
