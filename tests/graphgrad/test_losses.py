"""Losses and normalisations: values and gradients as TensorFlow 2.21 gives them, in every mode."""

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.errors import ArgumentError, IndexOutOfRange, ShapeError

LABELS = [[0.0, 1.0, 0.0], [0.2, 0.3, 0.5]]
P = [[0.1, 0.8, 0.2], [0.3, 0.3, 0.3]]
BINARY = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
LOGITS = [[-2.0, 0.5, 3.0], [0.0, -0.7, 30.0]]
# the loss, labels, predictions, TensorFlow's losses, and its gradient of their sum, in float64
LOSSES = {
    "mse": (
        gg.losses.mse,
        LABELS, P,
        [0.03, 0.0166666667],
        [[0.0666666667, -0.133333333, 0.133333333], [0.0666666667, 0.0, -0.133333333]],
    ),
    "mae": (
        gg.losses.mae,
        LABELS, P,
        [0.166666667, 0.1],
        [[0.333333333, -0.333333333, 0.333333333], [0.333333333, 0.0, -0.333333333]],
    ),
    "mape": (
        gg.losses.mape,
        LABELS, P,
        [100000007.0, 30.0],
        [[333333333.0, -33.3333333, 333333333.0], [166.666667, 0.0, -66.6666667]],
    ),
    "msle": (
        gg.losses.msle,
        LABELS, P,
        [0.0178086544, 0.00896156217],
        [[0.0577636847, -0.0390224132, 0.101289698], [0.0410475424, 0.0, -0.073385048]],
    ),
    "huber": (
        gg.losses.huber,
        LABELS, P,
        [0.015, 0.00833333333],
        [[0.0333333333, -0.0666666667, 0.0666666667], [0.0333333333, 0.0, -0.0666666667]],
    ),
    "hinge": (
        gg.losses.hinge,
        LABELS, P,
        [0.733333333, 0.9],
        [[0.0, -0.333333333, 0.0], [-0.0666666667, -0.1, -0.166666667]],
    ),
    "squared_hinge": (
        gg.losses.squared_hinge,
        LABELS, P,
        [0.68, 0.8114],
        [[0.0, -0.133333333, 0.0], [-0.125333333, -0.182, -0.283333333]],
    ),
    "categorical_hinge": (
        gg.losses.categorical_hinge,
        LABELS, P,
        [0.4, 0.94],
        [[0.0, -1.0, 1.0], [0.6, -0.3, -0.5]],
    ),
    "kl_divergence": (
        gg.losses.kl_divergence,
        LABELS, P,
        [0.223140719, 0.17431979],
        [[-1e-06, -1.25, -5e-07], [-0.666666667, -1.0, -1.66666667]],
    ),
    "poisson": (
        gg.losses.poisson,
        LABELS, P,
        [0.441047809, 0.701324157],
        [[0.333333333, -0.0833332813, 0.333333333], [0.111111185, 1.11111074e-07, -0.222222037]],
    ),
    "log_cosh": (
        gg.losses.log_cosh,
        LABELS, P,
        [0.0149092775, 0.00828658689],
        [[0.0332226649, -0.0657917734, 0.0657917734], [0.0332226649, 0.0, -0.0657917734]],
    ),
    "cosine_similarity": (
        gg.losses.cosine_similarity,
        LABELS, P,
        [-0.963086825, -0.936585812],
        [[0.139577801, -0.0872361254, 0.279155601], [0.416260361, 0.10406509, -0.520325451]],
    ),
    "binary_crossentropy": (
        gg.losses.binary_crossentropy,
        LABELS, P,
        [0.183882539, 0.639107564],
        [[0.37037037, -0.416666667, 0.416666667], [0.158730159, 0.0, -0.317460317]],
    ),
    "categorical_crossentropy": (
        gg.losses.categorical_crossentropy,
        LABELS, P,
        [0.318453731, 1.09861229],
        [[0.909090909, -0.340909091, 0.909090909], [0.444444444, 0.111111111, -0.555555556]],
    ),
    "binary_focal_crossentropy": (
        gg.losses.binary_focal_crossentropy,
        LABELS, P,
        [0.00630169642, 0.126270419],
        [[0.0107277381, -0.0464191402, 0.0464191402], [0.102893081, 0.0684168018, -0.0793650794]],
    ),
    "categorical_focal_crossentropy": (
        gg.losses.categorical_focal_crossentropy,
        LABELS, P,
        [0.00592166029, 0.122068032],
        [[0.0456156632, -0.0171058737, 0.0456156632], [0.103635175, 0.0259087937, -0.129543968]],
    ),
    "dice": (
        gg.losses.dice,
        LABELS, P,
        0.450000014,
        [[0.137499993, -0.362499994, 0.137499993], [0.0374999956, -0.0125000031, -0.112500001]],
    ),
    "tversky": (
        gg.losses.tversky,
        LABELS, P,
        0.450000027,
        [[0.137499986, -0.362499989, 0.137499986], [0.0374999913, -0.0125000062, -0.112500001]],
    ),
    "hinge binary": (
        gg.losses.hinge,
        BINARY, LOGITS,
        [0.166666667, 10.7666667],
        [[0.0, -0.333333333, 0.0], [-0.333333333, 0.333333333, 0.333333333]],
    ),
    "squared_hinge binary": (
        gg.losses.squared_hinge,
        BINARY, LOGITS,
        [0.0833333333, 320.696667],
        [[0.0, -0.333333333, 0.0], [-0.666666667, 0.2, 20.6666667]],
    ),
    "binary_crossentropy logits": (
        lambda y, p: gg.losses.binary_crossentropy(
            y, p, from_logits=True, label_smoothing=0.1
        ),
        LABELS, LOGITS,
        [1.20819745, 5.44011108],
        [[0.0230676407, -0.109180223, 0.300858042], [0.09, 0.00393740928, 0.166666667]],
    ),
    "categorical_crossentropy logits": (
        lambda y, p: gg.losses.categorical_crossentropy(
            y, p, from_logits=True, label_smoothing=0.1
        ),
        LABELS, LOGITS,
        [2.58509725, 15.7123333],
        [[-0.0271450481, -0.857944585, 0.885089633], [-0.213333333, -0.303333333, 0.516666667]],
    ),
    "binary_focal_crossentropy logits": (
        lambda y, p: gg.losses.binary_focal_crossentropy(
            y, p, from_logits=True, label_smoothing=0.1
        ),
        LABELS, LOGITS,
        [0.822541946, 1.34813599],
        [[0.00281909147, -0.0440178036, 0.318960501], [0.0536916231, 0.0154263424, 0.0416666667]],
    ),
    "categorical_focal_crossentropy logits": (
        lambda y, p: gg.losses.categorical_focal_crossentropy(
            y, p, from_logits=True, label_smoothing=0.1
        ),
        LABELS, LOGITS,
        [0.557527866, 2.08192027],
        [[-0.00694177097, -0.261519142, 0.268460913], [0.0, 0.0, 0.0]],
    ),
    "huber 2": (
        lambda y, p: gg.losses.huber(y, p, delta=0.3),
        LABELS, LOGITS,
        [0.505, 3.02666667],
        [[-0.1, -0.1, 0.1], [-0.0666666667, -0.1, 0.1]],
    ),
    "focal balanced": (
        lambda y, p: gg.losses.binary_focal_crossentropy(
            y, p, apply_class_balancing=True, alpha=0.3, gamma=1.5
        ),
        LABELS, P,
        [0.00743027347, 0.103597715],
        [[0.0198597698, -0.0261492644, 0.0610149502],
         [0.0833785356, 0.0459226965, -0.0561195858]],
    ),
    "tversky axis": (
        lambda y, p: gg.losses.tversky(y, p, alpha=0.3, beta=0.7, axis=-1),
        LABELS, P,
        [0.252336518, 0.67741939],
        [[0.489125596, -0.445453756, 0.489125596], [0.0277488436, -0.0797780265, -0.294831767]],
    ),
    "sparse": (
        gg.losses.sparse_categorical_crossentropy,
        [1, 2], P,
        [0.318453731, 1.09861229],
        [[0.909090909, -0.340909091, 0.909090909], [1.11111111, 1.11111111, -2.22222222]],
    ),
    "sparse logits": (
        lambda y, p: gg.losses.sparse_categorical_crossentropy(y, p, from_logits=True),
        [1, 2], LOGITS,
        [2.58509725, 1.40110146e-13],
        [[0.00618828527, -0.924611252, 0.918422967],
         [9.35762297e-14, 4.64685804e-14, -1.40110146e-13]],
    ),
    "sparse ignore": (
        lambda y, p: gg.losses.sparse_categorical_crossentropy(
            y, p, from_logits=True, ignore_class=-1
        ),
        [1, -1], LOGITS,
        [2.58509725, 0.0],
        [[0.00618828527, -0.924611252, 0.918422967], [0.0, 0.0, 0.0]],
    ),
    "column": (
        gg.losses.mse,
        [[1.0], [2.0]], [3.0, 5.0],
        [4.0, 9.0],
        [4.0, 6.0],
    ),
}  # fmt: skip


