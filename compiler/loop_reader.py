"""Finds out what became of each loop of a graph.

Everything is read off the compiled graph: what a loop stacks and a derivative reads is *saved*;
what the body of a derivative computes that is no derivative itself is computed *again*. Reasons are
those of the minimum cut (`transform/residuals.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from graphgrad.compiler.dims import Extent, evaluate, is_runtime_size, symbols_of
from graphgrad.compiler.families import Control, Elementwise, Generator, Indexed, Reduce, View
from graphgrad.compiler.hosted import python_calls
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.kernels.carried_arrays import LOOPS, is_small
from graphgrad.compiler.loop_report import (
    HOSTED,
    INSIDE,
    REGION,
    SCALAR,
    Again,
    LoopReport,
    Outside,
    Stacked,
    State,
)
from graphgrad.compiler.passes.loops import Moved
from graphgrad.compiler.scalar.costs import element_cost
from graphgrad.compiler.source import Where
from graphgrad.compiler.stack_sharing import ONE_STACK
from graphgrad.compiler.steps import CompiledStep
from graphgrad.compiler.transform.residuals import recompute_share
from graphgrad.compiler.types import TensorType, element_count
from graphgrad.compiler.work import Sizes, count_text

ONLY_BEFORE = "only the step before it makes it"
PARTIAL = "a partial derivative: the derivative is left with sums and products"
FEWEST = "the least from which the rest is computed again"
DEAR = "dear to compute again"


class LoopReader:
    """Makes the reports of the loops of one compilation."""

    def __init__(self, moves: Sequence[Moved], sizes: Sizes | None) -> None:
        self.moves = moves
        self.sizes: Sizes = sizes or {}

    def of_step(
        self, step: CompiledStep, kept: Iterable[Value] = (), again: bool = False
    ) -> LoopReport | None:
        """The report of a compiled step that is a loop; `kept` are values of the graph around it
        that a derivative elsewhere reads. `again`: the graph is a part of a derivative."""
        node = step.nodes[0]
        if step.graph is None or node.op.name not in LOOPS:
            return None
        how = HOSTED if step.kind == "host" else REGION if step.kernel is None else SCALAR
        return self.of_loop(node, step.graph, set(kept), how, again, step)

    def of_loop(
        self, node: Node, graph: Graph, kept: set[Value], how: str, again: bool,
        step: CompiledStep | None = None,
    ) -> LoopReport:  # fmt: skip
        attrs = node.attrs
        body: Graph = attrs["body_graph"]
        carried: int = attrs["carried"]
        read = read_by_derivatives(graph, kept, node)
        if step is not None and step.memory:
            memory: Sequence[str] = step.memory
        else:
            memory = [where_scalar_code_keeps(p.type, how) for p in body.params[:carried]]
        one = {p for p, m in zip(body.params, memory, strict=False) if m == ONE_STACK}
        stacked = []
        for v, out in zip(body.outputs[carried:], node.outputs[carried:], strict=False):
            why = reason_to_keep(node, v) if out in read else ""
            what, where = description(body, carried, v)
            nbytes = self.nbytes(v.type)
            if v in one:
                one.remove(v)
                what, nbytes = f"{what}, in the stack of the state after it", 0
            stacked.append(Stacked(what, where, v.type, nbytes, why))
        saved = {v for v, s in zip(body.outputs[carried:], stacked, strict=True) if s.why}
        trips, steps = self.trips(node)
        return LoopReport(
            node.op.name,
            node.where,
            repeats(node) or (again and not is_derivative(node)),
            how,
            trips,
            steps,
            bool(attrs.get("reverse")),
            tuple(State(p.type, m) for p, m in zip(body.params, memory, strict=False)),
            tuple(self.outside(node)),
            tuple(stacked),
            tuple(computed_again(body)) if is_derivative(node) and not repeats(node) else (),
            step.refusals if step is not None else (),
            python_calls(host_nodes(step, body)) if how is not HOSTED else (),
            tuple(self.within(body, saved, how, again or is_derivative(node))),
        )

    def within(self, body: Graph, saved: set[Value], how: str, again: bool) -> Iterator[LoopReport]:
        """The loops of a body. Those of a region are compiled steps of their own, which a report
        shows in their place."""
        if how == REGION:
            return
        inside = INSIDE if how in (SCALAR, INSIDE) else HOSTED
        for node in body.nodes:
            if node.op.name in LOOPS:
                yield self.of_loop(node, body, saved, inside, again)
            elif isinstance(node.op, Control):
                for graph in node.attrs.values():
                    if isinstance(graph, Graph):
                        yield from self.within(graph, set(), how, again)

    def trips(self, node: Node) -> tuple[str, int | None]:
        """How many steps, in words and as a number."""
        attrs = node.attrs
        if "length" in attrs:
            n: Extent = attrs["length"]
            steps = self.number(n)
            text = f"{n} step{'' if n == 1 else 's'}"
            if is_runtime_size(n):
                text = "as many steps as were made"
            elif not isinstance(n, int) and steps is not None:
                text = f"{n} steps ({steps} here)"
            return (f"at most {text}, by its flags" if attrs["masked"] else text), steps
        limits = [n for n in (attrs["maximum_iterations"], attrs["trips"]) if isinstance(n, int)]
        if limits:
            return f"at most {min(limits)} steps, until its condition fails", min(limits)
        return "steps until its condition fails", None

    def number(self, n: Extent) -> int | None:
        """A size, where it is known."""
        if isinstance(n, int):
            return n
        return evaluate(n, self.sizes) if symbols_of(n) <= self.sizes.keys() else None

    def nbytes(self, t: TensorType) -> int | None:
        count = self.number(element_count(t.shape))
        return None if count is None else count * t.dtype.itemsize

    def outside(self, node: Node) -> Iterator[Outside]:
        """What passes moved out of the loop of that line."""
        found: dict[tuple[str, Where | None], Counter[str]] = {}
        for m in self.moves:
            if (m.loop, m.body) == (node.where, node.attrs["body_graph"].name):
                when = (
                    "computed before it"
                    if m.before
                    else "computed behind it, for all steps at once"
                )
                for op, where in m.nodes:
                    if op not in MOVES_MEMORY:
                        found.setdefault((when, line_of(where)), Counter())[op] += 1
        for (when, where), ops in found.items():
            yield Outside(when, tuple(ops.items()), where)


# Operations that passes put outside to bring values into form: nothing worth a line.
MOVES_MEMORY = frozenset(
    [
        "constant",
        "broadcast_to",
        "reshape",
        "transpose",
        "slice",
        "concat",
        "iota",
        "cast",
        "unslice",
    ]
)


def where_scalar_code_keeps(t: TensorType, how: str) -> str:
    """Where a part of the state is, of a loop that is no region."""
    if how is HOSTED:
        return "in memory"
    return "in registers" if is_small(t) else "in memory, updated in place"


def host_nodes(step: CompiledStep | None, body: Graph) -> Iterator[Node]:
    """The nodes of a native loop that Python runs, those of loops within apart."""
    if step is not None and step.within:
        for inner in step.within:
            if inner.kind == "host":
                yield from inner.nodes
            elif inner.kind == "branch":
                yield from host_nodes(inner, body)
        return
    for node in body.nodes:
        if node.op.name == "callback":
            yield node
        elif node.op.name == "cond":
            for key in ("true_graph", "false_graph"):
                yield from host_nodes(None, node.attrs[key])


def is_derivative(node: Node) -> bool:
    return node.where is not None and node.where.derivative


def repeats(node: Node) -> bool:
    """Is a loop that belongs to a derivative one that makes the steps of the loop itself?"""
    body: Graph = node.attrs["body_graph"]
    makers = [body.producers.get(v) for v in body.outputs[: node.attrs["carried"]]]
    return (
        is_derivative(node)
        and bool(makers)
        and all(
            m is None or not is_derivative(m) or (m.op.name in LOOPS and repeats(m)) for m in makers
        )
    )


def read_by_derivatives(graph: Graph, kept: set[Value], loop: Node) -> set[Value]:
    """The values that a derivative reads, seen from `loop`: of a loop that is one itself, a loop
    must read them; what else does computes its results. What only a derivative needs is a part of
    it, views of what it reads too."""
    of_results = needed_by_results(graph, kept)
    found = set(kept)
    for node in reversed(graph.nodes):
        if node is loop:
            continue
        derived = is_derivative(node) and (node.op.name in LOOPS or not is_derivative(loop))
        own = isinstance(node.op, View) or (node not in of_results and not is_derivative(node))
        if derived or (own and not found.isdisjoint(node.outputs)):
            found.update(node.inputs)
    return found


def needed_by_results(graph: Graph, kept: set[Value]) -> set[Node]:
    """The nodes that compute the results which are no derivatives."""
    found, wanted = set[Node](), set(graph.outputs) - kept
    for node in reversed(graph.nodes):
        if not is_derivative(node) and not wanted.isdisjoint(node.outputs):
            found.add(node)
            wanted.update(node.inputs)
    return found


def maker_of(body: Graph, v: Value) -> Node | None:
    """The node that computes the elements of a value."""
    node = body.producers.get(v)
    while node is not None and isinstance(node.op, View):
        node = body.producers.get(node.inputs[0])
    return node


def description(body: Graph, carried: int, v: Value) -> tuple[str, Where | None]:
    """What a stacked value is, and the user's line that makes it."""
    for p, after in zip(body.params[:carried], body.outputs, strict=False):
        if v is p:
            made = body.producers.get(after)
            return "state before the step", None if made is None else line_of(made.where)
    node = maker_of(body, v)
    if node is None:
        return "slice of an input", line_of(v.where)
    where = line_of(node.where)
    if node.op.name in LOOPS:
        return "what the loop within saves", where
    return "state after the step" if v in set(body.outputs[:carried]) else node.op.name, where


