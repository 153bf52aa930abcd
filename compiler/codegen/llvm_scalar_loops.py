"""A loop as one LLVM function of scalar code: its state is in registers.

    define internal i32 @k_scan_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the pointers of the inputs and outputs of the node, then sizes. State are the phis of
the loop's head; a branch is a branch, and a loop within is a loop. What a step stacks is written in
its place of the result at once. Which loops these are, `kernels/scalar_loops.py` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_memory import leave
from graphgrad.compiler.codegen.llvm_nest import combine, identity_of
from graphgrad.compiler.codegen.llvm_numbers import is_number
from graphgrad.compiler.codegen.llvm_scalar import (
    ATTRIBUTES,
    FunctionText,
    Lanes,
    ModuleParts,
    VectorEmitter,
    llvm_literal,
    llvm_type,
)
from graphgrad.compiler.codegen.llvm_vectors import memory_type
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Elementwise, Generator, Indexed, Reduce, View
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.kernels.index_maps import row_major
from graphgrad.compiler.kernels.loops import compute_dtype
from graphgrad.compiler.kernels.scalar_loops import (
    LOOPS,
    Layout,
    are_cheap,
    contiguous,
    is_power_of_two,
    is_small,
    most_trips,
    picked,
    places_read,
    reduced_places,
    seen_through,
)
from graphgrad.compiler.scalar.trigonometric import cos_near_zero, sin_near_zero
from graphgrad.compiler.transform.sizes import is_runtime
from graphgrad.compiler.types import TensorType, element_count

LITERAL_SIZE = 64  # sizes up to this are written into the function, others are arguments

Numbers = Callable[[Node], tuple[tuple[str, int], ...]]  # of the checks of a node, by kind
Small = tuple[Lanes, ...]  # a small value, in row-major order


@dataclass(frozen=True, slots=True)
class Held:
    """A held value: `pointer` is where its layout starts counting. Inputs of the function stay as
    they are while it runs; what it writes itself does not."""

    pointer: str
    layout: Layout
    dtype: DType
    is_input: bool


@dataclass(frozen=True, slots=True)
class Range:
    """Values that are computed where they are read, from their place."""

    element: Callable[[str], Lanes]


Known: TypeAlias = Any  # Small, Held or Range
Env = dict[Value, Known]


class ScalarEmitter(VectorEmitter):
    """One lane, that knows how to fail.

    A step of a loop waits for the one before, so the way through a function is to be short: where
    processors can guess which way that is, it is a branch.
    """

    is_serial = True

    def __init__(self, text: FunctionText) -> None:
        super().__init__(text, 1, "entry")
        self.failures: dict[str, int] = {}  # of the node at work

    def _require(self, cond: Lanes, a: Lanes, b: Lanes, dtype: DType, kind: str) -> Lanes:
        """Leave the function with a filled status record where `cond` is false."""
        failed, ok = self.text.name("fail"), self.text.name("ok")
        self.text.line(f"br i1 {cond.text}, label %{ok}, label %{failed}")
        self.text.block(failed)
        leave(self.text, self.failures[kind], "0", a, b)
        self.begin(ok)
        return cond

    def named(self, fn: str, args: tuple[Lanes, ...], attr: Any = None) -> Lanes:
        """As the base class; sines of small angles by a branch, without range reduction."""
        if fn in ("floordiv", "mod") and args[0].dtype.is_integer:
            by = args[1].number
            if by is not None and is_power_of_two(by):
                x, by = args[0], int(by)
                return self.and_(x, by - 1) if fn == "mod" else self.shifted(x, by.bit_length() - 1)
        near = {"sin": sin_near_zero, "cos": cos_near_zero}.get(fn)
        if near is None:
            return super().named(fn, args, attr)  # type: ignore[no-any-return]
        (x,), key = args, f"{fn} {self.typed(args[0])}"
        if key not in self._known:
            small = self.le(self.abs(x), math.pi / 4)
            ways = [lambda: near(self, x), lambda: super(ScalarEmitter, self).named(fn, args)]
            self._known[key] = self.either(small, *ways).text
        return Lanes(self._known[key], x.dtype)

    def shifted(self, x: Lanes, bits: int) -> Lanes:
        """x divided by a power of two, rounded down."""
        return self.ashr(x, bits) if x.dtype.kind == "i" else self.lshr(x, bits)  # type: ignore[no-any-return]

    def either(
        self, condition: Lanes, taken: Callable[[], Lanes], other: Callable[[], Lanes]
    ) -> Lanes:
        """One of two values, computed where it is needed."""
        labels = [self.text.name(s) for s in ("then", "else", "joined")]
        self.text.line(f"br i1 {condition.text}, label %{labels[0]}, label %{labels[1]}")
        ways = []
        for label, compute in zip(labels, (taken, other), strict=False):
            with self.aside():
                self.begin(label)
                found = compute()
                ways.append((self.label, found))
                self.text.line(f"br label %{labels[2]}")
        self.begin(labels[2])
        return self.joined(ways)

    def joined(self, ways: Sequence[tuple[str | None, Lanes]]) -> Lanes:
        """The value that belongs to the block from which control comes."""
        dtype = ways[0][1].dtype
        if len({x.text for _, x in ways}) == 1:
            return ways[0][1]
        arms = ", ".join(f"[ {x.text}, %{label} ]" for label, x in ways)
        return Lanes(self.text.assign(f"phi {llvm_type(dtype)} {arms}"), dtype)

    def begin(self, label: str) -> None:
        """Begin a basic block."""
        self.text.block(label)
        self.label = label

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is emitted in here is not known after it: it may not have run."""
        before = dict(self._known)
        yield
        self._known = before


