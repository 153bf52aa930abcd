"""Random programs and their gradients: compiled as interpreted."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.compiler.compiling import check, samples
from tests.compiler.random_programs import DTYPES, SHAPES, gradient_of, random_graph

PARAMS = st.lists(
    st.tuples(st.integers(0, len(SHAPES) - 1), st.integers(0, len(DTYPES) - 1)),
    min_size=1, max_size=3,
)  # fmt: skip
INSTRUCTION = st.tuples(
    st.integers(0, 13), st.integers(0, 5), st.integers(0, 63), st.integers(0, 63)
)
PROGRAM = st.lists(INSTRUCTION, min_size=1, max_size=12)


# Found by longer runs: sibling kernels of which one reads the other transposed, slices that are
# prefixes, rows against columns of one value, one memory behind two shapes, a conversion from
# float64 to float16 that no CPU has, kernels that need each other through a later member.
@example([(14, 0)], [(4, 0, 0, 0), (9, 0, 0, 20), (2, 0, 0, 5)], 0, 0)
@example([(17, 8)], [(5, 0, 0, 0), (9, 0, 37, 0)], 0, 0)
@example([(7, 0), (17, 2)], [(6, 0, 2, 30), (4, 0, 0, 47), (8, 0, 47, 0), (5, 0, 0, 43)], 0, 0)
@example([(14, 0)], [(5, 0, 0, 0), (3, 0, 0, 0), (6, 0, 0, 0), (9, 0, 0, 0)], 4, 0)
@example([(0, 2)], [(11, 0, 1, 0), (11, 0, 5, 0), (0, 0, 1, 0)], 0, 0)
@example([(6, 7), (11, 0)], [(6, 0, 0, 0), (1, 0, 0, 0), (8, 3, 60, 17)], 0, 0)
@example(
    [(2, 0), (8, 0)],
    [(10, 0, 0, 0), (6, 2, 0, 0), (6, 1, 0, 0), (2, 4, 0, 0), (0, 0, 0, 0), (2, 3, 0, 12)],
    8,
    0,
)
@given(PARAMS, PROGRAM, st.integers(0, 255), st.integers(0, 999))
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_random_program(params: Any, instructions: Any, outputs: int, seed: int) -> None:
    graph = random_graph(params, instructions, outputs)
    arrays = samples(graph.types, seed)
    check(graph, arrays=arrays, python=seed % 4 == 0)
    reverse = gradient_of(graph)
    if reverse is not None:
        cotangent = samples(reverse.types[-1:], seed + 1)
        check(reverse, arrays=[*arrays, *cotangent], python=seed % 8 == 0)
