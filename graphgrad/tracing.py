"""What a trace of `gg.function` knows beyond its nodes: the variables it reads and writes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.errors import TraceError
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Builder, Graph
from graphgrad.compiler.op import state
from graphgrad.compiler.source import here
from graphgrad.tensor import Array, EagerTensor, SymbolicTensor

if TYPE_CHECKING:
    from graphgrad.variable import Variable


class Table:
    """The current value of each variable that was written, in one branch or in the whole trace.

    A sealed one belongs to a sub-graph that cannot write.
    """

    __slots__ = ("values", "writes", "sealed")

    def __init__(self, sealed: bool = False) -> None:
        self.values: dict[int, Any] = {}
        self.writes: dict[int, Variable] = {}
        self.sealed = sealed


class FunctionBuilder(Builder):
    """The builder of a function's trace.

    A variable that is read becomes a parameter (it is its own capture); one that is written has
    its last value among the outputs. `tables` is a stack: a branch of a conditional writes to a
    table of its own, and the conditional gives its writes back as outputs.
    """

    def __init__(self, name: str, function: Any = None) -> None:
        scope = DimScope(where=lambda: state.where or here())
        super().__init__(name, scope=scope, value_class=SymbolicTensor)
        self.function = function
        self.tables = [Table()]
        self.created: list[Variable] = []
        self.may_create = True

    def read(self, variable: Variable) -> Any:
        """The value of `variable` at this point of the trace."""
        for table in reversed(self.tables):
            found = table.values.get(id(variable))
            if found is not None:
                return found
        return self.capture(variable, variable.type)

    def write(self, variable: Variable, value: Any) -> None:
        """Make `value` that of `variable` from here on."""
        table = self.tables[-1]
        if table.sealed:
            raise cannot_write()
        table.values[id(variable)] = value
        table.writes[id(variable)] = variable

    @contextmanager
    def branch(self, sealed: bool = False) -> Iterator[Table]:
        """Writes meanwhile go to a table of their own, or are refused."""
        table = Table(sealed)
        self.tables.append(table)
        try:
            yield table
        finally:
            self.tables.remove(table)

    def evaluate(self, value: Any) -> EagerTensor:
        """The value now of what depends on constants, variables and outer tensors alone."""
        nodes, wanted = [], {value}
        for node in reversed(self.nodes):
            if not wanted.isdisjoint(node.outputs):
                nodes.append(node)
                wanted.update(node.inputs)
        if not wanted.isdisjoint(self.params):
            raise TraceError(
                "a variable's initial value must not depend on the arguments of the function that "
                "creates it: pass a function that makes it, or create the variable outside", here()
            )  # fmt: skip
        outer = {v: x for x, v in self.captures.values() if v in wanted}
        graph = Graph(tuple(outer), tuple(reversed(nodes)), (value,), self.name)
        with outside():
            return EagerTensor(np.array(interpret(graph, [*map(storage, outer.values())])[0]))

    @property
    def writes(self) -> list[Variable]:
        """The variables that the trace writes, in the order of their first write; those that it
        also reads come last."""
        writes = self.tables[0].writes
        return [writes[i] for i in sorted(writes, key=self.captures.__contains__)]

    def finish(self, outputs: Iterable[Any]) -> Graph:
        """The graph. Variables that are read and written are its last parameters, in the order of
        their new values, which are its last outputs: so the compiler sees which belong together."""
        own = [id(v) for v in self.writes if id(v) in self.captures]
        self.captures.update({i: self.captures.pop(i) for i in own})
        return super().finish(outputs)


def function_builder() -> FunctionBuilder | None:
    """The function trace in progress, from inside of its branches too."""
    builder: Any = state.builder
    while builder is not None and not isinstance(builder, FunctionBuilder):
        builder = builder.parent
    return builder


class _Replays(threading.local):
    table: Table | None = None
    outside: tuple[Any, ...] = ()  # recorders


_replays = _Replays()


class Active:
    """How many replays are going on, in all threads: variables ask for the table only then."""

    replays = 0
    lock = threading.Lock()

    @classmethod
    def count(cls, change: int) -> None:
        with cls.lock:
            cls.replays += change


def replayed() -> Table | None:
    """The values that variables are to have in this thread, and where their writes go."""
    return _replays.table


@contextmanager
def replay() -> Iterator[Table]:
    """Variables have values of their own meanwhile, which `values` of the table gives, and what is
    assigned to them is forgotten. The recorders in action do not hear of it."""
    saved, table = (_replays.table, _replays.outside), Table()
    _replays.table, _replays.outside = table, state.recorders
    Active.count(1)
    try:
        yield table
    finally:
        Active.count(-1)
        _replays.table, _replays.outside = saved


def tell_read(variable: Variable, value: Any) -> None:
    """Let the recorders know that a variable was read."""
    for recorder in state.recorders:
        if not Active.replays or recorder not in _replays.outside:
            on_read = getattr(recorder, "on_read", None)
            if on_read is not None:
                on_read(variable, value)


def tell_assigned(variable: Variable, value: Any) -> None:
    """Let the recorders know that a variable has a new value."""
    for recorder in state.recorders:
        if not Active.replays or recorder not in _replays.outside:
            on_assign = getattr(recorder, "on_assign", None)
            if on_assign is not None:
                on_assign(variable, value)


def may_write() -> bool:
    """Can what is traced now write to variables?"""
    if _replays.table is not None:
        return True
    trace = function_builder()
    return trace is not None and not trace.tables[-1].sealed


def cannot_write() -> TraceError:
    """The error for an assignment inside of a sub-graph that has no place for it."""
    return TraceError(
        "a variable is assigned inside of a traced function that is not a gg.function "
        "(vmap, or a loop body); assign its result outside", here()
    )  # fmt: skip


class ReadRecorder:
    """A recorder that keeps no operations, only which variables are read, and as which values."""

    def __init__(self) -> None:
        self.reads: dict[int, tuple[Variable, Any]] = {}  # the first read of each, by id

    def record(self, op: Any, inputs: Any, attrs: Any, outputs: Any) -> None:
        """Nothing."""

    def wants(self, values: Any) -> bool:
        return False

    def on_read(self, variable: Variable, value: Any) -> None:
        self.reads.setdefault(id(variable), (variable, value))


class Watcher(ReadRecorder):
    """Notes the reads of trainable variables, so that tapes can be told of them."""

    def on_read(self, variable: Variable, value: Any) -> None:
        if variable.trainable and variable.dtype.is_inexact:
            super().on_read(variable, value)

    @property
    def variables(self) -> list[Variable]:
        return [v for v, _ in self.reads.values()]

    @property
    def values(self) -> list[Any]:
        return [x for _, x in self.reads.values()]

    def tell(self) -> None:
        """Let the active tapes know of the reads: those of a sub-graph are hidden from them."""
        for v in self.variables:
            v.value()


@contextmanager
def outside() -> Iterator[None]:
    """Run eagerly for a while, as `init_scope` does: no trace, no tapes."""
    saved = state.builder, state.recorders
    state.builder, state.recorders = None, ()
    try:
        yield
    finally:
        state.builder, state.recorders = saved


def storage(x: Any) -> Array:
    """The array of a captured tensor, variable or NumPy array, as it is now."""
    if isinstance(x, np.ndarray):
        return x
    return x.array if isinstance(x, EagerTensor) else x.tensor().array
