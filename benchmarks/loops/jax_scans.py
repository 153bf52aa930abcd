"""The programs as JAX's scans: `python -m benchmarks.loops.jax_scans NAME INPUTS.npz SECONDS`.

Prints the least seconds of a value with gradients, those of the first call, and the results' file.
Newton's method is missing: JAX has no reverse mode through a loop that runs until it has converged.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

H = 0.01
TRIPS = {"power": 200, "heat": 100}


def pendulum(stiffness: Any, damping: Any, angle: Any, speed: Any, observed: Any) -> Any:
    def acceleration(x: Any, v: Any) -> Any:
        return -stiffness * jnp.sin(x) - damping * v

    def step(state: Any, seen: Any) -> Any:
        x, v1 = state
        a1 = acceleration(x, v1)
        v2 = v1 + H / 2 * a1
        a2 = acceleration(x + H / 2 * v1, v2)
        v3 = v1 + H / 2 * a2
        a3 = acceleration(x + H / 2 * v2, v3)
        v4 = v1 + H * a3
        a4 = acceleration(x + H * v3, v4)
        x = x + H / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        return (x, v1 + H / 6 * (a1 + 2 * a2 + 2 * a3 + a4)), (x - seen) ** 2

    return lax.scan(step, (angle, speed), observed)[1].sum()


def kalman(transition: Any, process: Any, noise: Any, observed: Any) -> Any:
    def step(state: Any, y: Any) -> Any:
        mean, covariance = state
        mean = transition @ mean
        covariance = transition @ covariance @ transition.T + process
        error, spread = y - mean[0], covariance[0, 0] + noise
        gain = covariance[:, 0] / spread
        state = mean + gain * error, covariance - gain[:, None] * covariance[0]
        return state, (jnp.log(spread) + error**2 / spread) / 2

    return lax.scan(step, (jnp.zeros(3), jnp.eye(3)), observed)[1].sum()


def viterbi(transitions: Any, emissions: Any) -> Any:
    def step(scores: Any, emission: Any) -> Any:
        return jnp.max(scores[:, None] + transitions, axis=0) + emission, None

    return jnp.max(lax.scan(step, emissions[0], emissions[1:])[0])


def edit_distance(x: Any, y: Any, gap: Any) -> Any:
    """Row by row; a row is a scan over its cells."""

    def cell(left: Any, given: Any) -> Any:
        above, diagonal, b = given[:3]
        of_three = jnp.stack([above + gap, left + gap, diagonal + (given[3] - b) ** 2])
        least = of_three.min()
        value = least - jnp.log(jnp.exp(least - of_three).sum())
        return value, value

    def row(before: Any, a: Any) -> Any:
        given = before[1:], before[:-1], y, jnp.full_like(y, a)
        first = before[0] + gap
        return jnp.concatenate([first[None], lax.scan(cell, first, given)[1]]), None

    return lax.scan(row, gap * jnp.arange(len(y) + 1), x)[0][-1]


def power(matrix: Any, v: Any) -> Any:
    def step(v: Any, _: Any) -> Any:
        v = matrix @ v
        return v / jnp.linalg.norm(v), None

    v = lax.scan(step, v, None, TRIPS["power"])[0]
    return v @ (matrix @ v)


def gru(xs: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    n = recurrent.shape[0]

    def step(state: Any, x: Any) -> Any:
        a, h = x @ kernel + bias, state @ recurrent
        update = jax.nn.sigmoid(a[:, :n] + h[:, :n])
        reset = jax.nn.sigmoid(a[:, n : 2 * n] + h[:, n : 2 * n])
        candidate = jnp.tanh(a[:, 2 * n :] + reset * h[:, 2 * n :])
        state = update * state + (1.0 - update) * candidate
        return state, jnp.mean(state * state)

    return lax.scan(step, jnp.zeros((xs.shape[1], n)), xs)[1].sum()


def heat(u: Any, k: Any, target: Any) -> Any:
    def step(u: Any, _: Any) -> Any:
        inner = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4.0 * u[1:-1, 1:-1]
        return u.at[1:-1, 1:-1].add(k * inner), None

    return jnp.mean((lax.scan(step, u, None, TRIPS["heat"])[0] - target) ** 2)


SCANS = {f.__name__: f for f in (pendulum, kalman, viterbi, edit_distance, power, gru, heat)}


def main(name: str, file: str, seconds: str, argnums: str) -> None:
    with np.load(file) as given:
        inputs = [jnp.asarray(given[k]) for k in given.files]
    places = tuple(map(int, argnums.split(",")))
    run = partial(jax.jit(jax.value_and_grad(SCANS[name], argnums=places)), *inputs)
    start = time.perf_counter()
    value, gradients = jax.block_until_ready(run())
    first = time.perf_counter() - start
    np.savez(file.replace(".npz", ".jax.npz"), value, *gradients)
    times, end = [], time.perf_counter() + float(seconds)
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    print(json.dumps({"seconds": min(times), "first": first}))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(*sys.argv[1:])
