"""Random functions with loops: values and derivatives of any mode against NumPy's.

More of them: `python -m tests.graphgrad.test_random_loops FIRST LAST`.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.loop_programs import modes
from tests.graphgrad.loop_programs.program import Program
from tests.graphgrad.random_loops import arguments, function_of, loaded

SIZES = (4, 40)  # of vectors that are held in registers, and in memory
ORDERS = (modes.gradient, modes.forward, modes.reverse_over_reverse, modes.gradients_of_examples,
          modes.gradient_of_open_sizes, modes.tape_around)  # fmt: skip


def program(seed: int, size: int, folder: Path) -> Program:
    return Program(f"seed {seed}", function_of(seed, size, folder), tuple(arguments(seed, size)))


def is_smooth(p: Program) -> bool:
    """Do differences of NumPy's values tell the derivatives?"""
    slopes = [modes.slope(p, h=h) for h in (1e-5, 3e-5)]
    bends = [modes.curvature(p, h) for h in (5e-4, 1.2e-3)]
    return bool(np.isclose(*slopes, rtol=1e-6, atol=1e-8) and np.isclose(*bends, rtol=1e-4))


@pytest.mark.filterwarnings("ignore:The dtype of the watched tensor")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(12))
def test_random_loops(seed: int, size: int, tmp_path: Path) -> None:
    p = program(seed, size, tmp_path)
    modes.check(p, modes.compiled)
    if is_smooth(p):
        modes.check(p, ORDERS[seed % len(ORDERS)])


def test_a_planted_update_of_a_wrong_element_is_found(tmp_path: Path) -> None:
    found = 0
    for seed in range(6):
        p = program(seed, SIZES[0], tmp_path)
        path = tmp_path / f"random_loops_{seed}_{SIZES[0]}.py"
        args: Any = modes.lifted(p.args)
        right = [np.asarray(y) for y in gg.function(p.f)(*args)]
        path.write_text(path.read_text().replace("] += 0.1", "] -= 0.1").replace("0.7 *", "0.71 *"))
        wrong = modes.run_by_numpy(Program("wrong", loaded(path), p.args), p.args)
        found += any(not np.allclose(a, b, rtol=1e-9) for a, b in zip(right, wrong, strict=True))
    assert found > 2


def main(first: int, last: int) -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, last):
            for size in SIZES:
                p = program(seed, size, Path(folder))
                smooth = is_smooth(p)
                values = (modes.compiled, modes.of_open_sizes, modes.of_examples)
                checks = [values[0], values[seed % 3], *([ORDERS[seed % 6]] if smooth else [])]
                for mode in checks:
                    try:
                        modes.check(p, mode)
                    except Exception as error:
                        last_frame = traceback.extract_tb(error.__traceback__)[-1]
                        print(f"seed {seed}, size {size}, {mode.__name__}: "
                              f"{type(error).__name__} {last_frame.filename}:{last_frame.lineno} "
                              f"{error}"[:700], flush=True)  # fmt: skip
            if seed % 50 == 0:
                print("at", seed, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
