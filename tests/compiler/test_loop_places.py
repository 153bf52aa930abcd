"""Passes on arrays that loops read and write by index: what they make, and that it is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops
from graphgrad.compiler.pipeline import optimise
from graphgrad.compiler.transform.autodiff import reverse
from graphgrad.compiler.transform.controlflow import cond_values, scan_values, while_values
from tests.compiler.compiling import graph_of, t
from tests.compiler.test_loop_passes import body, names, optimised, the

F = "float64"
N = 20


def at(x: Any, *places: Any) -> Any:
    return ops["dynamic_slice"](x, places, (1,) * len(places)).reshape(())


def put(x: Any, v: Any, *places: Any) -> Any:
    return ops["update_slice"](x, v.reshape((1,) * len(places)), places)


def loop(step: Any, trips: int, *state: Any) -> Any:
    return while_values(
        lambda i, *_: i < trips, lambda i, *xs: [i + 1, *step(i, *xs)], [0, *state]
    )[1:]


def gradient(fn: Any, *types: Any) -> Graph:
    """The gradient of a sum of `fn`, after the passes: what it is before them."""
    graph = graph_of(lambda *xs: fn(*xs).sum(tuple(range(fn(*xs).ndim))), *types)
    back = reverse(graph, (True,), tuple(p.type.dtype.is_inexact for p in graph.params))[0]
    after = optimise(back)[0]
    rng = np.random.default_rng(0)
    values = [
        np.asarray(rng.integers(0, 5, x.shape) if x.dtype.is_integer else rng.normal(size=x.shape))
        .astype(x.dtype.dtype) for x in back.types
    ]  # fmt: skip
    for a, b in zip(interpret(back, values), interpret(after, values), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    return after


def all_names(graph: Graph) -> list[tuple[str, str]]:
    """The ops of a graph and of those within, with the types that they give."""
    found = []
    for node in graph.nodes:
        found += [(node.op.name, str(v.type)) for v in node.outputs]
        for value in node.attrs.values():
            if isinstance(value, Graph):
                found += all_names(value)
    return found


def dense(graph: Graph, size: str) -> list[str]:
    """Ops within loops that compute all elements of an array of that type."""
    inner = [n.attrs["body_graph"] for n in graph.nodes if n.op.name in ("scan", "while_loop")]
    kept = ("update_slice", "scan", "while_loop", "cond")
    return [name for g in inner for name, t in all_names(g) if t == size and name not in kept]


# -- what the last step wrote


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("size", "rows"), [(1, 1), (1, 3)])
def test_what_the_last_step_wrote_is_not_read(backwards: bool, size: int, rows: int) -> None:
    shift = 1 if backwards else -1

    def f(y: Any, xs: Any) -> Any:
        def step(y: Any, x: Any, i: Any) -> list[Any]:
            i = i + 1
            old = ops["dynamic_slice"](y, (1, i + shift), (rows, size))
            return [ops["update_slice"](y, ops["sin"](old) + x, (1, i))]

        places = ops["iota"](size=12)
        return scan_values(step, [y], [xs, places], reverse=backwards)

    after = optimised(f, t(5, N, dtype=F), t(12, dtype=F))
    assert "dynamic_slice" not in names(body(after))
    assert the("scan", after).attrs["carried"] == 2


@pytest.mark.parametrize(
    "case", ["two behind", "ahead", "another row", "moving rows", "written twice", "unsure"]
)
def test_what_other_steps_wrote_is_read(case: str) -> None:
    def step(i: Any, y: Any, x: Any) -> list[Any]:
        i = i + 3
        read = {"two behind": (0, i - 2), "ahead": (0, i + 1), "another row": (1, i - 1),
                "moving rows": (i - 1, i - 1)}.get(case, (0, i - 1))  # fmt: skip
        write = (i, i) if case == "moving rows" else (0, i)
        if case == "moving rows":
            read = (i, i - 1)
        value = ops["sin"](at(y, *read)) + x
        if case == "written twice":
            y = put(y, value * 2.0, 0, i - 2)
        if case == "unsure":
            return [*cond_values(value > 0.0, lambda: [put(y, value, *write)], lambda: [y]), x]
        return [put(y, value, *write), x]

    f = lambda y, x: loop(step, 9, y, x)  # noqa: E731
    after = optimised(f, t(N, N, dtype=F), t(dtype=F))
    assert ("dynamic_slice", "f64[1, 1]") in all_names(body(after))


# -- places


def test_a_place_that_is_read_and_written_alone_is_the_state() -> None:
    def f(c: Any, xs: Any, i: Any) -> Any:
        def step(c: Any, x: Any) -> list[Any]:
            c = put(c, at(c, i, 2) + x, i, 2)
            return [put(c, at(c, i, 2) * 0.5, i, 2)]

        return scan_values(step, [c], [xs])

    values = [np.ones((5, N)), np.arange(7.0), np.int32(3)]
    types = t(5, N, dtype=F), t(7, dtype=F), t(dtype="int32")
    after = optimised(f, *types, arrays=values)
    assert the("scan", after).out.type.shape == (1, 1)
    assert not {"update_slice", "dynamic_slice"} & {*names(body(after))}


@pytest.mark.parametrize("case", ["read elsewhere", "stacked", "moving", "perhaps no step"])
def test_an_array_stays_the_state(case: str) -> None:
    def f(c: Any, xs: Any, i: Any) -> Any:
        if case == "perhaps no step":
            return loop(lambda k, c: [put(c, at(c, i) * 0.5, i)], i, c)

        def step(c: Any, i: Any, x: Any) -> list[Any]:
            x = x + at(c, i + 1) if case == "read elsewhere" else x
            c = put(c, at(c, i) + x, i)
            i = i + 1 if case == "moving" else i
            return [c, i, c * 1.0] if case == "stacked" else [c, i]

        return scan_values(step, [c, i], [xs])

    values = [np.ones(N), np.arange(7.0), np.int32(3)]
    after = optimised(f, t(N, dtype=F), t(7, dtype=F), t(dtype="int32"), arrays=values)
    assert ("update_slice", "f64[20]") in all_names(after)
    inner = [n for n in after.nodes if n.op.name in ("scan", "while_loop")]
    assert any(n.outputs[k].type.shape == (N,) for n in inner for k in range(n.attrs["carried"]))


def test_what_was_just_written_is_not_read() -> None:
    def f(y: Any, xs: Any, i: Any) -> Any:
        def step(y: Any, x: Any, k: Any) -> list[Any]:
            y = put(y, ops["sin"](at(y, k)), i)
            y = put(y, x, i)
            return [put(y, at(y, i) * 0.5, k)]

        return scan_values(step, [y], [xs, ops["iota"](size=7)])

    values = [np.arange(20.0), np.arange(7.0), np.int32(3)]
    after = optimised(f, t(N, dtype=F), t(7, dtype=F), t(dtype="int32"), arrays=values)
    assert names(body(after)).count("update_slice") == 2
    assert "dynamic_slice" not in names(body(after))
    assert "sin" not in names(body(after))


# -- sums of cotangents


def test_the_cotangent_of_a_read_is_added_at_its_place() -> None:
    def f(x: Any, table: Any, w: Any) -> Any:
        def step(i: Any, x: Any) -> list[Any]:
            y = ops["sin"](at(x, i)) * at(table, i % 5, i) + at(x, i + 3) * at(table, 2, i + 1)
            return [put(x, y * w, i + 1)]

        return loop(step, 9, x)[0]

    after = gradient(f, t(N, dtype=F), t(5, N, dtype=F), t(dtype=F))
    assert not dense(after, "f64[20]")
    assert not dense(after, "f64[5, 20]")


def test_sums_of_inner_loops_and_branches_begin_with_those_around() -> None:
    def f(a: Any, b: Any, x: Any) -> Any:
        def outer(i: Any, x: Any) -> list[Any]:
            inner = lambda j, x: [ops["sin"](x) + at(a, i, j) * at(b, j)]  # noqa: E731
            (x,) = loop(inner, 7, x)
            return [*cond_values(x > 0.5, lambda: [x * at(a, i, i)], lambda: [x + at(b, i + 1)])]

        return loop(outer, 5, x)[0]

    after = gradient(f, t(7, N, dtype=F), t(N, dtype=F), t(dtype=F))
    assert not dense(after, "f64[7, 20]")
    assert not dense(after, "f64[20]")


def test_rows_of_a_table_within_rows() -> None:
    def f(table: Any, places: Any) -> Any:
        def step(x: Any, i: Any) -> list[Any]:
            row = ops["gather"](table, i)
            return [ops["sin"](x) * ops["gather"](row, i + 2)]

        return scan_values(step, [table.sum((0, 1))], [places])[0]

    after = gradient(f, t(6, N, dtype=F), t(9, dtype="int32"))
    assert not dense(after, "f64[6, 20]")
    assert {*dense(after, "f64[20]")} <= {"gather"}


def test_large_blocks_at_known_places_stay_sums() -> None:
    def f(u: Any) -> Any:
        part = lambda u, k: ops["slice"](u, (k,), (N - 2,), (1,))  # noqa: E731
        step = lambda i, u: [  # noqa: E731
            ops["update_slice"](u, ops["sin"](part(u, 0)) + part(u, 2) * part(u, 1), (1,))
        ]
        return loop(step, 5, u)[0]

    assert "add" in dense(gradient(f, t(N, dtype=F)), "f64[20]")


def test_sums_of_the_user_stay_as_they_are() -> None:
    """-0 + 0 is 0: only in cotangents it does not matter."""

    def f(x: Any) -> Any:
        zeros = ops["cast"](0.0, F).broadcast_to((N,))
        return loop(lambda i, x: [x + put(zeros, at(x, i), i + 1)], 5, x)

    minus = [np.full(N, -0.0)]
    after = optimised(f, t(N, dtype=F), arrays=minus)
    assert ("add", "f64[20]") in all_names(after)
    assert not np.signbit(interpret(after, minus)[0]).any()
