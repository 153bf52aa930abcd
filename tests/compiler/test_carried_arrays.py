"""Arrays that scalar loops change where they lie, against the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Node
from graphgrad.compiler.kernels.carried_arrays import NoOrder, course, sorted_by
from graphgrad.compiler.kernels.scalar_loops import is_scalar_loop
from graphgrad.compiler.op import ops
from graphgrad.compiler.passes.reorder import Cycle
from graphgrad.compiler.transform.autodiff import reverse
from graphgrad.compiler.transform.controlflow import cond_values, while_values
from graphgrad.runtime.executor import KernelFailure
from tests.compiler.compiling import compile_full, graph_of, run_compiled, t
from tests.compiler.test_native_loops import scan
from tests.compiler.test_scalar_loops import exactly, scalar

F, I = "float64", "int64"  # noqa: E741
N = 20  # elements, more than are held in registers


def read(x: Any, i: Any) -> Any:
    return ops["gather"](x, ops["mod"](i, N))


def write(x: Any, i: Any, v: Any) -> Any:
    return ops["update_slice"](x, v.reshape((1,)), (ops["mod"](i, N),))


def loop(step: Any, trips: int, *state: Any) -> Any:
    """`step(i, *state) -> state`, so many times."""
    return while_values(lambda i, *_: i < trips, lambda i, *xs: [i + 1, *step(i, *xs)],
                        [0, *state])[1:]  # fmt: skip


# -- random programs


class Draw:
    """Random programs over two arrays, a float and an integer."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, *xs: Any) -> Any:
        return xs[int(self.rng.integers(len(xs)))]

    def state(self, a: Any, b: Any, x: Any, i: Any, depth: int) -> list[Any]:
        """The next state. Old values of the arrays are read after new ones are made."""
        old = a, b
        for _ in range(int(self.rng.integers(2, 6))):
            kind = self.pick("write", "write", "read", "add", "old", "index", "block", "row")
            if kind == "write":
                a = write(a, i * self.pick(1, 3), x)
            elif kind == "read":
                x = x * 0.5 + read(self.pick(a, b), i + 2)
            elif kind == "add":
                b = write(b, i, read(b, i) + x * 0.25)
            elif kind == "old":
                x = x + read(self.pick(*old), i)
            elif kind == "index":
                i = i * 5 + self.pick(1, 2)
            elif kind == "row":
                x = x + ops["slice"](b, (self.pick(3, 7),), (2,), (1,)).sum((0,)) * 0.125
            elif depth:
                a, b, x, i = self.block(a, b, x, i, depth - 1)
        if self.pick(False, False, True):
            a, b = b, a
        return [a, b, x, i]

    def block(self, a: Any, b: Any, x: Any, i: Any, depth: int) -> Any:
        if self.pick(False, True):
            return cond_values(
                ops["mod"](i, 3) > 0,
                lambda: self.state(a, b, x, i, depth),
                lambda: self.state(a, b, x, i, depth) if self.pick(False, True) else [a, b, x, i],
            )
        trips = int(self.rng.integers(4))
        return loop(lambda k, *xs: self.state(*xs[:3], xs[3] + k, depth), trips, a, b, x, i)


@pytest.mark.parametrize("seed", range(16))
def test_random_programs(seed: int) -> None:
    draw = Draw(seed)

    def f(a: Any, b: Any, x: Any, i: Any) -> Any:
        return loop(lambda k, *xs: draw.state(*xs[:3], xs[3] + k, 2), 5, a, b, x, i)

    graph = graph_of(f, t(N, dtype=F), t(N, dtype=F), t(dtype=F), t(dtype=I))
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=N), rng.normal(size=N), np.asarray(0.5), np.asarray(3)]
    exactly_native(graph, arrays)


@pytest.mark.parametrize("seed", range(4))
def test_gradients_of_random_programs(seed: int) -> None:
    draw = Draw(seed)

    def f(a: Any, b: Any, x: Any, i: Any) -> Any:
        step = lambda k, *xs: draw.state(*xs[:3], xs[3] + k, 1)  # noqa: E731
        a, b, x, _ = loop(step, 5, a, b, x, i)
        return (a * a).sum((0,)) + b.sum((0,)) * x

    graph = graph_of(f, t(N, dtype=F), t(N, dtype=F), t(dtype=F), t(dtype=I))
    back = reverse(graph, (True,), (True, True, True, False))[0]
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=N) * 0.3, rng.normal(size=N) * 0.3, np.asarray(0.5), np.asarray(3)]
    values = [*arrays, np.ones(()), np.ones(())][: len(back.params)]
    expected = interpret(back, values)
    for got, wanted in zip(run_compiled(compile_full(back), values), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9 * max(1, np.abs(wanted).max()))


