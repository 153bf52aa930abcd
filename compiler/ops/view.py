"""Views: elements at other places, an index map and no arithmetic; and what is made of views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphgrad.compiler.dims import Dim, Extent, divide, is_size, same_size
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.families import View
from graphgrad.compiler.op import Attrs, Samples, current_kind, located, ops
from graphgrad.compiler.ops.shapes import as_shape, block_key, check_block
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import (
    Shape,
    TensorType,
    broadcast_shapes,
    element_count,
    normalize_axes,
    normalize_axis,
    same_shape,
    show_shape,
    tensor_type,
)

Bound = tuple[tuple[Any, ...], Attrs]
IndexMap = tuple[tuple[int | None, Any, Any], ...]
DTYPES = ("float32", "float64", "bfloat16", "int64", "bool", "complex64")


def numbered(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """A sample array whose elements tell their places apart."""
    return np.asarray(rng.permutation(int(np.prod(shape))) - 3).reshape(shape).astype(dtype)


# -- broadcast_to


def _bind_broadcast(input: Any, shape: Any, name: str | None = None) -> Bound:
    """An open size that is 1 by a guard becomes the number: only a 1 stretches in index maps."""
    shape = as_shape(shape)
    x = current_kind().lift(input)
    lead = len(shape) - x.ndim
    if lead >= 0:
        own = x.type.shape
        known = [
            1 if isinstance(n, Dim) and n != m and is_size(n, 1) else n
            for n, m in zip(own, shape[lead:], strict=True)
        ]
        x = x.reshape(tuple(known))
    return (x,), {"shape": shape}


def _broadcast_type(x: TensorType, shape: Shape) -> TensorType:
    try:
        fits = same_shape(broadcast_shapes([x.shape, shape]), shape)
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(f"broadcast_to: {x} does not stretch to {show_shape(shape)}")
    return tensor_type(shape, x.dtype)


def _broadcast_map(x: TensorType, out: TensorType, shape: Shape) -> IndexMap:
    lead = out.ndim - x.ndim
    return tuple(
        (None, 0, 0) if n == 1 and out.shape[i + lead] != 1 else (i + lead, 1, 0)
        for i, n in enumerate(x.shape)
    )


def _broadcast_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, shape: Shape
) -> tuple[Any, ...]:
    (x,) = xs
    own = x.shape[1:]
    return (x.reshape((size, *(1,) * (len(shape) - len(own)), *own)).broadcast_to((size, *shape)),)


def _broadcast_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for own, shape in (((), (2, 3)), ((3,), (2, 3)), ((2, 1), (2, 4)), ((1,), (0,)), ((2,), (2,))):
        yield (numbered(rng, own, dtype),), {"shape": shape}


broadcast_to = View(
    name="broadcast_to",
    bind=_bind_broadcast,
    type=_broadcast_type,
    ref=lambda x, shape: np.broadcast_to(x, shape),
    index_map=_broadcast_map,
    transpose=lambda g, x, shape: (g.sum_to(x.shape),),
    batch=_broadcast_batch,
    samples=Samples(
        cases=_broadcast_cases,
        dtypes=DTYPES,
        oracle=lambda x, shape: np.ones(shape, x.dtype) * x,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros(3, np.float32), (2, 4)), "f32[3] does not stretch to [2, 4]"),
        ),
    ),
    doc="""Stretch to `shape` by NumPy's rule: axes align from the right, and size 1 stretches.

    >>> import graphgrad as gg
    >>> gg.broadcast_to([1, 2], (2, 2)).numpy()
    array([[1, 2],
           [1, 2]], dtype=int32)
    """,
)

# -- reshape


def _bind_reshape(tensor: Any, shape: Any, name: str | None = None) -> Bound:
    x = current_kind().lift(tensor)
    sizes = as_shape(shape)
    unknown = [i for i, n in enumerate(sizes) if isinstance(n, int) and n == -1]
    if len(unknown) > 1:
        raise ShapeError(f"reshape: {show_shape(sizes)} leaves more than one size open")
    if unknown:
        rest = element_count(n for i, n in enumerate(sizes) if i != unknown[0])
        total = element_count(x.shape)
        size = 0 if isinstance(rest, int) and rest == 0 else divide(total, rest)
        sizes = tuple(size if i == unknown[0] else n for i, n in enumerate(sizes))
        if not same_size(size * rest, total):
            raise _reshape_error(x.type, as_shape(shape), rest)
    return (x,), {"shape": sizes}


def _reshape_error(x: TensorType, shape: Shape, count: Extent) -> ShapeError:
    multiple = "a multiple of " if -1 in shape else ""
    return ShapeError(
        f"reshape: {x} has {element_count(x.shape)} elements, {show_shape(shape)} needs "
        f"{multiple}{count}"
    )


def _reshape_type(x: TensorType, shape: Shape) -> TensorType:
    if any(isinstance(n, int) and n < 0 for n in shape):
        raise ShapeError(f"reshape: a negative size in {show_shape(shape)}")
    if not same_size(element_count(x.shape), element_count(shape)):
        raise _reshape_error(x, shape, element_count(shape))
    return tensor_type(shape, x.dtype)


def _reshape_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for own, shape in (
        ((6,), (2, 3)), ((2, 3), (3, -1)), ((), (1, 1)), ((2, 3, 4), (-1,)), ((0, 3), (3, 0)),
        ((2, 1, 3), (6, 1)),
    ):  # fmt: skip
        yield (numbered(rng, own, dtype),), {"shape": shape}


reshape = View(
    name="reshape",
    bind=_bind_reshape,
    type=_reshape_type,
    ref=lambda x, shape: np.reshape(x, shape),
    index_map=lambda x, out, shape: None,
    transpose=lambda g, x, shape: (g.reshape(x.shape),),
    batch=lambda xs, batched, size, shape: (xs[0].reshape((size, *shape)),),
    samples=Samples(
        cases=_reshape_cases,
        dtypes=DTYPES,
        oracle=lambda x, shape: np.array(x.ravel().tolist(), x.dtype).reshape(shape),
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros((2, 3), np.float32), (4, 2)),
             "reshape: f32[2, 3] has 6 elements, [4, 2] needs 8"),
            (lambda op: op(np.zeros((2, 3), np.float32), (4, -1)),
             "reshape: f32[2, 3] has 6 elements, [4, -1] needs a multiple of 4"),
            (lambda op: op(np.zeros(4, np.float32), (-1, -1)), "leaves more than one size open"),
        ),
    ),
    doc="""The same elements in row-major order as `shape`, in which one size may be -1.

    >>> import graphgrad as gg
    >>> gg.reshape([1, 2, 3, 4], (2, -1)).numpy()
    array([[1, 2],
           [3, 4]], dtype=int32)
    """,
)  # fmt: skip

# -- transpose


def _bind_transpose(
    a: Any, perm: Sequence[int] | None = None, conjugate: bool = False, name: str | None = None
) -> Bound:
    x = current_kind().lift(a)
    rank = len(x.shape)
    if perm is None:
        return (x,), {"perm": tuple(reversed(range(rank)))}
    axes = tuple(normalize_axis(int(p), rank, "transpose") for p in perm)
    if sorted(axes) != list(range(rank)):
        raise ArgumentError(f"transpose: perm {tuple(perm)} is no permutation of the {rank} axes")
    return (x,), {"perm": axes}


def _transpose_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for own, perm in (
        ((2, 3), None),
        ((2, 3, 4), (1, 2, 0)),
        ((3,), (0,)),
        ((), None),
        ((2, 0), None),
    ):
        yield (numbered(rng, own, dtype),), {"perm": perm}


def _transpose_oracle(x: Array, perm: Sequence[int] | None) -> Array:
    order = tuple(perm) if perm is not None else tuple(range(x.ndim))[::-1]
    y = np.empty([x.shape[p] for p in order], x.dtype)
    for place in np.ndindex(*y.shape):
        source = [0] * x.ndim
        for i, p in zip(place, order, strict=True):
            source[p] = i
        y[place] = x[tuple(source)]
    return y


transpose = View(
    name="transpose",
    bind=_bind_transpose,
    type=lambda x, perm: tensor_type(tuple(x.shape[p] for p in perm), x.dtype),
    ref=lambda x, perm: np.transpose(x, perm),
    index_map=lambda x, out, perm: tuple((perm.index(i), 1, 0) for i in range(x.ndim)),
    transpose=lambda g, x, perm: (g.transpose([perm.index(i) for i in range(len(perm))]),),
    batch=lambda xs, batched, size, perm: (xs[0].transpose([0, *(p + 1 for p in perm)]),),
    samples=Samples(
        cases=_transpose_cases,
        dtypes=DTYPES,
        oracle=_transpose_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros((2, 3), np.float32), (0, 0)),
             "perm (0, 0) is no permutation of the 2 axes"),
        ),
    ),
    doc="""The axes in the order `perm`; all reversed when it is None.

    >>> import graphgrad as gg
    >>> gg.transpose([[1, 2], [3, 4]]).numpy()
    array([[1, 3],
           [2, 4]], dtype=int32)
    """,
)  # fmt: skip

# -- slice: element i along an axis is start + step * i, for i below the size


def _bind_slice(
    input_: Any, begin: Any, size: Any, steps: Any = None, name: str | None = None
) -> Bound:
    """TensorFlow's `slice(x, begin, size)`, where size -1 is the rest; `steps` may be negative."""
    x = current_kind().lift(input_)
    starts, sizes = as_shape(begin), as_shape(size)
    if len(starts) != x.ndim or len(sizes) != x.ndim:
        raise ShapeError(
            f"slice: {x.type} needs {x.ndim} starts and sizes, got {len(starts)} and {len(sizes)}"
        )
    strides = (1,) * x.ndim if steps is None else tuple(map(int, steps))
    sizes = tuple(
        n - start if isinstance(m, int) and m == -1 else m
        for n, start, m in zip(x.shape, starts, sizes, strict=True)
    )
    return (x,), {"starts": starts, "sizes": sizes, "steps": strides}


