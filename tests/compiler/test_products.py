"""Matrix products: kernels for small ones, BLAS for others, the same results from both."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_products import ModuleParts
from graphgrad.compiler.codegen.llvm_program import product_text
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.kernels.products import Product, product_nest, product_of
from graphgrad.compiler.op import ops
from graphgrad.runtime import engine, llvm_engine
from graphgrad.runtime.program import Target
from tests.compiler.compiling import check, compile_full, graph_of, prepared, run_compiled, t

FLAGS = list(itertools.product((False, True), repeat=2))


def operands(lead: tuple[Any, ...], m: Any, n: Any, k: Any, flags: tuple[bool, bool]) -> Any:
    """The shapes of both sides."""
    a = (k, m) if flags[0] else (m, k)
    return (*lead, *a), (*lead, *((n, k) if flags[1] else (k, n)))


def product(flags: tuple[bool, bool]) -> Any:
    return lambda a, b: ops["matmul"](a, b, *flags)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(
    ("m", "n", "k", "dtype"),
    [(1, 1, 1, "float32"), (3, 3, 3, "float32"), (2, 5, 16, "float32"), (17, 13, 12, "float32"),
     (9, 3, 16, "float64"), (1, 3, 3, "float64"), (3, 1, 5, "float64"), (23, 16, 16, "float64"),
     (5, 2, 1, "float32"), (8, 31, 15, "float32")],
)  # fmt: skip
def test_batches_of_small_products_are_kernels(
    m: int, n: int, k: int, dtype: str, flags: tuple[bool, bool]
) -> None:
    shapes = operands((6,), m, n, k, flags)
    compilation = check(product(flags), *(t(*s, dtype=dtype) for s in shapes))
    assert [s.kind for s in compilation.steps] == ["kernel"]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(
    ("rows", "n", "k", "dtype"),
    [(513, 3, 3, "float32"), (600, 16, 33, "float32"), (521, 31, 16, "float32"),
     (515, 16, 16, "float64"), (512, 9, 5, "float64")],
)  # fmt: skip
def test_tall_products_are_right(
    rows: int, n: int, k: int, dtype: str, flags: tuple[bool, bool]
) -> None:
    shapes = operands((), rows, n, k, flags)
    compilation = check(product(flags), *(t(*s, dtype=dtype) for s in shapes), python=False)
    kind = "routine" if flags[1] and k > 16 else "kernel"
    assert [s.kind for s in compilation.steps] == [kind]


def test_one_side_may_be_shared_by_the_batch() -> None:
    for shapes in (((1, 3, 4), (6, 4, 5)), ((3, 4), (6, 4, 5)), ((6, 3, 4), (1, 4, 5))):
        check(product((False, False)), *(t(*s) for s in shapes))
    compilation = check(product((True, False)), t(6, 4, 3), t(4, 5))
    assert [s.kind for s in compilation.steps] == ["kernel"]


@pytest.mark.parametrize(
    ("shapes", "flags", "kind"),
    [
        (((6, 32, 32), (6, 32, 32)), (False, False), "kernel"),
        (((6, 33, 32), (6, 32, 33)), (False, False), "routine"),  # too wide
        (((6, 32, 64), (6, 64, 16)), (False, False), "kernel"),
        (((6, 32, 65), (6, 65, 16)), (False, False), "routine"),  # too long
        (((6, 32, 17), (6, 17, 8)), (False, False), "routine"),  # too long for short rows
        (((6, 32, 17), (6, 32, 17)), (False, True), "routine"),  # too long to be turned
        (((64, 8), (8, 8)), (False, False), "routine"),  # too few
        (((512, 8), (8, 8)), (False, False), "kernel"),
        (((512, 8), (8, 1)), (False, False), "routine"),  # gemv
    ],
)
def test_the_sizes_decide_who_multiplies(shapes: Any, flags: tuple[bool, bool], kind: str) -> None:
    compilation = compile_full(graph_of(product(flags), *(t(*s) for s in shapes)))
    assert [s.kind for s in compilation.steps] == [kind]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)])
@pytest.mark.parametrize("lead", [(), (4,), (0,)], ids=str)
def test_empty_products_are_zeros(
    lead: tuple[int, ...], m: int, n: int, k: int, flags: tuple[bool, bool]
) -> None:
    check(product(flags), *(t(*s) for s in operands(lead, m, n, k, flags)))


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("n", [1, 3, 40])
@pytest.mark.parametrize("rows", [0, 1, 9, 530])
def test_an_unknown_number_of_rows(rows: int, n: int, flags: tuple[bool, bool]) -> None:
    """It may come to 1, where BLAS has a routine for vectors."""
    m = DimScope().symbol("m", 0, 1 if flags[0] else 0)
    shapes = operands((), m, n, 5, flags)
    check(product(flags), *(t(*s) for s in shapes), sizes=(rows,), python=False)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 7), (7, 1), (7, 40)])
@pytest.mark.parametrize("inner", [0, 1, 300])
def test_an_unknown_inner_size(inner: int, m: int, n: int, flags: tuple[bool, bool]) -> None:
    """It may come to 0, where BLAS's routines for vectors leave the result as it was."""
    k = DimScope().symbol("k", 0, 0 if flags[0] else 1)
    types = [t(*s) for s in operands((), m, n, k, flags)]
    compilation = check(product(flags), *types, sizes=(inner,), python=False)
    if inner == 0:
        run = prepared(compilation).run
        arrays = [np.ones([inner if s is k else s for s in x.shape], np.float32) for x in types]
        for _ in range(20):
            used = np.full((m, n), np.nan, np.float32)
            del used  # so that results are likely to get its memory
            assert not run(arrays)[0].any()


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0])
def test_special_values_stay_in_their_rows_and_columns(
    value: float, flags: tuple[bool, bool]
) -> None:
    shapes = operands((2,), 5, 3, 4, flags)
    a, b = (np.ones(s, np.float32) for s in shapes)
    a[1, 2, 1] = value
    compilation = compile_full(graph_of(product(flags), *(t(*s) for s in shapes)))
    (result,) = run_compiled(compilation, [a, b])
    left = a.swapaxes(1, 2) if flags[0] else a
    with np.errstate(invalid="ignore"):
        expected = left @ (b.swapaxes(1, 2) if flags[1] else b)
    np.testing.assert_array_equal(result, expected)


