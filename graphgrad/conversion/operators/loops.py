"""`while`, and what loops of the graph share: the body is traced until the types settle.

A loop whose condition Python knows runs as Python; once the condition is a tensor, the trips that
are left are a loop of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphgrad import control
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.source import Where
from graphgrad.conversion.operators.conditions import truth
from graphgrad.conversion.operators.guesses import GuessAgain, opened
from graphgrad.conversion.operators.loop_state import LoopState
from graphgrad.conversion.operators.names import place_of
from graphgrad.conversion.operators.places import Places
from graphgrad.conversion.operators.subtrace import SubTrace

Step = Callable[..., tuple[Any, ...]]


def while_(
    test: Callable[..., Any], body: Step, values: tuple[Any, ...], names: tuple[str, ...],
    first: int | None = None, places: Any = None,
) -> tuple[Any, ...]:  # fmt: skip
    """The state `values` after as many trips of `body` as `test` asks for.

    `first` is the first line of the body.
    """
    while True:
        goes_on = _tested(test, values)
        if isinstance(goes_on, Arith):
            break
        if not goes_on:
            return values
        values = body(*values)
    line = place_of(body, first)
    if places is None:
        return graph_while(test, body, values, names, line)
    held = Places(places())
    found = graph_while(
        held.within(test), held.around(body), (*values, *held.values()), (*names, *held.labels),
        line,
    )  # fmt: skip
    return held.settle(found)


def _tested(test: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    """Whether the loop goes on; a tensor if only the run knows, of a trace that is thrown away."""
    if state.builder is None:
        return truth(test(*values), "`while`")
    probe = SubTrace("probe")
    with probe.entered():
        found = truth(test(*values), "`while`")
    if not isinstance(found, Arith) and probe.builder.nodes:
        found = truth(test(*values), "`while`")  # for its effects
    return found


def graph_while(
    test: Callable[..., Any], body: Step, values: tuple[Any, ...], names: Sequence[str],
    line: Where | None,
) -> tuple[Any, ...]:  # fmt: skip
    """A `while_loop` of the graph."""
    guess = LoopState(values, names, line)

    def attempt() -> tuple[Any, ...]:
        start = guess.guess()

        def goes_on(*params: Any) -> Any:
            found = truth(test(*guess.enter(params)), "`while`")
            guess.check_precision()
            return current_kind().lift(found)

        carried = control.while_loop(
            goes_on, lambda *params: guess.trip(body, params), start, guess.shapes(),
            maximum_iterations=guess.limit, names=guess.labels,
        )  # fmt: skip
        return guess.result(carried)

    return settled(guess, attempt)


def graph_scan(
    guess: LoopState, body: Step, elems: Sequence[Any], item: Callable[[Sequence[Any]], Any]
) -> tuple[Any, ...]:
    """A `scan` of the graph: `body(item(slices), *state)` for the slices of `elems`."""

    def attempt() -> tuple[Any, ...]:
        start = guess.guess()

        def step(carried: Any, slices: Any) -> Any:
            return guess.trip(lambda *state: body(item(slices), *state), carried), ()

        carried, _ = control.scan_loop(
            step, start, list(elems), names=guess.labels, shape_invariants=guess.shapes()
        )
        return guess.result(carried)

    return settled(guess, attempt)


def settled(guess: LoopState, attempt: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
    """What `attempt` gives once the guess holds.

    Where the body wants the value of a tensor, lists become such that tensors can index, and then
    numbers stay Python, those excepted that the body changes.
    """
    refused: Exception | None = None
    while True:
        try:
            with opened(guess):
                return attempt()
        except GuessAgain as again:
            if again.loop is not guess:
                raise
        except (GraphgradError, TypeError, ValueError, IndexError) as error:
            if error is guess.failure:
                raise
            lists, weak = guess.lists(), guess.weak()
            if lists:
                guess.growing.update(lists)
            elif refused is None and weak:
                refused = error
                guess.fixed.update(weak)
            else:
                raise refused or error from None
