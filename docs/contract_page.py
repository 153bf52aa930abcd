"""Writes docs/contract.md, what is equal in which mode, from the op records:
`python -m docs.contract_page`."""

from __future__ import annotations

import textwrap
from pathlib import Path

from docs.ops_page import DEFAULT_ULP
from graphgrad.compiler.families import Composite, Control, Elementwise, Library, Reduce
from graphgrad.compiler.op import Op, ops

PAGE = Path(__file__).with_name("contract.md")

HEAD = """\
# What is equal in which mode

Written by `python -m docs.contract_page` from the op records in `compiler/ops/`; do not edit.

One program can run eagerly, under a tape, in a compiled `gg.function`, interpreted
(`jit_compile=False`), batched by `gg.vmap`, and with its tapes' walks compiled. This page says how
far the results may differ, and tests hold every op of the table to it: each is run on random and on
edge inputs (zeros of both signs, infinities, NaN, subnormals, ties) in each mode, and compared with
an oracle of higher precision.

- What an op promises is for **equal inputs of that op**. Past a discontinuity (a comparison, floor,
  argmax of near ties) two runs may take different sides if what came before differed by a rounding.
- NaN, ties, -0.0 and infinities behave the same in every mode; so do errors: an index out of range
  and an integer division by zero raise in all of them, with the same text and the user's line.
- float16 and bfloat16 round after every operation, fused or not.
- Results do not depend on the number of threads or the width of vectors, BLAS's products excepted.
- One difference is allowed: a stability rewrite (log(1 + exp(x)) and the like) may be finite and
  right where the operations as written overflow. It applies to compiled functions and to
  derivatives in every mode, and `f.report()` lists each one.
- Random bits and uniform draws are the same bits in every mode; normal draws, and others made of
  logarithms and the like, agree within the errors of those.
- Functions with `flush_denormals=True` are outside of all this where numbers are subnormal: their
  compiled code takes these for zero, as operands and as results, and the other modes do not.

Gradients are made of ops, so they keep to the same bounds: a derivative rule is the same in every
mode. Outside of functions, a tape's walk that comes again and again is compiled; from then on its
gradients are those of the compiled mode.
"""

CLASSES = {
    "bits": (
        "Equal to the bit",
        "Data movement, comparisons, logic, integers, and float arithmetic that IEEE 754 rounds "
        "correctly. Nothing is contracted (`a * b + c` rounds twice) or reassociated.",
    ),
    "ulp": (
        "Within units in the last place",
        "The error of a float32 or float64 result, in every mode, in units in the last place "
        "(ULP). Two modes may differ by the sum of their errors.",
    ),
    "sums": (
        "Within a multiple of eps",
        "The order of a compiled reduction follows from its extents alone; eager NumPy has "
        "another, and a matrix product that of the BLAS. Convolutions are such sums too, and held "
        "to 16; so are the means of windows, to 4, and their maxima are equal to the bit. The "
        "number is what tests allow on the samples of the table, times eps, times the "
        "largest input or result.",
    ),
    "parts": (
        "As their parts",
        "Compositions of other ops, and control flow, whose bodies are ops: what holds for the "
        "parts holds for them.",
    ),
}


def kind(op: Op) -> str:
    """Which class of the contract an op belongs to."""
    if isinstance(op, Control) or op.samples is None:
        return "parts"
    error = op.samples.ulp
    if isinstance(op, Composite) and error == DEFAULT_ULP:
        return "parts"
    if error <= 0.5 or (op.nondifferentiable and error == DEFAULT_ULP):
        return "bits"
    if isinstance(op, Elementwise):
        return "ulp"
    exact = {"max", "min", "any", "all"}
    if isinstance(op, Reduce):
        return "bits" if op.combiner in exact else "sums"
    return "sums" if isinstance(op, Library | Composite) or op.name == "matmul" else "ulp"


def named(op: Op) -> str:
    """The op as users know it."""
    return f"`{op.public_names[0]}`"


def section(name: str, chosen: list[Op]) -> str:
    """The heading, the words and the ops of one class."""
    title, words = CLASSES[name]
    if name in ("bits", "parts"):
        listed = filled(", ".join(map(named, chosen)))
    else:
        by_error: dict[float, list[str]] = {}
        for op in chosen:
            assert op.samples is not None
            by_error.setdefault(op.samples.ulp, []).append(named(op))
        unit = "ULP" if name == "ulp" else "eps"
        listed = "\n".join(
            filled(f"- {error:g} {unit}: {', '.join(found)}", "  ")
            for error, found in sorted(by_error.items())
        )
    return f"## {title}\n\n{filled(words)}\n\n{listed}\n"


def filled(text: str, indent: str = "") -> str:
    """`text` in lines of the page's width."""
    return textwrap.fill(text, 100, subsequent_indent=indent, break_on_hyphens=False)


def page() -> str:
    """The text of docs/contract.md."""
    public = sorted((o for o in ops.values() if o.public_names), key=lambda o: o.public_names[0])
    classes: dict[str, list[Op]] = {name: [] for name in CLASSES}
    for op in public:
        classes[kind(op)].append(op)
    return "\n".join([HEAD, *(section(name, chosen) for name, chosen in classes.items())])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
