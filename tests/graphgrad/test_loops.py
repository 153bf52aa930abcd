"""Loops over the first axis and choices among functions, in every mode and to second order."""

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.modes import in_every_mode

X = np.array([[0.5, -1.0], [2.0, 0.25], [1.5, 3.0]])

LOOPS = {
    "map_fn": (lambda x: gg.map_fn(lambda r: r * r * r[0], x), lambda x: x * x * x[:, :1]),
    "map_fn of a structure": (
        lambda x: gg.map_fn(lambda p: {"y": p[0] * p[1]}, (x, x * x))["y"], lambda x: x**3,
    ),
    "vectorized_map": (lambda x: gg.vectorized_map(gg.reduce_prod, x), lambda x: x.prod(1)),
    "foldl": (lambda x: gg.foldl(lambda a, r: a * r + r, x),
              lambda x: (x[0] * x[1] + x[1]) * x[2] + x[2]),
    "foldl from": (lambda x: gg.foldl(lambda a, r: a * r, x, x[0]), lambda x: x[0] * x.prod(0)),
    "foldr": (lambda x: gg.foldr(lambda a, r: a * r + r, x),
              lambda x: (x[2] * x[1] + x[1]) * x[0] + x[0]),
    "scan": (lambda x: gg.scan(lambda a, r: a * r, x), lambda x: x.cumprod(0)),
    "scan from": (
        lambda x: gg.scan(lambda a, r: a * r, x, gg.ones(2, gg.float64)), lambda x: x.cumprod(0),
    ),
    "scan back": (
        lambda x: gg.scan(lambda a, r: a * r, x, reverse=True), lambda x: x[::-1].cumprod(0)[::-1],
    ),
    "case": (
        lambda x: gg.case([(x[0, 0] > 1, lambda: x), (x[0, 0] > 0, lambda: x * x)], lambda: -x),
        lambda x: x * x,
    ),
    "switch_case": (
        lambda x: gg.switch_case(gg.argmax(x[:, 1]), {0: lambda: x, 2: lambda: x**3}),
        lambda x: x**3,
    ),
}  # fmt: skip


def weighted(f, x):
    y = f(x)
    return gg.reduce_sum(y * np.cos(np.arange(np.prod(y.shape))).reshape(y.shape))


@in_every_mode
@pytest.mark.parametrize("name", LOOPS)
def test_values_and_derivatives(name, mode):
    f, expected = LOOPS[name]
    np.testing.assert_allclose(mode(f)(gg.constant(X)), expected(X), rtol=1e-12)

    def gradient(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = weighted(f, x)
        return tape.gradient(y, x)

    def second(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = weighted(gradient, x)
        return tape.gradient(y, x)

    for g, what in (
        (lambda x: weighted(f, x), gradient),
        (lambda x: weighted(gradient, x), second),
    ):
        numeric = np.zeros_like(X)
        for at in np.ndindex(X.shape):
            d = np.zeros_like(X)
            d[at] = 1e-5
            numeric[at] = (g(gg.constant(X + d)) - g(gg.constant(X - d))).numpy() / 2e-5
        np.testing.assert_allclose(mode(what)(gg.constant(X)), numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LOOPS)
def test_many_at_once_are_a_python_loop(name):
    many = np.stack([X, X[::-1], X * 2])
    f = LOOPS[name][0]
    loop = np.stack([f(gg.constant(x)).numpy() for x in many])
    np.testing.assert_allclose(gg.vmap(f)(gg.constant(many)), loop, rtol=1e-12)


@in_every_mode
def test_variables_that_a_loop_reads_and_writes(mode):
    v = gg.Variable(2.0)

    def f(x):
        with gg.GradientTape() as tape:
            y = gg.map_fn(lambda r: r * v, x)
            z = gg.reduce_sum(y)
        gg.foldl(lambda a, r: v.assign_add(r) * 0.0 + a, x, 0.0)
        return tape.gradient(z, v), v.read_value()

    assert [float(t) for t in mode(f)(gg.constant([1.0, 2.0]))] == [3.0, 5.0]


def test_loops_over_open_sizes():
    def over(f):
        return gg.function(f, input_signature=[gg.TensorSpec([None])])

    fold = over(lambda x: gg.foldl(lambda a, r: a + r, x, 0.5))
    assert [float(fold(gg.ones(n))) for n in (4, 0, 1)] == [4.5, 0.5, 1.5]
    for scan in (
        over(lambda x: gg.scan(lambda a, r: a + r, x, 0.0)), lambda x: gg.scan(gg.add, x, 0.0)
    ):  # fmt: skip
        assert [scan(gg.ones(n)).numpy().tolist() for n in (2, 0, 1)] == [[1, 2], [], [1]]
    own = over(lambda x: gg.scan(lambda a, r: a + r, x))
    assert [own(gg.ones(n)).numpy().tolist() for n in (2, 1)] == [[1, 2], [1]]


def test_what_is_wrong_is_said():
    with pytest.raises(gg.errors.ShapeError, match="foldl: there are no elements"):
        gg.foldl(gg.add, gg.zeros(0))
    with pytest.raises(gg.errors.ShapeError, match="map_fn: the first axes differ in size"):
        gg.map_fn(lambda p: p[0], (gg.zeros(2), gg.zeros(3)))
    f = gg.function(lambda x: gg.case([(x > 1, lambda: x)]))
    assert float(f(gg.constant(2.0))) == 2
    with pytest.raises(gg.errors.AssertionFailed, match="no condition holds"):
        f(gg.constant(0.0))
    with pytest.raises(gg.errors.AssertionFailed, match="several conditions hold"):
        gg.case([(True, lambda: 1), (True, lambda: 2)], exclusive=True)
