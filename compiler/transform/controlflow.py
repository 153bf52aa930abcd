"""Control flow while tracing: functions of Python become sub-graphs of `cond` and `while_loop`.

Everything here takes and gives flat lists of values; the user layer wraps structures around it, and
in eager mode runs the Python functions themselves. Values of outer traces that a function uses
become captures: further inputs of the op and parameters of every sub-graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError, TraceError
from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Builder, Graph, Value, trace
from graphgrad.compiler.op import ops, state
from graphgrad.compiler.ops.while_loop import Axes, resized, same_but
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.appends import only_appended
from graphgrad.compiler.transform.loop_memory import body_of_loop, budget_at_work, is_bounded
from graphgrad.compiler.transform.loop_sizes import padded_axes
from graphgrad.compiler.transform.sizes import runtime_size
from graphgrad.compiler.transform.subgraphs import floating
from graphgrad.compiler.types import TensorType, show_shape, tensor_type


def cond_values(
    condition: Any, true_fn: Callable[[], Sequence[Any]], false_fn: Callable[[], Sequence[Any]],
    names: Sequence[str] | None = None, varies: Callable[[], Sequence[bool]] = tuple,
    ready: Callable[[], bool] = lambda: True,
) -> list[Any] | None:  # fmt: skip
    """Trace both branches and apply `cond`; both return lists of values of equal types.

    Sizes may differ between the branches where one is open, and along the first axis of the outputs
    that `varies()` marks: the result has a run-time size there. `names` are what errors call the
    outputs. Raises where the branches do not agree. Unless both, when traced, are `ready()`,
    nothing is applied, and the result is None.
    """
    taken, taken_captures = trace(true_fn, (), "true branch")
    other, other_captures = trace(false_fn, (), "false branch")
    if not ready():
        return None
    widened = check_branches(taken.outputs, other.outputs, names, varies())
    captures = union([taken_captures, other_captures])
    graphs = {
        "true_graph": share(taken, 0, taken_captures, captures),
        "false_graph": share(other, 0, other_captures, captures),
        "widened": widened,
    }
    return apply_control("cond", [condition, *captures], len(taken.outputs), graphs)


def while_values(
    cond_fn: Callable[..., Any], body_fn: Callable[..., Sequence[Any]], loop_vars: Sequence[Any],
    maximum_iterations: int | None = None, names: Sequence[str] | None = None,
    open_axes: Sequence[tuple[int, int]] = (), ready: Callable[[], bool] = lambda: True,
) -> list[Any] | None:  # fmt: skip
    """Trace condition and body, functions of the loop variables, and apply `while_loop`.

    The body returns a list of values of the types of the loop variables, which `names` names in
    errors. `open_axes`, (loop variable, axis), may change their size. None, and nothing is applied,
    unless the body, when traced, is `ready()`.
    """
    builder = tracing()
    start = [builder.lift(v) for v in loop_vars]
    types, varying = opened([v.type for v in start], open_axes)
    with body_of_loop():
        condition, condition_captures = trace(lambda *xs: [cond_fn(*xs)], types, "loop condition")
        body, body_captures = trace(body_fn, types, "loop body")
    if not ready():
        return None
    check_loop("while_loop", start, body.outputs, names, types, varying)
    captures = union([condition_captures, body_captures])
    asked = share(condition, len(types), condition_captures, captures)
    step = share(body, len(types), body_captures, captures)
    lists = only_appended(step, len(types), varying, asked)
    if lists is not None:
        trips = runtime_size("trips", lambda: state.where or here())
        asked = Graph(tuple(lists.kept(asked.params)), asked.nodes, asked.outputs, asked.name)
        step, varying, kept = lists.body, lists.varying, lists.kept(start)
    else:
        trips, kept = None, start
    attrs = {
        "cond_graph": asked,
        "body_graph": step,
        "carried": len(kept),
        "maximum_iterations": maximum_iterations,
        "trips": trips,
        "lists": lists is not None,
        "varying": varying,
        "padded": (),
    }
    outs = apply_control("while_loop", [*kept, *captures], len(step.outputs), attrs)
    return outs if lists is None or trips is None else lists.results(start, outs, trips, False)


def scan_values(
    body_fn: Callable[..., Sequence[Any]], start: Sequence[Any], slices: Sequence[Any],
    reverse: bool = False, names: Sequence[str] | None = None,
    open_axes: Sequence[tuple[int, int]] = (), ready: Callable[[], bool] = lambda: True,
) -> list[Any] | None:  # fmt: skip
    """Trace the body and apply `scan`: the last state, then what the steps gave, stacked.

    The body takes the state and one slice of each of `slices`, and returns the state, of the same
    types but for the sizes of `open_axes`, and further values. None unless the body is `ready()`.
    """
    builder = tracing()
    inputs = [builder.lift(v) for v in (*start, *slices)]
    count, length = len(start), inputs[len(start)].type.shape[0]
    types, varying = opened([v.type for v in inputs[:count]], open_axes)
    entries = [tensor_type(v.type.shape[1:], v.type.dtype) for v in inputs[count:]]
    with body_of_loop():
        body, captures = trace(body_fn, [*types, *entries], "scan body")
    if not ready():
        return None
    check_loop("scan", inputs[:count], body.outputs[:count], names, types, varying)
    lists = only_appended(body, count, varying)
    kept = inputs[:count]
    if lists is not None:
        body, varying, kept = lists.body, lists.varying, lists.kept(kept)
    attrs = {
        "body_graph": body,
        "carried": len(kept),
        "scanned": len(slices),
        "length": length,
        "reverse": reverse,
        "masked": False,
        "varying": varying,
        "padded": padded_axes(body, len(kept), varying),
    }
    outs = apply_control("scan", [*kept, *inputs[count:], *captures], len(body.outputs), attrs)
    return outs if lists is None else lists.results(inputs[:count], outs, length, reverse)


def opened(
    types: Sequence[TensorType], open_axes: Sequence[tuple[int, int]]
) -> tuple[list[TensorType], Axes]:
    """The types that a loop body sees, with sizes of their own along `open_axes`, and these axes
    with the sizes of the results."""
    where = lambda: state.where or here()  # noqa: E731
    inside = [(k, axis, runtime_size(f"n{i}", where)) for i, (k, axis) in enumerate(open_axes)]
    ends = [(k, axis, runtime_size(f"end{i}", where)) for i, (k, axis) in enumerate(open_axes)]
    return list(resized(types, tuple(inside))), tuple(ends)


def tracing() -> Builder:
    """The trace in progress."""
    if not isinstance(state.builder, Builder):
        raise TraceError("control flow becomes part of a graph only while a function is traced")
    return state.builder


def apply_control(name: str, inputs: Sequence[Any], count: int, attrs: dict[str, Any]) -> list[Any]:
    """Apply the op; under a tape in the form that gives its reverse what it reads."""
    op, builder = ops[name], tracing()
    lifted = tuple(builder.lift(x) for x in inputs)
    if is_bounded() and name in ("scan", "while_loop"):
        budget = budget_at_work()
        if budget is None:
            return list(op(*lifted, **attrs))
        from graphgrad.compiler.transform.loop_bounds import bounded  # heavy, seldom needed

        return bounded(budget, builder, name, lifted, attrs)[:count]
    if state.recorders and isinstance(op, Control) and op.augment is not None:
        return list(op.augment(lifted, floating(lifted), **attrs)[:count])
    return list(op(*lifted, **attrs))


def call_graph(graph: Graph, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Call the graph of another function; loops in it count as those of a caller with a bound."""
    if budget_at_work() is None:
        return tuple(ops["call"](*inputs, graph=graph))
    from graphgrad.compiler.transform.loop_bounds import called  # heavy, seldom needed

    return tuple(called(graph, inputs))


