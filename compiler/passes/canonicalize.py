"""Canonical forms of views and constants: one way to write what has several."""

from __future__ import annotations

from functools import cache
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.ir import Graph, Value
from graphgrad.compiler.op import Application, Op, ops, reapply
from graphgrad.compiler.passes.fold import literal
from graphgrad.compiler.passes.patterns import (
    COMMUTATIVE,
    Child,
    Facts,
    attr,
    node_rule,
    patterns,
    rule,
    var,
)
from graphgrad.compiler.passes.rewrite import Firing, RuleSet, rewrite
from graphgrad.compiler.types import Shape


def canonicalize(graph: Graph, firings: list[Firing] | None = None) -> Graph:
    """Compose views, drop those that do nothing, put constants on the right, and broadcast last."""
    return rewrite(graph, rules(), firings)


def compose(inner: tuple[int, ...], outer: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation of transposing by `inner`, then by `outer`."""
    return tuple(inner[i] for i in outer)


def adds_leading_ones(x: Any, root: Application, facts: Facts) -> bool:
    """Does the reshape below `root` only put axes of size 1 in front of those of `x`?"""
    shape = root.inputs[0].type.shape
    lead = len(shape) - x.type.ndim
    return lead >= 0 and shape[lead:] == x.type.shape and all(n == 1 for n in shape[:lead])


def drops_reduced_axes(x: Any, axes: tuple[int, ...], shape: Shape) -> bool:
    """Is `shape` that of `x` without `axes`?"""
    return tuple(n for i, n in enumerate(x.type.shape) if i not in axes) == tuple(shape)


def is_number(x: Any) -> bool:
    """Has `x` one element?"""
    return all(n == 1 for n in x.type.shape)


def cast_is_exact(source: DType, middle: DType) -> bool:
    """Does `middle` hold every value of `source`, so that casting on is as from `source`?"""
    if source.is_bool or source is middle:
        return True
    if source.is_floating:
        widening = middle.is_floating and middle.bits > source.bits
        return widening and not (source is dtypes.bfloat16 and middle is dtypes.float16)
    if middle.is_floating:
        mantissa = {16: 8 if middle is dtypes.bfloat16 else 11, 32: 24, 64: 53}[middle.bits]
        return source.bits - (source.kind == "i") <= mantissa
    if middle.kind == source.kind:
        return middle.bits >= source.bits
    return source.kind == "u" and middle.kind == "i" and middle.bits > source.bits


def casts_compose(source: DType, middle: DType, target: DType) -> bool:
    """Is casting on from `middle` the same as casting from `source`?

    An integer that the target cannot hold wraps, but saturates when it comes as a float.
    """
    if source.is_integer and middle.is_floating and target.is_integer:
        return cast_is_exact(source, middle) and cast_is_exact(source, target)
    return cast_is_exact(source, middle)


def swap(root: Application) -> Any:
    """The operands of a commutative op in the other order."""
    return reapply(root.op, root.inputs[::-1], root.attrs)[0]


def broadcast_last(root: Application, facts: Facts) -> Value | None:
    """f(broadcast x, broadcast y, c) as broadcast of f(x, y, c): fewer elements are computed."""
    if root.op.raises and not root.outputs[0].type.dtype.is_floating:
        return None  # it must not raise for the one element that stands for none
    sources: list[Value | None] = []
    for x in root.inputs:
        node = None if facts.scalar(x) is not None else facts.producer(x)
        sources.append(None if node is None else node.inputs[0])
    shapes = {v.type.shape for v in sources if v is not None}
    if len(shapes) != 1:
        return None
    shape = shapes.pop()
    inputs = [
        literal(facts.scalar(x)).broadcast_to(shape) if v is None else v
        for x, v in zip(root.inputs, sources, strict=True)
    ]
    small = reapply(root.op, inputs, root.attrs)[0]
    result: Value = small.broadcast_to(root.outputs[0].type.shape)
    return result


def _elementwise(op: Op) -> bool:
    return isinstance(op, Elementwise)


def _all_broadcast(children: tuple[Child, ...]) -> bool:
    return all(scalar or name == "broadcast_to" for name, scalar in children) and not all(
        scalar for _, scalar in children
    )


def _constant_left(children: tuple[Child, ...]) -> bool:
    return len(children) == 2 and children[0][1] and not children[1][1]


def reduces_of(name: str) -> Any:
    """sum keepdims=True, then a reshape that drops the axes: sum keepdims=False."""
    x, axes = var("x"), attr("axes")
    op = ops[name]
    return rule(
        f"drop the axes of {name}",
        ops["reshape"](op(x, axes=axes, keepdims=True), shape=attr("shape")),
        lambda x, axes: reapply(op, (x,), {"axes": axes, "keepdims": False})[0],
        when=drops_reduced_axes,
    )


def slice_rules() -> tuple[Any, ...]:
    x, r, s, t, u, v, w = var("x"), *map(attr, "rstuvw")
    take = ops["slice"]
    return (
        rule(
            "slice to itself",
            take(x, starts=r, sizes=s, steps=t),
            x,
            when=lambda x, r, s, t: (
                x.type.shape == s
                and all(isinstance(n, int) and n == 0 for n in r)
                and all(n == 1 for n in t)
            ),
        ),
        rule(
            "slice of slice",
            take(take(x, starts=r, sizes=s, steps=t), starts=u, sizes=v, steps=w),
            lambda x, r, t, u, v, w: take(
                x,
                tuple(a + b * c for a, b, c in zip(r, u, t, strict=True)),
                v,
                tuple(a * b for a, b in zip(t, w, strict=True)),
            ),
        ),
        rule(
            "slice of broadcast number",
            take(ops["broadcast_to"](x, shape=attr("a")), starts=r, sizes=s, steps=t),
            lambda x, s: x.reshape(()).broadcast_to(s),
            when=is_number,
        ),
    )


def view_rules() -> tuple[Any, ...]:
    x, a, b, p, q, s = var("x"), *map(attr, "abpqs")
    reshape, broadcast, transpose, cast = map(
        ops.__getitem__, ("reshape", "broadcast_to", "transpose", "cast")
    )
    return (
        rule("reshape to itself", reshape(x, shape=s), x, when=lambda x, s: x.type.shape == s),
        rule("reshape of reshape", reshape(reshape(x, shape=a), shape=b), reshape(x, shape=b)),
        rule("broadcast to itself", broadcast(x, shape=s), x, when=lambda x, s: x.type.shape == s),
        rule(
            "broadcast of broadcast",
            broadcast(broadcast(x, shape=a), shape=b),
            broadcast(x, shape=b),
        ),
        rule(
            "broadcast of added axes",
            broadcast(reshape(x, shape=a), shape=b),
            broadcast(x, shape=b),
            when=adds_leading_ones,
        ),
        rule(
            "reshape of broadcast number",
            reshape(broadcast(x, shape=a), shape=b),
            lambda x, b: x.reshape(()).broadcast_to(b),
            when=is_number,
        ),
        rule(
            "transpose of broadcast number",
            transpose(broadcast(x, shape=a), perm=p),
            lambda x, root: x.reshape(()).broadcast_to(root.outputs[0].type.shape),
            when=is_number,
        ),
        rule(
            "transpose to itself",
            transpose(x, perm=p),
            x,
            when=lambda p: p == tuple(range(len(p))),
        ),
        rule(
            "transpose of transpose",
            transpose(transpose(x, perm=p), perm=q),
            lambda x, p, q: x.transpose(compose(p, q)),
        ),
        *slice_rules(),
        rule("cast to itself", cast(x, dtype=a), x, when=lambda x, a: x.type.dtype is a),
        rule(
            "cast of cast",
            cast(cast(x, dtype=a), dtype=b),
            lambda x, b: x.cast(b),
            when=lambda x, a, b: casts_compose(x.type.dtype, a, b),
        ),
    )


@cache
def rules() -> RuleSet:
    """The canonical forms."""
    with patterns():
        return RuleSet(
            (
                node_rule(
                    "constant on the right", tuple(sorted(COMMUTATIVE)), swap, _constant_left
                ),
                *view_rules(),
                *(reduces_of(name) for name in ("sum", "prod", "max", "min", "any", "all")),
                node_rule("broadcast last", _elementwise, broadcast_last, _all_broadcast),
            )
        )
