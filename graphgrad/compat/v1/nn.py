"""gg.compat.v1.nn: batch normalisation with its statistics, as Keras's layer calls it."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import same_size
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.normalization import batch_normalization, moments
from graphgrad.compiler.ops.special import carried, floating
from graphgrad.compiler.types import element_count

LEAST_EPSILON = 1.001e-5  # TensorFlow takes no smaller one


@located
def fused_batch_norm(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any = None,
    variance: Any = None,
    epsilon: float = 0.001,
    data_format: str = "NHWC",
    is_training: bool = True,
    name: str | None = None,
    exponential_avg_factor: float = 1.0,
) -> tuple[Any, Any, Any]:
    """`x` normalised along all axes but the channels, and the mean and variance to keep.

    In training the statistics are those of `x`; the returned variance is the unbiased one, over
    n - 1. With an `exponential_avg_factor` f below 1 they are averages: (1 - f) times `mean` and
    `variance`, and f times what was found. Otherwise `mean` and `variance` serve as they are. All
    are vectors with a number for each channel. Unlike TensorFlow's, the returned statistics have
    derivatives.

    >>> import graphgrad as gg
    >>> x = gg.reshape([1.0, 3.0], (1, 1, 2, 1))
    >>> y, mean, variance = gg.compat.v1.nn.fused_batch_norm(x, [1.0], [5.0], epsilon=1e-4)
    >>> y.numpy().ravel().round(3), mean.numpy(), variance.numpy()
    (array([4., 6.], dtype=float32), array([2.], dtype=float32), array([2.], dtype=float32))
    """
    own = "fused_batch_norm"
    x = floating(x, own)
    if data_format not in ("NHWC", "NCHW", "NDHWC", "NCDHW"):
        raise ArgumentError(f"{own}: data_format is 'NHWC' or 'NCHW', not {data_format!r}")
    if x.ndim != len(data_format):
        raise ShapeError(f"{own}: {data_format} has {len(data_format)} axes, got {x.type}")
    channel = 1 if data_format[1] == "C" else x.ndim - 1
    shape = [1] * x.ndim
    shape[channel] = x.shape[channel]
    wide = carried(x)

    def vector(value: Any, what: str) -> Any:
        found = current_kind().lift(value, wide.dtype).cast(wide.dtype)
        if found.ndim != 1 or not same_size(found.shape[0], x.shape[channel]):
            raise ShapeError(
                f"{own}: {what} is a vector with the size of axis {channel} of x {x.type}, got "
                f"{found.type}"
            )
        return found

    def by_channel(value: Any) -> Any:
        return value.reshape(tuple(shape))

    if not is_training or exponential_avg_factor != 1:
        if mean is None or variance is None:
            raise ArgumentError(
                f"{own}: needs mean and variance where is_training is False or "
                "exponential_avg_factor is not 1"
            )
        mean, variance = vector(mean, "mean"), vector(variance, "variance")
    used, kept = (mean, variance), (mean, variance)
    if is_training:
        axes = [i for i in range(x.ndim) if i != channel]
        used = moments(wide, axes)
        count = current_kind().lift(element_count(x.shape[i] for i in axes), dtypes.int64)
        unbiased = ops["maximum"](count - 1, 1).cast(wide.dtype)
        kept = used[0], used[1] * (count.cast(wide.dtype) / unbiased)
        if exponential_avg_factor != 1:
            f = exponential_avg_factor
            kept = mean * (1 - f) + kept[0] * f, variance * (1 - f) + kept[1] * f
    y = batch_normalization(
        wide,
        by_channel(used[0]),
        by_channel(used[1]),
        by_channel(vector(offset, "offset")),
        by_channel(vector(scale, "scale")),
        max(epsilon, LEAST_EPSILON),
    )
    return y.cast(x.dtype), *kept
