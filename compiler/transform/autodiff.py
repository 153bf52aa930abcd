"""Differentiation: one walker backwards and one forwards over applications, whatever made them.

A tape record and an IR node have the same fields (op, inputs, attrs, outputs, where), so
`backprop` and `pushforward` serve eager tapes, tapes inside a trace, and graphs. Rules call ops, so
their results are of the kind at work, and any other active tape records them: every order works.

What a cotangent (or tangent) may be: None, the symbolic zero; or a value of the shape and dtype of
what it belongs to. `accumulate` is the one place that adds two of them, so it is where another
form (IndexedSlices) joins. Integers and bools never carry one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from graphgrad.compiler.families import Control
from graphgrad.compiler.ir import Builder, Graph, Node, Value, trace
from graphgrad.compiler.op import Application, Attrs, Op, current_kind, ops, state
from graphgrad.compiler.passes.cse import cse
from graphgrad.compiler.passes.stability import stabilised
from graphgrad.compiler.source import Where
from graphgrad.compiler.transform.dear import are_few_and_dear
from graphgrad.compiler.transform.sizes import size_makers, symbols_in
from graphgrad.compiler.types import TensorType


class Recording:
    """A recorder that keeps applications: what differentiation uses to look inside a composite."""

    def __init__(self) -> None:
        self.applications: list[Node] = []

    def record(
        self, op: Op, inputs: tuple[Any, ...], attrs: Attrs, outputs: tuple[Any, ...]
    ) -> None:
        self.applications.append(Node(op, inputs, attrs, outputs, state.where))


@contextmanager
def recording(recorder: Any) -> Generator[Any]:
    """Add a recorder for the duration."""
    saved = state.recorders
    state.recorders = (*saved, recorder)
    try:
        yield recorder
    finally:
        state.recorders = saved


@contextmanager
def at(where: Where | None) -> Generator[None]:
    """Nodes made meanwhile belong to `where`."""
    saved, state.where = state.where, where
    try:
        yield
    finally:
        state.where = saved


def backprop(
    applications: Iterable[Application], seeds: Iterable[tuple[Any, Any]], sources: Sequence[Any]
) -> list[Any]:
    """The cotangent of each source, or None where there is no path.

    `seeds` are (value, cotangent) pairs. Cotangents are summed by value, keyed by identity: the
    values stay alive through the applications.
    """
    relevant = paths_from(sources, applications)
    cotangents: dict[int, Any] = {}
    get = cotangents.get
    for value, seed in seeds:
        if value.dtype.is_inexact:
            accumulate(cotangents, value, seed)
    saved = state.where
    try:
        for a, needs in reversed(relevant):  # written for speed: eager tapes pay for each line here
            op, inputs, outputs = a.op, a.inputs, a.outputs
            if len(outputs) == 1:
                g = get(id(outputs[0]))
                if g is None:
                    continue
                gs: tuple[Any, ...] = (g,)
            else:
                gs = tuple(map(get, map(id, outputs)))
                if all(g is None for g in gs):
                    continue
            state.where = a.derivative
            if op.by_parts:
                found = pullback_by_parts(a, gs, needs)
            else:
                found = op.pullback(gs, outputs, inputs, a.attrs, needs)
            for x, need, g in zip(inputs, needs, found):
                if need and g is not None:
                    key = id(x)
                    old = get(key)
                    cotangents[key] = g if old is None else old + g
    finally:
        state.where = saved
    return [get(id(x)) for x in sources]


def paths_from(
    sources: Sequence[Any], applications: Iterable[Application]
) -> list[tuple[Application, tuple[bool, ...]]]:
    """The applications that depend on the sources, each with which of its inputs do."""
    active = {id(x) for x in sources if x.dtype.is_inexact}
    relevant = []
    for a in applications:
        if a.op.nondifferentiable:
            continue
        inputs = a.inputs
        if len(inputs) == 1:  # the common lengths without a loop
            needs: tuple[bool, ...] = (id(inputs[0]) in active,)
        elif len(inputs) == 2:
            x, y = inputs
            needs = (id(x) in active, id(y) in active)
        else:
            needs = tuple([id(x) in active for x in inputs])
        if True in needs:
            relevant.append((a, needs))
            for v in a.outputs:
                if v.dtype.is_inexact:
                    active.add(id(v))
    return relevant


def accumulate(cotangents: dict[int, Any], value: Any, g: Any) -> None:
    """Add `g` to the cotangent of `value`."""
    found = cotangents.get(id(value))
    cotangents[id(value)] = g if found is None else found + g


def pullback_by_parts(
    a: Application, gs: tuple[Any, ...], needs: tuple[bool, ...]
) -> Sequence[Any]:
    """The cotangents of the inputs of a composite without a rule of its own."""
    inputs, outputs, parts = decomposed(a)
    seeds = [(v, g) for v, g in zip(outputs, gs, strict=True) if g is not None]
    found = iter(backprop(parts, seeds, [x for x, need in zip(inputs, needs, strict=True) if need]))
    return [next(found) if need else None for need in needs]


def decomposed(a: Application) -> tuple[Sequence[Any], Sequence[Any], list[Node]]:
    """The inputs of a composite, its outputs made again by its parts, and the applications that
    made them. In a trace, all are values of it, also where those of `a` lie outside."""
    assert a.op.decompose is not None
    inputs = [*map(current_kind().lift, a.inputs)]
    with recording(Recording()) as parts:
        result = a.op.decompose(*inputs, **a.attrs)
    return inputs, result if a.op.multi else (result,), parts.applications


def decomposition(op: Op, types: tuple[TensorType, ...], attrs: Attrs) -> Graph | None:
    """The parts of a composite as a graph; None where they capture something from outside."""

    def parts(*xs: Any) -> Any:
        assert op.decompose is not None
        result = op.decompose(*xs, **attrs)
        return result if op.multi else (result,)

    graph, captured = trace(parts, types, op.name)
    return None if captured else graph


def pushforward(
    applications: Iterable[Application], seeds: Iterable[tuple[Any, Any]], targets: Sequence[Any]
) -> list[Any]:
    """The tangent of each target, or None where there is no path from a seeded value.

    `seeds` are (value, tangent) pairs.
    """
    tangents = {id(value): t for value, t in seeds if value.dtype.is_inexact}
    push_all(applications, tangents)
    return [tangents.get(id(v)) for v in targets]


def push_all(applications: Iterable[Application], tangents: dict[int, Any]) -> None:
    """Add the tangents of what the applications give to `tangents`, which are by identity."""
    saved = state.where
    try:
        for a in applications:
            if a.op.nondifferentiable:
                continue
            ts = tuple([tangents.get(id(x)) for x in a.inputs])
            for t in ts:
                if t is not None:
                    break
            else:
                continue
            state.where = a.derivative
            for v, t in zip(a.outputs, push_one(a, ts), strict=True):
                if t is not None and v.dtype.is_inexact:
                    tangents[id(v)] = t
    finally:
        state.where = saved


def push_one(a: Application, ts: tuple[Any, ...]) -> Sequence[Any]:
    """The tangents of the outputs of one application."""
    if a.op.by_parts:
        inputs, outputs, parts = decomposed(a)
        return pushforward(
            parts, [(x, t) for x, t in zip(inputs, ts, strict=True) if t is not None], outputs
        )
    if a.op.vjp is not None and a.op.jvp is None:
        return transposed_pullback(a, ts)
    return a.op.pushforward(ts, a.outputs, a.inputs, a.attrs)


def transposed_pullback(a: Application, ts: tuple[Any, ...]) -> Sequence[Any]:
    """The tangents of the outputs for an op that has only a vjp: the vjp is linear in the
    cotangents, and the jvp is its transpose."""
    needs = tuple(t is not None for t in ts)
    points = [ops["neg"](zeros_like(v.type)) if v.dtype.is_inexact else None for v in a.outputs]
    with recording(Recording()) as parts:
        gs = a.op.pullback(tuple(points), a.outputs, a.inputs, a.attrs, needs)
    seeds = [(g, t) for g, t in zip(gs, ts, strict=True) if g is not None and t is not None]
    found = iter(backprop(parts.applications, seeds, [p for p in points if p is not None]))
    return [None if p is None else next(found) for p in points]


def gradient_graph(graph: Graph, given: tuple[bool, ...], wanted: tuple[bool, ...]) -> Graph:
    """The reverse of `graph`: parameters are those of `graph`, then its outputs, then a cotangent
    for each output that `given` marks; outputs are the cotangents of the parameters that `wanted`
    marks, and zeros where there is no path.

    Forward values are taken from the outputs where they are among them (residuals), and computed
    again otherwise, as far as the result needs them.
    """
    return reverse(graph, given, wanted, True)[0]


def reverse(
    graph: Graph, given: tuple[bool, ...], wanted: tuple[bool, ...], fill: bool = False
) -> tuple[Graph, tuple[bool, ...]]:
    """The gradient graph, and for each parameter whether a cotangent of it is among the outputs.

    With `fill` all that `wanted` marks are, else only those that a path leads to.
    """
    key = ("gradient", given, wanted, fill)
    if key not in graph.memo:
        graph.memo[key] = _reverse(graph, given, wanted, fill)
    return graph.memo[key]  # type: ignore[no-any-return]


def _reverse(
    graph: Graph, given: tuple[bool, ...], wanted: tuple[bool, ...], fill: bool
) -> tuple[Graph, tuple[bool, ...]]:
    parts = reverse_parts(graph, given, wanted, fill)
    found = iter(parts.grads)
    has = tuple(w and next(found) is not None for w in wanted)
    whole = parts.builder.finish(g for g in parts.grads if g is not None)
    return live(without(parts.at_hand, whole)), has


def without(at_hand: Sequence[Node], graph: Graph) -> Graph:
    """`graph`, whose parameters are outputs of the nodes `at_hand`, without those again."""
    if not at_hand:
        return graph
    merged = cse(Graph(graph.params, (*at_hand, *graph.nodes), graph.outputs, graph.name))
    given = set(graph.params)
    rest = tuple(n for n in merged.nodes if given.isdisjoint(n.outputs))
    return Graph(graph.params, rest, merged.outputs, graph.name)


class ReverseParts(NamedTuple):
    """A reverse trace: the copies of the forward values (those of the stabilised graph), how many
    forward nodes, the cotangents."""

    builder: Builder
    copies: dict[Value, Value]
    forward_nodes: int
    grads: list[Any]
    at_hand: list[Node]  # dear ones whose outputs are parameters


def reverse_parts(
    graph: Graph, given: tuple[bool, ...], wanted: tuple[bool, ...], fill: bool = False
) -> ReverseParts:
    """Trace the reverse of `graph`; parameters as `gradient_graph` says."""
    plain = stabilised(graph)
    graph, became = augmented(plain, wanted)
    builder = Builder(f"gradient of {graph.name}")
    with builder.tracing():
        inputs = [builder.param(t) for t in graph.types]
        outputs = [builder.param(t) for t in graph.output_types]
        seeds = [builder.param(t) for t, g in zip(graph.output_types, given, strict=True) if g]
        known = {v: o for v, o in zip(graph.outputs, outputs, strict=True) if v in graph.producers}
        env = copy_nodes(graph, builder, dict(zip(graph.params, inputs, strict=True)) | known)
        forward_nodes = len(builder.nodes)
        applications = [
            Node(
                n.op,
                tuple(env[x] for x in n.inputs),
                n.attrs,
                tuple(env[v] for v in n.outputs),
                n.where,
            )
            for n in graph.nodes
        ]
        ends = [env[v] for v, g in zip(graph.outputs, given, strict=True) if g]
        sources = [x for x, w in zip(inputs, wanted, strict=True) if w]
        grads = backprop(applications, list(zip(ends, seeds, strict=True)), sources)
        if fill:
            grads = [
                zeros_like(x.type) if g is None else g for x, g in zip(sources, grads, strict=True)
            ]
    copies = {v: env[became.get(v, v)] for v in (*plain.params, *plain.producers)}
    given_values = set(known.values())
    at_hand = [
        a
        for a in applications
        if given_values.issuperset(a.outputs) and a.outputs and are_few_and_dear(a)
    ]
    return ReverseParts(builder, copies, forward_nodes, grads, at_hand)


def augmented(graph: Graph, wanted: tuple[bool, ...]) -> tuple[Graph, dict[Value, Value]]:
    """`graph` with loops and conditions that depend on the parameters that `wanted` marks in the
    form that their reverse reads, and what each value became; a graph without such is returned as
    it is."""
    if not any(isinstance(n.op, Control) and n.op.augment is not None for n in graph.nodes):
        return graph, {}
    builder = Builder(graph.name)
    with builder.tracing():
        inputs = [builder.param(t) for t in graph.types]
        became = dict(zip(graph.params, inputs, strict=True))
        active = {x for x, w in zip(inputs, wanted, strict=True) if w and x.dtype.is_inexact}
        for n in graph.nodes:
            xs = tuple(became[x] for x in n.inputs)
            marked = tuple(x in active for x in xs)
            if any(marked) and isinstance(n.op, Control) and n.op.augment is not None:
                with at(n.where):
                    outs = n.op.augment(xs, marked, **n.attrs)
            else:
                outs = tuple(builder.value(v.type, n.where) for v in n.outputs)
                builder.nodes.append(Node(n.op, xs, n.attrs, outs, n.where))
            if any(marked) and not n.op.nondifferentiable:
                active.update(v for v in outs if v.dtype.is_inexact)
            became.update(zip(n.outputs, outs, strict=False))
    return builder.finish(became[v] for v in graph.outputs), became


def copy_nodes(graph: Graph, builder: Builder, env: dict[Value, Value]) -> dict[Value, Value]:
    """Append copies of the nodes of `graph` whose outputs `env` does not give; returns all values'
    counterparts. Types are known, so nothing is inferred again."""
    env = dict(env)
    for n in graph.nodes:
        if n.outputs and all(v in env for v in n.outputs):
            continue  # effects may have no outputs
        outs = tuple(builder.value(v.type, n.where) for v in n.outputs)
        builder.nodes.append(Node(n.op, tuple(env[x] for x in n.inputs), n.attrs, outs, n.where))
        for v, out in zip(n.outputs, outs, strict=True):
            env.setdefault(v, out)
    return env


def live(graph: Graph) -> Graph:
    """Without the nodes that no output needs; a derivative does not repeat effects, so those
    too."""
    needed = set(graph.outputs)
    makers = size_makers(graph)
    kept = []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
            if makers:
                needed.update(makers[s] for s in symbols_in(node) if s in makers)
            kept.append(node)
    return Graph(graph.params, tuple(reversed(kept)), graph.outputs, graph.name)


def jvp_graph(graph: Graph, given: tuple[bool, ...]) -> Graph:
    """Forward mode: parameters are those of `graph`, then a tangent for each that `given` marks;
    outputs are those of `graph`, then a tangent for each floating one (zeros where there is no
    path).
    """
    return forward(graph, given, True)[0]


def forward(
    graph: Graph, given: tuple[bool, ...], fill: bool = False
) -> tuple[Graph, tuple[bool, ...]]:
    """The forward-mode graph, and for each output of `graph` whether a tangent of it follows.

    With `fill` all floating outputs have one, else only those that a path leads to.
    """
    key = ("forward", given, fill)
    if key not in graph.memo:
        graph.memo[key] = _forward(graph, given, fill)
    return graph.memo[key]  # type: ignore[no-any-return]


def _forward(graph: Graph, given: tuple[bool, ...], fill: bool) -> tuple[Graph, tuple[bool, ...]]:
    graph = stabilised(graph)
    builder = Builder(f"tangent of {graph.name}")
    with builder.tracing():
        inputs = [builder.param(t) for t in graph.types]
        seeds = [(x, builder.param(x.type)) for x, g in zip(inputs, given, strict=True) if g]
        env = copy_nodes(graph, builder, dict(zip(graph.params, inputs, strict=True)))
        outputs = [env[v] for v in graph.outputs]
        tangents = pushforward(tuple(builder.nodes), seeds, outputs)
        if fill:
            tangents = [
                zeros_like(v.type) if t is None and v.dtype.is_inexact else t
                for v, t in zip(outputs, tangents, strict=True)
            ]
        found = [t for t in tangents if t is not None]
        return builder.finish([*outputs, *found]), tuple(t is not None for t in tangents)


def zeros_like(t: TensorType) -> Any:
    """A zero tensor of type `t` in the kind at work."""
    return current_kind().lift(0, t.dtype).broadcast_to(t.shape)
