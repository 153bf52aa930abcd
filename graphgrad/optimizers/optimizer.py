"""What all optimizers share: state, the step around an update rule, clipping, averages, saving.

A rule is three methods: `slots` names the state of each variable, `factors` computes what the
updates of all variables of one dtype share, and `update` gives a variable's new value. The step
calls them with tensors, so that it is part of a function's graph when it is traced. Outside of
traces, a step over the same variables is one compiled function.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from operator import is_
from typing import Any

from graphgrad import nest
from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.ops.norms import clip_by_global_norm, clip_by_norm
from graphgrad.compiler.source import here, user_level
from graphgrad.compiler.types import show_shape
from graphgrad.function import Function
from graphgrad.optimizers.state import State
from graphgrad.tape import GradientTape
from graphgrad.tensor import EagerTensor
from graphgrad.variable import Variable

_OURS = "graphgrad.optimizers."


class Optimizer(State):
    """Base of the optimizers, with the options that each of them takes.

    - `learning_rate`: a number, a scalar variable, a schedule (`gg.optimizers.schedules`), or a
      function without arguments. A number can be changed at any time, `opt.learning_rate = 0.1`,
      also between the calls of a compiled function; other options are read when a step is traced.
      A Python number is a float32, also for float64 variables; np.float64(0.1) is not rounded.
    - `weight_decay`: before each update, `weight_decay * learning_rate` times a variable is
      subtracted from it.
    - one of `clipnorm` (each gradient's norm), `global_clipnorm` (the norm of all gradients
      together) and `clipvalue` (each element): gradients are scaled or cut down to it.
    - `use_ema`: keep the averages of the variables, `ema_momentum * average + (1 - ema_momentum) *
      variable`, and with `ema_overwrite_frequency=n` write them over the variables each n steps;
      `finalize_variable_values` does so at the end.
    - `loss_scale_factor`: gradients are divided by it (`scale_loss` multiplies a loss by it).
    - `gradient_accumulation_steps=n`: update at every nth call, with the mean of n gradients.

    The state of a variable, its slots, has the variable's shape and dtype, and is made when the
    variable is first met. 16-bit floats are updated in float32 and rounded once.

    An optimizer of your own overrides `slots`, `update` and perhaps `factors`, or, as in Keras,
    `build` and `update_step`.

    >>> import graphgrad as gg
    >>> class Signed(gg.optimizers.Optimizer):
    ...     def update(self, x, gradient, slots, rate):
    ...         return x - rate * gg.sign(gradient)
    >>> v = gg.Variable([1.0, -1.0])
    >>> _ = Signed(0.25).apply_gradients([(gg.constant([3.0, -8.0]), v)])
    >>> v.numpy()
    array([ 0.75, -0.75], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise TypeError(
                f"{type(self).__name__}: Argument(s) not recognized: {', '.join(unknown)}; the "
                f"options are {', '.join(self.common_options)}"
            )
        self.name = name or type(self).__name__.lower()
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self._check_options()
        self._excluded: tuple[list[Variable], list[str]] = ([], [])  # from weight decay
        self._warned: set[str] = set()
        self._due: Any = None  # while gradients accumulate: is this step's update wanted?
        self._shared: dict[Any, Any] = {}  # the factors of the step at work, by dtype
        self._begin(learning_rate)

    def _check_options(self) -> None:
        kind = type(self).__name__
        steps = self.gradient_accumulation_steps
        if steps is not None and steps < 2:
            raise ArgumentError(
                f"{kind}: `gradient_accumulation_steps` must be an integer >= 2, got {steps!r}",
                here(),
            )
        if not 0 <= self.ema_momentum <= 1:
            raise ArgumentError(
                f"{kind}: `ema_momentum` must be in the range [0, 1], got {self.ema_momentum!r}",
                here(),
            )
        every = self.ema_overwrite_frequency
        if every is not None and (not isinstance(every, int) or every < 1):
            raise ArgumentError(
                f"{kind}: `ema_overwrite_frequency` must be an integer >= 1 or None, got {every!r}",
                here(),
            )
        clips = {n: getattr(self, n) for n in ("clipnorm", "clipvalue", "global_clipnorm")}
        if sum(c is not None for c in clips.values()) > 1:
            given = ", ".join(f"{n}={c}" for n, c in clips.items())
            raise ArgumentError(
                f"{kind}: Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set, "
                f"got {given}", here()
            )  # fmt: skip

    # -- the rule

    def factors(self, rate: Any, step: Any) -> Any:
        """What the updates of all variables of one dtype share: scalars of that dtype.

        `step` is 1 at the first update.
        """
        return rate

    def update(self, x: Any, gradient: Any, slots: dict[str, Any], factors: Any) -> Any:
        """The new value of a variable `x`; new values of its slots are put into `slots`."""
        raise NotImplementedError(f"{type(self).__name__} must override `update` or `update_step`.")

    def begin_step(self) -> None:
        """Called before the updates of a step."""

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Update one variable and its slots: the rule with what is read, cast and assigned."""
        dtype = _compute_dtype(variable)
        factors = self._shared.get(dtype)
        if factors is None:
            step = self._updates().cast(dtype) + 1
            factors = self.factors(current_kind().lift(learning_rate).cast(dtype), step)
            self._shared[dtype] = factors
        place = self._get_variable_index(variable)
        own = {name: found[place] for name, found in self._slots.items() if name in self.slots()}
        values = {name: v.value().cast(dtype) for name, v in own.items()}
        x = variable.value().cast(dtype)
        if self._decays_inside and self._use_weight_decay(variable):
            x = x - x * (current_kind().lift(learning_rate).cast(dtype) * self.weight_decay)
        new = self.update(x, gradient.cast(dtype), values, factors)
        for name, v in own.items():
            self.assign(v, values[name].cast(v.dtype))
        self.assign(variable, new.cast(variable.dtype))

    def assign(self, variable: Variable, value: Any) -> None:
        """Assign as a part of the update: not while gradients are only accumulated."""
        if self._due is not None:
            value = ops["where"](self._due, value, variable.value())
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """Add as a part of the update."""
        self.assign(variable, variable + value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """Subtract as a part of the update."""
        self.assign(variable, variable - value)

    # -- steps

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]], name: Any = None) -> Any:
        """Update variables by (gradient, variable) pairs; returns the count of steps.

        A variable whose gradient is None is left as it is, with a warning.

        >>> import graphgrad as gg
        >>> v = gg.Variable([1.0, 2.0])
        >>> opt = gg.optimizers.SGD(learning_rate=0.5)
        >>> opt.apply_gradients([(gg.constant([2.0, 2.0]), v)]).numpy()
        np.int64(1)
        >>> v.numpy()
        array([0., 1.], dtype=float32)
        """
        pairs = list(grads_and_vars)
        if not pairs:
            raise ArgumentError(
                "No gradients provided for any variable: the list of pairs is empty", here()
            )
        grads, variables = zip(*pairs)
        self.apply(grads, variables)
        return self._iterations

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Update variables by their gradients, by default those that `build` was called with."""
        grads = list(grads)
        if not grads:
            return
        last = self._last
        variables = (
            list(trainable_variables)
            if trainable_variables is not None
            else self._built_variables(grads)
        )
        if state.builder is not None or not self._is_ours:
            self._check(grads, variables)
            self._step(grads, variables, self.learning_rate)
            return
        if last is None or not (
            len(last[0]) == len(grads) == len(variables) and all(map(is_, last[0], variables))
        ):
            last = self._last = self._compiled(grads, variables)
        for i, g in enumerate(grads):
            if type(g) is not EagerTensor and g is not None:
                grads[i] = current_kind().lift(g)
        if self._is_outside:
            grads.append(current_kind().lift(self.learning_rate))
        elif self._is_function:
            grads.append(self._learning_rate)
        last[1](*grads)

    def _built_variables(self, grads: list[Any]) -> list[Variable]:
        if len(grads) != len(self._trainable_variables):
            raise ArgumentError(
                f"apply: {len(grads)} gradients for {len(self._trainable_variables)} variables; "
                "call `build(variables)` first, or pass the variables", here()
            )  # fmt: skip
        return self._trainable_variables

    def _check(self, grads: list[Any], variables: list[Any]) -> None:
        """Refuse what is not one gradient for each of some different variables; build those."""
        if len(grads) != len(variables):
            raise ArgumentError(f"{len(grads)} gradients for {len(variables)} variables", here())
        places: dict[int, int] = {}
        for i, v in enumerate(variables):
            if not isinstance(v, Variable):
                raise DTypeError(
                    f"{type(self).__name__} updates gg.Variable; number {i} of the variables is "
                    f"{v!r} (the order is (gradient, variable))", here()
                )  # fmt: skip
            if id(v) in places:
                raise ArgumentError(
                    f"the variable {v.name!r} is given twice, as numbers {places[id(v)]} and {i}",
                    here(),
                )
            places[id(v)] = i
        if any(id(v) not in self._positions for v in variables):
            self.build(variables)

    def _compiled(
        self, grads: list[Any], variables: list[Any]
    ) -> tuple[list[Variable], Callable[..., Any]]:
        """The variables, and a step over them as a compiled function."""
        key = tuple(map(id, variables))
        if key not in self._functions:
            self._check(grads, variables)

            def step(*given: Any) -> None:
                rate = given[-1] if self._is_outside else self.learning_rate
                self._step(given[: len(variables)], variables, rate)

            self._functions[key] = variables, Function(step, name=f"{self.name}_step")
        return self._functions[key]

    def _step(self, grads: Sequence[Any], variables: list[Variable], rate: Any) -> None:
        """One step, in terms of tensors."""
        used, given = self._with_gradients(grads, variables)
        if self.loss_scale_factor is not None:
            given = [g / self.loss_scale_factor for g in given]
        every = self.gradient_accumulation_steps
        try:
            if every:
                self._due = _is_multiple(_count(self._iterations) + 1, every)
                given = self._accumulated(given, used, every)
            given = self._clip_gradients(given)
            self.begin_step()
            for g, v in zip(given, used):
                if not self._decays_inside and self._use_weight_decay(v):
                    factor = current_kind().lift(rate).cast(v.dtype) * self.weight_decay
                    self.assign(v, v - v * factor)
                self.update_step(g, v, rate)
        finally:
            self._due = None
            self._shared.clear()
        if self.use_ema:
            self._update_averages(variables)
        self._iterations.assign_add(1)

    def _updates(self) -> Any:
        """How many updates were made, as a float64."""
        steps, every = _count(self._iterations), self.gradient_accumulation_steps
        return ops["floor"](steps / every) if every else steps

    def _with_gradients(
        self, grads: Sequence[Any], variables: list[Variable]
    ) -> tuple[list[Variable], list[Any]]:
        """The variables that have a gradient, and the gradients, in the dtype of the update."""
        missing = [v.name for v, g in zip(variables, grads) if g is None]
        if len(missing) == len(variables):
            raise ArgumentError(
                f"No gradients provided for any variable: the gradients of {', '.join(missing)} "
                f"are None. {_WHY}", here()
            )  # fmt: skip
        news = [name for name in missing if name not in self._warned]
        if news:
            self._warned.update(news)
            warnings.warn(
                f"Gradients do not exist for variables {news} when minimizing the loss, and they "
                f"are left as they are. {_WHY}", stacklevel=user_level()
            )  # fmt: skip
        used, given = [], []
        for g, v in zip(grads, variables):
            if g is not None:
                g = current_kind().lift(g)
                if tuple(g.type.shape) != tuple(v.type.shape):
                    raise ShapeError(
                        f"the gradient of the variable {v.name!r} has shape "
                        f"{show_shape(g.type.shape)}, the variable {show_shape(v.type.shape)}",
                        here(),
                    )
                used.append(v)
                given.append(g.cast(_compute_dtype(v)))
        return used, given

    def _accumulated(self, grads: list[Any], variables: list[Variable], every: int) -> list[Any]:
        """The means of `every` gradients; those of this step go to the accumulators."""
        means = []
        for g, v in zip(grads, variables):
            place = self._slots["gradient_accumulator"][self._get_variable_index(v)]
            total = g + place.value().cast(g.dtype)
            place.assign(ops["where"](self._due, 0, total).cast(place.dtype))
            means.append(total / every)
        return means

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        if self.clipnorm:
            return [clip_by_norm(g, self.clipnorm) for g in grads]
        if self.global_clipnorm:
            return clip_by_global_norm(grads, self.global_clipnorm)[0]
        if self.clipvalue:
            return [ops["clip_by_value"](g, -self.clipvalue, self.clipvalue) for g in grads]
        return grads

    # -- weight decay and averages

    def exclude_from_weight_decay(
        self, var_list: Sequence[Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Leave variables without weight decay: those given, and those whose names contain one of
        `var_names` (regular expressions)."""
        self._excluded = (list(var_list or ()), list(var_names or ()))
        self._forget_positions()

    def _use_weight_decay(self, variable: Variable) -> bool:
        given, names = self._excluded
        return (
            self.weight_decay is not None
            and all(v is not variable for v in given)
            and not any(re.search(name, variable.name) for name in names)
        )

    def _update_averages(self, variables: list[Variable]) -> None:
        """Average the variables, from the first step's result on, and write averages over them."""
        every, done = self.ema_overwrite_frequency, self._updates()
        for v in variables:
            average = self._slots["average"][self._get_variable_index(v)]
            x = v.value()
            mixed = self.ema_momentum * average + (1 - self.ema_momentum) * x
            mean = ops["where"](ops["equal"](done, 0), x, mixed)
            average.assign(mean)
            if every:
                now = _is_multiple(done + 1, every)
                v.assign(ops["where"](now, mean, x))

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """With `use_ema`: set the variables to their averages."""
        if self.use_ema:
            self._check([None] * len(var_list), list(var_list))
            for v in var_list:
                v.assign(self._slots["average"][self._get_variable_index(v)])

    # -- gradients and updates in one

    def minimize(
        self, loss: Any, var_list: Any, tape: Any = None, grad_loss: Any = None, name: Any = None
    ) -> Any:
        """Compute the gradients of `loss` and apply them; returns the count of steps.

        `loss` is a function without arguments, or a tensor that was computed under `tape`.
        `var_list` is one variable, a structure of them, or a function that gives one.

        >>> import graphgrad as gg
        >>> x = gg.Variable(3.0)
        >>> opt = gg.optimizers.SGD(learning_rate=0.5)
        >>> _ = opt.minimize(lambda: x * x, x)
        >>> x.numpy()
        np.float32(0.0)
        """
        return self.apply_gradients(self.compute_gradients(loss, var_list, tape, grad_loss))

    def compute_gradients(
        self, loss: Any, var_list: Any, tape: Any = None, grad_loss: Any = None
    ) -> list[tuple[Any, Variable]]:
        """The (gradient, variable) pairs that `minimize` applies."""
        if not callable(loss) and tape is None:
            raise ArgumentError(
                "`tape` is required when a `Tensor` loss is passed. Received: "
                f"loss={loss}, tape={tape}; or pass a function that computes the loss", here()
            )  # fmt: skip
        if callable(loss):
            tape = GradientTape() if tape is None else tape
            with tape:
                if not callable(var_list) or isinstance(var_list, Arith):
                    tape.watch([v for v in nest.flatten(var_list) if isinstance(v, Variable)])
                loss = loss()
        if callable(var_list) and not isinstance(var_list, Arith):
            var_list = var_list()
        variables = nest.flatten(var_list)
        self._check([None] * len(variables), variables)
        return list(zip(tape.gradient(loss, variables, grad_loss), variables))

    def scale_loss(self, loss: Any) -> Any:
        """`loss` times `loss_scale_factor`, if that is set."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    @property
    def _decays_inside(self) -> bool:
        """Is weight decay a part of `update_step`, or to be done before the user's?"""
        return type(self).update_step is Optimizer.update_step

    @property
    def _is_ours(self) -> bool:
        """Are all parts of the rule graphgrad's? They read nothing else, and may be compiled."""
        return _is_ours(type(self))

    @property
    def _is_outside(self) -> bool:
        """Does the user's Python compute the learning rate, anew for each step?"""
        return self._is_function and not type(self._learning_rate).__module__.startswith(_OURS)

    def __repr__(self) -> str:
        return f"<gg.optimizers.{type(self).__name__} {self.name!r}>"


Optimizer.common_options = tuple(inspect.signature(Optimizer.__init__).parameters)[2:-1]
_RULE = ("slots", "factors", "update", "begin_step", "update_step", "build", "assign")
_known_kinds: dict[type, bool] = {}
_WHY = (
    "No differentiable operation leads from them to the loss: they were not read under the tape, "
    "or only through integers, comparisons or NumPy."
)


def _is_ours(kind: type) -> bool:
    if kind not in _known_kinds:
        _known_kinds[kind] = all(getattr(kind, n).__module__.startswith(_OURS) for n in _RULE)
    return _known_kinds[kind]


def _count(steps: Variable) -> Any:
    """A count as a float64, whose remainders and quotients cannot fail: what can fail must leave
    its variables whole, and so cannot write them in place."""
    return steps.value().cast(dtypes.float64)


def _is_multiple(count: Any, of: int) -> Any:
    return ops["equal"](count - ops["floor"](count / of) * of, 0)


def _compute_dtype(variable: Variable) -> Any:
    dtype = variable.dtype
    return dtypes.float32 if dtype.bits == 16 else dtype
