"""Functions made of a few elementwise ops and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.indexing import index
from graphgrad.compiler.ops.join import together
from graphgrad.compiler.types import element_count, same_shape


@located
def add_n(inputs: Any, name: str | None = None) -> Any:
    """The sum of a list of tensors of one shape.

    >>> import graphgrad as gg
    >>> gg.add_n([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).numpy()
    array([ 9., 12.], dtype=float32)
    """
    if not isinstance(inputs, list | tuple):
        inputs = [inputs]
    xs = together(tuple(inputs), "add_n")
    total = xs[0]
    for x in xs[1:]:
        if not same_shape(x.type.shape, total.type.shape):
            raise ShapeError(
                f"add_n: the tensors differ in shape, {total.type} and {x.type}; + broadcasts"
            )
        total = total + x
    return total


@located
def accumulate_n(
    inputs: Any, shape: Any = None, tensor_dtype: Any = None, name: str | None = None
) -> Any:
    """The sum of a list of tensors of one shape, as `add_n`.

    >>> import graphgrad as gg
    >>> gg.math.accumulate_n([[1.0, 2.0], [3.0, 4.0]]).numpy()
    array([4., 6.], dtype=float32)
    """
    total = add_n(inputs, name)
    wanted = total.dtype if tensor_dtype is None else dtypes.as_dtype(tensor_dtype)
    if total.dtype is not wanted:
        raise DTypeError(f"accumulate_n: the tensors are {total.dtype.name}, not {wanted.name}")
    return total


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Any:
    """scalar * x.

    >>> import graphgrad as gg
    >>> gg.math.scalar_mul(2.0, [1.0, 3.0]).numpy()
    array([2., 6.], dtype=float32)
    """
    return ops["mul"](scalar, x)


def reciprocal_no_nan(x: Any, name: str | None = None) -> Any:
    """1 / x, but 0 where x is 0.

    >>> import graphgrad as gg
    >>> gg.math.reciprocal_no_nan([2.0, 0.0]).numpy()
    array([0.5, 0. ], dtype=float32)
    """
    return ops["divide_no_nan"](1, x)


@located
def polyval(coeffs: Sequence[Any], x: Any, name: str | None = None) -> Any:
    """The polynomial with these coefficients, the highest power first, by Horner's rule.

    >>> import graphgrad as gg
    >>> gg.math.polyval([1.0, -2.0, 3.0], [0.0, 2.0]).numpy()
    array([3., 3.], dtype=float32)
    """
    if not isinstance(coeffs, list | tuple):
        raise ArgumentError(f"polyval: coeffs is a list of coefficients, got {coeffs!r}")
    x = current_kind().lift(x)
    if not coeffs:
        return x * 0
    result = ops["add"](coeffs[0], x * 0)
    for c in coeffs[1:]:
        result = result * x + c
    return result


def zero_fraction(value: Any, name: str | None = None) -> Any:
    """The fraction of elements that are 0, as float32; NaN if there are none.

    >>> import graphgrad as gg
    >>> gg.nn.zero_fraction([0.0, 1.0, 0.0, 3.0]).numpy()
    np.float32(0.5)
    """
    x = current_kind().lift(value)
    zeros = ops["sum"]((x == 0).cast(dtypes.int64))
    count = current_kind().lift(element_count(x.type.shape))
    return zeros.cast(dtypes.float32) / count.cast(dtypes.float32)


def _neighbours(x: Any) -> tuple[Any, Any]:
    """All elements but the last in row-major order, and all but the first."""
    flat = current_kind().lift(x).reshape((-1,))
    return index(flat, slice(None, -1)), index(flat, slice(1, None))


def is_non_decreasing(x: Any, name: str | None = None) -> Any:
    """Is no element less than the one before it, in row-major order?

    >>> import graphgrad as gg
    >>> bool(gg.math.is_non_decreasing([1.0, 2.0, 2.0]))
    True
    """
    before, after = _neighbours(x)
    return ops["all"](before <= after)


def is_strictly_increasing(x: Any, name: str | None = None) -> Any:
    """Is each element greater than the one before it, in row-major order?

    >>> import graphgrad as gg
    >>> bool(gg.math.is_strictly_increasing([1.0, 2.0, 2.0]))
    False
    """
    before, after = _neighbours(x)
    return ops["all"](before < after)
