"""The benchmarks measure right results, and say what was measured."""

import doctest
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import child, data, figures, measure, report, sweep
from benchmarks.figures import Figure, Results, Row, geometric_mean
from benchmarks.measure import Effort, Framework
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.convolutions import Convolution, rows_of

SMALL = [name for name, w in WORKLOADS.items() if w.traffic == 0 and w.flops < 2e8]
OURS = Framework("graphgrad", sys.executable)
NUMPY = Framework("numpy", sys.executable)
LITTLE = Effort(budget=0.02, rounds=2, launches=2, repeats=1, patience=60, timeout=60)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("framework", ["graphgrad", "numpy"])
def test_small_workloads_compute_what_their_reference_says(framework, name):
    given = data.inputs(name)
    expected = data.expected(WORKLOADS[name].reference, given)
    build, arrays = child.prepare(framework, name, given)
    run = build()
    assert data.problem(arrays(run()), expected) == ""
    if not WORKLOADS[name].trains:
        assert data.problem(arrays(run()), expected) == ""


def test_a_step_of_training_moves_the_parameters():
    build, arrays = child.prepare("graphgrad", "mlp_step_32", data.inputs("mlp_step_32"))
    run = build()
    losses = [arrays(run())[0] for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]


def test_large_workloads_agree_with_their_reference_at_a_smaller_size():
    r = np.random.default_rng(1)
    shrunk = {
        "x": r.standard_normal((7, 5), np.float32),
        "g": r.standard_normal((7, 5), np.float32),
    }
    shrunk |= {k: r.standard_normal(5, np.float32) for k in ("gamma", "beta")}
    inputs = {
        name: {k: shrunk[k] for k in keys}
        for name, keys in (
            ("chain_fwd", "x"), ("chain_vg", "x"), ("gelu_vjp", "xg"), ("sum_axis0", "x"),
            ("sum_axis1", "x"), ("logsumexp_axis1", "x"),
            ("layernorm_vjp", ("x", "g", "gamma", "beta")),
        )
    }  # fmt: skip
    inputs["softmax_xent"] = {"x": shrunk["x"], "y": np.array([0, 1, 2, 3, 4, 0, 1], np.int32)}
    inputs["black_scholes"] = {
        "share": r.uniform(80, 120, 9).astype(np.float32),
        "strike": r.uniform(80, 120, 9).astype(np.float32),
        "years": r.uniform(0.1, 2, 9).astype(np.float32),
    }
    distinct = r.permutation(2 * 6 * 4 * 3).astype(np.float32)
    for name in ("max_pool_y", "avg_pool_y", "max_pool_vjp"):
        inputs[name] = {"x": distinct.reshape(2, 6, 4, 3)}
    inputs["max_pool_vjp"]["g"] = r.standard_normal((2, 3, 2, 3), np.float32)
    assert {name for name, w in WORKLOADS.items() if w.traffic} == set(inputs)
    for name, given in inputs.items():
        build, arrays = child.prepare("graphgrad", name, given)
        expected = data.expected(WORKLOADS[name].reference, given)
        assert data.problem(arrays(build()()), expected) == "", name


@pytest.mark.parametrize("part", "yxw")
@pytest.mark.parametrize(
    "sizes",
    [
        ((2, 7, 6, 3), (3, 3, 3, 5), 2, 1),
        ((2, 5, 8, 4), (1, 1, 4, 3)),
        ((1, 6, 5, 3), (3, 3, 3, 1)),
    ],
)
def test_convolutions_agree_with_their_reference_at_smaller_sizes(sizes, part):
    c = Convolution("planted", *sizes)
    rows_of(c, part)
    try:
        given = data.inputs(f"planted_{part}")
        build, arrays = child.prepare("graphgrad", f"planted_{part}", given)
        expected = data.expected(WORKLOADS[f"planted_{part}"].reference, given)
        assert data.problem(arrays(build()()), expected) == ""
    finally:
        del WORKLOADS[f"planted_{part}"]


def test_rows_of_a_group_are_measured_when_they_are_asked_for():
    assert "conv3_64_y" not in command.parse([]).rows
    chosen = command.parse(["--rows", "matmul", "convolutions"]).rows
    assert {"matmul", "conv3_64_y", "lenet_step"} < set(chosen)
    assert "convolutions" not in chosen


def test_a_wrong_result_is_noticed():
    expected = [np.array(2.0), np.array([0.0, 3.0]), np.zeros(0)]
    good = [np.array(2.0), np.array([1e-5, 3.0]), np.zeros(0)]
    assert data.problem(good, expected) == ""
    assert "expected" in data.problem(good[:1], expected)
    assert "shape" in data.problem([good[0], np.zeros(3), good[2]], expected)
    for wrong in (3.01, np.nan, np.inf):
        assert data.problem([good[0], np.array([0, wrong]), good[2]], expected).startswith(
            "result 1"
        )
    assert data.problem([np.array(1e-9)], [np.array(0.0)]).startswith("result 0")


