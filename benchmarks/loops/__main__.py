"""Measure loops beside Numba and JAX: `python -m benchmarks.loops --help`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numba
import numpy as np

from benchmarks import machine
from benchmarks.loops.measure import Row, check, measure
from benchmarks.loops.program import PROGRAMS, SCALAR, TOLERANCE, difference, program
from benchmarks.measure import LIBRARIES
from benchmarks.report import PAGE, duration, times, write_between_marks

ROOT = Path(__file__).parent.parent.parent
ASKED = 1.5  # times Numba's time, at most
ASKED_SCALAR = 1.2
HEAD = ("program", "trips", "graphgrad", "Numba", "ratio", "asked", "JAX", "a trip", "first call",
        "Numba's first", "native")  # fmt: skip


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loops", description="Loops beside Numba's, by hand."
    )
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS),
                        metavar="PROGRAM", help=f"some of {', '.join(PROGRAMS)}")  # fmt: skip
    parser.add_argument("--quick", action="store_true",
                        help="tiny sizes, right or wrong only; compiles no Numba")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=2.0, help="for each program (2)")
    parser.add_argument("--timeout", type=float, default=120.0, help="for each program (120)")
    parser.add_argument("--core", type=int, help="the core to stay on")
    parser.add_argument("--jax", metavar="PYTHON", help="the Python that has JAX")
    parser.add_argument("--write", action="store_true", help="put the table into "
                        "docs/performance.md")  # fmt: skip
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def environment(cache: Path) -> dict[str, str]:
    """One thread for each library, and an empty cache, so that first calls compile. Memory that is
    freed stays with the process (glibc's settings): page faults would take half of Numba's time.
    Byte code may be written: installed packages have it, and first calls import modules."""
    kept = {f"MALLOC_{name}_": str(1 << 32) for name in ("MMAP_THRESHOLD", "TRIM_THRESHOLD")}
    one = {f"{library}_NUM_THREADS": "1" for library in LIBRARIES}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    given = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {
        **given, **one, **kept, "PYTHONPATH": path.strip(os.pathsep),
        "GRAPHGRAD_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }  # fmt: skip


def apart(command: list[str], options: argparse.Namespace, cache: Path) -> str | dict[str, float]:
    """What a process says in its last line, or what went wrong."""
    pin = [] if options.core is None else ["taskset", "-c", str(options.core)]
    try:
        out = subprocess.run(
            [*pin, *command], cwd=ROOT, env=environment(cache), capture_output=True, text=True,
            timeout=options.timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no answer in {options.timeout:g} s"
    if out.returncode:
        return (out.stderr.strip().splitlines() or [f"exit {out.returncode}"])[-1][:300]
    return json.loads(out.stdout.splitlines()[-1])


def measured(name: str, options: argparse.Namespace) -> Row:
    """A program in a process of its own, then JAX's scan in another."""
    with tempfile.TemporaryDirectory(prefix="graphgrad-loops-") as folder:
        cache = Path(folder)
        command = [sys.executable, "-m", "benchmarks.loops", "--child", "--only", name,
                   "--seconds", str(options.seconds)]  # fmt: skip
        found = apart(command, options, cache)
        if isinstance(found, str):
            return Row(name, program(name).title, problem=found)
        row = Row(**found)  # type: ignore[arg-type]
        if options.jax and name not in (*SCALAR, "newton"):
            _add_jax(row, options, cache)
        return row


def _add_jax(row: Row, options: argparse.Namespace, folder: Path) -> None:
    p = program(row.name)
    inputs, file = p.arguments(p.size), folder / "inputs.npz"
    np.savez(file, *inputs)
    command = [options.jax, "-m", "benchmarks.loops.jax_scans", row.name, str(file)]
    command += [str(options.seconds), ",".join(map(str, p.argnums))]
    found = apart(command, options, folder)
    if isinstance(found, str):
        row.problem = row.problem or f"JAX: {found}"
        return
    with np.load(folder / "inputs.jax.npz") as results:
        error = difference([results[k] for k in results.files], p.by_hand.py_func(*inputs))
    if not error <= TOLERANCE:
        row.problem = row.problem or f"JAX's differs by {error:.1e}"
    row.jax = found["seconds"]


def cells(row: Row) -> list[str]:
    asked = ASKED_SCALAR if row.name in SCALAR else ASKED
    if not row.ours:
        return [row.title, *[""] * (len(HEAD) - 2), f"failed: {row.problem}"]
    ratio = times(row.ours / row.numba)
    return [
        row.title, f"{row.trips:,}", duration(row.ours), duration(row.numba),
        ratio if row.ours <= asked * row.numba else f"**{ratio}**", f"{asked:g}x",
        duration(row.jax) if row.jax else "–", duration(row.ours / row.trips),
        duration(row.first), duration(row.numba_first), "yes" if row.native else "no",
    ]  # fmt: skip


def table(rows: list[Row]) -> str:
    lines = [HEAD, ["---", *["--:"] * (len(HEAD) - 2), "---"], *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(rows: list[Row]) -> str:
    timed = [r for r in rows if r.ours]
    slower = [r.title for r in timed if r.jax and r.jax < r.numba]
    reached = sum(r.ours <= (ASKED_SCALAR if r.name in SCALAR else ASKED) * r.numba for r in timed)
    return (
        f"{reached} of {len(rows)} reach what is asked. Numba's code by hand is slower than JAX's "
        f"scan in: {', '.join(slower) or 'none'}."
    )


def quick(names: list[str]) -> int:
    """Compare results at tiny sizes; no Numba is compiled."""
    wrong = 0
    for name in names:
        p = program(name)
        error = check(p, p.tiny, p.by_hand.py_func)
        wrong += not error <= TOLERANCE
        print(f"{p.title}: differs by {error:.1e}", flush=True)
    return 1 if wrong else 0


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.quick:
        return quick(options.only)
    if options.child:
        (name,) = options.only
        p = program(name)
        print(json.dumps(asdict(measure(name, p, p.size, options.seconds))))
        return 0
    rows = []
    for name in options.only:
        rows.append(measured(name, options))
        print(" | ".join(cells(rows[-1])), rows[-1].problem, flush=True)
    wrong = "\n".join(f"- {row.title}: {row.problem}" for row in rows if row.problem)
    said = (
        f"Measured on {datetime.date.today()}: {machine.description()}; Numba {numba.__version__}."
    )
    text = "\n\n".join(filter(None, (said, table(rows), summary(rows), wrong)))
    print(f"\n{text}")
    if options.write:
        write_between_marks(PAGE, "loops", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
