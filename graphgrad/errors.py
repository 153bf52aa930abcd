"""gg.errors: what graphgrad raises. Each class is also the built-in one that users expect."""

from graphgrad.compiler.errors import (
    ArgumentError,
    DivisionByZero,
    DonatedTensorError,
    DTypeError,
    GraphgradError,
    IndexOutOfRange,
    LeakedTensorError,
    NoValueError,
    ShapeError,
    TraceError,
)
from graphgrad.retracing import RetracingWarning, SideEffectWarning

__all__ = [
    "ArgumentError", "DTypeError", "DivisionByZero", "DonatedTensorError", "GraphgradError",
    "IndexOutOfRange", "LeakedTensorError", "NoValueError", "RetracingWarning", "ShapeError",
    "SideEffectWarning", "TraceError",
]  # fmt: skip
