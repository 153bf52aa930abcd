"""A first tour of graphgrad: learn to read handwritten digits.

The data are the 1,797 scans of 8 x 8 pixels that scikit-learn brings along, so nothing is
downloaded. A network of three layers is trained with Adam, which is written out here as what it
is: a few lines of arithmetic on variables. Forward pass, gradients and update are one Python
function, `step`, and `gg.function` makes one compiled program of it.

    python -m examples.digits
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import graphgrad as gg

SIZES = (64, 128, 64, 10)  # pixels, two hidden layers, digits
BATCH = 64
RATE, DECAY_1, DECAY_2, EPSILON = 2e-3, 0.9, 0.999, 1e-7  # of Adam, in the paper's order


# Data: NumPy arrays, as everywhere. Tensors are made of them when they meet an operation.


def load_data(seed: int = 0) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """(images, labels) to train with and to test with: float32 [n, 64] and int32 [n].

    A pixel of the training images has mean 0 and variance 1; the test images are shifted and
    scaled by the same amounts.
    """
    digits = load_digits()
    x, x_test, y, y_test = train_test_split(
        digits.data.astype(np.float32),
        digits.target.astype(np.int32),
        test_size=0.2,
        random_state=seed,
        stratify=digits.target,
    )
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-3  # some pixels are always white
    return ((x - mean) / deviation, y), ((x_test - mean) / deviation, y_test)


def batches(images: Any, labels: Any, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
    """All examples once, in a random order, BATCH at a time; the last batch may be smaller."""
    order = rng.permutation(len(images))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        yield gg.constant(images[chosen]), gg.constant(labels[chosen])


# Model: what is learned lies in variables. There is no layer class; a layer is a line.


class Network:
    """Three dense layers. `network(images)` gives one logit a digit: [n, 64] -> [n, 10]."""

    def __init__(self) -> None:
        self.parameters: list[gg.Variable] = []
        for rows, columns in pairwise(SIZES):
            spread = (2 / rows) ** 0.5  # He's, for relu
            self.parameters.append(gg.Variable(gg.random.normal([rows, columns], stddev=spread)))
            self.parameters.append(gg.Variable(gg.zeros([columns])))

    def __call__(self, images: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = self.parameters
        hidden = gg.nn.relu(images @ w1 + b1)
        hidden = gg.nn.relu(hidden @ w2 + b2)
        return hidden @ w3 + b3


class AdamState:
    """What Adam remembers: the number of steps, and two running means for each parameter."""

    def __init__(self, parameters: list[gg.Variable]) -> None:
        self.steps = gg.Variable(0.0, trainable=False)
        self.means = [gg.Variable(gg.zeros_like(p), trainable=False) for p in parameters]
        self.squares = [gg.Variable(gg.zeros_like(p), trainable=False) for p in parameters]


def adam(parameters: list[gg.Variable], gradients: list[Any], state: AdamState) -> None:
    """Move each parameter against its gradient, as Kingma and Ba do (arXiv 1412.6980)."""
    state.steps.assign_add(1.0)
    rate = RATE * gg.sqrt(1 - DECAY_2**state.steps) / (1 - DECAY_1**state.steps)
    for p, g, mean, square in zip(parameters, gradients, state.means, state.squares):
        mean.assign(DECAY_1 * mean + (1 - DECAY_1) * g)
        square.assign(DECAY_2 * square + (1 - DECAY_2) * gg.square(g))
        p.assign_sub(rate * mean / (gg.sqrt(square) + EPSILON))


def make_step(network: Network) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The training step: it changes the network, and returns loss and accuracy of the batch."""
    state = AdamState(network.parameters)

    # Python runs this body once, to record what it does to tensors; that record, with the
    # gradients that the tape adds to it, is compiled. `None` leaves the batch size open, so that
    # the smaller last batch of an epoch runs the same program.
    @gg.function(input_signature=[gg.TensorSpec([None, 64]), gg.TensorSpec([None], gg.int32)])
    def step(images: Any, labels: Any) -> tuple[Any, Any]:
        with gg.GradientTape() as tape:
            logits = network(images)
            losses = gg.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            loss = gg.reduce_mean(losses)
        adam(network.parameters, tape.gradient(loss, network.parameters), state)
        right = gg.equal(gg.argmax(logits, axis=1, output_type=gg.int32), labels)
        return loss, gg.reduce_mean(gg.cast(right, gg.float32))

    return step


