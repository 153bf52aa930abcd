"""A fold in blocks as two LLVM functions, so that threads can share it.

The items of the first, `@k_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)`, are blocks of the
folded dim. It leaves the results of each in arrays that follow those of the nest. The second,
`@k_3f9a1c_end(ptr %status, ptr %args)`, combines these in order, and then runs the tail.
"""

from __future__ import annotations

from dataclasses import replace

from graphgrad.compiler.codegen.llvm_memory import Emitter
from graphgrad.compiler.codegen.llvm_nest import NestEmitter, combine, identity_of
from graphgrad.compiler.codegen.llvm_scalar import Lanes, ModuleParts, VectorEmitter, llvm_type
from graphgrad.compiler.codegen.llvm_vectors import Mask, memory_type
from graphgrad.compiler.kernels.division import folds
from graphgrad.compiler.kernels.index_maps import row_major
from graphgrad.compiler.kernels.loops import Access, Affine, Array, LoopNest, Stmt
from graphgrad.compiler.types import element_count


class BlocksEmitter(NestEmitter):
    """Emits the functions of one nest in blocks."""

    def __init__(self, nest: LoopNest, name: str, parts: ModuleParts) -> None:
        super().__init__(nest, name, parts)
        folded = folds(nest)
        arrays = (*nest.arrays, *(Array("partial", s.dtype, "partial") for s in folded))
        self.nest = replace(nest, arrays=arrays)
        self.partials = {s.id: len(nest.arrays) + k for k, s in enumerate(folded)}

    def emit(self) -> str:
        """The text of both functions."""
        head = f"@{self.name}(ptr %status, i64 %lo, i64 %hi, ptr %args)"
        end = f"@{self.name}_end(ptr %status, ptr %args)"
        return "\n\n".join([
            self.function(head, self.blocks_loop), self.function(end, self.finish)
        ])  # fmt: skip

    def blocks_loop(self) -> None:
        """The blocks lo..hi, each with its results in a place of its own."""
        nest = self.nest
        assert nest.division is not None
        size, extent = self.size(nest.division.block), self.extent(0)

        def inside(index: str, _: list[str]) -> list[str]:
            begin = self.arith("mul", index, size)
            past, end = self.arith("add", begin, size), "%" + self.text.name("end")
            inner = "%" + self.text.name("t")
            self.text.line(f"{inner} = icmp slt i64 {past}, {extent}")
            self.text.line(f"{end} = select i1 {inner}, i64 {past}, i64 {extent}")
            self.rows = {}
            self.enter_block(index)
            self.start_folds("0", None)
            if nest.folded:
                self.fold(begin, end, "0", None)
            else:
                self.phases(nest.main, begin, end)
            self.finish_folds()
            for s in folds(nest):
                if s.attr.kind == "full":
                    place = self.pointer(self.partials[s.id], index)
                    value = self.to_memory(self.rows[s.id], 1)
                    self.text.line(f"store {memory_type(s.dtype)} {value}, ptr {place}")
            return []

        self.loop("%lo", "%hi", 1, [], inside)
        self.bases = {}

    def enter_block(self, index: str) -> None:
        """Point the partial rows to those of block `index`."""
        inner = self.nest.dims[len(self.nest.dims) - self.nest.inner :]
        for s in folds(self.nest):
            if s.attr.kind == "column":
                array = self.partials[s.id]
                self.bases.pop(array, None)
                before = self.arith("mul", index, self.size(element_count(inner)))
                self.bases[array] = self.pointer(array, before)

    def column(self, s: Stmt) -> Access:
        return self.partial_row(s)

    def partial_row(self, s: Stmt) -> Access:
        """The partial results of a column reduction in the block at work."""
        outer = len(self.nest.dims) - self.nest.inner
        strides = (0,) * outer + row_major(self.nest.dims[outer:])
        return Access(self.partials[s.id], Affine(0, strides))

    def finish(self) -> None:
        """Combine the results of the blocks in order, then run the tail."""
        nest = self.nest
        assert nest.division is not None
        count = self.size(nest.division.count)
        for s in folds(nest):
            if s.attr.kind == "full":
                self.rows[s.id] = self.combined_partials(s, count)
            else:
                self.combine_rows(s, self.partial_rows(count))
        self.phases(nest.tail, "0", None)

    def partial_rows(self, count: str) -> str:
        """How many rows of partial results `count` blocks leave."""
        return count

    def combine_rows(self, s: Stmt, count: str) -> None:
        """The results of a column reduction, from those of the blocks."""

        def body(e: VectorEmitter, at: str, mask: Mask, accs: list[str]) -> list[str]:
            def add(index: str, carried: list[str]) -> list[str]:
                self.enter_block(index)
                inside = Emitter(self, self.width, at, mask)
                x = self.load(inside, self.partial_row(s), s.dtype, at, mask)
                result = combine(inside, s.attr.combiner, Lanes(carried[0], s.dtype), x)
                self.block = inside.label or self.block
                return [result.text]

            start = e.const(identity_of(s.attr.combiner, s.dtype), s.dtype)
            (final,) = self.loop("0", count, 1, [(e.type(s.dtype), start.text)], add)
            e.label = self.block
            self.store(e, s.attr.row, Lanes(final, s.dtype), at, mask)
            return accs

        self.inner_loops("0", None, 1, [], body, [])

    def combined_partials(self, s: Stmt, count: str) -> Lanes:
        """The result of a full reduction, from those of the blocks."""
        one = VectorEmitter(self.text, 1)
        start = one.const(identity_of(s.attr.combiner, s.dtype), s.dtype)

        def add(index: str, accs: list[str]) -> list[str]:
            name = "%" + self.text.name()
            place = self.pointer(self.partials[s.id], index)
            self.text.line(f"{name} = load {memory_type(s.dtype)}, ptr {place}")
            e = VectorEmitter(self.text, 1, self.block)
            part = self.from_memory(Lanes(name, s.dtype), 1)
            result = combine(e, s.attr.combiner, Lanes(accs[0], s.dtype), part)
            self.block = e.label or self.block
            return [result.text]

        (final,) = self.loop("0", count, 1, [(llvm_type(s.dtype), start.text)], add)
        return Lanes(final, s.dtype)
