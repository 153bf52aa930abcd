"""Compiles small programs and runs them in three ways: LLVM, Python kernels, interpreter."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import graphgrad.compiler.ops  # noqa: F401 -- fills the registry
from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.python_nest import python_kernel, python_sizes, run_python_kernel
from graphgrad.compiler.dims import evaluate
from graphgrad.compiler.driver import Compilation, compile_in_full
from graphgrad.compiler.families import Reduce
from graphgrad.compiler.interpret import interpret_all, run_node
from graphgrad.compiler.ir import Graph, Value, trace
from graphgrad.compiler.kernels.loops import LoopNest
from graphgrad.compiler.steps import CompiledStep
from graphgrad.compiler.transform.sizes import at_sizes, bind_sizes
from graphgrad.compiler.types import TensorType, tensor_type
from graphgrad.runtime import engine, executor, threads

Array = np.ndarray[Any, Any]


def t(*shape: Any, dtype: Any = "float32") -> TensorType:
    return tensor_type(shape, dtypes.as_dtype(dtype))


def graph_of(fn: Callable[..., Any], *types: TensorType) -> Graph:
    """The graph of `fn`, which returns a value or several."""

    def outputs(*xs: Any) -> Any:
        result = fn(*xs)
        return result if isinstance(result, list | tuple) else [result]

    graph, captured = trace(outputs, types)
    assert not captured
    return graph


def compile_full(graph: Graph) -> Compilation:
    return compile_in_full(graph, engine.host_target())


def kernels(compilation: Compilation) -> list[CompiledStep]:
    return [s for s in compilation.steps if s.nest is not None]


def any_nest(holds: Callable[[LoopNest], Any], fn: Callable[..., Any], *types: TensorType) -> bool:
    """Has `fn` a kernel whose nest `holds`?"""
    nests = [s.nest for s in kernels(compile_full(graph_of(fn, *types)))]
    return any(holds(nest) for nest in nests if nest is not None)


def row_types(rows: Any, n: Any, dtype: str = "float32") -> tuple[TensorType, ...]:
    """Of x[rows, n], y[n, rows], a row and a column."""
    return tuple(t(*s, dtype=dtype) for s in ((rows, n), (n, rows), (n,), (rows, 1)))


def samples(types: Sequence[TensorType], seed: int = 0, sizes: Sequence[int] = ()) -> list[Array]:
    """Random arrays of the types; unknown sizes are taken from `sizes` in turn."""
    rng = np.random.default_rng(seed)
    known = iter(sizes)
    named: dict[Any, int] = {}
    arrays = []
    for x in types:
        shape = [n if isinstance(n, int) else named.setdefault(n, next(known, 5)) for n in x.shape]
        if x.dtype.is_floating:
            a = rng.normal(size=shape)
        else:
            a = rng.integers(0 if x.dtype.kind in "bu" else -4, 2 if x.dtype.is_bool else 5, shape)
        arrays.append(np.ascontiguousarray(np.asarray(a).astype(x.dtype.dtype)).reshape(shape))
    return arrays


def run_compiled(compilation: Compilation, arrays: Sequence[Array]) -> list[Array]:
    """The outputs for arrays of the parameters' types; programs take them in row-major order."""
    return prepared(compilation).run([np.asarray(a, order="C") for a in arrays])


def prepared(compilation: Compilation) -> executor.Executable:
    return executor.prepare(compilation.program, engine.host_target())


def with_threads(run: Callable[[], Any], counts: Sequence[int] = (1, 2, 3)) -> list[Any]:
    """What `run` gives with each number of threads."""
    found = []
    try:
        for count in counts:
            threads.set_count(count)
            found.append(run())
    finally:
        threads.set_count(None)
    return found


