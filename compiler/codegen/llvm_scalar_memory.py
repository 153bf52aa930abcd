"""Values of scalar loops: registers, memory that is read where it lies, ranges; and sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_memory import leave
from graphgrad.compiler.codegen.llvm_numbers import is_number
from graphgrad.compiler.codegen.llvm_scalar import (
    FunctionText,
    Lanes,
    ModuleParts,
    VectorEmitter,
    llvm_type,
)
from graphgrad.compiler.codegen.llvm_vectors import memory_type
from graphgrad.compiler.dims import Dim, Extent, Symbol, symbols_of
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.ir import Value
from graphgrad.compiler.kernels.carried_arrays import is_small
from graphgrad.compiler.kernels.scalar_loops import (
    Layout,
    contiguous,
    is_power_of_two,
)
from graphgrad.compiler.scalar.exponential import exp_of_moderate, is_moderate
from graphgrad.compiler.scalar.logarithm import is_normal, log_of_normal
from graphgrad.compiler.scalar.trigonometric import cos_near_zero, is_near_zero, sin_near_zero
from graphgrad.compiler.types import TensorType, element_count

LITERAL_SIZE = 64  # sizes up to this are written into the function, others are arguments

# Functions of which usual arguments need less: which those are, and what is computed of them.
USUAL: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sin": (is_near_zero, sin_near_zero),
    "cos": (is_near_zero, cos_near_zero),
    "exp": (is_moderate, exp_of_moderate),
    "log": (is_normal, log_of_normal),
}

Small = tuple[Lanes, ...]  # a small value, in row-major order


@dataclass(frozen=True, slots=True)
class Held:
    """A held value: `pointer` is where its layout starts counting. Inputs of the function stay as
    they are while it runs; what it writes itself does not."""

    pointer: str
    layout: Layout
    dtype: DType
    is_input: bool


@dataclass(frozen=True, slots=True)
class Range:
    """Values that are computed where they are read, from their place."""

    element: Callable[[str], Lanes]


def extent_of(symbol: Symbol) -> Dim:
    """A size that is a symbol by itself."""
    return Dim((((symbol,), 1),))


Known: TypeAlias = Any  # Small, Held or Range


class ScalarEmitter(VectorEmitter):
    """One lane, that knows how to fail.

    A step of a loop waits for the one before, so the way through a function is to be short: where
    processors can guess which way that is, it is a branch.
    """

    is_serial = True

    def __init__(self, text: FunctionText, size: Callable[[Extent], str]) -> None:
        super().__init__(text, 1, "entry")
        self._size = size  # as an operand
        self.failures: dict[str, int] = {}  # of the node at work

    def size(self, extent: Extent) -> Lanes:
        """A size, as an int64."""
        return Lanes(self._size(extent), dtypes.int64)

    def _require(self, cond: Lanes, a: Lanes, b: Lanes, dtype: DType, kind: str) -> Lanes:
        """Leave the function with a filled status record where `cond` is false."""
        failed, ok = self.text.name("fail"), self.text.name("ok")
        self.text.line(f"br i1 {cond.text}, label %{ok}, label %{failed}")
        self.text.block(failed)
        leave(self.text, self.failures[kind], "0", a, b)
        self.begin(ok)
        return cond

    def named(self, fn: str, args: tuple[Lanes, ...], attr: Any = None) -> Lanes:
        """As the base class; of usual arguments by a branch, without what others need."""
        if fn in ("floordiv", "mod") and args[0].dtype.is_integer:
            by = args[1].number
            if by is not None and is_power_of_two(by):
                x, by = args[0], int(by)
                return self.and_(x, by - 1) if fn == "mod" else self.shifted(x, by.bit_length() - 1)
        if fn not in USUAL:
            return super().named(fn, args, attr)  # type: ignore[no-any-return]
        is_usual, short = USUAL[fn]
        (x,), key = args, f"{fn} {self.typed(args[0])}"
        if key not in self._known:
            ways = [lambda: short(self, x), lambda: super(ScalarEmitter, self).named(fn, args)]
            self._known[key] = self.either(is_usual(self, x), *ways).text
        return Lanes(self._known[key], x.dtype)

    def shifted(self, x: Lanes, bits: int) -> Lanes:
        """x divided by a power of two, rounded down."""
        return self.ashr(x, bits) if x.dtype.kind == "i" else self.lshr(x, bits)  # type: ignore[no-any-return]

    def either(
        self, condition: Lanes, taken: Callable[[], Lanes], other: Callable[[], Lanes]
    ) -> Lanes:
        """One of two values, computed where it is needed."""
        labels = [self.text.name(s) for s in ("then", "else", "joined")]
        self.text.line(f"br i1 {condition.text}, label %{labels[0]}, label %{labels[1]}")
        ways = []
        for label, compute in zip(labels, (taken, other), strict=False):
            with self.aside():
                self.begin(label)
                found = compute()
                ways.append((self.label, found))
                self.text.line(f"br label %{labels[2]}")
        self.begin(labels[2])
        return self.joined(ways)

    def joined(self, ways: Sequence[tuple[str | None, Lanes]]) -> Lanes:
        """The value that belongs to the block from which control comes."""
        dtype = ways[0][1].dtype
        if len({x.text for _, x in ways}) == 1:
            return ways[0][1]
        arms = ", ".join(f"[ {x.text}, %{label} ]" for label, x in ways)
        return Lanes(self.text.assign(f"phi {llvm_type(dtype)} {arms}"), dtype)

    def begin(self, label: str) -> None:
        """Begin a basic block."""
        self.text.block(label)
        self.label = label

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is emitted in here is not known after it: it may not have run."""
        before = dict(self._known)
        yield
        self._known = before


