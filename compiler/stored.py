"""Programs as bytes for a later process, and the text that names what one was compiled from.

A Program follows from the graph, the options, the target and the compiler; all of these are in its
name, to the last bit. The user's lines are not: a program keeps the numbers of the places that its
failures belong to, and gets the lines that these places have in the process that loads it.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from graphgrad.compiler.dims import Dim, DimScope, Quotient, Symbol
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.ir import Graph, Literal, Node, Value
from graphgrad.compiler.ops import BUILT_IN
from graphgrad.compiler.passes.rewrite import refused
from graphgrad.compiler.source import Where
from graphgrad.compiler.types import TensorType
from graphgrad.runtime import program as runtime_program
from graphgrad.runtime.program import Host, Program, Target


class NotStorable(Exception):
    """Something that has no exact text: an op or an attribute of the user's own."""


@dataclass(frozen=True)
class Origin:
    """What a Program is compiled from, as text, and the places that the text numbers."""

    text: str
    places: tuple[Where, ...]
    scopes: tuple[DimScope, ...]
    answers: int  # to questions about open sizes, when the text was written

    @property
    def is_current(self) -> bool:
        """Were no more sizes compared since? A compilation that asked has to be made again."""
        return _answers(self.scopes) == self.answers


def origin_of(graph: Graph, target: Target, options: tuple[Any, ...]) -> Origin | None:
    """The origin of the Program of `graph`; None where it cannot be named exactly."""
    writer = _Writer()
    try:
        writer.graph(graph)
        stamp = compiler_stamp()
    except (NotStorable, OSError):
        return None
    sizes = _scopes_text(writer)
    scopes = tuple(writer.scopes)
    how = repr((astuple(target), options, sorted(refused())))
    text = "\n".join([stamp, how, *sizes, *writer.lines])
    return Origin(text, tuple(writer.places), scopes, _answers(scopes))


def _scopes_text(writer: _Writer) -> list[str]:
    """The sizes of each scope, and what was asked about them, which may mention other scopes."""
    lines: list[str] = []
    while len(lines) < len(writer.scopes):
        scope = [*writer.scopes][len(lines)]
        names = [(s.name, s.argument, s.axis, s.order) for s in scope.symbols]
        asked = [(q, writer.extent(e), g.answer) for (q, e), g in scope.guards.items()]
        lines.append(repr((names, asked)))
    return lines


def _answers(scopes: Iterable[DimScope]) -> int:
    return sum(len(scope.guards) for scope in scopes)


class _Writer:
    """A graph as lines in which equal text means equal to the bit."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.places: dict[Where, int] = {}
        self.scopes: dict[DimScope, int] = {}  # with their numbers
        self.types: dict[TensorType, str] = {}

    def graph(self, graph: Graph) -> None:
        numbers: dict[Value, int] = {}
        self.values("params", graph.params, numbers)
        for node in graph.nodes:
            self.node(node, numbers)
        self.lines.append(f"return {[numbers[v] for v in graph.outputs]}")

    def node(self, node: Node, numbers: dict[Value, int]) -> None:
        if node.op not in BUILT_IN:
            raise NotStorable
        place = -1 if node.where is None else self.places.setdefault(node.where, len(self.places))
        attrs = [f"{k}={self.attribute(node.attrs[k])}" for k in sorted(node.attrs)]
        inputs = [numbers[x] for x in node.inputs]
        self.values(f"{node.op.name} {inputs} {attrs} {place}", node.outputs, numbers)

    def values(self, head: str, values: tuple[Value, ...], numbers: dict[Value, int]) -> None:
        """A line that gives the next numbers to new values, and their types."""
        for v in values:
            numbers[v] = len(numbers)
        self.lines.append(f"{head}: {' '.join([self.type(v.type) for v in values])}")

    def type(self, t: TensorType) -> str:
        text = self.types.get(t)
        if text is None:
            text = self.types[t] = f"{t.dtype.name}[{','.join(map(self.extent, t.shape))}]"
        return text

    def extent(self, n: int | Dim) -> str:
        """A size, with the number of the scope of each symbol: names may come twice."""
        if isinstance(n, int):
            return repr(n)
        terms = ["*".join([str(c), *map(self.atom, monomial)]) for monomial, c in n.terms]
        return "+".join(terms)

    def atom(self, x: Symbol | Quotient) -> str:
        if isinstance(x, Quotient):
            return f"({self.extent(x.dividend)}//{self.extent(x.divisor)})"
        return f"{x.name}@{self.scopes.setdefault(x.scope, len(self.scopes))}.{x.order}"

    def attribute(self, x: Any) -> str:
        """Exact text of an attribute, with its type: 1, 1.0 and True are three."""
        kind = type(x)
        if x is None or kind in (bool, int, float, str, bytes):
            return repr(x) if x == x else _bits(np.float64(x))  # a NaN has a sign and more
        if isinstance(x, np.generic):
            return _bits(x)
        if kind is tuple:
            return f"({','.join(map(self.attribute, x))})"
        if kind is DType:
            return f"dtype {x.name}"
        if kind is Literal:
            return _bits(x.array)
        if kind is Dim:
            return f"dim {self.extent(x)}"
        if kind is TensorType:
            return f"type {self.type(x)}"
        if kind is Graph:
            inner = _Writer()
            inner.places, inner.scopes = self.places, self.scopes
            inner.graph(x)
            return repr(inner.lines)
        raise NotStorable


def _bits(x: Any) -> str:
    return f"bits {x.dtype.name}{list(x.shape)} {x.tobytes().hex()}"


@cache
def compiler_stamp() -> str:
    """What the compiler is: the versions of what it computes with, and the state of its files."""
    own, runtime = (Path(str(f)).resolve().parent for f in (__file__, runtime_program.__file__))
    files = []
    for parent in [own, runtime, *(f for f in own.iterdir() if f.is_dir())]:
        with os.scandir(parent) as found:
            for item in found:
                if item.name.endswith(".py"):
                    status = item.stat()
                    files.append((parent.name, item.name, status.st_size, status.st_mtime_ns))
    return repr((np.__version__, ml_dtypes.__version__, sorted(files)))


def packed(
    program: Program, object_name: str, places: tuple[Where | None, ...], origin: Origin
) -> bytes | None:
    """`program` without its text, for `unpacked`; None if it cannot be kept.

    `object_name` says where its object is, and `places` are those of its failures. Host steps call
    functions of this process.
    """
    hosts = any(isinstance(step, Host) for step in program.steps)
    if hosts or program.python_calls or not origin.is_current:
        return None
    numbers: dict[Where | None, int] = {None: -1}
    numbers.update((place, k) for k, place in enumerate(origin.places))
    if not all(place in numbers for place in places):
        return None
    kept = replace(program, module="", callables=())
    return pickle.dumps((kept, object_name, [numbers[place] for place in places]), protocol=5)


def unpacked(content: bytes, origin: Origin) -> tuple[Program, str] | None:
    """The program, with the user's lines as they are now, and the name of its object."""
    try:
        program, object_name, numbers = pickle.loads(content)
        failures = tuple(
            replace(f, where="" if k < 0 else origin.places[k].describe())
            for f, k in zip(program.failures, numbers, strict=True)
        )
        return replace(program, failures=failures), object_name
    except Exception:  # whatever is wrong with the content, it is of no use
        return None