def accuracy_on(network: Network, images: Any, labels: Any) -> float:
    """The share of the images that the network reads rightly."""
    guesses = gg.argmax(network(gg.constant(images)), axis=1)  # not compiled: it runs as it stands
    return float(np.mean(guesses.numpy() == labels))


# Training


def train(
    network: Network,
    step: Any,
    data: tuple[Any, Any],
    test: tuple[Any, Any],
    epochs: int,
    seed: int,
) -> dict[str, list[float]]:
    """Train with progress shown; returns the loss of each step and the test accuracy per epoch."""
    rng = np.random.default_rng(seed)
    history: dict[str, list[float]] = {"loss": [], "accuracy": []}
    with tqdm(total=epochs * -(-len(data[0]) // BATCH), unit="step", desc="training") as bar:
        for _ in range(epochs):
            for images, labels in batches(*data, rng):
                loss, _ = step(images, labels)
                history["loss"].append(float(loss))
                bar.update()
            history["accuracy"].append(accuracy_on(network, *test))
            bar.set_postfix(loss=f"{loss:.4f}", test=f"{history['accuracy'][-1]:.1%}")
    return history


def steps_per_second(step: Callable[..., Any], batch: tuple[Any, Any], seconds: float) -> float:
    """How often `step` can run in a second, by the fastest run within `seconds`.

    The fastest, because what else the machine does can only slow a run down.
    """
    fastest, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        step(*batch)
        fastest = min(fastest, time.perf_counter() - start)
    return 1 / fastest


def save_plot(history: dict[str, list[float]], path: Path) -> None:
    """Draw loss and test accuracy over the steps."""
    matplotlib.use("Agg")  # draws to files, without a display
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.semilogy(history["loss"], linewidth=0.8)
    left.set(title="training loss", xlabel="step", ylabel="cross-entropy")
    right.plot(range(1, len(history["accuracy"]) + 1), history["accuracy"], marker=".")
    right.set(title="test accuracy", xlabel="epoch", ylabel="share read rightly")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Train, test, compare compiled with eager, and look inside the compiled program."""
    parser = argparse.ArgumentParser(description="Train a digit classifier with graphgrad.")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, default=Path("build/digits.png"))
    options = parser.parse_args()

    # The matrix products here are small. Compiled ones stay on one thread by themselves; eager ones
    # are NumPy's, whose library shares them, and then waits whenever other programs need the core.
    gg.config.threading.set_intra_op_parallelism_threads(1)

    gg.random.set_seed(options.seed)
    data, test = load_data(options.seed)
    network = Network()
    step = make_step(network)
    print(f"{len(data[0])} images to train with, {len(test[0])} to test with")

    # The first call traces and compiles. Compiled kernels are kept on disk: a second start of
    # this program finds them there.
    batch = gg.constant(data[0][:BATCH]), gg.constant(data[1][:BATCH])
    start = time.perf_counter()
    step(*batch)
    first = time.perf_counter() - start

    history = train(network, step, data, test, options.epochs, options.seed)
    save_plot(history, options.plot)

    print("\nWhat became of `step`:\n")
    print(step.report())
    print("\nThe last of its kernels, which moves the last weights, as Python:\n")
    print(step.kernels().rstrip().rpartition("\n\n")[2])

    # The same Python function, once compiled and once as plain Python, operation by operation.
    compiled = steps_per_second(step, batch, seconds=0.5)
    eager = steps_per_second(step.python_function, batch, seconds=0.5)
    accuracy = history["accuracy"][-1]
    print(f"\ntest accuracy: {accuracy:.1%} (curves in {options.plot})")
    print(f"tracing, compiling and the first step: {first:.2f} s")
    print(f"compiled: {compiled:,.0f} steps/s; eager: {eager:,.0f}; ratio {compiled / eager:.1f}")
    if options.epochs >= 10:
        assert accuracy >= 0.97, f"the network should reach 97 %, but has {accuracy:.1%}"


if __name__ == "__main__":
    main()
