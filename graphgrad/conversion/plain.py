"""What surely is a matter of Python alone, and stays as it is written."""

from __future__ import annotations

import ast

_PREDICATES = {"callable", "hasattr", "isinstance", "issubclass"}
_DISPLAYS = (ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp)
FEW = 32  # trips: a loop over a longer range may become one of the graph


def is_plain_test(node: ast.expr) -> bool:
    """Is this a Python bool, whatever tensors are in it?"""
    match node:
        case ast.Constant():
            return True
        case ast.Compare():
            if all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
                return True
            return len(node.ops) == 1 and any(map(_is_text, (node.left, *node.comparators)))
        case ast.Call(func=ast.Name(id=name)):
            return name in _PREDICATES
        case ast.UnaryOp(op=ast.Not()):
            return is_plain_test(node.operand)
        case ast.BoolOp():
            return all(map(is_plain_test, node.values))
        case ast.Name():
            return node.id == "__debug__"
    return False


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


def is_plain_iterable(node: ast.expr) -> bool:
    """Is this a Python collection, or a range of a few trips?"""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [_integer(x) for x in node.args]
        if node.keywords or not 0 < len(bounds) < 4 or None in bounds or 0 in bounds[2:]:
            return False
        return len(range(*bounds)) <= FEW  # type: ignore[arg-type]
    return isinstance(node, _DISPLAYS) or _is_text(node)


def _integer(node: ast.expr) -> int | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _integer(node.operand)
        return None if value is None else -value
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    return None