def exactly_native(graph: Any, arrays: list[Any]) -> None:
    """As the interpreter, to the bit, whether in scalar code or in regions; arguments stay."""
    compilation = compile_full(graph)
    before = [x.copy() for x in arrays]
    expected = interpret(graph, arrays)
    for got, wanted in zip(run_compiled(compilation, arrays), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-13)
    for x, y in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(x, y)


# -- what is done in place, and what to a copy


def test_an_element_is_written_after_the_last_read_of_the_old_one() -> None:
    def step(i: Any, a: Any, x: Any) -> Any:
        new = write(a, i, x)  # made before the old one is read
        return [new, x + read(a, i)]

    scalar(lambda a, x: loop(step, 30, a, x), t(N, dtype=F), t(dtype=F))


def test_an_old_array_that_is_returned_is_no_scalar_code() -> None:
    def step(i: Any, a: Any, b: Any) -> Any:
        return [write(a, i, read(b, i) + 1.0), a]

    graph = graph_of(lambda a, b: loop(step, 7, a, b), t(N, dtype=F), t(N, dtype=F))
    assert not any(map(is_scalar_loop, loops_of(graph)))
    exactly_native(graph, [np.arange(20.0), np.ones(N)])


def loops_of(graph: Any) -> list[Node]:
    return [n for n in graph.nodes if n.op.name in ("scan", "while_loop")]


def test_arrays_that_are_exchanged_are_no_scalar_code() -> None:
    def step(i: Any, a: Any, b: Any) -> Any:
        return [b, write(a, i, read(b, i + 1) + 1.0)]

    graph = graph_of(lambda a, b: loop(step, 7, a, b), t(N, dtype=F), t(N, dtype=F))
    exactly_native(graph, [np.arange(20.0), np.ones(N)])


def test_a_new_array_in_each_step_is_copied_to_the_state() -> None:
    """The two rows of an edit distance."""

    def step(i: Any, row: Any) -> Any:
        new = ops["cast"](0.0, F).broadcast_to((N,))
        new = write(new, 0, ops["cast"](i, F))
        fill = lambda j, new: [  # noqa: E731
            write(new, j + 1, ops["minimum"](read(new, j), read(row, j + 1)) + 1.0)
        ]
        return loop(fill, N - 1, new)

    scalar(lambda row: loop(step, 5, row), t(N, dtype=F))


def test_two_arrays_that_begin_as_one() -> None:
    def step(i: Any, x: Any, table: Any) -> Any:
        inner = lambda j, a, b: [write(a, j, read(b, j + i) * 0.5), write(b, j, read(a, j))]  # noqa: E731
        a, b = loop(inner, 4, table, table)
        return [x + read(a, i) - read(b, i + 1), table]

    scalar(lambda x, table: loop(step, 6, x, table), t(dtype=F), t(N, dtype=F))


def test_a_part_of_an_array_is_updated_in_a_copy() -> None:
    def step(i: Any, m: Any, x: Any) -> Any:
        row = ops["dynamic_slice"](m, (ops["mod"](i, 3), 0), (1, N)).reshape((N,))
        row = write(row, i, x)
        m = ops["update_slice"](m, x.reshape((1, 1)), (ops["mod"](i, 3), i * 0))
        return [m, x + read(row, i) + read(row, i + 1)]

    scalar(lambda m, x: loop(step, 9, m, x), t(3, N, dtype=F), t(dtype=F))


def test_a_capture_is_updated_in_a_copy() -> None:
    def f(x: Any, table: Any) -> Any:
        return loop(lambda i, x: [x + read(write(table, i, x), i + 1)], 9, x)

    scalar(f, t(dtype=F), t(N, dtype=F))


@pytest.mark.parametrize("mode", ["update", "max", "min"])
def test_rows_scattered(mode: str) -> None:
    def step(i: Any, m: Any, rows: Any) -> Any:
        places = ops["concat"]([(i * k % 5).reshape((1,)) for k in (1, 3)], 0)
        return [ops["scatter"](m, rows, places, mode=mode), rows * 0.5]

    scalar(lambda m, rows: loop(step, 7, m, rows), t(5, 4, dtype=F), t(2, 4, dtype=F))


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "bfloat16", "float32", "uint64"])
def test_dtypes(dtype: str) -> None:
    step = lambda i, a: [write(write(a, i, read(a, i * 3)), i + 1, read(a, i + 7))]  # noqa: E731
    scalar(lambda a: loop(step, 50, a), t(N, dtype=dtype), python=dtype != "bfloat16")


