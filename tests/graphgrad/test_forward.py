"""gg.autodiff.ForwardAccumulator, and what nests with it."""

import contextlib
import gc
import weakref

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.modes import called, in_every_mode

Accumulator = gg.autodiff.ForwardAccumulator


def cube(x):
    return gg.reduce_sum(x**3)


@in_every_mode
@called
def test_directional_derivative(mode, wrap):
    f = wrap(lambda x: gg.sin(x) * x)

    def run(x, v):
        with Accumulator(x, v) as acc:
            y = f(x)
        return y, acc.jvp(y)

    x, v = np.float64([0.3, 0.7]), np.float64([1.0, 10.0])
    y, t = mode(run)(gg.constant(x), gg.constant(v))
    np.testing.assert_allclose(y, np.sin(x) * x)
    np.testing.assert_allclose(t, (np.cos(x) * x + np.sin(x)) * v)


@in_every_mode
@called
def test_forward_over_reverse(mode, wrap):
    f = wrap(cube)

    def run(x, v):
        with Accumulator(x, v) as acc:
            with gg.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            gradient = tape.gradient(y, x)
        return acc.jvp(y), gradient, acc.jvp(gradient)

    slope, gradient, product = mode(run)(gg.constant([1.0, 2.0]), gg.constant([1.0, 10.0]))
    np.testing.assert_allclose(slope, 3 + 120)
    np.testing.assert_allclose(gradient, [3, 12])
    np.testing.assert_allclose(product, [6, 120])


@in_every_mode
@called
def test_reverse_over_forward(mode, wrap):
    f = wrap(cube)

    def run(x, v):
        with gg.GradientTape() as tape:
            tape.watch(x)
            with Accumulator(x, v) as acc:
                y = f(x)
            slope = acc.jvp(y)
        return tape.gradient(slope, x)

    np.testing.assert_allclose(
        mode(run)(gg.constant([1.0, 2.0]), gg.constant([1.0, 10.0])), [6, 120]
    )


@in_every_mode
@called
def test_forward_over_forward_and_a_tape_around_both(mode, wrap):
    f = wrap(cube)

    def run(x, v, w):
        with gg.GradientTape() as tape:
            tape.watch(x)
            with Accumulator(x, v) as outer:
                with Accumulator(x, w) as inner:
                    y = f(x)
                first = inner.jvp(y)
            second = outer.jvp(first)
        return first, second, tape.gradient(second, x), inner.jvp(outer.jvp(y))

    x, v, w = (gg.constant(a) for a in ([1.0, 2.0], [1.0, 10.0], [2.0, 3.0]))
    first, second, third, other = mode(run)(x, v, w)
    np.testing.assert_allclose(first, 3 * 2 + 12 * 3)
    np.testing.assert_allclose(second, 6 * 2 + 12 * 30)
    np.testing.assert_allclose(third, [6 * 2, 6 * 30])
    assert other is None  # the outer tangents are none of the inner accumulator's business


@in_every_mode
def test_variables_and_what_is_assigned(mode):
    v = gg.Variable(2.0)

    def run(x):
        v.assign(2.0)
        with Accumulator([v, x], [gg.constant(1.0), gg.constant(10.0)]) as acc:
            before = v * v
            v.assign(v * x)
            after = v * v
            v.assign(1.0)
            last = v * 1.0
        return acc.jvp([before, after]), acc.jvp(last) is None

    (before, after), cut = mode(run)(gg.constant(3.0))
    np.testing.assert_allclose([before, after], [4, 2 * 6 * (3 + 20)])
    assert cut


@in_every_mode
def test_a_variable_that_a_called_function_assigns(mode):
    v = gg.Variable(1.0)

    @gg.function
    def put(x):
        v.assign(x * x)

    def run(x):
        with Accumulator(x, 1.0) as acc:
            put(x)
            y = v * v
        return acc.jvp(y), acc.jvp(v)

    np.testing.assert_allclose(mode(run)(gg.constant(3.0)), [108, 6])


@in_every_mode
def test_structures_and_what_is_unconnected(mode):
    def run(x, y):
        with Accumulator(
            {"x": x, "rest": (y, None)}, {"x": 1.0, "rest": [[1.0, 2.0], None]}
        ) as acc:
            z = {"a": x * y, "b": [gg.ones(3), None]}
        plain = acc.jvp(z)
        return plain["a"], plain["b"] == [None, None], acc.jvp(z, "zero")["b"][0]

    a, nothing, zeros = mode(run)(gg.constant(2.0), gg.constant([3.0, 5.0]))
    np.testing.assert_allclose(a, [3 + 2, 5 + 4])
    np.testing.assert_array_equal(zeros, [0, 0, 0])
    assert nothing


