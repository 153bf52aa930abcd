"""The demo learns, compiles once, and does the same compiled and eager."""

import numpy as np
import pytest

import graphgrad as gg
from examples import digits


@pytest.fixture(scope="module")
def data():
    return digits.load_data()


def test_a_short_training_learns_with_one_trace(data, tmp_path):
    gg.random.set_seed(1)
    network = digits.Network()
    step = digits.make_step(network)
    history = digits.train(network, step, *data, epochs=4, seed=1)
    assert history["accuracy"][-1] > 0.9
    assert len(data[0][0]) % digits.BATCH != 0  # a smaller last batch was among the calls
    assert step.experimental_get_tracing_count() == 1
    digits.save_plot(history, tmp_path / "build" / "curves.png")
    assert (tmp_path / "build" / "curves.png").stat().st_size > 1000


def test_compiled_and_eager_steps_agree(data):
    (images, labels), _ = data
    results = {}
    for mode in ("compiled", "eager"):
        gg.random.set_seed(2)
        network = digits.Network()
        step = digits.make_step(network)
        run = step if mode == "compiled" else step.python_function
        steps = digits.batches(images, labels, np.random.default_rng(2))
        losses = [float(run(*next(steps))[0]) for _ in range(5)]
        results[mode] = losses, [p.numpy().copy() for p in network.parameters]
    np.testing.assert_allclose(results["compiled"][0], results["eager"][0], rtol=1e-5)
    for compiled, eager in zip(results["compiled"][1], results["eager"][1]):
        # Adam divides by the gradient's size, so a tiny gradient's rounding shows in full.
        np.testing.assert_allclose(compiled, eager, rtol=1e-3, atol=2e-4)


def test_the_same_seed_gives_the_same_run(data):
    runs = []
    for _ in range(2):
        gg.random.set_seed(3)
        network = digits.Network()
        history = digits.train(network, digits.make_step(network), *data, epochs=1, seed=3)
        runs.append(history["loss"])
    assert runs[0] == runs[1]
