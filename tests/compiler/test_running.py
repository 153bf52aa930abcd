"""Running sums, extrema and recurrences as kernels, against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.op import ops
from graphgrad.runtime.program import Native
from tests.compiler.compiling import (
    assert_same,
    compile_full,
    graph_of,
    prepared,
    run_compiled,
    t,
    with_threads,
)

NAMES = ("cumsum", "exclusive", "linear_recurrence", "running_cummax", "running_cummin")
SHAPES = (((9,), 0), ((3, 5), 1), ((5, 3), 0), ((2, 4, 19), 1), ((3, 1), 1), ((1, 40), 0))
EDGES = (0.0, -0.0, 1.0, -np.inf, np.inf, np.nan, 1e-310, 3.5)


def call(name: str, x: Any, axis: int, reverse: bool) -> Any:
    if name in ("cumsum", "exclusive"):
        return ops["cumsum"](x, axis, name == "exclusive", reverse)
    if name == "linear_recurrence":
        return ops[name](x * 2 - 1, x, axis, reverse)
    return ops[name](x, axis, reverse)


def inputs(shape: tuple[int, ...], dtype: str) -> Any:
    rng = np.random.default_rng(len(shape))
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 100, shape).astype(dtype)
    x = rng.normal(size=shape)
    x.reshape(-1)[: len(EDGES)] = rng.permutation(EDGES)[: x.size]
    return x.astype(dtype)


def check(name: str, x: Any, axis: int, reverse: bool, *types: Any) -> None:
    graph = graph_of(lambda x: call(name, x, axis, reverse), *types or [t(*x.shape, dtype=x.dtype)])
    compilation = compile_full(graph)
    assert all(isinstance(s, Native) for s in compilation.program.steps)
    (fold,) = [n for n in graph.nodes if n.op.name in (name, "cumsum")]
    with np.errstate(all="ignore"):
        given = [x * 2 - 1, x] if name == "linear_recurrence" else [x]
        wanted = fold.op.evaluate([g.astype(x.dtype) for g in given], fold.attrs)
    (got,) = run_compiled(compilation, [x])
    assert_same([got], wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint16", "int32", "int64"])
def test_every_type(name: str, dtype: str) -> None:
    for (shape, axis), reverse in zip(SHAPES, (False, True) * 3, strict=True):
        check(name, inputs(shape, dtype), axis, reverse)


@pytest.mark.parametrize("name", [*NAMES, "running_logsumexp"])
def test_every_order(name: str) -> None:
    for shape, axis in SHAPES:
        for reverse in (False, True):
            check(name, inputs(shape, "float32"), axis, reverse)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_the_run(name: str) -> None:
    for axis in (0, 1):
        scope = DimScope()
        rows, columns = scope.symbol("rows", 0, 0), scope.symbol("columns", 0, 1)
        for shape in ((0, 3), (3, 0), (1, 1), (2, 9), (9, 1)):
            check(name, inputs(shape, "float64"), axis, False, t(rows, columns, dtype="float64"))


def test_rows_on_threads() -> None:
    x = inputs((3000, 40), "float64")
    for axis in (0, 1):
        graph = graph_of(
            lambda x, axis=axis: call("cumsum", x, axis, False), t(3000, 40, dtype=x.dtype)
        )
        run = prepared(compile_full(graph))
        for (got,) in with_threads(lambda run=run: run.run([x])):
            assert_same([got], [np.cumsum(x, axis)])
