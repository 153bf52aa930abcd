"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import is_size
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import DTypeError, ShapeError
from graphgrad.compiler.families import Composite, Reduce, conjugate
from graphgrad.compiler.op import Attrs, Samples, current_kind, ops
from graphgrad.compiler.ops.special import Array, carried
from graphgrad.compiler.types import (
    TensorType,
    element_count,
    normalize_axes,
    normalize_axis,
    reduced_shape,
    tensor_type,
)

Axes = tuple[int, ...]


def binder(op: str) -> Callable[..., tuple[tuple[Any, ...], Attrs]]:
    """TensorFlow's arguments (tensor, axis, keepdims) as canonical attributes."""

    def bind(
        input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
    ) -> tuple[tuple[Any, ...], Attrs]:
        x = current_kind().lift(input_tensor)
        axes = normalize_axes(axis, len(x.shape), op)
        return (x,), {"axes": axes, "keepdims": bool(keepdims)}

    return bind


def typer(op: str, takes: str = "numbers") -> Callable[..., TensorType]:
    def infer(x: TensorType, axes: Axes, keepdims: bool) -> TensorType:
        if x.dtype.is_bool is (takes != "bool") or (takes == "floats" and not x.dtype.is_floating):
            wanted = {"bool": "bool tensors"}.get(takes, takes)
            raise DTypeError(f"{op}: takes {wanted}, got {x}; cast first")
        return tensor_type(reduced_shape(x.shape, axes, keepdims), x.dtype)

    return infer


def restore(g: Any, x: Any, axes: Axes) -> Any:
    """`g` of the reduced shape, stretched to the shape of `x`."""
    if g.ndim:
        g = g.reshape(reduced_shape(x.shape, axes, True))
    return g.broadcast_to(x.shape)


def carrier(x: Array) -> Any:
    """The dtype that sums of `x` are carried in: float32 for 16-bit floats."""
    return np.float32 if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x.dtype


def reduce_cases(rng: np.random.Generator, dtype: Any) -> Any:
    draw = (
        (lambda s: rng.integers(0, 5, s))
        if np.dtype(dtype).kind in "iub"
        else (lambda s: rng.uniform(-2, 2, s))
    )
    shapes: list[tuple[tuple[int, ...], tuple[Any, ...]]] = [
        ((7,), (None,)), ((3, 4), (0, 1, (0, 1))), ((2, 3, 4), ((0, 2), 1, -1)), ((), (None,)),
        ((0, 3), (0,)), ((3, 0), (0,)), ((1, 5), (0,)), ((33,), (0,)), ((70, 3), (0,)),
    ]  # fmt: skip
    for shape, choices in shapes:
        for axis in choices:
            x = np.asarray(draw(shape)).astype(dtype)
            if dtype.kind == "c":
                x = x + np.asarray(1j * draw(shape)).astype(dtype)
            yield (x,), {"axis": axis, "keepdims": axis == 1}
    if np.dtype(dtype).kind == "f":
        edges = [[np.nan, 1], [np.inf, 1], [-np.inf, -np.inf], [np.inf, -np.inf], [0.0, -0.0]]
        yield (np.array(edges, dtype),), {"axis": 1}


def reduce_samples(
    oracle: Callable[..., Any], numbers: tuple[str, ...], ulp: float = 4.0
) -> Samples:
    return Samples(
        cases=reduce_cases,
        dtypes=numbers,
        oracle=oracle,
        ulp=ulp,
        errors=(
            (lambda op: op(np.zeros((2, 3)), 2), "axis 2 is out of range for 2 dimensions"),
        ),
    )  # fmt: skip


NUMBERS = ("float32", "float64", "bfloat16", "int32", "int64")
FLOATS = ("float32", "float64", "bfloat16")
COMPLEX = ("complex64", "complex128")


def _axes(x: Array, axis: Any) -> Axes:
    return normalize_axes(axis, x.ndim, "test")


