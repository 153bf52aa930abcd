"""What pickling and copying keep: values and options, never traces."""

import copy
import pickle

import numpy as np
import pytest

import graphgrad as gg


@gg.function
def double(x):
    return x * 2


def plain(x):
    return x + 1


class Model:
    def __init__(self):
        self.w = gg.Variable([1.0, 2.0])

    @gg.function
    def __call__(self, x):
        return x * self.w


def again(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("value", [1, 2.5, True, [1.0, 2.0], np.zeros((2, 3)), np.arange(4)[::2]])
def test_tensors(value):
    t = gg.constant(value)
    copied = again(t)
    assert copied.dtype is t.dtype
    np.testing.assert_array_equal(copied, t)


def test_views_are_pickled_alone():
    part = gg.constant(np.zeros(100_000))[:3]
    assert len(pickle.dumps(part)) < 2000
    np.testing.assert_array_equal(again(part), np.zeros(3))


def test_dtypes():
    assert again(gg.float32) is gg.float32


def test_functions_of_a_module_by_name():
    assert again(double) is double
    assert copy.deepcopy(double) is not double
    np.testing.assert_array_equal(copy.deepcopy(double)(gg.ones(2)), [2, 2])


def test_other_functions_by_their_python_function_and_options():
    f = again(gg.function(plain, jit_compile=False, max_traces=3))
    assert f._options["max_traces"] == 3
    assert f.experimental_get_tracing_count() == 0
    np.testing.assert_array_equal(f(gg.ones(2)), [2, 2])


def test_objects_with_functions():
    m = Model()
    m(gg.ones(2))
    for other in (copy.deepcopy(m), again(m)):
        other.w.assign([5.0, 5.0])
        np.testing.assert_array_equal(other(gg.ones(2)), [5, 5])
        np.testing.assert_array_equal(m(gg.ones(2)), [1, 2])


def test_bound_functions_move_to_the_copy():
    m = Model()
    m.step = gg.function(m.__call__.python_function)
    np.testing.assert_array_equal(m.step(gg.ones(2)), [1, 2])
    other = copy.deepcopy(m)
    other.w.assign([7.0, 7.0])
    np.testing.assert_array_equal(other.step(gg.ones(2)), [7, 7])
    np.testing.assert_array_equal(m.step(gg.ones(2)), [1, 2])


def test_symbolic_tensors_cannot_be_pickled():
    with pytest.raises(gg.errors.TraceError, match="pickling"):
        gg.function(lambda x: pickle.dumps(x))(gg.ones(2))
