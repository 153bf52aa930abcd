"""What ops share about shapes: shape arguments, and blocks of elements start + step * i."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Dim, at_least
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, GraphgradError, ShapeError
from graphgrad.compiler.op import ops, state
from graphgrad.compiler.types import Shape, tensor_type


def as_shape(shape: Any) -> Shape:
    """A shape argument as a tuple: an int, a Dim, a 0-d tensor, a sequence or array of them."""
    if isinstance(shape, np.ndarray):
        shape = shape.tolist()
    elif isinstance(shape, Arith):
        found = known_or_none(shape)
        vector: Any = shape
        if found is None and vector.ndim == 1 and isinstance(vector.shape[0], int):
            found = [vector[k] for k in range(vector.shape[0])]
        shape = shape if found is None else found
    sizes = shape if isinstance(shape, Sequence) else (shape,)
    return tuple([n if type(n) is int else _size(n) for n in sizes])


def _size(n: Any) -> Any:
    if isinstance(n, Dim):
        return n
    if isinstance(n, Arith):
        found = known_or_none(n)
        if found is None and n.ndim == 0 and n.dtype.is_integer:
            return ops["places"](n).shape[0]  # a run-time size
        n = known(n)
    try:
        return n if isinstance(n, Dim) else operator.index(n)
    except TypeError:
        raise ArgumentError(f"a size in a shape is an integer, got {n!r}") from None


def known(x: Any) -> Any:
    """What an integer tensor that decides a shape holds: in a trace it must follow from sizes and
    constants, as `gg.shape(x)[0] * 2` does."""
    if hasattr(x, "__graphgrad_value__"):
        x = x.__graphgrad_value__()
    builder: Any = state.builder
    if builder is None:
        return x.tolist()
    makers = {y: node for node in builder.nodes for y in node.outputs}

    def value(v: Any) -> Any:
        node = makers[v]
        if node.op.name == "constant":
            return node.attrs["value"].array
        if node.op.name == "size":
            return np.array(node.attrs["size"], object)
        inputs = [value(i) for i in node.inputs]
        if node.op.name == "cast" and inputs[0].dtype == object:  # sizes stay as they are
            return inputs[0]
        return np.asarray(node.op.ref(*inputs, **node.attrs))

    try:
        return value(builder.lift(x)).tolist()
    except GraphgradError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ShapeError(
            "a shape must be known while tracing, and this one is computed from values; use "
            "x.shape, whose unknown sizes are symbols"
        ) from None


def known_or_none(x: Any) -> Any:
    """What an argument holds, if that is known: numbers, sizes, and tensors of them in a trace."""
    if not isinstance(x, Arith):
        return x
    try:
        return known(x)
    except ShapeError:
        return None


def check_block(
    op: str, shape: Shape, dtype: DType, starts: Sequence[Any], sizes: Shape, steps: Sequence[int]
) -> None:
    """Raise unless the block lies inside `shape`; a start that is None is known only later."""
    x = tensor_type(shape, dtype)
    if not x.ndim == len(starts) == len(sizes) == len(steps):
        raise ShapeError(
            f"{op}: {x} needs {x.ndim} starts and sizes, got {len(starts)} and {len(sizes)}"
        )
    for axis, (n, start, m, step) in enumerate(zip(shape, starts, sizes, steps, strict=True)):
        first = 0 if start is None else start
        if (isinstance(m, int) and m == 0) or (m == n and first == 0 and step == 1):
            continue
        last = first + (m - 1) * step
        low, high = (first, last) if step > 0 else (last, first)
        if not (at_least(m, 0) and at_least(low, 0) and at_least(n, high + 1)):
            raise ShapeError(f"{op}: axis {axis} of {x} has no elements {low} to {high}")


def block_key(starts: Sequence[Any], sizes: Sequence[Any], steps: Sequence[int]) -> Any:
    """The NumPy key of a block."""
    key = []
    for start, size, step in zip(starts, sizes, steps, strict=True):
        stop = start + size * step
        key.append(np.s_[start : stop if stop >= 0 else None : step] if size else np.s_[:0])
    return tuple(key)
