"""Which loops over a Python range may become one loop of the graph: their index counts only."""

from __future__ import annotations

from typing import Any

from graphgrad.conversion.context import Context
from graphgrad.conversion.names import Scope


def may_roll(s: Any, scope: Scope, context: Context) -> bool:
    return False
