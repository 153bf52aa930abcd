"""Loop nests: what one fused kernel computes, before it is text for a target.

A nest runs over *dims* in three roles, in this order:

    for each point of the parallel dims          (the kernel's lo..hi range)
      for each point of the folded dims          (their reductions accumulate across this loop)
        main phases, in turn: rows and sweeps    (a sweep loops over the inner dims)
      tail phases                              (what needs the folded results)

A *row* phase holds statements that are computed once a row; a *sweep* holds statements that are
computed for each element of the row, vectorised over the last dim. A reduction that is read in
a later sweep of the same row (the maximum in softmax) therefore costs another sweep over data
that is still in cache, not another kernel.

Reductions are of three kinds:
- "row": over the inner dims, one result a row, read in later phases;
- "column": over the folded dims, one result for each inner element, read in tail sweeps;
- "full": over both, read in tail phases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.scalar.builder import ScalarBuilder
from graphgrad.compiler.scalar.costs import compute_dtype as compute_dtype
from graphgrad.compiler.scalar.costs import cost as cost
from graphgrad.compiler.scalar.costs import exact
from graphgrad.compiler.scalar.expansions import EXPANSIONS
from graphgrad.compiler.source import Where
from graphgrad.runtime.program import Size


@dataclass(frozen=True, slots=True)
class Affine:
    """`offset + sum(strides[d] * index of dim d)`."""

    offset: Extent
    strides: tuple[Extent, ...]


# Elements this far apart, or nearer, are picked from whole vectors, others gathered.
PICKED_STRIDE = 8


@dataclass(frozen=True, slots=True)
class Access:
    """Elements of an array of the nest: element number `at`, in elements from its start.

    `bounds` of an indirect access: (stride, extent) of the index value that comes as an argument.
    """

    array: int
    at: Affine
    bounds: tuple[Extent, Extent] | None = None


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a reduce statement combines, over what, and where."""

    combiner: str  # sum, prod, max, min, any, all
    kind: str  # row, column, full
    row: Access | None = None  # where a column reduction accumulates


@dataclass(frozen=True, slots=True)
class Stmt:
    """One statement. `fn` is a scalar primitive or named function, or one of

    - "load" (attr: Access), "store" (args: value; attr: Access),
    - "load_at" (args: index value; attr: Access with bounds),
    - "load_in" (args: bool; attr: Access): 0 where false, the access being outside the array then,
    - "index" (attr: Affine over the dims), "size" (attr: an extent),
    - "reduce" (args: value; attr: Reduction): its id is the result.
    """

    id: int
    fn: str
    args: tuple[int, ...]
    dtype: DType
    attr: Any = None
    where: Where | None = None
    failures: tuple[tuple[str, int], ...] = ()  # the numbers of the checks it may contain, by kind

    def key(self) -> Stmt:
        """The statement without its place, and equal to none that differs in a bit."""
        return replace(self, attr=exact(self.attr), where=None)


@dataclass(frozen=True, slots=True)
class Phase:
    """Statements of one kind, in order."""

    kind: str  # row | sweep
    stmts: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """One pointer argument. `role`: "in", "out", or in the arena "scratch" (a row for each thread)
    and "partial" (the results of each block for one reduction)."""

    role: str
    dtype: DType
    label: str  # for people: x, w, out0


@dataclass(frozen=True, slots=True)
class Division:
    """How a nest is cut into pieces that threads can share: see `division.py`.

    There are `count` items of the `kind` rows, lanes or blocks; no more than `least` of them are
    left to one thread, others are handed out in pieces of `grain`. A block is `block` points of the
    first folded dim (of the inner dim, where there is none).
    """

    kind: str
    count: Size
    least: Size
    grain: Size
    block: Size = 0