def gradient(loss, y, p):
    with gg.GradientTape() as tape:
        tape.watch(p)
        z = loss(y, p)
    return z, tape.gradient(z, p)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_tensorflows(name):
    loss, y, p, value, slope = LOSSES[name]
    y = gg.constant(y) if isinstance(y[0], int) else gg.constant(y, "float64")
    p = gg.constant(p, "float64")
    modes = (
        gradient,
        gg.function(gradient),
        gg.function(gradient, jit_compile=False),
        lambda loss, y, p: gradient(gg.function(loss), y, p),
    )
    for mode in modes:
        found, slopes = mode(loss, y, p)
        np.testing.assert_allclose(found, value, rtol=2e-8, atol=1e-9)
        np.testing.assert_allclose(slopes, slope, rtol=2e-8, atol=1e-8)
    pushed = gg.jvp(lambda p: loss(y, p), (p,), (gg.ones_like(p),))[1]
    np.testing.assert_allclose(gg.reduce_sum(pushed), np.sum(slope), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_in_half_precision_is_that_of_single(name):
    loss, y, p, _, _ = LOSSES[name]
    half = gg.constant(p, "bfloat16")
    y = gg.constant(y)
    found = loss(y, half)
    assert found.dtype == "bfloat16"
    np.testing.assert_allclose(
        np.asarray(found, np.float32), loss(y, gg.cast(half, "float32")), rtol=1e-2
    )


def test_aliases_are_the_functions():
    losses = gg.losses
    assert losses.mse is losses.MSE is losses.mean_squared_error
    assert losses.KLD is losses.kld is losses.kullback_leibler_divergence is losses.kl_divergence
    assert losses.logcosh is losses.log_cosh


def test_the_class_axis_may_be_another():
    y, p = gg.constant([[1, 0]]), gg.constant([[[0.2, 0.7], [0.8, 0.3]]])
    found = gg.losses.sparse_categorical_crossentropy(y, p, axis=1)
    np.testing.assert_allclose(found, [[-np.log(0.8), -np.log(0.7)]], rtol=1e-5)


def test_probabilities_0_and_1_do_not_give_nan():
    y, p = gg.constant([[0.0, 1.0], [1.0, 0.0]]), gg.constant([[0.0, 1.0], [0.0, 1.0]])
    for name in ("binary_crossentropy", "categorical_crossentropy", "kl_divergence", "poisson"):
        value, slope = gradient(getattr(gg.losses, name), y, p)
        assert np.isfinite(value.numpy()).all(), name
        assert np.isfinite(slope.numpy()).all(), name


BAD = [
    (lambda: gg.losses.mse([[1.0, 2.0]], [1.0, 2.0, 3.0]), ShapeError,
     "mean_squared_error: y_true f32[1, 2] does not broadcast with y_pred f32[3]"),
    (lambda: gg.losses.categorical_crossentropy([1.0], [[1.0, 2.0]]), ShapeError,
     "y_true f32[1] should have the shape of y_pred f32[1, 2]"),
    (lambda: gg.losses.sparse_categorical_crossentropy([[1, 0]], [[0.5, 0.5]]), ArgumentError,
     "integer labels have one axis less"),
    (lambda: gg.losses.sparse_categorical_crossentropy([2], [[0.5, 0.5]]), IndexOutOfRange,
     "label 2 is out of range for 2 classes"),
    (lambda: gg.nn.sigmoid_cross_entropy_with_logits([1.0], [1.0, 2.0]), ShapeError,
     "labels f32[1] should have the shape of logits f32[2]"),
    (lambda: gg.nn.dropout([1.0], 1.0), ArgumentError, "rate is at least 0 and below 1, got 1.0"),
    (lambda: gg.nn.dropout([1.0], 0.5, noise_shape=[1, 1]), ShapeError,
     "noise_shape [1, 1] should have as many axes as x f32[1]"),
    (lambda: gg.nn.bias_add([[1.0, 2.0]], [1.0, 2.0, 3.0]), ShapeError,
     "a vector with the size of axis 1 of the value f32[1, 2], got f32[3]"),
    (lambda: gg.nn.layer_norm([[1.0, 2.0]], scale=[[1.0, 2.0]]), ShapeError,
     "layer_norm: scale f32[1, 2] should be [2], as x f32[1, 2]"),
    (lambda: gg.add_n([[1.0], [1.0, 2.0]]), ShapeError, "the tensors differ in shape, f32[1] and"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), BAD, ids=[b[2][:40] for b in BAD])
def test_error(call, error, text):
    with pytest.raises(error) as found:
        call()
    assert text in str(found.value)
    assert "test_losses.py" in str(found.value)


# -- normalisations

X = np.array([[1.0, 3.0, -2.0], [2.0, 8.0, 0.5]])
COUNTS = np.array([[0.0, 1.0, 2.0], [5.0, 0.5, 3.0]])
LARGE = np.maximum(COUNTS, 1)
STIRLING = (COUNTS > 1) * (LARGE * np.log(LARGE) - LARGE + 0.5 * np.log(2 * np.pi * LARGE))
NN = {  # a function of x, and what TensorFlow gives
    "moments": (
        lambda x: gg.nn.moments(x, [0]), [[1.5, 5.5, -0.75], [0.25, 6.25, 1.5625]]
    ),
    "moments, all": (
        lambda x: gg.nn.moments(x, [0, 1], keepdims=True),
        [[[2.0833333333333335]], [[9.368055555555555]]],
    ),
    "weighted_moments": (
        lambda x: gg.nn.weighted_moments(x, [1], [1.0, 0.0, 3.0]),
        [[-1.25, 0.875], [1.6875, 0.421875]],
    ),
    "batch_normalization": (
        lambda x: gg.nn.batch_normalization(
            x, [1.0, 2.0, 3.0], [0.5, 1.0, 2.0], [0.0, 1.0, 2.0], [1.0, 2.0, 0.5], 1e-3
        ),
        (X - [1, 2, 3]) / np.sqrt([0.501, 1.001, 2.001]) * [1, 2, 0.5] + [0, 1, 2],
    ),
    "l2_normalize": (
        lambda x: gg.nn.l2_normalize(x, 1), X / np.sqrt((X * X).sum(1, keepdims=True))
    ),
    "weighted_cross_entropy": (
        lambda x: gg.nn.weighted_cross_entropy_with_logits(gg.abs(x) / 10, x, 1.7),
        1.7 * np.abs(X) / 10 * np.log1p(np.exp(-X)) + (1 - np.abs(X) / 10) * np.log1p(np.exp(X)),
    ),
    "layer_norm": (
        lambda x: gg.nn.layer_norm(x, [1.0, 2.0, 3.0], 0.5),
        (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-3) * [1, 2, 3] + 0.5,
    ),
    "layer_norm, both axes": (
        lambda x: gg.nn.layer_norm(x, axis=[0, 1], epsilon=0.5),
        (X - X.mean()) / np.sqrt(X.var() + 0.5),
    ),
    "layer_norm, first axis": (
        lambda x: gg.nn.layer_norm(x, [1.0, 2.0], axis=0),
        (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3) * [[1.0], [2.0]],
    ),
    "bias_add": (lambda x: gg.nn.bias_add(x, [1.0, 2.0, 3.0]), X + [1, 2, 3]),
    "crelu": (
        lambda x: gg.nn.crelu(x), np.concatenate([np.maximum(X, 0), np.maximum(-X, 0)], 1)
    ),
    "silu of a tensor": (
        lambda x: gg.nn.silu(x, gg.constant(0.5, "float64")), X / (1 + np.exp(-0.5 * X))
    ),
    "leaky_relu of a tensor": (
        lambda x: gg.nn.leaky_relu(x, gg.constant(0.5, "float64")), np.where(X > 0, X, X / 2)
    ),
    "log_poisson_loss": (
        lambda x: gg.nn.log_poisson_loss(COUNTS, x / 10), np.exp(X / 10) - X / 10 * COUNTS
    ),
    "log_poisson_loss, full": (
        lambda x: gg.nn.log_poisson_loss(COUNTS, x / 10, compute_full_loss=True),
        np.exp(X / 10) - X / 10 * COUNTS + STIRLING,
    ),
    "polyval": (lambda x: gg.math.polyval([1.0, -2.0, 3.0], x), X * X - 2 * X + 3),
    "add_n": (lambda x: gg.add_n([x, x * x, x]), 2 * X + X * X),
}  # fmt: skip


@pytest.mark.parametrize("name", NN)
def test_nn_function(name):
    f, wanted = NN[name]
    x = gg.constant(X)
    for g in (f, gg.function(f), gg.function(f, jit_compile=False)):
        for found, w in zip(gg.nest.flatten(g(x)), wanted if "moments" in name else [wanted]):
            np.testing.assert_allclose(found, w, rtol=1e-12)

    def total(x):
        return gg.add_n([gg.reduce_sum(gg.sin(v)) for v in gg.nest.flatten(f(x))])

    gg.testing.check_grads(total, x, order=2)
    batched = gg.vmap(total)(gg.stack([x, 2 * x]))
    np.testing.assert_allclose(batched, [total(x), total(2 * x)], rtol=1e-12)


def test_bias_by_channels():
    x = np.arange(12.0).reshape(1, 3, 4)
    found = gg.nn.bias_add(x, [1.0, 2.0, 3.0], data_format="NCW")
    np.testing.assert_array_equal(found, x + np.array([1, 2, 3])[:, None])


def test_half_precision_is_carried_in_single():
    x = gg.cast(gg.fill((1, 4096), 100.0), "float16")  # whose sum overflows float16
    mean, variance = gg.nn.moments(x, [1])
    assert mean.dtype == "float16"
    np.testing.assert_array_equal(mean, [100])
    np.testing.assert_array_equal(variance, [0])
    np.testing.assert_array_equal(gg.nn.layer_norm(x), np.zeros((1, 4096)))
    np.testing.assert_allclose(gg.nn.l2_normalize(x, 1)[0, 0], 1 / 64, rtol=1e-3)


def test_sufficient_statistics_are_those_of_the_moments():
    x = gg.constant(X)
    count, total, squares, shift = gg.nn.sufficient_statistics(x, [0], shift=2.0)
    np.testing.assert_array_equal(count, 2)
    np.testing.assert_allclose(total, [-1, 7, -5.5])
    np.testing.assert_allclose(squares, [1, 37, 18.25])
    found = gg.nn.normalize_moments(count, total, squares, shift)
    for got, wanted in zip(found, gg.nn.moments(x, [0])):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    plain = gg.nn.sufficient_statistics(x, [1], keepdims=True)
    np.testing.assert_allclose(plain[1], [[2], [10.5]])
    assert plain[3] is None


def test_fractions_and_order():
    assert float(gg.math.zero_fraction([0, 0, 1])) == pytest.approx(2 / 3)
    assert bool(gg.math.is_strictly_increasing([1, 2, 3]))
    assert not bool(gg.math.is_strictly_increasing([[1, 2], [2, 3]]))
    assert bool(gg.math.is_non_decreasing([[1, 2], [2, 3]]))
    assert bool(gg.math.is_non_decreasing([]))


# -- dropout


@pytest.mark.parametrize("wrap", [lambda f: f, gg.function], ids=["eager", "function"])
def test_dropout_keeps_the_mean(wrap):
    gg.random.set_seed(4)
    x = gg.ones((200, 100))
    y = wrap(lambda x: gg.nn.dropout(x, 0.4))(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.6)}
    assert abs((y == 0).mean() - 0.4) < 0.02


