"""Short rows are reduced with a row in each lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen import llvm_row_lanes
from graphgrad.compiler.codegen.llvm_row_lanes import RowLanesEmitter
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.kernels.short_rows import has_rows_in_lanes
from graphgrad.compiler.op import ops
from graphgrad.runtime import threads
from tests.compiler import models
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

exp, largest, transpose = ops["exp"], ops["max"], ops["transpose"]


def normalized(x: Any) -> Any:
    n = x.type.shape[1]
    centred = x - x.sum((1,), True) / n
    return centred / ops["sqrt"]((centred * centred).sum((1,), True) / n + 0.1)


def large(x: Any, *_: Any) -> Any:
    return normalized(exp(exp(exp(exp(x)))))


# Of x: f32[rows, n], y: f32[n, rows], a row and a column.
REDUCED: dict[str, Callable[..., Any]] = {
    "sum": lambda x, y, row, column: x.sum((1,)),
    "softmax": lambda x, y, row, column: models.softmax(x),
    "mean and variance": lambda x, y, row, column: [normalized(x), x.sum((1,))],
    "with a row and a column": lambda x, y, row, column: (x * row + column).sum((1,)),
    "read across": lambda x, y, row, column: x / largest(x * transpose(y), (1,), True),
    "written across": lambda x, y, row, column: [transpose(x / (v := x.sum((1,), True))), x - v],
    "index": lambda x, y, row, column: largest(x * ops["iota"](x.type.shape[1]), (1,)),
}
SHAPES = ((16, 2), (17, 3), (100, 5), (33, 6), (15, 4), (1, 2), (64, 3))


@pytest.mark.parametrize("name", REDUCED)
def test_results_are_those_of_the_interpreter(name: str) -> None:
    assert any_nest(has_rows_in_lanes, REDUCED[name], *row_types(40, 3))
    for rows, n in SHAPES:
        types = row_types(rows, n)
        check(graph_of(REDUCED[name], *types), samples(types))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_floats(dtype: str) -> None:
    for rows, n in ((33, 3), (64, 4), (40, 2)):
        types = (t(rows, n, dtype=dtype),)
        check(graph_of(lambda x: [models.softmax(x), largest(x, (1,))], *types), samples(types))


@pytest.mark.parametrize("dtype", ["int8", "int64"])
def test_integers(dtype: str) -> None:
    for rows, n in ((33, 3), (64, 4), (40, 2)):
        types = (t(rows, n, dtype=dtype),)
        check(
            graph_of(lambda x: [largest(x, (1,)), x == ops["min"](x, (1,), True)], *types),
            samples(types),
        )


def test_bools() -> None:
    def fn(x: Any) -> Any:
        return [ops["any"](x, (1,)), ops["logical_or"](x, ops["all"](x, (1,), True))]

    for rows, n in ((33, 3), (64, 4), (40, 2)):
        types = (t(rows, n, dtype="bool"),)
        check(graph_of(fn, *types), samples(types))


def test_several_parallel_dims_and_gaps() -> None:
    for shape in ((3, 20, 2), (5, 37, 4)):
        types = (t(*shape), t(*shape[:-1], 9))

        def fn(x: Any, y: Any) -> Any:
            part = ops["slice"](y, (0, 0, 1), x.type.shape, (1, 1, 2))
            return [(part * x.sum((2,), True)).sum((2,)), largest(x.transpose((1, 0, 2)), (2,))]

        check(graph_of(fn, *types), samples(types))


def test_a_row_has_the_same_bits_wherever_it_lies() -> None:
    types = (t(53, 5),)
    (x,) = samples(types)
    compilation = compile_full(graph_of(lambda x: models.softmax(x), *types))
    (found,) = run_compiled(compilation, (x,))
    for shift in (1, 7, 16, 50):
        (rolled,) = run_compiled(compilation, (np.roll(x, shift, 0),))
        assert np.roll(found, shift, 0).tobytes() == rolled.tobytes()


def test_open_number_of_rows() -> None:
    rows = DimScope().symbol("n", 0, 0)
    compilation = compile_full(graph_of(lambda x: largest(x, (1,)), t(rows, 3)))
    for n in (0, 1, 16, 35):
        (x,) = samples((t(rows, 3),), sizes=(n,))
        np.testing.assert_array_equal(run_compiled(compilation, (x,))[0], x.max(1))


def test_what_has_a_vector_for_each_row() -> None:
    total = REDUCED["sum"]
    assert any_nest(has_rows_in_lanes, total, *row_types(40, 8))
    assert not any_nest(has_rows_in_lanes, total, *row_types(40, 9))
    assert not any_nest(has_rows_in_lanes, large, *row_types(40, 8))
    labels = t(40, 1, dtype="int32")
    assert not any_nest(has_rows_in_lanes, models.cross_entropy, t(40, 3), labels)  # checked


@pytest.mark.skipif(not threads.available(), reason="no threads here")
def test_threads_share_rows() -> None:
    types = row_types(50_003, 3)
    arrays = samples(types)
    executable = prepared(compile_full(graph_of(REDUCED["softmax"], *types)))
    assert len(set(with_threads(lambda: executable.run(arrays)[0].tobytes()))) == 1


PLANTED: dict[str, tuple[str, Any, str, Any]] = {
    "sums that begin with a one": (
        "sum", llvm_row_lanes, "identity_of", lambda combiner, dtype: 1
    ),
    "the first column for each": (
        "sum", RowLanesEmitter, "emitter",
        lambda self, column, right=RowLanesEmitter.emitter: right(self, 0),
    ),
    "the first column stored for all": (
        "softmax", RowLanesEmitter, "store_whole",
        lambda self, access, columns, right=RowLanesEmitter.store_whole: right(
            self, access, [columns[0]] * len(columns)
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_planted_errors_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *planted = PLANTED[name]
    monkeypatch.setattr(*planted)
    types = row_types(33, 3)
    with pytest.raises(AssertionError):
        check(graph_of(REDUCED[program], *types), samples(types))


def test_rows_with_gaps_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    types = (t(33, 7),)
    graph = graph_of(lambda x: ops["slice"](x, (0, 1), (33, 2), (1, 3)).sum((1,)), *types)
    check(graph, samples(types))
    monkeypatch.setattr(RowLanesEmitter, "is_whole", lambda self, at: True)
    with pytest.raises(AssertionError):
        check(graph, samples(types))
