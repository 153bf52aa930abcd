"""What keeps loops and branches from being native code, and what within them calls Python; the way
out of either.

The questions are those by which `regions.py` and `assembly.py` decide; this module asks them again,
one by one, for reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphgrad.compiler.families import Control
from graphgrad.compiler.host_steps import is_guarded
from graphgrad.compiler.ir import Graph, Node
from graphgrad.compiler.regions import NATIVE, Body, body_of
from graphgrad.compiler.source import Where
from graphgrad.compiler.transform.sizes import runtime_symbols, size_makers, symbols_in

if TYPE_CHECKING:
    from graphgrad.compiler.assembly import Assembly

SIZE_FOUND = "the size of its result is known only when it has run"
SIZE_CHANGES = "its state changes its size from step to step"
SIZE_OUTSIDE = "it has sizes that an operation before it finds out"
BRANCHES_DIFFER = "the sizes of its results differ between its branches"
PYTHON_SIZES = "NumPy computes it, with sizes that only the run knows"
CALLBACK = "a Python function"
NO_KERNEL = "NumPy computes it"

WAYS_OUT = {
    SIZE_FOUND: "keep the full size, and choose with gg.where or multiply by a mask",
    SIZE_CHANGES: "use a buffer of fixed size, and count what is in it",
    SIZE_OUTSIDE: "keep full sizes there, and choose with gg.where or multiply by a mask",
    BRANCHES_DIFFER: "pad both to one size",
    PYTHON_SIZES: "compute it before the loop, or let the loop make a known number of steps",
    CALLBACK: "leave it out where time counts, or call it behind the loop",
    NO_KERNEL: "compute it before the loop where it does not depend on the state",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An operation without native form, why it has none, and what to do."""

    op: str  # as users call it
    where: Where | None
    reason: str

    @property
    def way_out(self) -> str:
        return WAYS_OUT[self.reason]

    def __str__(self) -> str:
        place = f"  # {self.where.describe()}" if self.where is not None else ""
        return f"`{self.op}`: {self.reason}; {self.way_out}{place}"


def why_hosted(around: Assembly, node: Node) -> tuple[Refusal, ...]:
    """What keeps a control node of the host from being native code, each once, in order; nothing
    where the node is native."""
    if not isinstance(node.op, Control) or around.is_native_control(node):
        return ()
    found = tuple(dict.fromkeys(_of_control(around, node)))
    return found or (Refusal(user_name(node), node.where, SIZE_OUTSIDE),)


def _of_control(around: Assembly, node: Node) -> Iterator[Refusal]:
    if around.is_native_control(node):
        return
    if node.op.name in NATIVE:
        if node.attrs.get("varying"):
            yield Refusal(user_name(node), node.where, SIZE_CHANGES)
        elif node.attrs.get("widened"):
            yield Refusal(user_name(node), node.where, BRANCHES_DIFFER)
    for graph in node.attrs.values():
        if isinstance(graph, Graph):
            body = body_of(graph)
            yield from _of_graph(around, graph) if body is None else _of_body(around, body)


def _of_graph(around: Assembly, graph: Graph) -> Iterator[Refusal]:
    """What in a sub-graph finds a size out."""
    given = set().union(*(runtime_symbols(p.type) for p in graph.params))
    makers = {v for s, v in size_makers(graph).items() if s not in given}
    for node in graph.nodes:
        if isinstance(node.op, Control):
            yield from _of_control(around, node)
        elif not makers.isdisjoint(node.outputs):
            yield Refusal(user_name(node), node.where, SIZE_FOUND)


def _of_body(around: Assembly, body: Body) -> Iterator[Refusal]:
    """What of a sub-graph that might be native is not."""
    inner = around.within(body)
    for step in body.plan.steps:
        node = step.node
        if node is None or inner.has_kernels(node):
            continue
        if isinstance(node.op, Control):
            yield from _of_control(inner, node)
        elif symbols_in(node):
            yield Refusal(user_name(node), node.where, PYTHON_SIZES)


def python_calls(nodes: Iterable[Node]) -> tuple[Refusal, ...]:
    """The nodes among those of a native loop that call Python in each step; assertions do only
    where they fail."""
    plain = (n for n in nodes if not (isinstance(n.op, Control) or is_guarded(n)))
    return tuple(dict.fromkeys(map(_python_call, plain)))


def _python_call(node: Node) -> Refusal:
    if node.op.name == "callback":
        return Refusal(str(node.attrs["function"].name), node.where, CALLBACK)
    return Refusal(user_name(node), node.where, NO_KERNEL)


def user_name(node: Node) -> str:
    """The op of a node as users know it."""
    names = node.op.public_names
    return f"gg.{names[0]}" if names else node.op.name
