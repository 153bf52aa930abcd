"""Pooling by NumPy: folds of windows.

Element k of window o along an axis lies at index o * stride + k * dilation - low, where `low`
places of padding come before the array's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphgrad.compiler.ops.convolution_reference import Padding, Sizes, output_size
from graphgrad.compiler.ops.reduce import lowest
from graphgrad.compiler.ops.special import Array, in_float32

Geometry = tuple[Sizes, Sizes, Padding, Sizes]  # window, strides, padding, dilations
NAMES = ("window", "strides", "padding", "dilations")


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
    sizes: Sizes, counts: Sizes, window: Sizes, strides: Sizes, padding: Padding, dilations: Sizes
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


def _reduced(x: Array, fold: Any, start: Any, geometry: Geometry) -> Array:
    """A fold of each window, axis by axis."""
    for axis, (k, stride, (low, high), d) in enumerate(zip(*geometry, strict=True), 1):
        size = x.shape[axis]
        count: Any = output_size(size, k, stride, (low, high), d)
        z = np.full((*x.shape[:axis], count, *x.shape[axis + 1 :]), start, x.dtype)
        before = (slice(None),) * axis
        for i in range(k):
            to, source = reach(size, count, i, stride, low, d)
            part = z[(*before, to)]
            fold(part, x[(*before, source)], out=part)
        x = z
    return x


def counts(sizes: Sizes, geometry: Geometry) -> Array:
    """How many elements of the array each window sees: (*windows, 1), at least 1."""
    shape = (1, *sizes, 1)
    seen = _reduced(np.ones(shape, np.int64), np.add, 0, geometry)
    return np.asarray(np.maximum(seen[0], 1))


def max_pool(x: Array, **attrs: Any) -> Array:
    return _reduced(x, np.maximum, lowest(x.dtype), as_geometry(**attrs))


def as_geometry(window: Sizes, strides: Sizes, padding: Padding, dilations: Sizes) -> Geometry:
    return window, strides, padding, dilations


@in_float32
def mean_pool(x: Array, **attrs: Any) -> Array:
    geometry = as_geometry(**attrs)
    total = _reduced(x, np.add, 0, geometry)
    return np.asarray(total / counts(x.shape[1:-1], geometry).astype(x.dtype))


@in_float32
def mean_pool_gradient(g: Array, input_size: Sizes, **attrs: Any) -> Array:
    geometry = as_geometry(**attrs)
    share = g / counts(input_size, geometry).astype(g.dtype)
    dx = np.zeros((g.shape[0], *input_size, g.shape[-1]), g.dtype)
    for to, source in elements(input_size, g.shape[1:-1], *geometry):
        dx[source] += share[to]
    return dx


def _hits(x: Array, geometry: Geometry) -> tuple[Array, Array, list[Any]]:
    """Each window's maximum, how many elements equal it (at least 1), and keys of elements."""
    z = max_pool(x, **dict(zip(NAMES, geometry, strict=True)))
    keys = list(elements(x.shape[1:-1], z.shape[1:-1], *geometry))
    count = np.zeros(z.shape, x.dtype)
    for to, source in keys:
        count[to] += x[source] == z[to]
    return z, np.maximum(count, 1), keys


@in_float32
def max_pool_gradient(g: Array, x: Array, **attrs: Any) -> Array:
    z, count, keys = _hits(x, as_geometry(**attrs))
    share, dx = g / count, np.zeros_like(x)
    for to, source in keys:
        dx[source] += np.where(x[source] == z[to], share[to], 0)
    return dx


@in_float32
def max_pool_tangent(t: Array, x: Array, **attrs: Any) -> Array:
    z, count, keys = _hits(x, as_geometry(**attrs))
    total = np.zeros_like(z)
    for to, source in keys:
        total[to] += np.where(x[source] == z[to], t[source], 0)
    return np.asarray(total / count)
