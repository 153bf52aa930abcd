"""Loops whose number of steps only the run knows, with a bound on what they keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.loop_memory import (
    W,
    X,
    at_most,
    gradients,
    in_branches,
    known_in_open,
    left,
    open_in_known,
    open_in_open,
    ranged,
    same,
    schedules,
    until,
)


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 1000])
def test_any_number_of_steps(count: int) -> None:
    """With 8 steps kept whole at a time and 10 checkpoints, 1000 steps thin them four times, and
    lay more between them on the way back."""
    f = gradients(until(count), 4_500)
    same(f(X, W), gradients(until(count), None)(X, W))
    (found,) = schedules(f, X, W)
    assert found.steps is None
    assert found.slots * found.levels[-1] < 500
    assert found.peak <= 4_500


def test_one_trace_serves_all_lengths() -> None:
    @gg.function(loop_memory=4_500)
    def f(x: Any, count: Any) -> Any:
        i = count * 0
        while i < count:
            x = x + 0.01 * gg.sin(x)
            i = i + 1.0
        return gg.reduce_sum(x)

    def slope(count: float) -> Any:
        x, n = gg.constant(X), gg.constant(count, dtype="float64")
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x, n)
        return tape.gradient(y, x)

    for count in (0.0, 3.0, 40.0, 700.0):
        x = X.copy()
        expected = np.ones(8)
        for _ in range(int(count)):
            expected = expected * (1 + 0.01 * np.cos(x))
            x = x + 0.01 * np.sin(x)
        np.testing.assert_allclose(slope(count), expected, rtol=1e-11)
    assert f.experimental_get_tracing_count() == 1


BODIES = {
    "a break": left,
    "a range that a tensor tells": ranged,
    "at most 20": at_most(20),
    "at most 1000": at_most(1000),
    "in branches": in_branches,
    "open in known": open_in_known,
    "known in open": known_in_open,
    "open in open": open_in_open,
}


@pytest.mark.parametrize("name", BODIES)
def test_loops_of_all_kinds(name: str) -> None:
    f = gradients(BODIES[name], 12_000)
    same(f(X, W), gradients(BODIES[name], None)(X, W))
    found = schedules(f, X, W)
    assert found
    assert sum(s.peak for s in found) <= 12_000


@pytest.mark.parametrize("name", ["a range that a tensor tells", "open in open"])
def test_second_derivatives(name: str) -> None:
    f = gradients(BODIES[name], 12_000, order=2)
    same(f(X, W), gradients(BODIES[name], None, order=2)(X, W))


def loss(x: Any, w: Any) -> Any:
    return gg.reduce_sum(until(50)(x, w))


def test_forward_mode() -> None:
    found = gg.jvp(gg.function(loss, loop_memory=6_000), (X, W), (X + 1, W))
    same(found, gg.jvp(gg.function(loss), (X, W), (X + 1, W)))


def test_hessians() -> None:
    found = gg.hessian(gg.function(loss, loop_memory=6_000))(gg.constant(X), gg.constant(W))
    same([found], [gg.hessian(gg.function(loss))(gg.constant(X), gg.constant(W))], 1e-9)


def decay(x: Any, w: Any) -> Any:
    """As many steps as the example needs."""
    while gg.reduce_max(x) > 0.2:
        x = x * 0.9 - 0.01 * gg.sin(x * w)
    return x


def test_vmap_of_lanes_of_different_lengths() -> None:
    xs = np.stack([X, X * 5, X * 0.1])
    found = gg.vmap(gradients(decay, 6_000), in_axes=(0, None))(xs, W)
    each = [gradients(decay, None)(x, W) for x in xs]
    same(found, [np.stack(parts) for parts in zip(*each, strict=True)])


def rows_scanned(limit: Any, reverse: bool, signature: bool, order: int = 1) -> Any:
    types = [gg.TensorSpec([None, 8], "float64"), *[gg.TensorSpec([8], "float64")] * 2]

    @gg.function(loop_memory=limit, input_signature=types if signature else None)
    def f(xs: Any, x: Any, w: Any) -> Any:
        sources = [xs, x, w]
        with gg.GradientTape() as outer:
            outer.watch(sources)
            with gg.GradientTape() as tape:
                tape.watch(sources)
                ys = gg.scan(lambda a, row: gg.sin(a * w) + row, xs, x, reverse=reverse)
                y = gg.reduce_sum(ys * ys) + 3.0 * gg.reduce_sum(ys[0])
            first = tape.gradient(y, sources)
            total = gg.add_n([gg.reduce_sum(g * g) for g in first])
        return [y, *first, *(outer.gradient(total, sources) if order == 2 else [])]

    return f


@pytest.mark.parametrize("reverse", [False, True])
def test_scans_of_open_length(reverse: bool) -> None:
    """One trace for all lengths; slices, stacked results and their gradients included."""
    f = rows_scanned(5_000, reverse, True)
    for n in (1, 2, 7, 100, 333):
        xs = np.sin(np.arange(8.0 * n)).reshape(n, 8)
        same(f(xs, X, W), rows_scanned(None, reverse, False)(xs, X, W))
    assert f.experimental_get_tracing_count() == 1
    assert f.get_concrete_function().schedules[0].steps is None


def test_second_derivatives_of_scans_of_open_length() -> None:
    xs = np.sin(np.arange(80.0)).reshape(10, 8)
    found = rows_scanned(5_000, False, True, 2)(xs, X, W)
    same(found, rows_scanned(None, False, False, 2)(xs, X, W))


def test_effects_happen_once(capfd: Any) -> None:
    @gg.function(loop_memory=2_000)
    def f(x: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = x
            while y < 3.0:
                gg.print("at", y)
                y = y * 1.01 + 0.01 * gg.sin(y)
        return tape.gradient(y, x)

    f(gg.constant(1.0))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)) > 20


def test_a_loop_that_cannot_be_bounded_is_refused() -> None:
    @gg.function(loop_memory="1MB")
    def f(x: Any) -> Any:
        return gg.while_loop(
            lambda found: gg.reduce_sum(found) < 9.0,
            lambda found: (gg.concat([found, gg.sin(found) + 1.0], 0),),
            (x,),
            shape_invariants=([None],),
        )[0]

    with pytest.raises(gg.errors.ArgumentError, match="loop_memory cannot bound a loop that"):
        f(gg.constant([1.0, 2.0]))


@pytest.mark.parametrize("bound", [None, "1MB"])
def test_nor_can_one_within_another_loop(bound: str | None) -> None:
    @gg.function(loop_memory=bound)
    def f(x: Any) -> Any:
        total = gg.zeros([])
        for k in gg.range(3):
            total += gg.reduce_sum(
                gg.while_loop(
                    lambda found: gg.reduce_sum(found) < 9.0,
                    lambda found: (gg.concat([found, found + 1.0], 0),),
                    (x + gg.cast(k, gg.float32),),
                    shape_invariants=([None],),
                )[0]
            )
        return total

    x = gg.constant([1.0, 2.0])
    if bound is None:
        assert float(f(x)) == 20 + 12 + 16
        return
    with pytest.raises(gg.errors.ArgumentError, match="changes the size of what it carries"):
        f(x)
