"""Loops as functions of a module: what moves from step to step, around calls of the body's region.

A body reads and writes its state, its slices and what it stacks where the words of a *frame* point.
The loop sets them before each step. The state has two memories, its result's and a spare one,
which steps write in turn; what a step stacks is written in its place of the result at once, and so
are state that is stacked as well and state that a step updates where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler.codegen.llvm_growth import (
    COUNT,
    POINTERS,
    ROOM,
    record_word,
    with_growth,
)
from graphgrad.compiler.codegen.llvm_interrupts import interrupted
from graphgrad.compiler.codegen.llvm_program import ModuleWriter, Place
from graphgrad.runtime.program import Size

# A loop asks after as many steps as compute so many elements, at most so many steps.
ASK_ELEMENTS = 1 << 22
ASK_STEPS = 1 << 12


@dataclass(frozen=True, slots=True)
class State:
    """A value that steps carry: where it starts, and where it is to be at the end.

    Steps read it where the word `read` points, and write where `write` does. `spare` is a second
    memory; without one a step updates it in its place. If it is stacked too, `stack` says where: a
    step then writes it there.
    """

    start: Place
    end: Place
    nbytes: Size
    read: int = -1
    write: int = -1
    spare: Place | None = None
    stack: int = -1


@dataclass(frozen=True, slots=True)
class Rows:
    """An array of which each step has a row of `nbytes`; `word` points at it."""

    place: Place
    nbytes: Size
    word: int = -1


@dataclass(frozen=True, slots=True)
class Loop:
    """`trips` calls of the region `body`, the last row first if `backwards`.

    `condition`, if there is one, is a region that says at `flag` whether a further step is made;
    `mask` has a flag for each step, false where it leaves the state as it is and stacks zeros.
    `flags` are to say for each of `trips` whether it was made; the others stack zeros. The rows of
    a `grown` record become as many as there are steps.
    """

    body: str
    words: int  # of the frame
    trips: Size | None
    states: tuple[State, ...]
    slices: tuple[Rows, ...] = ()
    stacks: tuple[Rows, ...] = ()
    begun: tuple[tuple[int, Rows], ...] = ()  # states with the rows in which steps find them
    captures: tuple[tuple[int, Place], ...] = ()  # words for what the caller's frame points to
    fixed: tuple[State, ...] = ()  # state that no step changes
    condition: str = ""
    flag: Place | None = None
    mask: Rows | None = None
    flags: Place | None = None
    backwards: bool = False
    elements: int = 1  # that a step computes, about
    grown: int = -1  # the record of what it stacks for as long as it runs
    no_memory: int = -1  # the failure if there is none for it


class LoopEmitter:
    """Writes one loop as a region, whose frame is that of the caller."""

    def __init__(self, writer: ModuleWriter, loop: Loop) -> None:
        self.writer = writer
        self.loop = loop

    def emit(self) -> str:
        """The name of the region."""
        with self.writer.region("loop") as name:
            self.trip = self.fresh()
            self.allocas: list[str] = []
            self.enter()
            self.steps()
            self.leave()
            self.writer.lines[:0] = self.allocas
        return name

    # -- before the first step

    def enter(self) -> None:
        """What stays, and where each thing that moves starts."""
        loop, w = self.loop, self.writer
        self.line(f"%words = alloca [{max(loop.words, 1)} x ptr], align 64")
        for word, place in loop.captures:
            self.store(word, w.pointer(place))
        self.trips = "" if loop.trips is None else w.size(loop.trips)
        self.starts = [w.pointer(s.start) for s in loop.states]
        self.ends = [w.pointer(s.end) for s in loop.states]
        self.spares = [w.pointer(s.spare) if s.spare else "" for s in loop.states]
        self.bytes = [w.amount(s.nbytes) for s in loop.states]
        self.flags = w.pointer(loop.flags) if loop.flags else ""
        self.firsts = [*map(self.first, loop.states, self.ends, self.spares)]
        self.room = self.fresh() if loop.grown >= 0 else ""
        self.room_first = w.emit(f"load i64, ptr {self.of_record(ROOM)}") if self.room else ""
        rows = [*loop.slices, *loop.stacks, *([loop.mask] if loop.mask else [])]
        self.moves = {r: self.sets_out(r) for r in rows}
        for k, s in enumerate(loop.states):
            if not s.spare and s.stack < 0 and s.start != s.end:
                w.memcpy(self.starts[k], self.ends[k], self.bytes[k])
        for s in (s for s in loop.fixed if s.start != s.end):
            w.copy(s.start, s.end, s.nbytes)
        for k, r in loop.begun:
            w.memcpy(self.starts[k], self.sets_out(r)[0], self.bytes[k])

    def first(self, state: State, end: str, spare: str) -> str:
        """Where the first step writes: so that the last one, if it is known, ends in the result."""
        if not spare or self.loop.condition or self.loop.mask:
            return end
        odd = self.value(f"trunc i64 {self.trips} to i1")
        return self.value(f"select i1 {odd}, ptr {end}, ptr {spare}")

    def sets_out(self, rows: Rows) -> tuple[str, str]:
        """The address of the first step's row, and the bytes to the next one."""
        base, stride = self.writer.pointer(rows.place), self.writer.size(rows.nbytes)
        if not self.loop.backwards:
            return base, stride
        last = self.value(f"sub i64 {self.trips}, 1")
        ahead = self.value(f"mul i64 {last}, {stride}")
        first = self.value(f"getelementptr i8, ptr {base}, i64 {ahead}")
        return first, self.value(f"sub i64 0, {stride}")

    # -- the steps

    def steps(self) -> None:
        """One step after the other, as long as there are any."""
        loop, w = self.loop, self.writer
        self.now = [self.fresh() for _ in loop.states]
        self.then = [self.fresh() for _ in loop.states]
        self.rows = rows = {r: self.fresh() for r in self.moves}
        self.line("br label %head")
        self.label("head")
        at = len(w.lines)
        if self.trips:
            more = self.value(f"icmp slt i64 {self.trip}, {self.trips}")
            self.line(f"br i1 {more}, label %begin, label %done")
        else:
            self.line("br label %begin")
        self.label("begin")
        if w.parts.interrupts and not (isinstance(loop.trips, int) and loop.trips <= self.asking):
            self.listen()
        for s, now in zip(loop.states, self.now, strict=True):
            self.store(s.read, now)
        if loop.condition:
            self.ask()
        if loop.mask:
            flag = self.value(f"load i8, ptr {rows[loop.mask]}")
            on = self.value(f"icmp ne i8 {flag}, 0")
            self.line(f"br i1 {on}, label %step, label %skip")
            self.skip()
        else:
            self.line("br label %step")
        self.label("step")
        if self.room:
            rows = self.with_room(rows)
        for s, then in zip(loop.states, self.then, strict=True):
            self.store(s.write, then)
        for r, pointer in rows.items():
            self.store(r.word, pointer)
        w.call_region(loop.body, "%words")
        moved = []
        for k, s in enumerate(loop.states):
            if s.stack >= 0:
                moved.append((rows[loop.stacks[s.stack]], self.then[k]))
            elif s.spare:
                at_end = self.value(f"icmp eq ptr {self.then[k]}, {self.ends[k]}")
                other = f"select i1 {at_end}, ptr {self.spares[k]}, ptr {self.ends[k]}"
                moved.append((self.then[k], self.value(other)))
            else:
                moved.append((self.then[k], self.then[k]))
        self.line("br label %moved")
        self.label("moved")
        self.line("br label %next")
        self.label("next")
        moved = [
            (self.joined(now, self.now[k]), self.joined(then, self.then[k]))
            for k, (now, then) in enumerate(moved)
        ]
        phis = [(self.trip, "i64", "0", self.value(f"add i64 {self.trip}, 1"))]
        for k, (now, then) in enumerate(moved):
            start = self.starts[k] if loop.states[k].spare or loop.states[k].stack >= 0 else ""
            phis.append((self.now[k], "ptr", start or self.ends[k], now))
            phis.append((self.then[k], "ptr", self.firsts[k], then))
        for r, (first, stride) in self.moves.items():
            step = self.value(f"getelementptr i8, ptr {rows[r]}, i64 {stride}")
            phis.append((self.rows[r], "ptr", first, step))
        if self.room:
            phis.append((self.room, "i64", self.room_first, self.enough))
        self.line("br label %head")
        lines = [
            f"  {name} = phi {type_} [ {first}, %entry ], [ {after}, %next ]"
            for name, type_, first, after in phis
        ]
        w.lines[at:at] = lines

    @property
    def asking(self) -> int:
        """After how many steps the loop asks whether it is interrupted, a power of 2."""
        steps = min(max(ASK_ELEMENTS // self.loop.elements, 1), ASK_STEPS)
        return 1 << (steps.bit_length() - 1)

    def listen(self) -> None:
        """Leave the loop if the user interrupts it."""
        mask = self.asking - 1
        place = self.value(f"and i64 {self.trip}, {mask}")
        due = self.value(f"icmp eq i64 {place}, {mask}")
        self.line(f"br i1 {due}, label %listen, label %on")
        self.label("listen")
        self.writer.leave_if_failed(self.value(interrupted(self.writer.parts)))
        self.line("br label %on")
        self.label("on")

    def ask(self) -> None:
        """Go on where the condition holds."""
        loop, w = self.loop, self.writer
        assert loop.flag is not None
        w.call_region(loop.condition, "%words")
        flag = self.value(f"load i8, ptr {w.pointer(loop.flag)}")
        holds = self.value(f"icmp ne i8 {flag}, 0")
        self.line(f"br i1 {holds}, label %holds, label %done")
        self.label("holds")

    def skip(self) -> None:
        """A step that is not made: it stacks zeros."""
        self.label("skip")
        for r in self.loop.stacks:
            self.fill(self.rows[r], 0, self.writer.size(r.nbytes))  # `sets_out` has read it
        self.line("br label %next")

    def joined(self, made: str, skipped: str) -> str:
        """A value after a step, which may have been skipped."""
        if not self.loop.mask or made == skipped:
            return made
        return self.value(f"phi ptr [ {made}, %moved ], [ {skipped}, %skip ]")

    # -- memory that grows

    def of_record(self, index: int) -> str:
        """The address of a word of the record."""
        return self.writer.emit(record_word(self.writer.records.address(self.loop.grown), index))

    def with_room(self, rows: dict[Rows, str]) -> dict[Rows, str]:
        """The rows of a step, where there is room for them: it may have to be made."""
        loop, w = self.loop, self.writer
        with_growth(w.parts)
        record = w.records.address(loop.grown)
        sizes = [w.size(r.nbytes) for r in loop.stacks]
        n = len(sizes) + 1  # the flags are the last
        some = self.value(f"icmp slt i64 {self.trip}, {self.room}")
        self.line(f"br i1 {some}, label %room, label %full")
        self.label("full")
        bytes_of = self.fresh()
        self.allocas.append(f"  {bytes_of} = alloca [{n} x i64]")
        for k, size in enumerate([*sizes, "1"]):
            at = self.value(f"getelementptr i64, ptr {bytes_of}, i64 {k}")
            self.line(f"store i64 {size}, ptr {at}")
        twice = self.value(f"shl i64 {self.room}, 1")
        what = f"ptr %status, ptr {record}, i64 {twice}, i64 {n}, ptr {bytes_of}"
        w.leave_if_failed(self.value(f"call i32 @grow({what}, i64 {loop.no_memory})"))
        more = self.value(f"load i64, ptr {self.of_record(ROOM)}")
        moved = []
        for k, size in enumerate(sizes):
            base = self.value(f"load ptr, ptr {self.of_record(POINTERS + k)}")
            ahead = self.value(f"mul i64 {self.trip}, {size}")
            moved.append(self.value(f"getelementptr i8, ptr {base}, i64 {ahead}"))
        self.line("br label %moved_rows")
        self.label("moved_rows")
        self.line("br label %room")
        self.label("room")

        def either(type_: str, a: str, b: str) -> str:
            return self.value(f"phi {type_} [ {a}, %step ], [ {b}, %moved_rows ]")

        self.enough = either("i64", self.room, more)
        pairs = zip(loop.stacks, moved, strict=True)
        return rows | {r: either("ptr", rows[r], there) for r, there in pairs}

    # -- after the last step

    def leave(self) -> None:
        """Bring the state to its place."""
        self.label("done")
        if self.room:
            self.line(f"store i64 {self.trip}, ptr {self.of_record(COUNT)}")
            at = self.of_record(POINTERS + len(self.loop.stacks))
            self.fill(self.value(f"load ptr, ptr {at}"), 1, self.trip)
        elif self.flags:
            rest = self.value(f"sub i64 {self.trips}, {self.trip}")
            self.fill(self.flags, 1, self.trip)
            self.fill(self.value(f"getelementptr i8, ptr {self.flags}, i64 {self.trip}"), 0, rest)
            for r in self.loop.stacks:
                count = self.value(f"mul i64 {rest}, {self.writer.size(r.nbytes)}")
                self.fill(self.rows[r], 0, count)
        for k, s in enumerate(self.loop.states):
            if s.spare or s.stack >= 0:
                there = self.value(f"icmp eq ptr {self.now[k]}, {self.ends[k]}")
                self.line(f"br i1 {there}, label %there{k}, label %bring{k}")
                self.label(f"bring{k}")
                self.writer.memcpy(self.now[k], self.ends[k], self.bytes[k])
                self.line(f"br label %there{k}")
                self.label(f"there{k}")

    # -- text

    def fresh(self) -> str:
        return self.writer.fresh()

    def line(self, text: str) -> None:
        self.writer.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        self.writer.lines.append(f"{name}:")

    def value(self, text: str) -> str:
        return self.writer.emit(text)

    def fill(self, pointer: str, byte: int, count: str) -> None:
        """So many bytes of one value."""
        self.writer.parts.declares.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        what = f"ptr {pointer}, i8 {byte}, i64 {count}, i1 false"
        self.line(f"call void @llvm.memset.p0.i64({what})")

    def store(self, word: int, pointer: str) -> None:
        """Let a word of the frame point somewhere."""
        if word >= 0:
            at = self.value(f"getelementptr ptr, ptr %words, i64 {word}")
            self.line(f"store ptr {pointer}, ptr {at}")
