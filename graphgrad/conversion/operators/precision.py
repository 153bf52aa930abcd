"""Python floats that a loop carries, where they meet float64: they are float64 then, as in Python.

A step size or a temperature that changes in a loop is a tensor there, float32 unless something says
otherwise. What it meets does: beside float64 data it would lose half of its digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphgrad.compiler.dtypes import float32, float64
from graphgrad.compiler.ir import Graph, Node, Value

Numbers = frozenset[int]
NONE: Numbers = frozenset()


def meeting_float64(
    nodes: Iterable[Node], numbers: Mapping[Value, int], leaving: Mapping[int, Value]
) -> set[int]:
    """Which of some float32 `numbers` meet float64 values, and no float32 ones.

    `leaving` values take the place of the numbers.
    """
    meetings = Meetings()
    known = {x: frozenset((k,)) for x, k in numbers.items()}
    meetings.walk(nodes, known)
    firm = {k for k, x in leaving.items() if x.dtype is float32 and x not in known}
    return meetings.wide - meetings.narrow - firm


class Meetings:
    """What is met by numbers, and by what is computed of them alone."""

    def __init__(self) -> None:
        self.wide: set[int] = set()
        self.narrow: set[int] = set()

    def walk(self, nodes: Iterable[Node], known: dict[Value, Numbers]) -> None:
        """Find what is made of `known` values alone, and note what else they meet."""
        for node in nodes:
            graphs = [g for g in node.attrs.values() if isinstance(g, Graph)]
            if graphs:
                self.control(node, graphs, known)
                continue
            narrow = [x for x in node.inputs if x.dtype is float32]
            numbers = NONE.union(*(known.get(x, NONE) for x in narrow))
            if all(x in known for x in narrow) and (narrow or node.op.name == "constant"):
                known.update((y, numbers) for y in node.outputs)
                if any(y.dtype is float64 for y in node.outputs):
                    self.wide |= numbers
            else:
                self.narrow |= numbers

    def control(self, node: Node, graphs: Sequence[Graph], known: dict[Value, Numbers]) -> None:
        """The same in sub-graphs, whose parameters are the last inputs of their node."""
        ways = []
        for graph in graphs:
            inputs = node.inputs[len(node.inputs) - len(graph.params) :]
            if len(inputs) < len(graph.params):
                self.narrow.update(*(known.get(x, NONE) for x in node.inputs))
                return
            inner = {p: known[x] for p, x in zip(graph.params, inputs, strict=True) if x in known}
            self.walk(graph.nodes, inner)
            ways.append([inner.get(y) for y in graph.outputs])
        for k, y in enumerate(node.outputs):
            found = [way[k] for way in ways if k < len(way)]
            if y.dtype is float32 and found and None not in found:
                known[y] = NONE.union(*(numbers or NONE for numbers in found))
