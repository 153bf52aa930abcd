"""Optimizers: the numbers of Keras and of the formulas."""

import numpy as np
import pytest

import graphgrad as gg

# The variables [1, -2, 0.5] and 3 after the five steps of `train`, in float32, by Keras 3.15 on
# TensorFlow 2.21.
KERAS = [
    ("SGD", dict(learning_rate=0.1), [0.364264965, -1.78537118, 0.938960016, 2.59882212]),
    (
        "SGD",
        dict(learning_rate=0.1, momentum=0.9),
        [-0.445959955, -1.27422762, 1.97418523, 1.96465421],
    ),
    (
        "SGD",
        dict(learning_rate=0.1, momentum=0.9, nesterov=True),
        [-0.653004408, -1.23731518, 3.11607265, 1.78710902],
    ),
    ("Adam", dict(learning_rate=0.05), [0.749128163, -1.77969849, 0.741736412, 2.75086379]),
    (
        "Adam",
        dict(learning_rate=0.05, amsgrad=True, beta_2=0.9),
        [0.752262473, -1.77827823, 0.745214343, 2.75012159],
    ),
    (
        "AdamW",
        dict(learning_rate=0.05, weight_decay=0.1),
        [0.726840496, -1.73384619, 0.72631216, 2.67940068],
    ),
    ("RMSprop", dict(learning_rate=0.05), [0.427137822, -1.70877719, 1.02699959, 2.50078034]),
    (
        "RMSprop",
        dict(learning_rate=0.05, centered=True, momentum=0.5),
        [-0.0476627648, -1.44283617, 1.60278118, 2.08255553],
    ),
    ("Adagrad", dict(learning_rate=0.5), [-0.445919693, -1.4372406, 2.42641401, 1.75944054]),
    (
        "Adadelta",
        dict(learning_rate=1.0, epsilon=0.001),
        [0.209728241, -1.69361889, 1.24695289, 2.3696301],
    ),
    ("Adamax", dict(learning_rate=0.05), [0.779516459, -1.82379234, 0.708056569, 2.7583065]),
    ("Nadam", dict(learning_rate=0.05), [0.782443225, -1.86939907, 0.663425326, 2.80583334]),
    ("Lion", dict(learning_rate=0.05), [0.74999994, -1.75000024, 0.75000006, 2.75000024]),
    (
        "Ftrl",
        dict(
            learning_rate=0.5,
            l1_regularization_strength=0.01,
            l2_regularization_strength=0.02,
            l2_shrinkage_regularization_strength=0.03,
            beta=0.1,
        ),
        [-0.556664288, -1.05814481, 1.98013496, 0.918630898],
    ),
    (
        "Ftrl",
        dict(learning_rate=0.5, learning_rate_power=-0.75),
        [-0.409233987, -1.29877388, 1.71012735, 1.41399801],
    ),
    (
        "SGD",
        dict(learning_rate=0.1, weight_decay=0.2, momentum=0.9),
        [-0.474042982, -1.14212728, 1.83642101, 1.75757527],
    ),
    (
        "SGD",
        dict(learning_rate=0.1, clipnorm=0.5),
        [0.791821897, -1.92870986, 0.588285983, 2.75000024],
    ),
    (
        "SGD",
        dict(learning_rate=0.1, clipvalue=0.25),
        [0.875000119, -1.90856254, 0.619999886, 2.87499952],
    ),
    (
        "Adam",
        dict(learning_rate=0.05, global_clipnorm=0.5),
        [0.749317765, -1.77827585, 0.742363989, 2.75070357],
    ),
    (
        "SGD",
        dict(learning_rate=0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
        [0.502009988, -1.83329272, 0.790790081, 2.69061732],
    ),
    (
        "Adam",
        dict(learning_rate=0.05, gradient_accumulation_steps=2),
        [0.900252759, -1.90507233, 0.597197592, 2.90005207],
    ),
    (
        "SGD",
        dict(learning_rate=0.1, loss_scale_factor=4.0),
        [0.820138812, -1.9398098, 0.572436869, 2.89078832],
    ),
]


def train(opt, dtype, compiled, steps=5):
    a = gg.Variable(np.array([1.0, -2.0, 0.5], dtype))
    b = gg.Variable(np.array(3.0, dtype))

    def step(t):
        shift = 0.25 * gg.cast(t, dtype)
        opt.apply_gradients([(a * np.array([1.0, 0.5, -2.0], dtype) + shift, a), (b * b * 0.1, b)])

    step = gg.function(step) if compiled else step
    for t in range(steps):
        step(gg.constant(t))
    return np.append(a.numpy(), b.numpy())


@pytest.mark.parametrize("mode", ["eager", "function"])
@pytest.mark.parametrize(("kind", "options", "expected"), KERAS, ids=lambda x: str(x)[:60])
def test_five_steps_give_the_numbers_of_keras(kind, options, expected, mode):
    opt = getattr(gg.optimizers, kind)(**options)
    found = train(opt, "float32", mode == "function")
    np.testing.assert_allclose(found, np.float32(expected), rtol=2e-7, atol=3e-8)
    assert opt.get_config()["learning_rate"] == np.float32(options["learning_rate"])
    assert kind in repr(type(opt).from_config(opt.get_config()))


def adam(x, g, s, t, rate):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    m, v = s["m"] / (1 - 0.9**t), s["v"] / (1 - 0.999**t)
    return x - rate * m / (np.sqrt(v) + 1e-7 / np.sqrt(1 - 0.999**t))


def adamax(x, g, s, t, rate):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["u"] = np.maximum(0.999 * s.get("u", 0), abs(g))
    return x - rate / (1 - 0.9**t) * s["m"] / (s["u"] + 1e-7)


def nadam(x, g, s, t, rate):
    u, ahead = (0.9 * (1 - 0.5 * 0.96**k) for k in (t, t + 1))
    s["p"] = s.get("p", 1) * u
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    m = ahead * s["m"] / (1 - s["p"] * ahead) + (1 - u) * g / (1 - s["p"])
    return x - rate * m / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-7)


