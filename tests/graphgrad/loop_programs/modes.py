"""The ways in which a program is run and differentiated, each told by what NumPy makes of it.

A derivative is a number: that of the weighted sum of a program's results along one direction in all
of its floats at once. So finite differences of NumPy's values tell all of them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import graphgrad as gg
from tests.graphgrad.loop_programs.program import Program

EXAMPLES = 3


def leaves(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def run_by_numpy(p: Program, args: Any) -> list[Any]:
    """The results of the program on arrays; those of no axes are NumPy's scalars, as in a loop."""
    with np.errstate(all="ignore"):
        return leaves(p.f(*(a.copy() if a.ndim else a[()] for a in args)))


def weights(y: Any) -> Any:
    places = gg.cast(gg.range(gg.size(y)), gg.float64)
    return gg.reshape(gg.cos(places + 0.5), gg.shape(y))


def loss_of(f: Any) -> Any:
    """The weighted sum of the results of `f` that are floats."""

    def loss(*args: Any) -> Any:
        found = [gg.convert_to_tensor(y) for y in leaves(f(*args))]
        return gg.add_n([gg.reduce_sum(y * weights(y)) for y in found if y.dtype.is_floating])

    return loss


def numbers_loss(p: Program, args: Any) -> float:
    found = [np.asarray(y) for y in run_by_numpy(p, args)]
    return sum(
        float(np.sum(y * np.cos(np.arange(y.size) + 0.5).reshape(y.shape)))
        for y in found if y.dtype.kind == "f"
    )  # fmt: skip


def direction(p: Program) -> list[Any]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=p.args[k].shape) for k in p.places]


def moved(p: Program, step: float, args: Any = None) -> list[Any]:
    """The arguments, a step along the direction."""
    found = list(p.args if args is None else args)
    for k, d in zip(p.places, direction(p), strict=True):
        found[k] = found[k] + step * d
    return found


def slope(p: Program, args: Any = None, h: float = 1e-5) -> float:
    ends = [numbers_loss(p, moved(p, s, args)) for s in (-2 * h, -h, h, 2 * h)]
    return (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)


def curvature(p: Program, h: float = 5e-4) -> float:
    ends = [numbers_loss(p, moved(p, s)) for s in (-2 * h, -h, 0, h, 2 * h)]
    return float(np.dot(ends, [-1, 16, -30, 16, -1])) / (12 * h * h)


def lifted(args: Any) -> list[Any]:
    return [gg.constant(a) for a in args]


def along(p: Program, gradients: Any) -> Any:
    """The derivative along the direction, from those in all floats."""
    return gg.add_n([gg.reduce_sum(g * d) for g, d in zip(gradients, direction(p), strict=True)])


def open_sizes(p: Program) -> list[Any]:
    return [gg.TensorSpec([None] * a.ndim, a.dtype.name) for a in p.args]


def examples(p: Program) -> tuple[list[Any], tuple[Any, ...]]:
    """Examples whose floats differ, and the axes that vmap takes them along."""
    batched = [
        np.stack([a * (1 + 0.01 * k) for k in range(EXAMPLES)]) if a.dtype.kind == "f" else a
        for a in p.args
    ]
    return batched, tuple(0 if k in p.places else None for k in range(len(p.args)))


def example(p: Program, batched: list[Any], k: int) -> list[Any]:
    return [x[k] if i in p.places else x for i, x in enumerate(batched)]


def eagerly(f: Any) -> Any:
    @functools.wraps(f)
    def run(*args: Any) -> Any:
        gg.config.run_functions_eagerly(True)
        try:
            return gg.function(f)(*args)
        finally:
            gg.config.run_functions_eagerly(False)

    return run


# Values: a function of the program gives pairs of what was found and what NumPy says.


def compiled(p: Program) -> Any:
    args = lifted(p.args)
    found = leaves(gg.function(p.f)(*args))
    for a, b in zip(args, p.args, strict=True):
        np.testing.assert_array_equal(a, b, err_msg="an argument has changed")
    return zip(found, run_by_numpy(p, p.args), strict=True)


def eager(p: Program) -> Any:
    return zip(leaves(eagerly(p.f)(*lifted(p.args))), run_by_numpy(p, p.args), strict=True)


def of_open_sizes(p: Program) -> Any:
    found = gg.function(p.f, input_signature=open_sizes(p))(*lifted(p.args))
    return zip(leaves(found), run_by_numpy(p, p.args), strict=True)


def of_examples(p: Program) -> Any:
    batched, axes = examples(p)
    found = leaves(gg.function(gg.vmap(p.f, in_axes=axes))(*lifted(batched)))
    each = [run_by_numpy(p, example(p, batched, k)) for k in range(EXAMPLES)]
    return zip(found, map(np.stack, zip(*each, strict=True)), strict=True)


# Derivatives along the direction: what was found.


