"""Kernels in pieces: the same bits from any number of threads, and right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen.llvm_blocks import BlocksEmitter
from graphgrad.compiler.codegen.python_nest import python_kernel
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.kernels import division
from graphgrad.compiler.op import ops
from graphgrad.compiler.types import TensorType
from graphgrad.runtime import blas, engine, executor, threads
from graphgrad.runtime.program import PRODUCTS, THREADS, Program
from tests.compiler import models
from tests.compiler.compiling import (
    assert_same,
    check,
    compile_full,
    graph_of,
    is_exact,
    kernels,
    prepared,
    samples,
    t,
    tolerance,
)
from tests.compiler.random_programs import random_graph

both = models.value_and_gradients
COUNTS = (1, 2, 3, 5)

pytestmark = pytest.mark.skipif(not threads.available(), reason="no threads here")


@pytest.fixture(autouse=True)
def default_threads() -> Iterator[None]:
    yield
    threads.set_count(None)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut all work, however short."""
    for name, value in {"LEAST": 0, "CHUNK": 0, "LANES": 16, "BLOCK_ROWS": 2, "TILE": 1}.items():
        monkeypatch.setattr(division, name, value)
    monkeypatch.setattr(division, "SMALL_PRODUCT", 0)
    monkeypatch.setattr(division, "SMALL_VECTOR_PRODUCT", 0)


def check_shared(
    fn: Callable[..., Any] | Graph, *types: TensorType, sizes: tuple[int, ...] = ()
) -> None:
    """The same bits from any number of threads, and what the interpreter says."""
    graph = fn if isinstance(fn, Graph) else graph_of(fn, *types)
    arrays = samples(graph.types, sizes=sizes)
    compilation = compile_full(graph)
    executable = prepared(compilation)
    first = None
    for count in COUNTS:
        threads.set_count(count)
        outputs = executable.run(arrays)
        found = [a.tobytes() for a in outputs]
        assert first is None or found == first
        first = found
    exact = is_exact(graph) and is_exact(compilation.graph)
    atol = 0.0 if exact else tolerance(graph, arrays)
    assert_same(outputs, interpret(graph, arrays), atol, zeros=False)


def elementwise(x: Any) -> Any:
    return [ops["tanh"](x) * 2.0, x + 1.0]


def rows(x: Any) -> Any:
    return [models.softmax(x), x.sum((-1,)), ops["max"](x, -1)]


def columns(x: Any) -> Any:
    return [x.sum((0,)), (x * x).sum((0,)) * 0.5, ops["max"](x, 0)]


def totals(x: Any) -> Any:
    everywhere = tuple(range(x.ndim))
    return [(x * x).sum(everywhere), ops["max"](x, everywhere), ops["tanh"](x)]


def all_at_once(x: Any) -> Any:
    y = models.softmax(x)
    return [y, (y * x).sum((0, 1)), y.sum((0,)) + 1.0, y.sum((1,)), ops["min"](x, 0)]


def logical(x: Any) -> Any:
    positive = ops["greater"](x, 0.0)
    return [ops["any"](positive, (0, 1)), ops["all"](positive, 0), ops["any"](positive, 1)]


SHAPES = [(0, 5), (1, 1), (3, 5), (64, 16), (65, 17), (127, 3), (3, 1009), (257, 131), (8, 200)]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fn", [elementwise, rows, columns, totals, all_at_once, logical])
def test_results_do_not_depend_on_the_number_of_threads(
    fn: Any, shape: tuple[int, int], dtype: str
) -> None:
    if dtype == "int32" and fn not in (columns, logical):
        return
    if 0 in shape and fn is not elementwise:  # an empty maximum is an error
        fn = lambda x: [x.sum((0,)), x.sum((0, 1)), x.sum((1,))]  # noqa: E731
    check_shared(fn, t(*shape, dtype=dtype))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("known", [None, 0, 1])
