"""gg.losses: the loss functions of tf.keras.losses. Each gives one loss for each row of the last
axis, or of `axis`; `gg.reduce_mean` makes one number of them."""

from __future__ import annotations

import math
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.normalization import l2_normalize
from graphgrad.compiler.ops.special import carried, floating
from graphgrad.compiler.types import broadcast_shapes, normalize_axis

EPSILON = 1e-7  # Keras's: keeps probabilities away from 0 and 1, and divisors from 0


def _pair(loss: str, y_true: Any, y_pred: Any, same_rank: bool = True) -> tuple[Any, Any]:
    """Labels and predictions as tensors of the dtype of the predictions, at least float32.

    A size 1 that one has more as its last axis than the other is dropped.
    """
    pred = carried(floating(y_pred, loss))
    true = current_kind().lift(y_true).cast(pred.dtype)
    if same_rank and true.ndim == pred.ndim + 1 and true.shape[-1] == 1:
        true, pred = _alike(true, pred)
    elif same_rank and pred.ndim == true.ndim + 1 and pred.shape[-1] == 1:
        pred, true = _alike(pred, true)
    try:
        broadcast_shapes([true.type.shape, pred.type.shape], loss)
    except ShapeError:
        raise ShapeError(
            f"{loss}: y_true {true.type} does not broadcast with y_pred {pred.type}"
        ) from None
    return true, pred


def _alike(longer: Any, shorter: Any) -> tuple[Any, Any]:
    """A vector gets the further axis of size 1, anything else loses it."""
    if shorter.ndim == 1:
        return longer, shorter.reshape((*shorter.type.shape, 1))
    return longer.reshape(longer.type.shape[:-1]), shorter


def _mean(x: Any, like: Any, axis: Any = -1) -> Any:
    """The mean over `axis` in the dtype that the user's predictions have."""
    return _result(ops["mean"](x, axis), like)


def _result(x: Any, like: Any) -> Any:
    dtype = getattr(like, "dtype", None)
    found = dtypes.as_dtype_or_none(dtype)
    return x.cast(found) if found is not None and found.is_floating else x


def _probability(p: Any) -> Any:
    return ops["clip_by_value"](p, EPSILON, 1 - EPSILON)


@located
def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """mean((y_true - y_pred) ** 2).

    >>> import graphgrad as gg
    >>> gg.losses.mean_squared_error([[0.0, 1.0]], [[1.0, 1.0]]).numpy()
    array([0.5], dtype=float32)
    """
    true, pred = _pair("mean_squared_error", y_true, y_pred)
    return _mean(ops["squared_difference"](pred, true), y_pred)


@located
def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """mean(|y_true - y_pred|); the derivative where they are equal is 0.

    >>> import graphgrad as gg
    >>> gg.losses.mean_absolute_error([[0.0, 1.0]], [[3.0, 1.0]]).numpy()
    array([1.5], dtype=float32)
    """
    true, pred = _pair("mean_absolute_error", y_true, y_pred)
    return _mean(ops["abs"](pred - true), y_pred)


@located
def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """100 mean(|(y_true - y_pred) / y_true|), with |y_true| at least 1e-7.

    >>> import graphgrad as gg
    >>> gg.losses.mean_absolute_percentage_error([[2.0, 4.0]], [[1.0, 5.0]]).numpy()
    array([37.5], dtype=float32)
    """
    true, pred = _pair("mean_absolute_percentage_error", y_true, y_pred)
    share = ops["abs"]((true - pred) / ops["maximum"](ops["abs"](true), EPSILON))
    return _mean(share, y_pred) * 100.0


@located
def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """mean((log(1 + y_true) - log(1 + y_pred)) ** 2), with both at least 1e-7.

    >>> import graphgrad as gg
    >>> gg.losses.mean_squared_logarithmic_error([[0.0, 1.0]], [[1.0, 1.0]]).numpy().round(4)
    array([0.2402], dtype=float32)
    """
    true, pred = _pair("mean_squared_logarithmic_error", y_true, y_pred)
    logs = (ops["log1p"](ops["maximum"](v, EPSILON)) for v in (pred, true))
    return _mean(ops["squared_difference"](*logs), y_pred)