def kernel_of(p: Product) -> Any:
    """The kernel of a product as a Python function of the arrays and a part of its range."""
    parts = ModuleParts()
    kernel = product_text(p, parts)
    text = parts.text() + kernel.text.replace("define internal", "define")
    library, _ = engine.compile_module(text, engine.host_target())
    pointer, index = ctypes.c_void_p, ctypes.c_int64
    function = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, index, index, pointer)
    call = function(library.address(kernel.name))

    def run(a: Any, b: Any, c: Any, lo: int, hi: int) -> None:
        assert library  # it holds the code
        sizes = [n for n in kernel.sizes if isinstance(n, int)]
        words = (ctypes.c_int64 * (3 + len(sizes)))(*(x.ctypes.data for x in (a, b, c)), *sizes)
        assert call(None, lo, hi, ctypes.addressof(words)) == 0

    return run


def small(shapes: Any, flags: tuple[bool, bool], dtype: str = "float32") -> Product:
    graph = graph_of(product(flags), *(t(*s, dtype=dtype) for s in shapes))
    found = product_of(graph.nodes[-1])
    assert found is not None
    return found


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lead", [(), (40,)], ids=["rows", "batch"])
def test_parts_of_the_range_give_the_same_bits(
    lead: tuple[int, ...], dtype: str, flags: tuple[bool, bool]
) -> None:
    m, n, k = (13, 6, 11) if lead else (40, 6, 11)
    shapes = operands(lead, m, n, k, flags)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(dtype) for s in shapes)
    run = kernel_of(small(shapes, flags, dtype))
    whole, parts = (np.full((*lead, m, n), np.nan, dtype) for _ in range(2))
    run(a, b, whole, 0, 40)
    for lo, hi in ((31, 40), (0, 1), (1, 9), (9, 9), (9, 31)):
        run(a, b, parts, lo, hi)
        assert np.isfinite(parts[lo:hi]).all()
    np.testing.assert_array_equal(whole, parts)