def union(lists: Sequence[Sequence[Any]]) -> list[Any]:
    """The captures of several sub-graphs, each once, by identity."""
    return list({id(x): x for captures in lists for x in captures}.values())


def share(graph: Graph, count: int, own: Sequence[Any], every: Sequence[Any]) -> Graph:
    """`graph` with a parameter for each of `every` capture, after its first `count` parameters."""
    mine = {id(x): p for x, p in zip(own, graph.params[count:], strict=True)}
    by_type = [mine[id(x)] if id(x) in mine else Value(capture_type(x), None) for x in every]
    return Graph((*graph.params[:count], *by_type), graph.nodes, graph.outputs, graph.name)


def capture_type(x: Any) -> TensorType:
    """The type of a captured value or array."""
    return tracing().lift(x).type


def check_branches(
    taken: Sequence[Value], other: Sequence[Value], names: Sequence[str] | None,
    varies: Sequence[bool] = (),
) -> Axes:  # fmt: skip
    """Both branches of a condition give the same types; the axes whose size only the run knows."""
    where = state.where or here()
    if len(taken) != len(other):
        raise ArgumentError(
            f"cond: the main branch gives {len(taken)} values, the else branch {len(other)}", where
        )
    widened: list[tuple[int, int, Extent]] = []
    for i, (x, y) in enumerate(zip(taken, other, strict=True)):
        a, b = x.type, y.type
        name = repr(names[i]) if names else f"cond: output {i}"
        lines = both_lines("it is given by", x, "and by", y)
        if a.dtype is not b.dtype:
            raise DTypeError(
                f"{name} has dtype {a.dtype.name} in the main branch, but dtype {b.dtype.name} in "
                f"the else branch{lines}",
                where,
            )
        axes = range(a.ndim if a.ndim == b.ndim else 0)
        free = [
            axis
            for axis in axes
            if differ(a.shape[axis], b.shape[axis], bool(varies) and varies[i] and axis == 0)
        ]
        if not same_but(a, b, free):
            raise ShapeError(
                f"{name} has shape {show_shape(a.shape)} in the main branch, but shape "
                f"{show_shape(b.shape)} in the else branch{lines}",
                where,
            )
        own = (lambda: state.where or here()) if free else (lambda: None)
        widened += [(i, axis, runtime_size(f"size{len(widened)}", own)) for axis in free]
    return tuple(widened)


