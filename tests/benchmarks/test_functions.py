"""The figures of docs/math.md: errors and speeds are measured, and wrong values are seen."""

import math

import numpy as np
import pytest

from benchmarks import elementary, function_speed, functions


def test_every_function_has_a_truth_and_a_speed():
    assert function_speed.INTERVALS.keys() == elementary.ELEMENTARY.keys()


@pytest.mark.parametrize("framework", ["graphgrad", "numpy"])
def test_speeds_are_measured(framework):
    found = function_speed.measure(framework, ["exp", "softplus", "pow"], seconds=0.001)
    assert all(0 < t < 1e4 for of_name in found.values() for t in of_name.values())


def test_errors_are_measured():
    found = functions.errors(["tanh", "atan2"], 10)
    assert all(0.1 < ours <= 2 for of_name in found.values() for ours, _ in of_name.values())
    assert functions.error_table(found).splitlines()[2].startswith("| `tanh` | 2 | 2 | ")


def test_the_last_row_is_the_geometric_mean():
    times = {"graphgrad": 1.0, "numpy": 2.0, "jax": 8.0}
    found = {
        f: {n: dict.fromkeys(function_speed.DTYPES, t * k) for n, k in {"exp": 1, "log": 3}.items()}
        for f, t in times.items()
    }
    last = functions.speed_table(found).splitlines()[-1]
    assert last == "| geometric mean of ratios" + " | 1 | **2.00x** | **8.00x**" * 2 + " |"


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [("exp", 1.0, math.e), ("erfc", 26.7, math.erfc(26.7)), ("log10", 5e-324, -323.3062153431158)],
)
def test_the_truth_is_right_to_more_than_float64(name, x, expected):
    (true,) = elementary.truth(name, (np.array([x]),))
    assert float(true) == expected


def test_an_error_of_one_unit_is_one():
    true = elementary.truth("exp", (np.array([1.0, 2.0]),))
    got = true.astype(np.float64)
    assert elementary.ulp_errors(got, true).max() < 0.5
    got[1] = np.nextafter(got[1], 99)
    error, (where,) = elementary.worst(got, true, (np.array([1.0, 2.0]),))
    assert 0.5 < error < 1.5
    assert where == 2.0
