"""Figures as a Markdown table."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import Figure

Row = tuple[str, str, dict[str, Figure]]  # its key, its title, its figures by framework

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


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


def cell(figure: Figure | None, ours: Figure | None) -> str:
    """The minimum, the median in brackets, and how many times our minimum it is."""
    if figure is None:
        return "–"
    if not figure.samples:
        return "error" if figure.error else "–"
    text = f"{duration(figure.best)} ({duration(figure.median)})"
    if figure.error:
        return f"{text} WRONG"
    if ours is None or ours is figure or not ours.samples:
        return text
    return f"{text} **{figure.best / ours.best:.2g}x**"


def table(rows: list[Row], names: list[str]) -> str:
    """One row a measurement, one column a framework."""
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for _, title, figures in rows:
        ours = figures.get("graphgrad")
        cells = [cell(figures.get(name), ours) for name in names]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def problems(rows: list[Row]) -> str:
    """What went wrong, a line each."""
    return "\n".join(
        f"- {name}, {title}: {f.error}"
        for _, title, figures in rows
        for name, f in figures.items()
        if f.error
    )


def write_between_marks(path: Path, text: str) -> None:
    """Replace what stands between the two marks in the file at `path`."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no {BEGIN} ... {END}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
