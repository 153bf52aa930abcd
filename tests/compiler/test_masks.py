"""Rows shorter than a vector: the mask is a constant, but where masks have registers it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.op import ops
from graphgrad.runtime import engine
from tests.compiler.compiling import check, graph_of, samples, t


def softmax(x: Any) -> Any:
    e = ops["exp"](x - ops["max"](x, (1,), True))
    return e / e.sum((1,), True)


@pytest.mark.parametrize("width", [2, 3, 6, 7, 8, 14, 15, 16, 17, 30])
def test_short_rows_are_right(width: int) -> None:
    kind = t(9, width)
    check(graph_of(softmax, kind), samples((kind,)))


@pytest.mark.parametrize(("features", "literal"), [("+avx512f,+avx2", False), ("+avx2", True)])
def test_the_mask_is_read_where_masks_have_registers(features: str, literal: bool) -> None:
    target = replace(engine.host_target(), features=features)
    module = compile_in_full(graph_of(softmax, t(9, 11)), target).program.module
    known = ", ".join(["i1 true"] * 11 + ["i1 false"] * 5)
    assert (known in module) is literal
    assert ("icmp slt <16 x i64>" in module) is not literal
