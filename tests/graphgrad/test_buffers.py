"""What reports say of buffers is what NumPy's allocator is asked for, to the byte."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import graphgrad as gg
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.work import bytes_text
from graphgrad.runtime import engine, memory
from graphgrad.runtime.buffers import Buffers, buffers
from graphgrad.runtime.executor import Executable, prepare
from graphgrad.runtime.program import Host, Native, Program
from tests.allocations import counting
from tests.compiler.compiling import samples
from tests.compiler.random_programs import random_graph
from tests.compiler.test_random_programs import PARAMS, PROGRAM
from tests.runtime.programs import elementwise, through_host

recycles = pytest.mark.skipif(not memory.RECYCLING, reason="needs the GIL")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="counts beneath libc's malloc")


def counted(run: Any) -> tuple[int, Any]:
    """The bytes that `run` asks for, and what it returns."""
    with counting() as count:
        result = run()
        return count.bytes, result


def check_program(program: Program, arrays: Sequence[np.ndarray]) -> Buffers:
    """The prediction for a native program, held to what loading and three calls allocate."""
    assert all(isinstance(step, Native) for step in program.steps)
    memory.outputs.clear()
    expected = buffers(program, [a.shape for a in arrays])
    prepare(program)  # compiles it, and what a compiler imports makes arrays of its own
    loading, executable = counted(lambda: prepare(program))
    assert loading == expected.constants
    first, results = counted(lambda: executable.run(arrays))
    assert first == expected.first - expected.constants
    again, others = counted(lambda: executable.run(arrays))
    assert again == expected.fresh + expected.recycled  # the first results are held
    del results, others
    steady, _ = counted(lambda: executable.run(arrays))
    assert steady == expected.steady
    return expected


def both(loss: Any) -> Any:
    def value_and_gradients(*args: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(args)
            y = loss(*args)
        return [y, tape.gradient(y, args)]

    return value_and_gradients


def chain(x: Any) -> Any:
    return gg.reduce_sum(gg.tanh(x) * gg.sigmoid(x) + gg.exp(-x * x) * 0.5)


def layer_norm(x: Any, gamma: Any) -> Any:
    d = x - gg.reduce_mean(x, 1, keepdims=True)
    return d * gg.math.rsqrt(gg.reduce_mean(d * d, 1, keepdims=True) + 1e-5) * gamma


def mlp(x: Any, w: Any, v: Any) -> Any:
    return gg.reduce_mean(gg.nn.softmax(gg.tanh(x @ w) @ v))


def with_table(x: Any) -> Any:
    return gg.concat([x + x, x[:, ::2]], 1), gg.one_hot([1, 2, 0], 3)


WORKLOADS = {
    "chain": (chain, [(600_000,)]),
    "chain gradient": (both(chain), [(600_001,)]),
    "layer norm gradient": (both(layer_norm), [(300, 1000), (1000,)]),
    "mlp gradient": (both(mlp), [(70, 33), (33, 500), (500, 7)]),
    "column sums": (lambda x: gg.reduce_sum(x, 0), [(4000, 100)]),
    "constants": (with_table, [(5, 12)]),
    "empty": (lambda x: x * 2.0, [(0, 3)]),
    "scalars": (both(lambda x: x * x), [()]),
    "large arena": (lambda x: gg.reduce_sum(gg.sin(x @ x) @ x), [(600, 600)]),
}


@recycles
@pytest.mark.parametrize("symbolic", [False, True], ids=["fixed", "symbolic"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_calls_allocate_what_the_report_says(name: str, symbolic: bool) -> None:
    fn, shapes = WORKLOADS[name]
    arrays = samples([gg.constant(np.zeros(s, np.float32)).type for s in shapes])
    tensors = [gg.constant(a) for a in arrays]
    specs = [gg.TensorSpec([None, *s[1:]] if symbolic and s else s) for s in shapes]
    f = gg.function(fn, input_signature=specs)
    f.get_concrete_function().ready()
    memory.outputs.clear()
    trace = f.get_concrete_function()
    expected = buffers(trace.runner.executable.program, shapes)
    first, results = counted(lambda: f(*tensors))
    assert first == expected.first - expected.constants
    del results
    for _ in range(3):  # native calls begin, with an arena in the place of the first one
        f(*tensors)
    for _ in range(2):
        steady, results = counted(lambda: f(*tensors))
        del results
        assert steady == expected.steady
    check_program(trace.runner.compilation.program, arrays)


@recycles
def test_the_report_shows_the_prediction() -> None:
    table = [2, 0, 1]
    f = gg.function(lambda x: (gg.reduce_sum(gg.sin(x @ x), 0), gg.one_hot(table, 4)))
    f(gg.ones((600, 600)))
    text = f.report()
    trace = f.get_concrete_function(gg.ones((600, 600)))
    expected = buffers(trace.runner.executable.program, [(600, 600)])
    assert expected.constants == 3 * 4 + 64
    assert 600 * 600 * 4 + 64 <= expected.arena < 2 * 600 * 600 * 4
    assert expected.fresh == 2400 + 3 * 4 * 4
    assert "76 B of constants" in text
    assert f"{bytes_text(expected.arena)} of temporaries" in text
    assert "2.45 kB of outputs, made anew" in text
    assert "not counted: what the BLAS library packs" in text


@recycles
@pytest.mark.parametrize("size", [1000, 1 << 19])
def test_variables_are_updated_without_allocating(size: int) -> None:
    v = gg.Variable(gg.zeros(size))

    @gg.function
    def step(x: Any) -> None:
        v.assign(v * 0.5 + x)

    x = gg.ones(size)
    for _ in range(4):
        step(x)
    trace = step.get_concrete_function(x)
    expected = buffers(trace.runner.executable.program, [(size,), (size,)], trace.donated)
    assert (expected.donated, expected.steady) == (4 * size, 0)
    assert counted(lambda: step(x))[0] == 0
    held = v.numpy()
    needed = memory.outputs.block_bytes(4 * size) if size > 1000 else 4 * size
    memory.outputs.clear()
    assert counted(lambda: step(x))[0] == needed  # somebody looks: it moves elsewhere
    np.testing.assert_array_equal(held, np.full(size, 2 - 0.5**4))


@recycles
@settings(max_examples=60)
@given(PARAMS, PROGRAM)
def test_random_programs(params: Any, instructions: Any) -> None:
    graph = random_graph(params, instructions, 5)
    program = compile_in_full(graph, engine.host_target()).program
    if not any(isinstance(step, Host) for step in program.steps):
        check_program(program, samples(graph.types))


@recycles
def test_larger_shapes_make_the_arena_grow_and_smaller_ones_share_it() -> None:
    f = gg.function(lambda x: gg.reduce_sum(gg.sin(x @ gg.transpose(x))),
                    input_signature=[gg.TensorSpec([None, 8])])  # fmt: skip
    runner = f.get_concrete_function().runner
    program = runner.prepared().program
    small, large = (buffers(program, [(n, 8)]).arena for n in (10, 100))
    assert 0 < small < large
    for n, expected in ((10, small), (100, large), (10, 0), (100, 0)):
        x = np.ones((n, 8), np.float32)
        found, y = counted(lambda x=x: runner.run([x]))
        assert found == expected + 4, n
        del y


def test_host_results_are_counted() -> None:
    expected = buffers(through_host(np.add), [(16,)])
    assert (expected.arena, expected.host) == (64 + 64 + 64, 64)


def test_a_wrong_prediction_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    program, x = elementwise(), np.ones(16, np.float32)
    check_program(program, [x])
    run = Executable.run
    monkeypatch.setattr(Executable, "run", lambda *args: [np.copy(a) for a in run(*args)])
    with pytest.raises(AssertionError):
        check_program(program, [x])
