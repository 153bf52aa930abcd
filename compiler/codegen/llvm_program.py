"""Kernels and library calls as one LLVM module: the function that runs a Program's native steps.

    define i32 @run_0(ptr %status, ptr %table)

reads slots, sizes and routine addresses from the call's table (layout: `runtime.program`), lays out
each kernel's arguments on the stack and calls it. Sizes come from the table, not as literals, so
one module serves every shape with the same structure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

from graphgrad.compiler.codegen.llvm_blas_calls import BlasCall, blas_kernel
from graphgrad.compiler.codegen.llvm_blocks import BlocksEmitter
from graphgrad.compiler.codegen.llvm_convolution_kernel import ConvolutionKernel
from graphgrad.compiler.codegen.llvm_few_vectors import lanes_of_row
from graphgrad.compiler.codegen.llvm_flushing import flushed
from graphgrad.compiler.codegen.llvm_growth import POINTERS, numbered, record_word
from graphgrad.compiler.codegen.llvm_lapack import lapack_text
from graphgrad.compiler.codegen.llvm_launches import ROWS, SHARE
from graphgrad.compiler.codegen.llvm_narrow import NarrowEmitter
from graphgrad.compiler.codegen.llvm_nest import NestEmitter
from graphgrad.compiler.codegen.llvm_pools import PoolEmitter
from graphgrad.compiler.codegen.llvm_products import ProductEmitter
from graphgrad.compiler.codegen.llvm_python import declare_call, python_call
from graphgrad.compiler.codegen.llvm_records import Records
from graphgrad.compiler.codegen.llvm_row_lanes import RowLanesEmitter
from graphgrad.compiler.codegen.llvm_running import running_text
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.codegen.llvm_scalar_growth import NoMemory
from graphgrad.compiler.codegen.llvm_scalar_loops import Numbers, ScalarLoopEmitter
from graphgrad.compiler.codegen.llvm_scatters import scatter_text, sizes_of
from graphgrad.compiler.codegen.llvm_tiles import TileEmitter
from graphgrad.compiler.codegen.llvm_wide import WideEmitter
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.ir import Node
from graphgrad.compiler.kernels.batches import at_length
from graphgrad.compiler.kernels.division import (
    LANES,
    in_blocks,
    pool_division,
    small_product_division,
)
from graphgrad.compiler.kernels.factorisations import Factorisation
from graphgrad.compiler.kernels.loops import Division, LoopNest, is_flat
from graphgrad.compiler.kernels.pools import Pool
from graphgrad.compiler.kernels.products import Product
from graphgrad.compiler.kernels.running import Running
from graphgrad.compiler.kernels.scatters import Scatter
from graphgrad.compiler.kernels.short_rows import has_rows_in_lanes, is_narrow
from graphgrad.compiler.kernels.tiles import crosswise
from graphgrad.compiler.kernels.wide_folds import rows_in_one
from graphgrad.compiler.types import element_count
from graphgrad.runtime.program import (
    PARALLEL,
    PRODUCTS,
    PYTHON,
    RECORD_HEAD,
    Native,
    Size,
)

# Run functions are cut into parts of about so many lines: LLVM's time grows with the square of a
# function's length.
PART_LINES = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array lies during a call: a slot of the table, a byte offset into the arena, or, in
    the region of a loop, what a word of its frame points to; what a register holds; or an array of
    a record."""

    slot: int = -1
    offset: Size = 0
    word: int = -1
    register: str = ""
    record: int = -1
    array: int = 0


@dataclass(frozen=True, slots=True)
class KernelText:
    """One kernel: its name (a hash of its text), text, and the sizes it takes as arguments."""

    name: str
    text: str
    sizes: tuple[Size, ...]


def nest_emitter(nest: LoopNest, name: str, parts: ModuleParts) -> NestEmitter:
    """What emits the function, or the functions, of a nest."""
    if in_blocks(nest):
        emitter = BlocksEmitter if rows_in_one(nest) == 1 else WideEmitter
        return emitter(nest, name, parts)
    if has_rows_in_lanes(nest):
        return RowLanesEmitter(nest, name, parts)
    if is_narrow(nest):
        return NarrowEmitter(nest, name, parts)
    if crosswise(nest):
        return TileEmitter(nest, name, parts)
    return NestEmitter(nest, name, parts, lanes_of_row(nest))


