"""Nodes that Python computes: as steps of a Program of their own, or called from native code."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from graphgrad.compiler.dims import Symbol, substitute, to_size
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.families import Control
from graphgrad.compiler.interpret import flushed, run_node
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.transform.sizes import attribute_at, untold_sizes
from graphgrad.compiler.types import TensorType
from graphgrad.runtime.program import ArrayType, PythonCall


def is_guarded(node: Node) -> bool:
    """Is a node an assertion, which does nothing where its first input holds?"""
    return node.op.name == "callback" and bool(node.attrs["function"].guarded)


def sizes_of(node: Node) -> tuple[Symbol, ...]:
    """The sizes that a node needs to know besides the memory of its inputs: those in its
    attributes, and in shapes with more than one unknown size."""
    shapes = [x.type for x in node.inputs if unknown_sizes(x.type) > 1]
    return tuple(sorted(untold_sizes((*node.attrs.values(), *shapes)), key=lambda s: s.order))


def unknown_sizes(t: TensorType) -> int:
    return sum(not isinstance(n, int) for n in t.shape)


def host_function(node: Node, sizes: tuple[Symbol, ...], flush: bool) -> Callable[..., Any]:
    """What computes a node from arrays: of its inputs, and those whose shapes tell the `sizes`.

    A reshape shares the memory of its input, and comes as that.
    """
    run = partial(_run_host, node, sizes)
    return flushed(run) if flush and isinstance(node.op, Control) else run


def _run_host(node: Node, sizes: tuple[Symbol, ...], *arrays: Any) -> tuple[Any, ...]:
    count = len(node.inputs)
    known = {s: a.shape[s.axis] for s, a in zip(sizes, arrays[count:], strict=True)}
    given = [in_shape(a, x.type, known) for a, x in zip(arrays, node.inputs, strict=False)]
    return run_node(_at_sizes(node, known), tuple(given))


def in_shape(array: Any, t: TensorType, known: dict[Symbol, int]) -> Any:
    """`array` in the shape that its type says, of which one size may be unknown."""
    found = [substitute(n, dict(known)) for n in t.shape]
    shape = [n if isinstance(n, int) else -1 for n in found]
    total = -math.prod(shape) if -1 in shape else 1
    return array.reshape(shape) if shape.count(-1) < 2 and total > 0 else array


def called_function(node: Node, sizes: tuple[Symbol, ...], flush: bool) -> Callable[..., Any]:
    """What computes a node from arrays in its inputs' shapes, and the `sizes`. NumPy's warnings are
    its caller's."""
    count, evaluate = len(node.inputs), node.op.evaluate

    def run(*given: Any) -> tuple[Any, ...]:
        attrs = node.attrs
        if sizes:
            attrs = _at_sizes(node, dict(zip(sizes, given[count:], strict=True))).attrs
        try:
            return evaluate(given[:count], attrs)
        except GraphgradError as e:
            raise e.at(node.where) from None

    return flushed(run) if flush and isinstance(node.op, Control) else run


def _at_sizes(node: Node, known: dict[Symbol, int]) -> Node:
    """The node with attributes for the sizes of a run. A sub-graph that needs none of them stays as
    it is: compiled once for all."""
    if not known:
        return node
    attrs = {
        k: v if isinstance(v, Graph) and not untold_sizes(v) else attribute_at(v, known)
        for k, v in node.attrs.items()
    }
    return Node(node.op, node.inputs, attrs, node.outputs, node.where)


def python_call(node: Node, function: int, sizes: tuple[Symbol, ...]) -> PythonCall:
    """The call of callable number `function`, which is the `called_function` of a node."""
    numbers = tuple(("dim", s.argument, s.axis) for s in sizes)
    inputs, outputs = array_types(node.inputs), array_types(node.outputs)
    return PythonCall(function, inputs, outputs, numbers, is_guarded(node))


def array_types(values: Sequence[Value]) -> tuple[ArrayType, ...]:
    return tuple(ArrayType(v.type.dtype.name, tuple(map(to_size, v.type.shape))) for v in values)
