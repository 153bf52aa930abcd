"""Programs whose loops hold what once was a host step: native, right, and with right gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.runtime import blas
from graphgrad.runtime.program import Native

rng = np.random.default_rng(0)
lapack = pytest.mark.skipif(not blas.has_lapack(), reason="this BLAS is without LAPACK")


def is_native(f: Any, *args: Any) -> bool:
    """Is all of the compiled function native code, with no calls of Python but those that raise?"""
    program = f.get_concrete_function(*args).runner.prepared().program
    native = all(isinstance(s, Native) for s in program.steps)
    return native and all(c.only_raises for c in program.python_calls)


def slope(f: Any, x: Any, direction: Any) -> float:
    """The derivative along a direction, by differences."""
    h = 1e-6
    return float(f(gg.constant(x + h * direction)) - f(gg.constant(x - h * direction))) / (2 * h)


def check_gradient(f: Any, x: Any, rtol: float = 1e-6) -> None:
    x = np.asarray(x)
    direction = np.random.default_rng(1).normal(size=x.shape)
    found = gg.function(gg.grad(f))(gg.constant(x))
    np.testing.assert_allclose((found.numpy() * direction).sum(), slope(f, x, direction), rtol=rtol)


# -- linear algebra

F = 0.9 * np.eye(4) + 0.05 * rng.normal(size=(4, 4))
H = rng.normal(size=(2, 4))
Z = rng.normal(size=(12, 2))


def likelihood_by(update: Any) -> Any:
    @gg.function
    def likelihood(z: Any) -> Any:
        x, p, total = (
            gg.zeros([4], gg.float64),
            gg.eye(4, dtype=gg.float64),
            gg.constant(0.0, gg.float64),
        )
        for k in gg.range(12):
            x, p = gg.linalg.matvec(F, x), F @ p @ F.T + 0.1 * np.eye(4)
            r, s = z[k] - gg.linalg.matvec(H, x), H @ p @ H.T + np.eye(2)
            gain, square, log = update(s, H @ p, r)
            x, p = x + gg.linalg.matvec(gain, r), p - gain @ H @ p
            total -= 0.5 * (square + log)
        return total

    return likelihood


def by_inverse(s: Any, hp: Any, r: Any) -> Any:
    inverse = gg.linalg.inv(s)
    square = gg.reduce_sum(r * gg.linalg.matvec(inverse, r))
    return gg.transpose(hp) @ inverse, square, gg.math.log(gg.linalg.det(s))


def by_factor(s: Any, hp: Any, r: Any) -> Any:
    factor = gg.linalg.cholesky(s)
    gain = gg.transpose(gg.linalg.cholesky_solve(factor, hp))
    w = gg.linalg.triangular_solve(factor, r[:, None])
    return gain, gg.reduce_sum(w * w), 2 * gg.reduce_sum(gg.math.log(gg.linalg.diag_part(factor)))


def by_solve(s: Any, hp: Any, r: Any) -> Any:
    gain = gg.transpose(gg.linalg.solve(s, hp))
    square = gg.reduce_sum(r * gg.linalg.solve(s, r))
    return gain, square, gg.linalg.slogdet(s).log_abs_determinant


def expected_likelihood(z: Any) -> float:
    x, p, total = np.zeros(4), np.eye(4), 0.0
    for row in z:
        x, p = F @ x, F @ p @ F.T + 0.1 * np.eye(4)
        r, s = row - H @ x, H @ p @ H.T + np.eye(2)
        gain = p @ H.T @ np.linalg.inv(s)
        x, p = x + gain @ r, p - gain @ H @ p
        total -= 0.5 * (r @ np.linalg.inv(s) @ r + np.log(np.linalg.det(s)))
    return total


@lapack
@pytest.mark.parametrize("update", [by_inverse, by_factor, by_solve])
def test_filters_of_kalman(update: Any) -> None:
    f = likelihood_by(update)
    assert float(f(gg.constant(Z))) == pytest.approx(expected_likelihood(Z), rel=1e-12)
    assert is_native(f, gg.constant(Z))
    check_gradient(f, Z)


@lapack
def test_newtons_method_until_it_has_converged() -> None:
    a = rng.normal(size=(20, 3))

    @gg.function
    def fit(y: Any) -> Any:
        w, d = gg.zeros([3], gg.float64), gg.constant(1.0, gg.float64)
        while d > 1e-14:
            p = gg.tanh(gg.linalg.matvec(a, w))
            j = a * (1 - p * p)[:, None]
            step = gg.linalg.solve(
                gg.transpose(j) @ j, gg.linalg.matvec(gg.transpose(j), p - y)[:, None]
            )
            w, d = w - step[:, 0], gg.reduce_sum(step * step)
        return gg.reduce_sum(w)

    target = np.array([0.3, -0.5, 0.2])
    y = np.tanh(a @ target)
    assert float(fit(gg.constant(y))) == pytest.approx(target.sum())
    assert is_native(fit, gg.constant(y))
    gradient = gg.function(gg.grad(fit))(gg.constant(y)).numpy()
    direction = np.random.default_rng(2).normal(size=20) * 0.1
    assert (gradient * direction).sum() == pytest.approx(slope(fit, y, direction), rel=1e-4)


@lapack
def test_a_matrix_without_an_inverse_in_a_loop() -> None:
    @gg.function
    def f(x: Any) -> Any:
        for _ in gg.range(3):
            x = gg.linalg.inv(x) * 0.0
        return x

    with pytest.raises(gg.errors.ArgumentError, match=r"(?s)inv: the matrix is singular.*x = gg"):
        f(gg.eye(2))


@lapack
def test_examples_of_a_vmap() -> None:
    def f(x: Any) -> Any:
        for _ in gg.range(3):
            x = gg.linalg.inv(x + gg.eye(2, dtype=gg.float64)) + gg.math.cumsum(x, 0) * 0.1
        return gg.linalg.slogdet(x).log_abs_determinant

    x = rng.normal(size=(5, 2, 2))
    together = gg.function(gg.vmap(f))(gg.constant(x))
    one = gg.function(f)
    np.testing.assert_allclose(together, [one(gg.constant(v)) for v in x], rtol=1e-12)


# -- running folds, orders and searches


def test_a_particle_filter() -> None:
    seen = rng.normal(size=8)

    @gg.function
    def run(seen: Any, noise: Any, uniform: Any) -> Any:
        x, total = noise[0], gg.constant(0.0, gg.float64)
        for k in gg.range(8):
            x = 0.9 * x + 0.5 * noise[k]
            w = gg.nn.softmax(-0.5 * (seen[k] - x) ** 2)
            place = gg.searchsorted(gg.cumsum(w), uniform[k], side="right")
            x = gg.gather(x, gg.minimum(place, 31))
            total += gg.reduce_mean(x)
        return total

    noise, uniform = rng.normal(size=(8, 32)), rng.random((8, 32))
    x, total = noise[0], 0.0
    for k in range(8):
        x = 0.9 * x + 0.5 * noise[k]
        w = np.exp(-0.5 * (seen[k] - x) ** 2)
        place = np.searchsorted(np.cumsum(w / w.sum()), uniform[k], side="right")
        x = x[np.minimum(place, 31)]
        total += x.mean()
    args = [gg.constant(v) for v in (seen, noise, uniform)]
    assert float(run(*args)) == pytest.approx(total)
    assert is_native(run, *args)


def test_a_beam_search() -> None:
    logits = rng.normal(size=(8, 8))

    @gg.function
    def search(logits: Any) -> Any:
        scores, last = gg.zeros([3], gg.float64), gg.range(3)
        for _ in gg.range(6):
            steps = scores[:, None] + gg.nn.log_softmax(gg.gather(logits, last))
            scores, place = gg.math.top_k(gg.reshape(steps, [-1]), 3)
            last = place % 8
        return gg.reduce_sum(scores)

    scores, last = np.zeros(3), np.arange(3)
    for _ in range(6):
        rows = logits[last]
        steps = scores[:, None] + rows - np.log(np.exp(rows).sum(1, keepdims=True))
        place = np.argsort(-steps.ravel(), kind="stable")[:3]
        scores, last = steps.ravel()[place], place % 8
    assert float(search(gg.constant(logits))) == pytest.approx(scores.sum())
    assert is_native(search, gg.constant(logits))
    check_gradient(search, logits)


def test_gradients_through_sorts_and_running_folds() -> None:
    @gg.function
    def f(x: Any) -> Any:
        for _ in gg.range(3):
            x = gg.sort(gg.sin(3 * x)) + 0.1 * gg.math.cumprod(1 + x * x) - 0.1 * gg.cumsum(x)
            x += 0.05 * gg.math.cumulative_logsumexp(x) + 0.01 * gg.math.cummax(x)
        return gg.reduce_sum(x * x)

    x = rng.normal(size=6)
    assert is_native(f, gg.constant(x))
    check_gradient(f, x)
    assert is_native(gg.function(gg.grad(f)), gg.constant(x))


# -- assertions, printing, variables, random numbers


def test_assertions_that_hold_cost_nothing_and_others_show_the_values() -> None:
    @gg.function
    def f(n: Any, x: Any) -> Any:
        i = gg.constant(0)
        while i < n:
            x = x * 2
            assert gg.reduce_all(x < 100), "too large"
            gg.debugging.assert_positive(x, "not positive")
            i += 1
        return x

    x = gg.constant([1.0, 2.0])
    assert f(gg.constant(5), x).numpy().tolist() == [32, 64]
    assert (
        len(f.get_concrete_function(gg.constant(5), x).runner.prepared().program.python_calls) == 2
    )
    with pytest.raises(gg.errors.AssertionFailed, match=r"(?s)too large.*assert gg.reduce_all"):
        f(gg.constant(6), x)
    with pytest.raises(gg.errors.AssertionFailed, match=r"(?s)not positive.*\[1\]: x = \[?-2"):
        f(gg.constant(5), gg.constant([1.0, -1.0]))


def test_assertions_of_examples() -> None:
    def f(x: Any) -> Any:
        for _ in gg.range(3):
            gg.debugging.assert_less(x, 4.0)
            x = x * 2
        return x

    run = gg.function(gg.vmap(f))
    assert run(gg.constant([0.5, 0.25])).numpy().tolist() == [4, 2]
    with pytest.raises(gg.errors.AssertionFailed, match="x < y"):
        run(gg.constant([0.5, 1.5]))


def test_a_loop_that_raises_and_one_that_leaves_a_name_without_a_value() -> None:
    @gg.function
    def f(x: Any) -> Any:
        for _ in gg.range(5):
            x = x + 1
            if x > 4:
                raise RuntimeError("more than four")
        return x

    assert float(f(gg.constant(-1.0))) == 4
    with pytest.raises(RuntimeError, match="more than four"):
        f(gg.constant(0.0))


def test_printing_and_python_in_a_loop_keep_their_order() -> None:
    seen: list[Any] = []

    class Stream:
        def write(self, text: str) -> None:
            if text.strip():
                seen.append(text.strip())

    def look(x: Any) -> Any:
        seen.append(float(x))
        return x * 2

    @gg.function
    def f(x: Any) -> Any:
        for k in gg.range(4):
            gg.print("k", k, output_stream=stream)
            if k % 2 == 1:
                x = gg.py_function(look, [x], gg.float32)
        return x

    stream = Stream()
    assert float(f(gg.constant(1.0))) == 4
    assert seen == ["k 0", "k 1", 1.0, "k 2", "k 3", 2.0]


def test_gradients_through_python_in_a_loop() -> None:
    @gg.function
    def f(x: Any) -> Any:
        for _ in gg.range(3):
            x = gg.py_function(lambda v: gg.sin(v) * 2, [x], gg.float64)
        return gg.reduce_sum(x)

    check_gradient(f, rng.normal(size=3))


def test_variables_and_random_numbers_in_a_loop() -> None:
    v = gg.Variable(0.0)
    generator = gg.random.Generator.from_seed(3)

    @gg.function
    def f(n: Any) -> Any:
        i, total = gg.constant(0), gg.zeros([4])
        while i < n:
            total += generator.normal([4])
            v.assign_add(total[0])
            i += 1
        return total

    found = f(gg.constant(5)).numpy()
    assert is_native(f, gg.constant(5))
    again = gg.random.Generator.from_seed(3)
    total, value = np.zeros(4, np.float32), np.float32(0)
    for _ in range(5):
        total += again.normal([4]).numpy()
        value += total[0]
    np.testing.assert_array_equal(found, total)
    assert v.numpy() == value
