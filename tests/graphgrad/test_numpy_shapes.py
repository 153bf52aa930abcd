"""NumPy's functions on shapes and indices give what NumPy gives, eagerly and traced, and their
gradients flow."""

import numpy as np
import pytest

import graphgrad as gg

X = np.arange(12.0, dtype=np.float32).reshape(2, 3, 2) - 4
V = np.float32([3, 1, 2])
CALLS = {
    "swapaxes": (lambda x: np.swapaxes(x, 0, -1), X),
    "moveaxis": (lambda x: np.moveaxis(x, 0, -1), X),
    "moveaxes": (lambda x: np.moveaxis(x, (0, 2), (1, 0)), X),
    "ravel": (lambda x: np.ravel(x), X),
    "roll": (lambda x: np.roll(x, 5), X),
    "roll axes": (lambda x: np.roll(x, (1, -1), (0, 1)), X),
    "roll one shift": (lambda x: np.roll(x, 1, (0, 1)), X),
    "repeat": (lambda x: np.repeat(x, 2), X),
    "repeat each": (lambda x: np.repeat(x, [1, 0, 2], axis=1), X),
    "tile": (lambda x: np.tile(x, 2), V),
    "tile more": (lambda x: np.tile(x, (2, 1, 2)), V),
    "tile fewer": (lambda x: np.tile(x, 2), X),
    "pad": (lambda x: np.pad(x, 1), V),
    "pad pairs": (lambda x: np.pad(x, ((0, 1), (2, 0), (0, 0)), constant_values=7), X),
    "pad reflect": (lambda x: np.pad(x, (1, 2), "reflect"), V),
    "diag": (lambda x: np.diag(x), V),
    "diag below": (lambda x: np.diag(x, -1), V),
    "diag of a matrix": (lambda x: np.diag(x, 1), X[0]),
    "diagonal": (lambda x: np.diagonal(x, -1, 1, 2), X),
    "diagonal first": (lambda x: np.diagonal(x), X),
    "tril": (lambda x: np.tril(x), X),
    "triu": (lambda x: np.triu(x, 1), X),
    "take": (lambda x: np.take(x, [[-1, 0]], axis=1), X),
    "take flat": (lambda x: np.take(x, [-1, 5]), X),
    "take along": (lambda x: np.take_along_axis(x, np.array([[[2, -1]]]), 1), X),
    "take along flat": (lambda x: np.take_along_axis(x, np.array([2, -1]), None), X),
    "split at": (lambda x: np.split(x, [1, 2], axis=1), X),
    "atleast_1d": (lambda x: np.atleast_1d(x), np.float32(3)),
    "atleast_2d": (lambda x: np.atleast_2d(x), V),
    "hstack": (lambda x: np.hstack([x, x]), V),
    "hstack of matrices": (lambda x: np.hstack([x, x]), X),
    "vstack": (lambda x: np.vstack([x, x]), V),
    "column_stack": (lambda x: np.column_stack([x, x]), V),
    "append": (lambda x: np.append(x, x), X),
    "append rows": (lambda x: np.append(x, x, axis=1), X),
    "argwhere": (lambda x: np.argwhere(x > 0), X),
    "nonzero": (lambda x: np.nonzero(x > 0), X),
    "flatnonzero": (lambda x: np.flatnonzero(x > 0), X),
    "compress": (lambda x: np.compress([True, False, True], x, axis=1), X),
    "searchsorted": (lambda x: np.searchsorted([1.0, 2.0, 3.0], x, "right"), X),
    "meshgrid": (lambda x: np.meshgrid(x, x[:2]), V),
    "broadcast_arrays": (lambda x: np.broadcast_arrays(x, x[:1]), X),
    "expand_dims": (lambda x: np.expand_dims(x, (0, -1)), X),
    "rot90": (lambda x: [np.rot90(x, k) for k in range(-1, 4)], X),
    "fliplr": (lambda x: np.fliplr(x), X),
    "flipud": (lambda x: np.flipud(x), X),
    "full_like": (lambda x: np.full_like(x, 3), X),
}


def leaves(result):
    return list(result) if isinstance(result, list | tuple) else [result]


@pytest.mark.parametrize("name", CALLS)
def test_values_are_numpys(name):
    call, x = CALLS[name]
    expected = leaves(call(x))
    for found in (call(gg.constant(x)), gg.function(lambda v: call(v))(gg.constant(x))):
        assert len(leaves(found)) == len(expected)
        for got, wanted in zip(leaves(found), expected, strict=True):
            assert isinstance(got, gg.Tensor)
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype.name == wanted.dtype.name


def test_a_gradient_flows():
    x = gg.constant(X)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = np.take_along_axis(np.swapaxes(x, 0, 1), np.array([[[2], [-1]]]) % 2, 2)
        loss = gg.reduce_sum(np.triu(np.hstack([y[..., 0], y[..., 0]])) ** 2)
    g = tape.gradient(loss, x).numpy()
    assert np.count_nonzero(g)
    rows = np.hstack([X[:, :, 0].T * [1, 0] + X[:, :, 1].T * [0, 1]] * 2)
    assert float(loss) == np.sum(np.triu(rows) ** 2)


CREATED = {
    "zeros like": lambda x: np.zeros((2, 2), like=x),
    "zeros of ints": lambda x: np.zeros(3, dtype=np.int64, like=x),
    "ones like": lambda x: np.ones(3, like=x),
    "full like": lambda x: np.full((2,), 1.5, like=x),
    "full of a tensor": lambda x: np.full((2,), x[0, 1], like=x),
    "zeros_like of a shape": lambda x: np.zeros_like(x, shape=(3, 2)),
    "zeros_like of a dtype": lambda x: np.zeros_like(x, dtype=int),
    "full_like of a shape": lambda x: np.full_like(x, -1e5, shape=4),
    "ones_like of a bool": lambda x: np.ones_like(x, dtype=bool, shape=2),
}


@pytest.mark.parametrize("name", CREATED)
def test_arrays_made_for_a_tensor_are_tensors(name):
    f, x = CREATED[name], np.array([[1.0, 2.0]])
    for found in (f(gg.constant(x)), gg.function(f)(gg.constant(x))):
        assert isinstance(found, gg.Tensor)
        np.testing.assert_array_equal(found, f(x), strict=True)


def test_arrays_of_open_sizes():
    f = gg.function(
        lambda x: np.zeros_like(x, shape=(2, x.shape[0])), input_signature=[gg.TensorSpec([None])]
    )
    assert f(gg.ones(3)).shape == (2, 3)
