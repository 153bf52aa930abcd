"""How a kernel's work is cut into pieces, so that several threads can share it.

Everything here follows from the extents of the nest, so results do not depend on the number of
threads:

- rows: the parallel dims are cut into chunks; no row knows of another.
- blocks: a fold is cut into blocks, whose partial results are combined in order. One thread works
  by the same blocks.
- lanes: where a fold is short and its rows are long, the inner dim is cut instead, if all that is
  reduced are columns.

Times are estimates in picoseconds, so that a piece is long enough to be worth handing to a thread.
"""

from __future__ import annotations

from dataclasses import replace

from graphgrad.compiler.dims import Extent, to_size
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.loops import (
    PICKED_STRIDE,
    Array,
    Division,
    LoopNest,
    Phase,
    Stmt,
    cost,
    is_flat,
)
from graphgrad.compiler.kernels.memory_plan import ALIGNMENT
from graphgrad.compiler.kernels.pools import Pool
from graphgrad.compiler.kernels.products import PANEL_BYTES, Product
from graphgrad.compiler.kernels.short_rows import has_rows_in_lanes, is_narrow
from graphgrad.compiler.kernels.tiles import crosswise
from graphgrad.compiler.kernels.wide_folds import rows_in_one
from graphgrad.compiler.types import element_count
from graphgrad.runtime.program import THREADS, Size, evaluate

# Waking a thread that sleeps takes about 20 microseconds: work below this stays on one thread, ...
LEAST = 40_000_000
# ... and longer work is cut into chunks of at least this, and at most so many.
CHUNK = 16_000_000
CHUNKS = 64
# A piece of the inner dim is a multiple of this: whole vectors, whatever the unrolling.
LANES = 64
# A block holds at least so many rows where a row of partial results has to be written for each.
BLOCK_ROWS = 64

# Picoseconds of one cheap vector instruction an element of 32 bits, of a byte that is moved in a
# sweep, of an element that is not beside its neighbour, of one that moves by way of a tile, of a
# scalar instruction, and of a row.
INSTRUCTION, BYTE, APART, TURNED, SCALAR, ROW = 6, 6, 600, 100, 400, 10_000
# Picoseconds of a multiplication and addition in a product.
MAC = {"sgemm": 10, "dgemm": 20, "sgemv": 24, "dgemv": 48, "sdot": 48, "ddot": 96}
# Picoseconds of an element of a window in pooling.
TAP = {"max_pool": 50, "mean_pool": 40, "max_pool_tangent": 100, "max_pool_gradient": 130,
       "mean_pool_gradient": 60}  # fmt: skip
# The BLAS keeps products with fewer multiplications on one thread by itself, also with vectors.
SMALL_PRODUCT, SMALL_VECTOR_PRODUCT = 1 << 18, 1 << 13
# Rows or columns of a product go to threads in multiples of this, and rows that run together.
TILE = 16
# The kernel of a tall product takes so many rows at once.
ROW_TILE = 8


def divided(nest: LoopNest) -> LoopNest:
    """`nest` with its division, if it is, or may be, worth sharing."""
    division = division_of(nest)
    return replace(nest, division=division)


def division_of(nest: LoopNest) -> Division | None:
    row = row_time(nest)
    if is_flat(nest):
        return chunks("rows", to_size(nest.dims[0]), element_time(nest, nest.main), LANES)
    if nest.parallel:
        rows = to_size(element_count(nest.dims[: nest.parallel]))
        narrow = is_narrow(nest) or has_rows_in_lanes(nest)
        if narrow:  # no row has a vector of its own
            row = times(to_size(nest.dims[-1]), element_time(nest, nest.main))
        several = (narrow or crosswise(nest)) and may_exceed(rows, 4 * TILE)
        return chunks("rows", rows, row, TILE if several else 1)
    if not nest.dims or not nest.main:
        return None
    if has_only_columns(nest) and is_short(nest.dims[0]):
        per_lane = times(element_time(nest, nest.main), to_size(nest.dims[0]))
        lanes = chunks("lanes", to_size(nest.dims[-1]), per_lane, LANES)
        return lanes if lanes is not None and may_exceed(lanes.count, lanes.least) else None
    if not folds(nest):
        return None
    if nest.folded:
        rest = to_size(element_count(nest.dims[1 : nest.folded]))
        columns = any(s.attr.kind == "column" for s in folds(nest))
        together = rows_in_one(nest)
        if columns and together > 1:
            return wide_blocks(nest, together)
        return blocks(to_size(nest.dims[0]), times(row, rest), BLOCK_ROWS if columns else 4)
    if nest.inner > 1 or any(s.fn == "reduce" and s.attr.kind == "row" for s in nest.statements()):
        return None
    return blocks(to_size(nest.dims[0]), element_time(nest, nest.main), LANES)


