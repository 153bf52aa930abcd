"""A loop nest as one LLVM function, with explicit vectors and a masked tail.

    define internal i32 @k_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the pointers of the nest's arrays, then its sizes. `lo..hi` is a part of the items that
`kernels/division.py` counts: rows (points of the parallel dims, or of the inner dim where a nest
has no others), lanes or blocks. The function returns 1 after filling `status` when a check fails.
Vectors have a fixed number of lanes whatever the CPU, so the order in which a reduction adds does
not depend on the machine; LLVM splits them to what the machine has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen import llvm_streams as streams
from graphgrad.compiler.codegen.llvm_few_vectors import FewVectors
from graphgrad.compiler.codegen.llvm_memory import Emitter
from graphgrad.compiler.codegen.llvm_pairs import paired
from graphgrad.compiler.codegen.llvm_scalar import (
    ATTRIBUTES,
    FunctionText,
    Lanes,
    ModuleParts,
    VectorEmitter,
    llvm_type,
)
from graphgrad.compiler.codegen.llvm_vectors import Mask, prefix_mask
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.division import row_bytes
from graphgrad.compiler.kernels.loops import (
    Access,
    LoopNest,
    Phase,
    Reduction,
    Stmt,
    cost,
    is_flat,
    lane_count,
)
from graphgrad.compiler.scalar.expansions import EXPANSIONS
from graphgrad.runtime.program import STATUS_THREAD

# Sweeps whose reductions feed on less than this use four accumulators a reduction, others two.
CHEAP_SWEEP = 12.0
# Rows that a cheap sweep combines before it adds to a row of column reductions: a power of two.
ROW_BLOCK = 4
# Vectors of these rows side by side, where nothing but memory keeps the loop waiting: the processor
# looks over more lines at a time.
BLOCK_VECTORS = 4


# Arrays and sizes in a line of text.
_OPERANDS = re.compile(r"%[pn]\d+")

IDENTITY = {"sum": 0, "prod": 1, "any": False, "all": True}


def identity_of(combiner: str, dtype: DType) -> float:
    """The value that changes nothing: where an empty reduction ends."""
    if combiner in IDENTITY:
        return IDENTITY[combiner]
    if dtype.is_bool:
        return combiner == "min"
    if dtype.is_floating:
        return float("-inf") if combiner == "max" else float("inf")
    return dtype.min if combiner == "max" else dtype.max  # type: ignore[no-any-return]


def combine(e: VectorEmitter, combiner: str, x: Lanes, y: Lanes) -> Lanes:
    """One step of a reduction."""
    if x.dtype.is_bool:
        both = combiner in ("all", "min", "prod")
        return e.and_(x, y) if both else e.or_(x, y)  # type: ignore[no-any-return]
    if combiner in ("max", "min"):  # whether `y`, the new one, is NaN can be known before `x` is
        return (e.maximum if combiner == "max" else e.minimum)(y, x)  # type: ignore[no-any-return]
    step = {"sum": e.add, "prod": e.mul}[combiner]
    return step(x, y)  # type: ignore[no-any-return]


def combine_all(e: VectorEmitter, s: Stmt, parts: list[Lanes]) -> Lanes:
    """The values of several rows as one, by a fixed tree of halves."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [combine(e, s.attr.combiner, a, b) for a, b in pairs]
    return parts[0]


