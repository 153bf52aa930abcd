"""Eager tensors: values and dtypes, printing, the tensor protocol, NumPy's protocols."""

import copy
import subprocess
import sys

import numpy as np
import pytest

import graphgrad as gg


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, gg.int32), (2**40, gg.int64), (1.5, gg.float32), (True, gg.bool),
        ([1, 2], gg.int32), ([1.0, 2], gg.float32), (np.float64(1), gg.float64),
        (np.arange(3), gg.int64), (np.zeros(2), gg.float64), ([[True]], gg.bool),
        (np.float16(1), gg.float16), ([], gg.float32),
    ],
)  # fmt: skip
def test_dtype_of_a_constant(value, dtype):
    assert gg.constant(value).dtype is dtype


def test_str_and_repr_have_tensorflows_layout():
    assert str(gg.constant(3)) == "gg.Tensor(3, shape=(), dtype=int32)"
    assert repr(gg.constant(3)) == "<gg.Tensor: shape=(), dtype=int32, numpy=3>"
    assert repr(gg.constant(3.0)) == "<gg.Tensor: shape=(), dtype=float32, numpy=3.0>"
    assert str(gg.constant([1.0, 2.0])) == "gg.Tensor([1. 2.], shape=(2,), dtype=float32)"
    assert repr(gg.constant([[1, 2], [3, 4]])) == (
        "<gg.Tensor: shape=(2, 2), dtype=int32, numpy=\n"
        "array([[1, 2],\n       [3, 4]], dtype=int32)>"
    )
    assert f"{gg.constant(2.5):.2f}" == "2.50"


def test_operators_agree_with_functions():
    a, b = gg.constant([1.0, 2.0]), gg.constant([3.0, 5.0])
    for op, function in (
        (a + b, gg.add), (a - b, gg.subtract), (a * b, gg.multiply), (a / b, gg.divide),
        (a**b, gg.pow), (a < b, gg.less),
    ):  # fmt: skip
        np.testing.assert_array_equal(op, function(a, b))
    np.testing.assert_array_equal(2 - a, [1, 0])
    np.testing.assert_array_equal(-a, [-1, -2])
    np.testing.assert_array_equal(6 / b, np.float32([2, 1.2]))
    np.testing.assert_array_equal(2**a, [2, 4])


@pytest.mark.parametrize(
    ("left", "right", "dtype"),
    [
        (gg.float32, gg.float64, gg.float64), (gg.int32, gg.int64, gg.int64),
        (gg.int32, gg.float32, gg.float32), (gg.bool, gg.int32, gg.int32),
        (gg.int64, gg.uint64, gg.float64), (gg.int64, gg.float16, gg.float16),
        (gg.float16, gg.bfloat16, gg.float32),
    ],
)  # fmt: skip
def test_tensors_promote(left, right, dtype):
    a, b = gg.ones(2, left), gg.ones(2, right)
    assert (a + b).dtype is dtype
    assert (b + a).dtype is dtype


def test_numbers_and_arrays_take_the_tensors_dtype():
    f, i = gg.constant([1.0]), gg.constant([1])
    assert (f + np.float64(2)).dtype is gg.float32
    assert (np.float64(2) + f).dtype is gg.float32
    assert (f + 1).dtype is gg.float32
    assert (i + 2.5).dtype is gg.float32
    assert (i + np.zeros(1)).dtype is gg.float64
    assert (np.zeros(1) + i).dtype is gg.float64
    assert isinstance(np.zeros(1) + i, gg.Tensor)


