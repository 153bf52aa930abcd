"""Look for sizes at which graphgrad is unexpectedly slow: `python -m benchmarks.sweep --help`.

Each kernel (`sweep_kernels.py`) runs on one core at many sizes: odd, prime, powers of two and their
neighbours, tiny and huge, narrow and wide, with views as inputs, and every result is checked. A
size is a cliff if its time is beyond 1.5 times what each of its neighbours' time per element makes
one expect (a call costs the same at all sizes), or if, without the call, it is beyond NumPy's.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.child import Cores
from benchmarks.frameworks import words
from benchmarks.measure import LIBRARIES
from benchmarks.report import PAGE, duration, times, write_between_marks
from benchmarks.sweep_kernels import FAMILIES, KERNELS, Kernel, Shape

STEEP = 1.5  # beyond this many times the time expected, a size is a cliff
SLOWER = 1.1  # and beyond this many times NumPy's time
GROUP_SECONDS = 2e-4  # calls shorter than this are timed in groups


@dataclass(frozen=True)
class Point:
    """One size: the least seconds of a call, NumPy's, and what is wrong with the result."""

    shape: Shape
    seconds: float
    numpy: float
    error: str = ""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def beyond_neighbours(points: Sequence[Point], i: int, call: float) -> float:
    """How many times the time that the neighbours' time per element makes one expect.

    >>> line = [Point((n,), 1e-6 + n * 1e-9, 1.0) for n in (1000, 1001, 1002)]
    >>> round(beyond_neighbours(line, 1, call=1e-6), 3)
    1.0
    >>> steep = [line[0], Point((1001,), 5e-6, 1.0), line[2]]
    >>> round(beyond_neighbours(steep, 1, call=1e-6), 2)
    2.5
    """
    if not 0 < i < len(points) - 1:
        return 0.0
    rates = [max(p.seconds - call, 0) / p.elements for p in (points[i - 1], points[i + 1])]
    return points[i].seconds / (call + max(rates) * points[i].elements)


def beyond_numpy(point: Point, call: float) -> float:
    """How many times NumPy's time, leaving out what a call of ours costs."""
    return (point.seconds - call) / point.numpy


def cliffs(points: Sequence[Point], call: float) -> dict[int, str]:
    """The places of those sizes that are too slow, and why."""
    found = {}
    for i, point in enumerate(points):
        beside = beyond_neighbours(points, i, call)
        numpy = beyond_numpy(point, call)
        if beside > STEEP:
            found[i] = f"{times(beside)} what its neighbours make one expect"
        elif numpy > SLOWER:
            found[i] = f"{times(numpy)} NumPy's time"
    return found


def best(run: Callable[[], Any], seconds: float) -> Callable[[], float]:
    """A function that measures: the least seconds of a call found so far."""
    run()
    start = time.perf_counter()
    run()
    once = time.perf_counter() - start
    group = max(1, int(GROUP_SECONDS / once))
    least = math.inf

    def measure() -> float:
        nonlocal least
        end = time.perf_counter() + seconds
        for turn in range(1000):
            start = time.perf_counter()
            if turn > 1 and start > end:
                break
            for _ in range(group):
                run()
            least = min(least, (time.perf_counter() - start) / group)
        return least

    return measure


def measure(F: Any, kernel: Kernel, shape: Shape, seconds: float) -> Point:
    """The kernel at one size, in turns with NumPy."""
    arrays = kernel.inputs(np.random.default_rng(7), shape)
    run = F.bind(*kernel.build(F, {k: F.tensor(v) for k, v in arrays.items()}))
    expected = data.expected(kernel.reference, arrays)
    error = data.problem(F.arrays(run()), expected)
    if error and data.problem([*map(np.asarray, kernel.reference(**arrays))], expected):
        error = ""  # in float32 NumPy is as far off: the problem is ill-conditioned at this size
    del expected
    ours, theirs = best(run, seconds / 4), best(lambda: kernel.reference(**arrays), seconds / 4)
    for _ in range(2):
        mine, numpy = ours(), theirs()
    return Point(shape, mine, numpy, error)


@dataclass
class Line:
    """A kernel along a family of sizes."""

    kernel: str
    family: str
    points: list[Point]
    call: float  # seconds of a call that does next to nothing

    @property
    def cliffs(self) -> dict[int, str]:
        return cliffs(self.points, self.call)


