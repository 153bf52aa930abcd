"""Newton's method on Kepler's equation: a loop that runs until it has converged, in a loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

import graphgrad as gg
from benchmarks.loops.program import FAST, Program

CLOSE = 1e-12


def run(eccentricity: Any, anomalies: Any) -> Any:
    """The sum of cos E, where E - e sin E = M, for the mean anomalies M of an orbit."""
    total = 0.0
    for m in anomalies:
        angle, step = m, 1.0
        while abs(step) > CLOSE:
            step = (angle - eccentricity * gg.sin(angle) - m) / (1.0 - eccentricity * gg.cos(angle))
            angle = angle - step
        total += gg.cos(angle)
    return total


@njit(**FAST)
def by_hand(e: Any, anomalies: Any) -> Any:
    """Every iteration is differentiated; `before` holds the angles of one solution."""
    before = np.empty(8)
    total = of_e = 0.0
    of_m = np.zeros(len(anomalies))
    for k in range(len(anomalies)):
        m = anomalies[k]
        angle, step, trips = m, 1.0, 0
        while abs(step) > CLOSE:
            if trips == len(before):
                before = np.concatenate((before, np.empty(trips)))
            before[trips] = angle
            trips += 1
            step = (angle - e * math.sin(angle) - m) / (1.0 - e * math.cos(angle))
            angle -= step
        total += math.cos(angle)
        g = -math.sin(angle)
        for t in range(trips - 1, -1, -1):
            sin, cos = math.sin(before[t]), math.cos(before[t])
            slope = 1.0 - e * cos
            step = (before[t] - e * sin - m) / slope
            of_top, of_slope = -g / slope, g * step / slope
            of_e -= of_top * sin + of_slope * cos
            of_m[k] -= of_top
            g += of_top * slope + of_slope * e * sin
        of_m[k] += g  # the angle starts there
    return total, of_e, of_m


PROGRAM = Program(
    title="Newton's method, until it has converged",
    run=run,
    by_hand=by_hand,
    inputs=lambda size, rng: (np.float64(0.6), rng.uniform(0.1, 3.0, size)),
    trips=lambda size: 5 * size,  # about
    size=2000,
    tiny=5,
    argnums=(0, 1),
)
