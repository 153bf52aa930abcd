"""Control flow on tensors: in a `gg.function` it gives what the same Python gives eagerly."""

from __future__ import annotations

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.conversion.derivative_functions import CASES

NAMES = [f"{f.__name__}-{x}" for f, x in CASES]
EAGER_UPDATES = {"updates"}  # Python alone does not assign to elements of tensors


def _derivatives(f, number):
    """The value of `f`, its derivative and the second one."""
    x = gg.Variable(number, dtype=gg.float64)
    with gg.GradientTape() as outer:
        with gg.GradientTape() as tape:
            y = f(x)
        first = tape.gradient(y, x)
    return [float(v) if v is not None else 0.0 for v in (y, first, outer.gradient(first, x))]


@pytest.mark.parametrize(("f", "number"), CASES, ids=NAMES)
def test_tensors_decide_as_python_does(f, number):
    traced = gg.function(f)
    if f.__name__ in EAGER_UPDATES:
        gg.config.run_functions_eagerly(True)
        try:
            expected = _derivatives(traced, number)
        finally:
            gg.config.run_functions_eagerly(False)
    else:
        expected = _derivatives(f, number)
    np.testing.assert_allclose(_derivatives(traced, number), expected, rtol=1e-6)
    assert float(traced(gg.constant(number, gg.float64))) == pytest.approx(expected[0])
