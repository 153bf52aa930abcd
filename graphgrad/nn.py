"""gg.nn: activations and losses, by TensorFlow's names."""

from __future__ import annotations

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


def leaky_relu(features: Any, alpha: Any = 0.2, name: str | None = None) -> Any:
    """x where it is positive, else alpha * x; a tensor `alpha` has a derivative too.

    The derivative at 0 is alpha.

    >>> import graphgrad as gg
    >>> gg.nn.leaky_relu([-1.0, 2.0]).numpy()
    array([-0.2,  2. ], dtype=float32)
    """
    if isinstance(alpha, float | int):
        return ops["leaky_relu"](features, alpha)
    x = _floating(features)
    return ops["where"](x > 0, x, x * alpha)


def silu(features: Any, beta: Any = 1.0) -> Any:
    """x * sigmoid(beta * x), also called swish; a tensor `beta` has a derivative too.

    >>> import graphgrad as gg
    >>> gg.nn.silu([-1.0, 0.0, 1.0]).numpy().round(3)
    array([-0.269,  0.   ,  0.731], dtype=float32)
    """
    if isinstance(beta, float | int) and beta == 1:
        return ops["silu"](features)
    x = _floating(features)
    return x * ops["sigmoid"](x * beta)


swish = silu


def crelu(features: Any, axis: int = -1, name: str | None = None) -> Any:
    """relu(x) and relu(-x), one after the other along `axis`, which so doubles.

    >>> import graphgrad as gg
    >>> gg.nn.crelu([-1.0, 2.0]).numpy()
    array([0., 2., 1., 0.], dtype=float32)
    """
    x = current_kind().lift(features)
    return ops["relu"](ops["concat"]([x, -x], axis))


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
