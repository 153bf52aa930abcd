"""Changes of what a name holds, as new values of the name: elements, and lists that grow.

    x[i] = v        x = _gg.set_item(x, i, v, "x")
    x[i] += v       x = _gg.update_item(x, i, operator.iadd, v, "x")
    d[k][i] = v     d = _gg.set_path(d, (k, i), "ii", v, "d[k]")
    a.x[i] = v      _gg.set_path(a, ("x", i), "ai", v, "a.x")
    xs.append(v)    xs = _gg.append(xs, v, "xs")      extend, insert likewise
    v = xs.pop()    xs, v = _gg.pop(xs, -1, "xs")

Parts are evaluated in Python's order. Names that are not local cannot be rebound: what they hold
can only change inside.
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

_CHANGES = {"append": (1,), "extend": (1,), "insert": (2,)}  # methods, and how many arguments


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
                for method in _CHANGES:
                    if self._is_list_method(call, method):
                        return self._change(method, call, s)
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
        """`x[i]` of a local name, or of what is held in a name's items and attributes."""
        if not isinstance(target, ast.Subscript):
            return False
        if isinstance(target.value, ast.Name):
            return target.value.id in self.scope.bound
        return isinstance(_root(target), ast.Name)

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
        if self._is_element(target) and not isinstance(target.value, ast.Name):
            found.append(self._set_path(target, self._path(target), value, s))
        elif self._is_element(target):
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
        if not isinstance(s.target.value, ast.Name):
            return self._augment_path(s)
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

    def _augment_path(self, s: Any) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        path = self._held(self._path(s.target), s, found)
        root = self.expression(_at(load(_root(s.target).id), s.target))
        old = self.context.call("get_path", s, root, load(path.id), ast.Constant(_kinds(s.target)))
        held = self._held(old, s, found)
        value = self.expression(s.value)
        found.append(self.context.place(ast.AugAssign(store(held.id), s.op, value), s))
        found.append(self._set_path(s.target, load(path.id), load(held.id), s))
        return found

    def _path(self, target: Any) -> ast.expr:
        """The names and indices that lead from a name to an element."""
        steps: list[ast.expr] = []
        while not isinstance(target, ast.Name):
            attribute = isinstance(target, ast.Attribute)
            steps.append(ast.Constant(target.attr) if attribute else self._index(target))
            target = target.value
        return ast.Tuple(steps[::-1], ast.Load())

    def _set_path(self, target: Any, path: ast.expr, value: ast.expr, s: ast.stmt) -> ast.stmt:
        self.context.updates = True
        name, kinds = _root(target).id, _kinds(target)
        label = ast.Constant(ast.unparse(target.value))
        old = self.expression(_at(load(name), target))
        new = self.context.call("set_path", s, old, path, ast.Constant(kinds), value, label)
        if kinds[0] == "a" or name not in self.scope.bound:  # it stays the same object
            found: ast.stmt = self.context.place(ast.Expr(new), s)
            return found
        return self._assignment(store(name), new, s)

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
                    and len(args) in _CHANGES.get(method, (0, 1))
                    and not any(isinstance(x, ast.Starred) for x in args)
                )
        return False

    def _change(self, method: str, call: Any, s: ast.stmt) -> list[ast.stmt]:
        name = call.func.value.id
        values = [self.expression(x) for x in (call.func.value, *call.args)]
        new = self.context.call(method, s, *values, ast.Constant(name))
        return [self._assignment(store(name), new, s)]

    def taken(self, call: ast.Call) -> ast.expr | None:
        """`xs.pop()` within an expression: `(pair := pop(xs, -1, ...), xs := pair[0])[0][1]`."""
        if self.moved or not self._is_list_method(call, "pop"):
            return None
        pair, name = self.context.fresh("value"), call.func.value.id  # type: ignore[attr-defined]
        new = ast.NamedExpr(store(pair), self._popped(call, call))
        rest = ast.NamedExpr(store(name), _item(load(pair), 0))
        both = ast.Tuple([new, rest], ast.Load())
        found: ast.expr = self.context.place(_item(_item(both, 0), 1), call)
        return found

    def _popped(self, call: Any, at: ast.AST) -> ast.expr:
        index = self.expression(call.args[0]) if call.args else ast.Constant(-1)
        old = self.expression(call.func.value)
        name = ast.Constant(call.func.value.id)
        found: ast.expr = self.context.call("pop", at, old, index, name)
        return found

    def _pop(self, call: Any, target: ast.expr | None, s: ast.stmt) -> list[ast.stmt]:
        new = self._popped(call, s)
        held = self.context.fresh("value")
        pair = ast.Tuple([store(call.func.value.id), store(held)], ast.Store())
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


def _root(target: ast.expr) -> Any:
    """`a` of `a.b[i].c[j]`."""
    while isinstance(target, ast.Attribute | ast.Subscript):
        target = target.value
    return target


def _kinds(target: ast.expr) -> str:
    """How one comes from the name to the element: "a" for an attribute, "i" for an index."""
    found = ""
    while isinstance(target, ast.Attribute | ast.Subscript):
        found = ("a" if isinstance(target, ast.Attribute) else "i") + found
        target = target.value
    return found


def _item(x: ast.expr, k: int) -> ast.expr:
    return ast.Subscript(x, ast.Constant(k), ast.Load())


def _is_simple(node: ast.expr) -> bool:
    """Is the moment at which `node` is evaluated of no account: no calls, no effects?"""
    moving = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom, ast.Starred)
    return not any(isinstance(x, moving) for x in ast.walk(node))


def _at(node: Any, at: ast.AST) -> Any:
    return ast.copy_location(node, at)
