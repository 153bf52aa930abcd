"""The scalar form of every elementwise op and generator, compiled, against the op's oracle."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Elementwise, Generator
from graphgrad.compiler.interpret import interpret_all
from graphgrad.compiler.op import ops
from tests.compiler.differences import graph_of
from tests.compiler.op_cases import Case, cases_of, check_value, is_floating, run_ref, sampled_ops
from tests.compiler.scalar_jit import Compiled

Array = np.ndarray[Any, Any]
SCALARS = [op.name for op in sampled_ops() if isinstance(op, Elementwise)]
DRAWS = [op.name for op in sampled_ops() if isinstance(op, Generator)]


def work_dtype(dtype: DType) -> DType:
    """What arithmetic runs in: float32 for 16-bit floats."""
    return dtypes.float32 if dtype.is_floating and dtype.bits == 16 else dtype


@cache
def compiled(
    name: str, operands: tuple[DType, ...], result: DType, attrs: tuple[Any, ...]
) -> Compiled:
    def build(s: Any, *values: Any) -> Any:
        wide = [s.convert(v, work_dtype(s.dtype(v))) for v in values]
        return s.convert(ops[name].scalar(s, *wide, **dict(attrs)), result)  # type: ignore[attr-defined]

    return Compiled(build, operands, result)


def run_scalar(case: Case) -> list[Array]:
    """The op's node, its inputs cast and stretched as the graph says."""
    graph = graph_of(case.call, case.arrays)
    node = graph.producers[graph.outputs[0]]
    env = interpret_all(graph, case.arrays)
    inputs = [env[x] for x in node.inputs]
    attrs = tuple(sorted(node.attrs.items()))
    if isinstance(node.op, Generator):
        count = math.prod(node.out.type.shape)
        words = [np.full(count, w) for x in inputs for w in x.ravel()]
        inputs = [np.arange(count), *words]
    if math.prod(node.out.type.shape) == 0:
        return [np.zeros(node.out.type.shape)]
    operands = tuple(dtypes.as_dtype(x.dtype) for x in inputs)
    run = compiled(node.op.name, operands, node.out.type.dtype, attrs)
    return [run(*[x.ravel() for x in inputs]).reshape(node.out.type.shape)]


def check_zeros(case: Case, got: Array) -> None:
    """Zeros have the sign that the reference gives them."""
    (wanted,) = run_ref(case)
    if is_floating(got) and not isinstance(case.op, Generator):
        zero = (got == 0) & (wanted == 0)
        signs = [np.signbit(a.astype(np.float64)[zero]) for a in (got, wanted)]
        np.testing.assert_array_equal(*signs, err_msg=str(case))


@pytest.mark.parametrize("name", [*SCALARS, *DRAWS])
def test_scalar_form(name: str) -> None:
    samples = ops[name].samples
    assert samples is not None
    for dtype in samples.dtypes:
        if dtype.startswith("complex"):  # in kernels a pair of real values
            continue
        for case in cases_of(ops[name], dtype):
            if any(v.dtype.is_complex for v in graph_of(case.call, case.arrays).outputs):
                continue
            got = run_scalar(case)
            if got[0].size:  # the kernel of these tests runs at least once
                check_value(case, got, "scalar")
                check_zeros(case, got[0])
