"""Concurrent calls compile once, share nothing, and lose no update."""

import threading

import numpy as np
import pytest

import graphgrad as gg

pytestmark = pytest.mark.usefixtures("entry")


def together(n, work):
    errors = []

    def run(i):
        try:
            barrier.wait()
            work(i)
        except BaseException as e:
            errors.append(e)

    barrier = threading.Barrier(n)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []


def test_one_trace_for_concurrent_first_calls():
    f = gg.function(lambda x: gg.reduce_sum(gg.sin(x) * x))
    x = gg.constant(np.linspace(0, 1, 1000, dtype=np.float32))
    out = [None] * 8
    together(8, lambda i: out.__setitem__(i, float(f(x))))
    assert f.experimental_get_tracing_count() == 1
    assert len(set(out)) == 1


def test_concurrent_calls_do_not_mix():
    f = gg.function(lambda x: gg.exp(x) * 2 + gg.reduce_sum(x))

    def work(i):
        x = np.full(500, i / 10, np.float32)
        for _ in range(50):
            np.testing.assert_allclose(f(x), np.exp(x) * 2 + 50 * i, rtol=1e-4)

    together(6, work)


def test_no_update_is_lost():
    v, w = gg.Variable(np.zeros(1000, np.float32)), gg.Variable(0.0)

    @gg.function
    def f(x):
        v.assign_add(x)
        return v.value()

    def work(i):
        for _ in range(50):
            seen = f(gg.ones(1000)).numpy()
            assert (seen == seen[0]).all()
            w.assign_add(1.0)
            assert v.numpy().shape == (1000,)

    together(6, work)
    np.testing.assert_array_equal(v, np.full(1000, 300))
    assert float(w) == 300


def test_tapes_of_threads_are_separate():
    v = gg.Variable(3.0)
    out = [None] * 4

    def work(i):
        with gg.GradientTape() as tape:
            y = v * float(i)
        out[i] = float(tape.gradient(y, v))

    together(4, work)
    assert out == [0, 1, 2, 3]


def test_random_draws_of_threads_differ():
    f = gg.function(lambda: gg.random.uniform((4,)))
    out = [None] * 6
    together(6, lambda i: out.__setitem__(i, tuple(f().numpy())))
    assert len(set(out)) == 6


def test_many_shapes_at_once():
    f = gg.function(lambda x: gg.reduce_sum(x * 2))

    def work(i):
        for n in range(1, 12):
            assert float(f(gg.ones((n + i) % 12))) == 2 * ((n + i) % 12)

    together(6, work)
    assert f.experimental_get_tracing_count() == 12


def test_a_failing_trace_does_not_stop_others():
    tracing, release = threading.Event(), threading.Event()

    @gg.function
    def f(x):
        if x.shape == (2,):
            tracing.set()
            release.wait(5)
            raise KeyError("mine")
        return x * 2

    def work(i):
        if i == 0:
            with np.testing.assert_raises(KeyError):
                f(gg.ones(2))
        else:
            tracing.wait(5)
            threading.Timer(0.05, release.set).start()
            assert f(gg.ones(3)).shape == (3,)

    together(2, work)
    assert f.experimental_get_tracing_count() == 1


def test_functions_that_trace_each_other_do_not_deadlock():
    a = gg.function(lambda x: x * 2)
    b = gg.function(lambda x: a(x) + 1)
    c = gg.function(lambda x: b(x) + a(x))
    calls, wanted = (a, b, c, c, b, a), (2, 3, 5, 5, 3, 2)
    together(6, lambda i: np.testing.assert_equal(float(calls[i](gg.constant(1.0))), wanted[i]))


def test_one_function_an_instance():
    class Model:
        @gg.function
        def step(self, x):
            return x * 2

    m, found = Model(), [None] * 6
    together(6, lambda i: found.__setitem__(i, m.step))
    assert len(set(map(id, found))) == 1
