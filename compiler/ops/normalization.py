"""Means and variances, and what is normalised by them. 16-bit floats are carried in float32."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.dims import same_size
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.special import carried, floating
from graphgrad.compiler.types import element_count, normalize_axes, reduced_shape


@located
def moments(
    x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[Any, Any]:
    """The mean and the variance over `axes`, both carried in two passes; `shift` is not used.

    >>> import graphgrad as gg
    >>> mean, variance = gg.nn.moments([[1.0, 3.0], [2.0, 8.0]], axes=[1])
    >>> mean.numpy(), variance.numpy()
    (array([2., 5.], dtype=float32), array([1., 9.], dtype=float32))
    """
    x = floating(x, "moments")
    found = normalize_axes(axes, x.ndim, "moments")
    mean, variance = _moments(carried(x), found)
    shape = reduced_shape(x.type.shape, found, bool(keepdims))
    return mean.reshape(shape).cast(x.dtype), variance.reshape(shape).cast(x.dtype)


def _moments(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    mean = ops["mean"](x, axes, True)
    return mean, ops["mean"](ops["square"](x - mean), axes, True)


@located
def weighted_moments(
    x: Any, axes: Any, frequency_weights: Any, keepdims: bool = False, name: str | None = None
) -> tuple[Any, Any]:
    """The mean and the variance over `axes` of elements that count `frequency_weights` times.

    Both are 0 where the weights add up to 0.

    >>> import graphgrad as gg
    >>> mean, variance = gg.nn.weighted_moments([1.0, 2.0, 9.0], [0], [1.0, 1.0, 0.0])
    >>> mean.numpy(), variance.numpy()
    (np.float32(1.5), np.float32(0.25))
    """
    x = floating(x, "weighted_moments")
    wide = carried(x)
    weights = current_kind().lift(frequency_weights, wide.dtype).cast(wide.dtype)
    found = normalize_axes(axes, x.ndim, "weighted_moments")
    weights = ops["add"](weights, ops["broadcast_to"](wide.dtype.dtype.type(0), x.type.shape))

    def mean_of(values: Any) -> Any:
        total = ops["sum"](weights * values, found, True)
        return ops["divide_no_nan"](total, ops["sum"](weights, found, True))

    mean = mean_of(wide)
    variance = mean_of(ops["square"](wide - mean))
    shape = reduced_shape(x.type.shape, found, bool(keepdims))
    return mean.reshape(shape).cast(x.dtype), variance.reshape(shape).cast(x.dtype)


@located
def sufficient_statistics(
    x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[Any, Any, Any, Any]:
    """What `normalize_moments` takes: the count, the sum of x - shift and that of its squares over
    `axes`, and the shift.

    >>> import graphgrad as gg
    >>> count, total, squares, _ = gg.nn.sufficient_statistics([1.0, 3.0, 5.0], [0])
    >>> count.numpy(), total.numpy(), squares.numpy()
    (np.float32(3.0), np.float32(9.0), np.float32(35.0))
    """
    x = floating(x, "sufficient_statistics")
    found = normalize_axes(axes, x.ndim, "sufficient_statistics")
    count = current_kind().lift(element_count(x.type.shape[i] for i in found)).cast(x.dtype)
    if shift is not None:
        shift = current_kind().lift(shift, x.dtype).cast(x.dtype)
    moved = x if shift is None else x - shift
    keep = bool(keepdims)
    squares = ops["sum"](ops["square"](moved), found, keep)
    return count, ops["sum"](moved, found, keep), squares, shift


def normalize_moments(
    counts: Any, mean_ss: Any, variance_ss: Any, shift: Any = None, name: str | None = None
) -> tuple[Any, Any]:
    """The mean and the variance from a count, a sum of x - shift and a sum of (x - shift) ** 2.

    >>> import graphgrad as gg
    >>> mean, variance = gg.nn.normalize_moments(2.0, 4.0, 10.0, None)
    >>> mean.numpy(), variance.numpy()
    (np.float32(2.0), np.float32(1.0))
    """
    divisor = ops["reciprocal"](counts)
    shifted = ops["mul"](mean_ss, divisor)
    mean = shifted if shift is None else shifted + shift
    return mean, ops["mul"](variance_ss, divisor) - ops["square"](shifted)


@located
def l2_normalize(
    x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None
) -> Any:
    """x / sqrt(max(sum(x ** 2), epsilon)) with the sum over `axis`, None for all.

    >>> import graphgrad as gg
    >>> gg.nn.l2_normalize([3.0, 4.0]).numpy()
    array([0.6, 0.8], dtype=float32)
    """
    x = floating(x, "l2_normalize")
    wide = carried(x)
    axes = normalize_axes(dim if axis is None else axis, x.ndim, "l2_normalize")
    squares = ops["sum"](ops["square"](wide), axes, True)
    return (wide * ops["rsqrt"](ops["maximum"](squares, epsilon))).cast(x.dtype)


@located
def layer_norm(
    x: Any,
    scale: Any = None,
    offset: Any = None,
    axis: Any = -1,
    epsilon: float = 1e-3,
    name: str | None = None,
) -> Any:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset, over `axis` (one or several).

    `scale` and `offset` have the sizes of these axes, in their order; the default of `epsilon` is
    that of Keras. Source: Ba, Kiros and Hinton, "Layer normalization", 2016.

    >>> import graphgrad as gg
    >>> gg.nn.layer_norm([[1.0, 3.0], [-5.0, 5.0]], epsilon=0.0).numpy()
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """
    x = floating(x, "layer_norm")
    axes = normalize_axes(axis, x.ndim, "layer_norm")
    wide = carried(x)
    mean, variance = _moments(wide, axes)
    y = (wide - mean) * ops["rsqrt"](variance + epsilon)
    shape = x.type.shape
    for value, what in ((scale, "scale"), (offset, "offset")):
        if value is None:
            continue
        given = current_kind().lift(value, wide.dtype).cast(wide.dtype)
        if given.ndim not in (0, len(axes)):
            sizes = ", ".join(str(shape[i]) for i in axes)
            raise ShapeError(f"layer_norm: {what} {given.type} should be [{sizes}], as x {x.type}")
        if given.ndim:
            given = given.reshape(_along(given.type.shape, axes, x.ndim))
        y = y * given if what == "scale" else y + given
    return y.cast(x.dtype)


