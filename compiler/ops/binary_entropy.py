"""Losses of single elements: cross-entropies of yes-no labels, and of counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.families import Elementwise, join_dtypes
from graphgrad.compiler.op import Samples, current_kind, located, ops
from graphgrad.compiler.ops.special import Array, in_float64, softplus
from graphgrad.compiler.types import same_shape


def _operands(op: str, logits: Any, labels: Any) -> tuple[Any, Any]:
    """Logits and labels as tensors of one floating dtype and shape."""
    if logits is None or labels is None:
        raise ArgumentError(f"{op}: give both labels and logits")
    kind = current_kind()
    dtype = join_dtypes((logits, labels))
    dtype = dtype if dtype.is_floating else dtypes.float32
    x, z = (kind.lift(v, dtype).cast(dtype) for v in (logits, labels))
    if not same_shape(x.type.shape, z.type.shape):
        raise ShapeError(f"{op}: labels {z.type} should have the shape of logits {x.type}")
    return x, z


def _value(x: Array, labels: Array) -> Array:
    return np.asarray(np.maximum(x, 0) - x * labels + softplus(-np.abs(x)))


def _cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((), (5,), (2, 3), (0, 2)):
        yield (rng.uniform(-3, 3, shape).astype(dtype), rng.uniform(0, 1, shape).astype(dtype)), {}
    logits, labels = np.meshgrid([1000.0, -1000.0, 20.0, -20.0, 0.0, -0.0], [0.0, 1.0, 0.5])
    yield (logits.astype(dtype), labels.astype(dtype)), {}


def _scalar(s: Any, x: Any, labels: Any) -> Any:
    """max(x, 0) - x z + log(1 + exp(-|x|)): the last term keeps its digits beside the others."""
    loss = s.fma(s.neg(x), labels, s.relu(x))
    return s.add(loss, s.softplus(s.neg(s.abs(x))))


sigmoid_cross_entropy = Elementwise(
    name="sigmoid_cross_entropy",
    public="",
    arity=2,
    inputs="float",
    ref=in_float64(_value),
    scalar=_scalar,
    partials=(lambda loss, x, z: ops["sigmoid"](x) - z, lambda loss, x, z: -x),
    samples=Samples(
        cases=_cases,
        dtypes=("float32", "float64", "bfloat16"),
        oracle=lambda x, z: z * np.logaddexp(0, -x) + (1 - z) * np.logaddexp(0, x),
        ulp=6.0,
    ),
    doc="-z log(sigmoid(x)) - (1 - z) log(1 - sigmoid(x)) for logits x and labels z.",
)


@located
def sigmoid_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Any:
    """The cross entropy of independent yes-no labels, element by element; never overflows.

    >>> import graphgrad as gg
    >>> gg.nn.sigmoid_cross_entropy_with_logits([1.0], [1000.0]).numpy()
    array([0.], dtype=float32)
    """
    x, z = _operands("sigmoid_cross_entropy_with_logits", logits, labels)
    return ops["sigmoid_cross_entropy"](x, z)


@located
def weighted_cross_entropy_with_logits(
    labels: Any, logits: Any, pos_weight: Any, name: str | None = None
) -> Any:
    """`sigmoid_cross_entropy_with_logits` in which labels 1 weigh `pos_weight`.

    pos_weight * z log(1 + exp(-x)) + (1 - z) log(1 + exp(x)): of positive terms, so that no digits
    are lost, however large the logits are.

    >>> import graphgrad as gg
    >>> gg.nn.weighted_cross_entropy_with_logits([1.0, 0.0], [0.0, 0.0], 2.0).numpy().round(3)
    array([1.386, 0.693], dtype=float32)
    """
    x, z = _operands("weighted_cross_entropy_with_logits", logits, labels)
    softplus = ops["softplus"]
    return pos_weight * z * softplus(-x) + (1.0 - z) * softplus(x)


@located
def log_poisson_loss(
    targets: Any, log_input: Any, compute_full_loss: bool = False, name: str | None = None
) -> Any:
    """exp(x) - x z, the loss of counts z whose rate has the logarithm x, element by element.

    `compute_full_loss` adds Stirling's formula for log(z!), z log(z) - z + log(2 pi z) / 2, where
    z > 1 or z < 0.

    >>> import graphgrad as gg
    >>> gg.nn.log_poisson_loss([2.0], [0.0]).numpy()
    array([1.], dtype=float32)
    """
    x, z = _operands("log_poisson_loss", log_input, targets)
    loss = ops["exp"](x) - x * z
    if not compute_full_loss:
        return loss
    small = (z >= 0) & (z <= 1)
    safe = ops["where"](small, 1, z)
    stirling = safe * ops["log"](safe) - safe + 0.5 * ops["log"]((2 * math.pi) * safe)
    return loss + ops["where"](small, 0, stirling)
