"""The disk cache as users meet it: second processes, edits, damage, forks, several at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from graphgrad.runtime.engine import host_target

HOST = host_target()
ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, sys
import numpy as np
import graphgrad as gg
from graphgrad.runtime.cache import default_cache

FACTOR = {factor}

@gg.function
def f(x, i):
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = gg.reduce_sum(gg.tanh(x) * {constant} + FACTOR)
    picked = gg.gather(x, i)
    return y, tape.gradient(y, x), picked

x = gg.constant(np.linspace(-1, 1, 37, dtype=np.float32))
y, g, _ = f(x, gg.constant([0, 36]))
try:
    f(x, gg.constant([0, 40]))
    error = ""
except IndexError as e:
    error = str(e)
stats = default_cache().stats()
print(json.dumps(dict(
    y=float(y), g=g.numpy().tolist(), error=error, hits=stats["hits"], misses=stats["misses"],
    numba="numba" in sys.modules, passes="graphgrad.compiler.driver" in sys.modules,
)))
"""


def expected(constant: float, factor: float) -> float:
    import numpy as np

    x = np.linspace(-1, 1, 37, dtype=np.float32).astype(np.float64)
    return float((np.tanh(x) * constant + factor).sum())


def command(folder: Path, text: str, name: str = "program.py") -> tuple[list[str], dict[str, Any]]:
    path = folder / name
    path.write_text(text)
    environment = os.environ | {
        "GRAPHGRAD_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    return [sys.executable, "-W", "error", str(path)], {"env": environment, "text": True}


def run(folder: Path, text: str, name: str = "program.py") -> dict[str, Any]:
    arguments, options = command(folder, text, name)
    done = subprocess.run(arguments, capture_output=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def program(constant: float = 2.0, factor: float = 0.5) -> str:
    return PROGRAM.format(constant=constant, factor=factor)


def close(result: dict[str, Any], constant: float, factor: float) -> bool:
    return abs(result["y"] - expected(constant, factor)) < 1e-3


def test_a_second_process_compiles_nothing_and_never_imports_numba(tmp_path: Path) -> None:
    first = run(tmp_path, program())
    assert first["misses"] > 0
    assert first["numba"]
    assert first["passes"]
    second = run(tmp_path, program())
    assert second["misses"] == 0
    assert second["hits"] == first["misses"]
    assert not second["numba"]
    assert not second["passes"]
    assert second["y"] == first["y"]
    assert second["g"] == first["g"]


def test_machines_that_share_a_home_share_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each compiles for itself, finds its own again, and computes the same."""
    if HOST.triple.split("-")[0] != "x86_64":
        pytest.skip("names x86-64's levels")
    first, again = [], []
    for found in (first, again):
        for cpu in ("", "x86-64-v2"):
            monkeypatch.setenv("GRAPHGRAD_CPU", cpu)
            found.append(run(tmp_path, program()))
    assert all(r["hits"] == 0 and r["misses"] == first[0]["misses"] for r in first)
    assert all(r["misses"] == 0 and r["hits"] == first[0]["misses"] for r in again)
    assert len({json.dumps((r["y"], r["g"])) for r in (*first, *again)}) == 1


@pytest.mark.parametrize(("constant", "factor"), [(3.0, 0.5), (2.0, 0.75)])
def test_a_changed_constant_or_global_is_not_served_from_the_cache(
    tmp_path: Path, constant: float, factor: float
) -> None:
    assert close(run(tmp_path, program()), 2.0, 0.5)
    assert close(run(tmp_path, program(constant, factor)), constant, factor)


def test_moved_lines_hit_the_cache_and_errors_name_the_new_line(tmp_path: Path) -> None:
    first = run(tmp_path, program())
    moved = run(tmp_path, "\n\n\n" + program())
    assert moved["misses"] == 0
    line = next(i for i, s in enumerate(program().splitlines(), 1) if "gg.gather" in s)
    assert f"program.py:{line}:" in first["error"]
    assert f"program.py:{line + 3}:" in moved["error"]
    assert "index 40 is out of range for axis 0 with size 37" in moved["error"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_damaged_entries_are_misses(tmp_path: Path, damage: str) -> None:
    first = run(tmp_path, program())
    entries = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert entries
    for path in entries:
        data = path.read_bytes()
        if damage == "truncate":
            path.write_bytes(data[: len(data) // 2])
        elif damage == "flip":
            middle = len(data) // 2
            path.write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
        else:
            path.write_bytes(b"" if damage == "empty" else b"not an object file" * 100)
    again = run(tmp_path, program())
    assert again["y"] == first["y"]
    assert again["misses"] > 0


def test_several_processes_at_once_agree(tmp_path: Path) -> None:
    arguments, options = command(tmp_path, program())
    running: Sequence[subprocess.Popen[str]] = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        for _ in range(3)
    ]
    results = []
    for process in running:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        results.append(json.loads(out.splitlines()[-1]))
    assert all(r["y"] == results[0]["y"] and r["g"] == results[0]["g"] for r in results)


FORKING = """
import json, os
import numpy as np
import graphgrad as gg

f = gg.function(lambda x: gg.reduce_sum(gg.exp(x) * 2.0))
x = gg.constant(np.arange(40, dtype=np.float32) / 40)
before = float(f(x))
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    g = gg.function(lambda x: gg.reduce_sum(gg.tanh(x) * 3.0))
    os.write(writer, json.dumps([float(f(x)), float(g(x))]).encode())
    os._exit(0)
os.waitpid(child, 0)
same, new = json.loads(os.read(reader, 1000))
print(json.dumps(dict(before=before, after=float(f(x)), same=same, new=new)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_runs_and_compiles(tmp_path: Path) -> None:
    import numpy as np

    result = run(tmp_path, FORKING)
    x = np.arange(40, dtype=np.float32) / 40
    assert result["before"] == result["after"] == result["same"]
    assert abs(result["new"] - float((np.tanh(x) * 3).sum())) < 1e-3
