"""A loop as readable Python that also runs: what `f.kernels()` shows of it.

A scan that stacks the sine of its state becomes

    # 100 steps: for row in rows:  (train.py:17)
    def k_scan_3f9a1c(x0, x1, y1):
        s0 = x0
        for i in range(100):
            v0 = sin(s0)
            y1[i] = v0
            s0 = v0 * x1[i]  # train.py:18: h = gg.sin(h) * row
        return s0

Inputs are x0, x1, ...; what is stacked is written to the results of these numbers, y1 here, and the
last state is returned. Names of functions are those of ops, on NumPy arrays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.python_lines import PythonLines
from graphgrad.compiler.dims import Extent, is_runtime_size
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.ir import Graph, Literal, Node, Value
from graphgrad.compiler.kernels.carried_arrays import LOOPS
from graphgrad.compiler.op import ops
from graphgrad.compiler.source import Where

INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "less": "<", "less_equal": "<=",
    "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=", "logical_and": "&",
    "logical_or": "|",
}  # fmt: skip
MOVING = ("dynamic_slice", "update_slice")  # blocks whose starts are values, if nothing is said
PREFIX = {"neg": "-", "logical_not": "~"}
LONGEST = 60  # a longer expression gets a name of its own
ELEMENT = re.compile(r"[a-z]\w*(\[[a-z]\w*(, [a-z]\w*)*\])*")
NUMBER = re.compile(r"[0-9.]+(e[-+]?[0-9]+)?")


def python_loop(node: Node, name: str) -> str:
    """The Python function of a `scan` or a `while_loop`."""
    return _Writer().function(node, name)


def run_python_loop(
    text: str, inputs: Sequence[np.ndarray[Any, Any]], stacks: Sequence[np.ndarray[Any, Any]]
) -> tuple[Any, ...]:
    """The last state that a loop's text returns; it fills `stacks`."""
    scope: dict[str, Any] = {name: _called(name) for name in ops}
    scope |= {d.name: d for d in dtypes.ALL}
    scope |= {"array": np.array, "empty": np.empty, "range": range}
    exec(compile(text, "<loop>", "exec"), scope)
    name = text[text.index("def ") + 4 : text.index("(", text.index("def "))]
    with np.errstate(all="ignore"):
        found = scope[name](*inputs, *stacks)
    return found if isinstance(found, tuple) else (found,)


def _called(name: str) -> Callable[..., Any]:
    """An op as a function of NumPy arrays."""

    def call(*arrays: Any, **attrs: Any) -> Any:
        if name in MOVING:
            attrs.setdefault("starts", (None,) * np.ndim(arrays[0]))
            attrs.setdefault("steps", (1,) * np.ndim(arrays[0]))
        found = ops[name].evaluate([np.asarray(a) for a in arrays], attrs)
        return found if ops[name].multi else found[0]

    return call


