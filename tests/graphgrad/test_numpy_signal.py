"""np.convolve and np.correlate of tensors are NumPy's, and have derivatives."""

import itertools

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.errors import ArgumentError, ShapeError

SIZES = [*itertools.product((1, 2, 3, 4), repeat=2), (7, 4), (3, 6)]


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("function", [np.convolve, np.correlate])
def test_values_are_numpys(function, mode):
    rng = np.random.default_rng(0)
    for n, m in SIZES:
        for dtype in ("float64", "complex128"):
            a, v = (gg.cast(rng.normal(size=k), dtype) * (1 + (dtype == "complex128") * 2j)
                    for k in (n, m))  # fmt: skip
            found = function(a, v, mode)
            wanted = function(a.numpy(), v.numpy(), mode)
            assert isinstance(found, gg.Tensor)
            assert found.dtype.name == wanted.dtype.name
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_in_a_function_and_with_arrays():
    a, v = gg.constant([1, 2, 3]), np.array([0, 1, 5])
    found = gg.function(lambda a: np.convolve(a, v))(a)
    np.testing.assert_array_equal(found, np.convolve([1, 2, 3], [0, 1, 5]))


def test_derivatives():
    a, v = np.array([0.5, 1.0, -2.0, 0.3]), np.array([1.0, 0.7])
    gg.testing.check_grads(lambda a, v: gg.sin(np.convolve(a, v, "same")), a, v)
    gg.testing.check_grads(lambda v, a: np.correlate(v, a), v, a)


def test_errors():
    with pytest.raises(ShapeError, match="convolve: takes vectors of known size"):
        np.convolve(gg.ones((2, 2)), [1.0])
    with pytest.raises(
        ArgumentError, match="correlate: mode is 'full', 'same' or 'valid', not 'f'"
    ):
        np.correlate(gg.ones(2), [1.0], "f")
