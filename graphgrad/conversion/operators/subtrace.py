"""A function traced as a sub-graph whose results are settled later.

Tracing can be taken up again: what two branches give is compared first, and then each converts its
own numbers. So nothing is traced twice, however deep conditions nest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from graphgrad import tracing
from graphgrad.compiler.ir import Builder, Graph, Stale
from graphgrad.compiler.op import state
from graphgrad.compiler.transform.autodiff import recording
from graphgrad.conversion.operators.containers import copied
from graphgrad.variable import Variable


class _Depth(threading.local):
    branches = 0


_depth = _Depth()


def branch_depth() -> int:
    """How many sub-graphs of conditions are being traced, one within the other."""
    return _depth.branches


class SubTrace:
    """A sub-graph in the making: its builder, and what it wrote to and read of variables."""

    def __init__(self, name: str) -> None:
        parent = state.builder
        assert isinstance(parent, Builder)
        self.builder = Builder(name, parent=parent)
        self.table = tracing.Table()
        self.watcher = tracing.Watcher()
        self.stale: dict[int, Stale] = {}  # what is stale at its end
        self.copies: dict[int, Any] = {}  # by id of a copy: the structure that it was made from
        self._memo: dict[int, Any] = {}  # holds the copies, so that their ids stay their own

    def copied(self, values: Sequence[Any]) -> list[Any]:
        """The values with copies of the structures in them, which this trace may change."""
        found = [copied(x, self._memo) for x in values]
        self.copies.update((id(copy), original) for copy, original in self._memo.values())
        return found

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Operations are traced into this sub-graph meanwhile."""
        trace = tracing.function_builder()
        if trace is not None:
            self.table.sealed = trace.tables[-1].sealed
            trace.tables.append(self.table)
        self.builder.open = True
        _depth.branches += 1
        try:
            with self.builder.tracing(), recording(self.watcher):
                yield
        finally:
            _depth.branches -= 1
            if trace is not None:
                trace.tables.remove(self.table)

    @property
    def writes(self) -> list[Variable]:
        """The variables that it assigns to."""
        return list(self.table.writes.values())

    def finish(self, outputs: Sequence[Any]) -> Graph:
        """The graph; its captures are `self.builder.captured`."""
        return self.builder.finish(outputs)
