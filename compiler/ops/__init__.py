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
    activations,
    bitwise,
    callback,
    check,
    clipping,
    compare,
    composite,
    control,
    core,
    counting,
    diagonals,
    division,
    elementwise,
    gated,
    index,
    index_tuples,
    indexing,
    join,
    linalg,
    math,
    moments,
    norms,
    padding,
    random,
    ranking,
    reduce,
    rounding,
    running,
    runtime_sizes,
    scan,
    scatter,
    search,
    segment,
    slicing,
    sorting,
    trigonometric,
    view,
    while_loop,
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **counting.FUNCTIONS,
    **norms.FUNCTIONS,
    **ranking.FUNCTIONS,
    "expand_dims": view.expand_dims,
    "range": index.range_,
    "reverse": view.reverse,
    "saturate_cast": clipping.saturate_cast,
    "squeeze": view.squeeze,
    "stack": join.stack,
    "strided_slice": indexing.strided_slice,
    "unstack": join.unstack,
    **diagonals.FUNCTIONS,
    **padding.FUNCTIONS,
    **runtime_sizes.FUNCTIONS,
    **search.FUNCTIONS,
    **segment.FUNCTIONS,
}

# The ops whose records are part of the compiler, in contrast to those that a user adds.
BUILT_IN: frozenset[Op] = frozenset(registry.values())

__all__ = [
    "BUILT_IN",
    "FUNCTIONS",
    "callback",
    "check",
    "activations",
    "bitwise",
    "clipping",
    "compare",
    "composite",
    "control",
    "core",
    "diagonals",
    "counting",
    "division",
    "elementwise",
    "gated",
    "index",
    "index_tuples",
    "indexing",
    "join",
    "linalg",
    "math",
    "padding",
    "moments",
    "norms",
    "random",
    "ranking",
    "reduce",
    "runtime_sizes",
    "running",
    "rounding",
    "scan",
    "scatter",
    "search",
    "segment",
    "slicing",
    "sorting",
    "trigonometric",
    "view",
    "while_loop",
]
