"""What was measured: samples by row and framework, and how rows compare."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

OURS = "graphgrad"
TOLERANCE = 0.95  # a peer this close is level: minima differ by as much from run to run


@dataclass
class Figure:
    """The seconds (or bytes) of one row in one column, or why there are none."""

    samples: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def best(self) -> float:
        return min(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def right(self) -> bool:
        """Measured, and what was measured computes what it should."""
        return bool(self.samples) and not self.error


@dataclass
class Row:
    """The figures of one row by framework."""

    key: str
    title: str
    figures: dict[str, Figure]
    bound: str = ""
    traffic: int = 0
    flops: int = 0
    unit: str = "s"  # of the samples: s or B

    def ratio(self, name: str) -> float | None:
        """How many times our minimum another's is, or None if either is missing or wrong."""
        ours, other = self.figures.get(OURS), self.figures.get(name)
        if ours is None or other is None or not (ours.right and other.right):
            return None
        return other.best / ours.best

    def best_peer(self) -> tuple[float, str] | None:
        """The smallest ratio of a peer, and whose it is."""
        ratios = ((self.ratio(name), name) for name in self.figures if name != OURS)
        return min(((r, name) for r, name in ratios if r is not None), default=None)


def geometric_mean(values: Iterable[float]) -> float:
    """
    >>> round(geometric_mean([0.5, 8.0]), 9)
    2.0
    """
    return math.exp(statistics.fmean(map(math.log, values)))


@dataclass
class Results:
    """One run: where, with what, and its rows by section."""

    date: str
    machine: str
    versions: dict[str, str]
    sections: dict[str, list[Row]] = field(default_factory=dict)
    limits: dict[str, dict[str, float]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        results = cls(**json.loads(path.read_text(encoding="utf-8")))
        for name, rows in results.sections.items():
            results.sections[name] = [_row(**r) for r in rows]
        return results


def _row(figures: dict[str, dict[str, object]], **facts: object) -> Row:
    return Row(figures={k: Figure(**f) for k, f in figures.items()}, **facts)
