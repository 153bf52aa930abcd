"""A pendulum's stiffness and damping from observations: the gradient goes through the solver.

The solver, Runge and Kutta's method of fourth order, is a Python loop over the observations, and
becomes a loop of the compiled step. The window of observations grows as the fit gets better, since
over many swings a wrong frequency has wrong local minima. All windows share one trace.

    python -m examples.pendulum
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphgrad as gg

H = 0.05  # seconds between observations
STIFFNESS, DAMPING = 9.81, 0.25
ANGLE, SPEED = 1.2, 0.0  # at the start


def advance(angle: Any, speed: Any, stiffness: Any, damping: Any) -> tuple[Any, Any]:
    """Angle and speed after H seconds of angle'' = -stiffness sin angle - damping angle'."""

    def acceleration(x: Any, v: Any) -> Any:
        return -stiffness * gg.sin(x) - damping * v

    v1, a1 = speed, acceleration(angle, speed)
    v2 = speed + H / 2 * a1
    a2 = acceleration(angle + H / 2 * v1, v2)
    v3 = speed + H / 2 * a2
    a3 = acceleration(angle + H / 2 * v2, v3)
    v4 = speed + H * a3
    a4 = acceleration(angle + H * v3, v4)
    return (
        angle + H / 6 * (v1 + 2 * v2 + 2 * v3 + v4),
        speed + H / 6 * (a1 + 2 * a2 + 2 * a3 + a4),
    )


def error(parameters: Any, observed: Any) -> Any:
    """The mean square of the angles' errors."""
    stiffness, damping = gg.unstack(gg.exp(parameters))  # both are positive
    angle, speed = gg.constant(ANGLE, gg.float64), gg.constant(SPEED, gg.float64)
    total = 0.0
    for seen in observed:
        angle, speed = advance(angle, speed, stiffness, damping)
        total += (angle - seen) ** 2
    return total / len(observed)


def observations(count: int, noise: float, seed: int = 0) -> Any:
    """Angles of the true pendulum with errors, float64."""
    angle, speed, angles = np.float64(ANGLE), np.float64(SPEED), []
    for _ in range(count):
        angle, speed = advance(angle, speed, STIFFNESS, DAMPING)
        angles.append(np.asarray(angle))
    return np.array(angles) + np.random.default_rng(seed).normal(0, noise, count)


def fit(observed: Any, windows: tuple[int, ...], steps: int, show: Callable[[str], Any]) -> Any:
    """Stiffness and damping, from Adam on their logarithms."""
    parameters = gg.Variable(np.log([4.0, 1.0]))
    optimizer = gg.optimizers.Adam(learning_rate=0.05)

    @gg.function(input_signature=[gg.TensorSpec([None], gg.float64)])
    def step(seen: Any) -> Any:
        with gg.GradientTape() as tape:
            loss = error(parameters, seen)
        optimizer.apply_gradients([(tape.gradient(loss, parameters), parameters)])
        return loss

    for window in windows:
        for _ in range(steps):
            loss = step(gg.constant(observed[:window]))
        stiffness, damping = np.exp(parameters.numpy())
        show(
            f"{window * H:4.1f} s: stiffness {stiffness:.4f}, damping {damping:.4f}, "
            f"error {float(loss) ** 0.5:.4f}"
        )
    assert len(step.traces()) == 1
    return stiffness, damping


def main(show: Callable[[str], Any] = print) -> None:
    observed = observations(400, noise=0.02)
    stiffness, damping = fit(observed, (20, 50, 100, 200, 400), 150, show)
    assert abs(stiffness / STIFFNESS - 1) < 0.005
    assert abs(damping / DAMPING - 1) < 0.05

    at = np.log([4.0, 1.0])
    gradient = np.asarray(gg.function(gg.grad(error))(at, observed[:50]))
    by_differences = [
        float(error(gg.constant(at + d), observed[:50]) - error(gg.constant(at - d), observed[:50]))
        / 2e-5
        for d in 1e-5 * np.eye(2)
    ]
    show(f"gradient {gradient}, by differences {np.array(by_differences)}")
    assert np.allclose(gradient, by_differences, rtol=1e-6)


if __name__ == "__main__":
    main()
