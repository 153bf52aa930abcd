"""What a call needs beside its arrays: sizes for the shapes at hand, and a frame of its own."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphgrad.runtime import memory, pool, threads
from graphgrad.runtime.memory import Array, address, empty_aligned
from graphgrad.runtime.program import (
    RECORD_BYTES,
    RECORD_COUNT,
    RECORD_HEAD,
    RECORD_ROOM,
    STATUS_THREADS,
    STATUS_WORDS,
    ArrayType,
    Grown,
    Program,
    Size,
    Slot,
    element_count,
    evaluate,
)

Shape = tuple[int, ...]
Shapes = Sequence[Shape]


class Placed(NamedTuple):
    """An array that lies at some address: `buffer` is the type of its bytes, None where it has
    none."""

    shape: Shape
    dtype: np.dtype[Any]
    nbytes: int
    buffer: Any


class Plan:
    """What a Program's sizes come to for one tuple of input shapes.

    `threads` is the number that is set now, or 1 if there is too little work to share.
    """

    __slots__ = (
        "arena_bytes",
        "dtypes",
        "hosts",
        "large",
        "outputs",
        "python_calls",
        "shapes",
        "template",
        "temps",
        "threads",
    )

    def __init__(self, program: Program, words: Sequence[int], shapes: Shapes) -> None:
        count = threads.count()
        if not any(evaluate(n, shapes) > evaluate(least, shapes) for n, least in program.shared):
            count = 1

        def shape(sizes: tuple[Size, ...]) -> Shape:
            return tuple(evaluate(n, shapes, count) for n in sizes)

        def specification(slot: Slot) -> tuple[Shape, np.dtype[Any], int]:
            found, dtype = shape(slot.shape), np.dtype(slot.dtype)
            return found, dtype, element_count(found) * dtype.itemsize

        def placed(t: ArrayType) -> Placed:
            found, dtype = shape(t.shape), np.dtype(t.dtype)
            nbytes = element_count(found) * dtype.itemsize
            return Placed(found, dtype, nbytes, ctypes.c_char * nbytes if nbytes else None)

        sizes = shape(program.sizes)
        first = program.arena_word + 1
        routines = list(words[first + len(sizes) : program.records_word])
        if count > 1:
            for k, name in enumerate(program.routines):
                if name in pool.ROUTINES:
                    routines[k] = pool.routine_address(name)
        table = [*words[:first], *sizes, *routines]
        self.template = struct.pack(f"{len(table)}q", *table)
        self.arena_bytes = evaluate(program.arena_bytes, shapes, count)
        self.threads = count
        self.outputs = tuple(specification(s) for s in program.slots if s.kind == "output")
        self.large = any(size >= memory.POOL_THRESHOLD for *_, size in self.outputs)
        self.shapes = tuple(s for s, *_ in self.outputs)
        self.dtypes = tuple(d for _, d, _ in self.outputs)
        self.hosts = {i: shape(s.shape) for i, s in enumerate(program.slots) if s.kind == "host"}
        self.python_calls = tuple(
            (
                tuple(map(placed, c.inputs)),
                tuple(map(placed, c.outputs)),
                shape(c.sizes),
                ctypes.c_int64 * (1 + len(c.inputs) + len(c.outputs)),
            )
            for c in program.python_calls
        )
        self.temps = tuple(
            (shape(t.shape), np.dtype(t.dtype), evaluate(t.offset, shapes, count))
            for t in program.temps
        )


_NO_ARENA = empty_aligned(0)
_free = ctypes.pythonapi.PyMem_RawFree  # of what native code gets from PyMem_RawRealloc
_free.restype, _free.argtypes = None, (ctypes.c_void_p,)


class Frame:
    """What one call in flight owns: its table, its status record, its arena, and what its records
    have allocated."""

    __slots__ = ("arena", "plan", "records", "status", "status_ref", "table", "table_ref")

    def __init__(self, program: Program) -> None:
        self.table = (ctypes.c_int64 * program.table_words)()
        self.status = (ctypes.c_int64 * STATUS_WORDS)()
        self.table_ref = ctypes.byref(self.table)
        self.status_ref = ctypes.byref(self.status)
        self.arena = _NO_ARENA
        self.plan: Plan | None = None
        # Where each record is, and where its pointers end.
        starts = [program.record_word(k) for k in range(len(program.records))]
        self.records = [
            (at, at + RECORD_HEAD + n) for at, n in zip(starts, program.records, strict=True)
        ]

    def __del__(self) -> None:
        if self.records:
            self.free()

    def free(self) -> int:
        """Free what the records have allocated; the bytes."""
        freed = 0
        for at, end in self.records:
            freed += self.table[at + RECORD_BYTES]
            for word in range(at + RECORD_HEAD, end):
                _free(self.table[word])
            self.table[at:end] = [0] * (end - at)
        return freed

    def grown(self, output: Grown, slot: Slot, shapes: Shapes) -> Array:
        """A copy of what an array of a record holds."""
        counts = [self.table[at + RECORD_COUNT] for at, _ in self.records]
        shape = tuple(evaluate(n, shapes, found=counts) for n in slot.shape)
        found = np.empty(shape, np.dtype(slot.dtype))
        at, _ = self.records[output.record]
        pointer = self.table[at + RECORD_HEAD + output.array]
        ctypes.memmove(address(found), pointer, found.nbytes)
        return found

    def fit(self, plan: Plan, arena_word: int) -> None:
        """Fill in all that does not change from call to call."""
        if self.arena.nbytes < plan.arena_bytes:
            self.arena = _NO_ARENA  # so that there are never two
            self.arena = empty_aligned(plan.arena_bytes)
        ctypes.memmove(self.table, plan.template, len(plan.template))
        for at, _ in self.records:
            self.table[at + RECORD_ROOM] = 0  # rows may be larger now
        self.table[arena_word] = address(self.arena)
        self.status[STATUS_THREADS] = plan.threads
        self.plan = plan

    def temp(self, index: int) -> Array:
        """Temporary `index` as a read-only array, valid for the length of the call."""
        assert self.plan is not None
        shape, dtype, offset = self.plan.temps[index]
        view: Array = np.ndarray(shape, dtype, buffer=self.arena, offset=offset)
        view.flags.writeable = False
        return view
