"""Calls of Programs: sizes, host steps, donation, failures, threads."""

import dataclasses
import gc
import os
import threading
import weakref

import numpy as np
import pytest

from graphgrad.runtime import blas, executor, memory, threads
from graphgrad.runtime.executor import (
    KernelFailure,
    prepare,
)
from graphgrad.runtime.memory import address
from graphgrad.runtime.program import Host, Native, Program, Slot
from tests.runtime.programs import (
    ADD_ONE,
    N,
    elementwise,
    gemm,
    loop,
    refuses_negative,
    through_host,
)

recycles = pytest.mark.skipif(not memory.RECYCLING, reason="needs the GIL")


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_static_program():
    run = prepare(elementwise(size=3)).run
    (y,) = run([f32(1, 2, 3)])
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, f32(2, 3, 4))


def test_one_program_serves_every_size():
    executable = prepare(elementwise())
    for size in (5, 0, 1, 1000, 5, 300_000, 1):  # the sixth comes from the pool
        x = np.arange(size, dtype=np.float32)
        (y,) = executable.run([x])
        assert y.shape == (size,)
        np.testing.assert_array_equal(y, x + 1)


def test_plans_are_bounded(monkeypatch):
    monkeypatch.setattr(executor, "_PLANS", 4)
    executable = prepare(elementwise())
    for size in [*range(10), *range(10)]:
        assert executable.run([np.zeros(size, np.float32)])[0].sum() == size
    assert len(executable._plans) <= 4


def test_addresses_may_be_given_and_are_returned():
    x = f32(1, 2)
    outputs, addresses = prepare(elementwise()).launch([x], [address(x)])
    assert addresses == [outputs[0].__array_interface__["data"][0]]
    np.testing.assert_array_equal(outputs[0], f32(2, 3))


def test_the_order_of_slots_is_free():
    program = Program(
        fingerprint="order",
        module=loop("first", ADD_ONE, 3, 0, 6) + loop("second", "%z = fmul float %v, 2.0", 1, 4, 6),
        slots=(
            Slot("output", "float32", (N,)),
            Slot("input", "float32", (N,)),
            Slot("constant", "float32", (2,)),
            Slot("input", "float32", (N,)),
            Slot("output", "float32", (N,)),
        ),
        inputs=(3, 1),
        outputs=(4, 0, 4, 1, 2),
        steps=(Native("first"), Native("second")),
        sizes=(N,),
        constants=(f32(8, 9),),
    )
    a, b = f32(1, 2), f32(10, 20)
    doubled, plus, again, given, constant = prepare(program).run([a, b])
    np.testing.assert_array_equal(plus, a + 1)
    np.testing.assert_array_equal(doubled, b * 2)
    assert again is doubled
    assert given is b
    np.testing.assert_array_equal(constant, f32(8, 9))


def test_constants_are_copied_and_cannot_be_changed():
    source = np.arange(6, dtype=np.float32).reshape(2, 3).T  # not contiguous
    program = Program(
        fingerprint="constant",
        module=loop("step", ADD_ONE, 0, 1, 3),
        slots=(Slot("constant", "float32", (3, 2)), Slot("output", "float32", (3, 2))),
        inputs=(),
        outputs=(0, 1),
        steps=(Native("step"),),
        sizes=(6,),
        constants=(source,),
    )
    executable = prepare(program)
    kept = source.copy()
    source[...] = 99
    constant, plus = executable.run([])
    np.testing.assert_array_equal(constant, kept)
    np.testing.assert_array_equal(plus, kept + 1)
    with pytest.raises(ValueError, match="read-only"):
        constant[0, 0] = 5
    with pytest.raises(ValueError, match="WRITEABLE"):
        constant.flags.writeable = True
    with pytest.raises(ValueError, match="WRITEABLE"):
        constant[1:].flags.writeable = True


def test_a_program_without_native_steps_needs_no_engine(monkeypatch):
    monkeypatch.setattr(executor.engine, "compile_module", None)
    monkeypatch.setattr(executor.engine, "load_object", None)
    program = Program(
        fingerprint="host",
        module="",
        slots=(Slot("input", "float32", (N,)), Slot("host", "float64", ())),
        inputs=(0,),
        outputs=(1, 0),
        steps=(Host(0, (0,), (1,)),),
        callables=(np.sum,),
    )
    x = f32(1, 2, 3)
    total, same = prepare(program).run([x])
    assert (total, total.dtype, total.shape) == (6, np.float64, ())
    assert same is x


