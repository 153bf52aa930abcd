"""A picture of a run: the time of each peer over that of graphgrad, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.figures import OURS, Row

# Middle tones and grey letters on no background: readable on white and on black.
INK = "#858b95"
STYLES = {
    "numpy": ("#858b95", "o"),
    "jax": ("#3f8efc", "s"),
    "torch": ("#f0643c", "^"),
    "torch-compile": ("#d6336c", "v"),
    "tensorflow": ("#e8a317", "D"),
    "tf-xla": ("#3da35d", "X"),
    "pytensor": ("#b56cf0", "P"),
}
COLORED = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
SETTINGS = {
    "svg.fonttype": "none",  # letters stay letters
    "svg.hashsalt": OURS,  # the same figures make the same file
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(COLORED, INK),
}


def draw(sections: dict[str, list[Row]], path: Path) -> None:
    """Write an SVG. Needs matplotlib."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    shown = {
        title: [row for row in rows if row.best_peer()]
        for title, rows in sections.items()
        if any(row.best_peer() for row in rows)
    }
    heights = [len(rows) for rows in shown.values()]
    present = {name for rows in shown.values() for row in rows for name in row.figures}
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(10, 1 + 0.3 * sum(heights) + 0.4 * len(heights)),
                        layout="constrained")  # fmt: skip
        axes = figure.subplots(
            len(shown), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights}
        )[:, 0]
        for axis, (title, rows) in zip(axes, shown.items()):
            _panel(axis, title, rows, [name for name in STYLES if name in present])
        axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}x"))
        axes[-1].xaxis.set_minor_formatter(NullFormatter())
        axes[-1].set_xlabel(f"time over that of {OURS}, which is faster right of the line")
        marks = axes[0].get_legend_handles_labels()
        figure.legend(*marks, loc="outside upper center", ncols=len(present), frameon=False,
                      handletextpad=0.1, columnspacing=1.2)  # fmt: skip
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _panel(axis: Any, title: str, rows: list[Row], names: list[str]) -> None:
    """One section: a line a row, a mark a framework."""
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axis.set_yticks(range(len(rows)), [row.title for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xscale("log")
    axis.grid(color=INK, alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.axvline(1, color=INK, linewidth=1.5)
    axis.spines[:].set_visible(False)
    axis.tick_params(which="both", length=0)
    for name in names:
        color, marker = STYLES[name]
        points = [(r, y) for y, row in enumerate(rows) if (r := row.ratio(name))]
        x, y = zip(*points) if points else ((), ())
        axis.scatter(x, y, 42, color=color, marker=marker, label=name, zorder=3, linewidths=0)
