"""Loops and branches as native code, against the interpreter."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import assembly
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.driver import Compilation
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops
from graphgrad.compiler.report import make_report
from graphgrad.compiler.transform.controlflow import cond_values, while_values
from graphgrad.runtime.program import Host
from tests.compiler.compiling import check, compile_full, graph_of, run_compiled, t

F = "float64"


@pytest.fixture(autouse=True)
def regions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops of few scalars, which are functions of their own, take the way of the others here."""
    monkeypatch.setattr(assembly, "is_scalar_loop", lambda node: False)


def native(fn: Any, *types: Any, **options: Any) -> Compilation:
    """`check`, where nothing may be a host step."""
    compilation = check(fn, *types, **options)
    assert not any(isinstance(s, Host) for s in compilation.program.steps)
    return compilation


def scan(
    body: Graph, *inputs: Any, carried: int, scanned: int, length: Any, reverse: bool = False,
    masked: bool = False,
) -> list[Any]:  # fmt: skip
    return list(
        ops["scan"](
            *inputs, body_graph=body, carried=carried, scanned=scanned, length=length,
            reverse=reverse, masked=masked, varying=(), padded=(),
        )
    )  # fmt: skip


# -- while_loop


@pytest.mark.parametrize("trips", [0, 1, 2, 5])
def test_a_loop_until_a_condition(trips: int) -> None:
    def f(n: Any, x: Any) -> Any:
        return while_values(
            lambda i, x, s: i < n, lambda i, x, s: [i + 1, ops["sin"](x) + x, s + x], [0, x, x]
        )

    native(f, t(dtype="int32"), t(3, 5, dtype=F), arrays=[np.int32(trips), np.ones((3, 5))])


@pytest.mark.parametrize("limit", [0, 1, 4, 9])
def test_the_most_iterations(limit: int) -> None:
    def f(x: Any) -> Any:
        return while_values(lambda x: x.sum((0,)) < 40.0, lambda x: [x * 2.0], [x], limit)

    native(f, t(3, dtype=F), arrays=[np.ones(3)])


