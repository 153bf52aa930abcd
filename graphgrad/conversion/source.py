"""Finds the source of a function as a syntax tree whose places are those of the user's file."""

from __future__ import annotations

import ast
import linecache
import re
from types import CodeType, FunctionType
from typing import Any

from graphgrad.conversion.jumps import NotConverted

_INDENT = re.compile(r"[ \t]*")
_LAMBDA = re.compile(rb"\blambda\b")
_NO_SOURCE = (
    "its source is not available, as of functions typed at a prompt or made by exec; put it into "
    "a file"
)
_TRIES = 50  # ends of a function or expression that are tried


def tree_of(function: FunctionType) -> ast.FunctionDef | ast.Lambda:
    """The definition of `function`; NotConverted says why there is none."""
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if code.co_firstlineno > len(lines):
        raise NotConverted(_NO_SOURCE)
    found = _lambda(code, lines) if code.co_name == "<lambda>" else _definition(code, lines)
    if found is None:
        raise NotConverted(f"its source in {code.co_filename} is not that of the code that runs")
    return found


def _definition(code: CodeType, lines: list[str]) -> ast.FunctionDef | None:
    first = code.co_firstlineno - 1
    match = _INDENT.match(lines[first])
    indent = match.group() if match else ""
    last = max(filter(None, (end for _, end, _, _ in _positions(code))), default=first + 1)
    for end in _ends(lines, max(last, first + 1), indent):
        text = "".join(lines[first:end])
        if indent:  # columns stay what they are
            text = "if 1:\n" + text
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        ast.increment_lineno(tree, first - bool(indent))
        body = tree.body[0].body if indent else tree.body  # type: ignore[attr-defined]
        node: Any = body[0] if body else None
        matches = isinstance(node, ast.FunctionDef) and _mangled_equal(node.name, code.co_name)
        return node if matches and _has_arguments(node.args, code) else None
    return None


def _ends(lines: list[str], end: int, indent: str) -> list[int]:
    """Where a block may end that goes on to line `end` at least: before lines that are not deeper,
    of which the first that lies in no string or bracket is the end."""
    found = []
    for k in range(end, len(lines)):
        line = lines[k]
        text = line.strip()
        deeper = line.startswith(indent) and line[len(indent) : len(indent) + 1] in (" ", "\t")
        if text and not text.startswith("#") and not deeper:
            found.append(k)
            if len(found) > _TRIES:
                break
    return [*found, len(lines)]


def _positions(code: CodeType) -> list[tuple[int | None, int | None, int | None, int | None]]:
    found = list(code.co_positions())
    for x in code.co_consts:
        if isinstance(x, CodeType):
            found += _positions(x)
    return found


def _has_arguments(a: ast.arguments, code: CodeType) -> bool:
    names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    names += [x.arg for x in (a.vararg, a.kwarg) if x is not None]
    own = code.co_varnames[: len(names)]
    return len(own) == len(names) and all(map(_mangled_equal, names, own))


def _mangled_equal(name: str, own: str) -> bool:
    return own == name or (name.startswith("__") and own.startswith("_") and own.endswith(name))


def _lambda(code: CodeType, lines: list[str]) -> ast.Lambda | None:
    """The lambda on a line that may hold several: its parts lie where the code says."""
    places: Any = code.co_positions()
    spans = [p for p in places if None not in p and p[2] != p[3]]
    if not spans:
        return None
    start = min((line, column) for line, _, column, _ in spans)
    stop = max((line, column) for _, line, _, column in spans)
    line = code.co_firstlineno
    encoded = [x.encode() for x in lines[line - 1 : stop[0] + _TRIES]]
    if not encoded:
        return None
    limit = start[1] if start[0] == line else len(encoded[0])
    for match in reversed(list(_LAMBDA.finditer(encoded[0], 0, limit))):
        node = _parsed(encoded, match.start(), stop[0] - line, stop[1])
        if node is None or not _has_arguments(node.args, code):
            continue
        ast.increment_lineno(node, line - 1)
        return node
    return None


def _parsed(lines: list[bytes], begin: int, row: int, column: int) -> ast.Lambda | None:
    """The lambda from `begin` on the first line that reaches to a place at least."""
    text = b"".join([lines[0][begin:], *lines[1:]])
    end = sum(map(len, lines[:row])) + column - begin
    for extra in range(_TRIES):
        try:
            node = ast.parse(b"(" + text[: end + extra] + b")", mode="eval").body
        except SyntaxError:
            if text[end + extra : end + extra + 1] not in (b")", b"]", b"}", b" ", b"\n", b"\t"):
                return None
            continue
        if not isinstance(node, ast.Lambda):
            return None
        for x in ast.walk(node):
            if getattr(x, "lineno", None) == 1:
                x.col_offset += begin - 1  # type: ignore[attr-defined]
            if getattr(x, "end_lineno", None) == 1:
                x.end_col_offset += begin - 1  # type: ignore[attr-defined]
        return node
    return None