class ScalarLoopEmitter:
    """Writes the function of one loop."""

    def __init__(self, node: Node, numbers: Numbers, parts: ModuleParts) -> None:
        self.node = node
        self.numbers = numbers
        self.parts = parts
        self.text = FunctionText(parts)
        self.e = ScalarEmitter(self.text)
        self.sizes: dict[Extent, int] = {}  # with their numbers, in order
        self.counts: dict[Extent, str] = {}  # sizes that values tell
        self.frame: list[str] = []  # memory of the function

    def emit(self) -> str:
        """The text of the function."""
        node, arrays = self.node, (*self.node.inputs, *self.node.outputs)
        pointers = [f"%p{i}" for i in range(len(arrays))]
        inputs = [
            Held(p, contiguous(x.type.shape), x.type.dtype, True)
            for p, x in zip(pointers, node.inputs, strict=False)
        ]
        targets = pointers[len(inputs) :]
        carried: int = node.attrs["carried"]
        ends = self.loop(node, inputs, targets)
        for v, end, target in zip(node.outputs[:carried], ends, targets, strict=False):
            self.store(end, target, v.type)
        head = [
            f"define internal i32 @KERNEL(ptr %status, i64 %lo, i64 %hi, ptr %args) {ATTRIBUTES} {{"
        ]
        head.append("entry:")
        for i, p in enumerate(pointers):
            head.append(f"  %pp{i} = getelementptr ptr, ptr %args, i64 {i}")
            head.append(f"  {p} = load ptr, ptr %pp{i}")
        for i in self.sizes.values():
            head.append(f"  %np{i} = getelementptr i64, ptr %args, i64 {len(arrays) + i}")
            head.append(f"  %n{i} = load i64, ptr %np{i}")
        return "\n".join([*head, *self.frame, *self.text.lines, "  ret i32 0", "}"])

    # -- graphs

    def graph(
        self, graph: Graph, inputs: Sequence[Known], targets: dict[Value, str]
    ) -> list[Known]:
        """The outputs of a graph; `targets` says where values are to be written."""
        env: Env = {
            p: self.loaded(x) if is_small(p.type) else x
            for p, x in zip(graph.params, inputs, strict=True)
        }
        for node in graph.nodes:
            self.visit(node, env, targets)
        return [env[v] for v in graph.outputs]

    def visit(self, node: Node, env: Env, targets: dict[Value, str]) -> None:
        """Compute the outputs of one node."""
        op, inputs = node.op, [env[x] for x in node.inputs]
        self.e.failures = dict(self.numbers(node)) if op.failures else {}
        if op.name in LOOPS:
            places = [self.place(v, targets) for v in node.outputs[node.attrs["carried"] :]]
            outs = self.loop(node, inputs, [*[""] * node.attrs["carried"], *places])
            for v, x in zip(node.outputs, outs, strict=True):
                env[v] = self.loaded(x) if is_small(v.type) else x
            return
        if op.name == "cond":
            env.update(zip(node.outputs, self.branches(node, inputs), strict=True))
            return
        if any(is_runtime(v.type) for v in node.outputs):
            env[node.out] = self.range(node, inputs)
            return
        if op.name == "constant":
            found = self.constant(node)
        elif isinstance(op, Elementwise):
            found = self.elementwise(node, inputs)
        elif isinstance(op, Generator):
            found = self.generated(node, inputs)
        elif op.name == "matmul":
            found = self.product_of(node, *inputs)
        elif isinstance(op, Reduce):
            found = self.reduced(node, inputs[0])
        elif isinstance(op, View) and isinstance(inputs[0], Held):
            found = self.view(node, inputs[0])
        elif isinstance(op, View):
            found = self.rearranged(node, inputs)
        else:
            assert isinstance(op, Indexed)
            form = "rearranged" if op.lowering in ("concat", "unslice") else op.lowering
            found = getattr(self, form)(node, inputs)
        env[node.out] = self.loaded(found) if is_small(node.out.type) else found

    # -- small values

    def constant(self, node: Node) -> Known:
        array, dtype = node.attrs["value"].array, node.out.type.dtype
        if is_small(node.out.type):
            return tuple(self.e.const(x, dtype) for x in array.ravel().tolist())
        element = memory_type(dtype)
        if dtype.is_bool:
            texts = [str(int(x)) for x in array.ravel()]
        else:
            texts = [llvm_literal(x, dtype) for x in array.ravel().tolist()]
        elements = ", ".join(f"{element} {x}" for x in texts)
        definition = f"private unnamed_addr constant [{array.size} x {element}] [{elements}]"
        known = self.parts.globals
        name = known.setdefault(definition, f"@gg.table.{len(known)}")
        return Held(name, contiguous(node.out.type.shape), dtype, True)

    def elementwise(self, node: Node, inputs: Sequence[Known]) -> Small:
        shape = node.out.type.shape
        columns = [
            [x[k] for k in positions(v.type, shape)]
            for v, x in zip(node.inputs, inputs, strict=True)
        ]
        return tuple(self.scalar(node, row) for row in zip(*columns, strict=True))

    def scalar(self, node: Node, inputs: Sequence[Lanes]) -> Lanes:
        """One element by the op's scalar function; 16-bit floats go through float32."""
        e, op = self.e, node.op
        assert isinstance(op, Elementwise | Generator)
        lanes = [e.convert(x, compute_dtype(x.dtype)) for x in inputs]
        return e.convert(op.scalar(e, *lanes, **node.attrs), node.out.type.dtype)  # type: ignore[no-any-return]

    def range(self, node: Node, inputs: Sequence[Known]) -> Range:
        """Numbers in a row, as many as a value says."""
        if node.op.name == "places":
            ((count,),) = inputs
            self.counts[node.attrs["size"]] = self.e.convert(count, dtypes.int64).text
            return Range(lambda place: Lanes(place, dtypes.int64))

        def at(x: Known, place: str) -> Lanes:
            return x.element(place) if isinstance(x, Range) else x[0]

        if node.op.name == "broadcast_to":
            return Range(lambda place: at(inputs[0], place))
        failures = self.e.failures

        def element(place: str) -> Lanes:
            lanes = [at(x, place) for x in inputs]
            self.e.failures = failures
            return self.scalar(node, lanes)

        return Range(element)

    def generated(self, node: Node, inputs: Sequence[Known]) -> Small:
        """One element after the other, from its index and the elements of the inputs."""
        lead = max((v.type.ndim - 1 for v in node.inputs), default=0)
        lead = max(lead, 0)
        own = int(element_count(node.out.type.shape[lead:]))
        found = []
        for k in range(int(element_count(node.out.type.shape))):
            index = self.e.const(k % own, dtypes.int64)
            lanes: list[Lanes] = []
            for x, v in zip(inputs, node.inputs, strict=True):
                count = v.type.shape[-1] if v.type.shape else 1
                first = k // own * count if v.type.ndim > 1 else 0
                lanes += x[first : first + count]
            found.append(self.scalar(node, [index, *lanes]))
        return tuple(found)

    def reduced(self, node: Node, x: Small) -> Small:
        e, op, dtype = self.e, node.op, node.out.type.dtype
        assert isinstance(op, Reduce)
        wide = compute_dtype(dtype)
        found = []
        for places in reduced_places(node):
            parts = [e.convert(x[k], wide) for k in places]
            total = parts[0] if parts else e.const(identity_of(op.combiner, wide), wide)
            for part in parts[1:]:
                total = combine(e, op.combiner, total, part)
            found.append(e.convert(total, dtype))
        return tuple(found)

    def product_of(self, node: Node, a: Small, b: Small) -> Small:
        """The matrix product, term after term."""
        e, dtype = self.e, node.out.type.dtype
        wide = compute_dtype(dtype)
        rows, columns = (numbers(x.type.shape) for x in node.inputs)
        rows = rows.T if node.attrs["transpose_a"] else rows
        columns = columns if node.attrs["transpose_b"] else columns.T
        found = []
        for row in rows.tolist():
            for column in columns.tolist():
                total = e.const(0, wide)
                for k, (i, j) in enumerate(zip(row, column, strict=True)):
                    term = e.mul(e.convert(a[i], wide), e.convert(b[j], wide))
                    total = e.add(total, term) if k else term
                found.append(e.convert(total, dtype))
        return tuple(found)

    def rearranged(self, node: Node, inputs: Sequence[Small]) -> Small:
        """Elements of small values, or zeros, at other places."""
        lanes = [lane for x in inputs for lane in x]
        zero = self.e.const(0, node.out.type.dtype)
        return tuple(zero if k < 0 else lanes[k] for k in places_read(node))

    # -- views of held values

    def view(self, node: Node, x: Held) -> Held:
        layout = seen_through(node, x.layout)
        assert layout is not None
        return Held(x.pointer, layout, x.dtype, x.is_input)

    # -- elements picked and placed by index

    def index(self, x: Lanes, size: str, kind: str) -> Lanes:
        """An index as int64, checked."""
        e = self.e
        index, count = e.convert(x, dtypes.int64), Lanes(size, dtypes.int64)
        inside = self.e.emit(f"icmp ult i64 {index.text}, {size}")
        e.require(Lanes(inside, dtypes.bool_), kind, index, count)
        return index  # type: ignore[no-any-return]

    def gather(self, node: Node, inputs: Sequence[Known]) -> Known:
        x, indices = inputs
        shape, axis = node.inputs[0].type.shape, node.attrs["axis"]
        size = self.size(shape[axis])
        found = [self.index(i, size, "index") for i in indices]
        if isinstance(x, Held):
            stride = x.layout.strides[axis]
            rest = picked(node, x.layout)
            parts = [
                Held(self.moved(x, self.product(i.text, stride)), rest, x.dtype, x.is_input)
                for i in found
            ]
            if not is_small(node.out.type):
                return parts[0]
            rows = [self.loaded(p) for p in parts]
        else:
            rows = []
            for i in found:
                rows.append(
                    tuple(
                        self.chosen(i, [x[k] for k in line])
                        for line in np.moveaxis(numbers(shape), axis, -1)
                        .reshape((-1, shape[axis]))
                        .tolist()
                    )
                )
        return in_order(rows, node)

    def chosen(self, index: Lanes, lanes: Sequence[Lanes]) -> Lanes:
        """The lane that an index says."""
        found = lanes[0]
        for k, lane in enumerate(lanes[1:], 1):
            found = self.e.select(self.e.eq(index, k), lane, found)
        return found

    def scatter(self, node: Node, inputs: Sequence[Small]) -> Small:
        return self.scattered(node, inputs[0], inputs[1], inputs[2], node.inputs[2].type)

    def scatter_add(self, node: Node, inputs: Sequence[Small]) -> Small:
        zeros = (self.e.const(0, node.out.type.dtype),) * int(element_count(node.out.type.shape))
        return self.scattered(node, zeros, inputs[0], inputs[1], node.inputs[1].type)

    def scattered(
        self, node: Node, x: Small, updates: Small, indices: Small, picks: TensorType
    ) -> Small:
        """The updates, one after the other, at the places that indices say."""
        e, shape = self.e, node.out.type.shape
        axis, mode = node.attrs.get("axis", 0), node.attrs.get("mode", "add")
        out, dtype = list(x), node.out.type.dtype
        wide = compute_dtype(dtype)
        lines = np.moveaxis(numbers(shape), axis, 0)
        given = numbers((*shape[:axis], len(indices), *shape[axis + 1 :]))
        given = np.moveaxis(given, axis, 0)
        size = self.size(shape[axis])
        for i, update in zip(indices, given, strict=True):
            index = self.index(i, size, "index")
            for k, line in enumerate(lines):
                here = e.eq(index, k)
                for place, u in zip(line.ravel().tolist(), update.ravel().tolist(), strict=True):
                    new = updates[u]
                    if mode != "update":
                        combiner = {"add": "sum", "max": "max", "min": "min"}[mode]
                        both = (e.convert(v, wide) for v in (out[place], new))
                        new = e.convert(combine(e, combiner, *both), dtype)
                    out[place] = e.select(here, new, out[place])
        return tuple(out)

    def begins(self, node: Node, starts: Sequence[Small], sizes: Sequence[Extent]) -> list[Any]:
        """Where a block starts along each axis: an int, or a checked index."""
        e, shape = self.e, node.inputs[0].type.shape
        dynamic, found = iter(starts), []
        steps = node.attrs["steps"]
        for n, start, m, step in zip(shape, node.attrs["starts"], sizes, steps, strict=True):
            if start is not None:
                found.append(start)
                continue
            ((lane,), last) = next(dynamic), Lanes(self.size(n - 1 - (m - 1) * step), dtypes.int64)
            index = e.convert(lane, dtypes.int64)
            inside = e.and_(e.ge(index, 0), e.le(index, last))
            e.require(inside, "start", index, last)
            found.append(index)
        return found

    def offset(self, begins: Sequence[Any], strides: Sequence[Extent]) -> str:
        """The element at which a block starts."""
        total = "0"
        for begin, stride in zip(begins, strides, strict=True):
            text = begin.text if isinstance(begin, Lanes) else self.size(begin)
            total = self.sum(total, self.product(text, stride))
        return total

    def dynamic_slice(self, node: Node, inputs: Sequence[Known]) -> Known:
        x, *starts = inputs
        sizes = node.attrs["sizes"]
        begins = self.begins(node, starts, sizes)
        if isinstance(x, Held):
            pointer = self.moved(x, self.offset(begins, x.layout.strides))
            return Held(pointer, picked(node, x.layout), x.dtype, x.is_input)
        base, block = self.block(node, begins, sizes)
        return tuple(self.chosen(base, x[k:]) for k in block)

    def update_slice(self, node: Node, inputs: Sequence[Small]) -> Small:
        x, update, *starts = inputs
        sizes = node.inputs[1].type.shape
        base, block = self.block(node, self.begins(node, starts, sizes), sizes)
        out = list(x)
        for k, u in zip(block, update, strict=True):
            for place in range(k, len(out)):
                out[place] = self.e.select(self.e.eq(base, place - k), u, out[place])
        return tuple(out)

    def block(
        self, node: Node, begins: Sequence[Any], sizes: Sequence[Any]
    ) -> tuple[Lanes, list[int]]:
        """The element of a small value at which a block starts, and its elements from there on."""
        strides = row_major(node.inputs[0].type.shape)
        base = self.offset(begins, strides)
        steps = [s * k for s, k in zip(strides, node.attrs["steps"], strict=True)]
        grid = np.indices(tuple(sizes)).reshape((len(steps), int(np.prod(sizes))))
        block = [sum(s * int(i) for s, i in zip(steps, at, strict=True)) for at in grid.T]
        return Lanes(base, dtypes.int64), block

    # -- control flow

    def branches(self, node: Node, inputs: Sequence[Known]) -> list[Small]:
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
        for label, key in zip(labels, ("true_graph", "false_graph"), strict=False):
            with e.aside():
                e.begin(label)
                found = self.graph(node.attrs[key], inputs[1:], {})
                ends.append((e.label, found))
                text.line(f"br label %{labels[2]}")
        e.begin(labels[2])
        (taken, yes), (other, no) = ends
        return [
            tuple(e.joined([(taken, a), (other, b)]) for a, b in zip(x, y, strict=True))
            for x, y in zip(yes, no, strict=True)
        ]

    def loop(self, node: Node, inputs: Sequence[Known], targets: Sequence[str]) -> list[Known]:
        """The results of a loop; it stacks rows where `targets` say, one for each output."""
        e, text, attrs = self.e, self.text, node.attrs
        carried: int = attrs["carried"]
        masked: bool = attrs.get("masked", False)
        split = carried + masked + attrs.get("scanned", 0)
        start = [self.loaded(x) for x in inputs[:carried]]
        pairs = zip(inputs[carried:split], node.inputs[carried:split], strict=True)
        scanned = [self.in_rows(x, v) for x, v in pairs]
        # What is small and stays is loaded before the loop.
        stay = [
            self.loaded(x) if is_small(v.type) else x
            for x, v in zip(inputs[split:], node.inputs[split:], strict=True)
        ]
        most = most_trips(attrs)
        limit = "" if most is None else self.size(most)
        step, inside, made, after = (text.name(s) for s in ("head", "body", "next", "exit"))
        before = e.label
        text.line(f"br label %{step}")
        e.begin(step)
        top = len(text.lines)
        trip = "%" + text.name("trip")
        state = [tuple(Lanes("%" + text.name("s"), x.dtype) for x in xs) for xs in start]
        with e.aside():
            if limit:
                self.go_on_if(text.assign(f"icmp slt i64 {trip}, {limit}"), after)
            if "cond_graph" in attrs:
                ((flag,),) = self.graph(attrs["cond_graph"], [*state, *stay], {})
                self.go_on_if(flag.text, after)
            row = trip
            if attrs.get("reverse"):
                row = text.assign(f"sub i64 {text.assign(f'sub i64 {limit}, 1')}, {trip}")
            places = [
                self.row_of(p, v.type, row) if p else ""
                for p, v in zip(
                    targets[carried:], attrs["body_graph"].outputs[carried:], strict=False
                )
            ]
            types = [v.type for v in attrs["body_graph"].outputs[carried:]]
            skipped = ""
            if masked:
                (flag,) = self.loaded(self.entry(scanned[0], row))
                skip = text.name("skip")
                text.line(f"br i1 {flag.text}, label %{inside}, label %{skip}")
                text.block(skip)
                for p, t in zip(places, types, strict=True):
                    self.fill(p, "0", self.bytes_of(t))
                skipped = skip
                text.line(f"br label %{made}")
            else:
                text.line(f"br label %{inside}")
            e.begin(inside)
            rows = [self.entry(x, row) for x in scanned[masked:]]
            body: Graph = attrs["body_graph"]
            straight = {
                v: p
                for v, p in zip(body.outputs[carried:], places, strict=True)
                if not is_small(v.type)
            }
            ends = self.graph(body, [*state, *rows, *stay], straight)
            for x, p, t in zip(ends[carried:], places, types, strict=True):
                self.store(x, p, t)
            last = e.label
            text.line(f"br label %{made}")
            e.begin(made)
            following = []
            for xs, now in zip(ends[:carried], state, strict=True):
                ways = [
                    [(last, x), *([(skipped, old)] if skipped else [])]
                    for x, old in zip(xs, now, strict=True)
                ]
                following.append([e.joined(w) if skipped else w[0][1] for w in ways])
            next_trip = text.assign(f"add nsw i64 {trip}, 1")
            text.line(f"br label %{step}")
        phis = [(trip, "i64", "0", next_trip)]
        for firsts, now, then in zip(start, state, following, strict=True):
            for a, b, c in zip(firsts, now, then, strict=True):
                phis.append((b.text, llvm_type(b.dtype), a.text, c.text))
        text.lines[top:top] = [
            f"  {name} = phi {t} [ {a}, %{before} ], [ {b}, %{made} ]" for name, t, a, b in phis
        ]
        e.begin(after)
        if attrs.get("trips") is not None:
            self.end_of_room(trip, limit, targets[carried:], types)
        stacks = [
            Held(p, contiguous(v.type.shape), v.type.dtype, False)
            for p, v in zip(targets[carried:], node.outputs[carried:], strict=True)
        ]
        return [*state, *stacks]

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

    # -- memory

    def place(self, v: Value, targets: dict[Value, str]) -> str:
        """Where a loop within stacks: where its result is to be, or in the frame."""
        if v in targets:
            return targets[v]
        name = "%" + self.text.name("stack")
        count, size = int(element_count(v.type.shape)), v.type.dtype.itemsize
        self.frame.append(f"  {name} = alloca [{max(1, count * size)} x i8], align 64")
        return name

    def in_rows(self, x: Known, v: Value) -> Held | Range:
        """A value of which each step reads a row: a small one is put into memory."""
        if isinstance(x, Held | Range):
            return x
        place = self.place(v, {})
        self.store(x, place, v.type)
        return Held(place, contiguous(v.type.shape), v.type.dtype, False)

    def entry(self, x: Held | Range, row: str) -> Known:
        """An entry along the first axis."""
        if isinstance(x, Range):
            return (x.element(row),)
        pointer = self.moved(x, self.product(row, x.layout.strides[0]))
        return Held(pointer, x.layout.rows(), x.dtype, x.is_input)

    def moved(self, x: Held, offset: str) -> str:
        """The address of an element of a held value, from where its layout starts."""
        return self.element(x.pointer, x.dtype, self.sum(self.size(x.layout.start), offset))

    def element(self, pointer: str, dtype: DType, offset: str) -> str:
        if offset == "0":
            return pointer
        return self.e.emit(f"getelementptr {memory_type(dtype)}, ptr {pointer}, i64 {offset}")

    def loaded(self, x: Known) -> Small:
        """The elements of a small value."""
        if not isinstance(x, Held):
            return x  # type: ignore[no-any-return]
        shape, strides = x.layout.shape, x.layout.strides
        found = []
        for at in np.ndindex(*shape):
            offset = "0"
            for i, stride in zip(at, strides, strict=True):
                offset = self.sum(offset, self.product(str(i), stride))
            found.append(self.load(self.moved(x, offset), x.dtype, x.is_input))
        return tuple(found)

    def load(self, pointer: str, dtype: DType, is_input: bool) -> Lanes:
        """One element. Nothing writes to inputs, so LLVM may read them where it likes."""
        what = f"load {memory_type(dtype)}, ptr {pointer}, align {dtype.itemsize}"
        if is_input:
            mark = self.parts.globals.setdefault("!{}", "!1")
            loaded = self.e.emit(f"{what}, !invariant.load {mark}")
        else:
            loaded = self.text.assign(what)
        if dtype.is_bool:
            loaded = self.e.emit(f"icmp ne i8 {loaded}, 0")
        return Lanes(loaded, dtype)

    def store(self, x: Known, pointer: str, t: TensorType) -> None:
        """Write a value to its place, in row-major order."""
        if isinstance(x, Held) and not is_small(t):
            source = self.moved(x, "0")
            if source != pointer:
                self.parts.declares.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
                what = f"ptr {pointer}, ptr {source}, i64 {self.bytes_of(t)}, i1 false"
                self.text.line(f"call void @llvm.memcpy.p0.p0.i64({what})")
            return
        for k, lane in enumerate(self.loaded(x)):
            at, text = self.element(pointer, lane.dtype, str(k)), lane.text
            if lane.dtype.is_bool:
                text = self.e.emit(f"zext i1 {text} to i8")
            self.text.line(
                f"store {memory_type(lane.dtype)} {text}, ptr {at}, align {lane.dtype.itemsize}"
            )

    def fill(self, pointer: str, byte: str, count: str) -> None:
        """So many bytes of one value."""
        self.parts.declares.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        what = f"ptr {pointer}, i8 {byte}, i64 {count}, i1 false"
        self.text.line(f"call void @llvm.memset.p0.i64({what})")

    def row_of(self, pointer: str, t: TensorType, row: str) -> str:
        """The address of a row of values of one type."""
        return self.element(pointer, t.dtype, self.product(row, element_count(t.shape)))

    def bytes_of(self, t: TensorType) -> str:
        return self.size(element_count(t.shape) * t.dtype.itemsize)

    # -- sizes

    def size(self, extent: Extent) -> str:
        """A size as an operand: a literal where it is small and known, else an argument."""
        if isinstance(extent, int) and abs(extent) <= LITERAL_SIZE:
            return str(extent)
        if extent in self.counts:
            return self.counts[extent]
        return f"%n{self.sizes.setdefault(extent, len(self.sizes))}"

    def product(self, a: str, b: Extent | str) -> str:
        """a * b, of sizes and indices."""
        b = b if isinstance(b, str) else self.size(b)
        if "0" in (a, b):
            return "0"
        if "1" in (a, b):
            return b if a == "1" else a
        if is_number(a) and is_number(b):
            return str(int(a) * int(b))
        return self.e.emit(f"mul i64 {a}, {b}")

    def sum(self, a: str, b: str) -> str:
        """a + b, of sizes and indices."""
        if "0" in (a, b):
            return b if a == "0" else a
        if is_number(a) and is_number(b):
            return str(int(a) + int(b))
        return self.e.emit(f"add i64 {a}, {b}")


def numbers(shape: Sequence[Any]) -> Any:
    """An array of the row-major numbers of its elements."""
    return np.arange(int(np.prod(shape))).reshape(tuple(shape))


def positions(t: TensorType, shape: Sequence[Any]) -> list[int]:
    """Which element of a value of type `t` each one of a value that stretches it reads."""
    return np.broadcast_to(numbers(t.shape), tuple(shape)).ravel().tolist()


def in_order(rows: Sequence[Small], node: Node) -> Small:
    """The entries that indices pick along an axis, put together in row-major order."""
    shape, axis = node.inputs[0].type.shape, node.attrs["axis"]
    before = int(element_count(shape[:axis]))
    after = int(element_count(shape[axis + 1 :]))
    return tuple(row[i * after + k] for i in range(before) for row in rows for k in range(after))
