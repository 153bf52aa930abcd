"""Python's operators and functions of numbers on tensors, and how they are printed in text."""

import math

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.errors import DTypeError, TraceError

WRAPS = {"eager": lambda f: f, "function": gg.function}
K, J = np.array([12, -5, 7], np.int32), np.array([10, 3, -2], np.int32)
B, C = np.array([True, False, True]), np.array([True, True, False])
X = np.array([2.5, -2.5, 0.4], np.float32)
CALLS = {  # a function, its operands, what NumPy or Python says
    "int & int": (lambda x, y: x & y, (K, J), K & J),
    "int | int": (lambda x, y: x | y, (K, J), K | J),
    "int ^ int": (lambda x, y: x ^ y, (K, J), K ^ J),
    "~int": (lambda x: ~x, (K,), ~K),
    "int << int": (lambda x, y: x << abs(y), (K, J), K << abs(J)),
    "int >> int": (lambda x, y: x >> abs(y), (K, J), K >> abs(J)),
    "5 & int": (lambda x: 5 & x, (K,), 5 & K),
    "5 | int": (lambda x: 5 | x, (K,), 5 | K),
    "5 ^ int": (lambda x: 5 ^ x, (K,), 5 ^ K),
    "1 << int": (lambda x: 1 << x % 8, (K,), 1 << K % 8),
    "1000 >> int": (lambda x: 1000 >> x % 8, (K,), 1000 >> K % 8),
    "bool & bool": (lambda x, y: x & y, (B, C), B & C),
    "bool | bool": (lambda x, y: x | y, (B, C), B | C),
    "bool ^ bool": (lambda x, y: x ^ y, (B, C), B ^ C),
    "~bool": (lambda x: ~x, (B,), ~B),
    "bool & True": (lambda x: x & True, (B,), B),
    "True ^ bool": (lambda x: True ^ x, (B,), ~B),
    "bool & list": (lambda x: x & [True, True, False], (B,), B & C),
    "bool & int": (lambda x, y: x & y, (B, K), B & K),
    "divmod": (lambda x, y: divmod(x, y)[0] * 100 + divmod(x, y)[1], (K, J), K // J * 100 + K % J),
    "divmod of a number": (lambda y: divmod(100, y)[1], (J,), 100 % J),
    "round": (round, (X,), np.array([2, -2, 0])),
    "round to a digit": (lambda x: round(x * 1.01, 1), (X,), np.round(X * np.float32(1.01), 1)),
    "round to hundreds": (lambda x: round(x * 100, -2), (K,), np.round(K * 100, -2)),
    "round of ints": (lambda x: round(x, 1), (K,), K),
    "floor": (math.floor, (X,), np.array([2, -3, 0])),
    "ceil": (math.ceil, (X,), np.array([3, -2, 1])),
    "trunc": (math.trunc, (X,), np.array([2, -2, 0])),
    "floor of ints": (math.floor, (K,), K.astype(np.int64)),
    "np.bitwise_and of bools": (lambda x, y: np.bitwise_and(x, y), (B, C), B & C),
    "np.invert": (lambda x: np.invert(x), (K,), ~K),
    "np.left_shift": (lambda x, y: np.left_shift(x, y), (K, abs(J)), K << abs(J)),
    "np.fmod": (lambda x, y: np.fmod(x, y), (K, J), np.fmod(K, J)),
    "np.clip": (lambda x: np.clip(x, -1, None), (X,), np.clip(X, -1, None)),
    "np.clip by name": (lambda x: np.clip(x, min=0, max=1), (X,), np.clip(X, 0, 1)),
    "np.round": (lambda x: np.round(x, 1), (X,), np.round(X, 1)),
    "np.rint": (lambda x: np.rint(x), (X,), np.rint(X)),
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", CALLS)
def test_operator(name, wrap):
    f, operands, wanted = CALLS[name]
    found = WRAPS[wrap](f)(*map(gg.constant, operands))
    assert isinstance(found, gg.Tensor)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_operators_of_variables():
    v = gg.Variable([6, 5])
    np.testing.assert_array_equal(v & 3, [2, 1])
    np.testing.assert_array_equal(~v, [-7, -6])
    np.testing.assert_array_equal(round(gg.Variable(2.5)), 2)


def test_a_rounded_tensor_counts():
    assert list(range(math.ceil(gg.constant(2.2)))) == [0, 1, 2]
    assert gg.constant([5.0, 6.0])[math.floor(gg.constant(1.7))] == 6


@pytest.mark.parametrize("wrap", WRAPS)
def test_floats_have_no_bits(wrap):
    with pytest.raises(DTypeError, match=r"bitwise_and: takes integers, got f32\[\] and i32\[\]"):
        WRAPS[wrap](lambda x: x & gg.constant(1))(gg.constant(1.5))
    with pytest.raises(DTypeError, match="left_shift: takes integers, got True"):
        gg.bitwise.left_shift(True, True)


def test_next_floats_of_both_widths():
    for dtype in (np.float32, np.float64):
        least, most = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
        own = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, least, -least, most]
        x, y = np.meshgrid(*[np.array(own, dtype)] * 2)
        with np.errstate(all="ignore"):
            wanted = np.nextafter(x, y)
        for wrap in WRAPS.values():
            found = wrap(gg.math.nextafter)(x, y).numpy()
            np.testing.assert_array_equal(found, wanted)
            np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))


SATURATED = [
    ([300, -5, 7], "int32", "uint8", [255, 0, 7]),
    ([1e6, -1e6, np.nan, 1.0], "float32", "float16", [65504, -65504, np.nan, 1]),
    ([1e20, np.nan, -np.inf], "float32", "int32", [2**31 - 1, 0, -(2**31)]),
    ([2**64 - 1, 5], "uint64", "int64", [2**63 - 1, 5]),
    ([-(2**63), 5], "int64", "uint64", [0, 5]),
    ([70000, -70000], "int32", "float16", [65504, -65504]),
    ([1e300, np.inf], "float64", "float32", [np.finfo(np.float32).max] * 2),
    ([True, False], "bool", "int8", [1, 0]),
    ([1.5, 2.5], "float16", "float64", [1.5, 2.5]),
]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize(("x", "dtype", "target", "wanted"), SATURATED)
def test_saturate_cast(x, dtype, target, wanted, wrap):
    x = np.array(x, dtype)
    found = WRAPS[wrap](lambda x: gg.saturate_cast(x, target))(x)
    assert found.dtype == target
    np.testing.assert_array_equal(found, np.array(wanted, target))


def test_text_is_that_of_the_value():
    loss, v = gg.constant(2.5), gg.constant([1.0, 2.0])
    assert f"{loss}" == "2.5"
    assert f"{loss:.3f} {loss:>8} {gg.constant(7):03d} {gg.Variable(0.5):.0%}" == (
        "2.500      2.5 007 50%"
    )
    assert f"{v}" == str(v.numpy()) == "[1. 2.]"
    with pytest.raises(TypeError, match=r"the format '.2f' takes a 0-d tensor, this is f32\[2\]"):
        f"{v:.2f}"


def test_text_of_a_symbolic_tensor():
    @gg.function
    def plain(x):
        assert f"{x}" == str(x)
        return x

    @gg.function
    def rounded(x):
        return gg.constant(float(f"{x:.2f}"))

    plain(gg.constant(1.0))
    with pytest.raises(TraceError, match=r"the format '.2f' needs the value of a symbolic tensor"):
        rounded(gg.constant(1.0))
