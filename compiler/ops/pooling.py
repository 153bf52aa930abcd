"""Pooling: the extremes and means of windows, which the public functions are made of.

Arrays are (batch, *spatial, channels). Each derivative is the adjoint of another op here:

    max_pool              x -> z
    max_pool_gradient     g, x -> dx     each window's cotangent, shared by what equals its maximum
    max_pool_tangent      t, x -> dz     the mean of t where x equals the window's maximum
    mean_pool             x -> z         padding does not count
    mean_pool_gradient    g -> dx
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.families import Library
from graphgrad.compiler.op import Samples, ops
from graphgrad.compiler.ops import pooling_reference as reference
from graphgrad.compiler.ops.convolution_reference import Padding, Sizes, output_sizes
from graphgrad.compiler.ops.pooling_reference import NAMES, Geometry, as_geometry
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import Shape, TensorType, same_shape, tensor_type


def bind(*xs: Any, **attrs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return xs, {key: _plain(value) for key, value in attrs.items()}


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def check_windows(
    op: str, x: TensorType, window: Sizes, strides: Sizes, padding: Padding, dilations: Sizes
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


def pooled(x: TensorType, geometry: Geometry) -> Shape:
    """The shape of the windows of `x`."""
    return (x.shape[0], *output_sizes(x.shape[1:-1], *geometry), x.shape[-1])


def _check_numbers(op: str, floats: bool, *types: TensorType) -> None:
    for t in types:
        if t.dtype.is_bool or (floats and not t.dtype.is_floating):
            wanted = "floats" if floats else "numbers"
            raise DTypeError(f"{op}: takes {wanted}, got {t}; cast first")


def _forward_type(op: str, floats: bool) -> Callable[..., TensorType]:
    def infer(
        x: TensorType, window: Sizes, strides: Sizes, padding: Padding, dilations: Sizes
    ) -> TensorType:
        _check_numbers(op, floats, x)
        geometry = window, strides, padding, dilations
        check_windows(op, x, *geometry)
        return tensor_type(pooled(x, geometry), x.dtype)

    return infer


def _pair_type(op: str, adjoint: bool) -> Callable[..., TensorType]:
    """For a first input of the shape of the windows of the second (adjoint), or of its shape."""

    def infer(
        g: TensorType, x: TensorType, window: Sizes, strides: Sizes, padding: Padding,
        dilations: Sizes,
    ) -> TensorType:  # fmt: skip
        _check_numbers(op, True, g, x)
        geometry = window, strides, padding, dilations
        check_windows(op, x, *geometry)
        z = tensor_type(pooled(x, geometry), x.dtype)
        wanted, out = (z, x) if adjoint else (x, z)
        if g.dtype != x.dtype or not same_shape(g.shape, wanted.shape):
            raise ShapeError(f"{op}: for {x} the first operand is {wanted}, got {g}")
        return out

    return infer


def folded(name: str) -> Callable[..., Any]:
    """A batching rule: the examples become further ones of the batch."""

    def batch(
        xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, **attrs: Any
    ) -> tuple[Any, ...]:
        full = [
            x if b else x.broadcast_to((size, *x.shape)) for x, b in zip(xs, batched, strict=True)
        ]
        rows = full[0].shape[1]
        z = ops[name](*(x.reshape((size * rows, *x.shape[2:])) for x in full), **attrs)
        return (z.reshape((size, rows, *z.shape[1:])),)

    return batch


# -- samples

# Shapes, windows, strides, paddings, dilations.
GRID: tuple[tuple[Any, ...], ...] = (
    ((2, 4, 4, 3), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((1, 5, 6, 2), (3, 3), (2, 2), ((1, 1), (0, 1)), (1, 1)),
    ((2, 7, 1), (3,), (1,), ((1, 1),), (2,)),
    ((1, 3, 4, 3, 2), (2, 2, 3), (1, 2, 2), ((0, 1), (0, 0), (1, 1)), (1, 1, 1)),
    ((1, 5, 4, 17), (2, 1), (3, 2), ((0, 0), (0, 0)), (2, 1)),
    ((0, 4, 4, 2), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((1, 2, 5, 2), (3, 2), (1, 2), ((0, 0), (0, 0)), (1, 1)),
)


def _distinct(rng: np.random.Generator, shape: Sizes, dtype: Any) -> Array:
    return np.asarray(rng.permutation(math.prod(shape)) / 4 - 3).astype(dtype).reshape(shape)


def _cases(rng: np.random.Generator, dtype: Any, extremum: bool = True) -> Any:
    for shape, *rest in GRID:
        yield (_distinct(rng, shape, dtype),), dict(zip(NAMES, rest, strict=True))
    if dtype.kind == "f":
        x = np.array([[1, np.nan, 2, 3, -np.inf, -np.inf, np.inf, np.inf, -0.0, 0.0]], dtype)
        geometry: Any = ((2,), (2,), ((0, 0),), (1,))
        yield (x[..., None],), dict(zip(NAMES, geometry, strict=True))
    if extremum and dtype != np.float64:  # ties, where differences find no derivative
        x = rng.integers(0, 2, (2, 6, 3)).astype(dtype)
        geometry = ((3,), (2,), ((1, 0),), (1,))
        yield (x,), dict(zip(NAMES, geometry, strict=True))


def _pair_cases(adjoint: bool) -> Callable[..., Any]:
    def cases(rng: np.random.Generator, dtype: Any) -> Any:
        for (x,), attrs in _cases(rng, dtype):
            shape = reference.max_pool(x, **attrs).shape if adjoint else x.shape
            yield (np.asarray(rng.uniform(-2, 2, shape)).astype(dtype), x), attrs

    return cases


def _mean_gradient_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for (x,), attrs in _cases(rng, dtype, extremum=False):
        g = np.asarray(rng.uniform(-2, 2, reference.max_pool(x, **attrs).shape)).astype(dtype)
        yield (g,), {"input_size": x.shape[1:-1], **attrs}


def _windows(sizes: Sizes, geometry: Geometry) -> Any:
    """Each window's place, and the places of its elements: for the oracles."""
    window, strides, padding, dilations = geometry
    for o in np.ndindex(*output_sizes(sizes, *geometry)):
        seen = []
        for k in np.ndindex(*window):
            each = zip(o, k, strides, padding, dilations, strict=True)
            at = tuple(i * s + j * d - p[0] for i, j, s, p, d in each)
            if all(0 <= i < n for i, n in zip(at, sizes, strict=True)):
                seen.append(at)
        yield o, seen


