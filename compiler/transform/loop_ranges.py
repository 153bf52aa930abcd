"""Slices of a scan that are functions of the step: counted instead of stored.

`for i in range(n)` is a scan over the numbers up to n, an array that nobody needs: where memory is
bounded, the state has a counter, and the body computes the slice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.ir import Builder, Graph, Node, Value
from graphgrad.compiler.op import ops, reapply
from graphgrad.compiler.transform.subgraphs import build, place, used_params
from graphgrad.compiler.types import tensor_type

COUNT = tensor_type((), dtypes.int64)


def counting(
    builder: Builder, inputs: Sequence[Value], attrs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], bool] | None:
    """The inputs and attributes of the scan with a counter behind its state, if its number is read;
    and whether it has
    become a while_loop, as no slice is left to tell a length that only the run knows. None where
    there is no slice to be counted."""
    carried, scanned, length = attrs["carried"], attrs["scanned"], attrs["length"]
    split = carried + scanned
    makers = {v: n for n in builder.nodes for v in n.outputs}
    xs = inputs[carried:split]
    found = [numbers(makers, x) for x in xs]
    if not any(f is not None for f in found):
        return None
    body: Graph = attrs["body_graph"]
    scalars = list(dict.fromkeys(s for f in found if f is not None for s in f.scalars))
    left = [x for x, f in zip(xs, found, strict=True) if f is None]
    limit = None
    if not left and not isinstance(length, int):
        limit = next((f.limit for f in found if f is not None and f.limit is not None), None)
        if limit is None or attrs["reverse"] or len(body.outputs) > carried:
            return None
    used = used_params(body)[carried:split]
    counts = limit is not None or any(u and f is not None for u, f in zip(used, found, strict=True))
    entries = [tensor_type(x.type.shape[1:], x.dtype) for x in left]
    limits = [] if limit is None else [limit]
    captures = [*inputs[split:], *scalars, *limits]
    more = [COUNT] if counts else []
    types = [*(x.type for x in inputs[:carried]), *more, *entries, *(x.type for x in captures)]

    def make(b: Any, *values: Any) -> list[Any]:
        state, rest = values[:carried], values[carried + len(more) :]
        step = values[carried] if counts else b.lift(0, dtypes.int64)
        slices, outer = iter(rest[: len(left)]), rest[len(left) :]
        at = ops["sub"](b.lift(length - 1, dtypes.int64), step) if attrs["reverse"] else step
        known = dict(zip(scalars, outer[len(inputs) - split :], strict=False))
        every = [next(slices) if f is None else f.at(at, known) for f in found]
        outs = place(b, body, [*state, *every, *outer[: len(inputs) - split]])
        return [*outs[:carried], *([step + 1] if counts else []), *outs[carried:]]

    graph = build(body.name, types, make)
    start = [builder.lift(0, dtypes.int64)] if counts else []
    new = (*inputs[:carried], *start, *left, *captures)
    if limit is None:
        settings = {"body_graph": graph, "carried": carried + len(more), "scanned": len(left)}
        return new, {**attrs, **settings}, False
    asked = build(
        "steps left", types,
        lambda b, *xs: [ops["less"](xs[carried], ops["cast"](xs[-1], dtypes.int64))],
    )  # fmt: skip
    return new, {
        "cond_graph": asked, "body_graph": graph, "carried": carried + 1,
        "maximum_iterations": None, "trips": None, "lists": False, "varying": (), "padded": (),
    }, True  # fmt: skip


class Numbers:
    """Values that are a function of their place along the one axis that they have."""

    def __init__(
        self, make: Callable[[Any, Mapping[Any, Any]], Any], scalars: tuple[Any, ...] = (),
        limit: Any = None,
    ) -> None:  # fmt: skip
        self.at = make  # the value at an index, from what the scalars are
        self.scalars = scalars
        self.limit = limit  # the number of values, where a value tells it


def numbers(makers: Mapping[Value, Node], x: Value) -> Numbers | None:
    """What `x` is as a function of its place; None where it is an array like any other."""
    node = makers.get(x)
    if node is None or x.type.ndim != 1:
        return None
    name = node.op.name
    if name in ("iota", "places"):
        limit = node.inputs[0] if name == "places" else None
        return Numbers(lambda k, _: ops["cast"](k, x.dtype), (), limit)
    if name == "broadcast_to" and node.inputs[0].type.ndim == 0:
        scalar = node.inputs[0]
        return Numbers(lambda _, known: known[scalar], (scalar,))
    if not isinstance(node.op, Elementwise) or node.op.failures:
        return None
    parts = [numbers(makers, v) for v in node.inputs]
    if not all(p is not None for p in parts):
        return None
    known_parts = [p for p in parts if p is not None]
    return Numbers(
        lambda k, known: reapply(node.op, [p.at(k, known) for p in known_parts], node.attrs)[0],
        tuple(s for p in known_parts for s in p.scalars),
        next((p.limit for p in known_parts if p.limit is not None), None),
    )
