"""A loop nest as readable Python that also runs: what `f.kernels()` shows.

The text is an oracle for the LLVM emitter (`run_python_kernel`), and the source of CUDA kernels:
its body is plain arithmetic on scalars. `z = tanh(x) * w` on f32[n0, n1] and f32[n1] becomes

    # reads x0: f32[64, 10], x1: f32[10]
    # writes out0: f32[64, 10]
    # n0 = 64 rows in parallel, n1 = 10
    def k_tanh_mul_3f9a1c(x0, x1, out0, n0, n1):
        for i0 in range(n0):
            for i1 in range(n1):
                out0[i0*n1 + i1] = tanh(x0[i0*n1 + i1]) * x1[i1]  # train.py:17: z = tanh(x) * w

Arrays are one-dimensional; sizes follow them (`python_sizes`).
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphgrad.compiler.codegen.python_lines import PythonLines
from graphgrad.compiler.codegen.python_scalar import (
    PYTHON_RUNTIME,
    python_expression,
    python_literal,
)
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.division import in_blocks
from graphgrad.compiler.kernels.loops import Access, Affine, LoopNest, Phase, Reduction, Stmt
from graphgrad.compiler.source import Where
from graphgrad.compiler.types import TensorType

# An expression longer than this gets a name of its own.
LONGEST = 60
# Text that is written where it is read, whatever line of the user's it comes from.
_TRIVIAL = frozenset({"load", "load_at", "load_in", "index", "convert", "bitcast"})
_INFIX = {"sum": "+", "prod": "*", "any": "|", "all": "&"}
_WORDS = {"prod": "product"}


def python_kernel(nest: LoopNest, name: str, types: Sequence[TensorType | None] = ()) -> str:
    """The Python function of `nest`; known `types` of its arrays go into its head."""
    return _Writer(nest, name, types).text()


def python_sizes(nest: LoopNest) -> tuple[Extent, ...]:
    """What the size parameters of the function stand for, in order."""
    writer = _Writer(nest, "k", ())
    writer.text()
    return (*nest.dims, *writer.extra)


def run_python_kernel(
    text: str, arrays: Sequence[np.ndarray[Any, Any]], sizes: Sequence[int]
) -> None:
    """Execute a kernel's text on contiguous arrays, in the order of its parameters; slow.

    A failed check raises ArithmeticError.
    """
    scope = dict(PYTHON_RUNTIME)
    exec(compile(text, "<kernel>", "exec"), scope)
    name = text[text.index("def ") + 4 : text.index("(", text.index("def "))]
    with np.errstate(all="ignore"):
        scope[name](*(a.reshape(-1) for a in arrays), *sizes)


def identity_literal(combiner: str, dtype: DType) -> str:
    """Where a reduction starts: the value that changes nothing."""
    if combiner in ("max", "min"):
        largest = combiner == "min"
        if dtype.is_bool:
            return str(largest)
        if dtype.is_floating:
            return python_literal(float("inf") if largest else float("-inf"), dtype)
        return python_literal(dtype.max if largest else dtype.min, dtype)
    return python_literal({"sum": 0, "prod": 1, "any": 0, "all": 1}[combiner], dtype)


class _Writer(PythonLines):
    """Writes the function of one nest."""

    def __init__(self, nest: LoopNest, name: str, types: Sequence[TensorType | None]) -> None:
        super().__init__()
        self.nest = nest
        self.name = name
        self.types = types
        self.arrays = self.labels()
        self.extra: list[Extent] = []  # sizes beside the dims
        self.names: dict[int, str] = {}  # how the value of a statement is written
        self.uses = Counter(a for s in nest.statements() for a in s.args)
        self.values = 0  # named so far
        self.loads: set[int] = set()  # values whose text reads an array

    def labels(self) -> list[str]:
        """A name for each array: its label, with a number where two have the same."""
        found: list[str] = []
        for a in self.nest.arrays:
            label, k = a.label, 1
            while label in found:
                label, k = f"{a.label}_{k}", k + 1
            found.append(label)
        return found

    def text(self) -> str:
        nest = self.nest
        first, last = nest.parallel, nest.parallel + nest.folded
        with self.loops(range(first)):
            self.start_folds()
            with self.loops(range(first, last)):
                self.phases(nest.main)
            self.phases(nest.tail)
        sizes = [f"n{d}" for d in range(len(nest.dims))] + [f"s{k}" for k in range(len(self.extra))]
        head = f"def {self.name}({', '.join([*self.arrays, *sizes])}):"
        return "\n".join([*self.header(), head, *(self.lines or ["    pass"])]) + "\n"

    def header(self) -> list[str]:
        """Comments: what is read and written, and the sizes."""
        lines = []
        for role, words in (("in", "reads"), ("out", "writes"), ("scratch", "keeps a row in")):
            some = [self.array_text(i) for i, a in enumerate(self.nest.arrays) if a.role == role]
            if some:
                lines.append(f"# {words} {', '.join(some)}")
        parallel, folded = self.nest.parallel, self.nest.parallel + self.nest.folded
        sizes = []
        for d, n in enumerate(self.nest.dims):
            role = " in parallel" if d < parallel else " folded" if d < folded else ""
            sizes.append(f"n{d} = {n}{role}{self.blocks() if d == 0 else ''}")
        sizes += [f"s{k} = {n}" for k, n in enumerate(self.extra)]
        return [*lines, *([f"# {', '.join(sizes)}"] if sizes else [])]

    def blocks(self) -> str:
        """Whether the fold is cut into blocks, which threads share."""
        division = self.nest.division
        if division is None or not in_blocks(self.nest):
            return ""
        size = f" of {division.block}" if isinstance(division.block, int) else ""
        return f" in blocks{size}, combined in order"

    def array_text(self, i: int) -> str:
        t = self.types[i] if i < len(self.types) else None
        return f"{self.arrays[i]}: {t if t is not None else self.nest.arrays[i].dtype.short}"

    # -- lines and loops

    @contextmanager
    def loops(self, dims: Sequence[int]) -> Iterator[None]:
        """Nested `for` loops over dims."""
        for d in dims:
            self.line(f"for i{d} in range(n{d}):")
            self.depth += 1
        yield
        self.depth -= len(dims)

    def inner(self) -> range:
        return range(len(self.nest.dims) - self.nest.inner, len(self.nest.dims))

    # -- sizes and indices

    def size(self, extent: Extent, after: int = -1) -> str:
        """A size: a small literal, dims or a product of the last ones, or a parameter of its own.

        The products that begin after dim `after` are tried first.
        """
        if isinstance(extent, int) and abs(extent) < 2:
            return str(extent)
        dims = self.nest.dims
        products: list[tuple[Extent, str]] = []
        for first in [after + 1, *range(len(dims))]:
            total: Extent = 1
            names: list[str] = []
            for d in range(first, len(dims)):
                total = total * dims[d]
                if dims[d] != 1:
                    names.append(f"n{d}")
                products.append((total, "*".join(names)))
        for total, text in products:
            if total == extent:
                return text
            if total * -1 == extent:
                return f"-{text}"
        if extent not in self.extra:
            self.extra.append(extent)
        return f"s{self.extra.index(extent)}"

    def index(self, at: Affine) -> str:
        """`i0*n1 + i1`."""
        terms = []
        for d, stride in enumerate(at.strides):
            if isinstance(stride, int) and stride == 0:
                continue
            size = self.size(stride, d)
            body = {"1": f"i{d}", "-1": f"-i{d}"}.get(size, f"i{d}*{size}")
            terms.append(f"-i{d}*{size[1:]}" if size[0] == "-" and size != "-1" else body)
        if not (isinstance(at.offset, int) and at.offset == 0):
            terms.append(self.size(at.offset))
        return " + ".join(terms).replace("+ -", "- ") or "0"

    def element(self, access: Access) -> str:
        return f"{self.arrays[access.array]}[{self.index(access.at)}]"

    # -- phases

    def start_folds(self) -> None:
        """Accumulators of the folded reductions."""
        for phase in self.nest.main:
            for s in phase.stmts:
                if s.fn != "reduce" or s.attr.kind == "row":
                    continue
                start = identity_literal(s.attr.combiner, s.dtype)
                if s.attr.kind == "full":
                    self.line(f"{self.accumulator(s)} = {start}")
                    continue
                with self.loops(self.inner()):
                    self.line(f"{self.element(s.attr.row)} = {start}")

    def accumulator(self, s: Stmt) -> str:
        word = _WORDS.get(s.attr.combiner, s.attr.combiner)
        self.names[s.id] = f"{word}{self.values}"
        self.values += 1
        return self.names[s.id]

    def phases(self, phases: Sequence[Phase]) -> None:
        for phase in phases:
            if phase.kind == "row":
                self.statements(phase)
                continue
            for s in phase.stmts:
                if s.fn == "reduce" and s.attr.kind == "row":
                    start = identity_literal(s.attr.combiner, s.dtype)
                    self.line(f"{self.accumulator(s)} = {start}")
            with self.loops(self.inner()):
                before = len(self.lines)
                self.statements(phase)
                if len(self.lines) == before and self.nest.inner:
                    self.line("pass")

    def statements(self, phase: Phase) -> None:
        readers = {a: k for k, s in enumerate(phase.stmts) for a in s.args}
        for k, s in enumerate(phase.stmts):
            if s.fn == "store":
                self.line(f"{self.element(s.attr)} = {self.names[s.args[0]]}", s.where)
            elif s.fn == "reduce":
                self.reduce(s)
            elif s.fn == "require":
                self.line(self.expression(s), s.where)
            else:
                self.value(s, phase.stmts[k + 1 : readers.get(s.id, k) + 1])

    def value(self, s: Stmt, until: Sequence[Stmt]) -> None:
        """Give the value of `s` a name, or write it where the last of `until` reads it."""
        text = self.expression(s)
        reads = s.fn in ("load", "load_at", "load_in") or any(a in self.loads for a in s.args)
        if s.fn in ("const", "size") or self.is_inlined(s, text, reads, until):
            self.names[s.id] = text
            if reads:
                self.loads.add(s.id)
            return
        self.names[s.id] = f"v{self.values}"
        self.values += 1
        self.line(f"{self.names[s.id]} = {text}", s.where)

    def is_inlined(self, s: Stmt, text: str, reads: bool, until: Sequence[Stmt]) -> bool:
        if self.uses[s.id] != 1 or not until or len(text) > LONGEST:
            return False
        if reads and any(t.fn in ("store", "reduce", "require") for t in until[:-1]):
            return False  # a value that is read before a store must not move behind it
        return s.fn in _TRIVIAL or _line(s.where) == _line(until[-1].where)

    def reduce(self, s: Stmt) -> None:
        reduction: Reduction = s.attr
        total = self.element(reduction.row) if reduction.row is not None else self.names[s.id]
        value, combiner = self.names[s.args[0]], reduction.combiner
        if s.dtype.is_bool:
            combiner = "all" if combiner in ("all", "min", "prod") else "any"
        if combiner in _INFIX:
            self.line(f"{total} {_INFIX[combiner]}= {value}", s.where)
        else:
            self.line(f"{total} = {combiner}imum({total}, {value})", s.where)

    def expression(self, s: Stmt) -> str:
        args = [self.names[a] for a in s.args]
        if s.fn == "load":
            return self.element(s.attr)
        if s.fn == "load_at":
            return self.picked(s.attr, args)
        if s.fn == "load_in":
            zero = python_literal(0, s.dtype)
            return tidy(f"({self.element(s.attr)} if {args[0]} else {zero})")
        if s.fn == "index":
            return f"np.int64({self.index(s.attr)})"
        if s.fn == "size":
            return f"np.int64({self.size(s.attr)})"
        return tidy(python_expression(s.fn, args, s.dtype, s.attr))

    def picked(self, access: Access, args: list[str]) -> str:
        """An element at index values: each times its stride, after the place of the loop."""
        assert access.bounds is not None
        stride = self.size(access.bounds[0])
        place = self.index(access.at)
        index = args[0] if args[0].isidentifier() or stride == "1" else f"({args[0]})"
        step = index if stride == "1" else f"{index}*{stride}"
        return f"{self.arrays[access.array]}[{step if place == '0' else f'{place} + {step}'}]"


def tidy(text: str) -> str:
    """An expression without needless parentheses.

    >>> tidy("(x * y) + (z[i*n + j])"), tidy("x - (y - z)")
    ('x * y + z[i*n + j]', 'x - (y - z)')
    """
    if "(" not in text:
        return text
    return re.sub(
        r"\[([^\[\]]+)\]", lambda m: m[0].replace(" * ", "*"), ast.unparse(ast.parse(text))
    )


def _line(where: Where | None) -> str:
    return where.short() if where is not None else ""
