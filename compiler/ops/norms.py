"""Norms of vectors and matrices, and tensors scaled by theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.families import Composite
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.moments import over, root
from graphgrad.compiler.ops.reduce import (
    NUMBERS,
    Axes,
    add_up,
    binder,
    carrier,
    reduce_samples,
    restore,
    typer,
)
from graphgrad.compiler.ops.special import Array, carried
from graphgrad.compiler.types import normalize_axes, reduced_shape


def _norm(x: Array, axes: Axes, keepdims: bool) -> Array:
    wide = x.astype(np.float64 if x.dtype.kind in "iu" else carrier(x), copy=False)
    return np.asarray(np.sqrt(add_up(wide * wide, axes, None, None, keepdims))).astype(x.dtype)


def _norm_parts(x: Any, axes: Axes, keepdims: bool) -> Any:
    wide = carried(x) if x.dtype.is_floating else x.cast(dtypes.float64)
    return root(ops["sum"](ops["square"](wide), axes, keepdims)).cast(x.dtype)


def _norm_vjp(
    g: Any, z: Any, x: Any, needs: tuple[bool, ...], axes: Axes, keepdims: bool
) -> tuple[Any, ...]:
    return (ops["cotangent_product"](restore(over(g, z), x, axes), x),)


def _norm_jvp(ts: tuple[Any, ...], z: Any, x: Any, axes: Axes, keepdims: bool) -> Any:
    return over(ops["sum"](ops["cotangent_product"](ts[0], x), axes, keepdims), z)


def _norm_oracle(x: Array, axis: Any = None, keepdims: bool = False) -> Any:
    axes = normalize_axes(axis, x.ndim, "test")
    squares = x.astype(np.longdouble) ** 2
    return np.sqrt(np.apply_over_axes(np.sum, squares, axes) if axes else squares).reshape(
        reduced_shape(x.shape, axes, keepdims)
    )


euclidean_norm = Composite(
    name="euclidean_norm",
    public="math.reduce_euclidean_norm",
    bind=binder("euclidean_norm"),
    type=typer("euclidean_norm"),
    ref=_norm,
    decompose=_norm_parts,
    vjp=_norm_vjp,
    jvp=_norm_jvp,
    samples=reduce_samples(_norm_oracle, NUMBERS),
    doc="""sqrt(sum(x**2)) over `axis` (an axis, several, or None for all), in the dtype of `x`.

    Its derivative where all elements are 0 is 0.

    >>> import graphgrad as gg
    >>> gg.math.reduce_euclidean_norm([[3.0, 4.0], [0.0, 0.0]], axis=1).numpy()
    array([5., 0.], dtype=float32)
    """,
)


def _inexact(x: Any) -> Any:
    value = current_kind().lift(x)
    return value if value.dtype.is_inexact else value.cast(dtypes.float32)


def _real(x: Any) -> Any:
    """The absolute values of complex numbers, which have the same norms; others as they are."""
    return ops["abs"](x) if x.dtype.is_complex else x


def _power(size: Any, order: float, axes: Axes) -> Any:
    """sum(size**p) ** (1/p), with derivatives of 0 where it is 0, and at elements that are."""
    return _raised(ops["sum"](_raised(size, order), axes, True), 1 / order)


def _raised(x: Any, power: float) -> Any:
    """x**power of what is not negative, with the derivative 0 at 0."""
    some = x > 0
    return ops["where"](some, ops["pow"](ops["where"](some, x, 1), power), x)


def _vector_norm(x: Any, order: Any, axes: Axes) -> Any:
    if order in ("euclidean", 2):
        return ops["euclidean_norm"](x, axes, True)
    if isinstance(order, str) or not (order > 0 or order == -np.inf):
        raise ArgumentError(
            "norm: ord of vectors is 'euclidean', a number above 0, infinity or -infinity, not "
            f"{order!r}; 'fro' and 'nuc' are for matrices, which are two axes"
        )
    size = ops["abs"](x)
    if order == 1:
        return ops["sum"](size, axes, True)
    if order in (np.inf, -np.inf):
        return ops["max" if order > 0 else "min"](size, axes, True)
    return _power(size, float(order), axes)


def _matrix_norm(x: Any, order: Any, axes: tuple[int, int]) -> Any:
    """Of the matrices in `axes`, rows and columns."""
    rows, columns = axes
    if order in ("euclidean", "fro"):
        return ops["euclidean_norm"](x, axes, True)
    if order in (1, -1, np.inf, -np.inf):
        first, second = (rows, columns) if abs(order) == 1 else (columns, rows)
        sums = ops["sum"](ops["abs"](x), (first,), True)
        return ops["max" if order > 0 else "min"](sums, (second,), True)
    if order in (2, -2, "nuc"):
        kept = [i for i in range(x.ndim) if i not in axes]
        values = ops["singular_values"](x.transpose([*kept, rows, columns]))
        fold = "sum" if order == "nuc" else "max" if order > 0 else "min"
        return ops[fold](values, (values.ndim - 1,)).reshape(reduced_shape(x.shape, axes, True))
    raise ArgumentError(
        "norm: ord of matrices is 'euclidean', 'fro', 'nuc', 1, 2, infinity or the negative of "
        f"one, not {order!r}"
    )


def _norm_of(x: Any, order: Any, axis: Any, keepdims: bool) -> Any:
    axes = normalize_axes(axis, x.ndim, "norm")
    if isinstance(axis, list | tuple) and len(axis) == 2:
        rows, columns = (normalize_axes(a, x.ndim, "norm")[0] for a in axis)
        z = _matrix_norm(x, order, (rows, columns))
    elif axis is None or len(axes) == 1:
        z = _vector_norm(x, order, axes)
    else:
        raise ArgumentError(f"norm: axis is None, one axis or two, not {axis!r}")
    return z.reshape(reduced_shape(x.shape, axes, keepdims))


@located
def norm(
    tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool | None = None,
    name: str | None = None,
) -> Any:  # fmt: skip
    """The norm of vectors along an axis, of matrices in two axes, or of all elements as a vector.

    `ord` is 'euclidean', a number above 0, infinity or -infinity for vectors; for matrices it is
    'euclidean' or 'fro', 1 and infinity (the greatest sum of a column and of a row), 2 and 'nuc'
    (the greatest singular value, and their sum), or -1, -infinity and -2, which take the least.
    Derivatives at 0 are 0.

    >>> import graphgrad as gg
    >>> gg.norm([[3.0, 4.0], [-6.0, 8.0]], axis=1).numpy()
    array([ 5., 10.], dtype=float32)
    >>> gg.norm([[3.0, 4.0], [-6.0, 8.0]], ord=1, axis=(0, 1)).numpy()
    np.float32(12.0)
    """
    return _norm_of(_real(_inexact(tensor)), ord, axis, bool(keepdims))


@located
def normalize(
    tensor: Any, ord: Any = "euclidean", axis: Any = None, name: str | None = None
) -> tuple[Any, Any]:
    """`tensor` divided by its norm, and that norm with its axes kept; arguments as for `norm`.

    >>> import graphgrad as gg
    >>> [x.numpy() for x in gg.linalg.normalize([3.0, 4.0])]
    [array([0.6, 0.8], dtype=float32), array([5.], dtype=float32)]
    """
    x = _inexact(tensor)
    z = _norm_of(_real(x), ord, axis, True)
    return x / z, z


# -- tensors scaled down to a norm


@located
def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Any:
    """`t` scaled so that its Euclidean norm over `axes` is at most `clip_norm`.

    >>> import graphgrad as gg
    >>> gg.clip_by_norm([3.0, 4.0], 1.0).numpy()
    array([0.6, 0.8], dtype=float32)
    """
    x = _inexact(t)
    z = ops["euclidean_norm"](_real(x), axes, True)
    return x * clip_norm / ops["maximum"](z, clip_norm)


@located
def clip_by_average_norm(t: Any, clip_norm: Any, name: str | None = None) -> Any:
    """`t` scaled so that its Euclidean norm divided by the number of elements is at most
    `clip_norm`.

    >>> import graphgrad as gg
    >>> gg.clip_by_average_norm([3.0, 4.0], 1.0).numpy()
    array([1.2, 1.6], dtype=float32)
    """
    x = _inexact(t)
    mean = ops["euclidean_norm"](_real(x)) / x.type.size
    return x * clip_norm / ops["maximum"](mean, clip_norm)


def _several(t_list: Any, op: str) -> list[Any]:
    """The tensors of a list, in which some may be None."""
    if not isinstance(t_list, Sequence) or isinstance(t_list, str):
        raise DTypeError(f"{op}: takes a list of tensors, got {t_list!r}")
    return [None if t is None else _inexact(t) for t in t_list]


@located
def global_norm(t_list: Any, name: str | None = None) -> Any:
    """The Euclidean norm of all tensors of a list together; entries that are None are left out.

    >>> import graphgrad as gg
    >>> gg.linalg.global_norm([[3.0, 0.0], None, [[4.0]]]).numpy()
    np.float32(5.0)
    """
    return _global_norm(_several(t_list, "global_norm"))


def _global_norm(ts: Sequence[Any]) -> Any:
    """Summed in pairs, so that the error grows with the logarithm of the number of tensors."""
    terms = [ops["sum"](ops["square"](carried(_real(t)))) for t in ts if t is not None]
    while len(terms) > 1:
        terms = [*map(ops["add"], terms[::2], terms[1::2]), *terms[len(terms) & ~1 :]]
    return root(terms[0]) if terms else current_kind().lift(0.0)


@located
def clip_by_global_norm(
    t_list: Any, clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Any]:
    """The tensors, scaled so that their norm together is at most `clip_norm`; and that norm.

    `use_norm` is the norm if it is known already. Entries that are None stay None. Where the norm
    is not finite, all elements become NaN.

    >>> import graphgrad as gg
    >>> clipped, norm = gg.clip_by_global_norm([[3.0, 0.0], None, [4.0]], 1.0)
    >>> clipped[0].numpy(), clipped[1], norm.numpy()
    (array([0.6, 0. ], dtype=float32), None, np.float32(5.0))
    """
    ts = _several(t_list, "clip_by_global_norm")
    z = _global_norm(ts) if use_norm is None else _inexact(use_norm)
    scale = clip_norm * (1.0 / ops["maximum"](z, clip_norm))  # rounded as by TensorFlow
    scale = ops["where"](ops["isfinite"](z), scale, np.nan)
    return [None if t is None else t * scale.cast(t.dtype) for t in ts], z


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "norm": norm,
    "linalg.norm": norm,
    "linalg.normalize": normalize,
    "linalg.global_norm": global_norm,
    "clip_by_norm": clip_by_norm,
    "clip_by_average_norm": clip_by_average_norm,
    "clip_by_global_norm": clip_by_global_norm,
}
