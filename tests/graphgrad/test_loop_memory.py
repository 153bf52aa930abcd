"""Loops of known length with a bound on what they keep for their gradient."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.loop_memory import (
    W,
    X,
    by_hand,
    gradients,
    indexed,
    nested,
    same,
    scanned,
    schedules,
    steps,
    temporaries,
    two,
)


@pytest.mark.parametrize(("count", "limit"), [(1, 3000), (12, 3000), (97, 3000), (1000, 4000)])
def test_a_bound_does_not_change_the_gradient(count: int, limit: int) -> None:
    f = gradients(steps(count), limit)
    same(f(X, W), gradients(steps(count), None)(X, W))
    assert bool(schedules(f, X, W)) is (count > 12)


@pytest.mark.parametrize("count", [23, 24])
@pytest.mark.parametrize("reverse", [False, True])
def test_slices_and_stacks_are_divided_too(reverse: bool, count: int) -> None:
    f = gradients(scanned(count, reverse), 2800)
    same(f(X, W), gradients(scanned(count, reverse), None)(X, W))
    (found,) = schedules(f, X, W)
    assert found.levels


def test_second_derivatives_of_divided_loops() -> None:
    f = gradients(steps(30), 2500, order=2)
    same(f(X, W), gradients(steps(30), None, order=2)(X, W))
    assert schedules(f, X, W)


@pytest.mark.parametrize("limit", [4_700, 6_000, 8_000, 40_000])
def test_temporaries_stay_within_the_bound(limit: int) -> None:
    """20,000 steps of 8 numbers, kept for the gradient, are 2.56 MB. The smaller the bound, the
    more levels, each of which runs the steps once more; never more than are needed."""
    f = gradients(steps(20_000), limit)
    (found,) = schedules(f, X, W)
    assert temporaries(f, X, W) <= found.peak <= limit
    assert len(found.levels) == {4_700: 4, 6_000: 3, 8_000: 2, 40_000: 1}[limit]
    assert found.steps == 20_000


def test_the_bound_is_what_makes_the_difference() -> None:
    assert temporaries(gradients(steps(20_000), None), X, W) > 1_280_000


def test_the_range_of_a_loop_is_not_stored() -> None:
    f = gradients(indexed(20_000), 50_000)
    assert temporaries(f, X, W) <= 50_000
    same(gradients(indexed(50), 4_000)(X, W), gradients(indexed(50), None)(X, W))


def test_a_bound_that_is_kept_anyway_changes_nothing() -> None:
    graphs = [
        gradients(steps(10), limit).get_concrete_function(X, W).graph for limit in (None, "1 MiB")
    ]
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize("body", [steps(1000), nested, two], ids=["one", "nested", "two"])
def test_too_little_is_an_error_that_says_what_is_needed(body: Any) -> None:
    with pytest.raises(gg.errors.ArgumentError) as raised:
        gradients(body, 100)(X, W)
    text = str(raised.value)
    (needed,) = re.findall(r"give loop_memory=(\d+) or more", text)
    assert "loop_memory is 100 bytes" in text
    assert "loop_memory.py:" in text  # the line of the loop
    f = gradients(body, int(needed))
    same(f(X, W), gradients(body, None)(X, W))
    assert temporaries(f, X, W) <= int(needed)
    with pytest.raises(gg.errors.ArgumentError, match="however often steps are computed again"):
        gradients(body, int(needed) - 1)(X, W)


@pytest.mark.parametrize("limit", [8_000, 20_000])
def test_nested_loops_share_the_bound(limit: int) -> None:
    f = gradients(nested, limit)
    same(f(X, W), gradients(nested, None)(X, W))
    assert temporaries(f, X, W) <= limit


def test_loops_that_are_alive_together_share_the_bound() -> None:
    """The first may not take what the second needs: the function is traced again for this."""
    traced = itertools.count()

    def body(x: Any, w: Any) -> Any:
        next(traced)
        return two(x, w)

    f = gradients(body, 6_500)
    same(f(X, W), gradients(two, None)(X, W))
    assert next(traced) == 2
    assert f.experimental_get_tracing_count() == 1
    found = schedules(f, X, W)
    assert [s.steps for s in found] == [300, 200]
    assert sum(s.peak for s in found) <= 6_500
    assert temporaries(f, X, W) <= 6_500


def loss_of(body: Any, limit: Any) -> Any:
    @gg.function(loop_memory=limit)
    def f(x: Any, w: Any) -> Any:
        return gg.reduce_sum(body(x, w))

    return f


def with_tape_around(f: Any) -> Any:
    x, w = gg.constant(X), gg.constant(W)
    with gg.GradientTape() as tape:
        tape.watch([x, w])
        y = f(x, w)
    return [y, *tape.gradient(y, [x, w])]


def test_tapes_around_a_call_keep_to_the_bound() -> None:
    same(with_tape_around(loss_of(steps(90), 4000)), with_tape_around(loss_of(steps(90), None)))


def test_loops_of_called_functions_count() -> None:
    inner = gg.function(lambda x, w: steps(1000)(x, w))
    inner(X, W)  # traced by itself, without a bound
    f = gradients(lambda x, w: inner(x, w), 10_000)
    same(f(X, W), gradients(steps(1000), None)(X, W))
    assert temporaries(f, X, W) <= 10_000


def test_forward_mode_of_divided_loops() -> None:
    found = gg.jvp(loss_of(steps(90), 4000), (X, W), (X + 1, W))
    same(found, gg.jvp(loss_of(steps(90), None), (X, W), (X + 1, W)))


def test_vmap_of_a_bounded_gradient() -> None:
    xs = np.stack([X, X * 2, X - 0.3])
    found = gg.vmap(gradients(steps(60), 3000), in_axes=(0, None))(xs, W)
    each = [gradients(steps(60), None)(x, W) for x in xs]
    same(found, [np.stack(parts) for parts in zip(*each, strict=True)])


def test_examples_of_a_vmap_inside_share_the_bound() -> None:
    body = steps(160)

    def f(xs: Any, w: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch([xs, w])
            y = gg.reduce_sum(gg.vmap(lambda x: body(x, w))(xs))
        return [y, *tape.gradient(y, [xs, w])]

    xs = np.stack([X, X * 2, X - 0.3])
    bounded = gg.function(f, loop_memory=12_000)
    same(bounded(xs, W), gg.function(f)(xs, W))
    (found,) = schedules(bounded, xs, W)
    assert 3 * found.peak <= 12_000
    with pytest.raises(gg.errors.ArgumentError, match="at least"):
        gg.function(f, loop_memory=4_000)(xs, W)


@pytest.mark.parametrize("limit", [0, -1, "", "64", "much", "1TB"])
def test_what_is_no_bound_is_an_error(limit: Any) -> None:
    with pytest.raises(gg.errors.ArgumentError, match="loop_memory is a number of bytes"):
        gg.function(lambda x: x, loop_memory=limit)


@pytest.mark.parametrize("limit", [None, 8_000])
def test_checkpoints_by_hand(limit: Any) -> None:
    """A body that is computed again stacks its state alone."""

    def plain(x: Any, w: Any) -> Any:
        for _ in gg.range(300):
            x = gg.sin(gg.exp(gg.cos(x * w)) + x)
        return x

    same(gradients(by_hand, limit)(X, W), gradients(plain, None)(X, W))


def test_two_threads_call_one_bounded_function() -> None:
    f = gradients(steps(2000), 8_000)
    points = [X, X * 2]
    expected = [f(x, W) for x in points]
    found: list[Any] = [None, None]

    def work(k: int) -> None:
        for _ in range(20):
            found[k] = f(points[k], W)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for a, b in zip(found, expected, strict=True):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_array_equal(p, q)


PROGRAM = """
import graphgrad as gg

def resident(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

def gradient(limit):
    @gg.function(loop_memory=limit)
    def f(x, w):
        with gg.GradientTape() as tape:
            tape.watch(w)
            for _ in gg.range(1_000_000):
                x = x + 1e-6 * gg.sin(x * w)
        return tape.gradient(x, w)
    return f

def more(f):
    args = gg.constant(0.5), gg.constant(1.5)
    found = float(f(*args))  # compiled
    gg.config.release_memory()
    open("/proc/self/clear_refs", "w").write("5")  # the peak is that from here on
    before = resident("VmRSS")
    assert float(f(*args)) == found
    return resident("VmHWM") - before, found

found = [more(gradient(limit)) for limit in ("4KB", "64KB", None)]
print(*(n for n, _ in found))
assert len({round(g, 4) for _, g in found}) == 1, found
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_steps_in_bounded_memory(tmp_path: Path) -> None:
    """The peak of the process: the bounded gradients fit into what it had, the free one does
    not."""
    (tmp_path / "program.py").write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    small, larger, free = map(int, run.stdout.split())
    assert max(small, larger) < 2e6
    assert free > 7e6
