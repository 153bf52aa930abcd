"""gg.vmap: a function for one example, applied to many at once."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import same_size
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.ir import Builder, Graph
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.autodiff import recording
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.transform.loop_memory import lanes
from graphgrad.compiler.types import tensor_type
from graphgrad.example_draws import ExampleBuilder, ExampleDraws
from graphgrad.function import Function
from graphgrad.matching import Slot
from graphgrad.signature import TensorSpec
from graphgrad.tracing import FunctionBuilder, Watcher, function_builder
from graphgrad.wrapping import wraps


def traced(
    f: Callable[..., Any], args: list[Any], types: list[Any]
) -> tuple[Graph, list[Any], Any]:
    """The graph of `f` for flat arguments of `types`, what it captured, and its result, whose
    leaves are the outputs but for None.

    For each generator that `f` draws from there is one more parameter before the captures, and its
    `ExampleDraws` is among them.
    """
    parent = state.builder if isinstance(state.builder, Builder) else None
    builder = ExampleBuilder(getattr(f, "__name__", "f"), parent)
    trace = function_builder()
    with builder.tracing(), trace.branch(sealed=True) if trace is not None else nullcontext():
        with recording(Watcher()) as watcher:
            result = f(*nest.pack(args, [builder.param(t) for t in types]))
        outputs = [builder.lift(y) for y in nest.flatten(result) if y is not None]
    watcher.tell()
    return builder.finish(outputs), [*builder.draws.values(), *builder.captured], result


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """`f` for many examples at once: each argument has a further axis at `in_axes`.

    `in_axes` is an int for all arguments or one an argument, which may be a structure that the
    argument begins with; None is for those without the axis. The results have it at `out_axes`.
    What comes out is that of a Python loop, and differentiable; so are random draws: each example
    draws where the one before it stopped.

    `f` is traced, and runs from the second call on what was traced for arguments of the same types,
    unless globals, closure values or attributes that it reads have changed. One that changes Python
    state, or hands objects to other functions, is traced in each call.

    >>> import graphgrad as gg
    >>> dot = gg.vmap(lambda x, y: gg.reduce_sum(x * y))
    >>> dot([[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [2.0, 2.0]]).numpy()
    array([ 3., 14.], dtype=float32)
    """
    kept = kept_traces(f)

    @wraps(f)
    def call(*args: Any) -> Any:
        kind = current_kind()
        axes = _axes(in_axes, args, "in_axes")
        given = tuple(a if axis is None else _arrays(a) for a, axis in zip(args, axes))
        every = [
            leaf for a, axis in zip(given, axes)
            for leaf in zip(nest.flatten(a), _leaf_axes(axis, a, "in_axes"))
        ]  # fmt: skip
        data = [
            isinstance(x, Arith | np.ndarray) or (axis is not None and x is not None)
            for x, axis in every
        ]
        places = [axis for (_, axis), d in zip(every, data) if d]
        leaves = [kind.lift(x) for (x, _), d in zip(every, data) if d]
        xs = [x if p is None else _to_front(x, p) for x, p in zip(leaves, places)]
        count = _common_size([x.type.shape[0] for x, p in zip(xs, places) if p is not None])
        batched = tuple(p is not None for p in places)
        examples = [
            tensor_type(x.type.shape[1:], x.dtype) if b else x.type for x, b in zip(xs, batched)
        ]

        def arguments(values: Iterable[Any]) -> Any:
            """The arguments with `values` in place of data."""
            found = iter(values)
            return nest.pack(given, [next(found) if d else x for (x, _), d in zip(every, data)])

        found = kept.trace(arguments, examples) if kept is not None else None
        if found is None:

            @wraps(f)
            def with_data(*values: Any) -> Any:
                return f(*arguments(values))

            with lanes(count):
                found = traced(with_data, [0] * len(examples), examples)
        graph, captured, structure = found
        outputs = (True,) * len(graph.outputs)
        marks = (*batched, *(isinstance(x, ExampleDraws) for x in captured))
        many, _ = batch_graph(graph, marks, count, outputs)
        rest = [x.starts(count) if isinstance(x, ExampleDraws) else x for x in captured]
        with _captured_before():
            results = iter(ops["call"](*xs, *rest, graph=many))
        ends = _leaf_axes(out_axes, structure, "out_axes")
        return nest.pack(structure, [
            y if y is None else _from_front(next(results), p)
            for y, p in zip(nest.flatten(structure), ends)
        ])  # fmt: skip

    return call


@contextmanager
def _captured_before() -> Iterator[None]:
    """Of what a function captured, a part may have been replaced since: it read what was there."""
    stale = state.builder.stale if isinstance(state.builder, Builder) else {}
    saved = dict(stale)
    stale.clear()
    try:
        yield
    finally:
        stale.update(saved)


class KeptTraces:
    """The traces of a function for one example, kept from its second eager call on."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.calls = 0
        self.python_function = f
        self.function: PureFunction | None = None

    def trace(
        self, arguments: Callable[[Iterable[Any]], Any], examples: list[Any]
    ) -> tuple[Graph, list[Any], Any] | None:
        """What `traced` gives for arguments of these types; None where they are to be traced."""
        if state.builder is not None:
            return None
        self.calls += 1
        if self.calls == 2:
            self.function = PureFunction(self.python_function)
        function = self.function
        if function is None:
            return None
        specs = [TensorSpec(t.shape, t.dtype) for t in examples]
        try:
            found = function.get_concrete_function(*arguments(specs))
        except Exception:  # it is traced plainly, which finds it again and says it
            self.function = None
            return None
        if function.changes_state or not found.guards.complete:
            self.function = None
        structure = found.structured_outputs_template
        if not all(y is None or isinstance(y, Slot) for y in nest.flatten(structure)):
            return None
        return found.graph, found.current_captures(), structure


class PureFunction(Function):
    """A function that writes to no variable, and notes whether it changes Python state."""

    def __init__(self, python_function: Callable[..., Any]) -> None:
        super().__init__(python_function)
        self.changes_state = False

    def _builder(self) -> FunctionBuilder:
        builder = super()._builder()
        builder.tables[0].sealed = True
        builder.may_create = False
        return builder

    def _note_changes(self, changed: dict[str, str]) -> None:
        self.changes_state = self.changes_state or bool(changed)


SHARED = 128
_shared: dict[Any, KeptTraces] = {}  # of functions that are made anew for each call


def kept_traces(f: Any) -> KeptTraces | None:
    """The traces of `f`, if all that it reads can be guarded: a Python function or method. Those
    of equal code that nothing else belongs to, as a lambda without a closure, are shared."""
    f = f.python_function if isinstance(f, Function) else f
    if isinstance(f, types.MethodType):
        return KeptTraces(f)
    if not isinstance(f, types.FunctionType):
        return None
    if f.__closure__ or f.__defaults__ or f.__kwdefaults__ or f.__dict__:
        return KeptTraces(f)
    key = f.__code__, id(f.__globals__)
    found = _shared.get(key)
    if found is None:
        if len(_shared) >= SHARED:
            del _shared[next(iter(_shared))]
        found = _shared[key] = KeptTraces(f)
    return found


def _common_size(sizes: list[Any]) -> Any:
    """The size of all batch axes."""
    if not sizes:
        raise ArgumentError("vmap: no argument has a batch axis", here())
    if not all(same_size(n, sizes[0]) for n in sizes):
        raise ShapeError(f"vmap: the batch axes have sizes {sizes}, which are not equal", here())
    return sizes[0]


def _axes(axes: Any, args: Sequence[Any], name: str) -> list[Any]:
    if axes is None or isinstance(axes, int):
        return [axes] * len(args)
    if len(axes) != len(args):
        raise ArgumentError(f"vmap: {len(axes)} {name} for {len(args)} values", here())
    return list(axes)


def _leaf_axes(axes: Any, x: Any, name: str) -> list[Any]:
    """The axis of each leaf of `x`: `axes` is one for all, or a structure that `x` begins with."""
    if not nest.is_nest(axes):
        return [axes] * len(nest.flatten(x))
    parts = nest.children(x) if nest.is_nest(x) else []
    wanted = nest.children(axes)
    if [k for k, _ in wanted] != [k for k, _ in parts]:
        raise ArgumentError(
            f"vmap: {name} {axes!r} fits no structure with the parts {[k for k, _ in parts]}",
            here(),
        )
    return [
        found for (_, a), (_, part) in zip(wanted, parts) for found in _leaf_axes(a, part, name)
    ]


def _arrays(x: Any) -> Any:
    """Lists of numbers are data; other structures are structures."""
    flat = nest.flatten(x)
    if isinstance(x, list) and all(isinstance(v, bool | int | float) for v in flat):
        return current_kind().lift(x)
    return x


def _to_front(x: Any, axis: int) -> Any:
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"vmap: there is no axis {axis} in {x.type}", here())
    axis %= x.ndim
    return x.transpose([axis, *(i for i in range(x.ndim) if i != axis)])


def _from_front(y: Any, axis: int | None) -> Any:
    if axis is None:
        return y[0]
    if not -y.ndim <= axis < y.ndim:
        raise ShapeError(f"vmap: there is no axis {axis} in the result {y.type}", here())
    axis %= y.ndim
    order = list(range(1, y.ndim))
    order.insert(axis, 0)
    return y.transpose(order)
