"""The rows of a Jacobian: a walk back over the records of a tape for many cotangents at once.

The walk is traced for one cotangent, and the trace batched. Outside of functions a trace is kept
for tapes of the same structure, which `tape_matching` knows again: from the third Jacobian of a
structure on nothing is traced, and from the sixth on it runs compiled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphgrad import execution
from graphgrad.batching import traced
from graphgrad.compiler.dtypes import int32
from graphgrad.compiler.errors import ArgumentError, GraphgradError
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops, state
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.transform.recorded import RecordedReverse, Unsupported, reverse_records
from graphgrad.compiler.types import tensor_type
from graphgrad.eager import array_of
from graphgrad.hot_tapes import LEAST, LONGEST, MetOnce, Walk
from graphgrad.tape_matching import matcher
from graphgrad.tensor import EagerTensor
from graphgrad.tracing import storage

FAMILIES, VARIANTS = 256, 16  # what a thread remembers: sequences of operations, walks of each


class Rows:
    """The walk of one structure from one target, as a graph whose cotangent is a parameter."""

    def __init__(self, walk: Walk) -> None:
        records, targets, groups, others, constant = walk
        ends = [x for group in (*groups, others) for x in group]
        reverse = reverse_records(records, targets, groups, ends, lambda x: x.array.shape, constant)
        self.reverse: RecordedReverse = reverse
        self.seed = targets[0][1]
        self.batched = tuple(x is self.seed for x in reverse.reads)
        self.match = matcher(records, targets, groups, others, reverse.reads, {}, reverse.answers)
        self.runs = 0

    def run(self, arrays: list[Any], seeds: Any) -> list[Any]:
        """The gradients of each group for the cotangents along the first axis of `seeds`."""
        self.runs += 1
        graph, count = self.reverse.graph, seeds.type.shape[0]
        many = batch_graph(graph, self.batched, count, (True,) * len(graph.outputs))[0]
        inputs = [array_of(seeds) if b else a for a, b in zip(arrays, self.batched, strict=True)]
        found = execution.runner(many, self.runs > LEAST).run(inputs)
        return [None if p is None else EagerTensor(found[p]) for p in self.reverse.places]


class _Known(threading.local):
    def __init__(self) -> None:
        self.once = MetOnce()
        self.families: dict[tuple[Any, ...], list[Rows] | None] = {}  # None: it is only walked


_known = _Known()


def known_rows(
    records: Sequence[Any], target: Any, groups: Any, others: Any, constant: Any, seeds: Any
) -> list[Any] | None:
    """The rows by a graph kept from an earlier tape of this structure, or kept from now on; None
    where the structure is new, or cannot be kept."""
    applied = tuple([r.op for r in records])
    families = _known.families
    if applied not in families:
        _meet(applied)
    programs = families.get(applied)
    if programs is None:
        return None
    for program in programs:
        arrays = program.match(records, [(target, program.seed)], groups, others, constant)
        if arrays is not None:
            return program.run(arrays, seeds)
    if len(programs) >= VARIANTS:
        del programs[0]
    seed = EagerTensor(np.ones(target.array.shape, target.array.dtype))
    walk = Walk(records, [(target, seed)], groups, others, constant)
    try:
        program = Rows(walk)
    except (Unsupported, GraphgradError):
        families[applied] = None
        return None
    programs.append(program)
    arrays = program.match(*walk)
    return None if arrays is None else program.run(arrays, seeds)


def _meet(applied: tuple[Any, ...]) -> None:
    """Remember a sequence of operations that is met for the second time."""
    again = _known.once.again(applied, 8 * FAMILIES)
    if again and len(applied) <= LONGEST and all(op is ops.get(op.name) for op in applied):
        if len(_known.families) >= FAMILIES:
            del _known.families[next(iter(_known.families))]
        _known.families[applied] = []


def traced_rows(walk: Callable[[Any], list[Any]], seeds: Any) -> list[Any]:
    """`walk(seed)` for many seeds along the first axis, None where it gives None."""
    has: list[bool] = []

    def row(seed: Any) -> list[Any]:
        found = walk(seed)
        has[:] = [g is not None for g in found]
        return [g for g in found if g is not None]

    count, *shape = seeds.type.shape
    graph, captured, _ = traced(row, [0], [tensor_type(tuple(shape), seeds.dtype)])
    batched = (True, *[False] * len(captured))
    many = batch_graph(graph, batched, count, (True,) * len(graph.outputs))[0]
    found = iter(_run(many, [seeds, *captured]))
    return [next(found) if h else None for h in has]


def _run(graph: Graph, values: list[Any]) -> Sequence[Any]:
    """A graph made for this call: interpreted where nobody looks on, since compiling it would take
    longer. The functions that it calls run compiled."""
    if state.builder is not None or state.recorders:
        return ops["call"](*values, graph=graph)
    return [EagerTensor(np.asarray(y)) for y in interpret(graph, [*map(storage, values)])]


def unit_rows(start: Any, size: Any, count: Any, dtype: Any) -> Any:
    """Rows of the unit matrix of `count` rows, from `start` on."""
    rows, columns = ops["iota"](size, int32) + start, ops["iota"](count, int32)
    return ops["equal"](rows.reshape((size, 1)), columns).cast(dtype)


def blocks(count: Any, at_once: int | None, name: str) -> list[tuple[int, Any]]:
    """The first row and the number of rows of blocks of at most `at_once` rows."""
    if at_once is not None and at_once < 1:
        raise ArgumentError(f"{name} is to be at least 1, got {at_once}", here())
    if at_once is None or not isinstance(count, int) or count <= at_once:
        return [(0, count)]
    return [(i, min(at_once, count - i)) for i in range(0, count, at_once)]


def joined(parts: Sequence[Any], axis: int = 0) -> Any:
    """Blocks of rows as one tensor."""
    return parts[0] if len(parts) == 1 else ops["concat"](list(parts), axis)