class TestHostSteps:
    def test_they_read_slots_and_temporaries_and_feed_native_steps(self):
        seen = []

        def double(x, temporary):
            seen.append((x.copy(), temporary.copy(), temporary.flags.writeable))
            return x * 2

        executable = prepare(through_host(double))
        for size in (3, 5, 3):
            x = np.arange(size, dtype=np.float32)
            y, host = executable.run([x])
            np.testing.assert_array_equal(host, x * 2)
            np.testing.assert_array_equal(y, x * 2 + 1)
            np.testing.assert_array_equal(seen[-1][0], x)
            np.testing.assert_array_equal(seen[-1][1], x + 1)
            assert not seen[-1][2]

    @pytest.mark.parametrize(
        "function",
        [
            lambda x, t: t,
            lambda x, t: t[:],
            lambda x, t: x,
            lambda x, t: (np.flip(np.flip(x)),),
            lambda x, t: [x.astype(np.float64)],
            lambda x, t: (x.tolist(),),
        ],
        ids=["temporary", "view", "input", "strided", "other dtype", "list"],
    )
    def test_their_results_are_the_callers_own(self, function):
        executable = prepare(through_host(function))
        x = np.arange(4, dtype=np.float32)
        _, first = executable.run([x])
        kept = first.copy()
        assert first.flags.writeable
        executable.run([x + 10])
        np.testing.assert_array_equal(first, kept)
        first[...] = -1
        np.testing.assert_array_equal(x, np.arange(4))

    def test_what_a_function_keeps_is_not_given_away(self):
        own = f32(1, 2, 3)
        executable = prepare(through_host(lambda x, t: own))
        _, first = executable.run([f32(0, 0, 0)])
        own[...] = 7
        np.testing.assert_array_equal(first, f32(1, 2, 3))

    def test_a_fresh_result_is_not_copied(self):
        made = []

        def fresh(x, t):
            result = x * 2
            made.append(address(result))
            return result

        _, host = prepare(through_host(fresh)).run([f32(1, 2)])
        if memory.RECYCLING:
            assert made == [address(host)]

    def test_they_may_write_output_slots(self):
        program = Program(
            fingerprint="host output",
            module="",
            slots=(Slot("input", "float32", (N,)), Slot("output", "float32", (N,))),
            inputs=(0,),
            outputs=(1,),
            steps=(Host(0, (0,), (1,)),),
            callables=(lambda x: x,),
        )
        x = f32(1, 2)
        (y,) = prepare(program).run([x])
        assert not np.may_share_memory(x, y)
        np.testing.assert_array_equal(x, y)

    def test_a_result_of_another_shape_is_an_error(self):
        executable = prepare(through_host(lambda x, t: x[1:]))
        with pytest.raises(ValueError, match=r"shape \(2,\), not \(3,\)"):
            executable.run([f32(1, 2, 3)])

    def test_a_wrong_number_of_results_is_an_error(self):
        executable = prepare(through_host(lambda x, t: (x, x)))
        with pytest.raises(ValueError, match="2 results for 1"):
            executable.run([f32(1)])

    def test_their_exceptions_pass_and_frames_come_back(self):
        def fails(x, t):
            raise ZeroDivisionError("mine")

        executable = prepare(through_host(fails))
        for _ in range(3):
            with pytest.raises(ZeroDivisionError, match="mine"):
                executable.run([f32(1)])
        assert len(executable._frames) == 1

    def test_a_call_may_call_its_own_program(self):
        def recurse(x, t):
            return executable.run([x - 1])[0] * 2 if x[0] > 0 else x

        executable = prepare(through_host(recurse))
        np.testing.assert_array_equal(executable.run([f32(3)])[0], f32(15))
        assert len(executable._frames) == 4