def sweep(F: Any, kernel: Kernel, family: str, shapes: Sequence[Shape], seconds: float) -> Line:
    """Measure a line; what looks like a cliff is measured again, with its neighbours."""
    least = measure(F, kernel, (1,) * len(shapes[0]), seconds)
    points = [measure(F, kernel, shape, seconds) for shape in shapes]
    line = Line(kernel.name, family, points, least.seconds)
    for _ in range(2):
        doubtful = {j for i in line.cliffs for j in (i - 1, i, i + 1) if 0 <= j < len(points)}
        for i in doubtful:
            again = measure(F, kernel, shapes[i], 4 * seconds)
            points[i] = replace(
                points[i],
                seconds=min(points[i].seconds, again.seconds),
                numpy=min(points[i].numpy, again.numpy),
            )
    return line


def table(lines: Sequence[Line]) -> str:
    """A row a line: its worst size beside its neighbours, and beside NumPy."""
    rows = [
        "| kernel | sizes | ns per element, least | worst beside neighbours | worst beside NumPy "
        "| cliffs |",
        "|---|---|--:|---|---|--:|",
    ]
    for line in lines:
        points, call = line.points, line.call
        rate = min(p.seconds / p.elements for p in points)
        beside = max((beyond_neighbours(points, i, call), p.shape) for i, p in enumerate(points))
        numpy = max((beyond_numpy(p, call), p.shape) for p in points)
        rows.append(
            f"| {line.kernel} | {line.family} ({len(points)}) | {rate * 1e9:.2f} | {_at(*beside)} "
            f"| {_at(*numpy)} | {len(line.cliffs)} |"
        )
    return "\n".join(rows)


def _at(ratio: float, shape: Shape) -> str:
    return f"{times(ratio)} at {' x '.join(map(str, shape))}"


def offences(lines: Sequence[Line]) -> str:
    """Cliffs and wrong results, a line each."""
    return "\n".join(
        f"- {line.kernel}, {' x '.join(map(str, point.shape))}: {point.error or line.cliffs[i]} "
        f"({duration(point.seconds)}; NumPy {duration(point.numpy)})"
        for line in lines
        for i, point in enumerate(line.points)
        if point.error or i in line.cliffs
    )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep", description="Look for sizes that are unexpectedly slow."
    )
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=list(KERNELS),
                        metavar="KERNEL", help=f"some of {', '.join(KERNELS)}")  # fmt: skip
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES),
                        metavar="SIZES", help=f"some of {', '.join(FAMILIES)}")  # fmt: skip
    parser.add_argument("--most", type=int, default=2**25, help="elements, at most (2**25)")
    add_common(parser)
    return parser.parse_args(arguments)


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options of every sweep."""
    parser.add_argument("--seconds", type=float, default=0.03, help="for each size (0.03)")
    parser.add_argument("--write", action="store_true",
                        help="put the table into docs/performance.md")  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    Cores(threads=1).pin()
    F = words("graphgrad")
    lines = []
    for kernel in (KERNELS[name] for name in options.kernels):
        for family in (f for f in kernel.families if f in options.families):
            shapes = [s for s in FAMILIES[family] if math.prod(s) <= options.most]
            lines.append(sweep(F, kernel, family, shapes, options.seconds))
            print(table(lines[-1:]).splitlines()[-1], flush=True)
    return finish("sweep", table(lines), offences(lines), options.write)


def finish(mark: str, table: str, wrong: str, write: bool) -> int:
    """Print the table of a sweep, put it into its place if asked, and give the exit status."""
    print(f"\n{table}\n\n{wrong or 'No cliffs.'}")
    if write:
        write_between_marks(PAGE, mark, table)
    return 1 if wrong else 0


def start_with_one_thread(module: str = "benchmarks.sweep") -> None:
    """Start again if a library may have made threads: BLAS does when it is loaded."""
    one = {f"{library}_NUM_THREADS": "1" for library in LIBRARIES}
    if not one.items() <= os.environ.items():
        command = [sys.executable, "-m", module, *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | one)


if __name__ == "__main__":
    start_with_one_thread()
    sys.exit(main())
