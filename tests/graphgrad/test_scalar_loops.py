"""Loops of Python source whose state is numbers: values, gradients, and what they are made into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphgrad as gg


@gg.function
def longest(limit: Any) -> Any:
    best = 0
    for start in gg.range(1, limit):
        n = start
        count = 0
        while n != 1:
            if n % 2 == 0:
                n = n // 2
            else:
                n = 3 * n + 1
            count += 1
        best = gg.maximum(best, count)
    return best


@gg.function
def escapes(width: Any, limit: Any) -> Any:
    total = 0
    for row in gg.range(width):
        for column in gg.range(width):
            a = gg.cast(row, "float64") * 3.0 / gg.cast(width, "float64") - 2.0
            b = gg.cast(column, "float64") * 3.0 / gg.cast(width, "float64") - 1.5
            x = a * 0.0
            y = a * 0.0
            i = 0
            while x * x + y * y <= 4.0 and i < limit:
                x, y = x * x - y * y + a, 2.0 * x * y + b
                i += 1
            total += i
    return total


def settle(r: Any, xs: Any) -> Any:
    y = r * 0.5
    for x in xs:
        if y > x:
            y = r * y * (1.0 - y) + gg.sin(x)
        else:
            y = gg.cos(y) * x + r
    return y


def native(f: Any) -> bool:
    return "NumPy call" not in str(f.report())


def test_collatz() -> None:
    assert longest(30).numpy() == 111
    assert longest(2).numpy() == 0


def test_mandelbrot() -> None:
    def expected(width: int, limit: int) -> int:
        total = 0
        for row in range(width):
            for column in range(width):
                a, b = row * 3.0 / width - 2.0, column * 3.0 / width - 1.5
                x = y = 0.0
                i = 0
                while x * x + y * y <= 4.0 and i < limit:
                    x, y = x * x - y * y + a, 2.0 * x * y + b
                    i += 1
                total += i
        return total

    for dtype in ("int32", "int64"):
        width, limit = gg.constant(12, dtype), gg.constant(30, dtype)
        assert escapes(width, limit).numpy() == expected(12, 30)


@pytest.mark.parametrize("n", [1, 40])
def test_gradients_of_any_order(n: int) -> None:
    def slope(r: Any, xs: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(r)
            y = settle(r, xs)
        return tape.gradient(y, r)

    def bend(r: Any, xs: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(r)
            y = compiled(r, xs)
        return tape.gradient(y, r)

    compiled, twice = gg.function(slope), gg.function(bend)
    xs = gg.constant(np.linspace(-1.0, 0.6, n), "float64")
    h = 1e-6
    for start in (0.7, 1.1):
        r = gg.constant(start, "float64")
        value = compiled(r, xs).numpy()
        ends = [settle(gg.constant(start + d, "float64"), xs).numpy() for d in (-h, h)]
        np.testing.assert_allclose(value, (ends[1] - ends[0]) / (2 * h), rtol=1e-5, atol=1e-7)
        slopes = [compiled(gg.constant(start + d, "float64"), xs).numpy() for d in (-h, h)]
        second = twice(r, xs).numpy()
        np.testing.assert_allclose(second, (slopes[1] - slopes[0]) / (2 * h), rtol=1e-4, atol=1e-4)
    assert native(compiled)
    assert "loop k_scan" in str(compiled.report())


def test_roofline_measures_them() -> None:
    f = gg.function(settle)
    r, xs = gg.constant(0.7, "float64"), gg.constant(np.linspace(-1.0, 0.6, 40), "float64")
    assert "loop k_scan" in str(gg.roofline(f, r, xs))


def test_the_reverse_is_left_with_sums_and_products() -> None:
    """What the reverse would compute with functions is stacked; of vectors it is not."""

    def slope(x: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in gg.range(9):
                y = gg.sin(y * 0.9) + gg.exp(y * 0.1)
        return tape.gradient(y, x)

    few = gg.function(slope)
    x = np.array([0.3, 0.4])
    found = few(gg.constant(x)).numpy()
    reverse = few.ir().split("graph reverse of")[-1]
    assert not any(f" {name} " in reverse for name in ("sin", "cos", "exp"))
    y, d = x, np.ones(2)
    for _ in range(9):
        d = d * (np.cos(y * 0.9) * 0.9 + np.exp(y * 0.1) * 0.1)
        y = np.sin(y * 0.9) + np.exp(y * 0.1)
    np.testing.assert_allclose(found, d, rtol=1e-13)
    many = gg.function(slope)
    many(gg.constant(np.full(500, 0.3)))
    assert " cos " in many.ir().split("graph reverse of")[-1]
