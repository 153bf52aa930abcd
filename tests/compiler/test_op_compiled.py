"""Every op of the table, compiled: the samples of an op and a dtype make one program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import ir
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph, trace
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.autodiff import gradient_graph
from graphgrad.runtime.executor import KernelFailure
from tests.compiler.compiling import compile_full, run_compiled
from tests.compiler.differences import directions, graph_of, masks
from tests.compiler.op_cases import (
    Case,
    cases_of,
    check_value,
    differentiable_cases,
    expected,
    sampled_ops,
)
from tests.compiler.op_edges import EDGES, edge_graphs

NAMES = [op.name for op in sampled_ops()]
SMOOTH = [op.name for op in sampled_ops() if not op.nondifferentiable]


def combined(cases: Sequence[Case]) -> tuple[Graph, list[Any]]:
    """One graph that computes all the cases, and its inputs."""
    arrays = [a for case in cases for a in case.arrays]

    def outputs(*xs: Any) -> list[Any]:
        found: list[Any] = []
        rest = list(xs)
        for case in cases:
            own, rest = rest[: len(case.arrays)], rest[len(case.arrays) :]
            result = case.call(*own)
            found.extend(result if case.op.multi else [result])
        return found

    return graph_of(outputs, arrays), arrays


def run(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    return run_compiled(compile_full(graph), arrays)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_value(name: str) -> None:
    op = ops[name]
    assert op.samples is not None
    cases = [case for dtype in op.samples.dtypes for case in cases_of(op, dtype)]
    graph, arrays = combined(cases)
    got = iter(run(graph, arrays))
    for case in cases:
        check_value(case, list(islice(got, len(expected(case)))), "compiled")


@pytest.mark.parametrize("name", SMOOTH)
def test_compiled_derivative(name: str) -> None:
    graph, arrays = combined(list(differentiable_cases(ops[name])))
    given, wanted = masks(graph)
    outputs = interpret(graph, arrays)
    seeds = [d for d in directions(outputs, 1) if d is not None]
    reverse = gradient_graph(graph, given, wanted)
    inputs = [*arrays, *outputs, *seeds]
    for got, wants in zip(run(reverse, inputs), interpret(reverse, inputs), strict=True):
        np.testing.assert_allclose(got, wants, rtol=1e-12, atol=1e-12)


FAILURES = [
    pytest.param(op.name, i, id=f"{op.name}-{i}")
    for op in sampled_ops()
    if op.raises and op.samples is not None
    for i in range(len(op.samples.errors))
]


@pytest.mark.parametrize(("name", "number"), FAILURES)
def test_compiled_error(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails on values fails in kernels with the text of the reference."""
    samples = ops[name].samples
    assert samples is not None
    fail, fragment = samples.errors[number]

    def compiled() -> None:
        with monkeypatch.context() as patch:  # arrays are inputs, not constants to fold
            patch.setattr(ir, "LITERAL_ELEMENTS", 0)
            graph, arrays = trace(lambda: [fail(ops[name])], [])
        run(graph, arrays)

    with pytest.raises((KernelFailure, GraphgradError)) as failure:
        compiled()
    assert fragment in str(failure.value)


@pytest.mark.parametrize(
    ("fn", "x", "first", "second"), [e[1:] for e in EDGES], ids=[e[0] for e in EDGES]
)
def test_compiled_edge(fn: Callable[[Any], Any], x: Any, first: Any, second: Any) -> None:
    array = np.asarray(x, np.float64)
    for order, graph, wanted in zip((1, 2), edge_graphs(fn, array), (first, second), strict=True):
        (got,) = run(graph, [array])
        np.testing.assert_allclose(got, wanted, atol=1e-12, err_msg=f"order {order}")
