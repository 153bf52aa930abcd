"""Every few elements are picked from whole vectors."""

from __future__ import annotations

from typing import Any

import pytest

from graphgrad.compiler.codegen.llvm_vectors import VectorMemory
from graphgrad.compiler.op import ops
from tests.compiler.compiling import check, compile_full, graph_of, samples, t

STEPS = (2, 3, 4, 7, 8, 9, -2, -3, -8, -9)


def every(x: Any, step: int) -> Any:
    """x[..., ::step]"""
    last = x.type.ndim - 1
    n = x.type.shape[last]
    start = n - 1 if step < 0 else 0
    shape = *x.type.shape[:last], -(-n // abs(step))
    return ops["slice"](x, (*[0] * last, start), shape, (*[1] * last, step))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool", "bfloat16"])
def test_at_many_sizes(step: int, dtype: str) -> None:
    for shape in ((1,), (33,), (200,), (5, 40), (3, 257)):
        types = (t(*shape, dtype=dtype),)

        def fn(x: Any) -> Any:
            y = every(x, step)
            return ops["logical_not"](y) if y.type.dtype.is_bool else y + y

        check(graph_of(fn, *types), samples(types))


@pytest.mark.parametrize("step", [2, 3, -5])
def test_two_vectors_side_by_side_reductions_and_wider_types(step: int) -> None:
    def fn(x: Any) -> Any:
        y = every(x, step)
        return [
            ops["exp"](ops["tanh"](y)),
            ops["cast"](y, "float64") * 2.0,
            ops["exp"](y).sum((1,)),
            y.sum((0,)),
        ]

    for shape in ((5, 40), (7, 1000)):
        types = (t(*shape),)
        check(graph_of(fn, *types), samples(types))


@pytest.mark.parametrize("step", STEPS)
def test_only_distant_elements_are_gathered(step: int) -> None:
    module = compile_full(graph_of(lambda x: every(x, step) * 2.0, t(8000))).program.module
    assert ("= load <16 x float>" in module) == (abs(step) <= 8)
    assert "masked.gather" in module or abs(step) <= 8


@pytest.mark.parametrize("planted", ["lanes", "end"])
def test_planted_errors_are_found(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = VectorMemory.pick

    def pick(self: Any, e: Any, pointer: str, dtype: Any, at: list[int], mask: Any) -> str:
        wrong = [*at[1:], at[0]] if planted == "lanes" else [k + (k == max(at)) for k in at]
        return right(self, e, pointer, dtype, wrong, mask)

    monkeypatch.setattr(VectorMemory, "pick", pick)
    types = (t(200),)
    with pytest.raises(AssertionError):
        check(graph_of(lambda x: every(x, 3) * 2.0, *types), samples(types))
