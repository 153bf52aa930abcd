"""Power iteration: the largest eigenvalue of a matrix, differentiated through all iterations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

import graphgrad as gg
from benchmarks.loops.program import FAST, Program

TRIPS = 200


def run(matrix: Any, v: Any) -> Any:
    """v A v, after v has been multiplied by A and divided by its length again and again."""
    for _ in range(TRIPS):
        v = gg.linalg.matvec(matrix, v)
        v = v / gg.norm(v)
    return gg.reduce_sum(v * gg.linalg.matvec(matrix, v))


@njit(**FAST)
def by_hand(matrix: Any, v: Any) -> Any:
    """The gradient of the matrix is a sum of outer products, one product of matrices at the end."""
    n = len(v)
    kept, lengths, g_kept = np.empty((TRIPS + 1, n)), np.empty(TRIPS), np.empty((TRIPS, n))
    kept[0] = v
    for t in range(TRIPS):
        w = np.dot(matrix, kept[t])
        lengths[t] = np.sqrt(np.dot(w, w))
        kept[t + 1] = w / lengths[t]
    last = kept[TRIPS]
    w = np.dot(matrix, last)
    value = np.dot(last, w)
    g = w + np.dot(matrix.T, last)
    for t in range(TRIPS - 1, -1, -1):
        v = kept[t + 1]
        g_kept[t] = (g - v * np.dot(v, g)) / lengths[t]
        g = np.dot(matrix.T, g_kept[t])
    of_matrix = np.dot(g_kept.T, kept[:TRIPS])
    for i in range(n):
        for j in range(n):
            of_matrix[i, j] += last[i] * last[j]
    return value, of_matrix


def inputs(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    factor = rng.normal(size=(size, size))
    return factor @ factor.T / size, rng.normal(size=size)


PROGRAM = Program(
    title="Power iteration, 128 x 128",
    run=run,
    by_hand=by_hand,
    inputs=inputs,
    trips=lambda size: TRIPS,
    size=128,
    tiny=3,
    argnums=(0,),
)
