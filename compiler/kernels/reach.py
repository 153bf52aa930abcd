"""Which units of a growing graph need which, however many lie between: answered at once.

The transitive closure is kept as the graph grows. A set of units is an integer with a bit for each,
so a step of the closure is one `|`. That takes a few bits for each pair of units: 20 MB for 10,000.
"""

from __future__ import annotations

from collections.abc import Iterable


class Reach:
    """Numbered units, what they read, and what follows from that. There must be no cycles.

    >>> reach = Reach()
    >>> a, b, c = reach.add(), reach.add(), reach.add()
    >>> reach.read(b, [a])
    >>> reach.read(c, [b])
    >>> reach.needs(c, a), reach.needs_beyond(c, a), reach.needs_beyond(b, a)
    (True, True, False)
    """

    def __init__(self) -> None:
        self._bits: list[int] = []  # the unit's own, and those of the units it has taken in
        self._direct: list[int] = []  # what it reads
        self._beyond: list[int] = []  # what those that it reads need
        self._sources: list[set[int]] = []
        self._readers: list[set[int]] = []

    def add(self) -> int:
        """The number of a new unit, which reads nothing yet."""
        number = len(self._bits)
        self._bits.append(1 << number)
        self._direct.append(0)
        self._beyond.append(0)
        self._sources.append(set())
        self._readers.append(set())
        return number

    def read(self, unit: int, sources: Iterable[int]) -> None:
        """`unit` reads `sources`, too."""
        known = self._sources[unit]
        new = [s for s in sources if s not in known]
        if not new:
            return
        known.update(new)
        for s in new:
            self._direct[unit] |= self._bits[s]
            self._beyond[unit] |= self._direct[s] | self._beyond[s]
            self._readers[s].add(unit)
        self._spread(unit)

    def merge(self, a: int, b: int) -> None:
        """`b` becomes a part of `a`, and is no unit any more. Neither may need the other through a
        third."""
        for links, back in ((self._sources, self._readers), (self._readers, self._sources)):
            links[a].discard(b)
            for other in links[b] - {a}:
                back[other].remove(b)
                back[other].add(a)
                links[a].add(other)
        self._bits[a] |= self._bits[b]
        self._direct[a] = (self._direct[a] | self._direct[b]) & ~self._bits[a]
        self._beyond[a] = self._beyond_sources(a)
        for r in self._readers[a]:
            if self._beyond[r] & self._bits[a]:  # maybe only through what is one with `a` now
                self._beyond[r] = self._beyond_sources(r)
        self._spread(a)

    def needs(self, unit: int, other: int) -> bool:
        """Does `unit` need `other`?"""
        return bool((self._direct[unit] | self._beyond[unit]) & self._bits[other])

    def needs_beyond(self, unit: int, other: int) -> bool:
        """Does `unit` need `other` through a third?"""
        return bool(self._beyond[unit] & self._bits[other])

    def _beyond_sources(self, unit: int) -> int:
        beyond = 0
        for s in self._sources[unit]:
            beyond |= self._direct[s] | self._beyond[s]
        return beyond

    def _spread(self, unit: int) -> None:
        """Tell the readers of `unit`, and theirs, what it needs."""
        todo = [unit]
        while todo:
            unit = todo.pop()
            needs = self._direct[unit] | self._beyond[unit]
            for r in self._readers[unit]:
                beyond = self._beyond[r] | needs
                if beyond != self._beyond[r]:
                    self._beyond[r] = beyond
                    todo.append(r)
