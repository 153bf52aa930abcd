"""Equal kernels over different arrays as one launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen.llvm_streams import WRITTEN_BYTES
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.kernels import batches
from graphgrad.compiler.kernels.groups import GROUP_LIMIT
from graphgrad.compiler.kernels.reach import Reach
from graphgrad.compiler.op import ops
from graphgrad.compiler.report import make_report
from graphgrad.runtime import threads
from tests.compiler.compiling import check, compile_full, graph_of, prepared, samples, t

SHAPES = ((7,), (16,), (300,), (3, 50), (0,), (1,), (64, 64), (1000,))


@pytest.fixture(autouse=True)
def default_threads() -> Iterator[None]:
    yield
    threads.set_count(None)


def launches(fn: Callable[..., Any], *types: Any) -> list[int]:
    """How many nests each kernel launch of `fn` runs."""
    return [len(s.parts) for s in compile_full(graph_of(fn, *types)).steps if s.kind == "kernel"]


def each(*xs: Any) -> list[Any]:
    """An update of each array by the same scalar, the last argument."""
    *arrays, rate = xs
    return [x - ops["tanh"](x) * rate for x in arrays]


def test_kernels_of_all_lengths_are_one_launch() -> None:
    types = [*(t(*shape) for shape in SHAPES), t()]
    assert sorted(launches(each, *types)) == [1, len(SHAPES) - 1]  # one has no dim at all
    check(each, *types)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "int32"])
def test_each_dtype_is_a_launch(dtype: str) -> None:
    def fn(*xs: Any) -> list[Any]:
        return [x * x + x for x in xs]

    types = [t(n, dtype=d) for n in (5, 20, 300, 17) for d in ("float32", dtype)]
    assert launches(fn, *types) == [4, 4]
    check(fn, *types)


def test_unknown_and_very_large_sizes_stay_apart() -> None:
    n = DimScope().symbol("n", 0, 0)
    assert launches(each, *[t(n)] * 5, t()) == [1] * 5
    large = WRITTEN_BYTES // 8 + 1
    assert launches(each, *[t(large)] * 5, t()) == [1] * 5
    assert launches(each, *[t(large - 2)] * 5, t()) == [5]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_share_the_rows_of_a_batch(count: int) -> None:
    if not threads.available():
        pytest.skip("no threads here")
    graph = graph_of(each, *[t(n) for n in (70_000, 3, 130_001, 64, 500_000, 0, 100_000)], t())
    compilation = compile_full(graph)
    (step,) = compilation.steps
    assert len(step.parts) == 7
    arrays = samples(graph.types)
    threads.set_count(count)
    for found, x in zip(prepared(compilation).run(arrays), arrays, strict=False):
        np.testing.assert_allclose(found, x - np.tanh(x) * arrays[-1], rtol=2e-6, atol=2e-6)


def test_few_kernels_stay_apart() -> None:
    few = batches.LEAST_KERNELS - 1
    assert launches(each, *[t(9)] * few, t()) == [1] * few


def test_kernels_that_need_each_other_are_no_batch() -> None:
    def chain(x: Any, w: Any) -> list[Any]:
        for _ in range(6):
            x = ops["tanh"](x) @ w
        return [x]

    assert set(launches(chain, t(40, 40), t(40, 40))) == {1}

    def crossed(x: Any, w: Any) -> list[Any]:
        """Half of the kernels need a product of the other half."""
        early = [ops["tanh"](x + k) for k in range(4)]
        late = [ops["tanh"](e @ w) for e in early]
        return late

    found = launches(crossed, t(40, 40), t(40, 40))
    assert sum(found) >= 5
    check(crossed, t(40, 40), t(40, 40))


def test_two_kinds_that_need_each_other_crosswise_make_no_cycle() -> None:
    def fn(w: Any, *xs: Any) -> list[Any]:
        """In half of the chains tanh comes before exp, in the others after it."""
        found = []
        for k, x in enumerate(xs):
            first, second = ("tanh", "exp") if k % 2 else ("exp", "tanh")
            found.append(ops[second](ops[first](x) @ w))
        return found

    types = [t(40, 40) for _ in range(2 * batches.LEAST_KERNELS + 1)]
    assert max(launches(fn, *types)) >= batches.LEAST_KERNELS
    check(fn, *types)


def test_what_may_fail_keeps_its_order() -> None:
    def fn(*xs: Any) -> list[Any]:
        return [x // 3 for x in xs]

    types = [t(9, dtype="int32")] * 6
    assert launches(fn, *types) == [1] * 6
    check(fn, *types)


def test_updates_are_written_in_place() -> None:
    def fn(*xs: Any) -> list[Any]:
        return [m * 0.5 + g for m, g in zip(xs[::2], xs[1::2], strict=True)]

    program = compile_full(graph_of(fn, *[t(50)] * 8)).program
    assert len(program.donations) == 4
    assert len(set(dict(program.donations).values())) == 4


def test_what_two_kernels_of_a_launch_read_is_not_written_over() -> None:
    """Each of four kernels, full at 64 operations, reads the same x, some rows of the launch later
    than others."""
    graph = graph_of(lambda x, *rest: [x * r for r in rest], *[t(40)] * (1 + 4 * GROUP_LIMIT))
    compilation = compile_full(graph)
    (step,) = compilation.steps
    assert len(step.parts) == 4
    program = compilation.program
    assert len(program.donations) == 4 * GROUP_LIMIT
    assert program.inputs[0] not in dict(program.donations).values()
    check(graph)


def test_the_report_counts_a_batch_as_one_kernel() -> None:
    compilation = compile_full(graph_of(each, *[t(64)] * 3, t(8, 4), t(5), t()))
    (step,) = make_report(compilation).steps
    assert step.loops == "5 in one launch: 64 (3 times), 32, 5"
    assert step.work is not None
    assert step.work.bytes_written == 4 * (3 * 64 + 32 + 5)


def test_batches_are_units_of_reach() -> None:
    reach = Reach()
    numbers = [reach.add() for _ in range(8)]
    reach.read(numbers[7], [numbers[0]])
    found = batches._independent(reach, numbers, [0, 1, 2, 3, 4, 7])
    assert found == [[0, 1, 2, 3, 4]]


def test_an_update_at_the_end_of_one_fold_stays_there() -> None:
    def fn(g: Any, b: Any) -> list[Any]:
        return [b - g.sum((0,), False) * 0.5]

    assert launches(fn, t(64, 32), t(32)) == [1]


def test_equal_updates_leave_their_folds() -> None:
    def fn(*xs: Any) -> list[Any]:
        return [
            new
            for g, b, m in zip(xs[::3], xs[1::3], xs[2::3], strict=True)
            for s in [g.sum((0,), False)]
            for new in (b - (m * 0.5 + s), m * 0.5 + s, s)
        ]

    types = [t(64, 32), t(32), t(32)] * 3 + [t(20, 50), t(50), t(50)] * 2
    found = launches(fn, *types)
    assert sorted(found) == [1, 1, 1, 1, 1, 5]
    check(fn, *types)
