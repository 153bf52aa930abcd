"""Look for slow sizes of convolutions: `python -m benchmarks.convolution_sweep --help`.

On one core, in each line one size grows while the others stay: channels (odd ones, primes, powers
of two and their neighbours), the side of the image, the side of the filter, the stride, the number
of images. The forward pass and both gradients are measured in multiplications and additions a
second, and every result is checked. A size is a cliff if it takes more than 1.7 times what each of
its neighbours' rates makes one expect.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.child import Cores
from benchmarks.frameworks import words
from benchmarks.report import duration, times
from benchmarks.sweep import (
    Point,
    add_common,
    best,
    beyond_neighbours,
    finish,
    start_with_one_thread,
)
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.convolutions import Convolution, rows_of

STEEP = 1.7  # beyond this many times the time expected, a size is a cliff
PARTS = {"y": "forward", "x": "gradient of the image", "w": "gradient of the filter"}
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 100, 127,
            128, 129, 192, 255, 256)  # fmt: skip
SIDES = (1, 2, 3, 4, 5, 7, 8, 9, 13, 14, 15, 16, 17, 28, 29, 31, 32, 33, 56, 57, 63, 64, 65, 112,
         113, 127, 128, 129, 223, 224)  # fmt: skip


def _square(n: int, side: int, a: int, b: int, taps: int = 3, stride: int = 1) -> Convolution:
    return Convolution(
        "swept", (n, side, side, a), (taps, taps, a, b), stride=stride, pad=taps // 2
    )


def _depthwise(n: int, side: int, channels: int, taps: int = 3) -> Convolution:
    filters = (taps, taps, channels, 1)
    return Convolution("swept", (n, side, side, channels), filters, pad=taps // 2)


# Along each line the work grows, or stays.
LINES: dict[str, list[Convolution]] = {
    "channels in": [_square(2, 28, c, 64) for c in CHANNELS],
    "channels out": [_square(2, 28, 64, c) for c in CHANNELS],
    "channels": [_square(2, 28, c, c) for c in CHANNELS],
    "channels, 1 x 1": [_square(4, 28, c, c, taps=1) for c in CHANNELS],
    "image": [_square(1, side, 32, 32) for side in SIDES],
    "image of 3 channels": [_square(1, side, 3, 32) for side in SIDES],
    "filter": [_square(2, 28, 32, 32, taps) for taps in range(1, 12)],
    "filter, 1 channel to 6": [_square(16, 28, 1, 6, taps) for taps in range(1, 12)],
    "stride": [_square(2, 56, 32, 32, 5, stride) for stride in range(1, 8)],
    "images": [_square(n, 14, 32, 32) for n in (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 32, 33)],
    "depthwise, channels": [_depthwise(2, 56, c) for c in CHANNELS[1:]],
    "depthwise, image": [_depthwise(2, side, 32) for side in SIDES],
    "depthwise, filter": [_depthwise(2, 56, 32, taps) for taps in range(1, 12)],
}


@dataclass(frozen=True)
class Place(Point):
    """One convolution: `shape` shows what is swept; its work is in operations."""

    flops: int = 0

    @property
    def elements(self) -> int:
        return self.flops


@dataclass
class Line:
    """A part of convolutions along a line of sizes."""

    name: str
    part: str
    sizes: list[Convolution]
    places: list[Place]
    call: float  # seconds of a call that does next to nothing

    @property
    def cliffs(self) -> dict[int, float]:
        """The places that are too slow, and how many times the expected time they take."""
        ratios = (beyond_neighbours(self.places, i, self.call) for i in range(len(self.places)))
        return {i: ratio for i, ratio in enumerate(ratios) if ratio > STEEP}


def measure(F: Any, c: Convolution, part: str, seconds: float) -> Place:
    """One part of a convolution: the least seconds, and what is wrong with the result."""
    rows_of(c, part)
    w = WORKLOADS.pop(f"{c.name}_{part}")
    arrays = w.inputs(np.random.default_rng(7))
    expected = data.expected(w.reference, arrays)
    run = F.bind(*w.build(F, {k: F.tensor(v) for k, v in arrays.items()}))
    error = data.problem(F.arrays(w.finish(F, run())), expected)
    return Place((), best(run, seconds / 2)(), 0.0, error, c.flops)


def sweep(F: Any, name: str, part: str, seconds: float, most: float) -> Line:
    """Measure a line; what looks like a cliff is measured again, with its neighbours."""
    sizes = [c for c in LINES[name] if c.flops <= most]
    call = measure(F, _square(1, 1, 1, 1, taps=1), part, seconds).seconds
    line = Line(name, part, sizes, [measure(F, c, part, seconds) for c in sizes], call)
    for _ in range(2):
        doubtful = {j for i in line.cliffs for j in (i - 1, i, i + 1)}
        for i in doubtful:
            again = measure(F, sizes[i], part, 4 * seconds)
            least = min(line.places[i].seconds, again.seconds)
            line.places[i] = replace(line.places[i], seconds=least)
    return line


def rate(place: Place) -> float:
    """Gflop a second."""
    return place.flops / place.seconds / 1e9


def table(lines: Sequence[Line]) -> str:
    """A row a line: its rates, and its worst size beside its neighbours."""
    rows = [
        "| sizes | part | Gflop/s, least | most | worst beside neighbours | cliffs |",
        "|---|---|---|---|---|--:|",
    ]
    for line in lines:
        low, high = (
            choose(zip(map(rate, line.places), map(_sizes, line.sizes), strict=True))
            for choose in (min, max)
        )
        beside = max(
            (beyond_neighbours(line.places, i, line.call), _sizes(c))
            for i, c in enumerate(line.sizes)
        )
        rows.append(
            f"| {line.name} ({len(line.places)}) | {PARTS[line.part]} | {low[0]:.1f}: {low[1]} "
            f"| {high[0]:.0f}: {high[1]} | {times(beside[0])}: {beside[1]} | {len(line.cliffs)} |"
        )
    return "\n".join(rows)


def _sizes(c: Convolution) -> str:
    image, filters = (" x ".join(map(str, sizes)) for sizes in (c.image, c.filter))
    return f"{image} by {filters}" + (f", stride {c.stride}" if c.stride > 1 else "")


def offences(lines: Sequence[Line]) -> str:
    """Cliffs and wrong results, a line each."""
    found = []
    for line in lines:
        for i, (c, place) in enumerate(zip(line.sizes, line.places, strict=True)):
            why = place.error
            if i in line.cliffs and not why:
                why = f"{times(line.cliffs[i])} what its neighbours make one expect"
            if why:
                took = f"{duration(place.seconds)}, {rate(place):.1f} Gflop/s"
                found.append(f"- {PARTS[line.part]}, {_sizes(c)}: {why} ({took})")
    return "\n".join(found)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.convolution_sweep",
        description="Look for convolutions that are unexpectedly slow.",
    )
    parser.add_argument("--lines", nargs="+", choices=LINES, default=list(LINES), metavar="LINE",
                        help=f"some of {'; '.join(LINES)}")  # fmt: skip
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
                        help="some of y (forward), x and w (gradients)")  # fmt: skip
    parser.add_argument("--most", type=float, default=2e9, help="operations, at most (2e9)")
    add_common(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    Cores(threads=1).pin()
    F = words("graphgrad")
    lines = []
    for name in options.lines:
        for part in options.parts:
            lines.append(sweep(F, name, part, options.seconds, options.most))
            print(table(lines[-1:]).splitlines()[-1], flush=True)
    return finish("convolution sweep", table(lines), offences(lines), options.write)


if __name__ == "__main__":
    start_with_one_thread("benchmarks.convolution_sweep")
    sys.exit(main())
