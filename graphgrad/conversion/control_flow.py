"""Conditions and loops as calls of operators, with the state that they change handed in and out.

    if c: y = a          def then(*state):
    else: y = b              nonlocal y
                             (y,) = state
                             y = a
                             return (y,)
                         ... orelse likewise ...
                         (y,) = _gg.if_(c, then, orelse, (y,), ("y",), lines)

The variables stay those of the user's function, cells by now, so that its own closures, and
handlers of exceptions, see what they would see in Python; handing the state in as well makes each
call of `then` independent of those before. What a branch assigns and nobody reads later is local
to it.
"""

from __future__ import annotations

import ast
import copy
from typing import Any

from graphgrad.conversion.context import Context, load, store
from graphgrad.conversion.dataflow import Definedness, Liveness
from graphgrad.conversion.expressions import Expressions
from graphgrad.conversion.jumps import LOOPS, Jumps
from graphgrad.conversion.names import NONE, Function, Names, Scope, blocks
from graphgrad.conversion.places import places_of
from graphgrad.conversion.plain import is_plain_test
from graphgrad.conversion.rolled import rolled
from graphgrad.conversion.updates import Updates


def convert_body(node: Function, context: Context, outer: Expressions | None = None) -> None:
    """Convert what a function does, in place; its signature stays as it is."""
    if isinstance(node, ast.AsyncFunctionDef) or _is_generator(node):
        return
    first = [*node.args.posonlyargs, *node.args.args][:1]
    unsure = NONE
    own_first = first[0].arg if first else None
    if isinstance(node, ast.Lambda):
        scope = Scope(node)
        if outer is not None:
            unsure, own_first = outer.tracked - scope.bound, outer.first
        body = Expressions(context, scope, own_first)
        body.tracked = body.unsure = unsure
        node.body = body.expression(node.body)
        return
    jumps = Jumps(context.fresh, lambda name: context.call("unwrap", node, load(name)))
    node.body = jumps.function(node.body)
    scope = Scope(node)
    if outer is not None:
        unsure = outer.tracked - scope.bound
        own_first = own_first or outer.first
    node.body = Statements(context, scope, own_first, node.body, unsure).function(node.body)


