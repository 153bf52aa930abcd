"""Learning rates: schedules with the numbers of Keras, and rates that change between steps."""

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.errors import ArgumentError

# The rate at STEPS, in float32, by Keras 3.15 on TensorFlow 2.21.
SCHEDULES = {
    "ExponentialDecay(0.1, 4, 0.5)": [
        0.100000001,
        0.0840896443,
        0.0707106814,
        0.0594603531,
        0.0420448221,
        0.0250000004,
        0.0210224111,
        0.00312500005,
    ],
    "ExponentialDecay(0.1, 4, 0.5, staircase=True)": [
        0.100000001,
        0.100000001,
        0.100000001,
        0.100000001,
        0.0500000007,
        0.0250000004,
        0.0250000004,
        0.00312500005,
    ],
    "InverseTimeDecay(0.1, 4, 0.5)": [
        0.100000001,
        0.088888891,
        0.0799999982,
        0.0727272704,
        0.0615384616,
        0.0500000007,
        0.0470588244,
        0.0285714287,
    ],
    "InverseTimeDecay(0.1, 4, 0.5, staircase=True)": [
        0.100000001,
        0.100000001,
        0.100000001,
        0.100000001,
        0.0666666701,
        0.0500000007,
        0.0500000007,
        0.0285714287,
    ],
    "PiecewiseConstantDecay([2, 5], [1.0, 0.5, 0.1])": [
        1,
        1,
        1,
        0.5,
        0.5,
        0.100000001,
        0.100000001,
        0.100000001,
    ],
    "PolynomialDecay(0.1, 4, 0.01, power=2.0)": [
        0.100000001,
        0.0606250018,
        0.0324999988,
        0.015625,
        0.00999999978,
        0.00999999978,
        0.00999999978,
        0.00999999978,
    ],
    "PolynomialDecay(0.1, 4, 0.01, power=0.5, cycle=True)": [
        0.100000001,
        0.0879422873,
        0.0736396089,
        0.0549999997,
        0.0651135221,
        0.00999999978,
        0.0549999997,
        0.00999999978,
    ],
    "CosineDecay(0.1, 4, alpha=0.1)": [
        0.100000001,
        0.0868198127,
        0.054999996,
        0.0231801961,
        0.0100000007,
        0.0100000007,
        0.0100000007,
        0.0100000007,
    ],
    "CosineDecay(0.01, 4, alpha=0.1, warmup_target=0.1, warmup_steps=3)": [
        0.00999999978,
        0.0399999991,
        0.0700000003,
        0.100000001,
        0.054999996,
        0.0100000007,
        0.0100000007,
        0.0100000007,
    ],
    "CosineDecayRestarts(0.1, 3, t_mul=2.0, m_mul=0.5, alpha=0.1)": [
        0.100000001,
        0.0775000006,
        0.0324999951,
        0.0550000034,
        0.0437499993,
        0.0130144274,
        0.0324999988,
        0.0103833349,
    ],
    "CosineDecayRestarts(0.1, 3, t_mul=1.0, m_mul=0.9)": [
        0.100000001,
        0.075000003,
        0.0249999966,
        0.0899999961,
        0.0225000065,
        0.0202499907,
        0.0728999898,
        0.0132860318,
    ],
}
STEPS = (0, 1, 2, 3, 5, 8, 9, 20)


@pytest.mark.parametrize("text", SCHEDULES)
def test_schedules_give_the_numbers_of_keras(text):
    schedule = eval(text, vars(gg.optimizers.schedules))
    traced = gg.function(lambda step: schedule(step))
    again = gg.optimizers.schedules.deserialize(gg.optimizers.schedules.serialize(schedule))
    for form in (schedule, again, lambda n: traced(gg.constant(n)), lambda n: traced(np.int64(n))):
        found = [float(form(step)) for step in STEPS]
        np.testing.assert_allclose(found, SCHEDULES[text], rtol=2e-7, atol=2e-8)


def test_a_linear_warmup_goes_on_with_the_schedule_inside():
    inner = gg.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    rate = gg.optimizers.schedules.LinearWarmup(inner, warmup_steps=4)
    again = gg.optimizers.schedules.deserialize(gg.optimizers.schedules.serialize(rate))
    for schedule in (rate, again):
        found = [float(schedule(step)) for step in (0, 1, 4, 5, 7)]
        assert found == [0.0, 0.25, 1.0, 0.5, 0.125]


