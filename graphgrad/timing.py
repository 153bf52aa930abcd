"""gg.benchmark: how long a call takes, without tracing and compiling, and how long those took."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.source import here

BATCH_SECONDS = 2e-3  # calls that are timed together last about so long: a clock reading is small


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The times of one call, in seconds; `first` is that of the very first one.

    `minimum` is what the machine can do, `median` what it did; `calls` were timed, in `batches`.
    """

    name: str
    minimum: float
    median: float
    first: float
    calls: int
    batches: int

    def __str__(self) -> str:
        return (
            f"{self.name}: {show(self.minimum)} a call at best, {show(self.median)} in the median "
            f"of {self.batches} batches ({self.calls} calls); the first took {show(self.first)}"
        )


def benchmark(f: Callable[..., Any], *args: Any, seconds: float = 0.5, **kwargs: Any) -> Benchmark:
    """Time `f(*args, **kwargs)` for about `seconds`, after calls that trace, compile and warm up.

    Results are ready when a call returns, so nothing has to be waited for. Print the result for
    a sentence, or read its fields.

    >>> import graphgrad as gg
    >>> times = gg.benchmark(gg.function(lambda x: x * 2.0), gg.ones([8]), seconds=0.02)
    >>> 0 < times.minimum <= times.median < times.first
    True
    """
    if not callable(f):
        raise ArgumentError(f"benchmark: {f!r} cannot be called", here())
    first = _time(f, args, kwargs, 1)
    for _ in range(3):  # native calls are prepared in the first few
        once = _time(f, args, kwargs, 1)
    each = max(1, round(BATCH_SECONDS / max(once, 1e-9)))
    end = time.perf_counter() + seconds
    times: list[float] = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        while not times or time.perf_counter() < end:
            times.append(_time(f, args, kwargs, each) / each)
            if len(times) == 1:
                each = max(1, min(1_000_000, round(BATCH_SECONDS / max(times[0], 1e-9))))
    finally:
        if collecting:
            gc.enable()
    name = getattr(f, "__name__", type(f).__name__)
    return Benchmark(
        name, min(times), statistics.median(times), first, each * len(times), len(times)
    )


def _time(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], n: int) -> float:
    """The seconds of `n` calls."""
    calls = range(n)
    begin = time.perf_counter()
    if kwargs:
        for _ in calls:
            f(*args, **kwargs)
    else:
        for _ in calls:
            f(*args)
    return time.perf_counter() - begin


def show(seconds: float) -> str:
    """A time with its unit.

    >>> show(2.5e-6), show(0.0123), show(3.0)
    ('2.50 us', '12.3 ms', '3.00 s')
    """
    units = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    unit = next((u for u, scale in units.items() if seconds >= scale), "ns")
    return f"{seconds / units[unit]:#.3g} {unit}"
