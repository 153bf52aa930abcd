"""Patterns and rules: rewrites as data that read left = right.

    x = var("x")
    with patterns():
        RULES = (
            rule("double negation", -(-x), x),
            rule("softplus", log(1 + exp(x)), softplus(x), exactness="stability"),
        )

Inside `patterns()` operators and op calls build patterns instead of computing. A pattern names the
inputs of an op and its canonical attributes, all of them: by value, or by a variable like
`attr("axes")`. A number matches a constant of that value (the sign of zero counts), also one that
was broadcast or reshaped; `const("c")` matches any such constant and binds it as a NumPy scalar.
A variable that occurs twice must be the same value both times.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Application, Attrs, Op, ops, reapply, state

# Commuting operands changes nothing but which payload a NaN has (maximum is not here: of +0 and
# -0 it gives the first).
COMMUTATIVE = frozenset(
    ("add", "mul", "equal", "not_equal", "logical_and", "logical_or", "logical_xor")
)
# Views that only repeat elements or add axes of size 1.
STRETCHING = frozenset(("broadcast_to", "reshape"))

Child = tuple[str | None, bool]  # the op that makes an input, and whether it is a scalar constant
Exactness = Literal["exact", "rounding", "stability", "fast_math"]
Bindings = dict[str, Any]


class Facts(Protocol):
    """What matching may ask about values."""

    def producer(self, value: Any) -> Application | None:
        """The application that made `value`; None where matching must not look further."""

    def scalar(self, value: Any) -> Any:
        """The NumPy scalar that every element of `value` is known to be, or None."""

    def used_once(self, value: Any) -> bool:
        """Is `value` known to be read once at most?"""


class Pattern(Arith):
    """A variable (`op` is None) or an application of `op` to patterns and numbers."""

    __slots__ = ("op", "inputs", "attrs", "name", "constant", "stretched")
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(
        self,
        op: Op | None = None,
        inputs: tuple[Any, ...] = (),
        attrs: Attrs | None = None,
        name: str = "",
        constant: bool = False,
        stretched: bool = False,
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs or {}
        self.name = name
        self.constant = constant  # a variable that binds the scalar of a constant
        self.stretched = stretched  # may lie behind broadcasts and reshapes

    def __str__(self) -> str:
        return pattern_text(self)


class Attr:
    """An attribute variable of a pattern."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def var(name: str) -> Pattern:
    """A variable that stands for any value."""
    return Pattern(name=name)


def const(name: str) -> Pattern:
    """A variable that stands for a constant of equal elements, bound as a NumPy scalar."""
    return Pattern(name=name, constant=True)


def attr(name: str) -> Any:
    """A variable that stands for an attribute."""
    return Attr(name)


def applied(name: str, *inputs: Any, **attrs: Any) -> Pattern:
    """An application of the op `name`: for ops whose call does more than apply them."""
    return Pattern(ops[name], inputs, attrs)


def stretched(pattern: Any) -> Pattern:
    """`pattern`, directly or behind broadcasts and reshapes; a guard must check how they align."""
    return Pattern(pattern.op, pattern.inputs, pattern.attrs, pattern.name, pattern.constant, True)


