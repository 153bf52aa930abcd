"""State that a kernel makes of the old state element by element is written over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.op import ops
from tests.compiler.compiling import check, compile_full, graph_of, t
from tests.compiler.test_native_loops import scan

F = "float64"
N = 400


def turned(x: Any) -> Any:
    return ops["slice"](x, (N - 1,), (N,), (-1,))


STEPS: dict[str, Callable[..., Any]] = {
    "its own": lambda a, b, x: [a * 0.5 + x, b + 1.0],
    "two in one": lambda a, b, x: [a * 0.9 + x, b - (a * 0.9 + x)],
    "crossed": lambda a, b, x: [b + x, a * 0.5],
    "read later": lambda a, b, x: [a + x, b + turned(a)],
    "turned": lambda a, b, x: [turned(a) + x, b + 1.0],
    "stacked": lambda a, b, x: [a + x, b + 1.0, a + x, b],
    "scaled": lambda a, b, x: [a / (1.0 + (a * a).sum((0,))) + x, b * (a * b).sum((0,)) + x],
}


def looped(name: str, steps: int) -> Callable[..., Any]:
    def fn(a: Any, b: Any, xs: Any) -> Any:
        body = graph_of(STEPS[name], a.type, b.type, t(N, dtype=F))
        return scan(body, a, b, xs, carried=2, scanned=1, length=steps)

    return fn


@pytest.mark.parametrize("name", STEPS)
def test_results_are_those_of_the_interpreter(name: str) -> None:
    for steps in (1, 2, 5):
        check(looped(name, steps), t(N, dtype=F), t(N, dtype=F), t(steps, N, dtype=F))


@pytest.mark.parametrize("name", ["its own", "two in one"])
def test_such_state_has_one_memory(name: str) -> None:
    graph = graph_of(looped(name, 5), t(N, dtype=F), t(N, dtype=F), t(5, N, dtype=F))
    compilation = compile_full(graph)
    (loop,) = (s for s in compilation.steps if s.kind == "loop")
    assert loop.memory == ("in memory, updated in place",) * 2
    assert compilation.program.arena_bytes < N * np.dtype(F).itemsize


@pytest.mark.parametrize("name", ["crossed", "turned"])
def test_other_state_has_two(name: str) -> None:
    graph = graph_of(looped(name, 5), t(N, dtype=F), t(N, dtype=F), t(5, N, dtype=F))
    (loop,) = (s for s in compile_full(graph).steps if s.kind == "loop")
    assert loop.memory[0] == "in two memories by turns"


def test_what_the_caller_gives_stays() -> None:
    """The loop begins with a copy, also within a loop."""

    def step(s: Any, a: Any, b: Any, xs: Any) -> Any:
        end, *_ = looped("its own", 3)(a, b, xs)
        return [s + end, s]

    def fn(a: Any, b: Any, xs: Any) -> Any:
        body = graph_of(step, a.type, a.type, b.type, xs.type)
        outs = scan(body, a, a, b, xs, carried=1, scanned=0, length=4)
        return [*outs, a * 2.0]

    check(fn, t(N, dtype=F), t(N, dtype=F), t(3, N, dtype=F))
