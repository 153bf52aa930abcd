"""gg.vmap: a function for one example, applied to many at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
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
from graphgrad.compiler.types import tensor_type
from graphgrad.tensor import SymbolicTensor
from graphgrad.tracing import Watcher, function_builder


def traced(
    f: Callable[..., Any], args: list[Any], types: list[Any]
) -> tuple[Graph, list[Any], Any]:
    """The graph of `f` for flat arguments of `types`, what it captured, and its result."""
    parent = state.builder if isinstance(state.builder, Builder) else None
    builder = Builder(getattr(f, "__name__", "f"), parent=parent, value_class=SymbolicTensor)
    trace = function_builder()
    with builder.tracing(), trace.branch(sealed=True) if trace is not None else nullcontext():
        with recording(Watcher()) as watcher:
            result = f(*nest.pack(args, [builder.param(t) for t in types]))
        outputs = [builder.lift(y) for y in nest.flatten(result)]
    watcher.tell()
    return builder.finish(outputs), builder.captured, result


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """`f` for many examples at once: each argument has a further axis at `in_axes`.

    `in_axes` is an int for all arguments or one an argument, which may be a structure that the
    argument begins with; None is for those without the axis. The results have it at `out_axes`.
    What comes out is that of a Python loop, and differentiable.

    >>> import graphgrad as gg
    >>> dot = gg.vmap(lambda x, y: gg.reduce_sum(x * y))
    >>> dot([[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [2.0, 2.0]]).numpy()
    array([ 3., 14.], dtype=float32)
    """

    @functools.wraps(f)
    def call(*args: Any) -> Any:
        kind = current_kind()
        axes = _axes(in_axes, args, "in_axes")
        given = tuple(a if axis is None else _arrays(a) for a, axis in zip(args, axes))
        every = [
            leaf for a, axis in zip(given, axes)
            for leaf in zip(nest.flatten(a), _leaf_axes(axis, a, "in_axes"))
        ]  # fmt: skip
        data = [axis is not None or isinstance(x, Arith | np.ndarray) for x, axis in every]
        places = [axis for (_, axis), d in zip(every, data) if d]
        leaves = [kind.lift(x) for (x, _), d in zip(every, data) if d]

        @functools.wraps(f)
        def with_data(*values: Any) -> Any:
            found = iter(values)
            return f(*nest.pack(given, [next(found) if d else x for (x, _), d in zip(every, data)]))

        xs = [x if p is None else _to_front(x, p) for x, p in zip(leaves, places)]
        sizes = [x.type.shape[0] for x, p in zip(xs, places) if p is not None]
        if not sizes:
            raise ArgumentError("vmap: no argument has a batch axis", here())
        if not all(same_size(n, sizes[0]) for n in sizes):
            raise ShapeError(
                f"vmap: the batch axes have sizes {sizes}, which are not equal", here()
            )
        batched = tuple(p is not None for p in places)
        types = [
            tensor_type(x.type.shape[1:], x.dtype) if b else x.type for x, b in zip(xs, batched)
        ]
        graph, captured, structure = traced(with_data, [0] * len(types), types)
        outputs = (True,) * len(graph.outputs)
        many, _ = batch_graph(graph, (*batched, *[False] * len(captured)), sizes[0], outputs)
        results = ops["call"](*xs, *captured, graph=many)
        ends = _leaf_axes(out_axes, structure, "out_axes")
        return nest.pack(structure, [_from_front(y, p) for y, p in zip(results, ends)])

    return call


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
