"""Inlining of calls and composites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad.compiler.families import Control, Elementwise
from graphgrad.compiler.ir import Graph, Value
from graphgrad.compiler.op import Application, Op, state
from graphgrad.compiler.passes.patterns import node_rule
from graphgrad.compiler.passes.rewrite import Firing, Rewriter, RuleSet, rewrite
from graphgrad.compiler.transform.sizes import bind_sizes, specialise


def inline(graph: Graph, firings: list[Firing] | None = None) -> Graph:
    """Replace calls by the nodes of their graphs, and composites by their parts.

    The nodes of a called graph keep their own lines; the parts of a composite belong to the line
    that called it. Only ops with a lowering of their own are left.
    """
    return rewrite(graph, RULES, firings)


def inline_call(root: Application) -> tuple[Value, ...]:
    """The outputs of the called graph, its nodes copied into the graph being built."""
    return splice(root.attrs["graph"], root.inputs)


def splice(graph: Graph, inputs: Sequence[Value]) -> tuple[Value, ...]:
    """The outputs of `graph` for `inputs`, in the graph being built."""
    builder = state.builder
    if not isinstance(builder, Rewriter):
        raise TypeError("splice is for right sides of rules")
    graph = specialise(graph, bind_sizes(graph.types, [x.type.shape for x in inputs]))
    env: dict[Value, Value] = dict(zip(graph.params, inputs, strict=True))
    for node in graph.nodes:
        copied = builder.copy(node, tuple(env[x] for x in node.inputs))
        env.update(zip(node.outputs, copied, strict=True))
    return tuple(env[v] for v in graph.outputs)


def lowered_by_parts(op: Op) -> bool:
    """Has `op` no lowering of its own?"""
    return op.decompose is not None and not isinstance(op, Elementwise)


def decompose(root: Application) -> Any:
    """The parts of a composite."""
    assert root.op.decompose is not None
    result = root.op.decompose(*root.inputs, **root.attrs)
    return tuple(result) if root.op.multi else result


def expand(root: Application) -> tuple[Value, ...]:
    """The outputs of the graph that stands for an op."""
    assert isinstance(root.op, Control)
    assert root.op.expansion is not None
    return splice(root.op.expansion([x.type for x in root.inputs], root.attrs), root.inputs)


RULES = RuleSet(
    (
        node_rule("inline call", ("call", "custom_call", "recompute"), inline_call),
        node_rule(
            "expand loop", lambda op: isinstance(op, Control) and op.expansion is not None, expand
        ),
        node_rule("inline composite", lowered_by_parts, decompose),
    )
)
