"""`gg.function`: Python functions as compiled graphs, one trace for each kind of arguments."""

from __future__ import annotations

import copy
import functools
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from graphgrad import tracing
from graphgrad.compiler.errors import ArgumentError, DTypeError, NoValueError, TraceError
from graphgrad.compiler.op import state
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.loop_memory import Budget, bounded_loops
from graphgrad.concrete import ConcreteFunction
from graphgrad.concrete_calls import signature_text
from graphgrad.conversion import forms
from graphgrad.donation import offered, positions, run_donating
from graphgrad.eager import EagerTensor, array_of, owned_array
from graphgrad.guards import Guards
from graphgrad.inspection import kernels_text, report_text, stage_text
from graphgrad.methods import WeakMethod
from graphgrad.parameters import (
    call_unmodified,
    inline_key,
    lifted,
    objects,
    parameters,
    relaxed_key,
    relaxed_specs,
    specs_of,
)
from graphgrad.reports import (
    Difference,
    TraceTable,
    advice,
    argument_differences,
    nearest_difference,
)
from graphgrad.results import as_eager
from graphgrad.retracing import Retraces, warn_of_changes
from graphgrad.signature import (
    Arguments,
    Identity,
    Signature,
    TensorSpec,
    is_tensor_leaf,
    leaf_key,
    show_leaf,
)
from graphgrad.tensor import Array
from graphgrad.tracebacks import filtered
from graphgrad.wrapping import wraps


class _Settings:
    eagerly = False


P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
DEEP = 50  # calls of a function within itself, which explain a RecursionError
PLAIN_RUNS = 1  # of a trace before native code is prepared for it
_binding = threading.RLock()
_switches: list[Callable[[bool], None]] = []  # told whether functions run compiled


class _Local(threading.local):
    def __init__(self) -> None:
        self.tracing: list[tuple[Any, Any]] = []  # (function, key) of the traces in progress


_local = _Local()


def run_functions_eagerly(run_eagerly: bool) -> None:
    """Have every `gg.function` run as plain Python, for debugging, or compiled again.

    >>> import graphgrad as gg
    >>> gg.config.run_functions_eagerly(True)
    >>> gg.config.functions_run_eagerly()
    True
    >>> gg.config.run_functions_eagerly(False)
    """
    _Settings.eagerly = bool(run_eagerly)
    for switch in _switches:
        switch(not run_eagerly)


def functions_run_eagerly() -> bool:
    """Are functions run as plain Python?"""
    return _Settings.eagerly


