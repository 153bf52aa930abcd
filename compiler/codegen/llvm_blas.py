"""Matrix products by BLAS: gemv and dot where there are vectors, else gemm (`llvm_blas_calls`)."""

from __future__ import annotations

from collections.abc import Callable

from graphgrad.compiler.codegen.llvm_blas_calls import gemm_of, vector_call
from graphgrad.compiler.codegen.llvm_program import ModuleWriter, Place
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.kernels.products import Product


def emit_product(
    writer: ModuleWriter, product: Product, integer: str, places: tuple[Place, Place, Place]
) -> None:
    """C = op(A) op(B), row-major. `integer` is the type of BLAS's sizes: i32 or i64.

    A size that is not known may come to 1, and then the product has a vector. gemv leaves its
    result as it was where the inner size is 0, so that an unknown one is looked at too.
    """
    writer.cut()
    m, n, k = product.sizes
    if k == 0 or (n != 1 and isinstance(m, int) and m != 1):
        writer.blas(gemm_of(product, integer), places)
        return
    a, b, c = places
    row = n != 1  # C is a row, else a column: the matrix is then B
    tests = [] if isinstance(k, int) or m == n == 1 else [f"sge i64 {writer.size(to_size(k))}, 1"]
    tests += [] if isinstance(m, int) or n == 1 else [f"eq i64 {writer.size(to_size(m))}, 1"]
    choose(
        writer, tests,
        lambda: writer.blas(vector_call(product, integer, row), (b, a, c) if row else places),
        lambda: writer.blas(gemm_of(product, integer), places),
    )  # fmt: skip


def choose(
    writer: ModuleWriter, tests: list[str], one: Callable[[], None], other: Callable[[], None]
) -> None:
    """`one` if all tests hold when it runs, else `other`."""
    if not tests:
        one()
        return
    held = writer.emit(f"icmp {tests[0]}")
    for test in tests[1:]:
        also = writer.emit(f"icmp {test}")
        held = writer.emit(f"and i1 {held}, {also}")
    first, second, after = (writer.fresh()[1:] for _ in range(3))
    writer.lines += [f"  br i1 {held}, label %{first}, label %{second}", f"{first}:"]
    with writer.branch():
        one()
    writer.lines += [f"  br label %{after}", f"{second}:"]
    with writer.branch():
        other()
    writer.lines += [f"  br label %{after}", f"{after}:"]
