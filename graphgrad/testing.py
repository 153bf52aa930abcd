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
    one random direction. AssertionError names the mode, the order, the two numbers, and the element
    of an argument where they differ most (among the first `ELEMENTS`).

    >>> import graphgrad as gg
    >>> gg.testing.check_grads(lambda x: gg.sin(x) * x, 0.7)
    """
    rng = np.random.default_rng(seed)
    xs = [_double(x) for x in nest.flatten(list(args))]

    def flat(*values: Any) -> Any:
        results = nest.flatten(f(*nest.pack(list(args), values)))
        return [r for r in map(eager_lift, results) if r.dtype.is_inexact]

    names = [path for path, _ in nest.flatten_with_path(list(args))]
    _check(flat, xs, names, order, tuple(modes), step, tolerance, rng, 1)


def eager_lift(x: Any) -> Any:
    """`x` as a tensor, unless it is one."""
    return x if hasattr(x, "dtype") and hasattr(x, "type") else eager.lift(x)


def _double(x: Any) -> Any:
    t = eager.lift(x)
    return t.cast(dtypes.promote(t.dtype, dtypes.float64)) if t.dtype.is_inexact else t


def _random(like: Any, rng: np.random.Generator) -> Any:
    """Normal numbers of the shape of `like`; complex ones where it is complex."""
    found = np.asarray(rng.standard_normal(like.type.shape))
    if like.dtype.is_complex:
        found = np.asarray(found + 1j * rng.standard_normal(like.type.shape))
    return found


def _inner(xs: Sequence[Any], ys: Sequence[Any]) -> float:
    """Re(sum conj(x) y): under it the gradient by a complex x + iy is dL/dx + i dL/dy."""
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in zip(xs, ys)]
    return sum(float(np.real(np.vdot(x, y))) for x, y in pairs)


def _check(
    f: Callable[..., Any], xs: list[Any], names: list[str], order: int, modes: tuple[str, ...],
    step: float, tolerance: float, rng: np.random.Generator, level: int,
) -> None:  # fmt: skip
    moving = [x.dtype.is_inexact for x in xs]
    direction = [_random(x, rng) if m else np.zeros(()) for x, m in zip(xs, moving)]
    weights = [EagerTensor(_random(y, rng)) for y in f(*xs)]

    def along(direction: list[Any]) -> float:
        """The derivative of the weighted sum of the results, by differences."""
        ends = []
        for sign in (1, -1):
            moved = [
                EagerTensor(x.numpy() + d * (sign * step)) if m else x
                for x, d, m in zip(xs, direction, moving)
            ]
            ends.append(_inner(f(*moved), weights))
        return (ends[0] - ends[1]) / (2 * step)

    def reverse(direction: list[Any]) -> float:
        grads = _gradients(f, xs, weights)
        return sum(_inner([g], [d]) for g, d, m in zip(grads, direction, moving) if m)

    def forward(direction: list[Any]) -> float:
        tangents = [EagerTensor(np.asarray(d)) if m else None for d, m in zip(direction, moving)]
        _, ts = jvp(f, xs, tangents)
        return _inner(ts, weights)

    expected = along(direction)
    limit = tolerance * 100 ** (level - 1)
    for mode, slope in (("reverse", reverse), ("forward", forward)):
        if mode not in modes:
            continue
        got = slope(direction)
        if not abs(got - expected) <= limit * max(1.0, abs(expected)):
            raise AssertionError(
                f"{mode} mode, order {level}: the derivative along a random direction is "
                f"{got:.9g}, finite differences give {expected:.9g}; "
                + _worst(slope, along, direction, moving, names)
            )
    if level < order:

        def gradient(*values: Any) -> Any:
            return [g for g, m in zip(_gradients(f, list(values), weights), moving) if m]

        _check(gradient, xs, names, order, modes, step, tolerance, rng, level + 1)


ELEMENTS = 100  # that are looked at one by one where a derivative is wrong


def _worst(
    slope: Callable[..., float], along: Callable[..., float], direction: list[Any],
    moving: list[bool], names: list[str],
) -> str:  # fmt: skip
    """Where two ways to take a derivative differ most, as text."""
    places = [
        (i, index)
        for i, (d, m) in enumerate(zip(direction, moving)) if m
        for index in np.ndindex(*np.shape(d))
    ]  # fmt: skip
    found = []
    for i, index in places[:ELEMENTS]:
        unit = [np.zeros(np.shape(d)) for d in direction]
        unit[i][index] = 1
        got, expected = slope(unit), along(unit)
        error = abs(got - expected) / max(1.0, abs(expected))
        found.append((np.inf if np.isnan(error) else error, i, index, got, expected))
    _, i, index, got, expected = max(found)
    where = f" at {list(index)}" if index else ""
    return f"most by argument {names[i]}{where}: {got:.9g} against {expected:.9g}"


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
