"""Patterns, rules and the driver; every algebraic rule at edge values; planted wrong rules."""

import numpy as np
import pytest

from graphgrad.compiler.errors import ArgumentError, InvalidGraph
from graphgrad.compiler.op import ops
from graphgrad.compiler.passes import algebra
from graphgrad.compiler.passes.patterns import (
    attr,
    const,
    node_rule,
    patterns,
    rule,
    stretched,
    var,
)
from graphgrad.compiler.passes.rewrite import RuleSet, rewrite
from graphgrad.compiler.pipeline import optimise, refuse, simplifying_rules
from graphgrad.compiler.printer import graph_text
from graphgrad.compiler.verify import verify
from tests.compiler.compiling import calls_made
from tests.compiler.rewriting import (
    assert_rewrites,
    check_rule,
    edges,
    f32,
    graph_of,
    tidy,
    typed,
    variables,
)


def one(*rules):
    return lambda graph: rewrite(graph, RuleSet(rules))


def made(fn):
    """A rule written with pattern variables x, y and c."""
    with patterns():
        return fn(var("x"), var("y"), const("c"))


# Matching


def test_a_rule_replaces_what_matches_and_nothing_else():
    r = made(lambda x, y, c: rule("softplus", ops["log"](1 + ops["exp"](x)), ops["softplus"](x)))
    assert_rewrites(
        one(r),
        lambda x: ops["log"](1 + ops["exp"](x)) * ops["log"](2 + ops["exp"](x)),
        lambda x: ops["softplus"](x) * ops["log"](2 + ops["exp"](x)),
        [f32(3)],
        "stability",
    )


@pytest.mark.parametrize("left", [lambda e: 1 + e, lambda e: e + 1], ids=["1 + e", "e + 1"])
def test_commutative_ops_match_in_either_order(left):
    r = made(lambda x, y, c: rule("r", ops["log"](1 + ops["exp"](x)), ops["softplus"](x)))
    graph = rewrite(graph_of(lambda x: ops["log"](left(ops["exp"](x))), [f32(3)]), RuleSet([r]))
    assert graph.nodes[-1].op.name == "softplus"


def test_commutative_matching_goes_back_when_a_later_input_does_not_fit():
    exp = ops["exp"]
    r = made(lambda x, y, c: rule("r", (exp(x) + exp(y)) / exp(x), x))
    for flip in (False, True):

        def fn(a, b, flip=flip):
            return (exp(a) + exp(b)) / exp(b if flip else a)

        graph = rewrite(graph_of(fn, [f32(2), f32(2)]), RuleSet([r]))
        assert graph.outputs[0] is graph.params[flip]


def test_a_variable_that_occurs_twice_is_one_value():
    r = made(lambda x, y, c: rule("r", x * x, ops["square"](x)))
    assert_rewrites(one(r), lambda x, y: x * y, lambda x, y: x * y, [f32(3), f32(3)])
    assert_rewrites(one(r), lambda x, y: x * x, lambda x, y: ops["square"](x), [f32(3), f32(3)])


def test_numbers_match_by_value_and_sign_of_zero():
    r = made(lambda x, y, c: rule("r", x + -0.0, x))
    assert_rewrites(one(r), lambda x: x + -0.0, lambda x: x, [f32(3)])
    assert_rewrites(one(r), lambda x: x + 0.0, lambda x: x + 0.0, [f32(3)])
    assert_rewrites(one(r), lambda x: x + 0, lambda x: x, [typed("int32", 3)])


def test_numbers_match_behind_broadcasts_and_reshapes():
    r = made(lambda x, y, c: rule("r", x * 1, x))
    ones = np.float32(1)
    for view in (
        lambda: ops["broadcast_to"](ones, (2, 3)),
        lambda: ops["broadcast_to"](ops["reshape"](ones, (1, 1)), (2, 3)),
        lambda: ops["reshape"](ops["broadcast_to"](ones, (6,)), (2, 3)),
    ):
        assert_rewrites(one(r), lambda x, v=view: x * v(), lambda x: x, [f32(2, 3)])


def test_constants_are_bound_as_numpy_scalars_of_their_dtype():
    seen = []
    r = made(lambda x, y, c: rule("r", x * c, lambda x, c: seen.append(c)))
    for dtype in ("float32", "float64", "bfloat16", "int32"):
        rewrite(graph_of(lambda x: x * 3, [typed(dtype, 2)]), RuleSet([r]))
    assert [c.dtype.name for c in seen] == ["float32", "float64", "bfloat16", "int32"]
    assert all(int(c) == 3 for c in seen)


def test_attributes_match_by_value_or_variable_and_all_must_be_named():
    x, a = var("x"), attr("a")
    with patterns():
        fixed = rule("fixed", ops["sum"](x, axes=(0,), keepdims=False), x)
        partly = rule("partly", ops["sum"](x, axes=a), x)
        free = rule(
            "free", ops["sum"](x, axes=a, keepdims=True), lambda x, a: ops["max"](x, a, True)
        )
    graph = graph_of(lambda x: ops["sum"](x, (1,), True), [f32(2, 3)])
    assert rewrite(graph, RuleSet([fixed, partly])) is graph
    assert rewrite(graph, RuleSet([free])).nodes[-1].attrs == {"axes": (1,), "keepdims": True}


