"""Loops of scalars as one function, against the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.driver import Compilation
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.kernels.scalar_loops import is_scalar_loop
from graphgrad.compiler.op import ops
from graphgrad.compiler.scalar.expansions import ULP
from graphgrad.compiler.transform.controlflow import cond_values, while_values
from graphgrad.runtime.program import Host
from tests.compiler.compiling import check, compile_full, graph_of, run_compiled, t
from tests.compiler.test_native_loops import scan

F = "float64"


def scalar(fn: Any, *types: Any, **options: Any) -> Compilation:
    """`check`, where all loops are functions of scalar code."""
    compilation = check(fn, *types, **options)
    loops = [n for n in compilation.graph.nodes if n.op.name in ("scan", "while_loop")]
    assert loops
    assert all(map(is_scalar_loop, loops))
    assert not any(isinstance(s, Host) for s in compilation.program.steps)
    return compilation


def exactly(graph: Graph, arrays: list[Any]) -> None:
    """The compiled graph gives the bits that the interpreter gives."""
    compilation = compile_full(graph)
    assert not any(isinstance(s, Host) for s in compilation.program.steps)
    assert all(is_scalar_loop(n) for n in compilation.graph.nodes if n.op.name == "scan")
    expected = interpret(compilation.graph, arrays)
    for got, wanted in zip(run_compiled(compilation, arrays), expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def part(x: Any, start: int, size: int) -> Any:
    return ops["dynamic_slice"](x, (start,), (size,))


# -- random programs


class Draw:
    """Random expressions of exact ops over values of one shape."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, xs: Any) -> Any:
        return xs[int(self.rng.integers(len(xs)))]

    def values(self, xs: list[Any], table: Any, depth: int) -> list[Any]:
        """As many values as `xs`, of the same types, made of them."""
        pool = list(xs)
        for _ in range(int(self.rng.integers(2, 6))):
            pool.append(self.value(pool, table))
        if depth and self.rng.random() < 0.7:
            pool += self.block(pool, xs, table, depth - 1)
        return [self.pick([v for v in reversed(pool) if v.type == x.type][:4]) for x in xs]

    def value(self, pool: list[Any], table: Any) -> Any:
        """One more value, of the type of one of the pool's."""
        x = self.pick(pool)
        y = self.pick([v for v in pool if v.type == x.type])
        if x.dtype.is_integer:
            kind = self.pick(["add", "mul", "minimum", "floordiv", "where", "bitwise_xor"])
            if kind == "floordiv":
                return ops["floordiv"](x, self.pick([3, 4, -2])) + ops["mod"](y, self.pick([8, 5]))
            if kind == "where":
                return ops["where"](x > y, x - 1, y)
            return ops[kind](x, y)
        kind = self.pick(["add", "sub", "maximum", "where", "halve", "gather", "turn", "sum"])
        if kind == "where":
            return ops["where"](ops["less"](x, y), x, y * 0.25)
        if kind == "halve":
            return x * 0.5 - 1.0
        if kind == "gather" and x.shape == ():
            (i, *_) = [v for v in pool if v.dtype.is_integer and v.shape == ()]
            return ops["gather"](table, ops["mod"](i, 7)) + x
        if kind == "turn" and x.shape == (3,):
            return ops["concat"]([part(x, 1, 2), part(x, 0, 1)], 0) - y
        if kind == "sum" and x.shape:
            return x.sum((0,)).broadcast_to(x.shape) * 0.125
        return ops["add"](x, y) if kind not in ("sub", "maximum") else ops[kind](x, y)

    def block(self, pool: list[Any], xs: list[Any], table: Any, depth: int) -> list[Any]:
        """A branch or a loop."""
        if self.rng.random() < 0.5:
            (flag, *_) = [v for v in pool if v.dtype.is_integer and v.shape == ()]
            return list(cond_values(
                ops["mod"](flag, 3) > 0,
                lambda: self.values(xs, table, depth),
                lambda: self.values(xs, table, depth),
            ))  # fmt: skip
        trips = int(self.rng.integers(4))

        def body(i: Any, *state: Any) -> Any:
            return [i + 1, *self.values(list(state), table, depth)]

        return list(while_values(lambda i, *_: i < trips, body, [0, *xs]))[1:]


