"""Loops of few numbers: which ones become one function of straight scalar code.

Values of up to `LANES` elements are *small*: they are as many scalars. Others are *held*: they lie
in memory, and views of them are other strides over the same elements. A loop qualifies if its steps
only compute small values, read held ones, replace small parts of held state where it lies (see
`carried_arrays.py`), and stack rows of either. Loops and branches within have to qualify too. A
*range*, over which a loop within may run, is never made: it is the function that gives its
elements.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphgrad.compiler.dims import RUNTIME, Dim, Extent, Symbol, is_runtime_size, symbols_of
from graphgrad.compiler.families import Elementwise, Generator, Indexed, Reduce, View
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.kernels.carried_arrays import (
    LANES,
    LOOPS,
    OPEN_SIZES,
    UPDATES,
    Course,
    NoOrder,
    course,
    held_state,
    is_small,
    moved_state,
)
from graphgrad.compiler.kernels.index_maps import row_major
from graphgrad.compiler.op import Attrs
from graphgrad.compiler.scalar.costs import element_cost
from graphgrad.compiler.transform.sizes import is_runtime, runtime_symbols
from graphgrad.compiler.types import Shape, element_count

# Functions that cost more than `DEAR` cheap instructions an element are faster in a kernel, which
# computes all elements at once, where there are more than so many.
DEAR, DEAR_LANES = 16.0, 4
# Scalars that the steps of a loop compute, all loops within together: LLVM's time grows with the
# square of a function's length.
MOST_SCALARS = 2000
# Elements of a constant that becomes a part of the module, and of the stacks in the frame of
# the function.
MOST_HELD = 4096
# Branches that cost less than this together, in cheap instructions, are both computed: a wrong
# guess of the processor costs about as much.
CHEAP_BRANCHES = 20.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the elements of a held value lie: `start + sum(strides[d] * index d)`, in elements."""

    shape: Shape
    strides: tuple[Extent, ...]
    start: Extent = 0

    @property
    def is_contiguous(self) -> bool:
        return all(
            s == r or n == 1
            for n, s, r in zip(self.shape, self.strides, row_major(self.shape), strict=True)
        )

    def rows(self) -> Layout:
        """Of one entry along the first axis."""
        return Layout(self.shape[1:], self.strides[1:])


def contiguous(shape: Shape) -> Layout:
    """Of an array in row-major order."""
    return Layout(shape, row_major(shape))


def seen_through(node: Node, layout: Layout) -> Layout | None:
    """The layout of a view of a held value; None where there is none."""
    op = node.op
    assert isinstance(op, View)
    out = node.out.type
    mapped = op.index_map(node.inputs[0].type, out, **node.attrs)
    if mapped is None:
        return reshaped(layout, out.shape)
    start, strides = layout.start, [0] * out.ndim
    for (axis, step, first), stride in zip(mapped, layout.strides, strict=True):
        start = start + first * stride
        if axis is not None:
            strides[axis] = strides[axis] + step * stride
    return Layout(out.shape, tuple(strides), start)


def reshaped(layout: Layout, shape: Shape) -> Layout | None:
    """The layout in another shape: any of an array in row-major order, else axes of size 1."""
    if layout.is_contiguous:
        return Layout(shape, row_major(shape), layout.start)
    rest = [(n, s) for n, s in zip(layout.shape, layout.strides, strict=True) if n != 1]
    if [n for n, _ in rest] != [n for n in shape if n != 1]:
        return None
    strides = iter(s for _, s in rest)
    return replace(
        layout, shape=shape, strides=tuple(0 if n == 1 else next(strides) for n in shape)
    )


def places_read(node: Node) -> list[int]:
    """Which element of its inputs, one input behind the other, each element of a node is; -1 is
    zero. For views of small values, and for what joins and places them."""
    arrays, count = [], 1  # NumPy's function on the numbers of the elements, from 1 on
    for x in node.inputs:
        n = int(element_count(x.type.shape))
        arrays.append(np.arange(count, count + n).reshape(x.type.shape))
        count += n
    (found,) = node.op.evaluate(arrays, node.attrs)
    return [int(k) - 1 for k in found.ravel()]


