"""Small matrix products as one LLVM function: no calls, and the sums stay in registers.

    define internal i32 @k_matmul_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the pointers of A, B and C, then sizes. `lo..hi` is a part of `Product.parts`: of the
batch, of the rows, or of the panels of columns. A tile of C is summed at a time:

    for p in range(k):
        C[i : i + rows, j : j + columns] += A[i : i + rows, p, None] * B[p, j : j + columns]

so that an element of A is read once for the columns of a tile, and a row of B once for its rows.
Each sum goes over p in order, by fused multiply-adds where the processor has them.
"""

from __future__ import annotations

from graphgrad.compiler.codegen.llvm_columns import Columns, Memory, vectors_of
from graphgrad.compiler.codegen.llvm_numbers import Numbers
from graphgrad.compiler.codegen.llvm_scalar import (
    FunctionText,
    ModuleParts,
    llvm_type,
)
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.kernels.products import PANEL_BYTES, VECTOR_BYTES, Product

# A tile has at most this many vectors: they hide the latency of an addition. In panels there are
# more, for AVX-512's registers, so that fewer loads feed them.
TILE_VECTORS, PANEL_TILE_VECTORS = 8, 16
# Sizes up to this are written into the text; with so few multiply-adds the loop over p is unrolled.
LITERAL = 8
UNROLLED = 96


