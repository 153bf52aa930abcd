"""Softmax regression on scikit-learn's handwritten digits: one layer, integer labels, Adam.

The loss takes logits and labels together, so no probability is ever rounded to 0, and its gradient
is the difference of the two distributions. The compiled step is one program; its report says what
became of it.

    python -m examples.softmax_regression
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import graphgrad as gg

CLASSES, TEST = 10, 360


def data() -> tuple[Any, Any, Any, Any]:
    """(images, labels) to train with, then to test with: float32 [n, 64] in [0, 1] and int32."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.data[order] / 16).astype(np.float32)
    y = digits.target[order].astype(np.int32)
    return x[TEST:], y[TEST:], x[:TEST], y[:TEST]


class SoftmaxRegression:
    def __init__(self, features: int, classes: int) -> None:
        self.w = gg.Variable(gg.zeros([features, classes]), name="w")
        self.b = gg.Variable(gg.zeros([classes]), name="b")

    def __call__(self, x: Any) -> Any:
        return gg.matmul(x, self.w) + self.b


def train(
    model: SoftmaxRegression, x: Any, y: Any, epochs: int, batch: int = 64, seed: int = 0
) -> list[float]:
    """The mean loss of each epoch."""
    optimizer = gg.optimizers.Adam(learning_rate=0.01)

    @gg.function(
        input_signature=[gg.TensorSpec([None, x.shape[1]]), gg.TensorSpec([None], gg.int32)]
    )
    def step(images: Any, labels: Any) -> Any:
        with gg.GradientTape() as tape:
            losses = gg.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images))
            loss = gg.reduce_mean(losses)
        variables = [model.w, model.b]
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    rng = np.random.default_rng(seed)
    history = []
    for _ in range(epochs):
        order = rng.permutation(len(x))
        parts = [order[i : i + batch] for i in range(0, len(order), batch)]
        history.append(float(np.mean([float(step(x[p], y[p])) for p in parts])))
    return history


def accuracy(model: SoftmaxRegression, x: Any, y: Any) -> float:
    return float(np.mean(gg.argmax(model(x), axis=1).numpy() == y))


def main(epochs: int = 30, show: Callable[[str], Any] = print) -> None:
    x, y, x_test, y_test = data()
    model = SoftmaxRegression(x.shape[1], CLASSES)
    history = train(model, x, y, epochs)
    found = accuracy(model, x_test, y_test)
    show(f"loss: {history[0]:.3f} in the first epoch, {history[-1]:.3f} in the last")
    show(f"test accuracy: {100 * found:.1f} %")
    assert history[-1] < 0.25 * history[0]
    assert found > 0.93


if __name__ == "__main__":
    main()
