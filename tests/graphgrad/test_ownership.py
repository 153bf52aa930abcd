"""A later call never changes an array that a user still holds."""

import numpy as np
import pytest

import graphgrad as gg

pytestmark = pytest.mark.usefixtures("entry")

BIG = 1 << 19


def test_variables_are_updated_in_place_when_nobody_looks():
    v = gg.Variable(gg.zeros(BIG))

    @gg.function
    def step(x):
        v.assign(v * 0.5 + x)

    x = gg.ones(BIG)
    step(x)
    before = v.tensor().array.ctypes.data
    step(x)
    assert v.tensor().array.ctypes.data == before
    np.testing.assert_array_equal(v, np.full(BIG, 1.5))


@pytest.mark.parametrize("size", [10, BIG])
def test_held_arrays_and_tensors_do_not_change(size):
    v = gg.Variable(gg.zeros(size))

    @gg.function
    def step(x):
        v.assign(v * 0.5 + x)
        return v.value()

    x = gg.ones(size)
    step(x)
    held = [v.numpy(), v.value(), np.from_dlpack(v.value()), v.numpy()[1:], memoryview(v.numpy())]
    copies = [np.array(h) for h in held]
    results = [step(x) for _ in range(3)]
    for h, c in zip(held, copies):
        np.testing.assert_array_equal(np.array(h), c)
    assert [float(r[0]) for r in results] == [1.5, 1.75, 1.875]


def test_outputs_are_not_recycled_while_held():
    f = gg.function(lambda x: x * 2.0)
    first = f(gg.ones(BIG))
    view = first.numpy()[10:20]
    del first
    for i in range(5):
        f(gg.fill((BIG,), float(i)))
    np.testing.assert_array_equal(view, np.full(10, 2))


def test_a_variable_does_not_share_with_the_tensor_it_was_made_of():
    t = gg.ones(4)
    v = gg.Variable(t)
    step = gg.function(lambda: v.assign(v * 3.0) * 1)
    step()
    step()
    np.testing.assert_array_equal(t, np.ones(4))
    w = gg.Variable(v)
    w.assign_add(gg.ones(4))
    np.testing.assert_array_equal(v, np.full(4, 9))
    v.assign(t)
    step()
    np.testing.assert_array_equal(t, np.ones(4))


def test_results_that_are_inputs():
    f = gg.function(lambda x, y: (y, x, x))
    x, y = gg.ones(3), gg.zeros(3)
    a, b, c = f(x, y)
    np.testing.assert_array_equal(a, y)
    np.testing.assert_array_equal(b, c)


def test_tapes_keep_what_they_need():
    v = gg.Variable(np.full(100, 2.0, np.float32))

    @gg.function
    def step():
        v.assign(v * 2.0)

    step()
    with gg.GradientTape() as tape:
        y = v * v
    step()
    step()
    np.testing.assert_array_equal(tape.gradient(y, v), np.full(100, 8))
