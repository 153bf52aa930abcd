"""gg.recompute_grad: less memory for more time, by computing forward values again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from graphgrad import nest, tracing
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.ir import Builder
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.transform.autodiff import recording
from graphgrad.records import WholeCall
from graphgrad.tape import GradientTape
from graphgrad.tensor import EagerTensor, SymbolicTensor
from graphgrad.variable import Variable
from graphgrad.wrapping import wraps


def recompute_grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` without its intermediate values kept for the gradient: the backward pass runs it again.

    The second run sees what the first one saw: random draws, and variables that were assigned
    since. What it assigns itself takes effect once. Gradients flow to the tensors among the
    arguments, to the variables that `f` reads, and through what it assigns; any order of
    derivative works, in tapes and inside of `gg.function`. NumPy's random numbers and other Python
    state are not replayed.

    >>> import graphgrad as gg
    >>> block = gg.recompute_grad(lambda x: gg.exp(gg.sin(x)))
    >>> x = gg.constant(0.0)
    >>> with gg.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = block(x)
    >>> tape.gradient(y, x).numpy()
    np.float32(1.0)
    """

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        lift = current_kind().lift
        leaves = [lift(x) if _is_data(x) else x for x in nest.flatten((args, kwargs))]
        args, kwargs = nest.pack((args, kwargs), leaves)
        if isinstance(state.builder, Builder):
            return _traced(f, leaves, args, kwargs)
        return _eager(f, leaves, args, kwargs) if state.recorders else f(*args, **kwargs)

    return call


checkpoint = recompute_grad  # as JAX and PyTorch call it


def _is_data(x: Any) -> bool:
    """Is this argument one that gradients may flow to? Variables are read by `f` itself."""
    return isinstance(x, Arith | np.ndarray) and not isinstance(x, Variable)


class _Reads(tracing.ReadRecorder):
    """Notes which value each variable had when it was read first, and which were assigned."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: dict[int, Variable] = {}

    def on_read(self, variable: Variable, value: Any) -> None:
        if id(variable) not in self.writes:
            super().on_read(variable, value)

    def on_assign(self, variable: Variable, value: Any) -> None:
        self.writes[id(variable)] = variable


class _Recomputed(WholeCall):
    name = "recompute_grad"

    def __init__(self, call: Callable[[list[Any]], Any], reads: _Reads) -> None:
        self.vjp = call  # of the tensors among the arguments
        self.variables = [v for v, _ in reads.reads.values()]
        self.writes = list(reads.writes.values())

    def pullback(self, gs: Any, outs: Any, xs: Any, attrs: Any, needs: Any) -> tuple[Any, ...]:
        """Run again under a tape, with the variables as they were, and go back through that."""
        again = [ops["identity"](x) for x in xs]
        count = len(xs) - len(self.variables)
        with GradientTape(watch_accessed_variables=False) as tape, tracing.replay() as table:
            tape.watch([x for x in again if x.dtype.is_inexact])
            for v, x in zip(self.variables, again[count:], strict=True):
                table.values[id(v)] = x
            ends = _tensors(self.vjp(again[:count])) + [v.value() for v in self.writes]
        pairs = [(y, g) for y, g in zip(ends, gs, strict=True) if g is not None]
        found = tape.gradient([y for y, _ in pairs], again, [g for _, g in pairs])
        return tuple(g if need else None for g, need in zip(found, needs, strict=True))


def _eager(f: Callable[..., Any], leaves: list[Any], args: Any, kwargs: Any) -> Any:
    recorders, reads = state.recorders, _Reads()
    state.recorders = (reads,)
    try:
        result = f(*args, **kwargs)
    finally:
        state.recorders = recorders
    flat = nest.flatten(result)
    outs = {i: EagerTensor(y.array) for i, y in enumerate(flat) if isinstance(y, EagerTensor)}
    values = [x for x in leaves if _is_data(x)]

    def again(xs: list[Any]) -> Any:
        rest = iter(xs)
        packed = nest.pack((args, kwargs), [next(rest) if _is_data(x) else x for x in leaves])
        return f(*packed[0], **packed[1])

    op: Any = _Recomputed(again, reads)
    for variable, value in reads.reads.values():
        tracing.tell_read(variable, value)
    ends = [v.tensor() for v in op.writes]
    inputs = (*values, *(x for _, x in reads.reads.values()))
    for recorder in recorders:
        recorder.record(op, inputs, {}, (*outs.values(), *ends))
    for variable, value in zip(op.writes, ends, strict=True):
        tracing.tell_assigned(variable, value)
    return nest.pack(result, [outs.get(i, y) for i, y in enumerate(flat)])


def _tensors(result: Any) -> list[Any]:
    """The tensors of a result."""
    return [y for y in nest.flatten(result) if isinstance(y, EagerTensor | SymbolicTensor)]


def _traced(f: Callable[..., Any], leaves: list[Any], args: Any, kwargs: Any) -> Any:
    """One `recompute` of the graph of `f`; what `f` assigns is among its outputs."""
    outer: Any = state.builder
    builder = Builder(getattr(f, "__name__", "f"), parent=outer, value_class=SymbolicTensor)
    trace = tracing.function_builder()
    with builder.tracing(), trace.branch() if trace is not None else nullcontext() as table:
        inner = [builder.param(x.type) if _is_data(x) else x for x in leaves]
        packed = nest.pack((args, kwargs), inner)
        with recording(tracing.Watcher()) as watcher:
            result = f(*packed[0], **packed[1])
        flat = nest.flatten(result)
        outs = [builder.lift(y) for y in flat if isinstance(y, Arith)]
        returned = len(outs)
        written = [] if table is None else list(table.writes.values())
        outs += [builder.lift(v.value()) for v in written]
    watcher.tell()
    values = [x for x in leaves if _is_data(x)]
    # What is read of floating tensors from outside are mostly weights, which are kept anyway.
    again = [True] * len(values) + [not x.dtype.is_inexact for x in builder.captured]
    graph = builder.finish(outs)
    found = list(ops["recompute"](*values, *builder.captured, graph=graph, again=tuple(again)))
    for variable, value in zip(written, found[returned:], strict=True):
        assert trace is not None
        trace.write(variable, value)
        tracing.tell_assigned(variable, value)
    rest = iter(found)
    return nest.pack(result, [next(rest) if isinstance(y, Arith) else y for y in flat])
