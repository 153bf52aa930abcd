"""Windows that slide over the spatial axes of an array: their sizes, padding and elements.

Element k of window o along an axis lies at index o * stride + k * dilation - low, where `low`
places of padding come before the array's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Extent, at_least, same_size, shown
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.ops.shapes import known
from graphgrad.compiler.types import Shape, TensorType

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def spread(window: int, dilation: int) -> int:
    """How many places lie from the first element of a window to its last, both counted."""
    return (window - 1) * dilation + 1


def window_count(
    size: Extent, window: int, stride: int, padding: tuple[int, int], dilation: int
) -> Extent:
    """How many windows fit along an axis."""
    free = size + sum(padding) - spread(window, dilation)
    if isinstance(free, int):
        return max(free // stride + 1, 0)
    return free // stride + 1 if at_least(free, 0) else 0


def window_counts(
    sizes: Shape, window: Sizes, strides: Sizes, padding: Pairs, dilations: Sizes
) -> Shape:
    """`window_count` along each axis."""
    each = zip(sizes, window, strides, padding, dilations, strict=True)
    return tuple(itertools.starmap(window_count, each))


def check_windows(
    op: str, x: TensorType, window: Sizes, strides: Sizes, padding: Pairs, dilations: Sizes
) -> None:
    """Raise unless there is a positive size, stride and dilation for each spatial axis."""
    rank = x.ndim - 2
    if rank < 1:
        raise ShapeError(f"{op}: takes a batch axis, spatial axes and channels, got {x}")
    given = {"window": window, "strides": strides, "dilations": dilations}
    for name, values in given.items():
        if len(values) != rank or any(v < 1 for v in values):
            raise ArgumentError(
                f"{op}: {name} of {x} are {rank} numbers of at least 1, got {list(values)}"
            )
    if len(padding) != rank or any(n < 0 for pair in padding for n in pair):
        raise ArgumentError(
            f"{op}: paddings of {x} are {rank} pairs (before, after), none negative, got "
            f"{[list(p) for p in padding]}"
        )


def reach(
    size: int, count: int, k: int, stride: int, low: int, dilation: int
) -> tuple[slice, slice]:
    """The windows whose element `k` lies in the array, and where these elements lie."""
    first = k * dilation - low
    start = max(-(first // stride), 0)
    stop = max(min((size - 1 - first) // stride + 1, count), start)
    begin = start * stride + first
    return slice(start, stop), slice(begin, max(begin + (stop - start - 1) * stride + 1, 0), stride)


def elements(
    sizes: Sizes, counts: Sizes, window: Sizes, strides: Sizes, padding: Pairs, dilations: Sizes
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """For each element of a window: the keys of the windows that have it, and of where it lies."""
    axes = [
        [reach(n, m, k, stride, pair[0], dilation) for k in range(w)]
        for n, m, w, stride, pair, dilation in zip(
            sizes, counts, window, strides, padding, dilations, strict=True
        )
    ]
    whole = slice(None)
    for chosen in itertools.product(*axes):
        to, source = zip(*chosen, strict=True)
        yield (whole, *to), (whole, *source)


# -- arguments as users give them

FORMATS = ("NWC", "NHWC", "NDHWC", "NCW", "NCHW", "NCDHW")


def channels_first(op: str, data_format: Any, rank: int) -> bool:
    """Do the channels come before the `rank` spatial axes? None: they come last."""
    if data_format is None:
        return False
    fitting = [f for f in FORMATS if len(f) == rank + 2]
    if str(data_format) not in fitting:
        words = " or ".join(map(repr, fitting))
        raise ArgumentError(
            f"{op}: data_format for {rank} spatial axes is {words}, not {data_format!r}"
        )
    return str(data_format)[1] == "C"


def spatial(op: str, name: str, value: Any, rank: int, first: bool) -> Sizes:
    """A number an axis of an argument that is one number, or a list of 1, `rank` or rank + 2."""
    if isinstance(value, Arith):
        value = known(value)
    given = list(value) if hasattr(value, "__iter__") else [value]
    if len(given) not in (1, rank, rank + 2):
        raise ArgumentError(
            f"{op}: {name} is one number, or {rank} (an axis each), or {rank + 2} with batch and "
            f"channels, got {value}"
        )
    if len(given) == rank + 2:
        outer, inner = (given[:2], given[2:]) if first else ([given[0], given[-1]], given[1:-1])
        if any(n != 1 for n in outer):
            raise ArgumentError(
                f"{op}: {name} is 1 for batch and channels, got {value}; to pool over channels, "
                "reshape them to groups and reduce"
            )
        given = inner
    if any(int(n) != n or n < 1 for n in given):
        raise ArgumentError(f"{op}: {name} is made of integers of at least 1, got {value}")
    return tuple(int(n) for n in given) * (rank if len(given) == 1 else 1)


def resolved(
    op: str, padding: Any, sizes: Shape, window: Sizes, strides: Sizes, dilations: Sizes,
    first: bool,
) -> Pairs:  # fmt: skip
    """Pairs (before, after) from "SAME", "VALID" or pairs, one an axis or with batch and channels.

    SAME: ceil(size / stride) windows, what they lack split in two, the larger half behind.
    """
    if isinstance(padding, str):
        word = padding.upper()
        if word == "VALID":
            return tuple((0, 0) for _ in sizes)
        if word != "SAME":
            raise ArgumentError(
                f'{op}: padding is "SAME", "VALID" or pairs of numbers, not {padding!r}'
            )
        each = zip(sizes, window, strides, dilations, strict=True)
        lacking = [_lack(n, spread(k, d), s) for n, k, s, d in each]
        return tuple((n // 2, n - n // 2) for n in lacking)
    rank = len(sizes)
    try:
        pairs = [(int(a), int(b)) for a, b in padding]
    except (TypeError, ValueError):
        raise ArgumentError(
            f'{op}: padding is "SAME", "VALID" or pairs of numbers, not {padding!r}'
        ) from None
    if len(pairs) == rank + 2:
        outer, pairs = (pairs[:2], pairs[2:]) if first else (pairs[:: rank + 1], pairs[1:-1])
        if any(pair != (0, 0) for pair in outer):
            raise ArgumentError(f"{op}: batch and channels are not padded, got {padding}")
    if len(pairs) != rank or any(n < 0 for pair in pairs for n in pair):
        raise ArgumentError(
            f"{op}: padding has {rank} pairs (an axis each), or {rank + 2} with batch and "
            f"channels, none negative, got {padding}"
        )
    return tuple(pairs)


def _lack(size: Extent, window: int, stride: int) -> int:
    """How many places beyond an axis ceil(size / stride) windows take.

    Of an unknown size the remainder by the stride becomes a guard of the trace.
    """
    if stride == 1:
        return window - 1
    rest = next(r for r in range(stride) if same_size(size % stride, r))
    return max(window - (rest or stride), 0)


def check_reach(
    op: str, x: TensorType, sizes: Shape, window: Sizes, padding: Pairs, dilations: Sizes
) -> None:
    """Raise where no window fits, or where one may lie in the padding alone."""
    for axis, (n, k, pair, d) in enumerate(zip(sizes, window, padding, dilations, strict=True)):
        reach = spread(k, d)
        if max(pair) >= reach:
            raise ShapeError(
                f"{op}: the padding {list(pair)} of spatial axis {axis} is not smaller than the "
                f"window of {reach}: a window would see no element of {x}"
            )
        if not at_least(n + sum(pair), reach):
            padded = f" with its padding {list(pair)}" if any(pair) else ""
            raise ShapeError(
                f"{op}: a window of {reach} does not fit into the {shown(n)} places of spatial "
                f'axis {axis} of {x}{padded}; padding="SAME" takes what is there'
            )
