"""Of an array that a loop reads and writes at one place only, that place is the state.

    scan(c[i, j] = c[i, j] + x_k)     becomes     e = scan(e + x_k, c[i, j]); c[i, j] = e

where i and j are the same in each step. The sum is then a register, or a small array that lies in
a near cache.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.slicing import merged
from graphgrad.compiler.passes.loops import Carried, Loop, over_loops, renamed
from graphgrad.compiler.types import element_count, tensor_type


def carry_places(graph: Graph) -> Graph:
    """`graph` with loops that carry the places that they touch, instead of the arrays."""
    return over_loops(graph, carried_alone)


def carried_alone(loop: Loop) -> bool:
    """Carry the one place of an array that each step reads and writes."""
    changed = forwarded(loop)
    if not loop.runs:  # a place out of range would be an error that no step makes
        return changed
    found = [(c, place) for c in loop.carried if (place := place_of(loop, c)) is not None]
    for c, place in found:
        carry(loop, c, place)
    return bool(found) or changed


def forwarded(loop: Loop) -> bool:
    """What was just written is not read, and not written over."""
    makers = {v: node for node in loop.nodes for v in node.outputs}
    replaced: dict[Value, Value] = {}
    nodes = []
    for old in loop.nodes:
        (node,) = renamed([old], replaced)
        place = block_of(node)
        while place is not None:
            before = makers.get(node.inputs[0])
            last = block_of(before) if before is not None else None
            if before is None or before.op.name != "update_slice" or last is None:
                break
            if not place.is_at(last):
                break
            if node.op.name != "update_slice":
                replaced[node.out] = before.inputs[1]
                break
            inputs = (before.inputs[0], *node.inputs[1:])
            node = Node(node.op, inputs, node.attrs, node.outputs, node.where)
        makers.update((v, node) for v in node.outputs)
        if not node.outputs or node.out not in replaced:
            nodes.append(node)
    changed = any(a is not b for a, b in zip(nodes, loop.nodes, strict=False))
    loop.nodes = nodes
    loop.rename(replaced)
    return changed or bool(replaced)


def block_of(node: Node) -> Place | None:
    """The place that a node reads or writes of its first input."""
    if node.op.name not in ("slice", "dynamic_slice", "update_slice"):
        return None
    _, *rest = node.inputs
    sizes = rest.pop(0).type.shape if node.op.name == "update_slice" else node.attrs["sizes"]
    return Place(merged(node.attrs["starts"], rest), tuple(sizes), tuple(node.attrs["steps"]))


@dataclass(eq=False)
class Place:
    """A block of an array."""

    starts: tuple[Any, ...]  # ints or values
    sizes: tuple[Extent, ...]
    steps: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)  # that read or write, in order

    def is_at(self, other: Place) -> bool:
        same = (self.sizes, self.steps) == (other.sizes, other.steps)
        return same and all(
            a is b or (isinstance(a, int) and isinstance(b, int) and a == b)
            for a, b in zip(self.starts, other.starts, strict=True)
        )


def place_of(loop: Loop, c: Carried) -> Place | None:
    """The only place of a part of the state that steps touch, if there is one."""
    returned = Counter(x.next for x in loop.carried)
    returned.update(s.value for s in loop.stacked)
    found: Place | None = None
    v = c.param
    while True:
        following = None
        for node in (n for n in loop.nodes if any(x is v for x in n.inputs)):
            place = touched(loop, node, v)
            if place is None or not (found is None or place.is_at(found)):
                return None
            found = found or place
            found.nodes.append(node)
            if node.op.name == "update_slice":
                if following is not None:
                    return None
                following = node.out
        if following is None:
            break
        if returned[v]:
            return None
        v = following
    is_end = v is c.next and v is not c.param and returned[v] == 1
    return found if is_end and found is not None and is_less(found, c.param) else None


def is_less(place: Place, array: Value) -> bool:
    """Is a place surely a part of an array only?"""
    part, whole = (element_count(s) for s in (place.sizes, array.type.shape))
    return isinstance(part, int) and (not isinstance(whole, int) or part < whole)


def touched(loop: Loop, node: Node, v: Value) -> Place | None:
    """The place of `v` that a node reads or writes, if it is the same in each step."""
    place = block_of(node)
    if place is None or sum(x is v for x in node.inputs) > 1 or node.inputs[0] is not v:
        return None
    captures = {c.param for c in loop.captures}
    same = all(s in captures for s in place.starts if isinstance(s, Value))
    return place if same and all(step > 0 for step in place.steps) else None


def carry(loop: Loop, c: Carried, place: Place) -> None:
    """Put the place into the state, and the array around the loop."""
    outside = {x.param: x.value for x in loop.captures}
    starts = [outside[s] if isinstance(s, Value) else s for s in place.starts]
    t = tensor_type(place.sizes, c.param.type.dtype)
    param, result = Value(t, None, c.param.where), Value(t, None, c.result.where)
    with loop.outside(before=True):
        init = ops["dynamic_slice"](c.init, starts, place.sizes, place.steps)
    now = {c.param: param}  # what stands at the place, by the version of the array
    replaced: dict[Value, Value] = {}
    for node in place.nodes:
        if node.op.name == "update_slice":
            u = node.inputs[1]
            now[node.out] = replaced.get(u, u)
        else:
            replaced[node.out] = now[node.inputs[0]]
    array, result_of_array = c.init, c.result
    c.init, c.param, c.next, c.result = init, param, now[c.next], result
    gone = set(place.nodes)
    loop.nodes = [node for node in loop.nodes if node not in gone]
    loop.rename(replaced)
    with loop.outside(before=False):
        loop.replaced[result_of_array] = ops["update_slice"](array, result, starts, place.steps)
