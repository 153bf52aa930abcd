"""A training loop written out: a schedule of the learning rate, validation, early stopping.

A small network learns y = sin(3x) + noise. The rate is a schedule that the optimizer follows; the
loop watches the loss on points held back, keeps the best parameters, and stops when it has not
improved for a while.

    python -m examples.training_loop
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphgrad as gg


def data(count: int, seed: int) -> tuple[Any, Any]:
    """float32 x and y, [count, 1] each."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (count, 1)).astype(np.float32)
    noise = rng.normal(0, 0.1, x.shape)
    return x, (np.sin(3 * x) + noise).astype(np.float32)


class Network:
    """One hidden layer of tanh."""

    def __init__(self, hidden: int) -> None:
        self.w1 = gg.Variable(gg.random.normal([1, hidden]))
        self.b1 = gg.Variable(gg.random.normal([hidden]))
        self.w2 = gg.Variable(gg.random.normal([hidden, 1]) / hidden**0.5)
        self.b2 = gg.Variable(gg.zeros([1]))

    @property
    def variables(self) -> list[Any]:
        return [self.w1, self.b1, self.w2, self.b2]

    def __call__(self, x: Any) -> Any:
        return gg.tanh(x @ self.w1 + self.b1) @ self.w2 + self.b2


@dataclass
class EarlyStopping:
    """Remembers the best parameters; `done` when `patience` epochs brought nothing better."""

    variables: list[Any]
    patience: int
    best: float = float("inf")
    waited: int = 0
    kept: Any = None

    def update(self, loss: float) -> None:
        if loss < self.best:
            self.best, self.waited = loss, 0
            self.kept = [v.numpy().copy() for v in self.variables]
        else:
            self.waited += 1

    @property
    def done(self) -> bool:
        return self.waited >= self.patience

    def restore(self) -> None:
        for v, value in zip(self.variables, self.kept, strict=True):
            v.assign(value)


def train(epochs: int, patience: int, seed: int = 0) -> dict[str, Any]:
    """The losses and rates by epoch, and the loss on held-back points at the end."""
    gg.random.set_seed(seed)
    x, y = data(400, seed)
    x_held, y_held = data(200, seed + 1)
    network = Network(32)
    rate = gg.optimizers.schedules.CosineDecay(0.02, decay_steps=epochs)
    optimizer = gg.optimizers.Adam(learning_rate=rate)
    stopping = EarlyStopping(network.variables, patience)

    def loss(x: Any, y: Any) -> Any:
        return gg.reduce_mean((network(x) - y) ** 2)

    @gg.function
    def step(x: Any, y: Any) -> Any:
        with gg.GradientTape() as tape:
            value = loss(x, y)
        gradients = tape.gradient(value, network.variables)
        optimizer.apply_gradients(zip(gradients, network.variables, strict=True))
        return value

    validate = gg.function(loss)
    history: dict[str, Any] = {"loss": [], "held": [], "rate": []}
    for _ in range(epochs):
        history["rate"].append(float(rate(optimizer.iterations)))
        history["loss"].append(float(step(x, y)))
        history["held"].append(float(validate(x_held, y_held)))
        stopping.update(history["held"][-1])
        if stopping.done:
            break
    stopping.restore()
    history["final"] = float(validate(x_held, y_held))
    return history


def main(epochs: int = 3000, patience: int = 100, show: Callable[[str], Any] = print) -> None:
    history = train(epochs, patience)
    count = len(history["loss"])
    show(f"stopped after {count} of {epochs} epochs, rate {history['rate'][-1]:.4f}")
    show(f"loss on held-back points: {history['held'][0]:.4f}, in the end {history['final']:.4f}")
    assert count < epochs, "early stopping was not needed"
    assert history["rate"][0] > history["rate"][-1]
    assert abs(history["final"] - min(history["held"])) < 1e-6, "the best parameters are kept"
    assert history["final"] < 0.02  # the noise alone has 0.01


if __name__ == "__main__":
    main()
