"""Hot tapes: a backward walk whose structure comes again and again runs compiled.

A structure (`tape_structure.py`) that has been met often enough has its walk traced
(`compiler/transform/recorded.py`) and compiled. From then on a matcher (`tape_matching.py`) knows
it again, and hands the values of the tape to the program.

How often is enough follows from the structure alone, never from a clock, and each thread counts for
itself: a program gives the same bits in every run. Describing a structure costs a part of a small
walk, so only some walks are described, about `SAMPLES` until there is enough.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from graphgrad import execution
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import Op, ops
from graphgrad.compiler.transform.recorded import Unsupported, reverse_records
from graphgrad.inspection import report_of
from graphgrad.tape_matching import Matcher, matcher
from graphgrad.tape_structure import Groups, Targets, Unknown, describe, stretched
from graphgrad.tensor import EagerTensor

Constant = Callable[[Any], Any]

# Nanoseconds, measured: compiling (the first time imports the compiler), and what a walk takes
# longer than its program, for elements in cache and for those of arrays that are too large. A
# structure is compiled when its walks have lost as much as compiling costs.
COMPILE, COMPILE_RECORD = 25_000_000, 2_000_000
GAIN_RECORD, GAIN_ELEMENT, GAIN_FAR_ELEMENT = 4_000, 0.3, 3.0
FAR = 1 << 20  # bytes
LEAST = 4  # walks of a structure before it is compiled, whatever there is to gain
SAMPLES = 16
LONGEST = 1000  # operations: longer tapes would stop for seconds to be compiled
# What a thread remembers. Where there is too much, the older half is forgotten.
FAMILIES, STRUCTURES, PROGRAMS = 512, 64, 256
VARIANTS = 4  # programs of one structure, for different answers to stability rules


class _Settings:
    enabled = os.environ.get("GRAPHGRAD_HOT_TAPES", "1").lower() not in ("0", "off", "false")


def compile_hot_tapes(compile: bool) -> None:
    """Whether tapes outside of functions run a backward walk that comes again and again compiled.

    They do unless the environment has GRAPHGRAD_HOT_TAPES=0 at the start. A compiled walk differs
    from one operation by operation as a compiled function does from an eager one. When a tape
    changes over depends on the structure of its walks alone; `GradientTape.report` tells.

    >>> import graphgrad as gg
    >>> gg.config.compile_hot_tapes(False)
    >>> gg.config.hot_tapes_are_compiled()
    False
    >>> gg.config.compile_hot_tapes(True)
    """
    _Settings.enabled = bool(compile)


def hot_tapes_are_compiled() -> bool:
    """Whether hot tapes run compiled: see `compile_hot_tapes`."""
    return _Settings.enabled


class Program:
    """The compiled walk of a structure, for one set of answers to stability rules."""

    def __init__(self, match: Matcher, runner: Any, places: Sequence[int | None]) -> None:
        self.match = match
        self.runner = runner
        self.graph: Graph = runner.graph
        self.places = places
        self.donated: tuple[bool, ...] = ()  # a tape keeps its values


class Programs(list[Program]):
    """The programs of one structure; threads share them while one of them knows the structure."""


class Structure:
    """What a thread knows of a structure."""

    __slots__ = ("walks", "enough", "compiled", "programs", "refused")

    def __init__(self, records: Sequence[Any]) -> None:
        self.walks = 0  # estimated from those that were described
        self.enough = enough(records)
        self.compiled = 0  # walks that ran compiled
        self.programs: Programs | None = None
        self.refused = ""

    def report(self, compiled: bool) -> str:
        """How a walk of this structure ran, why not compiled, and what it is compiled to."""
        if compiled:
            first = f"compiled: {self.compiled} walks of this structure ran so"
            return "\n".join([first, *(str(report_of(p)) for p in self.programs or ())])
        why = self.refused or f"about {self.walks} of {self.enough} walks of this structure"
        return f"operation by operation: {why}"


class Walk(NamedTuple):
    """A walk back over records; see `describe` for the parts of one."""

    records: Sequence[Any]
    targets: Targets
    groups: Groups
    others: Sequence[Any]
    constant: Constant  # what stability rules ask about values that no tape watches


class Family:
    """What a thread knows of the tapes with the same operations in the same order."""

    __slots__ = ("stamp", "refused", "stride", "wait", "structures", "hot")

    def __init__(self, refused: str) -> None:
        self.stamp = 0
        self.refused = refused
        self.stride = 1  # one in so many walks is described
        self.wait = 0  # walks until the next one is
        self.structures: dict[Any, Structure] = {}
        self.hot: list[tuple[Structure, Program]] = []  # the one used last comes first

    def passes(self) -> bool:
        """Is this walk one that is not described? Each question counts for a walk."""
        if self.wait:
            self.wait -= 1
            return True
        return False

    def reverse(self, walk: Walk) -> tuple[list[Any] | None, Any]:
        """The gradients of the groups if the walk runs compiled, else None; and what is known of
        it, which reports."""
        hot = self.hot
        for i, (structure, program) in enumerate(hot):
            arrays = program.match(*walk)
            if arrays is not None:
                if i:
                    hot.insert(0, hot.pop(i))
                structure.compiled += 1
                try:
                    found = [EagerTensor(a) for a in program.runner.run(arrays)]
                except GraphgradError:  # the walk finds it again, and says it in its own words
                    return None, structure
                return [None if p is None else found[p] for p in program.places], structure
        if self.refused or (hot and self.passes()):
            return None, self
        return None, self._describe(walk)

    def _describe(self, walk: Walk) -> Structure | Family:
        """Count a walk to its structure, and compile that if it is enough."""
        try:
            key = describe(*walk[:4])
        except Unknown as e:
            self.refused = self.refused or str(e)
            return self
        structure = self.structures.get(key)
        if structure is None:
            if len(self.structures) >= STRUCTURES:
                for old in list(self.structures)[: STRUCTURES // 2]:
                    gone = self.structures.pop(old)
                    self.hot = [pair for pair in self.hot if pair[0] is not gone]
            structure = self.structures[key] = Structure(walk.records)
        structure.walks += self.stride
        self.stride = max(1, structure.enough // SAMPLES)
        self.wait = self.stride - 1
        if structure.walks >= structure.enough and not structure.refused:
            program = _program(structure, key, walk)
            if program is not None:
                _known.make_room(self)
                self.hot.insert(0, (structure, program))
        return structure

    def report(self, compiled: bool) -> str:
        """Why a walk whose structure was not looked at did not run compiled."""
        return f"operation by operation: {self.refused or 'it was not looked at'}"


class MetOnce:
    """Hashes of sequences of operations: what comes once costs little, and holds nothing alive."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def again(self, applied: tuple[Op, ...], limit: int) -> bool:
        """Was this sequence met before? It is from now on; `limit` bounds what is remembered."""
        name = hash(applied)
        if name in self._hashes:
            return True
        if len(self._hashes) >= limit:
            self._hashes.clear()
        self._hashes.add(name)
        return False


