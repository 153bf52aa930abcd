"""The interface in which every operation says how one element is computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.scalar.expansions import EXPANSIONS
from graphgrad.compiler.scalar.primitives import checked_dtype

Value: TypeAlias = Any  # opaque: only the builder that made a value can look inside
Operand: TypeAlias = Any  # a Value, or a Python number that takes the other operand's dtype

_NUMBERS = (bool, int, float)  # exact types: a NumPy scalar may be some builder's value


class ScalarBuilder(ABC):
    """Builds the computation of one element; what a value is, only the subclass knows.

    A target implements `primitive` and `dtype`. Named functions (`exp`, ...) go through `named`,
    which computes them over primitives; override it to keep the name or to use an instruction.
    Python numbers may stand for operands next to a value and take its dtype.
    """

    is_serial = False  # does each value wait for the one before: are short chains worth more work?

    # -- what a target implements

    @abstractmethod
    def primitive(self, fn: str, args: tuple[Value, ...], dtype: DType, attr: Any = None) -> Value:
        """The value of one primitive of the closed set `PRIMITIVES`; operands are checked."""

    @abstractmethod
    def dtype(self, x: Value) -> DType:
        """The dtype of a value."""

    def named(self, fn: str, args: tuple[Value, ...], attr: Any = None) -> Value:
        """The value of a named function: here, its expansion over primitives."""
        expansion = EXPANSIONS[fn]
        return expansion.build(self, *args) if attr is None else expansion.build(self, *args, attr)

    def rare(self, cond: Value, fn: str, args: tuple[Value, ...], common: Value) -> Value:
        """`common`, but the named function `fn(*args)` where `cond` holds.

        Means `select(cond, fn(*args), common)`; a target may branch around `fn` when no lane
        needs it, so `fn` may be slow.
        """
        return self.select(cond, self.named(fn, args), common)

    # -- literals and indices

    def const(self, value: bool | int | float, dtype: DType) -> Value:
        """A literal: `value` rounded to `dtype` (integers must fit)."""
        if dtype.is_integer and not dtype.min <= value <= dtype.max:
            raise OverflowError(f"{value} does not fit {dtype.name}")
        return self.primitive("const", (), dtype, value)

    def index(self, axis: int) -> Value:
        """The loop index (int64) along an axis of the iteration space."""
        return self.primitive("index", (), dtypes.int64, axis)

    def require(self, cond: Value, failure: str, a: Value, b: Value) -> None:
        """Make the kernel fail with status `failure` and these operands where `cond` is false."""
        self._apply("require", (cond, a, b), failure)

    # -- arithmetic

    def add(self, x: Operand, y: Operand) -> Value:
        return self._apply("add", (x, y))

    def sub(self, x: Operand, y: Operand) -> Value:
        return self._apply("sub", (x, y))

    def mul(self, x: Operand, y: Operand) -> Value:
        return self._apply("mul", (x, y))

    def div(self, x: Operand, y: Operand) -> Value:
        """Quotient of floats; integers use `idiv` or `floordiv`."""
        return self._apply("div", (x, y))

    def neg(self, x: Value) -> Value:
        return self._apply("neg", (x,))

    def abs(self, x: Value) -> Value:
        return self._apply("abs", (x,))

    def sqrt(self, x: Value) -> Value:
        return self._apply("sqrt", (x,))

    def fma(self, x: Operand, y: Operand, z: Operand) -> Value:
        """`x * y + z` rounded once: for expansions only, since user arithmetic is never fused."""
        return self._apply("fma", (x, y, z))

    def floor(self, x: Value) -> Value:
        return self._apply("floor", (x,))

    def ceil(self, x: Value) -> Value:
        return self._apply("ceil", (x,))

    def trunc(self, x: Value) -> Value:
        return self._apply("trunc", (x,))

    def rint(self, x: Value) -> Value:
        return self._apply("rint", (x,))

    def copysign(self, x: Operand, y: Operand) -> Value:
        return self._apply("copysign", (x, y))

    def idiv(self, x: Operand, y: Operand) -> Value:
        return self._apply("idiv", (x, y))

    def irem(self, x: Operand, y: Operand) -> Value:
        return self._apply("irem", (x, y))

    def frem(self, x: Operand, y: Operand) -> Value:
        return self._apply("frem", (x, y))

    # -- comparison and choice

    def eq(self, x: Operand, y: Operand) -> Value:
        return self._apply("eq", (x, y))

    def ne(self, x: Operand, y: Operand) -> Value:
        return self._apply("ne", (x, y))

    def lt(self, x: Operand, y: Operand) -> Value:
        return self._apply("lt", (x, y))

    def le(self, x: Operand, y: Operand) -> Value:
        return self._apply("le", (x, y))

    def gt(self, x: Operand, y: Operand) -> Value:
        return self._apply("gt", (x, y))

    def ge(self, x: Operand, y: Operand) -> Value:
        return self._apply("ge", (x, y))

    def select(self, cond: Value, x: Operand, y: Operand) -> Value:
        """`x` where `cond` holds, else `y`; both are computed."""
        x, y = self._lift((x, y))
        return self._apply("select", (cond, x, y))

    # -- bits

    def and_(self, x: Operand, y: Operand) -> Value:
        return self._apply("and_", (x, y))

    def or_(self, x: Operand, y: Operand) -> Value:
        return self._apply("or_", (x, y))

    def xor(self, x: Operand, y: Operand) -> Value:
        return self._apply("xor", (x, y))

    def not_(self, x: Value) -> Value:
        return self._apply("not_", (x,))

    def shl(self, x: Operand, y: Operand) -> Value:
        return self._apply("shl", (x, y))

    def lshr(self, x: Operand, y: Operand) -> Value:
        return self._apply("lshr", (x, y))

    def ashr(self, x: Operand, y: Operand) -> Value:
        return self._apply("ashr", (x, y))

    def bitcast(self, x: Value, dtype: DType) -> Value:
        """The same bits read as `dtype`, of equal width."""
        source = self.dtype(x)
        if source is dtype:
            return x
        if source.bits != dtype.bits or source.is_bool or dtype.is_bool:
            raise TypeError(f"bitcast: {source.name} has not the width of {dtype.name}")
        return self.primitive("bitcast", (x,), dtype)

    def convert(self, x: Value, dtype: DType) -> Value:
        """`x` as `dtype`, defined for every value.

        Float to int truncates toward zero and saturates, NaN gives 0; to bool is `x != 0`; to a
        narrower float rounds to nearest even (float64 to bfloat16 through float32, as ml_dtypes).
        """
        return x if self.dtype(x) is dtype else self.primitive("convert", (x,), dtype)

    def lookup(self, index: Value, table: tuple[int | float, ...], dtype: DType) -> Value:
        """Entry `index` of a constant table; the index must be in range. Meant for rare paths."""
        return self.primitive("lookup", (index,), dtype, table)

    # -- named functions: see `expansions`

    def exp(self, x: Value) -> Value:
        return self.named("exp", (x,))

    def exp2(self, x: Value) -> Value:
        return self.named("exp2", (x,))

    def expm1(self, x: Value) -> Value:
        return self.named("expm1", (x,))

    def log(self, x: Value) -> Value:
        return self.named("log", (x,))

    def log2(self, x: Value) -> Value:
        return self.named("log2", (x,))

    def log10(self, x: Value) -> Value:
        return self.named("log10", (x,))

    def log1p(self, x: Value) -> Value:
        return self.named("log1p", (x,))

    def tanh(self, x: Value) -> Value:
        return self.named("tanh", (x,))

    def sigmoid(self, x: Value) -> Value:
        return self.named("sigmoid", (x,))

    def softplus(self, x: Value) -> Value:
        return self.named("softplus", (x,))

    def sinh(self, x: Value) -> Value:
        return self.named("sinh", (x,))

    def cosh(self, x: Value) -> Value:
        return self.named("cosh", (x,))

    def asinh(self, x: Value) -> Value:
        return self.named("asinh", (x,))

    def acosh(self, x: Value) -> Value:
        return self.named("acosh", (x,))

    def atanh(self, x: Value) -> Value:
        return self.named("atanh", (x,))

    def erf(self, x: Value) -> Value:
        return self.named("erf", (x,))

    def erfc(self, x: Value) -> Value:
        return self.named("erfc", (x,))

    def sin(self, x: Value) -> Value:
        return self.named("sin", (x,))

    def cos(self, x: Value) -> Value:
        return self.named("cos", (x,))

    def tan(self, x: Value) -> Value:
        return self.named("tan", (x,))

    def asin(self, x: Value) -> Value:
        return self.named("asin", (x,))

    def acos(self, x: Value) -> Value:
        return self.named("acos", (x,))

    def atan(self, x: Value) -> Value:
        return self.named("atan", (x,))

    def atan2(self, y: Operand, x: Operand) -> Value:
        """The angle of the point (x, y)."""
        return self.named("atan2", self._lift((y, x)))

    def hypot(self, x: Operand, y: Operand) -> Value:
        return self.named("hypot", self._lift((x, y)))

    def pow(self, x: Operand, y: Operand) -> Value:
        return self.named("pow", self._lift((x, y)))

    def lgamma(self, x: Value) -> Value:
        return self.named("lgamma", (x,))

    def digamma(self, x: Value) -> Value:
        return self.named("digamma", (x,))

    def trigamma(self, x: Value) -> Value:
        return self.named("trigamma", (x,))

    def zeta(self, x: Operand, q: Operand) -> Value:
        return self.named("zeta", self._lift((x, q)))

    def polygamma(self, a: Operand, x: Operand) -> Value:
        return self.named("polygamma", self._lift((a, x)))

    def ndtri(self, x: Value) -> Value:
        return self.named("ndtri", (x,))

    def erfinv(self, x: Value) -> Value:
        return self.named("erfinv", (x,))

    def ldexp(self, x: Value, n: Value) -> Value:
        """`x * 2**n`, where n is an integer of x's width with |n| < 2 * (greatest exponent)."""
        return self.named("ldexp", (x, n))

    def minimum(self, x: Operand, y: Operand) -> Value:
        return self.named("minimum", self._lift((x, y)))

    def maximum(self, x: Operand, y: Operand) -> Value:
        return self.named("maximum", self._lift((x, y)))

    def floordiv(self, x: Operand, y: Operand) -> Value:
        return self.named("floordiv", self._lift((x, y)))

    def mod(self, x: Operand, y: Operand) -> Value:
        return self.named("mod", self._lift((x, y)))

    def fmod(self, x: Operand, y: Operand) -> Value:
        return self.named("fmod", self._lift((x, y)))

    def relu(self, x: Value) -> Value:
        return self.named("relu", (x,))

    def sign(self, x: Value) -> Value:
        return self.named("sign", (x,))

    def square(self, x: Value) -> Value:
        return self.named("square", (x,))

    def reciprocal(self, x: Value) -> Value:
        return self.named("reciprocal", (x,))

    def isnan(self, x: Value) -> Value:
        return self.named("isnan", (x,))

    def isinf(self, x: Value) -> Value:
        return self.named("isinf", (x,))

    def isfinite(self, x: Value) -> Value:
        return self.named("isfinite", (x,))

    def signbit(self, x: Value) -> Value:
        return self.named("signbit", (x,))

    # -- random bits

    def philox(
        self, key: Value, counter: Value, counter_high: Value | None = None
    ) -> tuple[Value, Value, Value, Value]:
        """The four uint32 words of Philox4x32-10 at a uint64 key and a 128-bit counter."""
        high = self.const(0, dtypes.uint64) if counter_high is None else counter_high
        a, b, c, d = (self.named("philox", (key, counter, high), word) for word in range(4))
        return a, b, c, d

    def uniform01_f32(self, bits: Value) -> Value:
        """A float32 in [0, 1) from the high 24 bits of a uint32."""
        return self.named("uniform01_f32", (bits,))

    def uniform01_f64(self, high: Value, low: Value) -> Value:
        """A float64 in [0, 1) from 53 bits of two uint32 words."""
        return self.named("uniform01_f64", (high, low))

    # -- shared

    def _apply(self, fn: str, args: tuple[Operand, ...], attr: Any = None) -> Value:
        args = self._lift(args)
        return self.primitive(fn, args, checked_dtype(fn, *map(self.dtype, args)), attr)

    def _lift(self, args: tuple[Operand, ...]) -> tuple[Value, ...]:
        """`args` with Python numbers made constants of the dtype of the first value among them."""
        if not any(type(a) in _NUMBERS for a in args):
            return args
        values = [a for a in args if type(a) not in _NUMBERS]
        if not values:
            raise TypeError("at least one operand must be a value: use const(number, dtype)")
        dtype = self.dtype(values[0])
        return tuple(self.const(a, dtype) if type(a) in _NUMBERS else a for a in args)
