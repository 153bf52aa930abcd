"""`if` and conditional expressions: Python's own where Python knows the condition, else `cond`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphgrad import tracing
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.passes.dce import has_effect
from graphgrad.compiler.source import Where, here
from graphgrad.compiler.transform.controlflow import apply_control, check_branches, share, union
from graphgrad.compiler.types import element_count, show_shape
from graphgrad.conversion.operators.containers import is_array
from graphgrad.conversion.operators.joins import Join, filled, lifted
from graphgrad.conversion.operators.names import place_of
from graphgrad.conversion.operators.numbers import is_symbolic
from graphgrad.conversion.operators.places import Places
from graphgrad.conversion.operators.staleness import fresh, marks
from graphgrad.conversion.operators.subtrace import SubTrace

Lines = tuple[Where | None, Where | None]


def truth(x: Any, what: str = "a condition") -> Any:
    """What `bool(x)` gives, as a Python bool, or as a bool tensor where only the run knows it."""
    if is_array(x) and getattr(x, "is_list", False):
        x = x.length() > 0
    if not is_symbolic(x):
        return bool(x)
    value = current_kind().lift(x)
    count = element_count(value.type.shape)
    if count != 1:
        raise ArgumentError(
            f"{what} is the truth of one value, and this is a tensor {value.type} of shape "
            f"{show_shape(value.type.shape)}: take gg.reduce_any(x) or gg.reduce_all(x) of it, or "
            "choose elements with gg.where; for logic on elements, write & | ~", here()
        )  # fmt: skip
    if not value.dtype.is_bool:
        value = value != 0
    return value.reshape(())


def if_(
    test: Any, then: Callable[..., Any], orelse: Callable[..., Any], values: tuple[Any, ...],
    names: tuple[str, ...], first: tuple[int | None, ...] = (None, None), places: Any = None,
) -> Any:  # fmt: skip
    """What the branch that `test` chooses makes of the state `values`, whose parts have `names`.

    `first` are the first lines of the branches. `places()` gives the attributes that these set, as
    (object, name, label).
    """
    condition = truth(test, "`if`")
    if not isinstance(condition, Arith):
        return then(*values) if condition else orelse(*values)
    lines = place_of(then, first[0]), place_of(orelse, first[1])
    if places is None:
        return choose(condition, then, orelse, values, names, lines)
    held = Places(places())
    results = choose(
        condition, held.around(then), held.around(orelse), (*values, *held.values()),
        (*names, *held.labels), lines,
    )  # fmt: skip
    return held.settle(results)


def if_expression(test: Any, then: Callable[[], Any], orelse: Callable[[], Any]) -> Any:
    """`then() if test else orelse()`."""
    condition = truth(test, "`if`")
    if not isinstance(condition, Arith):
        return then() if condition else orelse()
    return choose_value(condition, then, orelse, "if")


def choose_value(
    condition: Any, then: Callable[[], Any], orelse: Callable[[], Any], name: str
) -> Any:
    """The value of one of two functions; `name` is what errors call it."""
    both = (lambda: (then(),)), (lambda: (orelse(),))
    lines = place_of(then, None), place_of(orelse, None)
    return choose(condition, *both, (), (name,), lines)[0]


def choose(
    condition: Any, then: Callable[..., Any], orelse: Callable[..., Any],
    values: tuple[Any, ...], names: Sequence[str], lines: Lines = (None, None),
) -> tuple[Any, ...]:  # fmt: skip
    """`cond` of the graph, with what the branches leave behind made one."""
    main, other = SubTrace("true branch"), SubTrace("false branch")
    left, right = _run(main, then, values), _run(other, orelse, values)
    join = Join((main, other), lines)
    plans = [join.of(n, a, b) for n, a, b in zip(names, left, right, strict=True)]
    written = list({id(v): v for v in [*main.writes, *other.writes]}.values())
    graphs = []
    for side, entries in ((main, join.main), (other, join.other)):
        with side.entered(), fresh(side.stale):
            graphs.append(side.finish([*lifted(entries), *(v.value() for v in written)]))
    if state.recorders:
        for side in (main, other):
            side.watcher.tell()
    with fresh({}):  # what a branch read before it replaced a tensor is right
        own = main.builder.captured, other.builder.captured
        outputs = _applied(condition, graphs, own, join.varies + [False] * len(written))
    marks().update({**main.stale, **other.stale})
    trace = tracing.function_builder()
    for v, value in zip(written, outputs[len(join.main) :]):
        assert trace is not None
        trace.write(v, value)
    return tuple(filled(plan, outputs) for plan in plans)


def _applied(
    condition: Any, graphs: Sequence[Graph], own: Sequence[list[Any]], varies: Sequence[bool]
) -> list[Any]:
    """The outputs of `cond`; branches that give nothing and do nothing need none."""
    if not graphs[0].outputs and not any(has_effect(n) for g in graphs for n in g.nodes):
        return []
    captures = union(own)
    taken, other = (share(g, 0, mine, captures) for g, mine in zip(graphs, own))
    widened = check_branches(taken.outputs, other.outputs, None, varies)
    attrs = {"true_graph": taken, "false_graph": other, "widened": widened}
    return apply_control("cond", [condition, *captures], len(taken.outputs), attrs)


def _run(side: SubTrace, branch: Callable[..., Any], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the branch returns for copies of the state."""
    given = side.copied(values)
    with side.entered(), fresh(marks()) as stale:
        results: tuple[Any, ...] = branch(*given)
        side.stale = dict(stale)
    return results
