"""gg.nn: activations, normalisations and losses, by TensorFlow's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad import random
from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.special import floating
from graphgrad.public import exported, functions

globals().update(exported("nn"))


def sparse_softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, name: str | None = None
) -> Any:
    """-log(softmax(logits)[label]) for each row of the last axis, with integer labels.

    A label out of range raises IndexOutOfRange.

    >>> import graphgrad as gg
    >>> gg.nn.sparse_softmax_cross_entropy_with_logits(labels=[1], logits=[[0.0, 0.0]]).numpy()
    array([0.6931472], dtype=float32)
    """
    return ops["sparse_softmax_cross_entropy"](logits, labels)


def softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, axis: int = -1, name: str | None = None
) -> Any:
    """-sum(labels log(softmax(logits))) along `axis`, with distributions as labels.

    >>> import graphgrad as gg
    >>> gg.nn.softmax_cross_entropy_with_logits([[0.0, 1.0]], [[0.0, 0.0]]).numpy()
    array([0.6931472], dtype=float32)
    """
    return ops["softmax_cross_entropy"](logits, labels, axis)


@located
def leaky_relu(features: Any, alpha: Any = 0.2, name: str | None = None) -> Any:
    """x where it is positive, else alpha * x; a tensor `alpha` has a derivative too.

    The derivative at 0 is alpha.

    >>> import graphgrad as gg
    >>> gg.nn.leaky_relu([-1.0, 2.0]).numpy()
    array([-0.2,  2. ], dtype=float32)
    """
    if isinstance(alpha, float | int):
        return ops["leaky_relu"](features, alpha)
    x = floating(features, "leaky_relu")
    return ops["where"](x > 0, x, x * alpha)


@located
def silu(features: Any, beta: Any = 1.0) -> Any:
    """x * sigmoid(beta * x), also called swish; a tensor `beta` has a derivative too.

    >>> import graphgrad as gg
    >>> gg.nn.silu([-1.0, 0.0, 1.0]).numpy().round(3)
    array([-0.269,  0.   ,  0.731], dtype=float32)
    """
    if isinstance(beta, float | int) and beta == 1:
        return ops["silu"](features)
    x = floating(features, "silu")
    return x * ops["sigmoid"](x * beta)


swish = silu


@located
def embedding_lookup(
    params: Any, ids: Any, max_norm: float | None = None, name: str | None = None
) -> Any:
    """The rows of `params` at `ids`; with `max_norm` each row's length is clipped to it.

    An id out of range raises IndexOutOfRange.

    >>> import graphgrad as gg
    >>> gg.nn.embedding_lookup([[3.0, 4.0], [0.0, 1.0]], [1, 0], max_norm=1.0).numpy()
    array([[0. , 1. ],
           [0.6, 0.8]], dtype=float32)
    """
    indices = current_kind().lift(ids)
    rows = ops["gather"](params, indices)
    if max_norm is None:
        return rows
    return functions["clip_by_norm"](rows, max_norm, axes=list(range(indices.ndim, rows.ndim)))


def crelu(features: Any, axis: int = -1, name: str | None = None) -> Any:
    """relu(x) and relu(-x), one after the other along `axis`, which so doubles.

    >>> import graphgrad as gg
    >>> gg.nn.crelu([-1.0, 2.0]).numpy()
    array([0., 2., 1., 0.], dtype=float32)
    """
    x = current_kind().lift(features)
    return ops["relu"](ops["concat"]([x, -x], axis))


@located
def l2_loss(t: Any, name: str | None = None) -> Any:
    """sum(t ** 2) / 2.

    >>> import graphgrad as gg
    >>> gg.nn.l2_loss([3.0, 4.0]).numpy()
    np.float32(12.5)
    """
    x = floating(t, "l2_loss")
    return ops["sum"](x * x) * 0.5


@located
def dropout(
    x: Any, rate: Any, noise_shape: Any = None, seed: int | None = None, name: str | None = None
) -> Any:
    """`x` with each element 0 with probability `rate`, and else times 1 / (1 - rate).

    A `rate` of 0 gives `x` itself. One draw serves all elements along the axes where `noise_shape`
    is 1; where it is None it is as `x`. The draw is that of `gg.random.uniform` with this `seed`.
    Source: Srivastava and others, "Dropout", 2014.

    >>> import graphgrad as gg
    >>> gg.nn.dropout(gg.ones((2, 3)), 0.0).numpy()
    array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """
    return _dropout(x, rate, noise_shape, lambda shape: random.uniform(shape, seed=seed))


@located
def stateless_dropout(
    x: Any, rate: Any, seed: Any, noise_shape: Any = None, name: str | None = None
) -> Any:
    """`dropout` by draws that depend on `seed`, two integers, alone.

    >>> import graphgrad as gg
    >>> gg.nn.stateless_dropout(gg.ones((3,)), 0.5, seed=[1, 2]).shape
    TensorShape([3])
    """
    return _dropout(x, rate, noise_shape, lambda shape: random.stateless_uniform(shape, seed))


def _dropout(x: Any, rate: Any, noise_shape: Any, draw: Callable[[Any], Any]) -> Any:
    x = floating(x, "dropout")
    if isinstance(rate, float | int):
        if not 0 <= rate < 1:
            raise ArgumentError(f"dropout: rate is at least 0 and below 1, got {rate}")
        if rate == 0:
            return x
        kept = x * (1.0 / (1.0 - rate))
    else:
        kept = x / (1.0 - current_kind().lift(rate, dtypes.float32)).cast(x.dtype)
    shape = list(x.type.shape)
    if noise_shape is not None:
        given = list(noise_shape)
        if len(given) != len(shape):
            raise ShapeError(f"dropout: noise_shape {given} should have as many axes as x {x.type}")
        shape = [n if m is None else m for n, m in zip(shape, given, strict=True)]
    return ops["where"](draw(shape) >= rate, kept, 0)
