"""Loops whose number of steps only the run knows, in memory that is bounded all the same.

Forward, the state is kept every `spacing` steps. Where all slots are taken, every second one is
given up and the spacing doubles (Stumm & Walther 2010), so that a step costs nothing more.
Backward, the steps after the last checkpoint come first: as many as can be kept whole (`rows`, a
*unit*) run again and are reversed; of more units, the first run again, and the state after them
becomes a checkpoint of its own, on a stack of `slots`. With f free slots and t further runs of each
step, binomial(f + t, t) units can be reversed; how many to run ahead follows (Griewank & Walther
2000).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.ir import Builder, Graph
from graphgrad.compiler.op import ops, state
from graphgrad.compiler.ops.view import reverse as reversed_along
from graphgrad.compiler.transform.autodiff import gradient_graph, live, zeros_like
from graphgrad.compiler.transform.loop_derivatives import active_params
from graphgrad.compiler.transform.subgraphs import (
    apply,
    build,
    must_be_chosen,
    place,
    select,
    used_params,
)
from graphgrad.compiler.types import TensorType, tensor_type

COUNT = tensor_type((), dtypes.int64)


@dataclass(frozen=True, eq=False)
class Loop:
    """The loop of an op `checkpointed`: the attributes are those of the op, `types` its inputs'."""

    types: tuple[TensorType, ...]
    cond_graph: Graph | None
    body_graph: Graph
    carried: int
    scanned: int
    length: Extent | None
    reverse: bool
    maximum_iterations: int | None
    slots: int
    rows: int

    @property
    def state(self) -> tuple[TensorType, ...]:
        return self.types[: self.carried]

    @property
    def captures(self) -> tuple[TensorType, ...]:
        return self.types[self.carried + self.scanned :]

    @property
    def stacked(self) -> tuple[TensorType, ...]:
        """The types of what a step gives beside the state."""
        return self.body_graph.output_types[self.carried :]

    @cached_property
    def quiet(self) -> Graph:
        """The body without effects, which happen once."""
        return live(self.body_graph)

    def parted(self, values: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """(state, scanned, captures), one a parameter of the body."""
        n, split = self.carried, self.carried + self.scanned
        return list(values[:n]), list(values[n:split]), list(values[split:])

    def total(self) -> Any:
        """The number of steps of a scan."""
        return ops["size"](size=self.length, dtype=dtypes.int64)

    def entry(self, x: Any, step: Any) -> Any:
        """The slice of a scanned input that a step reads."""
        last = self.total() - 1
        at = last - step if self.reverse else step
        return ops["gather"](x, at, axis=0)

    def entries(self, x: Any, first: Any) -> Any:
        """The slices of a unit of steps; those behind the end are any."""
        last = self.total() - 1
        steps = ops["minimum"](ops["iota"](self.rows, dtypes.int64) + first, last)
        return ops["gather"](x, last - steps if self.reverse else steps, axis=0)


def plain_graph(loop: Loop) -> Graph:
    """The loop as it is, keeping all that its reverse reads."""
    settings: dict[str, Any] = {"body_graph": loop.body_graph, "carried": loop.carried,
                                "varying": (), "padded": ()}  # fmt: skip
    more: dict[str, Any]
    if loop.cond_graph is None:
        name, more = "scan", {"scanned": loop.scanned, "length": loop.length, "masked": False,
                              "reverse": loop.reverse}  # fmt: skip
    else:
        name, more = "while_loop", {"cond_graph": loop.cond_graph, "trips": None,
                                    "maximum_iterations": loop.maximum_iterations}  # fmt: skip
    return build(
        loop.body_graph.name,
        loop.types,
        lambda _, *xs: apply(ops[name], xs, **settings, **more),
    )


# -- forward


def forward_graph(loop: Loop) -> Graph:
    """(state, scanned, captures) -> (state, stacked, checkpoints, how many there are, the steps
    between them, the steps that were made)."""
    n = loop.carried

    def make(builder: Builder, *inputs: Any) -> list[Any]:
        start, xs, captures = loop.parted(inputs)
        rows = [
            zeros_like(tensor_type((loop.length or 0, *t.shape), t.dtype)) for t in loop.stacked
        ]
        slots = [zeros_like(tensor_type((loop.slots, *t.shape), t.dtype)) for t in loop.state]
        zero = count_of(0)
        spacing = count_of(loop.rows)
        if loop.cond_graph is None:
            spacing = spacing * ceiling(ceiling(loop.total(), loop.rows), loop.slots)
        found = repeat(
            [*start, *rows, *slots, zero, spacing, zero],
            [*xs, *captures],
            lambda values, rest: goes_on(loop, values[:n], rest[len(xs) :], values[-1]),
            lambda values, rest: forward_segment(loop, values, rest),
            f"segments of {loop.body_graph.name}",
        )
        return found

    return build(loop.body_graph.name, loop.types, make)


def forward_segment(loop: Loop, values: list[Any], rest: list[Any]) -> list[Any]:
    """Keep the state, and make the steps up to the next checkpoint."""
    n, m = loop.carried, loop.carried + len(loop.stacked)
    slots, (count, spacing, done) = values[m : m + n], values[-3:]
    if loop.cond_graph is not None:
        types = [v.type for v in (*slots, count, spacing)]
        thin = build("every second checkpoint", types, lambda _, *xs: thinned(loop, xs))
        keep = build("all checkpoints", types, lambda _, *xs: xs)
        *slots, count, spacing = apply(
            ops["cond"], [ops["equal"](count, count_of(loop.slots)), *slots, count, spacing],
            true_graph=thin, false_graph=keep, widened=(),
        )  # fmt: skip
    slots = [put(s, count, x) for s, x in zip(slots, values[:n], strict=True)]
    *ends, done = run_ahead(loop, loop.body_graph, values[:m], rest, done, done + spacing, True)
    return [*ends, *slots, count + 1, spacing, done]


def thinned(loop: Loop, values: Sequence[Any]) -> list[Any]:
    """Every second checkpoint, at twice the spacing."""
    *slots, count, spacing = values
    half = loop.slots // 2

    def move(values: list[Any], _: list[Any]) -> list[Any]:
        *slots, k = values
        return [*(put(x, k, taken(x, k * 2)) for x in slots), k + 1]

    *slots, _ = repeat(
        [*slots, count_of(1)], [], lambda values, _: ops["less"](values[-1], count_of(half)), move,
        "every second checkpoint",
    )  # fmt: skip
    return [*slots, count - half, spacing * 2]


def run_ahead(
    loop: Loop, body: Graph, values: Sequence[Any], rest: Sequence[Any], first: Any, end: Any,
    asks: bool,
) -> list[Any]:  # fmt: skip
    """The values (state, and what was stacked so far) and the step after steps `first` to `end`;
    or earlier, where the condition `asks` for it."""
    n, m = loop.carried, loop.scanned

    def condition(values: list[Any], rest: list[Any]) -> Any:
        within = ops["less"](values[-1], rest[0])
        if loop.cond_graph is None:
            total = loop.total()
            return ops["less"](values[-1], ops["minimum"](rest[0], total)) if asks else within
        if not asks:
            return within
        return both(loop, within, values[:n], rest[1 + m :], values[-1])

    def step(values: list[Any], rest: list[Any]) -> list[Any]:
        at = values[-1]
        slices = [loop.entry(x, at) for x in rest[1 : 1 + m]]
        outs = place(builder_at_work(), body, [*values[:n], *slices, *rest[1 + m :]])
        stacks = values[n:-1]
        where = at if not loop.reverse or not stacks else loop.total() - 1 - at
        stacks = [put(s, where, y) for s, y in zip(stacks, outs[n:], strict=False)]
        return [*outs[:n], *stacks, at + 1]

    return repeat([*values, first], [end, *rest], condition, step, f"steps of {body.name}")


def goes_on(loop: Loop, values: Sequence[Any], captures: Sequence[Any], done: Any) -> Any:
    """Is another step to be made?"""
    if loop.cond_graph is None:
        return ops["less"](done, loop.total())
    if loop.maximum_iterations is None:
        return place(builder_at_work(), loop.cond_graph, [*values, *captures])[0]
    within = ops["less"](done, count_of(loop.maximum_iterations))
    return asked(loop, within, values, captures)


def both(loop: Loop, within: Any, values: Sequence[Any], captures: Sequence[Any], done: Any) -> Any:
    """Is another step to be made, `within` a segment?"""
    if loop.maximum_iterations is not None:
        limit = ops["less"](done, count_of(loop.maximum_iterations))
        within = ops["logical_and"](within, limit)
    return asked(loop, within, values, captures)


def asked(loop: Loop, within: Any, values: Sequence[Any], captures: Sequence[Any]) -> Any:
    """`within`, and the condition of the loop, which may not be computed elsewhere if it might
    fail."""
    assert loop.cond_graph is not None
    inputs = [*values, *captures]
    if not must_be_chosen(loop.cond_graph):
        found = place(builder_at_work(), loop.cond_graph, inputs)[0]
        return ops["logical_and"](within, found)
    never = build("no step", loop.cond_graph.types, lambda _, *xs: [ops["less"](count_of(0), 0)])
    return apply(
        ops["cond"], [within, *inputs], true_graph=loop.cond_graph, false_graph=never, widened=()
    )[0]


# -- backward


@dataclass(frozen=True, eq=False)
class Unit:
    """The reverse of a unit of steps: `graph` takes the state before it, which steps there are, the
    slices, the captures and the cotangents of what `given` marks; it gives those of what `has`
    marks, one a parameter of the body."""

    graph: Graph
    given: tuple[bool, ...]
    has: tuple[bool, ...]


def reversed_unit(loop: Loop, given: tuple[bool, ...], needs: Sequence[bool]) -> Unit:
    """The reverse of `rows` steps, for cotangents of the stacked values that `given` marks, and of
    all of the state that depends on what `needs` marks."""
    n, rows, body = loop.carried, loop.rows, loop.quiet
    active = active_params(body, n, needs)
    split = n + loop.scanned
    slices = [tensor_type((rows, *t.shape[1:]), t.dtype) for t in loop.types[n:split]]
    flags = tensor_type((rows,), dtypes.bool_)

    def make(_: Builder, *xs: Any) -> list[Any]:
        outs = apply(
            ops["scan"], xs, body_graph=body, carried=n, scanned=loop.scanned, length=rows,
            reverse=False, masked=True, varying=(), padded=(),
        )  # fmt: skip
        return [ops["identity"](y) for y in outs]  # what is no output itself is not read either

    unit = build(body.name, [*loop.state, flags, *slices, *loop.captures], make)
    seeds = (*active[:n], *given[n:])
    back = gradient_graph(unit, seeds, (*active[:n], False, *active[n:]))
    count = len(unit.params)
    kept = (*(True,) * count, *(False,) * len(unit.outputs), *(True,) * sum(seeds))
    if any(used_params(back)[count : count + len(unit.outputs)]):
        raise AssertionError("the reverse of a unit reads its results")
    graph = Graph(tuple(select(back.params, kept)), back.nodes, back.outputs, back.name)
    return Unit(graph, seeds, active)


def reverse_graph(loop: Loop, given: tuple[bool, ...], needs: tuple[bool, ...]) -> Graph:
    """(state, scanned, captures, checkpoints, their count and spacing, steps, cotangents of what
    `given` marks of state and stacked) -> cotangents of what `needs` marks."""
    n = loop.carried
    unit = reversed_unit(loop, given, needs)
    split = n + loop.scanned
    padded = loop.length + loop.rows if loop.length is not None else 0
    checkpoints = [tensor_type((loop.slots, *t.shape), t.dtype) for t in loop.state]
    results = (
        *loop.state,
        *(tensor_type((loop.length or 0, *t.shape), t.dtype) for t in loop.stacked),
    )
    types = [*loop.types, *checkpoints, COUNT, COUNT, COUNT, *select(results, given)]

    def make(builder: Builder, *inputs: Any) -> list[Any]:
        rest = iter(inputs[len(loop.types) :])
        _, xs, captures = loop.parted(inputs[: len(loop.types)])
        slots = [next(rest) for _ in range(n)]
        count, spacing, done = (next(rest) for _ in range(3))
        gs = [next(rest) if g else None for g in given]
        state = [
            zeros_like(t) if g is None else g
            for t, g in select(list(zip(loop.state, gs)), unit.has[:n])
        ]
        stacks = select(gs[n:], given[n:])
        sums = [
            zeros_like(tensor_type((padded, *t.shape[1:]), t.dtype))
            for t in select(loop.types[n:split], unit.has[n:split])
        ]
        sums += [zeros_like(t) for t in select(loop.captures, unit.has[split:])]
        work = [zeros_like(t) for t in (*checkpoints, tensor_type((loop.slots,), dtypes.int64))]
        found = repeat(
            [*state, *sums, *work, count, done],
            [*slots, spacing, *xs, *captures, *stacks],
            lambda values, rest: ops["less"](count_of(0), values[-2]),
            lambda values, rest: reverse_segment(loop, unit, values, rest),
            f"segments of reverse of {loop.body_graph.name}",
        )
        grads = iter(found)
        by_param = [next(grads) if h else None for h in unit.has]
        results = []
        for k, need in enumerate(needs):
            g = by_param[k]
            if not need:
                continue
            if g is None:
                results.append(zeros_like(loop.types[k]))
            elif n <= k < split:
                g = ops["slice"](g, (0,) * g.ndim, (loop.length, *g.shape[1:]))
                results.append(reversed_along(g, [0]) if loop.reverse else g)
            else:
                results.append(g)
        return results

    return build(f"reverse of {loop.body_graph.name}", types, make)


def reverse_segment(loop: Loop, unit: Unit, values: list[Any], rest: list[Any]) -> list[Any]:
    """Reverse the steps from the last checkpoint on."""
    n = loop.carried
    head = len(values) - n - 3
    grads, work, (places, count, done) = values[:head], values[head:-3], values[-3:]
    slots, spacing, given = rest[:n], rest[n], rest[n + 1 :]
    last = count - 1
    first = last * spacing
    work = [put(w, count_of(0), taken(s, last)) for w, s in zip(work, slots, strict=True)]
    places = put(places, count_of(0), first)
    found = repeat(
        [*grads, *work, places, count_of(1), done],
        given,
        lambda values, rest: ops["less"](count_of(0), values[-2]),
        lambda values, rest: reverse_step(loop, unit, values, rest),
        f"reverse of a segment of {loop.body_graph.name}",
    )
    return [*found[:-2], last, first]


def reverse_step(loop: Loop, unit: Unit, values: list[Any], rest: list[Any]) -> list[Any]:
    """Reverse a unit of steps, or run ahead to a further checkpoint."""
    top = values[-2] - 1
    steps = values[-1] - taken(values[-3], top)
    inputs = [*values, *rest]
    types = [v.type for v in inputs]
    count = len(values)
    name = loop.body_graph.name
    one = build(
        f"reverse of a unit of {name}", types,
        lambda b, *xs: reverse_unit(loop, unit, list(xs[:count]), list(xs[count:])),
    )  # fmt: skip
    more = build(
        f"a further checkpoint of {name}", types,
        lambda b, *xs: further_checkpoint(loop, list(xs[:count]), list(xs[count:])),
    )  # fmt: skip
    short = ops["less_equal"](steps, count_of(loop.rows))
    return list(apply(ops["cond"], [short, *inputs], true_graph=one, false_graph=more, widened=()))


def reverse_unit(loop: Loop, unit: Unit, values: list[Any], rest: list[Any]) -> list[Any]:
    """Run the steps from the topmost checkpoint again, and reverse them."""
    n, m = loop.carried, loop.scanned
    head = len(values) - n - 3
    grads, work, (places, count, done) = values[:head], values[head:-3], values[-3:]
    xs, captures = rest[:m], rest[m : m + len(loop.captures)]
    stacks = rest[m + len(loop.captures) :]
    top = count - 1
    first = taken(places, top)
    flags = ops["less"](ops["iota"](loop.rows, dtypes.int64), done - first)
    own, sums = grads[: sum(unit.has[:n])], grads[sum(unit.has[:n]) :]
    seeds = iter(own)
    blocks = iter(stacks)
    cotangents = [next(seeds) for g in unit.given[:n] if g]
    cotangents += [loop.entries(next(blocks), first) for g in unit.given[n:] if g]
    found = place(
        builder_at_work(), unit.graph,
        [*(taken(w, top) for w in work), flags, *(loop.entries(x, first) for x in xs), *captures,
         *cotangents],
    )  # fmt: skip
    new, more = found[: len(own)], found[len(own) :]
    slices = sum(unit.has[n : n + m])
    added = [put_rows(s, first, g) for s, g in zip(sums[:slices], more[:slices], strict=True)]
    added += [s + g for s, g in zip(sums[slices:], more[slices:], strict=True)]
    return [*new, *added, *work, places, top, first]


def further_checkpoint(loop: Loop, values: list[Any], rest: list[Any]) -> list[Any]:
    """Run ahead from the topmost checkpoint, and keep the state there."""
    n, m = loop.carried, loop.scanned
    head = len(values) - n - 3
    grads, work, (places, count, done) = values[:head], values[head:-3], values[-3:]
    first = taken(places, count - 1)
    units = ceiling(done - first, loop.rows)
    ahead = first + units_ahead(units, count_of(loop.slots) - count) * loop.rows
    start = [taken(w, count - 1) for w in work]
    inner = rest[: m + len(loop.captures)]
    found = run_ahead(loop, loop.quiet, start, inner, first, ahead, False)
    work = [put(w, count, x) for w, x in zip(work, found[:n], strict=True)]
    return [*grads, *work, put(places, count, ahead), count + 1, done]


def units_ahead(units: Any, free: Any) -> Any:
    """How many of more than one units to run ahead, with one free slot or more.

    With b(f, t) = binomial(f + t, t), the least t is wanted for which b(free, t) >= units. What is
    right of the new checkpoint is at most b(free - 1, t), what is left of it b(free, t - 1).
    """
    one = count_of(1)

    def grow(values: list[Any], rest: list[Any]) -> list[Any]:
        t, reach, before, _ = values
        more = t + 1
        return [more, ops["floordiv"](reach * (rest[1] + more), more), reach, before]

    # t, b(free, t), b(free, t - 1), b(free, t - 2)
    t, reach, _, before = repeat(
        [count_of(0), one, count_of(0), count_of(0)], [units, free],
        lambda values, rest: ops["less"](values[1], rest[0]), grow, "levels",
    )  # fmt: skip
    right = ops["floordiv"](reach * free, ops["maximum"](free + t, one))  # b(free - 1, t)
    found = ops["maximum"](ops["maximum"](units - right, before), one)
    return ops["minimum"](found, units - 1)


# -- values


def builder_at_work() -> Any:
    return state.builder


def repeat(
    values: Sequence[Any], rest: Sequence[Any],
    condition: Callable[[list[Any], list[Any]], Any],
    step: Callable[[list[Any], list[Any]], Sequence[Any]], name: str,
) -> list[Any]:  # fmt: skip
    """`values = step(values, rest)` as long as `condition(values, rest)` holds."""
    count = len(values)
    types = [v.type for v in (*values, *rest)]
    asked = build(
        f"condition of {name}", types,
        lambda _, *xs: [condition(list(xs[:count]), list(xs[count:]))],
    )  # fmt: skip
    body = build(name, types, lambda _, *xs: step(list(xs[:count]), list(xs[count:])))
    return list(
        apply(
            ops["while_loop"], [*values, *rest], cond_graph=asked, body_graph=body, carried=count,
            maximum_iterations=None, trips=None, varying=(), padded=(),
        )
    )  # fmt: skip


def count_of(n: int) -> Any:
    """An integer of the trace."""
    return builder_at_work().lift(n, dtypes.int64)


def ceiling(x: Any, n: int) -> Any:
    """x / n, rounded up."""
    return ops["floordiv"](x + (n - 1), count_of(n))


def taken(x: Any, index: Any) -> Any:
    """An entry along the first axis."""
    rest = x.shape[1:]
    block = ops["dynamic_slice"](x, (index, *(0 for _ in rest)), (1, *rest))
    return block.reshape(rest)


def put(x: Any, index: Any, entry: Any) -> Any:
    """`x` with an entry along the first axis replaced."""
    return put_rows(x, index, entry.reshape((1, *entry.shape)))


def put_rows(x: Any, first: Any, rows: Any) -> Any:
    """`x` with some entries along the first axis replaced."""
    return ops["update_slice"](x, rows, (first, *(0 for _ in x.shape[1:])))
