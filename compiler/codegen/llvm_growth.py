"""Memory that grows while a loop runs: the functions that native code calls for it.

A record (`runtime/program.py`) lies in the call's table: room in rows, their bytes, the count of
rows, and a pointer for each array. The call's frame owns the memory, and keeps it for the next
call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from graphgrad.compiler.codegen.llvm_scalar import COLD, ModuleParts
from graphgrad.runtime.program import (
    RECORD_BYTES,
    RECORD_COUNT,
    RECORD_HEAD,
    RECORD_KEPT,
    RECORD_ROOM,
    STATUS_A,
    STATUS_FAILURE,
    Size,
)

if TYPE_CHECKING:
    from graphgrad.compiler.codegen.llvm_program import ModuleWriter

ROOM, COUNT, POINTERS = RECORD_ROOM, RECORD_COUNT, RECORD_HEAD
OPERATORS = ("+", "*", "//", "max", "up")  # of sizes

FIRST_ROWS, FIRST_BYTES = 64, 1 << 16  # at most, of a record that nothing has been written to

# Makes room for `wanted` rows in the `n` arrays of a record, a few where that is 0; the rows have
# `sizes` bytes. What is there stays. Where there is no memory it frees all that the record has, and
# fails with the bytes that were asked for.
GROW = f"""
define internal i32 @grow(ptr %status, ptr %record, i64 %wanted, i64 %n, ptr %sizes,
                          i64 %failure) {COLD} {{
entry:
  %room = getelementptr i64, ptr %record, i64 {RECORD_ROOM}
  %at_bytes = getelementptr i64, ptr %record, i64 {RECORD_BYTES}
  %pointers = getelementptr ptr, ptr %record, i64 {RECORD_HEAD}
  br label %measure
measure:
  %j = phi i64 [ 0, %entry ], [ %j_next, %measure ]
  %row = phi i64 [ 0, %entry ], [ %row_next, %measure ]
  %at_row = getelementptr i64, ptr %sizes, i64 %j
  %bytes_j = load i64, ptr %at_row
  %row_next = add i64 %row, %bytes_j
  %j_next = add i64 %j, 1
  %measured = icmp eq i64 %j_next, %n
  br i1 %measured, label %begin, label %measure
begin:
  %some = call i64 @llvm.smax.i64(i64 %row_next, i64 1)
  %fitting = sdiv i64 {FIRST_BYTES}, %some
  %few = call i64 @llvm.smin.i64(i64 %fitting, i64 {FIRST_ROWS})
  %first = call i64 @llvm.smax.i64(i64 %few, i64 1)
  %fresh = icmp eq i64 %wanted, 0
  %rows = select i1 %fresh, i64 %first, i64 %wanted
  br label %next
next:
  %k = phi i64 [ 0, %begin ], [ %k_next, %done ]
  %total = phi i64 [ 0, %begin ], [ %total_next, %done ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %array, label %end
array:
  %at_size = getelementptr i64, ptr %sizes, i64 %k
  %size = load i64, ptr %at_size
  %product = call {{i64, i1}} @llvm.smul.with.overflow.i64(i64 %rows, i64 %size)
  %exact = extractvalue {{i64, i1}} %product, 0
  %over = extractvalue {{i64, i1}} %product, 1
  %bytes = select i1 %over, i64 {(1 << 63) - 1}, i64 %exact
  %at = getelementptr ptr, ptr %pointers, i64 %k
  %old = load ptr, ptr %at
  %new = call ptr @PyMem_RawRealloc(ptr %old, i64 %bytes)
  %none = icmp eq ptr %new, null
  br i1 %none, label %fail, label %done
done:
  store ptr %new, ptr %at
  %total_next = add i64 %total, %bytes
  %k_next = add i64 %k, 1
  br label %next
end:
  store i64 %rows, ptr %room
  store i64 %total, ptr %at_bytes
  ret i32 0
fail:
  %at_failure = getelementptr i64, ptr %status, i64 {STATUS_FAILURE}
  store i64 %failure, ptr %at_failure
  %at_a = getelementptr i64, ptr %status, i64 {STATUS_A}
  store i64 %bytes, ptr %at_a
  call void @drop(ptr %record, i64 %n)
  ret i32 1
}}
"""

# Frees the memory of the `n` arrays of a record.
DROP = f"""
define internal void @drop(ptr %record, i64 %n) {COLD} {{
entry:
  %room = getelementptr i64, ptr %record, i64 {RECORD_ROOM}
  %at_bytes = getelementptr i64, ptr %record, i64 {RECORD_BYTES}
  %pointers = getelementptr ptr, ptr %record, i64 {RECORD_HEAD}
  store i64 0, ptr %room
  store i64 0, ptr %at_bytes
  br label %array
array:
  %k = phi i64 [ 0, %entry ], [ %k_next, %array ]
  %at = getelementptr ptr, ptr %pointers, i64 %k
  %old = load ptr, ptr %at
  store ptr null, ptr %at
  call void @PyMem_RawFree(ptr %old)
  %k_next = add i64 %k, 1
  %more = icmp slt i64 %k_next, %n
  br i1 %more, label %array, label %end
end:
  ret void
}}
"""

# Frees the memory of a record where it is much.
TRIM = f"""
define internal void @trim(ptr %record, i64 %n) nounwind {{
entry:
  %at_bytes = getelementptr i64, ptr %record, i64 {RECORD_BYTES}
  %bytes = load i64, ptr %at_bytes
  %much = icmp sgt i64 %bytes, {RECORD_KEPT}
  br i1 %much, label %free, label %end
free:
  call void @drop(ptr %record, i64 %n)
  br label %end
end:
  ret void
}}
"""


def with_growth(parts: ModuleParts) -> None:
    """Let the module have the function `grow`."""
    parts.functions |= {"drop": DROP, "grow": GROW}
    parts.declares |= {
        "declare ptr @PyMem_RawRealloc(ptr, i64)",
        "declare void @PyMem_RawFree(ptr)",
        "declare i64 @llvm.smax.i64(i64, i64)",
        "declare i64 @llvm.smin.i64(i64, i64)",
        "declare {i64, i1} @llvm.smul.with.overflow.i64(i64, i64)",
    }


def with_trim(parts: ModuleParts) -> None:
    """Let the module have the function `trim`."""
    parts.functions |= {"drop": DROP, "trim": TRIM}
    parts.declares.add("declare void @PyMem_RawFree(ptr)")


def record_word(record: str, index: int) -> str:
    """The address of a word of a record, as an instruction."""
    return f"getelementptr i64, ptr {record}, i64 {index}"


def mentions(size: Size, record: int) -> bool:
    """Does a size depend on the count of a record?"""
    if isinstance(size, int):
        return False
    kind, a, b = size
    if kind == "found":
        return bool(a == record)
    return kind in OPERATORS and any(mentions(x, record) for x in (a, b))


def is_found(size: Size) -> bool:
    """Does a size depend on what the run finds out?"""
    if isinstance(size, int):
        return False
    kind, a, b = size
    return kind == "found" or (kind in OPERATORS and (is_found(a) or is_found(b)))


def numbered(size: Size, number: Callable[[Any], int]) -> Size:
    """A size with the numbers of records in the place of symbols."""
    if not is_found(size) or isinstance(size, int):
        return size
    kind, a, b = size
    if kind == "found":
        return kind, a if isinstance(a, int) else number(a), 0
    return kind, numbered(a, number), numbered(b, number)


class SizesEmitter:
    """Writes the function that computes the sizes that depend on the count of a record, and puts
    them into their words of the table."""

    def __init__(self, writer: ModuleWriter, record: int) -> None:
        self.writer = writer
        self.record = record
        self.lines: list[str] = []
        self.count = 0

    def emit(self) -> str:
        """The text of the function."""
        w = self.writer
        for size in [s for s in w.sizes if mentions(s, self.record)]:
            self.store(self.value(size), w.number(size))
        for sizes, first in w.runs.items():
            for k, size in enumerate(sizes):
                if mentions(size, self.record):
                    self.store(self.value(size), w.word("run", first + k))
        head = f"define internal void @sizes_{self.record}(ptr %table) nounwind {{"
        return "\n".join([head, *self.lines, "  ret void", "}"])

    def store(self, value: str, at: str) -> None:
        pointer = self.assign(f"getelementptr i64, ptr %table, i64 {at}")
        self.lines.append(f"  store i64 {value}, ptr {pointer}")

    def load(self, at: str) -> str:
        pointer = self.assign(f"getelementptr i64, ptr %table, i64 {at}")
        return self.assign(f"load i64, ptr {pointer}")

    def assign(self, instruction: str) -> str:
        self.count += 1
        self.lines.append(f"  %v{self.count} = {instruction}")
        return f"%v{self.count}"

    def value(self, size: Size) -> str:
        """A size, of which the table has the parts that do not depend on what is found out."""
        if isinstance(size, int):
            return str(size)
        if not is_found(size):
            return self.load(self.writer.number(size))
        kind, a, b = size
        if kind == "found":
            record = self.writer.word("record", a)
            at = self.assign(f"getelementptr i64, ptr %table, i64 {record}")
            return self.assign(f"load i64, ptr {self.assign(record_word(at, COUNT))}")
        x, y = self.value(a), self.value(b)
        if kind in ("+", "*"):
            return self.assign(f"{'add' if kind == '+' else 'mul'} i64 {x}, {y}")
        if kind == "max":
            more = self.assign(f"icmp sgt i64 {x}, {y}")
            return self.assign(f"select i1 {more}, i64 {x}, i64 {y}")
        if kind == "up":
            less = self.assign(f"sub i64 0, {x}")
            parts = self.assign(f"sub i64 0, {self.floor(less, y)}")
            return self.assign(f"mul i64 {parts}, {y}")
        return self.floor(x, y)

    def floor(self, x: str, y: str) -> str:
        """The floor of x / y; of x where y is 0, which is so before all counts are known."""
        none = self.assign(f"icmp eq i64 {y}, 0")
        by = self.assign(f"select i1 {none}, i64 1, i64 {y}")
        quotient = self.assign(f"sdiv i64 {x}, {by}")
        product = self.assign(f"mul i64 {quotient}, {by}")
        inexact = self.assign(f"icmp ne i64 {product}, {x}")
        sign = self.assign(f"xor i64 {x}, {by}")
        negative = self.assign(f"icmp slt i64 {sign}, 0")
        down = self.assign(f"and i1 {inexact}, {negative}")
        return self.assign(f"sub i64 {quotient}, {self.assign(f'zext i1 {down} to i64')}")
