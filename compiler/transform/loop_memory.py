"""What the loops of one function may keep for their gradients, and how the bytes are divided.

While a function with a bound is traced, each loop asks its `Budget` for a share. A loop that needs
more than its share is divided (`loop_segments.py`, `loop_checkpoints.py`). Which loops there are is
known when the trace has ended: where one had to live with what others left, the bytes are divided
among all, and the function is traced again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import state
from graphgrad.compiler.source import Where


class Schedule(NamedTuple):
    """How a loop that may not keep all that its reverse reads is divided.

    Of a known number of `steps`, `levels` are the steps between checkpoints, outermost first; the
    steps of the last are kept whole while they are reversed. Where only the run knows the steps,
    there are `slots` for checkpoints, and the one level is what is kept whole.
    """

    where: Where | None
    steps: int | None
    bound: int  # the share of the loop, in bytes
    each: int  # bytes that a step keeps
    state: int  # bytes of a checkpoint
    levels: tuple[int, ...]
    peak: int  # bytes in all
    slots: int = 0


class Demand(NamedTuple):
    """What a loop asks for: the bytes that it needs in each of the ways to run it, from the one
    that computes least again to the one that keeps least."""

    where: Where | None
    ways: tuple[int, ...]
    chosen: int  # of the ways; the number of ways where none fits

    @property
    def needed(self) -> int:
        return self.ways[min(self.chosen, len(self.ways) - 1)]


class Budget:
    """The bytes for the loops of one trace. `shares` are those of the loops in order, if known."""

    def __init__(self, name: str, bound: int, shares: tuple[int, ...] | None = None) -> None:
        self.name = name
        self.bound = bound
        self.shares = shares
        self.demands: list[Demand] = []
        self.schedules: list[Schedule] = []

    def share(self) -> int:
        """The bytes for the next loop: those of the division, or what is left."""
        if self.shares is not None and len(self.demands) < len(self.shares):
            return self.shares[len(self.demands)]
        return max(0, self.bound - sum(d.needed for d in self.demands))

    def ask(self, where: Where | None, ways: Sequence[int]) -> tuple[int, int]:
        """The share of the next loop, and which of its ways fits in it; the last if none does."""
        share, count = self.share(), _local.lanes
        chosen = first_within(ways, share // count)
        self.demands.append(Demand(where, tuple(n * count for n in ways), chosen))
        return share // count, min(chosen, len(ways) - 1)

    def divided(self) -> Budget | None:
        """A budget for a second trace; None where each loop had all that it could use.

        Raises ArgumentError where the loops keep more than the bound in any case.
        """
        chosen = [first_within(d.ways, self.bound) for d in self.demands]
        fitting = all(k < len(d.ways) for k, d in zip(chosen, self.demands, strict=True))
        if fitting and [d.chosen for d in self.demands] == chosen:
            return None
        taken = [0] * len(self.demands)
        while sum(self._needed(taken)) > self.bound:
            saved = [
                max((d.ways[k] - n for n in d.ways[k + 1 :]), default=0)
                for d, k in zip(self.demands, taken, strict=True)
            ]
            best = max(range(len(saved)), key=saved.__getitem__, default=0)
            if not saved or saved[best] <= 0:
                raise self._too_little()
            taken[best] += 1
        shares = tuple(self._needed(taken))
        if self.shares is not None and [d.chosen for d in self.demands] == taken:
            return None
        return Budget(self.name, self.bound, shares)

    def _needed(self, taken: Sequence[int]) -> list[int]:
        return [d.ways[k] for d, k in zip(self.demands, taken, strict=True)]

    def _too_little(self) -> ArgumentError:
        least = [min(d.ways) for d in self.demands]
        most = max(self.demands, key=lambda d: min(d.ways))
        loops = "its loop keeps" if len(least) == 1 else f"its {len(least)} loops keep"
        return ArgumentError(
            f"{self.name}: loop_memory is {self.bound:,} bytes, and {loops} at least "
            f"{sum(least):,} for the gradient, however often steps are computed again; give "
            f"loop_memory={sum(least)} or more",
            most.where,
        )


def first_within(ways: Sequence[int], bound: int) -> int:
    """The first of the ways that needs no more than `bound`; their number where there is none."""
    return next((k for k, n in enumerate(ways) if n <= bound), len(ways))


class _Local(threading.local):
    budget: Budget | None = None
    recorders: tuple[object, ...] | None = None  # those at work around the body in progress
    lanes: int = 1


_local = _Local()


@contextmanager
def bounded_loops(budget: Budget | None) -> Iterator[None]:
    """Loops that are traced meanwhile share `budget`; None: they keep what they like."""
    before = _local.budget, _local.recorders, _local.lanes
    _local.budget, _local.recorders, _local.lanes = budget, None, 1
    try:
        yield
    finally:
        _local.budget, _local.recorders, _local.lanes = before


@contextmanager
def body_of_loop() -> Iterator[None]:
    """Loops that are traced meanwhile are within another, which is divided together with them,
    unless a tape begins and ends within it."""
    before = _local.recorders
    _local.recorders = tapes()
    try:
        yield
    finally:
        _local.recorders = before


@contextmanager
def lanes(count: object) -> Iterator[None]:
    """What is traced meanwhile happens so many times at once."""
    before = _local.lanes
    _local.lanes = before * max(1, count) if isinstance(count, int) else before
    try:
        yield
    finally:
        _local.lanes = before


def budget_at_work() -> Budget | None:
    """What the next loop has to ask for its bytes; None where nobody bounds it, or the loop around
    it does."""
    around = _local.recorders
    if around is not None and all(any(t is a for a in around) for t in tapes()):
        return None
    return _local.budget


def tapes() -> tuple[object, ...]:
    """The recorders at work that derivatives will be asked of."""
    return tuple(r for r in state.recorders if hasattr(r, "gradient"))


def is_bounded() -> bool:
    """Is there a bound on what loops keep, be it that of a loop around?"""
    return _local.budget is not None
