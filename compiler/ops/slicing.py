"""Blocks placed and replaced: unslice, dynamic_slice, update_slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Dim, Extent
from graphgrad.compiler.errors import DTypeError, IndexOutOfRange
from graphgrad.compiler.families import Indexed
from graphgrad.compiler.op import Attrs, Op, Samples, current_kind, ops, zeros_like
from graphgrad.compiler.ops.shapes import block_key, check_block
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import Shape, TensorType, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]
Starts = tuple[Any, ...]  # an int or Dim an axis, or None: the next of the 0-d integer inputs
DTYPES = ("float32", "float64", "bfloat16", "int64", "bool", "complex64")


# -- unslice: the adjoint of slice


def _unslice(x: Array, shape: tuple[int, ...], starts: Shape, steps: tuple[int, ...]) -> Array:
    z = np.zeros(shape, x.dtype)
    z[block_key(starts, x.shape, steps)] = x
    return z


def _unslice_type(x: TensorType, shape: Shape, starts: Shape, steps: tuple[int, ...]) -> TensorType:
    check_block("unslice", shape, x.dtype, starts, x.shape, steps)
    return tensor_type(shape, x.dtype)


def _unslice_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, shape: Shape, starts: Shape,
    steps: tuple[int, ...],
) -> tuple[Any, ...]:  # fmt: skip
    return (ops["unslice"](xs[0], shape=(size, *shape), starts=(0, *starts), steps=(1, *steps)),)


def _unslice_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, starts, sizes, steps in (
        ((5,), (1,), (3,), (1,)), ((5,), (4,), (5,), (-1,)), ((6,), (1,), (3,), (2,)),
        ((3, 4), (0, 3), (2, 2), (2, -3)), ((3, 4), (1, 1), (1, 0), (1, 1)), ((), (), (), ()),
    ):  # fmt: skip
        x = rng.uniform(-9, 9, sizes).astype(dtype)
        yield (x,), {"shape": shape, "starts": starts, "steps": steps}


def _unslice_oracle(x: Array, shape: Any, starts: Any, steps: Any) -> Array:
    z = np.zeros(shape, x.dtype)
    for place in np.ndindex(*x.shape):
        z[tuple(s + t * i for s, t, i in zip(starts, steps, place, strict=True))] = x[place]
    return z


unslice = Indexed(
    name="unslice",
    public="",
    lowering="unslice",
    bind=lambda x, shape, starts, steps: (
        (x,),
        {"shape": tuple(shape), "starts": tuple(starts), "steps": tuple(steps)},
    ),
    type=_unslice_type,
    ref=_unslice,
    transpose=lambda g, x, shape, starts, steps: (ops["slice"](g, starts, x.shape, steps),),
    batch=_unslice_batch,
    samples=Samples(cases=_unslice_cases, dtypes=DTYPES, oracle=_unslice_oracle, ulp=0.0),
    doc="Zeros of `shape` with the elements of x at start + step * i: the adjoint of slice.",
)

# -- dynamic_slice and update_slice: starts may be tensors


def merged(starts: Starts, dynamic: Sequence[Any]) -> tuple[Any, ...]:
    """The starts with the 0-d inputs in the places that None marks."""
    rest = iter(dynamic)
    return tuple(next(rest) if s is None else s for s in starts)


def _parted(starts: Sequence[Any], op: str) -> tuple[Starts, tuple[Any, ...]]:
    """Canonical starts, and the tensors among them."""
    kind = current_kind()
    static: list[Any] = []
    dynamic: list[Any] = []
    for s in starts:
        if isinstance(s, int | np.integer):
            static.append(int(s))
        elif isinstance(s, Dim):
            static.append(s)
        else:
            v = kind.lift(s)
            if v.ndim or not v.dtype.is_integer:
                raise DTypeError(f"{op}: a start is one integer, got {v.type}")
            static.append(None)
            dynamic.append(v)
    return tuple(static), tuple(dynamic)


def _check_starts(
    op: Op, shape: tuple[int, ...], starts: Starts, sizes: Sequence[int], steps: tuple[int, ...],
    dynamic: Sequence[Array],
) -> tuple[int, ...]:  # fmt: skip
    """All starts as ints, after a check of those that are inputs."""
    found = tuple(int(s) for s in merged(starts, dynamic))
    for n, given, start, m, step in zip(shape, starts, found, sizes, steps, strict=True):
        greatest = n - 1 - (m - 1) * step
        if given is None and not 0 <= start <= greatest:
            raise op.failure("start", {}, start, greatest)
    return found


def _bind_dynamic(x: Any, starts: Any, sizes: Any, steps: Any = None) -> Bound:
    v = current_kind().lift(x)
    static, dynamic = _parted(starts, "dynamic_slice")
    strides = (1,) * v.ndim if steps is None else tuple(map(int, steps))
    return (v, *dynamic), {"starts": static, "sizes": tuple(sizes), "steps": strides}


def _dynamic_type(
    x: TensorType, *dynamic: TensorType, starts: Starts, sizes: Shape, steps: tuple[int, ...]
) -> TensorType:
    check_block("dynamic_slice", x.shape, x.dtype, starts, sizes, steps)
    return tensor_type(sizes, x.dtype)


def _dynamic_slice(
    x: Array, *dynamic: Array, starts: Starts, sizes: Sequence[int], steps: tuple[int, ...]
) -> Array:
    found = _check_starts(dynamic_slice, x.shape, starts, sizes, steps, dynamic)
    return np.asarray(x[block_key(found, sizes, steps)])


def _dynamic_vjp(
    g: Any, z: Any, x: Any, *dynamic: Any, needs: tuple[bool, ...], starts: Starts, sizes: Shape,
    steps: tuple[int, ...],
) -> tuple[Any, ...]:  # fmt: skip
    gx = ops["update_slice"](zeros_like(x), g, merged(starts, dynamic), steps)
    return (gx, *(None for _ in dynamic))


def _places(start: Any, size: Extent, step: int) -> Any:
    """start + step * i for each lane: a (lanes, size) tensor of indices."""
    row = ops["iota"](size, dtypes.int64) * step
    return start.cast(dtypes.int64).reshape((start.shape[0], 1)) + row


def _full_lanes(xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent) -> tuple[Any, ...]:
    return tuple(
        x if b else x.broadcast_to((size, *x.shape)) for x, b in zip(xs, batched, strict=True)
    )


def _dynamic_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, starts: Starts, sizes: Shape,
    steps: tuple[int, ...],
) -> tuple[Any, ...]:  # fmt: skip
    """Where lanes start at different places: a gather along each such axis."""
    if not any(batched[1:]):
        begin = (0, *merged(starts, xs[1:]))
        return (ops["dynamic_slice"](xs[0], begin, (size, *sizes), (1, *steps)),)
    x, *dynamic = _full_lanes(xs, batched, size)
    for axis, start in enumerate(merged(starts, dynamic)):
        if starts[axis] is None:
            places = _places(start, sizes[axis], steps[axis])
            x = ops["gather"](x, places, axis=axis + 1, batch_dims=1)
    fixed = tuple(0 if s is None else s for s in starts)
    strides = tuple(1 if s is None else n for s, n in zip(starts, steps, strict=True))
    return (ops["slice"](x, (0, *fixed), (size, *sizes), (1, *strides)),)


BLOCKS: tuple[tuple[tuple[int, ...], Starts, tuple[int, ...], tuple[int, ...]], ...] = (
    ((5,), (None,), (3,), (1,)), ((3, 4), (None, 1), (2, 2), (1, 1)), ((6,), (None,), (2,), (2,)),
    ((3, 4), (None, None), (1, 4), (1, 1)), ((3, 4), (1, 0), (2, 2), (1, 2)),
)  # fmt: skip


def _drawn(rng: np.random.Generator, shape: Any, starts: Starts, sizes: Any, steps: Any) -> Any:
    """The starts with random ones for None."""
    return tuple(
        np.int32(rng.integers(0, n - (m - 1) * t)) if s is None else s
        for n, s, m, t in zip(shape, starts, sizes, steps, strict=True)
    )


def _dynamic_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, starts, sizes, steps in BLOCKS:
        x = rng.uniform(-9, 9, shape).astype(dtype)
        begin = tuple(np.asarray(s) if not isinstance(s, int) else s
                      for s in _drawn(rng, shape, starts, sizes, steps))  # fmt: skip
        yield (x,), {"starts": begin, "sizes": sizes, "steps": steps}


def _dynamic_oracle(x: Array, starts: Any, sizes: Any, steps: Any) -> Array:
    for axis, (start, m, step) in enumerate(zip(starts, sizes, steps, strict=True)):
        x = x.take([int(start) + step * i for i in range(m)], axis)
    return x


START = "start {a} is out of range: the block fits from 0 to {b}"

dynamic_slice = Indexed(
    name="dynamic_slice",
    public="",
    lowering="dynamic_slice",
    bind=_bind_dynamic,
    type=_dynamic_type,
    ref=_dynamic_slice,
    vjp=_dynamic_vjp,
    jvp=lambda ts, z, x, *dynamic, starts, sizes, steps: (
        None
        if ts[0] is None
        else ops["dynamic_slice"](ts[0], merged(starts, dynamic), sizes, steps)
    ),
    batch=_dynamic_batch,
    failures={"start": (IndexOutOfRange, f"slice: {START}")},
    samples=Samples(
        cases=_dynamic_cases,
        dtypes=DTYPES,
        oracle=_dynamic_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros(5, np.float32), (np.asarray(4),), (2,)),
             "slice: start 4 is out of range: the block fits from 0 to 3"),
            (lambda op: op(np.zeros(5, np.float32), (np.asarray(1.5),), (2,)),
             "a start is one integer, got f64[]"),
        ),
    ),
    doc="The block of `sizes` whose starts may be 0-d integer tensors; steps are positive.",
)  # fmt: skip


def _bind_update(x: Any, update: Any, starts: Any, steps: Any = None) -> Bound:
    kind = current_kind()
    v = kind.lift(x)
    u = kind.lift(update, v.dtype).cast(v.dtype)
    static, dynamic = _parted(starts, "update_slice")
    strides = (1,) * v.ndim if steps is None else tuple(map(int, steps))
    return (v, u, *dynamic), {"starts": static, "steps": strides}


def _update_type(
    x: TensorType, update: TensorType, *dynamic: TensorType, starts: Starts, steps: tuple[int, ...]
) -> TensorType:
    check_block("update_slice", x.shape, x.dtype, starts, update.shape, steps)
    return x


def _update_slice(
    x: Array, update: Array, *dynamic: Array, starts: Starts, steps: tuple[int, ...]
) -> Array:
    found = _check_starts(update_slice, x.shape, starts, update.shape, steps, dynamic)
    z = x.copy()
    z[block_key(found, update.shape, steps)] = update
    return z


def _update_vjp(
    g: Any, z: Any, x: Any, update: Any, *dynamic: Any, needs: tuple[bool, ...], starts: Starts,
    steps: tuple[int, ...],
) -> tuple[Any, ...]:  # fmt: skip
    begin = merged(starts, dynamic)
    # read before it is written: then it may be written where it lies
    gu = ops["dynamic_slice"](g, begin, update.shape, steps) if needs[1] else None
    gx = ops["update_slice"](g, zeros_like(update), begin, steps) if needs[0] else None
    return (gx, gu, *(None for _ in dynamic))


def _update_jvp(
    ts: tuple[Any, ...], z: Any, x: Any, update: Any, *dynamic: Any, starts: Starts,
    steps: tuple[int, ...],
) -> Any:  # fmt: skip
    tx = zeros_like(x) if ts[0] is None else ts[0]
    tu = zeros_like(update) if ts[1] is None else ts[1]
    return ops["update_slice"](tx, tu, merged(starts, dynamic), steps)


def _update_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, starts: Starts,
    steps: tuple[int, ...],
) -> tuple[Any, ...]:  # fmt: skip
    """Where lanes start at different places: every element asks whether the update covers it."""
    if not any(batched[2:]):
        x, update = _full_lanes(xs[:2], batched[:2], size)
        return (ops["update_slice"](x, update, (0, *merged(starts, xs[2:])), (1, *steps)),)
    x, update, *dynamic = _full_lanes(xs, batched, size)
    begin = merged(starts, dynamic)
    covered = None
    for axis, step in enumerate(steps):
        n, m = x.shape[axis + 1], update.shape[axis + 1]
        start = (
            begin[axis]
            if starts[axis] is None
            else ops["iota"](size, dtypes.int64) * 0 + begin[axis]
        )
        ahead = _places(-start, n, 1)
        row = ops["floordiv"](ahead, step)
        hit = (row >= 0) & (row < m) & (row * step == ahead)
        update = ops["gather"](update, ops["where"](hit, row, 0), axis=axis + 1, batch_dims=1)
        shape = (size, *(n if i == axis else 1 for i in range(len(steps))))
        hit = hit.reshape(shape)
        covered = hit if covered is None else covered & hit
    return (update if covered is None else ops["where"](covered, update, x),)


def _update_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, starts, sizes, steps in BLOCKS:
        x, update = (rng.uniform(-9, 9, s).astype(dtype) for s in (shape, sizes))
        begin = tuple(np.asarray(s) if not isinstance(s, int) else s
                      for s in _drawn(rng, shape, starts, sizes, steps))  # fmt: skip
        yield (x, update), {"starts": begin, "steps": steps}


def _update_oracle(x: Array, update: Array, starts: Any, steps: Any) -> Array:
    z = x.copy()
    for place in np.ndindex(*update.shape):
        z[tuple(int(s) + t * i for s, t, i in zip(starts, steps, place, strict=True))] = update[
            place
        ]
    return z


update_slice = Indexed(
    name="update_slice",
    public="",
    lowering="update_slice",
    bind=_bind_update,
    type=_update_type,
    ref=_update_slice,
    vjp=_update_vjp,
    jvp=_update_jvp,
    batch=_update_batch,
    failures={"start": (IndexOutOfRange, f"update_slice: {START}")},
    samples=Samples(
        cases=_update_cases,
        dtypes=DTYPES,
        oracle=_update_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros(5, np.float32), np.ones(2, np.float32), (np.asarray(4),)),
             "update_slice: start 4 is out of range: the block fits from 0 to 3"),
            (lambda op: op(np.zeros(5, np.float32), np.ones(2, np.float32), (4,)),
             "update_slice: axis 0 of f32[5] has no elements 4 to 5"),
        ),
    ),
    doc="x with the block that starts at `starts` replaced by `update`; steps are positive.",
)  # fmt: skip
