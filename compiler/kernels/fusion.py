"""Which nodes become one kernel: groups over a common iteration space, and why others did not join.

A group has one iteration space (`shape`), and each member says where its elements lie in it (its
canonical indices). A node joins the group of a producer when its elements line up with the
producer's, and when the order of a loop nest (see `loops.py`) can compute it: nothing may need the
result of a folded reduction before the fold has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from graphgrad.compiler.dims import Dim, Symbol, is_runtime_size, symbols_of
from graphgrad.compiler.families import Generator, Reduce
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.kernels.groups import (
    GROUP_LIMIT,
    Group,
    Member,
    Refusal,
    gather_axes,
    is_fusible,
    is_gather,
    is_inline,
    is_padding,
    is_row_reduction,
    is_view,
    partition,
    unpadded,
)
from graphgrad.compiler.kernels.index_maps import Index, Indices, identity, remap, through_view
from graphgrad.compiler.kernels.interleave import Place, interleaved
from graphgrad.compiler.kernels.reach import Reach
from graphgrad.compiler.kernels.views import Views
from graphgrad.compiler.passes.dce import has_effect
from graphgrad.compiler.transform.sizes import outer_sizes, symbols_in
from graphgrad.compiler.types import Shape

# A kernel is compared with so many others that read the same memory.
SIBLING_LIMIT = 4
# A scalar that so many operations read is a kernel of its own, so that theirs can be alike.
SHARED_SCALAR = 8


@dataclass(frozen=True)
class Step:
    """A kernel, or one node that has no loop form."""

    group: Group | None
    node: Node | None = None

    @property
    def nodes(self) -> list[Node]:
        return self.group.nodes if self.group is not None else [self.node] if self.node else []


def found_by_loops(graph: Graph) -> dict[Symbol, Node]:
    """The loop that finds out each run-time size, as many as it makes steps."""
    found: dict[Symbol, Node] = {}
    for node in graph.nodes:
        trips = node.attrs["trips"] if node.op.name == "while_loop" else None
        if isinstance(trips, Dim) and is_runtime_size(trips):
            (symbol,) = symbols_of(trips)
            found.setdefault(symbol, node)  # another loop of the same steps may follow
    return found


@dataclass
class Plan:
    """The steps in order, the values that need memory, and each refusal with its nodes."""

    steps: list[Step]
    stored: set[Value]
    refusals: list[tuple[Node, Node, str]]


class Fusion(Views):
    """Builds the groups of one graph, node by node in order.

    The nodes `apart` are not put into kernels with folds: see `updates.py`.
    """

    def __init__(self, graph: Graph, apart: frozenset[Node] = frozenset()) -> None:
        super().__init__(graph)
        self.apart = apart
        self.positions = {node: i for i, node in enumerate(graph.nodes)}
        self.group_of: dict[Value, Group] = {}
        self.single: dict[Value, Node] = {}  # outputs of nodes without a loop form
        self.groups: dict[Group, None] = {}
        self.reach = Reach()
        self.numbers: dict[Group | Node, int] = {}  # of the units, in `reach`
        self.before: dict[Node, list[Node]] = {}  # what else runs before a node: see `sequence`
        self.effect: Node | None = None  # the last one so far
        self.raising: list[Node] = []  # those that may raise, since then
        self.makers = found_by_loops(graph)
        self.owed: dict[Value, set[Symbol]] = {}  # the sizes that inline values and views mention
        self.refusals: list[tuple[Node, Node, str]] = []
        reading = (n for n in graph.nodes if not is_view(n))
        self.uses = Counter(s for n in reading for s in {self.behind(x) for x in n.inputs})
        self.places: dict[
            Value, Place
        ] = {}  # of members that are not stored in memory of their own

    def run(self) -> Plan:
        for node in self.graph.nodes:
            if node.op.name == "constant":
                continue
            self.sequence(node)
            if self.makers:
                self.follow_sizes(node)
            if is_fusible(node) or (node.outputs and node.out in self.opaque):
                self.place(node)
            elif not is_view(node) and not is_inline(node):
                self.single.update(dict.fromkeys(node.outputs, node))
                self.settle(node, node)
        self.merge_siblings()
        self.places = interleaved(self, self.group_of)
        return Plan(self.order(), self.stored_values(), self.refusals)

    # -- placing nodes

    def sequence(self, node: Node) -> None:
        """Effects, and what may raise between them, run in program order."""
        effect = has_effect(node)
        if not (effect or node.op.raises):
            return
        before = [] if self.effect is None else [self.effect]
        if effect:
            before += self.raising
            self.effect, self.raising = node, []
        else:
            self.raising.append(node)
        if before:
            self.before[node] = before

    def follow_sizes(self, node: Node) -> None:
        """What mentions a size runs after the loop that finds it out."""
        mentioned = symbols_in(node).union(
            *(outer_sizes(a) for a in node.attrs.values() if isinstance(a, Graph)),
            *(self.owed.get(x, ()) for x in node.inputs),
        )
        if is_view(node) or is_inline(node):
            self.owed[node.out] = mentioned
            return
        before = [self.makers[s] for s in mentioned & self.makers.keys()]
        before = [n for n in before if n is not node]
        if before:
            self.before[node] = [*self.before.get(node, ()), *before]

    def unit_of(self, node: Node) -> Group | Node:
        """What computes the outputs of a node that has been placed."""
        return self.group_of.get(node.out, node) if node.outputs else node

    def unit(self, value: Value) -> Group | Node | None:
        """The kernel or single node that computes a value; None for parameters and constants."""
        return self.group_of.get(value) or self.single.get(value)

    def settle(self, unit: Group | Node, node: Node) -> None:
        """Note what `node`, which has become (a part of) `unit`, reads."""
        if unit not in self.numbers:
            self.numbers[unit] = self.reach.add()
        sources = map(self.unit, dict.fromkeys(map(self.behind, node.inputs)))
        read = [self.numbers[u] for u in sources if u is not None and u is not unit]
        read += [self.numbers[self.unit_of(n)] for n in self.before.get(node, ())]
        self.reach.read(self.numbers[unit], read)

    def place(self, node: Node) -> None:
        """Put a node into the group of one of its producers, or into a new one."""
        self.merge_candidates(node)
        for group in self.candidates(node):
            try:
                if len(group.members) >= GROUP_LIMIT:
                    raise Refusal(f"the kernel has {GROUP_LIMIT} operations already")
                if node in self.apart and group.partition.folded:
                    raise Refusal("it is one launch with equal updates of other arrays")
                self.check_cycle(node, group)
                self.join(group, node)
                break
            except Refusal as refusal:
                self.note(group, node, str(refusal))
        else:
            self.start(node)
        self.settle(self.group_of[node.out], node)

    def merge_candidates(self, node: Node) -> None:
        """Make the groups that `node` reads fewer."""
        before = self.candidates(node)
        for i, group in enumerate(before):
            for other in before[i + 1 :]:
                if other in self.groups and group in self.groups:
                    self.try_merge(group, other, node)

    def candidates(self, node: Node) -> list[Group]:
        """Groups of the producers, largest iteration space first."""
        found: dict[Group, None] = {}
        for x in node.inputs:
            group = self.group_of.get(self.behind(x))
            if group is not None:
                found[group] = None
        return sorted(found, key=lambda g: (-len(g.shape), -g.rank))

    def note(self, group: Group, node: Node, sentence: str) -> None:
        read = [self.producers[s] for s in map(self.behind, node.inputs) if s in group.members]
        if read:
            self.refusals.append((min(read, key=self.positions.__getitem__), node, sentence))

    def start(self, node: Node) -> None:
        """Open a group for `node`."""
        domain = node.inputs[0].type.shape if isinstance(node.op, Reduce) else node.out.type.shape
        group = Group(domain, rank=self.positions[node])
        self.groups[group] = None
        self.add(group, node, {i: i for i in range(len(domain))})
        group.partition = partition(group)
        validate(group)

    def join(self, group: Group, node: Node) -> None:
        """Add `node` to `group`, or raise Refusal."""
        domain = node.inputs[0].type.shape if isinstance(node.op, Reduce) else node.out.type.shape
        axes = self.align(group, node, domain)
        before, late = group.partition, [(m, m.late) for m in group.members.values()]
        self.add(group, node, axes)
        try:
            if isinstance(node.op, Reduce) or domain != group.shape:
                group.partition = partition(group)
            if group.partition == before:
                check_member(group, group.members[node.out])
            else:
                validate(group)
        except Refusal:
            group.drop(node)
            del self.group_of[node.out]
            group.partition = before
            for m, was_late in late:
                m.late = was_late
            raise

    def add(self, group: Group, node: Node, axes: dict[int, int]) -> None:
        reads = tuple(map(self.behind, node.inputs))
        if isinstance(node.op, Reduce):
            removed = node.attrs["axes"]
            kept = identity(node.inputs[0].type.shape)
            indices = [Index(0) if i in removed else x for i, x in enumerate(kept)]
            if not node.attrs["keepdims"]:
                indices = [x for i, x in enumerate(indices) if i not in removed]
            over = frozenset(axes[i] for i in removed if i in axes and kept[i].steps)
            member = Member(node, remap(tuple(indices), axes), remap(kept, axes), reads, over)
        else:
            own = remap(identity(node.out.type.shape), axes)
            member = Member(node, own, own, reads)
        group.add(member)
        self.group_of[node.out] = group

    def reads(self, node: Node, indices: Indices) -> Iterable[tuple[Value, Indices]]:
        """The sources that a node reads for its domain indices."""
        if is_view(node):  # an opaque view: a copy
            found = through_view(node, indices)
            assert found is not None
            yield self.source(node.inputs[0], found)
        elif is_gather(node):
            assert isinstance(indices, tuple)
            yield self.source(node.inputs[1], gather_axes(node, indices)[0])
        elif is_padding(node):
            assert isinstance(indices, tuple)
            yield self.source(node.inputs[0], unpadded(node, indices))
        elif not isinstance(node.op, Generator):
            for x in node.inputs:
                yield self.source(x, indices)

    def align(self, group: Group, node: Node, domain: Shape) -> dict[int, int]:
        """Which axis of the group each axis of the node's domain is."""
        own = identity(domain)
        if domain == group.shape:
            axes = {i: i for i in range(len(domain))}
        else:
            axes = self.unify(group, node, own)
            if any(domain[i] != group.shape[a] for i, a in axes.items()):
                raise Refusal("its elements do not line up: a slice lies between")
            free = [i for i, x in enumerate(own) if x.steps and i not in axes]
            if free:
                return self.expand(group, node, domain)
        for value, indices in self.reads(node, own):
            if self.group_of.get(value) is group:
                member = group.members[value]
                if isinstance(indices, Index) or remap_or_none(indices, axes) != member.indices:
                    raise Refusal(
                        "its elements do not line up: a transpose, slice or reshape lies between"
                    )
        return axes

    def unify(self, group: Group, node: Node, own: tuple[Index, ...]) -> dict[int, int]:
        """Axes of the node's domain that follow the axes of members it reads."""
        axes: dict[int, int] = {}
        for value, indices in self.reads(node, own):
            if self.group_of.get(value) is not group:
                continue
            if isinstance(indices, Index):
                raise Refusal("its elements do not line up: a reshape lies between")
            for index, canonical in zip(indices, group.members[value].indices, strict=True):
                a, b = index.only_axis, canonical.only_axis
                if a is not None and b is not None and axes.setdefault(a, b) != b:
                    raise Refusal("its elements do not line up: axes are permuted between them")
        if len(set(axes.values())) < len(axes):
            raise Refusal("its elements do not line up: it meets each element with all others")
        return axes

    def expand(self, group: Group, node: Node, domain: Shape) -> dict[int, int]:
        """Make the node's larger domain the iteration space; members become per-row work."""
        if group.reductions:
            raise Refusal("it runs over more elements than the reduction before it")
        if 0 in domain:
            raise Refusal("it has no elements, so its loop would compute nothing before it either")
        if not group.shape and any(self.uses[v] >= SHARED_SCALAR for v in group.members):
            raise Refusal("many others read this scalar as well")
        own = identity(domain)
        new: dict[int, int] = {}  # group axis -> domain axis
        for value, indices in self.reads(node, own):
            if self.group_of.get(value) is not group:
                continue
            if isinstance(indices, Index):
                raise Refusal("its elements do not line up: a reshape lies between")
            for index, canonical in zip(indices, group.members[value].indices, strict=True):
                a, b = index.only_axis, canonical.only_axis
                if (a is None) != (b is None):
                    raise Refusal("its elements do not line up with those it is broadcast from")
                if a is None or b is None:
                    continue
                if new.setdefault(b, a) != a or group.shape[b] != domain[a]:
                    raise Refusal("its elements do not line up with those it is broadcast from")
        used = {a for m in group.members.values() for a in m.axes}
        if not used <= new.keys():
            raise Refusal("its elements do not line up with those it is broadcast from")
        if set(new[a] for a in used) != set(range(len(used))) and used:
            raise Refusal(
                "the smaller value would be computed again for each row it is broadcast over"
            )
        for member in group.members.values():
            member.move(new)
        group.shape = domain
        group.partition = partition(group)
        return {i: i for i in range(len(domain))}

    # -- merging

    def try_merge(self, a: Group, b: Group, node: Node) -> bool:
        """Make two groups over the same space one, if that makes no cycle."""
        if a.shape != b.shape or len(a.members) + len(b.members) > GROUP_LIMIT:
            return False
        if self.reaches(a, b) or self.reaches(b, a):
            return False
        mixed = self.apart and bool(a.partition.folded) != bool(b.partition.folded)
        if mixed and not self.apart.isdisjoint((*a.nodes, *b.nodes)):
            return False
        members = {**a.members, **b.members}
        ordered = sorted(members.items(), key=lambda item: self.positions[item[1].node])
        merged = Group(a.shape, dict(ordered), rank=a.rank)
        late = [(m, m.late) for m in members.values()]
        self.group_of.update(dict.fromkeys(members, merged))
        try:
            merged.partition = partition(merged)
            self.check_merged(merged, a, b)
        except Refusal as refusal:
            for group in (a, b):
                self.group_of.update(dict.fromkeys(group.members, group))
            for m, was_late in late:
                m.late = was_late
            self.note(a, node, str(refusal))
            return False
        del self.groups[a], self.groups[b]
        self.groups[merged] = None
        self.numbers[merged] = self.numbers.pop(a)
        self.reach.merge(self.numbers[merged], self.numbers.pop(b))
        return True

    def check_merged(self, merged: Group, a: Group, b: Group) -> None:
        """Check the members that the merging may concern, or raise Refusal.

        Those read a member of the other group, or one that has become late, or belong to a group
        whose partition changes.
        """
        changed = {g: g.partition != merged.partition for g in (a, b)}
        later: set[Value] = set()
        for v, member in merged.members.items():
            own, other = (a, b) if v in a.members else (b, a)
            crosses = any(s in other.members for s in member.reads)
            if crosses:
                self.check_aligned(merged, member)
            if crosses or changed[own] or any(s in later for s in member.reads):
                late = member.late
                check_member(merged, member)
                if late != member.late:
                    later.add(v)

    def check_aligned(self, group: Group, member: Member) -> None:
        """Refuse when a member reads another at other elements than its own."""
        for value, indices in self.reads(member.node, member.domain):
            found = group.members.get(value)
            if found is not None and indices != found.indices:
                raise Refusal(
                    "its elements do not line up: a transpose, slice or reshape lies between"
                )

    def inputs_of(self, group: Group) -> list[Value]:
        """The sources that the members read from outside, in order."""
        return [v for v in group.sources if v not in group.members]

    def reaches(self, a: Group, b: Group) -> bool:
        """Does `b` need `a` through something outside both?"""
        return self.reach.needs_beyond(self.numbers[b], self.numbers[a])

    def check_cycle(self, node: Node, group: Group) -> None:
        """Refuse when another input of `node` needs something of `group`."""
        number = self.numbers[group]
        units = [*map(self.unit, map(self.behind, node.inputs))]
        units += map(self.unit_of, self.before.get(node, ()))
        for unit in units:
            if unit is not None and self.reach.needs(self.numbers[unit], number):
                raise Refusal("another of its inputs needs this kernel's result first")

    def merge_siblings(self) -> None:
        """Fuse groups over the same space that read the same memory."""
        readers: dict[tuple[Value, Shape], list[Value]] = {}  # of each, one member
        for group in sorted(self.groups, key=lambda g: g.rank):
            for v in self.inputs_of(group):
                if v.type.shape:
                    readers.setdefault((v, group.shape), []).append(group.first.out)
        for members in readers.values():
            apart: dict[Group, None] = {}
            for member in members:
                self.merge_into(apart, self.group_of[member])

    def merge_into(self, apart: dict[Group, None], group: Group) -> None:
        """Merge `group` with as many of the others as can be, and put the result among them."""
        for other in list(apart)[-SIBLING_LIMIT:]:
            if group is not other and other in self.groups:
                first, second = sorted((group, other), key=lambda g: g.rank)
                if self.try_merge(first, second, second.first):
                    group = self.group_of[second.first.out]
        apart[group] = None

    # -- results

    def stored_values(self) -> set[Value]:
        """Members that something outside their group reads, or that the graph returns."""
        stored = {s for v in self.graph.outputs if (s := self.memory_of(v)) in self.group_of}
        for node in self.graph.nodes:
            if is_view(node) and node.out not in self.opaque:
                continue
            own = self.group_of.get(node.out) if node.outputs else None
            for x in node.inputs:
                source = self.behind(x)
                if source in self.group_of and self.group_of[source] is not own:
                    stored.add(source)
        return stored

    def order(self) -> list[Step]:
        """All steps, each after what it reads."""
        steps: list[Step] = []
        done: set[Group | Node] = set()

        def visit(start: Group | Node) -> None:
            stack = [(start, iter(self.needs(start)))]
            done.add(start)
            while stack:
                unit, needs = stack[-1]
                for need in needs:
                    if need not in done:
                        done.add(need)
                        stack.append((need, iter(self.needs(need))))
                        break
                else:
                    stack.pop()
                    steps.append(Step(unit) if isinstance(unit, Group) else Step(None, unit))

        for node in self.graph.nodes:
            unit = self.group_of.get(node.outputs[0], node) if node.outputs else node
            counts = unit is not node or not node.outputs or node.out in self.single
            if counts and unit not in done:
                visit(unit)
        return steps

    def needs(self, unit: Group | Node) -> list[Group | Node]:
        """The groups and single nodes that a group or single node needs first, in order."""
        inputs = self.inputs_of(unit) if isinstance(unit, Group) else map(self.behind, unit.inputs)
        found: dict[Group | Node, None] = {}
        for v in inputs:
            if v in self.group_of:
                found[self.group_of[v]] = None
            elif v in self.single:
                found[self.single[v]] = None
        if self.before:
            for node in [unit] if isinstance(unit, Node) else unit.nodes:
                found.update(dict.fromkeys(map(self.unit_of, self.before.get(node, ()))))
            found.pop(unit, None)
        return sorted(found, key=self.position)

    def position(self, unit: Group | Node) -> int:
        """Where a unit starts in the graph."""
        return self.positions[unit if isinstance(unit, Node) else unit.first]


