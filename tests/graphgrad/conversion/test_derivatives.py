"""Control flow on tensors: in a `gg.function` it gives what the same Python gives eagerly."""

from __future__ import annotations

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.conversion.derivative_functions import CASES

NUMBERS = {}
for f, number in CASES:
    NUMBERS.setdefault(f, []).append(number)
EAGER_UPDATES = {"updates"}  # Python alone does not assign to elements of tensors


def _derivatives(f, x):
    """The value of `f`, its derivative and the second one."""
    with gg.GradientTape() as outer:
        with gg.GradientTape() as tape:
            y = f(x)
        first = tape.gradient(y, x)
    return [float(v) if v is not None else 0.0 for v in (y, first, outer.gradient(first, x))]


@pytest.mark.parametrize("f", NUMBERS, ids=lambda f: f.__name__)
def test_tensors_decide_as_python_does(f):
    compiled = gg.function(f)
    traced = gg.function(f, jit_compile=list(NUMBERS).index(f) % 3 == 0)
    x = gg.Variable(0.0, dtype=gg.float64)
    for number in NUMBERS[f]:
        x.assign(number)
        gg.config.run_functions_eagerly(f.__name__ in EAGER_UPDATES)
        try:
            expected = _derivatives(traced if f.__name__ in EAGER_UPDATES else f, x)
        finally:
            gg.config.run_functions_eagerly(False)
        np.testing.assert_allclose(_derivatives(traced, x), expected, rtol=1e-6)
        assert float(compiled(gg.constant(number, gg.float64))) == pytest.approx(expected[0])
    for each in (compiled, traced):
        assert each.experimental_get_tracing_count() == 1
