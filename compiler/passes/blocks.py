"""Blocks of arrays, cut out and put back at places that are known."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.op import Application, ops
from graphgrad.compiler.passes.patterns import Facts, node_rule


def at_known_places(root: Application, facts: Facts) -> Any:
    """A block whose starts are numbers is a view."""
    if len(root.inputs) > 1:
        return None
    a = root.attrs
    return ops["slice"](root.inputs[0], a["starts"], a["sizes"], a["steps"])


def put_back(root: Application, facts: Facts) -> Any:
    """x without a block, plus this block of x alone, is x: the cotangent of x in `x[a:b] += y`.
    Every element gets a 0 on the way, which makes -0 a +0."""
    made = [facts.producer(x) for x in root.inputs]
    for without, alone in (made, made[::-1]):
        if without is None or alone is None or (without.op.name, alone.op.name) != PARTS:
            continue
        x, zeros, *dynamic = without.inputs
        cut = facts.producer(alone.inputs[0])
        if dynamic or facts.scalar(zeros) != 0 or cut is None or cut.op.name != "slice":
            continue
        place = without.attrs["starts"], without.attrs["steps"]
        same = place == (alone.attrs["starts"], alone.attrs["steps"])
        if same and cut.inputs[0] is x and place == (cut.attrs["starts"], cut.attrs["steps"]):
            return x + 0
    return None


PARTS = ("update_slice", "unslice")
RULES = (
    node_rule("slice at known places", ("dynamic_slice",), at_known_places),
    node_rule(
        "a block put back",
        ("add",),
        put_back,
        lambda children: {name for name, _ in children} == {*PARTS},
    ),
)
