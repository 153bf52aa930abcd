"""Several tensors in one, and one in several: concat, stack, split, unstack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Extent, divide, same_size
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.families import Composite, Indexed, join_dtypes
from graphgrad.compiler.op import Attrs, Samples, current_kind, located, ops, zeros_like
from graphgrad.compiler.ops.shapes import as_shape, known
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import Shape, TensorType, normalize_axis, same_shape, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]
DTYPES = ("float32", "float64", "bfloat16", "int64", "bool", "complex64")


def _total(sizes: Sequence[Extent]) -> Extent:
    total: Extent = 0
    for n in sizes:
        total = total + n
    return total


def _block(x: Any, axis: int, start: Extent, size: Extent) -> Any:
    """`size` elements of `x` along `axis`, from `start` on."""
    starts = tuple(start if i == axis else 0 for i in range(x.ndim))
    sizes = tuple(size if i == axis else n for i, n in enumerate(x.shape))
    return ops["slice"](x, starts, sizes)


def _blocks(x: Any, axis: int, sizes: Sequence[Extent]) -> tuple[Any, ...]:
    """`x` cut along `axis` into pieces of the given sizes."""
    return tuple(_block(x, axis, _total(sizes[:i]), n) for i, n in enumerate(sizes))


def together(values: Sequence[Any], op: str) -> tuple[Any, ...]:
    """The values as tensors of one dtype."""
    if not values:
        raise ArgumentError(f"{op}: needs at least one tensor")
    kind = current_kind()
    dtype: DType = join_dtypes(tuple(values))
    return tuple(kind.lift(v, dtype).cast(dtype) for v in values)


# -- concat


def _rows_in_turn(rows: Any, axis: int) -> Any:
    """The rows of a list, which are stacked along the first axis, one after the other along
    `axis` of theirs."""
    if rows.ndim < 2:
        raise ShapeError(f"concat: the tensors have to have an axis, and the list is {rows.type}")
    place = normalize_axis(axis, rows.ndim - 1, "concat")
    moved = _rows_along(rows, place)
    n, m = moved.type.shape[place : place + 2]
    return moved.reshape((*moved.type.shape[:place], n * m, *moved.type.shape[place + 2 :]))


def _bind_concat(values: Any, axis: int = 0, name: str | None = None) -> Bound:
    if hasattr(values, "__graphgrad_value__"):
        values = [_rows_in_turn(current_kind().lift(values), int(axis))]
    xs = together(tuple(values), "concat")
    return xs, {"axis": normalize_axis(int(axis), xs[0].ndim, "concat")}


def _concat_type(*types: TensorType, axis: int) -> TensorType:
    first = types[0]
    for t in types[1:]:
        rest = t.shape[:axis] + t.shape[axis + 1 :]
        if t.ndim != first.ndim or not same_shape(
            rest, first.shape[:axis] + first.shape[axis + 1 :]
        ):
            raise ShapeError(f"concat: {t} does not fit {first} along axis {axis}")
    size = _total([t.shape[axis] for t in types])
    return tensor_type((*first.shape[:axis], size, *first.shape[axis + 1 :]), first.dtype)


def _concat_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, axis: int
) -> tuple[Any, ...]:
    full = [x if b else x.broadcast_to((size, *x.shape)) for x, b in zip(xs, batched, strict=True)]
    return (ops["concat"](full, axis + 1),)


def _join_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shapes, axis in (
        (((2,), (3,)), 0), (((2, 3), (2, 1), (2, 2)), 1), (((2, 3),), -1), (((0, 2), (1, 2)), 0),
    ):  # fmt: skip
        yield [rng.uniform(-9, 9, s).astype(dtype) for s in shapes], {"axis": axis}


def _concat_oracle(*xs: Array, axis: int) -> Array:
    parts = [np.moveaxis(x, axis, 0) for x in xs]
    return np.moveaxis(np.array([row for x in parts for row in x]), 0, axis)


concat = Indexed(
    name="concat",
    lowering="concat",
    variadic=True,
    bind=_bind_concat,
    type=_concat_type,
    ref=lambda *xs, axis: np.concatenate(xs, axis),
    transpose=lambda g, *xs, axis: _blocks(g, axis, [x.shape[axis] for x in xs]),
    batch=_concat_batch,
    samples=Samples(
        cases=_join_cases,
        dtypes=DTYPES,
        oracle=_concat_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op([np.zeros((2, 3), np.float32), np.zeros((3, 3), np.float32)], 1),
             "concat: f32[3, 3] does not fit f32[2, 3] along axis 1"),
            (lambda op: op([]), "concat: needs at least one tensor"),
        ),
    ),
    doc="""The tensors one after the other along `axis`; their other sizes are equal.

    >>> import graphgrad as gg
    >>> gg.concat([[1, 2], [3]], axis=0).numpy()
    array([1, 2, 3], dtype=int32)
    """,
)  # fmt: skip


def _rows_along(rows: Any, axis: int) -> Any:
    """Rows, stacked along the first axis, stacked along another one."""
    place = normalize_axis(axis, rows.ndim, "stack")
    return rows.transpose((*range(1, place + 1), 0, *range(place + 1, rows.ndim)))


@located
def stack(values: Any, axis: int = 0, name: str | None = None) -> Any:
    """Tensors of one shape along a new axis.

    >>> import graphgrad as gg
    >>> gg.stack([[1, 2], [3, 4]], axis=1).numpy()
    array([[1, 3],
           [2, 4]], dtype=int32)
    """
    if hasattr(values, "__graphgrad_value__"):  # a list that grows, or a variable
        return _rows_along(current_kind().lift(values), int(axis))
    xs = together(tuple(values), "stack")
    place = normalize_axis(int(axis), xs[0].ndim + 1, "stack")
    for x in xs:
        if not same_shape(x.shape, xs[0].shape):
            raise ShapeError(f"stack: {x.type} has not the shape of {xs[0].type}")
    rows = [x.reshape((*x.shape[:place], 1, *x.shape[place:])) for x in xs]
    return ops["concat"](rows, place)


# -- split: several outputs, whose cotangents join in one concat (not in a sum of padded pieces)


def _bind_split(
    value: Any, num_or_size_splits: Any, axis: int = 0, num: int | None = None,
    name: str | None = None,
) -> Bound:  # fmt: skip
    x = current_kind().lift(value)
    if isinstance(num_or_size_splits, Arith):
        num_or_size_splits = known(num_or_size_splits)
    place = normalize_axis(int(axis), x.ndim, "split")
    n = x.shape[place]
    if isinstance(num_or_size_splits, int | np.integer):
        parts = int(num_or_size_splits)
        if parts < 1 or not same_size(divide(n, parts) * parts, n):
            raise ShapeError(f"split: axis {place} of {x.type} does not divide into {parts} parts")
        return (x,), {"sizes": (divide(n, parts),) * parts, "axis": place}
    sizes = list(as_shape(num_or_size_splits))
    if num is not None and num != len(sizes):
        raise ShapeError(f"split: num is {num}, but there are {len(sizes)} sizes")
    if -1 in [m for m in sizes if isinstance(m, int)]:
        at = sizes.index(-1)
        sizes[at] = n - _total([m for i, m in enumerate(sizes) if i != at])
    return (x,), {"sizes": tuple(sizes), "axis": place}


def _split_type(x: TensorType, sizes: Shape, axis: int) -> tuple[TensorType, ...]:
    if not same_size(_total(sizes), x.shape[axis]):
        shown = ", ".join(map(str, sizes))
        raise ShapeError(f"split: sizes {shown} do not add up to axis {axis} of {x}")
    return tuple(tensor_type((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype) for n in sizes)


def _split_ref(x: Array, sizes: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    return tuple(np.split(x, np.cumsum(sizes[:-1]), axis))


def _split_vjp(
    g: tuple[Any, ...], z: tuple[Any, ...], x: Any, needs: tuple[bool, ...], sizes: Shape, axis: int
) -> tuple[Any, ...]:
    full = [zeros_like(part) if ct is None else ct for ct, part in zip(g, z, strict=True)]
    return (ops["concat"](full, axis),)


def _split_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, sizes, axis in (((6,), 3, 0), ((2, 5), (1, 4), 1), ((5, 2), (2, -1, 0), 0)):
        yield (
            (rng.uniform(-9, 9, shape).astype(dtype),),
            {"num_or_size_splits": sizes, "axis": axis},
        )


def _split_oracle(x: Array, num_or_size_splits: Any, axis: int) -> list[Array]:
    n = x.shape[axis]
    sizes = num_or_size_splits
    if isinstance(sizes, int):
        sizes = [n // sizes] * sizes
    sizes = [n - sum(sizes) - 1 if m == -1 else m for m in sizes]
    out, start = [], 0
    for m in sizes:
        out.append(x.take(range(start, start + m), axis))
        start += m
    return out


split = Composite(
    name="split",
    takes_complex=True,
    multi=True,
    bind=_bind_split,
    type=_split_type,
    ref=_split_ref,
    decompose=lambda x, sizes, axis: _blocks(x, axis, sizes),
    vjp=_split_vjp,
    jvp=lambda ts, z, x, sizes, axis: ops["split"](ts[0], sizes, axis),
    samples=Samples(
        cases=_split_cases,
        dtypes=DTYPES,
        oracle=_split_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros(5, np.float32), 2), "axis 0 of f32[5] does not divide into 2"),
            (lambda op: op(np.zeros(5, np.float32), (2, 2)), "sizes 2, 2 do not add up to axis 0"),
        ),
    ),
    doc="""`value` cut along `axis`, into a number of equal pieces or pieces of the given sizes.

    >>> import graphgrad as gg
    >>> [x.numpy() for x in gg.split([1, 2, 3, 4], 2)]
    [array([1, 2], dtype=int32), array([3, 4], dtype=int32)]
    """,
)


@located
def unstack(
    value: Any, num: int | None = None, axis: int = 0, name: str | None = None
) -> list[Any]:
    """The slices of `value` along `axis`, without that axis; its size must be known.

    >>> import graphgrad as gg
    >>> [x.numpy() for x in gg.unstack([[1, 2], [3, 4]])]
    [array([1, 2], dtype=int32), array([3, 4], dtype=int32)]
    """
    x = current_kind().lift(value)
    place = normalize_axis(int(axis), x.ndim, "unstack")
    n = x.shape[place] if num is None else num
    if not isinstance(n, int):
        raise ShapeError(f"unstack: the size of axis {place} of {x.type} is unknown; give `num`")
    if not same_size(x.shape[place], n):
        raise ShapeError(f"unstack: axis {place} of {x.type} has no {n} slices (num)")
    if n == 0:
        return []
    shape = x.shape[:place] + x.shape[place + 1 :]
    return [part.reshape(shape) for part in ops["split"](x, (1,) * n, place)]