class ProductEmitter(Numbers):
    """Emits the function of one product."""

    def __init__(self, product: Product, name: str, parts: ModuleParts) -> None:
        self.product = product
        self.name = name
        self.parts = parts
        self.text = FunctionText(parts)
        self.block = "entry"
        self.sizes: dict[Extent, int] = {}  # with their numbers, in order
        self.element = llvm_type(product.dtype)
        self.memory = Memory(self.text, parts, product.dtype)
        self.align = product.dtype.itemsize
        self.lanes = VECTOR_BYTES // product.dtype.itemsize
        self.in_panels = product.is_slim
        columns = product.sizes[1]
        assert isinstance(columns, int)
        # of a row of the tile at work
        self.vectors = [] if self.in_panels else vectors_of(columns, self.lanes)

    def emit(self) -> str:
        """The text of the function."""
        stack = []
        if self.product.flags[1]:
            stack.append(f"  %turned = alloca [{self.turned_bytes()} x i8], align 64")
        self.body()
        return self.launched(self.name, ("p0", "p1", "p2"), stack)

    # -- sizes and addresses

    def size(self, extent: Extent) -> str:
        """A size as an operand: a literal where it is small and known, else an argument."""
        if isinstance(extent, int) and extent <= LITERAL:
            return str(extent)
        return f"%n{self.sizes.setdefault(extent, len(self.sizes))}"

    # -- the product

    def body(self) -> None:
        product = self.product
        if self.in_panels:
            self.panels()
            return
        if product.batch is None:
            b = self.turned("%p1") if product.flags[1] else "%p1"
            self.rows("%p0", b, "%p2", "%lo", "%hi")
            return
        steps = [self.size(s) for s in product.batch[1:]]

        def one(index: str, _: list[str]) -> list[str]:
            a, b, c = (self.after(f"%p{i}", self.mul(index, step)) for i, step in enumerate(steps))
            b = self.turned(b) if product.flags[1] else b
            self.rows(a, b, c, "0", self.size(product.sizes[0]))
            return []

        self.loop("%lo", "%hi", 1, [], one)

    def panels(self) -> None:
        """Panels lo..hi of the columns, the last of which may be narrower."""
        m, n, _ = self.product.sizes
        assert isinstance(n, int)
        panel = PANEL_BYTES // self.product.dtype.itemsize
        count, rest = divmod(n, panel)

        def one(index: str, _: list[str]) -> list[str]:
            b, c = (self.after(p, self.mul(index, str(panel))) for p in ("%p1", "%p2"))
            self.rows("%p0", b, c, "0", self.size(m))
            return []

        self.vectors = vectors_of(panel, self.lanes)
        end = self.min("%hi", self.size(count)) if rest else "%hi"
        self.loop("%lo", end, 1, [], one)
        if rest:
            self.vectors = vectors_of(rest, self.lanes)
            self.loop(self.max("%lo", self.size(count)), "%hi", 1, [], one)

    def rows(self, a: str, b: str, c: str, lo: str, hi: str) -> None:
        """The rows lo..hi of one product, in tiles."""
        whole_tile = PANEL_TILE_VECTORS if self.in_panels else TILE_VECTORS
        tile = whole_tile // len(self.vectors)
        known = None if self.product.batch is None and not self.in_panels else self.product.sizes[0]
        if isinstance(known, int) and known <= tile:
            self.tile(a, b, c, "0", known)
            return
        count = hi if lo == "0" else self.text.assign(f"sub i64 {hi}, {lo}")
        whole = self.text.assign(f"and i64 {count}, {-tile}")
        end = self.add(lo, whole)
        self.loop(lo, end, tile, [], lambda i, _: self.tile(a, b, c, i, tile))
        if isinstance(known, int):
            self.tile(a, b, c, end, known % tile)
        else:
            self.loop(end, hi, 1, [], lambda i, _: self.tile(a, b, c, i, 1))

    def tile(self, a: str, b: str, c: str, first: str, rows: int) -> list[str]:
        """Rows first .. first + rows of C: all their sums over p at once."""
        if not rows:
            return []
        m, n, k = (self.size(s) for s in self.product.sizes)
        if self.product.flags[0]:
            corner = self.after(a, first)
            starts, step = [self.after(corner, str(r)) for r in range(rows)], m
        else:
            corner = self.after(a, self.mul(first, k))
            starts = [self.after(corner, self.mul(str(r), k)) for r in range(rows)]
            step = "1"
        row_of_b = str(self.padded) if self.product.flags[1] else n
        types = [f"<{v.lanes} x {self.element}>" for v in self.vectors]

        def add(p: str, sums: list[str]) -> list[str]:
            row = self.after(b, self.mul(p, row_of_b))
            right = [self.load(row, v, not self.product.flags[1]) for v in self.vectors]
            down, ends = self.mul(p, step), []
            for r, start in enumerate(starts):
                pointer = self.after(start, down)
                x = self.text.assign(f"load {self.element}, ptr {pointer}, align {self.align}")
                for v, y, z in zip(self.vectors, right, sums[r * len(right) :]):
                    everywhere = self.memory.splat(x, v.lanes)
                    ends.append(self.memory.multiply_add(everywhere, y, z, v.lanes))
            return ends

        inner = self.product.sizes[2]
        sums = ["zeroinitializer"] * (rows * len(self.vectors))
        if isinstance(inner, int) and inner <= LITERAL and inner * len(sums) <= UNROLLED:
            for p in range(inner):
                sums = add(str(p), sums)
        else:
            sums = self.loop("0", k, 1, list(zip(types * rows, sums)), add)
        out = self.after(c, self.mul(first, n))
        for r in range(rows):
            line = self.after(out, self.mul(str(r), n))
            for v, z in zip(self.vectors, sums[r * len(self.vectors) :]):
                self.memory.store(self.after(line, str(v.start)), z, v.lanes, v.mask)
        return []

    # -- vectors

    @property
    def padded(self) -> int:
        """The length of a row of B on the stack: all lanes."""
        return self.vectors[-1].start + self.vectors[-1].lanes

    def turned_bytes(self) -> int:
        k = self.product.sizes[2]
        assert isinstance(k, int)
        return max(1, self.padded * k * self.align)

    def turned(self, b: str) -> str:
        """B on the stack, transposed."""
        _, n, k = self.product.sizes
        assert isinstance(n, int)

        def row(p: str, _: list[str]) -> list[str]:
            column = self.after(b, p)
            line = self.after("%turned", self.mul(p, str(self.padded)))
            for v in self.vectors:
                type_ = f"<{v.lanes} x {self.element}>"
                vector = "zeroinitializer"
                for lane in range(v.count):
                    source = self.after(column, self.mul(self.size(k), str(v.start + lane)))
                    x = self.text.assign(f"load {self.element}, ptr {source}, align {self.align}")
                    vector = self.text.assign(
                        f"insertelement {type_} {vector}, {self.element} {x}, i64 {lane}"
                    )
                place = self.after(line, str(v.start))
                self.text.line(f"store {type_} {vector}, ptr {place}, align {self.align}")
            return []

        self.loop("0", self.size(k), 1, [], row)
        return "%turned"

    def load(self, row: str, v: Columns, masked: bool) -> str:
        """A vector of a row of B, whose lanes beyond the row are not read if `masked`."""
        return self.memory.load(self.after(row, str(v.start)), v.lanes, v.mask if masked else None)
