"""Functions that take subnormal numbers for zero, and callers whose mode stays as it was."""

from __future__ import annotations

import copy
import ctypes
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.options import Options
from graphgrad.compiler.stored import origin_of
from graphgrad.runtime import blas, engine, float_mode, pool
from tests.compiler.targets import arm_target, code_for

pytestmark = pytest.mark.skipif(
    not float_mode.flush_bits(engine.host_target().machine), reason="no such mode is known here"
)

TINY = {"float32": np.float32(1e-39), "float64": np.float64(1e-310)}


def numpy_is_as_ever() -> bool:
    """Does NumPy compute with subnormal numbers in this thread, many at a time and one?"""
    return all(
        np.count_nonzero(np.full(64, x) * x.dtype.type(0.5)) == 64 and x * x.dtype.type(0.5) != 0
        for x in TINY.values()
    )


def fading(x: Any) -> Any:
    for _ in gg.range(130):
        x = 0.5 * x
    return x


def both(f: Any) -> tuple[Any, Any]:
    return gg.function(f, flush_denormals=True), gg.function(f)


@pytest.mark.parametrize("dtype", TINY)
def test_a_gradient_that_vanishes_is_zero(dtype: str) -> None:
    steps = 140 if dtype == "float32" else 1060

    def loss(x: Any) -> Any:
        for _ in gg.range(steps):
            x = gg.tanh(0.5 * x)
        return gg.reduce_sum(x)

    x = gg.constant(np.linspace(0.1, 1.0, 5), dtype)
    flushed, plain = both(gg.grad(loss))
    assert np.all(plain(x).numpy() != 0)
    np.testing.assert_array_equal(flushed(x), np.zeros(5))
    assert numpy_is_as_ever()


@pytest.mark.usefixtures("entry")
def test_calls_give_the_mode_back() -> None:
    flushed, plain = both(lambda x: x * 0.5)
    x = gg.constant([TINY["float32"], np.float32(2.0)])
    for _ in range(4):
        np.testing.assert_array_equal(flushed(x), [0.0, 1.0])
        assert numpy_is_as_ever()
        np.testing.assert_array_equal(plain(x), x.numpy() * np.float32(0.5))


