"""Which values cost more to compute again than to keep."""

from __future__ import annotations

from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.ir import Node
from graphgrad.compiler.types import element_count

# Elements that cost more than this, in cheap instructions, are priced: at about 0.3 ns an element
# (a transcendental function) against 0.8 to store and load it.
DEAR_ELEMENT = 16.0
FEW = 16  # elements of a value: its function is computed for each alone, which takes 5 ns and more


def is_dear(node: Node) -> bool:
    """Has the node dear elements?"""
    # Imported here: the scalar functions take a seventh of the time to import graphgrad, and only
    # calls under a tape need them.
    from graphgrad.compiler.scalar.costs import element_cost

    return isinstance(node.op, Elementwise) and element_cost(node) > DEAR_ELEMENT


def are_few_and_dear(node: Node) -> bool:
    """Is the node a function of few numbers, which costs more than memory?"""
    if not isinstance(node.op, Elementwise) or node.op.raises or node.is_complex:
        return False
    count = element_count(node.out.type.shape)
    few = isinstance(count, int) and count <= FEW
    return few and node.out.dtype.is_floating and is_dear(node)
