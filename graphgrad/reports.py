"""What a function says about its traces: why they were made, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphgrad.compiler.errors import ArgumentError
from graphgrad.signature import leaf_key, show_leaf

if TYPE_CHECKING:
    from graphgrad.concrete import ConcreteFunction


class TraceTable:
    """The traces of a function. Prints as a table; iterates over the traces."""

    def __init__(self, name: str, traces: list[ConcreteFunction]) -> None:
        self.name = name
        self.traces = traces

    def __len__(self) -> int:
        return len(self.traces)

    def __iter__(self) -> Any:
        return iter(self.traces)

    def __getitem__(self, i: int) -> ConcreteFunction:
        return self.traces[i]

    def __str__(self) -> str:
        lines = [f"{self.name}: {len(self.traces)} trace{'' if len(self.traces) == 1 else 's'}"]
        for i, t in enumerate(self.traces):
            place = t.where.short() if t.where is not None else "?"
            lines.append(
                f"  {i}: ({t.signature_text}) at {place}, {t.count} calls, "
                f"traced in {t.seconds:.3f} s"
            )
            if t.difference:
                lines.append(f"     differs in {t.difference}")
        return "\n".join(lines)

    __repr__ = __str__


def difference(
    trace: ConcreteFunction, labels: list[str], new: list[str], old_labels: list[str]
) -> str:
    """How a call differs from what `trace` was made for."""
    if labels != old_labels:
        return "the structure of the arguments"
    old = [show_leaf(leaf_key(x)) for x in trace.arguments.leaves]
    parts = [f"{label}: {a} -> {b}" for label, a, b in zip(labels, old, new) if a != b]
    changed = [f"the Python value `{g.label}` (read in {g.line})" for g in trace.guards.changed()]
    failed = (
        [f"the condition {g} on sizes" for g in trace.sizes.guards]
        if not parts and not changed
        else []
    )
    return "; ".join(parts + changed + failed)


def stage_text(trace: ConcreteFunction, stage: str) -> str:
    """The IR before or after the passes."""
    if stage == "before":
        return str(trace.graph)
    if stage == "after":
        from graphgrad.compiler.pipeline import optimise  # of use to compilers only: not at start

        return str(optimise(trace.graph)[0])
    raise ArgumentError(f'ir: stage is "before" or "after", not {stage!r}')
