"""The state of a loop of the graph: which parts are carried as tensors, and of which types.

What the parts are is found by tracing the body on a guess. Tensors keep their types. Python numbers
are carried as tensors; one that the body gives back unchanged stays Python, and so does everything
that is no number. A name that only the body sets starts as zeros, beside a flag that says whether
it has a value. A guess that the body contradicts is corrected, and the body traced again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from graphgrad import nest
from graphgrad.arrays import Growable
from graphgrad.compiler.dtypes import DType, float32, float64, promote
from graphgrad.compiler.errors import ArgumentError, DTypeError, GraphgradError, ShapeError
from graphgrad.compiler.op import current_kind
from graphgrad.compiler.source import Where, here
from graphgrad.compiler.transform.autodiff import zeros_like
from graphgrad.compiler.types import same_shape, show_shape, tensor_type
from graphgrad.conversion.operators.containers import is_array, is_container, rebuilt
from graphgrad.conversion.operators.guesses import GuessAgain, agree
from graphgrad.conversion.operators.joins import Parts, Slot, Zeros, filled
from graphgrad.conversion.operators.loop_options import loop_options
from graphgrad.conversion.operators.names import described, label, origin
from graphgrad.conversion.operators.numbers import (
    adopts,
    dtype_of,
    is_numeric,
    is_weak,
    same_number,
    same_object,
    shape_of,
)
from graphgrad.conversion.operators.precision import meeting_float64
from graphgrad.conversion.operators.staleness import marks
from graphgrad.conversion.operators.undefined import Maybe, Undefined
from graphgrad.variable import Variable

Path = tuple[str, str]  # a name, and the way to a part of its value


_ADVICE = (
    "keep its shape, or allow the change with "
    "gg.autograph.experimental.set_loop_options(shape_invariants=[(x, shape)]), with None for the "
    "sizes that change"
)


class LoopState:
    """The guess about the state `values` of a loop, and what a trace of the body makes of it."""

    def __init__(
        self, values: Sequence[Any], names: Sequence[str], line: Where | None, sure: bool = False
    ) -> None:
        self.values = values
        self.names = names
        self.line = line  # where the body begins
        self.sure = sure  # the body runs at least once
        self.failure: GraphgradError | None = None  # no guess fits the types
        self.fixed: set[Path] = set()  # numbers that stay Python
        self.limit: Any = None  # of the number of trips
        self.read: set[Path] = set()  # variables in whose place other tensors come
        self.growing: set[Path] = set()  # lists whose length changes
        self.invariants: dict[str, tuple[Any, ...]] = {}  # by label: shapes, None for what changes
        self.dtypes: dict[Path, DType] = {}  # of numbers that adopted one
        self.found: dict[Path, Any] = {}  # what names without a value are after the body
        self.plans: list[Any] = []  # of the state that the body gets
        self.ends: list[Any] = []  # of the state after the loop
        self.start: list[Any] = []  # the carried tensors
        self.labels: list[str] = []  # of these
        self.places: list[tuple[Path, Any]] = []  # where they are in the state, and what is there
        self.leaving: list[Any] = []  # what the body makes of them
        self._params: list[Any] = []  # what stands for the carried tensors in a trip
        self._replaced: list[tuple[Any, Any]] = []  # tensors of which a trip replaces a part
        self._given: dict[int, tuple[Any, Any]] = {}  # by id of a copy: copy and original

    def guess(self) -> list[Any]:
        """The carried tensors as they are before the loop, by the guess as it is now."""
        self.start, self.labels, self.places, self._params = [], [], [], []
        self.plans = [self._plan(n, "", x) for n, x in zip(self.names, self.values, strict=True)]
        return self.start

    def weak(self) -> list[Path]:
        """The Python numbers that are carried as tensors."""
        return [
            (n, path) for n, x in zip(self.names, self.values) if not isinstance(x, Maybe)
            for path, leaf in nest.flatten_with_path(x)
            if is_weak(leaf) and (n, path) not in self.fixed
        ]  # fmt: skip

    def origin(self, param: Any) -> Any:
        """What the carried tensor `param` of this trip was before the loop, or None."""
        return next((self.places[k][1] for k, p in enumerate(self._params) if p is param), None)

    def may_adopt(self, param: Any, dtype: DType) -> bool:
        """Can the number that is carried as `param` get `dtype`: a wider one than it had?"""
        k = next(k for k, p in enumerate(self._params) if p is param)
        path, x = self.places[k]
        before = self.dtypes.get(path)
        wider = before is None or promote(before, dtype) is dtype
        return adopts(x, dtype) and dtype is not self.start[k].dtype and wider

    def adopt(self, param: Any, dtype: DType) -> None:
        """Guess `dtype` for it from now on, and again for what only the body sets."""
        k = next(k for k, p in enumerate(self._params) if p is param)
        self.dtypes[self.places[k][0]] = dtype
        self.found.clear()

    def _carry(self, name: str, path: str, value: Any, x: Any = None) -> Slot:
        self.start.append(value)
        self.labels.append(f"{name}{path}")
        self.places.append(((name, path), x))
        return Slot(len(self.start) - 1)

    def _plan(self, name: str, path: str, x: Any) -> Any:
        lift = current_kind().lift
        if isinstance(x, Maybe):
            flag = x.defined if isinstance(x.defined, bool) else lift(x.defined)
            value = self._plan(name, path, x.value)
            return Maybe(value, self._carry(name, " has a value", lift(flag)), x.reason)
        if isinstance(x, Undefined):
            if (name, path) not in self.found:
                return x
            value = self._plan(name, path, self.found[name, path])
            reason = x.reason or f"{label(name)} has no value: the loop made no trip"
            return Maybe(value, self._carry(name, " has a value", lift(False)), reason)
        if isinstance(x, Zeros):
            return self._carry(name, path, zeros_like(x.type))
        if is_array(x):
            return self._carry(name, path, x)
        if (name, path) in self.growing:
            return self._carry(name, path, self._growable(name, path, x))
        if is_container(x):
            parts = [self._plan(name, path + step, part) for step, part in nest.children(x)]
            return Parts(x, parts, None)
        if not is_numeric(x) or (is_weak(x) and (name, path) in self.fixed):
            return x
        if isinstance(x, Variable) and (name, path) not in self.read:
            return x
        return self._carry(name, path, lift(x, self.dtypes.get((name, path))), x)

    # A trip

    def enter(self, params: Sequence[Any]) -> tuple[Any, ...]:
        """The state that the body gets, of the carried tensors as they are then."""
        self._given = {}
        self._params = list(params)
        return tuple(self._filled(plan, params) for plan in self.plans)

    def _filled(self, plan: Any, params: Sequence[Any]) -> Any:
        if isinstance(plan, Parts):
            copy = rebuilt(plan.form, [self._filled(part, params) for part in plan.parts])
            self._given[id(copy)] = copy, plan.form
            return copy
        if isinstance(plan, Maybe):
            return Maybe(
                self._filled(plan.value, params), filled(plan.defined, params), plan.reason
            )
        return filled(plan, params)

    def trip(self, body: Callable[..., Any], params: Sequence[Any]) -> list[Any]:
        """The carried tensors after a trip; GuessAgain if its options are others than before."""
        with loop_options() as options:
            results = body(*self.enter(params))
        limit = options.get("maximum_iterations")
        by_id = {id(p): text for p, text in zip(params, self.labels)}
        invariants = {
            by_id[id(x)]: tuple(shape)
            for x, shape in options.get("shape_invariants", ()) if id(x) in by_id
        }  # fmt: skip
        if not _same_limit(limit, self.limit) or invariants != self.invariants:
            self.limit, self.invariants = limit, invariants
            raise GuessAgain(self)
        return self.leave(results)

    def shapes(self) -> list[Any] | None:
        """The shape invariants of the carried tensors, as `while_loop` takes them."""
        return [self.invariants.get(text) for text in self.labels] if self.invariants else None

    def leave(self, results: Sequence[Any]) -> list[Any]:
        """The carried tensors after a trip that left the state as `results`.

        GuessAgain where that does not fit the guess; errors where nothing would.
        """
        self.leaving = [None] * len(self.start)
        self.ends = [
            self._settle(name, "", plan, x, out)
            for name, plan, x, out in zip(self.names, self.plans, self.values, results, strict=True)
        ]
        self._check_replaced()
        leaving = [self._leaving(x, s) for x, s in zip(self.leaving, self.start, strict=True)]
        self.check_precision(leaving)
        return leaving

    def check_precision(self, leaving: Sequence[Any] = ()) -> None:
        """GuessAgain if Python floats, carried as float32, meet float64 in what is traced."""
        floats = {
            p: k for k, p in enumerate(self._params)
            if type(self.places[k][1]) is float and p.dtype is float32
            and self.places[k][0] not in self.dtypes
        }  # fmt: skip
        if floats:
            builder: Any = current_kind()
            after = {k: leaving[k] for k in floats.values()} if leaving else {}
            for k in meeting_float64(builder.nodes, floats, after):
                self.adopt(self._params[k], float64)
            if any(self.places[k][0] in self.dtypes for k in floats.values()):
                raise GuessAgain(self)

    def _leaving(self, x: Any, start: Any) -> Any:
        if isinstance(x, Zeros):
            return zeros_like(x.type)
        if is_array(x):
            return x
        return current_kind().lift(x, start.dtype if is_weak(x) else None)

    def _check_replaced(self) -> None:
        """A tensor of which a trip replaces a part must not be read under another name in it."""
        builder: Any = current_kind()
        self._replaced = [
            (x, stale[id(p)]) for stale in (marks(),)
            for x, p in zip(self.start, self._params, strict=True) if id(p) in stale
        ]  # fmt: skip
        for x, stale in self._replaced:
            if id(x) in builder.captures:
                raise stale.error()

    def _settle(self, name: str, path: str, plan: Any, x: Any, out: Any) -> Any:
        """The plan of what a name is after the loop, from what it is before and after a trip."""
        if isinstance(plan, Maybe):
            return self._settle_maybe(name, path, plan, x, out)
        if isinstance(plan, Undefined):
            if isinstance(out, Undefined):
                return out if out.reason else plan
            self.found[name, path] = _prototype(out)
            raise GuessAgain(self)
        if isinstance(out, Maybe):
            out = out.value if out.defined is True else Undefined(name, out.reason)
        if isinstance(out, Undefined):
            raise out.error()
        if isinstance(plan, Slot) and is_array(self.start[plan.index]):
            self.leaving[plan.index] = out if is_array(out) else self._growable(name, path, out)
            return plan
        if isinstance(plan, Slot):
            return self._settle_number(name, path, plan, x, out)
        if isinstance(plan, Parts):
            return self._settle_parts(name, path, plan, x, out)
        if is_weak(plan) and is_numeric(out) and not same_number(plan, out):
            self.fixed.discard((name, path))
            raise GuessAgain(self)
        if same_number(plan, out) or same_object(plan, out):
            return plan
        if isinstance(plan, Variable) and is_numeric(out):
            self.read.add((name, path))
            raise GuessAgain(self)
        raise self._error(ArgumentError, name, path, plan, out, described(plan), described(out),
                          "only tensors and numbers can change in a loop over tensors")  # fmt: skip

    def _growable(self, name: str, path: str, x: Any) -> Growable:
        """A list as one that grows."""
        try:
            if type(x) is list:
                return Growable.of(x)
        except GraphgradError:
            pass
        raise ArgumentError(
            f"{label(name, path)} changes its length in a loop over tensors, so it has to be a "
            f"list of tensors of one type, and it is {described(x)}; keep other things in a list "
            "of their own", here()
        )  # fmt: skip

    def lists(self) -> list[Path]:
        """The lists that are carried item by item, of numbers and tensors alone."""
        return [
            (n, "") for n, x in zip(self.names, self.values)
            if type(x) is list and x and (n, "") not in self.growing and all(map(is_numeric, x))
        ]  # fmt: skip

    def _settle_maybe(self, name: str, path: str, plan: Maybe, x: Any, out: Any) -> Any:
        flag, value = True, out
        if isinstance(out, Maybe):
            flag, value = out.defined, out.value
        self.leaving[plan.defined.index] = flag
        if isinstance(out, Undefined):
            self.leaving[plan.defined.index] = False
            self._leave_zeros(plan.value)
            return Maybe(plan.value, plan.defined, out.reason or plan.reason)
        before = x.value if isinstance(x, Maybe) else self.found.get((name, path))
        end = self._settle(name, path, plan.value, before, value)
        return end if self.sure and flag is True else Maybe(end, plan.defined, plan.reason)

    def _leave_zeros(self, plan: Any) -> None:
        if isinstance(plan, Parts):
            for part in plan.parts:
                self._leave_zeros(part)
        elif isinstance(plan, Slot):
            self.leaving[plan.index] = Zeros(self.start[plan.index].type)

    def _settle_number(self, name: str, path: str, plan: Slot, x: Any, out: Any) -> Any:
        entering = self.start[plan.index]
        if not is_numeric(out):
            raise self._error(ArgumentError, name, path, x, out, described(x), described(out),
                              "a tensor or number has to stay one")  # fmt: skip
        if same_number(x, out):
            self.fixed.add((name, path))
            raise GuessAgain(self)
        dtype = dtype_of(out)
        if dtype is not entering.dtype and not (is_weak(out) and adopts(out, entering.dtype)):
            if is_weak(x) and adopts(x, dtype) and self.dtypes.get((name, path)) is not dtype:
                self.dtypes[name, path] = dtype
                self.found.clear()
                raise GuessAgain(self)
            agree(entering, out)
            raise self._error(
                DTypeError, name, path, x, out, f"dtype {entering.dtype.name}",
                f"dtype {dtype.name}", "cast one of them (gg.cast)",
            )  # fmt: skip
        before, after = entering.type.shape, shape_of(out)
        open_axes = self.invariants.get(self.labels[plan.index], (0,) * len(before))
        if len(before) != len(after) or not same_shape(
            *(tuple(n for n, m in zip(s, open_axes) if m is not None) for s in (before, after))
        ):
            raise self._error(
                ShapeError, name, path, x, out, f"shape {show_shape(before)}",
                f"shape {show_shape(after)}",
                _ADVICE if len(before) == len(after) else "start with a tensor of that shape",
            )  # fmt: skip
        self.leaving[plan.index] = out
        return plan

    def _settle_parts(self, name: str, path: str, plan: Parts, x: Any, out: Any) -> Any:
        if isinstance(x, list) and (is_array(out) or _other_length(x, out)):
            self.growing.add((name, path))
            raise GuessAgain(self)
        if not is_container(out) or type(out) is not type(plan.form):
            raise self._error(ArgumentError, name, path, x, out, described(x), described(out),
                              "its structure has to stay the same")  # fmt: skip
        steps = [step for step, _ in nest.children(plan.form)]
        if [step for step, _ in nest.children(out)] != steps:
            raise self._error(ArgumentError, name, path, x, out, described(x), described(out),
                              "its structure has to stay the same")  # fmt: skip
        parts = [
            self._settle(name, path + step, p, a, b)
            for (step, a), p, (_, b) in zip(nest.children(x), plan.parts, nest.children(out))
        ]
        held = self._given.get(id(out))
        return Parts(plan.form, parts, held[1] if held is not None else None)

    def _error(
        self, kind: type[GraphgradError], name: str, path: str, x: Any, out: Any, one: str,
        two: str, advice: str,
    ) -> GraphgradError:  # fmt: skip
        verb = "has" if kind is not ArgumentError else "is"
        error = kind(
            f"{label(name, path)} {verb} {one} before the loop, but {two} after one iteration; "
            f"{advice}", here()
        )  # fmt: skip
        for side, value, line in (("before the loop", x, None), ("in the loop", out, self.line)):
            made = origin(value, line)
            if made:
                error.at(None, f"{side}: {made}")
        self.failure = error
        return error

    def result(self, carried: Sequence[Any]) -> tuple[Any, ...]:
        """The state after the loop, of the carried tensors as they are then."""
        marks().update((id(x), replace(stale, value=x)) for x, stale in self._replaced)
        return tuple(filled(plan, carried) for plan in self.ends)


def _same_limit(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, int) and isinstance(b, int) and a == b)


def _other_length(x: list[Any], out: Any) -> bool:
    return type(out) is list and len(x) != len(out)


def _prototype(x: Any) -> Any:
    """`x` with types in place of its tensors and numbers."""
    if isinstance(x, Maybe):
        return _prototype(x.value)
    if is_container(x):
        return rebuilt(x, [_prototype(part) for _, part in nest.children(x)])
    if is_array(x):
        return Growable()
    return Zeros(tensor_type(shape_of(x), dtype_of(x))) if is_numeric(x) else x
