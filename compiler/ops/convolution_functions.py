"""Convolutions by TensorFlow's names: gg.nn.conv2d and its like, made of the ops in convolution.py.

Inside, channels are last. Images with channels first are transposed before and after; between two
such functions the transposes meet, and compiled functions leave them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.compiler.dims import is_size, same_size, shown
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import DTypeError, ShapeError
from graphgrad.compiler.op import located, ops
from graphgrad.compiler.ops.convolution import REAL, SPATIAL
from graphgrad.compiler.ops.convolution_reference import Sizes
from graphgrad.compiler.ops.join import together
from graphgrad.compiler.ops.windows import (
    LETTERS,
    channels_first,
    check_room,
    from_channels_last,
    missing_axis,
    paddings,
    per_axis,
    to_channels_last,
)
from graphgrad.compiler.types import element_count

AXES = {1: "width", 2: "height, width", 3: "depth, height, width"}

# -- checks


def check_dtype(name: str, dtype: DType) -> None:
    if dtype.is_complex:
        raise DTypeError(f"{name}: takes no complex numbers, got {dtype.name}; {REAL}")
    if dtype.is_bool:
        raise DTypeError(f"{name}: takes numbers, got bool tensors; cast them first")


def check_ranks(name: str, x: Any, w: Any, spatial: int, batch: bool) -> None:
    """`batch`: may there be several axes of images?"""
    wanted = spatial + 2
    if w.ndim != wanted:
        raise ShapeError(
            f"{name}: the filter has {wanted} axes ({AXES[spatial]}, input channels, output "
            f"channels), got {w.type}"
        )
    if x.ndim != wanted and not (batch and x.ndim > wanted):
        raise ShapeError(
            f"{name}: the input has {wanted} axes (images, {AXES[spatial]}, channels), got "
            f"{x.type}{missing_axis(x, wanted)}"
        )


def check_known(name: str, w: Any) -> None:
    if not w.type.static or 0 in w.shape[:-2]:
        raise ShapeError(
            f"{name}: the sizes of the filter must be known, and its spatial ones at least 1, got "
            f"{w.type}"
        )


def _way_out(x: Any, w: Any, spatial: int, first: bool) -> str:
    """Where the channels fit in another layout: that of the filter as torch has it, (output
    channels, input channels, *taps), or the other `data_format`."""
    inputs, others = x.shape[-spatial - 1 if first else -1], x.shape[-1 if first else -spatial - 1]
    if w.shape[1] == inputs and len(set(w.shape[2:])) == 1:  # filters are square, as a rule
        perm = [*range(2, w.ndim), 1, 0]
        return f"; if it is (output, input channels, {AXES[spatial]}), gg.transpose it by {perm}"
    if w.shape[-2] == others:
        letters = LETTERS[spatial][0]
        other = f"N{letters}C" if first else f"NC{letters}"
        return f"; the {others} channels would be found with data_format={other!r}"
    return ""


def _groups(name: str, x: Any, w: Any, spatial: int, first: bool) -> int:
    """How many groups: the channels of the input over those of the filter."""
    inputs, own = x.shape[-spatial - 1 if first else -1], w.shape[-2]
    if not isinstance(inputs, int):  # unknown: one group, under a guard
        if not is_size(inputs, own):
            raise ShapeError(
                f"{name}: the channels of the input {x.type} are not known, and the filter "
                f"{w.type} has {own}; groups need a known number"
            )
        return 1
    if own == inputs == 0:
        return 1
    if own == 0 or inputs % own or inputs == 0:
        raise ShapeError(
            f"{name}: the input {x.type} has {inputs} channels, and the filter {w.type} takes "
            f"{own}, which does not divide {inputs}: it is ({AXES[spatial]}, input channels, "
            f"output channels){_way_out(x, w, spatial, first)}"
        )
    groups = inputs // own
    if w.shape[-1] % groups:
        raise ShapeError(
            f"{name}: the {w.shape[-1]} output channels of the filter {w.type} do not fall into "
            f"{groups} groups, which {inputs} input channels by {own} make"
            f"{_way_out(x, w, spatial, first)}"
        )
    return int(groups)


# -- forward


def _convolve(
    name: str, x: Any, w: Any, strides: Any, padding: Any, data_format: Any, dilations: Any,
    spatial: int,
) -> Any:  # fmt: skip
    """The convolution of tensors, after all checks, with several axes of images made one."""
    check_dtype(name, x.dtype)
    first = channels_first(name, data_format, spatial)
    check_ranks(name, x, w, spatial, batch=True)
    check_known(name, w)
    steps = per_axis(name, "strides", strides, spatial, first)
    apart = per_axis(name, "dilations", dilations, spatial, first)
    batch = x.shape[: x.ndim - spatial - 1]
    groups = _groups(name, x, w, spatial, first)
    x = to_channels_last(x.reshape((element_count(batch), *x.shape[len(batch) :])), first)
    y = from_channels_last(_last(name, x, w, steps, padding, apart, groups, first), first)
    return y.reshape((*batch, *y.shape[1:]))


def _last(
    name: str, x: Any, w: Any, strides: Sizes, padding: Any, dilations: Sizes, groups: int,
    first: bool,
) -> Any:  # fmt: skip
    """The convolution of images with channels last; `first`: in which order padding is given."""
    kernel, sizes = w.shape[:-2], x.shape[1:-1]
    pairs = paddings(name, padding, sizes, kernel, strides, dilations, first)
    check_room(name, sizes, kernel, strides, pairs, dilations)
    return ops["conv"](x, w, strides=strides, padding=pairs, dilations=dilations, groups=groups)


@located
def convolution(
    input: Any, filters: Any, strides: Any = None, padding: Any = "VALID",
    data_format: str | None = None, dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """Convolution over 1, 2 or 3 spatial axes, as many as the filter has: `conv1d`, `conv2d` or
    `conv3d`.

    >>> import graphgrad as gg
    >>> x = gg.reshape([1.0, 2.0, 3.0, 4.0], (1, 4, 1))
    >>> gg.nn.convolution(x, gg.reshape([1.0, 1.0], (2, 1, 1))).numpy().ravel()
    array([3., 5., 7.], dtype=float32)
    """
    x, w = together((input, filters), "convolution")
    spatial = w.ndim - 2
    if spatial not in SPATIAL:
        raise ShapeError(
            "convolution: the filter has 1 to 3 spatial axes, then input channels and output "
            f"channels, got {w.type}"
        )
    return _convolve("convolution", x, w, strides, padding, data_format, dilations, spatial)


@located
def conv1d(
    input: Any, filters: Any, stride: Any, padding: Any, data_format: str | None = "NWC",
    dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`conv2d` along one spatial axis: input (images, width, channels), filters (width, input
    channels, output channels).

    >>> import graphgrad as gg
    >>> x = gg.reshape([1.0, 2.0, 3.0, 4.0], (1, 4, 1))
    >>> gg.nn.conv1d(x, gg.reshape([1.0, 1.0], (2, 1, 1)), 2, "VALID").numpy().ravel()
    array([3., 7.], dtype=float32)
    """
    x, w = together((input, filters), "conv1d")
    return _convolve("conv1d", x, w, stride, padding, data_format, dilations, 1)


