"""Loops of scalars, whose source graphgrad and Numba compile unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from benchmarks.loops.program import Program


def collatz(limit: Any) -> Any:
    """The most steps to 1 of any number below `limit`: n / 2 if n is even, else 3 n + 1."""
    longest = 0
    for n in range(1, limit):
        x = n
        steps = 0
        while x != 1:
            if x % 2 == 0:
                x = x // 2
            else:
                x = 3 * x + 1
            steps += 1
        if steps > longest:
            longest = steps
    return longest


def mandelbrot(size: Any, left: Any, bottom: Any, width: Any) -> Any:
    """The iterations of all points of a square, at most 100 each."""
    total = 0
    for i in range(size):
        for j in range(size):
            a = left + width * i / size
            b = bottom + width * j / size
            x, y, count = 0.0 * a, 0.0 * b, 0
            while x * x + y * y < 4.0 and count < 100:
                x, y = x * x - y * y + a, 2.0 * x * y + b
                count += 1
            total += count
    return total


def bisection(count: Any, least: Any, most: Any) -> Any:
    """The sum of the roots of x^3 + x - k for k below `count`."""
    total = 0.0
    for k in range(count):
        low, high = least, most
        while high - low > 1e-12:
            middle = (low + high) / 2.0
            if middle * middle * middle + middle > k:
                high = middle
            else:
                low = middle
        total += low
    return total


def _collatz_trips(limit: int) -> int:
    trips = 0
    for n in range(1, limit):
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            trips += 1
    return trips


SQUARE = -2.0, -1.25, 2.5

COLLATZ = Program(
    title="Collatz",
    run=collatz,
    by_hand=njit(collatz),
    inputs=lambda size, rng: (np.int64(size),),
    trips=_collatz_trips,
    size=20_000,
    tiny=30,
)
MANDELBROT = Program(
    title="Mandelbrot",
    run=mandelbrot,
    by_hand=njit(mandelbrot),
    inputs=lambda size, rng: (np.int64(size), *map(np.float64, SQUARE)),
    trips=lambda size: int(mandelbrot(size, *SQUARE)),
    size=200,
    tiny=5,
)
BISECTION = Program(
    title="Bisection",
    run=bisection,
    by_hand=njit(bisection),
    inputs=lambda size, rng: (np.int64(size), np.float64(0.0), np.float64(100.0)),
    trips=lambda size: 47 * size,  # 100 / 2^47 < 1e-12
    size=10_000,
    tiny=5,
)
