"""Two vectors side by side: where, and without effect on a single bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen import llvm_nest, llvm_pairs
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.kernels.loops import LoopNest, Phase, Stmt, most_live
from graphgrad.compiler.op import ops
from graphgrad.compiler.types import TensorType
from graphgrad.runtime import engine
from tests.compiler.compiling import check, compile_full, graph_of, run_compiled, samples, t
from tests.compiler.test_lowering import PROGRAMS

AVX512, AVX2 = "+avx512f,+avx2", "+avx2"


def pair(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    """Pair every sweep that can be, or none."""

    def paired(nest: LoopNest, phase: Phase, width: int) -> bool:
        return wanted and not any(s.fn in ("reduce", "require") for s in phase.stmts)

    monkeypatch.setattr(llvm_nest, "paired", paired)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sweep that can be is paired."""

    pair(monkeypatch, True)


def chain(x: Any) -> Any:
    return ops["tanh"](x) * ops["exp"](-x * x)


def many_alive(x: Any) -> Any:
    terms = [ops["exp"](x * float(k)) for k in range(llvm_pairs.PAIRED_LIVE + 1)]
    y = terms[0]
    for term in terms[::-1]:
        y = y * term + 1.0
    return y


def softmax(x: Any) -> Any:
    e = ops["exp"](x - ops["max"](x, (1,), True))
    return e / e.sum((1,), True)


def far_sine(x: Any) -> Any:
    return ops["sin"](x * 1e6)  # some lanes take the rare path


def text(fn: Any, *types: TensorType, features: str = AVX512) -> str:
    return compile_in_full(
        graph_of(fn, *types), replace(engine.host_target(), features=features)
    ).program.module


def test_chains_of_functions_are_paired() -> None:
    assert "<32 x float>" in text(chain, t(1000))
    assert "<16 x double>" in text(chain, t(1000, dtype="float64"))
    assert "<32 x float>" in text(chain, t(9, 64))
    assert "<32 x float>" in text(lambda x: chain(chain(x)), t(1 << 20))


@pytest.mark.parametrize(
    ("fn", "types", "features"),
    [
        pytest.param(chain, (t(1000),), AVX2, id="vectors of two registers"),
        pytest.param(
            lambda x, y: chain(x + y), (t(1000), t(1000, dtype="float64")), AVX512,
            id="doubles in vectors of two registers",
        ),
        pytest.param(lambda x: x + x * x, (t(1000),), AVX512, id="cheap"),
        pytest.param(ops["exp"], (t(1 << 20),), AVX512, id="memory takes longer"),
        pytest.param(chain, (t(63),), AVX512, id="short"),
        pytest.param(lambda x: chain(x).sum((0,)), (t(1000),), AVX512, id="reduces"),
        pytest.param(
            lambda x, i: chain(ops["gather"](x, i)), (t(1000), t(1000, dtype="int32")), AVX512,
            id="checks its elements",
        ),
        pytest.param(many_alive, (t(1000),), AVX512, id="many values alive"),
    ],
)  # fmt: skip
def test_others_are_not(fn: Any, types: tuple[TensorType, ...], features: str) -> None:
    module = text(fn, *types, features=features)
    assert "<32 x float>" not in module
    assert "<32 x double>" not in module


@pytest.mark.parametrize(("name", "fn", "types"), PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_results_are_right_in_pairs(always: None, name: str, fn: Any, types: Any) -> None:
    check(fn, *types, python=False)


@pytest.mark.parametrize("fn", [chain, softmax, far_sine])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 100])
def test_pairs_change_no_bit(
    monkeypatch: pytest.MonkeyPatch, fn: Any, dtype: str, columns: int
) -> None:
    kind = t(3, columns, dtype=dtype)
    graph, arrays = graph_of(fn, kind), samples((kind,))
    has_masks = "+avx512f" in engine.host_target().features.split(",")
    found = []
    for pairs in (True, False):
        pair(monkeypatch, pairs)
        compiled = compile_full(graph)
        wide = "<32 x float>" if dtype == "float32" else "<16 x double>"
        if columns >= 16 and has_masks:
            assert (wide in compiled.program.module) is pairs
        found.append(run_compiled(compiled, arrays))
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a.view(np.uint8), b.view(np.uint8))


def stmt(number: int, fn: str, *args: int) -> Stmt:
    return Stmt(number, fn, args, t(1).dtype)


def test_values_alive_are_counted() -> None:
    loads = [stmt(k, "load") for k in range(3)]
    first, second = stmt(3, "add", 0, 1), stmt(4, "add", 3, 2)
    assert most_live([*loads, first, second, stmt(5, "store", 4)]) == 3
    assert most_live([loads[0], loads[1], first, loads[2], second, stmt(5, "store", 4)]) == 2
    assert most_live([stmt(0, "const"), stmt(1, "load"), stmt(2, "mul", 0, 1)]) == 1
    assert most_live([]) == 0
