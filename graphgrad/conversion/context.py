"""What the conversion of one function shares: names of its own, and how pieces of code are made."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphgrad.conversion.expressions import Expressions


def load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def store(name: str) -> ast.Name:
    return ast.Name(name, ast.Store())


class Context:
    """`operators` is the name that generated code has for the module of operators."""

    def __init__(self, used: set[str], globals_: Mapping[str, Any]) -> None:
        self.operators = "_gg"
        while any(n.startswith(self.operators) for n in used):
            self.operators += "_"
        self.globals = globals_
        self.own = used  # names that some function here binds, or takes from around it
        self.labels: dict[str, str] = {}  # names that are not the user's, and what errors say
        self.generated: set[str] = set()  # names of functions that are not the user's
        self.changes = 0  # operators that were put in
        self.updates = False  # assigns to elements of what a name holds
        self._count = 0

    def fresh(self, label: str) -> str:
        """A name for a variable that errors call `label`."""
        self._count += 1
        name = f"{self.operators}_{label}_{self._count}"
        self.labels[name] = label
        return name

    def function(self, role: str) -> str:
        """A name for a function."""
        self._count += 1
        name = f"{self.operators}_{role}_{self._count}"
        self.generated.add(name)
        return name

    def nested(self, node: Any, outer: Expressions) -> None:
        """Convert a function that is written within another."""
        from graphgrad.conversion.control_flow import convert_body

        convert_body(node, self, outer)

    # Pieces of code

    def call(self, name: str, at: ast.AST, *args: ast.expr, **keywords: ast.expr) -> Any:
        """A call of an operator, at the place of `at`."""
        self.changes += 1
        operator = ast.Attribute(ast.Name(self.operators, ast.Load()), name, ast.Load())
        given = [ast.keyword(k, v) for k, v in keywords.items()]
        return self.place(ast.Call(operator, list(args), given), at)

    def local(self, name: str) -> ast.Name:
        """A parameter of a generated function."""
        return ast.Name(f"{self.operators}_{name}", ast.Load())

    def later(self, node: ast.expr) -> ast.expr:
        """A function that evaluates `node`."""
        return self.place(ast.Lambda(self.arguments([]), node), node)

    @staticmethod
    def arguments(names: list[str], rest: str | None = None) -> ast.arguments:
        return ast.arguments([], [ast.arg(n) for n in names], ast.arg(rest) if rest else None,
                             [], [], None, [])  # fmt: skip

    @classmethod
    def place(cls, node: Any, at: ast.AST) -> Any:
        """`node` at the first line of `at`, with its parts that have no place yet.

        On one line: Python counts the call of an attribute to the last line of the attribute.
        """
        if "lineno" in node._attributes:
            if hasattr(node, "lineno"):
                return node
            place: Any = at
            node.lineno = node.end_lineno = place.lineno
            node.col_offset, node.end_col_offset = place.col_offset, place.end_col_offset
            if place.end_lineno != place.lineno:
                node.end_col_offset = place.col_offset + 1
        for x in ast.iter_child_nodes(node):
            cls.place(x, at)
        return node
