"""The passes in order: what happens to a graph before it is divided into kernels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from time import perf_counter

from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Graph, Node
from graphgrad.compiler.passes import (
    algebra,
    blocks,
    canonicalize,
    complexes,
    convolutions,
    fold,
    small_orders,
    stability,
)
from graphgrad.compiler.passes.cse import cse
from graphgrad.compiler.passes.dce import dce
from graphgrad.compiler.passes.inline import RULES as INLINE
from graphgrad.compiler.passes.loops import Moved, noting
from graphgrad.compiler.passes.loops_batch import batch_out
from graphgrad.compiler.passes.loops_counted import count_steps
from graphgrad.compiler.passes.loops_defer import defer
from graphgrad.compiler.passes.loops_hoist import hoist
from graphgrad.compiler.passes.loops_indexed import slice_tables
from graphgrad.compiler.passes.loops_last import carry_last
from graphgrad.compiler.passes.loops_places import carry_places
from graphgrad.compiler.passes.loops_split import split_products
from graphgrad.compiler.passes.loops_sums import add_in_place
from graphgrad.compiler.passes.loops_unused import drop_unused
from graphgrad.compiler.passes.rewrite import Firing, RuleSet, refused, rewrite, set_refused
from graphgrad.compiler.passes.transposes import move_transposes
from graphgrad.compiler.verify import verify

# What is done with loops, after the passes within their bodies.
LOOPS: tuple[tuple[str, Callable[[Graph], Graph]], ...] = (
    ("unused in loops", drop_unused),
    ("counted loops", count_steps),
    ("slices of loops", slice_tables),
    ("loop invariants", hoist),
    ("split in loops", split_products),
    ("batched out of loops", batch_out),
    ("sums in loops", add_in_place),
    ("places in loops", carry_places),
    ("last writes in loops", carry_last),
    ("deferred behind loops", defer),
)

# Rounds of inlining and simplifying; each but the last was needed because a rule fired.
ROUNDS = 4


@dataclass(frozen=True, slots=True)
class PassOptions:
    """What a user may choose about the passes."""

    fast_math: bool = False


@dataclass(frozen=True, slots=True)
class StageRecord:
    """What one pass did, for reports."""

    name: str
    before: int  # nodes
    after: int
    seconds: float
    firings: tuple[Firing, ...] = ()
    moves: tuple[Moved, ...] = ()  # out of loops

    def __str__(self) -> str:
        head = f"{self.name}: {self.before} -> {self.after} nodes, {self.seconds * 1e3:.2f} ms"
        return "\n".join([head, *(f"  {f}" for f in self.firings)])


@cache
def simplifying_rules() -> RuleSet:
    """What runs together in one walk, in order of preference."""
    return RuleSet(
        [
            *fold.RULES,
            *canonicalize.rules(),
            *complexes.RULES,
            *convolutions.RULES,
            *blocks.RULES,
            *small_orders.RULES,
            *stability.rules(),
            *algebra.rules(),
        ]
    )


def refuse(*names: str) -> None:
    """Let the rules of these names, and no others, be refused in this process.

    This concerns graphs that are compiled or differentiated later, and tapes. `refuse()` allows
    all rules again. Raises ArgumentError for a name that no rule has.
    """
    known = {r.name for r in [*simplifying_rules(), *stability.gradient_rules()]}
    for name in names:
        if name not in known:
            close = ", ".join(get_close_matches(name, known))
            hint = f"; did you mean {close}?" if close else ""
            raise ArgumentError(f"refuse: no rewrite is named {name!r}{hint}")
    set_refused(names)


def optimise(graph: Graph, options: PassOptions = PassOptions()) -> tuple[Graph, list[StageRecord]]:
    """The graph that is compiled in place of `graph`, and what each pass did.

    Parameters and outputs keep their number, order and types. Stability rules look at composites
    before those are inlined (log of softmax), and at their parts after. The same graph gives the
    same result. With GRAPHGRAD_CHECKS=1 every pass is verified.
    """
    work = _Work(graph, options)
    work.run("dce", dce)
    work.rewrite("stability", stability.rules())
    for _ in range(ROUNDS):
        work.rewrite("inline", INLINE)
        if any(node.is_complex for node in work.graph.nodes):
            work.run("complex", complexes.split_complex)
        fired = work.rewrite("simplify", simplifying_rules())
        work.run("cse", cse)
        work.run("dce", dce)
        work.sub_graphs()
        if not work.loops() and not fired:
            break
    if work.run("transposes", move_transposes):
        work.run("cse", cse)
        work.run("dce", dce)
    return work.graph, work.stages


class _Work:
    """A graph on its way through the passes."""

    def __init__(self, graph: Graph, options: PassOptions) -> None:
        self.graph = graph
        self.options = options
        self.stages: list[StageRecord] = []
        self.checked = os.environ.get("GRAPHGRAD_CHECKS") == "1"

    def run(
        self, name: str, run_pass: Callable[[Graph], Graph], firings: Sequence[Firing] = (),
        moves: Sequence[Moved] = (),
    ) -> bool:  # fmt: skip
        """Apply one pass, which may add to `firings` and `moves`, and record what it did; was it
        anything?"""
        before, start = self.graph, perf_counter()
        self.graph = run_pass(before)
        seconds = perf_counter() - start
        if self.checked and self.graph is not before:
            verify(self.graph, name)
        counts = len(before.nodes), len(self.graph.nodes)
        self.stages.append(StageRecord(name, *counts, seconds, tuple(firings), tuple(moves)))
        return self.graph is not before

    def sub_graphs(self) -> None:
        """Optimise the graphs that nodes hold, if there are any."""
        if any(isinstance(node.op, Control) for node in self.graph.nodes):
            firings: list[Firing] = []
            moves: list[Moved] = []
            change = lambda g: with_optimised_graphs(g, self.options, firings, moves)  # noqa: E731
            self.run("sub-graphs", change, firings, moves)

    def loops(self) -> bool:
        """The passes on loops and branches, if there are any; did they do anything?"""
        if not any(isinstance(node.op, Control) for node in self.graph.nodes):
            return False
        changed = False
        for name, run_pass in LOOPS:
            moves: list[Moved] = []
            with noting(moves):
                changed |= self.run(name, run_pass, moves=moves)
        return changed

    def rewrite(self, name: str, rules: RuleSet) -> bool:
        """Apply rules; did any fire?"""
        firings: list[Firing] = []
        fast_math = self.options.fast_math
        self.run(name, lambda g: rewrite(g, rules, firings, fast_math), firings)
        return bool(firings)


def with_optimised_graphs(
    graph: Graph, options: PassOptions, firings: list[Firing], moves: list[Moved]
) -> Graph:
    """`graph` with the sub-graphs of its control nodes optimised."""
    nodes = tuple(_optimised_node(node, options, firings, moves) for node in graph.nodes)
    if all(new is old for new, old in zip(nodes, graph.nodes, strict=True)):
        return graph
    return Graph(graph.params, nodes, graph.outputs, graph.name)


def _optimised_node(
    node: Node, options: PassOptions, firings: list[Firing], moves: list[Moved]
) -> Node:
    if not isinstance(node.op, Control):
        return node
    attrs = dict(node.attrs)
    for key, value in node.attrs.items():
        if isinstance(value, Graph):
            attrs[key], fired, moved = _optimised(value, options)
            firings.extend(fired)
            moves.extend(moved)
    if all(attrs[k] is node.attrs[k] for k in attrs):
        return node
    return Node(node.op, node.inputs, attrs, node.outputs, node.where)


def _optimised(
    graph: Graph, options: PassOptions
) -> tuple[Graph, tuple[Firing, ...], tuple[Moved, ...]]:
    """A sub-graph optimised (once), what fired in it, and what was moved out of its loops."""
    key = ("optimised", options, refused())
    if key not in graph.memo:
        result, stages = optimise(graph, options)
        fired = tuple(f for stage in stages for f in stage.firings)
        graph.memo[key] = result, fired, tuple(m for stage in stages for m in stage.moves)
        result.memo[key] = result, (), ()
    return graph.memo[key]  # type: ignore[no-any-return]
