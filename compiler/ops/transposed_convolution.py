"""Transposed convolutions by TensorFlow's names: the gradient of a convolution by its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.compiler.dims import Extent, same_size, shown
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import located, ops
from graphgrad.compiler.ops.convolution import SPATIAL
from graphgrad.compiler.ops.convolution_functions import (
    AXES,
    check_dtype,
    check_known,
    check_ranks,
)
from graphgrad.compiler.ops.convolution_reference import Padding, Sizes, output_sizes
from graphgrad.compiler.ops.join import together
from graphgrad.compiler.ops.shapes import as_shape
from graphgrad.compiler.ops.windows import (
    channels_first,
    explicit_paddings,
    from_channels_last,
    paddings,
    per_axis,
    spatial_entries,
    to_channels_last,
)
from graphgrad.compiler.types import show_shape


def _transposed(
    name: str, g: Any, w: Any, output_shape: Any, strides: Any, padding: Any, data_format: Any,
    dilations: Any, spatial: int,
) -> Any:  # fmt: skip
    """The gradient of a convolution by its input, at `g`."""
    check_dtype(name, g.dtype)
    first = channels_first(name, data_format, spatial)
    check_ranks(name, g, w, spatial, batch=False)
    check_known(name, w)
    inputs = g.shape[1 if first else -1]
    if not same_size(inputs, w.shape[-1]):
        hint = "; its last two axes are the other way round than for a convolution"
        raise ShapeError(
            f"{name}: the input {g.type} has {shown(inputs)} channels, and the filter {w.type} "
            f"takes {w.shape[-1]}: it is ({AXES[spatial]}, output channels, input channels)"
            f"{hint if inputs == w.shape[-2] else ''}"
        )
    g = to_channels_last(g, first)
    kernel = w.shape[:-2]
    steps = per_axis(name, "strides", strides, spatial, first)
    apart = per_axis(name, "dilations", dilations, spatial, first)
    sizes, channels = _output_sizes(name, output_shape, g, w, steps, padding, apart, spatial, first)
    own = w.shape[-2]
    if own == 0 or channels % own or w.shape[-1] % (channels // own):
        raise ShapeError(
            f"{name}: an output of {channels} channels does not fit the filter {w.type}, which is "
            f"({AXES[spatial]}, output channels, input channels)"
        )
    pairs = paddings(name, padding, sizes, kernel, steps, apart, first)
    places = output_sizes(sizes, kernel, steps, pairs, apart)
    if not all(map(same_size, places, g.shape[1:-1])):
        raise ShapeError(
            f"{name}: an output of {show_shape(sizes)} belongs to an input of "
            f"{show_shape(places)} with these strides and this padding, not "
            f"{show_shape(g.shape[1:-1])}"
        )
    x = ops["conv_input_gradient"](
        g, w, strides=steps, padding=pairs, dilations=apart, groups=channels // own,
        input_size=sizes,
    )  # fmt: skip
    return from_channels_last(x, first)


def _output_sizes(
    name: str, output_shape: Any, g: Any, w: Any, strides: Sizes, padding: Any, dilations: Sizes,
    spatial: int, first: bool,
) -> tuple[tuple[Extent, ...], int]:  # fmt: skip
    """The spatial sizes and the channels of the output."""
    if output_shape is None:
        sizes = _usual_sizes(name, g, w, strides, padding, dilations, first)
        return sizes, w.shape[-2]
    given = as_shape(output_shape)
    if len(given) == spatial:
        return given, w.shape[-2]
    if len(given) != spatial + 2:
        raise ArgumentError(
            f"{name}: output_shape has the {spatial + 2} sizes of the output or the {spatial} "
            f"spatial ones, got {show_shape(given)}"
        )
    spatial_sizes, (images, channels) = spatial_entries(given, first)
    if not (images == -1 or same_size(images, g.shape[0])):
        raise ShapeError(
            f"{name}: output_shape {show_shape(given)} has {shown(images)} images, and the input "
            f"{g.type} {shown(g.shape[0])}"
        )
    return tuple(spatial_sizes), channels


def _usual_sizes(
    name: str, g: Any, w: Any, strides: Sizes, padding: Any, dilations: Sizes, first: bool
) -> tuple[Extent, ...]:
    """Of the spatial sizes that belong to the input, Keras's choice."""
    sizes = g.shape[1:-1]
    word = padding.upper() if isinstance(padding, str) else ""
    if word == "SAME":
        return tuple(n * s for n, s in zip(sizes, strides, strict=True))
    pairs: Padding = ((0, 0),) * len(sizes)
    if word != "VALID":
        pairs = explicit_paddings(name, padding, len(sizes), first)
    return tuple(
        (n - 1) * s + max((k - 1) * d + 1, s) - sum(pair)
        for n, s, k, d, pair in zip(sizes, strides, w.shape[:-2], dilations, pairs, strict=True)
    )


