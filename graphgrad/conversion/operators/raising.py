"""`raise` under a condition that is a tensor: it happens when the function runs and comes there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.callbacks import insert_assertion
from graphgrad.compiler.op import current_kind
from graphgrad.conversion.operators.subtrace import branch_depth


def raises_later(error: Callable[[], Any]) -> bool:
    """Is the branch one of the graph? Then `error()` is raised whenever a run takes it."""
    if not branch_depth():
        return False
    made = error()
    if isinstance(made, type):
        made = made()

    def fail(never: Any) -> tuple[()]:
        raise made.with_traceback(None)

    insert_assertion(fail, f"raise {type(made).__name__}", current_kind().lift(False), [])
    return True
