"""Integers after a check that each is in a range: indices of an axis, and classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import IndexOutOfRange
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Attrs, Op, Samples
from graphgrad.compiler.ops.special import Array

OUT_OF_RANGE = "index {a} is out of range for axis {axis} with size {b}"


def check_range(op: Op, kind: str, x: Array, size: int, attrs: Attrs) -> None:
    """Raise failure `kind` of `op` for the first element that is not in 0..size."""
    outside = (x < 0) | (x >= size)
    if outside.any():
        place = int(np.flatnonzero(outside)[0])
        raise op.failure(kind, attrs, x.flat[place], size, place)


def require_range(s: Any, kind: str, x: Any, size: Extent) -> None:
    """`check_range` of one element, in a kernel."""
    value = s.convert(x, dtypes.int64)
    known = isinstance(size, int)
    limit = s.const(size, dtypes.int64) if known else s.convert(s.size(size), dtypes.int64)
    s.require(s.and_(s.ge(value, 0), s.lt(value, limit)), kind, value, limit)


def _check_index(x: Array, size: int, axis: int, op: str) -> Array:
    check_range(check_index, "index", x, size, {"axis": axis, "op": op})
    return x


def _check_index_scalar(s: Any, x: Any, size: Extent, axis: int, op: str) -> Any:
    require_range(s, "index", x, size)
    return x


check_index = Elementwise(
    name="check_index",
    public="",
    inputs="any",
    bind=lambda x, size, axis, op: ((x,), {"size": size, "axis": axis, "op": op}),
    ref=_check_index,
    scalar=_check_index_scalar,
    nondifferentiable=True,
    failures={"index": (IndexOutOfRange, f"{{op}}: {OUT_OF_RANGE}")},
    samples=Samples(
        cases=lambda rng, dtype: [
            ((rng.integers(0, 9, (2, 3)).astype(dtype),), {"size": 9, "axis": 0, "op": "f"})
        ],
        dtypes=("int32", "int64", "uint8"),
        oracle=lambda x, size, axis, op: x,
        errors=(
            (lambda op: op(np.array([1, -9]), 9, 2, "f"),
             "f: index -9 is out of range for axis 2 with size 9"),
        ),
    ),
    doc="Indices, after a check that each is in the range of its axis.",
)  # fmt: skip


def _check_class(x: Array, size: int, what: str) -> Array:
    check_range(check_class, "class", x, size, {"what": what})
    return x


def _check_class_scalar(s: Any, x: Any, size: Extent, what: str) -> Any:
    require_range(s, "class", x, size)
    return x


check_class = Elementwise(
    name="check_class",
    public="",
    inputs="any",
    bind=lambda x, size, what: ((x,), {"size": size, "what": what}),
    ref=_check_class,
    scalar=_check_class_scalar,
    nondifferentiable=True,
    failures={"class": (IndexOutOfRange, "{what} {a} is out of range for {b} classes")},
    samples=Samples(
        cases=lambda rng, dtype: [
            ((rng.integers(0, 9, (2, 3)).astype(dtype),), {"size": 9, "what": "test: class"})
        ],
        dtypes=("int32", "int64", "uint8"),
        oracle=lambda x, size, what: x,
        errors=(
            (lambda op: op(np.array([1, 9]), 9, "test: class"),
             "test: class 9 is out of range for 9 classes"),
        ),
    ),
    doc="The elements, after a check that each is one of `size` classes.",
)  # fmt: skip
