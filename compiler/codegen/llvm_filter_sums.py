"""The partial results of a convolution's filter gradient, added in order by an LLVM function.

    define internal i32 @k_conv_filter_gradient_3f9a1c_sum(ptr %status, i64 %lo, i64 %hi, ptr %args)

Its items are elements of the result, or rows [tap, output] of results that are transposed. Floats
of 16 bits are rounded here.
"""

from __future__ import annotations

from abc import abstractmethod

from graphgrad.compiler.codegen.llvm_convolution_kernel import ConvolutionKernel, Launch
from graphgrad.compiler.codegen.llvm_scalar import Lanes, VectorEmitter, llvm_type
from graphgrad.compiler.kernels.division import LANES, chunks
from graphgrad.compiler.kernels.filter_tiles import FilterTiles

# Picoseconds of an element of a partial result that is added to another, and of a transposed one.
ADDED, TURNED = 50, 500


class PartialSums(ConvolutionKernel):
    """Emits the function of the partial results."""

    t: FilterTiles
    bytes: int  # of an element in memory of this kernel
    given: int  # of an element of the arrays

    @abstractmethod
    def splits(self) -> str:
        """How many partial results there are, as an operand."""

    @property
    def sum_launch(self) -> Launch:
        t, outputs = self.t, self.t.conv.outputs
        if not t.swapped:
            division = chunks("rows", t.elements, t.most_splits * ADDED, LANES)
            return Launch("_sum", t.elements, division)
        rows = t.elements // t.inputs
        row = t.inputs * (t.most_splits * ADDED + TURNED)
        assert rows % outputs == 0
        return Launch("_sum", rows, chunks("rows", rows, row))

    def sum_function(self) -> str:
        return self.function("_sum", self.turn if self.t.swapped else self.add_all)

    def add_all(self) -> None:
        """Elements lo..hi."""
        splits, lanes = self.splits(), self.t.lanes
        count = self.text.assign("sub i64 %hi, %lo")
        whole = self.add("%lo", self.text.assign(f"and i64 {count}, {-lanes}"))

        def some(index: str, width: int) -> list[str]:
            total = self.total(width, self.mul(index, self.bytes), splits)
            place = self.at("%w", self.mul(index, self.given))
            self.text.line(f"store {total}, ptr {place}, align {self.given}")
            return []

        self.loop("%lo", whole, lanes, [], lambda i, _: some(i, lanes))
        self.loop(whole, "%hi", 1, [], lambda i, _: some(i, 1))

    def turn(self) -> None:
        """Rows [tap, output] lo..hi: the inputs of each become a column."""
        t, outputs = self.t, self.t.conv.outputs
        splits = self.splits()
        whole = str(t.inputs // t.lanes * t.lanes)

        def row(index: str, _: list[str]) -> list[str]:
            tap, output = self.parted(index, str(outputs))
            source = self.mul(index, t.inputs * self.bytes)
            column = self.mul(self.add(self.mul(tap, t.inputs * outputs), output), self.given)
            column = self.at("%w", column)

            def some(i: str, width: int) -> list[str]:
                total = self.total(width, self.add(source, self.mul(i, self.bytes)), splits)
                place = self.at(column, self.mul(i, outputs * self.given))
                if width == 1:
                    self.text.line(f"store {total}, ptr {place}, align {self.given}")
                    return []
                element = llvm_type(t.conv.dtype)
                for lane in range(width):
                    x = self.text.assign(f"extractelement {total}, i64 {lane}")
                    self.text.line(f"store {element} {x}, ptr {place}, align {self.given}")
                    place = self.at(place, str(outputs * self.given))
                return []

            self.loop("0", whole, t.lanes, [], lambda i, _: some(i, t.lanes))
            self.loop(whole, str(t.inputs), 1, [], lambda i, _: some(i, 1))
            return []

        self.loop("%lo", "%hi", 1, [], row)

    def total(self, width: int, at: str, splits: str) -> str:
        """The sum of the partial results at byte `at`, in order, with its type."""
        t, e = self.t, VectorEmitter(self.text, width)
        type_ = e.type(t.dtype)

        def load(split: str) -> str:
            before = self.mul(split, t.elements * self.bytes)
            place = self.at("%partial", self.add(before, at))
            return self.text.assign(f"load {type_}, ptr {place}, align {self.bytes}")

        def add(split: str, totals: list[str]) -> list[str]:
            return [self.text.assign(f"fadd {type_} {totals[0]}, {load(split)}")]

        found = load("0")
        if splits != "1":
            found = self.loop("1", splits, 1, [(type_, found)], add)[0]
        return e.typed(e.convert(Lanes(found, t.dtype), t.conv.dtype))
