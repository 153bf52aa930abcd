"""Variables: reading, assigning, slices, types, and what they are in traces."""

import copy
import pickle

import numpy as np
import pytest

import graphgrad as gg

pytestmark = pytest.mark.usefixtures("entry")


def test_repr():
    assert repr(gg.Variable(1.0)) == "<gg.Variable 'Variable:0' shape=() dtype=float32, numpy=1.0>"
    assert repr(gg.Variable([1, 2], name="w")) == (
        "<gg.Variable 'w:0' shape=(2,) dtype=int32, numpy=array([1, 2], dtype=int32)>"
    )


def test_behaves_as_a_tensor():
    v = gg.Variable([1.0, 2.0])
    np.testing.assert_array_equal(v + 1, [2, 3])
    np.testing.assert_array_equal(1 + v, [2, 3])
    np.testing.assert_array_equal(gg.add(v, 1), [2, 3])
    np.testing.assert_array_equal(v * v, [1, 4])
    np.testing.assert_array_equal(-v, [-1, -2])
    np.testing.assert_array_equal(np.exp(v) > 0, [True, True])
    assert [float(x) for x in v] == [1.0, 2.0]
    assert gg.reduce_sum(v).numpy() == 3
    assert v.shape == (2,)
    assert float(v[1]) == 2.0
    assert gg.is_tensor(v)
    assert bool(gg.Variable(1))
    np.testing.assert_array_equal(v.numpy(), [1, 2])


def test_older_names():
    v = gg.Variable([1.0, 2.0])
    assert v.initialized_value().numpy().tolist() == [1.0, 2.0]
    assert v.value().get_shape().as_list() == [2]


def test_assign():
    v = gg.Variable([1.0, 2.0])
    assert v.assign([3.0, 4.0]) is v
    v.assign_add([1.0, 1.0]).assign_sub(1.0)
    np.testing.assert_array_equal(v, [3, 4])


def test_read_values_do_not_change():
    v = gg.Variable([1.0, 2.0])
    before, array = v.value(), v.numpy()
    v.assign([5.0, 5.0])
    np.testing.assert_array_equal(before, [1, 2])
    np.testing.assert_array_equal(array, [1, 2])


def test_assigned_arrays_are_copied():
    source = np.ones(2, np.float32)
    v = gg.Variable(source)
    source[0] = 5
    assert v.numpy()[0] == 1
    v.assign(source)
    source[0] = 7
    assert v.numpy()[0] == 5


def test_shape_and_dtype_are_checked():
    v = gg.Variable([1.0, 2.0], name="w")
    with pytest.raises(
        ValueError, match=r"assign: the variable 'w:0' has shape \[2\], the value is f32\[3\]"
    ):
        v.assign([1.0, 2.0, 3.0])
    with pytest.raises(
        TypeError, match=r"'w:0' is float32, the value is int32; cast it with gg.cast"
    ):
        v.assign(gg.constant([1, 2]))
    relaxed = gg.Variable([1.0], shape=[None])
    relaxed.assign([1.0, 2.0])
    assert relaxed.numpy().shape == (2,)


def test_sliced_assignment():
    v = gg.Variable([1.0, 2.0, 3.0, 4.0])
    v[1:].assign([5.0, 6.0, 7.0])
    np.testing.assert_array_equal(v, [1, 5, 6, 7])
    v[0].assign(9.0)
    v[::2].assign_add([1.0, 1.0])
    np.testing.assert_array_equal(v, [10, 5, 7, 7])
    v[::-1].assign([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(v, [4, 3, 2, 1])
    m = gg.Variable(np.zeros((2, 3), np.float32))
    m[1, ::2].assign(1.0)
    np.testing.assert_array_equal(m, [[0, 0, 0], [1, 0, 1]])


def test_sliced_assignment_in_a_function():
    v = gg.Variable([1.0, 2.0, 3.0])

    @gg.function
    def f(x):
        v[1:].assign(x)
        return v * 1

    np.testing.assert_array_equal(f(gg.constant([7.0, 8.0])), [1, 7, 8])
    np.testing.assert_array_equal(v, [1, 7, 8])


def test_sliced_assignment_is_differentiable():
    v = gg.Variable([1.0, 2.0, 3.0])
    x = gg.constant([2.0, 3.0])
    with gg.GradientTape() as tape:
        tape.watch(x)
        v[1:].assign(x * x)
        y = gg.reduce_sum(v * [1.0, 10.0, 100.0])
    np.testing.assert_allclose(tape.gradient(y, x), [40, 600])


def test_constraint():
    v = gg.Variable(1.0, constraint=lambda x: gg.maximum(x, 0.0))
    v.assign_sub(5.0)
    assert v.numpy() == 0


def test_initial_value_may_be_a_function():
    assert gg.Variable(lambda: gg.ones(2)).numpy().tolist() == [1, 1]
    with pytest.raises(ValueError, match="initial value"):
        gg.Variable()


def test_copies_are_independent():
    v = gg.Variable([1.0], name="w", trainable=False)
    for other in (copy.deepcopy(v), copy.copy(v), pickle.loads(pickle.dumps(v))):
        assert other.name == "w:0"
        assert other.trainable is False
        other.assign([2.0])
        assert v.numpy()[0] == 1
    shared = copy.deepcopy([v, v])
    assert shared[0] is shared[1]