def chunks(kind: str, count: Size, time: Size, multiple: int = 1) -> Division | None:
    """Pieces of `count` items that take `time` each."""
    if isinstance(count, int) and count <= multiple:
        return None
    least, grain = smallest(LEAST, time), smallest(CHUNK, time)
    even = quotient(total(count, CHUNKS - 1), CHUNKS)
    return Division(kind, count, least, up(larger(grain, even), multiple))


def blocks(extent: Size, time: Size, multiple: int) -> Division | None:
    """Blocks of a folded dim: each gives partial results."""
    even = quotient(total(extent, CHUNKS - 1), CHUNKS)
    block = up(larger(smallest(CHUNK, time), even), multiple)
    count = larger(quotient(total(extent, total(block, -1)), block), 1)
    return None if count == 1 else Division("blocks", count, 1, 1, block)


def wide_blocks(nest: LoopNest, together: int) -> Division | None:
    """Blocks of a fold that runs `together` rows as one; a single one, too, of more than a few."""
    rows, n = to_size(nest.dims[0]), to_size(nest.dims[1])
    if isinstance(rows, int) and rows < 4 * together:
        return None
    time = times(n, element_time(nest, nest.main))
    found = blocks(rows, time, -(-BLOCK_ROWS // together) * together)
    return found or Division("blocks", 1, 1, 1, up(rows, together))


def product_division(macs: Size, count: Size, routine: str, tile: int = TILE) -> Division:
    """Pieces of a product: `count` rows, columns or matrices with so many multiplications each.

    A product cannot be cut without packing its operands again, so there is a piece for each thread
    and no more.
    """
    small = SMALL_PRODUCT if routine.endswith("gemm") else SMALL_VECTOR_PRODUCT
    least = quotient(small, larger(macs, 1))
    share = quotient(total(count, total(THREADS, -1)), THREADS)
    grain = larger(share, smallest(CHUNK, times(macs, MAC[routine])))
    return Division("product", count, least, up(grain, tile))


def small_product_division(product: Product) -> Division | None:
    """Pieces of the kernel of a small product."""
    m, n, k = map(to_size, product.sizes)
    multiple = 1
    if product.batch is not None:
        macs = times(times(m, n), k)
    elif product.is_slim:
        macs = times(times(m, PANEL_BYTES // product.dtype.itemsize), k)
    else:
        macs, multiple = times(n, k), ROW_TILE
    time = total(times(macs, MAC[product.routine]), SCALAR)
    return chunks("rows", to_size(product.parts), time, multiple)


def pool_division(pool: Pool) -> Division | None:
    """Pieces of the kernel of a pooling operation."""
    time = times(to_size(pool.windows), pool.taps * TAP[pool.routine])
    return chunks("rows", to_size(pool.parts), time)


# -- what others ask


def in_blocks(nest: LoopNest) -> bool:
    """Is the nest a fold in blocks, with arrays for partial results?"""
    return nest.division is not None and nest.division.kind == "blocks"


def row_bytes(nest: LoopNest, array: Array) -> Size:
    """The bytes that one thread's row of a scratch array takes."""
    elements = element_count(nest.dims[len(nest.dims) - nest.inner :])
    return up(to_size(elements * array.dtype.itemsize), ALIGNMENT)


def partials(nest: LoopNest) -> list[tuple[DType, Size, Size]]:
    """The arrays for partial results: their dtypes, how many there are, and elements of each."""
    if not in_blocks(nest):
        return []
    assert nest.division is not None
    count = nest.division.count
    inner = element_count(nest.dims[len(nest.dims) - nest.inner :])
    row = times(to_size(inner), rows_in_one(nest))
    return [(s.dtype, count, row if s.attr.kind == "column" else 1) for s in folds(nest)]


def folds(nest: LoopNest) -> list[Stmt]:
    """The reductions over the folded dims."""
    return [s for p in nest.main for s in p.stmts if s.fn == "reduce" and s.attr.kind != "row"]


def has_only_columns(nest: LoopNest) -> bool:
    """Are the columns of a fold independent of each other?"""
    return (
        nest.folded == 1
        and nest.inner == 1
        and all(p.kind == "sweep" for p in nest.phases)
        and all(s.attr.kind == "column" for s in nest.statements() if s.fn == "reduce")
    )


def may_exceed(a: Size, b: Size) -> bool:
    return not isinstance(a, int) or not isinstance(b, int) or a > b


def is_short(extent: Extent) -> bool:
    return isinstance(extent, int) and extent < 2 * BLOCK_ROWS


# -- times


def row_time(nest: LoopNest) -> Size:
    """The time of one row: of one point of the parallel dims with all its folds, or of one point of
    the folded dims where there are no others."""
    folded: Size = 1
    if nest.parallel:
        folded = to_size(element_count(nest.dims[nest.parallel : nest.parallel + nest.folded]))
    main = phases_time(nest, nest.main)
    if not nest.parallel:
        return main
    return total(times(main, folded), phases_time(nest, nest.tail))


def phases_time(nest: LoopNest, phases: tuple[Phase, ...]) -> Size:
    inner = to_size(element_count(nest.dims[len(nest.dims) - nest.inner :]))
    # Vectors are whole: a short row takes as long as one vector.
    elements = up(inner, 16) if isinstance(inner, int) else total(inner, 8)
    scalars = sum(cost(s.fn) for p in phases if p.kind == "row" for s in p.stmts)
    rows = ROW * sum(p.kind == "sweep" for p in phases) + int(SCALAR * scalars)
    sweeps = tuple(p for p in phases if p.kind == "sweep")
    return total(times(elements, element_time(nest, sweeps)), rows)


def element_time(nest: LoopNest, phases: tuple[Phase, ...]) -> int:
    """The time of one element of the sweeps among `phases`."""
    time = 1
    turned = {s.id for s in crosswise(nest)}
    for s in (s for p in phases if p.kind == "sweep" for s in p.stmts):
        if s.id in turned:
            time += TURNED
        elif s.fn in ("load", "store", "load_at", "load_in"):
            stride = s.attr.at.strides[-1] if s.attr.at.strides else 0
            near = 1 if s.fn == "store" else PICKED_STRIDE
            known = s.attr.bounds is None and isinstance(stride, int) and abs(stride) <= near
            time += s.dtype.itemsize * BYTE * max(1, abs(stride)) if known else APART
        else:
            time += int(INSTRUCTION * cost(s.fn) * max(1, s.dtype.itemsize // 4))
    return time


def smallest(time: int, one: Size) -> Size:
    """How many items of time `one` take `time`: at least one."""
    return larger(quotient(time, larger(one, 1)), 1)


# -- sizes, computed now where all is known


def total(a: Size, b: Size) -> Size:
    return combined("+", a, b)


def times(a: Size, b: Size) -> Size:
    return combined("*", a, b)


def quotient(a: Size, b: Size) -> Size:
    return combined("//", a, b)


def larger(a: Size, b: Size) -> Size:
    return combined("max", a, b)


def up(a: Size, multiple: int) -> Size:
    return a if multiple == 1 else combined("up", a, multiple)


def combined(kind: str, a: Size, b: Size) -> Size:
    size = (kind, a, b)
    return evaluate(size, ()) if isinstance(a, int) and isinstance(b, int) else size
