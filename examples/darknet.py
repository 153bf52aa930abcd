"""A small network in the style of Darknet-19: batch normalisation, bottlenecks, global averages.

After Redmon and Farhadi (arXiv 1612.08242), with a quarter of the channels and for images of
64 x 64. Each convolution is followed by batch normalisation and leaky relu; convolutions by 1 x 1
squeeze the channels between those by 3 x 3; at the end stands the mean over the image. It learns
the stripes of `examples.vgg`.

    python -m examples.darknet
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import graphgrad as gg
from examples.vgg import CLASSES, he_normal, stripes

SIDE = 64
# Filters' sides and channels; "pool" halves height and width.
LAYERS: tuple[Any, ...] = (
    (3, 8), "pool",
    (3, 16), "pool",
    (3, 32), (1, 16), (3, 32), "pool",
    (3, 64), (1, 32), (3, 64), "pool",
    (3, 128), (1, 64), (3, 128), (1, 64), (3, 128), "pool",
    (3, 256), (1, 128), (3, 256), (1, 128), (3, 256),
)  # fmt: skip
EPSILON, KEPT = 1e-3, 0.9  # of batch normalisation: under the root, and of its running averages


class NormalisedConvolution:
    """Convolution, batch normalisation and leaky relu."""

    def __init__(self, side: int, channels_in: int, channels: int) -> None:
        self.filters = he_normal(side, side, channels_in, channels)
        self.scale = gg.Variable(gg.ones([channels]))
        self.offset = gg.Variable(gg.zeros([channels]))
        self.mean = gg.Variable(gg.zeros([channels]), trainable=False)
        self.variance = gg.Variable(gg.ones([channels]), trainable=False)

    def __call__(self, x: Any, training: bool) -> Any:
        x = gg.nn.conv2d(x, self.filters, strides=1, padding="SAME")
        mean, variance = self.mean, self.variance
        if training:  # those of the batch, which the running averages follow
            mean, variance = gg.nn.moments(x, axes=[0, 1, 2])
            self.mean.assign(KEPT * self.mean + (1 - KEPT) * mean)
            self.variance.assign(KEPT * self.variance + (1 - KEPT) * variance)
        x = gg.nn.batch_normalization(x, mean, variance, self.offset, self.scale, EPSILON)
        return gg.nn.leaky_relu(x, alpha=0.1)


class SmallDarknet:
    """[n, 64, 64, 3] -> one logit a class."""

    def __init__(self) -> None:
        self.layers: list[NormalisedConvolution | None] = []
        channels = 3
        for layer in LAYERS:
            if layer == "pool":
                self.layers.append(None)
                continue
            self.layers.append(NormalisedConvolution(layer[0], channels, layer[1]))
            channels = layer[1]
        self.last = he_normal(1, 1, channels, CLASSES)
        self.variables = [self.last]
        for found in filter(None, self.layers):
            self.variables += found.filters, found.scale, found.offset

    def __call__(self, images: Any, training: bool) -> Any:
        x = images
        for layer in self.layers:
            x = layer(x, training) if layer else gg.nn.max_pool2d(x, 2, 2, "VALID")
        x = gg.nn.conv2d(x, self.last, strides=1, padding="SAME")
        return gg.reduce_mean(x, axis=[1, 2])  # over the image


def train(steps: int, batch: int, seed: int = 0) -> tuple[list[float], float]:
    """The loss of each step, and the share of new images whose direction is found."""
    gg.random.set_seed(seed)
    rng = np.random.default_rng(seed)
    network = SmallDarknet()
    optimizer = gg.optimizers.SGD(learning_rate=0.02, momentum=0.9)

    @gg.function
    def step(images: Any, labels: Any) -> Any:
        with gg.GradientTape() as tape:
            logits = network(images, training=True)
            losses = gg.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = gg.reduce_mean(losses)
        gradients = tape.gradient(loss, network.variables)
        optimizer.apply_gradients(zip(gradients, network.variables, strict=True))
        return loss

    losses = [float(step(*map(gg.constant, stripes(batch, rng, SIDE)))) for _ in range(steps)]
    images, labels = stripes(128, rng, SIDE)
    guesses = gg.argmax(gg.function(network)(gg.constant(images), training=False), axis=1)
    return losses, float(np.mean(guesses.numpy() == labels))


def main(steps: int = 80, batch: int = 16, show: Callable[[str], Any] = print) -> None:
    start = time.perf_counter()
    losses, accuracy = train(steps, batch)
    show(f"{steps} steps in {time.perf_counter() - start:.1f} s, tracing and compiling included")
    show(f"loss {losses[0]:.3f} at first, {np.mean(losses[-5:]):.3f} in the end")
    show(f"of new images, the direction is found in {accuracy:.1%}")
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert accuracy > 0.8


if __name__ == "__main__":
    main()
