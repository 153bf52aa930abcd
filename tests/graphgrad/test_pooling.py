"""gg.nn's pooling: TensorFlow's values, arguments and errors; ties; every mode."""

import numpy as np
import pytest

import graphgrad as gg

X = np.arange(2 * 5 * 6 * 3, dtype=np.float32).reshape(2, 5, 6, 3)
TIED = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 2]], np.float32).reshape(1, 3, 3, 1)


def gradient(f, x):
    x = gg.constant(x)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.gradient(y, x).numpy()


# What TensorFlow 2.21 gives: the shape and the first numbers.
TENSORFLOW = [
    (lambda: gg.nn.max_pool(X, 2, 2, "SAME"), (2, 3, 3, 3), [21, 22, 23, 27, 28, 29, 33, 34]),
    (lambda: gg.nn.max_pool(X, 2, 2, [[0, 0], [1, 1], [1, 1], [0, 0]]), (2, 3, 4, 3),
     [0, 1, 2, 6, 7, 8, 12, 13]),
    (lambda: gg.nn.max_pool(X, 7, 1, "SAME"), (2, 5, 6, 3), [63, 64, 65, 66, 67, 68, 69, 70]),
    (lambda: gg.nn.max_pool(X, 2, 3, "SAME"), (2, 2, 2, 3), [21, 22, 23, 30, 31, 32, 75, 76]),
    (lambda: gg.nn.max_pool(X.transpose(0, 3, 1, 2), 2, 2, "SAME", data_format="NCHW"),
     (2, 3, 3, 3), [21, 27, 33, 57, 63, 69, 75, 81]),
    (lambda: gg.nn.max_pool1d(X[0], 2, 2, "SAME"), (5, 3, 3), [3, 4, 5, 9, 10, 11, 15, 16]),
    (lambda: gg.nn.max_pool1d(X[0], 2, 2, [[0, 0], [1, 1], [0, 0]]), (5, 4, 3),
     [0, 1, 2, 6, 7, 8, 12, 13]),
    (lambda: gg.nn.max_pool3d(X[None], 2, 2, "SAME"), (1, 1, 3, 3, 3),
     [111, 112, 113, 117, 118, 119, 123, 124]),
    (lambda: gg.nn.avg_pool(X, 7, 1, "SAME"), (2, 5, 6, 3),
     [31.5, 32.5, 33.5, 33, 34, 35, 34.5, 35.5]),
    (lambda: gg.nn.pool(X, [2, 2], "AVG", strides=[2, 2]), (2, 2, 3, 3),
     [10.5, 11.5, 12.5, 16.5, 17.5, 18.5, 22.5, 23.5]),
    (lambda: gg.nn.max_pool_with_argmax(X, 2, 2, "SAME")[1][1], (3, 3, 3),
     [21, 22, 23, 27, 28, 29, 33, 34]),
    (lambda: gg.nn.max_pool_with_argmax(X, 2, 2, "SAME", include_batch_in_index=True)[1][1],
     (3, 3, 3), [111, 112, 113, 117, 118, 119, 123, 124]),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(TENSORFLOW)))
@pytest.mark.parametrize("wrap", [lambda f: f, gg.function], ids=["eager", "function"])
def test_values_of_tensorflow(number, wrap):
    call, shape, first = TENSORFLOW[number]
    found = wrap(call)().numpy()
    assert found.shape == shape
    np.testing.assert_array_equal(found.ravel()[: len(first)], first)


@pytest.mark.parametrize(
    ("function", "ksize", "strides"),
    [
        (gg.nn.max_pool2d, [2, 3], [2]),
        (gg.nn.max_pool2d, [1, 2, 3, 1], [1, 2, 2, 1]),
        (gg.nn.max_pool, (2, 3), gg.constant([2, 2])),
    ],
)
def test_arguments_as_numbers_lists_and_tensors(function, ksize, strides):
    found = function(X, ksize, strides, "valid").numpy()
    np.testing.assert_array_equal(found, gg.nn.max_pool2d(X, [2, 3], 2, "VALID").numpy())


