"""Loops that count up to a number known while compiling are scans: their stacks have a known size.

    while i < 10: x, i = f(x), i + 1     becomes     scan(f, length=10)

With the count known, the reverse needs no flags, and nothing is a size that only the run finds out.
"""

from __future__ import annotations

import numpy as np

from graphgrad.compiler.dims import Extent, Symbol, is_runtime_size, symbols_of
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.passes.dce import dce
from graphgrad.compiler.passes.loops import Carried, Loop, over_loops
from graphgrad.compiler.transform.sizes import specialise

MIRRORED = {
    "less": "greater",
    "less_equal": "greater_equal",
    "greater": "less",
    "greater_equal": "less_equal",
    "not_equal": "not_equal",
}


def count_steps(graph: Graph) -> Graph:
    """`graph` with scans in the place of loops whose number of steps is known."""
    sizes: dict[Symbol, Extent] = {}
    counted = over_loops(graph, lambda loop: to_scan(loop, sizes))
    return over_loops(specialise(counted, sizes), without_mask)


def to_scan(loop: Loop, sizes: dict[Symbol, Extent]) -> bool:
    """Make a scan of a while_loop, if its steps can be counted; `sizes` gets what it finds out."""
    if loop.condition is None:
        return False
    trips = loop.attrs["trips"]
    length = number_of_steps(loop)
    if length is None or not (trips is None or is_runtime_size(trips)):
        return False
    if trips is not None:
        (symbol,) = symbols_of(trips)
        sizes[symbol] = length
        with loop.outside(before=False) as builder:
            true = builder.literal(np.asarray(True)).broadcast_to((length,))
        loop.replaced[loop.node.outputs[-1]] = true
    loop.condition = None
    for part in loop.carried:
        part.test = None
    for capture in loop.captures:
        capture.test = None
    loop.attrs = {
        "body_graph": loop.attrs["body_graph"], "length": length, "reverse": False,
        "varying": (), "padded": (),
    }  # fmt: skip
    return True


def number_of_steps(loop: Loop) -> int | None:
    """How many steps a while_loop makes, if its condition compares a counter with a constant."""
    assert loop.condition is not None
    nodes = {v: node for node in dce(loop.condition).nodes for v in node.outputs}
    test = nodes.get(loop.condition.outputs[0])
    if test is None or test.op.name not in MIRRORED:
        return None
    known = {c.test: c.value for c in loop.captures if c.test is not None}
    (a, b), name = test.inputs, test.op.name
    counter = next((c for c in loop.carried if c.test is a or c.test is b), None)
    if counter is None or not counter.param.type.dtype.is_integer:
        return None
    if counter.test is b:
        a, b, name = b, a, MIRRORED[name]
    start = constant(loop.graph.producers, {}, counter.init, loop)
    step, limit = step_of(loop, counter), constant(nodes, known, b, loop)
    if start is None or step is None or limit is None:
        return None
    count = steps_until(name, start, step, limit)
    most = loop.attrs["maximum_iterations"]
    if count is not None and most is not None:
        count = min(count, most)
    dtype = counter.param.type.dtype
    if count is None or not dtype.min <= start + count * step <= dtype.max:
        return None
    return count


def steps_until(comparison: str, start: int, step: int, limit: int) -> int | None:
    """How often `start`, `start + step`, ... passes the comparison with `limit`; None: for ever."""
    if comparison == "not_equal":
        count, rest = divmod(limit - start, step)
        return count if rest == 0 <= count else None
    if comparison.startswith("greater"):
        start, step, limit = -start, -step, -limit
    if comparison.endswith("equal"):
        limit += 1
    if start >= limit:
        return 0
    return -((start - limit) // step) if step > 0 else None


def step_of(loop: Loop, counter: Carried) -> int | None:
    """What a step adds to the counter, other than 0."""
    nodes = {v: node for node in loop.nodes for v in node.outputs}
    node = nodes.get(counter.next)
    if node is None or node.op.name not in ("add", "sub"):
        return None
    known = {c.param: c.value for c in loop.captures}
    a, b = node.inputs
    if b is counter.param and node.op.name == "add":
        a, b = b, a
    if a is not counter.param:
        return None
    step = constant(nodes, known, b, loop)
    return (-step if node.op.name == "sub" else step) or None if step is not None else None


def constant(
    nodes: dict[Value, Node], captured: dict[Value, Value], v: Value, loop: Loop
) -> int | None:
    """The integer that a value is known to be."""
    node = nodes.get(v)
    if v in captured:
        node = loop.producer(captured[v])
    if node is None or node.op.name != "constant" or not node.attrs["value"].is_scalar:
        return None
    return int(node.attrs["value"].array)


def without_mask(loop: Loop) -> bool:
    """A scan whose flags are all true needs none."""
    node = loop.producer(loop.flags) if loop.flags is not None else None
    if node is None:
        return False
    if node.op.name == "while_loop":  # a stack of as many steps as were made
        every = is_runtime_size(node.attrs["trips"]) and loop.flags is node.outputs[-1]
    else:
        while node is not None and node.op.name == "broadcast_to":
            node = loop.producer(node.inputs[0])
        every = node is not None and node.op.name == "constant" and node.attrs["value"].array.all()
    if every:
        loop.flags = None
    return bool(every)
