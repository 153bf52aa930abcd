"""Views cost nothing: who reads one reads the value behind it, at other indices.

Some views need memory all the same (they are *opaque*): those that nodes without a loop form read,
that the graph returns, or whose indices are no longer affine.
"""

from __future__ import annotations

from graphgrad.compiler.ir import Graph, Value
from graphgrad.compiler.kernels.groups import gather_axes, is_fusible, is_gather, is_inline, is_view
from graphgrad.compiler.kernels.index_maps import Index, Indices, identity, through_view


class Views:
    """The views of one graph, and what lies behind them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers
        self.opaque: set[Value] = set()  # views that no consumer can look through
        self.find_opaque_views()
        self.found_behind: dict[Value, Value] = {}

    def source(self, value: Value, indices: Indices) -> tuple[Value, Indices]:
        """The value behind transparent views, and the indices at which it is read."""
        node = self.producers.get(value)
        while node is not None and is_view(node) and value not in self.opaque:
            found = through_view(node, indices)
            assert found is not None
            value, indices = node.inputs[0], found
            node = self.producers.get(value)
        return value, indices

    def find_opaque_views(self) -> None:
        """Mark the views that need memory: those read by nodes without a loop form, returned, or
        behind a reshape that splits an axis."""
        for node in self.graph.nodes:
            looped = is_fusible(node) or is_view(node)
            for i, x in enumerate(node.inputs):
                if (not looped or (i == 0 and is_gather(node))) and not self.is_alias(x):
                    self.mark_opaque(x)
                elif is_gather(node):
                    if i == 1:
                        self.check_chain(x, gather_axes(node, identity(node.out.type.shape))[0])
                elif is_fusible(node):
                    self.check_chain(x)
        claimed = {v: v for v in self.graph.outputs if self.memory_of(v) is v}
        for v in self.graph.outputs:
            memory = self.memory_of(v)
            owner = self.producers.get(memory)
            computed = (
                owner is not None
                and is_fusible(owner)
                and claimed.setdefault(memory, v).type == v.type
            )
            reshaped = v is not memory and not computed  # its memory has another shape
            if reshaped or not self.is_alias(v):
                self.mark_opaque(v)

    def mark_opaque(self, value: Value) -> None:
        """Give a view (or a constant) memory of its own."""
        node = self.producers.get(value)
        if node is not None and (is_view(node) or is_inline(node)):
            self.opaque.add(value)
            if is_view(node):
                self.check_chain(node.inputs[0], through_view(node, identity(node.out.type.shape)))

    def is_alias(self, value: Value) -> bool:
        """Is `value` a reshape of something that has memory anyway (no copy needed)?"""
        node = self.producers.get(value)
        while node is not None and node.op.name == "reshape" and is_view(node):
            value = node.inputs[0]
            node = self.producers.get(value)
        return node is None or not (is_view(node) or is_inline(node))

    def check_chain(self, value: Value, indices: Indices | None = None) -> None:
        """Walk the views behind `value`; one whose indices stop being affine needs memory."""
        indices = identity(value.type.shape) if indices is None else indices
        node = self.producers.get(value)
        while node is not None and is_view(node) and value not in self.opaque:
            found = through_view(node, indices)
            if found is None:
                self.mark_opaque(value)
                return
            value, indices = node.inputs[0], found
            node = self.producers.get(value)
        if (
            isinstance(indices, Index)
            and node is not None
            and is_inline(node)
            and node.op.name != "constant"
        ):
            self.opaque.add(value)

    def behind(self, value: Value) -> Value:
        """The value behind transparent views."""
        found = self.found_behind.get(value)
        if found is None:
            found = value
            node = self.producers.get(found)
            while node is not None and is_view(node) and found not in self.opaque:
                found = node.inputs[0]
                node = self.producers.get(found)
            self.found_behind[value] = found
        return found

    def memory_of(self, value: Value) -> Value:
        """The value whose memory holds `value`: behind reshapes."""
        node = self.producers.get(value)
        while (
            node is not None
            and node.op.name == "reshape"
            and is_view(node)
            and value not in self.opaque
        ):
            value = node.inputs[0]
            node = self.producers.get(value)
        return value
