"""Which loops over a Python range may become one loop of the graph, with a tensor for the index.

It must make no difference that the index is a tensor: it only chooses elements (`x[i + 1]`), meets
tensors in arithmetic (`x * i`), or is cast. A Python number that it meets would have been exact,
and adopted the dtype of the next tensor, so `x * (i / 2)` does not do. Which names hold tensors is
known when the loop runs.
"""

from __future__ import annotations

import ast
from typing import Any

from graphgrad.conversion.calls import keeps_call, resolved, root
from graphgrad.conversion.context import Context
from graphgrad.conversion.effects import has_no_effects, is_draw
from graphgrad.conversion.names import Scope
from graphgrad.conversion.plain import is_plain_iterable

LARGE = 1 << 8  # numbers that keep the index far from the ends of int32
_PARTS = (
    ast.expr_context, ast.operator, ast.unaryop, ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp,
    ast.Subscript, ast.Slice, ast.Tuple, ast.Attribute, ast.Call, ast.keyword,
)  # fmt: skip
_EXACT = (ast.Add, ast.Sub, ast.Mult)
_TAKES_INDEX = {"cast", "gather"}


def rolled(s: Any, scope: Scope, context: Context) -> list[str] | None:
    """The names that must hold tensors for the loop `s` to become one of the graph, if it may."""
    match s:
        case ast.For(
            target=ast.Name(id=index), iter=ast.Call(func=ast.Name(id="range"), keywords=[])
        ) if "range" not in scope.own and not is_plain_iterable(s.iter):
            if getattr(s, "stop", None):
                return None
            if index in scope.writes(s.body) or index in scope.lasting:
                return None
            roll = _Roll(index, s.body, scope, context)
            return sorted(roll.tensors) if roll.allowed else None
    return None


class _Roll:
    def __init__(self, index: str, body: list[ast.stmt], scope: Scope, context: Context) -> None:
        self.index, self.scope, self.context = index, scope, context
        self.tensors: set[str] = set()
        self._inner: set[str] = set()  # indices of loops within, which are no tensors before
        self.allowed = True
        self._body(body)
        kept = {n for n in self.tensors if n in scope.writes(body)}
        self.allowed = self.allowed and not (kept and self._loses_tensors(body, kept))
        self.allowed = self.allowed and not self.tensors & self._inner

    def _body(self, body: list[ast.stmt]) -> None:
        for s in body:
            self._statement(s)

    def _statement(self, s: ast.stmt) -> None:
        if isinstance(s, ast.For) and not s.orelse and self._is_range_of_others(s.iter):
            self.allowed = self.allowed and isinstance(s.target, ast.Name)
            self._inner.add(getattr(s.target, "id", ""))
            self._body(s.body)
            return
        if not isinstance(s, ast.Assign | ast.AugAssign):
            self.allowed = self.allowed and isinstance(s, ast.Pass)
            return
        for target in s.targets if isinstance(s, ast.Assign) else [s.target]:
            if not isinstance(target, ast.Name | ast.Subscript):
                self.allowed = False
            self._expression(target)
        if isinstance(s, ast.AugAssign) and self._is_index(s.value):
            if isinstance(s.target, ast.Name):
                self.tensors.add(s.target.id)
            elif not isinstance(s.target, ast.Subscript):
                self.allowed = False
            return
        self._expression(s.value)

    def _expression(self, node: ast.AST) -> None:
        """Look for uses of the index in `node`, which is not made of it alone."""
        match node:
            case ast.Name(id=name) if name == self.index:
                self.allowed = False  # as a value of its own
            case ast.Subscript(value=base, slice=places):
                self._expression(base)
                for x in places.elts if isinstance(places, ast.Tuple) else [places]:
                    if not self._is_index(x):
                        self._expression(x)
            case ast.BinOp(left=left, right=right):
                for x, other in ((left, right), (right, left)):
                    if self._is_index(x):
                        self._meets(other)
                    else:
                        self._expression(x)
            case ast.Call(func=function, args=args, keywords=keywords):
                self._call(function, args, keywords)
            case _:
                self.allowed = self.allowed and isinstance(node, _PARTS)
                for child in ast.iter_child_nodes(node):
                    self._expression(child)

    def _meets(self, other: ast.expr) -> None:
        """The index meets `other` in arithmetic, which is to be a tensor."""
        while isinstance(other, ast.UnaryOp):
            other = other.operand
        if isinstance(other, ast.Name):
            self.tensors.add(other.id)
        elif isinstance(other, ast.BinOp):
            names = [x.id for x in (other.left, other.right) if isinstance(x, ast.Name)]
            self.allowed = self.allowed and bool(names)
            self.tensors.update(names[:1])
        elif isinstance(other, ast.Subscript) and isinstance(other.value, ast.Name):
            self.tensors.add(other.value.id)
        else:
            self.allowed = False

    def _call(self, function: Any, args: list[ast.expr], keywords: list[ast.keyword]) -> None:
        name = getattr(function, "attr", getattr(function, "id", ""))
        if is_draw(function) or not self._has_no_effects(function):
            self.allowed = False
        for x in (*args, *(k.value for k in keywords)):
            if not (name in _TAKES_INDEX and self._is_index(x)):
                self._expression(x)

    def _has_no_effects(self, function: ast.expr) -> bool:
        if keeps_call(function, self.scope, self.context):
            return True
        name = root(function)
        if name is None or name in self.scope.own or name in self.context.own:
            return False
        return has_no_effects(resolved(function, self.context.globals))

    def _is_range_of_others(self, node: ast.expr) -> bool:
        """Is it a range of other numbers than this index?"""
        match node:
            case ast.Call(func=ast.Name(id="range"), args=args, keywords=[]):
                others = {n.id for x in args for n in ast.walk(x) if isinstance(n, ast.Name)}
                return "range" not in self.scope.own and self.index not in others
        return False

    def _is_index(self, node: ast.expr) -> bool:
        """Is it the index, or the index moved and scaled by small numbers?"""
        match node:
            case ast.Name(id=name):
                return name == self.index
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return self._is_index(x)
            case ast.BinOp(left=left, op=op, right=ast.Constant(value=int(n))):
                exact = isinstance(op, _EXACT) or (
                    isinstance(op, ast.FloorDiv | ast.Mod) and n != 0
                )
                return exact and abs(n) < LARGE and self._is_index(left)
            case ast.BinOp(left=ast.Constant(value=int(n)), op=op, right=right):
                return isinstance(op, _EXACT) and abs(n) < LARGE and self._is_index(right)
        return False

    def _loses_tensors(self, body: list[ast.stmt], kept: set[str]) -> bool:
        """May one of `kept`, tensors at first, become something else?"""
        for s in body:
            if isinstance(s, ast.Assign):
                lost = kept & {t.id for t in s.targets if isinstance(t, ast.Name)}
                if any(not _grows(s.value, name) for name in lost):
                    return True
        return False


def _grows(node: ast.expr, name: str) -> bool:
    """Is `node` arithmetic that the name takes part in?"""
    if isinstance(node, ast.BinOp):
        return _grows(node.left, name) or _grows(node.right, name)
    return isinstance(node, ast.Name) and node.id == name
