"""What the last step wrote is carried, not read again.

    scan(y[i] = y[i - 1] + x_i)     becomes     scan(s = s + x_i; y[i] = s)

A value that goes through memory from step to step is waited for longer than one in a register.
"""

from __future__ import annotations

from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.op import ops
from graphgrad.compiler.passes.loops import Carried, Loop, over_loops
from graphgrad.compiler.passes.loops_indexed import Line, lines
from graphgrad.compiler.passes.loops_places import Place, block_of
from graphgrad.compiler.types import element_count, tensor_type

FEW = 16  # elements that are carried in registers


def carry_last(graph: Graph) -> Graph:
    """`graph` with loops that carry what their next step reads."""
    return over_loops(graph, carried_on)


def carried_on(loop: Loop) -> bool:
    """Carry what each step writes, and the next one reads."""
    if not loop.runs:
        return False
    known = {v: line for v, line in lines(loop).items() if isinstance(line, Line)}
    makers = {v: node for node in loop.nodes for v in node.outputs}
    found = []
    for c in loop.carried:
        write = makers.get(c.next)
        if write is None or write.op.name != "update_slice" or write.inputs[0] is not c.param:
            continue
        for node in loop.nodes:
            if node.op.name == "dynamic_slice" and node.inputs[0] is c.param:
                first = first_read(loop, write, node, known)
                if first is not None:
                    found.append((c.init, write, node, first))
    for array, write, node, first in found:
        carry(loop, array, write, node, first)
    return bool(found)


def first_read(
    loop: Loop, write: Node, read: Node, known: dict[Value, Line]
) -> list[Value | int] | None:
    """Where the first step reads, if all others read what the step before them wrote."""
    here, there = block_of(write), block_of(read)
    if here is None or there is None or not is_few(here):
        return None
    if (here.sizes, here.steps) != (there.sizes, there.steps):
        return None
    outside = {c.param: c.value for c in loop.captures}
    first: list[Value | int] = []
    moving = 0
    for a, b in zip(here.starts, there.starts, strict=True):
        if isinstance(a, int) and isinstance(b, int) and a == b:
            first.append(a)
        elif isinstance(a, Value) and a is b and a in outside:
            first.append(outside[a])
        elif isinstance(a, Value) and isinstance(b, Value) and a in known and b in known:
            start = started(loop, known[a], known[b])
            if start is None:
                return None
            moving += 1
            first.append(start)
        else:
            return None
    return first if moving == 1 else None


def is_few(place: Place) -> bool:
    """Has a place few elements?"""
    count = element_count(place.sizes)
    return isinstance(count, int) and count <= FEW


def started(loop: Loop, written: Line, read: Line) -> int | None:
    """Where the first step reads on a line that lies one step behind another one."""
    backwards: bool = loop.attrs["reverse"]
    behind = written.step if backwards else -written.step
    if not written.step or read.step != written.step or read.start != written.start + behind:
        return None
    last = loop.length - 1
    return read.start + read.step * (last if backwards else 0)


def carry(
    loop: Loop, array: Value, write: Node, read: Node, first: list[Value | int]
) -> None:  # fmt: skip
    """Put what is written into the state, in the place of what is read."""
    attrs = read.attrs
    with loop.outside(before=True):
        init = ops["dynamic_slice"](array, first, attrs["sizes"], attrs["steps"])
    t = tensor_type(attrs["sizes"], read.out.type.dtype)
    param, result = (Value(t, None, read.where) for _ in range(2))
    loop.carried.append(Carried(param, init, write.inputs[1], result, None))
    loop.nodes = [node for node in loop.nodes if node is not read]
    loop.rename({read.out: param})
