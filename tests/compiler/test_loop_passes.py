"""The passes on loops, each before and after, and against the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.errors import IndexOutOfRange
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph, Node
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.callback import Callback
from graphgrad.compiler.pipeline import optimise
from graphgrad.compiler.transform.autodiff import reverse
from graphgrad.compiler.transform.controlflow import cond_values, scan_values, while_values
from graphgrad.compiler.transform.segments import has_runtime_sizes
from tests.compiler.compiling import graph_of, samples, t

F = "float64"


@pytest.fixture(autouse=True)
def checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass of these tests is verified."""
    monkeypatch.setenv("GRAPHGRAD_CHECKS", "1")


def optimised(fn: Callable[..., Any], *types: Any, arrays: Any = None, exact: bool = True) -> Graph:
    """The graph of `fn` after the passes, which gives what it gave before."""
    graph = graph_of(fn, *types)
    after = optimise(graph)[0]
    values = samples(types) if arrays is None else arrays
    for a, b in zip(interpret(graph, values), interpret(after, values), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if exact:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    return after


def the(name: str, graph: Graph) -> Node:
    (node,) = [n for n in graph.nodes if n.op.name == name]
    return node


def body(graph: Graph, name: str = "scan") -> Graph:
    found: Graph = the(name, graph).attrs["body_graph"]
    return found


def names(graph: Graph) -> list[str]:
    return sorted(n.op.name for n in graph.nodes)


# -- what nobody reads


def test_results_that_nobody_reads_take_their_state_and_inputs_along() -> None:
    def f(x: Any, unread: Any, xs: Any, a: Any, b: Any) -> Any:
        def step(h: Any, k: Any, x: Any) -> Any:
            return [h * a + x, ops["sin"](k * b), h + b, k]

        return scan_values(step, [x, unread], [xs])[0]

    after = optimised(f, t(3, dtype=F), t(3, dtype=F), t(5, 3, dtype=F), *[t(3, dtype=F)] * 2)
    assert the("scan", after).attrs["carried"] == 1
    assert len(the("scan", after).inputs) == 3
    assert len(the("scan", after).outputs) == 1
    assert names(body(after)) == ["add", "mul"]


def test_state_that_a_read_state_needs_stays() -> None:
    def f(x: Any, xs: Any) -> Any:
        return scan_values(lambda h, k, x: [h + k, k * x], [x, x], [xs])[0]

    assert the("scan", optimised(f, t(3, dtype=F), t(5, 3, dtype=F))).attrs["carried"] == 2


def test_the_condition_keeps_what_it_reads() -> None:
    def f(n: Any, x: Any, y: Any) -> Any:
        body = lambda i, x, y: [i + 1, x * 2.0, y * y]  # noqa: E731
        return while_values(lambda i, x, y: i < n, body, [0, x, y])[1]

    types = t(dtype="int32"), t(3, dtype=F), t(3, dtype=F)
    after = optimised(f, *types, arrays=[np.int32(3), np.ones(3), np.ones(3)])
    assert the("while_loop", after).attrs["carried"] == 2


def test_state_that_does_not_change_is_captured() -> None:
    def f(x: Any, w: Any, xs: Any) -> Any:
        return scan_values(lambda h, w, x: [h * w + x, w], [x, w], [xs])

    after = optimised(f, t(3, dtype=F), t(3, dtype=F), t(5, 3, dtype=F))
    assert the("scan", after).attrs["carried"] == 1
    assert after.outputs[1] is after.params[1]


@pytest.mark.parametrize("trips", [0, 3])
def test_state_of_a_while_loop_that_does_not_change_is_captured(trips: int) -> None:
    def f(n: Any, x: Any, w: Any) -> Any:
        body = lambda i, n, x, w: [i + 1, n, x * w, w]  # noqa: E731
        return while_values(lambda i, n, x, w: i < n, body, [0, n, x, w])

    types = t(dtype="int32"), t(3, dtype=F), t(3, dtype=F)
    after = optimised(f, *types, arrays=[np.int32(trips), np.full(3, 2.0), np.full(3, 3.0)])
    assert the("while_loop", after).attrs["carried"] == 2


def test_equal_inputs_are_one() -> None:
    def f(x: Any, xs: Any, w: Any) -> Any:
        def step(h: Any, a: Any, b: Any) -> Any:
            return [h * w + a * b]

        return scan_values(step, [x], [xs, xs])

    after = optimised(f, t(3, dtype=F), t(5, 3, dtype=F), t(3, dtype=F))
    assert the("scan", after).attrs["scanned"] == 1


def test_constants_are_known_in_the_body() -> None:
    def f(x: Any, xs: Any) -> Any:
        two = ops["broadcast_to"](ops["identity"](2.0).cast(x.dtype), (3,))
        return scan_values(lambda h, x: [ops["sin"](h * (two - 1.0)) + x], [x], [xs])

    assert names(body(optimised(f, t(3, dtype=F), t(5, 3, dtype=F)))) == ["add", "sin"]


def test_slices_that_are_all_the_same_are_captured() -> None:
    def f(x: Any, row: Any, one: Any) -> Any:
        xs = row.broadcast_to((5, 3)), one.broadcast_to((5, 3))
        return scan_values(lambda h, a, b: [h * a + b], [x], xs)

    after = optimised(f, t(3, dtype=F), t(3, dtype=F), t(1, 3, dtype=F))
    assert the("scan", after).attrs["scanned"] == 0


def test_effects_stay_with_what_they_read() -> None:
    seen = []
    note = Callback(lambda k: seen.append(float(k)) or [], "note")

    def f(x: Any, k: Any, xs: Any) -> Any:
        def step(h: Any, k: Any, x: Any) -> Any:
            ops["callback"](k, function=note, shapes=(), dtypes=())
            return [h + x, k * 2.0]

        return scan_values(step, [x, k], [xs])[0]

    optimised(
        f, t(3, dtype=F), t(dtype=F), t(3, 3, dtype=F), arrays=[np.ones(3), 1.0, np.ones((3, 3))]
    )
    assert seen == [1.0, 2.0, 4.0] * 2


def test_branches_lose_what_nobody_reads() -> None:
    def f(x: Any, y: Any, z: Any) -> Any:
        taken = cond_values(
            x.sum((0,)) > 0.0, lambda: [x * y, z, ops["sin"](z)], lambda: [x, z, z * z]
        )
        return taken[:2]

    after = optimised(f, *[t(3, dtype=F)] * 3)
    assert len(the("cond", after).outputs) == 1
    assert len(the("cond", after).inputs) == 3
    assert after.outputs[1] is after.params[2]


# -- loops whose steps can be counted


def counting(start: int, step: int, test: Callable[[Any], Any], limit: int | None = None) -> Any:
    def f(x: Any) -> Any:
        body = lambda i, x: [i + step, x * 1.5 + 1.0]  # noqa: E731
        return while_values(lambda i, x: test(i), body, [start, x], limit)

    return f


@pytest.mark.parametrize(
    ("start", "step", "test", "limit", "steps"),
    [
        (0, 1, lambda i: i < 5, None, 5),
        (0, 3, lambda i: i < 5, None, 2),
        (0, 3, lambda i: i <= 6, None, 3),
        (5, 1, lambda i: i < 5, None, 0),
        (5, -2, lambda i: i > 0, None, 3),
        (5, -2, lambda i: i >= 1, None, 3),
        (0, 2, lambda i: i != 6, None, 3),
        (0, 1, lambda i: ops["greater"](7, i), None, 7),
        (0, 1, lambda i: i < 50, 4, 4),
    ],
)
def test_a_loop_that_counts_is_a_scan(
    start: int, step: int, test: Any, limit: int | None, steps: int
) -> None:
    after = optimised(counting(start, step, test, limit), t(3, dtype=F))
    assert the("scan", after).attrs["length"] == steps


@pytest.mark.parametrize(
    ("start", "step", "test"),
    [(0, -1, lambda i: i < 5), (0, 2, lambda i: i != 5), (0, 0, lambda i: i < 5)],
)
def test_a_loop_that_would_pass_its_limit_stays(start: int, step: int, test: Any) -> None:
    after = optimise(graph_of(counting(start, step, test, 20), t(3, dtype=F)))[0]
    assert the("while_loop", after)


def test_the_reverse_of_a_loop_that_counts_has_no_unknown_sizes() -> None:
    def f(x: Any, w: Any) -> Any:
        body = lambda i, x, w: [i + 1, ops["sin"](x * w), w]  # noqa: E731
        return while_values(lambda i, x, w: i < 4, body, [0, x, w])[1].sum((0,))

    types = t(3, dtype=F), t(3, dtype=F)
    back = reverse(graph_of(f, *types), (True,), (True, True))[0]
    values = [*samples(types), np.zeros(()), np.ones(())]
    after = optimise(back)[0]
    for a, b in zip(interpret(back, values), interpret(after, values), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not has_runtime_sizes(after)
    assert "while_loop" not in names(after)
    assert not any(n.attrs["masked"] for n in after.nodes if n.op.name == "scan")


# -- what is the same in every step


def test_what_is_the_same_in_every_step_is_computed_once() -> None:
    def f(h: Any, w: Any, xs: Any) -> Any:
        step = lambda h, x: [h * (ops["exp"](w) + w) + ops["matmul"](w, w) @ x]  # noqa: E731
        return scan_values(step, [h], [xs])

    after = optimised(f, t(3, 3, dtype=F), t(3, 3, dtype=F), t(5, 3, 3, dtype=F), exact=False)
    assert names(body(after)) == ["add", "matmul", "mul"]


def test_the_condition_is_spared_what_is_the_same() -> None:
    def f(x: Any, w: Any) -> Any:
        test = lambda x: x.sum((0,)) < ops["exp"](w).sum((0,))  # noqa: E731
        return while_values(test, lambda x: [x * 2.0], [x])

    types = t(3, dtype=F), t(3, dtype=F)
    after = optimised(f, *types, arrays=[np.full(3, 0.01), np.ones(3)])
    assert names(the("while_loop", after).attrs["cond_graph"]) == ["less", "sum"]


def test_a_broadcast_stays_where_it_is_read() -> None:
    def f(h: Any, b: Any, xs: Any) -> Any:
        return scan_values(lambda h, x: [h + b.broadcast_to((4, 3)) * x], [h], [xs])

    after = optimised(f, t(4, 3, dtype=F), t(3, dtype=F), t(5, 4, 3, dtype=F))
    assert "broadcast_to" in names(body(after))
    assert names(after) == ["scan"]


@pytest.mark.parametrize("steps", [0, 2])
def test_what_may_fail_moves_only_if_a_step_is_made(steps: int) -> None:
    def f(h: Any, table: Any, places: Any, xs: Any) -> Any:
        return scan_values(lambda h, x: [h + ops["gather"](table, places) * x], [h], [xs])

    types = t(3, dtype=F), t(4, dtype=F), t(3, dtype="int32"), t(steps, 3, dtype=F)
    arrays = [np.ones(3), np.ones(4), np.arange(3, dtype=np.int32), np.ones((steps, 3))]
    after = optimised(f, *types, arrays=arrays)
    assert ("gather" in names(body(after))) == (steps == 0)


# -- what does not depend on the state


def recurrent(h: Any, xs: Any, w: Any, u: Any, b: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h = ops["tanh"](ops["matmul"](x * 2.0, w) + ops["matmul"](h, u) + b)
        return [h, ops["sin"](x)]

    return scan_values(step, [h], [xs])


RECURRENT = t(2, 3, dtype=F), t(5, 2, 4, dtype=F), t(4, 3, dtype=F), t(3, 3, dtype=F), t(3, dtype=F)


def test_products_of_slices_are_one_product_before_the_loop() -> None:
    after = optimised(recurrent, *RECURRENT, exact=False)
    assert the("matmul", after).inputs[0].type == t(10, 4, dtype=F)
    assert names(body(after)).count("matmul") == 1
    assert len(the("scan", after).outputs) == 1  # sin(xs) is outside too


def test_columns_of_slices_are_one_product() -> None:
    def f(h: Any, xs: Any, w: Any) -> Any:
        return scan_values(lambda h, x: [ops["tanh"](h + w @ x)], [h], [xs])

    after = optimised(f, t(3, dtype=F), t(5, 4, dtype=F), t(3, 4, dtype=F), exact=False)
    assert the("matmul", after).inputs[0].type == t(5, 4, dtype=F)
    assert "matmul" not in names(body(after))


def test_products_with_the_state_stay() -> None:
    def f(h: Any, xs: Any) -> Any:
        return scan_values(lambda h, x: [ops["matmul"](h, x)], [h], [xs])

    after = optimised(f, t(3, 3, dtype=F), t(5, 3, 3, dtype=F))
    assert names(after) == ["scan"]


# -- what the loop only gathers


def gradients(f: Callable[..., Any], *types: Any) -> tuple[Graph, list[Any]]:
    """The reverse of the sum of what `f` gives, and arrays for it."""

    def total(*xs: Any) -> Any:
        outs = f(*xs)
        return sum((y.sum(tuple(range(y.ndim))) for y in outs[1:]), outs[0].sum((0, 1)))

    back = reverse(graph_of(total, *types), (True,), (True,) * len(types))[0]
    return back, [*samples(types), np.ones(()), np.ones(())]


@pytest.mark.parametrize("backwards", [False, True])
def test_gradients_of_weights_are_one_product_behind_the_loop(backwards: bool) -> None:
    def f(h: Any, xs: Any, w: Any, u: Any, b: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = ops["tanh"](ops["matmul"](x, w) + ops["matmul"](h, u) + b)
            return [h, h * h]

        return scan_values(step, [h], [xs], backwards)

    back, values = gradients(f, *RECURRENT)
    after = optimise(back)[0]
    for a, b in zip(interpret(back, values), interpret(after, values), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    loops = [n for n in after.nodes if n.op.name == "scan"]
    assert [n.attrs["carried"] for n in loops] == [1, 1]
    for n in loops:
        assert names(n.attrs["body_graph"]).count("matmul") == 1
    # x @ w before; the gradients of xs, w and u, one product each, behind.
    assert names(after).count("matmul") == 4


def test_a_sum_keeps_the_terms_that_are_no_products() -> None:
    def f(total: Any, h: Any, xs: Any) -> Any:
        def step(total: Any, h: Any, x: Any) -> Any:
            product = ops["matmul"](x, h, transpose_a=True)
            return [total + (product + ops["sin"](h).sum((0,))), h * 0.5]

        return scan_values(step, [total, h], [xs])

    types = t(4, 3, dtype=F), t(2, 3, dtype=F), t(5, 2, 4, dtype=F)
    after = optimised(f, *types, exact=False)
    assert the("matmul", after)
    assert the("scan", after).attrs["carried"] == 2
    assert "matmul" not in names(body(after))


def test_a_sum_that_is_read_on_the_way_stays() -> None:
    def f(total: Any, xs: Any) -> Any:
        def step(total: Any, x: Any) -> Any:
            after = total + ops["matmul"](x, x, transpose_a=True)
            return [after, after.sum((0,))]

        return scan_values(step, [total], [xs])

    after = optimised(f, t(4, 4, dtype=F), t(5, 2, 4, dtype=F))
    assert names(body(after)) == ["add", "matmul", "sum"]


def test_factors_that_take_more_than_the_sum_are_not_stacked() -> None:
    def f(total: Any, h: Any) -> Any:
        def body(i: Any, total: Any, h: Any) -> Any:
            return [i + 1, total + ops["matmul"](h, h, transpose_a=True), ops["sin"](h)]

        return while_values(lambda i, *_: i < 4, body, [0, total, h])

    after = optimised(f, t(2, 2, dtype=F), t(40, 2, dtype=F))
    assert "matmul" in names(body(after))


def test_results_that_the_state_does_not_need_are_computed_behind() -> None:
    def f(h: Any, xs: Any, u: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = ops["tanh"](h + x)
            return [h, ops["exp"](ops["matmul"](h, u)), ops["sin"](h), h]

        return scan_values(step, [h], [xs])

    after = optimised(f, t(2, 3, dtype=F), t(5, 2, 3, dtype=F), t(3, 4, dtype=F), exact=False)
    assert names(body(after)) == ["add", "tanh"]
    assert the("matmul", after).inputs[0].type == t(10, 3, dtype=F)


def test_no_steps_give_the_initial_sums() -> None:
    def f(total: Any, xs: Any, w: Any) -> Any:
        def step(total: Any, x: Any) -> Any:
            return [total + ops["matmul"](x, x, transpose_a=True), ops["matmul"](x, w)]

        return scan_values(step, [total], [xs])

    optimised(f, t(4, 4, dtype=F), t(0, 2, 4, dtype=F), t(4, 3, dtype=F))


def test_the_number_of_steps_may_be_unknown() -> None:
    n = DimScope().symbol("n", 1, 0)
    types = RECURRENT[0], t(n, 2, 4, dtype=F), *RECURRENT[2:]
    back, _ = gradients(recurrent, *types)
    values = [*samples(RECURRENT), np.ones(()), np.ones(())]
    after = optimise(back)[0]
    for a, b in zip(interpret(back, values), interpret(after, values), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert all(n.attrs["carried"] == 1 for n in after.nodes if n.op.name == "scan")


# -- indexing by a counter


def indexing(read: Callable[[Any, Any], Any], start: int, step: int, steps: int) -> Any:
    def f(h: Any, xs: Any) -> Any:
        body = lambda i, h: [i + step, ops["sin"](h) + read(xs, i)]  # noqa: E731
        return while_values(lambda i, h: i != start + steps * step, body, [start, h])[1:]

    return f


def wrapped(xs: Any, i: Any) -> Any:
    i = ops["where"](i < 0, i + 6, i)
    return ops["dynamic_slice"](xs, (i, 0), (1, 20)).reshape((20,))


@pytest.mark.parametrize(
    ("start", "step", "steps"),
    [(0, 1, 6), (1, 1, 4), (0, 2, 3), (5, -1, 6), (-1, -2, 3), (2, 1, 1)],
)
@pytest.mark.parametrize("by", ["gather", "slice"])
def test_rows_at_a_counter_are_slices(start: int, step: int, steps: int, by: str) -> None:
    read = wrapped if by == "slice" or start < 0 else lambda xs, i: ops["gather"](xs, i)
    f = indexing(read, start, step, steps)
    types = t(20, dtype=F), t(6, 20, dtype=F)  # more than scalar code holds
    after = optimised(f, *types)
    assert names(body(after)) in (["add", "sin"], ["add", "reshape", "sin"])
    back = reverse(graph_of(lambda *xs: f(*xs)[0].sum((0,)), *types), (True,), (True, True))[0]
    values = [*samples(types), np.ones(()), np.ones(())]
    gradient = optimise(back)[0]
    for a, b in zip(interpret(back, values), interpret(gradient, values), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    inside = [names(n.attrs["body_graph"]) for n in gradient.nodes if n.op.name == "scan"]
    assert not any("scatter_add" in found or "update_slice" in found for found in inside)
    assert "scatter_add" not in names(gradient)


@pytest.mark.parametrize(("start", "steps"), [(0, 7), (4, 3)])
def test_a_row_that_is_missing_is_an_error_still(start: int, steps: int) -> None:
    f = indexing(lambda xs, i: ops["gather"](xs, i), start, 1, steps)
    after = optimise(graph_of(f, t(3, dtype=F), t(6, 3, dtype=F)))[0]
    with pytest.raises(IndexOutOfRange):
        interpret(after, [np.ones(3), np.ones((6, 3))])


def test_a_counter_that_is_stretched_across_is_no_line() -> None:
    def f(h: Any, xs: Any) -> Any:
        grid = ops["iota"](size=3).broadcast_to((3, 3))
        return scan_values(lambda h, i: [ops["sin"](h) + ops["gather"](xs, i)], [h], [grid])

    optimised(f, t(3, dtype=F), t(3, dtype=F))


def test_gradients_of_a_table_are_scattered_once() -> None:
    def f(h: Any, table: Any, words: Any) -> Any:
        step = lambda h, word: [ops["sin"](h) + ops["gather"](table, word)]  # noqa: E731
        return scan_values(step, [h], [words])[0].sum((0,))

    types = t(20, dtype=F), t(6, 20, dtype=F), t(5, dtype="int32")
    back = reverse(graph_of(f, *types), (True,), (True, True, False))[0]
    values = [*samples(types[:2]), np.array([1, 4, 1, 5, 0], np.int32), np.ones(()), np.ones(())]
    after = optimise(back)[0]
    for a, b in zip(interpret(back, values), interpret(after, values), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert names(after).count("scatter_add") == 1


# -- products that are in part independent of the state


def lstm(h: Any, xs: Any, w: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        return [ops["tanh"](ops["matmul"](ops["concat"]([h, x], 1), w))]

    return scan_values(step, [h], [xs])


LSTM = t(2, 3, dtype=F), t(5, 2, 4, dtype=F), t(7, 3, dtype=F)


def test_a_product_of_state_and_slices_is_split() -> None:
    after = optimised(lstm, *LSTM, exact=False)
    assert the("matmul", after).inputs[0].type == t(10, 4, dtype=F)
    assert the("matmul", body(after)).inputs[0].type == t(2, 3, dtype=F)


def test_the_reverse_of_a_split_product_is_split() -> None:
    back, values = gradients(lstm, *LSTM)
    after = optimise(back)[0]
    for a, b in zip(interpret(back, values), interpret(after, values), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    for n in after.nodes:
        if n.op.name == "scan":
            product = the("matmul", n.attrs["body_graph"])
            assert product.out.type == t(2, 3, dtype=F)
    assert names(after).count("matmul") == 3  # xs @ w, the gradients of xs and of w
