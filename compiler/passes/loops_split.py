"""Products of a scan fall into the part that needs the state and the part that does not.

    concat([x_t, h]) @ w     becomes     x_t @ w[:n] + h @ w[n:]

The product with `x_t` can then be computed for all steps at once. The reverse of such a product is
cut up again, [dx, dh] = dz @ w.T: each part by itself is a product with a part of `w`, one of which
nobody may read, or only later.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.op import ops, reapply
from graphgrad.compiler.passes.loops import Loop, Outside, over_loops
from graphgrad.compiler.passes.loops_batch import independent, unchanging
from graphgrad.compiler.passes.loops_unused import needed
from graphgrad.compiler.passes.rewrite import building
from graphgrad.compiler.transform.autodiff import at


def split_products(graph: Graph) -> Graph:
    """`graph` with products in its scans split by what depends on the state."""
    return over_loops(over_loops(graph, split_operands), split_results)


def is_fixed_product(node: Node, same: set[Value]) -> bool:
    """Is a node a product of a matrix with one that is the same in every step?"""
    if node.op.name != "matmul" or node.attrs["transpose_a"]:
        return False
    a, b = node.inputs
    return a.type.ndim == b.type.ndim == 2 and b in same and a not in same


def part_of(b: Value, node: Node, axis: int, start: Extent, size: Extent) -> Value:
    """Rows or columns of the right side of a product, as its flag says which are which."""
    axis = 1 - axis if node.attrs["transpose_b"] else axis
    starts: list[Extent] = [0, 0]
    sizes = list(b.type.shape)
    starts[axis], sizes[axis] = start, size
    part: Value = ops["slice"](b, tuple(starts), tuple(sizes))
    return part


def put_in_place(loop: Loop, new: dict[Node, tuple[Outside, Value]]) -> None:
    """Nodes of the body in the place of others, and a value for the result of each."""
    nodes: list[Node] = []
    for node in loop.nodes:
        nodes += new[node][0].nodes if node in new else [node]
    loop.nodes = nodes
    loop.rename({node.out: value for node, (_, value) in new.items()})


def split_operands(loop: Loop) -> bool:
    """Split products whose left side is in part independent of the state."""
    if not loop.is_scan:
        return False
    same = unchanging(loop)
    ready = {v for n in independent(loop) for v in n.outputs} | {x.param for x in loop.scanned}
    makers = {v: node for node in loop.nodes for v in node.outputs}
    new: dict[Node, tuple[Outside, Value]] = {}
    for node in loop.nodes:
        joined = makers.get(node.inputs[0]) if is_fixed_product(node, same) else None
        if joined is None or joined.op.name != "concat" or joined.attrs["axis"] != 1:
            continue
        runs = [[*run] for _, run in groupby(joined.inputs, lambda x: x in ready)]
        if len(runs) < 2:
            continue
        builder, start, terms = Outside(), 0, []
        with building(builder), at(node.where):
            for run in runs:
                left = run[0] if len(run) == 1 else ops["concat"](run, 1)
                right = part_of(node.inputs[1], node, 0, start, left.type.shape[1])
                terms.append(reapply(node.op, (left, right), node.attrs)[0])
                start += left.type.shape[1]
            total = terms[0]
            for term in terms[1:]:
                total = ops["add"](total, term)
        new[node] = builder, total
    put_in_place(loop, new)
    return bool(new)


def split_results(loop: Loop) -> bool:
    """Split products of which parts are read one by one, if not all, or not all in the loop."""
    same = unchanging(loop)
    reads = Counter(x for node in loop.nodes for x in node.inputs)
    reads.update(c.next for c in loop.carried)
    reads.update(s.value for s in loop.stacked)
    early = needed(loop.nodes, [c.next for c in loop.carried])
    new: dict[Node, tuple[Outside, Value]] = {}
    for node in loop.nodes:
        if not is_fixed_product(node, same):
            continue
        parts = [n for n in loop.nodes if is_columns(n) and n.inputs[0] is node.out]
        if not parts or reads[node.out] != len(parts):
            continue
        width = sum(n.out.type.shape[1] for n in parts)
        late = loop.is_scan and any(n.out not in early for n in parts)
        if width == node.out.type.shape[1] and (not late or len(parts) == 1):
            continue
        for n in parts:
            builder = Outside()
            with building(builder), at(node.where):
                start, size = n.attrs["starts"][1], n.attrs["sizes"][1]
                right = part_of(node.inputs[1], node, 1, start, size)
                value = reapply(node.op, (node.inputs[0], right), node.attrs)[0]
            new[n] = builder, value
    put_in_place(loop, new)
    return bool(new)


def is_columns(node: Node) -> bool:
    """Is a node a block of the columns of its input?"""
    if node.op.name != "slice" or node.inputs[0].type.ndim != 2:
        return False
    sizes, whole = node.attrs["sizes"], node.inputs[0].type.shape
    return (
        all(step == 1 for step in node.attrs["steps"])
        and sizes[0] == whole[0]
        and isinstance(sizes[1], int)
        and isinstance(whole[1], int)
    )
