"""Functions made at random do after conversion what they did before, of numbers and of tensors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.conversion.convert import convert, why_not
from tests.graphgrad.conversion.random_functions import of_numbers, of_tensors

NUMBERS = list(itertools.product((-2, 0, 3), (1, 5), (-1, 2)))


def _outcome(f, numbers):
    log = []
    try:
        return f(*numbers, log=log.append), log
    except ZeroDivisionError as e:
        return str(e), log


@pytest.mark.parametrize("block", range(4))
def test_numbers(block):
    for seed in range(40 * block, 40 * (block + 1)):
        f, text = of_numbers(seed)
        made = convert(f)
        assert why_not(f) in ("", "there is nothing to convert in it"), text
        for numbers in NUMBERS:
            assert _outcome(made, numbers) == _outcome(f, numbers), (seed, numbers, text)


@pytest.mark.parametrize("seed", range(12))
def test_numbers_that_are_tensors(seed):
    f, text = of_numbers(seed, numbers=True)
    traced = gg.function(f, jit_compile=False)
    for numbers in NUMBERS[::3]:
        found = traced(*(gg.constant(n) for n in numbers))
        assert int(found) == f(*numbers), (numbers, text)


INPUTS = [([0.5, 1.5, 0.25], 3), ([-0.5, 0.4, -1.0], 1), ([2.0, -1.0, 0.3], 0)]


def _value_and_gradient(f, x, n):
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = f(x, n)
    return y, tape.gradient(y, x, unconnected_gradients="zero")


@pytest.mark.parametrize("seed", range(10))
def test_values_and_gradients(seed):
    f, text = of_tensors(seed, 1 + seed % 2)
    plain = convert(f)  # on eager tensors each operator is Python's, and x[i] = v can be assigned
    traced = gg.function(f, jit_compile=seed < 2)
    for x, n in INPUTS:
        args = gg.constant(x), gg.constant(n)
        both = zip(_value_and_gradient(traced, *args), _value_and_gradient(plain, *args))
        for got, wanted in both:
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4, err_msg=text)
    assert traced.experimental_get_tracing_count() == 1


def test_the_functions_differ_and_hold_what_they_should():
    texts = [of_tensors(seed)[1] for seed in range(40)]
    assert len(set(texts)) == 40
    for word in ("while", "for", "elif", "else", "break", "continue", "return", "x[", " and "):
        assert any(word in text for text in texts), word
