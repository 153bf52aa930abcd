"""gg.signal: Fourier transforms as users call them. Expected figures are TensorFlow 2.21's."""

import numpy as np
import pytest

import graphgrad as gg

Z = np.array([1 + 2j, 3 - 1j, 0.5j], np.complex64)


def gradient(f, x):
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.gradient(y, x)


@pytest.mark.parametrize("run", [lambda f: f, gg.function], ids=["eager", "compiled"])
def test_values(run):
    z, x = gg.constant(Z), gg.constant([1.0, 2.0, 3.0, 4.0, 5.0])
    np.testing.assert_allclose(run(gg.signal.fft)(z), np.fft.fft(Z), rtol=1e-6)
    np.testing.assert_allclose(run(gg.signal.ifft)(z), np.fft.ifft(Z), rtol=1e-6)
    np.testing.assert_allclose(
        run(gg.signal.rfft)(x), [15, -2.5 + 3.440955j, -2.5 + 0.8122992j], rtol=1e-5
    )
    np.testing.assert_allclose(run(gg.signal.irfft)(z), [1.75, 0.75, -1.25, -0.25], rtol=1e-6)
    np.testing.assert_allclose(
        run(lambda z: gg.signal.irfft(z, [5]))(z),
        [1.4, 0.833686, -0.34549505, -1.1961459, 0.30795488],
        rtol=1e-5,
    )


@pytest.mark.parametrize("length", [3, 5, 8])
def test_lengths(length):
    x = np.arange(1.0, 6.0)
    t = gg.signal.rfft(gg.constant(x), [length])
    np.testing.assert_allclose(t, np.fft.rfft(x, length), atol=1e-12)
    np.testing.assert_allclose(
        gg.signal.irfft(t, [length + 1]), np.fft.irfft(t.numpy(), length + 1), atol=1e-12
    )


def test_several_axes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, 5))
    t = gg.constant(x)
    np.testing.assert_allclose(gg.signal.fft2d(t), np.fft.fft2(x))
    np.testing.assert_allclose(gg.signal.fft3d(t), np.fft.fftn(x, axes=(1, 2, 3)))
    np.testing.assert_allclose(gg.signal.ifft2d(gg.signal.fft2d(t)), x, atol=1e-12)
    np.testing.assert_allclose(gg.signal.ifft3d(gg.signal.fft3d(t)), x, atol=1e-12)
    np.testing.assert_allclose(gg.signal.rfft2d(t), np.fft.rfft2(x), atol=1e-12)
    np.testing.assert_allclose(gg.signal.irfft2d(gg.signal.rfft2d(t), [4, 5]), x, atol=1e-12)


def test_gradients():
    x = gg.constant([1.0, 2.0, 3.0, 4.0, 5.0])
    np.testing.assert_allclose(gradient(gg.signal.rfft, x), [3, 0.5, 0.5, 0.5, 0.5], rtol=1e-5)
    z = gg.constant(Z)
    np.testing.assert_allclose(gradient(gg.signal.fft, z), [3, 0, 0], atol=1e-6)
    compiled = gg.function(lambda x: gradient(gg.signal.rfft, x))
    np.testing.assert_allclose(compiled(x), [3, 0.5, 0.5, 0.5, 0.5], rtol=1e-5)


def test_both_orders_by_differences():
    def power(x):
        return gg.reduce_sum(gg.abs(gg.signal.rfft(x * x, [6])) ** 2.0)

    gg.testing.check_grads(power, gg.constant([0.5, -1.0, 2.0, 0.25]))
    gg.testing.check_grads(lambda z: gg.signal.irfft(z * z, [4]), gg.constant(Z))
    gg.testing.check_grads(lambda z: gg.signal.ifft(gg.exp(gg.signal.fft(z))), gg.constant(Z) * 0.1)


def test_a_convolution_by_transforms_in_a_function():
    rng = np.random.default_rng(1)
    x, k = rng.normal(size=(4, 32)), rng.normal(size=5)

    @gg.function(input_signature=[gg.TensorSpec([None, 32], gg.float64)] * 1)
    def convolve(x):
        product = gg.signal.rfft(x, [36]) * gg.signal.rfft(k, [36])
        return gg.signal.irfft(product, [36])

    wanted = [np.convolve(row, k) for row in x]
    np.testing.assert_allclose(convolve(gg.constant(x)), wanted, atol=1e-12)


def test_open_sizes():
    f = gg.function(gg.signal.fft, input_signature=[gg.TensorSpec([None], gg.complex64)])
    np.testing.assert_allclose(f(Z), np.fft.fft(Z), rtol=1e-6)
    by = gg.function(
        lambda z: gradient(gg.signal.ifft, z), input_signature=[gg.TensorSpec([None], gg.complex64)]
    )
    np.testing.assert_allclose(by(Z), [1, 0, 0], atol=1e-6)
    with pytest.raises(ValueError, match="rfft: the sizes of the last 1 axes must be known"):
        gg.function(gg.signal.rfft, input_signature=[gg.TensorSpec([None], gg.float32)])(Z.real)


def test_numpys_functions_and_batches():
    z = gg.constant(Z)
    assert isinstance(np.fft.fft(z), gg.Tensor)
    np.testing.assert_allclose(np.fft.fft(z), np.fft.fft(Z), rtol=1e-6)
    np.testing.assert_allclose(np.fft.fft(z, 2), np.fft.fft(Z, 2), rtol=1e-6)
    rows = np.stack([Z, Z * 2])
    np.testing.assert_allclose(
        gg.vmap(gg.signal.fft)(gg.constant(rows)), np.fft.fft(rows), rtol=1e-6
    )


def test_errors():
    with pytest.raises(ValueError, match=r"rfft: fft_length is to have 1 sizes, got \[2, 3\]"):
        gg.signal.rfft([1.0], [2, 3])
    with pytest.raises(ValueError, match="fft: takes tensors of 2 axes at least"):
        gg.signal.fft2d([1.0])
    with pytest.raises(TypeError, match="Cannot take c64"):
        gg.signal.rfft(gg.constant(Z))