def _forward_oracle(fold: Callable[[Array], Array]) -> Callable[..., Array]:
    def oracle(x: Array, **attrs: Any) -> Array:
        geometry, sizes = as_geometry(**attrs), x.shape[1:-1]
        z = np.empty((len(x), *output_sizes(sizes, *geometry), x.shape[-1]), x.dtype)
        for o, seen in _windows(sizes, geometry):
            z[(slice(None), *o)] = fold(np.stack([x[(slice(None), *i)] for i in seen]))
        return z

    return oracle


def _max_gradient_oracle(g: Array, x: Array, **attrs: Any) -> Array:
    dx = np.zeros_like(x)
    for o, seen in _windows(x.shape[1:-1], as_geometry(**attrs)):
        rows = np.stack([x[(slice(None), *i)] for i in seen])
        hit = rows == rows.max(0)
        for i, here in zip(seen, hit / np.maximum(hit.sum(0), 1), strict=True):
            dx[(slice(None), *i)] += np.where(here > 0, here * g[(slice(None), *o)], 0)
    return dx


def _max_tangent_oracle(t: Array, x: Array, **attrs: Any) -> Array:
    geometry, sizes = as_geometry(**attrs), x.shape[1:-1]
    z = np.empty((len(x), *output_sizes(sizes, *geometry), x.shape[-1]), x.dtype)
    for o, seen in _windows(sizes, geometry):
        rows, ts = (np.stack([v[(slice(None), *i)] for i in seen]) for v in (x, t))
        hit = rows == rows.max(0)
        z[(slice(None), *o)] = (ts * hit).sum(0) / np.maximum(hit.sum(0), 1)
    return z


def _mean_gradient_oracle(g: Array, input_size: Sizes, **attrs: Any) -> Array:
    dx = np.zeros((len(g), *input_size, g.shape[-1]), g.dtype)
    for o, seen in _windows(input_size, as_geometry(**attrs)):
        for i in seen:
            dx[(slice(None), *i)] += g[(slice(None), *o)] / len(seen)
    return dx


FLOATS = ("float32", "float64", "bfloat16")
PLAIN = {"strides": (1,), "padding": ((0, 0),), "dilations": (1,)}


def _errors(name: str) -> Any:
    return (
        (
            lambda op: op(np.zeros((2, 3), np.float32), window=(1,), **PLAIN),
            f"{name}: takes a batch axis, spatial axes and channels, got f32[2, 3]",
        ),
        (
            lambda op: op(np.zeros((1, 5, 2), np.float32), window=(0,), **PLAIN),
            f"{name}: window of f32[1, 5, 2] are 1 numbers of at least 1, got [0]",
        ),
    )


# -- records

