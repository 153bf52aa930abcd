"""Measure, print the table, and write it if asked: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
from pathlib import Path

from benchmarks import machine, measure
from benchmarks.table import Row, duration, problems, table, write_between_marks
from benchmarks.workloads import WORKLOADS

FIRST_CALL = "network"  # whose first call is measured, in fresh processes


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=measure.__doc__)
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="the Python that has a peer, jax or torch; without it, this one is tried",
    )
    parser.add_argument("--only", default="", metavar="ROWS", help="rows, separated by commas: "
                        f"imports, first, {', '.join(WORKLOADS)}")  # fmt: skip
    parser.add_argument("--budget", type=float, default=3.0, help="seconds for each figure")
    parser.add_argument("--rounds", type=int, default=3, help="turns of a process")
    parser.add_argument("--launches", type=int, default=3, help="processes for each figure")
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes of each kind")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--write", type=Path, metavar="FILE.md", help="put the table between the marks of this file"
    )
    return parser.parse_args()


def measure_rows(
    frameworks: list[measure.Framework], options: argparse.Namespace, caches: Path
) -> list[Row]:
    """All rows that are asked for, each printed when it is there."""
    wanted = [name for name in options.only.split(",") if name] or ["imports", "first", *WORKLOADS]
    rows: list[Row] = []

    def add(key: str, title: str, figures: dict[str, measure.Figure]) -> None:
        rows.append((key, title, figures))
        shown = (f"{n} {duration(f.best)}" for n, f in figures.items() if f.samples)
        print(f"{title}: {', '.join(shown)}", flush=True)

    if "imports" in wanted:
        add("imports", "import, once NumPy is there",
            measure.imports(frameworks, options.repeats, caches))  # fmt: skip
    if "first" in wanted:
        for state, figures in measure.firsts(
            frameworks, FIRST_CALL, options.repeats, caches
        ).items():
            title = f"first call of the MLP's gradients, {state} cache"
            add(f"first_{state}", title, figures)
    for name in (n for n in wanted if n in WORKLOADS):
        figures = measure.steady(
            frameworks, name, options.budget, options.rounds, options.launches, caches
        )
        add(name, WORKLOADS[name].title, figures)
    return rows


def bounds(rows: list[Row], limits: dict[str, float]) -> str:
    """How long the memory traffic or the products of a row take at NumPy's rates, and we."""
    lines = ["| | at that rate | for | graphgrad |", "|---|---|---|---|"]
    for key, title, figures in rows:
        w = WORKLOADS.get(key)
        ours = figures.get("graphgrad")
        if w is None or not (w.traffic or w.flops):
            continue
        least, what = (
            (w.traffic / limits["copy"], f"{w.traffic / 1e6:.0f} MB of memory traffic")
            if w.traffic
            else (w.flops / limits["product"], f"{w.flops / 1e6:.0f} Mflop in products")
        )
        ratio = f"{ours.best / least:.2g}x" if ours and ours.samples else "–"
        lines.append(f"| {title} | {duration(least)} | {what} | {ratio} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def report(frameworks: list[measure.Framework], rows: list[Row], limits: dict[str, float]) -> str:
    """The Markdown: machine, versions, figures, bounds, and what went wrong."""
    versions = ", ".join(f"{f.name} {f.version()}" for f in frameworks)
    parts = [
        f"Measured on {datetime.date.today()}: {machine.description()}; {versions}.",
        "A cell is the minimum (median) of a call; **2x** is a minimum twice that of graphgrad.",
        table(rows, [f.name for f in frameworks]),
        f"With NumPy, one core of this machine copies {limits['copy'] / 1e9:.1f} GB/s (bytes read "
        "and written), and multiplies float32 matrices of 1024 x 1024 at "
        f"{limits['product'] / 1e9:.0f} Gflop/s.",
        bounds(rows, limits),
        problems(rows),
    ]
    return "\n\n".join(p for p in parts if p)


def main() -> None:
    options = parse()
    given = dict(p.partition("=")[::2] for p in options.peer)
    frameworks = measure.found_frameworks(given)
    with tempfile.TemporaryDirectory(prefix="graphgrad-bench-") as caches:
        rows = measure_rows(frameworks, options, Path(caches))
        limits = measure.limits(Path(caches))
    text = report(frameworks, rows, limits)
    print("\n" + text)
    if options.json:
        figures = {key: {n: f.as_json() for n, f in row.items()} for key, _, row in rows}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.write:
        write_between_marks(options.write, text)


if __name__ == "__main__":
    main()
