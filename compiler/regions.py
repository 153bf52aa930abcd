"""Loops and branches as native steps: each sub-graph becomes a function of the Program's module.

A sub-graph goes through fusion, memory plan and emission as a graph does. Its function, a *region*,
takes the table of the Program, since sizes, constants and routines are those of the outer graph,
and a *frame*: pointers that change from one step of a loop to the next. Its temporaries lie in a
part of the outer arena. What has no native form anywhere within keeps the whole node a host step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_control import Loop, LoopEmitter, Rows, State
from graphgrad.compiler.codegen.llvm_program import ModuleWriter, Place
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.kernels.fusion import Fusion, Plan
from graphgrad.compiler.kernels.scalar_loops import grows
from graphgrad.compiler.kernels.updates import fused
from graphgrad.compiler.memory_reuse import find_updates
from graphgrad.compiler.passes.complexes import over_parts
from graphgrad.compiler.stack_sharing import ONE_STACK, shared_stacks
from graphgrad.compiler.transform.loop_sizes import found_by
from graphgrad.compiler.types import TensorType, element_count
from graphgrad.runtime.program import Size

if TYPE_CHECKING:
    from graphgrad.compiler.assembly import Assembly
    from graphgrad.compiler.steps import CompiledStep

NATIVE = ("cond", "while_loop", "scan")
OPEN_SIZES = ("varying", "padded", "widened")  # sizes that only the run knows


@dataclass(eq=False)
class Storage:
    """Where one value lies: a slot of the table, a temporary (by number), a word of the frame, an
    array of a record, or where the `outer` one lies, which is that of the graph around."""

    slot: int = -1
    temp: int = -1
    word: int = -1
    record: int = -1
    array: int = 0
    outer: Storage | None = None

    def is_at(self, other: Storage) -> bool:
        """Is it the same memory?"""
        a, b = ((s.slot, s.temp, s.word, s.record, s.array) for s in (self, other))
        return self is other or (a == b and self.temp < 0 and self.outer is other.outer)


@dataclass(eq=False)
class Body:
    """A sub-graph divided into kernels; `typed` is as the node holds it."""

    typed: Graph
    graph: Graph
    fusion: Fusion
    plan: Plan


def body_of(graph: Graph) -> Body | None:
    """A sub-graph divided into kernels; None where a size is known only at run time, unless a loop
    within stacks for as long as it runs."""
    if any(found_by(n) for n in graph.nodes if not grows(n) or not sub_graphs(n)):
        return None
    bare = over_parts(graph)
    return Body(graph, bare, *fused(bare))


def sub_graphs(node: Node) -> list[Graph]:
    """The graphs of a control node that may become regions; none where it is to be a host step."""
    if not isinstance(node.op, Control) or node.op.name not in NATIVE:
        return []
    if any(node.attrs.get(k) for k in OPEN_SIZES):
        return []
    room, limit = node.attrs.get("trips"), node.attrs.get("maximum_iterations")
    if room is not None and limit is not None and not grows(node):
        return []
    return [v for v in node.attrs.values() if isinstance(v, Graph)]


def nbytes(t: TensorType) -> Size:
    return to_size(element_count(t.shape) * t.dtype.itemsize)


@dataclass
class Region:
    """A sub-graph on its way to a function."""

    inner: Assembly
    arena: Storage  # its temporaries, in the memory of the graph around
    copies: list[tuple[Storage, Storage, Size]]  # outputs that lie elsewhere: from, to, bytes

    def emit(self, writer: ModuleWriter) -> str:
        """The name of the function."""
        inner = self.inner
        assert inner.around is not None
        inner.base = inner.around.place(self.arena).offset
        with writer.region("region") as name:
            with writer.records.of_steps(inner.growing.record_of):
                for launch in inner.route:
                    inner.emit(launch, writer, [])
            for source, target, size in self.copies:
                writer.cut()
                writer.copy(inner.place(source), inner.place(target), size)
        return name


@dataclass
class Branch:
    """A condition: one of two regions writes the results."""

    condition: Storage
    taken: Region
    other: Region
    storage: list[Storage]  # all that it touches

    memory: tuple[str, ...] = ()

    @property
    def regions(self) -> tuple[Region, ...]:
        return self.taken, self.other

    def emit(self, around: Assembly, writer: ModuleWriter) -> None:
        taken, other = (region.emit(writer) for region in self.regions)
        writer.branch_to(around.place(self.condition), taken, other)


@dataclass
class Repeated:
    """A loop: its regions, and the loop with storage in the place of places."""

    body: Region
    condition: Region | None
    storage: list[Storage]
    trips: Size | None = None
    states: list[tuple[State, Storage, Storage, Storage | None]] = field(default_factory=list)
    fixed: list[tuple[State, Storage, Storage]] = field(default_factory=list)
    slices: list[tuple[Rows, Storage]] = field(default_factory=list)
    stacks: list[tuple[Rows, Storage]] = field(default_factory=list)
    begun: list[tuple[int, Rows, Storage]] = field(default_factory=list)
    mask: tuple[Rows, Storage] | None = None
    captures: list[tuple[int, Storage]] = field(default_factory=list)
    flag: Storage | None = None
    flags: Storage | None = None
    words: int = 0
    backwards: bool = False
    elements: int = 1  # that a step computes, about
    grown: int = -1  # the record of what it stacks for as long as it runs
    no_memory: int = -1  # the failure if there is none for it
    memory: tuple[str, ...] = ()  # where each part of the state lies, in words

    @property
    def regions(self) -> tuple[Region, ...]:
        return (self.body,) if self.condition is None else (self.condition, self.body)

    def emit(self, around: Assembly, writer: ModuleWriter) -> None:
        def rows(r: Rows, s: Storage) -> Rows:
            return replace(r, place=around.place(s))

        def state(s: State, start: Storage, end: Storage, spare: Storage | None = None) -> State:
            place = None if spare is None else around.place(spare)
            return replace(s, start=around.place(start), end=around.place(end), spare=place)

        loop = Loop(
            body=self.body.emit(writer),
            words=self.words,
            trips=self.trips,
            states=tuple(state(*s) for s in self.states),
            slices=tuple(rows(*r) for r in self.slices),
            stacks=tuple(rows(*r) for r in self.stacks),
            begun=tuple((k, rows(r, s)) for k, r, s in self.begun),
            captures=tuple((k, around.place(s)) for k, s in self.captures),
            fixed=tuple(state(*s) for s in self.fixed),
            condition=self.condition.emit(writer) if self.condition is not None else "",
            flag=around.place(self.flag) if self.flag is not None else None,
            mask=rows(*self.mask) if self.mask is not None else None,
            flags=around.place(self.flags) if self.flags is not None else None,
            backwards=self.backwards,
            elements=self.elements,
            grown=self.grown,
            no_memory=self.no_memory,
        )
        name = LoopEmitter(writer, loop).emit()
        writer.cut()
        writer.call_region(name)
        if self.grown >= 0:
            writer.records.counted(self.grown)


def branch(around: Assembly, node: Node) -> Branch:
    """A `cond` as a step of the graph around."""
    condition, *inputs = map(around.locate, node.inputs)
    outputs = [*map(around.locate, node.outputs)]

    def side(graph: Graph) -> Region:
        inner = around.inside(graph)
        updated = []
        for k, v in enumerate(node.outputs):
            memory = around.merged.get(v)
            for p, x in zip(inner.graph.params, node.inputs[1:], strict=True):
                if memory is not None and around.fusion.memory_of(x) is memory:
                    updated.append((p, k))
        find_updates(inner, updated)
        return region(around, graph, [*map(seen, inputs)], [*map(seen, outputs)])

    taken, other = side(node.attrs["true_graph"]), side(node.attrs["false_graph"])
    storage = [condition, *inputs, *outputs, taken.arena, other.arena]
    return Branch(condition, taken, other, storage)


def seen(s: Storage) -> Storage:
    """The storage of a value as a region with the same frame has it."""
    inside = s.temp < 0 and s.record < 0 and s.outer is None
    return Storage(s.slot, word=s.word, outer=None if inside else s)


def region(
    around: Assembly, graph: Graph, params: list[Storage], outputs: list[Storage | None]
) -> Region:
    """A sub-graph whose parameters lie at `params` and whose outputs are to lie at `outputs`, or
    stay where they are (None)."""
    inner = around.inside(graph)
    del around.ready[id(graph)]  # it has its place from here on
    for typed, p, s in zip(graph.params, inner.graph.params, params, strict=True):
        inner.storage[typed] = inner.storage[p] = s
    copies = []
    for v, target in zip(inner.graph.outputs, outputs, strict=True):
        if target is None:
            continue
        memory = inner.memory_of(v)
        node = inner.fusion.producers.get(memory)
        if memory in inner.storage or node is None or node.op.name == "constant":
            if not inner.locate(v).is_at(target):
                copies.append((inner.locate(v), target, nbytes(v.type)))
        else:
            inner.storage[memory] = target
    arena = inner.plan_temps([s for s, *_ in copies])
    return Region(inner, around.add_temp(dtypes.uint8, (arena,), arena), copies)


def repeated(around: Assembly, node: Node) -> Repeated:
    """A `while_loop` or a `scan` as a step of the graph around."""
    attrs = node.attrs
    body: Graph = attrs["body_graph"]
    carried: int = attrs["carried"]
    inner = around.inside(body)
    find_updates(inner, [(p, i) for i, p in enumerate(inner.graph.params[:carried])])
    masked: bool = attrs.get("masked", False)
    split = carried + masked + attrs.get("scanned", 0)
    shared = shared_stacks(around, inner, node)
    inputs, ends = [*map(around.locate, node.inputs)], [*map(around.locate, node.outputs)]
    growing = grows(node)
    made = _Layout(around, inner, node, inputs, ends, shared)
    for i in range(carried):
        made.state(i)
    for i in range(carried + masked, split):
        made.slice(i, i - masked)
    for i in range(split, len(inputs)):
        made.capture(i, i - masked)
    loop = Repeated(
        region(around, body, made.params, made.outputs),
        None,
        [],
        most_trips(node),
        made.states,
        made.fixed,
        made.slices,
        made.stacks,
        made.begun,
        (Rows(Place(), 1), inputs[carried]) if masked else None,
        made.captures,
        flags=None if attrs.get("trips") is None else ends[-1],
        words=made.words,
        backwards=attrs.get("reverse", False),
        elements=elements_of(inner.graph),
        grown=around.growing.stacks_of(node) if growing else -1,
        no_memory=around.growing.out_of_memory(node) if growing else -1,
        memory=tuple(made.memory),
    )
    if "cond_graph" in attrs:
        loop.flag = around.add_temp(dtypes.bool_, (), 1)
        loop.condition = region(
            around, attrs["cond_graph"], made.params, [Storage(outer=loop.flag)]
        )
    extra = [loop.flag] if loop.flag is not None else []
    extra += [s for *_, s in made.states if s is not None]
    loop.storage = [*inputs, *ends, *extra, *(r.arena for r in loop.regions)]
    return loop


def elements_of(graph: Graph) -> int:
    """How many elements the nodes of a graph compute, about: unknown sizes count as 64."""
    types = [v.type for node in graph.nodes for v in node.outputs]
    return sum(math.prod(n if isinstance(n, int) else 64 for n in t.shape) for t in types) or 1


def most_trips(node: Node) -> Size | None:
    """How many steps a loop makes at most; None where nobody says."""
    attrs = node.attrs
    if "length" in attrs:
        return to_size(attrs["length"])
    known = attrs["trips"] is not None and not grows(node)
    limit = attrs["trips"] if known else attrs["maximum_iterations"]
    return None if limit is None else to_size(limit)


@dataclass
class _Layout:
    """Which word of a loop's frame points at what."""

    around: Assembly
    inner: Assembly
    node: Node
    inputs: list[Storage]
    ends: list[Storage]
    shared: dict[int, int]
    words: int = 0
    params: list[Storage] = field(default_factory=list)
    outputs: list[Storage | None] = field(default_factory=list)
    states: list[tuple[State, Storage, Storage, Storage | None]] = field(default_factory=list)
    fixed: list[tuple[State, Storage, Storage]] = field(default_factory=list)
    slices: list[tuple[Rows, Storage]] = field(default_factory=list)
    stacks: list[tuple[Rows, Storage]] = field(default_factory=list)
    begun: list[tuple[int, Rows, Storage]] = field(default_factory=list)
    captures: list[tuple[int, Storage]] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Each stacked value has a word."""
        carried = self.node.attrs["carried"]
        outputs, memory_of = self.inner.graph.outputs, self.inner.memory_of
        self.stack_of: dict[Value, int] = {}
        self.outputs = [None] * carried
        for k, v in enumerate(outputs[carried:]):
            if k in self.shared.values():  # the steps before have written it
                self.outputs.append(None)
                continue
            self.stack_of.setdefault(memory_of(v), len(self.stacks))
            word = self.word()
            self.stacks.append((Rows(Place(), nbytes(v.type), word), self.ends[carried + k]))
            self.outputs.append(Storage(word=word))

    def word(self) -> int:
        self.words += 1
        return self.words - 1

    def state(self, i: int) -> None:
        """State number i: see `State`."""
        param, out = self.inner.graph.params[i], self.inner.graph.outputs[i]
        memory = self.inner.fusion.memory_of(out)
        start, end, size = self.inputs[i], self.ends[i], nbytes(out.type)
        if memory is param:
            self.fixed.append((State(Place(), Place(), size), start, end))
            self.capture(i, i)
            self.memory.append("unchanged")
            return
        read = self.word()
        self.params.append(Storage(word=read))
        memory = self.inner.root(memory)
        if memory is param:
            self.states.append((State(Place(), Place(), size, read), start, end, None))
            self.memory.append("in memory, updated in place")
            return
        node = self.inner.fusion.producers.get(memory)
        computed = node is not None and node.op.name != "constant"
        if computed and memory in self.stack_of and not grows(self.node):
            made = State(Place(), Place(), size, read, stack=self.stack_of[memory])
            if i in self.shared:
                found = self.ends[self.node.attrs["carried"] + self.shared[i]]
                self.begun.append((len(self.states), Rows(Place(), size), found))
            self.states.append((made, start, end, None))
            self.memory.append(ONE_STACK if i in self.shared else "in its stack")
            return
        write = self.word()
        self.outputs[i] = Storage(word=write)
        spare = self.around.add_temp(dtypes.uint8, (size,), size)
        self.states.append((State(Place(), Place(), size, read, write), start, end, spare))
        self.memory.append("in two memories by turns")

    def slice(self, i: int, param: int) -> None:
        """Input number i has a row for each step."""
        word = self.word()
        self.params.append(Storage(word=word))
        size = nbytes(self.inner.graph.params[param].type)
        self.slices.append((Rows(Place(), size, word), self.inputs[i]))

    def capture(self, i: int, param: int) -> None:
        """Input number i is the same in every step."""
        s = self.inputs[i]
        if self.around.moves(s):
            word = self.word()
            self.captures.append((word, s))
            self.params.append(Storage(word=word))
        else:
            self.params.append(Storage(s.slot, outer=s if s.slot < 0 else None))


def described(step: Branch | Repeated) -> tuple[CompiledStep, ...]:
    """The steps within, for reports."""
    return tuple(s for r in step.regions for s in r.inner.report)


def planned(around: Assembly, node: Node) -> Branch | Repeated:
    """A control node as a step."""
    make: Any = branch if node.op.name == "cond" else repeated
    found: Branch | Repeated = make(around, node)
    return found