class ScalarMemory:
    """Where values lie, and sizes, in a function of scalar code."""

    def __init__(self, parts: ModuleParts) -> None:
        self.parts = parts
        self.text = FunctionText(parts)
        self.e = ScalarEmitter(self.text, self.size)
        self.sizes: dict[Extent, int] = {}  # with their numbers, in order
        self.counts: dict[Extent, str] = {}  # sizes that values tell
        self.frame: list[str] = []  # memory of the function

    def place(self, v: Value, targets: dict[Value, str]) -> str:
        """Where a loop within stacks: where its result is to be, or in the frame."""
        if v in targets:
            return targets[v]
        name = "%" + self.text.name("stack")
        count, size = int(element_count(v.type.shape)), v.type.dtype.itemsize
        self.frame.append(f"  {name} = alloca [{max(1, count * size)} x i8], align 64")
        return name

    def in_rows(self, x: Known, v: Value) -> Held | Range:
        """A value of which each step reads a row: a small one is put into memory."""
        if isinstance(x, Held | Range):
            return x
        place = self.place(v, {})
        self.store(x, place, v.type)
        return Held(place, contiguous(v.type.shape), v.type.dtype, False)

    def entry(self, x: Held | Range, row: str) -> Known:
        """An entry along the first axis."""
        if isinstance(x, Range):
            return (x.element(row),)
        pointer = self.moved(x, self.product(row, x.layout.strides[0]))
        return Held(pointer, x.layout.rows(), x.dtype, x.is_input)

    def moved(self, x: Held, offset: str) -> str:
        """The address of an element of a held value, from where its layout starts."""
        return self.element(x.pointer, x.dtype, self.sum(self.size(x.layout.start), offset))

    def element(self, pointer: str, dtype: DType, offset: str) -> str:
        if offset == "0":
            return pointer
        return self.e.emit(f"getelementptr {memory_type(dtype)}, ptr {pointer}, i64 {offset}")

    def loaded(self, x: Known) -> Small:
        """The elements of a small value."""
        if not isinstance(x, Held):
            return x  # type: ignore[no-any-return]
        shape, strides = x.layout.shape, x.layout.strides
        found = []
        for at in np.ndindex(*shape):
            offset = "0"
            for i, stride in zip(at, strides, strict=True):
                offset = self.sum(offset, self.product(str(i), stride))
            found.append(self.load(self.moved(x, offset), x.dtype, x.is_input))
        return tuple(found)

    def load(self, pointer: str, dtype: DType, is_input: bool) -> Lanes:
        """One element. Nothing writes to inputs, so LLVM may read them where it likes."""
        what = f"load {memory_type(dtype)}, ptr {pointer}, align {dtype.itemsize}"
        if is_input:
            mark = self.parts.globals.setdefault("!{}", "!1")
            loaded = self.e.emit(f"{what}, !invariant.load {mark}")
        else:
            loaded = self.text.assign(what)
        if dtype.is_bool:
            loaded = self.e.emit(f"icmp ne i8 {loaded}, 0")
        return Lanes(loaded, dtype)

    def store(self, x: Known, pointer: str, t: TensorType) -> None:
        """Write a value to its place, in row-major order."""
        if isinstance(x, Held) and not is_small(t):
            self.move(self.moved(x, "0"), pointer, self.bytes_of(t))
            return
        for k, lane in enumerate(self.loaded(x)):
            self.put(lane, self.element(pointer, lane.dtype, str(k)))

    def put(self, lane: Lanes, pointer: str) -> None:
        """Write one element."""
        text, size = lane.text, lane.dtype.itemsize
        if lane.dtype.is_bool:
            text = self.e.emit(f"zext i1 {text} to i8")
        self.text.line(f"store {memory_type(lane.dtype)} {text}, ptr {pointer}, align {size}")

    def move(self, source: str, pointer: str, count: str) -> None:
        """Copy so many bytes, to another place."""
        if source != pointer:
            self.parts.declares.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
            what = f"ptr {pointer}, ptr {source}, i64 {count}, i1 false"
            self.text.line(f"call void @llvm.memcpy.p0.p0.i64({what})")

    def fill(self, pointer: str, byte: str, count: str) -> None:
        """So many bytes of one value."""
        self.parts.declares.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        what = f"ptr {pointer}, i8 {byte}, i64 {count}, i1 false"
        self.text.line(f"call void @llvm.memset.p0.i64({what})")

    def row_of(self, pointer: str, t: TensorType, row: str) -> str:
        """The address of a row of values of one type."""
        return self.element(pointer, t.dtype, self.product(row, element_count(t.shape)))

    def bytes_of(self, t: TensorType) -> str:
        return self.size(element_count(t.shape) * t.dtype.itemsize)

    # -- sizes

    def size(self, extent: Extent) -> str:
        """A size as an operand: a literal where it is small and known, else an argument."""
        if isinstance(extent, int) and abs(extent) <= LITERAL_SIZE:
            return str(extent)
        if extent in self.counts:
            return self.counts[extent]
        if isinstance(extent, Dim) and any(extent_of(x) in self.counts for x in symbols_of(extent)):
            return self.polynomial(extent)
        return f"%n{self.sizes.setdefault(extent, len(self.sizes))}"

    def polynomial(self, extent: Dim) -> str:
        """A size that depends on what the function has counted."""
        total = "0"
        for monomial, factor in extent.terms:
            term = self.size(factor)
            for atom in monomial:
                assert isinstance(atom, Symbol)  # `_Check` has refused quotients
                term = self.product(term, extent_of(atom))
            total = self.sum(total, term)
        return total

    def product(self, a: str, b: Extent | str) -> str:
        """a * b, of sizes and indices."""
        b = b if isinstance(b, str) else self.size(b)
        if "0" in (a, b):
            return "0"
        if "1" in (a, b):
            return b if a == "1" else a
        if is_number(a) and is_number(b):
            return str(int(a) * int(b))
        return self.e.emit(f"mul i64 {a}, {b}")

    def sum(self, a: str, b: str) -> str:
        """a + b, of sizes and indices."""
        if "0" in (a, b):
            return b if a == "0" else a
        if is_number(a) and is_number(b):
            return str(int(a) + int(b))
        return self.e.emit(f"add i64 {a}, {b}")
