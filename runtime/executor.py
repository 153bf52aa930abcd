"""Runs Programs: tables, frames, outputs, and the interleaving of native and host steps."""

from __future__ import annotations

import ctypes
import struct
import time
import weakref
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from graphgrad.runtime import blas, engine, memory, pool, threads
from graphgrad.runtime.buffers import legal_donations
from graphgrad.runtime.cache import DiskCache, cache_key, default_cache
from graphgrad.runtime.frames import Frame, Plan
from graphgrad.runtime.memory import Array, address, empty_aligned, held_once
from graphgrad.runtime.program import (
    INTERRUPTED,
    PYTHON,
    RAISED,
    RECORD_KEPT,
    STATUS_A,
    STATUS_B,
    STATUS_FAILURE,
    STATUS_INDEX,
    Failure,
    Host,
    Native,
    Program,
    Size,
    Target,
)
from graphgrad.runtime.python_calls import Flight, PythonCalls
from graphgrad.runtime.repeat import Entry, Repeat

_FRAMES = 16  # kept per executable: as many calls as are likely to be in flight at once
_NATIVE_ARENA = 1 << 20  # bytes
_PLANS = 256  # kept per executable: one for each tuple of input shapes
_UNKNOWN = Failure("InternalError", "a kernel failed without a known cause", "")
_empty = np.empty  # a global is found sooner than an attribute
_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32)  # no argument types: ready-made pointers pass unchecked


_executables: weakref.WeakSet[Executable] = weakref.WeakSet()


def release_memory() -> int:
    """Free the arenas that no call is using, and blocks of outputs that nobody holds; the bytes."""
    freed = sum(e.release() for e in list(_executables)) + memory.outputs.clear()
    memory.trim()
    return freed


class KernelFailure(Exception):
    """A kernel refused its input. No output was committed."""

    def __init__(self, failure: Failure, index: int, a: int, b: int) -> None:
        super().__init__(failure, index, a, b)
        self.failure = failure
        self.index = index
        self.a = a
        self.b = b

    def __str__(self) -> str:
        text = self.failure.message.format(index=self.index, a=self.a, b=self.b)
        return f"{self.failure.error}: {text} ({self.failure.where})"


class ObjectMissing(LookupError):
    """A Program came without its module, and the cache has no object for it."""


class NativeParts(NamedTuple):
    """What native code needs to run a Program by itself, one call at a time.

    The frame's table takes the addresses of inputs, then of outputs, in its first words; `entries`
    are the functions to call in turn, and output k may take the memory of input `donations[k]`.
    """

    plan: Plan
    frame: Frame
    entries: list[int]
    donations: dict[int, int]