def guarded(shape: tuple[int, ...], dtype: str) -> Any:
    """An array whose last byte is the last of a page, with a page after it that traps."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = -(-size // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    trap = ctypes.c_void_p(start + pages * mmap.PAGESIZE)
    assert ctypes.CDLL(None).mprotect(trap, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    return np.frombuffer(memory, dtype, size // np.dtype(dtype).itemsize,
                         pages * mmap.PAGESIZE - size).reshape(shape)  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does")
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 3, 7, 15])
def test_nothing_beyond_the_operands_is_touched(
    n: int, dtype: str, flags: tuple[bool, bool]
) -> None:
    shapes = operands((3,), 5, n, 4, flags)
    rng = np.random.default_rng(1)
    a, b, c = (guarded(s, dtype) for s in (*shapes, (3, 5, n)))
    for x in (a, b):
        x[...] = rng.standard_normal(x.shape)
    kernel_of(small(shapes, flags, dtype))(a, b, c, 0, 3)
    left, right = (x.swapaxes(1, 2) if f else x for x, f in zip((a, b), flags, strict=True))
    np.testing.assert_allclose(c, left @ right, 1e-4, 1e-5)


WIDE = Target("x86_64-unknown-linux-gnu", *llvm_engine.cpu_and_features("x86-64-v4"))
NARROW = Target("x86_64-unknown-linux-gnu", *llvm_engine.cpu_and_features("x86-64-v3"))
SLIM = [
    (4, 256, 300, "float32", False), (32, 256, 96, "float32", True),
    (13, 300, 100, "float32", False), (64, 47, 130, "float32", False),
    (17, 33, 700, "float32", True), (8, 16, 2100, "float64", False),
    (33, 90, 100, "float64", True), (784, 256, 32, "float32", True),
    (333, 100, 48, "float32", False),
]  # fmt: skip


@pytest.mark.parametrize(("m", "n", "k", "dtype", "transposed"), SLIM)
def test_slim_products_are_summed_in_panels(
    m: int, n: int, k: int, dtype: str, transposed: bool
) -> None:
    """Their kernels run anywhere; with AVX-512 they are faster than BLAS, and chosen."""
    flags = (transposed, False)
    shapes = operands((), m, n, k, flags)
    p = small(shapes, flags, dtype)
    assert p.is_slim
    assert not p.is_small
    graph = graph_of(product(flags), *(t(*s, dtype=dtype) for s in shapes))
    for target, kind in ((WIDE, "kernel"), (NARROW, "routine")):
        assert [s.kind for s in compile_in_full(graph, target).steps] == [kind]
    rng = np.random.default_rng(2)
    c, parts = (np.full((m, n), np.nan, dtype) for _ in range(2))
    if sys.platform == "linux":
        a, b = (guarded(s, dtype) for s in shapes)
        c = guarded(c.shape, dtype)
    else:
        a, b = (np.empty(s, dtype) for s in shapes)
    for x in (a, b):
        x[...] = rng.standard_normal(x.shape)
    run, count = kernel_of(p), p.parts
    run(a, b, c, 0, count)
    expected = (a.T if transposed else a).astype(np.float64) @ b
    scale = np.abs(a.T if transposed else a).astype(np.float64) @ np.abs(b)
    assert (np.abs(c - expected) <= 8 * np.finfo(dtype).eps * scale).all()
    for lo, hi in ((1, count), (0, 0), (0, 1)):
        run(a, b, parts, lo, hi)
    np.testing.assert_array_equal(c, parts)


@pytest.mark.parametrize(
    ("m", "n", "k", "flags"),
    [(3, 256, 784, (False, False)), (65, 256, 784, (False, False)), (32, 31, 784, (False, False)),
     (32, 256, 784, (False, True)), (64, 4000, 15, (False, False)), (8, 64, 5000, (False, False)),
     (32, 2048, 1024, (False, False)), (16, 64, 64, (False, False)),
     (784, 256, 49, (True, False)), (784, 513, 32, (True, False)), (256, 100, 32, (True, False))],
)  # fmt: skip
def test_other_products_are_left_to_blas(m: int, n: int, k: int, flags: tuple[bool, bool]) -> None:
    graph = graph_of(product(flags), *(t(*s) for s in operands((), m, n, k, flags)))
    assert [s.kind for s in compile_in_full(graph, WIDE).steps] == ["routine"]


def test_sizes_are_arguments() -> None:
    """Another batch, or another number of rows above a few, is the same kernel."""
    texts = [
        product_text(small(operands((count,), m, 5, k, (False, False)), (False, False)),
                     ModuleParts()).text
        for count, m, k in ((7, 20, 9), (9, 28, 9), (9, 28, 12))
    ]  # fmt: skip
    assert texts[0] == texts[1] == texts[2]


def test_the_nest_of_a_product_says_what_it_does() -> None:
    graph = graph_of(product((False, True)), t(6, 4, 3), t(6, 5, 3))
    node = graph.nodes[-1]
    p = product_of(node)
    assert p is not None
    assert p.dtype is dtypes.float32
    nest = product_nest(p, node)
    assert (nest.dims, nest.parallel, nest.folded) == ((6, 4, 3, 5), 2, 1)
