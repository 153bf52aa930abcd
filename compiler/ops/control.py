"""Ops that hold sub-graphs: `call`, `cond` and `custom_call`. Loops are in `loops.py`.

A sub-graph refers to nothing outside itself: what it uses of the outer trace are its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import DTypeError, ShapeError
from graphgrad.compiler.families import Control
from graphgrad.compiler.interpret import Array, flushing, run_graph, set_graph_runner
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.ops.renamed import as_type
from graphgrad.compiler.ops.while_loop import Axes, resized, same_but
from graphgrad.compiler.transform.autodiff import (
    forward,
    gradient_graph,
    jvp_graph,
    live,
    reverse,
    zeros_like,
)
from graphgrad.compiler.transform.batching import batch_cond, batch_custom
from graphgrad.compiler.transform.residuals import with_residuals
from graphgrad.compiler.transform.sizes import runtime_size
from graphgrad.compiler.transform.subgraphs import (
    apply,
    build,
    floating,
    given,
    output_types,
    place,
    present,
    scattered,
    select,
)  # fmt: skip
from graphgrad.compiler.types import TensorType, same_shape

__all__ = ["call", "call_for_tape", "cond", "custom_call", "set_graph_runner"]

Mask = tuple[bool, ...]


def _call_vjp(
    gs: tuple[Any, ...], outs: tuple[Any, ...], *xs: Any, needs: Mask, graph: Graph, **how: bool
) -> tuple[Any, ...]:
    back, has = reverse(graph, given(gs), needs)
    return scattered(has, call(*xs, *outs, *present(gs), graph=back, **how) if any(has) else ())


def call_jvp(
    ts: tuple[Any, ...], outs: tuple[Any, ...], *xs: Any, graph: Graph, **how: bool
) -> tuple[Any, ...]:
    ahead, has = forward(graph, given(ts))
    if not any(has):
        return scattered(has, ())
    return scattered(has, call(*xs, *present(ts), graph=tail(ahead, len(outs)), **how))


def _run_call(*arrays: Array, graph: Graph, flush_denormals: bool = False) -> Sequence[Array]:
    if not flush_denormals:
        return run_graph(graph, arrays)
    with flushing(True):
        return run_graph(graph, arrays)


def tail(graph: Graph, start: int) -> Graph:
    """`graph` with the outputs from `start` on alone."""
    key = ("tail", start)
    if key not in graph.memo:
        graph.memo[key] = live(Graph(graph.params, graph.nodes, graph.outputs[start:], graph.name))
    return graph.memo[key]  # type: ignore[no-any-return]


call = Control(
    name="call",
    public="",
    multi=True,
    type=lambda *types, graph, **how: output_types("call", graph, types),
    ref=_run_call,
    vjp=_call_vjp,
    jvp=call_jvp,
    inlined=lambda graph, **how: graph,
    samples=None,
    doc="The outputs of `graph` for the inputs: a compiled function used inside another. With "
    "`flush_denormals`, which holds where the call is not inlined, subnormal numbers are zero.",
)


def call_for_tape(
    graph: Graph, args: Sequence[Any], needs: Mask, flush_denormals: bool = False
) -> tuple[Any, ...]:
    """Call `graph` so that a tape can go back through it without computing it again.

    One application of `call` is recorded, of the variant of `graph` that also gives the residuals
    for the inputs that `needs` marks; returns the outputs of `graph` itself.
    """
    how = {"flush_denormals": True} if flush_denormals else {}
    return apply(call, args, graph=with_residuals(graph, needs), **how)[: len(graph.outputs)]


def _cond_type(
    condition: TensorType,
    *types: TensorType,
    true_graph: Graph,
    false_graph: Graph,
    widened: Axes = (),
) -> tuple[TensorType, ...]:
    if condition.dtype is not dtypes.bool_:
        raise DTypeError(f"cond: the condition is to be {dtypes.bool_.short}[], got {condition}")
    if condition.shape:
        raise ShapeError(
            f"cond: the condition is to be one value, got {condition}; use where to select elements"
        )
    taken, other = (output_types("cond", g, types) for g in (true_graph, false_graph))
    if len(taken) != len(other):
        raise ShapeError(
            f"cond: the true branch gives {len(taken)} values, the false branch {len(other)}"
        )
    for i, (a, b) in enumerate(zip(taken, other, strict=True)):
        if not same_but(a, b, [axis for k, axis, _ in widened if k == i]):
            error = DTypeError if a.dtype is not b.dtype else ShapeError
            raise error(f"cond: output {i} is {a} in the true branch, but {b} in the false branch")
    return resized(taken, widened)


def _cond_vjp(
    gs: tuple[Any, ...], outs: tuple[Any, ...], condition: Any, *xs: Any, needs: Mask,
    true_graph: Graph, false_graph: Graph, widened: Axes = (),
) -> tuple[Any, ...]:  # fmt: skip
    """The reverse of the branch that was taken."""
    seeds, branches = given(gs), (true_graph, false_graph)
    has = union(*(reverse(g, seeds, needs[1:])[1] for g in branches))
    if not any(has):
        return (None,) * (1 + len(xs))
    inputs = (condition, *xs, *outs, *present(gs))
    taken, other = (gradient_graph(g, seeds, has) for g in branches)
    if widened:
        taken, other = (_renaming(g, len(xs), seeds, widened) for g in (taken, other))
    grads = cond(*inputs, true_graph=taken, false_graph=other, widened=())
    return (None, *scattered(has, grads))


def _renaming(graph: Graph, count: int, seeds: Mask, widened: Axes) -> Graph:
    """The reverse of a branch, after `count` inputs for outputs and cotangents that have other
    names for the sizes that differ between the branches."""
    places = {k: count + len(seeds) + i for i, k in enumerate(k for k, s in enumerate(seeds) if s)}
    axes = [(count + k, axis) for k, axis, _ in widened]
    axes += [(places[k], axis) for k, axis, _ in widened if k in places]
    types = resized(
        graph.types, tuple((k, axis, runtime_size(f"w{i}")) for i, (k, axis) in enumerate(axes))
    )
    return build(
        graph.name,
        types,
        lambda builder, *xs: place(builder, graph, [*map(as_type, xs, graph.types)]),
    )


def _cond_jvp(
    ts: tuple[Any, ...],
    outs: tuple[Any, ...],
    condition: Any,
    *xs: Any,
    true_graph: Graph,
    false_graph: Graph,
    widened: Axes = (),
) -> tuple[Any, ...]:
    seeds, branches = given(ts[1:]), (true_graph, false_graph)
    has = union(*(forward(g, seeds)[1] for g in branches))
    if not any(has):
        return (None,) * len(outs)
    taken, other = (tail(jvp_graph(g, seeds), len(outs)) for g in branches)
    place = scattered(floating(outs), range(len(outs)))
    tangents = cond(
        condition, *xs, *present(ts[1:]), true_graph=taken, false_graph=other,
        widened=tuple((place[k], axis, n) for k, axis, n in widened if place[k] is not None),
    )  # fmt: skip
    every = scattered(floating(outs), tangents)
    return tuple(t if h else None for t, h in zip(every, has, strict=True))


def union(a: Mask, b: Mask) -> Mask:
    """Marked in either."""
    return tuple(x or y for x, y in zip(a, b, strict=True))


def _cond_augment(
    xs: tuple[Any, ...], active: Mask, *, true_graph: Graph, false_graph: Graph, widened: Axes = ()
) -> tuple[Any, ...]:
    """Both branches also give the residuals of either, zeros for the one that was not taken."""
    count = len(true_graph.outputs)
    taken, other = (with_residuals(g, active[1:]) for g in (true_graph, false_graph))
    kept = [t.type for t in taken.outputs[count:]], [t.type for t in other.outputs[count:]]

    def with_zeros(graph: Graph, before: list[TensorType], after: list[TensorType]) -> Graph:
        def make(builder: Any, *values: Any) -> list[Any]:
            outs = place(builder, graph, values)
            zeros = [*map(zeros_like, before)], [*map(zeros_like, after)]
            return [*outs[:count], *zeros[0], *outs[count:], *zeros[1]]

        return build(graph.name, graph.types, make)

    return apply(
        cond,
        xs,
        true_graph=with_zeros(taken, [], kept[1]),
        false_graph=with_zeros(other, kept[0], []),
        widened=widened,
    )


cond = Control(
    name="cond",
    public="",
    multi=True,
    type=_cond_type,
    ref=lambda condition, *xs, true_graph, false_graph, widened=(): run_graph(
        true_graph if condition else false_graph, xs
    ),
    vjp=_cond_vjp,
    jvp=_cond_jvp,
    augment=_cond_augment,
    batch=batch_cond,
    samples=None,
    doc="The outputs of `true_graph` where the condition holds, else of `false_graph`; only one "
    "of them runs.",
)


def _custom_type(*types: TensorType, graph: Graph, backward: Graph) -> tuple[TensorType, ...]:
    outputs = output_types("custom_gradient", graph, types)
    wanted = [t for t in types if t.dtype.is_inexact]
    found = output_types(
        "custom_gradient", backward, (*types, *outputs, *select(outputs, _floats(outputs)))
    )
    if len(found) != len(wanted):
        raise ShapeError(
            f"custom_gradient: {len(wanted)} floating inputs, but grad_fn returns {len(found)} "
            "gradients"
        )
    for i, (a, b) in enumerate(zip(wanted, found, strict=True)):
        if a.dtype is not b.dtype or not same_shape(a.shape, b.shape):
            raise ShapeError(
                f"custom_gradient: grad_fn gives {b} for floating input {i}, which is {a}"
            )
    return outputs


def _floats(types: Sequence[TensorType]) -> Mask:
    return tuple(t.dtype.is_inexact for t in types)


def _custom_vjp(
    gs: tuple[Any, ...], outs: tuple[Any, ...], *xs: Any, needs: Mask, graph: Graph, backward: Graph
) -> tuple[Any, ...]:
    seeds = [
        zeros_like(v.type) if g is None else g
        for v, g in zip(outs, gs, strict=True)
        if v.dtype.is_inexact
    ]
    grads = scattered(floating(xs), call(*xs, *outs, *seeds, graph=backward))
    return tuple(g if need else None for g, need in zip(grads, needs, strict=True))


def _custom_jvp(
    ts: tuple[Any, ...], outs: tuple[Any, ...], *xs: Any, graph: Graph, backward: Graph
) -> tuple[Any, ...]:
    """The transpose of `backward`, which is linear in the cotangents, at cotangents of zero."""
    floats = [x for x in xs if x.dtype.is_inexact]
    tangents = [t for t, x in zip(ts, xs, strict=True) if x.dtype.is_inexact]
    seeds = [y for y in outs if y.dtype.is_inexact]
    wanted = (False,) * (len(xs) + len(outs)) + (True,) * len(seeds)
    ahead, has = reverse(backward, given(tangents), wanted)
    if not any(has):
        return (None,) * len(outs)
    zeros = [zeros_like(y.type) for y in (*seeds, *floats)]  # the cotangents, and what they give
    found = call(*xs, *outs, *zeros, *present(tangents), graph=ahead)
    return scattered(floating(outs), scattered(has[len(xs) + len(outs) :], found))


custom_call = Control(
    name="custom_call",
    public="",
    multi=True,
    type=_custom_type,
    ref=lambda *arrays, graph, backward: run_graph(graph, arrays),
    vjp=_custom_vjp,
    jvp=_custom_jvp,
    batch=batch_custom,
    samples=None,
    doc="The outputs of `graph`, whose reverse is `backward`: its parameters are the inputs, the "
    "outputs and a cotangent for each floating output; its outputs, a cotangent for each "
    "floating input.",
)
