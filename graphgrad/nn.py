"""gg.nn: activations and losses, by TensorFlow's names."""

from __future__ import annotations

import math
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.op import current_kind, ops
from graphgrad.public import exported

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


def sigmoid_cross_entropy_with_logits(labels: Any, logits: Any, name: str | None = None) -> Any:
    """The cross entropy of independent yes-no labels, element by element; never overflows.

    >>> import graphgrad as gg
    >>> gg.nn.sigmoid_cross_entropy_with_logits([1.0], [1000.0]).numpy()
    array([0.], dtype=float32)
    """
    x, z = _floating(logits), labels
    return ops["softplus"](x) - x * z


def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Any:
    """x where it is positive, else alpha * x.

    >>> import graphgrad as gg
    >>> gg.nn.leaky_relu([-1.0, 2.0]).numpy()
    array([-0.2,  2. ], dtype=float32)
    """
    x = _floating(features)
    return ops["where"](x > 0, x, x * alpha)


def elu(features: Any, name: str | None = None) -> Any:
    """x where it is positive, else exp(x) - 1.

    >>> import graphgrad as gg
    >>> gg.nn.elu([0.0, 2.0]).numpy()
    array([0., 2.], dtype=float32)
    """
    x = _floating(features)
    return ops["where"](x > 0, x, ops["expm1"](x))


def silu(features: Any, beta: float = 1.0) -> Any:
    """x * sigmoid(beta * x), also called swish.

    >>> import graphgrad as gg
    >>> gg.nn.silu([0.0]).numpy()
    array([0.], dtype=float32)
    """
    x = _floating(features)
    return x * ops["sigmoid"](x if beta == 1.0 else x * beta)


swish = silu


def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Any:
    """x * P(N <= x) for a standard normal N; `approximate` takes tanh in place of erf.

    >>> import graphgrad as gg
    >>> gg.nn.gelu([0.0]).numpy()
    array([0.], dtype=float32)
    """
    x = _floating(features)
    if approximate:
        inner = (x + 0.044715 * (x * x * x)) * math.sqrt(2 / math.pi)
        return 0.5 * x * (1.0 + ops["tanh"](inner))
    return 0.5 * x * (1.0 + ops["erf"](x * math.sqrt(0.5)))


def relu6(features: Any, name: str | None = None) -> Any:
    """min(max(x, 0), 6).

    >>> import graphgrad as gg
    >>> gg.nn.relu6([-1.0, 8.0]).numpy()
    array([0., 6.], dtype=float32)
    """
    return ops["minimum"](ops["relu"](features), 6)


def l2_loss(t: Any, name: str | None = None) -> Any:
    """sum(t ** 2) / 2.

    >>> import graphgrad as gg
    >>> gg.nn.l2_loss([3.0, 4.0]).numpy()
    np.float32(12.5)
    """
    x = _floating(t)
    return ops["sum"](x * x) * 0.5


def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Any:
    """`value + bias`, along the last axis.

    >>> import graphgrad as gg
    >>> gg.nn.bias_add([[1.0, 2.0]], [1.0, 1.0]).numpy()
    array([[2., 3.]], dtype=float32)
    """
    return ops["add"](value, bias)


def _floating(x: Any) -> Any:
    value = current_kind().lift(x)
    return value if value.dtype.is_floating else value.cast(dtypes.float32)
