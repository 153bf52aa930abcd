"""Batching: a graph for one example becomes a graph for many, each on its own along a new axis 0.

A value is *batched* when it has the extra axis. What depends on no batched value is computed once.
An op's own rule, `batch(xs, batched, size, **attrs)`, gives outputs that are all batched; without
one its family decides: elementwise ops and reductions keep their meaning on the further axis,
composites are batched part by part, and anything else runs lane by lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import TraceError
from graphgrad.compiler.families import Control, Elementwise, Reduce
from graphgrad.compiler.ir import Builder, Graph
from graphgrad.compiler.op import Attrs, Op, ops, reapply
from graphgrad.compiler.transform.autodiff import at, decomposition
from graphgrad.compiler.transform.sizes import bind_sizes, specialise
from graphgrad.compiler.transform.subgraphs import must_be_chosen
from graphgrad.compiler.types import TensorType, tensor_type

Mask = tuple[bool, ...]


def batch_graph(
    graph: Graph, batched: Mask, size: Extent, outputs: Mask | None = None
) -> tuple[Graph, Mask]:
    """`graph` for `size` examples at once, and which of its outputs are batched.

    Parameters that `batched` marks have the extra axis. Outputs that `outputs` marks get it in any
    case.
    """
    key = ("batch", batched, size, outputs)
    if key not in graph.memo:
        graph.memo[key] = _batch_graph(graph, batched, size, outputs)
    return graph.memo[key]  # type: ignore[no-any-return]


def _batch_graph(
    graph: Graph, batched: Mask, size: Extent, outputs: Mask | None
) -> tuple[Graph, Mask]:
    builder = Builder(f"batch of {graph.name}")
    with builder.tracing():
        params = [
            builder.param(batched_type(t, size) if b else t)
            for t, b in zip(graph.types, batched, strict=True)
        ]
        outs, marks = batch_nodes(graph, params, batched, size)
        for i, wanted in enumerate(outputs or ()):
            if wanted and not marks[i]:
                outs[i], marks[i] = stretch(outs[i], size), True
        return builder.finish(outs), tuple(marks)


def batched_type(t: TensorType, size: Extent) -> TensorType:
    """The type of `size` values of type `t`."""
    return tensor_type((size, *t.shape), t.dtype)


def stretch(x: Any, size: Extent) -> Any:
    """The same value for every example."""
    return x.broadcast_to((size, *x.shape))


def batch_nodes(
    graph: Graph, inputs: Sequence[Any], batched: Sequence[bool], size: Extent
) -> tuple[list[Any], list[bool]]:
    """Apply the nodes of `graph` to inputs, of which some are batched, in the kind at work."""
    env = {p: (x, b) for p, x, b in zip(graph.params, inputs, batched, strict=True)}
    for node in graph.nodes:
        xs, marks = zip(*(env[x] for x in node.inputs), strict=True) if node.inputs else ((), ())
        with at(node.where):
            outs, found = batch_op(node.op, xs, marks, size, node.attrs)
        env.update(zip(node.outputs, zip(outs, found, strict=True), strict=True))
    return [env[v][0] for v in graph.outputs], [env[v][1] for v in graph.outputs]


def batch_op(
    op: Op, xs: tuple[Any, ...], batched: Mask, size: Extent, attrs: Attrs
) -> tuple[Sequence[Any], Sequence[bool]]:
    """The outputs of one op for many examples, and which of them are batched."""
    if not any(batched):
        outs = reapply(op, xs, attrs)
        return outs, (False,) * len(outs)
    if isinstance(op, Control):
        return batch_control(op, xs, batched, size, attrs)
    if op.batch is not None:
        outs = op.batch(xs, batched, size, **attrs)
        return outs, (True,) * len(outs)
    if isinstance(op, Elementwise):
        full = [x if b else stretch(x, size) for x, b in zip(xs, batched, strict=True)]
        return reapply(op, full, attrs), (True,)
    if isinstance(op, Reduce):
        shifted = {**attrs, "axes": tuple(a + 1 for a in attrs["axes"])}
        return reapply(op, xs, shifted), (True,)
    if op.decompose is not None:
        parts = decomposition(op, lane_types(xs, batched), attrs)
        if parts is not None:
            parts = specialise(
                parts, bind_sizes(parts.types, [t.shape for t in lane_types(xs, batched)])
            )
            return batch_nodes(parts, xs, batched, size)
    return by_lanes(op, xs, batched, size, attrs)


def batch_control(
    op: Control, xs: tuple[Any, ...], batched: Mask, size: Extent, attrs: Attrs
) -> tuple[Sequence[Any], Sequence[bool]]:
    """The op on batched sub-graphs: its rule says itself which outputs are batched."""
    if op.inlined is not None:
        inner, marks = batch_graph(op.inlined(**attrs), batched, size)
        return op(*xs, **{**attrs, "graph": inner}), marks
    assert op.batch is not None
    outs, marks = op.batch(xs, batched, size, **attrs)
    return outs, marks


def lane_types(xs: Sequence[Any], batched: Sequence[bool]) -> tuple[TensorType, ...]:
    """The types that one example sees."""
    return tuple(
        tensor_type(x.type.shape[1:], x.type.dtype) if b else x.type
        for x, b in zip(xs, batched, strict=True)
    )


def by_lanes(
    op: Op, xs: Sequence[Any], batched: Mask, size: Extent, attrs: Attrs
) -> tuple[list[Any], list[bool]]:
    """One application an example, where neither the op nor its family knows better."""
    if not isinstance(size, int) or size == 0:
        raise TraceError(
            f"vmap: `{op.name}` has no rule for batches, and examples cannot go one by one when "
            f"their number is {size}; give the axis a fixed size"
        )
    lanes = [
        reapply(op, [take_lane(x, i) if b else x for x, b in zip(xs, batched, strict=True)], attrs)
        for i in range(size)
    ]
    outs = [
        ops["concat"]([y.reshape((1, *y.shape)) for y in ys], 0) for ys in zip(*lanes, strict=True)
    ]
    return outs, [True] * len(outs)


def take_lane(x: Any, i: int) -> Any:
    """Example `i` of a batched value."""
    rest = x.shape[1:]
    block = ops["slice"](x, (i, *(0 for _ in rest)), (1, *rest))
    return block.reshape(rest)


def select_lanes(condition: Any, x: Any, y: Any) -> Any:
    """Example by example, `x` where the condition holds, else `y`; all are batched."""
    shape = (*condition.shape, *(1,) * (x.ndim - 1))
    return ops["where"](condition.reshape(shape), x, y)


def batch_cond(
    xs: tuple[Any, ...], batched: Mask, size: Extent, true_graph: Graph, false_graph: Graph,
    widened: Any = (),
) -> tuple[tuple[Any, ...], Mask]:  # fmt: skip
    """A condition that is the same for all runs one branch. Else both run, and each example
    selects; where one might fail or has effects, examples go one by one, each through its own."""
    condition, captures = xs[0], xs[1:]
    sides = [batch_graph(g, batched[1:], size)[1] for g in (true_graph, false_graph)]
    marks = tuple(batched[0] or a or b for a, b in zip(*sides, strict=True))
    if batched[0] and widened:
        raise TraceError(
            "vmap: the branches of a condition leave other sizes, and which one is taken differs "
            "from example to example; give both the same size"
        )
    if batched[0] and (must_be_chosen(true_graph) or must_be_chosen(false_graph)):
        attrs = {"true_graph": true_graph, "false_graph": false_graph, "widened": ()}
        return one_by_one("cond", xs, batched, size, attrs), (True,) * len(marks)
    taken, other = (batch_graph(g, batched[1:], size, marks)[0] for g in (true_graph, false_graph))
    if not batched[0]:
        return ops["cond"](
            condition, *captures, true_graph=taken, false_graph=other,
            widened=tuple((k, axis + marks[k], n) for k, axis, n in widened),
        ), marks  # fmt: skip
    results = ops["call"](*captures, graph=taken), ops["call"](*captures, graph=other)
    return tuple(select_lanes(condition, a, b) for a, b in zip(*results, strict=True)), marks


def one_by_one(
    name: str, xs: Sequence[Any], batched: Mask, size: Extent, attrs: Attrs
) -> tuple[Any, ...]:
    """One application of a control op an example, in their order: a scan over the examples."""
    builder = Builder(f"{name} of one example")
    types = lane_types(xs, batched)
    with builder.tracing():
        params = [builder.param(t) for t, b in zip(types, batched, strict=True) if b]
        shared = [builder.param(t) for t, b in zip(types, batched, strict=True) if not b]
        lanes, rest = iter(params), iter(shared)
        inputs = [next(lanes) if b else next(rest) for b in batched]
        body = builder.finish(ops[name](*inputs, **attrs))
    ordered = [x for x, b in zip(xs, batched, strict=True) if b]
    ordered += [x for x, b in zip(xs, batched, strict=True) if not b]
    found: tuple[Any, ...] = ops["scan"](
        *ordered, body_graph=body, carried=0, scanned=len(params), length=size, reverse=False,
        masked=False, varying=(), padded=(),
    )  # fmt: skip
    return found


def batch_custom(
    xs: tuple[Any, ...], batched: Mask, size: Extent, graph: Graph, backward: Graph
) -> tuple[tuple[Any, ...], Mask]:
    """Both graphs batched; the cotangent of an input that all examples share is summed over
    them."""
    count = len(graph.outputs)
    ahead = batch_graph(graph, batched, size, (True,) * count)[0]
    floats = [t for t in graph.types if t.dtype.is_inexact]
    marks = (*batched, *(True,) * (len(backward.params) - len(batched)))
    inner = batch_graph(backward, marks, size, (True,) * len(floats))[0]
    shared = [not b for t, b in zip(graph.types, batched, strict=True) if t.dtype.is_inexact]
    builder = Builder(inner.name)
    with builder.tracing():
        params = [builder.param(t) for t in inner.types]
        grads = ops["call"](*params, graph=inner)
        summed = [g.sum((0,)) if s else g for g, s in zip(grads, shared, strict=True)]
        back = builder.finish(summed)
    return ops["custom_call"](*xs, graph=ahead, backward=back), (True,) * count
