"""Loops of x and w for the tests of bounded memory, and what they take."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphgrad as gg
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.ir import Graph
from graphgrad.runtime import engine
from graphgrad.runtime.buffers import buffers

X, W = np.linspace(0.1, 1.0, 8), np.linspace(0.5, 1.5, 8)


def gradients(body: Any, limit: Any, order: int = 1) -> Any:
    """A function of x and w: the result of `body`, and the gradients of its sum."""

    @gg.function(loop_memory=limit)
    def f(x: Any, w: Any) -> Any:
        with gg.GradientTape() as outer:
            outer.watch([x, w])
            with gg.GradientTape() as tape:
                tape.watch([x, w])
                y = gg.reduce_sum(body(x, w))
            first = tape.gradient(y, [x, w])
            total = gg.reduce_sum(first[0] * first[1])
        return [y, *first, *(outer.gradient(total, [x, w]) if order == 2 else [])]

    return f


def same(found: Any, expected: Any, rtol: float = 1e-11) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


def schedules(f: Any, *args: Any) -> Any:
    """How the loops of a function were divided."""
    return f.get_concrete_function(*args).schedules


def temporaries(f: Any, *args: Any) -> int:
    """The bytes that a call takes for its temporaries."""
    graph: Graph = f.get_concrete_function(*args).graph
    program = compile_in_full(graph, engine.host_target()).program
    return buffers(program, [a.shape for a in args]).arena


def steps(count: int) -> Any:
    def body(x: Any, w: Any) -> Any:
        for _ in gg.range(count):
            x = x + 0.01 * gg.sin(x * w)
        return x

    return body


def indexed(count: int) -> Any:
    def body(x: Any, w: Any) -> Any:
        for i in gg.range(count):
            x = x + 0.01 * gg.sin(x * w + gg.cast(i, "float64"))
        return x

    return body


def scanned(count: int, reverse: bool = False) -> Any:
    def body(x: Any, w: Any) -> Any:
        rows = gg.reshape(gg.range(8 * count), (count, 8))
        xs = gg.sin(gg.cast(rows, "float64")) * w
        return gg.scan(lambda a, row: gg.sin(a * w) + row, xs, x, reverse=reverse)

    return body


def nested(x: Any, w: Any) -> Any:
    for _ in gg.range(50):
        for _ in gg.range(40):
            x = x + 0.01 * gg.sin(x * w)
        x = x * 0.99
    return x


def two(x: Any, w: Any) -> Any:
    for _ in gg.range(300):
        x = x + 0.01 * gg.sin(x * w)
    for _ in gg.range(200):
        x = x + 0.01 * gg.cos(x * w)
    return x


def until(count: float) -> Any:
    """As many steps, which only the run knows."""

    def body(x: Any, w: Any) -> Any:
        end = gg.reduce_sum(x) * 0 + count
        i = 0.0
        while i < end:
            x = x + 0.01 * gg.sin(x * w)
            i = i + 1.0
        return x

    return body


def at_most(count: int) -> Any:
    def body(x: Any, w: Any) -> Any:
        return gg.while_loop(
            lambda x: gg.reduce_sum(x) < 7.0,
            lambda x: (x + 0.01 * gg.sin(x * w),),
            (x,),
            maximum_iterations=count,
        )[0]

    return body


def ranged(x: Any, w: Any) -> Any:
    count = gg.cast(gg.reduce_sum(x) * 0 + 77, "int32")
    for i in gg.range(count):
        x = x + 0.01 * gg.sin(x * w) * gg.cast(i, "float64")
    return x


def left(x: Any, w: Any) -> Any:
    for _ in gg.range(1000):
        x = x + 0.01 * gg.sin(x * w)
        if gg.reduce_sum(x) > 6.5:
            break
    return x


def open_in_known(x: Any, w: Any) -> Any:
    for _ in gg.range(20):
        i = 0.0
        while i < 3.0 + gg.reduce_max(x) * 0:
            x = x + 0.01 * gg.sin(x * w)
            i = i + 1.0
        x = x * 0.99
    return x


def known_in_open(x: Any, w: Any) -> Any:
    i = gg.reduce_max(x) * 0
    while i < 13.0:
        for _ in gg.range(30):
            x = x + 0.01 * gg.sin(x * w)
        x = x * 0.99
        i = i + 1.0
    return x


def open_in_open(x: Any, w: Any) -> Any:
    i = gg.reduce_max(x) * 0
    while i < 13.0:
        j = i
        while j < 11.0:
            x = x + 0.01 * gg.sin(x * w)
            j = j + 1.0
        if i > 5.0:
            x = x * 0.99
        i = i + 1.0
    return x


def in_branches(x: Any, w: Any) -> Any:
    i = gg.reduce_max(x) * 0
    if gg.reduce_sum(x) > 1.0:
        while i < 50.0:
            x = x + 0.01 * gg.sin(x * w)
            i = i + 1.0
    else:
        for _ in gg.range(200):
            x = gg.sin(x * w)
    return x


def by_hand(x: Any, w: Any) -> Any:
    """A body that is computed again by itself."""
    step = gg.checkpoint(lambda x: gg.sin(gg.exp(gg.cos(x * w)) + x))
    for _ in gg.range(300):
        x = step(x)
    return x
