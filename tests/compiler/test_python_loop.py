"""The Python text of loops computes what the loops do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler.codegen.python_loop import python_loop, run_python_loop
from graphgrad.compiler.interpret import run_node
from graphgrad.compiler.ir import Node, replay
from graphgrad.compiler.pipeline import optimise

ROWS = np.linspace(-1.0, 1.0, 12).reshape(6, 2)


def pendulum(x: Any, v: Any) -> Any:
    for _ in gg.range(7):
        x, v = x + 0.1 * v, v - 0.1 * gg.sin(x)
    return x * v


def until(x: Any, y: Any) -> Any:
    while x < 10.0:
        x = x * x + y
    return x


def at_most(x: Any, y: Any) -> Any:
    for i in gg.range(9):
        x = x + gg.cast(i, "float64") * y
        if x > 5.0:
            break
    return x


def nested(x: Any, y: Any) -> Any:
    for _ in gg.range(3):
        for _ in gg.range(4):
            x = gg.sin(x) + y
        x = gg.where(x > 0.5, x * 0.5, -x)
    return x


def chosen(x: Any, y: Any) -> Any:
    for i in gg.range(6):
        if i % 2 == 0:
            x = gg.exp(-x * y)
        else:
            x = x / (y + 2)
    return x


def product(x: Any, y: Any) -> Any:
    h = gg.ones([1, 2], gg.float64) * x
    w = gg.reshape(gg.stack([x, y, -y, x]), (2, 2))
    for row in gg.constant(ROWS):
        h = gg.tanh(h @ w + row)
    return gg.reduce_sum(h)


def table(x: Any, y: Any) -> Any:
    t = gg.zeros([5], gg.float64)
    for i in gg.range(1, 5):
        t[i] = t[i - 1] * x + y
    return gg.reduce_sum(t)


PROGRAMS = [pendulum, until, at_most, nested, chosen, product, table]


def compare(text_of: Any, node: Node, xs: tuple[Any, ...]) -> list[Any]:
    """The results of a loop, held to those of its text."""
    found = run_node(node, xs)
    carried = node.attrs["carried"]
    trips = node.attrs.get("trips")
    text = text_of(node, "loop")
    if trips is None or isinstance(trips, int):
        stacks = [np.empty_like(y) for y in found[carried:]]
        ends = run_python_loop(text, xs, stacks)
    else:  # lists that grow
        lists: list[list[Any]] = [[] for _ in found[carried:]]
        ends = run_python_loop(text, xs, lists)
        stacks = [np.array(rows) for rows in lists]
    for a, b in zip([*ends, *stacks] if carried else stacks, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    return list(found)


def check(loss: Any, text_of: Any = python_loop) -> int:
    """Run value and gradient node by node; how many loops there were."""
    args = np.float64(0.6), np.float64(0.3)
    f = gg.function(gg.value_and_grad(loss, argnums=(0, 1)))
    graph = optimise(f.get_concrete_function(*args).graph)[0]
    count = 0

    def run(node: Node, xs: tuple[Any, ...]) -> Any:
        nonlocal count
        if node.op.name not in ("scan", "while_loop"):
            return run_node(node, xs)
        count += 1
        return compare(text_of, node, xs)

    constants = f.get_concrete_function(*args).captured_arrays()
    replay(graph, [*map(np.asarray, args), *constants], run)
    return count


@pytest.mark.parametrize("loss", PROGRAMS, ids=lambda f: f.__name__)
def test_the_text_computes_what_the_loop_does(loss: Any) -> None:
    assert check(loss) >= 2


@pytest.mark.parametrize("change", [("sin", "cos"), ("reversed", ""), ("s0, s1 =", "s1, s0 =")])
def test_a_wrong_text_is_seen(change: tuple[str, str]) -> None:
    with pytest.raises(AssertionError):
        check(pendulum, lambda node, name: python_loop(node, name).replace(*change))


def test_text() -> None:
    f = gg.function(until)
    f(np.float64(2.0), np.float64(1.0))
    text = f.kernels()
    name = text[text.index("def ") + 4 : text.index("(x0")]
    line = until.__code__.co_firstlineno + 1
    assert text.replace(name, "loop") == (
        f"# while_loop, test_python_loop.py:{line}: while x < 10.0:\n"
        "def loop(x0, x1):\n"
        f"    s0 = x0  # test_python_loop.py:{line}: while x < 10.0:\n"
        "    while s0 < 10.0:\n"
        f"        v0 = square(s0) + x1  # test_python_loop.py:{line + 1}: x = x * x + y\n"
        "        s0 = v0\n"
        "    return s0\n"
    )
