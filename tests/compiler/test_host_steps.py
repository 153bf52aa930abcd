"""Nodes that NumPy computes between native steps."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.op import ops
from tests.compiler.compiling import check, t

F = "float64"


def test_an_input_whose_memory_has_another_shape() -> None:
    """Two sizes of a reshape are unknown: its memory is a vector."""
    scope = DimScope()
    rows, columns = scope.symbol("rows", 0, 0), scope.symbol("columns", 0, 1)

    def f(x: Any) -> Any:
        flat = (x * 2.0).reshape((rows * columns,))
        return ops["sort"]((flat + 1.0).reshape((columns, rows)), 0)

    check(f, t(rows, columns, dtype=F), sizes=[3, 4], python=False)