def test_a_wrong_result_is_marked_and_is_no_peer(tmp_path, monkeypatch):
    true = WORKLOADS["dispatch_jit"]
    planted = replace(true, reference=lambda x, y: [x * 2 + 1.01])  # so graphgrad's seems wrong
    monkeypatch.setitem(WORKLOADS, "dispatch_jit", planted)
    figures = measure.steady([OURS], "dispatch_jit", LITTLE, tmp_path)
    assert figures["graphgrad"].samples
    assert figures["graphgrad"].error.startswith("result 0: ")
    row = Row("dispatch_jit", true.title, {"graphgrad": Figure([2.0]), "jax": figures["graphgrad"]})
    assert row.best_peer() is None
    assert report.cell(row, "jax").endswith("WRONG")
    assert "result 0" in report.problems({report.CALLS: [row]})


@pytest.mark.slow
def test_a_row_is_measured_in_processes_of_its_own(tmp_path):
    figures = measure.steady([OURS, NUMPY], "rosenbrock", LITTLE, tmp_path)
    for figure in figures.values():
        assert figure.error == ""
        assert len(figure.samples) >= LITTLE.launches * LITTLE.rounds
        assert 0 < figure.best <= figure.median < 1
    assert not list(tmp_path.glob("*.npz"))


def test_what_starts_too_slowly_is_not_started_again(tmp_path):
    hasty = replace(LITTLE, rounds=1, patience=0.0, budget=0.0)
    figures = measure.steady([OURS], "dispatch_jit", hasty, tmp_path)
    assert len(figures["graphgrad"].samples) == 1


def test_a_process_that_does_not_answer_is_given_up(tmp_path):
    stuck = replace(LITTLE, launches=1, timeout=0.05)
    figures = measure.steady([OURS], "dispatch_jit", stuck, tmp_path)
    assert figures["graphgrad"].error == "no answer in 0.05 s"
    assert not figures["graphgrad"].samples


def test_a_process_that_dies_says_so(tmp_path):
    data.write("dispatch_jit", tmp_path)
    with measure.Child(OURS, tmp_path, 60, "steady", "dispatch_jit", str(tmp_path)) as child:
        assert "ready" in child.answer()
        child.process.kill()
        child.process.wait()
        assert child.ask(0.0) == {"error": "the process ended without a result"}


def test_an_interrupt_ends_the_processes(tmp_path):
    data.write("dispatch_jit", tmp_path)
    job = ("steady", "dispatch_jit", str(tmp_path))
    with pytest.raises(KeyboardInterrupt), measure.Child(OURS, tmp_path, 60, *job) as child:
        raise KeyboardInterrupt
    assert child.process.returncode is not None


def test_numpy_is_no_peer_where_it_takes_no_derivative(tmp_path):
    once = replace(LITTLE, launches=1, rounds=1, budget=0.0)
    assert set(measure.steady([OURS, NUMPY], "eager_grad", once, tmp_path)) == {"graphgrad"}


def test_a_child_that_fails_says_why(tmp_path):
    absent = Framework("torch-nothing", sys.executable)
    answer = measure.once(absent, tmp_path, 60, "first", "dispatch_jit", str(tmp_path))
    assert "dispatch_jit.inputs.npz" in answer["error"]


def test_a_missing_peer_is_left_out_with_a_line(monkeypatch):
    known = measure.KNOWN["jax"]
    monkeypatch.setitem(measure.KNOWN, "jax", replace(known, module="no_such_module"))
    found, missing = measure.find(["jax"], {})
    assert [f.name for f in found] == ["graphgrad", "numpy"]
    assert missing == ["jax is left out: this Python has no no_such_module"]
    found, missing = measure.find(["torch"], {"torch": "/no/such/python"})
    assert [f.name for f in found] == ["graphgrad", "numpy"]
    assert missing == ["torch is left out: /no/such/python has no torch"]


def rows():
    """Three rows: one that counts in both means, one bound by a call, one that peers lack."""
    return [
        Row(
            "a",
            "A",
            {"graphgrad": Figure([1.0, 3.0]), "jax": Figure([8.0]), "torch": Figure([4.0])},
        ),
        Row("b", "B", {"graphgrad": Figure([4.0]), "jax": Figure([1.0])}, bound="call"),
        Row("c", "C", {"graphgrad": Figure([1.0]), "jax": Figure(error="broken")}),
    ]


