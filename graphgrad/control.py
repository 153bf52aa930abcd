"""Control flow by function: `cond` and `while_loop`, eager as Python, in a trace as graph ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphgrad import nest, tracing
from graphgrad.arrays import array_groups, blank, growing_leaves, map_arrays, same_state
from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import same_size
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.ir import trace
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.ops.join import stack
from graphgrad.compiler.ops.shapes import known_or_none
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.autodiff import recording
from graphgrad.compiler.transform.controlflow import cond_values, scan_values, while_values
from graphgrad.compiler.types import TensorType, tensor_type
from graphgrad.tensor import SymbolicTensor
from graphgrad.variable import Variable


def cond(
    pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any], name: str | None = None,
    *, names: Sequence[str] | None = None,
) -> Any:  # fmt: skip
    """What `true_fn()` returns where `pred` holds, else what `false_fn()` returns.

    Only one of them runs, and only that one is differentiated. Inside `gg.function` both are
    traced; they must return the same structure of tensors of the same types, and may assign to
    variables. A size may differ where the trace leaves it open in one of them. `names` are what
    errors call the results.

    Under `gg.vmap` with a predicate that differs between the examples both run for all, and each
    example selects; a branch that may fail or has effects runs for the examples that take it only.

    >>> import graphgrad as gg
    >>> x = gg.constant(2.0)
    >>> gg.cond(x > 1, lambda: x * 10, lambda: x).numpy()
    np.float32(20.0)
    """
    if state.builder is None or not isinstance(pred, Arith):
        return true_fn() if bool(pred) else false_fn()
    condition = current_kind().lift(pred)
    if condition.dtype is not dtypes.bool_:
        raise ArgumentError(f"cond: the condition is to be bool, got {condition.type}", here())
    taken, other = _Branch(true_fn), _Branch(false_fn)
    results, written = _settled(
        [taken, other],
        lambda written, ready: cond_values(
            condition, taken.alone(written), other.alone(written), names, taken.grows, ready
        ),
        agree=lambda: _agree(taken, other),
    )
    return _finish(taken.structure, results, written)


def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any,
    shape_invariants: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
    swap_memory: bool = False, maximum_iterations: Any = None, name: str | None = None,
    *, names: Sequence[str] | None = None,
) -> Any:  # fmt: skip
    """Repeat `loop_vars = body(*loop_vars)` as long as `cond(*loop_vars)` holds.

    `loop_vars` is a list or tuple, of structures of tensors and TensorArrays as well. At most
    `maximum_iterations` steps are made, a number or a tensor. Types and shapes must not change from
    step to step, but for the sizes that `shape_invariants` leaves open: it has a shape for each
    tensor, with None for each size that may change, or None for a tensor that keeps its shape.
    `names` are what errors call the loop variables.

    Inside `gg.function` it is one op of the graph, whatever the number of steps, and
    differentiable. The body may assign to variables.

    >>> import graphgrad as gg
    >>> gg.while_loop(lambda i, s: i < 4, lambda i, s: (i + 1, s + i), (0, 0))[1].numpy()
    np.int32(6)
    >>> @gg.function
    ... def doubled(x, n):
    ...     return gg.while_loop(
    ...         lambda i, x: i < n, lambda i, x: (i + 1, gg.concat([x, x], 0)), (0, x),
    ...         shape_invariants=(None, [None]),
    ...     )[1]
    >>> doubled(gg.constant([1, 2]), gg.constant(2)).numpy()
    array([1, 2, 1, 2, 1, 2, 1, 2], dtype=int32)
    """
    limit = known_or_none(maximum_iterations)
    if state.builder is None:
        return _run_loop(cond, body, loop_vars, None if limit is None else int(limit))
    if limit is None and maximum_iterations is not None:
        return _limited(cond, body, loop_vars, shape_invariants, maximum_iterations, names)
    step = _Branch(lambda *xs: _as_before(before, body(*nest.pack(before, xs))))
    before = nest.map_structure(_lift, map_arrays(_dense, loop_vars))
    before = _settled_arrays(before, lambda xs: _as_before(xs, body(*xs)))
    step.like = before
    flat = nest.flatten(before)
    count = len(flat)
    every_name = _leaf_names(before, names)
    open_axes = _open_axes(before, shape_invariants)

    def attempt(written: list[Variable], ready: Callable[[], bool]) -> list[Any] | None:
        def condition(*xs: Any) -> Any:
            with _entered(written, xs[count:]):
                return _lift(cond(*nest.pack(before, xs[:count])))

        def once(*xs: Any) -> Any:
            return step.run(xs[:count], written, xs[count:])

        return while_values(
            condition, once, [*flat, *(v.value() for v in written)],
            None if limit is None else int(limit), every_name + [v.name for v in written],
            open_axes, ready,
        )  # fmt: skip

    results, written = _settled([step], attempt)
    return _finish(before, results, written)


def _run_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, limit: int | None
) -> Any:
    """`while_loop` outside of traces."""
    lift = current_kind().lift
    values = nest.map_structure(lift, loop_vars)
    steps = 0
    while (limit is None or steps < limit) and bool(cond(*values)):
        values = nest.map_structure(lift, _as_before(loop_vars, body(*values)))
        steps += 1
    return values if steps else _settled_arrays(values, lambda xs: _as_before(xs, body(*xs)))


def _limited(
    condition: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, invariants: Any,
    limit: Any, names: Sequence[str] | None,
) -> Any:  # fmt: skip
    """`while_loop` with a tensor as the limit: the steps are counted beside the loop variables. The
    condition is not asked after the last step."""
    most = _lift(limit)
    found = while_loop(
        lambda steps, xs: cond(steps < most, lambda: condition(*xs), lambda: np.False_),
        lambda steps, xs: (steps + 1, _as_before(loop_vars, body(*xs))),
        (np.zeros((), most.dtype.dtype), loop_vars),
        None if invariants is None else (None, invariants),
        names=None if names is None else ["the number of steps", *names],
    )
    return found[1]


def scan_loop(
    fn: Callable[[Any, Any], tuple[Any, Any]], start: Any, elems: Any, reverse: bool = False,
    names: Sequence[str] | None = None, shape_invariants: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """The last state, and what the steps gave, stacked: `state, given = fn(state, element)` for the
    slices of the tensors `elems` along their first axis.

    `names` and `shape_invariants` are those of `while_loop`, for the state.
    """

    def once(carried: Any, element: Any) -> tuple[Any, Any]:
        after, given = fn(carried, element)
        same_state(carried, after, "the state of a loop and what its function returns")
        return after, given

    if state.builder is None:
        return _run_scan(once, start, elems, reverse)
    before = nest.map_structure(_lift, map_arrays(_dense, start))
    slices = nest.flatten(elems)
    entries = [tensor_type(x.type.shape[1:], x.dtype) for x in slices]
    before = _settled_arrays(before, lambda a, *xs: once(a, nest.pack(elems, xs))[0], entries)
    first = nest.flatten(before)
    count = len(first)
    step = _Branch(lambda *xs: once(nest.pack(before, xs[:count]), nest.pack(elems, xs[count:])))
    step.like = (before, None)
    every_name = _leaf_names(before, names)

    def attempt(written: list[Variable], ready: Callable[[], bool]) -> list[Any] | None:
        split = count + len(written)  # variables that the body writes are carried too

        def body(*xs: Any) -> list[Any]:
            results = step.run((*xs[:count], *xs[split:]), written, xs[count:split])
            ends = len(results) - len(written)
            return [*results[:count], *results[ends:], *results[count:ends]]

        results = scan_values(
            body, [*first, *(v.value() for v in written)], slices, reverse,
            every_name + [v.name for v in written], _open_axes(before, shape_invariants), ready,
        )  # fmt: skip
        if results is None:
            return None
        return [*results[:count], *results[split:], *results[count:split]]

    results, written = _settled([step], attempt)
    found: tuple[Any, Any] = _finish((before, step.structure[1]), results, written)
    return found


def _run_scan(once: Callable[..., Any], start: Any, elems: Any, reverse: bool) -> tuple[Any, Any]:
    """`scan_loop` outside of traces."""
    types = [x.type for x in nest.flatten(elems)]
    places = range(types[0].shape[0])
    if not places:
        typed = _settled_arrays(
            start, lambda a, *xs: once(a, nest.pack(elems, xs))[0],
            [tensor_type(t.shape[1:], t.dtype) for t in types],
        )  # fmt: skip
        return typed, _no_rows(once, start, elems)
    rows: list[Any] = []
    carried = start
    for i in reversed(places) if reverse else places:
        carried, given = once(carried, nest.map_structure(lambda x, i=i: x[i], elems))
        rows.append(given)
    rows = rows[::-1] if reverse else rows
    return carried, nest.map_structure(lambda *parts: stack(list(parts)), *rows)


def _no_rows(once: Callable[..., Any], start: Any, elems: Any) -> Any:
    """What no step gives, stacked: its types are found by a trace that is thrown away."""
    types = [tensor_type(x.type.shape[1:], x.dtype) for x in nest.flatten(elems)]
    found: list[Any] = []

    def traced(*xs: Any) -> list[Any]:
        given = nest.map_structure(_lift, once(start, nest.pack(elems, xs))[1])
        found.append(given)
        return nest.flatten(given)

    trace_once(traced, types)
    return nest.map_structure(lambda y: blank(0, y.type.shape, y.dtype), found[0])


def _leaf_names(loop_vars: Any, names: Sequence[str] | None) -> list[str]:
    """What errors call the tensors of the loop variables."""
    if names is None:
        found = nest.flatten_with_path(loop_vars)
        return [path or "the loop variable" for path, _ in found]
    if len(names) == len(nest.flatten(loop_vars)):
        return list(names)
    return [
        name + path for name, x in zip(names, loop_vars) for path, _ in nest.flatten_with_path(x)
    ]


def _open_axes(loop_vars: Any, invariants: Any) -> list[tuple[int, int]]:
    """(tensor, axis) of the sizes that may change: those that the shape invariants leave open, and
    the lengths of arrays that grow."""
    found = [(k, 0) for k, grows in enumerate(growing_leaves(loop_vars)) if grows]
    if invariants is None:
        return found
    marked = map_arrays(lambda a: None, loop_vars)
    given = nest.flatten_up_to(
        marked, invariants, "while_loop: the loop variables and the shape_invariants",
        check_types=False,
    )  # fmt: skip
    flat, place = nest.flatten(loop_vars), 0
    for (path, _, shape), (array, count) in zip(given, array_groups(loop_vars), strict=True):
        if shape is not None and array is None:
            found += _open_in(path, flat[place].type, getattr(shape, "shape", shape), place)
        place += count
    return found


def _open_in(path: str, t: TensorType, shape: Any, place: int) -> list[tuple[int, int]]:
    shape = tuple(shape)
    fits = len(shape) == t.ndim and all(
        n is None or not isinstance(n, int) or same_size(n, m) for n, m in zip(shape, t.shape)
    )
    if not fits:
        raise ShapeError(
            f"while_loop: the loop variable {path} enters as {t}, which is not of the shape "
            f"{list(shape)} of its shape invariant", here()
        )  # fmt: skip
    return [(place, axis) for axis, n in enumerate(shape) if n is None]


def _settled_arrays(before: Any, body: Callable[..., Any], types: Sequence[TensorType] = ()) -> Any:
    """The loop variables with arrays that nothing was written to as the body leaves them: it is
    traced once, and that trace thrown away, to see the type of their elements."""
    if all(a is None or a.typed for a, _ in array_groups(before)):
        return before
    flat = nest.flatten(before)
    count = len(flat)
    found: list[Any] = []

    def traced(*xs: Any) -> list[Any]:
        with _entered([], ()):
            found.append(body(nest.pack(before, xs[:count]), *xs[count:]))
        return []

    trace_once(traced, [*(x.type for x in flat), *types])
    return map_arrays(_dense, before, found[0])


def trace_once(fn: Callable[..., Any], types: Sequence[TensorType]) -> None:
    """Trace `fn` for what it tells of types, with no effect."""
    if state.builder is not None:
        trace(fn, types, "loop body")
        return
    with tracing.replay():
        trace(fn, types, "loop body", value_class=SymbolicTensor)


def _dense(array: Any, other: Any = None) -> Any:
    return array.dense() if other is None else array.like(other)


def _lift(x: Any) -> Any:
    """`x` as a value of the trace in progress."""
    return current_kind().lift(x)


def _as_before(loop_vars: Any, result: Any) -> Any:
    """What the body returned, in the structure of the loop variables."""
    if len(loop_vars) == 1 and not isinstance(result, list | tuple):
        result = (result,)
    if isinstance(result, list | tuple) and type(result) is not type(loop_vars):
        result = type(loop_vars)(result)
    same_state(loop_vars, result, "while_loop: the loop variables and what the body returns")
    return result


class _Branch:
    """A function that becomes a sub-graph, and what it returned and wrote when last traced.

    `like` is a structure whose arrays tell those of the results their elements.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.structure: Any = None
        self.like: Any = None
        self.writes: list[Variable] = []
        self.reads: list[Variable] = []

    def run(self, xs: Any, written: list[Variable], entering: Any = ()) -> list[Any]:
        """The flat results, then the values of `written` at the end."""
        with _entered(written, entering) as table:
            with recording(tracing.Watcher()) as watcher:
                found = self.function(*xs)
            self.reads = watcher.variables
            self.writes = [] if table is None else list(table.writes.values())
            self.structure = map_arrays(_dense, found, self.like)
            ends = [v.value() for v in written]
        return [_lift(x) for x in [*nest.flatten(self.structure), *ends] if x is not None]

    def alone(self, written: list[Variable]) -> Callable[[], list[Any]]:
        return lambda: self.run((), written)

    def grows(self) -> list[bool]:
        """For each result: is it the rows of an array that may grow?"""
        marks = zip(growing_leaves(self.structure), nest.flatten(self.structure))
        return [mark for mark, x in marks if x is not None]


