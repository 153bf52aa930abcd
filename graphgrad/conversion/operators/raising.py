"""`raise` under a condition that is a tensor: it happens when the function runs and comes there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.callbacks import insert
from graphgrad.conversion.operators.subtrace import branch_depth


def raises_later(error: Callable[[], Any]) -> bool:
    """Is the branch one of the graph? Then `error()` is raised whenever a run takes it."""
    if not branch_depth():
        return False
    made = error()
    if isinstance(made, type):
        made = made()

    def fail() -> tuple[()]:
        raise made.with_traceback(None)

    insert(fail, f"raise {type(made).__name__}", [])
    return True
