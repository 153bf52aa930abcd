"""Matrix products: which of them a kernel computes, and which a BLAS routine."""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Library
from graphgrad.compiler.ir import Node
from graphgrad.compiler.kernels.loops import (
    Access,
    Affine,
    Array,
    LoopNest,
    Phase,
    Reduction,
    Stmt,
)
from graphgrad.compiler.types import Shape, element_count

# A kernel computes products whose rows of the result have at most so many bytes; BLAS is faster
# beyond, for it copies what it reads into the order in which it reads it.
KERNEL_ROW_BYTES = 128
# The inner size may be this, or the smaller number where a row does not fill a vector, and where
# the right operand comes transposed and has to be turned.
KERNEL_INNER, KERNEL_INNER_SHORT = 64, 16
VECTOR_BYTES = 64
# One product with fewer rows costs less than the compilation of a kernel for it.
KERNEL_ROWS = 512
# Products of few rows, or of few terms, where BLAS spends its time on copying the right operand.
# The first: how many rows and terms, bytes of the right operand, which shall stay in cache, and
# multiply-adds that are worth a kernel. The second: how many rows, of what length, terms, work.
FEW_ROWS, INNER, RIGHT_BYTES, FEW_ROWS_WORK = range(4, 65), range(16, 4097), 1 << 22, 1 << 18
ROWS, ROW_BYTES, FEW_TERMS, FEW_TERMS_WORK = range(4, 4097), 2048, range(16, 49), 1 << 20
# Columns that such a kernel sums at a time, in bytes of a row.
PANEL_BYTES = 2 * VECTOR_BYTES


@dataclass(frozen=True, slots=True)
class Product:
    """One product, or a batch of them: (count, then elements from matrix to matrix of A, B, C)."""

    dtype: DType
    flags: tuple[bool, bool]  # whether A and B are transposed
    sizes: tuple[Extent, Extent, Extent]  # m, n, k
    batch: tuple[Extent, Extent, Extent, Extent] | None

    @property
    def scalar(self) -> str:
        """The LLVM type of an element."""
        return "float" if self.dtype is dtypes.float32 else "double"

    @property
    def routine(self) -> str:
        """BLAS's routine for it."""
        return "sgemm" if self.dtype is dtypes.float32 else "dgemm"

    @property
    def is_small(self) -> bool:
        """Are its matrices so small, and so many or so tall, that a kernel of its own is faster
        than calls of BLAS?"""
        m, n, k = self.sizes
        if not isinstance(n, int) or not isinstance(k, int):
            return False
        row = n * self.dtype.itemsize
        short = row < VECTOR_BYTES or self.flags[1]
        if row > KERNEL_ROW_BYTES or k > (KERNEL_INNER_SHORT if short else KERNEL_INNER):
            return False
        if self.batch is not None:
            return n > 0
        return n > 1 and (not isinstance(m, int) or m >= KERNEL_ROWS)

    @property
    def is_slim(self) -> bool:
        """Has it few rows or few terms, so that a kernel of its own is faster than BLAS if the
        registers hold 16 vectors of 64 bytes?"""
        m, n, k = self.sizes
        if not (isinstance(m, int) and isinstance(n, int) and isinstance(k, int)):
            return False
        row, work = n * self.dtype.itemsize, m * n * k
        if self.batch is not None or self.flags[1] or self.is_small or row < PANEL_BYTES:
            return False
        if m in FEW_ROWS and k in INNER and row * k <= RIGHT_BYTES and work >= FEW_ROWS_WORK:
            return True
        return m in ROWS and row <= ROW_BYTES and k in FEW_TERMS and work >= FEW_TERMS_WORK

    @property
    def parts(self) -> Extent:
        """Into how many parts the kernel can be cut: products of a batch, panels of columns of a
        slim product, or rows."""
        if self.batch is not None:
            return self.batch[0]
        if self.is_slim:
            return -(-self.sizes[1] * self.dtype.itemsize // PANEL_BYTES)
        return self.sizes[0]


def product_of(node: Node) -> Product | None:
    """The product that a node computes, or None where it is a host step."""
    if not isinstance(node.op, Library) or node.op.routine != "gemm":
        return None
    dtype = node.out.type.dtype
    if dtype not in (dtypes.float32, dtypes.float64):
        return None
    a, b, c = node.inputs[0].type.shape, node.inputs[1].type.shape, node.out.type.shape
    flags = (bool(node.attrs["transpose_a"]), bool(node.attrs["transpose_b"]))
    k = a[-2] if flags[0] else a[-1]
    m, n = c[-2], c[-1]
    lead = c[:-2]
    if all(n == 1 for n in lead):
        return Product(dtype, flags, (m, n, k), None)
    step_a, step_b = batch_step(a, lead), batch_step(b, lead)
    if step_a is None or step_b is None:
        return None
    if step_b == 0 and not flags[0]:  # one wide product over all rows
        return Product(dtype, flags, (element_count(lead) * m, n, k), None)
    return Product(dtype, flags, (m, n, k), (element_count(lead), step_a, step_b, m * n))


def batch_step(shape: Shape, lead: Shape) -> Extent | None:
    """Elements from one matrix to the next; 0 where all share one; None where only some axes do."""
    own = shape[:-2]
    if all(n == 1 for n in own):
        return 0
    if own == lead:
        return shape[-2] * shape[-1]
    return None


def product_nest(product: Product, node: Node) -> LoopNest:
    """What the kernel of a small product computes, as a loop nest: for reports and tests."""
    dtype, where = product.dtype, node.where
    m, n, k = product.sizes
    count, *steps = product.batch or (1, 0, 0, 0)
    transpose_a, transpose_b = product.flags
    lead = [] if product.batch is None else [count]

    def access(array: int, row: Extent, inner: Extent, column: Extent) -> Access:
        strides = (row, inner, column)
        return Access(array, Affine(0, (steps[array], *strides) if lead else strides))

    a = access(0, 1, m, 0) if transpose_a else access(0, k, 1, 0)
    b = access(1, 0, 1, k) if transpose_b else access(1, 0, n, 1)
    row = Phase("row", (Stmt(0, "load", (), dtype, a, where),))
    sweep = (
        Stmt(1, "load", (), dtype, b, where),
        Stmt(2, "mul", (0, 1), dtype, None, where),
        Stmt(3, "reduce", (2,), dtype, Reduction("sum", "column", access(2, n, 0, 1)), where),
    )
    arrays = (Array("in", dtype, "x0"), Array("in", dtype, "x1"), Array("out", dtype, "out0"))
    return LoopNest(
        (*lead, m, k, n), len(lead) + 1, 1, arrays, (row, Phase("sweep", sweep)), (), "matmul"
    )
