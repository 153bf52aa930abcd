"""Writes docs/loops.md, what becomes of loops, by compiling docs/loop_programs.py:
`python -m docs.loops_page`."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable
from pathlib import Path

import graphgrad as gg
from docs.loop_programs import OPERATIONS, PROGRAMS, Program
from graphgrad.compiler.codegen.python_loop import python_loop
from graphgrad.compiler.hosted import WAYS_OUT
from graphgrad.compiler.kernels.carried_arrays import LANES, LOOPS
from graphgrad.compiler.loop_report import LoopReport
from graphgrad.compiler.report import Report, schedule_text
from graphgrad.inspection import report_of

PAGE = Path(__file__).with_name("loops.md")

HEAD = """\
# What becomes of loops

Written by `python -m docs.loops_page`, which compiles the programs below; do not edit.

A Python loop over tensors in a `gg.function` is one operation of the graph, however many steps it
makes ([control_flow.md](control_flow.md) says which loops are converted). Its derivative is a loop
in the other direction, whether the tape is in the function or around its call. `f.report()` has a
paragraph for each, and `f.kernels()` shows it as Python:

- **How it runs.** *One function of scalar code*: the state is few numbers, in registers, or arrays
  of which steps change elements. *Its kernels one after the other*: larger state; each step calls
  the kernels and library routines of the body. *Led by the host*: Python runs a compiled program
  for each step.
- **Where the state is**: in registers; in memory, updated in place; in two memories that steps
  write in turn; or in its stack, where it is kept for the derivative anyway.
- **What was moved out**: what is the same in each step is computed before the loop, and so are
  products that need no state, for all steps at once; sums that steps only add to are computed
  behind it.
- **What is saved for the derivative, and why.** Of all values that the derivative reads, the
  cheapest cut is stored: state that only the step before makes, products and reductions, functions
  that cost more than memory. The bytes are those that the program allocates.
- **What is computed again**: what follows from the saved values by cheap operations.
"""

RULES = """\
## What makes a loop fast

- **Tensors to loop over.** A loop over a NumPy array or a list is Python's: it is unrolled, and
  each step becomes a part of the graph. Pass arrays as arguments, or as `gg.constant(array)`.
- **State that keeps its shape.** A buffer of fixed size and a count, not an array that grows,
  unless it is a list that the loop only appends to.
- **Few numbers, or large arrays.** Up to {lanes} elements a value are registers; then steps take
  nanoseconds. With arrays, a step costs its kernels, tens of nanoseconds each beyond their work:
  one product of a large matrix is better than many of small ones.
- **Elements by index.** `t[i, j] = v` writes in place, where nobody reads the old array later.
- **Rows rather than indices where there is a choice**: `for x in xs`. A counter from `gg.range`
  that only picks rows comes to the same.
- **A known number of steps** lets stacks be planned, and `loop_memory` place its checkpoints ahead.
- **Nothing in the step that needs Python**: see below. An assertion is a test of a flag, and costs
  nothing as long as it holds.
"""


def page() -> str:
    """The text of docs/loops.md."""
    parts = [HEAD, *map(section, PROGRAMS), RULES.format(lanes=LANES), slow_steps()]
    return "\n".join(parts)


def section(program: Program) -> str:
    """One program: its source, why it became what it did, its report and its loops."""
    trace = program.traced()
    report = report_of(trace)
    source = textwrap.dedent(inspect.getsource(program.function)).rstrip()
    parts = [f"## {program.title}\n", block(source, "python"), filled(program.why) + "\n"]
    parts += [block("\n\n".join(reports(report)), "text")]
    if program.code:
        steps = [s for s in trace.runner.compilation.steps if s.nodes[0].op.name in LOOPS]
        names = ("backward" if s.nodes[0].where.derivative else "forward" for s in steps)
        codes = [python_loop(s.nodes[0], name) for s, name in zip(steps, names, strict=True)]
        parts += [block("\n".join(codes).rstrip(), "text")]
    return "\n".join(parts)


def reports(report: Report) -> Iterable[str]:
    """The paragraphs of the loops at the top, and what a bound made of them."""
    for step in report.steps:
        if step.loop is not None:
            yield "\n".join(paragraph(step.loop))
            for inner in step.within:
                if inner.loop is not None:
                    yield textwrap.indent("\n".join(paragraph(inner.loop)), "    ")
    yield from map(schedule_text, report.schedules)


def paragraph(loop: LoopReport) -> list[str]:
    """A loop's part of the report, under its line."""
    place = loop.where.describe() if loop.where is not None else ""
    return [f"{loop.op}  # {place}", *(f"    {text}" for text in loop.lines())]


def slow_steps() -> str:
    """What has no native form, as the compiler finds, and the reasons that it gives."""
    native: list[str] = []
    called: list[str] = []
    for name, f in OPERATIONS.items():
        trace = gg.function(f).get_concrete_function(gg.TensorSpec([3, 3], gg.float64))
        hosted = any(step.kind == "host" for step in trace.runner.compilation.steps)
        (called if hosted else native).append(name)
    reasons = [f"- {reason}: {way_out}." for reason, way_out in WAYS_OUT.items()]
    return "\n".join(
        [
            "## What is not native\n",
            filled(
                "A native loop calls Python for what has no native form, a few microseconds for "
                f"each call. Of what one might expect, these are calls: {', '.join(called)}. And "
                f"these are native: {', '.join(native)}. A loop whose sizes only the run finds out "
                "is led by the host. The report names each such operation with its line, the "
                "reason, and a way out:"
            ),
            "",
            *(filled(reason, "  ") for reason in reasons),
            "",
        ]
    )


def block(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```\n"


def filled(text: str, indent: str = "") -> str:
    """`text` in lines of the page's width."""
    return textwrap.fill(text, 100, subsequent_indent=indent, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
