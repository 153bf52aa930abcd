"""Which names the parts of a function read and write."""

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
    if not isinstance(node.ctx, ast.Load):
        root = container_of(node)
        if isinstance(root, ast.Name):
            found.altered.add(root.id)


def container_of(node: ast.expr) -> ast.expr:
    """`a` of `a[i][j]`: what an assignment to the element changes."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node


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
