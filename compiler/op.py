"""Ops, their registry, and `apply`, through which every operation of every mode goes.

An op is one frozen record. A call `op(*args, **attrs)` goes to the *kind* of value at work: the
builder of the trace in progress, which appends a node, or the eager kind, which computes. Either
tells the active recorders (tapes), so that one reverse walker serves all modes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, wraps
from types import MappingProxyType
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np

from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import DTypeError, GraphgradError
from graphgrad.compiler.frozen import Frozen
from graphgrad.compiler.source import Where, here
from graphgrad.compiler.types import TensorType

Attrs = dict[str, Any]
Types = tuple[TensorType, ...]
P = ParamSpec("P")
R = TypeVar("R")

Failures = Mapping[str, tuple[type[GraphgradError], str]]


class Recorder(Protocol):
    """What a tape is to the compiler: it is told of each application."""

    def record(
        self, op: Op, inputs: tuple[Any, ...], attrs: Attrs, outputs: tuple[Any, ...]
    ) -> None: ...


class Application(Protocol):
    """What a tape record and an IR node have in common."""

    @property
    def op(self) -> Op: ...
    @property
    def inputs(self) -> tuple[Any, ...]: ...
    @property
    def attrs(self) -> Attrs: ...
    @property
    def outputs(self) -> tuple[Any, ...]: ...
    @property
    def where(self) -> Where | None: ...
    @property
    def derivative(self) -> Where | None:
        """The place of what differentiation makes of it."""


class Kind(Protocol):
    """A kind of value: how its values are made, and what applying an op to them means."""

    def call(self, op: Op, args: tuple[Any, ...], attrs: Attrs) -> Any:
        """Lift, prepare and apply; the public entry of every op."""

    def lift(self, x: object, dtype: DType | None = None) -> Any:
        """`x` (a value, an array, a Python number, an unknown size) as a value of this kind."""

    def apply(self, op: Op, inputs: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
        """Apply `op` to lifted and prepared values; returns its outputs."""


class State(threading.local):
    """What is going on in this thread."""

    builder: Kind | None = None  # the trace in progress
    recorders: tuple[Recorder, ...] = ()  # the active tapes, outermost first
    where: Where | None = None  # overrides the user's line (derivatives, inlined calls)


state = State()


class _Eager:
    """The eager kind, which the user layer supplies; without one only traces can run."""

    kind: Kind | None = None


def set_eager(kind: Kind) -> None:
    """Tell the compiler how to run ops outside traces."""
    _Eager.kind = kind


def current_kind() -> Kind:
    """The builder of the trace in progress, or the eager kind."""
    kind = state.builder or _Eager.kind
    if kind is None:
        raise RuntimeError("no trace is in progress, and no eager kind is set: import graphgrad")
    return kind


class Samples(Frozen):
    """What tests iterate for one op: where its inputs lie, their shapes, attributes and dtypes.

    `cases` overrides everything with explicit (arrays, attrs) pairs made by a function of a seeded
    generator and a dtype. `domain` is the interval of random inputs, one for all or one an input;
    `edges` are values at which forward results are checked beside the random ones. `errors` holds
    (function of the op, message fragment) pairs.
    """

    domain: tuple[Any, ...] = (-3.0, 3.0)
    shapes: tuple[tuple[tuple[int, ...], ...], ...] = ()
    dtypes: tuple[str, ...] = ("float32", "float64", "bfloat16")
    attrs: tuple[Attrs, ...] = ({},)
    edges: tuple[Any, ...] = (
        0.0,
        -0.0,
        1.0,
        -1.0,
        np.inf,
        -np.inf,
        np.nan,
        1e-40,
        1e-310,
        88.8,
        -104.0,
    )
    cases: Callable[[np.random.Generator, Any], Iterable[tuple[Sequence[Any], Attrs]]] | None = None
    errors: tuple[tuple[Callable[[Op], Any], str], ...] = ()
    # The independent expected value: a function of long doubles (integers as they are) and the
    # attributes, or the name of a function of mpmath.
    oracle: Callable[..., Any] | str | None = None
    ulp: float = 4.0  # declared error of the float32 and float64 forward value
    # What the op is given in place of the arrays, as values made of them: for ops of matrices that
    # are symmetric or the like, whose differences lead to others of their kind. The oracle gets the
    # arrays.
    through: Callable[..., Sequence[Any]] | None = None


class Op(Frozen):
    """One operation. Families (`families.py`) supply what their members share.

    Exactly one of the derivative fields is given; all are written in ops, never in arrays, so that
    they serve eager tapes, traces and every order:

    - `vjp(g, out, *xs, needs, **attrs)`: one cotangent an input (None where not needed or zero).
      For multi-output ops `g` and `out` are tuples, and entries of `g` may be None.
      `jvp(ts, out, *xs, **attrs)`: the tangent(s) of the output; entries of `ts` may be None.
    - `transpose(g, *xs, **attrs)`: for an op that is linear in all its inputs jointly.
    - `decompose(*xs, **attrs)`: the op as a composition of others, which carry the derivative.
      An op with a rule of its own may have it too: then it is only the lowering.
    - `nondifferentiable=True`.
    """

    name: str
    doc: str = ""
    type: Callable[..., TensorType | Types]
    ref: Callable[..., Any]
    bind: Callable[..., tuple[tuple[Any, ...], Attrs]] | None = (
        None  # user arguments -> (values, attrs)
    )
    vjp: Callable[..., tuple[Any, ...]] | None = None
    jvp: Callable[..., Any] | None = None
    transpose: Callable[..., tuple[Any, ...]] | None = None
    decompose: Callable[..., Any] | None = None
    nondifferentiable: bool = False
    batch: Callable[..., Any] | None = None
    samples: Samples | None = Samples()
    multi: bool = False  # several outputs: `type` and `ref` give tuples
    effect: bool = False  # ordered and never removed
    raises: bool = False  # may fail on the values of its inputs
    # How: kernel failure -> (error class, message over {a}, {b}, {index} and the attributes).
    failures: Failures = MappingProxyType({})
    takes_complex: bool = False
    by_component: bool = False  # complex values: the same on real and on imaginary parts
    # What to do instead, where complex values are refused; a sentence's end.
    instead_of_complex: str = "take gg.math.real, gg.math.imag or gg.abs of them first"
    # Its user-facing name where it is not `name`, "" when internal. Several are given as a tuple of
    # full dotted names: ("exp", "math.exp") is gg.exp and gg.math.exp.
    public: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        given = [self.vjp, self.transpose, self.nondifferentiable or None]
        given += self._derivative_fields()
        if all(x is None for x in given):  # beside a rule, a decomposition is only the lowering
            given.append(self.decompose)
        if sum(x is not None for x in given) != 1:
            raise TypeError(
                f"op {self.name}: give exactly one derivative, got {sum(map(bool, given))}"
            )
        if self.name in ops:
            raise TypeError(f"op {self.name} is defined twice")
        ops[self.name] = self
        object.__setattr__(self, "raises", self.raises or bool(self.failures))
        names = self.public_names
        object.__setattr__(self, "__name__", names[0].rpartition(".")[2] if names else self.name)
        object.__setattr__(self, "__doc__", self.doc)

    @property
    def public_names(self) -> tuple[str, ...]:
        """The dotted names under which users find it: none for an internal op."""
        if isinstance(self.public, tuple):
            return self.public
        return (self.public or self.name,) if self.public != "" else ()

    def failure(
        self, kind: str, attrs: Attrs, a: object = 0, b: object = 0, index: object = 0
    ) -> GraphgradError:
        """The error for a failure found in the values: one text for `ref` and kernels."""
        error, message = self.failures[kind]
        return error(message.format(a=a, b=b, index=index, **attrs))

    def refusal(self, given: Iterable[str]) -> DTypeError:
        """The error for complex values where the op takes none."""
        return DTypeError(
            f"{self.name}: takes no complex numbers, got {' and '.join(given)}; "
            f"{self.instead_of_complex}"
        )

    def _derivative_fields(self) -> list[Any]:
        return []

    @cached_property
    def by_parts(self) -> bool:
        """Is its derivative that of its decomposition?"""
        rules = (
            self.vjp,
            self.transpose,
            self.nondifferentiable or None,
            *self._derivative_fields(),
        )
        return self.decompose is not None and all(x is None for x in rules)

    def __call__(self, *args: Any, **attrs: Any) -> Any:
        return current_kind().call(self, args, attrs)

    def prepare(
        self, kind: Kind, args: tuple[Any, ...], attrs: Attrs
    ) -> tuple[tuple[Any, ...], Attrs]:
        """The arguments of a call as values of one kind, and canonical attributes."""
        try:
            return self.arguments(kind, args, attrs)
        except GraphgradError as e:
            raise e.at(state.where or here()) from None

    def arguments(
        self, kind: Kind, args: tuple[Any, ...], attrs: Attrs
    ) -> tuple[tuple[Any, ...], Attrs]:
        """Lift the arguments to one kind; families insert casts and broadcasts here."""
        if self.bind is not None:
            args, attrs = self.bind(*args, **attrs)
        return tuple(kind.lift(a) for a in args), attrs

    def infer(self, types: Types, attrs: Attrs) -> Types:
        """The types of the outputs; errors name the op and the user's line."""
        try:
            if not self.takes_complex and any([t.dtype.is_complex for t in types]):
                raise self.refusal(map(str, types))
            result = self.type(*types, **attrs)
        except GraphgradError as e:
            raise e.at(state.where or here()) from None
        return result if isinstance(result, tuple) else (result,)

    def evaluate(self, arrays: Sequence[Any], attrs: Attrs) -> tuple[Any, ...]:
        """The outputs for NumPy arrays: the eager CPU path, the interpreter and the folder."""
        result = self.ref(*arrays, **attrs)
        return tuple(result) if self.multi else (result,)

    def pullback(
        self, gs: tuple[Any, ...], outs: tuple[Any, ...], xs: tuple[Any, ...], attrs: Attrs,
        needs: tuple[bool, ...],
    ) -> tuple[Any, ...]:  # fmt: skip
        """One cotangent an input, from the cotangents of the outputs (some may be None)."""
        if self.transpose is not None:
            return self.transpose(gs[0], *xs, **attrs)
        if self.vjp is not None:
            g, out = (gs, outs) if self.multi else (gs[0], outs[0])
            return self.vjp(g, out, *xs, needs=needs, **attrs)
        return (None,) * len(xs)

    def pushforward(
        self, ts: tuple[Any, ...], outs: tuple[Any, ...], xs: tuple[Any, ...], attrs: Attrs
    ) -> tuple[Any, ...]:
        """One tangent an output, from the tangents of the inputs (some may be None)."""
        if self.transpose is not None:  # linear: the op itself, on tangents
            filled = tuple(zeros_like(x) if t is None else t for x, t in zip(xs, ts, strict=True))
            return reapply(self, filled, attrs)
        if self.jvp is not None:
            result = self.jvp(ts, outs if self.multi else outs[0], *xs, **attrs)
            return tuple(result) if self.multi else (result,)
        return (None,) * len(outs)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return ops.__getitem__, (self.name,)


ops: dict[str, Op] = {}  # the registry: every op by name


def located(fn: Callable[P, R]) -> Callable[P, R]:
    """`fn`, a function that users call, with their line on its errors."""

    @wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return fn(*args, **kwargs)
        except GraphgradError as e:
            raise e.at(state.where or here()) from None

    return call


def zeros_like(x: Any) -> Any:
    """Zeros of the shape and dtype of `x`, whatever it holds."""
    return ops["broadcast_to"](x.dtype.dtype.type(0), x.shape)


def reapply(op: Op, inputs: Sequence[Any], attrs: Attrs) -> tuple[Any, ...]:
    """Apply `op` in the kind at work to the inputs and attributes of a node."""
    kind = current_kind()
    return kind.apply(op, tuple(map(kind.lift, inputs)), attrs)


def record(op: Op, inputs: tuple[Any, ...], attrs: Attrs, outputs: tuple[Any, ...]) -> None:
    """Tell the active tapes of an application."""
    for recorder in state.recorders:
        recorder.record(op, inputs, attrs, outputs)
