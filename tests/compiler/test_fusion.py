"""What becomes one kernel, what does not, and the sentences that say why."""

from __future__ import annotations

from typing import Any

import pytest

from graphgrad.compiler.kernels import fusion, groups
from graphgrad.compiler.op import ops
from graphgrad.compiler.types import TensorType
from tests.compiler import models
from tests.compiler.compiling import check, compile_full, graph_of, kernels, samples, t

both = models.value_and_gradients

ONE_KERNEL = [
    ("softmax", models.softmax, (t(64, 10),)),
    ("cross entropy", models.cross_entropy, (t(64, 10), t(64, 1, dtype="int32"))),
    ("cross entropy and gradient", both(models.cross_entropy, [0]),
     (t(64, 10), t(64, 1, dtype="int32"))),
    ("chain and gradient", both(models.chain, [0]), (t(1000),)),
    ("long chain and gradient", both(models.chain, [0]), (t(100_000),)),
    ("layer norm", models.layer_norm, (t(64, 32), t(32), t(32))),
    ("layer norm and gradients", both(models.layer_norm_loss, [0, 1, 2]),
     (t(64, 32), t(32), t(32), t(64, 32))),
    ("bias gradient with its epilogue", models.column_sums, (t(9, 17), t(17))),
    ("siblings over one input", lambda x: [ops["tanh"](x), x.sum((0,)), ops["max"](x, 1)],
     (t(9, 17),)),
    ("row statistics", lambda x: (ops["square"](x).sum((1,)) + 1.0).sum((0,)), (t(9, 17),)),
    ("views are free", lambda x, y: x * y.transpose((1, 0)) + ops["slice"](y, (0, 0), (1, 9)),
     (t(9, 9), t(9, 9))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fn", "types"), ONE_KERNEL, ids=[p[0] for p in ONE_KERNEL])
def test_is_one_kernel(name: str, fn: Any, types: tuple[TensorType, ...]) -> None:
    compilation = compile_full(graph_of(fn, *types))
    assert [s.kind for s in compilation.steps] == ["kernel"]
    assert not compilation.refusals


@pytest.mark.parametrize(
    ("name", "fn", "types"), ONE_KERNEL[:7:2], ids=[p[0] for p in ONE_KERNEL[:7:2]]
)
def test_and_is_right(name: str, fn: Any, types: tuple[TensorType, ...]) -> None:
    check(fn, *types, python=types[0].size != 100_000)


REFUSALS = [
    (lambda x: x * x.sum((0,), True), (t(33, 5),),
     "it needs a reduction over the whole loop before its first element"),
    (lambda x: (x + 1.0) + (x + 1.0).transpose((1, 0)), (t(6, 6),),
     "its elements do not line up: a transpose, slice or reshape lies between"),
    (lambda x: [(y := ops["tanh"](x)), ops["slice"](y, (0, 0), (4, 3), (1, 1)) * 2.0], (t(5, 6),),
     "its elements do not line up: a slice lies between"),
    (lambda x: (x + 1.0).reshape((5, 1)) * (x + 1.0), (t(5),),
     "its elements do not line up: it meets each element with all others"),
    (lambda x, y: ops["tanh"](x) + y, (t(1, 7), t(5, 1)),
     "the smaller value would be computed again for each row it is broadcast over"),
    (lambda x, y: (x.sum((1,)).reshape((9, 1)) * y).sum((1,)), (t(9, 17), t(9, 5)),
     "it runs over more elements than the reduction before it"),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "types", "sentence"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals_are_sentences(fn: Any, types: tuple[TensorType, ...], sentence: str) -> None:
    compilation = check(fn, *types)
    assert sentence in {reason for _, _, reason in compilation.refusals}
    assert len(kernels(compilation)) > 1


def test_a_matmul_between_makes_no_cycle() -> None:
    def fn(x: Any) -> Any:
        h = ops["tanh"](x)
        return h + (h @ h)

    compilation = check(fn, t(7, 7))
    assert [s.kind for s in compilation.steps] == ["kernel", "routine", "kernel"]


def test_long_full_reduction_ends_its_kernel() -> None:
    """Up to ROW_LIMIT elements are swept again in the same kernel, longer ones in another."""
    for n, count in ((groups.ROW_LIMIT, 1), (groups.ROW_LIMIT + 1, 2)):
        compilation = compile_full(graph_of(lambda x: x / x.sum((0,), True), t(n)))
        assert len(kernels(compilation)) == count


def test_every_step_comes_after_what_it_reads() -> None:
    def fn(x: Any, w: Any) -> list[Any]:
        h = ops["relu"](x @ w)
        s = ops["softmax"](h @ w)
        return [(s * h).sum((0,)), s.transpose((1, 0)) @ h, h]

    compilation = check(fn, t(6, 6), t(6, 6))
    producers = compilation.graph.producers
    done = set(compilation.graph.params)

    def is_there(v: Any) -> bool:
        """Is `v` computed, or a view or constant that its reader looks through?"""
        node = producers.get(v)
        if v in done or node is None:
            return v in done
        views = ("reshape", "transpose", "broadcast_to", "constant")
        return node.op.name in views and all(map(is_there, node.inputs))

    for step in compilation.steps:
        done |= {v for n in step.nodes for v in n.outputs}
        assert all(is_there(v) for n in step.nodes for v in n.inputs)


def test_alignment_check_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, siblings over one input merge although one reads the other transposed."""
    graph = graph_of(lambda x: (x + 1.0).transpose((1, 0)) * x, t(6, 6))
    check(graph)
    monkeypatch.setattr(fusion.Fusion, "check_aligned", lambda self, group, member: None)
    with pytest.raises(AssertionError):
        check(graph, arrays=samples(graph.types), python=False)


def test_large_graphs_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "GROUP_LIMIT", 8)

    def fn(x: Any) -> Any:
        for _ in range(20):
            x = ops["tanh"](x) + 1.0
        return x

    compilation = check(fn, t(17))
    assert len(kernels(compilation)) == 5
    assert "the kernel has 8 operations already" in {r for _, _, r in compilation.refusals}


def test_views_of_parameters_are_copied_once() -> None:
    compilation = check(lambda x: [x.transpose((1, 0)), x.transpose((1, 0))], t(3, 5))
    assert len(compilation.program.outputs) == 2
    assert len(kernels(compilation)) == 1