@located
def conv_transpose(
    input: Any, filters: Any, output_shape: Any, strides: Any, padding: Any = "SAME",
    data_format: str | None = None, dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """Transposed convolution over 1, 2 or 3 spatial axes, as many as the filter has.

    >>> import graphgrad as gg
    >>> x, w = gg.ones((1, 3, 1)), gg.reshape([1.0, 2.0], (2, 1, 1))
    >>> gg.nn.conv_transpose(x, w, output_shape=[6], strides=2).numpy().ravel()
    array([1., 2., 1., 2., 1., 2.], dtype=float32)
    """
    own = "conv_transpose"
    g, w = together((input, filters), own)
    if w.ndim - 2 not in SPATIAL:
        raise ShapeError(
            f"{own}: the filter has 1 to 3 spatial axes, then output channels and input channels, "
            f"got {w.type}"
        )
    return _transposed(
        own, g, w, output_shape, strides, padding, data_format, dilations, w.ndim - 2
    )


@located
def conv1d_transpose(
    input: Any, filters: Any, output_shape: Any, strides: Any, padding: Any = "SAME",
    data_format: str | None = "NWC", dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`conv2d_transpose` along one spatial axis.

    >>> import graphgrad as gg
    >>> gg.nn.conv1d_transpose(gg.ones((1, 3, 2)), gg.ones((3, 5, 2)), None, 2).shape
    TensorShape([1, 6, 5])
    """
    own = "conv1d_transpose"
    g, w = together((input, filters), own)
    return _transposed(own, g, w, output_shape, strides, padding, data_format, dilations, 1)


@located
def conv2d_transpose(
    input: Any, filters: Any, output_shape: Any, strides: Any, padding: Any = "SAME",
    data_format: str | None = "NHWC", dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """The transpose of `conv2d` as a linear map: its gradient by the image, taken at `input`.

    `filters` is (height, width, output channels, input channels). `output_shape` has the sizes of
    the output, or only its height and width; several may lead to the same input size when strides
    are above 1. None stands for size * stride with padding SAME, and with VALID for
    (size - 1) * stride + max(extent of the filter, stride), as in Keras. A shape that does not
    belong to the input raises ShapeError.

    >>> import graphgrad as gg
    >>> x = gg.reshape([1.0, 2.0, 3.0, 4.0], (1, 2, 2, 1))
    >>> y = gg.nn.conv2d_transpose(x, gg.ones((2, 2, 1, 1)), [1, 4, 4, 1], strides=2)
    >>> y.numpy()[0, :, :, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.],
           [3., 3., 4., 4.],
           [3., 3., 4., 4.]], dtype=float32)
    """
    own = "conv2d_transpose"
    g, w = together((input, filters), own)
    return _transposed(own, g, w, output_shape, strides, padding, data_format, dilations, 2)


@located
def conv3d_transpose(
    input: Any, filters: Any, output_shape: Any, strides: Any, padding: Any = "SAME",
    data_format: str | None = "NDHWC", dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`conv2d_transpose` along three spatial axes.

    >>> import graphgrad as gg
    >>> gg.nn.conv3d_transpose(gg.ones((1, 2, 2, 2, 3)), gg.ones((3, 3, 3, 4, 3)), None, 2).shape
    TensorShape([1, 4, 4, 4, 4])
    """
    own = "conv3d_transpose"
    g, w = together((input, filters), own)
    return _transposed(own, g, w, output_shape, strides, padding, data_format, dilations, 3)


@located
def atrous_conv2d_transpose(
    value: Any, filters: Any, output_shape: Any, rate: Any, padding: Any, name: str | None = None
) -> Any:
    """The transpose of `atrous_conv2d`.

    >>> import graphgrad as gg
    >>> x, w = gg.ones((1, 3, 3, 1)), gg.ones((2, 2, 1, 1))
    >>> gg.nn.atrous_conv2d_transpose(x, w, [1, 5, 5, 1], 2, "VALID").shape
    TensorShape([1, 5, 5, 1])
    """
    own = "atrous_conv2d_transpose"
    g, w = together((value, filters), own)
    return _transposed(own, g, w, output_shape, 1, padding, "NHWC", rate, 2)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    f"nn.{f.__name__}": f
    for f in (
        atrous_conv2d_transpose,
        conv1d_transpose,
        conv2d_transpose,
        conv3d_transpose,
        conv_transpose,
    )
}
