"""Kernels and library calls as one LLVM module: the function that runs a Program's native steps.

    define i32 @run_0(ptr %status, ptr %table)

reads slots, sizes and routine addresses from the call's table (layout: `runtime.program`), lays out
each kernel's arguments on the stack and calls it. Sizes come from the table, not as literals, so
one module serves every shape with the same structure.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from graphgrad.compiler.codegen.llvm_nest import NestEmitter, is_flat
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.dims import Extent, to_size
from graphgrad.compiler.kernels.loops import LoopNest
from graphgrad.compiler.types import element_count
from graphgrad.runtime.program import Size

# Run functions are cut into parts of about so many lines: LLVM's time grows with the square of a
# function's length.
PART_LINES = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array lies during a call: a slot of the table, or a byte offset into the arena."""

    slot: int = -1
    offset: Size = 0


@dataclass(frozen=True, slots=True)
class KernelText:
    """One kernel: its name (a hash of its text), text, and the sizes it takes as arguments."""

    name: str
    text: str
    sizes: tuple[Extent, ...]


def kernel_text(nest: LoopNest, parts: ModuleParts) -> KernelText:
    """The function of a nest, named by its content: equal kernels are one function."""
    emitter = NestEmitter(nest, "KERNEL", parts)
    text = emitter.emit()
    readable = re.sub(r"\W+", "_", nest.title.replace(", ", "_"))[:40].strip("_")
    name = f"k_{readable}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return KernelText(name, text.replace("@KERNEL(", f"@{name}("), tuple(emitter.sizes))


@dataclass
class ModuleWriter:
    """Collects kernels and the steps of run functions."""

    slots: int  # pointers before the arena's word
    parts: ModuleParts = field(default_factory=ModuleParts)
    kernels: dict[str, str] = field(default_factory=dict)
    texts: dict[Any, KernelText] = field(default_factory=dict)  # by the key of the nest
    sizes: dict[Size, int] = field(default_factory=dict)  # with their numbers, in order
    routines: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    run_parts: list[str] = field(default_factory=list)  # of the run function at work
    entries: list[str] = field(default_factory=list)
    count: int = 0
    argument_words: int = 1

    def fresh(self) -> str:
        self.count += 1
        return f"%r{self.count}"

    def emit(self, text: str) -> str:
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return name

    def word(self, kind: str, index: int) -> str:
        """A word of the table: `size` and `routine` words are numbered when the module is done."""
        return f"${kind}{index}$"

    def size(self, size: Size) -> str:
        """A size as an i64 operand, read from the table."""
        if isinstance(size, int) and 0 <= size <= 1:
            return str(size)
        number = self.sizes.setdefault(size, len(self.sizes))
        at = self.emit(f"getelementptr i64, ptr %table, i64 {self.word('size', number)}")
        return self.emit(f"load i64, ptr {at}")

    def pointer(self, place: Place) -> str:
        """The address of an array."""
        if place.slot >= 0:
            at = self.emit(f"getelementptr ptr, ptr %table, i64 {place.slot}")
            return self.emit(f"load ptr, ptr {at}")
        at = self.emit(f"getelementptr ptr, ptr %table, i64 {self.slots}")
        arena = self.emit(f"load ptr, ptr {at}")
        return self.emit(f"getelementptr i8, ptr {arena}, i64 {self.size(place.offset)}")

    def routine(self, name: str) -> str:
        number = self.routines.setdefault(name, len(self.routines))
        at = self.emit(f"getelementptr ptr, ptr %table, i64 {self.word('routine', number)}")
        return self.emit(f"load ptr, ptr {at}")

    # -- steps

    def kernel(self, nest: LoopNest, places: list[Place]) -> KernelText:
        """Call the kernel of `nest` on arrays at `places`."""
        self.cut()
        kernel = self.text_of(nest)
        self.kernels.setdefault(kernel.name, kernel.text)
        words = [(self.pointer(p), "ptr") for p in places]
        words += [(self.size(to_size(n)), "i64") for n in kernel.sizes]
        self.argument_words = max(self.argument_words, len(words))
        for i, (value, type_) in enumerate(words):
            at = self.emit(f"getelementptr i64, ptr %arguments, i64 {i}")
            self.lines.append(f"  store {type_} {value}, ptr {at}")
        count = self.size(to_size(parallel_extent(nest)))
        status = self.emit(
            f"call i32 @{kernel.name}(ptr %status, i64 0, i64 {count}, ptr %arguments)"
        )
        if any(s.failures for s in nest.statements()):
            self.leave_if_failed(status)
        return kernel

    def text_of(self, nest: LoopNest) -> KernelText:
        """The text of a nest, written once for equal ones: the layers of a network are."""
        key = nest.key()
        found = self.texts.get(key)
        if found is None:
            found = self.texts[key] = kernel_text(nest, self.parts)
        return found

    def leave_if_failed(self, status: str) -> None:
        bad, leave, on = self.fresh(), self.fresh()[1:], self.fresh()[1:]
        self.lines.append(f"  {bad} = icmp ne i32 {status}, 0")
        self.lines.append(f"  br i1 {bad}, label %{leave}, label %{on}")
        self.lines += [f"{leave}:", "  ret i32 1", f"{on}:"]

    def gemm(
        self, routine: str, scalar: str, integer: str, flags: tuple[bool, bool],
        sizes: tuple[Size, Size, Size], places: tuple[Place, Place, Place],
        batch: tuple[Size, Size, Size, Size] | None, itemsize: int,
    ) -> None:  # fmt: skip
        """C = op(A) op(B), row-major, through CBLAS. `batch` is (count, then elements to the next
        matrix of A, B and C)."""
        self.cut()
        m, n, k = (self.size(s) for s in sizes)
        a, b, c = (self.pointer(p) for p in places)
        function = self.routine(routine)
        transpose_a, transpose_b = flags
        lda, ldb, ldc = m if transpose_a else k, k if transpose_b else n, n
        integers = [self.narrow(self.at_least_one(x) if i >= 3 else x, integer)
                    for i, x in enumerate((m, n, k, lda, ldb, ldc))]  # fmt: skip
        if batch is None:
            self.gemm_call(function, scalar, integer, flags, integers, (a, b, c))
            return
        count, *steps = (self.size(s) for s in batch)
        head, body, after = (self.fresh()[1:] for _ in range(3))
        index, following, test = self.fresh(), self.fresh(), self.fresh()
        before = self.fresh()[1:]
        self.lines += [f"  br label %{before}", f"{before}:", f"  br label %{head}", f"{head}:"]
        self.lines.append(f"  {index} = phi i64 [ 0, %{before} ], [ {following}, %{body} ]")
        self.lines.append(f"  {test} = icmp slt i64 {index}, {count}")
        self.lines += [f"  br i1 {test}, label %{body}, label %{after}", f"{body}:"]
        moved = []
        for pointer, step in zip((a, b, c), steps, strict=True):
            elements = self.emit(f"mul i64 {index}, {step}")
            offset = self.emit(f"mul i64 {elements}, {itemsize}")
            moved.append(self.emit(f"getelementptr i8, ptr {pointer}, i64 {offset}"))
        self.gemm_call(function, scalar, integer, flags, integers, (moved[0], moved[1], moved[2]))
        self.lines.append(f"  {following} = add i64 {index}, 1")
        self.lines += [f"  br label %{head}", f"{after}:"]

    def gemm_call(
        self, function: str, scalar: str, integer: str, flags: tuple[bool, bool],
        integers: list[str], pointers: tuple[str, str, str],
    ) -> None:  # fmt: skip
        row_major, no, yes = 101, 111, 112  # CBLAS_ORDER, CBLAS_TRANSPOSE
        m, n, k, lda, ldb, ldc = integers
        a, b, c = pointers
        ta, tb = (yes if f else no for f in flags)
        self.lines.append(
            f"  call void {function}(i32 {row_major}, i32 {ta}, i32 {tb}, "
            f"{integer} {m}, {integer} {n}, {integer} {k}, {scalar} 1.0, ptr {a}, {integer} {lda}, "
            f"ptr {b}, {integer} {ldb}, {scalar} 0.0, ptr {c}, {integer} {ldc})"
        )

    def at_least_one(self, value: str) -> str:
        """CBLAS wants leading dimensions of at least 1, also for empty matrices."""
        if value.isdigit():
            return str(max(1, int(value)))
        self.parts.declares.add("declare i64 @llvm.smax.i64(i64, i64)")
        return self.emit(f"call i64 @llvm.smax.i64(i64 {value}, i64 1)")

    def narrow(self, value: str, integer: str) -> str:
        return (
            value if integer == "i64" or value.isdigit() else self.emit(f"trunc i64 {value} to i32")
        )

    # -- the module

    @property
    def open(self) -> bool:
        """Have steps been written since the last run function was closed?"""
        return bool(self.lines or self.run_parts)

    def cut(self) -> None:
        """Between steps: begin another part of the run function where it is long enough."""
        if len(self.lines) >= PART_LINES:
            self.end_part()

    def end_part(self) -> None:
        name = f"run_{len(self.entries)}_part_{len(self.run_parts)}"
        self.run_parts.append(self.function(f"define internal i32 @{name}", "noinline nounwind"))

    def end_entry(self) -> str:
        """Close the run function that has been written; its name."""
        name = f"run_{len(self.entries)}"
        if self.run_parts:
            self.end_part()
            for k in range(len(self.run_parts)):
                self.leave_if_failed(
                    self.emit(f"call i32 @{name}_part_{k}(ptr %status, ptr %table)")
                )
        entry = self.function(f"define i32 @{name}", "nounwind")
        self.entries.append("\n\n".join([*self.run_parts, entry]))
        self.run_parts = []
        return name

    def function(self, head: str, attributes: str) -> str:
        """The function of the lines that have been written."""
        text = "\n".join([
            f"{head}(ptr %status, ptr %table) {attributes} {{",
            "entry:",
            f"  %arguments = alloca [{self.argument_words} x i64], align 64",
            *self.lines,
            "  ret i32 0",
            "}",
        ])  # fmt: skip
        self.lines, self.argument_words = [], 1
        return text

    def module(self) -> str:
        """The whole module; empty when nothing is native."""
        if not self.entries:
            return ""
        base = {"size": self.slots + 1, "routine": self.slots + 1 + len(self.sizes)}
        entries = [
            re.sub(r"\$(size|routine)(\d+)\$", lambda m: str(base[m[1]] + int(m[2])), e)
            for e in self.entries
        ]
        return "\n\n".join([self.parts.text(), *self.kernels.values(), *entries]) + "\n"


def parallel_extent(nest: LoopNest) -> Extent:
    """The length of the range that can be cut between threads."""
    if is_flat(nest):
        return nest.dims[0]
    return element_count(nest.dims[: nest.parallel])
