"""The padding of an image becomes that of the convolution which reads it, and of its gradients."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.ir import Value
from graphgrad.compiler.op import Application, reapply
from graphgrad.compiler.passes.patterns import Facts, node_rule
from graphgrad.compiler.types import Shape

Pairs = tuple[tuple[int, int], ...]


def around(shape: Shape, starts: Any, sizes: Shape) -> Pairs | None:
    """What is before and after a block along the spatial axes, if it is whole along the others."""
    pairs = [(s, n - s - m) for n, s, m in zip(shape, starts, sizes, strict=True)]
    if not all(isinstance(n, int) for pair in pairs for n in pair):
        return None
    return tuple(pairs[1:-1]) if not any((*pairs[0], *pairs[-1])) else None


def padded(x: Value, facts: Facts) -> tuple[Value, Pairs] | None:
    """What `x` is, with that many zeros before and after the spatial axes."""
    made = facts.producer(x)
    if made is None or made.op.name not in ("update_slice", "unslice"):
        return None
    if made.op.name == "unslice":
        inner = made.inputs[0]
    else:
        number = facts.scalar(made.inputs[0])
        if len(made.inputs) > 2 or number is None or number != 0:
            return None
        inner = made.inputs[1]
    if any(n != 1 for n in made.attrs["steps"]):
        return None
    pairs = around(x.type.shape, made.attrs["starts"], inner.type.shape)
    return None if pairs is None else (inner, pairs)


def added(padding: Pairs, more: Pairs) -> Pairs:
    """Both paddings, one around the other."""
    return tuple(
        (low + before, high + after)
        for (low, high), (before, after) in zip(padding, more, strict=True)
    )


def of_padded(root: Application, facts: Facts) -> Any:
    """conv(pad(x), w) as conv(x, w) with more padding; its gradient by the filter too."""
    found = padded(root.inputs[0], facts)
    if found is None:
        return None
    inner, pairs = found
    attrs = {**root.attrs, "padding": added(root.attrs["padding"], pairs)}
    return reapply(root.op, (inner, root.inputs[1]), attrs)[0]


def gradient_of_padded(root: Application, facts: Facts) -> Any:
    """The inside of the gradient by a padded image, without what is around it."""
    x, made = root.inputs[0], facts.producer(root.inputs[0])
    if made is None or made.op.name != "conv_input_gradient" or not facts.used_once(x):
        return None
    if len(root.inputs) > 1 or any(n != 1 for n in root.attrs["steps"]):
        return None
    sizes = root.outputs[0].type.shape
    pairs = around(x.type.shape, root.attrs["starts"], sizes)
    if pairs is None:
        return None
    padding = added(made.attrs["padding"], pairs)
    attrs = {**made.attrs, "padding": padding, "input_size": sizes[1:-1]}
    return reapply(made.op, made.inputs, attrs)[0]


RULES = (
    node_rule(
        "convolution of padding",
        ("conv", "conv_filter_gradient"),
        of_padded,
        lambda children: children[0][0] in ("update_slice", "unslice"),
    ),
    node_rule(
        "slice of an input gradient",
        ("slice", "dynamic_slice"),
        gradient_of_padded,
        lambda children: children[0][0] == "conv_input_gradient",
    ),
)
