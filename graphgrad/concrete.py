"""One trace of a function: its graph, what it captured, and how it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from graphgrad import execution, nest
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.ir import Graph, Value
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.ops.control import call_for_tape
from graphgrad.compiler.source import Where, here
from graphgrad.compiler.transform.controlflow import call_graph
from graphgrad.compiler.transform.loop_memory import Schedule
from graphgrad.compiler.transform.sizes import specialise
from graphgrad.concrete_calls import signature_text, spec, tensors_of_call
from graphgrad.eager import array_of, eager
from graphgrad.guards import Guards
from graphgrad.matching import SizeGuards, Slot, matcher, result_builder
from graphgrad.results import pack, template
from graphgrad.signature import Arguments, Signature, TensorSpec, is_tensor_leaf
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
        self,
        signature: Signature,
        builder: FunctionBuilder,
        arguments: Arguments,
        result: Any,
        compiled: bool,
        flush_denormals: bool = False,
    ) -> None:
        self.signature = signature
        self.name = signature.name
        self.arguments = arguments
        self.writes: list[Variable] = builder.writes
        outputs: list[Value] = []
        self.structured_outputs_template = template(self.name, result, outputs, builder)
        self._returned = len(outputs)
        outputs += [builder.lift(builder.tables[0].values[id(v)]) for v in self.writes]
        self.sizes = SizeGuards(builder.scope)
        self.graph: Graph = specialise(builder.finish(outputs), self.sizes.equalities())
        self.captures: list[Any] = builder.captured
        self.compiled = compiled
        self.flush_denormals = flush_denormals
        self.runner = execution.runner(self.graph, compiled, flush_denormals)
        self.parameters = len(builder.params)
        self.where: Where | None = None
        self.schedules: tuple[Schedule, ...] = ()  # of the loops that a bound divided
        self.plain_count = 0
        self.form: Any = None  # what native code knows of this trace, once it does
        self.may_go_native = compiled  # more than it does: calls with other sizes, or at all
        self.seconds = 0.0
        self.difference = ""  # from the nearest earlier trace, in words
        self.watches: list[Any] = []  # what tells that objects it was made for are gone
        self.signature_text = ""
        self.guards = Guards()
        self.check: Callable[[], bool] | None = None
        self.types = [p.type for p in builder.params]  # with every size that was left open
        self._borrows: bool | None = None  # known once it is compiled
        self.match = matcher(arguments, self.types, self.sizes, self.borrows) or (lambda args: None)
        self.build = result_builder(self.structured_outputs_template)
        self._sources: list[Any] = []
        self._constant: list[Array] | None = None
        self.offers: tuple[bool, ...] = ()  # parameters whose memory calls give away
        self.donated: tuple[bool, ...] = ()  # inputs that a run may overwrite
        self._lends: list[bool] = []
        self._locks: list[Any] = []
        self._takes: list[Callable[[], Array]] = []
        self._resolve_captures()

    def borrows(self) -> bool:
        """May a run have NumPy arrays of the caller's as they are? Then no result, and no value of
        a variable, is an argument's memory."""
        if self._borrows is None:
            executable = getattr(self.runner, "executable", None)
            if executable is None:
                return False
            slots, outputs = executable.program.slots, executable.program.outputs
            self._borrows = all(slots[k].kind != "input" for k in outputs)
        return self._borrows

    def use_guards(self, guards: Guards) -> None:
        """Take what the trace read of Python's state; captured tensors among it are read anew."""
        self.guards = guards
        self.check = self._checks_variables(guards.compile())
        self._resolve_captures()

    def _checks_variables(self, check: Callable[[], bool] | None) -> Callable[[], bool] | None:
        """`check`, and that variables of open shape have the shapes that they were traced with."""
        shapes = self.variable_shapes()
        if not shapes:
            return check
        return lambda: (
            all(x._type.shape == shape for x, shape in shapes) and (check is None or check())
        )

    def variable_shapes(self) -> list[tuple[Variable, Any]]:
        """The captured variables whose shape may change, with the shapes that were traced."""
        return [
            (x, value.type.shape)
            for x, value in zip(self.captures, self.graph.params[self.parameters :])
            if isinstance(x, Variable) and x._shape is not None
        ]

    def sizes_of(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """The sizes that the trace leaves open, in a call with these tensors."""
        return tuple(
            n for x, t in zip(tensors, self.types)
            for n, m in zip(x.shape, t.shape) if not isinstance(m, int)
        )  # fmt: skip

    def offer(self, offers: tuple[bool, ...]) -> None:
        """Let results take the memory of the parameters marked, in calls that give it away."""
        if any(offers):
            self.offers = offers
            self.may_go_native = False  # such calls use their arguments up
            self._resolve_captures()

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
        offers = self.offers or (False,) * self.parameters
        self.donated = (*offers, *self._lends)
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
        donated = self.donated if self.offers else ()
        return self.build(self.runner.run(arrays, donated))

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
            outputs = call_for_tape(self.graph, inputs, needs, self.flush_denormals)
            for v, new in zip(self.writes, outputs[self._returned :]):
                v.install(new)
        return pack(self.structured_outputs_template, outputs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result for arguments like those of the trace, or for its tensors alone, in order.

        Arguments without tensors may be left out; others must be what they were for the trace.
        """
        tensors = tensors_of_call(self, args, kwargs)
        if state.builder is not None:
            return self._call_in_trace(tensors)
        sizes = self.sizes_of(tensors)
        if sizes and not self.sizes.hold(sizes):
            raise self._unfit(sizes, self.sizes.failing(sizes))
        if state.recorders:
            return self.run_recorded(tensors)
        return self.run([array_of(x) for x in tensors])

    def _call_in_trace(self, tensors: list[Any]) -> Any:
        """Its graph as one node of the trace in progress."""
        known = dict(zip(self.sizes.symbols, self.sizes_of(tensors)))
        failing = [g for g in self.sizes.guards if not g.asked_outside(known)]
        if failing:
            raise self._unfit(tuple(known.values()), failing)
        captured = [current_kind().lift(x) for x in self.current_captures()]
        graph = specialise(self.graph, known)
        outputs = call_graph(graph, [*tensors, *captured])
        for v, new in zip(self.writes, outputs[self._returned :]):
            v.assign(new)
        return pack(self.structured_outputs_template, outputs)

    def _unfit(self, sizes: tuple[Any, ...], failing: list[Any]) -> ArgumentError:
        return ArgumentError(
            f"{self.name}: this trace relies on {'; '.join(map(str, failing))}, which does not "
            f"hold for sizes {sizes}", here()
        )  # fmt: skip

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
        leaves = [spec(next(types)) if is_tensor_leaf(x) else x for x in self.arguments.leaves]
        return nest.pack((self.arguments.args, self.arguments.kwargs), leaves)

    @property
    def structured_outputs(self) -> Any:
        """The result's structure, tensors as TensorSpec."""
        return nest.map_structure(
            lambda x: spec(self.graph.output_types[x.index]) if isinstance(x, Slot) else x,
            self.structured_outputs_template,
        )

    @property
    def output_shapes(self) -> Any:
        """The shapes of the result's tensors, in its structure."""
        return nest.map_structure(
            lambda x: x.shape if isinstance(x, TensorSpec) else x, self.structured_outputs
        )

    @property
    def output_dtypes(self) -> Any:
        """The dtypes of the result's tensors, in its structure."""
        return nest.map_structure(
            lambda x: x.dtype if isinstance(x, TensorSpec) else x, self.structured_outputs
        )

    def pretty_printed_signature(self, verbose: bool = True) -> str:
        """The signature as text, over several lines or in one."""
        if verbose:
            return signature_text(self)
        return f"{self.name}({self.signature_text}) -> {self.structured_outputs}"

    def ready(self) -> float:
        """Compile now, if it is not yet; the seconds that compiling took."""
        if self.compiled:
            begin = time.perf_counter()
            self.runner.prepared()
            return time.perf_counter() - begin
        return 0.0

    def __repr__(self) -> str:
        return f"<ConcreteFunction {self.pretty_printed_signature(verbose=False)}>"


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
    if not x.dtype.is_inexact:
        return False
    return any(getattr(r, "wants", _everything)((x,)) for r in recorders)


def _everything(values: Any) -> bool:
    return True
