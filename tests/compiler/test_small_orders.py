"""Sorts and searches of few elements by comparisons, against NumPy's."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from graphgrad.compiler.op import ops
from graphgrad.compiler.passes import small_orders
from tests.compiler.compiling import compile_full, graph_of, run_compiled, t

DTYPES = ("float32", "float64", "bfloat16", "int32", "uint8", "bool")
EDGES = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1.0, np.nan, -np.inf)


def inputs(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    """Few different values, so that many are equal."""
    rng = np.random.default_rng(seed)
    if dtype in ("int32", "uint8", "bool"):
        return rng.integers(0, 2 if dtype == "bool" else 9, shape).astype(dtype)
    x = rng.choice([*EDGES, *rng.normal(size=4)], shape)
    return x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def check(fn: Any, *arrays: Any, native: bool = True) -> None:
    """`fn` by kernels alone gives what its op does."""
    graph = graph_of(fn, *(t(*a.shape, dtype=a.dtype) for a in arrays))
    compilation = compile_full(graph)
    assert ("host" not in [s.kind for s in compilation.steps]) is native
    (node,) = [n for n in graph.nodes if n.op.name != "constant"]
    with np.errstate(all="ignore"):
        wanted = node.op.evaluate(arrays, node.attrs)
    for got, want in zip(run_compiled(compilation, arrays), wanted, strict=True):
        assert got.dtype == want.dtype
        same = [np.asarray(a).astype(np.float64) for a in (got, want)]
        np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sorts(dtype: str) -> None:
    for k, (shape, axis) in enumerate((((1,), 0), ((40,), 0), ((3, 17), 1), ((17, 3), 0))):
        direction = ("ASCENDING", "DESCENDING")[k % 2]
        x = inputs(shape, dtype, k)
        check(lambda x, axis=axis, d=direction: ops["sort"](x, axis, d), x)
        check(lambda x, axis=axis, d=direction: ops["argsort"](x, axis, d), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_greatest(dtype: str) -> None:
    for shape, k in (((1,), 1), ((40,), 1), ((40,), 8), ((40,), 40), ((2, 100), 3), ((5, 9), 4)):
        check(lambda x, k=k: list(ops["top_k"](x, k)), inputs(shape, dtype, k))


def test_the_greatest_among_equal_extremes() -> None:
    for value in (-np.inf, np.inf, np.nan, 0.0):
        check(lambda x: list(ops["top_k"](x, 5)), np.full((2, 30), value))


@pytest.mark.parametrize("side", ["left", "right"])
def test_searches(side: str) -> None:
    for dtype in ("float32", "bfloat16", "int32"):
        for lead in ((), (3,)):
            found = inputs((*lead, 30), dtype)
            rows = np.sort(found.astype(np.float32)).astype(found.dtype)
            check(lambda r, v: ops["searchsorted"](r, v, side), rows, inputs((*lead, 20), dtype, 1))


def test_elements_at_their_places() -> None:
    for shape, axis in (((5,), 0), ((3, 4), 1), ((4, 3), 0)):
        places = np.argsort(np.random.default_rng(0).normal(size=shape), axis)
        for dtype in ("float64", "bfloat16"):
            x = inputs(shape, dtype)
            check(lambda x, p, axis=axis: ops["put_along"](x, p, axis=axis, size=7), x, places)


def test_many_elements_are_a_host_step() -> None:
    n = int(small_orders.MOST_COMPARISONS**0.5) + 1
    check(lambda x: ops["sort"](x), np.random.default_rng(0).normal(size=n), native=False)
    check(lambda x: ops["sort"](x), np.random.default_rng(0).normal(size=n - 1))
    check(lambda x: list(ops["top_k"](x, 0)), np.ones(3), native=False)
