"""Linear systems: general and triangular ones, and inverses.

LAPACK computes: by way of NumPy in eager mode, and in kernels where the BLAS comes with it
(`kernels/factorisations.py`). Derivatives are products and solutions of further systems (Giles,
"Collected matrix derivative results for forward and reverse mode algorithmic differentiation",
2008), so every order works.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler.dims import Extent, same_size, shown
from graphgrad.compiler.dtypes import int64
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.families import Library, add_all
from graphgrad.compiler.op import Attrs, Samples, located, ops, reapply
from graphgrad.compiler.ops.index import places_along
from graphgrad.compiler.ops.join import together
from graphgrad.compiler.ops.matrices import matrices, transposed
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import TensorType, broadcast_shapes

Bound = tuple[tuple[Any, ...], Attrs]
FLOATS = ("float64", "float32", "bfloat16")


def product(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """The matrix product, either side transposed first."""
    return ops["matmul"](a, b, transpose_a, transpose_b)


def in_triangle(x: Any, lower: bool = True, strictly: bool = False) -> Any:
    """The matrices with zeros outside the lower or upper triangle, its diagonal left out where
    `strictly`."""
    row, column = (places_along(x.shape[i], i + 2, 2, int64) for i in (-2, -1))
    if not lower:
        row, column = column, row
    return ops["where"](row > column if strictly else row >= column, x, 0)


def check_matrices(x: TensorType, op: str, square: bool = True) -> None:
    """Raise unless `x` is (square) matrices of floats."""
    if not x.dtype.is_floating:
        raise DTypeError(f"{op}: takes floats, got {x}; cast first")
    if x.ndim < 2:
        raise ShapeError(f"{op}: takes matrices and stacks of them, got {x}")
    if square and not same_size(*x.shape[-2:]):
        rows, columns = map(shown, x.shape[-2:])
        raise ShapeError(f"{op}: takes square matrices, got {x}: {rows} rows and {columns} columns")


def by_lapack(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` for 16-bit floats too: in float32, and its results rounded once."""

    def ref(*xs: Array, **attrs: Any) -> Any:
        dtype = xs[0].dtype
        if dtype.itemsize != 2:
            return fn(*xs, **attrs)
        found = fn(*(x.astype(np.float32) for x in xs), **attrs)
        if isinstance(found, tuple):
            return tuple(np.asarray(z).astype(dtype) for z in found)
        return np.asarray(found).astype(dtype)

    return ref


def first_failing(fn: Callable[..., Any], *xs: Array) -> str:
    """Which matrix of a stack LAPACK refuses."""
    stack = xs[0].shape[:-2]
    if not stack:
        return "the matrix"
    for place in np.ndindex(*stack):
        try:
            fn(*(x[place] for x in xs))
        except np.linalg.LinAlgError:
            return f"matrix {', '.join(map(str, place))}"
    return "a matrix"


