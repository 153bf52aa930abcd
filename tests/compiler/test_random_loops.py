"""Random programs of loops, branches and updates of tables: native code against the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.kernels import updates_in_place
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.controlflow import cond_values, scan_values, while_values
from graphgrad.runtime.program import Host
from tests.compiler.compiling import compile_full, graph_of, run_compiled, t

DEPTH = 2  # of loops and branches within the first loop
SIZES = (6, 40)  # of a table: state of so few elements is held in registers, or in memory


class Program:
    """Random changes to a state of an index, a number and three tables; errors do not grow."""

    def __init__(self, seed: int, size: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = size

    def run(self, state: list[Any], depth: int) -> list[Any]:
        for _ in range(self.rng.integers(1, 5)):
            moves = [self.number, self.update, self.update, self.scatter, self.exchange, self.whole]
            if depth:
                moves += [self.branch, self.loop, *[self.scan] * (depth == DEPTH)]
            state = moves[self.rng.integers(len(moves))](list(state), depth)
        return state

    def table(self) -> int:
        return int(self.rng.integers(2, 5))

    def place(self, index: Any) -> Any:
        return ops["mod"](
            index * int(self.rng.integers(1, 4)) + int(self.rng.integers(9)), self.size
        )

    def number(self, state: list[Any], depth: int) -> list[Any]:
        read = ops["gather"](state[self.table()], self.place(state[0]))
        state[1] = ops["sin"](state[1] * 0.5 + read * 0.3)
        state[0] = state[0] + 1
        return state

    def update(self, state: list[Any], depth: int) -> list[Any]:
        a, b = self.table(), self.table()
        block = ops["dynamic_slice"](
            state[b], (ops["mod"](self.place(state[0]), self.size - 1),), (2,)
        )
        start = ops["mod"](self.place(state[0]), self.size - 1)
        state[a] = ops["update_slice"](state[a], (block + state[1]) * 0.5, (start,))
        return state

    def scatter(self, state: list[Any], depth: int) -> list[Any]:
        a, mode = self.table(), ("update", "max", "min")[self.rng.integers(3)]
        new = ops["tanh"](state[1] + ops["sum"](state[self.table()], 0) * 0.1).reshape((1,))
        state[a] = ops["scatter"](state[a], new, self.place(state[0]).reshape((1,)), mode)
        return state

    def exchange(self, state: list[Any], depth: int) -> list[Any]:
        tables = [state[2 + k] for k in self.rng.integers(0, 3, 3)]
        return [*state[:2], *tables]

    def whole(self, state: list[Any], depth: int) -> list[Any]:
        a, b, c = self.table(), self.table(), self.table()
        state[a] = ops["tanh"](state[b] + state[c] * state[1]) * 0.5
        return state

    def branch(self, state: list[Any], depth: int) -> list[Any]:
        condition = ops["equal"](ops["mod"](self.place(state[0]), 2), 0)
        return list(
            cond_values(
                condition, lambda: self.run(state, depth - 1), lambda: self.run(state, depth - 1)
            )
            or []
        )

    def loop(self, state: list[Any], depth: int) -> list[Any]:
        trips = int(self.rng.integers(0, 4))

        def body(k: Any, *inner: Any) -> list[Any]:
            return [k + 1, *self.run(list(inner), depth - 1)]

        outs = while_values(lambda k, *_: k < trips, body, [0, *state])
        return list(outs or [])[1:]

    def scan(self, state: list[Any], depth: int) -> list[Any]:
        over, kept, reverse = self.table(), self.table(), bool(self.rng.integers(2))

        def body(*values: Any) -> list[Any]:
            inner = self.run([*values[:-1]], depth - 1)
            old_or_new = (values if self.rng.integers(2) else inner)[kept]
            return [*inner, values[-1] * inner[1], old_or_new]

        *after, row, stack = scan_values(body, state, [state[over]], reverse) or []
        after[2] = ops["tanh"](row + after[3]) * 0.5
        after[4] = ops["tanh"](ops["sum"](stack, 1))
        return after


def difference(seed: int, size: int) -> float:
    """The greatest difference between a random program's compiled and interpreted results."""

    def f(*state: Any) -> Any:
        program = Program(seed, size)
        return while_values(
            lambda k, *_: k < 3, lambda k, *s: [k + 1, *program.run(list(s), DEPTH)], [0, *state]
        )

    types = t(dtype="int64"), t(dtype="float64"), *[t(size, dtype="float64")] * 3
    graph = graph_of(f, *types)
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(seed), np.asarray(rng.normal()), *rng.normal(size=(3, size))]
    compilation = compile_full(graph)
    assert not any(isinstance(s, Host) for s in compilation.program.steps)
    pairs = zip(run_compiled(compilation, arrays), interpret(graph, arrays), strict=True)
    return max(float(np.max(np.abs(got - expected))) for got, expected in pairs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(10))
def test_random_loops(seed: int, size: int) -> None:
    assert difference(seed, size) < 1e-12


def test_a_planted_update_of_what_is_still_read_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates_in_place, "is_last", lambda *_: True)
    assert any(difference(seed, SIZES[1]) > 1e-9 for seed in range(10))
