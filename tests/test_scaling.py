"""The benchmark of growing graphs: its programs are the same everywhere, and it says when not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import scaling

ROOT = Path(__file__).parent.parent
NUMPY = SimpleNamespace(sum=np.sum, tanh=np.tanh, sin=np.sin, sqrt=np.sqrt)


@pytest.mark.parametrize("family", scaling.FAMILIES)
def test_a_family_has_the_size_asked_for_and_numpys_value(family: str) -> None:
    result = scaling.graphgrad_stages(family, 100)
    assert 60 <= result["nodes"] <= 160
    assert 1 <= result["steps"] <= result["nodes"]
    assert set(result["seconds"]) == set(scaling.STAGES)
    assert all(s >= 0 for s in result["seconds"].values())
    assert result["call"] > 0
    loss, arrays = scaling.FAMILIES[family](NUMPY, result["length"])
    assert scaling.agree(result["value"], float(loss(*(a.astype(float) for a in arrays))))


def row(**changes: Any) -> dict[str, Any]:
    seconds = dict.fromkeys(scaling.STAGES, 0.001)
    return {"family": "chain", "nodes": 1000, "steps": 4, "value": 1.0, "length": 5,
            "seconds": seconds, "call": 2e-6} | changes  # fmt: skip


def test_the_table_is_in_microseconds_an_operation() -> None:
    jax = row(seconds={"machine": 0.02})
    assert scaling.line(row(jax=jax)) == (
        "| chain | 1,000 | 4 | 1 | 1 | 1 | 1 | 1 | 1 | 6 | 2 | 20 | 2 |"
    )
    assert "| > 9 s | – |" in scaling.line(row(jax={"error": "> 9 s"}))


def test_another_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"graphgrad": 1.0, "jax": 1.5}
    monkeypatch.setattr(scaling, "measured", lambda python, name, *rest: row(value=values[name]))
    (found,) = scaling.measure(["chain"], [100], "python", 1.0)
    assert "1.5 with JAX" in scaling.line(found)


def test_a_peer_that_was_too_slow_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(python: str, name: str, *rest: Any) -> dict[str, Any]:
        asked.append(name)
        return row() if name == "graphgrad" else {"error": "> 1 s"}

    monkeypatch.setattr(scaling, "measured", measured)
    scaling.measure(["chain"], [100, 200, 300], "python", 1.0)
    assert asked == ["graphgrad", "jax", "graphgrad", "graphgrad"]


def test_a_process_that_takes_too_long_or_fails_is_reported() -> None:
    assert scaling.measured(sys.executable, "graphgrad", "chain", 100, 0.01)["error"] == "> 0 s"
    assert "KeyError" in scaling.measured(sys.executable, "graphgrad", "none", 9, 100)["error"]


def test_the_command_prints_a_table_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curve.svg"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--families", "chain", "--sizes", "50", "100",
         "--plot", str(picture)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("| chain | ") == 4
    assert "<svg" in picture.read_text()
