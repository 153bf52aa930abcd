"""Whatever is fused and however it is lowered, results are those of the interpreter."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.op import ops
from graphgrad.compiler.types import TensorType
from tests.compiler import models
from tests.compiler.compiling import check, compile_full, graph_of, kernels, samples, t

Program = tuple[str, Callable[..., Any], tuple[TensorType, ...]]
f32 = t


def tanh(x: Any) -> Any:
    return ops["tanh"](x)


def sliced(x: Any, starts: Any, sizes: Any, steps: Any) -> Any:
    return ops["slice"](x, starts, sizes, steps)


def chain_of_views(x: Any) -> Any:
    y = (x + 1.0).transpose((2, 0, 1)).reshape((4, 6))
    return [sliced(y, (3, 5), (2, 3), (-2, -2)) * 2.0, y.reshape((24,)).sum((0,))]


def batch_norm(x: Any, gamma: Any) -> Any:
    mean = x.sum((0,), True) / 9.0
    d = x - mean
    return d / ops["sqrt"](ops["square"](d).sum((0,), True) / 9.0 + 0.1) * gamma


def mixed(x: Any, b: Any) -> list[Any]:
    h = tanh(x * 2.0 + b)
    y = ops["exp"](h - h.sum((1,), True))
    return [y, y.sum((0,)), y.sum((0, 1)) * 2.0, h * 2.0, h.sum((1,))]


def attention(q: Any, k: Any, v: Any) -> Any:
    scores = q @ k.transpose((0, 2, 1)) * 0.5
    return models.softmax(scores.reshape((15, 5))).reshape((3, 5, 5)) @ v


def parts(x: Any) -> Any:
    left, right = sliced(x, (0, 0), (5, 4), (1, 1)), sliced(x, (0, 4), (5, 5), (1, 1))
    return [left * 2.0, right.sum((1,)), ops["concat"]([right, left + 1.0], 1)]


def reads_prefix(x: Any) -> Any:
    y = x + 1.0
    return [y * y, sliced(y, (0, 0), (4, 3), (1, 1)) * 2.0]


def reduces_late(x: Any, g: Any) -> list[Any]:
    """A reduction of a value that is known only after another one."""
    a = (x.sum((0,), True) - x).sum((0, 1))
    p = (ops["sign"](a) * g).broadcast_to(x.shape)
    return [ops["abs"](a), p.sum((0,), True) - p]


def picked(x: Any) -> Any:
    return ops["gather"](x, ops["mod"](ops["iota"](2) * 6, 5), axis=0)


def keeps_types(x: Any, y: Any) -> list[Any]:
    chosen = [ops["where"](ops["less"](x, y), x, y), ops["equal"](x, y)]
    return chosen if x.dtype.is_bool else [*chosen, x + y, x * y, ops["maximum"](x, y)]


PROGRAMS: list[Program] = [
    ("scalars", lambda x, y: x * y + 2.0, (t(), t())),
    ("scalar and array", lambda x, y: [x * y, (x * y).sum((0,))], (t(), t(7))),
    ("row and matrix", lambda x, y: x + y, (t(5, 7), t(7))),
    ("column and matrix", lambda x, y: x * y, (t(5, 7), t(5, 1))),
    ("row and column", lambda x, y: tanh(x) + y, (t(1, 7), t(5, 1))),
    ("three axes", lambda x, y, z: x * y + z, (t(2, 3, 4), t(3, 1), t(2, 1, 4))),
    ("middle axis", lambda x, y: x - y, (t(2, 3, 4), t(2, 1, 4))),
    ("first axis", lambda x, y: x - y, (t(2, 3, 4), t(2, 1, 1))),
    ("rank 4", lambda x, y: x + y, (t(2, 3, 1, 5), t(3, 4, 1))),
    ("size 1 axes", lambda x: tanh(x).sum((0,)), (t(1, 6, 1),)),
    ("transpose", lambda x, y: x + y.transpose((1, 0)), (t(6, 17), t(17, 6))),
    ("own transpose", lambda x: (x + 1.0) + (x + 1.0).transpose((1, 0)), (t(6, 6),)),
    ("transpose returned", lambda x: [x.transpose((1, 0)), tanh(x).transpose((1, 0))], (t(3, 17),)),
    ("transpose of 3", lambda x: x.transpose((2, 0, 1)) * 2.0, (t(2, 3, 5),)),
    ("reversed", lambda x: sliced(x, (6, 0), (7, 4), (-1, 1)) * 2.0, (t(7, 4),)),
    ("strided", lambda x: sliced(x, (1, 6), (3, 3), (2, -3)) + 1.0, (t(7, 8),)),
    ("slice of a row", lambda x: sliced(x, (2, 0), (1, 8), (1, 1)) * x, (t(5, 8),)),
    ("prefix of a sibling", reads_prefix, (t(5, 6),)),
    ("parts", parts, (t(5, 9),)),
    ("merge axes", lambda x: tanh(x).reshape((6, 4)) * 2.0, (t(2, 3, 4),)),
    ("split an axis", lambda x: tanh(x).reshape((4, 2, 3)).sum((1,)), (t(4, 6),)),
    ("split and merge", lambda x: (x * 2.0).reshape((4, 6)).sum((0,)), (t(6, 4),)),
    ("views of views", chain_of_views, (t(2, 3, 4),)),
    ("row sums broadcast", lambda x: x * x.sum((1,), True), (t(5, 33),)),
    ("column sums broadcast", lambda x: x * x.sum((0,), True), (t(33, 5),)),
    ("all sums", lambda x: [x.sum((0,)), x.sum((1,)), x.sum((0, 1))], (t(9, 17),)),
    ("sum of sums", lambda x: (tanh(x.sum((1,))) * 2.0).sum((0,)), (t(9, 17),)),
    ("crossing", lambda x: ops["greater"]((x.sum((1,), True) * 2.0).reshape((8,)), x), (t(8, 8),)),
    ("outer product", lambda x: (x + 1.0).reshape((5, 1)) * (x + 1.0), (t(5),)),
    ("softmax", models.softmax, (t(9, 33),)),
    ("long row", models.softmax, (t(2, 1030),)),
    ("cross entropy", models.cross_entropy, (t(9, 10), t(9, 1, dtype="int32"))),
    ("layer norm", models.layer_norm, (t(9, 33), t(33), t(33))),
    ("batch norm", batch_norm, (t(9, 17), t(17))),
    ("mixed reductions", mixed, (t(8, 33), t(33))),
    ("column sums and more", models.column_sums, (t(9, 17), t(17))),
    ("attention", attention, (t(3, 5, 4), t(3, 5, 4), t(3, 5, 6))),
    ("inputs and constants", lambda x: [x, x.reshape((6,)), 2.0, x * 1.0], (t(2, 3),)),
    ("an output twice", lambda x: [tanh(x), tanh(x).reshape((3, 2)), tanh(x)], (t(2, 3),)),
    ("outputs of one memory", lambda x: [(y := x.sum((0, 1))).reshape((1,)), y], (t(3, 5),)),
    ("bfloat16", models.half, (t(5, 17), t(17, dtype="bfloat16"))),
    ("integer division", lambda x, y: models.checked(x, ops["maximum"](y, 1)),
     (t(5, 17, dtype="int32"), t(17, dtype="int32"))),
    ("size of an index", lambda x: x + ops["iota"](17), (t(4, 17),)),
    ("gather and a reduction", lambda x: [ops["min"](y := picked(x), (0, 1)) - y], (t(5, 16),)),
    ("late", reduces_late, (t(3, 65), t())),
    ("gather", lambda x, i: ops["gather"](x, ops["abs"](i)) * 2.0, (t(5, 3), t(6, dtype="int32"))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fn", "types"), PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_program(name: str, fn: Any, types: tuple[TensorType, ...]) -> None:
    check(fn, *types)


AXES = [a for r in (1, 2, 3) for a in itertools.combinations(range(3), r)]


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_reductions_over_every_subset_of_axes(axes: tuple[int, ...]) -> None:
    def fn(x: Any, y: Any) -> list[Any]:
        return [
            ops["sum"](x * 2.0, axes, False), ops["max"](x, axes, True) + 1.0,
            ops["min"](y, axes, False), ops["prod"](y, axes, True), ops["any"](y > 3, axes, False),
        ]  # fmt: skip

    check(fn, t(3, 4, 17), t(3, 4, 17, dtype="int32"))


# Around the boundaries of vectors of 16 lanes, and of 2 or 4 of them in flight.
LENGTHS = (1, 2, 7, 8, 15, 16, 17, 31, 63, 64, 65, 127, 1021)


@pytest.mark.parametrize("n", LENGTHS)
def test_lengths(n: int) -> None:
    def fn(x: Any, y: Any) -> list[Any]:
        z = x * y.cast(dtypes.float32)
        return [z, z.sum((0,)), z.sum((1,)), ops["max"](x, (0, 1)), y.sum((1,)), ops["min"](y, 1)]

    check(fn, t(3, n), t(3, n, dtype="int64"), python=n < 70)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)], ids=str)
def test_empty(shape: tuple[int, ...]) -> None:
    def fn(x: Any) -> list[Any]:
        y = tanh(x) + 1.0
        last = x.ndim - 1
        return [y, y.sum((0,)), y.sum((last,), True), y.sum(tuple(range(x.ndim))), y.reshape((-1,))]

    check(fn, t(*shape))
    check(lambda x: ops["all"](x, tuple(range(x.ndim))), t(*shape, dtype="bool"))


def test_a_value_read_by_an_empty_one_is_still_computed() -> None:
    def fn(a: Any, b: Any) -> list[Any]:
        h = tanh(a)
        return [(h + b).sum((0, 1)), h]

    check(fn, t(2, 1), t(2, 0))


DTYPES = ("bool", "uint8", "int8", "int16", "int32", "uint32", "int64", "uint64",
          "float16", "bfloat16", "float32", "float64")  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: str) -> None:
    check(keeps_types, t(3, 19, dtype=dtype), t(19, dtype=dtype))
    if dtype != "bool":
        check(lambda x: [x.sum((0,)), x.sum((1,)), ops["max"](x, 0)], t(3, 19, dtype=dtype))


@pytest.mark.parametrize("source", DTYPES)
def test_casts_of_every_pair(source: str) -> None:
    graph = graph_of(
        lambda x: [x.cast(dtypes.as_dtype(d)) for d in DTYPES if d != source], t(21, dtype=source)
    )
    arrays = samples(graph.types)
    if graph.types[0].dtype.is_floating:
        edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 3e9, -3e9, 1e19, 70000.0, 255.5, -0.5]
        with np.errstate(over="ignore"):
            arrays[0][: len(edges)] = np.array(edges).astype(arrays[0].dtype)
    check(graph, arrays=arrays)


def test_edge_values_of_exact_operations() -> None:
    edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-45, 1.0, -1.0, 3.4e38]
    x, y = (np.ascontiguousarray(a) for a in np.broadcast_arrays(*np.ix_(edges, edges)))
    for dtype in ("float32", "float64"):
        arrays = [x.astype(dtype), y.astype(dtype)]
        check(
            lambda x, y: [x + y, x - y, x * y, x / y, ops["maximum"](x, y), ops["minimum"](x, y),
                          ops["sqrt"](x), ops["abs"](x), -x, ops["relu"](x), ops["less"](x, y)],
            t(10, 10, dtype=dtype), t(10, 10, dtype=dtype), arrays=arrays,
        )  # fmt: skip


def test_reductions_propagate_nan_and_keep_infinities() -> None:
    x = np.zeros((4, 37), np.float32)
    x[0, 20], x[1, 36], x[2, 5] = np.nan, np.inf, -np.inf
    reductions = [("max", 1), ("min", 1), ("sum", 1), ("max", 0), ("min", 0)]
    check(lambda x: [ops[name](x, axis) for name, axis in reductions], t(4, 37), arrays=[x])


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)], ids=str)
def test_gradients_of_views_and_reductions(shape: tuple[int, ...]) -> None:
    def loss(x: Any) -> Any:
        y = x.transpose(tuple(reversed(range(x.ndim)))).reshape((-1,))
        half = y.shape[0] // 2
        z = sliced(y, (0,), (half,), (2,)) * sliced(y, (2 * half - 1,), (half,), (-2,))
        return ops["tanh"](z).sum((0,)) + ops["max"](x, 0).sum(tuple(range(x.ndim - 1)))

    check(models.value_and_gradients(loss, [0]), t(*shape))


@pytest.mark.parametrize("shape", [(100_000, 1), (1, 100_000), (100_000, 3, 1)])
def test_a_view_without_elements_runs_over_no_rows(shape: tuple[int, ...]) -> None:
    def fn(x: Any) -> Any:
        sizes = (*x.type.shape[:-1], x.type.shape[-1] - 1)
        if shape[-1] > 1:
            sizes = (0, *x.type.shape[1:])
        return tanh(sliced(x, (0,) * len(shape), sizes, (1,) * len(shape))) * 2.0

    graph = graph_of(fn, t(*shape))
    check(graph, samples((t(*shape),)))
    for step in kernels(compile_full(graph)):
        assert step.nest is None or not any(step.nest.dims)


def test_a_reduction_without_elements_still_has_a_result() -> None:
    graph = graph_of(lambda x: [x.sum((1,)), ops["max"](x, (1,)), x.sum((0, 1))], t(5, 0))
    check(graph, samples((t(5, 0),)))
