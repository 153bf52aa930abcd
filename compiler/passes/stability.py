"""Stability rules: forms that overflow or cancel, as the ops that do not.

These are the only rewrites that may change a result visibly: it is finite and right where the
plain form gives inf, NaN or 0. They run on graphs, on graphs before these are differentiated, and
on the records of a tape before its backward walk (`stabilise`), so that gradients are right in
every mode; each application is kept for the report.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import Application, current_kind, ops, reapply
from graphgrad.compiler.passes.patterns import (
    STRETCHING,
    Facts,
    Rule,
    attr,
    patterns,
    rule,
    stretched,
    var,
)
from graphgrad.compiler.passes.rewrite import Firing, RuleSet, refused, rewrite
from graphgrad.compiler.types import element_count


def stability(graph: Graph, firings: list[Firing] | None = None) -> Graph:
    """Apply the stability rules wherever they match."""
    return rewrite(graph, rules(), firings)


def stabilised(graph: Graph) -> Graph:
    """`graph` in the form that is differentiated: stable, and with safe norms.

    Its outputs stand for those of `graph` one by one. What was applied is in the result's
    `memo["stability firings"]`.
    """
    key = ("stabilised", refused())
    found = graph.memo.get(key)
    if found is None:
        firings: list[Firing] = []
        found = rewrite(graph, gradient_rules(), firings)
        found.memo["stability firings"] = tuple(firings)
        found.memo[key] = found
        graph.memo[key] = found
    return found


def logistic_rules() -> tuple[Rule, ...]:
    x = var("x")
    exp, log, log1p, expm1 = ops["exp"], ops["log"], ops["log1p"], ops["expm1"]
    sigmoid, softplus = ops["sigmoid"], ops["softplus"]

    def stable(name: str, left: Any, right: Any, gradient: bool = True) -> Rule:
        return rule(name, left, right, exactness="stability", gradient=gradient)

    return (
        stable("softplus", log(1 + exp(x)), softplus(x)),
        stable("softplus from log1p", log1p(exp(x)), softplus(x)),
        stable("log of exp", log(exp(x)), x),
        stable("log sigmoid", log(sigmoid(x)), -softplus(-x)),
        stable("log1p of -sigmoid", log1p(-sigmoid(x)), -softplus(x)),
        stable("1 - sigmoid", 1 - sigmoid(x), sigmoid(-x)),
        stable("sigmoid", 1 / (1 + exp(-x)), sigmoid(x)),
        stable("sigmoid of -x", 1 / (1 + exp(x)), sigmoid(-x)),
        stable("sigmoid by reciprocal", ops["reciprocal"](1 + exp(x)), sigmoid(-x)),
        stable("sigmoid from exp(x)", exp(x) / (1 + exp(x)), sigmoid(x)),
        stable("log1p", log(1 + x), log1p(x), gradient=False),
        stable("log1p of -x", log(1 - x), log1p(-x), gradient=False),
        stable("expm1", exp(x) - 1, expm1(x), gradient=False),
        stable("expm1 by addition", exp(x) + -1, expm1(x), gradient=False),
        stable("-expm1", 1 - exp(x), -expm1(x), gradient=False),
    )


def tanh_rules() -> tuple[Rule, ...]:
    """The hyperbolic tangent written out; the last two after expm1 was found in the numerator."""
    x = var("x")
    exp, expm1, tanh = ops["exp"], ops["expm1"], ops["tanh"]
    forms = (
        ("tanh", (exp(x) - exp(-x)) / (exp(x) + exp(-x)), tanh(x)),
        ("tanh of x/2", (exp(x) - 1) / (exp(x) + 1), tanh(x * 0.5)),
        ("tanh of -x/2", (1 - exp(x)) / (1 + exp(x)), tanh(x * -0.5)),
        ("tanh of x/2 from expm1", expm1(x) / (1 + exp(x)), tanh(x * 0.5)),
        ("tanh of -x/2 from expm1", (-expm1(x)) / (1 + exp(x)), tanh(x * -0.5)),
    )
    return tuple(rule(n, a, b, exactness="stability", gradient=True) for n, a, b in forms)


def is_shifted(x: Any, facts: Facts) -> bool:
    """Is `x` already z - max(z), so that its exponentials cannot overflow?"""
    node = facts.producer(x)
    if node is None or node.op.name != "sub":
        return False
    return reaches_maximum(node.inputs[1], node.inputs[0], facts, 6)


def reaches_maximum(x: Any, of: Any, facts: Facts, depth: int) -> bool:
    """Is `x` made from the maximum of `of` by views and guards against infinities?"""
    node = facts.producer(x) if depth else None
    if node is None:
        return False
    if node.op.name == "max":
        return node.inputs[0] is of
    passing = node.op.name in STRETCHING or node.op.name in ("where", "stop_gradient", "cast")
    return passing and any(reaches_maximum(v, of, facts, depth - 1) for v in node.inputs)


def aligned(s: Any, x: Any, axes: tuple[int, ...], facts: Facts) -> bool:
    """Does `s`, made by views from a sum over `axes` of a function of `x`, meet each element of `x`
    with the sum that the element is part of?"""
    node = facts.producer(s)
    while node is not None and node.op.name == "broadcast_to":
        s = node.inputs[0]
        node = facts.producer(s)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.type.shape))
    if s.type.shape == kept:
        return True
    leading = axes == tuple(range(len(axes)))
    return leading and node is not None and node.op.name == "sum"


def viewed(value: Any, like: Any, facts: Facts) -> Any:
    """The views that made `like` from a reduction, applied to `value`."""
    node = facts.producer(like)
    if node is None or node.op.name not in STRETCHING:
        return value
    return reapply(node.op, (viewed(value, node.inputs[0], facts),), node.attrs)[0]


def log_of_sum(
    x: Any, axes: tuple[int, ...], keepdims: bool, root: Application, facts: Facts
) -> Any:
    """logsumexp over the axes of the sum, in the shape that views gave the sum."""
    result = ops["logsumexp"](x, axis=axes, keepdims=keepdims)
    return viewed(result, root.inputs[0], facts)


def log_of_mean(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """logsumexp less the logarithm of the count."""
    count = element_count(x.type.shape[i] for i in axes)
    n = current_kind().lift(count).cast(x.type.dtype)
    return ops["logsumexp"](x, axis=axes, keepdims=keepdims) - ops["log"](n)


def log_of_quotient(x: Any, s: Any, facts: Facts) -> Any:
    """x - log(s), with the logarithm before the broadcast of `s`."""
    node = facts.producer(s)
    if node is not None and node.op.name == "broadcast_to":
        return x - ops["log"](node.inputs[0]).broadcast_to(s.type.shape)
    return x - ops["log"](s)


def is_softmax(x: Any, axes: tuple[int, ...], root: Application, facts: Facts) -> bool:
    """Is exp(x) divided by its own sum along one axis, and not yet shifted?"""
    return len(axes) == 1 and not is_shifted(x, facts) and aligned(root.inputs[1], x, axes, facts)


def softmax_rules() -> tuple[Rule, ...]:
    x, s = var("x"), var("s")
    axis, axes, keepdims = attr("axis"), attr("axes"), attr("keepdims")
    exp, log, total = ops["exp"], ops["log"], ops["sum"]
    softmax, log_softmax = ops["softmax"], ops["log_softmax"]
    exponentials = stretched(total(exp(x), axes=axes, keepdims=keepdims))
    return (
        rule(
            "log softmax",
            log(softmax(x, axis=axis)),
            log_softmax(x, axis=axis),
            exactness="stability",
            gradient=True,
        ),
        rule(
            "softmax",
            exp(x) / exponentials,
            lambda x, axes: softmax(x, axis=axes[0]),
            when=is_softmax,
            exactness="stability",
            gradient=True,
            builds=("softmax",),
        ),
        rule(
            "log of exp(x) / s",
            log(exp(x) / s),
            log_of_quotient,
            exactness="stability",
            gradient=True,
            builds=("sub", "log"),
        ),
        rule(
            "log of mean of exp",
            log(ops["mean"](exp(x), axes=axes, keepdims=keepdims)),
            log_of_mean,
            when=lambda x, facts: not is_shifted(x, facts),
            exactness="stability",
            gradient=True,
            builds=("logsumexp",),
        ),
        rule(
            "logsumexp",
            log(exponentials),
            log_of_sum,
            when=lambda x, facts: not is_shifted(x, facts),
            exactness="stability",
            gradient=True,
            builds=("logsumexp",),
        ),
    )


def is_quadratic(x: Any, facts: Facts, depth: int = 6) -> bool:
    """Is `x` a sum of squares, so that the slope of its root at 0 is undefined but bounded?"""
    node = facts.producer(x) if depth else None
    if node is None:
        return False
    name, inputs = node.op.name, node.inputs
    if name == "square" or (name == "mul" and inputs[0] is inputs[1]):
        return True
    if name == "pow":
        power = facts.scalar(inputs[1])
        return power is not None and float(power) == 2
    if name in ("sum", "mean") or name in STRETCHING:
        return is_quadratic(inputs[0], facts, depth - 1)
    if name == "add":
        return all(is_quadratic(v, facts, depth - 1) for v in inputs)
    if name in ("mul", "div"):
        factor = facts.scalar(inputs[1])
        return (
            factor is not None and float(factor) > 0 and is_quadratic(inputs[0], facts, depth - 1)
        )
    return False


def safe_root(x: Any) -> Any:
    """sqrt(x) with derivative 0 at x = 0: the least subgradient of a norm."""
    zero = x == 0
    return ops["where"](zero, 0.0, ops["sqrt"](ops["where"](zero, 1.0, x)))


def norm_rules() -> tuple[Rule, ...]:
    """Only before differentiation: the values are those of sqrt, the derivative at 0 is not."""
    x = var("x")
    return (
        rule("norm", ops["sqrt"](x), safe_root, when=is_quadratic, exactness="stability"),
        rule("norm by power", x**0.5, safe_root, when=is_quadratic, exactness="stability"),
    )


@cache
def rules() -> RuleSet:
    """The rules for graphs."""
    with patterns():
        return RuleSet((*softmax_rules(), *tanh_rules(), *logistic_rules()))


@cache
def gradient_rules() -> RuleSet:
    """The rules for what is about to be differentiated: those whose derivative is better too."""
    with patterns():
        return RuleSet((*(r for r in rules() if r.gradient), *norm_rules()))
