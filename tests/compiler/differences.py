"""Finite differences of graphs in float64, run by the interpreter: what derivatives are held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph, trace
from graphgrad.compiler.transform.autodiff import gradient_graph, jvp_graph
from graphgrad.compiler.types import TensorType, tensor_type
from graphgrad.compiler.verify import verify

STEP = 1e-6


def types_of(arrays: Sequence[Any]) -> list[TensorType]:
    found = [np.asarray(a) for a in arrays]
    return [tensor_type(a.shape, dtypes.as_dtype(a.dtype)) for a in found]


def graph_of(fn: Callable[..., Any], arrays: Sequence[Any], name: str = "f") -> Graph:
    """The graph of `fn`, which returns a value or several, for arguments like `arrays`."""

    def outputs(*xs: Any) -> Any:
        result = fn(*xs)
        return result if isinstance(result, list | tuple) else [result]

    graph, captured = trace(outputs, types_of(arrays), name)
    assert not captured
    return verify(graph)


def open_graph(fn: Callable[[Any], Any]) -> tuple[Graph, Callable[[int], bool]]:
    """The graph of `fn` of f64[n, 4] with n unknown; and whether its guards hold for an n."""
    scope = DimScope()
    n = scope.symbol("n", 0, 0, hint=6)
    graph, captured = trace(lambda x: [fn(x)], [tensor_type((n, 4), dtypes.float64)], scope=scope)
    assert not captured

    def holds(size: int) -> bool:
        return all(g.holds({s: size for s in scope.symbols}) for g in scope.guards.values())

    return verify(graph), holds


def is_floating(x: Any) -> bool:
    return bool(np.asarray(x).dtype.kind in "fc")


def direction(like: Any, rng: np.random.Generator) -> Any:
    """Random, of the shape of `like`; complex where that is."""
    d = np.asarray(rng.normal(size=np.shape(like)))
    if np.asarray(like).dtype.kind == "c":
        d = np.asarray(d + 1j * rng.normal(size=d.shape))
    return d


def inner(a: Any, b: Any) -> float:
    """Re(sum conj(a) b): the inner product under which gradients are dL/dx + i dL/dy."""
    return float(np.real(np.vdot(a, b)))


def directions(arrays: Sequence[Any], seed: int) -> list[Any]:
    """A random direction for each floating array, None for the others."""
    rng = np.random.default_rng(seed)
    return [direction(a, rng) if is_floating(a) else None for a in arrays]


def moved(arrays: Sequence[Any], along: Sequence[Any], step: float) -> list[Any]:
    return [a if d is None else a + step * d for a, d in zip(arrays, along, strict=True)]


def slope(graph: Graph, arrays: Sequence[Any], along: Sequence[Any]) -> list[Any]:
    """The directional derivative of each floating output, by central differences."""
    up, down = (interpret(graph, moved(arrays, along, s)) for s in (STEP, -STEP))
    return [(a - b) / (2 * STEP) if is_floating(a) else None for a, b in zip(up, down, strict=True)]


def close(got: Any, wanted: Any, tolerance: float = 2e-5) -> None:
    scale = max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * scale)


def masks(graph: Graph) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """All floating outputs, and all floating parameters."""
    return (
        tuple(t.dtype.is_inexact for t in graph.output_types),
        tuple(t.dtype.is_inexact for t in graph.types),
    )


def check_reverse(graph: Graph, arrays: Sequence[Any], seed: int = 0) -> tuple[Graph, list[Any]]:
    """Hold the gradient graph to differences along a random direction.

    Returns it with the arrays that it was run on.
    """
    given, wanted = masks(graph)
    reverse = verify(gradient_graph(graph, given, wanted))
    outputs = interpret(graph, arrays)
    seeds = [d for d in directions(outputs, seed + 1) if d is not None]
    along = directions(arrays, seed + 2)
    inputs = [*arrays, *outputs, *seeds]
    grads = interpret(reverse, inputs)
    got = sum(inner(g, d) for g, d in zip(grads, [d for d in along if d is not None], strict=True))
    found = [s for s in slope(graph, arrays, along) if s is not None]
    close(got, sum(inner(a, b) for a, b in zip(found, seeds, strict=True)))
    return reverse, inputs


def check_forward(graph: Graph, arrays: Sequence[Any], seed: int = 0) -> None:
    """Hold the forward-mode graph to differences along a random direction."""
    along = directions(arrays, seed + 2)
    forward = verify(jvp_graph(graph, tuple(d is not None for d in along)))
    outputs = interpret(forward, [*arrays, *(d for d in along if d is not None)])
    for a, b in zip(outputs, interpret(graph, arrays), strict=False):
        np.testing.assert_array_equal(a, b)
    wanted = [s for s in slope(graph, arrays, along) if s is not None]
    for got, w in zip(outputs[len(graph.outputs) :], wanted, strict=True):
        close(got, w)


def check_all(graph: Graph, arrays: Sequence[Any], seed: int = 0) -> None:
    """First order, forward and reverse; second order, reverse over reverse and forward over
    reverse."""
    check_forward(graph, arrays, seed)
    reverse, inputs = check_reverse(graph, arrays, seed)
    check_second(graph, reverse, arrays, inputs, seed)


def check_second(
    graph: Graph, reverse: Graph, arrays: Sequence[Any], inputs: Sequence[Any], seed: int = 0
) -> None:
    """Differentiate the composition of forward and reverse run, where outputs feed the latter."""
    from graphgrad.compiler.ops.control import call

    seeds = inputs[len(arrays) + len(graph.outputs) :]

    def gradient(*xs: Any) -> Any:
        ins, gs = xs[: len(arrays)], xs[len(arrays) :]
        outs = call(*ins, graph=graph)
        return call(*ins, *outs, *gs, graph=reverse)

    whole = graph_of(gradient, [*arrays, *seeds], "gradient")
    check_reverse(whole, [*arrays, *seeds], seed + 10)
    check_forward(whole, [*arrays, *seeds], seed + 10)
