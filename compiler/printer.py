"""Graphs as text: for people, and as the canonical form that names a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # ir.py imports this module: a Graph prints itself
    from graphgrad.compiler.ir import Graph, Node, Value


def graph_text(graph: Graph, places: bool = True) -> str:
    """The graph with one node a line, each followed by the user's line it came from.

    graph f(%0: f32[2, 3], %1: f32[3]):
      %2: f32[2, 3] = mul %0, %1                    # train.py:17
      return %2
    """
    lines = _lines(graph, places, "")
    width = min(72, max((len(left) for left, right in lines if right), default=0))
    return "\n".join(f"{left:<{width}}  # {right}" if right else left for left, right in lines)


def canonical_text(graph: Graph) -> str:
    """The text without places and names: the part of a graph that decides what it computes."""
    return "\n".join(left for left, _ in _lines(graph, False, "", anonymous=True))


def _lines(
    graph: Graph, places: bool, indent: str, anonymous: bool = False
) -> list[tuple[str, str]]:
    names: dict[Value, str] = {}

    def name(v: Value) -> str:
        return names.setdefault(v, f"%{len(names)}")

    params = ", ".join(f"{name(p)}: {p.type}" for p in graph.params)
    title = "graph" if anonymous else f"graph {graph.name}"
    lines = [(f"{indent}{title}({params}):", "")]
    for node in graph.nodes:
        place = node.where.short() if places and node.where is not None else ""
        if node.op.name == "constant":
            names[node.out] = (
                f"{node.attrs['value']}:{node.out.type.dtype.short}"
                if (node.attrs["value"].is_scalar)
                else name(node.out)
            )
            if node.attrs["value"].is_scalar:
                continue
        inputs = ", ".join(name(x) for x in node.inputs)
        outputs = ", ".join(f"{name(v)}: {v.type}" for v in node.outputs)
        attrs, graphs = _attrs(node)
        text = " ".join(part for part in (outputs, "=", node.op.name, inputs, attrs) if part)
        lines.append((f"{indent}  {text}", place))
        for key, sub in graphs:
            lines.append((f"{indent}    {key} =", ""))
            lines.extend(_lines(sub, places, indent + "      ", anonymous))
    lines.append((f"{indent}  return {', '.join(name(v) for v in graph.outputs)}", ""))
    return lines


def _attrs(node: Node) -> tuple[str, list[tuple[str, Graph]]]:
    plain, graphs = [], []
    for key, value in sorted(node.attrs.items()):
        if hasattr(value, "nodes"):
            graphs.append((key, value))
        else:
            plain.append(f"{key}={attribute_text(value)}")
    return "{" + ", ".join(plain) + "}" if plain else "", graphs


def attribute_text(value: Any) -> str:
    """One attribute as stable text."""
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(attribute_text, value)) + ")"
    short = getattr(value, "short", None)
    return short if isinstance(short, str) else repr(value)
