"""Host steps within native loops and branches: native code calls Python for them alone."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.driver import Compilation
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.callback import Callback
from graphgrad.compiler.steps import flattened
from graphgrad.compiler.stored import origin_of, packed
from graphgrad.compiler.transform.controlflow import cond_values, while_values
from graphgrad.runtime import executor
from graphgrad.runtime.engine import host_target
from graphgrad.runtime.program import Native
from tests.compiler.compiling import check, compile_full, graph_of, prepared, run_compiled, t

F = "float64"


def with_calls(fn: Any, *types: Any, **options: Any) -> Compilation:
    """`check`, where all is native but for some calls of Python."""
    compilation = check(fn, *types, **options)
    assert all(isinstance(s, Native) for s in compilation.program.steps)
    assert compilation.program.python_calls
    return compilation


def compiled(fn: Any, *types: Any) -> Callable[..., list[Any]]:
    executable = prepared(compile_full(graph_of(fn, *types)))
    return lambda *arrays: executable.run([np.asarray(a, F) for a in arrays])


def times(count: Any, body: Any, *state: Any) -> Any:
    """The state after so many steps."""
    return while_values(lambda i, *_: i < count, lambda i, *s: [i + 1, *body(*s)], [0, *state])[1:]


def python(function: Any, *inputs: Any) -> Any:
    """What a function of arrays gives, of the types of the inputs."""
    made = Callback(lambda *xs: list(function(*xs)), "python")
    found = ops["callback"](
        *inputs, function=made, shapes=tuple(x.type.shape for x in inputs),
        dtypes=tuple(x.dtype for x in inputs),
    )  # fmt: skip
    return list(found)


def effect(function: Any, *inputs: Any, guarded: bool = False) -> None:
    made = Callback(lambda *xs: function(*xs) or (), "effect", guarded=guarded)
    ops["callback"](*inputs, function=made, shapes=(), dtypes=())


def refuse(*arrays: Any) -> Any:
    raise ZeroDivisionError("no")


def demand(holds: Any, *arrays: Any) -> None:
    if not holds:
        refuse()


def test_one_step_of_a_loop_is_a_call() -> None:
    def f(x: Any) -> Any:
        return times(5, lambda x: [ops["singular_values"](x @ x) * 0.1 + x], x)

    compilation = with_calls(f, t(3, 3, dtype=F))
    kinds = [s.kind for s in flattened(compilation.steps)]
    assert kinds[0] == "loop"
    assert kinds.count("host") == 1


@pytest.mark.parametrize("n", [0, 1, 4, 9])
def test_sizes_of_the_run(n: int) -> None:
    size = DimScope().symbol("n", 0, 0)

    def f(x: Any, y: Any) -> Any:
        def body(x: Any, y: Any) -> Any:
            return python(lambda a, b: (np.sort(a) + 1, b @ np.diag(a)), x, y)

        return times(3, body, x, y)

    with_calls(f, t(size, dtype=F), t(2, size, dtype=F), sizes=[n])


def test_a_size_that_only_an_attribute_mentions() -> None:
    size = DimScope().symbol("n", 0, 0)

    def f(x: Any) -> Any:
        def body(s: Any) -> Any:
            places = ops["abs"](s).cast(dtypes.int64).reshape((1, 1))
            counts = ops["bincount"](places, size=size, dtype=dtypes.int32)
            return [s + counts.cast(dtypes.float64).sum((0, 1))]

        return times(4, body, x.sum((0,)))

    with_calls(f, t(size, dtype=F), sizes=[5], python=False)


def test_state_that_is_exchanged_stacked_and_updated_in_its_place() -> None:
    def f(x: Any, y: Any) -> Any:
        def body(i: Any, x: Any, y: Any) -> Any:
            a, b = python(lambda a, b: (b[::-1], a + b), x, y)
            return [i + 1, ops["update_slice"](b, ops["slice"](a, (0,), (1,)), (i,)), a]

        return while_values(lambda i, *_: i < 4, body, [0, x, y])

    with_calls(f, t(4, dtype=F), t(4, dtype=F))


def test_results_that_are_views_of_the_inputs() -> None:
    def f(x: Any, y: Any) -> Any:
        return times(3, lambda x, y: python(lambda a, b: (b, a.T), x, y), x, y)

    with_calls(f, t(3, 3, dtype=F), t(3, 3, dtype=F))


def test_a_call_in_a_branch_in_a_loop_in_a_loop() -> None:
    def f(x: Any) -> Any:
        def inner(x: Any) -> Any:
            return cond_values(
                x.sum((0,)) > 0.0, lambda: python(lambda a: [a - 1], x), lambda: [x * 2.0 + 3.0]
            )

        return times(3, lambda x: times(2, inner, x), x)

    with_calls(f, t(3, dtype=F))


def test_the_order_of_effects() -> None:
    seen: list[float] = []

    def f(x: Any) -> Any:
        def body(x: Any) -> Any:
            effect(lambda v: seen.append(float(v)), x)
            effect(lambda v: seen.append(-float(v)), x * 2.0)
            return [x + 1.0]

        return times(3, body, x)

    assert compiled(f, t(dtype=F))(1.0) == [4.0]
    assert seen == [1, -2, 2, -4, 3, -6]


# -- exceptions


def test_what_python_raises_arrives_as_it_is() -> None:
    error = ZeroDivisionError("third")

    def third(v: Any) -> None:
        if v == 3:
            raise error

    def f(x: Any) -> Any:
        def body(x: Any) -> Any:
            effect(third, x)
            return [x + 1.0]

        return times(5, body, x)

    run = compiled(f, t(dtype=F))
    with pytest.raises(ZeroDivisionError) as caught:
        run(0.0)
    assert caught.value is error
    assert run(4.0) == [9.0]  # and the program is as it was


def test_errors_of_host_steps_name_the_users_line() -> None:
    def f(x: Any) -> Any:
        def body(x: Any) -> Any:
            counts = ops["bincount"](x.cast("int64").reshape((1, 1)), size=3, dtype=dtypes.int32)
            return [x - counts.cast("float64").sum((0, 1))]

        return times(3, body, x)

    with pytest.raises(GraphgradError, match="bincount: -1 is negative") as caught:
        compiled(f, t(dtype=F))(1.0)
    assert 'counts = ops["bincount"]' in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_leaves_the_loop(error: type[BaseException]) -> None:
    def stop(v: Any) -> None:
        raise error

    def f(x: Any) -> Any:
        def body(x: Any) -> Any:
            effect(stop, x)
            return [x + 1.0]

        return times(5, body, x)

    with pytest.raises(error):
        compiled(f, t(dtype=F))(0.0)


def test_an_exception_keeps_the_memory_of_its_arrays() -> None:
    def f(x: Any) -> Any:
        return times(5, lambda x: python(refuse, x * 2.0), x)

    run = compiled(f, t(1000, dtype=F))
    with pytest.raises(ZeroDivisionError) as caught:
        run(np.ones(1000))
    del run
    gc.collect()
    executor.release_memory()
    trace, found = caught.value.__traceback__, []
    while trace is not None:
        if trace.tb_frame.f_code is refuse.__code__:
            found += trace.tb_frame.f_locals["arrays"]
        trace = trace.tb_next
    assert [a.sum() for a in found] == [2000]


def test_a_wrong_number_of_results() -> None:
    def f(x: Any) -> Any:
        return times(5, lambda x: python(lambda a: [a, a], x), x)

    with pytest.raises(GraphgradError, match="returned 2 values, not 1"):
        compiled(f, t(3, dtype=F))(np.ones(3))


# -- assertions


def test_an_assertion_that_holds_is_no_call() -> None:
    called: list[Any] = []

    def f(x: Any) -> Any:
        def body(x: Any) -> Any:
            effect(lambda holds, v: called.append(v) or refuse(), x < 3.0, x, guarded=True)
            return [x + 1.0]

        return times(5, body, x)

    compilation = compile_full(graph_of(f, t(dtype=F)))
    executable = prepared(compilation)
    assert executable.native_parts([np.float64(0)]) is not None
    assert executable.run([np.asarray(-3.0)]) == [2.0]
    assert not called
    with pytest.raises(ZeroDivisionError):
        executable.run([np.asarray(0.0)])
    assert called == [3.0]


def test_an_assertion_between_kernels_is_native() -> None:
    def f(x: Any) -> Any:
        total = x.sum((0,))
        effect(demand, total > 0.0, x, guarded=True)
        return x * 2.0, total

    with_calls(f, t(4, dtype=F), arrays=[np.ones(4)])
    with pytest.raises(ZeroDivisionError):
        compiled(f, t(4, dtype=F))(-np.ones(4))


def test_arguments_stay_whole_where_an_assertion_may_fail() -> None:
    def f(x: Any) -> Any:
        y = x * 2.0
        effect(demand, y.sum((0,)) > 0.0, guarded=True)
        return [y]

    executable = prepared(compile_full(graph_of(f, t(4, dtype=F))))
    arrays = [-np.ones(4)]
    with pytest.raises(ZeroDivisionError):
        executable.run(arrays, [True])
    assert arrays[0].sum() == -4


# -- several runs at a time


def test_a_program_that_calls_itself() -> None:
    runs: list[Any] = []

    def again(a: Any) -> Any:
        return runs[0](a - 10) if a > 1 else [a * 10]

    def f(x: Any) -> Any:
        return times(2, lambda x: [python(again, x)[0] + x], x)

    runs.append(compiled(f, t(dtype=F)))
    reference = lambda x: plus(plus(x))  # noqa: E731
    plus = lambda x: (reference(x - 10) if x > 1 else x * 10) + x  # noqa: E731
    assert runs[0](3.0) == [reference(3.0)]


def test_threads() -> None:
    def f(x: Any) -> Any:
        return times(50, lambda x: python(lambda a: [a + 1], x), x)

    run = compiled(f, t(16, dtype=F))
    found: dict[int, bool] = {}

    def work(k: int) -> None:
        found[k] = all((run(np.full(16, k))[0] == k + 50).all() for _ in range(20))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert found == dict.fromkeys(range(4), True)


def test_programs_with_calls_are_not_kept_on_disk() -> None:
    def f(x: Any) -> Any:
        return times(2, lambda x: [ops["singular_values"](x).broadcast_to((3, 3))], x)

    graph = graph_of(f, t(3, 3, dtype=F))
    compilation, origin = compile_full(graph), origin_of(graph, host_target(), ())
    assert origin is not None
    assert packed(compilation.program, "object", compilation.places, origin) is None


# -- loops of few numbers


def is_one_function(compilation: Compilation) -> bool:
    return [(s.kind, len(s.within)) for s in compilation.steps] == [("loop", 0)]


def test_effects_in_scalar_loops() -> None:
    seen: list[Any] = []

    def f(x: Any, rows: Any) -> Any:
        def body(i: Any, x: Any) -> Any:
            y = x * 2.0 + i.cast("float64")
            positive = y.sum((0,)) > 4.0
            effect(lambda *a: seen.append([v.tolist() for v in a]), positive, y, rows)
            return [i + 1, y]

        return while_values(lambda i, *_: i < 3, body, [0, x])

    compilation = compile_full(graph_of(f, t(2, dtype=F), t(5, 4, dtype=F)))
    assert is_one_function(compilation)
    rows = np.arange(20.0).reshape(5, 4)
    assert run_compiled(compilation, [np.ones(2), rows])[1].tolist() == [12, 12]
    expected = [(False, [2.0] * 2), (True, [5.0] * 2), (True, [12.0] * 2)]
    assert seen == [[flag, y, rows.tolist()] for flag, y in expected]


def test_effects_in_branches_and_loops_within_scalar_loops() -> None:
    seen: list[float] = []

    def f(x: Any) -> Any:
        def inner(i: Any, x: Any) -> Any:
            effect(lambda v: seen.append(float(v)), x)
            return [i + 1, x + 1.0]

        def some(x: Any) -> Any:
            effect(lambda v: seen.append(-float(v)), x)
            return [x * 2.0]

        def body(i: Any, x: Any) -> Any:
            (x,) = cond_values(x > 2.0, lambda: some(x), lambda: [x])
            return [i + 1, while_values(lambda i, _: i < 2, inner, [0, x])[1]]

        return while_values(lambda i, _: i < 2, body, [0, x])

    compilation = compile_full(graph_of(f, t(dtype=F)))
    assert is_one_function(compilation)
    assert run_compiled(compilation, [np.asarray(1.0)])[1] == 8
    assert seen == [1, 2, -3, 6, 7]


def test_assertions_in_scalar_loops() -> None:
    def f(x: Any) -> Any:
        def body(i: Any, x: Any) -> Any:
            effect(lambda holds, *v: demand(holds, *v), x < 3.0, x, i, guarded=True)
            return [i + 1, x + 1.0]

        return while_values(lambda i, _: i < 3, body, [0, x])

    compilation = compile_full(graph_of(f, t(dtype=F)))
    assert is_one_function(compilation)
    executable = prepared(compilation)
    assert executable.native_parts([np.float64(0)]) is not None
    assert executable.run([np.asarray(0.0)])[1] == 3
    with pytest.raises(ZeroDivisionError) as caught:
        executable.run([np.asarray(1.5)])
    arrays = caught.traceback[-2].frame.f_locals["arrays"]
    assert arrays == (3.5, 2)


def test_a_view_that_no_call_can_take() -> None:
    def f(x: Any, rows: Any) -> Any:
        def body(i: Any, x: Any) -> Any:
            effect(lambda a: None, rows.transpose((1, 0)))
            return [i + 1, x + 1.0]

        return while_values(lambda i, _: i < 3, body, [0, x])

    compilation = with_calls(f, t(dtype=F), t(5, 4, dtype=F))
    assert not is_one_function(compilation)
