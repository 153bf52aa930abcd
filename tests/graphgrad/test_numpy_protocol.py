"""NumPy's functions on tensors give what NumPy gives on their arrays, or say why not."""

import numpy as np
import pytest

import graphgrad as gg

MATRIX = np.float32([[3, 1, 2], [0, 5, 4]])
CALLS = {
    "argmax": lambda m: np.argmax(m),
    "argmin of rows": lambda m: np.argmin(m, 1),
    "argmax, kept": lambda m: np.argmax(m, axis=1, keepdims=True),
    "cumsum": lambda m: np.cumsum(m),
    "cumsum of columns": lambda m: np.cumsum(m, axis=0),
    "flip": lambda m: np.flip(m),
    "flip columns": lambda m: np.flip(m, 1),
    "concatenate": lambda m: np.concatenate([m, m]),
    "concatenate flat": lambda m: np.concatenate([m, m], axis=None),
    "reshape by columns": lambda m: np.reshape(m, (3, 2), order="F"),
    "sum in float64": lambda m: np.sum(m, dtype=np.float64),
    "max with initial": lambda m: np.max(m, 0, initial=4.0),
    "transpose": lambda m: np.transpose(m, axes=(1, 0)),
    "size of an axis": lambda m: np.size(m, 0),
    "dot with a number": lambda m: np.dot(2.0, m),
    "dot of stacks": lambda m: np.dot(m[None], m.T[None]),
    "where": lambda m: np.where(m > 1, m, -m),
    "reduce": lambda m: np.add.reduce(m, axis=1),
    "split": lambda m: np.split(m, 3, axis=1),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_are_numpys(name):
    expected = CALLS[name](MATRIX)
    found = CALLS[name](gg.constant(MATRIX))
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("ufunc", "arguments"),
    [(f, (0.5,)) for f in (np.arcsin, np.arccos, np.arctan, np.arcsinh, np.arctanh)]
    + [(f, (1.5,)) for f in (np.arccosh, np.tan, np.sinh, np.cosh, np.exp2, np.log2, np.log10)]
    + [(np.arctan2, (1.5, -0.5)), (np.hypot, (1.5, -0.5))],
    ids=lambda f: getattr(f, "__name__", ""),
)
def test_ufuncs_are_differentiated(ufunc, arguments):
    xs = [gg.constant(a, gg.float64) for a in arguments]
    with gg.GradientTape() as tape:
        tape.watch(xs)
        y = ufunc(*xs)
    np.testing.assert_allclose(y, ufunc(*arguments), rtol=1e-15)
    step = 1e-6
    for i, g in enumerate(tape.gradient(y, xs)):
        up, down = (
            ufunc(*[a + s * (i == k) for k, a in enumerate(arguments)]) for s in (step, -step)
        )
        np.testing.assert_allclose(g, (up - down) / (2 * step), rtol=1e-7)


def test_arrays_take_tensors_in_place():
    total = np.zeros(2, np.float32)
    total += gg.constant([1.0, 2.0])
    np.add(total, gg.constant(1.0), out=total)
    assert type(total) is np.ndarray
    np.testing.assert_array_equal(total, [2, 3])
    with pytest.raises(TypeError, match=r"np\.add: out= would write to a tensor"):
        np.add(total, 1, out=gg.zeros(2))


def test_no_gradient_is_lost_in_silence():
    x = gg.constant([1.0, 2.0])
    with gg.GradientTape() as tape:
        tape.watch(x)
        with pytest.warns(UserWarning, match=r"np\.median .* no gradient flows through it"):
            np.median(x)
        assert np.allclose(x, x)  # no warning: not a float


def test_matrix_products_adopt_the_tensors_dtype():
    m, array = gg.ones((2, 2)), np.ones((2, 2))
    for z in (m @ array, array @ m, gg.matmul(m, [[1, 2], [3, 4]]), np.dot(array, m)):
        assert z.dtype == gg.float32
    assert (m @ gg.constant(array)).dtype == gg.float64


def test_from_dlpack_shares_memory_and_never_writes_to_it():
    array = np.ones(3, np.float32)
    v = gg.Variable(gg.zeros(3))
    v.assign(gg.from_dlpack(array))
    assert np.shares_memory(gg.from_dlpack(array).numpy(), array)
    gg.function(lambda: v.assign_add(gg.ones(3)))()
    v.assign_add(gg.ones(3))
    np.testing.assert_array_equal(array, 1)
    np.testing.assert_array_equal(v, 3)
