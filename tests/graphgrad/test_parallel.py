"""Functions that use several threads: errors, callers at once, forks, changes of their number."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import graphgrad as gg
from graphgrad import native
from graphgrad.function import Function
from graphgrad.runtime import executor, threads
from tests.graphgrad.test_threads import together
from tests.runtime.programs import through_host

pytestmark = pytest.mark.skipif(not threads.available(), reason="no threads here")
set_threads = gg.config.threading.set_intra_op_parallelism_threads
get_threads = gg.config.threading.get_intra_op_parallelism_threads

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).normal(size=(600, 500)).astype(np.float32)


@pytest.fixture(autouse=True)
def four_threads():
    set_threads(4)
    yield
    set_threads(0)


def step(x, w):
    """A softmax, sums over both axes, a product, and gradients through all of it."""
    with gg.GradientTape() as tape:
        tape.watch([x, w])
        y = gg.nn.softmax(x)
        z = gg.reduce_sum(y * x, 0)
        loss = gg.reduce_sum(gg.tanh(y @ w)) + gg.reduce_sum(z * z) + gg.reduce_sum(gg.sin(x))
    return [loss, *tape.gradient(loss, [x, w])]


W = X[:500, :40].copy()


def bits(values):
    return [np.asarray(v).tobytes() for v in values]


def test_the_number_of_threads_can_be_set_and_reset():
    assert get_threads() == 4
    set_threads(1)
    assert get_threads() == 1
    set_threads(0)
    assert get_threads() == threads.default_count()
    with pytest.raises(gg.errors.ArgumentError, match="at least 0"):
        set_threads(-1)


def test_kernels_give_the_same_bits():
    found = []
    for n in (1, 2, 3, 5):
        set_threads(n)
        f = gg.function(lambda x: [gg.nn.softmax(x), gg.reduce_sum(x, 0), gg.reduce_sum(x * x)])
        found.append(bits(f(X)))
    assert found.count(found[0]) == 4


def test_results_agree_with_eager_ones():
    for a, b in zip(gg.function(step)(gg.constant(X), gg.constant(W)),
                    step(gg.constant(X), gg.constant(W))):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_eight_threads_call_the_same_and_other_functions():
    shared = gg.function(step)
    x, w = gg.constant(X), gg.constant(W)
    set_threads(2)
    expected = [np.asarray(v) for v in shared(x, w)]

    def work(i):
        own = gg.function(lambda x: gg.reduce_sum(gg.tanh(x) * float(i), 0))
        mine = bits([own(x)])
        for _ in range(15):
            for a, b in zip(shared(x, w), expected):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
            assert bits([own(x)]) == mine

    together(8, work)


def test_the_number_may_change_while_calls_are_in_flight():
    f = gg.function(lambda x: [gg.nn.softmax(x), gg.reduce_sum(gg.exp(x), 0)])
    expected = bits(f(X))
    ended = threading.Event()

    def work(i):
        if i == 0:
            for k in range(60):
                set_threads(1 + k % 5)
            ended.set()
        else:
            while not ended.is_set():
                assert bits(f(X)) == expected

    together(4, work)


def test_an_error_names_the_first_element():
    divide = gg.function(lambda x, y: x // y)
    x = np.arange(400_000, dtype=np.int32)
    y = np.ones_like(x)
    assert np.array_equal(divide(x, y), x)
    y[123_456:] = 0
    messages = set()
    for n in (1, 2, 4):
        set_threads(n)
        for _ in range(5):
            with pytest.raises(gg.errors.GraphgradError) as e:
                divide(x, y)
            messages.add(str(e.value))
    assert len(messages) == 1
    y[:] = 2
    assert np.array_equal(divide(x, y), x // 2)


def test_variables_are_updated_in_place():
    v = gg.Variable(np.zeros((700, 700), np.float32))

    @gg.function
    def f():
        v.assign_add(gg.ones_like(v) * 2.0)

    for _ in range(10):
        f()
    np.testing.assert_array_equal(v, np.full((700, 700), 20, np.float32))


def test_host_steps_between_kernels():
    f = gg.function(lambda x: gg.reduce_sum(gg.sort(gg.exp(x * 0.1), 0) * x, 1))
    first = bits([f(X)])
    set_threads(1)
    assert bits([f(X)]) == first


def test_a_function_called_by_numpy_within_a_call():
    inner = gg.function(lambda x: gg.tanh(x) * 2.0)
    executable = executor.prepare(through_host(lambda x, y: np.asarray(inner(y)) + x))
    x = X.reshape(-1)
    (outer, _) = executable.run([x])
    np.testing.assert_allclose(outer, np.tanh(x + 1) * 2 + x + 1, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_parent_and_child_of_a_fork_both_compute():
    f = gg.function(lambda x: gg.nn.softmax(x) * 2.0)
    expected = bits([f(X)])
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            f(X)

    other = threading.Thread(target=busy)
    other.start()
    try:
        for _ in range(5):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads
                child = os.fork()
            if child == 0:
                ok = all(bits([f(X)]) == expected for _ in range(5))
                os._exit(0 if ok else 1)
            assert bits([f(X)]) == expected
            end = time.monotonic() + 60
            while (state := os.waitpid(child, os.WNOHANG)) == (0, 0):
                assert time.monotonic() < end, "the child hangs"
                time.sleep(0.01)
            assert os.waitstatus_to_exitcode(state[1]) == 0
    finally:
        stop.set()
        other.join()


@pytest.mark.slow
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes(method):
    """Of each kind, started by a program that has used its threads."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.graphgrad.many_processes",
         method], capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
def test_no_thread_is_left_behind():
    f = gg.function(lambda x: gg.nn.softmax(x) * 2.0)
    f(X)
    before = len(os.listdir("/proc/self/task"))
    for k in range(20):
        set_threads(1 + k % 4)
        gg.function(lambda x: gg.nn.softmax(x) * 3.0)(X)
    assert len(os.listdir("/proc/self/task")) <= max(before, before + 3)


def only_form(f):
    (trace,) = f._all
    assert trace.form is not None
    return trace.form


needs_entry = pytest.mark.skipif(native.entry(Function) is None, reason="no native entry here")


@needs_entry
def test_native_calls_go_on_after_each_change_and_need_no_more_memory():
    f = gg.function(lambda x: gg.reduce_sum(gg.exp(x), 0))
    expected, held = bits([f(X)]), []
    for k in range(12):
        set_threads(2 + k % 3)
        for _ in range(3):
            assert bits([f(X)]) == expected
        form = only_form(f)
        calls = form.calls
        assert bits([f(X)]) == expected
        assert form.calls == calls + 1
        held.append(len(form.keep))
    assert held[2:] == [held[2]] * 10


@needs_entry
def test_a_native_plan_that_a_change_overtakes_is_not_used(monkeypatch):
    made = executor.Executable.native_parts
    found = []

    def overtaken(self, arrays):
        parts = made(self, arrays)
        found.append(parts.plan.threads)
        if len(found) == 1:
            set_threads(2)
        return parts

    f = gg.function(lambda x: gg.reduce_sum(gg.exp(x), 0))
    monkeypatch.setattr(executor.Executable, "native_parts", overtaken)
    expected = bits([f(X)])
    for _ in range(6):
        assert bits([f(X)]) == expected
    assert found == [4, 2]
    assert only_form(f).calls >= 2
