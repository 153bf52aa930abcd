"""Hints to the caches: given to large kernels alone, and without effect on results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen import llvm_streams as streams
from graphgrad.compiler.codegen.llvm_nest import ROW_BLOCK
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.op import ops
from graphgrad.compiler.types import TensorType
from graphgrad.runtime import engine, executor, memory, threads
from graphgrad.runtime.memory import address
from tests.compiler import models
from tests.compiler.compiling import check, compile_full, graph_of, prepared, t
from tests.compiler.test_lowering import PROGRAMS

ROWS, COLUMNS = 512, 1024  # 2 MiB of float32
PREFETCH, AROUND = "@llvm.prefetch", "!nontemporal"


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel is large."""
    monkeypatch.setattr(streams, "FETCHED_BYTES", -1)
    monkeypatch.setattr(streams, "WRITTEN_BYTES", -1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel is large from 64 KiB on."""
    monkeypatch.setattr(streams, "FETCHED_BYTES", 1 << 16)
    monkeypatch.setattr(streams, "WRITTEN_BYTES", 1 << 16)


def text(fn: Any, *types: TensorType) -> str:
    return compile_full(graph_of(fn, *types)).program.module


def add(x: Any, y: Any) -> Any:
    return x + y


def total(x: Any) -> Any:
    return x.sum((1,))


@pytest.mark.parametrize(("name", "fn", "types"), PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_results_are_the_same_with_hints(always: None, name: str, fn: Any, types: Any) -> None:
    check(fn, *types, python=False)


@pytest.mark.parametrize("rows", [1, 2, 3, 37])
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 64, 100])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bfloat16"])
def test_results_are_the_same_in_every_shape(
    always: None, dtype: str, rows: int, columns: int
) -> None:
    def fn(x: Any, y: Any) -> list[Any]:
        z = x * y
        return [z, z.sum((0,)), x.sum((1,)), ops["max"](x, (0, 1)), y + 1.0]

    check(fn, t(rows, columns, dtype=dtype), t(rows, columns), python=False)


@pytest.mark.parametrize("n", [5, 100, 300, 4000])
@pytest.mark.parametrize("fn", [add, lambda x, y: [x.sum((0,)), (x * y).sum((1,))]])
def test_unknown_sizes_choose_at_run_time(small: None, n: int, fn: Any) -> None:
    rows = DimScope().symbol("n", 0, 0)
    module = text(fn, t(rows, 70), t(rows, 70))
    assert AROUND in module or PREFETCH in module
    assert "%exceeds65536 = icmp sgt i64" in module
    check(fn, t(rows, 70), t(rows, 70), sizes=(n,), python=False)


def test_only_large_kernels_have_hints() -> None:
    for fn, hint in ((add, AROUND), (total, PREFETCH)):
        count = fn.__code__.co_argcount
        assert hint not in text(fn, *[t(ROWS, COLUMNS)] * count)
        assert hint in text(fn, *[t(16 * ROWS, COLUMNS)] * count)


def test_known_sizes_enter_the_text_by_the_limits_alone() -> None:
    def module(rows: int) -> str:
        return text(add, t(rows, COLUMNS), t(COLUMNS))

    assert module(100) == module(4000)
    assert module(4200) == module(50_000)
    assert module(4000) != module(4200)


def test_kernels_of_exp_and_the_like_write_to_the_caches() -> None:
    large = t(16 * ROWS, COLUMNS)
    module = text(models.softmax, large)
    assert PREFETCH in module  # in the second of its sweeps
    assert AROUND not in module
    module = text(lambda x: ops["exp"](x) * 2.0, large)
    assert PREFETCH not in module
    assert AROUND not in module


def test_the_second_sweep_of_a_row_asks_for_later_rows() -> None:
    (step,) = compile_full(graph_of(models.softmax, t(16 * ROWS, COLUMNS))).steps
    assert step.nest is not None
    first, second, *_ = [p for p in step.nest.phases if p.kind == "sweep"]
    (asking,) = streams.fetched(step.nest)
    assert asking in {s.id for s in second.stmts if s.fn == "load"}
    assert any(s.fn == "load" for s in first.stmts)


def test_what_is_read_again_stays_in_the_caches() -> None:
    def fn(x: Any) -> list[Any]:
        y = x * 2.0 + ops["max"](x, 1, keepdims=True)
        return [y, (y - y.sum((1,), True)).sum((0,))]

    compilation = compile_full(graph_of(fn, t(16 * ROWS, COLUMNS)))
    for step in compilation.steps:
        assert step.nest is not None
        read = {
            s.attr.array for s in step.nest.statements() if s.fn == "load" and s.attr is not None
        }
        assert not streams.written(step.nest, 16) & read


@pytest.mark.skipif(not memory.RECYCLING, reason="nothing is donated without the GIL")
@pytest.mark.parametrize("shift", [0, 4, 16, 60])
def test_outputs_that_begin_within_a_line(always: None, shift: int) -> None:
    """Donated memory may lie anywhere: stores around the caches need whole lines."""
    compilation = compile_full(graph_of(lambda x: x * 3.0 + 1.0, t(1000)))
    assert AROUND in compilation.program.module
    block = memory.Block((4000 + 128,), np.uint8)
    offset = -address(block) % 64 + shift
    arrays = [np.ndarray(1000, np.float32, buffer=block, offset=offset)]
    del block
    arrays[0][:] = np.arange(1000)
    place = address(arrays[0])
    (y,), _ = prepared(compilation).launch(arrays, [place], [True])
    assert address(y) == place
    np.testing.assert_array_equal(y, np.arange(1000) * 3 + 1)


def asked_for(fn: Any, x: np.ndarray) -> np.ndarray:
    """The byte offsets into `x` that the compiled `fn` asks for, in order, run with hints."""
    compilation = compile_full(graph_of(fn, t(*x.shape)))
    found = np.zeros(1 << 17, np.int64)  # how many, then the addresses
    module = compilation.program.module.replace(
        "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
        f"""define internal void @asked(ptr %p, i32 %w, i32 %l, i32 %c) {{
          %all = inttoptr i64 {address(found)} to ptr
          %old = load i64, ptr %all
          %new = add i64 %old, 1
          store i64 %new, ptr %all
          %place = getelementptr i64, ptr %all, i64 %new
          %where = ptrtoint ptr %p to i64
          store i64 %where, ptr %place
          ret void
        }}""",
    ).replace("@llvm.prefetch.p0", "@asked")
    program = replace(compilation.program, module=module)
    executable = executor.prepare(program, engine.host_target())
    threads.set_count(1)  # the order is that of one thread, and so is the count
    try:
        (y,), _ = executable.launch([x], [address(x)], [])
    finally:
        threads.set_count(None)
    np.testing.assert_allclose(y, x.sum(0)[: len(y)], rtol=1e-4)
    return found[1 : found[0] + 1] - address(x)


@pytest.mark.parametrize("columns", [64, 100, 1024, 4096])
def test_rows_that_are_added_together_ask_for_later_ones_in_the_order_of_memory(
    always: None, columns: int
) -> None:
    rows, line = 256, 64
    x = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    found = asked_for(lambda x: x.sum((0,)), x)
    ahead = max(streams.AHEAD_BYTES, 4 * ROW_BLOCK * columns)
    assert found[0] == ahead
    in_vectors = columns // 16 * 16  # the others are under a mask
    assert len(found) == rows * in_vectors * 4 // line
    assert np.all(np.diff(found) >= line)
    if in_vectors == columns:
        assert np.all(np.diff(found) == line)


def test_rows_of_a_part_ask_for_their_own_columns(always: None) -> None:
    x = np.ones((256, 1024), np.float32)
    found = asked_for(lambda x: ops["slice"](x, (0, 0), (256, 512), (1, 1)).sum((0,)), x)
    assert np.all((found - streams.AHEAD_BYTES) % 4096 < 2048)


def test_long_rows_are_left_to_the_processor(always: None) -> None:
    x = np.ones((256, 4096 + 16), np.float32)
    assert len(asked_for(lambda x: x.sum((0,)), x)) == 0


def test_known_bytes_of_a_nest() -> None:
    def bytes_of(fn: Any, *types: TensorType) -> int | None:
        (step,) = compile_full(graph_of(fn, *types)).steps
        assert step.nest is not None
        return streams.known_bytes(streams.traffic(step.nest))

    assert bytes_of(add, t(30, 40), t(40)) == (2 * 30 * 40 + 40) * 4
    assert bytes_of(total, t(30, 40)) == (30 * 40 + 30) * 4
    assert bytes_of(add, t(DimScope().symbol("n", 0, 0)), t()) is None


def test_a_wrong_vector_is_seen(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison notices a store that is skipped."""
    monkeypatch.setattr(
        "graphgrad.compiler.codegen.llvm_memory.NestMemory.store_vector", lambda *args: None
    )
    with pytest.raises(AssertionError):
        check(add, t(37, 64), t(37, 64), python=False)
