"""Python numbers that loops carry take the dtype of what they meet, wherever they meet it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphgrad as gg

X = np.arange(6.0).reshape(2, 3)


def in_a_loop_within(x: Any, n: Any, m: Any) -> Any:
    total = 0
    for i in range(n):
        for j in range(m):
            total = total + x[i, j]
    return total


def in_one_branch(x: Any, n: Any, m: Any) -> Any:
    best = 0
    for i in range(n):
        for j in range(m):
            if x[i, j] > best:
                best = x[i, j]
    return best


def after_a_break(x: Any, n: Any, m: Any) -> Any:
    total = 0
    for i in range(n):
        if total > 100:
            break
        total = total + x[i, 0]
    return total


def made_of_it_in_the_other_branch(x: Any, n: Any, m: Any) -> Any:
    low, high = 0, 0
    for i in range(n):
        for j in range(m):
            if x[i, j] > 3:
                high = high + x[i, j]
            elif x[i, j] > 1:
                high = high + 1
            else:
                low = high * 2 + 1
    return low, high


def in_containers(x: Any, n: Any, m: Any) -> Any:
    found = {"sum": 0, "list": [0, 1]}
    for i in range(n):
        for j in range(m):
            if x[i, j] > 1:
                found["sum"] = found["sum"] + x[i, j]
            found["list"][1] += x[i, j]
    return found["sum"], found["list"][1]


def set_within_alone(x: Any, n: Any, m: Any) -> Any:
    s = 0
    for i in range(n):
        t = s * 2
        if t < 100:
            s = s + x[i, 1]
    return s, t


FUNCTIONS = (in_a_loop_within, in_one_branch, after_a_break, made_of_it_in_the_other_branch,
             in_containers, set_within_alone)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32"])
@pytest.mark.parametrize("f", FUNCTIONS)
def test_dtypes_found_within(f: Any, dtype: str) -> None:
    x, n, m = gg.constant(X, dtype), gg.constant(2), gg.constant(3)
    found, wanted = gg.function(f)(x, n, m), f(X, 2, 3)
    for a, b in zip(_leaves(found), _leaves(wanted)):
        assert float(a) == float(b)
    assert _leaves(found)[-1].dtype.name == dtype


def _leaves(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def test_what_no_number_explains_is_an_error() -> None:
    def f(x: Any, n: Any) -> Any:
        s = gg.constant(0.0)
        for _ in range(n):
            for v in x:
                s = s + v
        return s

    with pytest.raises(gg.errors.DTypeError, match="float32 before the loop, but dtype float64"):
        gg.function(f)(gg.constant(X[0]), gg.constant(2))


def test_exceptions_of_users_do_not_keep_a_guess() -> None:
    def f(x: Any, n: Any, m: Any) -> Any:
        s = 0.0
        for i in range(n):
            try:
                for j in range(m):
                    s = s + x[i, j]
            except Exception:
                s = -1.0
        return s

    assert float(gg.function(f)(gg.constant(X), gg.constant(2), gg.constant(3))) == 15


def cooled(x: Any, n: Any) -> Any:
    heat = 2.0
    for _ in range(n):
        x = x + heat * np.sin(x)
        heat *= 0.9
    return x, heat


def cooled_within(x: Any, n: Any) -> Any:
    heat = 0.1
    for _ in range(n):
        for _ in range(n):
            if x < 10.0:
                x = x + heat * x
            heat = heat * 0.7
    return x, heat


def asked_alone(x: Any, n: Any) -> Any:
    t = 0.0
    while t < x:
        t = t + 0.1
    return t, t


def halved(x: Any, n: Any) -> Any:
    low, high = 0.0, 1.0
    for _ in range(n):
        middle = (low + high) / 2
        if middle * middle > x:
            high = middle
        else:
            low = middle
    return low, high


@pytest.mark.parametrize("f", [cooled, cooled_within, asked_alone, halved])
def test_floats_that_meet_float64_keep_all_digits(f: Any) -> None:
    for a, b in zip(gg.function(f)(gg.constant(0.3, gg.float64), gg.constant(6)), f(0.3, 6)):
        assert a.dtype is gg.float64
        np.testing.assert_allclose(a, b, rtol=1e-15)
    for a in gg.function(f)(gg.constant(0.3), gg.constant(6)):
        assert a.dtype is gg.float32


def test_floats_that_meet_both_are_float32() -> None:
    @gg.function
    def f(x: Any, y: Any, n: Any) -> Any:
        h = 0.1
        for _ in range(n):
            x, y, h = x + h, y + h, h * 0.7
        return x, y, h

    found = f(gg.constant(0.0, gg.float64), gg.constant(0.0), gg.constant(4))
    assert [t.dtype for t in found] == [gg.float64, gg.float32, gg.float32]
