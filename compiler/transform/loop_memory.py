"""Loops whose reverse keeps within a bound: checkpoints of the state, and the steps between again.

What the reverse of a scan of n steps reads is stacked, n times the residuals of a step. Where that
is more than the bound, the scan is taken as a scan of segments, each of which is a `recompute` of k
steps: the outer scan stacks the state once a segment, the reverse of a segment runs its steps again
and stacks their residuals. The least memory is at k = sqrt(n * state / residuals); where even that
is too much, the outer scan is divided in turn (Griewank & Walther 2008, chapter 12).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.residuals import nominal_bytes
from graphgrad.compiler.transform.subgraphs import apply, build
from graphgrad.compiler.types import TensorType, tensor_type

DEPTH = "loop depth"  # in the same place: how often the loop was divided
DEEPEST = 2  # each level runs the loop once more
KEY = "loop memory"  # in the memo of a body: the bytes that the loop may keep


class _Local(threading.local):
    bound: int | None = None


_local = _Local()


@contextmanager
def bounded_loops(nbytes: int | None) -> Iterator[None]:
    """Loops that are traced meanwhile keep at most so many bytes for their reverse; None: as
    before."""
    before = _local.bound
    _local.bound = before if nbytes is None else nbytes
    try:
        yield
    finally:
        _local.bound = before


def note_bound(body: Graph) -> None:
    """Note the bound that is in force with the body of a loop."""
    if _local.bound is not None:
        body.memo[KEY] = _local.bound


def bound_of(body: Graph) -> int | None:
    found: int | None = body.memo.get(KEY)
    return found


def segment_length(body: Graph, augmented: Graph, carried: int, length: int) -> int | None:
    """How many steps to make between checkpoints; None where all may be kept."""
    bound = bound_of(body)
    each = sum(nominal_bytes(t) for t in augmented.output_types[len(body.outputs) :])
    depth = body.memo.get(DEPTH, 0)
    if bound is None or length < 4 or each * length <= bound or depth == DEEPEST:
        return None
    state = max(1, sum(nominal_bytes(t) for t in body.types[:carried]))
    if state >= each * length // 2:
        return None  # one checkpoint would be as large
    steps = max(2, min(length // 2, round(math.sqrt(length * state / each))))
    if steps * each + length // steps * state > bound:
        steps = max(2, round(length ** (1 / 3)), min(steps, bound // (2 * each)))
    return steps


def in_segments(
    types: Sequence[TensorType], body: Graph, carried: int, scanned: int, length: int,
    reverse: bool, steps: int,
) -> Graph:  # fmt: skip
    """The graph of a scan over inputs of `types`, as a scan over segments of so many steps; what
    remains is scanned by itself, last."""
    settings = {"masked": False, "varying": (), "padded": (), "reverse": reverse}
    whole, rest = divmod(length, steps)
    bounds, body = body.memo, Graph(body.params, body.nodes, body.outputs, body.name)
    split = carried + scanned

    def over(n: int, inputs: Sequence[Any]) -> list[Any]:
        return list(
            apply(
                ops["scan"], inputs, body_graph=body, carried=carried, scanned=scanned, length=n,
                **settings,
            )
        )  # fmt: skip

    entries = [tensor_type((steps, *t.shape[1:]), t.dtype) for t in types[carried:split]]
    inner = [*types[:carried], *entries, *types[split:]]
    segment = build("segment", inner, lambda _, *xs: over(steps, xs))
    again = build(
        "segment again",
        inner,
        lambda _, *xs: ops["recompute"](*xs, graph=segment, again=(True,) * len(xs)),
    )
    again.memo[KEY] = bounds[KEY]
    again.memo[DEPTH] = bounds.get(DEPTH, 0) + 1

    def make(_: Any, *inputs: Any) -> list[Any]:
        state, xs, captures = inputs[:carried], inputs[carried:split], inputs[split:]
        first = rest if reverse else 0  # where the segments begin
        rows = [rows_of(x, first, whole * steps) for x in xs]
        rows = [x.reshape((whole, steps, *x.shape[1:])) for x in rows]
        found = apply(
            ops["scan"], [*state, *rows, *captures], body_graph=again, carried=carried,
            scanned=scanned, length=whole, **settings,
        )  # fmt: skip
        state = found[:carried]
        stacks = [y.reshape((whole * steps, *y.shape[2:])) for y in found[carried:]]
        if not rest:
            return [*state, *stacks]
        left = [rows_of(x, 0 if reverse else whole * steps, rest) for x in xs]
        last = over(rest, [*state, *left, *captures])
        pairs = zip(stacks, last[carried:], strict=True)
        joined = [ops["concat"]([b, a] if reverse else [a, b], 0) for a, b in pairs]
        return [*last[:carried], *joined]

    return build(f"segments of {body.name}", list(types), make)


def rows_of(x: Any, start: int, count: int) -> Any:
    """Some entries along the first axis."""
    rest = x.shape[1:]
    return ops["slice"](x, (start, *(0 for _ in rest)), (count, *rest))