def test_state_that_is_exchanged_repeated_constant_and_unchanged() -> None:
    def f(a: Any, b: Any, c: Any, d: Any) -> Any:
        def body(i: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
            both = a + b
            return [i + 1, b, both, both, d, ops["mul"](np.ones(4), 2.0)]

        return while_values(lambda i, *_: i < 5, body, [0, a, b, c, d, a])

    native(f, *[t(4, dtype=F)] * 4)


def test_loops_and_branches_within_loops() -> None:
    def f(x: Any, w: Any) -> Any:
        def inner(j: Any, y: Any, x: Any) -> Any:
            turned = cond_values(
                y.sum((0,)) > 3.0, lambda: [y - x, j + 2], lambda: [y * 0.5 + w @ x, j + 1]
            )
            return [turned[1], turned[0], x]

        def outer(i: Any, x: Any) -> Any:
            _, y, _ = while_values(lambda j, y, x: j < i, inner, [0, x, x])
            return [i + 1, ops["tanh"](y)]

        return while_values(lambda i, x: i < 6, outer, [0, x])

    native(f, t(4, dtype=F), t(4, 4, dtype=F))


# -- scan


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_slices_and_stacks(length: int, reverse: bool) -> None:
    def body(s: Any, c: Any, x: Any, w: Any) -> Any:
        z = s * w + x
        return [z, x, z, s, x * 2.0, c]  # a state that is stacked as well, old and new

    graph = graph_of(body, *[t(3, dtype=F)] * 4)

    def f(s: Any, c: Any, xs: Any, w: Any) -> Any:
        return scan(graph, s, c, xs, w, carried=2, scanned=1, length=length, reverse=reverse)

    native(f, t(3, dtype=F), t(3, dtype=F), t(length, 3, dtype=F), t(3, dtype=F))


@pytest.mark.parametrize("reverse", [False, True])
def test_steps_that_are_not_made(reverse: bool) -> None:
    graph = graph_of(lambda s, u, x: [s + x, u * 0.5, s * x, s + x, u], *[t(3, dtype=F)] * 3)
    flags = np.array([True, False, True, True, False])

    def f(s: Any, u: Any, xs: Any) -> Any:
        mask = ops["add"](np.zeros(5), flags) > 0.0
        return scan(
            graph, s, u, mask, xs, carried=2, scanned=1, length=5, reverse=reverse, masked=True
        )

    native(f, t(3, dtype=F), t(3, dtype=F), t(5, 3, dtype=F))


def test_unknown_sizes() -> None:
    scope = DimScope()
    n, m = scope.symbol("n", 0, 0, 4), scope.symbol("m", 0, 1, 5)
    graph = graph_of(lambda s, x: [s + x, s.sum((0,))], t(m, dtype=F), t(m, dtype=F))

    def f(xs: Any) -> Any:
        start = ops["broadcast_to"](np.float64(1.0), (m,))
        return scan(graph, start, xs, carried=1, scanned=1, length=n)

    native(f, t(n, m, dtype=F), sizes=(4, 7), python=False)
    native(f, t(n, m, dtype=F), sizes=(0, 3), python=False)


def test_complex_state() -> None:
    z = t(3, dtype="complex128")
    graph = graph_of(lambda s, x: [s * x, s + x], z, z)

    def f(s: Any, xs: Any) -> Any:
        return scan(graph, s, xs, carried=1, scanned=1, length=4)

    rng = np.random.default_rng(0)
    s, xs = (rng.normal(size=(*n, 3)) + 1j * rng.normal(size=(*n, 3)) for n in ((), (4,)))
    compilation = compile_full(graph_of(f, z, t(4, 3, dtype="complex128")))
    assert not any(isinstance(step, Host) for step in compilation.program.steps)
    for got, expected in zip(
        run_compiled(compilation, [s, xs]), interpret(compilation.graph, [s, xs]), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-14)


# -- cond


def test_branches_that_give_what_they_are_given() -> None:
    def f(c: Any, x: Any, y: Any) -> Any:
        return cond_values(
            c > 0.0, lambda: [x, y, x, x + y], lambda: [y, ops["mul"](np.ones(3), 3.0), y * x, x]
        )

    for c in (-1.0, 1.0):
        native(f, t(dtype=F), t(3, dtype=F), t(3, dtype=F), arrays=[np.float64(c), *np.eye(3)[:2]])


# -- failures, text


def test_the_text_does_not_grow_with_the_trips() -> None:
    def text(trips: int) -> str:
        def f(x: Any) -> Any:
            return while_values(
                lambda i, x: i < trips, lambda i, x: [i + 1, x * 0.5 + 1.0], [0, x], trips
            )

        return native(f, t(3, dtype=F)).program.module

    assert len(text(10)) == len(text(99))


def test_a_failure_within_a_loop() -> None:
    def f(x: Any, k: Any) -> Any:
        return while_values(
            lambda i, s: i < 10,
            lambda i, s: [i + 1, s + ops["gather"](x, i + k)],
            [0, ops["max"](x)],
        )

    compilation = native(f, t(12, dtype=F), t(dtype="int32"), arrays=[np.arange(12.0), np.int32(2)])
    with pytest.raises(Exception, match="index 12 is out of range"):
        run_compiled(compilation, [np.arange(12.0), np.int32(5)])


def test_a_report_shows_what_runs_within() -> None:
    def step(i: Any, x: Any) -> Any:
        halved = cond_values(x.sum((0,)) > 3.0, lambda: [x * 0.5], lambda: [ops["sin"](x)])
        return [i + 1, *halved]

    def f(n: Any, x: Any) -> Any:
        return while_values(lambda i, x: i < n, step, [0, x])

    types = t(dtype="int32"), t(40, dtype=F)
    compilation = native(f, *types, arrays=[np.int32(3), np.ones(40)])
    report = make_report(compilation)
    (loop,) = report.steps
    branch = next(s for s in loop.within if s.kind == "branch")
    assert [s.fused for s in branch.within] == [("mul",), ("sin",)]
    assert len(report.kernels) == 5  # of the condition and the body, two of them in the branch
    assert "1 loop" in str(report)
    assert "        kernel k_sin_" in str(report)


# -- updates in place


def test_a_table_is_updated_where_it_lies() -> None:
    def step(i: Any, table: Any) -> Any:
        row = ops["dynamic_slice"](table, (i,), (2,))
        new = ops["sum"](row, 0).reshape((1,))
        return [i + 1, ops["update_slice"](table, new, (i + 2,))]

    def f(table: Any) -> Any:
        return while_values(lambda i, t: i < 8, step, [0, table])

    compilation = native(f, t(10, dtype=F))
    assert copies(compilation, 1) == 0


def test_a_branch_that_updates_a_table_of_the_loop_around() -> None:
    def step(i: Any, table: Any) -> Any:
        value = ops["dynamic_slice"](table, (i,), (1,))
        replaced = cond_values(
            value.reshape(()) > 0.0,
            lambda: [ops["update_slice"](table, value * 2.0, (i + 1,))],
            lambda: [table],
        )
        return [i + 1, *replaced]

    def f(table: Any) -> Any:
        return while_values(lambda i, t: i < 9, step, [0, table])

    compilation = native(f, t(10, dtype=F))
    assert copies(compilation, 1) == 0


def test_a_table_that_an_inner_loop_updates() -> None:
    def f(table: Any) -> Any:
        def inner(i: Any, j: Any, table: Any) -> Any:
            value = ops["gather"](table, i) + 1.0
            place = (i + j).reshape((1,))
            return [i, j + 1, ops["scatter"](table, value.reshape((1,)), place, "update")]

        def outer(i: Any, table: Any) -> Any:
            return [i + 1, while_values(lambda i, j, t: j < 3, inner, [i, 0, table])[2]]

        return while_values(lambda i, t: i < 6, outer, [0, table])

    assert copies(native(f, t(10, dtype=F)), 0) == 0


def test_a_table_is_copied_where_its_old_value_is_still_needed() -> None:
    def step(i: Any, table: Any, seen: Any) -> Any:
        new = ops["update_slice"](table, seen.reshape((1,)), (i,))
        return [i + 1, new, ops["sum"](table, 0) + ops["sum"](new, 0) * 0.1]

    def f(table: Any) -> Any:
        return while_values(lambda i, *_: i < 8, step, [0, table, ops["sum"](table, 0)])

    def stacked(i: Any, table: Any) -> Any:
        return [i + 1, ops["update_slice"](table, ops["sin"](table), (0,)), table]

    assert copies(native(f, t(10, dtype=F)), 1) == 1
    body = graph_of(stacked, t(dtype="int32"), t(10, dtype=F))
    native(
        lambda x: scan(body, 0, x, carried=2, scanned=0, length=4),
        t(10, dtype=F),
    )


def test_two_tables_that_begin_as_one_array() -> None:
    def step(i: Any, a: Any, b: Any) -> Any:
        one = ops["dynamic_slice"](b, (i,), (1,))
        return [i + 1, ops["update_slice"](a, one * 2.0, (i + 1,)),
                ops["update_slice"](b, one * 3.0, (i + 2,))]  # fmt: skip

    def f(x: Any) -> Any:
        y = ops["sin"](x)
        return while_values(lambda i, *_: i < 7, step, [0, y, y])

    native(f, t(10, dtype=F))


def copies(compilation: Compilation, blocks: int) -> int:
    """How many copies the regions of a program make, beside so many of updated blocks."""
    text = "".join(
        re.findall(r"define internal i32 @region_\d+\(.*?\n}", compilation.program.module, re.S)
    )
    calls = re.findall(r"call i32 @k_(?:update_slice|scatter)_[0-9a-f]{12}\(", text)
    return len(calls) - blocks + text.count("memcpy")
