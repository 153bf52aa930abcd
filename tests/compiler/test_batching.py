"""A batched graph gives what a Python loop over the examples gives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.errors import TraceError
from graphgrad.compiler.families import Library
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.autodiff import gradient_graph, jvp_graph
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.verify import verify
from tests.compiler.differences import check_all, close, graph_of, is_floating, masks
from tests.compiler.programs import PROGRAMS, array, program
from tests.compiler.test_control import clipped, power

SIZE = 3


def lanes_of(arrays: Sequence[Any], batched: Sequence[bool], seed: int = 0) -> list[Any]:
    """Arrays like those given, with a further first axis where batched; the lanes differ."""
    rng = np.random.default_rng(seed)
    found = []
    for a, b in zip(arrays, batched, strict=True):
        a = np.asarray(a)
        lanes = [
            a * rng.uniform(0.3, 1.5) if is_floating(a) else np.roll(a, i) for i in range(SIZE)
        ]
        found.append(np.stack(lanes).astype(a.dtype) if b else a)
    return found


def check_batch(
    graph: Graph, arrays: Sequence[Any], batched: tuple[bool, ...], size: Any = SIZE
) -> Graph:
    """Hold the batched graph to a loop over its examples; `arrays` have the further axis
    already."""
    whole, marks = batch_graph(graph, batched, size)
    verify(whole)
    got = interpret(whole, arrays)
    for lane in range(SIZE):
        one = interpret(graph, [a[lane] if b else a for a, b in zip(arrays, batched, strict=True)])
        for g, w, m in zip(got, one, marks, strict=True):
            close(g[lane] if m else g, w, 1e-10)
    return whole


def some_masks(count: int) -> list[tuple[bool, ...]]:
    """Every choice of batched parameters for few parameters, else all and each alone."""
    if count <= 2:
        return [m for m in itertools.product((False, True), repeat=count) if any(m)]
    return [(True,) * count, *(tuple(i == j for j in range(count)) for i in range(count))]


CASES = [(name, mask) for name, (_, arrays) in PROGRAMS.items() for mask in some_masks(len(arrays))]


@pytest.mark.parametrize(("name", "batched"), CASES, ids=str)
def test_programs_match_a_python_loop(name: str, batched: tuple[bool, ...]) -> None:
    graph, arrays = program(name)
    check_batch(graph, lanes_of(arrays, batched), batched)


@pytest.mark.parametrize(("name", "batched"), CASES, ids=str)
def test_gradients_match_a_python_loop(name: str, batched: tuple[bool, ...]) -> None:
    graph, arrays = program(name)
    given, wanted = masks(graph)
    back = gradient_graph(graph, given, wanted)
    inputs = lanes_of(arrays, batched)
    per_lane = [
        interpret(graph, [a[i] if b else a for a, b in zip(inputs, batched, strict=True)])
        for i in range(SIZE)
    ]
    outputs = [np.stack(lanes) for lanes in zip(*per_lane, strict=True)]
    seeds = [
        np.cos(1.0 + np.arange(o.size)).reshape(o.shape)
        for o, g in zip(outputs, given, strict=True)
        if g
    ]
    everything = [*inputs, *outputs, *seeds]
    check_batch(back, everything, batched + (True,) * (len(everything) - len(inputs)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_forward_mode_matches_a_python_loop(name: str) -> None:
    """Batched tangents alone: how a Jacobian is made."""
    graph, arrays = program(name)
    wanted = masks(graph)[1]
    ahead = jvp_graph(graph, wanted)
    floats = [a for a in arrays if is_floating(a)]
    batched = (False,) * len(arrays) + (True,) * len(floats)
    check_batch(ahead, [*arrays, *lanes_of(floats, (True,) * len(floats))], batched)


@pytest.mark.parametrize("name", PROGRAMS)
def test_batched_programs_have_derivatives_of_their_own(name: str) -> None:
    graph, arrays = program(name)
    batched = (True,) * len(arrays)
    whole, _ = batch_graph(graph, batched, SIZE)
    check_all(whole, lanes_of(arrays, batched))


@pytest.mark.parametrize(
    "name", ["mixed", "network", "pieces", "loop", "loop until", "true branch"]
)
def test_a_batch_of_batches(name: str) -> None:
    graph, arrays = program(name)
    batched = (True,) * len(arrays)
    whole, _ = batch_graph(graph, batched, SIZE)
    check_batch(whole, lanes_of(lanes_of(arrays, batched), batched, 1), batched)


@pytest.mark.parametrize("name", [n for n in PROGRAMS if n != "integers"])
def test_the_number_of_examples_may_be_unknown(name: str) -> None:
    graph, arrays = program(name)
    batched = (True,) * len(arrays)
    n = DimScope().symbol("n", 0, 0)
    check_batch(graph, lanes_of(arrays, batched), batched, n)


def test_what_is_shared_is_computed_once() -> None:
    graph = graph_of(lambda x, w: [x * ops["exp"](w).sum((0,)), w * 2.0], [array(3), array(3)])
    whole, marks = batch_graph(graph, (True, False), SIZE)
    assert marks == (True, False)
    assert {n.op.name: n.out.type.ndim for n in whole.nodes}["exp"] == 1
    every, marks = batch_graph(graph, (True, False), SIZE, (True, True))
    assert marks == (True, True)
    assert every.output_types[1].shape == (SIZE, 3)


def test_a_shared_condition_runs_one_branch() -> None:
    graph, _arrays = program("true branch")
    shared, _ = batch_graph(graph, (False, True), SIZE)
    assert "cond" in [n.op.name for n in shared.nodes]
    apart, _ = batch_graph(graph, (True, False), SIZE)
    assert "cond" not in [n.op.name for n in apart.nodes]


def test_lanes_of_a_loop_stop_on_their_own() -> None:
    graph = graph_of(
        lambda n, x: power(x, n),
        [np.int32(0), array(2)],
    )
    trips, x = np.array([0, 5, 2], np.int32), array(SIZE, 2)
    whole = check_batch(graph, [trips, x], (True, True))
    close(interpret(whole, [trips, x])[0], x ** trips[:, None])


@pytest.mark.parametrize("batched", some_masks(2), ids=str)
def test_custom_gradients(batched: tuple[bool, ...]) -> None:
    inner, backward = clipped()
    graph = graph_of(
        lambda x, y: ops["custom_call"](x, y, graph=inner, backward=backward), [array(3)] * 2
    )
    inputs = lanes_of([array(3), array(3)], batched)
    whole = check_batch(graph, inputs, batched)
    back = gradient_graph(whole, (True,), (True, True))
    x, y = inputs
    z, g = interpret(whole, inputs)[0], array(SIZE, 3)
    wanted = [3 * g * np.cos(x) * y, g * z]
    for got, w, b in zip(interpret(back, [*inputs, z, g]), wanted, batched, strict=True):
        close(got, w if b else w.sum(0))


def test_an_op_without_a_rule_runs_lane_by_lane() -> None:
    op = Library(
        name="sorted_values",
        type=lambda x: x,
        ref=lambda x: np.sort(x),
        nondifferentiable=True,
        samples=None,
    )
    try:
        graph = graph_of(lambda x: op(x) * 2.0, [array(4)])
        check_batch(graph, [array(SIZE, 4)], (True,))
        with pytest.raises(TraceError, match="`sorted_values` has no rule for batches"):
            batch_graph(graph, (True,), DimScope().symbol("n", 0, 0))
    finally:
        del ops["sorted_values"]


def test_a_wrong_rule_is_found() -> None:
    saved = ops["transpose"].batch
    object.__setattr__(
        ops["transpose"],
        "batch",
        lambda xs, batched, size, perm: (xs[0].transpose([0, *(p + 1 for p in perm[::-1])]),),
    )
    _graph, arrays = program("pieces")
    try:
        with pytest.raises((AssertionError, ValueError)):
            check_batch(
                graph_of(PROGRAMS["pieces"][0], arrays),
                lanes_of(arrays, (True, True)),
                (True, True),
            )
    finally:
        object.__setattr__(ops["transpose"], "batch", saved)


def test_gradients_of_lanes_that_stop_apart() -> None:
    graph = graph_of(lambda n, x: power(x, n), [np.int32(0), array(2)])
    back = gradient_graph(graph, (True,), (False, True))
    trips, x = np.array([0, 5, 2], np.int32), array(SIZE, 2)
    y, g = x ** trips[:, None], array(SIZE, 2)
    whole = check_batch(back, [trips, x, y, g], (True,) * 4)
    n = trips[:, None]
    close(interpret(whole, [trips, x, y, g])[0], g * n * x ** np.maximum(n - 1, 0))


def test_a_shared_key_draws_the_same_for_all() -> None:
    key = np.array([1, 2])
    graph = graph_of(
        lambda k, x: ops["random_uniform"](k, (4,), dtypes.float32) * x, [key, np.float32(1)]
    )
    check_batch(graph, [key, np.arange(3, dtype=np.float32)], (False, True))
    check_batch(graph, [np.stack([key, key + 1, key]), np.float32(2)], (True, False))