class TestFailures:
    def test_the_status_says_what_failed(self):
        executable = prepare(refuses_negative())
        assert executable.run([np.array(4)])[0] == 4
        for _ in range(3):
            with pytest.raises(KernelFailure, match="element 7 is -4") as caught:
                executable.run([np.array(-4)])
        error = caught.value
        assert error.failure.error == "InvalidArgumentError"
        assert (error.index, error.a) == (7, -4)
        assert len(executable._frames) == 1
        assert executable.run([np.array(5)])[0] == 5

    def test_a_status_without_an_entry_is_reported_too(self):
        program = dataclasses.replace(refuses_negative(), failures=())
        with pytest.raises(KernelFailure, match="without a known cause"):
            prepare(program).run([np.array(-4)])

    @recycles
    def test_programs_that_can_fail_take_no_donations(self):
        executable = prepare(refuses_negative(donations=((1, 0),)))
        arrays = [np.array(3)]
        place = address(arrays[0])
        assert address(executable.run(arrays, [True])[0]) != place


@recycles
class TestDonation:
    program = staticmethod(lambda: elementwise(donations=((1, 0),)))

    def test_the_output_takes_the_inputs_memory(self):
        arrays = [f32(1, 2)]
        place = address(arrays[0])
        (y,) = prepare(self.program()).run(arrays, [True])
        assert address(y) == place
        assert y is arrays[0]
        np.testing.assert_array_equal(y, f32(2, 3))

    def test_pooled_arrays_can_be_donated_again_and_again(self):
        executable = prepare(self.program())
        arrays = executable.run([np.zeros(300_000, np.float32)])
        place = address(arrays[0])
        for _ in range(3):
            arrays = executable.run(arrays, [True])
        assert address(arrays[0]) == place
        assert (arrays[0] == 4).all()

    @pytest.mark.parametrize("donate", [(), (False,)])
    def test_without_an_offer_nothing_is_taken(self, donate):
        arrays = [f32(1, 2)]
        (y,) = prepare(self.program()).run(arrays, donate)
        assert not np.may_share_memory(y, arrays[0])

    @pytest.mark.parametrize(
        "hold", [lambda x: x, lambda x: x[1:], memoryview, np.from_dlpack, lambda x: [x]]
    )
    @pytest.mark.parametrize("size", [2, 300_000])
    def test_an_array_that_somebody_holds_is_left_alone(self, hold, size):
        executable = prepare(self.program())
        arrays = executable.run([np.zeros(size, np.float32)])
        held = hold(arrays[0])
        (y,) = executable.run(arrays, [True])
        assert (arrays[0] == 1).all()
        assert (y == 2).all()
        del held

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_wrapped_and_read_only_memory_is_left_alone(self, wrapped):
        arrays = [np.frombuffer(bytearray(8), np.float32) if wrapped else np.zeros(2, np.float32)]
        arrays[0].flags.writeable = wrapped
        (y,) = prepare(self.program()).run(arrays, [True])
        np.testing.assert_array_equal(arrays[0], f32(0, 0))
        np.testing.assert_array_equal(y, f32(1, 1))

    def test_the_same_array_twice_is_left_alone(self):
        program = Program(
            fingerprint="twice",
            module=loop("step", ADD_ONE, 0, 2, 4),
            slots=tuple(Slot(kind, "float32", (N,)) for kind in ("input", "input", "output")),
            inputs=(0, 1),
            outputs=(2,),
            steps=(Native("step"),),
            sizes=(N,),
            donations=((2, 0),),
        )
        arrays = [f32(1, 2)] * 2
        (y,) = prepare(program).run(arrays, [True, True])
        np.testing.assert_array_equal(arrays[1], f32(1, 2))
        np.testing.assert_array_equal(y, f32(2, 3))

    def test_programs_with_host_steps_take_nothing(self):
        def fails(x, t):
            raise ZeroDivisionError

        program = dataclasses.replace(through_host(fails), donations=((2, 0),))
        arrays = [f32(1, 2)]
        with pytest.raises(ZeroDivisionError):
            prepare(program).run(arrays, [True])
        np.testing.assert_array_equal(arrays[0], f32(1, 2))

    def test_an_input_that_is_an_output_is_not_written_over(self):
        program = dataclasses.replace(self.program(), outputs=(1, 0))
        y, x = prepare(program).run([f32(1, 2)], [True])
        np.testing.assert_array_equal(x, f32(1, 2))
        np.testing.assert_array_equal(y, f32(2, 3))


