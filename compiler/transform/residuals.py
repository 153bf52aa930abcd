"""What a forward run keeps for the backward run: a minimum cut between storing and recomputing.

The backward run has the parameters and the outputs of the forward run; every other forward value
that it reads is either stored as a further output of the forward run, or computed again from what
is at hand. Storing a value costs its bytes. Computing again costs nothing for what fuses into the
reader (cheap elementwise ops, views, generators), a share of the bytes for transcendentals, and is
ruled out for everything else (reductions, products, gathers, loops, effects).
"""

from __future__ import annotations

from collections.abc import Sequence

from graphgrad.compiler.families import Control, Elementwise, Generator, View
from graphgrad.compiler.ir import Builder, Graph, Node, Value
from graphgrad.compiler.passes.stability import stabilised
from graphgrad.compiler.transform.autodiff import at, decomposition, reverse_parts
from graphgrad.compiler.transform.dear import is_dear
from graphgrad.compiler.transform.maxflow import Network
from graphgrad.compiler.transform.sizes import bind_sizes, is_runtime, specialise
from graphgrad.compiler.types import TensorType

NOMINAL = 64  # the value of an unknown size, when bytes are compared
INFINITE = float("inf")
LARGE = 1e15  # computing a loop again: dearer than any storing, and yet possible
LARGE_STATE = 1e12  # all values that the state of a loop had, where it grows from step to step

DEAR_SHARE = 0.5  # of the bytes


def with_residuals(graph: Graph, needs: tuple[bool, ...], carried: int = 0) -> Graph:
    """`graph` with further outputs: what its reverse for the parameters that `needs` marks is to
    read.

    Composites that differentiate by parts are expanded, and inner calls and branches give their own
    residuals, so that nothing expensive is hidden. Where nothing has to be stored the result is
    `graph`. Values whose sizes are known only at run time are computed again, not stored.

    The first `carried` parameters and outputs are the state of a loop, of which the reverse has
    only what is stored.
    """
    key = ("residuals", needs, carried)
    if key not in graph.memo:
        graph.memo[key] = _with_residuals(graph, needs, carried)
    return graph.memo[key]  # type: ignore[no-any-return]


def _with_residuals(graph: Graph, needs: tuple[bool, ...], carried: int) -> Graph:
    # Imported here: what takes loops apart is needed where compiled code is differentiated only.
    from graphgrad.compiler.passes.loops_counted import count_steps

    whole = stabilised(expanded(stabilised(count_steps(graph)), needs))
    stored = cut(whole, values_read_by_reverse(whole, needs, carried), carried)
    if not stored:
        return graph
    return Graph(whole.params, whole.nodes, (*whole.outputs, *stored), graph.name)


def expanded(graph: Graph, needs: tuple[bool, ...]) -> Graph:
    """`graph` with calls and composites inlined, and control ops in the form their reverse wants,
    where a floating value depends on a parameter that `needs` marks."""
    if not any(n.op.by_parts or isinstance(n.op, Control) for n in graph.nodes):
        return graph
    builder = Builder(graph.name)
    with builder.tracing():
        inputs = [builder.param(t) for t in graph.types]
        active = {x for x, need in zip(inputs, needs, strict=True) if need and x.dtype.is_inexact}
        outputs = _expand_into(builder, graph, inputs, active)
    return builder.finish(outputs)


def _expand_into(
    builder: Builder, graph: Graph, inputs: Sequence[Value], active: set[Value]
) -> list[Value]:
    env = dict(zip(graph.params, inputs, strict=True))
    for node in graph.nodes:
        xs = tuple(env[x] for x in node.inputs)
        marked = tuple(x in active for x in xs)
        outs = _expand_node(builder, node, xs, marked, active) if any(marked) else None
        if outs is None:
            outs = [builder.value(v.type, node.where) for v in node.outputs]
            builder.nodes.append(Node(node.op, xs, node.attrs, tuple(outs), node.where))
        if any(marked) and not node.op.nondifferentiable:
            active.update(v for v in outs if v.dtype.is_inexact)
        env.update(zip(node.outputs, outs, strict=True))
    return [env[v] for v in graph.outputs]


