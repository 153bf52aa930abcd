"""Dynamic programming and other loops over arrays, as Python source: values, gradients, and what
they are made into. Each function also runs with NumPy's arrays, as Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.errors import IndexOutOfRange

N = 9  # of a side


def levenshtein(a: Any, b: Any, d: Any, numbers: Any) -> Any:
    for i in numbers(1, a.shape[0] + 1):
        d[i, 0] = i
    for j in numbers(1, b.shape[0] + 1):
        d[0, j] = j
    for i in numbers(1, a.shape[0] + 1):
        for j in numbers(1, b.shape[0] + 1):
            if a[i - 1] == b[j - 1]:
                cost = 0
            else:
                cost = 1
            d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + cost)
    return d


def common_subsequence(a: Any, b: Any, d: Any, numbers: Any) -> Any:
    for i in numbers(1, a.shape[0] + 1):
        for j in numbers(1, b.shape[0] + 1):
            if a[i - 1] == b[j - 1]:
                d[i, j] = d[i - 1, j - 1] + 1
            else:
                d[i, j] = max(d[i - 1, j], d[i, j - 1])
    return d


def floyd_warshall(d: Any, numbers: Any) -> Any:
    for k in numbers(d.shape[0]):
        for i in numbers(d.shape[0]):
            for j in numbers(d.shape[0]):
                if d[i, k] + d[k, j] < d[i, j]:
                    d[i, j] = d[i, k] + d[k, j]
    return d


def cholesky(a: Any, low: Any, numbers: Any) -> Any:
    for i in numbers(a.shape[0]):
        for j in numbers(i + 1):
            s = a[i, j]
            for k in numbers(j):
                s = s - low[i, k] * low[j, k]
            if i == j:
                low[i, j] = s**0.5
            else:
                low[i, j] = s / low[j, j]
    return low


def prefix_sums(x: Any, y: Any, numbers: Any) -> Any:
    y[0] = x[0]
    for i in numbers(1, x.shape[0]):
        y[i] = y[i - 1] + x[i]
    return y


def bubble_sort(x: Any, numbers: Any) -> Any:
    for i in numbers(x.shape[0]):
        for j in numbers(x.shape[0] - 1 - i):
            if x[j] > x[j + 1]:
                t = x[j]
                x[j] = x[j + 1]
                x[j + 1] = t
    return x


def sieve(is_prime: Any, numbers: Any) -> Any:
    is_prime[0] = False
    is_prime[1] = False
    for i in numbers(2, is_prime.shape[0]):
        if is_prime[i]:
            j = i * i
            while j < is_prime.shape[0]:
                is_prime[j] = False
                j += i
    return is_prime


def product(a: Any, b: Any, c: Any, numbers: Any) -> Any:
    for i in numbers(a.shape[0]):
        for j in numbers(b.shape[1]):
            for k in numbers(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


def heat(u: Any, v: Any, numbers: Any) -> Any:
    for _ in numbers(5):
        for i in numbers(1, u.shape[0] - 1):
            for j in numbers(1, u.shape[1] - 1):
                around = u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1]
                v[i, j] = u[i, j] + 0.1 * (around - 4.0 * u[i, j])
        for i in numbers(1, u.shape[0] - 1):
            for j in numbers(1, u.shape[1] - 1):
                u[i, j] = v[i, j]
    return u


def knapsack(weights: Any, values: Any, best: Any, numbers: Any) -> Any:
    for k in numbers(weights.shape[0]):
        for c in numbers(best.shape[0] - 1, -1, -1):
            if c >= weights[k]:
                best[c] = max(best[c], best[c - weights[k]] + values[k])
    return best


def two_pointers(x: Any, i: Any, numbers: Any) -> Any:
    j = i + x.shape[0] - 1
    while i < j:
        t = x[i]
        x[i] = x[j] * 0.5
        x[j] = t
        i += 1
        j -= 1
    return x


def from_the_back(x: Any, numbers: Any) -> Any:
    for i in numbers(1, x.shape[0]):
        x[-i - 1] += 0.5 * x[-i]
    return x


def histogram(keys: Any, counts: Any, numbers: Any) -> Any:
    for i in numbers(keys.shape[0]):
        counts[keys[i]] += 1.0
    return counts


def viterbi(emissions: Any, steps: Any, scores: Any, back: Any, numbers: Any) -> Any:
    for j in numbers(steps.shape[0]):
        scores[0, j] = emissions[0, j]
    for t in numbers(1, emissions.shape[0]):
        for j in numbers(steps.shape[0]):
            best = scores[t - 1, 0] + steps[0, j]
            arg = 0
            for i in numbers(1, steps.shape[0]):
                c = scores[t - 1, i] + steps[i, j]
                if c > best:
                    best = c
                    arg = i
            scores[t, j] = best + emissions[t, j]
            back[t, j] = arg
    return scores


def rows(x: Any, w: Any, numbers: Any) -> Any:
    for i in numbers(1, x.shape[0]):
        x[i] = np.tanh(x[i - 1] * w) + x[i]
    return x


def positive(rng: np.random.Generator) -> Any:
    m = rng.normal(size=(N, N))
    return m @ m.T + N * np.eye(N)


def zeros(*shape: int) -> Any:
    return lambda rng: np.zeros(shape)


def normal(*shape: int) -> Any:
    return lambda rng: rng.normal(size=shape)


def integers(high: int, *shape: int) -> Any:
    return lambda rng: rng.integers(1, high, shape)


def counts(*shape: int) -> Any:
    return lambda rng: np.zeros(shape, np.int64)


# The function, its arguments, those in which it is differentiated.
CASES: list[tuple[Callable[..., Any], tuple[Any, ...], tuple[int, ...]]] = [
    (levenshtein, (integers(4, N), integers(4, N + 3), counts(N + 1, N + 4)), ()),
    (common_subsequence, (integers(4, N), integers(4, N + 3), counts(N + 1, N + 4)), ()),
    (floyd_warshall, (lambda rng: rng.uniform(1, 9, (N, N)),), (0,)),
    (cholesky, (positive, zeros(N, N)), (0,)),
    (prefix_sums, (normal(40), zeros(40)), (0,)),
    (bubble_sort, (normal(20),), (0,)),
    (sieve, (lambda rng: np.ones(60, bool),), ()),
    (product, (normal(N, N + 1), normal(N + 1, N + 2), zeros(N, N + 2)), (0, 1, 2)),
    (heat, (normal(N, N), normal(N, N)), (0,)),
    (knapsack, (integers(9, N), lambda rng: rng.uniform(1, 9, N), zeros(4 * N)), (1,)),
    (two_pointers, (normal(30), lambda rng: np.int64(0)), (0,)),
    (from_the_back, (normal(30),), (0,)),
    (histogram, (integers(N, 50), zeros(20)), (1,)),
    (viterbi, (normal(6, N), normal(N, N), zeros(6, N), counts(6, N)), (0, 1)),
    (rows, (normal(12, 30), normal(30)), (0, 1)),
]
# Of loops whose number of steps only the run finds out, the host may lead the reverse.
OPEN = (cholesky, bubble_sort, two_pointers)


def native(f: Any) -> bool:
    return "NumPy call" not in str(f.report())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_a_program_is_native_and_right(case: Any) -> None:
    fn, makers, argnums = case
    rng = np.random.default_rng(0)
    arrays = [make(rng) for make in makers]
    f = gg.function(lambda *xs: fn(*xs, gg.range))
    args = [gg.constant(x) for x in arrays]
    for _ in range(2):
        np.testing.assert_allclose(f(*args), run(fn, arrays), rtol=1e-12, atol=1e-12)
    assert native(f)
    for x, array in zip(args, arrays, strict=True):
        np.testing.assert_array_equal(x, array)  # those of the caller stay
    if argnums:
        differentiated(fn, arrays, argnums)


def run(fn: Any, arrays: list[Any]) -> Any:
    """The function as Python, on copies."""
    return fn(*(x.copy() for x in arrays), range)


def differentiated(fn: Any, arrays: list[Any], argnums: tuple[int, ...]) -> None:
    """Gradients agree with finite differences."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=run(fn, arrays).shape)

    def loss(*xs: Any) -> Any:
        return gg.reduce_sum(fn(*xs, gg.range) * weights)

    f = gg.function(gg.value_and_grad(loss, argnums=argnums))
    value, gradients = f(*(gg.constant(x) for x in arrays))
    np.testing.assert_allclose(value, (run(fn, arrays) * weights).sum(), rtol=1e-12)
    assert native(f) or fn in OPEN
    for k, g in zip(argnums, gradients, strict=True):
        d = rng.normal(size=arrays[k].shape)
        ends = []
        for h in (1e-6, -1e-6):
            moved = [x + h * d if i == k else x for i, x in enumerate(arrays)]
            ends.append((run(fn, moved) * weights).sum())
        slope = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(np.sum(np.asarray(g) * d), slope, rtol=1e-5, atol=1e-6)