@located
def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """The mean of e ** 2 / 2 where |e| <= delta, else delta |e| - delta ** 2 / 2, of e = y_pred -
    y_true.

    Source: Huber, "Robust estimation of a location parameter", 1964.

    >>> import graphgrad as gg
    >>> gg.losses.huber([[0.0, 0.0]], [[1.0, 3.0]]).numpy()
    array([1.5], dtype=float32)
    """
    true, pred = _pair("huber", y_true, y_pred)
    error = pred - true
    size = ops["abs"](error)
    far = delta * size - 0.5 * delta * delta
    return _mean(ops["where"](size <= delta, 0.5 * ops["square"](error), far), y_pred)


@located
def log_cosh(y_true: Any, y_pred: Any) -> Any:
    """The mean of log(cosh(y_pred - y_true)), which never overflows.

    >>> import graphgrad as gg
    >>> gg.losses.log_cosh([[0.0, 0.0]], [[0.0, 100.0]]).numpy().round(3)
    array([49.653], dtype=float32)
    """
    true, pred = _pair("log_cosh", y_true, y_pred)
    error = pred - true
    return _mean(error + ops["softplus"](error * -2.0) - math.log(2.0), y_pred)


def _signs(true: Any) -> Any:
    """Labels that are all 0 or 1 as -1 or 1."""
    binary = ops["all"]((true == 0) | (true == 1))
    return ops["where"](binary, 2.0 * true - 1.0, true)


@located
def hinge(y_true: Any, y_pred: Any) -> Any:
    """mean(max(1 - y_true y_pred, 0)); labels are -1 and 1, or all of them 0 and 1.

    >>> import graphgrad as gg
    >>> gg.losses.hinge([[1.0, -1.0]], [[0.5, 0.5]]).numpy()
    array([1.], dtype=float32)
    """
    true, pred = _pair("hinge", y_true, y_pred, same_rank=False)
    return _mean(ops["maximum"](1.0 - _signs(true) * pred, 0.0), y_pred)


@located
def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """mean(max(1 - y_true y_pred, 0) ** 2); labels are -1 and 1, or all of them 0 and 1.

    >>> import graphgrad as gg
    >>> gg.losses.squared_hinge([[1.0, -1.0]], [[0.5, 0.5]]).numpy()
    array([1.25], dtype=float32)
    """
    true, pred = _pair("squared_hinge", y_true, y_pred, same_rank=False)
    return _mean(ops["square"](ops["maximum"](1.0 - _signs(true) * pred, 0.0)), y_pred)


@located
def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """max(neg - pos + 1, 0) with pos the score of the label, neg the best of the others.

    >>> import graphgrad as gg
    >>> gg.losses.categorical_hinge([[0.0, 1.0]], [[0.75, 0.5]]).numpy()
    array([1.25], dtype=float32)
    """
    true, pred = _pair("categorical_hinge", y_true, y_pred, same_rank=False)
    right = ops["sum"](true * pred, -1)
    wrong = ops["max"]((1.0 - true) * pred, -1)
    return _result(ops["maximum"](wrong - right + 1.0, 0.0), y_pred)


@located
def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """sum(y_true log(y_true / y_pred)), both kept between 1e-7 and 1.

    >>> import graphgrad as gg
    >>> gg.losses.kl_divergence([[0.5, 0.5]], [[0.25, 0.75]]).numpy().round(4)
    array([0.1438], dtype=float32)
    """
    true, pred = _pair("kl_divergence", y_true, y_pred, same_rank=False)
    true, pred = (ops["clip_by_value"](v, EPSILON, 1.0) for v in (true, pred))
    return _result(ops["sum"](true * ops["log"](true / pred), -1), y_pred)


@located
def poisson(y_true: Any, y_pred: Any) -> Any:
    """mean(y_pred - y_true log(y_pred + 1e-7)).

    >>> import graphgrad as gg
    >>> gg.losses.poisson([[0.0, 1.0]], [[1.0, 1.0]]).numpy().round(4)
    array([1.], dtype=float32)
    """
    true, pred = _pair("poisson", y_true, y_pred, same_rank=False)
    return _mean(pred - true * ops["log"](pred + EPSILON), y_pred)