def _slice_type(x: TensorType, starts: Shape, sizes: Shape, steps: tuple[int, ...]) -> TensorType:
    check_block("slice", x.shape, x.dtype, starts, sizes, steps)
    return tensor_type(sizes, x.dtype)


def _slice_map(x: TensorType, out: TensorType, **attrs: Any) -> IndexMap:
    starts, steps = attrs["starts"], attrs["steps"]
    return tuple(
        (None, 0, start) if isinstance(n, int) and n == 1 else (i, step, start)
        for i, (n, start, step) in enumerate(zip(out.shape, starts, steps, strict=True))
    )


def _slice_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, starts: Shape, sizes: Shape,
    steps: tuple[int, ...],
) -> tuple[Any, ...]:  # fmt: skip
    return (take_slice(xs[0], (0, *starts), (size, *sizes), (1, *steps)),)


def take_slice(x: Any, starts: Shape, sizes: Shape, steps: tuple[int, ...]) -> Any:
    """The `slice` op, or `x` itself where nothing would change."""
    if sizes == x.shape and all(n == 0 for n in starts) and all(n == 1 for n in steps):
        return x
    return ops["slice"](x, starts, sizes, steps)


def slice_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for own, starts, sizes, steps in (
        ((5,), (1,), (3,), (1,)), ((5,), (4,), (5,), (-1,)), ((6,), (1,), (3,), (2,)),
        ((3, 4), (0, 3), (2, 2), (2, -3)), ((3, 4), (1, 1), (1, 0), (1, 1)), ((), (), (), ()),
    ):  # fmt: skip
        yield (numbered(rng, own, dtype),), {"begin": starts, "size": sizes, "steps": steps}


