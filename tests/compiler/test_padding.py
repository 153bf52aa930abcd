"""Zeros around an array are part of the kernel that reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.op import ops
from tests.compiler.compiling import (
    check,
    compile_full,
    graph_of,
    kernels,
    prepared,
    run_compiled,
    samples,
    t,
)

# shape, where the array begins, its shape
PLACES: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = [
    ((5,), (1,), (3,)), ((40,), (0,), (33,)), ((40,), (7,), (33,)), ((6, 50), (1, 2), (4, 47)),
    ((6, 5), (1, 2), (4, 3)), ((6, 5), (0, 0), (6, 5)), ((3, 4, 20), (1, 0, 3), (2, 4, 17)),
    ((3, 4), (1, 1), (1, 0)), ((1, 9), (0, 2), (1, 5)), ((30, 30), (29, 0), (1, 30)),
    ((30, 30), (0, 29), (30, 1)), ((), (), ()),
]  # fmt: skip


def padded(x: Any, shape: Any, starts: Any) -> Any:
    return ops["unslice"](x, shape=shape, starts=starts, steps=(1,) * len(shape))


def cut(x: Any, starts: Any, sizes: Any) -> Any:
    return ops["slice"](x, starts, sizes, (1,) * len(sizes))


# Of x, the array, and y, one of the larger shape.
USES: dict[str, Callable[..., Any]] = {
    "alone": lambda x, y, shape, at: padded(x, shape, at),
    "of a sum": lambda x, y, shape, at: padded(x + x, shape, at) + y,
    "twice": lambda x, y, shape, at: padded(x, shape, at) * y - padded(x, shape, at),
    "of a part": lambda x, y, shape, at: padded(cut(y, at, x.type.shape), shape, at) * y,
    "of a number": lambda x, y, shape, at: padded(
        ops["broadcast_to"](y.sum((*range(y.ndim),)), x.type.shape), shape, at
    ) + y,
    "turned": lambda x, y, shape, at: ops["transpose"](
        padded(x, shape, at) + y, (*range(len(shape)),)[::-1]
    ),
    "added up": lambda x, y, shape, at: [
        (padded(x, shape, at) * y).sum((*range(len(shape)),)), padded(x, shape, at).sum((0,))
    ] if shape else padded(x, shape, at),
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_results_are_those_of_the_interpreter(use: str) -> None:
    for k, (shape, starts, sizes) in enumerate(PLACES):
        dtype = "float32" if k % 4 else "float64"
        types = t(*sizes, dtype=dtype), t(*shape, dtype=dtype)
        graph = graph_of(lambda x, y, a=shape, b=starts: USES[use](x, y, a, b), *types)
        check(graph, samples(types))


@pytest.mark.parametrize("dtype", ["bfloat16", "bool", "int64"])
def test_dtypes(dtype: str) -> None:
    for shape, starts, sizes in PLACES[2:5]:
        types = t(*sizes, dtype=dtype), t(*shape, dtype=dtype)
        check(graph_of(lambda x, y, a=shape, b=starts: padded(x, a, b), *types), samples(types))


def test_what_lies_outside_is_not_read() -> None:
    """Nor does it count: the neighbours in memory are NaN."""
    compilation = compile_full(
        graph_of(lambda x, y: padded(x, (4, 40), (1, 3)) + y, t(2, 30), t(40))
    )
    memory = np.full((4, 30), np.nan, np.float32)
    memory[1:3] = 2.0
    (found,) = run_compiled(compilation, [memory[1:3], np.ones(40, np.float32)])
    expected = np.ones((4, 40), np.float32)
    expected[1:3, 3:33] = 3.0
    np.testing.assert_array_equal(found, expected)


def test_sums_of_padded_arrays_are_one_kernel() -> None:
    def fn(x: Any) -> Any:
        return padded(x, (9, 9), (0, 1)) + padded(x, (9, 9), (2, 1)) - padded(x, (9, 9), (1, 1))

    compilation = compile_full(graph_of(fn, t(7, 7)))
    assert len(compilation.steps) == 1
    (step,) = kernels(compilation)
    assert step.nest is not None
    assert [a.role for a in step.nest.arrays] == ["in", "out"]


def test_open_sizes() -> None:
    n = DimScope().symbol("n", 0, 0)
    compilation = compile_full(graph_of(lambda x: padded(x, (n + 5, 7), (2, 1)) * 2.0, t(n, 4)))
    for rows in (0, 1, 17):
        (x,) = samples((t(n, 4),), sizes=(rows,))
        (found,) = run_compiled(compilation, (x,))
        np.testing.assert_array_equal(found, np.pad(x * 2, ((2, 3), (1, 2))))


def updated(x: Any, y: Any) -> Any:
    """What `x[1:3] += y` sends back to `x`."""
    without = ops["update_slice"](x, np.zeros((2, 4), np.float32), (1, 0))
    return without + padded(ops["dynamic_slice"](x, (1, 0), (2, 4)), (5, 4), (1, 0)) * y


def test_a_block_put_back() -> None:
    for y in (1.0, 2.0):
        graph = graph_of(lambda x, y=y: updated(x, y), t(5, 4))
        (x,) = samples((t(5, 4),))
        x[0, 0] = x[1, 1] = -0.0
        (found,) = prepared(compile_full(graph)).run([x])
        expected = x + 0.0
        expected[1:3] *= y
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
        names = [node.op.name for node in compile_full(graph).graph.nodes]
        assert ("update_slice" in names) == (y != 1.0)
