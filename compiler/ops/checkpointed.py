"""Loops whose number of steps only the run knows, and that keep a bounded number of checkpoints.

`checkpointed` is a `while_loop`, or a `scan` of open length, that also gives the states it kept,
and where; `checkpointed_reverse` is its reverse. What runs is written down as graphs of loops in
`transform/loop_checkpoints.py`. Derivatives of higher order, and forward mode, are those of the
plain loop, which computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.families import Control
from graphgrad.compiler.interpret import Array, run_graph
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.ops.control import call_jvp
from graphgrad.compiler.transform.autodiff import reverse
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.transform.subgraphs import (
    apply,
    build,
    given,
    output_types,
    place,
    present,
    scattered,
    select,
)
from graphgrad.compiler.types import TensorType, tensor_type

Mask = tuple[bool, ...]


def _graphs() -> Any:
    """The graphs of loops; the module is loaded when it is asked for first."""
    from graphgrad.compiler.transform import loop_checkpoints

    return loop_checkpoints


def _derived(name: str, types: Sequence[TensorType], more: tuple[Any, ...], attrs: Any) -> Graph:
    """A graph of the loop with the attributes `attrs`; made once for each body."""
    body: Graph = attrs["body_graph"]
    simple = tuple((k, v) for k, v in attrs.items() if not isinstance(v, Graph))
    key = (name, tuple(types), more, simple, id(attrs["cond_graph"]))
    if key not in body.memo:
        make = getattr(_graphs(), name)
        body.memo[key] = make(_graphs().Loop(tuple(types), **attrs), *more), attrs["cond_graph"]
    return body.memo[key][0]  # type: ignore[no-any-return]


# -- the loop


def _types(
    *types: TensorType, body_graph: Graph, carried: int, scanned: int, length: Extent | None,
    slots: int, **attrs: Any,
) -> tuple[TensorType, ...]:  # fmt: skip
    split = carried + scanned
    slices = [tensor_type(t.shape[1:], t.dtype) for t in types[carried:split]]
    outs = output_types("checkpointed", body_graph, [*types[:carried], *slices, *types[split:]])
    stacked = [tensor_type((length or 0, *t.shape), t.dtype) for t in outs[carried:]]
    kept = [tensor_type((slots, *t.shape), t.dtype) for t in types[:carried]]
    return (*types[:carried], *stacked, *kept, *(tensor_type((), dtypes.int64),) * 3)


def forward_of(types: Sequence[TensorType], attrs: Any) -> Graph:
    """What runs."""
    return _derived("forward_graph", types, (), attrs)


def _vjp(
    gs: tuple[Any, ...], outs: tuple[Any, ...], *xs: Any, needs: Mask, **attrs: Any
) -> tuple[Any, ...]:
    count = len(attrs["body_graph"].outputs)
    marks = given(gs[:count])
    needs = tuple(n and x.dtype.is_inexact for n, x in zip(needs, xs, strict=True))
    if not any(marks) or not any(needs):
        return (None,) * len(xs)
    grads = apply(
        checkpointed_reverse, [*xs, *outs[count:], *present(gs[:count])], seeds=marks,
        wanted=needs, **attrs,
    )  # fmt: skip
    return scattered(needs, grads)


def _jvp(ts: tuple[Any, ...], outs: tuple[Any, ...], *xs: Any, **attrs: Any) -> tuple[Any, ...]:
    plain = _derived("plain_graph", [x.type for x in xs], (), attrs)
    count = len(plain.outputs)
    found = call_jvp(ts, outs[:count], *xs, graph=plain)
    return (*found, *(None,) * (len(outs) - count))


def _batch(
    xs: tuple[Any, ...], batched: Mask, size: Extent, **attrs: Any
) -> tuple[tuple[Any, ...], Mask]:
    from graphgrad.compiler.transform.loop_batching import batch_checkpointed

    return batch_checkpointed(xs, batched, size, **attrs)


checkpointed = Control(
    name="checkpointed",
    public="",
    multi=True,
    type=_types,
    ref=lambda *arrays, **attrs: _run(forward_of, arrays, attrs),
    vjp=_vjp,
    jvp=_jvp,
    batch=_batch,
    expansion=forward_of,
    samples=None,
    doc="A loop that keeps its state at some of its steps.",
)


# -- its reverse


def reverse_of(types: Sequence[TensorType], attrs: Any) -> Graph:
    """What runs."""
    loop = {k: v for k, v in attrs.items() if k not in ("seeds", "wanted")}
    count = _inputs(types, attrs)
    return _derived("reverse_graph", types[:count], (attrs["seeds"], attrs["wanted"]), loop)


def _inputs(values: Sequence[Any], attrs: Any) -> int:
    """How many of the inputs are those of the loop."""
    count: int = len(values) - attrs["carried"] - 3 - sum(attrs["seeds"])
    return count


def _plain(xs: Sequence[Any], attrs: Any) -> tuple[Graph, list[int]]:
    """(inputs of the loop, cotangents) -> cotangents, all of it kept; and which inputs these are
    of the op."""
    loop = {k: v for k, v in attrs.items() if k not in ("seeds", "wanted")}
    count = _inputs(xs, attrs)
    plain = _derived("plain_graph", [x.type for x in xs[:count]], (), loop)
    back = _graphs().gradient_graph(plain, attrs["seeds"], attrs["wanted"])
    seeds = list(range(len(xs) - sum(attrs["seeds"]), len(xs)))
    types = [x.type for x in (*xs[:count], *(xs[k] for k in seeds))]

    def make(builder: Any, *values: Any) -> list[Any]:
        outs = place(builder, plain, values[:count])
        return place(builder, back, [*values[:count], *outs, *values[count:]])

    return build(back.name, types, make), [*range(count), *seeds]


def _vjp_reverse(
    gs: tuple[Any, ...], outs: tuple[Any, ...], *xs: Any, needs: Mask, **attrs: Any
) -> tuple[Any, ...]:
    from graphgrad.compiler.ops.control import call

    plain, places = _plain(xs, attrs)
    inputs = [xs[k] for k in places]
    back, has = reverse(plain, given(gs), tuple(needs[k] for k in places))
    if not any(has):
        return (None,) * len(xs)
    found = scattered(has, call(*inputs, *outs, *present(gs), graph=back))
    by_place = dict(zip(places, found, strict=True))
    return tuple(by_place.get(k) for k in range(len(xs)))


def _jvp_reverse(
    ts: tuple[Any, ...], outs: tuple[Any, ...], *xs: Any, **attrs: Any
) -> tuple[Any, ...]:
    plain, places = _plain(xs, attrs)
    return call_jvp(tuple(ts[k] for k in places), outs, *(xs[k] for k in places), graph=plain)


def _batch_reverse(
    xs: tuple[Any, ...], batched: Mask, size: Extent, **attrs: Any
) -> tuple[tuple[Any, ...], Mask]:
    from graphgrad.compiler.ops.control import call
    from graphgrad.compiler.transform.batching import lane_types

    graph, marks = batch_graph(reverse_of(lane_types(xs, batched), attrs), batched, size)
    return call(*xs, graph=graph), marks


def _run(of: Any, arrays: Sequence[Array], attrs: Any) -> tuple[Array, ...]:
    types = [tensor_type(a.shape, dtypes.as_dtype(a.dtype)) for a in arrays]
    return tuple(run_graph(of(types, attrs), arrays))


checkpointed_reverse = Control(
    name="checkpointed_reverse",
    public="",
    multi=True,
    type=lambda *types, wanted, **attrs: tuple(select(types[: len(wanted)], wanted)),
    ref=lambda *arrays, **attrs: _run(reverse_of, arrays, attrs),
    vjp=_vjp_reverse,
    jvp=_jvp_reverse,
    batch=_batch_reverse,
    expansion=reverse_of,
    samples=None,
    doc="The cotangents of the inputs of `checkpointed`, from those of its results.",
)
