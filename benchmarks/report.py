"""The Markdown of a run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import OURS, TOLERANCE, Results, Row, geometric_mean

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
# The sections.
CALLS, TWO, START = "Calls, one core", "Calls, two cores", "Import and first call"
MEMORY = "Memory"


def duration(seconds: float) -> str:
    """Three digits and a unit.

    >>> duration(0.00001234)
    '12.3 µs'
    """
    units = ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns"))
    factor, unit = next((u for u in units if seconds * u[0] >= 0.9995), units[-1])
    value = seconds * factor
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def shown(row: Row, name: str) -> str:
    """The minimum of a column, in its unit."""
    best = row.figures[name].best
    return duration(best) if row.unit == "s" else f"{best / 2**20:.1f} MiB"


def times(ratio: float) -> str:
    """A ratio in two digits, or in three where they tell it from 1 or stand before the point.

    >>> times(12.34), times(0.954), times(123.4), times(61345)
    ('12x', '0.954x', '123x', '61300x')
    """
    digits = 3 if 0.9 < ratio < 1 or ratio >= 99.5 else 2
    rounded = float(f"{ratio:.{digits}g}")
    return f"{rounded:.0f}x" if rounded >= 10 else f"{rounded:g}x"


def cell(row: Row, name: str) -> str:
    """The minimum, and how many times our minimum it is; bold where it is less."""
    figure = row.figures.get(name)
    if figure is None:
        return "–"
    if not figure.samples:
        return "error" if figure.error else "–"
    text = shown(row, name)
    if figure.error:
        return f"{text} WRONG"
    ratio = None if name == OURS else row.ratio(name)
    if ratio is None:
        return text
    return f"{text} **{times(ratio)}**" if ratio < TOLERANCE else f"{text} {times(ratio)}"


def table(rows: list[Row], names: list[str]) -> str:
    """One row a measurement, one column a framework that has a figure in any of them."""
    names = [n for n in names if any(n in row.figures for row in rows)]
    lines = ["| | " + " | ".join(names) + " |", "|---" + "|--:" * len(names) + "|"]
    lines += [
        f"| {row.title} | " + " | ".join(cell(row, name) for name in names) + " |" for row in rows
    ]
    return "\n".join(lines)


def summary(rows: list[Row]) -> str:
    """Geometric means of the best peer over graphgrad, and where a peer is ahead."""
    ratios = {row.key: best for row in rows if (best := row.best_peer())}
    if not ratios:
        return ""
    ours = [ratios[row.key][0] for row in rows if row.key in ratios and not row.bound]
    parts = []
    if ours:
        parts.append(
            f"{times(geometric_mean(ours))} over the rows that neither a call, one plain reduction "
            f"nor a BLAS bounds ({len(ours)})"
        )
    every = [ratio for ratio, _ in ratios.values()]
    parts.append(f"{times(geometric_mean(every))} over all ({len(every)})")
    return (
        "The time of the best peer over that of graphgrad, geometric mean: "
        f"{', '.join(parts)}. {behind(rows)}"
    )


def behind(rows: list[Row]) -> str:
    """The rows in which the best peer needs less than TOLERANCE of what we need."""
    late = [
        f"{row.title} ({best[1]}, {times(best[0])})"
        for row in rows
        if (best := row.best_peer()) and best[0] < TOLERANCE
    ]
    return f"Behind {TOLERANCE} of the best peer: {'; '.join(late) or 'none'}."


def bounds(rows: list[Row], limits: dict[str, float]) -> str:
    """How long the memory traffic or the products of a row take at NumPy's rates, and we."""
    lines = ["| | at that rate | for | graphgrad |", "|---|--:|---|--:|"]
    for row in rows:
        ours = row.figures.get(OURS)
        if not (row.traffic or row.flops):
            continue
        least, what = (
            (row.traffic / limits["copy"], f"{row.traffic / 1e6:.0f} MB of memory traffic")
            if row.traffic
            else (row.flops / limits["product"], f"{row.flops / 1e6:.0f} Mflop")
        )
        ratio = times(ours.best / least) if ours and ours.right else "–"
        lines.append(f"| {row.title} | {duration(least)} | {what} | {ratio} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def problems(sections: dict[str, list[Row]]) -> str:
    """What went wrong, a line each."""
    return "\n".join(
        f"- {section}, {row.title}, {name}: {figure.error}"
        for section, rows in sections.items()
        for row in rows
        for name, figure in row.figures.items()
        if figure.error
    )


def report(results: Results, picture: str = "") -> str:
    """All of it: machine, versions, figures, bounds, and what went wrong."""
    names = list(results.versions)
    rows = {s: results.sections.get(s, []) for s in (CALLS, TWO, START, MEMORY)}
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    parts = [
        f"Measured on {results.date}: {results.machine}; {versions}.",
        "A cell is the minimum, and how many times that of graphgrad it is; **bold** where a peer "
        f"needs less than {TOLERANCE} of what graphgrad needs.",
        f"![The time of each peer over that of graphgrad, by row]({picture})" if picture else "",
    ]
    for section, judge in ((CALLS, summary), (TWO, summary), (START, behind), (MEMORY, behind)):
        if rows[section]:
            parts += [f"### {section}", judge(rows[section]), table(rows[section], names)]
    if "1" in results.limits:
        parts += ["### Beside the machine", rates(results.limits)]
        parts += [bounds(rows[CALLS], results.limits["1"])]
    wrong = problems(rows)
    parts += ["### What went wrong", wrong] if wrong else []
    return "\n\n".join(p for p in parts if p)


def rates(limits: dict[str, dict[str, float]]) -> str:
    """What NumPy reaches on this machine."""
    words = {"1": "one core copies", "2": "two cores copy"}
    shown = (
        f"{words[cores]} {rate['copy'] / 1e9:.1f} GB/s and "
        f"{'multiplies' if cores == '1' else 'multiply'} at {rate['product'] / 1e9:.0f} Gflop/s"
        for cores, rate in limits.items()
    )
    return (
        f"With NumPy, {', '.join(shown)}: bytes read and written, and the operations of a product "
        "of float32 matrices of 1024 x 1024."
    )


def write_between_marks(path: Path, name: str, text: str) -> None:
    """Replace what stands between the two marks of that name in the file at `path`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path} has no {begin} ... {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
