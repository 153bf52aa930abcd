"""Programs as bytes: what they are named by, and that they come back with today's lines."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from graphgrad.compiler import pipeline, stored
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.ir import Graph, Literal, Node, Value
from graphgrad.compiler.op import ops
from graphgrad.compiler.source import Where
from graphgrad.compiler.stored import Origin, origin_of, packed, unpacked
from graphgrad.runtime import executor
from graphgrad.runtime.engine import host_target
from graphgrad.runtime.program import Program
from tests.compiler import models
from tests.compiler.compiling import compile_full, graph_of, run_compiled, samples, t
from tests.compiler.test_driver import MLP, mlp

both = models.value_and_gradients


def name(graph: Graph, options: tuple[Any, ...] = (), **target: str) -> str:
    origin = origin_of(graph, dataclasses.replace(host_target(), **target), options)
    assert origin is not None
    return origin.text


def of(fn: Callable[..., Any], *types: Any) -> Graph:
    return graph_of(fn, *(types or (t(3, 4), t(3, 4))))


def nan(bits: int) -> Graph:
    """A graph with a NaN of these bits."""
    number = np.array(bits, np.uint32).view(np.float32)
    x, c, y = (Value(t(), None) for _ in range(3))
    nodes = (
        Node(ops["constant"], (), {"value": Literal(number)}, (c,)),
        Node(ops["mul"], (x, c), {}, (y,)),
    )
    return Graph((x,), nodes, (y,))


BASE = of(lambda x, y: ops["tanh"](x * 2.0 + y).sum((0,)))
OTHERS = {
    "a constant": of(lambda x, y: ops["tanh"](x * 3.0 + y).sum((0,))),
    "the last bit of a constant": of(lambda x, y: ops["tanh"](x * 2.0000002 + y).sum((0,))),
    "an op": of(lambda x, y: ops["sin"](x * 2.0 + y).sum((0,))),
    "an axis": of(lambda x, y: ops["tanh"](x * 2.0 + y).sum((1,))),
    "a flag": of(lambda x, y: ops["tanh"](x * 2.0 + y).sum((0,), True)),
    "operands": of(lambda x, y: ops["tanh"](y * 2.0 + x).sum((0,))),
    "another output": of(lambda x, y: [(z := ops["tanh"](x * 2.0 + y)).sum((0,)), z]),
    "a dtype": of(lambda x, y: ops["tanh"](x * 2.0 + y).sum((0,)), *[t(3, 4, dtype="float64")] * 2),
    "a shape": of(lambda x, y: ops["tanh"](x * 2.0 + y).sum((0,)), t(3, 5), t(3, 5)),
    "a parameter": of(lambda x, y, z: ops["tanh"](x * 2.0 + y).sum((0,)), *[t(3, 4)] * 3),
}


@pytest.mark.parametrize("change", OTHERS)
def test_graphs_that_differ_have_different_names(change: str) -> None:
    assert name(OTHERS[change]) != name(BASE)


PAIRS = {
    "the sign of zero": (of(lambda x, _: x + 0.0), of(lambda x, _: x + -0.0)),
    "the sign of a NaN": (nan(0x7FC00000), nan(0xFFC00000)),
    "the payload of a NaN": (nan(0x7FC00000), nan(0x7FC00001)),
    "the order of outputs": (of(lambda x, y: [x + y, x * y]), of(lambda x, y: [x * y, x + y])),
    "elements of a constant": (of(lambda x, _: x * [[1.0, 2.0, 3.0, 4.0]]),
                               of(lambda x, _: x * [[1.0, 2.0, 4.0, 3.0]])),
    "which of two equals is shared": (
        of(lambda x, y: ops["tanh"](x) * ops["tanh"](y)),
        of(lambda x, y: ops["tanh"](x) * ops["tanh"](x)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_small_differences_count(pair: str) -> None:
    one, other = PAIRS[pair]
    assert name(one) != name(other)


def test_the_type_of_an_attribute_counts() -> None:
    def graph(value: Any) -> Graph:
        x, y = Value(t(3), None), Value(t(3), None)
        return Graph((x,), (Node(ops["identity"], (x,), {"k": value}, (y,)),), (y,))

    values = (1, 1.0, True, "1", (1,), np.float32(1), np.float64(1), None, float("nan"))
    assert len({name(graph(v)) for v in values}) == len(values)


@pytest.mark.parametrize("field", ["triple", "cpu", "features", "blas"])
def test_every_field_of_the_target_counts(field: str) -> None:
    assert name(BASE, **{field: "other"}) != name(BASE)


def test_options_and_refused_rules_count() -> None:
    assert name(BASE, (True, True)) != name(BASE, (True, False))
    before = name(BASE)
    pipeline.refuse(pipeline.simplifying_rules().rules[0].name)
    try:
        assert name(BASE) != before
    finally:
        pipeline.refuse()
    assert name(BASE) == before


@pytest.fixture
def fresh_stamp() -> Any:
    stored.compiler_stamp.cache_clear()
    yield stored.compiler_stamp
    stored.compiler_stamp.cache_clear()


@pytest.mark.parametrize("module", [np, ml_dtypes])
def test_versions_of_what_folds_constants_count(
    module: Any, fresh_stamp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = name(BASE)
    fresh_stamp.cache_clear()
    monkeypatch.setattr(module, "__version__", "999")
    assert name(BASE) != before


@pytest.mark.parametrize("file", ["driver.py", "kernels/fusion.py", "../runtime/program.py"])
@pytest.mark.parametrize("edit", ["touch", "append", "remove"])
def test_an_edit_of_the_compiler_counts(
    file: str, edit: str, tmp_path: Path, fresh_stamp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, folder in ((stored, "compiler"), (stored.runtime_program, "runtime")):
        source = Path(str(module.__file__)).resolve()
        shutil.copytree(source.parent, tmp_path / folder)
        monkeypatch.setattr(module, "__file__", str(tmp_path / folder / source.name))
    before = name(BASE)
    path = tmp_path / "compiler" / file
    if edit == "touch":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    elif edit == "append":
        status = path.stat()
        path.write_text(path.read_text() + "#")
        os.utime(path, ns=(0, status.st_mtime_ns))
    else:
        path.unlink()
    fresh_stamp.cache_clear()
    assert name(BASE) != before


def test_a_compiler_without_files_names_nothing(
    tmp_path: Path, fresh_stamp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "__file__", str(tmp_path / "archive.zip" / "stored.py"))
    assert origin_of(BASE, host_target(), ()) is None


# -- lines


SOURCE = """
def fn(x, y):
    a = x // y
    b = y // (x + 1)
    return a * b
