"""Scalar operations as LLVM text, W lanes at a time."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.scalar.builder import ScalarBuilder
from graphgrad.compiler.scalar.expansions import EXPANSIONS
from graphgrad.compiler.scalar.formats import format_of, small_to_float

# of every function with 512-bit values: without them LLVM splits vectors in two
ATTRIBUTES = 'nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512"'
# of helper functions of rare paths
COLD = "nounwind cold noinline"
# a helper that returns a vector may save what it uses, so that a loop keeps its constants in
# registers (x86; ignored elsewhere); one that returns a scalar may not: it ends in vzeroupper
PRESERVING = '"no_caller_saved_registers"'

REGISTER_BITS = 512  # of a vector register where masks have registers too (AVX-512)
CURRENT_ROUNDING = 4  # operand of x86 intrinsics: as the processor's control register says

_FLOAT_TYPES = {16: "half", 32: "float", 64: "double"}
_INFIX = {
    "add": ("fadd", "add"), "sub": ("fsub", "sub"), "mul": ("fmul", "mul"), "div": ("fdiv", ""),
    "and_": ("", "and"), "or_": ("", "or"), "xor": ("", "xor"), "frem": ("frem", ""),
}  # fmt: skip
_FLOAT_INTRINSICS = {
    "sqrt": "sqrt", "abs": "fabs", "fma": "fma", "floor": "floor", "ceil": "ceil",
    "trunc": "trunc", "rint": "rint", "copysign": "copysign",
}  # fmt: skip
_COMPARE = {
    "eq": ("oeq", "eq", "eq"), "ne": ("une", "ne", "ne"), "lt": ("olt", "slt", "ult"),
    "le": ("ole", "sle", "ule"), "gt": ("ogt", "sgt", "ugt"), "ge": ("oge", "sge", "uge"),
}  # fmt: skip


def llvm_type(dtype: DType) -> str:
    """The LLVM type of one element in a register: bfloat16 is i16, bool is i1."""
    if dtype.is_floating and dtype is not dtypes.bfloat16:
        return _FLOAT_TYPES[dtype.bits]
    return f"i{dtype.bits}"


def llvm_literal(value: float, dtype: DType) -> str:
    """A literal of one element: exact hexadecimal for floats.

    >>> llvm_literal(0.1, dtypes.float32), llvm_literal(-3, dtypes.int8)
    ('0x3FB99999A0000000', '-3')
    """
    if dtype.is_bool:
        return "true" if value else "false"
    if dtype.is_integer:
        return str(int(value))
    with np.errstate(over="ignore"):
        rounded = dtype.dtype.type(value)
    if dtype is dtypes.bfloat16:
        return str(int(rounded.view(np.uint16)))
    if dtype is dtypes.float16:
        return f"0xH{int(rounded.view(np.uint16)):04X}"
    return "0x" + struct.pack(">d", float(rounded)).hex().upper()


@dataclass(frozen=True, slots=True)
class Lanes:
    """A value in registers: its LLVM text, its dtype, and its number when it is a literal."""

    text: str
    dtype: DType
    number: float | None = None


@dataclass(slots=True)
class ModuleParts:
    """What functions under construction share: declarations, and helper functions by name."""

    mask_registers: bool = False  # the processor has registers for masks (AVX-512)
    declares: set[str] = field(default_factory=set)
    functions: dict[str, str] = field(default_factory=dict)
    globals: dict[str, str] = field(default_factory=dict)  # definition -> name
    interrupts: bool = False  # loops ask for interrupts: `clock` is POSIX's

    def text(self) -> str:
        """Declarations, tables and helper functions, in a fixed order."""
        tables = [f"{name} = {definition}" for definition, name in self.globals.items()]
        helpers = [self.functions[name] for name in sorted(self.functions)]
        return "\n".join([*sorted(self.declares), *tables, *helpers, ""])


class FunctionText:
    """The body of one LLVM function under construction: lines, and a counter for unique names."""

    def __init__(self, parts: ModuleParts | None = None) -> None:
        self.parts = ModuleParts() if parts is None else parts
        self.lines: list[str] = []
        self._count = 0

    def name(self, stem: str = "v") -> str:
        """A fresh name, without its `%`."""
        self._count += 1
        return f"{stem}{self._count}"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def assign(self, instruction: str) -> str:
        """Append `%new = instruction`; the register's name."""
        name = "%" + self.name()
        self.line(f"{name} = {instruction}")
        return name

    def block(self, label: str) -> None:
        """Begin a basic block."""
        self.lines.append(f"{label}:")