def _expand_node(
    builder: Builder,
    node: Node,
    xs: tuple[Value, ...],
    marked: tuple[bool, ...],
    active: set[Value],
) -> list[Value] | None:
    """The outputs of an op that is expanded; None for one that stays as it is."""
    op, inner = node.op, None
    with at(node.where):
        if isinstance(op, Control):
            if op.augment is not None:
                return _augmented(builder, node, op.augment(xs, marked, **node.attrs))
            if op.inlined is not None:
                inner = op.inlined(**node.attrs)
        elif op.by_parts:
            inner = decomposition(op, tuple(x.type for x in xs), node.attrs)
        if inner is None:
            return None
        sizes = bind_sizes(inner.types, [x.shape for x in xs])
        return _expand_into(builder, specialise(inner, sizes), xs, active)


def _augmented(builder: Builder, node: Node, outs: Sequence[Value]) -> list[Value] | None:
    """The outputs of a node just augmented; None, and it is taken back, where nothing can be
    kept."""
    count = len(node.outputs)
    if len(outs) > count and not any(is_runtime(v.type) for v in outs[count:]):
        return list(outs[:count])
    del builder.nodes[-1]
    return None


def values_read_by_reverse(graph: Graph, needs: tuple[bool, ...], carried: int = 0) -> list[Value]:
    """The values inside `graph`, and in its state, that its reverse reads, all floating outputs
    having a cotangent."""
    given = tuple(t.dtype.is_inexact for t in graph.output_types)
    parts = reverse_parts(graph, given, needs)
    nodes, needed, read = parts.builder.nodes, set[Value](), set[Value]()
    images = set(parts.copies.values())
    needed.update(g for g in parts.grads if g is not None)
    read.update(needed)
    for i in range(len(nodes) - 1, -1, -1):
        repeated = (
            i < parts.forward_nodes
        )  # a forward node: does the reverse run it in another form?
        if any(v in needed and not (repeated and v in images) for v in nodes[i].outputs):
            needed.update(nodes[i].inputs)
            read.update(nodes[i].inputs)
    made = {v for node in nodes[: parts.forward_nodes] for v in node.outputs}
    state = {*graph.params[:carried], *graph.outputs[:carried]}
    return [v for v, copy in parts.copies.items() if copy in read and (copy in made or v in state)]


def cut(graph: Graph, required: Sequence[Value], carried: int = 0) -> list[Value]:
    """The values to store so that all of `required` can be had in the reverse, at the least
    cost."""
    at_hand = set(graph.params[carried:]) | set(graph.outputs[carried:])
    for node in graph.nodes:
        if recompute_share(node) == 0 and all(x in at_hand for x in node.inputs):
            at_hand.update(node.outputs)
    goal = [v for v in required if v not in at_hand]
    wanted, places = set(goal), dict[Value, int]()
    network = Network()
    state = set(graph.params[:carried]) - at_hand

    def place(v: Value) -> int:
        """The network node where `v` arrives; it leaves from the next, at the price of its
        bytes."""
        if v not in places:
            places[v] = network.node()
            network.node()
            price: float = nominal_bytes(v.type)
            if is_runtime(v.type):
                price = LARGE_STATE if v in state else INFINITE
            network.edge(places[v], places[v] + 1, price)
        return places[v]

    for v in goal:
        network.edge(place(v) + 1, network.sink, INFINITE)
    for node in reversed(graph.nodes):
        share = recompute_share(node)
        for v in node.outputs:
            if v not in wanted:
                continue
            price = LARGE if is_runtime(v.type) else share * nominal_bytes(v.type)
            if price:
                network.edge(network.source, place(v), price)
            if price < INFINITE:
                for x in node.inputs:
                    if x not in at_hand:
                        wanted.add(x)
                        network.edge(place(x) + 1, place(v), INFINITE)
    for v in state & wanted:
        network.edge(network.source, place(v), INFINITE)
    needed = network.sink_side()
    return [v for v, i in places.items() if i + 1 in needed and i not in needed]


def recompute_share(node: Node) -> float:
    """What computing the outputs of `node` again costs, in parts of their bytes."""
    op = node.op
    if op.effect or op.raises:
        return INFINITE
    if isinstance(op, Elementwise):
        return DEAR_SHARE if is_dear(node) else 0.0
    if op.name == "constant" or isinstance(op, View | Generator):
        return 0.0
    return INFINITE


def nominal_bytes(t: TensorType) -> int:
    """The bytes of a value, unknown sizes taken as 64."""
    count = 1
    for n in t.shape:
        count *= n if isinstance(n, int) else NOMINAL
    return max(1, count * t.dtype.itemsize)
