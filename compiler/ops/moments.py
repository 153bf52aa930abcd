"""Variance and standard deviation over axes, in two passes: the mean first, then what differs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphgrad.compiler.dtypes import as_dtype
from graphgrad.compiler.families import Composite
from graphgrad.compiler.op import Samples, ops
from graphgrad.compiler.ops.reduce import (
    Axes,
    add_up,
    binder,
    carrier,
    mean_dtype,
    reduce_cases,
    restore,
)
from graphgrad.compiler.ops.special import Array, carried
from graphgrad.compiler.types import (
    TensorType,
    element_count,
    normalize_axes,
    reduced_shape,
    tensor_type,
)


def _type(x: TensorType, axes: Axes, keepdims: bool) -> TensorType:
    return tensor_type(reduced_shape(x.shape, axes, keepdims), mean_dtype(x.dtype))


def _floating(x: Array) -> Array:
    """What the arithmetic runs in: float32 for 16-bit floats, float64 for integers."""
    if x.dtype.kind in "biu":
        return x.astype(np.float64)
    return x.astype(carrier(x), copy=False)


def _spread(x: Array, axes: Axes, keepdims: bool) -> Array:
    """The variance in the dtype of the arithmetic."""
    wide = _floating(x)
    count = wide.dtype.type(math.prod([wide.shape[a] for a in axes]))
    if not wide.size:
        return np.asarray(add_up(wide, axes, None, None, keepdims) / count)
    apart = wide - wide[tuple([np.s_[:1] if i in axes else np.s_[:] for i in range(wide.ndim)])]
    apart -= add_up(apart, axes, None, None, True) / count
    apart *= apart
    return np.asarray(add_up(apart, axes, None, None, keepdims) / count)


def _variance(x: Array, axes: Axes, keepdims: bool) -> Array:
    z = _spread(x, axes, keepdims)
    return z.astype(mean_dtype(as_dtype(x.dtype)).dtype, copy=False)


def _apart(x: Any, axes: Axes) -> tuple[Any, Any]:
    """x less its mean over `axes`, and of how many elements that is the mean.

    By way of the distances from the first element, so that it is exactly 0 where all are equal.
    """
    wide = carried(x.cast(mean_dtype(x.dtype)))
    count = element_count(x.shape[a] for a in axes)
    if isinstance(count, int) and count == 0:
        return wide, count
    sizes = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    first = ops["stop_gradient"](ops["slice"](wide, (0,) * x.ndim, sizes))
    apart = wide - first
    return apart - ops["sum"](apart, axes, True) / count, count


def _variance_parts(x: Any, axes: Axes, keepdims: bool) -> Any:
    apart, count = _apart(x, axes)
    return (ops["sum"](ops["square"](apart), axes, keepdims) / count).cast(mean_dtype(x.dtype))


def _variance_vjp(
    g: Any, z: Any, x: Any, needs: tuple[bool, ...], axes: Axes, keepdims: bool
) -> tuple[Any, ...]:
    """2 (x - mean) / n: the mean's own derivative adds up to 0, since deviations do."""
    apart, count = _apart(x, axes)
    share = restore(carried(g) * 2 / count, x, axes)
    return (ops["cotangent_product"](share, apart).cast(x.dtype),)


def _variance_jvp(ts: tuple[Any, ...], z: Any, x: Any, axes: Axes, keepdims: bool) -> Any:
    apart, count = _apart(x, axes)
    product = ops["cotangent_product"](carried(ts[0]), apart)
    return (ops["sum"](product, axes, keepdims) * 2 / count).cast(z.dtype)


def _cases(rng: np.random.Generator, dtype: Any) -> Any:
    for arrays, attrs in reduce_cases(rng, dtype):
        if arrays[0].size:  # of nothing it is NaN: see below
            yield arrays, attrs
    yield (np.zeros((0, 3)).astype(dtype),), {"axis": 0}


