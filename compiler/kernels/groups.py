"""What a fused kernel is made of, and which roles the axes of its iteration space play."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from graphgrad.compiler.families import Elementwise, Generator, Indexed, Reduce, View
from graphgrad.compiler.ir import Literal, Node, Value
from graphgrad.compiler.kernels.index_maps import Index, axes_of, remap
from graphgrad.compiler.types import Shape

# A reduction to one scalar may still be read in a second sweep when its only row is this short;
# longer ones end their kernel, so that it can be cut into blocks.
ROW_LIMIT = 16384
# Groups stop growing here: beyond it LLVM's time grows faster than the kernel, and the work on one
# vector is longer than what a processor overlaps with the next, which costs more than another pass
# over the cache.
GROUP_LIMIT = 64


class Refusal(Exception):
    """Why two nodes do not fuse, as a sentence."""


@dataclass(frozen=True, slots=True)
class Partition:
    """The axes of an iteration space by role."""

    parallel: tuple[int, ...]
    folded: tuple[int, ...]
    inner: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Member:
    """A node of a group.

    `indices` say where its elements lie in the space, and `domain` where those that it reads lie
    (they differ for reductions, which remove the axes `over`).
    """

    node: Node
    indices: tuple[Index, ...]
    domain: tuple[Index, ...]
    reads: tuple[Value, ...] = ()  # the values behind the views that are its inputs
    over: frozenset[int] = frozenset()
    late: bool = False  # needs a folded result: computed in the tail
    axes: frozenset[int] = field(init=False)  # that `indices` depend on

    def __post_init__(self) -> None:
        self.axes = axes_of(self.indices)

    def move(self, axes: Mapping[int, int]) -> None:
        """Renumber the axes of one that reads where it writes."""
        self.indices = self.domain = remap(self.indices, axes)
        self.axes = axes_of(self.indices)


@dataclass(eq=False)
class Group:
    """Nodes that become one kernel."""

    shape: Shape
    members: dict[Value, Member] = field(default_factory=dict)
    partition: Partition = field(default_factory=lambda: Partition((), (), ()))
    rank: int = 0  # its place among the groups

    @cached_property
    def sources(self) -> dict[Value, None]:
        """What the members read, in order; members among them."""
        return {v: None for m in self.members.values() for v in m.reads}

    def add(self, member: Member) -> None:
        """A further member, behind the others."""
        self.members[member.node.out] = member
        self.sources.update(dict.fromkeys(member.reads))

    def drop(self, node: Node) -> None:
        """Take the latest member out again."""
        del self.members[node.out]
        del self.sources

    @property
    def first(self) -> Node:
        return next(iter(self.members.values())).node

    @property
    def reductions(self) -> list[Member]:
        return [m for m in self.members.values() if isinstance(m.node.op, Reduce)]

    @property
    def nodes(self) -> list[Node]:
        return [m.node for m in self.members.values()]


def is_inline(node: Node) -> bool:
    """Is the node computed where it is read: a scalar constant, a size, an index?"""
    if node.op.name == "constant":
        literal: Literal = node.attrs["value"]
        return literal.is_scalar
    return isinstance(node.op, Generator) and not node.inputs and not node.is_complex


def is_fusible(node: Node) -> bool:
    """Has the node a loop form of its own?"""
    looped = isinstance(node.op, Elementwise | Reduce | Generator)
    looped = looped or is_gather(node) or is_padding(node)
    return looped and not is_inline(node) and not node.is_complex


def is_view(node: Node) -> bool:
    """Can kernels read the elements of the node where those of its input lie? They know real
    numbers only; a view of complex ones is NumPy's."""
    return isinstance(node.op, View) and not node.out.type.dtype.is_complex


def is_gather(node: Node) -> bool:
    """Does the node load from places that are values?"""
    named = isinstance(node.op, Indexed) and node.op.lowering == "gather"
    return named and not node.is_complex


def is_padding(node: Node) -> bool:
    """Does the node put zeros around an array?"""
    named = isinstance(node.op, Indexed) and node.op.lowering == "unslice"
    return named and not node.is_complex and all(step == 1 for step in node.attrs["steps"])


def unpadded(node: Node, domain: tuple[Index, ...]) -> tuple[Index, ...]:
    """Where a node that pads reads its input, which is not there everywhere."""
    starts = node.attrs["starts"]
    return tuple(i.plus(Index(-1 * s)) for i, s in zip(domain, starts, strict=True))


def gather_axes(
    node: Node, domain: tuple[Index, ...]
) -> tuple[tuple[Index, ...], tuple[Index, ...]]:
    """Where a gather reads its indices, and its params (0 on the axis that the index picks)."""
    axis, batch = node.attrs["axis"], node.attrs["batch_dims"]
    extra = node.inputs[1].type.ndim - batch
    picked = domain[:batch] + domain[axis : axis + extra]
    return picked, (*domain[:axis], Index(0), *domain[axis + extra :])


def partition(group: Group) -> Partition:
    """The roles of the axes, or Refusal when the reductions of the group cannot share a nest.

    The inner axes are the last ones that the same reductions run over and that the same members
    have: what lacks one of them lacks them all, and is computed once a row.
    """
    axes = [i for i, n in enumerate(group.shape) if n != 1]
    over = list(dict.fromkeys(m.over for m in group.reductions if m.over))
    if not axes:
        return Partition((), (), ())
    sets = [*over, *dict.fromkeys(m.axes for m in group.members.values())]
    signature = {a: tuple(a in s for s in sets) for a in axes}
    inner = [axes[-1]]
    while len(inner) < len(axes) and signature[axes[-1 - len(inner)]] == signature[axes[-1]]:
        inner.insert(0, axes[-1 - len(inner)])
    lead = [a for a in axes if a not in inner]
    folds = {frozenset(r - set(inner)) for r in over} - {frozenset()}
    if len(folds) > 1:
        raise Refusal("their reductions run over different axes")
    folded = next(iter(folds), frozenset())
    return Partition(
        tuple(a for a in lead if a not in folded),
        tuple(a for a in lead if a in folded),
        tuple(inner),
    )


def is_row_reduction(group: Group, member: Member) -> bool:
    """Is the result there after a sweep (else after the whole fold)?"""
    roles = group.partition
    if not member.over or member.over & set(roles.folded):
        return False
    if roles.parallel or roles.folded:
        return True
    total = 1
    for a in roles.inner:
        n = group.shape[a]
        total *= n if isinstance(n, int) else ROW_LIMIT + 1
    return total <= ROW_LIMIT
