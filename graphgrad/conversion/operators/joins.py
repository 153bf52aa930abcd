"""What two branches leave behind, made one: tensors become outputs of the condition, Python stays.

`Join.of` walks the values of one name in both branches and returns a plan: the value itself where
both are the same, else a structure with a `Slot` for each output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphgrad import nest
from graphgrad.arrays import Growable
from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, DTypeError, GraphgradError, ShapeError
from graphgrad.compiler.op import current_kind
from graphgrad.compiler.source import Where, here
from graphgrad.compiler.transform.autodiff import zeros_like
from graphgrad.compiler.types import Shape, TensorType, show_shape, tensor_type
from graphgrad.conversion.operators.containers import is_array, is_container, rebuilt, written_back
from graphgrad.conversion.operators.guesses import agree
from graphgrad.conversion.operators.names import described, is_own, label, origin
from graphgrad.conversion.operators.numbers import (
    adopts,
    dtype_of,
    is_numeric,
    is_weak,
    same_number,
    same_object,
    shape_of,
)
from graphgrad.conversion.operators.subtrace import SubTrace
from graphgrad.conversion.operators.undefined import Maybe, Undefined

MAIN, ELSE = "the main branch", "the else branch"


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of an output of the condition."""

    index: int


@dataclass(frozen=True, slots=True)
class Parts:
    """A structure to be rebuilt, in `original` where both branches changed copies of it."""

    form: Any
    parts: list[Any]
    original: Any


@dataclass(frozen=True, slots=True)
class Zeros:
    """Stands for a value in a branch that gives none."""

    type: TensorType


