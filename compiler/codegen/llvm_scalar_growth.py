"""Stacks of unknown length in scalar loops: records that a function grows while it runs.

Where a loop stacks for as long as it runs, the pointers and the room of its record are state of the
loop, in registers. A step that finds no room has the record grown, and goes on with what it says
then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from graphgrad.compiler.codegen.llvm_growth import (
    COUNT,
    POINTERS,
    ROOM,
    record_word,
    with_growth,
)
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.codegen.llvm_scalar_values import ScalarValues
from graphgrad.compiler.dtypes import bool_
from graphgrad.compiler.ir import Node
from graphgrad.compiler.types import TensorType, tensor_type

NoMemory = Callable[[Node], int]  # the number of the failure of a loop that gets none


@dataclass(frozen=True)
class Stacks:
    """What a loop stacks for as long as it runs, in the arrays of a record: the types of the rows,
    room for how many there is, and where the arrays are."""

    node: Node
    record: str
    types: tuple[TensorType, ...]
    room: str
    pointers: tuple[str, ...]


class ScalarGrowth(ScalarValues):
    """Records of a function of scalar code, which it gets as arguments."""

    def __init__(self, parts: ModuleParts, no_memory: NoMemory) -> None:
        super().__init__(parts)
        self.no_memory = no_memory
        self.records: list[int] = []  # the number of pointers of each

    def record(self, pointers: int) -> str:
        """A new record."""
        self.records.append(max(pointers, 1))
        return f"%g{len(self.records) - 1}"

    def begin_stacks(self, node: Node, kept: Sequence[int], types: Sequence[TensorType]) -> Stacks:
        """What a loop stacks, with the room and the memory that there are when it begins; `types`
        are those of the rows, but for the flags, which come last."""
        record = self.record(len(kept))
        room = self.field(record, ROOM, "i64")
        pointers = tuple(self.field(record, POINTERS + k, "ptr") for k in range(len(kept)))
        rows = [*types, tensor_type((), bool_)]
        return Stacks(node, record, tuple(rows[k] for k in kept), room, pointers)

    def carried_stacks(self, stacks: Stacks) -> Stacks:
        """The same, as registers that a step begins with."""
        room, *pointers = ("%" + self.text.name("stack") for _ in (None, *stacks.pointers))
        return replace(stacks, room=room, pointers=tuple(pointers))

    def field(self, record: str, index: int, type_: str) -> str:
        """The value of a word of a record, as it is now."""
        return self.text.assign(f"load {type_}, ptr {self.e.emit(record_word(record, index))}")

    def set_count(self, record: str, count: str) -> None:
        self.text.line(f"store i64 {count}, ptr {self.e.emit(record_word(record, COUNT))}")

    def grow(self, node: Node, record: str, rows: str, types: Sequence[TensorType]) -> None:
        """Room for so many rows, whose entries are of these types; leaves the function where there
        is no memory."""
        text = self.text
        with_growth(self.parts)
        sizes = "%" + text.name("sizes")
        self.frame.append(f"  {sizes} = alloca [{max(len(types), 1)} x i64]")
        for k, t in enumerate(types):
            at = text.assign(f"getelementptr i64, ptr {sizes}, i64 {k}")
            text.line(f"store i64 {self.bytes_of(t)}, ptr {at}")
        what = f"ptr %status, ptr {record}, i64 {rows}, i64 {len(types)}, ptr {sizes}"
        status = text.assign(f"call i32 @grow({what}, i64 {self.no_memory(node)})")
        bad, leave, on = text.assign(f"icmp ne i32 {status}, 0"), text.name("none"), text.name("on")
        text.line(f"br i1 {bad}, label %{leave}, label %{on}")
        text.block(leave)
        text.line("ret i32 1")
        self.e.begin(on)

    def with_room(self, stacks: Stacks, trip: str) -> Stacks:
        """The stacks with room for step `trip`."""
        if not stacks.types:
            return stacks
        e, text = self.e, self.text
        full, on = text.name("full"), text.name("room")
        before = e.label
        some = text.assign(f"icmp slt i64 {trip}, {stacks.room}")
        text.line(f"br i1 {some}, label %{on}, label %{full}, !prof {self.likely()}")
        with e.aside():
            e.begin(full)
            twice = text.assign(f"shl i64 {stacks.room}, 1")
            self.grow(stacks.node, stacks.record, twice, stacks.types)
            rows = self.field(stacks.record, ROOM, "i64")
            moved = [
                self.field(stacks.record, POINTERS + k, "ptr") for k in range(len(stacks.types))
            ]
            after = e.label
            text.line(f"br label %{on}")
        e.begin(on)
        pairs = [("i64", stacks.room, rows), *zip(["ptr"] * len(moved), stacks.pointers, moved)]
        room, *pointers = (
            text.assign(f"phi {t} [ {a}, %{before} ], [ {b}, %{after} ]") for t, a, b in pairs
        )
        return replace(stacks, room=room, pointers=tuple(pointers))

    def likely(self) -> str:
        """Metadata of a branch that is nearly always taken."""
        return self.parts.globals.setdefault('!{!"branch_weights", i32 2000, i32 1}', "!2")

    def reserved(self, node: Node, count: str, types: Sequence[TensorType]) -> list[str]:
        """Memory for a loop within that stacks `count` rows, whose entries are of these types."""
        text, record = self.text, self.record(len(types))
        room = self.field(record, ROOM, "i64")
        small, on = text.name("small"), text.name("room")
        some = text.assign(f"icmp sle i64 {count}, {room}")
        text.line(f"br i1 {some}, label %{on}, label %{small}")
        with self.e.aside():
            self.e.begin(small)
            self.grow(node, record, count, types)
            text.line(f"br label %{on}")
        self.e.begin(on)
        self.set_count(record, count)
        return [self.field(record, POINTERS + k, "ptr") for k in range(len(types))]