def _slice_oracle(x: Array, begin: Shape, size: Shape, steps: tuple[int, ...]) -> Array:
    for axis, (start, m, step) in enumerate(zip(begin, size, steps, strict=True)):
        x = x.take([start + i * step for i in range(m)], axis)
    return x


slice = View(
    name="slice",
    bind=_bind_slice,
    type=_slice_type,
    ref=lambda x, starts, sizes, steps: x[block_key(starts, sizes, steps)],
    index_map=_slice_map,
    transpose=lambda g, x, starts, sizes, steps: (
        ops["unslice"](g, shape=x.shape, starts=starts, steps=steps),
    ),
    batch=_slice_batch,
    samples=Samples(
        cases=slice_cases,
        dtypes=DTYPES,
        oracle=_slice_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros(5, np.float32), (3,), (4,)),
             "slice: axis 0 of f32[5] has no elements 3 to 6"),
            (lambda op: op(np.zeros((2, 3), np.float32), (0,), (1,)),
             "f32[2, 3] needs 2 starts and sizes, got 1 and 1"),
        ),
    ),
    doc="""The block of `size` elements from `begin` on, an entry an axis; size -1 is the rest.

    >>> import graphgrad as gg
    >>> gg.slice([[1, 2, 3], [4, 5, 6]], (0, 1), (2, 2)).numpy()
    array([[2, 3],
           [5, 6]], dtype=int32)
    """,
)  # fmt: skip


