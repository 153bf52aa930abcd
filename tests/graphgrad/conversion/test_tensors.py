"""Converted functions on tensors: values and derivatives are those of plain Python run eagerly."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.conversion.convert import convert

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("tensor_functions", HERE / "tensor_functions.py")
module = sys.modules["tensor_functions"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

INPUTS = [([0.5, 1.5, 0.25], 3), ([-0.5, 0.4, -1.0], 1), ([2.0, -1.0, 3.0], 0)]
table = pytest.mark.parametrize("f", module.FUNCTIONS, ids=lambda f: f.__name__)


def arguments(case):
    x, n = INPUTS[case]
    return gg.constant(x), gg.constant(n)


def derivatives(f, x, n):
    """The value, the gradient of its sum, and the gradient of that gradient's squares."""
    with gg.GradientTape() as outer:
        outer.watch(x)
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.reduce_sum(f(x, n))
        first = tape.gradient(y, x, unconnected_gradients="zero")
        squares = gg.reduce_sum(first * first)
    return y, first, outer.gradient(squares, x, unconnected_gradients="zero")


@table
def test_values_and_derivatives_with_the_tape_outside(f):
    compiled = gg.function(convert(f))
    traced = gg.function(convert(f), jit_compile=module.FUNCTIONS.index(f) % 3 == 0)
    for case in range(len(INPUTS)):
        args = arguments(case)
        np.testing.assert_allclose(compiled(*args), f(*args), rtol=2e-5, atol=1e-5)
        for got, wanted in zip(derivatives(traced, *args), derivatives(f, *args)):
            np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-5)
    for each in (compiled, traced):
        assert each.experimental_get_tracing_count() == 1


@table
def test_derivatives_with_the_tape_inside(f):
    inside = gg.function(lambda x, n: derivatives(convert(f), x, n), jit_compile=False)
    for case in range(len(INPUTS)):
        args = arguments(case)
        for got, wanted in zip(inside(*args), derivatives(f, *args)):
            np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-5)


@table
def test_converted_functions_run_eagerly(f):
    for case in range(len(INPUTS)):
        args = arguments(case)
        np.testing.assert_array_equal(convert(f)(*args), f(*args))