@pytest.mark.parametrize("seed", range(24))
def test_random_programs(seed: int) -> None:
    draw = Draw(seed)
    wide = draw.pick(["int32", "int64"])
    types = [t(dtype=wide), t(dtype=F), t(3, dtype=F), t(dtype="float32"), t(5, dtype=wide)]

    def step(*values: Any) -> Any:
        *state, entry, table = values
        state = draw.values([*state[:1], state[1] + entry, *state[2:]], table, 2)
        return [*state, state[1], state[2]]

    body = graph_of(step, *types, t(dtype=F), t(7, dtype=F))
    length = int(draw.rng.integers(5))
    masked = bool(draw.rng.integers(2))

    def f(*values: Any) -> Any:
        *state, flags, entries, table = values
        given = [flags] if masked else []
        return scan(
            body, *state, *given, entries, table, carried=5, scanned=1, length=length,
            reverse=bool(seed % 2), masked=masked,
        )  # fmt: skip

    graph = graph_of(f, *types, t(length, dtype="bool"), t(length, dtype=F), t(7, dtype=F))
    arrays = [
        np.asarray(draw.rng.integers(-9, 9, x.shape) if x.dtype.is_integer or x.dtype.is_bool
                   else draw.rng.normal(size=x.shape)).astype(x.dtype.dtype)
        for x in graph.types
    ]  # fmt: skip
    exactly(graph, arrays)


# -- trips


@pytest.mark.parametrize("trips", [0, 1, 2, 1_000_000])
def test_trips(trips: int) -> None:
    def f(n: Any, x: Any) -> Any:
        return while_values(lambda i, x: i < n, lambda i, x: [i + 1, x * 0.5 + 1.0], [0, x])

    compilation = compile_full(graph_of(f, t(dtype="int32"), t(dtype=F)))
    count, x = run_compiled(compilation, [np.int32(trips), np.float64(5.0)])
    assert count == trips
    assert x == 2.0 + 3.0 * 0.5**trips


@pytest.mark.parametrize("limit", [0, 1, 4, 9])
def test_the_most_iterations(limit: int) -> None:
    def f(x: Any) -> Any:
        return while_values(lambda x: x < 40.0, lambda x: [x * 2.0], [x], limit)

    scalar(f, t(dtype=F), arrays=[np.float64(1.5)])


@pytest.mark.parametrize("limit", [3, 8])
def test_a_loop_that_stacks_in_room_for_so_many_steps(limit: int) -> None:
    body = graph_of(lambda x, k: [x * k, x, x > 3.0], t(dtype=F), t(dtype=F))
    asked = graph_of(lambda x, k: x < 20.0, t(dtype=F), t(dtype=F))

    def f(x: Any, k: Any) -> Any:
        return list(ops["while_loop"](
            x, k, body_graph=body, cond_graph=asked, carried=1, maximum_iterations=None,
            trips=limit, varying=(), padded=(),
        ))  # fmt: skip

    scalar(f, t(dtype=F), t(dtype=F), arrays=[np.float64(1.0), np.float64(2.0)])


def test_unknown_sizes() -> None:
    scope = DimScope()
    n, m = scope.symbol("n", 0, 0, 4), scope.symbol("m", 0, 1, 5)
    body = graph_of(
        lambda s, row, at: [s + ops["gather"](row, at), at + 1, s * part(row, 2, 1).sum((0,))],
        t(dtype=F), t(m, dtype=F), t(dtype="int32"),
    )  # fmt: skip
    body = Graph(
        (body.params[0], body.params[2], body.params[1]), body.nodes, body.outputs, body.name
    )

    def f(xs: Any, at: Any) -> Any:
        return scan(body, np.float64(1.0), at, xs, carried=2, scanned=1, length=n)

    for sizes in ((4, 7), (0, 3)):
        scalar(f, t(n, m, dtype=F), t(dtype="int32"), sizes=sizes, python=False,
               arrays=[np.ones(sizes), np.int32(1)])  # fmt: skip


