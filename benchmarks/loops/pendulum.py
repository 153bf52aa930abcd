"""Runge and Kutta's method of fourth order: a damped pendulum, compared with observations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

import graphgrad as gg
from benchmarks.loops.program import FAST, Program

H = 0.01


def run(stiffness: Any, damping: Any, angle: Any, speed: Any, observed: Any) -> Any:
    """The sum of squared errors of the angles; angle'' = -stiffness sin angle - damping angle'."""

    def acceleration(x: Any, v: Any) -> Any:
        return -stiffness * gg.sin(x) - damping * v

    loss = 0.0
    for seen in observed:
        v1, a1 = speed, acceleration(angle, speed)
        v2 = speed + H / 2 * a1
        a2 = acceleration(angle + H / 2 * v1, v2)
        v3 = speed + H / 2 * a2
        a3 = acceleration(angle + H / 2 * v2, v3)
        v4 = speed + H * a3
        a4 = acceleration(angle + H * v3, v4)
        angle = angle + H / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        speed = speed + H / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
        loss += (angle - seen) ** 2
    return loss


@njit(**FAST)
def by_hand(k: Any, c: Any, angle: Any, speed: Any, observed: Any) -> Any:
    """Sines, cosines and speeds of the stages are kept."""
    n = len(observed)
    sin, cos, v, error = np.empty((n, 4)), np.empty((n, 4)), np.empty((n, 4)), np.empty(n)
    loss = 0.0
    for t in range(n):
        v1 = speed
        s1 = math.sin(angle)
        a1 = -k * s1 - c * v1
        x, v2 = angle + H / 2 * v1, speed + H / 2 * a1
        s2 = math.sin(x)
        cos[t, 1] = math.cos(x)
        a2 = -k * s2 - c * v2
        x, v3 = angle + H / 2 * v2, speed + H / 2 * a2
        s3 = math.sin(x)
        cos[t, 2] = math.cos(x)
        a3 = -k * s3 - c * v3
        x, v4 = angle + H * v3, speed + H * a3
        s4 = math.sin(x)
        cos[t, 3] = math.cos(x)
        a4 = -k * s4 - c * v4
        cos[t, 0] = math.cos(angle)
        sin[t, 0], sin[t, 1], sin[t, 2], sin[t, 3] = s1, s2, s3, s4
        v[t, 0], v[t, 1], v[t, 2], v[t, 3] = v1, v2, v3, v4
        angle += H / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        speed += H / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
        error[t] = angle - observed[t]
        loss += error[t] ** 2
    of_k = of_c = gx = gv = 0.0
    of_observed = np.empty(n)
    for t in range(n - 1, -1, -1):
        of_observed[t] = -2 * error[t]
        gx += 2 * error[t]
        v1 = v2 = v3 = v4 = 0.0  # from here on cotangents, of the stages
        a4 = H / 6 * gv
        x4 = -k * cos[t, 3] * a4
        v4 = H / 6 * gx - c * a4
        a3 = H / 3 * gv + H * v4
        x3 = -k * cos[t, 2] * a3
        v3 = H / 3 * gx + H * x4 - c * a3
        a2 = H / 3 * gv + H / 2 * v3
        x2 = -k * cos[t, 1] * a2
        v2 = H / 3 * gx + H / 2 * x3 - c * a2
        a1 = H / 6 * gv + H / 2 * v2
        x1 = -k * cos[t, 0] * a1
        v1 = H / 6 * gx + H / 2 * x2 - c * a1
        of_k -= sin[t, 0] * a1 + sin[t, 1] * a2 + sin[t, 2] * a3 + sin[t, 3] * a4
        of_c -= v[t, 0] * a1 + v[t, 1] * a2 + v[t, 2] * a3 + v[t, 3] * a4
        gx += x1 + x2 + x3 + x4
        gv += v1 + v2 + v3 + v4
    return loss, of_k, of_c, gx, gv, of_observed


def inputs(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return *map(np.float64, (9.81, 0.1, 1.0, 0.0)), rng.normal(0.0, 0.5, size)


PROGRAM = Program(
    title="Runge-Kutta 4, a damped pendulum",
    run=run,
    by_hand=by_hand,
    inputs=inputs,
    trips=lambda size: size,
    size=10_000,
    tiny=5,
    argnums=(0, 1, 2, 3, 4),
)