def regular(name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, with graphgrad's error where a matrix has no inverse."""

    def ref(*xs: Array, **attrs: Any) -> Any:
        try:
            return fn(*xs, **attrs)
        except np.linalg.LinAlgError:
            which = first_failing(lambda *one: fn(*one, **attrs), *xs)
            raise ops[name].failure("singular", attrs, which) from None

    return by_lapack(ref)


def stack_batch(name: str) -> Callable[..., Any]:
    """The lanes are a further axis of the stack."""

    def batch(
        xs: tuple[Any, ...], batched: tuple[bool, ...], lanes: Extent, **attrs: Any
    ) -> tuple[Any, ...]:
        full = [
            x if b else x.broadcast_to((lanes, *x.shape)) for x, b in zip(xs, batched, strict=True)
        ]
        return reapply(ops[name], full, attrs)

    return batch


# -- samples and oracles: Gauss's elimination in long doubles


def matrix_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((1, 1), (3, 3), (2, 4, 4), (2, 1, 2, 2), (0, 0), (0, 2, 2)):
        x = rng.uniform(-1, 1, shape) + 2 * np.eye(shape[-1])
        yield (x[..., ::-1, :].astype(dtype),), {}


def eliminated(a: Array, b: Array) -> tuple[Array, Array]:
    """The solution of a x = b, and the determinant of a, for one matrix."""
    rows, n = np.concatenate([a, b], 1).astype(np.longdouble), len(a)
    det = np.longdouble(1)
    for i in range(n):
        pivot = i + int(np.argmax(np.abs(rows[i:, i])))
        if pivot != i:
            rows[[i, pivot]], det = rows[[pivot, i]], -det
        det = det * rows[i, i]
        rows[i] = rows[i] / rows[i, i]
        for j in range(n):
            if j != i:
                rows[j] = rows[j] - rows[i] * rows[j, i]
    return rows[:, n:], np.asarray(det)


def each(fn: Callable[..., Any], *xs: Array) -> Array:
    """`fn` of one matrix after the other."""
    stack = xs[0].shape[:-2]
    flat = [x.reshape((math.prod(stack), *x.shape[-2:])) for x in xs]
    found = [np.asarray(fn(*one)) for one in zip(*flat, strict=True)]
    shape = np.asarray(fn(*(np.eye(*x.shape[-2:]) for x in xs))).shape
    return np.array(found, np.longdouble).reshape((*stack, *shape))


def _singular(name: str) -> dict[str, tuple[type[ArgumentError], str]]:
    return {"singular": (ArgumentError, f"{name}: {{a}} is singular")}


# -- solve


def _systems(matrix: Any, rhs: Any, op: str) -> tuple[Any, Any]:
    """Both sides with one stack shape."""
    a, b = together((matrix, rhs), op)
    if a.ndim < 2 or b.ndim < 2:
        return a, b  # for the type rule to refuse
    stack = broadcast_shapes([a.shape[:-2], b.shape[:-2]], op)
    return a.broadcast_to((*stack, *a.shape[-2:])), b.broadcast_to((*stack, *b.shape[-2:]))


def _check_systems(a: TensorType, b: TensorType, op: str) -> None:
    check_matrices(a, op)
    check_matrices(b, op, square=False)
    if not same_size(a.shape[-1], b.shape[-2]):
        raise ShapeError(
            f"{op}: the matrix has {shown(a.shape[-1])} columns (it is {a}), and the right side "
            f"{shown(b.shape[-2])} rows (it is {b})"
        )


def _bind_solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Bound:
    return _systems(matrix, rhs, "solve"), {"adjoint": bool(adjoint)}


def _solve_type(a: TensorType, b: TensorType, adjoint: bool) -> TensorType:
    _check_systems(a, b, "solve")
    return b


def _solve(a: Array, b: Array, adjoint: bool) -> Array:
    return np.linalg.solve(a.swapaxes(-1, -2) if adjoint else a, b)


def _solve_vjp(
    g: Any, z: Any, a: Any, b: Any, needs: tuple[bool, ...], adjoint: bool
) -> tuple[Any, ...]:
    gb = ops["solve"](a, g, not adjoint)
    left, right = (z, gb) if adjoint else (gb, z)
    return (-product(left, right, False, True) if needs[0] else None), gb


def _solve_jvp(ts: tuple[Any, ...], z: Any, a: Any, b: Any, adjoint: bool) -> Any:
    moved = None if ts[0] is None else -product(ts[0], z, adjoint)
    return ops["solve"](a, add_all([ts[1], moved]), adjoint)


def system_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for i, ((a,), _) in enumerate(matrix_cases(rng, dtype)):
        b = rng.uniform(-1, 1, (*a.shape[:-1], (2, 1, 3)[i % 3]))
        yield (a, b.astype(dtype)), {"adjoint": bool(i % 2)}
    a = rng.uniform(-1, 1, (2, 2)) + np.eye(2)
    yield (a.astype(dtype), rng.uniform(-1, 1, (3, 2, 1)).astype(dtype)), {}


def _solve_oracle(a: Array, b: Array, adjoint: bool = False) -> Array:
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a.swapaxes(-1, -2) if adjoint else a, (*stack, *a.shape[-2:]))
    b = np.broadcast_to(b, (*stack, *b.shape[-2:]))
    return each(lambda a, b: eliminated(a, b)[0], a, b)