def reduced_places(node: Node) -> list[list[int]]:
    """Which elements each element of a reduction combines, in order."""
    shape, axes = node.inputs[0].type.shape, node.attrs["axes"]
    numbers = np.arange(int(element_count(shape))).reshape(shape)
    moved = np.moveaxis(numbers, axes, range(-len(axes), 0))
    kept = moved.shape[: moved.ndim - len(axes)]
    count = int(np.prod(moved.shape[moved.ndim - len(axes) :]))
    return np.broadcast_to(moved, moved.shape).reshape((int(np.prod(kept)), count)).tolist()


def is_scalar_loop(node: Node) -> bool:
    """Can the loop `node` become one function of scalar code?"""
    if node.op.name not in LOOPS:
        return False
    check = _Check()
    for v in node.inputs:
        check.known |= runtime_symbols(v.type)
    try:
        check.loop(
            node,
            {v: contiguous(v.type.shape) for v in node.inputs},
            frozenset(node.outputs),
            Course(),
        )
    except (_Refused, NoOrder):
        return False
    return True


def are_cheap(*branches: Graph) -> bool:
    """May both branches be computed, and one be chosen after?"""
    nodes = [n for graph in branches for n in graph.nodes if n.op.name != "constant"]
    if not all(isinstance(n.op, Elementwise | View) and is_small(n.out.type) for n in nodes):
        return False
    numbers = {n.out: n.attrs["value"].array for graph in branches for n in graph.nodes
               if n.op.name == "constant"}  # fmt: skip
    return sum(_cost(n, numbers) for n in nodes) <= CHEAP_BRANCHES


def _cost(node: Node, numbers: dict[Value, Any]) -> float:
    """What a node of a branch costs; infinite if it may fail."""
    count = int(element_count(node.out.type.shape))
    if not isinstance(node.op, Elementwise):
        return 0.0
    if node.op.failures:
        divisor = numbers.get(node.inputs[-1])
        if divisor is None or not np.all(divisor):
            return math.inf
        if divisor.ndim == 0 and is_power_of_two(divisor):
            return count
    return count * element_cost(node)


def is_power_of_two(x: Any) -> bool:
    """Do shifts and masks divide by the integer `x`?"""
    return int(x) == x > 0 and int(x) & (int(x) - 1) == 0


def grows(node: Node) -> bool:
    """Is it a loop that stacks for as long as it runs, which nobody knows?"""
    trips = node.attrs.get("trips") if node.op.name == "while_loop" else None
    return trips is not None and is_runtime_size(trips)


def placed_outputs(node: Node) -> tuple[Value, ...]:
    """The outputs of a loop whose memory is there before it begins."""
    return node.outputs[: node.attrs["carried"]] if grows(node) else node.outputs


class _Refused(Exception):
    """There is no such function."""


Held = dict[Value, Layout]  # the layouts of held values; small ones have none


