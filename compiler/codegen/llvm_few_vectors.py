"""Rows of a few vectors: sweeps are written out, and what a fold accumulates stays in registers.

A loop over two vectors spends its time on itself, and often ends with a vector under a mask. A
column reduction that goes to its row in memory and back makes each row wait for the one before.
"""

from __future__ import annotations

from collections.abc import Callable

from graphgrad.compiler.codegen.llvm_loops import Loops
from graphgrad.compiler.codegen.llvm_memory import Emitter, NestMemory
from graphgrad.compiler.codegen.llvm_scalar import REGISTER_BITS, Lanes, VectorEmitter
from graphgrad.compiler.codegen.llvm_vectors import Mask
from graphgrad.compiler.kernels.loops import Access, LoopNest, Phase, Stmt, cost, lane_count

# The vectors of a row that is written out, at most, and the cost of its statements.
MOST_VECTORS = 16
WRITTEN_COST = 96.0
# Bytes that a fold keeps in registers: half of what there are, with AVX-512 and without.
HELD_BYTES = {True: 16 * REGISTER_BITS // 8, False: 8 * 256 // 8}

# Vectors for rows that are shorter have fewer lanes, so many at least.
LEAST_LANES = 4

Body = Callable[[VectorEmitter, str, Mask, list[str]], list[str]]


def lanes_of_row(nest: LoopNest) -> int:
    """The lanes of a vector, no more than twice as many as a row of known length needs."""
    width = lane_count(nest)
    n = nest.dims[-1] if nest.inner else None
    while isinstance(n, int) and 0 < n <= width // 2 and width > LEAST_LANES:
        width //= 2
    return width


class FewVectors(Loops, NestMemory):
    """What a nest emitter does with rows of a few vectors."""

    held: dict[tuple[int, str], Lanes]  # accumulators, by statement and where the vector begins

    def column(self, s: Stmt) -> Access:
        """Where a column reduction accumulates."""
        raise NotImplementedError

    def tail_mask(self, index: str, end: str) -> str:
        """Lanes whose index is below `end`."""
        raise NotImplementedError

    def is_written_out(self, phase: Phase, lo: str, hi: str | None, rows: int = 1) -> bool:
        """Is the sweep over `rows` whole rows without a loop?"""
        n = self.nest.dims[-1] if self.nest.inner == 1 else None
        if not isinstance(n, int) or not 0 < n <= MOST_VECTORS * self.width:
            return False
        if (lo, hi) != ("0", None) or any(s.fn == "require" or s.failures for s in phase.stmts):
            return False
        total = sum(max(1.0, cost(s.fn)) for s in phase.stmts)
        return rows * len(self.begins) * total <= WRITTEN_COST

    @property
    def begins(self) -> range:
        """Where the vectors of a row begin."""
        n = self.nest.dims[-1]
        assert isinstance(n, int)
        return range(0, n, self.width)

    def mask_from(self, begin: int) -> Mask:
        """The mask of the vector that begins there."""
        left = self.begins.stop - begin
        return Mask() if left >= self.width else Mask(self.tail_mask("0", str(left)))

    def vectors(self, count: int, starts: list[tuple[str, str]], body: Body, per: int) -> list[str]:
        """The vectors of a row one after the other, which take turns with `count` times `per`
        accumulators."""
        finals = [start for _, start in starts]
        for k, begin in enumerate(self.begins):
            own = slice(k % count * per, (k % count + 1) * per)
            finals[own] = self.at(str(begin), self.mask_from(begin), finals[own], body)
        return finals

    def at(self, index: str, mask: Mask, accs: list[str], body: Body) -> list[str]:
        """One vector of a sweep."""
        e = Emitter(self, self.width, index, mask)
        if self.nest.dims:
            self.dim_values[-1] = index
        ends = body(e, index, mask, accs)
        self.block = e.label or self.block
        return ends

    def can_hold(self, columns: list[Stmt], lo: str, hi: str | None) -> bool:
        """Do the accumulators of these reductions fit into registers, rows being written out?"""
        sweeps = [p for p in self.nest.main if p.kind == "sweep"]
        if not columns or not all(self.is_written_out(p, lo, hi) for p in sweeps):
            return False
        lanes = self.width * len(self.begins)
        nbytes = sum(lanes * s.dtype.itemsize for s in columns)
        return nbytes <= HELD_BYTES[self.parts.mask_registers]

    def holding(
        self, columns: list[Stmt], begin: str, end: str, row: Callable[[str], None]
    ) -> None:
        """Calls of `row` for begin..end, meanwhile with the rows of `columns` in registers."""
        places = [(s, begin) for s in columns for begin in self.begins]

        def inside(index: str, carried: list[str]) -> list[str]:
            for (s, at), text in zip(places, carried, strict=True):
                self.held[s.id, str(at)] = Lanes(text, s.dtype)
            row(index)
            return [self.held.pop((s.id, str(at))).text for s, at in places]

        starts = []
        for s, at in places:
            e = Emitter(self, self.width, str(at), self.mask_from(at))
            start = self.load(e, self.column(s), s.dtype, str(at), e.mask)
            starts.append((e.type(s.dtype), start.text))
        finals = self.loop(begin, end, 1, starts, inside)
        for (s, at), text in zip(places, finals, strict=True):
            e = Emitter(self, self.width, str(at), self.mask_from(at))
            self.store(e, self.column(s), Lanes(text, s.dtype), str(at), e.mask)
