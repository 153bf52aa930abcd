"""Every op of the table: values, dtypes, errors and documentation."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.families import Composite, Control, Elementwise
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import trace
from graphgrad.compiler.op import Op, ops
from graphgrad.compiler.ops import FUNCTIONS
from graphgrad.compiler.passes.inline import inline
from tests.compiler.numpy_kind import eagerly
from tests.compiler.op_cases import MODES, cases_of, check_value, expected, sampled_ops

SAMPLED = sampled_ops()
NAMES = [op.name for op in SAMPLED]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_value(name: str, mode: str) -> None:
    op = ops[name]
    assert op.samples is not None
    for dtype in op.samples.dtypes:
        for case in cases_of(op, dtype):
            check_value(case, MODES[mode](case), mode)


def test_the_value_check_sees_a_wrong_value() -> None:
    for name in ("exp", "sum", "less", "gather", "softmax", "argmax", "random_bits"):
        op = ops[name]
        assert op.samples is not None
        dtype = op.samples.dtypes[0]
        case = max(cases_of(op, dtype, edges=False), key=lambda c: expected(c)[0].size)
        wrong = np.array(MODES["graph"](case)[0])
        flat = wrong.reshape(-1)
        flat[-1] = (
            ~flat[-1] if wrong.dtype.kind in "bu" else flat[-1] * 1.001 + (wrong.dtype.kind == "i")
        )
        with pytest.raises(AssertionError):
            check_value(case, [wrong])


ERRORS = [
    pytest.param(op.name, i, id=f"{op.name}-{i}")
    for op in SAMPLED
    for i in range(len(op.samples.errors if op.samples else ()))
]


@pytest.mark.parametrize(("name", "number"), ERRORS)
def test_error(name: str, number: int) -> None:
    samples = ops[name].samples
    assert samples is not None
    fail, fragment = samples.errors[number]

    def in_graph(run: Any) -> None:
        def outputs() -> list[Any]:
            result = fail(ops[name])
            return list(result) if ops[name].multi else [result]

        graph, captured = trace(outputs, [])
        run(graph, captured)

    with pytest.raises(GraphgradError) as eager, eagerly():
        fail(ops[name])
    with pytest.raises(GraphgradError) as graph:
        in_graph(interpret)
    with pytest.raises(GraphgradError) as parts:
        in_graph(lambda g, captured: interpret(inline(g), captured))
    for found in (eager, graph, parts):
        assert fragment in found.value.message
        assert type(found.value) is type(eager.value)
        assert found.value.where is not None


@pytest.mark.parametrize("op", list(ops.values()), ids=lambda op: op.name)
def test_record_is_complete(op: Op) -> None:
    assert op.doc.strip().endswith((".", "dtype=float32)", ")", "]")), op.doc
    assert (
        op.samples is not None
        or op.name in ("constant", "size", "callback")
        or isinstance(op, Control)
    )
    if op.samples is not None and not isinstance(op, Control):
        assert op.samples.oracle is not None
    if op.public_names and not isinstance(op, Control):
        assert ">>> " in op.doc
    assert op.raises is bool(op.failures) or isinstance(op, Composite | Control)


@pytest.mark.parametrize("op", list(ops.values()), ids=lambda op: op.name)
def test_derivative_goes_both_ways(op: Op) -> None:
    rules = [op.transpose, getattr(op, "partials", None), op.vjp, op.nondifferentiable or None]
    given = [r for r in rules if r is not None]
    assert len(given) == (0 if op.by_parts else 1)
    by_transposition = isinstance(op, Control) or op.name == "callback"
    if op.vjp is not None and not by_transposition:
        assert op.jvp is not None


def test_public_names_are_taken_once() -> None:
    names = [n for op in ops.values() for n in op.public_names] + list(FUNCTIONS)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_documented(name: str) -> None:
    assert ">>> " in (inspect.getdoc(FUNCTIONS[name]) or "")


def test_an_elementwise_op_is_one_record() -> None:
    """All that a new op needs is its record: here one that computes x * exp(x)."""
    record = Elementwise(
        name="test_only",
        inputs="float",
        ref=lambda x: x * np.exp(x),
        scalar=lambda s, x: s.mul(x, s.exp(x)),
        partials=(lambda z, x: z + ops["exp"](x),),
        doc="x exp(x), element by element.",
    )
    try:
        graph, _ = trace(lambda x: [ops["test_only"](x)], [dtypes_type("float64", 3)])
        x = np.array([0.0, 1.0, -2.0])
        np.testing.assert_array_equal(interpret(graph, [x])[0], x * np.exp(x))
    finally:
        del ops[record.name]


def dtypes_type(name: str, *shape: int) -> Any:
    from graphgrad.compiler.types import tensor_type

    return tensor_type(shape, dtypes.as_dtype(name))