class _PatternKind:
    """The kind that makes op calls build patterns."""

    def call(self, op: Op, args: tuple[Any, ...], attrs: Attrs) -> Pattern:
        return Pattern(op, args, attrs)

    def lift(self, x: object, dtype: Any = None) -> Any:
        raise TypeError("patterns hold their numbers as they are")

    def apply(self, op: Op, inputs: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
        return (Pattern(op, inputs, attrs),)


@contextmanager
def patterns() -> Iterator[None]:
    """Operators and op calls on pattern variables build patterns meanwhile."""
    saved, state.builder = state.builder, _PatternKind()
    try:
        yield
    finally:
        state.builder = saved


@dataclass(frozen=True, eq=False)
class Rule:
    """One rewrite. `right` is a pattern, or a function of the bindings that it names as arguments.

    `when`, a function of the same kind, refuses matches. Both may also name `facts` (what is known
    about values) and `root` (the application that matched). `exactness`:

    - "exact": equal bit for bit at every input, NaN payloads aside;
    - "rounding": equal within what the contract allows transcendentals and reductions, and equal
      at NaN, infinities and zeros;
    - "stability": finite and right where the left side over- or underflows;
    - "fast_math": only where the user asks for it.
    """

    name: str
    left: Pattern | None
    right: Any
    when: Callable[..., bool] | None = None
    exactness: Exactness = "exact"
    gradient: bool = False  # its derivative is better too: applied to tapes
    builds: tuple[str, ...] = ()  # ops that a function builds, where other rules look for them
    roots: tuple[str, ...] = ()  # the names of the ops it starts at
    of: Callable[[Op], bool] | None = None  # or a question about the op, for a rule without pattern
    given: Callable[[tuple[Child, ...]], bool] | None = None  # and one about its inputs
    arguments: tuple[tuple[str, ...], tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        right = parameters(self.right) if callable(self.right) else ()
        object.__setattr__(self, "arguments", (right, parameters(self.when) if self.when else ()))
        if self.left is not None:
            object.__setattr__(self, "roots", (name_of(self.left),))

    @cached_property
    def requires(self) -> frozenset[str]:
        """The ops that must occur for the rule to match."""
        return frozenset(ops_of(self.left)) if self.left is not None else frozenset()

    @cached_property
    def provides(self) -> frozenset[str]:
        """The ops that the right side builds."""
        return frozenset((*self.builds, *ops_of(self.right)))

    @property
    def before(self) -> str:
        """The left side as text."""
        return str(self.left) if self.left is not None else ""

    def match(self, root: Application, facts: Facts) -> Bindings | None:
        """What the variables stand for, or None where the rule does not apply to `root`."""
        if self.left is None:
            return {"root": root, "facts": facts}
        for bound in match_application(self.left, root, facts, {}):
            if any(map(is_complex, (*root.inputs, *root.outputs, *bound.values()))):
                continue  # patterns are theorems about real numbers
            bound = {**bound, "root": root, "facts": facts}
            if self.when is None or self.when(*(bound[k] for k in self.arguments[1])):
                return bound
        return None

    def build(self, bound: Bindings) -> Any:
        """The right side, in the kind of value at work; None where a function declines."""
        if callable(self.right):
            return self.right(*(bound[k] for k in self.arguments[0]))
        return instantiate(self.right, bound)


def rule(
    name: str,
    left: Any,
    right: Any,
    when: Callable[..., bool] | None = None,
    exactness: Exactness = "exact",
    gradient: bool = False,
    builds: tuple[str, ...] = (),
) -> Rule:
    """The rewrite `left` = `right` under the guard `when`."""
    return Rule(name, left, right, when, exactness, gradient, builds)


def node_rule(
    name: str,
    roots: tuple[str, ...] | Callable[[Op], bool],
    right: Callable[..., Any],
    given: Callable[[tuple[Child, ...]], bool] | None = None,
    exactness: Exactness = "exact",
) -> Rule:
    """A rewrite written as a function of `root` and `facts` that returns a value or None.

    `roots` and `given` say cheaply to which ops and inputs it may apply.
    """
    if callable(roots):
        return Rule(name, None, right, None, exactness, of=roots, given=given)
    return Rule(name, None, right, None, exactness, roots=roots, given=given)


def is_complex(x: Any) -> bool:
    """Is `x` a complex value?"""
    return isinstance(x, Arith) and x.dtype.is_complex


def parameters(fn: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the arguments of `fn` that have no default."""
    found = inspect.signature(fn).parameters.values()
    return tuple(p.name for p in found if p.default is p.empty)


def name_of(pattern: Pattern) -> str:
    """The op that a left side starts at."""
    if pattern.op is None:
        raise TypeError("the left side of a rule must be an application of an op")
    return pattern.op.name


def ops_of(pattern: Any) -> Iterator[str]:
    """The names of the ops in a pattern."""
    if isinstance(pattern, Pattern) and pattern.op is not None:
        yield pattern.op.name
        for x in pattern.inputs:
            yield from ops_of(x)


def same_number(value: Any, number: Any) -> bool:
    """Is a NumPy scalar this Python number, the sign of a floating zero included?"""
    if isinstance(number, bool) or value.dtype.kind == "b":
        return isinstance(number, bool) and value.dtype.kind == "b" and bool(value) is number
    if value.dtype.kind in "iu":
        return bool(int(value) == number)
    if value.dtype.kind == "c":
        return False
    x = float(value)
    return x == number and (x != 0 or math.copysign(1, x) == math.copysign(1, number))


def match_value(pattern: Any, value: Any, facts: Facts, bound: Bindings) -> Iterator[Bindings]:
    """Every way in which `value` matches, as extended bindings."""
    if not isinstance(pattern, Pattern):
        scalar = facts.scalar(value)
        if scalar is not None and same_number(scalar, pattern):
            yield bound
        return
    if pattern.op is None:
        found = facts.scalar(value) if pattern.constant else value
        if found is not None and (pattern.name not in bound or same(bound[pattern.name], found)):
            yield {**bound, pattern.name: found}
        return
    application = facts.producer(value)
    if pattern.stretched:
        while application is not None and application.op.name in STRETCHING:
            application = facts.producer(application.inputs[0])
    if application is not None:
        yield from match_application(pattern, application, facts, bound)


def match_application(
    pattern: Pattern, application: Application, facts: Facts, bound: Bindings
) -> Iterator[Bindings]:
    """Every way in which an application matches."""
    if application.op is not pattern.op or len(application.inputs) != len(pattern.inputs):
        return
    if pattern.attrs or application.attrs:
        extended = match_attributes(pattern.attrs, application.attrs, bound)
        if extended is None:
            return
        bound = extended
    yield from match_inputs(pattern.inputs, application.inputs, facts, bound)
    if application.op.name in COMMUTATIVE:
        yield from match_inputs(pattern.inputs, application.inputs[::-1], facts, bound)


def match_inputs(
    wanted: tuple[Any, ...], given: tuple[Any, ...], facts: Facts, bound: Bindings
) -> Iterator[Bindings]:
    """Every way in which all inputs match at once."""
    if not wanted:
        yield bound
        return
    for extended in match_value(wanted[0], given[0], facts, bound):
        yield from match_inputs(wanted[1:], given[1:], facts, extended)


def match_attributes(wanted: Attrs, given: Attrs, bound: Bindings) -> Bindings | None:
    """The bindings with attribute variables, or None where the attributes differ."""
    if wanted.keys() != given.keys():
        return None
    out = dict(bound)
    for key, pattern in wanted.items():
        value = given[key]
        if isinstance(pattern, Attr):
            if out.setdefault(pattern.name, value) != value:
                return None
        elif pattern != value:
            return None
    return out


def same(a: Any, b: Any) -> bool:
    """The same value, or constants of equal type and bits."""
    if a is b:
        return True
    if isinstance(a, Arith) or isinstance(b, Arith):
        return False
    return bool(a.dtype == b.dtype and a.tobytes() == b.tobytes())


def instantiate(pattern: Any, bound: Bindings) -> Any:
    """The right side of a rule with its variables replaced, computed by calling ops."""
    if not isinstance(pattern, Pattern):
        return pattern
    if pattern.op is None:
        return bound[pattern.name]
    inputs = tuple(instantiate(x, bound) for x in pattern.inputs)
    attrs = {k: bound[a.name] if isinstance(a, Attr) else a for k, a in pattern.attrs.items()}
    return apply(pattern.op, inputs, attrs)


def apply(op: Op, inputs: tuple[Any, ...], attrs: Attrs) -> Any:
    """`op` with canonical attributes, in the kind at work; elementwise operands broadcast."""
    if isinstance(op, Elementwise) and not attrs:
        return op(*inputs)
    return reapply(op, inputs, attrs)[0]


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}


def pattern_text(pattern: Any) -> str:
    """A pattern as a reader would write it: `log(1 + exp(x))`."""
    if not isinstance(pattern, Pattern):
        return repr(pattern)
    if pattern.op is None:
        return pattern.name
    return application_text(pattern.op.name, [pattern_text(x) for x in pattern.inputs])


def application_text(name: str, inputs: list[str]) -> str:
    """An application over the texts of its inputs."""
    bracketed = [f"({x})" if is_infix(x) else x for x in inputs]
    if name in _INFIX and len(inputs) == 2:
        return f"{bracketed[0]} {_INFIX[name]} {bracketed[1]}"
    if name == "neg":
        return f"-{bracketed[0]}"
    return f"{name}({', '.join(inputs)})"


def is_infix(text: str) -> bool:
    """Does `text` have an operator outside of all brackets?"""
    depth = 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if c == " " and depth == 0:
            return True
    return False


def expression_text(value: Any, facts: Facts, depth: int = 3) -> str:
    """A value as an expression over types, at most `depth` applications deep."""
    scalar = facts.scalar(value)
    if scalar is not None:
        return repr(scalar.item())
    application = facts.producer(value) if depth else None
    if application is None:
        return str(value.type)
    inputs = [expression_text(x, facts, depth - 1) for x in application.inputs]
    return application_text(application.op.name, inputs)
