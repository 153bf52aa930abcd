"""Symbolic sizes: exact integer polynomials over the unknown dimensions of a trace.

A `Dim` is never assumed to be 1, or equal to another Dim. Where a shape rule has to know, it asks
the scope of the trace, which answers from the sizes of the call being traced (the *hints*) and
keeps the answer as a guard: another call for which it does not hold needs another trace.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Union

from graphgrad.compiler.errors import TraceError
from graphgrad.runtime.sizes import Size

# A size of a shape. `int` inside kernels and eager code; `Dim` only where a trace leaves it open.
Extent = Union[int, "Dim"]


@dataclass(frozen=True, eq=False, slots=True)
class Symbol:
    """An unknown size: axis `axis` of argument `argument` of the trace that owns `scope`."""

    scope: DimScope
    name: str
    argument: int
    axis: int
    order: int

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Quotient:
    """The floor of `dividend / divisor`, where the division is not exact as polynomials."""

    dividend: Dim
    divisor: Extent

    @property
    def order(self) -> int:
        return 1_000_000

    def __repr__(self) -> str:
        dividend, divisor = (
            f"({x})" if isinstance(x, Dim) and len(x.terms) > 1 else str(x)
            for x in (self.dividend, self.divisor)
        )
        return f"({dividend} // {divisor})"


Atom = Symbol | Quotient
Monomial = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Guard:
    """An answer that a trace relies on: `expression` is (not) zero, or is (not) at least zero."""

    question: str  # "zero" | "nonnegative"
    expression: Dim
    answer: bool
    where: Any = None

    def holds(self, sizes: Mapping[Symbol, int]) -> bool:
        value = evaluate(self.expression, sizes)
        return (value == 0 if self.question == "zero" else value >= 0) is self.answer

    def asked_outside(self, sizes: Mapping[Symbol, Extent]) -> bool:
        """Does it hold for the sizes of another trace? Unknown ones are asked there."""
        return self.answer_outside(sizes) is self.answer

    def answer_outside(self, sizes: Mapping[Symbol, Extent]) -> bool:
        """The answer for the sizes of another trace, which is asked about unknown ones."""
        value = substitute(self.expression, sizes)
        if isinstance(value, Dim):
            return _scope(value).decide(self.question, value, self.answer)
        return value == 0 if self.question == "zero" else value >= 0

    def __str__(self) -> str:
        words = {
            ("zero", True): "==", ("zero", False): "!=",
            ("nonnegative", True): ">=", ("nonnegative", False): "<",
        }  # fmt: skip
        left = {m: c for m, c in self.expression.terms if m}
        right = -sum(c for m, c in self.expression.terms if not m)
        return f"{_make(left)} {words[self.question, self.answer]} {right}"


@dataclass(eq=False, slots=True)
class DimScope:
    """The unknown sizes of one trace, their values in the traced call, and the guards so far.

    `asked`, if given, answers in its place: the trace that these sizes were taken from.
    """

    hints: dict[Symbol, int] = field(default_factory=dict)
    guards: dict[tuple[str, Dim], Guard] = field(default_factory=dict)
    symbols: list[Symbol] = field(default_factory=list)
    where: Callable[[], Any] = lambda: None
    asked: Callable[[Guard], bool] | None = None

    def symbol(self, name: str, argument: int, axis: int, hint: int | None = None) -> Dim:
        """A new unknown size; `hint` is its value in the call being traced, if there is one."""
        s = Symbol(self, name, argument, axis, len(self.symbols))
        self.symbols.append(s)
        if hint is not None:
            self.hints[s] = hint
        return Dim((((s,), 1),))

    def decide(self, question: str, expression: Dim, default: bool) -> bool:
        """Is `expression` zero (or nonnegative)? The answer becomes a guard of the trace."""
        key = (question, expression)
        if key not in self.guards:
            answer = default
            if all(s in self.hints for s in symbols_of(expression)):
                value = evaluate(expression, self.hints)
                answer = value == 0 if question == "zero" else value >= 0
            guard = Guard(question, expression, answer, self.where())
            if self.asked is not None:
                guard = replace(guard, answer=self.asked(guard))
            self.guards[key] = guard
        return self.guards[key].answer


class Dim:
    """An integer polynomial over unknown sizes. Arithmetic gives an int where nothing is unknown.

    >>> n = DimScope().symbol("n", 0, 0)
    >>> n + 1 - n, (n * 6) // 3, (2 * n + 4) // 2, n // 2
    (1, 2*n, n + 2, (n // 2))
    """

    __slots__ = ("terms", "_hash")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms  # sorted, coefficients not zero
        self._hash = hash(terms)

    def __add__(self, other: object) -> Any:
        if not isinstance(other, int | Dim):
            return NotImplemented
        terms = dict(self.terms)
        for monomial, c in _terms(other):
            terms[monomial] = terms.get(monomial, 0) + c
        return _make(terms)

    def __mul__(self, other: object) -> Any:
        if not isinstance(other, int | Dim):
            return NotImplemented
        terms: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in _terms(other):
                m = tuple(sorted(m1 + m2, key=_atom_key))
                terms[m] = terms.get(m, 0) + c1 * c2
        return _make(terms)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: object) -> Any:
        return self + -other if isinstance(other, int | Dim) else NotImplemented

    def __rsub__(self, other: object) -> Any:
        return -self + other if isinstance(other, int | Dim) else NotImplemented

    def __floordiv__(self, other: object) -> Any:
        return divide(self, other) if isinstance(other, int | Dim) else NotImplemented

    def __rfloordiv__(self, other: object) -> Any:
        return divide(other, self) if isinstance(other, int | Dim) else NotImplemented

    def __mod__(self, other: object) -> Any:
        if not isinstance(other, int | Dim):
            return NotImplemented
        return self - self // other * other

    def __rmod__(self, other: object) -> Any:
        return other - other // self * self if isinstance(other, int) else NotImplemented

    def __truediv__(self, other: object) -> Any:
        raise TypeError(
            f"the size {self} is not known while tracing (a None of the input signature), so a "
            "quotient with it is a tensor: divide gg.cast(x.shape[0], gg.float32)"
        )

    __rtruediv__ = __truediv__

    def __eq__(self, other: object) -> bool:
        """Equal as expressions. To the user's own code, a size that may be equal is so by the
        traced call, under a guard: `if x.shape[0] == 3` must not be False for every size."""
        if isinstance(other, Dim) and self.terms == other.terms:
            return True
        asker = sys._getframe(1).f_globals.get("__name__", "")
        if isinstance(other, int | Dim) and not asker.startswith("graphgrad."):
            difference = self - other
            if isinstance(difference, Dim):
                scope = _scope(difference)
                if is_runtime_size(difference):
                    raise TraceError(
                        f"whether the size {self} is {other} is known only at run time; ask "
                        "gg.shape(x) in gg.cond or gg.where",
                        scope.where(),
                    )
                return scope.decide("zero", difference, default=False)
        return False

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        return not is_size(self, 0)

    def __ge__(self, other: Extent) -> bool:
        return at_least(self, other)

    def __gt__(self, other: Extent) -> bool:
        return at_least(self, other + 1)

    def __le__(self, other: Extent) -> bool:
        return at_least(other, self)

    def __lt__(self, other: Extent) -> bool:
        return at_least(other, self + 1)

    def __index__(self) -> int:
        raise TypeError(
            f"the size {self} is not known while tracing (a None of the input signature); "
            "use it in shapes and arithmetic, or gg.shape(x) for a tensor of sizes"
        )

    __int__ = __index__

    def __repr__(self) -> str:
        parts: list[str] = []
        for monomial, c in self.terms:
            body = "*".join(map(repr, monomial))
            sign = "-" if c < 0 else "+"
            text = body if abs(c) == 1 and body else f"{abs(c)}*{body}" if body else str(abs(c))
            parts.append(f" {sign} {text}" if parts else ("-" + text if c < 0 else text))
        return "".join(parts)


def _atom_key(atom: Atom) -> tuple[int, str]:
    return atom.order, repr(atom)


def _terms(x: Extent) -> tuple[tuple[Monomial, int], ...]:
    return x.terms if isinstance(x, Dim) else (((), int(x)),) if x else ()


def _make(terms: Mapping[Monomial, int]) -> Extent:
    kept = [(m, c) for m, c in terms.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    kept.sort(key=lambda item: (-len(item[0]), [_atom_key(a) for a in item[0]]))
    return Dim(tuple(kept))


def divide(a: Extent, b: Extent) -> Extent:
    """The floor of a / b: exact where b divides every term of a, else a quotient atom."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if isinstance(b, int):
        if all(c % b == 0 for _, c in _terms(a)):
            return _make({m: c // b for m, c in _terms(a)})
    elif len(b.terms) == 1:
        (monomial, coefficient), out = b.terms[0], {}
        for m, c in _terms(a):
            rest = _without(m, monomial)
            if c % coefficient or rest is None:
                break
            out[rest] = c // coefficient
        else:
            return _make(out)
    elif a == b:
        return 1
    dividend = a if isinstance(a, Dim) else Dim((((), a),))
    return Dim((((Quotient(dividend, b),), 1),))


def _without(m: Monomial, factors: Monomial) -> Monomial | None:
    """`m` divided by `factors`, or None where one is missing."""
    rest = list(m)
    for atom in factors:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def symbols_of(x: Extent) -> set[Symbol]:
    """The unknown sizes that `x` depends on."""
    found: set[Symbol] = set()
    for monomial, _ in _terms(x):
        for atom in monomial:
            found |= (
                {atom}
                if isinstance(atom, Symbol)
                else symbols_of(atom.dividend) | symbols_of(atom.divisor)
            )
    return found


def evaluate(x: Extent, sizes: Mapping[Symbol, int]) -> int:
    """The value of `x` for given sizes."""
    if isinstance(x, int):
        return x
    total = 0
    for monomial, c in x.terms:
        for atom in monomial:
            if isinstance(atom, Symbol):
                c *= sizes[atom]
            else:
                c *= evaluate(atom.dividend, sizes) // evaluate(atom.divisor, sizes)
        total += c
    return total


def shown(x: Extent) -> str:
    """A size in an error text: an unknown one with its value in the call being traced."""
    if isinstance(x, Dim):
        hints = _scope(x).hints
        if hints.keys() >= symbols_of(x):
            return f"{x}={evaluate(x, hints)}"
    return str(x)


def substitute(x: Extent, mapping: Mapping[Symbol, Extent]) -> Extent:
    """`x` with symbols replaced: how a nested graph's sizes become its caller's."""
    if isinstance(x, int) or not symbols_of(x) & mapping.keys():
        return x
    total: Extent = 0
    for monomial, c in x.terms:
        term: Extent = c
        for atom in monomial:
            if isinstance(atom, Symbol):
                term = term * mapping.get(atom, Dim((((atom,), 1),)))
            else:
                term = term * divide(
                    substitute(atom.dividend, mapping), substitute(atom.divisor, mapping)
                )
        total = total + term
    return total


def to_size(x: Extent) -> Size:
    """`x` as the plain expression over input shapes that a Program stores. A size that the run
    finds out is ("found", symbol, 0) in it, until the record that counts it has a number."""
    if isinstance(x, int):
        return x
    total: Size | None = None
    for monomial, c in x.terms:
        term: Size | None = c if c != 1 or not monomial else None
        for atom in monomial:
            if isinstance(atom, Symbol) and atom.argument == RUNTIME:
                factor: Size = ("found", atom, 0)
            elif isinstance(atom, Symbol):
                factor = ("dim", atom.argument, atom.axis)
            else:
                factor = ("//", to_size(atom.dividend), to_size(atom.divisor))
            term = factor if term is None else ("*", term, factor)
        assert term is not None
        total = term if total is None else ("+", total, term)
    assert total is not None
    return total


RUNTIME = -1  # the `argument` of a size that no argument tells: only the run finds it out


def is_runtime_size(x: Extent) -> bool:
    """Does `x` depend on a size that is known only at run time?"""
    return isinstance(x, Dim) and any(s.argument == RUNTIME for s in symbols_of(x))


def _scope(x: Dim) -> DimScope:
    """Whose guards answer questions about `x`: those that the run checks, if it needs to."""
    return min(symbols_of(x), key=lambda s: (s.argument, s.order, s.name)).scope


def same_size(a: Extent, b: Extent) -> bool:
    """Are two sizes equal? Unknown ones are taken to be, under a guard."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    difference = a - b
    if isinstance(difference, int):
        return difference == 0
    return _scope(difference).decide("zero", difference, default=True)


def is_size(a: Extent, n: int) -> bool:
    """Is the size `a` the number `n`? An unknown one is taken not to be, under a guard.

    A size known only at run time needs none to stretch from 1: what it is compared with later, it
    is held to.
    """
    if isinstance(a, int):
        return a == n
    if n == 1 and is_runtime_size(a):
        return False
    difference = a - n
    return (
        difference == 0
        if isinstance(difference, int)
        else _scope(a).decide("zero", difference, False)
    )


def at_least(a: Extent, b: Extent) -> bool:
    """Is a >= b? Unknown: taken to be, under a guard."""
    difference = a - b
    if isinstance(difference, int):
        return difference >= 0
    if all(c > 0 and all(isinstance(a, Symbol) for a in m) for m, c in difference.terms):
        return True  # sizes are not negative
    return _scope(difference).decide("nonnegative", difference, default=True)


def smaller(a: Extent, b: Extent) -> Extent:
    """The smaller of two sizes, under a guard where one is unknown."""
    return b if at_least(a, b) else a