class _Check:
    """Follows values through graphs as the emitter does."""

    def __init__(self) -> None:
        self.scalars = 0
        self.elements = 0  # of stacks in the frame
        self.ranges: set[Value] = set()
        self.known: set[Symbol] = set()  # run-time sizes that are found out before

    def graph(
        self, graph: Graph, held: Held, direct: frozenset[Value] = frozenset(),
        owned: frozenset[int] = frozenset(),
    ) -> Course:  # fmt: skip
        """Check all nodes, and note the layouts of all values; `direct` values have memory of the
        caller, and that of the parameters `owned` may change."""
        for v in (*graph.params, *(v for node in graph.nodes for v in node.outputs)):
            if v.type.dtype.is_complex:
                raise _Refused
        found = course(graph, owned)
        for v in found.copied:
            self.frame(v)
        for node in found.nodes:
            if is_range(node, self.ranges):
                self.range(node)
            else:
                self.node(node, held, direct, found)
        return found

    def frame(self, v: Value) -> None:
        """A value lies in the frame of the function."""
        count = element_count(v.type.shape)
        self.elements += count if isinstance(count, int) else MOST_HELD + 1
        if self.elements > MOST_HELD:
            raise _Refused

    def node(self, node: Node, held: Held, direct: frozenset[Value], found: Course) -> None:
        op = node.op
        if op.effect:
            self.call(node, held)
            return
        for v in node.outputs if op.name not in LOOPS else ():
            for n in v.type.shape:
                self.size(n)
        for v in node.outputs:
            if is_small(v.type):
                self.count(int(element_count(v.type.shape)))
        if op.name in LOOPS:
            self.loop(node, held, direct, found)
        elif op.name == "cond":
            self.branches(node, held, found)
        elif op.name == "constant":
            self.constant(node, held)
        elif isinstance(op, Elementwise | Generator | Reduce):
            self.small(*node.inputs, node.out)
            if int(element_count(node.out.type.shape)) > DEAR_LANES and element_cost(node) > DEAR:
                raise _Refused
        elif op.name == "matmul":
            self.small(*node.inputs, node.out)
            self.count(int(element_count(node.inputs[0].type.shape)) * LANES)
            if any(x.type.ndim != 2 for x in node.inputs):
                raise _Refused
        elif isinstance(op, View):
            self.view(node, held)
        elif isinstance(op, Indexed):
            self.indexed(node, held, found)
        else:
            raise _Refused

    def range(self, node: Node) -> None:
        """Numbers in a row: each is computed where a loop reads it."""
        known = all(x in self.ranges or element_count(x.type.shape) == 1 for x in node.inputs)
        if node.op.name == "places":
            self.known |= symbols_of(node.attrs["size"])
        elif node.op.name == "broadcast_to":
            if not known or (node.out.type.ndim != 1 and node.inputs[0] in self.ranges):
                raise _Refused
        elif node.op.name != "iota" and not (known and isinstance(node.op, Elementwise)):
            raise _Refused
        self.ranges.update(node.outputs)

    def size(self, extent: Extent) -> None:
        """A size is known where it depends on what is known."""
        if is_runtime_size(extent):
            atoms = {atom for monomial, _ in extent.terms for atom in monomial}  # type: ignore[union-attr]
            if not all(isinstance(a, Symbol) for a in atoms):
                raise _Refused
            if any(s.argument == RUNTIME and s not in self.known for s in symbols_of(extent)):
                raise _Refused

    def count(self, scalars: int) -> None:
        self.scalars += scalars
        if self.scalars > MOST_SCALARS:
            raise _Refused

    def small(self, *values: Value) -> None:
        if not all(is_small(v.type) for v in values):
            raise _Refused

    def call(self, node: Node, held: Held) -> None:
        """A call of Python that gives nothing back, for arrays as they lie in memory."""
        large = [x for x in node.inputs if not is_small(x.type)]
        if node.outputs or node.op.name != "callback":
            raise _Refused
        if not all(x in held and held[x].is_contiguous for x in large):
            raise _Refused

    def constant(self, node: Node, held: Held) -> None:
        if not is_small(node.out.type):
            if node.attrs["value"].array.size > MOST_HELD:
                raise _Refused
            held[node.out] = contiguous(node.out.type.shape)

    def view(self, node: Node, held: Held) -> None:
        (x,) = node.inputs
        if is_small(x.type):
            if _holds_size(node.attrs):
                raise _Refused
            self.small(node.out)
            return
        layout = seen_through(node, held[x]) if x in held else None
        if layout is None:
            raise _Refused
        held[node.out] = layout

    def indexed(self, node: Node, held: Held, found: Course) -> None:
        form, x = node.op.lowering, node.inputs[0]  # type: ignore[attr-defined]
        if not is_small(x.type) and x not in held and node.out not in found.copied:
            raise _Refused
        if form in UPDATES and not is_small(x.type):
            self.small(*node.inputs[1:])
            if x in held and not held[x].is_contiguous:
                raise _Refused
        elif form in ("concat", "unslice", "scatter_add", *UPDATES):
            self.small(*node.inputs, node.out)
            if _holds_size(node.attrs):
                raise _Refused
        elif form in ("gather", "dynamic_slice"):
            self.small(*node.inputs[1:])
            if is_small(x.type):
                self.small(node.out)
        else:
            raise _Refused
        if node.attrs.get("batch_dims"):
            raise _Refused
        if not is_small(node.out.type):
            if form == "gather" and node.inputs[1].type.shape:
                raise _Refused
            if form in UPDATES:
                held[node.out] = contiguous(node.out.type.shape)
            else:
                held[node.out] = picked(node, held[x])

    def branches(self, node: Node, held: Held, found: Course) -> None:
        if any(node.attrs.get(k) for k in OPEN_SIZES):
            raise _Refused
        self.small(node.inputs[0])
        own = found.own(node.inputs[1:])
        for graph in (node.attrs["true_graph"], node.attrs["false_graph"]):
            inner = given(graph, node.inputs[1:], held)
            self.graph(graph, inner, owned=own)
            for v, out in zip(graph.outputs, node.outputs, strict=True):
                if not is_small(v.type):
                    if v not in inner:
                        raise _Refused
                    held[out] = inner[v]

    def loop(self, node: Node, held: Held, direct: frozenset[Value], around: Course) -> None:
        attrs = node.attrs
        trips = most_trips(attrs)
        if any(attrs.get(k) for k in OPEN_SIZES):
            raise _Refused
        if trips is not None:
            self.size(trips)
        carried: int = attrs["carried"]
        masked: bool = attrs.get("masked", False)
        split = carried + masked + attrs.get("scanned", 0)
        body: Graph = attrs["body_graph"]
        own = held_state(body, carried)
        for x, out in ((node.inputs[i], node.outputs[i]) for i in own):
            filled = x in self.ranges and out in around.copied
            if not filled and (x not in held or not held[x].is_contiguous):
                raise _Refused
        if any(x in self.ranges and x.type.ndim != 1 for x in node.inputs[carried:split]):
            raise _Refused
        rows = [
            held[x].rows() if x in held else contiguous(x.type.shape[1:])
            for x in node.inputs[carried + masked : split]
        ]
        stay = [*node.inputs[:carried], *[None] * len(rows), *node.inputs[split:]]
        state = {p: contiguous(p.type.shape) for i, p in enumerate(body.params) if i in own}
        inner = given(body, stay, held) | state
        inner.update(zip(body.params[carried : carried + len(rows)], rows, strict=True))
        stacked = body.outputs[carried:]
        found = self.graph(body, inner, frozenset(stacked), own)
        moved = moved_state(body, found, carried)
        for v in (*stacked, *(body.outputs[i] for i in moved)):
            if not is_small(v.type) and (v not in inner or not inner[v].is_contiguous):
                raise _Refused
        if "cond_graph" in attrs:
            asked: Graph = attrs["cond_graph"]
            state = {p: contiguous(p.type.shape) for i, p in enumerate(asked.params) if i in own}
            self.graph(asked, given(asked, node.inputs, held) | state)
        if grows(node):
            self.known |= symbols_of(attrs["trips"])
        for v in node.outputs[carried:]:
            if v not in direct and not is_runtime(v.type):
                self.frame(v)
        held.update((v, contiguous(v.type.shape)) for v in node.outputs if not is_small(v.type))