class _Writer(PythonLines):
    """Writes the function of one loop."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[Value, str] = {}
        self.numbers: Counter[str] = Counter()
        self.elements: dict[Value, str] = {}  # blocks that are one element, as its text

    def function(self, node: Node, name: str) -> str:
        carried: int = node.attrs["carried"]
        inputs = [f"x{k}" for k in range(len(node.inputs))]
        stacks = [f"y{k}" for k in range(carried, len(node.outputs))]
        ends = self.loop(node, inputs, stacks)
        if ends:
            self.line(f"return {', '.join(ends)}")
        head = f"def {name}({', '.join([*inputs, *stacks])}):"
        place = node.where.describe() if node.where is not None else ""
        title = [f"# {node.op.name}, {place}"] if place else []
        return "\n".join([*title, head, *(self.lines or ["    pass"])]) + "\n"

    # -- names and lines

    def new(self, letter: str) -> str:
        self.numbers[letter] += 1
        return f"{letter}{self.numbers[letter] - 1}"

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head)
        self.depth += 1
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.line("pass")
        self.depth -= 1

    # -- graphs

    def graph(self, graph: Graph, inputs: Sequence[str], inline: bool = False) -> list[str]:
        """The texts of the outputs. A value that one node reads, of the same line, is written where
        it is read; with `inline`, so is an output."""
        self.names.update(zip(graph.params, inputs, strict=True))
        reads = Counter(x for node in graph.nodes for x in node.inputs)
        ends = Counter(graph.outputs)
        lines = {x: _line(node.where) for node in graph.nodes for x in node.inputs}
        for node in graph.nodes:
            if node.op.name in LOOPS:
                self.inner_loop(node, {v for v in node.outputs if reads[v] or ends[v]})
            elif node.op.name == "cond":
                self.branch(node)
            else:
                text = self.expression(node)
                v = node.out if len(node.outputs) == 1 else None
                if v is not None and not node.op.effect:
                    once = reads[v] + ends[v] == 1 and (inline or not ends[v])
                    alike = ends[v] > 0 or lines.get(v) == _line(node.where)
                    if node.op.name == "constant" or (once and alike and len(text) <= LONGEST):
                        self.names[v] = text
                        continue
                found = [self.names.setdefault(v, self.new("v")) for v in node.outputs]
                self.line(f"{', '.join(found)} = {text}" if found else text, node.where)
        return [self.names[v] for v in graph.outputs]

    def expression(self, node: Node) -> str:
        name, xs = node.op.name, [self.names[x] for x in node.inputs]
        if name == "constant":
            return _literal(node.attrs["value"])
        if name in INFIX and not node.attrs:
            return f"{_operand(xs[0])} {INFIX[name]} {_operand(xs[1])}"
        if name in PREFIX and not node.attrs:
            alone = name == "logical_not" and not node.out.type.shape
            return f"{'not ' if alone else PREFIX[name]}{_operand(xs[0])}"
        if name == "matmul" and not (node.attrs["transpose_a"] or node.attrs["transpose_b"]):
            return f"{_operand(xs[0])} @ {_operand(xs[1])}"
        if name == "reshape" and not node.out.type.shape and node.inputs[0] in self.elements:
            return self.elements[node.inputs[0]]
        if name == "dynamic_slice" and _is_element(node):
            self.elements[node.out] = f"{xs[0]}[{', '.join(xs[1:])}]"
        plain = {"starts": None, "steps": 1} if name in MOVING else {}
        attrs = [
            f"{k}={_attribute(v)}"
            for k, v in node.attrs.items()
            if not (k in plain and all(x == plain[k] for x in v))
        ]
        return f"{name}({', '.join([*xs, *attrs])})"

    # -- control flow

    def inner_loop(self, node: Node, read: set[Value]) -> None:
        """A loop within: the stacks of it that are read are arrays of their own."""
        carried: int = node.attrs["carried"]
        stacks = [self.new("a") if v in read else "" for v in node.outputs[carried:]]
        trips = node.attrs.get("trips")
        for v, a in zip(node.outputs[carried:], stacks, strict=True):
            if not a:
                continue
            shape = ", ".join(map(str, v.type.shape))
            self.line(f"{a} = " + ("[]" if _grows(trips) else f"empty(({shape},), {v.dtype.name})"))
            self.names[v] = a
        ends = self.loop(node, [self.names[x] for x in node.inputs], stacks)
        self.names.update(zip(node.outputs, ends, strict=False))

    def branch(self, node: Node) -> None:
        condition, *inputs = (self.names[x] for x in node.inputs)
        results = [self.new("v") for _ in node.outputs]
        for head, key in ((f"if {condition}:", "true_graph"), ("else:", "false_graph")):
            with self.block(head):
                ends = self.graph(node.attrs[key], inputs)
                if results:
                    self.line(f"{', '.join(results)} = {', '.join(ends)}")
        self.names.update(zip(node.outputs, results, strict=True))

    def loop(self, node: Node, inputs: Sequence[str], stacks: Sequence[str]) -> list[str]:
        """The names of the state, which is the last one after the loop."""
        attrs = node.attrs
        carried: int = attrs["carried"]
        masked: bool = attrs.get("masked", False)
        split = carried + masked + attrs.get("scanned", 0)
        state = [self.new("s") for _ in range(carried)]
        if state:
            self.line(f"{', '.join(state)} = {', '.join(inputs[:carried])}", node.where)
        body: Graph = attrs["body_graph"]
        i = self.new("i")
        inputs = [*inputs]
        for k in range(carried, split):
            if not inputs[k].isidentifier() and not ELEMENT.fullmatch(inputs[k]):
                named = self.new("a")
                self.line(f"{named} = {inputs[k]}")
                inputs[k] = named
        rows = [f"{x}[{i}]" for x in inputs[carried + masked : split]]

        def step() -> None:
            ends = self.graph(body, [*state, *rows, *inputs[split:]])
            made = [*ends[carried:], *["True"] * (len(stacks) - len(body.outputs) + carried)]
            for y, value in zip(stacks, made, strict=True):
                if not y:
                    continue
                grows = _grows(attrs.get("trips"))
                self.line(f"{y}.append({value})" if grows else f"{y}[{i}] = {value}")
            changed = [(s, e) for s, e in zip(state, ends, strict=False) if s != e]
            if changed:
                self.line(" = ".join(", ".join(part) for part in zip(*changed, strict=True)))

        if "cond_graph" in attrs:
            self.while_steps(attrs, i, [*state, *inputs[split:]], step)
            return state
        length = attrs["length"]
        rows_known = isinstance(length, int) or split == carried
        steps = f"range({length if rows_known else f'len({inputs[carried]})'})"
        with self.block(f"for {i} in {f'reversed({steps})' if attrs['reverse'] else steps}:"):
            if not masked:
                step()
                return state
            with self.block(f"if {inputs[carried]}[{i}]:"):
                step()
            with self.block("else:"):
                for y in filter(None, stacks):
                    self.line(f"{y}[{i}] = 0")
        return state

    def while_steps(
        self, attrs: Any, i: str, inputs: Sequence[str], step: Callable[[], None]
    ) -> None:
        """The steps of a while_loop: numbered where their number is bounded."""
        limits = [n for n in (attrs["maximum_iterations"], attrs["trips"]) if isinstance(n, int)]
        before = len(self.lines)
        (condition,) = self.graph(attrs["cond_graph"], inputs, inline=True)
        asked = self.lines[before:]
        del self.lines[before:]
        if not (asked or limits):
            with self.block(f"while {condition}:"):
                step()
            return
        with self.block(f"for {i} in range({min(limits)}):" if limits else "while True:"):
            self.lines += ["    " + text for text in asked]
            with self.block(f"if not ({condition}):"):
                self.line("break")
            step()


def _grows(trips: Extent | None) -> bool:
    """Is what a loop stacks as long as it runs?"""
    return trips is not None and is_runtime_size(trips)


def _line(where: Where | None) -> tuple[str, int] | None:
    return None if where is None else (where.file, where.line)


def _operand(text: str) -> str:
    """A text that binds more strongly than an operator."""
    simple = ELEMENT.fullmatch(text) or NUMBER.fullmatch(text)
    closed = text.endswith((")", "]")) and _is_one_call(text)
    return text if simple or closed else f"({text})"


def _is_one_call(text: str) -> bool:
    """Is a text a name followed by one pair of brackets?"""
    start = min((text.find(c) for c in "([" if c in text), default=-1)
    if start < 1 or not text[:start].isidentifier():
        return False
    depth = 0
    for k, c in enumerate(text):
        depth += (c in "([") - (c in ")]")
        if depth == 0 and k >= start:
            return k == len(text) - 1
    return False


def _is_element(node: Node) -> bool:
    """Is a block one element, at places that values say?"""
    attrs = node.attrs
    return all(n == 1 for n in attrs["sizes"]) and all(k is None for k in attrs["starts"])


def _literal(value: Literal) -> str:
    if value.is_scalar and value.array.dtype.kind in "iufb" and np.isfinite(value.array):
        return str(value.array[()])
    return f"array({value.array.tolist()!r}, {value.array.dtype.name!r})"


def _attribute(x: Any) -> str:
    if isinstance(x, DType):
        return x.name
    if isinstance(x, tuple):
        inner = ", ".join(map(_attribute, x))
        return f"({inner},)" if len(x) == 1 else f"({inner})"
    return f"<{x.name}>" if isinstance(x, Graph) else repr(x) if _plain(x) else str(x)


def _plain(x: Any) -> bool:
    return x is None or isinstance(x, int | float | str)
