"""Changes of what a name holds, as new values of the name: elements, and lists that grow.

    x[i] = v        x = _gg.set_item(x, i, v, "x")
    x[i] += v       x = _gg.update_item(x, i, operator.iadd, v, "x")
    xs.append(v)    xs = _gg.append(xs, v, "xs")
    v = xs.pop()    xs, v = _gg.pop(xs, -1, "xs")

Parts are evaluated in Python's order. Only local names take part: nothing else can be rebound.
"""

from __future__ import annotations

import ast
from typing import Any

from graphgrad.conversion.context import load, store
from graphgrad.conversion.expressions import Expressions
from graphgrad.conversion.names import NONE, Names

_OPERATORS = {
    ast.Add: "iadd", ast.Sub: "isub", ast.Mult: "imul", ast.Div: "itruediv",
    ast.FloorDiv: "ifloordiv", ast.Mod: "imod", ast.Pow: "ipow", ast.MatMult: "imatmul",
    ast.LShift: "ilshift", ast.RShift: "irshift", ast.BitAnd: "iand", ast.BitOr: "ior",
    ast.BitXor: "ixor",
}  # fmt: skip


class Updates(Expressions):
    """Rewrites simple statements."""

    lists: Names = NONE  # names that hold lists

    def update(self, s: Any) -> list[ast.stmt]:
        """An assignment or expression statement; several statements may take its place."""
        match s:
            case ast.Assign(targets=[ast.Name() as target], value=ast.Call() as call):
                if self._is_list_method(call, "pop"):
                    return self._pop(call, target, s)
            case ast.Expr(value=ast.Call() as call):
                if self._is_list_method(call, "pop"):
                    return self._pop(call, None, s)
                if self._is_list_method(call, "append"):
                    return self._append(call, s)
        if isinstance(s, ast.Assign) and any(map(self._has_element, s.targets)):
            return self._assign(s)
        if isinstance(s, ast.AugAssign):
            if self._is_element(s.target):
                return self._augment(s)
            if isinstance(s.target, ast.Name) and s.target.id in self.unsure:
                read = self.expression(_at(load(s.target.id), s.target))
                self.parts(s)
                return [self._assignment(store(s.target.id), read, s), s]
        self.parts(s)
        return [s]

    def parts_of_arguments(self, arguments: ast.arguments) -> None:
        """Rewrite the default values of a function."""
        arguments.defaults = [self.expression(x) for x in arguments.defaults]
        arguments.kw_defaults = [x and self.expression(x) for x in arguments.kw_defaults]

    def _is_element(self, target: ast.expr) -> bool:
        """`x[i]` of a local name."""
        return (
            isinstance(target, ast.Subscript)
            and isinstance(target.value, ast.Name)
            and target.value.id in self.scope.bound
        )

    def _has_element(self, target: ast.expr) -> bool:
        if isinstance(target, ast.Tuple | ast.List):
            return any(map(self._has_element, target.elts))
        return self._is_element(target)

    def _assign(self, s: ast.Assign) -> list[ast.stmt]:
        """The value first, then target by target, as Python does."""
        value = self.expression(s.value)
        found: list[ast.stmt] = []
        if len(s.targets) > 1 or not self._is_element(s.targets[0]) or not _is_simple(value):
            held = self._held(value, s, found)
        else:
            held = value
        for target in s.targets:
            self._store(target, held, s, found)
        return found

    def _store(self, target: Any, value: ast.expr, s: ast.stmt, found: list[ast.stmt]) -> None:
        if self._is_element(target):
            index = self._index(target)
            found.append(self._set(target, index, value, s))
        elif self._has_element(target):
            parts = [x.value if isinstance(x, ast.Starred) else x for x in target.elts]
            names = [self.context.fresh("value") for _ in parts]
            stores: list[ast.expr] = [
                ast.Starred(store(n), ast.Store()) if isinstance(x, ast.Starred) else store(n)
                for n, x in zip(names, target.elts)
            ]
            found.append(self._assignment(ast.Tuple(stores, ast.Store()), value, s))
            for name, x in zip(names, parts):
                self._store(x, load(name), s, found)
        else:
            found.append(self._assignment(self.expression(target), value, s))

    def _augment(self, s: Any) -> list[ast.stmt]:
        target, name = s.target, s.target.value.id
        operator = _OPERATORS[type(s.op)]
        if _is_simple(s.value):
            index, value = self._index(target), self.expression(s.value)
            function = ast.Attribute(self._operators(), operator, ast.Load())
            new = self.context.call(
                "update_item", s, self.expression(_at(load(name), target)), index, function,
                value, ast.Constant(name),
            )  # fmt: skip
            self.context.updates = True
            return [self._assignment(store(name), new, s)]
        found: list[ast.stmt] = []
        index = self._held(self._index(target), s, found)
        old = ast.Subscript(self.expression(_at(load(name), target)), index, ast.Load())
        held = self._held(_at(old, target), s, found)
        place = store(held.id)
        found.append(self.context.place(ast.AugAssign(place, s.op, self.expression(s.value)), s))
        found.append(self._set(target, load(index.id), load(held.id), s))
        return found

    def _operators(self) -> ast.expr:
        return ast.Attribute(load(self.context.operators), "operator", ast.Load())

    def _set(self, target: Any, index: ast.expr, value: ast.expr, s: ast.stmt) -> ast.stmt:
        name = target.value.id
        self.context.updates = True
        old = self.expression(_at(load(name), target))
        new = self.context.call("set_item", s, old, index, value, ast.Constant(name))
        return self._assignment(store(name), new, s)

    def _index(self, target: ast.Subscript) -> ast.expr:
        """What stands in the brackets, slices included."""
        index = self.expression(target.slice)
        if not any(isinstance(x, ast.Slice) for x in ast.walk(index)):
            return index
        key = ast.Attribute(load(self.context.operators), "key", ast.Load())
        found: ast.expr = self.context.place(ast.Subscript(key, index, ast.Load()), target)
        return found

    # Lists

    def _is_list_method(self, call: ast.Call, method: str) -> bool:
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr=found), args=args, keywords=[]
            ):
                return (
                    found == method
                    and name in self.lists
                    and name in self.scope.bound
                    and (len(args) == 1 if method == "append" else len(args) <= 1)
                    and not any(isinstance(x, ast.Starred) for x in args)
                )
        return False

    def _append(self, call: Any, s: ast.stmt) -> list[ast.stmt]:
        name = call.func.value.id
        values = self.expression(call.func.value), self.expression(call.args[0])
        new = self.context.call("append", s, *values, ast.Constant(name))
        return [self._assignment(store(name), new, s)]

    def _pop(self, call: Any, target: ast.expr | None, s: ast.stmt) -> list[ast.stmt]:
        name = call.func.value.id
        index = self.expression(call.args[0]) if call.args else ast.Constant(-1)
        old = self.expression(call.func.value)
        new = self.context.call("pop", s, old, index, ast.Constant(name))
        held = self.context.fresh("value")
        pair = ast.Tuple([store(name), store(held)], ast.Store())
        found = [self._assignment(pair, new, s)]
        if target is not None:
            found.append(self._assignment(target, load(held), s))
        return found

    # Pieces

    def _held(self, value: ast.expr, s: ast.stmt, found: list[ast.stmt]) -> ast.Name:
        name = self.context.fresh("value")
        found.append(self._assignment(store(name), value, s))
        return self.context.place(load(name), s)

    def _assignment(self, target: ast.expr, value: ast.expr, s: ast.stmt) -> ast.stmt:
        found: ast.stmt = self.context.place(ast.Assign([target], value), s)
        return found


def _is_simple(node: ast.expr) -> bool:
    """Is the moment at which `node` is evaluated of no account: no calls, no effects?"""
    moving = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom, ast.Starred)
    return not any(isinstance(x, moving) for x in ast.walk(node))


def _at(node: Any, at: ast.AST) -> Any:
    return ast.copy_location(node, at)