solve_ = Library(
    name="solve",
    public="",
    bind=_bind_solve,
    type=_solve_type,
    ref=regular("solve", _solve),
    vjp=_solve_vjp,
    jvp=_solve_jvp,
    batch=stack_batch("solve"),
    failures=_singular("solve"),
    samples=Samples(
        cases=system_cases,
        dtypes=FLOATS,
        oracle=_solve_oracle,
        ulp=256.0,
        errors=(
            (lambda op: op(np.zeros((2, 2)), np.ones((2, 1))), "solve: the matrix is singular"),
            (lambda op: op(np.stack([np.eye(2), np.ones((2, 2))]), np.ones((2, 1))),
             "solve: matrix 1 is singular"),
            (lambda op: op(np.ones((2, 3)), np.ones((2, 1))),
             "solve: takes square matrices, got f64[2, 3]: 2 rows and 3 columns"),
            (lambda op: op(np.eye(2), np.ones((3, 1))),
             "the matrix has 2 columns (it is f64[2, 2]), and the right side 3 rows (it is f64[3"),
            (lambda op: op(np.eye(2, dtype=int), np.ones((2, 1), int)),
             "solve: takes floats, got i64[2, 2]; cast first"),
        ),
    ),
    doc="The solutions of linear systems with one right side a column.",
)  # fmt: skip


@located
def solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Any:
    """The x of `matrix` x = `rhs`, or with `adjoint` of the transposed matrix.

    `matrix` is [..., n, n], and `rhs` [..., n, k], a right side a column, or one vector [n]; the
    axes before broadcast. A singular matrix raises ArgumentError.

    >>> import graphgrad as gg
    >>> gg.linalg.solve([[2.0, 0.0], [0.0, 4.0]], [[2.0], [2.0]]).numpy()
    array([[1. ],
           [0.5]], dtype=float32)
    """
    a, b = together((matrix, rhs), "solve")
    if b.ndim != 1:
        return ops["solve"](a, b, adjoint)
    z = ops["solve"](a, b.reshape((*b.shape, 1)), adjoint)
    return z.reshape(z.shape[:-1])


# -- inv


def square_type(op: str) -> Callable[..., TensorType]:
    def infer(x: TensorType) -> TensorType:
        check_matrices(x, op)
        return x

    return infer


def _bind_inv(input: Any, adjoint: bool = False, name: str | None = None) -> Bound:
    x = matrices(input, "inv")
    return (transposed(x) if adjoint else x,), {}


inv = Library(
    name="inv",
    public="linalg.inv",
    bind=_bind_inv,
    type=square_type("inv"),
    ref=regular("inv", np.linalg.inv),
    vjp=lambda g, z, x, needs: (-product(product(z, g, True), z, False, True),),
    jvp=lambda ts, z, x: -product(product(z, ts[0]), z),
    batch=stack_batch("inv"),
    failures=_singular("inv"),
    samples=Samples(
        cases=lambda rng, dtype: (
            (xs, {"adjoint": i == 1}) for i, (xs, _) in enumerate(matrix_cases(rng, dtype))
        ),
        dtypes=FLOATS,
        oracle=lambda x, adjoint: each(
            lambda m: eliminated(m.T if adjoint else m, np.eye(len(m)))[0], x
        ),
        ulp=256.0,
        errors=(
            (lambda op: op(np.ones((2, 2))), "inv: the matrix is singular"),
            (lambda op: op(np.ones(3)), "inv: takes matrices and stacks of them, got f64[3]"),
        ),
    ),
    doc="""The inverses of the matrices in the last two axes, transposed with `adjoint`.

    A singular matrix raises ArgumentError.

    >>> import graphgrad as gg
    >>> gg.linalg.inv([[2.0, 0.0], [0.0, 4.0]]).numpy()
    array([[0.5 , 0.  ],
           [0.  , 0.25]], dtype=float32)
    """,
)

# -- triangular systems

BLOCK = 64  # rows that LAPACK's general solver takes in one


def _triangular(a: Array, b: Array, lower: bool, adjoint: bool) -> Array:
    a = np.tril(a) if lower else np.triu(a)
    if adjoint:
        a, lower = a.swapaxes(-1, -2), not lower
    return _halves(a, b, lower)


