"""Loops whose number of steps nobody knows, with what their derivatives stack: in one program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen import llvm_growth
from graphgrad.compiler.driver import Compilation
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.autodiff import gradient_graph, jvp_graph
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.transform.controlflow import cond_values, scan_values, while_values
from graphgrad.compiler.transform.sizes import is_runtime
from graphgrad.runtime.program import Host
from tests.compiler.compiling import compile_full, graph_of, run_compiled, t
from tests.compiler.differences import masks

F = "float64"


def same(graph: Graph, arrays: list[Any], tolerance: float = 1e-11) -> Compilation:
    """Compiled in one native program, `graph` gives what the interpreter does."""
    compilation = compile_full(graph)
    assert compilation.parts is None
    assert not any(isinstance(s, Host) for s in compilation.program.steps)
    executable = run_compiled(compilation, arrays), run_compiled(compilation, arrays)
    expected = interpret(graph, arrays)
    for outputs in executable:
        for got, wanted in zip(outputs, expected, strict=True):
            assert got.shape == wanted.shape
            np.testing.assert_allclose(got, wanted, tolerance, tolerance)
    return compilation


def reverse_of(graph: Graph, arrays: list[Any]) -> tuple[Graph, list[Any]]:
    """The gradient graph, and its inputs."""
    given, wanted = masks(graph)
    outputs = interpret(graph, arrays)
    seeds = [np.cos(np.arange(o.size)).reshape(o.shape) for o, g in zip(outputs, given) if g]
    return gradient_graph(graph, given, wanted), [*arrays, *outputs, *seeds]


# -- random programs


class Program:
    """Random changes to a state of an index, a number and two vectors, with loops in loops that run
    as often as the state says. Errors do not grow."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def run(self, state: list[Any], depth: int) -> list[Any]:
        for k in range(int(self.rng.integers(1, 4)) + (depth == 2)):
            moves = [self.number, self.vector, self.product]
            if depth:
                moves += [self.loop] * 3 + [self.branch, self.scan]
            move = self.loop if depth and k == 0 else moves[self.rng.integers(len(moves))]
            state = move(list(state), depth)
        return state

    def number(self, state: list[Any], depth: int) -> list[Any]:
        read = ops["gather"](state[2], ops["mod"](state[0], 3))
        state[1] = ops["sin"](state[1] * 0.7 + read)
        state[0] = state[0] + int(self.rng.integers(1, 4))
        return state

    def vector(self, state: list[Any], depth: int) -> list[Any]:
        a, b = self.rng.integers(2, 4, 2)
        state[a] = ops["tanh"](state[a] * 0.8 + state[b] * state[1])
        return state

    def product(self, state: list[Any], depth: int) -> list[Any]:
        a, b = self.rng.integers(2, 4, 2)
        row = state[a].reshape((1, -1)) @ state[4]
        state[b] = ops["tanh"](row.reshape((-1,)) * 0.3 + state[1])
        return state

    def loop(self, state: list[Any], depth: int) -> list[Any]:
        """At most four steps, or fewer where a value says so."""
        most = ops["mod"](state[0] * int(self.rng.integers(1, 4)), 5)
        limit = [None, 3][self.rng.integers(2)]
        kind = self.rng.integers(2)

        def more(k: Any, *inner: Any) -> Any:
            near = inner[1] < 0.9
            return ops["logical_and"](k < most, near) if kind else k < most

        def body(k: Any, *inner: Any) -> list[Any]:
            return [k + 1, *self.run([*inner], depth - 1)]

        return list(while_values(more, body, [0, *state], limit) or [])[1:]

    def scan(self, state: list[Any], depth: int) -> list[Any]:
        def body(*values: Any) -> list[Any]:
            inner = self.run([*values[:-1]], depth - 1)
            return [*inner, values[-1] * inner[1]]

        rows, reverse = ops["slice"](state[2], (0,), (3,)), bool(self.rng.integers(2))
        *after, row = scan_values(body, state, [rows], reverse) or []
        after[1] = ops["tanh"](ops["sum"](row, 0) + after[1])
        return after

    def branch(self, state: list[Any], depth: int) -> list[Any]:
        odd = ops["equal"](ops["mod"](state[0], 2), 0)

        def side() -> list[Any]:
            return self.run(list(state), depth - 1)

        return list(cond_values(odd, side, side) or [])


def random_program(seed: int, size: int) -> tuple[Graph, list[Any]]:
    def f(i: Any, *state: Any) -> Any:
        return Program(seed).run([i, *state], 2)[1:4]

    types = t(dtype="int32"), t(dtype=F), t(size, dtype=F), t(size, dtype=F), t(size, size, dtype=F)
    rng = np.random.default_rng(seed)
    arrays = [np.int32(seed % 7 + 2), *(rng.normal(size=x.shape) * 0.5 for x in types[1:])]
    return graph_of(f, *types), arrays


