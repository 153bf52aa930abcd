"""The steps of one graph put together: where values lie, and the code of each step in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_convolution_kernel import ConvolutionKernel
from graphgrad.compiler.codegen.llvm_growth import is_found, numbered
from graphgrad.compiler.codegen.llvm_program import KernelText, ModuleWriter, Place
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.convolutions import Convolutions, Launch
from graphgrad.compiler.dims import Extent, is_runtime_size, to_size
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.growing import Growing
from graphgrad.compiler.host_steps import (
    called_function,
    host_function,
    is_guarded,
    python_call,
    sizes_of,
)
from graphgrad.compiler.hosted import explained
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.kernels.assemble import pieces_of
from graphgrad.compiler.kernels.batches import in_batches
from graphgrad.compiler.kernels.blocks import block_of
from graphgrad.compiler.kernels.convolutions import Registers
from graphgrad.compiler.kernels.division import divided, partials, row_bytes, times, total
from graphgrad.compiler.kernels.factorisations import Factorisation, factorisation_of
from graphgrad.compiler.kernels.fusion import Fusion, Plan, Step
from graphgrad.compiler.kernels.loops import LoopNest
from graphgrad.compiler.kernels.lower import Lowered, lower
from graphgrad.compiler.kernels.memory_plan import Lifetime
from graphgrad.compiler.kernels.memory_plan import plan as plan_memory
from graphgrad.compiler.kernels.pools import pool_of
from graphgrad.compiler.kernels.products import product_of
from graphgrad.compiler.kernels.running import running_of
from graphgrad.compiler.kernels.scalar_loops import grows, is_scalar_loop, placed_outputs
from graphgrad.compiler.kernels.scatters import scatter_of
from graphgrad.compiler.launching import (
    launch_batch,
    launch_block,
    launch_factorisation,
    launch_product,
    launch_scatter,
)
from graphgrad.compiler.memory_reuse import donations, find_updates
from graphgrad.compiler.regions import (
    Body,
    Branch,
    Repeated,
    Storage,
    body_of,
    described,
    planned,
    sub_graphs,
)
from graphgrad.compiler.source import Where
from graphgrad.compiler.steps import CompiledStep
from graphgrad.compiler.transform.sizes import is_runtime, symbols_in
from graphgrad.compiler.types import TensorType, element_count
from graphgrad.runtime.program import (
    THREADS,
    UNKNOWN,
    Failure,
    Host,
    Native,
    Program,
    PythonCall,
    Size,
    Slot,
    Target,
    Temp,
)


def slot(kind: str, t: TensorType) -> Slot:
    """A slot of the table; what a host step finds out is unknown to it."""

    def size(n: Extent) -> Size:
        return UNKNOWN if kind == "host" and is_runtime_size(n) else to_size(n)

    return Slot(kind, t.dtype.name, tuple(map(size, t.shape)))


@dataclass
class Assembly:
    """Puts the steps of one graph together into a Program."""

    graph: Graph
    fusion: Fusion
    plan: Plan
    target: Target
    slots: list[Slot] = field(default_factory=list)
    storage: dict[Value, Storage] = field(default_factory=dict)
    constants: list[Any] = field(default_factory=list)
    temps: list[tuple[DType, tuple[Size, ...], Size]] = field(default_factory=list)  # and bytes
    failures: list[Failure] = field(default_factory=list)
    places: list[Where | None] = field(default_factory=list)  # of the failures
    callables: list[Callable[..., Any]] = field(default_factory=list)
    python_calls: list[PythonCall] = field(default_factory=list)  # of native code
    report: list[CompiledStep] = field(default_factory=list)
    numbers: dict[int, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    # Of convolutions and of what LAPACK computes: all that their kernels touch.
    buffers: dict[Value, list[Storage]] = field(default_factory=dict)
    apart: bool = False  # an entry for each step
    flush: bool = False  # subnormal numbers are zero
    # The graph whose parameters and outputs have the types that callers see, where not `graph`.
    typed: Graph | None = None
    adjust: Callable[[LoopNest], LoopNest] = lambda nest: nest
    # Of a sub-graph that becomes a region: the graph around it, and where in the arena its own
    # temporaries begin.
    around: Assembly | None = None
    base: Size = 0
    bodies: dict[int, Body | None] = field(default_factory=dict)  # of sub-graphs, by identity
    ready: dict[int, Assembly] = field(default_factory=dict)  # of sub-graphs that are not placed
    controls: dict[Node, Branch | Repeated] = field(default_factory=dict)
    scalars: dict[Node, bool] = field(default_factory=dict)  # which loops are scalar code
    route: list[Launch] = field(default_factory=list)  # the launches in order
    offsets: list[Size] = field(default_factory=list)  # of the temporaries
    merged: dict[Value, Value] = field(default_factory=dict)  # memory that others are updated in
    shared: dict[int, tuple[int, Size]] = field(default_factory=dict)  # temporaries within others

    def __post_init__(self) -> None:
        self.convolutions = Convolutions(self.fusion, Registers.of(self.target.features))
        self.growing = Growing(self)

    def run(self) -> Program:
        graph = self.graph
        typed = self.typed or graph
        for given, p in zip(typed.params, graph.params, strict=True):
            self.storage[given] = self.storage[p] = Storage(
                self.add_slot(slot("input", given.type))
            )
        launches = self.route = self.launches()
        find_updates(self)
        outputs = self.output_slots()
        arena = self.plan_temps()
        features = self.target.features.split(",")
        posix = "windows" not in self.target.triple
        writer = ModuleWriter(
            len(self.slots), ModuleParts("+avx512f" in features, interrupts=posix),
            pointers=self.growing.records,
        )  # fmt: skip
        if self.flush:
            writer.flush_on = self.target.machine
        steps: list[Native | Host] = []
        for batch in launches:
            with writer.records.of_steps(self.growing.record_of):
                self.emit(batch, writer, steps)
        grown = self.growing.results()
        if writer.open:
            writer.records.trim({g.record for g in grown})
            steps.append(writer.end_entry())
        module = writer.module()
        return Program(
            fingerprint=typed.fingerprint,
            module=module,
            slots=tuple(
                replace(s, shape=tuple(numbered(n, self.growing.record_of) for n in s.shape))
                for s in self.slots
            ),
            inputs=tuple(range(len(graph.params))),
            outputs=outputs,
            steps=tuple(steps),
            temps=tuple(
                Temp(dtype.name, shape, o)
                for (dtype, shape, _), o in zip(self.temps, self.offsets, strict=True)
            ),
            arena_bytes=arena,
            sizes=writer.all_sizes,
            routines=tuple(writer.routines),
            shared=tuple(writer.shared),
            records=tuple(self.growing.records),
            grown=grown,
            donations=donations(self, launches, outputs),
            failures=tuple(self.failures),
            constants=tuple(self.constants),
            callables=tuple(self.callables),
            python_calls=tuple(self.python_calls),
        )

    # -- storage

    def add_slot(self, s: Slot) -> int:
        self.slots.append(s)
        return len(self.slots) - 1

    def add_temp(self, dtype: DType, shape: tuple[Size, ...], nbytes: Size) -> Storage:
        """Memory for a while: a part of the arena, or of a record where only the run knows how much
        it is."""
        if is_found(nbytes):
            return self.growing.temp(nbytes)
        self.temps.append((dtype, shape, nbytes))
        return Storage(temp=len(self.temps) - 1)

    def launches(self) -> list[Launch]:
        """The steps in order, those of one launch together."""
        steps = self.plan.steps
        lowered = [self.lower(step) for step in steps]
        if self.around is None:
            order = in_batches(self.fusion, steps, [*map(self.nest_for_batches, lowered)])
        else:  # what a batch reads is to lie where the table says
            order = [[k] for k in range(len(steps))]
        for low in lowered:
            if low is not None:
                low.nest = divided(self.adjust(low.nest))
        found = [[(steps[k], lowered[k]) for k in batch] for batch in order]
        return self.convolutions.with_epilogues(found)

    def nest_for_batches(self, low: Lowered | None) -> LoopNest | None:
        """The nest of a kernel that may be part of a batch, whose arrays lie where they are known
        to."""
        if low is None or any(v is not None and is_runtime(v.type) for v in low.values):
            return None
        return low.nest

    def lower(self, step: Step) -> Lowered | None:
        if step.group is None:
            return None
        return lower(self.fusion, step.group, self.plan.stored, self.number_failures)

    def number_failures(
        self, node: Node, known: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[tuple[str, int], ...]:
        """The numbers of the checks of a node, each an error, its text and the user's line. `known`
        are parts of the text."""
        if id(node) not in self.numbers:
            numbered = []
            for kind, (error, message) in node.op.failures.items():
                text = message
                for key, part in known.items():
                    text = text.replace("{" + key + "}", part)
                for key, value in node.attrs.items():
                    plain = str(value).replace("{", "{{").replace("}", "}}")
                    text = text.replace("{" + key + "}", plain)
                numbered.append((kind, len(self.failures)))
                place = node.where.describe() if node.where is not None else ""
                self.failures.append(Failure(error.__name__, text, place))
                self.places.append(node.where)
            self.numbers[id(node)] = tuple(numbered)
        return self.numbers[id(node)]

    def output_slots(self) -> tuple[int, ...]:
        """The slot of each graph output; computed ones get an output slot of the output's shape."""
        slots = []
        types = (self.typed or self.graph).output_types
        for v, t in zip(self.graph.outputs, types, strict=True):
            memory = self.root(self.fusion.memory_of(v))
            if is_runtime(t):
                slots.append(self.growing.output(memory, t))
                continue
            if memory not in self.storage:
                node = self.fusion.producers[memory]
                if node.op.name == "constant":
                    self.storage[memory] = self.constant(node)
                else:
                    kind = "output" if self.is_native(memory) else "host"
                    self.storage[memory] = Storage(self.add_slot(slot(kind, t)))
            slots.append(self.storage[memory].slot)
        return tuple(slots)

    def constant(self, node: Node) -> Storage:
        self.constants.append(node.attrs["value"].array)
        return Storage(self.add_slot(slot("constant", node.out.type)))

    def is_native(self, value: Value) -> bool:
        """Is `value` written by native code (else by a host step)?"""
        node = self.fusion.producers[value]
        return value in self.fusion.group_of or self.has_code(node)

    def has_code(self, node: Node) -> bool:
        """Is a node that is in no group a part of native code? Within a loop or a branch each is,
        by calling Python if need be."""
        return self.around is not None or is_guarded(node) or self.has_kernels(node)

    def has_kernels(self, node: Node) -> bool:
        """Has a node that is in no group a native form?"""
        makers = (
            product_of, pieces_of, scatter_of, block_of, pool_of, running_of, self.factorisation,
            self.convolutions.kernel,
        )  # fmt: skip
        return self.is_native_control(node) or any(f(node) is not None for f in makers)

    def factorisation(self, node: Node) -> Factorisation | None:
        """What LAPACK is to compute for a node, where it is there."""
        return factorisation_of(node) if self.target.lapack else None

    def inside(self, graph: Graph) -> Assembly:
        """What puts a sub-graph together, with its launches."""
        if id(graph) not in self.ready:
            body = self.body(graph)
            assert body is not None
            inner = self.ready[id(graph)] = self.within(body)
            inner.route = inner.launches()
        return self.ready[id(graph)]

    # -- control flow

    @property
    def refusals(self) -> tuple[tuple[Node, Node, str], ...]:
        """What was not fused, and why, in the sub-graphs as well."""
        regions = (r for control in self.controls.values() for r in control.regions)
        return (*self.plan.refusals, *chain.from_iterable(r.inner.refusals for r in regions))

    def knows_sizes(self) -> bool:
        """Does native code know all sizes, those that Python works with before the run?"""
        alone = (s.node for s in self.plan.steps if s.node is not None)
        native = all(not symbols_in(n) or self.has_kernels(n) for n in alone)
        return native and all(map(self.growing.knows, chain(*map(symbols_in, self.graph.nodes))))

    def is_native_control(self, node: Node) -> bool:
        """Is `node` a loop or a branch that becomes native code?"""
        if self.is_scalar(node):
            return True
        graphs = sub_graphs(node)
        return bool(graphs) and all(self.body(g) is not None for g in graphs)

    def is_scalar(self, node: Node) -> bool:
        """Is `node` a loop that becomes one function of scalar code?"""
        if node not in self.scalars:
            self.scalars[node] = is_scalar_loop(node)
        return self.scalars[node]

    def body(self, graph: Graph) -> Body | None:
        """A sub-graph divided into kernels, if its sizes are known before it runs."""
        if id(graph) not in self.bodies:
            body = body_of(graph)
            known = body is not None and self.within(body).knows_sizes()
            self.bodies[id(graph)] = body if known else None
        return self.bodies[id(graph)]

    def within(self, body: Body) -> Assembly:
        """What puts a sub-graph together."""
        return Assembly(
            body.graph, body.fusion, body.plan, self.target, slots=self.slots,
            constants=self.constants, failures=self.failures, places=self.places,
            numbers=self.numbers, typed=body.typed, around=self, bodies=self.bodies,
            callables=self.callables, python_calls=self.python_calls, flush=self.flush,
        )  # fmt: skip

    def control(self, node: Node) -> Branch | Repeated:
        """A native loop or branch, with its memory."""
        if node not in self.controls:
            self.controls[node] = planned(self, node)
        return self.controls[node]

    def place(self, s: Storage) -> Place:
        """Where a storage is, when all memory is planned."""
        if s.outer is not None:
            assert self.around is not None
            return self.around.place(s.outer)
        if s.temp >= 0:
            return Place(offset=total(self.base, self.offsets[s.temp]))
        if s.record >= 0:
            return Place(record=s.record, array=s.array)
        return Place(s.slot, word=s.word)

    def moves(self, s: Storage) -> bool:
        """Does a word of the frame point at it?"""
        if s.outer is not None:
            assert self.around is not None
            return self.around.moves(s.outer)
        return s.word >= 0

    def memory_of(self, value: Value) -> Value:
        """The value in whose memory `value` lies."""
        memory = self.fusion.memory_of(value)
        if memory in self.fusion.places:
            return self.fusion.places[memory].memory
        return self.root(memory)

    def root(self, memory: Value) -> Value:
        """The first of those that are updated one in the place of the other."""
        while memory in self.merged:
            memory = self.merged[memory]
        return memory

    def locate(self, value: Value) -> Storage:
        """The storage of a value that has memory, made when first asked for."""
        memory = self.memory_of(value)
        if memory not in self.storage:
            node = self.fusion.producers[memory]
            if node.op.name == "constant":
                self.storage[memory] = self.constant(node)
            elif grows(node) and memory in frozenset(node.outputs[node.attrs["carried"] :]):
                self.growing.stacks_of(node)
            elif self.is_native(memory):
                t = memory.type
                nbytes = to_size(element_count(t.shape) * t.dtype.itemsize)
                shape = tuple(map(to_size, t.shape))
                self.storage[memory] = self.add_temp(t.dtype, shape, nbytes)
            else:
                self.storage[memory] = Storage(self.add_slot(slot("host", memory.type)))
        return self.storage[memory]

    def touch(self, step: Step, low: Lowered | None) -> list[Storage]:
        """The storage that a step reads or writes."""
        if low is None:
            assert step.node is not None
            kernel = self.convolutions.kernel(step.node)
            if kernel is not None:
                return self.touch_convolution(kernel, step.node)
            if self.is_native_control(step.node) and not self.is_scalar(step.node):
                return self.control(step.node).storage
            found = [self.locate(v) for v in (*step.node.inputs, *step.node.outputs)]
            factorisation = self.factorisation(step.node)
            if factorisation is not None:
                found.append(self.scratch_of(factorisation))
                self.buffers[step.node.outputs[0]] = found
            return found
        found = []
        for i, v in enumerate(low.values):
            found.append(self.locate(v) if v is not None else self.scratch(low.nest, i))
        for dtype, count, row in partials(low.nest):
            found.append(
                self.add_temp(dtype, (count, row), times(times(count, row), dtype.itemsize))
            )
        low.storage = found
        return found

    def scratch(self, nest: LoopNest, array: int) -> Storage:
        """A row for each thread that may work at the kernel."""
        threads = THREADS if nest.division is not None else 1
        row = row_bytes(nest, nest.arrays[array])
        return self.add_temp(dtypes.uint8, (threads, row), times(threads, row))

    def scratch_of(self, f: Factorisation) -> Storage:
        """Memory for each thread that may work at the matrices of a stack."""
        threads = THREADS if f.division is not None else 1
        return self.add_temp(
            dtypes.uint8, (threads, f.scratch_bytes), times(threads, f.scratch_bytes)
        )

    def touch_convolution(self, kernel: ConvolutionKernel, node: Node) -> list[Storage]:
        """What the kernel of a convolution gets, in order: see `ConvolutionKernel`. A buffer is one
        for each thread that may work at it, or for all."""
        found = [self.locate(v) for v in node.inputs]
        keeps = kernel.epilogue is None or kernel.epilogue.keeps
        found.append(self.locate(node.out) if keeps else found[0])
        for buffer in kernel.buffers:
            parts = THREADS if buffer.each_thread else 1
            nbytes = times(parts, buffer.nbytes)
            found.append(self.add_temp(dtypes.uint8, (parts, buffer.nbytes), nbytes))
        found += map(self.locate, self.convolutions.arrays_after(node))
        self.buffers[node.out] = found
        return found

    def plan_temps(self, last: Sequence[Storage] = ()) -> Size:
        """Give each temporary its offset; the bytes of all. Those of `last` live to the end."""
        touched = [
            [s for step, low in launch for s in self.touch(step, low)] for launch in self.route
        ]
        self.growing.touched = dict(zip(map(id, self.route), touched, strict=True))
        self.offsets, arena = self.place_temps([*touched, [*last]])
        return arena

    def place_temps(self, touched: list[list[Storage]]) -> tuple[list[Size], Size]:
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for k, places in enumerate(touched):
            for s in places:
                if s.temp >= 0:
                    home, _ = self.shared.get(s.temp, (s.temp, 0))
                    first.setdefault(home, k)
                    last[home] = k
        lives = []
        for i, (_, _, nbytes) in enumerate(self.temps):
            home, _ = self.shared.get(i, (i, 0))
            lives.append(Lifetime(nbytes if home == i else 0, first[home], last[home]))
        offsets, arena = plan_memory(lives)
        for i, (home, shift) in self.shared.items():
            offsets[i] = total(offsets[home], shift)
        return offsets, arena

    # -- steps

    def emit(self, launch: Launch, writer: ModuleWriter, steps: list[Native | Host]) -> None:
        place = self.place

        def done(*what: Any) -> None:
            whole = isinstance(what[0], CompiledStep)
            self.report.append(explained(self, what[0] if whole else CompiledStep(*what)))
            if self.apart and writer.open:
                steps.append(writer.end_entry())

        self.growing.reserve(launch, writer)
        step, low = launch[0]
        if len(launch) > 1:
            done(*launch_batch(self, launch, writer))
            return
        if low is not None:
            kernel = writer.kernel(low.nest, [place(s) for s in low.storage])
            done("kernel", tuple(step.nodes), low.nest, kernel, tuple(low.values))
            return
        node = step.node
        assert node is not None
        product = product_of(node)
        if product is not None:
            done(*launch_product(self, product, node, writer))
            return
        if self.is_scalar(node):
            own = self.growing.stacks_of(node) if grows(node) else -1
            places = [place(self.locate(v)) for v in (*node.inputs, *placed_outputs(node))]
            numbers = self.number_failures, self.growing.out_of_memory, self.python_call
            kernel = writer.scalar_loop(node, places, *numbers, own)
            done("loop", (node,), None, kernel)
            return
        if self.is_native_control(node):
            control = self.control(node)
            control.emit(self, writer)
            kind = "branch" if isinstance(control, Branch) else "loop"
            done(CompiledStep(kind, (node,), within=described(control)))
            return
        convolution = self.convolutions.kernel(node)
        if convolution is not None:
            places = [place(s) for s in self.buffers[node.out]]
            kernel = writer.convolution(convolution, places)
            done(*self.convolution_step(node, kernel))
            return
        factorisation = self.factorisation(node)
        if factorisation is not None:
            launch_factorisation(self, factorisation, node, writer)
            done("routine", (node,))
            return
        pieces = pieces_of(node)
        if pieces is not None:
            for piece, values in pieces:
                if self.fusion.memory_of(values[0]) in self.fusion.places:
                    continue  # the kernel that computes it has written it
                nest = divided(self.adjust(piece))
                kernel = writer.kernel(nest, [place(self.locate(v)) for v in values])
                done("kernel", (node,), nest, kernel, tuple(values))
            return
        pool = pool_of(node)
        if pool is not None:
            arrays = [place(self.locate(v)) for v in (*node.inputs, node.out)]
            done("kernel", (node,), None, writer.pool(pool, arrays))
            return
        running = running_of(node)
        if running is not None:
            arrays = [place(self.locate(v)) for v in (*node.inputs, node.out)]
            done("kernel", (node,), None, writer.running(running, arrays))
            return
        scatter = scatter_of(node)
        if scatter is not None:
            launch_scatter(self, scatter, node, writer)
            done("routine", (node,))
            return
        block = block_of(node)
        if block is not None:
            done("kernel", (node,), None, launch_block(self, block, node, writer))
            return
        if self.has_code(node):
            places = [place(self.locate(v)) for v in (*node.inputs, *node.outputs)]
            guarded = is_guarded(node)
            writer.python(self.python_call(node), places, places[0] if guarded else None)
            done("host", (node,))
            return
        if writer.open:
            steps.append(writer.end_entry())
        sizes = sizes_of(node)
        self.callables.append(host_function(node, sizes, self.flush))
        reads = tuple(self.host_index(self.locate(x)) for x in node.inputs)
        reads += tuple(s.argument for s in sizes)  # the inputs whose shapes tell them
        writes = tuple(self.locate(v).slot for v in node.outputs)
        steps.append(Host(len(self.callables) - 1, reads, writes))
        done("host", (node,))

    def python_call(self, node: Node) -> int:
        """The number of the call of Python that computes a node."""
        sizes = sizes_of(node)
        self.callables.append(called_function(node, sizes, self.flush))
        self.python_calls.append(python_call(node, len(self.callables) - 1, sizes))
        return len(self.python_calls) - 1

    def host_index(self, s: Storage) -> int:
        return s.slot if s.slot >= 0 else -1 - s.temp

    def convolution_step(self, node: Node, kernel: KernelText) -> tuple[Any, ...]:
        """What a report says of a convolution."""
        following = self.convolutions.following.get(node.out)
        if following is None:
            return "kernel", (node,), None, kernel
        step, low = following
        keeps = self.buffers[node.out][2] is not self.buffers[node.out][0]
        after = low.nest, tuple(low.values), keeps
        return "kernel", (node, *step.nodes), None, kernel, (), (), after

    def in_place(self, node: Node) -> bool:
        """Does a node update its first input where it lies?"""
        return self.locate(node.inputs[0]) is self.locate(node.out)
