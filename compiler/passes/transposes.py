"""Transposes move behind what reads them, up to where they cost nothing.

    log(sum(exp(transpose(x)), 1))  becomes  log(sum(exp(x), 0))

so that kernels run along the memory of `x`. A chain is moved through as a whole or not at all: it
ends in values whose axes of more than one element keep their order (reductions to a vector), or in
a transpose back. A transposed result that is stored as such stays with the kernel that computes it.
"""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.families import Elementwise, Generator, Indexed, Reduce
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.op import Attrs, Op, ops
from graphgrad.compiler.types import Shape

Perm = tuple[int, ...]

# Reductions of shorter rows leave lanes of a vector empty, which costs more than distant elements.
SHORTEST = 8


def move_transposes(graph: Graph) -> Graph:
    """`graph` with transposes behind the reductions and elementwise chains that read them."""
    if all(node.op.name != "transpose" for node in graph.nodes):
        return graph
    perms = permutations(graph)
    moved = movable(graph, perms)
    return Rebuilding(graph, perms, moved).run() if moved else graph


def inverse(perm: Perm) -> Perm:
    return tuple(perm.index(i) for i in range(len(perm)))


def through(perm: Perm, shape: Shape) -> Shape:
    """The shape whose transpose by `perm` is `shape`."""
    return tuple(shape[i] for i in inverse(perm))


def kept_order(perm: Perm, shape: Shape) -> bool:
    """Is transposing to `shape` by `perm` a reshape: do axes of more than one element stay in
    order?"""
    moved = [p for p, n in zip(perm, shape, strict=True) if n != 1]
    return moved == sorted(moved)


def without(perm: Perm, axes: tuple[int, ...]) -> Perm:
    """The permutation that is left of `perm` when `axes` of the transposed value are dropped."""
    left = [p for i, p in enumerate(perm) if i not in axes]
    return tuple(sorted(left).index(p) for p in left)


def is_leaf(node: Node) -> bool:
    """Does a transpose make its readers run across memory?"""
    last = node.inputs[0].type.ndim - 1
    return last > 0 and node.attrs["perm"][-1] != last


def has_short_rows(perm: Perm, shape: Shape) -> bool:
    """Is what gives `shape` when transposed by `perm` short along its last axis?"""
    extent = through(perm, shape)[-1]
    return isinstance(extent, int) and extent < SHORTEST


def permutations(graph: Graph) -> dict[Value, Perm]:
    """For each value that can be computed with axes in another order: the permutation by which it
    is a transpose of that."""
    perms: dict[Value, Perm] = {}
    stretched: set[Value] = set()
    for node in graph.nodes:
        if len(node.outputs) != 1:
            continue
        if node.op.name == "broadcast_to":
            stretched.add(node.out)
        found = _permutation(node, perms, stretched)
        if found is not None:
            perms[node.out] = found
    return perms


def _permutation(node: Node, perms: dict[Value, Perm], stretched: set[Value]) -> Perm | None:
    op = node.op
    if isinstance(op, Elementwise):
        known = {perms[x] for x in node.inputs if x in perms}
        if len(known) == 1 and all(x in perms or x in stretched for x in node.inputs):
            return known.pop()
        return None
    if not node.inputs:
        return None
    perm = perms.get(node.inputs[0])
    if op.name == "transpose":
        if perm is not None:
            return tuple(perm[i] for i in node.attrs["perm"])
        return tuple(node.attrs["perm"]) if is_leaf(node) else None
    if perm is None:
        return None
    if isinstance(op, Reduce):
        if has_short_rows(perm, node.inputs[0].type.shape):
            return None
        return perm if node.attrs["keepdims"] else without(perm, node.attrs["axes"])
    if op.name == "broadcast_to":
        lead = node.out.type.ndim - len(perm)
        return (*range(lead), *(lead + p for p in perm))
    return None


def movable(graph: Graph, perms: dict[Value, Perm]) -> set[Node]:
    """The nodes that are computed in the other order of axes: the largest set in which each reads
    only what is, and what is not read so only is free to reshape."""
    producers = {node.out: node for node in graph.nodes if node.outputs and node.out in perms}
    free = {v for v, perm in perms.items() if kept_order(perm, v.type.shape)}
    moved = set(producers.values())
    returned = set(graph.outputs)

    def allowed(node: Node) -> bool:
        v = node.out
        leaf = node.op.name == "transpose" and node.inputs[0] not in perms
        if not leaf and any(x in producers and producers[x] not in moved for x in node.inputs):
            return False
        if v in free:
            return True
        if v in returned and not leaf:
            return False
        return all(r in moved or (leaf and not _has_loops(r)) for r in graph.uses.get(v, ()))

    todo = list(moved)
    while todo:
        node = todo.pop()
        if node in moved and not allowed(node):
            moved.discard(node)
            todo += [producers[x] for x in node.inputs if x in producers]
            todo += [r for r in graph.uses.get(node.out, ()) if r in moved]
    if all(node.op.name == "transpose" for node in moved):
        return set()
    return moved


