"""`and`, `or`, `not` and `assert`: lazy as in Python, operations of the graph on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.ir import Graph, Node
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.passes.dce import has_effect
from graphgrad.conversion.operators.conditions import choose_value, truth
from graphgrad.conversion.operators.numbers import is_numeric, is_symbolic
from graphgrad.conversion.operators.subtrace import SubTrace
from graphgrad.debugging import asserted

Operand = Callable[[], Any]


def and_(*operands: Operand, test: bool = False) -> Any:
    """`a and b and ...` of functions that give the operands; the later ones are called if needed.

    A tensor operand has to be one value; what follows it runs only where it holds. Of a `test` only
    the truth is asked for, so that its operands may be of several kinds.
    """
    return _chained(operands, "and", test)


def or_(*operands: Operand, test: bool = False) -> Any:
    """`a or b or ...`, as `and_`."""
    return _chained(operands, "or", test)


def _chained(operands: tuple[Operand, ...], word: str, test: bool) -> Any:
    first = operands[0]()
    if len(operands) == 1:
        return truth(first, f"`{word}`") if test else first
    holds = truth(first, f"`{word}`")
    if isinstance(holds, Arith):
        first = holds if test else first
        return _lazily(first, holds, lambda: _chained(operands[1:], word, test), word)
    return first if holds is (word == "or") else _chained(operands[1:], word, test)


def _lazily(first: Any, holds: Any, rest: Operand, word: str) -> Any:
    """`first and rest()` (or `or`) where `holds`, the truth of the tensor `first`, is a tensor."""
    probe = SubTrace(f"operand of `{word}`")
    with probe.entered():
        second = rest()
    plain = is_bool(first) and is_bool(second)
    if plain and not probe.writes and not any(map(_matters, probe.builder.nodes)):
        value = rest() if isinstance(second, Arith) else second
        logical = ops["logical_and" if word == "and" else "logical_or"]
        return logical(current_kind().lift(first), current_kind().lift(value))
    if word == "and":
        return choose_value(holds, rest, lambda: first, word)
    return choose_value(holds, lambda: first, rest, word)


def is_bool(x: Any) -> bool:
    """Is it one truth value, of Python's or a tensor?"""
    if isinstance(x, Arith):
        return x.dtype.is_bool and not x.ndim
    return isinstance(x, bool)


def _matters(node: Node) -> bool:
    """Does it make a difference whether the node runs: is it an effect, may it fail or run long?"""
    return has_effect(node) or node.op.raises or any(
        isinstance(a, Graph) for a in node.attrs.values()
    )  # fmt: skip


def not_(x: Any) -> Any:
    """`not x`."""
    if not is_symbolic(x):
        return not x
    holds = truth(x, "`not`")
    return ops["logical_not"](holds) if isinstance(holds, Arith) else not holds


def assert_(test: Any, message: Callable[[], Any] | None = None, text: str = "") -> None:
    """`assert test, message()`; of a tensor when the function runs, in order with other effects.

    `text` is what the test reads in the source.
    """
    holds = truth(test, "`assert`")
    if isinstance(holds, Arith):
        given = () if message is None else message()
        parts = given if isinstance(given, tuple) else (given,)
        asserted(holds, text, [x if is_numeric(x) else str(x) for x in parts])
    elif not holds:
        raise AssertionError() if message is None else AssertionError(message())
