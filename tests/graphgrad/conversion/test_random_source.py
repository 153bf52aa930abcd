"""Random functions: what conversion makes of them gives what they give as plain Python."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.conversion.convert import convert

spec = importlib.util.spec_from_file_location(
    "random_source", Path(__file__).parent / "random_source.py"
)
random_source = sys.modules["random_source"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(random_source)

INPUTS = [([0.5, 1.5, 0.25], 3), ([-0.5, 0.4, -1.0], 1), ([2.0, -1.0, 0.3], 0)]


def function(seed, depth, folder):
    """A function whose source Python finds in a file."""
    path = folder / f"random_{seed}_{depth}.py"
    path.write_text(random_source.source(seed, depth))
    found = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.f


def value_and_gradient(f, x, n):
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = f(x, n)
    return y, tape.gradient(y, x, unconnected_gradients="zero")


@pytest.mark.parametrize("seed", range(10))
def test_random_functions(seed, tmp_path):
    f = function(seed, 1 + seed % 2, tmp_path)
    plain = convert(f)  # on eager tensors each operator is Python's, and x[i] = v can be assigned
    traced = gg.function(f, jit_compile=seed < 3)
    for x, n in INPUTS:
        args = gg.constant(x), gg.constant(n)
        for got, wanted in zip(value_and_gradient(traced, *args), value_and_gradient(plain, *args)):
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)
    assert traced.experimental_get_tracing_count() == 1


def test_the_programs_differ_and_hold_what_they_should():
    texts = [random_source.source(seed) for seed in range(40)]
    assert len(set(texts)) == 40
    for word in ("while", "for", "elif", "else", "break", "continue", "return", "x[", " and "):
        assert any(word in text for text in texts), word
