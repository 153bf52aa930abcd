"""Programs: memory, donation, unknown sizes, failures, determinism."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphgrad.compiler import assembly, memory_reuse
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.kernels import memory_plan
from graphgrad.compiler.kernels.memory_plan import ALIGNMENT, Lifetime, overlap, plan
from graphgrad.compiler.op import ops
from graphgrad.compiler.options import Options
from graphgrad.runtime import engine
from graphgrad.runtime.executor import KernelFailure
from graphgrad.runtime.program import evaluate
from tests.compiler import models
from tests.compiler.compiling import (
    assert_same,
    check,
    compile_full,
    graph_of,
    prepared,
    run_compiled,
    samples,
    t,
    tolerance,
)

both = models.value_and_gradients


def mlp(x: Any, w: Any, v: Any) -> Any:
    h = ops["relu"](x @ w)
    return (ops["softmax"](ops["tanh"](h @ w) @ v) * 2.0 + h.sum((0, 1))).sum((0, 1))


MLP = (t(6, 8), t(8, 8), t(8, 3))

# -- memory

SIZES = st.one_of(
    st.integers(0, 5000),
    st.sampled_from([("dim", 0, 0), ("*", ("dim", 0, 0), 4), ("*", ("dim", 0, 1), 8)]),
)
LIVES = st.lists(
    st.builds(lambda n, a, b: Lifetime(n, min(a, b), max(a, b)), SIZES, *[st.integers(0, 9)] * 2)
)


@given(LIVES)
@settings(max_examples=200)
def test_living_temporaries_never_share_bytes(lives: list[Lifetime]) -> None:
    offsets, total = plan(lives)
    for shape in ((1, 1), (17, 3), (300, 1000)):
        places = [
            (evaluate(o, [shape]), evaluate(x.bytes, [shape])) for o, x in zip(offsets, lives)
        ]
        for start, size in places:
            assert start % ALIGNMENT == 0
            assert start + size <= evaluate(total, [shape])
        for i, (a, n) in enumerate(places):
            for j, (b, m) in enumerate(places[:i]):
                if overlap(lives[i], lives[j]):
                    assert a + n <= b or b + m <= a or not n or not m


def test_memory_is_used_again() -> None:
    def fn(x: Any, w: Any) -> Any:
        for _ in range(8):
            x = ops["tanh"](x @ w)
        return x

    compilation = check(fn, t(16, 16), t(16, 16), python=False)
    temps = compilation.program.temps
    assert len(temps) > 10
    assert compilation.program.arena_bytes <= 3 * 16 * 16 * 4


def test_planted_overlap_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(both(mlp, [1, 2]), *MLP)
    check(graph)
    monkeypatch.setattr(assembly, "plan_memory", lambda lives: ([0] * len(lives), plan(lives)[1]))
    with pytest.raises(AssertionError):
        check(graph, python=False)
    assert memory_plan.plan is plan


# -- donation


def donated(compilation: Any, arrays: list[Any]) -> tuple[list[Any], set[int]]:
    """The outputs when every input is offered, and the addresses of inputs."""
    given = [a.copy() for a in arrays]
    places = {a.ctypes.data for a in given}
    return prepared(compilation).run(given, [True] * len(given)), places


DONATIONS: list[tuple[Callable[..., Any], int]] = [
    (lambda x, y: x - y * 0.5, 1),  # updates in place
    (lambda x, y: [x - y, y * 2.0], 2),
    (lambda x, y: [x - y, x * 2.0], 2),
    (lambda x, y: ops["slice"](x, (0, 19), (20, 20), (1, -1)) + y, 1),
    (lambda x, y: x + x.transpose((1, 0)), 0),
    (lambda x, y: models.softmax(x), 0),  # reads x in two sweeps
    (lambda x, y: [x * x.sum((0,), True)], 1),  # in a kernel of its own
    (lambda x, y: [x * 2.0, x.sum((0,))], 1),
    (lambda x, y: [x * 2.0, x @ y], 0),  # read later
]


@pytest.mark.parametrize(("fn", "pairs"), DONATIONS)
def test_donation_changes_nothing(fn: Any, pairs: int) -> None:
    graph = graph_of(fn, t(20, 20), t(20, 20))
    compilation = compile_full(graph)
    arrays = samples(graph.types)
    expected = run_compiled(compilation, arrays)
    got, places = donated(compilation, arrays)
    assert_same(got, expected)
    assert len(compilation.program.donations) >= min(pairs, 1)
    taken = [a.ctypes.data in places for a in got]
    assert sum(taken) == len(compilation.program.donations)


def test_an_input_read_after_the_store_is_not_donated() -> None:
    """Although it is read at the same element and in the same sweep."""

    def fn(x: Any, y: Any) -> list[Any]:
        m = ops["maximum"](x.cast(y.dtype), 1.0)
        return [m + 1.0, ops["where"](m > 2.0, y, 0.0).sum((0,))]

    graph = graph_of(fn, t(20, dtype="uint8"), t(20))
    compilation = compile_full(graph)
    arrays = samples(graph.types)
    assert compilation.program.donations == ()
    assert_same(donated(compilation, arrays)[0], run_compiled(compilation, arrays))


def test_planted_unsafe_donation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def every_pair(nest: Any) -> list[tuple[int, int]]:
        roles = [(i, a.role) for i, a in enumerate(nest.arrays)]
        return [(o, i) for o, r in roles if r == "out" for i, q in roles if q == "in"]

    monkeypatch.setattr(memory_reuse, "in_place_pairs", every_pair)
    graph = graph_of(lambda x: x + x.transpose((1, 0)), t(20, 20))
    compilation = compile_full(graph)
    arrays = samples(graph.types)
    with pytest.raises(AssertionError):
        assert_same(donated(compilation, arrays)[0], interpret(graph, arrays))


# -- unknown sizes


def symbolic(*names: str) -> list[Any]:
    scope = DimScope()
    return [scope.symbol(name, 0, axis) for axis, name in enumerate(names)]


def rowwise(x: Any, b: Any) -> list[Any]:
    h = ops["tanh"](x + b)
    return [models.softmax(h), h.sum((0,)), h.sum((0, 1)), ops["max"](h, 1)]


def test_one_program_serves_every_batch_size() -> None:
    (n,) = symbolic("n")
    graph = graph_of(rowwise, t(n, 19), t(19))
    compilation = compile_full(graph)
    executable = prepared(compilation)
    for rows in (1, 2, 16, 33, 0, 7):
        arrays = samples(graph.types, sizes=[rows])
        got = executable.run(arrays)
        assert_same(got, interpret(graph, arrays), tolerance(graph, arrays))


def test_a_value_that_lacks_an_axis_is_computed_once_a_row_and_stored_when_rows_are_empty() -> None:
    n, m = symbolic("n", "m")

    def fn(y: Any, x: Any) -> list[Any]:
        e = ops["exp"](x)
        stretched = e.reshape((n, 1)).broadcast_to((n, m)) * y
        return [e, stretched, stretched.sum((0, 1))]

    graph = graph_of(fn, t(n, m), t(n))
    compilation = compile_full(graph)
    (step,) = compilation.steps
    assert step.nest is not None
    (exp,) = [p.kind for p in step.nest.phases for s in p.stmts if s.fn == "exp"]
    assert exp == "row"
    executable = prepared(compilation)
    for shape in ((3, 0), (0, 3), (5, 33)):
        arrays = samples(graph.types, sizes=shape)
        assert_same(executable.run(arrays), interpret(graph, arrays), tolerance(graph, arrays))


def test_both_sizes_unknown() -> None:
    n, m = symbolic("n", "m")

    def fn(x: Any, w: Any) -> list[Any]:
        y = ops["tanh"](x) * 2.0
        return [
            y, y.sum((1,)), y.transpose((1, 0)) + 1.0, y @ w, y.reshape((n * m,)),
            x * x.sum((1,), True),
        ]  # fmt: skip

    graph = graph_of(fn, t(n, m), t(m, 4))
    executable = prepared(compile_full(graph))
    for shape in ((3, 5), (1, 1), (17, 65), (64, 16)):
        arrays = samples(graph.types, sizes=shape)
        assert_same(executable.run(arrays), interpret(graph, arrays), tolerance(graph, arrays))
        check(graph, arrays=arrays)


def test_gradients_with_an_unknown_batch() -> None:
    (n,) = symbolic("n")
    graph = graph_of(both(mlp, [1, 2]), t(n, 8), *MLP[1:])
    executable = prepared(compile_full(graph))
    for rows in (1, 5, 32):
        arrays = samples(graph.types, sizes=[rows])
        assert_same(executable.run(arrays), interpret(graph, arrays), tolerance(graph, arrays))


def test_text_does_not_depend_on_sizes() -> None:
    def module(rows: int, columns: int) -> str:
        return compile_full(graph_of(rowwise, t(rows, columns), t(columns))).program.module

    assert module(40, 300) == module(57, 1003)  # in one block
    assert module(400, 300) == module(500, 1003)  # in several, below the size of hints


# -- failures


FAILURES: list[tuple[Callable[..., Any], list[int], list[int]]] = [
    (lambda x, y: ops["floordiv"](x, y), [7, 8, 9], [1, 0, 2]),
    (lambda x, y: ops["floordiv"](x, y), [1] * 100 + [7, 8, 9], [1] * 100 + [1, 0, 0]),
    (lambda x, y: ops["mod"](x, y) + 1, [7, 8, 9], [1, 2, 0]),
    (lambda x, y: ops["gather"](x * 2, y), [7, 8, 9], [1, 3, 2]),
    (lambda x, y: ops["gather"](x, y) + x, [7, 8, 9] * 9, [1, 2, -1] * 9),
    (lambda x, y: ops["floordiv"](x.sum((0,)), y.sum((0,))), [7, 8, 9], [1, -1, 0]),
    (lambda x, y: ops["floordiv"](x.reshape((3, 1)), y).sum((0,)), [7, 8, 9], [1, 2, 0]),
]


@pytest.mark.parametrize(("fn", "x", "y"), FAILURES)
def test_kernels_fail_as_the_interpreter_does(fn: Any, x: list[int], y: list[int]) -> None:
    """The same error, values and line, of the first element that fails."""
    arrays = [np.array(v, np.int32) for v in (x, y)]
    graph = graph_of(fn, *(t(a.size, dtype="int32") for a in arrays))
    with pytest.raises(GraphgradError) as expected:
        interpret(graph, arrays)
    with pytest.raises(KernelFailure) as found:
        run_compiled(compile_full(graph), arrays)
    failure = found.value.failure
    text = failure.message.format(a=found.value.a, b=found.value.b, index=found.value.index)
    assert text == expected.value.message
    assert failure.error == type(expected.value).__name__
    assert expected.value.where is not None
    assert failure.where == expected.value.where.describe()


def test_checks_hold_for_lanes_inside_only() -> None:
    """The padding of the last vector divides by zero and must not count."""
    check(lambda x, y: ops["floordiv"](x, ops["maximum"](y, 1)), *[t(17, dtype="int32")] * 2)
    check(lambda x, y: ops["mod"](x, ops["abs"](y) + 1).sum((1,)), *[t(3, 5, dtype="int64")] * 2)


# -- the rest


def test_interpreted_program() -> None:
    graph = graph_of(mlp, *MLP)
    compilation = compile_in_full(graph, engine.host_target(), Options(compile=False))
    arrays = samples(graph.types)
    assert not compilation.program.module
    assert_same(run_compiled(compilation, arrays), interpret(graph, arrays))


def test_empty_graphs() -> None:
    check(lambda: [2.0, np.arange(3)])
    check(lambda x: [x], t(3))
    check(lambda x: [], t(3))


SCRIPT = """
import hashlib
from tests.compiler import models
from tests.compiler.test_driver import MLP, both, mlp
from tests.compiler.compiling import compile_full, graph_of, t
junk = [object() for _ in range({junk})]
h = hashlib.sha256()
for fn, types in ((both(mlp, [1, 2]), MLP), (both(models.chain, [0]), (t(1000),)),
                  (both(models.layer_norm_loss, [0, 1, 2]), (t(9, 9), t(9), t(9), t(9, 9)))):
    h.update(compile_full(graph_of(fn, *types)).program.module.encode())
print(h.hexdigest())
"""


def test_the_same_graph_gives_the_same_text() -> None:
    root = Path(__file__).parents[2]
    runs = []
    for seed in (1, 2):
        script = SCRIPT.format(junk=seed * 1234)
        environment = {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(root), "PATH": ""}
        runs.append(
            subprocess.run(
                [sys.executable, "-c", script], cwd=root, env=environment, check=True,
                capture_output=True, text=True,
            ).stdout
        )  # fmt: skip
    assert runs[0] == runs[1]