@located
def conv2d(
    input: Any, filters: Any, strides: Any, padding: Any, data_format: str | None = "NHWC",
    dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """The products of each window of the images with a filter, summed over its taps and channels.

    `input` is (images, height, width, channels), or (images, channels, height, width) with
    `data_format` "NCHW"; axes before these are more of images. `filters` is (height, width, input
    channels, output channels). Where it has only 1 / n of the image's channels there are n groups:
    each run of output channels sees its run of input channels. `strides` and `dilations` (the
    distance of taps) are a number, or a list of 1, 2 or 4. `padding` is "VALID", "SAME" (the output
    has ceil(size / stride) places), or zeros as pairs (before, after) for each axis.

    As everywhere in machine learning the filter is not turned: this is cross-correlation.

    Channels that do not fit, strides of 0 and the like raise ShapeError or ArgumentError.

    >>> import graphgrad as gg
    >>> image = gg.reshape(gg.range(9.0), (1, 3, 3, 1))
    >>> gg.nn.conv2d(image, gg.ones((2, 2, 1, 1)), strides=1, padding="VALID").numpy()[0, :, :, 0]
    array([[ 8., 12.],
           [20., 24.]], dtype=float32)
    """
    x, w = together((input, filters), "conv2d")
    return _convolve("conv2d", x, w, strides, padding, data_format, dilations, 2)


@located
def conv3d(
    input: Any, filters: Any, strides: Any, padding: Any, data_format: str | None = "NDHWC",
    dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`conv2d` along three spatial axes: input (images, depth, height, width, channels), filters
    (depth, height, width, input channels, output channels).

    >>> import graphgrad as gg
    >>> y = gg.nn.conv3d(gg.ones((1, 3, 3, 3, 1)), gg.ones((2, 2, 2, 1, 4)), 1, "SAME")
    >>> y.shape, y.numpy()[0, 0, 0, 0, 0]
    (TensorShape([1, 3, 3, 3, 4]), np.float32(8.0))
    """
    x, w = together((input, filters), "conv3d")
    return _convolve("conv3d", x, w, strides, padding, data_format, dilations, 3)


@located
def atrous_conv2d(
    value: Any, filters: Any, rate: Any, padding: Any, name: str | None = None
) -> Any:
    """`conv2d` with stride 1 and taps that are `rate` apart.

    >>> import graphgrad as gg
    >>> gg.nn.atrous_conv2d(gg.ones((1, 5, 5, 1)), gg.ones((2, 2, 1, 1)), 2, "VALID").shape
    TensorShape([1, 3, 3, 1])
    """
    x, w = together((value, filters), "atrous_conv2d")
    return _convolve("atrous_conv2d", x, w, 1, padding, "NHWC", rate, 2)


# -- depthwise


def _depthwise(
    name: str, x: Any, w: Any, strides: Any, padding: Any, first: bool, dilations: Any
) -> Any:
    """Each channel with filters of its own; the result has its channels last."""
    check_dtype(name, x.dtype)
    check_ranks(name, x, w, 2, batch=False)
    check_known(name, w)
    channels, (inputs, multiplier) = x.shape[1 if first else -1], w.shape[-2:]
    if not same_size(channels, inputs):
        raise ShapeError(
            f"{name}: the input {x.type} has {shown(channels)} channels, and the filter {w.type} "
            f"is for {inputs}: it is (height, width, channels, multiplier)"
        )
    flat = w.reshape((*w.shape[:2], 1, inputs * multiplier))
    steps = per_axis(name, "strides", strides, 2, first)
    apart = per_axis(name, "dilations", dilations, 2, first)
    return _last(
        name, to_channels_last(x, first), flat, steps, padding, apart, max(1, inputs), first
    )


@located
def depthwise_conv2d(
    input: Any, filter: Any, strides: Any, padding: Any, data_format: str | None = None,
    dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """Each channel convolved with its own filters: `filter` is (height, width, channels, m), and
    channel c gives the output channels c m to c m + m - 1.

    Other arguments are as for `conv2d`.

    >>> import graphgrad as gg
    >>> x = gg.reshape([1.0, 10.0, 2.0, 20.0], (1, 1, 2, 2))
    >>> w = gg.reshape([1.0, -1.0, 1.0, -1.0], (1, 1, 2, 2))
    >>> gg.nn.depthwise_conv2d(x, w, 1, "VALID").numpy()[0, 0]
    array([[  1.,  -1.,  10., -10.],
           [  2.,  -2.,  20., -20.]], dtype=float32)
    """
    x, w = together((input, filter), "depthwise_conv2d")
    first = channels_first("depthwise_conv2d", data_format, 2)
    y = _depthwise("depthwise_conv2d", x, w, strides, padding, first, dilations)
    return from_channels_last(y, first)


@located
def separable_conv2d(
    input: Any, depthwise_filter: Any, pointwise_filter: Any, strides: Any, padding: Any,
    data_format: str | None = None, dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`depthwise_conv2d`, then a `conv2d` of single pixels with `pointwise_filter`, which is (1, 1,
    channels m, output channels).

    >>> import graphgrad as gg
    >>> x, across = gg.ones((1, 4, 4, 2)), gg.ones((1, 1, 2, 5))
    >>> gg.nn.separable_conv2d(x, gg.ones((3, 3, 2, 1)), across, 1, "SAME").shape
    TensorShape([1, 4, 4, 5])
    """
    own = "separable_conv2d"
    x, w, across = together((input, depthwise_filter, pointwise_filter), own)
    if across.ndim != 4 or across.shape[:2] != (1, 1):
        raise ShapeError(
            f"{own}: the pointwise filter is (1, 1, input channels, output channels), got "
            f"{across.type}"
        )
    first = channels_first(own, data_format, 2)
    y = _depthwise(own, x, w, strides, padding, first, dilations)
    if not same_size(y.shape[-1], across.shape[2]):
        raise ShapeError(
            f"{own}: the depthwise filter {w.type} gives {y.shape[-1]} channels, and the pointwise "
            f"filter {across.type} takes {across.shape[2]}"
        )
    y = _last(own, y, across, (1, 1), "VALID", (1, 1), 1, False)
    return from_channels_last(y, first)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    f"nn.{f.__name__}": f
    for f in (
        atrous_conv2d,
        conv1d,
        conv2d,
        conv3d,
        convolution,
        depthwise_conv2d,
        separable_conv2d,
    )
}
