"""A small network in the style of VGG: blocks of 3 x 3 convolutions, each followed by pooling.

After Simonyan and Zisserman (arXiv 1409.1556), with fewer layers and channels. There is nothing to
download: it learns to tell the direction of stripes, whose width, phase and colour are random, in
noisy images. Dropout acts in training only.

    python -m examples.vgg
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import graphgrad as gg

SIDE, CLASSES = 32, 4
BLOCKS = ((2, 16), (2, 32), (2, 64))  # convolutions, and their channels
DENSE = 128


def stripes(count: int, rng: np.random.Generator, side: int = SIDE) -> tuple[Any, Any]:
    """float32 images [count, side, side, 3] of stripes, and int32 numbers of their directions."""
    labels = rng.integers(0, CLASSES, count)
    angle = labels * np.pi / CLASSES
    y, x = np.mgrid[:side, :side]
    across = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    wave, phase = rng.uniform(0.6, 1.2, (count, 1, 1)), rng.uniform(0, 2 * np.pi, (count, 1, 1))
    colour = rng.normal(size=(count, 1, 1, 3))
    images = np.sin(wave * across + phase)[..., None] * colour
    images += rng.normal(0, 0.5, images.shape)
    return images.astype(np.float32), labels.astype(np.int32)


def he_normal(*shape: int) -> gg.Variable:
    """Filters or weights whose results after relu vary as much as what they are applied to."""
    return gg.Variable(gg.random.normal(shape, stddev=(2 / np.prod(shape[:-1])) ** 0.5))


class SmallVGG:
    """[n, 32, 32, 3] -> one logit a class."""

    def __init__(self) -> None:
        self.variables: list[gg.Variable] = []
        channels = 3
        for count, width in BLOCKS:
            for _ in range(count):
                self.variables += he_normal(3, 3, channels, width), gg.Variable(gg.zeros([width]))
                channels = width
        flat = channels * (SIDE // 2 ** len(BLOCKS)) ** 2
        for shape in ((flat, DENSE), (DENSE, CLASSES)):
            self.variables += he_normal(*shape), gg.Variable(gg.zeros(shape[1:]))

    def __call__(self, images: Any, training: bool) -> Any:
        following = iter(self.variables)
        x = images
        for count, _ in BLOCKS:
            for _ in range(count):
                x = gg.nn.conv2d(x, next(following), strides=1, padding="SAME")
                x = gg.nn.relu(gg.nn.bias_add(x, next(following)))
            x = gg.nn.max_pool2d(x, 2, 2, "VALID")
        x = gg.reshape(x, [len(images), -1])
        x = gg.nn.relu(x @ next(following) + next(following))
        if training:
            x = gg.nn.dropout(x, rate=0.5)
        return x @ next(following) + next(following)


def train(steps: int, batch: int, seed: int = 0) -> tuple[list[float], float]:
    """The loss of each step, and the share of new images whose direction is found."""
    gg.random.set_seed(seed)
    rng = np.random.default_rng(seed)
    network = SmallVGG()
    optimizer = gg.optimizers.Adam(learning_rate=1e-3)

    @gg.function
    def step(images: Any, labels: Any) -> Any:
        with gg.GradientTape() as tape:
            logits = network(images, training=True)
            losses = gg.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = gg.reduce_mean(losses)
        gradients = tape.gradient(loss, network.variables)
        optimizer.apply_gradients(zip(gradients, network.variables, strict=True))
        return loss

    losses = [float(step(*map(gg.constant, stripes(batch, rng)))) for _ in range(steps)]
    images, labels = stripes(256, rng)
    guesses = gg.argmax(gg.function(network)(gg.constant(images), training=False), axis=1)
    return losses, float(np.mean(guesses.numpy() == labels))


def main(steps: int = 100, batch: int = 32, show: Callable[[str], Any] = print) -> None:
    start = time.perf_counter()
    losses, accuracy = train(steps, batch)
    show(f"{steps} steps in {time.perf_counter() - start:.1f} s, tracing and compiling included")
    show(f"loss {losses[0]:.3f} at first, {np.mean(losses[-5:]):.3f} in the end")
    show(f"of new images, the direction is found in {accuracy:.1%}")
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert accuracy > 0.8


if __name__ == "__main__":
    main()
