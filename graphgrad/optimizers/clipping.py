"""Gradients cut down to a norm or a range, by Keras's formulas."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.op import ops


def by_norm(g: Any, limit: float) -> Any:
    """`g`, scaled down where its Euclidean norm is above `limit`."""
    norm = ops["sqrt"](ops["sum"](g * g))
    return g * limit / ops["maximum"](norm, limit)


def by_global_norm(grads: list[Any], limit: float) -> list[Any]:
    """All of `grads`, scaled by one number where the norm of them together is above `limit`.

    All become NaN where the norm is not finite: a direction that is lost is not replaced by zeros.
    """
    norm = ops["sqrt"](_total([ops["sum"](g * g) for g in grads]))
    scale = limit * ops["minimum"](1.0 / norm, 1.0 / limit) + (norm - norm)
    return [g * scale.cast(g.dtype) for g in grads]


def _total(terms: list[Any]) -> Any:
    """The sum of scalars in pairs, so that its error grows with the logarithm of their number."""
    while len(terms) > 1:
        terms = [*map(ops["add"], terms[::2], terms[1::2]), *terms[len(terms) & ~1 :]]
    return terms[0]


def by_value(grads: list[Any], limit: float) -> list[Any]:
    """Each element brought into -limit..limit."""
    return [ops["minimum"](ops["maximum"](g, -limit), limit) for g in grads]
