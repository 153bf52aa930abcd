"""Algebraic rules.

Every rule holds for NaN, infinities, signed zeros and subnormals, or says what it is by its
`exactness`. What is missing here is missing on purpose: x + 0 (changes -0), x * 0 and x - x (NaN),
x / x, -(x - y) (changes the sign of zero), sqrt(x * x), exp(log(x)).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops
from graphgrad.compiler.passes.fold import splat
from graphgrad.compiler.passes.patterns import (
    STRETCHING,
    Facts,
    Rule,
    applied,
    attr,
    const,
    patterns,
    rule,
    var,
)
from graphgrad.compiler.passes.rewrite import Firing, RuleSet, rewrite


def algebra(graph: Graph, firings: list[Firing] | None = None, fast_math: bool = False) -> Graph:
    """Apply the algebraic rules wherever they match."""
    return rewrite(graph, rules(), firings, fast_math)


def is_float(x: Any) -> bool:
    return bool(x.type.dtype.is_floating)


def is_integer(x: Any) -> bool:
    return bool(x.type.dtype.is_integer)


def is_wide(x: Any) -> bool:
    """Do two roundings in place of one not matter? They do in 16-bit floats."""
    return not is_float(x) or bool(x.type.dtype.bits > 16)


def nonnegative(x: Any, facts: Facts, depth: int = 6) -> bool:
    """Is every element NaN, or at least +0? False where not known."""
    scalar = facts.scalar(x)
    if scalar is not None:
        return bool(float(scalar) >= 0 and math.copysign(1, float(scalar)) > 0)
    node = facts.producer(x)
    if node is None or depth == 0:
        return False
    name = node.op.name
    if name in ("exp", "abs", "square", "sigmoid", "softplus"):
        return name != "square" or is_float(x)
    if name == "cast":
        return bool(node.inputs[0].type.dtype.kind in "bu")
    if name in ("sum", "max", "add", "mul", "sqrt", "maximum", "minimum") or name in STRETCHING:
        return all(nonnegative(v, facts, depth - 1) for v in node.inputs)
    return False


def never_negative_zero(x: Any, facts: Facts, depth: int = 6) -> bool:
    """Is no element -0? A sum is -0 only if both terms are."""
    if not is_float(x) or nonnegative(x, facts):
        return True
    scalar = facts.scalar(x)
    if scalar is not None:
        return bool(scalar != 0)
    node = facts.producer(x)
    if node is None or depth == 0:
        return False
    if node.op.name == "add":
        return any(never_negative_zero(v, facts, depth - 1) for v in node.inputs)
    if node.op.name == "cast":
        return not is_float(node.inputs[0])
    return node.op.name in STRETCHING and never_negative_zero(node.inputs[0], facts, depth - 1)


def power_of_two(x: Any, c: Any) -> bool:
    """Is 1/c exact in the dtype of `x`, so that dividing by c is multiplying by 1/c?"""
    if not is_float(x) or not math.isfinite(float(c)) or float(c) == 0:
        return False
    mantissa, exponent = math.frexp(float(c))
    return abs(mantissa) == 0.5 and abs(exponent) < {16: 14, 32: 126, 64: 1022}[x.type.dtype.bits]


def inverse(c: Any) -> Any:
    return c.dtype.type(1 / float(c))


def minus(c: Any) -> Any:
    return np.negative(c)


def arithmetic() -> tuple[Rule, ...]:
    x, y, c = var("x"), var("y"), const("c")
    multiply = ops["mul"]
    return (
        rule("identity", ops["identity"](x), x),
        rule("stop gradient", ops["stop_gradient"](x), x),
        rule("neg of neg", ops["neg"](-x), x),
        rule("times 1", x * 1, x),
        rule("over 1", x / 1, x, when=is_float),
        rule("plus -0", x + -0.0, x),
        rule("minus 0", x - 0.0, x),
        rule("plus 0", x + 0.0, x, when=never_negative_zero),
        rule("plus 0, roughly", x + 0.0, x, exactness="fast_math"),
        rule("-0 minus", -0.0 - x, -x),
        rule("times -1", x * -1, -x),
        rule("over -1", x / -1, -x, when=is_float),
        rule("plus neg", x + (-y), x - y),
        rule("minus neg", x - (-y), x + y),
        rule("neg times neg", (-x) * (-y), x * y),
        rule("neg over neg", (-x) / (-y), x / y),
        rule("neg times number", (-x) * c, lambda x, c: multiply(x, minus(c))),
        rule("neg of product with number", -(x * c), lambda x, c: multiply(x, minus(c))),
        rule("over a power of two", x / c, lambda x, c: multiply(x, inverse(c)), when=power_of_two),
        rule("over a number, roughly", x / c, lambda x, c: multiply(x, inverse(c)),
             when=lambda x, c: is_float(x) and c != 0, exactness="fast_math"),
        rule("abs of neg", abs(-x), abs(x), when=lambda x: x.type.dtype.kind != "u"),
        rule("abs of abs", abs(abs(x)), abs(x)),
        rule("abs of square", abs(ops["square"](x)), ops["square"](x), when=is_float),
        rule("square of neg", ops["square"](-x), ops["square"](x)),
        rule("square of abs", ops["square"](abs(x)), ops["square"](x)),
        rule("product with itself", x * x, ops["square"](x)),
        rule("relu of relu", ops["relu"](ops["relu"](x)), ops["relu"](x)),
        rule("maximum of one", ops["maximum"](x, x), x),
        rule("minimum of one", ops["minimum"](x, x), x),
        rule("product of exponentials", ops["exp"](x) * ops["exp"](y), ops["exp"](x + y),
             exactness="fast_math"),
    )  # fmt: skip


def powers() -> tuple[Rule, ...]:
    x = var("x")
    square = ops["square"]
    return (
        rule("power 2", x**2, square(x), exactness="rounding"),
        rule("power 1", x**1, x),
        rule("power 0", x**0, lambda x: splat(x.type.dtype.dtype.type(1), x)),
        rule("power 3", x**3, x * square(x), when=is_wide, exactness="rounding"),
        rule("power 4", x**4, square(square(x)), when=is_wide, exactness="rounding"),
        rule("power -1", x**-1, ops["reciprocal"](x), when=is_float, exactness="rounding"),
        rule("power 1/2", x**0.5, ops["sqrt"](x), when=nonnegative, exactness="rounding"),
    )


def logic() -> tuple[Rule, ...]:
    x, y, z, c = var("x"), var("y"), var("z"), const("c")
    p = var("p")
    where, equal, unequal = ops["where"], ops["equal"], ops["not_equal"]
    less, less_equal = ops["less"], ops["less_equal"]
    greater, greater_equal = ops["greater"], ops["greater_equal"]
    return (
        rule("where constant", where(c, x, y), lambda c, x, y: x if c else y),
        rule("where of one", where(p, x, x), x),
        rule("where not", where(~p, x, y), where(p, y, x)),
        rule("where inside its branch", where(p, where(p, x, y), z), where(p, x, z)),
        rule("where inside the other branch", where(p, x, where(p, y, z)), where(p, x, z)),
        rule("not not", ~~p, p),
        rule("and of one", p & p, p),
        rule("or of one", p | p, p),
        rule("and true", p & True, p),
        rule("or false", p | False, p),
        rule("xor false", p ^ False, p),
        rule("xor true", p ^ True, ~p),
        rule("and false", p & False, lambda root: splat(np.bool_(False), root.outputs[0])),
        rule("or true", p | True, lambda root: splat(np.bool_(True), root.outputs[0])),
        rule("not equal", ~equal(x, y), unequal(x, y)),
        rule("not unequal", ~unequal(x, y), equal(x, y)),
        rule("not less", ~less(x, y), greater_equal(x, y), when=is_integer),
        rule("not less or equal", ~less_equal(x, y), greater(x, y), when=is_integer),
        rule("not greater", ~greater(x, y), less_equal(x, y), when=is_integer),
        rule("not greater or equal", ~greater_equal(x, y), less(x, y), when=is_integer),
    )


def cotangents() -> tuple[Rule, ...]:
    """cotangent_product(g, p) is g * p, except that 0 * inf and 0 * NaN are 0 there."""
    g, p, c, a = var("g"), var("p"), const("c"), attr("a")
    product = ops["cotangent_product"]
    return (
        rule("cotangent times number", product(g, c), lambda g, c: ops["mul"](g, c),
             when=lambda g, c: is_float(g) and np.isfinite(c)),
        rule("cotangent is a number", product(c, p), lambda p, c: ops["mul"](p, c),
             when=lambda p, c: is_float(p) and c != 0),
        rule("cotangent times mask", product(g, ops["cast"](p, dtype=a)),
             lambda g, p, root: ops["mul"](g, root.inputs[1]),
             when=lambda p: p.type.dtype.is_bool),
    )  # fmt: skip


def swaps_last_two(p: tuple[int, ...]) -> bool:
    """Does transposing by `p` swap the last two axes and no others?"""
    rank = len(p)
    return rank >= 2 and p == (*range(rank - 2), rank - 1, rank - 2)


def products() -> tuple[Rule, ...]:
    """Transposes of operands are free: BLAS takes them as flags."""
    x, y, p, a, b = var("x"), var("y"), attr("p"), attr("a"), attr("b")
    matmul, transpose = ops["matmul"], ops["transpose"]
    return (
        rule(
            "matmul of transpose",
            applied("matmul", transpose(x, perm=p), y, transpose_a=a, transpose_b=b),
            lambda x, y, a, b: matmul(x, y, transpose_a=not a, transpose_b=b),
            when=swaps_last_two,
            exactness="rounding",
        ),
        rule(
            "matmul with transpose",
            applied("matmul", x, transpose(y, perm=p), transpose_a=a, transpose_b=b),
            lambda x, y, a, b: matmul(x, y, transpose_a=a, transpose_b=not b),
            when=swaps_last_two,
            exactness="rounding",
        ),
        rule(
            "transpose of matmul",
            transpose(applied("matmul", x, y, transpose_a=a, transpose_b=b), perm=p),
            lambda x, y, a, b: matmul(y, x, transpose_a=not b, transpose_b=not a),
            when=lambda p, root, facts: swaps_last_two(p) and facts.used_once(root.inputs[0]),
            exactness="rounding",
        ),
    )


def reductions() -> tuple[Rule, ...]:
    """A reduction over axes that were just reduced, and over axes of size 1."""
    x, a, b = var("x"), attr("a"), attr("b")
    found = []
    for name in ("sum", "prod", "max", "min", "any", "all"):
        op = ops[name]
        exactness: Any = "rounding" if name in ("sum", "prod") else "exact"
        found += [
            rule(f"{name} of {name}", op(op(x, axes=a, keepdims=False), axes=b, keepdims=False),
                 lambda x, a, b, op=op: op(x, axis=both_axes(x, a, b)), exactness=exactness),
            rule(f"{name} of single elements", op(x, axes=a, keepdims=attr("k")),
                 lambda x, root: x.reshape(root.outputs[0].type.shape),
                 when=lambda x, a: all(x.type.shape[i] == 1 for i in a), exactness=exactness),
        ]  # fmt: skip
    return tuple(found)


def both_axes(x: Any, first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `x` that reducing `first`, then `second` of what is left, reduces."""
    left = [i for i in range(x.type.ndim) if i not in first]
    return tuple(sorted((*first, *(left[i] for i in second))))


@cache
def rules() -> RuleSet:
    """The algebraic rules."""
    with patterns():
        return RuleSet(
            (*arithmetic(), *powers(), *logic(), *cotangents(), *products(), *reductions())
        )