class VectorEmitter(ScalarBuilder):
    """Emits LLVM text that computes W lanes of each value, `<W x T>`, or plain `T` for W = 1.

    No fast-math flags: `+ - * /` and sqrt are those of IEEE 754, so results do not depend on W.
    Equal instructions are emitted once: use one emitter per straight-line region and a new one
    (on the same FunctionText) wherever earlier values no longer dominate.

    With `label`, the current basic block's label, rare paths become branches; `label` is then
    the label of the block in which emission stands, so that phi nodes can name it. Without it,
    rare paths are always computed.
    """

    def __init__(self, text: FunctionText, width: int, label: str | None = None) -> None:
        self.text = text
        self.width = width
        self.label = label
        self._known: dict[str, str] = {}

    # -- types and names

    def type(self, dtype: DType) -> str:
        """The LLVM type of a value of `dtype`: `<16 x float>`."""
        return self._vector(llvm_type(dtype))

    def dtype(self, x: Lanes) -> DType:
        return x.dtype

    def value(self, name: str, dtype: DType) -> Lanes:
        """A value that other code has put in register `name` (a loaded vector, an argument)."""
        return Lanes(name, dtype)

    def typed(self, x: Lanes) -> str:
        """`x` as an operand with its type: `<16 x float> %v3`."""
        return f"{self.type(x.dtype)} {x.text}"

    def emit(self, instruction: str) -> str:
        """Append `%new = instruction`, or find the equal one; the register's name."""
        name = self._known.get(instruction)
        if name is None:
            name = self._known[instruction] = self.text.assign(instruction)
        return name

    def call(self, name: str, result: DType, *args: Lanes, extra: str = "") -> Lanes:
        """Call the intrinsic `llvm.name` overloaded on its result type."""
        return self._intrinsic(f"{name}.{self._suffix(result)}", result, args, extra)

    def _intrinsic(
        self, name: str, result: DType, args: tuple[Lanes, ...], extra: str = ""
    ) -> Lanes:
        types = ", ".join(self.type(a.dtype) for a in args) + (", i1" if extra else "")
        out = self.type(result)
        self.text.parts.declares.add(f"declare {out} @llvm.{name}({types})")
        operands = ", ".join(self.typed(a) for a in args) + extra
        return Lanes(self.emit(f"call {out} @llvm.{name}({operands})"), result)

    def _vector(self, element: str) -> str:
        return element if self.width == 1 else f"<{self.width} x {element}>"

    def _suffix(self, dtype: DType) -> str:
        element = f"f{dtype.bits}" if dtype.is_floating else f"i{dtype.bits}"
        return element if self.width == 1 else f"v{self.width}{element}"

    # -- primitives

    def primitive(self, fn: str, args: tuple[Lanes, ...], dtype: DType, attr: Any = None) -> Lanes:
        if fn in _INFIX:
            op = _INFIX[fn][0 if dtype.is_floating else 1]
            x, y = args
            return Lanes(self.emit(f"{op} {self.typed(x)}, {y.text}"), dtype)
        if fn in _COMPARE:
            return self._compare(fn, *args)
        if fn in _FLOAT_INTRINSICS and dtype.is_floating:
            return self.call(_FLOAT_INTRINSICS[fn], dtype, *args)
        method = getattr(self, "_" + fn.rstrip("_"))
        result: Lanes = method(*args, dtype) if attr is None else method(*args, dtype, attr)
        return result

    def _const(self, dtype: DType, number: float) -> Lanes:
        literal = llvm_literal(number, dtype)
        if self.width > 1:
            literal = f"splat ({llvm_type(dtype)} {literal})"
        return Lanes(literal, dtype, number)

    def _index(self, dtype: DType, axis: int) -> Lanes:
        """The kernel emitter knows its loops: override."""
        raise NotImplementedError("index belongs to the kernel emitter")

    def _require(self, cond: Lanes, a: Lanes, b: Lanes, dtype: DType, failure: str) -> Lanes:
        """The kernel emitter knows its status record: override."""
        raise NotImplementedError("require belongs to the kernel emitter")

    def _compare(self, fn: str, x: Lanes, y: Lanes) -> Lanes:
        kind = x.dtype.kind
        op = "fcmp" if kind == "f" else "icmp"
        predicate = _COMPARE[fn][{"f": 0, "i": 1, "u": 2, "b": 2}[kind]]
        return Lanes(self.emit(f"{op} {predicate} {self.typed(x)}, {y.text}"), dtypes.bool_)

    def _select(self, cond: Lanes, x: Lanes, y: Lanes, dtype: DType) -> Lanes:
        operands = ", ".join(self.typed(a) for a in (cond, x, y))
        return Lanes(self.emit(f"select {operands}"), dtype)

    def _neg(self, x: Lanes, dtype: DType) -> Lanes:
        if dtype.is_floating:
            return Lanes(self.emit(f"fneg {self.typed(x)}"), dtype)
        return Lanes(
            self.emit(f"sub {self.type(dtype)} {self._const(dtype, 0).text}, {x.text}"), dtype
        )

    def _abs(self, x: Lanes, dtype: DType) -> Lanes:
        return x if dtype.kind == "u" else self.call("abs", dtype, x, extra=", i1 false")

    def _not(self, x: Lanes, dtype: DType) -> Lanes:
        ones = self._const(dtype, True if dtype.is_bool else -1)
        return Lanes(self.emit(f"xor {self.typed(x)}, {ones.text}"), dtype)

    def _shl(self, x: Lanes, y: Lanes, dtype: DType) -> Lanes:
        return self._shift("shl", x, y)

    def _lshr(self, x: Lanes, y: Lanes, dtype: DType) -> Lanes:
        return self._shift("lshr", x, y)

    def _shift(self, op: str, x: Lanes, y: Lanes) -> Lanes:
        """LLVM leaves shifts by too much undefined: they give 0 here."""
        shifted = Lanes(self.emit(f"{op} {self.typed(x)}, {y.text}"), x.dtype)
        if y.number is not None and 0 <= y.number < x.dtype.bits:
            return shifted
        inside = self.emit(f"icmp ult {self.typed(y)}, {self._const(x.dtype, x.dtype.bits).text}")
        return self._select(Lanes(inside, dtypes.bool_), shifted, self._const(x.dtype, 0), x.dtype)

    def _ashr(self, x: Lanes, y: Lanes, dtype: DType) -> Lanes:
        if y.number is None or not 0 <= y.number < dtype.bits:
            most = self._const(dtype, dtype.bits - 1)
            inside = Lanes(self.emit(f"icmp ult {self.typed(y)}, {most.text}"), dtypes.bool_)
            y = self._select(inside, y, most, dtype)
        return Lanes(self.emit(f"ashr {self.typed(x)}, {y.text}"), dtype)

    def _bitcast(self, x: Lanes, dtype: DType) -> Lanes:
        if llvm_type(x.dtype) == llvm_type(dtype):
            return Lanes(x.text, dtype)
        return self._cast("bitcast", x, dtype)

    def _cast(self, op: str, x: Lanes, dtype: DType) -> Lanes:
        return Lanes(self.emit(f"{op} {self.typed(x)} to {self.type(dtype)}"), dtype)

    def _lookup(self, index: Lanes, dtype: DType, table: tuple[float, ...]) -> Lanes:
        pointer = self._table(table, dtype)
        element, whole = llvm_type(dtype), self.type(dtype)
        address = self.emit(f"getelementptr {element}, ptr {pointer}, {self.typed(index)}")
        if self.width == 1:
            return Lanes(self.emit(f"load {element}, ptr {address}"), dtype)
        name, lanes = f"llvm.masked.gather.{self._suffix(dtype)}", f"<{self.width} x i1>"
        pointers = f"<{self.width} x ptr>"
        declared = f"{name}.v{self.width}p0"
        self.text.parts.declares.add(f"declare {whole} @{declared}({pointers}, {lanes}, {whole})")
        arguments = f"{pointers} {address}, {lanes} splat (i1 true), {whole} poison"
        return Lanes(self.emit(f"call {whole} @{declared}({arguments})"), dtype)

    def _table(self, table: tuple[float, ...], dtype: DType) -> str:
        """The name of a constant array of the module."""
        element = llvm_type(dtype)
        entries = ", ".join(f"{element} {llvm_literal(v, dtype)}" for v in table)
        text = f"private unnamed_addr constant [{len(table)} x {element}] [{entries}]"
        globals_ = self.text.parts.globals
        return globals_.setdefault(text, f"@gg.table.{len(globals_)}")

    # -- powers of two

    def ldexp(self, x: Lanes, n: Lanes) -> Lanes:
        """As the base class; where there are masks in registers (AVX-512) by the instruction of
        such processors, which rounds once as well."""
        bits = x.dtype.bits
        lanes = REGISTER_BITS // bits
        if not self.text.parts.mask_registers or bits < 32 or self.width % lanes:
            return super().ldexp(x, n)  # type: ignore[no-any-return]
        element, letter = ("float", "s") if bits == 32 else ("double", "d")
        power = small_to_float(self, format_of(self, x), n)
        registers = [
            self._scaled(
                self._part(x, k, lanes), self._part(power, k, lanes), element, letter, lanes
            )
            for k in range(0, self.width, lanes)
        ]
        return Lanes(self._joined(registers, element, lanes), x.dtype)

    def _scaled(self, x: str, power: str, element: str, letter: str, lanes: int) -> str:
        """One register of x * 2**power."""
        vector, mask = f"<{lanes} x {element}>", f"i{lanes}"
        name = f"@llvm.x86.avx512.mask.scalef.p{letter}.512"
        self.text.parts.declares.add(
            f"declare {vector} {name}({vector}, {vector}, {vector}, {mask}, i32)"
        )
        operands = f"{vector} {x}, {vector} {power}, {vector} zeroinitializer, {mask} -1"
        return self.emit(f"call {vector} {name}({operands}, i32 {CURRENT_ROUNDING})")

    def _part(self, x: Lanes, start: int, lanes: int) -> str:
        """`lanes` of the lanes of `x`."""
        if lanes == self.width:
            return x.text
        chosen = ", ".join(f"i32 {start + k}" for k in range(lanes))
        both = f"{self.typed(x)}, {self.type(x.dtype)} poison"
        return self.emit(f"shufflevector {both}, <{lanes} x i32> <{chosen}>")

    def _joined(self, parts: list[str], element: str, lanes: int) -> str:
        """Vectors of `lanes` one after another; their number is a power of two."""
        while len(parts) > 1:
            vector = f"<{lanes} x {element}>"
            lanes *= 2
            chosen = ", ".join(f"i32 {k}" for k in range(lanes))
            parts = [
                self.emit(f"shufflevector {vector} {a}, {vector} {b}, <{lanes} x i32> <{chosen}>")
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    # -- integer division: defined on every operand, since a trap would kill the process

    def _idiv(self, x: Lanes, y: Lanes, dtype: DType) -> Lanes:
        zero = self.eq(y, 0)
        if dtype.kind == "u":
            q = self._divide("udiv", x, self.select(zero, 1, y))
            return self.select(zero, 0, q)  # type: ignore[no-any-return]
        minus = self.eq(y, -1)  # least / -1 overflows
        q = self._divide("sdiv", x, self.select(self.or_(zero, minus), 1, y))
        q = self.select(minus, self.neg(x), q)
        return self.select(zero, 0, q)  # type: ignore[no-any-return]

    def _divide(self, op: str, x: Lanes, y: Lanes) -> Lanes:
        """Quotient by a nonzero divisor; up to 32 bits through float64, where it is exact."""
        if self.width == 1 or x.dtype.bits == 64:
            return Lanes(self.emit(f"{op} {self.typed(x)}, {y.text}"), x.dtype)
        wide = dtypes.float32 if x.dtype.bits <= 16 else dtypes.float64
        up, down = ("sitofp", "fptosi") if op == "sdiv" else ("uitofp", "fptoui")
        q = self.div(self._cast(up, x, wide), self._cast(up, y, wide))
        return self._cast(down, q, x.dtype)

    def _irem(self, x: Lanes, y: Lanes, dtype: DType) -> Lanes:
        r = self.sub(x, self.mul(self._idiv(x, y, dtype), y))
        return self.select(self.eq(y, 0), 0, r)  # type: ignore[no-any-return]

    # -- conversion

    def _convert(self, x: Lanes, dtype: DType) -> Lanes:
        source = x.dtype
        if source is dtypes.bfloat16:
            return self._convert_or_same(self._widen_bfloat16(x), dtype)
        if dtype is dtypes.bfloat16:
            return self._narrow_bfloat16(self._convert_or_same(x, dtypes.float32))
        if source is dtypes.float16 and dtype is not dtypes.float32:
            return self._convert_or_same(self._cast("fpext", x, dtypes.float32), dtype)
        if dtype is dtypes.float16 and source is not dtypes.float32:
            narrow = self._round_to_odd if source is dtypes.float64 else self._to_float32
            return self._cast("fptrunc", narrow(x), dtype)
        if dtype.is_bool:
            return self.ne(x, 0)  # type: ignore[no-any-return]
        if source.is_floating:
            return self._convert_float(x, dtype)
        if source.is_bool and dtype.is_floating and self.width > 1:  # the mask of a vector of ones
            return self.select(x, self._const(dtype, 1), self._const(dtype, 0))  # type: ignore[no-any-return]
        signed = source.kind == "i"
        if dtype.is_floating:
            return self._cast("sitofp" if signed else "uitofp", x, dtype)
        if dtype.bits == source.bits:
            return Lanes(x.text, dtype)
        grow = "sext" if signed else "zext"
        return self._cast(grow if dtype.bits > source.bits else "trunc", x, dtype)

    def _convert_or_same(self, x: Lanes, dtype: DType) -> Lanes:
        return x if x.dtype is dtype else self._convert(x, dtype)

    def _to_float32(self, x: Lanes) -> Lanes:
        return self._convert_or_same(x, dtypes.float32)

    def _convert_float(self, x: Lanes, dtype: DType) -> Lanes:
        if dtype.is_floating:
            if x.dtype is dtypes.float64:
                return self._narrow(x)
            return self._cast("fpext" if dtype.bits > x.dtype.bits else "fptrunc", x, dtype)
        name = "fptoui.sat" if dtype.kind == "u" else "fptosi.sat"
        return self._intrinsic(f"{name}.{self._suffix(dtype)}.{self._suffix(x.dtype)}", dtype, (x,))

    def _narrow(self, x: Lanes) -> Lanes:
        """float64 to float32. The fence keeps LLVM from making this and a conversion to float16
        one, which no CPU has: it would call a function that is not in the process."""
        near = self._cast("fptrunc", x, dtypes.float32)
        return self._intrinsic(f"arithmetic.fence.{self._suffix(near.dtype)}", near.dtype, (near,))

    def _widen_bfloat16(self, x: Lanes) -> Lanes:
        bits = self.shl(self.convert(Lanes(x.text, dtypes.uint16), dtypes.uint32), 16)
        return self.bitcast(bits, dtypes.float32)  # type: ignore[no-any-return]

    def _narrow_bfloat16(self, x: Lanes) -> Lanes:
        """Round to nearest even in integers; NaN keeps its sign and becomes quiet."""
        bits = self.bitcast(x, dtypes.uint32)
        odd = self.and_(self.lshr(bits, 16), 1)
        rounded = self.lshr(self.add(bits, self.add(odd, 0x7FFF)), 16)
        nan = self.or_(self.lshr(self.and_(bits, 0x80000000), 16), 0x7FC0)
        top = self.select(self.ne(x, x), nan, rounded)
        return Lanes(self.convert(top, dtypes.uint16).text, dtypes.bfloat16)

    def _round_to_odd(self, x: Lanes) -> Lanes:
        """float64 to a float32 whose last bit is set when inexact.

        Rounding that to float16 gives what rounding `x` itself would.
        """
        near = self._narrow(x)
        back = self._cast("fpext", near, dtypes.float64)
        bits = self.bitcast(near, dtypes.int32)
        toward_zero = self.select(self.gt(self.abs(back), self.abs(x)), self.sub(bits, 1), bits)
        odd = self.bitcast(self.or_(toward_zero, 1), dtypes.float32)
        inexact = self.and_(self.ne(back, x), self.eq(x, x))
        return self.select(inexact, odd, near)  # type: ignore[no-any-return]

    # -- rare paths

    def rare(self, cond: Lanes, fn: str, args: tuple[Lanes, ...], common: Lanes) -> Lanes:
        """As the base class; with `label`, a branch to a helper when any lane needs it."""
        if self.label is None:
            return super().rare(cond, fn, args, common)  # type: ignore[no-any-return]
        text, mask = self.text, f"i{self.width}"
        flags = Lanes(cond.text, dtypes.bool_)
        if self.width > 1:
            flags = Lanes(self.emit(f"bitcast {self.typed(cond)} to {mask}"), dtypes.bool_)
        any_lane = self.emit(f"icmp ne {mask} {flags.text}, 0")
        before, slow, done = self.label, text.name("rare"), text.name("common")
        text.line(f"br i1 {any_lane}, label %{slow}, label %{done}")
        text.block(slow)
        out = self.type(common.dtype)
        operands = [*map(self.typed, (*args, common)), f"{mask} {flags.text}"]
        helper = self._helper(fn, args, common)
        replaced = text.assign(f"call {out} {helper}({', '.join(operands)})")
        text.line(f"br label %{done}")
        text.block(done)
        merged = text.assign(f"phi {out} [ {common.text}, %{before} ], [ {replaced}, %{slow} ]")
        self.label = done
        return Lanes(merged, common.dtype)

    def _helper(self, fn: str, args: tuple[Lanes, ...], common: Lanes) -> str:
        """A function of the module that replaces flagged lanes by `fn`, each computed alone."""
        name = f"@gg.{fn}.{'.'.join(a.dtype.short for a in args)}.w{self.width}"
        functions = self.text.parts.functions
        if name in functions:
            return name
        text, mask, out = FunctionText(self.text.parts), f"i{self.width}", self.type(common.dtype)
        own = tuple(Lanes(f"%a{k}", a.dtype) for k, a in enumerate((*args, common)))
        signature = ", ".join([*map(self.typed, own), f"{mask} %flags"])
        scalar = VectorEmitter(text, 1)
        if self.width == 1:
            result = EXPANSIONS[fn].build(scalar, *own[:-1]).text
            attributes = COLD
        else:
            text.parts.declares.add(f"declare {mask} @llvm.cttz.{mask}({mask}, i1)")
            text.line("br label %lane")
            text.block("lane")
            text.line(f"%left = phi {mask} [ %flags, %0 ], [ %next, %lane ]")
            text.line(f"%old = phi {out} [ {own[-1].text}, %0 ], [ %new, %lane ]")
            text.line(f"%k = call {mask} @llvm.cttz.{mask}({mask} %left, i1 true)")
            at = f", {mask} %k"
            lanes = (
                scalar.value(text.assign(f"extractelement {self.typed(a)}{at}"), a.dtype)
                for a in own[:-1]
            )
            one = scalar.typed(EXPANSIONS[fn].build(scalar, *lanes))
            text.line(f"%new = insertelement {out} %old, {one}{at}")
            text.line(f"%below = sub {mask} %left, 1")
            text.line(f"%next = and {mask} %left, %below")
            text.line(f"%more = icmp ne {mask} %next, 0")
            text.line("br i1 %more, label %lane, label %done")
            text.block("done")
            result, attributes = "%new", f"{ATTRIBUTES} {COLD} {PRESERVING}"
        body = "\n".join([*text.lines, f"  ret {out} {result}"])
        functions[name] = f"define internal {out} {name}({signature}) {attributes} {{\n{body}\n}}"
        return name
