"""LeNet-5 reads handwritten digits: convolutions, pooling, three dense layers.

The network is that of LeCun, Bottou, Bengio and Haffner (1998) with relu for its squashing
function, maxima for its averages, and a softmax at its end. It wants images of 32 x 32: the scans
of 8 x 8 that scikit-learn brings along, each pixel repeated four by four.

    python -m examples.lenet
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import graphgrad as gg

# Filters are (height, width, channels in, channels out), dense weights (in, out).
SHAPES = ((5, 5, 1, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 10))


BATCH = 64


def load_data(rng: np.random.Generator) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """(images, labels) to train with and to test with: float32 [n, 32, 32, 1] and int32 [n]."""
    digits = load_digits()
    order = rng.permutation(len(digits.target))
    images = digits.images[order].astype(np.float32) / 16
    images = images.repeat(4, axis=1).repeat(4, axis=2)[..., np.newaxis]
    labels = digits.target[order].astype(np.int32)
    held = len(labels) // 5
    return (images[held:], labels[held:]), (images[:held], labels[:held])


def shifted(images: Any, rng: np.random.Generator) -> Any:
    """The images moved by up to three pixels, all alike: where a digit stands tells nothing."""
    return np.roll(images, rng.integers(-3, 4, 2), axis=(1, 2))


class LeNet:
    """`network(images)` gives one logit a digit: [n, 32, 32, 1] -> [n, 10]."""

    def __init__(self) -> None:
        self.variables: list[gg.Variable] = []
        for shape in SHAPES:
            spread = (2 / np.prod(shape[:-1])) ** 0.5  # He's, for relu
            self.variables.append(gg.Variable(gg.random.normal(shape, stddev=spread)))
            self.variables.append(gg.Variable(gg.zeros(shape[-1:])))

    def __call__(self, images: Any) -> Any:
        filter_1, bias_1, filter_2, bias_2, w1, b1, w2, b2, w3, b3 = self.variables
        x = gg.nn.relu(gg.nn.conv2d(images, filter_1, 1, "VALID") + bias_1)  # 28 x 28 x 6
        x = gg.nn.max_pool2d(x, 2, 2, "VALID")
        x = gg.nn.relu(gg.nn.conv2d(x, filter_2, 1, "VALID") + bias_2)  # 10 x 10 x 16
        x = gg.nn.max_pool2d(x, 2, 2, "VALID")
        x = gg.reshape(x, [-1, 400])
        x = gg.nn.relu(x @ w1 + b1)
        x = gg.nn.relu(x @ w2 + b2)
        return x @ w3 + b3


def train(epochs: int, seed: int = 0) -> tuple[list[float], float]:
    """The losses by epoch, and the share of the test images that are read rightly."""
    gg.random.set_seed(seed)
    rng = np.random.default_rng(seed)
    (x, labels), (x_test, labels_test) = load_data(rng)
    network = LeNet()
    steps = epochs * -(-len(x) // BATCH)
    rate = gg.optimizers.schedules.CosineDecay(3e-3, decay_steps=steps)
    optimizer = gg.optimizers.Adam(learning_rate=rate)

    @gg.function(
        input_signature=[gg.TensorSpec([None, 32, 32, 1]), gg.TensorSpec([None], gg.int32)]
    )
    def step(images: Any, labels: Any) -> Any:
        with gg.GradientTape() as tape:
            losses = gg.nn.sparse_softmax_cross_entropy_with_logits(labels, network(images))
            loss = gg.reduce_mean(losses)
        gradients = tape.gradient(loss, network.variables)
        optimizer.apply_gradients(zip(gradients, network.variables, strict=True))
        return loss

    losses = []
    for _ in range(epochs):
        order = rng.permutation(len(x))
        parts = np.split(order, range(BATCH, len(x), BATCH))  # the last one is smaller
        found = [step(shifted(x[part], rng), labels[part]) for part in parts]
        losses.append(float(np.mean(found)))
    guesses = gg.argmax(gg.function(network)(x_test), axis=1)
    return losses, float(np.mean(guesses.numpy() == labels_test))


def main(epochs: int = 12, show: Callable[[str], Any] = print) -> None:
    start = time.perf_counter()
    losses, accuracy = train(epochs)
    show(f"{epochs} epochs in {time.perf_counter() - start:.1f} s, tracing and compiling included")
    show(f"loss {losses[0]:.3f} in the first, {losses[-1]:.4f} in the last")
    show(f"test accuracy {accuracy:.1%}")
    assert losses[-1] < losses[0] / 5
    assert accuracy > 0.97


if __name__ == "__main__":
    main()
