"""Nests that reduce short rows: each lane has a row.

As many rows as a vector has lanes are worked on together, a column at a time; a reduction over a
row is one of vectors, in order of the columns. Rows that are left over take the same steps one by
one, so that a row's bits do not depend on where it lies. What has been loaded or stored once is
kept in registers for later sweeps.
"""

from __future__ import annotations

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_memory import Emitter
from graphgrad.compiler.codegen.llvm_nest import combine, identity_of
from graphgrad.compiler.codegen.llvm_rows import ShortRowsEmitter
from graphgrad.compiler.codegen.llvm_scalar import Lanes, ModuleParts, VectorEmitter
from graphgrad.compiler.codegen.llvm_vectors import Mask, memory_type
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.loops import Access, Affine, LoopNest, Phase


class RowLanesEmitter(ShortRowsEmitter):
    """Emits the function of one nest."""

    def __init__(self, nest: LoopNest, name: str, parts: ModuleParts) -> None:
        super().__init__(nest, name, parts)
        self.here = 0  # at work
        self.known: dict[tuple[Access, int], Lanes] = {}  # of arrays, by columns
        self.whole: dict[Access, list[str]] = {}  # rows that lie together, as vectors
        self.pending: dict[Access, list[str]] = {}  # columns of such rows, to be stored

    def single_row(self, row: str) -> None:
        with self.lanes(1):
            self.several_rows(row)

    def several_rows(self, row: str) -> None:
        self.dim_values[self.dim] = row
        self.known, self.whole, self.pending, self.rows = {}, {}, {}, {}
        for phase in self.nest.main:
            if phase.kind == "row":
                e = self.emitter(0)
                for s in phase.stmts:
                    self.statement(e, s, self.rows)
                self.block = e.label or self.block
            else:
                self.columns_of(phase)
        for access, columns in self.pending.items():
            self.store_whole(access, columns)

    def emitter(self, column: int) -> Emitter:
        self.here, self.dim_values[-1] = column, str(column)
        return Emitter(self, self.width, str(column), Mask())

    def columns_of(self, phase: Phase) -> None:
        """A sweep, column by column."""
        sums: dict[int, Lanes] = {}
        for column in range(self.columns):
            e, values = self.emitter(column), dict(self.rows)
            for s in phase.stmts:
                if s.fn != "reduce":
                    self.statement(e, s, values)
                    continue
                combiner = s.attr.combiner
                before = sums.get(s.id) or e.const(identity_of(combiner, s.dtype), s.dtype)
                sums[s.id] = combine(e, combiner, before, values[s.args[0]])
            self.block = e.label or self.block
        self.rows.update(sums)

    # -- memory

    def is_whole(self, at: Affine) -> bool:
        """Do the rows lie one behind the other?"""
        return at.strides[-1] == 1 and at.strides[self.dim] == self.columns

    def element(self, access: Access) -> str:
        """The element of the first lane."""
        return self.pointer(access.array, self.offset(access.at, range(len(self.nest.dims))))

    def first(self, access: Access) -> str:
        """The first element of the first lane's row."""
        before, self.dim_values[-1] = self.dim_values[-1], "0"
        first = self.element(access)
        self.dim_values[-1] = before
        return first

    def positions(self, e: Emitter, at: Affine) -> Lanes:
        first = Lanes(self.offset(at, range(len(self.nest.dims))), dtypes.int64)
        if e.width == 1:
            return first
        rows = Lanes(f"<{', '.join(f'i64 {k}' for k in range(e.width))}>", dtypes.int64)
        step = self.splat(Lanes(self.size(at.strides[self.dim]), dtypes.int64))
        return e.add(self.splat(first), e.mul(rows, step))  # type: ignore[no-any-return]

    def load(self, e: VectorEmitter, access: Access, dtype: DType, index: str, mask: Mask) -> Lanes:
        key = access, self.here
        if key not in self.known:
            self.known[key] = self.load_column(e, access, dtype)
        return self.known[key]

    def load_column(self, e: VectorEmitter, access: Access, dtype: DType) -> Lanes:
        step, element = access.at.strides[self.dim], memory_type(dtype)
        if e.width == 1 or step == 0:
            one = self.text.assign(f"load {element}, ptr {self.element(access)}")
            x = self.from_memory(Lanes(one, dtype), 1)
            return x if e.width == 1 else self.splat(x)
        if step == 1:
            return self.load_vector(e, self.element(access), dtype, Mask())
        if self.is_whole(access.at):
            return self.from_memory(Lanes(self.load_whole(e, access, dtype), dtype), e.width)
        assert isinstance(e, Emitter)
        return self.gather_from(e, access.array, self.positions(e, access.at), dtype, Mask())

    def load_whole(self, e: VectorEmitter, access: Access, dtype: DType) -> str:
        """The lanes of a column from the vectors of all rows, which are loaded once."""
        element, w, picked = memory_type(dtype), e.width, "poison"
        if access not in self.whole:
            first = self.first(access)
            places = [
                self.text.assign(f"getelementptr {element}, ptr {first}, i64 {v * w}")
                for v in range(self.columns)
            ]
            self.whole[access] = [self.load_elements(e, p, dtype, Mask()) for p in places]
        for v, x in enumerate(self.whole[access]):
            at = [r * self.columns + self.here - v * w for r in range(w)]
            here = {lane: k for lane, k in enumerate(at) if 0 <= k < w}
            picked = self.replaced(element, w, picked, x, here)
        return picked

    def store(self, e: VectorEmitter, access: Access, x: Lanes, index: str, mask: Mask) -> None:
        self.known[access, self.here] = x
        if self.nest.arrays[access.array].role == "scratch":
            return
        step, element = access.at.strides[self.dim], memory_type(x.dtype)
        value = self.to_memory(x, e.width)
        if e.width == 1:
            self.text.line(f"store {element} {value}, ptr {self.element(access)}")
        elif step == 1:
            vector = f"<{e.width} x {element}> {value}"
            self.store_vector(e, access.array, vector, self.element(access), x.dtype)
        elif self.is_whole(access.at):
            self.pending.setdefault(access, []).append(value)
        else:
            assert isinstance(e, Emitter)
            self.scatter(e, access.array, self.positions(e, access.at), value, x.dtype, Mask())

    def store_whole(self, access: Access, columns: list[str]) -> None:
        """All rows, from their columns."""
        dtype, w = self.nest.arrays[access.array].dtype, self.width
        element, first = memory_type(dtype), self.first(access)
        for v in range(self.columns):
            value = "poison"
            at = [divmod(v * w + k, self.columns) for k in range(w)]
            for c, x in enumerate(columns):
                here = {k: row for k, (row, column) in enumerate(at) if column == c}
                value = self.replaced(element, w, value, x, here)
            place = self.text.assign(f"getelementptr {element}, ptr {first}, i64 {v * w}")
            self.text.line(f"store <{w} x {element}> {value}, ptr {place}, align {dtype.itemsize}")