class Join:
    """The outputs that both branches are to have: `main[i]` and `other[i]` are lifted to `i`."""

    def __init__(
        self, sides: tuple[SubTrace, SubTrace], lines: tuple[Where | None, Where | None]
    ) -> None:
        self.sides = sides
        self.lines = lines  # where the branches begin
        self.main: list[tuple[Any, DType | None]] = []
        self.other: list[tuple[Any, DType | None]] = []
        self.varies: list[bool] = []  # which outputs are rows of arrays that grow

    def of(self, name: str, a: Any, b: Any, path: str = "") -> Any:
        """The plan for the values `a` and `b` of `name`."""
        if a is b:
            return a
        if isinstance(a, Undefined | Maybe) or isinstance(b, Undefined | Maybe):
            return self._missing(name, a, b, path)
        if is_array(a) or is_array(b) or _differ_in_length(a, b):
            return self._arrays(name, a, b, path)
        if is_container(a) or is_container(b):
            return self._containers(name, a, b, path)
        if isinstance(a, Zeros) or isinstance(b, Zeros):
            return self._output(a, b, None)
        if is_numeric(a) and is_numeric(b):
            return self._numbers(name, a, b, path)
        if not is_numeric(a) and not is_numeric(b) and same_object(a, b):
            return a
        advice = "only tensors and numbers can depend on a tensor condition"
        if is_own(name) and (a is None or b is None):
            advice = "return a value on every way through the function, or on none"
        raise self._error(
            ArgumentError, name, path, a, b, described(a), described(b), advice
        )  # fmt: skip

    def _output(self, a: Any, b: Any, dtype: DType | None, varies: bool = False) -> Slot:
        self.varies.append(varies)
        self.main.append((a, dtype))
        self.other.append((b, dtype))
        return Slot(len(self.main) - 1)

    def _numbers(self, name: str, a: Any, b: Any, path: str) -> Any:
        if same_number(a, b):
            return a
        left, right = dtype_of(a), dtype_of(b)
        dtype = left
        if left is not right:
            if is_weak(a) and not is_weak(b) and adopts(a, right):
                dtype = right
            elif is_weak(b) and not is_weak(a) and adopts(b, left):
                dtype = left
            elif is_weak(a) and is_weak(b) and left.is_integer and right.is_integer:
                dtype = dtypes.int64
            else:
                agree(a, b)
                raise self._error(
                    DTypeError, name, path, a, b, f"dtype {left.name}", f"dtype {right.name}",
                    "cast one of them (gg.cast)",
                )  # fmt: skip
        shapes = shape_of(a), shape_of(b)
        if not may_agree(*shapes):
            raise self._error(
                ShapeError, name, path, a, b, f"shape {show_shape(shapes[0])}",
                f"shape {show_shape(shapes[1])}", "give both the same shape",
            )  # fmt: skip
        return self._output(a, b, dtype)

    def _containers(self, name: str, a: Any, b: Any, path: str) -> Any:
        missing = isinstance(a, Zeros) or isinstance(b, Zeros)
        form = b if isinstance(a, Zeros) else a
        if not missing:
            try:
                nest.assert_same(_shallow(a), _shallow(b))
            except ArgumentError:
                raise self._error(
                    ArgumentError, name, path, a, b, _form(a), _form(b),
                    "both branches have to leave the same structure",
                ) from None  # fmt: skip
        steps = [step for step, _ in nest.children(form)]
        sides = [_children(x, len(steps)) for x in (a, b)]
        parts = [self.of(name, x, y, path + step) for step, x, y in zip(steps, *sides)]
        originals = [side.copies.get(id(x)) for side, x in zip(self.sides, (a, b))]
        original = originals[0] if originals[0] is originals[1] else None
        return Parts(form, parts, original)

    def _arrays(self, name: str, a: Any, b: Any, path: str) -> Any:
        """Lists that grow: of any length in either branch, of equal elements."""
        try:
            x, y = (self._growable(side, v) for side, v in zip(self.sides, (a, b)))
            with self.sides[0].entered():
                left = x.like(y)
            with self.sides[1].entered():
                right = y.like(x)
            if left.typed:
                nest.assert_same(left, right)
        except GraphgradError:
            raise self._error(
                ArgumentError, name, path, a, b, described(a), described(b),
                "a list whose length depends on a tensor holds tensors of one type",
            ) from None  # fmt: skip
        pairs = zip(nest.flatten(left), nest.flatten(right), strict=True)
        rows = [self._row(name, path, p, q) for p, q in pairs] if left.typed else []
        return Parts(left, rows, None)

    def _growable(self, side: SubTrace, x: Any) -> Any:
        """A list as one that grows, made in the branch that it is of."""
        if is_array(x):
            return x
        if not isinstance(x, list):
            raise ArgumentError("no list")
        with side.entered():
            return Growable.of(x)

    def _row(self, name: str, path: str, a: Any, b: Any) -> Slot:
        """One tensor of the rows of both."""
        if a.dtype is not b.dtype:
            raise self._error(
                DTypeError, name, path, a, b, f"elements of dtype {a.dtype.name}",
                f"elements of dtype {b.dtype.name}", "cast one of them (gg.cast)",
            )  # fmt: skip
        shapes = a.type.shape[1:], b.type.shape[1:]
        if not may_agree(*shapes):
            raise self._error(
                ShapeError, name, path, a, b, f"elements of shape {show_shape(shapes[0])}",
                f"elements of shape {show_shape(shapes[1])}", "give all the same shape",
            )  # fmt: skip
        return self._output(a, b, None, varies=True)

    def _missing(self, name: str, a: Any, b: Any, path: str) -> Any:
        """The plan for a value that one branch at least does not have for sure."""
        if isinstance(a, Undefined) and isinstance(b, Undefined):
            return a if a.reason or not b.reason else b
        (x, p), (y, q) = _defined(a), _defined(b)
        flag = self._output(p, q, dtypes.bool_)
        if x is None or y is None:
            plan = self._zeros(name, path, y if x is None else x, left=x is None)
        else:
            plan = self.of(name, x[0], y[0], path)
        if isinstance(p, bool) and isinstance(q, bool) and not is_own(name):
            return Maybe(plan, flag, self._undefined(name, a, b), refused=True)
        reason = next(v.reason for v in (a, b) if isinstance(v, Maybe | Undefined))
        return Maybe(plan, flag, reason or f"{label(name)} has no value on the way taken")

    def _zeros(self, name: str, path: str, present: Any, left: bool) -> Any:
        """The plan for a value that only one branch has."""
        x = present[0]
        if is_array(x):
            return self._arrays(name, *(([], x) if left else (x, [])), path)
        if is_container(x):
            parts = [
                self._zeros(name, path + step, (part,), left) for step, part in nest.children(x)
            ]
            return Parts(x, parts, None)
        if not is_numeric(x):
            return x
        zeros = Zeros(tensor_type(shape_of(x), dtype_of(x)))
        dtype = dtype_of(x)
        return self._output(zeros, x, dtype) if left else self._output(x, zeros, dtype)

    def _undefined(self, name: str, a: Any, b: Any) -> str:
        side, missing = (MAIN, 0) if isinstance(a, Undefined) else (ELSE, 1)
        given = b if missing == 0 else a
        made = _line_of(given, self.sides[1 - missing], self.lines[1 - missing])
        at = f"; it is set in {made}" if made else ""
        return (
            f"{label(name)} must also be initialized in {side}{at}, under a condition that is a "
            "tensor: give it a value before the condition, or in both branches"
        )

    def _error(
        self, kind: type[GraphgradError], name: str, path: str, a: Any, b: Any, one: str,
        two: str, advice: str,
    ) -> GraphgradError:  # fmt: skip
        verb = "has" if kind is not ArgumentError else "is"
        error = kind(
            f"{label(name, path)} {verb} {one} in {MAIN}, but {two} in {ELSE}; {advice}", here()
        )
        for side, text, x in zip((0, 1), (MAIN, ELSE), (a, b)):
            made = _line_of(x, self.sides[side], self.lines[side])
            if made:
                error.at(None, f"{text}: {made}")
        return error


