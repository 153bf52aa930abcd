"""Where the values of a nest lie: sizes, addresses, loads, stores, and checks of lanes.

`NestMemory` is the lower half of the nest emitter (`llvm_nest`): it knows the loop indices at work
and the mask of the vector, but not the loops.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen import llvm_streams as streams
from graphgrad.compiler.codegen.llvm_scalar import (
    FunctionText,
    Lanes,
    ModuleParts,
    VectorEmitter,
    llvm_type,
)
from graphgrad.compiler.codegen.llvm_vectors import (
    Mask,
    VectorMemory,
    memory_type,
    prefix_mask,
    suffix,
)
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.loops import PICKED_STRIDE, Access, Affine, LoopNest, Stmt
from graphgrad.runtime.program import STATUS_A, STATUS_B, STATUS_FAILURE, STATUS_INDEX, Size

# Inner extents below this are written into the kernel; all other sizes are arguments.
LITERAL_EXTENT = 64


class NestMemory(VectorMemory):
    """Addresses and memory accesses of one nest's function."""

    def __init__(self, nest: LoopNest, parts: ModuleParts, width: int) -> None:
        self.nest = nest
        self.parts = parts
        self.text = FunctionText(parts)
        self.block = "entry"
        self.width = width
        self.sizes: dict[Extent | Size, int] = {}  # with their numbers, in order
        self.bases: dict[int, str] = {}  # where arrays begin in the piece at work
        self.dim_values: list[str] = ["0"] * len(nest.dims)
        self.rows: dict[int, Lanes] = {}  # row-level values in scope
        self.prologue: list[str] = []  # lines of the entry block, after the sizes
        self.traffic = streams.traffic(nest)
        self.fetched = streams.fetched(nest)
        self.written = streams.written(nest, width)
        self.row_block: tuple[Sequence[str], int] = ((), 0)  # indices of rows swept at once; which
        self.flags: set[str] = set()  # i1 values of the prologue
        self.around = False  # does it write around the caches?

    # -- sizes and addresses

    def size(self, extent: Extent | Size, literal_below: int = 2) -> str:
        """A size as an operand: a literal where it is small and known, else an argument."""
        if isinstance(extent, int) and -1 <= extent < literal_below:
            return str(extent)
        return f"%n{self.sizes.setdefault(extent, len(self.sizes))}"

    def extent(self, dim: int) -> str:
        last = dim == len(self.nest.dims) - 1
        return self.size(self.nest.dims[dim], LITERAL_EXTENT if last else 2)

    def arith(self, op: str, a: str, b: str) -> str:
        """An i64 operation, folded where an operand is a neutral literal."""
        if op == "mul" and "0" in (a, b):
            return "0"
        if op == "mul" and "1" in (a, b):
            return b if a == "1" else a
        if op == "add" and "0" in (a, b):
            return b if a == "0" else a
        name = "%" + self.text.name("i")
        self.text.line(f"{name} = {op} i64 {a}, {b}")
        return name

    def offset(self, at: Affine, dims: Sequence[int]) -> str:
        """The element offset from the current indices of `dims`."""
        total = self.size(at.offset)
        for d in dims:
            total = self.arith(
                "add", total, self.arith("mul", self.dim_values[d], self.size(at.strides[d]))
            )
        return total

    def pointer(self, array: int, offset: str) -> str:
        base = self.bases.get(array, f"%p{array}")
        if offset == "0":
            return base
        name = "%" + self.text.name("a")
        element = memory_type(self.nest.arrays[array].dtype)
        self.text.line(f"{name} = getelementptr {element}, ptr {base}, i64 {offset}")
        return name

    def outer_dims(self) -> range:
        return range(len(self.nest.dims) - 1 if self.nest.inner else len(self.nest.dims))

    def stride(self, at: Affine) -> str:
        """The stride of the vectorised dim."""
        return self.size(at.strides[-1]) if self.nest.inner else "0"

    def positions(self, e: Emitter, at: Affine) -> Lanes:
        """The value of an affine expression of the loop indices, as int64."""
        base = self.offset(at, self.outer_dims())
        stride = self.stride(at)
        first = self.arith("add", base, self.arith("mul", e.index_text, stride))
        if e.width == 1:
            return Lanes(first, dtypes.int64)
        if stride == "0":
            return self.splat(Lanes(first, dtypes.int64))
        steps = Lanes(f"<{', '.join(f'i64 {k}' for k in range(e.width))}>", dtypes.int64)
        if stride != "1":
            steps = e.mul(steps, self.splat(Lanes(stride, dtypes.int64)))
        return e.add(self.splat(Lanes(first, dtypes.int64)), steps)  # type: ignore[no-any-return]

    # -- streams

    def exceeds(self, nbytes: int) -> str:
        """An i1: does the nest touch more than `nbytes`? A literal where sizes are known."""
        if self.nest.cached:
            return "false"
        known = streams.known_bytes(self.traffic)
        if known is not None:
            return "true" if known > nbytes else "false"
        name = f"%exceeds{nbytes}"
        if name not in self.flags:
            totals = []
            for k, term in enumerate(self.traffic):
                total = str(term.itemsize)
                for j, n in enumerate(term.extents):
                    part = f"{name}.{k}.{j}"
                    self.prologue.append(f"{part} = mul i64 {total}, {self.size(n)}")
                    total = part
                totals.append(total)
            total = totals[0]
            for k, other in enumerate(totals[1:]):
                self.prologue.append(f"{name}.{k} = add i64 {total}, {other}")
                total = f"{name}.{k}"
            self.prologue.append(f"{name} = icmp sgt i64 {total}, {nbytes}")
            self.flags.add(name)
        return name

    def store_vector(
        self, e: VectorEmitter, array: int, value: str, pointer: str, dtype: DType
    ) -> None:
        """Neighbouring elements; around the caches where the vector is a whole line."""
        store = f"store {value}, ptr {pointer}, align"
        plain = f"{store} {dtype.itemsize}"
        exceeds = self.exceeds(streams.WRITTEN_BYTES) if array in self.written else "false"
        if exceeds == "false":
            self.text.line(plain)
            return
        self.around = True
        mark = self.parts.globals.setdefault("!{i32 1}", "!0")
        start = self.text.assign(f"ptrtoint ptr {pointer} to i64")
        rest = self.text.assign(f"and i64 {start}, {streams.LINE - 1}")
        whole = self.text.assign(f"icmp eq i64 {rest}, 0")
        if exceeds != "true":
            whole = self.text.assign(f"and i1 {whole}, {exceeds}")
        self.choose(e, whole, f"{store} {streams.LINE}, !nontemporal {mark}", plain)

    def fetch_ahead(self, e: Emitter, access: Access, dtype: DType) -> None:
        """Ask for what the load of `access` will read some way further on."""
        rows, _ = self.row_block
        exceeds = self.exceeds(streams.FETCHED_BYTES)
        if exceeds == "false" or e.width == 1 or e.mask.text is not None:
            return
        if len(rows) > 1 and self.is_wide(len(rows) * dtype.itemsize):
            return
        ahead = str(streams.AHEAD_BYTES // (len(self.fetched) * dtype.itemsize))
        one_behind_another = access.at.strides[-2:] == (self.nest.dims[-1], 1)
        if len(rows) > 1 and self.nest.inner == 1 and one_behind_another:
            at = self.in_later_rows(e, access.at, ahead)
        else:
            base = self.offset(access.at, self.outer_dims())
            at = self.arith("add", self.arith("add", base, e.index_text), ahead)
        pointer = self.pointer(access.array, at)
        self.parts.declares.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        call = f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 3, i32 1)"
        self.choose(e, exceeds, call, "")

    def is_wide(self, itemsize: int) -> bool:
        """Is a row of `itemsize` bytes an element so long that the processor follows it by itself,
        and several at a time?"""
        last = self.nest.dims[-1]
        return isinstance(last, int) and last * itemsize > streams.BLOCK_BYTES

    def in_later_rows(self, e: Emitter, at: Affine, ahead: str) -> str:
        """What to ask for while rows that lie one behind the other are read together: line by line
        in the order of memory, which answers that fastest, and a block of rows ahead at least."""
        rows, k = self.row_block
        own, self.dim_values[self.nest.parallel] = self.dim_values[self.nest.parallel], rows[0]
        first = self.offset(at, self.outer_dims())
        self.dim_values[self.nest.parallel] = own
        count = str(len(rows))
        block = self.arith("mul", self.size(self.nest.dims[-1]), count)
        longer = self.text.assign(f"icmp sgt i64 {block}, {ahead}")
        start = self.text.assign(f"select i1 {longer}, i64 {block}, i64 {ahead}")
        line = self.arith("add", self.arith("mul", e.index_text, count), str(k * e.width))
        return self.arith("add", self.arith("add", first, start), line)

    def choose(self, e: VectorEmitter, condition: str, then: str, otherwise: str) -> None:
        """One of two instructions, by an i1 that no iteration changes."""
        if condition == "true":
            self.text.line(then)
            return
        yes, no, after = (self.text.name(s) for s in ("yes", "no", "after"))
        self.text.line(f"br i1 {condition}, label %{yes}, label %{no}")
        for label, instruction in ((yes, then), (no, otherwise)):
            self.text.block(label)
            if instruction:
                self.text.line(instruction)
            self.text.line(f"br label %{after}")
        self.text.block(after)
        e.label = self.block = after

    def store_alternate(
        self, e: VectorEmitter, pointer: str, value: str, dtype: DType, mask: Mask
    ) -> None:
        """To every other place, what lies between left alone: a store of two vectors, masked."""
        w, element = e.width, memory_type(dtype)
        lanes = ", ".join(f"i32 {k // 2 if k % 2 == 0 else w}" for k in range(2 * w))
        where, spread = f"<{2 * w} x i32> <{lanes}>", f"<{2 * w} x {element}>"
        inside = self.text.assign(
            f"shufflevector <{w} x i1> {mask.text or 'splat (i1 true)'}, <{w} x i1> "
            f"zeroinitializer, {where}"
        )
        values = self.text.assign(
            f"shufflevector <{w} x {element}> {value}, <{w} x {element}> poison, {where}"
        )
        function = f"@llvm.masked.store.v{2 * w}{suffix(dtype)}.p0"
        self.parts.declares.add(f"declare void {function}({spread}, ptr, i32, <{2 * w} x i1>)")
        self.text.line(
            f"call void {function}({spread} {values}, ptr {pointer}, i32 {dtype.itemsize}, "
            f"<{2 * w} x i1> {inside})"
        )

    # -- loads and stores

    def load(self, e: VectorEmitter, access: Access, dtype: DType, index: str, mask: Mask) -> Lanes:
        base = self.offset(access.at, self.outer_dims())
        stride = self.stride(access.at)
        if e.width == 1 or stride == "0":
            at = self.arith("add", base, self.arith("mul", index, stride)) if e.width == 1 else base
            name = "%" + self.text.name()
            pointer = self.pointer(access.array, at)
            self.text.line(f"{name} = load {memory_type(dtype)}, ptr {pointer}")
            one = self.from_memory(Lanes(name, dtype), 1)
            return one if e.width == 1 else self.splat(one)
        if stride == "1":
            at = self.arith("add", base, index)
            return self.load_vector(e, self.pointer(access.array, at), dtype, mask)
        if stride == "-1":  # neighbours too, the last lane first
            at = self.arith("sub", self.arith("sub", base, index), str(e.width - 1))
            pointer = self.pointer(access.array, at)
            x = self.load_vector(e, pointer, dtype, self.reversed_mask(mask))
            return Lanes(self.reversed(x.text, llvm_type(dtype)), dtype)
        step = access.at.strides[-1]
        # Without registers for them, masks of single elements become branches.
        masked = mask.text is not None and not self.parts.mask_registers
        if isinstance(step, int) and abs(step) <= PICKED_STRIDE and not masked:
            at = self.arith("add", base, self.arith("mul", index, str(step)))
            return self.load_picked(e, self.pointer(access.array, at), step, dtype, mask)
        return self.gather(e, access, dtype, index, mask)

    def gather(
        self, e: VectorEmitter, access: Access, dtype: DType, index: str, mask: Mask
    ) -> Lanes:
        positions = self.positions_at(e, access.at, index)
        return self.gather_from(e, access.array, positions, dtype, mask)

    def positions_at(self, e: VectorEmitter, at: Affine, index: str) -> Lanes:
        shifted = Emitter(self, e.width, index, Mask())
        return self.positions(shifted, at)

    def gather_from(
        self, e: VectorEmitter, array: int, positions: Lanes, dtype: DType, mask: Mask
    ) -> Lanes:
        pointers, name = "%" + self.text.name("a"), "%" + self.text.name()
        element, w = memory_type(dtype), e.width
        self.text.line(
            f"{pointers} = getelementptr {element}, ptr %p{array}, <{w} x i64> {positions.text}"
        )
        vector, function = f"<{w} x {element}>", f"@llvm.masked.gather.v{w}{suffix(dtype)}.v{w}p0"
        self.parts.declares.add(
            f"declare {vector} {function}(<{w} x ptr>, i32, <{w} x i1>, {vector})"
        )
        lanes = mask.text or "splat (i1 true)"
        self.text.line(
            f"{name} = call {vector} {function}(<{w} x ptr> {pointers}, i32 {dtype.itemsize}, "
            f"<{w} x i1> {lanes}, {vector} zeroinitializer)"
        )
        return self.from_memory(Lanes(name, dtype), w)

    def load_at(self, e: Emitter, s: Stmt, index: Lanes) -> Lanes:
        """An element picked by an index value (in range: a require came before)."""
        access: Access = s.attr
        assert access.bounds is not None
        if e.width > 1 and s.args[0] in self.rows and access.at.strides[-1:] == (1,):
            return self.load_row_at(e, s, access)
        stride = Lanes(self.size(access.bounds[0]), dtypes.int64)
        base = self.positions(e, access.at)
        if e.width > 1:
            position = e.add(base, e.mul(index, self.splat(stride)))
            return self.gather_from(e, access.array, position, s.dtype, e.mask)
        position = e.add(base, e.mul(index, stride))
        name = "%" + self.text.name()
        self.text.line(
            f"{name} = load {memory_type(s.dtype)}, ptr {self.pointer(access.array, position.text)}"
        )
        return self.from_memory(Lanes(name, s.dtype), 1)

    def load_in(self, e: Emitter, s: Stmt, inside: Lanes) -> Lanes:
        """An element where `inside` holds, else zero; nothing is read there."""
        at: Affine = s.attr.at
        if e.width == 1:
            base = self.offset(at, self.outer_dims())
            place = self.arith("add", base, self.arith("mul", e.index_text, self.stride(at)))
            pointer = self.pointer(s.attr.array, place)
            one = self.text.assign(f"insertelement <1 x i1> poison, i1 {inside.text}, i64 0")
            element = memory_type(s.dtype)
            function = f"@llvm.masked.load.v1{suffix(s.dtype)}.p0"
            vector = f"<1 x {element}>"
            self.parts.declares.add(f"declare {vector} {function}(ptr, i32, <1 x i1>, {vector})")
            found = self.text.assign(
                f"call {vector} {function}(ptr {pointer}, i32 {s.dtype.itemsize}, "
                f"<1 x i1> {one}, {vector} zeroinitializer)"
            )
            x = self.text.assign(f"extractelement {vector} {found}, i64 0")
            return self.from_memory(Lanes(x, s.dtype), 1)
        if e.mask.text is not None:
            inside = e.and_(inside, Lanes(e.mask.text, dtypes.bool_))
        mask = Mask(inside.text)
        if self.stride(at) != "1":
            return self.gather(e, s.attr, s.dtype, e.index_text, mask)
        place = self.arith("add", self.offset(at, self.outer_dims()), e.index_text)
        return self.load_vector(e, self.pointer(s.attr.array, place), s.dtype, mask)

    def load_row_at(self, e: Emitter, s: Stmt, access: Access) -> Lanes:
        """The whole row has one index: neighbours lie together."""
        assert access.bounds is not None
        step = self.arith("mul", self.rows[s.args[0]].text, self.size(access.bounds[0]))
        base = self.arith("add", self.offset(access.at, self.outer_dims()), step)
        at = self.arith("add", base, e.index_text)
        return self.load_vector(e, self.pointer(access.array, at), s.dtype, e.mask)

    def store(self, e: VectorEmitter, access: Access, x: Lanes, index: str, mask: Mask) -> None:
        base = self.offset(access.at, self.outer_dims())
        stride = self.stride(access.at)
        value = self.to_memory(x, e.width)
        element, w = memory_type(x.dtype), e.width
        if w == 1:
            at = self.arith("add", base, self.arith("mul", index, stride))
            self.text.line(f"store {element} {value}, ptr {self.pointer(access.array, at)}")
            return
        vector, lanes, align = f"<{w} x {element}>", f"<{w} x i1>", x.dtype.itemsize
        if mask.text == prefix_mask(1, w):
            # One lane is stored as a number. LLVM makes one store of a mask that it knows to have
            # one lane as well, but of all 32 bits where 16 were to be stored: those of the next
            # row too, which another thread may have written.
            at = self.arith("add", base, self.arith("mul", index, stride))
            one = self.text.assign(f"extractelement {vector} {value}, i64 0")
            self.text.line(f"store {element} {one}, ptr {self.pointer(access.array, at)}")
            return
        if stride in ("1", "-1"):
            at = self.arith("add" if stride == "1" else "sub", base, index)
            if stride == "-1":
                at = self.arith("sub", at, str(w - 1))
                value, mask = self.reversed(value, element), self.reversed_mask(mask)
            pointer = self.pointer(access.array, at)
            if mask.text is None:
                self.store_vector(e, access.array, f"{vector} {value}", pointer, x.dtype)
                return
            function = f"@llvm.masked.store.v{w}{suffix(x.dtype)}.p0"
            self.parts.declares.add(f"declare void {function}({vector}, ptr, i32, {lanes})")
            where = f"ptr {pointer}, i32 {align}, {lanes} {mask.text}"
            self.text.line(f"call void {function}({vector} {value}, {where})")
            return
        if access.at.strides[-1:] == (2,) and self.parts.mask_registers:
            at = self.arith("add", base, self.arith("mul", index, "2"))
            self.store_alternate(e, self.pointer(access.array, at), value, x.dtype, mask)
            return
        self.scatter(e, access.array, self.positions_at(e, access.at, index), value, x.dtype, mask)

    def scatter(
        self, e: VectorEmitter, array: int, positions: Lanes, value: str, dtype: DType, mask: Mask
    ) -> None:
        pointers, element, w = "%" + self.text.name("a"), memory_type(dtype), e.width
        vector, lanes, align = f"<{w} x {element}>", f"<{w} x i1>", dtype.itemsize
        offsets = f"<{w} x i64> {positions.text}"
        self.text.line(f"{pointers} = getelementptr {element}, ptr %p{array}, {offsets}")
        function = f"@llvm.masked.scatter.v{w}{suffix(dtype)}.v{w}p0"
        self.parts.declares.add(f"declare void {function}({vector}, <{w} x ptr>, i32, {lanes})")
        self.text.line(
            f"call void {function}({vector} {value}, <{w} x ptr> {pointers}, i32 {align}, "
            f"{lanes} {mask.text or 'splat (i1 true)'})"
        )


