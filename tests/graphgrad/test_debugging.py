"""gg.debugging: assertions and check_numerics, with values and the user's line, in every mode."""

import numpy as np
import pytest

import graphgrad as gg


def lines(capsys):
    return capsys.readouterr().err.splitlines()


# Assertions


ASSERTIONS = [
    ("assert_equal", ([1, 2], [1, 2]), ([1, 2], [1, 3]), "x == y"),
    ("assert_none_equal", ([1, 2], [2, 1]), ([1, 2], [2, 2]), "x != y"),
    ("assert_less", ([1.0], [2.0]), ([2.0], [2.0]), "x < y"),
    ("assert_less_equal", ([2.0], [2.0]), ([3.0], [2.0]), "x <= y"),
    ("assert_greater", ([2.0], [1.0]), ([2.0], [2.0]), "x > y"),
    ("assert_greater_equal", ([2.0], [2.0]), ([1.0], [2.0]), "x >= y"),
    ("assert_positive", ([1.0],), ([0.0],), "x > 0"),
    ("assert_negative", ([-1.0],), ([0.0],), "x < 0"),
    ("assert_non_negative", ([0.0],), ([-1.0],), "x >= 0"),
    ("assert_non_positive", ([0.0],), ([1.0],), "x <= 0"),
    ("assert_near", ([1.0], [1.0 + 1e-7]), ([1.0], [1.1]), "|x - y| <="),
    ("assert_all_finite", ([1.0],), ([np.nan],), "x is finite"),
]


@pytest.mark.parametrize(("name", "good", "bad", "condition"), ASSERTIONS)
def test_assertions_on_values(name, good, bad, condition, mode):
    check = getattr(gg.debugging, name)

    def f(*args):
        check(*args, message="in {this} place")
        return args[0] * 2

    g = mode(f)
    g(*map(gg.constant, good))
    texts = set()
    for _ in range(2):
        with pytest.raises(gg.errors.AssertionFailed) as e:
            g(*map(gg.constant, bad))
        texts.add(str(e.value))
    (text,) = texts
    assert text.startswith(f"in {{this}} place\nCondition {condition}")
    assert "at 1 of" in text
    assert "check(*args, message=" in text  # the user's line
    with pytest.raises(AssertionError):
        g(*map(gg.constant, bad))
    with pytest.raises(gg.errors.InvalidArgumentError):
        g(*map(gg.constant, bad))


def test_an_assertion_says_where_and_what():
    with pytest.raises(gg.errors.AssertionFailed) as e:
        gg.debugging.assert_less(gg.constant([[1, 2], [3, 4]]), [2, 4], message="bounds")
    assert str(e.value).startswith(
        "bounds\n"
        "Condition x < y did not hold at 2 of 4 elements; the first, at [1, 0]: x = 3, y = 2\n"
        "x, i32[2, 2]:\n[[1 2]\n [3 4]]\n"
        "y, i32[2]: [2 4]\n"
    )


def test_a_failed_assertion_leaves_variables_alone(mode):
    v = gg.Variable(1.0)

    def f(x):
        v.assign_add(x)
        gg.debugging.assert_less(v.value(), 3.0)
        return v.value()

    g = gg.function(f)
    g(gg.constant(1.0))
    with pytest.raises(gg.errors.AssertionFailed):
        g(gg.constant(1.0))
    assert float(v) == 2.0


def test_assert_takes_data(mode):
    def f(x):
        gg.debugging.Assert(gg.reduce_all(x > 0), ["all must be positive", x])
        return x

    g = mode(f)
    g(gg.constant([1.0]))
    with pytest.raises(gg.errors.AssertionFailed, match=r"all must be positive\n(.*\n)*.*\[-1\]"):
        g(gg.constant([-1.0]))


def test_static_assertions():
    d, x = gg.debugging, gg.ones([2, 3])
    d.assert_rank(x, 2)
    d.assert_rank_at_least(x, 1)
    d.assert_rank_in(x, [2, 3])
    d.assert_type(x, gg.float32)
    d.assert_integer(gg.constant(1))
    d.assert_scalar(1.0)
    d.assert_proper_iterable([1, 2])
    assert d.is_numeric_tensor(x)
    assert not d.is_numeric_tensor(3)
    assert d.assert_same_float_dtype([x, x]) is gg.float32
    d.assert_shapes([(x, ("N", "D")), (gg.ones([3, 5]), ("D", None)), (x, ("...", 3))])
    d.assert_shapes({x.ref(): (2, "...")})
    failing = [
        (lambda: d.assert_rank(x, 3, "w"), gg.errors.ShapeError, r"w: Tensor must have rank 3"),
        (lambda: d.assert_rank_at_least(x, 3), gg.errors.ShapeError, "rank 3 or more, got f32"),
        (lambda: d.assert_rank_in(x, [1, 3]), gg.errors.ShapeError, "rank 1 or 3"),
        (lambda: d.assert_type(x, gg.int32), TypeError, "must be of type int32; got f32"),
        (lambda: d.assert_integer(x), TypeError, "Expected an integer dtype"),
        (lambda: d.assert_scalar(x), ValueError, "Expected scalar shape"),
        (lambda: d.assert_proper_iterable(x), ValueError, "a list or tuple"),
        (lambda: d.assert_same_float_dtype([x, gg.ones(2, gg.float64)]), TypeError, "differ"),
        (lambda: d.assert_shapes([(x, ("N", "N"))]), ValueError, "has size 3, not 2"),
        (lambda: d.assert_shapes([(x, ("N",))]), ValueError, "does not have the rank"),
    ]
    for f, kind, text in failing:
        for g in (f, gg.function(f)):
            with pytest.raises(kind, match=text):
                g()


def test_check_numerics_names_the_line_and_the_kind(mode):
    def f(x):
        return gg.debugging.check_numerics(gg.math.log(x), "logs {a}")

    g = mode(f)
    assert g(gg.constant([1.0])).numpy().tolist() == [0.0]
    for bad, kind in ((-1.0, "NaN"), (0.0, "Inf")):
        with pytest.raises(gg.errors.NotFinite) as e:
            g(gg.constant([1.0, bad]))
        first, second = str(e.value).splitlines()[:2]
        assert first == f"logs {{a}}: Tensor had {kind} values, the first at flat index 1"
        assert "return gg.debugging.check_numerics" in second


def test_check_numerics_checks_the_gradient(mode):
    def gradient(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.sqrt(gg.debugging.check_numerics(x, "x"))
        return tape.gradient(y, x)

    assert mode(gradient)(gg.constant(4.0)).numpy() == 0.25
    with pytest.raises(gg.errors.NotFinite, match="x, gradient: Tensor had Inf values"):
        mode(gradient)(gg.constant(0.0))
