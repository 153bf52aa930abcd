"""Checks of one op's derivatives, and ops with planted mistakes to hold the checks to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.autodiff import gradient_graph, jvp_graph
from tests.compiler.differences import check_all, directions, graph_of, inner, masks
from tests.compiler.op_cases import Case, differentiable_cases


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


@contextmanager
def planted(name: str, **changes: Any) -> Iterator[list[Case]]:
    """The op with other rules, in its own place; gives the cases that should fail."""
    original = ops.pop(name)
    try:
        wrong = type(original)(**{n: vars(original)[n] for n in original._fields} | changes)
        yield [replace(case, op=wrong) for case in differentiable_cases(original)]
    finally:
        ops[name] = original


def is_seen(name: str, changes: dict[str, Any]) -> bool:
    """Does `check_case` refuse the op with these rules, in one of its cases?"""
    with planted(name, **changes) as cases:
        for case in cases:
            try:
                check_case(case)
            except (AssertionError, ValueError):
                return True
    return False
