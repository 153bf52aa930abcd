"""Python and NumPy values as tensors: what loses information is an error, in every mode."""

import re
import warnings

import numpy as np
import pytest

import graphgrad as gg

ERRORS = {
    "None": (lambda x: x * None, TypeError, "Attempt to convert a value (None) with an unsupp"),
    "text": (lambda x: x + "a", TypeError, "Attempt to convert a value ('a') with an unsupported"),
    "None as a float": (lambda x: gg.constant(None, gg.float32), TypeError, "a value (None)"),
    "text as a float": (lambda x: gg.constant("1.5", gg.float32), TypeError, "a value ('1.5')"),
    "None in a list": (lambda x: gg.constant([1, None], gg.float32), TypeError, "([1, None])"),
    "bytes": (lambda x: x + b"1", TypeError, "a value (b'1')"),
    "complex": (
        lambda x: gg.constant(1j, gg.float32), TypeError,
        "Cannot convert 1j to a tensor of dtype float32, which has no imaginary part",
    ),
    "float as an int": (
        lambda x: gg.constant(1.5, gg.int32), TypeError,
        "Cannot convert 1.5 to a tensor of dtype int32; gg.cast does",
    ),
    "floats as ints": (lambda x: gg.constant([1.5], "int64"), TypeError, "Cannot convert [1.5]"),
    "out of range": (
        lambda x: gg.cast(x, gg.int32) + 2**40, ValueError,
        "1099511627776 is out of range for int32, which holds -2147483648 to 2147483647",
    ),
    "array out of range": (
        lambda x: gg.cast(x, gg.int32) + np.array([0, 2**40]), ValueError,
        "1099511627776 is out of range for int32",
    ),
    "scalar out of range": (
        lambda x: gg.cast(x, gg.int32) + np.int64(2**40), ValueError,
        "1099511627776 is out of range for int32",
    ),
    "compared out of range": (
        lambda x: gg.cast(x, gg.uint8) < 300, ValueError, "300 is out of range for uint8"
    ),
    "negative as unsigned": (
        lambda x: gg.constant([-1], gg.uint8), ValueError, "-1 is out of range for uint8"
    ),
    "beyond 64 bits": (lambda x: gg.constant(2**63), ValueError, "out of range for int64"),
    "ragged": (lambda x: gg.constant([[1], [2, 3]]), ValueError, "non-rectangular Python sequence"),
}  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", ERRORS)
def test_errors(name, compiled):
    f, kind, text = ERRORS[name]
    with pytest.raises(kind, match=re.escape(text)) as e:
        (gg.function(f) if compiled else f)(gg.constant([1.0, 2.0]))
    assert isinstance(e.value, gg.errors.GraphgradError)
    assert "test_conversion.py" in str(e.value)


def test_integer_variables_refuse_floats():
    v = gg.Variable(1)
    for change in (v.assign, v.assign_add, v.assign_sub):
        with pytest.raises(TypeError, match=r"Cannot convert 2\.5 to a tensor of dtype int32"):
            change(2.5)
    assert int(v) == 1
    with pytest.raises(TypeError, match="with an unsupported type"):
        gg.Variable(1.0).assign(None)


def test_conversions():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        odd = gg.constant(np.array([np.nan, 1e20, -5.5]), gg.int32)
        assert np.isinf(float(gg.cast(1.0, gg.float16) + 2**40))
    np.testing.assert_array_equal(odd, [0, 2**31 - 1, -5])
    assert gg.constant([2**40, 1]).dtype == gg.int64
    assert gg.constant([]).dtype == gg.float32
    assert gg.constant([], gg.int32).dtype == gg.int32
    assert gg.constant([True, 2]).dtype == gg.int32


def test_shapes_from_tensors():
    x = gg.ones((2, 3))
    shapes = {
        "reshape": lambda x: gg.reshape(x, [gg.shape(x)[0] * 3]),
        "flat": lambda x: gg.reshape(x, [gg.shape(x)[0], -1]),
        "random": lambda x: gg.random.normal(gg.shape(x)),
        "zeros": lambda x: gg.zeros(gg.shape(x)),
        "broadcast": lambda x: gg.broadcast_to(x[0], gg.shape(x)),
        "range": lambda x: gg.range(gg.shape(x)[0]),
        "one_hot": lambda x: gg.one_hot([0, 1], gg.shape(x)[1]),
        "constant": lambda x: gg.reshape(x, gg.constant([3, 2])),
    }
    for name, f in shapes.items():
        expected = f(x).shape
        assert gg.function(f)(x).shape == expected, name
        if name != "constant":
            g = gg.function(f, input_signature=[gg.TensorSpec([None, 3])])
            for n in (2, 1, 5):
                assert g(gg.ones((n, 3))).shape == f(gg.ones((n, 3))).shape, name
            assert g.experimental_get_tracing_count() == 1, name
    with pytest.raises(ValueError, match="must be known while tracing, and this one is computed"):
        gg.function(lambda n: gg.zeros(n))(gg.constant([[3]]))
    with pytest.raises(ValueError, match=r"a size in a shape is an integer, got 2\.5"):
        gg.zeros([2.5])
    with pytest.raises(ValueError, match=r"sum: an axis is an integer, got 1\.5"):
        gg.reduce_sum(x, axis=1.5)
    assert gg.reduce_sum(x, axis=gg.constant(1)).shape == (2,)


def test_eager_tensors_bound_slices():
    x, i = gg.constant([1.0, 2.0, 3.0]), gg.constant(1)
    np.testing.assert_array_equal(x[i:], [2, 3])
    np.testing.assert_array_equal(x[: gg.Variable(2)], [1, 2])
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        x[1.5:]
    np.testing.assert_array_equal(gg.function(lambda x, i: x[i:])(x, i), [2, 3])
    with pytest.raises(TypeError, match="the bounds of a slice are 0-d integers, got f32"):
        gg.function(lambda x, i: x[i:])(x, gg.constant(1.0))