@located
def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """Minus the cosine of the angle between y_true and y_pred; 0 where either is 0.

    >>> import graphgrad as gg
    >>> gg.losses.cosine_similarity([[3.0, 4.0]], [[1.0, 0.0]]).numpy()
    array([-0.6], dtype=float32)
    """
    true, pred = _pair("cosine_similarity", y_true, y_pred)
    true, pred = (l2_normalize(v, axis, EPSILON**2) for v in (true, pred))
    return _result(-ops["sum"](true * pred, axis), y_pred)


# -- cross-entropies


@located
def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """The mean cross-entropy of independent yes-no labels with probabilities, or logits.

    `label_smoothing` s takes labels to y (1 - s) + s / 2.

    >>> import graphgrad as gg
    >>> gg.losses.binary_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).numpy().round(4)
    array([0.6931], dtype=float32)
    """
    true, pred = _same("binary_crossentropy", y_true, y_pred)
    true = _smooth(true, label_smoothing, 0.5 * label_smoothing)
    return _mean(_binary(true, pred, from_logits), y_pred, axis)


def _same(loss: str, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    true, pred = _pair(loss, y_true, y_pred, same_rank=False)
    if true.ndim != pred.ndim:
        raise ShapeError(f"{loss}: y_true {true.type} should have the shape of y_pred {pred.type}")
    return true, pred


def _smooth(true: Any, amount: float, base: Any) -> Any:
    return true * (1.0 - amount) + base if amount else true


def _binary(true: Any, pred: Any, from_logits: bool) -> Any:
    if from_logits:
        return ops["sigmoid_cross_entropy"](pred, true)
    p = _probability(pred)
    return -(true * ops["log"](p) + (1.0 - true) * ops["log"](1.0 - p))


@located
def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """The mean of (1 - p) ** gamma times the binary cross-entropy, p the probability of the label.

    With `apply_class_balancing` labels 1 weigh `alpha`, labels 0 the rest. Source: Lin and others,
    "Focal loss for dense object detection", 2017.

    >>> import graphgrad as gg
    >>> gg.losses.binary_focal_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).numpy().round(4)
    array([0.1733], dtype=float32)
    """
    true, pred = _same("binary_focal_crossentropy", y_true, y_pred)
    true = _smooth(true, label_smoothing, 0.5 * label_smoothing)
    p = ops["sigmoid"](pred) if from_logits else pred
    entropy = _binary(true, pred, from_logits)
    missed = true * (1.0 - p) + (1.0 - true) * p
    loss = missed**gamma * entropy
    if apply_class_balancing:
        loss = (true * alpha + (1.0 - true) * (1.0 - alpha)) * loss
    return _mean(loss, y_pred, axis)


@located
def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """-sum(y_true log(p)) along `axis`, with p the predictions over their sum, or their softmax.

    `label_smoothing` s takes labels to y (1 - s) + s / classes.

    >>> import graphgrad as gg
    >>> gg.losses.categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).numpy().round(4)
    array([0.6931], dtype=float32)
    """
    true, pred = _same("categorical_crossentropy", y_true, y_pred)
    axis = normalize_axis(int(axis), pred.ndim, "categorical_crossentropy")
    true = _smooth(true, label_smoothing, label_smoothing / true.shape[-1])
    if from_logits:
        return _result(ops["softmax_cross_entropy"](pred, true, axis), y_pred)
    p = _probability(pred / ops["sum"](pred, (axis,), True))
    return _result(-ops["sum"](true * ops["log"](p), (axis,)), y_pred)


@located
def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """-sum(alpha (1 - p) ** gamma y_true log(p)) along `axis`.

    >>> import graphgrad as gg
    >>> gg.losses.categorical_focal_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).numpy().round(4)
    array([0.0433], dtype=float32)
    """
    true, pred = _same("categorical_focal_crossentropy", y_true, y_pred)
    axis = normalize_axis(int(axis), pred.ndim, "categorical_focal_crossentropy")
    true = _smooth(true, label_smoothing, label_smoothing / true.shape[-1])
    if from_logits:
        pred = ops["softmax"](pred, axis)
    p = _probability(pred / ops["sum"](pred, (axis,), True))
    terms = alpha * (1.0 - p) ** gamma * true * ops["log"](p)
    return _result(-ops["sum"](terms, (axis,)), y_pred)


@located
def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Any:
    """-log(p[label]) along `axis`, with integer labels and p the predictions over their sum, or
    their softmax.

    Where the label is `ignore_class`, the loss and its derivative are 0; any other label out of
    range raises IndexOutOfRange.

    >>> import graphgrad as gg
    >>> gg.losses.sparse_categorical_crossentropy([1], [[0.5, 0.5]]).numpy().round(4)
    array([0.6931], dtype=float32)
    """
    loss = "sparse_categorical_crossentropy"
    pred = carried(floating(y_pred, loss))
    labels = current_kind().lift(y_true)
    if not labels.dtype.is_integer:
        labels = labels.cast(dtypes.int64)
    axis = normalize_axis(int(axis), pred.ndim, loss)
    if axis != pred.ndim - 1:
        pred = pred.transpose([*(i for i in range(pred.ndim) if i != axis), axis])
    rows = pred.type.shape[:-1]
    if labels.ndim == pred.ndim:
        if labels.shape[axis] != 1:
            raise ArgumentError(
                f"{loss}: y_true {labels.type} has as many axes as y_pred {pred.type}; integer "
                "labels have one axis less (categorical_crossentropy takes distributions)"
            )
        labels = labels.reshape(rows)
    valid = None
    if ignore_class is not None:
        valid = labels != ignore_class
        labels = ops["where"](valid, labels, 0)
        pred = ops["where"](valid.reshape((*valid.type.shape, 1)), pred, 0 if from_logits else 1)
    if not from_logits:
        pred = ops["log"](_probability(pred))
    losses = ops["sparse_softmax_cross_entropy"](pred, labels)
    return _result(losses if valid is None else ops["where"](valid, losses, 0.0), y_pred)


@located
def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Any:
    """1 - 2 sum(y_true y_pred) / (sum(y_true) + sum(y_pred) + 1e-7), over `axis` or all.

    >>> import graphgrad as gg
    >>> gg.losses.dice([[0.0, 1.0]], [[0.0, 1.0]]).numpy().round(3)
    np.float32(0.0)
    """
    true, pred = _pair("dice", y_true, y_pred, same_rank=False)
    both = ops["sum"](true * pred, axis)
    total = ops["sum"](true, axis) + ops["sum"](pred, axis)
    return _result(1.0 - 2.0 * both / (total + EPSILON), y_pred)


@located
def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None
) -> Any:
    """1 - tp / (tp + alpha fp + beta fn + 1e-7), over `axis` or all, with Keras's fp =
    sum((1 - y_pred) y_true) and fn = sum(y_pred (1 - y_true)).

    Source: Salehi, Erdogmus and Gholipour, 2017.

    >>> import graphgrad as gg
    >>> gg.losses.tversky([[0.0, 1.0]], [[0.5, 0.5]]).numpy().round(3)
    np.float32(0.5)
    """
    true, pred = _pair("tversky", y_true, y_pred, same_rank=False)
    both = ops["sum"](true * pred, axis)
    first, second = ops["sum"]((1.0 - pred) * true, axis), ops["sum"](pred * (1.0 - true), axis)
    return _result(1.0 - both / (both + first * alpha + second * beta + EPSILON), y_pred)


mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
kld = KLD = kullback_leibler_divergence = kl_divergence
logcosh = log_cosh

__all__ = [
    "KLD", "MAE", "MAPE", "MSE", "MSLE", "binary_crossentropy", "binary_focal_crossentropy",
    "categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge",
    "cosine_similarity", "dice", "hinge", "huber", "kl_divergence", "kld",
    "kullback_leibler_divergence", "log_cosh", "logcosh", "mae", "mape", "mean_absolute_error",
    "mean_absolute_percentage_error", "mean_squared_error", "mean_squared_logarithmic_error", "mse",
    "msle", "poisson", "sparse_categorical_crossentropy", "squared_hinge", "tversky",
]  # fmt: skip
