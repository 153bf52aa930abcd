"""gg.errors: what graphgrad raises. Each class is also the built-in one that users expect."""

from graphgrad.compiler.errors import (
    ArgumentError,
    DivisionByZero,
    DTypeError,
    GraphgradError,
    IndexOutOfRange,
    LeakedTensorError,
    ShapeError,
    TraceError,
)
from graphgrad.function import SideEffectWarning

__all__ = [
    "ArgumentError", "DTypeError", "DivisionByZero", "GraphgradError", "IndexOutOfRange",
    "LeakedTensorError", "ShapeError", "SideEffectWarning", "TraceError",
]  # fmt: skip
