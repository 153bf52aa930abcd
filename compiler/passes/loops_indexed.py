"""What a loop reads of an array at a counter, row after row, are slices of it.

    while i < n: h, i = f(h, xs[i]), i + 1     becomes     scan(f, xs)

A counter takes the values of a line, start + step * k at position k; comparisons of lines are known
if they hold at both ends. So an index that is wrapped where it is negative is a line as well, and
needs no check. A stacked counter is known outside, and what its reverse scatters there is a block.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.op import ops
from graphgrad.compiler.passes.loops import Capture, Loop, Outside, over_loops
from graphgrad.compiler.passes.loops_counted import constant, step_of
from graphgrad.compiler.passes.rewrite import building
from graphgrad.compiler.types import TensorType


@dataclass(frozen=True, slots=True)
class Line:
    """The integers start + step * k for the positions k of a stack."""

    start: int
    step: int

    def ends(self, length: int) -> tuple[int, int]:
        last = self.start + self.step * (length - 1)
        return min(self.start, last), max(self.start, last)

    def fits(self, dtype: DType, length: int) -> bool:
        low, high = self.ends(length)
        return bool(dtype.min <= low and high <= dtype.max)


Known = Line | bool

COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}


def slice_tables(graph: Graph) -> Graph:
    """`graph` with slices in the place of indexing by counters."""
    sliced = over_loops(over_loops(graph, slices_of_captures), counters_outside)
    return with_blocks(over_loops(sliced, without_choices))


def without_choices(loop: Loop) -> bool:
    """What is chosen by comparing counters, and always the same, is that."""
    known = lines(loop)
    chosen: dict[Value, Value] = {}
    for node in loop.nodes:
        if node.op.name == "where" and isinstance(condition := known.get(node.inputs[0]), bool):
            side = node.inputs[1 if condition else 2]
            if side.type == node.out.type:
                chosen[node.out] = chosen.get(side, side)
    loop.rename(chosen)
    loop.nodes = [node for node in loop.nodes if not node.outputs or node.out not in chosen]
    return bool(chosen)


def slices_of_captures(loop: Loop) -> bool:
    """Scan the captures that the body reads at a counter."""
    known = lines(loop)
    captures = {c.param: c for c in loop.captures}
    found = []
    for node in loop.nodes:
        capture = captures.get(node.inputs[0]) if node.inputs else None
        if capture is not None and reads_row(node):
            line = known.get(node.inputs[1])
            rows = capture.value.type.shape[0]
            if isinstance(line, Line) and line.step and isinstance(rows, int):
                low, high = line.ends(loop.length)  # type: ignore[arg-type]
                if low >= 0 and high < rows:
                    found.append((node, capture, line))
    for node, capture, line in found:
        read_slices(loop, node, capture, line)
    return bool(found)


def reads_row(node: Node) -> bool:
    """Does a node read one entry of its first input along the first axis, at its second?"""
    attrs, x = node.attrs, node.inputs[0].type
    if node.op.name == "gather":
        return attrs["axis"] == 0 == attrs["batch_dims"] and node.inputs[1].type.ndim == 0
    return node.op.name == "dynamic_slice" and is_row(x, attrs["sizes"], attrs)


def is_row(x: TensorType, sizes: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Is a block one entry along the first axis, whose start is an input, and all of the others?"""
    return (
        (sizes[0], *attrs["starts"]) == (1, None, *(0 for _ in sizes[1:]))
        and tuple(sizes[1:]) == x.shape[1:]
        and all(step == 1 for step in attrs["steps"])
    )


def read_slices(loop: Loop, node: Node, capture: Capture, line: Line) -> None:
    """Put a slice in the place of an entry at a counter."""
    rest = capture.value.type.shape[1:]
    with loop.outside(before=True):
        zeros, ones = (0,) * len(rest), (1,) * len(rest)
        rows = capture.value
        if line != Line(0, 1) or rows.type.shape[0] != loop.length:
            rows = ops["slice"](
                rows, (line.start, *zeros), (loop.length, *rest), (line.step, *ones)
            )
    entry = Node(
        ops["reshape"], (loop.scan(rows),), {"shape": node.out.type.shape}, node.outputs, node.where
    )
    loop.nodes = [entry if n is node else n for n in loop.nodes]