@pytest.mark.parametrize("shape", SHAPES[2:], ids=str)
@pytest.mark.parametrize("fn", [elementwise, rows, columns, totals, all_at_once])
def test_with_unknown_sizes(fn: Any, shape: tuple[int, int], known: int | None) -> None:
    scope = DimScope()
    dims: list[Any] = [scope.symbol("n", 0, 0), scope.symbol("m", 0, 1)]
    if known is not None:
        dims[known] = shape[known]
    sizes = tuple(n for n, d in zip(shape, dims, strict=True) if not isinstance(d, int))
    check_shared(fn, t(*dims), sizes=sizes)


@pytest.mark.usefixtures("small_pieces")
def test_models() -> None:
    check_shared(both(models.chain, [0]), t(1000))
    check_shared(both(models.cross_entropy, [0]), t(64, 10), t(64, 1, dtype="int32"))
    check_shared(both(models.layer_norm_loss, [0, 1, 2]), t(64, 100), t(100), t(100), t(64, 100))
    check_shared(lambda x: [((x + x.transpose((1, 0))) * x).sum((0, 1))], t(150, 150))
    check_shared(lambda x, y: ops["concat"]([x * 2.0, y], 0), t(40, 9), t(50, 9))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seed", range(40))
def test_random_programs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    params = [(int(a), int(b)) for a, b in rng.integers(0, 20, (2, 2))]
    instructions = [tuple(map(int, row)) for row in rng.integers(0, 64, (6, 4))]
    check_shared(random_graph(params, instructions, int(rng.integers(0, 256))))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    "sizes",
    [(50, 7, 20), (7, 50, 20), (33, 33, 0), (1, 1, 5), (0, 4, 3), (1, 70, 40), (70, 1, 40),
     (1, 9, 0), (1, 0, 4), (0, 1, 4)],
)  # fmt: skip
@pytest.mark.parametrize("batch", [(), (5,)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products(flags: Any, sizes: Any, batch: Any, dtype: str) -> None:
    m, n, k = sizes
    a, b = (k, m) if flags[0] else (m, k), (n, k) if flags[1] else (k, n)
    graph = graph_of(
        lambda x, y: ops["matmul"](x, y, transpose_a=flags[0], transpose_b=flags[1]),
        t(*batch, *a, dtype=dtype), t(*batch, *b, dtype=dtype),
    )  # fmt: skip
    for count in COUNTS:
        threads.set_count(count)
        check(graph, python=False)


# -- what is cut, and what is not


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize(
    "shapes", [((1, 300), (300, 400)), ((400, 300), (300, 1)), ((1, 9000), (9000, 1))]
)
def test_products_with_a_vector_leave_the_blas_one_thread(shapes: Any, unknown: bool) -> None:
    """Left to themselves, gemv and dot use the BLAS's own threads."""
    if blas.thread_switch() is None:
        pytest.skip("the BLAS has one number of threads")
    types = [t(*s) for s in shapes]
    if unknown and shapes[0][0] == 1:
        types[0] = t(DimScope().symbol("m", 0, 0), *shapes[0][1:])
    executable = prepared(compile_full(graph_of(lambda a, b: ops["matmul"](a, b), *types)))
    a, b = (np.random.default_rng(0).normal(size=s).astype(np.float32) for s in shapes)
    threads.set_count(2)
    (found,) = executable.run([a, b])
    np.testing.assert_allclose(found, a.astype(float) @ b.astype(float), rtol=1e-4, atol=1e-3)
    assert executable._frames[0].plan.threads == 2  # it goes through the pool's `products`
    assert PRODUCTS in executable.program.routines


def pieces(fn: Callable[..., Any], *types: TensorType) -> list[Any]:
    return [s.nest and s.nest.division for s in kernels(compile_full(graph_of(fn, *types)))]


def planned_threads(program: Program) -> int:
    """Of a program with known sizes, when there are 4."""
    threads.set_count(4)
    plan = executor.prepare(program, engine.host_target())._static
    assert plan is not None
    return plan.threads


def test_short_work_stays_on_one_thread() -> None:
    for fn, shape in ((elementwise, (1000,)), (rows, (16, 64)), (all_at_once, (50, 50))):
        program = compile_full(graph_of(fn, t(*shape))).program
        assert planned_threads(program) == 1


LONG = [
    (elementwise, (10**6,)), (rows, (4096, 64)), (all_at_once, (4096, 64)), (columns, (4096, 64)),
    (columns, (9, 10**6)), (totals, (10**6,)),
]  # fmt: skip


def test_long_work_is_shared() -> None:
    for fn, shape in LONG:
        program = compile_full(graph_of(fn, t(*shape))).program
        assert planned_threads(program) == 4


def test_kinds_of_pieces() -> None:
    (flat,) = pieces(lambda x: ops["tanh"](x), t(10**6))
    assert flat.kind == "rows"
    assert flat.grain % division.LANES == 0
    (row,) = pieces(rows, t(4096, 64))
    assert (row.kind, row.count) == ("rows", 4096)
    (fold,) = pieces(all_at_once, t(4096, 64))
    assert fold.kind == "blocks"
    assert (fold.count - 1) * fold.block < 4096 <= fold.count * fold.block
    assert pieces(all_at_once, t(40, 64)) == [None]  # one block
    (lanes,) = pieces(columns, t(9, 10**6))
    assert (lanes.kind, lanes.count) == ("lanes", 10**6)
    (total,) = pieces(lambda x: x.sum((0,)), t(10**7))
    assert total.kind == "blocks"
    assert total.count <= division.CHUNKS


def test_kernels_say_that_they_add_in_blocks() -> None:
    (step,) = kernels(compile_full(graph_of(all_at_once, t(4096, 64))))
    assert step.nest is not None
    assert step.nest.division is not None
    words = f"n0 = 4096 folded in blocks of {step.nest.division.block}, combined in order"
    assert words in python_kernel(step.nest, "k")


# -- failures


@pytest.mark.usefixtures("small_pieces")
def test_the_first_failing_element_is_reported() -> None:
    graph = graph_of(models.checked, t(5000, dtype="int32"), t(5000, dtype="int32"))
    executable = prepared(compile_full(graph))
    x = np.ones(5000, np.int32)
    for bad in (0, 17, 1234, 4999):
        y = x.copy()
        y[bad:] = 0
        found = set()
        for count in COUNTS:
            threads.set_count(count)
            for _ in range(10):
                with pytest.raises(executor.KernelFailure) as e:
                    executable.run([x * 7, y])
                found.add((e.value.failure, e.value.index, e.value.a, e.value.b))
        assert len(found) == 1
    y[:] = 1
    executable.run([x, y])


# -- planted errors


def wrong_count(patch: pytest.MonkeyPatch) -> None:
    """The last block is left out."""
    right = division.blocks

    def blocks(*args: Any) -> Any:
        found = right(*args)
        return found and division.replace(found, count=division.total(found.count, -1))

    patch.setattr(division, "blocks", blocks)


def wrong_end(patch: pytest.MonkeyPatch) -> None:
    """Blocks start where those before them end, and one further."""
    right = BlocksEmitter.arith

    def arith(e: BlocksEmitter, op: str, a: str, b: str) -> str:
        found = right(e, op, a, b)
        return right(e, "add", found, "1") if op == "mul" and a.startswith("%i") else found

    patch.setattr(BlocksEmitter, "arith", arith)


def blocks_by_threads(patch: pytest.MonkeyPatch) -> None:
    """One block for each thread: the order of adding depends on their number."""

    def blocks(extent: Any, time: Any, multiple: int) -> Any:
        above = division.total(extent, division.total(THREADS, -1))
        return division.Division("blocks", THREADS, 0, 1, division.quotient(above, THREADS))

    patch.setattr(division, "blocks", blocks)


def lost_start(patch: pytest.MonkeyPatch) -> None:
    """Rows of partial results begin with what was in memory."""
    patch.setattr(BlocksEmitter, "fill_row", lambda *args: None)


MUTANTS = [wrong_count, wrong_end, blocks_by_threads, lost_start]


def folds() -> None:
    for shape in ((64, 16), (257, 131)):
        check_shared(all_at_once, t(*shape))
        check_shared(totals, t(*shape))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_planted_error_is_found(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folds()
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        folds()
