"""Minimum cuts: Dinic's algorithm, iterative, on lists of numbers."""

from __future__ import annotations


class Network:
    """A flow network that is built edge by edge, with one source and one sink."""

    def __init__(self) -> None:
        self.edges_at: list[list[int]] = [[], []]
        self.heads: list[int] = []  # edge e leads to heads[e]; e ^ 1 is its reverse
        self.room: list[float] = []  # what edge e can still carry
        self.source, self.sink = 0, 1

    def node(self) -> int:
        """A new node."""
        self.edges_at.append([])
        return len(self.edges_at) - 1

    def edge(self, tail: int, head: int, capacity: float) -> None:
        """A new edge."""
        for at, to, room in ((tail, head, capacity), (head, tail, 0.0)):
            self.edges_at[at].append(len(self.heads))
            self.heads.append(to)
            self.room.append(room)

    def sink_side(self) -> set[int]:
        """Saturate, and return the nodes from which the sink can still be reached: the smallest
        sink side of all minimum cuts."""
        while True:
            distance = self._distances()
            if self.source not in distance:
                return set(distance)
            self._block(distance)

    def _distances(self) -> dict[int, int]:
        """How far the sink is along edges with room."""
        distance, frontier = {self.sink: 0}, [self.sink]
        while frontier:
            reached = []
            for head in frontier:
                for e in self.edges_at[head]:
                    tail = self.heads[e]
                    if tail not in distance and self.room[e ^ 1] > 0:
                        distance[tail] = distance[head] + 1
                        reached.append(tail)
            frontier = reached
        return distance

    def _block(self, distance: dict[int, int]) -> None:
        """Push along shortest paths until each has a full edge."""
        position = dict.fromkeys(distance, 0)  # the edge of each node that is being tried
        path: list[int] = []
        node = self.source
        while True:
            if node == self.sink:
                node = self._push(path)
            edges, i, closer = self.edges_at[node], position[node], distance[node] - 1
            while i < len(edges) and (
                self.room[edges[i]] <= 0 or distance.get(self.heads[edges[i]], -1) != closer
            ):
                i += 1
            position[node] = i
            if i < len(edges):
                path.append(edges[i])
                node = self.heads[edges[i]]
            elif path:
                node = self.heads[path.pop() ^ 1]
                position[node] += 1
            else:
                return

    def _push(self, path: list[int]) -> int:
        """Send what the path can carry; it is cut back to before its first full edge, whose tail is
        returned."""
        amount = min(self.room[e] for e in path)
        full = 0
        for i in range(len(path) - 1, -1, -1):
            self.room[path[i]] -= amount
            self.room[path[i] ^ 1] += amount
            if self.room[path[i]] <= 0:
                full = i
        node = self.heads[path[full] ^ 1]
        del path[full:]
        return node
