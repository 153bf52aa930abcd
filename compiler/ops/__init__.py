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
    binary_entropy,
    bitwise,
    clipping,
    combinations,
    compare,
    composite,
    control,
    core,
    division,
    elementwise,
    gamma,
    gated,
    index,
    indexing,
    join,
    linalg,
    math,
    normalization,
    random,
    reduce,
    rounding,
    scan,
    slicing,
    trigonometric,
    view,
    while_loop,
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add_n": combinations.add_n,
    "expand_dims": view.expand_dims,
    "math.accumulate_n": combinations.accumulate_n,
    "math.add_n": combinations.add_n,
    "math.erfcinv": gamma.erfcinv,
    "math.is_non_decreasing": combinations.is_non_decreasing,
    "math.is_strictly_increasing": combinations.is_strictly_increasing,
    "math.l2_normalize": normalization.l2_normalize,
    "math.polyval": combinations.polyval,
    "math.reciprocal_no_nan": combinations.reciprocal_no_nan,
    "math.scalar_mul": combinations.scalar_mul,
    "math.zero_fraction": combinations.zero_fraction,
    "nn.batch_normalization": normalization.batch_normalization,
    "nn.bias_add": normalization.bias_add,
    "nn.l2_normalize": normalization.l2_normalize,
    "nn.layer_norm": normalization.layer_norm,
    "nn.log_poisson_loss": binary_entropy.log_poisson_loss,
    "nn.moments": normalization.moments,
    "nn.normalize_moments": normalization.normalize_moments,
    "nn.sigmoid_cross_entropy_with_logits": binary_entropy.sigmoid_cross_entropy_with_logits,
    "nn.sufficient_statistics": normalization.sufficient_statistics,
    "nn.weighted_cross_entropy_with_logits": binary_entropy.weighted_cross_entropy_with_logits,
    "nn.weighted_moments": normalization.weighted_moments,
    "nn.zero_fraction": combinations.zero_fraction,
    "range": index.range_,
    "reverse": view.reverse,
    "scalar_mul": combinations.scalar_mul,
    "saturate_cast": clipping.saturate_cast,
    "squeeze": view.squeeze,
    "stack": join.stack,
    "unstack": join.unstack,
}

# The ops whose records are part of the compiler, in contrast to those that a user adds.
BUILT_IN: frozenset[Op] = frozenset(registry.values())

__all__ = [
    "BUILT_IN",
    "FUNCTIONS",
    "activations",
    "binary_entropy",
    "bitwise",
    "clipping",
    "combinations",
    "compare",
    "composite",
    "control",
    "core",
    "division",
    "elementwise",
    "gamma",
    "gated",
    "index",
    "indexing",
    "join",
    "linalg",
    "math",
    "normalization",
    "random",
    "reduce",
    "rounding",
    "scan",
    "slicing",
    "trigonometric",
    "view",
    "while_loop",
]
