"""gg.train: running averages of variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphgrad import nest, tracing
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.op import ops
from graphgrad.compiler.source import here
from graphgrad.configured import Configured
from graphgrad.variable import Variable


class ExponentialMovingAverage(Configured):
    """Averages of variables in which older values count less: `a -= (1 - decay) * (a - v)`.

    An average begins with the value that the variable has when `apply` first meets it. With
    `num_updates`, a number or a variable, the decay is `min(decay, (1 + num_updates) /
    (10 + num_updates))`, so that the first values are forgotten soon.

    >>> import graphgrad as gg
    >>> v = gg.Variable(0.0)
    >>> ema = gg.train.ExponentialMovingAverage(decay=0.75)
    >>> ema.apply([v])
    >>> _ = v.assign(4.0)
    >>> ema.apply([v])
    >>> ema.average(v).numpy()
    np.float32(1.0)
    """

    def __init__(
        self,
        decay: float,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ) -> None:
        if zero_debias:
            raise ArgumentError(
                "ExponentialMovingAverage: zero_debias concerns averages of tensors, which begin "
                "at 0; those of variables begin at the variable's value", here()
            )  # fmt: skip
        self.decay = decay
        self.num_updates = num_updates
        self._name = name
        self._averages: dict[int, tuple[Variable, Variable]] = {}  # by identity of the first

    @property
    def name(self) -> str:
        return self._name

    def apply(self, var_list: Variable | Sequence[Variable]) -> None:
        """Move the averages towards the values that the variables have now.

        Inside of `gg.function` this is part of the trace; new averages begin at the values that
        the variables have when it is traced.
        """
        decay: Any = self.decay
        if self.num_updates is not None:
            count = ops["cast"](self.num_updates, dtype="float32")
            decay = ops["minimum"](decay, (1.0 + count) / (10.0 + count))
        for v in nest.flatten(var_list):
            if not isinstance(v, Variable) or not v.dtype.is_floating:
                raise DTypeError(
                    f"ExponentialMovingAverage: takes floating variables, got {v!r}", here()
                )
            average = self.average(v)
            if average is None:
                with tracing.outside():
                    name = f"{v.name.partition(':')[0]}/{self._name}"
                    average = Variable(v.tensor().array, trainable=False, name=name)
                self._averages[id(v)] = v, average
            rate = ops["cast"](1.0 - decay, dtype=v.dtype)
            average.assign(average - rate * (average - v))

    def average(self, var: Variable) -> Variable | None:
        """The variable that holds the average of `var`; None before `apply` has met it."""
        return self._averages.get(id(var), (var, None))[1]

    def average_name(self, var: Variable) -> str:
        """The name of the average of `var`."""
        return f"{var.name.partition(':')[0]}/{self._name}"