class Executable:
    """A Program that is loaded and can be called, from many threads at once.

    `compile_seconds` says how long `prepare` took and `cache_hit` whether an object was found.
    """

    def __init__(self, program: Program, library: engine.Library | None) -> None:
        self.program = program
        self.library = library
        _executables.add(self)
        self.compile_seconds = 0.0
        self.cache_hit = False
        self.object_bytes = 0
        slots = program.slots
        self._constants = _frozen_constants(program)
        self._entries = _load_entries(program, library)
        self._calls = PythonCalls(program) if program.python_calls else None
        self._words = self._static_words()
        self._dims = _sized_inputs(program)
        if program.shared:
            threads.watch(self)
        else:
            self.replan()
        self._frames: list[Frame] = []
        self._output_slots = [i for i, s in enumerate(slots) if s.kind == "output"]
        self._arena_word = program.arena_word
        # Inputs first and outputs next is how Programs come: then one store fills the table.
        called = [*program.inputs, *self._output_slots]
        self._in_order = called == list(range(len(called)))
        self._called = called
        self._store = struct.Struct(f"{len(called)}q").pack_into
        self._direct = list(program.outputs) == self._output_slots
        self._donations = legal_donations(program, self._output_slots)
        native = all(isinstance(step, Native) for step in program.steps) and all(
            c.only_raises for c in program.python_calls
        )
        self._native = [e for e in self._entries if e is not None] if native else None

    def run(self, arrays: Sequence[Array], donate: Sequence[bool] = ()) -> list[Array]:
        """Call the program with `arrays`; the outputs, in program order.

        The arrays are C-contiguous, of the slots' dtypes and ranks, and have their static sizes.
        An output that the program takes from an input slot is that array itself; one from a
        constant slot is read-only. See `launch` for `donate`.
        """
        return self.launch(arrays, [*map(address, arrays)], donate)[0]

    def launch(
        self, arrays: Sequence[Array], addresses: Sequence[int], donate: Sequence[bool] = ()
    ) -> tuple[list[Array], list[int]]:
        """`run` for callers who know the arrays' addresses and want those of the outputs.

        Donation: `donate[j]` offers the memory of `arrays[j]` to an output. It is taken if the
        program has such a pair and cannot fail, and if the reference in `arrays` is the only one:
        no variable, Tensor or view refers to the array (its owner moves it into `arrays`, and
        takes the output in its place). The output is then the very same array object. Otherwise
        it gets fresh memory.
        """
        plan = self._static or self._plan(arrays)
        frames = self._frames
        try:
            frame = frames.pop()
        except IndexError:
            frame = Frame(self.program)
        try:
            if frame.plan is not plan:
                frame.fit(plan, self._arena_word)
            if plan.large or donate:
                made = self._make_outputs(plan, arrays, donate)
            else:
                made = [*map(_empty, plan.shapes, plan.dtypes)]
            made_at = [*map(address, made)]
            if self._in_order:
                self._store(frame.table, 0, *addresses, *made_at)
            else:
                table = frame.table
                for slot, value in zip(self._called, chain(addresses, made_at)):
                    table[slot] = value
            if self._native is None:
                values = self._run_steps(frame, plan, arrays, made)
                values.update(self._grown(frame, arrays))
                results = [self._result(values, slot) for slot in self.program.outputs]
                return results, [*map(address, results)]
            for entry in self._native:
                if entry(frame.status_ref, frame.table_ref):
                    if frame.status[STATUS_FAILURE] == RAISED:  # once more, with Python
                        self._run_steps(frame, plan, arrays, made)
                    raise self._failure(frame)
            if self._direct:
                return made, made_at
            values = self._values(arrays, made)
            values.update(self._grown(frame, arrays))
        finally:
            if len(frames) < _FRAMES:
                frames.append(frame)
        results = [values[slot] for slot in self.program.outputs]
        return results, [*map(address, results)]

    def native_parts(self, arrays: Sequence[Array]) -> NativeParts | None:
        """What running it natively takes, for inputs of the shapes of `arrays`.

        None if Python has to take part: in host steps, for outputs that are no fresh arrays, or for
        large ones, which the pool keeps. None as well if the temporaries are large: then a call
        takes so long that it does not matter who makes it.
        """
        if self._native is None or not self._in_order or not self._direct:
            return None
        plan = self._static or self._plan(arrays)
        if plan.large or plan.arena_bytes > _NATIVE_ARENA:
            return None
        self.release()  # the frame of an earlier run; this one takes its place
        frame = Frame(self.program)
        frame.fit(plan, self._arena_word)
        entries = [ctypes.cast(e, ctypes.c_void_p).value or 0 for e in self._native]  # type: ignore[arg-type]
        return NativeParts(plan, frame, entries, self._donations)

    def steps(self, arrays: Sequence[Array]) -> Iterator[Repeat | None]:
        """Run the steps one by one: what repeats the step that has just run, None for a host step.

        A repetition reads and writes the same memory, so it changes nothing; nothing is donated.
        A step that calls Python is not repeated either.
        """
        plan = self._static or self._plan(arrays)
        frame = Frame(self.program)
        frame.fit(plan, self._arena_word)
        made = self._make_outputs(plan, arrays, ())
        for slot, value in zip(self._called, chain(arrays, made)):
            frame.table[slot] = address(value)
        values = self._values(arrays, made)
        for step, entry in zip(self.program.steps, self._entries):
            self._run_step(step, entry, frame, plan, values)
            if entry is None or (isinstance(step, Native) and step.calls_python):
                yield None
            else:
                keep = self, frame, values  # the code as well
                yield Repeat(entry, frame.status_ref, frame.table_ref, keep)

    def replan(self) -> None:
        """Forget all plans: they are made anew, for the number of threads that is set now."""
        self._plans: dict[Any, Plan] = {}
        self._static = None if self._dims else Plan(self.program, self._words, ())

    def is_current(self, plan: Plan) -> bool:
        """Would calls use `plan` now?"""
        return plan is self._static or plan in self._plans.values()

    def release(self) -> int:
        """Free the arenas that no call is using; calls to come allocate new ones. Their bytes."""
        freed = 0
        while self._frames:
            frame = self._frames.pop()
            freed += frame.arena.nbytes + frame.free()
        return freed

    def _make_outputs(
        self, plan: Plan, arrays: Sequence[Array], donate: Sequence[bool]
    ) -> list[Array]:
        """An array for each output slot: donated, recycled or fresh."""
        made = []
        for k, (shape, dtype, size) in enumerate(plan.outputs):
            j = self._donations.get(k, -1)
            given = 0 <= j < len(donate) and donate[j] and held_once(arrays, j)
            if given and arrays[j].shape == shape and arrays[j].dtype == dtype:
                made.append(arrays[j])
            else:
                made.append(memory.outputs.empty(shape, dtype, size))
        return made

    def _grown(self, frame: Frame, arrays: Sequence[Array]) -> dict[int, Array]:
        """The outputs that records hold, by slot."""
        slots, shapes = self.program.slots, [a.shape for a in arrays]
        found = {g.slot: frame.grown(g, slots[g.slot], shapes) for g in self.program.grown}
        if found:
            frame.free(RECORD_KEPT)
        return found

    def _run_steps(
        self, frame: Frame, plan: Plan, arrays: Sequence[Array], made: Sequence[Array]
    ) -> dict[int, Array]:
        """Run native and host steps in turn; the arrays of all slots."""
        values = self._values(arrays, made)
        for step, entry in zip(self.program.steps, self._entries):
            self._run_step(step, entry, frame, plan, values)
        return values

    def _run_step(
        self, step: Native | Host, entry: Entry | None, frame: Frame, plan: Plan,
        values: dict[int, Array],
    ) -> None:  # fmt: skip
        if isinstance(step, Host):
            self._run_host(step, frame, plan, values)
        elif entry is not None:
            if self._calls is None:
                if entry(frame.status_ref, frame.table_ref):
                    raise self._failure(frame)
                return
            with self._calls.flight(frame, plan, values) as flight:
                failed = entry(frame.status_ref, frame.table_ref)
            if failed:
                raise self._failure(frame, flight)

    def _run_host(self, step: Host, frame: Frame, plan: Plan, values: dict[int, Array]) -> None:
        """Call a host function and put its results into their slots."""
        function = self.program.callables[step.function]
        inputs = [values[i] if i >= 0 else frame.temp(-1 - i) for i in step.inputs]
        found = function(*inputs)
        results = found if isinstance(found, (tuple, list)) else (found,)
        if len(results) != len(step.outputs):
            raise ValueError(f"{function}: {len(results)} results for {len(step.outputs)} slots")
        for slot, result in zip(step.outputs, results):
            dtype = np.dtype(self.program.slots[slot].dtype)
            array = np.asarray(result, dtype=dtype, order="C")
            shape = plan.hosts[slot] if slot in plan.hosts else values[slot].shape
            if not _fits(array.shape, shape):  # kernels would read past its end
                raise ValueError(f"{function}: a result has shape {array.shape}, not {shape}")
            if slot not in plan.hosts:  # an output slot: its memory is there already
                values[slot][...] = array
                continue
            if any(np.may_share_memory(array, x) for x in inputs):
                array = array.copy()  # later steps may write over the memory of its inputs
            values[slot] = array
            frame.table[slot] = address(array)

    def _result(self, values: dict[int, Array], slot: int) -> Array:
        """The array of output `slot`; a copy of what a host function keeps, or gave twice."""
        if self.program.slots[slot].kind == "host" and not held_once(values, slot):
            return values[slot].copy()
        return values[slot]

    def _values(self, arrays: Sequence[Array], made: Sequence[Array]) -> dict[int, Array]:
        """The arrays of input, output and constant slots."""
        values = dict(zip(self.program.inputs, arrays))
        values.update(zip(self._output_slots, made))
        values.update((slot, a.view()) for slot, a in self._constants.items())
        return values

    def _failure(self, frame: Frame, flight: Flight | None = None) -> BaseException:
        """What is raised for a run that failed: what a Python function raised that it called, or
        what a kernel noted."""
        status, failures = frame.status, self.program.failures
        number = status[STATUS_FAILURE]
        if number == RAISED and flight is not None:
            # Python raises by itself only if the user interrupts it.
            return flight.error or KeyboardInterrupt()
        if number == INTERRUPTED:
            status[STATUS_FAILURE] = 0
            return KeyboardInterrupt()
        failure = failures[number] if 0 <= number < len(failures) else _UNKNOWN
        return KernelFailure(failure, status[STATUS_INDEX], status[STATUS_A], status[STATUS_B])

    def _plan(self, arrays: Sequence[Array]) -> Plan:
        """The plan for the shapes of `arrays`, made at their first call."""
        key = tuple([arrays[i].shape for i in self._dims])
        plans = self._plans  # what `replan` puts in its place gets no plan that began before
        plan = plans.get(key)
        if plan is None:
            plan = Plan(self.program, self._words, [a.shape for a in arrays])
            if len(plans) >= _PLANS:
                plans.clear()
            plans[key] = plan
        return plan

    def _static_words(self) -> list[int]:
        """The table with what no call changes: constants and routine addresses."""
        program = self.program
        words = [0] * program.table_words
        for slot, array in self._constants.items():
            words[slot] = address(array)
        first = program.arena_word + 1 + len(program.sizes)
        for k, name in enumerate(program.routines):
            if name == PYTHON:
                assert self._calls is not None
                words[first + k] = self._calls.address
            elif name not in pool.ROUTINES:  # plans look those up, where there is much work
                words[first + k] = blas.routine_address(name)
        return words


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Is it the shape that is wanted, in which -1 is any size?"""
    return shape == wanted or (
        len(shape) == len(wanted) and all(m in (n, -1) for n, m in zip(shape, wanted))
    )


def _frozen_constants(program: Program) -> dict[int, Array]:
    """Aligned, read-only copies of the constants, by slot."""
    constants = {}
    slots = [i for i, slot in enumerate(program.slots) if slot.kind == "constant"]
    for slot, value in zip(slots, program.constants, strict=True):
        source = np.asarray(value, np.dtype(program.slots[slot].dtype))
        copy: Array = np.ndarray(source.shape, source.dtype, empty_aligned(source.nbytes))
        copy[...] = source
        copy.flags.writeable = False
        assert isinstance(copy.base, np.ndarray)
        copy.base.flags.writeable = False  # so that no view can be made writeable again
        constants[slot] = copy
    return constants


def _load_entries(program: Program, library: engine.Library | None) -> list[Entry | None]:
    """A callable for each native step, None for each host step."""
    entries: list[Entry | None] = []
    for step in program.steps:
        if isinstance(step, Native):
            assert library is not None
            entries.append(_ENTRY(library.address(step.entry)))
        else:
            entries.append(None)
    return entries


def _sized_inputs(program: Program) -> tuple[int, ...]:
    """The inputs whose shapes the program's sizes depend on."""
    found: set[int] = set()

    def visit(size: Size) -> None:
        if not isinstance(size, int):
            if size[0] == "dim":
                found.add(size[1])
            else:
                visit(size[1])
                visit(size[2])

    shapes = [s.shape for s in program.slots if s.kind != "input"]
    temps = [(*t.shape, t.offset) for t in program.temps]
    calls = [(*c.sizes, *chain(*(t.shape for t in (*c.inputs, *c.outputs))))
             for c in program.python_calls]  # fmt: skip
    sizes = program.sizes, (program.arena_bytes,)
    for size in chain(*shapes, *temps, *calls, *program.shared, *sizes):
        visit(size)
    return tuple(sorted(found))


