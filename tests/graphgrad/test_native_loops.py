"""Loops of compiled functions as users meet them: native, stored on disk, with lines in errors."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.runtime.program import Host
from tests.graphgrad.test_programs import Folder, again, folder  # noqa: F401 -- a fixture

X = np.linspace(0.1, 1.0, 5)


def host_steps(f: Any, *args: Any) -> int:
    program = f.get_concrete_function(*args).runner.prepared().program
    return sum(isinstance(step, Host) for step in program.steps)


def running(n: int, rate: float = 0.5) -> Any:
    @gg.function
    def f(x: Any) -> Any:
        return gg.while_loop(lambda i, x: i < n, lambda i, x: (i + 1, gg.sin(x) * rate), (0, x))[1]

    return f


def test_the_second_process_compiles_no_loop(folder: Folder) -> None:  # noqa: F811
    x = gg.constant(X)
    first, compiled = again(folder, lambda: running(7), x)
    assert compiled
    second, compiled = again(folder, lambda: running(7), x)
    assert not compiled
    np.testing.assert_array_equal(second, first)


@pytest.mark.parametrize(("n", "rate"), [(8, 0.5), (7, 0.25)])
def test_another_constant_within_a_loop_is_compiled(
    folder: Folder,  # noqa: F811
    n: int,
    rate: float,
) -> None:
    x = gg.constant(X)
    again(folder, lambda: running(7), x)
    result, compiled = again(folder, lambda: running(n, rate), x)
    assert compiled
    expected = X
    for _ in range(n):
        expected = np.sin(expected) * rate
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_an_error_within_a_loop_names_the_line() -> None:
    @gg.function
    def f(x: Any, n: Any) -> Any:
        total = gg.constant(0.0, gg.float64)
        for i in gg.range(6):
            total += gg.gather(x, i + n)  # the line
        return total

    assert host_steps(f, gg.constant(X), gg.constant(0)) == 0
    with pytest.raises(
        gg.errors.IndexOutOfRange, match=r"index 5 is out of range(.|\n)*# the line"
    ):
        f(gg.constant(X), gg.constant(0))


ENDLESS = """
import os, signal, threading
import graphgrad as gg

@gg.function
def rise(x, limit):
    return gg.while_loop(lambda x: x[0] < limit, lambda x: (x + 1.0,), (x,))

rise(gg.zeros([SIZE]), gg.constant(3.0))
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    rise(gg.zeros([SIZE]), gg.constant(float("inf")))
except KeyboardInterrupt:
    print("interrupted")
print(rise(gg.zeros([SIZE]), gg.constant(3.0))[0][0].numpy())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("size", [1, 40])  # of state in registers, and in memory
def test_a_loop_without_end_can_be_interrupted(size: int) -> None:
    run = [sys.executable, "-c", ENDLESS.replace("SIZE", str(size))]
    found = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert found.stdout.split() == ["interrupted", "3.0"], found.stderr


def test_gradients_of_loops_are_native() -> None:
    xs = gg.constant(np.linspace(-1.0, 1.0, 12).reshape(6, 2))
    w = gg.constant([[0.5, -0.3], [0.2, 0.8]], gg.float64)

    def value(w: Any) -> Any:
        h = gg.zeros([2], gg.float64)
        for x in xs:
            h = gg.tanh(gg.linalg.matvec(w, h) + x)
        return gg.reduce_sum(h * h)

    @gg.function
    def gradient(w: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(w)
            y = value(w)
        return tape.gradient(y, w)

    @gg.function
    def second(w: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(w)
            y = gg.reduce_sum(gradient(w) ** 2)
        return tape.gradient(y, w)

    assert host_steps(gradient, w) == 0
    assert host_steps(second, w) == 0
    with gg.GradientTape() as tape:
        tape.watch(w)
        with gg.GradientTape() as inner:
            inner.watch(w)
            y = value(w)
        g = inner.gradient(y, w)
        total = gg.reduce_sum(g * g)
    np.testing.assert_allclose(gradient(w), g, rtol=1e-12)
    np.testing.assert_allclose(second(w), tape.gradient(total, w), rtol=1e-12)


def test_a_loop_of_unknown_length_and_its_gradient() -> None:
    @gg.function
    def f(x: Any, n: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.while_loop(
                lambda i, x: i < n, lambda i, x: (i + 1, gg.sin(x) + 0.1 * x), (0, x)
            )[1]
        return y, tape.gradient(y, x)

    for n in (0, 1, 63, 64, 65, 200, 3, 199):  # around the sizes of chunks, growing and shrinking
        x, slope = 0.7, 1.0
        for _ in range(n):
            slope *= np.cos(x) + 0.1
            x = np.sin(x) + 0.1 * x
        y, g = f(gg.constant(0.7, gg.float64), gg.constant(n))
        np.testing.assert_allclose([float(y), float(g)], [x, slope], rtol=1e-12)


def test_examples_of_a_vmap_end_at_different_steps() -> None:
    def halved(x: Any) -> Any:
        return gg.while_loop(lambda x: x > 1.0, lambda x: (x * 0.5,), (x,))[0]

    f = gg.function(gg.vmap(halved))
    x = gg.constant([0.5, 3.0, 100.0, 1.0])
    np.testing.assert_array_equal(f(x), [0.5, 0.75, 0.78125, 1.0])