def _agree(taken: _Branch, other: _Branch) -> bool:
    """Do the branches return the same structure? Not yet, if an array of one knows its elements,
    and that of the other is empty: then it is told."""
    what = "cond: the results of the branches"
    same_state(taken.structure, other.structure, what)
    for (path, x), y in zip(nest.flatten_with_path(taken.structure), nest.flatten(other.structure)):
        if (x is None) != (y is None):
            raise ArgumentError(
                f"{what} differ at {path or 'the top'}: one of them is None", here()
            )
    pairs = zip(array_groups(taken.structure), array_groups(other.structure), strict=True)
    if all(a is None or b is None or a.typed == b.typed for (a, _), (b, _) in pairs):
        return True
    taken.like, other.like = other.structure, taken.structure
    return False


def _settled(
    branches: list[_Branch],
    attempt: Callable[[list[Variable], Callable[[], bool]], list[Any] | None],
    agree: Callable[[], bool] = lambda: True,
) -> tuple[list[Any], list[Variable]]:
    """Trace until it is known which variables the branches write, and the tapes know which they
    read: once if there are none, mostly twice else. `attempt` applies the op only when what it
    traced is ready, else it gives None.
    """
    written: list[Variable] = []
    told: list[Variable] = []
    missing: list[Variable] = []
    unseen: list[Variable] = []

    def ready() -> bool:
        missing[:] = _missing([v for b in branches for v in b.writes], written)
        if state.recorders:
            unseen[:] = _missing([v for b in branches for v in b.reads], told)
        return agree() and not missing and not unseen

    while True:
        results = attempt(written, ready)
        if results is not None:
            return results, written
        written += missing
        told += unseen
        for v in unseen:
            v.value()


def _missing(found: list[Variable], known: list[Variable]) -> list[Variable]:
    """Those found that are not known yet, each once."""
    seen = {id(v) for v in known}
    return list({id(v): v for v in found if id(v) not in seen}.values())


@contextmanager
def _entered(written: list[Variable], values: Any) -> Iterator[Any]:
    """A table of its own for what a branch writes; in it the variables have `values` at first."""
    builder = tracing.function_builder()
    if builder is None:
        yield None
        return
    with builder.branch() as table:
        for v, x in zip(written, values):
            table.values[id(v)] = x
        yield table


def _finish(structure: Any, results: list[Any], written: list[Variable]) -> Any:
    """Assign what was written, and give the rest the structure that the user expects."""
    builder = tracing.function_builder()
    count = len(results) - len(written)
    for v, value in zip(written, results[count:]):
        assert builder is not None
        builder.write(v, value)
    values = iter(results[:count])
    return nest.pack(structure, [x if x is None else next(values) for x in nest.flatten(structure)])
