"""Making tensors: constants, conversions, fills, ranges; and asking for sizes."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith, holds_tensor
from graphgrad.compiler.dims import Dim
from graphgrad.compiler.dtypes import as_dtype
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops, state
from graphgrad.compiler.ops.index import range_
from graphgrad.compiler.ops.join import stack
from graphgrad.compiler.ops.shapes import as_shape
from graphgrad.compiler.source import here
from graphgrad.compiler.types import broadcast_shapes, normalize_axis, show_shape
from graphgrad.eager import owned_array, stacked
from graphgrad.public import publish
from graphgrad.tensor import EagerTensor, TensorShape
from graphgrad.variable import Variable


@located
def constant(value: Any, dtype: Any = None, shape: Any = None, name: str = "Const") -> Any:
    """A tensor of `value`, which is copied. Python floats become float32, ints int32.

    `shape` gives the tensor that shape: one element fills it.

    >>> import graphgrad as gg
    >>> gg.constant([[1, 2], [3, 4]], dtype=gg.float32)
    <gg.Tensor: shape=(2, 2), dtype=float32, numpy=
    array([[1., 2.],
           [3., 4.]], dtype=float32)>
    """
    wanted = None if dtype is None else as_dtype(dtype)
    if isinstance(value, Arith) or hasattr(value, "__graphgrad_value__"):
        tensor = current_kind().lift(value)
        tensor = tensor if wanted is None else tensor.cast(wanted)
    elif isinstance(value, Dim) or (isinstance(value, list | tuple) and _has_dim(value)):
        tensor = size_tensor(value, wanted or dtypes.int32)
    elif isinstance(value, list | tuple) and holds_tensor(value):
        tensor = stacked(value, wanted)
    else:
        array = owned_array(value, wanted)
        tensor = EagerTensor(array) if state.builder is None else state.builder.lift(array)
    if shape is None:
        return tensor
    sizes = as_shape(shape)
    if tensor.type.size == 1:
        return tensor.reshape(()).broadcast_to(sizes)
    return tensor.reshape(sizes)


def convert_to_tensor(
    value: Any, dtype: Any = None, dtype_hint: Any = None, name: str | None = None
) -> Any:
    """`value` as a tensor; a tensor is returned as it is, and DTypeError raised if `dtype` differs.

    >>> import graphgrad as gg
    >>> gg.convert_to_tensor([1, 2]).dtype
    gg.int32
    """
    if isinstance(value, Arith) or hasattr(value, "__graphgrad_value__"):
        tensor = current_kind().lift(value)
        if dtype is not None and tensor.dtype is not as_dtype(dtype):
            raise DTypeError(
                f"convert_to_tensor: dtype {as_dtype(dtype).name} is asked for, the tensor is "
                f"{tensor.dtype.name}; convert it with gg.cast", here()
            )  # fmt: skip
        return tensor
    return constant(value, dtype)


def from_dlpack(x: Any) -> Any:
    """The memory of another library's array as a tensor, without a copy, by the DLPack protocol.

    What its owner writes to it later is seen in the tensor.

    >>> import graphgrad as gg
    >>> import numpy as np
    >>> gg.from_dlpack(np.ones(2, np.float32)) + 1
    <gg.Tensor: shape=(2,), dtype=float32, numpy=array([2., 2.], dtype=float32)>
    """
    array = np.from_dlpack(x)
    as_dtype(array.dtype)
    return EagerTensor(array)


def _has_dim(value: Any) -> bool:
    return any(isinstance(v, Dim) for v in value)


def size_tensor(value: Any, dtype: Any) -> Any:
    """Sizes, of which some are unknown while tracing, as a tensor."""
    kind = current_kind()
    if isinstance(value, list | tuple):
        return stack([kind.lift(n, dtype) for n in value])
    return kind.lift(value, dtype)


@located
def _filled(shape: Any, value: Any, dtype: Any) -> Any:
    """`value` in every element; a fresh array outside of traces."""
    sizes = as_shape(shape)
    if any(isinstance(n, int) and n < 0 for n in sizes):
        raise ShapeError(f"a negative size in {show_shape(sizes)}")
    if state.builder is None:
        return EagerTensor(np.full(sizes, value, dtype.dtype))
    return state.builder.lift(value, dtype).broadcast_to(sizes)


def zeros(shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> Any:
    """Zeros of `shape`.

    >>> import graphgrad as gg
    >>> gg.zeros(3).numpy()
    array([0., 0., 0.], dtype=float32)
    """
    return _filled(shape, 0, as_dtype(dtype))


def ones(shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> Any:
    """Ones of `shape`.

    >>> import graphgrad as gg
    >>> gg.ones((2, 1), gg.int32).numpy()
    array([[1],
           [1]], dtype=int32)
    """
    return _filled(shape, 1, as_dtype(dtype))


def fill(dims: Any, value: Any, name: str | None = None) -> Any:
    """`value`, a number or 0-d tensor, in every element of shape `dims`.

    >>> import graphgrad as gg
    >>> gg.fill((2,), 9).numpy()
    array([9, 9], dtype=int32)
    """
    return current_kind().lift(value).broadcast_to(as_shape(dims))


def zeros_like(input: Any, dtype: Any = None, name: str | None = None) -> Any:
    """Zeros of the shape and, unless given, the dtype of `input`.

    >>> import graphgrad as gg
    >>> gg.zeros_like([1.5, 2.5]).numpy()
    array([0., 0.], dtype=float32)
    """
    t = current_kind().lift(input).type
    return _filled(t.shape, 0, t.dtype if dtype is None else as_dtype(dtype))


def ones_like(input: Any, dtype: Any = None, name: str | None = None) -> Any:
    """Ones of the shape and, unless given, the dtype of `input`.

    >>> import graphgrad as gg
    >>> gg.ones_like([1.5, 2.5]).numpy()
    array([1., 1.], dtype=float32)
    """
    t = current_kind().lift(input).type
    return _filled(t.shape, 1, t.dtype if dtype is None else as_dtype(dtype))


def eye(
    num_rows: Any, num_columns: Any = None, batch_shape: Any = None, dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Any:  # fmt: skip
    """The identity matrix, repeated over `batch_shape`.

    >>> import graphgrad as gg
    >>> gg.eye(2).numpy()
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    columns = num_rows if num_columns is None else num_columns
    found = ops["iota"](num_rows, dtypes.int32).reshape((num_rows, 1))
    across = ops["iota"](columns, dtypes.int32).reshape((1, columns))
    matrix = ops["equal"](found, across).cast(as_dtype(dtype))
    return (
        matrix
        if batch_shape is None
        else matrix.broadcast_to((*as_shape(batch_shape), num_rows, columns))
    )


