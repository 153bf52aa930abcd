"""Draws made of uniform ones: truncated normal, Bernoulli and categorical draws, permutations.

Each takes a fixed number of random words for each element, so it is a pure function of its key, in
every mode and under `vmap`.
"""

from __future__ import annotations

import math
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.shapes import as_shape
from graphgrad.compiler.types import same_shape, show_shape

# P(|N| < 2) for a standard normal N is erf(sqrt 2).
_INSIDE = math.erf(math.sqrt(2.0))


@located
def truncated_normal(
    key: Any, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32
) -> Any:
    """Normal draws with those beyond two standard deviations left out, by the inverse of the
    distribution function: sqrt(2) erfinv((2 u - 1) erf(sqrt 2))."""
    found = dtypes.as_dtype(dtype)
    if not found.is_floating:
        raise DTypeError(f"truncated_normal: draws floats, not {found.name}")
    work = found if found.bits >= 32 else dtypes.float32
    u = ops["random_uniform"](key, as_shape(shape), work)
    half = 2.0 ** (-53 if work.bits == 64 else -24)  # of the distance of two draws: symmetric
    t = (u * 2.0 - 1.0) + half
    z = ops["erfinv"](t * _INSIDE) * math.sqrt(2.0)
    z = ops["maximum"](ops["minimum"](z, 2.0), -2.0).cast(found)  # roundings might pass the end
    if not (isinstance(stddev, int | float) and stddev == 1):
        z = z * stddev
    return z if isinstance(mean, int | float) and mean == 0 else z + mean


@located
def bernoulli(key: Any, shape: Any, p: Any = 0.5, dtype: Any = dtypes.bool_) -> Any:
    """True (or 1) with probability `p`, which broadcasts to `shape`."""
    if isinstance(p, int | float) and not 0 <= p <= 1:
        raise ArgumentError(f"bernoulli: a probability lies between 0 and 1, got {p}")
    probability = current_kind().lift(p)
    if not probability.dtype.is_floating:
        probability = probability.cast(dtypes.float32)
    work = probability.dtype if probability.dtype.bits >= 32 else dtypes.float32
    drawn = ops["random_uniform"](key, as_shape(shape), work) < probability.cast(work)
    if not same_shape(drawn.type.shape, as_shape(shape)):
        raise ShapeError(
            f"bernoulli: the probabilities {probability.type} do not broadcast to the shape "
            f"{show_shape(as_shape(shape))}"
        )
    return drawn.cast(dtypes.as_dtype(dtype))


@located
def categorical(key: Any, logits: Any, num_samples: Any, dtype: Any = dtypes.int64) -> Any:
    """Draws from the distributions softmax(logits) over the last of two axes: [batch, num_samples].

    A draw is the number of classes whose cumulative probability is at most u: sums in float64, and
    u < 1 times the total, so that a class of probability 0 is never drawn.
    """
    x = current_kind().lift(logits)
    if x.ndim != 2 or not x.dtype.is_floating:
        raise ShapeError(f"categorical: logits are floats [batch, classes], got {x.type}")
    wide = x.cast(dtypes.float64)
    weights = ops["exp"](wide - ops["max"](wide, -1, True))
    ends = ops["cumsum"](weights, -1)
    batch, classes = x.type.shape
    (count,) = as_shape([num_samples])
    u = ops["random_uniform"](key, (batch, count), dtypes.float64)
    total = ops["slice"](ends, (0, classes - 1), (batch, 1))
    passed = ends.reshape((batch, 1, classes)) <= (u * total).reshape((batch, count, 1))
    return ops["sum"](passed.cast(dtypes.int64), -1).cast(dtypes.as_dtype(dtype))


@located
def shuffle(key: Any, value: Any) -> Any:
    """`value` with its first axis in a random order: that of as many random 64-bit words."""
    x = current_kind().lift(value)
    if x.ndim == 0:
        raise ShapeError(f"shuffle: takes a tensor with an axis, got {x.type}")
    return ops["gather"](x, permutation(key, x.type.shape[0]), 0)


def permutation(key: Any, size: Any) -> Arith:
    """The numbers below `size` in a random order."""
    words = ops["random_bits"](key, (size,), dtypes.uint64)
    found: Arith = ops["argsort"](words)
    return found