def _has_loops(node: Node) -> bool:
    return isinstance(node.op, Elementwise | Reduce | Generator | Indexed) and not node.is_complex


class Rebuilding:
    """Writes the graph with its moved nodes in the other order of axes."""

    def __init__(self, graph: Graph, perms: dict[Value, Perm], moved: set[Node]) -> None:
        self.graph = graph
        self.perms = perms
        self.moved = moved
        self.makers = {v: node for node in graph.nodes for v in node.outputs}
        self.nodes: list[Node] = []
        self.other: dict[Value, Value] = {}  # what a value is a transpose of
        self.same: dict[Value, Value] = {}  # what takes the place of a value as it is

    def run(self) -> Graph:
        for node in self.graph.nodes:
            if node in self.moved:
                self.move(node)
            else:
                inputs = tuple(self.as_it_is(x) for x in node.inputs)
                if any(new is not old for new, old in zip(inputs, node.inputs, strict=True)):
                    node = Node(node.op, inputs, node.attrs, node.outputs, node.where)
                self.nodes.append(node)
        outputs = tuple(self.as_it_is(v) for v in self.graph.outputs)
        return Graph(self.graph.params, tuple(self.nodes), outputs, self.graph.name)

    def add(self, op: Op, inputs: tuple[Value, ...], attrs: Attrs, like: Value) -> Value:
        (type_,) = op.infer(tuple(x.type for x in inputs), attrs)
        v = Value(type_, None, like.where)
        self.nodes.append(Node(op, inputs, attrs, (v,), like.where))
        return v

    def move(self, node: Node) -> None:
        """The value of which the node's is a transpose."""
        v, x = node.out, node.inputs[0]
        if node.op.name == "transpose":
            self.other[v] = self.other[x] if x in self.perms else self.as_it_is(x)
            return
        attrs: dict[str, Any] = dict(node.attrs)
        if isinstance(node.op, Reduce):
            attrs["axes"] = tuple(sorted(self.perms[x][a] for a in attrs["axes"]))
        elif node.op.name == "broadcast_to":
            attrs["shape"] = through(self.perms[v], v.type.shape)
        inputs = tuple(self.turned(y, self.perms[v]) for y in node.inputs)
        self.other[v] = self.add(node.op, inputs, attrs, v)

    def turned(self, x: Value, perm: Perm) -> Value:
        """What the operand of a moved node is a transpose of: `perm` says by which permutation if
        it was stretched to its shape."""
        if x in self.other:
            return self.other[x]
        maker = self.makers.get(x)
        if maker is not None and maker.op.name == "broadcast_to":
            small = self.turned_before(maker.inputs[0], x.type.ndim, perm)
            if small is not None:
                return self.add(maker.op, (small,), {"shape": through(perm, x.type.shape)}, x)
        attrs = {"perm": inverse(perm)}
        return self.add(ops["transpose"], (self.as_it_is(x),), attrs, x)

    def turned_before(self, x: Value, rank: int, perm: Perm) -> Value | None:
        """What is stretched to what a value of `rank` axes, stretched from `x`, is a transpose of,
        if that is `x` with other axes of size 1."""
        aligned = (1,) * (rank - x.type.ndim) + x.type.shape
        if not kept_order(inverse(perm), through(perm, aligned)):
            return None
        sizes = list(through(perm, aligned))
        while sizes and isinstance(sizes[0], int) and sizes[0] == 1:
            del sizes[0]
        small, shape = self.as_it_is(x), tuple(sizes)
        maker = self.makers.get(x)
        if small is x and maker is not None and maker.op.name == "reshape":
            small = self.as_it_is(maker.inputs[0])
        if small.type.shape == shape:
            return small
        return self.add(ops["reshape"], (small,), {"shape": shape}, x)

    def as_it_is(self, x: Value) -> Value:
        """A value as the nodes read it that did not move."""
        if x not in self.other:
            return x
        if x not in self.same:
            perm, source = self.perms[x], self.other[x]
            if source.type.shape == x.type.shape and kept_order(perm, x.type.shape):
                self.same[x] = source
            elif kept_order(perm, x.type.shape):
                self.same[x] = self.add(ops["reshape"], (source,), {"shape": x.type.shape}, x)
            else:
                self.same[x] = self.add(ops["transpose"], (source,), {"perm": perm}, x)
        return self.same[x]
