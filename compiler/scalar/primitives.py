"""The closed set of primitive scalar operations that every target implements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType

# Which dtypes a primitive takes: "n" int and float, "f" float, "i" int, "l" int and bool, "*" all.
# Arithmetic on floats means float32 and float64: 16-bit floats are converted, computed, converted
# back by the caller.


@dataclass(frozen=True, slots=True)
class Primitive:
    """One primitive: number of operands, operand kinds, result rule and cost.

    `result` is "same" (dtype of the last operand), "bool", "attr" (the dtype asked for) or "none".
    `cost` is in units of one cheap vector instruction per element (0: free).
    """

    arity: int
    kinds: str
    result: str
    cost: float
    doc: str


PRIMITIVES: dict[str, Primitive] = {
    "const": Primitive(0, "*", "attr", 0, "a literal; attr is the Python number"),
    "index": Primitive(0, "i", "attr", 1, "int64 loop index along axis `attr`"),
    "add": Primitive(2, "n", "same", 1, "x + y; integers wrap"),
    "sub": Primitive(2, "n", "same", 1, "x - y; integers wrap"),
    "mul": Primitive(2, "n", "same", 1, "x * y; integers wrap"),
    "div": Primitive(2, "f", "same", 5, "x / y"),
    "neg": Primitive(1, "n", "same", 1, "-x"),
    "abs": Primitive(1, "n", "same", 1, "|x|; the least integer stays itself"),
    "sqrt": Primitive(1, "f", "same", 6, "correctly rounded square root"),
    "fma": Primitive(3, "f", "same", 1, "x * y + z with one rounding"),
    "floor": Primitive(1, "f", "same", 1, "greatest integer <= x"),
    "ceil": Primitive(1, "f", "same", 1, "least integer >= x"),
    "trunc": Primitive(1, "f", "same", 1, "x rounded toward zero"),
    "rint": Primitive(1, "f", "same", 1, "x rounded to nearest, ties to even"),
    "copysign": Primitive(2, "f", "same", 1, "|x| with the sign bit of y"),
    "eq": Primitive(2, "*", "bool", 1, "x == y, false for NaN"),
    "ne": Primitive(2, "*", "bool", 1, "x != y, true for NaN"),
    "lt": Primitive(2, "*", "bool", 1, "x < y, false for NaN"),
    "le": Primitive(2, "*", "bool", 1, "x <= y, false for NaN"),
    "gt": Primitive(2, "*", "bool", 1, "x > y, false for NaN"),
    "ge": Primitive(2, "*", "bool", 1, "x >= y, false for NaN"),
    "select": Primitive(3, "*", "same", 1, "y where the bool x holds, else z"),
    "and_": Primitive(2, "l", "same", 1, "x & y"),
    "or_": Primitive(2, "l", "same", 1, "x | y"),
    "xor": Primitive(2, "l", "same", 1, "x ^ y"),
    "not_": Primitive(1, "l", "same", 1, "~x"),
    "shl": Primitive(2, "i", "same", 1, "x << y; 0 unless 0 <= y < bits"),
    "lshr": Primitive(2, "i", "same", 1, "x >> y filling with zeros; 0 unless 0 <= y < bits"),
    "ashr": Primitive(2, "i", "same", 1, "x >> y filling with the sign; y is at most bits - 1"),
    "bitcast": Primitive(1, "*", "attr", 0, "the same bits as another dtype of equal width"),
    "convert": Primitive(1, "*", "attr", 1, "numeric conversion, defined for every value"),
    "lookup": Primitive(1, "i", "attr", 8, "entry x, which must be in range, of the table `attr`"),
    "idiv": Primitive(2, "i", "same", 15, "quotient toward zero; x/0 = 0, least/-1 wraps"),
    "irem": Primitive(2, "i", "same", 16, "remainder with the sign of x; x rem 0 = 0"),
    "frem": Primitive(2, "f", "same", 60, "C's fmod: exact, with the sign of x; slow"),
    "require": Primitive(3, "*", "none", 1, "fail with status `attr` and y, z where x is false"),
}  # fmt: skip


def result_dtype(fn: str, operands: tuple[DType, ...], asked: DType | None = None) -> DType:
    """The dtype of primitive `fn`, checked against what its operands may be."""
    rule = PRIMITIVES[fn]
    if rule.result == "attr":
        assert asked is not None
        return asked
    if rule.result in ("bool", "none"):
        return dtypes.bool_
    return operands[-1]


@cache
def checked_dtype(fn: str, *operands: DType) -> DType:
    """The dtype of primitive `fn` on these operands; TypeError if it takes no such ones."""
    check_operands(fn, operands)
    return result_dtype(fn, operands)


def check_operands(fn: str, operands: tuple[DType, ...]) -> None:
    """Raise TypeError unless primitive `fn` is defined on these dtypes."""
    rule = PRIMITIVES[fn]
    if len(operands) != rule.arity:
        raise TypeError(f"{fn} takes {rule.arity} operands, got {len(operands)}")
    data = operands
    if fn in ("select", "require"):
        if operands[0] is not dtypes.bool_:
            raise TypeError(f"{fn}: the condition must be bool, not {operands[0].name}")
        data = operands[1:]
    if fn != "require" and len(set(data)) > 1:
        raise TypeError(f"{fn}: dtypes differ: {', '.join(d.name for d in operands)}")
    for d in data:
        if not _takes(rule.kinds, d, fn):
            hint = "; convert to float32 first" if d.is_floating else ""
            raise TypeError(f"{fn} is not defined on {d.name}{hint}")


def _takes(kinds: str, d: DType, fn: str) -> bool:
    if d.is_floating and d.bits == 16:  # storage only
        return fn in ("select", "bitcast", "convert", "require")
    return kinds == "*" or d.kind in {"n": "iuf", "f": "f", "i": "iu", "l": "iub"}[kinds]
