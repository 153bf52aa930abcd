"""gg.errors: what graphgrad raises. Each class is also the built-in one that users expect."""

from graphgrad.compiler.errors import (
    ArgumentError,
    AssertionFailed,
    DivisionByZero,
    DonatedTensorError,
    DTypeError,
    GraphgradError,
    IndexOutOfRange,
    InvalidArgumentError,
    LeakedTensorError,
    NotFinite,
    NoValueError,
    ResourceExhaustedError,
    ShapeError,
    TraceError,
)
from graphgrad.retracing import RetracingWarning, SideEffectWarning

__all__ = [
    "ArgumentError", "AssertionFailed", "DTypeError", "DivisionByZero", "DonatedTensorError",
    "GraphgradError", "IndexOutOfRange", "InvalidArgumentError", "LeakedTensorError",
    "NoValueError", "NotFinite", "ResourceExhaustedError", "RetracingWarning", "ShapeError",
    "SideEffectWarning", "TraceError",
]  # fmt: skip