@pytest.fixture
def one_row_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory begins with one row, so that a few steps make it grow."""
    one = llvm_growth.GROW.replace("i64 %fitting, i64 64)", "i64 %fitting, i64 1)")
    assert one != llvm_growth.GROW
    monkeypatch.setattr(llvm_growth, "GROW", one)


@pytest.mark.usefixtures("one_row_first")
@pytest.mark.parametrize("size", [3, 20])  # values in registers, or in memory
@pytest.mark.parametrize("seed", range(5))
def test_random_programs_in_reverse(seed: int, size: int) -> None:
    same(*reverse_of(*random_program(seed, size)))


@pytest.mark.usefixtures("one_row_first")
@pytest.mark.parametrize(("seed", "size"), [(8, 3), (11, 20)])
def test_random_programs_in_reverse_twice(seed: int, size: int) -> None:
    same(*reverse_of(*reverse_of(*random_program(seed, size))), 1e-9)


# -- single loops


def until(x: Any, w: Any, most: Any, limit: int | None = None) -> Any:
    """Steps of a vector, at most so many, while its sum is small."""

    def more(k: Any, y: Any, total: Any) -> Any:
        return ops["logical_and"](k < most, ops["sum"](y * y, 0) < 1e3)

    def body(k: Any, y: Any, total: Any) -> list[Any]:
        row = y.reshape((1, -1)) @ w
        new = ops["sin"](row.reshape((-1,))) + y * 1.1
        return [k + 1, new, total + ops["sum"](new, 0)]

    return list(while_values(more, body, [0, x, 0.0 * x.sum((0,))], limit) or [])[1:]


def inputs(size: int, most: int) -> list[Any]:
    rng = np.random.default_rng(size)
    return [rng.normal(size=size), rng.normal(size=(size, size)) * 0.2, np.int32(most)]


@pytest.mark.parametrize("size", [2, 20])
@pytest.mark.parametrize(("most", "limit"), [(0, None), (1, None), (2, 1), (1, 9), (70, 65)])
def test_the_number_of_steps(size: int, most: int, limit: int | None) -> None:
    types = t(size, dtype=F), t(size, size, dtype=F), t(dtype="int32")
    graph = graph_of(lambda x, w, n: until(x, w, n, limit), *types)
    same(*reverse_of(graph, inputs(size, most)))


@pytest.mark.parametrize("size", [2, 20])
def test_forward_mode_of_the_reverse_and_batches(size: int) -> None:
    types = t(size, dtype=F), t(size, size, dtype=F), t(dtype="int32")
    back, given = reverse_of(graph_of(until, *types), inputs(size, 5))
    floating = tuple(x.dtype.is_floating for x in back.types)
    ahead = jvp_graph(back, floating)
    same(ahead, [*given, *(np.sin(x + 1.0) for x, f in zip(given, floating, strict=True) if f)])
    many, _ = batch_graph(back, (True,) * len(given), 3)
    lanes = [np.stack([x, x, x]) for x in given]
    lanes[0] = lanes[0] * np.array([1.0, 2.0, 0.1])[:, None]
    lanes[2] = np.array([5, 0, 9], np.int32)
    forward = [interpret(graph_of(until, *types), [a[k] for a in lanes[:3]]) for k in range(3)]
    lanes[3 : 3 + len(forward[0])] = map(np.stack, zip(*forward, strict=True))
    same(many, lanes)
    one_by_one = [interpret(back, [a[k] for a in lanes]) for k in range(3)]
    for got, wanted in zip(run_compiled(compile_full(many), lanes), zip(*one_by_one), strict=True):
        np.testing.assert_allclose(got, np.stack(wanted), 1e-11)


@pytest.mark.parametrize("size", [2, 20])
def test_stacks_that_are_results(size: int) -> None:
    """What the run finds the size of leaves the program as an array of that size."""
    types = t(size, dtype=F), t(size, size, dtype=F), t(dtype="int32")
    back, given = reverse_of(graph_of(until, *types), inputs(size, 5))
    stacks = tuple(v for n in back.nodes for v in n.outputs if is_runtime(v.type))
    doubled = [v for n in back.nodes for v in n.outputs if n.op.name == "while_loop"]
    assert len(stacks) > 2
    same(Graph(back.params, back.nodes, (*back.outputs, *stacks, *doubled[:2])), given)


@pytest.mark.usefixtures("one_row_first")
@pytest.mark.parametrize("size", [2, 20])
def test_rows_that_growth_loses_are_found(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = llvm_growth.GROW.replace("@PyMem_RawRealloc(ptr %old", "@PyMem_RawRealloc(ptr null")
    assert lost != llvm_growth.GROW
    monkeypatch.setattr(llvm_growth, "GROW", lost)
    types = t(size, dtype=F), t(size, size, dtype=F), t(dtype="int32")
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        same(*reverse_of(graph_of(until, *types), inputs(size, 5)))
