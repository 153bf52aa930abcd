"""Places that integers in memory move: where a block starts."""

from __future__ import annotations

from graphgrad.compiler.codegen.llvm_program import ModuleWriter, Place
from graphgrad.compiler.dtypes import DType
from graphgrad.runtime.program import STATUS_A, STATUS_B, STATUS_FAILURE, Size


def moved(
    writer: ModuleWriter, place: Place, starts: list[tuple[Place, DType, Size, Size]], failure: int
) -> Place:
    """A place, moved by integers in memory: for each its own place, its type, the bytes that it
    counts, and the most that it may be."""
    writer.cut(ahead=40 * len(starts))
    pointer = writer.pointer(place)
    for at, dtype, stride, most in starts:
        raw = writer.emit(f"load i{dtype.bits}, ptr {writer.pointer(at)}")
        widen = "sext" if dtype.kind == "i" else "zext"
        start = writer.emit(f"{widen} i{dtype.bits} {raw} to i64") if dtype.bits < 64 else raw
        limit = writer.size(most)
        least = writer.emit(f"icmp sge i64 {start}, 0")
        below = writer.emit(f"icmp sle i64 {start}, {limit}")
        inside = writer.emit(f"and i1 {least}, {below}")
        fail, on = writer.fresh()[1:], writer.fresh()[1:]
        writer.lines += [f"  br i1 {inside}, label %{on}, label %{fail}", f"{fail}:"]
        for word, value in (
            (STATUS_FAILURE, str(failure)),
            (STATUS_A, start),
            (STATUS_B, limit),
        ):
            to = writer.emit(f"getelementptr i64, ptr %status, i64 {word}")
            writer.lines.append(f"  store i64 {value}, ptr {to}")
        writer.lines += ["  ret i32 1", f"{on}:"]
        by = writer.emit(f"mul i64 {start}, {writer.size(stride)}")
        pointer = writer.emit(f"getelementptr i8, ptr {pointer}, i64 {by}")
    return Place(register=pointer)
