"""Functions made of ops, ops over unknown sizes, random keys, and the examples of docstrings."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphgrad  # noqa: F401 -- the examples' eager mode
from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import (
    ArgumentError,
    DTypeError,
    GraphgradError,
    IndexOutOfRange,
    ShapeError,
)
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import trace
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops import FUNCTIONS, index, join, random, view
from graphgrad.compiler.ops.indexing import index as getitem
from graphgrad.compiler.types import tensor_type
from tests.compiler.differences import check_forward, check_reverse, graph_of, open_graph

X = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("name", [*(n for n, op in ops.items() if ">>>" in op.doc), *FUNCTIONS])
def test_the_example_of_the_docstring(name: str) -> None:
    doc = ops[name].doc if name in ops else inspect.getdoc(FUNCTIONS[name])
    test = doctest.DocTestParser().get_doctest(doc or "", {}, name, None, 0)
    failures: list[str] = []
    doctest.DocTestRunner().run(test, out=failures.append)
    assert not failures, "".join(failures)


FUNCTION_CASES: list[tuple[str, Callable[..., Any], list[Any], list[Any]]] = [
    ("expand_dims", lambda x: view.expand_dims(x, -2), [X], [np.expand_dims(X, -2)]),
    ("squeeze", lambda x: view.squeeze(x), [X[:1, :, :1]], [X[0, :, 0]]),
    ("squeeze one", lambda x: view.squeeze(x, -1), [X[:1, :, :1]], [X[:1, :, 0]]),
    ("reverse", lambda x: view.reverse(x, (0, -1)), [X], [X[::-1, :, ::-1]]),
    ("reverse nothing", lambda x: view.reverse(x, 0), [X[:0]], [X[:0]]),
    ("stack", lambda x, y: join.stack([x, y], -1), [X, -X], [np.stack([X, -X], -1)]),
    ("unstack", lambda x: join.unstack(x, axis=1), [X], [X[:, i] for i in range(3)]),
    ("unstack nothing", lambda x: [*join.unstack(x), x], [X[:0]], [X[:0]]),
    ("concat of dtypes", lambda x: ops["concat"]([x, [1, 2]], 0), [X[0, 0]], [[*X[0, 0], 1, 2]]),
]


@pytest.mark.parametrize(
    ("fn", "arrays", "wanted"), [c[1:] for c in FUNCTION_CASES], ids=[c[0] for c in FUNCTION_CASES]
)
def test_function_is_numpys(fn: Callable[..., Any], arrays: list[Any], wanted: Any) -> None:
    graph = graph_of(fn, arrays)
    for got, w in zip(interpret(graph, arrays), wanted, strict=True):
        np.testing.assert_array_equal(got, w)
    check_reverse(graph, arrays)
    check_forward(graph, arrays)


@pytest.mark.parametrize(
    "ends", [(5,), (2, 5), (5, 2, -1), (0, 10, 3), (0.0, 1.0, 0.25), (3, 3), (5, 2), (10, 0, -4)]
)
def test_range_is_numpys(ends: tuple[Any, ...]) -> None:
    (got,) = interpret(graph_of(lambda: index.range_(*ends), []), [])
    np.testing.assert_array_equal(got, np.arange(*ends))
    assert got.dtype == (np.float32 if isinstance(ends[0], float) else np.int32)


BAD: list[tuple[Callable[..., Any], type[GraphgradError], str]] = [
    (lambda x: view.squeeze(x, 1), ShapeError, "squeeze: axis 1 of f64[2, 3, 4] has size 3, not 1"),
    (lambda x: view.expand_dims(x, 5), ArgumentError, "expand_dims: axis 5 is out of range"),
    (lambda x: join.stack([x, X[0]]), ShapeError, "stack: f64[3, 4] has not the shape of f64[2"),
    (lambda x: index.range_(1, 5, 0), ArgumentError, "a delta other than 0"),
    (lambda x: getitem(x, 2), IndexOutOfRange, "index: 2 is out of range for axis 0 with size 2"),
    (lambda x: getitem(x, (0, -4)), IndexOutOfRange, "-4 is out of range for axis 1 with size 3"),
    (
        lambda x: getitem(x, (0, 0, 0, 0)),
        IndexOutOfRange,
        "4 indices for the 3 axes of f64[2, 3, 4]",
    ),
    (lambda x: getitem(x, (..., ...)), ArgumentError, "index: more than one ... in the key"),
    (lambda x: getitem(x, "a"), ArgumentError, "bool masks, not 'a'"),
    (lambda x: getitem(x, x * 2), DTypeError, "an index tensor holds integers, got f64[2, 3, 4]"),
    (lambda x: getitem(x, True), ArgumentError, "bool masks, not True"),
    (
        lambda x: getitem(x, [True, False, True]),
        ShapeError,
        "the mask b1[3] does not fit [2], the axes of f64[2, 3, 4] from 0 on",
    ),
    (lambda x: getitem(x, np.s_[::0]), ArgumentError, "a slice with step 0"),
]


@pytest.mark.parametrize(("fn", "error", "text"), BAD, ids=[b[2] for b in BAD])
def test_function_error(fn: Callable[..., Any], error: type[GraphgradError], text: str) -> None:
    with pytest.raises(error) as found:
        trace(lambda x: [fn(x)], [tensor_type(X.shape, dtypes.float64)])
    assert text in found.value.message


# -- sizes that are unknown while tracing

OPEN: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    ("reshape -1", lambda x: ops["reshape"](x, (-1,)), lambda x: x.reshape(-1)),
    ("reshape in", lambda x: ops["reshape"](x, (x.shape[0], -1, 2)), lambda x: x.reshape(-1, 2, 2)),
    ("mean", lambda x: ops["mean"](x), np.mean),
    ("mean of rows", lambda x: ops["mean"](x, 0), lambda x: x.mean(0)),
    ("x[1:]", lambda x: getitem(x, np.s_[1:]), lambda x: x[1:]),
    ("x[:-1]", lambda x: getitem(x, np.s_[:-1]), lambda x: x[:-1]),
    ("x[::-1]", lambda x: getitem(x, np.s_[::-1]), lambda x: x[::-1]),
    ("x[::2]", lambda x: getitem(x, np.s_[::2]), lambda x: x[::2]),
    ("x[-1]", lambda x: getitem(x, -1), lambda x: x[-1]),
    ("x[:n//2]", lambda x: getitem(x, np.s_[: x.shape[0] // 2]), lambda x: x[: len(x) // 2]),
    ("argmax", lambda x: ops["argmax"](x, 0), lambda x: x.argmax(0)),
    ("logsumexp", lambda x: ops["logsumexp"](x, 0), lambda x: np.logaddexp.reduce(x, 0)),
    ("concat", lambda x: ops["concat"]([x, x], 0), lambda x: np.concatenate([x, x])),
    ("split", lambda x: ops["split"](x, (2, -1))[1], lambda x: x[2:]),
    ("matmul", lambda x: ops["matmul"](x, x, transpose_b=True), lambda x: x @ x.T),
    ("cumsum", lambda x: ops["cumsum"](x), lambda x: x.cumsum(0)),
    ("prod", lambda x: ops["prod"](x, 0), lambda x: x.prod(0)),
    ("gather", lambda x: ops["gather"](x, [0, 2]), lambda x: x[[0, 2]]),
    ("softmax", lambda x: ops["softmax"](x, 0), lambda x: np.exp(x) / np.exp(x).sum(0)),
    ("range", lambda x: index.range_(x.shape[0]), lambda x: np.arange(len(x))),
    ("one_hot", lambda x: ops["one_hot"]([1, 0], x.shape[0]), lambda x: np.eye(len(x))[[1, 0]]),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "wanted"), [o[1:] for o in OPEN], ids=[o[0] for o in OPEN])
def test_one_trace_serves_all_sizes(fn: Callable[[Any], Any], wanted: Callable[[Any], Any]) -> None:
    graph, holds = open_graph(fn)
    for size in (4, 6, 11):
        assert holds(size)
        x = np.random.default_rng(size).uniform(0.5, 1.5, (size, 4))
        np.testing.assert_allclose(interpret(graph, [x])[0], wanted(x), rtol=1e-6)


# -- random


def draw(fn: Callable[..., Any], *arrays: Any) -> Any:
    return interpret(graph_of(fn, list(arrays)), list(arrays))[0]


def test_philox_is_random123s() -> None:
    """Known answers of Random123 (kat_vectors, philox4x32 10)."""
    zero = random.philox(np.uint64(0), np.zeros(1, np.uint64), 0)
    assert [f"{w:08x}" for w in zero[0]] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    ones = random.philox(np.uint64(2**64 - 1), np.array([2**64 - 1], np.uint64), 2**64 - 1)
    assert [f"{w:08x}" for w in ones[0]] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]
    counter = np.array([0x85A308D3243F6A88], np.uint64)
    pi = random.philox(np.uint64(0x299F31D0A4093822), counter, 0x0370734413198A2E)
    assert [f"{w:08x}" for w in pi[0]] == ["d16cfe09", "94fdcceb", "5001e420", "24126ea1"]


def test_draws_follow_from_the_key() -> None:
    key = np.array([3, 100])
    eight = draw(lambda k: random.uniform(k, (8,)), key)
    later = draw(lambda k: random.uniform(k, (4,)), np.array([3, 101]))
    np.testing.assert_array_equal(eight[4:], later)
    assert random.drawn_blocks((8,), dtypes.float32) == 2
    assert random.drawn_blocks((5, 3), dtypes.float64) == 8


def test_draws_lie_where_they_should() -> None:
    key = np.array([1, 0])
    dice = draw(lambda k: random.uniform(k, (6000,), 1, 7, dtypes.int32), key)
    assert dice.dtype == np.int32
    assert np.all(np.abs(np.bincount(dice, minlength=7)[1:] - 1000) < 150)
    low = draw(lambda k: random.uniform(k, (1000,), -2.0, 3.0, dtypes.bfloat16), key)
    assert low.dtype == dtypes.bfloat16.dtype
    assert -2 <= low.astype(float).min() < -1.9
    normal = draw(lambda k: random.normal(k, (20000,), 5.0, 2.0, dtypes.float64), key)
    assert abs(normal.mean() - 5) < 0.05
    assert abs(normal.std() - 2) < 0.04


def test_keys_made_from_a_key_differ() -> None:
    key = np.array([1, 0])
    split = draw(lambda k: random.new_keys(k, 100), key)
    folded = np.stack([draw(lambda k, i=i: random.fold_in(k, i), key) for i in range(50)])
    seeds = np.stack([draw(lambda i=i: random.key_of_seed([0, i])) for i in range(50)])
    single = draw(lambda: random.key_of_seed(7))[None]
    keys = np.concatenate([split, folded, seeds, single])
    assert keys.dtype == np.int64
    assert len(np.unique(keys, axis=0)) == len(keys)
    with pytest.raises(ArgumentError, match="integers need maxval"):
        draw(lambda k: random.uniform(k, (2,), dtype=dtypes.int32), key)