def test_steps_that_are_not_made_leave_the_array() -> None:
    body = graph_of(
        lambda a, x, k: [write(a, k, x), x + read(a, k)], t(N, dtype=F), t(dtype=F), t(dtype=I)
    )

    def f(a: Any, x: Any, flags: Any, ks: Any) -> Any:
        return scan(body, a, x, flags, ks, carried=2, scanned=1, length=6, masked=True)

    flags = np.array([True, False, True, True, False, True])
    arrays = [np.arange(20.0), np.asarray(0.5), flags, np.arange(6)]
    types = t(N, dtype=F), t(dtype=F), t(6, dtype="bool"), t(6, dtype=I)
    exactly(graph_of(f, *types), arrays)


def test_unknown_sizes() -> None:
    n = DimScope().symbol("n", 0, 0)

    def f(x: Any) -> Any:
        step = lambda i, x: [  # noqa: E731
            ops["update_slice"](x, ops["dynamic_slice"](x, (i,), (1,)) * 2.0, (i + 1,))
        ]
        return loop(step, 3, x)

    scalar(f, t(n, dtype=F), sizes=(9,))


def test_an_update_out_of_range() -> None:
    def f(x: Any, u: Any) -> Any:
        step = lambda i, x: [ops["update_slice"](x, u, (i + 17,))]  # noqa: E731
        return loop(step, 5, x)

    compilation = compile_full(graph_of(f, t(N, dtype=F), t(1, dtype=F)))
    assert all(map(is_scalar_loop, loops_of(compilation.graph)))
    with pytest.raises(KernelFailure, match="start 20 is out of range"):
        run_compiled(compilation, [np.ones(N), np.ones(1)])


def test_a_branch_that_changes_what_it_does_not_return() -> None:
    def step(i: Any, a: Any, x: Any) -> Any:
        y = cond_values(
            x > 1.0, lambda: [read(write(a, i, x), i + 1)], lambda: [x * 0.5]
        )[0]  # fmt: skip
        return [write(a, i + 3, y), y]

    exactly_native(
        graph_of(lambda a, x: loop(step, 9, a, x), t(N, dtype=F), t(dtype=F)),
        [np.arange(20.0), np.asarray(0.3)],
    )


def test_a_cycle_has_no_order() -> None:
    graph = graph_of(lambda x, y: [x + y, x - y], t(dtype=F), t(dtype=F))
    a, b = graph.nodes
    assert sorted_by([a, b], {a: {b}, b: set()}) == [b, a]
    with pytest.raises(Cycle):
        sorted_by([a, b], {a: {b}, b: {a}})

    def f(x: Any, u: Any, i: Any) -> Any:
        return [write(x, i, u), x]

    with pytest.raises(NoOrder):
        course(graph_of(f, t(N, dtype=F), t(dtype=F), t(dtype=I)), frozenset([0]))


def test_a_table_of_one_number_is_filled_where_it_changes() -> None:
    def step(i: Any, x: Any) -> Any:
        table = (x * 0.5).broadcast_to((4, N))
        table = ops["update_slice"](table, x.reshape((1, 1)), (i % 4, i * 2))
        rows = scan(
            graph_of(lambda x, row: [x + row.sum((0,))], t(dtype=F), t(N, dtype=F)),
            x, (x * 0.25).broadcast_to((4, N)), carried=1, scanned=1, length=4,
        )  # fmt: skip
        found = ops["dynamic_slice"](table, (i % 4, i), (1, 2)).sum((0, 1))
        return [x * 0.5 + found * 0.125 + rows[0] * 0.001]

    graph = graph_of(lambda x: loop(step, 7, x), t(dtype=F))
    exactly_native(graph, [np.asarray(0.5)])


def test_a_table_of_zeros_in_each_step_is_scalar_code() -> None:
    def step(i: Any, x: Any) -> Any:
        table = ops["cast"](0.0, F).broadcast_to((4, N))
        table = ops["update_slice"](table, x.reshape((1, 1)), (i % 4, i))
        return [x * 0.5 + ops["dynamic_slice"](table, (i % 4, i), (1, 2)).sum((0, 1)) + 1.0]

    scalar(lambda x: loop(step, 7, x), t(dtype=F))