def _along(sizes: Any, axes: tuple[int, ...], rank: int) -> tuple[Any, ...]:
    """A shape of `rank` axes with these sizes at `axes`, and 1 elsewhere."""
    found: list[Any] = [1] * rank
    for i, n in zip(axes, sizes, strict=True):
        found[i] = n
    return tuple(found)


@located
def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any,
    scale: Any,
    variance_epsilon: float,
    name: str | None = None,
) -> Any:
    """(x - mean) / sqrt(variance + variance_epsilon) * scale + offset; either may be None.

    The statistics broadcast against x, as `nn.moments` gives them.
    Source: Ioffe and Szegedy, "Batch normalization", 2015.

    >>> import graphgrad as gg
    >>> gg.nn.batch_normalization([[1.0, 8.0]], [0.0, 2.0], [1.0, 4.0], None, 10.0, 0.0).numpy()
    array([[10., 30.]], dtype=float32)
    """
    x = floating(x, "batch_normalization")
    wide = carried(x)

    def like(value: Any) -> Any:
        return current_kind().lift(value, wide.dtype).cast(wide.dtype)

    factor = ops["rsqrt"](like(variance) + variance_epsilon)
    if scale is not None:
        factor = factor * like(scale)
    y = (wide - like(mean)) * factor
    return (y if offset is None else y + like(offset)).cast(x.dtype)


@located
def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Any:
    """`value` plus a vector along its last axis, or along axis 1 with `data_format` "NC...".

    >>> import graphgrad as gg
    >>> gg.nn.bias_add([[1.0, 2.0]], [1.0, 1.0]).numpy()
    array([[2., 3.]], dtype=float32)
    """
    x = current_kind().lift(value)
    b = current_kind().lift(bias, x.dtype)
    layout = "N...C" if data_format is None else str(data_format)
    first = layout.startswith("NC")
    if not first and not (layout.startswith("N") and layout.endswith("C")):
        raise ArgumentError(
            f"bias_add: data_format is of the form 'N...C' or 'NC...', not {data_format!r}"
        )
    axis = 1 if first else x.ndim - 1
    if b.ndim != 1 or x.ndim < 2 or not same_size(b.type.shape[0], x.type.shape[axis]):
        raise ShapeError(
            f"bias_add: the bias is a vector with the size of axis {axis} of the value {x.type}, "
            f"got {b.type}"
        )
    return ops["add"](x, b.reshape(_along(b.type.shape, (axis,), x.ndim)) if first else b)
