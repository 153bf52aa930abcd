"""Vectors of elements in memory: loaded as they lie, backwards, or every few of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from graphgrad.compiler.codegen.llvm_scalar import (
    REGISTER_BITS,
    FunctionText,
    Lanes,
    ModuleParts,
    VectorEmitter,
    llvm_type,
)
from graphgrad.compiler.dtypes import DType


def memory_type(dtype: DType) -> str:
    """The LLVM type of one element in memory: bool takes a byte."""
    return "i8" if dtype.is_bool else llvm_type(dtype)


def suffix(dtype: DType) -> str:
    """The mangled element type of an intrinsic: f32, i16, bf16 as i16."""
    text = memory_type(dtype)
    return {"half": "f16", "float": "f32", "double": "f64"}.get(text, text)


def prefix_mask(count: int, width: int) -> str:
    """The constant that is true for the first `count` of `width` lanes."""
    return f"<{', '.join('i1 true' if k < count else 'i1 false' for k in range(width))}>"


@dataclass
class Mask:
    """Which lanes of the current vector are inside: None means all."""

    text: str | None = None


class VectorMemory:
    """What loads vectors and rearranges them."""

    parts: ModuleParts
    text: FunctionText
    width: int

    @contextmanager
    def lanes(self, width: int) -> Iterator[None]:
        """Vectors have `width` lanes within."""
        before, self.width = self.width, width
        yield
        self.width = before

    def splat(self, x: Lanes) -> Lanes:
        element = llvm_type(x.dtype)
        one, all_ = "%" + self.text.name(), "%" + self.text.name()
        vector = f"<{self.width} x {element}>"
        self.text.line(f"{one} = insertelement {vector} poison, {element} {x.text}, i64 0")
        first = f"<{self.width} x i32> zeroinitializer"
        self.text.line(f"{all_} = shufflevector {vector} {one}, {vector} poison, {first}")
        return Lanes(all_, x.dtype)

    def load_vector(self, e: VectorEmitter, pointer: str, dtype: DType, mask: Mask) -> Lanes:
        """Neighbouring elements, those outside the mask left alone."""
        return self.from_memory(Lanes(self.load_elements(e, pointer, dtype, mask), dtype), e.width)

    def load_elements(self, e: VectorEmitter, pointer: str, dtype: DType, mask: Mask) -> str:
        """Neighbouring elements as they are in memory."""
        name = "%" + self.text.name()
        vector, align = f"<{e.width} x {memory_type(dtype)}>", dtype.itemsize
        if mask.text is None:
            self.text.line(f"{name} = load {vector}, ptr {pointer}, align {align}")
        else:
            function = f"@llvm.masked.load.v{e.width}{suffix(dtype)}.p0"
            mask_type = f"<{e.width} x i1>"
            self.parts.declares.add(f"declare {vector} {function}(ptr, i32, {mask_type}, {vector})")
            inside = f"{mask_type} {mask.text}, {vector} zeroinitializer"
            self.text.line(
                f"{name} = call {vector} {function}(ptr {pointer}, i32 {align}, {inside})"
            )
        return name

    def load_picked(
        self, e: VectorEmitter, pointer: str, step: int, dtype: DType, mask: Mask
    ) -> Lanes:
        """Every few elements from `pointer` on: all that lie between are loaded, a register at a
        time."""
        element, lanes = memory_type(dtype), min(e.width, REGISTER_BITS // (8 * dtype.itemsize))
        parts = []
        for first in range(0, e.width, lanes):
            # Lane k is at `at[k]`, from the lowest address on.
            low = first * step + min(0, (lanes - 1) * step)
            at = [(first + k) * step - low for k in range(lanes)]
            some = Mask()
            if mask.text is not None:
                these = range(first, first + lanes)
                some = Mask(self.shuffle("i1", e.width, mask.text, "zeroinitializer", these))
            start = self.text.assign(f"getelementptr {element}, ptr {pointer}, i64 {low}")
            parts.append(self.pick(VectorEmitter(self.text, lanes), start, dtype, at, some))
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self.shuffle(element, lanes, a, b, range(2 * lanes)) for a, b in pairs]
            lanes *= 2
        return self.from_memory(Lanes(parts[0], dtype), e.width)

    def pick(self, e: VectorEmitter, pointer: str, dtype: DType, at: list[int], mask: Mask) -> str:
        """A vector of the elements at the offsets `at` from `pointer`: all different with a mask,
        and over a vector or more."""
        element, w, picked = memory_type(dtype), e.width, "poison"
        end = max(at) + 1
        for start in [*range(0, end - w, w), end - w]:  # the last ends with the last element
            here = {k: at[k] - start for k in range(w) if start <= at[k] < start + w}
            some = Mask()
            if mask.text is not None:
                lane_at = {i: k for k, i in here.items()}
                wanted = [lane_at.get(i, w) for i in range(w)]
                some = Mask(self.shuffle("i1", w, mask.text, "zeroinitializer", wanted))
            place = self.text.assign(f"getelementptr {element}, ptr {pointer}, i64 {start}")
            found = self.load_elements(e, place, dtype, some)
            picked = self.replaced(element, w, picked, found, here)
        return picked

    def shuffle(self, element: str, width: int, a: str, b: str, lanes: Iterable[int]) -> str:
        """The given lanes of two vectors."""
        vector, numbers = f"<{width} x {element}>", [f"i32 {k}" for k in lanes]
        mask = f"<{len(numbers)} x i32> <{', '.join(numbers)}>"
        return self.text.assign(f"shufflevector {vector} {a}, {vector} {b}, {mask}")

    def replaced(
        self, element: str, width: int, old: str, new: str, taken: Mapping[int, int]
    ) -> str:
        """The vector `old` with lane i of `new` in lane k for each {k: i} of `taken`."""
        lanes = [width + taken[k] if k in taken else k for k in range(width)]
        return self.shuffle(element, width, old, new, lanes)

    def reversed(self, text: str, element: str) -> str:
        """A vector with its last lane first."""
        name, w = "%" + self.text.name(), self.width
        lanes = ", ".join(f"i32 {k}" for k in reversed(range(w)))
        vector = f"<{w} x {element}>"
        self.text.line(
            f"{name} = shufflevector {vector} {text}, {vector} poison, <{w} x i32> <{lanes}>"
        )
        return name

    def reversed_mask(self, mask: Mask) -> Mask:
        return mask if mask.text is None else Mask(self.reversed(mask.text, "i1"))

    def from_memory(self, x: Lanes, width: int) -> Lanes:
        """A loaded bool is a byte: compare with zero."""
        if not x.dtype.is_bool:
            return x
        name = "%" + self.text.name()
        vector = "i8" if width == 1 else f"<{width} x i8>"
        zero = "0" if width == 1 else "zeroinitializer"
        self.text.line(f"{name} = icmp ne {vector} {x.text}, {zero}")
        return Lanes(name, x.dtype)

    def to_memory(self, x: Lanes, width: int) -> str:
        if not x.dtype.is_bool:
            return x.text
        name = "%" + self.text.name()
        i1, i8 = ("i1", "i8") if width == 1 else (f"<{width} x i1>", f"<{width} x i8>")
        self.text.line(f"{name} = zext {i1} {x.text} to {i8}")
        return name
