"""Sizes that a signature leaves open: one trace for many, with guards where it matters."""

import numpy as np
import pytest

import graphgrad as gg


def open_sizes(*shapes):
    specs = [gg.TensorSpec(s) for s in shapes]

    def decorate(f):
        return gg.function(f, input_signature=specs)

    return decorate


def count(f):
    return f.experimental_get_tracing_count()


def test_any_size_with_one_trace():
    @open_sizes([None, None])
    def f(x):
        return gg.reduce_sum(gg.exp(x) * 2, 0), x.shape[0] * x.shape[1] + gg.shape(x)[0]

    for shape in ((2, 3), (5, 1), (1, 4), (0, 3)):
        total, size = f(gg.zeros(shape))
        np.testing.assert_array_equal(total, np.full(shape[1], 2.0 * shape[0]))
        assert int(size) == shape[0] * shape[1] + shape[0]
    assert count(f) == 1


def test_shapes_are_none_in_lists():
    seen = []

    @open_sizes([None, 3])
    def f(x):
        seen.append((x.shape.as_list(), str(x.shape)))
        return x

    with pytest.warns(gg.errors.SideEffectWarning):
        f(gg.zeros((2, 3)))
    assert seen == [([None, 3], "(None, 3)")]


def test_equal_sizes_are_a_guard():
    @open_sizes([None], [None])
    def f(x, y):
        return x + y

    np.testing.assert_array_equal(f(gg.ones(3), gg.ones(3)), [2, 2, 2])
    np.testing.assert_array_equal(f(gg.ones(5), gg.ones(5)), [2] * 5)
    assert count(f) == 1
    np.testing.assert_array_equal(f(gg.ones(3), gg.ones(1)), [2, 2, 2])
    assert count(f) == 2
    with pytest.raises(gg.errors.ShapeError):
        f(gg.ones(3), gg.ones(2))


def test_size_one_is_a_guard():
    @open_sizes([None, 2])
    def f(x):
        return x + gg.ones((4, 2))

    np.testing.assert_array_equal(f(gg.ones((4, 2))), np.full((4, 2), 2))
    np.testing.assert_array_equal(f(gg.ones((1, 2))), np.full((4, 2), 2))
    assert count(f) == 2


def test_gradients_with_open_sizes():
    @open_sizes([None])
    def f(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.reduce_mean(x * x)
        return tape.gradient(y, x)

    for n in (2, 4, 8):
        np.testing.assert_allclose(f(gg.ones(n)), np.full(n, 2 / n))
    assert count(f) == 1


def test_outer_gradients_with_open_sizes():
    f = open_sizes([None, 3])(lambda x: gg.reduce_sum(gg.sin(x), 1))
    for n in (2, 5):
        x = gg.constant(np.linspace(0, 1, n * 3, dtype=np.float32).reshape(n, 3))
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        np.testing.assert_allclose(tape.gradient(y, x), np.cos(x.numpy()), rtol=1e-6)
    assert count(f) == 1


def test_python_cannot_know_the_size():
    f = open_sizes([None])(lambda x: [v for v in x])
    with pytest.raises(gg.errors.TraceError, match="first size n is not known while tracing"):
        f(gg.zeros(2))
    spec = gg.TensorSpec([None], gg.float32)
    f = gg.function(lambda x: len(x), input_signature=[spec], autograph=False)
    with pytest.raises(gg.errors.TraceError, match=r"x.shape\[0\] in shapes"):
        f(gg.zeros(2))


def test_a_converted_function_asks_for_the_size():
    f = open_sizes([None])(lambda x: len(x))
    assert int(f(gg.zeros(2))) == 2
    assert int(f(gg.zeros(5))) == 5


def test_variables_of_open_shape_in_a_function():
    f = open_sizes([None, 2])(lambda x: gg.reshape(x, (-1,)))
    np.testing.assert_array_equal(f(gg.ones((3, 2))), np.ones(6))


def test_reduce_retracing_with_two_arguments():
    f = gg.function(lambda x, y: gg.reduce_sum(x) + gg.reduce_sum(y), reduce_retracing=True)
    for n, m in ((2, 3), (4, 3), (5, 3), (5, 7), (1, 9)):
        assert float(f(gg.ones(n), gg.ones(m))) == n + m
    assert count(f) <= 3


def test_python_may_compare_an_open_size():
    f = gg.function(lambda x: x if x.shape[0] > 2 else -x, input_signature=[gg.TensorSpec([None])])
    for n, sign in ((3, 1), (1, -1), (2, -1), (7, 1)):
        np.testing.assert_array_equal(f(gg.ones(n)), np.full(n, sign))
    assert f.experimental_get_tracing_count() == 2


def test_a_users_question_whether_a_size_is_equal_is_a_guard():
    @gg.function(input_signature=[gg.TensorSpec([None])])
    def f(x):
        return x * 10 if x.shape[0] == 3 else x

    assert f(gg.ones(3)).numpy().tolist() == [10, 10, 10]
    assert f(gg.ones(2)).numpy().tolist() == [1, 1]
    assert f(gg.ones(5)).numpy().tolist() == [1] * 5
    assert f(gg.ones(3)).numpy().tolist() == [10, 10, 10]
    assert f.experimental_get_tracing_count() == 2

    @gg.function(input_signature=[gg.TensorSpec([None, None])])
    def g(x):
        if x.shape == (2, 2):
            return x * 2
        return x if x.shape[0] != x.shape[1] else -x

    assert g(gg.ones([2, 2])).numpy().tolist() == [[2, 2], [2, 2]]
    assert g(gg.ones([1, 2])).numpy().tolist() == [[1, 1]]
    assert g(gg.ones([1, 1])).numpy().tolist() == [[-1]]


def test_an_open_size_that_is_one_stretches():
    @gg.function(input_signature=[gg.TensorSpec([None, 3])])
    def f(x):
        return x + x[2::2] * 2

    for n in (4, 3, 4):
        x = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
        np.testing.assert_array_equal(f(x).numpy(), x + x[2::2] * 2)
        with gg.GradientTape() as tape:
            t = gg.constant(x)
            tape.watch(t)
            y = gg.reduce_sum(f(t))
        slope = np.ones_like(x)
        slope[2] += 2 * n
        np.testing.assert_array_equal(tape.gradient(y, t).numpy(), slope)
    with pytest.raises(ValueError, match=r"n=5, 3\] and \[\(\(n - 1\) // 2\)=2, 3\]"):
        f(np.ones([5, 3], np.float32))
