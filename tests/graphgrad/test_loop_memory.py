"""Loops with a bound on what they keep for their gradient, and checkpoints by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.ir import Graph
from graphgrad.runtime import engine
from graphgrad.runtime.buffers import buffers

X, W = np.linspace(0.1, 1.0, 8), np.linspace(0.5, 1.5, 8)


def gradients(body: Any, limit: Any, order: int = 1) -> Any:
    """A function of x and w: the result of `body`, and the gradients of its sum."""

    @gg.function(loop_memory=limit)
    def f(x: Any, w: Any) -> Any:
        with gg.GradientTape() as outer:
            outer.watch([x, w])
            with gg.GradientTape() as tape:
                tape.watch([x, w])
                y = gg.reduce_sum(body(x, w))
            first = tape.gradient(y, [x, w])
            total = gg.reduce_sum(first[0] * first[1])
        return [y, *first, *(outer.gradient(total, [x, w]) if order == 2 else [])]

    return f


def steps(count: int) -> Any:
    def body(x: Any, w: Any) -> Any:
        for _ in gg.range(count):
            x = x + 0.01 * gg.sin(x * w)
        return x

    return body


def scanned(count: int, reverse: bool) -> Any:
    def body(x: Any, w: Any) -> Any:
        rows = gg.reshape(gg.range(8 * count), (count, 8))
        xs = gg.sin(gg.cast(rows, "float64")) * w
        return gg.scan(lambda a, row: gg.sin(a * w) + row, xs, x, reverse=reverse)

    return body


def temporaries(f: Any, *args: Any) -> int:
    """The bytes that a call takes for its temporaries."""
    graph: Graph = f.get_concrete_function(*args).graph
    program = compile_in_full(graph, engine.host_target()).program
    return buffers(program, [a.shape for a in args]).arena


@pytest.mark.parametrize("count", [12, 97, 100])
@pytest.mark.parametrize("limit", [3000, 6000])
def test_a_bound_does_not_change_the_gradient(count: int, limit: int) -> None:
    expected = gradients(steps(count), None)(X, W)
    found = gradients(steps(count), limit)(X, W)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("reverse", [False, True])
def test_slices_and_stacks_are_divided_too(reverse: bool) -> None:
    expected = gradients(scanned(23, reverse), None)(X, W)
    found = gradients(scanned(23, reverse), 1600)(X, W)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_second_derivatives_of_divided_loops() -> None:
    expected = gradients(steps(20), None, order=2)(X, W)
    found = gradients(steps(20), 2000, order=2)(X, W)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_temporaries_stay_within_the_bound() -> None:
    """20,000 steps of 8 numbers, kept for the gradient, are 1.28 MB."""
    free = temporaries(gradients(steps(20_000), None), X, W)
    assert free > 1_280_000
    assert temporaries(gradients(steps(20_000), "20KB"), X, W) < 20_000


def test_a_bound_that_is_kept_anyway_changes_nothing() -> None:
    graphs = [
        gradients(steps(10), limit).get_concrete_function(X, W).graph for limit in (None, "1 MiB")
    ]
    assert graphs[0] == graphs[1]


def test_tapes_around_a_call_keep_to_the_bound() -> None:
    def loss(x: Any, w: Any) -> Any:
        return gg.reduce_sum(steps(50)(x, w))

    found = []
    for limit in (None, 3000):
        f = gg.function(loss, loop_memory=limit)
        x, w = gg.constant(X), gg.constant(W)
        with gg.GradientTape() as tape:
            tape.watch([x, w])
            y = f(x, w)
        found.append(tape.gradient(y, [x, w]))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("limit", [0, -1, "", "64", "much", "1TB"])
def test_what_is_no_bound_is_an_error(limit: Any) -> None:
    with pytest.raises(gg.errors.ArgumentError, match="loop_memory is a number of bytes"):
        gg.function(lambda x: x, loop_memory=limit)


def test_checkpoints_by_hand() -> None:
    """A body that is computed again stacks its state alone."""

    def body(x: Any, w: Any) -> Any:
        step = gg.checkpoint(lambda x: gg.sin(gg.exp(gg.cos(x * w)) + x))
        for _ in gg.range(9):
            x = step(x)
        return x

    def plain(x: Any, w: Any) -> Any:
        for _ in gg.range(9):
            x = gg.sin(gg.exp(gg.cos(x * w)) + x)
        return x

    for a, b in zip(gradients(body, None)(X, W), gradients(plain, None)(X, W), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
