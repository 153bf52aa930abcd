"""How loops are divided: the numbers, against the best there is."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.interpret import run_graph
from graphgrad.compiler.transform.loop_checkpoints import units_ahead
from graphgrad.compiler.transform.loop_memory import Budget
from graphgrad.compiler.transform.loop_segments import least_lengths, planned
from graphgrad.compiler.transform.subgraphs import build
from graphgrad.compiler.types import tensor_type


def multiples(steps: int, levels: int, shortest: int = 1) -> Any:
    """All ways to divide, each length a multiple of the next."""
    if levels == 0:
        yield ()
        return
    for n in range(shortest, steps, shortest):
        for longer in multiples(steps, levels - 1, n):
            if not longer or longer[-1] > n:
                yield (*longer, n)


@pytest.mark.parametrize("steps", [2, 3, 10, 64, 97])
@pytest.mark.parametrize(("state", "each"), [(8, 8), (8, 100), (100, 8), (64, 1)])
def test_lengths_need_nearly_the_fewest_bytes(steps: int, state: int, each: int) -> None:
    for levels in (1, 2):
        found = planned(least_lengths(steps, levels, state, each), state, each)
        best = min(
            planned((steps, *lengths), state, each)
            for used in range(levels + 1)
            for lengths in multiples(steps, used)
        )
        assert best <= found <= 1.25 * best


def binomial_runs(units: int, free: int) -> int:
    """The fewest units to be run again, to reverse so many with so many free slots."""

    @cache
    def runs(m: int, f: int) -> int:
        if m == 1:
            return 0
        if f == 1:  # each unit from the one checkpoint
            return m * (m - 1) // 2
        return min(d + runs(m - d, f - 1) + runs(d, f) for d in range(1, m))

    return runs(units, free)


@pytest.mark.parametrize("free", [1, 2, 3, 5])
def test_running_ahead_by_binomials_is_best(free: int) -> None:
    count = tensor_type((), dtypes.int64)
    graph = build("ahead", [count, count], lambda _, m, f: [units_ahead(m, f)])

    def ahead(m: int, f: int) -> int:
        (found,) = run_graph(graph, (np.asarray(m), np.asarray(f)))
        return int(found)

    def runs(m: int, f: int) -> int:
        if m == 1:
            return 0
        d = ahead(m, f)
        assert 1 <= d < m
        return d + runs(m - d, f - 1) + runs(d, f)

    for m in (2, 3, 4, 7, 12, 30):
        assert runs(m, free) == binomial_runs(m, free)


def test_bytes_are_divided_where_they_save_most() -> None:
    """The first took all; then the one of which a further run saves most runs again."""
    budget = Budget("f", 100)
    assert budget.ask(None, [90, 40, 30]) == (100, 0)
    assert budget.ask(None, [50, 45, 44]) == (10, 2)
    again = budget.divided()
    assert again is not None
    assert again.shares == (40, 50)
    assert again.ask(None, [90, 40, 30]) == (40, 1)
    assert again.ask(None, [50, 45, 44]) == (50, 0)
    assert again.divided() is None


def test_loops_that_all_fit_are_traced_once() -> None:
    budget = Budget("f", 100)
    budget.ask(None, [60, 10])
    budget.ask(None, [40, 10])
    assert budget.divided() is None
