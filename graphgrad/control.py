"""Control flow by function: `cond` and `while_loop`, eager as Python, in a trace as graph ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from graphgrad import nest, tracing
from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.ops.join import stack
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.autodiff import recording
from graphgrad.compiler.transform.controlflow import cond_values, scan_values, while_values
from graphgrad.variable import Variable


def cond(
    pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any], name: str | None = None
) -> Any:
    """What `true_fn()` returns where `pred` holds, else what `false_fn()` returns.

    Only one of them runs, and only that one is differentiated. Inside `gg.function` both are
    traced; they must return the same structure of tensors of the same types, and may assign to
    variables.

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
    branches = [_Branch(true_fn), _Branch(false_fn)]
    results, written = _settled(
        branches,
        lambda written: cond_values(
            condition, branches[0].alone(written), branches[1].alone(written)
        ),
    )
    _same_structure(
        branches[0].structure, branches[1].structure, "cond: the results of the branches"
    )
    return _finish(branches[0].structure, results, written)


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    maximum_iterations: Any = None,
    name: str | None = None,
) -> Any:
    """Repeat `loop_vars = body(*loop_vars)` as long as `cond(*loop_vars)` holds.

    `loop_vars` is a list or tuple, of structures of tensors as well; types and shapes must not
    change from step to step. At most `maximum_iterations` steps are made. Inside `gg.function` it
    is one op of the graph, whatever the number of steps, and differentiable. The body may assign
    to variables.

    >>> import graphgrad as gg
    >>> gg.while_loop(lambda i, s: i < 4, lambda i, s: (i + 1, s + i), (0, 0))[1].numpy()
    np.int32(6)
    """
    kind = current_kind()
    values = nest.map_structure(kind.lift, loop_vars)
    limit = None if maximum_iterations is None else int(maximum_iterations)
    if state.builder is None:
        steps = 0
        while (limit is None or steps < limit) and bool(cond(*values)):
            values = _as_before(loop_vars, body(*values))
            values = nest.map_structure(kind.lift, values)
            steps += 1
        return values
    step = _Branch(lambda *xs: _as_before(loop_vars, body(*nest.pack(loop_vars, xs))))
    flat = nest.flatten(values)
    count = len(flat)

    def attempt(written: list[Variable]) -> list[Any]:
        def condition(*xs: Any) -> Any:
            with _entered(written, xs[count:]):
                return _lift(cond(*nest.pack(loop_vars, xs[:count])))

        def once(*xs: Any) -> Any:
            return step.run(xs[:count], written, xs[count:])

        names = [path or "the loop variable" for path, _ in nest.flatten_with_path(loop_vars)]
        names += [v.name for v in written]
        return while_values(condition, once, [*flat, *(v.value() for v in written)], limit, names)

    results, written = _settled([step], attempt)
    return _finish(loop_vars, results, written)


def scan_loop(
    fn: Callable[[Any, Any], tuple[Any, Any]], start: Any, elems: Any, reverse: bool = False
) -> tuple[Any, Any]:
    """The last state, and what the steps gave, stacked: `state, given = fn(state, element)` for the
    slices of the tensors `elems` along their first axis, of which there is one at least.
    """

    def once(carried: Any, element: Any) -> tuple[Any, Any]:
        after, given = fn(carried, element)
        _same_structure(start, after, "the state of a loop and what its function returns")
        return after, given

    if state.builder is None:
        places = range(nest.flatten(elems)[0].type.shape[0])
        rows: list[Any] = []
        carried = start
        for i in reversed(places) if reverse else places:
            carried, given = once(carried, nest.map_structure(lambda x, i=i: x[i], elems))
            rows.append(given)
        rows = rows[::-1] if reverse else rows
        return carried, nest.map_structure(lambda *parts: stack(list(parts)), *rows)
    first, slices = nest.flatten(start), nest.flatten(elems)
    count = len(first)
    step = _Branch(lambda *xs: once(nest.pack(start, xs[:count]), nest.pack(elems, xs[count:])))

    def attempt(written: list[Variable]) -> list[Any]:
        split = count + len(written)  # variables that the body writes are carried too

        def body(*xs: Any) -> list[Any]:
            results = step.run((*xs[:count], *xs[split:]), written, xs[count:split])
            ends = len(results) - len(written)
            return [*results[:count], *results[ends:], *results[count:ends]]

        results = scan_values(body, [*first, *(v.value() for v in written)], slices, reverse)
        return [*results[:count], *results[split:], *results[count:split]]

    results, written = _settled([step], attempt)
    found: tuple[Any, Any] = _finish(step.structure, results, written)
    return found


