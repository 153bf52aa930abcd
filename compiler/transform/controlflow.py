"""Control flow while tracing: functions of Python become sub-graphs of `cond` and `while_loop`.

Everything here takes and gives flat lists of values; the user layer wraps structures around it, and
in eager mode runs the Python functions themselves. Values of outer traces that a function uses
become captures: further inputs of the op and parameters of every sub-graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError, TraceError
from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Builder, Graph, Value, trace
from graphgrad.compiler.op import ops, state
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.subgraphs import floating
from graphgrad.compiler.types import TensorType, same_shape, show_shape, tensor_type


def cond_values(
    condition: Any, true_fn: Callable[[], Sequence[Any]], false_fn: Callable[[], Sequence[Any]],
    names: Sequence[str] | None = None,
) -> list[Any]:  # fmt: skip
    """Trace both branches and apply `cond`; both return lists of values of equal types.

    `names` are what errors call the outputs. Raises where the branches do not agree.
    """
    taken, taken_captures = trace(true_fn, (), "true branch")
    other, other_captures = trace(false_fn, (), "false branch")
    check_branches(taken.output_types, other.output_types, names)
    captures = union([taken_captures, other_captures])
    graphs = {
        "true_graph": share(taken, 0, taken_captures, captures),
        "false_graph": share(other, 0, other_captures, captures),
    }
    return apply_control("cond", [condition, *captures], len(taken.outputs), graphs)


def while_values(
    cond_fn: Callable[..., Any], body_fn: Callable[..., Sequence[Any]], loop_vars: Sequence[Any],
    maximum_iterations: int | None = None, names: Sequence[str] | None = None,
) -> list[Any]:  # fmt: skip
    """Trace condition and body, functions of the loop variables, and apply `while_loop`.

    The body returns a list of values of the types of the loop variables, which `names` names in
    errors.
    """
    builder = tracing()
    start = [builder.lift(v) for v in loop_vars]
    types = [v.type for v in start]
    condition, condition_captures = trace(lambda *xs: [cond_fn(*xs)], types, "loop condition")
    body, body_captures = trace(body_fn, types, "loop body")
    check_loop(types, body.output_types, names)
    captures = union([condition_captures, body_captures])
    attrs = {
        "cond_graph": share(condition, len(types), condition_captures, captures),
        "body_graph": share(body, len(types), body_captures, captures),
        "carried": len(types),
        "maximum_iterations": maximum_iterations,
        "trips": None,
    }
    return apply_control("while_loop", [*start, *captures], len(types), attrs)


def scan_values(
    body_fn: Callable[..., Sequence[Any]], start: Sequence[Any], slices: Sequence[Any],
    reverse: bool = False,
) -> list[Any]:  # fmt: skip
    """Trace the body and apply `scan`: the last state, then what the steps gave, stacked.

    The body takes the state and one slice of each of `slices`, and returns the state, of the same
    types, and further values.
    """
    builder = tracing()
    inputs = [builder.lift(v) for v in (*start, *slices)]
    types = [v.type for v in inputs]
    entries = [tensor_type(t.shape[1:], t.dtype) for t in types[len(start) :]]
    body, captures = trace(body_fn, [*types[: len(start)], *entries], "scan body")
    attrs = {
        "body_graph": body,
        "carried": len(start),
        "scanned": len(slices),
        "length": types[-1].shape[0],
        "reverse": reverse,
        "masked": False,
    }
    return apply_control("scan", [*inputs, *captures], len(body.outputs), attrs)


def tracing() -> Builder:
    """The trace in progress."""
    if not isinstance(state.builder, Builder):
        raise TraceError("control flow becomes part of a graph only while a function is traced")
    return state.builder


def apply_control(name: str, inputs: Sequence[Any], count: int, attrs: dict[str, Any]) -> list[Any]:
    """Apply the op; under a tape in the form that gives its reverse what it reads."""
    op, builder = ops[name], tracing()
    lifted = tuple(builder.lift(x) for x in inputs)
    if state.recorders and isinstance(op, Control) and op.augment is not None:
        return list(op.augment(lifted, floating(lifted), **attrs)[:count])
    return list(op(*lifted, **attrs))


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
    taken: Sequence[TensorType], other: Sequence[TensorType], names: Sequence[str] | None
) -> None:
    """Both branches of a condition give the same types."""
    where = state.where or here()
    if len(taken) != len(other):
        raise ArgumentError(
            f"cond: the main branch gives {len(taken)} values, the else branch {len(other)}", where
        )
    for i, (a, b) in enumerate(zip(taken, other, strict=True)):
        name = repr(names[i]) if names else f"cond: output {i}"
        if a.dtype is not b.dtype:
            raise DTypeError(
                f"{name} has dtype {a.dtype.name} in the main branch, but dtype {b.dtype.name} in "
                "the else branch",
                where,
            )
        if not same_shape(a.shape, b.shape):
            raise ShapeError(
                f"{name} has shape {show_shape(a.shape)} in the main branch, but shape "
                f"{show_shape(b.shape)} in the else branch",
                where,
            )


def check_loop(
    before: Sequence[TensorType], after: Sequence[TensorType], names: Sequence[str] | None
) -> None:
    """The body of a loop returns the loop variables with the types that they had."""
    where = state.where or here()
    if len(before) != len(after):
        raise ArgumentError(
            f"while_loop: {len(before)} loop variables, but the body returns {len(after)} values",
            where,
        )
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        name = repr(names[i]) if names else str(i)
        if a.dtype is not b.dtype or not same_shape(a.shape, b.shape):
            raise (DTypeError if a.dtype is not b.dtype else ShapeError)(
                f"while_loop: loop variable {name} enters the body as {a} and leaves it as {b}; "
                "its type must stay the same",
                where,
            )
