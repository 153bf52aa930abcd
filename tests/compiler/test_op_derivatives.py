"""Derivatives of every op of the table: against differences, at edges, in batches; and that the
checks see planted mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.errors import TraceError
from graphgrad.compiler.families import Mask, conjugate
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.indexing import index
from graphgrad.compiler.passes.inline import inline
from graphgrad.compiler.passes.records import stabilise
from graphgrad.compiler.transform.autodiff import (
    Recording,
    backprop,
    gradient_graph,
    jvp_graph,
    recording,
)
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.transform.sizes import is_runtime
from tests.compiler.differences import (
    check_all,
    check_forward,
    check_reverse,
    directions,
    graph_of,
    inner,
    masks,
)
from tests.compiler.numpy_kind import eagerly
from tests.compiler.op_cases import Case, cases_of, differentiable_cases, sampled_ops
from tests.compiler.op_edges import EDGES, edge_graphs, total

SMOOTH = [op.name for op in sampled_ops() if not op.nondifferentiable and op.name != "where"]


def check_case(case: Case, seed: int = 3) -> None:
    """First and second order, forward and reverse, and that both are one linear map."""
    graph = graph_of(case.call, case.arrays)
    check_all(graph, case.arrays, seed)
    given, wanted = masks(graph)
    outputs = interpret(graph, case.arrays)
    tangents = [d for d in directions(case.arrays, seed) if d is not None]
    seeds = [d for d in directions(outputs, seed + 1) if d is not None]
    pushed = interpret(jvp_graph(graph, wanted), [*case.arrays, *tangents])[len(outputs) :]
    pulled = interpret(gradient_graph(graph, given, wanted), [*case.arrays, *outputs, *seeds])
    left = sum(inner(a, b) for a, b in zip(pushed, seeds, strict=True))
    right = sum(inner(a, b) for a, b in zip(pulled, tangents, strict=True))
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*SMOOTH, "where"])
def test_derivatives_match_differences(name: str) -> None:
    cases = list(differentiable_cases(ops[name]))
    assert cases
    for case in cases:
        check_case(case)


@pytest.mark.parametrize("name", [n for n in SMOOTH if ops[n].decompose is not None])
def test_derivatives_by_parts_match_differences(name: str) -> None:
    """What is differentiated after inlining, where an op has a rule beside its parts."""
    for case in differentiable_cases(ops[name]):
        if 0 in [n for a in case.arrays for n in a.shape]:
            continue
        graph = inline(graph_of(case.call, case.arrays))
        check_forward(graph, case.arrays)
        check_reverse(graph, case.arrays)


@pytest.mark.parametrize("name", [op.name for op in sampled_ops()])
def test_a_batch_is_a_loop(name: str) -> None:
    """Every choice of batched inputs, against one run an example."""
    op = ops[name]
    assert op.samples is not None
    for case in cases_of(op, op.samples.dtypes[0], edges=False):
        if any(map(is_runtime, graph_of(case.call, case.arrays).output_types)):
            with pytest.raises(TraceError, match="vmap"):  # a size for each example
                check_batch(case, (True,) * len(case.arrays))
            continue
        choices = range(1, 2 ** len(case.arrays))
        for choice in choices:
            check_batch(case, tuple(bool(choice >> i & 1) for i in range(len(case.arrays))))


def check_batch(case: Case, batched: tuple[bool, ...], size: int = 3) -> None:
    graph = graph_of(case.call, case.arrays)
    rng = np.random.default_rng(5)
    inputs = []
    for a, b in zip(case.arrays, batched, strict=True):
        lanes = np.stack([rng.permutation(a.ravel()).reshape(a.shape) for _ in range(size)])
        inputs.append(lanes if b else a)
    many, marks = batch_graph(graph, batched, size)
    got = interpret(many, inputs)
    rows = [
        interpret(graph, [x[i] if b else x for x, b in zip(inputs, batched, strict=True)])
        for i in range(size)
    ]
    for k, (g, mark) in enumerate(zip(got, marks, strict=True)):
        wanted = np.stack([row[k] for row in rows])
        g = g if mark else np.stack([g] * size)
        assert g.dtype == wanted.dtype
        if g.dtype.kind in "fV":
            g, wanted = g.astype(np.float64), wanted.astype(np.float64)
        np.testing.assert_allclose(g, wanted, rtol=1e-4, atol=1e-5, err_msg=f"{case} {batched}")


# -- edges: derivatives of the sum, first and second order, in three ways


def first_and_second(fn: Callable[[Any], Any], x: Any) -> Iterator[tuple[str, Any, Any]]:
    """The gradient of sum(fn(x)), and the gradient of the sum of that."""
    array = np.asarray(x, np.float64)
    first, second = edge_graphs(fn, array)
    yield "graph", interpret(first, [array])[0], interpret(second, [array])[0]
    yield "parts", interpret(inline(first), [array])[0], interpret(inline(second), [array])[0]
    with eagerly() as kind:
        v = kind.lift(array)
        with recording(Recording()) as outer:
            with recording(Recording()) as inner:
                y = total(fn, v)
            (slope,) = reverse_of(inner, y, kind.lift(np.float64(1)), v)
        seed = kind.lift(np.ones_like(array))
        curve = [None] if slope is None else reverse_of(outer, slope, seed, v)
    zero = np.zeros_like(array)
    yield (
        "eager",
        zero if slope is None else slope.array,
        zero if curve[0] is None else curve[0].array,
    )


def reverse_of(tape: Recording, y: Any, seed: Any, v: Any) -> list[Any]:
    """As a tape does: stability rules first, then the backward walk."""
    known = {id(x) for a in tape.applications if not a.inputs for x in a.outputs}

    def constant(x: Any) -> Any:
        return x.array[()] if x.ndim == 0 and id(x) not in known else None

    records = stabilise(tape.applications, sources=[v], constant=constant)
    return backprop(records, [(y, seed)], [v])


@pytest.mark.parametrize(
    ("fn", "x", "first", "second"), [e[1:] for e in EDGES], ids=[e[0] for e in EDGES]
)
def test_edge(fn: Callable[[Any], Any], x: Any, first: Any, second: Any) -> None:
    for label, got, curve in first_and_second(fn, x):
        np.testing.assert_allclose(got, first, atol=1e-12, err_msg=f"{label}, first order")
        np.testing.assert_allclose(curve, second, atol=1e-12, err_msg=f"{label}, second order")


# -- x[key]

KEYS: list[tuple[tuple[int, ...], Any]] = [
    ((5,), 0),
    ((5,), -1),
    ((5,), np.s_[1:]),
    ((5,), np.s_[:-1]),
    ((5,), np.s_[::-1]),
    ((5,), np.s_[::2]),
    ((5,), np.s_[-2:0:-1]),
    ((5,), np.s_[9:]),
    ((5,), np.s_[3:1]),
    ((5,), np.s_[-9:9]),
    ((5,), np.s_[4::-2]),
    ((5,), None),
    ((5,), ...),
    ((2, 3), (0, 1)),
    ((2, 3), (..., 0)),
    ((2, 3), (np.s_[:], None, 1)),
    ((2, 3, 4), (1, ..., np.s_[1:3])),
    ((2, 3, 4), (np.s_[:], -1)),
    ((2, 3), ()),
    ((2, 3), (None, ..., None)),
    ((5,), np.array([3, 0, -1])),
    ((2, 5), (0, np.array([[3, 0], [1, 1]]))),
    ((4, 5), (np.array(2), np.s_[1:])),
    ((4, 5), (np.array([1, -2]), np.s_[::2])),
    ((3, 4, 5), (np.s_[:], np.array(-1), None, np.array([0, 4]))),
    ((3, 4), ([0, -1], [[1], [2]])),
    ((3, 4, 5), ([0, 1], np.s_[1:], [2, 3])),
    ((3, 4, 5), (np.s_[:], [0, 1], [[2, 3], [4, -5]])),
    ((2, 3, 4, 2), (..., [0, 2], None, [3, 1], 0)),
    ((3, 300), np.s_[:, np.array([255, 7], np.uint8)]),
    ((4,), []),
    ((4,), np.array([True, False, True, True])),
    ((2, 3), np.array([[True, False, True], [False, True, True]])),
    ((3, 2), (np.s_[:], np.array([False, True]))),
    ((2, 3, 2), (np.array([[True, False, True], [False, True, True]]), np.s_[::-1])),
    ((3, 4), (np.array([True, False, True]), [1, 2])),
    ((2, 3, 4), (1, np.array([True, False, True]), ..., None)),
]


@pytest.mark.parametrize(("shape", "key"), KEYS, ids=[f"{s} {k}" for s, k in KEYS])
def test_index_is_numpys(shape: tuple[int, ...], key: Any) -> None:
    x = np.arange(float(np.prod(shape))).reshape(shape)
    graph = graph_of(lambda v: index(v, key), [x])
    np.testing.assert_array_equal(interpret(graph, [x])[0], x[key])
    check_reverse(graph, [x])
    check_forward(graph, [x])


# -- planted mistakes: what would be wrong if the checks were blind


@contextmanager
def planted(name: str, **changes: Any) -> Iterator[list[Case]]:
    """The op with other rules, in its own place; gives the cases that should fail."""
    original = ops.pop(name)
    try:
        wrong = type(original)(**{n: vars(original)[n] for n in original._fields} | changes)
        yield [replace(case, op=wrong) for case in differentiable_cases(original)]
    finally:
        ops[name] = original


def _transposed(g: Any, x: Any, perm: Sequence[int]) -> tuple[Any, ...]:
    return (g.transpose(perm),)


MATMUL_VJP: Any = ops["matmul"].vjp
MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("tanh", {"partials": (lambda z, x: 1 - z,)}),
    ("sub", {"partials": (lambda z, x, y: 1, lambda z, x, y: 1)}),
    ("div", {"partials": (lambda z, x, y: 1 / y, lambda z, x, y: -1 / y)}),
    (
        "mul",
        {"partials": (lambda z, x, y: y, lambda z, x, y: ops["stop_gradient"](x))},
    ),  # second order
    ("erf", {"partials": (lambda z, x: 1.1283 * ops["exp"](-x * x),)}),  # three digits
    (
        "maximum",
        {"partials": (lambda z, x, y: Mask(x <= y), lambda z, x, y: Mask(x >= y, negate=True))},
    ),
    ("where", {"partials": (None, lambda z, c, x, y: Mask(c), lambda z, c, x, y: 1)}),
    ("pow", {"partials": (lambda z, x, y: y * z, lambda z, x, y: z * ops["log"](x))}),
    ("broadcast_to", {"transpose": lambda g, x, shape: (g.sum_to(x.shape) * 0.5,)}),
    (
        "sum",
        {
            "transpose": lambda g, x, axes, keepdims: (
                ops["broadcast_to"](g.sum(range(g.ndim)), x.shape),
            )
        },
    ),
    ("transpose", {"transpose": _transposed}),
    (
        "slice",
        {
            "transpose": lambda g, x, starts, sizes, steps: (
                ops["unslice"](g, shape=x.shape, starts=(0,) * x.ndim, steps=steps),
            )
        },
    ),
    (
        "cumsum",
        {
            "transpose": lambda g, x, axis, exclusive, reverse: (
                ops["cumsum"](g, axis, exclusive, reverse),
            )
        },
    ),
    (
        "matmul",
        {
            "jvp": lambda ts, z, a, b, **flags: ops["matmul"](
                ts[0] if ts[0] is not None else a, b, **flags
            )
        },
    ),
    ("exp", {"partials": (lambda z, x: conjugate(z),)}),
    ("square", {"partials": (lambda z, x: ops["real"](x + x).cast(x.dtype),)}),
    ("abs", {"partials": (lambda z, x: x / z,)}),  # the conjugate of what it is
    ("conj", {"transpose": lambda g, x: (g,)}),
    ("imag", {"transpose": lambda g, x: (ops["complex"](g, 0) if x.dtype.is_complex else None,)}),
    ("complex", {"transpose": lambda g, x, y: (ops["real"](g), -ops["imag"](g))}),
    (
        "matmul",
        {
            "vjp": lambda g, z, a, b, needs, **flags: MATMUL_VJP(
                g, z, conjugate(a), conjugate(b), needs, **flags
            )
        },
    ),
    ("logsumexp", {"jvp": lambda ts, z, x, axes, keepdims: ops["max"](ts[0], axes, keepdims)}),
    ("softmax", {"vjp": lambda g, z, x, needs, axis: (g * z,)}),
    (
        "prod",
        {
            "vjp": lambda g, z, x, needs, axes, keepdims: (
                ((g * z).reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) / x)
                * ops["stop_gradient"](x * 0 + 1.001),
            )
        },
    ),
    ("concat", {"transpose": lambda g, *xs, axis: tuple(ops["sum"](g) * 0 + x * 0 for x in xs)}),
    (
        "gather",
        {
            "vjp": lambda g, z, x, i, needs, axis, batch_dims: (
                ops["scatter_add"](g * 2, i, shape=x.shape, axis=axis, batch_dims=batch_dims),
                None,
            )
        },
    ),
    ("xlogy", {"partials": (lambda z, x, y: ops["log"](y), lambda z, x, y: x / (y * y))}),
    ("clip_by_value", {"partials": (lambda z, t, low, high: 1, None, None)}),
    ("elu", {"partials": (lambda z, x, alpha: ops["where"](x < 0, ops["exp"](x), 1),)}),
    ("leaky_relu", {"partials": (lambda z, x, alpha: Mask(x > 0),)}),
    (
        "gelu",
        {"vjp": lambda g, z, x, needs, approximate: (g * (0.5 + 0.5 * ops["erf"](x)),)},
    ),
    ("sigmoid_cross_entropy", {"partials": (lambda z, x, y: ops["sigmoid"](x), None)}),
    ("lgamma", {"partials": (lambda z, x: ops["log"](x) - 0.5 / x,)}),
    ("trigamma", {"partials": (lambda z, x: 2 / (x * x * x) - 1 / (x * x),)}),
    ("erfinv", {"partials": (lambda z, x: 0.8863 * ops["exp"](z * z),)}),  # three digits
    ("update_slice", {"jvp": lambda ts, z, x, update, *dynamic, starts, steps: ts[0]}),
    (
        "scatter",  # all updates of a place, not the last one
        {
            "vjp": lambda g, z, x, u, i, needs, mode, batch_dims: (
                ops["scatter"](g, u * 0, i, "update", batch_dims),
                ops["gather"](g, i, axis=batch_dims, batch_dims=batch_dims),
                None,
            )
        },
    ),
    (
        "unsorted_segment_mean",
        {
            "decompose": lambda x, ids, num_segments: ops["unsorted_segment_sum"](
                x, ids, num_segments
            )
        },
    ),
]


@pytest.mark.parametrize(("name", "changes"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_planted_mistake_is_seen(name: str, changes: dict[str, Any]) -> None:
    with planted(name, **changes) as cases:
        caught = 0
        for case in cases:
            try:
                check_case(case)
            except (AssertionError, ValueError):
                caught += 1
        assert caught