def test_integer_division():
    assert (gg.constant(7) / gg.constant(2)).numpy() == 3.5
    assert (gg.constant(7) / gg.constant(2)).dtype is gg.float64
    assert (gg.constant(-7) // 2).numpy() == -4
    assert (gg.constant(-7) % 3).numpy() == 2
    with pytest.raises(gg.errors.DivisionByZero):
        gg.constant([1, 2]) // gg.constant([1, 0])


def test_floating_specials_are_values_without_warnings():
    x = gg.constant([0.0, -1.0])
    assert np.isinf((1 / x).numpy()[0])
    assert np.isnan(gg.sqrt(x).numpy()[1])


def test_tensors_are_immutable():
    x = gg.constant([1.0, 2.0])
    with pytest.raises(TypeError):
        x[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 5
    source = np.ones(3)
    t = gg.constant(source)
    source[0] = 9
    assert t.numpy()[0] == 1


def test_tensors_are_unhashable_but_have_references():
    x = gg.constant(1)
    with pytest.raises(
        TypeError, match=r"Tensor is unhashable. Instead, use tensor.ref\(\) as the key."
    ):
        hash(x)
    assert x.ref() == x.ref()
    assert x.ref().deref() is x
    assert len({x.ref(), gg.constant(1).ref()}) == 2


def test_equality_is_elementwise():
    np.testing.assert_array_equal(gg.constant([1, 2]) == [1, 3], [True, False])
    assert (gg.constant(1) == None) is False  # noqa: E711
    assert (gg.constant(1) != None) is True  # noqa: E711


def test_truth_and_conversion():
    assert bool(gg.constant(1))
    assert not bool(gg.constant([0.0]))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(gg.constant([1, 2]))
    assert float(gg.constant(2.5)) == 2.5
    assert int(gg.constant(2.5)) == 2
    assert [1, 2, 3][gg.constant(1)] == 2
    with pytest.raises(TypeError):
        [1][gg.constant(0.0)]
    with pytest.raises(TypeError):
        float(gg.constant([1.0, 2.0]))


def test_iteration_and_length():
    assert [int(v) for v in gg.constant([1, 2, 3])] == [1, 2, 3]
    with pytest.raises(TypeError, match=r"Cannot iterate over a scalar tensor\."):
        iter(gg.constant(1))
    assert len(gg.zeros((4, 2))) == 4
    with pytest.raises(TypeError, match="has no `len"):
        len(gg.constant(1))


def test_indexing():
    a = np.arange(24).reshape(2, 3, 4)
    x = gg.constant(a)
    for key in (
        0,
        -1,
        np.s_[1:],
        np.s_[:, 1],
        np.s_[..., -1],
        np.s_[None, 0],
        np.s_[:, ::-1, ::2],
        np.s_[1, 2, 3],
    ):
        np.testing.assert_array_equal(x[key], a[key])
    with pytest.raises(IndexError):
        x[2]


def test_shape_object():
    shape = gg.zeros((2, 3)).shape
    assert shape == (2, 3)
    assert shape.as_list() == [2, 3]
    assert repr(shape) == "TensorShape([2, 3])"
    assert str(shape) == "(2, 3)"
    assert shape.rank == 2
    assert shape.num_elements() == 6
    assert gg.zeros(()).shape == ()


def test_numpy_functions_stay_inside():
    x = gg.constant([1.0, 2.0])
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = np.sum(np.sin(x) * np.array([2.0, 3.0]))
    assert isinstance(y, gg.Tensor)
    np.testing.assert_allclose(tape.gradient(y, x), np.cos([1, 2]) * [2, 3], rtol=1e-6)
    assert isinstance(np.concatenate([x, x]), gg.Tensor)
    assert isinstance(np.add.reduce(x), gg.Tensor)
    assert np.asarray(x).dtype == np.float32
    assert np.asarray(x, np.float64).dtype == np.float64


def test_dlpack_is_without_a_copy():
    x = gg.constant([1.0, 2.0])
    array = np.from_dlpack(x)
    assert np.shares_memory(array, x.numpy())
    assert not array.flags.writeable


def test_copies_are_the_same_tensor():
    x = gg.constant([1.0])
    assert copy.copy(x) is x
    assert copy.deepcopy(x) is x


def test_creation():
    np.testing.assert_array_equal(gg.zeros((2, 1)), np.zeros((2, 1)))
    np.testing.assert_array_equal(gg.ones([2], gg.int64), [1, 1])
    np.testing.assert_array_equal(gg.fill((2, 2), 7), [[7, 7], [7, 7]])
    np.testing.assert_array_equal(gg.eye(2, 3), np.eye(2, 3))
    np.testing.assert_array_equal(gg.range(5), np.arange(5))
    np.testing.assert_array_equal(gg.range(1.0, 2.0, 0.25), np.arange(1, 2, 0.25))
    np.testing.assert_array_equal(gg.linspace(0.0, 1.0, 3), [0, 0.5, 1])
    np.testing.assert_array_equal(gg.linspace(3.0, 4.0, 1), [3.0])
    np.testing.assert_array_equal(gg.shape(gg.zeros((2, 3))), [2, 3])
    assert int(gg.size(gg.zeros((2, 3)))) == 6
    assert int(gg.rank(gg.zeros((2, 3)))) == 2
    np.testing.assert_array_equal(gg.constant(5, shape=(2,)), [5, 5])
    np.testing.assert_array_equal(gg.constant([1, 2, 3, 4], shape=(2, 2)), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(gg.constant([gg.constant(1), gg.constant(2)]), [1, 2])
    with pytest.raises(TypeError, match="cast"):
        gg.convert_to_tensor(gg.constant(1.0), gg.float64)


def test_broadcasting_errors_name_both_shapes():
    with pytest.raises(gg.errors.ShapeError, match=r"\[2\] and \[3\]"):
        gg.zeros(2) + gg.zeros(3)


def test_import_is_light():
    heavy = "('numba', 'llvmlite', 'scipy')"
    code = f"import sys, graphgrad; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_formats():
    x, n, m = gg.constant(2.5), gg.constant(3), gg.constant([1.0, 2.0])
    assert f"{x:.2f}|{x:>8.3f}|{n:d}|{n:04d}" == "2.50|   2.500|3|0003"
    assert f"{x}|{m}" == "2.5|[1. 2.]"
    assert f"{gg.Variable(2.0):.1f}" == "2.0"
    with pytest.raises(TypeError, match=r"the format '\.2f' takes a 0-d tensor, this is f32\[2\]"):
        f"{m:.2f}"
    with pytest.raises(RuntimeError, match=r"the format '\.2f' needs the value of a symbolic tens"):
        gg.function(lambda x: f"{x:.2f}")(x)


def test_neither_items_nor_keys():
    x, v = gg.constant([1.0, 2.0]), gg.Variable([1.0, 2.0])
    with pytest.raises(TypeError, match=r"'EagerTensor' object does not support item assignment"):
        x[0] = 1.0
    with pytest.raises(TypeError, match=r"'Variable' object .* use v\[key\]\.assign\(value\)"):
        v[0] = 1.0
    with pytest.raises(TypeError, match=r"Tensor is unhashable. Instead, use tensor\.ref\(\)"):
        hash(x)
    with pytest.raises(TypeError, match=r"Variable is unhashable. Instead, use variable\.ref\(\)"):
        hash(v)
    table = {x.ref(): "x", v.ref(): "v"}
    assert (table[x.ref()], table[v.ref()]) == ("x", "v")
    assert x.ref().deref() is x
    assert gg.constant([1.0, 2.0]).ref() not in table
