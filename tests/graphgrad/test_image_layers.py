"""What stands around convolutions: normalisation by channels, and dropout of whole ones."""

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.modes import in_every_mode
from tests.graphgrad.test_convolutions import X, numbers

SCALE, OFFSET = [1.0, 2.0], [0.5, -1.0]
NORMALISED = [-0.6977857, -3.5275321, -0.4429822, -2.8460615, 0.0229076, -1.8742076,
              0.6262125, -0.6821781, 1.3406429, 0.6949630, 2.1510050, 2.2350161]  # fmt: skip


@in_every_mode
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_fused_batch_norm_is_tensorflows(layout, mode):
    x = gg.constant(np.arange(12.0).reshape(2, 3, 1, 2) ** 1.5, gg.float32)
    perm, back = ((0, 3, 1, 2), (0, 2, 3, 1)) if layout == "NCHW" else ((0, 1, 2, 3),) * 2

    def normalised(x, **options):
        y, mean, variance = gg.compat.v1.nn.fused_batch_norm(
            gg.transpose(x, perm), SCALE, OFFSET, data_format=layout, **options
        )
        return gg.transpose(y, back), mean, variance

    def step(x):
        old = {"mean": [1.0, 2.0], "variance": [4.0, 9.0]}
        averaged = normalised(x, **old, exponential_avg_factor=0.3)
        with gg.GradientTape() as tape:
            tape.watch(x)
            found = normalised(x)
            total = gg.reduce_sum(gg.sin(found[0]))
        used = normalised(x, **old, is_training=False)
        return found, averaged, used, tape.gradient(total, x)

    (y, mean, variance), averaged, used, slope = mode(step)(x)
    np.testing.assert_allclose(y.numpy().ravel(), NORMALISED, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean, [13.295926, 16.563271], rtol=1e-6)
    np.testing.assert_allclose(variance, [147.86201, 181.98969], rtol=1e-6)
    np.testing.assert_array_equal(averaged[0], y)
    np.testing.assert_allclose(averaged[1], [4.6887779, 6.3689814], rtol=1e-6)
    np.testing.assert_allclose(averaged[2], [47.158604, 60.896904], rtol=1e-6)
    np.testing.assert_allclose(used[0][0, :, 0, 1], [-1.6666296, 1.1306500, 5.1198864], rtol=1e-5)
    np.testing.assert_array_equal(used[2], [4, 9])
    np.testing.assert_allclose(
        slope.numpy().ravel()[:4], [-0.0298050, -0.0494150, -0.0065110, -0.0724114], rtol=1e-4
    )


def test_fused_batch_norm_of_short_floats_keeps_statistics_in_single():
    x = gg.cast(numbers(2, 3, 1, 2), "bfloat16")
    y, mean, variance = gg.compat.v1.nn.fused_batch_norm(x, SCALE, OFFSET)
    assert (y.dtype, mean.dtype, variance.dtype) == (gg.bfloat16, gg.float32, gg.float32)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"is_training": False}, "needs mean and variance where is_training is False"),
        ({"data_format": "NWC"}, "data_format is 'NHWC' or 'NCHW', not 'NWC'"),
        ({"data_format": "NCDHW"}, "NCDHW has 5 axes, got f32[2, 6, 6, 4]"),
        ({}, "scale is a vector with the size of axis 3 of x f32[2, 6, 6, 4], got f32[2]"),
    ],
)
def test_fused_batch_norm_error(options, text):
    with pytest.raises(gg.errors.InvalidArgumentError) as found:
        gg.compat.v1.nn.fused_batch_norm(X, SCALE, [0.0] * 4, **options)
    assert text in str(found.value)


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 3)])
def test_batch_normalization_by_channels(axes):
    x = gg.constant(numbers(2, 3, 4, 3, step=3), gg.float64)
    mean, variance = gg.nn.moments(x, axes, keepdims=True)
    found = gg.nn.batch_normalization(x, mean, variance, None, None, 1e-3)
    centred = x - np.mean(x, axes, keepdims=True)
    wanted = centred / np.sqrt(np.var(x, axes, keepdims=True) + 1e-3)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@in_every_mode
@pytest.mark.parametrize("noise_shape", [(2, 1, 1, 8), (None, 1, 1, None), (2, 8, 1, 1)])
def test_dropout_of_whole_channels(noise_shape, mode):
    """One draw for each image and channel, in either layout."""
    shape = (2, 8, 3, 4) if noise_shape[1] == 8 else (2, 3, 4, 8)
    found = mode(lambda x: gg.nn.dropout(x, 0.5, noise_shape=noise_shape))(gg.ones(shape)).numpy()
    axes = (2, 3) if noise_shape[1] == 8 else (1, 2)
    np.testing.assert_array_equal(found.min(axes), found.max(axes))
    assert set(np.unique(found)) == {0, 2}
