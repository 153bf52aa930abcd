"""An edit distance with a soft minimum, so that it has a gradient: a table filled cell by cell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

import graphgrad as gg
from benchmarks.loops.program import FAST, Program


def soft_minimum(a: Any, b: Any, c: Any) -> Any:
    """-log(exp(-a) + exp(-b) + exp(-c))."""
    least = gg.minimum(gg.minimum(a, b), c)
    return least - gg.math.log(gg.exp(least - a) + gg.exp(least - b) + gg.exp(least - c))


def run(x: Any, y: Any, gap: Any) -> Any:
    """The cost of turning x into y: `gap` for each value left out or put in, (x - y)^2 for each
    that is changed."""
    rows, columns = x.shape[0], y.shape[0]
    table = gg.zeros([rows + 1, columns + 1], gg.float64)
    for i in range(1, rows + 1):
        table[i, 0] = table[i - 1, 0] + gap
    for j in range(1, columns + 1):
        table[0, j] = table[0, j - 1] + gap
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            table[i, j] = soft_minimum(
                table[i - 1, j] + gap,
                table[i, j - 1] + gap,
                table[i - 1, j - 1] + (x[i - 1] - y[j - 1]) ** 2,
            )
    return table[rows, columns]


@njit(**FAST)
def by_hand(x: Any, y: Any, gap: Any) -> Any:
    """`share` keeps what each of the three neighbours contributes to a cell."""
    rows, columns = len(x), len(y)
    table, share = np.zeros((rows + 1, columns + 1)), np.empty((rows + 1, columns + 1, 3))
    for i in range(1, rows + 1):
        table[i, 0] = table[i - 1, 0] + gap
    for j in range(1, columns + 1):
        table[0, j] = table[0, j - 1] + gap
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            a, b = table[i - 1, j] + gap, table[i, j - 1] + gap
            c = table[i - 1, j - 1] + (x[i - 1] - y[j - 1]) ** 2
            least = min(a, b, c)
            a, b, c = math.exp(least - a), math.exp(least - b), math.exp(least - c)
            total = a + b + c
            table[i, j] = least - math.log(total)
            share[i, j, 0], share[i, j, 1], share[i, j, 2] = a / total, b / total, c / total
    of_x, of_y, of_gap = np.zeros(rows), np.zeros(columns), 0.0
    g = np.zeros((rows + 1, columns + 1))
    g[rows, columns] = 1.0
    for i in range(rows, 0, -1):
        for j in range(columns, 0, -1):
            a, b, c = g[i, j] * share[i, j, 0], g[i, j] * share[i, j, 1], g[i, j] * share[i, j, 2]
            g[i - 1, j] += a
            g[i, j - 1] += b
            g[i - 1, j - 1] += c
            of_gap += a + b
            slope = 2 * c * (x[i - 1] - y[j - 1])
            of_x[i - 1] += slope
            of_y[j - 1] -= slope
    for i in range(1, rows + 1):
        of_gap += i * g[i, 0]
    for j in range(1, columns + 1):
        of_gap += j * g[0, j]
    return table[rows, columns], of_x, of_y, of_gap


PROGRAM = Program(
    title="Edit distance with a soft minimum",
    run=run,
    by_hand=by_hand,
    inputs=lambda size, rng: (rng.normal(size=size), rng.normal(size=size), np.float64(0.7)),
    trips=lambda size: size * size,
    size=150,
    tiny=4,
    argnums=(0, 1, 2),
)
