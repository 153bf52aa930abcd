"""Loops of a known number of steps as loops over segments, which their reverse computes again.

What the reverse of a scan of n steps reads is stacked, n times what a step keeps. Where that is too
much, the scan becomes a scan over segments, each of which is a `recompute` of some steps: the outer
scan stacks the state once a segment, the reverse of a segment runs its steps again and stacks what
they keep. Segments are divided in turn where that is still too much; each level runs the steps
once more (Griewank & Walther 2008, chapter 12). With k segments in each of l levels and r steps in
the innermost, k^l r = n, the bytes are l k state + r each: least where k state = r each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from graphgrad.compiler.dims import Extent, Symbol, evaluate, symbols_of
from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Graph, Node
from graphgrad.compiler.op import ops
from graphgrad.compiler.pipeline import optimise
from graphgrad.compiler.transform.autodiff import at, gradient_graph
from graphgrad.compiler.transform.residuals import nominal_bytes
from graphgrad.compiler.transform.subgraphs import apply, build, floating, place
from graphgrad.compiler.types import TensorType, tensor_type


@dataclass(frozen=True, eq=False)
class Nest:
    """A way to run a loop. `lengths` are its steps, then those of segments, outermost first;
    `inner` are bytes that the loops in its body need while a step is reversed."""

    body: Graph
    carried: int
    scanned: int
    lengths: tuple[int, ...]
    inner: int = 0

    @cached_property
    def state(self) -> int:
        """The bytes of a checkpoint."""
        return max(1, sum(map(bytes_of, self.body.types[: self.carried])))

    @cached_property
    def each(self) -> int:
        """The bytes that a step keeps."""
        return bytes_kept(self.body, self.carried, self.scanned)

    @cached_property
    def peak(self) -> int:
        """The bytes that are kept at one time, at most."""
        return planned(self.lengths, self.state, self.each, self.level) + self.inner

    @cached_property
    def level(self) -> int:
        """The bytes of the state and the sums of cotangents that the reverse of each level has."""
        kept = [p.type for p in self.body.params if p.dtype.is_inexact]
        return STATES * self.at_hand + 2 * sum(lines_of(t) for t in kept)

    @cached_property
    def at_hand(self) -> int:
        """The bytes of the state as one of the temporaries."""
        return sum(map(lines_of, self.body.types[: self.carried]))

    @cached_property
    def beside(self) -> int:
        """The bytes of a step that passes may stack beside: what products read and give, which are
        computed for all steps at once."""
        products = [n for n in self.body.nodes if n.op.name == "matmul"]
        return 2 * sum(bytes_of(n.out.type) for n in products)


def bytes_of(t: TensorType) -> int:
    """The bytes of a value; open sizes count as in the call that is traced."""
    open_sizes = [n for n in t.shape if not isinstance(n, int)]
    if not all(is_known(n) for n in open_sizes):
        return nominal_bytes(t)
    return math.prod(evaluate(n, hints_of(n)) for n in t.shape) * t.dtype.itemsize


def lines_of(t: TensorType) -> int:
    """The bytes that a value takes among the temporaries."""
    return -(-bytes_of(t) // LINE) * LINE


def hints_of(n: Extent) -> dict[Symbol, int]:
    """What the trace knows of the symbols in a size."""
    return {s: h for s in symbols_of(n) for h in [s.scope.hints.get(s)] if h is not None}


def is_known(n: Extent) -> bool:
    """Is the size that of the call that is traced?"""
    return hints_of(n).keys() >= symbols_of(n)


LINE = 64  # temporaries begin at a cache line
STATES = 2  # copies of the state that each level has at hand
MORE_FOR_EXACT = 1.5  # times the bytes, where segments of equal length need more
SOME = 61  # steps of the scan by which it is found out what a step keeps


def bytes_kept(body: Graph, carried: int, scanned: int) -> int:
    """What each step stacks for its reverse, in the graph that is compiled."""
    key = ("bytes kept", carried, scanned)
    if key not in body.memo:
        body.memo[key] = _bytes_kept(body, carried, scanned)
    return body.memo[key]  # type: ignore[no-any-return]


def _bytes_kept(body: Graph, carried: int, scanned: int) -> int:
    split = carried + scanned
    rows = [tensor_type((SOME, *t.shape), t.dtype) for t in body.types[carried:split]]
    steps = build(
        body.name,
        [*body.types[:carried], *rows, *body.types[split:]],
        lambda _, *xs: map(
            ops["identity"],
            apply(
                ops["scan"], xs, body_graph=body, carried=carried, scanned=scanned, length=SOME,
                reverse=False, masked=False, varying=(), padded=(), room=0,
            ),
        ),
    )  # fmt: skip
    back = gradient_graph(steps, floating(steps.outputs), floating(steps.params))
    found = optimise(back)[0]
    results = set(found.outputs)
    return (
        sum(
            bytes_of(v.type)
            for node in found.nodes
            if node.op.name == "scan" and node.attrs["length"] == SOME
            for v in node.outputs[node.attrs["carried"] :]
            if v not in results
        )
        // SOME
    )


def planned(lengths: Sequence[int], state: int, each: int, level: int = 0) -> int:
    """The bytes of checkpoints in each level, of what the innermost steps keep, and of the
    accumulators that each `level` needs."""
    counts = [-(-n // k) for n, k in pairwise(lengths)]
    return sum(counts) * state + lengths[-1] * each + (len(counts) + bool(counts)) * level


def least_lengths(
    steps: int, levels: int, state: int, each: int, level: int = 0
) -> tuple[int, ...]:
    """The lengths of segments that need the fewest bytes; fewer levels where more do not help.

    Each but the first is a multiple of the next, so that only the first leaves a remainder.
    """
    best = (steps,)
    for used in range(1, levels + 1):
        # k state = r each, and k**used r = steps
        k = (steps * max(each, 1) / state) ** (1 / (used + 1))
        inner = k * state / max(each, 1)
        for r in {max(1, int(inner)), max(1, round(inner)), int(inner) + 1}:
            for count in {max(2, int(k)), max(2, round(k)), int(k) + 1}:
                lengths = [r * count**i for i in range(used)]
                if lengths[-1] >= steps:
                    continue
                found = (steps, *reversed(lengths))
                if planned(found, state, each, level) < planned(best, state, each, level):
                    best = found
    return best


def without_remainder(
    lengths: tuple[int, ...], state: int, each: int, level: int
) -> tuple[int, ...]:
    """Lengths of about as many bytes where the segments have no remainder, if there are such: then
    slices and stacks are those of the loop, and not copied."""
    if len(lengths) == 1 or lengths[0] % lengths[1] == 0:
        return lengths
    n, most = lengths[0], planned(lengths, state, each, level) * MORE_FOR_EXACT
    for k in range(lengths[1]):
        for d in (lengths[1] - k, lengths[1] + k):
            if n % d == 0:
                found = (n, *least_lengths(d, len(lengths) - 2, state, each, level))
                return found if planned(found, state, each, level) <= most else lengths
    return lengths


def ways_to_run(body: Graph, carried: int, scanned: int, steps: int) -> list[Nest]:
    """From the one that computes least again to the one that keeps least: each computes its steps,
    or those of loops within, once more than the one before."""
    ways = [nest(body, carried, scanned, steps, 0)]
    while True:
        more = nest(body, carried, scanned, steps, len(ways))
        if more.peak >= ways[-1].peak:
            return ways
        ways.append(more)


def nest(body: Graph, carried: int, scanned: int, steps: int, levels: int) -> Nest:
    """The way with the fewest bytes that runs steps so many times more, those of loops within
    included."""
    found: Nest | None = None
    for own in range(levels, -1, -1):
        graph, inner = with_divided_loops(body, levels - own)
        whole = Nest(graph, carried, scanned, (steps,), inner)
        lengths = least_lengths(steps, own, whole.state, whole.each, whole.level)
        if scanned or len(body.outputs) > carried:
            lengths = without_remainder(lengths, whole.state, whole.each, whole.level)
        way = Nest(graph, carried, scanned, lengths, inner)
        if found is None or way.peak < found.peak:
            found = way
        if graph is body and levels > own:
            break  # there is no loop within
    assert found is not None
    return found


def is_divisible(node: Node) -> bool:
    """Is a node a loop of a known number of steps, as the user wrote it?"""
    a = node.attrs
    if node.op.name != "scan" or not isinstance(a["length"], int) or a.get("room") is not None:
        return False
    derived = node.where is not None and node.where.derivative
    return not (derived or a["masked"] or a.get("varying") or a.get("padded"))


def is_open(node: Node) -> bool:
    """Is a node a loop whose number of steps only the run knows, as the user wrote it?"""
    a = node.attrs
    derived = node.where is not None and node.where.derivative
    if derived or a.get("varying") or a.get("padded") or a.get("room") is not None:
        return False
    if node.op.name == "scan":
        return not isinstance(a["length"], int) and not a["masked"]
    return node.op.name == "while_loop" and a["trips"] is None and not a.get("lists")


# Checkpoints and steps that are kept whole of a loop of open length within another, by how much
# memory there is.
INNER = ((16, 64), (8, 16), (4, 4), (2, 1))


def with_divided_loops(graph: Graph, levels: int) -> tuple[Graph, int]:
    """`graph` with the loops within divided into so many levels, and the bytes that these need
    beside what they keep for each run of `graph`."""
    if not holds_loops(graph) or (levels == 0 and not holds_loops(graph, is_open)):
        return graph, 0
    key = ("divided loops", levels)
    if key not in graph.memo:
        extra = [0]

        def make(builder: Any, *params: Any) -> list[Any]:
            env = dict(zip(graph.params, params, strict=True))
            for node in graph.nodes:
                with at(node.where):
                    xs = [env[x] for x in node.inputs]
                    new, more = _divided(node, levels)
                    extra[0] += more
                    if isinstance(new, Graph):
                        outs = place(builder, new, xs)
                    else:
                        outs = [builder.value(v.type, node.where) for v in node.outputs]
                        builder.nodes.append(Node(node.op, tuple(xs), new, tuple(outs), node.where))
                env.update(zip(node.outputs, outs, strict=True))
            return [env[v] for v in graph.outputs]

        new = build(graph.name, graph.types, make)
        graph.memo[key] = new, extra[0]
    return graph.memo[key]  # type: ignore[no-any-return]


def _divided(node: Node, levels: int) -> tuple[Any, int]:
    """The graph that stands for a node, or its attributes, and the bytes that it needs beside."""
    a = node.attrs
    if is_open(node):
        plain = with_levels(node, levels)
        if plain.each:
            slots, rows = INNER[min(levels, len(INNER) - 1)]
            graph = as_checkpointed([x.type for x in node.inputs], node, plain.body, slots, rows)
            return graph, slots * (plain.state + 8) + rows * plain.each + plain.level + plain.inner
        return a, 0
    if levels and is_divisible(node):
        way = nest(a["body_graph"], a["carried"], a["scanned"], a["length"], levels)
        types = [x.type for x in node.inputs]
        kept = planned(way.lengths[:2], way.state, 0) if len(way.lengths) > 1 else 0
        graph = as_segments(types, way, a["scanned"], a["reverse"], 0)
        return graph, way.peak - kept
    if not isinstance(node.op, Control) or node.op.name in ("scan", "while_loop"):
        return a, 0
    new, more = dict(a), 0
    for name, graph in a.items():
        if isinstance(graph, Graph) and name != "backward":
            new[name], beside = with_divided_loops(graph, levels)
            more += beside
    return new, more


def with_levels(node: Node, levels: int) -> Nest:
    """A loop of open length, with the loops within divided."""
    a = node.attrs
    graph, inner = with_divided_loops(a["body_graph"], levels)
    return Nest(graph, a["carried"], a.get("scanned", 0), (1,), inner)


def as_checkpointed(
    types: Sequence[TensorType], node: Node, body: Graph, slots: int, rows: int
) -> Graph:
    """The graph of a loop of open length that keeps so many checkpoints."""
    a = node.attrs
    return build(
        body.name,
        types,
        lambda _, *xs: ops["checkpointed"](
            *xs, body_graph=body, carried=a["carried"], cond_graph=a.get("cond_graph"),
            scanned=a.get("scanned", 0), length=a.get("length"), reverse=a.get("reverse", False),
            maximum_iterations=a.get("maximum_iterations"), slots=slots, rows=rows,
        )[: len(body.outputs)],
    )  # fmt: skip


def holds_loops(graph: Graph, which: Callable[[Node], bool] | None = None) -> bool:
    """Are there loops in `graph` that can be divided, or such as `which` says?"""
    key = ("holds loops", which)
    if key not in graph.memo:
        graph.memo[key] = any(
            (which(n) if which is not None else is_divisible(n) or is_open(n))
            or (
                isinstance(n.op, Control)
                and any(holds_loops(g, which) for g in n.attrs.values() if isinstance(g, Graph))
            )
            for n in graph.nodes
        )
    return graph.memo[key]  # type: ignore[no-any-return]


def as_segments(
    types: Sequence[TensorType], way: Nest, scanned: int, reverse: bool, room: int
) -> Graph:
    """The graph of a scan over inputs of `types` that runs as `way` says. Passes may stack `room`
    bytes beside for the innermost steps."""
    return _Segments(way, scanned, reverse, room).graph(list(types), way.lengths)


@dataclass(frozen=True, eq=False)
class _Segments:
    way: Nest
    scanned: int
    reverse: bool
    room: int

    def over(self, body: Graph, n: int, inputs: Sequence[Any], room: int) -> list[Any]:
        return list(
            apply(
                ops["scan"], inputs, body_graph=body, carried=self.way.carried,
                scanned=self.scanned, length=n, reverse=self.reverse, masked=False, varying=(),
                padded=(), room=room,
            )
        )  # fmt: skip

    def graph(self, types: list[TensorType], lengths: Sequence[int]) -> Graph:
        """A scan of `lengths[0]` steps in segments of the other lengths."""
        name, carried = self.way.body.name, self.way.carried
        if len(lengths) == 1:
            body = self.way.body
            return build(name, types, lambda _, *xs: self.over(body, lengths[0], xs, self.room))
        split = carried + self.scanned
        whole, rest = divmod(lengths[0], lengths[1])

        def segment(count: int, again: int) -> Graph:
            """One of so many steps; `again` are those of its inputs that are to be seen anew."""
            entries = [tensor_type((count, *t.shape[1:]), t.dtype) for t in types[carried:split]]
            inner = [*types[:carried], *entries, *types[split:]]
            steps = self.graph(inner, [count, *(n for n in lengths[2:] if n < count)])
            marks = tuple(k < again for k in range(len(inner)))
            return build(
                f"segment of {name}",
                inner,
                lambda _, *xs: ops["recompute"](*xs, graph=steps, again=marks),
            )

        def make(builder: Any, *inputs: Any) -> list[Any]:
            state, xs, captures = inputs[:carried], inputs[carried:split], inputs[split:]
            first = rest if self.reverse else 0  # where the segments begin
            rows = [rows_of(x, first, whole * lengths[1]) for x in xs]
            rows = [x.reshape((whole, lengths[1], *x.shape[1:])) for x in rows]
            found = self.over(segment(lengths[1], 0), whole, [*state, *rows, *captures], 0)
            stacks = [y.reshape((whole * lengths[1], *y.shape[2:])) for y in found[carried:]]
            if not rest:
                return [*found[:carried], *stacks]
            left = [rows_of(x, 0 if self.reverse else whole * lengths[1], rest) for x in xs]
            inputs = (*found[:carried], *left, *captures)
            last = place(builder, segment(rest, split), inputs)
            pairs = zip(stacks, last[carried:], strict=True)
            joined = [ops["concat"]([b, a] if self.reverse else [a, b], 0) for a, b in pairs]
            return [*last[:carried], *joined]

        return build(f"segments of {name}", types, make)


def rows_of(x: Any, start: int, count: int) -> Any:
    """Some entries along the first axis."""
    rest = x.shape[1:]
    return ops["slice"](x, (start, *(0 for _ in rest)), (count, *rest))
