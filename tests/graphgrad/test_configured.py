"""Traces notice when graphgrad's own objects are exchanged, or their options change."""

import contextlib
import copy
import functools
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.configured import options_of

pytestmark = pytest.mark.usefixtures("entry")

schedules = gg.optimizers.schedules
X = gg.constant([1.0, -2.0])


def count(f):
    return f.experimental_get_tracing_count()


def as_attribute(x):
    holder = SimpleNamespace(inner=SimpleNamespace(x=x))
    return (lambda: holder.inner.x), lambda x: setattr(holder.inner, "x", x)


def in_a_list(x):
    found = [x]
    return (lambda: found[0]), lambda x: found.__setitem__(0, x)


def in_a_dictionary(x):
    found = {"x": [x]}
    return (lambda: found["x"][0]), lambda x: found["x"].__setitem__(0, x)


def in_a_closure(x):
    def rebind(other):
        nonlocal x
        x = other

    return (lambda: x), rebind


def as_a_global(x):
    globals()["THING"] = x
    return (lambda: THING), lambda x: globals().__setitem__("THING", x)  # noqa: F821


class Stepper:
    """A user's class with methods that use the object."""

    def __init__(self, x):
        self.x = x

    def __call__(self):
        return self.x


def in_an_object_with_methods(x):
    stepper = Stepper(x)
    return (lambda: stepper()), lambda x: setattr(stepper, "x", x)


PLACES = [
    as_attribute, in_a_list, in_a_dictionary, in_a_closure, as_a_global, in_an_object_with_methods,
]  # fmt: skip


def stepping(opt):
    """One step from the same place each time."""
    v = stepping.v
    opt().apply_gradients([(X, v)])
    return v.value()


def drawing(generator):
    return generator().normal((2,))


def averaging(ema):
    v = stepping.v
    ema().apply([v])
    return 1.0 * ema().average(v)


def scheduled(schedule):
    return schedule()(3)


def mapped(act):
    return act()(X)


# What uses the object, and how to make two of it that differ.
KINDS = {
    "optimizer": (stepping, lambda: gg.optimizers.SGD(0.5), lambda: gg.optimizers.SGD(0.25)),
    "schedule": (
        scheduled,
        lambda: schedules.ExponentialDecay(0.5, 2, 0.5),
        lambda: schedules.ExponentialDecay(0.25, 2, 0.5),
    ),
    "average": (
        averaging,
        lambda: gg.train.ExponentialMovingAverage(0.5),
        lambda: gg.train.ExponentialMovingAverage(0.25),
    ),
    "generator": (
        drawing,
        lambda: gg.random.Generator.from_seed(1),
        lambda: gg.random.Generator.from_seed(2),
    ),
    "function": (
        mapped, lambda: gg.function(lambda x: x * 2), lambda: gg.function(lambda x: x * 3),
    ),
    "op": (mapped, lambda: gg.tanh, lambda: gg.sigmoid),
    "function of NumPy": (mapped, lambda: np.sin, lambda: np.cos),
    "partial": (
        mapped,
        lambda: functools.partial(gg.pow, y=2.0), lambda: functools.partial(gg.pow, y=3.0),
    ),
}  # fmt: skip


def fresh():
    """The state that a call begins with."""
    stepping.v.assign([1.0, 1.0])


@pytest.fixture(autouse=True)
def _variable():
    stepping.v = gg.Variable([1.0, 1.0])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_another_object_is_noticed(kind, place):
    use, make, other = KINDS[kind]
    first, second = make(), other()  # both live: it is not the death of the first that tells
    get, rebind = place(first)
    f = gg.function(functools.partial(use, get))
    for _ in range(4):
        f()
    if kind == "average":  # that of a new object has begun
        second.apply([stepping.v])
    assert count(f) == 1
    rebind(second)
    if kind == "generator":
        expected = gg.random.Generator.from_seed(2).normal((2,))
    elif kind == "average":
        stepping.v.assign([3.0, 5.0])
        expected = gg.constant([2.5, 4.0])
    else:
        fresh()
        expected = use(other)
        fresh()
    np.testing.assert_allclose(f(), expected, rtol=1e-6)
    for _ in range(3):
        f()
    assert count(f) == 2
    rebind(first)
    f()
    assert count(f) == 2  # the first trace fits again


OPTIONS = [
    (lambda: gg.optimizers.Adam(0.5), "beta_1", 0.5),
    (lambda: gg.optimizers.Adam(0.5), "amsgrad", True),
    (lambda: gg.optimizers.SGD(0.5), "clipnorm", 0.125),
    (lambda: gg.optimizers.SGD(0.5), "weight_decay", 0.5),
    (lambda: gg.optimizers.SGD(0.5, momentum=0.5), "nesterov", True),
    (lambda: gg.optimizers.SGD(0.5), "learning_rate", schedules.ExponentialDecay(0.25, 2, 0.5)),
    (lambda: gg.optimizers.SGD(lambda: 0.5), "learning_rate", lambda: 0.25),
]


