"""Arrays that may be updated where they lie: their old value is read for the last time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

from graphgrad.compiler.ir import Value

# What a node makes of one of its inputs, if it may be done where that lies: (output, input).
Updates = Iterable[tuple[Value, Value]]


def in_place(
    reads: Sequence[Sequence[Value]], updates: Sequence[Updates], returned: AbstractSet[Value],
    owned: Callable[[Value], bool],
) -> dict[Value, Value]:  # fmt: skip
    """For each output that may take the memory of an input, that memory.

    `reads` are the memories that each step reads, in order (one read twice is there twice), and
    `updates` what each may write over. Memory that is `returned`, or not `owned`, stays as it is.

    >>> a, b, c = (Value(None, None) for _ in range(3))
    >>> in_place([[a], [a, c]], [[], [(b, a)]], {b}, lambda v: True)[b] is a
    True
    >>> in_place([[a], [a]], [[(b, a)], []], {b}, lambda v: True)
    {}
    """
    last = {memory: k for k, step in enumerate(reads) for memory in step}
    found: dict[Value, Value] = {}
    taken: set[Value] = set()
    for k, step in enumerate(updates):
        for out, memory in step:
            kept = memory in returned or memory in taken or out in found
            if not kept and is_last(memory, reads[k], last[memory] == k) and owned(memory):
                found[out] = memory
                taken.add(memory)
    return found


def is_last(memory: Value, reads: Sequence[Value], here: bool) -> bool:
    """Is the memory read `here` for the last time, and only once?"""
    return here and sum(v is memory for v in reads) == 1