def test_a_scan_within_a_scan_stacks_in_place() -> None:
    inner = graph_of(lambda s, x, k: [s + x * k, s * x], *[t(dtype=F)] * 3)

    def row(s: Any, xs: Any, k: Any) -> Any:
        return scan(inner, s, xs, k, carried=1, scanned=1, length=40)

    outer = graph_of(row, t(dtype=F), t(40, dtype=F), t(dtype=F))

    def f(s: Any, xs: Any, k: Any) -> Any:
        return scan(outer, s, xs, k, carried=1, scanned=1, length=6, reverse=True)

    scalar(f, t(dtype=F), t(6, 40, dtype=F), t(dtype=F))


@pytest.mark.parametrize("transposed", [False, True])
def test_products(transposed: bool) -> None:
    def step(s: Any, x: Any, w: Any) -> Any:
        z = ops["matmul"](s, w, transpose_a=transposed, transpose_b=not transposed)
        return [z * 0.5 + x, z.sum((0,))]

    square = t(3, 3, dtype=F)
    body = graph_of(step, square, square, square)
    scalar(
        lambda s, xs, w: scan(body, s, xs, w, carried=1, scanned=1, length=4),
        square, t(4, 3, 3, dtype=F), square, python=False,
    )  # fmt: skip


def test_parts_placed_at_index_values() -> None:
    def step(s: Any, i: Any, x: Any) -> Any:
        s = ops["update_slice"](s, part(x, 0, 2), (i,))
        picked = ops["dynamic_slice"](s, (i,), (3,))
        rows = ops["reshape"](ops["gather"](s, ops["mod"](i + np.int32(1), 5)), (1,))
        spread = ops["scatter_add"](rows, ops["reshape"](i, (1,)), shape=(5,), axis=0, batch_dims=0)
        return [s + spread, ops["mod"](i + np.int32(1), 3), picked]

    body = graph_of(step, t(5, dtype=F), t(dtype="int32"), t(2, dtype=F))

    def f(s: Any, i: Any, xs: Any) -> Any:
        return scan(body, s, i, xs, carried=2, scanned=1, length=7)

    arrays = [np.arange(5.0), np.int32(2), np.arange(14.0).reshape(7, 2)]
    compilation = scalar(f, t(5, dtype=F), t(dtype="int32"), t(7, 2, dtype=F), arrays=arrays)
    with pytest.raises(Exception, match="start 3 is out of range"):
        run_compiled(compilation, [arrays[0], np.int32(3), arrays[2]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "uint8", "bool"])
def test_dtypes(dtype: str) -> None:
    def step(s: Any, x: Any) -> Any:
        both = ops["logical_or"](s, x) if dtype == "bool" else s + x
        return [both, x, ops["equal"](s, x)]

    body = graph_of(step, t(2, dtype=dtype), t(2, dtype=dtype))
    scalar(
        lambda s, xs: scan(body, s, xs, carried=1, scanned=1, length=5),
        t(2, dtype=dtype), t(5, 2, dtype=dtype),
    )  # fmt: skip


# -- functions, failures, text


