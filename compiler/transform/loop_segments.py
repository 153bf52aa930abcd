"""Loops of a known number of steps as loops over segments, which their reverse computes again.

What the reverse of a scan of n steps reads is stacked, n times what a step keeps. Where that is too
much, the scan becomes a scan over segments, each of which is a `recompute` of some steps: the outer
scan stacks the state once a segment, the reverse of a segment runs its steps again and stacks what
they keep. Segments are divided in turn where that is still too much; each level runs the steps
once more (Griewank & Walther 2008, chapter 12). With k segments in each of l levels and r steps in
the innermost, k^l r = n, the bytes are l k state + r each: least where k state = r each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Graph, Node
from graphgrad.compiler.op import ops
from graphgrad.compiler.passes.cse import cse
from graphgrad.compiler.transform.autodiff import at
from graphgrad.compiler.transform.loop_derivatives import active_params, augmented_body
from graphgrad.compiler.transform.residuals import nominal_bytes
from graphgrad.compiler.transform.subgraphs import apply, build, floating, place
from graphgrad.compiler.types import TensorType, tensor_type


@dataclass(frozen=True, eq=False)
class Nest:
    """A way to run a loop. `lengths` are its steps, then those of segments, outermost first;
    `inner` are bytes that the loops in its body need while a step is reversed."""

    body: Graph
    carried: int
    lengths: tuple[int, ...]
    inner: int = 0

    @cached_property
    def state(self) -> int:
        """The bytes of a checkpoint."""
        return max(1, sum(nominal_bytes(t) for t in self.body.types[: self.carried]))

    @cached_property
    def each(self) -> int:
        """The bytes that a step keeps."""
        return bytes_kept(self.body, self.carried)

    @cached_property
    def peak(self) -> int:
        """The bytes that are kept at one time, at most."""
        return planned(self.lengths, self.state, self.each, self.level) + self.inner

    @cached_property
    def level(self) -> int:
        """The bytes of the state and the sums of cotangents that the reverse of each level has."""
        kept = [p.type for p in self.body.params if p.dtype.is_inexact]
        return self.state + 2 * sum(map(nominal_bytes, kept))

    @cached_property
    def beside(self) -> int:
        """The bytes of a step that passes may stack beside: what products read and give, which are
        computed for all steps at once."""
        products = [n for n in self.body.nodes if n.op.name == "matmul"]
        return 2 * sum(nominal_bytes(n.out.type) for n in products)


def bytes_kept(body: Graph, carried: int) -> int:
    """What each step stacks for its reverse."""
    key = ("bytes kept", carried)
    if key not in body.memo:
        active = active_params(body, carried, floating(body.params))
        richer = cse(augmented_body(body, carried, active))
        more = set(richer.outputs) - set(richer.outputs[: len(body.outputs)])
        body.memo[key] = sum(nominal_bytes(v.type) for v in more)
    return body.memo[key]  # type: ignore[no-any-return]


def planned(lengths: Sequence[int], state: int, each: int, level: int = 0) -> int:
    """The bytes of checkpoints in each level, of what the innermost steps keep, and of the
    accumulators that each `level` needs."""
    counts = [-(-n // k) for n, k in pairwise(lengths)]
    return sum(counts) * state + lengths[-1] * each + len(counts) * level


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


def ways_to_run(body: Graph, carried: int, steps: int) -> list[Nest]:
    """From the one that computes least again to the one that keeps least: each computes its steps,
    or those of loops within, once more than the one before."""
    ways = [nest(body, carried, steps, 0)]
    while True:
        more = nest(body, carried, steps, len(ways))
        if more.peak >= ways[-1].peak:
            return ways
        ways.append(more)


def nest(body: Graph, carried: int, steps: int, levels: int) -> Nest:
    """The way with the fewest bytes that runs steps so many times more, those of loops within
    included."""
    found: Nest | None = None
    for own in range(levels, -1, -1):
        graph, inner = with_divided_loops(body, levels - own)
        whole = Nest(graph, carried, (steps,), inner)
        lengths = least_lengths(steps, own, whole.state, whole.each, whole.level)
        way = Nest(graph, carried, lengths, inner)
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


def with_divided_loops(graph: Graph, levels: int) -> tuple[Graph, int]:
    """`graph` with the loops within divided into so many levels, and the bytes that these need
    beside what they keep for each run of `graph`."""
    if levels == 0 or not holds_loops(graph):
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
    if is_divisible(node):
        way = nest(a["body_graph"], a["carried"], a["length"], levels)
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


def holds_loops(graph: Graph) -> bool:
    """Are there loops in `graph` that can be divided?"""
    if "holds loops" not in graph.memo:
        graph.memo["holds loops"] = any(
            is_divisible(n)
            or (
                isinstance(n.op, Control)
                and any(holds_loops(g) for g in n.attrs.values() if isinstance(g, Graph))
            )
            for n in graph.nodes
        )
    return graph.memo["holds loops"]  # type: ignore[no-any-return]


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
