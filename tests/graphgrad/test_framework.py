"""Scopes, groups and graph gradients: what TensorFlow's programs say about graphs and modes."""

from types import SimpleNamespace

import numpy as np
import pytest

import graphgrad as gg
from graphgrad import framework


def test_modes():
    @gg.function
    def f(x):
        traced = gg.executing_eagerly(), gg.inside_function(), gg.is_symbolic_tensor(x)
        with gg.init_scope():
            scope = gg.executing_eagerly(), float(gg.constant(2.0) * 3)
        return traced, scope

    assert [float(v) for part in f(gg.constant(1.0)) for v in part] == [0, 1, 1, 1, 6]
    assert gg.executing_eagerly()
    assert not gg.inside_function()
    assert not gg.is_symbolic_tensor(gg.constant(1.0))


def test_init_scope_hides_from_tapes():
    x = gg.Variable(2.0)
    with gg.GradientTape() as tape:
        with gg.init_scope():
            hidden = x * 3.0
        y = x * hidden
    assert float(tape.gradient(y, x)) == 6.0


def test_scopes_that_have_nothing_to_do():
    @gg.function
    def f(x):
        with gg.name_scope("layer") as name, gg.control_dependencies([x]):
            assert name == "layer/"
            gg.group(gg.no_op(), x)
            a, b = gg.tuple([x, x + 1])
        return gg.identity_n([a, b])

    assert [float(v) for v in f(gg.constant(1.0))] == [1.0, 2.0]
    with pytest.raises(TypeError, match="a name is a string"):
        gg.name_scope(3)


@pytest.mark.parametrize("wrap", [lambda f: f, gg.function], ids=["eager", "compiled"])
def test_bitcast(wrap):
    for value, target in [
        (np.float32([1.0, -0.0]), gg.int32),
        (np.float64([1.5]), gg.int32),
        (np.arange(8, dtype=np.uint8).reshape(2, 4), gg.float32),
        (np.int16([1, -1]), gg.float16),
    ]:
        found = wrap(lambda x, target=target: gg.bitcast(x, target))(gg.constant(value))
        size = value.dtype.itemsize
        shape = value.shape + ((size // target.itemsize,) if target.itemsize < size else ())
        shape = shape[:-1] if target.itemsize > size else shape
        np.testing.assert_array_equal(
            found.numpy(), value.reshape(-1).view(target.dtype).reshape(shape)
        )
    with pytest.raises(ValueError, match="made of 4 elements of the last axis"):
        wrap(lambda x: gg.bitcast(x, gg.float32))(gg.constant(np.zeros(3, np.uint8)))


def test_static_values():
    @gg.function
    def f(x):
        assert gg.get_static_value(x) is None
        assert gg.get_static_value(x + 1) is None
        (two,) = gg.identity_n([gg.constant(2)])
        return x * 2 if gg.get_static_value(two) is None else x

    f(gg.constant(1))
    assert gg.get_static_value(gg.constant([1, 2])).tolist() == [1, 2]


def test_timestamps_are_those_of_the_call(monkeypatch):
    clock = SimpleNamespace(time=iter([1.5, 2.5, 4.0]).__next__)
    monkeypatch.setattr(framework, "time", clock)
    f = gg.function(gg.timestamp)
    assert [float(f()) for _ in range(3)] == [1.5, 2.5, 4.0]


def test_unravel_index():
    found = gg.unravel_index(gg.constant([[22], [41], [37]]), [7, 6])
    np.testing.assert_array_equal(found.numpy(), np.unravel_index([[22], [41], [37]], (7, 6)))


def test_gradients_of_the_graph():
    @gg.function
    def f(x, w):
        y = x * x * w
        z = gg.reduce_sum(y)
        first = gg.gradients([z], [x, w])
        second = gg.gradients(first[0], x)
        seeded = gg.gradients(y, x, grad_ys=[gg.constant([1.0, 0.0])])
        cut = gg.gradients(y * x, x, stop_gradients=[y])
        none = gg.gradients(w, x)
        zero = gg.gradients(w, x, unconnected_gradients="zero")
        assert none == [None]
        return first, second, seeded, cut, zero

    x, w = gg.constant([1.0, 2.0]), gg.constant([3.0, 4.0])
    first, second, seeded, cut, zero = f(x, w)
    np.testing.assert_allclose(first[0], [6, 16])
    np.testing.assert_allclose(first[1], [1, 4])
    np.testing.assert_allclose(second[0], [6, 8])
    np.testing.assert_allclose(seeded[0], [6, 0])
    np.testing.assert_allclose(cut[0], [3, 16])
    np.testing.assert_allclose(zero[0], [0, 0])
    with pytest.raises(RuntimeError, match=r"use gg\.GradientTape"):
        gg.gradients(x, x)


def test_initializers():
    assert gg.constant_initializer([1, 2, 3, 4])([2, 2]).numpy().tolist() == [[1, 2], [3, 4]]
    assert gg.zeros_initializer()([2], gg.int32).dtype is gg.int32
    a = gg.random_normal_initializer(1.0, 0.1, seed=3)
    again = type(a).from_config(a.get_config())
    assert repr(again) == "random_normal_initializer(mean=1.0, stddev=0.1, seed=3)"
    v = gg.Variable(gg.random_uniform_initializer(2.0, 3.0)([4]))
    assert ((v.numpy() >= 2) & (v.numpy() < 3)).all()
    f = gg.function(lambda: gg.ones_initializer()([3]))
    assert f().numpy().tolist() == [1, 1, 1]