@located
def linspace(start: Any, stop: Any, num: int, name: str | None = None, axis: int = 0) -> Any:
    """`num` values from `start` to `stop`, evenly spaced, both ends included exactly.

    The ends may be tensors, which broadcast; the values then run along a new axis at `axis`.

    >>> import graphgrad as gg
    >>> gg.linspace(0.0, 1.0, 5).numpy()
    array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    kind = current_kind()
    num = int(as_shape(num)[0])
    first, last = kind.lift(start), kind.lift(stop)
    if num < 1:
        raise ArgumentError(f"linspace: the count is positive, got {num}")
    dtype = dtypes.promote(first.dtype, last.dtype)
    dtype = dtype if dtype.is_inexact else dtypes.float64
    shape = broadcast_shapes([first.type.shape, last.type.shape], "linspace")
    place = normalize_axis(int(axis), len(shape) + 1, "linspace")
    apart = (*shape[:place], 1, *shape[place:])
    first, last = (x.cast(dtype).broadcast_to(shape).reshape(apart) for x in (first, last))
    steps = ops["iota"](num, dtypes.int32)
    steps = steps.reshape(tuple(num if i == place else 1 for i in builtins.range(len(apart))))
    values = first + steps.cast(dtype) * ((last - first) / max(num - 1, 1))
    return ops["where"](ops["equal"](steps, num - 1), last if num > 1 else first, values)


def shape(input: Any, out_type: Any = dtypes.int32, name: str | None = None) -> Any:
    """The sizes of `input` as a tensor; `input.shape` has them as a tuple.

    >>> import graphgrad as gg
    >>> gg.shape(gg.zeros((2, 3))).numpy()
    array([2, 3], dtype=int32)
    """
    sizes = list(current_kind().lift(input).type.shape)
    if any(isinstance(n, Dim) for n in sizes):
        return size_tensor(sizes, as_dtype(out_type))
    return constant(np.array(sizes, as_dtype(out_type).dtype))


def shape_n(input: Any, out_type: Any = dtypes.int32, name: str | None = None) -> list[Any]:
    """The shapes of several tensors as tensors.

    >>> import graphgrad as gg
    >>> [s.numpy().tolist() for s in gg.shape_n([gg.zeros(3), gg.zeros((2, 1))])]
    [[3], [2, 1]]
    """
    return [shape(x, out_type) for x in input]


@located
def broadcast_static_shape(shape_x: Any, shape_y: Any) -> Any:
    """The shape to which tensors of two shapes broadcast.

    >>> import graphgrad as gg
    >>> gg.broadcast_static_shape((2, 1), (3,))
    TensorShape([2, 3])
    """
    return TensorShape(broadcast_shapes([as_shape(shape_x), as_shape(shape_y)]))


def broadcast_dynamic_shape(shape_x: Any, shape_y: Any) -> Any:
    """The shape to which tensors of two shapes broadcast, as a tensor.

    >>> import graphgrad as gg
    >>> gg.broadcast_dynamic_shape([2, 1], [3]).numpy()
    array([2, 3], dtype=int32)
    """
    sizes = list(broadcast_static_shape(shape_x, shape_y))
    found = next((s.dtype for s in (shape_x, shape_y) if isinstance(s, Arith)), dtypes.int32)
    return size_tensor(sizes, found) if sizes else constant(np.zeros(0, found.dtype))


def size(input: Any, out_type: Any = dtypes.int32, name: str | None = None) -> Any:
    """The number of elements of `input` as a tensor.

    >>> import graphgrad as gg
    >>> gg.size([[1, 2], [3, 4]]).numpy()
    np.int32(4)
    """
    return current_kind().lift(current_kind().lift(input).type.size, as_dtype(out_type))


def rank(input: Any, name: str | None = None) -> Any:
    """The number of axes of `input` as a tensor.

    >>> import graphgrad as gg
    >>> gg.rank([[1, 2]]).numpy()
    np.int32(2)
    """
    return constant(current_kind().lift(input).ndim)


def is_tensor(x: Any) -> bool:
    """Is `x` a tensor or a variable?

    >>> import graphgrad as gg
    >>> gg.is_tensor(gg.constant(1)), gg.is_tensor(1)
    (True, False)
    """
    return isinstance(x, Arith)


def ensure_shape(x: Any, shape: Any, name: str | None = None) -> Any:
    """`x`, after a check that its shape fits `shape`, in which None is any size.

    >>> import graphgrad as gg
    >>> gg.ensure_shape([1, 2], [None]).numpy()
    array([1, 2], dtype=int32)
    """
    x = current_kind().lift(x)
    wanted = tuple(None if n is None else int(n) for n in shape)
    fits = len(wanted) == x.ndim and all(
        m is None or not isinstance(n, int) or n == m for n, m in zip(x.type.shape, wanted)
    )
    if not fits:
        raise ShapeError(f"ensure_shape: {x.type} does not fit {list(wanted)}", here())
    return x


range = range_

for _name, _function in (
    ("zeros_like", zeros_like), ("ones_like", ones_like), ("ensure_shape", ensure_shape),
):  # fmt: skip
    publish(_name)(_function)

__all__ = [
    "constant", "convert_to_tensor", "zeros", "ones", "fill", "zeros_like", "ones_like", "eye",
    "linspace", "range", "shape", "shape_n", "size", "rank", "is_tensor", "ensure_shape",
    "Variable", "broadcast_static_shape", "broadcast_dynamic_shape",
]  # fmt: skip
