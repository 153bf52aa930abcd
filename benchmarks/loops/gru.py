"""A gated recurrent unit over a sequence, batch 16, 16 inputs, 32 units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

import graphgrad as gg
from benchmarks.loops.program import Program

BATCH, INPUTS, UNITS = 16, 16, 32


def run(xs: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    """The sum over time of the mean square of the state."""
    n = recurrent.shape[0]
    state = gg.zeros([xs.shape[1], n], gg.float64)
    loss = 0.0
    for x in xs:
        a, h = x @ kernel + bias, state @ recurrent
        update = gg.sigmoid(a[:, :n] + h[:, :n])
        reset = gg.sigmoid(a[:, n : 2 * n] + h[:, n : 2 * n])
        candidate = gg.tanh(a[:, 2 * n :] + reset * h[:, 2 * n :])
        state = update * state + (1.0 - update) * candidate
        loss += gg.reduce_mean(state * state)
    return loss


@njit
def by_hand(xs: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    """Products with inputs, and gradients of weights, are one product over all times each."""
    times, batch, width = xs.shape
    n = recurrent.shape[0]
    flat = xs.reshape(times * batch, width)
    a = np.dot(flat, kernel).reshape(times, batch, 3 * n)
    h, states = np.empty((batch, 3 * n)), np.zeros((times + 1, batch, n))
    gates, inner = np.empty((times, batch, 3 * n)), np.empty((times, batch, n))
    loss, scale = 0.0, 1.0 / (batch * n)
    for t in range(times):
        np.dot(states[t], recurrent, h)
        total = 0.0
        for b in range(batch):
            x, y, z, old, new = a[t, b], h[b], gates[t, b], states[t, b], states[t + 1, b]
            for j in range(n):
                z[j] = 1.0 / (1.0 + math.exp(-(x[j] + bias[j] + y[j])))
            for j in range(n, 2 * n):
                z[j] = 1.0 / (1.0 + math.exp(-(x[j] + bias[j] + y[j])))
            for j in range(n):
                inner[t, b, j] = y[2 * n + j]
                before = x[2 * n + j] + bias[2 * n + j] + z[n + j] * y[2 * n + j]
                z[2 * n + j] = 1.0 - 2.0 / (1.0 + math.exp(2.0 * before))  # tanh
                new[j] = z[j] * old[j] + (1.0 - z[j]) * z[2 * n + j]
                total += new[j] * new[j]
        loss += total * scale
    g, g_h = np.zeros((batch, n)), np.empty((times, batch, 3 * n))
    g_a, before = a, np.empty((batch, n))  # the memory of a is used again
    across = np.ascontiguousarray(recurrent.T)
    for t in range(times - 1, -1, -1):
        for b in range(batch):
            z, y, old, new = gates[t, b], inner[t, b], states[t, b], states[t + 1, b]
            ga, gh, gb = g_a[t, b], g_h[t, b], g[b]
            for j in range(n):
                update, reset, candidate = z[j], z[n + j], z[2 * n + j]
                gs = gb[j] + 2.0 * scale * new[j]
                gu = gs * (old[j] - candidate) * update * (1.0 - update)
                gc = gs * (1.0 - update) * (1.0 - candidate * candidate)
                gr = gc * y[j] * reset * (1.0 - reset)
                ga[j], ga[n + j], ga[2 * n + j] = gu, gr, gc
                gh[j], gh[n + j], gh[2 * n + j] = gu, gr, gc * reset
                gb[j] = gs * update
        np.dot(g_h[t], across, before)
        for b in range(batch):
            for j in range(n):
                g[b, j] += before[b, j]
    g_a, g_h = g_a.reshape(times * batch, 3 * n), g_h.reshape(times * batch, 3 * n)
    of_bias = np.zeros(3 * n)
    for i in range(times * batch):
        for j in range(3 * n):
            of_bias[j] += g_a[i, j]
    of_xs = np.dot(g_a, kernel.T).reshape(times, batch, width)
    of_recurrent = np.dot(states[:times].reshape(times * batch, n).T, g_h)
    return loss, of_xs, np.dot(flat.T, g_a), of_recurrent, of_bias


def inputs(size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return (
        rng.normal(size=(size, BATCH, INPUTS)),
        rng.normal(size=(INPUTS, 3 * UNITS)) / INPUTS**0.5,
        rng.normal(size=(UNITS, 3 * UNITS)) / UNITS**0.5,
        0.1 * rng.normal(size=3 * UNITS),
    )


PROGRAM = Program(
    title=f"GRU, {BATCH} x {INPUTS}, {UNITS} units",
    run=run,
    by_hand=by_hand,
    inputs=inputs,
    trips=lambda size: size,
    size=300,
    tiny=4,
    argnums=(0, 1, 2, 3),
)