def counters_outside(loop: Loop) -> bool:
    """Stacked counters are computed outside."""
    if not loop.is_scan or loop.flags is not None:
        return False
    known = lines(loop)
    found = [s for s in loop.stacked if isinstance(known.get(s.value), Line)]
    for s in found:
        line = known[s.value]
        assert isinstance(line, Line)
        loop.stacked.remove(s)
        with loop.outside(before=True) as builder:
            places = ops["iota"](size=loop.length, dtype=dtypes.int64)
            step, start = (builder.literal(np.asarray(n)) for n in (line.step, line.start))
            values = ops["cast"](places * step + start, s.value.type.dtype)
            loop.replaced[s.result] = ops["broadcast_to"](
                values.reshape((loop.length, *(1,) * s.value.type.ndim)), s.result.type.shape
            )
    return bool(found)


def lines(loop: Loop) -> dict[Value, Known]:
    """What is known of the integers and bools of the body of a scan, from its counters."""
    length = loop.length if loop.is_scan else None
    if not isinstance(length, int) or length < 1:
        return {}
    known: dict[Value, Known] = {}
    for c in loop.carried:
        if c.param.type.dtype.is_integer and not c.param.type.ndim:
            start = constant(loop.graph.producers, {}, c.init, loop)
            step = step_of(loop, c)
            if start is not None and step is not None:
                backwards = loop.attrs["reverse"]
                line = Line(start + step * (length - 1), -step) if backwards else Line(start, step)
                if line.fits(c.param.type.dtype, length):
                    known[c.param] = line
    for x in loop.scanned:
        outside = line_of(loop.graph.producers, x.value)
        if outside is not None and not x.param.type.ndim:
            known[x.param] = outside
    for capture in loop.captures:
        number = constant(loop.graph.producers, {}, capture.value, loop)
        if number is not None and capture.param.type.dtype.is_integer:
            known[capture.param] = Line(number, 0)
    for node in loop.nodes:
        result = follow(node, known, length)
        if result is not None:
            known[node.out] = result
    return known


def line_of(producers: Mapping[Value, Node], v: Value) -> Line | None:
    """The line along the first axis of a value that is computed from an iota; the same on all
    other axes."""
    chain: list[Node] = []
    open_values = [v]
    while open_values:
        node = producers.get(open_values.pop())
        if node is None or len(chain) > 32 or node.op.name not in FOLLOWED:
            return None
        chain.append(node)
        open_values += node.inputs
    length = v.type.shape[0] if v.type.ndim else None
    if not isinstance(length, int) or length < 1:
        return None
    known: dict[Value, Known] = {}
    for node in reversed(chain):
        if node.op.name == "iota":
            result: Known | None = Line(0, 1) if node.attrs["size"] == length else None
        elif node.op.name in STRETCHED:
            result = along_first(node, known, length)
        else:
            result = follow(node, known, length)
        if result is None:
            return None
        known[node.out] = result
    found = known[v]
    return found if isinstance(found, Line) else None


STRETCHED = ("reshape", "broadcast_to")
FOLLOWED = frozenset(["iota", "constant", "add", "sub", "mul", "cast", "identity", *STRETCHED])


def along_first(node: Node, known: Mapping[Value, Known], length: int) -> Known | None:
    """A stretched or reshaped line, if it still runs along the first axis."""
    result = known.get(node.inputs[0])
    if isinstance(result, Line) and result.step:
        before, after = node.inputs[0].type.shape, node.out.type.shape
        if not before or not after or before[0] != length or after[0] != length:
            return None
        if node.op.name == "broadcast_to" and len(before) != len(after):
            return None
    return result


