"""Many threads convert, trace, call and differentiate one function at the same time."""

import threading

import numpy as np

import graphgrad as gg

THREADS = 5


def test_threads_convert_and_differentiate_at_once():
    def doubled(x):
        if x[0] > 0.3:
            return x * 2.0
        return x

    def f(x, n):
        found, s, i = [], doubled(x) * 0.5, 0
        while i < n:
            s = s * 0.5 + gg.sin(x) if s[0] > 1.0 else s + x * x
            found.append(s)
            i += 1
        for v in found:
            s = s + v
        return s

    def derivatives(f, x, n):
        with gg.GradientTape() as outer:
            outer.watch(x)
            with gg.GradientTape() as tape:
                tape.watch(x)
                y = gg.reduce_sum(f(x, n))
            first = tape.gradient(y, x)
            squares = gg.reduce_sum(first * first)
        return y, first, outer.gradient(squares, x, unconnected_gradients="zero")

    outside = gg.function(f, jit_compile=False)
    inside = gg.function(lambda x, n: derivatives(f, x, n), jit_compile=False)
    start, wrong = threading.Barrier(THREADS), []

    def work(k):
        x, n = gg.constant([0.1 * k + 0.05, 0.2 * k]), gg.constant(k % 4)
        start.wait()
        try:
            found = derivatives(outside, x, n), inside(x, n)
            for results in found:
                for got, wanted in zip(results, derivatives(f, x, n)):
                    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong
    assert outside.experimental_get_tracing_count() == 1
    assert inside.experimental_get_tracing_count() == 1
