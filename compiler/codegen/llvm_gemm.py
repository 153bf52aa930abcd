"""Matrix products as kernels: a part of the rows, columns or matrices of a CBLAS call.

    define internal i32 @k_sgemm(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the routine, the pointers of A, B and C, and the place of `Gemm.words` in the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler.dims import to_size
from graphgrad.compiler.kernels.division import TILE, product_division, times
from graphgrad.compiler.kernels.loops import Division
from graphgrad.compiler.kernels.products import Product
from graphgrad.runtime.program import Size

ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE = 101, 111, 112  # CBLAS_ORDER, CBLAS_TRANSPOSE
CUTS = ("rows", "columns", "matrices")
_WORDS = (
    "cut", "transpose_a", "transpose_b", "m", "n", "k", "lda", "ldb", "ldc", "step_a", "step_b",
    "step_c",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gemm:
    """C = op(A) op(B), row-major, or a batch of them.

    `cut` says which of CUTS its items are: rows or columns of C, or matrices of the batch. `steps`
    are the elements from one item to the next in A, B and C.
    """

    routine: str
    scalar: str  # float | double
    integer: str  # i32 | i64, as the BLAS has them
    flags: tuple[bool, bool]
    sizes: tuple[Size, Size, Size]  # m, n, k
    cut: str
    steps: tuple[Size, Size, Size]
    count: Size
    division: Division

    @property
    def words(self) -> tuple[Size, ...]:
        """What the kernel reads beside pointers: see `_WORDS`."""
        m, n, k = self.sizes
        ta, tb = (TRANSPOSE if f else NO_TRANSPOSE for f in self.flags)
        lda, ldb = m if self.flags[0] else k, k if self.flags[1] else n
        strides = map(at_least_one, (lda, ldb, n))
        return (CUTS.index(self.cut), ta, tb, m, n, k, *strides, *self.steps)


def gemm_of(product: Product, integer: str) -> Gemm:
    """The call of a product, and what of it goes to threads: the matrices of a batch, else rows or
    columns, whichever are more."""
    m, n, k = map(to_size, product.sizes)
    ta, tb = product.flags
    if product.batch is not None:
        count, *rest = map(to_size, product.batch)
        cut, steps, macs, tile = "matrices", rest, times(times(m, n), k), 1
    elif not isinstance(m, int) or (isinstance(n, int) and m >= n):
        cut, count, macs, tile = "rows", m, times(n, k), TILE
        steps = [1 if ta else k, 0, n]
    else:
        cut, count, macs, tile = "columns", n, times(m, k), TILE
        steps = [0, k if tb else 1, 1]
    division = product_division(macs, count, product.routine, tile)
    step_a, step_b, step_c = steps
    return Gemm(
        product.routine, product.scalar, integer, product.flags, (m, n, k), cut,
        (step_a, step_b, step_c), count, division,
    )  # fmt: skip


def at_least_one(size: Size) -> Size:
    """CBLAS wants leading dimensions of at least 1, also for empty matrices."""
    return max(size, 1) if isinstance(size, int) else ("max", size, 1)


def gemm_kernel(g: Gemm, name: str) -> str:
    """The function of the products by one routine: each call takes all items of its part at once,
    or one matrix."""
    lines = []
    for i, x in enumerate(("routine", "all_a", "all_b", "all_c", "words")):
        lines.append(f"  %at_{x} = getelementptr ptr, ptr %args, i64 {i}")
        lines.append(f"  %{x} = load ptr, ptr %at_{x}")
    for i, x in enumerate(_WORDS):
        lines.append(f"  %at_{x} = getelementptr i64, ptr %words, i64 {i}")
        lines.append(f"  %{x} = load i64, ptr %at_{x}")
    moved = []
    for x in ("a", "b", "c"):
        moved.append(f"  %elements_{x} = mul i64 %i, %step_{x}")
        moved.append(f"  %{x} = getelementptr {g.scalar}, ptr %all_{x}, i64 %elements_{x}")
    values = {"m": "%m_here", "n": "%n_here"}
    values |= {x: f"%{x}" for x in ("k", "lda", "ldb", "ldc")}
    if g.integer == "i32":
        for x, value in values.items():
            moved.append(f"  %narrow_{x} = trunc i64 {value} to i32")
        values = {x: f"%narrow_{x}" for x in values}
    m, n, k, lda, ldb, ldc = (f"{g.integer} {value}" for value in values.values())
    one, zero = f"{g.scalar} 1.0", f"{g.scalar} 0.0"
    return "\n".join([
        f"define internal i32 @{name}(ptr %status, i64 %lo, i64 %hi, ptr %args) nounwind {{",
        "entry:",
        *lines,
        "  %ta = trunc i64 %transpose_a to i32",
        "  %tb = trunc i64 %transpose_b to i32",
        "  %part = sub i64 %hi, %lo",
        f"  %rows = icmp eq i64 %cut, {CUTS.index('rows')}",
        f"  %columns = icmp eq i64 %cut, {CUTS.index('columns')}",
        "  %m_here = select i1 %rows, i64 %part, i64 %m",
        "  %n_here = select i1 %columns, i64 %part, i64 %n",
        "  %whole = or i1 %rows, %columns",
        "  %stride = select i1 %whole, i64 %part, i64 1",
        "  br label %head",
        "head:",
        "  %i = phi i64 [ %lo, %entry ], [ %next, %body ]",
        "  %inside = icmp slt i64 %i, %hi",
        "  br i1 %inside, label %body, label %done",
        "body:",
        *moved,
        f"  call void %routine(i32 {ROW_MAJOR}, i32 %ta, i32 %tb, {m}, {n}, {k}, {one}, ptr %a, "
        f"{lda}, ptr %b, {ldb}, {zero}, ptr %c, {ldc})",
        "  %next = add i64 %i, %stride",
        "  br label %head",
        "done:",
        "  ret i32 0",
        "}",
    ])  # fmt: skip
