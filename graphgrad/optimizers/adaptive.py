"""Steps that are scaled, element by element, by what the gradients' sizes have been."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import ops
from graphgrad.compiler.source import here
from graphgrad.optimizers.optimizer import Optimizer


class RMSprop(Optimizer):
    """The gradient divided by the root of a running mean of its square:

        v = rho * v + (1 - rho) * g ** 2
        x -= learning_rate * g / sqrt(v + epsilon)

    `centered` subtracts the square of the gradient's running mean from v; `momentum` adds to each
    step that many times the one before. Source: Hinton, lecture 6e of "Neural Networks for
    Machine Learning". The other options are those of `Optimizer`.

    >>> import graphgrad as gg
    >>> x = gg.Variable(2.0)
    >>> _ = gg.optimizers.RMSprop(0.5, rho=0.75).minimize(lambda: 3 * x, x)
    >>> x.numpy().round(3)
    np.float32(1.0)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered

    def slots(self) -> dict[str, float]:
        names = ["velocity"] + ["momentum"] * (self.momentum > 0)
        return dict.fromkeys(names + ["average_gradient"] * self.centered, 0.0)

    def update(self, x: Any, gradient: Any, slots: dict[str, Any], rate: Any) -> Any:
        rho = self.rho
        v = slots["velocity"] = rho * slots["velocity"] + (1 - rho) * (gradient * gradient)
        if self.centered:
            mean = rho * slots["average_gradient"] + (1 - rho) * gradient
            slots["average_gradient"] = mean
            v = v - mean * mean
        step = rate * gradient / ops["sqrt"](v + self.epsilon)
        if self.momentum > 0:
            step = slots["momentum"] = self.momentum * slots["momentum"] + step
        return x - step


class Adagrad(Optimizer):
    """The gradient divided by the root of the sum of all its squares so far:

        a += g ** 2
        x -= learning_rate * g / sqrt(a + epsilon)

    Source: Duchi et al. 2011, https://www.jmlr.org/papers/volume12/duchi11a/duchi11a.pdf. The other
    options are those of `Optimizer`.

    >>> import graphgrad as gg
    >>> x = gg.Variable(2.0)
    >>> opt = gg.optimizers.Adagrad(0.5, initial_accumulator_value=0.0)
    >>> _ = opt.minimize(lambda: 3 * x, x)
    >>> x.numpy().round(3)
    np.float32(1.5)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def slots(self) -> dict[str, float]:
        return {"accumulator": self.initial_accumulator_value}

    def update(self, x: Any, gradient: Any, slots: dict[str, Any], rate: Any) -> Any:
        a = slots["accumulator"] = slots["accumulator"] + gradient * gradient
        return x - rate * gradient / ops["sqrt"](a + self.epsilon)


class Adadelta(Optimizer):
    """Steps in the variable's own unit, from running means of the squares of gradients and steps:

        a = rho * a + (1 - rho) * g ** 2
        d = -sqrt(s + epsilon) / sqrt(a + epsilon) * g
        s = rho * s + (1 - rho) * d ** 2
        x += learning_rate * d

    Source: Zeiler 2012, https://arxiv.org/abs/1212.5701. The other options are those of
    `Optimizer`.

    >>> import graphgrad as gg
    >>> x = gg.Variable(2.0)
    >>> opt = gg.optimizers.Adadelta(1.0, rho=0.75, epsilon=1.0)
    >>> _ = opt.minimize(lambda: 2 * x, x)
    >>> x.numpy().round(3)  # 2 - 2 / sqrt(2)
    np.float32(0.586)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = rho
        self.epsilon = epsilon

    def slots(self) -> dict[str, float]:
        return {"accumulated_grad": 0.0, "accumulated_delta_var": 0.0}

    def update(self, x: Any, gradient: Any, slots: dict[str, Any], rate: Any) -> Any:
        rho, steps = self.rho, slots["accumulated_delta_var"]
        a = rho * slots["accumulated_grad"] + (1 - rho) * (gradient * gradient)
        root = ops["sqrt"](steps + self.epsilon)
        step = -(root * gradient / ops["sqrt"](a + self.epsilon))
        slots["accumulated_grad"] = a
        slots["accumulated_delta_var"] = rho * steps + (1 - rho) * (step * step)
        return x + rate * step


class Ftrl(Optimizer):
    """Follow the regularised leader, with L1 and L2 penalties on the variables.

    Source: McMahan et al. 2013, https://research.google.com/pubs/archive/41159.pdf;
    `l2_shrinkage_regularization_strength` is a penalty on the gradient's side, and `beta` the
    paper's. The other options are those of `Optimizer`.

    >>> import graphgrad as gg
    >>> x = gg.Variable(0.0)
    >>> _ = gg.optimizers.Ftrl(1.0, initial_accumulator_value=0.0).minimize(lambda: 3 * x, x)
    >>> x.numpy()
    np.float32(-1.0)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta
        if learning_rate_power > 0:
            raise ArgumentError(
                "Ftrl: `learning_rate_power` needs to be negative or zero, got "
                f"{learning_rate_power!r}", here()
            )  # fmt: skip
        for name in (
            "initial_accumulator_value", "l1_regularization_strength",
            "l2_regularization_strength", "l2_shrinkage_regularization_strength",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ArgumentError(
                    f"Ftrl: `{name}` needs to be positive or zero, got {getattr(self, name)!r}",
                    here(),
                )

    def slots(self) -> dict[str, float]:
        return {"accumulator": self.initial_accumulator_value, "linear": 0.0}

    def factors(self, rate: Any, step: Any) -> Any:
        return rate, 2 * (self.l2_regularization_strength + self.beta / (2.0 * rate))

    def update(self, x: Any, gradient: Any, slots: dict[str, Any], factors: Any) -> Any:
        rate, penalty = factors
        old, power, l1 = (
            slots["accumulator"],
            -self.learning_rate_power,
            (self.l1_regularization_strength),
        )
        a = slots["accumulator"] = old + gradient * gradient
        shrunk = gradient + 2 * self.l2_shrinkage_regularization_strength * x
        root, before = _power(a, power), _power(old, power)
        z = slots["linear"] = slots["linear"] + (shrunk - (root - before) / rate * x)
        clipped = ops["minimum"](ops["maximum"](z, -l1), l1)
        return (clipped - z) / (root / rate + penalty)


def _power(x: Any, power: float) -> Any:
    return ops["sqrt"](x) if power == 0.5 else ops["pow"](x, power)