def momentum(x, g, s, t, rate):
    s["m"] = 0.9 * s.get("m", 0) + g
    return x - rate * (g + 0.9 * s["m"])


def rmsprop(x, g, s, t, rate):
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g * g
    s["a"] = 0.9 * s.get("a", 0) + 0.1 * g
    s["m"] = 0.5 * s.get("m", 0) + rate * g / np.sqrt(s["v"] - s["a"] ** 2 + 1e-7)
    return x - s["m"]


def adagrad(x, g, s, t, rate):
    s["v"] = s.get("v", 0.1) + g * g
    return x - rate * g / np.sqrt(s["v"] + 1e-7)


FORMULAS = {
    "adam": (adam, lambda rate: gg.optimizers.Adam(rate)),
    "adamax": (adamax, lambda rate: gg.optimizers.Adamax(rate)),
    "nadam": (nadam, lambda rate: gg.optimizers.Nadam(rate)),
    "nesterov": (momentum, lambda rate: gg.optimizers.SGD(rate, 0.9, True)),
    "rmsprop": (rmsprop, lambda r: gg.optimizers.RMSprop(r, momentum=0.5, centered=True)),
    "adagrad": (adagrad, lambda rate: gg.optimizers.Adagrad(rate)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_float64_follows_the_formulas_and_is_not_truncated(name):
    rule, make = FORMULAS[name]
    found = train(make(np.float64(0.1)), "float64", True)
    x, states = [np.array([1.0, -2.0, 0.5]), np.array(3.0)], [{}, {}]
    for t in range(5):
        grads = [x[0] * [1.0, 0.5, -2.0] + 0.25 * t, x[1] * x[1] * 0.1]
        x = [rule(v, g, s, t + 1, 0.1) for v, g, s in zip(x, grads, states)]
    np.testing.assert_allclose(found, np.append(*x), rtol=1e-12)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "Lion", "RMSprop", "Adagrad", "Ftrl"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_variables_are_updated_in_float32_and_rounded_once(kind, dtype):
    opt = getattr(gg.optimizers, kind)(0.5)
    v = gg.Variable(gg.cast([1.0, -2.0, 3.0], dtype))
    wide = gg.Variable([1.0, -2.0, 3.0])
    g = gg.cast([0.25, 2.0, 0.0], dtype)
    opt.apply([g], [v])
    getattr(gg.optimizers, kind)(0.5).apply([gg.cast(g, gg.float32)], [wide])
    assert v.dtype is gg.as_dtype(dtype)
    assert all(s.dtype is v.dtype for s in opt.variables[2:])
    np.testing.assert_array_equal(v.numpy(), gg.cast(wide, dtype).numpy())


def test_bfloat16_adam_moves_at_all():
    v = gg.Variable(gg.cast([1.0], gg.bfloat16))
    gg.optimizers.Adam(0.5).apply([gg.cast([3.0], gg.bfloat16)], [v])
    assert float(v[0]) == 0.5