def kernel_text(nest: LoopNest, parts: ModuleParts) -> KernelText:
    """The function of a nest, named by its content: equal kernels are one function."""
    emitter = nest_emitter(nest, "KERNEL", parts)
    text = emitter.emit()
    return named(
        nest.title, text, (n if isinstance(n, tuple) else to_size(n) for n in emitter.sizes)
    )


def product_text(product: Product, parts: ModuleParts) -> KernelText:
    """The function of a small product."""
    emitter = ProductEmitter(product, "KERNEL", parts)
    text = emitter.emit()
    return named("matmul", text, map(to_size, emitter.sizes))


def named(title: str, text: str, sizes: Iterable[Size]) -> KernelText:
    """`text`, whose function is @KERNEL, under a name that says what it is."""
    readable = re.sub(r"\W+", "_", title.replace(", ", "_"))[:40].strip("_")
    name = f"k_{readable}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return KernelText(name, text.replace("@KERNEL", f"@{name}"), tuple(sizes))


@dataclass
class ModuleWriter:
    """Collects kernels and the steps of run functions."""

    slots: int  # pointers before the arena's word
    parts: ModuleParts = field(default_factory=ModuleParts)
    kernels: dict[str, str] = field(default_factory=dict)
    texts: dict[Any, KernelText] = field(default_factory=dict)  # by the key of the nest
    sizes: dict[Size, int] = field(default_factory=dict)  # with their numbers, in order
    runs: dict[tuple[Size, ...], int] = field(default_factory=dict)  # with their first numbers
    routines: dict[str, int] = field(default_factory=dict)
    shared: dict[tuple[Size, Size], None] = field(default_factory=dict)  # see Program
    lines: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)  # instructions of the lines, by text
    run_parts: list[str] = field(default_factory=list)  # of the run function at work
    entries: list[str] = field(default_factory=list)
    regions: list[str] = field(default_factory=list)  # the functions that run functions call
    region_name: str = ""  # of the region being written
    region_count: int = 0
    tables: list[str] = field(default_factory=list)  # of the rows of batches
    count: int = 0
    argument_words: int = 1
    pointers: list[int] = field(default_factory=list)  # of records: how many each has
    calls_python: bool = False  # does the run function at work, or what it calls?
    flush_on: str = ""  # the machine, where its threads are to take subnormal numbers for zero

    def __post_init__(self) -> None:
        self.records = Records(self, self.pointers)

    def fresh(self) -> str:
        self.count += 1
        return f"%r{self.count}"

    def emit(self, text: str) -> str:
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return name

    def once(self, text: str) -> str:
        """`emit`, for what a run function reads more than once: nothing writes to the table."""
        if text not in self.known:
            self.known[text] = self.emit(text)
        return self.known[text]

    @contextmanager
    def branch(self) -> Iterator[None]:
        """What is emitted once in here is not known after it: it may not have run."""
        before = dict(self.known)
        yield
        self.known = before

    def word(self, kind: str, index: int) -> str:
        """A word of the table, of kind size, run or routine: numbered when the module is done."""
        return f"${kind}{index}$"

    def size(self, size: Size) -> str:
        """A size as an i64 operand, read from the table."""
        if isinstance(size, int) and 0 <= size <= 1:
            return str(size)
        at = self.once(f"getelementptr i64, ptr %table, i64 {self.number(size)}")
        return self.once(f"load i64, ptr {at}")

    def run_of_sizes(self, sizes: tuple[Size, ...]) -> str:
        """The address of sizes that lie one behind the other in the table."""
        sizes = tuple(numbered(n, self.records.record_of) for n in sizes)
        number = self.runs.setdefault(sizes, sum(map(len, self.runs)))
        return self.once(f"getelementptr i64, ptr %table, i64 {self.word('run', number)}")

    def pointer(self, place: Place) -> str:
        """The address of an array."""
        if place.register:
            return place.register
        if place.record >= 0:
            at = self.once(record_word(self.records.address(place.record), POINTERS + place.array))
            return self.once(f"load ptr, ptr {at}")
        if place.word >= 0:
            at = self.once(f"getelementptr ptr, ptr %frame, i64 {place.word}")
            return self.once(f"load ptr, ptr {at}")
        if place.slot >= 0:
            at = self.once(f"getelementptr ptr, ptr %table, i64 {place.slot}")
            return self.once(f"load ptr, ptr {at}")
        at = self.once(f"getelementptr ptr, ptr %table, i64 {self.slots}")
        arena = self.once(f"load ptr, ptr {at}")
        return self.once(f"getelementptr i8, ptr {arena}, i64 {self.size(place.offset)}")

    def routine(self, name: str) -> str:
        number = self.routines.setdefault(name, len(self.routines))
        at = self.once(f"getelementptr ptr, ptr %table, i64 {self.word('routine', number)}")
        return self.once(f"load ptr, ptr {at}")

    # -- steps

    def kernel(self, nest: LoopNest, places: list[Place]) -> KernelText:
        """Call the kernel of `nest` on arrays at `places`."""
        kernel = self.text_of(nest)
        self.arguments(kernel, places)
        fails = any(s.failures for s in nest.statements())
        status = self.share(kernel.name, items(nest), nest.division, PARALLEL)
        if fails:
            self.leave_if_failed(status)
        if in_blocks(nest):
            status = self.emit(f"call i32 @{kernel.name}_end(ptr %status, ptr %arguments)")
            if fails:
                self.leave_if_failed(status)
        return kernel

    def batch(
        self,
        nest: LoopNest,
        rows: list[tuple[list[Place], Size]],
        items: Size,
        division: Division | None,
    ) -> KernelText:
        """Call the kernel of `nest`, which is for any length, on rows of arrays and a length."""
        kernel = self.text_of(nest)
        self.cut()
        self.kernels.setdefault(kernel.name, kernel.text)
        codes = [
            code
            for places, length in rows
            for code in (
                self.number(length),
                *map(self.place_code, places),
                *(self.number(at_length(n, length)) for n in kernel.sizes),
            )
        ]
        name = f"@rows_{len(self.tables)}"
        words = ", ".join(f"i32 {code}" for code in codes)
        self.tables.append(f"{name} = private constant [{len(codes)} x i32] [{words}]")
        self.parts.functions["rows"] = ROWS.format(slots=self.slots, mask=LANES - 1, lanes=LANES)
        self.parts.declares |= {f"declare i64 @llvm.s{m}.i64(i64, i64)" for m in ("max", "min")}
        width = len(codes) // len(rows) - 1
        self.store_arguments(
            [("%table", "ptr"), (f"@{kernel.name}", "ptr"), (name, "ptr")]
            + [(str(len(rows)), "i64"), (str(width), "i64")]
        )
        self.share("rows", items, division, PARALLEL)
        return kernel

    def number(self, size: Size) -> str:
        """The table word of a size."""
        size = numbered(size, self.records.record_of)
        return self.word("size", self.sizes.setdefault(size, len(self.sizes)))

    def place_code(self, place: Place) -> str:
        """A place as `ROWS` reads it."""
        return str(place.slot) if place.slot >= 0 else f"-{self.number(place.offset)}"

    def arguments(
        self, kernel: KernelText, places: list[Place], pointers: Sequence[str] = ()
    ) -> None:
        """Lay out the arguments of a kernel, which becomes part of the module: where its arrays
        lie, its sizes, and further pointers."""
        self.cut()
        self.kernels.setdefault(kernel.name, kernel.text)
        words = [(self.pointer(p), "ptr") for p in places]
        words += [(self.size(n), "i64") for n in kernel.sizes]
        words += [(p, "ptr") for p in pointers]
        self.store_arguments(words)

    def store_arguments(self, words: list[tuple[str, str]]) -> None:
        self.argument_words = max(self.argument_words, len(words))
        for i, (value, type_) in enumerate(words):
            at = self.once(f"getelementptr i64, ptr %arguments, i64 {i}")
            self.lines.append(f"  store {type_} {value}, ptr {at}")

    def share(self, kernel: str, count: Size, division: Division | None, routine: str) -> str:
        """Run a kernel over its items: here, or where there is much to do on all threads."""
        if division is None:
            items = self.size(count)
            return self.emit(f"call i32 @{kernel}(ptr %status, i64 0, i64 {items}, ptr %arguments)")
        self.parts.functions["share"] = SHARE
        pair = (numbered(n, self.records.record_of) for n in (division.count, division.least))
        self.shared[tuple(pair)] = None  # type: ignore[index]
        words = self.run_of_sizes((division.count, division.least, division.grain))
        return self.emit(
            f"call i32 @share(ptr %status, ptr {self.routine(routine)}, ptr @{kernel}, "
            f"ptr {words}, ptr %arguments)"
        )

    def text_of(self, nest: LoopNest) -> KernelText:
        """The text of a nest, written once for equal ones: the layers of a network are."""
        key = nest.key()
        found = self.texts.get(key)
        if found is None:
            found = self.texts[key] = kernel_text(nest, self.parts)
        return found

    def leave_if_failed(self, status: str) -> None:
        bad, leave, on = self.fresh(), self.fresh()[1:], self.fresh()[1:]
        self.lines.append(f"  {bad} = icmp ne i32 {status}, 0")
        self.lines.append(f"  br i1 {bad}, label %{leave}, label %{on}")
        self.lines += [f"{leave}:", "  ret i32 1", f"{on}:"]

    def copy(self, source: Place, target: Place, nbytes: Size) -> None:
        """Copy an array to another place."""
        self.memcpy(self.pointer(source), self.pointer(target), self.amount(nbytes))

    def amount(self, nbytes: Size) -> str:
        """So many bytes to copy: few are known to LLVM, which moves them without a call."""
        return str(nbytes) if isinstance(nbytes, int) and nbytes <= 64 else self.size(nbytes)

    def memcpy(self, source: str, target: str, nbytes: str) -> None:
        self.parts.declares.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        what = f"ptr {target}, ptr {source}, i64 {nbytes}, i1 false"
        self.lines.append(f"  call void @llvm.memcpy.p0.p0.i64({what})")

    def blas(self, call: BlasCall, places: tuple[Place, Place, Place]) -> None:
        """A product through CBLAS."""
        name = f"k_{call.routine}"
        self.kernels.setdefault(name, blas_kernel(call, name))
        words = [self.routine(call.routine), *map(self.pointer, places)]
        words.append(self.run_of_sizes(call.words))
        self.store_arguments([(word, "ptr") for word in words])
        self.share(name, call.count, call.division, PRODUCTS)

    def factorisation(
        self, f: Factorisation, integer: str, places: list[Place], failure: int
    ) -> KernelText:
        """Call LAPACK for each matrix of a stack: inputs, outputs and scratch lie at `places`."""
        text = lapack_text(f, integer, failure, self.parts)
        sizes = *map(to_size, f.sizes), f.integer_bytes, f.scratch_bytes
        kernel = named(f.op, text, sizes)
        self.arguments(kernel, places, [self.routine(f.routine)])
        count = to_size(element_count(f.stack))
        status = self.share(kernel.name, count, f.division, PRODUCTS)
        if failure >= 0:
            self.leave_if_failed(status)
        return kernel

    def running(self, r: Running, places: list[Place]) -> KernelText:
        """Call the kernel of a running fold: its inputs and its result lie at `places`."""
        text = running_text(r, self.parts)
        kernel = named(f"running_{r.fold}", text, map(to_size, (r.size, r.inner)))
        self.arguments(kernel, places)
        self.share(kernel.name, to_size(r.outer), r.division, PARALLEL)
        return kernel

    def product(self, product: Product, places: list[Place]) -> KernelText:
        """Call the kernel of a small product on arrays at `places`."""
        kernel = product_text(product, self.parts)
        self.arguments(kernel, places)
        self.share(kernel.name, to_size(product.parts), small_product_division(product), PARALLEL)
        return kernel

    def convolution(self, emitter: ConvolutionKernel, places: list[Place]) -> KernelText:
        """Call the kernels of a convolution: its inputs, result, buffers and what an epilogue
        reads and writes lie at `places`."""
        key = type(emitter), emitter.conv, emitter.epilogue
        kernel = self.texts.get(key)
        if kernel is None:
            text = emitter.emit(self.parts)
            kernel = named(emitter.title, text, map(to_size, emitter.sizes))
            self.texts[key] = kernel
        self.arguments(kernel, places)
        for launch in emitter.launches:
            name = f"{kernel.name}{launch.suffix}"
            self.share(name, launch.count, launch.division, PARALLEL)
        return kernel

    def scatter(self, scatter: Scatter, places: list[Place], failure: int) -> KernelText:
        """Call the kernel of a scatter: its result, the updates and the indices lie at `places`."""
        sizes = map(to_size, sizes_of(scatter))
        kernel = named(f"scatter_{scatter.mode}", scatter_text(scatter, failure), sizes)
        self.arguments(kernel, places)
        self.leave_if_failed(self.share(kernel.name, to_size(scatter.outer), None, PARALLEL))
        return kernel

    def scalar_loop(
        self, node: Node, places: list[Place], numbers: Numbers, no_memory: NoMemory,
        calls: Callable[[Node], int], own: int = -1,
    ) -> KernelText:  # fmt: skip
        """Call the function of a loop: its inputs and its outputs lie at `places`; what it stacks
        for as long as it runs is for the record `own`."""
        emitter = ScalarLoopEmitter(node, numbers, no_memory, calls, self.parts)
        text = emitter.emit()
        kernel = named(node.op.name, text, map(to_size, emitter.sizes))
        records = [own if own >= 0 and k == 0 else self.records.add(n)
                   for k, n in enumerate(emitter.records)]  # fmt: skip
        places = [*places, *(Place(register=self.records.address(k)) for k in records)]
        python = []
        if emitter.calls_python:
            declare_call(self.parts, self.flush_on)
            python, self.calls_python = ["%table", self.routine(PYTHON)], True
        self.arguments(kernel, places, python)
        self.leave_if_failed(self.share(kernel.name, 1, None, PARALLEL))
        if own >= 0:
            self.records.counted(own)
        return kernel

    def pool(self, pool: Pool, places: list[Place]) -> KernelText:
        """Call the kernel of a pooling operation: its inputs and its result lie at `places`."""
        emitter = PoolEmitter(pool, "KERNEL", self.parts)
        text = emitter.emit()
        kernel = named(pool.routine, text, map(to_size, emitter.sizes))
        self.arguments(kernel, places)
        self.share(kernel.name, to_size(pool.parts), pool_division(pool), PARALLEL)
        return kernel

    def python(self, number: int, places: list[Place], guard: Place | None = None) -> None:
        """Call Python for PythonCall `number`, whose arrays lie at `places`: where the bool at
        `guard` is false, if there is one."""
        self.cut(ahead=20 + 2 * len(places))
        declare_call(self.parts, self.flush_on)
        self.calls_python = True
        after = ""
        if guard is not None:
            flag = self.emit(f"load i8, ptr {self.pointer(guard)}")
            holds = self.emit(f"icmp ne i8 {flag}, 0")
            fails, after = self.fresh()[1:], self.fresh()[1:]
            self.lines += [f"  br i1 {holds}, label %{after}, label %{fails}", f"{fails}:"]
        with self.branch():
            python = self.routine(PYTHON)
            self.store_arguments([("0", "i64"), *((self.pointer(p), "ptr") for p in places)])
            self.leave_if_failed(self.emit(python_call(python, "%table", number, "%arguments")))
        if after:
            self.lines += [f"  br label %{after}", f"{after}:"]

    # -- the module

    @property
    def open(self) -> bool:
        """Have steps been written since the last run function was closed?"""
        return bool(self.lines or self.run_parts)

    def cut(self, ahead: int = 0) -> None:
        """Between steps: begin another part of the run function where it is long enough, or will be
        when so many lines follow that belong together."""
        if len(self.lines) + ahead >= PART_LINES:
            self.end_part()

    def end_part(self) -> None:
        name = f"{self.name}_part_{len(self.run_parts)}"
        self.run_parts.append(self.function(f"define internal i32 @{name}", "noinline nounwind"))

    def end_entry(self) -> Native:
        """Close the run function that has been written: the step that runs it."""
        name, calls_python = self.name, self.calls_python
        self.calls_python = False
        if not self.flush_on:
            self.entries.append(self.whole("define"))
            return Native(name, calls_python)
        within = self.whole("define internal", "noinline nounwind")
        self.entries.append(f"{within}\n\n{flushed(name, self.flush_on, self.parts)}")
        return Native(f"flushed_{name}", calls_python)

    def whole(self, head: str, attributes: str = "nounwind") -> str:
        """The function that has been written, with its parts."""
        if self.run_parts:
            self.end_part()
            for k in range(len(self.run_parts)):
                call = f"call i32 @{self.name}_part_{k}({self.parameters})"
                self.leave_if_failed(self.emit(call))
        last = self.function(f"{head} i32 @{self.name}", attributes)
        text = "\n\n".join([*self.run_parts, last])
        self.run_parts = []
        return text

    @property
    def name(self) -> str:
        """Of the function being written."""
        return self.region_name or f"run_{len(self.entries)}"

    @property
    def parameters(self) -> str:
        """Of the function being written. The regions of a loop have a frame."""
        return "ptr %status, ptr %table" + (", ptr %frame" if self.region_name else "")

    @contextmanager
    def region(self, kind: str) -> Iterator[str]:
        """What is emitted in here becomes a function of its own, whose name this gives.

        It takes the status, the table and a frame; `call_region` calls it.
        """
        outer = self.lines, self.known, self.argument_words, self.run_parts, self.region_name
        self.lines, self.known, self.argument_words, self.run_parts = [], {}, 1, []
        self.region_name = name = f"{kind}_{self.region_count}"
        self.region_count += 1
        yield name
        self.regions.append(self.whole("define internal"))
        self.lines, self.known, self.argument_words, self.run_parts, self.region_name = outer

    def call_region(self, name: str, frame: str = "") -> None:
        """Call a region with a frame, or with that of the function being written."""
        frame = frame or ("%frame" if self.region_name else "null")
        call = f"call i32 @{name}(ptr %status, ptr %table, ptr {frame})"
        self.leave_if_failed(self.emit(call))

    def branch_to(self, condition: Place, taken: str, other: str) -> None:
        """Call one of two regions with the frame at work."""
        self.cut(ahead=20)
        flag = self.emit(f"load i8, ptr {self.pointer(condition)}")
        holds = self.emit(f"icmp ne i8 {flag}, 0")
        yes, no, after = (self.fresh()[1:] for _ in range(3))
        self.lines.append(f"  br i1 {holds}, label %{yes}, label %{no}")
        for label, region in ((yes, taken), (no, other)):
            self.lines.append(f"{label}:")
            self.call_region(region)
            self.lines.append(f"  br label %{after}")
        self.lines.append(f"{after}:")

    def function(self, head: str, attributes: str) -> str:
        """The function of the lines that have been written."""
        text = "\n".join([
            f"{head}({self.parameters}) {attributes} {{",
            "entry:",
            f"  %arguments = alloca [{self.argument_words} x i64], align 64",
            *self.lines,
            "  ret i32 0",
            "}",
        ])  # fmt: skip
        self.lines, self.argument_words, self.known = [], 1, {}
        return text

    @property
    def all_sizes(self) -> tuple[Size, ...]:
        """The sizes of the table: single ones, then runs."""
        return (*self.sizes, *chain.from_iterable(self.runs))

    def module(self) -> str:
        """The whole module; empty when nothing is native."""
        if not self.entries:
            return ""
        updates = [*self.records.updates()]  # they may read sizes of their own
        first = self.slots + 1
        run = first + len(self.sizes)
        routine = first + len(self.all_sizes)
        base = {"size": first, "run": run, "routine": routine}
        ends = accumulate((RECORD_HEAD + n for n in self.pointers), initial=0)
        records = [routine + len(self.routines) + at for at in ends]

        def number(m: re.Match[str]) -> str:
            return str(records[int(m[2])] if m[1] == "record" else base[m[1]] + int(m[2]))

        entries = [
            re.sub(r"\$(size|run|routine|record)(\d+)\$", number, e)
            for e in (*self.tables, *updates, *self.regions, *self.entries)
        ]
        return "\n\n".join([self.parts.text(), *self.kernels.values(), *entries]) + "\n"


def items(nest: LoopNest) -> Size:
    """The length of the range that the function of a nest runs over."""
    if nest.division is not None:
        return nest.division.count
    if is_flat(nest):
        return to_size(nest.dims[0])
    return to_size(element_count(nest.dims[: nest.parallel]))
