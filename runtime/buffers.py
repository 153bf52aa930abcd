"""What a Program will ask of the allocator, known before it runs.

NumPy allocates all that a native step reads or writes, so these are all the buffers there are, but
for three kinds: what the BLAS library packs matrices into, once a process; what NumPy's functions
allocate inside host steps, whose results are counted in `host` alone; and what loops stack whose
length only the run finds out, which native code allocates (`Frame.records`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphgrad.runtime import memory
from graphgrad.runtime.frames import Plan, Shapes
from graphgrad.runtime.program import Host, Program, Slot, element_count, evaluate


@dataclass(frozen=True, slots=True)
class Buffers:
    """The bytes of a Program's buffers for one tuple of input shapes, alignment included.

    `constants` are allocated when the Program is loaded, `arena` at the first call (and again for
    each call that runs at the same time as others). Outputs are of three kinds: `fresh` ones are
    allocated at each call; large ones lie on blocks that later calls use again once nobody holds
    the result (`recycled`); those that take the memory of an input need none (`donated`).
    """

    constants: int
    arena: int
    fresh: int
    recycled: int
    donated: int
    host: int

    @property
    def first(self) -> int:
        """What loading the Program and its first call allocate."""
        return self.constants + self.arena + self.fresh + self.recycled + self.host

    @property
    def steady(self) -> int:
        """What each later call allocates, when the results of the one before are gone."""
        return self.fresh + self.host

    @property
    def total(self) -> int:
        """All that is there during a call, memory of donated inputs included."""
        return self.first + self.donated


def buffers(program: Program, shapes: Shapes, donate: Sequence[bool] = ()) -> Buffers:
    """The buffers of calls whose inputs have `shapes`; `donate` as it is given to the calls."""

    def nbytes(slot: Slot) -> int:
        sizes = [max(evaluate(n, shapes), 0) for n in slot.shape]  # none where they are unknown
        return element_count(sizes) * np.dtype(slot.dtype).itemsize

    outputs = [slot for slot in program.slots if slot.kind == "output"]
    output_slots = [i for i, slot in enumerate(program.slots) if slot.kind == "output"]
    pairs = legal_donations(program, output_slots)
    arena = Plan(program, [0] * program.table_words, shapes).arena_bytes
    fresh = recycled = donated = 0
    for k, slot in enumerate(outputs):
        size = nbytes(slot)
        given = pairs.get(k, -1)
        if 0 <= given < len(donate) and donate[given]:
            donated += size
        elif memory.outputs.takes(size):
            recycled += memory.outputs.block_bytes(size)
        else:
            fresh += max(size, 1)  # NumPy's own least
    constants = [nbytes(slot) for slot in program.slots if slot.kind == "constant"]
    host = sum(nbytes(slot) for slot in program.slots if slot.kind == "host")
    return Buffers(
        sum(map(memory.aligned_bytes, constants)),
        memory.aligned_bytes(arena) if arena else 0,
        fresh,
        recycled,
        donated,
        host,
    )


def legal_donations(program: Program, output_slots: Sequence[int]) -> dict[int, int]:
    """The input position whose memory output position k may take.

    None if the program can fail, in a kernel or in a host function, for a failed call must leave
    its inputs whole; nor inputs that are outputs as well.
    """
    hosts = any(isinstance(step, Host) for step in program.steps)
    if program.failures or program.python_calls or hosts:
        return {}
    return {
        output_slots.index(out): program.inputs.index(given)
        for out, given in program.donations
        if given not in program.outputs
    }
