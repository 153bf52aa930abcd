"""What run functions do with records: they make them large enough, compute the sizes that depend on
their counts, and free them where they are large."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from graphgrad.compiler.codegen.llvm_growth import (
    ROOM,
    SizesEmitter,
    record_word,
    with_growth,
    with_trim,
)
from graphgrad.runtime.program import Size

if TYPE_CHECKING:
    from graphgrad.compiler.codegen.llvm_program import ModuleWriter


class Records:
    """The records of a module under construction: the number of pointers of each."""

    def __init__(self, writer: ModuleWriter, pointers: list[int]) -> None:
        self.writer = writer
        self.pointers = pointers
        self.counts: set[int] = set()  # the records whose counts are sizes
        # Which record counts a size that the run finds out, for the steps being written.
        self.record_of: Callable[[Any], int] = {}.__getitem__

    @contextmanager
    def of_steps(self, record_of: Callable[[Any], int]) -> Iterator[None]:
        """In here, sizes that the run finds out are counted by the records that this says."""
        before, self.record_of = self.record_of, record_of
        yield
        self.record_of = before

    def add(self, pointers: int) -> int:
        """A new record; its number."""
        self.pointers.append(pointers)
        return len(self.pointers) - 1

    def address(self, number: int) -> str:
        w = self.writer
        return w.once(f"getelementptr i64, ptr %table, i64 {w.word('record', number)}")

    def counted(self, number: int) -> None:
        """The count of a record is known from here on: so are the sizes that depend on it."""
        self.counts.add(number)
        self.writer.lines.append(f"  call void @sizes_{number}(ptr %table)")

    def reserve(self, number: int, nbytes: Size, failure: int) -> None:
        """Make the memory of a record of one array large enough for so many bytes."""
        w = self.writer
        w.cut(ahead=20)
        with_growth(w.parts)
        record, wanted = self.address(number), w.size(nbytes)
        room = w.emit(f"load i64, ptr {w.once(record_word(record, ROOM))}")
        some = w.emit(f"icmp sle i64 {wanted}, {room}")
        grow, on = w.fresh()[1:], w.fresh()[1:]
        w.lines += [f"  br i1 {some}, label %{on}, label %{grow}", f"{grow}:"]
        w.lines.append("  store i64 1, ptr %arguments")
        what = f"ptr %status, ptr {record}, i64 {wanted}, i64 1, ptr %arguments, i64 {failure}"
        w.leave_if_failed(w.emit(f"call i32 @grow({what})"))
        w.lines += [f"  br label %{on}", f"{on}:"]

    def trim(self, keep: Collection[int]) -> None:
        """Free what records have got where it is much, but for those in `keep`."""
        for number, pointers in enumerate(self.pointers):
            if number not in keep:
                with_trim(self.writer.parts)
                what = f"ptr {self.address(number)}, i64 {pointers}"
                self.writer.lines.append(f"  call void @trim({what})")

    def updates(self) -> Iterator[str]:
        """For each record that counts: the function that computes the sizes that depend on it."""
        for number in sorted(self.counts):
            yield SizesEmitter(self.writer, number).emit()