class Emitter(VectorEmitter):
    """The scalar emitter with a place in the nest: it knows indices, masks and how to fail."""

    def __init__(self, nest: NestMemory, width: int, index: str, mask: Mask) -> None:
        super().__init__(nest.text, width, nest.block)
        self.nest = nest
        self.index_text = index
        self.mask = mask
        self.failures: dict[str, int] = {}  # of the statement at work

    def _require(self, cond: Lanes, a: Lanes, b: Lanes, dtype: DType, kind: str) -> Lanes:
        """Leave the kernel with a filled status record when a lane inside fails."""
        text, failure = self.text, self.failures[kind]
        bad = self.not_(cond)
        if self.mask.text is not None:
            bad = self.and_(bad, Lanes(self.mask.text, dtypes.bool_))
        failed, ok = text.name("fail"), text.name("ok")
        lane = "0"
        if self.width == 1:
            text.line(f"br i1 {bad.text}, label %{failed}, label %{ok}")
            text.lines.append(f"{failed}:")
        else:
            bits, any_ = "%" + text.name(), "%" + text.name()
            text.line(f"{bits} = bitcast {self.typed(bad)} to i{self.width}")
            text.line(f"{any_} = icmp ne i{self.width} {bits}, 0")
            text.line(f"br i1 {any_}, label %{failed}, label %{ok}")
            text.lines.append(f"{failed}:")
            lane = self.first_lane(bits)
        leave(text, failure, lane, *(self.one(x, lane) for x in (a, b)))
        text.lines.append(f"{ok}:")
        self.label = ok
        self.nest.block = ok
        return cond

    def first_lane(self, bits: str) -> str:
        name, wide = "%" + self.text.name(), "%" + self.text.name()
        integer = f"i{self.width}"
        self.text.parts.declares.add(f"declare {integer} @llvm.cttz.{integer}({integer}, i1)")
        self.text.line(f"{name} = call {integer} @llvm.cttz.{integer}({integer} {bits}, i1 true)")
        self.text.line(f"{wide} = zext {integer} {name} to i64")
        return wide

    def one(self, x: Lanes, lane: str) -> Lanes:
        """One lane of a value."""
        if self.width == 1:
            return x
        name = "%" + self.text.name()
        self.text.line(f"{name} = extractelement {self.typed(x)}, i64 {lane}")
        return Lanes(name, x.dtype)


def leave(text: FunctionText, failure: int, index: str, a: Lanes, b: Lanes) -> None:
    """Fill the status record and leave the function."""
    words = {STATUS_FAILURE: str(failure), STATUS_INDEX: index}
    words |= {STATUS_A: status_word(text, a), STATUS_B: status_word(text, b)}
    for word, value in words.items():
        cell = "%" + text.name()
        text.line(f"{cell} = getelementptr i64, ptr %status, i64 {word}")
        text.line(f"store i64 {value}, ptr {cell}")
    text.line("ret i32 1")


def status_word(text: FunctionText, x: Lanes) -> str:
    """A value as 64 bits: integers widened, floats as float64 bits."""
    e = VectorEmitter(text, 1)
    wide = dtypes.float64 if x.dtype.is_floating else dtypes.int64
    return e.bitcast(e.convert(x, wide), dtypes.int64).text  # type: ignore[no-any-return]
