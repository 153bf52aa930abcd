"""gg.testing: are derivatives right? Checked against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler import dtypes
from graphgrad.compiler.op import ops
from graphgrad.eager import EagerTensor, eager
from graphgrad.tape import GradientTape
from graphgrad.transforms import jvp


def check_grads(
    f: Callable[..., Any],
    *args: Any,
    order: int = 2,
    modes: Sequence[str] = ("reverse", "forward"),
    step: float = 1e-5,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> None:
    """Compare the derivatives of `f` at `args` with central differences, up to `order`.

    Floating arguments are taken as float64, complex ones as complex128. Each order is checked along
    one random direction; AssertionError names the argument, the order and the two numbers.

    >>> import graphgrad as gg
    >>> gg.testing.check_grads(lambda x: gg.sin(x) * x, 0.7)
    """
    rng = np.random.default_rng(seed)
    xs = [_double(x) for x in nest.flatten(list(args))]

    def flat(*values: Any) -> Any:
        results = nest.flatten(f(*nest.pack(list(args), values)))
        return [r for r in map(eager_lift, results) if r.dtype.is_inexact]

    _check(flat, xs, order, tuple(modes), step, tolerance, rng, 1)


def eager_lift(x: Any) -> Any:
    """`x` as a tensor, unless it is one."""
    return x if hasattr(x, "dtype") and hasattr(x, "type") else eager.lift(x)


def _double(x: Any) -> Any:
    t = eager.lift(x)
    return t.cast(dtypes.promote(t.dtype, dtypes.float64)) if t.dtype.is_inexact else t


def _random(like: Any, rng: np.random.Generator) -> EagerTensor:
    """Normal numbers of the shape of `like`; complex ones where it is complex."""
    found = np.asarray(rng.standard_normal(like.type.shape))
    if like.dtype.is_complex:
        found = np.asarray(found + 1j * rng.standard_normal(like.type.shape))
    return EagerTensor(found)


def _inner(xs: Sequence[Any], ys: Sequence[Any]) -> float:
    """Re(sum conj(x) y): under it the gradient by a complex x + iy is dL/dx + i dL/dy."""
    return sum(
        float(np.real(np.vdot(x.numpy(), y.numpy()))) for x, y in zip(xs, ys) if y is not None
    )


def _check(
    f: Callable[..., Any], xs: list[Any], order: int, modes: tuple[str, ...], step: float,
    tolerance: float, rng: np.random.Generator, level: int,
) -> None:  # fmt: skip
    moving = [x.dtype.is_inexact for x in xs]
    direction = [_random(x, rng) if m else None for x, m in zip(xs, moving)]
    weights = [_random(y, rng) for y in f(*xs)]

    def along(sign: float) -> float:
        moved = [x if d is None else x + d * (sign * step) for x, d in zip(xs, direction)]
        return _inner(f(*moved), weights)

    expected = (along(1) - along(-1)) / (2 * step)
    if "reverse" in modes:
        grads = _gradients(f, xs, weights)
        _compare("reverse", level, _inner(grads, direction), expected, tolerance)
    if "forward" in modes:
        tangents = [
            eager.lift(np.zeros(x.type.shape)) if d is None else d for x, d in zip(xs, direction)
        ]
        _, ts = jvp(lambda *v: f(*v), xs, tangents)
        _compare("forward", level, _inner(ts, weights), expected, tolerance)
    if level < order:

        def gradient(*values: Any) -> Any:
            return [g for g, m in zip(_gradients(f, list(values), weights), moving) if m]

        _check(gradient, xs, order, modes, step, tolerance, rng, level + 1)


def _gradients(f: Callable[..., Any], xs: list[Any], weights: list[Any]) -> list[Any]:
    xs = [ops["identity"](x) for x in xs]
    floating = [x for x in xs if x.dtype.is_inexact]
    with GradientTape() as tape:
        tape.watch(floating)
        ys = f(*xs)
    found = iter(
        tape.gradient(ys, floating, output_gradients=weights, unconnected_gradients="zero")
    )
    return [next(found) if x.dtype.is_inexact else x for x in xs]


def _compare(mode: str, level: int, got: float, expected: float, tolerance: float) -> None:
    scale = max(1.0, abs(expected))
    if not abs(got - expected) <= tolerance * 100 ** (level - 1) * scale:
        raise AssertionError(
            f"{mode} mode, order {level}: the derivative along a random direction is {got:.9g}, "
            f"finite differences give {expected:.9g}"
        )
