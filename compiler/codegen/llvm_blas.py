"""Matrix products by BLAS: gemv and dot where there are vectors, else gemm (`llvm_gemm`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphgrad.compiler.codegen.llvm_gemm import NO_TRANSPOSE, ROW_MAJOR, TRANSPOSE, gemm_of
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
        writer.gemm(gemm_of(product, integer), places)
        return
    call = VectorCall(writer, product, integer, *(writer.size(to_size(s)) for s in product.sizes))
    tests = [] if isinstance(k, int) or m == n == 1 else [f"sge i64 {call.k}, 1"]
    tests += [] if isinstance(m, int) or n == 1 else [f"eq i64 {call.m}, 1"]
    choose(
        writer, tests, lambda: call.emit(places),
        lambda: writer.gemm(gemm_of(product, integer), places),
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


def loop(writer: ModuleWriter, count: str, body: Callable[[str], None]) -> None:
    """`for index in range(count)`."""
    before, head, inside, latch, after = (writer.fresh()[1:] for _ in range(5))
    index, following, test = (writer.fresh() for _ in range(3))
    writer.lines += [f"  br label %{before}", f"{before}:", f"  br label %{head}", f"{head}:"]
    writer.lines.append(f"  {index} = phi i64 [ 0, %{before} ], [ {following}, %{latch} ]")
    writer.lines.append(f"  {test} = icmp slt i64 {index}, {count}")
    writer.lines += [f"  br i1 {test}, label %{inside}, label %{after}", f"{inside}:"]
    with writer.branch():
        body(index)
    writer.lines += [f"  br label %{latch}", f"{latch}:"]
    writer.lines.append(f"  {following} = add i64 {index}, 1")
    writer.lines += [f"  br label %{head}", f"{after}:"]


@dataclass
class VectorCall:
    """Calls of gemv or dot for products in which one side is a vector, or both are: these read at
    the speed of memory, gemm at a fifth of that."""

    writer: ModuleWriter
    product: Product
    integer: str
    m: str
    n: str
    k: str

    @property
    def scalar(self) -> str:
        return self.product.scalar

    def routine(self, name: str) -> str:
        return self.writer.routine(self.product.routine[0] + name)

    def emit(self, places: tuple[Place, Place, Place]) -> None:
        """The call, or one for each product of a batch."""
        w, pointers = self.writer, [self.writer.pointer(p) for p in places]
        if self.product.batch is None:
            self.one(*pointers)
            return
        count, *steps = (w.size(to_size(s)) for s in self.product.batch)

        def body(index: str) -> None:
            moved = []
            for pointer, step in zip(pointers, steps, strict=True):
                at = w.emit(f"mul i64 {index}, {step}")
                moved.append(w.emit(f"getelementptr {self.scalar}, ptr {pointer}, i64 {at}"))
            self.one(*moved)

        loop(w, count, body)

    def one(self, a: str, b: str, c: str) -> None:
        m, n, _ = self.product.sizes
        if m == 1 and n == 1:
            self.dot(a, b, c)
        elif n == 1:
            self.left_gemv(a, b, c)
        else:
            self.right_gemv(a, b, c)

    def left_gemv(self, a: str, b: str, c: str) -> None:
        """The column C = op(A) B."""
        transposed = self.product.flags[0]
        rows, columns = (self.k, self.m) if transposed else (self.m, self.k)
        self.gemv(transposed, rows, columns, a, b, c)

    def right_gemv(self, a: str, b: str, c: str) -> None:
        """The row C = A op(B), as the column op(B)^T A^T."""
        transposed = not self.product.flags[1]
        rows, columns = (self.k, self.n) if transposed else (self.n, self.k)
        self.gemv(transposed, rows, columns, b, a, c)

    def gemv(self, transposed: bool, rows: str, columns: str, matrix: str, x: str, y: str) -> None:
        i, t = self.integer, self.scalar
        flag = TRANSPOSE if transposed else NO_TRANSPOSE
        m, n, lda = self.narrow(rows), self.narrow(columns), self.leading(columns)
        self.writer.lines.append(
            f"  call void {self.routine('gemv')}(i32 {ROW_MAJOR}, i32 {flag}, {i} {m}, {i} {n}, "
            f"{t} 1.0, ptr {matrix}, {i} {lda}, ptr {x}, {i} 1, {t} 0.0, ptr {y}, {i} 1)"
        )

    def dot(self, a: str, b: str, c: str) -> None:
        i, k, t = self.integer, self.narrow(self.k), self.scalar
        value = self.writer.emit(
            f"call {t} {self.routine('dot')}({i} {k}, ptr {a}, {i} 1, ptr {b}, {i} 1)"
        )
        self.writer.lines.append(f"  store {t} {value}, ptr {c}")

    def leading(self, value: str) -> str:
        """CBLAS wants leading dimensions of at least 1, also for empty matrices."""
        if value.isdigit():
            return str(max(1, int(value)))
        self.writer.parts.declares.add("declare i64 @llvm.smax.i64(i64, i64)")
        return self.narrow(self.writer.emit(f"call i64 @llvm.smax.i64(i64 {value}, i64 1)"))

    def narrow(self, value: str) -> str:
        if self.integer == "i64" or value.isdigit():
            return value
        return self.writer.emit(f"trunc i64 {value} to i32")
