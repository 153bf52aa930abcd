"""Loops at their limits: few trips and many, no elements, every dtype, aliases, dead branches."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphgrad as gg

F64 = gg.float64


def c(x: Any, dtype: Any = F64) -> Any:
    return gg.constant(x, dtype)


def waves(x: Any, n: Any) -> Any:
    for _ in range(n):
        x = np.sin(x) * 0.9 + x * 0.1
    return x


def waves_while(x: Any, n: Any) -> Any:
    i = 0
    while i < n:
        x = np.sin(x) * 0.9 + x * 0.1
        i += 1
    return x


@pytest.mark.parametrize("f", [waves, waves_while])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_trips(f: Any, n: int) -> None:
    x, slope = 0.7, 1.0
    for _ in range(n):
        x, slope = np.sin(x) * 0.9 + x * 0.1, slope * (np.cos(x) * 0.9 + 0.1)
    for trips in (n, gg.constant(n), gg.constant(n, gg.int64)):
        np.testing.assert_allclose(gg.function(f)(c(0.7), trips), x, rtol=1e-14)
        np.testing.assert_allclose(gg.function(gg.grad(f))(c(0.7), trips), slope, rtol=1e-14)


def decayed(x: Any, n: Any) -> Any:
    s = x * 0.0
    for _ in range(n):
        s = s * 0.99999 + x
    return s


def test_a_million_trips() -> None:
    n = 10**6
    wanted = (1 - 0.99999**n) / (1 - 0.99999)
    for trips in (n, gg.constant(n)):
        np.testing.assert_allclose(gg.function(decayed)(c(2.0), trips), 2 * wanted, rtol=1e-9)
    np.testing.assert_allclose(gg.function(gg.grad(decayed))(c(2.0), n), wanted, rtol=1e-9)

    def until(x: Any) -> Any:
        s, trips = x * 0.0, 0
        while s < 1e5 * x:
            s, trips = s + x * 0.125, trips + 1
        return s, trips

    s, trips = gg.function(until)(c(2.0))
    assert (float(s), int(trips)) == (2e5, 800_000)

    def over(xs: Any, x: Any) -> Any:
        for v in xs:
            x = x * 0.5 + v * v
        return x

    g, first = gg.function(gg.grad(over, (0, 1)))(c(np.linspace(0, 1, n)), c(1.0))
    np.testing.assert_allclose(g[-2:], [1.0, 2.0], rtol=1e-5)
    assert float(first) == 0


@pytest.mark.parametrize("xs", [(3, 0), (0, 2), (3, 2), (0, 0)])
@pytest.mark.parametrize("ys", [(2,), (0,), (0, 3)])
def test_no_elements(xs: Any, ys: Any) -> None:
    def f(x: Any, y: Any) -> Any:
        for row in x:
            y = y * 2.0 + np.sum(row)
        return y

    x, y = np.ones(xs), np.ones(ys)
    both = gg.grad(lambda x, y: gg.reduce_sum(f(x, y)), (0, 1))
    open_sizes = [gg.TensorSpec([None] * a.ndim, F64) for a in (x, y)]
    for signature in (None, open_sizes):
        found = gg.function(f, input_signature=signature)(c(x), c(y))
        np.testing.assert_array_equal(found, f(x, y), strict=True)
        for a, b in zip(gg.function(both, input_signature=signature)(c(x), c(y)), both(c(x), c(y))):
            np.testing.assert_array_equal(a, b, strict=True)


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_state_wraps_as_in_numpy(dtype: str) -> None:
    def f(x: Any, n: Any) -> Any:
        for _ in range(n):
            x = x * 3 + 1
            x = x ^ (x >> 1)
        return x

    state = np.arange(5).astype(dtype)
    found = [gg.function(f)(gg.constant(x), gg.constant(9)) for x in (state, state[3])]
    for _ in range(9):
        state = state * np.array(3, dtype) + np.array(1, dtype)
        state = state ^ (state >> np.array(1, dtype))
    np.testing.assert_array_equal(found[0], state, strict=True)
    np.testing.assert_array_equal(found[1], state[3], strict=True)


def test_bool_and_complex_state() -> None:
    def swapped(x: Any, y: Any, n: Any) -> Any:
        for _ in range(n):
            x, y = (x != y), (x and not y)
        return x, y

    found = gg.function(swapped)(gg.constant(True), gg.constant(False), gg.constant(5))
    assert [bool(x) for x in found] == [*swapped(True, False, 5)]

    def julia(z: Any, n: Any) -> Any:
        for _ in range(n):
            z = z * z + (0.3 - 0.2j)
        return z

    size = lambda z, n: gg.reduce_sum(gg.square(gg.abs(julia(z, n))))  # noqa: E731
    for z in (np.array([0.1 + 0.2j, -0.3j, 0.5]), np.array(0.1 + 0.2j)):
        found = gg.function(julia)(gg.constant(z), gg.constant(6))
        np.testing.assert_allclose(found, julia(z, 6), rtol=1e-14)
        slope = gg.function(gg.grad(size))(gg.constant(z), gg.constant(4))
        np.testing.assert_allclose(slope, gg.grad(size)(gg.constant(z), 4), rtol=1e-12)


@pytest.mark.parametrize(("dtype", "rtol"), [("float16", 2e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("x", [np.linspace(-1, 1, 5), np.array(-0.5), np.linspace(-1, 1, 300)])
def test_short_floats_round_in_each_step(dtype: str, rtol: float, x: Any) -> None:
    def f(x: Any, n: Any) -> Any:
        for _ in range(n):
            x = x * 1.01 + np.tanh(x) * 0.1
        return x

    start = gg.cast(x, dtype)
    found, wanted = gg.function(f)(start, gg.constant(6)), f(start, 6)
    assert found.dtype.name == dtype
    np.testing.assert_array_equal(gg.cast(found, F64), gg.cast(wanted, F64))
    loss = lambda x, n: gg.reduce_sum(f(x, n))  # noqa: E731
    slopes = gg.function(gg.grad(loss))(start, gg.constant(6)), gg.grad(loss)(start, 6)
    np.testing.assert_allclose(*(gg.cast(g, F64) for g in slopes), rtol=rtol)


@pytest.mark.parametrize("size", [3, 5000])
def test_arrays_that_a_loop_was_given_never_change(size: int) -> None:
    def raised(x: Any, n: Any) -> Any:
        for i in range(n):
            x[i] = x[i] + 100.0
        return x

    def exchanged(x: Any, y: Any, n: Any) -> Any:
        for _ in range(n):
            x, y = y, x
        return x, y, x

    array, held = np.arange(float(size)), np.arange(float(size))
    x, k, f = c(array), c(array), gg.function(raised)
    captured = gg.function(lambda n: (raised(gg.identity(k), n), raised(gg.constant(held), n)))
    for n in (0, 2):
        first, second = array.copy(), array.copy()
        first[:n] += 100
        second[:n] += 200
        for _ in range(4):
            once = f(x, gg.constant(n))
            twice = f(once, gg.constant(n))
            for got, wanted in zip((x, once, twice, *captured(gg.constant(n)), k, held),
                                   (array, first, second, first, first, array, array)):  # fmt: skip
                np.testing.assert_array_equal(got, wanted)
    y = c(array + 1)
    for n in range(4):
        found = gg.function(exchanged)(x, y, gg.constant(n))
        for got, wanted in zip(found, exchanged(array, array + 1, n)):
            np.testing.assert_array_equal(got, wanted)


def test_one_array_under_two_names_and_state_that_is_read_later() -> None:
    def f(x: Any, n: Any) -> Any:
        a, b = x * 1.0, x * 1.0
        for _ in range(n):
            a[0] = a[0] + 1.0
            b = b * 2.0
        kept = a * 1.0
        for _ in range(n):
            a[1] = a[1] + 5.0
        return a, b, kept, x

    for size in (3, 3000):
        x = np.arange(float(size))
        found = gg.function(f)(c(x), gg.constant(3))
        for got, wanted in zip(found, f(x, 3)):
            np.testing.assert_array_equal(got, wanted)


def test_a_value_of_a_variable_is_a_tensor_of_its_own() -> None:
    v = gg.Variable(np.arange(4.0))

    @gg.function
    def f(n: Any) -> Any:
        y = v.read_value()
        for i in range(n):
            y[i] = y[i] + 1.0
            v.assign(v * 2.0)
        return y

    np.testing.assert_array_equal(f(gg.constant(2)), [1, 2, 2, 3])
    np.testing.assert_array_equal(v, np.arange(4) * 4)


def test_gradients_of_what_is_captured_and_scanned() -> None:
    def f(xs: Any) -> Any:
        s = xs[0] * 0.0
        for x in xs:
            s = s + x * np.sum(xs) + s * xs[0] * 0.1
        return s

    x = np.array([0.3, -0.2, 0.5])
    numeric = [(f(x + d) - f(x - d)) / 2e-6 for d in np.eye(3) * 1e-6]
    np.testing.assert_allclose(gg.function(gg.grad(f))(c(x)), numeric, rtol=1e-7)
    np.testing.assert_allclose(gg.function(gg.hessian(f))(c(x)), gg.hessian(f)(c(x)), rtol=1e-12)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_branches_that_are_not_taken_are_exactly_zero(n: int) -> None:
    def f(x: Any, n: Any) -> Any:
        s = x * 0.0
        for _ in range(n):
            if x > 1.0:
                s = s + np.log(x - 1.0) + np.sqrt(x - 1.0)
            else:
                s = s + x
            s = s + np.where(x > 1.0, 1.0 / (x - 1.0), x)
        return s

    first, second = gg.function(gg.grad(f)), gg.function(gg.grad(gg.grad(f)))
    slopes = {0.5: 2.0 * n, 1.0: 2.0 * n, 2.0: 0.5 * n}
    for x, slope in slopes.items():
        np.testing.assert_allclose(first(c(x), gg.constant(n)), slope, atol=1e-14)
        np.testing.assert_allclose(second(c(x), gg.constant(n)), 0.75 * n * (x == 2), atol=1e-14)
    total = gg.grad(lambda x, n: gg.reduce_sum(gg.vmap(f, in_axes=(0, None))(x, n)))
    found = gg.function(total)(c([*slopes]), gg.constant(n))
    np.testing.assert_allclose(found, [*slopes.values()], atol=1e-14)


@pytest.mark.parametrize("x", [np.nan, np.inf, -np.inf, 0.5, 1e-320, -0.0])
def test_loops_end_where_python_ends_them(x: float) -> None:
    def f(x: Any) -> Any:
        n = 0
        while x < 10.0 and n < 50:
            x = x * x - 3.0 / x
            n += 1
        return x, n

    with np.errstate(all="ignore"):
        wanted = f(np.float64(x))
    found = gg.function(f)(c(x))
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-14)
    assert int(found[1]) == wanted[1]


@pytest.mark.parametrize("shape", [(), (3,), (100,)])
def test_four_loops_one_within_the_other(shape: Any) -> None:
    def f(x: Any, n: Any) -> Any:
        s = x * 0.0
        for i in range(n):
            for j in range(i + 1):
                k = 0
                while k < j + 1:
                    if (i + j + k) % 2 == 0:
                        for m in range(k + 1):
                            s = s + np.sin(x * m) * 0.1
                    else:
                        s = s * 0.99
                    k += 1
        return np.sum(s)

    x = np.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape)
    d, n = np.cos(np.arange(x.size)).reshape(shape), gg.constant(3)
    np.testing.assert_allclose(gg.function(f)(c(x), n), f(x, 3), rtol=1e-12)
    g = gg.function(gg.grad(f))(c(x), n).numpy()
    slope = (f(x + 1e-6 * d, 3) - f(x - 1e-6 * d, 3)) / 2e-6
    np.testing.assert_allclose(np.sum(g * d), slope, rtol=1e-6, atol=1e-7)


def failing(x: Any, n: Any, d: Any) -> Any:
    s, k = x[0] * 0.0, 0
    for i in range(n):
        s = s + x[i] * x[i]
        k = k + 10 // (d - i)
    return s, k


def test_a_program_that_failed_runs_again() -> None:
    f = gg.function(failing)
    g = gg.function(gg.grad(lambda *args: failing(*args)[0]))
    x = c([1.0, 2.0, 3.0])
    for _ in range(4):
        with pytest.raises(ZeroDivisionError, match=r"k = k \+ 10 // \(d - i\)"):
            f(x, gg.constant(3), gg.constant(2))
        with pytest.raises(IndexError, match="3 is out of range"):
            g(x, gg.constant(4), gg.constant(9))
        s, k = f(x, gg.constant(3), gg.constant(5))
        assert (float(s), int(k)) == (14, 2 + 2 + 3)
        found = g(x, gg.constant(2), gg.constant(9))
        np.testing.assert_array_equal(found, [2, 4, 0])


def test_functions_within_loops_within_functions() -> None:
    step = gg.function(lambda x, k: gg.sin(x) * 0.5 + gg.cast(k, F64))

    @gg.function
    def inner(x: Any, n: Any) -> Any:
        for i in range(n):
            x = step(x, i)
        return x

    @gg.function
    def outer(x: Any, n: Any) -> Any:
        for _ in range(n):
            x = inner(x, n) * 0.5
        return x

    def plain(x: Any, n: int) -> Any:
        for _ in range(n):
            for i in range(n):
                x = np.sin(x) * 0.5 + i
            x = x * 0.5
        return x

    np.testing.assert_allclose(outer(c(0.3), gg.constant(4)), plain(0.3, 4), rtol=1e-14)
    slope = (plain(0.3 + 1e-6, 2) - plain(0.3 - 1e-6, 2)) / 2e-6
    np.testing.assert_allclose(gg.function(gg.grad(outer))(c(0.3), gg.constant(2)), slope, 1e-6)


def test_threads_run_one_program() -> None:
    g = gg.function(gg.grad(lambda x, n: gg.reduce_sum(waves(x, n))))
    jobs = [(c(np.linspace(0, k, 50)), gg.constant(20 * k)) for k in range(6)]
    wanted = [g(*job).numpy() for job in jobs]
    found: dict[tuple[int, int], Any] = {}

    def work(first: int) -> None:
        for k in range(len(jobs)):
            at = (first + k) % len(jobs)
            found[first, at] = g(*jobs[at]).numpy()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 * len(jobs)
    for (_, k), value in found.items():
        np.testing.assert_array_equal(value, wanted[k])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_runs_what_its_parent_compiled() -> None:
    g = gg.function(gg.grad(waves))
    wanted = float(g(c(0.7), gg.constant(30)))
    child = os.fork()
    if child == 0:
        os._exit(0 if float(g(c(0.7), gg.constant(30))) == wanted else 1)
    assert os.waitpid(child, 0)[1] == 0


INTERRUPTED = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
import graphgrad as gg

def value(x, n):
    for _ in range(n):
        x = x * 0.999 + np.sin(x) * 0.001
    return gg.reduce_sum(x)

f, g = gg.function(value), gg.function(gg.grad(value))
x = gg.constant(np.linspace(0.0, 1.0, SIZE))
small = float(f(x, gg.constant(3))), g(x, gg.constant(3)).numpy()
threading.Timer(DELAY, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    while True:
        g(x, gg.constant(LONG))
except KeyboardInterrupt:
    print("interrupted")
assert float(f(x, gg.constant(3))) == small[0]
assert np.array_equal(g(x, gg.constant(3)), small[1])
print("usable")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(("size", "long", "delay"), [(1, 300_000, 0.4), (50, 30_000, 0.3)])
def test_ctrl_c_in_a_loop_and_its_reverse(
    tmp_path: Path, size: int, long: int, delay: float
) -> None:
    text = INTERRUPTED.replace("SIZE", str(size)).replace("LONG", str(long))
    script = tmp_path / "interrupted.py"  # of a text without a file nothing is converted
    script.write_text(text.replace("DELAY", str(delay)))
    run = [sys.executable, str(script)]
    found = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert found.stdout.split() == ["interrupted", "usable"], found.stderr


def test_matrices_of_derivatives_of_a_loop_that_assigns_elements() -> None:
    def f(x: Any, n: Any) -> Any:
        y = np.zeros_like(x)
        for i in range(n):
            y[i] = np.sin(x[i - 1]) * x[i] + y[i - 1]
        return y

    x, d = np.array([0.3, 0.5, 0.7]), np.eye(3) * 1e-6
    numeric = np.stack([(f(x + h, 3) - f(x - h, 3)) / 2e-6 for h in d], axis=-1)
    for matrix in (gg.jacrev, gg.jacfwd):
        np.testing.assert_allclose(
            gg.function(matrix(f))(c(x), gg.constant(3)), numeric, 1e-6, 1e-9
        )
    slopes = gg.jacrev(lambda x, n: gg.reduce_sum(f(x, n)))
    rows = [(gg.function(slopes)(c(x + h), gg.constant(3))
             - gg.function(slopes)(c(x - h), gg.constant(3))) / 2e-6 for h in d]  # fmt: skip
    second = gg.hessian(lambda x, n: gg.reduce_sum(f(x, n)))
    found = gg.function(second)(c(x), gg.constant(3))
    np.testing.assert_allclose(found, np.stack(rows), rtol=1e-6, atol=1e-8)
