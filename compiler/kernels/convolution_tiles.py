"""Tiles of convolutions and of their gradients by the input.

The two are one computation. Along an axis, `conv` is

    y[j] = sum over k of  x[j s + k d - lo] w[k]

and its gradient by the input takes the targets i = s j + start of each `start` below s apart: what
is left of  x[i] = sum of g[o] w[k] over o s + k d - lo = i  are the taps of which

    o = j + (start + lo - k d) / s

is whole, which are d / gcd(s, d) apart in g. So both are `Axis`: targets in phases, each of which
walks evenly through what is read. A tile of targets, all with the same taps, is summed at a time.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.kernels.convolutions import RANK, Convolution, Registers
from graphgrad.compiler.kernels.loops import compute_dtype

# What a block of targets reads shall stay in the second-level cache, beside the filter's panel.
BLOCK_BYTES = 1 << 18
# Arrays that take more do not stay in the second-level cache.
FETCHED_BYTES = 1 << 20
# Vectors of output channels that a tile sums for each of its places.
WIDTHS = range(1, 5)
# Rows of a tile: each has an address, and more do not fit into registers.
MOST_ROWS = 12
# Cycles to begin a tile and to store a vector of it.
TILE, PLACE = 40, 1
# Products of an unknown number of images with so many rows each go image by image.
ROWS = 64
# Cycles from a sum to the next one that needs it, and some for what they do not overlap with.
LATENCY = 6
# Places along an axis of which the size is not known.
OPEN = 1 << 30


@dataclass(frozen=True, slots=True)
class Phase:
    """Targets start, start + spread, ...: the taps that reach them, and of the first one where it
    reads for the first target."""

    start: int
    first: int
    taps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis: target start + j spread reads from j step + first on, `apart` apart."""

    source: Extent
    target: Extent
    step: int
    spread: int
    apart: int
    phases: tuple[Phase, ...]

    @property
    def low(self) -> int:
        """From where on the targets j = 0 read."""
        return min((p.first for p in self.phases if p.taps), default=0)

    @property
    def high(self) -> int:
        """The last that the targets j = 0 read."""
        ends = (p.first + (len(p.taps) - 1) * self.apart for p in self.phases if p.taps)
        return max(ends, default=0)

    def read(self, targets: int) -> int:
        """How many places `targets` neighbouring j read."""
        return (targets - 1) * self.step + self.high - self.low + 1

    @property
    def is_inside(self) -> bool:
        """Do all targets read within the source?"""
        if not isinstance(self.source, int) or not isinstance(self.target, int):
            return self == plain(self.source)
        count = -(-self.target // self.spread)
        return self.low >= 0 and self.low + self.read(count) <= self.source

    def counts(self) -> tuple[int, int] | None:
        """The most and the fewest targets that a phase has, of those that have any; None where
        that is not known."""
        if not isinstance(self.target, int):
            return None
        found = [-(-(self.target - p.start) // self.spread) for p in self.phases]
        return found[0], min(n for n in found if n > 0)


def plain(extent: Extent) -> Axis:
    """An axis along which nothing moves."""
    return Axis(extent, extent, 1, 1, 1, (Phase(0, 0, (0,)),))


def simplified(conv: Convolution) -> Convolution:
    """The same over fewer axes: what is one product of matrices has its rows along one axis."""
    if conv.groups > 1 or any(conv.lows) or not isinstance(math.prod(conv.sizes), int):
        return conv
    if conv.is_product:
        rows, places = conv.images, math.prod(conv.sizes)
    elif conv.sizes == conv.taps and set(conv.places) == {1}:
        rows, places = conv.images, 1
    else:
        return conv
    one = (1,) * RANK
    inputs = math.prod(conv.sizes) // places * conv.inputs
    images: Extent = 1
    if isinstance(rows, int) or places < ROWS:
        places *= rows
    else:
        images = rows
    line = (1, 1, places)
    return replace(
        conv, images=images, sizes=line, places=line, taps=one, inputs=inputs, strides=one,
        dilations=one,
    )  # fmt: skip


def axes_of(conv: Convolution) -> tuple[Axis, ...]:
    """The axes of a forward pass or an input gradient."""
    found = []
    for n, o, k, s, lo, d in zip(
        conv.sizes, conv.places, conv.taps, conv.strides, conv.lows, conv.dilations, strict=True
    ):
        if conv.kind == "conv":
            found.append(Axis(n, o, s, 1, d, (Phase(0, -lo, tuple(range(k))),)))
            continue
        phases = []
        for start in range(s if not isinstance(n, int) else min(s, n)):
            taps = tuple(t for t in reversed(range(k)) if (start + lo - t * d) % s == 0)
            phases.append(Phase(start, (start + lo - taps[0] * d) // s if taps else 0, taps))
        found.append(Axis(o, n, 1, s, d // math.gcd(s, d), tuple(phases)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a forward pass or an input gradient is computed.

    A panel is `width` vectors of output channels, the last one `last` of them. A tile has `rows`
    by `columns` targets of a phase; a block, which is copied with its padding, `block` of them.

    Where channels do not fill a vector, a column is a `run` of neighbouring targets: with all their
    channels they lie one behind the other in memory, and are made as if they were the channels of
    one target, by a filter that is longer by what the run moves. Its other taps are zeros.
    """

    conv: Convolution
    axes: tuple[Axis, ...]
    lanes: int
    width: int
    last: int
    panels: int
    rows: int
    columns: int
    run: int
    block: tuple[int, int]
    keeps_channels: bool  # are the channels that are made those of the result?

    @property
    def reduced(self) -> int:
        """The channels of a group that are summed."""
        c = self.conv
        return (c.inputs if c.kind == "conv" else c.outputs) // c.groups

    @property
    def made(self) -> int:
        """The channels of a group that are computed."""
        c = self.conv
        return (c.outputs if c.kind == "conv" else c.inputs) // c.groups

    @property
    def is_copied(self) -> bool:
        """Does a block have padding, or elements to convert, so that it is copied first?"""
        return self.conv.dtype.bits == 16 or not all(a.is_inside for a in self.axes)

    @property
    def skips_rows(self) -> bool:
        """Are rows of taps left out where they read padding alone?"""
        h = self.axes[1]
        return not h.is_inside and max(len(p.taps) for p in h.phases) > 1

    @property
    def asks_ahead(self) -> bool:
        """Does a tile ask for what the next one reads? Of products of matrices that do not stay in
        a cache, where each element that comes from memory is used for little."""
        if self.conv.groups > 1 or self.is_copied or not self.conv.is_product:
            return False
        elements = self.conv.images * self.axes[2].source * self.reduced
        return not isinstance(elements, int) or elements * self.conv.dtype.itemsize > FETCHED_BYTES

    @property
    def is_closed(self) -> bool:
        """Are all sizes known, so that a tile can be moved back where it would pass the end?"""
        return all(isinstance(a.target, int) for a in self.axes)

    @property
    def taps(self) -> tuple[int, int, int]:
        """Those of the filter in panels."""
        d, h, w = self.conv.taps
        return d, h, w + (self.run - 1) * self.axes[2].step

    @property
    def vectors(self) -> int:
        """Vectors of a row of the filter, over all panels of a group."""
        return (self.panels - 1) * self.width + self.last

    @property
    def panel_elements(self) -> int:
        """Elements of the filter in panels."""
        c = self.conv
        return c.groups * math.prod(self.taps) * self.reduced * self.vectors * self.lanes

    @property
    def copied(self) -> tuple[int, int, int]:
        """Places of the copy of a block."""
        d, h, w = self.axes
        return d.read(1), h.read(self.block[0]), w.read(self.block[1])

    @property
    def copied_elements(self) -> int:
        if not self.is_copied:
            return 0
        return math.prod(self.copied) * self.reduced * self.conv.groups


def tiling(conv: Convolution, registers: Registers) -> Tiling:
    """The tiles that take the least time, as the ports of a processor would have it: two vectors
    loaded, and two multiplied and added, in a cycle, a sum not sooner than some cycles later."""
    channels_before = conv.inputs
    conv = simplified(conv)
    axes = axes_of(conv)
    made = (conv.outputs if conv.kind == "conv" else conv.inputs) // conv.groups
    reduced = (conv.inputs if conv.kind == "conv" else conv.outputs) // conv.groups
    itemsize = compute_dtype(conv.dtype).itemsize
    lanes = registers.bytes // itemsize
    most = [a.counts() for a in axes]
    closed = all(m is not None for m in most)
    tall, wide = ((most[a] or (1, 1))[1] if closed else (1, 64)[a - 1] for a in (1, 2))
    channels = math.prod(max(len(p.taps) for p in a.phases) for a in axes[:2]) * reduced
    across = axes[2]
    taps = max(len(p.taps) for p in across.phases)
    runs = [1]
    if closed and conv.groups == 1 and across.spread == across.apart == 1 and taps > 1:
        runs = [r for r in range(1, wide + 1) if r == 1 or r * made <= lanes * WIDTHS[-1]]

    def cycles(places: int, width: int, steps: int) -> float:
        step = max(places * width / 2, (places + width) / 2, LATENCY)
        return step * steps + PLACE * places * width

    best: tuple[float, int, int, int, int] | None = None
    for run, most_vectors in itertools.product(runs, WIDTHS):
        vectors = -(-run * made // lanes)
        panels = -(-vectors // most_vectors)
        width = -(-vectors // panels)
        if run > 1 and panels > 1:
            continue
        last = vectors - (panels - 1) * width
        limit = (registers.count - 1 - width) // width
        steps = channels * (taps + (run - 1) * across.step)
        for rows in range(1, min(tall, limit, MOST_ROWS) + 1):
            for columns in range(1, min(wide // run, limit // rows) + 1):
                tiles = -(-tall // rows) * -(-wide // (columns * run))
                places = rows * columns
                time = (panels - 1) * cycles(places, width, steps) + cycles(places, last, steps)
                if best is None or tiles * (time + TILE) < best[0]:
                    best = tiles * (time + TILE), width, rows, columns, run
    assert best is not None
    _, width, rows, columns, run = best
    vectors = -(-run * made // lanes)
    panels = -(-vectors // width)
    place = reduced * conv.groups * itemsize
    most_w = BLOCK_BYTES // (2 * place * axes[2].step * axes[0].read(1))
    block_w = blocked(wide if closed else OPEN, columns * run, most_w)
    line = axes[2].read(block_w) * place * axes[0].read(1)
    block_h = blocked(tall if closed else OPEN, rows, BLOCK_BYTES // (line * axes[1].step))
    if closed:  # a block that is moved back holds a tile, and the places that some phases lack
        extra = [m[0] - m[1] for m in most[1:] if m is not None]
        block_h, block_w = block_h + extra[0], block_w + extra[1]
    return Tiling(
        conv, axes, lanes, width, vectors - (panels - 1) * width, panels, rows, columns, run,
        (block_h, block_w), conv.kind == "conv" or conv.inputs == channels_before,
    )  # fmt: skip


def blocked(extent: int, tile: int, most: int) -> int:
    """Even blocks of an extent: multiples of the tile, of about `most` at most."""
    tiles = -(-extent // tile)
    blocks = -(-tiles // max(1, most // tile))
    return -(-tiles // blocks) * tile
