"""Arguments of what slides a window over an image: convolution and pooling, as TensorFlow has them.

Along an axis of n elements, a window of k taps that are d apart covers e = (k - 1) d + 1 of them.
With stride s there are (n + low + high - e) // s + 1 places. Padding VALID is none; SAME is as much
as makes ceil(n / s) places, with what is odd of it at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Extent, at_least, is_size, shown
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.ops.convolution_reference import Padding, Sizes
from graphgrad.compiler.ops.shapes import as_shape, known

LETTERS = {1: ("W", "HW"), 2: ("HW",), 3: ("DHW",)}  # TensorFlow takes NHWC for one axis too


def channels_first(name: str, data_format: Any, spatial: int) -> bool:
    """Does `data_format` put the channels before the `spatial` axes? None puts them last."""
    if data_format is None:
        return False
    last = [f"N{letters}C" for letters in LETTERS[spatial]]
    first = [f"NC{letters}" for letters in LETTERS[spatial]]
    if data_format not in (*first, *last):
        raise ArgumentError(
            f"{name}: data_format is {last[0]!r} or {first[0]!r} for {spatial} spatial axes, not "
            f"{data_format!r}"
        )
    return data_format in first


def to_channels_last(x: Any, first: bool) -> Any:
    """An image with its channels last."""
    return x.transpose((0, *range(2, x.ndim), 1)) if first else x


def from_channels_last(x: Any, first: bool) -> Any:
    """The inverse of `to_channels_last`."""
    return x.transpose((0, x.ndim - 1, *range(1, x.ndim - 1))) if first else x


def spatial_entries(entries: Sequence[Any], first: bool) -> tuple[Any, Sequence[Any]]:
    """Of an entry an axis of an image: those of the spatial axes, and the two others."""
    if first:
        return entries[2:], entries[:2]
    return entries[1:-1], (entries[0], entries[-1])


def missing_axis(x: Any, wanted: int) -> str:
    """The way out where an image has one axis too few."""
    if x.ndim != wanted - 1:
        return ""
    return (
        "; one image becomes a batch by x[gg.newaxis], and gray images have their channel by "
        "x[..., gg.newaxis]"
    )


def per_axis(name: str, what: str, given: Any, spatial: int, first: bool) -> Sizes:
    """Strides and the like: a number for all spatial axes, or a list of one, of one for each, or of
    one for each axis of the image, those of images and channels being 1."""
    if given is None:
        return (1,) * spatial
    if type(given) is int and given > 0:
        return (given,) * spatial
    try:
        entries: Any = as_shape(given)
    except ArgumentError:
        raise ArgumentError(f"{name}: {what} should be integers, got {_plain(given)!r}") from None
    if len(entries) == spatial + 2:
        entries, others = spatial_entries(entries, first)
        if any(n != 1 for n in others):
            raise ArgumentError(
                f"{name}: {what} {_plain(given)} should be 1 along images and channels"
            )
    elif len(entries) == 1:
        entries *= spatial
    elif len(entries) != spatial:
        raise ArgumentError(
            f"{name}: {what} is a number, or a list of 1, {spatial} or {spatial + 2} numbers for "
            f"{spatial} spatial axes, got {_plain(given)}"
        )
    if not all(isinstance(n, int) and n >= 1 for n in entries):
        raise ArgumentError(f"{name}: {what} should be 1 at least, got {_plain(given)}")
    return tuple(entries)


def _plain(given: Any) -> Any:
    """An argument as an error text shows it."""
    if isinstance(given, Arith):
        return known(given)
    return given.tolist() if isinstance(given, np.ndarray) else given


def paddings(
    name: str, padding: Any, sizes: Sequence[Extent], window: Sizes, strides: Sizes,
    dilations: Sizes, first: bool,
) -> Padding:  # fmt: skip
    """Zeros (low, high) for each spatial axis, from SAME, VALID or pairs for all axes."""
    spatial = len(sizes)
    if isinstance(padding, str):
        word = padding.upper()
        if word == "SAME":
            return tuple(map(_same, sizes, window, strides, dilations))
        if word == "VALID":
            return ((0, 0),) * spatial
    return explicit_paddings(name, padding, spatial, first)


def _same(size: Extent, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """What makes ceil(size / stride) places: the last window reaches size % stride elements beyond
    the last place, or stride where that is 0."""
    extent = (window - 1) * dilation + 1
    if extent <= 1:
        return 0, 0
    # Of an unknown size one asks for its remainder, and for nothing with stride 1.
    reached = next((r for r in range(1, stride) if is_size(size % stride, r)), stride)
    total = max(extent - reached, 0)
    return total // 2, total - total // 2


def explicit_paddings(name: str, padding: Any, spatial: int, first: bool) -> Padding:
    """Pairs for all axes of an image, or for the spatial ones."""
    rows = known(padding) if isinstance(padding, Arith) else padding
    words = f"{name}: padding is 'SAME', 'VALID' or a pair (before, after) for each axis"
    if isinstance(rows, str):
        close = [w for w in ("SAME", "VALID") if len({*w} & {*rows.upper()}) >= len(w) - 1]
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ArgumentError(f"{words}, not {rows!r}{hint}")
    if not isinstance(rows, Sequence | np.ndarray):
        raise ArgumentError(f"{words}, not {rows!r}")
    pairs: Any = [as_shape(row) for row in rows]
    if any(len(p) != 2 for p in pairs) or len(pairs) not in (spatial, spatial + 2):
        raise ArgumentError(
            f"{words}: {spatial + 2} pairs for {spatial} spatial axes, got {_plain(rows)}"
        )
    if len(pairs) == spatial + 2:
        pairs, others = spatial_entries(pairs, first)
        if any(map(any, others)):
            raise ArgumentError(
                f"{name}: padding {_plain(rows)} should be [0, 0] along images and channels"
            )
    if not all(isinstance(n, int) and n >= 0 for p in pairs for n in p):
        raise ArgumentError(f"{name}: padding {_plain(rows)} should not be negative")
    return tuple(pairs)


def check_room(
    name: str, sizes: Sequence[Extent], window: Sizes, strides: Sizes, padding: Padding,
    dilations: Sizes,
) -> None:  # fmt: skip
    """Raise where the number of places would be negative. It may be 0, as in TensorFlow."""
    for axis, (n, k, s, (low, high), d) in enumerate(
        zip(sizes, window, strides, padding, dilations, strict=True)
    ):
        extent = (k - 1) * d + 1
        beyond = extent - low - high - s
        if beyond > 0 and not at_least(n, beyond):
            taps = f"{k} taps" + (f" {d} apart" if d > 1 else "")
            raise ShapeError(
                f"{name}: the window does not fit: along spatial axis {axis} it covers {extent} "
                f"elements ({taps}), and the input has {shown(n)} with {low} + {high} of padding; "
                "padding='SAME' adds what is missing"
            )
