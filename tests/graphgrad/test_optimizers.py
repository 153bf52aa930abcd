"""Optimizers: the numbers of Keras and of the formulas, in every mode; state and errors."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.runtime.memory import address

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


def test_other_options_may_change_between_eager_steps():
    opt, v = gg.optimizers.SGD(1.0), gg.Variable(4.0)
    opt.apply([gg.constant(1.0)], [v])
    opt.clipvalue = 0.5
    opt.apply([gg.constant(1.0)], [v])
    assert float(v) == 2.5
    opt.momentum = 0.5  # which needs a slot
    opt.apply([gg.constant(1.0)], [v])
    opt.apply([gg.constant(1.0)], [v])
    assert float(v) == 2.5 - 0.5 - 0.75


# -- state


def test_state_is_made_at_first_use_and_has_names():
    opt, v = gg.optimizers.Adam(0.5), gg.Variable([1.0, 2.0], name="w")
    assert [x.name for x in opt.variables] == ["adam/iteration:0", "adam/learning_rate:0"]

    @gg.function
    def step():
        opt.apply([gg.constant([1.0, 1.0])], [v])

    step()
    step()
    assert step.experimental_get_tracing_count() == 1
    assert [x.name for x in opt.variables[2:]] == ["adam/w/momentum:0", "adam/w/velocity:0"]
    assert opt.variables[2].shape == (2,)
    assert int(opt.iterations) == 2
    assert opt.built


def test_more_variables_may_come_later():
    opt, v, w = gg.optimizers.SGD(0.5, momentum=0.5), gg.Variable(1.0), gg.Variable([1.0, 2.0])
    opt.apply([gg.constant(1.0)], [v])
    opt.apply([gg.constant([1.0, 1.0]), gg.constant(1.0)], [w, v])
    assert (float(v), w.numpy().tolist()) == (-0.25, [0.5, 1.5])
    assert len(opt.variables) == 4


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_with_its_variables_goes_its_own_way(copied):
    v, opt = gg.Variable([1.0, 2.0]), gg.optimizers.Adam(0.5)
    opt.apply([gg.constant([1.0, 3.0])], [v])
    v2, opt2 = copied((v, opt))
    opt2.apply([gg.constant([1.0, 3.0])], [v2])
    assert int(opt.iterations) == 1
    opt.apply([gg.constant([1.0, 3.0])], [v])
    np.testing.assert_array_equal(v.numpy(), v2.numpy())
    opt3 = gg.optimizers.Adam(0.5)
    opt3.build([gg.Variable([0.0, 0.0])])
    opt3.set_weights(opt.get_weights())
    np.testing.assert_array_equal(opt3.variables[2].numpy(), opt.variables[2].numpy())
    with pytest.raises(ArgumentError, match="4 arrays for the 2 variables of adam"):
        gg.optimizers.Adam().set_weights(opt.get_weights())


def test_optimizers_by_name_and_by_config():
    assert isinstance(gg.optimizers.get("AdamW"), gg.optimizers.AdamW)
    opt = gg.optimizers.Adam(gg.optimizers.schedules.CosineDecay(0.5, 9), 0.5, clipnorm=2.0)
    again = gg.optimizers.get(gg.optimizers.serialize(opt))
    assert again.get_config() == opt.get_config()
    assert again.clipnorm == 2.0
    with pytest.raises(ArgumentError, match="no optimizer is called 'adamm'; there are adadelta"):
        gg.optimizers.get("adamm")


# -- gradients that are not there, and other wrong things


def test_a_missing_gradient_warns_once_and_is_left_out():
    opt, v, w = gg.optimizers.SGD(0.5), gg.Variable(1.0), gg.Variable(2.0, name="w")
    with pytest.warns(UserWarning, match=r"do not exist for variables \['w:0'\] when mini") as seen:
        opt.apply_gradients([(gg.constant(1.0), v), (None, w)])
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opt.apply_gradients([(gg.constant(1.0), v), (None, w)])
    assert (float(v), float(w)) == (0.0, 2.0)


@pytest.mark.parametrize("compiled", [False, True])
def test_no_gradient_at_all_is_an_error(compiled):
    opt, v = gg.optimizers.SGD(0.5), gg.Variable(1.0, name="v")
    step = gg.function(opt.minimize) if compiled else opt.minimize
    for _ in range(2):
        with pytest.raises(ValueError, match=r"No gradients provided for any variable: .*v:0"):
            step(lambda: gg.constant(1.0) * 2, v)
    with pytest.raises(ValueError, match="No gradients provided for any variable: the list"):
        opt.apply_gradients([])


@pytest.mark.parametrize("compiled", [False, True])
def test_wrong_arguments_name_the_variable(compiled):
    opt = gg.optimizers.SGD(0.5)
    apply = gg.function(opt.apply_gradients) if compiled else opt.apply_gradients
    v, n = gg.Variable([1.0, 2.0], name="v"), gg.Variable(1, name="n")
    g = gg.constant([1.0, 1.0])
    with pytest.raises(ArgumentError, match="'v:0' is given twice, as numbers 0 and 1"):
        apply([(g, v), (g, v)])
    with pytest.raises(ShapeError, match=r"of the variable 'v:0' has shape \[3\], the variable \["):
        apply([(gg.ones(3), v)])
    with pytest.raises(DTypeError, match="the variable 'n:0' is int32; only floating variables"):
        apply([(gg.constant(1), n)])
    with pytest.raises(DTypeError, match="the order is"):
        apply([(v, g)])


def test_options_that_cannot_be():
    with pytest.raises(TypeError, match="not recognized: decay; the options are weight_decay,"):
        gg.optimizers.SGD(0.5, decay=0.1)
    with pytest.raises(ArgumentError, match="Only one of `clipnorm`, `clipvalue` and `global_clip"):
        gg.optimizers.SGD(0.5, clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ArgumentError, match="`momentum` must be a number between 0 and 1, got 2"):
        gg.optimizers.SGD(0.5, momentum=2)
    with pytest.raises(ArgumentError, match=r"`ema_momentum` must be in the range \[0, 1\]"):
        gg.optimizers.SGD(0.5, use_ema=True, ema_momentum=1.5)
    with pytest.raises(ArgumentError, match="integer >= 2, got 1"):
        gg.optimizers.SGD(0.5, gradient_accumulation_steps=1)
    with pytest.raises(ArgumentError, match="call `build"):
        gg.optimizers.SGD(0.5).apply([gg.constant(1.0)])


def test_a_global_norm_that_is_not_finite_gives_nan():
    opt, v, w = gg.optimizers.SGD(1.0, global_clipnorm=1.0), gg.Variable(1.0), gg.Variable(2.0)
    opt.apply([gg.constant(np.inf), gg.constant(1.0)], [v, w])
    assert np.isnan(v.numpy())
    assert np.isnan(w.numpy())


@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm", "clipvalue"])
@pytest.mark.parametrize("compiled", [False, True])
def test_clipped_gradients_of_zero_move_nothing(option, compiled):
    opt, v = gg.optimizers.SGD(1.0, **{option: 0.3}), gg.Variable([1.0, 2.0])
    x = gg.Variable([0.0, 0.0])

    def step():
        with gg.GradientTape() as tape:  # through the clip as well
            opt.apply([1.0 * x], [v])
            y = gg.reduce_sum(v * [1.0, 2.0])
        return tape.gradient(y, x)

    g = (gg.function(step) if compiled else step)()
    np.testing.assert_array_equal(v, [1.0, 2.0])
    np.testing.assert_array_equal(g, [-1.0, -2.0])


# -- minimize


@pytest.mark.parametrize("compiled", [False, True])
def test_minimize_takes_a_function_or_a_tensor_with_its_tape(compiled):
    opt, v = gg.optimizers.SGD(0.25), gg.Variable(4.0)
    minimize = lambda: opt.minimize(lambda: v * v, v)  # noqa: E731

    def with_tape():
        with gg.GradientTape() as tape:
            loss = v * v
        return opt.minimize(loss, [v], tape=tape)

    for call in (minimize, with_tape):
        call = gg.function(call) if compiled else call
        call()
    assert float(v) == 1.0
    with pytest.raises(ValueError, match="`tape` is required when a `Tensor` loss is passed"):
        opt.minimize(v * v, v)


@pytest.mark.parametrize("compiled", [False, True])
def test_minimize_of_a_function_with_a_tape_inside(compiled):
    x = gg.Variable(4.0)
    opt = gg.optimizers.SGD(0.125)

    @gg.function
    def slope():
        with gg.GradientTape() as tape:
            y = x**3
        return tape.gradient(y, x)  # 3 x ** 2

    step = lambda: opt.minimize(slope, x)  # noqa: E731
    (gg.function(step) if compiled else step)()
    assert float(x) == 4.0 - 0.125 * 6 * 4.0


def test_minimize_watches_variables_that_are_not_trainable():
    v = gg.Variable(4.0, trainable=False)
    gg.optimizers.SGD(0.5).minimize(lambda: v * v, [v])
    assert float(v) == 0.0
    w = gg.Variable(4.0)
    gg.optimizers.SGD(0.5).minimize(lambda: w * w, lambda: [w])
    assert float(w) == 0.0


def test_steps_under_a_tape_are_differentiated():
    v, rate = gg.Variable(1.0), gg.constant(0.5)
    with gg.GradientTape() as tape:
        tape.watch(rate)
        gg.optimizers.SGD(1.0).apply([rate * v], [v])
        y = v * 3.0
    assert float(tape.gradient(y, rate)) == -3.0


# -- weight decay, averages, constraints, rules of the user's


def test_variables_without_weight_decay():
    opt = gg.optimizers.SGD(0.5, weight_decay=0.5)
    v, bias, w = gg.Variable(4.0), gg.Variable(4.0, name="layer/bias"), gg.Variable(4.0)
    opt.exclude_from_weight_decay([w], ["bias"])
    opt.apply([gg.constant(0.0)] * 3, [v, bias, w])
    assert (float(v), float(bias), float(w)) == (3.0, 4.0, 4.0)
    half = gg.Variable(gg.cast([4.0], gg.float16))
    gg.optimizers.SGD(0.5, weight_decay=0.0001).apply([gg.cast([0.0015], gg.float16)], [half])
    assert half.numpy() == np.float16(4.0 - 0.0002 - 0.00075)  # neither alone would move it


def test_averages_replace_the_variables_at_the_end():
    opt, v = gg.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5), gg.Variable(4.0)
    for _ in range(2):
        opt.apply([gg.constant(1.0)], [v])
    assert float(v) == 2.0
    opt.finalize_variable_values([v])
    assert float(v) == 2.5


def test_constraints_hold_after_a_step():
    v = gg.Variable([1.0, 2.0], constraint=lambda x: gg.maximum(x, 0.0))
    gg.optimizers.SGD(1.0).apply([gg.constant([4.0, 1.0])], [v])
    assert v.numpy().tolist() == [0.0, 1.0]


def test_a_rule_written_as_for_keras():
    class Heavy(gg.optimizers.Optimizer):
        def build(self, variables):
            super().build(variables)
            self.momenta = [self.add_variable_from_reference(v, name="m") for v in variables]
            self.calls = 0

        def update_step(self, gradient, variable, learning_rate):
            self.calls += 1
            m = self.momenta[self._get_variable_index(variable)]
            self.assign(m, m * 0.5 + gradient)
            self.assign_sub(variable, m * learning_rate)

    v, opt = gg.Variable(4.0), Heavy(1.0, weight_decay=0.5)
    for _ in range(3):
        opt.apply([gg.constant(1.0)], [v])
    assert opt.calls == 3  # the user's Python runs at each step
    assert float(v) == ((4.0 / 2 - 1.0) / 2 - 1.5) / 2 - 1.75


def test_moving_averages_of_variables():
    ema = gg.train.ExponentialMovingAverage(0.5, num_updates=8)  # min(0.5, 9 / 18)
    v = gg.Variable([4.0], name="v")

    @gg.function
    def step(x):
        v.assign(x)
        ema.apply(v)

    step(gg.constant([2.0]))
    step(gg.constant([2.0]))
    assert float(ema.average(v)[0]) == 2.5
    assert ema.average(v).name == "v/ExponentialMovingAverage:0"
    assert ema.average(gg.Variable(1.0)) is None
    with pytest.raises(DTypeError, match="takes floating variables"):
        ema.apply([gg.Variable(1)])


# -- compiled steps


@pytest.mark.parametrize(
    "make",
    [
        lambda: gg.optimizers.SGD(0.1, momentum=0.9),
        lambda: gg.optimizers.Adam(0.1, amsgrad=True),
        lambda: gg.optimizers.RMSprop(0.1, centered=True, momentum=0.5),
        lambda: gg.optimizers.Adam(0.1, use_ema=True, ema_overwrite_frequency=3),
        lambda: gg.optimizers.Adam(0.1, gradient_accumulation_steps=2),
        lambda: gg.optimizers.Adam(0.1, global_clipnorm=0.5),
    ],
)
def test_variables_and_slots_are_written_in_place(make):
    opt, v = make(), gg.Variable(np.ones((20, 30), np.float32))
    g = gg.ones((20, 30))
    for _ in range(3):
        opt.apply([g], [v])
    state = [v, *(s for s in opt.variables if s.shape == (20, 30))]
    before = {address(x.tensor().array) for x in state}
    opt.apply([g], [v])
    assert {address(x.tensor().array) for x in state} == before
    assert g.numpy().min() == 1.0


def network(layers, width):
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=(width, width), scale=width**-0.5) for _ in range(layers)]
    variables = [gg.Variable(w.astype(np.float32)) for w in weights]
    variables += [gg.Variable(np.zeros(width, np.float32)) for _ in range(layers)]

    def gradients(x):
        with gg.GradientTape() as tape:
            for w, b in zip(variables[:layers], variables[layers:]):
                x = gg.tanh(x @ w + b)
            loss = gg.reduce_mean(x * x)
        return tape.gradient(loss, variables)

    return variables, gradients


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SGD", {"momentum": 0.9}),
        ("Adam", {}),
        ("RMSprop", {"centered": True}),
        ("AdamW", {"use_ema": True, "ema_overwrite_frequency": 2, "clipvalue": 0.01}),
        ("Nadam", {"gradient_accumulation_steps": 2}),
        ("Adam", {"global_clipnorm": 0.01}),
    ],
)
def test_the_updates_of_a_compiled_step_are_one_launch(kind, options):
    layers, width = (6, 8) if options else (50, 8)
    x = gg.constant(np.random.default_rng(0).normal(size=(5, width)).astype(np.float32))
    results = []
    for compiled in (True, False):
        variables, gradients = network(layers, width)
        opt = getattr(gg.optimizers, kind)(0.01, **options)

        def step(x):
            opt.apply_gradients(zip(gradients(x), variables))  # noqa: B023

        if compiled:
            step = gg.function(step)
        for _ in range(4):
            step(x)
        results.append([v.numpy() for v in variables])
        if compiled and "global_clipnorm" not in options:  # whose squares are summed together
            kernels = [k for k in step.report().split("\n\n") if k.startswith("kernel")]
            together = [k for k in kernels if f"[{2 * layers} in one launch: 64" in k]
            assert len(together) == 1
            assert sum("sqrt" in k and "in one launch" not in k for k in kernels) <= 1  # factors
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
