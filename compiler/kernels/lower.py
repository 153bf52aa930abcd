"""A fused group as a loop nest: which statement runs in which phase.

Time runs along the phases of a row. An element-level value has the time of the sweep in which its
inputs are known first; a row reduction is known one later. A value that a later sweep needs again
is computed again when that is cheap, loaded again where it has memory, and else kept in a scratch
row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Elementwise, Generator, Reduce
from graphgrad.compiler.ir import Node, Value
from graphgrad.compiler.kernels.fusion import Fusion
from graphgrad.compiler.kernels.groups import (
    Group,
    Member,
    Partition,
    gather_axes,
    is_gather,
    is_inline,
    is_padding,
    unpadded,
)
from graphgrad.compiler.kernels.index_maps import Index, Indices, flatten, row_major
from graphgrad.compiler.kernels.loops import (
    Access,
    Affine,
    Array,
    Body,
    Counter,
    Lane,
    LoopNest,
    Phase,
    Reduction,
    compute_dtype,
)  # fmt: skip
from graphgrad.compiler.kernels.merge import merge_dims, trailing_run
from graphgrad.compiler.kernels.tiles import in_tiles
from graphgrad.compiler.kernels.turn import turn
from graphgrad.compiler.op import Attrs
from graphgrad.compiler.scalar.costs import element_cost

# A value is kept for a later sweep when computing it again costs more than this.
KEEP_COST = 8.0
# Scratch rows longer than this would leave the cache: compute again instead.
SCRATCH_LIMIT = 65536


@dataclass
class Lowered:
    """A nest with what its arrays are: a graph value, or None for scratch (with its extents)."""

    nest: LoopNest
    values: list[Value | None]
    scratch: dict[int, tuple[Extent, ...]]
    storage: list[Any] = field(
        default_factory=list
    )  # where the arrays lie, filled in by the driver


@dataclass
class GroupLowering:
    """Builds the nest of one group under one partition of its axes."""

    fusion: Fusion
    group: Group
    stored: set[Value]
    failures: Callable[[Node], tuple[tuple[str, int], ...]]  # numbers the checks of a node
    arrays: list[Array] = field(default_factory=list)
    values: list[Value | None] = field(default_factory=list)
    numbers: dict[str, dict[Value, int]] = field(default_factory=lambda: {"in": {}, "out": {}})
    scratch: dict[int, tuple[Extent, ...]] = field(default_factory=dict)
    counter: Counter = field(default_factory=Counter)
    lanes: dict[Value, Lane] = field(default_factory=dict)  # row-level members
    rows: dict[Any, Lane] = field(default_factory=dict)  # row-level loads
    kept: dict[Value, Access] = field(default_factory=dict)  # element values with memory
    columns: dict[Value, Access] = field(default_factory=dict)
    written: set[Value] = field(default_factory=set)  # element values that a sweep has stored

    def __post_init__(self) -> None:
        roles = self.group.partition
        self.order = (*roles.parallel, *roles.folded, *roles.inner)
        self.inner = frozenset(roles.inner)
        self.members = list(self.group.members.values())
        self.time: dict[Value, int] = {}

    # -- the whole nest

    def build(self) -> Lowered:
        self.schedule()
        main, tail = self.main_phases(), self.tail_phases()
        dims = tuple(self.group.shape[a] for a in self.order)
        roles = self.group.partition
        title = ", ".join(dict.fromkeys(m.node.op.name for m in self.members))
        nest = LoopNest(
            dims,
            len(roles.parallel),
            len(roles.folded),
            tuple(self.arrays),
            tuple(main),
            tuple(tail),
            title,
        )
        return Lowered(nest, self.values, self.scratch)

    def schedule(self) -> None:
        """The time of each member of the main phases."""
        for m in self.members:
            if m.late and not isinstance(m.node.op, Reduce):
                continue
            inputs = [self.time[s] for s in self.internal(m) if s in self.time]
            self.time[m.node.out] = max(inputs, default=0) + (
                1
                if isinstance(m.node.op, Reduce) and not m.late and self.elementwise_input(m)
                else 0
            )

    def internal(self, m: Member) -> list[Value]:
        """The members that `m` reads."""
        return [s for s in m.reads if s in self.group.members]

    def is_row(self, m: Member) -> bool:
        return not (m.axes & self.inner)

    def elementwise_input(self, m: Member) -> bool:
        """Does a reduction read element-level values (else row-level ones)?"""
        return bool(self.domain_axes(m) & self.inner)

    def domain_axes(self, m: Member) -> frozenset[int]:
        return frozenset(a for x in m.domain for a, _ in x.steps)

    # -- main phases

    def main_phases(self) -> list[Phase]:
        sinks = self.element_sinks()
        row_members: dict[int, list[Member]] = {}
        for m in self.members:
            if m.node.out in self.time and self.is_main_row(m):
                row_members.setdefault(self.time[m.node.out], []).append(m)
        last = max([*sinks, *row_members], default=0)
        needed = self.needed_in_sweeps(sinks, last)
        phases = []
        for k in range(last + 1):
            row = self.body()
            for m in row_members.get(k, []):
                self.row_member(m, row)
            sweep = self.sweep(k, needed.get(k, set()), sinks.get(k, []), row)
            phases += [Phase("row", tuple(row.stmts)), Phase("sweep", tuple(sweep.stmts))]
        return [p for p in phases if p.stmts]

    def body(self) -> Body:
        return Body(self.counter)

    def is_main_row(self, m: Member) -> bool:
        """Is `m` computed in a row phase of the main part?"""
        if isinstance(m.node.op, Reduce):
            return not self.elementwise_input(m) or (not m.late and m.node.out in self.stored)
        return self.is_row(m)

    def element_sinks(self) -> dict[int, list[Member]]:
        """What each sweep is for: members to store, and reductions of element-level values."""
        sinks: dict[int, list[Member]] = {}
        for m in self.members:
            v = m.node.out
            if v not in self.time:
                continue
            if isinstance(m.node.op, Reduce):
                if self.elementwise_input(m):
                    sinks.setdefault(self.time[v] - (0 if m.late else 1), []).append(m)
            elif not self.is_row(m) and v in self.stored:
                sinks.setdefault(self.time[v], []).append(m)
        return sinks

    def needed_in_sweeps(self, sinks: dict[int, list[Member]], last: int) -> dict[int, set[Value]]:
        """The element-level members computed in each sweep; decides which are kept for later."""
        needed = {k: self.closure(sinks.get(k, []), set()) for k in range(last + 1)}
        kept: set[Value] = set()
        for k in range(1, last + 1):
            earlier = set().union(*(needed[j] for j in range(k)))
            for v in [m.node.out for m in self.members if m.node.out in needed[k] & earlier]:
                if v in self.stored or (self.subtree_cost(v) > KEEP_COST and self.scratch_fits()):
                    kept.add(v)
            needed[k] = self.closure(sinks.get(k, []), kept & earlier)
            reread = kept & earlier & self.leaves(needed[k], sinks.get(k, []))
            for v in [m.node.out for m in self.members if m.node.out in reread]:
                self.keep(v)
        return needed

    def closure(self, sinks: list[Member], stop: set[Value]) -> set[Value]:
        """Element-level members that the sinks need, not going behind `stop`."""
        found: set[Value] = set()
        todo = []
        for m in sinks:
            todo.extend(self.internal(m) if isinstance(m.node.op, Reduce) else [m.node.out])
        while todo:
            v = todo.pop()
            m = self.group.members[v]
            if v in found or v in stop or self.is_row(m) or isinstance(m.node.op, Reduce):
                continue
            found.add(v)
            todo.extend(self.internal(m))
        return found

    def leaves(self, needed: set[Value], sinks: list[Member]) -> set[Value]:
        """Members that the needed ones or the sinks read directly."""
        reads = {s for v in needed for s in self.internal(self.group.members[v])}
        return reads | {s for m in sinks for s in self.internal(m)} | {m.node.out for m in sinks}

    def subtree_cost(self, v: Value) -> float:
        """The cost of computing `v` again from loads, in cheap instructions."""
        total, seen, todo = 0.0, set(), [v]
        while todo and total <= KEEP_COST:
            u = todo.pop()
            m = self.group.members[u]
            if u in seen or self.is_row(m) or isinstance(m.node.op, Reduce):
                continue
            seen.add(u)
            total += element_cost(m.node)
            todo.extend(self.internal(m))
        return total

    def scratch_fits(self) -> bool:
        sizes = [self.group.shape[a] for a in self.group.partition.inner]
        return math.prod(n for n in sizes if isinstance(n, int)) <= SCRATCH_LIMIT

    def keep(self, v: Value) -> None:
        """Give an element-level member memory that later sweeps read."""
        if v in self.kept:
            return
        if v in self.stored:
            self.kept[v] = self.output(self.group.members[v])
        else:
            self.kept[v] = Access(self.scratch_row(v), self.row_affine())

    def scratch_row(self, v: Value) -> int:
        """A scratch array of one row, for the elements of `v`."""
        dtype = (
            compute_dtype(v.type.dtype)
            if isinstance(self.group.members[v].node.op, Reduce)
            else v.type.dtype
        )
        self.arrays.append(Array("scratch", dtype, f"row{len(self.scratch)}"))
        self.values.append(None)
        self.scratch[len(self.arrays) - 1] = tuple(
            self.group.shape[a] for a in self.group.partition.inner
        )
        return len(self.arrays) - 1

    def row_affine(self) -> Affine:
        """Row-major over the inner axes alone."""
        sizes = tuple(self.group.shape[a] for a in self.group.partition.inner)
        strides = dict(zip(self.group.partition.inner, row_major(sizes), strict=True))
        return Affine(0, tuple(strides.get(a, 0) for a in self.order))

    def sweep(self, k: int, needed: set[Value], sinks: list[Member], row: Body) -> Body:
        body = self.body()
        env: dict[Value, Lane] = {}
        reduced = {m.node.out for m in sinks if isinstance(m.node.op, Reduce)}
        for m in self.members:
            v = m.node.out
            if v in needed:
                env[v] = self.compute(m, body, env, row)
                if v in self.stored or (v in self.kept and self.time[v] <= k):
                    self.store_once(m, env[v], body)
            elif v in reduced:
                self.reduce(m, body, env, row)
        return body

    def store_once(self, m: Member, lane: Lane, body: Body) -> None:
        """Store an element-level member in the first sweep that computes it."""
        if m.node.out in self.written:
            return
        self.written.add(m.node.out)
        access = self.output(m) if m.node.out in self.stored else self.kept[m.node.out]
        body.where = m.node.where
        body.add_stmt("store", (lane,), lane.dtype, access)
        if m.node.out in self.kept and m.node.out in self.stored:
            self.kept[m.node.out] = access

    def row_member(self, m: Member, body: Body) -> None:
        """Compute a row-level member; accumulate and store where it asks for that."""
        v = m.node.out
        if isinstance(m.node.op, Reduce):
            if self.elementwise_input(m):  # its lane came with the sweep before
                self.store_row(m, self.lanes[v], body)
                return
            lane = self.reduce(m, body, {}, body)
            if m.late:
                return
        else:
            lane = self.compute(m, body, {}, body)
        self.lanes[v] = lane
        if v in self.stored:
            self.store_row(m, lane, body)

    def store_row(self, m: Member, lane: Lane, body: Body) -> None:
        body.where = m.node.where
        body.add_stmt(
            "store", (self.finished(m, lane, body),), m.node.out.type.dtype, self.output(m)
        )

    def finished(self, m: Member, lane: Lane, body: Body) -> Lane:
        """A reduction's accumulator in the dtype of its result."""
        return body.convert(lane, m.node.out.type.dtype)  # type: ignore[no-any-return]

    # -- reductions

    def reduce(self, m: Member, body: Body, env: dict[Value, Lane], row: Body) -> Lane:
        op = m.node.op
        assert isinstance(op, Reduce)
        body.where = m.node.where
        read = self.read(m, m.node.inputs[0], body, env, row)
        dtype = compute_dtype(m.node.out.type.dtype)
        value: Lane = body.convert(read, dtype)
        if not m.over:  # over axes of size 1: the value itself
            self.lanes[m.node.out] = value
            return value
        kind, access = "row", None
        if m.late:
            column = bool(m.axes & self.inner)
            kind = "column" if column else "full"
            if column:
                access = self.column_row(m)
        lane = body.add_stmt("reduce", (value,), dtype, Reduction(op.combiner, kind, access))
        self.lanes[m.node.out] = lane
        return lane

    def column_row(self, m: Member) -> Access:
        """Where a column reduction accumulates: its output itself when it is stored as it is."""
        v = m.node.out
        if v in self.stored and compute_dtype(v.type.dtype) is v.type.dtype:
            self.columns[v] = self.output(m)
        else:
            self.columns[v] = Access(self.scratch_row(v), self.row_affine())
        return self.columns[v]

    # -- tail

    def tail_phases(self) -> list[Phase]:
        late = [m for m in self.members if m.late]
        if not late:
            return []
        row, sweep = self.body(), self.body()
        env: dict[Value, Lane] = {}
        # What the loop computed a row at a time is out of scope: the fold may be cut into blocks.
        self.lanes = {v: lane for v, lane in self.lanes.items() if self.group.members[v].late}
        self.rows = {}
        for m in late:
            v = m.node.out
            if isinstance(m.node.op, Reduce):
                self.finish_reduction(m, row, sweep, env)
            elif self.is_row(m):
                self.lanes[v] = self.compute(m, row, {}, row)
                if v in self.stored:
                    self.store_row(m, self.lanes[v], row)
            else:
                env[v] = self.compute(m, sweep, env, row)
                if v in self.stored:
                    sweep.add_stmt("store", (env[v],), v.type.dtype, self.output(m))
        return [
            p
            for p in (Phase("row", tuple(row.stmts)), Phase("sweep", tuple(sweep.stmts)))
            if p.stmts
        ]

    def finish_reduction(self, m: Member, row: Body, sweep: Body, env: dict[Value, Lane]) -> None:
        v = m.node.out
        if v in self.columns:
            access = self.columns[v]
            direct = self.arrays[access.array].role == "out"
            if direct and not any(s is v for n in self.members for s in self.internal(n)):
                return
            sweep.where = m.node.where
            lane = sweep.add_stmt("load", (), self.arrays[access.array].dtype, access)
            env[v] = self.finished(m, lane, sweep)
            if not direct and v in self.stored:
                sweep.add_stmt("store", (env[v],), v.type.dtype, self.output(m))
        else:
            row.where = m.node.where
            self.lanes[v] = self.finished(m, self.lanes[v], row)
            if v in self.stored:
                row.add_stmt("store", (self.lanes[v],), v.type.dtype, self.output(m))

    # -- values

    def compute(self, m: Member, body: Body, env: dict[Value, Lane], row: Body) -> Lane:
        """Emit one element of a member."""
        node = m.node
        if isinstance(node.op, Generator):
            return self.generate(node, m.domain, body, row)
        if is_gather(node):
            return self.gather(m, body, env, row)
        if is_padding(node):
            return self.padded(m, body, env, row)
        inputs: list[Lane] = []
        if isinstance(node.op, Elementwise):
            inputs = [self.read(m, x, body, env, row) for x in node.inputs]
            body.where = node.where
            body.failures = partial(self.failures, node) if node.op.failures else None
            lane = apply_scalar(node.op.scalar, inputs, node.attrs, node.out.type.dtype, body)
            body.failures = None
            return lane
        ((value, indices),) = self.fusion.reads(node, m.domain)  # an opaque view: a copy
        body.where = node.where
        return self.fetch(value, indices, body, env, row)

    def gather(self, m: Member, body: Body, env: dict[Value, Lane], row: Body) -> Lane:
        """Load the element that an index value picks, after checking its range (once a row, where
        the whole row has one index)."""
        node = m.node
        params = node.inputs[0]
        picked, rest = gather_axes(node, m.domain)
        index = self.fetch(*self.fusion.source(node.inputs[1], picked), body, env, row)
        once = all(index.id != s.id for s in body.stmts)
        checks = row if once else body
        checks.where, checks.failures = node.where, partial(self.failures, node)
        index = checks.convert(index, dtypes.int64)
        extent = params.type.shape[node.attrs["axis"]]
        size = checks.size(extent)
        inside = checks.and_(checks.ge(index, 0), checks.lt(index, size))
        checks.require(inside, "index", index, size)
        checks.failures = None
        access = self.access("in", params, rest)
        stride = row_major(params.type.shape)[node.attrs["axis"]]
        body.where = node.where
        return body.add_stmt(
            "load_at", (index,), params.type.dtype, replace(access, bounds=(stride, extent))
        )

    def padded(self, m: Member, body: Body, env: dict[Value, Lane], row: Body) -> Lane:
        """The element of the input where there is one, else zero."""
        node = m.node
        (x,), dtype = node.inputs, node.out.type.dtype
        at = unpadded(node, m.domain)
        value, indices = self.fusion.source(x, at)
        row.where = body.where = node.where
        inside = self.inside(node, at, body, row)
        made = self.fusion.producers.get(value)
        inline = made is not None and is_inline(made) and value not in self.fusion.opaque
        if value in self.group.members or inline:
            lane, zero = self.fetch(value, indices, body, env, row), body.const(0, dtype)
            return body.select(inside, lane, zero)  # type: ignore[no-any-return]
        access = self.access("in", value, indices)
        return body.add_stmt("load_in", (inside,), dtype, access)

    def inside(self, node: Node, at: tuple[Index, ...], body: Body, row: Body) -> Lane:
        """Does a node that pads read an element of its input? What is the same all along a row is
        asked once a row."""
        shapes = node.inputs[0].type.shape, node.out.type.shape
        in_rows, in_row = list[Lane](), list[Lane]()
        for index, start, n, whole in zip(at, node.attrs["starts"], *shapes, strict=True):
            moves = any(a in self.inner for a, _ in index.steps)
            part, found = (body, in_row) if moves else (row, in_rows)
            if start == 0 and n == whole:
                continue
            place = part.add_stmt("index", (), dtypes.int64, self.affine(index))
            found += [part.ge(place, 0)] if start != 0 else []
            found += [part.lt(place, part.size(n))] if start + n != whole else []
        if not in_rows + in_row:
            return body.const(True, dtypes.bool_)  # type: ignore[no-any-return]
        both = [reduce(part.and_, f) for part, f in ((row, in_rows), (body, in_row)) if f]
        return reduce(body.and_, both)

    def read(self, m: Member, x: Value, body: Body, env: dict[Value, Lane], row: Body) -> Lane:
        value, indices = self.fusion.source(x, m.domain)
        return self.fetch(value, indices, body, env, row)

    def fetch(
        self, value: Value, indices: Indices, body: Body, env: dict[Value, Lane], row: Body
    ) -> Lane:
        """One element of a source: a member's lane, a constant, or a load."""
        if value in env:
            return env[value]
        member = self.group.members.get(value)
        if member is not None:
            if value in self.lanes:
                lane = self.lanes[value]
                if isinstance(member.node.op, Reduce) and lane.dtype is not value.type.dtype:
                    lane = self.finished(member, lane, body)
                return lane
            if value in self.kept and body is not row and not member.late:
                return body.add_stmt("load", (), value.type.dtype, self.kept[value])
            return self.compute(member, body, env, row)  # in the tail: not late, so computed again
        node = self.fusion.producers.get(value)
        if node is not None and is_inline(node) and value not in self.fusion.opaque:
            return self.inline(node, indices, body, row)
        access = self.access("in", value, indices)
        same = all(access.at.strides[i] == 0 for i, a in enumerate(self.order) if a in self.inner)
        if same and 0 not in value.type.shape:  # an empty array has no element to load once a row
            key = (access.array, access.at)
            if key not in self.rows:
                row.where = body.where
                self.rows[key] = row.add_stmt("load", (), value.type.dtype, access)
            return self.rows[key]
        return body.add_stmt("load", (), value.type.dtype, access)

    def inline(self, node: Node, indices: Indices, body: Body, row: Body) -> Lane:
        if node.op.name == "constant":
            dtype = node.out.type.dtype
            return body.const(node.attrs["value"].array.item(), dtype)  # type: ignore[no-any-return]
        return self.generate(node, indices, body, row)

    def generate(self, node: Node, indices: Indices, body: Body, row: Body) -> Lane:
        """One element of a generator, from its row-major index and the elements of its inputs.

        The last axis of an input holds the elements that the op's scalar function takes; axes
        before it are the first axes of the result too (lanes), and the index counts from there.
        """
        op = node.op
        assert isinstance(op, Generator)
        inputs, lanes = [], 0
        for x in node.inputs:
            lanes = max(0, x.type.ndim - 1)
            count = x.type.shape[-1] if x.type.shape else 1
            assert isinstance(count, int)
            assert not lanes or isinstance(indices, tuple)
            lead = indices[:lanes] if isinstance(indices, tuple) else ()
            for i in range(count):
                at = (*lead, Index(i)) if x.type.shape else ()
                inputs.append(self.fetch(*self.fusion.source(x, at), body, {}, row))
        own = indices[lanes:] if isinstance(indices, tuple) else indices
        flat = flatten(own, node.out.type.shape[lanes:])
        body.where = node.where
        index = body.add_stmt("index", (), dtypes.int64, self.affine(flat))
        return apply_scalar(op.scalar, [index, *inputs], node.attrs, node.out.type.dtype, body)

    # -- memory

    def affine(self, index: Index) -> Affine:
        return Affine(index.start, tuple(index.step(a) for a in self.order))

    def output(self, m: Member) -> Access:
        return self.access("out", m.node.out, m.indices)

    def access(self, role: str, value: Value, indices: Indices) -> Access:
        memory, known = self.fusion.memory_of(value), self.numbers[role]
        index = flatten(indices, value.type.shape)
        if role == "out" and value in self.fusion.places:
            place = self.fusion.places[value]
            memory, index = place.memory, index.scaled(place.step, place.start)
        if memory not in known:
            label = f"{'x' if role == 'in' else 'out'}{len(known)}"
            known[memory] = len(self.arrays)
            self.arrays.append(Array(role, value.type.dtype, label))
            self.values.append(memory)
        return Access(known[memory], self.affine(index))


