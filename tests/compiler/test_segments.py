"""Graphs with sizes known only at run time, cut into what is compiled and what runs step by
step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.interpret import interpret, set_graph_runner
from graphgrad.compiler.ir import Graph, trace
from graphgrad.compiler.transform.autodiff import gradient_graph
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.transform.segments import (
    has_runtime_sizes,
    is_closed,
    run_in_segments,
    segmented,
)
from graphgrad.compiler.transform.sizes import is_runtime
from graphgrad.compiler.types import tensor_type
from graphgrad.compiler.verify import verify
from tests.compiler.differences import close, masks
from tests.compiler.programs import array, loop, program


def reverse_of(graph: Graph, arrays: list[Any]) -> tuple[Graph, list[Any]]:
    given, wanted = masks(graph)
    outputs = interpret(graph, arrays)
    seeds = [np.ones_like(o) for o, g in zip(outputs, given, strict=True) if g]
    return gradient_graph(graph, given, wanted), [*arrays, *outputs, *seeds]


@pytest.mark.parametrize("name", ["loop", "loop until", "nested loops"])
def test_the_parts_give_what_the_whole_gives(name: str) -> None:
    back, inputs = reverse_of(*program(name))
    assert has_runtime_sizes(back)
    parts = verify(segmented(back))
    assert len(parts.nodes) <= len(back.nodes)
    for got, wanted in zip(run_in_segments(parts, inputs), interpret(back, inputs), strict=True):
        close(got, wanted, 1e-12)


def test_compiled_parts_hold_no_unknown_sizes() -> None:
    back, inputs = reverse_of(*program("loop until"))
    seen: list[Graph] = []

    def runner(graph: Graph, arrays: Any) -> Any:
        assert not any(is_runtime(t) for t in (*graph.types, *graph.output_types))
        seen.append(graph)
        return interpret(graph, arrays)

    before = set_graph_runner(runner)
    try:
        run_in_segments(segmented(back), inputs)
    finally:
        set_graph_runner(before)
    assert any(g.name.startswith("part of") for g in seen)


def test_a_batch_of_unknown_size() -> None:
    graph, arrays = program("loop")
    back, inputs = reverse_of(graph, arrays)
    n = DimScope().symbol("n", 0, 0)
    whole, _ = batch_graph(back, (True,) * len(inputs), n)
    parts = verify(segmented(whole))
    calls = [node.attrs["graph"] for node in parts.nodes if node.op.name == "call"]
    assert calls
    assert all(map(is_closed, calls)), "one compiled part serves every batch size"
    many = [np.stack([x, x * 0.5]) for x in inputs]
    for got, wanted in zip(run_in_segments(parts, many), interpret(whole, many), strict=True):
        close(got, wanted, 1e-12)


def test_a_size_that_no_input_tells() -> None:
    n = DimScope().symbol("n", 0, 0)
    f64 = dtypes.float64
    graph, _ = trace(
        lambda x, w: [loop(w, w) * n, x.sum((0,))], [tensor_type((n,), f64), tensor_type((3,), f64)]
    )
    back, inputs = reverse_of(graph, [array(5), array(3)])
    for got, wanted in zip(
        run_in_segments(segmented(back), inputs), interpret(back, inputs), strict=True
    ):
        close(got, wanted, 1e-12)


def test_graphs_without_loops_have_none() -> None:
    assert not has_runtime_sizes(program("network")[0])
    assert not has_runtime_sizes(program("loop")[0]), "nothing is stacked before a derivative asks"