"""


def written(source: str) -> Graph:
    space: dict[str, Any] = {}
    exec(compile(source, "user.py", "exec"), space)
    return graph_of(space["fn"], t(100, dtype="int32"), t(100, dtype="int32"))


def kept(graph: Graph) -> tuple[Program, Origin, bytes]:
    """What an earlier process compiled and stored."""
    compilation, origin = compile_full(graph), origin_of(graph, host_target(), ())
    assert origin is not None
    content = packed(compilation.program, "object", compilation.places, origin)
    assert content is not None
    return compilation.program, origin, content


def loaded_program(content: bytes, origin: Origin) -> Program:
    found = unpacked(content, origin)
    assert found is not None
    program, name = found
    assert name == "object"
    return program


def test_failures_have_the_lines_of_the_process_that_loads() -> None:
    _, origin, content = kept(written(SOURCE))
    moved = written("\n\n" + SOURCE.replace("    b = ", "\n    b = "))
    today = origin_of(moved, host_target(), ())
    assert today is not None
    assert today.text == origin.text
    loaded = loaded_program(content, today)
    assert [f.where for f in loaded.failures] == ["user.py:5", "user.py:7"]
    assert loaded.failures == compile_full(moved).program.failures


def test_lines_that_part_or_join_have_another_name() -> None:
    places = [Where("user.py", line) for line in (3, 3, 4)]

    def graph(pattern: tuple[int, int]) -> Graph:
        graph = written(SOURCE)
        divisions = iter(pattern)
        nodes = tuple(
            dataclasses.replace(n, where=places[next(divisions)]) if "div" in n.op.name else n
            for n in graph.nodes
        )
        return dataclasses.replace(graph, nodes=nodes, memo={})

    together, also, apart = (name(graph(p)) for p in ((0, 0), (0, 1), (0, 2)))
    assert together == also != apart


def test_a_failure_at_a_place_that_is_not_in_the_graph_is_not_kept() -> None:
    graph = written(SOURCE)
    compilation, origin = compile_full(graph), origin_of(graph, host_target(), ())
    assert origin is not None
    strange = (Where("elsewhere.py", 1), *compilation.places[1:])
    assert packed(compilation.program, "object", strange, origin) is None


# -- there and back

PROGRAMS = {
    "MLP": (both(mlp, [1, 2]), MLP),
    "cross entropy": (both(models.cross_entropy, [0]), (t(64, 10), t(64, 1, dtype="int32"))),
    "layer norm": (both(models.layer_norm_loss, [0, 1, 2]), (t(64, 32), t(32), t(32), t(64, 32))),
    "checks": (models.checked, (t(100, dtype="int32"), t(100, dtype="int32"))),
    "constants": (lambda x: [x * [1.0, 2.0, 3.0], ops["cast"]([1, 2], dtype="int32")], (t(3),)),
    "bfloat16": (models.half, (t(64, 100), t(100, dtype="bfloat16"))),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_comes_back_whole(program: str) -> None:
    fn, types = PROGRAMS[program]
    graph = graph_of(fn, *types)
    compiled, origin, content = kept(graph)
    loaded = loaded_program(content, origin)
    assert loaded == dataclasses.replace(compiled, module="")
    arrays = samples(graph.types)
    if program == "checks":
        arrays = [np.abs(a) + 1 for a in arrays]
    expected = run_compiled(compile_full(graph), arrays)
    key = executor.object_key(compiled, host_target())
    found = executor.prepare(loaded, host_target(), key=key).run(arrays)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_open_sizes_come_back() -> None:
    def graph(argument: int = 0) -> Graph:
        n = DimScope().symbol("n", argument, 0, 5)
        return graph_of(lambda x, y: ops["softmax"](x @ y), t(n, 4), t(4, 4))

    compiled, origin, content = kept(graph())
    assert loaded_program(content, origin) == dataclasses.replace(compiled, module="")
    assert name(graph()) == origin.text
    assert name(graph(1)) != origin.text


def test_an_answered_question_about_sizes_counts() -> None:
    def graph(hint: int) -> Graph:
        n = DimScope().symbol("n", 0, 0, hint)
        return graph_of(lambda x, y: x + y, t(n), t(3))

    assert name(graph(1)) != name(graph(3))


def test_sizes_of_two_traces_have_no_name() -> None:
    n, m = (DimScope().symbol("n", 0, 0) for _ in range(2))
    assert origin_of(graph_of(lambda x, y: [x, y], t(n), t(m)), host_target(), ()) is None


def test_a_compilation_that_asks_about_sizes_is_not_kept() -> None:
    scope = DimScope()
    n = scope.symbol("n", 0, 0, 5)
    graph = graph_of(lambda x: x * 2.0, t(n))
    compilation, origin = compile_full(graph), origin_of(graph, host_target(), ())
    assert origin is not None
    assert packed(compilation.program, "object", compilation.places, origin) is not None
    scope.decide("zero", n - 5, default=False)
    assert packed(compilation.program, "object", compilation.places, origin) is None


# -- what has no exact name


def test_host_steps_are_not_kept() -> None:
    graph = graph_of(lambda x: ops["singular_values"](x), t(3, 3))
    compilation, origin = compile_full(graph), origin_of(graph, host_target(), ())
    assert origin is not None
    assert packed(compilation.program, "object", compilation.places, origin) is None


def test_ops_and_attributes_of_the_users_own_have_no_name() -> None:
    own = Elementwise(
        name="doubled_for_a_test", ref=lambda x: x + x, scalar=lambda s, x: s.add(x, x),
        partials=(lambda z, x: 2.0,), public="",
    )  # fmt: skip
    try:
        assert origin_of(graph_of(lambda x: own(x), t(3)), host_target(), ()) is None
    finally:
        del ops["doubled_for_a_test"]
    x, y = Value(t(3), None), Value(t(3), None)
    node = Node(ops["identity"], (x,), {"k": print}, (y,))
    assert origin_of(Graph((x,), (node,), (y,)), host_target(), ()) is None
