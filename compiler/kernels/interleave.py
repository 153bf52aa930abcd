"""Values that are stored where they are read: in turn with others, along a last axis.

A stack along the last axis (complex numbers are one, of their parts) puts element i of the k-th of
n values at n * i + k. Where nothing else reads such a value, the kernel that computes it writes it
there, and no copy is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler.families import Elementwise, Indexed
from graphgrad.compiler.ir import Node, Value
from graphgrad.compiler.kernels.groups import Group, is_view
from graphgrad.compiler.kernels.views import Views


@dataclass(frozen=True, slots=True)
class Place:
    """Every `step`-th element of the memory of another value, from `start` on."""

    memory: Value
    start: int
    step: int


def is_interleaving(node: Node) -> bool:
    """Does `node` stack values along its last axis?"""
    if not isinstance(node.op, Indexed) or node.op.lowering != "concat" or node.is_complex:
        return False
    last = node.out.type.ndim - 1
    sizes = [x.type.shape[last] for x in node.inputs]
    return node.attrs["axis"] == last and all(isinstance(n, int) and n == 1 for n in sizes)


def interleaved(views: Views, group_of: dict[Value, Group]) -> dict[Value, Place]:
    """The members of groups that are stored in the memory of a stack, and where."""
    stacks = [n for n in views.graph.nodes if is_interleaving(n)]
    if not stacks:
        return {}
    readers = outside_readers(views, group_of)
    returned = {views.memory_of(v) for v in views.graph.outputs}
    found: dict[Value, Place] = {}
    for node in stacks:
        memories = [views.memory_of(x) for x in node.inputs]
        for k, v in enumerate(memories):
            if v not in group_of or v in returned or sum(m is v for m in memories) > 1:
                continue
            made = views.producers[v]
            if (isinstance(made.op, Elementwise) or is_view(made)) and readers[v] == {node}:
                found[v] = Place(node.out, k, len(memories))
    return found


def outside_readers(views: Views, group_of: dict[Value, Group]) -> dict[Value, set[Node]]:
    """The nodes outside its group that read each member, views looked through."""
    found: dict[Value, set[Node]] = {}
    for node in views.graph.nodes:
        if is_view(node) and node.out not in views.opaque:
            continue
        own = group_of.get(node.out) if node.outputs else None
        for source in map(views.behind, node.inputs):
            if source in group_of and group_of[source] is not own:
                found.setdefault(source, set()).add(node)
    return found
