"""call, cond, while_loop, scan and custom_call: what runs, what is differentiated, what is
refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.errors import (
    ArgumentError,
    DivisionByZero,
    DTypeError,
    ShapeError,
    TraceError,
)
from graphgrad.compiler.interpret import interpret, run_graph, set_graph_runner
from graphgrad.compiler.ir import Graph, trace
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.control import call
from graphgrad.compiler.transform.autodiff import (
    Recording,
    backprop,
    gradient_graph,
    jvp_graph,
    recording,
)
from graphgrad.compiler.transform.controlflow import cond_values, while_values
from graphgrad.compiler.transform.sizes import is_runtime
from graphgrad.compiler.types import tensor_type
from graphgrad.compiler.verify import verify
from tests.compiler.differences import check_all, close, graph_of, types_of
from tests.compiler.programs import array, loop, loop_until, program


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


# -- call


def test_a_call_checks_its_inputs() -> None:
    inner = graph_of(lambda x: x * 2.0, [array(3)], "double")
    with pytest.raises(ShapeError, match=r"call: input 0 of `double` is f64\[3\], got f64\[4\]"):
        graph_of(lambda x: call(x, graph=inner)[0], [array(4)])
    with pytest.raises(DTypeError, match=r"is f64\[3\], got f32\[3\]"):
        graph_of(lambda x: call(x, graph=inner)[0], [np.zeros(3, np.float32)])
    with pytest.raises(ArgumentError, match="`double` takes 1 inputs, got 2"):
        graph_of(lambda x: call(x, x, graph=inner)[0], [array(3)])


def test_a_called_graph_takes_its_callers_sizes() -> None:
    n = DimScope().symbol("n", 0, 0)
    inner, _ = trace(lambda x: [x * n, x.reshape((n * 2,))], [tensor_type((n, 2), dtypes.float64)])
    outer = graph_of(lambda x: call(x, graph=inner), [array(3, 2)])
    assert outer.output_types == tuple(types_of([array(3, 2), array(6)]))
    x = array(3, 2)
    for got, wanted in zip(interpret(outer, [x]), (x * 3, x.reshape(6)), strict=True):
        close(got, wanted)
    check_all(outer, [x])


def test_the_runner_runs_sub_graphs_outside_of_interpretations() -> None:
    inner = graph_of(lambda x: x * 2.0, [array(3)])
    seen: list[Graph] = []

    def runner(graph: Graph, arrays: Any) -> Any:
        seen.append(graph)
        return interpret(graph, arrays)

    before = set_graph_runner(runner)
    try:
        call.ref(array(3), graph=inner)
        assert seen == [inner]
        interpret(graph_of(lambda x: call(x, graph=inner)[0], [array(3)]), [array(3)])
        assert len(seen) == 1
    finally:
        set_graph_runner(before)
    close(run_graph(inner, [np.ones(3)])[0], np.full(3, 2.0))


# -- cond


def guarded(i: Any, x: Any) -> Any:
    """Divides only where it may."""
    return cond_values(i > 0, lambda: [x * (7 // i).cast(x.dtype)], lambda: [x + 1.0])[0]


def test_only_the_taken_branch_runs_and_is_differentiated() -> None:
    graph = graph_of(guarded, [np.int32(0), array(3)])
    x = array(3)
    close(interpret(graph, [np.int32(0), x])[0], x + 1)
    close(interpret(graph, [np.int32(3), x])[0], x * 2)
    back = gradient_graph(graph, (True,), (False, True))
    close(interpret(back, [np.int32(0), x, x, np.ones(3)])[0], np.ones(3))
    with pytest.raises(DivisionByZero):
        interpret(
            graph_of(lambda i, x: x * (7 // i).cast(x.dtype), [np.int32(0), x]), [np.int32(0), x]
        )


def test_the_branch_not_taken_contributes_exactly_zero() -> None:
    graph = graph_of(
        lambda x: cond_values(x > 0.0, lambda: [ops["log"](x)], lambda: [x * 2.0])[0],
        [np.float64(1)],
    )
    back = gradient_graph(graph, (True,), (True,))
    for x, wanted in ((0.0, 2.0), (-1.0, 2.0), (4.0, 0.25)):
        assert interpret(back, [x, interpret(graph, [x])[0], 1.0])[0] == wanted


def test_branches_with_and_without_a_path() -> None:
    graph = graph_of(
        lambda p, x, y: cond_values(p, lambda: [x * 2.0], lambda: [y * 1.0])[0],
        [np.True_, array(2), array(2)],
    )
    back = gradient_graph(graph, (True,), (False, True, True))
    x = array(2)
    got = interpret(back, [np.True_, x, x, x, np.ones(2)])
    close(got[0], np.full(2, 2.0))
    close(got[1], np.zeros(2))


def test_branches_must_agree() -> None:
    def run(true: Any, false: Any, **options: Any) -> None:
        graph_of(
            lambda x: cond_values(x.sum((0,)) > 0.0, lambda: true(x), lambda: false(x), **options),
            [array(3)],
        )

    with pytest.raises(
        DTypeError, match="'y' has dtype int32 in the main branch, but dtype float64 in the else"
    ):
        run(lambda x: [x.cast(dtypes.int32)], lambda x: [x], names=["y"])
    with pytest.raises(
        ShapeError, match=r"output 0 has shape \[3\] in the main branch, but shape \[\] in the else"
    ):
        run(lambda x: [x], lambda x: [x.sum((0,))])
    with pytest.raises(ArgumentError, match="the main branch gives 1 values, the else branch 2"):
        run(lambda x: [x], lambda x: [x, x])


def test_the_condition_is_one_bool() -> None:
    with pytest.raises(ShapeError, match="the condition is to be one value"):
        graph_of(lambda x: cond_values(x > 0.0, lambda: [x], lambda: [x])[0], [array(3)])
    with pytest.raises(DTypeError, match=r"the condition is to be b1\[\], got f64"):
        graph_of(lambda x: cond_values(x.sum((0,)), lambda: [x], lambda: [x])[0], [array(3)])


# -- loops


def power(x: Any, n: Any, **options: Any) -> Any:
    return while_values(
        lambda i, y: i < n, lambda i, y: [i + 1, y * x], [0, x * 0.0 + 1.0], **options
    )[1]


@pytest.mark.parametrize("trips", [0, 1, 2, 7])
def test_trips_known_only_at_run_time(trips: int) -> None:
    graph = graph_of(power, [array(2), np.int32(trips)])
    x = np.array([0.5, 3.0])
    args = [x, np.int32(trips)]
    (y,) = interpret(graph, args)
    close(y, x**trips)
    back = gradient_graph(graph, (True,), (True, False))
    close(interpret(back, [*args, y, np.ones(2)])[0], trips * x ** max(trips - 1, 0))
    check_all(graph, args)


def test_maximum_iterations() -> None:
    graph = graph_of(lambda x: power(x, 100, maximum_iterations=3), [array(2)])
    x = array(2)
    close(interpret(graph, [x])[0], x**3)
    check_all(graph, [x])


def test_loop_variables_keep_their_types() -> None:
    with pytest.raises(
        DTypeError, match=r"loop variable 'h' enters the body as i32\[\] and leaves it as f64\[3\]"
    ):
        graph_of(
            lambda x: while_values(
                lambda i, h: i < 3, lambda i, h: [i + 1, h * x], [0, 1], names=["i", "h"]
            ),
            [array(3)],
        )
    with pytest.raises(
        ShapeError, match=r"loop variable 0 enters the body as f64\[3\] and leaves it as f64\[\]"
    ):
        graph_of(
            lambda x: while_values(lambda h: h.sum((0,)) < 1.0, lambda h: [h.sum((0,))], [x]),
            [array(3)],
        )
    with pytest.raises(ArgumentError, match="1 loop variables, but the body returns 2"):
        graph_of(
            lambda x: while_values(lambda h: h.sum((0,)) < 1.0, lambda h: [h, h], [x]), [array(3)]
        )


def test_errors_name_the_users_line() -> None:
    with pytest.raises(ShapeError) as caught:
        graph_of(lambda x: while_values(lambda h: True, lambda h: [h.sum((0,))], [x]), [array(3)])
    assert "test_control.py" in str(caught.value)


def test_control_flow_needs_a_trace() -> None:
    with pytest.raises(TraceError, match="only while a function is traced"):
        while_values(lambda h: h < 1, lambda h: [h + 1], [0])


@pytest.mark.parametrize("body", [loop, loop_until])
def test_a_tape_inside_a_trace_runs_a_loop_once(body: Any) -> None:
    x, w = array(3), array(3)

    def gradients(x: Any, w: Any) -> list[Any]:
        with recording(Recording()) as tape:
            y = body(x, w)
        grads = backprop(tape.applications, [(y, y * 0.0 + 1.0)], [x, w])
        return [y, *grads]

    graph = graph_of(gradients, [x, w])
    assert names(graph).count("while_loop") == 1
    assert names(graph).count("scan") == 1
    plain = graph_of(body, [x, w])
    (y,) = interpret(plain, [x, w])
    wanted = interpret(gradient_graph(plain, (True,), (True, True)), [x, w, y, np.ones_like(y)])
    for a, b in zip(interpret(graph, [x, w]), [y, *wanted], strict=True):
        close(a, b, 1e-12)
    check_all(graph, [x, w])


def test_the_reverse_of_a_loop_reads_what_was_stacked() -> None:
    """Products in the body are stacked, not computed again; the steps' first axis is a run-time
    size."""

    def fn(x: Any, w: Any) -> Any:
        return while_values(
            lambda i, h: i < 5, lambda i, h: [i + 1, ops["tanh"](h @ w) * h], [0, x]
        )[1]

    graph = graph_of(fn, [array(2, 3), array(3, 3)])
    back = verify(gradient_graph(graph, (True,), (True, True)))
    (forward_loop,) = [n for n in back.nodes if n.op.name == "while_loop"]
    (reverse_loop,) = [n for n in back.nodes if n.op.name == "scan"]
    assert all(is_runtime(v.type) for v in forward_loop.outputs[2:])
    products = names(reverse_loop.attrs["body_graph"]).count("matmul")
    assert products == 2, "one for each cotangent, none of the forward body"
    check_all(graph, [array(2, 3) * 0.3, array(3, 3) * 0.3])


def test_derivatives_of_loops_hold_one_loop_in_each_direction() -> None:
    graph, _ = program("loop")
    back = gradient_graph(graph, (True,), (True, True))
    assert sorted(n for n in names(back) if n in ("while_loop", "scan")) == ["scan", "while_loop"]
    twice = gradient_graph(back, (True, True), (True, True, False, False))
    assert sorted(n for n in names(twice) if n in ("while_loop", "scan")) == ["scan"] * 3 + [
        "while_loop"
    ]
    ahead = jvp_graph(graph, (True, True))
    assert "scan" not in names(ahead)


def test_integer_state_and_bool_captures() -> None:
    def fn(x: Any, flag: Any) -> Any:
        def body(i: Any, done: Any, h: Any) -> list[Any]:
            return [i + 2, ops["logical_or"](done, i > 5), ops["where"](flag, h * x, h + x)]

        return while_values(lambda i, done, h: ~done, body, [0, np.False_, x])

    for flag in (np.True_, np.False_):
        check_all(graph_of(fn, [array(2), flag]), [array(2), flag])


@pytest.mark.parametrize("backwards", [False, True])
def test_scan(backwards: bool) -> None:
    def body(h: Any, x: Any, w: Any) -> list[Any]:
        new = ops["sin"](h * w) + x
        return [new, new * h]

    inner = graph_of(body, [array(2), array(2), array(2)], "step")

    def fn(h: Any, xs: Any, w: Any) -> Any:
        return ops["scan"](
            h,
            xs,
            w,
            body_graph=inner,
            carried=1,
            scanned=1,
            length=5,
            reverse=backwards,
            masked=False,
        )

    args = [array(2), array(5, 2), array(2)]
    graph = graph_of(fn, args)
    h, rows = args[0], {}
    for step in reversed(range(5)) if backwards else range(5):
        new = np.sin(h * args[2]) + args[1][step]
        rows[step], h = new * h, new
    end, stacked = interpret(graph, args)
    close(end, h)
    close(stacked, np.stack([rows[i] for i in range(5)]))
    check_all(graph, args)
    with pytest.raises(ShapeError, match="not one entry for each of 5 steps"):
        graph_of(fn, [array(2), array(4, 2), array(2)])


def test_a_masked_scan_skips_steps() -> None:
    inner = graph_of(lambda h, x: [h * x, h + x], [array(2), array(2)], "step")

    def fn(h: Any, flags: Any, xs: Any) -> Any:
        return ops["scan"](
            h,
            flags,
            xs,
            body_graph=inner,
            carried=1,
            scanned=1,
            length=3,
            reverse=False,
            masked=True,
        )

    h, xs = array(2), array(3, 2)
    args = [h, np.array([True, False, True]), xs]
    end, stacked = interpret(graph_of(fn, args), args)
    close(end, h * xs[0] * xs[2])
    close(stacked[1], np.zeros(2))
    check_all(graph_of(fn, args), args)


# -- custom gradients


def clipped() -> tuple[Graph, Graph]:
    """The identity, whose cotangents are three times too large: an easily seen custom gradient."""
    graph = graph_of(lambda x, y: ops["sin"](x) * y, [array(3), array(3)], "wave")
    backward = graph_of(
        lambda x, y, z, g: [3.0 * g * ops["cos"](x) * y, g * z], [array(3)] * 4, "gradient of wave"
    )
    return graph, backward


def custom(x: Any, y: Any) -> Any:
    graph, backward = clipped()
    return ops["custom_call"](x, y, graph=graph, backward=backward)[0]


def test_a_custom_gradient_replaces_the_derivative() -> None:
    graph = graph_of(custom, [array(3), array(3)])
    x, y, g = array(3), array(3), array(3)
    (z,) = interpret(graph, [x, y])
    close(z, np.sin(x) * y)
    back = verify(gradient_graph(graph, (True,), (True, True)))
    got = interpret(back, [x, y, z, g])
    close(got[0], 3 * g * np.cos(x) * y)
    close(got[1], g * z)


def test_second_order_goes_through_the_custom_backward() -> None:
    graph = graph_of(custom, [array(3), array(3)])
    back = gradient_graph(graph, (True,), (True, False))
    twice = gradient_graph(back, (True,), (True, True, False, False))
    x, y, g = array(3), array(3), np.ones(3)
    z = np.sin(x) * y
    got = interpret(twice, [x, y, z, g, *interpret(back, [x, y, z, g]), np.ones(3)])
    close(got[0], -3 * np.sin(x) * y)
    close(got[1], 3 * np.cos(x))


def test_forward_mode_transposes_the_custom_backward() -> None:
    graph = graph_of(custom, [array(3), array(3)])
    x, y, t, u = (array(3) for _ in range(4))
    z, tangent = interpret(verify(jvp_graph(graph, (True, True))), [x, y, t, u])
    close(z, np.sin(x) * y)
    close(tangent, 3 * np.cos(x) * y * t + np.sin(x) * y * u)


def test_a_custom_gradient_must_fit_the_inputs() -> None:
    graph, _ = clipped()
    wrong = graph_of(lambda x, y, z, g: [g.sum((0,)), g], [array(3)] * 4)
    missing = graph_of(lambda x, y, z, g: [g], [array(3)] * 4)
    for back, message in (
        (wrong, r"grad_fn gives f64\[\] for floating input 0, which is f64\[3\]"),
        (missing, "2 floating inputs, but grad_fn returns 1 gradients"),
    ):
        with pytest.raises(ShapeError, match=message):
            graph_of(
                lambda x, y, b=back: ops["custom_call"](x, y, graph=graph, backward=b),
                [array(3)] * 2,
            )
