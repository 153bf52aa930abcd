"""The forms in which `gg.function` calls a Python function: as it is, or converted."""

from __future__ import annotations

from typing import Any

from graphgrad.conversion.scan import assigns_elements, may_need_conversion


def converted(f: Any) -> Any:
    """`f` with its control flow on tensors converted."""
    # Imported here: most functions need no conversion.
    from graphgrad.conversion.convert import convert

    return convert(f)


def to_trace(f: Any) -> Any:
    """What runs while `f` is traced."""
    return converted(f) if may_need_conversion(f) else f


def to_run(f: Any) -> Any:
    """What runs in place of a trace: Python alone does not assign to elements of tensors."""
    return converted(f) if assigns_elements(f) else f
