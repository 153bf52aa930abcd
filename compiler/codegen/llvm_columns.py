"""Vectors of neighbouring columns, or channels: loaded, stored, multiplied and added.

The last vector of a row may have lanes beyond it, which are neither read nor written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphgrad.compiler.codegen.llvm_scalar import FunctionText, ModuleParts, llvm_type
from graphgrad.compiler.codegen.llvm_vectors import suffix
from graphgrad.compiler.dtypes import DType


@dataclass(frozen=True, slots=True)
class Columns:
    """Neighbouring columns that make one vector; lanes from `count` on are not there."""

    start: int
    lanes: int
    count: int

    @property
    def mask(self) -> str | None:
        """The lanes that are there."""
        return literal([i < self.count for i in range(self.lanes)])


def vectors_of(columns: int, lanes: int) -> list[Columns]:
    """Whole vectors, then the shortest one that holds the rest.

    >>> vectors_of(19, 16)
    [Columns(start=0, lanes=16, count=16), Columns(start=16, lanes=4, count=3)]
    """
    whole = columns // lanes * lanes
    found = [Columns(start, lanes, lanes) for start in range(0, whole, lanes)]
    rest = columns - whole
    if rest:
        found.append(Columns(whole, 1 << (rest - 1).bit_length(), rest))
    return found


def literal(inside: Sequence[bool]) -> str | None:
    """A mask; None where all lanes are inside."""
    if all(inside):
        return None
    return "<" + ", ".join(f"i1 {'true' if x else 'false'}" for x in inside) + ">"


@dataclass(frozen=True, slots=True)
class Result:
    """A vector on its way to memory: so many elements from the first one, of these lanes, which
    begin with a channel."""

    offset: int
    value: str
    inside: tuple[bool, ...]
    channel: int


class Memory:
    """Loads and stores of vectors, some lanes of which may be left alone."""

    def __init__(self, text: FunctionText, parts: ModuleParts, dtype: DType) -> None:
        self.text, self.parts, self.dtype = text, parts, dtype
        self.element, self.align = llvm_type(dtype), dtype.itemsize

    def type(self, lanes: int) -> str:
        return f"<{lanes} x {self.element}>"

    def at(self, pointer: str, offset: int) -> str:
        if not offset:
            return pointer
        return self.text.assign(f"getelementptr {self.element}, ptr {pointer}, i64 {offset}")

    def load(self, pointer: str, lanes: int, mask: str | None) -> str:
        vector = self.type(lanes)
        if mask is None:
            return self.text.assign(f"load {vector}, ptr {pointer}, align {self.align}")
        name = f"@llvm.masked.load.v{lanes}{suffix(self.dtype)}.p0"
        self.parts.declares.add(f"declare {vector} {name}(ptr, i32, <{lanes} x i1>, {vector})")
        return self.text.assign(
            f"call {vector} {name}(ptr {pointer}, i32 {self.align}, <{lanes} x i1> {mask}, "
            f"{vector} zeroinitializer)"
        )

    def store(self, pointer: str, value: str, lanes: int, mask: str | None) -> None:
        vector = self.type(lanes)
        if mask is None:
            self.text.line(f"store {vector} {value}, ptr {pointer}, align {self.align}")
            return
        name = f"@llvm.masked.store.v{lanes}{suffix(self.dtype)}.p0"
        self.parts.declares.add(f"declare void {name}({vector}, ptr, i32, <{lanes} x i1>)")
        self.text.line(
            f"call void {name}({vector} {value}, ptr {pointer}, i32 {self.align}, "
            f"<{lanes} x i1> {mask})"
        )

    def add(self, pointer: str, value: str, lanes: int, mask: str | None) -> None:
        before = self.load(pointer, lanes, mask)
        what = "fadd" if self.dtype.is_floating else "add"
        total = self.text.assign(f"{what} {self.type(lanes)} {before}, {value}")
        self.store(pointer, total, lanes, mask)

    def put(self, pointer: str, results: Sequence[Result]) -> None:
        for r in results:
            self.store(self.at(pointer, r.offset), r.value, len(r.inside), literal(r.inside))

    def shuffle(self, a: str, b: str, lanes: int, picked: Sequence[int]) -> str:
        numbers = ", ".join(f"i32 {k}" for k in picked)
        return self.text.assign(
            f"shufflevector {self.type(lanes)} {a}, {self.type(lanes)} {b}, "
            f"<{len(picked)} x i32> <{numbers}>"
        )

    def splat(self, x: str, lanes: int) -> str:
        """A vector of one number."""
        vector = self.type(lanes)
        one = self.text.assign(f"insertelement {vector} poison, {self.element} {x}, i64 0")
        if lanes == 1:
            return one
        return self.text.assign(
            f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer"
        )

    def multiply_add(self, x: str, y: str, z: str, lanes: int) -> str:
        """x y + z, rounded once where the processor can do that in one instruction."""
        vector, name = self.type(lanes), f"@llvm.fmuladd.v{lanes}{suffix(self.dtype)}"
        self.parts.declares.add(f"declare {vector} {name}({vector}, {vector}, {vector})")
        return self.text.assign(f"call {vector} {name}({vector} {x}, {vector} {y}, {vector} {z})")
