"""What reports say that loops keep is what the allocator is asked for, to the byte.

A program is compiled for n and for 2 n steps. What the calls allocate differs by the stacks of its
loops, and by results that have one entry a step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler.loop_reader import LoopReader
from graphgrad.inspection import report_of
from graphgrad.runtime import memory
from graphgrad.runtime.executor import prepare
from graphgrad.runtime.program import RECORD_HEAD
from tests.allocations import counting

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not memory.RECYCLING, reason="counts beneath libc's malloc"
)

N = 64
X, W = np.linspace(0.1, 1.0, 8), np.linspace(0.5, 1.5, 8)
SQUARE = np.linspace(-0.5, 0.5, 64).reshape(8, 8)
LONG = np.linspace(0.1, 1.0, 40)  # more than registers hold


def gradients(loss: Any) -> Any:
    def both(*args: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(args)
            y = loss(*args)
        return [y, *tape.gradient(y, args)]

    return both


def in_registers(n: int) -> Any:
    def loss(x: Any) -> Any:
        for _ in gg.range(n):
            x = 3.7 * x * (1.0 - x)
        return x

    return loss, (np.float64(0.3),)


def of_vectors(n: int) -> Any:
    def loss(x: Any, w: Any) -> Any:
        for _ in gg.range(n):
            x = x + 0.01 * gg.sin(x * w)
        return gg.reduce_sum(x)

    return loss, (LONG, LONG + 1.0)


def of_products(n: int) -> Any:
    """The gradient of w is one product behind the reverse, which stacks its factor."""

    def loss(x: Any, w: Any) -> Any:
        for _ in gg.range(n):
            x = gg.tanh(x @ w)
        return gg.reduce_sum(x)

    return loss, (SQUARE[:1], SQUARE)


def nested(n: int) -> Any:
    def loss(x: Any) -> Any:
        for _ in gg.range(n):
            for _ in gg.range(5):
                x = gg.sin(x) + 0.5 * x
            x = x * 0.7
        return x

    return loss, (np.float64(0.3),)


def nested_vectors(n: int) -> Any:
    def loss(x: Any) -> Any:
        for _ in gg.range(n):
            for _ in gg.range(3):
                x = gg.sin(x) + 0.5 * x
            x = x * gg.reduce_mean(x)
        return gg.reduce_sum(x)

    return loss, (LONG,)


def with_branches(n: int) -> Any:
    def loss(x: Any) -> Any:
        for i in gg.range(n):
            if i % 3 == 0:
                x = gg.exp(-x)
            else:
                x = x * x
        return x

    return loss, (np.float64(0.3),)


def with_results(n: int) -> Any:
    """The states are a result as well."""

    def loss(x: Any, w: Any) -> Any:
        xs = []
        for _ in gg.range(n):
            x = gg.sin(x * w)
            xs.append(x)
        return gg.reduce_sum(gg.stack(xs) ** 2)

    return loss, (X, W)


def backwards(n: int) -> Any:
    def loss(x: Any, rows: Any) -> Any:
        return gg.reduce_sum(gg.foldr(lambda a, row: gg.sin(a * row), rows, x))

    return loss, (X, np.tile(W, (n, 1)))


def one_after_the_other(n: int) -> Any:
    def loss(x: Any) -> Any:
        for _ in gg.range(n):
            x = gg.sin(x)
        for _ in gg.range(2 * n):
            x = x * x + 0.1
        return x

    return loss, (np.float64(0.3),)


def of_matrices(n: int) -> Any:
    """Covariances of a Kalman filter."""

    def loss(p: Any, noise: Any) -> Any:
        total = 0.0
        for _ in gg.range(n):
            spread = p[0, 0] + noise
            p = p - p[:, :1] * p[:1] / spread + 0.1
            total += gg.math.log(spread)
        return total

    return loss, (np.eye(2), np.float64(0.5))


def with_memory(n: int) -> Any:
    """A table that each step changes in one place."""

    def loss(table: Any) -> Any:
        for i in gg.range(n):
            table[i % 50] = gg.sin(table[(i + 1) % 50]) * 0.9
        return gg.reduce_sum(table)

    return loss, (np.linspace(0.0, 1.0, 50),)


def second_order(n: int) -> Any:
    def slope(x: Any) -> Any:
        def loss(x: Any) -> Any:
            for _ in gg.range(n):
                x = x - 0.1 * x**3
            return x

        return gg.grad(loss)(x)

    return slope, (np.float64(0.7),)


def with_one_stack(n: int) -> Any:
    """The state is read before and after each step: one stack has both."""

    def loss(h: Any, w: Any, rows: Any) -> Any:
        for row in rows:
            h = gg.tanh(h @ w + row)
        return gg.reduce_sum(h)

    return loss, (SQUARE[:1], SQUARE, np.tile(SQUARE[:1], (n, 1, 1)))


# Each with the bytes a step of arrays that stand outside of its loops.
PROGRAMS: dict[Callable[[int], Any], int] = {
    in_registers: 0,
    of_vectors: 0,
    of_products: 0,
    with_one_stack: 0,
    nested: 0,
    nested_vectors: 0,
    with_branches: 4,  # the range
    with_results: 64,  # the cotangents of the results
    backwards: 0,
    one_after_the_other: 0,
    of_matrices: 0,
    with_memory: 4,  # the range
    second_order: 8,  # 3 x ** 2 for all steps
}


def predicted_and_allocated(make: Callable[[int], Any], n: int) -> tuple[int, int]:
    """The bytes that loops stack by the report, and what a first call of the program allocates."""
    loss, args = make(n)
    trace = gg.function(gradients(loss)).get_concrete_function(*args)
    report = report_of(trace)
    top = [s.loop for s in report.steps if s.loop is not None]
    assert any(loop.saved for loop in top)
    predicted = [loop.stacked_bytes for loop in top]
    assert None not in predicted
    executable = prepare(trace.runner.compilation.program)
    arrays = [np.asarray(a) for a in args]
    with counting() as count:
        executable.run(arrays)
        return sum(predicted), count.bytes


def growth(make: Callable[[int], Any]) -> tuple[int, int]:
    """What the report and what the allocator says of n further steps."""
    (a, b), (c, d) = (predicted_and_allocated(make, n) for n in (N, 2 * N))
    return c - a, d - b


@pytest.mark.parametrize("make", PROGRAMS, ids=lambda f: f.__name__)
def test_saved_bytes_are_those_that_are_allocated(make: Any) -> None:
    predicted, allocated = growth(make)
    assert predicted + N * PROGRAMS[make] == allocated


def test_a_wrong_prediction_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = LoopReader.nbytes
    monkeypatch.setattr(LoopReader, "nbytes", lambda self, t: right(self, t) + 1)
    predicted, allocated = growth(of_vectors)
    assert predicted != allocated


def until(x: Any) -> Any:
    while x < 1e3:
        x = x * 1.01 + gg.sin(x) * 0.001
    return x


def until_of_vectors(x: Any) -> Any:
    while gg.reduce_sum(x) < 1e3:
        x = x * 1.01 + gg.sin(x) * 0.001
    return gg.reduce_sum(x)


def until_within(x: Any) -> Any:
    total = 0.0
    for v in x:
        while v < 1e3:
            v = v * 1.1 + gg.sin(v) * 0.001
        total += v
    return total


@pytest.mark.parametrize(
    ("loss", "x"),
    [(until, np.float64(1.0)), (until_of_vectors, LONG), (until_within, X)],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_steps_that_only_the_run_counts_keep_so_many_bytes_each(loss: Any, x: Any) -> None:
    """What they stack lies in records, which say for how many rows they have room, and in how many
    bytes."""
    trace = gg.function(gradients(loss)).get_concrete_function(x)
    (each,) = [loop.saved_each for loop in report_of(trace).loops if loop.saved_each]
    executable = prepare(trace.runner.compilation.program)
    executable.run([np.asarray(x)])
    (frame,) = executable._frames
    ((start, end),) = frame.records
    room, nbytes, count = frame.table[start : start + RECORD_HEAD]
    flags = end - start - RECORD_HEAD - 1  # a byte that tells that the step was made
    assert nbytes == room * (each + flags)
    assert room >= count > 10
