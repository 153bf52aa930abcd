"""Optimizers: state, errors, `minimize`, weight decay, averages and rules of the user's."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.errors import ArgumentError, DTypeError, ShapeError


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