def differ(a: Extent, b: Extent, free: bool) -> bool:
    """May two sizes differ at run time, and may they? Where one is open, or any may be."""
    difference = a - b
    return not isinstance(difference, int) or (difference != 0 and free)


def both_lines(before: str, x: Value, between: str, y: Value) -> str:
    """Where two values come from, for an error text."""
    places = [v.where.describe() if v.where is not None else None for v in (x, y)]
    if None in places or places[0] == places[1]:
        return ""
    return f"\n  {before} {places[0]}\n  {between} {places[1]}"


def check_loop(
    op: str, before: Sequence[Value], after: Sequence[Value], names: Sequence[str] | None,
    types: Sequence[TensorType] = (), varying: Axes = (),
) -> None:  # fmt: skip
    """The body of a loop returns the loop variables with the types that they had, but for the sizes
    of `varying` axes; `types` are those that the body saw."""
    where = state.where or here()
    if len(before) != len(after):
        raise ArgumentError(
            f"{op}: {len(before)} loop variables, but the body returns {len(after)} values",
            where,
        )
    for i, (x, y) in enumerate(zip(before, after, strict=True)):
        a, b = types[i] if types else x.type, y.type
        name = repr(names[i]) if names else str(i)
        if not same_but(a, b, [axis for k, axis, _ in varying if k == i]):
            same_rank = a.dtype is b.dtype and a.ndim == b.ndim
            way_out = " (or give shape_invariants, with None for what changes)" if same_rank else ""
            raise (DTypeError if a.dtype is not b.dtype else ShapeError)(
                f"{op}: loop variable {name} enters the body as {a} and leaves it as {b}; "
                f"its type must stay the same{way_out}" + both_lines("it enters from", x,
                "it leaves from", y), where,
            )  # fmt: skip