@pytest.mark.parametrize("place", PLACES)
def test_an_option_is_noticed_wherever_the_optimizer_is(place):
    opt = gg.optimizers.SGD(0.5)
    get, _ = place(opt)
    f = gg.function(functools.partial(stepping, get))
    for _ in range(4):
        fresh()
        np.testing.assert_allclose(f(), [0.5, 2.0])
    assert count(f) == 1
    opt.clipvalue = 0.5
    for _ in range(4):
        fresh()
        np.testing.assert_allclose(f(), [0.75, 1.25])
    assert count(f) == 2


@pytest.mark.parametrize(("make", "name", "value"), OPTIONS, ids=[o[1] for o in OPTIONS])
def test_changed_options_give_the_numbers_of_steps_that_read_them(make, name, value):
    results = []
    for compiled in (True, False):
        stepping.v = gg.Variable([1.0, 1.0])
        opt = make()
        step = functools.partial(stepping, lambda opt=opt: opt)
        f = gg.function(step)
        for _ in range(3):
            (f if compiled else step)()
        before = stepping.v.numpy()
        setattr(opt, name, value)
        with functions_run_eagerly(not compiled):
            results.append(np.array([before, *(f().numpy() for _ in range(3))]))
    np.testing.assert_allclose(*results, rtol=1e-6)


@contextlib.contextmanager
def functions_run_eagerly(wanted):
    gg.config.run_functions_eagerly(wanted)
    try:
        yield
    finally:
        gg.config.run_functions_eagerly(False)


def test_options_that_go_back_and_forth_are_two_traces():
    opt = gg.optimizers.SGD(0.5)
    f = gg.function(functools.partial(stepping, lambda: opt))
    for clip in [None, 1.0] * 5:
        opt.clipnorm = clip
        fresh()
        moved = np.linalg.norm(1.0 - f().numpy())
        assert math.isclose(moved, 0.5 * (clip or 5**0.5), rel_tol=1e-6)
    assert count(f) == 2
    opt.clipnorm = 1.0  # nothing changes
    opt.learning_rate = 0.25  # a variable
    f()
    assert count(f) == 2


def test_variables_left_out_of_weight_decay_later():
    opt = gg.optimizers.SGD(0.5, weight_decay=0.5)
    f = gg.function(functools.partial(stepping, lambda: opt))
    np.testing.assert_allclose(f(), [0.25, 1.75])
    opt.exclude_from_weight_decay([stepping.v])
    fresh()
    np.testing.assert_allclose(f(), [0.5, 2.0])


def test_a_learning_rate_of_the_users_reads_globals():
    rate = {"value": 0.5}
    opt = gg.optimizers.SGD(lambda: rate["value"])
    f = gg.function(functools.partial(stepping, lambda: opt))
    f()
    fresh()
    rate["value"] = 0.25
    np.testing.assert_allclose(f(), [0.75, 1.5])


def test_an_optimizer_that_is_an_argument():
    opt = gg.optimizers.SGD(0.5)
    f = gg.function(lambda opt: stepping(lambda: opt))
    for _ in range(3):
        f(opt)
    fresh()
    opt.clipvalue = 0.5
    np.testing.assert_allclose(f(opt), [0.75, 1.25])


def test_a_bound_method_of_an_optimizer():
    first, second = gg.optimizers.SGD(0.5), gg.optimizers.SGD(0.25)
    apply = first.apply_gradients

    def step():
        apply([(X, stepping.v)])
        return stepping.v.value()

    f = gg.function(step)
    for _ in range(3):
        fresh()
        np.testing.assert_allclose(f(), [0.5, 2.0])
    first.clipvalue = 0.5
    fresh()
    np.testing.assert_allclose(f(), [0.75, 1.25])
    apply = second.apply_gradients
    fresh()
    np.testing.assert_allclose(f(), [0.75, 1.5])


class Own(gg.optimizers.SGD):
    """A user's optimizer: its own option, and those of its base."""

    def __init__(self, scale):
        super().__init__(0.5)
        self.scale = scale

    def update(self, x, gradient, slots, factors):
        return super().update(x, gradient * self.scale, slots, factors)


@pytest.mark.parametrize(("name", "value"), [("scale", 4.0), ("clipvalue", 0.5)])
def test_the_users_optimizer(name, value):
    opt = Own(2.0)
    f = gg.function(functools.partial(stepping, lambda: opt))
    for _ in range(3):
        fresh()
        np.testing.assert_allclose(f(), [0.0, 3.0])
    setattr(opt, name, value)
    fresh()
    np.testing.assert_allclose(f(), [-1.0, 5.0] if name == "scale" else [0.5, 1.5])
    assert count(f) == 2


class Renamed(gg.optimizers.Adam):
    def __init__(self, rate):
        super().__init__(rate)


def test_eager_steps_of_a_subclass_notice_options_of_the_base():
    found = []
    for change in (False, True):
        stepping.v = gg.Variable([1.0, 1.0])
        opt = Renamed(0.5)
        for i in range(4):
            opt.apply_gradients([(X * (-1.0) ** i, stepping.v)])
            if i == 1 and change:
                opt.beta_1 = 0.0
        found.append(stepping.v.numpy())
    assert not np.allclose(*found)


