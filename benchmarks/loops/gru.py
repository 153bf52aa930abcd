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
            for j in range(n):
                update = 1.0 / (1.0 + math.exp(-(a[t, b, j] + bias[j] + h[b, j])))
                reset = 1.0 / (1.0 + math.exp(-(a[t, b, n + j] + bias[n + j] + h[b, n + j])))
                candidate = math.tanh(
                    a[t, b, 2 * n + j] + bias[2 * n + j] + reset * h[b, 2 * n + j]
                )
                state = update * states[t, b, j] + (1.0 - update) * candidate
                gates[t, b, j], gates[t, b, n + j] = update, reset
                gates[t, b, 2 * n + j], inner[t, b, j] = candidate, h[b, 2 * n + j]
                states[t + 1, b, j] = state
                total += state * state
        loss += total * scale
    g, g_h = np.zeros((batch, n)), np.empty((times, batch, 3 * n))
    g_a, before = a, np.empty((batch, n))  # the memory of a is used again
    across = np.ascontiguousarray(recurrent.T)
    for t in range(times - 1, -1, -1):
        for b in range(batch):
            for j in range(n):
                update, reset = gates[t, b, j], gates[t, b, n + j]
                candidate = gates[t, b, 2 * n + j]
                gs = g[b, j] + 2.0 * scale * states[t + 1, b, j]
                gu = gs * (states[t, b, j] - candidate) * update * (1.0 - update)
                gc = gs * (1.0 - update) * (1.0 - candidate * candidate)
                gr = gc * inner[t, b, j] * reset * (1.0 - reset)
                g_a[t, b, j], g_a[t, b, n + j], g_a[t, b, 2 * n + j] = gu, gr, gc
                g_h[t, b, j], g_h[t, b, n + j], g_h[t, b, 2 * n + j] = gu, gr, gc * reset
                g[b, j] = gs * update
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
