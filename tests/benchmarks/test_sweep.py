"""The sweep finds planted cliffs, and runs every kernel right."""

from itertools import pairwise

import pytest

from benchmarks import sweep
from benchmarks.frameworks import words
from benchmarks.sweep import Line, Point
from benchmarks.sweep_kernels import FAMILIES, KERNELS

CALL = 2e-6


def line(**changed):
    """Sizes at a nanosecond an element, with the seconds of some changed."""
    sizes = (10, 100, 1000, 1023, 1024, 1025, 1_000_000)
    return [
        Point((n,), changed.get(f"n{n}", CALL + n * 1e-9), changed.get(f"numpy{n}", 1.0))
        for n in sizes
    ]


def test_an_even_line_has_no_cliff():
    assert sweep.cliffs(line(), CALL) == {}


def test_a_size_slower_than_both_neighbours_is_a_cliff():
    assert sweep.cliffs(line(n1024=5e-6), CALL) == {4: "1.7x what its neighbours make one expect"}


def test_a_size_slower_than_numpy_is_a_cliff():
    assert sweep.cliffs(line(numpy1000000=5e-4), CALL) == {6: "2x NumPy's time"}


def test_what_a_call_costs_is_no_cliff():
    assert sweep.cliffs(line(numpy10=1e-7), CALL) == {}
    assert sweep.cliffs(line(n10=2.9e-6), CALL) == {}


def test_a_step_to_another_level_of_memory_is_no_cliff():
    slower = {f"n{n}": CALL + 4e-9 * n for n in (1024, 1025, 1_000_000)}
    assert sweep.cliffs(line(**slower), CALL) == {}


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_is_right_at_small_sizes(name):
    kernel = KERNELS[name]
    shapes = [(1,), (2,), (33,)] if "flat" in kernel.families else [(1, 1), (3, 3), (1, 2), (5, 17)]
    F = words("graphgrad")
    for shape in shapes:
        if name == "matmul" and len(set(shape)) > 1:
            continue
        point = sweep.measure(F, kernel, shape, 0.0)
        assert point.error == "", shape
        assert point.seconds > 0


def test_a_wrong_result_is_reported():
    points = [Point((2,), 1e-6, 1.0), Point((3,), 1e-6, 1.0, "result 0: off")]
    assert "- k, 3: result 0: off" in sweep.offences([Line("k", "flat", points, 1e-6)])


def test_families_name_sizes_that_go_wrong_elsewhere():
    flat = {n for (n,) in FAMILIES["flat"]}
    assert {1, 2, 15, 16, 17, 1021, 1023, 1025, 9999991} <= flat
    assert [c for _, c in FAMILIES["narrow"]] == list(range(1, 71))
    assert all(a != b for shapes in FAMILIES.values() for a, b in pairwise(shapes))


def test_the_command_returns_whether_it_found_any(capsys, monkeypatch):
    little = ["--kernels", "sum", "--families", "flat", "--seconds", "0", "--most", "4"]
    monkeypatch.setattr(sweep.Cores, "pin", lambda self: None)  # this process has other tests
    assert sweep.main(little) in (0, 1)
    monkeypatch.setattr(sweep, "STEEP", 0.0)
    assert sweep.main(little) == 1
    assert "what its neighbours make one expect" in capsys.readouterr().out