SCHEDULES = [
    (lambda: schedules.ExponentialDecay(0.5, 2, 0.5), "initial_learning_rate", 0.125),
    (lambda: schedules.ExponentialDecay(0.5, 2, 0.5), "staircase", True),
    (lambda: schedules.PolynomialDecay(0.5, 8), "power", 2.0),
    (lambda: schedules.PiecewiseConstantDecay([1, 2], [0.5, 0.25, 0.125]), "values", [1.0] * 3),
    (
        lambda: schedules.ExponentialDecay(gg.constant(0.5), 2, 0.5),
        "initial_learning_rate", gg.constant(0.125),
    ),
]  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("make", "name", "value"), SCHEDULES)
def test_an_option_of_a_schedule(make, name, value, compiled):
    schedule = make()
    opt = gg.optimizers.SGD(schedule)
    step = functools.partial(stepping, lambda: opt)
    f = gg.function(step) if compiled else step
    for _ in range(4):
        f()
    setattr(schedule, name, value)
    opt.iterations.assign(1)
    fresh()
    rate = float(schedule(1))
    other = make()
    assert rate != float(other(1))
    np.testing.assert_allclose(f(), 1 - rate * X.numpy(), rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_list_of_a_schedule_changes_in_its_place(compiled):
    values = [0.5, 0.25]
    opt = gg.optimizers.SGD(schedules.PiecewiseConstantDecay([1000], values))
    step = functools.partial(stepping, lambda: opt)
    f = gg.function(step) if compiled else step
    for _ in range(4):
        f()
    values[0] = 2.0
    fresh()
    np.testing.assert_allclose(f(), [-1.0, 5.0])


def test_an_option_of_an_average():
    ema = gg.train.ExponentialMovingAverage(0.5)
    f = gg.function(functools.partial(averaging, lambda: ema))
    for _ in range(3):
        np.testing.assert_allclose(f(), [1.0, 1.0])
    stepping.v.assign([3.0, 5.0])
    ema.decay = 0.25
    np.testing.assert_allclose(f(), [2.5, 4.0])
    ema.num_updates = 8
    stepping.v.assign([4.5, 8.0])
    np.testing.assert_allclose(f(), [4.0, 7.0])


def test_another_state_of_a_generator():
    generator = gg.random.Generator.from_seed(1)
    f = gg.function(functools.partial(drawing, lambda: generator))
    for _ in range(3):
        f()
    generator.state = gg.random.Generator.from_seed(2).state
    np.testing.assert_array_equal(f(), gg.random.Generator.from_seed(2).normal((2,)))


def test_the_global_generator():
    kept = gg.random.get_global_generator()
    f = gg.function(lambda: gg.random.normal((2,)) + gg.random.uniform((2,), seed=3))
    g = gg.function(lambda: gg.random.uniform((2,), seed=3))
    try:
        for _ in range(3):
            f(), g()
        mine = gg.random.Generator.from_seed(2)
        gg.random.set_global_generator(mine)
        f()
        assert not np.array_equal(mine.state, gg.random.Generator.from_seed(2).state)
        gg.random.set_global_generator(kept)
        f(), g()
        assert (count(f), count(g)) == (2, 1)
    finally:
        gg.random.set_global_generator(kept)


def test_a_tape_of_outside():
    x = gg.constant(3.0)

    def recorded(c):
        with gg.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = x * x * c
        return tape, y

    kept = tape, y = recorded(1.0)
    f = gg.function(lambda: tape.gradient(y, x))
    assert [float(f()) for _ in range(3)] == [6.0] * 3
    tape, y = recorded(5.0)
    assert [float(f()) for _ in range(3)] == [30.0] * 3
    assert kept[0] is not tape


def test_what_is_imported_by_its_name_is_not_compared():
    names = {"gg": gg, "tanh": gg.tanh, "sin": np.sin, "Adam": gg.optimizers.Adam, "X": X}
    exec("def f():\n    return gg.cos(tanh(X)) + sin(X)", names)
    f = gg.function(names["f"])
    f()
    assert [g.label for g in f._all[0].guards.guards.values()] == ["X"]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_count_by_themselves(copied):
    schedule = schedules.ExponentialDecay(0.5, 2, 0.5)
    f = gg.function(lambda: schedule(2))
    assert float(f()) == 0.25
    schedule.decay_rate = 0.25
    twin = copied(schedule)
    g = gg.function(lambda: twin(2))
    assert float(f()) == float(g()) == 0.125
    twin.decay_rate = 0.75
    assert (float(f()), float(g())) == (0.125, 0.375)
    assert (count(f), count(g)) == (2, 2)


def test_options_are_the_constructors_arguments():
    assert {"beta_1", "clipnorm", "_learning_rate"} <= set(options_of(Renamed))
    assert "learning_rate" not in options_of(Renamed)  # a property
    assert options_of(gg.random.Generator) == ("state",)
