"""`gg.roofline`: what it measures, beside what, and that it changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad import measurement
from graphgrad.measurement import StepRoof


def check(found: gg.Roofline) -> None:
    """What holds for every measurement."""
    for step in found:
        assert 0 < step.seconds < 10
        bounds = [b for b in (step.memory, step.arithmetic) if b is not None]
        if not bounds:  # of Python, or of as many steps as a run finds out
            assert (step.bound, step.ratio, step.limit) == (None, None, "")
            continue
        assert step.kind != "host"
        assert step.bound == max(bounds) > 0
        assert step.ratio == step.seconds / step.bound
        assert step.limit == ("memory" if step.bound == step.memory else "arithmetic")
        if step.bytes:
            assert step.bandwidth == step.bytes / step.memory
    assert found.seconds == pytest.approx(sum(s.seconds for s in found))
    assert str(found).count("\n") == len(found) + 2


def mlp(x: Any, w: Any, v: Any) -> Any:
    with gg.GradientTape() as tape:
        tape.watch([w, v])
        loss = gg.reduce_mean(gg.nn.softmax(gg.nn.relu(x @ w) @ v) ** 2)
    return tape.gradient(loss, [w, v])


def test_every_kernel_and_product_of_a_call() -> None:
    f = gg.function(mlp)
    args = gg.ones((64, 100)), gg.ones((100, 32)), gg.ones((32, 10))
    found = gg.roofline(f, *args, rounds=1)
    check(found)
    assert [s.kind for s in found].count("routine") == 5
    assert {s.name for s in found if s.kind == "routine"} == {"matmul"}
    first = found[0]
    assert first.bytes == 4 * (64 * 100 + 100 * 32 + 64 * 32)
    assert first.flops == 2 * 64 * 100 * 32
    assert any("relu" in s.ops for s in found)
    assert f.experimental_get_tracing_count() == 1
    assert "routine matmul" in str(found)


def test_variables_keep_their_values() -> None:
    v = gg.Variable(gg.ones((300, 200)))

    @gg.function
    def step(x: Any) -> Any:
        v.assign(v * 0.5 + x)
        return gg.reduce_sum(v)

    x = gg.ones((300, 200))
    before = v.numpy()
    check(gg.roofline(step, x, rounds=1))
    np.testing.assert_array_equal(before, np.ones((300, 200)))
    np.testing.assert_array_equal(v, np.ones((300, 200)))
    assert float(step(x)) == 300 * 200 * 1.5


def test_sizes_are_those_of_the_call() -> None:
    f = gg.function(lambda x: gg.tanh(x), input_signature=[gg.TensorSpec([None, 7])])
    for n in (3, 1000):
        (step,) = gg.roofline(f, gg.ones((n, 7)), rounds=1)
        assert step.bytes == 2 * 4 * 7 * n
    assert f.experimental_get_tracing_count() == 1


def test_steps_of_numpy_are_named_as_such() -> None:
    def fn(x: Any) -> Any:
        return gg.sort(x * 2.0) + 1.0

    found = gg.roofline(fn, gg.ones(1000), rounds=1)
    check(found)
    assert [s.kind for s in found] == ["kernel", "host", "kernel"]
    assert "host sort" in str(found)
    assert found.bound <= found.seconds or found[0].ratio < 1 or found[2].ratio < 1


def test_interpreted_functions_are_one_step() -> None:
    f = gg.function(lambda x: gg.tanh(x) * 2.0, jit_compile=False)
    (step,) = gg.roofline(f, gg.ones(10), rounds=1)
    assert (step.kind, step.ops) == ("host", ("interpreted",))


def test_sizes_known_only_at_run_time() -> None:
    def fn(x: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch(x)
            (y,) = gg.while_loop(lambda y: gg.reduce_sum(y) < 100.0, lambda y: (y * 2.0,), (x,))
        return tape.gradient(y, x)

    found = gg.roofline(fn, gg.ones(3), rounds=1)
    check(found)
    assert [s.kind for s in found] == ["loop", "kernel", "loop"]
    assert found[0].bound is None


def test_empty_arrays_and_nothing_to_do() -> None:
    check(gg.roofline(lambda x: x + 1.0, gg.ones((0, 3)), rounds=1))
    assert len(gg.roofline(lambda x: x, gg.ones(3), rounds=1)) == 0


def test_errors_of_kernels_name_the_line() -> None:
    f = gg.function(lambda x, y: x // y)
    with pytest.raises(gg.errors.GraphgradError, match="zero"):
        gg.roofline(f, gg.constant([1, 2]), gg.constant([1, 0]), rounds=1)


def test_numpy_arguments_captures_and_keywords() -> None:
    table = gg.constant(np.arange(50.0, dtype=np.float32))
    f = gg.function(lambda x, y=1.0: x * table + y)
    (step,) = gg.roofline(f, np.ones(50, np.float32), y=2.0, rounds=1)
    assert step.bytes == 3 * 50 * 4


def test_a_copy_reads_and_writes_what_it_says() -> None:
    """The copy that bounds are taken from really moves that many bytes."""
    moved: list[int] = []
    for nbytes in (800, 1 << 20):
        for copy in measurement._copies(nbytes):
            clock = measurement._Clock()
            for _ in range(5):
                clock.sample(copy)
            moved.append(nbytes)
            assert 1e8 < nbytes / clock.seconds < 1e13
    assert moved == [800, 800, 1 << 20, 1 << 20]


def test_slower_code_has_a_higher_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted delay: each repetition of the whole step runs it three times."""
    x = gg.ones(100_000)
    honest = gg.roofline(lambda x: x * 2.0 + 1.0, x, rounds=2)[0]
    round_ = measurement._Measurement.wholes

    def slow(self: Any) -> Any:
        for again in round_(self):
            yield lambda n, again=again: again(3 * n)

    monkeypatch.setattr(measurement._Measurement, "wholes", slow)
    planted = gg.roofline(lambda x: x * 2.0 + 1.0, x, rounds=2)[0]
    assert honest.ratio is not None
    assert planted.ratio is not None
    assert planted.ratio > 1.8 * honest.ratio


def test_numbers_of_a_step() -> None:
    step = StepRoof("kernel", "k", ("add",), 3e-3, 8_000_000, 1e6, 1e-3, 2e-3)
    assert (step.bandwidth, step.bound, step.limit, step.ratio) == (8e9, 2e-3, "arithmetic", 1.5)
    text = str(gg.Roofline("f", (step,)))
    assert text.splitlines()[2].split() == [
        "k", "3", "ms", "8", "MB", "8.0", "GB/s", "1", "ms", "1", "M", "2", "ms", "arithmetic",
        "1.50",
    ]  # fmt: skip
