"""The attributes that a branch or loop body assigns: state that lives in objects."""

from __future__ import annotations

import ast

from graphgrad.conversion.names import Scope, container_of


def places_of(body: list[ast.stmt], scope: Scope) -> ast.expr | None:
    """`((object, attribute, label), ...)` for what is assigned, where the object stays the same."""
    changed = scope.writes(body)
    found: dict[str, ast.expr] = {}
    for s in body:
        for node in ast.walk(s):
            if not isinstance(node, ast.Attribute | ast.Subscript) or isinstance(
                node.ctx, ast.Load
            ):
                continue
            node = container_of(node)  # an element of an attribute counts as the attribute
            if not isinstance(node, ast.Attribute):
                continue
            names = _dotted(node.value)
            if names and names[0] not in changed:
                label = ".".join([*names, node.attr])
                base: ast.expr = ast.Name(names[0], ast.Load())
                for name in names[1:]:
                    base = ast.Attribute(base, name, ast.Load())
                parts = [base, ast.Constant(node.attr), ast.Constant(label)]
                found[label] = ast.Tuple(parts, ast.Load())
    return ast.Tuple(list(found.values()), ast.Load()) if found else None


def _dotted(node: ast.expr) -> list[str]:
    """The names of `a.b.c`; none for other expressions."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return [*inner, node.attr] if inner else []
    return []
