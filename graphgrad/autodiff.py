"""gg.autodiff: forward mode as a context, beside the tape's reverse mode."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

from graphgrad import nest
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import Attrs, Kind, Op, current_kind, state
from graphgrad.compiler.passes.records import stabilise
from graphgrad.compiler.source import here, user_level
from graphgrad.compiler.transform.autodiff import push_all
from graphgrad.records import Record
from graphgrad.tape import GradientTape, constant_of
from graphgrad.tape_arguments import UnconnectedGradients, tangents_of, wants_zeros
from graphgrad.variable import Variable

__all__ = ["ForwardAccumulator", "GradientTape"]


class ForwardAccumulator:
    """The derivative of what is computed in its context along one direction: J v, at the cost of
    a few f.

    `primals` are tensors or variables, or a structure of them, and `tangents` the direction, of the
    same structure and shapes. None stands for what has no tangent. Accumulators and tapes nest in
    any order: an accumulator around a tape pushes the gradient forward (a Hessian-vector product),
    a tape around an accumulator goes back through the tangents. Of two accumulators the outer one
    sees the tangents of the inner. Tangents follow assignments to variables; they are computed when
    the context ends, or when they are asked for.

    >>> import graphgrad as gg
    >>> x = gg.constant([1.0, 2.0])
    >>> with gg.autodiff.ForwardAccumulator(x, gg.constant([1.0, 0.0])) as acc:
    ...     with gg.GradientTape() as tape:
    ...         tape.watch(x)
    ...         y = gg.reduce_sum(x**3)
    ...     gradient = tape.gradient(y, x)
    >>> acc.jvp(y).numpy(), acc.jvp(gradient).numpy()
    (np.float32(3.0), array([6., 0.], dtype=float32))
    """

    keeps_residuals = False

    def __init__(self, primals: Any, tangents: Any) -> None:
        self._recording = False
        self._builder: Kind | None = None  # of the trace that it records in
        self._tangents: dict[int, tuple[Any, Any]] = {}  # by id, beside a weak reference
        self._records: list[Record] = []  # whose tangents are not computed yet
        self._pending: set[int] = set()  # ids of their outputs
        self._primals: list[Any] = []
        given: set[int] = set()
        for path, x, t in tangents_of("ForwardAccumulator", primals, tangents):
            if t is None:
                continue
            self._add(x, t, f"the primal{path}")
            if id(x) in given:
                raise ArgumentError(
                    "A tensor was specified as a primal multiple times. This may indicate an "
                    "error. If it was intended, please sum the corresponding tangents.", here()
                )  # fmt: skip
            given.add(id(x))

    def _add(self, x: Any, t: Any, what: str) -> None:
        if not isinstance(x, Arith):
            raise ArgumentError(
                f"ForwardAccumulator: {what} is {x!r} of type {type(x).__name__!r}, not gg.Tensor "
                "or gg.Variable; gg.constant makes a tensor of it", here()
            )  # fmt: skip
        if not x.dtype.is_inexact:
            warnings.warn(
                "The dtype of the watched primal must be floating (e.g. gg.float32), got "
                f"{x.dtype!r}", stacklevel=user_level()
            )  # fmt: skip
            return
        kind = current_kind()
        value = kind.lift(x)
        t = kind.lift(t, None if isinstance(t, Arith) else x.dtype)
        if t.dtype is not x.dtype or t.type.shape != value.type.shape:
            raise ShapeError(
                f"ForwardAccumulator: {what} is {value.type}, and its tangent {t.type}; they are "
                "to have one dtype and shape", here()
            )  # fmt: skip
        self._primals.append(value)
        self._keep(value, t)

    def _keep(self, value: Any, tangent: Any) -> None:
        """The tangent lives as long as the value."""
        key, tangents = id(value), self._tangents
        tangents[key] = weakref.ref(value, lambda _: tangents.pop(key, None)), tangent

    def __enter__(self) -> ForwardAccumulator:
        if self._recording:
            raise ArgumentError("Accumulator is already recording.", here())
        self._recording = True
        self._builder = state.builder
        state.recorders = (*state.recorders, self)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if exception[0] is None:
                self._compute()
        finally:
            self._recording = False
            state.recorders = tuple([r for r in state.recorders if r is not self])

    def wants(self, values: Any) -> bool:
        """Has any of `values` a tangent?"""
        tangents, pending = self._tangents, self._pending
        return any(id(x) in tangents or id(x) in pending for x in values)

    def record(
        self, op: Op, inputs: tuple[Any, ...], attrs: Attrs, outputs: tuple[Any, ...]
    ) -> None:
        """Called with every application in this thread; keeps those of values with tangents."""
        if not op.nondifferentiable and self.wants(inputs):
            self._records.append(Record(op, inputs, attrs, outputs, state.where or here(2)))
            self._pending.update(map(id, outputs))

    def _compute(self) -> None:
        """The tangents of what was recorded, in stable forms.

        It waits until they are asked for, or the context ends, so that stability rules see whole
        forms. What is done is seen by all tapes, and by the accumulators around this one.
        """
        records, self._records = self._records, []
        self._pending.clear()
        if not records:
            return
        recorders, builder = state.recorders, state.builder
        around = recorders[: recorders.index(self)] if self in recorders else recorders
        state.recorders = tuple(
            [r for r in recorders if r in around or not isinstance(r, ForwardAccumulator)]
        )
        state.builder = self._builder  # which is around the one at work, if it is another
        try:
            stable = stabilise(records, sources=self._primals, constant=self._constant)
            tangents = {
                id(x): self._tangents[id(x)][1]
                for r in records for x in r.inputs if id(x) in self._tangents
            }  # fmt: skip
            push_all(stable, tangents)
        finally:
            state.recorders, state.builder = recorders, builder
        for r in records:
            for y in r.outputs:
                if id(y) in tangents:
                    self._keep(y, tangents[id(y)])

    def _constant(self, value: Any) -> Any:
        return None if id(value) in self._tangents else constant_of(value)

    def _tangent(self, x: Any) -> Any:
        known = self._tangents.get(id(x))
        return None if known is None else known[1]

    def jvp(self, target: Any, unconnected_gradients: Any = UnconnectedGradients.NONE) -> Any:
        """The tangent of `target`, or of each tensor of a structure.

        One that no primal has a path to gives None, or zeros if `unconnected_gradients` is "zero".
        """
        zeros = wants_zeros(unconnected_gradients)
        kind = current_kind()
        self._compute()

        def of(x: Any) -> Any:
            if x is None:
                return None
            if not isinstance(x, Arith):
                raise ArgumentError(
                    f"ForwardAccumulator.jvp: the target is {x!r} of type {type(x).__name__!r}, "
                    "not a tensor", here()
                )  # fmt: skip
            x = x.value() if isinstance(x, Variable) else x
            t = self._tangent(x)
            if t is None and state.builder is not None:
                t = self._tangent(kind.lift(x))
            if t is None and zeros:
                return kind.lift(0, x.dtype).broadcast_to(x.type.shape)
            return t

        return nest.map_structure(of, target)