class NestEmitter(FewVectors):
    """Emits the function of one nest."""

    def __init__(
        self, nest: LoopNest, name: str, parts: ModuleParts, width: int | None = None
    ) -> None:
        super().__init__(nest, parts, width or lane_count(nest))
        self.name = name
        self.folds: dict[int, list[str]] = {}  # cells of folded accumulators
        self.held = {}
        self.allocas: list[str] = []

    def emit(self) -> str:
        """The text of the function."""
        head = f"@{self.name}(ptr %status, i64 %lo, i64 %hi, ptr %args)"
        return self.function(head, self.parallel_loop)

    def function(self, head: str, emit_body: Callable[[], None]) -> str:
        """A function that begins with its arrays and sizes."""
        self.text, self.allocas, self.rows, self.block = FunctionText(self.parts), [], {}, "entry"
        self.prologue, self.flags, self.around = [], set(), False
        emit_body()
        if self.around:  # such stores are seen in no particular order until then
            self.text.line("fence seq_cst")
        self.text.line("ret i32 0")
        body = [*(f"  {line}" for line in self.prologue), *self.text.lines]
        self.text = FunctionText(self.parts)
        used = {word for line in body for word in _OPERANDS.findall(line)}
        count = len(self.nest.arrays)
        arrays = [(i, a) for i, a in enumerate(self.nest.arrays) if f"%p{i}" in used]
        rows = {}  # of arrays with a row for each thread: its bytes
        if self.nest.division is not None:
            rows = {i: self.size(row_bytes(self.nest, a)) for i, a in arrays if a.role == "scratch"}
        for i, _ in arrays:
            name = f"%all{i}" if i in rows else f"%p{i}"
            self.text.line(f"%pp{i} = getelementptr ptr, ptr %args, i64 {i}")
            self.text.line(f"{name} = load ptr, ptr %pp{i}")
        for i in range(len(self.sizes)):
            if f"%n{i}" in used or f"%n{i}" in rows.values():
                self.text.line(f"%np{i} = getelementptr i64, ptr %args, i64 {count + i}")
                self.text.line(f"%n{i} = load i64, ptr %np{i}")
        if rows:
            self.text.line(f"%tp = getelementptr i64, ptr %status, i64 {STATUS_THREAD}")
            self.text.line("%thread = load i64, ptr %tp")
        for i, size in rows.items():
            self.text.line(f"%before{i} = mul i64 %thread, {size}")
            self.text.line(f"%p{i} = getelementptr i8, ptr %all{i}, i64 %before{i}")
        begin = [f"define internal i32 {head} {ATTRIBUTES} {{", "entry:", *self.text.lines]
        return "\n".join([*begin, *(f"  {line}" for line in self.allocas), *body, "}"])

    # -- control flow

    def over(self, dims: Sequence[int], body: Callable[[], None]) -> None:
        """Nested loops over whole dims."""
        if not dims:
            body()
            return

        def inside(index: str, _: list[str]) -> list[str]:
            self.dim_values[dims[0]] = index
            self.over(dims[1:], body)
            return []

        self.loop("0", self.extent(dims[0]), 1, [], inside)

    def parallel_loop(self) -> None:
        nest = self.nest
        if nest.parallel == 0:
            part = is_flat(nest) or (nest.division is not None and nest.division.kind == "lanes")
            self.one_row("%lo" if part else "0", "%hi" if part else None)
            return

        def inside(index: str, _: list[str]) -> list[str]:
            self.place(index, nest.parallel)
            self.one_row("0", None)
            return []

        self.loop("%lo", "%hi", 1, [], inside)

    def place(self, index: str, count: int) -> None:
        """Set the indices of the first `count` dims, of whose points this is number `index`."""
        rest = index
        for d in range(count - 1, 0, -1):
            quotient, remainder = "%" + self.text.name("q"), "%" + self.text.name("r")
            self.text.line(f"{quotient} = udiv i64 {rest}, {self.extent(d)}")
            self.text.line(f"{remainder} = urem i64 {rest}, {self.extent(d)}")
            self.dim_values[d], rest = remainder, quotient
        self.dim_values[0] = rest

    def one_row(self, lo: str, hi: str | None) -> None:
        """One point of the parallel dims: start the folds, run them, finish."""
        nest = self.nest
        self.rows = {}
        self.start_folds(lo, hi)
        if nest.folded:
            self.fold("0", self.extent(nest.parallel), lo, hi)
        else:
            self.phases(nest.main, lo, hi)
        self.finish_folds()
        self.phases(nest.tail, lo, hi)

    def phases(self, phases: Sequence[Phase], lo: str, hi: str | None) -> None:
        for phase in phases:
            if phase.kind == "row":
                self.row(phase)
            else:
                self.sweep(phase, lo, hi)

    # -- folds

    @property
    def adds_rows_together(self) -> bool:
        """Is the loop a cheap sweep with column reductions, bound by what it moves? Then several
        rows are combined before they go to the row that accumulates: less of it is moved. A small
        one that stores its elements as well would only have more arrays under way at once."""
        nest = self.nest
        if nest.folded != 1 or [p.kind for p in nest.main] != ["sweep"]:
            return False
        stmts = nest.main[0].stmts
        columns = any(s.fn == "reduce" and s.attr.kind == "column" for s in stmts)
        if any(s.fn == "store" for s in stmts) and self.exceeds(streams.FETCHED_BYTES) == "false":
            return False
        return columns and sum(cost(s.fn) for s in stmts) < CHEAP_SWEEP

    def fold(self, begin: str, end: str, lo: str, hi: str | None) -> None:
        """The loop over the folded dims, of the first of them over begin..end."""
        if self.adds_rows_together:
            self.fold_rows_together(begin, end, lo, hi)
        else:
            self.fold_rows(begin, end, lo, hi)

    def fold_rows(self, begin: str, end: str, lo: str, hi: str | None) -> None:
        """The folded loop, a row at a time."""
        first, after = self.nest.parallel, self.nest.parallel + self.nest.folded
        rest = list(range(first + 1, after))

        def row(index: str) -> None:
            self.dim_values[first] = index
            self.over(rest, lambda: self.phases(self.nest.main, lo, hi))

        def inside(index: str, _: list[str]) -> list[str]:
            row(index)
            return []

        columns = [s for _, s in self.fold_stmts() if s.attr.kind == "column"]
        if not rest and self.can_hold(columns, lo, hi):
            self.holding(columns, begin, end, row)
        else:
            self.loop(begin, end, 1, [], inside)

    def fold_rows_together(self, begin: str, end: str, lo: str, hi: str | None) -> None:
        """The folded loop, `ROW_BLOCK` rows at a time, then single rows."""
        (phase,) = self.nest.main
        length = self.arith("sub", end, begin) if begin != "0" else end
        whole = self.arith("add", begin, self.arith("and", length, str(-ROW_BLOCK)))

        def block(index: str, _: list[str]) -> list[str]:
            rows = [self.arith("add", index, str(u)) for u in range(ROW_BLOCK)]
            self.sweep(phase, lo, hi, rows)
            return []

        def single(index: str, _: list[str]) -> list[str]:
            self.sweep(phase, lo, hi, [index])
            return []

        self.loop(begin, whole, ROW_BLOCK, [], block)
        self.loop(whole, end, 1, [], single)

    def fold_stmts(self) -> list[tuple[Phase, Stmt]]:
        return [
            (phase, s)
            for phase in self.nest.main
            for s in phase.stmts
            if s.fn == "reduce" and s.attr.kind != "row"
        ]

    def start_folds(self, lo: str, hi: str | None) -> None:
        """Set accumulators of full reductions and rows of column reductions to the identity."""
        for phase, s in self.fold_stmts():
            reduction: Reduction = s.attr
            if reduction.kind == "column":
                self.fill_row(s, self.column(s), lo, hi)
                continue
            sweeping = phase.kind == "sweep"
            e = VectorEmitter(self.text, self.width if sweeping else 1)
            start = e.const(identity_of(reduction.combiner, s.dtype), s.dtype)
            cells = []
            for _ in range(self.unroll(phase) if sweeping else 1):
                cell = "%" + self.text.name("acc")
                self.allocas.append(f"{cell} = alloca {e.type(s.dtype)}, align 64")
                self.text.line(f"store {e.typed(start)}, ptr {cell}")
                cells.append(cell)
            self.folds[s.id] = cells

    def fill_row(self, s: Stmt, access: Access, lo: str, hi: str | None) -> None:
        """Set a row of column reductions to the identity."""

        def body(e: VectorEmitter, index: str, mask: Mask, accs: list[str]) -> list[str]:
            value = e.const(identity_of(s.attr.combiner, s.dtype), s.dtype)
            self.store(e, access, value, index, mask)
            return accs

        self.inner_loops(lo, hi, 1, [], body, [])

    def finish_folds(self) -> None:
        """Full reductions as row-level values for the tail."""
        for phase, s in self.fold_stmts():
            if s.attr.kind == "full":
                width = self.width if phase.kind == "sweep" else 1
                e = VectorEmitter(self.text, width)
                parts = []
                for cell in self.folds[s.id]:
                    name = "%" + self.text.name()
                    self.text.line(f"{name} = load {e.type(s.dtype)}, ptr {cell}")
                    parts.append(Lanes(name, s.dtype))
                self.rows[s.id] = self.horizontal(s.attr.combiner, parts, width)

    def horizontal(self, combiner: str, parts: list[Lanes], width: int) -> Lanes:
        """Combine accumulators, then lanes, by a fixed tree of halves."""
        e = VectorEmitter(self.text, width, self.block)
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [
                combine(e, combiner, a, b) for a, b in zip(parts[:half], parts[half:], strict=True)
            ]
        value = parts[0]
        while width > 1:
            half = width // 2
            upper, lower = "%" + self.text.name(), "%" + self.text.name()
            vector = f"<{width} x {llvm_type(value.dtype)}>"
            for name, start in ((lower, 0), (upper, half)):
                lanes = ", ".join(f"i32 {start + k}" for k in range(half))
                both = f"{vector} {value.text}, {vector} poison"
                self.text.line(f"{name} = shufflevector {both}, <{half} x i32> <{lanes}>")
            width = half
            if width == 1:
                lower, upper = (
                    self.scalar_of(lower, value.dtype),
                    self.scalar_of(upper, value.dtype),
                )
            e = VectorEmitter(self.text, width, self.block)
            value = combine(e, combiner, Lanes(lower, value.dtype), Lanes(upper, value.dtype))
        return value

    def scalar_of(self, vector: str, dtype: DType) -> str:
        name = "%" + self.text.name()
        self.text.line(f"{name} = extractelement <1 x {llvm_type(dtype)}> {vector}, i64 0")
        return name

    # -- rows

    def row(self, phase: Phase) -> None:
        e = Emitter(self, 1, "0", Mask())
        for s in phase.stmts:
            if s.fn == "reduce":
                cell = self.folds[s.id][0]
                name = "%" + self.text.name()
                self.text.line(f"{name} = load {e.type(s.dtype)}, ptr {cell}")
                total = combine(e, s.attr.combiner, Lanes(name, s.dtype), self.rows[s.args[0]])
                self.text.line(f"store {e.typed(total)}, ptr {cell}")
            else:
                self.statement(e, s, self.rows)
        self.block = e.label or self.block

    # -- sweeps

    def unroll(self, phase: Phase) -> int:
        """Vectors in flight: several accumulators hide the latency of a reduction."""
        reductions = [s for s in phase.stmts if s.fn == "reduce" and s.attr.kind != "column"]
        last = self.nest.dims[-1] if self.nest.inner else 1
        if not reductions and self.adds_rows_together:
            narrow = isinstance(last, int) and last < BLOCK_VECTORS * self.width
            small = self.exceeds(streams.FETCHED_BYTES) == "false"
            stores = any(s.fn == "store" for s in phase.stmts)
            return 1 if narrow or small or stores else BLOCK_VECTORS
        if not reductions or (isinstance(last, int) and last < 2 * self.width):
            return 1
        most = 4 if sum(cost(s.fn) for s in phase.stmts) < CHEAP_SWEEP else 2
        return most if not isinstance(last, int) or last >= most * self.width else 2

    def sweep(self, phase: Phase, lo: str, hi: str | None, rows: Sequence[str] = ()) -> None:
        """Loop over the inner dims; reductions run in `unroll` accumulators each.

        `rows` are indices of the folded dim that are swept together.
        """
        reductions = [s for s in phase.stmts if s.fn == "reduce" and s.attr.kind != "column"]
        columns = [s for s in phase.stmts if s.fn == "reduce" and s.attr.kind == "column"]
        count = self.unroll(phase)
        pairs = self.parts.mask_registers and paired(self.nest, phase, self.width)
        wide = self.width * (2 if pairs else 1)
        splats = {width: self.splat_rows(phase, width) for width in {self.width, wide}}
        starts = self.start_accumulators(reductions, count)
        self.row_block = (rows, 0)

        def body(e: VectorEmitter, index: str, mask: Mask, accs: list[str]) -> list[str]:
            assert isinstance(e, Emitter)
            found: dict[int, list[Lanes]] = {s.id: [] for s in (*columns, *reductions)}
            for k, row in enumerate(rows or (None,)):
                if row is not None:
                    self.dim_values[self.nest.parallel] = row
                    self.row_block = (rows, k)
                values = dict(splats[e.width])
                for s in phase.stmts:
                    if s.fn != "reduce":
                        self.statement(e, s, values)
                    else:
                        found[s.id].append(values[s.args[0]])
            for s in columns:
                self.accumulate_column(e, s, combine_all(e, s, found[s.id]), index, mask)
            ends = []
            for s, acc in zip(reductions, accs, strict=True):
                new = self.masked(e, s, combine_all(e, s, found[s.id]), mask)
                ends.append(combine(e, s.attr.combiner, Lanes(acc, s.dtype), new).text)
            return ends

        if not pairs and self.is_written_out(phase, lo, hi, max(len(rows), 1)):
            finals = self.vectors(count, starts, body, len(reductions))
        else:
            finals = self.inner_loops(lo, hi, count, starts, body, reductions, wide)
        self.end_accumulators(reductions, count, finals)

    def splat_rows(self, phase: Phase, width: int) -> dict[int, Lanes]:
        """Row-level values that the sweep reads, in every one of `width` lanes."""
        own = {s.id for s in phase.stmts}
        read = dict.fromkeys(a for s in phase.stmts for a in s.args if a not in own)
        with self.lanes(width):
            return {i: self.splat(self.rows[i]) for i in read}

    def start_accumulators(self, reductions: list[Stmt], count: int) -> list[tuple[str, str]]:
        """(type, start) of every accumulator: identities, or where a full reduction stands."""
        e = VectorEmitter(self.text, self.width)
        starts = []
        for u in range(count):
            for s in reductions:
                if s.attr.kind == "full":
                    name = "%" + self.text.name()
                    self.text.line(f"{name} = load {e.type(s.dtype)}, ptr {self.folds[s.id][u]}")
                    starts.append((e.type(s.dtype), name))
                else:
                    start = e.const(identity_of(s.attr.combiner, s.dtype), s.dtype)
                    starts.append((e.type(s.dtype), start.text))
        return starts

    def end_accumulators(self, reductions: list[Stmt], count: int, finals: list[str]) -> None:
        for k, s in enumerate(reductions):
            parts = [Lanes(finals[u * len(reductions) + k], s.dtype) for u in range(count)]
            if s.attr.kind == "full":
                e = VectorEmitter(self.text, self.width)
                for cell, part in zip(self.folds[s.id], parts, strict=True):
                    self.text.line(f"store {e.typed(part)}, ptr {cell}")
            else:
                self.rows[s.id] = self.horizontal(s.attr.combiner, parts, self.width)

    def masked(self, e: VectorEmitter, s: Stmt, x: Lanes, mask: Mask) -> Lanes:
        """`x`, with the identity in lanes outside."""
        if mask.text is None:
            return x
        outside = e.const(identity_of(s.attr.combiner, s.dtype), s.dtype)
        return e.select(Lanes(mask.text, dtypes.bool_), x, outside)  # type: ignore[no-any-return]

    def column(self, s: Stmt) -> Access:
        """Where a column reduction accumulates."""
        access: Access = s.attr.row
        return access

    def accumulate_column(
        self, e: VectorEmitter, s: Stmt, x: Lanes, index: str, mask: Mask
    ) -> None:
        if (s.id, index) in self.held:
            self.held[s.id, index] = combine(e, s.attr.combiner, self.held[s.id, index], x)
            return
        row = self.column(s)
        old = self.load(e, row, s.dtype, index, mask)
        self.store(e, row, combine(e, s.attr.combiner, old, x), index, mask)

    def inner_loops(
        self, lo: str, hi: str | None, count: int, starts: list[tuple[str, str]],
        body: Callable[[VectorEmitter, str, Mask, list[str]], list[str]], reductions: list[Stmt],
        wide: int = 0,
    ) -> list[str]:  # fmt: skip
        """Scalar loops over the leading inner dims, a vector loop over the last."""
        first, last = len(self.nest.dims) - self.nest.inner, len(self.nest.dims) - 1

        def level(d: int, accs: list[tuple[str, str]]) -> list[str]:
            if d >= last:
                return self.vector_loop(lo, hi, count, accs, body, len(reductions), wide)

            def inside(index: str, carried: list[str]) -> list[str]:
                self.dim_values[d] = index
                return level(d + 1, [(t, c) for (t, _), c in zip(accs, carried, strict=True)])

            return self.loop("0", self.extent(d), 1, accs, inside)

        return level(first, starts)

    def vector_loop(
        self, lo: str, hi: str | None, count: int, accs: list[tuple[str, str]],
        body: Callable[[VectorEmitter, str, Mask, list[str]], list[str]], per: int = 0,
        wide: int = 0,
    ) -> list[str]:  # fmt: skip
        """`count` vectors of `wide` lanes at a time, then single masked vectors of the usual
        width, whole ones first where there are no accumulators; `per` of these a vector."""
        if not self.nest.inner:
            return self.single(accs, body)
        extent = self.nest.dims[-1]
        types = [t for t, _ in accs]
        end = hi if hi is not None else self.extent(len(self.nest.dims) - 1)
        finals = [start for _, start in accs]
        at = lo
        if not (isinstance(extent, int) and extent < self.width and hi is None):
            width = wide or self.width
            length = self.arith("sub", end, lo) if lo != "0" else end

            def vectors(several: int, start: str) -> tuple[str, list[str]]:
                stop = self.arith("add", lo, self.arith("and", length, str(-several * width)))

                def main(index: str, carried: list[str]) -> list[str]:
                    ends: list[str] = []
                    with self.lanes(width):
                        for u in range(several):
                            here = self.arith("add", index, str(u * width))
                            ends += self.at(here, Mask(), carried[u * per : (u + 1) * per], body)
                    return ends

                return stop, self.loop(start, stop, several * width, accs, main)

            at, finals = vectors(count, lo)
            if count > 1 and not accs:  # stores under a mask keep the next loads waiting
                at, _ = vectors(1, at)

        def rest(index: str, carried: list[str]) -> list[str]:
            mask = self.tail_mask(index, end)
            return self.at(index, Mask(mask), carried, body)

        if isinstance(extent, int) and extent < self.width and hi is None:
            tail = rest("0", finals[:per])
        else:
            tail = self.loop(
                at, end, self.width, list(zip(types[:per], finals[:per], strict=True)), rest
            )
        return [*tail, *finals[per:]]

    def single(
        self, accs: list[tuple[str, str]],
        body: Callable[[VectorEmitter, str, Mask, list[str]], list[str]],
    ) -> list[str]:  # fmt: skip
        """A sweep of a nest without dims: one element, in the first lane."""
        return self.at("0", Mask(prefix_mask(1, self.width)), [start for _, start in accs], body)

    def tail_mask(self, index: str, end: str) -> str:
        """Lanes whose index is below `end`."""
        lanes = ", ".join(f"i64 {k}" for k in range(self.width))
        left = self.arith("sub", end, index) if index != "0" else end
        if self.parts.mask_registers and left.isdigit() and int(left) > 1:
            # Read the size, so that the mask is made once, before the loop. A known mask is made
            # again in each row, through the low half of a register whose old value it waits for.
            left = self.size(int(left))
        if left.lstrip("-").isdigit():
            return prefix_mask(int(left), self.width)
        counts = self.splat(Lanes(left, dtypes.int64))
        name = "%" + self.text.name("m")
        self.text.line(f"{name} = icmp slt <{self.width} x i64> <{lanes}>, {counts.text}")
        return name

    # -- statements

    def statement(self, e: Emitter, s: Stmt, values: dict[int, Lanes]) -> None:
        """Emit one statement other than a reduction."""
        args = tuple(values[a] for a in s.args)
        e.failures = dict(s.failures)
        if s.fn == "load":
            if s.id in self.fetched:
                self.fetch_ahead(e, s.attr, s.dtype)
            values[s.id] = self.load(e, s.attr, s.dtype, e.index_text, e.mask)
        elif s.fn == "store":
            self.store(e, s.attr, args[0], e.index_text, e.mask)
        elif s.fn == "load_at":
            values[s.id] = self.load_at(e, s, args[0])
        elif s.fn == "load_in":
            values[s.id] = self.load_in(e, s, args[0])
        elif s.fn == "index":
            values[s.id] = self.positions(e, s.attr)
        elif s.fn == "size":
            size = Lanes(self.size(s.attr), dtypes.int64)
            values[s.id] = size if e.width == 1 else self.splat(size)
        elif s.fn in EXPANSIONS:
            values[s.id] = e.named(s.fn, args, s.attr)
        else:
            values[s.id] = e.primitive(s.fn, args, s.dtype, s.attr)
