"""Nests of independent rows that are worked on several at a time."""

from __future__ import annotations

from graphgrad.compiler.codegen.llvm_nest import NestEmitter
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.kernels.loops import LoopNest


class RowsEmitter(NestEmitter):
    """Emits the function of one nest; `rows` works on rows of the last parallel dim."""

    def __init__(self, nest: LoopNest, name: str, parts: ModuleParts) -> None:
        super().__init__(nest, name, parts)
        self.dim = nest.parallel - 1

    def rows_of(self, begin: str, end: str) -> None:
        """The rows begin..end of the last parallel dim."""
        raise NotImplementedError

    def parallel_loop(self) -> None:
        if self.dim == 0:
            self.rows_of("%lo", "%hi")
            return
        # Items are rows of all parallel dims: those of each point of the dims before the last.
        rows = self.minmax("smax", self.extent(self.dim), "1")
        past = self.arith("sub", self.arith("add", "%hi", rows), "1")

        def inside(index: str, _: list[str]) -> list[str]:
            base = self.arith("mul", index, rows)
            begin = self.minmax("smax", self.arith("sub", "%lo", base), "0")
            end = self.minmax("smin", self.arith("sub", "%hi", base), rows)
            self.place(index, self.dim)
            self.rows_of(begin, end)
            return []

        first = self.text.assign(f"udiv i64 %lo, {rows}")
        last = self.text.assign(f"udiv i64 {past}, {rows}")
        self.loop(first, last, 1, [], inside)

    def minmax(self, which: str, a: str, b: str) -> str:
        """The smaller (smin) or larger (smax) of two numbers."""
        self.parts.declares.add(f"declare i64 @llvm.{which}.i64(i64, i64)")
        return self.text.assign(f"call i64 @llvm.{which}.i64(i64 {a}, i64 {b})")


class ShortRowsEmitter(RowsEmitter):
    """Emits the function of a nest whose rows have a known length: as many of them at a time as a
    vector has lanes, and those that are left over one by one."""

    def __init__(self, nest: LoopNest, name: str, parts: ModuleParts) -> None:
        super().__init__(nest, name, parts)
        extent = nest.dims[-1]
        assert isinstance(extent, int)
        self.columns = extent

    def several_rows(self, row: str) -> None:
        """As many rows as a vector has lanes, from `row` on."""
        raise NotImplementedError

    def single_row(self, row: str) -> None:
        """The row `row` alone."""
        raise NotImplementedError

    def rows_of(self, begin: str, end: str) -> None:
        count = self.arith("and", self.arith("sub", end, begin), str(-self.width))
        stop = self.arith("add", begin, count)

        def several(row: str, _: list[str]) -> list[str]:
            self.several_rows(row)
            return []

        def single(row: str, _: list[str]) -> list[str]:
            self.single_row(row)
            return []

        self.loop(begin, stop, self.width, [], several)
        self.loop(stop, end, 1, [], single)
