"""The sweep of convolutions finds planted cliffs, and measures right results."""

from dataclasses import replace

import pytest

from benchmarks import convolution_sweep as sweep
from benchmarks.frameworks import words
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.convolutions import Convolution

TINY = Convolution("swept", (1, 5, 4, 3), (3, 3, 3, 2), stride=2, pad=1)


def line(**changed):
    """Five sizes at 100 Gflop/s, with the seconds of some changed."""
    sizes = sweep.LINES["channels"][10:15]
    places = [sweep.Place((), changed.get(f"n{i}", c.flops / 1e11), 0.0, "", c.flops)
              for i, c in enumerate(sizes)]  # fmt: skip
    return sweep.Line("channels", "y", sizes, places, 0.0)


def test_a_size_slower_than_its_neighbours_is_a_cliff():
    assert line().cliffs == {}
    slow = line().places[2].seconds * 2
    assert line(n2=slow).cliffs == {2: pytest.approx(2)}
    assert line(n2=slow, n3=1.0).cliffs.keys() == {3}
    said = sweep.offences([line(n2=slow)])
    assert "forward, 2 x 28 x 28 x 24 by 3 x 3 x 24 x 24: 2x what its neighbours" in said
    assert "50.0 Gflop/s" in said
    assert "| channels (5) | forward | 50.0: " in sweep.table([line(n2=slow)])


def test_a_wrong_result_is_reported():
    wrong = line()
    wrong.places[1] = replace(wrong.places[1], error="result 0: off")
    assert ": result 0: off (" in sweep.offences([wrong])


@pytest.mark.parametrize("part", sweep.PARTS)
def test_every_part_is_checked(part, monkeypatch):
    F = words("graphgrad")
    assert sweep.measure(F, TINY, part, 0.0).error == ""
    assert f"swept_{part}" not in WORKLOADS
    monkeypatch.setattr(type(F), "convolution", lambda self, x, w, c: 1.01 * plain(self, x, w, c))
    assert sweep.measure(F, TINY, part, 0.0).error.startswith("result 0: ")


plain = type(words("graphgrad")).convolution


def test_lines_name_odd_sizes_and_grow():
    for name in ("channels", "image", "filter", "images"):
        flops = [c.flops for c in sweep.LINES[name]]
        assert flops == sorted(flops)
    assert {1, 3, 65, 127, 255, 256} <= {c.image[3] for c in sweep.LINES["channels in"]}
    assert {c.filter[0] for c in sweep.LINES["filter"]} == set(range(1, 12))
    assert {c.stride for c in sweep.LINES["stride"]} == set(range(1, 8))


def test_the_command_returns_whether_it_found_any(capsys, monkeypatch):
    little = ["--lines", "images", "--parts", "y", "--seconds", "0", "--most", "1.1e7"]
    monkeypatch.setattr(sweep.Cores, "pin", lambda self: None)  # this process has other tests
    assert sweep.main(little) in (0, 1)
    monkeypatch.setattr(sweep, "STEEP", 0.0)
    assert sweep.main(little) == 1
    assert "what its neighbours make one expect" in capsys.readouterr().out
