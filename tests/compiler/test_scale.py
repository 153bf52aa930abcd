"""Compiling takes time in proportion to the graph, and large graphs compute the right values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from graphgrad.compiler.codegen import llvm_program
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.kernels import fusion, memory_plan
from graphgrad.compiler.kernels.fusion import Fusion
from graphgrad.compiler.kernels.memory_plan import ALIGNMENT, Lifetime, overlap
from graphgrad.compiler.op import ops
from graphgrad.compiler.pipeline import optimise
from graphgrad.runtime.executor import KernelFailure
from graphgrad.runtime.program import evaluate
from tests.compiler import models
from tests.compiler.compiling import calls_made, check, compile_full, graph_of, prepared, samples, t
from tests.compiler.test_driver import LIVES, MLP, mlp


def chain(n: int) -> Graph:
    def fn(x: Any) -> Any:
        y = x
        for i in range(n):
            y = ops["tanh"](y) if i % 9 == 0 else y * x if i % 2 else y + x
        return y.sum((0,))

    return graph_of(models.value_and_gradients(fn, [0]), t(50))


def fan(n: int) -> Graph:
    def fn(x: Any) -> Any:
        terms = [x * float(i + 2) for i in range(n)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    return graph_of(fn, t(50))


def many_outputs(n: int) -> Graph:
    return graph_of(lambda x: [x * float(i + 2) for i in range(n)], t(50))


def products(n: int) -> Graph:
    def fn(x: Any) -> Any:
        y = x
        for _ in range(n // 2):
            y = ops["tanh"](y @ x)
        return y.sum((0, 1))

    return graph_of(models.value_and_gradients(fn, [0]), t(4, 4))


def updates(n: int) -> Graph:
    def fn(x: Any, *weights: Any) -> Any:
        return [w - x * (w * 0.9 + x) for w in weights]

    return graph_of(fn, t(), *[t(3 + i % 5, 2) for i in range(n // 2)])


def spread(n: int) -> Graph:
    """One value with many readers, and the many values summed."""

    def fn(x: Any) -> Any:
        total, y = x, ops["tanh"](x)
        for i in range(n // 6):
            total = total + ops["sin"](y * float(i + 1))
        return total.sum((0,))

    return graph_of(models.value_and_gradients(fn, [0]), t(50))


def statistics(n: int) -> Graph:
    """Reductions of which each needs the one before."""

    def fn(x: Any) -> Any:
        total = 0.0
        for _ in range(n // 8):
            mean = (x * x).sum((0,))
            total = total + mean
            x = x / (mean + 1.0)
        return total

    return graph_of(models.value_and_gradients(fn, [0]), t(50))


FAMILIES = [chain, fan, many_outputs, products, updates, spread, statistics]


@pytest.mark.parametrize("make", FAMILIES)
def test_compiling_takes_time_in_proportion(
    make: Callable[[int], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "GROUP_LIMIT", 32)
    compile_full(make(40))  # what is made once
    small, large = make(200), make(800)
    ratio = calls_made(lambda: compile_full(large)) / calls_made(lambda: compile_full(small))
    assert ratio < 6


@pytest.mark.parametrize("make", FAMILIES)
def test_large_graphs_have_steps_in_proportion(
    make: Callable[[int], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "GROUP_LIMIT", 32)
    small, large = (len(Fusion(optimise(make(n))[0]).run().steps) for n in (1000, 4000))
    assert large < 4.5 * small


@pytest.mark.parametrize("make", [chain, fan, products, spread, statistics])
def test_large_graphs_are_right(make: Callable[[int], Graph]) -> None:
    check(make(700), python=False)


def test_deep_graphs_meet_no_recursion_limit() -> None:
    compilation = compile_full(chain(3 * sys.getrecursionlimit()))
    assert len(compilation.program.steps) == 1


# -- run functions in parts


def test_run_functions_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm_program, "PART_LINES", 1)
    graph = graph_of(models.value_and_gradients(mlp, [1, 2]), *MLP)
    assert "run_0_part_3" in check(graph, python=False).program.module
    check(graph_of(lambda x, y: ops["tanh"](x @ y) @ y, t(3, 4, 4), t(3, 4, 4)), python=False)


def test_an_error_leaves_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm_program, "PART_LINES", 1)

    def fn(x: Any, i: Any) -> Any:
        return ops["gather"](x @ x, i, axis=0) @ x

    graph = graph_of(fn, t(4, 4), t(3, dtype="int32"))
    run = prepared(compile_full(graph)).run
    x = samples(graph.types[:1])[0]
    run([x, np.array([0, 1, 2], np.int32)])
    with pytest.raises(KernelFailure):
        run([x, np.array([0, 9, 2], np.int32)])


# -- the plan of many temporaries


@given(LIVES)
def test_many_temporaries_never_share_bytes(lives: list[Lifetime]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_plan, "EXHAUSTIVE", 0)
        offsets, total = memory_plan.plan(lives)
    for shape in ((1, 1), (17, 3)):
        places = [
            (evaluate(o, [shape]), evaluate(x.bytes, [shape])) for o, x in zip(offsets, lives)
        ]
        assert all(a % ALIGNMENT == 0 and a + n <= evaluate(total, [shape]) for a, n in places)
        for i, (a, n) in enumerate(places):
            for j, (b, m) in enumerate(places[:i]):
                apart = a + n <= b or b + m <= a or not n or not m
                assert apart or not overlap(lives[i], lives[j])


def test_holes_are_joined() -> None:
    small = [Lifetime(64, 0, 0) for _ in range(600)]
    offsets, total = memory_plan.plan([*small, Lifetime(64 * 600, 1, 1), Lifetime(64, 2, 2)])
    assert offsets[-2:] == [0, 0]
    assert total == 64 * 600
