"""`for`: over Python's iterables as Python does, over tensors and their ranges as one loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import GraphgradError, TraceError
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.source import Where, here
from graphgrad.conversion.operators.conditions import choose, truth
from graphgrad.conversion.operators.loop_state import LoopState
from graphgrad.conversion.operators.loops import Step, graph_scan, graph_while
from graphgrad.conversion.operators.names import place_of
from graphgrad.conversion.operators.places import Places
from graphgrad.conversion.operators.sources import Range, Source, is_source, source

UNROLLED = 32  # trips of a Python range that are worth a loop
FAR = 1 << 20  # an index times a small number stays an int32
ENDLESS = 10_000  # trips of a Python loop that a tensor may end

Test = Callable[..., Any]


def for_(
    iterable: Any, body: Step, values: tuple[Any, ...], names: tuple[str, ...],
    first: int | None = None, test: Test | None = None, rolled: Any = None, places: Any = None,
) -> tuple[Any, ...]:  # fmt: skip
    """The state `values` after `body(item, *state)` for each item, as long as `test(*state)` holds.

    `first` is the first line of the body. `rolled` says that the body uses the numbers of a range
    as tensors may be used, provided that what it returns are tensors, of dtypes that are the same
    with a Python number and an index.
    """
    line = place_of(body, first)
    if is_source(iterable):
        items = source(iterable)
        if places is None:
            return _over(items, body, values, names, line, test)
        held = Places(places())
        found = _over(
            items, held.around(body), (*values, *held.values()), (*names, *held.labels), line,
            None if test is None else held.within(test),
        )  # fmt: skip
        return held.settle(found)
    long = rolled is not None and type(iterable) is range and len(iterable) > UNROLLED
    if long and state.builder is not None:
        if not _may_roll(iterable, (*values, *rolled())):  # a first trip makes tensors of numbers
            values, iterable = body(iterable[0], *values), iterable[1:]
        if _may_roll(iterable, (*values, *rolled())):
            with suppress(Exception):  # then it runs as Python, which says what is wrong
                return _rolled(iterable, body, values, names, line)
    return _python(iterable, body, values, names, test, places)


def _python(
    iterable: Iterable[Any], body: Step, values: tuple[Any, ...], names: Sequence[str],
    test: Test | None, places: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """Trip by trip; from the first trip on that a tensor may call off, each is conditional."""
    trips = 0
    goes_on: Any = True  # asked after each trip: the iterator gives no item too many
    for item in iterable:
        if isinstance(goes_on, Arith):
            trips += 1
            if trips > ENDLESS:
                raise TraceError(
                    f"a loop over a Python {type(iterable).__name__} that only a tensor ends has "
                    f"made {ENDLESS} trips while it is traced; write `while True`, or loop over a "
                    "tensor or gg.range", here()
                )  # fmt: skip
            held = Places(() if places is None else places())
            results = choose(
                goes_on, held.around(lambda *s, item=item: body(item, *s)),
                held.around(lambda *s: s), (*values, *held.values()), (*names, *held.labels),
            )  # fmt: skip
            values = held.settle(results)
        else:
            values = body(item, *values)
        if test is not None:
            goes_on = truth(test(*values), "`for`")
            if not isinstance(goes_on, Arith) and not goes_on:
                break
    return values


def _over(
    items: Source, body: Step, values: tuple[Any, ...], names: Sequence[str], line: Where | None,
    test: Test | None,
) -> tuple[Any, ...]:  # fmt: skip
    """A loop of the graph over `items`."""
    if isinstance(items.length, Arith):
        return _counted(items, body, values, names, line, test)
    if isinstance(items.length, int) and items.length == 0:
        return values
    return _scanned(items, _stopping(body, test, names), values, names, line, test is None)


def _scanned(
    items: Source, body: Step, values: tuple[Any, ...], names: Sequence[str], line: Where | None,
    whole: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """A loop of the graph over slices.

    A first trip may change types, as from 0.0 to a vector, where it is sure to be made: then it
    stands before the loop.
    """
    elems, item = items.scanned()
    some = isinstance(items.length, int)
    guess = LoopState(values, names, line, some and whole)
    try:
        return graph_scan(guess, body, elems, item)
    except GraphgradError as error:
        if error is not guess.failure or not some:
            raise
    values = body(item([x[0] for x in elems]), *values)
    if items.length == 1:
        return values
    rest = LoopState(values, names, line, whole)
    return graph_scan(rest, body, [x[1:] for x in elems], item)


def _stopping(body: Step, test: Test | None, names: Sequence[str]) -> Step:
    """`body`, which leaves the state as it is once `test` of it fails."""
    if test is None:
        return body

    def step(item: Any, *values: Any) -> tuple[Any, ...]:
        goes_on = truth(test(*values), "`for`")
        if not isinstance(goes_on, Arith):
            return body(item, *values) if goes_on else values
        return choose(goes_on, lambda *s: body(item, *s), lambda *s: s, values, names)

    return step


def _counted(
    items: Source, body: Step, values: tuple[Any, ...], names: Sequence[str], line: Where | None,
    test: Test | None,
) -> tuple[Any, ...]:  # fmt: skip
    """A loop over as many items as a tensor says."""
    length = items.length

    def goes_on(k: Any, *state: Any) -> Any:
        more = k < length
        further = True if test is None else truth(test(*state), "`for`")
        if isinstance(further, Arith):
            return ops["logical_and"](more, further)
        return more if further else False

    def step(k: Any, *state: Any) -> tuple[Any, ...]:
        return k + 1, *body(items.item(k), *state)

    start = current_kind().lift(0, length.dtype)
    return graph_while(goes_on, step, (start, *values), ("for", *names), line)[1:]


def _may_roll(numbers: range, tensors: Sequence[Any]) -> bool:
    """Are these tensors, none of a dtype that a Python number would adopt and an index not?"""
    return max(abs(numbers.start), abs(numbers.stop)) < FAR and all(
        isinstance(x, Arith) and (not x.dtype.is_integer or x.dtype in (dtypes.int32, dtypes.int64))
        for x in tensors
    )


def _rolled(
    numbers: range, body: Step, values: tuple[Any, ...], names: Sequence[str], line: Where | None
) -> tuple[Any, ...]:
    """A Python range as one loop, its numbers as tensors."""
    return _scanned(
        Range(numbers.start, numbers.stop, numbers.step), body, values, names, line, True
    )