def test_stretched_patterns_match_behind_views():
    x = var("x")
    with patterns():
        total = ops["sum"](x, axes=attr("a"), keepdims=attr("k"))
        r = rule("r", x / stretched(total), lambda x: ops["exp"](x))
    for keep in (True, False):

        def fn(x, keep=keep):
            s = ops["sum"](x, (1,), keep)
            return x / (s if keep else s.reshape((2, 1)))

        graph = rewrite(graph_of(fn, [f32(2, 3)]), RuleSet([r]))
        assert graph.nodes[-1].op.name == "exp"


def test_guards_see_bindings_facts_and_the_root():
    seen = {}

    def guard(x, facts, root):
        seen.update(x=x, producer=facts.producer(x), root=root.op.name)
        return False

    r = made(lambda x, y, c: rule("r", ops["exp"](x), x, when=guard))
    graph = graph_of(lambda x: ops["exp"](-x), [f32(2)])
    assert rewrite(graph, RuleSet([r])) is graph
    assert seen["root"] == "exp"
    assert seen["producer"].op.name == "neg"


def test_results_of_other_shapes_are_broadcast_and_of_other_dtypes_refused():
    small = made(lambda x, y, c: rule("r", ops["exp"](x), lambda x: ops["sum"](x, (0, 1))))
    assert_rewrites(
        one(small),
        lambda x: ops["exp"](x),
        lambda x: ops["sum"](x, (0, 1)).broadcast_to((2, 3)),
        [f32(2, 3)],
        "stability",
    )
    wrong = made(lambda x, y, c: rule("wrong", ops["exp"](x), lambda x: x > 0))
    with pytest.raises(InvalidGraph, match="rule wrong: b1\\[2\\] for f32\\[2\\]"):
        one(wrong)(graph_of(lambda x: ops["exp"](x), [f32(2)]))


def test_the_text_of_a_rule_is_the_formula():
    r = made(lambda x, y, c: rule("r", ops["log"](1 + ops["exp"](-x * 2)), -(x - y) / c))
    assert str(r.left) == "log(1 + exp(-x * 2))"
    assert str(r.right) == "-(x - y) / c"


# The driver


def test_what_a_rule_builds_is_rewritten_in_turn():
    first = made(lambda x, y, c: rule("a", ops["sin"](x), ops["neg"](ops["cos"](x))))
    second = made(lambda x, y, c: rule("b", ops["cos"](x), ops["exp"](x)))
    assert_rewrites(
        one(first, second), lambda x: ops["sin"](x), lambda x: -ops["exp"](x), [f32(2)], "stability"
    )


def test_rules_that_undo_each_other_end():
    there = made(lambda x, y, c: rule("there", ops["sin"](x), ops["cos"](x)))
    back = made(lambda x, y, c: rule("back", ops["cos"](x), ops["sin"](x)))
    graph = one(there, back)(graph_of(lambda x: ops["sin"](x), [f32(2)]))
    assert len(verify(graph).nodes) == 1


def test_a_graph_without_a_match_is_returned_as_it_is():
    graph = graph_of(lambda x: ops["sin"](x), [f32(2)])
    assert optimise(graph)[0] is graph


def test_firings_tell_rule_line_and_both_sides():
    firings = []
    graph = graph_of(lambda x: ops["log"](1 + ops["exp"](x)), [f32(3)])
    r = made(lambda x, y, c: rule("softplus", ops["log"](1 + ops["exp"](x)), ops["softplus"](x)))
    rewrite(graph, RuleSet([r]), firings)
    (found,) = firings
    assert found.where.file == __file__
    assert str(found).endswith("softplus: log(1 + exp(x)) -> softplus(x)")
    assert str(found).startswith("test_rewrite.py:")


def test_new_nodes_have_the_line_of_the_node_they_replace():
    graph = graph_of(lambda x: ops["log"](1 + ops["exp"](x)), [f32(3)])
    out, _ = optimise(graph)
    assert [n.where for n in out.nodes] == [graph.nodes[-1].where]


def test_two_rules_of_one_name_are_refused():
    r = made(lambda x, y, c: rule("r", ops["exp"](x), x))
    with pytest.raises(ValueError, match="rules with one name: r"):
        RuleSet([r, r])


def test_rules_can_be_refused_by_name():
    graph = graph_of(lambda x: ops["log"](1 + ops["exp"](x)), [f32(3)])
    try:
        refuse("softplus", "log1p")
        assert [n.op.name for n in optimise(graph)[0].nodes][-1] == "log"
    finally:
        refuse()
    assert [n.op.name for n in optimise(graph)[0].nodes] == ["softplus"]
    with pytest.raises(
        ArgumentError, match="no rewrite is named 'softpuls'; did you mean softplus"
    ):
        refuse("softpuls")


def test_effects_keep_their_order_and_number():
    graph = graph_of(lambda x: [ops["neg"](ops["neg"](x)), ops["exp"](x)], [f32(2)])
    out, _ = optimise(graph)
    assert out.outputs[0] is graph.params[0]
    assert len(out.outputs) == 2


