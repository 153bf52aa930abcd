"""Steps along the gradient, or its sign, with momentum."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import ops
from graphgrad.compiler.source import here
from graphgrad.optimizers.optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent: `x -= learning_rate * g`.

    With `momentum`: `m = momentum * m - learning_rate * g; x += m`, and with `nesterov` as well
    `x += momentum * m - learning_rate * g`. The other options are those of `Optimizer`.

    >>> import graphgrad as gg
    >>> x = gg.Variable(1.0)
    >>> opt = gg.optimizers.SGD(learning_rate=0.25, momentum=0.5)
    >>> for _ in range(2):
    ...     _ = opt.minimize(lambda: x * x, x)
    >>> x.numpy()
    np.float32(0.0)
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        if not 0 <= momentum <= 1:
            raise ArgumentError(
                f"SGD: `momentum` must be a number between 0 and 1, got {momentum!r}", here()
            )
        self.momentum = momentum
        self.nesterov = nesterov

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0} if self.momentum else {}

    def update(self, x: Any, gradient: Any, slots: dict[str, Any], rate: Any) -> Any:
        step = gradient * rate
        if not self.momentum:
            return x - step
        m = slots["momentum"] = slots["momentum"] * self.momentum - step
        return x + (m * self.momentum - step) if self.nesterov else x + m


class Lion(Optimizer):
    """Steps of one size: `x -= learning_rate * sign(beta_1 * m + (1 - beta_1) * g)`.

    The momentum is `m = beta_2 * m + (1 - beta_2) * g`. Source: Chen et al. 2023,
    https://arxiv.org/abs/2302.06675. The other options are those of `Optimizer`.

    >>> import graphgrad as gg
    >>> x = gg.Variable([3.0, -0.001])
    >>> _ = gg.optimizers.Lion(0.5).minimize(lambda: gg.reduce_sum(x * x), x)
    >>> x.numpy()
    array([2.5  , 0.499], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        if beta_1 <= 0 or beta_1 > 1:
            raise ArgumentError(
                "Lion: Argument `beta_1` must be in the [0, 1] range, and not 0: that is the sign "
                f"of the gradient alone; got {beta_1!r}", here()
            )  # fmt: skip
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0}

    def update(self, x: Any, gradient: Any, slots: dict[str, Any], rate: Any) -> Any:
        m = slots["momentum"]
        slots["momentum"] = m * self.beta_2 + gradient * (1.0 - self.beta_2)
        return x - rate * ops["sign"](m * self.beta_1 + gradient * (1.0 - self.beta_1))
