"""gg.cond and gg.while_loop: eager and in functions, with structures, variables and tapes."""

import numpy as np
import pytest

import graphgrad as gg

MODES = pytest.mark.parametrize("compiled", [False, True])


def mode(f, compiled):
    return gg.function(f) if compiled else f


@MODES
def test_cond_takes_one_branch(compiled):
    f = mode(lambda x: gg.cond(x > 0, lambda: {"y": x * 2}, lambda: {"y": -x}), compiled)
    assert float(f(gg.constant(3.0))["y"]) == 6
    assert float(f(gg.constant(-3.0))["y"]) == 3


@MODES
def test_cond_differentiates_the_branch_that_is_taken(compiled):
    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.cond(x > 0, lambda: gg.sqrt(x), lambda: 0.0 * x)
        return tape.gradient(y, x)

    f = mode(run, compiled)
    assert float(f(gg.constant(4.0))) == 0.25
    assert float(f(gg.constant(0.0))) == 0


@MODES
def test_branches_assign_to_variables(compiled):
    v, w = gg.Variable(1.0), gg.Variable(10.0)

    def run(x):
        gg.cond(x > 0, lambda: v.assign_add(x).value(), lambda: w.assign(x).value())
        return v + w

    f = mode(run, compiled)
    assert float(f(gg.constant(2.0))) == 13
    assert float(f(gg.constant(-1.0))) == 2
    assert (float(v), float(w)) == (3, -1)


@MODES
def test_variables_read_in_branches_are_watched(compiled):
    v = gg.Variable(3.0)

    def run(x):
        with gg.GradientTape() as tape:
            y = gg.cond(x > 0, lambda: v * v, lambda: v * 1.0)
        return tape.gradient(y, v)

    f = mode(run, compiled)
    assert float(f(gg.constant(1.0))) == 6
    assert float(f(gg.constant(-1.0))) == 1


def test_branches_must_agree():
    f = gg.function(lambda x: gg.cond(x > 0, lambda: x, lambda: gg.constant([1.0, 2.0])))
    with pytest.raises(gg.errors.ShapeError, match="main branch"):
        f(gg.constant(1.0))
    f = gg.function(lambda x: gg.cond(x > 0, lambda: {"a": x}, lambda: {"b": x}))
    with pytest.raises(gg.errors.ArgumentError, match="the results of the branches differ"):
        f(gg.constant(1.0))


@MODES
def test_while_loop(compiled):
    def run(n):
        return gg.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, s + i * i), (0, 0))

    i, s = mode(run, compiled)(gg.constant(5))
    assert (int(i), int(s)) == (5, 30)
    i, s = mode(run, compiled)(gg.constant(0))
    assert (int(i), int(s)) == (0, 0)


@MODES
def test_while_loop_with_structures_and_a_limit(compiled):
    def run(x):
        return gg.while_loop(
            lambda i, p: i < 100, lambda i, p: [i + 1, {"a": p["a"] * 2.0}], [0, {"a": x}],
            maximum_iterations=3,
        )  # fmt: skip

    i, p = mode(run, compiled)(gg.constant(1.0))
    assert (int(i), float(p["a"])) == (3, 8)


@MODES
def test_while_loop_is_differentiable(compiled):
    def run(x):
        with gg.GradientTape() as outer:
            outer.watch(x)
            with gg.GradientTape() as tape:
                tape.watch(x)
                y = gg.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * x), (0, x))[1]
            first = tape.gradient(y, x)
        return y, first, outer.gradient(first, x)

    got = mode(run, compiled)(gg.constant(2.0))
    assert [float(v) for v in got] == [16, 32, 48]


@MODES
def test_loops_assign_to_variables(compiled):
    v = gg.Variable(1.0)

    def run(n):
        gg.while_loop(lambda i: i < n, lambda i: _step(v, i), (gg.constant(0),))
        return v.value()

    assert float(mode(run, compiled)(gg.constant(3))) == 8
    assert float(v) == 8


