"""A loop as one LLVM function of scalar code: its state is in registers, or where it lies.

    define internal i32 @k_scan_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the pointers of the inputs and outputs of the node, then those of records
(`llvm_scalar_growth.py`), then sizes, and where it calls Python the table and the routine for that.
What the node itself stacks for as long as it runs is the first record's. Small state are the phis
of the loop's head, and larger state is changed where it lies; a branch is a branch, and a loop
within is a loop. What a step stacks is written in its place of the result at once. Which loops
these are, `kernels/scalar_loops.py` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphgrad.compiler.codegen.llvm_interrupts import interrupted
from graphgrad.compiler.codegen.llvm_scalar import (
    ATTRIBUTES,
    Lanes,
    ModuleParts,
    llvm_type,
)
from graphgrad.compiler.codegen.llvm_scalar_arrays import ScalarArrays
from graphgrad.compiler.codegen.llvm_scalar_calls import ScalarCalls
from graphgrad.compiler.codegen.llvm_scalar_growth import NoMemory, ScalarGrowth
from graphgrad.compiler.codegen.llvm_scalar_memory import Held, Known, Range
from graphgrad.compiler.families import Elementwise, Generator, Indexed, Reduce, View
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.kernels.carried_arrays import (
    LOOPS,
    UPDATES,
    Course,
    course,
    held_state,
    is_small,
)
from graphgrad.compiler.kernels.scalar_loops import (
    are_cheap,
    contiguous,
    grows,
    is_range,
    most_trips,
    placed_outputs,
)
from graphgrad.compiler.transform.sizes import is_runtime
from graphgrad.compiler.types import TensorType, tensor_type

Numbers = Callable[[Node], tuple[tuple[str, int], ...]]  # of the checks of a node, by kind
Env = dict[Value, Known]

# A loop asks after so many steps whether it is interrupted.
ASK_STEPS = 1 << 16


class ScalarLoopEmitter(ScalarArrays, ScalarCalls, ScalarGrowth):
    """Writes the function of one loop."""

    def __init__(
        self, node: Node, numbers: Numbers, no_memory: NoMemory, calls: Callable[[Node], int],
        parts: ModuleParts,
    ) -> None:  # fmt: skip
        super().__init__(parts, no_memory)
        self.node = node
        self.numbers = numbers
        self.calls = calls  # the number of the call of Python that a node is
        self.calls_python = False

    def emit(self) -> str:
        """The text of the function."""
        node = self.node
        arrays = (*node.inputs, *placed_outputs(node))
        pointers = [f"%p{i}" for i in range(len(arrays))]
        inputs = [
            Held(p, contiguous(x.type.shape), x.type.dtype, True)
            for p, x in zip(pointers, node.inputs, strict=False)
        ]
        targets = pointers[len(inputs) :]
        carried: int = node.attrs["carried"]
        starts = [
            x if is_small(v.type) else self.begun(x, p)
            for x, v, p in zip(inputs, node.inputs[:carried], targets, strict=False)
        ]
        ends = self.loop(node, [*starts, *inputs[carried:]], targets, frozenset(node.outputs))
        for v, end, target in zip(node.outputs[:carried], ends, targets, strict=False):
            self.store(end, target, v.type)
        # Loads of inputs are marked as ones of memory that never changes: true of this function,
        # not of its callers.
        signature = "@KERNEL(ptr %status, i64 %lo, i64 %hi, ptr %args)"
        head = [f"define internal i32 {signature} noinline {ATTRIBUTES} {{", "entry:"]
        for i, p in enumerate(pointers):
            head.append(f"  %pp{i} = getelementptr ptr, ptr %args, i64 {i}")
            head.append(f"  {p} = load ptr, ptr %pp{i}")
        records = len(self.records)
        for i in range(records):
            head.append(f"  %gp{i} = getelementptr ptr, ptr %args, i64 {len(arrays) + i}")
            head.append(f"  %g{i} = load ptr, ptr %gp{i}")
        for i in self.sizes.values():
            head.append(f"  %np{i} = getelementptr i64, ptr %args, i64 {len(arrays) + records + i}")
            head.append(f"  %n{i} = load i64, ptr %np{i}")
        last = len(arrays) + records + len(self.sizes)
        for i, name in enumerate(("table", "python") if self.calls_python else ()):
            head.append(f"  %at_{name} = getelementptr ptr, ptr %args, i64 {last + i}")
            head.append(f"  %{name} = load ptr, ptr %at_{name}")
        return "\n".join([*head, *self.frame, *self.text.lines, "  ret i32 0", "}"])

    # -- graphs

    def graph(
        self, graph: Graph, inputs: Sequence[Known], targets: dict[Value, str],
        owned: frozenset[int] = frozenset(),
    ) -> list[Known]:  # fmt: skip
        """The outputs of a graph; `targets` says where values are to be written, and the memory of
        the parameters `owned` may change."""
        env: Env = {
            p: self.loaded(x) if is_small(p.type) else x
            for p, x in zip(graph.params, inputs, strict=True)
        }
        found, read = course(graph, owned), frozenset(graph.uses).union(graph.outputs)
        for node in found.nodes:
            self.visit(node, env, targets, found, read)
        return [env[v] for v in graph.outputs]

    def visit(
        self, node: Node, env: Env, targets: dict[Value, str], found: Course, read: frozenset[Value]
    ) -> None:
        """Compute the outputs of one node, of which somebody reads those in `read`."""
        op, inputs = node.op, [env[x] for x in node.inputs]
        for k, v in enumerate(node.outputs):
            if v in found.copied:
                inputs[k] = self.copy(inputs[k], v)
        self.e.failures = dict(self.numbers(node)) if op.failures else {}
        if op.name in LOOPS:
            places = self.places(node, targets)
            outs = self.loop(node, inputs, [*[""] * node.attrs["carried"], *places], read)
            for v, x in zip(node.outputs, outs, strict=True):
                env[v] = self.loaded(x) if is_small(v.type) else x
            return
        if op.effect:
            self.calls_python = True
            self.python(node, inputs, self.calls(node))
            return
        if op.name == "cond":
            owned = found.own(node.inputs[1:])
            env.update(zip(node.outputs, self.branches(node, inputs, owned), strict=True))
            return
        if is_range(node, {v for v in node.inputs if isinstance(env[v], Range)}):
            env[node.out] = self.range(node, inputs)
            return
        if op.name == "constant":
            out = self.constant(node)
        elif isinstance(op, Elementwise):
            out = self.elementwise(node, inputs)
        elif isinstance(op, Generator):
            out = self.generated(node, inputs)
        elif op.name == "matmul":
            out = self.product_of(node, *inputs)
        elif isinstance(op, Reduce):
            out = self.reduced(node, inputs[0])
        elif isinstance(op, View) and isinstance(inputs[0], Held):
            out = self.view(node, inputs[0])
        elif isinstance(op, View):
            out = self.rearranged(node, inputs)
        else:
            assert isinstance(op, Indexed)
            form = "rearranged" if op.lowering in ("concat", "unslice") else op.lowering
            if op.lowering in UPDATES and isinstance(inputs[0], Held):
                form += "_in_place"
            out = getattr(self, form)(node, inputs)
        env[node.out] = self.loaded(out) if is_small(node.out.type) else out

    # -- control flow

    def branches(
        self, node: Node, inputs: Sequence[Known], owned: frozenset[int]
    ) -> list[Known]:  # fmt: skip
        """The results of the branch that is taken."""
        e, text, attrs = self.e, self.text, node.attrs
        (condition,), labels = inputs[0], [text.name(s) for s in ("then", "else", "joined")]
        graphs = attrs["true_graph"], attrs["false_graph"]
        if are_cheap(*graphs):
            yes, no = (self.graph(g, inputs[1:], {}) for g in graphs)
            return [
                tuple(a if a == b else e.select(condition, a, b) for a, b in zip(x, y, strict=True))
                for x, y in zip(yes, no, strict=True)
            ]
        text.line(f"br i1 {condition.text}, label %{labels[0]}, label %{labels[1]}")
        ends: list[tuple[str | None, list[Known]]] = []
        for label, graph in zip(labels, graphs, strict=False):
            with e.aside():
                e.begin(label)
                found = self.graph(graph, inputs[1:], {}, owned)
                ends.append((e.label, found))
                text.line(f"br label %{labels[2]}")
        e.begin(labels[2])
        (taken, yes), (other, no) = ends
        return [
            x if isinstance(x, Held)  # both branches leave it there
            else tuple(e.joined([(taken, a), (other, b)]) for a, b in zip(x, y, strict=True))
            for x, y in zip(yes, no, strict=True)
        ]  # fmt: skip

    def places(self, node: Node, targets: dict[Value, str]) -> list[str]:
        """Where a loop within is to stack; it has that in records where nobody knows how much."""
        values = node.outputs[node.attrs["carried"] :]
        if grows(node):
            return [""] * len(values)
        open_ = [v for v in values if v not in targets and is_runtime(v.type)]
        length = most_trips(node.attrs)
        if open_ and length is not None:
            entries = [tensor_type(v.type.shape[1:], v.type.dtype) for v in open_]
            found = self.reserved(node, self.size(length), entries)
            targets = targets | dict(zip(open_, found, strict=True))
        return [self.place(v, targets) for v in values]

    def loop(
        self, node: Node, inputs: Sequence[Known], targets: Sequence[str], read: frozenset[Value]
    ) -> list[Known]:
        """The results of a loop; it stacks rows where `targets` say, one for each output, or in a
        record of its own those of the outputs that are `read`."""
        e, text, attrs = self.e, self.text, node.attrs
        carried: int = attrs["carried"]
        masked: bool = attrs.get("masked", False)
        split = carried + masked + attrs.get("scanned", 0)
        body: Graph = attrs["body_graph"]
        types = [v.type for v in body.outputs[carried:]]
        kept = [k for k, v in enumerate(node.outputs[carried:]) if v in read]
        start = [
            self.loaded(x) if is_small(p.type) else x
            for x, p in zip(inputs, body.params[:carried], strict=False)
        ]
        scanned = [*map(self.in_rows, inputs[carried:split], node.inputs[carried:split])]
        # What is small and stays is loaded before the loop.
        stay = [
            self.loaded(x) if is_small(v.type) else x
            for x, v in zip(inputs[split:], node.inputs[split:], strict=True)
        ]
        most = most_trips(attrs)
        limit = "" if most is None else self.size(most)
        first = self.begin_stacks(node, kept, types) if grows(node) else None
        step, inside, made, after = (text.name(s) for s in ("head", "body", "next", "exit"))
        before = e.label
        text.line(f"br label %{step}")
        e.begin(step)
        top = len(text.lines)
        trip = "%" + text.name("trip")
        state = [
            xs if isinstance(xs, Held) else tuple(Lanes("%" + text.name("s"), x.dtype) for x in xs)
            for xs in start
        ]
        room = None if first is None else self.carried_stacks(first)
        enough = room
        with e.aside():
            if limit:
                self.go_on_if(text.assign(f"icmp slt i64 {trip}, {limit}"), after)
            if "cond_graph" in attrs:
                ((flag,),) = self.graph(attrs["cond_graph"], [*state, *stay], {})
                self.go_on_if(flag.text, after)
            row = trip
            if attrs.get("reverse"):
                row = text.assign(f"sub i64 {text.assign(f'sub i64 {limit}, 1')}, {trip}")
            bases = dict(enumerate(targets[carried : carried + len(types)]))
            if room is not None:
                enough = self.with_room(room, trip)
                bases = dict(zip(kept, enough.pointers, strict=True))
            places = {k: self.row_of(bases[k], t, row) for k, t in enumerate(types) if k in bases}
            skipped = text.name("skip") if masked else ""
            if masked:
                (flag,) = self.loaded(self.entry(scanned[0], row))
                text.line(f"br i1 {flag.text}, label %{inside}, label %{skipped}")
                text.block(skipped)
                for k, p in places.items():
                    self.fill(p, "0", self.bytes_of(types[k]))
                text.line(f"br label %{made}")
            else:
                text.line(f"br label %{inside}")
            e.begin(inside)
            if "cond_graph" in attrs and text.parts.interrupts:
                self.listen(trip)
            rows = [self.entry(x, row) for x in scanned[masked:]]
            stacked = {k: body.outputs[carried + k] for k in places}
            straight = {v: places[k] for k, v in stacked.items() if not is_small(v.type)}
            ends = self.graph(body, [*state, *rows, *stay], straight, held_state(body, carried))
            for k, p in places.items():
                self.store(ends[carried + k], p, types[k])
            for x, end, v in zip(state, ends, body.params[:carried], strict=False):
                if isinstance(x, Held):
                    self.store(end, x.pointer, v.type)
            last = e.label
            text.line(f"br label %{made}")
            e.begin(made)
            following = []
            for xs, now in zip(ends[:carried], state, strict=True):
                if masked and not isinstance(now, Held):
                    pairs = zip(xs, now, strict=True)
                    xs = [e.joined([(last, x), (skipped, old)]) for x, old in pairs]
                following.append(xs)
            next_trip = text.assign(f"add nsw i64 {trip}, 1")
            text.line(f"br label %{step}")
        phis = [(trip, "i64", "0", next_trip)]
        for firsts, now, then in zip(start, state, following, strict=True):
            if isinstance(now, Held):
                continue
            for a, b, c in zip(firsts, now, then, strict=True):
                phis.append((b.text, llvm_type(b.dtype), a.text, c.text))
        if first is not None and room is not None and enough is not None:
            phis.append((room.room, "i64", first.room, enough.room))
            pointers = zip(room.pointers, first.pointers, enough.pointers, strict=True)
            phis += [(name, "ptr", a, b) for name, a, b in pointers]
        text.lines[top:top] = [
            f"  {name} = phi {t} [ {a}, %{before} ], [ {b}, %{made} ]" for name, t, a, b in phis
        ]
        e.begin(after)
        targets = list(targets[carried:])
        if room is not None:
            self.counts[attrs["trips"]] = trip
            self.set_count(room.record, trip)
            targets = [""] * (len(node.outputs) - carried)
            for k, p in zip(kept, room.pointers, strict=True):
                targets[k] = p
            if targets[-1]:
                self.fill(targets[-1], "1", trip)
        elif attrs.get("trips") is not None:
            self.end_of_room(trip, limit, targets, types)
        stacks = [
            Held(p, contiguous(v.type.shape), v.type.dtype, False)
            for p, v in zip(targets, node.outputs[carried:], strict=True)
        ]
        return [*state, *stacks]

    def listen(self, trip: str) -> None:
        """Leave the function if the user interrupts it."""
        text = self.text
        listen, leave, on = (text.name(s) for s in ("listen", "leave", "on"))
        place = text.assign(f"and i64 {trip}, {ASK_STEPS - 1}")
        due = text.assign(f"icmp eq i64 {place}, {ASK_STEPS - 1}")
        text.line(f"br i1 {due}, label %{listen}, label %{on}")
        text.block(listen)
        stop = text.assign(f"icmp ne i32 {text.assign(interrupted(text.parts))}, 0")
        text.line(f"br i1 {stop}, label %{leave}, label %{on}")
        text.block(leave)
        text.line("ret i32 1")
        self.e.begin(on)

    def go_on_if(self, condition: str, after: str) -> None:
        """Leave the loop where a condition fails."""
        on = self.text.name("on")
        self.text.line(f"br i1 {condition}, label %{on}, label %{after}")
        self.e.begin(on)

    def end_of_room(
        self, trip: str, room: str, targets: Sequence[str], types: Sequence[TensorType]
    ) -> None:
        """Flags of the steps that were made; zeros for those that were not."""
        rest = self.text.assign(f"sub i64 {room}, {trip}")
        *stacks, flags = targets
        self.fill(flags, "1", trip)
        self.fill(self.text.assign(f"getelementptr i8, ptr {flags}, i64 {trip}"), "0", rest)
        for p, t in zip(stacks, types, strict=True):
            nbytes = self.bytes_of(t)
            at = self.text.assign(f"getelementptr i8, ptr {p}, i64 {self.product(trip, nbytes)}")
            self.fill(at, "0", self.product(rest, nbytes))