def _line_of(x: Any, side: SubTrace, start: Where | None) -> str:
    """Where a branch made `x`, or where the branch begins if it comes from elsewhere."""
    return origin(x if getattr(x, "builder", None) is side.builder else None, start)


def _differ_in_length(a: Any, b: Any) -> bool:
    """Are they lists that a branch made longer or shorter?"""
    return type(a) is list and type(b) is list and len(a) != len(b)


def may_agree(a: Shape, b: Shape) -> bool:
    """Can the run find the shapes equal, or give the results a size of their own?"""
    return len(a) == len(b) and all(n == m or not isinstance(n - m, int) for n, m in zip(a, b))


def _defined(x: Any) -> tuple[Any, Any]:
    """The value of a name, in a tuple (None where there is none), and whether it has one."""
    if isinstance(x, Undefined):
        return None, False
    return ((x.value,), x.defined) if isinstance(x, Maybe) else ((x,), True)


def _children(x: Any, count: int) -> list[Any]:
    return [x] * count if isinstance(x, Zeros) else [part for _, part in nest.children(x)]


def _shallow(x: Any) -> Any:
    """A structure with leaves for children: its own form alone."""
    return rebuilt(x, [None] * len(nest.children(x))) if is_container(x) else x


def _form(x: Any) -> str:
    if isinstance(x, dict):
        return f"a dict with {', '.join(map(repr, x)) or 'no keys'}"
    return described(x)


def lifted(entries: Sequence[tuple[Any, DType | None]]) -> list[Any]:
    """The outputs of one branch, as values of its trace."""
    kind = current_kind()
    found = []
    for x, dtype in entries:
        if isinstance(x, Zeros):
            found.append(zeros_like(x.type))
        else:
            found.append(kind.lift(x, dtype if is_weak(x) else None))
    return found


def filled(plan: Any, outputs: Sequence[Any]) -> Any:
    """The value of a name, from its plan and the outputs of the condition."""
    if isinstance(plan, Slot):
        return outputs[plan.index]
    if isinstance(plan, Maybe):
        value = filled(plan.value, outputs)
        return Maybe(value, filled(plan.defined, outputs), plan.reason, plan.refused)
    if isinstance(plan, Parts):
        joined = rebuilt(plan.form, [filled(part, outputs) for part in plan.parts])
        return joined if plan.original is None else written_back(plan.original, joined)
    return plan