def _step(v, i):
    v.assign(v * 2.0)
    return i + 1


@MODES
def test_variables_read_in_loops_are_watched(compiled):
    v = gg.Variable(3.0)

    def run():
        with gg.GradientTape() as tape:
            y = gg.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, y * v), (0, 1.0))[1]
        return tape.gradient(y, v)

    assert float(mode(run, compiled)()) == 6


def test_loop_variables_keep_their_types():
    f = gg.function(
        lambda x: gg.while_loop(
            lambda i, y: i < 2, lambda i, y: (i + 1, gg.concat([y, y], 0)), (0, x)
        )
    )
    with pytest.raises(gg.errors.ShapeError, match="must stay the same"):
        f(gg.zeros(2))


def test_a_tape_inside_of_a_branch():
    def inner(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = x * x
        return tape.gradient(y, x)

    f = gg.function(lambda x: gg.cond(x > 0, lambda: inner(x), lambda: x))
    assert float(f(gg.constant(3.0))) == 6


def test_python_conditions_stay_python():
    assert gg.cond(True, lambda: 1, lambda: 2) == 1
    f = gg.function(lambda x: gg.cond(True, lambda: x, lambda: 1 / 0))
    assert float(f(gg.constant(1.0))) == 1


def test_where_gives_no_nan_gradients():
    x = gg.constant([0.0, 4.0])
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = gg.where(x > 0, gg.sqrt(x), 0.0)
    np.testing.assert_array_equal(tape.gradient(y, x), [0, 0.25])


def _nested(s, z):
    def body(i, a):
        full = gg.ones([s.shape[0] + z.shape[0]], gg.float64)  # sizes that no capture tells
        return i + 1, gg.cond(a[0] > 2, lambda: a * 0.3 + z[0], lambda: full * gg.reduce_sum(s))

    return gg.while_loop(lambda i, a: i < 3, body, (0, gg.concat([s, z], 0)))[1]


OPEN = {
    "branches": lambda s, z: gg.cond(
        s[0] > 1, lambda: gg.concat([gg.sort(z), s[::-1]], 0), lambda: gg.concat([z, s], 0)
    ),
    "a size of more than the capture": lambda s, z: (
        lambda both: gg.cond(s[0] > 1, lambda: gg.sin(both) + gg.reduce_sum(z), lambda: both)
    )(gg.concat([z, z], 0)),
    "a loop variable behind a counter": lambda s, z: gg.while_loop(
        lambda i, a: i < 3, lambda i, a: (i + 1, gg.sin(a) + z * s[0]), (0, z)
    )[1],
    "loops of branches": _nested,
}


@pytest.mark.parametrize("f", OPEN.values(), ids=OPEN)
def test_sub_graphs_of_open_sizes(f):
    """They have other arguments than the function whose arguments' sizes are open."""
    compiled = gg.function(f, input_signature=[gg.TensorSpec([None], gg.float64)] * 2)
    slope = lambda h: gg.grad(lambda s, z: gg.reduce_sum(gg.sin(h(s, z))), argnums=(0, 1))  # noqa: E731
    for m, n in ((3, 3), (4, 3), (2, 6)):  # equal by chance first
        s, z = gg.constant(np.arange(m) + 1.5), gg.constant(np.arange(n) * 0.5)
        np.testing.assert_allclose(compiled(s, z), f(s, z))
        for x, y in zip(slope(compiled)(s, z), slope(f)(s, z)):
            np.testing.assert_allclose(x, y)
    assert compiled.experimental_get_tracing_count() == 1


@MODES
def test_a_loop_without_steps_passes_derivatives_on(compiled):
    """Also of what each step would replace by a constant."""
    f = mode(
        lambda x, n: gg.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, 0.25), (0, x))[1] * 3.0,
        compiled,
    )
    for n, slope in ((0, 3), (2, 0)):
        x = gg.constant(2.0)
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x, gg.constant(n))
        assert float(tape.gradient(y, x, unconnected_gradients="zero")) == slope