def _folded(fn: Callable[[Any, Any], Any], start: Any) -> Callable[..., Any]:
    """An oracle that folds one slice after the other along each axis."""

    def oracle(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
        axes = _axes(x, axis)
        for a in reversed(axes):
            total = np.full(np.delete(x.shape, a), start, x.dtype)
            for i in range(x.shape[a]):
                total = fn(total, x.take(i, a))
            x = total
        return np.expand_dims(x, axes) if keepdims else x

    return oracle


add_up: Any = np.add.reduce  # np.sum costs twice as much for small arrays


def _sum(x: Array, axes: Axes, keepdims: bool) -> Any:
    wide = carrier(x)
    total = add_up(x, axes, wide, None, keepdims)
    return total if wide is x.dtype else total.astype(x.dtype)


sum = Reduce(
    name="sum",
    public=("reduce_sum", "math.reduce_sum"),
    combiner="sum",
    takes_complex=True,
    by_component=True,
    bind=binder("sum"),
    type=typer("sum"),
    ref=_sum,
    transpose=lambda g, x, axes, keepdims: (restore(g, x, axes),),
    samples=reduce_samples(_folded(np.add, 0), (*NUMBERS, *COMPLEX)),
    doc="""The sum over `axis` (an axis, several, or None for all), in the dtype of the tensor.

    16-bit floats are summed in float32 and rounded once; integers wrap.

    >>> import graphgrad as gg
    >>> gg.reduce_sum([[1.0, 2.0], [3.0, 4.0]], axis=1).numpy()
    array([3., 7.], dtype=float32)
    """,
)


def _others(x: Any, axes: Axes) -> Any:
    """For each element, the product of all others that it is reduced with; right with zeros.

    Products of those before and those after, over the reduced axes made one.
    """
    kept = [i for i in range(x.ndim) if i not in axes]
    order = [*kept, *axes]
    moved = x.transpose(order)
    flat = moved.reshape((*(x.shape[i] for i in kept), element_count(x.shape[i] for i in axes)))
    before = ops["cumprod"](flat, -1, exclusive=True)
    after = ops["cumprod"](flat, -1, exclusive=True, reverse=True)
    inverse = [order.index(i) for i in range(x.ndim)]
    return (before * after).reshape(moved.shape).transpose(inverse)


prod = Reduce(
    name="prod",
    public=("reduce_prod", "math.reduce_prod"),
    combiner="prod",
    takes_complex=True,
    bind=binder("prod"),
    type=typer("prod"),
    ref=lambda x, axes, keepdims: np.prod(x, axis=axes, keepdims=keepdims, dtype=carrier(x)).astype(
        x.dtype
    ),
    vjp=lambda g, z, x, needs, axes, keepdims: (
        ops["cotangent_product"](restore(g, x, axes), _others(x, axes)) if axes else g,
    ),
    jvp=lambda ts, z, x, axes, keepdims: (
        ops["sum"](ops["cotangent_product"](ts[0], conjugate(_others(x, axes))), axes, keepdims)
        if axes
        else ts[0]
    ),
    samples=reduce_samples(_folded(np.multiply, 1), (*NUMBERS, *COMPLEX)),
    doc="""The product over `axis` (an axis, several, or None for all), in the dtype of the tensor.

    Derivatives are right where elements are 0.

    >>> import graphgrad as gg
    >>> gg.reduce_prod([[1.0, 2.0], [3.0, 4.0]], axis=0).numpy()
    array([3., 8.], dtype=float32)
    """,
)


def _ties(x: Any, z: Any, axes: Axes) -> tuple[Any, Any]:
    """Which elements equal the extremum, and how many share it (reduced shape, axes kept)."""
    hit = x == restore(z, x, axes)
    count = ops["sum"](hit.cast(z.dtype), axes, True)
    return hit, ops["maximum"](count, 1)  # 0 where it is NaN


def _extremum_vjp(
    g: Any, z: Any, x: Any, needs: tuple[bool, ...], axes: Axes, keepdims: bool
) -> tuple[Any, ...]:
    """Ties share the cotangent equally."""
    hit, count = _ties(x, z, axes)
    share = g.reshape(count.shape) / count
    return (ops["where"](hit, share.broadcast_to(x.shape), 0),)


def _extremum_jvp(ts: tuple[Any, ...], z: Any, x: Any, axes: Axes, keepdims: bool) -> Any:
    hit, count = _ties(x, z, axes)
    total = ops["sum"](ops["where"](hit, ts[0], 0), axes, True)
    return (total / count).reshape(z.shape)


def lowest(dtype: np.dtype[Any]) -> Any:
    """The identity of max."""
    return -np.inf if dtype.kind in "fV" else np.iinfo(dtype).min


def _greatest(dtype: np.dtype[Any]) -> Any:
    """The identity of min."""
    return np.inf if dtype.kind in "fV" else np.iinfo(dtype).max


max = Reduce(
    name="max",
    public=("reduce_max", "math.reduce_max"),
    combiner="max",
    bind=binder("max"),
    type=typer("max"),
    ref=lambda x, axes, keepdims: np.max(x, axis=axes, keepdims=keepdims, initial=lowest(x.dtype)),
    vjp=_extremum_vjp,
    jvp=_extremum_jvp,
    samples=reduce_samples(
        lambda x, axis=None, keepdims=False: _folded(
            lambda a, b: np.where((a >= b) | np.isnan(a), a, b), lowest(x.dtype)
        )(x, axis, keepdims),
        NUMBERS,
        ulp=0.0,
    ),
    doc="""The greatest element over `axis` (an axis, several, or None for all); NaN if one is NaN.

    Over no elements it is -inf, or the least integer. Equal maxima share the derivative.

    >>> import graphgrad as gg
    >>> gg.reduce_max([[1.0, 2.0], [4.0, 3.0]], axis=1).numpy()
    array([2., 4.], dtype=float32)
    """,
)
min = Reduce(
    name="min",
    public=("reduce_min", "math.reduce_min"),
    combiner="min",
    bind=binder("min"),
    type=typer("min"),
    ref=lambda x, axes, keepdims: np.min(
        x, axis=axes, keepdims=keepdims, initial=_greatest(x.dtype)
    ),
    vjp=_extremum_vjp,
    jvp=_extremum_jvp,
    samples=reduce_samples(
        lambda x, axis=None, keepdims=False: _folded(
            lambda a, b: np.where((a <= b) | np.isnan(a), a, b), _greatest(x.dtype)
        )(x, axis, keepdims),
        NUMBERS,
        ulp=0.0,
    ),
    doc="""The least element over `axis` (an axis, several, or None for all); NaN if one is NaN.

    Over no elements it is inf, or the greatest integer. Equal minima share the derivative.

    >>> import graphgrad as gg
    >>> gg.reduce_min([[1.0, 2.0], [4.0, 3.0]], axis=1).numpy()
    array([1., 3.], dtype=float32)
    """,
)
any = Reduce(
    name="any",
    public=("reduce_any", "math.reduce_any"),
    combiner="any",
    bind=binder("any"),
    type=typer("any", "bool"),
    ref=lambda x, axes, keepdims: np.any(x, axis=axes, keepdims=keepdims),
    nondifferentiable=True,
    samples=reduce_samples(_folded(np.logical_or, False), ("bool",)),
    doc="""Whether any element over `axis` (an axis, several, or None for all) is true.

    >>> import graphgrad as gg
    >>> gg.reduce_any([[True, False], [False, False]], axis=1).numpy()
    array([ True, False])
    """,
)
all = Reduce(
    name="all",
    public=("reduce_all", "math.reduce_all"),
    combiner="all",
    bind=binder("all"),
    type=typer("all", "bool"),
    ref=lambda x, axes, keepdims: np.all(x, axis=axes, keepdims=keepdims),
    nondifferentiable=True,
    samples=reduce_samples(_folded(np.logical_and, True), ("bool",)),
    doc="""Whether all elements over `axis` (an axis, several, or None for all) are true.

    >>> import graphgrad as gg
    >>> gg.reduce_all([[True, False], [True, True]], axis=1).numpy()
    array([False,  True])
    """,
)


def mean_dtype(dtype: DType) -> DType:
    return dtype if dtype.is_inexact else dtypes.float64


def _mean(x: Array, axes: Axes, keepdims: bool) -> Array:
    count = math.prod([x.shape[a] for a in axes])
    if x.dtype.char in "fdFD":
        return np.asarray(add_up(x, axes, x.dtype, None, keepdims) / x.dtype.type(count))
    dtype = dtypes.as_dtype(x.dtype)
    work = np.dtype(carrier(x)) if dtype.is_floating else np.dtype(np.float64)
    total = add_up(x, axes, work, None, keepdims)
    return np.asarray(total / work.type(count)).astype(mean_dtype(dtype).dtype)


def _mean_parts(x: Any, axes: Axes, keepdims: bool) -> Any:
    count = element_count(x.shape[a] for a in axes)
    total = ops["sum"](carried(x.cast(mean_dtype(x.dtype))), axes, keepdims)
    return (total / count).cast(mean_dtype(x.dtype))


def _mean_oracle(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    axes = _axes(x, axis)
    count = np.prod([x.shape[a] for a in axes], dtype=np.longdouble)
    wide = x.astype(np.clongdouble if x.dtype.kind == "c" else np.longdouble)
    return _folded(np.add, 0)(wide, axis, keepdims) / count


mean = Composite(
    name="mean",
    takes_complex=True,
    public=("reduce_mean", "math.reduce_mean"),
    bind=binder("mean"),
    type=lambda x, axes, keepdims: tensor_type(
        reduced_shape(x.shape, axes, keepdims), mean_dtype(x.dtype)
    ),
    ref=_mean,
    decompose=_mean_parts,
    samples=reduce_samples(_mean_oracle, (*NUMBERS, *COMPLEX, "float16", "bool")),
    doc="""The mean over `axis` (an axis, several, or None for all).

    Integers give float64, and no elements give NaN. 16-bit floats are carried in float32.

    >>> import graphgrad as gg
    >>> gg.reduce_mean([[1.0, 2.0], [3.0, 5.0]], axis=0).numpy()
    array([2. , 3.5], dtype=float32)
    """,
)


def _bind_arg(
    input: Any, axis: int | None = 0, output_type: Any = dtypes.int64, name: str | None = None
) -> tuple[tuple[Any, ...], Attrs]:
    x = current_kind().lift(input)
    axis = normalize_axis(int(axis or 0), len(x.shape), "argmax or argmin")
    return (x,), {"axis": axis, "output_type": dtypes.as_dtype(output_type)}


def _arg_typer(op: str) -> Callable[..., TensorType]:
    def infer(x: TensorType, axis: int, output_type: DType) -> TensorType:
        if is_size(x.shape[axis], 0):
            raise ShapeError(f"{op}: axis {axis} of {x} has no elements")
        if output_type not in (dtypes.int32, dtypes.int64):
            raise DTypeError(f"{op}: output_type is int32 or int64, not {output_type.name}")
        return tensor_type(reduced_shape(x.shape, (axis,), False), output_type)

    return infer


def _arg_parts(extremum: str) -> Callable[..., Any]:
    """The least index of an element that equals the extremum; a NaN counts as it."""

    def decompose(x: Any, axis: int, output_type: DType) -> Any:
        best = ops[extremum](x, (axis,), True)
        hit = x == best.broadcast_to(x.shape)
        if x.dtype.is_floating:
            hit = hit | ops["isnan"](x)
        n = x.shape[axis]
        places = ops["iota"](n, output_type)
        places = places.reshape(tuple(n if i == axis else 1 for i in range(x.ndim)))
        return ops["min"](ops["where"](hit, places, n), (axis,))

    return decompose


def _arg_oracle(sign: int) -> Callable[..., Any]:
    def oracle(x: Array, axis: int = 0, output_type: Any = None) -> Any:
        def first(row: Array) -> int:
            nans = [i for i, v in enumerate(row) if v != v]
            return (
                nans[0] if nans else sorted(range(len(row)), key=lambda i: (-sign * row[i], i))[0]
            )

        return np.apply_along_axis(first, axis, x)

    return oracle


def _arg_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, axis in (((7,), 0), ((3, 4), 1), ((3, 4), 0), ((2, 3, 4), -2), ((1,), 0)):
        x = rng.integers(0, 4, shape).astype(dtype)  # ties
        yield (x,), {"axis": axis, "output_type": dtypes.int32 if axis else dtypes.int64}
    if np.dtype(dtype).kind == "f":
        edges = [[1, np.nan, np.nan], [-np.inf, -np.inf, -np.inf], [np.inf, np.nan, 1]]
        yield (np.array(edges, dtype),), {"axis": 1}


def _arg_samples(sign: int) -> Samples:
    return Samples(
        cases=_arg_cases,
        dtypes=("float32", "float64", "bfloat16", "int32"),
        oracle=_arg_oracle(sign),
        errors=(
            (lambda op: op(np.zeros((0, 2), np.float32)), "axis 0 of f32[0, 2] has no elements"),
        ),
    )


argmax = Composite(
    name="argmax",
    public=("argmax", "math.argmax"),
    bind=_bind_arg,
    type=_arg_typer("argmax"),
    ref=lambda x, axis, output_type: np.argmax(x, axis=axis).astype(output_type.dtype),
    decompose=_arg_parts("max"),
    nondifferentiable=True,
    samples=_arg_samples(1),
    doc="""The index of the greatest element along `axis`, the first among equals; NaN is greatest.

    >>> import graphgrad as gg
    >>> gg.argmax([[1.0, 5.0], [7.0, 2.0]], axis=1).numpy()
    array([1, 0])
    """,
)
argmin = Composite(
    name="argmin",
    public=("argmin", "math.argmin"),
    bind=_bind_arg,
    type=_arg_typer("argmin"),
    ref=lambda x, axis, output_type: np.argmin(x, axis=axis).astype(output_type.dtype),
    decompose=_arg_parts("min"),
    nondifferentiable=True,
    samples=_arg_samples(-1),
    doc="""The index of the least element along `axis`, the first among equals; NaN is least.

    >>> import graphgrad as gg
    >>> gg.argmin([[1.0, 5.0], [7.0, 2.0]], axis=1).numpy()
    array([0, 1])
    """,
)


def _logsumexp(x: Array, axes: Axes, keepdims: bool) -> Array:
    wide = x.astype(carrier(x))
    top = np.max(wide, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, wide.dtype.type(0))
    z = np.log(np.sum(np.exp(wide - top), axis=axes, keepdims=True)) + top
    return np.asarray(z if keepdims else np.squeeze(z, axes)).astype(x.dtype)


def _below_top(x: Any, axes: Axes) -> tuple[Any, Any]:
    """x less its greatest element over `axes`, and that element; 0 in its place if not finite."""
    top = ops["max"](x, axes, True)
    top = ops["where"](ops["isfinite"](top), top, 0)
    return x - top, top


def _logsumexp_parts(x: Any, axes: Axes, keepdims: bool) -> Any:
    below, top = _below_top(carried(x), axes)
    total = ops["sum"](ops["exp"](below), axes, True)
    z = (ops["log"](total) + top).cast(x.dtype)
    return z.reshape(reduced_shape(x.shape, axes, keepdims))


def _shares(x: Any, axes: Axes) -> Any:
    """The softmax over `axes`; 0 where all are -inf. Not exp(x - z): z has few digits after the
    point where it is large."""
    e = ops["exp"](_below_top(carried(x), axes)[0])
    total = ops["sum"](e, axes, True)
    return (e / ops["where"](total == 0, 1, total)).cast(x.dtype)


def _logsumexp_oracle(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    reduce: Any = np.logaddexp.reduce
    return reduce(x, _axes(x, axis), keepdims=keepdims, initial=-np.inf)


logsumexp = Composite(
    name="logsumexp",
    public=("reduce_logsumexp", "math.reduce_logsumexp"),
    bind=binder("logsumexp"),
    type=typer("logsumexp", "floats"),
    ref=_logsumexp,
    decompose=_logsumexp_parts,
    vjp=lambda g, z, x, needs, axes, keepdims: (
        ops["cotangent_product"](restore(g, x, axes), _shares(x, axes)),
    ),
    jvp=lambda ts, z, x, axes, keepdims: ops["sum"](
        ops["cotangent_product"](ts[0], _shares(x, axes)), axes, keepdims
    ),
    samples=reduce_samples(_logsumexp_oracle, FLOATS),
    doc="""log(sum(exp(x))) over `axis` (an axis, several, or None for all); never overflows.

    The derivative of a row of -inf is 0.

    >>> import graphgrad as gg
    >>> gg.reduce_logsumexp([[1000.0, 1000.0]], axis=1).numpy().round(1)
    array([1000.7], dtype=float32)
    """,
)
