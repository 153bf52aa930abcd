"""The passes on random loops and their gradients, against the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.op import ops
from graphgrad.compiler.pipeline import optimise
from graphgrad.compiler.transform.autodiff import reverse
from graphgrad.compiler.transform.controlflow import scan_values, while_values
from tests.compiler.compiling import graph_of, samples, t

F = "float64"

UNARY = ("sin", "tanh", "neg", "square", "abs")
BINARY = ("add", "sub", "mul", "maximum", "minimum")


def random_value(rng: np.random.Generator, depth: int, values: list[Any], w: Any) -> Any:
    """A random expression of f64[2, 3] over `values`, which are of this type."""
    x = values[rng.integers(len(values))]
    if depth == 0:
        return x
    draw = rng.integers(8)
    if draw < 2:
        return ops[UNARY[rng.integers(len(UNARY))]](random_value(rng, depth - 1, values, w))
    if draw < 5:
        a, b = (random_value(rng, depth - 1, values, w) for _ in range(2))
        return ops[BINARY[rng.integers(len(BINARY))]](a, b) * 0.5
    if draw == 5:
        return ops["tanh"](ops["matmul"](random_value(rng, depth - 1, values, w), w))
    if draw == 6:
        joined = ops["concat"]([x, random_value(rng, depth - 1, values, w)], 1)
        return ops["tanh"](ops["matmul"](joined, ops["concat"]([w, w], 0)))
    return random_value(rng, depth - 1, values, w).sum((0,)).broadcast_to((2, 3)) * 0.25


def random_loop(seed: int) -> Any:
    """A random scan, or loop that counts, in which state may be unread, constant, or a sum."""

    def f(a: Any, b: Any, xs: Any, w: Any) -> Any:
        rng = np.random.default_rng(seed)
        counted = bool(seed % 2)

        def step(*values: Any) -> list[Any]:
            if counted:
                i, *state = values
                slices = [ops["gather"](xs, i), ops["gather"](xs, 3 - i)]
            else:
                i, (*state, x), slices = None, values, []
                slices = [x]
            known = [*state, *slices, a]
            out = [random_value(rng, 2, known, w) for _ in range(2)]
            product = ops["matmul"](slices[0], out[0], transpose_b=True)
            total = state[2] + random_value(rng, 1, [*slices, out[1]], w)
            grown = state[3] + ops["matmul"](product, random_value(rng, 1, known, w))
            following = [out[0], state[1] if seed % 3 else out[1], total, grown]
            if counted:
                return [i + 1, *following]
            return [*following, random_value(rng, 2, known, w), random_value(rng, 1, slices, w)]

        if counted:
            found = while_values(lambda i, *_: i < 4, step, [0, a, b, a, b])
            return found[1:] if seed % 5 else found[3:4]
        found = scan_values(step, [a, b, a, b], [xs], seed % 4 == 2)
        return [found[k] for k in rng.permutation(len(found))[: 1 + seed % len(found)]]

    return f


RANDOM = t(2, 3, dtype=F), t(2, 3, dtype=F), t(4, 2, 3, dtype=F), t(3, 3, dtype=F)


@pytest.mark.parametrize("seed", range(24))
def test_random_loops_and_their_gradients_keep_their_values(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHGRAD_CHECKS", "1")
    f = random_loop(seed)
    graph = graph_of(lambda *xs: sum(y.sum(tuple(range(y.ndim))) for y in f(*xs)), *RANDOM)
    back = reverse(graph, (True,), (True,) * 4)[0]
    values = samples(RANDOM, seed)
    for before, arrays in ((graph, values), (back, [*values, np.ones(()), np.ones(())])):
        after = optimise(before)[0]
        assert len(after.params) == len(arrays)
        for a, b in zip(interpret(before, arrays), interpret(after, arrays), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)