max_pool = Library(
    name="max_pool",
    public="",
    routine="max_pool",
    bind=bind,
    type=_forward_type("max_pool", False),
    ref=reference.max_pool,
    vjp=lambda g, z, x, needs, **attrs: (ops["max_pool_gradient"](g, x, **attrs),),
    jvp=lambda ts, z, x, **attrs: ops["max_pool_tangent"](ts[0], x, **attrs),
    batch=folded("max_pool"),
    samples=Samples(
        cases=_cases,
        dtypes=(*FLOATS, "int32", "int8"),
        oracle=_forward_oracle(lambda rows: rows.max(0)),
        ulp=0.0,
        errors=_errors("max_pool"),
    ),
    doc="""The maximum of each window; NaN if one of its elements is. Padding does not count, and a
    window in nothing but padding gives -inf, or the least integer.""",
)
max_pool_gradient = Library(
    name="max_pool_gradient",
    public="",
    routine="max_pool_gradient",
    bind=bind,
    type=_pair_type("max_pool_gradient", True),
    ref=reference.max_pool_gradient,
    vjp=lambda g, z, c, x, needs, **attrs: (ops["max_pool_tangent"](g, x, **attrs), None),
    jvp=lambda ts, z, c, x, **attrs: (
        None if ts[0] is None else ops["max_pool_gradient"](ts[0], x, **attrs)
    ),
    batch=folded("max_pool_gradient"),
    samples=Samples(
        cases=_pair_cases(True),
        dtypes=FLOATS,
        oracle=_max_gradient_oracle,
        errors=(
            (
                lambda op: op(np.zeros((1, 5, 2)), np.zeros((1, 5, 2)), window=(2,), **PLAIN),
                "max_pool_gradient: for f64[1, 5, 2] the first operand is f64[1, 4, 2], got "
                "f64[1, 5, 2]",
            ),
        ),
    ),
    doc="The cotangent of the input of `max_pool`: elements that equal the maximum of a window "
    "share its cotangent equally.",
)
max_pool_tangent = Library(
    name="max_pool_tangent",
    public="",
    routine="max_pool_tangent",
    bind=bind,
    type=_pair_type("max_pool_tangent", False),
    ref=reference.max_pool_tangent,
    vjp=lambda g, z, t, x, needs, **attrs: (ops["max_pool_gradient"](g, x, **attrs), None),
    jvp=lambda ts, z, t, x, **attrs: (
        None if ts[0] is None else ops["max_pool_tangent"](ts[0], x, **attrs)
    ),
    batch=folded("max_pool_tangent"),
    samples=Samples(
        cases=_pair_cases(False),
        dtypes=FLOATS,
        oracle=_max_tangent_oracle,
        errors=(
            (
                lambda op: op(np.zeros((1, 4, 2)), np.zeros((1, 5, 2)), window=(2,), **PLAIN),
                "max_pool_tangent: for f64[1, 5, 2] the first operand is f64[1, 5, 2], got "
                "f64[1, 4, 2]",
            ),
        ),
    ),
    doc="The tangent of `max_pool`: the mean of a tangent over the elements that equal the maximum "
    "of a window.",
)
mean_pool = Library(
    name="mean_pool",
    public="",
    routine="mean_pool",
    bind=bind,
    type=_forward_type("mean_pool", True),
    ref=reference.mean_pool,
    transpose=lambda g, x, **attrs: (
        ops["mean_pool_gradient"](g, input_size=x.shape[1:-1], **attrs),
    ),
    batch=folded("mean_pool"),
    samples=Samples(
        cases=lambda rng, dtype: _cases(rng, dtype, extremum=False),
        dtypes=(*FLOATS, "float16"),
        oracle=_forward_oracle(lambda rows: rows.sum(0) / len(rows)),
        errors=_errors("mean_pool"),
    ),
    doc="""The mean of each window. Padding does not count, and a window in nothing but padding
    gives 0.""",
)


def _mean_gradient_type(g: TensorType, input_size: Shape, **attrs: Any) -> TensorType:
    x = tensor_type((g.shape[0], *input_size, g.shape[-1]), g.dtype)
    z = mean_pool.type(x, **attrs)
    assert isinstance(z, TensorType)
    if not same_shape(z.shape, g.shape):
        raise ShapeError(f"mean_pool_gradient: the windows of {x} make {z}, got {g}")
    return x


mean_pool_gradient = Library(
    name="mean_pool_gradient",
    public="",
    routine="mean_pool_gradient",
    bind=bind,
    type=_mean_gradient_type,
    ref=reference.mean_pool_gradient,
    transpose=lambda g, c, input_size, **attrs: (ops["mean_pool"](g, **attrs),),
    batch=folded("mean_pool_gradient"),
    samples=Samples(
        cases=_mean_gradient_cases,
        dtypes=FLOATS,
        oracle=_mean_gradient_oracle,
        errors=(
            (
                lambda op: op(np.zeros((1, 5, 2)), input_size=(5,), window=(2,), **PLAIN),
                "mean_pool_gradient: the windows of f64[1, 5, 2] make f64[1, 4, 2], got "
                "f64[1, 5, 2]",
            ),
        ),
    ),
    doc="The cotangent of the input of `mean_pool`, whose spatial sizes are `input_size`: the sum "
    "of the shares of the windows that see an element.",
)
