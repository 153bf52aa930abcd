"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler.arith import holds_tensor
from graphgrad.compiler.dims import Extent, same_size, shown
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.families import Library, add_all, conjugate, join_dtypes
from graphgrad.compiler.op import Attrs, Samples, current_kind, located, ops
from graphgrad.compiler.ops.special import Array, in_float32
from graphgrad.compiler.types import TensorType, broadcast_shapes, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]


class MatMul(Library):
    """Matrices and stacks of them; a vector is made a matrix of one row or column for the while."""

    def __call__(self, a: Any, b: Any, *flags: Any, **attrs: Any) -> Any:
        a, b = _tensors(a, b)
        row, column = a.ndim == 1, b.ndim == 1
        if row:
            a = a.reshape((1, *a.shape))
        if column:
            b = b.reshape((*b.shape, 1))
        z = super().__call__(a, b, *flags, **attrs)
        if not row and not column:
            return z
        rows = () if row else (z.shape[-2],)
        return z.reshape((*z.shape[:-2], *rows, *(() if column else (z.shape[-1],))))


@located
def _tensors(*operands: Any) -> Any:
    """The operands as tensors; NumPy operands and lists of numbers adopt the other's dtype."""
    kind = current_kind()
    given = [
        kind.lift(v) if isinstance(v, list | tuple) and holds_tensor(v) else v for v in operands
    ]
    dtype = join_dtypes(tuple(given))
    return [kind.lift(v, dtype) for v in given]


def _bind(
    a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, adjoint_a: bool = False,
    adjoint_b: bool = False, a_is_sparse: bool = False, b_is_sparse: bool = False,
    name: str | None = None,
) -> Bound:  # fmt: skip
    kind = current_kind()
    dtype = join_dtypes((a, b))
    xs = [kind.lift(v, dtype).cast(dtype) for v in (a, b)]
    flags = []
    for i, (transpose, adjoint) in enumerate(((transpose_a, adjoint_a), (transpose_b, adjoint_b))):
        if transpose and adjoint:
            raise ArgumentError("matmul: a side is to be both transposed and conjugate transposed")
        xs[i] = conjugate(xs[i]) if adjoint else xs[i]
        flags.append(bool(transpose or adjoint))
    return tuple(xs), {"transpose_a": flags[0], "transpose_b": flags[1]}


def sides(a: TensorType, b: TensorType, transpose_a: bool, transpose_b: bool) -> tuple[Extent, ...]:
    """Rows, inner size of the left, inner size of the right, columns."""
    rows, left = a.shape[-2:][:: -1 if transpose_a else 1]
    right, columns = b.shape[-2:][:: -1 if transpose_b else 1]
    return rows, left, right, columns


def _type(a: TensorType, b: TensorType, transpose_a: bool, transpose_b: bool) -> TensorType:
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError(f"matmul: takes vectors, matrices and stacks of them, got {a} and {b}")
    if a.dtype.is_bool:
        raise DTypeError(f"matmul: takes numbers, got {a} and {b}; cast first")
    rows, left, right, columns = sides(a, b, transpose_a, transpose_b)
    if not same_size(left, right):
        flags = "".join(
            f", {name} transposed"
            for name, t in (("left", transpose_a), ("right", transpose_b))
            if t
        )
        raise ShapeError(
            f"matmul: inner sizes differ, {shown(left)} (left is {a}) and {shown(right)} "
            f"(right is {b}){flags}"
        )
    batch = broadcast_shapes([a.shape[:-2], b.shape[:-2]], "matmul")
    return tensor_type((*batch, rows, columns), a.dtype)


def _matmul(a: Array, b: Array, transpose_a: bool, transpose_b: bool) -> Array:
    a = a.swapaxes(-1, -2) if transpose_a else a
    b = b.swapaxes(-1, -2) if transpose_b else b
    return np.asarray(np.matmul(a, b))


def _vjp(
    g: Any, z: Any, a: Any, b: Any, needs: tuple[bool, ...], transpose_a: bool, transpose_b: bool
) -> tuple[Any, ...]:
    """With the transposes folded into flags: no rule moves data."""
    product = ops["matmul"]
    a, b = conjugate(a), conjugate(b)
    ga = gb = None
    if needs[0]:
        ga = (
            product(b, g, transpose_b, True)
            if transpose_a
            else product(g, b, False, not transpose_b)
        )
        ga = ga.sum_to(a.shape)
    if needs[1]:
        gb = (
            product(g, a, True, transpose_a)
            if transpose_b
            else product(a, g, not transpose_a, False)
        )
        gb = gb.sum_to(b.shape)
    return ga, gb


