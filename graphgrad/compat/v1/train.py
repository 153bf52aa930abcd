"""Learning rates of TensorFlow 1: functions that read a count of steps which the user keeps.

Each returns a function without arguments, as in TensorFlow 2: what `learning_rate` of an optimizer
takes. It reads `global_step` whenever it is called, so a variable that counts the steps gives the
rate of its value then; one that nobody changes gives one rate for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from graphgrad.optimizers import schedules

Rate = Callable[[], Any]


def exponential_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Rate:
    """learning_rate * decay_rate ** (global_step / decay_steps), as a function.

    >>> import graphgrad as gg
    >>> step = gg.Variable(0)
    >>> rate = gg.compat.v1.train.exponential_decay(0.5, step, decay_steps=10, decay_rate=0.25)
    >>> _ = step.assign(5)
    >>> rate().numpy()
    np.float32(0.25)
    """
    schedule = schedules.ExponentialDecay(learning_rate, decay_steps, decay_rate, staircase)
    return partial(schedule, global_step)


def inverse_time_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Rate:
    """learning_rate / (1 + decay_rate * global_step / decay_steps), as a function."""
    schedule = schedules.InverseTimeDecay(learning_rate, decay_steps, decay_rate, staircase)
    return partial(schedule, global_step)


def piecewise_constant(
    x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None
) -> Rate:
    """values[0] up to and including x = boundaries[0], values[1] up to boundaries[1], and so on."""
    return partial(schedules.PiecewiseConstantDecay(boundaries, values), x)


piecewise_constant_decay = piecewise_constant


def polynomial_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    end_learning_rate: Any = 0.0001,
    power: Any = 1.0,
    cycle: bool = False,
    name: str | None = None,
) -> Rate:
    """As `gg.optimizers.schedules.PolynomialDecay` of `global_step`, as a function."""
    schedule = schedules.PolynomialDecay(
        learning_rate, decay_steps, end_learning_rate, power, cycle
    )
    return partial(schedule, global_step)


def cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    alpha: Any = 0.0,
    name: str | None = None,
) -> Rate:
    """As `gg.optimizers.schedules.CosineDecay` of `global_step`, as a function."""
    return partial(schedules.CosineDecay(learning_rate, decay_steps, alpha), global_step)


def cosine_decay_restarts(
    learning_rate: Any,
    global_step: Any,
    first_decay_steps: Any,
    t_mul: Any = 2.0,
    m_mul: Any = 1.0,
    alpha: Any = 0.0,
    name: str | None = None,
) -> Rate:
    """As `gg.optimizers.schedules.CosineDecayRestarts` of `global_step`, as a function."""
    schedule = schedules.CosineDecayRestarts(learning_rate, first_decay_steps, t_mul, m_mul, alpha)
    return partial(schedule, global_step)
