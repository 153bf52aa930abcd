"""Adam and what was made of it: steps by running means of the gradient and of its square."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.source import here
from graphgrad.optimizers.optimizer import Optimizer


def _mean(old: Any, new: Any, beta: Any) -> Any:
    """The running mean `beta * old + (1 - beta) * new`, as Keras rounds it."""
    return old + (new - old) * (1 - beta)


class _Moments(Optimizer):
    """An optimizer with two decay rates and an epsilon."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon


class Adam(Optimizer):
    """Running means of the gradient (m) and of its square (v), both corrected for their start:

        m += (g - m) * (1 - beta_1)
        v += (g ** 2 - v) * (1 - beta_2)
        x -= learning_rate * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t) * m / (sqrt(v) + epsilon)

    `amsgrad` divides by the largest v so far. `epsilon` is the paper's "epsilon hat". Source:
    Kingma & Ba 2014, https://arxiv.org/abs/1412.6980. The other options are those of `Optimizer`.

    >>> import graphgrad as gg
    >>> x = gg.Variable([3.0, -0.25])
    >>> _ = gg.optimizers.Adam(0.5).minimize(lambda: gg.reduce_sum(x * x), x)
    >>> x.numpy().round(3)
    array([2.5 , 0.25], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad

    def slots(self) -> dict[str, float]:
        named = {"momentum": 0.0, "velocity": 0.0}
        return {**named, "velocity_hat": 0.0} if self.amsgrad else named

    def factors(self, rate: Any, step: Any) -> Any:
        first, second = (1 - ops["pow"](beta, step) for beta in (self.beta_1, self.beta_2))
        return rate * ops["sqrt"](second) / first

    def update(self, x: Any, gradient: Any, slots: dict[str, Any], alpha: Any) -> Any:
        m = slots["momentum"] = _mean(slots["momentum"], gradient, self.beta_1)
        v = slots["velocity"] = _mean(slots["velocity"], gradient * gradient, self.beta_2)
        if self.amsgrad:
            v = slots["velocity_hat"] = ops["maximum"](slots["velocity_hat"], v)
        return x - m * alpha / (ops["sqrt"](v) + self.epsilon)


class AdamW(Adam):
    """Adam with weight decay: before the update, `x -= learning_rate * weight_decay * x`.

    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1711.05101. The other options are those
    of `Optimizer`.

    >>> import graphgrad as gg
    >>> x = gg.Variable(2.0)
    >>> _ = gg.optimizers.AdamW(0.5, weight_decay=0.25).minimize(lambda: 3 * x, x)
    >>> x.numpy().round(3)  # 2 - 0.5 * 0.25 * 2 - 0.5
    np.float32(1.25)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options
        )
        if weight_decay is None:
            raise ArgumentError(
                "AdamW: Argument `weight_decay` must be a float, got None; Adam has none", here()
            )


class Adamax(_Moments):
    """Adam with a maximum in place of the mean of squares:

        m += (g - m) * (1 - beta_1)
        u = maximum(beta_2 * u, abs(g))
        x -= learning_rate * m / ((1 - beta_1 ** t) * (u + epsilon))

    Source: section 7 of https://arxiv.org/abs/1412.6980. The other options are those of
    `Optimizer`.

    >>> import graphgrad as gg
    >>> x = gg.Variable(2.0)
    >>> _ = gg.optimizers.Adamax(0.5).minimize(lambda: 3 * x, x)
    >>> x.numpy().round(3)
    np.float32(1.5)
    """

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0, "norm": 0.0}

    def factors(self, rate: Any, step: Any) -> Any:
        return rate, 1 - ops["pow"](self.beta_1, step)

    def update(self, x: Any, gradient: Any, slots: dict[str, Any], factors: Any) -> Any:
        rate, first = factors
        m = slots["momentum"] = _mean(slots["momentum"], gradient, self.beta_1)
        u = slots["norm"] = ops["maximum"](slots["norm"] * self.beta_2, ops["abs"](gradient))
        return x - rate * m / (first * (u + self.epsilon))


class Nadam(_Moments):
    """Adam with Nesterov's momentum, whose decay rate grows towards `beta_1` step by step.

    Source: Dozat 2016, http://cs229.stanford.edu/proj2015/054_report.pdf, with
    `u_t = beta_1 * (1 - 0.5 * 0.96 ** t)` in place of beta_1. The other options are those of
    `Optimizer`.

    >>> import graphgrad as gg
    >>> x = gg.Variable(2.0)
    >>> _ = gg.optimizers.Nadam(0.5).minimize(lambda: 3 * x, x)
    >>> x.numpy().round(3)
    np.float32(1.469)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **options)
        self._u_product = self.add_variable((), "ones", dtypes.float64, "u_product")

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def _u(self, step: Any) -> Any:
        return self.beta_1 * (1.0 - 0.5 * ops["pow"](0.96, step))

    def begin_step(self) -> None:
        step = self._updates() + 1
        self.assign(self._u_product, self._u_product * self._u(step))

    def factors(self, rate: Any, step: Any) -> Any:
        product = self._u_product.value().cast(step.dtype)
        u, following = self._u(step), self._u(step + 1)
        past = (1 - u) / (1 - product)
        ahead = following / (1 - product * following)
        beta_1, beta_2 = (current_kind().lift(b, step.dtype) for b in (self.beta_1, self.beta_2))
        return rate, past, ahead, beta_1, beta_2, 1 - ops["pow"](beta_2, step)

    def update(self, x: Any, gradient: Any, slots: dict[str, Any], factors: Any) -> Any:
        rate, past, ahead, beta_1, beta_2, second = factors
        m = slots["momentum"] = _mean(slots["momentum"], gradient, beta_1)
        v = slots["velocity"] = _mean(slots["velocity"], gradient * gradient, beta_2)
        m_hat = ahead * m + past * gradient
        return x - m_hat * rate / (ops["sqrt"](v / second) + self.epsilon)
