"""A gated recurrent unit over a sequence, batch 16, 16 inputs, 32 units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numba.extending import register_jitable

import graphgrad as gg
from benchmarks.loops.program import FAST, Program

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


# Of exp(x) = 2^k exp(r), |r| <= log(2) / 2: log(2) in two parts, and Taylor's coefficients.
LOG2_HIGH, LOG2_LOW, PER_LOG2 = 0.693145751953125, 1.4286068203094172e-06, 1.4426950408889634
C2, C3, C4, C5, C6, C7, C8, C9, C10, C11 = (1.0 / math.factorial(k) for k in range(2, 12))


@register_jitable(**FAST)
def exponentials(x: Any, bits: Any) -> None:
    """exp(x) in the place of x, in vectors, which calls of the C library are not; |x| < 700. The
    powers of two are made of their exponents, in `bits`."""
    powers = bits.view(np.float64)
    for i in range(len(x)):
        k = math.floor(x[i] * PER_LOG2 + 0.5)
        bits[i] = (k + 1023) << 52
        r = x[i] - k * LOG2_HIGH - k * LOG2_LOW
        high = C6 + r * (C7 + r * (C8 + r * (C9 + r * (C10 + r * C11))))
        x[i] = 1.0 + r * (1.0 + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * high)))))
    for i in range(len(x)):
        x[i] *= powers[i]


@njit(**FAST)
def by_hand(xs: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    """Products with inputs, and gradients of weights, are one product over all times each."""
    times, batch, width = xs.shape
    n = UNITS
    flat = xs.reshape(times * batch, width)
    a = np.dot(flat, kernel)
    for i in range(times * batch):
        for j in range(3 * n):
            a[i, j] += bias[j]
    a = a.reshape(times, batch, 3 * n)
    # Of each step: update, reset, candidate, and what the reset lets through or not.
    kept = np.empty((times, batch, 4 * n))
    states, h = np.zeros((times + 1, batch, n)), np.empty((batch, 3 * n))
    both, bits = np.empty((batch, 2 * n)), np.empty(batch * 2 * n, np.int64)
    single = np.empty((batch, n))
    loss, scale = 0.0, 1.0 / (batch * n)
    for t in range(times):
        np.dot(states[t], recurrent, h)
        for b in range(batch):
            x, y, e = a[t, b], h[b], both[b]
            for j in range(2 * n):
                e[j] = -(x[j] + y[j])
        exponentials(both.reshape(batch * 2 * n), bits)
        for b in range(batch):
            x, y, z, gates, e = a[t, b], h[b], kept[t, b], both[b], single[b]
            for j in range(2 * n):
                z[j] = 1.0 / (1.0 + gates[j])
            for j in range(n):
                z[3 * n + j] = y[2 * n + j]
            for j in range(n):
                e[j] = 2.0 * (x[2 * n + j] + z[n + j] * y[2 * n + j])
        exponentials(single.reshape(batch * n), bits[: batch * n])
        total = 0.0
        for b in range(batch):
            z, e, old, new = kept[t, b], single[b], states[t, b], states[t + 1, b]
            for j in range(n):
                z[2 * n + j] = 1.0 - 2.0 / (1.0 + e[j])  # tanh
            for j in range(n):
                new[j] = z[2 * n + j] + z[j] * (old[j] - z[2 * n + j])
                total += new[j] * new[j]
        loss += total * scale
    g, back = np.zeros((batch, n)), np.empty((batch, n))
    g_a, g_h = a, np.empty((times, batch, 3 * n))  # the memory of a is used again
    across = np.ascontiguousarray(recurrent.T)
    for t in range(times - 1, -1, -1):
        for b in range(batch):
            z, old, new = kept[t, b], states[t, b], states[t + 1, b]
            gb, ga, gh = g[b], g_a[t, b], g_h[t, b]
            for j in range(n):
                gb[j] += 2.0 * scale * new[j]
            for j in range(n):
                gh[j] = gb[j] * (old[j] - z[2 * n + j]) * z[j] * (1.0 - z[j])
            for j in range(n):
                gh[2 * n + j] = gb[j] * (1.0 - z[j]) * (1.0 - z[2 * n + j] * z[2 * n + j])
            for j in range(n):
                gh[n + j] = gh[2 * n + j] * z[3 * n + j] * z[n + j] * (1.0 - z[n + j])
            for j in range(3 * n):
                ga[j] = gh[j]
            for j in range(n):
                gh[2 * n + j] *= z[n + j]
            for j in range(n):
                gb[j] *= z[j]
        np.dot(g_h[t], across, back)
        for b in range(batch):
            for j in range(n):
                g[b, j] += back[b, j]
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
