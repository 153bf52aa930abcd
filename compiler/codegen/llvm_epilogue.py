"""What follows a convolution, in the text of its kernel: the vectors of its results on their way to
memory (`kernels.epilogues`)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from graphgrad.compiler.codegen.llvm_convolution_kernel import ConvolutionKernel
from graphgrad.compiler.codegen.llvm_scalar import Lanes, VectorEmitter
from graphgrad.compiler.codegen.llvm_vectors import (
    Mask,
    VectorMemory,
    memory_type,
    prefix_mask,
    suffix,
)
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.epilogues import CHANNEL, SAME, SCALAR
from graphgrad.compiler.kernels.loops import Stmt, cost
from graphgrad.compiler.scalar.expansions import EXPANSIONS


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring channels that are stored at a time: `lanes` of them from `first` on, of which
    `inside` are there."""

    first: int
    lanes: int
    inside: int


class EpilogueEmitter(ConvolutionKernel, VectorMemory):
    """Emits what becomes of the results of a kernel: they are stored, or what the epilogue makes of
    them."""

    given: DType  # of the result in memory
    dtype: DType  # of the vectors at work

    @property
    def work(self) -> float:
        """Instructions for each vector of results."""
        stmts = () if self.epilogue is None else self.epilogue.stmts
        return 1 + sum(cost(s.fn) for s in stmts if s.fn != "const")

    @abstractmethod
    def pointer(self, number: int) -> str:
        """The result (0), or an array of the epilogue (from 1 on)."""

    @abstractmethod
    def channel_values(self, s: Stmt, piece: Piece) -> Lanes:
        """What a statement loads for the channels of a piece: a value each."""

    def shared_values(self, piece: Piece) -> dict[int, Lanes]:
        """What the epilogue reads that is the same for all places."""
        found: dict[int, Lanes] = {}
        if self.epilogue is None:
            return found
        for s in self.epilogue.stmts:
            if s.fn != "load" or s.attr == self.epilogue.result:
                continue
            walk = self.epilogue.walks[s.attr]
            if walk == SCALAR:
                with self.lanes(piece.lanes):
                    found[s.id] = self.splat(self.load_one(self.base(s.attr), "0", s.dtype))
            elif walk == CHANNEL:
                found[s.id] = self.channel_values(s, piece)
        return found

    def result(self, start: str, piece: Piece, sums: str, known: dict[int, Lanes]) -> None:
        """A piece of the results: `start` is the element of the target's first channel."""
        lanes = piece.inside
        e = VectorEmitter(self.text, piece.lanes, self.block)
        at = self.add(start, piece.first)
        made = e.convert(Lanes(sums, self.dtype), self.given)
        if self.epilogue is None or self.epilogue.keeps:
            self.store_vector(e, self.element_at(self.pointer(0), at, self.given), made, lanes)
        if self.epilogue is None:
            return
        values = dict(known)
        for s in self.epilogue.stmts:
            args = tuple(values[a] for a in s.args)
            if s.fn == "load":
                if s.attr == self.epilogue.result:
                    values[s.id] = made
                elif self.epilogue.walks[s.attr] == SAME:
                    place = self.element_at(self.base(s.attr), at, s.dtype)
                    values[s.id] = self.load_lanes(e, place, s.dtype, lanes)
            elif s.fn == "store":
                place = self.element_at(self.base(s.attr), at, args[0].dtype)
                self.store_vector(e, place, args[0], lanes)
            elif s.fn in EXPANSIONS:
                values[s.id] = e.named(s.fn, args, s.attr)
            else:
                values[s.id] = e.primitive(s.fn, args, s.dtype, s.attr)
        self.block = e.label or self.block

    # -- memory

    def base(self, array: int) -> str:
        assert self.epilogue is not None
        return self.pointer(1 + self.epilogue.others.index(array))

    def ask(self, at: str) -> None:
        """Ask for a line of memory. Where an array ends, more may be asked for than there is, which
        does nothing."""
        self.parts.declares.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.text.line(f"call void @llvm.prefetch.p0(ptr {at}, i32 0, i32 3, i32 1)")

    def element_at(self, pointer: str, index: str, dtype: DType) -> str:
        if index == "0":
            return pointer
        return self.text.assign(f"getelementptr {memory_type(dtype)}, ptr {pointer}, i64 {index}")

    def load_one(self, pointer: str, index: str, dtype: DType) -> Lanes:
        at = self.element_at(pointer, index, dtype)
        one = self.text.assign(f"load {memory_type(dtype)}, ptr {at}, align {dtype.itemsize}")
        return self.from_memory(Lanes(one, dtype), 1)

    def inside(self, lanes: int, width: int) -> Mask:
        """The first `lanes` of a vector."""
        if lanes == width:
            return Mask()
        return Mask(prefix_mask(lanes, width))

    def store_vector(self, e: VectorEmitter, at: str, x: Lanes, lanes: int) -> None:
        element, align = memory_type(x.dtype), x.dtype.itemsize
        vector, value = f"<{e.width} x {element}>", self.to_memory(x, e.width)
        if lanes == e.width:
            self.text.line(f"store {vector} {value}, ptr {at}, align {align}")
            return
        if self.has_masks(x.dtype) and lanes > 1:  # one lane: see `NestMemory.store`
            name, mask = f"@llvm.masked.store.v{e.width}{suffix(x.dtype)}.p0", f"<{e.width} x i1>"
            self.parts.declares.add(f"declare void {name}({vector}, ptr, i32, {mask})")
            inside = f"{mask} {self.inside(lanes, e.width).text}"
            self.text.line(f"call void {name}({vector} {value}, ptr {at}, i32 {align}, {inside})")
            return
        for first, count in powers(lanes):
            part = self.shuffle(element, e.width, value, "poison", range(first, first + count))
            place = self.element_at(at, str(first), x.dtype)
            self.text.line(f"store <{count} x {element}> {part}, ptr {place}, align {align}")

    def load_lanes(self, e: VectorEmitter, at: str, dtype: DType, lanes: int) -> Lanes:
        """The first `lanes` of a vector in memory; no others are read."""
        if lanes == e.width or self.has_masks(dtype):
            return self.load_vector(e, at, dtype, self.inside(lanes, e.width))
        element, vector = memory_type(dtype), "zeroinitializer"
        for first, count in powers(lanes):
            place = self.element_at(at, str(first), dtype)
            part = self.text.assign(
                f"load <{count} x {element}>, ptr {place}, align {dtype.itemsize}"
            )
            padded = [min(k, count - 1) for k in range(e.width)]
            wide = self.shuffle(element, count, part, "poison", padded)
            taken = {first + k: k for k in range(count)}
            vector = self.replaced(element, e.width, vector, wide, taken)
        return self.from_memory(Lanes(vector, dtype), e.width)

    def has_masks(self, dtype: DType) -> bool:
        """Does the processor load and store some lanes of a vector? AVX does, of 32 and 64 bits. Of
        integers, bfloat16 among them, LLVM has stored more lanes than a literal mask has, where it
        makes one instruction of truncating and storing."""
        return dtype.is_floating and dtype.itemsize >= 4 and self.registers.bytes > 16


def powers(lanes: int) -> list[tuple[int, int]]:
    """Lanes in runs of powers of two: where each begins, and its length.

    >>> powers(13)
    [(0, 8), (8, 4), (12, 1)]
    """
    found, first = [], 0
    while first < lanes:
        count = 1 << ((lanes - first).bit_length() - 1)
        found.append((first, count))
        first += count
    return found