@pytest.mark.usefixtures("entry")
def test_failures_give_the_mode_back() -> None:
    @gg.function(flush_denormals=True)
    def f(x: Any, i: Any) -> Any:
        for k in gg.range(4):
            x = x * 0.5 + gg.cast(7 // (i - k), "float32")
        return x

    assert f(gg.constant(TINY["float32"]), gg.constant(100)).numpy() == 0
    for _ in range(3):
        with pytest.raises(gg.errors.GraphgradError, match="zero"):
            f(gg.constant(1.0), gg.constant(2))
        assert numpy_is_as_ever()


INTERRUPTED = """
import os, signal, threading
import numpy as np
import graphgrad as gg

signal.signal(signal.SIGINT, signal.default_int_handler)

@gg.function(flush_denormals=True)
def rise(x):
    while x > 0.0:
        x = x + 1e-9
    return x

threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    rise(gg.constant(1.0, gg.float64))
except KeyboardInterrupt:
    print("interrupted", np.float32(1e-39) * np.float32(0.5) != 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_an_interrupt_gives_the_mode_back(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(INTERRUPTED)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
    )
    assert found.stdout.split() == ["interrupted", "True"], found.stderr


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads a call may use."""
    before = blas.get_threads()
    yield gg.config.threading.set_intra_op_parallelism_threads
    gg.config.threading.set_intra_op_parallelism_threads(0)
    pool.set_blas_threads(before)


def test_threads_take_the_mode_of_their_caller(threads: Callable[[int], None]) -> None:
    flushed, plain = both(lambda x: x * 0.5)
    x = np.full(2_000_000, TINY["float32"])
    threads(4)
    for _ in range(3):
        assert not np.any(flushed(x).numpy())
        assert np.all(plain(x).numpy())


@pytest.mark.parametrize("count", [1, 3])
def test_products_of_matrices_are_flushed(count: int, threads: Callable[[int], None]) -> None:
    threads(count)
    flushed, plain = both(lambda x, y: x @ y)
    x, y = np.full((400, 200), 1e-20, np.float32), np.full((200, 300), 1e-21, np.float32)
    for _ in range(3):
        assert not np.any(flushed(x, y).numpy())
        assert np.all(plain(x, y).numpy())
    assert numpy_is_as_ever()


def test_python_within_has_the_mode_of_the_caller() -> None:
    seen = []
    plain = gg.function(lambda x: x * 0.5)

    def look(x: Any) -> Any:
        seen.append(numpy_is_as_ever() and plain(gg.constant(TINY["float32"])).numpy() != 0)
        return x

    @gg.function(flush_denormals=True)
    def f(x: Any) -> Any:
        y = gg.py_function(look, [x * 0.5], gg.float32)
        return y * 0.5

    assert f(gg.constant(TINY["float32"])).numpy() == 0
    assert seen == [True]


def test_python_within_loops_has_the_mode_of_the_caller() -> None:
    seen = set()

    def look(x: Any) -> Any:
        seen.add(numpy_is_as_ever())
        return x

    def f(x: Any) -> Any:
        for _ in gg.range(150):
            x = gg.py_function(look, [x * 0.5], gg.float32)
        return x

    flushed, plain = both(f)
    assert flushed(gg.constant(2.0**20)).numpy() == 0
    assert plain(gg.constant(2.0**20)).numpy() == 2.0**-130
    assert seen == {True}


def test_a_caller_that_flushes_goes_on_to() -> None:
    machine = engine.host_target().machine
    text = f"""{float_mode.functions(machine)}
        define i64 @get() {{
          %mode = call i64 @float_mode()
          ret i64 %mode
        }}
        define void @set(i64 %mode) {{
          call void @set_float_mode(i64 %mode)
          ret void
        }}"""
    library, _ = engine.compile_module(text, engine.host_target())
    get = ctypes.CFUNCTYPE(ctypes.c_int64)(library.address("get"))
    set_mode = ctypes.CFUNCTYPE(None, ctypes.c_int64)(library.address("set"))
    bits, seen = float_mode.flush_bits(machine), []

    @gg.function(flush_denormals=True)
    def f(x: Any) -> Any:
        for _ in gg.range(3):
            x = gg.py_function(lambda v: seen.append(get() & bits) or v, [x * 0.5], gg.float32)
        return x

    f(gg.constant(1.0))
    before = get()
    set_mode(before | bits)
    try:
        f(gg.constant(1.0))
        assert get() & bits == bits
    finally:
        set_mode(before)
    f(gg.constant(1.0))
    assert seen == [*[0] * 3, *[bits] * 3, *[0] * 3]


def test_sizes_that_the_run_finds_out() -> None:
    flushed, plain = both(lambda x: gg.boolean_mask(x, x > 0.0) * 0.5)
    x = gg.constant([1.0, -1.0, TINY["float32"]])
    np.testing.assert_array_equal(plain(x), [0.5, TINY["float32"] * np.float32(0.5)])
    assert flushed(x).numpy()[0] == 0.5
    assert np.count_nonzero(flushed(x)) == 1


def test_gradients_of_a_tape_outside() -> None:
    flushed, plain = both(fading)
    for f, zero in ((flushed, True), (plain, False)):
        x = gg.constant(1e-10)
        with gg.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = f(x)
        assert (tape.gradient(y, x).numpy() == 0) == zero
        with gg.autodiff.ForwardAccumulator(x, gg.constant(1.0)) as ahead:
            y = f(x)
        assert (ahead.jvp(y).numpy() == 0) == zero
    assert numpy_is_as_ever()


def test_a_function_within_another_is_a_part_of_that() -> None:
    flushed, plain = both(lambda x: x * 0.5)
    x = gg.constant(TINY["float32"])
    assert gg.function(lambda x: plain(x) * 1.0, flush_denormals=True)(x).numpy() == 0
    assert gg.function(lambda x: flushed(x) * 1.0)(x).numpy() != 0


def halved(x: Any) -> Any:
    return x * 0.5


def test_copies_keep_the_option() -> None:
    x = gg.constant(TINY["float32"])
    f = gg.function(halved, flush_denormals=True)
    for again in (copy.deepcopy(f), pickle.loads(pickle.dumps(f))):
        assert again(x).numpy() == 0
        assert gg.function(again)(x).numpy() != 0  # options of its own

    class Model:
        @gg.function(flush_denormals=True)
        def __call__(self, x: Any) -> Any:
            return x * 0.5

    assert Model()(x).numpy() == 0


def test_programs_on_disk_are_two() -> None:
    """Neither is found where the other was asked for: in this process, nor in another."""
    graph = gg.function(fading).get_concrete_function(gg.constant(1.0)).graph
    target = engine.host_target()
    origins = [origin_of(graph, target, o) for o in ((), Options(flush_denormals=True))]
    assert all(o is not None for o in origins)
    assert len({o.text for o in origins if o is not None}) == 2
    for _ in range(2):
        flushed, plain = both(lambda x: x * 0.25)
        x = gg.constant(TINY["float32"])
        assert (flushed(x).numpy() == 0, plain(x).numpy() == 0) == (True, False)


def test_what_is_not_subnormal_is_not_changed() -> None:
    def several(x: Any) -> Any:
        parts = [gg.exp(x), gg.math.log(x), gg.tanh(x), gg.sin(x), gg.sqrt(x), gg.math.erf(x)]
        return [*parts, gg.nn.softmax(x), gg.reduce_sum(x * x), gg.pow(x, 1.5), gg.sigmoid(-x)]

    flushed, plain = both(several)
    for dtype in TINY:
        x = np.geomspace(1e-3, 50.0, 101).astype(dtype)
        for a, b in zip(flushed(x), plain(x)):
            np.testing.assert_array_equal(a, b)


def test_roofline_measures_what_runs() -> None:
    found = gg.roofline(gg.function(fading, flush_denormals=True), gg.constant(1.0), rounds=1)
    assert found[0].kind == "loop"
    assert numpy_is_as_ever()


def test_other_processors() -> None:
    graph = gg.function(halved).get_concrete_function(gg.constant(1.0)).graph
    options = Options(flush_denormals=True)
    text, _ = code_for(compile_in_full(graph, arm_target("generic"), options).program,
                       arm_target("generic"))  # fmt: skip
    assert text.count("FPCR") == 3  # read, set, and set again
    unknown = engine.Target("riscv64-unknown-linux-gnu", "generic", "")
    with pytest.raises(gg.errors.ArgumentError, match=r"flush_denormals.*riscv64"):
        compile_in_full(graph, unknown, options)
