"""Reductions of transposed arrays run along the memory of what they read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.kernels import turn
from graphgrad.compiler.op import ops
from tests.compiler.compiling import check, compile_full, graph_of, kernels, samples, t

exp, transpose = ops["exp"], ops["transpose"]
scope = DimScope()
open_sizes = scope.symbol("n", 0, 0), scope.symbol("m", 0, 1)

TURNED: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "sum": (lambda x: exp(transpose(x)).sum((1,)), (t(37, 53),)),
    "then more": (lambda x: exp(transpose(x)).sum((1,)) * 2.0 + 1.0, (t(37, 53),)),
    "sizes kept": (lambda x: exp(transpose(x)).sum((1,), True), (t(37, 53),)),
    "batched": (lambda x: exp(x.transpose((0, 2, 1))).sum((2,)), (t(3, 37, 53),)),
    "two": (
        lambda x: [exp(transpose(x)).sum((1,)), ops["max"](transpose(x), (1,))],
        (t(37, 53),),
    ),
    "half": (lambda x: exp(transpose(x)).sum((1,)), (t(37, 53, dtype="float16"),)),
    "middle": (lambda x: exp(x).sum((1,)), (t(4, 37, 53),)),
    "open sizes": (lambda x: exp(transpose(x)).sum((1,)), (t(*open_sizes),)),
}
STRAIGHT: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "along memory": (lambda x: exp(x).sum((1,)), (t(37, 53),)),
    "as many across": (lambda x, y: (transpose(x) * y).sum((1,)), (t(37, 53), t(53, 37))),
    "short": (lambda x: exp(transpose(x)).sum((1,)), (t(37, 5),)),
    "needed before the next element": (
        lambda x: [(v := transpose(x)) / ops["max"](v, (1,), True)],
        (t(37, 53),),
    ),
    "no reduction": (lambda x: exp(transpose(x)), (t(37, 53),)),
}


@pytest.mark.parametrize("name", [*TURNED, *STRAIGHT])
def test_results_are_those_of_the_interpreter(name: str) -> None:
    fn, types = {**TURNED, **STRAIGHT}[name]
    check(graph_of(fn, *types), samples(types, sizes=(37, 53)))


@pytest.mark.parametrize("name", TURNED)
def test_sweeps_read_neighbours(name: str) -> None:
    fn, types = TURNED[name]
    nest = kernels(compile_full(graph_of(fn, *types)))[0].nest
    assert nest is not None
    assert nest.folded
    assert turn.neighbours(nest)[-1] >= 1
    assert not any(turn.neighbours(nest)[:-1])


@pytest.mark.parametrize("name", STRAIGHT)
def test_nothing_turns_without_a_gain(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fn, types = STRAIGHT[name]
    as_it_is = [s.nest for s in kernels(compile_full(graph_of(fn, *types)))]
    monkeypatch.setattr(turn, "partition_by_strides", lambda group, nest: None)
    assert as_it_is == [s.nest for s in kernels(compile_full(graph_of(fn, *types)))]


def test_random_axes_and_permutations() -> None:
    r = np.random.default_rng(5)
    for _ in range(40):
        rank = int(r.integers(2, 5))
        shape = tuple(int(n) for n in r.choice([1, 2, 3, 17, 19], rank))
        perm = tuple(int(p) for p in r.permutation(rank))
        chosen = r.choice(rank, int(r.integers(1, rank + 1)), replace=False)
        axes = tuple(sorted(int(a) for a in chosen))

        def fn(x: Any, perm: Any = perm, axes: Any = axes) -> Any:
            y = ops["tanh"](x.transpose(perm))
            return [y.sum(axes), ops["max"](y, axes, True) * 2.0]

        check(graph_of(fn, t(*shape)), samples((t(*shape),)))
