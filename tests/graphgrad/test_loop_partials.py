"""What loops of numbers keep for their reverse, and the products of cotangents there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphgrad as gg


def midpoint(stiffness: Any, angle: Any, speed: Any) -> Any:
    """A step of it twice; `-stiffness` stands in the loop four times."""

    def acceleration(x: Any) -> Any:
        return -stiffness * gg.sin(x)

    for _ in gg.range(50):
        for _ in range(2):
            half = speed + 0.005 * acceleration(angle)
            turned = angle + 0.005 * speed
            angle, speed = angle + 0.01 * half, speed + 0.01 * acceleration(turned)
    return angle


def test_the_reverse_computes_no_sines() -> None:
    """However often a value of the step was written down."""
    given = [gg.constant(x, gg.float64) for x in (9.81, 1.0, 0.5)]
    f = gg.function(gg.value_and_grad(midpoint, argnums=(0, 1, 2)))
    value, gradients = f(*given)
    forward, reverse = f.ir("after").split("reverse of")
    assert forward.count("= sin ") == forward.count("= cos ") == 4
    assert "= sin " not in reverse
    assert "= cos " not in reverse
    near = [*given]
    for k, g in enumerate(gradients):
        moved = [x + 1e-6 * (i == k) for i, x in enumerate(near)]
        np.testing.assert_allclose((midpoint(*moved) - value) / 1e-6, g, rtol=1e-4)


@pytest.mark.parametrize("start", [0.0, 1.0, -1.0])
def test_a_root_that_was_not_taken_does_not_count(start: float) -> None:
    """0 times the infinite derivative of a root at 0, or the NaN of one below."""

    def last(x: Any, w: Any) -> Any:
        for _ in gg.range(3):
            root = gg.sqrt(x)
            x = gg.where(x > 0.0, root, w * x)
        return x

    x, w = gg.constant(start, gg.float64), gg.constant(2.0, gg.float64)
    _, (gx, gw) = gg.function(gg.value_and_grad(last, argnums=(0, 1)))(x, w)
    expected = {0.0: (8.0, 0.0), 1.0: (0.125, 0.0), -1.0: (8.0, -12.0)}[start]
    np.testing.assert_allclose((gx, gw), expected)


def test_a_derivative_that_is_nan_stays_so() -> None:
    def last(x: Any) -> Any:
        for _ in gg.range(3):
            x = gg.sqrt(x) - 2.0
        return x

    gradient = gg.function(gg.value_and_grad(last))(gg.constant(1.0, gg.float64))[1]
    assert np.isnan(gradient)
