"""The heat equation, explicit: a plate of 256 x 256 points whose border keeps its temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

import graphgrad as gg
from benchmarks.loops.program import FAST, Program

TRIPS = 100


def run(u: Any, k: Any, target: Any) -> Any:
    """The mean square of what differs from `target` in the end."""
    for _ in range(TRIPS):
        u[1:-1, 1:-1] += k * (
            u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4.0 * u[1:-1, 1:-1]
        )
    return gg.reduce_mean((u - target) ** 2)


@njit(**FAST)
def by_hand(u: Any, k: Any, target: Any) -> Any:
    """All temperatures are kept. `g` holds the cotangent of the inner points, zero at the border,
    and `edge` what comes together at the border."""
    n, m = u.shape
    us = np.empty((TRIPS + 1, n, m))
    us[:] = u  # the borders stay
    for t in range(TRIPS):
        for i in range(1, n - 1):
            x, up, down, new = us[t, i], us[t, i - 1], us[t, i + 1], us[t + 1, i]
            for j in range(1, m - 1):
                new[j] = x[j] + k * (down[j] + up[j] + x[j + 1] + x[j - 1] - 4.0 * x[j])
    g, after, edge = np.empty((n, m)), np.zeros((n, m)), np.zeros((n, m))
    loss = of_k = 0.0
    for i in range(n):
        for j in range(m):
            error = us[TRIPS, i, j] - target[i, j]
            loss += error * error
            g[i, j] = 2.0 * error / (n * m)
    for i in range(n):
        for j in range(m):
            if i == 0 or j == 0 or i == n - 1 or j == m - 1:
                edge[i, j], g[i, j] = g[i, j], 0.0
    for t in range(TRIPS - 1, -1, -1):
        for i in range(1, n - 1):
            x, up, down = us[t, i], us[t, i - 1], us[t, i + 1]
            gx, g_up, g_down, new = g[i], g[i - 1], g[i + 1], after[i]
            for j in range(1, m - 1):
                of_k += gx[j] * (down[j] + up[j] + x[j + 1] + x[j - 1] - 4.0 * x[j])
            for j in range(1, m - 1):
                new[j] = gx[j] + k * (g_down[j] + g_up[j] + gx[j + 1] + gx[j - 1] - 4.0 * gx[j])
        for j in range(1, m - 1):
            edge[0, j] += k * g[1, j]
            edge[n - 1, j] += k * g[n - 2, j]
        for i in range(1, n - 1):
            edge[i, 0] += k * g[i, 1]
            edge[i, m - 1] += k * g[i, m - 2]
        g, after = after, g
    return loss / (n * m), g + edge, of_k


PROGRAM = Program(
    title="Heat equation, 256 x 256",
    run=run,
    by_hand=by_hand,
    inputs=lambda size, rng: (
        rng.normal(size=(size, size)), np.float64(0.2), rng.normal(size=(size, size))
    ),
    trips=lambda size: TRIPS,
    size=256,
    tiny=5,
    argnums=(0, 1),
)  # fmt: skip