def follow(node: Node, known: Mapping[Value, Known], length: int) -> Known | None:
    """What is known of the result of a node."""
    name = node.op.name
    if name == "constant":
        return of_literal(node)
    if len(node.outputs) != 1 or not node.inputs or any(x not in known for x in node.inputs):
        return chosen(node, known) if name == "where" else None
    xs = [known[x] for x in node.inputs]
    bools = [x for x in xs if isinstance(x, bool)]
    points = [x for x in xs if isinstance(x, Line)]
    if name in ("cast", "identity", *STRETCHED):
        result = xs[0] if isinstance(xs[0], Line) == node.out.type.dtype.is_integer else None
    elif name == "where":
        return chosen(node, known)
    elif name in ("logical_and", "logical_or", "logical_not") and len(bools) == len(xs):
        return (
            not bools[0]
            if name == "logical_not"
            else (all(bools) if name == "logical_and" else any(bools))
        )
    elif len(points) == 2 and name in COMPARISONS:
        a, b = points
        last = length - 1
        held = {
            COMPARISONS[name](a.start, b.start),
            COMPARISONS[name](a.start + a.step * last, b.start + b.step * last),
        }
        return held.pop() if len(held) == 1 else None
    elif len(points) == 2:
        result = combined(name, *points)
    else:
        return None
    if isinstance(result, Line) and not result.fits(node.out.type.dtype, length):
        return None
    return result


def of_literal(node: Node) -> Known | None:
    """What is known of a constant."""
    literal = node.attrs["value"]
    if not literal.is_scalar or not (node.out.type.dtype.is_integer or node.out.type.dtype.is_bool):
        return None
    number = literal.array[()]
    return bool(number) if node.out.type.dtype.is_bool else Line(int(number), 0)


def chosen(node: Node, known: Mapping[Value, Known]) -> Known | None:
    """The side of a `where` that a known condition takes."""
    condition = known.get(node.inputs[0])
    return known.get(node.inputs[1 if condition else 2]) if isinstance(condition, bool) else None


def combined(name: str, a: Line, b: Line) -> Line | None:
    """A sum, difference or product of lines that is a line."""
    if name in ("add", "sub"):
        sign = 1 if name == "add" else -1
        return Line(a.start + sign * b.start, a.step + sign * b.step)
    if name == "mul" and a.step == 0:
        a, b = b, a
    if name == "mul" and b.step == 0:
        return Line(a.start * b.start, a.step * b.start)
    return None


def with_blocks(graph: Graph) -> Graph:
    """Scatters to the places of a line as blocks."""
    nodes: list[Node] = []
    changed = False
    for node in graph.nodes:
        line = scattered_line(graph, node)
        if line is None:
            nodes.append(node)
            continue
        builder, shape = Outside(), node.out.type.shape
        with building(builder):
            starts = (line.start, *(0 for _ in shape[1:]))
            steps = (line.step, *(1 for _ in shape[1:]))
            block = ops["unslice"](node.inputs[0], shape=shape, starts=starts, steps=steps)
        *others, last = builder.nodes
        assert last.out is block
        nodes += [*others, Node(last.op, last.inputs, last.attrs, node.outputs, node.where)]
        changed = True
    return Graph(graph.params, tuple(nodes), graph.outputs, graph.name) if changed else graph


def scattered_line(graph: Graph, node: Node) -> Line | None:
    """The places to which a scatter adds the rows of its first input, if they are on a line."""
    if node.op.name != "scatter_add" or node.attrs["axis"] != 0 or node.attrs["batch_dims"] != 0:
        return None
    rows, places = node.inputs[0].type.shape, node.inputs[1]
    line = line_of(graph.producers, places) if places.type.ndim == 1 else None
    size = node.out.type.shape[0]
    if line is None or not line.step or not isinstance(size, int) or not isinstance(rows[0], int):
        return None
    low, high = line.ends(rows[0])
    return line if low >= 0 and high < size else None
