"""gg.optimizers.schedules: learning rates as functions of the step, by Keras's names.

A schedule is called with the number of steps made so far (a number, a tensor or a variable) and
gives a scalar tensor. An optimizer calls it with its own count; the formulas are ordinary
operations, so inside `gg.function` they are part of the compiled step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.source import here
from graphgrad.configured import Configured


class LearningRateSchedule(Configured):
    """Base of schedules. One of your own defines `__call__(step)`, and `get_config` to be saved.

    >>> import graphgrad as gg
    >>> class Halving(gg.optimizers.schedules.LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.5 ** (gg.cast(step, gg.float32) + 1)
    >>> gg.optimizers.SGD(Halving()).learning_rate.numpy()
    np.float32(0.5)
    """

    def __call__(self, step: Any) -> Any:
        """The learning rate after `step` steps."""
        raise NotImplementedError(
            f"Learning rate schedule '{type(self).__name__}' must override `__call__(self, step)`."
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments that make a schedule like this one."""
        kind = type(self)
        if kind.__name__ not in _BY_NAME:
            raise NotImplementedError(
                f"Learning rate schedule '{kind.__name__}' must override `get_config()` in order "
                "to be serializable."
            )
        return {name: getattr(self, name) for name in inspect.signature(kind).parameters}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        """A schedule from what `get_config` gave."""
        return cls(**config)


def _scalar(value: Any) -> Any:
    """A number or tensor as a floating tensor."""
    x = current_kind().lift(value)
    return x if x.dtype.is_floating else x.cast(dtypes.float32)


def _cast(value: Any, dtype: Any) -> Any:
    return current_kind().lift(value).cast(dtype)


def _check_positive(schedule: Any, name: str) -> None:
    value = getattr(schedule, name)
    if not isinstance(value, Arith) and not value > 0:
        raise ArgumentError(
            f"{type(schedule).__name__}: `{name}` is to be > 0, got {value!r}", here()
        )


class _Decay(LearningRateSchedule):
    """A rate that falls by the same rule every `decay_steps` steps, gradually or at once."""

    def __init__(
        self,
        initial_learning_rate: Any,
        decay_steps: Any,
        decay_rate: Any,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name or type(self).__name__

    def __call__(self, step: Any) -> Any:
        rate = _scalar(self.initial_learning_rate)
        periods = _cast(step, rate.dtype) / _cast(self.decay_steps, rate.dtype)
        if self.staircase:
            periods = ops["floor"](periods)
        return self.at(rate, _cast(self.decay_rate, rate.dtype), periods)

    @staticmethod
    def at(rate: Any, decay: Any, periods: Any) -> Any:
        """The rate after so many periods of `decay_steps` steps."""
        raise NotImplementedError


class ExponentialDecay(_Decay):
    """initial_learning_rate * decay_rate ** (step / decay_steps).

    With `staircase` the exponent is rounded down: the rate changes every `decay_steps` steps.

    >>> import graphgrad as gg
    >>> gg.optimizers.schedules.ExponentialDecay(0.5, decay_steps=10, decay_rate=0.25)(5).numpy()
    np.float32(0.25)
    """

    @staticmethod
    def at(rate: Any, decay: Any, periods: Any) -> Any:
        return rate * ops["pow"](decay, periods)


class InverseTimeDecay(_Decay):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps).

    With `staircase` the quotient is rounded down: the rate changes every `decay_steps` steps.

    >>> import graphgrad as gg
    >>> gg.optimizers.schedules.InverseTimeDecay(1.0, decay_steps=2, decay_rate=0.5)(4).numpy()
    np.float32(0.5)
    """

    @staticmethod
    def at(rate: Any, decay: Any, periods: Any) -> Any:
        return rate / (1 + decay * periods)


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], values[1] up to boundaries[1], and so on.

    There is one value more than boundaries.

    >>> import graphgrad as gg
    >>> rate = gg.optimizers.schedules.PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.1])
    >>> [float(rate(step)) for step in (10, 11, 20)]
    [1.0, 0.5, 0.5]
    """

    def __init__(
        self,
        boundaries: Sequence[Any],
        values: Sequence[Any],
        name: str = "PiecewiseConstant",
    ) -> None:
        self.boundaries = boundaries
        self.values = values
        self.name = name
        if len(self.boundaries) != len(self.values) - 1:
            raise ArgumentError(
                "PiecewiseConstantDecay: The length of boundaries should be 1 less than the length "
                f"of values, got {len(self.boundaries)} boundaries {list(self.boundaries)} and "
                f"{len(self.values)} values {list(self.values)}", here()
            )  # fmt: skip

    def __call__(self, step: Any) -> Any:
        step = current_kind().lift(step)
        rate = _scalar(self.values[0])
        for boundary, value in zip(self.boundaries, self.values[1:]):
            beyond = step > _cast(boundary, step.dtype)
            rate = ops["where"](beyond, _cast(value, rate.dtype), rate)
        return rate


class PolynomialDecay(LearningRateSchedule):
    """From initial_learning_rate to end_learning_rate over `decay_steps` steps, then constant:

        (initial - end) * (1 - step / decay_steps) ** power + end

    With `cycle`, `decay_steps` is doubled, trebled, ... so that it is never below `step`: the rate
    jumps up and decays again.

    >>> import graphgrad as gg
    >>> rate = gg.optimizers.schedules.PolynomialDecay(1.0, decay_steps=4, end_learning_rate=0.5)
    >>> [float(rate(step)) for step in (0, 2, 8)]
    [1.0, 0.75, 0.5]
    """

    def __init__(
        self,
        initial_learning_rate: Any,
        decay_steps: Any,
        end_learning_rate: Any = 0.0001,
        power: Any = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def __call__(self, step: Any) -> Any:
        rate = _scalar(self.initial_learning_rate)
        end, power = _cast(self.end_learning_rate, rate.dtype), _cast(self.power, rate.dtype)
        step, total = _cast(step, rate.dtype), _cast(self.decay_steps, rate.dtype)
        if self.cycle:
            rounds = -ops["floor"](-(step / total))  # the ceiling
            total = total * ops["where"](step == 0, 1.0, rounds)
        else:
            step = ops["minimum"](step, total)
        return (rate - end) * ops["pow"](1 - step / total, power) + end


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial rate to `alpha` times it, over `decay_steps` steps.

    With `warmup_target` the rate first rises linearly from `initial_learning_rate` to that target
    over `warmup_steps` steps, and decays from there. Source: Loshchilov & Hutter, SGDR,
    https://arxiv.org/abs/1608.03983; the warm-up: Goyal et al., https://arxiv.org/abs/1706.02677.

    >>> import graphgrad as gg
    >>> rate = gg.optimizers.schedules.CosineDecay(0.0, 4, warmup_target=1.0, warmup_steps=2)
    >>> [round(float(rate(step)), 6) for step in (0, 1, 2, 4, 6, 7)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """

    def __init__(
        self,
        initial_learning_rate: Any,
        decay_steps: Any,
        alpha: Any = 0.0,
        name: str = "CosineDecay",
        warmup_target: Any = None,
        warmup_steps: Any = 0,
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps
        _check_positive(self, "decay_steps")

    def __call__(self, step: Any) -> Any:
        initial = _scalar(self.initial_learning_rate)
        step, total = _cast(step, initial.dtype), _cast(self.decay_steps, initial.dtype)
        if self.warmup_target is None:
            return self._decayed(initial, ops["minimum"](step, total) / total)
        target, warmup = (_cast(x, initial.dtype) for x in (self.warmup_target, self.warmup_steps))
        step = ops["minimum"](step, total + warmup)
        rising = (target - initial) * (step / warmup) + initial
        return ops["where"](step < warmup, rising, self._decayed(target, (step - warmup) / total))

    def _decayed(self, start: Any, fraction: Any) -> Any:
        cosine = 0.5 * (1.0 + ops["cos"](math.pi * fraction))
        return start * ((1 - self.alpha) * cosine + self.alpha)


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decay to `alpha` times the initial rate, again and again.

    The first round takes `first_decay_steps` steps; each takes `t_mul` times as long as the one
    before, and starts at `m_mul` times its rate. Source: https://arxiv.org/abs/1608.03983.

    >>> import graphgrad as gg
    >>> rate = gg.optimizers.schedules.CosineDecayRestarts(1.0, 2, m_mul=0.5)
    >>> [round(float(rate(step)), 6) for step in (0, 1, 2, 4)]
    [1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self,
        initial_learning_rate: Any,
        first_decay_steps: Any,
        t_mul: Any = 2.0,
        m_mul: Any = 1.0,
        alpha: Any = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        self.t_mul = t_mul
        self.m_mul = m_mul
        self.alpha = alpha
        self.name = name
        _check_positive(self, "first_decay_steps")

    def __call__(self, step: Any) -> Any:
        initial = _scalar(self.initial_learning_rate)
        dtype = initial.dtype
        fraction = _cast(step, dtype) / _cast(self.first_decay_steps, dtype)
        t_mul, m_mul = _cast(self.t_mul, dtype), _cast(self.m_mul, dtype)
        if self.t_mul == 1.0:
            restarts = ops["floor"](fraction)
            fraction = fraction - restarts
        else:  # the rounds before number i take (1 - t_mul ** i) / (1 - t_mul) of the first
            rounds = ops["log"](1.0 - fraction * (1.0 - t_mul)) / ops["log"](t_mul)
            restarts = ops["floor"](rounds)
            length = ops["pow"](t_mul, restarts)
            fraction = (fraction - (1.0 - length) / (1.0 - t_mul)) / length
        height = ops["pow"](m_mul, restarts)
        cosine = 0.5 * height * (1.0 + ops["cos"](math.pi * fraction))
        return initial * ((1 - self.alpha) * cosine + self.alpha)


class LinearWarmup(LearningRateSchedule):
    """A linear rise over `warmup_steps` steps to where `learning_rate` begins, then that.

    `learning_rate` is a number or a schedule; the schedule's own count begins after the rise.

    >>> import graphgrad as gg
    >>> rate = gg.optimizers.schedules.LinearWarmup(1.0, warmup_steps=4)
    >>> [float(rate(step)) for step in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """

    def __init__(
        self,
        learning_rate: Any,
        warmup_steps: Any,
        initial_learning_rate: Any = 0.0,
        name: str = "LinearWarmup",
    ) -> None:
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.initial_learning_rate = initial_learning_rate
        self.name = name
        _check_positive(self, "warmup_steps")

    def __call__(self, step: Any) -> Any:
        step = current_kind().lift(step)
        after = step - _cast(self.warmup_steps, step.dtype)
        inner = self.learning_rate
        target = _scalar(inner(ops["maximum"](after, 0)) if callable(inner) else inner)
        begin = _cast(self.initial_learning_rate, target.dtype)
        fraction = _cast(step, target.dtype) / _cast(self.warmup_steps, target.dtype)
        return ops["where"](after < 0, begin + (target - begin) * fraction, target)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the schedule inside in the form of `serialize`."""
        config = super().get_config()
        if isinstance(self.learning_rate, LearningRateSchedule):
            config["learning_rate"] = serialize(self.learning_rate)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LinearWarmup:
        """A schedule from what `get_config` gave."""
        inner = config["learning_rate"]
        if isinstance(inner, dict):
            config = {**config, "learning_rate": deserialize(inner)}
        return cls(**config)


def serialize(learning_rate_schedule: LearningRateSchedule) -> dict[str, Any]:
    """A schedule as a dictionary of plain values.

    >>> import graphgrad as gg
    >>> rate = gg.optimizers.schedules.InverseTimeDecay(1.0, 2, 0.5)
    >>> config = gg.optimizers.schedules.serialize(rate)
    >>> gg.optimizers.schedules.deserialize(config).get_config() == rate.get_config()
    True
    """
    kind = type(learning_rate_schedule)
    return {"class_name": kind.__name__, "config": learning_rate_schedule.get_config()}


def deserialize(
    config: dict[str, Any], custom_objects: dict[str, Any] | None = None
) -> LearningRateSchedule:
    """The schedule that `serialize` described; `custom_objects` are classes of your own by name."""
    known = {**_BY_NAME, **(custom_objects or {})}
    name = config.get("class_name")
    if name not in known:
        raise ArgumentError(
            f"schedules.deserialize: no schedule is called {name!r}; there are "
            f"{', '.join(sorted(known))}. Give classes of your own as custom_objects", here()
        )  # fmt: skip
    found: LearningRateSchedule = known[name].from_config(config["config"])
    return found


_BY_NAME: dict[str, Any] = {
    c.__name__: c
    for c in (
        ExponentialDecay, InverseTimeDecay, PiecewiseConstantDecay, PolynomialDecay, CosineDecay,
        CosineDecayRestarts, LinearWarmup,
    )
}  # fmt: skip

__all__ = ["LearningRateSchedule", "deserialize", "serialize", *_BY_NAME]
