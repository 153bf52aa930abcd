"""Cotangents that are zeros but for a block are added where the sum lies, step by step.

    scan(g + update_slice(zeros, u, i))     becomes     scan(update_slice(g, g[i] + u, i))

The reverse of reading x[i] is zeros with one block. What sums of such cost is then what they hold,
not the size of x. A loop or a branch within that gives a sum which begins at zero begins with the
sum around it instead. Only sums that differentiation made change: there the sign of a zero, and the
order of terms, mean nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.op import Attrs, ops, state
from graphgrad.compiler.ops.slicing import merged
from graphgrad.compiler.passes.dce import dce
from graphgrad.compiler.passes.loops import Loop, Outside, over_loops, renamed
from graphgrad.compiler.passes.loops_defer import is_zero, summed
from graphgrad.compiler.passes.reorder import sorted_by
from graphgrad.compiler.passes.rewrite import building
from graphgrad.compiler.transform.sizes import size_makers, symbols_in
from graphgrad.compiler.types import Shape, element_count

LOOPS = ("scan", "while_loop")
FEW = 16  # elements of a sum that is as well added whole


def add_in_place(graph: Graph) -> Graph:
    """`graph` with sums in its loops that add blocks where these lie."""
    return over_loops(graph, added)


def added(loop: Loop) -> bool:
    """Change the sums of one loop. Those that can be computed behind it stay, unless all of it is
    scalar code."""
    # Imported here for the reason that `residuals` gives.
    from graphgrad.compiler.kernels.scalar_loops import is_scalar_loop

    inside = in_branches(loop)
    nodes, carried = loop.nodes, [c.next for c in loop.carried]
    later: set[Value] = set()
    if loop.is_scan and loop.flags is None:
        later = {c.next for c in loop.carried if summed(loop, c) is not None}
    for kept in (set[Value](), later) if later else (later,):
        body = Body(list(nodes), [*carried, *(s.value for s in loop.stacked)])
        if not body.change(kept):
            continue
        loop.nodes = body.nodes
        for c in loop.carried:
            c.next = body.became.get(c.next, c.next)
        if kept is later or not later or is_scalar_loop(loop.together()):
            return True
        loop.nodes = nodes
        for c, v in zip(loop.carried, carried, strict=True):
            c.next = v
    return inside


def in_branches(loop: Loop) -> bool:
    """Change the sums in branches of a loop."""
    nodes = [with_sums(node) for node in loop.nodes]
    changed = any(a is not b for a, b in zip(nodes, loop.nodes, strict=True))
    loop.nodes = nodes
    return changed


def with_sums(node: Node) -> Node:
    """A condition with other sums in its branches; another node as it is."""
    if node.op.name != "cond":
        return node
    attrs = dict(node.attrs)
    for key in ("true_graph", "false_graph"):
        graph: Graph = attrs[key]
        nodes = [*map(with_sums, graph.nodes)]
        body = Body(nodes, list(graph.outputs))
        changed = any(a is not b for a, b in zip(nodes, graph.nodes, strict=True))
        if body.change(()) or changed:
            attrs[key] = Graph(graph.params, tuple(body.nodes), tuple(body.outputs), graph.name)
    if all(attrs[key] is value for key, value in node.attrs.items()):
        return node
    return Node(node.op, node.inputs, attrs, node.outputs, node.where)


@dataclass(frozen=True, slots=True)
class Block:
    """Zeros of `shape` with `values` from `starts` on, one an axis, in steps."""

    values: Value
    shape: Shape
    starts: tuple[Any, ...]  # ints or integer values
    sizes: Shape
    steps: tuple[int, ...]


@dataclass(eq=False)
class Body:
    """The nodes of a graph while its sums change."""

    nodes: list[Node]
    outputs: list[Value]
    became: dict[Value, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.count()

    def count(self) -> None:
        """Who makes the values, and how often they are read."""
        self.makers = {v: node for node in self.nodes for v in node.outputs}
        self.reads = Counter(x for node in self.nodes for x in node.inputs)
        self.reads.update(self.outputs)

    def change(self, kept: Iterable[Value]) -> bool:
        """Rewrite the sums of blocks, but those that are `kept`; was there any?"""
        inner = {
            x for node in self.nodes if is_sum(node) for x in node.inputs if self.is_link(x)
        }  # fmt: skip
        roots = [n for n in self.nodes if is_sum(n) and not {n.out} & (inner | set(kept))]
        changed = False
        for node in roots:
            changed |= self.rewrite(node)
        return changed

    def is_link(self, v: Value) -> bool:
        """Is a value a sum, and read by one node only?"""
        return v in self.makers and is_sum(self.makers[v]) and self.reads[v] == 1

    def rewrite(self, node: Node) -> bool:
        """Rewrite one sum, if a term of it is zeros but for a part."""
        terms = self.terms(node)
        parts = {v: None for v in terms if self.is_partial(v)}
        if not parts:
            return False
        rest = [v for v in terms if v not in parts] or [parts.popitem()[0]]
        edit = Edit(self)
        with edit.at(node):
            total = edit.sum_of(rest)
            for v in parts:
                total = edit.onto(v, total)
        if not edit.changed:
            return False
        place = self.nodes.index(node)
        nodes = [n for n in (*self.nodes[:place], *edit.nodes, *self.nodes[place + 1 :])
                 if n not in edit.gone]  # fmt: skip
        self.became[node.out] = total
        self.outputs = [total if v is node.out else v for v in self.outputs]
        nodes = in_order(renamed(nodes, {node.out: total}))
        self.nodes = [*dce(Graph((), tuple(nodes), tuple(self.outputs))).nodes]
        self.count()
        return True

    def terms(self, node: Node) -> list[Value]:
        found: list[Value] = []
        for x in node.inputs:
            found += self.terms(self.makers[x]) if self.is_link(x) else [x]
        return found

    def is_partial(self, v: Value) -> bool:
        """Is a value read once, and zeros but for a part that can be added by itself?"""
        node = self.makers.get(v)
        if node is None or self.reads[v] != 1:
            return False
        if is_zero(self.makers, v) or self.block(v) is not None:
            return True
        if node.op.name in LOOPS:
            return self.loop_adds(node, number_of(v, node))
        if node.op.name == "cond" and not node.attrs.get("widened"):
            k = number_of(v, node)
            graphs = node.attrs["true_graph"], node.attrs["false_graph"]
            return any(branch(g).adds_parts(g.outputs[k]) for g in graphs)
        return False

    def adds_parts(self, v: Value) -> bool:
        """Is a value made of parts alone?"""
        node = self.makers.get(v)
        if node is None or self.reads[v] != 1:
            return is_zero(self.makers, v)
        if is_sum(node):
            return all(map(self.adds_parts, node.inputs))
        if (before := self.before(node)) is not None:
            return self.reads[before] == 2 and self.adds_parts_before(before)
        return self.is_partial(v)

    def adds_parts_before(self, v: Value) -> bool:
        """As `adds_parts`, of a value that an update reads twice."""
        self.reads[v] -= 1
        found = self.adds_parts(v)
        self.reads[v] += 1
        return found

    def before(self, node: Node) -> Value | None:
        """What an update adds a block to."""
        if node.op.name != "update_slice":
            return None
        x, values, *starts = node.inputs
        maker = self.makers.get(values)
        for y in maker.inputs if maker is not None and maker.op.name == "add" else ():
            read = self.makers.get(y)
            if read is not None and read.op.name == "dynamic_slice" and self.reads[y] == 1:
                places = [*map(id, read.inputs)] == [*map(id, (x, *starts))]
                if places and all(read.attrs[k] == node.attrs[k] for k in ("starts", "steps")):
                    return x
        return None

    # -- loops that add up

    def loop_adds(self, node: Node, k: int) -> bool:
        """Does a loop add to part `k` of its state, which begins at zero, in each step?"""
        carried: int = node.attrs["carried"]
        if k >= carried or not is_zero(self.makers, node.inputs[k]):
            return False
        if node.attrs.get("varying") or node.attrs.get("padded"):
            return False
        return only_adds(node, k)

    # -- blocks

    def block(self, v: Value) -> Block | None:
        """A value that is zeros but for a block; None for others."""
        node = self.makers.get(v)
        if node is None or self.reads[v] != 1:
            return None
        attrs, shape = node.attrs, v.type.shape
        if node.op.name == "unslice":
            (u,) = node.inputs
            found = Block(u, shape, attrs["starts"], u.type.shape, attrs["steps"])
        elif node.op.name == "update_slice" and is_zero(self.makers, node.inputs[0]):
            _, u, *starts = node.inputs
            begins = merged(attrs["starts"], starts)
            found = Block(u, shape, begins, u.type.shape, attrs["steps"])
        elif node.op.name == "scatter_add" and not node.inputs[1].type.ndim:
            u, i = node.inputs
            axis: int = attrs["axis"]
            begins = tuple(i if d == axis else 0 for d in range(len(shape)))
            sizes = tuple(1 if d == axis else n for d, n in enumerate(shape))
            found = Block(u, shape, begins, sizes, (1,) * len(shape))
        else:
            return None
        if any(step < 1 for step in found.steps) or covers_much(found):
            return None
        return self.within(found)

    def within(self, outer: Block) -> Block:
        """The block of a block: where only one of both leaves out a part along each axis."""
        v = outer.values
        while v in self.makers and self.makers[v].op.name == "reshape" and self.reads[v] == 1:
            v = self.makers[v].inputs[0]
        inner = self.block(v)
        inner = inner and reshaped(inner, outer.sizes)
        if inner is None:
            return outer
        starts, sizes, steps = [], [], []
        for d, n in enumerate(outer.shape):
            is_whole = (outer.sizes[d], outer.steps[d]) == (n, 1)
            if is_whole and is_zero_start(outer.starts[d]):
                taken = inner
            elif outer.sizes[d] == 1:
                taken = outer
            else:
                return outer
            starts.append(taken.starts[d])
            sizes.append(taken.sizes[d])
            steps.append(taken.steps[d])
        return Block(inner.values, outer.shape, tuple(starts), tuple(sizes), tuple(steps))


def covers_much(block: Block) -> bool:
    """Is a block, at a place known now, so much of the whole that a kernel had better add all
    terms at once?"""
    if any(isinstance(s, Value) for s in block.starts):
        return False
    whole, part = element_count(block.shape), element_count(block.sizes)
    return isinstance(whole, int) and isinstance(part, int) and 4 * part > whole


def number_of(v: Value, node: Node) -> int:
    """Which output of a node a value is."""
    return next(k for k, out in enumerate(node.outputs) if out is v)


def branch(graph: Graph) -> Body:
    """A branch as a body."""
    return Body(list(graph.nodes), list(graph.outputs))


def is_sum(node: Node) -> bool:
    """Is a node a sum of large cotangents?"""
    if node.op.name != "add" or node.where is None or not node.where.derivative:
        return False
    count = element_count(node.out.type.shape)
    same = all(x.type == node.out.type for x in node.inputs)
    return same and not (isinstance(count, int) and count <= FEW)


def reshaped(block: Block, shape: Shape) -> Block | None:
    """A block in a shape that has other axes of size 1."""
    if [n for n in block.shape if n != 1] != [n for n in shape if n != 1]:
        return None
    if any(n == 1 and not is_zero_start(s) for n, s in zip(block.shape, block.starts, strict=True)):
        return None
    kept = [d for d, n in enumerate(block.shape) if n != 1]
    rest = iter(kept)
    axes = [None if n == 1 else next(rest) for n in shape]
    return Block(
        block.values,
        shape,
        tuple(0 if d is None else block.starts[d] for d in axes),
        tuple(1 if d is None else block.sizes[d] for d in axes),
        tuple(1 if d is None else block.steps[d] for d in axes),
    )


def is_zero_start(start: Any) -> bool:
    """Does a block start where the array does?"""
    return isinstance(start, int) and start == 0


def only_adds(node: Node, k: int) -> bool:
    """Does a step of a loop only add to part `k` of its state?"""
    if "cond_graph" in node.attrs:
        asked: Graph = node.attrs["cond_graph"]
        if branch(asked).reads[asked.params[k]]:
            return False
    body: Graph = node.attrs["body_graph"]
    return sums_onto(branch(body), body.outputs[k], body.params[k])


def sums_onto(body: Body, v: Value, start: Value) -> bool:
    """Is `v` the sum of `start` and of what does not depend on it?"""
    if v is start:
        return body.reads[v] == 1
    node = body.makers.get(v)
    if node is None or body.reads[v] != 1:
        return False
    if node.op.name == "add":
        return any(sums_onto(body, x, start) for x in node.inputs)
    before = body.before(node)
    if before is not None and body.reads[before] == 2:
        body.reads[before] -= 1
        return sums_onto(body, before, start)
    if node.op.name in LOOPS:
        k = number_of(v, node)
        inside = k < node.attrs["carried"] and only_adds(node, k)
        return inside and sums_onto(body, node.inputs[k], start)
    if node.op.name == "cond":
        k = number_of(v, node)
        for i, x in enumerate(node.inputs[1:]):
            graphs = node.attrs["true_graph"], node.attrs["false_graph"]
            if sums_onto(body, x, start):
                return all(sums_onto(branch(g), g.outputs[k], g.params[i]) for g in graphs)
    return False


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """The nodes, each behind those that make what it reads or the sizes that it mentions."""
    graph = Graph((), tuple(nodes), ())
    sizes = size_makers(graph)
    before = {
        node: {graph.producers[x] for x in node.inputs if x in graph.producers}
        | {graph.producers[sizes[s]] for s in (symbols_in(node) if sizes else ()) if s in sizes}
        - {node}
        for node in nodes
    }
    return sorted_by(nodes, before)


class Edit:
    """New nodes for a body, and those in whose place they come."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.builder = Outside()
        self.gone: set[Node] = set()
        self.changed = False

    @property
    def nodes(self) -> list[Node]:
        return self.builder.nodes

    @contextmanager
    def at(self, node: Node) -> Iterator[None]:
        """Ops make new nodes meanwhile, for the line of a node."""
        with building(self.builder):
            state.where = node.where
            yield

    def sum_of(self, values: Sequence[Value]) -> Value:
        total, *others = values
        for v in others:
            total = ops["add"](total, v)
        return total

    def onto(self, v: Value, total: Value) -> Value:
        """v + total, where parts of v are added by themselves."""
        body = self.body
        node = body.makers.get(v)
        if is_zero(body.makers, v):
            return total
        if node is None or body.reads[v] != 1:
            return ops["add"](total, v)  # type: ignore[no-any-return]
        block = body.block(v)
        if block is not None:
            return self.update(total, block)
        if is_sum(node):
            for x in node.inputs:
                total = self.onto(x, total)
            return total
        before = body.before(node)
        if before is not None and body.reads[before] == 2:
            return self.update_again(node, before, total)
        if body.is_partial(v) and not self.depends(total, node):
            return self.begun(node, v, total)
        return ops["add"](total, v)  # type: ignore[no-any-return]

    def update(self, total: Value, block: Block) -> Value:
        self.changed = True
        old = ops["dynamic_slice"](total, block.starts, block.sizes, block.steps)
        new = ops["add"](old, ops["reshape"](block.values, block.sizes))
        return ops["update_slice"](total, new, block.starts, block.steps)  # type: ignore[no-any-return]

    def update_again(self, node: Node, before: Value, total: Value) -> Value:
        """An update of what is only added to, of the new sum."""
        body = self.body
        body.reads[before] -= 1
        total = self.onto(before, total)
        body.reads[before] += 1
        _, values, *starts = node.inputs
        x, y = body.makers[values].inputs
        read = body.makers.get(x)
        reads_x = read is not None and bool(read.inputs) and read.inputs[0] is before
        term, begins = y if reads_x else x, merged(node.attrs["starts"], starts)
        steps: tuple[int, ...] = node.attrs["steps"]
        return self.update(total, Block(term, total.type.shape, begins, term.type.shape, steps))

    def depends(self, v: Value, node: Node) -> bool:
        """Is a value computed from what a node gives?"""
        makers = self.body.makers | {x: made for made in self.nodes for x in made.outputs}
        seen, open_values = set[Node](), [v]
        while open_values:
            made = makers.get(open_values.pop())
            if made is not None and made not in seen:
                seen.add(made)
                open_values += made.inputs
        return node in seen

    def begun(self, node: Node, v: Value, total: Value) -> Value:
        """A loop or a branch whose sum begins with `total`."""
        if node.op.name == "cond":
            return self.in_branches(node, v, total)
        k = number_of(v, node)
        inputs = (*node.inputs[:k], total, *node.inputs[k + 1 :])
        return self.instead(node, inputs, node.attrs, v)

    def in_branches(self, node: Node, v: Value, total: Value) -> Value:
        """A condition whose branches add to `total`."""
        k, attrs = number_of(v, node), dict(node.attrs)
        for key in ("true_graph", "false_graph"):
            graph: Graph = attrs[key]
            inner, given = Edit(branch(graph)), Value(total.type, None, total.where)
            with inner.at(node):
                end = inner.onto(graph.outputs[k], given)
            nodes = in_order([n for n in (*graph.nodes, *inner.nodes) if n not in inner.gone])
            outputs = (*graph.outputs[:k], end, *graph.outputs[k + 1 :])
            attrs[key] = dce(Graph((*graph.params, given), tuple(nodes), outputs, graph.name))
        return self.instead(node, (*node.inputs, total), attrs, v)

    def instead(self, node: Node, inputs: tuple[Value, ...], attrs: Attrs, v: Value) -> Value:
        """Another node in the place of one, of which `v` is now something else."""
        out = Value(v.type, None, v.where)
        outputs = tuple(out if x is v else x for x in node.outputs)
        made = Node(node.op, inputs, attrs, outputs, node.where)
        self.gone.add(node)
        self.nodes.append(made)
        self.changed = True
        body = self.body
        body.makers.update((x, made) for x in outputs)
        body.reads[out] = 1
        return out
