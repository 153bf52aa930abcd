"""Stacks along the last axis: the kernels that compute their parts store them in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.driver import Compilation
from graphgrad.compiler.op import ops
from tests.compiler.compiling import check, t


def stacked(*xs: Any) -> Any:
    """The values along a new last axis."""
    return ops["concat"]([x.reshape((*x.type.shape, 1)) for x in xs], xs[0].type.ndim)


def copies(compilation: Compilation) -> int:
    """How many parts were copied into a stack."""
    return sum(s.nodes[0].op.name == "concat" for s in compilation.steps)


def in_turn(compilation: Compilation) -> int:
    """How many stores go to every other place or further apart."""
    nests = [s.nest for s in compilation.steps if s.nest is not None]
    return sum(
        s.fn == "store" and s.attr.at.strides[-1:] not in ((), (0,), (1,))
        for nest in nests
        for s in nest.statements()
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32", "bool"])
@pytest.mark.parametrize("shape", [(1,), (7,), (16,), (37,), (3, 5), (2, 16), (4, 1), (0, 3)])
def test_two_values(shape: tuple[int, ...], dtype: str) -> None:
    def fn(x: Any, y: Any) -> Any:
        return stacked(ops["where"](x == y, x, y), ops["where"](x != y, y, x))

    found = check(fn, t(*shape, dtype=dtype), t(*shape, dtype=dtype))
    assert copies(found) == 0


def test_the_kernel_stores_in_turn() -> None:
    found = check(lambda x: stacked(x * 2.0, ops["exp"](x)), t(33))
    assert [s.kind for s in found.steps] == ["kernel"]
    assert in_turn(found) == 2


@pytest.mark.parametrize("count", [3, 4, 5])
def test_more_values(count: int) -> None:
    found = check(lambda x: stacked(*[x * (k + 2.0) for k in range(count)]), t(5, 9))
    assert copies(found) == 0


def read_again(x: Any) -> Any:
    y = x * 2.0
    return stacked(y, x + 1.0), ops["cumsum"](y)


def returned_too(x: Any) -> Any:
    y = x * 2.0
    return stacked(y, x + 1.0), y


def twice(x: Any) -> Any:
    y = x * 2.0
    return stacked(y, y)


def two_stacks(x: Any) -> Any:
    y = x * 2.0
    return stacked(y, x + 1.0), stacked(x - 1.0, y)


def of_sums(x: Any) -> Any:
    return stacked(x.sum((1,)), x.sum((1,)) * 2.0)


def of_the_parameter(x: Any) -> Any:
    return stacked(x, x * 2.0)


@pytest.mark.parametrize(
    ("fn", "number"),
    [(read_again, 1), (returned_too, 1), (twice, 2), (two_stacks, 2), (of_sums, 1),
     (of_the_parameter, 1)],
)  # fmt: skip
def test_what_others_read_is_copied(fn: Callable[..., Any], number: int) -> None:
    assert copies(check(fn, t(3, 9))) == number


def rows_and_elements(x: Any) -> Any:
    """Softmax by hand: values of rows, which later sweeps read again, beside their elements."""
    e = ops["exp"](x - ops["max"](x, (1,), True))
    total = e.sum((1,), True)
    return stacked(e / total, e * 2.0), stacked(total * 2.0, total + 1.0)


def transposed(x: Any) -> Any:
    return stacked((x * 2.0).transpose((1, 0)), x.transpose((1, 0)) + 1.0)


def read_by_a_kernel(x: Any) -> Any:
    both = stacked(x * 2.0, x + 1.0)
    return both.sum((2,)), both * 3.0


def late(x: Any) -> Any:
    total = x.sum((0,))
    return stacked(total * 2.0, ops["exp"](total))


@pytest.mark.parametrize("fn", [rows_and_elements, transposed, read_by_a_kernel, late])
@pytest.mark.parametrize("shape", [(3, 9), (40, 33), (1, 5)])
def test_nests_of_several_phases(fn: Callable[..., Any], shape: tuple[int, ...]) -> None:
    check(fn, t(*shape))


def test_open_sizes() -> None:
    n = DimScope().symbol("n", 0, 0)
    for size in (1, 5, 64):
        check(lambda x: stacked(x * 2.0, x + 1.0), t(n, 3), sizes=[size])