@recycles
def test_large_outputs_are_recycled_only_when_nobody_sees_them():
    executable = prepare(elementwise())
    x = np.zeros(400_000, np.float32)
    held, views = [], []
    for k in range(30):
        x[...] = k
        (y,) = executable.run([x])
        if k % 3 == 0:
            held.append((k, y))
        elif k % 3 == 1:
            views.append((k, y[100:200]))
        del y
    for k, array in held + views:
        assert (array == k + 1).all()


@pytest.mark.skipif(blas.blas_kind() != "ilp64", reason="the module calls with 64-bit integers")
def test_routines_are_called_through_the_table():
    executable = prepare(gemm())
    random = np.random.default_rng(0)
    b = random.standard_normal((3, 4)).astype(np.float32)
    for m in (1, 2, 50):
        a = random.standard_normal((m, 3)).astype(np.float32)
        np.testing.assert_allclose(executable.run([a, b])[0], a @ b, rtol=1e-5, atol=1e-6)


def test_routines_work_as_callbacks_too(monkeypatch):
    monkeypatch.setenv("GRAPHGRAD_BLAS", "callback")
    a, b = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(prepare(gemm()).run([a, b])[0], np.full((2, 4), 3))


@pytest.mark.parametrize("size", [7, 300_000])
def test_threads_call_one_program_at_once(size):
    def double(x, temporary):
        assert temporary[0] == x[0] + 1
        return x * 2

    executable = prepare(through_host(double))
    wrong = []

    def work(seed):
        for k in range(60 if size < 100 else 8):
            length = size + (k % 3)
            x = np.full(length, seed * 1000 + k, np.float32)
            y, host = executable.run([x])
            if not ((y == x * 2 + 1).all() and (host == x * 2).all() and y.shape == (length,)):
                wrong.append((seed, k))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(executable._frames) <= 16


def test_the_gil_is_released_while_native_code_runs():
    """Two threads meet: the first spins in native code until the second sets its flag."""
    module = """
define i32 @step(ptr %status, ptr %table) {
entry:
  %x = load ptr, ptr %table
  br label %wait
wait:
  %v = load atomic i64, ptr %x acquire, align 8
  %set = icmp ne i64 %v, 0
  br i1 %set, label %done, label %wait
done:
  ret i32 0
}
"""
    program = Program("spin", module, (Slot("input", "int64", ()),), (0,), (0,), (Native("step"),))
    executable = prepare(program)
    flag = np.zeros((), np.int64)
    thread = threading.Thread(target=executable.run, args=([flag],), daemon=True)
    thread.start()
    flag[...] = 1
    thread.join(timeout=10)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_can_run_and_compile():
    executable = prepare(elementwise())
    x = np.zeros(300_000, np.float32)
    executable.run([x])
    with memory.outputs._lock:  # as another thread might at the moment of the fork
        child = os.fork()
        if child == 0:
            good = False
            try:
                good = bool((executable.run([x])[0] == 1).all())
                (y,) = prepare(elementwise("%z = fadd float %v, 3.0")).run([f32(1)])
                good = good and y[0] == 4
            finally:
                os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_release_frees_the_arenas():
    executable = prepare(through_host(np.add))
    executable.run([f32(1)])
    executable.release()
    assert executable._frames == []
    np.testing.assert_array_equal(executable.run([f32(1)])[0], f32(4))


def test_an_executable_goes_when_it_is_dropped():
    executable = prepare(elementwise())
    executable.run([f32(1)])
    gone = weakref.ref(executable)
    del executable
    assert gone() is None


def test_what_repeats_a_step_holds_its_code():
    executable = prepare(elementwise(size=3))
    step, alive = next(executable.steps([f32(1, 2, 3)])), weakref.ref(executable)
    assert step is not None
    del executable
    gc.collect()
    assert alive() is not None
    step(2)


def test_a_plan_made_for_another_number_of_threads_is_not_kept(monkeypatch):
    program = dataclasses.replace(elementwise(), shared=((N, 1),))
    executable = prepare(program)
    made = executor.Plan

    def overtaken(*args):
        plan = made(*args)
        monkeypatch.undo()
        threads.set_count(2)
        return plan

    threads.set_count(3)
    monkeypatch.setattr(executor, "Plan", overtaken)
    try:
        for wanted in (3, 2):
            executable.run([f32(1, 2, 3)])
            assert [f.plan.threads for f in executable._frames] == [wanted]
    finally:
        threads.set_count(None)
