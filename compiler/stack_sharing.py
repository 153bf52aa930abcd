"""One stack for a state as steps find it and as they leave it.

The reverse of a loop often reads both: of a recurrent layer h, for the gradients of its weights,
and the next h, for that of tanh. What a step leaves the next one finds, so one stack of a row more
will do, whose first row is where the state starts (the last row, where the loop runs backwards).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphgrad.compiler.dims import to_size
from graphgrad.compiler.ir import Node, Value
from graphgrad.compiler.kernels.division import total
from graphgrad.compiler.transform.sizes import is_runtime
from graphgrad.compiler.types import element_count

ONE_STACK = "in one stack, before and after each step"

if TYPE_CHECKING:
    from graphgrad.compiler.assembly import Assembly


def shared_stacks(around: Assembly, inner: Assembly, node: Node) -> dict[int, int]:
    """The parts of the state of a loop whose two stacks lie in one, each with the number of the
    stack of what steps find; gives these stacks their memory."""
    if node.op.name != "scan" or node.attrs["masked"]:
        return {}
    carried, graph = node.attrs["carried"], inner.graph
    number: dict[Value, int] = {}  # of the stack of what lies somewhere
    for k, v in enumerate(graph.outputs[carried:]):
        number.setdefault(inner.memory_of(v), k)
    found = {}
    for i, (param, out) in enumerate(zip(graph.params[:carried], graph.outputs[:carried])):
        left = inner.memory_of(out)
        made = inner.fusion.producers.get(left)
        if param not in number or left not in number or made is None:
            continue
        if left is param or made.op.name == "constant":
            continue
        stacks = [node.outputs[carried + number[v]] for v in (param, left)]
        if node.attrs["reverse"]:
            stacks.reverse()
        if all(is_free(around, v) for v in stacks):
            row = to_size(element_count(param.type.shape) * param.type.dtype.itemsize)
            first, second = (around.locate(v).temp for v in stacks)
            dtype, shape, nbytes = around.temps[first]
            around.temps[first] = dtype, shape, total(nbytes, row)
            around.shared[second] = first, row
            found[i] = number[param]
    return found


def is_free(around: Assembly, stack: Value) -> bool:
    """May a stack lie anywhere in the arena, and is it never written over?"""
    return (
        not is_runtime(stack.type)
        and around.memory_of(stack) is stack
        and stack not in around.storage
        and not any(memory is stack for memory in around.merged.values())
        and around.is_native(stack)
    )
