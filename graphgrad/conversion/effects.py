"""Which calls have no effect that Python would see: made once in place of often, all is the same.

What they do to tensors does not count: prints and assertions of graphs keep their order and number.
"""

from __future__ import annotations

import ast
import types
from typing import Any

from graphgrad.compiler.source import is_internal
from graphgrad.conversion.calls import is_library_function, resolved, root
from graphgrad.conversion.jumps import NotConverted
from graphgrad.conversion.library import MARK, weakly
from graphgrad.conversion.operators.calls import HIGHER
from graphgrad.conversion.scan import held_functions
from graphgrad.conversion.source import tree_of

# Draws of numbers: a graph draws others in each trip, but from another stream.
_DRAWS = ("random", "dropout")
_SIMPLE = (
    ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.Name, ast.Constant,
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript, ast.Slice, ast.Tuple,
    ast.List, ast.Starred, ast.Attribute, ast.keyword, ast.Return, ast.If, ast.Pass, ast.arguments,
    ast.arg,
)  # fmt: skip
_found: dict[int, tuple[Any, bool]] = {}  # (what lets go of it, the answer) of users' functions


def is_draw(function: ast.expr) -> bool:
    """Does the name say that random numbers are drawn?"""
    text = ast.unparse(function)
    return any(word in text for word in _DRAWS)


def has_no_effects(f: Any) -> bool:
    """Is `f` an op, a function of NumPy's, or made of such alone?"""
    if isinstance(f, types.FunctionType):
        if is_internal(f.__code__.co_filename):
            return f.__name__ not in HIGHER and all(map(has_no_effects, held_functions(f)))
        return MARK not in f.__dict__ and _users(f)
    return is_library_function(f)


def _users(f: types.FunctionType) -> bool:
    key = id(f.__code__)
    if key not in _found:
        _found[key] = (None, False)  # while it is looked at: what calls itself is not simple
        try:
            tree = tree_of(f)
            own = {*f.__code__.co_varnames, *f.__code__.co_cellvars, *f.__code__.co_freevars}
            body = tree.body if isinstance(tree.body, list) else [tree.body]
            simple = all(_is_simple(node, own, f) for node in body)
        except NotConverted:
            simple = False
        _found[key] = (weakly(f.__code__, _found), simple)
    return _found[key][1]


def _is_simple(node: ast.AST, own: set[str], f: types.FunctionType) -> bool:
    match node:
        case ast.Call(func=function):
            if is_draw(function) or root(function) in {None, *own}:
                return False
            if not has_no_effects(resolved(function, f.__globals__)):
                return False
            parts: list[ast.AST] = [*node.args, *node.keywords]
        case ast.Assign(targets=targets) if all(map(_is_names, targets)):
            parts = [node.value]
        case ast.AnnAssign(target=ast.Name(), value=value):
            parts = [] if value is None else [value]
        case ast.AugAssign(target=ast.Name()):
            parts = [node.value]
        case ast.Expr(value=ast.Constant()):
            parts = []
        case _:
            if not isinstance(node, _SIMPLE):
                return False
            parts = list(ast.iter_child_nodes(node))
    return all(_is_simple(x, own, f) for x in parts)


def _is_names(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple):
        return all(map(_is_names, target.elts))
    return isinstance(target, ast.Name)
