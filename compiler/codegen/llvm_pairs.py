"""Which sweeps compute two vectors side by side, each operation for both before the next one.

The function of an element is a long chain, each operation waiting for the last one, and a processor
looks only so far ahead for another. Where vectors take one register each (AVX-512) they are given
twice the lanes, which LLVM splits; elsewhere each operation stands for several registers anyway.
"""

from __future__ import annotations

from graphgrad.compiler.codegen import llvm_streams as streams
from graphgrad.compiler.codegen.llvm_scalar import REGISTER_BITS
from graphgrad.compiler.kernels.loops import LoopNest, Phase, cost, most_live

# A cheaper sweep is bound by memory.
PAIRED_COST = 12.0
# Vectors of a row: shorter ones would more often end in vectors that are partly outside.
PAIRED_ROW = 4
# Values of one vector that are alive at once: of 32 registers, functions take most.
PAIRED_LIVE = 12
# The cost for each byte of an element's traffic from which a kernel that may exceed the caches
# computes longer than memory takes: pairs, waiting for two lines at a time, lost up to a fifth.
PAIRED_DENSITY = 8.0


def paired(nest: LoopNest, phase: Phase, width: int) -> bool:
    """Are two vectors of `width` lanes of a sweep computed side by side, given AVX-512?

    Not where it reduces, since it has several accumulators then, nor where it checks its elements,
    the first of which is to be reported.
    """
    last = nest.dims[-1] if nest.inner else 1
    total, traffic = sum(cost(s.fn) for s in phase.stmts), streams.traffic(nest)
    known = streams.known_bytes(traffic)
    small = known is not None and known <= streams.FETCHED_BYTES
    widest = max(a.dtype.bits for a in nest.arrays)
    return (
        widest * width <= REGISTER_BITS
        and not (isinstance(last, int) and last < PAIRED_ROW * width)
        and not any(s.fn in ("reduce", "require") or s.failures for s in phase.stmts)
        and total >= PAIRED_COST
        and (small or total >= PAIRED_DENSITY * sum(term.itemsize for term in traffic))
        and most_live(phase.stmts) <= PAIRED_LIVE
    )
