"""Transposes move behind what reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.families import Reduce
from graphgrad.compiler.op import ops
from graphgrad.compiler.passes.transposes import move_transposes
from graphgrad.compiler.pipeline import optimise
from tests.compiler.compiling import check, compile_full, graph_of, kernels, samples, t

exp, tanh, transpose = ops["exp"], ops["tanh"], ops["transpose"]
scope = DimScope()
open_sizes = scope.symbol("n", 0, 0), scope.symbol("m", 0, 1)


def log_sum_exp(x: Any, axis: int = 1) -> Any:
    return ops["logsumexp"](x, (axis,))


def normalised(x: Any) -> Any:
    return x - ops["max"](x, (1,), True)


MOVED: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "log-sum-exp": (lambda x: log_sum_exp(transpose(x)), (t(37, 53),)),
    "float64": (lambda x: log_sum_exp(transpose(x)), (t(37, 53, dtype="float64"),)),
    "integers": (
        lambda x: normalised(transpose(x)).sum((1,)),
        (t(37, 53, dtype="int32"),),
    ),
    "open sizes": (lambda x: log_sum_exp(transpose(x)), (t(*open_sizes),)),
    "empty sums": (lambda x: exp(transpose(x)).sum((1,)), (t(0, 53),)),
    "batched": (
        lambda x: log_sum_exp(x.transpose((0, 2, 1)), 2),
        (t(3, 37, 53),),
    ),
    "back again": (lambda x: transpose(normalised(transpose(x))), (t(37, 53),)),
    "two operands": (lambda x, y: normalised(transpose(x) * transpose(y)).sum((1,)),
                     (t(37, 53), t(37, 53))),
    "a row": (lambda x, y: log_sum_exp(transpose(x) + y), (t(37, 53), t(37))),
    "a column": (lambda x, y: log_sum_exp(transpose(x) + y), (t(37, 53), t(53, 1))),
    "a scalar": (lambda x, y: log_sum_exp(transpose(x) * y), (t(37, 53), t())),
    "short, and back again": (
        lambda x, y: transpose(tanh(transpose(x)) + y.reshape((5, 1))), (t(37, 5), t(5)),
    ),
    "sizes kept": (lambda x: ops["max"](exp(transpose(x)), (1,), True), (t(37, 53),)),
}  # fmt: skip
LEFT: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "stored": (lambda x: exp(transpose(x)), (t(37, 53),)),
    "stored and reduced": (
        lambda x: [(y := exp(transpose(x))), y.sum((1,))],
        (t(37, 53),),
    ),
    "stored after a reduction": (lambda x: normalised(transpose(x)), (t(37, 53),)),
    "along with another order": (
        lambda x, y: log_sum_exp(transpose(x) + y),
        (t(37, 53), t(53, 37)),
    ),
    "two orders": (
        lambda x, y: exp(x.transpose((2, 0, 1)) + y.transpose((0, 2, 1))).sum((0, 1, 2)),
        (t(19, 17, 18), t(18, 17, 19)),
    ),
    "empty": (lambda x: ops["max"](exp(transpose(x)), (1,), True), (t(3, 0),)),
    "short": (lambda x: log_sum_exp(transpose(x)), (t(37, 5),)),
    "rows as they were": (lambda x: exp(x.transpose((1, 0, 2))).sum((2,)), (t(3, 4, 19),)),
    "still permuted": (lambda x: exp(x.transpose((2, 1, 0))).sum((1,)), (t(13, 4, 19),)),
}  # fmt: skip


@pytest.mark.parametrize("name", [*MOVED, *LEFT])
def test_results_are_those_of_the_interpreter(name: str) -> None:
    fn, types = {**MOVED, **LEFT}[name]
    check(graph_of(fn, *types), samples(types, sizes=(37, 53)))


@pytest.mark.parametrize("name", MOVED)
def test_nothing_is_read_across(name: str) -> None:
    fn, types = MOVED[name]
    graph, _ = optimise(graph_of(fn, *types))
    first = graph.params[0]
    assert not [n for n in graph.nodes if n.op.name == "transpose" and n.inputs[0] is first]
    assert move_transposes(graph) is graph


@pytest.mark.parametrize("name", LEFT)
def test_other_transposes_stay(name: str) -> None:
    fn, types = LEFT[name]
    graph, _ = optimise(graph_of(fn, *types))
    assert [n for n in graph.nodes if n.op.name == "transpose"]
    assert move_transposes(graph) is graph


@pytest.mark.parametrize("name", LEFT)
def test_there_are_no_more_kernels_where_they_stay(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fn, types = LEFT[name]
    count = len(kernels(compile_full(graph_of(fn, *types))))
    monkeypatch.setattr("graphgrad.compiler.pipeline.move_transposes", lambda graph: graph)
    assert count == len(kernels(compile_full(graph_of(fn, *types))))


def test_what_is_stretched_is_turned_before() -> None:
    """A row for the rows of the transpose is a column for those of the original."""

    def fn(x: Any, y: Any, z: Any) -> Any:
        moved = x.transpose((0, 2, 1))
        return (moved * y.reshape((1, 19, 1)) + z).transpose((0, 2, 1))

    types = t(3, 17, 19), t(19), t(3, 1, 17)
    graph, _ = optimise(graph_of(fn, *types))
    assert [n.op.name for n in graph.nodes if n.op.name in ("transpose", "reshape")] == ["reshape"]
    stretched = [n.inputs[0] for n in graph.nodes if n.op.name == "broadcast_to"]
    assert graph.params[1] in stretched
    check(graph_of(fn, *types), samples(types))


def test_a_library_reads_the_transpose_beside() -> None:
    """A product reads a transposed matrix as it lies, so the reduction is free to move."""

    def fn(x: Any, y: Any) -> Any:
        z = transpose(x)
        return [z @ y, log_sum_exp(z)]

    types = t(37, 53), t(37, 19)
    graph, _ = optimise(graph_of(fn, *types))
    assert {n.attrs["axes"] for n in graph.nodes if isinstance(n.op, Reduce)} == {(0,)}
    check(graph_of(fn, *types), samples(types))


def test_a_long_fold_with_a_size_of_one_after_it() -> None:
    """What is computed once a row before a fold that is cut into blocks is there after it too."""
    types = (t(20_000, 1),)
    check(graph_of(lambda x: log_sum_exp(x, 0), *types), samples(types))


def test_random_chains() -> None:
    r = np.random.default_rng(6)
    moved = 0
    for _ in range(60):
        rank = int(r.integers(2, 5))
        shape = tuple(int(n) for n in r.choice([1, 2, 9, 17], rank))
        perm = tuple(int(p) for p in r.permutation(rank))
        chosen = r.choice(rank, int(r.integers(1, rank + 1)), replace=False)
        axes = tuple(sorted(int(a) for a in chosen))
        keepdims, back = bool(r.integers(2)), bool(r.integers(2))
        stretched = tuple(int(n) if r.integers(2) else 1 for n in (shape[p] for p in perm))

        def fn(
            x: Any, y: Any, perm: Any = perm, axes: Any = axes, keepdims: Any = keepdims,
            back: Any = back,
        ) -> Any:  # fmt: skip
            z = tanh(x.transpose(perm)) + y
            top = ops["max"](z, axes, True)
            below = (z - top).sum(axes, keepdims)
            inverse = tuple(perm.index(i) for i in range(len(perm)))
            return [below * 2.0, (z / (top + 3.0)).transpose(inverse)] if back else below

        types = t(*shape), t(*stretched)
        graph = graph_of(fn, *types)
        moved += move_transposes(optimise(graph)[0]) is not graph
        check(graph, samples(types))
    assert moved
