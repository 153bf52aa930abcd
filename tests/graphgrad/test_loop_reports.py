"""What reports say of loops: how they run, what they keep and make again, what is not native."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler.hosted import (
    BRANCHES_DIFFER,
    CALLBACK,
    NO_KERNEL,
    PYTHON_SIZES,
    SIZE_CHANGES,
    SIZE_FOUND,
    WAYS_OUT,
)
from graphgrad.inspection import report_of

V = np.linspace(0.1, 0.6, 6)
ROWS = np.linspace(-1.0, 1.0, 50 * 8).reshape(50, 1, 8)


def report(f: Any, *args: Any, **options: Any) -> Any:
    return report_of(gg.function(f, **options).get_concrete_function(*args))


def gradient(f: Any) -> Any:
    return gg.value_and_grad(f)


def line_in(f: Any, text: str) -> int:
    """The number of the line of a function in which a text stands."""
    lines, first = inspect.getsourcelines(f)
    return next(first + k for k, line in enumerate(lines) if text in line)


def oscillator(x: Any) -> Any:
    for _ in gg.range(100):
        x = x + 0.1 * gg.sin(x)
    return x


def recurrent(w: Any) -> Any:
    h = gg.zeros([1, 20], gg.float64)
    for x in gg.constant(ROWS):
        h = gg.tanh(gg.concat([x, h], 1) @ w)
    return gg.reduce_sum(h)


def table(t: Any) -> Any:
    for i in gg.range(1, 40):
        t[i] = t[i] * t[i - 1]
    return gg.reduce_sum(t)


def test_a_loop_of_numbers() -> None:
    ahead, back = report(gradient(oscillator), np.float64(0.5)).loops
    assert (ahead.steps, back.steps) == (100, 100)
    assert ahead.native
    assert back.native
    assert (ahead.backwards, back.backwards) == (False, True)
    assert {s.memory for s in ahead.state} == {"in registers"}
    assert not ahead.where.derivative
    assert back.where.derivative
    assert ahead.where.line == line_in(oscillator, "for _")
    # What the derivative reads of sin x is cos x, which is computed while the step waits.
    (saved,) = ahead.saved
    assert saved.what == "cos"
    assert saved.why == "a partial derivative: the derivative is left with sums and products"
    assert (ahead.saved_each, ahead.saved_bytes) == (8, 800)
    assert not back.saved
    assert not back.again


def test_a_loop_of_products() -> None:
    ahead, back = report(gradient(recurrent), np.full((28, 20), 0.1)).loops
    assert any("dear to compute again" in s.why for s in ahead.saved)
    (behind,) = [o for o in back.outside if "behind" in o.when and o.where.line != back.where.line]
    assert "matmul" in dict(behind.ops)  # the gradient of w
    before = [o for o in ahead.outside if o.when == "computed before it"]
    assert any("matmul" in dict(o.ops) for o in before)  # x_t @ w[:8] for all steps
    assert all(line_in(recurrent, "@ w") == o.where.line for o in before if "matmul" in dict(o.ops))


def test_arrays_in_memory() -> None:
    (loop,) = report(table, np.ones(40)).loops
    assert "in memory, updated in place" in {s.memory for s in loop.state}


def test_what_is_computed_again_and_what_it_costs() -> None:
    def loss(x: Any) -> Any:
        for _ in gg.range(9):
            x = gg.exp(x * 2.0 + 1.0) * 0.1
        return gg.reduce_sum(x)

    ahead, back = report(gradient(loss), np.ones(100)).loops
    assert {s.what for s in ahead.saved} <= {"exp", "state before the step"}
    assert any("dear to compute again" in s.why for s in ahead.saved)
    assert all(a.why == "cheap" for a in back.again)


def test_steps_that_are_counted_and_steps_that_are_not() -> None:
    def counted(x: Any) -> Any:
        i = gg.constant(0)
        while i < 7:
            x, i = x * 2.0, i + 1
        return x

    def unknown(x: Any) -> Any:
        while x < 100.0:
            x = x * 2.0
        return x

    def rows(x: Any) -> Any:
        total = 0.0
        for row in x:
            total += gg.sin(row) * total
        return total

    (loop,) = report(counted, np.float64(1.0)).loops
    assert (loop.trips, loop.steps) == ("7 steps", 7)
    (loop,) = report(unknown, np.float64(1.0)).loops
    assert (loop.trips, loop.steps) == ("steps until its condition fails", None)
    spec = [gg.TensorSpec([None], gg.float64)]
    f = gg.function(rows, input_signature=spec)
    (loop,) = report_of(f.get_concrete_function()).loops
    assert loop.steps is None
    assert loop.trips.endswith(" steps")


def test_loops_within_loops() -> None:
    def loss(x: Any) -> Any:
        for _ in gg.range(5):
            for _ in gg.range(4):
                x = gg.sin(x)
        return x

    outer, *rest = report(gradient(loss), np.float64(0.5)).loops
    inner = rest[0]
    assert outer.within == (inner,)
    assert (outer.steps, inner.steps) == (5, 4)
    assert outer.saved_bytes == 5 * inner.saved_bytes
    assert f"within: scan  # {inner.where.describe()}" in str(outer)


def test_bounds_are_shown() -> None:
    def loss(x: Any) -> Any:
        for _ in gg.range(1000):
            x = x + 0.1 * gg.sin(x)
        return x

    found = report(gradient(loss), np.float64(0.5), loop_memory=4000)
    (schedule,) = found.schedules
    assert schedule.peak <= 4000
    assert any(loop.repeats for loop in found.loops)
    text = str(found)
    assert "loops divided by loop_memory:\n    1000 steps: a checkpoint of" in text
    assert "makes the same steps once more, from a state that is known" in text
    assert "loop_memory" not in str(report(gradient(oscillator), np.float64(0.5)))


def test_tapes_around_calls() -> None:
    f, x = gg.function(oscillator), gg.constant(np.float64(0.5))
    f(x)
    assert "saved" not in f.report()
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    tape.gradient(y, x)
    plain, ahead, back = f.report().split("\n\ntrace (x: f64[])")[1:]
    assert "saved" not in plain
    assert ahead.startswith(" under a tape, with what its derivative reads\n")
    assert "saved for the derivative: 8 B a step, 800 B in all" in ahead
    assert back.startswith(" its derivative\n")
    assert "100 steps, the last one first" in back


def test_text(golden: Any) -> None:
    def shown(f: Any, x: Any) -> str:
        text = "\n\n".join(
            f"{loop.op}  # {loop.where.describe()}\n{loop}" for loop in report(gradient(f), x).loops
        )
        first = line_in(f, "def ")
        for k in range(first, first + 9):  # lines are counted from that of the function
            text = text.replace(f"test_loop_reports.py:{k}", f"line {k - first}")
        return text

    texts = [shown(oscillator, np.float64(0.5)), shown(recurrent, np.full((28, 20), 0.1)),
             shown(table, np.ones(40))]  # fmt: skip
    golden("loops.txt", "\n\n".join(texts) + "\n")


# Programs that are not native throughout, each with the operation, the reason, and a part of its
# line.


def of_sorted(x: Any) -> Any:
    for _ in gg.range(3):
        x = gg.sort(gg.tile(x, [100]))[:6] + 1.0
    return x


def of_spectra(x: Any) -> Any:
    z = gg.cast(x, gg.complex128)
    for _ in gg.range(3):
        z = gg.signal.fft(z)
    return gg.math.real(z)


def of_values(x: Any) -> Any:
    for _ in gg.range(3):
        x = x + gg.linalg.svd(gg.linalg.diag(x), compute_uv=False)
    return x


def that_prints(x: Any) -> Any:
    for i in gg.range(3):
        x = x * 2.0
        gg.print("step", i, output_stream="file:///dev/null")
    return x


def that_asks_python(x: Any) -> Any:
    while gg.reduce_sum(x) < 100.0:
        x = gg.py_function(lambda a: a * 2.0, [x], gg.float64)
    return x


def of_a_branch(x: Any) -> Any:
    for i in gg.range(3):
        if i > 1:
            x = gg.linalg.expm(gg.linalg.diag(x))[0]
    return x


def that_picks(x: Any) -> Any:
    for _ in gg.range(3):
        x = x + gg.reduce_sum(gg.boolean_mask(x, x > 0.3))
    return x


def that_finds(x: Any) -> Any:
    for _ in gg.range(3):
        found = gg.where(x > 0.3)
        x = x + gg.cast(gg.size(found), gg.float64)
    return x


def that_sorts_a_list(x: Any) -> Any:
    total = gg.constant(0.0, gg.float64)
    for _ in gg.range(3):
        xs = []
        while gg.reduce_sum(x) < 100.0:
            xs.append(x)
            x = x * 1.5
        total += gg.reduce_sum(gg.sort(gg.stack(xs), axis=0))
        x = x * 0.1
    return total


def that_grows(x: Any) -> Any:
    return gg.while_loop(
        lambda x: gg.size(x) < 20,
        lambda x: (gg.concat([x, x[:1] * 2.0], 0),),
        (x,),
        shape_invariants=(gg.TensorShape([None]),),
    )[0]


REFUSED = [
    (of_sorted, NO_KERNEL, "gg.sort("),
    (of_spectra, NO_KERNEL, "gg.signal.fft(z)"),
    (of_values, NO_KERNEL, "svd"),
    (that_prints, CALLBACK, "gg.print"),
    (that_asks_python, CALLBACK, "py_function"),
    (of_a_branch, NO_KERNEL, "expm"),
    (that_picks, SIZE_FOUND, "boolean_mask"),
    (that_finds, SIZE_FOUND, "gg.where"),
    (that_sorts_a_list, PYTHON_SIZES, "gg.sort"),
    (that_grows, SIZE_CHANGES, None),
]


@pytest.mark.parametrize(("f", "reason", "line"), REFUSED, ids=lambda x: getattr(x, "__name__", ""))
def test_what_is_not_native_is_named_with_its_line_and_a_way_out(
    f: Any, reason: str, line: str | None
) -> None:
    loop, *_ = report(f, V).loops
    assert loop.native == (reason in (NO_KERNEL, CALLBACK))
    (found,) = (*loop.refusals, *loop.calls)
    assert found.reason == reason
    if line is not None:
        assert found.where.line == line_in(f, line)
    assert str(found) in str(loop)
    assert WAYS_OUT[reason] in str(found)


def test_each_reason_is_named() -> None:
    def chosen(x: Any) -> Any:
        xs = []
        for i in gg.range(4):
            if gg.reduce_sum(x) > gg.cast(i, gg.float64):
                xs.append(x)
        return gg.stack(xs)

    loop = report(chosen, V).loops[0]
    assert [r.reason for r in loop.refusals] == [SIZE_CHANGES, BRANCHES_DIFFER]
    assert [r.where.line - line_in(chosen, "for i") for r in loop.refusals] == [0, 1]


def with_assertion(x: Any) -> Any:
    for _ in gg.range(3):
        assert gg.reduce_sum(x) > 0
        x = x * 2.0
    return x


def with_draws(x: Any) -> Any:
    for _ in gg.range(3):
        x = x + gg.random.normal([6], dtype=gg.float64)
    return x


def with_products(x: Any) -> Any:
    for _ in gg.range(3):
        x = gg.linalg.matvec(gg.linalg.inv(gg.linalg.diag(x) + gg.eye(6, dtype=gg.float64)), x)
    return x


def with_sums(x: Any) -> Any:
    for _ in gg.range(3):
        x = gg.cumsum(x) * 0.3
    return x


@pytest.mark.parametrize(
    "f",
    [oscillator, with_assertion, with_draws, with_products, with_sums],
    ids=lambda f: f.__name__,
)
def test_what_is_native_has_nothing_to_name(f: Any) -> None:
    for loop in report(f, V).loops:
        assert loop.native
        assert not loop.refusals
        assert not loop.calls
