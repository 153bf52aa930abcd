"""Nodes in another order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from heapq import heapify, heappop, heappush

from graphgrad.compiler.ir import Node


class Cycle(Exception):
    """Nodes that wait for each other."""


def sorted_by(nodes: Sequence[Node], before: Mapping[Node, Collection[Node]]) -> list[Node]:
    """The nodes, each behind those that come `before` it; else in the order that they have.

    Raises Cycle where nodes wait for each other.
    """
    number = {node: k for k, node in enumerate(nodes)}
    after: dict[Node, list[Node]] = {}
    for node, earlier in before.items():
        for other in earlier:
            after.setdefault(other, []).append(node)
    waits = {node: len(earlier) for node, earlier in before.items()}
    free = [number[node] for node in nodes if not waits[node]]
    heapify(free)
    result = []
    while free:
        node = nodes[heappop(free)]
        result.append(node)
        for other in after.get(node, ()):
            waits[other] -= 1
            if not waits[other]:
                heappush(free, number[other])
    if len(result) < len(nodes):
        raise Cycle
    return result