def gradient(p: Program) -> Any:
    return along(p, gg.function(gg.grad(loss_of(p.f), argnums=p.places))(*lifted(p.args)))


def tape_around(p: Program) -> Any:
    args, f = lifted(p.args), gg.function(p.f)
    with gg.GradientTape() as tape:
        tape.watch([args[k] for k in p.places])
        y = loss_of(f)(*args)
    sources = [args[k] for k in p.places]
    return along(p, tape.gradient(y, sources, unconnected_gradients="zero"))


def eager_gradient(p: Program) -> Any:
    return along(p, gg.grad(loss_of(eagerly(p.f)), argnums=p.places)(*lifted(p.args)))


def one_by_one(p: Program) -> Any:
    args = lifted(p.args)
    return along(p, [gg.function(gg.grad(loss_of(p.f), argnums=k))(*args) for k in p.places])


def gradient_of_open_sizes(p: Program) -> Any:
    f = gg.grad(loss_of(p.f), argnums=p.places)
    return along(p, gg.function(f, input_signature=open_sizes(p))(*lifted(p.args)))


def pushed(p: Program, f: Any, args: Any) -> Any:
    """The tangent of `f` along the direction."""

    def of_floats(*floats: Any) -> Any:
        given = list(args)
        for k, x in zip(p.places, floats, strict=True):
            given[k] = x
        return f(*given)

    tangents = tuple(map(gg.constant, direction(p)))
    return gg.jvp(of_floats, tuple(args[k] for k in p.places), tangents)[1]


def forward(p: Program) -> Any:
    return gg.function(lambda *args: pushed(p, loss_of(p.f), args))(*lifted(p.args))


def gradients_of_examples(p: Program) -> Any:
    batched, axes = examples(p)
    one = gg.vmap(gg.grad(loss_of(p.f), argnums=p.places), in_axes=axes)
    return along(p, gg.function(one)(*lifted(batched)))


def gradient_of_all_examples(p: Program) -> Any:
    batched, axes = examples(p)
    losses = gg.vmap(loss_of(p.f), in_axes=axes)
    total = gg.grad(lambda *args: gg.reduce_sum(losses(*args)), argnums=p.places)
    return along(p, gg.function(total)(*lifted(batched)))


def reverse_over_reverse(p: Program) -> Any:
    first = gg.grad(loss_of(p.f), argnums=p.places)
    second = gg.grad(lambda *args: along(p, first(*args)), argnums=p.places)
    return along(p, gg.function(second)(*lifted(p.args)))


def forward_over_reverse(p: Program) -> Any:
    first = gg.grad(loss_of(p.f), argnums=p.places)
    return gg.function(lambda *args: along(p, pushed(p, first, args)))(*lifted(p.args))


def tape_around_a_gradient(p: Program) -> Any:
    args, first = lifted(p.args), gg.function(gg.grad(loss_of(p.f), argnums=p.places))
    sources = [args[k] for k in p.places]
    with gg.GradientTape() as tape:
        tape.watch(sources)
        y = along(p, first(*args))
    return along(p, tape.gradient(y, sources, unconnected_gradients="zero"))


VALUES = (eager, of_open_sizes, of_examples)
FIRST = (tape_around, eager_gradient, one_by_one, gradient_of_open_sizes, forward,
         gradients_of_examples, gradient_of_all_examples)  # fmt: skip
SECOND = (reverse_over_reverse, forward_over_reverse, tape_around_a_gradient)
OF_SIZES = (of_open_sizes, gradient_of_open_sizes)
OF_EXAMPLES = (of_examples, gradients_of_examples, gradient_of_all_examples)


def fits(p: Program, mode: Any) -> bool:
    """Is a mode one for a program?"""
    if p.order < (mode in FIRST) + 2 * (mode in SECOND):
        return False
    if mode in OF_SIZES:
        return p.sizes
    return mode not in OF_EXAMPLES or (p.examples and bool(p.places))


def check(p: Program, mode: Any) -> None:
    """Run a program in one mode, and compare."""
    if mode in (compiled, *VALUES):
        for found, wanted in mode(p):
            y = np.asarray(found)
            assert y.shape == np.shape(wanted)
            size = float(np.max(np.abs(wanted), initial=0.0))
            np.testing.assert_allclose(y, wanted, rtol=p.rtol, atol=p.rtol * size)
        return
    found = float(mode(p))
    if mode in SECOND:
        np.testing.assert_allclose(found, curvature(p), rtol=1e-4, atol=1e-5)
    elif mode in (gradients_of_examples, gradient_of_all_examples):
        batched = examples(p)[0]
        wanted = [slope(p, example(p, batched, k)) for k in range(EXAMPLES)]
        np.testing.assert_allclose(found, sum(wanted), rtol=1e-6, atol=1e-7)
    else:
        np.testing.assert_allclose(found, slope(p), rtol=1e-6, atol=1e-7)
