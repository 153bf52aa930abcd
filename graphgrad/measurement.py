"""`gg.roofline`: each kernel of a call beside what the machine allows, all measured in one run."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from graphgrad.compiler.dtypes import DType, int32
from graphgrad.decorator import function
from graphgrad.execution import translated
from graphgrad.function import Function
from graphgrad.signature import TensorSpec
from graphgrad.tensor import Array

if TYPE_CHECKING:
    from graphgrad.compiler.kernels.loops import LoopNest
    from graphgrad.compiler.report import StepReport
    from graphgrad.compiler.work import Work
    from graphgrad.runtime.executor import Executable
    from graphgrad.runtime.repeat import Repeat

BATCH_SECONDS = 2e-4  # repetitions that are timed together last about so long
SAMPLES = 4  # batches of a step in a round, in turn with those that it is compared with
SQUARE = 768  # the product that stands for what the BLAS library can do
CACHED = 1 << 23  # more bytes than this may or may not stay in a cache, as reads and writes differ
COPY_LIMIT = 1 << 29  # a copy moves at most so many bytes: far more than caches hold


@dataclass(frozen=True, slots=True)
class StepRoof:
    """One step of a call: what it took, and the least that it could take.

    `memory` is the time of a copy that moves as many bytes, repeated as the step is and over arrays
    of the same size, so that both find their data in the same cache or in none. `arithmetic` is the
    step's own over data in the first-level cache, shared by as many threads; of a product, its
    flops at the best rate of a product in the same run. They are None for what has no such bound:
    host steps have neither.
    """

    kind: str  # kernel | routine | loop | branch | host
    name: str
    ops: tuple[str, ...]
    seconds: float
    bytes: int
    flops: float  # of products; else arithmetic instructions, without exp, tanh, ...
    memory: float | None
    arithmetic: float | None

    @property
    def bandwidth(self) -> float | None:
        """The bytes a second of the copy."""
        return self.bytes / self.memory if self.memory else None

    @property
    def bound(self) -> float | None:
        """The least number of seconds."""
        found = [t for t in (self.memory, self.arithmetic) if t is not None]
        return max(found) if found else None

    @property
    def limit(self) -> str:
        """What bounds the step: "memory", "arithmetic", or nothing that is known."""
        if self.bound is None:
            return ""
        return "memory" if self.bound == self.memory else "arithmetic"

    @property
    def ratio(self) -> float | None:
        """The measured time in units of the least."""
        return self.seconds / self.bound if self.bound else None


@dataclass(frozen=True, slots=True)
class Roofline:
    """The steps of a call in order. Prints as a table; iterates over the steps."""

    name: str
    steps: tuple[StepRoof, ...]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[StepRoof]:
        return iter(self.steps)

    def __getitem__(self, i: int) -> StepRoof:
        return self.steps[i]

    @property
    def seconds(self) -> float:
        """All steps together."""
        return sum(s.seconds for s in self.steps)

    @property
    def bound(self) -> float:
        """The least that all steps together could take; a host step counts as it is."""
        return sum(s.seconds if s.bound is None else s.bound for s in self.steps)

    def __str__(self) -> str:
        from graphgrad.compiler.work import bytes_text, count_text

        head = ("step", "time", "moves", "copy", "memory", "flops", "arithmetic", "bound", "ratio")
        rows = [head]
        for s in self.steps:
            rate = f"{s.bandwidth / 1e9:.1f} GB/s" if s.bandwidth else ""
            rows.append(
                (
                    s.name if s.kind == "kernel" else f"{s.kind} {s.name}",
                    _time(s.seconds),
                    bytes_text(s.bytes) if s.bytes else "",
                    rate,
                    _time(s.memory),
                    count_text(s.flops) if s.flops else "",
                    _time(s.arithmetic),
                    s.limit,
                    f"{s.ratio:.2f}" if s.ratio else "",
                )
            )
        ratio = f"{self.seconds / self.bound:.2f}" if self.bound else ""
        rows.append(("all", _time(self.seconds), "", "", "", "", "", "", ratio))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        return "\n".join([f"{self.name}: each step repeated alone", *lines])

    __repr__ = __str__


def roofline(f: Any, *args: Any, rounds: int = 3, **kwargs: Any) -> Roofline:
    """Measure each kernel of `f(*args, **kwargs)` against the machine.

    `f` is a `gg.function`, or a Python function that is made one. It is traced and compiled for
    the arguments if it is not yet. A kernel's bound is the larger of two times, both measured in
    turn with the kernel: that of a copy of as many bytes as the kernel must move (each element
    that it touches, once), and that of its own arithmetic over data in the first-level cache. A
    matrix product's is its flops at the best rate that a product reached. Nothing changes:
    variables keep their values. More `rounds` help on a machine that others use; a time is the
    least found.

    >>> import graphgrad as gg
    >>> found = gg.roofline(lambda x: gg.tanh(x) * 2.0, gg.ones([1000]), rounds=1)
    >>> found[0].kind, found[0].bytes
    ('kernel', 8000)
    >>> found[0].seconds > 0 and found[0].memory > 0 and found[0].arithmetic > 0
    True
    """
    called = f if isinstance(f, Function) else function(f)
    trace, arrays = called._arrays_of(args, kwargs)
    if not trace.compiled:
        seconds = min(_timed(lambda: trace.runner.run(arrays)) for _ in range(rounds))
        step = StepRoof("host", trace.name, ("interpreted",), seconds, 0, 0, None, None)
        return Roofline(trace.name, (step,))
    measurement = _Measurement(trace.runner, arrays)
    try:
        for _ in range(rounds):
            measurement.round()
    except Exception as e:
        error = translated(e)
        if error is None:
            raise
        raise error from None
    return Roofline(trace.name, measurement.found())


def _time(seconds: float | None) -> str:
    """
    >>> _time(0.0012), _time(3.4e-8), _time(None)
    ('1.2 ms', '34 ns', '')
    """
    if seconds is None:
        return ""
    unit, scale = next((u for u in _UNITS if seconds >= u[1]), _UNITS[-1])
    return f"{seconds / scale:.3g} {unit}"


_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))


def _timed(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


class _Clock:
    """The least time of something that can be repeated."""

    def __init__(self) -> None:
        self.seconds = float("inf")

    def sample(self, repeated: Callable[[int], None]) -> None:
        """One batch of repetitions; as many as last long enough to be timed."""
        count = max(1, int(BATCH_SECONDS / max(self.seconds, 1e-9))) if self.seconds < 1 else 1
        self.seconds = min(self.seconds, _timed(lambda: repeated(count)) / count)


class _Step:
    """One step and what it is compared with."""

    def __init__(self, report: StepReport, scale: float, dtype: DType | None) -> None:
        self.report = report
        self.scale = scale  # iterations of the whole to those of the part that stays in cache
        self.dtype = dtype  # of a product
        self.moved = report.work.bytes if report.work is not None else 0
        self.copied_bytes = min(_copied_bytes(report.work), COPY_LIMIT)
        self.whole, self.part, self.copied = _Clock(), _Clock(), _Clock()

    def result(self, rates: dict[DType, float]) -> StepRoof:
        flops = self.report.work.flops if self.report.work is not None else 0.0
        memory = arithmetic = None
        if self.moved and self.report.kind != "host":
            memory = self.copied.seconds * self.moved / self.copied_bytes
        if self.report.kind == "kernel":
            arithmetic = self.part.seconds * self.scale
        if self.dtype is not None:
            arithmetic = flops / rates[self.dtype]
        return StepRoof(
            self.report.kind, self.report.name, self.report.fused, self.whole.seconds, self.moved,
            flops, memory, arithmetic,
        )  # fmt: skip


class _Measurement:
    """The steps of one compiled graph, run in turn and compared, as often as one likes."""

    def __init__(self, runner: Any, arrays: list[Array]) -> None:
        # Imported here: the compiler's back end takes longer to import than all the rest.
        from graphgrad.compiler.driver import compile_apart
        from graphgrad.compiler.kernels.shrink import iterations, shrunk
        from graphgrad.compiler.report import make_report, sizes_of
        from graphgrad.compiler.work import rated
        from graphgrad.runtime.engine import host_target
        from graphgrad.runtime.executor import prepare

        self.arrays = arrays
        runner.prepared()
        graph = runner.compilation.graph
        shapes = [a.shape for a in arrays]
        sizes = sizes_of(graph, shapes)
        target = host_target()
        apart = runner.compilation
        cut = None
        if apart.steps and sizes is not None:
            apart = compile_apart(graph, target, runner.options)
            cut = compile_apart(graph, target, runner.options, lambda nest: shrunk(nest, sizes))
        self.whole: Executable = prepare(apart.program, target)
        self.part: Executable | None = None if cut is None else prepare(cut.program, target)
        self.steps = []
        parts: Iterator[Any] = iter(cut.steps) if cut is not None else repeat(None)
        reports = make_report(apart, shapes=shapes).steps
        for report, step, part in zip(reports, apart.steps or (None,), parts):
            scale, dtype = 1.0, None
            if part is not None and step.nest is not None:
                assert sizes is not None
                whole, cut_down = (
                    sum(iterations(nest, sizes) for nest, _ in s.parts) for s in (step, part)
                )
                scale = max(1, whole) / max(1, cut_down) / _threads(step.nest, shapes)
            elif report.kind in ("kernel", "routine") and step.nest is None:
                dtype = rated(step.nodes[0])
            self.steps.append(_Step(report, scale, dtype))
        self.products = {s.dtype: _product(s.dtype) for s in self.steps if s.dtype is not None}
        self.rates = {dtype: _Clock() for dtype in self.products}

    def round(self) -> None:
        """Each step, its part in cache and a copy in turn."""
        for dtype, product in self.products.items():
            for _ in range(SAMPLES):
                self.rates[dtype].sample(product)
        parts = repeat(None) if self.part is None else self.part.steps(self.arrays)
        for step, whole, part in zip(self.steps, self.wholes(), parts):
            if whole is None:
                continue
            for _ in range(SAMPLES):
                step.whole.sample(whole)
                if part is not None and step.dtype is None:
                    step.part.sample(part)
                for copy in _copies(step.copied_bytes):
                    step.copied.sample(copy)

    def wholes(self) -> Iterator[Repeat | None]:
        """What repeats each step; host steps are timed as they run."""
        running = self.whole.steps(self.arrays)
        for step in self.steps:
            begin = time.perf_counter()
            again = next(running)
            if again is None:
                seconds = time.perf_counter() - begin
                step.whole.seconds = min(step.whole.seconds, seconds)
            yield again

    def found(self) -> tuple[StepRoof, ...]:
        rates = {d: 2 * SQUARE**3 / clock.seconds for d, clock in self.rates.items()}
        for step in self.steps:
            if step.dtype is not None:  # a product of the call may do better
                done = step.report.work.flops / step.whole.seconds if step.report.work else 0.0
                rates[step.dtype] = max(rates[step.dtype], done)
        return tuple(s.result(rates) for s in self.steps)


def _threads(nest: LoopNest, shapes: Sequence[tuple[int, ...]]) -> int:
    """How many threads share the work of a nest; its part in cache is too small to be shared."""
    from graphgrad.runtime import threads
    from graphgrad.runtime.program import evaluate

    division = nest.division
    if division is None:
        return 1
    count, least, grain = (
        evaluate(n, shapes, threads.count())
        for n in (division.count, division.least, division.grain)
    )
    return min(threads.count(), -(-count // grain)) if count > least else 1


def _product(dtype: DType) -> Repeat:
    """Multiplies two large matrices as a compiled program does."""
    spec = TensorSpec([SQUARE, SQUARE], dtype)
    ones = np.ones((SQUARE, SQUARE), dtype.dtype)
    multiply = function(lambda x, y: x @ y, input_signature=[spec, spec])
    return _only_step(multiply.get_concrete_function().runner.prepared(), [ones, ones])


def _copied_bytes(work: Work | None) -> int:
    """The bytes of the copy that a step is compared with: as many as the step's; of large arrays,
    as long as what it reads or writes, for a copy of half of it might find its source in a cache
    that cannot hold the whole."""
    if work is None:
        return 0
    return work.bytes if work.bytes <= CACHED else 2 * max(work.bytes_read, work.bytes_written)


@functools.cache
def _copier() -> Executable:
    """Reads 4-byte words and writes as many: a sign is no work beside that."""
    negate = function(lambda x: -x, input_signature=[TensorSpec([None], int32)])
    executable: Executable = negate.get_concrete_function().runner.prepared()
    return executable


def _copies(nbytes: int) -> tuple[Callable[[int], None], ...]:
    """Two ways to read and write `nbytes` in all: a compiled kernel, and the C library."""
    from graphgrad.runtime.memory import address
    from graphgrad.runtime.repeat import copy_bytes

    if not nbytes:
        return ()
    # Zeros that nobody wrote would be one page, again and again.
    words = np.ones(max(1, nbytes // 8), np.int32)
    other = np.ones_like(words)
    compiled = _only_step(_copier(), [words])
    return compiled, lambda n: copy_bytes(address(other), address(words), words.nbytes, n)


def _only_step(executable: Executable, arrays: list[Array]) -> Repeat:
    step = next(executable.steps(arrays))
    assert step is not None
    return step