def run_python(compilation: Compilation, arrays: Sequence[Array]) -> list[Array]:
    """The outputs, with each kernel run as the Python text that reports show."""
    graph = compilation.graph
    sizes = bind_sizes(graph.types, [a.shape for a in arrays])
    env: dict[Value, Array] = dict(zip(graph.params, arrays, strict=True))

    def find(v: Value) -> Array:
        if v not in env:
            node = graph.producers[v]
            if node.op.name == "constant":
                env[v] = node.attrs["value"].array
            elif node.op.name == "reshape":
                env[v] = find(node.inputs[0]).reshape(at_sizes(v.type.shape, sizes))
            else:  # a view
                (env[v],) = run_node(node, tuple(map(find, node.inputs)))
        return env[v]

    for step in compilation.steps:
        if step.nest is None:
            for node in step.nodes:
                env.update(
                    zip(node.outputs, run_node(node, tuple(map(find, node.inputs))), strict=True)
                )
            continue
        for nest, arrays_of_nest in step.parts:
            given: list[Array] = []
            row = math.prod(evaluate(n, sizes) for n in nest.dims[len(nest.dims) - nest.inner :])
            for array, v in zip(nest.arrays, arrays_of_nest, strict=True):
                if array.role == "in":
                    assert v is not None
                    given.append(np.ascontiguousarray(find(v)))
                    continue
                if v in env:  # another kernel has written a part of it
                    given.append(env[v])
                    continue
                shape = (row,) if v is None else at_sizes(v.type.shape, sizes)
                given.append(np.full(shape, 77).astype(array.dtype.dtype))
                if v is not None:
                    env[v] = given[-1]
            extents = [evaluate(n, sizes) for n in python_sizes(nest)]
            run_python_kernel(python_kernel(nest, "k"), given, extents)
    return [find(v).reshape(at_sizes(v.type.shape, sizes)) for v in graph.outputs]


# What IEEE 754 or the meaning of the op fixes to the last bit.
_EXACT = """
    add sub mul div neg abs sqrt square reciprocal sign floor relu maximum minimum floordiv mod
    equal not_equal less less_equal greater greater_equal where isnan isinf isfinite
    logical_and logical_or logical_xor logical_not cast identity stop_gradient cotangent_product
    broadcast_to reshape transpose slice unslice gather concat update_slice dynamic_slice
    constant size iota one_hot check_class max min any all
"""
EXACT = frozenset(_EXACT.split())


def is_exact(graph: Graph) -> bool:
    """Are all results fixed to the last bit?"""
    return all(
        n.op.name in EXACT or (not n.out.type.dtype.is_floating and n.op.name in ("sum", "prod"))
        for n in graph.nodes
    )


def tolerance(graph: Graph, arrays: Sequence[Array]) -> float:
    """An absolute error that allows for the rounding of every intermediate value."""
    scale, eps = 1.0, 0.0
    for v, a in interpret_all(graph, arrays).items():
        if v.type.dtype.is_floating and a.size:
            finite = np.abs(np.where(np.isfinite(a), a, 0).astype(np.float64))
            scale = max(scale, float(finite.max()) * math.sqrt(a.size))
            eps = max(eps, v.type.dtype.eps)
    return 64 * eps * scale


def assert_same(
    got: Sequence[Array], expected: Sequence[Array], atol: float = 0.0, zeros: bool = True
) -> None:
    """Equal in shape, dtype and value: to the last bit, NaNs aside, or within `atol`.

    Without `zeros` their sign does not count.
    """
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape, (a.shape, b.shape)
        assert a.dtype == b.dtype, (a.dtype, b.dtype)
        if a.dtype.name == "bfloat16":  # its NaNs are not known to be NaNs
            a, b = a.astype(np.float32), b.astype(np.float32)
        if a.dtype.kind in "biu" or not atol:
            np.testing.assert_array_equal(a, b, strict=True)
            if zeros and a.dtype.kind not in "biu":
                np.testing.assert_array_equal(np.signbit(a) & (a == 0), np.signbit(b) & (b == 0))
        else:
            x, y = a.astype(np.float64), b.astype(np.float64)
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=atol)


def check(
    fn: Callable[..., Any] | Graph, *types: TensorType, arrays: Sequence[Array] | None = None,
    python: bool = True, sizes: Sequence[int] = (),
) -> Compilation:  # fmt: skip
    """Compiled, as Python kernels and interpreted, `fn` gives the same results."""
    graph = fn if isinstance(fn, Graph) else graph_of(fn, *types)
    given = samples(graph.types, sizes=sizes) if arrays is None else list(arrays)
    values = interpret_all(graph, given)
    expected = [np.asarray(values[v]) for v in graph.outputs]
    compilation = compile_full(graph)
    exact = is_exact(compilation.graph) and is_exact(graph)
    atol = 0.0 if exact else tolerance(graph, given)
    # Which of two zeros a maximum is depends on the order, which is not NumPy's.
    zeros = not any(isinstance(n.op, Reduce) for n in compilation.graph.nodes)
    assert_same(run_compiled(compilation, given), expected, atol, zeros)
    if python:
        assert_same(run_python(compilation, given), expected, atol, zeros)
    return compilation


def calls_made(run: Callable[[], Any]) -> int:
    """How many Python functions `run` calls: time that does not depend on the machine."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count