def test_dropout_draws_anew_and_by_its_noise_shape():
    gg.random.set_seed(4)
    f = gg.function(lambda x: gg.nn.dropout(x, 0.5, noise_shape=[None, 1]))
    a, b = f(gg.ones((50, 3))).numpy(), f(gg.ones((50, 3))).numpy()
    assert (a != b).any()
    assert (a == a[:, :1]).all()
    assert 0 < (a == 0).mean() < 1


def test_dropout_of_a_seed_is_one_mask_in_every_mode():
    x = gg.constant(np.arange(1.0, 33.0))

    def f(x):
        return gg.nn.stateless_dropout(x, 0.5, seed=[3, 4])

    np.testing.assert_array_equal(f(x), gg.function(f)(x))
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    np.testing.assert_array_equal(tape.gradient(y, x), np.where(y == 0, 0, 2))


def test_dropout_at_rate_0_is_its_input_and_drops_nan():
    x = gg.constant([1.0, np.nan])
    assert gg.nn.dropout(x, 0.0) is x
    rate = gg.constant(0.999999)
    assert not np.isnan(gg.nn.dropout(gg.fill((50,), np.nan), rate).numpy()).all()


def test_sigmoid_cross_entropy_keeps_its_digits():
    """At logit 20 and label 1 the loss is exp(-20), far below the last place of 20."""
    f = gg.nn.sigmoid_cross_entropy_with_logits

    def weighted(z, x):
        return gg.nn.weighted_cross_entropy_with_logits(z, x, 3.0)

    x, z = gg.constant([20.0, -20.0]), gg.constant([1.0, 0.0])
    tail = np.exp(-20.0)
    for wrap in (lambda f: f, gg.function):
        np.testing.assert_allclose(wrap(f)(z, x), [tail, tail], rtol=1e-6)
        np.testing.assert_allclose(wrap(weighted)(z, x), [3 * tail, tail], rtol=1e-6)
    with gg.GradientTape() as tape:
        zero = gg.constant(0.0)
        tape.watch(zero)
        y = f(0.25, zero)
    assert float(tape.gradient(y, zero)) == 0.25
