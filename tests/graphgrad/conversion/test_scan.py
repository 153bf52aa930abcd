"""Which functions are left alone, by their bytecode."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

import graphgrad as gg
from graphgrad.conversion.scan import assigns_elements, may_need_conversion

WEIGHTS = [gg.Variable(gg.ones([2, 2])) for _ in range(2)]


def branches(x):
    return x if x > 0 else -x


class Dense:
    def __call__(self, x):
        return gg.nn.relu(x @ WEIGHTS[0])

    def deeper(self, x):
        return self.branching(x)

    def branching(self, x):
        if x > 0:
            return x
        return -x


class Model:
    def __init__(self):
        self.dense, self.weights = Dense(), WEIGHTS

    def __call__(self, x):
        return self.dense(x) @ self.weights[1]


MODEL = Model()


def step(x, y):
    with gg.GradientTape() as tape:
        loss = gg.reduce_mean((MODEL(x) - y) ** 2)
    gradients = tape.gradient(loss, WEIGHTS)
    gg.optimizers.SGD(0.1).apply_gradients(zip(gradients, WEIGHTS))
    return loss


def handles(x):
    try:
        return gg.sin(x)
    except ValueError:
        return x if x is None else gg.cos(x)


def keeps(x):
    with contextlib.suppress(ValueError):
        return gg.sin(x)


def stores(x):
    x[0] = 1
    return x


def nested(x):
    def inner(y):
        return y and x

    return inner


def hidden(xs):
    return gg.map_fn(branches, xs)


PLAIN = [step, handles, keeps, MODEL, MODEL.dense, lambda x: gg.exp(x) + x.shape[0]]
NEEDY = [
    branches, stores, nested, hidden, MODEL.dense.deeper, lambda x: MODEL.dense.branching(x),
    lambda x, f: f(x), lambda x: x.something(), lambda x: print(x), lambda x: not x,
    lambda x: 1 < x < 2, lambda x: branches(x),
]  # fmt: skip


@pytest.mark.parametrize("k", range(len(PLAIN)))
def test_functions_without_control_flow_are_left_alone(k):
    f = PLAIN[k]
    assert not may_need_conversion(f)
    assert not assigns_elements(f)


@pytest.mark.parametrize("k", range(len(NEEDY)))
def test_functions_with_control_flow_are_found(k):
    assert may_need_conversion(NEEDY[k])


def test_assignments_to_elements_are_found_alone():
    assert assigns_elements(stores)
    assert assigns_elements(lambda x: stores(x))
    assert not assigns_elements(branches)


def test_a_name_that_the_library_has_too_is_found_out_in_time():
    class Own:
        def numpy(self, x):
            return x if x > 0 else -x

    own = Own()
    traced = gg.function(lambda x, box: box[0].numpy(x))
    assert not may_need_conversion(traced.python_function)
    assert float(traced(gg.constant(-3.0), [own])) == 3


def test_what_needs_no_conversion_does_not_load_it():
    code = (
        "import sys, graphgrad as gg\n"
        "f = gg.function(lambda x: gg.nn.relu(x @ x))\n"
        "f(gg.ones([2, 2]))\n"
        "print(sorted(m for m in sys.modules if 'conversion.' in m))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = [f"graphgrad.conversion.{name}" for name in ("forms", "library", "scan")]
    assert out.stdout.split("'")[1::2] == names
