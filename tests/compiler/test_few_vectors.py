"""Rows of a few vectors: sweeps without loops, folds that accumulate in registers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen.llvm_control import LoopEmitter
from graphgrad.compiler.codegen.llvm_vectors import prefix_mask
from graphgrad.compiler.op import ops
from tests.compiler.compiling import (
    check,
    compile_full,
    graph_of,
    prepared,
    row_types,
    samples,
    t,
)  # fmt: skip

largest, least, where = ops["max"], ops["min"], ops["where"]

FOLDS: dict[str, Callable[..., Any]] = {
    "max": lambda x, y, r, c: largest(c + x, 0) + r,
    "two": lambda x, y, r, c: [least(c * x, 0), (c + x).sum((0,)), c * 2.0],
    "ties": lambda x, y, r, c: ops["cast"](ops["equal"](c + x, r), "float32").sum((0,)),
    "rows too": lambda x, y, r, c: [(x * c).sum((1,)), (x * c).sum((0,)), x + c],
    "all": lambda x, y, r, c: [(x * c).sum((0, 1)), largest(x * c, 0)],
}
ROWS: dict[str, Callable[..., Any]] = {
    "sum": lambda x, y, r, c: (x * r).sum((1,)),
    "chosen": lambda x, y, r, c: [where(ops["less"](x, c), r, 0.0).sum((1,)), x + r],
    "softmax": lambda x, y, r, c: ops["softmax"](x),
}


def holds(fn: Callable[..., Any], rows: int, n: int, dtype: str = "float32") -> bool:
    """Does a vector go from row to row in a register?"""
    module = compile_full(graph_of(fn, *row_types(rows, n, dtype))).program.module
    return re.search(r"= phi <\d+ x (float|double|half|i16)>", module) is not None


@pytest.mark.parametrize("name", [*FOLDS, *ROWS])
@pytest.mark.parametrize("n", [1, 3, 4, 8, 9, 16, 17, 33, 48, 63, 64, 100])
def test_results_are_those_of_the_interpreter(name: str, n: int) -> None:
    for rows in (1, 5, 40):
        types = row_types(rows, n)
        check(graph_of((FOLDS | ROWS)[name], *types), samples(types))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "int32"])
def test_dtypes(dtype: str) -> None:
    for n in (5, 16, 24, 39):
        types = row_types(6, n, dtype)
        check(graph_of(lambda x, y, r, c: [largest(c + x, 0), x.sum((1,))], *types), samples(types))


def test_which_folds_are_held() -> None:
    most = FOLDS["max"]
    for n in (9, 16, 33, 64, 100):
        assert holds(most, 40, n)
    assert not holds(most, 40, 300)  # too many registers
    assert not holds(lambda x, y, r, c: ops["tanh"](c + x).sum((0,)), 40, 64)  # computes enough
    assert not holds(ROWS["sum"], 40, 33)


@pytest.mark.parametrize("fold", [largest, least])
def test_nan_wherever_it_is(fold: Any) -> None:
    """Also the first or the last, and several."""
    executable = prepared(compile_full(graph_of(lambda x, c: fold(x + c, 0), t(6, 20), t(6, 1))))
    x = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)
    for k, rows in enumerate([(0,), (5,), (0, 5), (2, 3), range(6)]):
        x[[*rows], 3 * k] = np.nan
    x[:, 19], x[1, 18], x[2, 17] = 0.0, np.inf, -np.inf
    (found,) = executable.run([x, np.zeros((6, 1), np.float32)])
    np.testing.assert_array_equal(found, (np.max if fold is largest else np.min)(x, axis=0))


def test_loops_seldom_ask_whether_they_are_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is a call of the system. A step of 10,000 elements takes a microsecond."""
    asked = []
    listen = LoopEmitter.listen
    monkeypatch.setattr(LoopEmitter, "listen", lambda e: (asked.append(e.asking), listen(e)))

    def scan(x: Any, y: Any) -> Any:
        body = graph_of(lambda s, y: ops["tanh"](s) * y, x.type, y.type)
        return ops["scan"](
            x, y, body_graph=body, carried=1, scanned=0, length=1 << 20, reverse=False, masked=False
        )[0]

    compile_full(graph_of(scan, t(100, 100), t(100, 100)))
    assert asked == [1 << 7]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize(
    ("fn", "shape"),
    [(ops["softmax"], (65, 17)), (lambda x: x.sum((0, 1)), (5, 3))],
    ids=["rows", "number"],
)
def test_one_lane_is_stored_as_a_number(fn: Any, shape: tuple[int, ...], dtype: str) -> None:
    """LLVM would store 32 bits of a 16-bit lane: those of the next row too, or none of ours."""
    module = compile_full(graph_of(fn, t(*shape, dtype=dtype))).program.module
    stores = [line for line in module.splitlines() if "call void @llvm.masked.store" in line]
    assert not [s for s in stores for w in (4, 8, 16, 32) if prefix_mask(1, w) in s]