class _Known(threading.local):
    """What this thread has met."""

    def __init__(self) -> None:
        self.once = MetOnce()
        self.families: dict[tuple[Any, ...], Family] = {}
        self.time = 0  # counts the families

    def meet(self, applied: tuple[Op, ...]) -> Family | None:
        """Remember a sequence of operations that is met for the second time. What is not in the
        table is not remembered: it might keep the user's functions alive."""
        if not self.once.again(applied, 8 * FAMILIES):
            return None
        refused = "" if len(applied) <= LONGEST else f"it has more than {LONGEST} operations"
        for op in applied:
            if op is not ops.get(op.name):
                return None
            if isinstance(op, Control) or op.effect:
                refused = f"`{op.name}` is among its operations"
        if len(self.families) >= FAMILIES:
            self.forget(list(self.families))
        self.time += 1
        family = self.families[applied] = Family(refused)
        return family

    def make_room(self, family: Family) -> None:
        """Keep the number of programs within bounds; those of `family` stay."""
        families = self.families
        if sum(len(f.hot) for f in families.values()) >= PROGRAMS:
            self.forget([k for k, f in families.items() if f.hot and f is not family])

    def forget(self, keys: list[tuple[Any, ...]]) -> None:
        """Forget the half of these families that was not met for longest."""
        keys.sort(key=lambda k: self.families[k].stamp)
        for key in keys[: (len(keys) + 1) // 2]:
            del self.families[key]


_known = _Known()
_shared: weakref.WeakValueDictionary[Any, Programs] = weakref.WeakValueDictionary()
_compiling = threading.RLock()


def family_of(records: Sequence[Any]) -> Family | None:
    """What is known of tapes with these operations; None where the walk is only to be walked."""
    if not _Settings.enabled:
        return None
    known = _known
    applied = tuple([r.op for r in records])
    family = known.families.get(applied)
    if family is None:
        family = known.meet(applied)
    elif not family.hot and family.passes():
        return None
    else:
        family.stamp = known.time
    return family


def enough(records: Sequence[Any]) -> int:
    """How often a structure is walked until its walks have cost as much more than its program as
    compiling does."""
    gain = 0.0
    for r in records:
        gain += GAIN_RECORD
        for y in r.outputs:
            array = y.array
            gain += array.size * (GAIN_ELEMENT if array.nbytes < FAR else GAIN_FAR_ELEMENT)
    return max(LEAST, round((COMPILE + COMPILE_RECORD * len(records)) / gain))


def _program(structure: Structure, key: Any, walk: Walk) -> Program | None:
    """The program for a walk of a hot structure: another thread's, or compiled now."""
    with _compiling:
        programs = structure.programs
        if programs is None:
            programs = structure.programs = _shared.setdefault(key, Programs())
        for program in programs:
            if program.match(*walk) is not None:
                return program
        if len(programs) >= VARIANTS:
            return None
        try:
            program = _compiled(walk)
        except Unsupported as e:
            structure.refused = str(e)
            return None
        except Exception as e:  # what cannot be compiled can be walked
            structure.refused = f"{type(e).__name__}: {e}"
            return None
        programs.append(program)
        return program


def _compiled(walk: Walk) -> Program:
    records, targets, groups, others, constant = walk
    parts: dict[int, tuple[slice, ...]] = {}

    def extent(value: Any) -> tuple[int, ...]:
        """One element along the axes where it serves all places."""
        array = value.array
        alike = stretched(array)
        if any(alike):
            parts[id(value)] = tuple(slice(0, 1) if a else slice(None) for a in alike)
        return tuple(1 if a else n for a, n in zip(alike, array.shape))

    ends = [x for group in (*groups, others) for x in group]
    traced = reverse_records(records, targets, groups, ends, extent, constant)
    runner = execution.runner(traced.graph)
    runner.prepared()
    match = matcher(records, targets, groups, others, traced.reads, parts, traced.answers)
    return Program(match, runner, traced.places)
