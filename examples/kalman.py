"""A Kalman filter whose noise is found by the gradient of the likelihood.

A cart is pushed at random, and its position is measured badly. How strong both kinds of noise are
is not known; the filter's own likelihood says how well a guess fits. Written as a Python loop over
the measurements, it is differentiated through all of them.

    python -m examples.kalman
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphgrad as gg

H = 0.1
TRANSITION = np.array([[1.0, H], [0.0, 1.0]])
PUSHES = np.array([[H**3 / 3, H**2 / 2], [H**2 / 2, H]])  # their covariance, for strength 1
STRENGTH, NOISE = 0.5, 0.2  # variances


def cart(count: int, seed: int = 1) -> tuple[Any, Any]:
    """True positions, and measured ones: float64[count]."""
    rng = np.random.default_rng(seed)
    state, positions = np.zeros(2), []
    for push in rng.multivariate_normal(np.zeros(2), STRENGTH * PUSHES, count):
        state = TRANSITION @ state + push
        positions.append(state[0])
    return np.array(positions), positions + rng.normal(0, NOISE**0.5, count)


def filtered(strength: Any, noise: Any, measured: Any) -> tuple[Any, Any]:
    """Positions, and minus the logarithm of the likelihood a measurement, but for a constant."""
    mean, covariance = gg.zeros([2], gg.float64), gg.eye(2, dtype=gg.float64)
    loss = 0.0
    positions = []
    for y in measured:
        mean = gg.linalg.matvec(TRANSITION, mean)
        covariance = TRANSITION @ covariance @ TRANSITION.T + strength * PUSHES
        surprise, spread = y - mean[0], covariance[0, 0] + noise
        gain = covariance[:, 0] / spread
        loss += (gg.math.log(spread) + surprise**2 / spread) / 2
        mean = mean + gain * surprise
        covariance = covariance - gain[:, None] * covariance[0]
        positions.append(mean[0])
    return gg.stack(positions), loss / len(measured)


@gg.function
def likelihood(logarithms: Any, measured: Any) -> tuple[Any, Any]:
    """The loss, and its gradient in the logarithms of both variances."""
    with gg.GradientTape() as tape:
        tape.watch(logarithms)
        strength, noise = gg.unstack(gg.exp(logarithms))
        loss = filtered(strength, noise, measured)[1]
    return loss, tape.gradient(loss, logarithms)


def tuned(measured: Any, steps: int = 200, rate: float = 0.1) -> Any:
    """Both variances, by Adam."""
    logarithms = gg.Variable(np.zeros(2))
    optimizer = gg.optimizers.Adam(learning_rate=rate)
    for _ in range(steps):
        gradient = likelihood(logarithms.value(), measured)[1]
        optimizer.apply_gradients([(gradient, logarithms)])
    return np.exp(logarithms.numpy())


def main(show: Callable[[str], Any] = print) -> None:
    positions, measured = cart(2000)
    best = tuned(measured)
    show(f"pushes {best[0]:.3f} (true {STRENGTH}), noise {best[1]:.3f} (true {NOISE})")
    assert np.allclose(best, (STRENGTH, NOISE), rtol=0.3)
    true = likelihood(np.log([STRENGTH, NOISE]), measured)[0]
    assert likelihood(np.log(best), measured)[0] < true  # the truth is not the likeliest

    errors = {}
    for name, variances in {"guess": (1e-3, 1.0), "tuned": best}.items():
        found = gg.function(filtered)(*map(np.float64, variances), measured)[0]
        errors[name] = np.sqrt(np.mean((found.numpy() - positions) ** 2))
    errors["measured"] = np.sqrt(np.mean((measured - positions) ** 2))
    show(f"errors: {', '.join(f'{name} {e:.3f}' for name, e in errors.items())}")
    assert errors["tuned"] < 0.6 * min(errors["guess"], errors["measured"])

    at, h = np.log(best) + 0.5, 1e-5
    gradient = np.asarray(likelihood(at, measured)[1])
    up_down = [[float(likelihood(at + s * d, measured)[0]) for s in (h, -h)] for d in np.eye(2)]
    assert np.allclose(gradient, [(up - down) / (2 * h) for up, down in up_down], rtol=1e-6)
    assert np.abs(np.asarray(likelihood(np.log(best), measured)[1])).max() < 1e-3


if __name__ == "__main__":
    main()
