"""Derivatives of loops that run until a value says so, and the memory that they need."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphgrad as gg

SIZES = pytest.mark.parametrize("size", [2, 40])  # of state in registers, and in memory


def grown() -> Any:
    """A function of a start and a limit: the sum that is reached, and its gradient."""

    @gg.function(input_signature=[gg.TensorSpec([None], gg.float64), gg.TensorSpec([], gg.float64)])
    def f(x: Any, limit: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = x
            while gg.reduce_sum(y) < limit:
                y = y * 1.25 + gg.sin(y) * 0.01
            total = gg.reduce_sum(y)
        return total, tape.gradient(total, x)

    return f


def by_hand(x: Any, limit: float) -> tuple[Any, Any]:
    states = [x]
    while np.sum(states[-1]) < limit:
        states.append(states[-1] * 1.25 + np.sin(states[-1]) * 0.01)
    g = np.ones_like(x)
    for y in reversed(states[:-1]):
        g = g * (1.25 + 0.01 * np.cos(y))
    return np.sum(states[-1]), g


def agree(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, 1e-12)


@SIZES
def test_the_same_function_for_any_number_of_steps_and_any_size(size: int) -> None:
    f = grown()
    for n, limit in ((size, 1.0), (size, 1e30), (size + 3, 1e40), (size, 1e20), (size, -1.0)):
        x = np.linspace(0.5, 1.0, n)
        agree(f(x, limit), by_hand(x, limit))
    assert f.report().count("host") == 0


@SIZES
def test_calls_at_the_same_time(size: int) -> None:
    f = grown()
    x = np.linspace(0.5, 1.0, size)
    limits = [10.0 ** (k % 37) for k in range(120)]
    with ThreadPoolExecutor(4) as pool:
        for limit, found in zip(limits, pool.map(lambda limit: f(x, limit), limits), strict=True):
            agree(found, by_hand(x, limit))


START = """
import os, signal, sys, threading
import graphgrad as gg

@gg.function
def last(x, limit):
    with gg.GradientTape() as tape:
        tape.watch(x)
        y, k = x, gg.constant(0, gg.int64)
        while k < limit:
            y = y + gg.sin(y) * 1e-9
            k += 1
        total = gg.reduce_sum(y)
    return tape.gradient(total, x)

x = gg.ones([int(sys.argv[1])])
forever = gg.constant(1 << 60, gg.int64)
last(x, gg.constant(10, gg.int64))
"""
END = """
print(last(x, gg.constant(1000, gg.int64)).shape)
"""
TOO_MUCH = """
import resource
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 27),) * 2)
try:
    last(x, forever)
except MemoryError as e:
    print(type(e).__name__, e)
now = int(open("/proc/self/statm").read().split()[0])
print("given back" if (now - pages) * resource.getpagesize() < 1 << 24 else now - pages)
"""
ENDLESS = """
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    last(x, forever)
except KeyboardInterrupt:
    print("interrupted")
"""


def output_of(program: str, size: int, folder: Path) -> str:
    file = folder / "program.py"
    file.write_text(START + program + END)
    run = [sys.executable, str(file), str(size)]
    found = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@SIZES
def test_no_memory_is_an_error_of_the_loop(size: int, tmp_path: Path) -> None:
    out = output_of(TOO_MUCH, size, tmp_path)
    error = r"ResourceExhaustedError no memory for what .* keep .*: (\d+) bytes\n +in (.*)\n"
    found = re.match(error, out)
    assert found, out
    assert int(found[1]) > 1 << 24
    assert "program.py:10: while k < limit:" in found[2]
    assert out.endswith(f"given back\n({size},)\n"), "the function works on"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@SIZES
def test_a_loop_that_stacks_can_be_interrupted(size: int, tmp_path: Path) -> None:
    assert output_of(ENDLESS, size, tmp_path) == f"interrupted\n({size},)\n"


@SIZES
def test_memory_is_kept_for_the_next_call_and_given_back(size: int) -> None:
    f = grown()
    x, limit = np.linspace(0.5, 1.0, size), 1e300
    f(x, 10.0)
    gg.config.release_memory()
    tracemalloc.start()
    try:
        f(x, 10.0)
        before = tracemalloc.get_traced_memory()[0]
        f(x, limit)
        kept = tracemalloc.get_traced_memory()[0]
        f(x, limit)
        again = tracemalloc.get_traced_memory()[0]
        least = 3000 * size * 8
        assert kept - before > least
        assert abs(again - kept) < least / 2
        assert gg.config.release_memory() > least
        assert tracemalloc.get_traced_memory()[0] < before + least / 2
        f(x, limit)
        del f
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < before + least / 2, "it goes with the function"
    finally:
        tracemalloc.stop()