# -- functions over views


@located
def expand_dims(input: Any, axis: int, name: str | None = None) -> Any:
    """`input` with an axis of size 1 put in at `axis`.

    >>> import graphgrad as gg
    >>> gg.expand_dims([1, 2], 0).numpy()
    array([[1, 2]], dtype=int32)
    """
    x = current_kind().lift(input)
    place = normalize_axis(axis, x.ndim + 1, "expand_dims")
    return x.reshape((*x.shape[:place], 1, *x.shape[place:]))


@located
def squeeze(input: Any, axis: Any = None, name: str | None = None) -> Any:
    """`input` without the axes of size 1, or without those named; ShapeError where one is not 1.

    >>> import graphgrad as gg
    >>> gg.squeeze([[1, 2]]).numpy()
    array([1, 2], dtype=int32)
    """
    x = current_kind().lift(input)
    if axis is None:
        axes = tuple(i for i, n in enumerate(x.shape) if isinstance(n, int) and n == 1)
    else:
        axes = normalize_axes(axis, x.ndim, "squeeze")
    for a in axes:
        if not same_size(x.shape[a], 1):
            raise ShapeError(f"squeeze: axis {a} of {x.type} has size {x.shape[a]}, not 1")
    return x.reshape(tuple(n for i, n in enumerate(x.shape) if i not in axes))


@located
def reverse(tensor: Any, axis: Any, name: str | None = None) -> Any:
    """`tensor` with the order along `axis` (one or several) reversed.

    >>> import graphgrad as gg
    >>> gg.reverse([1, 2, 3], 0).numpy()
    array([3, 2, 1], dtype=int32)
    """
    x = current_kind().lift(tensor)
    axes = normalize_axes(axis, x.ndim, "reverse")
    steps = tuple(-1 if i in axes else 1 for i in range(x.ndim))
    # An empty axis is its own reverse, and has no last element to start from.
    steps = tuple(
        1 if isinstance(n, int) and n == 0 else s for n, s in zip(x.shape, steps, strict=True)
    )
    starts = tuple(n - 1 if s < 0 else 0 for n, s in zip(x.shape, steps, strict=True))
    return take_slice(x, starts, x.shape, steps)