def given(graph: Graph, inputs: Sequence[Value | None], held: Held) -> Held:
    """The layouts of the parameters of a graph, which has no sizes of its own."""
    pairs = zip(graph.params, inputs, strict=True)
    found = {p: v for p, v in pairs if v is not None and not is_small(p.type)}
    if not held.keys() >= {*found.values()} or any(p.type != v.type for p, v in found.items()):
        raise _Refused
    return {p: held[v] for p, v in found.items()}


def is_range(node: Node, ranges: Container[Value]) -> bool:
    """Are the elements of a node computed where a loop reads them?"""
    op = node.op
    if op.name in LOOPS or len(node.outputs) != 1 or is_small(node.out.type):
        return False
    if op.name in ("iota", "places"):
        return True
    if op.name == "broadcast_to":
        return is_runtime(node.out.type) or element_count(node.inputs[0].type.shape) == 1
    of_ranges = is_runtime(node.out.type) or any(x in ranges for x in node.inputs)
    return isinstance(op, Elementwise) and of_ranges


def picked(node: Node, layout: Layout) -> Layout:
    """The layout of a part of a held value that starts where index values say."""
    if node.op.name == "gather":
        axis: int = node.attrs["axis"]
        keep = [d for d in range(len(layout.shape)) if d != axis]
        shape, strides = layout.shape, layout.strides
        return Layout(tuple(shape[d] for d in keep), tuple(strides[d] for d in keep))
    steps = node.attrs["steps"]
    strides = tuple(s * k for s, k in zip(layout.strides, steps, strict=True))
    return Layout(node.out.type.shape, strides)


def most_trips(attrs: Attrs) -> Extent | None:
    """How many steps a loop makes at most, where that is known."""
    if "length" in attrs:
        return attrs["length"]  # type: ignore[no-any-return]
    room, limit = attrs["trips"], attrs["maximum_iterations"]
    if room is None or is_runtime_size(room):
        return limit  # type: ignore[no-any-return]
    if limit is not None:
        raise _Refused
    return room  # type: ignore[no-any-return]


def _holds_size(x: Any) -> bool:
    """Is an unknown size among attributes?"""
    if isinstance(x, dict):
        return any(map(_holds_size, x.values()))
    return any(map(_holds_size, x)) if isinstance(x, tuple) else isinstance(x, Dim)