class Statements(Updates):
    """Rewrites the statements of one function, whose jumps are gone."""

    def __init__(
        self,
        context: Context,
        scope: Scope,
        first: str | None,
        body: list[ast.stmt],
        unsure: Names,
    ) -> None:
        super().__init__(context, scope, first)
        self.lists = _lists(body)
        self._live = Liveness(scope, body)
        self._defined = Definedness(scope, body)
        self._states: dict[int, list[str]] = {}
        self._conditions = 0  # that surround the statement and may be tensors
        self.tracked = unsure | self._plan(body)

    def _plan(self, body: list[ast.stmt]) -> Names:
        """Choose the states; which names are in one before they surely have a value?"""
        found = NONE
        for s in body:
            for b in blocks(s):
                found |= self._plan(b)
            if _is_converted(s):
                state = self._state(s)
                found |= frozenset(state) - self._defined.before[id(s)]
        return found & self.scope.bound

    def _state(self, s: Any) -> list[str]:
        """The names that are handed through `s`: changed there, and of use later."""
        found = self._states.get(id(s))
        if found is None:
            changed = self.scope.writes([*s.body, *s.orelse])
            useful = self._live.after[id(s)]
            if isinstance(s, LOOPS):
                useful |= self._live.before[id(s.body)]
            if isinstance(s, ast.For):
                changed |= self.scope.writes([s.target])
            found = self._states[id(s)] = sorted(changed & useful)
        return found

    # Statements

    def function(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """The whole body: names that may be handed about without a value get a mark at first."""
        marked = sorted(self.tracked & self.scope.bound - self.scope.parameters)
        docstring = body[:1] if _is_docstring(body[0]) else []
        return [
            *docstring,
            *(self._mark(name, body[0]) for name in marked),
            *self.block(body[len(docstring) :]),
        ]

    def _mark(self, name: str, at: ast.stmt) -> ast.stmt:
        label = ast.Constant(self.context.labels.get(name, name))
        value = self.context.call("Undefined", at, label)
        found: ast.stmt = self.context.place(ast.Assign([store(name)], value), at)
        return found

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for s in body:
            self.unsure = self.tracked - self._defined.before.get(id(s), NONE)
            found += self._statement(s)
        return found

    def _statement(self, s: Any) -> list[ast.stmt]:
        match s:
            case ast.If() if _is_converted(s):
                return self._if(s)
            case ast.While() if _is_converted(s):
                return self._while(s)
            case ast.For() if _is_converted(s):
                return self._for(s)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                s.decorator_list = [self.expression(x) for x in s.decorator_list]
                self.parts_of_arguments(s.args)
                if not _is_marked(s):
                    self.context.nested(s, self)
                return [s]
            case ast.ClassDef():
                return [self._class(s)]
            case ast.Assert():
                return self._assert(s)
            case ast.Raise() if s.exc is not None and self._conditions:
                return self._raise(s)
            case ast.Delete():
                return self._delete(s)
            case ast.AnnAssign():
                s.value = s.value and self.expression(s.value)
                return [s]
            case ast.Assign() | ast.AugAssign() | ast.Expr():
                return self.update(s)
            case ast.Import() | ast.ImportFrom() | ast.Global() | ast.Nonlocal():
                return [s]
        self._compound(s)
        return [s]

    def _compound(self, s: ast.AST) -> None:
        """Rewrite the expressions and blocks of a statement that stays."""
        inner: list[tuple[str, Any]] = []
        for name in s._fields:
            value = getattr(s, name, None)
            if name in ("body", "orelse", "finalbody"):
                inner.append((name, value))
            elif isinstance(value, ast.expr):
                setattr(s, name, self.expression(value))
            elif isinstance(value, list):
                for k, x in enumerate(value):
                    if isinstance(x, ast.expr):
                        value[k] = self.expression(x)
                    elif isinstance(x, ast.excepthandler | ast.match_case | ast.withitem):
                        self._compound(x)
        for name, body in inner:
            setattr(s, name, self.block(body))

    def _class(self, s: ast.ClassDef) -> ast.stmt:
        for x in s.body:
            if isinstance(x, ast.FunctionDef) and not _is_marked(x):
                self.context.nested(x, self)
        return s

    def _assert(self, s: ast.Assert) -> list[ast.stmt]:
        if not __debug__:
            return []
        text = ast.Constant(ast.unparse(s.test))
        test = self.test(s.test)
        message: ast.expr = ast.Constant(None)
        if s.msg:
            message = self.context.later(self.expression(s.msg))
        check = self.context.call("assert_", s, test, message, text)
        return [self.context.place(ast.Expr(check), s)]

    def _raise(self, s: ast.Raise) -> list[ast.stmt]:
        """Python's `raise`, but in a branch of the graph, where it is a part of that."""
        error = self.context.later(self.expression(copy.deepcopy(s.exc)))
        later = self.context.call("raises_later", s, error)
        self.parts(s)
        test = ast.UnaryOp(ast.Not(), later)
        return [self.context.place(ast.If(test, [s], []), s)]

    def _delete(self, s: ast.Delete) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for t in s.targets:
            if isinstance(t, ast.Name) and t.id in self.tracked:
                found.append(self._mark(t.id, s))
            else:
                self.parts(t)
                found.append(self.context.place(ast.Delete([t]), s))
        return found

    # Control flow

    def _if(self, s: ast.If) -> list[ast.stmt]:
        state = self._state(s)
        first: Any = s.body[0].lineno, s.orelse[0].lineno if s.orelse else None
        test = self.test(s.test)
        places = self._places(s, [*s.body, *s.orelse])
        then = self._part("then", s, state, s.body)
        names: list[ast.expr] = [load(then.name)]
        made: list[ast.stmt] = [then]
        if s.orelse:
            other = self._part("orelse", s, state, s.orelse)
            made.append(other)
            names.append(load(other.name))
        else:
            rest = self.context.local("state")
            names.append(ast.Lambda(self.context.arguments([], rest.id), rest))
        return [*made, self._result("if_", s, state, [test, *names], ast.Constant(first), places)]

    def _while(self, s: Any) -> list[ast.stmt]:
        state = self._state(s)
        first = ast.Constant(s.body[0].lineno)
        test: ast.expr | None = None
        if not (isinstance(s.test, ast.Constant) and s.test.value and s.stop):
            test = self.test(s.test)
        condition = self._condition(s, state, test)
        places = self._places(s, s.body)
        body = self._part("body", s, state, s.body)
        functions: list[ast.expr] = [load(condition.name), load(body.name)]
        return [condition, body, self._result("while_", s, state, functions, first, places)]

    def _for(self, s: Any) -> list[ast.stmt]:
        state = self._state(s)
        first = ast.Constant(s.body[0].lineno)
        tensors = rolled(s, self.scope, self.context)
        iterable = self.expression(s.iter)
        made: list[ast.stmt] = []
        options: dict[str, ast.expr] = {}
        if s.stop:
            made.append(self._condition(s, state, None))
            options["test"] = load(made[0].name)  # type: ignore[attr-defined]
        if tensors is not None:
            held = self.expression(self.context.place(_tuple(tensors), s))
            options["rolled"] = self.context.later(held)
        places = self._places(s, s.body)
        item = self.context.local("item")
        take = self.context.place(ast.Assign([s.target], item), s.target)
        body = self._part("body", s, state, s.body, [item.id], [take])
        given = [iterable, load(body.name)]
        result = self._result("for_", s, state, given, first, places | options)
        return [*made, body, result]

    def _condition(self, s: Any, state: list[str], test: ast.expr | None) -> ast.FunctionDef:
        """Whether a loop goes on: its flag is down, and its own test holds."""
        call = self.context.call
        if s.stop:
            on = call("not_", s, load(s.stop))
            if test is not None:
                on = call("and_", s, self.context.later(on), self.context.later(test))
            test = on
        assert test is not None
        answer = self.context.place(ast.Return(test), s)
        return self._function("test", s, state, NONE, NONE, [answer], [])

    def _part(
        self,
        role: str,
        s: Any,
        state: list[str],
        body: list[ast.stmt],
        parameters: list[str] | None = None,
        before: list[ast.stmt] | None = None,
    ) -> ast.FunctionDef:
        """A branch or a loop's body as a function from state to state."""
        local = self.scope.writes([*(before or []), *body]) - set(state) - self.scope.lasting
        needed = local & self._live.before[id(body)] if parameters is None else NONE
        if isinstance(s, LOOPS):
            needed = NONE  # it would be part of the state
        unset = (local & self.tracked) - needed
        self._conditions += 1
        statements = [*(before or []), *self.block(body)]
        self._conditions -= 1
        give = self.context.place(ast.Return(_tuple(state)), body[-1])
        return self._function(role, s, state, needed, unset, [*statements, give], parameters or [])

    def _function(
        self,
        role: str,
        at: ast.stmt,
        state: list[str],
        needed: Names,
        unset: Names,
        body: list[ast.stmt],
        parameters: list[str],
    ) -> ast.FunctionDef:
        """`needed` are local names with the values from outside, `unset` are those without any."""
        rest = self.context.local("state").id
        arguments = self.context.arguments(parameters, rest)
        for name in sorted(needed):
            arguments.kwonlyargs.append(ast.arg(name))
            arguments.kw_defaults.append(load(name))
        before: list[ast.stmt] = [self._mark(name, at) for name in sorted(unset)]
        if state:
            module = [n for n in state if n in self.scope.module]
            cells = [n for n in state if n not in self.scope.module]
            before += [ast.Global(module)] if module else []
            before += [ast.Nonlocal(cells)] if cells else []
            before.append(ast.Assign([_tuple(state, ast.Store())], load(rest)))
        name = self.context.function(role)
        found: Any = ast.FunctionDef(name, arguments, [*before, *body], [], None)
        found.type_params = []  # from Python 3.12 on
        result: ast.FunctionDef = self.context.place(found, at)
        return result

    def _result(
        self,
        operator: str,
        s: ast.stmt,
        state: list[str],
        given: list[ast.expr],
        first: ast.expr,
        options: dict[str, ast.expr],
    ) -> ast.stmt:
        """`first` are the first lines of the parts: where errors say that they begin."""
        names: Any = tuple(self.context.labels.get(n, n) for n in state)
        labels = ast.Constant(names)
        call = self.context.call(operator, s, *given, _tuple(state), labels, first, **options)
        made = ast.Assign([_tuple(state, ast.Store())], call) if state else ast.Expr(call)
        found: ast.stmt = self.context.place(made, s)
        return found

    def _places(self, s: Any, body: list[ast.stmt]) -> dict[str, ast.expr]:
        found = places_of(body, self.scope)
        return {"places": self.context.later(self.context.place(found, s))} if found else {}


def _is_converted(s: Any) -> bool:
    if isinstance(s, ast.If):
        return not is_plain_test(s.test)
    return isinstance(s, LOOPS) and not getattr(s, "plain", False)


def _is_generator(node: Function) -> bool:
    """Does `node` hold a `yield` of its own?"""
    waiting: list[ast.AST] = list(node.body) if isinstance(node.body, list) else [node.body]
    while waiting:
        x = waiting.pop()
        if isinstance(x, ast.Yield | ast.YieldFrom | ast.Await):
            return True
        if not isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(x))
    return False


def _is_marked(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Is the function to stay as it is?"""
    return any("do_not_convert" in ast.dump(d) for d in node.decorator_list)


def _is_docstring(s: ast.stmt) -> bool:
    return (
        isinstance(s, ast.Expr)
        and isinstance(s.value, ast.Constant)
        and isinstance(s.value.value, str)
    )


def _lists(body: list[ast.stmt]) -> Names:
    """The names that are assigned a new list somewhere."""
    found = set()
    for s in body:
        match s:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _makes_list(value):
                found.add(name)
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                pairs = zip(targets, values)
                found |= {t.id for t, v in pairs if isinstance(t, ast.Name) and _makes_list(v)}
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if _makes_list(value):
                found.add(name)
        for b in blocks(s):
            found |= _lists(b)
    return frozenset(found)


def _makes_list(node: ast.expr | None) -> bool:
    match node:
        case ast.List() | ast.ListComp() | ast.Call(func=ast.Name(id="list")):
            return True
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            return isinstance(left, ast.List) or isinstance(right, ast.List)
    return False


def _tuple(names: list[str], context: ast.expr_context | None = None) -> ast.expr:
    kind = context or ast.Load()
    return ast.Tuple([ast.Name(n, kind) for n in names], kind)
