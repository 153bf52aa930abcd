"""gg.TensorArray: TensorFlow's array of tensors that are written and read one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphgrad.arrays import (
    RowArray,
    appended,
    blank,
    checked_index,
    fitted,
    grown,
    joined_rows,
    row,
)
from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, IndexOutOfRange, ShapeError
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.ops.join import stack, unstack
from graphgrad.compiler.ops.runtime_sizes import size_in
from graphgrad.compiler.ops.shapes import known_or_none
from graphgrad.compiler.source import here
from graphgrad.compiler.types import show_shape
from graphgrad.slices import updated
from graphgrad.tensor import TensorShape


@dataclass(init=False, eq=False, repr=False)
class TensorArray(RowArray):
    """An array of tensors of one dtype, which `write` and `read` reach by index.

    Nothing changes in place: `write`, `unstack`, `scatter` and `split` return the new array, in
    every mode. It can be a loop variable, an argument and a result of a function, and derivatives
    flow through it. Elements that were never written are zeros. With `dynamic_size` a write beyond
    the end makes the array longer. Reading never clears, whatever `clear_after_read` says.

    An index out of range raises IndexOutOfRange, an element of another dtype DTypeError, one that
    does not fit `element_shape` ShapeError. Unless `infer_shape` is False, the first element fixes
    the shape of all.

    >>> import graphgrad as gg
    >>> squares = gg.TensorArray(gg.int32, size=3)
    >>> for i in range(3):
    ...     squares = squares.write(i, i * i)
    >>> squares.stack().numpy()
    array([0, 1, 4], dtype=int32)
    """

    # One of the two: the elements that were written, by index, as long as all indices are known;
    # or all of them in one tensor.
    items: dict[int, Any]
    rows: Any

    def __init__(
        self, dtype: Any, size: Any = None, dynamic_size: bool | None = None,
        clear_after_read: bool | None = None, tensor_array_name: str | None = None,
        handle: Any = None, flow: Any = None, infer_shape: bool = True, element_shape: Any = None,
        colocate_with_first_write_call: bool = True, name: str | None = None,
    ) -> None:  # fmt: skip
        if handle is not None or flow is not None:
            raise ArgumentError(
                "TensorArray: there are no handles and flows to make one of", here()
            )
        if size is None:
            raise ArgumentError("TensorArray: give its size, or 0 and dynamic_size=True", here())
        self._dtype = dtypes.as_dtype(dtype)
        self._dynamic = bool(dynamic_size)
        self._infer = infer_shape
        self._shape = None if element_shape is None else TensorShape(element_shape)
        count = known_or_none(size)
        if isinstance(count, int):
            self._count = count
            self.items = {}
        else:
            if not self.typed:
                raise ArgumentError(
                    "TensorArray: a size that only the run knows needs an element_shape", here()
                )
            self.rows = blank(size_in(size), tuple(self._shape or ()), self._dtype)

    # -- what it is

    @property
    def dtype(self) -> Any:
        """The dtype of the elements."""
        return self._dtype

    @property
    def dynamic_size(self) -> bool:
        """Does a write beyond the end make it longer?"""
        return self._dynamic

    @property
    def grows(self) -> bool:  # type: ignore[override]
        """May its length change?"""
        return self._dynamic

    @property
    def element_shape(self) -> TensorShape | None:
        """The shape of the elements, None where nothing is known of it."""
        return self._shape

    @property
    def typed(self) -> bool:  # type: ignore[override]
        """Is the shape of the elements known?"""
        known = self._shape is not None and None not in self._shape
        return known or hasattr(self, "rows") or bool(getattr(self, "items", None))

    def static_key(self) -> Any:
        """What tells it from others beside its tensors."""
        return self._dtype, self._dynamic, self._infer, self._shape, getattr(self, "_count", None)

    def size(self, name: str | None = None) -> Any:
        """The number of elements, a 0-d int32 tensor."""
        kind = current_kind()
        return kind.lift(self._length(), dtypes.int32)

    def _length(self) -> Any:
        return self.rows.type.shape[0] if hasattr(self, "rows") else self._count

    # -- its two forms

    def _with(self, items: dict[int, Any] | None = None, rows: Any = None) -> TensorArray:
        """A copy with other elements."""
        found = object.__new__(TensorArray)
        for key, value in vars(self).items():
            if key not in ("items", "rows", "_count"):
                setattr(found, key, value)
        if items is not None:
            found.items = items
            found._count = max(self._count, 1 + max(items, default=-1))
        else:
            found.rows = rows
        return found

    def dense(self) -> TensorArray:
        """The same with all elements in one tensor; unchanged while nothing tells their shape."""
        if hasattr(self, "rows") or not self.typed:
            return self
        if self.items:
            found = next(iter(self.items.values()))
            shape, dtype = found.type.shape, found.dtype
        else:
            shape, dtype = tuple(self._shape or ()), self._dtype
        if not self.items or not self._count:
            return self._with(rows=blank(self._count, shape, dtype))
        missing = blank(1, shape, dtype)[0] if len(self.items) < self._count else None
        return self._with(rows=stack([self.items.get(i, missing) for i in range(self._count)]))

    def like(self, other: TensorArray) -> TensorArray:
        """Dense: with the shape of the elements of `other`, if that is known and its own is not."""
        if self.typed or not other.typed:
            return self.dense()
        rows = other.dense().rows
        return self._with(rows=blank(self._count, rows.type.shape[1:], self._dtype))

    def _dense(self, what: str) -> Any:
        found = self.dense()
        if not hasattr(found, "rows"):
            raise ArgumentError(
                f"TensorArray.{what}: nothing was written, so the shape of the elements is not "
                "known; give element_shape", here()
            )  # fmt: skip
        return found.rows

    def _fits(self, value: Any, what: str) -> tuple[Any, TensorArray]:
        """`value` as an element, and the array with what that tells of the shape of all."""
        x = fitted(value, self._dtype, f"TensorArray.{what}")
        shape = TensorShape(x.type.shape)
        if self._shape is not None and not self._shape.is_compatible_with(shape):
            raise ShapeError(
                f"TensorArray.{what}: the elements have shape {self._shape}, got "
                f"{show_shape(x.type.shape)}", here()
            )  # fmt: skip
        if not self._infer or (self._shape is not None and None not in self._shape):
            return x, self
        found = self._with(getattr(self, "items", None), getattr(self, "rows", None))
        found._shape = shape
        return x, found

    # -- one element

    def write(self, index: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with `value` as the element at `index`, an integer or a 0-d integer tensor.

        >>> import graphgrad as gg
        >>> gg.TensorArray(gg.float32, 0, dynamic_size=True).write(1, [3.0]).stack().numpy()
        array([[0.],
               [3.]], dtype=float32)
        """
        x, known = self._fits(value, "write")
        i = known_or_none(index)
        if hasattr(known, "items") and isinstance(i, int):
            if i < 0 or (i >= known._count and not known._dynamic):
                raise _outside("write", i, known._count)
            return known._with({**known.items, i: x})
        if state.builder is None and hasattr(known, "rows"):
            return known._listed().write(index, x)
        rows = known.dense().rows if known.typed else blank(known._count, x.type.shape, self._dtype)
        if known._dynamic:
            if isinstance(i, int) and i == rows.type.shape[0]:
                return known._with(rows=appended(rows, x))
            rows = grown(rows, current_kind().lift(index).cast(dtypes.int64) + 1)
        place = checked_index(rows, index, "TensorArray.write", wraps=False)
        return known._with(rows=updated(rows, place, x))

    def _listed(self) -> TensorArray:
        """With the elements one by one."""
        found = self._with(rows=self.rows)
        found._count = self.rows.type.shape[0]
        return found._with(dict(enumerate(unstack(self.rows))))

    def read(self, index: Any, name: str | None = None) -> Any:
        """The element at `index`, an integer or a 0-d integer tensor.

        >>> import graphgrad as gg
        >>> gg.TensorArray(gg.int32, 2).unstack([5, 7]).read(1).numpy()
        np.int32(7)
        """
        i = known_or_none(index)
        if hasattr(self, "items") and isinstance(i, int):
            if not 0 <= i < self._count:
                raise _outside("read", i, self._count)
            if i in self.items:
                return self.items[i]
        rows = self._dense("read")
        return row(rows, checked_index(rows, index, "TensorArray.read", wraps=False))

    # -- many elements

    def stack(self, name: str | None = None) -> Any:
        """The elements along a new first axis."""
        return self._dense("stack")

    def unstack(self, value: Any, name: str | None = None) -> TensorArray:
        """The array of the slices of `value` along its first axis.

        More of them than the array has elements raise ArgumentError, but with `dynamic_size`.

        >>> import graphgrad as gg
        >>> gg.TensorArray(gg.int32, 2).unstack([[1, 2], [3, 4]]).read(0).numpy()
        array([1, 2], dtype=int32)
        """
        x = fitted(value, self._dtype, "TensorArray.unstack")
        if not x.ndim:
            raise ShapeError(f"TensorArray.unstack: takes a first axis, got {x.type}", here())
        n, count = x.type.shape[0], self._length()
        if isinstance(n, int) and isinstance(count, int) and n > count and not self._dynamic:
            raise ArgumentError(
                f"TensorArray.unstack: {n} elements do not fit into an array of {count}", here()
            )
        _, known = self._fits(blank(1, x.type.shape[1:], x.dtype)[0], "unstack")
        return known._with(rows=x)

    def gather(self, indices: Any, name: str | None = None) -> Any:
        """The elements at `indices`, a vector of integers, along a new first axis.

        >>> import graphgrad as gg
        >>> gg.TensorArray(gg.int32, 3).unstack([5, 6, 7]).gather([2, 0]).numpy()
        array([7, 5], dtype=int32)
        """
        return ops["gather"](self._dense("gather"), indices, 0)

    def scatter(self, indices: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with the slices of `value` as the elements at `indices`; of an index that comes
        twice, the last.

        >>> import graphgrad as gg
        >>> gg.TensorArray(gg.int32, 3).scatter([2, 0], [5, 6]).stack().numpy()
        array([6, 0, 5], dtype=int32)
        """
        x = fitted(value, self._dtype, "TensorArray.scatter")
        places = known_or_none(indices)
        if isinstance(places, Arith) or places is None:
            places = indices
        elif hasattr(self, "items"):
            found = self
            for i, v in zip([*places], unstack(x), strict=True):
                found = found.write(int(i), v)
            return found
        _, known = self._fits(blank(1, x.type.shape[1:], x.dtype)[0], "scatter")
        rows = known.dense().rows
        places = current_kind().lift(places).cast(dtypes.int64)
        if known._dynamic:
            rows = grown(rows, ops["max"](places) + 1)
        return known._with(rows=ops["scatter"](rows, x, places, "update", 0))

    def concat(self, name: str | None = None) -> Any:
        """The elements joined along their first axis, in which they may differ in size.

        Elements of several shapes need `infer_shape=False`.

        >>> import graphgrad as gg
        >>> xs = gg.TensorArray(gg.int32, 2, infer_shape=False).write(0, [1, 2]).write(1, [3])
        >>> xs.concat().numpy()
        array([1, 2, 3], dtype=int32)
        """
        if hasattr(self, "items") and self.items:
            if len(self.items) < self._count:
                return joined_rows(self._dense("concat"))
            return ops["concat"]([self.items[i] for i in range(self._count)], 0)
        return joined_rows(self._dense("concat"))

    def split(self, value: Any, lengths: Any, name: str | None = None) -> TensorArray:
        """The array of pieces of `value` along its first axis, of the `lengths` given.

        A function must know the lengths while it is traced: else ArgumentError.

        >>> import graphgrad as gg
        >>> xs = gg.TensorArray(gg.int32, 2, infer_shape=False).split([1, 2, 3], [1, 2])
        >>> xs.read(1).numpy()
        array([2, 3], dtype=int32)
        """
        x = fitted(value, self._dtype, "TensorArray.split")
        sizes = known_or_none(lengths)
        if sizes is None:
            raise ArgumentError(
                "TensorArray.split: the lengths are to be known while tracing", here()
            )
        sizes = [int(n) for n in sizes]
        if len(sizes) != self._length() and not self._dynamic:
            raise ArgumentError(
                f"TensorArray.split: {len(sizes)} lengths for an array of {self._length()}", here()
            )
        found = self._with({}) if hasattr(self, "items") else self
        for i, piece in enumerate(ops["split"](x, sizes, 0)):
            found = found.write(i, piece)
        return found

    def identity(self) -> TensorArray:
        """The same array."""
        return self

    def close(self, name: str | None = None) -> None:
        """Nothing: memory is free when nobody refers to the array."""

    def __repr__(self) -> str:
        return f"TensorArray({self._dtype.name}, size={self._length()}, shape={self._shape})"


def _outside(what: str, index: int, size: int) -> IndexOutOfRange:
    word = {"read": "read from", "write": "write to"}[what]
    return IndexOutOfRange(
        f"TensorArray.{what}: tried to {word} index {index}, but the array size is {size}"
        + (" and it is not dynamic_size" if what == "write" else ""),
        here(),
    )