def remap_or_none(indices: tuple[Index, ...], axes: dict[int, int]) -> tuple[Index, ...] | None:
    """`remap`, or None when an axis has no counterpart."""
    if any(a not in axes for x in indices for a, _ in x.steps):
        return None
    return remap(indices, axes)


def validate(group: Group) -> None:
    """Recompute which members are late, and check each against the order of the nest."""
    for member in group.members.values():
        check_member(group, member)


def check_member(group: Group, member: Member) -> None:
    """Set `member.late`; Refusal when the nest cannot compute it."""
    internal = [group.members[s] for s in member.reads if s in group.members]
    if is_gather(member.node) and member.reads[0] in group.members:
        raise Refusal("it picks elements of a value that must be complete first")
    if isinstance(member.node.op, Generator) and internal:
        raise Refusal("each of its elements needs the whole key first")
    reads_late = any(m.late for m in internal)
    if isinstance(member.node.op, Reduce):
        if reads_late:
            raise Refusal(
                "it reduces a value that is complete only when the loop before it has ended"
            )
        member.late = not is_row_reduction(group, member) if member.over else reads_late
        if member.late and not member.over <= set(group.partition.folded) | set(
            group.partition.inner
        ):
            raise Refusal("their reductions run over different axes")
        return
    member.late = reads_late
    if reads_late:
        if member.axes & set(group.partition.folded):
            raise Refusal("it needs a reduction over the whole loop before its first element")
        for a in group.partition.inner:
            if a in member.axes and not all(a in m.axes for m in internal if m.late and m.axes):
                raise Refusal("it needs a reduction over the whole loop before its first element")
        if member.axes & set(group.partition.inner) and any(
            not m.axes and m.late for m in internal
        ):
            raise Refusal("it needs a reduction over the whole loop before its first element")
    repeated = set(group.partition.parallel) | set(group.partition.folded)
    if not reads_late and member.axes & set(group.partition.inner) and not repeated <= member.axes:
        raise Refusal("it would be computed again for each row of the loop")
