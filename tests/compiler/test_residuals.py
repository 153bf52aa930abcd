"""What a forward run stores for its reverse, and that the reverse repeats nothing expensive."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.families import Elementwise, Generator, View
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph, Node, trace
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.control import call_for_tape
from graphgrad.compiler.transform.autodiff import Recording, backprop, gradient_graph, recording
from graphgrad.compiler.transform.maxflow import Network
from graphgrad.compiler.transform.residuals import nominal_bytes, with_residuals
from graphgrad.compiler.transform.sizes import is_runtime
from graphgrad.compiler.types import tensor_type
from graphgrad.compiler.verify import verify
from tests.compiler.compiling import calls_made
from tests.compiler.differences import check_forward, check_reverse, close, graph_of, masks
from tests.compiler.programs import PROGRAMS, array, program

LOOPS = {"loop", "loop until", "no trips", "nested loops", "branch of loops"}


def is_cheap(node: Node) -> bool:
    return isinstance(node.op, Elementwise | View | Generator) or node.op.name == "constant"


def residual_reverse(graph: Graph) -> tuple[Graph, Graph]:
    """The forward variant, and its reverse for the outputs of `graph`."""
    given, wanted = masks(graph)
    whole = verify(with_residuals(graph, wanted))
    given += (False,) * (len(whole.outputs) - len(given))
    return whole, verify(gradient_graph(whole, given, wanted))


def stored(graph: Graph, needs: tuple[bool, ...]) -> list[str]:
    """The ops whose results are stored."""
    whole = with_residuals(graph, needs)
    return [whole.producers[v].op.name for v in whole.outputs[len(graph.outputs) :]]


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - LOOPS))
def test_the_reverse_repeats_no_expensive_op_of_the_forward(name: str) -> None:
    graph, _ = program(name)
    _, back = residual_reverse(graph)
    repeated = [
        n.op.name for n in back.nodes if not is_cheap(n) and n.where and not n.where.derivative
    ]
    assert repeated == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_through_residuals_match_those_without(name: str) -> None:
    graph, arrays = program(name)
    whole, back = residual_reverse(graph)
    outputs = interpret(whole, arrays)
    given, wanted = masks(graph)
    count = len(graph.outputs)
    for a, b in zip(outputs, interpret(graph, arrays), strict=False):
        close(a, b, 1e-12)
    seeds = [
        np.cos(np.arange(o.size)).reshape(o.shape)
        for o, g in zip(outputs[:count], given, strict=True)
        if g
    ]
    plain = interpret(gradient_graph(graph, given, wanted), [*arrays, *outputs[:count], *seeds])
    for a, b in zip(interpret(back, [*arrays, *outputs, *seeds]), plain, strict=True):
        close(a, b, 1e-10)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_tape_over_a_call_is_right_to_second_order(name: str) -> None:
    graph, arrays = program(name)
    given, wanted = masks(graph)

    def gradients(*xs: Any) -> list[Any]:
        with recording(Recording()) as tape:
            outs = call_for_tape(graph, xs, wanted)
        assert len(tape.applications) == 1
        assert len(outs) == len(graph.outputs)
        seeds = [(o, o * o + 1.0) for o, g in zip(outs, given, strict=True) if g]
        grads = backprop(
            tape.applications, seeds, [x for x, w in zip(xs, wanted, strict=True) if w]
        )
        return [x * 0.0 if g is None else g for x, g in zip(xs, grads, strict=False)]

    whole = graph_of(gradients, arrays)
    outputs = interpret(graph, arrays)
    seeds = [o * o + 1.0 for o, g in zip(outputs, given, strict=True) if g]
    plain = interpret(gradient_graph(graph, given, wanted), [*arrays, *outputs, *seeds])
    for a, b in zip(interpret(whole, arrays), plain, strict=True):
        close(a, b, 1e-10)
    check_reverse(whole, arrays)
    check_forward(whole, arrays)


def test_cheap_elementwise_values_are_computed_again() -> None:
    graph = graph_of(lambda x, y: ((x + 1.0) * (y - 2.0)) * (x * y), [array(8), array(8)])
    assert stored(graph, (True, True)) == []
    assert with_residuals(graph, (True, True)) is graph


def test_products_and_sums_are_stored() -> None:
    def fn(x: Any, w: Any) -> Any:
        h = x @ w
        return (h * h).sum((1,)) * x.sum((1,))

    assert sorted(stored(graph_of(fn, [array(4, 3), array(3, 5)]), (True, True))) == [
        "matmul",
        "sum",
        "sum",
    ]


def test_the_smaller_side_of_a_view_is_stored() -> None:
    def fn(x: Any) -> Any:
        spread = x.sum((0,)).broadcast_to((50,)) * 2.0
        return spread * spread

    graph = graph_of(fn, [array(20)])
    assert stored(graph, (True,)) == ["sum"]
    assert nominal_bytes(with_residuals(graph, (True,)).outputs[-1].type) == 8


def test_an_output_costs_nothing() -> None:
    def fn(x: Any) -> Any:
        h = x.sum((0,))
        return [h * h, h]

    assert stored(graph_of(fn, [array(20)]), (True,)) == []


def test_what_the_wanted_inputs_do_not_need_is_not_stored() -> None:
    graph = graph_of(lambda x, w: x @ w, [array(3, 3), array(3, 3)])
    assert stored(graph, (True, True)) == []
    graph = graph_of(lambda x, w: (x @ w) @ w, [array(3, 3), array(3, 3)])
    assert stored(graph, (True, False)) == []
    assert stored(graph, (False, True)) == ["matmul"]


def test_values_of_unknown_length_are_not_stored() -> None:
    for name in LOOPS:
        graph, _ = program(name)
        whole = with_residuals(graph, masks(graph)[1])
        assert not any(is_runtime(t) for t in whole.output_types)


def test_a_missing_residual_is_found() -> None:
    """The check above sees a forward op that the reverse repeats."""
    graph, _ = program("network")
    given, wanted = masks(graph)
    back = gradient_graph(graph, given, wanted)
    assert any(not is_cheap(n) and n.where and not n.where.derivative for n in back.nodes)


def least_cut(count: int, edges: list[tuple[int, int, float]]) -> float:
    """The least cut by trying all: the source is 0 and the sink 1."""
    best = float("inf")
    for marks in itertools.product((False, True), repeat=count - 2):
        side = (True, False, *marks)
        best = min(best, sum(c for a, b, c in edges if side[a] and not side[b]))
    return best


def test_minimum_cuts_against_trying_all() -> None:
    rng = np.random.default_rng(3)
    for _ in range(150):
        count = int(rng.integers(3, 9))
        edges = [
            (int(a), int(b), float(rng.integers(1, 9)))
            for a, b in rng.integers(0, count, (int(rng.integers(2, 20)), 2))
            if a != b
        ]
        network = Network()
        for _ in range(count - 2):
            network.node()
        for a, b, c in edges:
            network.edge(a, b, c)
        side = network.sink_side()
        assert 1 in side
        assert 0 not in side
        cost = sum(c for a, b, c in edges if a not in side and b in side)
        assert cost == least_cut(count, edges)


def layers(count: int, width: int = 64) -> Graph:
    def fn(x: Any, w: Any) -> list[Any]:
        for _ in range(count // 10):
            h = ops["tanh"](x * w + w)
            x = h * h.sum((0,)).broadcast_to((width,)) + ops["exp"](-x) * x
        return [x.sum((0,))]

    return trace(fn, [tensor_type((width,), dtypes.float32)] * 2)[0]


def test_the_cut_takes_time_in_proportion() -> None:
    with_residuals(layers(40), (True, True))  # what is made once
    small, large = layers(500), layers(2_000)
    calls = [calls_made(lambda g=g: with_residuals(g, (True, True))) for g in (small, large)]
    assert calls[1] < 6 * calls[0]


def test_ten_thousand_nodes_are_cut() -> None:
    graph = layers(10_000)
    assert len(graph.nodes) > 9_000
    whole = with_residuals(graph, (True, True))
    assert 900 <= len(whole.outputs) - 1 <= 2_100
