"""Reports: what was fused, what was not, traffic and work."""

from __future__ import annotations

from typing import Any

import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.op import ops
from graphgrad.compiler.report import make_report
from graphgrad.compiler.transform.controlflow import cond_values, while_values
from tests.compiler import models
from tests.compiler.compiling import compile_full, graph_of, t


def report_of(fn: Any, *types: Any, **options: Any) -> Any:
    return make_report(compile_full(graph_of(fn, *types)), **options)


def test_traffic_counts_each_array_once() -> None:
    work = report_of(models.softmax, t(64, 100)).total
    assert (work.bytes_read, work.bytes_written) == (64 * 100 * 4, 64 * 100 * 4)
    assert work.transcendentals == 64 * 100
    assert work.flops == 64 * 100 * (1 + 1 + 1 + 5)  # max, sub, sum, a division as 5
    work = report_of(lambda x, b: (x + b).sum((0,)), t(64, 100), t(100)).total
    assert (work.bytes_read, work.bytes_written) == ((64 * 100 + 100) * 4, 100 * 4)
    work = report_of(lambda x: ops["slice"](x, (0, 0), (64, 10)) * 2.0, t(64, 100)).total
    assert work.bytes_read == 640 * 4


def test_products_count_two_flops_a_term() -> None:
    report = report_of(lambda x, w: x @ w, t(5, 64, 32), t(32, 16))
    (step,) = report.steps
    assert step.kind == "routine"
    assert step.work.flops == 2 * 5 * 64 * 32 * 16


def test_loops_and_branches_are_counted() -> None:
    def fn(x: Any) -> Any:
        (y,) = while_values(lambda x: x.sum((0,)) < 40.0, lambda x: [x * 2.0], [x])
        for _ in range(2):
            (y,) = cond_values(y.sum((0,)) > 50.0, lambda y=y: [y], lambda y=y: [y + 1.0])
        return y

    text = str(report_of(fn, t(3)))
    assert "after the passes: 2 kernels, 1 loop, 2 branches\n" in text


def test_unknown_sizes_get_numbers_from_shapes() -> None:
    n = DimScope().symbol("n", 0, 0)
    fn = models.softmax
    assert report_of(fn, t(n, 10)).total is None
    for rows in (3, 64):
        assert report_of(fn, t(n, 10), shapes=[(rows, 10)]).total.bytes_read == rows * 40
    traced = DimScope().symbol("n", 0, 0, hint=7)
    assert report_of(fn, t(traced, 10)).total.bytes_read == 280


def test_refusals_name_both_operations_and_lines() -> None:
    def fn(x: Any) -> Any:
        total = x.sum((0,), True)
        return ops["tanh"](x * total)

    first, second = report_of(fn, t(33, 5)).steps
    assert not first.apart
    (apart,) = second.apart
    assert (apart.first, apart.second) == ("sum", "mul")
    assert apart.first_place != apart.second_place
    assert str(apart) == (
        f"`mul` ({apart.second_place}) not with `sum` ({apart.first_place}): "
        "it needs a reduction over the whole loop before its first element"
    )
    assert second.fused == ("mul", "tanh")


def test_stability_rules_are_named_with_their_line() -> None:
    report = report_of(lambda x: ops["log"](1.0 + ops["exp"](x)) * 2.0, t(5))
    (rule,) = report.stability_rules
    assert rule.rule == "softplus"
    assert rule.place.startswith("test_report.py:")


def test_text(golden: Any) -> None:
    both = models.value_and_gradients(models.layer_norm_loss, [0, 1, 2])
    report = report_of(both, t(64, 100), t(100), t(100), t(64, 100), buffers={"arena": 4000})
    text = str(report)
    name = report.steps[0].name
    assert f"kernel {name}  [64 x 100]" in text
    assert "reads 52 kB, writes 26.4 kB" in text
    assert "derivative of models.py" in text
    shown = text.partition("\nother rules:")[0].partition("\n\n")[2]
    golden("report.txt", shown.replace(name, "NAME"))
    assert "4 kB of buffers" in report.summary()


def test_interpreted_and_empty() -> None:
    report = report_of(lambda x: [x], t(3))
    assert report.steps == ()
    assert "nothing to run" in str(report)


def test_of_functions() -> None:
    gg = pytest.importorskip("graphgrad")

    @gg.function
    def f(x: Any) -> Any:
        return gg.tanh(x) * 2.0

    f(gg.constant([1.0, 2.0, 3.0]))
    assert "def k_tanh_mul_" in f.kernels()
    assert "tanh(x0[i0]) * np.float32(2.0)" in f.kernels()
    report = f.report()
    assert "1 kernel" in report
    assert "reads 12 B, writes 12 B" in report
    assert "B of buffers" in report