# Every algebraic rule, at every combination of edge values

FLOATS = ("float32", "float64", "bfloat16")
DTYPES = (*FLOATS, "int32", "uint8", "bool")
SHAPED = {
    "plus 0": {"x": lambda x: abs(x)},
    "power 1/2": {"x": lambda x: abs(x)},
    "abs of square": {},
}


def elementwise_rules():
    return [
        r
        for r in simplifying_rules()
        if r.left is not None
        and r.exactness in ("exact", "rounding")
        and "attribute" not in variables(r.left).values()
    ]


@pytest.mark.parametrize("r", elementwise_rules(), ids=lambda r: r.name)
def test_rules_hold_at_edge_values(r):
    fired = 0
    for dtype in DTYPES:
        numbers = (2.0, -3.0, 0.5, 0.1, np.inf) if dtype in FLOATS else (2, 7, 1, 0)
        if dtype == "bool":
            numbers = (True, False)
        fired += check_rule(r, dtype, SHAPED.get(r.name), numbers)
    assert fired, "the rule fired on no dtype"


def test_the_sides_are_compared_where_it_matters():
    values = edges("float32")
    assert {np.signbit(v) for v in values if v == 0} == {True, False}
    assert np.isnan(values).any()
    assert np.isinf(values).sum() >= 2
    assert any(0 < abs(v) < 1.1e-38 for v in values.tolist())


WRONG = {
    "x + 0 = x": lambda x, y, c: rule("wrong", x + 0.0, x),
    "x * 0 = 0": lambda x, y, c: rule("wrong", x * 0.0, lambda x: x.type.dtype.dtype.type(0)),
    "x - x = 0": lambda x, y, c: rule("wrong", x - x, lambda x: x.type.dtype.dtype.type(0)),
    "x / x = 1": lambda x, y, c: rule("wrong", x / x, lambda x: x.type.dtype.dtype.type(1)),
    "0 - x = -x": lambda x, y, c: rule("wrong", 0.0 - x, -x),
    "-(x - y) = y - x": lambda x, y, c: rule("wrong", -(x - y), y - x),
    "not x < y = x >= y": lambda x, y, c: rule("wrong", ~(x < y), x >= y),
    "x / c = x * (1/c)": lambda x, y, c: rule(
        "wrong", x / c, lambda x, c: x * algebra.inverse(c), when=lambda x: x.dtype.is_floating
    ),
    "sqrt(x^2) = |x|": lambda x, y, c: rule("wrong", ops["sqrt"](ops["square"](x)), abs(x)),
    "x ** .5 = sqrt x": lambda x, y, c: rule("wrong", x**0.5, ops["sqrt"](x), exactness="rounding"),
    "max commutes": lambda x, y, c: rule("wrong", ops["maximum"](x, y), ops["minimum"](x, y)),
    "|-x| = x": lambda x, y, c: rule("wrong", abs(-x), x),
    "relu(x) = x * (x > 0)": lambda x, y, c: rule(
        "wrong", ops["relu"](x), lambda x: x * (x > 0).cast(x.dtype)
    ),
    "x + y + c = x + (y + c)": lambda x, y, c: rule(
        "wrong", (x + y) + c, lambda x, y, c: x + (y + c)
    ),
    "exp(log x) = x": lambda x, y, c: rule(
        "wrong", ops["exp"](ops["log"](x)), x, exactness="rounding"
    ),
    "g * p for any p": lambda x, y, c: rule("wrong", ops["cotangent_product"](x, y), x * y),
}


@pytest.mark.parametrize("name", WRONG)
def test_planted_wrong_rules_are_found(name):
    with pytest.raises(AssertionError, match="the left side is"):
        check_rule(made(WRONG[name]), "float32")


def test_fast_math_rules_fire_only_when_asked_for():
    graph = graph_of(lambda x: x + 0.0, [f32(3)])
    assert algebra.algebra(graph) is graph
    assert tidy(algebra.algebra(graph, fast_math=True)).nodes == ()


# Cost


def chain(n):
    def fn(x, b):
        for _ in range(n // 4):
            x = ops["tanh"](x * 2.0 + b)
        return x

    return graph_of(fn, [f32(8), f32(8)])


@pytest.mark.slow
def test_the_pipeline_is_linear_in_the_number_of_nodes():
    optimise(chain(40))  # what is made once
    small, large = chain(500), chain(2_000)
    assert calls_made(lambda: optimise(large)) < 5 * calls_made(lambda: optimise(small))


def test_the_same_graph_gives_the_same_text():
    texts = {graph_text(optimise(chain(40))[0], False) for _ in range(3)}
    assert len(texts) == 1


def test_node_rules_say_cheaply_where_they_apply():
    calls = []
    r = node_rule("r", ("exp",), lambda root: calls.append(root), lambda c: c[0][0] == "neg")
    rewrite(graph_of(lambda x: ops["exp"](x) + ops["exp"](-x), [f32(2)]), RuleSet([r]))
    assert len(calls) == 1
