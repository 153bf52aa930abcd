"""The plain data that describes a compiled graph: what the compiler hands to the runtime.

A Program is one LLVM module, a list of steps and a table layout. Native steps are functions of
that module, `i32 step(ptr status, ptr table)`; host steps are Python callables for what has no
native code. The table is an array of 8-byte words that one call in flight owns:

    [slot pointers ...][arena pointer][sizes ...][routine addresses ...][records ...]

Slots are inputs, outputs, constants and host results; temporaries live in the arena, at byte
offsets that are sizes. Everything that depends on a symbolic dimension is a `Size` expression
over the shapes of the inputs, so that one Program serves every batch size.

What only the run can tell the size of lies in memory that native code makes larger as it goes. A
*record* says where: how many rows it has room for, the bytes of these, how many rows there are, and
a pointer for each array that has the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graphgrad.runtime.sizes import THREADS as THREADS
from graphgrad.runtime.sizes import UNKNOWN as UNKNOWN
from graphgrad.runtime.sizes import Size as Size
from graphgrad.runtime.sizes import evaluate as evaluate


@dataclass(frozen=True, slots=True)
class Target:
    """The machine a Program is compiled for, how its BLAS is called, and whether that comes with
    the routines of LAPACK."""

    triple: str
    cpu: str
    features: str
    blas: str = "ilp64"  # integer width of the CBLAS routines: "ilp64" or "lp64"
    lapack: bool = False

    @property
    def machine(self) -> str:
        """The family of processors: x86_64, aarch64, ..."""
        return self.triple.partition("-")[0]


@dataclass(frozen=True, slots=True)
class Slot:
    """One pointer of the table."""

    kind: str  # "input" | "output" | "constant" | "host"
    dtype: str
    shape: tuple[Size, ...]

    @property
    def static(self) -> bool:
        return all(isinstance(n, int) for n in self.shape)


@dataclass(frozen=True, slots=True)
class Native:
    """Run the module's function `entry`; does it, or may it, call Python?"""

    entry: str
    calls_python: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """Call `Program.callables[function]` with the arrays of `inputs`; its results become `outputs`.

    Inputs and outputs are slot indices; a negative input -1-k reads temporary k.
    """

    function: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Temp:
    """A temporary array in the arena: `offset` bytes from its start."""

    dtype: str
    shape: tuple[Size, ...]
    offset: Size


# The first words of a record: room for so many rows, their bytes, and the rows that there are.
RECORD_HEAD = 3
RECORD_ROOM, RECORD_BYTES, RECORD_COUNT = range(RECORD_HEAD)
RECORD_KEPT = 1 << 28  # bytes of a record, beyond which its memory is freed when the run ends


@dataclass(frozen=True, slots=True)
class Grown:
    """An output whose memory a record has: array `array` of `record`, copied when the run ends."""

    slot: int
    record: int
    array: int


@dataclass(frozen=True, slots=True)
class ArrayType:
    """The type of an array somewhere in memory."""

    dtype: str
    shape: tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class PythonCall:
    """What native code calls Python for: `Program.callables[function]`, with arrays of the types
    `inputs` and the numbers `sizes`; its results are copied to arrays of the types `outputs`.

    One that `only_raises` does nothing else, so that a run which comes to it may be made again.
    """

    function: int
    inputs: tuple[ArrayType, ...]
    outputs: tuple[ArrayType, ...]
    sizes: tuple[Size, ...] = ()
    only_raises: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """What a kernel's status means: `error` is a class name of graphgrad.errors, and `message` a
    template over {index}, {a} and {b}, the status words that the kernel filled in."""

    error: str
    message: str
    where: str


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled graph. `fingerprint` names it in caches; `module` is LLVM text ("" when loaded).

    `outputs[k]` is the slot of output k, and `donations` pairs (output slot, input slot) where the
    output may be written over the input's memory if nobody else holds it. `shared` are pairs
    (count, least): there is work for several threads where a count exceeds its least.
    """

    fingerprint: str
    module: str
    slots: tuple[Slot, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    steps: tuple[Native | Host, ...]
    temps: tuple[Temp, ...] = ()
    arena_bytes: Size = 0
    sizes: tuple[Size, ...] = ()
    routines: tuple[str, ...] = ()
    shared: tuple[tuple[Size, Size], ...] = ()
    donations: tuple[tuple[int, int], ...] = ()
    records: tuple[int, ...] = ()  # the number of pointers of each
    grown: tuple[Grown, ...] = ()
    failures: tuple[Failure, ...] = ()
    constants: tuple[Any, ...] = field(default=(), compare=False)  # arrays, by constant slot order
    callables: tuple[Any, ...] = field(default=(), compare=False)
    python_calls: tuple[PythonCall, ...] = ()

    @property
    def arena_word(self) -> int:
        """The table index of the arena pointer; sizes and then routine addresses follow it."""
        return len(self.slots)

    @property
    def records_word(self) -> int:
        """The table index of the first record."""
        return len(self.slots) + 1 + len(self.sizes) + len(self.routines)

    @property
    def table_words(self) -> int:
        return self.records_word + sum(RECORD_HEAD + n for n in self.records)

    def record_word(self, record: int) -> int:
        """The table index of a record."""
        return self.records_word + sum(RECORD_HEAD + n for n in self.records[:record])


def element_count(shape: Sequence[int]) -> int:
    return math.prod(shape)


# The status record: words of 8 bytes. Kernels fill the first four before they return nonzero. Each
# thread at work has a record of its own, with its number (the caller's is 0); the caller's says how
# many threads the call has room for.
STATUS_WORDS = 8
STATUS_FAILURE, STATUS_INDEX, STATUS_A, STATUS_B, STATUS_THREAD, STATUS_THREADS = range(6)
STATUS_CLOCK = 6  # when a loop last asked whether the user interrupts it
STATUS_MODE = 7  # the caller's floating-point mode, where a run has one of its own
INTERRUPTED = -2  # the failure of a loop that the user interrupted
RAISED = -3  # the failure of a Python function that native code called

# Routines that run `i32 kernel(ptr status, i64 lo, i64 hi, ptr args)` over 0..count on all threads,
# in chunks of `grain`: `i32 routine(ptr status, ptr kernel, i64 count, i64 grain, ptr args)`. They
# may be called where the record says that there is more than one thread.
PARALLEL, PRODUCTS = "parallel", "products"  # for kernels; for kernels that call the BLAS

# The routine by which native code calls Python: `void python(ptr table, i64 number, ptr words)`,
# where the words are 0, and the addresses of the inputs and outputs of that PythonCall; it sets the
# first word to 1 when all went well.
PYTHON = "python"
