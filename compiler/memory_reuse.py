"""Memory that is written over: arrays updated where they lie, and donated arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, cast

from graphgrad.compiler.convolutions import Launch
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.kernels.blocks import block_of
from graphgrad.compiler.kernels.carried_arrays import held_state
from graphgrad.compiler.kernels.donation import in_place_pairs, matched
from graphgrad.compiler.kernels.fusion import Step
from graphgrad.compiler.kernels.lower import Lowered
from graphgrad.compiler.kernels.scatters import scatter_of
from graphgrad.compiler.kernels.updates_in_place import in_place

if TYPE_CHECKING:
    from graphgrad.compiler.assembly import Assembly
    from graphgrad.compiler.regions import Storage


def find_updates(
    assembly: Assembly, state: Sequence[tuple[Value, int]] = (), free: bool = False
) -> None:
    """Let nodes that replace a part of an array do so where it lies, if it is read there for
    the last time. `state` are parameters of which that may be true as well, each with the
    number of the output that it is to end as, unless `free`."""
    steps = [part for launch in assembly.route for part in launch]
    ends = [assembly.fusion.memory_of(v) for v in assembly.graph.outputs]
    reads = [[*map(assembly.fusion.memory_of, values_read(assembly, *part))] for part in steps]
    pairs = dict(state)
    carried = {} if free else dict(state)
    updates = [
        updates_of(assembly, step.node) if low is None else elementwise(low, carried, ends)
        for step, low in steps
    ]
    if not any(updates):
        return

    def owned(memory: Value) -> bool:
        made = assembly.fusion.producers.get(memory)
        if made is None or made.op.name == "constant":
            return memory in pairs
        return memory not in assembly.fusion.places and assembly.is_native(memory)

    while True:
        assembly.merged = in_place(reads, updates, set(ends), owned)
        begun = {memory for memory in assembly.merged.values() if memory in pairs}
        lost = [p for p in begun if assembly.root(ends[pairs[p]]) is not p]
        if free or not lost:
            return
        for p in lost:
            del pairs[p]


def values_read(assembly: Assembly, step: Step, low: Lowered | None) -> list[Value]:
    """What a step reads; something that it reads in two ways is there twice."""
    if low is not None:
        return [v for v, a in zip(low.values, low.nest.arrays, strict=True)
                if v is not None and a.role == "in"]  # fmt: skip
    node = step.nodes[0]
    following = assembly.convolutions.arrays_after(node) if node.outputs else []
    return [*node.inputs, *following]


def elementwise(
    low: Lowered, state: Mapping[Value, int], ends: Sequence[Value]
) -> list[tuple[Value, Value]]:
    """The parts of the state of a loop that a kernel makes of the old ones element by element."""
    found = []
    for o, i in in_place_pairs(low.nest) if state else ():
        out, memory = low.values[o], low.values[i]
        if out is None or memory is None or memory not in state or out.type != memory.type:
            continue
        if ends[state[memory]] is out and sum(end is out for end in ends) == 1:
            found.append((out, memory))
    return found


def updates_of(assembly: Assembly, node: Node | None) -> list[tuple[Value, Value]]:
    """The outputs of a node that may be updates of its inputs in place: (output, memory)."""
    if node is None:
        return []
    memory_of = assembly.fusion.memory_of
    if assembly.is_scalar(node):
        own = held_state(node.attrs["body_graph"], node.attrs["carried"])
        return [(node.outputs[i], memory_of(node.inputs[i])) for i in own]
    if assembly.is_native_control(node):
        return [(v, memory_of(x)) for v, x in updates_within(assembly, node)]
    block = block_of(node)
    scatter = scatter_of(node) if len(node.inputs) == 3 else None
    if scatter is not None or (block is not None and block.whole is not None):
        return [(node.out, memory_of(node.inputs[0]))]
    return []


def updates_within(assembly: Assembly, node: Node) -> list[tuple[Value, Value]]:
    """The outputs of a loop or a branch that its bodies update in place, with the inputs."""
    if node.op.name == "cond":
        taken, other = (
            ends_at_params(assembly, node.attrs[k], None) for k in ("true_graph", "false_graph")
        )
        inputs = node.inputs[1:]
        return [(node.outputs[k], inputs[i]) for k, i in taken.items() if other.get(k) == i]
    ends = ends_at_params(assembly, node.attrs["body_graph"], node.attrs["carried"])
    return [(node.outputs[k], node.inputs[i]) for k, i in ends.items() if k == i]


def ends_at_params(assembly: Assembly, graph: Graph, carried: int | None) -> dict[int, int]:
    """The outputs of a sub-graph that lie where a parameter does, with its number."""
    inner = assembly.inside(graph)
    params = inner.graph.params
    if carried is None:
        find_updates(inner, [(p, 0) for p in params], free=True)
    else:
        find_updates(inner, [(p, i) for i, p in enumerate(params[:carried])])
    number = {p: i for i, p in enumerate(params)}
    found = enumerate(inner.root(inner.fusion.memory_of(v)) for v in inner.graph.outputs)
    return {k: number[m] for k, m in found if m in number and (carried is None or k < carried)}


def places_read(assembly: Assembly, step: Step, low: Lowered | None) -> list[Storage]:
    """The memory that a step reads, and perhaps some that it writes."""
    if low is not None:
        return cast("list[Storage]", low.storage)
    node = step.nodes[0]
    if node.outputs and node.out in assembly.buffers:
        return assembly.buffers[node.out]
    return [assembly.locate(x) for x in node.inputs]


def donations(
    assembly: Assembly, launches: Sequence[Launch], outputs: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """Outputs that may be written over an input: the kernel that writes one reads that input at
    the same element only, and nothing reads it later, or at the same time."""
    last_read: dict[int, Step] = {}
    shared: set[int] = set()  # slots that several kernels of the last launch to read them read
    for batch in launches:
        readers: dict[int, int] = {}
        for step, low in batch:
            places = places_read(assembly, step, low)
            for slot in {s.slot for s in places}:
                last_read[slot] = step
                readers[slot] = readers.get(slot, 0) + 1
        for slot, count in readers.items():
            (shared.add if count > 1 else shared.discard)(slot)
    pairs: dict[int, int] = {}
    returned = set(outputs)
    # A variable's new value: parameters and outputs end with them, in one order.
    own = dict(zip(reversed(outputs), reversed(range(len(assembly.graph.params)))))
    for step, low in chain.from_iterable(launches):
        if low is None:
            continue
        fitting: dict[int, list[int]] = {}  # of each input
        for o, i in in_place_pairs(low.nest):
            out, source = low.storage[o].slot, low.storage[i].slot
            if out not in returned or source < 0 or assembly.slots[source].kind != "input":
                continue
            same = (
                assembly.slots[out].dtype == assembly.slots[source].dtype
                and assembly.slots[out].shape == assembly.slots[source].shape
            )
            free = source not in returned and source not in shared
            if same and free and last_read[source] is step:
                fitting.setdefault(source, []).append(out)
        pairs.update(matched(fitting, own))
    return tuple(pairs.items())
