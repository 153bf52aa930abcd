"""Which names the parts of a function read and write, and whether they have values, or are of use.

Works on functions without jumps out of what is converted (`jumps.py`), so that everything follows
the structure of the source: what holds before a statement follows from what holds after it
(`Liveness`), and the other way round (`Definedness`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Names = frozenset[str]
NONE: Names = frozenset()
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
MUTATORS = {
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem",
    "popleft", "remove", "reverse", "setdefault", "sort", "update",
}  # fmt: skip
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(slots=True)
class Activity:
    """What a piece of code does with names, in the function that it is part of."""

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)  # also by walrus
    altered: set[str] = field(default_factory=set)  # what they name may be changed in place
    captured: set[str] = field(default_factory=set)  # read by functions within, whenever they run
    changed: set[str] = field(default_factory=set)  # declared `nonlocal` in functions within
    declared: set[str] = field(default_factory=set)  # declared `nonlocal` here
    module: set[str] = field(default_factory=set)  # declared `global` here
    calls: bool = False

    def add(self, other: Activity) -> None:
        self.reads |= other.reads
        self.writes |= other.writes
        self.altered |= other.altered
        self.captured |= other.captured
        self.changed |= other.changed
        self.declared |= other.declared
        self.module |= other.module
        self.calls |= other.calls


def activity(nodes: ast.AST | Iterable[ast.AST]) -> Activity:
    """The activity of a statement or expression, with what is nested in it, or of several."""
    found = Activity()
    for node in [nodes] if isinstance(nodes, ast.AST) else nodes:
        _visit(node, found)
    return found


def _visit(node: ast.AST, found: Activity) -> None:
    kind = type(node)
    if kind is ast.Name:
        if type(node.ctx) is ast.Load:  # type: ignore[attr-defined]
            found.reads.add(node.id)  # type: ignore[attr-defined]
        else:
            found.writes.add(node.id)  # type: ignore[attr-defined]
        return
    visit = _SPECIAL.get(kind)
    if visit is not None:
        visit(node, found)
        return
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            _visit(value, found)
        elif type(value) is list:
            for x in value:
                if isinstance(x, ast.AST):
                    _visit(x, found)


def _children(node: ast.AST, found: Activity) -> None:
    for x in ast.iter_child_nodes(node):
        _visit(x, found)


def _function(node: Function, found: Activity) -> None:
    for x in [*node.args.defaults, *node.args.kw_defaults, *getattr(node, "decorator_list", ())]:
        if x is not None:
            _visit(x, found)
    if not isinstance(node, ast.Lambda):
        found.writes.add(node.name)
    free = inner_activity(node)
    found.captured |= free.reads
    found.changed |= free.changed


def inner_activity(node: Function) -> Activity:
    """`reads`: the names that a function takes from around it; `changed`: those it may rebind."""
    body = activity(node.body)
    own = (body.writes | parameters(node)) - body.declared - body.module
    found = Activity()
    found.reads = ((body.reads | body.captured) - own - body.module) | body.declared
    found.changed = body.declared | (body.changed - own)
    return found


def parameters(node: Function) -> set[str]:
    a = node.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return {x.arg for x in every}


def _class(node: ast.ClassDef, found: Activity) -> None:
    inside = activity([*node.bases, *node.keywords, *node.decorator_list, *node.body])
    found.reads |= inside.reads
    found.altered |= inside.altered
    found.captured |= inside.captured
    found.changed |= inside.changed
    found.writes.add(node.name)
    found.calls = True


def _comprehension(node: ast.AST, found: Activity) -> None:
    inside = Activity()
    _children(node, inside)
    targets = activity([g.target for g in node.generators]).writes  # type: ignore[attr-defined]
    found.reads |= inside.reads - targets
    found.writes |= inside.writes - targets
    found.altered |= inside.altered - targets
    found.captured |= inside.captured - targets
    found.changed |= inside.changed
    found.calls |= inside.calls
    if isinstance(node, ast.GeneratorExp):  # it may run later
        found.captured |= inside.reads - targets


def _augmented(node: ast.AugAssign, found: Activity) -> None:
    _children(node, found)
    if isinstance(node.target, ast.Name):
        found.reads.add(node.target.id)


def _call(node: ast.Call, found: Activity) -> None:
    found.calls = True
    f = node.func
    if isinstance(f, ast.Attribute) and f.attr in MUTATORS and isinstance(f.value, ast.Name):
        found.altered.add(f.value.id)
    _children(node, found)


def _import(node: ast.Import | ast.ImportFrom, found: Activity) -> None:
    found.writes |= {(a.asname or a.name.partition(".")[0]) for a in node.names}


def _handler(node: ast.ExceptHandler, found: Activity) -> None:
    if node.name:
        found.writes.add(node.name)
    _children(node, found)


def _pattern(node: ast.AST, found: Activity) -> None:
    name = getattr(node, "name", None) or getattr(node, "rest", None)
    if name:
        found.writes.add(name)
    _children(node, found)


def _subscript(node: ast.Subscript, found: Activity) -> None:
    _children(node, found)
    if isinstance(node.value, ast.Name) and not isinstance(node.ctx, ast.Load):
        found.altered.add(node.value.id)


_SPECIAL: dict[type, Any] = {
    ast.FunctionDef: _function,
    ast.AsyncFunctionDef: _function,
    ast.Lambda: _function,
    ast.ClassDef: _class,
    ast.ListComp: _comprehension,
    ast.SetComp: _comprehension,
    ast.DictComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.AugAssign: _augmented,
    ast.Call: _call,
    ast.Import: _import,
    ast.ImportFrom: _import,
    ast.ExceptHandler: _handler,
    ast.MatchAs: _pattern,
    ast.MatchStar: _pattern,
    ast.MatchMapping: _pattern,
    ast.Subscript: _subscript,
    ast.Nonlocal: lambda node, found: found.declared.update(node.names),
    ast.Global: lambda node, found: found.module.update(node.names),
}


class Scope:
    """The names of one function, and the activity of its statements."""

    def __init__(self, node: Function) -> None:
        body = activity(node.body)
        self.parameters = frozenset(parameters(node))
        self.declared = frozenset(body.declared | body.module)
        self.module = frozenset(body.module)
        self.bound = (self.parameters | body.writes) - self.declared
        self.own = self.bound | (body.writes & self.declared)  # names that statements may rebind
        self.lasting = frozenset((body.captured & self.bound) | self.declared)
        self._hidden = frozenset(body.changed & self.bound)  # rebound by functions within
        self._found: dict[int, Activity] = {}

    def activity(self, node: ast.AST) -> Activity:
        found = self._found.get(id(node))
        if found is None:
            found = self._found[id(node)] = activity(node)
            found.writes |= found.altered & self.own
            if found.calls:
                found.writes |= self._hidden
        return found

    def writes(self, nodes: Iterable[ast.AST]) -> Names:
        return NONE.union(*(self.activity(x).writes for x in nodes)) & self.own

    def reads(self, node: ast.AST | None) -> Names:
        return NONE if node is None else self.own & self.activity(node).reads


class Liveness:
    """The names whose values may still be read after each statement, by identity of the statement.

    Exceptions lead from any statement of a `try` or `with` to what may handle them.
    """

    def __init__(self, scope: Scope, body: list[ast.stmt]) -> None:
        self.scope = scope
        self.after: dict[int, Names] = {}
        self.before: dict[int, Names] = {}  # of blocks, by identity of the list; heads of loops too
        self._handled: Names = NONE
        self._loops: list[tuple[Names, Names]] = []  # live after `break` and `continue`
        self.block(body, NONE)

    def block(self, body: list[ast.stmt], after: Names) -> Names:
        for s in reversed(body):
            self.after[id(s)] = after | self._handled | self.scope.lasting
            after = self._statement(s, after) | self._handled
        self.before[id(body)] = after
        return after

    def _statement(self, s: ast.stmt, after: Names) -> Names:
        reads = self.scope.reads
        match s:
            case ast.If():
                return self.block(s.body, after) | self.block(s.orelse, after) | reads(s.test)
            case ast.While():
                exits = self.block(s.orelse, after) | reads(s.test) | _flag(s)
                return self._loop(s.body, after, exits, NONE)
            case ast.For():
                exits = self.block(s.orelse, after) | _flag(s)
                target = self.scope.activity(s.target)
                head = exits | target.reads
                return self._loop(s.body, after, head, frozenset(target.writes)) | reads(s.iter)
            case ast.Try() | ast.TryStar():
                return self._try(s, after)
            case ast.With() | ast.AsyncWith():
                saved, self._handled = self._handled, self._handled | after
                inside = self.block(s.body, after)
                self._handled = saved
                return inside | NONE.union(*(reads(x) for x in s.items))
            case ast.Match():
                found = after | reads(s.subject)
                for c in s.cases:
                    found |= self.block(c.body, after) | reads(c.pattern) | reads(c.guard)
                return found
            case ast.Break():
                return self._loops[-1][0]
            case ast.Continue():
                return self._loops[-1][1]
            case ast.Return():
                return reads(s.value)
            case ast.Raise():
                return reads(s)
        own = self.scope.activity(s)
        return (after - (own.writes - own.altered)) | (own.reads & self.scope.own)

    def _loop(self, body: list[ast.stmt], after: Names, head: Names, target: Names) -> Names:
        """What is live at the head of a loop, of which `head` is what is read there or behind it;
        `target` is assigned before each trip."""
        while True:
            self._loops.append((after, head))
            grown = head | (self.block(body, head) - target)
            self._loops.pop()
            if grown == head:
                self.before[id(body)] = head
                return head
            head = grown

    def _try(self, s: ast.Try | ast.TryStar, after: Names) -> Names:
        last = self.block(s.finalbody, after)
        saved = self._handled
        self._handled = saved | last if s.finalbody else saved
        handlers = NONE.union(
            *(self.block(h.body, last) | self.scope.reads(h.type) for h in s.handlers)
        )
        rest = self.block(s.orelse, last)
        self._handled |= handlers
        found = self.block(s.body, rest)
        self._handled = saved
        return found | handlers


def _flag(loop: ast.AST) -> Names:
    """The name that ends a loop whose jumps were replaced."""
    stop = getattr(loop, "stop", None)
    return NONE if stop is None else frozenset([stop])


Having = frozenset[str] | None  # the names that surely have a value; None where nothing arrives


class Definedness:
    """The names that surely have a value before each statement, by identity of the statement."""

    def __init__(self, scope: Scope, body: list[ast.stmt]) -> None:
        self.scope = scope
        self.before: dict[int, Names] = {}
        self.block(body, scope.parameters | scope.declared)

    def block(self, body: list[ast.stmt], having: Having) -> Having:
        for s in body:
            self.before[id(s)] = self.scope.own if having is None else having
            having = self._statement(s, having)
        return having

    def _statement(self, s: ast.stmt, having: Having) -> Having:
        if having is None:
            having = self.scope.own
        match s:
            case ast.If():
                return _both(self.block(s.body, having), self.block(s.orelse, having))
            case ast.While():
                self.block(s.body, having)
                endless = isinstance(s.test, ast.Constant) and s.test.value and not _flag(s)
                normal = None if endless else self.block(s.orelse, having)
                return _both(normal, having if leaves(s.body) or not endless else None)
            case ast.For():
                self.block(s.body, having | self._assigned(s.target))
                self.block(s.orelse, having)
                return having
            case ast.Try() | ast.TryStar():
                found = self.block(s.orelse, self.block(s.body, having))
                for h in s.handlers:
                    found = _both(found, self.block(h.body, having))
                last = self.block(s.finalbody, having)
                return None if found is None or last is None else found | last
            case ast.With() | ast.AsyncWith():
                for item in s.items:
                    if item.optional_vars is not None:
                        having |= self._assigned(item.optional_vars)
                self.block(s.body, having)
                return having  # the context may have swallowed an exception
            case ast.Match():
                found = having
                for c in s.cases:
                    found = _both(found, self.block(c.body, having | self._assigned(c.pattern)))
                return found
            case ast.Return() | ast.Break() | ast.Continue():
                return None
            case ast.Raise():  # under a tensor condition, what follows is traced
                return having
            case ast.Delete():
                return having - self.scope.activity(s).writes
            case ast.Assign():
                return having.union(*(self._assigned(t) for t in s.targets))
            case ast.AnnAssign():
                return having | (self._assigned(s.target) if s.value is not None else NONE)
            case ast.AugAssign():
                return having | self._assigned(s.target)
            case ast.Expr() | ast.Assert():  # a walrus may not be reached
                return having
        return having | (self.scope.writes([s]) - self.scope.activity(s).altered)

    def _assigned(self, target: ast.AST) -> Names:
        found = self.scope.activity(target)
        return (frozenset(found.writes) - found.altered) & self.scope.own


def _both(a: Having, b: Having) -> Having:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def leaves(body: list[ast.stmt]) -> bool:
    """Is there a `break` of the loop with this body?"""
    for s in body:
        if isinstance(s, ast.Break):
            return True
        if isinstance(s, ast.For | ast.While | ast.AsyncFor):
            if leaves(s.orelse):
                return True
        elif any(leaves(b) for b in blocks(s)):
            return True
    return False


def blocks(s: ast.stmt) -> list[list[ast.stmt]]:
    """The lists of statements that a compound statement is made of, functions left out."""
    if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    found = [getattr(s, name, None) for name in ("body", "orelse", "finalbody")]
    found += [x.body for x in (*getattr(s, "handlers", ()), *getattr(s, "cases", ()))]
    return [b for b in found if b]
