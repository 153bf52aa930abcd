"""Arrays whose rows are written and read one by one, and that may grow: the state of loops.

In a trace the rows are one tensor with a further first axis, whose size may be a run-time size. A
change makes a new tensor, so that derivatives of reads and writes need the index and no old array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graphgrad import nest
from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.ops.join import stack
from graphgrad.compiler.ops.runtime_sizes import size_in
from graphgrad.compiler.ops.shapes import known_or_none
from graphgrad.compiler.source import here
from graphgrad.compiler.types import same_shape, show_shape
from graphgrad.slices import updated


def count_of(rows: Any) -> Any:
    """The number of rows: an int where it is known, else a 0-d int32 tensor."""
    n = rows.type.shape[0]
    return n if isinstance(n, int) else current_kind().lift(n)


def checked_index(rows: Any, index: Any, what: str, wraps: bool) -> Any:
    """`index` as an int, or as a 0-d tensor after a check; `wraps`: a negative one counts from the
    end."""
    n = rows.type.shape[0]
    i = known_or_none(index)
    if isinstance(i, int) and isinstance(n, int):
        place = i + n if wraps and i < 0 else i
        if not 0 <= place < n:
            raise IndexOutOfRange(f"{what}: index {i} is out of range for size {n}", here())
        return place
    i = current_kind().lift(index if i is None else i).cast(dtypes.int64)
    if wraps:
        i = ops["where"](i < 0, i + n, i)
    return ops["check_index"](i, n, 0, what)


def row(rows: Any, index: Any) -> Any:
    """One row, at a checked index."""
    return rows[index] if isinstance(index, int) else ops["gather"](rows, index, 0)


def with_row(rows: Any, index: Any, value: Any) -> Any:
    """`rows` with another row at a checked index."""
    return updated(rows, index, value)


def appended(rows: Any, value: Any) -> Any:
    """`rows` with one more row at the end."""
    return ops["concat"]([rows, value.reshape((1, *value.type.shape))], 0)


def grown(rows: Any, count: Any) -> Any:
    """`rows`, with rows of zeros after them if they are fewer than `count`."""
    n = rows.type.shape[0]
    missing = size_in(ops["maximum"](current_kind().lift(count).cast(dtypes.int64) - n, 0))
    more = blank(missing, rows.type.shape[1:], rows.dtype)
    return ops["concat"]([rows, more], 0)


def blank(count: Any, shape: Sequence[Any], dtype: Any) -> Any:
    """Rows of zeros."""
    zero = current_kind().lift(dtype.dtype.type(0))
    return zero.broadcast_to((count, *shape))


def fitted(value: Any, dtype: Any, what: str) -> Any:
    """`value` as a tensor of `dtype`: numbers are converted, other tensors refused."""
    kind = current_kind()
    x = kind.lift(value) if isinstance(value, Arith) else kind.lift(value, dtype)
    if x.dtype is not dtype:
        raise DTypeError(f"{what}: the elements are {dtype.name}, got {x.type}", here())
    return x


class RowArray:
    """What loops know of an array: how it enters and leaves a body as tensors.

    `typed`: is the type of the elements known? `grows`: may its length change?
    """

    typed: bool
    grows: bool

    def dense(self) -> Any:
        """The same with all elements in one tensor; unchanged while it is not typed."""
        raise NotImplementedError

    def like(self, other: Any) -> Any:
        """Dense; one that is not typed with the elements of `other`."""
        raise NotImplementedError


def map_arrays(change: Callable[..., Any], x: Any, other: Any = None) -> Any:
    """The structure `x` with `change(array, array of other)` for each of its arrays; without the
    second where `other` is None."""
    if isinstance(x, RowArray):
        return change(x) if other is None else change(x, other)
    if not nest.is_nest(x):
        return x
    if other is None:
        return nest.with_parts(x, lambda part: map_arrays(change, part))
    others = iter([part for _, part in nest.children(other)])
    return nest.with_parts(x, lambda part: map_arrays(change, part, next(others)))


def array_groups(x: Any) -> list[tuple[RowArray | None, int]]:
    """For each array and each other leaf, in order: the array or None, and how many tensors it
    is."""
    if isinstance(x, RowArray):
        return [(x, len(nest.flatten(x)))]
    if not nest.is_nest(x):
        return [(None, 1)]
    return [group for _, part in nest.children(x) for group in array_groups(part)]


def growing_leaves(x: Any) -> list[bool]:
    """For each tensor: is it the rows of an array that may grow?"""
    return [a is not None and a.grows for a, count in array_groups(x) for _ in range(count)]


def same_state(expected: Any, found: Any, what: str) -> None:
    """`nest.assert_same`, with the user's line; arrays may hold other elements."""
    a, b = (map_arrays(lambda a: {type(a).__name__: None}, x) for x in (expected, found))
    try:
        nest.assert_same(a, b, what)
    except ArgumentError as e:
        raise e.at(here()) from None


