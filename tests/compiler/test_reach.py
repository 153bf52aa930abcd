"""What needs what, kept while a graph grows: against a search of the whole graph."""

from __future__ import annotations

import random

import pytest

from graphgrad.compiler.kernels.reach import Reach


class Searched:
    """The same questions, answered by walking."""

    def __init__(self) -> None:
        self.reads: dict[int, set[int]] = {}

    def needed(self, unit: int) -> set[int]:
        found: set[int] = set()
        todo = list(self.reads[unit])
        while todo:
            u = todo.pop()
            if u not in found:
                found.add(u)
                todo += self.reads[u]
        return found

    def needs_beyond(self, unit: int, other: int) -> bool:
        return any(other in self.needed(u) for u in self.reads[unit])

    def merge(self, a: int, b: int) -> None:
        self.reads[a] = (self.reads[a] | self.reads.pop(b)) - {a, b}
        for reads in self.reads.values():
            if b in reads:
                reads.remove(b)
                reads.add(a)


def grow(seed: int, size: int, reach: Reach) -> Searched:
    """Both structures grown by the same random steps: new units, new reads, mergers."""
    rng = random.Random(seed)
    searched = Searched()
    for _ in range(size):
        units = list(searched.reads)
        step = rng.random()
        if step < 0.5 or len(units) < 2:
            sources = rng.sample(units, min(len(units), rng.randrange(3)))
            unit = reach.add()
            reach.read(unit, sources)
            searched.reads[unit] = set(sources)
            continue
        a, b = rng.sample(units, 2)
        if step < 0.75:
            if a not in searched.needed(b):
                reach.read(a, [b])
                searched.reads[a].add(b)
        elif not searched.needs_beyond(a, b) and not searched.needs_beyond(b, a):
            reach.merge(a, b)
            searched.merge(a, b)
    return searched


def disagreements(reach: Reach, searched: Searched) -> int:
    units = list(searched.reads)
    return sum(
        reach.needs(u, v) != (v in searched.needed(u))
        or reach.needs_beyond(u, v) != searched.needs_beyond(u, v)
        for u in units
        for v in units
        if u != v
    )


@pytest.mark.parametrize("seed", range(60))
def test_answers_are_those_of_a_search(seed: int) -> None:
    reach = Reach()
    assert disagreements(reach, grow(seed, 70, reach)) == 0


class Forgetful(Reach):
    """A planted error: readers are not told."""

    def _spread(self, unit: int) -> None:
        pass


def test_the_comparison_finds_an_error() -> None:
    reach = Forgetful()
    assert disagreements(reach, grow(0, 70, reach)) > 0
