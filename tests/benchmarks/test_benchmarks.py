"""The benchmarks measure right results, and their table says what was measured."""

import sys

import pytest

from benchmarks import child, measure, table
from benchmarks.measure import Figure, Framework


@pytest.mark.parametrize("name", ["eager_add", "eager_gradient", "call", "network"])
@pytest.mark.parametrize("framework", ["graphgrad", "numpy"])
def test_small_workloads_compute_what_their_reference_says(framework, name):
    build, problem = child.prepare(framework, name)
    assert problem(build()()) == ""


def test_a_wrong_result_is_noticed():
    build, problem = child.prepare("numpy", "network")
    loss, *gradients = build()()
    assert "expected" in problem([loss])
    gradients[0] = gradients[0] * 1.01
    assert problem([loss, *gradients]).startswith("result 1: ")


@pytest.mark.slow
def test_a_row_is_measured_in_a_process_of_its_own(tmp_path):
    ours = Framework("graphgrad", sys.executable)
    figures = measure.steady([ours], "call", budget=0.02, rounds=2, launches=2, caches=tmp_path)
    assert figures["graphgrad"].error == ""
    assert 0 < figures["graphgrad"].best <= figures["graphgrad"].median < 1


def test_a_child_that_fails_says_why(tmp_path):
    absent = Framework("torch-nothing", sys.executable)
    figures = measure.steady([absent], "call", budget=0.02, rounds=1, launches=1, caches=tmp_path)
    assert "torch_nothing_" in figures["torch-nothing"].error


def test_the_table_has_minimum_median_and_ratio():
    rows = [("r", "a row", {"graphgrad": Figure([2e-6, 4e-6, 3e-6]), "jax": Figure([8e-6])})]
    assert table.table(rows, ["graphgrad", "jax", "torch"]).splitlines()[-1] == (
        "| a row | 2.00 µs (3.00 µs) | 8.00 µs (8.00 µs) **4x** | – |"
    )


def test_the_table_replaces_what_stands_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write_between_marks(page, "new")
    assert page.read_text() == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
