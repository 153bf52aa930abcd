"""How the kernel of a convolution's filter gradient cuts its work.

    w[k, i, j] = sum over n, o of  x[n, o s + k d - lo, i] g[n, o, j]

is, for each tap k, a product of two matrices that both have a row for each place of the output. A
tile of its sums stays in registers: some input channels i by a panel of neighbouring outputs j, or,
`swapped`, some outputs by a panel of inputs. Places are summed in blocks, whose sums are added to
the result. Where a tap has few channels, the taps of a row of the filter are merged: their pairs
(k, i) lie side by side in x. Floats of 16 bits are converted as blocks are copied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from graphgrad.compiler.dims import to_size
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.division import larger, quotient, times
from graphgrad.compiler.kernels.loops import compute_dtype
from graphgrad.compiler.kernels.memory_plan import aligned
from graphgrad.runtime.program import Size

# How many vectors a panel may have.
WIDTHS = range(1, 5)
# The panel of a block stays in the first-level cache.
PANEL_BYTES = 22 << 10
# Copied rows of x in a block take at most so much, unless a single place takes more.
COPY_BYTES = 1 << 18
# The sums of a part stay in the second-level cache.
SUMS_BYTES = 1 << 19
# So many parts are wanted, for threads. What reads an element of x or g once more does so for at
# least so many multiplications: for more where it comes from memory.
PARTS, REUSE, FAR_REUSE = 8, 96, 256
# Where there are fewer parts of the result, the places are split: partial results take at most so
# many bytes, and each at least so many picoseconds.
PARTIAL_BYTES, SPLIT = 1 << 24, 1 << 23
# What the transposition at the end makes of the time where tiles are swapped, about.
SWAPPING = 1.05
CYCLE = 250  # picoseconds
# Arrays that take more do not stay in the second-level cache.
FETCHED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FilterTiles:
    """The tiles of one filter gradient.

    The `wide` channels of a group make `panels` of `width` vectors, the last one of `last`
    channels. With `merged`, a tile holds all (k, i) of so many rows of the filter.
    """

    conv: Convolution
    lanes: int
    swapped: bool
    width: int
    merged: int
    most: tuple[int, ...]  # rows of a tile, by its number of vectors

    @property
    def dtype(self) -> DType:
        """What is computed in."""
        return compute_dtype(self.conv.dtype)

    @property
    def converts(self) -> bool:
        return self.dtype is not self.conv.dtype

    @property
    def inputs(self) -> int:
        """Input channels of a group."""
        return self.conv.inputs // self.conv.groups

    @property
    def outputs(self) -> int:
        """Output channels of a group."""
        return self.conv.outputs // self.conv.groups

    @property
    def is_possible(self) -> bool:
        """Has a panel no empty vectors, and a tile not too many?"""
        if self.merged and self.inputs >= self.lanes:
            return False
        if self.merged > 1 and self.merged * self.run > self.most[self.width]:
            return False
        return self.width == 1 or (self.width - 1) * self.lanes < self.wide

    @property
    def wide(self) -> int:
        """Channels of a group along vectors."""
        return self.inputs if self.swapped else self.outputs

    @property
    def tall(self) -> int:
        """Channels of a group along the rows of a tile."""
        return self.outputs if self.swapped else self.inputs

    @property
    def panel(self) -> int:
        """Channels of a whole panel."""
        return self.width * self.lanes

    @property
    def panels(self) -> int:
        """Panels of a group."""
        return -(-self.wide // self.panel)

    @property
    def last(self) -> int:
        """Channels of the last panel of a group."""
        return self.wide - (self.panels - 1) * self.panel

    @property
    def run(self) -> int:
        """Neighbouring rows that tiles cut."""
        return self.tall * (self.conv.taps[2] if self.merged else 1)

    @property
    def asks_ahead(self) -> bool:
        """Do tiles ask for the next block's rows? Those of a single tap come from memory, where
        they are far apart, and each is used for little."""
        conv = self.conv
        if not conv.is_product or conv.groups > 1 or self.is_copied:
            return False
        elements = conv.images * math.prod(conv.places) * (conv.inputs + conv.outputs)
        return not isinstance(elements, int) or elements * self.dtype.itemsize > FETCHED_BYTES

    # -- blocks of places

    @property
    def places(self) -> int:
        """The most places of a block."""
        return max(16, PANEL_BYTES // (self.panel * self.dtype.itemsize))

    @property
    def columns(self) -> int:
        """The most places of a row of the output in a block."""
        if not self.is_copied:
            return self.places
        column = self.copied_rows * self.conv.inputs * self.dtype.itemsize
        room = (COPY_BYTES // column - self.span[1]) // self.conv.strides[2] + 1
        return max(1, min(self.places, room))

    def is_inside(self, axis: int) -> bool:
        """Do all taps read within x along an axis, as far as is known?"""
        conv = self.conv
        size, places, stride = conv.sizes[axis], conv.places[axis], conv.strides[axis]
        span = (conv.taps[axis] - 1) * conv.dilations[axis] + 1
        if conv.lows[axis]:
            return False
        if isinstance(size, int) and isinstance(places, int):
            return (places - 1) * stride + span <= size
        return span == stride == 1 and size == places

    @property
    def is_copied(self) -> bool:
        """Are rows of x copied, with zeros around them? Merged taps share their columns."""
        has_borders = not all(map(self.is_inside, range(3)))
        return self.converts or (self.merged > 0 and has_borders)

    @property
    def span(self) -> tuple[int, int]:
        """Rows and columns of x that one place of the output reads."""
        _, height, width = (
            (k - 1) * d + 1 for k, d in zip(self.conv.taps, self.conv.dilations, strict=True)
        )
        return height, width

    @property
    def copied_rows(self) -> int:
        """Rows of x that are copied for each row of the output, at most."""
        return max(self.span[0], self.conv.strides[1]) if self.merged else 1

    @property
    def copy_limit(self) -> int:
        """The most bytes that copies of x take."""
        return max(COPY_BYTES, self.copied_rows * self.copied_row(self.columns))

    def copied_row(self, columns: int) -> int:
        """Bytes of a copied row of x that so many places read."""
        across = (columns - 1) * self.conv.strides[2] + self.span[1]
        return across * self.conv.inputs * self.dtype.itemsize

    @property
    def block(self) -> tuple[int, int] | None:
        """Rows and columns of a block; None where sizes are open."""
        *lead, width = (self.conv.images, *self.conv.places)
        rows = math.prod(lead)
        if not isinstance(rows, int) or not isinstance(width, int):
            return None
        cuts = -(-width // self.columns)
        columns = -(-width // cuts)
        fitting = self.places // columns
        if self.is_copied:
            fitting = min(fitting, self.copy_limit // self.copied_row(columns) // self.copied_rows)
        fitting = 1 if cuts > 1 else fitting
        return -(-rows // -(-rows // fitting)), columns

    @property
    def copied_bytes(self) -> int:
        """Memory of copies of x."""
        if not self.is_copied:
            return 0
        block = self.block
        if block is None:
            return aligned(self.copy_limit)
        return aligned(block[0] * self.copied_rows * self.copied_row(block[1]))

    @property
    def converted_bytes(self) -> int:
        """Memory of copies of g."""
        places = self.places if self.block is None else math.prod(self.block)
        return aligned(places * self.conv.outputs * self.dtype.itemsize) if self.converts else 0

    # -- parts, which threads share

    @property
    def elements(self) -> int:
        """Elements of the result."""
        return math.prod(self.conv.taps) * self.inputs * self.conv.outputs

    @property
    def by_row(self) -> bool:
        """Is each row of the filter a part of its own?"""
        work = self.conv.taps[2] * min(self.inputs, self.outputs)
        return self.merged <= 1 and work >= REUSE

    @property
    def row_parts(self) -> int:
        return self.conv.taps[0] * self.conv.taps[1] if self.by_row else 1

    @property
    def per_part(self) -> int:
        """Panels of a part."""
        panels = self.panels * self.conv.groups
        if self.is_copied and self.conv.groups > 1:  # copies are of all groups
            return panels
        one = math.prod(self.conv.taps) // self.row_parts * self.panel
        most = max(1, SUMS_BYTES // (one * self.tall * self.dtype.itemsize))
        reuse = FAR_REUSE if self.asks_ahead else REUSE
        wanted = max(1, panels * self.row_parts // PARTS, -(-reuse // one))
        return -(-panels // -(-panels // min(most, wanted)))

    @property
    def parts(self) -> int:
        """Parts of the result."""
        return self.row_parts * -(-self.panels * self.conv.groups // self.per_part)

    @property
    def most_splits(self) -> int:
        """The most parts of the places."""
        fitting = PARTIAL_BYTES // (self.elements * self.dtype.itemsize)
        return max(1, min(-(-PARTS // self.parts), fitting))

    @property
    def time(self) -> int:
        """Picoseconds for each place of the output, about."""
        return int(self.conv.taps[0] * self.conv.groups * cycles(self) * CYCLE) + 1

    @property
    def split_places(self) -> int:
        """The fewest places of a split."""
        return -(-SPLIT // self.time)

    @property
    def splits(self) -> Size:
        """Parts of the places, each with a partial result of its own."""
        places = to_size(math.prod(self.conv.places) * self.conv.images)
        wanted = larger(quotient(places, self.split_places), 1)
        # min(a, b) = -max(-a, -b)
        return times(larger(times(wanted, -1), -self.most_splits), -1)

    @property
    def is_partial(self) -> bool:
        """Does a second function make the result, from what is partial, transposed or wider?"""
        return self.swapped or self.converts or self.splits != 1


def filter_tiles(conv: Convolution, registers: Registers) -> FilterTiles:
    """The tiles that take the least time."""
    if conv.is_product:  # all places are one row
        places = (1, 1, conv.images * math.prod(conv.places))
        conv = replace(conv, images=1, sizes=places, places=places)
    lanes = registers.bytes // compute_dtype(conv.dtype).itemsize
    most = (0, *((registers.count - 1 - v) // v for v in WIDTHS))
    found = []
    for swapped in (False, True):
        for merged in range(1 if swapped else conv.taps[1] + 1):
            for width in WIDTHS:
                tiles = FilterTiles(conv, lanes, swapped, width, merged, most)
                if tiles.is_possible:
                    found.append(tiles)
    return min(found, key=cycles)


def cycles(tiles: FilterTiles) -> float:
    """For each place of the output, of one group and depth."""
    taps, merged = tiles.conv.taps, tiles.merged
    widths = [tiles.width] * (tiles.panels - 1) + [-(-tiles.last // tiles.lanes)]
    if merged > 1:
        rows = [k * tiles.run for k in cut(taps[1], merged)]
        each = sum(tile_cycles(r, v) for v in widths for r in rows)
    else:
        runs = taps[1] * (1 if merged else taps[2])
        rows_of = {v: cut(tiles.run, tiles.most[v]) for v in set(widths)}
        each = runs * sum(tile_cycles(r, v) for v in widths for r in rows_of[v])
    return each * (SWAPPING if tiles.swapped else 1)


def tile_cycles(rows: int, vectors: int) -> float:
    """As the ports of a processor would have it: two vectors loaded, and two multiplied and added,
    in a cycle, the sums not sooner than 4 cycles later."""
    return max(rows * vectors / 2, (rows + vectors) / 2, 4) + 0.5


def cut(run: int, most: int) -> list[int]:
    """Even pieces of a run, the larger ones first.

    >>> cut(64, 14)
    [13, 13, 13, 13, 12]
    """
    count = -(-run // most)
    small, more = divmod(run, count)
    return [small + 1] * more + [small] * (count - more)
