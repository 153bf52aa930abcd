"""The loop programs are right, wrong results and slow ones are seen."""

import importlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.loops import __main__ as command
from benchmarks.loops.measure import Row, check, measure
from benchmarks.loops.program import DIFFERENTIATED, PROGRAMS, TOLERANCE, difference, program


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_agrees_with_the_one_by_hand(name, monkeypatch):
    if name in ("power", "heat"):
        monkeypatch.setattr(importlib.import_module(f"benchmarks.loops.{name}"), "TRIPS", 34)
    p = program(name)
    assert check(p, p.tiny, p.by_hand.py_func) <= TOLERANCE


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradients_agree_at_the_size_that_is_measured(name, monkeypatch):
    if name == "heat":  # the measurement compares all trips; here Python runs 65,000 points a trip
        monkeypatch.setattr(importlib.import_module("benchmarks.loops.heat"), "TRIPS", 3)
    p = program(name)
    assert all(np.asarray(x).dtype == np.float64 for x in p.arguments(p.size))
    assert check(p, p.size, p.by_hand.py_func) <= TOLERANCE == 1e-9


def test_quick_compares_every_program(capsys):
    assert command.main(["--quick"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(PROGRAMS)


@pytest.mark.parametrize("name", ["newton", "kalman", "edit_distance"])
def test_gradients_by_hand_are_those_of_finite_differences(name):
    p = program(name)
    inputs = [np.asarray(x) for x in p.arguments(p.tiny)]
    gradients = p.by_hand.py_func(*inputs)[1:]
    rng = np.random.default_rng(0)
    directions = [rng.normal(size=x.shape) for x in inputs]

    def value(h):
        return p.by_hand.py_func(*(x + h * d for x, d in zip(inputs, directions)))[0]

    slope = sum(np.sum(g * d) for g, d in zip(gradients, directions))
    assert slope == pytest.approx((value(1e-6) - value(-1e-6)) / 2e-6, rel=1e-6)


def test_a_wrong_gradient_is_seen(capsys, monkeypatch):
    p = program("viterbi")

    def wrong(*inputs):
        value, of_transitions, of_emissions = p.by_hand.py_func(*inputs)
        of_emissions[0, 0] += 1e-8
        return value, of_transitions, of_emissions

    assert check(p, p.tiny, wrong) == pytest.approx(1e-8)
    assert command.main(["--quick", "--only", "viterbi"]) == 0
    planted = replace(p, by_hand=SimpleNamespace(py_func=wrong))
    monkeypatch.setattr(command, "program", lambda name: planted)
    assert command.main(["--quick", "--only", "viterbi"]) == 1
    assert "Viterbi, 32 states: differs by 1.0e-08" in capsys.readouterr().out


def test_differences_are_relative_to_the_largest_element():
    assert difference([1.0, [2.0, 4.0]], [1.0, [2.4, 4.0]]) == pytest.approx(0.1)
    assert not difference([np.nan], [1.0]) <= TOLERANCE
    with pytest.raises(ValueError, match="expected"):
        difference([np.zeros(2)], [np.zeros(3)])


def test_both_are_measured():
    p = replace(program("bisection"), run=halved, by_hand=program("bisection").by_hand)
    row = measure("bisection", p, 3, 0.0)
    assert row.problem == f"differs by {row.error:.1e}"
    assert row.trips == 3 * 47
    assert min(row.ours, row.first, row.numba, row.numba_first) > 0
    assert row.native


def halved(count, least, most):
    """A wrong answer, quickly."""
    return (count + least + most) / 2


def test_slow_rows_and_failures_are_marked():
    fast = Row("gru", "GRU", 10, 0.0, 1e-3, 1e-3, 2e-3, 1.0, 1.0, True)
    assert command.cells(fast)[4:10] == ["1x", "1.5x", "2.00 ms", "100 µs", "1.00 s", "1.00 s"]
    assert command.cells(replace(fast, ours=1.6e-3))[4] == "**1.6x**"
    collatz = replace(fast, name="collatz", ours=1.3e-3, jax=0.0)
    assert command.cells(collatz)[4:7] == ["**1.3x**", "1.2x", "–"]
    failed = Row("heat", "Heat", problem="no answer in 1 s")
    text = command.table([fast, failed])
    assert {line.count("|") for line in text.splitlines()} == {len(command.HEAD) + 1}
    assert text.splitlines()[-1].endswith("| failed: no answer in 1 s |")
    said = command.summary([fast, collatz, failed, replace(fast, title="Slow", numba=3e-3)])
    assert said == (
        "2 of 4 reach what is asked. Numba's code by hand is slower than JAX's scan in: Slow."
    )


def test_a_process_that_fails_says_why(tmp_path):
    options = command.parse(["--timeout", "30"])
    python = [sys.executable, "-c"]
    assert command.apart([*python, "print('first')\nprint('[1]')"], options, tmp_path) == [1]
    assert command.apart([*python, "raise SystemExit('no memory')"], options, tmp_path) == (
        "no memory"
    )
    options.timeout = 0.01
    assert command.apart([*python, "while True: pass"], options, tmp_path) == "no answer in 0.01 s"


def test_jax_has_what_it_can_express():
    pytest.importorskip("jax")
    scans = importlib.import_module("benchmarks.loops.jax_scans").SCANS
    assert scans.keys() == set(DIFFERENTIATED) - {"newton"}
