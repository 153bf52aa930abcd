"""Functions made at random do after conversion what they did before, of numbers and of tensors."""

from __future__ import annotations

import itertools

import pytest

import graphgrad as gg
from graphgrad.conversion.convert import convert, why_not
from tests.graphgrad.conversion.random_functions import written

NUMBERS = list(itertools.product((-2, 0, 3), (1, 5), (-1, 2)))


def _outcome(f, numbers):
    log = []
    try:
        return f(*numbers, log=log.append), log
    except ZeroDivisionError as e:
        return str(e), log


@pytest.mark.parametrize("block", range(4))
def test_of_numbers(block):
    for seed in range(40 * block, 40 * (block + 1)):
        f, text = written(seed)
        made = convert(f)
        assert why_not(f) in ("", "there is nothing to convert in it"), text
        for numbers in NUMBERS:
            assert _outcome(made, numbers) == _outcome(f, numbers), (seed, numbers, text)


@pytest.mark.parametrize("seed", range(12))
def test_of_tensors(seed):
    f, text = written(seed, numbers=True)
    traced = gg.function(f, jit_compile=False)
    for numbers in NUMBERS[::3]:
        found = traced(*(gg.constant(n) for n in numbers))
        assert int(found) == f(*numbers), (numbers, text)
