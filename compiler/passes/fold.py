"""Constant folding: what is known while compiling is computed while compiling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.families import Control, Elementwise, Generator
from graphgrad.compiler.interpret import run_node
from graphgrad.compiler.ir import LITERAL_ELEMENTS, Graph, Literal, Node, Value
from graphgrad.compiler.op import Application, Op, ops, reapply
from graphgrad.compiler.passes.patterns import Child, Facts, node_rule
from graphgrad.compiler.passes.rewrite import Firing, RuleSet, rewrite
from graphgrad.compiler.transform.sizes import mentions_size
from graphgrad.compiler.types import tensor_type


def fold(graph: Graph, firings: list[Firing] | None = None) -> Graph:
    """Replace nodes whose inputs are constants by their values.

    Elementwise nodes over broadcast constants become the broadcast of one number. Other results
    are kept small (LITERAL_ELEMENTS). What would raise is left to raise when the graph runs.
    """
    return rewrite(graph, RULES, firings)


def literal(array: Any) -> Value:
    """A constant of the graph at work."""
    value: Value = reapply(ops["constant"], (), {"value": Literal(np.asarray(array))})[0]
    return value


def splat(number: Any, like: Value) -> Value:
    """A NumPy scalar in the shape of `like`."""
    value: Value = literal(number).broadcast_to(like.type.shape)
    return value


def fold_elementwise(root: Application, facts: Facts) -> Value | None:
    """f(broadcast of c) as broadcast of f(c)."""
    results = evaluate(root, [np.asarray(facts.scalar(x)) for x in root.inputs], scalars=True)
    return None if results is None else splat(results[0], root.outputs[0])


def fold_small(root: Application, facts: Facts) -> tuple[Value, ...] | None:
    """A node over constant nodes, where the result is small."""
    arrays = [constant_array(x, facts) for x in root.inputs]
    sizes = [v.type.size for v in root.outputs]
    if any(a is None for a in arrays) or any(
        not isinstance(n, int) or n > LITERAL_ELEMENTS for n in sizes
    ):
        return None
    results = evaluate(root, arrays)
    return None if results is None else tuple(map(literal, results))


def evaluate(root: Application, arrays: list[Any], scalars: bool = False) -> Any:
    """The outputs for constant inputs, or None where that raises or depends on an open size."""
    outputs = root.outputs
    if any(map(mentions_size, root.attrs.values())):
        return None
    if scalars:
        outputs = tuple(Value(tensor_type((), v.type.dtype), None) for v in outputs)
    try:
        return run_node(Node(root.op, root.inputs, root.attrs, outputs, root.where), tuple(arrays))
    except (GraphgradError, ArithmeticError, ValueError, IndexError):
        return None


def constant_array(value: Value, facts: Facts) -> Any:
    """The array of a constant node, or of a small broadcast of one; else None."""
    node = facts.producer(value)
    if node is not None and node.op.name == "constant":
        return node.attrs["value"].array
    scalar, size = facts.scalar(value), value.type.size
    if scalar is not None and isinstance(size, int) and size <= LITERAL_ELEMENTS:
        return np.full(value.type.shape, scalar)
    return None


def uniform_constant(root: Application) -> Value | None:
    """A constant array whose elements are all equal, as the broadcast of one."""
    array = root.attrs["value"].array
    if array.ndim == 0 or array.size == 0:
        return None
    first = array.ravel()[:1]
    if array.tobytes() != first.tobytes() * array.size:
        return None
    return splat(first.reshape(()), root.outputs[0])


def cond_of_constant(root: Application, facts: Facts) -> tuple[Value, ...] | None:
    """The branch that a constant predicate takes."""
    if root.attrs.get("widened"):  # others mention the size that it finds out
        return None
    predicate = facts.scalar(root.inputs[0])
    branch = root.attrs["true_graph" if predicate else "false_graph"]
    result = reapply(ops["call"], root.inputs[1:], {"graph": branch})
    return tuple(result)


def _all_scalar(children: tuple[Child, ...]) -> bool:
    return bool(children) and all(scalar for _, scalar in children)


def _all_constant(children: tuple[Child, ...]) -> bool:
    return bool(children) and all(scalar or name == "constant" for name, scalar in children)


def _elementwise(op: Op) -> bool:
    return isinstance(op, Elementwise)


def _foldable(op: Op) -> bool:
    """All but what makes arrays from numbers."""
    special = isinstance(op, Control | Generator) or op.effect
    return not special and op.name not in ("constant", "broadcast_to", "reshape")


def reshape_literal(root: Application, facts: Facts) -> Value | None:
    """The reshape of a constant array."""
    array = constant_array(root.inputs[0], facts)
    shape = root.outputs[0].type.shape
    if array is None or not all(isinstance(n, int) for n in shape):
        return None
    return literal(array.reshape(shape)) if math.prod(shape) == array.size else None


RULES = RuleSet(
    (
        node_rule("fold elementwise", _elementwise, fold_elementwise, _all_scalar),
        node_rule("fold", _foldable, fold_small, _all_constant),
        node_rule("fold reshape", ("reshape",), reshape_literal, lambda c: c[0][0] == "constant"),
        node_rule("uniform constant", ("constant",), uniform_constant),
        node_rule("constant predicate", ("cond",), cond_of_constant, lambda c: c[0][1]),
    )
)