def apply_scalar(
    scalar: Callable[..., Any], inputs: list[Lane], attrs: Attrs, out: DType, body: Body
) -> Lane:
    """One element by an op's scalar function; 16-bit floats go through float32."""
    lanes = [body.convert(x, compute_dtype(x.dtype)) for x in inputs]
    result: Lane = scalar(body, *lanes, **attrs)
    return result if result.dtype is out else body.convert(result, out)


def lower(
    fusion: Fusion,
    group: Group,
    stored: set[Value],
    failures: Callable[[Node], tuple[tuple[str, int], ...]],
) -> Lowered:
    """The loop nest of `group`, with adjacent dims merged wherever all accesses allow it."""
    lowered = GroupLowering(fusion, group, stored, failures).build()
    if turn(group, lowered.nest):
        lowered = GroupLowering(fusion, group, stored, failures).build()
    roles = group.partition
    if len(roles.inner) > 1:
        # What does not merge becomes rows: so vectors are long, and threads can share them.
        split = len(roles.inner) - trailing_run(lowered.nest)
        lead, inner = roles.inner[:split], roles.inner[split:]
        over_inner = [m for m in group.reductions if m.over & set(roles.inner)]
        if not over_inner:
            group.partition = Partition((*roles.parallel, *lead), roles.folded, inner)
        elif not roles.parallel and not roles.folded and all(m.late for m in over_inner):
            group.partition = Partition((), lead, inner)
        if group.partition != roles:
            lowered = GroupLowering(fusion, group, stored, failures).build()
    nest = in_tiles(merge_dims(lowered.nest))
    if not group.reductions and any(isinstance(n, int) and n == 0 for n in nest.dims):
        nest = replace(nest, dims=(0,) * len(nest.dims))  # without elements, without rows
    return replace(lowered, nest=nest)
