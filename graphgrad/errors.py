"""gg.errors: what graphgrad raises. Each class is also the built-in one that users expect."""

from graphgrad.compiler.errors import (
    ArgumentError,
    AssertionFailed,
    DivisionByZero,
    DTypeError,
    GraphgradError,
    IndexOutOfRange,
    InvalidArgumentError,
    LeakedTensorError,
    NotFinite,
    ShapeError,
    TraceError,
)
from graphgrad.function import SideEffectWarning

__all__ = [
    "ArgumentError", "AssertionFailed", "DTypeError", "DivisionByZero", "GraphgradError",
    "IndexOutOfRange", "InvalidArgumentError", "LeakedTensorError", "NotFinite", "ShapeError",
    "SideEffectWarning", "TraceError",
]  # fmt: skip
