"""Newton's method: second derivatives from nested tapes, from `gg.hessian`, and by products alone.

Rosenbrock's function has a curved valley in which gradient descent crawls. Newton's method solves
H d = g for its step d, and arrives in a few. With many variables H is not built: products of H with
vectors come from forward mode over reverse, and conjugate gradients solve the system with these.

    python -m examples.newton
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphgrad as gg


def rosenbrock(x: Any) -> Any:
    """The sum of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2; its minimum is 0, at all ones."""
    return gg.reduce_sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


@gg.function
def derivatives(x: Any) -> tuple[Any, Any, Any]:
    """Value, gradient and Hessian by nested tapes, in one program."""
    with gg.GradientTape() as outer:
        outer.watch(x)
        with gg.GradientTape() as inner:
            inner.watch(x)
            y = rosenbrock(x)
        gradient = inner.gradient(y, x)
    return y, gradient, outer.jacobian(gradient, x)


def newton(start: Any, steps: int = 50, tolerance: float = 1e-12) -> list[Any]:
    """The points of Newton's method, damped: a step that does not improve is halved."""
    points = [np.asarray(start, np.float64)]
    for _ in range(steps):
        y, gradient, hessian = (np.asarray(v) for v in derivatives(points[-1]))
        if np.linalg.norm(gradient) < tolerance:
            break
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while float(rosenbrock(gg.constant(points[-1] - scale * step))) > y and scale > 1e-6:
            scale /= 2
        points.append(points[-1] - scale * step)
    return points


@gg.function
def gradient_and_product(x: Any, v: Any) -> tuple[Any, Any]:
    """The gradient at x, and the Hessian there times v, without the Hessian."""
    gradient, product = gg.jvp(gg.grad(rosenbrock), (x,), (v,))
    return gradient, product


def newton_by_products(start: Any, steps: int = 60) -> Any:
    """Newton's method whose systems are solved by conjugate gradients."""
    x = np.asarray(start, np.float64)
    for _ in range(steps):
        gradient = np.asarray(gradient_and_product(x, np.zeros_like(x))[0])
        if np.linalg.norm(gradient) < 1e-10:
            break
        d, r = np.zeros_like(x), -gradient
        p, size = r.copy(), r @ r
        for _ in range(2 * len(x)):
            hp = np.asarray(gradient_and_product(x, p)[1])
            curvature = p @ hp
            if curvature <= 0:  # the Hessian is not positive here: go on with what there is
                d = d if d.any() else p
                break
            d, r = d + size / curvature * p, r - size / curvature * hp
            size, before = r @ r, size
            if size < 1e-20:
                break
            p = r + size / before * p
        scale, y = 1.0, float(rosenbrock(gg.constant(x)))
        while float(rosenbrock(gg.constant(x + scale * d))) > y and scale > 1e-8:
            scale /= 2
        x = x + scale * d
    return x


def main(show: Callable[[str], Any] = print) -> None:
    points = newton([-1.2, 1.0])
    show(f"Newton from (-1.2, 1): {len(points) - 1} steps, ends at {points[-1]}")
    assert np.allclose(points[-1], 1.0, atol=1e-10)
    assert len(points) < 30

    x = gg.constant(np.array([-1.2, 1.0]))
    exact = np.array([[1330.0, 480.0], [480.0, 200.0]])  # by hand
    assert np.allclose(derivatives(x)[2], exact)
    assert np.allclose(gg.hessian(rosenbrock)(x), exact)

    many = newton_by_products(np.full(50, 0.5))
    show(f"50 variables, products alone: largest distance from 1 is {np.abs(many - 1).max():.1e}")
    assert np.allclose(many, 1.0, atol=1e-7)


if __name__ == "__main__":
    main()
