"""A fold in blocks that runs several short rows as one (`kernels/wide_folds.py`).

In a block the nest is that of wide rows. The partial results of each block are as many rows as run
as one; the second function combines all of them.
"""

from __future__ import annotations

from graphgrad.compiler.codegen.llvm_blocks import BlocksEmitter
from graphgrad.compiler.codegen.llvm_scalar import Lanes, ModuleParts, VectorEmitter
from graphgrad.compiler.codegen.llvm_vectors import Mask, memory_type
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.loops import Access, LoopNest
from graphgrad.compiler.kernels.wide_folds import is_repeated, rows_in_one, wide


class WideEmitter(BlocksEmitter):
    """Emits the functions of one nest."""

    def __init__(self, nest: LoopNest, name: str, parts: ModuleParts) -> None:
        super().__init__(nest, name, parts)
        self.together = rows_in_one(nest)
        self.short, self.wide = self.nest, wide(self.nest, self.together)
        sweep = self.wide.main[-1]
        self.repeated = {
            s.attr: s.dtype
            for s in sweep.stmts
            if isinstance(s.attr, Access) and is_repeated(s.attr.at, s.fn)
        }
        self.copies: dict[Access, str] = {}  # repeated rows

    def blocks_loop(self) -> None:
        self.nest = self.wide
        for access, dtype in self.repeated.items():
            self.copies[access] = self.repeat(access, dtype)
        super().blocks_loop()
        self.nest, self.copies = self.short, {}

    def repeat(self, access: Access, dtype: DType) -> str:
        """A row for each of the rows that run as one."""
        n, element = self.short.dims[-1], memory_type(dtype)
        copy = "%" + self.text.name("row")
        size = f"[{self.wide.dims[-1]} x {element}]"
        self.allocas.append(f"{copy} = alloca {size}, align 64")

        def one(index: str, _: list[str]) -> list[str]:
            column = self.text.assign(f"urem i64 {index}, {n}")
            at = self.arith("mul", column, self.size(access.at.strides[-1]))
            source = self.pointer(access.array, self.arith("add", self.size(access.at.offset), at))
            x = self.text.assign(f"load {element}, ptr {source}")
            place = self.text.assign(f"getelementptr {element}, ptr {copy}, i64 {index}")
            self.text.line(f"store {element} {x}, ptr {place}")
            return []

        self.loop("0", str(self.wide.dims[-1]), 1, [], one)
        return copy

    def load(self, e: VectorEmitter, access: Access, dtype: DType, index: str, mask: Mask) -> Lanes:
        copy = self.copies.get(access)
        if copy is None or e.width == 1:
            return super().load(e, access, dtype, index, mask)
        place = f"getelementptr {memory_type(dtype)}, ptr {copy}, i64 {index}"
        return self.load_vector(e, self.text.assign(place), dtype, mask)

    def fold(self, begin: str, end: str, lo: str, hi: str | None) -> None:
        """Whole wide rows, then the rest of a block as a part of one."""
        first = self.text.assign(f"udiv i64 {begin}, {self.together}")
        whole = self.text.assign(f"udiv i64 {end}, {self.together}")
        super().fold(first, whole, lo, hi)
        rows = self.arith("sub", end, self.arith("mul", whole, str(self.together)))
        some = self.text.assign(f"icmp sgt i64 {rows}, 0")
        past = self.arith("add", whole, self.text.assign(f"zext i1 {some} to i64"))
        self.fold_rows(whole, past, lo, self.arith("mul", rows, str(self.short.dims[-1])))

    def partial_rows(self, count: str) -> str:
        return self.arith("mul", count, str(self.together))
