"""Matrix functions: what defines them, at sizes, ranks and values that the table has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphgrad  # noqa: F401 -- the eager mode of the counts
from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError, GraphgradError, ShapeError
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import trace
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops import FUNCTIONS
from graphgrad.compiler.transform.autodiff import gradient_graph
from graphgrad.compiler.types import tensor_type
from tests.compiler.compiling import compile_full, run_compiled
from tests.compiler.differences import check_all, graph_of, open_graph
from tests.compiler.op_derivatives import is_seen

gg = {name.rpartition(".")[2]: f for name, f in FUNCTIONS.items()}
RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """A test's numbers do not depend on which tests ran before."""
    RNG.bit_generator.state = np.random.default_rng(7).bit_generator.state


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape)


def run(fn: Callable[..., Any], *arrays: Any) -> Any:
    found = interpret(graph_of(fn, list(arrays)), list(arrays))
    return found[0] if len(found) == 1 else found


# -- factorisations give their matrix back, in every dtype


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3), (0, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("full", [False, True])
def test_factors_multiply_to_the_matrix(shape: Any, full: bool, dtype: str) -> None:
    x = normal(*shape).astype(dtypes.as_dtype(dtype).dtype)
    q, r = (np.asarray(z, np.float64) for z in run(lambda x: gg["qr"](x, full), x))
    s, u, v = (np.asarray(z, np.float64) for z in run(lambda x: gg["svd"](x, full), x))
    k = s.shape[-1]
    near = {"rtol": 0, "atol": 90 * dtypes.as_dtype(dtype).eps}
    wide = x.astype(np.float64)
    np.testing.assert_allclose(q @ r, wide, **near)
    np.testing.assert_array_equal(r, np.triu(r))
    np.testing.assert_allclose(
        (u[..., :k] * s[..., None, :]) @ v[..., :k].swapaxes(-1, -2), wide, **near
    )
    for orthonormal in (q, u, v):
        product = orthonormal.swapaxes(-1, -2) @ orthonormal
        np.testing.assert_allclose(
            product, np.broadcast_to(np.eye(product.shape[-1]), product.shape), **near
        )
    if full:
        assert q.shape[-1] == u.shape[-1] == shape[-2]
        assert v.shape[-1] == shape[-1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_eigenvectors_diagonalise(dtype: str) -> None:
    x = normal(2, 4, 4)
    x = (x + x.swapaxes(-1, -2)).astype(dtypes.as_dtype(dtype).dtype)
    e, v = (np.asarray(z, np.float64) for z in run(lambda x: gg["eigh"](x), x))
    assert (np.diff(e) >= 0).all()
    wide = x.astype(np.float64)
    near = {"rtol": 0, "atol": 60 * dtypes.as_dtype(dtype).eps}
    np.testing.assert_allclose(wide @ v, v * e[..., None, :], **near)


def test_only_the_lower_triangle_is_read() -> None:
    x = np.array([[4.0, 99.0], [2.0, 5.0]])
    np.testing.assert_allclose(run(lambda x: ops["cholesky"](x), x), [[2, 0], [1, 2]])
    e = run(lambda x: gg["eigh"](x), x)[0]
    np.testing.assert_allclose(e, np.linalg.eigvalsh([[4, 2], [2, 5]]))


# -- values at which derivatives are easily wrong


def gradient(fn: Callable[[Any], Any], x: Any) -> Any:
    """Of a function with one number as result."""
    graph = graph_of(fn, [x])
    reverse = gradient_graph(graph, (True,), (True,))
    return interpret(reverse, [x, *interpret(graph, [x]), np.float64(1)])[0]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_determinants_of_singular_matrices_have_derivatives(n: int) -> None:
    x = normal(n, n)
    x[-1] = x[:-1].sum(0)  # of rank n - 1
    z = gradient(lambda x: ops["det"](x), x)
    for i, j in np.ndindex(n, n):
        minor = np.delete(np.delete(x, i, 0), j, 1)
        wanted = (-1) ** (i + j) * (np.linalg.det(minor) if n > 1 else 1.0)
        np.testing.assert_allclose(z[i, j], wanted, atol=1e-12)


def test_equal_eigenvalues_do_not_spoil_what_does_not_depend_on_the_vectors() -> None:
    """The trace of exp(x), by way of eigenvectors: its gradient is exp(x)."""

    def trace_of_square(x: Any) -> Any:
        e, v = gg["eigh"](x)
        whole = ops["matmul"](v * e.reshape((1, 3)), v, False, True)
        return ops["sum"](ops["square"](whole))

    x = np.diag([2.0, 2.0, 3.0])
    np.testing.assert_allclose(gradient(trace_of_square, x), 2 * x, atol=1e-12)
    np.testing.assert_allclose(
        gradient(lambda x: ops["sum"](gg["svd"](x)[0]), np.eye(3) * 2), np.eye(3), atol=1e-12
    )


def test_the_pseudo_inverse_has_derivatives_at_lower_rank() -> None:
    """Along directions that keep the rank."""
    a, b = normal(4, 2), normal(2, 3)
    graph = graph_of(lambda a, b: ops["pinv"](ops["matmul"](a, b), rcond=1e-9), [a, b])
    np.testing.assert_allclose(interpret(graph, [a, b])[0], np.linalg.pinv(a @ b))
    check_all(graph, [a, b])


def test_nan_is_a_value_and_not_an_error() -> None:
    x = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    for fn in (gg["svd"], gg["eigh"], gg["qr"]):
        for z in run(lambda x, fn=fn: fn(x), x):
            assert np.isfinite(z[0]).all()
            assert np.isnan(z[1]).any()
    assert np.isnan(run(lambda x: ops["inv"](x), x)[1]).all()
    assert np.isnan(run(lambda x: ops["expm"](x), x)[1]).all()


# -- the checks of derivatives see planted mistakes in these rules too


def values_alone(g: Any, z: Any, x: Any, needs: Any) -> Any:
    """The vjp of eigh without the part of the vectors."""
    if g[0] is None:
        return (None,)
    return (ops["matmul"](z[1] * g[0].reshape((*g[0].shape[:-1], 1, -1)), z[1], False, True),)


def flat_spread(g: Any, z: Any, x: Any, needs: Any, axes: Any, keepdims: bool) -> Any:
    """The vjp of the variance around 0 in place of the mean."""
    count = np.prod([x.shape[a] for a in axes])
    row = g.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    return (row * x * (2 / count),)


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("variance", {"vjp": flat_spread}),
    ("std", {"jvp": lambda ts, z, x, axes, keepdims: ops["sum"](ts[0], axes, keepdims) * 0 + z}),
    ("sort", {"vjp": lambda g, z, x, needs, axis, descending: (g,)}),
    ("top_k", {"jvp": lambda ts, z, x, k, index_type: (z[0] * 0, None)}),
    ("running_cummax", {"vjp": lambda g, z, x, needs, axis, reverse: (
        ops["where"](x == z, g, 0),)}),
    ("running_logsumexp", {"vjp": lambda g, z, x, needs, axis, reverse: (
        g * ops["exp"](x - z),)}),
    ("inv", {"vjp": lambda g, z, x, needs: (-ops["matmul"](ops["matmul"](z, g), z),)}),
    ("solve", {"jvp": lambda ts, z, a, b, adjoint: ops["solve"](a, b, adjoint)}),
    ("cholesky", {"vjp": lambda g, z, x, needs: (ops["matmul"](z, g, True),)}),
    ("det", {"vjp": lambda g, z, x, needs: (g.reshape((*g.shape, 1, 1)) * ops["inv"](x),)}),
    ("eigh", {"vjp": values_alone}),
    ("expm", {"vjp": lambda g, z, x, needs: (ops["matmul"](z, g, True),)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_planted_mistake_is_seen(name: str, changes: dict[str, Any]) -> None:
    assert is_seen(name, changes)


# -- functions made of ops

SQUARE = normal(3, 3)
FUNCTION_CASES: list[tuple[str, Callable[..., Any], list[Any], Any]] = [
    ("matvec", lambda a, b: gg["matvec"](a, b), [normal(2, 3), normal(3)], lambda a, b: a @ b),
    (
        "matvec, transposed stacks",
        lambda a, b: gg["matvec"](a, b, transpose_a=True),
        [normal(2, 3, 4), normal(2, 3)],
        lambda a, b: np.einsum("bij,bi->bj", a, b),
    ),
    (
        "matvec, more vectors",
        lambda a, b: gg["matvec"](a, b),
        [normal(2, 3), normal(4, 3)],
        lambda a, b: b @ a.T,
    ),
    ("trace", lambda x: gg["trace"](x), [SQUARE], np.trace),
    ("trace of tall", lambda x: gg["trace"](x), [normal(2, 4, 3)],
     lambda x: np.trace(x, axis1=1, axis2=2)),
    ("cross", lambda a, b: gg["cross"](a, b), [normal(2, 3), normal(2, 3)], np.cross),
    ("cross with one", lambda a, b: gg["cross"](a, b), [normal(3), normal(2, 3)], np.cross),
    ("outer", lambda a, b: gg["outer"](a, b), [normal(2), normal(3)], np.outer),
    ("solve a vector", lambda a, b: gg["solve"](a, b), [SQUARE, normal(3)], np.linalg.solve),
    (
        "logdet",
        lambda x: gg["logdet"](ops["matmul"](x, x, False, True)),
        [SQUARE],
        lambda x: np.linalg.slogdet(x @ x.T)[1],
    ),
    ("lstsq", lambda a, b: gg["lstsq"](a, b), [normal(5, 3), normal(5, 2)],
     lambda a, b: np.linalg.lstsq(a, b)[0]),
    ("lstsq, wide", lambda a, b: gg["lstsq"](a, b), [normal(2, 3, 5), normal(2, 3, 1)],
     lambda a, b: np.linalg.pinv(a) @ b),
    ("lstsq, slow", lambda a, b: gg["lstsq"](a, b, fast=False), [normal(5, 3), normal(5, 2)],
     lambda a, b: np.linalg.lstsq(a, b)[0]),
    (
        "lstsq, regularized",
        lambda a, b: gg["lstsq"](a, b, 0.5),
        [normal(5, 3), normal(5, 2)],
        lambda a, b: np.linalg.solve(a.T @ a + 0.5 * np.eye(3), a.T @ b),
    ),
    ("norm, 2 of a matrix", lambda x: gg["norm"](x, 2, axis=(0, 1)), [normal(3, 4)],
     lambda x: np.linalg.norm(x, 2)),
    ("norm, 1 of a matrix", lambda x: gg["norm"](x, 1, axis=(-2, -1)), [normal(2, 3, 4)],
     lambda x: np.linalg.norm(x, 1, (1, 2))),
    ("norm, 1 of columns first", lambda x: gg["norm"](x, 1, axis=(1, 0)), [normal(3, 4)],
     lambda x: np.linalg.norm(x, 1, (1, 0))),
    ("norm, inf of a matrix", lambda x: gg["norm"](x, np.inf, axis=(0, 1), keepdims=True),
     [normal(3, 4)], lambda x: np.linalg.norm(x, np.inf, (0, 1), keepdims=True)),
    ("norm, fro", lambda x: gg["norm"](x, "fro", axis=[0, 2]), [normal(3, 4, 2)],
     lambda x: np.linalg.norm(x, "fro", (0, 2))),
    *[
        (
            f"norm, {order} of a matrix",
            lambda x, order=order: gg["norm"](x, order, axis=(0, 1)),
            [normal(3, 4)],
            lambda x, order=order: np.linalg.norm(x, order),
        )
        for order in (-1, -2, -np.inf, "nuc")
    ],
    ("norm, -inf", lambda x: gg["norm"](x, -np.inf, axis=1), [normal(3, 4)],
     lambda x: np.linalg.norm(x, -np.inf, 1)),
    ("norm", lambda x: gg["norm"](x), [normal(3, 4)], np.linalg.norm),
    ("norm, 3", lambda x: gg["norm"](x, 3, axis=1), [normal(3, 4)],
     lambda x: np.linalg.norm(x, 3, 1)),
    ("norm, 1", lambda x: gg["norm"](x, 1, axis=-1, keepdims=True), [normal(3, 4)],
     lambda x: np.linalg.norm(x, 1, 1, keepdims=True)),
    ("norm, inf", lambda x: gg["norm"](x, np.inf, axis=0), [normal(3, 4)],
     lambda x: np.linalg.norm(x, np.inf, 0)),
    ("normalize", lambda x: gg["normalize"](x, axis=1)[0], [normal(3, 4)],
     lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)),
    ("clip_by_norm", lambda x: gg["clip_by_norm"](x, 1.5, axes=[1]), [normal(3, 4)],
     lambda x: x * np.minimum(1, 1.5 / np.linalg.norm(x, axis=1, keepdims=True))),
    ("clip_by_average_norm", lambda x: gg["clip_by_average_norm"](x, 0.1), [normal(3, 4)],
     lambda x: x * np.minimum(1, 0.1 / (np.linalg.norm(x) / 12))),
    (
        "clip_by_global_norm",
        lambda x, y: gg["clip_by_global_norm"]([x, None, y], 1.0)[0][2],
        [normal(3), normal(4)],
        lambda x, y: y * np.minimum(1, 1 / np.sqrt((x * x).sum() + (y * y).sum())),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fn", "arrays", "wanted"), [c[1:] for c in FUNCTION_CASES], ids=[c[0] for c in FUNCTION_CASES]
)
def test_function_is_numpys(fn: Callable[..., Any], arrays: list[Any], wanted: Any) -> None:
    graph = graph_of(fn, arrays)
    (got,) = interpret(graph, arrays)
    np.testing.assert_allclose(got, wanted(*arrays), rtol=1e-10, atol=1e-12)
    check_all(graph, arrays)


def test_compiled_functions_are_the_interpreters() -> None:
    """All as one program, and their gradients as another."""
    arrays = [a for case in FUNCTION_CASES for a in case[2]]

    def every(*xs: Any) -> list[Any]:
        rest = iter(xs)
        return [fn(*(next(rest) for _ in own)) for _, fn, own, _ in FUNCTION_CASES]

    graph = graph_of(every, arrays)
    kinds = (interpret, lambda graph, arrays: run_compiled(compile_full(graph), arrays))
    outputs = [run(graph, arrays) for run in kinds]
    reverse = gradient_graph(graph, (True,) * len(FUNCTION_CASES), (True,) * len(arrays))
    seeds = [np.cos(np.arange(np.size(z))).reshape(np.shape(z)) for z in outputs[0]]
    grads = [  # each for its own outputs: extrema look for them among the inputs
        run(reverse, [*arrays, *own, *seeds]) for run, own in zip(kinds, outputs, strict=True)
    ]
    for found in (outputs, grads):
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_the_rank_counts_values_above_the_rounding() -> None:
    x = np.stack([np.eye(3), np.ones((3, 3)), np.zeros((3, 3))])
    np.testing.assert_array_equal(run(lambda x: gg["matrix_rank"](x), x), [3, 1, 0])
    assert run(lambda x: gg["matrix_rank"](x, tol=1.5), np.diag([1.0, 2.0])) == 1


def test_what_is_not_finite_clips_to_nan() -> None:
    x, y = np.array([3.0, np.inf]), np.array([12.0])
    got = run(lambda x, y: gg["clip_by_global_norm"]([x, y], 1.0)[0], x, y)
    assert np.isnan(np.concatenate(got)).all()
    z = run(lambda x: gg["clip_by_global_norm"]([x], 1.0, use_norm=4.0)[0], np.array([8.0]))
    np.testing.assert_allclose(z, [2])


BAD: list[tuple[Callable[[Any], Any], type[GraphgradError], str]] = [
    (lambda x: gg["norm"](x, "fro"), ArgumentError, "not 'fro'; 'fro' and 'nuc' are"),
    (lambda x: gg["norm"](x, -1), ArgumentError, "infinity or -infinity, not -1"),
    (lambda x: gg["norm"](x, 3, axis=(0, 1)), ArgumentError, "the negative of one, not 3"),
    (lambda x: gg["norm"](x, axis=(0, 1, 2)), ArgumentError, "axis 2 is out of range"),
    (lambda x: gg["cross"](x, np.zeros((2, 2))), ShapeError, "got f64[2, 3] and f64[2, 2]"),
    (lambda x: gg["matvec"](np.ones(3), x), ShapeError, "stacks of them, got f64[3]"),
    (lambda x: gg["global_norm"](x), GraphgradError, "global_norm: takes a list of tensors"),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "error", "text"), BAD, ids=[b[2] for b in BAD])
def test_errors_say_what_is_wrong(
    fn: Callable[..., Any], error: type[GraphgradError], text: str
) -> None:
    with pytest.raises(error) as found:
        trace(lambda x: [fn(x)], [tensor_type((2, 3), dtypes.float64)])
    assert text in found.value.message


# -- sizes that are unknown while tracing

OPEN: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    ("std", lambda x: ops["std"](x, 0), lambda x: x.std(0)),
    ("variance", lambda x: ops["variance"](x), np.var),
    ("norm", lambda x: ops["euclidean_norm"](x, 0), lambda x: np.linalg.norm(x, axis=0)),
    ("nonzero", lambda x: ops["count_nonzero"](x), np.count_nonzero),
    ("sort", lambda x: ops["sort"](x, 0), lambda x: np.sort(x, 0)),
    ("argsort", lambda x: ops["argsort"](x, 0), lambda x: np.argsort(x, 0)),
    ("top_k", lambda x: gg["top_k"](x.transpose([1, 0]), 3)[0], lambda x: -np.sort(-x.T)[:, :3]),
    ("cummax", lambda x: ops["cummax"](x), lambda x: np.maximum.accumulate(x)),
    (
        "cumulative_logsumexp",
        lambda x: ops["cumulative_logsumexp"](x, exclusive=True, reverse=True),
        lambda x: np.concatenate([np.logaddexp.accumulate(x[:0:-1])[::-1], x[:1] - np.inf]),
    ),
    ("inv", lambda x: ops["inv"](gram(x)), lambda x: np.linalg.inv(gram_of(x))),
    ("cholesky", lambda x: ops["cholesky"](gram(x)), lambda x: np.linalg.cholesky(gram_of(x))),
    ("logdet", lambda x: gg["logdet"](gram(x)), lambda x: np.linalg.slogdet(gram_of(x))[1]),
    ("qr", lambda x: gg["qr"](x)[1], lambda x: np.linalg.qr(x)[1]),
    ("svd", lambda x: gg["svd"](x, compute_uv=False), lambda x: np.linalg.svd(x)[1]),
    ("svd, wide", lambda x: gg["svd"](x.transpose([1, 0]))[0], lambda x: np.linalg.svd(x)[1]),
    ("lstsq", lambda x: gg["lstsq"](x, x), lambda x: np.eye(4)),
    ("expm", lambda x: ops["expm"](gram(x) * 0.0), lambda x: np.eye(len(x))),
    ("histogram", lambda x: gg["histogram_fixed_width"](x, [-3.0, 3.0], 4),
     lambda x: np.histogram(x, 4, (-3, 3))[0]),
]  # fmt: skip


def gram(x: Any) -> Any:
    z = ops["matmul"](x, x, transpose_b=True)
    places = ops["iota"](x.shape[0])
    one = places.reshape((x.shape[0], 1)) == places.reshape((1, x.shape[0]))
    return z + one.cast(dtypes.float64)


def gram_of(x: Any) -> Any:
    return x @ x.T + np.eye(len(x))


@pytest.mark.parametrize(("fn", "wanted"), [o[1:] for o in OPEN], ids=[o[0] for o in OPEN])
def test_one_trace_serves_all_sizes(fn: Callable[[Any], Any], wanted: Callable[[Any], Any]) -> None:
    """Forward, and the gradient against a trace of fixed sizes."""
    graph, holds = open_graph(fn)
    smooth = graph.output_types[0].dtype.is_floating
    reverse = gradient_graph(graph, (True,), (True,)) if smooth else None
    for size in (5, 6, 9):
        assert holds(size)
        x = np.random.default_rng(size).normal(size=(size, 4))
        (got,) = interpret(graph, [x])
        np.testing.assert_allclose(got, wanted(x), rtol=1e-9, atol=1e-12)
        if reverse is not None and np.isfinite(got).all():
            fixed = gradient_graph(graph_of(fn, [x]), (True,), (True,))
            a, b = (interpret(g, [x, got, np.cos(got)])[0] for g in (reverse, fixed))
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


# -- counting

COUNTS: list[tuple[str, Callable[[], Any], Any]] = [
    ("counts", lambda: gg["bincount"]([1, 1, 3]), [0, 2, 0, 1]),
    ("none", lambda: gg["bincount"](np.zeros(0, np.int32)), []),
    ("at least", lambda: gg["bincount"]([1], minlength=4), [0, 1, 0, 0]),
    ("at most", lambda: gg["bincount"]([1, 5, 1], maxlength=3), [0, 2, 0]),
    ("weights", lambda: gg["bincount"]([1, 1, 3], [0.5, 1.0, 2.0], 6, 3), [0, 1.5, 0]),
    ("rows", lambda: gg["bincount"]([[1, 1], [0, 2]], axis=-1), [[0, 2, 0], [1, 0, 1]]),
    (
        "rows, whether",
        lambda: gg["bincount"]([[1, 1], [0, 2]], axis=1, binary_output=True),
        [[0, 1, 0], [1, 0, 1]],
    ),
    ("all together", lambda: gg["bincount"]([[1, 1], [0, 2]]), [1, 2, 1]),
    (
        "bins",
        lambda: gg["histogram_fixed_width_bins"]([-1.0, 0, 1.5, 2, 5, 15], [0.0, 5.0], 5),
        [0, 0, 1, 2, 4, 4],
    ),
    (
        "histogram with NaN",
        lambda: gg["histogram_fixed_width"]([np.nan, 0.5, np.inf, -np.inf], [0, 1], 2),
        [1, 2],
    ),
    ("histogram of integers", lambda: gg["histogram_fixed_width"]([0, 1, 2, 3], [0, 4], 2), [2, 2]),
    (
        "confusion",
        lambda: gg["confusion_matrix"]([1, 2, 2], [2, 2, 0]),
        [[0, 0, 0], [0, 0, 1], [1, 0, 1]],
    ),
    (
        "confusion, weighed",
        lambda: gg["confusion_matrix"]([1, 1, 0], [1, 1, 0], 2, [0.5, 2.0, 1.0], "float32"),
        [[1, 0], [0, 2.5]],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "wanted"), [c[1:] for c in COUNTS], ids=[c[0] for c in COUNTS])
def test_counts(fn: Callable[[], Any], wanted: Any) -> None:
    np.testing.assert_array_equal(fn().numpy(), wanted)