def _halves(a: Array, b: Array, lower: bool) -> Array:
    """Half the rows, and then the rest less what is known of them: products but for small
    blocks."""
    n = a.shape[-1]
    if n <= BLOCK:
        return np.linalg.solve(a, b)
    middle = n // 2
    first, second = np.s_[..., :middle, :], np.s_[..., middle:, :]
    if not lower:
        first, second = second, first
    (rows, rest), columns = (first, second), first[1]
    one = _halves(a[rows][..., columns], b[rows], lower)
    other = _halves(a[rest][..., second[1]], b[rest] - a[rest][..., columns] @ one, lower)
    return np.concatenate([one, other] if lower else [other, one], -2)


def _bind_triangular(
    matrix: Any, rhs: Any, lower: bool = True, adjoint: bool = False, name: str | None = None
) -> Bound:
    attrs = {"lower": bool(lower), "adjoint": bool(adjoint)}
    return _systems(matrix, rhs, "triangular_solve"), attrs


def _triangular_type(a: TensorType, b: TensorType, lower: bool, adjoint: bool) -> TensorType:
    _check_systems(a, b, "triangular_solve")
    return b


def _triangular_vjp(
    g: Any, z: Any, a: Any, b: Any, needs: tuple[bool, ...], lower: bool, adjoint: bool
) -> tuple[Any, ...]:
    gb = ops["triangular_solve"](a, g, lower, not adjoint)
    left, right = (z, gb) if adjoint else (gb, z)
    return (in_triangle(-product(left, right, False, True), lower) if needs[0] else None), gb


def _triangular_jvp(ts: tuple[Any, ...], z: Any, a: Any, b: Any, lower: bool, adjoint: bool) -> Any:
    moved = None if ts[0] is None else -product(in_triangle(ts[0], lower), z, adjoint)
    return ops["triangular_solve"](a, add_all([ts[1], moved]), lower, adjoint)


def _triangular_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for i, shape in enumerate(((1, 1), (3, 3), (2, 4, 4), (2, 2), (70, 70), (66, 66))):
        a = rng.uniform(-1, 1, shape) / shape[-1] + np.eye(shape[-1])
        b = rng.uniform(-1, 1, (*shape[:-1], 2))
        yield (a.astype(dtype), b.astype(dtype)), {"lower": i % 2 == 0, "adjoint": i > 2 and i != 5}


def _triangular_oracle(a: Array, b: Array, lower: bool, adjoint: bool) -> Array:
    a = np.array([[a[..., i, j] * ((i >= j) if lower else (i <= j)) for j in range(a.shape[-1])]
                  for i in range(a.shape[-1])])  # fmt: skip
    return _solve_oracle(np.moveaxis(a, (0, 1), (-2, -1)), b, adjoint)


triangular_solve = Library(
    name="triangular_solve",
    public="linalg.triangular_solve",
    bind=_bind_triangular,
    type=_triangular_type,
    ref=regular("triangular_solve", _triangular),
    vjp=_triangular_vjp,
    jvp=_triangular_jvp,
    batch=stack_batch("triangular_solve"),
    failures=_singular("triangular_solve"),
    samples=Samples(
        cases=_triangular_cases,
        dtypes=FLOATS,
        oracle=_triangular_oracle,
        ulp=64.0,
        errors=(
            (lambda op: op(np.tril(np.ones((2, 2)), -1), np.ones((2, 1))),
             "triangular_solve: the matrix is singular"),
        ),
    ),
    doc="""The x of `matrix` x = `rhs`, where only the lower (or upper) triangle of `matrix` counts.

    `adjoint` solves with the transposed triangle. Shapes are as for `solve`, and axes before the
    last two broadcast. A zero on the diagonal raises ArgumentError.

    >>> import graphgrad as gg
    >>> gg.linalg.triangular_solve([[2.0, 0.0], [1.0, 1.0]], [[2.0], [3.0]]).numpy()
    array([[1.],
           [2.]], dtype=float32)
    """,
)  # fmt: skip


@located
def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Any:
    """The x of a x = `rhs` from the Cholesky factor `chol` of a, which is lower triangular.

    >>> import graphgrad as gg
    >>> gg.linalg.cholesky_solve([[2.0, 0.0], [0.0, 1.0]], [[4.0], [3.0]]).numpy()
    array([[1.],
           [3.]], dtype=float32)
    """
    y = ops["triangular_solve"](chol, rhs, True, False)
    return ops["triangular_solve"](chol, y, True, True)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "linalg.cholesky_solve": cholesky_solve,
    "linalg.solve": solve,
}
