"""Slices with their indices, and the methods of variables that write at indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.ops.shapes import as_shape
from graphgrad.compiler.source import here


class IndexedSlices:
    """Rows `values` of a tensor of shape `dense_shape`, that stand at `indices` of its first axis.

    As a tensor (`gg.convert_to_tensor`), rows that are not given are 0, and rows of one index are
    added up.

    >>> import graphgrad as gg
    >>> s = gg.IndexedSlices([[1.0], [2.0]], [2, 0], dense_shape=[3, 1])
    >>> gg.convert_to_tensor(s).numpy().tolist()
    [[2.0], [0.0], [1.0]]
    """

    __slots__ = ("values", "indices", "dense_shape")

    def __init__(self, values: Any, indices: Any, dense_shape: Any = None) -> None:
        kind = current_kind()
        self.values = kind.lift(values)
        self.indices = kind.lift(indices)
        self.dense_shape = None if dense_shape is None else as_shape(dense_shape)

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    @property
    def shape(self) -> Any:
        return self.dense_shape

    def __graphgrad_value__(self) -> Any:
        if self.dense_shape is None:
            raise ArgumentError(
                "these IndexedSlices have no dense_shape, so they are no whole tensor", here()
            )
        return ops["unsorted_segment_sum"](self.values, self.indices, self.dense_shape[0])

    def __repr__(self) -> str:
        return (
            f"IndexedSlices(values={self.values!r}, indices={self.indices!r}, "
            f"dense_shape={self.dense_shape})"
        )


def _nd(mode: str, what: str) -> Callable[..., Any]:
    """A method that writes at index tuples."""

    def method(self: Any, indices: Any, updates: Any, name: str | None = None) -> Any:
        op = ops[f"tensor_scatter_nd_{mode}"]
        return self._written(f"scatter_nd_{mode}", lambda x: op(x, indices, updates))

    method.__name__ = f"scatter_nd_{mode}"
    method.__qualname__ = f"Variable.scatter_nd_{mode}"
    method.__doc__ = (
        f"{what} at the index tuples in the last axis of `indices`; returns the variable."
    )
    return method


def _rows(mode: str, what: str, change: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """A method that writes rows, given with their indices."""

    def method(
        self: Any, sparse_delta: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        rows, indices = _slices(sparse_delta, self.dtype, f"scatter_{mode}")
        return self._written(f"scatter_{mode}", lambda x: change(x, rows, indices))

    method.__name__ = f"scatter_{mode}"
    method.__qualname__ = f"Variable.scatter_{mode}"
    method.__doc__ = f"{what} of `sparse_delta`, which are gg.IndexedSlices; returns the variable."
    return method


def _slices(x: Any, dtype: Any, method: str) -> tuple[Any, Any]:
    if not hasattr(x, "values") or not hasattr(x, "indices"):
        raise ArgumentError(
            f"{method}: takes gg.IndexedSlices(values, indices), got {type(x).__name__}; "
            "scatter_nd_* take indices and updates", here()
        )  # fmt: skip
    kind, values = current_kind(), x.values
    return kind.lift(values, None if isinstance(values, Arith) else dtype), kind.lift(x.indices)


def _onto(mode: str) -> Callable[[Any, Any, Any], Any]:
    """Rows put, added and so on at indices of the first axis: index tuples of one index."""

    def change(x: Any, rows: Any, indices: Any) -> Any:
        tuples = indices.reshape((*indices.shape, 1))
        return ops[f"tensor_scatter_nd_{mode}"](x, tuples, rows)

    return change


def _product(x: Any, rows: Any, indices: Any) -> Any:
    indices = ops["check_index"](indices, x.shape[0], 0, "scatter_mul")
    return ops["unsorted_segment_prod"](rows, indices, x.shape[0])


def _batch_update(x: Any, rows: Any, indices: Any) -> Any:
    return ops["scatter"](x, rows.cast(x.dtype), indices, "update", indices.ndim - 1)


class ScatterMethods:
    """The methods `scatter_*` of variables, by TensorFlow's names.

    An index out of range raises IndexOutOfRange, and leaves the variable as it was. Gradients flow
    through the written values.
    """

    __slots__ = ()

    scatter_nd_update = _nd("update", "Put `updates` (of several, the last)")
    scatter_nd_add = _nd("add", "Add `updates`")
    scatter_nd_sub = _nd("sub", "Subtract `updates`")
    scatter_nd_max = _nd("max", "Take the greatest of `updates` and of what is there")
    scatter_nd_min = _nd("min", "Take the least of `updates` and of what is there")

    scatter_update = _rows("update", "Put the rows", _onto("update"))
    scatter_add = _rows("add", "Add the rows", _onto("add"))
    scatter_sub = _rows("sub", "Subtract the rows", _onto("sub"))
    scatter_max = _rows("max", "Take the greatest of what is there and the rows", _onto("max"))
    scatter_min = _rows("min", "Take the least of what is there and the rows", _onto("min"))
    scatter_mul = _rows("mul", "Multiply by the rows", lambda x, *s: x * _product(x, *s))
    scatter_div = _rows("div", "Divide by the rows", lambda x, *s: x / _product(x, *s))
    batch_scatter_update = _rows("update", "Put the rows, one for each batch,", _batch_update)

    def _written(self: Any, method: str, change: Callable[[Any], Any]) -> Any:
        """Set the value to what `change` makes of it; returns the variable."""
        with self._lock:
            self._set(self._fit(change(self.value()), method))
        return self

    def gather_nd(self: Any, indices: Any, name: str | None = None) -> Any:
        """The elements at the index tuples in the last axis of `indices`."""
        return ops["gather_nd"](self.value(), indices)

    def sparse_read(self: Any, indices: Any, name: str | None = None) -> Any:
        """The rows at `indices`."""
        return ops["gather"](self.value(), indices)
