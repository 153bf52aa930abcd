"""Error and speed of the elementary functions: `python -m benchmarks.functions --help`.

Errors are measured through compiled functions against mpmath (float64) and float64 (float32), speed
in a process for each framework (`function_speed.py`), in turns. `--write docs/math.md` puts the
tables there. With many `--points` it is the long version of the accuracy tests.
"""

from __future__ import annotations

import argparse
import datetime
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import scipy

import graphgrad as gg
from benchmarks import machine
from benchmarks.elementary import ELEMENTARY, points, truth, worst
from benchmarks.function_speed import DTYPES
from benchmarks.report import write_between_marks
from graphgrad.compiler.op import ops
from graphgrad.compiler.scalar.expansions import EXPANSIONS, ULP

ROOT = Path(__file__).parent.parent
Speeds = dict[str, dict[str, dict[str, float]]]  # framework, function, dtype: nanoseconds
Errors = dict[str, dict[str, tuple[float, float]]]  # function, dtype: ours, NumPy's


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.functions", description=__doc__)
    parser.add_argument("--only", default=",".join(ELEMENTARY), metavar="NAMES")
    parser.add_argument("--points", type=int, default=4000,
                        help="float64 points of each kind (250 times as many float32)")  # fmt: skip
    parser.add_argument("--jax", metavar="PYTHON", help="the Python that has JAX")
    parser.add_argument("--seconds", type=float, default=0.1, help="for each speed, a round")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each framework")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="put the tables there")
    return parser.parse_args()


def errors(names: list[str], count: int) -> Errors:
    """The greatest errors in ULP, ours and NumPy's (of finite results)."""
    found: Errors = {}
    for name in names:
        found[name] = {}
        for dtype in DTYPES:
            arrays = points(name, dtype, count * (250 if dtype == "float32" else 1))
            true = truth(name, arrays)
            got = gg.function(ops[name])(*arrays).numpy()
            ours, where = worst(got, true, arrays)
            found[name][dtype] = ours, _numpys_error(name, arrays, true)
            print(f"{name} {dtype}: {ours:.3f} ULP at {where}", flush=True)
    return found


def _numpys_error(name: str, arrays: tuple[Any, ...], true: Any) -> float:
    if not isinstance(ELEMENTARY[name].wide, np.ufunc):
        return float("nan")
    with np.errstate(all="ignore"):
        got = ELEMENTARY[name].wide(*arrays)
        finite = np.isfinite(got) & np.isfinite(true.astype(got.dtype))
    return worst(got[finite], true[finite], tuple(x[finite] for x in arrays))[0]


def speeds(names: list[str], options: argparse.Namespace) -> Speeds:
    """The least times of all rounds."""
    pythons = {"graphgrad": sys.executable, "numpy": sys.executable}
    if options.jax:
        pythons["jax"] = options.jax
    least: Speeds = {}
    for _ in range(options.rounds):
        for framework, python in pythons.items():
            command = [python, "-m", "benchmarks.function_speed", framework]
            command += [str(options.seconds), ",".join(names)]
            out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            times = json.loads(out.stdout)
            before = least.get(framework, times)
            least[framework] = {
                name: {d: min(t, before[name][d]) for d, t in of_name.items()}
                for name, of_name in times.items()
            }
    return least


def markdown(rows: list[list[str]], head: list[str]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def error_table(found: Errors) -> str:
    """What is declared, what was measured, and NumPy's own error."""
    head = ["function", "bound f32", "f64", "measured f32", "f64", "NumPy f32", "f64"]
    rows = []
    for name, of_name in found.items():
        pairs = [of_name[d] for d in DTYPES]
        row = [f"`{name}`", *(f"{ULP[name][d]:g}" for d in DTYPES)]
        row += [f"{ours:.2f}" for ours, _ in pairs]
        row += ["–" if numpys != numpys else f"{numpys:.2f}" for _, numpys in pairs]
        rows.append(row)
    return markdown(rows, head)


def speed_table(found: Speeds) -> str:
    """Nanoseconds an element, and how many times ours the others take in the geometric mean."""
    ours, others = found["graphgrad"], [f for f in found if f != "graphgrad"]
    short = {"float32": "f32", "float64": "f64"}
    head = ["function", *(f"{f} {short[d]}" for d in DTYPES for f in found)]
    rows = [
        [f"`{name}`", *(f"{found[f][name][d]:.2f}" for d in DTYPES for f in found)] for name in ours
    ]
    last = ["geometric mean of ratios"]
    for d in DTYPES:
        last.append("1")
        for f in others:
            logs = [np.log(found[f][name][d] / ours[name][d]) for name in ours]
            last.append(f"**{np.exp(np.mean(logs)):.2f}x**")
    return markdown([*rows, last], head)


def methods() -> str:
    """The first paragraph of each expansion's docstring."""
    lines = []
    for name in ELEMENTARY:
        text = inspect.getdoc(EXPANSIONS[name].build) or ""
        lines.append(f"- **{name}**: " + " ".join(text.partition("\n\n")[0].split()))
    return "\n".join(lines)


def main() -> None:
    options = parse()
    names = options.only.split(",")
    found, times = errors(names, options.points), speeds(names, options)
    packages = [f"{p.__name__} {p.__version__}" for p in (gg, np, scipy, mpmath)]
    if options.jax:
        code = "import jax; print('jax', jax.__version__)"
        packages.append(subprocess.check_output([options.jax, "-c", code], text=True).strip())
    counts = f"{options.points * 250:,} and {options.points:,} points of each kind"
    text = f"""\
Measured on {datetime.date.today()}: {machine.description()}; {", ".join(packages)}.

Units in the last place, at {counts} (float32, float64):

{error_table(found)}

Nanoseconds an element, one core, the least of many calls on {1 << 17:,} elements; SciPy where NumPy
has no such function:

{speed_table(times)}

How they are computed:

{methods()}"""
    print(text)
    if options.write:
        write_between_marks(options.write, "benchmarks", text)


if __name__ == "__main__":
    main()