def _same_structure(expected: Any, found: Any, what: str) -> None:
    """`nest.assert_same`, with the user's line."""
    try:
        nest.assert_same(expected, found, what)
    except ArgumentError as e:
        raise e.at(here()) from None


def _lift(x: Any) -> Any:
    """`x` as a value of the trace in progress."""
    return current_kind().lift(x)


def _as_before(loop_vars: Any, result: Any) -> Any:
    """What the body returned, in the structure of the loop variables."""
    if len(loop_vars) == 1 and not isinstance(result, list | tuple):
        result = (result,)
    if isinstance(result, list | tuple) and type(result) is not type(loop_vars):
        result = type(loop_vars)(result)
    _same_structure(loop_vars, result, "while_loop: the loop variables and what the body returns")
    return result


class _Branch:
    """A function that becomes a sub-graph, and what it returned and wrote when last traced."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.structure: Any = None
        self.writes: list[Variable] = []
        self.reads: list[Variable] = []

    def run(self, xs: Any, written: list[Variable], entering: Any = ()) -> list[Any]:
        """The flat results, then the values of `written` at the end."""
        with _entered(written, entering) as table:
            with recording(tracing.Watcher()) as watcher:
                self.structure = self.function(*xs)
            self.reads = watcher.variables
            self.writes = [] if table is None else list(table.writes.values())
            ends = [v.value() for v in written]
        return [_lift(x) for x in [*nest.flatten(self.structure), *ends]]

    def alone(self, written: list[Variable]) -> Callable[[], list[Any]]:
        return lambda: self.run((), written)


def _settled(
    branches: list[_Branch], attempt: Callable[[list[Variable]], list[Any]]
) -> tuple[list[Any], list[Variable]]:
    """Trace until it is known which variables the branches write, and the tapes know which they
    read: once if there are none, mostly twice else. What an attempt leaves behind is dead code.
    """
    written: list[Variable] = []
    told: list[Variable] = []
    while True:
        results = attempt(written)
        missing = _missing([v for b in branches for v in b.writes], written)
        unseen = _missing([v for b in branches for v in b.reads], told) if state.recorders else []
        if not missing and not unseen:
            return results, written
        written = written + missing
        told = told + unseen
        for v in unseen:
            v.value()


def _missing(found: list[Variable], known: list[Variable]) -> list[Variable]:
    """Those found that are not known yet, each once."""
    seen = {id(v) for v in known}
    return list({id(v): v for v in found if id(v) not in seen}.values())


@contextmanager
def _entered(written: list[Variable], values: Any) -> Iterator[Any]:
    """A table of its own for what a branch writes; in it the variables have `values` at first."""
    trace = tracing.function_builder()
    if trace is None:
        yield None
        return
    with trace.branch() as table:
        for v, x in zip(written, values):
            table.values[id(v)] = x
        yield table


def _finish(structure: Any, results: list[Any], written: list[Variable]) -> Any:
    """Assign what was written, and give the rest the structure that the user expects."""
    trace = tracing.function_builder()
    count = len(results) - len(written)
    for v, value in zip(written, results[count:]):
        assert trace is not None
        trace.write(v, value)
    return nest.pack(structure, results[:count])
