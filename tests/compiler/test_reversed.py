"""Views that run backwards are read and written as vectors."""

from __future__ import annotations

from typing import Any

import pytest

from graphgrad.compiler.op import ops
from tests.compiler.compiling import check, compile_full, graph_of, samples, t

SIZES = (1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100)


def backwards(x: Any) -> Any:
    last = x.type.ndim - 1
    starts = tuple(x.type.shape[a] - 1 if a == last else 0 for a in range(last + 1))
    steps = tuple(-1 if a == last else 1 for a in range(last + 1))
    return ops["slice"](x, starts, x.type.shape, steps)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool", "bfloat16", "int8"])
@pytest.mark.parametrize("rows", [(), (3,)])
def test_backwards_at_many_sizes(dtype: str, rows: tuple[int, ...]) -> None:
    for n in SIZES:
        kind = t(*rows, n, dtype=dtype)

        def fn(x: Any) -> Any:
            y = backwards(x)
            return [ops["logical_not"](y) if y.type.dtype.is_bool else y + y, backwards(y)]

        check(graph_of(fn, kind), samples((kind,)))


@pytest.mark.parametrize("dtype", ["float32", "bool", "float16", "int64"])
def test_written_backwards(dtype: str) -> None:
    for n in SIZES:
        kind = t(3, n, dtype=dtype)
        graph = graph_of(
            lambda x, n=n: ops["unslice"](x, shape=(3, n + 2), starts=(0, n), steps=(1, -1)), kind
        )
        check(graph, samples((kind,)))


def test_nothing_is_gathered() -> None:
    text = compile_full(graph_of(lambda x: backwards(x) * 2.0, t(1000))).program.module
    assert "shufflevector" in text
    assert "masked.gather" not in text
    every_ninth = graph_of(lambda x: ops["slice"](x, (0,), (100,), (9,)) * 2.0, t(1000))
    assert "masked.gather" in compile_full(every_ninth).program.module
