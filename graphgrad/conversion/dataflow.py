"""Which names of a function have values, or are of use, before and after each of its statements.

Works on functions without jumps out of what is converted (`jumps.py`), so that everything follows
the structure of the source: what holds before a statement follows from what holds after it
(`Liveness`), and the other way round (`Definedness`).
"""

from __future__ import annotations

import ast

from graphgrad.conversion.names import NONE, Names, Scope, leaves


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
                for item in reversed(s.items):
                    inside = self._set(item.optional_vars, inside) | reads(item.context_expr)
                return inside
            case ast.Match():
                found = after | reads(s.subject)
                for c in s.cases:
                    found |= self._set(c.pattern, self.block(c.body, after) | reads(c.guard))
                return found
            case ast.Break():
                return self._loops[-1][0]
            case ast.Continue():
                return self._loops[-1][1]
            case ast.Return():
                return reads(s.value)
            case ast.Raise():
                return reads(s)
        return self._set(s, after)

    def _set(self, node: ast.AST | None, after: Names) -> Names:
        """What is live before `node`, which surely assigns to its names."""
        if node is None:
            return after
        own = self.scope.activity(node)
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
            *(self.block(h.body, last) - {h.name} | self.scope.reads(h.type) for h in s.handlers)
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
