"""What became of a loop, for people: how it runs, what it keeps for its derivative, what that
computes again, and why. `loop_reader.py` finds it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from graphgrad.compiler.hosted import Refusal
from graphgrad.compiler.source import Where
from graphgrad.compiler.types import TensorType
from graphgrad.compiler.work import bytes_text, count_text

# How a loop runs.
SCALAR = "native: one function of scalar code"
REGION = "native: its kernels one after the other"
INSIDE = "native: in the function of the loop around it"
HOSTED = "led by the host: one compiled program a step"


@dataclass(frozen=True, slots=True)
class State:
    """One part of what steps carry, and where it is."""

    type: TensorType
    memory: str


@dataclass(frozen=True, slots=True)
class Stacked:
    """A value of which a loop keeps one entry a step."""

    what: str
    where: Where | None
    type: TensorType
    nbytes: int | None  # a step; None where sizes are unknown
    why: str  # for what it is saved; "" for a result that the program asks for

    def __str__(self) -> str:
        return f"{self.what}, {self.type}: {self.why or 'a result'}{at(self.where)}"


@dataclass(frozen=True, slots=True)
class Again:
    """Operations of one line that a derivative computes again, in each step."""

    ops: tuple[tuple[str, int], ...]  # with how often
    where: Where | None
    cost: float  # in instructions as cheap as a sum
    why: str

    def __str__(self) -> str:
        return f"{self.why}: {counted(self.ops)}{at(self.where)}"


@dataclass(frozen=True, slots=True)
class Outside:
    """Operations that passes moved out of a loop."""

    when: str
    ops: tuple[tuple[str, int], ...]
    where: Where | None

    def __str__(self) -> str:
        return f"{counted(self.ops)}{at(self.where)}"


@dataclass(frozen=True, slots=True)
class LoopReport:
    """One loop. `steps` is a number where sizes are known, `trips` what is known before the run."""

    op: str
    where: Where | None
    repeats: bool  # a derivative that makes the steps of the loop once more, from a checkpoint
    how: str
    trips: str
    steps: int | None
    backwards: bool
    state: tuple[State, ...]
    outside: tuple[Outside, ...]
    stacked: tuple[Stacked, ...]
    again: tuple[Again, ...]
    refusals: tuple[Refusal, ...]  # what keeps it from being native
    calls: tuple[Refusal, ...]  # what calls Python in each step
    within: tuple[LoopReport, ...]

    @property
    def native(self) -> bool:
        return self.how is not HOSTED

    @property
    def saved(self) -> tuple[Stacked, ...]:
        """What it stacks for its derivative."""
        return tuple(s for s in self.stacked if s.why)

    @property
    def saved_each(self) -> int | None:
        """Bytes a step that are saved for the derivative."""
        return _sum(s.nbytes for s in self.saved)

    @property
    def saved_bytes(self) -> int | None:
        """Bytes in all, where the number of steps is known before the run."""
        each = self.saved_each
        return 0 if each == 0 else None if each is None or self.steps is None else each * self.steps

    @property
    def stacked_bytes(self) -> int | None:
        """Bytes of all that it stacks, results too."""
        each = _sum(s.nbytes for s in self.stacked)
        return 0 if each == 0 else None if each is None or self.steps is None else each * self.steps

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The paragraph of a report."""
        order = ", the last one first" if self.backwards else ""
        lines = [f"{self.trips}{order}; {self.how}"]
        lines += [f"    not native: {r}" for r in self.refusals]
        lines += [f"    calls Python in each step: {r}" for r in self.calls]
        if self.repeats:
            lines.append("makes the same steps once more, from a state that is known")
        for memory in dict.fromkeys(s.memory for s in self.state):
            found = typed(s.type for s in self.state if s.memory == memory)
            lines.append(f"state {memory}: {found}")
        for when in dict.fromkeys(o.when for o in self.outside):
            lines.append(f"{when}:")
            lines += [f"    {o}" for o in self.outside if o.when == when]
        if self.saved:
            lines.append(f"saved for the derivative: {self.saved_text()}")
            lines += [f"    {times(n)}{s}" for s, n in Counter(self.saved).items()]
        results = [s for s in self.stacked if not s.why]
        if results:
            derived = self.where is not None and self.where.derivative
            what = "stacked for what is computed behind it" if derived else "stacked results"
            lines.append(f"{what}: {typed(s.type for s in results)}")
        if self.again:
            total = sum(a.cost for a in self.again)
            amount = f", {count_text(total)} cheap instructions a step" if total > 1 else ""
            lines.append(f"computed again{amount}:")
            lines += [f"    {a}" for a in self.again]
        for inner in self.within:
            place = inner.where.describe() if inner.where is not None else ""
            first, *rest = inner.lines()
            lines += [f"within: {inner.op}  # {place}", f"    {first}", *(f"    {x}" for x in rest)]
        return lines

    def saved_text(self) -> str:
        """Bytes a step, and in all."""
        each = self.saved_each
        if each is None:
            return "as many bytes as sizes say"
        if self.saved_bytes is None:
            return f"{bytes_text(each)} for each step that it makes"
        return f"{bytes_text(each)} a step, {bytes_text(self.saved_bytes)} in all"


def times(n: int) -> str:
    return f"{n} x " if n > 1 else ""


def typed(types: Iterable[TensorType]) -> str:
    """Types, each with how often."""
    return ", ".join(f"{times(n)}{t}" for t, n in Counter(map(str, types)).items())


def at(where: Where | None) -> str:
    """A user's line behind a text."""
    return f"  # {where.describe()}" if where is not None else ""


def counted(ops: Iterable[tuple[str, int]]) -> str:
    """
    >>> counted([("sin", 1), ("mul", 3)])
    'sin, 3 mul'
    """
    return ", ".join(f"{n} {op}" if n > 1 else op for op, n in ops)


def _sum(parts: Iterable[int | None]) -> int | None:
    found = list(parts)
    return None if None in found else sum(n for n in found if n is not None)


def every_loop(loops: Iterable[LoopReport]) -> Iterator[LoopReport]:
    """The loops, each followed by those within it."""
    for loop in loops:
        yield loop
        yield from every_loop(loop.within)
