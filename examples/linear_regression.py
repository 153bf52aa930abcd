"""A line through noisy points, four ways with one result.

1. The derivative by hand, in a Python loop over NumPy arrays.
2. An eager tape.
3. The same step as a compiled function.
4. A loss with a Python loop over the points, differentiated and compiled as it is written.

    python -m examples.linear_regression
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import graphgrad as gg

SLOPE, OFFSET = 1.477, 0.089
RATE, STEPS = 0.01, 1000

Way = tuple[Callable[[], Any], Callable[[], tuple[float, float]]]  # a step; the line as it is now


def data(seed: int = 0) -> tuple[Any, Any]:
    """100 points about the line: float64 arrays x and y."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-10, 10, 100)
    return x, SLOPE * x + OFFSET + rng.normal(0, 0.01, 100)


def by_hand(x: Any, y: Any) -> Way:
    """d/dw mean (w x + b - y)^2 = mean 2 (w x + b - y) x, and without x for b."""
    w = b = 0.0

    def step() -> None:
        nonlocal w, b
        error = w * x + b - y
        w, b = w - RATE * np.mean(2 * error * x), b - RATE * np.mean(2 * error)

    return step, lambda: (float(w), float(b))


def by_tape(x: Any, y: Any) -> Way:
    """The same step with a tape in the place of the formulas."""
    w, b = gg.Variable(np.float64(0)), gg.Variable(np.float64(0))
    xs, ys = gg.constant(x), gg.constant(y)

    def step() -> None:
        with gg.GradientTape() as tape:
            loss = gg.reduce_mean((w * xs + b - ys) ** 2)
        for v, gradient in zip((w, b), tape.gradient(loss, (w, b)), strict=True):
            v.assign_sub(RATE * gradient)

    return step, lambda: (float(w), float(b))


def compiled(x: Any, y: Any) -> Way:
    """That step as a compiled function."""
    step, line = by_tape(x, y)
    return gg.function(step), line


def mean_square(w: Any, b: Any, xs: Any, ys: Any) -> Any:
    """Point by point, as one writes it before there is any library."""
    total = 0.0
    for x, y in zip(xs, ys):
        error = w * x + b - y
        total += error**2
    return total / len(xs)


def by_points(x: Any, y: Any) -> Way:
    """`mean_square` becomes one loop of the compiled step, and its derivative another."""
    w, b = gg.Variable(np.float64(0)), gg.Variable(np.float64(0))
    xs, ys = gg.constant(x), gg.constant(y)

    @gg.function
    def step() -> None:
        with gg.GradientTape() as tape:
            loss = mean_square(w, b, xs, ys)
        for v, gradient in zip((w, b), tape.gradient(loss, (w, b)), strict=True):
            v.assign_sub(RATE * gradient)

    return step, lambda: (float(w), float(b))


def main(steps: int = STEPS, show: Callable[[str], Any] = print) -> None:
    x, y = data()
    results = {}
    ways = {
        "by hand": by_hand, "eager tape": by_tape, "compiled": compiled, "by points": by_points
    }  # fmt: skip
    for name, way in ways.items():
        step, line = way(x, y)
        times = [time.perf_counter()]
        for _ in range(steps):
            step()
            times.append(time.perf_counter())
        w, b = results[name] = line()
        first, rest = times[1] - times[0], (times[-1] - times[1]) / (steps - 1)
        show(
            f"{name:>10}: y = {w:.6f} x + {b:.6f}; first step {1e3 * first:7.2f} ms, "
            f"then {1e6 * rest:6.1f} us each"
        )
    for name, found in results.items():
        assert np.allclose(found, results["by hand"], rtol=1e-10, atol=1e-10), name
    assert np.allclose(results["compiled"], (SLOPE, OFFSET), atol=0.01)

    plain, same = mean_square(SLOPE, OFFSET, x, y), gg.function(mean_square)(SLOPE, OFFSET, x, y)
    show(f"mean square of the points: {plain:.6e} by Python, {float(same):.6e} compiled")
    assert np.isclose(plain, same, rtol=1e-12)


if __name__ == "__main__":
    main()
