"""Runs graphs: compiled on first use, once a graph, whoever calls it; or interpreted op by op."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphgrad.compiler import errors
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.interpret import flushes, interpret, set_graph_runner
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.options import Options
from graphgrad.compiler.passes.stability import stabilised
from graphgrad.compiler.transform.sizes import own_sizes
from graphgrad.tensor import Array

if TYPE_CHECKING:
    from graphgrad.compiler.driver import Compilation
    from graphgrad.runtime.executor import Executable

_locks = threading.Lock()  # guards the creation of runners, not their compiling


class TextPlace:
    """A place in the user's source that is known as text only."""

    def __init__(self, text: str) -> None:
        self.text = text

    def describe(self) -> str:
        return self.text


class Runner:
    """A graph that can be run: compiled at its first run, by one thread while others wait."""

    def __init__(self, graph: Graph, options: Options | None = None) -> None:
        self.graph = graph
        self.options = options
        self.seconds = 0.0  # spent on compiling
        self.executable: Executable | None = None
        self._compilation: Compilation | None = None
        self._lock = threading.Lock()

    def prepared(self) -> Executable:
        """The compiled program."""
        with self._lock:
            return self.executable or self._compile()

    def _compile(self) -> Executable:
        # Imported here: the executor and LLVM take long to import, and eager programs never need
        # them.
        from graphgrad.programs import executable_of

        begin = time.perf_counter()
        executable, self._compilation = executable_of(self.graph, self.options)
        self.seconds = time.perf_counter() - begin
        self.executable = executable
        return executable

    @property
    def compilation(self) -> Compilation:
        """How the program comes about: for reports. A program from disk is compiled once more."""
        from graphgrad.programs import compilation_of
        from graphgrad.runtime.engine import host_target

        if self._compilation is None:
            self._compilation = compilation_of(self.graph, host_target(), self.options)
        return self._compilation

    def run(self, arrays: Sequence[Array], donate: Sequence[bool] = ()) -> list[Array]:
        """The outputs for contiguous arrays; errors name the user's line.

        `donate[i]` lets an output take the memory of `arrays[i]` if `arrays` is its only holder.
        """
        executable = self.executable or self.prepared()
        try:
            return executable.run(arrays, donate)
        except Exception as e:
            error = translated(e)
            if error is None:
                raise
            raise error from None


class Interpreter:
    """A graph that is run op by op with NumPy: `jit_compile=False`.

    Stability rules apply as in compiled graphs, since gradient graphs rely on the values they give.
    """

    seconds = 0.0

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.stable = stabilised(graph)

    def run(self, arrays: Sequence[Array], donate: Sequence[bool] = ()) -> list[Array]:
        return interpret(self.stable, arrays)


def runner(graph: Graph, compiled: bool = True, flush_denormals: bool = False) -> Any:
    """What runs `graph`, kept in the graph's memo."""
    key = ("flushing runner" if flush_denormals else "runner") if compiled else "interpreter"
    found = graph.memo.get(key)
    if found is None:
        with _locks:
            found = graph.memo.get(key)
            if found is None:
                options = Options(flush_denormals=True) if flush_denormals else None
                found = Runner(graph, options) if compiled else Interpreter(graph)
                graph.memo[key] = found
    return found


def run_graph(graph: Graph, arrays: Sequence[Any]) -> Sequence[Array]:
    """What the eager `call` op does with its graph."""
    ready = [a if a.flags.c_contiguous else np.array(a, order="C") for a in map(np.asarray, arrays)]
    how = runner(own_sizes(graph), flush_denormals=flushes())
    outputs: list[Array] = how.run(ready)
    return outputs


set_graph_runner(run_graph)


def translated(e: Exception) -> GraphgradError | None:
    """The error that users see for a kernel that refused its input; None for other errors."""
    failure: Any = e
    if type(e).__name__ != "KernelFailure":  # the class is imported with the executor only
        return None
    kind = getattr(errors, failure.failure.error, GraphgradError)
    text = failure.failure.message.format(index=failure.index, a=failure.a, b=failure.b)
    place = TextPlace(failure.failure.where) if failure.failure.where else None
    error: GraphgradError = kind(text, place)
    return error
