"""Compiled steps of optimizers: variables in place, and how many launches."""

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.runtime.memory import address


@pytest.mark.parametrize(
    "make",
    [
        lambda: gg.optimizers.SGD(0.1, momentum=0.9),
        lambda: gg.optimizers.Adam(0.1, amsgrad=True),
        lambda: gg.optimizers.RMSprop(0.1, centered=True, momentum=0.5),
        lambda: gg.optimizers.Adam(0.1, use_ema=True, ema_overwrite_frequency=3),
        lambda: gg.optimizers.Adam(0.1, gradient_accumulation_steps=2),
        lambda: gg.optimizers.Adam(0.1, global_clipnorm=0.5),
    ],
)
def test_variables_and_slots_are_written_in_place(make):
    opt, v = make(), gg.Variable(np.ones((20, 30), np.float32))
    g = gg.ones((20, 30))
    for _ in range(3):
        opt.apply([g], [v])
    state = [v, *(s for s in opt.variables if s.shape == (20, 30))]
    before = {address(x.tensor().array) for x in state}
    opt.apply([g], [v])
    assert {address(x.tensor().array) for x in state} == before
    assert g.numpy().min() == 1.0


def network(layers, width):
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=(width, width), scale=width**-0.5) for _ in range(layers)]
    variables = [gg.Variable(w.astype(np.float32)) for w in weights]
    variables += [gg.Variable(np.zeros(width, np.float32)) for _ in range(layers)]

    def gradients(x):
        with gg.GradientTape() as tape:
            for w, b in zip(variables[:layers], variables[layers:]):
                x = gg.tanh(x @ w + b)
            loss = gg.reduce_mean(x * x)
        return tape.gradient(loss, variables)

    return variables, gradients


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SGD", {"momentum": 0.9}),
        ("Adam", {}),
        ("RMSprop", {"centered": True}),
        ("AdamW", {"use_ema": True, "ema_overwrite_frequency": 2, "clipvalue": 0.01}),
        ("Nadam", {"gradient_accumulation_steps": 2}),
        ("Adam", {"global_clipnorm": 0.01}),
    ],
)
def test_the_updates_of_a_compiled_step_are_one_launch(kind, options):
    layers, width = (6, 8) if options else (50, 8)
    x = gg.constant(np.random.default_rng(0).normal(size=(5, width)).astype(np.float32))
    results = []
    for compiled in (True, False):
        variables, gradients = network(layers, width)
        opt = getattr(gg.optimizers, kind)(0.01, **options)

        def step(x):
            opt.apply_gradients(zip(gradients(x), variables))  # noqa: B023

        if compiled:
            step = gg.function(step)
        for _ in range(4):
            step(x)
        results.append([v.numpy() for v in variables])
        if compiled and "global_clipnorm" not in options:  # whose squares are summed together
            kernels = [k for k in step.report().split("\n\n") if k.startswith("kernel")]
            together = [k for k in kernels if f"[{2 * layers} in one launch: 64" in k]
            assert len(together) == 1
            assert sum("sqrt" in k and "in one launch" not in k for k in kernels) <= 1  # factors
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
