"""Folds of short rows run several rows as one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen.llvm_wide import WideEmitter
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.kernels import division
from graphgrad.compiler.kernels.division import partials
from graphgrad.compiler.kernels.wide_folds import rows_in_one
from graphgrad.compiler.op import ops
from graphgrad.runtime import threads
from tests.compiler.compiling import (
    any_nest,
    check,
    compile_full,
    graph_of,
    kernels,
    prepared,
    run_compiled,
    samples,
    t,
    with_threads,
)

exp, largest = ops["exp"], ops["max"]

WIDE: dict[str, Callable[..., Any]] = {
    "sum": lambda x, y: x.sum((0,)),
    "then more": lambda x, y: exp(x).sum((0,)) * 2.0 + y,
    "with a row": lambda x, y: [(exp(x - y)).sum((0,)), largest(x, 0)],
    "in two parts": lambda x, y: exp(x - largest(x, 0)).sum((0,)),
    "stored too": lambda x, y: [x * y, (x * y).sum((0,))],
    "all as well": lambda x, y: [x.sum((0, 1)), ops["min"](x, 0)],
    "half": lambda x, y: ops["cast"](x, "float16").sum((0,)),
    "any": lambda x, y: ops["any"](ops["greater"](x, y), 0),
}


def is_wide(fn: Callable[..., Any], *types: Any) -> bool:
    return any_nest(lambda nest: nest.division and rows_in_one(nest) > 1, fn, *types)


@pytest.mark.parametrize("name", WIDE)
def test_results_are_those_of_the_interpreter(name: str) -> None:
    for rows, n in ((500, 2), (517, 3), (999, 5), (641, 11), (700, 17), (703, 31), (400, 16)):
        types = t(rows, n), t(n)
        assert is_wide(WIDE[name], *types)
        check(graph_of(WIDE[name], *types), samples(types))


@pytest.mark.parametrize("dtype", ["float64", "int8", "bfloat16", "int64"])
def test_dtypes(dtype: str) -> None:
    for rows, n in ((517, 3), (300, 7), (256, 10)):
        types = t(rows, n, dtype=dtype), t(n, dtype=dtype)
        check(graph_of(lambda x, y: [largest(x, 0), (x * y).sum((0,))], *types), samples(types))


def test_rows_are_whole_vectors() -> None:
    """At least four, and no more rows than a block is a multiple of."""
    for n in range(2, 32):
        types = t(4096, n), t(n)
        (step,) = kernels(compile_full(graph_of(lambda x, y: (x + y).sum((0,)), *types)))
        assert step.nest is not None
        count = rows_in_one(step.nest)
        assert count * n % 16 == 0
        assert count * n >= 64
        assert division.BLOCK_ROWS % count == 0
        ((_, blocks, row),) = partials(step.nest)
        assert row == count * n
        assert blocks == step.nest.division.count  # type: ignore[union-attr]


def test_what_stays_as_it_is() -> None:
    total = WIDE["sum"]
    assert not is_wide(total, t(4096, 32), t(32))
    assert not is_wide(total, t(100, 2), t(2))  # few rows
    assert not is_wide(lambda x, y: (x * y).sum((0,)), t(4096, 2), t(4096, 1))  # one a row
    gaps = graph_of(lambda x: ops["slice"](x, (0, 0), (4096, 2)).sum((0,)), t(4096, 3))
    assert all(rows_in_one(s.nest) == 1 for s in kernels(compile_full(gaps)) if s.nest)


def test_open_number_of_rows() -> None:
    rows = DimScope().symbol("n", 0, 0)
    compilation = compile_full(graph_of(lambda x, y: (x * y).sum((0,)), t(rows, 3), t(3)))
    for n in (0, 1, 15, 16, 17, 1000, 5000):
        x, y = samples((t(rows, 3), t(3)), sizes=(n,))
        (found,) = run_compiled(compilation, (x, y))
        np.testing.assert_allclose(found, (x.astype(float) * y).sum(0), rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(not threads.available(), reason="no threads here")
@pytest.mark.parametrize("blocks", [1, 2, 64])
def test_the_same_bits_from_any_number_of_threads(
    blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(division, "CHUNK", 0)
    monkeypatch.setattr(division, "CHUNKS", blocks)
    for n in (2, 3, 17):
        types = t(5003, n), t(n)
        x, y = samples(types)
        graph = graph_of(lambda x, y: exp(x - y).sum((0,)), *types)
        executable = prepared(compile_full(graph))
        found = [a for (a,) in with_threads(partial(executable.run, (x, y)))]
        assert len({a.tobytes() for a in found}) == 1
        np.testing.assert_allclose(found[0], np.exp(x.astype(float) - y).sum(0), rtol=1e-5)


PLANTED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a part of the results": lambda patch: patch.setattr(
        WideEmitter, "partial_rows", lambda self, count: count
    ),
    "no rest": lambda patch: patch.setattr(
        WideEmitter, "fold_rows", lambda self, begin, end, lo, hi: None
    ),
    "the row of another column": lambda patch: patch.setattr(
        WideEmitter, "repeat", lambda self, access, dtype: f"%p{access.array}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_planted_errors_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[name](monkeypatch)
    types = t(517, 3), t(64)

    def fn(x: Any, y: Any) -> Any:
        return (x * ops["slice"](y, (0,), (3,))).sum((0,))

    with pytest.raises(AssertionError):
        check(graph_of(fn, *types), samples(types))