def reason_to_keep(loop: Node, v: Value) -> str:
    """Why a value of each step is stored and not computed again."""
    body: Graph = loop.attrs["body_graph"]
    node = maker_of(body, v)
    if node is None:
        return ONLY_BEFORE if v in set(body.params[: loop.attrs["carried"]]) else FEWEST
    if is_derivative(node) and not is_derivative(loop):
        return PARTIAL
    share = recompute_share(node)
    if share == 0:
        return FEWEST
    if isinstance(node.op, Elementwise):
        return f"{DEAR}: {count_text(element_cost(node))} instructions an element"
    if isinstance(node.op, Control):
        return f"{DEAR}: a {'branch' if node.op.name == 'cond' else 'loop'}"
    if isinstance(node.op, Reduce):
        return f"{DEAR}: a reduction"
    if isinstance(node.op, Indexed):
        return f"{DEAR}: it reads and writes memory"
    return f"{DEAR}: {'a product' if node.op.name == 'matmul' else node.op.name}"


def computed_again(body: Graph) -> Iterator[Again]:
    """What the body of a derivative computes that is no derivative."""
    lines: dict[tuple[Where | None, str], list[Node]] = {}
    for node in body.nodes:
        free = isinstance(node.op, View) or node.op.name == "constant"
        if not free and not is_derivative(node) and node.where is not None:
            lines.setdefault((line_of(node.where), reason_to_repeat(node)), []).append(node)
    for (where, why), nodes in lines.items():
        ops = Counter(n.op.name for n in nodes)
        yield Again(tuple(ops.items()), where, sum(map(cost, nodes)), why)


def reason_to_repeat(node: Node) -> str:
    """Why a value is computed again and not stored."""
    share = recompute_share(node)
    if share == 0:
        return "cheap"
    if isinstance(node.op, Elementwise):
        return "dear, at half the price of storing it"
    return "from a checkpoint" if isinstance(node.op, Control) else "its line asks for it"


def cost(node: Node) -> float:
    """In instructions as cheap as a sum; 0 for what has no such number."""
    if not isinstance(node.op, Elementwise | Generator):
        return 0.0
    count = element_count(node.out.type.shape)
    return element_cost(node) * (count if isinstance(count, int) else 1)


def line_of(where: Where | None) -> Where | None:
    """The line alone, whatever stands in it."""
    return replace(where, column=0, function="") if where is not None else None
