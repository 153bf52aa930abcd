"""Updates at the end of folds, taken out of them where equal ones are then one launch.

The gradient of a bias is a fold over a batch, and what updates the bias would fuse with it: for
each layer a kernel that also reads and writes the layer's parameters. As kernels of their own the
updates of all layers, of weights and of biases, are one batch (see `batches.py`); a fold's result
is a row, so little is stored and read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from graphgrad.compiler.families import Reduce
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.kernels.batches import LEAST_KERNELS
from graphgrad.compiler.kernels.fusion import Fusion, Plan
from graphgrad.compiler.kernels.groups import Group


def fused(graph: Graph) -> tuple[Fusion, Plan]:
    """The groups of a graph."""
    fusion = Fusion(graph)
    plan = fusion.run()
    apart = updates_in_tails(fusion)
    if apart:
        fusion = Fusion(graph, apart)
        plan = fusion.run()
    return fusion, plan


def updates_in_tails(fusion: Fusion) -> frozenset[Node]:
    """The nodes at the ends of folds that are like those of enough other kernels."""
    tails = [tail for group in fusion.groups if (tail := tail_update(group))]
    if not tails:
        return frozenset()
    like = Counter(map(signature, tails))
    like.update(signature(g.nodes) for g in fusion.groups if not g.reductions)
    return frozenset(n for tail in tails if like[signature(tail)] >= LEAST_KERNELS for n in tail)


def tail_update(group: Group) -> list[Node]:
    """What a group computes of the results of its folds and of other arrays, in order."""
    if not group.partition.folded:
        return []
    late = {
        v: m for v, m in group.members.items()
        if m.late and m.axes and not isinstance(m.node.op, Reduce)
    }  # fmt: skip
    found: set[Value] = set()
    for value, m in late.items():
        further = any(v not in group.members and v.type.shape for v in m.reads)
        if further or not found.isdisjoint(m.reads):
            found.add(value)
    for value in reversed(late):  # and what is computed for that alone
        readers = [v for v, m in group.members.items() if value in {*m.reads}]
        if readers and found.issuperset(readers):
            found.add(value)
    return [m.node for v, m in group.members.items() if v in found]


def signature(nodes: Iterable[Node]) -> Any:
    """Equal for the nodes of equal kernels; seldom for others."""
    return tuple((n.op.name, n.out.type.dtype, repr(sorted(n.attrs.items()))) for n in nodes)