def test_wrong_schedules():
    with pytest.raises(ArgumentError, match="should be 1 less than the length of values, got 2"):
        gg.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.5, 0.25])
    with pytest.raises(ArgumentError, match="CosineDecay: `decay_steps` is to be > 0, got 0"):
        gg.optimizers.schedules.CosineDecay(0.1, 0)
    with pytest.raises(ArgumentError, match="no schedule is called 'Mine'"):
        gg.optimizers.schedules.deserialize({"class_name": "Mine", "config": {}})


# -- learning rates


def rates(opt, change, compiled):
    """How far each of three steps moves a variable by SGD, `change` called before each."""
    v = gg.Variable(0.0)
    step = lambda: opt.apply([gg.constant(-1.0)], [v])  # noqa: E731
    step = gg.function(step) if compiled else step
    found = []
    for t in range(3):
        change(t)
        before = float(v)
        step()
        found.append(float(v) - before)
    return found, step


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("assign", [False, True])
def test_a_number_changes_without_a_new_trace(compiled, assign):
    opt = gg.optimizers.SGD(1)

    def change(t):
        if assign:
            opt.learning_rate.assign(0.5**t)
        else:
            opt.learning_rate = 0.5**t

    found, step = rates(opt, change, compiled)
    assert found == [1.0, 0.5, 0.25]
    traced = step if compiled else opt._last[1]
    assert traced.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("compiled", [False, True])
def test_functions_and_variables_as_learning_rates(compiled):
    v = gg.Variable(1.0)
    change = lambda t: v.assign(0.5**t)  # noqa: E731
    assert rates(gg.optimizers.SGD(v), change, compiled)[0] == [1.0, 0.5, 0.25]
    v = gg.Variable(1.0)
    assert rates(gg.optimizers.SGD(lambda: v * 2), change, compiled)[0] == [2.0, 1.0, 0.5]
    step = gg.Variable(0)
    rate = gg.compat.v1.train.exponential_decay(1.0, step, decay_steps=1, decay_rate=0.5)
    assert rates(gg.optimizers.SGD(rate), step.assign, compiled)[0] == [1.0, 0.5, 0.25]
    schedule = gg.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    assert rates(gg.optimizers.SGD(schedule), lambda t: None, compiled)[0] == [1.0, 0.5, 0.25]


def test_a_schedule_of_the_users_runs_as_python_outside_of_functions():
    class Mine(gg.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 1.0 if step < 2 else 0.5

    opt = gg.optimizers.SGD(Mine())
    assert rates(opt, lambda t: None, False)[0] == [1.0, 1.0, 0.5]
    with pytest.raises(NotImplementedError, match="must override `get_config"):
        opt.get_config()


def test_a_schedule_is_not_overwritten_by_a_number():
    opt = gg.optimizers.SGD(gg.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5))
    with pytest.raises(TypeError, match="hence its learning rate is not settable"):
        opt.learning_rate = 0.5
    opt.learning_rate = gg.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    assert float(opt.learning_rate) == 0.5
    with pytest.raises(ArgumentError, match="`learning_rate` should be a number"):
        gg.optimizers.SGD("fast")


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("exponential_decay", (4, 0.5, True), "ExponentialDecay(0.1, 4, 0.5, staircase=True)"),
        ("inverse_time_decay", (4, 0.5), "InverseTimeDecay(0.1, 4, 0.5)"),
        ("polynomial_decay", (4, 0.01, 2.0), "PolynomialDecay(0.1, 4, 0.01, power=2.0)"),
        ("cosine_decay", (4, 0.1), "CosineDecay(0.1, 4, alpha=0.1)"),
        (
            "cosine_decay_restarts",
            (3, 2.0, 0.5, 0.1),
            "CosineDecayRestarts(0.1, 3, t_mul=2.0, m_mul=0.5, alpha=0.1)",
        ),
    ],
)
def test_rates_of_tensorflow_1_read_the_step_when_they_are_called(name, arguments, text):
    step = gg.Variable(0)
    rate = getattr(gg.compat.v1.train, name)(0.1, step, *arguments)
    traced = gg.function(lambda: rate())
    for n, expected in zip(STEPS, SCHEDULES[text]):
        step.assign(n)
        np.testing.assert_allclose([rate(), traced()], expected, rtol=2e-7, atol=2e-8)
    piecewise = gg.compat.v1.train.piecewise_constant(step, [2, 30], [1.0, 0.5, 0.1])
    assert float(piecewise()) == 0.5
