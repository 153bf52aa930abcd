"""Recomputation: a call whose reverse computes its forward values again instead of keeping them.

The copies that the reverse makes would be merged with the originals, and so keep them alive, were
they made of the same inputs. `after` makes them of others: the same values, but not to be had
before the cotangent arrives.
"""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import ShapeError
from graphgrad.compiler.families import Control, Elementwise
from graphgrad.compiler.interpret import run_graph
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import Samples, ops
from graphgrad.compiler.ops.control import call, call_jvp
from graphgrad.compiler.ops.elementwise import ANY_NUMBER
from graphgrad.compiler.transform.autodiff import reverse
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.transform.subgraphs import (
    given,
    output_types,
    present,
    scattered,
    select,
    used_params,
)

Mask = tuple[bool, ...]


def _split(x: Any, token: Any) -> Any:
    """Each part after the real one of the token."""
    first = token[0] if isinstance(token, tuple) else token
    return tuple(after(v, first) for v in x) if isinstance(x, tuple) else after(x, first)


after = Elementwise(
    name="after",
    public="",
    inputs="any",
    arity=2,
    type=lambda x, token: x,
    ref=lambda x, token: x,
    scalar=lambda s, x, token: x,
    split=_split,
    partials=(lambda z, x, token: 1, None),
    samples=Samples(
        dtypes=(*ANY_NUMBER, "bool", "complex64"),
        shapes=(((3,), (3,)), ((2, 3), (2, 3))),
        oracle=lambda x, token: x,
        ulp=0.0,
    ),
    doc="x itself, computed once the token is known.",
)


def _vjp(
    gs: tuple[Any, ...], outs: tuple[Any, ...], *xs: Any, needs: Mask, graph: Graph, again: Mask
) -> tuple[Any, ...]:
    back, has = reverse(graph, given(gs), needs)
    if not any(has):
        return (None,) * len(xs)
    seeds = present(gs)
    token = _first(seeds[0])
    if token is not None:
        xs = tuple(after(x, token) if a else x for x, a in zip(xs, again, strict=True))
    values = (*xs, *outs, *seeds)
    used = used_params(back)
    back = Graph(tuple(select(back.params, used)), back.nodes, back.outputs, back.name)
    return scattered(has, call(*select(values, used), graph=back))


def _first(x: Any) -> Any:
    """One element of `x`, or None if there is none."""
    try:
        return ops["slice"](x, (0,) * x.ndim, (1,) * x.ndim).reshape(()) if x.ndim else x
    except ShapeError:
        return None


def _batch(
    xs: tuple[Any, ...], batched: Mask, size: Extent, graph: Graph, again: Mask
) -> tuple[tuple[Any, ...], Mask]:
    inner, marks = batch_graph(graph, batched, size)
    return recompute(*xs, graph=inner, again=again), marks


recompute = Control(
    name="recompute",
    public="",
    multi=True,
    type=lambda *types, graph, again: output_types("recompute_grad", graph, types),
    ref=lambda *arrays, graph, again: run_graph(graph, arrays),
    vjp=_vjp,
    jvp=lambda ts, outs, *xs, graph, again: call_jvp(ts, outs, *xs, graph=graph),
    batch=_batch,
    samples=None,
    doc="The outputs of `graph`, whose forward values the reverse computes again, from the inputs "
    "that `again` marks once the cotangents are known.",
)
