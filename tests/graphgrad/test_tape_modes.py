"""Tapes in every mode: watching, persistence, targets, recording, versions, higher orders."""

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.modes import called, in_every_mode

USED_UP = "A non-persistent GradientTape can only be used to compute one set of gradients"


@in_every_mode
@called
def test_what_is_watched(mode, wrap):
    """Trainable variables when they are read, tensors and structures when asked for."""
    v, frozen = gg.Variable(2.0), gg.Variable(3.0, trainable=False)
    f = wrap(lambda x, y, z: v * frozen * x * y * z)

    def run(x, y, z):
        with gg.GradientTape() as tape:
            tape.watch([x, {"y": y, "none": None}])
            target = f(x, y, z)
        watched = [w is v for w in tape.watched_variables()]
        return tape.gradient(target, [v, frozen, x, y, z]), watched

    x, y, z = map(gg.constant, (5.0, 7.0, 11.0))
    grads, watched = mode(run)(x, y, z)
    assert [None if g is None else float(g) for g in grads] == [1155, None, 462, 330, None]
    assert watched == [True]


@in_every_mode
@called
def test_watching_by_hand(mode, wrap):
    v, w = gg.Variable(2.0), gg.Variable(3.0, trainable=False)
    f = wrap(lambda: v * w)

    def run():
        with gg.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(w)
            y = f()
        return tape.gradient(y, [v, w])

    dv, dw = mode(run)()
    assert (dv, float(dw)) == (None, 2)


@in_every_mode
def test_what_cannot_be_watched(mode):
    def run(n):
        with gg.GradientTape() as tape:
            tape.watch(n)
            y = gg.cast(n, gg.float32) * 2.0
            with pytest.raises(ValueError, match=r"Passed in object 2\.0 of type 'float', not gg"):
                tape.watch(2.0)
        return tape.gradient(y, n)

    with pytest.warns(UserWarning, match="watched tensor must be floating .* got gg.int32") as said:
        assert mode(run)(gg.constant(3)) is None
    assert {w.filename for w in said} == {__file__}


@in_every_mode
def test_one_set_of_gradients_or_any_number(mode):
    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = x * x
            with pytest.raises(ValueError, match="Tape is still recording"):
                tape.__enter__()
        tape.jacobian(y, x)
        for again in (
            tape.gradient, tape.jacobian, lambda y, x: tape.stop_recording(),
        ):  # fmt: skip
            with pytest.raises(RuntimeError, match=USED_UP):
                again(y, x)
        with gg.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = x * x
            z = y * y
        with tape:  # goes on
            u = z * x
        return [tape.gradient(t, x) for t in (y, z, u, y)], tape.jacobian(y, x)

    gradients, jacobian = mode(run)(gg.constant(2.0))
    assert [float(g) for g in gradients] == [4, 32, 80, 4]
    assert float(jacobian) == 4


@in_every_mode
@called
def test_targets_seeds_and_sources_without_a_path(mode, wrap):
    """Targets are summed, and so are the elements of one."""
    f = wrap(lambda x, y: (x * x, gg.reduce_sum(y * x)))

    def run(x, y, z):
        with gg.GradientTape(persistent=True) as tape:
            tape.watch([x, y, z])
            a, b = f(x, y)
        return (
            tape.gradient([a, b], {"x": x, "y": [y]}),
            tape.gradient(a, x),
            tape.gradient([a, b], x, output_gradients=[gg.constant([1.0, 10.0]), 100.0]),
            tape.gradient([a, a], x),
            tape.gradient(b, [z, x], unconnected_gradients=gg.UnconnectedGradients.ZERO),
            tape.gradient(b, [z]),
            tape.gradient([x, a], x),
        )

    x, y, z = map(gg.constant, ([1.0, 2.0], [3.0, 5.0], [7.0]))
    found, one, seeded, twice, zero, none, itself = mode(run)(x, y, z)
    np.testing.assert_array_equal(found["x"], [2 + 3, 4 + 5])
    np.testing.assert_array_equal(found["y"][0], [1, 2])
    np.testing.assert_array_equal(one, [2, 4])
    np.testing.assert_array_equal(seeded, [2 + 300, 40 + 500])
    np.testing.assert_array_equal(twice, [4, 8])
    np.testing.assert_array_equal(zero[0], [0])
    np.testing.assert_array_equal(zero[1], [3, 5])
    assert none == [None]
    np.testing.assert_array_equal(itself, [1 + 2, 1 + 4])


