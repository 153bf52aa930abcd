"""Calls of CBLAS as kernels: a part of the rows, columns or matrices of a product.

    define internal i32 @k_sgemm(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the routine, the pointers of A, B and C, and where `BlasCall.words` lie in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphgrad.compiler.dims import to_size
from graphgrad.compiler.kernels.division import TILE, product_division, times
from graphgrad.compiler.kernels.loops import Division
from graphgrad.compiler.kernels.products import Product
from graphgrad.runtime.program import Size

ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE = 101, 111, 112  # CBLAS_ORDER, CBLAS_TRANSPOSE
CUTS = ("rows", "columns", "matrices")


@dataclass(frozen=True, slots=True)
class BlasCall:
    """One product by a routine of BLAS, or a batch of them.

    `arguments` are the routine's sizes by name, after "cut", which says which of CUTS the items
    are: rows (m) or columns (n), or matrices of the batch. `steps` are the elements from one item
    to the next in A, B and C.
    """

    routine: str
    scalar: str  # float | double
    integer: str  # i32 | i64, as the BLAS has them
    arguments: dict[str, Size]
    steps: Sequence[Size]
    count: Size
    division: Division

    @property
    def names(self) -> tuple[str, ...]:
        """What the kernel reads beside pointers."""
        return (*self.arguments, "step_a", "step_b", "step_c")

    @property
    def words(self) -> tuple[Size, ...]:
        """The values of `names`."""
        return (*self.arguments.values(), *self.steps)

    def text(self, value: dict[str, str]) -> str:
        """The call for one item, with sizes as operands."""
        i, t = self.integer, self.scalar
        if self.routine.endswith("dot"):
            return (
                f"  %dot = call {t} %routine({i} {value['k']}, ptr %a, {i} 1, ptr %b, {i} 1)\n"
                f"  store {t} %dot, ptr %c"
            )
        one, zero = f"{t} 1.0", f"{t} 0.0"
        if self.routine.endswith("gemv"):
            return (
                f"  call void %routine(i32 {ROW_MAJOR}, i32 %ta, {i} {value['m']}, "
                f"{i} {value['n']}, {one}, ptr %a, {i} {value['lda']}, ptr %b, {i} 1, {zero}, "
                f"ptr %c, {i} 1)"
            )
        m, n, k, lda, ldb, ldc = (f"{i} {value[x]}" for x in ("m", "n", "k", "lda", "ldb", "ldc"))
        return (
            f"  call void %routine(i32 {ROW_MAJOR}, i32 %ta, i32 %tb, {m}, {n}, {k}, {one}, "
            f"ptr %a, {lda}, ptr %b, {ldb}, {zero}, ptr %c, {ldc})"
        )


def gemm_of(product: Product, integer: str) -> BlasCall:
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
    words = {
        "cut": CUTS.index(cut), "transpose_a": flag(ta), "transpose_b": flag(tb),
        "m": m, "n": n, "k": k, "lda": at_least_one(m if ta else k),
        "ldb": at_least_one(k if tb else n), "ldc": at_least_one(n),
    }  # fmt: skip
    return BlasCall(product.routine, product.scalar, integer, words, steps, count, division)


def vector_call(product: Product, integer: str, row: bool) -> BlasCall:
    """The call of gemv or dot for a product whose result is a row or a column, or of one element.

    A is the matrix and B the vector: for a row, C^T = op(B)^T A^T, so their places are exchanged.
    """
    m, n, k = map(to_size, product.sizes)
    one = product.routine[0]
    batch = None if product.batch is None else [*map(to_size, product.batch)]
    if m == n == 1:
        count, *steps = batch or [1, 0, 0, 0]
        division = product_division(k, count, f"{one}dot", 1)
        words: dict[str, Size] = {"cut": CUTS.index("matrices"), "k": k}
        return BlasCall(f"{one}dot", product.scalar, integer, words, steps, count, division)
    length = n if row else m
    turned = not product.flags[1] if row else product.flags[0]
    rows, columns = (k, length) if turned else (length, k)
    lda = at_least_one(columns)
    if batch is not None:
        cut, macs, tile = "matrices", times(length, k), 1
        count, step_a, step_b, step_c = batch
        steps = [step_b, step_a, step_c] if row else [step_a, step_b, step_c]
    else:
        cut, macs, tile, count = "columns" if turned else "rows", k, TILE, length
        steps = [1 if turned else lda, 0, 1]
    division = product_division(macs, count, f"{one}gemv", tile)
    words = {
        "cut": CUTS.index(cut), "transpose_a": flag(turned), "m": rows, "n": columns, "lda": lda,
    }  # fmt: skip
    return BlasCall(f"{one}gemv", product.scalar, integer, words, steps, count, division)


def flag(transposed: bool) -> int:
    return TRANSPOSE if transposed else NO_TRANSPOSE


def at_least_one(size: Size) -> Size:
    """CBLAS wants leading dimensions of at least 1, also for empty matrices."""
    return max(size, 1) if isinstance(size, int) else ("max", size, 1)


def blas_kernel(g: BlasCall, name: str) -> str:
    """The function of the products by one routine: each call takes all items of its part at once,
    or one matrix."""
    lines = []
    for i, x in enumerate(("routine", "all_a", "all_b", "all_c", "words")):
        lines.append(f"  %at_{x} = getelementptr ptr, ptr %args, i64 {i}")
        lines.append(f"  %{x} = load ptr, ptr %at_{x}")
    for i, x in enumerate(g.names):
        lines.append(f"  %at_{x} = getelementptr i64, ptr %words, i64 {i}")
        lines.append(f"  %{x} = load i64, ptr %at_{x}")
    moved = []
    for x in ("a", "b", "c"):
        moved.append(f"  %elements_{x} = mul i64 %i, %step_{x}")
        moved.append(f"  %{x} = getelementptr {g.scalar}, ptr %all_{x}, i64 %elements_{x}")
    here = [x for x in ("m", "n") if x in g.arguments]
    sizes = [x for x in g.arguments if x != "cut" and not x.startswith("transpose")]
    values = {x: f"%{x}_here" if x in here else f"%{x}" for x in sizes}
    if g.integer == "i32":
        for x, value in values.items():
            moved.append(f"  %narrow_{x} = trunc i64 {value} to i32")
        values = {x: f"%narrow_{x}" for x in values}
    flags = [x for x in ("a", "b") if f"transpose_{x}" in g.arguments]
    return "\n".join([
        f"define internal i32 @{name}(ptr %status, i64 %lo, i64 %hi, ptr %args) nounwind {{",
        "entry:",
        *lines,
        *(f"  %t{x} = trunc i64 %transpose_{x} to i32" for x in flags),
        "  %part = sub i64 %hi, %lo",
        f"  %rows = icmp eq i64 %cut, {CUTS.index('rows')}",
        f"  %columns = icmp eq i64 %cut, {CUTS.index('columns')}",
        *(
            f"  %{x}_here = select i1 %{cut}, i64 %part, i64 %{x}"
            for x, cut in zip(here, CUTS)
        ),
        "  %whole = or i1 %rows, %columns",
        "  %stride = select i1 %whole, i64 %part, i64 1",
        "  br label %head",
        "head:",
        "  %i = phi i64 [ %lo, %entry ], [ %next, %body ]",
        "  %inside = icmp slt i64 %i, %hi",
        "  br i1 %inside, label %body, label %done",
        "body:",
        *moved,
        g.text(values),
        "  %next = add i64 %i, %stride",
        "  br label %head",
        "done:",
        "  ret i32 0",
        "}",
    ])  # fmt: skip
