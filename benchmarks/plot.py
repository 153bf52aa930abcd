"""A picture of a run: the time of each peer over that of graphgrad, row by row."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import OURS, Row

# Middle tones and grey text on no background: readable on white and on black.
INK = "#8a8f98"
STYLES = {
    "numpy": ("#9aa0a6", "o"),
    "jax": ("#3f8efc", "s"),
    "torch": ("#f0643c", "^"),
    "torch-compile": ("#f0643c", "v"),
    "tensorflow": ("#e8a317", "D"),
    "tf-xla": ("#e8a317", "X"),
    "pytensor": ("#b56cf0", "P"),
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
    settings = {
        "svg.fonttype": "none",  # letters stay letters
        "svg.hashsalt": "graphgrad",  # the same figures make the same file
        "font.family": "sans-serif",
        "font.size": 10,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK
        ),
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(10, 1.6 + 0.3 * sum(heights) + 0.5 * len(heights)))
        axes = figure.subplots(
            len(shown), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights}
        )[:, 0]
        names = {name for rows in shown.values() for row in rows for name in row.figures}
        for axis, (title, rows) in zip(axes, shown.items()):
            axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
            axis.set_yticks(range(len(rows)), [row.title for row in rows])
            axis.set_ylim(len(rows) - 0.5, -0.5)
            axis.set_xscale("log")
            axis.grid(color=INK, alpha=0.25, linewidth=0.6)
            axis.set_axisbelow(True)
            axis.axvline(1, color=INK, linewidth=1.5)
            axis.spines[["top", "right", "left"]].set_visible(False)
            axis.tick_params(length=0)
            for name in (n for n in STYLES if n in names):
                color, marker = STYLES[name]
                points = [(r, y) for y, row in enumerate(rows) if (r := row.ratio(name))]
                axis.scatter(
                    [r for r, _ in points], [y for _, y in points], 38,
                    color=color, marker=marker, label=name, zorder=3, linewidths=0,
                )  # fmt: skip
        last = axes[-1]
        last.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}x"))
        last.xaxis.set_minor_formatter(NullFormatter())
        last.set_xlabel(
            f"time over that of {OURS} (log scale): right of the line, {OURS} is faster"
        )
        axes[0].legend(
            loc="lower center", bbox_to_anchor=(0.3, 1.0 + 0.35 / (0.3 * heights[0])),
            ncols=len(names), frameon=False, handletextpad=0.1, columnspacing=1.2,
        )  # fmt: skip
        figure.savefig(
            path, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None}
        )
