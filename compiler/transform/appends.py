"""Lists that a loop only appends to: what is appended is stacked, instead of carried and copied.

A list is a tensor whose first axis grows, and appending is `concat([rows, more])`. Where the body
does nothing else with the rows, each step stacks what it appends, and the loop's result is the list
as it entered with the stack behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.ir import Graph, Value
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.view import reverse as reversed_along
from graphgrad.compiler.ops.while_loop import Axes
from graphgrad.compiler.transform.loop_sizes import step_sizes
from graphgrad.compiler.transform.sizes import outer_sizes, runtime_symbols


class Appends(NamedTuple):
    """A body whose lists are stacked; `rows` are the places of the lists in the state."""

    body: Graph
    rows: tuple[int, ...]
    carried: int  # of the state, lists included
    varying: Axes  # of what is still carried

    def kept(self, state: Sequence[Any]) -> list[Any]:
        """What is still carried."""
        return [x for k, x in enumerate(state) if k not in self.rows]

    def results(
        self, start: Sequence[Any], outs: Sequence[Any], length: Extent, reverse: bool
    ) -> list[Any]:
        """The results of the loop as it was, from those of the loop as it is: the state, what it
        stacked, and what was appended."""
        count = self.carried - len(self.rows)
        ends = len(self.body.outputs) - len(self.rows)
        state = iter(outs[:count])
        stacks = dict(zip(self.rows, outs[ends:]))

        def grown(k: int) -> Any:
            blocks = stacks[k]
            if reverse:
                blocks = reversed_along(blocks, [0])
            _, each, *rest = blocks.type.shape
            return ops["concat"]([start[k], blocks.reshape((length * each, *rest))], 0)

        found = [grown(k) if k in stacks else next(state) for k in range(self.carried)]
        return [*found, *outs[count:ends]]


def only_appended(
    body: Graph, carried: int, varying: Axes, condition: Graph | None = None
) -> Appends | None:
    """The body with such lists stacked; None where there are none."""
    blocks: dict[int, Value] = {}
    for k in {k for k, *_ in varying}:
        block = appended_block(body, k, [axis for i, axis, _ in varying if i == k], varying)
        asked = condition is not None and condition.params[k] in condition.uses
        if block is not None and not asked:
            blocks[k] = block
    if not blocks:
        return None
    rows = tuple(sorted(blocks))
    joins = {body.producers[body.outputs[k]] for k in rows}
    outputs = [v for k, v in enumerate(body.outputs) if k not in blocks]
    places = {k: i for i, k in enumerate(k for k in range(carried) if k not in blocks)}
    return Appends(
        Graph(
            tuple(p for k, p in enumerate(body.params) if k not in blocks),
            tuple(n for n in body.nodes if n not in joins),
            (*outputs, *(blocks[k] for k in rows)),
            body.name,
        ),
        rows,
        carried,
        tuple((places[k], axis, n) for k, axis, n in varying if k in places),
    )


def appended_block(body: Graph, k: int, axes: Sequence[int], varying: Axes) -> Value | None:
    """What a step puts behind state `k`, if that is all that it does with it."""
    p, out = body.params[k], body.outputs[k]
    node = body.producers.get(out)
    if axes != [0] or node is None or node.op.name != "concat" or node.attrs["axis"] != 0:
        return None
    if len(node.inputs) != 2 or node.inputs[0] is not p or node.inputs[1] is p:
        return None
    alone = body.uses[p] == [node] and not any(v is p for v in body.outputs)
    unread = out not in body.uses and sum(v is out for v in body.outputs) == 1
    block = node.inputs[1]
    even = step_sizes(body, varying).isdisjoint(runtime_symbols(block.type))
    length = runtime_symbols(p.type.shape[:1])
    rest = Graph(
        tuple(q for q in body.params if q is not p),
        tuple(n for n in body.nodes if n is not node),
        tuple(v for v in body.outputs if v is not out),
        body.name,
    )
    return block if alone and unread and even and length.isdisjoint(outer_sizes(rest)) else None
