"""One trace of a function: its graph, what it captured, and how it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from graphgrad import execution, nest
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.ir import Graph, Value
from graphgrad.compiler.op import state
from graphgrad.compiler.ops.control import call_for_tape
from graphgrad.compiler.source import Where, here
from graphgrad.compiler.transform.sizes import specialise
from graphgrad.compiler.types import TensorType, tensor_type
from graphgrad.eager import array_of, eager, owned_array
from graphgrad.guards import Guards
from graphgrad.matching import SizeGuards, Slot, matcher, result_builder
from graphgrad.signature import Arguments, TensorSpec, is_tensor_leaf
from graphgrad.tensor import Array, EagerTensor
from graphgrad.tracing import FunctionBuilder, replayed, storage
from graphgrad.variable import Variable


class ConcreteFunction:
    """A function traced for one kind of arguments. Call it with tensors of that kind.

    >>> import graphgrad as gg
    >>> f = gg.function(lambda x: x * 2).get_concrete_function(gg.TensorSpec([None]))
    >>> f(gg.constant([1.0, 2.0])).numpy()
    array([2., 4.], dtype=float32)
    """

    def __init__(
        self, name: str, builder: FunctionBuilder, arguments: Arguments, result: Any, compiled: bool
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.writes: list[Variable] = builder.writes
        outputs: list[Value] = []
        self.structured_outputs_template = _template(result, outputs, builder)
        self._returned = len(outputs)
        outputs += [builder.lift(builder.tables[0].values[id(v)]) for v in self.writes]
        self.sizes = SizeGuards(builder.scope)
        self.graph: Graph = specialise(builder.finish(outputs), self.sizes.equalities())
        self.captures: list[Any] = builder.captured
        self.compiled = compiled
        self.runner = execution.runner(self.graph, compiled)
        self.parameters = len(builder.params)
        self.where: Where | None = None
        self.plain_count = 0
        self.form: Any = None  # what native code knows of this trace, once it does
        self.may_go_native = compiled  # more than it does: calls with other sizes, or at all
        self.seconds = 0.0
        self.difference = ""
        self.signature_text = ""
        self.guards = Guards()
        self.check: Callable[[], bool] | None = None
        self.types = [p.type for p in builder.params]  # with every size that was left open
        self.match = matcher(arguments, self.types, self.sizes) or (lambda args: None)
        self.build = result_builder(self.structured_outputs_template)
        self._sources: list[Any] = []
        self._constant: list[Array] | None = None
        self.donated: tuple[bool, ...] = ()  # inputs that a run may overwrite
        self._lends: list[bool] = []
        self._locks: list[Any] = []
        self._takes: list[Callable[[], Array]] = []
        self._resolve_captures()

    def use_guards(self, guards: Guards) -> None:
        """Take what the trace read of Python's state; captured tensors among it are read anew."""
        self.guards = guards
        self.check = self._checks_variables(guards.compile())
        self._resolve_captures()

    def _checks_variables(self, check: Callable[[], bool] | None) -> Callable[[], bool] | None:
        """`check`, and that variables of open shape have the shapes that they were traced with."""
        shapes = [
            (x, value.type.shape)
            for x, value in zip(self.captures, self.graph.params[self.parameters :])
            if isinstance(x, Variable) and x._shape is not None
        ]
        if not shapes:
            return check
        return lambda: (
            all(x._type.shape == shape for x, shape in shapes) and (check is None or check())
        )

    def _resolve_captures(self) -> None:
        self._sources = []
        for x in self.captures:
            getter = None if isinstance(x, Variable) else self.guards.getter(x)
            self._sources.append(x if getter is None else getter)
        if all(isinstance(x, EagerTensor) for x in self._sources):
            self._constant = [array_of(x) for x in self._sources]
        else:
            self._constant = None
        written = {id(v) for v in self.writes}
        self._lends = [id(x) in written for x in self.captures]
        self.donated = (False,) * self.parameters + tuple(self._lends)
        self._locks = [v._lock for v in sorted(self.writes, key=id)]  # in one order everywhere
        self._takes = [
            x.lend if given else _taker(source)
            for x, given, source in zip(self.captures, self._lends, self._sources)
        ]

    def current_captures(self) -> list[Any]:
        """The captured tensors and variables, as they are bound now."""
        return [x if isinstance(x, Arith | np.ndarray) else x() for x in self._sources]

    def captured_arrays(self) -> list[Array]:
        """The arrays of the captures, as they are bound now."""
        return [_contiguous(x) for x in self.current_captures()]

    # Running

    @property
    def count(self) -> int:
        """How often it was run."""
        return self.plain_count + (0 if self.form is None else self.form.calls)

    def run(self, arrays: list[Array]) -> Any:
        """The result for the arrays of the tensor arguments, no tape watching."""
        self.plain_count += 1
        if self.writes:
            return self._run_and_write(arrays)
        if self._constant is None:
            arrays += self.captured_arrays()
        else:
            arrays += self._constant
        return self.build(self.runner.run(arrays))

    def _run_and_write(self, arrays: list[Array]) -> Any:
        """Run with the written variables locked; they change only if the run succeeds.

        A variable whose tensor and memory nobody else holds lends its memory to the run. Until it
        ends, the variable has no value, and other threads that read it wait for the lock.
        """
        for lock in self._locks:
            lock.acquire()
        try:
            try:
                for take in self._takes:
                    arrays.append(take())
                outputs = self.runner.run(arrays, self.donated)
            except BaseException:
                for x, given, array in zip(self.captures, self._lends, arrays[self.parameters :]):
                    if given:
                        x.commit(EagerTensor(array))
                raise
            for v, array in zip(self.writes, outputs[self._returned :]):
                v.commit(EagerTensor(array))
            return self.build(outputs)
        finally:
            for lock in self._locks:
                lock.release()

    def replan(self) -> None:
        """The number of threads has changed: native calls are prepared anew."""
        if self.form is not None:
            self.form.forget_plans()
            self.may_go_native = True

    def run_recorded(self, tensors: list[Any]) -> Any:
        """The result for tensor arguments, while tapes are active."""
        with ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock)
            inputs = tensors + [eager.lift(x) for x in self.current_captures()]
            recorders = state.recorders
            tapes = [r for r in recorders if getattr(r, "keeps_residuals", True)]
            needs = tuple(_wanted(x, tapes) for x in inputs)
            followed = any(needs) or (
                len(tapes) < len(recorders) and any(_wanted(x, recorders) for x in inputs)
            )
            if not followed and replayed() is None:
                return self.run([array_of(x) for x in tensors])
            self.plain_count += 1
            outputs = call_for_tape(self.graph, inputs, needs)
            for v, new in zip(self.writes, outputs[self._returned :]):
                v.install(new)
        return _pack(self.structured_outputs_template, outputs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves = nest.flatten((args, kwargs))
        tensors: list[Any] = [x for x in leaves if isinstance(x, Arith | np.ndarray | np.generic)]
        wanted = self.types
        if len(tensors) != len(wanted):
            numbers = [x for x in leaves if isinstance(x, int | float | list)]
            if len(tensors) + len(numbers) != len(wanted):
                raise ArgumentError(
                    f"{self.name}: this concrete function takes {len(wanted)} tensors, got "
                    f"{len(tensors)}", here()
                )  # fmt: skip
            tensors = [
                x
                for x in leaves
                if isinstance(x, Arith | np.ndarray | np.generic | int | float | list)
            ]
        fitted = [self._fit(x, t) for x, t in zip(tensors, wanted)]
        sizes: tuple[Any, ...] = tuple(
            n for x, t in zip(fitted, wanted)
            for n, m in zip(x.type.shape, t.shape) if not isinstance(m, int)
        )  # fmt: skip
        if sizes and not self.sizes.hold(sizes):
            raise ArgumentError(
                f"{self.name}: this trace relies on {'; '.join(map(str, self.sizes.guards))}, "
                "which "
                f"does not hold for sizes {sizes}", here()
            )  # fmt: skip
        if state.recorders:
            return self.run_recorded(fitted)
        return self.run([array_of(x) for x in fitted])

    def _fit(self, x: Any, wanted: TensorType) -> EagerTensor:
        if not isinstance(x, Arith):
            x = EagerTensor(owned_array(x, None if isinstance(x, np.ndarray) else wanted.dtype))
        x = eager.lift(x)
        spec = _spec(wanted)
        if not spec.is_compatible_with(x):
            raise DTypeError(
                f"{self.name}: this concrete function takes {wanted}, got {x.type}", here()
            )
        return x

    # Inspection

    @property
    def inputs(self) -> list[Any]:
        """The symbolic inputs: arguments, then captures."""
        return list(self.graph.params)

    @property
    def outputs(self) -> list[Any]:
        """The symbolic outputs."""
        return list(self.graph.outputs[: self._returned])

    @property
    def captured_inputs(self) -> list[Any]:
        """The tensors and variables that the trace captured."""
        return self.current_captures()

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables that the trace reads or writes."""
        found = [x for x in self.captures if isinstance(x, Variable)]
        return tuple(found + [v for v in self.writes if all(v is not x for x in found)])

    @property
    def trainable_variables(self) -> tuple[Variable, ...]:
        return tuple(v for v in self.variables if v.trainable)

    @property
    def structured_input_signature(self) -> Any:
        """The arguments, tensors as TensorSpec: (args, kwargs)."""
        types = iter(self.types)
        leaves = [_spec(next(types)) if is_tensor_leaf(x) else x for x in self.arguments.leaves]
        return nest.pack((self.arguments.args, self.arguments.kwargs), leaves)

    @property
    def structured_outputs(self) -> Any:
        """The result's structure, tensors as TensorSpec."""
        return nest.map_structure(
            lambda x: _spec(self.graph.output_types[x.index]) if isinstance(x, Slot) else x,
            self.structured_outputs_template,
        )

    def pretty_printed_signature(self) -> str:
        """The signature as text."""
        return f"{self.name}({self.signature_text}) -> {self.structured_outputs}"

    def ready(self) -> float:
        """Compile now, if it is not yet; the seconds that compiling took."""
        if self.compiled:
            begin = time.perf_counter()
            self.runner.prepared()
            return time.perf_counter() - begin
        return 0.0

    def __repr__(self) -> str:
        return f"<ConcreteFunction {self.pretty_printed_signature()}>"


def _spec(t: TensorType) -> TensorSpec:
    return TensorSpec([n if isinstance(n, int) else None for n in t.shape], t.dtype)


def _taker(source: Any) -> Callable[[], Array]:
    """How a run gets the array of a capture, as it is bound at that time."""
    if isinstance(source, Arith | np.ndarray):
        return lambda: _contiguous(source)
    return lambda: _contiguous(source())


def _contiguous(x: Any) -> Array:
    if isinstance(x, EagerTensor):
        return array_of(x)
    if isinstance(x, Variable):
        return array_of(x.tensor())
    array = storage(x)
    return array if array.flags.c_contiguous else np.array(array, order="C")


def _wanted(x: Any, recorders: Sequence[Any]) -> bool:
    """Does one of the recorders follow `x`? One that does not say follows everything floating."""
    if not x.dtype.is_floating:
        return False
    return any(getattr(r, "wants", _everything)((x,)) for r in recorders)


def _everything(values: Any) -> bool:
    return True


def is_data(x: object) -> bool:
    """Is this leaf of a function's result given back as a tensor?"""
    return isinstance(x, Arith | np.ndarray | np.generic | bool | int | float)


def _template(result: Any, outputs: list[Value], builder: FunctionBuilder) -> Any:
    """The structure of a result, with a Slot for each tensor, which goes to `outputs`."""
    leaves: list[Any] = []
    for x in nest.flatten(result):
        if is_data(x):
            outputs.append(builder.lift(x))
            leaves.append(Slot(len(outputs) - 1))
        else:
            leaves.append(x)
    return nest.pack(result, leaves)


def _pack(template: Any, outputs: Any) -> Any:
    leaves = [outputs[x.index] if isinstance(x, Slot) else x for x in nest.flatten(template)]
    return nest.pack(template, leaves)


def example_type(leaf: Any) -> TensorType:
    """The type of an argument that is passed as data."""
    if isinstance(leaf, EagerTensor):
        return leaf.type
    array = np.asarray(leaf)
    return tensor_type(array.shape, eager.lift(array[()] if array.ndim == 0 else array).dtype)
