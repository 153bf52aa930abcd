"""Conditions within expressions: ternaries, `and`, `or`, `not` and chained comparisons as calls.

    a if c else b    _gg.if_expression(c, lambda: a, lambda: b)
    a and b          _gg.and_(lambda: a, lambda: b)
    a < b < c        (lambda x, y: _gg.and_(lambda: x < y, lambda: y < c))(a, b)

What cannot move into a lambda (`:=`, `await`, `yield`) stays Python's.
"""

from __future__ import annotations

import ast
from typing import Any

from graphgrad.conversion.calls import keeps_call
from graphgrad.conversion.context import Context
from graphgrad.conversion.names import COMPREHENSIONS, Scope, activity
from graphgrad.conversion.plain import is_plain_test


class Expressions:
    """Rewrites expressions of one function in place; what it returns takes the place of `node`.

    `unsure` are names that may be without a value here: to read one is a call that makes sure.
    """

    def __init__(self, context: Context, scope: Scope, first: str | None) -> None:
        self.context = context
        self.scope = scope
        self.first = first  # the parameter that `super()` means
        self.unsure: frozenset[str] = frozenset()
        self.tracked: frozenset[str] = frozenset()  # those that may be so somewhere
        self.moved = 0  # expressions around the present one that are functions of their own

    def expression(self, node: Any) -> Any:
        change = _CHANGES.get(type(node))
        return self.parts(node) if change is None else change(self, node)

    def parts(self, node: ast.AST) -> ast.AST:
        """`node` with its parts rewritten."""
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                setattr(node, name, self.expression(value))
            elif type(value) is list:
                value[:] = [self.expression(x) if isinstance(x, ast.AST) else x for x in value]
        return node

    def taken(self, call: ast.Call) -> ast.expr | None:
        """What stands for the call if it takes an item from a list."""
        return None

    def _moving(self, node: Any, plain: bool = False) -> Any:
        """`node` rewritten, which becomes a function of its own unless it is `plain`."""
        self.moved += not plain
        found = self.expression(node)
        self.moved -= not plain
        return found

    def _name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.unsure or not isinstance(node.ctx, ast.Load):
            return node
        if node.id in self.context.labels:  # a flag, or the value that a flag tells of
            return node
        found: ast.expr = self.context.call("read", node, node, ast.Constant(node.id))
        return found

    def _call(self, node: ast.Call) -> ast.expr:
        found = self.taken(node)
        if found is not None:
            return found
        function = node.func
        if isinstance(function, ast.Name) and function.id == "super" and not node.args:
            if self.first is not None and "super" not in self.scope.bound:
                node.args = [
                    ast.copy_location(ast.Name(n, ast.Load()), node)
                    for n in ("__class__", self.first)
                ]
            return node
        kept = keeps_call(function, self.scope, self.context)
        self.parts(node)
        if not kept:
            node.func = self.context.call("call", node.func, node.func)
        return node

    def _conditional(self, node: ast.IfExp) -> ast.expr:
        plain = is_plain_test(node.test) or not _may_move(node.body, node.orelse)
        node.test = self.test(node.test)
        node.body, node.orelse = self._moving(node.body, plain), self._moving(node.orelse, plain)
        if plain:
            return node
        branches = map(self.context.later, (node.body, node.orelse))
        return self.context.call("if_expression", node, node.test, *branches)

    def _logical(self, node: ast.BoolOp) -> ast.expr:
        plain = is_plain_test(node) or not _may_move(*node.values)
        node.values = [self._moving(x, plain) for x in node.values]
        if plain:
            return node
        name = "and_" if isinstance(node.op, ast.And) else "or_"
        test = {"test": ast.Constant(True)} if getattr(node, "is_test", False) else {}
        return self.context.call(name, node, *map(self.context.later, node.values), **test)

    def test(self, node: Any) -> Any:
        """The expression `node`, of which only the truth is asked for."""
        _mark_tests(node)
        return self.expression(node)

    def _negation(self, node: ast.UnaryOp) -> ast.expr:
        plain = not isinstance(node.op, ast.Not) or is_plain_test(node.operand)
        if not plain:
            _mark_tests(node.operand)
        self.parts(node)
        return node if plain else self.context.call("not_", node, node.operand)

    def _comparison(self, node: ast.Compare) -> ast.expr:
        plain = len(node.ops) == 1 or is_plain_test(node) or not _may_move(*node.comparators[1:])
        node.left = self.expression(node.left)
        rest = node.comparators
        node.comparators = [self.expression(rest[0]), *(self._moving(x, plain) for x in rest[1:])]
        return node if plain else self._chain(node, node.left, node.ops, node.comparators)

    def _chain(self, at: ast.expr, left: Any, ops: Any, others: Any) -> ast.expr:
        """Each operand is evaluated once, and the later ones only if the chain holds so far."""
        x, y = (self.context.local(n) for n in ("left", "right"))
        here = self.context.place(ast.Compare(x, ops[:1], [y]), at)
        if len(ops) > 1:
            rest = self._chain(at, self.context.local("right"), ops[1:], others[1:])
            here = self.context.call("and_", at, self.context.later(here), self.context.later(rest))
        compare = ast.Lambda(self.context.arguments([x.id, y.id]), here)
        return self.context.place(ast.Call(compare, [left, others[0]], []), at)

    def _lambda(self, node: ast.Lambda) -> ast.expr:
        self.parts(node.args)
        self.context.nested(node, self)
        return node

    def _comprehension(self, node: Any) -> ast.expr:
        saved = self.unsure
        node.generators[0].iter = self.expression(node.generators[0].iter)
        self.moved += 1
        self.unsure = saved - activity([g.target for g in node.generators]).writes
        for k, g in enumerate(node.generators):
            if k:
                g.iter = self.expression(g.iter)
            g.ifs = [self.expression(x) for x in g.ifs]
        for name in ("elt", "key", "value"):
            if hasattr(node, name):
                setattr(node, name, self.expression(getattr(node, name)))
        self.moved -= 1
        self.unsure = saved
        return node


def _mark_tests(node: Any) -> None:
    """Mark the `and` and `or` of a test."""
    if isinstance(node, ast.BoolOp):
        node.is_test = True  # type: ignore[attr-defined]
        for x in node.values:
            _mark_tests(x)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _mark_tests(node.operand)


def _may_move(*nodes: ast.AST) -> bool:
    """Can the expressions be evaluated in functions of their own?"""
    moving = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
    return not any(isinstance(x, moving) for node in nodes for x in ast.walk(node))


_CHANGES: dict[type, Any] = {
    ast.Name: Expressions._name,
    ast.Call: Expressions._call,
    ast.IfExp: Expressions._conditional,
    ast.BoolOp: Expressions._logical,
    ast.UnaryOp: Expressions._negation,
    ast.Compare: Expressions._comparison,
    ast.Lambda: Expressions._lambda,
    **dict.fromkeys(COMPREHENSIONS, Expressions._comprehension),
}
