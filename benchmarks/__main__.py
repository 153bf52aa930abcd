"""Measure, print the tables, and write them: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks import machine, measure, plot
from benchmarks.figures import Results, Row
from benchmarks.frameworks import KNOWN
from benchmarks.report import CALLS, MEMORY, PAGE, START, TWO, report, shown, write_between_marks
from benchmarks.workloads import WORKLOADS

PICTURE = PAGE.with_suffix(".svg").name
OUT, SAMPLES = measure.ROOT / "build" / "bench", "samples.json"
IMPORT = "import"
FIRST_CALLS = {
    "mlp_vg": "the MLP's gradients",
    "rosenbrock_unrolled": "Rosenbrock's 99 terms of scalars",
}
PEAKS = ("chain_fwd", "chain_vg", "mlp_step_512")
MORE = {
    "sweep": "kernels at many sizes",
    "convolution_sweep": "convolutions of many sizes",
    "functions": "mathematical functions",
    "loops": "programs with loops, beside Numba",
    "scaling": "compile time by the size of the graph",
}
PEERS = [name for name in KNOWN if name not in ("graphgrad", "numpy")]
BLOCKS = ("benchmarks", "convolutions")  # places of the page for tables
GROUPS = {w.group: [n for n, v in WORKLOADS.items() if v.group == w.group]
          for w in WORKLOADS.values() if w.group}  # fmt: skip
DEFAULT = measure.Effort(budget=1.0, rounds=3, launches=2, repeats=5, patience=12, timeout=120)
QUICK = measure.Effort(budget=0.1, rounds=2, launches=1, repeats=1, patience=0, timeout=120)


def peer(text: str) -> tuple[str, str]:
    """A peer's name and the Python that has it."""
    name, _, python = text.partition("=")
    if name not in PEERS or not python:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PYTHON with NAME in {PEERS}")
    return name, python


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure graphgrad beside its peers, and print Markdown.",
    )
    rows = [IMPORT, "first", "memory", *(n for n, w in WORKLOADS.items() if not w.group)]
    more = [name for group, names in GROUPS.items() for name in (group, *names)]
    parser.add_argument("--rows", nargs="+", choices=[*rows, *more], default=rows, metavar="ROW",
                        help=f"some of {', '.join(rows)}; left out unless they are named: "
                        f"{', '.join(GROUPS)}, or some of {', '.join(more)}")  # fmt: skip
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, metavar="PEER",
                        help=f"some of {', '.join(PEERS)}, or none")  # fmt: skip
    parser.add_argument(
        "--peer",
        action="append",
        type=peer,
        default=[],
        metavar="NAME=PYTHON",
        help="the Python that has a peer (jax, torch, tensorflow, pytensor); by default this one",
    )
    parser.add_argument("--quick", action="store_true", help="a rough look")
    for name, meaning in (
        ("budget", "seconds for each figure"),
        ("rounds", "turns of a process"),
        ("launches", "processes for each figure"),
        ("repeats", "fresh processes for imports and first calls"),
        ("timeout", "seconds until a process that does not answer is given up"),
    ):
        kind = type(getattr(DEFAULT, name))
        parser.add_argument(f"--{name}", type=kind, help=f"{meaning} ({getattr(DEFAULT, name)})")
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="FOLDER",
        help="where samples, tables and picture go (build/bench)",
    )  # fmt: skip
    parser.add_argument(
        "--again", action="store_true", help="measure nothing: report the samples of --out again"
    )
    parser.add_argument(
        "--write", nargs="?", const=BLOCKS[0], choices=BLOCKS, metavar="BLOCK",
        help="put the tables into docs/performance.md too, with the picture (benchmarks) or "
        "without (convolutions)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    options.rows = [name for row in options.rows for name in GROUPS.get(row, [row])]
    if options.again and not (options.out / SAMPLES).exists():
        parser.error(f"--again: {options.out} has no {SAMPLES} yet")
    return options


def effort(options: argparse.Namespace) -> measure.Effort:
    """How long to measure, by the options."""
    chosen = QUICK if options.quick else DEFAULT
    fields = {f: getattr(options, f, None) for f in chosen.__dataclass_fields__}
    given = {f: value for f, value in fields.items() if value is not None}
    return measure.Effort(**{**vars(chosen), **given})


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def measure_all(options: argparse.Namespace, caches: Path) -> Results:
    """Each row that is asked for, printed when it is there."""
    much = effort(options)
    peers = [name for name in PEERS if name in options.peers]
    versions, missing = measure.find(peers, dict(options.peer))
    frameworks = list(versions)
    results = Results(
        date=str(datetime.date.today()),
        machine=machine.description(),
        versions={f.name: version for f, version in versions.items()},
    )
    print("\n".join(missing), flush=True)

    def add(section: str, row: Row) -> None:
        results.sections.setdefault(section, []).append(row)
        found = (f"{n} {shown(row, n)}" for n, f in row.figures.items() if f.samples)
        print(f"{row.title}: {', '.join(found)}", flush=True)

    workloads = [WORKLOADS[name] for name in options.rows if name in WORKLOADS]
    for threads, section in ((1, CALLS), (2, TWO)):
        chosen = [w for w in workloads if w.cores or threads == 1]
        if threads > cores() and chosen:
            print("two cores are left out: this process may use one", flush=True)
            continue
        for w in chosen:
            figures = measure.steady(frameworks, w.name, much, caches, threads)
            add(section, Row(w.name, w.title, figures, w.bound, w.traffic, w.flops))
        if chosen:
            results.limits[str(threads)] = measure.limits(caches, threads)
    if IMPORT in options.rows:
        figures = measure.imports(frameworks, much, caches)
        add(START, Row(IMPORT, "import, once NumPy is there", figures))
    for name, what in FIRST_CALLS.items() if "first" in options.rows else ():
        for state, figures in measure.firsts(frameworks, name, much, caches).items():
            title = f"first call of {what}, {state} cache"
            add(START, Row(f"first_{name}_{state}", title, figures))
    for name in PEAKS if "memory" in options.rows else ():
        figures = measure.peaks(frameworks, name, much, caches)
        add(MEMORY, Row(f"memory_{name}", WORKLOADS[name].title, figures, unit="B"))
    return results


def draw(results: Results, folder: Path) -> bool:
    """Draw the picture of a run, if there is one to draw."""
    timed = {section: rows for section, rows in results.sections.items() if section != MEMORY}
    if not any(row.best_peer() for rows in timed.values() for row in rows):
        return False
    if importlib.util.find_spec("matplotlib") is None:
        print("no picture: matplotlib is missing")
        return False
    plot.draw(timed, folder / PICTURE)
    return True


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    samples = options.out / SAMPLES
    if options.again:
        results = Results.load(samples)
    else:
        with tempfile.TemporaryDirectory(prefix="graphgrad-bench-") as caches:
            results = measure_all(options, Path(caches))
        options.out.mkdir(parents=True, exist_ok=True)
        results.save(samples)
    drawn = draw(results, options.out)
    text = report(results, PICTURE if drawn else "")
    (options.out / PAGE.name).write_text(text + "\n", encoding="utf-8")
    print(
        f"\n{text}\n\nIn {options.out}: {', '.join(sorted(f.name for f in options.out.iterdir()))}"
    )
    more = [m for m in MORE if importlib.util.find_spec(f"benchmarks.{m}")]
    print("More:", "; ".join(f"python -m benchmarks.{m} ({MORE[m]})" for m in more))
    if options.write:
        pictured = options.write == BLOCKS[0]
        write_between_marks(PAGE, options.write, text if pictured else report(results))
        if drawn and pictured:
            shutil.copy(options.out / PICTURE, PAGE.parent)


if __name__ == "__main__":
    main()