@dataclass(init=False, eq=False, repr=False)
class Growable(RowArray):
    """A list of tensors, or of structures of them, all of one type, as a value that never changes.

    `rows` is that structure with a further first axis. An empty one has no rows as long as nothing
    says what its elements are.
    """

    rows: Any
    grows = True
    is_list = True  # results of functions arrive as Python's lists

    @classmethod
    def of(cls, values: Sequence[Any]) -> Growable:
        """The list of `values`."""
        found = cls()
        return found.extended(list(values))

    @classmethod
    def of_rows(cls, rows: Any) -> Growable:
        """The list whose items are these rows."""
        return cls()._with(rows)

    def __graphgrad_value__(self) -> Any:
        """The elements as one tensor, as operations take a list of tensors."""
        rows = self.stack()
        if not isinstance(rows, Arith):
            raise ArgumentError("a list of structures is no tensor", here())
        return rows

    @property
    def typed(self) -> bool:  # type: ignore[override]
        """Is the type of the elements known?"""
        return hasattr(self, "rows")

    def dense(self) -> Growable:
        """This one: it is."""
        return self

    def _with(self, rows: Any) -> Growable:
        found = Growable()
        found.rows = rows
        return found

    def _map(self, change: Callable[..., Any], *others: Any) -> Any:
        return nest.map_structure(change, self.rows, *others)

    def like(self, other: Growable) -> Growable:
        """This one, if it is typed, else an empty one of the elements of `other`."""
        if self.typed or not other.typed:
            return self
        return self._with(other._map(lambda r: blank(0, r.type.shape[1:], r.dtype)))

    def appended(self, value: Any) -> Growable:
        """With one more element at the end."""
        if not self.typed:
            lifted = nest.map_structure(current_kind().lift, value)
            return self._with(nest.map_structure(lambda x: x.reshape((1, *x.shape)), lifted))
        return self._with(self._map(appended, self._element(value, "append")))

    def extended(self, values: Sequence[Any] | Growable) -> Growable:
        """With several more elements at the end."""
        if isinstance(values, Growable):
            if not values.typed:
                return self
            rows = values.rows
        elif not values:
            return self
        else:
            lift = current_kind().lift
            rows = nest.map_structure(lambda *xs: stack([lift(x) for x in xs]), *values)
        if not self.typed:
            return self._with(rows)
        nest.assert_same(self.rows, rows, "the elements of a list and what is added")
        return self._with(self._map(lambda a, b: ops["concat"]([a, b], 0), rows))

    def _element(self, value: Any, what: str) -> Any:
        """`value` as one more element: of the same structure and types."""
        try:
            nest.assert_same(self.rows, value, "the elements of a list and what is added")
        except ArgumentError as e:
            raise e.at(here()) from None

        def one(rows: Any, x: Any) -> Any:
            found = fitted(x, rows.dtype, f"list {what}")
            if not same_shape(found.type.shape, rows.type.shape[1:]):
                raise ShapeError(
                    f"list {what}: the elements have shape {show_shape(rows.type.shape[1:])}, got "
                    f"{show_shape(found.type.shape)}", here()
                )  # fmt: skip
            return found

        return self._map(one, value)

    def _place(self, index: Any, what: str) -> Any:
        if not self.typed:
            raise IndexOutOfRange(f"list {what}: the list is empty", here())
        return checked_index(nest.flatten(self.rows)[0], index, f"list {what}", wraps=True)

    def inserted(self, index: Any, value: Any) -> Growable:
        """With one more element before that at `index`, which is clipped as Python clips it."""
        found = self.appended(value)
        last = nest.flatten(found.rows)[0].type.shape[0] - 1
        at = current_kind().lift(index).cast(dtypes.int64)
        at = ops["where"](at < 0, ops["maximum"](at + last, 0), ops["minimum"](at, last))
        k = ops["iota"](last + 1, dtypes.int64)
        order = ops["where"](k < at, k, ops["where"](k > at, k - 1, last))
        return found._with(found._map(lambda r: ops["gather"](r, order, 0)))

    def __add__(self, other: Any) -> Growable:
        return self.extended(other)

    def __radd__(self, other: Any) -> Growable:
        return Growable.of(other).extended(self)

    def popped(self, index: Any = -1) -> tuple[Growable, Any]:
        """Without the element at `index`, and that element."""
        place = self._place(index, "pop")
        taken = self._map(lambda r: row(r, place))
        if known_or_none(index) == -1:
            return self._with(self._map(lambda r: r[: r.type.shape[0] - 1])), taken
        n = nest.flatten(self.rows)[0].type.shape[0]
        kept = ops["iota"](n - 1, dtypes.int64)
        kept = kept + (kept >= place).cast(dtypes.int64)
        return self._with(self._map(lambda r: ops["gather"](r, kept, 0))), taken

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._with(self._map(lambda r: r[index])) if self.typed else self
        place = self._place(index, "index")
        return self._map(lambda r: row(r, place))

    def set(self, index: Any, value: Any) -> Growable:
        """With another element at `index`."""
        place = self._place(index, "assignment")
        element = self._element(value, "assignment")
        return self._with(self._map(lambda r, x: with_row(r, place, x), element))

    def length(self) -> Any:
        """How many elements there are: an int where it is known, else a 0-d int32 tensor."""
        return count_of(nest.flatten(self.rows)[0]) if self.typed else 0

    def stack(self) -> Any:
        """The elements along a new first axis."""
        if not self.typed:
            raise ArgumentError("stack: the list is empty, and of no type yet", here())
        return self.rows

    def concat(self) -> Any:
        """The elements joined along their first axis."""
        return nest.map_structure(joined_rows, self.stack())

    def __iter__(self) -> Iterator[Any]:
        n = self.length()
        if not isinstance(n, int):
            raise ArgumentError(
                "how many elements this list has is known only at run time; stack it with "
                "gg.stack, or loop over it inside of a converted function", here()
            )  # fmt: skip
        return (self[i] for i in range(n))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(list, name):
            raise AttributeError(name)
        raise AttributeError(
            f"list.{name}: this list changes its length in a loop or branch of tensors, so it is a "
            "value that only the function that made the list can replace: write xs.append(v), "
            "xs.extend(vs), xs.insert(i, v), v = xs.pop(i) or xs[i] = v there, for a local name xs"
        )

    def __repr__(self) -> str:
        types = nest.map_structure(lambda r: str(r.type), self.rows) if self.typed else "empty"
        return f"Growable({types})"


def joined_rows(rows: Any) -> Any:
    """The first two axes as one."""
    if rows.ndim < 2:
        raise ShapeError(f"concat: the elements are to have an axis, got {rows.type}", here())
    count, n, *rest = rows.type.shape
    return rows.reshape((count * n, *rest))
