"""Convolutions and their gradients by NumPy: products of matrices over blocks of windows.

The windows of a block are copied out as the rows of a matrix (im2col), which holds a bounded number
of bytes: a block is some images, or some rows of one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from graphgrad.compiler.dims import Extent, at_least
from graphgrad.compiler.ops.special import Array, in_float32

Sizes = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]  # zeros before and after, a pair a spatial axis

BLOCK_BYTES = 1 << 22  # of copied windows: about what the caches hold


def output_size(
    size: Extent, kernel: int, stride: int, pair: tuple[int, int], dilation: int
) -> Extent:
    """How many windows fit: none where the filter is larger than the padded input."""
    beyond = (kernel - 1) * dilation + 1 - sum(pair)  # elements that only the input can supply
    if beyond > stride and not at_least(size, beyond - stride):
        return 0
    return (size - beyond) // stride + 1


def output_sizes(
    sizes: Sequence[Extent], kernel: Sizes, strides: Sizes, padding: Padding, dilations: Sizes
) -> tuple[Extent, ...]:
    """`output_size` of each spatial axis."""
    return tuple(map(output_size, sizes, kernel, strides, padding, dilations))


def _windows(padded: Array, out: Sizes, kernel: Sizes, strides: Sizes, dilations: Sizes) -> Array:
    """The view [n, *place, *tap, channel] of all windows."""
    n, *steps, c = padded.strides
    by_place = (a * s for a, s in zip(steps, strides, strict=True))
    by_tap = (a * d for a, d in zip(steps, dilations, strict=True))
    shape = (padded.shape[0], *out, *kernel, padded.shape[-1])
    return np.ndarray(shape, padded.dtype, padded, 0, (n, *by_place, *by_tap, c))


def _inside(sizes: Sequence[int], padding: Padding) -> tuple[slice, ...]:
    """Where the input lies within its padding."""
    spatial = (slice(lo, lo + n) for n, (lo, _) in zip(sizes, padding, strict=True))
    return (slice(None), *spatial)


def _padded_shape(x_shape: Sequence[int], padding: Padding) -> Sizes:
    n, *sizes, c = x_shape
    return (n, *(m + lo + hi for m, (lo, hi) in zip(sizes, padding, strict=True)), c)


def _padded(x: Array, padding: Padding) -> Array:
    if not any(map(any, padding)):
        return np.ascontiguousarray(x)
    z = np.zeros(_padded_shape(x.shape, padding), x.dtype)
    z[_inside(x.shape[1:-1], padding)] = x
    return z


def _blocks(windows: Array) -> Iterator[tuple[slice, slice]]:
    """Images and rows, so that the windows of a block are few bytes."""
    count, rows = windows.shape[:2]
    row = max(1, prod(windows.shape[2:]) * windows.itemsize)
    at_once = BLOCK_BYTES // row
    if rows <= at_once:
        step = at_once // rows
        for i in range(0, count, step):
            yield slice(i, i + step), slice(0, rows)
        return
    step = max(1, at_once)
    for i, j in itertools.product(range(count), range(0, rows, step)):
        yield slice(i, i + 1), slice(j, j + step)


def _by_groups(rows: Array, groups: int) -> Array:
    """[row, ..., channel] as [group, row, ... and channel of the group]."""
    if groups == 1:
        return rows.reshape((1, rows.shape[0], -1))
    split = rows.reshape((*rows.shape[:-1], groups, -1))
    return np.moveaxis(split, -2, 0).reshape((groups, rows.shape[0], -1))


def _filters(w: Array, groups: int) -> Array:
    """[group, tap and channel of the group, output channel of the group]."""
    return w.reshape((-1, groups, w.shape[-1] // groups)).transpose((1, 0, 2))


def _joined(by_group: Array) -> Array:
    """[group, row, channel of the group] as [row, channel]."""
    return by_group.transpose((1, 0, 2)).reshape((by_group.shape[1], -1))


def _convolve(
    x: Array, w: Array, strides: Sizes, padding: Padding, dilations: Sizes, groups: int
) -> Array:
    kernel, (own, count) = w.shape[:-2], w.shape[-2:]
    out: Any = output_sizes(x.shape[1:-1], kernel, strides, padding, dilations)
    y = np.zeros((x.shape[0], *out, count), x.dtype)
    if 0 in y.shape or 0 in w.shape:
        return y
    windows = _windows(_padded(x, padding), out, kernel, strides, dilations)
    matrices = _filters(w, groups)
    for images, rows in _blocks(windows):
        block = windows[images, rows]
        target = y[images, rows]
        if own == 1 and groups > 1:
            wide = target.reshape((*target.shape[:-1], groups, -1))
            for tap in np.ndindex(*kernel):
                taken = block[(..., *tap, slice(None))]
                wide += taken[..., None] * w[tap].reshape((groups, -1))
            continue
        places = prod(target.shape[:-1])
        lines = _by_groups(block.reshape((places, prod(kernel), -1)), groups)
        target[...] = _joined(np.matmul(lines, matrices)).reshape(target.shape)
    return y


def _input_gradient(
    g: Array, w: Array, strides: Sizes, padding: Padding, dilations: Sizes, groups: int,
    input_size: Sizes,
) -> Array:  # fmt: skip
    kernel, own = w.shape[:-2], w.shape[-2]
    x_shape = (g.shape[0], *input_size, own * groups)
    padded = np.zeros(_padded_shape(x_shape, padding), g.dtype)
    if 0 not in g.shape and 0 not in w.shape:
        out = g.shape[1:-1]
        windows = _windows(padded, out, kernel, strides, dilations)
        matrices = _filters(w, groups).swapaxes(-1, -2)
        for images, rows in _blocks(windows):
            block, taken = windows[images, rows], g[images, rows]
            if own == 1 and groups > 1:
                wide = taken.reshape((*taken.shape[:-1], groups, -1))
                for tap in np.ndindex(*kernel):
                    block[(..., *tap, slice(None))] += np.einsum(
                        "...gm,gm->...g", wide, w[tap].reshape((groups, -1))
                    )
                continue
            places = prod(taken.shape[:-1])
            lines = np.matmul(_by_groups(taken.reshape((places, -1)), groups), matrices)
            spread = lines.reshape((groups, *taken.shape[:-1], *kernel, own))
            for tap in np.ndindex(*kernel):  # for one tap no two windows meet
                at_tap = np.moveaxis(spread[(..., *tap, slice(None))], 0, -2)
                block[(..., *tap, slice(None))] += at_tap.reshape((*taken.shape[:-1], -1))
    return np.ascontiguousarray(padded[_inside(input_size, padding)])


def _filter_gradient(
    x: Array, g: Array, strides: Sizes, padding: Padding, dilations: Sizes, groups: int,
    filter_size: Sizes,
) -> Array:  # fmt: skip
    own, count, taps = x.shape[-1] // groups, g.shape[-1], prod(filter_size)
    w = np.zeros((*filter_size, own, count), x.dtype)
    if 0 in g.shape or 0 in w.shape:
        return w
    out = g.shape[1:-1]
    windows = _windows(_padded(x, padding), out, filter_size, strides, dilations)
    total = np.zeros((groups, taps * own, count // groups), x.dtype)
    for images, rows in _blocks(windows):
        block, taken = windows[images, rows], g[images, rows]
        places = prod(taken.shape[:-1])
        if own == 1 and groups > 1:
            wide = taken.reshape((places, groups, -1))
            for i, tap in enumerate(np.ndindex(*filter_size)):
                flat = block[(..., *tap, slice(None))].reshape((places, groups))
                total[:, i] += np.einsum("pg,pgm->gm", flat, wide)
            continue
        lines = _by_groups(block.reshape((places, taps, -1)), groups)
        total += np.matmul(lines.swapaxes(-1, -2), _by_groups(taken.reshape((places, -1)), groups))
    return _joined(total).reshape(w.shape)


convolve: Any = in_float32(_convolve)
input_gradient: Any = in_float32(_input_gradient)
filter_gradient: Any = in_float32(_filter_gradient)