def prepare(
    program: Program,
    target: Target | None = None,
    cache: DiskCache | None = None,
    level: int = engine.DEFAULT_LEVEL,
    key: str | None = None,
) -> Executable:
    """Load `program`: its object from the cache, else compile its module and store the object.

    `key` replaces the object's name in the cache, which else follows from the module's text;
    with it a Program may come without a module, and ObjectMissing tells that it needs one.
    """
    begin = time.perf_counter()
    target = target or engine.host_target()
    cache = cache or default_cache()
    needs_blas = not {*pool.ROUTINES, PYTHON}.issuperset(program.routines)
    if needs_blas and target.blas != blas.blas_kind():
        raise ValueError(f"the program calls an {target.blas} BLAS, here it is {blas.blas_kind()}")
    if needs_blas and target.lapack and not blas.has_lapack():
        raise ValueError(f"the program may call LAPACK, which {blas.blas_name()} is without")
    library, hit, code = None, False, b""
    if any(isinstance(step, Native) for step in program.steps):
        key = key or object_key(program, target, level)
        code = cache.get(key) or b""
        library = _loaded(code, program)
        hit = library is not None
        if library is None:
            if not program.module:
                raise ObjectMissing(f"no object for program {program.fingerprint} in the cache")
            library, code = engine.compile_module(program.module, target, level)
            cache.put(key, code)
    executable = Executable(program, library)
    executable.cache_hit = hit
    executable.object_bytes = len(code)
    executable.compile_seconds = time.perf_counter() - begin
    return executable


def _loaded(code: bytes, program: Program) -> engine.Library | None:
    """The cached object, or None if there is none or it does not fit this process."""
    if not code:
        return None
    try:
        library = engine.load_object(code)
        _load_entries(program, library)
    except (RuntimeError, KeyError):  # no object file, or it needs a symbol that is not here
        return None
    return library


def object_key(program: Program, target: Target, level: int = engine.DEFAULT_LEVEL) -> str:
    """The name in the cache of what `program.module` compiles to."""
    how = target.triple, target.cpu, target.features, str(level), engine.chosen_engine()
    return cache_key("object", program.module, *how)
