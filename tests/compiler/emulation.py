"""Runs ARM code on other processors: QEMU's user mode and GNU's assembler and linker for ARM.

On Debian and Ubuntu they are the packages qemu-user and binutils-aarch64-linux-gnu.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from graphgrad.runtime import blas
from graphgrad.runtime.program import STATUS_WORDS, Native, Program, evaluate
from tests.compiler.compiling import Array

TOOLS = ("qemu-aarch64", "aarch64-linux-gnu-as", "aarch64-linux-gnu-ld")
BASE, SPACE = 0x10000000, 0x4000000

# Maps SPACE bytes at BASE, fills them from its input (first the status record, then the table, then
# what it points to), calls the program and writes the memory out again. Its exit status is the
# program's. The calls of the system are mmap, read, write and exit.
RUNNER = f"""
    .globl _start
_start:
    ldr x0, ={BASE}
    ldr x1, ={SPACE}
    mov x2, #3
    mov x3, #0x32
    mov x4, #-1
    mov x5, #0
    mov x8, #222
    svc #0
    mov x20, x0
    mov x19, x0
fill:
    mov x0, #0
    mov x1, x19
    ldr x2, ={BASE + SPACE}
    sub x2, x2, x19
    mov x8, #63
    svc #0
    add x19, x19, x0
    cbnz x0, fill
    sub x21, x19, x20
    mov x0, x20
    add x1, x20, #{8 * STATUS_WORDS}
    bl run_0
    mov x22, x0
show:
    mov x0, #1
    mov x1, x20
    mov x2, x21
    mov x8, #64
    svc #0
    add x20, x20, x0
    subs x21, x21, x0
    b.gt show
    mov x0, x22
    mov x8, #93
    svc #0
"""


class EmulationMissing(Exception):
    """A tool is not there, or the code needs a library."""


def run_on_arm(program: Program, code: bytes, arrays: list[Array]) -> list[Array]:
    """The outputs of a program of native code alone, whose sizes are known and whose object for
    ARM's 64 bits under Linux is `code`."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        raise EmulationMissing(f"needs {', '.join(missing)}")
    assert [type(step) for step in program.steps] == [Native]
    assert set(program.routines).isdisjoint(blas.ROUTINES)
    memory, outputs = laid_out(program, arrays)
    with tempfile.TemporaryDirectory() as folder:
        object_file, runner, linked = (str(Path(folder, n)) for n in ("p.o", "r.o", "run"))
        Path(object_file).write_bytes(code)
        run([TOOLS[1], "-o", runner, "-"], RUNNER.encode())
        # A function of the C library is an address that traps: rare paths alone would call it.
        ignore = "--unresolved-symbols=ignore-all"
        run([TOOLS[2], "-static", ignore, "-o", linked, runner, object_file], b"")
        memory = run([TOOLS[0], linked], memory)
    return [
        np.frombuffer(memory, dtype, int(np.prod(shape, dtype=int)), offset).reshape(shape)
        for dtype, shape, offset in outputs
    ]


def run(command: list[str], given: bytes) -> bytes:
    done = subprocess.run(command, input=given, check=True, capture_output=True, timeout=60)
    return done.stdout


def laid_out(program: Program, arrays: list[Array]) -> tuple[bytes, list[tuple[str, object, int]]]:
    """The memory that the runner reads, and where in it the outputs will be."""
    memory = bytearray(8 * (STATUS_WORDS + program.table_words))
    words: list[int] = []
    places: dict[int, int] = {}

    def place(content: bytes) -> int:
        memory.extend(b"\xaa" * (-len(memory) % 64))
        memory.extend(content)
        return len(memory) - len(content)

    given = dict(zip(program.inputs, arrays, strict=True))
    constants = iter(program.constants)
    for i, slot in enumerate(program.slots):
        if slot.kind == "output":
            count = int(np.prod(slot.shape, dtype=int))
            places[i] = place(b"\xaa" * (count * np.dtype(slot.dtype).itemsize))
        else:
            source = given[i] if slot.kind == "input" else next(constants)
            places[i] = place(np.ascontiguousarray(source).tobytes())
        words.append(BASE + places[i])
    shapes = [a.shape for a in arrays]
    words.append(BASE + place(b"\xaa" * evaluate(program.arena_bytes, shapes)))
    words += [evaluate(n, shapes) for n in program.sizes]
    words += [0] * len(program.routines)  # those that share work: one thread does not call them
    assert len(words) == program.table_words
    start = 8 * STATUS_WORDS
    memory[start : start + 8 * len(words)] = np.array(words, np.int64).tobytes()
    slots = program.slots
    return bytes(memory), [(slots[i].dtype, slots[i].shape, places[i]) for i in program.outputs]
