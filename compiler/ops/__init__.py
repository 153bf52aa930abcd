"""All ops: importing this package fills the registry.

`FUNCTIONS` are the user-facing functions that are made of ops: their TensorFlow names, and what
they call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.compiler.op import Op
from graphgrad.compiler.op import ops as registry
from graphgrad.compiler.ops import (
    compare,
    composite,
    control,
    core,
    diagonals,
    elementwise,
    index,
    index_tuples,
    indexing,
    join,
    linalg,
    math,
    padding,
    partition,
    random,
    reduce,
    runtime_sizes,
    scan,
    scatter,
    search,
    segment,
    slicing,
    trigonometric,
    view,
    while_loop,
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "expand_dims": view.expand_dims,
    "range": index.range_,
    "reverse": view.reverse,
    "squeeze": view.squeeze,
    "stack": join.stack,
    "strided_slice": indexing.strided_slice,
    "unstack": join.unstack,
    **diagonals.FUNCTIONS,
    **padding.FUNCTIONS,
    **partition.FUNCTIONS,
    **runtime_sizes.FUNCTIONS,
    **search.FUNCTIONS,
    **segment.FUNCTIONS,
}

# The ops whose records are part of the compiler, in contrast to those that a user adds.
BUILT_IN: frozenset[Op] = frozenset(registry.values())

__all__ = [
    "BUILT_IN",
    "FUNCTIONS",
    "compare",
    "composite",
    "control",
    "core",
    "diagonals",
    "elementwise",
    "index",
    "index_tuples",
    "indexing",
    "join",
    "linalg",
    "math",
    "padding",
    "partition",
    "random",
    "reduce",
    "runtime_sizes",
    "scan",
    "scatter",
    "search",
    "segment",
    "slicing",
    "trigonometric",
    "view",
    "while_loop",
]
