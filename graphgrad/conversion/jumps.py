"""Replaces `return`, `break` and `continue` in what is converted: conditions and flags instead.

Where a branch surely jumps, what follows moves into the other branch:

    if c: return a          if c: value = a
    return b                else: value = b
                            return value

Elsewhere a flag tells, and guards what follows; a loop goes on while its flag `stop` is down.
Jumps that only Python's own conditions lead to stay as they are.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphgrad.conversion.context import Context, load
from graphgrad.conversion.names import activity, blocks, leaves
from graphgrad.conversion.plain import is_plain_iterable, is_plain_test

LOOPS = (ast.For, ast.While)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class NotConverted(Exception):
    """Why a function is left as it is."""


@dataclass(frozen=True, slots=True)
class _Loop:
    stop: str
    skip: str


class Jumps:
    """The rewriting of one function's body; `fresh` makes names, with what errors call them."""

    def __init__(self, fresh: Callable[[str], str], unwrap: Callable[[str], ast.expr]) -> None:
        self._fresh = fresh
        self._unwrap = unwrap
        self._value = self._returned = ""

    def function(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """The body of a function; it may still return from its outermost level."""
        for k, s in enumerate(body):
            if not _is_native(s):
                self._value, self._returned = self._fresh("return"), self._fresh("returned")
                last = Context.place(ast.Return(load(self._value)), body[-1])
                return [*self._plain(body[:k]), *self._valued(body[k:], s), last]
        return self._plain(body)

    # Statements that nothing jumps out of, but for what Python's own conditions lead to

    def _plain(self, body: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for s in body:
            found += self._inside(s)
        return found

    def _inside(self, s: ast.stmt) -> list[ast.stmt]:
        if isinstance(s, LOOPS) and not _is_native_loop(s):
            loop, rest = self._loop(s)
            return [*loop, *self._plain(rest)]
        _each_block(s, self._plain)
        if isinstance(s, LOOPS):
            s.plain = True  # type: ignore[union-attr]
        return [s]

    # Statements that are to give the function's value

    def _valued(self, body: list[ast.stmt], at: ast.stmt) -> list[ast.stmt]:
        """`body` with the value assigned on every way through it; None at its end."""
        found: list[ast.stmt] = []
        for k, s in enumerate(body):
            at, rest = s, body[k + 1 :]
            match s:
                case ast.Return():
                    return [*found, _assign(self._value, s.value or ast.Constant(None), s)]
                case ast.If() if "return" in _jumps(s):
                    if not rest or _exits(s.body) or _exits(s.orelse):
                        _give(s, rest)
                        s.body = self._valued(s.body, s)
                        s.orelse = self._valued(s.orelse, s)
                        return [*found, s]
            if "return" not in _jumps(s):
                found += self._inside(s)
                continue
            found.append(_assign(self._returned, ast.Constant(False), s))
            known = _assign(self._value, self._unwrap(self._value), s)
            if _exits([s]) and isinstance(s, ast.While):  # it only ends by a return
                return [*found, *self._loop(s)[0], known]
            if isinstance(s, LOOPS):
                returns = "return" in _jumps_of(s.body)
                loop, other = self._loop(s)
                found, rest = [*found, *loop], other + rest
                if not returns:
                    return found + self._valued(rest, s)
            else:
                self._guard_blocks(s, None)
                found.append(s)
            following = self._valued(rest, s)
            return [*found, Context.place(ast.If(load(self._returned), [known], following), s)]
        return [*found, _assign(self._value, ast.Constant(None), at)]

    # Statements that may jump

    def _guarded(self, body: list[ast.stmt], loop: _Loop | None) -> list[ast.stmt]:
        """`body` with flags for its jumps; what follows a jump is guarded."""
        found: list[ast.stmt] = []
        for k, s in enumerate(body):
            jumps, rest = _jumps(s), body[k + 1 :]
            if not jumps:
                found += self._inside(s)
                continue
            if isinstance(s, ast.Return | ast.Break | ast.Continue):
                return found + self._jump(s, loop)
            if isinstance(s, ast.If) and rest and (_exits(s.body) or _exits(s.orelse)):
                _give(s, rest)
                rest = []
            if isinstance(s, LOOPS):
                returns = "return" in _jumps_of(s.body)
                statements, other = self._loop(s)
                found, rest = found + statements, other + rest
                if not returns:
                    return found + self._guarded(rest, loop)
                test: ast.expr = load(self._returned)
                after = Context.place(ast.Pass(), s)
                if loop is not None:
                    after = _assign(loop.stop, ast.Constant(True), s)
            else:
                self._guard_blocks(s, loop)
                found.append(s)
                test = self._flag(jumps, loop)
                after = Context.place(ast.Pass(), s)
            if rest or not isinstance(after, ast.Pass):
                found.append(Context.place(ast.If(test, [after], self._guarded(rest, loop)), s))
            return found
        return found

    def _jump(self, s: ast.stmt, loop: _Loop | None) -> list[ast.stmt]:
        up = ast.Constant(True)
        if isinstance(s, ast.Return):
            found = [_assign(self._value, s.value or ast.Constant(None), s)]
            found.append(_assign(self._returned, up, s))
            return found if loop is None else [*found, _assign(loop.stop, up, s)]
        assert loop is not None
        return [_assign(loop.stop if isinstance(s, ast.Break) else loop.skip, up, s)]

    def _flag(self, jumps: set[str], loop: _Loop | None) -> ast.expr:
        """What tells that one of `jumps` was made."""
        if loop is None:
            return load(self._returned)
        names = [loop.stop] if jumps & {"return", "break"} else []
        names += [loop.skip] if "continue" in jumps else []
        flags: list[ast.expr] = [load(n) for n in names]
        return flags[0] if len(flags) == 1 else ast.BoolOp(ast.Or(), flags)

    def _guard_blocks(self, s: ast.stmt, loop: _Loop | None) -> None:
        if isinstance(s, ast.Try | ast.TryStar):
            if _jumps_of(s.finalbody):
                raise NotConverted(f"line {s.lineno}: `finally` holds a jump")
            if s.orelse and _jumps_of(s.body):
                test = self._flag(_jumps_of(s.body), loop)
                s.orelse = [
                    Context.place(
                        ast.If(test, [Context.place(ast.Pass(), s)], s.orelse), s.orelse[0]
                    )
                ]
        _each_block(s, lambda body: self._guarded(body, loop))

    def _loop(self, s: Any) -> tuple[list[ast.stmt], list[ast.stmt]]:
        """The loop without jumps, and what follows from its `else`."""
        before: list[ast.stmt] = []
        condition = None
        if isinstance(s, ast.While) and _changes(s.test):
            before, condition = self._test_within(s)
        jumps = _jumps_of(s.body)
        s.after, s.orelse, s.stop = s.orelse, [], None
        if jumps:
            loop = _Loop(self._fresh("break"), self._fresh("continue"))
            s.body = self._guarded(s.body, loop)
            if "continue" in jumps:
                s.body.insert(0, _assign(loop.skip, ast.Constant(False), s.body[0]))
            if jumps & {"break", "return"}:
                before.append(_assign(loop.stop, ast.Constant(False), s))
                s.stop = loop.stop
        else:
            s.body = self._plain(s.body)
        if s.after and condition is not None:
            s.after = [Context.place(ast.If(load(condition), s.after, []), s)]
        elif s.after and s.stop is not None:
            s.after = [
                Context.place(ast.If(load(s.stop), [Context.place(ast.Pass(), s)], s.after), s)
            ]
        return [*before, s], s.after

    def _test_within(self, s: ast.While) -> tuple[list[ast.stmt], str]:
        """Move a test that assigns into the body; the name that tells that the test has failed."""
        ended = self._fresh("break")
        ends = [_assign(ended, ast.Constant(True), s), Context.place(ast.Break(), s)]
        s.body.insert(0, Context.place(ast.If(s.test, [Context.place(ast.Pass(), s)], ends), s))
        s.test = ast.copy_location(ast.Constant(True), s.test)
        return [_assign(ended, ast.Constant(False), s)], ended


def _changes(test: ast.expr) -> bool:
    """Does a test assign, as by a walrus, or change what a name holds, as `xs.pop()` does?"""
    found = activity(test)
    return bool(found.writes or found.altered)


def _jumps_of(body: list[ast.stmt]) -> set[str]:
    return set().union(*map(_jumps, body))


def _jumps(s: ast.stmt) -> set[str]:
    """The kinds of jumps that leave a statement."""
    if isinstance(s, ast.Return | ast.Break | ast.Continue):
        return {type(s).__name__.lower()}
    found = set().union(*map(_jumps_of, blocks(s)))
    if isinstance(s, (*LOOPS, ast.AsyncFor)):
        inner = _jumps_of(s.body) & {"return"}
        return inner | _jumps_of(s.orelse)
    return found


def _is_native(s: ast.stmt) -> bool:
    """May the jumps out of `s` stay, where a jump out of what surrounds it may?"""
    jumps = _jumps(s)
    if isinstance(s, LOOPS):
        return not jumps or (_is_native_loop(s) and all(map(_is_native, s.orelse)))
    if isinstance(s, ast.If) and not is_plain_test(s.test):
        return not jumps
    return all(_is_native(x) for b in blocks(s) for x in b)


def _is_native_loop(s: Any) -> bool:
    """Does a loop stay Python's own?"""
    plain = is_plain_test(s.test) if isinstance(s, ast.While) else is_plain_iterable(s.iter)
    return plain and all(_is_native(x) for x in s.body)


def _exits(body: list[ast.stmt]) -> bool:
    """Does nothing come to the end of `body`?"""
    if not body:
        return False
    match body[-1]:
        case ast.Return() | ast.Raise() | ast.Break() | ast.Continue():
            return True
        case ast.If(body=then, orelse=other):
            return _exits(then) and _exits(other)
        case ast.While(test=ast.Constant(value=value), body=inside):
            return bool(value) and not leaves(inside)
    return False


def _give(s: ast.If, rest: list[ast.stmt]) -> None:
    """Move what follows `s` to its branch that comes to an end."""
    if _exits(s.body):
        s.orelse = s.orelse + rest
    else:
        s.body = s.body + rest


def _each_block(s: ast.stmt, change: Callable[[list[ast.stmt]], list[ast.stmt]]) -> None:
    if isinstance(s, _SCOPES):
        return
    for part in (s, *getattr(s, "handlers", ()), *getattr(s, "cases", ())):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(part, name, None)
            if body:
                setattr(part, name, change(body))


def _assign(name: str, value: ast.expr, at: ast.stmt) -> ast.stmt:
    return Context.place(ast.Assign([ast.Name(name, ast.Store())], value), at)