@in_every_mode
@called
def test_inside_and_outside(mode, wrap):
    """A gradient asked for inside of the context is recorded; what follows it is not."""
    f = wrap(lambda x: x**3)

    def run(x):
        with gg.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = f(x)
            first = tape.gradient(y, x)
            second = tape.gradient(first, x)
        third = tape.gradient(second, x)
        return first, second, third, tape.gradient(y * 2.0, x)

    *orders, outside = mode(run)(gg.constant(2.0))
    assert [float(g) for g in orders] == [12, 12, 6]
    assert outside is None


@in_every_mode
@called
def test_pauses_and_resets(mode, wrap):
    f = wrap(lambda x: x * x)

    def run(x):
        with gg.GradientTape(persistent=True) as tape:
            tape.watch(x)
            with tape.stop_recording():
                hidden = f(x)
                with gg.GradientTape() as inner:
                    inner.watch(x)
                    z = f(x)
                slope = inner.gradient(z, x)
            y = x * hidden
        with pytest.raises(ValueError, match="Tape is not recording"):
            tape.stop_recording()
        paused = tape.gradient(y, x), tape.gradient(slope, x)
        with gg.GradientTape(persistent=True) as tape:
            tape.watch(x)
            before = f(x)
            tape.reset()
            during = f(x)
            tape.watch(x)
            after = f(x)
        return *paused, *(tape.gradient(t, x) for t in (before, during, after))

    through, none, *rest = mode(run)(gg.constant(3.0))
    assert float(through) == 9
    assert none is None
    assert rest[:2] == [None, None]
    assert float(rest[2]) == 6


@in_every_mode
@called
def test_values_are_versioned(mode, wrap):
    """Each value is differentiated as what it was, and gradients flow through assignments."""
    v = gg.Variable(2.0)

    @wrap
    def f(x):
        v.assign(2.0)
        y = v * v
        v.assign_add(1.0)
        y = y + v * v
        v.assign(v * x)
        return y + v * x

    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
            y = y + v
        return y, tape.gradient(y, x)

    y, dx = mode(run)(gg.constant(5.0))
    assert (float(y), float(dx)) == (4 + 9 + 75 + 15, 3 * 2 * 5 + 3)


@in_every_mode
def test_the_gradient_by_a_variable_counts_each_of_its_values(mode):
    v = gg.Variable(2.0)

    def run():
        v.assign(2.0)
        with gg.GradientTape() as tape:
            y = v * v
            v.assign_add(1.0)
            y = y + v * v
        return tape.gradient(y, v)

    assert float(mode(run)()) == 4 + 6


@in_every_mode
@called
def test_parts_that_are_assigned(mode, wrap):
    v = gg.Variable([1.0, 2.0, 3.0])

    @wrap
    def put(u, w):
        v.assign([1.0, 2.0, 3.0])
        v[1].assign(u * u)
        v[:1].assign_add([w])
        v[2].assign_sub(u)

    def run(u, w):
        with gg.GradientTape() as tape:
            tape.watch([u, w])
            put(u, w)
            y = gg.reduce_sum(v**2)
        return y, tape.gradient(y, [u, w])

    y, (du, dw) = mode(run)(gg.constant(2.0), gg.constant(5.0))
    assert float(y) == 36 + 16 + 1
    assert (float(du), float(dw)) == (4 * 2**3 - 2, 12)


@in_every_mode
@called
def test_orders_in_every_nesting(mode, wrap):
    """Reverse over reverse over reverse, forward among them, through a call."""
    f = wrap(lambda x: gg.sin(x) * x)

    def reverse(f):
        def derivative(x):
            with gg.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            return tape.gradient(y, x)

        return derivative

    def forward(f):
        return lambda x: gg.jvp(f, (x,), (gg.ones_like(x),))[1]

    x = gg.constant([0.3, 0.7], gg.float64)
    v = x.numpy()
    for a, b, c in (
        (reverse, reverse, reverse), (forward, reverse, reverse), (reverse, forward, reverse),
        (reverse, reverse, forward), (forward, forward, forward),
    ):  # fmt: skip
        third = mode(c(b(a(f))))(x)
        np.testing.assert_allclose(third, -3 * np.sin(v) - v * np.cos(v), rtol=1e-10)