@dataclass(frozen=True, slots=True)
class LoopNest:
    """A fused kernel. `dims` lists the extents of the parallel, folded and inner dims, in turn."""

    dims: tuple[Extent, ...]
    parallel: int
    folded: int
    arrays: tuple[Array, ...]
    main: tuple[Phase, ...]
    tail: tuple[Phase, ...] = ()
    title: str = ""
    division: Division | None = None  # None: too little work to share
    cached: bool = False  # whatever its sizes, it touches no more than stays in the caches

    @property
    def inner(self) -> int:
        return len(self.dims) - self.parallel - self.folded

    @property
    def phases(self) -> tuple[Phase, ...]:
        return self.main + self.tail

    def statements(self) -> list[Stmt]:
        """All statements, in order."""
        return [s for phase in self.phases for s in phase.stmts]

    def key(self) -> Any:
        """Equal for nests of equal code, wherever their lines are in the user's source."""
        main, tail = (
            tuple((p.kind, tuple(map(Stmt.key, p.stmts))) for p in phases)
            for phases in (self.main, self.tail)
        )
        return replace(self, main=(), tail=()), main, tail


def is_flat(nest: LoopNest) -> bool:
    """Is a nest one sweep without reductions over one dim, so that lo..hi is a part of that dim?"""
    return (
        nest.parallel == 0
        and nest.folded == 0
        and nest.inner == 1
        and not nest.tail
        and [p.kind for p in nest.main][-1:] == ["sweep"]
        and sum(p.kind == "sweep" for p in nest.main) == 1
        and not any(s.fn == "reduce" for s in nest.statements())
    )


def lane_count(nest: LoopNest) -> int:
    """The lanes of a vector: 8 where every array is 64 bits wide, else 16."""
    widths = {a.dtype.itemsize for a in nest.arrays}
    return 8 if widths == {8} else 16


@dataclass(slots=True)
class Lane:
    """A scalar value while a nest is built: a statement's number and dtype."""

    id: int
    dtype: DType


@dataclass
class Counter:
    """Numbers the statements of one nest."""

    next: int = 0

    def take(self) -> int:
        self.next += 1
        return self.next - 1


@dataclass
class Body(ScalarBuilder):
    """Records statements: named functions keep their names, equal statements are recorded once."""

    counter: Counter
    where: Where | None = None
    stmts: list[Stmt] = field(default_factory=list)
    known: dict[Any, Lane] = field(default_factory=dict)
    # The numbers of the checks of the node at work, asked for where a statement may fail.
    failures: Callable[[], tuple[tuple[str, int], ...]] | None = None

    def add_stmt(self, fn: str, args: Sequence[Lane], dtype: DType, attr: Any = None) -> Lane:
        """Record a statement, or find the equal one."""
        numbers = tuple(a.id for a in args)
        key = (fn, numbers, dtype.name, exact(attr))
        pure = fn not in ("store", "require")
        if pure and key in self.known:
            return self.known[key]
        lane = Lane(self.counter.take(), dtype)
        # Beside checks, divisions of integers fail; floats have infinities and NaN for such cases.
        may_fail = fn == "require" or (fn in EXPANSIONS and args[0].dtype.is_integer)
        failures = self.failures() if may_fail and self.failures is not None else ()
        self.stmts.append(Stmt(lane.id, fn, numbers, dtype, attr, self.where, failures))
        if pure:
            self.known[key] = lane
        return lane

    def primitive(self, fn: str, args: tuple[Lane, ...], dtype: DType, attr: Any = None) -> Lane:
        return self.add_stmt(fn, args, dtype, attr)

    def named(self, fn: str, args: tuple[Lane, ...], attr: Any = None) -> Lane:
        return self.add_stmt(fn, args, EXPANSIONS[fn].result_dtype(args[0].dtype), attr)

    def dtype(self, x: Lane) -> DType:
        return x.dtype

    def size(self, extent: Extent) -> Lane:
        """An extent of the iteration space as an int64 value."""
        if isinstance(extent, int):
            return self.const(extent, dtypes.int64)  # type: ignore[no-any-return]
        return self.add_stmt("size", (), dtypes.int64, extent)


def most_live(stmts: Sequence[Stmt]) -> int:
    """The most values at once that statements of a phase have computed and still need."""
    last = {a: i for i, s in enumerate(stmts) for a in s.args}
    alive: set[int] = set()
    most = 0
    for i, s in enumerate(stmts):
        alive = {a for a in alive if last[a] > i}
        if s.fn != "const" and s.id in last:
            alive.add(s.id)
        most = max(most, len(alive))
    return most
