"""Viterbi's algorithm: the score of the best path; its derivatives say where the path goes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

import graphgrad as gg
from benchmarks.loops.program import FAST, Program

STATES = 32


def run(transitions: Any, emissions: Any) -> Any:
    """The largest sum of emissions and of transitions between them, over all paths."""
    scores = emissions[0]
    for emission in emissions[1:]:
        scores = gg.reduce_max(scores[:, None] + transitions, axis=0) + emission
    return gg.reduce_max(scores)


@njit(**FAST)
def by_hand(transitions: Any, emissions: Any) -> Any:
    """The scores of all times are kept; the best path is followed back from the last."""
    steps, states = emissions.shape
    scores, best = np.empty((steps, states)), np.empty(states)
    scores[0] = emissions[0]
    for t in range(1, steps):
        before, new = scores[t - 1], scores[t]
        best[:] = -np.inf
        for i in range(states):
            s, row = before[i], transitions[i]
            for j in range(states):
                score = s + row[j]
                best[j] = score if score > best[j] else best[j]
        for j in range(states):
            new[j] = best[j] + emissions[t, j]
    of_transitions, of_emissions = np.zeros_like(transitions), np.zeros_like(emissions)
    state = np.argmax(scores[steps - 1])
    value = scores[steps - 1, state]
    for t in range(steps - 1, 0, -1):
        of_emissions[t, state] = 1.0
        before = 0
        for i in range(1, states):
            if (
                scores[t - 1, i] + transitions[i, state]
                > scores[t - 1, before] + transitions[before, state]
            ):
                before = i
        of_transitions[before, state] += 1.0
        state = before
    of_emissions[0, state] = 1.0
    return value, of_transitions, of_emissions


PROGRAM = Program(
    title=f"Viterbi, {STATES} states",
    run=run,
    by_hand=by_hand,
    inputs=lambda size, rng: (
        rng.normal(size=(STATES, STATES)), rng.normal(size=(size + 1, STATES))
    ),
    trips=lambda size: size,
    size=1000,
    tiny=6,
    argnums=(0, 1),
)  # fmt: skip
