"""Nests of short rows: a vector spans several of them.

Of W lanes and rows of n elements, W rows are n vectors. Lane k of vector v belongs to element
`W v + k` of them, row by row, so that where each lane's element lies is known as the text is
written. What lies together is loaded whole and its lanes picked; the rest is gathered. Rows that
are left over run one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_memory import Emitter
from graphgrad.compiler.codegen.llvm_rows import ShortRowsEmitter
from graphgrad.compiler.codegen.llvm_scalar import Lanes, ModuleParts, VectorEmitter
from graphgrad.compiler.codegen.llvm_vectors import Mask, memory_type
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.loops import Access, Affine, LoopNest

# Vectors that are loaded for one whose elements lie apart, at most: else they are gathered.
SPAN = 8


class NarrowEmitter(ShortRowsEmitter):
    """Emits the function of one nest."""

    def __init__(self, nest: LoopNest, name: str, parts: ModuleParts) -> None:
        super().__init__(nest, name, parts)
        self.vector: int | None = None  # at work; None in rows that are left over
        self.across: dict[tuple[Access, int], str] = {}  # vectors along the rows, by columns
        self.pending: dict[Access, list[str]] = {}  # vectors to be stored across

    def several_rows(self, row: str) -> None:
        self.dim_values[self.dim], self.dim_values[-1] = row, "0"
        self.across, self.pending = {}, {}
        for v in range(self.columns):
            self.vector = v
            self.one_vector()
        self.vector = None
        for access, vectors in self.pending.items():
            self.store_across(access, vectors)

    def single_row(self, row: str) -> None:
        self.dim_values[self.dim] = row
        self.one_row("0", None)

    def one_vector(self) -> None:
        e = Emitter(self, self.width, "0", Mask())
        values: dict[int, Lanes] = {}
        for phase in self.nest.main:
            for s in phase.stmts:
                self.statement(e, s, values)
        self.block = e.label or self.block

    # -- places

    def elements(self) -> list[tuple[int, int]]:
        """The row and the column of each lane."""
        assert self.vector is not None
        first = self.vector * self.width
        return [divmod(first + k, self.columns) for k in range(self.width)]

    def steps(self, at: Affine) -> tuple[Extent, Extent]:
        """From a row to the next, and from a column to the next."""
        return at.strides[self.dim], at.strides[-1]

    def start(self, access: Access) -> str:
        """The first element of the first row."""
        return self.pointer(access.array, self.offset(access.at, range(len(self.nest.dims))))

    def offsets(self, at: Affine) -> list[int] | None:
        """Where the elements of the lanes lie, where strides are known."""
        row, column = self.steps(at)
        if not isinstance(row, int) or not isinstance(column, int):
            return None
        return [r * row + c * column for r, c in self.elements()]

    def positions(self, e: Emitter, at: Affine) -> Lanes:
        if self.vector is None or e.width == 1:
            return super().positions(e, at)
        total = self.splat(Lanes(self.offset(at, range(len(self.nest.dims))), dtypes.int64))
        for numbers, step in zip(zip(*self.elements(), strict=True), self.steps(at), strict=True):
            lanes = Lanes(f"<{', '.join(f'i64 {k}' for k in numbers)}>", dtypes.int64)
            stride = self.splat(Lanes(self.size(step), dtypes.int64))
            total = e.add(total, e.mul(lanes, stride))
        return total

    # -- loads

    def load(self, e: VectorEmitter, access: Access, dtype: DType, index: str, mask: Mask) -> Lanes:
        if self.vector is None or e.width == 1:
            return super().load(e, access, dtype, index, mask)
        row, column = self.steps(access.at)
        if isinstance(row, int) and row == 1:
            return self.from_memory(self.load_across(e, access, dtype, column), e.width)
        at = self.offsets(access.at)
        if at is not None:
            span = max(at) - min(at) + 1
            if span <= SPAN * self.width:
                return self.from_memory(self.load_together(e, access, dtype, at, span), e.width)
        assert isinstance(e, Emitter)
        return self.gather_from(e, access.array, self.positions(e, access.at), dtype, mask)

    def load_together(
        self, e: VectorEmitter, access: Access, dtype: DType, at: Sequence[int], span: int
    ) -> Lanes:
        """Elements that lie in a few vectors, or within one."""
        element, low = memory_type(dtype), min(at)
        start = self.start(access)
        pointer = self.text.assign(f"getelementptr {element}, ptr {start}, i64 {low}")
        from_low = [k - low for k in at]
        if span >= self.width:
            return Lanes(self.pick(e, pointer, dtype, from_low, Mask()), dtype)
        vector = f"<{span} x {element}>"
        some = self.text.assign(f"load {vector}, ptr {pointer}, align {dtype.itemsize}")
        return Lanes(self.shuffle(element, span, some, "poison", from_low), dtype)

    def load_across(self, e: VectorEmitter, access: Access, dtype: DType, column: Extent) -> Lanes:
        """Elements with neighbours in the next rows: a vector for each column, lanes of each."""
        element, picked = memory_type(dtype), "poison"
        for c in range(self.columns if column != 0 else 1):
            if (access, c) not in self.across:
                at = self.arith("mul", str(c), self.size(column))
                start = self.start(access)
                place = self.text.assign(f"getelementptr {element}, ptr {start}, i64 {at}")
                self.across[access, c] = self.load_elements(e, place, dtype, Mask())
            here = {lane: r for lane, (r, k) in enumerate(self.elements()) if k == c or column == 0}
            picked = self.replaced(element, self.width, picked, self.across[access, c], here)
        return Lanes(picked, dtype)

    # -- stores

    def store(self, e: VectorEmitter, access: Access, x: Lanes, index: str, mask: Mask) -> None:
        if self.vector is None or e.width == 1:
            super().store(e, access, x, index, mask)
            return
        row, column = self.steps(access.at)
        value, element = self.to_memory(x, e.width), memory_type(x.dtype)
        if row == column * self.columns and column == 1:
            start, at = self.start(access), self.vector * self.width
            place = self.text.assign(f"getelementptr {element}, ptr {start}, i64 {at}")
            self.store_vector(e, access.array, f"<{e.width} x {element}> {value}", place, x.dtype)
        elif isinstance(row, int) and row == 1:
            self.pending.setdefault(access, []).append(value)
        else:
            assert isinstance(e, Emitter)
            self.scatter(e, access.array, self.positions(e, access.at), value, x.dtype, mask)

    def store_across(self, access: Access, vectors: Sequence[str]) -> None:
        """The columns of all rows, each as a vector."""
        dtype, w = self.nest.arrays[access.array].dtype, self.width
        element = memory_type(dtype)
        for c in range(self.columns):
            value = "poison"
            for v, x in enumerate(vectors):
                where = [r * self.columns + c - v * w for r in range(w)]
                here = {lane: k for lane, k in enumerate(where) if 0 <= k < w}
                value = self.replaced(element, w, value, x, here)
            at = self.arith("mul", str(c), self.size(access.at.strides[-1]))
            start = self.start(access)
            place = self.text.assign(f"getelementptr {element}, ptr {start}, i64 {at}")
            self.text.line(f"store <{w} x {element}> {value}, ptr {place}, align {dtype.itemsize}")
