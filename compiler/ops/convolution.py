"""Convolution as one trilinear form, and the three ops that leave one of its arguments open.

    form(x, w, g) = sum over n, o, k, i, j of  x[n, o s + k d - lo, i] w[k, i, j] g[n, o, j]

with images n, places o of the output, taps k of the filter, channels i and j of input and output,
strides s, dilations d and the padding lo. `conv` is its derivative by g, `conv_input_gradient` that
by x and `conv_filter_gradient` that by w. So each is bilinear, and the derivatives of each are the
other two: the set is closed under differentiation.

Channels are last: x is [images, *sizes, inputs], w [*taps, inputs // groups, outputs], and y and g
are [images, *places, outputs]. With several groups the channels of x and of y fall into as many
equal runs, and outputs of a run see its inputs alone. Padding is a pair (low, high) a spatial axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphgrad.compiler.dims import Extent, same_size, shown
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.families import Library, add_all
from graphgrad.compiler.op import Attrs, Samples, ops
from graphgrad.compiler.ops.convolution_lanes import batch_rule
from graphgrad.compiler.ops.convolution_reference import (
    Padding,
    Sizes,
    convolve,
    filter_gradient,
    input_gradient,
    output_sizes,
)
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import TensorType, show_shape, tensor_type

SPATIAL = (1, 2, 3)  # how many spatial axes there may be
REAL = "convolve gg.math.real and gg.math.imag of them apart"

# -- types


def _check(
    name: str, a: TensorType, b: TensorType, strides: Sizes, padding: Padding, dilations: Sizes,
    groups: int,
) -> None:  # fmt: skip
    spatial = a.ndim - 2
    if spatial not in SPATIAL or b.ndim != a.ndim:
        raise ShapeError(
            f"{name}: takes two tensors with 1 to 3 spatial axes and two others, got {a} and {b}"
        )
    if a.dtype is not b.dtype or a.dtype.is_bool:
        raise DTypeError(f"{name}: takes numbers of one dtype, got {a} and {b}")
    if not len(strides) == len(padding) == len(dilations) == spatial:
        raise ArgumentError(
            f"{name}: strides {strides}, padding {padding} and dilations {dilations} should have "
            f"an entry for each of the {spatial} spatial axes of {a}"
        )
    if min((*strides, *dilations, groups)) < 1 or min(map(min, padding)) < 0:
        raise ArgumentError(
            f"{name}: strides {strides}, dilations {dilations} and groups {groups} are 1 at least, "
            f"and padding {padding} is not negative"
        )


def _taps(name: str, sizes: tuple[Extent, ...]) -> Sizes:
    """The spatial sizes of the filter."""
    known = tuple(n for n in sizes if isinstance(n, int) and n > 0)
    if len(known) != len(sizes):
        raise ShapeError(
            f"{name}: the spatial sizes of the filter must be known and at least 1, got "
            f"{show_shape(sizes)}"
        )
    return known


def _check_channels(name: str, x: Extent, w: tuple[Extent, ...], groups: int) -> None:
    """Do the channels of the input and of the filter (inputs // groups, outputs) fit?"""
    own, outputs = w
    if not same_size(x, own * groups):
        raise ShapeError(
            f"{name}: the input has {shown(x)} channels, and {groups} groups of {shown(own)} are "
            f"{shown(own * groups)}"
        )
    if isinstance(outputs, int) and outputs % groups:
        raise ShapeError(f"{name}: {outputs} output channels do not fall into {groups} groups")


def _check_places(
    name: str, g: TensorType, input_size: tuple[Extent, ...], kernel: Sizes, strides: Sizes,
    padding: Padding, dilations: Sizes,
) -> None:  # fmt: skip
    wanted = output_sizes(input_size, kernel, strides, padding, dilations)
    if not all(map(same_size, g.shape[1:-1], wanted)):
        raise ShapeError(
            f"{name}: an input of {show_shape(input_size)} gives an output of "
            f"{show_shape(wanted)}, not {show_shape(g.shape[1:-1])}"
        )


def _conv_type(
    x: TensorType, w: TensorType, strides: Sizes, padding: Padding, dilations: Sizes, groups: int
) -> TensorType:
    _check("conv", x, w, strides, padding, dilations, groups)
    kernel = _taps("conv", w.shape[:-2])
    _check_channels("conv", x.shape[-1], w.shape[-2:], groups)
    out = output_sizes(x.shape[1:-1], kernel, strides, padding, dilations)
    return tensor_type((x.shape[0], *out, w.shape[-1]), x.dtype)


def _input_type(
    g: TensorType, w: TensorType, strides: Sizes, padding: Padding, dilations: Sizes, groups: int,
    input_size: tuple[Extent, ...],
) -> TensorType:  # fmt: skip
    name = "conv_input_gradient"
    _check(name, g, w, strides, padding, dilations, groups)
    kernel = _taps(name, w.shape[:-2])
    if not same_size(g.shape[-1], w.shape[-1]):
        raise ShapeError(
            f"{name}: the gradient {g} and the filter {w} differ in their last axis, the output "
            "channels"
        )
    inputs = w.shape[-2] * groups
    _check_channels(name, inputs, w.shape[-2:], groups)
    _check_places(name, g, input_size, kernel, strides, padding, dilations)
    return tensor_type((g.shape[0], *input_size, inputs), g.dtype)


def _filter_type(
    x: TensorType, g: TensorType, strides: Sizes, padding: Padding, dilations: Sizes, groups: int,
    filter_size: Sizes,
) -> TensorType:  # fmt: skip
    name = "conv_filter_gradient"
    _check(name, x, g, strides, padding, dilations, groups)
    kernel = _taps(name, filter_size)
    if not same_size(x.shape[0], g.shape[0]):
        raise ShapeError(f"{name}: the input {x} and the gradient {g} differ in their first axis")
    own = x.shape[-1] // groups
    _check_channels(name, x.shape[-1], (own, g.shape[-1]), groups)
    _check_places(name, g, x.shape[1:-1], kernel, strides, padding, dilations)
    return tensor_type((*kernel, own, g.shape[-1]), x.dtype)


# -- derivatives


def _conv(x: Any, w: Any, attrs: Attrs) -> Any:
    return ops["conv"](x, w, **_shared(attrs))


def _by_input(g: Any, w: Any, x: Any, attrs: Attrs) -> Any:
    return ops["conv_input_gradient"](g, w, **_shared(attrs), input_size=tuple(x.shape[1:-1]))


def _by_filter(x: Any, g: Any, w: Any, attrs: Attrs) -> Any:
    return ops["conv_filter_gradient"](x, g, **_shared(attrs), filter_size=tuple(w.shape[:-2]))


def _shared(attrs: Attrs) -> Attrs:
    return {k: attrs[k] for k in ("strides", "padding", "dilations", "groups")}


def _conv_vjp(g: Any, y: Any, x: Any, w: Any, needs: tuple[bool, ...], **attrs: Any) -> Any:
    return (
        _by_input(g, w, x, attrs) if needs[0] else None,
        _by_filter(x, g, w, attrs) if needs[1] else None,
    )


def _input_vjp(c: Any, x: Any, g: Any, w: Any, needs: tuple[bool, ...], **attrs: Any) -> Any:
    return (
        _conv(c, w, attrs) if needs[0] else None,
        _by_filter(c, g, w, attrs) if needs[1] else None,
    )


def _filter_vjp(c: Any, w: Any, x: Any, g: Any, needs: tuple[bool, ...], **attrs: Any) -> Any:
    return (
        _by_input(g, c, x, attrs) if needs[0] else None,
        _conv(x, c, attrs) if needs[1] else None,
    )


def _jvp(name: str) -> Any:
    """Of a bilinear op: its tangent in each argument, the other one as it is."""

    def jvp(ts: tuple[Any, ...], z: Any, a: Any, b: Any, **attrs: Any) -> Any:
        return add_all(
            [
                None if ts[0] is None else ops[name](ts[0], b, **attrs),
                None if ts[1] is None else ops[name](a, ts[1], **attrs),
            ]
        )

    return jvp


# -- samples

# images, sizes, channels in and out, taps, strides, padding, dilations, groups
_GEOMETRIES: tuple[tuple[Any, ...], ...] = (
    (2, (5,), 3, 2, (3,), (1,), ((1, 1),), (1,), 1),
    (1, (7,), 2, 4, (3,), (2,), ((0, 3),), (2,), 2),
    (2, (4, 3), 1, 3, (3, 2), (1, 1), ((1, 1), (0, 1)), (1, 1), 1),
    (1, (5, 6), 4, 2, (2, 3), (2, 3), ((1, 0), (2, 2)), (1, 2), 2),
    (2, (4, 4), 3, 6, (3, 3), (2, 1), ((0, 1), (1, 1)), (1, 1), 3),
    (1, (3, 3), 2, 1, (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
    (1, (2, 2), 1, 2, (4, 3), (1, 2), ((2, 1), (1, 1)), (1, 1), 1),
    (1, (3, 2, 4), 2, 2, (2, 1, 3), (1, 2, 1), ((0, 1), (0, 0), (1, 1)), (1, 1, 2), 1),
    (0, (3,), 2, 2, (2,), (1,), ((0, 0),), (1,), 1),
    (2, (2,), 1, 2, (4,), (1,), ((0, 0),), (1,), 1),
)  # fmt: skip


def _geometries() -> Iterator[tuple[dict[str, Sizes], dict[str, Sizes], Attrs]]:
    """Shapes of the arguments of the form, spatial sizes, and attributes."""
    for n, sizes, inputs, outputs, taps, strides, padding, dilations, groups in _GEOMETRIES:
        out: Any = output_sizes(sizes, taps, strides, padding, dilations)
        shapes = {
            "x": (n, *sizes, inputs),
            "w": (*taps, inputs // groups, outputs),
            "g": (n, *out, outputs),
        }
        attrs = {"strides": strides, "padding": padding, "dilations": dilations, "groups": groups}
        yield shapes, {"input_size": sizes, "filter_size": taps}, attrs


def _cases(a: str, b: str, extra: str | None) -> Any:
    def cases(rng: np.random.Generator, dtype: Any) -> Any:
        for shapes, sizes, attrs in _geometries():
            xs = [rng.uniform(-2, 2, shapes[k]).astype(dtype) for k in (a, b)]
            yield tuple(xs), attrs | ({extra: sizes[extra]} if extra else {})

    return cases


def _terms(
    out: Sizes, sizes: Sizes, taps: Sizes, strides: Sizes, padding: Padding, dilations: Sizes
) -> Iterator[tuple[Any, Any, Any]]:
    """The index of each window, of each of its taps, and of the element of the input there."""
    for place in np.ndindex(*out):
        for tap in np.ndindex(*taps):
            at = [
                o * s + k * d - lo
                for o, s, k, d, (lo, _) in zip(place, strides, tap, dilations, padding, strict=True)
            ]
            if all(0 <= i < n for i, n in zip(at, sizes, strict=True)):
                yield (slice(None), *place), tap, (slice(None), *at)


def _split(x: Array, groups: int) -> Array:
    return x.reshape((*x.shape[:-1], groups, x.shape[-1] // groups))


def _conv_oracle(x: Array, w: Array, groups: int, **attrs: Any) -> Array:
    taps, sizes = w.shape[:-2], x.shape[1:-1]
    out: Any = output_sizes(sizes, taps, **attrs)
    y = np.zeros((x.shape[0], *out, w.shape[-1]), x.dtype)
    for o, k, i in _terms(out, sizes, taps, **attrs):
        y[o] += np.einsum("ngi,igj->ngj", _split(x[i], groups), _split(w[k], groups)).reshape(
            y[o].shape
        )
    return y


def _input_oracle(g: Array, w: Array, groups: int, input_size: Sizes, **attrs: Any) -> Array:
    x = np.zeros((g.shape[0], *input_size, w.shape[-2] * groups), g.dtype)
    for o, k, i in _terms(g.shape[1:-1], input_size, w.shape[:-2], **attrs):
        x[i] += np.einsum("ngj,igj->ngi", _split(g[o], groups), _split(w[k], groups)).reshape(
            x[i].shape
        )
    return x


def _filter_oracle(x: Array, g: Array, groups: int, filter_size: Sizes, **attrs: Any) -> Array:
    w = np.zeros((*filter_size, x.shape[-1] // groups, g.shape[-1]), x.dtype)
    for o, k, i in _terms(g.shape[1:-1], x.shape[1:-1], filter_size, **attrs):
        w[k] += np.einsum("ngi,ngj->igj", _split(x[i], groups), _split(g[o], groups)).reshape(
            w[k].shape
        )
    return w


DTYPES = ("float32", "float64", "bfloat16", "float16", "int32")
_ONE: Attrs = {"strides": (1,), "padding": ((0, 0),), "dilations": (1,), "groups": 1}


def _ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


conv = Library(
    name="conv",
    public="",
    routine="conv",
    instead_of_complex=REAL,
    type=_conv_type,
    ref=convolve,
    vjp=_conv_vjp,
    jvp=_jvp("conv"),
    batch=batch_rule("conv", "x", "w", "g"),
    samples=Samples(
        cases=_cases("x", "w", None),
        dtypes=DTYPES,
        oracle=_conv_oracle,
        ulp=16.0,
        errors=(
            (lambda op: op(_ones(1, 4, 3), _ones(2, 2, 1), **_ONE),
             "conv: the input has 3 channels, and 1 groups of 2 are 2"),
            (lambda op: op(_ones(1, 4, 4), _ones(2, 2, 3), **(_ONE | {"groups": 2})),
             "conv: 3 output channels do not fall into 2 groups"),
            (lambda op: op(_ones(1, 4), _ones(2, 2), **_ONE),
             "conv: takes two tensors with 1 to 3 spatial axes and two others, got f32[1, 4]"),
            (lambda op: op(_ones(1, 4, 2), _ones(2, 2, 1), **(_ONE | {"strides": (0,)})),
             "conv: strides (0,), dilations (1,) and groups 1 are 1 at least"),
        ),
    ),
    doc="Products of windows of the input with a filter, summed over taps and input channels.",
)  # fmt: skip

conv_input_gradient = Library(
    name="conv_input_gradient",
    public="",
    routine="conv_input_gradient",
    instead_of_complex=REAL,
    type=_input_type,
    ref=input_gradient,
    vjp=_input_vjp,
    jvp=_jvp("conv_input_gradient"),
    batch=batch_rule("conv_input_gradient", "g", "w", "x"),
    samples=Samples(
        cases=_cases("g", "w", "input_size"),
        dtypes=DTYPES,
        oracle=_input_oracle,
        ulp=16.0,
        errors=(
            (lambda op: op(_ones(1, 4, 3), _ones(2, 2, 3), **_ONE, input_size=(4,)),
             "conv_input_gradient: an input of [4] gives an output of [3], not [4]"),
            (lambda op: op(_ones(1, 4, 3), _ones(2, 2, 1), **_ONE, input_size=(5,)),
             "conv_input_gradient: the gradient f32[1, 4, 3] and the filter f32[2, 2, 1] differ"),
        ),
    ),
    doc="The derivative of `conv` by its input: transposed convolution.",
)  # fmt: skip

conv_filter_gradient = Library(
    name="conv_filter_gradient",
    public="",
    routine="conv_filter_gradient",
    instead_of_complex=REAL,
    type=_filter_type,
    ref=filter_gradient,
    vjp=_filter_vjp,
    jvp=_jvp("conv_filter_gradient"),
    batch=batch_rule("conv_filter_gradient", "x", "g", "w"),
    samples=Samples(
        cases=_cases("x", "g", "filter_size"),
        dtypes=DTYPES,
        oracle=_filter_oracle,
        ulp=16.0,
        errors=(
            (lambda op: op(_ones(2, 4, 1), _ones(1, 3, 1), **_ONE, filter_size=(2,)),
             "conv_filter_gradient: the input f32[2, 4, 1] and the gradient f32[1, 3, 1] differ"),
        ),
    ),
    doc="The derivative of `conv` by its filter.",
)  # fmt: skip