class Function(Generic[P, R]):
    """A Python function that is traced and compiled: what `gg.function` makes."""

    __slots__ = ("_forms", "__dict__", "__weakref__")  # a place of its own for what `native` reads

    def __init__(
        self,
        python_function: Callable[P, R],
        input_signature: Any = None,
        jit_compile: bool | None = None,
        reduce_retracing: bool = False,
        max_traces: int | None = None,
        donate_argnums: int | Sequence[int] = (),
        name: str | None = None,
        autograph: bool = True,
        loop_memory: int | None = None,
        flush_denormals: bool = False,
    ) -> None:
        wraps(python_function)(self)
        self._python_function = python_function
        self._name: str = str(name or name_of(python_function))
        self.__name__ = self._name
        self._options: dict[str, Any] = {
            "input_signature": input_signature, "jit_compile": jit_compile,
            "reduce_retracing": reduce_retracing, "max_traces": max_traces,
            "donate_argnums": donate_argnums, "name": name, "autograph": autograph,
            "loop_memory": loop_memory, "flush_denormals": flush_denormals,
        }  # fmt: skip
        self._signature = Signature(python_function, self._name, input_signature)
        self._how = {"compiled": jit_compile is not False, "flush_denormals": flush_denormals}
        self._converts = autograph
        self._reduce_retracing = reduce_retracing
        self._max_traces = max_traces
        self._donated = positions(donate_argnums, self._signature)
        self._traces: dict[Any, list[ConcreteFunction]] = {}
        self._all: list[ConcreteFunction] = []  # in the order of tracing
        self._last: ConcreteFunction | None = None  # of those that Python called
        self._forms: Any = None  # what native code knows of the traces
        self._count = 0  # of traces ever made
        self._retraces = Retraces()
        self._forgotten_calls = 0  # of traces that were dropped
        self._forgotten: Arguments | None = None  # of the last one
        self._warned: set[str] = set()  # of changes to Python state
        self._tracing = False
        self._created = False  # variables were created: no call may create more
        self._lock = threading.RLock()
        self._bound: dict[int, tuple[Any, Function]] = {}  # by identity of the instance
        self._held: list[Any] = []  # an instance that may be a temporary, until it is called

    # Calling

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        trace = self._last
        if (
            trace is not None
            and not kwargs
            and state.builder is None
            and not state.recorders
            and not _Settings.eagerly
        ):
            arrays = trace.match(args)
            if arrays is not None and (trace.check is None or trace.check()):
                if trace.may_go_native:
                    return self._run_natively_next(trace, arrays)
                return trace.run(arrays)
        try:
            return self._call(args, kwargs)
        except Exception as e:
            filtered(e)
            raise
        finally:
            self._held.clear()

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if _Settings.eagerly:
            return self._run_eagerly(self._signature.bind(args, kwargs))
        if state.builder is not None:
            return self._inline(args, kwargs)
        arguments = self._signature.bind(args, kwargs)
        trace = self._find(arguments)
        tensors = [_as_tensor(x) for x in arguments.leaves if is_tensor_leaf(x)]
        if state.recorders:
            self._last = None if trace.offers else trace
            return trace.run_recorded(tensors)
        arrays = [array_of(x) for x in tensors]
        if trace.offers:
            return run_donating(trace.run, tensors, arrays, trace.offers, self._name)
        self._last = trace
        if trace.may_go_native and trace.count >= PLAIN_RUNS:
            return self._run_natively_next(trace, arrays)
        return trace.run(arrays)

    def _run_natively_next(self, trace: ConcreteFunction, arrays: list[Array]) -> Any:
        """Run `trace`, and have native code make calls like this one from now on."""
        # Imported here: it loads llvmlite, which a program with few calls need not wait for.
        from graphgrad import native

        if native.entry(Function) is None:
            trace.may_go_native = False
            return trace.run(arrays)
        return native.run_and_prepare(self, trace, arrays)

    def _arrays_of(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[ConcreteFunction, list[Any]]:
        """The trace for a call and the arrays that it would run with."""
        arguments = self._signature.bind(args, kwargs)
        trace = self._find(arguments)
        tensors = [_as_tensor(x) for x in arguments.leaves if is_tensor_leaf(x)]
        return trace, [array_of(x) for x in tensors] + trace.captured_arrays()

    def _run_eagerly(self, arguments: Arguments) -> Any:
        """As plain Python, with tensors where a trace would have them."""
        leaves = [_as_tensor(x) if is_tensor_leaf(x) else x for x in arguments.leaves]
        function: Any = self._python_function
        function = forms.to_run(function) if self._converts else function
        return as_eager(self._name, call_unmodified(function, self._signature, arguments, leaves))

    def _to_trace(self) -> Callable[..., Any]:
        """What runs while the function is traced."""
        function: Any = self._python_function
        return forms.to_trace(function) if self._converts else function

    def _inline(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Inside another trace: the function becomes part of it."""
        arguments = self._signature.bind(args, kwargs)
        key = (self._python_function, inline_key(arguments))
        if key in _local.tracing:
            raise TraceError(
                f"`{self._name}` calls itself while it is traced, with arguments of the same "
                "types: the trace would never end. A recursion must end by Python values that "
                "change from call to call; one that depends on tensors is a gg.while_loop", here()
            )  # fmt: skip
        _local.tracing.append(key)
        try:
            args, kwargs = lifted(arguments)
            return self._to_trace()(*args, **kwargs)
        except RecursionError:
            depth = sum(f is self._python_function for f, _ in _local.tracing)
            if depth < DEEP:
                raise
            raise TraceError(
                f"`{self._name}` calls itself {depth} times while it is traced, each time with "
                "other arguments: does it end? A recursion that depends on tensors is a "
                "gg.while_loop",
                here(),
            ) from None
        finally:
            self._held.clear()
            _local.tracing.pop()

    # Finding a trace

    def _key(self, arguments: Arguments) -> Any:
        return (
            arguments.key if self._signature.input_signature is None else self._rest_key(arguments)
        )

    def _rest_key(self, arguments: Arguments) -> Any:
        """The key of what the input signature does not cover."""
        count = len(self._signature.input_signature or ())
        rest = Arguments(arguments.args[count:], arguments.kwargs)
        return "signature", *rest.key

    def _find(self, arguments: Arguments, for_call: bool = True) -> ConcreteFunction:
        """The trace that fits, made if there is none."""
        key = self._key(arguments)
        found = self._fitting(key, arguments)
        if found is None:
            with self._lock:
                found = self._fitting(key, arguments)
                if found is None:
                    self._tracing = True
                    try:
                        found, why = self._new_trace(key, arguments)
                    finally:
                        self._tracing = False
                    if for_call and self._max_traces is None:
                        self._notice_retracing(why)
        return found

    def _fitting(self, key: Any, arguments: Arguments) -> ConcreteFunction | None:
        candidates = self._traces.get(key, ())
        if not candidates and self._reduce_retracing:
            candidates = self._traces.get(relaxed_key(key), ())
        for trace in reversed(candidates):
            if self._fits(trace, arguments) and (trace.check is None or trace.check()):
                return trace
        return None

    def _fits(self, trace: ConcreteFunction, arguments: Arguments) -> bool:
        """Do the sizes fit, fixed ones and guards on open ones?"""
        sizes: list[int] = []
        for x, t in zip(arguments.tensors, trace.types):
            if isinstance(x, TensorSpec):
                if x.shape.as_list() != [n if isinstance(n, int) else None for n in t.shape]:
                    return False
                continue
            if len(x.shape) != len(t.shape):
                return False
            for n, m in zip(x.shape, t.shape):
                if not isinstance(m, int):
                    sizes.append(n)
                elif n != m:
                    return False
        return not sizes or trace.sizes.hold(tuple(sizes))

    def _new_trace(
        self, key: Any, arguments: Arguments
    ) -> tuple[ConcreteFunction, list[Difference]]:
        """Trace for `arguments`, and why that was needed; called with the lock held."""
        self._forget_dead()
        why = nearest_difference(self._all, self._signature, arguments)
        if not self._all and self._forgotten is not None:
            why = argument_differences(self._forgotten, self._signature, arguments)
        changed = "; ".join(d.text for d in why)
        if self._max_traces is not None and len(self._all) >= self._max_traces:
            kept = [*(t.arguments for t in self._all), self._form(arguments)]
            raise TraceError(
                f"`{self._name}` would be traced more than max_traces={self._max_traces} times; "
                f"the new call differs in {changed or 'nothing known'}. {advice(why, kept)}\n"
                f"{self.traces()}", here()
            )  # fmt: skip
        specs = specs_of(arguments, self._signature.input_signature)
        if self._reduce_retracing and self._signature.input_signature is None:
            earlier = self._relaxable(key)
            if earlier is not None:
                key, specs = relaxed_key(key), relaxed_specs(specs, earlier.types)
        begin = time.perf_counter()
        trace, creates = self._trace(arguments, specs)
        if creates:  # once more, as it will be from now on
            self._created = True
            trace, _ = self._trace(arguments, specs)
        trace.seconds = time.perf_counter() - begin
        trace.difference = changed
        trace.where = here()
        labels = self._signature.labels(arguments)
        trace.signature_text = ", ".join(
            f"{label}: {show_leaf(leaf_key(s if s is not None else x))}"
            for label, x, s in zip(labels, arguments.leaves, specs)
        )
        trace.watches = self._watches(arguments)
        trace.offer(offered(arguments, self._donated))
        self._traces.setdefault(key, []).append(trace)
        self._all.append(trace)
        self._count += 1
        return trace, why

    def _form(self, arguments: Arguments) -> Arguments:
        """What reports need of a call."""
        return arguments.form(specs_of(arguments, self._signature.input_signature))

    def _notice_retracing(self, why: list[Difference]) -> None:
        calls = self._forgotten_calls + sum(t.count for t in self._all)
        cause = "; ".join(d.text for d in why)
        kept = [t.arguments for t in self._all]
        self._retraces.add(calls, self._name, cause, advice(why, kept))

    def _watches(self, arguments: Arguments) -> list[Any]:
        """Weak references to the objects among the arguments: without them, no trace is needed."""
        function = weakref.ref(self)

        def gone(_: Any) -> None:
            found = function()
            if found is not None:
                found._forget_if_free()

        found = []
        for x in arguments.leaves:
            if not is_tensor_leaf(x) and isinstance(leaf_key(x), Identity):
                with suppress(TypeError):  # held for good
                    found.append(weakref.ref(getattr(x, "__self__", x), gone))
        return found

    def _forget_if_free(self) -> None:
        """Drop traces for objects that are gone; while another trace is made, that one will."""
        if self._lock.acquire(blocking=False):
            try:
                if not self._tracing:
                    self._forget_dead()
            finally:
                self._lock.release()

    def _forget_dead(self) -> None:
        """Drop the traces for objects that are gone, so that they do not pile up."""
        for key in list(self._traces):
            leaves = key[-1] if isinstance(key, tuple) else ()
            if any(isinstance(k, Identity) and k.ref() is None for k in leaves):
                gone = self._traces.pop(key)
                self._forgotten_calls += sum(t.count for t in gone)
                self._forgotten = gone[-1].arguments
                self._all = [t for t in self._all if all(t is not g for g in gone)]
                if any(self._last is g for g in gone):
                    self._last = None
                if any(g.form is not None for g in gone):
                    from graphgrad import native  # loaded already

                    native.arrange(self)

    def _relaxable(self, key: Any) -> ConcreteFunction | None:
        """The latest trace of another key that differs from `key` in sizes only."""
        wanted = relaxed_key(key)
        for other, traces in reversed(list(self._traces.items())):
            if traces and other != key and relaxed_key(other) == wanted:
                return traces[-1]
        return None

    # Tracing

    def _trace(
        self, arguments: Arguments, specs: list[TensorSpec | None]
    ) -> tuple[ConcreteFunction, bool]:
        """One trace, and whether it created variables."""
        function = self._to_trace()
        try:
            return self._trace_as(function, arguments, specs)
        except NoValueError:
            # The scan takes a method for the library's by its name, and may be wrong.
            if not self._converts or function is not self._python_function:
                raise
            converted = forms.converted(function)
            if converted is function:
                raise
            return self._trace_as(converted, arguments, specs)

    def _trace_as(
        self, function: Callable[..., Any], arguments: Arguments, specs: list[TensorSpec | None],
        budget: Budget | None = None,
    ) -> tuple[ConcreteFunction, bool]:  # fmt: skip
        builder = self._builder()
        if budget is None and self._options["loop_memory"] is not None:
            budget = Budget(self._name, self._options["loop_memory"])
        key = (self._python_function, inline_key(arguments))
        guards = Guards()
        _local.tracing.append(key)
        try:
            with guards.reads, builder.tracing(), bounded_loops(budget):
                own = isinstance(self._python_function, types.FunctionType)
                given = objects(self._signature, arguments)
                bound = {name: x for name, x in given if not guards.follow(x, name)}
                guards.add_function(self._python_function, own, bound)
                leaves = parameters(builder, arguments, specs)
                result = call_unmodified(function, self._signature, arguments, leaves)
                form = arguments.form(specs)
                trace = ConcreteFunction(self._signature, builder, form, result, **self._how)
        finally:
            _local.tracing.pop()
        if budget is not None:
            other = budget.divided()
            if other is not None and not builder.created:
                return self._trace_as(function, arguments, specs, other)
            trace.schedules = tuple(budget.schedules)
        if not builder.created:
            self._note_changes(guards.effects())
        trace.use_guards(guards)
        return trace, bool(builder.created)

    def _note_changes(self, changed: dict[str, str]) -> None:
        """The function changed these Python values while it was traced; with the lines."""
        warn_of_changes(self._name, changed, self._warned)

    def _builder(self) -> tracing.FunctionBuilder:
        builder = tracing.FunctionBuilder(self._name, self)
        builder.may_create = not self._created
        return builder

    # Inspection

    @property
    def python_function(self) -> Callable[P, R]:
        """The function that was decorated."""
        return self._python_function

    @property
    def input_signature(self) -> Any:
        """The specifications that were given for the arguments, or None."""
        return self._signature.input_signature

    @property
    def name(self) -> str:
        """The name in errors, reports and graphs: that of the Python function."""
        return self._name

    def experimental_get_tracing_count(self) -> int:
        """How many times the function was traced."""
        return self._count

    def get_concrete_function(self, *args: Any, **kwargs: Any) -> ConcreteFunction:
        """The trace for arguments, or for TensorSpecs in place of tensors."""
        if not args and not kwargs and self._signature.input_signature is not None:
            args = self._signature.input_signature
        return self._find(self._signature.bind(args, kwargs), for_call=False)

    def pretty_printed_concrete_signatures(self) -> str:
        """The signatures of all traces, in TensorFlow's layout."""
        return "\n\n".join(map(signature_text, self._all))

    def traces(self) -> TraceTable:
        """A table of the traces: signature, calling line, count, seconds, and what differed."""
        return TraceTable(self._name, list(self._all))

    def ir(self, stage: str = "before") -> str:
        """The graph of the latest trace as text, "before" or "after" the passes."""
        return stage_text(self._latest(), stage)

    def kernels(self) -> str:
        """The compiled kernels of the latest trace as readable source."""
        return kernels_text(self._latest())

    def report(self) -> str:
        """What became of the latest trace: passes, rewrites, kernels, times."""
        return f"{self.traces()}\n\n{report_text(self._latest())}"

    def _latest(self) -> ConcreteFunction:
        if not self._all:
            raise ArgumentError(f"`{self._name}` has not been traced yet: call it first", here())
        latest = self._forms.latest if self._forms is not None else None
        for trace in self._all:
            if latest is not None and trace.form is latest:
                return trace
        return self._last or self._all[-1]

    # Methods

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Function[P, R]: ...
    @overload
    def __get__(
        self: Function[Concatenate[Any, Q], R], instance: object, owner: Any = None
    ) -> Function[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        found = self._bound.get(id(instance))
        if found is not None and found[0]() is instance:
            return found[1]
        with _binding:
            found = self._bound.get(id(instance))
            if found is not None and found[0]() is instance:
                return found[1]
            return self._bind(instance)

    def _bind(self, instance: Any) -> Function:
        """The function of one instance, with traces of its own; it does not keep it alive, but
        for the first call, since it may be that of a temporary: `Model().step(x)`."""
        key = id(instance)
        try:
            ref: Any = weakref.ref(instance, lambda _: self._bound.pop(key, None))
        except TypeError:  # no weak references: kept for good
            bound = Function(types.MethodType(self._python_function, instance), **self._options)
            self._bound[key] = ((lambda: instance), bound)
            return bound
        bound = Function(WeakMethod(self._python_function, ref), **self._options)
        self._bound[key] = (ref, bound)
        self._held.clear()  # of the instance before, if it was not called
        self._held = bound._held = [instance]
        return bound

    # Copies

    def __deepcopy__(self, memo: Any) -> Function:
        """A function of the copied Python function (of the copied instance), without traces."""
        return Function(copy.deepcopy(self._python_function, memo), **self._options)

    def __reduce__(self) -> Any:
        """By name where it is found under its name in its module, else the function and options."""
        name = getattr(self._python_function, "__qualname__", "")
        module = getattr(self._python_function, "__module__", None)
        found: Any = sys.modules.get(module or "")
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is self:
            return name
        return _restore, (self._python_function, self._options)

    def __repr__(self) -> str:
        return f"<gg.function `{self._name}`, {len(self._all)} traces>"


def _restore(python_function: Any, options: dict[str, Any]) -> Function:
    return Function(python_function, **options)


def name_of(python_function: Any) -> str:
    while isinstance(python_function, functools.partial):
        python_function = python_function.func
    return str(getattr(python_function, "__name__", type(python_function).__name__))


def _as_tensor(x: Any) -> EagerTensor:
    if isinstance(x, TensorSpec):
        raise DTypeError(
            f"{x} is given where a call needs a tensor; get_concrete_function takes specifications",
            here(),
        )
    return x if isinstance(x, EagerTensor) else EagerTensor(owned_array(x, None))
