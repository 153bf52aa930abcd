"""Reverse and forward mode over graphs, at first and second order, against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Builder, trace
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.autodiff import (
    Recording,
    backprop,
    forward,
    gradient_graph,
    jvp_graph,
    recording,
    reverse,
)
from graphgrad.compiler.types import tensor_type
from graphgrad.compiler.verify import verify
from tests.compiler.compiling import calls_made
from tests.compiler.differences import check_all, check_forward, check_reverse, close, graph_of
from tests.compiler.programs import PROGRAMS, array, program


@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_match_finite_differences(name: str) -> None:
    check_all(*program(name))


def test_parameters_without_a_path_are_told_from_zero_gradients() -> None:
    graph = graph_of(lambda x, y, z: [x * y, z], [array(2)] * 3)
    assert reverse(graph, (True, False), (True, True, True))[1] == (True, True, False)
    assert len(gradient_graph(graph, (True, False), (True, True, True)).outputs) == 3
    assert forward(graph, (False, False, True))[1] == (False, True)
    assert len(jvp_graph(graph, (False, False, True)).outputs) == 4


def test_a_parameter_that_is_an_output_passes_its_cotangent_on() -> None:
    graph = graph_of(lambda x: [x, x, x * 2.0], [array(2)])
    back = gradient_graph(graph, (True, True, True), (True,))
    x = array(2)
    (got,) = interpret(back, [x, x, x, x * 2, np.ones(2), np.ones(2) * 3, np.ones(2) * 5])
    close(got, np.full(2, 1 + 3 + 10.0))


def test_integers_never_carry_cotangents() -> None:
    graph = graph_of(
        lambda x, i: [(x * i.cast(x.dtype)).cast(dtypes.int32).cast(x.dtype) + x, i * 2],
        [array(3), np.arange(3)],
    )
    assert reverse(graph, (True, False), (True, True))[1] == (True, False)
    assert forward(graph, (True, False))[1] == (True, False)
    back = gradient_graph(graph, (True, False), (True, False))
    x = array(3)
    (got,) = interpret(back, [x, np.arange(3), *interpret(graph, [x, np.arange(3)]), np.ones(3)])
    close(got, np.ones(3))


def test_stop_gradient_ends_a_path() -> None:
    graph = graph_of(lambda x: ops["stop_gradient"](x) * x, [array(3)])
    x = array(3)
    (got,) = interpret(gradient_graph(graph, (True,), (True,)), [x, x * x, np.ones(3)])
    close(got, x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_gradients_keep_the_dtype(dtype: str) -> None:
    t = tensor_type((4,), dtypes.as_dtype(dtype))
    graph, _ = trace(lambda x: [ops["tanh"](x * 2.0 + 1).sum((0,))], [t])
    back = verify(gradient_graph(graph, (True,), (True,)))
    assert back.output_types == (t,)
    x = np.linspace(-1, 1, 4).astype(t.dtype.dtype)
    (got,) = interpret(back, [x, interpret(graph, [x])[0], np.ones((), t.dtype.dtype)])
    close(got.astype(np.float64), 2 * (1 - np.tanh(2 * x.astype(np.float64) + 1) ** 2), 0.02)


def test_symbolic_sizes() -> None:
    scope = DimScope()
    n = scope.symbol("n", 0, 0)
    t = tensor_type((n, 3), dtypes.float64)
    graph, _ = trace(
        lambda x, w: [(ops["exp"](x) * w).sum((0,)), x.reshape((n * 3,)) * n],
        [t, tensor_type((3,), dtypes.float64)], scope=scope,
    )  # fmt: skip
    verify(graph)
    for size in (1, 4):
        check_reverse(graph, [array(size, 3), array(3)])
        check_forward(graph, [array(size, 3), array(3)])


def test_derivative_nodes_name_the_line_they_come_from() -> None:
    graph = graph_of(lambda x: ops["tanh"](x), [array(2)])
    back = gradient_graph(graph, (True,), (True,))
    (line,) = {n.where.line for n in graph.nodes if n.where}
    derived = [n.where for n in back.nodes if n.where and n.where.derivative]
    assert derived
    assert all(w.line == line for w in derived)


def test_walking_tape_records_gives_what_the_graph_gives() -> None:
    x = array(3)
    builder = Builder("outer")
    with builder.tracing():
        value = builder.param(tensor_type((3,), dtypes.float64))
        with recording(Recording()) as tape:
            y = ops["softmax"](value * 2.0)
        (grad,) = backprop(tape.applications, [(y, ops["exp"](value))], [value])
    inside = verify(builder.finish([y, grad]))
    graph = graph_of(lambda v: ops["softmax"](v * 2.0), [x])
    y, got = interpret(inside, [x])
    (wanted,) = interpret(gradient_graph(graph, (True,), (True,)), [x, y, np.exp(x)])
    close(got, wanted, 1e-12)


def test_an_op_with_a_vjp_alone_has_a_forward_mode() -> None:
    op = Elementwise(
        name="only_vjp", inputs="float", ref=np.sin, scalar=lambda s, x: s.sin(x),
        vjp=lambda g, z, x, needs: (g * ops["cos"](x),), samples=None,
    )  # fmt: skip
    try:
        check_all(graph_of(lambda x: op(x) * x, [array(3)]), [array(3)])
    finally:
        del ops["only_vjp"]


PLANTED: list[tuple[str, Any]] = [
    ("sin", (lambda z, x: -ops["cos"](x),)),
    ("exp", (lambda z, x: z * 1.001,)),
    ("mul", (lambda z, x, y: y, lambda z, x, y: y)),
    ("div", (lambda z, x, y: 1 / y, lambda z, x, y: x / (y * y))),
]


@pytest.mark.parametrize(("name", "partials"), PLANTED, ids=[name for name, _ in PLANTED])
def test_a_wrong_partial_is_found(name: str, partials: Any) -> None:
    saved = ops[name].partials  # type: ignore[attr-defined]
    object.__setattr__(ops[name], "partials", partials)
    try:
        for check in (check_reverse, check_forward):
            with pytest.raises(AssertionError):
                check(*program("mixed"))
    finally:
        object.__setattr__(ops[name], "partials", saved)


@pytest.mark.parametrize("name", ["broadcast_to", "matmul", "sum"])
def test_a_missing_or_doubled_transpose_is_found(name: str) -> None:
    field = "transpose" if ops[name].transpose is not None else "vjp"
    saved = getattr(ops[name], field)

    def doubled(*args: Any, **attrs: Any) -> Any:
        return tuple(g if g is None else g * 2 for g in saved(*args, **attrs))

    object.__setattr__(ops[name], field, doubled)
    try:
        with pytest.raises(AssertionError):
            check_reverse(*program("network"))
    finally:
        object.__setattr__(ops[name], field, saved)


def chain(length: int) -> Any:
    def fn(x: Any, w: Any) -> Any:
        for _ in range(length // 4):
            x = ops["tanh"](x * w + w) - w
        return x.sum((0,))

    return fn


def calls_to_differentiate(length: int) -> int:
    graph = graph_of(chain(length), [np.zeros(8)] * 2)
    return calls_made(lambda: gradient_graph(graph, (True,), (True, True)))


def test_the_time_for_a_node_does_not_grow_with_the_graph() -> None:
    calls_to_differentiate(40)  # what is made once
    assert calls_to_differentiate(2_000) < 5 * calls_to_differentiate(500)


def test_ten_thousand_nodes_are_differentiated() -> None:
    graph = graph_of(chain(10_000), [np.zeros(8)] * 2)
    assert len(gradient_graph(graph, (True,), (True, True)).nodes) > 10_000