@pytest.mark.parametrize("compiled", [True, False])
def test_through_control_flow(compiled):
    def run(x, n):
        with Accumulator(x, 1.0) as acc:
            y = gg.while_loop(lambda i, y: i < n, lambda i, y: (i + 1, y * x), (0, 1.0))[1]
            z = gg.cond(x > 1, lambda: y * x, lambda: y)
        return acc.jvp(z)

    f = gg.function(run, jit_compile=compiled)
    np.testing.assert_allclose(f(gg.constant(2.0), gg.constant(3)), 4 * 8)
    np.testing.assert_allclose(f(gg.constant(0.5), gg.constant(3)), 3 * 0.25)


def test_stable_forms():
    def run(x):
        with Accumulator(x, 1.0) as acc:
            y = gg.math.log(1.0 + gg.exp(x))
        return acc.jvp(y)

    for f in (run, gg.function(run)):
        assert [float(f(gg.constant(v))) for v in (0.0, 1000.0)] == [0.5, 1]


def test_asked_inside_and_entered_again():
    x = gg.constant(2.0)
    acc = Accumulator(x, 1.0)
    with acc:
        y = x * x
        assert float(acc.jvp(y)) == 4
        with pytest.raises(ValueError, match="Accumulator is already recording"):
            acc.__enter__()
        z = y * x
    w = z * x  # outside
    with acc:
        u = z * x
    assert [float(acc.jvp(t)) for t in (x, z, u)] == [1, 12, 32]
    assert acc.jvp(w) is None


def test_asked_in_a_function_that_is_traced_meanwhile():
    x = gg.constant(2.0)
    with Accumulator(x, 1.0) as acc:
        y = x * x
        f = gg.function(lambda: acc.jvp(y) * 10.0)
        assert float(f()) == 40
        z = y * x
    assert [float(acc.jvp(t)) for t in (y, z)] == [4, 12]


def test_an_error_inside_ends_the_context():
    x = gg.constant(2.0)
    acc = Accumulator(x, 1.0)
    with contextlib.suppress(KeyError), acc:
        y = x * x
        raise KeyError
    assert acc.jvp(x * x) is None  # it does not record any more
    with acc:
        z = x * 3.0
    assert float(acc.jvp(z)) == 3
    assert float(acc.jvp(y)) == 4


def test_tangents_are_let_go_with_their_values():
    x = gg.constant([1.0, 2.0])
    with Accumulator(x, gg.ones(2)) as acc:
        y = x * x
        tangent = weakref.ref(acc.jvp(y))
        del y
        gc.collect()
        assert tangent() is None


def test_errors():
    x = gg.constant(2.0)
    for primals, tangents, error, text in (
        (x, gg.ones(2), ValueError, r"the primal is f32\[\], and its tangent f32\[2\]"),
        ([x], [gg.constant(1.0, gg.float64)], ValueError, r"the primal\[0\] is f32.* f64\[\]"),
        ({"a": x}, {"b": x}, ValueError, r"differ at the top: it has \['a'\] against \['b'\]"),
        (2.0, 1.0, ValueError, "the primal is 2.0 of type 'float', not gg.Tensor"),
        ([x, x], [x, x], ValueError, "specified as a primal multiple times"),
    ):
        with pytest.raises(error, match=text):
            Accumulator(primals, tangents)
    with pytest.warns(UserWarning, match="watched primal must be floating"):
        Accumulator(gg.constant(1), gg.constant(1))
    acc = Accumulator(x, 1.0)
    with pytest.raises(ValueError, match=r"the target is 3\.0 of type 'float', not a tensor"):
        acc.jvp(3.0)
    with pytest.raises(ValueError, match="Unknown value for unconnected_gradients: 'one'"):
        acc.jvp(x, "one")


def test_a_call_under_an_accumulator_alone_keeps_no_residuals():
    f = gg.function(lambda x: gg.sin(gg.exp(x) @ x))
    with Accumulator(x := gg.ones((3, 3)), gg.ones((3, 3))) as acc:
        y = f(x)
    trace = f.get_concrete_function(x)
    assert not any(
        "residuals" in key for key in trace.graph.memo if isinstance(key, tuple) and any(key[1])
    )
    np.testing.assert_allclose(acc.jvp(y), gg.jvp(f.python_function, (x,), (x,))[1], rtol=1e-5)