def test_second_derivatives_and_tangents() -> None:
    def soft(x: Any) -> Any:
        y = gg.zeros([20], gg.float64)
        for i in gg.range(1, 20):
            y[i] = gg.sin(y[i - 1] + x[i]) * x[i - 1]
        return y[19] + y[10]

    def plain(x: Any) -> Any:
        y: list[Any] = [x[0] * 0.0]
        for i in range(1, 20):
            y.append(gg.sin(y[i - 1] + x[i]) * x[i - 1])
        return y[19] + y[10]

    x = gg.constant(np.random.default_rng(0).normal(size=20))
    v = gg.constant(np.random.default_rng(1).normal(size=20))
    product = lambda f: gg.grad(lambda x: gg.reduce_sum(gg.grad(f)(x) * v))  # noqa: E731
    np.testing.assert_allclose(gg.function(product(soft))(x), product(plain)(x), atol=1e-12)
    got, expected = (gg.jvp(f, (x,), (v,))[1] for f in (gg.function(soft), plain))
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_examples_of_a_batch() -> None:
    f = gg.function(gg.vmap(lambda x: prefix_sums(x, x * 0.0, gg.range)))
    x = np.random.default_rng(0).normal(size=(3, 20))
    np.testing.assert_allclose(f(x), np.cumsum(x, 1), rtol=1e-12)


def test_an_index_out_of_range_names_the_line() -> None:
    @gg.function
    def f(x: Any) -> Any:
        for i in gg.range(x.shape[0]):
            x[i + 1] = x[i] * 2.0
        return x

    with pytest.raises(IndexOutOfRange, match=r"x\[i \+ 1\] = x\[i\] \* 2.0"):
        f(gg.ones([20]))


def test_a_gradient_costs_what_the_loop_holds() -> None:
    """Not the size of the table in each step."""

    def loss(x: Any) -> Any:
        for i in gg.range(1, x.shape[0]):
            x[i] = gg.sin(x[i - 1]) + x[i]
        return gg.reduce_sum(x)

    f = gg.function(gg.value_and_grad(loss))
    f(gg.ones([500], gg.float64))
    text = f.ir("after")
    body = text[text.index("reverse of") :]
    body = body[: body.index("return")]
    assert body.count("update_slice") == 2
    assert "f64[500] = add" not in body
    assert "f64[500] = broadcast_to" not in body
