"""The bytes and flops of a step: each element that is touched, once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.kernels.shrink import footprint, shrunk
from graphgrad.compiler.op import ops
from graphgrad.compiler.work import Work, _injective, _inside, _marked, nest_work
from tests.compiler import models
from tests.compiler.compiling import compile_full, graph_of, t

F32 = 4


def work_of(fn: Any, *types: Any) -> Work:
    (step,) = compile_full(graph_of(fn, *types)).steps
    assert step.nest is not None
    return nest_work(step.nest, step.arrays, {})


def part(x: Any, starts: Any, sizes: Any, steps: Any = None) -> Any:
    return ops["slice"](x, starts, sizes, steps or (1,) * len(starts))


CASES = {
    "elementwise": (lambda x, y: x * y, (t(30, 40), t(30, 40)), 2 * 1200, 1200),
    "broadcast row": (lambda x, y: x + y, (t(30, 40), t(40)), 1240, 1200),
    "the same twice": (lambda x: x * x + x, (t(30, 40),), 1200, 1200),
    "transposed": (lambda x, y: x.transpose((1, 0)) + y, (t(30, 40), t(40, 30)), 2400, 1200),
    "with its transpose": (lambda x: x.transpose((1, 0)) + x, (t(30, 30),), 900, 900),
    "halves": (
        lambda x: part(x, (0, 0), (30, 20)) * part(x, (0, 20), (30, 20)), (t(30, 40),), 1200, 600,
    ),
    "neighbours": (lambda x: part(x, (0,), (99,)) * part(x, (1,), (99,)), (t(100),), 100, 99),
    "every other": (lambda x: part(x, (0,), (50,), (2,)) * 2.0, (t(100),), 50, 50),
    "backwards": (lambda x: part(x, (99,), (100,), (-1,)) + x, (t(100),), 100, 100),
    "row sums": (lambda x: x.sum((1,)), (t(30, 40),), 1200, 30),
    "column sums": (lambda x: x.sum((0,)), (t(30, 40),), 1200, 40),
    "softmax": (models.softmax, (t(30, 40),), 1200, 1200),
    "empty": (lambda x: x + 1.0, (t(0, 4),), 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bytes_are_those_of_the_elements_touched(name: str) -> None:
    fn, types, read, written = CASES[name]
    work = work_of(fn, *types)
    assert (work.bytes_read, work.bytes_written) == (read * F32, written * F32)
    assert work.bytes == (read + written) * F32


def test_gathered_rows_count_what_they_touch_at_most() -> None:
    def fn(x: Any, i: Any) -> Any:
        return ops["gather"](x, i, axis=0) * 2.0

    few = work_of(fn, t(1000, 40), t(5, dtype="int32"))
    assert few.bytes_read == 5 * 40 * F32 + 5 * 4
    many = work_of(fn, t(10, 40), t(500, dtype="int32"))
    assert many.bytes_read == 10 * 40 * F32 + 500 * 4


@pytest.mark.parametrize("seed", range(50))
def test_walks_against_index_arithmetic(seed: int) -> None:
    """Marks and the two tests of strides, beside a plain enumeration of the elements."""
    rng = np.random.default_rng(seed)
    whole, walks = 500, set()
    for _ in range(rng.integers(1, 4)):
        steps = tuple(
            (int(rng.integers(1, 5)), int(rng.integers(-9, 10)) or 1)
            for _ in range(rng.integers(0, 4))
        )
        walks.add((int(rng.integers(whole)), steps))

    def elements(start: int, steps: Any) -> list[int]:
        found = [start]
        for n, stride in steps:
            found = [x + k * stride for x in found for k in range(n)]
        return found

    for start, steps in walks:
        places = elements(start, steps)
        assert _inside((start, steps), whole) == all(0 <= x < whole for x in places)
        if _injective(steps):
            assert len(set(places)) == len(places)
    inside = {w for w in walks if _inside(w, whole)}
    assert _marked(inside, whole) == len({x for w in inside for x in elements(*w)})


def test_shrunk_nests_fit_and_are_the_same_code() -> None:
    types = (t(4000, 1024), t(1024), t(1024))
    compilation = compile_full(graph_of(models.layer_norm, *types))
    (step,) = compilation.steps
    assert step.nest is not None
    small = shrunk(step.nest, {}, 1 << 16)
    assert small.dims[0] < 4000
    assert footprint(small, [n for n in small.dims if isinstance(n, int)]) <= 1 << 16
    assert (small.arrays, small.main, small.tail) == (
        step.nest.arrays, step.nest.main, step.nest.tail,
    )  # fmt: skip
    tiny = compile_full(graph_of(models.layer_norm, t(3, 7), t(7), t(7))).steps[0].nest
    assert tiny is not None
    assert shrunk(tiny, {}).dims == tiny.dims


def test_unknown_sizes_are_cut_at_known_ones() -> None:
    n = DimScope().symbol("n", 0, 0)
    (step,) = compile_full(graph_of(lambda x: x * 2.0, t(n))).steps
    assert step.nest is not None
    (symbol,) = (s for m, _ in n.terms for s in m)
    assert 1000 <= shrunk(step.nest, {symbol: 10**6}).dims[0] <= 3072
    assert shrunk(step.nest, {symbol: 10}).dims == (10,)