@pytest.mark.parametrize("name", ["sin", "cos", "exp", "log", "tanh", "erf", "tan", "sigmoid"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_at_edges(name: str, dtype: str) -> None:
    xs = np.array(
        [0.0, -0.0, 0.5, 0.785, 0.786, -2.0, 1e5, -3e12, np.inf, -np.inf, np.nan, 1e-40, 1e300]
    )
    with np.errstate(over="ignore"):
        xs = xs.astype(dtype)
    x = t(dtype=dtype)
    body = graph_of(lambda s, x: [s + 1.0, ops[name](x), ops["cos"](x)], x, x)

    def f(s: Any, xs: Any) -> Any:
        return scan(body, s, xs, carried=1, scanned=1, length=len(xs_))

    xs_ = xs
    graph = graph_of(f, x, t(len(xs), dtype=dtype))
    compilation = compile_full(graph)
    assert all(is_scalar_loop(n) for n in compilation.graph.nodes if n.op.name == "scan")
    with np.errstate(all="ignore"):
        expected = interpret(compilation.graph, [np.asarray(0, dtype), xs])
    found = run_compiled(compilation, [np.asarray(0, dtype), xs])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_max_ulp(a, b, 4)
    zeros = found[1][:2]
    np.testing.assert_array_equal(np.signbit(zeros), np.signbit(expected[1][:2]))


@pytest.mark.parametrize("name", ["sin", "cos", "tan", "exp", "log", "tanh", "sinh", "atan"])
def test_accuracy(name: str) -> None:
    """Polynomials are computed in another order than in kernels: to the same bound."""
    low = 0.01 if name == "log" else -9.0
    xs = np.random.default_rng(1).uniform(low, 9.0, 5000)
    xs[::2] /= 8.0
    body = graph_of(lambda s, x: [s, ops[name](x)], t(dtype=F), t(dtype=F))

    def f(s: Any, xs: Any) -> Any:
        return scan(body, s, xs, carried=1, scanned=1, length=len(xs_))

    xs_ = xs
    compilation = compile_full(graph_of(f, t(dtype=F), t(5000, dtype=F)))
    found = run_compiled(compilation, [np.float64(0.0), xs])[1]
    exact = getattr(np, {"atan": "arctan"}.get(name, name))(xs.astype(np.longdouble))
    error = np.abs(found - exact) / np.spacing(np.abs(exact.astype(float)))
    assert error.max() < ULP[name][F]


@pytest.mark.parametrize(("start", "what"), [(5, "index 12 is out of range"), (-1, "index -1 is")])
def test_an_index_out_of_range(start: int, what: str) -> None:
    def f(x: Any, k: Any) -> Any:
        return while_values(
            lambda i, s: i < 10,
            lambda i, s: [i + 1, s + ops["gather"](x, i + k)],
            [0, ops["max"](x)],
        )

    compilation = scalar(f, t(12, dtype=F), t(dtype="int32"), arrays=[np.arange(12.0), np.int32(2)])
    with pytest.raises(Exception, match=what):
        run_compiled(compilation, [np.arange(12.0), np.int32(start)])


def test_a_division_by_zero_in_the_branch_that_is_taken() -> None:
    def f(s: Any) -> Any:
        def body(i: Any, s: Any) -> Any:
            (s,) = cond_values(s > 3, lambda: [ops["floordiv"](s, i - 1)], lambda: [s + 1])
            return [i + 1, s]

        return while_values(lambda i, s: i < 9, body, [0, s])

    compilation = scalar(f, t(dtype="int32"), arrays=[np.int32(-10)])
    with pytest.raises(Exception, match="zero"):
        run_compiled(compilation, [np.int32(3)])


def test_the_text_does_not_grow_with_the_trips() -> None:
    def text(trips: int) -> str:
        def f(x: Any) -> Any:
            return while_values(
                lambda i, x: i < trips, lambda i, x: [i + 1, x * 0.5 + 1.0], [0, x], trips
            )

        return compile_full(graph_of(f, t(3, dtype=F))).program.module

    assert len(text(100)) == len(text(999))


def test_another_constant_is_another_program() -> None:
    def made(k: float) -> Compilation:
        def f(x: Any) -> Any:
            return while_values(lambda x: x < 9.0, lambda x: [x * k], [x])

        return compile_full(graph_of(f, t(dtype=F)))

    two, three = made(2.0), made(3.0)
    assert two.program.fingerprint != three.program.fingerprint
    assert run_compiled(two, [np.float64(1.0)]) == [16.0]
    assert run_compiled(three, [np.float64(1.0)]) == [9.0]


def test_what_is_no_loop_of_scalars() -> None:
    def nodes(fn: Any, *types: Any) -> list[bool]:
        return [is_scalar_loop(n) for n in graph_of(fn, *types).nodes if n.op.name == "while_loop"]

    def f(x: Any) -> Any:
        return while_values(lambda i, x: i < 3, lambda i, x: [i + 1, x * 2.0], [0, x])

    assert nodes(f, t(16, dtype=F)) == [True]
    assert nodes(f, t(17, dtype=F)) == [False]  # too long for registers
    assert nodes(f, t(2, dtype="complex128")) == [False]
