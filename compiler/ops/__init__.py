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
    counting,
    determinant,
    einsum,
    elementwise,
    factors,
    index,
    indexing,
    join,
    linalg,
    math,
    matrices,
    matrix_functions,
    moments,
    norms,
    random,
    ranking,
    reduce,
    running,
    scan,
    slicing,
    solve,
    sorting,
    spectral,
    trigonometric,
    view,
    while_loop,
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **counting.FUNCTIONS,
    **determinant.FUNCTIONS,
    **einsum.FUNCTIONS,
    **factors.FUNCTIONS,
    **matrices.FUNCTIONS,
    **matrix_functions.FUNCTIONS,
    **norms.FUNCTIONS,
    **ranking.FUNCTIONS,
    **solve.FUNCTIONS,
    **spectral.FUNCTIONS,
    "expand_dims": view.expand_dims,
    "range": index.range_,
    "reverse": view.reverse,
    "squeeze": view.squeeze,
    "stack": join.stack,
    "unstack": join.unstack,
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
    "counting",
    "determinant",
    "einsum",
    "elementwise",
    "factors",
    "index",
    "indexing",
    "join",
    "linalg",
    "math",
    "matrices",
    "matrix_functions",
    "moments",
    "norms",
    "random",
    "ranking",
    "reduce",
    "running",
    "scan",
    "slicing",
    "solve",
    "sorting",
    "spectral",
    "trigonometric",
    "view",
    "while_loop",
]