def _jvp(ts: tuple[Any, ...], z: Any, a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    product = ops["matmul"]
    return add_all(
        [
            None if ts[0] is None else product(ts[0], b, transpose_a, transpose_b),
            None if ts[1] is None else product(a, ts[1], transpose_a, transpose_b),
        ]
    )


def _batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, transpose_a: bool,
    transpose_b: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """The lanes are the first batch axis. Without other batch axes, and with one right side for all
    lanes, they are rows of one larger product; so are columns with one left side for all."""
    a, b = xs
    if batched == (False, True) and a.ndim == 2 and b.ndim == 3:
        columns = b.shape[1 if transpose_b else 2]
        if isinstance(columns, int) and columns == 1:
            z = ops["matmul"](
                b.reshape((size, a.shape[0 if transpose_a else 1])), a, False, not transpose_a
            )
            return (z.reshape((*z.shape, 1)),)
    if batched == (True, False) and b.ndim == 2 and a.ndim == 3 and not transpose_a:
        z = ops["matmul"](a.reshape((size * a.shape[1], a.shape[2])), b, False, transpose_b)
        return (z.reshape((size, a.shape[1], z.shape[1])),)
    rank = max(x.ndim - is_batched for x, is_batched in zip(xs, batched, strict=True))
    aligned = [
        _align(x, rank) if is_batched else x for x, is_batched in zip(xs, batched, strict=True)
    ]
    return (ops["matmul"](*aligned, transpose_a, transpose_b),)


def _align(x: Any, rank: int) -> Any:
    """Axes of size 1 after the lanes, so that the other batch axes align from the right."""
    missing = rank - (x.ndim - 1)
    return x.reshape((x.shape[0], *(1,) * missing, *x.shape[1:]))


def _in_parts(x: Any, y: Any, **flags: bool) -> Any:
    """Four real products."""
    (a, b), (c, d) = x, y

    def product(p: Any, q: Any) -> Any:
        return ops["matmul"](p, q, **flags)

    return product(a, c) - product(b, d), product(a, d) + product(b, c)


def _cases(rng: np.random.Generator, dtype: Any) -> Any:
    left, right = {"transpose_a": True}, {"transpose_b": True}
    for a, b, flags in (
        ((2, 3), (3, 4), {}), ((3, 2), (3, 4), left),
        ((2, 3), (4, 3), right), ((3, 2), (4, 3), left | right),
        ((5, 2, 3), (5, 3, 2), {}), ((5, 2, 3), (3, 2), {}), ((2, 3), (4, 3, 2), {}),
        ((2, 1, 2, 3), (4, 3, 2), {}), ((2, 1, 3, 2), (4, 2, 3), left | right),
        ((3,), (3,), {}), ((3,), (3, 2), {}), ((2, 3), (3,), {}), ((4, 2, 3), (3,), {}),
        ((2, 0), (0, 3), {}), ((0, 2), (2, 3), {}),
    ):  # fmt: skip
        xs = [rng.uniform(-2, 2, s) for s in (a, b)]
        if dtype.kind == "c":
            xs = [x + 1j * rng.uniform(-2, 2, x.shape) for x in xs]
            flags = {"adjoint" + k.removeprefix("transpose"): v for k, v in flags.items()}
        yield tuple(x.astype(dtype) for x in xs), flags


def _oracle(
    a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False,
    adjoint_a: bool = False, adjoint_b: bool = False,
) -> Array:  # fmt: skip
    a = np.einsum("...ij->...ji", a).conj() if adjoint_a else a
    b = np.einsum("...ij->...ji", b).conj() if adjoint_b else b
    a = np.einsum("...ij->...ji", a) if transpose_a else a
    b = np.einsum("...ij->...ji", b) if transpose_b else b
    left = "k" if a.ndim == 1 else "...ik"
    right = "k" if b.ndim == 1 else "...kj"
    out = "..." + "i" * (a.ndim > 1) + "j" * (b.ndim > 1)
    return np.asarray(np.einsum(f"{left},{right}->{out}", a, b))


matmul = MatMul(
    name="matmul",
    public=("matmul", "linalg.matmul"),
    routine="gemm",
    takes_complex=True,
    split=_in_parts,
    bind=_bind,
    type=_type,
    ref=in_float32(_matmul),
    vjp=_vjp,
    jvp=_jvp,
    batch=_batch,
    samples=Samples(
        cases=_cases,
        dtypes=("float32", "float64", "bfloat16", "float16", "int32", "complex64", "complex128"),
        oracle=_oracle,
        ulp=8.0,
        errors=(
            (lambda op: op(np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)),
             "matmul: inner sizes differ, 3 (left is f32[2, 3]) and 4 (right is f32[4, 5])"),
            (lambda op: op(np.zeros((2, 2, 3), np.float32), np.zeros((3, 3, 2), np.float32)),
             "matmul: shapes [2] and [3] do not broadcast"),
        ),
    ),
    doc="""The matrix product of `a` and `b`, either transposed or conjugate transposed first if so
    flagged (`transpose_a`, `adjoint_a`).

    Axes before the last two are batch axes and broadcast. A vector is a row on the left and a
    column on the right, and its axis is left out of the result, as in NumPy.

    >>> import graphgrad as gg
    >>> gg.matmul([[1.0, 2.0]], [[3.0], [4.0]]).numpy()
    array([[11.]], dtype=float32)
    """,
)  # fmt: skip
