"""A state that is stacked before and after each step has one stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.op import ops
from tests.compiler.compiling import check, compile_full, graph_of, run_compiled, samples, t

N = 40  # elements of the state
F = "float64"


def scanned(
    s: Any, xs: Any, outputs: Callable[[Any, Any], Any], reverse: bool = False
) -> tuple[Any, ...]:
    """The last state, and what `outputs` makes of the state before and after each step."""
    entry = t(*xs.type.shape[1:], dtype=F)

    def step(s: Any, x: Any) -> Any:
        after = ops["tanh"](s * 0.5 + x)
        return [after, *outputs(s, after)]

    return tuple(
        ops["scan"](
            s, xs, body_graph=graph_of(step, s.type, entry), carried=1, scanned=1,
            length=xs.type.shape[0], reverse=reverse, masked=False,
        )
    )  # fmt: skip


def both(s: Any, after: Any) -> Any:
    return [s, after]


def products(s: Any, xs: Any, reverse: bool = False, outputs: Any = both) -> Any:
    """What reads both stacks in kernels."""
    last, before, after, *more = scanned(s, xs, outputs, reverse)
    return [last, (before * after * 3.0).sum((0,)), *(m.sum((0,)) for m in more)]


def arena(fn: Any, *types: Any) -> Any:
    return compile_full(graph_of(fn, *types)).program.arena_bytes


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_results_are_those_of_the_interpreter(steps: int, reverse: bool) -> None:
    types = t(N, dtype=F), t(steps, N, dtype=F)
    check(graph_of(lambda s, xs: products(s, xs, reverse), *types), samples(types))


@pytest.mark.parametrize("reverse", [False, True])
def test_there_is_one_stack(reverse: bool) -> None:
    steps, row = 50, N * 8
    types = t(N, dtype=F), t(steps, N, dtype=F)
    apart = arena(lambda s, xs: products(s, xs, reverse, lambda s, a: [s + 1.0, a]), *types)
    shared = arena(lambda s, xs: products(s, xs, reverse), *types)
    assert apart - shared >= (steps - 3) * row
    assert shared < (steps + 8) * row


def test_stacks_that_are_returned_stay_apart() -> None:
    types = t(N, dtype=F), t(6, N, dtype=F)
    for k in (1, 2):
        check(graph_of(lambda s, xs, k=k: [scanned(s, xs, both)[k], *products(s, xs)], *types),
              samples(types))  # fmt: skip


def test_a_stack_that_is_updated_later_is_its_own() -> None:
    def fn(s: Any, xs: Any) -> Any:
        _, before, after = scanned(s, xs, both)
        changed = ops["update_slice"](after, ops["slice"](xs, (0, 0), (2, N), (1, 1)), (1, 0))
        return [(changed * 2.0).sum((0,)), (before * 3.0).sum((0,))]

    types = t(N, dtype=F), t(6, N, dtype=F)
    check(graph_of(fn, *types), samples(types))


def test_in_a_loop_within() -> None:
    def step(s: Any, xs: Any) -> Any:
        last, total = products(s, xs)
        return [last + 0.1 * total, total]

    def fn(s: Any, xs: Any) -> Any:
        body = graph_of(step, s.type, t(5, N, dtype=F))
        return list(ops["scan"](
            s, xs, body_graph=body, carried=1, scanned=1, length=3, reverse=False, masked=False
        ))  # fmt: skip

    types = t(N, dtype=F), t(3, 5, N, dtype=F)
    check(graph_of(fn, *types), samples(types))


def test_more_outputs_keep_their_places() -> None:
    def outputs(s: Any, after: Any) -> Any:
        return [s, after, s + after, s * 2.0, s]

    types = t(N, dtype=F), t(6, N, dtype=F)
    check(graph_of(lambda s, xs: products(s, xs, False, outputs), *types), samples(types))


def test_unknown_numbers_of_steps() -> None:
    n = DimScope().symbol("n", 1, 0)
    types = t(N, dtype=F), t(n, N, dtype=F)
    compilation = compile_full(graph_of(products, *types))
    for steps in (0, 1, 9):
        s, xs = samples(types, sizes=(steps,))
        state, total = s, np.zeros(N)
        for x in xs:
            after = np.tanh(state * 0.5 + x)
            total, state = total + 3.0 * state * after, after
        found = run_compiled(compilation, (s, xs))
        np.testing.assert_allclose(found[0], state, rtol=1e-12)
        np.testing.assert_allclose(found[1], total, rtol=1e-12, atol=1e-12)
