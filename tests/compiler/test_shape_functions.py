"""Functions on shapes that are made of ops: NumPy's values, derivatives, batches, kernels, and
sizes that are unknown while tracing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphgrad
from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError, GraphgradError, IndexOutOfRange, ShapeError
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import trace
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops import diagonals, indexing, padding, partition, runtime_sizes, search
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.types import tensor_type
from tests.compiler.compiling import compile_full, run_compiled
from tests.compiler.differences import check_all, graph_of, open_graph

X = np.arange(24.0).reshape(2, 3, 4) - 7
M = np.arange(12.0).reshape(3, 4) + 1
V = np.array([3.0, -1.0, 2.0])


def band(*rows: Any) -> Any:
    return np.array(rows, np.float64)


CASES: list[tuple[str, Callable[..., Any], list[Any], Any]] = [
    ("pad", lambda x: padding.pad(x, [[1, 0], [2, 1]]), [M], np.pad(M, ((1, 0), (2, 1)))),
    (
        "pad with a number",
        lambda x, c: padding.pad(x, [[1, 2]], constant_values=c),
        [V, np.array(7.0)],
        np.pad(V, (1, 2), constant_values=7),
    ),
    (
        "pad by reflection",
        lambda x: padding.pad(x, [[2, 1], [0, 3]], "reflect"),
        [M],
        np.pad(M, ((2, 1), (0, 3)), "reflect"),
    ),
    ("pad nothing", lambda x: padding.pad(x, [[0, 0]], "SYMMETRIC"), [V], V),
    ("tile", lambda x: padding.tile(x, [2, 3]), [M], np.tile(M, (2, 3))),
    ("tile to nothing", lambda x: padding.tile(x, [0]), [V], V[:0]),
    ("repeat", lambda x: padding.repeat(x, 2), [M], np.repeat(M, 2)),
    ("repeat rows", lambda x: padding.repeat(x, 3, axis=0), [M], np.repeat(M, 3, 0)),
    ("repeat each", lambda x: padding.repeat(x, [2, 0, 1], 0), [M], np.repeat(M, [2, 0, 1], 0)),
    ("roll", lambda x: padding.roll(x, [1, -5], [0, 1]), [M], np.roll(M, (1, -5), (0, 1))),
    ("roll nothing", lambda x: padding.roll(x, 1, 0), [V[:0]], V[:0]),
    (
        "roll by a tensor",
        lambda x, s: padding.roll(x, s, 0),
        [V, np.array(-4)],
        np.roll(V, -4),
    ),
    ("meshgrid", lambda x, y: padding.meshgrid(x, y), [V, V[:2]], np.meshgrid(V, V[:2])),
    (
        "meshgrid ij",
        lambda x, y: padding.meshgrid(x, y, indexing="ij"),
        [V, V[:2]],
        np.meshgrid(V, V[:2], indexing="ij"),
    ),
    (
        "space_to_depth and back",
        lambda x: padding.depth_to_space(padding.space_to_depth(x, 2), 2),
        [np.arange(32.0).reshape(1, 4, 4, 2)],
        np.arange(32.0).reshape(1, 4, 4, 2),
    ),
    ("diag", lambda x: diagonals.diag(x), [V], np.diag(V)),
    ("diag above", lambda x: diagonals.diag(x, k=2), [V], np.diag(V, 2)),
    ("diag below", lambda x: diagonals.diag(x, k=-1), [V], np.diag(V, -1)),
    (
        "diags",
        lambda x: diagonals.diag(x, num_rows=3, num_cols=4, padding_value=9),
        [M[:, :3]],
        np.where(np.eye(3, 4) > 0, np.pad(M[:, :3], ((0, 0), (0, 1)))[:, None], 9),
    ),
    (
        "diag of a band",
        lambda x: diagonals.diag(x, k=(-1, 1)),
        [band([0, 8, 9], [1, 2, 3], [6, 7, 0])],
        band([1, 8, 0], [6, 2, 9], [0, 7, 3]),
    ),
    ("diag_part", lambda x: diagonals.diag_part(x, k=1), [X], np.diagonal(X, 1, 1, 2)),
    ("diag_part below", lambda x: diagonals.diag_part(x, k=-2), [X], np.diagonal(X, -2, 1, 2)),
    (
        "diag_part of a band",
        lambda x: diagonals.diag_part(x, k=(-1, 1), padding_value=5.0),
        [M[:, :3]],
        band([5, 2, 7], [1, 6, 11], [5, 10, 5]),
    ),
    (
        "diag_part to the left",
        lambda x: diagonals.diag_part(x, k=(-1, 1), align="LEFT_RIGHT"),
        [M[:, :3]],
        band([2, 7, 0], [1, 6, 11], [0, 5, 10]),
    ),
    (
        "set_diag",
        lambda x, d: diagonals.set_diag(x, d, k=-1),
        [M[:, :3], V[:2]],
        band([1, 2, 3], [3, 6, 7], [9, -1, 11]),
    ),
    (
        "set_diag of a band",
        lambda x, d: diagonals.set_diag(x, d, k=(0, 1)),
        [M[:2, :2], band([0, 5], [6, 7])],
        band([6, 5], [5, 7]),
    ),
    ("tensor_diag", lambda x: diagonals.tensor_diag(x), [V], np.diag(V)),
    (
        "tensor_diag and back",
        lambda x: diagonals.tensor_diag_part(diagonals.tensor_diag(x)),
        [M],
        M,
    ),
    (
        "band_part",
        lambda x: diagonals.band_part(x, 1, 0),
        [X],
        np.triu(np.tril(X), -1),
    ),
    (
        "band_part by tensors",
        lambda x, n: diagonals.band_part(x, n, -1),
        [X, np.array(1)],
        np.triu(X, -1),
    ),
    ("matrix_transpose", lambda x: diagonals.matrix_transpose(x), [X], X.swapaxes(1, 2)),
    (
        "strided_slice",
        lambda x: indexing.strided_slice(x, [0, 2, 0], [2, -4, 4], [1, -1, 2]),
        [X],
        X[0:2, 2:-4:-1, 0:4:2],
    ),
    (
        "strided_slice with masks",
        lambda x: indexing.strided_slice(
            x, [0, 0, 1], [0, 0, 2], ellipsis_mask=1, new_axis_mask=2, shrink_axis_mask=4
        ),
        [X],
        X[..., None, 1],
    ),
    (
        "dynamic_stitch",
        lambda x, y: partition.dynamic_stitch([[0, 3], [1, 0, 4]], [x, y]),
        [M[:2], M],
        np.stack([M[1], M[0], 0 * M[0], M[1], M[2]]),
    ),
]
IDS = [c[0] for c in CASES]


@pytest.mark.parametrize(("fn", "arrays", "wanted"), [c[1:] for c in CASES], ids=IDS)
def test_function_in_all_modes(fn: Callable[..., Any], arrays: list[Any], wanted: Any) -> None:
    arrays = list(map(np.ascontiguousarray, arrays)) if arrays[-1].ndim else arrays
    graph = graph_of(fn, arrays)
    wanted = wanted if isinstance(wanted, list | tuple) else [wanted]
    compiled = run_compiled(compile_full(graph), arrays)
    for got, kernel, w in zip(interpret(graph, arrays), compiled, wanted, strict=True):
        np.testing.assert_array_equal(got, w)
        np.testing.assert_array_equal(kernel, w)
        assert got.dtype == w.dtype
    check_all(graph, arrays)
    lanes = [np.stack([a, 2 * a] if a.dtype.kind == "f" else [a, a]) for a in arrays]
    many, marks = batch_graph(graph, (True,) * len(arrays), 2)
    second = interpret(graph, [row[1] for row in lanes])
    for got, mark, w in zip(interpret(many, lanes), marks, second, strict=True):
        np.testing.assert_array_equal(got[1] if mark else got, w)


BAD: list[tuple[Callable[..., Any], type[GraphgradError], str]] = [
    (
        lambda x: padding.pad(x, [[1, 1]]),
        ShapeError,
        "pad: f64[2, 3, 4] needs 3 pairs of paddings, got [[1, 1]]",
    ),
    (lambda x: padding.pad(x, [[0, -1]] * 3), ShapeError, "not negative, got -1 at axis 0"),
    (lambda x: padding.pad(x, [[0, 0]] * 3, "wrap"), ArgumentError, "CONSTANT, REFLECT or SYMM"),
    (lambda x: padding.tile(x, [2]), ShapeError, "tile: f64[2, 3, 4] needs 3 multiples, got [2]"),
    (lambda x: padding.tile(x, [2, -1, 1]), ArgumentError, "a multiple is not negative"),
    (lambda x: padding.repeat(x, [1, 2], 1), ShapeError, "f64[2, 3, 4] needs 3 repeats, got 2"),
    (lambda x: padding.repeat(x, -1), ArgumentError, "repeats are not negative, got -1"),
    (lambda x: padding.repeat(x, [1.0, 2.0], 0), ArgumentError, "repeats are integers"),
    (lambda x: padding.roll(x, [1, 2], 0), ShapeError, "roll: 2 shifts for the 1 axes [0]"),
    (lambda x: padding.meshgrid(x), ShapeError, "meshgrid: takes vectors, got f64[2, 3, 4]"),
    (
        lambda x: padding.meshgrid(indexing.index(x, (0, 0)), indexing="ji"),
        ArgumentError,
        "'xy' or 'ij', not 'ji'",
    ),
    (lambda x: padding.space_to_depth(x, 2), ShapeError, "takes 4 axes"),
    (
        lambda x: diagonals.diag(x, k=(0, 1)),
        ShapeError,
        "linalg.diag: the diagonals f64[2, 3, 4] do not fit f64[2, 4, 4]",
    ),
    (lambda x: diagonals.diag_part(x, k=4), ArgumentError, "[3, 4] has no diagonals 4 to 4"),
    (lambda x: diagonals.diag_part(x, k=(1, 0)), ArgumentError, "from the lower to the upper"),
    (lambda x: diagonals.set_diag(x, V), ShapeError, "the diagonals f64[3] do not fit f64[2, 3"),
    (lambda x: diagonals.diag_part(x, k=(0, 1), align="UP"), ArgumentError, "not 'UP'"),
    (lambda x: diagonals.tensor_diag_part(x), ShapeError, "the halves of the shape of f64[2, 3"),
    (lambda x: indexing.strided_slice(x, [0], [1, 2]), ShapeError, "1 begins, 2 ends"),
    (lambda x: search.invert_permutation(x), GraphgradError, "places are integers"),
]


@pytest.mark.parametrize(("fn", "error", "text"), BAD, ids=[b[2] for b in BAD])
def test_error(fn: Callable[..., Any], error: type[GraphgradError], text: str) -> None:
    with pytest.raises(error) as found:
        fn(graphgrad.constant(X))
    assert text in found.value.message
    with pytest.raises(error) as traced:
        trace(lambda x: [fn(x)], [tensor_type(X.shape, dtypes.float64)])
    assert text in traced.value.message


OPEN: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    ("pad", lambda x: padding.pad(x, [[1, 2], [0, 0]]), lambda x: np.pad(x, ((1, 2), (0, 0)))),
    (
        "pad by reflection",
        lambda x: padding.pad(x, [[2, 1], [0, 0]], "REFLECT"),
        lambda x: np.pad(x, ((2, 1), (0, 0)), "reflect"),
    ),
    ("tile", lambda x: padding.tile(x, [2, 1]), lambda x: np.tile(x, (2, 1))),
    ("repeat", lambda x: padding.repeat(x, 2, 0), lambda x: np.repeat(x, 2, 0)),
    ("roll", lambda x: padding.roll(x, 1, 0), lambda x: np.roll(x, 1, 0)),
    (
        "diag",
        lambda x: diagonals.diag(x.transpose((1, 0))),
        lambda x: np.stack(list(map(np.diag, x.T))),
    ),
    ("diag_part", lambda x: diagonals.diag_part(x), np.diagonal),
    ("band_part", lambda x: diagonals.band_part(x, 0, -1), np.triu),
    ("mask", lambda x: runtime_sizes.boolean_mask(x, x > 1), lambda x: x[x > 1]),
    (
        "segments",
        lambda x: ops["unsorted_segment_sum"](x, ops["iota"](x.shape[0], dtypes.int32) % 2, 2),
        lambda x: np.stack([x[::2].sum(0), x[1::2].sum(0)]),
    ),
    (
        "scatter_nd",
        lambda x: ops["scatter_nd"]([[0], [2]], indexing.index(x, np.s_[:2]), x.shape),
        lambda x: np.concatenate([x[:1], 0 * x[:1], x[1:2], np.zeros((len(x) - 3, 4))]),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "wanted"), [o[1:] for o in OPEN], ids=[o[0] for o in OPEN])
def test_one_trace_serves_all_sizes(fn: Callable[[Any], Any], wanted: Callable[[Any], Any]) -> None:
    graph, holds = open_graph(fn)
    compiled = compile_full(graph)
    for size in (5, 6, 11):
        assert holds(size)
        x = np.random.default_rng(size).uniform(0.5, 1.5, (size, 4))
        np.testing.assert_allclose(interpret(graph, [x])[0], wanted(x), rtol=1e-12)
        np.testing.assert_allclose(run_compiled(compiled, [x])[0], wanted(x), rtol=1e-12)


def test_a_permutation_is_undone() -> None:
    x = np.random.default_rng(0).permutation(9)
    graph = graph_of(search.invert_permutation, [x])
    compiled = compile_full(graph)
    np.testing.assert_array_equal(run_compiled(compiled, [x])[0], np.argsort(x))
    for wrong, error, text in (
        ([0, 1, 2, 3, 4, 5, 6, 7, 9], IndexOutOfRange, "index 9 is out of range"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 7], ArgumentError, "no element is 8, so another comes twice"),
    ):
        with pytest.raises(error, match=text):
            interpret(graph, [np.array(wrong)])
