"""Writes docs/ops.md, the table of all ops, from the op records: `python -m docs.ops_page`."""

from __future__ import annotations

from pathlib import Path

from graphgrad.compiler.dtypes import as_dtype
from graphgrad.compiler.families import Composite, Control, Elementwise, Reduce
from graphgrad.compiler.op import Op, Samples, ops
from graphgrad.compiler.ops import FUNCTIONS

PAGE = Path(__file__).with_name("ops.md")

HEAD = """\
# Ops

Written by `python -m docs.ops_page` from the op records in `compiler/ops/`; do not edit.

- **name**: as users call it, after `gg.`; other names in brackets. **IR**: its name in the IR.
- **dtypes**: those that tests hold the op to, by their short names (f32 is float32, bf16 bfloat16,
  i64 int64, u8 uint8). Others of the same kind are accepted too.
- **derivative**: *partials* (one formula an input, for both directions), *linear* (a transpose
  rule), *vjp, jvp* (two rules), *parts* (that of the ops it is made of), or *none*.
- **vmap**: *same op*, *shifted axes*, *rule* (one of its own), *parts*, *sub-graph*, or *one
  by one*.
- **ULP**: the greatest error in units in the last place that tests allow the float32 and float64
  result, eager and compiled; for sums and products over many elements it is a multiple of what
  their length implies. 0 is bit-exact.
"""

COLUMNS = ("name", "IR", "family", "dtypes", "derivative", "vmap", "ULP", "")
DEFAULT_ULP = Samples().ulp


def derivative(op: Op) -> str:
    """Which kind of derivative rule the record has."""
    if op.transpose is not None:
        return "linear"
    if op.vjp is not None:
        return "vjp, jvp"
    if isinstance(op, Elementwise) and op.partials is not None:
        return "partials" if any(op.partials) else "none"
    return "parts" if op.by_parts else "none"


def batching(op: Op) -> str:
    """How `vmap` treats it: see compiler/transform/batching.py."""
    if isinstance(op, Control):
        return "sub-graph"
    if op.batch is not None:
        return "rule"
    if isinstance(op, Elementwise):
        return "same op"
    if isinstance(op, Reduce):
        return "shifted axes"
    return "parts" if op.decompose is not None else "one by one"


def declared_error(op: Op) -> str:
    """The declared ULP, where the results are numbers that round."""
    if op.samples is None or (op.nondifferentiable and op.samples.ulp == DEFAULT_ULP):
        return ""
    return f"{op.samples.ulp:g}"


def short_dtypes(op: Op) -> str:
    """Its tested dtypes: f32, f64, ..."""
    return " ".join(as_dtype(d).short for d in op.samples.dtypes) if op.samples else ""


def first_sentence(text: str) -> str:
    """What stands before the example, up to the first full stop, on one line."""
    words = " ".join(text.partition(">>>")[0].split())
    return words.partition(". ")[0].rstrip(".").replace("|", "\\|") + "."


def row(op: Op) -> str:
    """The op's line of the table."""
    names = [f"`{n}`" for n in op.public_names]
    shown = names[0] + (f" ({', '.join(names[1:])})" if names[1:] else "") if names else ""
    family = type(op).__name__
    cells = (
        shown, f"`{op.name}`", family if family != "Op" else "", short_dtypes(op), derivative(op),
        batching(op), declared_error(op), first_sentence(op.doc),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def table(chosen: list[Op]) -> str:
    """A Markdown table of ops."""
    head = "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|"
    return "\n".join([head, *map(row, chosen)])


def page() -> str:
    """The text of docs/ops.md."""
    public = sorted((o for o in ops.values() if o.public_names), key=lambda o: o.public_names[0])
    inner = sorted((o for o in ops.values() if not o.public_names), key=lambda o: o.name)
    made = [f"- `{n}`: {first_sentence(f.__doc__ or '')}" for n, f in sorted(FUNCTIONS.items())]
    composites = sum(isinstance(o, Composite) for o in ops.values())
    return "\n".join(
        [
            HEAD,
            f"{len(ops)} ops, of which {composites} are composites of others.",
            "\n## Public\n",
            table(public),
            "\n## Internal\n",
            "What derivatives, control flow and functions of the library are made of.\n",
            table(inner),
            "\n## Functions made of ops\n",
            *made,
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