def test_the_summary_takes_the_best_peer_of_each_row():
    assert geometric_mean([4.0, 0.25]) == pytest.approx(1)
    assert [row.best_peer() for row in rows()] == [(4.0, "torch"), (0.25, "jax"), None]
    text = report.summary(rows())
    assert "4x over the rows that neither a call" in text
    assert "bounds (1), 1x over all (2). " in text
    assert "Behind 0.95 of the best peer: B (jax, 0.25x)." in text


def test_a_peer_within_the_tolerance_is_level():
    level = Row("a", "A", {"graphgrad": Figure([1.0]), "jax": Figure([0.96])})
    assert report.behind([level]) == "Behind 0.95 of the best peer: none."
    ahead = Row("a", "A", {"graphgrad": Figure([1.0]), "jax": Figure([0.94])})
    assert "A (jax, 0.94x)" in report.behind([ahead])


def test_the_table_has_minimum_and_ratio():
    lines = report.table(rows(), ["graphgrad", "numpy", "jax", "torch"]).splitlines()
    assert lines[0] == "| | graphgrad | jax | torch |"
    assert lines[2] == "| A | 1.00 s | 8.00 s 8x | 4.00 s 4x |"
    assert lines[3] == "| B | 4.00 s | 1.00 s **0.25x** | – |"
    assert lines[4] == "| C | 1.00 s | error | – |"


def test_results_are_read_as_they_were_written(tmp_path):
    results = Results("2020-02-02", "here", {"graphgrad": "1", "jax": "2"})
    results.sections[report.CALLS] = rows()
    results.limits["1"] = {"copy": 1e9, "product": 1e9}
    results.save(tmp_path / "samples.json")
    assert Results.load(tmp_path / "samples.json") == results


def test_the_report_replaces_what_stands_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n")
    report.write_between_marks(page, "a", "new")
    assert page.read_text() == "before\n<!-- a: begin -->\nnew\n<!-- a: end -->\nafter\n"
    with pytest.raises(SystemExit, match="no <!-- b: begin -->"):
        report.write_between_marks(page, "b", "new")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--peer", "jax"], "is not NAME=PYTHON"),
        (["--peer", "nothing=python"], "is not NAME=PYTHON"),
        (["--rows", "nothing"], "invalid choice: 'nothing'"),
        (["--again", "--out", "nowhere"], "has no samples.json yet"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, complaint, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert complaint in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_measures_and_reports(tmp_path, capsys):
    little = ["--quick", "--budget", "0.02", "--peers", "--out", str(tmp_path)]
    command.main([*little, "--rows", "rosenbrock", "import"])
    said = capsys.readouterr().out
    text = (tmp_path / "performance.md").read_text()
    assert text in said
    assert "| import, once NumPy is there | " in text
    assert "Rosenbrock's function of 100 variables" in text
    assert (tmp_path / "performance.svg").read_text().count("<svg") == 1
    command.main([*little, "--again"])
    assert (tmp_path / "performance.md").read_text() == text


def test_the_page_has_the_marks_that_reports_replace():
    page = report.PAGE.read_text(encoding="utf-8")
    for name in ("benchmarks", "sweep", "convolutions", "convolution sweep"):
        assert page.count(f"<!-- {name}: begin -->") == page.count(f"<!-- {name}: end -->") == 1


@pytest.mark.parametrize("module", [figures, report, sweep])
def test_examples_in_docstrings(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux says what is resident")
def test_memory_counts_what_calls_hold(tmp_path):
    (figure,) = measure.peaks([OURS], "mlp_step_32", LITTLE, tmp_path).values()
    assert figure.right
    inputs = sum(x.nbytes for x in data.inputs("mlp_step_32").values())
    assert inputs / 2 < figure.best < inputs + (64 << 20)
    rows = [Row("m", "memory", {"graphgrad": figure, "jax": Figure([figure.best / 2])}, unit="B")]
    assert f"{figure.best / 2**20:.1f} MiB" in report.table(rows, ["graphgrad", "jax"])
    assert "memory (jax, 0.5x)" in report.behind(rows)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux says what is resident")
def test_the_peak_is_that_of_the_calls(tmp_path, monkeypatch):
    """A planted call that holds 64 MiB for a moment is seen, and what came before is not."""
    data.write("mlp_step_32", tmp_path)
    expected = data.read("mlp_step_32", tmp_path)[1]

    def found(extra):
        def prepare(framework, name, inputs):
            return lambda: lambda: (np.ones(extra, np.uint8).sum(), expected)[1], lambda x: x

        monkeypatch.setattr(child, "prepare", prepare)
        return child.peak("graphgrad", "mlp_step_32", tmp_path)["bytes"]

    np.ones(256 << 20, np.uint8).sum()
    assert found(1) < 32 << 20
    assert 60 << 20 < found(64 << 20) < 96 << 20
