"""The minimum of 5x^3 + 3x^2 - 8x + 10 by gradient descent: optimizers, rates, and divergence.

The local minimum lies where the derivative 15x^2 + 6x - 8 is zero and rising, at
(-3 + sqrt(129)) / 15 = 0.5572. To its left the function falls without end, and to its right it is
steep: from x = 10 a rate of 0.01 steps over everything and ends in NaN, a rate of 0.001 arrives.

    python -m examples.minimum
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

import graphgrad as gg

MINIMUM = (-3 + math.sqrt(129)) / 15


def f(x: Any) -> Any:
    return 5 * x**3 + 3 * x**2 - 8 * x + 10


def descend(start: float, rate: float, steps: int) -> list[float]:
    """x after each step of plain gradient descent: tape, gradient and update are one function."""
    x = gg.Variable(start)

    @gg.function
    def step(rate: Any) -> Any:
        with gg.GradientTape() as tape:
            y = f(x)
        x.assign_sub(rate * tape.gradient(y, x))
        return x.value()

    rate_tensor = gg.constant(rate)
    return [start, *(float(step(rate_tensor)) for _ in range(steps))]


def optimize(optimizer: gg.optimizers.Optimizer, start: float, steps: int) -> float:
    """x after some steps of an optimizer, which takes the loss as a function."""
    x = gg.Variable(start)

    @gg.function
    def step() -> None:
        optimizer.minimize(lambda: f(x), x)

    for _ in range(steps):
        step()
    return float(x)


def save_plot(paths: dict[float, list[float]], file: Path) -> None:
    """x against the step for each rate, on a scale that shows divergence."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for rate, path in paths.items():
        shown = [x for x in path if math.isfinite(x)]
        end = "nan" if len(shown) < len(path) else f"{path[-1]:.3f}"
        axes.plot(shown, marker=".", label=f"rate {rate:g}: ends at {end}")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_xscale("symlog", linthresh=10)
    axes.axhline(MINIMUM, color="gray", linewidth=0.8)
    axes.set_xlabel("step")
    axes.set_ylabel("x")
    axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, bbox_inches="tight")
    plt.close(figure)


def main(plot: Path = Path("build/minimum.svg"), show: Callable[[str], Any] = print) -> None:
    paths = {rate: descend(10.0, rate, 2000) for rate in (0.01, 0.003, 0.001, 0.0003)}
    for rate, path in paths.items():
        show(f"gradient descent from 10 at rate {rate:g}: ends at {path[-1]:.4f}")
    assert math.isnan(paths[0.01][-1]), "0.01 steps over the minimum, and on to infinity"
    for rate in (0.001, 0.0003):
        assert abs(paths[rate][-1] - MINIMUM) < 1e-3

    decay = gg.optimizers.schedules.ExponentialDecay(0.01, decay_steps=100, decay_rate=0.9)
    optimizers = {
        "SGD": gg.optimizers.SGD(0.01),
        "SGD with momentum": gg.optimizers.SGD(0.005, momentum=0.9, nesterov=True),
        "SGD, decaying rate": gg.optimizers.SGD(decay),
        "Adam": gg.optimizers.Adam(0.05),
    }
    for name, optimizer in optimizers.items():
        x = optimize(optimizer, start=2.0, steps=600)
        show(f"{name} from 2: ends at {x:.4f}")
        assert abs(x - MINIMUM) < 1e-3
    save_plot(paths, plot)
    show(f"the minimum is at {MINIMUM:.4f}; {plot} shows the paths")


if __name__ == "__main__":
    main()
