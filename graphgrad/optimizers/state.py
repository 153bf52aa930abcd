"""What an optimizer keeps: its variables and learning rate, and how they are copied and saved."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphgrad import tracing
from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.source import here
from graphgrad.configured import Configured, options_of
from graphgrad.optimizers import schedules
from graphgrad.variable import Variable


class State(Configured):
    """The part of an optimizer that lasts from step to step."""

    name: str
    use_ema: bool
    gradient_accumulation_steps: int | None
    common_options: tuple[str, ...]
    _further_options = ("_learning_rate", "_excluded")

    def slots(self) -> dict[str, float]:
        """The state that each variable needs: names, with what they are filled with."""
        return {}

    def _begin(self, learning_rate: Any) -> None:
        """An optimizer's first variables."""
        self.built = False
        self._variables: list[Variable] = []  # the whole state
        self._trainable_variables: list[Variable] = []
        self._slots: dict[str, list[Variable]] = {}  # by name, in the order of the variables
        self._forget_positions()
        self._iterations = self.add_variable((), dtype=dtypes.int64, name="iteration")
        self._learning_rate: Any = None
        self.learning_rate = learning_rate

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; steps that were compiled with another value of it are forgotten."""
        super().__setattr__(name, value)
        if name in options_of(type(self)) and "_functions" in vars(self):
            self._forget_steps()
            self._fill_slots()

    @property
    def variables(self) -> list[Variable]:
        """The state: the count of steps, the learning rate where it is a number, and the slots."""
        return list(self._variables)

    @property
    def iterations(self) -> Any:
        """How many updates were made: a variable, which can be assigned to."""
        if self.gradient_accumulation_steps:
            return self._iterations // self.gradient_accumulation_steps
        return self._iterations

    @property
    def learning_rate(self) -> Any:
        """The learning rate now: a variable, or what the schedule or function gives."""
        if isinstance(self._learning_rate, schedules.LearningRateSchedule):
            return self._learning_rate(self._iterations)
        return self._learning_rate() if self._is_function else self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        old = self._learning_rate
        if not callable(value) and not isinstance(value, Variable):
            if isinstance(old, Variable):
                old.assign(_as_number(value, old.dtype))
                return
            if isinstance(old, schedules.LearningRateSchedule):
                raise DTypeError(
                    "This optimizer was created with a `LearningRateSchedule` object as its "
                    "`learning_rate` constructor argument, hence its learning rate is not "
                    "settable. Give it a number at first, or assign another schedule", here()
                )  # fmt: skip
            number = _as_number(value)
            wanted = dtypes.float64 if number.dtype == np.float64 else dtypes.float32
            value = self.add_variable((), number, wanted, "learning_rate")
        elif isinstance(value, Variable):
            self._variables.append(value)
        self._learning_rate = value
        self._is_function = callable(value)
        self._variables = [v for v in self._variables if v is not old]
        self._forget_positions()

    lr = learning_rate

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the state of those `variables` that have none yet."""
        new = [v for v in variables if id(v) not in self._positions]
        for v in new:
            _check_trainable(v, self)
        self._trainable_variables += new
        self._forget_positions()
        self._fill_slots()
        self.built = True

    def _fill_slots(self) -> None:
        """Make the slots that are missing: of new variables, or for an option that was changed."""
        kept = {"average": self.use_ema, "gradient_accumulator": self.gradient_accumulation_steps}
        for name in (name for name, wanted in kept.items() if wanted):
            for k in range(len(self._trainable_variables)):
                self._fill_slot(name, k, 0.0)
        for k in range(len(self._trainable_variables)):
            for name, start in self.slots().items():
                self._fill_slot(name, k, start)

    def _fill_slot(self, name: str, k: int, start: float) -> None:
        found = self._slots.setdefault(name, [])
        if len(found) == k:
            v = self._trainable_variables[k]
            found.append(self.add_variable_from_reference(v, name, start))

    def add_variable(
        self, shape: Any, initializer: Any = "zeros", dtype: Any = None, name: str | None = None
    ) -> Variable:
        """A new variable of the state. `initializer` is "zeros", "ones" or a number."""
        start = {"zeros": 0, "ones": 1}.get(initializer, initializer)
        wanted = dtypes.float32 if dtype is None else dtypes.as_dtype(dtype)
        array = np.full(tuple(shape), start, wanted.dtype)
        with tracing.outside():
            found = Variable(array, trainable=False, name=f"{self.name}/{name or 'variable'}")
        self._variables.append(found)
        return found

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """A new variable of the state, of the shape and dtype of another variable."""
        base = reference_variable.name.partition(":")[0]
        v = reference_variable
        return self.add_variable(
            v._type.shape, initializer, v.dtype, f"{base}/{name or 'variable'}"
        )

    def add_optimizer_variables(
        self, trainable_variables: Sequence[Variable], name: Any, initializer: Any = "zeros"
    ) -> Any:
        """`add_variable_from_reference` for each variable: a list, or one for each of the names."""
        if isinstance(name, str):
            return [
                self.add_variable_from_reference(v, name, initializer) for v in trainable_variables
            ]
        starts = initializer if isinstance(initializer, list | tuple) else [initializer] * len(name)
        return tuple(
            self.add_optimizer_variables(trainable_variables, n, i) for n, i in zip(name, starts)
        )

    def _get_variable_index(self, variable: Variable) -> int:
        place = self._positions.get(id(variable))
        if place is None:
            raise ArgumentError(
                f"Unknown variable: {variable.name!r} was not among those that {self.name} was "
                "built with", here()
            )  # fmt: skip
        return place

    def get_weights(self) -> list[Any]:
        """The values of `variables` as arrays."""
        return [v.numpy() for v in self._variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the values of `variables`."""
        if len(weights) != len(self._variables):
            raise ArgumentError(
                f"set_weights: {len(weights)} arrays for the {len(self._variables)} variables of "
                f"{self.name}; an optimizer has its slots after `build(variables)`", here()
            )  # fmt: skip
        for v, x in zip(self._variables, weights):
            v.assign(x)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments that make an optimizer like this one, without its state.

        >>> import graphgrad as gg
        >>> opt = gg.optimizers.Adam(0.5, amsgrad=True)
        >>> gg.optimizers.Adam.from_config(opt.get_config()).amsgrad
        True
        """
        rate = self._learning_rate
        if isinstance(rate, schedules.LearningRateSchedule):
            rate = schedules.serialize(rate)
        elif isinstance(rate, Variable):
            rate = float(rate.numpy())
        names = (*_options(type(self)), *self.common_options)
        return {"learning_rate": rate, **{n: getattr(self, n) for n in names if hasattr(self, n)}}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        """An optimizer from what `get_config` gave; schedules of your own are `custom_objects`."""
        config = dict(config)
        if isinstance(config.get("learning_rate"), dict):
            config["learning_rate"] = schedules.deserialize(config["learning_rate"], custom_objects)
        return cls(**config)

    def _forget_positions(self) -> None:
        """Find variables and compiled steps anew: after a change, or in a copy."""
        self._positions = {id(v): i for i, v in enumerate(self._trainable_variables)}
        self._forget_steps()

    def _forget_steps(self) -> None:
        self._functions: dict[tuple[int, ...], Any] = {}  # compiled steps, by identities
        self._last: tuple[list[Variable], Callable[..., Any]] | None = None

    def __getstate__(self) -> Any:
        fresh = ("_positions", "_functions", "_last", "_shared")
        return {k: v for k, v in super().__getstate__().items() if k not in fresh}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        vars(self).update(kept, _shared={})
        self._forget_positions()


def _options(kind: Any) -> tuple[str, ...]:
    """The names of a constructor's own arguments, but for the learning rate, which may change."""
    if kind not in _options_of:
        names = inspect.signature(kind.__init__).parameters
        others = ("self", "learning_rate", "options")
        _options_of[kind] = tuple(n for n in names if n not in others)
    return _options_of[kind]


_options_of: dict[Any, tuple[str, ...]] = {}


def _check_trainable(v: Variable, optimizer: State) -> None:
    if not v.dtype.is_floating:
        raise DTypeError(
            f"{type(optimizer).__name__}: the variable {v.name!r} is {v.dtype.name}; only floating "
            "variables have gradients", here()
        )  # fmt: skip


def _as_number(value: Any, dtype: Any = None) -> Any:
    """A learning rate as a scalar; a Python number is float32, as it is everywhere."""
    try:
        wanted = np.dtype(np.float32) if type(value) in (int, float) else None
        array = np.asarray(value, wanted if dtype is None else dtype.dtype)
        if array.dtype.kind in "OSU":
            raise TypeError
        return array.reshape(())[()]
    except (TypeError, ValueError) as e:
        raise ArgumentError(
            "Argument `learning_rate` should be a number, a `LearningRateSchedule`, or a function "
            f"without arguments, got {value!r}", here()
        ) from e  # fmt: skip
