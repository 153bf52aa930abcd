"""A Kalman filter: position, speed and acceleration from observed positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

import graphgrad as gg
from benchmarks.loops.program import FAST, Program


def run(transition: Any, process: Any, noise: Any, observed: Any) -> Any:
    """Minus the logarithm of the likelihood of the observations, but for a constant."""
    mean = gg.zeros([3], gg.float64)
    covariance = gg.eye(3, dtype=gg.float64)
    loss = 0.0
    for y in observed:
        mean = gg.linalg.matvec(transition, mean)
        covariance = transition @ covariance @ gg.transpose(transition) + process
        error = y - mean[0]
        spread = covariance[0, 0] + noise
        gain = covariance[:, 0] / spread
        loss += (gg.math.log(spread) + error**2 / spread) / 2
        mean = mean + gain * error
        covariance = covariance - gain[:, None] * covariance[0]
    return loss


@njit(**FAST)
def by_hand(f: Any, process: Any, noise: Any, observed: Any) -> Any:
    """`means` and `spreads` before and after prediction are kept, the rest is computed again."""
    n = len(observed)
    means, covariances = np.zeros((n + 1, 3)), np.empty((n + 1, 3, 3))
    predicted, widened = np.empty((n, 3)), np.empty((n, 3, 3))
    half = np.empty((3, 3))
    covariances[0] = np.eye(3)
    loss = 0.0
    for t in range(n):
        m, p, last, before = predicted[t], widened[t], means[t], covariances[t]
        for i in range(3):
            m[i] = f[i, 0] * last[0] + f[i, 1] * last[1] + f[i, 2] * last[2]
            for j in range(3):
                half[i, j] = (
                    f[i, 0] * before[0, j] + f[i, 1] * before[1, j] + f[i, 2] * before[2, j]
                )
        for i in range(3):
            for j in range(3):
                p[i, j] = process[i, j] + (
                    half[i, 0] * f[j, 0] + half[i, 1] * f[j, 1] + half[i, 2] * f[j, 2]
                )
        error, s = observed[t] - m[0], p[0, 0] + noise
        loss += (math.log(s) + error * error / s) / 2
        for i in range(3):
            gain = p[i, 0] / s
            means[t + 1, i] = m[i] + gain * error
            for j in range(3):
                covariances[t + 1, i, j] = p[i, j] - gain * p[0, j]
    of_f, of_process, of_noise = np.zeros((3, 3)), np.zeros((3, 3)), 0.0
    of_observed = np.empty(n)
    gm, gp, of_gain = np.zeros(3), np.zeros((3, 3)), np.empty(3)
    for t in range(n - 1, -1, -1):
        m, p, last, before = predicted[t], widened[t], means[t], covariances[t]
        error, s = observed[t] - m[0], p[0, 0] + noise
        of_error, of_s = error / s, (1.0 - error * error / s) / (2 * s)
        for i in range(3):
            gain = p[i, 0] / s
            of_error += gm[i] * gain
            of_gain[i] = gm[i] * error - (
                gp[i, 0] * p[0, 0] + gp[i, 1] * p[0, 1] + gp[i, 2] * p[0, 2]
            )
            of_s -= of_gain[i] * gain / s
        for j in range(3):  # before gp changes: its rows, by the gain
            half[0, j] = (gp[0, j] * p[0, 0] + gp[1, j] * p[1, 0] + gp[2, j] * p[2, 0]) / s
        for j in range(3):
            gp[0, j] -= half[0, j]
            gp[j, 0] += of_gain[j] / s
        gp[0, 0] += of_s
        of_noise += of_s
        of_observed[t] = of_error
        gm[0] -= of_error
        for i in range(3):
            for j in range(3):
                of_process[i, j] += gp[i, j]
                of_f[i, j] += gm[i] * last[j]
                half[i, j] = (
                    f[i, 0] * before[0, j] + f[i, 1] * before[1, j] + f[i, 2] * before[2, j]
                )
        for i in range(3):  # before is symmetric, gp is not
            for j in range(3):
                total = 0.0
                for k in range(3):
                    total += (gp[i, k] + gp[k, i]) * half[k, j]
                of_f[i, j] += total
        for i in range(3):
            of_gain[i] = f[0, i] * gm[0] + f[1, i] * gm[1] + f[2, i] * gm[2]
            for j in range(3):
                half[i, j] = f[0, i] * gp[0, j] + f[1, i] * gp[1, j] + f[2, i] * gp[2, j]
        gm[:] = of_gain
        for i in range(3):
            for j in range(3):
                gp[i, j] = half[i, 0] * f[0, j] + half[i, 1] * f[1, j] + half[i, 2] * f[2, j]
    return loss, of_f, of_process, of_noise, of_observed


def inputs(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    h = 0.1
    transition = np.array([[1.0, h, h * h / 2], [0.0, 1.0, h], [0.0, 0.0, 0.97]])
    return transition, 0.01 * np.eye(3), np.float64(0.3), rng.normal(0.0, 1.0, size).cumsum()


PROGRAM = Program(
    title="Kalman filter, three states",
    run=run,
    by_hand=by_hand,
    inputs=inputs,
    trips=lambda size: size,
    size=5_000,
    tiny=6,
    argnums=(0, 1, 2, 3),
)
