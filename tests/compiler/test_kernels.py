"""Kernels as people see them (golden files), and as LLVM runs them (planted errors are found)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen import llvm_nest
from graphgrad.compiler.codegen.llvm_memory import NestMemory
from graphgrad.compiler.codegen.llvm_nest import NestEmitter
from graphgrad.compiler.codegen.llvm_program import ModuleWriter
from graphgrad.compiler.codegen.python_nest import python_kernel, python_sizes, run_python_kernel
from graphgrad.compiler.op import ops
from graphgrad.compiler.types import TensorType
from tests.compiler import models
from tests.compiler.compiling import check, compile_full, graph_of, kernels, t

both = models.value_and_gradients

SHOWN: dict[str, tuple[Callable[..., Any], tuple[TensorType, ...]]] = {
    "broadcasting": (models.broadcasting, (t(64, 100), t(100))),
    "row_sums": (models.row_sums, (t(64, 100),)),
    "softmax": (models.softmax, (t(64, 100),)),
    "cross_entropy_gradient": (
        both(models.cross_entropy, [0]), (t(64, 10), t(64, 1, dtype="int32"))
    ),
    "layer_norm_gradient": (
        both(models.layer_norm_loss, [0, 1, 2]), (t(64, 100), t(100), t(100), t(64, 100))
    ),
    "column_sums": (models.column_sums, (t(64, 100), t(100))),
    "bfloat16": (models.half, (t(64, 100), t(100, dtype="bfloat16"))),
    "checks": (models.checked, (t(100, dtype="int32"), t(100, dtype="int32"))),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_kernel_reads_well(name: str, golden: Callable[[str, str], None]) -> None:
    fn, types = SHOWN[name]
    compilation = compile_full(graph_of(fn, *types))
    texts = []
    for k, step in enumerate(kernels(compilation)):
        assert step.nest is not None
        texts.append(python_kernel(step.nest, f"kernel_{k}", [v and v.type for v in step.arrays]))
    golden(f"kernels/{name}.py.txt", "\n".join(texts))


def test_llvm_text(golden: Callable[[str, str], None]) -> None:
    compilation = compile_full(graph_of(lambda x, y: x * y + 1.0, t(100), t(100)))
    golden("kernels/multiply_add.ll", compilation.program.module)


def test_python_kernel_runs_by_itself() -> None:
    (step,) = kernels(compile_full(graph_of(lambda x, b: x * 2.0 + b, t(3, 100), t(100))))
    assert step.nest is not None
    text = python_kernel(step.nest, "k")
    x, b = np.ones((3, 100), np.float32), np.arange(100, dtype=np.float32)
    out = np.zeros((3, 100), np.float32)
    assert python_sizes(step.nest) == (3, 100)
    run_python_kernel(text, [x, b, out], [3, 100])
    np.testing.assert_array_equal(out, x * 2 + b)


def test_statements_carry_the_line_of_the_user() -> None:
    (step,) = kernels(compile_full(graph_of(both(models.chain, [0]), t(100))))
    assert step.nest is not None
    text = python_kernel(step.nest, "k")
    where = step.nodes[0].where
    assert where is not None
    assert f"# {where.describe()}"[:60] in text  # once with the text of the line
    assert text.count(where.text[:30]) == 1
    assert f"# derivative of {where.short()}\n" in text


def test_failed_check_raises_in_python_text() -> None:
    graph = graph_of(models.checked, t(3, dtype="int32"), t(3, dtype="int32"))
    (step,) = kernels(compile_full(graph))
    assert step.nest is not None
    x = np.ones(3, np.int32)
    with pytest.raises(ArithmeticError):
        run_python_kernel(python_kernel(step.nest, "k"), [x, x * 0, x.copy()], [3])


# -- planted errors


def small_programs() -> None:
    """Some programs that together use every part of the emitter."""
    check(models.softmax, t(3, 37), python=False)
    check(lambda x: [x.sum((0, 1)), x.sum((0,)), ops["max"](x, 1)], t(5, 37), python=False)
    check(lambda x: [(x + x.transpose((1, 0))).sum((1,))], t(19, 19), python=False)
    check(lambda x: ops["all"](ops["greater"](x, -100.0), (0, 1)), t(5, 37), python=False)
    check(lambda x: [x.sum((0, 1)), (x * x).sum((0, 1))], t(37, 150), python=False)
    check(models.half, t(5, 17), t(17, dtype="bfloat16"), python=False)
    check(lambda x, y: ops["slice"](x, (0, 1), (4, 3), (1, 2)) * y, t(4, 7), t(4, 3), python=False)


def wrong_mask(patch: pytest.MonkeyPatch) -> None:
    right = NestEmitter.tail_mask
    patch.setattr(
        NestEmitter, "tail_mask", lambda e, index, end: right(e, index, e.arith("sub", end, "1"))
    )


def wrong_stride(patch: pytest.MonkeyPatch) -> None:
    right = NestMemory.stride
    patch.setattr(NestMemory, "stride", lambda e, at: "0" if right(e, at) == "0" else "1")


def wrong_identity(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(llvm_nest, "identity_of", lambda combiner, dtype: 0)


def no_accumulation(patch: pytest.MonkeyPatch) -> None:
    def overwrite(e: Any, emitter: Any, s: Any, x: Any, index: Any, mask: Any) -> None:
        e.store(emitter, s.attr.row, x, index, mask)

    patch.setattr(NestEmitter, "accumulate_column", overwrite)


def lost_accumulators(patch: pytest.MonkeyPatch) -> None:
    right = NestEmitter.horizontal
    patch.setattr(
        NestEmitter, "horizontal", lambda e, name, parts, width: right(e, name, parts[:1], width)
    )


def lost_lanes(patch: pytest.MonkeyPatch) -> None:
    """Lanes outside are not set to the identity before they are reduced."""
    patch.setattr(NestEmitter, "masked", lambda e, emitter, s, x, mask: x)


def wrong_combiner(patch: pytest.MonkeyPatch) -> None:
    right = llvm_nest.combine
    other = {"max": "min", "all": "any"}
    patch.setattr(llvm_nest, "combine", lambda e, name, x, y: right(e, other.get(name, name), x, y))


MUTANTS = [
    wrong_mask, wrong_stride, wrong_identity, no_accumulation, lost_accumulators, lost_lanes,
    wrong_combiner,
]  # fmt: skip


def test_right_emitter_passes() -> None:
    small_programs()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_planted_error_is_found(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        small_programs()


# -- equal nests are written once


def test_the_layers_of_a_network_share_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    emit = NestEmitter.emit
    monkeypatch.setattr(NestEmitter, "emit", lambda self: written.append(1) or emit(self))

    def fn(x: Any, w: Any) -> Any:
        for _ in range(6):
            x = ops["tanh"](x @ w) * 0.5
        return x

    assert len(kernels(check(graph_of(fn, t(3, 3), t(3, 3)), python=False))) == 6
    assert len(written) == 1


@pytest.mark.parametrize(
    ("one", "other"), [(0.0, -0.0), (float("nan"), 0.0), (1.0, 1.0000000000000002)]
)
def test_nests_that_differ_in_a_constant_do_not(one: float, other: float) -> None:
    (step,) = kernels(compile_full(graph_of(lambda x: x * 3.0, t(100, dtype="float64"))))
    assert step.nest is not None

    def with_constant(number: float) -> Any:
        main = tuple(
            replace(p, stmts=tuple(
                replace(s, attr=number) if s.fn == "const" else s for s in p.stmts
            ))
            for p in step.nest.main
        )  # fmt: skip
        return replace(step.nest, main=main)

    writer = ModuleWriter(2)
    texts = [writer.text_of(with_constant(x)).text for x in (one, other, one)]
    assert texts[0] != texts[1]
    assert texts[0] == texts[2]