def test_dilated_windows_with_strides_and_padding():
    """TensorFlow refuses them together."""
    found = gg.nn.pool(X, 2, "MAX", strides=2, padding="SAME", dilations=2).numpy()
    padded = np.full((2, 8, 9, 3), -np.inf, np.float32)
    padded[:, 1:6, 0:6] = X  # 5 + 2 and 6 + 1 places, the larger half behind
    wanted = np.maximum.reduce(
        [padded[:, i : i + 5 : 2, j : j + 5 : 2] for i in (0, 2) for j in (0, 2)]
    )
    np.testing.assert_array_equal(found, wanted)


ERRORS = [
    (lambda: gg.nn.max_pool(X, 7, 1, "VALID"), "covers 7 elements"),
    (lambda: gg.nn.max_pool(X, 2, 2, [[0, 0], [3, 3], [1, 1], [0, 0]]),
     "padding [3, 3] of spatial axis 0 should be less than the 2 that a window covers"),
    (lambda: gg.nn.max_pool(X, 2, 2, "SAMEE"), "did you mean 'SAME'?"),
    (lambda: gg.nn.max_pool(X, [2, 1, 1, 1], 2, "SAME"), "1 along images and channels"),
    (lambda: gg.nn.max_pool(X, 0, 2, "SAME"), "ksize should be 1 at least, got 0"),
    (lambda: gg.nn.max_pool(X, 2, None, "SAME"), "needs ksize and strides, got 2 and None"),
    (lambda: gg.nn.max_pool2d(X[0], 2, 2, "SAME"), "max_pool2d: takes 4 axes"),
    (lambda: gg.nn.max_pool2d(X[0], 2, 2, "SAME"), "one image becomes a batch by x[gg.newaxis]"),
    (lambda: gg.nn.max_pool(X, 2, 2, "SAME", data_format="HWC"), "not 'HWC'"),
    (lambda: gg.nn.max_pool(X > 0, 2, 2, "SAME"), "takes numbers, got bool"),
    (lambda: gg.nn.max_pool(X * 1j, 2, 2, "SAME"), "takes no complex numbers"),
    (lambda: gg.nn.pool(X, 2, "SUM"), 'pooling_type is "MAX" or "AVG", not \'SUM\''),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors(number):
    call, fragment = ERRORS[number]
    with pytest.raises(gg.errors.GraphgradError) as e:
        call()
    assert fragment in str(e.value)


@pytest.mark.parametrize("wrap", [lambda f: f, gg.function], ids=["eager", "function"])
def test_elements_that_share_a_maximum_share_its_derivative(wrap):
    found = gradient(wrap(lambda x: gg.nn.max_pool(x, 2, 1, "VALID")), TIED)
    wanted = [[1 / 3, 1 / 3 + 1, 0], [1 / 3 + 1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(found[0, :, :, 0], wanted, rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, gg.function], ids=["eager", "function"])
def test_nan_is_the_maximum_and_has_no_derivative(wrap):
    x = np.array([1.0, np.nan, 3.0, 4.0, -np.inf, -np.inf], np.float32).reshape(1, 6, 1)
    pool = wrap(lambda x: gg.nn.max_pool(x, 2, 2, "VALID"))
    np.testing.assert_array_equal(pool(x).numpy().ravel(), [np.nan, 4, -np.inf])
    np.testing.assert_array_equal(gradient(pool, x).ravel(), [0, 0, 0, 1, 0.5, 0.5])


def test_places_of_ties_nan_and_padding():
    x = np.array([[5, 5, np.nan], [-np.inf] * 3], np.float32).reshape(2, 1, 3, 1)
    z, places = gg.nn.max_pool_with_argmax(x, [1, 2], [1, 1], [[0, 0], [0, 0], [1, 0], [0, 0]])
    np.testing.assert_array_equal(z.numpy().reshape(2, 3), [[5, 5, np.nan], [-np.inf] * 3])
    np.testing.assert_array_equal(places.numpy().reshape(2, 3), [[0, 0, 2], [0, 0, 1]])
    assert gradient(lambda x: gg.nn.max_pool_with_argmax(x, 1, 1, "SAME")[0], x)[0, 0, 0, 0] == 1


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@pytest.mark.parametrize("wrap", [lambda f: f, gg.function], ids=["eager", "function"])
def test_sixteen_bits_are_averaged_in_float32(wrap, name):
    x = gg.cast(np.random.default_rng(0).uniform(1, 2, (1, 16, 16, 3)), name)
    found = wrap(lambda x: gg.nn.avg_pool(x, 16, 1, "VALID"))(x)
    assert found.dtype == name
    wide = gg.reduce_mean(gg.cast(x, gg.float64), [1, 2], keepdims=True)
    np.testing.assert_array_equal(found.numpy(), gg.cast(wide, name).numpy())
    assert wrap(lambda x: gg.nn.max_pool(x, 3, 2, "SAME"))(x).dtype == name


def test_integers():
    assert gg.nn.max_pool(X.astype(np.int8), 2, 2, "SAME").dtype == gg.int8
    found = gg.nn.avg_pool(gg.reshape(gg.range(4), (1, 4, 1)), 2, 2, "VALID")
    np.testing.assert_array_equal(found.numpy().ravel(), [0.5, 2.5])  # float64, as reduce_mean


POOLS = [
    lambda x: gg.nn.max_pool(x, 3, 2, "SAME"),
    lambda x: gg.nn.avg_pool(x, 3, 2, "SAME"),
]


@pytest.mark.parametrize("pool", POOLS)
def test_examples_of_a_batch_are_a_loop(pool):
    x = np.random.default_rng(0).normal(size=(3, 2, 5, 5, 4)).astype(np.float32)
    derivative = gg.grad(lambda x: gg.reduce_sum(pool(x) ** 2))
    for f in (pool, derivative):
        for run in (gg.vmap(f), gg.function(gg.vmap(f))):
            looped = np.stack([f(gg.constant(v)).numpy() for v in x])
            np.testing.assert_allclose(run(x).numpy(), looped, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
def test_second_order_by_differences(pool):
    rng = np.random.default_rng(1)
    x, v = gg.constant(rng.normal(size=(1, 5, 4, 2))), gg.constant(rng.normal(size=(1, 5, 4, 2)))
    first = gg.grad(lambda x: gg.reduce_sum(gg.exp(pool(x))))
    _, found = gg.jvp(first, (x,), (v,))
    second = gg.function(gg.grad(lambda x: gg.reduce_sum(first(x) * v)))(x)
    step = 1e-6
    wanted = (first(x + step * v) - first(x - step * v)).numpy() / (2 * step)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(second.numpy(), wanted, rtol=1e-6, atol=1e-6)


def test_unknown_sizes():
    spec = gg.TensorSpec([None, None, None, 3], gg.float32)
    pool = gg.function(lambda x: gg.nn.max_pool(x, 3, 2, "SAME"), input_signature=[spec])
    for x in (X, X[:1, :4], X[:, :3, :5]):
        np.testing.assert_array_equal(pool(x).numpy(), gg.nn.max_pool(x, 3, 2, "SAME").numpy())
    batch = gg.TensorSpec([None, 5, 6, 3], gg.float32)
    pool = gg.function(lambda x: gg.nn.avg_pool(x, 3, 2, "SAME"), input_signature=[batch])
    for x in (X, X[:1], X[:0]):
        np.testing.assert_allclose(pool(x).numpy(), gg.nn.avg_pool(x, 3, 2, "SAME").numpy())
    assert len(pool.traces()) == 1


def test_pools_over_all_places_fuse_with_what_they_read():
    """reduce_mean and reduce_max over the spatial axes need no op of their own."""

    @gg.function
    def heads(x):
        x = gg.nn.relu(x * 2.0 - 1.0)
        return gg.reduce_mean(x, [1, 2]), gg.reduce_max(x, [1, 2])

    x = np.random.default_rng(0).normal(size=(4, 7, 7, 20)).astype(np.float32)
    y = np.maximum(x * 2 - 1, 0)
    mean, highest = heads(x)
    np.testing.assert_allclose(mean.numpy(), y.mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(highest.numpy(), y.max((1, 2)))
    assert "after the passes: 1 kernel\n" in str(heads.report())
