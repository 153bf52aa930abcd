"""Loops: `while_loop`, and `scan`, into which its reverse turns.

Both run a body graph whose first `carried` parameters are the state and whose first `carried`
outputs are the next state, of the same types. Further outputs are *stacked*: the result has one
entry a step along a new first axis. The last parameters are captures, the same in every step.

A `while_loop` without stacked outputs is what a trace makes. Its reverse needs what each step read:
then the body also stacks its state and its residuals, and the op has one output more, the `flags`,
true for each step. The number of steps is known only when it has run: the first axis of what it
stacks is the attribute `trips`, a symbol of its own that no argument binds (`sizes.runtime_size`).
Where `trips` is a size that is known, it is a capacity: at most so many steps are made, and what
they did not fill of the stacks is zeros, their flags false.

The attribute `varying` lists the axes of the state whose size may change from step to step, as
(place in the state, axis, size of the result). The parameters of the body have run-time sizes of
their own there, which each step binds anew. What is stacked may then differ in size as well:
`padded` lists such axes, as (place among the stacked outputs, axis, size of the stack), and the
entries are followed by zeros up to the largest. The reverse cuts them to their sizes again.

With `lists` some of what is stacked are the elements of lists of the user: their lengths follow
from `trips`, so examples of a vmap must all make as many steps.

A `scan` also reads one slice a step of each *scanned* input. The reverse of either loop is a scan
over the stacks in the other direction, so derivatives of any order are loops with stacked values,
never copies of whole histories. A `masked` scan has bool flags as its first scanned input: a step
whose flag is false leaves the state as it is and stacks zeros (lanes of a vmap that are done).
`room`, where memory is bounded, is how many bytes passes may stack beside what the scan stacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.families import Control
from graphgrad.compiler.interpret import Array, run_graph
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.transform.sizes import at_sizes, bind_sizes, specialise
from graphgrad.compiler.transform.subgraphs import build, must_be_chosen, output_types, place
from graphgrad.compiler.types import TensorType, same_shape, tensor_type

Axes = tuple[tuple[int, int, Extent], ...]  # (place of a value, its axis, the size of the result)


def check_carried(
    op: str, entering: Sequence[TensorType], leaving: Sequence[TensorType], varying: Axes = ()
) -> None:
    """The state keeps its types from step to step, but for the sizes of `varying` axes."""
    for i, (a, b) in enumerate(zip(entering, leaving, strict=False)):
        if not same_but(a, b, [axis for k, axis, _ in varying if k == i]):
            error = DTypeError if a.dtype is not b.dtype else ShapeError
            raise error(
                f"{op}: loop variable {i} enters the body as {a} and leaves it as {b}; its "
                "type must stay the same"
            )
    if len(entering) > len(leaving):
        raise ArgumentError(
            f"{op}: {len(entering)} loop variables, and the body returns {len(leaving)}"
        )


def same_but(a: TensorType, b: TensorType, axes: Sequence[int]) -> bool:
    """Are two types the same, but for the sizes of `axes`?"""
    if a.dtype is not b.dtype or a.ndim != b.ndim:
        return False
    return same_shape(
        tuple(n for axis, n in enumerate(a.shape) if axis not in axes),
        tuple(n for axis, n in enumerate(b.shape) if axis not in axes),
    )


def resized(types: Sequence[TensorType], axes: Axes) -> tuple[TensorType, ...]:
    """The types with other sizes along some axes."""
    shapes = [list(t.shape) for t in types]
    for k, axis, size in axes:
        shapes[k][axis] = size
    return tuple(tensor_type(tuple(s), t.dtype) for s, t in zip(shapes, types, strict=True))


def room_of(room: int | None) -> dict[str, int]:
    """The attribute `room` of a scan, where there is one."""
    return {} if room is None else {"room": room}


def stacked_type(t: TensorType, length: Extent) -> TensorType:
    """The type of one value of type `t` a step."""
    return tensor_type((length, *t.shape), t.dtype)


def _while_type(
    *types: TensorType, cond_graph: Graph, body_graph: Graph, carried: int,
    maximum_iterations: int | None, trips: Extent | None, varying: Axes = (), padded: Axes = (),
    lists: bool = False,
) -> tuple[TensorType, ...]:  # fmt: skip
    (condition,) = output_types("while_loop", cond_graph, types)
    if condition != tensor_type((), dtypes.bool_):
        raise DTypeError(
            f"while_loop: the condition is to be {tensor_type((), dtypes.bool_)}, got {condition}"
        )
    outputs = output_types("while_loop", body_graph, types)
    check_carried("while_loop", types[:carried], outputs, varying)
    ends = resized(types[:carried], varying)
    if trips is None:
        return ends
    stacks = tuple(stacked_type(t, trips) for t in resized(outputs[carried:], padded))
    return (*ends, *stacks, tensor_type((trips,), dtypes.bool_))


def _run_while(
    *arrays: Array, cond_graph: Graph, body_graph: Graph, carried: int,
    maximum_iterations: int | None, trips: Extent | None, varying: Axes = (), padded: Axes = (),
    lists: bool = False,
) -> tuple[Array, ...]:  # fmt: skip
    state, captures = list(arrays[:carried]), arrays[carried:]
    limits = [n for n in (maximum_iterations, trips) if isinstance(n, int)]
    limit = min(limits, default=None)
    count = len(body_graph.outputs)
    step = with_condition(cond_graph, body_graph, carried)
    rows: list[Sequence[Array] | None] = []
    steps, go_on = 0, None
    while limit is None or steps < limit:
        if go_on is None:
            (go_on,) = run_graph(cond_graph, (*state, *captures))
        if not go_on:
            break
        results = run_graph(step, (*state, *captures))
        state = list(results[:carried])
        go_on = results[count] if len(results) > count else None
        steps += 1
        if trips is not None:
            rows.append(results[carried:count])
    if trips is None:
        return tuple(state)
    room = trips if isinstance(trips, int) else steps
    stacks = empty_stacks(body_graph, arrays, carried, room, padded, rows)
    fill(stacks, rows, padded)
    return (*state, *stacks, np.arange(room) < steps)


def with_condition(condition: Graph, body: Graph, carried: int) -> Graph:
    """`body` that also gives the condition of the next step: one program to run a step instead of
    two. `body` itself where a condition that is not asked for must not be computed."""
    key = ("with condition", condition)
    if key not in body.memo:
        body.memo[key] = body if must_be_chosen(condition) else _joined(condition, body, carried)
    return body.memo[key]  # type: ignore[no-any-return]


def _joined(condition: Graph, body: Graph, carried: int) -> Graph:
    def make(builder: Any, *values: Any) -> list[Any]:
        outs = place(builder, body, values)
        inputs = [*outs[:carried], *values[carried:]]
        sizes = bind_sizes(condition.types, [x.shape for x in inputs])
        return [*outs, *place(builder, specialise(condition, sizes), inputs)]

    return build(body.name, body.types, make)


def empty_stacks(
    body: Graph, arrays: Sequence[Array], carried: int, steps: int, padded: Axes = (),
    rows: Sequence[Sequence[Array] | None] = (),
) -> list[Array]:  # fmt: skip
    """Zeros for what `body`, called on arrays of the shapes given, stacks in so many steps, with
    `padded` axes as long as the longest of the `rows`."""
    sizes = bind_sizes(body.types, [a.shape for a in arrays])
    types = body.output_types[carried:]
    shapes = [list(at_sizes(t.shape, sizes)) for t in types]
    for k, axis, _ in padded:
        shapes[k][axis] = max((row[k].shape[axis] for row in rows if row is not None), default=0)
    return [
        np.zeros((steps, *shape), t.dtype.dtype) for shape, t in zip(shapes, types, strict=True)
    ]


def fill(stacks: Sequence[Array], rows: Sequence[Sequence[Array] | None], padded: Axes) -> None:
    """Put what each step gave into its place; None is a step that was not made."""
    ragged = {k for k, *_ in padded}
    for k, stack in enumerate(stacks):
        for step, row in enumerate(rows):
            if row is not None:
                if k in ragged:
                    block: tuple[Any, ...] = (step, *map(slice, row[k].shape))
                    stack[block] = row[k]
                else:
                    stack[step] = row[k]


def _rule(name: str) -> Callable[..., Any]:
    """A derivative or batching rule of loops; its module is loaded at the first call."""

    def rule(*args: Any, **attrs: Any) -> Any:
        from graphgrad.compiler.transform import loop_batching, loop_derivatives

        module = loop_batching if name.startswith("batch") else loop_derivatives
        return getattr(module, name)(*args, **attrs)

    return rule


while_loop = Control(
    name="while_loop",
    public="",
    multi=True,
    type=_while_type,
    ref=_run_while,
    vjp=_rule("vjp_while"),
    jvp=_rule("jvp_while"),
    augment=_rule("augment_while"),
    batch=_rule("batch_while"),
    samples=None,
    doc="Run `body_graph` on the state as long as `cond_graph` holds, at most "
    "`maximum_iterations` times.",
)


def _scan_type(
    *types: TensorType,
    body_graph: Graph,
    carried: int,
    scanned: int,
    length: Extent,
    reverse: bool,
    masked: bool,
    varying: Axes = (),
    padded: Axes = (),
    room: int | None = None,
) -> tuple[TensorType, ...]:
    split = carried + masked + scanned
    slices = []
    for i, t in enumerate(types[carried:split]):
        if not t.shape or not same_shape(t.shape[:1], (length,)):
            raise ShapeError(
                f"scan: input {i} has {t}, which is not one entry for each of {length} steps"
            )
        slices.append(tensor_type(t.shape[1:], t.dtype))
    if masked and slices.pop(0) != tensor_type((), dtypes.bool_):
        raise DTypeError(f"scan: the flags are to be bool, got {types[carried]}")
    outputs = output_types("scan", body_graph, (*types[:carried], *slices, *types[split:]))
    check_carried("scan", types[:carried], outputs, varying)
    stacks = resized(outputs[carried:], padded)
    return (*resized(types[:carried], varying), *(stacked_type(t, length) for t in stacks))


def _run_scan(
    *arrays: Array,
    body_graph: Graph,
    carried: int,
    scanned: int,
    length: Extent,
    reverse: bool,
    masked: bool,
    varying: Axes = (),
    padded: Axes = (),
    room: int | None = None,
) -> tuple[Array, ...]:
    state, captures = list(arrays[:carried]), arrays[carried + masked + scanned :]
    flags = arrays[carried] if masked else None
    xs = arrays[carried + masked : carried + masked + scanned]
    first = arrays[carried] if masked or scanned else None
    steps = int(first.shape[0] if first is not None else length)
    entries = [np.broadcast_to(np.zeros((), x.dtype), x.shape[1:]) for x in xs]
    typical = (*state, *entries, *captures)
    rows: list[Sequence[Array] | None] = [None] * steps
    stacks = [] if padded else empty_stacks(body_graph, typical, carried, steps)
    for step in reversed(range(steps)) if reverse else range(steps):
        if flags is not None and not flags[step]:
            continue
        results = run_graph(body_graph, (*state, *(x[step] for x in xs), *captures))
        state = list(results[:carried])
        rows[step] = results[carried:] if padded else None
        for stack, value in zip(stacks, results[carried:]):
            stack[step] = value
    if padded:
        stacks = empty_stacks(body_graph, typical, carried, steps, padded, rows)
        fill(stacks, rows, padded)
    return (*state, *stacks)


scan = Control(
    name="scan",
    public="",
    multi=True,
    type=_scan_type,
    ref=_run_scan,
    vjp=_rule("vjp_scan"),
    jvp=_rule("jvp_scan"),
    augment=_rule("augment_scan"),
    batch=_rule("batch_scan"),
    samples=None,
    doc="Run `body_graph` on the state and on slice after slice of the scanned inputs, "
    "`length` times.",
)