def _oracle(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean of the squares of all differences of pairs, halved."""
    axes = normalize_axes(axis, x.ndim, "test")
    kept = [i for i in range(x.ndim) if i not in axes]
    count = math.prod(x.shape[a] for a in axes)
    rows = x.transpose(*kept, *axes).reshape(*(x.shape[i] for i in kept), count)
    rows = rows.astype(np.longdouble)
    pairs = rows[..., None, :] - rows[..., :, None]
    total = (pairs * pairs).sum((-1, -2)) / np.longdouble(2) / count / np.longdouble(count)
    return np.expand_dims(total, axes) if keepdims else total


DTYPES = ("float32", "float64", "bfloat16", "int32", "bool")

variance = Composite(
    name="variance",
    public="math.reduce_variance",
    bind=binder("variance"),
    type=_type,
    ref=_variance,
    decompose=_variance_parts,
    vjp=_variance_vjp,
    jvp=_variance_jvp,
    samples=Samples(cases=_cases, dtypes=DTYPES, oracle=_oracle, ulp=8.0),
    doc="""The mean of (x - mean(x))**2 over `axis` (an axis, several, or None for all).

    In two passes, so that a large mean costs no digits; of equal elements it is exactly 0. Integers
    give float64, and no elements NaN.

    >>> import graphgrad as gg
    >>> gg.math.reduce_variance([10001.0, 10002.0, 10003.0]).numpy().round(4)
    np.float32(0.6667)
    """,
)

# -- std


def _std(x: Array, axes: Axes, keepdims: bool) -> Array:
    z = np.sqrt(_spread(x, axes, keepdims))
    return z.astype(mean_dtype(as_dtype(x.dtype)).dtype, copy=False)


def root(x: Any) -> Any:
    """The square root of what is not negative, with the derivative 0 at 0."""
    return ops["where"](x > 0, ops["sqrt"](x), x)


def _std_parts(x: Any, axes: Axes, keepdims: bool) -> Any:
    apart, count = _apart(x, axes)
    square = ops["sum"](ops["square"](apart), axes, keepdims) / count
    return root(square).cast(mean_dtype(x.dtype))


def over(x: Any, y: Any) -> Any:
    """x / y, but 0 where y is 0, and so are its derivatives."""
    return ops["where"](y == 0, 0, x / y)


def _std_vjp(
    g: Any, z: Any, x: Any, needs: tuple[bool, ...], axes: Axes, keepdims: bool
) -> tuple[Any, ...]:
    """(x - mean) / (n z), and 0 for equal elements."""
    apart, count = _apart(x, axes)
    share = restore(over(carried(g), carried(z) * count), x, axes)
    return (ops["cotangent_product"](share, apart).cast(x.dtype),)


def _std_jvp(ts: tuple[Any, ...], z: Any, x: Any, axes: Axes, keepdims: bool) -> Any:
    apart, count = _apart(x, axes)
    product = ops["sum"](ops["cotangent_product"](carried(ts[0]), apart), axes, keepdims)
    return over(product, carried(z) * count).cast(z.dtype)


std = Composite(
    name="std",
    public="math.reduce_std",
    bind=binder("std"),
    type=_type,
    ref=_std,
    decompose=_std_parts,
    vjp=_std_vjp,
    jvp=_std_jvp,
    samples=Samples(
        cases=_cases,
        dtypes=DTYPES,
        oracle=lambda x, axis=None, keepdims=False: np.sqrt(_oracle(x, axis, keepdims)),
        ulp=8.0,
    ),
    doc="""The square root of the variance over `axis` (an axis, several, or None for all).

    Of equal elements it is exactly 0, and so is its derivative. Integers give float64.

    >>> import graphgrad as gg
    >>> gg.math.reduce_std([[1.0, 3.0], [5.0, 5.0]], axis=1).numpy()
    array([1., 0.], dtype=float32)
    """,
)
