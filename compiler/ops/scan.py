"""Running sums and products along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import DTypeError, ShapeError
from graphgrad.compiler.families import Composite, Library, add_all, conjugate
from graphgrad.compiler.op import Attrs, Samples, current_kind, ops
from graphgrad.compiler.ops.special import Array, in_float32
from graphgrad.compiler.types import TensorType, normalize_axis, same_shape

Bound = tuple[tuple[Any, ...], Attrs]
NUMBERS = ("float32", "float64", "bfloat16", "int32")
COMPLEX = ("complex64", "complex128")


def binder(op: str) -> Any:
    def bind(
        x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False,
        name: str | None = None,
    ) -> Bound:  # fmt: skip
        v = current_kind().lift(x)
        place = normalize_axis(int(axis), v.ndim, op)
        return (v,), {"axis": place, "exclusive": bool(exclusive), "reverse": bool(reverse)}

    return bind


def _typer(op: str) -> Any:
    def infer(x: TensorType, axis: int, exclusive: bool, reverse: bool) -> TensorType:
        if x.dtype.is_bool:
            raise DTypeError(f"{op}: takes numbers, got {x}; cast first")
        return x

    return infer


def _running(fold: Any, start: Any) -> Any:
    """The reference by `np.add` or `np.multiply`."""

    def ref(x: Array, axis: int, exclusive: bool, reverse: bool) -> Array:
        rows = np.flip(x, axis) if reverse else x
        z = fold.accumulate(rows, axis, dtype=x.dtype)
        if exclusive:
            z = np.moveaxis(z, axis, 0)
            first = np.full((1, *z.shape[1:]), start, z.dtype)
            z = np.moveaxis(np.concatenate((first, z[:-1]))[: z.shape[0]], 0, axis)
        return np.asarray(np.flip(z, axis) if reverse else z)

    return in_float32(ref)


def _loop(fold: Any, start: Any) -> Any:
    """The oracle: one element after the other."""

    def oracle(x: Array, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
        rows = np.moveaxis(x, axis, 0)
        z = np.empty_like(rows)
        total = np.full(rows.shape[1:], start, x.dtype)
        for i in reversed(range(len(rows))) if reverse else range(len(rows)):
            if exclusive:
                z[i] = total
            total = fold(total, rows[i])
            if not exclusive:
                z[i] = total
        return np.moveaxis(z, 0, axis)

    return oracle


def _cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, axis in (((5,), 0), ((2, 4), 1), ((3, 2), 0), ((2, 3, 2), -2), ((0, 2), 0)):
        x = np.asarray(rng.integers(-3, 4, shape)).astype(dtype)  # zeros among them
        if dtype.kind == "c":
            x = x + np.asarray(1j * rng.integers(-1, 2, shape)).astype(dtype)
        for exclusive, reverse in ((False, False), (True, False), (False, True), (True, True)):
            yield (x,), {"axis": axis, "exclusive": exclusive, "reverse": reverse}


def _axis_batch(name: str) -> Any:
    def batch(
        xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, axis: int, exclusive: bool,
        reverse: bool,
    ) -> tuple[Any, ...]:  # fmt: skip
        return (ops[name](xs[0], axis + 1, exclusive, reverse),)

    return batch


cumsum = Library(
    name="cumsum",
    takes_complex=True,
    by_component=True,
    public=("cumsum", "math.cumsum"),
    bind=binder("cumsum"),
    type=_typer("cumsum"),
    ref=_running(np.add, 0),
    transpose=lambda g, x, axis, exclusive, reverse: (
        ops["cumsum"](g, axis, exclusive, not reverse),
    ),
    batch=_axis_batch("cumsum"),
    samples=Samples(
        cases=_cases,
        dtypes=(*NUMBERS, *COMPLEX),
        oracle=_loop(np.add, 0),
        errors=((lambda op: op(np.zeros(3, bool)), "cumsum: takes numbers, got b1[3]"),),
    ),
    doc="""Running sums along `axis`.

    `exclusive` leaves out the element itself (the first is 0); `reverse` runs from the end.

    >>> import graphgrad as gg
    >>> gg.cumsum([1, 2, 3]).numpy()
    array([1, 3, 6], dtype=int32)
    """,
)

# -- linear_recurrence: z[i] = a[i] z[i - 1] + b[i], from z[0] = b[0]


def _recurrence(a: Array, b: Array, axis: int, reverse: bool) -> Array:
    rows_a, rows_b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    z = np.empty_like(rows_b)
    last = None
    for i in reversed(range(len(z))) if reverse else range(len(z)):
        last = z[i] = rows_b[i] if last is None else rows_a[i] * last + rows_b[i]
    return np.moveaxis(z, 0, axis)


def _recurrence_type(a: TensorType, b: TensorType, axis: int, reverse: bool) -> TensorType:
    if a.dtype is not b.dtype or not same_shape(a.shape, b.shape):
        raise ShapeError(f"linear_recurrence: {a} and {b} differ")
    return b


def shifted(x: Any, axis: int, by: int) -> Any:
    """The elements `by` places further along `axis` (1 or -1), 0 moving in at the end."""
    n = x.shape[axis]
    if isinstance(n, int) and n == 0:
        return x
    here, there = (0, 1) if by > 0 else (1, 0)
    starts = tuple(here if i == axis else 0 for i in range(x.ndim))
    target = tuple(there if i == axis else 0 for i in range(x.ndim))
    sizes = tuple(m - 1 if i == axis else m for i, m in enumerate(x.shape))
    kept = ops["slice"](x, starts, sizes)
    return ops["unslice"](kept, shape=x.shape, starts=target, steps=(1,) * x.ndim)


def _adjoint(g: Any, a: Any, axis: int, reverse: bool) -> Any:
    """The cotangent of b: the recurrence backwards, c[i] = g[i] + conj(a[i + 1]) c[i + 1]."""
    a = shifted(conjugate(a), axis, 1 if reverse else -1)
    return ops["linear_recurrence"](a, g, axis, not reverse)


def _recurrence_vjp(
    g: Any, z: Any, a: Any, b: Any, needs: tuple[bool, ...], axis: int, reverse: bool
) -> tuple[Any, ...]:
    c = _adjoint(g, a, axis, reverse)
    before = shifted(z, axis, -1 if reverse else 1)
    return (ops["cotangent_product"](c, before) if needs[0] else None), c


def _recurrence_jvp(ts: tuple[Any, ...], z: Any, a: Any, b: Any, axis: int, reverse: bool) -> Any:
    before = conjugate(shifted(z, axis, -1 if reverse else 1))
    drive = add_all([None if ts[0] is None else ops["cotangent_product"](ts[0], before), ts[1]])
    return ops["linear_recurrence"](a, drive, axis, reverse)


def _recurrence_batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, axis: int, reverse: bool
) -> tuple[Any, ...]:
    a, b = (
        x if lanes else x.broadcast_to((size, *x.shape))
        for x, lanes in zip(xs, batched, strict=True)
    )
    return (ops["linear_recurrence"](a, b, axis + 1, reverse),)


def _recurrence_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, axis in (((5,), 0), ((2, 4), 1), ((3, 2), 0), ((0, 2), 0), ((1,), 0)):
        a, b = (np.asarray(rng.integers(-2, 3, shape)).astype(dtype) for _ in range(2))
        if dtype.kind == "c":
            a, b = a + 1j * b.real, b - 1j * a.real
        for reverse in (False, True):
            yield (a, b), {"axis": axis, "reverse": reverse}


def _recurrence_oracle(a: Array, b: Array, axis: int, reverse: bool) -> Array:
    """z[i] as the sum over j of b[j] a[j + 1] ... a[i]."""
    a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    if reverse:
        a, b = a[::-1], b[::-1]
    z = np.zeros_like(b)
    for i in range(len(b)):
        for j in range(i + 1):
            z[i] += b[j] * np.prod(a[j + 1 : i + 1], axis=0, dtype=a.dtype)
    return np.moveaxis(z[::-1] if reverse else z, 0, axis)


linear_recurrence = Library(
    name="linear_recurrence",
    takes_complex=True,
    public="",
    bind=lambda a, b, axis, reverse=False: ((a, b), {"axis": axis, "reverse": reverse}),
    type=_recurrence_type,
    ref=in_float32(_recurrence),
    vjp=_recurrence_vjp,
    jvp=_recurrence_jvp,
    batch=_recurrence_batch,
    samples=Samples(
        cases=_recurrence_cases, dtypes=(*NUMBERS, *COMPLEX), oracle=_recurrence_oracle
    ),
    doc="z[i] = a[i] z[i - 1] + b[i] along `axis`, from z[0] = b[0]: what cumulative products and "
    "their derivatives are made of, without a division.",
)


def _cumprod_parts(x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
    """The recurrence with a = x, started by the first product instead of by 0."""
    n = x.shape[axis]
    if isinstance(n, int) and n == 0:
        return x
    place = n - 1 if reverse else 0
    starts = tuple(place if i == axis else 0 for i in range(x.ndim))
    one = tuple(1 if i == axis else m for i, m in enumerate(x.shape))
    if exclusive:
        first = current_kind().lift(1, x.dtype).broadcast_to(one)
        x = shifted(x, axis, -1 if reverse else 1)
    else:
        first = ops["slice"](x, starts, one)
    drive = ops["unslice"](first, shape=x.shape, starts=starts, steps=(1,) * x.ndim)
    return ops["linear_recurrence"](x, drive, axis, reverse)


cumprod = Composite(
    name="cumprod",
    takes_complex=True,
    public=("math.cumprod",),
    bind=binder("cumprod"),
    type=_typer("cumprod"),
    ref=_running(np.multiply, 1),
    decompose=_cumprod_parts,
    samples=Samples(
        cases=_cases,
        dtypes=(*NUMBERS, *COMPLEX),
        oracle=_loop(np.multiply, 1),
        errors=((lambda op: op(np.zeros(3, bool)), "cumprod: takes numbers, got b1[3]"),),
    ),
    doc="""Running products along `axis`; derivatives are right where elements are 0.

    `exclusive` leaves out the element itself (the first is 1); `reverse` runs from the end.

    >>> import graphgrad as gg
    >>> gg.math.cumprod([1, 2, 3]).numpy()
    array([1, 2, 6], dtype=int32)
    """,
)
