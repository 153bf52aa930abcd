"""In nests of short rows a vector spans several of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen.llvm_narrow import NarrowEmitter
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.kernels import short_rows
from graphgrad.compiler.kernels.short_rows import is_narrow
from graphgrad.compiler.op import ops
from graphgrad.runtime import threads
from tests.compiler.compiling import (
    any_nest,
    check,
    compile_full,
    graph_of,
    prepared,
    row_types,
    run_compiled,
    samples,
    t,
    with_threads,
)

transpose = ops["transpose"]


# Of x: f32[rows, n], y: f32[n, rows], a row and a column.
NARROW: dict[str, Callable[..., Any]] = {
    "a row": lambda x, y, row, column: x * row,
    "a column": lambda x, y, row, column: x + column,
    "read across": lambda x, y, row, column: x + transpose(y),
    "written across": lambda x, y, row, column: transpose(x + column),
    "both ways": lambda x, y, row, column: [x * transpose(y), transpose(x * x)],
    "index": lambda x, y, row, column: (
        x * row + ops["reshape"](ops["iota"](x.type.size), x.type.shape)
    ),
    "column's index": lambda x, y, row, column: x * row + ops["iota"](x.type.shape[1]),
}
SHAPES = ((16, 2), (17, 3), (100, 5), (33, 8), (15, 4), (1, 2), (64, 7))


@pytest.mark.parametrize("name", NARROW)
def test_results_are_those_of_the_interpreter(name: str) -> None:
    assert any_nest(is_narrow, NARROW[name], *row_types(40, 4))
    for rows, n in SHAPES:
        types = row_types(rows, n)
        check(graph_of(NARROW[name], *types), samples(types))


@pytest.mark.parametrize("dtype", ["float64", "int8", "bfloat16", "int64", "float16"])
@pytest.mark.parametrize("name", ["a row", "a column", "both ways", "written across"])
def test_dtypes(name: str, dtype: str) -> None:
    for rows, n in ((33, 3), (64, 4), (40, 2)):
        types = row_types(rows, n, dtype)
        check(graph_of(NARROW[name], *types), samples(types))


def test_bools() -> None:
    def fn(x: Any, y: Any, row: Any, column: Any) -> Any:
        return [ops["logical_and"](x, row), ops["logical_or"](transpose(y), column)]

    for rows, n in SHAPES:
        types = row_types(rows, n, "bool")
        check(graph_of(fn, *types), samples(types))


@pytest.mark.parametrize("step", [1, 2, 3, -1, -3])
@pytest.mark.parametrize("pitch", [10, 33, 300])
def test_parts_of_rows(step: int, pitch: int) -> None:
    def fn(x: Any) -> Any:
        start = pitch - 1 if step < 0 else 0
        return ops["exp"](ops["slice"](x, (0, start), (50, 3), (1, step)))

    types = (t(50, pitch),)
    assert any_nest(is_narrow, fn, *types)
    check(graph_of(fn, *types), samples(types))


def test_several_parallel_dims() -> None:
    for shape in ((3, 20, 2), (5, 37, 4)):
        types = t(*shape), t(*shape[::-1])

        def fn(x: Any, y: Any) -> Any:
            return [x + y.transpose((2, 1, 0)), y * 2.0]

        check(graph_of(fn, *types), samples(types))


def test_open_number_of_rows() -> None:
    rows = DimScope().symbol("n", 0, 0)
    types = row_types(rows, 3)
    compilation = compile_full(graph_of(lambda x, y, a, b: [x * a + b, x + transpose(y)], *types))
    for n in (0, 1, 16, 35):
        x, y, row, column = samples(types, sizes=(n,))
        first, second = run_compiled(compilation, (x, y, row, column))
        np.testing.assert_array_equal(first, x * row + column)
        np.testing.assert_array_equal(second, x + y.T)


def test_checked_elements_long_rows_and_large_kernels_run_a_row_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def checked(x: Any, y: Any) -> Any:
        return ops["floordiv"](x, y)

    assert not any_nest(is_narrow, checked, t(40, 4, dtype="int32"), t(4, dtype="int32"))
    assert not any_nest(is_narrow, lambda x, y: x * y, t(40, 9), t(9))
    assert any_nest(is_narrow, lambda x, y: x * y, t(40, 8), t(8))
    monkeypatch.setattr(short_rows, "NARROW_COST", 8.0)
    assert not any_nest(is_narrow, lambda x, y: x * y, t(40, 8), t(8))


@pytest.mark.skipif(not threads.available(), reason="no threads here")
def test_threads_share_rows() -> None:
    types = row_types(50_003, 3)
    arrays = samples(types)
    executable = prepared(compile_full(graph_of(NARROW["both ways"], *types)))
    for first, second in with_threads(lambda: executable.run(arrays)):
        np.testing.assert_array_equal(first, arrays[0] * arrays[1].T)
        np.testing.assert_array_equal(second, (arrays[0] * arrays[0]).T)


PLANTED: dict[str, tuple[str, Any]] = {
    "always the first vector": (
        "elements", lambda self: [divmod(k, self.columns) for k in range(self.width)]
    ),
    "columns by their own number": (
        "load_across",
        lambda self, e, access, dtype, column, right=NarrowEmitter.load_across: right(
            self, e, access, dtype, 1
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_planted_errors_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, wrong = PLANTED[name]
    monkeypatch.setattr(NarrowEmitter, method, wrong)
    types = row_types(33, 3)
    with pytest.raises(AssertionError):
        check(graph_of(NARROW["read across"], *types), samples(types))
