"""Loops as users write them: NumPy tells what values and derivatives are, in one mode or another.

Each program runs compiled, with its gradient, and in further modes in turn. All programs in all
modes: `python -m tests.graphgrad.loop_programs`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.loop_programs import modes
from tests.graphgrad.loop_programs.program import Table
from tests.graphgrad.loop_programs.tables import PROGRAMS

DEAR = ("soft_time_warping", "fourier_by_loops", "gmres", "connectionist_loss", "shortest_paths")
NAMES = list(PROGRAMS)


def in_turn(name: str, choice: Any) -> Any:
    """One of the modes that fit a program, another one for the next program."""
    fitting = [m for m in choice if modes.fits(PROGRAMS[name], m)]
    return fitting[NAMES.index(name) % len(fitting)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_values(name: str) -> None:
    modes.check(PROGRAMS[name], modes.compiled)
    modes.check(PROGRAMS[name], in_turn(name, modes.VALUES))


@pytest.mark.filterwarnings("ignore:The dtype of the watched tensor")
@pytest.mark.parametrize("name", [n for n, p in PROGRAMS.items() if p.order and n not in DEAR])
def test_derivatives(name: str) -> None:
    if NAMES.index(name) % 2:
        modes.check(PROGRAMS[name], modes.gradient)
    else:
        modes.check(PROGRAMS[name], in_turn(name, modes.FIRST + modes.SECOND))


PROCESS = """
import sys
import numpy as np
import graphgrad as gg
from tests.graphgrad.loop_programs import modes
from tests.graphgrad.loop_programs.tables import PROGRAMS

for name in sys.argv[1:]:
    p = PROGRAMS[name]
    for y in modes.leaves(gg.function(p.f)(*modes.lifted(p.args))):
        print(np.asarray(y).tobytes().hex())
    print(float(modes.gradient(p)).hex())
print("compiled" if "llvmlite" in sys.modules else "stored")
"""
STORED = "leapfrog", "bouncing_ball", "viterbi", "gated_units", "k_means", "elimination_with_pivots"


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    run = [sys.executable, "-W", "ignore", "-c", PROCESS, *STORED]
    environment = {**os.environ, "GRAPHGRAD_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    first, second = (
        subprocess.run(run, capture_output=True, text=True, env=environment, check=True).stdout
        for _ in range(2)
    )
    assert first.split()[:-1] == second.split()[:-1]
    assert (first.split()[-1], second.split()[-1]) == ("compiled", "stored")


def test_what_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value, and a derivative, that are off by a little."""
    table = Table()

    @table(x=[0.5, 0.25], n=3)
    def halved(x: Any, n: Any) -> Any:
        for _ in range(n):
            x = np.sin(x) * 0.5
        return x

    p = table["halved"]
    modes.check(p, modes.compiled)
    modes.check(p, modes.gradient)
    modes.check(p, modes.reverse_over_reverse)
    wrong = gg.custom_gradient(lambda x: (gg.sin(x), lambda g: g * gg.cos(x) * 1.0001))
    monkeypatch.setattr(np, "sin", lambda x: wrong(x) if isinstance(x, gg.Tensor) else x - x**3 / 6)
    for mode in (modes.compiled, modes.eager, modes.gradient, modes.reverse_over_reverse):
        with pytest.raises(AssertionError):
            modes.check(p, mode)
